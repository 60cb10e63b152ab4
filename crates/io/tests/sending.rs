//! What every driver promises of sending: order, one operation for many buffers, every buffer back exactly once.
//! One suite, run against each driver, and against io_uring without incremental buffers (as kernels before 6.12 have it), over Unix sockets and
//! loopback TCP.

mod support;

use rustix::net::sockopt;
use squall_io::{Closed, IoCounters, IoOptions, ZeroCopy};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;
use support::{End, Pool, Rng, SOCKETS, Socket, Which, both_until, driver, read_exact, read_to_end, suite, write_all};

suite! {
    buffers_of_all_sizes_arrive_in_order_through_a_small_send_buffer
    random_traffic_both_ways_arrives_as_it_was_sent
    buffers_queued_together_leave_in_one_operation
    empty_buffers_come_back_in_their_turn
    sending_to_a_peer_that_only_stopped_reading_ends_the_stream
    close_gives_everything_back_and_the_peer_sees_the_end
    closing_twice_or_late_does_nothing
    sending_on_a_closed_stream_gives_the_buffer_back
    an_id_never_given_out_is_a_bug
    tcp_streams_do_not_delay_small_sends
    nonblocking_sockets_work_too
    a_peer_that_does_not_read_holds_up_only_its_own_stream
    dropping_the_driver_frees_every_buffer_after_the_kernel_is_done_with_it
    counters_are_exact
    many_waiting_buffers_leave_in_few_operations
    large_sends_over_loopback_stop_asking_for_zero_copy_after_four
    zero_copy_can_be_switched_off
    buffers_of_zero_copy_sends_come_back_once_and_not_before_the_kernel_is_done
}

