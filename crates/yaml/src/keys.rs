//! The keys of a topology file: which are known where, which are Java's and what replaces them.
//!
//! One table per kind of map serves the check, "did you mean" and the JSON Schema.

use crate::diag::{Diagnostic, Diagnostics};
use crate::names;
use crate::tree::{Entry, Node, Yaml};

/// A key that is read.
pub(crate) struct Known {
    pub name: &'static str,
    /// For editors.
    pub doc: &'static str,
}

/// A key of Flux that is not read, and what to do instead.
pub(crate) struct Refused {
    pub name: &'static str,
    pub help: &'static str,
}

/// The keys of one kind of map.
pub(crate) struct Keys {
    /// What the map is, with its article.
    pub what: &'static str,
    pub known: &'static [Known],
    pub refused: &'static [Refused],
}

const fn known(name: &'static str, doc: &'static str) -> Known {
    Known { name, doc }
}

const fn refused(name: &'static str, help: &'static str) -> Refused {
    Refused { name, help }
}

pub(crate) const TOPOLOGY: Keys = Keys {
    what: "a topology",
    known: &[
        known("name", "Name of the topology: letters, digits, `_`, `-` and `.`"),
        known("config", "Sizes and counts of the whole topology"),
        known("includes", "Other files whose definitions are taken over"),
        known("components", "Definitions that several spouts or bolts take over with `ref`"),
        known("spouts", "The sources of tuples"),
        known("bolts", "The steps that tuples pass"),
        known("streams", "Who reads what, and how its tuples are dealt to tasks"),
    ],
    refused: &[
        refused(
            "topologySource",
            "it names a Java class that builds the topology; list its `spouts`, `bolts` and `streams` here, or write it in Rust (`squall new NAME`)",
        ),
        refused(
            "workerHooks",
            "worker hooks are Java objects; do what they did in `prepare` of a component written in Rust",
        ),
    ],
};

const JAVA_OBJECT: &[Refused] = &[
    refused("constructorArgs", "name the component's options under `config`; `squall components NAME` lists them"),
    refused("properties", "name the component's options under `config`; `squall components NAME` lists them"),
    refused("configMethods", "name the component's options under `config`; `squall components NAME` lists them"),
    refused("factory", "Java factories have no place here; name the component's options under `config`"),
    refused("factoryArgs", "Java factories have no place here; name the component's options under `config`"),
    refused(
        "onHeapMemoryLoad",
        "components are not scheduled by memory; `squall plan` shows what the buffers may take",
    ),
    refused(
        "offHeapMemoryLoad",
        "components are not scheduled by memory; `squall plan` shows what the buffers may take",
    ),
    refused(
        "cpuLoad",
        "components are not scheduled by load; set `parallelism` here and `workers` in the topology's `config`",
    ),
    refused("groupings", "say who reads what under `streams`"),
];

pub(crate) const SPOUT: Keys = Keys { what: "a spout", known: TASKS, refused: JAVA_OBJECT };
pub(crate) const BOLT: Keys = Keys { what: "a bolt", known: TASKS, refused: JAVA_OBJECT };

const TASKS: &[Known] = &[
    known("id", "Name of this component in the topology: letters, digits, `_`, `-` and `.`"),
    known("className", "What it is: a name that `squall components` lists, or Storm's class name of the like"),
    known("parallelism", "Number of executors (default 1)"),
    known("numTasks", "Number of tasks, fixed for the topology's life (default: as many as executors)"),
    known(
        "execute_timeout",
        "How long one call of it may take before its worker is killed and replaced: `2m`, at least 1s; 0: as long as it likes \
         (default 30s). On a thread of its own it has no effect",
    ),
    known("config", "Options of the component; `squall components NAME` lists them"),
    known("ref", "Id of an entry of `components` whose `className` and `config` are taken over"),
];

