//! The stream sockets between reactors of different workers: made by the parent, handed to both ends.
//!
//! Socket pairs, not paths or ports: nothing to name, nothing to clean up, nobody else can connect. The ends travel over
//! the control sockets; every descriptor is close-on-exec all the time, so no worker ever holds another's.

use std::io;
use std::os::fd::OwnedFd;

use super::channel::socket_pair;
use super::control::{FDS_MAX, ToWorker};
use super::engine::SocketPair;

/// What one worker is handed: messages, each with the descriptors beside it.
pub(crate) type Handout = Vec<(ToWorker, Vec<OwnedFd>)>;

/// Makes all sockets. The result holds one entry per worker.
pub(crate) fn make(pairs: &[SocketPair], workers: u32) -> io::Result<Vec<Handout>> {
    let mut ends: Vec<Vec<((u32, u32), OwnedFd)>> = (0..workers).map(|_| Vec::new()).collect();
    for pair in pairs {
        let (low, high) = socket_pair()?;
        ends[pair.workers.0 as usize].push((pair.reactors, low));
        ends[pair.workers.1 as usize].push((pair.reactors, high));
    }
    Ok(ends.into_iter().map(into_messages).collect())
}

/// Number of sockets with an end in `worker`.
pub(crate) fn count(pairs: &[SocketPair], worker: u32) -> u32 {
    pairs.iter().filter(|pair| pair.workers.0 == worker || pair.workers.1 == worker).count() as u32
}

fn into_messages(ends: Vec<((u32, u32), OwnedFd)>) -> Handout {
    let mut messages = Vec::new();
    let mut ends = ends.into_iter().peekable();
    while ends.peek().is_some() {
        let (reactors, fds): (Vec<_>, Vec<_>) = ends.by_ref().take(FDS_MAX).unzip();
        messages.push((ToWorker::Sockets(reactors), fds));
    }
    messages
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair(reactors: (u32, u32), workers: (u32, u32)) -> SocketPair {
        SocketPair { reactors, workers }
    }

    #[test]
    fn both_ends_of_a_pair_go_to_their_workers_and_are_joined() {
        let pairs = [pair((0, 2), (0, 1)), pair((1, 2), (0, 1)), pair((2, 3), (1, 2))];
        let mut handouts = make(&pairs, 3).expect("there are descriptors");
        assert_eq!([0, 1, 2].map(|worker| count(&pairs, worker)), [2, 3, 1]);
        let names: Vec<_> = handouts.iter().map(|h| h.iter().map(|(m, _)| m.clone()).collect::<Vec<_>>()).collect();
        assert_eq!(names[0], [ToWorker::Sockets(vec![(0, 2), (1, 2)])]);
        assert_eq!(names[1], [ToWorker::Sockets(vec![(0, 2), (1, 2), (2, 3)])]);
        assert_eq!(names[2], [ToWorker::Sockets(vec![(2, 3)])]);
        let last_of_1 = handouts[1][0].1.pop().expect("three ends");
        let only_of_2 = handouts[2][0].1.pop().expect("one end");
        UnixStream::from(last_of_1).write_all(b"x").expect("the other end is open");
        let mut byte = [0];
        UnixStream::from(only_of_2).read_exact(&mut byte).expect("they are joined");
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn many_sockets_travel_in_several_messages() {
        let pairs: Vec<_> = (0..FDS_MAX as u32 + 1).map(|i| pair((i, 1000 + i), (0, 1))).collect();
        let handouts = make(&pairs, 2).expect("there are descriptors");
        let sizes: Vec<_> = handouts[1].iter().map(|(_, fds)| fds.len()).collect();
        assert_eq!(sizes, [FDS_MAX, 1]);
    }
}
