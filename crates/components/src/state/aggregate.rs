//! Aggregates as values: what is computed over rows, and the accumulator of one key (and window).
//!
//! Null values of the aggregated field are passed over, as SQL does; values of a wrong kind are bad input.

use std::cmp::Ordering;

use sketches_ddsketch::{Config as SketchConfig, DDSketch};
use squall::{ArchivedRow, ArchivedValue, Value, ValueRef};

use super::distinct::Distinct;
use super::top::Top;
use crate::expression::Evaluated;
use crate::registry::{ConfigError, Given, Place};
use crate::rows::{Cells, at, kind_of_field};

/// What is computed over the rows of a key, or of a key and window. Fields are named.
#[derive(Debug, Clone, PartialEq)]
pub enum Aggregate {
    /// How many rows there are.
    Count,
    /// The sum of a field: an integer while all values are integers and it fits, else a float.
    Sum(Given<String>),
    /// The least value of a field; numbers by value, texts by their bytes.
    Min(Given<String>),
    /// The greatest value of a field.
    Max(Given<String>),
    /// The mean of a field.
    Average(Given<String>),
    /// About how many different values a field has.
    Distinct {
        /// The field.
        field: Given<String>,
        /// 2^precision registers of a byte each: 4 to 16. The standard error is 1.04 / √(2^precision): 1.6 % at 12.
        precision: u32,
    },
    /// Quantiles of a field of numbers.
    Quantiles {
        /// The field.
        field: Given<String>,
        /// Which: each between 0 and 1.
        quantiles: Vec<f64>,
        /// Relative error of each, at most: between 0 and 1, both excluded.
        accuracy: f64,
    },
    /// The most frequent values of a field, as a list of maps with `item`, `count` and `error`.
    Top {
        /// The field.
        field: Given<String>,
        /// How many.
        k: usize,
        /// Values that are counted at a time: exact while there are no more, else each count is too high by at most `error`.
        capacity: usize,
    },
}

/// An aggregate whose field is a position.
#[derive(Debug, Clone)]
pub(crate) struct Measure {
    pub(crate) aggregate: Aggregate,
    field: u16,
    /// Names of what it gives.
    pub(crate) results: Vec<String>,
}

impl Aggregate {
    fn field(&self) -> Option<&Given<String>> {
        match self {
            Aggregate::Count => None,
            Aggregate::Sum(field) | Aggregate::Min(field) | Aggregate::Max(field) | Aggregate::Average(field) => {
                Some(field)
            }
            Aggregate::Distinct { field, .. } | Aggregate::Quantiles { field, .. } | Aggregate::Top { field, .. } => {
                Some(field)
            }
        }
    }

    /// Names of the fields that it gives.
    fn results(&self) -> Vec<String> {
        let one = |name: &str| vec![name.to_owned()];
        match self {
            Aggregate::Count => one("count"),
            Aggregate::Sum(_) => one("sum"),
            Aggregate::Min(_) => one("min"),
            Aggregate::Max(_) => one("max"),
            Aggregate::Average(_) => one("average"),
            Aggregate::Distinct { .. } => one("distinct"),
            Aggregate::Quantiles { quantiles, .. } => quantiles.iter().map(|q| quantile_name(*q)).collect(),
            Aggregate::Top { .. } => one("top"),
        }
    }

    /// Finds its field among those of the input, and names what it gives: `rename` instead of the usual name.
    pub(crate) fn resolve(self, place: &Place<'_>, rename: Option<Given<String>>) -> Result<Measure, ConfigError> {
        let field = self.field().map_or(Ok(0), |name| place.field(name))?;
        let mut results = self.results();
        if let Some(name) = rename {
            let [result] = &mut results[..] else {
                let remedy = "leave `as` out: quantiles are named p50, p99 …";
                return Err(ConfigError::new(name.at, "`as` names one field, but several result", remedy));
            };
            *result = name.value;
        }
        Ok(Measure { aggregate: self, field, results })
    }
}

/// `p50`, `p99_9`: a quantile in percent, with an underscore for the point.
fn quantile_name(q: f64) -> String {
    let percent = format!("{:.6}", q * 100.0);
    format!("p{}", percent.trim_end_matches('0').trim_end_matches('.').replace('.', "_"))
}

/// What was aggregated so far.
pub(crate) enum Accumulator {
    Count(i64),
    Sum(Sum),
    Extreme(Option<Value>),
    Average(Sum, u64),
    Distinct(Distinct),
    Quantiles(Box<DDSketch>),
    Top(Top),
}

