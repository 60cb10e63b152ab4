//! What the author of a topology declared, as data: components, streams, subscriptions, sizes.
//!
//! A spec comes from the Rust builder or from a YAML file and says nothing about machines; [`crate::Plan::new`] adds the
//! placement. Indices are positions in the spec's own lists. A spec may be wrong in any way (it is plain data);
//! [`TopologySpec::validate`] finds every fault it can in one go.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use squall_tuple::ids::{ComponentIx, StreamIx};

/// Tasks in one topology, at most. A root id has 24 bits for its spout task; this stays well inside them and keeps the
/// tables of a plan (a few words a task) small.
pub const MAX_TASKS: u32 = 1 << 20;

/// Reactors (threads) in one topology, at most. Links, and the text that is hashed to compare plans, grow with the square
/// of this: about a million links.
pub const MAX_REACTORS: u32 = 1024;

/// Key groups in one topology, at most. Up to here a router maps group to task by one multiplication that is exact
/// (see `router`), and a table by key group stays small.
pub const MAX_KEY_GROUPS: u32 = 1 << 16;

/// Roots that one spout task may have pending, at most: a root's slot has 24 bits.
pub const MAX_SPOUT_PENDING: u32 = 1 << 22;

/// A topology as declared: a graph of components connected by streams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopologySpec {
    /// Name of the topology: letters, digits, `_`, `-` and `.`, at most 128 bytes.
    pub name: String,
    /// Spouts and bolts. The position is the component's index.
    pub components: Vec<ComponentSpec>,
    /// Output streams of all components. The position is the stream's index, as batches carry it.
    pub streams: Vec<StreamSpec>,
    /// Who reads which stream, and how its tuples are dealt to tasks.
    pub subscriptions: Vec<SubscriptionSpec>,
    /// Sizes and counts of the whole topology.
    #[serde(default)]
    pub config: TopologyConfig,
}

/// Whether a component reads streams or makes them from the outside world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentKind {
    /// A source of tuples. Takes no input.
    Spout,
    /// Reads at least one stream.
    Bolt,
}

/// Where the executors of a component run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// On a reactor, pinned to a core and shared with other executors. Must never block.
    #[default]
    Reactor,
    /// Alone on an unpinned thread of its own, which may block (stdin, files, databases).
    SideThread,
}

/// One spout or bolt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentSpec {
    /// Name, unique in the topology: letters, digits, `_`, `-` and `.`, at most 128 bytes, not beginning with `__`.
    pub name: String,
    /// Spout or bolt.
    pub kind: ComponentKind,
    /// Number of tasks, at least 1, fixed for the life of the topology.
    #[serde(default = "one")]
    pub tasks: u32,
    /// Number of executors, 1 to `tasks`. Each runs a contiguous share of the tasks.
    #[serde(default = "one")]
    pub executors: u32,
    /// Where the executors run. Default: on reactors.
    #[serde(default)]
    pub placement: Placement,
    /// Period of `tick` in milliseconds, at least 1. `None` (default): no ticks.
    #[serde(default)]
    pub tick_ms: Option<u64>,
    /// The component's own settings, read by `Context::config`.
    #[serde(default)]
    pub config: BTreeMap<String, serde_json::Value>,
    /// Bytes one executor may emit in one call beyond the room of its outputs before it is paused. Default 8 MiB; at
    /// least one batch.
    #[serde(default = "default_burst_bytes")]
    pub burst_bytes: u64,
    /// Milliseconds after which one call that does not return costs its worker its life (it is replaced); 0: never. Side threads are exempt.
    /// Default 30,000; at least 1,000, since a call is noticed no earlier.
    #[serde(default = "default_execute_timeout_ms")]
    pub execute_timeout_ms: u64,
    /// Of a spout: it emits what has failed again until it is acknowledged, also after the death of its own worker (D4). What
    /// the author of the spout says of it; `plan` shows it, and a run does not fail because of its failed roots.
    #[serde(default)]
    pub reliable: bool,
}

/// Default of [`ComponentSpec::execute_timeout_ms`]: half a minute.
pub const DEFAULT_EXECUTE_TIMEOUT_MS: u64 = 30_000;

fn default_execute_timeout_ms() -> u64 {
    DEFAULT_EXECUTE_TIMEOUT_MS
}

/// Default of [`ComponentSpec::burst_bytes`]: 8 MiB.
pub const DEFAULT_BURST_BYTES: u64 = 8 << 20;

