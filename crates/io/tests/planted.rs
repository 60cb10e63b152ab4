//! Bugs on purpose (docs/planted.md): those of the drivers. Random traffic whose buffers are written to as soon as they come
//! back finds each of them within its number of seeds.

mod support;

use rustix::net::sockopt;
use squall_io::planted::{Bug, plant};
use squall_io::{Closed, EventSink, StreamId, open, probe};
use std::time::Duration;
use support::{Recorder, Rng, Socket, WINDOW, Which};

/// A sender that uses its buffers again at once.
#[derive(Default)]
struct Sender {
    free: Vec<Vec<u8>>,
    closed: Option<Closed>,
}

impl EventSink<Vec<u8>> for Sender {
    fn on_readable(&mut self, _: StreamId) {}

    fn on_sent(&mut self, _: StreamId, mut buf: Vec<u8>) {
        buf.fill(0xEE);
        self.free.push(buf);
    }

    fn on_closed(&mut self, _: StreamId, cause: Closed) {
        self.closed = Some(cause);
    }
}

/// Sends what the seed says from one driver to another; the receiver must get it as it was.
fn traffic(seed: u64) -> Result<(), String> {
    let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    rng.next();
    let drivers = if probe().cause.is_none() { 3 } else { 1 };
    let which = [Which::Epoll, Which::IoUring, Which::OneReceiveEach][rng.below(drivers)];
    let socket = [Socket::Unix, Socket::Tcp][rng.below(2)];
    let (a, b) = socket.pair();
    if rng.below(2) == 0 {
        sockopt::set_socket_send_buffer_size(&a, 4096).expect("a small send buffer");
    }
    let driver = || open::<Vec<u8>>(which.choice(), &which.options()).expect("the driver under test").0;
    let (mut from, mut to) = (driver(), driver());
    let (mut sender, mut receiver) = (Sender::default(), Recorder::default());
    let (from_id, _window) = from.add_stream(a, WINDOW).expect("a stream");
    let (to_id, window) = to.add_stream(b, WINDOW).expect("a stream");
    receiver.windows.insert(to_id, window);
    let (mut said, mut left, mut idle) = (Vec::new(), 30, 0);
    let laziness = 1 + rng.below(8);
    while left > 0 || receiver.received(to_id) < said.len() {
        let mut progress = left > 0;
        if left > 0 && rng.below(3) == 0 {
            left -= 1;
            let most = if rng.below(3) == 0 { 400_000 } else { 2_000 };
            let len = 1 + rng.below(most);
            let bytes = rng.bytes(len);
            said.extend_from_slice(&bytes);
            let mut buf = sender.free.pop().unwrap_or_default();
            buf.clear();
            buf.extend_from_slice(&bytes);
            from.send(from_id, buf);
        }
        progress |= from.poll(&mut sender).expect("the driver works") > 0;
        if left == 0 || rng.below(laziness) == 0 {
            progress |=
                to.wait(Some(Duration::from_millis(u64::from(left == 0))), &mut receiver).expect("it works") > 0;
        }
        idle = if progress { 0 } else { idle + 1 };
        if idle > 200 || sender.closed.is_some() {
            let got = receiver.received(to_id);
            return Err(format!("{which:?} {socket:?}: {got} of {} bytes arrived {:?}", said.len(), sender.closed));
        }
    }
    let got = &receiver.log(to_id).received;
    match got.iter().zip(&said).position(|(got, said)| got != said) {
        None => Ok(()),
        Some(at) => Err(format!("{which:?} {socket:?}: byte {at} is {:#x} instead of {:#x}", got[at], said[at])),
    }
}

fn is_found(bug: Bug, most: u64) {
    plant(Some(bug));
    let (seed, what) = (0..most)
        .find_map(|seed| traffic(seed).err().map(|what| (seed, what)))
        .unwrap_or_else(|| panic!("{bug:?} was not found in {most} seeds"));
    println!("{bug:?}: found by seed {seed}: {what}");
}

#[test]
fn nothing_is_found_where_nothing_is_planted() {
    (0..40).for_each(|seed| traffic(seed).unwrap_or_else(|what| panic!("seed {seed}: {what}")));
}

#[test]
fn a_short_send_that_is_ignored_is_found() {
    is_found(Bug::ShortSend, 20);
}

#[test]
fn a_buffer_that_is_used_again_too_early_is_found() {
    if let Some(cause) = probe().cause {
        eprintln!("left out, since only io_uring sends without a copy, which cannot be used here: {cause}");
        return;
    }
    is_found(Bug::BufferReused, 20);
}
