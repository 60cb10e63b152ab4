//! What it costs to stream batches from one driver to another: processor time per batch, both ends on one thread, so that the figures hold on a busy
//! machine too. `bare` is the floor: `writev` and non-blocking `recv` into one buffer, no driver.
//!
//! `cargo run --release -p squall-io --example streaming [MiB per case]` (256 by default, so some seconds in all).

use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{RecvFlags, recv};
use rustix::time::{ClockId, clock_gettime};
use squall_io::{Closed, EventSink, IoChoice, IoOptions, StreamId, ZeroCopy, open, probe};
use std::io::IoSlice;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

/// Batches that leave together.
const TOGETHER: usize = 8;
/// As the engine has it for batches of 64 KiB.
const WINDOW_BYTES: usize = 256 << 10;

#[derive(Default)]
struct Sender {
    spare: Vec<Box<[u8]>>,
}

impl EventSink<Box<[u8]>> for Sender {
    fn on_readable(&mut self, _: StreamId) {}
    fn on_sent(&mut self, _: StreamId, buf: Box<[u8]>) {
        self.spare.push(buf);
    }
    fn on_closed(&mut self, _: StreamId, cause: Closed) {
        panic!("closed: {cause:?}");
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let a = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (a, b) = (OwnedFd::from(a), OwnedFd::from(listener.accept().expect("accept").0));
    for fd in [&a, &b] {
        set_tcp_nodelay(fd, true).expect("the option");
    }
    (a, b)
}

fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Reads a word per cache line, as a reader of tuples would at least.
fn look_at(bytes: &[u8]) -> u64 {
    bytes.iter().step_by(64).map(|byte| u64::from(*byte)).sum()
}

fn with_drivers(choice: IoChoice, options: IoOptions, batch: usize, rounds: usize) -> (u64, u64, u64) {
    let (a, b) = pair();
    let (mut sending, _) = open(choice, &options).expect("the driver");
    let (mut receiving, _) = open::<Box<[u8]>>(choice, &options).expect("the driver");
    let (to, _) = sending.add_stream(a, 4096).expect("a stream");
    let (_, mut window) = receiving.add_stream(b, WINDOW_BYTES).expect("a stream");
    let mut sender = Sender { spare: (0..2 * TOGETHER).map(|_| vec![1; batch].into()).collect() };
    let mut receiver = Sender::default();
    let (mut seen, mut looked) = (0, 0);
    let begin = cpu_ns();
    for round in 1..=rounds {
        for _ in 0..TOGETHER {
            let buf = sender.spare.pop().unwrap_or_else(|| vec![1; batch].into());
            sending.send(to, buf);
        }
        while seen < round * TOGETHER * batch || sending.queued(to) > 0 {
            sending.poll(&mut sender).expect("the driver works");
            receiving.poll(&mut receiver).expect("the driver works");
            let unread = window.unread();
            looked += look_at(unread);
            seen += unread.len();
            let len = unread.len();
            window.consume(len);
        }
    }
    let ns = cpu_ns() - begin;
    assert!(looked > 0);
    (ns, sending.counters().syscalls, receiving.counters().syscalls)
}

fn bare(batch: usize, rounds: usize) -> (u64, u64, u64) {
    let (a, b) = pair();
    rustix::io::ioctl_fionbio(&a, true).expect("non-blocking");
    let (bufs, mut into) = (vec![vec![1; batch]; TOGETHER], vec![0; WINDOW_BYTES]);
    let (mut seen, mut sent, mut looked, mut syscalls) = (0, 0, 0, [0; 2]);
    let begin = cpu_ns();
    for round in 1..=rounds {
        let goal = round * TOGETHER * batch;
        while seen < goal {
            if sent < goal {
                let skip = sent % (TOGETHER * batch);
                let pieces: Vec<IoSlice<'_>> = (skip / batch..TOGETHER)
                    .map(|at| IoSlice::new(if at == skip / batch { &bufs[at][skip % batch..] } else { &bufs[at] }))
                    .collect();
                syscalls[0] += 1;
                sent += rustix::io::writev(&a, &pieces).unwrap_or(0);
            }
            syscalls[1] += 1;
            if let Ok((_, n)) = recv(&b, &mut into[..], RecvFlags::DONTWAIT) {
                looked += look_at(&into[..n]);
                seen += n;
            }
        }
    }
    let ns = cpu_ns() - begin;
    assert!(looked > 0);
    (ns, syscalls[0], syscalls[1])
}

fn main() {
    let mib = std::env::args().nth(1).map_or(256, |arg| arg.parse().expect("MiB"));
    let options = IoOptions::default();
    let mut cases = vec![("bare", None), ("epoll", Some((IoChoice::Epoll, options)))];
    match probe().cause {
        Some(cause) => println!("io_uring is left out: {cause}"),
        None => cases.extend([
            ("io_uring", Some((IoChoice::IoUring, options))),
            ("one each", Some((IoChoice::IoUring, IoOptions { incremental_receive: false, ..options }))),
            ("no zc", Some((IoChoice::IoUring, IoOptions { zero_copy: ZeroCopy::Off, ..options }))),
        ]),
    }
    for batch in [192, 2 << 10, 16 << 10, 64 << 10] {
        let rounds = ((mib << 20) / (TOGETHER * batch)).min(20_000);
        for (name, driver) in &cases {
            let (ns, sending, receiving) = match driver {
                Some((choice, options)) => with_drivers(*choice, *options, batch, rounds),
                None => bare(batch, rounds),
            };
            let batches = (rounds * TOGETHER) as f64;
            println!(
                "{batch:6} B batches by {TOGETHER}, {name:8} {:8.1} ns each, {:6.3} ns a byte, {:.2} + {:.2} system calls each",
                ns as f64 / batches,
                ns as f64 / batches / batch as f64,
                sending as f64 / batches,
                receiving as f64 / batches,
            );
        }
    }
}
