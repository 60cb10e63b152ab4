//! A seeded simulator of the control plane: nimbuses, supervisors, a coordinator, workers as processes, and the network between them.
//!
//! One thread and virtual time. The values of `squall-control` and the rules of `squall-coordinator` run as they are; drivers, processes,
//! disks and the network are replaced. A run has two phases. First everything may fail: processes crash at any step and start again, hosts
//! lose power, the coordinator restarts or is away, links are cut (also one way only), requests and answers are lost, clocks run at different speeds.
//! Then the faults stop, and within [`Options::heal`] all has to be well.
//!
//! Checked at every step: no incarnation of a worker is started twice, a slot never has two processes and is never
//! assigned twice, a commit of a leader happens
//! only within the epoch of that leader, and of nimbuses that think they lead one at most has the epoch that is current. Checked at the end: one leader; every submission
//! and kill that was answered is kept; every active topology is assigned whole and runs, each executor in one current worker.
//!
//! `SQUALL_CLUSTER_SEED=17 cargo test -p squall-sim --test cluster` replays one seed, `SQUALL_CLUSTER_SEEDS=100000` runs that many.
//!
//! Deliberately absent: the content of blobs, tuples, and damage of disks.

mod check;
mod client;
mod drivers;
mod faults;
mod host;
mod link;
mod sessions;
mod world;

use std::time::Duration;

use crate::dice::Dice;

pub use world::{Report, World};

/// What can happen in a run, and how often. Drawn from the seed, so that seeds differ in kind.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nimbuses.
    pub nimbuses: usize,
    /// Hosts, each with a supervisor.
    pub hosts: usize,
    /// Slots of each host.
    pub slots: u16,
    /// Requests of clients.
    pub requests: u32,
    /// How long faults last.
    pub faults: Duration,
    /// How long everything may take to be well again.
    pub heal: Duration,
    /// Mean time between faults. `None`: there are none.
    pub fault_every: Option<Duration>,
    /// Requests and reports that are lost, in percent.
    pub loss: u32,
    /// The longest way of a message.
    pub delay: Duration,
    /// Clocks run up to this many percent too fast or too slow.
    pub skew: u32,
    /// Session timeout.
    pub session: Duration,
}

impl Options {
    /// Options for a seed.
    pub fn draw(seed: u64) -> Options {
        let mut dice = Dice::new(seed, 1);
        let millis = Duration::from_millis;
        Options {
            nimbuses: dice.between(1, 3) as usize,
            hosts: dice.between(1, 5) as usize,
            slots: dice.between(1, 4) as u16,
            requests: dice.between(1, 25),
            faults: millis(dice.between_u64(5_000, 60_000)),
            // Backoff of a worker that died often (30 s), a kill's wait (10 s), grace and session, and their sum again for what had to wait.
            heal: millis(120_000),
            fault_every: Some(millis(dice.between_u64(300, 8_000))),
            loss: dice.pick(&[0, 0, 5, 30]),
            delay: millis(dice.pick(&[1, 10, 100])),
            skew: dice.pick(&[0, 5, 20]),
            session: millis(2_000),
        }
    }
}

/// Runs a seed.
///
/// # Errors
/// What is wrong, when, and how to replay it.
pub fn run_seed(seed: u64) -> Result<Report, String> {
    let options = Options::draw(seed);
    let mut world = World::new(seed, options.clone());
    world.run().map_err(|failure| {
        format!(
            "seed {seed} failed at {:?}: {failure}\n{options:?}\nlast events:\n{}\n\
             replay: SQUALL_CLUSTER_SEED={seed} cargo test -p squall-sim --test cluster",
            world.now(),
            world.last_events()
        )
    })
}
