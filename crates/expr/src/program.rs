//! A lowered expression: a tree of typed nodes that reads archived values in place.
//!
//! A node answers `None` where it cannot decide (a missing key, an overflow, a text where a number is needed); the row is then
//! evaluated by the library, which knows the value or the error. So nothing here makes messages, and nothing allocates.
//!
//! What a node does decide is what the library would have: integers are checked, a mix of integer and float is computed in
//! floats, comparison across kinds of numbers goes by `f64`, equality of different kinds is false.

use std::cmp::Ordering;

use regex::Regex;
use squall_api::{ArchivedRow, ArchivedValue, Value, ValueRef};
use squall_components::expression::Evaluated;

/// A value in the course of evaluation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    /// Bytes, a list or a map of the row: can be passed on, nothing else.
    Other(&'a ArchivedValue),
}

/// A constant of the expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Box<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// `<`, `<=`, `>` or `>=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

/// A field of the row, and keys of maps within it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path {
    pub field: u16,
    pub keys: Box<[Box<str>]>,
}

/// A node that has a value of any kind.
#[derive(Debug, Clone)]
pub(crate) enum Term {
    Field(u16),
    Path(Path),
    Literal(Literal),
    Arithmetic(Arithmetic, Box<(Term, Term)>),
    Negate(Box<Term>),
    ToFloat(Box<Term>),
    Test(Box<Test>),
    Choose(Box<(Test, Term, Term)>),
}

/// A node that is true or false.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    Truth(Term),
    Not(Box<Test>),
    And(Box<(Test, Test)>),
    Or(Box<(Test, Test)>),
    Compare(Order, Box<(Term, Term)>),
    /// Equal, or not, as the flag wants it.
    Equal(bool, Box<(Term, Term)>),
    /// The frequent cases, without a value in between.
    FieldInt(Order, u16, i64),
    FieldFloat(Order, u16, f64),
    FieldText(bool, u16, Box<str>),
    OneOf(Box<Term>, Box<[Literal]>),
    Text(TextTest, Box<(Term, Term)>),
    Matches(Box<Term>, Regex),
    Has(Path),
}

/// A whole expression.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    Term(Term),
    Test(Test),
}

impl Program {
    /// The value for a row; `None` if the library must say.
    #[inline]
    pub(crate) fn value<'a>(&'a self, row: &'a ArchivedRow) -> Option<Evaluated<'a>> {
        match self {
            Program::Term(term) => term.value(row).map(Scalar::evaluated),
            Program::Test(test) => Some(Evaluated::Scalar(ValueRef::Bool(test.holds(row)?))),
        }
    }

    /// Whether it is true for a row; `None` if the library must say.
    #[inline]
    pub(crate) fn test(&self, row: &ArchivedRow) -> Option<bool> {
        match self {
            Program::Test(test) => test.holds(row),
            Program::Term(term) => term.value(row)?.truth(),
        }
    }
}

impl<'a> Scalar<'a> {
    #[inline]
    fn of(value: &'a ArchivedValue) -> Scalar<'a> {
        match value {
            ArchivedValue::Null => Scalar::Null,
            ArchivedValue::Bool(b) => Scalar::Bool(*b),
            ArchivedValue::I64(n) => Scalar::Int(n.to_native()),
            ArchivedValue::F64(x) => Scalar::Float(x.to_native()),
            ArchivedValue::Str(s) => Scalar::Text(s.as_str()),
            ArchivedValue::Bytes(_) | ArchivedValue::List(_) | ArchivedValue::Map(_) => Scalar::Other(value),
        }
    }

    fn evaluated(self) -> Evaluated<'a> {
        Evaluated::Scalar(match self {
            Scalar::Null => ValueRef::Null,
            Scalar::Bool(b) => ValueRef::Bool(b),
            Scalar::Int(n) => ValueRef::I64(n),
            Scalar::Float(x) => ValueRef::F64(x),
            Scalar::Text(s) => ValueRef::Str(s),
            Scalar::Other(value) => return Evaluated::Field(value),
        })
    }

    #[inline]
    fn truth(self) -> Option<bool> {
        if let Scalar::Bool(b) = self { Some(b) } else { None }
    }

    #[inline]
    fn text(self) -> Option<&'a str> {
        if let Scalar::Text(s) = self { Some(s) } else { None }
    }

    #[inline]
    fn float(self) -> Option<f64> {
        match self {
            Scalar::Int(n) => Some(n as f64),
            Scalar::Float(x) => Some(x),
            _ => None,
        }
    }

    #[inline]
    fn compare(self, other: Scalar<'_>) -> Option<Ordering> {
        match (self, other) {
            (Scalar::Int(a), Scalar::Int(b)) => Some(a.cmp(&b)),
            (Scalar::Text(a), Scalar::Text(b)) => Some(a.cmp(b)),
            (Scalar::Bool(a), Scalar::Bool(b)) => Some(a.cmp(&b)),
            _ => self.float()?.partial_cmp(&other.float()?),
        }
    }

    #[inline]
    fn equals(self, other: Scalar<'_>) -> Option<bool> {
        Some(match (self, other) {
            (Scalar::Int(a), Scalar::Int(b)) => a == b,
            (Scalar::Text(a), Scalar::Text(b)) => a == b,
            (Scalar::Null, Scalar::Null) => true,
            (Scalar::Bool(a), Scalar::Bool(b)) => a == b,
            (Scalar::Other(_), _) | (_, Scalar::Other(_)) => return None,
            _ => match (self.float(), other.float()) {
                (Some(a), Some(b)) => a == b,
                _ => false,
            },
        })
    }
}

