//! Incarnations of workers.

use serde::{Deserialize, Serialize};

/// The incarnation of a worker: which assignment it was started for, and which start for that assignment it is.
///
/// The generation comes from nimbus and never repeats within a topology, the restart from the supervisor, which so can replace a dead
/// worker at once and without asking. Batches carry both as one number ([`Epoch::wire`]), which grows with each incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// From nimbus, from 1 to [`Epoch::MAX_GENERATION`].
    pub generation: u32,
    /// From the supervisor, from 0 to [`Epoch::MAX_RESTART`].
    pub restart: u32,
}

impl Epoch {
    const RESTART_BITS: u32 = 10;
    /// The last start for one generation; after it nimbus gives another generation.
    pub const MAX_RESTART: u32 = (1 << Self::RESTART_BITS) - 1;
    /// The last generation of a topology.
    pub const MAX_GENERATION: u32 = u32::MAX >> Self::RESTART_BITS;

    /// The first start for a generation.
    pub fn first(generation: u32) -> Epoch {
        assert!((1..=Self::MAX_GENERATION).contains(&generation), "generation {generation}");
        Epoch { generation, restart: 0 }
    }

    /// The next start for the same generation. `None`: there are no more.
    pub fn next(self) -> Option<Epoch> {
        (self.restart < Self::MAX_RESTART).then_some(Epoch { restart: self.restart + 1, ..self })
    }

    /// As batches carry it. Never 0.
    pub fn wire(self) -> u32 {
        (self.generation << Self::RESTART_BITS) | self.restart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_on_the_wire_grows_with_each_incarnation() {
        let first = Epoch::first(7);
        let mut last = first;
        while let Some(next) = last.next() {
            assert!(next.wire() == last.wire() + 1 && next > last);
            last = next;
        }
        assert_eq!(last.wire() + 1, Epoch::first(8).wire());
        assert_eq!(Epoch { generation: Epoch::MAX_GENERATION, restart: Epoch::MAX_RESTART }.wire(), u32::MAX);
    }
}
