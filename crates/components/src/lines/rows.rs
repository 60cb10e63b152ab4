//! Rows of lines, of JSON objects a line, of CSV records a line; of files as they are, or followed as they grow.

use std::sync::Arc;
use std::time::Duration;

use squall::{Clock, Context, Counter, Failure, MessageId, Next, Placement, RowStreams, Spout, SpoutError};

use super::follow::Follower;
use super::ranges::Share;
use super::reader::{LineReader, LinesOptions};
use super::walk::LinesInput;
use crate::giving_up::{GiveUp, giving_up_if, giving_up_options};
use crate::registry::{ConfigError, Declared, Described, Kind, OptionSpec, OptionType, Options, Place};
use crate::reliable::Reliable;
use crate::rows::{OnError, on_error, on_error_option};
use crate::sources::{Form, FormReader};

/// Where following begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the start of each file.
    #[default]
    Beginning,
    /// At the end of the files that exist when the run begins; files that appear later are read whole.
    End,
}

/// Emits the lines of files and folders as rows; with [`RowLines::follow`], also what is written later, without an end.
///
/// Files are shared among tasks as by [`Lines`](crate::Lines): large ones in ranges, compressed and followed ones whole. A line
/// longer than `line_bytes_max` comes as several texts; as JSON or CSV it is bad input. Reliable as [`Lines`](crate::Lines) are, but
/// where files are followed. Runs on a side thread. Counts `lines`,
/// and `bad_input` where the policy is not to fail.
#[derive(Debug, Clone)]
pub struct RowLines {
    options: LinesOptions,
    form: Form,
    on_error: OnError,
    give_up: GiveUp,
    follow: Option<(Start, Duration)>,
}

impl RowLines {
    /// Lines as the options say.
    pub fn new(options: LinesOptions) -> RowLines {
        RowLines { options, form: Form::Text, on_error: OnError::Fail, give_up: GiveUp::default(), follow: None }
    }

    /// Lines of files, folders, or `@FILE` for a file that lists them.
    pub fn over<I: Into<LinesInput>>(inputs: impl IntoIterator<Item = I>) -> RowLines {
        RowLines::new(LinesOptions::over(inputs))
    }

    /// What a line becomes. Default: its text.
    pub fn form(self, form: Form) -> RowLines {
        RowLines { form, ..self }
    }

    /// What becomes of lines that are not of the form. Default: the run ends with an error.
    pub fn on_error(self, on_error: OnError) -> RowLines {
        RowLines { on_error, ..self }
    }

    /// What becomes of lines that fail again and again: as dead letters they are `text` and `error`. Default: they are given up
    /// after ten failures. Followed lines are not emitted again.
    pub fn give_up(self, give_up: GiveUp) -> RowLines {
        RowLines { give_up, ..self }
    }

