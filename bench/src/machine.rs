//! What a figure must carry with it, and the two cores of a row.

use crate::error::BenchError;

pub(crate) use squall_machine::{Machine, load, pin};

/// The machine of this run.
pub(crate) fn look() -> Machine {
    Machine::look(env!("CARGO_MANIFEST_DIR"))
}

/// The two cores of a row.
pub(crate) fn pair(machine: &Machine) -> Result<[usize; 2], BenchError> {
    match machine.cores[..] {
        [a, b, ..] => Ok([a, b]),
        _ => Err(BenchError::Cores(machine.cores.len())),
    }
}
