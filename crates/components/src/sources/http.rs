//! Rows that are posted over HTTP.

use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use squall::{Context, Level, Next, RowStreams, Spout, SpoutError};
use tokio::sync::{Notify, Semaphore};

use super::form::{FORM_OUTPUTS, Form, form, form_options};
use super::inflow::{Chunk, Feeder, Inflow, inflow};
use super::net::{address, listen_option};
use super::stdin::limit_option;
use crate::giving_up::GiveUp;
use crate::registry::{ConfigError, Declared, Described, Kind, OptionSpec, OptionType, Place};
use crate::rows::OnError;

/// Connections served at a time, at most; others wait in the listener's queue.
const CONNECTIONS_MAX: usize = 1024;
/// How long a client may take to send a request's head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long the end of the spout waits for posts whose rows it took to be answered.
const LAST_ANSWERS_TIME: Duration = Duration::from_millis(250);

/// Emits what is posted to a path: each line of a body, or each body, is a row.
///
/// A post is answered by 202 once its rows wait for the spout: in memory, so they are lost if the worker dies then. While the
/// spout has no room it is answered by 503 and `Retry-After`; a body that is too large by 413. The server has a thread of its own.
pub struct HttpPost {
    listener: Mutex<Option<TcpListener>>,
    address: String,
    path: String,
    whole: bool,
    body_bytes_max: usize,
    form: Arc<Form>,
    on_error: OnError,
    limit: Option<u64>,
}

impl HttpPost {
    /// Listens on this address: `127.0.0.1:8080`; with port 0 on any free one, which is logged.
    pub fn on(address: &str) -> HttpPost {
        HttpPost {
            listener: Mutex::new(None),
            address: address.into(),
            path: "/".into(),
            whole: false,
            body_bytes_max: 1 << 20,
            form: Arc::default(),
            on_error: OnError::Fail,
            limit: None,
        }
    }

    /// Listens on a socket that is bound already.
    pub fn bound(listener: TcpListener) -> HttpPost {
        HttpPost { listener: Mutex::new(Some(listener)), ..HttpPost::on("") }
    }

    /// The path that is posted to. Default `/`.
    pub fn path(self, path: &str) -> HttpPost {
        HttpPost { path: path.into(), ..self }
    }

    /// Each body is one text. Default: each line of it.
    pub fn whole(self) -> HttpPost {
        HttpPost { whole: true, ..self }
    }

    /// The largest body. Default 1 MiB; 64 of them may wait.
    pub fn body_bytes_max(self, bytes: usize) -> HttpPost {
        HttpPost { body_bytes_max: bytes, ..self }
    }

    /// What a text becomes. Default: its text.
    pub fn form(self, form: Form) -> HttpPost {
        HttpPost { form: Arc::new(form), ..self }
    }

    /// What becomes of texts that are not of the form. Default: the run ends with an error.
    pub fn on_error(self, on_error: OnError) -> HttpPost {
        HttpPost { on_error, ..self }
    }

    /// Ends after so many texts. Default: without an end.
    pub fn limit(self, rows: u64) -> HttpPost {
        HttpPost { limit: Some(rows), ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When more than one task is asked for, or two fields would have one name.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        place.one_task("an address can be listened on once").map_err(|e| vec![e])?;
        self.form.check(&place)?;
        let streams = self.form.streams(self.on_error, GiveUp::default());
        let settings = Arc::new(self);
        Ok(place.spout(streams, move || Posted { settings: settings.clone(), inflow: None, server: None }))
    }

    fn listen(&self) -> Result<TcpListener, SpoutError> {
        if let Some(listener) = self.listener.lock().expect("nothing panics while it is held").take() {
            return Ok(listener);
        }
        let address = &self.address;
        TcpListener::bind(address).map_err(|cause| {
            let remedy = "choose an address of this host and a free port";
            SpoutError::new(format!("cannot listen on {address}: {cause}; {remedy}"))
        })
    }
}

struct Posted {
    settings: Arc<HttpPost>,
    inflow: Option<Inflow>,
    server: Option<Server>,
}

/// The server's thread; ends it when dropped.
struct Server {
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Spout for Posted {
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        let listener = self.settings.listen()?;
        ctx.log(
            Level::Info,
            format_args!("listening for posts on http://{}{}", listener.local_addr()?, self.settings.path),
        );
        let HttpPost { form, on_error, limit, .. } = &*self.settings;
        let (feeder, inflow) = inflow(ctx, form, *on_error, *limit);
        self.inflow = Some(inflow);
        let (settings, stop) = (self.settings.clone(), Arc::new(Notify::new()));
        let stopped = stop.clone();
        let serve = move || {
            if let Err(cause) = serve(listener, &settings, &feeder, &stopped) {
                feeder.push(Chunk::Broken(format!("the HTTP server broke: {cause}; see the limits of open files")));
            }
        };
        let thread = thread::Builder::new().name("http-post".into()).spawn(serve)?;
        self.server = Some(Server { stop, thread: Some(thread) });
        Ok(())
    }

    fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        let next = self.inflow.as_mut().expect("prepared").next(out)?;
        if next == Next::End {
            self.deactivate();
        }
        Ok(next)
    }

