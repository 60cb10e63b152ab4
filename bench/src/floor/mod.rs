//! The floors: for each scenario the plainest program that does the job, without batches, groupings, credit, counters
//! or types. They are fixed: a floor that gets slower makes Squall look better.

mod local;
mod ring;
mod sockets;
mod uring;
mod words;

use crate::error::BenchError;
use crate::machine::Machine;
use crate::measure::{Outcome, Settings};
use crate::payload::with_words;
use crate::scenario::{Link, Row, Scenario};

pub(crate) use sockets::peer_main;
pub(crate) use words::count_words;

/// One round of the floor of a row.
pub(crate) fn run(row: &Row, settings: &Settings, machine: &Machine) -> Result<Outcome, BenchError> {
    match (row.scenario, row.link) {
        (Scenario::WordCount, _) => words::run(machine, &crate::squall_side::words::text(settings.text_bytes)),
        (_, Link::Local) => {
            let core = *machine.cores.first().ok_or(BenchError::Cores(0))?;
            let rtt = matches!(row.scenario, Scenario::Rtt(_));
            if rtt {
                with_words!(row.size, rtt_local(settings, core))
            } else {
                with_words!(row.size, stream_local(settings, core))
            }
        }
        (Scenario::Rtt(_), Link::Ring) => with_words!(row.size, rtt_ring(settings, machine.pair()?)),
        (Scenario::ConstNull, Link::Ring) => with_words!(row.size, stream_ring(settings, machine.pair()?)),
        (Scenario::Rtt(_), Link::Uds | Link::Tcp) => sockets::rtt(row, settings, machine.pair()?),
        (Scenario::ConstNull, Link::Uds | Link::Tcp) => sockets::stream(row, settings, machine.pair()?),
    }
}

use local::{rtt as rtt_local, stream as stream_local};
use ring::{rtt as rtt_ring, stream as stream_ring};
