//! Topologies as plain values: what an author declared ([`TopologySpec`]), where it runs ([`Plan`]), which target task a
//! tuple goes to ([`Router`]), and how all of that is shown to people ([`render`]).
//!
//! Everything here is a pure function of its arguments. There is no I/O, no clock, no closure and no global state; the
//! one source of randomness is a seed the caller passes to a router. So every worker computes the same plan from the
//! same arguments, a simulator replays it, and a difference can be named ([`Plan::first_difference`]).
//!
//! Limits: [`MAX_TASKS`] tasks, [`MAX_REACTORS`] reactors and [`MAX_KEY_GROUPS`] key groups per topology.
//!
//! Deliberately absent: code of components (the engine keeps factories by component index), ackers and system streams
//! (acks travel on links, design D5), and clusters of several machines (a plan places workers on one [`Machine`]).
//!
//! ```
//! use squall_topology::*;
//!
//! let schema = SchemaSpec { name: "Line".into(), fields: vec![("text".into(), "String".into())], id: 1, dynamic: false };
//! let spec = TopologySpec {
//!     name: "count-lines".into(),
//!     components: vec![ComponentSpec::spout("lines"), ComponentSpec { tasks: 4, executors: 2, ..ComponentSpec::bolt("count") }],
//!     streams: vec![StreamSpec { component: 0, name: "default".into(), schema, direct: false }],
//!     subscriptions: vec![SubscriptionSpec { stream: 0, to: 1, port: 0, grouping: Grouping::Shuffle, feedback: false }],
//!     config: TopologyConfig::default(),
//! };
//! let plan = Plan::new(spec, &Machine { cores: vec![0, 1] }).unwrap();
//! assert_eq!(plan.tasks_of(1), 1..5);
//! println!("{}", render::text(&plan));
//! ```
#![forbid(unsafe_code)]

pub mod canonical;
pub mod error;
mod graph;
pub mod memory;
mod place;
pub mod plan;
pub mod render;
pub mod rng;
pub mod router;
pub mod spec;
mod validate;

pub use error::TopologyError;
pub use memory::{MemoryPlan, MemoryUse};
pub use plan::{
    Cohort, ExecutorIx, ExecutorPlan, InboxIx, InboxPlan, LinkIx, LinkKind, LinkPlan, Machine, Plan, ReactorPlan, Seat,
    SetIx, SubscriptionIx, TaskPlan, TaskSet, WorkerPlan,
};
pub use router::{CustomGrouping, Pick, RouteKey, Router, Target};
pub use spec::{
    ComponentKind, ComponentSpec, Grouping, Placement, SchemaSpec, ShmUse, StreamSpec, SubscriptionSpec,
    TopologyConfig, TopologySpec, UnknownShmUse,
};
pub use spec::{DEAD_LETTERS, LEDGER_SLOT_BYTES, MAX_KEY_GROUPS, MAX_REACTORS, MAX_SPOUT_PENDING, MAX_TASKS};
