//! Nimbus over HTTP: JSON under `/api/v2`, the summaries of Storm's UI under `/api/v1`, `/metrics`, `/healthz`.
//!
//! Every request but `/healthz` carries the token of the cluster; names are checked before they get anywhere, blobs are named by hash and uploads
//! by number, so no path ever comes from outside. Bodies and heads are bounded. An error is `{"error": text}` with a status that fits.
//!
//! Deliberately absent: TLS, JSONP, and the pages of Storm's UI beyond the summaries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use squall_blobs::{Begin, BlobError, BlobStore, Hash, UploadId};
use squall_control::record::{Change, Shape, valid_name};
use squall_control::{Accepted, Refusal, Request, Role, Submission, Summary};
use squall_scheduler::NodeUse;
use tokio::net::TcpListener;

use super::Arguments;
use super::link::{LogAsk, NoLog, Nodes};
use super::nimbus::{Driver, Handle, wall_ms};
use super::pages;
use super::standby::Standbys;

/// Bytes of a body, at most: a chunk of a blob, or the shape of a topology of thousands of components.
const BODY_MAX: usize = 4 << 20;
/// How long the head of a request may take.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// The longest wait of a kill.
const WAIT_MAX_MS: u64 = 24 * 3600 * 1000;

/// What a submission is on the wire.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubmitBody {
    pub name: String,
    /// Chosen by the client at random; the same one twice is one submission.
    pub submission: String,
    pub shape: Shape,
    /// By hash, the artifact first.
    pub blobs: Vec<String>,
    pub arguments: Arguments,
    pub arch: String,
    pub engine: String,
    #[serde(default)]
    pub inactive: bool,
}

/// What the interface is made of.
pub(crate) struct Api {
    pub nimbus: Handle,
    pub blobs: Arc<BlobStore>,
    pub nodes: Nodes,
    pub standbys: Standbys,
    /// `None`: whoever asks is served.
    pub token: Option<String>,
}

/// An answer that is not the one hoped for.
struct Problem(StatusCode, String);

type Answer = Result<Reply, Problem>;

enum Reply {
    Json(Value),
    Text(String),
    /// Of a blob, with its size.
    Bytes(Vec<u8>, u64),
    /// Another nimbus leads: there the same request is answered.
    Elsewhere(String, String),
    /// Of a log: from where on, and the size of it.
    Log(Vec<u8>, u64, u64),
}

impl Problem {
    fn wrong(why: impl Into<String>) -> Problem {
        Problem(StatusCode::BAD_REQUEST, why.into())
    }

