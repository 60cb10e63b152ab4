//! Bolts that remember: aggregates by key and window, duplicates, batches, rates.

mod aggregate;
mod dedup;
mod describe;
mod describe_flow;
mod distinct;
mod flow;
mod key;
mod keyed;
mod top;
mod window;

pub use aggregate::Aggregate;
pub use dedup::Dedup;
pub(crate) use describe::described;
pub use flow::{Batch, Beyond, RateLimit};
pub(crate) use key::write_key;
pub(crate) use keyed::distinct_names;
pub use keyed::{Emitted, Keyed, TopK};
pub use window::{Window, Windows};
