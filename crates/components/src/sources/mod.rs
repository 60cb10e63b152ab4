//! Spouts of rows.

mod generator;
mod interval;
mod random;

use crate::registry::Described;

pub use generator::{Generator, Keys};
pub use interval::Interval;

pub(crate) fn described() -> Vec<Described> {
    vec![generator::described(), interval::described()]
}
