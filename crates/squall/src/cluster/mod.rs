//! Topologies in a cluster: workers that a supervisor leads, and the daemons and commands around them.
//!
//! `talk` is what supervisor and worker say, `seat` the worker's side; every program has them. With feature `cluster` come the drivers of
//! [`squall_control`]'s values (`node` for a supervisor, `nimbus`), what they are for each other where they are not one process (`remote`, `link`), what
//! nimbus remembers for people (`history`), ZooKeeper instead of one's own coordinator (`agree`), a nimbus that stands by (`standby`), the HTTP interface (`api`, `pages`), the daemons (`daemons`), and the commands that speak to them
//! (`client`, `submit`, `verbs`, `operate`, `output`).
//!
//! Each daemon is one task on one thread of tokio; none of them ever touches a tuple.

pub(crate) mod seat;
pub(crate) mod talk;

#[cfg(feature = "cluster")]
mod agree;
#[cfg(feature = "cluster")]
mod api;
#[cfg(feature = "cluster")]
mod client;
#[cfg(feature = "cluster")]
mod common;
#[cfg(feature = "cluster")]
mod daemons;
#[cfg(feature = "cluster")]
mod history;
#[cfg(feature = "cluster")]
mod link;
#[cfg(feature = "cluster")]
mod nimbus;
#[cfg(feature = "cluster")]
mod node;
#[cfg(feature = "cluster")]
mod operate;
#[cfg(feature = "cluster")]
mod output;
#[cfg(feature = "cluster")]
mod pages;
#[cfg(feature = "cluster")]
mod remote;
#[cfg(feature = "cluster")]
mod standby;
#[cfg(feature = "cluster")]
mod submit;
#[cfg(feature = "cluster")]
mod verbs;

#[cfg(feature = "cluster")]
pub(crate) use common::{Arguments, BlobSource, Kind, Log, NimbusLink, NodeStats, TopologyStats, WorkerRow};
#[cfg(feature = "cluster")]
pub(crate) use daemons::{DevCommand, NimbusCommand, SupervisorCommand, dev, nimbus as run_nimbus, supervisor};
#[cfg(feature = "cluster")]
pub(crate) use verbs::{ClusterCommand, VERBS, cluster, exit_codes};
