//! Random numbers that are the same everywhere for one seed: xoshiro256++, seeded by SplitMix64.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Rng([u64; 4]);

impl Rng {
    /// The stream of this seed. `stream` tells streams of one seed apart, so that more keys do not change the arrivals.
    pub fn new(seed: u64, stream: u64) -> Rng {
        let mut state = seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        Rng([(); 4].map(|()| split_mix(&mut state)))
    }

    /// 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// From 0, included, to 1, excluded.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// From 0 to `n - 1`, all alike up to one part in 2⁶⁴ / n. `n` is at least 1.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Exponentially distributed with mean 1.
    #[inline]
    pub fn exponential(&mut self) -> f64 {
        // 1 - unit is never 0.
        -(1.0 - self.unit()).ln()
    }

    /// Normally distributed with mean 0 and deviation 1 (Box and Muller; one of the pair is thrown away, so that a value is two draws).
    #[inline]
    pub fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Gamma-distributed with this shape and mean 1 (Marsaglia and Tsang).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = (1.0 - self.unit()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * (shape + 1.0) * boost / shape;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v / shape;
            }
        }
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let n = 200_000;
        let values: Vec<f64> = (0..n).map(|_| draw()).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64)
    }

    fn near(got: (f64, f64), mean: f64, variance: f64) {
        assert!((got.0 - mean).abs() < 0.02 && (got.1 / variance - 1.0).abs() < 0.05, "{got:?}");
    }

    #[test]
    fn distributions_have_their_mean_and_variance() {
        let mut rng = Rng::new(7, 0);
        near(moments(|| rng.unit()), 0.5, 1.0 / 12.0);
        near(moments(|| rng.exponential()), 1.0, 1.0);
        near(moments(|| rng.normal()), 0.0, 1.0);
        near(moments(|| rng.gamma(4.0)), 1.0, 0.25);
        near(moments(|| rng.gamma(0.5)), 1.0, 2.0);
        near(moments(|| rng.below(3) as f64), 1.0, 2.0 / 3.0);
    }

    #[test]
    fn a_seed_repeats_its_stream_and_streams_differ() {
        let draw = |seed, stream| {
            (0..5).map(|_| 0).scan(Rng::new(seed, stream), |r, _| Some(r.next_u64())).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert!(draw(1, 2) != draw(1, 3) && draw(1, 2) != draw(2, 2));
    }
}