impl Literal {
    #[inline]
    fn scalar(&self) -> Scalar<'_> {
        match self {
            Literal::Null => Scalar::Null,
            Literal::Bool(b) => Scalar::Bool(*b),
            Literal::Int(n) => Scalar::Int(*n),
            Literal::Float(x) => Scalar::Float(*x),
            Literal::Text(s) => Scalar::Text(s),
        }
    }
}

impl Order {
    #[inline]
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Order::Less => ordering == Ordering::Less,
            Order::LessEqual => ordering != Ordering::Greater,
            Order::Greater => ordering == Ordering::Greater,
            Order::GreaterEqual => ordering != Ordering::Less,
        }
    }
}

impl Path {
    #[inline]
    fn find<'a>(&self, row: &'a ArchivedRow) -> Option<&'a ArchivedValue> {
        let mut value = row.get(self.field as usize)?;
        for key in &self.keys {
            value = value.get(key)?;
        }
        Some(value)
    }
}

impl Arithmetic {
    #[inline]
    fn apply(self, a: Scalar<'_>, b: Scalar<'_>) -> Option<Scalar<'static>> {
        if let (Scalar::Int(a), Scalar::Int(b)) = (a, b) {
            return Some(Scalar::Int(match self {
                Arithmetic::Add => a.checked_add(b)?,
                Arithmetic::Subtract => a.checked_sub(b)?,
                Arithmetic::Multiply => a.checked_mul(b)?,
                Arithmetic::Divide => a.checked_div(b)?,
                Arithmetic::Remainder => a.checked_rem(b)?,
            }));
        }
        let (a, b) = (a.float()?, b.float()?);
        Some(Scalar::Float(match self {
            Arithmetic::Add => a + b,
            Arithmetic::Subtract => a - b,
            Arithmetic::Multiply => a * b,
            Arithmetic::Divide => a / b,
            // CEL has none of floats.
            Arithmetic::Remainder => return None,
        }))
    }
}

impl Term {
    #[inline]
    fn value<'a>(&'a self, row: &'a ArchivedRow) -> Option<Scalar<'a>> {
        match self {
            Term::Field(field) => row.get(*field as usize).map(Scalar::of),
            Term::Path(path) => path.find(row).map(Scalar::of),
            Term::Literal(literal) => Some(literal.scalar()),
            Term::Arithmetic(operator, sides) => operator.apply(sides.0.value(row)?, sides.1.value(row)?),
            Term::Negate(term) => match term.value(row)? {
                Scalar::Int(n) => n.checked_neg().map(Scalar::Int),
                Scalar::Float(x) => Some(Scalar::Float(-x)),
                _ => None,
            },
            Term::ToFloat(term) => term.value(row)?.float().map(Scalar::Float),
            Term::Test(test) => test.holds(row).map(Scalar::Bool),
            Term::Choose(parts) => {
                let (test, then, otherwise) = &**parts;
                if test.holds(row)? { then.value(row) } else { otherwise.value(row) }
            }
        }
    }
}

impl Test {
    #[inline]
    fn holds(&self, row: &ArchivedRow) -> Option<bool> {
        match self {
            Test::FieldInt(order, field, n) => match row.get(*field as usize)? {
                ArchivedValue::I64(value) => Some(order.holds(value.to_native().cmp(n))),
                ArchivedValue::F64(value) => value.to_native().partial_cmp(&(*n as f64)).map(|o| order.holds(o)),
                _ => None,
            },
            Test::FieldFloat(order, field, x) => {
                let value = row.get(*field as usize)?.as_f64()?;
                value.partial_cmp(x).map(|o| order.holds(o))
            }
            Test::FieldText(wanted, field, text) => match row.get(*field as usize)? {
                ArchivedValue::Str(value) => Some((value.as_str() == &**text) == *wanted),
                // What is no text equals none.
                _ => Some(!wanted),
            },
            Test::And(sides) => Some(sides.0.holds(row)? && sides.1.holds(row)?),
            Test::Or(sides) => Some(sides.0.holds(row)? || sides.1.holds(row)?),
            Test::Not(test) => test.holds(row).map(|truth| !truth),
            Test::Truth(term) => term.value(row)?.truth(),
            Test::Compare(order, sides) => {
                let ordering = sides.0.value(row)?.compare(sides.1.value(row)?)?;
                Some(order.holds(ordering))
            }
            Test::Equal(wanted, sides) => {
                let equal = sides.0.value(row)?.equals(sides.1.value(row)?)?;
                Some(equal == *wanted)
            }
            Test::OneOf(term, literals) => {
                let value = term.value(row)?;
                for literal in literals {
                    if value.equals(literal.scalar())? {
                        return Some(true);
                    }
                }
                Some(false)
            }
            Test::Text(test, sides) => {
                let (text, part) = (sides.0.value(row)?.text()?, sides.1.value(row)?.text()?);
                Some(match test {
                    TextTest::StartsWith => text.starts_with(part),
                    TextTest::EndsWith => text.ends_with(part),
                    TextTest::Contains => text.contains(part),
                })
            }
            Test::Matches(term, regex) => Some(regex.is_match(term.value(row)?.text()?)),
            Test::Has(path) => {
                let (last, parents) = path.keys.split_last()?;
                let mut value = row.get(path.field as usize)?;
                for key in parents {
                    value = value.get(key)?;
                }
                matches!(value, ArchivedValue::Map(_)).then(|| value.get(last).is_some())
            }
        }
    }
}

/// The kind of a value, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::I64(_) => "an integer",
        Value::F64(_) => "a float",
        Value::Str(_) => "text",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}