    /// Follows files that grow, are rotated or truncated, and folders in which files appear; looks at this period.
    pub fn follow(self, start: Start, look_every: Duration) -> RowLines {
        RowLines { follow: Some((start, look_every)), ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When two fields would have one name.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        self.form.check(&place)?;
        let reliable = self.follow.is_none();
        let give_up = if reliable { self.give_up } else { GiveUp::default() };
        let streams = self.form.streams(self.on_error, give_up);
        let form = Arc::new(self.form.clone());
        let settings = Arc::new(self);
        let shared = settings.clone();
        let make = move || Reading {
            form: form.reader(shared.on_error),
            settings: shared.clone(),
            source: None,
            reliable: None,
            exhausted: false,
            lines: None,
            long: false,
        };
        Ok(give_up.read(place.spout_with(streams, make, |decl| decl.reliable(reliable))))
    }
}

struct Reading {
    settings: Arc<RowLines>,
    form: FormReader,
    source: Option<Source>,
    /// Where acking is on. What is followed is read without ids.
    reliable: Option<Reliable<Box<str>>>,
    exhausted: bool,
    lines: Option<Counter>,
    /// Inside a line that came in pieces and was refused.
    long: bool,
}

enum Source {
    Whole(Box<LineReader>),
    Followed { follower: Follower, clock: Clock, look_every: Duration },
}

impl Spout for Reading {
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let tuple_bytes_max = ctx.plan().spec.config.max_tuple_bytes as usize;
        let mut options = self.settings.options.clone();
        options.line_bytes_max = options.line_bytes_max.min(tuple_bytes_max.saturating_sub(1024));
        let share = Share { index: ctx.task_index(), count: ctx.task_count() };
        self.source = Some(match self.settings.follow {
            None => {
                let mut reader = LineReader::new(&options, share)?;
                self.reliable = Reliable::open(ctx, self.settings.give_up)?;
                if let Some(reliable) = &self.reliable {
                    reader.resume(reliable.store().places().clone());
                }
                Source::Whole(Box::new(reader))
            }
            Some((start, look_every)) => {
                let from_end = start == Start::End;
                let follower = Follower::new(options.inputs, share, options.line_bytes_max, from_end);
                Source::Followed { follower, clock: ctx.clock(), look_every }
            }
        });
        self.lines = Some(ctx.counter("lines"));
        self.form.prepare(ctx);
        Ok(())
    }

    fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        if self.reliable.is_some() {
            return self.next_acked(out);
        }
        let lines = self.lines.as_ref().expect("prepared");
        match self.source.as_mut().expect("prepared") {
            Source::Whole(reader) => {
                let Some(line) = reader.next_line()? else { return Ok(Next::End) };
                lines.add(u64::from(line.last));
                if self.settings.form == Form::Text || (line.last && !self.long) {
                    self.form.emit(line.text, out)?;
                } else if !std::mem::replace(&mut self.long, !line.last) {
                    self.form.refuse(line.text.as_bytes(), "longer than line_bytes_max", out)?;
                }
                Ok(Next::Emitted)
            }
            Source::Followed { follower, clock, look_every } => {
                if let Some(line) = follower.next_line() {
                    lines.inc();
                    self.form.emit_bytes(&line, out)?;
                    return Ok(Next::Emitted);
                }
                let now = clock.now();
                let more = follower.look(now.as_nanos())?;
                Ok(if more { Next::Emitted } else { Next::WakeAt(now + *look_every) })
            }
        }
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        self.reliable.as_mut().map_or(Ok(()), |r| r.ack(id))
    }

    fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
        self.reliable.as_mut().map_or(Ok(()), |r| r.fail(id, &why))
    }

    fn cleanup(&mut self) {
        self.reliable.as_mut().map(Reliable::close_or_log);
    }

    fn placement() -> Placement {
        Placement::SideThread
    }
}

impl Reading {
    fn next_acked(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        let (Some(reliable), Some(Source::Whole(reader))) = (&mut self.reliable, &mut self.source) else {
            unreachable!("only whole files are read with ids")
        };
        if let Some((id, text)) = reliable.replay.take_due() {
            self.form.emit_as(Some(id), text, out)?;
            return Ok(Next::Emitted);
        }
        if let Some((id, text, error)) = reliable.replay.take_letter() {
            self.form.letter(id, text.as_bytes(), error, out);
            return Ok(Next::Emitted);
        }
        if self.exhausted || !reliable.replay.has_room() {
            return reliable.rest(self.exhausted);
        }
        let Some(line) = reader.next_line()? else {
            self.exhausted = true;
            return reliable.rest(true);
        };
        let (text, last) = (Box::<str>::from(line.text), line.last);
        self.lines.as_ref().expect("prepared").add(u64::from(last));
        // The pieces of a long line are done with when all of them are.
        let place = if last { reader.place() } else { None };
        let bytes = text.len();
        let id = reliable.replay.push(text, bytes, place);
        let text = reliable.replay.payload(id);
        let emitted = if self.settings.form == Form::Text || last && !self.long {
            self.form.emit_as(Some(id), text, out)?
        } else if !std::mem::replace(&mut self.long, !last) {
            self.form.refuse_as(Some(id), text.as_bytes(), "longer than line_bytes_max", out)?
        } else {
            false
        };
        if !emitted {
            reliable.ack(id)?;
        }
        Ok(Next::Emitted)
    }
}

