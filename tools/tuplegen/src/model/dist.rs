//! Distributions of values, by one small grammar for keys, fields and sizes.
//!
//! `NAME(ARG,…)` or `NAME:ARG:…`: `seq[(FROM)]`, `const(V)`, `uniform(N)` (0 to N-1), `range(A,B)`, `zipf(N,S)`, `hot(SHARE,PROBABILITY,N)`,
//! `latest(N)`, `exp(MEAN)`, `normal(MEAN,DEVIATION)`, `file(PATH)` (its lines in turn), `pick(PATH)` (its lines at random). Keys of a distribution churn
//! with `churn(DISTRIBUTION,SHARE)`: that share of the key space is replaced every second.

use std::sync::Arc;

use super::rng::Rng;
use super::units::{parse_count, parse_number, parse_share};

/// Reads the lines of a file, by its path.
pub type ReadLines<'a> = dyn Fn(&str) -> Result<Arc<[String]>, String> + 'a;

/// A drawn value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample<'a> {
    /// A whole number.
    Int(u64),
    /// Any number.
    Float(f64),
    /// A line of a file.
    Text(&'a str),
}

/// What a value is drawn from.
#[derive(Debug, Clone)]
pub enum Dist {
    /// The number of the tuple, from this on.
    Seq(u64),
    /// Always the same.
    Const(f64),
    /// 0 to n-1, all alike.
    Uniform(u64),
    /// From a, included, to b, excluded.
    Range(f64, f64),
    /// The i-th of n in proportion to 1 / i^s.
    Zipf(Zipf),
    /// A share of n keys is drawn with this probability, the rest with the rest.
    Hot {
        /// Number of hot keys, the first ones.
        hot: u64,
        /// Their probability.
        probability: f64,
        /// Number of keys.
        n: u64,
    },
    /// Of the last n tuples' numbers, the latest most often (Zipf with exponent 1).
    Latest(Zipf),
    /// Exponential with this mean.
    Exp(f64),
    /// Normal with mean and deviation.
    Normal(f64, f64),
    /// Lines in turn.
    Lines(Arc<[String]>),
    /// Lines at random.
    Pick(Arc<[String]>),
    /// Keys of the inner one, of which this share of the space is replaced each second.
    Churn(Box<Dist>, f64),
}

/// Zipf's distribution over 1 to n by rejection and inversion (Hörmann and Derflinger): no table, whatever n.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Zipf {
    n: u64,
    exponent: f64,
    h_x1: f64,
    h_n: f64,
    s: f64,
}

impl Zipf {
    /// Over n values; exponent from 0.
    pub fn new(n: u64, exponent: f64) -> Zipf {
        let mut z = Zipf { n, exponent, h_x1: 0.0, h_n: 0.0, s: 0.0 };
        z.h_x1 = z.integral(1.5) - 1.0;
        z.h_n = z.integral(n as f64 + 0.5);
        z.s = 2.0 - z.inverse(z.integral(2.5) - 2_f64.powf(-exponent));
        z
    }

    /// Integral of x^-s.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        expm1_over(log * (1.0 - self.exponent)) * log
    }

    fn inverse(&self, x: f64) -> f64 {
        let t = (x * (1.0 - self.exponent)).max(-1.0);
        (ln1p_over(t) * x).exp()
    }

    /// A rank from 0, the most frequent.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        loop {
            let u = self.h_n + rng.unit() * (self.h_x1 - self.h_n);
            let x = self.inverse(u);
            let k = (x + 0.5).floor().clamp(1.0, self.n as f64);
            if k - x <= self.s || u >= self.integral(k + 0.5) - k.powf(-self.exponent) {
                return k as u64 - 1;
            }
        }
    }
}

/// (e^x - 1) / x, also near 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// ln(1 + x) / x, also near 0.
fn ln1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

