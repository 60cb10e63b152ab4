//! What every driver promises of a stream's receive window: the stream lies in it as it was sent, in one piece, and a reader that does not keep up
//! holds the peer back and loses nothing.

mod support;

use squall_io::{Closed, RecvWindow};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};
use support::{End, Pool, Rng, SOCKETS, Socket, TURN, Which, suite, write_all};

suite! {
    a_stream_cut_anywhere_lies_in_the_window_in_one_piece
    messages_are_read_in_place_over_thousands_of_wraps
    a_reader_that_does_not_read_holds_the_peer_back_and_loses_nothing
    a_reader_that_takes_single_bytes_gets_all_of_them
    a_message_as_long_as_the_window_reaches_fits_wherever_it_begins
    what_a_peer_sent_of_a_message_before_it_closed_is_there
    a_full_window_lets_the_driver_sleep_even_if_the_peer_is_gone
    a_window_outlives_its_stream_and_its_driver
    a_slice_stays_valid_while_the_driver_receives_more
}

fn a_stream_cut_anywhere_lies_in_the_window_in_one_piece(which: Which) {
    let mut end = End::new(which);
    let (ours, theirs) = Socket::Unix.pair();
    let (_, mut window) = end.add_unread(ours, 1);
    let message = Rng(20).bytes(333);
    for cut in 0..=message.len() {
        let (first, second) = message.split_at(cut);
        for part in [first, second] {
            write_all(&theirs, part);
            let so_far = window.unread().len() + part.len();
            end.until("it has arrived", |_| window.unread().len() == so_far);
        }
        assert!(window.unread() == message, "cut at {cut}");
        window.consume(message.len());
    }
}

