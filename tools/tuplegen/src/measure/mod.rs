//! One run and what is made of it.

pub mod account;
pub mod clock;
pub mod compare;
pub mod drive;
pub mod knee;
pub mod latency;
#[cfg(test)]
pub(crate) mod sim;
pub mod slo;
pub mod totals;
pub mod verdict;