fn one() -> u32 {
    1
}

fn default_burst_bytes() -> u64 {
    DEFAULT_BURST_BYTES
}

impl ComponentSpec {
    /// A spout with one task, one executor and every setting at its default.
    pub fn spout(name: impl Into<String>) -> ComponentSpec {
        ComponentSpec::new(name.into(), ComponentKind::Spout)
    }

    /// A bolt with one task, one executor and every setting at its default.
    pub fn bolt(name: impl Into<String>) -> ComponentSpec {
        ComponentSpec::new(name.into(), ComponentKind::Bolt)
    }

    fn new(name: String, kind: ComponentKind) -> ComponentSpec {
        ComponentSpec {
            name,
            kind,
            tasks: 1,
            executors: 1,
            placement: Placement::Reactor,
            tick_ms: None,
            config: BTreeMap::new(),
            burst_bytes: DEFAULT_BURST_BYTES,
            execute_timeout_ms: DEFAULT_EXECUTE_TIMEOUT_MS,
            reliable: false,
        }
    }
}

/// A named, unbounded sequence of tuples of one schema, made by one component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// The component that emits it.
    pub component: ComponentIx,
    /// Name, unique among the streams of the component (Storm's usual one is `default`).
    pub name: String,
    /// Names and types of its fields.
    pub schema: SchemaSpec,
    /// The emitter names the target task of each tuple. Read with [`Grouping::Direct`] only.
    #[serde(default)]
    pub direct: bool,
}

/// Names and types of a tuple's fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaSpec {
    /// Name of the tuple type.
    pub name: String,
    /// Field names and types in order. Fields groupings name a field by its position here.
    pub fields: Vec<(String, String)>,
    /// Hash of name and fields, as batches carry it (`schema_id`). In JSON a string `0x…`, because readers of JSON round
    /// numbers beyond 2^53.
    #[serde(with = "hex_u64")]
    pub id: u64,
    /// Tuples are rows of values with their types at run time.
    #[serde(default)]
    pub dynamic: bool,
}

/// A component reads a stream.
///
/// A delivered tuple carries its stream and its task, nothing else; so a component reads a stream at most once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionSpec {
    /// The stream that is read.
    pub stream: StreamIx,
    /// The bolt that reads it.
    pub to: ComponentIx,
    /// The input port of the bolt (the variant of its input type). Several streams of one schema may share a port.
    #[serde(default)]
    pub port: u16,
    /// Rule from tuple to target tasks.
    pub grouping: Grouping,
    /// The subscription closes a cycle. It has its own budget and fails tuples rather than block, and the end of the
    /// topology does not wait for it.
    #[serde(default)]
    pub feedback: bool,
}

/// Rule from a tuple to the target tasks of one subscriber (Storm's groupings).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// Each sender deals its tuples to all tasks in turn, in a random order fixed at start: counts differ by at most 1.
    Shuffle,
    /// As Storm's default shuffle: prefers tasks of the same worker while they are not busy, and lightly loaded ones.
    LoadAwareShuffle,
    /// Shuffle over the tasks of the sender's worker if it has any, else over all. Where senders and receivers are spread
    /// over the worker's reactors alike, over those of the sender's reactor: as even, and nothing crosses a ring.
    LocalOrShuffle,
    /// Equal values of these fields go to the same task.
    Fields(Vec<u16>),
    /// Equal values of these fields go to one of two tasks, whichever this sender has sent less to.
    PartialKey(Vec<u16>),
    /// Every task gets every tuple.
    All,
    /// The lowest task gets every tuple.
    Global,
    /// The author does not care: today a uniformly random task, as in Storm.
    None,
    /// The emitter names the task. For direct streams only.
    Direct,
    /// A [`crate::CustomGrouping`] registered under this name.
    Custom(String),
}

