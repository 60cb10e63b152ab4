//! What every driver promises: one suite, run against io_uring and epoll, over Unix sockets and loopback TCP.
//!
//! Where io_uring is blocked its half says so and passes: the machine cannot be blamed for it, and `blocked.rs` checks that the fallback tells.

mod support;

use rustix::net::sockopt;
use squall_io::{Closed, IoChoice, IoKind, probe};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};
use support::{BoxDriver, Buf, End, Pool, Recorder, Rng, SOCKETS, Socket, TURN, both_until, driver};

fn on(choice: IoChoice, name: &str, test: fn(IoChoice)) {
    if choice == IoChoice::IoUring
        && let Some(cause) = probe().cause
    {
        eprintln!("{name}: only epoll is tested, io_uring cannot be used here: {cause}");
        return;
    }
    test(choice);
}

macro_rules! suite {
    ($($name:ident)*) => {
        mod io_uring {
            $(#[test] fn $name() { super::on(squall_io::IoChoice::IoUring, stringify!($name), super::$name); })*
        }
        mod epoll {
            $(#[test] fn $name() { super::on(squall_io::IoChoice::Epoll, stringify!($name), super::$name); })*
        }
    };
}

suite! {
    says_what_it_is
    buffers_of_all_sizes_arrive_in_order_through_a_small_send_buffer
    random_traffic_both_ways_arrives_as_it_was_sent
    buffers_queued_together_leave_in_one_operation
    empty_buffers_come_back_in_their_turn
    more_waiting_bytes_than_receive_buffers_all_arrive
    end_of_file_comes_after_all_data
    a_reset_is_an_error
    what_arrived_before_sending_failed_is_still_handed_over
    sending_to_a_peer_that_only_stopped_reading_ends_the_stream
    close_gives_everything_back_and_the_peer_sees_the_end
    closing_twice_or_late_does_nothing
    nothing_received_is_told_after_a_close
    sending_on_a_closed_stream_gives_the_buffer_back
    an_id_never_given_out_is_a_bug
    only_stream_sockets_are_taken
    tcp_streams_do_not_delay_small_sends
    nonblocking_sockets_work_too
    a_bell_from_another_thread_wakes_a_waiting_driver
    a_bell_rung_before_the_wait_is_not_lost
    a_bell_met_by_a_poll_still_ends_the_next_wait
    a_bell_outlives_its_driver
    wait_ends_after_its_timeout
    a_closed_stream_costs_nothing
    an_idle_stream_costs_nothing
    a_hundred_streams_share_a_driver
    a_peer_that_does_not_read_holds_up_only_its_own_stream
    dropping_the_driver_frees_every_buffer_after_the_kernel_is_done_with_it
    a_panicking_sink_leaves_the_driver_usable
    counters_are_exact
}

fn says_what_it_is(choice: IoChoice) {
    let kind = driver(choice, 1).kind();
    assert_eq!(kind == IoKind::IoUring, choice == IoChoice::IoUring);
    assert_eq!(kind.to_string(), choice.to_string());
}

fn buffers_of_all_sizes_arrive_in_order_through_a_small_send_buffer(choice: IoChoice) {
    for socket in SOCKETS {
        let (a, b) = socket.pair();
        sockopt::set_socket_send_buffer_size(&a, 4096).expect("a small send buffer");
        let (mut a_end, mut b_end) = (End::new(choice), End::new(choice));
        let a_id = a_end.driver.add_stream(a).expect("a stream");
        let b_id = b_end.driver.add_stream(b).expect("a stream");
        let mut rng = Rng(1);
        let edges =
            [1, 2, 3, 7, 63, 64, 65, 4095, 4096, 4097, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 1 << 20];
        let mut sizes = edges.to_vec();
        sizes.extend(edges.iter().rev());
        sizes.extend((0..200).map(|_| 1 + rng.below(300)));
        let bufs: Vec<Vec<u8>> = sizes.iter().map(|&len| rng.bytes(len)).collect();
        let pool = Pool::default();
        for buf in &bufs {
            a_end.driver.send(a_id, pool.buf(buf));
        }
        assert_eq!(a_end.driver.queued(a_id), bufs.len());
        let all = bufs.concat();
        both_until(&mut a_end, &mut b_end, "all has arrived", |a, b| {
            assert_eq!(a.driver.queued(a_id) + a.seen.sent(a_id), bufs.len());
            b.seen.received(b_id) == all.len() && a.driver.queued(a_id) == 0
        });
        assert!(b_end.seen.log(b_id).received == all, "{socket:?}: other bytes, or in another order");
        assert!(a_end.seen.log(a_id).sent == bufs, "{socket:?}: buffers back in another order");
        assert!(a_end.driver.counters().sends_short > 0, "the send buffer was small enough to matter");
        assert_eq!(pool.live(), 0);
    }
}

fn random_traffic_both_ways_arrives_as_it_was_sent(choice: IoChoice) {
    for (seed, socket) in [(2, Socket::Unix), (3, Socket::Tcp), (4, Socket::Unix), (5, Socket::Tcp)] {
        let mut rng = Rng(seed);
        let (a, b) = socket.pair();
        let (mut ends, mut ids) = ([End::new(choice), End::new(choice)], [0, 0]);
        for (at, fd) in [a, b].into_iter().enumerate() {
            ids[at] = ends[at].driver.add_stream(fd).expect("a stream");
        }
        let pool = Pool::default();
        let mut said = [Vec::new(), Vec::new()];
        for _ in 0..3000 {
            let who = rng.below(2);
            match rng.below(4) {
                0 | 1 => {
                    let len = if rng.below(20) == 0 { rng.below(200_000) } else { rng.below(500) };
                    let bytes = rng.bytes(len);
                    said[who].extend_from_slice(&bytes);
                    ends[who].driver.send(ids[who], pool.buf(&bytes));
                }
                2 => {
                    ends[who].poll();
                }
                _ => {
                    ends[who].wait(Duration::ZERO);
                }
            }
        }
        let [a, b] = &mut ends;
        both_until(a, b, "all has arrived", |a, b| {
            a.seen.received(ids[0]) == said[1].len()
                && b.seen.received(ids[1]) == said[0].len()
                && a.driver.queued(ids[0]) + b.driver.queued(ids[1]) == 0
        });
        assert!(a.seen.log(ids[0]).received == said[1] && b.seen.log(ids[1]).received == said[0], "seed {seed}");
        assert_eq!(pool.live(), 0);
    }
}

fn buffers_queued_together_leave_in_one_operation(choice: IoChoice) {
    for socket in SOCKETS {
        let (a, b) = socket.pair();
        let mut end = End::new(choice);
        let id = end.driver.add_stream(a).expect("a stream");
        let pool = Pool::default();
        for n in 0..60u8 {
            end.driver.send(id, pool.buf(&[n; 100]));
        }
        end.until("all is sent", |end| end.driver.queued(id) == 0);
        assert_eq!(end.driver.counters().sends, 1);
        let mut got = [0; 6000];
        read_exact(&b, &mut got);
        assert!(got.chunks(100).enumerate().all(|(n, chunk)| chunk == [n as u8; 100]));
    }
}

fn empty_buffers_come_back_in_their_turn(choice: IoChoice) {
    let (a, b) = Socket::Unix.pair();
    let mut end = End::new(choice);
    let id = end.driver.add_stream(a).expect("a stream");
    let pool = Pool::default();
    for bytes in [&b""[..], b"one", b"", b"", b"two", b""] {
        end.driver.send(id, pool.buf(bytes));
    }
    end.until("all is sent", |end| end.driver.queued(id) == 0);
    assert_eq!(end.seen.log(id).sent, [&b""[..], b"one", b"", b"", b"two", b""]);
    end.driver.send(id, pool.buf(b""));
    end.until("the empty one is back", |end| end.driver.queued(id) == 0);
    assert_eq!(end.driver.counters().sends, 1);
    let mut got = [0; 6];
    read_exact(&b, &mut got);
    assert_eq!(&got, b"onetwo");
}

fn more_waiting_bytes_than_receive_buffers_all_arrive(choice: IoChoice) {
    // A hint of one stream: four receive buffers, for thirty streams that all have data before the driver looks at them first.
    let mut end = End::new(choice);
    let mut rng = Rng(6);
    let mut peers = Vec::new();
    for _ in 0..30 {
        let (ours, theirs) = Socket::Unix.pair();
        let id = end.driver.add_stream(ours).expect("a stream");
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
    if choice == IoChoice::IoUring {
        assert!(end.driver.counters().recvs_starved > 0, "there were receive buffers for all after all");
    }
    // And each of them still listens.
    for (id, peer, written) in &mut peers {
        peer.write_all(b"!").expect("room");
        end.until("the last byte is there", |end| end.seen.received(*id) > written.len());
    }
}

fn end_of_file_comes_after_all_data(choice: IoChoice) {
    for socket in SOCKETS {
        let (ours, theirs) = socket.pair();
        let mut end = End::new(choice);
        let id = end.driver.add_stream(ours).expect("a stream");
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

fn a_reset_is_an_error(choice: IoChoice) {
    for socket in SOCKETS {
        let (ours, theirs) = socket.pair();
        let mut end = End::new(choice);
        let id = end.driver.add_stream(ours).expect("a stream");
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

fn what_arrived_before_sending_failed_is_still_handed_over(choice: IoChoice) {
    let (ours, theirs) = Socket::Unix.pair();
    let mut end = End::new(choice);
    let bytes = Rng(8).bytes(100_000);
    write_all(&theirs, &bytes);
    drop(theirs);
    let id = end.driver.add_stream(ours).expect("a stream");
    // Others that have the receive buffers first, so that ours learns of its fate by sending.
    let _others: Vec<OwnedFd> = (0..4)
        .map(|_| {
            let (ours, theirs) = Socket::Unix.pair();
            write_all(&theirs, &[0; 130_000]);
            end.driver.add_stream(ours).expect("a stream");
            theirs
        })
        .collect();
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

fn sending_to_a_peer_that_only_stopped_reading_ends_the_stream(choice: IoChoice) {
    let (ours, theirs) = Socket::Unix.pair();
    let mut end = End::new(choice);
    let id = end.driver.add_stream(ours).expect("a stream");
    rustix::net::shutdown(&theirs, rustix::net::Shutdown::Read).expect("shutdown");
    let pool = Pool::default();
    end.driver.send(id, pool.buf(b"unwanted"));
    end.until("the stream is closed", |end| end.seen.is_closed(id));
    let log = end.seen.log(id);
    assert!(matches!(&log.closed, Some(Closed::Error(e)) if e.kind() == ErrorKind::BrokenPipe), "{:?}", log.closed);
    assert_eq!(log.unsent, [b"unwanted"]);
}

fn close_gives_everything_back_and_the_peer_sees_the_end(choice: IoChoice) {
    for socket in SOCKETS {
        let (ours, theirs) = socket.pair();
        let mut end = End::new(choice);
        let id = end.driver.add_stream(ours).expect("a stream");
        let pool = Pool::default();
        let bufs: Vec<Vec<u8>> = (0..40).map(|n| vec![n; 500_000]).collect();
        bufs.iter().for_each(|buf| end.driver.send(id, pool.buf(buf)));
        // Until the socket is full and a send is in flight that cannot go on.
        while end.wait(Duration::from_millis(5)) > 0 {}
        let queued = end.driver.queued(id);
        assert!(queued > 0);
        end.driver.close(id);
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            read_to_end(&theirs, &mut all);
            all
        });
        end.until("the stream is closed", |end| end.seen.is_closed(id));
        let log = end.seen.log(id);
        assert!(matches!(log.closed, Some(Closed::Local)), "{:?}", log.closed);
        assert!([&log.sent[..], &log.unsent[..]].concat() == bufs, "every buffer once, in order");
        assert_eq!((pool.live(), end.driver.queued(id)), (0, 0));
        let (got, all) = (reader.join().expect("the reader"), bufs.concat());
        assert!(got == all[..got.len()], "the peer got a prefix");
        assert!(got.len() >= end.seen.log(id).sent.len() * 500_000, "all that was called sent has arrived");
    }
}

fn closing_twice_or_late_does_nothing(choice: IoChoice) {
    let (ours, theirs) = Socket::Unix.pair();
    let mut end = End::new(choice);
    let id = end.driver.add_stream(ours).expect("a stream");
    assert_eq!(end.poll(), 0);
    // Already listening, so it may be received already; but nothing is told after a close.
    write_all(&theirs, b"not wanted any more");
    end.driver.close(id);
    end.driver.close(id);
    end.until("the stream is closed", |end| end.seen.is_closed(id));
    end.driver.close(id);
    (0..10).for_each(|_| assert_eq!(end.poll(), 0));
    assert_eq!((end.seen.received(id), end.driver.counters().bytes_in), (0, 0));
}

fn nothing_received_is_told_after_a_close(choice: IoChoice) {
    struct FirstOnly(Vec<u32>, Vec<u32>);
    impl squall_io::EventSink<Buf> for FirstOnly {
        fn on_recv(&mut self, id: u32, _: &[u8]) {
            self.0.push(id);
            // Ends the turn here, so that what came for the other stream is known to the driver and not told yet.
            panic!("enough");
        }
        fn on_sent(&mut self, _: u32, _: Buf) {}
        fn on_closed(&mut self, id: u32, _: Closed) {
            self.1.push(id);
        }
    }
    let mut driver = driver(choice, 1);
    let peers = [0, 1].map(|_| {
        let (ours, theirs) = Socket::Unix.pair();
        write_all(&theirs, b"one piece");
        driver.add_stream(ours).expect("a stream");
        theirs
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

fn sending_on_a_closed_stream_gives_the_buffer_back(choice: IoChoice) {
    let (ours, theirs) = Socket::Unix.pair();
    let mut end = End::new(choice);
    let id = end.driver.add_stream(ours).expect("a stream");
    let pool = Pool::default();
    end.driver.close(id);
    end.driver.send(id, pool.buf(b"between"));
    end.until("the stream is closed", |end| end.seen.is_closed(id));
    end.driver.send(id, pool.buf(b"after"));
    assert_eq!(end.driver.queued(id), 0);
    end.until("both are back", |end| end.seen.log(id).unsent.len() == 2);
    assert_eq!(end.seen.log(id).unsent, [&b"between"[..], b"after"]);
    let mut got = Vec::new();
    read_to_end(&theirs, &mut got);
    assert_eq!(got, b"");
}

fn an_id_never_given_out_is_a_bug(choice: IoChoice) {
    let mut driver = driver(choice, 1);
    assert_eq!(driver.queued(0), 0);
    assert!(catch_unwind(AssertUnwindSafe(|| driver.send(0, Pool::default().buf(b"x")))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| driver.close(0))).is_err());
}

fn only_stream_sockets_are_taken(choice: IoChoice) {
    let mut driver = driver(choice, 1);
    let (datagram, _peer) = UnixDatagram::pair().expect("a socket pair");
    assert_eq!(driver.add_stream(datagram.into()).expect_err("a datagram socket").kind(), ErrorKind::InvalidInput);
    let file = std::fs::File::open("/proc/self/status").expect("a file");
    driver.add_stream(file.into()).expect_err("a file");
    let (ours, _theirs) = Socket::Unix.pair();
    assert_eq!(driver.add_stream(ours).expect("a stream"), 0, "refused descriptors use up no id");
}

fn tcp_streams_do_not_delay_small_sends(choice: IoChoice) {
    let (ours, _theirs) = Socket::Tcp.pair();
    let same_socket = ours.try_clone().expect("a second descriptor");
    let mut driver = driver(choice, 1);
    driver.add_stream(ours).expect("a stream");
    assert!(sockopt::tcp_nodelay(&same_socket).expect("the option"));
}

fn nonblocking_sockets_work_too(choice: IoChoice) {
    for socket in SOCKETS {
        let (a, b) = socket.pair();
        rustix::io::ioctl_fionbio(&a, true).expect("non-blocking");
        rustix::io::ioctl_fionbio(&b, true).expect("non-blocking");
        sockopt::set_socket_send_buffer_size(&a, 4096).expect("a small send buffer");
        let (mut a_end, mut b_end) = (End::new(choice), End::new(choice));
        let a_id = a_end.driver.add_stream(a).expect("a stream");
        let b_id = b_end.driver.add_stream(b).expect("a stream");
        let bytes = Rng(9).bytes(300_000);
        // First nothing to receive, then nothing to send for a while.
        b_end.wait(Duration::from_millis(1));
        let pool = Pool::default();
        a_end.driver.send(a_id, pool.buf(&bytes));
        both_until(&mut a_end, &mut b_end, "all has arrived", |_, b| b.seen.received(b_id) == bytes.len());
        assert!(b_end.seen.log(b_id).received == bytes);
    }
}

fn a_bell_from_another_thread_wakes_a_waiting_driver(choice: IoChoice) {
    let mut end = End::new(choice);
    let bell = end.driver.bell();
    for round in 1..=20 {
        let ringer = thread::spawn({
            let bell = bell.clone();
            move || bell.ring()
        });
        end.wait(100 * TURN);
        assert_eq!(end.driver.counters().bells, round, "the wait ran out");
        ringer.join().expect("the ringer");
    }
    let counters = end.driver.counters();
    assert!(counters.wakeups <= counters.bells, "{counters:?}");
}

fn a_bell_rung_before_the_wait_is_not_lost(choice: IoChoice) {
    let mut end = End::new(choice);
    let bell = end.driver.bell();
    for round in 1..=20 {
        bell.ring();
        bell.ring();
        assert_eq!(end.wait(100 * TURN), 0);
        assert!(end.driver.counters().bells >= round, "the wait ran out");
    }
}

fn a_bell_met_by_a_poll_still_ends_the_next_wait(choice: IoChoice) {
    let mut end = End::new(choice);
    let bell = end.driver.bell();
    // The bell is watched from the first turn on.
    end.poll();
    bell.ring();
    (0..1000).for_each(|_| assert_eq!(end.poll(), 0));
    let counters = end.driver.counters();
    assert_eq!(counters.bells, 1);
    assert_eq!(end.wait(TURN), 0);
    assert_eq!(end.driver.counters(), counters, "it did not even ask the kernel");
    let before = Instant::now();
    end.wait(TURN);
    assert!(before.elapsed() >= TURN, "one ring ends one wait");
}

fn a_bell_outlives_its_driver(choice: IoChoice) {
    let driver = driver(choice, 1);
    let bell = driver.bell();
    bell.ring();
    drop(driver);
    bell.ring();
}

fn wait_ends_after_its_timeout(choice: IoChoice) {
    let mut end = End::new(choice);
    let (ours, _theirs) = Socket::Unix.pair();
    end.driver.add_stream(ours).expect("a stream");
    for timeout in [0, 1, 300, 1000, 2500, 20_000].map(Duration::from_micros) {
        let before = Instant::now();
        assert_eq!(end.wait(timeout), 0);
        assert!(before.elapsed() >= timeout, "{timeout:?}: {:?}", before.elapsed());
    }
    assert_eq!(end.driver.counters().wakeups, 0, "a timeout is no wake-up");
}

fn a_closed_stream_costs_nothing(choice: IoChoice) {
    for socket in SOCKETS {
        let mut end = End::new(choice);
        let (ours, theirs) = socket.pair();
        // Another process may hold the socket too, as the one does that made it.
        let _same_socket = ours.try_clone().expect("a second descriptor");
        let id = end.driver.add_stream(ours).expect("a stream");
        drop(theirs);
        end.until("the stream is closed", |end| end.seen.is_closed(id));
        sleeps(&mut end);
    }
}

fn an_idle_stream_costs_nothing(choice: IoChoice) {
    for socket in SOCKETS {
        let mut end = End::new(choice);
        let (ours, theirs) = socket.pair();
        sockopt::set_socket_send_buffer_size(&ours, 16_384).expect("a small send buffer");
        let id = end.driver.add_stream(ours).expect("a stream");
        write_all(&theirs, b"hello");
        end.driver.send(id, Pool::default().buf(b"hello"));
        end.until("the greetings are exchanged", |end| end.seen.received(id) == 5 && end.driver.queued(id) == 0);
        sleeps(&mut end);
        // Also after it was held up for a while.
        let reading = thread::spawn(move || {
            read_exact(&theirs, &mut vec![0; 3_000_005]);
            theirs
        });
        end.driver.send(id, Pool::default().buf(&[1; 3_000_000]));
        end.until("all is sent", |end| end.driver.queued(id) == 0);
        let _theirs = reading.join().expect("the reader");
        assert!(end.driver.counters().sends_short > 0);
        sleeps(&mut end);
    }
}

/// A wait really sleeps: to its end, in a system call or three.
fn sleeps(end: &mut End) {
    let (before, syscalls) = (Instant::now(), end.driver.counters().syscalls);
    assert_eq!(end.wait(TURN), 0);
    assert!(before.elapsed() >= TURN);
    assert!(end.driver.counters().syscalls - syscalls <= 3);
    if end.driver.kind() == IoKind::IoUring {
        let syscalls = end.driver.counters().syscalls;
        (0..1000).for_each(|_| assert_eq!(end.poll(), 0));
        assert_eq!(end.driver.counters().syscalls, syscalls, "an idle poll makes no system call");
    }
}

fn a_hundred_streams_share_a_driver(choice: IoChoice) {
    let mut rng = Rng(10);
    let (mut a_end, mut b_end) = (End::new(choice), End::new(choice));
    for at in 0..100 {
        let (a, b) = SOCKETS[at % 2].pair();
        assert_eq!(a_end.driver.add_stream(a).expect("a stream"), at as u32);
        assert_eq!(b_end.driver.add_stream(b).expect("a stream"), at as u32);
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

fn a_peer_that_does_not_read_holds_up_only_its_own_stream(choice: IoChoice) {
    let mut end = End::new(choice);
    let pool = Pool::default();
    let (stuck, _unread) = Socket::Unix.pair();
    let stuck = end.driver.add_stream(stuck).expect("a stream");
    (0..20).for_each(|_| end.driver.send(stuck, pool.buf(&[0; 100_000])));
    let (ours, theirs) = Socket::Unix.pair();
    let id = end.driver.add_stream(ours).expect("a stream");
    for round in 0..50u8 {
        end.driver.send(id, pool.buf(&[round]));
        end.until("it is sent", |end| end.driver.queued(id) == 0);
        let mut got = [0];
        read_exact(&theirs, &mut got);
        write_all(&theirs, &got);
        end.until("the answer is there", |end| end.seen.received(id) == usize::from(round) + 1);
    }
    assert!(end.driver.queued(stuck) > 0);
}

fn dropping_the_driver_frees_every_buffer_after_the_kernel_is_done_with_it(choice: IoChoice) {
    for socket in SOCKETS {
        // As it is after adding, after one turn, and with sends in flight that cannot go on.
        for turns in [0, 1, 50] {
            let mut end = End::new(choice);
            let pool = Pool::default();
            let bytes = Rng(11).bytes(3_000_000);
            let mut peers: Vec<OwnedFd> = Vec::new();
            for _ in 0..5 {
                let (ours, theirs) = socket.pair();
                let id = end.driver.add_stream(ours).expect("a stream");
                bytes.chunks(200_000).for_each(|chunk| end.driver.send(id, pool.buf(chunk)));
                write_all(&theirs, b"something to receive");
                peers.push(theirs);
            }
            let End { mut driver, mut seen } = end;
            for _ in 0..turns {
                driver.poll(&mut seen).expect("the driver works");
            }
            drop(driver);
            assert_eq!(pool.live(), 0, "{socket:?}, {turns} turns");
            for peer in peers {
                let mut got = Vec::new();
                read_to_end(&peer, &mut got);
                assert!(got == bytes[..got.len()], "{socket:?}, {turns} turns: bytes of a freed buffer were sent");
                assert!(turns == 0 || !got.is_empty());
            }
        }
    }
}

fn a_panicking_sink_leaves_the_driver_usable(choice: IoChoice) {
    struct Bomb(Recorder);
    impl squall_io::EventSink<Buf> for Bomb {
        fn on_recv(&mut self, id: u32, bytes: &[u8]) {
            assert!(bytes != b"boom", "boom");
            squall_io::EventSink::<Buf>::on_recv(&mut self.0, id, bytes);
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
    let mut driver = driver(choice, 1);
    let id = driver.add_stream(ours).expect("a stream");
    let (pool, mut sink) = (Pool::default(), Bomb(Recorder::default()));
    // More often than there are receive buffers: none of them is lost.
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
        until(&mut driver, &mut sink, 0, |sink| sink.0.received(id) == 4 * round);
    }
    drop(driver);
    assert_eq!(pool.live(), 0);
}

fn counters_are_exact(choice: IoChoice) {
    for socket in SOCKETS {
        let (ours, theirs) = socket.pair();
        let mut end = End::new(choice);
        assert_eq!(end.driver.counters(), squall_io::IoCounters::default());
        let id = end.driver.add_stream(ours).expect("a stream");
        let pool = Pool::default();
        for n in 1..=10 {
            end.driver.send(id, pool.buf(&vec![1; n * 100]));
            end.until("it is sent", |end| end.driver.queued(id) == 0);
            write_all(&theirs, &vec![2; n * 50]);
            end.until("the answer is there", |end| end.seen.received(id) == (1..=n).sum::<usize>() * 50);
        }
        let counters = end.driver.counters();
        assert_eq!((counters.bytes_out, counters.bytes_in), (5500, 2750));
        assert_eq!((counters.sends, counters.sends_short, counters.bells), (10, 0, 0));
        assert_eq!(counters.recvs, end.seen.log(id).pieces as u64);
        assert!(counters.syscalls >= 10);
    }
}

fn write_all(fd: &OwnedFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let n = rustix::io::write(fd, bytes).expect("the peer writes");
        bytes = &bytes[n..];
    }
}

/// A peer that is owed bytes fails after a while instead of hanging.
fn be_impatient(fd: &OwnedFd) {
    sockopt::set_socket_timeout(fd, sockopt::Timeout::Recv, Some(200 * TURN)).expect("a timeout");
}

fn read_exact(fd: &OwnedFd, mut into: &mut [u8]) {
    be_impatient(fd);
    while !into.is_empty() {
        let n = rustix::io::read(fd, &mut *into).expect("the peer reads");
        assert!(n > 0, "end of file");
        into = &mut into[n..];
    }
}

/// To the end of file, or to the reset that follows the data when the other side closed with something unread.
fn read_to_end(fd: &OwnedFd, into: &mut Vec<u8>) {
    be_impatient(fd);
    let mut stream = TcpStream::from(fd.try_clone().expect("a second descriptor"));
    if let Err(e) = stream.read_to_end(into) {
        assert_eq!(e.kind(), ErrorKind::ConnectionReset);
    }
}