fn buffers_of_all_sizes_arrive_in_order_through_a_small_send_buffer(which: Which) {
    for socket in SOCKETS {
        let (a, b) = socket.pair();
        sockopt::set_socket_send_buffer_size(&a, 4096).expect("a small send buffer");
        let (mut a_end, mut b_end) = (End::copying(which), End::new(which));
        let a_id = a_end.add(a);
        let b_id = b_end.add(b);
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

fn random_traffic_both_ways_arrives_as_it_was_sent(which: Which) {
    for (seed, socket) in [(2, Socket::Unix), (3, Socket::Tcp), (4, Socket::Unix), (5, Socket::Tcp)] {
        let mut rng = Rng(seed);
        let (a, b) = socket.pair();
        let (mut ends, mut ids) = ([End::new(which), End::new(which)], [0, 0]);
        for (at, fd) in [a, b].into_iter().enumerate() {
            ids[at] = ends[at].add(fd);
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

fn buffers_queued_together_leave_in_one_operation(which: Which) {
    for socket in SOCKETS {
        let (a, b) = socket.pair();
        let mut end = End::new(which);
        let id = end.add(a);
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

fn empty_buffers_come_back_in_their_turn(which: Which) {
    let (a, b) = Socket::Unix.pair();
    let mut end = End::new(which);
    let id = end.add(a);
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

fn sending_to_a_peer_that_only_stopped_reading_ends_the_stream(which: Which) {
    let (ours, theirs) = Socket::Unix.pair();
    let mut end = End::new(which);
    let id = end.add(ours);
    rustix::net::shutdown(&theirs, rustix::net::Shutdown::Read).expect("shutdown");
    let pool = Pool::default();
    end.driver.send(id, pool.buf(b"unwanted"));
    end.until("the stream is closed", |end| end.seen.is_closed(id));
    let log = end.seen.log(id);
    assert!(matches!(&log.closed, Some(Closed::Error(e)) if e.kind() == ErrorKind::BrokenPipe), "{:?}", log.closed);
    assert_eq!(log.unsent, [b"unwanted"]);
}

fn close_gives_everything_back_and_the_peer_sees_the_end(which: Which) {
    for socket in SOCKETS {
        let (ours, theirs) = socket.pair();
        let mut end = End::copying(which);
        let id = end.add(ours);
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

fn closing_twice_or_late_does_nothing(which: Which) {
    let (ours, theirs) = Socket::Unix.pair();
    let mut end = End::new(which);
    let id = end.add(ours);
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

fn sending_on_a_closed_stream_gives_the_buffer_back(which: Which) {
    let (ours, theirs) = Socket::Unix.pair();
    let mut end = End::new(which);
    let id = end.add(ours);
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

fn an_id_never_given_out_is_a_bug(which: Which) {
    let mut driver = driver(which);
    assert_eq!(driver.queued(0), 0);
    assert!(catch_unwind(AssertUnwindSafe(|| driver.send(0, Pool::default().buf(b"x")))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| driver.close(0))).is_err());
}

fn tcp_streams_do_not_delay_small_sends(which: Which) {
    let (ours, _theirs) = Socket::Tcp.pair();
    let same_socket = ours.try_clone().expect("a second descriptor");
    let mut driver = driver(which);
    driver.add_stream(ours, 4096).expect("a stream");
    assert!(sockopt::tcp_nodelay(&same_socket).expect("the option"));
}

fn nonblocking_sockets_work_too(which: Which) {
    for socket in SOCKETS {
        let (a, b) = socket.pair();
        rustix::io::ioctl_fionbio(&a, true).expect("non-blocking");
        rustix::io::ioctl_fionbio(&b, true).expect("non-blocking");
        sockopt::set_socket_send_buffer_size(&a, 4096).expect("a small send buffer");
        let (mut a_end, mut b_end) = (End::new(which), End::new(which));
        let a_id = a_end.add(a);
        let b_id = b_end.add(b);
        let bytes = Rng(9).bytes(300_000);
        // First nothing to receive, then nothing to send for a while.
        b_end.wait(Duration::from_millis(1));
        let pool = Pool::default();
        a_end.driver.send(a_id, pool.buf(&bytes));
        both_until(&mut a_end, &mut b_end, "all has arrived", |_, b| b.seen.received(b_id) == bytes.len());
        assert!(b_end.seen.log(b_id).received == bytes);
    }
}

fn a_peer_that_does_not_read_holds_up_only_its_own_stream(which: Which) {
    let mut end = End::new(which);
    let pool = Pool::default();
    let (stuck, _unread) = Socket::Unix.pair();
    let stuck = end.add(stuck);
    (0..20).for_each(|_| end.driver.send(stuck, pool.buf(&[0; 100_000])));
    let (ours, theirs) = Socket::Unix.pair();
    let id = end.add(ours);
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

fn dropping_the_driver_frees_every_buffer_after_the_kernel_is_done_with_it(which: Which) {
    for socket in SOCKETS {
        // As it is after adding, after one turn, and with sends in flight that cannot go on.
        for turns in [0, 1, 50] {
            let mut end = End::copying(which);
            let pool = Pool::default();
            let bytes = Rng(11).bytes(3_000_000);
            let mut peers: Vec<OwnedFd> = Vec::new();
            for _ in 0..5 {
                let (ours, theirs) = socket.pair();
                let id = end.add(ours);
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

fn counters_are_exact(which: Which) {
    for socket in SOCKETS {
        let (ours, theirs) = socket.pair();
        let mut end = End::new(which);
        assert_eq!(end.driver.counters(), squall_io::IoCounters::default());
        let id = end.add(ours);
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

fn many_waiting_buffers_leave_in_few_operations(which: Which) {
    for socket in SOCKETS {
        let (a, b) = socket.pair();
        let (mut a_end, mut b_end) = (End::new(which), End::new(which));
        let (a_id, b_id) = (a_end.add(a), b_end.add(b));
        let pool = Pool::default();
        (0..6400).for_each(|n| a_end.driver.send(a_id, pool.buf(&[n as u8; 64])));
        both_until(&mut a_end, &mut b_end, "all has arrived", |_, b| b.seen.received(b_id) == 6400 * 64);
        a_end.until("all is back", |end| end.seen.sent(a_id) == 6400);
        let counters = a_end.driver.counters();
        assert_eq!(counters.buffers_out, 6400);
        assert!(counters.sends <= 100 + counters.sends_short, "{counters:?}");
    }
}

/// Sends 50 buffers of 64 KiB, one after the other, to a peer that reads them all.
fn fifty_large_sends(which: Which, socket: Socket, options: IoOptions) -> IoCounters {
    let (a, b) = socket.pair();
    let (mut a_end, mut b_end) = (End::with(which, options), End::new(which));
    let (a_id, b_id) = (a_end.add(a), b_end.add(b));
    let (pool, mut rng, mut all) = (Pool::default(), Rng(12), Vec::new());
    for n in 1..=50 {
        let bytes = rng.bytes(64 << 10);
        all.extend_from_slice(&bytes);
        a_end.driver.send(a_id, pool.buf(&bytes));
        both_until(&mut a_end, &mut b_end, "it has arrived and is back", |a, b| {
            b.seen.received(b_id) == n * (64 << 10) && a.seen.sent(a_id) == n
        });
        assert_eq!((a_end.driver.queued(a_id), a_end.driver.held(a_id), pool.live()), (0, 0, 0));
    }
    assert!(b_end.seen.log(b_id).received == all, "other bytes");
    a_end.driver.counters()
}

fn large_sends_over_loopback_stop_asking_for_zero_copy_after_four(which: Which) {
    for socket in SOCKETS {
        let counters = fifty_large_sends(which, socket, which.options());
        let asked = if which == Which::Epoll || socket == Socket::Unix { 0 } else { 4 };
        // Loopback always copies, and says so.
        assert_eq!((counters.zc_sent, counters.zc_copied), (asked, asked), "{socket:?}");
    }
}

fn zero_copy_can_be_switched_off(which: Which) {
    let counters = fifty_large_sends(which, Socket::Tcp, IoOptions { zero_copy: ZeroCopy::Off, ..which.options() });
    assert_eq!((counters.zc_sent, counters.zc_copied), (0, 0));
}

fn buffers_of_zero_copy_sends_come_back_once_and_not_before_the_kernel_is_done(which: Which) {
    // In flight when the stream ends: by a close, by the peer's end, and by a drop of the driver.
    for ending in 0..3 {
        let (ours, theirs) = Socket::Tcp.pair();
        let mut end = End::new(which);
        let id = end.add(ours);
        let pool = Pool::default();
        let bufs: Vec<Vec<u8>> = (0..20).map(|n| vec![n; 700_000]).collect();
        bufs.iter().for_each(|buf| end.driver.send(id, pool.buf(buf)));
        while end.wait(Duration::from_millis(5)) > 0 {}
        assert!(end.driver.queued(id) > 0);
        let mut got = Vec::new();
        match ending {
            0 => end.driver.close(id),
            1 => drop(theirs.try_clone().map(|fd| rustix::net::shutdown(fd, rustix::net::Shutdown::Both))),
            _ => {
                let held = end.driver.held(id);
                drop(end);
                // What the kernel still reads is not freed, nor spoilt: the peer gets it as it was.
                assert!(pool.live() <= held, "{} buffers of {held} are left", pool.live());
                read_to_end(&theirs, &mut got);
                assert!(got == bufs.concat()[..got.len()] && !got.is_empty());
                continue;
            }
        }
        let reader = thread::spawn(move || {
            read_to_end(&theirs, &mut got);
            got
        });
        end.until("all is back", |end| {
            let log = end.seen.log(id);
            log.closed.is_some() && log.sent.len() + log.unsent.len() == bufs.len()
        });
        let got = reader.join().expect("the reader");
        assert!(got == bufs.concat()[..got.len()]);
        let log = end.seen.log(id);
        let mut back = [&log.sent[..], &log.unsent[..]].concat();
        back.sort_unstable();
        assert!(back == bufs, "every buffer once");
        assert_eq!(pool.live(), 0);
    }
}
