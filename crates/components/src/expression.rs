//! Expressions over rows, as `map`, `filter` and `route` use them.
//!
//! The language is not here: a [`Compiler`] turns text into a factory, of which every task makes an [`Expression`] of its own.
//! In Rust a closure is one: [`value`] and [`test()`].

use std::fmt;
use std::sync::Arc;

use squall::{ArchivedRow, ArchivedValue, Value, ValueRef};

use crate::registry::{ConfigError, Given};

/// What an expression came to.
#[derive(Debug, Clone)]
pub enum Evaluated<'a> {
    /// A scalar, borrowed from the row or the expression: costs no allocation.
    Scalar(ValueRef<'a>),
    /// A value of the row, passed on.
    Field(&'a ArchivedValue),
    /// A new value.
    Owned(Value),
}

/// Why an expression has no value for a row: shown with the row's component and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationError(pub String);

impl fmt::Display for EvaluationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EvaluationError {}

/// A compiled expression, owned by one task.
pub trait Expression {
    /// Its value for a row.
    ///
    /// # Errors
    /// When it has none: a field of another type, a division by zero.
    fn evaluate<'a>(&'a mut self, row: &'a ArchivedRow) -> Result<Evaluated<'a>, EvaluationError>;

    /// Whether it is true for a row.
    ///
    /// # Errors
    /// When it has no value, or none that is a boolean.
    fn test(&mut self, row: &ArchivedRow) -> Result<bool, EvaluationError> {
        match self.evaluate(row)? {
            Evaluated::Scalar(ValueRef::Bool(b)) | Evaluated::Owned(Value::Bool(b)) => Ok(b),
            Evaluated::Field(ArchivedValue::Bool(b)) => Ok(*b),
            other => Err(EvaluationError(format!("the expression is {}, not true or false", other.kind()))),
        }
    }
}

/// Makes an expression for a task, on its thread.
pub type ExpressionFactory = Arc<dyn Fn() -> Box<dyn Expression> + Send + Sync>;

/// A language of expressions.
pub trait Compiler {
    /// Compiles an expression over rows with these fields.
    ///
    /// # Errors
    /// What is wrong with it, at its place.
    fn compile(&self, text: &Given<String>, fields: &[String]) -> Result<ExpressionFactory, ConfigError>;
}

impl Evaluated<'_> {
    /// The owned value.
    pub fn into_value(self) -> Value {
        match self {
            Evaluated::Scalar(v) => owned(v),
            Evaluated::Field(v) => v.to_value(),
            Evaluated::Owned(v) => v,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Evaluated::Scalar(v) => crate::rows::kind_of(v),
            Evaluated::Field(v) => v.scalar().map_or("a list or map", |v| crate::rows::kind_of(&v)),
            Evaluated::Owned(v) => match v {
                Value::List(_) => "a list",
                Value::Map(_) => "a map",
                Value::Null => "null",
                Value::Str(_) => "a text",
                Value::Bytes(_) => "bytes",
                _ => "a number",
            },
        }
    }
}

fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Bool(b) => Value::Bool(b),
        ValueRef::I64(n) => Value::I64(n),
        ValueRef::F64(x) => Value::F64(x),
        ValueRef::Str(s) => Value::Str(s.to_owned()),
        ValueRef::Bytes(b) => Value::Bytes(b.to_vec()),
        ValueRef::List(items) => Value::List(items.iter().map(|v| owned(*v)).collect()),
        ValueRef::Map(pairs) => Value::Map(pairs.iter().map(|(k, v)| ((*k).to_owned(), owned(*v))).collect()),
    }
}

/// An expression that is the field at this position.
pub fn field_expression(field: u16) -> ExpressionFactory {
    struct Field(u16);

    impl Expression for Field {
        fn evaluate<'a>(&'a mut self, row: &'a ArchivedRow) -> Result<Evaluated<'a>, EvaluationError> {
            match row.get(self.0 as usize) {
                Some(value) => Ok(Evaluated::Field(value)),
                None => Err(EvaluationError(format!("the row has {} fields and none at {}", row.len(), self.0))),
            }
        }
    }

    Arc::new(move || Box::new(Field(field)))
}

/// An expression from a closure that gives a value.
pub fn value<F>(f: F) -> ExpressionFactory
where
    F: FnMut(&ArchivedRow) -> Value + Clone + Send + Sync + 'static,
{
    struct Closure<F>(F);

    impl<F: FnMut(&ArchivedRow) -> Value> Expression for Closure<F> {
        fn evaluate<'a>(&'a mut self, row: &'a ArchivedRow) -> Result<Evaluated<'a>, EvaluationError> {
            Ok(Evaluated::Owned((self.0)(row)))
        }
    }

    Arc::new(move || Box::new(Closure(f.clone())))
}

/// A condition from a closure.
pub fn test<F>(f: F) -> ExpressionFactory
where
    F: FnMut(&ArchivedRow) -> bool + Clone + Send + Sync + 'static,
{
    struct Closure<F>(F);

    impl<F: FnMut(&ArchivedRow) -> bool> Expression for Closure<F> {
        fn evaluate<'a>(&'a mut self, row: &'a ArchivedRow) -> Result<Evaluated<'a>, EvaluationError> {
            Ok(Evaluated::Scalar(ValueRef::Bool((self.0)(row))))
        }
    }

    Arc::new(move || Box::new(Closure(f.clone())))
}
