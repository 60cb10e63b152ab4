//! The lines of standard input, or of any other reader.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread;

use squall::{Context, Next, RowStreams, Spout, SpoutError};

use super::form::{FORM_OUTPUTS, Form, form, form_options};
use super::inflow::{Chunk, Inflow, LINE_BYTES_MAX, inflow};
use crate::giving_up::GiveUp;
use crate::registry::{ConfigError, Declared, Described, Kind, OptionSpec, OptionType, Place};
use crate::rows::OnError;

type Reader = Box<dyn Read + Send>;

/// Emits the lines of standard input, to its end. One task, in one worker: the one whose process has the input.
///
/// A thread of its own reads; when the spout has no room the thread waits, and whoever writes to the pipe with it.
pub struct Stdin {
    /// What is read instead of standard input.
    other: Mutex<Option<Reader>>,
    form: Arc<Form>,
    on_error: OnError,
    limit: Option<u64>,
}

impl Stdin {
    /// Lines as texts.
    #[allow(clippy::new_without_default, reason = "there is one standard input, and asking for it is an act")]
    pub fn new() -> Stdin {
        Stdin { other: Mutex::new(None), form: Arc::default(), on_error: OnError::Fail, limit: None }
    }

    /// Reads this instead.
    pub fn of(reader: impl Read + Send + 'static) -> Stdin {
        Stdin { other: Mutex::new(Some(Box::new(reader))), ..Stdin::new() }
    }

    /// What a line becomes. Default: its text.
    pub fn form(self, form: Form) -> Stdin {
        Stdin { form: Arc::new(form), ..self }
    }

    /// What becomes of lines that are not of the form, or longer than 1 MiB. Default: the run ends with an error.
    pub fn on_error(self, on_error: OnError) -> Stdin {
        Stdin { on_error, ..self }
    }

    /// Ends after so many lines.
    pub fn limit(self, lines: u64) -> Stdin {
        Stdin { limit: Some(lines), ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When more than one task is asked for, or two fields would have one name.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        place.one_task("there is one standard input").map_err(|e| vec![e])?;
        self.form.check(&place)?;
        let streams = self.form.streams(self.on_error, GiveUp::default());
        let settings = Arc::new(self);
        Ok(place.spout(streams, move || Lines { settings: settings.clone(), inflow: None }))
    }
}

struct Lines {
    settings: Arc<Stdin>,
    inflow: Option<Inflow>,
}

impl Spout for Lines {
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let Stdin { other, form, on_error, limit } = &*self.settings;
        let (feeder, inflow) = inflow(ctx, form, *on_error, *limit);
        let other = other.lock().expect("nothing panics while it is held").take();
        let read = move || {
            let input: Reader = other.unwrap_or_else(|| Box::new(std::io::stdin()));
            if let Err(cause) = feeder.read_lines(input, LINE_BYTES_MAX) {
                feeder.push(Chunk::Broken(format!("cannot read standard input: {cause}; check what is piped in")));
            }
        };
        // Not joined: nothing ends a read of standard input but the input.
        thread::Builder::new().name("stdin".into()).spawn(read)?;
        self.inflow = Some(inflow);
        Ok(())
    }

    fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        self.inflow.as_mut().expect("prepared").next(out)
    }
}

/// The option of sources without an end.
pub(super) fn limit_option() -> OptionSpec {
    OptionSpec::optional(
        "limit",
        OptionType::at_least(0),
        "Ends after so many rows. Left out: when the source ends, if it does.",
    )
}

pub(super) fn described() -> Described {
    Described {
        name: "stdin",
        aliases: &[],
        kind: Kind::Spout,
        summary: "The lines of standard input.",
        options: form_options().into_iter().chain([limit_option()]).collect(),
        outputs: FORM_OUTPUTS,
        example: "id: input\nclassName: stdin\n",
        example_fields: &[],
        factory: Box::new(|options, place| {
            let (form, on_error) = form(options);
            let stdin = Stdin::new().form(form).on_error(on_error);
            match options.maybe_integer("limit") {
                Some(limit) => stdin.limit(limit.value as u64).declare(place),
                None => stdin.declare(place),
            }
        }),
    }
}