    fn unknown(what: impl Into<String>) -> Problem {
        Problem(StatusCode::NOT_FOUND, what.into())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let status = match &refusal {
            Refusal::NotLeader { .. } | Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Unknown(_) => StatusCode::GATEWAY_TIMEOUT,
            Refusal::Wrong(_) => StatusCode::CONFLICT,
        };
        Problem(status, refusal.to_string())
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Problem {
        let status = match &error {
            BlobError::Missing { .. } | BlobError::NoUpload(_) => StatusCode::NOT_FOUND,
            BlobError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            BlobError::Io { .. } | BlobError::Damaged { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem(status, error.to_string())
    }
}

/// Serves for as long as somebody polls it.
pub(crate) async fn serve(listener: TcpListener, api: Arc<Api>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let api = api.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let api = api.clone();
                async move { Ok::<_, std::convert::Infallible>(respond(&api, request).await) }
            });
            // What goes wrong on a connection is the client's to notice.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WAIT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(api: &Api, request: HttpRequest<Incoming>) -> Response<Full<Bytes>> {
    let mut response = Response::builder();
    let (status, kind, body) = match answer(api, request).await {
        Ok(Reply::Json(value)) => (StatusCode::OK, "application/json", format!("{value}\n").into()),
        Ok(Reply::Text(text)) => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", Bytes::from(text)),
        Ok(Reply::Bytes(bytes, size)) => {
            response = response.header("x-blob-size", size);
            (StatusCode::OK, "application/octet-stream", bytes.into())
        }
        Ok(Reply::Elsewhere(leader, path)) => {
            response = response.header("location", format!("http://{leader}{path}"));
            let why = json!({ "error": format!("this nimbus does not lead: ask {leader}"), "leader": leader });
            (StatusCode::TEMPORARY_REDIRECT, "application/json", format!("{why}\n").into())
        }
        Ok(Reply::Log(bytes, offset, size)) => {
            response = response.header("x-log-offset", offset).header("x-log-size", size);
            (StatusCode::OK, "text/plain; charset=utf-8", bytes.into())
        }
        Err(Problem(status, why)) => (status, "application/json", format!("{}\n", json!({ "error": why })).into()),
    };
    let response = response.status(status).header(CONTENT_TYPE, kind).body(Full::new(body));
    response.expect("status and header are plain")
}

/// Whether two texts are equal, in a time that does not tell where they differ.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

async fn answer(api: &Api, request: HttpRequest<Incoming>) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if path == "/healthz" {
        return health(api).await;
    }
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if api.token.as_ref().is_some_and(|token| !equal(given.as_bytes(), token.as_bytes())) {
        let why = "a token is needed: send `Authorization: Bearer TOKEN`; it lies in the file `token` of nimbus's state folder";
        return Err(Problem(StatusCode::UNAUTHORIZED, why.into()));
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = || async {
        let limited = Limited::new(request.into_body(), BODY_MAX).collect().await;
        let whole = limited.map_err(|error| Problem::wrong(format!("the body cannot be read: {error}")))?;
        Ok::<_, Problem>(whole.to_bytes())
    };
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    // What is of this process is answered here, everything else by who leads.
    if !matches!((method.as_str(), parts.as_slice()), ("GET", ["metrics"] | ["api", "v2", "blobs", _])) {
        match api.nimbus.standing().role {
            Role::Leading => {}
            Role::Following(leader) => {
                let whole = if query.is_empty() { path } else { format!("{path}?{query}") };
                return Ok(Reply::Elsewhere(leader.address, whole));
            }
            Role::Away | Role::Joining | Role::Loading => return Err(nobody()),
        }
    }
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["metrics"]) => look(api, pages::metrics).await.map(Reply::Text),
        ("GET", ["api", "v1", "cluster", "summary"]) => look(api, pages::v1_cluster).await.map(Reply::Json),
        ("GET", ["api", "v1", "nimbus", "summary"]) => look(api, pages::v1_nimbus).await.map(Reply::Json),
        ("GET", ["api", "v1", "supervisor", "summary"]) => look(api, pages::v1_supervisors).await.map(Reply::Json),
        ("GET", ["api", "v1", "topology", "summary"]) => {
            let list = summaries(api).await?;
            look(api, move |driver| pages::v1_topologies(driver, &list)).await.map(Reply::Json)
        }
        ("GET", ["api", "v2", "cluster"]) => look(api, pages::v2_cluster).await.map(Reply::Json),
        ("GET", ["api", "v2", "topologies"]) => {
            let list = summaries(api).await?;
            let rows =
                look(api, move |driver| list.iter().map(|s| pages::v2_row(driver, s)).collect::<Vec<_>>()).await?;
            Ok(Reply::Json(json!({ "version": 1, "topologies": rows })))
        }
        ("POST", ["api", "v2", "topologies"]) => submit(api, &body().await?).await,
        ("POST", ["api", "v2", "plan"]) => plan(api, &body().await?).await,
        ("GET", ["api", "v2", "nodes"]) => look(api, pages::v2_nodes).await.map(Reply::Json),
        ("POST", ["api", "v2", "nodes", node, verb @ ("drain" | "cordon" | "uncordon")]) => {
            let usage = match *verb {
                "drain" => NodeUse::Empty,
                "cordon" => NodeUse::KeepOnly,
                _ => NodeUse::Ready,
            };
            done(api.nimbus.request(Request::Use { node: checked(node, "node")?, usage }).await?)
        }
        ("GET", ["api", "v2", "events"]) => {
            let after = number(&query, "after")?.unwrap_or(0);
            look(api, move |driver| pages::v2_events(driver, after)).await.map(Reply::Json)
        }
        ("GET", ["api", "v2", "topologies", name, "errors"]) => {
            let summary = named(api, name).await?;
            look(api, move |driver| pages::v2_errors(driver, &summary)).await.map(Reply::Json)
        }
        ("GET", ["api", "v2", "logs", id, node, slot]) => log(api, id, node, slot, &query).await,
        ("GET", ["api", "v2", "topologies", name]) => {
            let summary = named(api, name).await?;
            look(api, move |driver| pages::v2_topology(driver, &summary)).await.map(Reply::Json)
        }
        ("GET", ["api", "v2", "ended", id]) => {
            let (wanted, shown) = (checked(id, "topology")?, checked(id, "topology")?);
            let ended = look(api, move |driver| driver.end_of(&wanted).cloned()).await?;
            let ended = ended.ok_or_else(|| Problem::unknown(format!("nothing is known of an end of {shown}")))?;
            Ok(Reply::Json(json!(ended)))
        }
        ("POST", ["api", "v2", "topologies", name, verb]) => {
            let wait = wait_ms(number(&query, "wait_ms")?)?;
            let request = action(checked(name, "topology")?, verb, wait, &body().await?, change)?;
            done(api.nimbus.request(request.ok_or_else(|| nothing_there(&method, &path))?).await?)
        }
        ("POST", ["api", "v1", "topology", id, verb @ ("activate" | "deactivate")]) => {
            storms(api, id, verb, None, &[]).await
        }
        ("POST", ["api", "v1", "topology", id, verb @ ("kill" | "rebalance"), wait]) => {
            let seconds: u64 = wait.parse().map_err(|_| Problem::wrong(format!("{wait} is no number of seconds")))?;
            let wait = wait_ms(Some(seconds.saturating_mul(1000)))?;
            storms(api, id, verb, wait, &body().await?).await
        }
        ("GET", ["api", "v2", "blobs"]) => artifacts(api, &query).await,
        ("POST", ["api", "v2", "blobs", hash]) => {
            let hash: Hash = hash.parse()?;
            let size = number(&query, "size")?.ok_or_else(|| Problem::wrong("`size` is missing"))?;
            blocking(api, move |blobs| blobs.begin(hash, size)).await.map(|begin| {
                Reply::Json(match begin {
                    Begin::Known => json!({ "known": true }),
                    Begin::Send { upload, chunk } => json!({ "known": false, "upload": upload.0, "chunk": chunk }),
                })
            })
        }
        ("GET", ["api", "v2", "blobs", hash]) => {
            let hash: Hash = hash.parse()?;
            let offset = number(&query, "offset")?.unwrap_or(0);
            let length = number(&query, "length")?.unwrap_or(1 << 20) as usize;
            blocking(api, move |blobs| blobs.read(hash, offset, length))
                .await
                .map(|(bytes, size)| Reply::Bytes(bytes, size))
        }
        ("PUT", ["api", "v2", "uploads", upload]) => {
            let upload = upload_id(upload)?;
            let offset = number(&query, "offset")?.ok_or_else(|| Problem::wrong("`offset` is missing"))?;
            let bytes = body().await?.to_vec();
            let has = blocking(api, move |blobs| blobs.chunk(upload, offset, bytes)).await?;
            Ok(Reply::Json(json!({ "has": has })))
        }
        ("POST", ["api", "v2", "uploads", upload, "finish"]) => {
            let upload = upload_id(upload)?;
            let hash = blocking(api, move |blobs| blobs.finish(upload)).await?;
            Ok(Reply::Json(json!({ "hash": hash.to_string() })))
        }
        (_, ["api", ..] | ["metrics"]) if method != Method::GET && method != Method::POST && method != Method::PUT => {
            Err(Problem(StatusCode::METHOD_NOT_ALLOWED, format!("{method} means nothing here")))
        }
        _ => Err(nothing_there(&method, &path)),
    }
}

