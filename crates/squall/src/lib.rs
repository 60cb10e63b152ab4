//! Squall: stream topologies of spouts and bolts as a microsecond dataplane.
//!
//! This crate is what an author depends on: it re-exports the API (`squall_api`) and the stock [`components`], and makes
//! a program of a topology ([`main!`], [`App`]): the same binary plans, runs and works.
//!
//! ```no_run
//! use squall::prelude::*;
//!
//! #[derive(Tuple)]
//! struct Word {
//!     word: String,
//! }
//! # struct Words;
//! # impl Spout for Words {
//! #     type Out = Stream<Word>;
//! #     fn next(&mut self, _: &mut Stream<Word>) -> Result<Next, SpoutError> { Ok(Next::End) }
//! # }
//!
//! #[derive(Default)]
//! struct Count(std::collections::HashMap<String, u64>);
//! impl Bolt for Count {
//!     type In = Word;
//!     type Out = ();
//!     fn execute(&mut self, input: Input<'_, Word>, _: &mut ()) -> Result<(), BoltError> {
//!         *self.0.entry(input.word.to_string()).or_default() += 1;
//!         Ok(())
//!     }
//! }
//!
//! fn topology(t: &mut Topology) {
//!     let words = t.spout("words", || Words).streams();
//!     t.bolt("count", Count::default).tasks(2).on(words.fields([Word::WORD]));
//! }
//! squall::main!(topology);
//! ```
//!
//! A run is a parent process and its workers on one machine. Invariants: no worker outlives the parent; the parent
//! never waits for a worker without a deadline; the exit code is 0 only if everything read was processed.
//!
//! In a cluster the same binary is submitted, and its workers are led by the supervisors of their nodes (`cluster`).
#![forbid(unsafe_code)]

mod app;
mod cli;
mod cluster;
#[cfg(doctest)]
mod docs;
mod plan_cmd;
mod report;
mod run;
#[cfg(feature = "yaml")]
mod stock;
mod svg;

#[doc(hidden)]
pub use squall_api::__rt;
pub use squall_api::*;
pub use squall_components as components;
pub use squall_load as load;

pub use app::{App, BoxError, Declared, NoArgs};
pub use report::{Sections, Verdict};
pub use run::control::ResultRow;
pub use run::error::RunError;
pub use run::outcome::{Outcome, Rows};
#[cfg(feature = "yaml")]
pub use squall_yaml as yaml;
#[cfg(feature = "yaml")]
#[doc(hidden)]
pub use stock::{main as stock_main, reference as stock_reference};
