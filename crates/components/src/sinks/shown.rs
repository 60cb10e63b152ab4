//! Rows on standard output, in the log, and nowhere.

use std::io::Write;
use std::sync::Arc;

use squall::{Bolt, BoltError, Context, Input, Level, Logger, Placement, Row, RowStreams};

use super::Torn;
use super::typed::{Shared, cannot_write};
use crate::registry::{ConfigError, Declared, Described, Kind, OptionSpec, OptionType, Place};
use crate::rows::{write_object, write_text};

/// How rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Show {
    /// A JSON object.
    #[default]
    Json,
    /// The values, with a tab between them.
    Text,
}

impl Show {
    pub(crate) fn write(self, row: &squall::ArchivedRow, fields: &[String], out: &mut Vec<u8>) {
        match self {
            Show::Json => write_object(row, fields, out),
            Show::Text => {
                for (i, value) in row.iter().enumerate() {
                    if i > 0 {
                        out.push(b'\t');
                    }
                    write_text(value, out);
                }
            }
        }
    }
}

/// Prints rows on standard output, one a line: as JSON objects, or as their values with tabs between them. Flushed when a batch
/// ends; see [`Print`](crate::Print).
#[derive(Clone, Default)]
pub struct PrintRows {
    show: Show,
    to: Option<MakeWriter>,
}

/// Makes the writer of a task, on its thread.
type MakeWriter = Arc<dyn Fn() -> Box<dyn Write> + Send + Sync>;

impl PrintRows {
    /// As JSON objects.
    pub fn json() -> PrintRows {
        PrintRows { show: Show::Json, to: None }
    }

    /// As values with tabs between them.
    pub fn text() -> PrintRows {
        PrintRows { show: Show::Text, to: None }
    }

    /// Each task writes to one of these instead of standard output. It should buffer: it is flushed when a batch ends.
    pub fn to(self, make: impl Fn() -> Box<dyn Write> + Send + Sync + 'static) -> PrintRows {
        PrintRows { to: Some(Arc::new(make)), ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// None today.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let fields: Arc<[String]> = place.fields().into();
        let make = move || Printing {
            show: self.show,
            fields: fields.clone(),
            out: self.to.as_ref().map_or_else(|| Box::new(Shared::default()) as Box<dyn Write>, |make| make()),
            line: Vec::new(),
            label: String::new(),
            torn: Torn::default(),
        };
        Ok(place.bolt(Vec::new(), None, make))
    }
}

struct Printing {
    show: Show,
    fields: Arc<[String]>,
    out: Box<dyn Write>,
    line: Vec<u8>,
    label: String,
    torn: Torn,
}

impl Bolt for Printing {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.label = format!("{} (task {})", ctx.component(), ctx.task());
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, _: &mut RowStreams) -> Result<(), BoltError> {
        self.line.clear();
        self.show.write(input.get(), &self.fields, &mut self.line);
        self.line.push(b'\n');
        let Printing { out, line, label, torn, .. } = self;
        torn.write(|| out.write_all(line).map_err(|cause| cannot_write(label, cause)));
        Ok(())
    }

    fn batch_end(&mut self, _: &mut RowStreams) -> Result<(), BoltError> {
        self.torn.end()?;
        self.out.flush().map_err(|cause| cannot_write(&self.label, cause))
    }

    fn placement() -> Placement {
        Placement::SideThread
    }
}

/// Writes rows to the log, with component and task. The log is bounded: of more lines than it takes some are dropped and
/// counted, so this is for what is rare.
#[derive(Debug, Clone, Copy)]
pub struct LogRows {
    level: Level,
}

impl LogRows {
    /// At this level.
    pub fn at(level: Level) -> LogRows {
        LogRows { level }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// None today.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let fields: Arc<[String]> = place.fields().into();
        let make = move || Logging { level: self.level, fields: fields.clone(), line: Vec::new(), logger: None };
        Ok(place.bolt(Vec::new(), None, make))
    }
}

struct Logging {
    level: Level,
    fields: Arc<[String]>,
    line: Vec<u8>,
    logger: Option<Logger>,
}

impl Bolt for Logging {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.logger = Some(ctx.logger());
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, _: &mut RowStreams) -> Result<(), BoltError> {
        self.line.clear();
        write_object(input.get(), &self.fields, &mut self.line);
        let logger = self.logger.as_ref().expect("prepared");
        logger.log(self.level, format_args!("{}", String::from_utf8_lossy(&self.line)));
        Ok(())
    }
}

/// Takes rows and does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullRows;

impl NullRows {
    /// Declares it at a place.
    ///
    /// # Errors
    /// None today.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        Ok(place.bolt(Vec::new(), None, || NullRows))
    }
}

impl Bolt for NullRows {
    type In = Row;
    type Out = RowStreams;

    #[inline]
    fn execute(&mut self, _: Input<'_, Row>, _: &mut RowStreams) -> Result<(), BoltError> {
        Ok(())
    }
}

pub(super) fn described() -> Vec<Described> {
    let shown = OptionSpec::with_default(
        "format",
        OptionType::Word(&["json", "text"]),
        "json",
        "A JSON object a line, or the values with tabs between them.",
    );
    let print = Described {
        name: "print",
        aliases: &["org.apache.storm.starter.bolt.PrinterBolt"],
        kind: Kind::Sink,
        summary: "Prints rows on standard output, one a line.",
        options: vec![shown],
        outputs: "None.",
        example: "id: show\nclassName: print\nconfig:\n  format: text\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| match options.word("format").value {
            "text" => PrintRows::text().declare(place),
            _ => PrintRows::json().declare(place),
        }),
    };
    let log = Described {
        name: "log",
        aliases: &["org.apache.storm.flux.wrappers.bolts.LogInfoBolt"],
        kind: Kind::Sink,
        summary: "Writes rows to the log; for what is rare.",
        options: vec![OptionSpec::with_default(
            "level",
            OptionType::Word(&["debug", "info", "warn", "error"]),
            "info",
            "The level of the lines.",
        )],
        outputs: "None.",
        example: "id: alerts\nclassName: log\nconfig:\n  level: warn\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let level = match options.word("level").value {
                "debug" => Level::Debug,
                "warn" => Level::Warn,
                "error" => Level::Error,
                _ => Level::Info,
            };
            LogRows::at(level).declare(place)
        }),
    };
    let null = Described {
        name: "null",
        aliases: &["org.apache.storm.perf.bolt.DevNullBolt"],
        kind: Kind::Sink,
        summary: "Takes rows and does nothing: the end of a topology whose counts are all that matters.",
        options: Vec::new(),
        outputs: "None.",
        example: "id: end\nclassName: \"null\"\n",
        example_fields: &["word", "n"],
        factory: Box::new(|_, place| NullRows.declare(place)),
    };
    vec![print, log, null]
}
