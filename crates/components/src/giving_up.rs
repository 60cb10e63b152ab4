//! What becomes of a tuple of a reliable source that fails again and again.

use squall::{Context, Replay, ReplayLimits, RowStream, RowStreams, SpoutError, ValueRef};

use crate::expression::Evaluated;
use crate::registry::{ConfigError, Declared, Given, OptionSpec, OptionType, Options};
use crate::rows::{Cells, DEAD_LETTERS, emit_as};

/// When a reliable source gives a tuple up, and what becomes of it then.
///
/// ```
/// use squall_components::GiveUp;
///
/// // The default: after ten failures; it is counted, and the run ends with an error.
/// assert_eq!(GiveUp::default(), GiveUp::after(10));
/// let patient = GiveUp::after(100).to_dead_letters();
/// # let _ = patient;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GiveUp {
    failures: u32,
    letters: bool,
}

impl Default for GiveUp {
    fn default() -> Self {
        GiveUp::after(ReplayLimits::default().failures_max)
    }
}

impl GiveUp {
    /// After so many failures, lost workers not counted; 0: never. It is counted as `given_up`, and the run fails.
    pub fn after(failures: u32) -> GiveUp {
        GiveUp { failures, letters: false }
    }

    /// It is emitted once more then, with the reason, on the stream `dead_letters`, which somebody must read; and again, as any
    /// tuple is, until the letter is acknowledged or has failed as often itself. Only then it counts as `given_up`.
    pub fn to_dead_letters(self) -> GiveUp {
        GiveUp { letters: true, ..self }
    }

    /// The streams of a source, with that of dead letters behind them if there are any and it is not there already; they have
    /// these fields and `error`.
    pub(crate) fn streams(self, mut streams: Vec<RowStream>, fields: &[String]) -> Vec<RowStream> {
        if self.letters && streams.iter().all(|stream| stream.name != DEAD_LETTERS) {
            streams.push(RowStream::new(DEAD_LETTERS, fields.iter().map(String::as_str).chain(["error"])));
        }
        streams
    }

    /// Says of a source that its letters need a reader.
    pub(crate) fn read(self, declared: Declared) -> Declared {
        if self.letters { declared.must_be_read(DEAD_LETTERS) } else { declared }
    }

    /// What a task of the source keeps.
    ///
    /// # Errors
    /// When letters would go to nobody: they would count as acknowledged, and be lost.
    pub(crate) fn replay<P, A>(self, ctx: &Context) -> Result<Replay<P, A>, SpoutError> {
        let limits = ReplayLimits { failures_max: self.failures, ..ReplayLimits::default() };
        let replay = Replay::new(ctx, limits);
        if !self.letters {
            return Ok(replay);
        }
        let spec = &ctx.plan().spec;
        let stream = spec
            .component(ctx.component())
            .and_then(|component| spec.streams.iter().position(|s| s.component == component && s.name == DEAD_LETTERS));
        if !spec.subscriptions.iter().any(|s| Some(s.stream as usize) == stream) {
            let name = ctx.component();
            return Err(SpoutError::new(format!(
                "nobody reads the dead letters of `{name}`: subscribe a bolt to its stream `{DEAD_LETTERS}`, or leave them out"
            )));
        }
        Ok(replay.with_letters(ctx))
    }
}

/// Emits a dead letter: what was emitted before, or the text it was made from, and why it failed. In order of the fields.
#[cold]
pub(crate) fn emit_letter<'a>(
    out: &mut RowStreams,
    id: squall::MessageId,
    fields: impl Iterator<Item = Evaluated<'a>>,
    error: &'a str,
) {
    let cells: Cells<'_> = fields.chain([Evaluated::Scalar(ValueRef::Str(error))]).collect();
    emit_as(out.last_mut().expect("dead letters have a stream"), Some(id), &cells);
}

/// The options of every reliable source.
pub(crate) fn giving_up_options() -> [OptionSpec; 2] {
    [
        OptionSpec::with_default(
            "give_up_after",
            OptionType::integer(0, 1_000_000),
            "10",
            "A tuple that has failed so often, lost workers not counted, is given up; 0: never.",
        ),
        OptionSpec::with_default(
            "on_give_up",
            OptionType::Word(&["fail", "dead_letters"]),
            "fail",
            "What becomes of it then: it is counted as `given_up` and the run fails, or it goes to the stream `dead_letters` with \
             the reason in a last field `error`; what goes there is emitted again until it is acknowledged, too.",
        ),
    ]
}

/// Reads them.
pub(crate) fn giving_up(options: &Options) -> GiveUp {
    let give_up = GiveUp::after(options.count("give_up_after") as u32);
    if options.word("on_give_up").value == "dead_letters" { give_up.to_dead_letters() } else { give_up }
}

/// Reads them where the source may be one that emits nothing again.
///
/// # Errors
/// When letters are asked for that could never come. `why` completes “…, because”; `remedy` is what else to do.
pub(crate) fn giving_up_if(reliable: bool, options: &Options, why: &str, remedy: &str) -> Result<GiveUp, ConfigError> {
    let give_up = giving_up(options);
    if reliable || !give_up.letters {
        return Ok(give_up);
    }
    let Given { at, .. } = options.word("on_give_up");
    Err(ConfigError::new(at, format!("`on_give_up` has no effect, because {why}"), remedy))
}