fn common() -> Vec<OptionSpec> {
    let own = vec![
        OptionSpec::required(
            "paths",
            OptionType::list(OptionType::Path),
            "Files, folders (with all files below them) and @LIST for a file that names them, one a line; gzip and Zstandard \
             files are unpacked.",
        ),
        OptionSpec::with_default(
            "follow",
            OptionType::Bool,
            "false",
            "Reads also what is written later, without an end: files that grow, are rotated or truncated, and new ones; \
             compressed files are left out then.",
        ),
        OptionSpec::with_default(
            "start",
            OptionType::Word(&["beginning", "end"]),
            "beginning",
            "Where following begins in files that exist already.",
        ),
        OptionSpec::with_default(
            "look_every",
            OptionType::duration(),
            "200ms",
            "How often followed files are looked at.",
        ),
        OptionSpec::with_default(
            "line_bytes_max",
            OptionType::size(1024, 1 << 30),
            "8 MiB",
            "The longest line. A longer one comes in pieces; as JSON or CSV it is bad input.",
        ),
    ];
    own.into_iter().chain(giving_up_options()).collect()
}

fn lines(options: &Options) -> Result<RowLines, Vec<ConfigError>> {
    let inputs: Vec<LinesInput> = options.texts("paths").iter().map(|p| LinesInput::from_arg(p)).collect();
    let line_bytes_max = options.size("line_bytes_max").value as usize;
    let followed = options.flag("follow").value;
    let (why, remedy) = ("lines of followed files are not emitted again", "leave it out, or `follow`");
    let give_up = giving_up_if(!followed, options, why, remedy).map_err(|e| vec![e])?;
    let lines = RowLines::new(LinesOptions { line_bytes_max, ..LinesOptions::over(inputs) }).give_up(give_up);
    if !followed {
        return Ok(lines);
    }
    let start = if options.word("start").value == "end" { Start::End } else { Start::Beginning };
    Ok(lines.follow(start, options.duration("look_every").value))
}

pub(crate) fn described() -> Vec<Described> {
    let text = Described {
        name: "lines",
        aliases: &["org.apache.storm.hdfs.spout.HdfsSpout", "org.apache.storm.perf.spout.FileReadSpout"],
        kind: Kind::Spout,
        summary: "The lines of files and folders; of compressed ones, too; also as they grow.",
        options: common(),
        outputs: "`default`: `text`. `dead_letters`: `text` and `error`, with `on_give_up: dead_letters`.",
        example: "id: lines\nclassName: lines\nconfig:\n  paths: Cargo.toml\n",
        example_fields: &[],
        factory: Box::new(|options, place| lines(options)?.declare(place)),
    };
    let json = Described {
        name: "json-lines",
        aliases: &[],
        kind: Kind::Spout,
        summary: "JSON objects, one a line, of files and folders.",
        options: common()
            .into_iter()
            .chain([
                OptionSpec::required(
                    "fields",
                    OptionType::list(OptionType::Text),
                    "The keys that become fields, null where an object lacks one.",
                ),
                on_error_option(),
            ])
            .collect(),
        outputs: "`default`: the keys of `fields`. `dead_letters`: `text` and `error`, with `on_error: dead_letters` or \
                  `on_give_up: dead_letters`.",
        example: "id: clicks\nclassName: json-lines\nconfig:\n  paths: clicks.jsonl\n  fields: [user, page, ms]\n",
        example_fields: &[],
        factory: Box::new(|options, place| {
            let fields = options.texts("fields").into_iter().map(|f| f.value).collect();
            lines(options)?.form(Form::Json(fields)).on_error(on_error(options)).declare(place)
        }),
    };
    vec![text, json, crate::transform::csv_lines(common(), lines)]
}
