//! The ends of topologies.

mod shown;
mod typed;

use crate::registry::Described;

pub use shown::{LogRows, NullRows, PrintRows};
pub use typed::{Null, Print};

pub(crate) fn described() -> Vec<Described> {
    shown::described()
}