fn nothing_there(method: &Method, path: &str) -> Problem {
    Problem::unknown(format!("there is nothing at {method} {path}; see the reference of the HTTP interface"))
}

async fn look<T: Send + 'static>(api: &Api, look: impl FnOnce(&Driver) -> T + Send + 'static) -> Result<T, Problem> {
    let gone = || Problem(StatusCode::SERVICE_UNAVAILABLE, "this nimbus is ending".into());
    api.nimbus.look(look).await.ok_or_else(gone)
}

async fn blocking<T: Send + 'static>(
    api: &Api,
    act: impl FnOnce(&BlobStore) -> Result<T, BlobError> + Send + 'static,
) -> Result<T, Problem> {
    let blobs = api.blobs.clone();
    let done = tokio::task::spawn_blocking(move || act(&blobs)).await;
    Ok(done.map_err(|error| Problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))??)
}

fn upload_id(text: &str) -> Result<UploadId, Problem> {
    text.parse().map(UploadId).map_err(|_| Problem::wrong("an upload is named by its number"))
}

fn checked(name: &str, of: &str) -> Result<String, Problem> {
    if valid_name(name) { Ok(name.to_owned()) } else { Err(Problem::wrong(format!("that is no name of a {of}"))) }
}

/// A number of the query.
fn number(query: &str, key: &str) -> Result<Option<u64>, Problem> {
    let value = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v);
    value.map(|v| v.parse().map_err(|_| Problem::wrong(format!("`{key}` is no whole number")))).transpose()
}