pub(crate) const COMPONENT: Keys = Keys {
    what: "a component",
    known: &[
        known("id", "Name by which a spout or bolt refers to it"),
        known("className", "What it is: a name that `squall components` lists"),
        known("config", "Options of the component"),
    ],
    refused: JAVA_OBJECT,
};

pub(crate) const STREAM: Keys = Keys {
    what: "a stream",
    known: &[
        known("name", "A name for people; nothing refers to it"),
        known("from", "Id of the spout or bolt that emits"),
        known("to", "Id of the bolt that reads"),
        known("grouping", "How tuples are dealt to the tasks of `to` (default: shuffle)"),
        known(
            "feedback",
            "`true` if this stream closes a cycle: it has a budget of its own and fails tuples rather than wait",
        ),
    ],
    refused: &[refused("id", "a stream is named by `name`, and by its two ends")],
};

pub(crate) const GROUPING: Keys = Keys {
    what: "a grouping",
    known: &[
        known("type", "Rule from a tuple to the tasks that get it"),
        known("streamId", "Which of the emitter's streams is read (default: `default`)"),
        known("args", "Names of the fields, for FIELDS and PARTIAL_KEY"),
    ],
    refused: &[refused("customClass", "custom groupings are written in Rust; see `StreamHandle::custom`")],
};

pub(crate) const INCLUDE: Keys = Keys {
    what: "an include",
    known: &[
        known("file", "Path of the file, from the folder of this one"),
        known("override", "`true`: definitions there replace equally named ones here (default false)"),
        known("resource", "Flux's class path look-up: only `false` is possible"),
    ],
    refused: &[],
};

/// Storm's grouping types, ours behind them.
pub(crate) const GROUPING_TYPES: [&str; 10] = [
    "SHUFFLE",
    "LOCAL_OR_SHUFFLE",
    "FIELDS",
    "PARTIAL_KEY",
    "ALL",
    "GLOBAL",
    "NONE",
    "DIRECT",
    "LOAD_AWARE_SHUFFLE",
    "CUSTOM",
];

/// An option of the topology: its name, Storm's name for it, documentation.
pub(crate) struct ConfigKey {
    pub name: &'static str,
    pub storm: Option<&'static str>,
    pub doc: &'static str,
}

const fn config(name: &'static str, storm: Option<&'static str>, doc: &'static str) -> ConfigKey {
    ConfigKey { name, storm, doc }
}

pub(crate) const CONFIG: [ConfigKey; 17] = [
    config("workers", Some("topology.workers"), "Worker processes (default 1)"),
    config("reactors", None, "Pinned reactors per worker (default: cores / workers)"),
    config("key_groups", None, "Key groups: the units in which keys are dealt to tasks (default 1024)"),
    config("batch_bytes", None, "Bytes of a batch within a worker or through shared memory (default 16 KiB)"),
    config("socket_batch_bytes", None, "Bytes of a batch between workers joined by a socket (default 64 KiB)"),
    config("credit_bytes", None, "Bytes one link may have in flight to one inbox (default 256 KiB)"),
    config("ring_bytes", None, "Bytes of the ring between two reactors, each way (default 512 KiB)"),
    config("max_tuple_bytes", None, "Largest tuple (default 16 MiB)"),
    config("shm", None, "Shared memory between workers: auto, off or copy (default auto)"),
    config(
        "ackers",
        Some("topology.acker.executors"),
        "0 turns acking off; any other number leaves it on, since each spout's reactor keeps its own ledger (default: on)",
    ),
    config(
        "message_timeout_ms",
        None,
        "Milliseconds after which a tuple of a spout fails of whose tree nothing was heard (default 30000)",
    ),
    config("message_timeout_secs", Some("topology.message.timeout.secs"), "The same in seconds"),
    config(
        "max_root_age_ms",
        None,
        "Milliseconds after which it fails in any case (default: ten times the message timeout)",
    ),
    config(
        "max_spout_pending",
        Some("topology.max.spout.pending"),
        "Tuples that a task of a spout may have pending (default: as many as `ledger_bytes` hold)",
    ),
    config("ledger_bytes", None, "Memory of those, per task, 64 bytes each (default 4 MiB)"),
    config(
        "executor_restarts",
        None,
        "Restarts in a row of a component's executors, before their worker ends (default 20)",
    ),
    config(
        "dead_letter_after",
        None,
        "A tuple that has ended its executor so many times goes to dead letters (default 3)",
    ),
];

