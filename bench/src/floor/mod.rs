//! The floors: for each scenario the plainest program that does the job, without batches, groupings, credit, counters
//! or types. They are fixed: a floor that gets slower makes Squall look better. What they should reach is in
//! [`crate::facts`].

mod idle;
mod local;
mod lowrate;
mod process;
mod recovery;
mod ring;
mod shm;
mod sockets;
mod uring;
mod words;

use crate::error::BenchError;
use crate::machine::Machine;
use crate::measure::{Outcome, Settings};
use crate::payload::with_words;
use crate::scenario::{Link, Row, Scenario};
use crate::squall_side;

pub(crate) use process::peer_main;
pub(crate) use recovery::doze_main;
pub(crate) use words::count_words;

/// One round of the floor of a row.
pub(crate) fn run(row: &Row, settings: &Settings, machine: &Machine) -> Result<Outcome, BenchError> {
    let core = || machine.cores.first().copied().ok_or(BenchError::Cores(0));
    let pair = || crate::machine::pair(machine);
    if let Some(unacked) = row.unacked() {
        return squall_side::run(&unacked, settings, machine);
    }
    match (row.scenario, row.link) {
        (Scenario::Rtt(_), Link::Local) => with_words!(row.size, rtt_local(settings, core()?)),
        (Scenario::Rtt(_), Link::Ring) => with_words!(row.size, rtt_ring(settings, pair()?)),
        (Scenario::Rtt(_), Link::Shm) => with_words!(row.size, rtt_shm(row, settings, pair()?)),
        (Scenario::Rtt(_), Link::Uds | Link::Tcp) => sockets::rtt(row, settings, pair()?),

        (Scenario::ConstNull, Link::Local) => with_words!(row.size, stream_local(settings, core()?)),
        (Scenario::ConstNull, Link::Ring) => with_words!(row.size, stream_ring(settings, pair()?, 1)),
        (Scenario::ConstNull, Link::Shm) => with_words!(row.size, stream_shm(row, settings, pair()?)),
        (Scenario::ConstNull | Scenario::SmallBatches, _) => sockets::stream(row, settings, pair()?),

        (Scenario::ConstIdNull, Link::Local) => with_words!(row.size, relay_local(settings, core()?)),
        (Scenario::ConstIdNull, Link::Ring) => with_words!(row.size, relay_ring(settings, pair()?)),
        (Scenario::ConstIdNull, Link::Shm) => with_words!(row.size, relay_shm(row, settings, pair()?)),
        (Scenario::ConstIdNull, _) => sockets::there_and_back(row, settings, pair()?),

        (Scenario::FanoutAll, _) => with_words!(row.size, stream_ring(settings, pair()?, squall_side::FANOUT_TASKS)),
        (Scenario::Idle, _) => idle::run(settings, pair()?),
        (Scenario::LowRate, _) => lowrate::run(settings, core()?),
        // Not a program of its own: the same topology where every reactor has a core.
        (Scenario::Oversubscribed, _) => squall_side::run_undersubscribed(row, settings, machine),
        (Scenario::Filter, _) => with_words!(row.size, stream_local(settings, core()?)),
        (Scenario::WordCount, _) => words::run(machine, &squall_side::words::text(settings.text_bytes)),
        (Scenario::Recovery(fault), _) => recovery::run(fault),
        (Scenario::WordCount50kAcked, _) => squall_side::run_unacked(row, settings, machine),
        (Scenario::ConstNullAcked | Scenario::ConstIdNullAcked | Scenario::RttAcked | Scenario::WordCountAcked, _) => {
            unreachable!("their floor is the row without acks")
        }
    }
}

use local::{relay as relay_local, rtt as rtt_local, stream as stream_local};
use ring::{relay as relay_ring, rtt as rtt_ring, stream as stream_ring};
use shm::{rtt as rtt_shm, stream as stream_shm, there_and_back as relay_shm};
