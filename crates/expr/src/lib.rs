//! Expressions over rows, for `filter`, `map`, `route` and keys in YAML topologies: Google's Common Expression Language, parsed
//! and evaluated by the `cel` crate.
//!
//! An expression of field access, comparison, arithmetic, logic and tests on text is *lowered*: compiled to a typed program
//! that reads archived values in place and allocates nothing. All others, and the rows that a lowered program cannot decide
//! (an overflow, a text where a number was expected), are evaluated by the library, so both ways have one meaning and one set
//! of errors. [`Compiled::way`] says which way an expression goes.
//!
//! ```
//! let language = squall_expr::Language::new();
//! let fields = ["sensor".to_string(), "celsius".to_string()];
//! let hot = language.compile("celsius > 30 && sensor.startsWith('out-')", &fields).unwrap();
//! assert!(hot.way().is_lowered());
//! let fault = language.compile("celcius > 30", &fields).unwrap_err();
//! assert_eq!(fault.what, "there is no field `celcius`");
//! assert_eq!(fault.remedy, "did you mean `celsius`?");
//! ```
//!
//! # Departures from CEL
//!
//! - Arithmetic mixes integers and floats: the integer becomes a float. JSON writes 2.0 as 2, and a topology must not fail on it.
//! - `now()` is the time of evaluation, a timestamp.
//! - Timestamps leave an expression as RFC 3339 text, durations as seconds.
//!
//! Limits: an expression has at most [`TEXT_BYTES_MAX`] bytes and nests at most [`DEPTH_MAX`] deep.
//!
//! Deliberately absent: state, side effects, functions of the author's own (write a component in Rust).
#![forbid(unsafe_code)]

mod check;
mod library;
mod lower;
mod program;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use cel::common::ast::IdedExpr;
use squall_api::ArchivedRow;
use squall_components::expression::{Evaluated, EvaluationError, Expression, ExpressionFactory};

use library::Library;
use program::Program;

/// Longest expression, bytes.
pub const TEXT_BYTES_MAX: usize = 16 << 10;
/// Deepest nesting of an expression.
pub const DEPTH_MAX: u16 = 64;

/// The language: its functions and the parser's settings. Cheap to clone.
#[derive(Clone, Default)]
pub struct Language {
    library: Arc<Library>,
}

/// What is wrong with an expression, and where in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The bytes of the text that are meant.
    pub at: Range<usize>,
    /// The cause.
    pub what: String,
    /// What to do; may be empty.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

impl std::error::Error for Fault {}

/// How an expression is evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By a typed program over the archived values, without allocation.
    Lowered,
    /// By the library, because of this.
    Library(String),
}

impl Way {
    /// Whether it is lowered.
    pub fn is_lowered(&self) -> bool {
        *self == Way::Lowered
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Lowered => f.write_str("lowered"),
            Way::Library(why) => write!(f, "in the library, for {why}"),
        }
    }
}

/// An expression that is right for rows of given fields.
#[derive(Clone)]
pub struct Compiled {
    shared: Arc<Shared>,
    way: Way,
    program: Option<Program>,
}

/// What the tasks of an expression share.
struct Shared {
    text: String,
    fields: Vec<String>,
    expr: IdedExpr,
    library: Arc<Library>,
}

impl Language {
    /// The language.
    pub fn new() -> Language {
        Language::default()
    }

    /// Compiles an expression over rows with these fields.
    ///
    /// # Errors
    /// What is wrong with it: it is no expression, or names a field or function that there is not.
    pub fn compile(&self, text: &str, fields: &[String]) -> Result<Compiled, Fault> {
        if text.len() > TEXT_BYTES_MAX {
            let what = format!("the expression has {} bytes, more than {TEXT_BYTES_MAX}", text.len());
            return Err(Fault { at: 0..text.len(), what, remedy: "split it over several components".into() });
        }
        let (expr, info) = self.library.parse(text)?;
        check::names(text, &expr, &info, fields)?;
        let (way, program) = match lower::program(&expr, fields) {
            Ok(program) => (Way::Lowered, Some(program)),
            Err(why) => (Way::Library(why), None),
        };
        let expr = self.library.prepare(expr);
        let shared = Shared { text: text.to_owned(), fields: fields.to_vec(), expr, library: self.library.clone() };
        Ok(Compiled { shared: Arc::new(shared), way, program })
    }
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", self.shared.text, self.way)
    }
}

impl Compiled {
    /// How it is evaluated.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// One for a task.
    pub fn instance(&self) -> impl Expression + use<> {
        Instance { shared: self.shared.clone(), program: self.program.clone() }
    }

    /// Makes one per task, for the components.
    pub fn factory(&self) -> ExpressionFactory {
        let compiled = self.clone();
        Arc::new(move || Box::new(compiled.instance()))
    }
}

/// An expression in a task: a program of its own (regular expressions keep scratch memory), the rest shared.
struct Instance {
    shared: Arc<Shared>,
    program: Option<Program>,
}

impl Instance {
    #[cold]
    fn in_library(&self, row: &ArchivedRow) -> Result<squall_api::Value, EvaluationError> {
        let Shared { text, fields, expr, library } = &*self.shared;
        let value = library.evaluate(expr, fields, row);
        value.map_err(|cause| EvaluationError(format!("`{text}` has no value: {cause}")))
    }
}

impl Expression for Instance {
    fn evaluate<'a>(&'a mut self, row: &'a ArchivedRow) -> Result<Evaluated<'a>, EvaluationError> {
        if let Some(program) = &self.program
            && let Some(value) = program.value(row)
        {
            return Ok(value);
        }
        self.in_library(row).map(Evaluated::Owned)
    }

    fn test(&mut self, row: &ArchivedRow) -> Result<bool, EvaluationError> {
        if let Some(program) = &self.program
            && let Some(truth) = program.test(row)
        {
            return Ok(truth);
        }
        match self.in_library(row)? {
            squall_api::Value::Bool(truth) => Ok(truth),
            other => {
                let text = &self.shared.text;
                Err(EvaluationError(format!("`{text}` is {}, not true or false", program::kind(&other))))
            }
        }
    }
}

#[cfg(test)]
mod tests;
