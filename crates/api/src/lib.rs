//! What topology authors write against: tuples, spouts, bolts, streams, the builder and the test harness.
//!
//! ```
//! # extern crate squall_api as squall;
//! use squall::prelude::*;
//!
//! #[derive(Tuple)]
//! struct Line { text: String }
//! #[derive(Tuple)]
//! struct Word { word: String }
//!
//! struct Split;
//! impl Bolt for Split {
//!     type In = Line;
//!     type Out = Stream<Word>;
//!     fn execute(&mut self, line: Input<'_, Line>, out: &mut Stream<Word>) -> Result<(), BoltError> {
//!         for word in line.text.split_whitespace() {
//!             out.emit(WordRef { word });
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let mut bolt = squall::testing::BoltHarness::new(|| Split);
//! bolt.send(Line { text: "to be or not to be".into() });
//! assert_eq!(bolt.outputs::<Word>("default").len(), 6);
//! ```
//!
//! Everything a component does happens on the one thread of its reactor (or of its side thread): no locks, no `Send`
//! bound on components. Only what makes them, the factories, crosses threads.
//!
//! Deliberately absent: anything that runs a topology for real (crate `squall`), and any component (crate
//! `squall-components`).
#![forbid(unsafe_code)]

// Lets the derives, whose code says `::squall::…`, work in this crate's own tests.
extern crate self as squall;

mod async_bolt;
mod bolt;
mod builder;
mod cohort;
mod component;
mod context;
mod error;
mod func;
mod input;
mod letter;
mod replay;
mod spout;
mod stream;
pub mod testing;

#[doc(hidden)]
pub mod __rt {
    //! For macro-generated code only.
    pub use squall_tuple as tuple;
    pub use squall_tuple::rkyv;
}

pub use async_bolt::{AsyncBolt, AsyncOptions, Calls};
pub use builder::{BoltDecl, BuildError, Built, SpoutDecl, StreamHandle, Sub, Topology};
pub use component::{Bolt, Failure, Next, Spout, TaskHook, Time};
pub use context::{Clock, Context, Logger, Results, Waker};
pub use error::{BoltError, Cause, SpoutError};
pub use input::{Accepts, Input, InputPort, Inputs, PortDef};
pub use letter::DeadLetter;
pub use replay::{Replay, ReplayLimits};
pub use squall_engine::{Anchor, FailKind, Finish, Level, MessageId, Port, ResultsFull, Way};
pub use squall_macros::{Inputs, Outputs, Tuple};
pub use squall_metrics::{Counter, Gauge, SharedHistogram};
pub use squall_topology::{CustomGrouping, Placement, RouteKey, TopologyConfig};
pub use squall_tuple::ids::TaskId;
pub use squall_tuple::rkyv::util::AlignedVec;
pub use squall_tuple::value::{ArchivedRow, ArchivedValue};
pub use squall_tuple::{Emit, Field, Key, MarkKind, MarkRecord, Row, RowRef, Tuple, TupleRef, Value, ValueRef};
pub use squall_tuple::{hash_key, hash_keys};
pub use stream::{DirectStream, OutputStream, Outputs, OutputsBuilder, OutputsDecl, RowStream, RowStreams, Stream};

/// What most topologies import.
pub mod prelude {
    pub use crate::{
        Anchor, Bolt, BoltError, Context, DirectStream, Emit, Failure, Finish, Input, Inputs, MessageId, Next, Outputs,
        Placement, Spout, SpoutError, Stream, StreamHandle, Topology, Tuple, TupleRef,
    };
}
