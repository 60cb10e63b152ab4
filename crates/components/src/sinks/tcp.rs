//! Rows as lines over a TCP connection.

use std::io::{self, BufWriter, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use squall::{Anchor, Bolt, BoltError, Context, Counter, Finish, Input, Level, Logger, Placement, Row, RowStreams};

use crate::registry::{ConfigError, Declared, Described, Given, Kind, OptionSpec, OptionType, Place};
use crate::transform::{FormatTo, Writer};

/// Rows that were written and not flushed, at most.
const PENDING_MAX: usize = 4096;

/// Writes rows as lines to a server: as JSON objects, or by a template.
///
/// A row is acknowledged when it was handed to the system, at the end of its batch. When the connection breaks, it is made again,
/// with twice the pause each time, and what was not handed over is written again; lines that the system had and could not deliver
/// are lost, as ever with TCP. When no attempt succeeds, the run ends with an error.
#[derive(Debug, Clone)]
pub struct TcpSink {
    address: String,
    format: FormatTo,
    attempts: u32,
    pause: Duration,
}

impl TcpSink {
    /// JSON objects to this address.
    pub fn to(address: &str) -> TcpSink {
        TcpSink { address: address.into(), format: FormatTo::Json, attempts: 10, pause: Duration::from_millis(100) }
    }

    /// Lines by a template instead.
    pub fn template(self, template: impl Into<Given<String>>) -> TcpSink {
        TcpSink { format: FormatTo::Template(template.into()), ..self }
    }

    /// Attempts to connect before the run ends, at least 1, and the pause after the first. Default: 10, and 100 ms.
    pub fn attempts(self, attempts: u32, pause: Duration) -> TcpSink {
        TcpSink { attempts: attempts.max(1), pause, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When a template is none, or names fields that the input has not.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let writer = self.format.resolve(&place)?;
        let settings = Arc::new(self);
        let make = move || Sending {
            settings: settings.clone(),
            writer: writer.clone(),
            connection: None,
            pending: Vec::new(),
            anchors: Vec::new(),
            kit: None,
        };
        Ok(place.bolt(Vec::new(), None, make))
    }
}

struct Sending {
    settings: Arc<TcpSink>,
    writer: Writer,
    connection: Option<BufWriter<TcpStream>>,
    /// Lines that are not yet the system's.
    pending: Vec<u8>,
    anchors: Vec<Anchor>,
    kit: Option<(Counter, Counter, Logger)>,
}

impl Sending {
    fn send(&mut self) -> io::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(BufWriter::new(TcpStream::connect(&self.settings.address)?)),
        };
        connection.write_all(&self.pending)?;
        connection.flush()
    }

    fn flush(&mut self) -> Result<(), BoltError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pause = self.settings.pause;
        for attempt in 1.. {
            let Err(cause) = self.send() else { break };
            self.connection = None;
            let TcpSink { address, attempts, .. } = &*self.settings;
            if attempt >= *attempts {
                let remedy = "start the server, or correct `address`";
                return Err(BoltError::fatal(format!(
                    "cannot send to {address} in {attempts} attempts: {cause}; {remedy}"
                )));
            }
            let (_, retries, logger) = self.kit.as_ref().expect("prepared");
            retries.inc();
            logger.log(Level::Warn, format_args!("cannot send to {address}: {cause}; again in {pause:?}"));
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(10));
        }
        self.kit.as_ref().expect("prepared").0.add(self.anchors.len() as u64);
        self.pending.clear();
        self.anchors.drain(..).for_each(Anchor::ack);
        Ok(())
    }
}

impl Bolt for Sending {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.kit = Some((ctx.counter("rows"), ctx.counter("retries"), ctx.logger()));
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, _: &mut RowStreams) -> Result<(), BoltError> {
        self.writer.write(input.get(), &mut self.pending);
        self.pending.push(b'\n');
        self.anchors.push(input.keep().1);
        if self.anchors.len() >= PENDING_MAX { self.flush() } else { Ok(()) }
    }

    fn batch_end(&mut self, _: &mut RowStreams) -> Result<(), BoltError> {
        self.flush()
    }

    fn finish(&mut self, _: &mut RowStreams) -> Result<Finish, BoltError> {
        self.flush()?;
        Ok(Finish::Done)
    }

    fn placement() -> Placement {
        Placement::SideThread
    }
}

pub(super) fn described() -> Described {
    Described {
        name: "tcp-sink",
        aliases: &["org.apache.storm.sql.runtime.datasource.socket.bolt.SocketBolt"],
        kind: Kind::Sink,
        summary: "Writes rows as lines to a TCP server.",
        options: vec![
            OptionSpec::required("address", OptionType::Text, "Host and port of the server, such as 127.0.0.1:4000."),
            OptionSpec::optional(
                "template",
                OptionType::Text,
                "The line, with {name} for fields; {{ and }} are braces. Left out: a JSON object.",
            ),
            OptionSpec::with_default(
                "attempts",
                OptionType::integer(1, 1000),
                "10",
                "Attempts to connect before the run ends with an error.",
            ),
            OptionSpec::with_default(
                "pause",
                OptionType::duration(),
                "100ms",
                "The pause after the first attempt; it doubles each time, up to 10 s.",
            ),
        ],
        outputs: "None.",
        example: "id: forward\nclassName: tcp-sink\nconfig:\n  address: \"127.0.0.1:4000\"\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let address = crate::sources::address(options, "address").map_err(|e| vec![e])?;
            let mut sink = TcpSink::to(&address);
            if let Some(template) = options.maybe_text("template") {
                sink = sink.template(template);
            }
            sink.attempts(options.count("attempts") as u32, options.duration("pause").value).declare(place)
        }),
    }
}