impl Dist {
    /// Reads a distribution; `file` reads the lines of one.
    ///
    /// # Errors
    /// A sentence that names the forms, or what is wrong with the file.
    pub fn parse(text: &str, file: &ReadLines<'_>) -> Result<Dist, String> {
        let wrong = || {
            format!(
                "`{text}` is no distribution: write for example seq, uniform(1M), zipf(10k,1.1), hot(1%,90%,1M), normal(100,5), churn(zipf(10k,1),1%) or file(words.txt)"
            )
        };
        let text = text.trim();
        let (name, args) = split(text).ok_or_else(wrong)?;
        let keys = |text: &str| match parse_count(text)? {
            0 => Err(format!("`{text}`: a distribution has at least one value")),
            n => Ok(n),
        };
        let lines = |path: &str| match file(path) {
            Ok(lines) if lines.is_empty() => Err(format!("{path} has no lines")),
            other => other,
        };
        Ok(match (name, &args[..]) {
            ("seq", []) => Dist::Seq(0),
            ("seq", [from]) => Dist::Seq(parse_count(from)?),
            ("const", [v]) => Dist::Const(signed(v)?),
            ("uniform", [n]) => Dist::Uniform(keys(n)?),
            ("range", [a, b]) => {
                let (a, b) = (signed(a)?, signed(b)?);
                if a > b {
                    return Err(format!("`{text}`: {a} is above {b}; swap them"));
                }
                Dist::Range(a, b)
            }
            ("zipf", [n, s]) => {
                let exponent = parse_number(s)?;
                if exponent > 10.0 {
                    return Err(format!("`{text}`: an exponent is 0 to 10"));
                }
                Dist::Zipf(Zipf::new(keys(n)?, exponent))
            }
            ("hot", [share, probability, n]) => {
                let n = keys(n)?;
                let hot = ((n as f64 * parse_share(share)?) as u64).clamp(1, n);
                Dist::Hot { hot, probability: parse_share(probability)?, n }
            }
            ("latest", [n]) => Dist::Latest(Zipf::new(keys(n)?, 1.0)),
            ("exp", [mean]) => Dist::Exp(parse_number(mean)?),
            ("normal", [mean, deviation]) => Dist::Normal(signed(mean)?, parse_number(deviation)?),
            ("file", [path]) => Dist::Lines(lines(path)?),
            ("pick", [path]) => Dist::Pick(lines(path)?),
            ("churn", [inner, share]) => {
                let share = share.strip_suffix("/s").unwrap_or(share);
                let inner = Dist::parse(inner, file)?;
                if inner.space().is_none() {
                    return Err(format!("`{text}`: only keys churn: uniform, zipf or hot"));
                }
                Dist::Churn(Box::new(inner), parse_share(share)?)
            }
            _ => return Err(wrong()),
        })
    }

    /// Number of keys, of distributions of keys.
    pub fn space(&self) -> Option<u64> {
        match self {
            Dist::Uniform(n) | Dist::Hot { n, .. } => Some(*n),
            Dist::Zipf(z) => Some(z.n),
            _ => None,
        }
    }

    /// Draws the value of tuple `seq`, due at this offset.
    #[inline]
    pub fn draw(&self, seq: u64, offset_ns: u64, rng: &mut Rng) -> Sample<'_> {
        match self {
            Dist::Seq(from) => Sample::Int(from + seq),
            Dist::Const(v) => Sample::Float(*v),
            Dist::Uniform(n) => Sample::Int(rng.below(*n)),
            Dist::Range(a, b) => Sample::Float(a + rng.unit() * (b - a)),
            Dist::Zipf(z) => Sample::Int(z.draw(rng)),
            Dist::Hot { hot, probability, n } => {
                let is_hot = rng.unit() < *probability || hot == n;
                Sample::Int(if is_hot { rng.below(*hot) } else { hot + rng.below(n - hot) })
            }
            Dist::Latest(z) => Sample::Int(seq.saturating_sub(z.draw(rng))),
            Dist::Exp(mean) => Sample::Float(rng.exponential() * mean),
            Dist::Normal(mean, deviation) => Sample::Float(mean + rng.normal() * deviation),
            Dist::Lines(lines) => Sample::Text(&lines[(seq % lines.len() as u64) as usize]),
            Dist::Pick(lines) => Sample::Text(&lines[rng.below(lines.len() as u64) as usize]),
            Dist::Churn(inner, share) => {
                let Sample::Int(key) = inner.draw(seq, offset_ns, rng) else { return Sample::Int(0) };
                let n = inner.space().unwrap_or(1);
                // Key k of now is k of the start, moved on by as many keys as were replaced: old ones leave at one end.
                Sample::Int(key + (offset_ns as f64 / 1e9 * share * n as f64) as u64)
            }
        }
    }
}