/// Sizes and counts of a whole topology. Ranges are checked by [`TopologySpec::validate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopologyConfig {
    /// Worker processes. Default 1; at most the number of executors.
    pub workers: u32,
    /// Pinned reactors per worker. `None` (default): the machine's cores ÷ workers, at least 1. A worker never gets more
    /// than it has executors for them.
    pub reactors: Option<u32>,
    /// Key groups: the units in which keys are dealt to tasks. Default 1024; at most [`MAX_KEY_GROUPS`].
    pub key_groups: u32,
    /// Bytes of a batch within a worker or through shared memory. Default 16 KiB.
    pub batch_bytes: u32,
    /// Bytes of a batch between workers joined by a socket. Default 64 KiB.
    pub socket_batch_bytes: u32,
    /// Bytes one link may have in flight to one inbox. Default 256 KiB; at least one batch of either size.
    pub credit_bytes: u64,
    /// Bytes of the ring between two reactors of a worker or of two workers that share memory, each way. Default 512 KiB; at least four
    /// batches.
    pub ring_bytes: u64,
    /// Largest tuple. One that exceeds a batch travels alone. Default 16 MiB.
    pub max_tuple_bytes: u32,
    /// Whether workers of one host share memory. Default `auto`.
    pub shm: ShmUse,
    /// 0 turns acking off: what a spout emits with an id is acknowledged at once, whatever becomes of it. Anything else, and
    /// `None` (default), leaves it on: ledgers live with their spouts, so there is no number of ackers to choose.
    pub ackers: Option<u32>,
    /// A root of which nothing was heard for so many milliseconds fails. Default 30,000.
    pub message_timeout_ms: u64,
    /// A root of this age fails in any case. `None` (default): ten times the message timeout.
    pub max_root_age_ms: Option<u64>,
    /// Roots that a spout task may have pending when it is called. `None` (default): as many as `ledger_bytes` hold.
    pub max_spout_pending: Option<u32>,
    /// Memory of the pending roots of one spout task, 64 bytes each, where `max_spout_pending` does not say how many. Default
    /// 4 MiB, which is 65,536 roots.
    pub ledger_bytes: u64,
    /// Restarts of the executors that a component has on one reactor, after a panic or a fatal error, before their worker is
    /// given up. One is forgiven for each second that they run. Default 20; 0: none, the first ends the worker.
    pub executor_restarts: u32,
    /// A tuple that has ended the same executor so many times goes to the component's stream of dead letters. Default 3, at
    /// least 1.
    pub dead_letter_after: u32,
    /// The folder in which reliable spouts note how far they are (`DIR/TOPOLOGY/COMPONENT-TASK.offsets`), so that a later run of
    /// the topology goes on there. `None` (default): in their worker's memory, and a new worker begins at their start.
    pub state: Option<String>,
}

/// Default of [`TopologyConfig::executor_restarts`].
pub const DEFAULT_EXECUTOR_RESTARTS: u32 = 20;
/// Default of [`TopologyConfig::dead_letter_after`].
pub const DEFAULT_DEAD_LETTER_AFTER: u32 = 3;
/// Name of the stream of what a component could not process.
pub const DEAD_LETTERS: &str = "dead_letters";

/// Bytes that a pending root takes.
pub const LEDGER_SLOT_BYTES: u64 = 64;

impl TopologyConfig {
    /// Whether roots are tracked.
    pub fn acking(&self) -> bool {
        self.ackers != Some(0)
    }

    /// Roots that a spout task may have pending when it is called.
    pub fn max_pending(&self) -> u32 {
        let budgeted = (self.ledger_bytes / LEDGER_SLOT_BYTES).clamp(1, MAX_SPOUT_PENDING.into()) as u32;
        self.max_spout_pending.unwrap_or(budgeted)
    }

    /// Age in milliseconds at which a root fails in any case.
    pub fn max_root_age(&self) -> u64 {
        self.max_root_age_ms.unwrap_or(self.message_timeout_ms.saturating_mul(10))
    }
}

/// How workers of one host exchange batches: `auto`, `off` or `copy` in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShmUse {
    /// Through shared memory where it can be had, read in place; else through sockets, which is said. The default.
    #[default]
    Auto,
    /// Through sockets.
    Off,
    /// As `auto`, but each batch is copied before it is validated: for workers that do not trust each other.
    Copy,
}

impl fmt::Display for ShmUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ShmUse::Auto => "auto",
            ShmUse::Off => "off",
            ShmUse::Copy => "copy",
        })
    }
}

impl FromStr for ShmUse {
    type Err = UnknownShmUse;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(ShmUse::Auto),
            "off" => Ok(ShmUse::Off),
            "copy" => Ok(ShmUse::Copy),
            _ => Err(UnknownShmUse(text.to_owned())),
        }
    }
}

/// A text that names no [`ShmUse`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no use of shared memory: write auto, off or copy")]
pub struct UnknownShmUse(pub String);

