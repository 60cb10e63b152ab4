//! What is sent when: pure values of a seed and a position, without a clock.

pub mod arrival;
pub mod body;
pub mod capture;
pub mod dist;
pub mod rng;
pub mod size;
pub mod trace;
pub mod units;
pub mod yaml;