fn signed(text: &str) -> Result<f64, String> {
    match text.trim().strip_prefix('-') {
        Some(rest) => Ok(-parse_number(rest)?),
        None => parse_number(text),
    }
}

/// Name and arguments of `name(a,b)` or `name:a:b`.
fn split(text: &str) -> Option<(&str, Vec<&str>)> {
    if let Some(open) = text.find('(') {
        let inner = text[open + 1..].strip_suffix(')')?;
        return Some((text[..open].trim(), top_level(inner, ',')));
    }
    let mut parts = text.split(':');
    let name = parts.next()?;
    Some((name, parts.collect()))
}

/// Splits where no parenthesis is open. Nothing in an empty text.
pub(crate) fn top_level(text: &str, at: char) -> Vec<&str> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            c if c == at && depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dist(text: &str) -> Dist {
        Dist::parse(text, &|_| Ok(["a", "b", "c"].map(str::to_owned).into())).unwrap_or_else(|e| panic!("{e}"))
    }

    fn draws(text: &str, n: u64) -> Vec<u64> {
        let (dist, mut rng) = (dist(text), Rng::new(11, 2));
        let int = |i| match dist.draw(i, 0, &mut rng) {
            Sample::Int(n) => n,
            other => panic!("{other:?}"),
        };
        (0..n).map(int).collect()
    }

    #[test]
    fn zipf_has_its_exponent_within_two_percent() {
        for s in [0.8, 1.0, 1.3] {
            let mut counts = vec![0.0_f64; 1000];
            draws(&format!("zipf(1000,{s})"), 2_000_000).iter().for_each(|k| counts[*k as usize] += 1.0);
            // Least squares through the logarithms of the hundred most frequent, which all have many samples.
            let points: Vec<(f64, f64)> = (0..100).map(|i| (((i + 1) as f64).ln(), counts[i].ln())).collect();
            let n = points.len() as f64;
            let (sx, sy) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
            let (sxy, sxx) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x * y, b + x * x));
            let slope = -(n * sxy - sx * sy) / (n * sxx - sx * sx);
            assert!((slope / s - 1.0).abs() < 0.02, "asked {s}, fitted {slope}");
        }
    }

    #[test]
    fn hot_keys_get_their_share() {
        let all = draws("hot(1%,90%,10k)", 100_000);
        let hot = all.iter().filter(|k| **k < 100).count() as f64 / all.len() as f64;
        assert!((hot - 0.9).abs() < 0.01, "{hot}");
        assert!(all.iter().all(|k| *k < 10_000));
    }

    #[test]
    fn churn_replaces_its_share_of_the_keys_each_second() {
        let (dist, mut rng) = (dist("churn(uniform(1000),10%/s)"), Rng::new(1, 1));
        let mut least = |secs: u64| {
            let draw = |_| match dist.draw(0, secs * 1_000_000_000, &mut rng) {
                Sample::Int(n) => n,
                other => panic!("{other:?}"),
            };
            let all: Vec<u64> = (0..20_000).map(draw).collect();
            (*all.iter().min().unwrap(), *all.iter().max().unwrap())
        };
        assert_eq!((least(0), least(1), least(5)), ((0, 999), (100, 1099), (500, 1499)));
    }

    #[test]
    fn both_spellings_mean_the_same_and_others_are_refused() {
        assert_eq!(draws("zipf(1M,1.1)", 50), draws("zipf:1M:1.1", 50));
        assert_eq!(draws("seq(5)", 3), [5, 6, 7]);
        assert_eq!(draws("latest(1)", 3), [0, 1, 2]);
        for text in
            ["", "zipf", "zipf(10)", "uniform(0)", "zipf(10,11)", "churn(normal(1,1),1%)", "range(2,1)", "uniform(5"]
        {
            assert!(Dist::parse(text, &|_| Ok(Arc::from([]))).is_err(), "{text}");
        }
        assert!(Dist::parse("file(x)", &|_| Ok(Arc::from([]))).unwrap_err().contains("no lines"));
    }

    #[test]
    fn lines_come_in_turn() {
        let (dist, mut rng) = (dist("file(x)"), Rng::new(1, 1));
        let all: Vec<_> = (0..4).map(|i| dist.draw(i, 0, &mut rng)).collect();
        assert_eq!(all, ["a", "b", "c", "a"].map(Sample::Text));
    }
}