    fn deactivate(&mut self) {
        self.inflow = None;
        self.server = None;
    }

    fn cleanup(&mut self) {
        self.deactivate();
    }
}

/// Serves until it is told to stop; then posts under way are answered, if that takes no longer than [`LAST_ANSWERS_TIME`]: a sender
/// without an answer would send its rows again.
fn serve(listener: TcpListener, settings: &Arc<HttpPost>, feeder: &Feeder, stop: &Notify) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (last, _) = tokio::sync::watch::channel(());
        loop {
            let permit = tokio::select! {
                () = stop.notified() => break,
                permit = connections.clone().acquire_owned() => permit.expect("never closed"),
            };
            let accepted = tokio::select! {
                () = stop.notified() => break,
                accepted = listener.accept() => accepted,
            };
            let connection = match accepted {
                Ok((connection, _)) => connection,
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            let (settings, feeder, mut last) = (settings.clone(), feeder.clone(), last.subscribe());
            tokio::spawn(async move {
                let answer = service_fn(|request| answer(request, &settings, &feeder));
                let mut server = hyper::server::conn::http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
                let mut served = pin!(server.serve_connection(TokioIo::new(connection), answer));
                // A client that breaks off is its own affair.
                tokio::select! {
                    ended = &mut served => drop(ended),
                    _ = last.changed() => {
                        served.as_mut().graceful_shutdown();
                        drop(served.await);
                    }
                }
                drop(permit);
            });
        }
        drop(listener);
        last.send_replace(());
        // Those that are not done in time are cut off with the runtime.
        drop(tokio::time::timeout(LAST_ANSWERS_TIME, connections.acquire_many(CONNECTIONS_MAX as u32)).await);
        Ok(())
    })
}

type Answer = Response<Full<Bytes>>;

fn say(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    answer
}

async fn answer(
    request: Request<Incoming>,
    settings: &HttpPost,
    feeder: &Feeder,
) -> Result<Answer, std::convert::Infallible> {
    if request.uri().path() != settings.path {
        return Ok(say(StatusCode::NOT_FOUND, "nothing is taken at this path\n"));
    }
    if request.method() != Method::POST {
        let mut answer = say(StatusCode::METHOD_NOT_ALLOWED, "post rows here\n");
        answer.headers_mut().insert(ALLOW, "POST".parse().expect("a header's value"));
        return Ok(answer);
    }
    let body = match Limited::new(request.into_body(), settings.body_bytes_max).collect().await {
        Ok(body) => body.to_bytes().to_vec(),
        Err(e) if e.is::<http_body_util::LengthLimitError>() => {
            return Ok(say(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large: post it in parts\n"));
        }
        Err(_) => return Ok(say(StatusCode::BAD_REQUEST, "the body broke off\n")),
    };
    let chunk = match settings.whole {
        true => Chunk::Text(body),
        false if body.is_empty() => return Ok(say(StatusCode::ACCEPTED, "")),
        false => Chunk::Lines(body),
    };
    Ok(match feeder.try_push(chunk) {
        Ok(()) => say(StatusCode::ACCEPTED, ""),
        Err(_) => {
            let mut answer = say(StatusCode::SERVICE_UNAVAILABLE, "too much waits: try again later\n");
            answer.headers_mut().insert(RETRY_AFTER, "1".parse().expect("a header's value"));
            answer
        }
    })
}

pub(super) fn described() -> Described {
    let options = [
        listen_option(),
        OptionSpec::with_default("path", OptionType::Text, "/", "The path that is posted to."),
        OptionSpec::with_default(
            "body",
            OptionType::Word(&["lines", "whole"]),
            "lines",
            "Each line of a body is a row, or each body.",
        ),
        OptionSpec::with_default(
            "body_size_max",
            OptionType::size(1, 1 << 30),
            "1 MiB",
            "The largest body; 64 of them may wait.",
        ),
    ];
    Described {
        name: "http-post",
        aliases: &[],
        kind: Kind::Spout,
        summary: "Rows that are posted over HTTP, by lines or bodies.",
        options: options.into_iter().chain(form_options()).chain([limit_option()]).collect(),
        outputs: FORM_OUTPUTS,
        example: "id: hook\nclassName: http-post\nconfig:\n  listen: \"127.0.0.1:8080\"\n  path: /events\n  fields: [user, page]\n",
        example_fields: &[],
        factory: Box::new(|options, place| {
            let (form, on_error) = form(options);
            let path = options.text("path");
            let mut errors = Vec::new();
            if !path.starts_with('/') {
                let what = format!("`path` is `{}`", path.value);
                errors.push(ConfigError::new(path.at, what, "begin it with a slash"));
            }
            let listen = address(options, "listen").map_err(|e| errors.push(e)).ok();
            let Some(listen) = listen.filter(|_| errors.is_empty()) else { return Err(errors) };
            let mut post = HttpPost::on(&listen).path(&path).form(form).on_error(on_error);
            post = post.body_bytes_max(options.size("body_size_max").value as usize);
            if options.word("body").value == "whole" {
                post = post.whole();
            }
            match options.maybe_integer("limit") {
                Some(limit) => post.limit(limit.value as u64).declare(place),
                None => post.declare(place),
            }
        }),
    }
}
