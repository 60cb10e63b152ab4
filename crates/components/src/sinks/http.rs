//! Rows posted to an HTTP server.

use std::io::{self, Read};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use squall::{Anchor, Bolt, BoltError, Context, Counter, Finish, Input, Placement, Row, RowStreams, Value};

use crate::registry::{ConfigError, Declared, Described, Given, Kind, OptionSpec, OptionType, Place};
use crate::rows::{BadInput, OnError, on_error, on_error_option};
use crate::transform::{FormatTo, Writer};

/// The longest pause between two attempts, whatever the server asks for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read so that its connection can be used again.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Posts rows to a URL: JSON objects or a template, a line each, one or several in a body.
///
/// So many posts are under way at most; beyond that the sink takes no more rows, and so slows the source. A post that the server
/// could not take (no connection, 408, 429, 5xx) is repeated after a pause that doubles, or that the server asks for; what is
/// refused otherwise, or after so many attempts, is bad input. Rows are acknowledged when their post was answered by 2xx; a post
/// whose answer was lost is repeated, so the server may see a row twice. Posts under way at a time may overtake each other.
#[derive(Debug, Clone)]
pub struct HttpSink {
    url: String,
    headers: Vec<(String, String)>,
    format: FormatTo,
    rows: usize,
    concurrency: usize,
    attempts: u32,
    pause: Duration,
    timeout: Duration,
    on_error: OnError,
}