/// A message: its length, a number, and bytes that follow from it. Multiples of 64, so that its place shows that nothing was lost between.
fn message(rng: &mut Rng, number: u64, longest: usize) -> Vec<u8> {
    let len = 64 * (1 + rng.below(longest / 64));
    let mut bytes = Rng(number + 1).bytes(len);
    bytes[..8].copy_from_slice(&(len as u64).to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Checks the messages that are there as a whole, in place, and consumes them. How many are done by now.
fn take_messages(window: &mut RecvWindow, mut number: u64) -> u64 {
    loop {
        let unread = window.unread();
        let Some(len) = unread.first_chunk::<8>().map(|len| u64::from_le_bytes(*len) as usize) else { return number };
        if unread.len() < len {
            return number;
        }
        assert_eq!(unread.as_ptr() as usize % 64, 0, "message {number} is aligned");
        assert_eq!(unread[8..16], number.to_le_bytes());
        assert!(unread[16..len] == Rng(number + 1).bytes(len)[16..], "message {number} is damaged");
        window.consume(len);
        number += 1;
    }
}

fn messages_are_read_in_place_over_thousands_of_wraps(which: Which) {
    const MESSAGES: u64 = 5000;
    for (seed, socket) in [(21, Socket::Unix), (22, Socket::Tcp)] {
        let (ours, theirs) = socket.pair();
        let mut end = End::new(which);
        let (id, mut window) = end.add_unread(ours, 1);
        let reach = window.reach();
        let writer = thread::spawn(move || {
            let mut rng = Rng(seed);
            (0..MESSAGES).for_each(|n| write_all(&theirs, &message(&mut rng, n, reach)));
        });
        let mut done = 0;
        end.until("all has arrived", |_| {
            done = take_messages(&mut window, done);
            done == MESSAGES
        });
        writer.join().expect("the writer");
        end.until("the stream is closed", |end| end.seen.is_closed(id));
        let counters = end.driver.counters();
        let wraps = counters.bytes_in / window.size() as u64;
        assert!(wraps > 2000, "seed {seed}: only {wraps} wraps");
        if which == Which::IoUring {
            // All that was consumed went back to the kernel, eighth by eighth.
            assert!(counters.chunks_recycled >= 8 * wraps - 8, "{counters:?}");
        }
    }
}

fn a_reader_that_does_not_read_holds_the_peer_back_and_loses_nothing(which: Which) {
    for socket in SOCKETS {
        let (ours, theirs) = socket.pair();
        let (mut end, mut peer) = (End::new(which), End::new(which));
        let (_, mut window) = end.add_unread(ours, 1);
        let peer_id = peer.add(theirs);
        // More than all socket buffers between them take.
        let bytes = Rng(23).bytes(30 << 20);
        let pool = Pool::default();
        bytes.chunks(100_000).for_each(|chunk| peer.driver.send(peer_id, pool.buf(chunk)));
        while peer.poll() + end.poll() + peer.wait(Duration::from_millis(5)) > 0 {}
        assert_eq!(window.unread().len(), window.size(), "the window is full");
        let counters = end.driver.counters();
        assert!(counters.bytes_in == window.size() as u64 && counters.recvs_starved > 0, "{counters:?}");
        assert!(peer.driver.queued(peer_id) > 0, "the peer is held back");
        (0..100).for_each(|_| assert_eq!(end.poll(), 0));
        // Read on, in strides that are no divisors of anything.
        let (mut at, mut rng, mut idle) = (0, Rng(24), 0);
        while at < bytes.len() {
            let stride = window.unread().len().min(1 + rng.below(3000));
            assert!(window.unread()[..stride] == bytes[at..at + stride], "{socket:?}, from byte {at}");
            window.consume(stride);
            at += stride;
            if stride > 0 || peer.poll() + end.poll() > 0 {
                idle = 0;
                continue;
            }
            idle += 1;
            end.wait(Duration::from_millis(1));
            assert!(idle < 5000, "{socket:?}: nothing happens any more at byte {at}");
        }
        assert_eq!(end.driver.counters().bytes_in, bytes.len() as u64);
    }
}

fn a_reader_that_takes_single_bytes_gets_all_of_them(which: Which) {
    let (ours, theirs) = Socket::Unix.pair();
    let mut end = End::new(which);
    let (_, mut window) = end.add_unread(ours, 1);
    let bytes = Rng(25).bytes(50_000);
    let writer = thread::spawn({
        let bytes = bytes.clone();
        move || write_all(&theirs, &bytes)
    });
    for (at, byte) in bytes.iter().enumerate() {
        end.until("the next byte is there", |_| !window.unread().is_empty());
        assert_eq!(window.unread()[0], *byte, "at {at}");
        window.consume(1);
        end.poll();
    }
    writer.join().expect("the writer");
    let counters = end.driver.counters();
    // Not by single bytes: the kernel gets the room back by eighths.
    assert!(counters.recvs <= 200, "{counters:?}");
}

fn a_message_as_long_as_the_window_reaches_fits_wherever_it_begins(which: Which) {
    let (ours, theirs) = Socket::Tcp.pair();
    let mut end = End::new(which);
    let (_, mut window) = end.add_unread(ours, 1);
    let (size, reach) = (window.size(), window.reach());
    assert_eq!(reach, size / 8 * 7);
    // Begins at every place that is a multiple of 8.
    let message = Rng(26).bytes(reach);
    let mut begin = 0;
    for round in 0..size / 8 {
        write_all(&theirs, &message);
        end.until("the whole message is there", |_| window.unread().len() == reach);
        assert!(window.unread() == message, "at {begin}");
        window.consume(reach);
        begin = (begin + reach) % size;
        // On to the next place.
        let step = (8 * (round + 1) + size - begin) % size;
        write_all(&theirs, &message[..step.min(reach)]);
        write_all(&theirs, &message[..step - step.min(reach)]);
        let mut left = step;
        end.until("the filling is there", |_| {
            let there = window.unread().len();
            window.consume(there);
            left -= there;
            left == 0
        });
        begin = (begin + step) % size;
        assert_eq!(begin, 8 * (round + 1) % size);
    }
}

fn what_a_peer_sent_of_a_message_before_it_closed_is_there(which: Which) {
    for socket in SOCKETS {
        let (ours, theirs) = socket.pair();
        let mut end = End::new(which);
        let (id, mut window) = end.add_unread(ours, 1);
        write_all(&theirs, b"whole;half of a mess");
        drop(theirs);
        end.until("the stream is closed", |end| end.seen.is_closed(id));
        assert!(matches!(end.seen.log(id).closed, Some(Closed::Eof)));
        window.consume(6);
        assert_eq!(window.unread(), b"half of a mess");
    }
}

fn a_full_window_lets_the_driver_sleep_even_if_the_peer_is_gone(which: Which) {
    for socket in SOCKETS {
        let (ours, theirs) = socket.pair();
        let mut end = End::new(which);
        let (id, mut window) = end.add_unread(ours, 1);
        let bytes = Rng(27).bytes(3 * window.size());
        write_all(&theirs, &bytes);
        drop(theirs);
        while end.wait(Duration::from_millis(5)) > 0 {}
        let (before, syscalls) = (Instant::now(), end.driver.counters().syscalls);
        assert_eq!(end.wait(TURN), 0);
        assert!(before.elapsed() >= TURN, "{socket:?}: it woke up for what nobody can take");
        assert!(end.driver.counters().syscalls - syscalls <= 3);
        assert!(!end.seen.is_closed(id), "the end comes after the data");
        let mut all = Vec::new();
        end.until("the stream is closed", |end| {
            all.extend_from_slice(window.unread());
            window.consume(window.unread().len());
            end.seen.is_closed(id)
        });
        all.extend_from_slice(window.unread());
        assert!(all == bytes, "{socket:?}: {} of {} bytes", all.len(), bytes.len());
    }
}

fn a_window_outlives_its_stream_and_its_driver(which: Which) {
    let mut end = End::new(which);
    let streams: Vec<(u32, RecvWindow, OwnedFd)> = (0..2)
        .map(|_| {
            let (ours, theirs) = Socket::Unix.pair();
            let (id, window) = end.add_unread(ours, 1);
            write_all(&theirs, b"still here");
            (id, window, theirs)
        })
        .collect();
    end.until("both have arrived", |_| streams.iter().all(|(_, window, _)| window.unread().len() == 10));
    end.driver.close(streams[0].0);
    end.until("one is closed", |end| end.seen.is_closed(streams[0].0));
    drop(end);
    for (_, mut window, theirs) in streams {
        // Nobody listens any more; at worst it is refused.
        let _ = rustix::io::write(&theirs, b"too late");
        assert_eq!(window.unread(), b"still here");
        window.consume(10);
    }
}

fn a_slice_stays_valid_while_the_driver_receives_more(which: Which) {
    let (ours, theirs) = Socket::Unix.pair();
    let mut end = End::new(which);
    let (_, window) = end.add_unread(ours, 1);
    write_all(&theirs, b"first ");
    end.until("it has arrived", |_| window.unread().len() == 6);
    let first = window.unread();
    write_all(&theirs, &[b'x'; 5000]);
    while end.wait(Duration::from_millis(5)) > 0 {}
    assert_eq!(first, b"first ");
    assert_eq!(window.unread().len(), window.size());
    assert!(window.unread().starts_with(b"first xxx"));
}
