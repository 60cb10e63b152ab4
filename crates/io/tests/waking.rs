//! What every driver promises of waiting: the doorbell is never lost, timeouts hold, idleness costs nothing.
//! One suite, run against each driver, and against io_uring without incremental buffers (as kernels before 6.12 have it), over Unix sockets and
//! loopback TCP.

mod support;

use rustix::net::sockopt;
use squall_io::IoKind;
use std::thread;
use std::time::{Duration, Instant};
use support::{End, Pool, SOCKETS, Socket, TURN, Which, driver, read_exact, suite, write_all};

suite! {
    says_what_it_is
    a_bell_from_another_thread_wakes_a_waiting_driver
    a_bell_rung_before_the_wait_is_not_lost
    a_bell_met_by_a_poll_still_ends_the_next_wait
    a_bell_outlives_its_driver
    wait_ends_after_its_timeout
    a_closed_stream_costs_nothing
    an_idle_stream_costs_nothing
    an_idle_turn_of_io_uring_makes_no_system_call
}

fn says_what_it_is(which: Which) {
    let kind = driver(which).kind();
    assert_eq!(kind == IoKind::IoUring, which != Which::Epoll);
    assert_eq!(kind.to_string(), which.choice().to_string());
}

fn a_bell_from_another_thread_wakes_a_waiting_driver(which: Which) {
    let mut end = End::new(which);
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

fn a_bell_rung_before_the_wait_is_not_lost(which: Which) {
    let mut end = End::new(which);
    let bell = end.driver.bell();
    for round in 1..=20 {
        bell.ring();
        bell.ring();
        assert_eq!(end.wait(100 * TURN), 0);
        assert!(end.driver.counters().bells >= round, "the wait ran out");
    }
}

fn a_bell_met_by_a_poll_still_ends_the_next_wait(which: Which) {
    let mut end = End::new(which);
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

fn a_bell_outlives_its_driver(which: Which) {
    let driver = driver(which);
    let bell = driver.bell();
    bell.ring();
    drop(driver);
    bell.ring();
}

fn wait_ends_after_its_timeout(which: Which) {
    let mut end = End::new(which);
    let (ours, _theirs) = Socket::Unix.pair();
    end.add(ours);
    for timeout in [0, 1, 300, 1000, 2500, 20_000].map(Duration::from_micros) {
        let before = Instant::now();
        assert_eq!(end.wait(timeout), 0);
        assert!(before.elapsed() >= timeout, "{timeout:?}: {:?}", before.elapsed());
    }
    assert_eq!(end.driver.counters().wakeups, 0, "a timeout is no wake-up");
}

fn a_closed_stream_costs_nothing(which: Which) {
    for socket in SOCKETS {
        let mut end = End::new(which);
        let (ours, theirs) = socket.pair();
        // Another process may hold the socket too, as the one does that made it.
        let _same_socket = ours.try_clone().expect("a second descriptor");
        let id = end.add(ours);
        drop(theirs);
        end.until("the stream is closed", |end| end.seen.is_closed(id));
        sleeps(&mut end);
    }
}

fn an_idle_stream_costs_nothing(which: Which) {
    for socket in SOCKETS {
        let mut end = End::new(which);
        let (ours, theirs) = socket.pair();
        sockopt::set_socket_send_buffer_size(&ours, 16_384).expect("a small send buffer");
        let id = end.add(ours);
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

fn an_idle_turn_of_io_uring_makes_no_system_call(which: Which) {
    let mut end = End::new(which);
    let mut peers = Vec::new();
    // Streams in every state that idleness can have: untouched, in the middle of a message, full, with a send that cannot go on.
    for state in 0..4 {
        let (ours, theirs) = SOCKETS[state % 2].pair();
        sockopt::set_socket_send_buffer_size(&ours, 4096).expect("a small send buffer");
        let (id, window) = end.add_unread(ours, 4096);
        match state {
            1 => write_all(&theirs, &[1; 100]),
            2 => write_all(&theirs, &[1; 8192]),
            3 => end.driver.send(id, Pool::default().buf(&vec![1; 10 << 20])),
            _ => {}
        }
        peers.push((window, theirs));
    }
    while end.wait(Duration::from_millis(20)) > 0 {}
    assert_eq!(peers.iter().map(|(w, _)| w.unread().len()).collect::<Vec<_>>(), [0, 100, 4096, 0]);
    const TURNS: u64 = 100_000;
    let before = end.driver.counters().syscalls;
    (0..TURNS).for_each(|_| assert_eq!(end.poll(), 0));
    let made = end.driver.counters().syscalls - before;
    // epoll has no other way than to ask.
    assert!(if which == Which::Epoll { made >= TURNS } else { made == 0 }, "{made} system calls in {TURNS} turns");
}
