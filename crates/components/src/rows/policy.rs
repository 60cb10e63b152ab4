//! What becomes of input that a component cannot use.

use std::fmt::Display;

use squall::{BoltError, Context, Counter, Input, Level, Logger, Row, RowStream, RowStreams, Value, ValueRef};

use super::emit;
use crate::expression::Evaluated;
use crate::registry::{OptionSpec, OptionType, Options};

/// What becomes of input that a component cannot use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The tuple fails: it is counted, and the run ends with an error unless it is replayed.
    #[default]
    Fail,
    /// The tuple is passed over and counted as `bad_input`; the first one of each task is logged.
    Skip,
    /// As `Skip`, and the tuple is emitted on the stream `dead_letters` with the reason behind its fields.
    DeadLetters,
}

/// Name of the stream of input that cannot be used, and of what a source has given up.
pub(crate) const DEAD_LETTERS: &str = "dead_letters";
const WORDS: &[&str] = &["fail", "skip", "dead_letters"];

/// The option of every component that can meet bad input.
pub(crate) fn on_error_option() -> OptionSpec {
    OptionSpec::with_default(
        "on_error",
        OptionType::Word(WORDS),
        "fail",
        "What becomes of input that cannot be used: it fails the tuple, is skipped and counted as `bad_input`, or goes to the \
         stream `dead_letters` with the reason in a last field `error`.",
    )
}

/// Reads it.
pub(crate) fn on_error(options: &Options) -> OnError {
    match options.word("on_error").value {
        "skip" => OnError::Skip,
        "dead_letters" => OnError::DeadLetters,
        _ => OnError::Fail,
    }
}

impl OnError {
    /// The streams of a component, with that of dead letters behind them if there are any; they have the fields of the input
    /// and `error`.
    pub(crate) fn streams(self, mut streams: Vec<RowStream>, input: &[String]) -> Vec<RowStream> {
        if self == OnError::DeadLetters {
            let fields = input.iter().map(String::as_str).chain(["error"]);
            streams.push(RowStream::new(DEAD_LETTERS, fields));
        }
        streams
    }
}

/// A task's handling of bad input.
pub(crate) struct BadInput {
    policy: OnError,
    seen: Option<(Counter, Logger)>,
    logged: bool,
}

impl BadInput {
    pub(crate) fn new(policy: OnError) -> BadInput {
        BadInput { policy, seen: None, logged: false }
    }

    pub(crate) fn prepare(&mut self, ctx: &Context) {
        if self.policy != OnError::Fail {
            self.seen = Some((ctx.counter("bad_input"), ctx.logger()));
        }
    }

    /// Counts and logs; gives the error where the policy is to fail.
    #[cold]
    pub(crate) fn count(&mut self, reason: &dyn Display) -> Result<(), BoltError> {
        let Some((counter, logger)) = &self.seen else {
            return Err(BoltError::fail(reason.to_string()));
        };
        counter.inc();
        if !std::mem::replace(&mut self.logged, true) {
            let text = format_args!("bad input, counted as bad_input (further ones are not logged): {reason}");
            logger.log(Level::Warn, text);
        }
        Ok(())
    }

    /// Does with a tuple what the policy says.
    #[cold]
    pub(crate) fn refuse(
        &mut self,
        input: &Input<'_, Row>,
        out: &mut RowStreams,
        reason: &dyn Display,
    ) -> Result<(), BoltError> {
        self.count(reason)?;
        if self.policy == OnError::DeadLetters {
            let reason = reason.to_string();
            let mut cells: super::Cells<'_> = input.get().iter().map(Evaluated::Field).collect();
            cells.push(Evaluated::Scalar(ValueRef::Str(&reason)));
            emit(out.last_mut().expect("dead letters have a stream"), &cells);
        }
        Ok(())
    }

    /// As [`BadInput::refuse`], for a source: `Ok(Some(row))` is to be emitted on the last stream.
    #[cold]
    pub(crate) fn refuse_text(&mut self, text: &[u8], reason: &str) -> Result<Option<Row>, BoltError> {
        self.count(&reason)?;
        let text = String::from_utf8_lossy(text).into_owned();
        Ok((self.policy == OnError::DeadLetters).then(|| Row(vec![Value::Str(text), reason.into()])))
    }
}
