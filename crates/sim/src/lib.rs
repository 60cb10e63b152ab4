//! A seeded simulator of whole topologies: one thread, virtual time, any legal order of events.
//!
//! From one `u64` comes a [`Scenario`] (a topology, scripts for its components, limits, a schedule); [`run()`] runs it on
//! the engine's own logic and checks what design §4 promises: the run ends; every tuple reaches each task that its
//! grouping chose exactly once and in order (D1); nothing beyond the credit is under way (D2); what feedback edges drop
//! is counted (D3); every root is acknowledged or failed once, and rightly (D4); `finish` follows the marks of all inputs;
//! counts are exact (D10). A failing seed replays exactly:
//! `SQUALL_SIM_SEED=17 cargo test -p squall-sim --test seeds` runs one, `SQUALL_SIM_SEEDS=100000` runs that many,
//! `SQUALL_SIM_SECS=60` as many as fit in that time.
//!
//! What is legal: batches of one link arrive in order, those of different links in any order and any time later; credit
//! comes back late; a reactor may be slow; spouts begin and stop reactor by reactor. Links and clock are replaced;
//! everything above them, from the builder to the batches, is what runs in production.
//!
//! Workers that die and come again have a simulation of their own ([`run_crashes`]), where tuples may be lost and emitted again.
//! [`cluster`] does the same for the control plane: nimbuses, supervisors, a coordinator and their network under crashes, partitions,
//! lost messages and skewed clocks.
//!
//! Deliberately absent: threads and their memory order (crate `squall-ring` has models for loom), and sockets.
#![forbid(unsafe_code)]

// Lets the derives, whose code says `::squall::…`, find their crate.
extern crate squall_api as squall;

mod bolt;
mod check;
pub mod cluster;
mod crash;
mod dice;
mod draw;
mod grouping;
mod links;
mod outputs;
mod rig;
mod run;
pub mod scenario;
mod shrink;
mod spout;
mod sweep;
mod topology;
mod tuples;
mod world;

pub use crash::{CrashReport, run_crashes};
pub use dice::Dice;
pub use run::{Failure, Report, run};
pub use scenario::Scenario;
pub use shrink::{Smaller, shrink};
pub use sweep::{FailedSeed, sweep};
pub use world::RootCounts;

/// Runs the scenario of a seed; on failure also looks for a smaller one that fails.
///
/// # Errors
/// What to print: the failure, how to replay it, the smallest scenario that fails alike.
pub fn run_seed(seed: u64) -> Result<Report, String> {
    let scenario = Scenario::draw(seed);
    run(&scenario).map_err(|failure| {
        let smaller = shrink(&scenario, &failure);
        format!(
            "seed {seed} failed ({}): {failure}\nreplay: SQUALL_SIM_SEED={seed} cargo test -p squall-sim --test seeds\n\
             {smaller}",
            failure.kind
        )
    })
}
