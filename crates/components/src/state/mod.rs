//! Bolts that remember: aggregates by key.

mod aggregate;
mod describe;
mod distinct;
mod key;
mod keyed;
mod top;

pub use aggregate::Aggregate;
pub(crate) use describe::described;
pub use keyed::{Emitted, Keyed, TopK};
