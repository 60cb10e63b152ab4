//! The stock components: spouts, bolts, sinks, each described beside its code.

use crate::registry::Described;
use crate::{sinks, sources, state};

/// All of them, in the order in which they are listed.
pub(crate) fn all() -> Vec<Described> {
    [sources::described(), state::described(), sinks::described()].into_iter().flatten().collect()
}
