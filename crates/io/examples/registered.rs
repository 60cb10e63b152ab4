//! What registered buffers would save on the way out: processor time per send over TCP on loopback, both ends on one thread, so that the figures hold
//! on a busy machine too. The kernel takes registered buffers only for zero-copy sends, and one buffer per send before Linux 6.15; so one send of
//! one buffer is the case that is kindest to them.
//!
//! `cargo run --release -p squall-io --example registered [MiB per case]` (256 by default, so some seconds in all). Not between hosts: there the
//! network card reads the buffers, here the kernel copies them in any case, and says so.

use io_uring::{IoUring, cqueue, opcode, types};
use rustix::net::{RecvFlags, recv};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// `IORING_SEND_ZC_REPORT_USAGE`, and the bit of a notification that says that the kernel copied: io_uring_enter(2).
const REPORT_USAGE: u16 = 1 << 3;
const COPIED: u32 = 1 << 31;
const ROUNDS: usize = 7;

#[derive(Clone, Copy, Debug)]
enum How {
    Copy,
    ZeroCopy,
    Registered,
}

fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

struct Case {
    ring: IoUring,
    to: TcpStream,
    from: TcpStream,
    /// Registered as number 0; the kernel reads it only while a send is under way.
    batch: Box<[u8]>,
    sink: Box<[u8]>,
}

impl Case {
    fn new(bytes: usize) -> io::Result<Case> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let to = TcpStream::connect(listener.local_addr()?)?;
        let (from, _) = listener.accept()?;
        from.set_nonblocking(true)?;
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8)?;
        let batch: Box<[u8]> = vec![1; bytes].into();
        let iovec = libc::iovec { iov_base: batch.as_ptr().cast_mut().cast(), iov_len: batch.len() };
        // SAFETY: the buffer lives as long as the ring, which is dropped before it.
        unsafe { ring.submitter().register_buffers(&[iovec])? };
        ring.submitter().register_files(&[to.as_raw_fd()])?;
        Ok(Case { ring, to, from, batch, sink: vec![0; 1 << 20].into() })
    }

    /// Sends once and receives it all. Whether the kernel copied, where it says.
    fn once(&mut self, how: How) -> io::Result<bool> {
        let (at, len) = (self.batch.as_ptr(), self.batch.len() as u32);
        let zero = opcode::SendZc::new(types::Fixed(0), at, len).flags(libc::MSG_WAITALL).zc_flags(REPORT_USAGE);
        let entry = match how {
            How::Copy => opcode::Send::new(types::Fixed(0), at, len).flags(libc::MSG_WAITALL).build(),
            How::ZeroCopy => zero.build(),
            How::Registered => zero.buf_index(Some(0)).build(),
        };
        // SAFETY: the entry points to the batch, which is neither changed nor freed before `self`, and `self` not before the
        // completion, and the notification, have come.
        unsafe { self.ring.submission().push(&entry).expect("the queue is empty") };
        self.ring.submit()?;
        let (mut sent, mut noted, mut copied, mut got) =
            (false, !matches!(how, How::ZeroCopy | How::Registered), false, 0);
        while !sent || !noted || got < self.batch.len() {
            match recv(&self.from, &mut self.sink[..], RecvFlags::DONTWAIT) {
                Ok((n, _)) => got += n,
                Err(rustix::io::Errno::AGAIN) => {}
                Err(e) => return Err(e.into()),
            }
            self.ring.submit_and_wait(usize::from(!sent))?;
            for event in self.ring.completion() {
                if cqueue::notif(event.flags()) {
                    noted = true;
                    copied = event.result() as u32 & COPIED != 0;
                } else if event.result() != self.batch.len() as i32 {
                    return Err(io::Error::from_raw_os_error(-event.result()));
                } else {
                    sent = true;
                }
            }
        }
        Ok(copied)
    }
}

fn main() -> io::Result<()> {
    let mib = std::env::args().nth(1).map_or(256, |arg| arg.parse().expect("a number of MiB"));
    println!("{:>7}  {:<10}  {:>18}  {:>15}  copied", "BYTES", "SEND", "CPU µs, MEDIAN", "LOWEST–HIGHEST");
    for bytes in [16 << 10, 64 << 10, 256 << 10] {
        let mut case = Case::new(bytes)?;
        let sends = (mib << 20) / bytes / ROUNDS;
        let mut rounds = [How::Copy, How::ZeroCopy, How::Registered].map(|how| (how, Vec::new(), 0));
        for _ in 0..ROUNDS {
            for (how, costs, copied) in &mut rounds {
                let began = cpu_ns();
                for _ in 0..sends {
                    *copied += u64::from(case.once(*how)?);
                }
                costs.push((cpu_ns() - began) as f64 / sends as f64 / 1e3);
            }
        }
        for (how, mut costs, copied) in rounds {
            costs.sort_by(f64::total_cmp);
            let spread = format!("{:.1}–{:.1}", costs[0], costs[ROUNDS - 1]);
            println!(
                "{bytes:>7}  {:<10}  {:>18.1}  {spread:>15}  {copied} of {}",
                format!("{how:?}"),
                costs[ROUNDS / 2],
                sends * ROUNDS
            );
        }
        drop(case.to);
    }
    Ok(())
}
