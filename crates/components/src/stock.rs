//! The stock components: spouts, bolts, sinks, each described beside its code.

use crate::registry::Described;
use crate::{log, sinks, sources, state, transform};

/// All of them, in the order in which they are listed.
pub(crate) fn all() -> Vec<Described> {
    let groups = [
        sources::described(),
        log::spouts(),
        transform::described(),
        state::described(),
        sinks::described(),
        log::sinks(),
    ];
    groups.into_iter().flatten().collect()
}

/// The stock components that are not in this build: name, and the feature of the crate `squall` that has them.
const ABSENT: &[(&str, &str)] = &[
    #[cfg(not(feature = "http"))]
    ("http-post", "http"),
    #[cfg(not(feature = "http"))]
    ("http-sink", "http"),
    #[cfg(not(feature = "sqlite"))]
    ("sqlite", "sqlite"),
    #[cfg(not(feature = "parquet"))]
    ("parquet-file", "parquet"),
];

/// What to do about a name that belongs to a stock component of another build.
pub(crate) fn absent(name: &str) -> Option<String> {
    let (_, feature) = ABSENT.iter().find(|(absent, _)| *absent == name)?;
    Some(format!("it is not built in: build Squall with `--features {feature}`"))
}

/// The counters that stock components keep for the live view and the report: who has it, its name, what it counts.
pub const COUNTERS: &[(&str, &str, &str)] = &[
    ("`lines`, `stdin` and the other sources of text", "lines", "lines, datagrams or posted rows that were read"),
    ("`Lines` (Rust)", "bytes", "bytes that were read"),
    (
        "`text-file`, `json-file`, `csv-file`; `Lines` (Rust)",
        "files",
        "files that were finished; of `Lines`, that were read",
    ),
    ("`Lines` (Rust)", "skipped_binary", "files that were passed over because they are not text"),
    ("`Lines` (Rust)", "skipped_special", "files that were passed over because they are not regular files"),
    ("`Lines` (Rust)", "invalid_utf8", "lines with bytes that are not UTF-8, which were replaced"),
    (
        "what has the option `on_error`",
        "bad_input",
        "tuples or lines that could not be used, whatever was done with them",
    ),
    (
        "what has the option `on_give_up`; `Lines::dead_letters` (Rust)",
        "dead_letters",
        "tuples that were given up and acknowledged as dead letters",
    ),
    ("sinks; `log-read`", "rows", "rows that were written, or read"),
    ("`http-sink`", "posts", "posts that were answered with success"),
    ("`http-sink`, `tcp-sink`", "retries", "attempts that failed and were made again"),
    ("`enrich`", "missing", "rows whose key was not in the table"),
    ("`enrich`", "reloads", "times the table was read anew"),
    ("`enrich`", "reloads_failed", "times it could not be, and the rows before stayed in use"),
    ("`dedup`", "duplicates", "rows that were left out as seen before"),
    ("`rate-limit`", "over_rate", "rows that came faster than the rate"),
];
