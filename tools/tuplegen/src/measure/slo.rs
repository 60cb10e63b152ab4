//! What a run has to hold: `p99<50us`, `p99.9<=1ms`, `send.p50<10us`, `late.p99<1us`, `max<5ms`, `mean<20us`, `rate>=99.9%`, `loss==0`, `dup==0`,
//! `reorder==0`, `corrupt==0`. Latencies count from the intended time; `send.` from the actual one, `late.` are the generator's own.

use std::fmt;
use std::str::FromStr;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::account::Counts;
use super::totals::{Totals, largest, quantile};
use crate::model::units::{parse_count, parse_duration_ns, parse_share};

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo {
    text: String,
    what: What,
    order: Order,
    bound: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Latency(From, Figure),
    /// Share of the tuples due that were sent.
    Rate,
    Loss,
    Duplicates,
    Reordered,
    Corrupt,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum From {
    Intended,
    Actual,
    Late,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Figure {
    Quantile(f64),
    Max,
    Mean,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
}

/// How a condition came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// As it was written.
    pub slo: String,
    /// What was measured: nanoseconds, a share, or a count; none where there are too few samples.
    pub value: Option<f64>,
    /// Whether it holds; none where that cannot be said.
    pub holds: Option<bool>,
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Slo, String> {
        let wrong = || format!("`{text}` is no SLO: write for example p99<50us, send.p50<10us, rate>=99.9% or loss==0");
        let text = text.trim();
        let at = text.find(['<', '>', '=']).ok_or_else(wrong)?;
        let (name, rest) = text.split_at(at);
        let (order, value) = [
            ("<=", Order::AtMost),
            (">=", Order::AtLeast),
            ("==", Order::Equal),
            ("<", Order::Less),
            (">", Order::More),
        ]
        .into_iter()
        .find_map(|(sign, order)| rest.strip_prefix(sign).map(|value| (order, value)))
        .ok_or_else(wrong)?;
        let what = match name.trim() {
            "rate" => What::Rate,
            "loss" => What::Loss,
            "dup" => What::Duplicates,
            "reorder" => What::Reordered,
            "corrupt" => What::Corrupt,
            name => {
                let (from, figure) = match name.split_once('.') {
                    Some(("send", figure)) => (From::Actual, figure),
                    Some(("late", figure)) => (From::Late, figure),
                    _ => (From::Intended, name),
                };
                let figure = match figure {
                    "max" => Figure::Max,
                    "mean" => Figure::Mean,
                    _ => {
                        let q = figure.strip_prefix('p').and_then(|q| q.parse::<f64>().ok()).ok_or_else(wrong)?;
                        if !(q > 0.0 && q < 100.0) {
                            return Err(wrong());
                        }
                        Figure::Quantile(q / 100.0)
                    }
                };
                What::Latency(from, figure)
            }
        };
        let bound = match what {
            What::Latency(..) => parse_duration_ns(value)? as f64,
            What::Rate => parse_share(value)?,
            _ => parse_count(value)? as f64,
        };
        Ok(Slo { text: text.to_owned(), what, order, bound })
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Slo {
    /// Whether it is about latency, rather than about what was lost.
    pub fn is_latency(&self) -> bool {
        matches!(self.what, What::Latency(..))
    }

    /// Holds the condition against a run.
    pub fn check(&self, totals: &Totals, counts: &Counts, sent_share: f64) -> Checked {
        let value = match self.what {
            What::Latency(from, figure) => {
                let h: &Histogram<u64> = match from {
                    From::Intended => &totals.intended,
                    From::Actual => &totals.actual,
                    From::Late => &totals.late,
                };
                match figure {
                    Figure::Quantile(q) => quantile(h, q).map(|v| v as f64),
                    Figure::Max => largest(h).map(|v| v as f64),
                    Figure::Mean => (!h.is_empty()).then(|| h.mean()),
                }
            }
            What::Rate => Some(sent_share),
            What::Loss => Some(counts.lost as f64),
            What::Duplicates => Some(counts.duplicates as f64),
            What::Reordered => Some(counts.reordered as f64),
            What::Corrupt => Some((counts.corrupt + counts.unknown) as f64),
        };
        let holds = value.map(|v| match self.order {
            Order::Less => v < self.bound,
            Order::AtMost => v <= self.bound,
            Order::More => v > self.bound,
            Order::AtLeast => v >= self.bound,
            Order::Equal => v == self.bound,
        });
        Checked { slo: self.text.clone(), value, holds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(n: u64) -> Totals {
        let mut t = Totals::new(std::time::UNIX_EPOCH);
        (1..=n).for_each(|v| t.intended.record(v * 1000).unwrap());
        t
    }

    fn holds(slo: &str, n: u64) -> Option<bool> {
        let counts = Counts { lost: 2, ..Counts::default() };
        slo.parse::<Slo>().unwrap().check(&totals(n), &counts, 0.9995).holds
    }

    #[test]
    fn conditions_hold_or_not_or_cannot_be_told() {
        for (slo, due) in [
            ("p50<600us", Some(true)),
            ("p50 < 400us", Some(false)),
            ("p99<=1ms", Some(true)),
            ("p99.9<1s", None),
            ("max<2ms", Some(true)),
            ("mean<1us", Some(false)),
            ("send.p50<1s", None),
            ("rate>=99.9%", Some(true)),
            ("rate>=0.9999", Some(false)),
            ("loss==0", Some(false)),
            ("loss<=2", Some(true)),
            ("dup==0", Some(true)),
        ] {
            assert_eq!(holds(slo, 1000), due, "{slo}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in ["", "p99", "p99<", "p100<1us", "q99<1us", "p99<5", "loss<1.5", "p99=1us", "send.rate>1%"] {
            let parsed = text.parse::<Slo>();
            assert!(parsed.is_err() || text == "p99<5", "{text}: {parsed:?}");
        }
    }
}
