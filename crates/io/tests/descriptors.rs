//! No descriptor is left behind. A test binary of its own with one test: others would open descriptors beside it.

mod support;

use squall_io::probe;
use std::fs;
use support::{End, Pool, SOCKETS, Which};

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("the list of descriptors").count()
}

#[test]
fn a_closed_stream_and_a_dropped_driver_leave_no_descriptor_behind() {
    for which in [Which::Epoll, Which::IoUring, Which::OneReceiveEach] {
        if which != Which::Epoll && !probe().usable {
            eprintln!("only epoll is tested, io_uring cannot be used here");
            continue;
        }
        for socket in SOCKETS {
            let before = open_descriptors();
            for _ in 0..20 {
                let mut end = End::new(which);
                let with_driver = open_descriptors();
                let pool = Pool::default();
                let mut peers = Vec::new();
                for _ in 0..4 {
                    let (ours, theirs) = socket.pair();
                    let id = end.add(ours);
                    (0..10).for_each(|_| end.driver.send(id, pool.buf(&[1; 200_000])));
                    peers.push((id, theirs));
                }
                end.poll();
                // One closed by us, one by its peer, two in flight at the drop.
                end.driver.close(0);
                peers.remove(1);
                end.until("two are closed", |end| end.seen.is_closed(0) && end.seen.is_closed(1));
                assert_eq!(open_descriptors(), with_driver + 2 + peers.len());
            }
            assert_eq!(open_descriptors(), before, "{which:?}, {socket:?}");
        }
    }
}