impl HttpSink {
    /// JSON objects to this URL (`http://…`; there is no TLS): one a post, 4 posts at a time, 5 attempts.
    pub fn to(url: &str) -> HttpSink {
        HttpSink {
            url: url.into(),
            headers: Vec::new(),
            format: FormatTo::Json,
            rows: 1,
            concurrency: 4,
            attempts: 5,
            pause: Duration::from_millis(100),
            timeout: Duration::from_secs(30),
            on_error: OnError::Fail,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> HttpSink {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Lines by a template instead of JSON objects.
    pub fn template(self, template: impl Into<Given<String>>) -> HttpSink {
        HttpSink { format: FormatTo::Template(template.into()), ..self }
    }

    /// Rows in one post, at most; fewer at the end of a batch of the dataplane.
    pub fn rows(self, rows: usize) -> HttpSink {
        HttpSink { rows: rows.max(1), ..self }
    }

    /// Posts under way at a time, at most: each has a thread.
    pub fn concurrency(self, posts: usize) -> HttpSink {
        HttpSink { concurrency: posts.clamp(1, 256), ..self }
    }

    /// Attempts for one post, at least 1, and the pause after the first.
    pub fn attempts(self, attempts: u32, pause: Duration) -> HttpSink {
        HttpSink { attempts: attempts.max(1), pause, ..self }
    }

    /// How long one attempt may take, answer included.
    pub fn timeout(self, timeout: Duration) -> HttpSink {
        HttpSink { timeout, ..self }
    }

    /// What becomes of rows whose post was refused. Default: they fail.
    pub fn on_error(self, on_error: OnError) -> HttpSink {
        HttpSink { on_error, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When a template is none, or names fields that the input has not.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let writer = self.format.resolve(&place)?;
        let streams = self.on_error.streams(Vec::new(), place.fields());
        let settings = Arc::new(self);
        let make = move || Posting {
            bad: BadInput::new(settings.on_error),
            settings: settings.clone(),
            writer: writer.clone(),
            next: Post::default(),
            under_way: 0,
            pool: None,
            kit: None,
        };
        // Answers are looked at when rows come, and by ticks when none do.
        Ok(place.bolt(streams, Some(Duration::from_millis(20)), make))
    }
}

#[derive(Default)]
struct Post {
    body: Vec<u8>,
    rows: Vec<(Row, Anchor)>,
}

/// A post that was answered, or given up.
struct Answered {
    rows: Vec<(Row, Anchor)>,
    refused: Option<String>,
    retries: u64,
}

struct Posting {
    settings: Arc<HttpSink>,
    writer: Writer,
    next: Post,
    under_way: usize,
    pool: Option<Pool>,
    bad: BadInput,
    kit: Option<(Counter, Counter, Counter)>,
}

/// The threads that post.
struct Pool {
    posts: Option<Sender<Post>>,
    answered: Receiver<Answered>,
    /// Nothing is sent: that it is gone ends the pauses between attempts.
    running: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        (self.posts, self.running) = (None, None);
        // A pool that is dropped with posts under way: their answers go nowhere, so nobody waits for room.
        self.answered = crossbeam_channel::never();
        self.threads.drain(..).for_each(|t| drop(t.join()));
    }
}

impl Pool {
    fn start(settings: &Arc<HttpSink>) -> io::Result<Pool> {
        // At most `concurrency` posts are under way, so neither channel is ever full.
        let (posts, to_post) = bounded::<Post>(settings.concurrency);
        let (answers, answered) = bounded(settings.concurrency);
        let (running, stopped) = bounded(0);
        let config = ureq::Agent::config_builder().timeout_global(Some(settings.timeout)).http_status_as_error(false);
        let agent = ureq::Agent::from(config.build());
        let run = |_| {
            let (settings, to_post, answers) = (settings.clone(), to_post.clone(), answers.clone());
            let (agent, stopped) = (agent.clone(), stopped.clone());
            let post_all = move || {
                for Post { body, rows } in &to_post {
                    let (refused, retries) = post(&settings, &agent, &stopped, &body);
                    if answers.send(Answered { rows, refused, retries }).is_err() {
                        return;
                    }
                }
            };
            thread::Builder::new().name("http-sink".into()).spawn(post_all)
        };
        let threads = (0..settings.concurrency).map(run).collect::<io::Result<_>>()?;
        Ok(Pool { posts: Some(posts), answered, running: Some(running), threads })
    }
}

/// Posts a body, again and again if need be. Gives why it was refused, if it was, and how often it was repeated.
fn post(settings: &HttpSink, agent: &ureq::Agent, stopped: &Receiver<()>, body: &[u8]) -> (Option<String>, u64) {
    let mut pause = settings.pause;
    for attempt in 1.. {
        let mut request = agent.post(&settings.url);
        for (name, value) in &settings.headers {
            request = request.header(name, value);
        }
        let (cause, asked) = match request.send(body) {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let asked = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
                // Read to its end, the connection can be used again.
                drop(io::copy(&mut answer.into_body().into_reader().take(ANSWER_BYTES_MAX), &mut io::sink()));
                match status {
                    200..=299 => return (None, u64::from(attempt - 1)),
                    408 | 429 | 500..=599 => (format!("the server answered {status}"), asked.map(Duration::from_secs)),
                    _ => return (Some(format!("the server answered {status}")), u64::from(attempt - 1)),
                }
            }
            Err(cause) => (cause.to_string(), None),
        };
        if attempt >= settings.attempts {
            return (Some(format!("{cause}, after {attempt} attempts")), u64::from(attempt - 1));
        }
        if stopped.recv_timeout(asked.unwrap_or(pause).min(PAUSE_MAX)) == Err(RecvTimeoutError::Disconnected) {
            return (Some(format!("{cause}, and the run ended")), u64::from(attempt - 1));
        }
        pause *= 2;
    }
    unreachable!("the last attempt returns")
}

impl Posting {
    fn submit(&mut self, out: &mut RowStreams) -> Result<(), BoltError> {
        if self.next.rows.is_empty() {
            return Ok(());
        }
        while self.under_way >= self.settings.concurrency {
            self.wait(out)?;
        }
        let post = std::mem::take(&mut self.next);
        let pool = self.pool.as_ref().expect("prepared");
        if pool.posts.as_ref().is_none_or(|posts| posts.send(post).is_err()) {
            return Err(BoltError::fatal("the threads that post have ended; see the errors above"));
        }
        self.under_way += 1;
        Ok(())
    }

    /// Waits for an answer. Blocks: the sink has a thread of its own.
    fn wait(&mut self, out: &mut RowStreams) -> Result<(), BoltError> {
        match self.pool.as_ref().expect("prepared").answered.recv() {
            Ok(answered) => self.settle(answered, out),
            Err(_) => Err(BoltError::fatal("the threads that post have ended; see the errors above")),
        }
    }

    fn look(&mut self, out: &mut RowStreams) -> Result<(), BoltError> {
        while let Ok(answered) = self.pool.as_ref().expect("prepared").answered.try_recv() {
            self.settle(answered, out)?;
        }
        Ok(())
    }

    fn settle(&mut self, answered: Answered, out: &mut RowStreams) -> Result<(), BoltError> {
        self.under_way -= 1;
        let (posts, rows, retries) = self.kit.as_ref().expect("prepared");
        posts.inc();
        retries.add(answered.retries);
        let Some(cause) = answered.refused else {
            rows.add(answered.rows.len() as u64);
            answered.rows.into_iter().for_each(|(_, anchor)| anchor.ack());
            return Ok(());
        };
        for (mut row, anchor) in answered.rows {
            if self.bad.count(&cause).is_err() {
                anchor.fail(&cause);
                continue;
            }
            if self.settings.on_error == OnError::DeadLetters {
                row.0.push(Value::Str(cause.clone()));
                out[0].anchored(&[&anchor], row);
            }
            anchor.ack();
        }
        Ok(())
    }
}

impl Bolt for Posting {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.bad.prepare(ctx);
        self.kit = Some((ctx.counter("posts"), ctx.counter("rows"), ctx.counter("retries")));
        self.pool = Some(Pool::start(&self.settings).map_err(BoltError::fatal_from)?);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        self.writer.write(input.get(), &mut self.next.body);
        self.next.body.push(b'\n');
        self.next.rows.push(input.keep());
        if self.next.rows.len() >= self.settings.rows {
            self.submit(out)?;
        }
        self.look(out)
    }

    fn batch_end(&mut self, out: &mut RowStreams) -> Result<(), BoltError> {
        self.submit(out)
    }

    fn tick(&mut self, out: &mut RowStreams) -> Result<(), BoltError> {
        self.look(out)
    }

    fn finish(&mut self, out: &mut RowStreams) -> Result<Finish, BoltError> {
        self.submit(out)?;
        while self.under_way > 0 {
            self.wait(out)?;
        }
        Ok(Finish::Done)
    }

    fn cleanup(&mut self) {
        self.pool = None;
    }

    fn placement() -> Placement {
        Placement::SideThread
    }
}

pub(super) fn described() -> Described {
    Described {
        name: "http-sink",
        aliases: &[],
        kind: Kind::Sink,
        summary: "Posts rows to an HTTP server, with retries and a bound on posts under way.",
        options: vec![
            OptionSpec::required("url", OptionType::Text, "Where rows are posted: http://…; there is no TLS."),
            OptionSpec::optional("headers", OptionType::map(OptionType::Text), "Headers of each post."),
            OptionSpec::optional(
                "template",
                OptionType::Text,
                "The row's line, with {name} for fields; {{ and }} are braces. Left out: a JSON object.",
            ),
            OptionSpec::with_default(
                "rows",
                OptionType::integer(1, 100_000),
                "1",
                "Rows in one post, at most, a line each.",
            ),
            OptionSpec::with_default(
                "concurrency",
                OptionType::integer(1, 256),
                "4",
                "Posts under way at a time, at most; with more than 1 they may overtake each other.",
            ),
            OptionSpec::with_default("attempts", OptionType::integer(1, 1000), "5", "Attempts for one post."),
            OptionSpec::with_default(
                "pause",
                OptionType::duration(),
                "100ms",
                "The pause after the first attempt; it doubles each time. A `Retry-After` of the server goes before.",
            ),
            OptionSpec::with_default("timeout", OptionType::duration(), "30s", "How long one attempt may take."),
            on_error_option(),
        ],
        outputs: "`dead_letters`: the input's fields and `error`, with `on_error: dead_letters`; else none.",
        example: "id: notify\nclassName: http-sink\nconfig:\n  url: http://127.0.0.1:8080/events\n  headers:\n    content-type: \
                  application/json\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let url = options.text("url");
            if !url.starts_with("http://") {
                let what = format!("`url` is `{}`", url.value);
                return Err(vec![ConfigError::new(url.at, what, "begin it with http://; for TLS put a proxy between")]);
            }
            let mut sink = HttpSink::to(&url).rows(options.count("rows")).concurrency(options.count("concurrency"));
            for (name, value) in options.text_map("headers") {
                sink = sink.header(&name, &value);
            }
            if let Some(template) = options.maybe_text("template") {
                sink = sink.template(template);
            }
            sink = sink.attempts(options.count("attempts") as u32, options.duration("pause").value);
            sink.timeout(options.duration("timeout").value).on_error(on_error(options)).declare(place)
        }),
    }
}
