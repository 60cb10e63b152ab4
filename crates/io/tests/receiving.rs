//! What every driver promises of receiving, panics of its caller included: everything, in order, then the end.
//! One suite, run against each driver, and against io_uring without incremental buffers (as kernels before 6.12 have it), over Unix sockets and
//! loopback TCP.

mod support;

use squall_io::Closed;
use std::io::{ErrorKind, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use support::{
    BoxDriver, Buf, End, Pool, Recorder, Rng, SOCKETS, Socket, TURN, WINDOW, Which, both_until, driver, read_exact,
    suite, write_all,
};

suite! {
    more_waiting_bytes_than_a_window_holds_all_arrive
    end_of_file_comes_after_all_data
    a_reset_is_an_error
    what_arrived_before_sending_failed_is_still_handed_over
    nothing_received_is_told_after_a_close
    only_stream_sockets_are_taken
    a_hundred_streams_share_a_driver
    a_panicking_sink_leaves_the_driver_usable
}

fn more_waiting_bytes_than_a_window_holds_all_arrive(which: Which) {
    // Windows of a page, for thirty streams that all have much more before the driver looks at them first.
    let mut end = End::new(which);
    let mut rng = Rng(6);
    let mut peers = Vec::new();
    for _ in 0..30 {
        let (ours, theirs) = Socket::Unix.pair();
        let (id, window) = end.add_unread(ours, 1);
        end.seen.windows.insert(id, window);
        let mut theirs = UnixStream::from(theirs);
        theirs.set_nonblocking(true).expect("non-blocking");
        let mut written = Vec::new();
        loop {
            let len = 1 + rng.below(10_000);
            let bytes = rng.bytes(len);
            match theirs.write(&bytes) {
                Ok(n) => written.extend_from_slice(&bytes[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => panic!("{e}"),
            }
        }
        assert!(written.len() > 64 << 10);
        peers.push((id, theirs, written));
    }
    let total: usize = peers.iter().map(|(_, _, written)| written.len()).sum();
    end.until("all has arrived", |end| peers.iter().map(|(id, _, _)| end.seen.received(*id)).sum::<usize>() == total);
    for (id, _, written) in &peers {
        assert!(end.seen.log(*id).received == *written, "stream {id}");
    }
    if which != Which::Epoll {
        assert!(end.driver.counters().recvs_starved > 0, "there was room for all after all");
    }
    // And each of them still listens.
    for (id, peer, written) in &mut peers {
        peer.write_all(b"!").expect("room");
        end.until("the last byte is there", |end| end.seen.received(*id) > written.len());
    }
}

fn end_of_file_comes_after_all_data(which: Which) {
    for socket in SOCKETS {
        let (ours, theirs) = socket.pair();
        let mut end = End::new(which);
        let id = end.add(ours);
        let bytes = Rng(7).bytes(700_000);
        let writer = thread::spawn({
            let bytes = bytes.clone();
            move || write_all(&theirs, &bytes)
        });
        end.until("the stream is closed", |end| end.seen.is_closed(id));
        writer.join().expect("the writer");
        let log = end.seen.log(id);
        assert!(matches!(log.closed, Some(Closed::Eof)), "{:?}", log.closed);
        assert!(log.received == bytes, "{socket:?}: {} of {} bytes", log.received.len(), bytes.len());
    }
}

fn a_reset_is_an_error(which: Which) {
    for socket in SOCKETS {
        let (ours, theirs) = socket.pair();
        let mut end = End::new(which);
        let id = end.add(ours);
        let pool = Pool::default();
        end.driver.send(id, pool.buf(b"never read"));
        end.until("it is sent", |end| end.driver.queued(id) == 0);
        write_all(&theirs, b"last words");
        end.until("they have arrived", |end| end.seen.received(id) == 10);
        // Closing with unread data resets, on TCP and on Unix sockets.
        drop(theirs);
        end.until("the stream is closed", |end| end.seen.is_closed(id));
        match &end.seen.log(id).closed {
            Some(Closed::Error(e)) => {
                assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{socket:?}: {e}")
            }
            other => panic!("{socket:?}: {other:?}"),
        }
    }
}

fn what_arrived_before_sending_failed_is_still_handed_over(which: Which) {
    let (ours, theirs) = Socket::Unix.pair();
    let mut end = End::new(which);
    let bytes = Rng(8).bytes(100_000);
    write_all(&theirs, &bytes);
    drop(theirs);
    let id = end.add(ours);
    // More than the window holds, so that the stream learns of its fate by sending.
    assert!(bytes.len() > WINDOW);
    let pool = Pool::default();
    (0..5).for_each(|n| end.driver.send(id, pool.buf(&[n; 1000])));
    end.until("the stream is closed", |end| end.seen.is_closed(id));
    let log = end.seen.log(id);
    assert!(log.received == bytes, "{} of {} bytes", log.received.len(), bytes.len());
    assert_eq!(log.unsent, (0..5).map(|n| vec![n; 1000]).collect::<Vec<_>>());
    match &log.closed {
        Some(Closed::Error(e)) => assert_eq!(e.kind(), ErrorKind::BrokenPipe),
        other => panic!("{other:?}"),
    }
    assert_eq!(pool.live(), 0);
}

fn nothing_received_is_told_after_a_close(which: Which) {
    struct FirstOnly(Vec<u32>, Vec<u32>);
    impl squall_io::EventSink<Buf> for FirstOnly {
        fn on_readable(&mut self, id: u32) {
            self.0.push(id);
            // Ends the turn here, so that what came for the other stream is known to the driver and not told yet.
            panic!("enough");
        }
        fn on_sent(&mut self, _: u32, _: Buf) {}
        fn on_closed(&mut self, id: u32, _: Closed) {
            self.1.push(id);
        }
    }
    let mut driver = driver(which);
    let peers = [0, 1].map(|_| {
        let (ours, theirs) = Socket::Unix.pair();
        write_all(&theirs, b"one piece");
        (driver.add_stream(ours, WINDOW).expect("a stream"), theirs)
    });
    let mut sink = FirstOnly(Vec::new(), Vec::new());
    for turn in 0.. {
        if catch_unwind(AssertUnwindSafe(|| driver.wait(Some(TURN), &mut sink))).is_err() {
            break;
        }
        assert!(turn < 100, "nothing arrives");
    }
    let other = 1 - sink.0[0];
    driver.close(other);
    for turn in 0.. {
        if !sink.1.is_empty() {
            break;
        }
        driver.wait(Some(TURN), &mut sink).expect("the driver works");
        assert!(turn < 100, "nothing is closed");
    }
    assert_eq!((sink.0.len(), &sink.1[..]), (1, &[other][..]));
    drop(peers);
}

fn only_stream_sockets_are_taken(which: Which) {
    let mut driver = driver(which);
    let (datagram, _peer) = UnixDatagram::pair().expect("a socket pair");
    assert_eq!(
        driver.add_stream(datagram.into(), WINDOW).expect_err("a datagram socket").kind(),
        ErrorKind::InvalidInput
    );
    let file = std::fs::File::open("/proc/self/status").expect("a file");
    driver.add_stream(file.into(), WINDOW).expect_err("a file");
    let (ours, _theirs) = Socket::Unix.pair();
    assert_eq!(driver.add_stream(ours, WINDOW).expect("a stream").0, 0, "refused descriptors use up no id");
}

fn a_hundred_streams_share_a_driver(which: Which) {
    let mut rng = Rng(10);
    let (mut a_end, mut b_end) = (End::new(which), End::new(which));
    for at in 0..100 {
        let (a, b) = SOCKETS[at % 2].pair();
        assert_eq!(a_end.add(a), at as u32);
        assert_eq!(b_end.add(b), at as u32);
    }
    let pool = Pool::default();
    let mut said = vec![Vec::new(); 100];
    for round in 0..20 {
        for id in 0..100 {
            let len = 1 + rng.below(if id == 50 { 60_000 } else { 600 });
            let bytes = rng.bytes(len);
            said[id as usize].extend_from_slice(&bytes);
            a_end.driver.send(id, pool.buf(&bytes));
            if round % 2 == 0 {
                b_end.driver.send(id, pool.buf(&[round; 10]));
            }
        }
        a_end.poll();
        b_end.poll();
    }
    both_until(&mut a_end, &mut b_end, "all has arrived", |a, b| {
        (0..100).all(|id| b.seen.received(id) == said[id as usize].len() && a.seen.received(id) == 100)
    });
    for id in 0..100 {
        assert!(b_end.seen.log(id).received == said[id as usize], "stream {id}");
    }
    // Half of them close, the others go on.
    (0..100).step_by(2).for_each(|id| a_end.driver.close(id));
    (1..100).step_by(2).for_each(|id| a_end.driver.send(id, pool.buf(b"more")));
    both_until(&mut a_end, &mut b_end, "the end of half of them", |a, b| {
        (0..100).all(|id| match id % 2 {
            0 => a.seen.is_closed(id) && b.seen.is_closed(id),
            _ => b.seen.received(id) == said[id as usize].len() + 4,
        })
    });
}

fn a_panicking_sink_leaves_the_driver_usable(which: Which) {
    struct Bomb(Recorder);
    impl squall_io::EventSink<Buf> for Bomb {
        fn on_readable(&mut self, id: u32) {
            squall_io::EventSink::<Buf>::on_readable(&mut self.0, id);
            let log = self.0.log(id);
            if log.received.ends_with(b"boom") {
                log.received.clear();
                panic!("boom");
            }
        }
        fn on_sent(&mut self, id: u32, buf: Buf) {
            assert!(&*buf != b"boom", "boom");
            self.0.on_sent(id, buf);
        }
        fn on_closed(&mut self, id: u32, cause: Closed) {
            squall_io::EventSink::<Buf>::on_closed(&mut self.0, id, cause);
        }
    }
    /// Turns until the sink has panicked so often and then is `done`.
    fn until(driver: &mut BoxDriver, sink: &mut Bomb, panics: u32, done: impl Fn(&Bomb) -> bool) {
        let mut seen = 0;
        for _ in 0..100 {
            if seen == panics && done(sink) {
                return;
            }
            let turn = AssertUnwindSafe(|| driver.wait(Some(TURN), sink).expect("the driver works"));
            seen += u32::from(catch_unwind(turn).is_err());
        }
        panic!("nothing happens any more after {seen} panics of {panics}");
    }
    let (ours, theirs) = Socket::Unix.pair();
    let mut driver = driver(which);
    let (id, window) = driver.add_stream(ours, WINDOW).expect("a stream");
    let (pool, mut sink) = (Pool::default(), Bomb(Recorder::default()));
    sink.0.windows.insert(id, window);
    for round in 1..=40 {
        write_all(&theirs, b"boom");
        // Two buffers that blow up on their way back, in one operation with others.
        for bytes in [&b"calm"[..], b"boom", b"boom", b"and", b"quiet"] {
            driver.send(id, pool.buf(bytes));
        }
        // One for each report that blows up.
        until(&mut driver, &mut sink, 3, |sink| sink.0.sent(id) == 3 * round);
        let mut got = [0; 20];
        read_exact(&theirs, &mut got);
        assert_eq!(&got, b"calmboomboomandquiet");
        write_all(&theirs, b"calm");
        until(&mut driver, &mut sink, 0, |sink| sink.0.received(id) == 4);
    }
    drop(driver);
    assert_eq!(pool.live(), 0);
}
