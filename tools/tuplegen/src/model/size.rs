//! Sizes of records: `128`, `64..1k`, `normal:256:32`, `exp:300`, `list:64=50,256=40,4k=10`.
//!
//! A size is that of the whole record, its 32 bytes of stamps included; what the fields do not fill is padded, and what they need more
//! is taken all the same.

use std::fmt;
use std::str::FromStr;

use squall_load::record::{HEADER_BYTES, RECORD_BYTES_MAX};

use super::rng::Rng;
use super::units::{parse_bytes, parse_number};

/// A distribution of sizes.
#[derive(Debug, Clone, PartialEq)]
pub enum Size {
    /// Always so many bytes.
    Fixed(usize),
    /// All alike, both ends included.
    Range(usize, usize),
    /// Normal, with mean and deviation.
    Normal(f64, f64),
    /// Exponential, with this mean.
    Exp(f64),
    /// Sizes with their weights, summed up.
    List(Vec<(usize, f64)>),
}

impl Default for Size {
    fn default() -> Self {
        Size::Fixed(HEADER_BYTES)
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let n = parse_bytes(text)? as usize;
    if (HEADER_BYTES..=RECORD_BYTES_MAX).contains(&n) {
        return Ok(n);
    }
    Err(format!(
        "`{text}`: a record has {HEADER_BYTES} to {RECORD_BYTES_MAX} bytes; {HEADER_BYTES} of them are its stamps"
    ))
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let text = text.trim();
        if let Some((low, high)) = text.split_once("..") {
            let (low, high) = (bytes(low)?, bytes(high)?);
            return if low <= high { Ok(Size::Range(low, high)) } else { Err(format!("`{text}`: swap the two")) };
        }
        let Some((name, rest)) = text.split_once(':') else { return bytes(text).map(Size::Fixed) };
        match name {
            "normal" => {
                let (mean, deviation) =
                    rest.split_once(':').ok_or_else(|| format!("`{text}`: write normal:MEAN:DEVIATION"))?;
                Ok(Size::Normal(bytes(mean)? as f64, parse_number(deviation)?))
            }
            "exp" => Ok(Size::Exp(bytes(rest)? as f64)),
            "list" => {
                let mut sum = 0.0;
                let mut list = Vec::new();
                for part in rest.split(',') {
                    let (size, weight) = part.split_once('=').ok_or_else(|| format!("`{part}`: write SIZE=WEIGHT"))?;
                    sum += parse_number(weight)?;
                    list.push((bytes(size)?, sum));
                }
                if sum > 0.0 { Ok(Size::List(list)) } else { Err(format!("`{text}`: the weights are all 0")) }
            }
            _ => Err(format!(
                "`{text}` is no size: write 128, 64..1k, normal:256:32, exp:300 or list:64=50,256=40,4k=10"
            )),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Fixed(n) => write!(f, "{n}"),
            Size::Range(a, b) => write!(f, "{a}..{b}"),
            Size::Normal(m, d) => write!(f, "normal:{m}:{d}"),
            Size::Exp(m) => write!(f, "exp:{m}"),
            Size::List(list) => {
                f.write_str("list:")?;
                let mut before = 0.0;
                for (i, (size, sum)) in list.iter().enumerate() {
                    write!(f, "{}{size}={}", if i > 0 { "," } else { "" }, sum - before)?;
                    before = *sum;
                }
                Ok(())
            }
        }
    }
}

impl Size {
    /// Draws one, within the bounds of a record.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> usize {
        let any = |x: f64| (x.round() as usize).clamp(HEADER_BYTES, RECORD_BYTES_MAX);
        match self {
            Size::Fixed(n) => *n,
            Size::Range(low, high) => low + rng.below((high - low + 1) as u64) as usize,
            Size::Normal(mean, deviation) => any(mean + rng.normal() * deviation),
            Size::Exp(mean) => any(HEADER_BYTES as f64 + rng.exponential() * (mean - HEADER_BYTES as f64)),
            Size::List(list) => {
                let at = rng.unit() * list[list.len() - 1].1;
                list[list.partition_point(|(_, sum)| *sum <= at).min(list.len() - 1)].0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(text: &str) -> f64 {
        let (size, mut rng) = (text.parse::<Size>().unwrap(), Rng::new(5, 5));
        (0..100_000).map(|_| size.draw(&mut rng) as f64).sum::<f64>() / 1e5
    }

    #[test]
    fn sizes_have_their_mean() {
        for (text, due) in [
            ("128", 128.0),
            ("100..300", 200.0),
            ("normal:256:32", 256.0),
            ("exp:500", 500.0),
            ("list:64=50,256=40,4k=10", 534.4),
        ] {
            assert!((mean(text) / due - 1.0).abs() < 0.02, "{text}: {}", mean(text));
        }
    }

    #[test]
    fn a_list_has_its_shares() {
        let (size, mut rng) = ("list:64=50,256=40,4k=10".parse::<Size>().unwrap(), Rng::new(6, 6));
        let mut counts = [0.0_f64; 3];
        for _ in 0..100_000 {
            counts[match size.draw(&mut rng) {
                64 => 0,
                256 => 1,
                4000 => 2,
                other => panic!("{other}"),
            }] += 1.0;
        }
        let chi: f64 =
            counts.iter().zip([50_000.0_f64, 40_000.0, 10_000.0]).map(|(n, due)| (n - due).powi(2) / due).sum();
        assert!(chi < 9.2, "chi-square {chi}, seed 6");
    }

    #[test]
    fn sizes_are_read_as_they_are_written_and_others_are_refused() {
        for text in ["128", "64..1000", "normal:256:32", "exp:300", "list:64=50,256=40"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["", "16", "1M", "300..100", "list:64", "list:64=0", "cauchy:5"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