async fn health(api: &Api) -> Answer {
    let role = look(api, |driver| driver.nimbus().role().clone()).await?;
    match role {
        Role::Leading => Ok(Reply::Json(json!({ "status": "leading" }))),
        Role::Following(leader) => Ok(Reply::Json(json!({ "status": "following", "leader": leader.address }))),
        Role::Away | Role::Joining | Role::Loading => Err(nobody()),
    }
}

fn nobody() -> Problem {
    Problem(StatusCode::SERVICE_UNAVAILABLE, "this nimbus has not found out yet who leads; try again".into())
}

async fn summaries(api: &Api) -> Result<Vec<Summary>, Problem> {
    match api.nimbus.request(Request::List).await? {
        Accepted::Topologies(list) => Ok(list),
        Accepted::Done(_) => Ok(Vec::new()),
    }
}

/// A topology by name or id.
async fn named(api: &Api, name: &str) -> Result<Summary, Problem> {
    let name = checked(name, "topology")?;
    let mut list = summaries(api).await?;
    match list.iter().position(|s| s.record.name == name || s.record.id == name) {
        Some(at) => Ok(list.swap_remove(at)),
        None => {
            let names: Vec<&str> = list.iter().map(|s| s.record.name.as_str()).collect();
            let there = if names.is_empty() { "none runs".into() } else { format!("there are {}", names.join(", ")) };
            Err(Problem::unknown(format!("there is no topology {name}: {there}")))
        }
    }
}

fn submission(body: SubmitBody) -> Submission {
    Submission {
        name: body.name,
        submission: body.submission,
        shape: body.shape,
        blobs: body.blobs,
        arguments: json!(body.arguments),
        arch: body.arch,
        engine: body.engine,
        inactive: body.inactive,
        submitted_ms: wall_ms(),
    }
}

fn submitted(body: &[u8]) -> Result<SubmitBody, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::wrong(format!("this is no submission: {error}")))
}

async fn submit(api: &Api, body: &[u8]) -> Answer {
    let body = submitted(body)?;
    if body.blobs.is_empty() {
        return Err(Problem::wrong("a submission names the blob of its artifact"));
    }
    for blob in &body.blobs {
        let hash: Hash = blob.parse()?;
        if !blocking(api, move |blobs| Ok(blobs.has(hash))).await? {
            return Err(Problem::wrong(format!("blob {hash} was not uploaded: upload it first")));
        }
    }
    // Whoever leads next has to be able to run it. A standby that hangs does not hold it up for ever, and fetches it later.
    api.standbys.have(&body.blobs).await;
    done(api.nimbus.request(Request::Submit(Box::new(submission(body)))).await?)
}

/// The artifacts that a standby is to have.
async fn artifacts(api: &Api, query: &str) -> Answer {
    let standby = query.split('&').find_map(|pair| pair.strip_prefix("standby=")).unwrap_or_default();
    let standby = checked(standby, "nimbus")?;
    let (announced, mut blobs) = api.standbys.asked(&standby, number(query, "has")?.unwrap_or(0), Instant::now());
    for summary in summaries(api).await? {
        blobs.extend(summary.record.blobs);
    }
    Ok(Reply::Json(json!({ "version": 1, "announced": announced, "blobs": blobs })))
}

/// Where a submission would be placed; its blobs need not be there.
async fn plan(api: &Api, body: &[u8]) -> Answer {
    let submission = submission(submitted(body)?);
    let shape = submission.shape.clone();
    let preview = look(api, move |driver| driver.nimbus().preview(&submission)).await??;
    Ok(Reply::Json(pages::v2_plan(&shape, &preview)))
}

fn wait_ms(wait: Option<u64>) -> Result<Option<Duration>, Problem> {
    match wait {
        Some(wait) if wait > WAIT_MAX_MS => Err(Problem::wrong("the wait is a day at most")),
        wait => Ok(wait.map(Duration::from_millis)),
    }
}

