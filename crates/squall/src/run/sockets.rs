//! The stream sockets between reactors of different workers: made by the parent, handed to both ends.
//!
//! Unix socket pairs by default, not paths or ports: nothing to name, nothing to clean up, nobody else can connect. Over TCP the parent connects to a
//! listening socket of its own, which stays open for the whole run: a worker that comes back is reached at the same address. The ends travel over
//! the control sockets; every descriptor is close-on-exec all the time, so no worker ever holds another's.
//!
//! Each life of a worker gets new sockets. An end for a worker that is not there waits here until it is, or until the worker at the other end has
//! died as well.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use super::channel::socket_pair;
use super::control::FDS_MAX;
use super::engine::SocketPair;

/// Sockets of one worker: for each the reactors that it joins.
pub(crate) type Ends = Vec<((u32, u32), OwnedFd)>;

/// What the sockets between workers are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Family {
    /// Unix socket pairs, by which workers can share memory
    #[default]
    Unix,
    /// TCP over the loopback, as between hosts
    Tcp,
}

/// See the module.
pub(crate) struct Sockets {
    pairs: Vec<SocketPair>,
    /// By pair: the worker that an end waits for, and the end.
    held: Vec<Option<(u32, OwnedFd)>>,
    listener: Option<TcpListener>,
    /// Workers that get no sockets from here: those of other hosts.
    elsewhere: BTreeSet<u32>,
}

impl Sockets {
    /// Sockets for these pairs of reactors.
    pub(crate) fn new(pairs: &[SocketPair], family: Family) -> io::Result<Sockets> {
        let listener = match family {
            Family::Unix => None,
            Family::Tcp => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?),
        };
        Ok(Sockets {
            pairs: pairs.to_vec(),
            held: pairs.iter().map(|_| None).collect(),
            listener,
            elsewhere: BTreeSet::new(),
        })
    }

    fn pair(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        let Some(listener) = &self.listener else { return socket_pair() };
        let near = TcpStream::connect(listener.local_addr()?)?;
        loop {
            let (far, from) = listener.accept()?;
            // Others may connect to the port: they are not heard.
            if from == near.local_addr()? {
                return Ok((near.into(), far.into()));
            }
        }
    }

    /// A worker begins a life: its ends, and for each worker that is there the other ends.
    pub(crate) fn begin(
        &mut self,
        worker: u32,
        is_there: impl Fn(u32) -> bool,
    ) -> io::Result<(Ends, Vec<(u32, Ends)>)> {
        let (mut own, mut others): (Ends, Vec<(u32, Ends)>) = Default::default();
        for at in 0..self.pairs.len() {
            let SocketPair { reactors, workers: (a, b) } = self.pairs[at];
            if worker != a && worker != b {
                continue;
            }
            let other = if worker == a { b } else { a };
            if self.elsewhere.contains(&other) {
                continue;
            }
            if let Some((_, end)) = self.held[at].take_if(|(waits, _)| *waits == worker) {
                own.push((reactors, end));
                continue;
            }
            let (ours, theirs) = self.pair()?;
            own.push((reactors, ours));
            if !is_there(other) {
                self.held[at] = Some((other, theirs));
                continue;
            }
            match others.iter_mut().find(|(w, _)| *w == other) {
                Some((_, ends)) => ends.push((reactors, theirs)),
                None => others.push((other, vec![(reactors, theirs)])),
            }
        }
        Ok((own, others))
    }

    /// These workers get no sockets from here from now on.
    #[cfg_attr(not(feature = "cluster"), expect(dead_code, reason = "a run is on one host"))]
    pub(crate) fn set_elsewhere(&mut self, workers: BTreeSet<u32>) {
        self.elsewhere = workers;
    }

    /// The reactors that a link between two workers joins, the lower one first in each.
    #[cfg_attr(not(feature = "cluster"), expect(dead_code, reason = "a run is on one host"))]
    pub(crate) fn reactors_between(&self, one: u32, other: u32) -> Vec<(u32, u32)> {
        let between = self.pairs.iter().filter(|pair| [(one, other), (other, one)].contains(&pair.workers));
        between.map(|pair| pair.reactors).collect()
    }

    /// A worker is dead: what waits at the other side of its sockets will not be used.
    pub(crate) fn end(&mut self, worker: u32) {
        for (held, pair) in self.held.iter_mut().zip(&self.pairs) {
            held.take_if(|_| pair.workers.0 == worker || pair.workers.1 == worker);
        }
    }

    /// New sockets between two workers that are both there: the ends of the one and of the other.
    pub(crate) fn between(&self, one: u32, other: u32) -> io::Result<(Ends, Ends)> {
        let (mut ones, mut others): (Ends, Ends) = Default::default();
        for SocketPair { reactors, workers } in &self.pairs {
            if [(one, other), (other, one)].contains(workers) {
                let (ours, theirs) = self.pair()?;
                ones.push((*reactors, ours));
                others.push((*reactors, theirs));
            }
        }
        Ok((ones, others))
    }
}