/// A sum that stays exact while it is one of integers.
#[derive(Default, Clone, Copy)]
pub(crate) struct Sum {
    whole: i128,
    real: f64,
    /// What rounding lost from `real` (Neumaier).
    lost: f64,
    is_real: bool,
}

impl Sum {
    fn add(&mut self, value: Number) {
        match value {
            Number::Whole(n) => self.whole += i128::from(n),
            Number::Real(x) => {
                self.is_real = true;
                let sum = self.real + x;
                let (large, small) = if self.real.abs() >= x.abs() { (self.real, x) } else { (x, self.real) };
                self.lost += (large - sum) + small;
                self.real = sum;
            }
        }
    }

    fn total(&self) -> f64 {
        // Infinities make the correction NaN.
        let real = self.real + if self.lost.is_finite() { self.lost } else { 0.0 };
        self.whole as f64 + real
    }

    fn value(&self) -> ValueRef<'static> {
        match i64::try_from(self.whole) {
            Ok(n) if !self.is_real => ValueRef::I64(n),
            _ => ValueRef::F64(self.total()),
        }
    }
}

#[derive(Clone, Copy)]
enum Number {
    Whole(i64),
    Real(f64),
}

fn number(value: &ArchivedValue) -> Result<Option<Number>, String> {
    match value {
        ArchivedValue::Null => Ok(None),
        ArchivedValue::I64(n) => Ok(Some(Number::Whole(n.to_native()))),
        ArchivedValue::F64(x) => Ok(Some(Number::Real(x.to_native()))),
        other => Err(format!("the field is {}, not a number", kind_of_field(other))),
    }
}

impl Measure {
    /// The field's name, for messages; empty where there is none.
    fn field_name(&self) -> &str {
        self.aggregate.field().map_or("", |f| &f.value)
    }