/// Keys of Storm's `config` that mean something else here, or nothing: what to do, and whether the topology can run as it
/// is.
pub(crate) struct StormConfig {
    pub name: &'static str,
    pub fatal: bool,
    pub help: &'static str,
}

const fn ignored(name: &'static str, help: &'static str) -> StormConfig {
    StormConfig { name, fatal: false, help }
}

const fn java(name: &'static str, help: &'static str) -> StormConfig {
    StormConfig { name, fatal: true, help }
}

pub(crate) const STORM_CONFIG: [StormConfig; 14] = [
    ignored("topology.debug", "see what passes a component with `squall run --sample COMPONENT`; remove the key"),
    ignored("topology.max.task.parallelism", "set `numTasks` of each component; remove the key"),
    ignored("topology.executor.receive.buffer.size", "buffers are sized in bytes: `ring_bytes` and `credit_bytes`"),
    ignored("topology.transfer.buffer.size", "buffers are sized in bytes: `ring_bytes` and `credit_bytes`"),
    ignored("topology.producer.batch.size", "batches form by arrival; their size is `batch_bytes`"),
    ignored("topology.transfer.batch.size", "batches form by arrival; their size is `batch_bytes`"),
    ignored(
        "topology.batch.flush.interval.millis",
        "an idle link sends at once, so there is nothing to flush; remove the key",
    ),
    ignored("topology.disable.loadaware.messaging", "name the grouping: SHUFFLE, or LOAD_AWARE_SHUFFLE"),
    ignored("topology.stats.sample.rate", "counts are exact, never sampled; remove the key"),
    java("topology.worker.childopts", "workers are no Java processes; remove the key"),
    java("worker.childopts", "workers are no Java processes; remove the key"),
    java("topology.kryo.register", "tuples need no serializers; remove the key"),
    java("topology.classpath", "there are no Java classes to find; remove the key"),
    java("topology.fall.back.on.java.serialization", "tuples need no serializers; remove the key"),
];

impl Keys {
    /// Reports the keys of a map that are unknown or Java's, and calls `f` with the others.
    pub(crate) fn check<'n>(
        &self,
        node: &'n Node,
        diagnostics: &mut Diagnostics,
        mut f: impl FnMut(&'n Entry, &mut Diagnostics),
    ) {
        let Yaml::Map(entries) = &node.value else {
            let message = format!("{} is a map of keys, and this is {}", self.what, node.kind());
            let help = format!("write its keys: {}", names::listed(self.known.iter().map(|k| k.name)));
            diagnostics.push(Diagnostic::error(node.span, message).help(help));
            return;
        };
        for entry in entries {
            if self.known.iter().any(|k| k.name == entry.key) {
                f(entry, diagnostics);
            } else {
                diagnostics.push(self.unknown(entry));
            }
        }
    }

    fn unknown(&self, entry: &Entry) -> Diagnostic {
        let key = &entry.key;
        if let Some(java) = self.refused.iter().find(|r| r.name == key) {
            let message = format!("`{key}` is for Java's Flux and not read here");
            return Diagnostic::error(entry.key_span, message).help(java.help);
        }
        let error = Diagnostic::error(entry.key_span, format!("{} has no key `{key}`", self.what));
        match names::closest(key, self.known.iter().map(|k| k.name)) {
            Some(close) => error.label(format!("did you mean `{close}`?")),
            None => error.help(format!("its keys are {}", names::listed(self.known.iter().map(|k| k.name)))),
        }
    }
}