impl Default for TopologyConfig {
    fn default() -> TopologyConfig {
        TopologyConfig {
            workers: 1,
            reactors: None,
            key_groups: 1024,
            batch_bytes: 16 << 10,
            socket_batch_bytes: 64 << 10,
            credit_bytes: 256 << 10,
            ring_bytes: 512 << 10,
            max_tuple_bytes: 16 << 20,
            shm: ShmUse::Auto,
            ackers: None,
            message_timeout_ms: 30_000,
            max_root_age_ms: None,
            max_spout_pending: None,
            ledger_bytes: 4 << 20,
            executor_restarts: DEFAULT_EXECUTOR_RESTARTS,
            dead_letter_after: DEFAULT_DEAD_LETTER_AFTER,
            state: None,
        }
    }
}

impl TopologySpec {
    /// Index of the component of this name.
    pub fn component(&self, name: &str) -> Option<ComponentIx> {
        self.components.iter().position(|c| c.name == name).map(|at| at as ComponentIx)
    }

    /// Name of the component that emits `stream`. Panics if the stream or its component is not in the spec.
    pub fn source_name(&self, stream: StreamIx) -> &str {
        &self.components[self.streams[stream as usize].component as usize].name
    }

    /// `component.stream`, as messages and renderings name a stream. Panics as `source_name`.
    pub fn stream_name(&self, stream: StreamIx) -> String {
        format!("{}.{}", self.source_name(stream), self.streams[stream as usize].name)
    }
}

impl Grouping {
    /// The grouping's name for people, without its fields or custom name.
    pub fn word(&self) -> &'static str {
        match self {
            Grouping::Shuffle => "shuffle",
            Grouping::LoadAwareShuffle => "load-aware shuffle",
            Grouping::LocalOrShuffle => "local-or-shuffle",
            Grouping::Fields(_) => "fields",
            Grouping::PartialKey(_) => "partial key",
            Grouping::All => "all",
            Grouping::Global => "global",
            Grouping::None => "none",
            Grouping::Direct => "direct",
            Grouping::Custom(_) => "custom",
        }
    }
}

/// `u64` as `"0x0123456789abcdef"`.
mod hex_u64 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{value:#018x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| D::Error::custom("a schema id is written 0x…"))?;
        u64::from_str_radix(digits, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_survives_json_with_every_grouping() {
        let groupings = [
            Grouping::Shuffle,
            Grouping::LoadAwareShuffle,
            Grouping::LocalOrShuffle,
            Grouping::Fields(vec![0, 2]),
            Grouping::PartialKey(vec![1]),
            Grouping::All,
            Grouping::Global,
            Grouping::None,
            Grouping::Direct,
            Grouping::Custom("by-size".into()),
        ];
        let schema =
            SchemaSpec { name: "T".into(), fields: vec![("a".into(), "u64".into())], id: u64::MAX, dynamic: false };
        let mut spec = TopologySpec { name: "t".into(), ..TopologySpec::default() };
        spec.components.push(ComponentSpec::spout("s"));
        for (at, grouping) in groupings.into_iter().enumerate() {
            spec.components.push(ComponentSpec::bolt(format!("b{at}")));
            spec.streams.push(StreamSpec {
                component: 0,
                name: format!("s{at}"),
                schema: schema.clone(),
                direct: false,
            });
            spec.subscriptions.push(SubscriptionSpec {
                stream: at as u32,
                to: at as u32 + 1,
                port: 0,
                grouping,
                feedback: false,
            });
        }
        let json = serde_json::to_string(&spec).unwrap();
        assert!(json.contains("0xffffffffffffffff"), "{json}");
        assert_eq!(serde_json::from_str::<TopologySpec>(&json).unwrap(), spec);
    }

    #[test]
    fn settings_left_out_of_json_take_their_defaults_and_unknown_ones_are_refused() {
        let spec: TopologySpec = serde_json::from_str(
            r#"{"name":"t","components":[{"name":"a","kind":"spout"}],"streams":[],"subscriptions":[],"config":{"workers":3}}"#,
        )
        .unwrap();
        assert_eq!(spec.components[0], ComponentSpec::spout("a"));
        assert_eq!(spec.config, TopologyConfig { workers: 3, ..TopologyConfig::default() });
        let error = serde_json::from_str::<TopologyConfig>(r#"{"wrokers":3}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `wrokers`"), "{error}");
    }
}