    /// Nothing aggregated yet.
    pub(crate) fn start(&self) -> Accumulator {
        match &self.aggregate {
            Aggregate::Count => Accumulator::Count(0),
            Aggregate::Sum(_) => Accumulator::Sum(Sum::default()),
            Aggregate::Min(_) | Aggregate::Max(_) => Accumulator::Extreme(None),
            Aggregate::Average(_) => Accumulator::Average(Sum::default(), 0),
            Aggregate::Distinct { precision, .. } => Accumulator::Distinct(Distinct::new(*precision)),
            Aggregate::Quantiles { accuracy, .. } => {
                let config = SketchConfig::new(*accuracy, SKETCH_BINS_MAX, SKETCH_LEAST);
                Accumulator::Quantiles(Box::new(DDSketch::new(config)))
            }
            Aggregate::Top { capacity, .. } => Accumulator::Top(Top::new(*capacity)),
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the field's value is of a wrong kind; nothing is added then.
    #[inline]
    pub(crate) fn add(&self, to: &mut Accumulator, row: &ArchivedRow) -> Result<(), String> {
        if let Accumulator::Count(n) = to {
            *n += 1;
            return Ok(());
        }
        self.add_value(to, at(row, self.field)).map_err(|cause| format!("`{}`: {cause}", self.field_name()))
    }

    fn add_value(&self, to: &mut Accumulator, value: &ArchivedValue) -> Result<(), String> {
        match to {
            Accumulator::Count(_) => unreachable!("counted without a look at a field"),
            Accumulator::Sum(sum) => {
                if let Some(n) = number(value)? {
                    sum.add(n);
                }
            }
            Accumulator::Average(sum, count) => {
                if let Some(n) = number(value)? {
                    sum.add(n);
                    *count += 1;
                }
            }
            Accumulator::Extreme(best) => {
                let better =
                    if matches!(self.aggregate, Aggregate::Min(_)) { Ordering::Less } else { Ordering::Greater };
                if !matches!(value, ArchivedValue::Null) {
                    improve(best, value, better)?;
                }
            }
            Accumulator::Distinct(distinct) => {
                if !matches!(value, ArchivedValue::Null) {
                    distinct.add(squall::hash_key(value.key()));
                }
            }
            Accumulator::Quantiles(sketch) => match number(value)? {
                Some(Number::Whole(n)) => sketch.add(n as f64),
                Some(Number::Real(x)) if x.is_finite() => sketch.add(x),
                Some(Number::Real(_)) => return Err("the number is not finite".into()),
                None => {}
            },
            Accumulator::Top(top) => {
                if !matches!(value, ArchivedValue::Null) {
                    top.add(value.key());
                }
            }
        }
        Ok(())
    }

    /// Appends what was aggregated.
    pub(crate) fn results<'a>(&self, of: &'a Accumulator, cells: &mut Cells<'a>) {
        let scalar = Evaluated::Scalar;
        match of {
            Accumulator::Count(n) => cells.push(scalar(ValueRef::I64(*n))),
            Accumulator::Sum(sum) => cells.push(scalar(sum.value())),
            Accumulator::Extreme(best) => cells.push(match best {
                Some(value) => Evaluated::Owned(value.clone()),
                None => scalar(ValueRef::Null),
            }),
            Accumulator::Average(_, 0) => cells.push(scalar(ValueRef::Null)),
            Accumulator::Average(sum, count) => cells.push(scalar(ValueRef::F64(sum.total() / *count as f64))),
            Accumulator::Distinct(distinct) => cells.push(scalar(ValueRef::I64(distinct.estimate() as i64))),
            Accumulator::Quantiles(sketch) => {
                let Aggregate::Quantiles { quantiles, .. } = &self.aggregate else { return };
                let value = |q| sketch.quantile(q).ok().flatten().map_or(ValueRef::Null, ValueRef::F64);
                cells.extend(quantiles.iter().map(|q| scalar(value(*q))));
            }
            Accumulator::Top(top) => {
                let Aggregate::Top { k, .. } = &self.aggregate else { return };
                let item = |(item, count, error): (Value, u64, u64)| {
                    Value::map([("item", item), ("count", (count as i64).into()), ("error", (error as i64).into())])
                };
                cells.push(Evaluated::Owned(Value::List(top.top(*k).into_iter().map(item).collect())));
            }
        }
    }
}

/// Bins of a quantile sketch, at most: at 1 % accuracy they span a ratio of 10^17. 32 KiB.
const SKETCH_BINS_MAX: u32 = 2048;
/// Numbers nearer to zero than this count as zero.
const SKETCH_LEAST: f64 = 1e-9;

fn improve(best: &mut Option<Value>, value: &ArchivedValue, better: Ordering) -> Result<(), String> {
    let Some(scalar) = value.scalar() else {
        return Err(format!("the field is {}, which has no order", kind_of_field(value)));
    };
    let order = match (best.as_ref(), scalar) {
        (None, ValueRef::F64(x)) if x.is_nan() => None,
        (None, _) => Some(better),
        (Some(Value::I64(b)), ValueRef::I64(v)) => Some(v.cmp(b)),
        (Some(Value::F64(b)), ValueRef::F64(v)) => v.partial_cmp(b),
        (Some(Value::F64(b)), ValueRef::I64(v)) => (v as f64).partial_cmp(b),
        (Some(Value::I64(b)), ValueRef::F64(v)) => v.partial_cmp(&(*b as f64)),
        (Some(Value::Str(b)), ValueRef::Str(v)) => Some(v.cmp(b.as_str())),
        (Some(Value::Bytes(b)), ValueRef::Bytes(v)) => Some(v.cmp(b.as_slice())),
        (Some(Value::Bool(b)), ValueRef::Bool(v)) => Some(v.cmp(b)),
        (Some(_), v) => {
            return Err(format!("the field is {}, and was of another kind before", crate::rows::kind_of(&v)));
        }
    };
    if order == Some(better) {
        *best = Some(value.to_value());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_named_in_percent() {
        let names: Vec<_> = [0.5, 0.99, 0.999, 1.0, 0.0, 0.0001].map(quantile_name).into();
        assert_eq!(names, ["p50", "p99", "p99_9", "p100", "p0", "p0_01"]);
    }

    #[test]
    fn a_sum_of_integers_is_exact_and_one_beyond_i64_becomes_a_float() {
        let mut sum = Sum::default();
        for n in [i64::MAX, 1, -1] {
            sum.add(Number::Whole(n));
        }
        assert_eq!(sum.value(), ValueRef::I64(i64::MAX));
        sum.add(Number::Whole(1));
        assert_eq!(sum.value(), ValueRef::F64(9223372036854775808.0));
    }

    #[test]
    fn a_sum_of_floats_does_not_lose_the_small_ones() {
        let mut sum = Sum::default();
        for x in [1.0, 1e100, 1.0, -1e100] {
            sum.add(Number::Real(x));
        }
        assert_eq!(sum.total(), 2.0);
    }
}
