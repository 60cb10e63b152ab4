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
