//! How many different values there are, about: HyperLogLog over 64-bit hashes, exact while there are few.
//!
//! Registers and estimate as in O. Ertl, “New cardinality estimation algorithms for HyperLogLog sketches” (2017), which needs no
//! table of corrections. The standard error is 1.04 / √registers.

/// Hashes that are kept as they are before registers take over: exact, and a key with few values stays small.
const FEW: usize = 128;

pub(crate) enum Distinct {
    /// Sorted.
    Few {
        hashes: Vec<u64>,
        precision: u32,
    },
    Many(Box<[u8]>),
}

impl Distinct {
    pub(crate) fn new(precision: u32) -> Distinct {
        Distinct::Few { hashes: Vec::new(), precision }
    }

    pub(crate) fn add(&mut self, hash: u64) {
        match self {
            Distinct::Few { hashes, precision } => {
                let Err(place) = hashes.binary_search(&hash) else { return };
                if hashes.len() < FEW {
                    return hashes.insert(place, hash);
                }
                let mut registers = vec![0; 1 << *precision].into_boxed_slice();
                hashes.iter().chain([&hash]).for_each(|h| note(&mut registers, *h));
                *self = Distinct::Many(registers);
            }
            Distinct::Many(registers) => note(registers, hash),
        }
    }

    pub(crate) fn estimate(&self) -> u64 {
        match self {
            Distinct::Few { hashes, .. } => hashes.len() as u64,
            Distinct::Many(registers) => estimate(registers).round() as u64,
        }
    }
}

fn note(registers: &mut [u8], hash: u64) {
    let bits = registers.len().trailing_zeros();
    let index = (hash >> (64 - bits)) as usize;
    // A one behind the remaining bits ends the run.
    let run = ((hash << bits) | (1 << (bits - 1))).leading_zeros() as u8 + 1;
    registers[index] = registers[index].max(run);
}

fn estimate(registers: &[u8]) -> f64 {
    let m = registers.len() as f64;
    let q = 64 - registers.len().trailing_zeros() as usize;
    let mut counts = vec![0.0; q + 2];
    registers.iter().for_each(|r| counts[*r as usize] += 1.0);
    let mut z = m * tau(1.0 - counts[q + 1] / m);
    for k in (1..=q).rev() {
        z = 0.5 * (z + counts[k]);
    }
    z += m * sigma(counts[0] / m);
    const ALPHA: f64 = 0.721_347_520_444_481_7; // 1 / (2 ln 2)
    ALPHA * m * m / z
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_are_counted_exactly() {
        let mut distinct = Distinct::new(12);
        for i in 0..1000u64 {
            distinct.add(squall::hash_key(squall::Key::from_u64(i % FEW as u64)));
        }
        assert_eq!(distinct.estimate(), FEW as u64);
    }

    #[test]
    fn many_values_are_counted_within_four_standard_errors_at_every_size() {
        for (precision, seed) in [(8, 1u64), (12, 2), (14, 3)] {
            let mut distinct = Distinct::new(precision);
            let error = 1.04 / f64::from(1 << precision).sqrt();
            let mut next = 200;
            for n in 1..=300_000u64 {
                distinct.add(squall::hash_key(squall::Key::from_u64(n ^ (seed << 40))));
                if n == next {
                    next = next * 3 / 2;
                    let off = distinct.estimate() as f64 / n as f64 - 1.0;
                    assert!(off.abs() < 4.0 * error, "precision {precision}: {n} counted with an error of {off}");
                }
            }
        }
    }
}