/// What a rebalance changes, as `/api/v2` takes it. An empty body: nothing, and all is placed anew.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ChangeBody {
    workers: Option<u32>,
    executors: BTreeMap<String, u32>,
}

/// The same as Storm's UI sends it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StormsBody {
    #[serde(rename = "rebalanceOptions")]
    options: StormsOptions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StormsOptions {
    #[serde(rename = "numWorkers")]
    workers: Option<u32>,
    executors: BTreeMap<String, u32>,
}

fn wrong_change(error: &serde_json::Error) -> Problem {
    Problem::wrong(format!("what is to change cannot be read: {error}"))
}

fn change(body: &[u8]) -> Result<Change, Problem> {
    let body: ChangeBody = if body.is_empty() {
        ChangeBody::default()
    } else {
        serde_json::from_slice(body).map_err(|e| wrong_change(&e))?
    };
    Ok(Change { workers: body.workers, executors: body.executors, restart: false })
}

fn storms_change(body: &[u8]) -> Result<Change, Problem> {
    let body: StormsBody = if body.is_empty() {
        StormsBody::default()
    } else {
        serde_json::from_slice(body).map_err(|e| wrong_change(&e))?
    };
    Ok(Change { workers: body.options.workers, executors: body.options.executors, restart: false })
}

/// What a verb asks for. `None`: there is no such verb.
fn action(
    name: String,
    verb: &str,
    wait: Option<Duration>,
    body: &[u8],
    change: fn(&[u8]) -> Result<Change, Problem>,
) -> Result<Option<Request>, Problem> {
    Ok(Some(match verb {
        "activate" => Request::Activate(name),
        "deactivate" => Request::Deactivate(name),
        "kill" => Request::Kill { name, wait },
        "rebalance" => Request::Rebalance { name, wait, change: change(body)? },
        "restart" => Request::Rebalance { name, wait, change: Change { restart: true, ..Change::default() } },
        _ => return Ok(None),
    }))
}

/// An action as Storm's UI has it done, and its answer.
async fn storms(api: &Api, id: &str, verb: &str, wait: Option<Duration>, body: &[u8]) -> Answer {
    let name = named(api, id).await?.record.name;
    let request = action(name, verb, wait, body, storms_change)?.ok_or_else(|| Problem::unknown("no such action"))?;
    api.nimbus.request(request).await?;
    Ok(Reply::Json(json!({ "topologyOperation": verb, "topologyId": id, "status": "success" })))
}

/// A part of a worker's log.
async fn log(api: &Api, id: &str, node: &str, slot: &str, query: &str) -> Answer {
    let (topology, node) = (checked(id, "topology")?, checked(node, "node")?);
    let slot = slot.parse().map_err(|_| Problem::wrong(format!("{slot} is no number of a slot")))?;
    let offset = number(query, "offset")?;
    let length = number(query, "length")?.unwrap_or(u64::MAX);
    let part = api.nodes.log(&node, LogAsk { topology, slot, offset, length }).await;
    let part = part.map_err(|error| match error {
        // Another nimbus could do no better, so this is not the status of one that does not lead.
        NoLog::Away(why) => Problem(StatusCode::BAD_GATEWAY, why),
        NoLog::Missing(why) => Problem::unknown(why),
    })?;
    Ok(Reply::Log(part.bytes, part.offset, part.size))
}

fn done(accepted: Accepted) -> Answer {
    match accepted {
        Accepted::Done(id) => Ok(Reply::Json(json!({ "status": "success", "id": id }))),
        Accepted::Topologies(_) => Err(Problem(StatusCode::INTERNAL_SERVER_ERROR, "the wrong answer came".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_equal_or_not() {
        assert!(equal(b"abc", b"abc") && !equal(b"abc", b"abd") && !equal(b"", b"abc") && !equal(b"abc", b"ab"));
    }

    #[test]
    fn numbers_of_a_query_are_numbers() {
        let number = |query| number(query, "wait_ms").map_err(|Problem(_, why)| why);
        assert_eq!(number("a=1&wait_ms=30"), Ok(Some(30)));
        assert_eq!(number("a=1"), Ok(None));
        assert!(number("wait_ms=-1").is_err_and(|why| why.contains("wait_ms")));
    }
}