/// What one message carries of them: the reactors in it, the sockets beside it.
pub(crate) type Part = (Vec<(u32, u32)>, Vec<OwnedFd>);

/// Cuts ends into parts that fit one message each.
pub(crate) fn parts(ends: Ends) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut ends = ends.into_iter().peekable();
    while ends.peek().is_some() {
        parts.push(ends.by_ref().take(FDS_MAX).unzip());
    }
    parts
}

/// The numbers by which the kernel tells sockets apart, as `/proc/PID/fd` shows them.
pub(crate) fn inodes(ends: &Ends) -> Vec<u64> {
    ends.iter().filter_map(|(_, fd)| rustix::fs::fstat(fd).ok()).map(|stat| stat.st_ino).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn pair(reactors: (u32, u32), workers: (u32, u32)) -> SocketPair {
        SocketPair { reactors, workers }
    }

    fn names(ends: &Ends) -> Vec<(u32, u32)> {
        ends.iter().map(|(reactors, _)| *reactors).collect()
    }

    fn assert_joined(one: OwnedFd, other: OwnedFd) {
        std::fs::File::from(one).write_all(b"x").expect("the other end is open");
        let mut byte = [0];
        std::fs::File::from(other).read_exact(&mut byte).expect("they are joined");
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn both_ends_of_a_pair_go_to_their_workers_and_are_joined() {
        for family in [Family::Unix, Family::Tcp] {
            let pairs = [pair((0, 2), (0, 1)), pair((1, 2), (0, 1)), pair((2, 3), (1, 2))];
            let mut sockets = Sockets::new(&pairs, family).expect("there are descriptors");
            // At the start nobody is there: what is for the others waits.
            let mut ends = [0, 1, 2].map(|worker| sockets.begin(worker, |_| false).expect("descriptors"));
            assert!(ends.iter().all(|(_, others)| others.is_empty()));
            let named = ends.each_ref().map(|(own, _)| names(own));
            assert_eq!(named, [vec![(0, 2), (1, 2)], vec![(0, 2), (1, 2), (2, 3)], vec![(2, 3)]]);
            let last_of_1 = ends[1].0.pop().expect("three ends").1;
            let only_of_2 = ends[2].0.pop().expect("one end").1;
            assert_joined(last_of_1, only_of_2);
        }
    }

    #[test]
    fn a_worker_that_comes_back_gets_new_sockets_to_those_that_are_there_and_to_those_to_come() {
        let pairs = [pair((0, 1), (0, 1)), pair((0, 2), (0, 2)), pair((1, 2), (1, 2))];
        let mut sockets = Sockets::new(&pairs, Family::Unix).expect("there are descriptors");
        drop([0, 1, 2].map(|worker| sockets.begin(worker, |_| false).expect("descriptors")));
        // Workers 1 and 2 die; 1 comes back first.
        sockets.end(1);
        sockets.end(2);
        let (mut own, mut others) = sockets.begin(1, |w| w == 0).expect("descriptors");
        assert_eq!((names(&own), others.len(), others[0].0), (vec![(0, 1), (1, 2)], 1, 0));
        assert_joined(own.remove(0).1, others.remove(0).1.remove(0).1);
        let (mut twos, others) = sockets.begin(2, |w| w < 2).expect("descriptors");
        assert_eq!(others.iter().map(|(w, _)| *w).collect::<Vec<_>>(), [0], "the end for 1 was waiting for 2");
        assert_joined(own.remove(0).1, twos.remove(1).1);
        // 2 dies before it was there: what waited for it from 1 is of no use once 1 has died too.
        sockets.end(2);
        drop(sockets.begin(1, |w| w == 0));
        sockets.end(1);
        let (_, others) = sockets.begin(2, |w| w == 0).expect("descriptors");
        assert_eq!(others.len(), 1);
        let (_, others) = sockets.begin(1, |w| w == 0).expect("descriptors");
        assert_eq!(others.len(), 1, "2 has made the socket to 1");
    }

    #[test]
    fn many_sockets_travel_in_several_messages() {
        let pairs: Vec<_> = (0..FDS_MAX as u32 + 1).map(|i| pair((i, 1000 + i), (0, 1))).collect();
        let mut sockets = Sockets::new(&pairs, Family::Unix).expect("there are descriptors");
        let (own, _) = sockets.begin(1, |_| false).expect("there are descriptors");
        let sizes: Vec<_> = parts(own).iter().map(|(_, fds)| fds.len()).collect();
        assert_eq!(sizes, [FDS_MAX, 1]);
    }
}
