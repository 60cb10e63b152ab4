//! Random choices, all from one seed.

use squall_topology::rng::{Rng, mix};

/// A die with as many sides as asked for. Equal seeds give equal throws, for ever.
#[derive(Debug, Clone)]
pub struct Dice(Rng);

impl Dice {
    /// Dice for one purpose of a seed: different purposes of one seed are unrelated.
    pub fn new(seed: u64, purpose: u64) -> Self {
        Dice(Rng::new(mix(seed ^ mix(purpose.wrapping_add(0x5351)))))
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0.below(bound)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.0.below(high - low + 1)
    }

    /// As [`Dice::between`], for times and sizes.
    pub fn between_u64(&mut self, low: u64, high: u64) -> u64 {
        low + ((u128::from(self.0.next_u64()) * u128::from(high - low + 1)) >> 64) as u64
    }

    /// True in `percent` of 100 throws.
    pub fn percent(&mut self, percent: u32) -> bool {
        percent > 0 && self.0.below(100) < percent
    }

    /// One of the choices.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.below(choices.len() as u32) as usize]
    }

    /// One of the choices, by weight. At least one weight is above 0.
    pub fn weighted<T: Copy>(&mut self, choices: &[(u32, T)]) -> T {
        let sum = choices.iter().map(|(w, _)| w).sum();
        let mut left = self.0.below(sum);
        for (weight, choice) in choices {
            if left < *weight {
                return *choice;
            }
            left -= weight;
        }
        unreachable!("the throw is below the sum of the weights")
    }

    /// Puts the items in a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        self.0.shuffle(items);
    }
}
