//! How a component says that something went wrong.

use std::error::Error;
use std::fmt;

/// A cause in words: an error with its chain of sources, or a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause(String);

impl Cause {
    /// A cause from a message.
    pub fn new(message: impl Into<String>) -> Self {
        Cause(message.into())
    }

    fn of(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(e) = source {
            let more = e.to_string();
            // Many errors repeat their source in their own text.
            if !text.ends_with(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            source = e.source();
        }
        Cause(text)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `Bolt` methods return when something went wrong. `?` on any standard error gives [`BoltError::Fail`].
///
/// It is no `std::error::Error` itself, so that every such error converts into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoltError {
    /// Fails the input tuple and goes on; the bolt keeps its state.
    Fail(Cause),
    /// Ends the executor; its state cannot be trusted.
    Fatal(Cause),
}

impl BoltError {
    /// Fails the input tuple with a message.
    pub fn fail(message: impl Into<String>) -> Self {
        BoltError::Fail(Cause::new(message))
    }

    /// Ends the executor with a message.
    pub fn fatal(message: impl Into<String>) -> Self {
        BoltError::Fatal(Cause::new(message))
    }

    /// Makes any error fatal: `.map_err(BoltError::fatal_from)?`.
    pub fn fatal_from(error: impl Error + 'static) -> Self {
        BoltError::Fatal(Cause::of(&error))
    }

    /// The cause.
    pub fn cause(&self) -> &Cause {
        match self {
            BoltError::Fail(c) | BoltError::Fatal(c) => c,
        }
    }
}

impl<E: Error + 'static> From<E> for BoltError {
    fn from(error: E) -> Self {
        BoltError::Fail(Cause::of(&error))
    }
}

/// What `Spout` methods return when the source cannot go on: it ends the worker, and unless that is restarted the run (a panic
/// restarts the executor). A source that can go on (a bad
/// record, a lost connection that is tried again) counts and logs instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoutError(Cause);

impl SpoutError {
    /// An error with a message that names cause and remedy.
    pub fn new(message: impl Into<String>) -> Self {
        SpoutError(Cause::new(message))
    }

    /// The cause.
    pub fn cause(&self) -> &Cause {
        &self.0
    }
}

impl<E: Error + 'static> From<E> for SpoutError {
    fn from(error: E) -> Self {
        SpoutError(Cause::of(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_on_an_ordinary_error_fails_the_tuple_with_its_words() {
        fn parse(s: &str) -> Result<u32, BoltError> {
            Ok(s.parse::<u32>()?)
        }
        let error = parse("x").unwrap_err();
        assert_eq!(error, BoltError::fail("invalid digit found in string"));
    }
}
