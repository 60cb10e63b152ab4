//! A topology file that has been read: what it says, each part with its place.
//!
//! The shape has been checked (kinds of values, known keys, counts in range); names have not: see `resolve`.

use std::time::Duration;

use crate::source::Span;
use crate::tree::Entry;

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    /// The value.
    pub value: T,
    /// Where it is written.
    pub span: Span,
}

/// One option of a component, or of the topology.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OptionDef {
    pub(crate) entry: Entry,
}

impl OptionDef {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.entry.key
    }

    /// Where the name is.
    pub(crate) fn name_span(&self) -> Span {
        self.entry.key_span
    }
}

/// A spout, a bolt, or an entry of `components`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ComponentDef {
    /// Its name in the topology.
    pub id: At<String>,
    /// What it is; `None` if that is missing (and has been reported).
    pub class: Option<At<String>>,
    /// Id of the entry of `components` that it takes over.
    pub refers: Option<At<String>>,
    /// Executors.
    pub parallelism: Option<At<u32>>,
    /// Tasks.
    pub tasks: Option<At<u32>>,
    /// How long one call may take; zero: as long as it likes.
    pub execute_timeout: Option<At<Duration>>,
    /// Options.
    pub config: Vec<OptionDef>,
}

/// Flux's grouping types, and ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupingKind {
    /// In turn.
    Shuffle,
    /// In turn, within the worker if it has tasks.
    LocalOrShuffle,
    /// In turn, fewer to the loaded.
    LoadAware,
    /// By key.
    Fields,
    /// By key, one of two tasks.
    PartialKey,
    /// Everyone.
    All,
    /// The first.
    Global,
    /// Any.
    None,
}

/// How tuples of a stream are dealt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GroupingDef {
    /// The rule; `None` if it is unknown (and has been reported).
    pub kind: Option<At<GroupingKind>>,
    /// Stream of the emitter.
    pub stream: Option<At<String>>,
    /// Fields.
    pub args: Vec<At<String>>,
    /// Where `args` is, or the grouping if there are none.
    pub args_span: Span,
}

/// A line between two components.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StreamDef {
    /// Who emits.
    pub from: At<String>,
    /// Who reads.
    pub to: At<String>,
    /// How.
    pub grouping: GroupingDef,
    /// It closes a cycle.
    pub feedback: bool,
    /// The whole entry.
    pub span: Span,
}

/// What the file and its includes say.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Model {
    /// Name of the topology.
    pub name: Option<At<String>>,
    /// Options of the topology.
    pub config: Vec<OptionDef>,
    /// Shared definitions.
    pub components: Vec<ComponentDef>,
    /// Spouts.
    pub spouts: Vec<ComponentDef>,
    /// Bolts.
    pub bolts: Vec<ComponentDef>,
    /// Streams.
    pub streams: Vec<StreamDef>,
    /// An entry of a list could not be read (and was reported): names that are not found may be its.
    pub(crate) incomplete: bool,
}
