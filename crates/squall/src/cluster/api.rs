//! Nimbus over HTTP: JSON under `/api/v2`, the summaries of Storm's UI under `/api/v1`, `/metrics`, `/healthz`.
//!
//! Every request but `/healthz` carries the token of the cluster; names are checked before they get anywhere, blobs are named by hash and uploads
//! by number, so no path ever comes from outside. Bodies and heads are bounded. An error is `{"error": text}` with a status that fits.
//!
//! Deliberately absent: TLS, JSONP, and the pages of Storm's UI beyond the summaries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
use squall_control::record::{Shape, valid_name};
use squall_control::{Accepted, Refusal, Request, Role, Submission, Summary};
use tokio::net::TcpListener;

use super::nimbus::{Driver, Handle};
use super::talk::engine_version;
use super::{Arguments, TopologyStats};

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
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["metrics"]) => look(api, metrics).await.map(Reply::Text),
        ("GET", ["api", "v1", "cluster", "summary"]) => look(api, v1_cluster).await.map(Reply::Json),
        ("GET", ["api", "v1", "nimbus", "summary"]) => look(api, v1_nimbus).await.map(Reply::Json),
        ("GET", ["api", "v1", "supervisor", "summary"]) => look(api, v1_supervisors).await.map(Reply::Json),
        ("GET", ["api", "v1", "topology", "summary"]) => {
            let list = summaries(api).await?;
            look(api, move |driver| v1_topologies(driver, &list)).await.map(Reply::Json)
        }
        ("GET", ["api", "v2", "cluster"]) => look(api, v2_cluster).await.map(Reply::Json),
        ("GET", ["api", "v2", "topologies"]) => {
            let list = summaries(api).await?;
            let rows = look(api, move |driver| list.iter().map(|s| v2_row(driver, s)).collect::<Vec<_>>()).await?;
            Ok(Reply::Json(json!({ "version": 1, "topologies": rows })))
        }
        ("POST", ["api", "v2", "topologies"]) => submit(api, &body().await?).await,
        ("GET", ["api", "v2", "topologies", name]) => {
            let summary = named(api, name).await?;
            look(api, move |driver| v2_topology(driver, &summary)).await.map(Reply::Json)
        }
        ("GET", ["api", "v2", "ended", id]) => {
            let (wanted, shown) = (checked(id)?, checked(id)?);
            let ended = look(api, move |driver| driver.end_of(&wanted).cloned()).await?;
            let ended = ended.ok_or_else(|| Problem::unknown(format!("nothing is known of an end of {shown}")))?;
            Ok(Reply::Json(json!(ended)))
        }
        ("POST", ["api", "v2", "topologies", name, verb @ ("kill" | "activate" | "deactivate")]) => {
            act(api, checked(name)?, verb, number(&query, "wait_ms")?).await
        }
        ("POST", ["api", "v1", "topology", id, verb @ ("activate" | "deactivate")]) => {
            act(api, named(api, id).await?.record.name, verb, None).await
        }
        ("POST", ["api", "v1", "topology", id, "kill", wait]) => {
            let seconds: u64 = wait.parse().map_err(|_| Problem::wrong(format!("{wait} is no number of seconds")))?;
            act(api, named(api, id).await?.record.name, "kill", Some(seconds.saturating_mul(1000))).await
        }
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
        _ => Err(Problem::unknown(format!(
            "there is nothing at {method} {path}; see the reference of the HTTP interface"
        ))),
    }
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

fn checked(name: &str) -> Result<String, Problem> {
    if valid_name(name) { Ok(name.to_owned()) } else { Err(Problem::wrong("that is no name of a topology")) }
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
        Role::Away | Role::Joining | Role::Loading => {
            Err(Problem(StatusCode::SERVICE_UNAVAILABLE, "it has not found out yet who leads".into()))
        }
    }
}

async fn summaries(api: &Api) -> Result<Vec<Summary>, Problem> {
    match api.nimbus.request(Request::List).await? {
        Accepted::Topologies(list) => Ok(list),
        Accepted::Done(_) => Ok(Vec::new()),
    }
}

/// A topology by name or id.
async fn named(api: &Api, name: &str) -> Result<Summary, Problem> {
    let name = checked(name)?;
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

async fn submit(api: &Api, body: &[u8]) -> Answer {
    let body: SubmitBody =
        serde_json::from_slice(body).map_err(|error| Problem::wrong(format!("this is no submission: {error}")))?;
    if body.blobs.is_empty() {
        return Err(Problem::wrong("a submission names the blob of its artifact"));
    }
    for blob in &body.blobs {
        let hash: Hash = blob.parse()?;
        if !blocking(api, move |blobs| Ok(blobs.has(hash))).await? {
            return Err(Problem::wrong(format!("blob {hash} was not uploaded: upload it first")));
        }
    }
    let submitted_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let submission = Submission {
        name: body.name,
        submission: body.submission,
        shape: body.shape,
        blobs: body.blobs,
        arguments: json!(body.arguments),
        arch: body.arch,
        engine: body.engine,
        inactive: body.inactive,
        submitted_ms,
    };
    done(api.nimbus.request(Request::Submit(Box::new(submission))).await?)
}

async fn act(api: &Api, name: String, verb: &str, wait_ms: Option<u64>) -> Answer {
    if wait_ms.is_some_and(|wait| wait > WAIT_MAX_MS) {
        return Err(Problem::wrong("the wait is a day at most"));
    }
    let request = match verb {
        "activate" => Request::Activate(name),
        "deactivate" => Request::Deactivate(name),
        _ => Request::Kill { name, wait: wait_ms.map(Duration::from_millis) },
    };
    done(api.nimbus.request(request).await?)
}

fn done(accepted: Accepted) -> Answer {
    match accepted {
        Accepted::Done(id) => Ok(Reply::Json(json!({ "status": "success", "id": id }))),
        Accepted::Topologies(_) => Err(Problem(StatusCode::INTERNAL_SERVER_ERROR, "the wrong answer came".into())),
    }
}

fn running(stats: &TopologyStats) -> usize {
    use squall_control::WorkerState::{Drained, Running};
    stats.workers.iter().filter(|w| matches!(w.state, Running | Drained { .. }) && w.pid.is_some()).count()
}

/// A topology in the list.
fn v2_row(driver: &Driver, summary: &Summary) -> Value {
    let Summary { record, assigned, workers, unplaced } = summary;
    let stats = driver.stats_of(&record.id);
    json!({
        "id": record.id,
        "name": record.name,
        "status": record.status.word(),
        "submitted_ms": record.submitted_ms,
        "workers": workers,
        "workers_running": running(&stats),
        "executors": assigned.1,
        "executors_assigned": assigned.0,
        "tasks": record.shape.components.iter().map(|c| u64::from(c.tasks)).sum::<u64>(),
        "pending": stats.pending,
        "unplaced": unplaced.as_ref().map(ToString::to_string),
    })
}

/// A topology with everything that is known of it.
fn v2_topology(driver: &Driver, summary: &Summary) -> Value {
    let mut value = v2_row(driver, summary);
    let record = &summary.record;
    let mut stats = driver.stats_of(&record.id);
    stats.workers.sort_by(|a, b| (a.worker, &a.node, a.slot).cmp(&(b.worker, &b.node, b.slot)));
    let counts: BTreeMap<&str, _> = stats.components.iter().map(|c| (c.name.as_str(), c)).collect();
    let component = |c: &squall_control::record::ComponentShape| {
        let n = counts.get(c.name.as_str());
        json!({
            "name": c.name,
            "tasks": c.tasks,
            "executors": c.executors,
            "emitted": n.map_or(0, |n| n.emitted),
            "executed": n.map_or(0, |n| n.executed),
            "acked": n.map_or(0, |n| n.acked),
            "failed": n.map_or(0, |n| n.failed),
            "pending": n.map_or(0, |n| n.roots.saturating_sub(n.acked + n.failed)),
            "restarts": n.map_or(0, |n| n.restarts),
        })
    };
    let components: Vec<Value> = record.shape.components.iter().map(component).collect();
    let latency: BTreeMap<&str, Option<u64>> = stats.latency.percentiles().rows().into_iter().collect();
    let more = json!({
        "version": 1,
        "components": components,
        "worker_list": stats.workers,
        "latency_ns": latency,
        "artifact": record.blobs.first(),
        "arguments": record.arguments,
        "engine": record.engine,
    });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

fn v2_cluster(driver: &Driver) -> Value {
    let nimbus = driver.nimbus();
    let node = |n: &squall_control::record::NodeInfo| {
        let report = nimbus.reports().find(|report| report.node == n.id);
        json!({
            "id": n.id, "address": n.address, "slots": n.slots, "arch": n.arch, "engine": n.engine,
            "slots_used": report.map_or(0, |report| report.workers.len()),
        })
    };
    json!({
        "version": 1,
        "engine": engine_version(),
        "leading": *nimbus.role() == Role::Leading,
        "epoch": nimbus.epoch(),
        "uptime_ms": driver.uptime().as_millis() as u64,
        "nodes": nimbus.live_nodes().map(node).collect::<Vec<_>>(),
    })
}

/// Seconds as Storm shows them.
fn uptime(seconds: u64) -> String {
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) => format!("{m}m {s}s"),
        (0, _, _) => format!("{h}h {m}m {s}s"),
        _ => format!("{d}d {h}h {m}m {s}s"),
    }
}

fn slots(driver: &Driver) -> (u64, u64) {
    let total = driver.nimbus().live_nodes().map(|n| u64::from(n.slots)).sum();
    (total, driver.nimbus().reports().map(|report| report.workers.len() as u64).sum())
}

/// Storm's version as its clients parse it.
const STORM_VERSION: &str = "2.8.0-squall";

fn v1_cluster(driver: &Driver) -> Value {
    let (total, used) = slots(driver);
    json!({
        "stormVersion": STORM_VERSION,
        "supervisors": driver.nimbus().live_nodes().count(),
        "slotsTotal": total,
        "slotsUsed": used,
        "slotsFree": total.saturating_sub(used),
    })
}

fn v1_nimbus(driver: &Driver) -> Value {
    let seconds = driver.uptime().as_secs();
    let leads = *driver.nimbus().role() == Role::Leading;
    json!({ "nimbuses": [{
        "status": if leads { "Leader" } else { "Not a Leader" },
        "nimbusUpTime": uptime(seconds),
        "nimbusUpTimeSeconds": seconds,
        "version": STORM_VERSION,
    }] })
}

fn v1_supervisors(driver: &Driver) -> Value {
    let nimbus = driver.nimbus();
    let node = |n: &squall_control::record::NodeInfo| {
        let used = nimbus.reports().find(|report| report.node == n.id).map_or(0, |report| report.workers.len());
        json!({
            "id": n.id, "host": n.address, "slotsTotal": n.slots, "slotsUsed": used,
            "slotsFree": usize::from(n.slots).saturating_sub(used), "version": STORM_VERSION,
        })
    };
    json!({ "supervisors": nimbus.live_nodes().map(node).collect::<Vec<_>>() })
}

fn v1_topologies(_: &Driver, list: &[Summary]) -> Value {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let row = |s: &Summary| {
        let record = &s.record;
        let seconds = now_ms.saturating_sub(record.submitted_ms) / 1000;
        json!({
            "id": record.id, "encodedId": record.id, "name": record.name, "status": record.status.word(),
            "uptime": uptime(seconds), "uptimeSeconds": seconds,
            "tasksTotal": record.shape.components.iter().map(|c| u64::from(c.tasks)).sum::<u64>(),
            "workersTotal": s.workers, "executorsTotal": s.assigned.1,
            "schedulerInfo": s.unplaced.as_ref().map(ToString::to_string),
        })
    };
    json!({ "topologies": list.iter().map(row).collect::<Vec<_>>() })
}

fn metrics(driver: &Driver) -> String {
    use std::fmt::Write as _;
    let nimbus = driver.nimbus();
    let (total, used) = slots(driver);
    let mut text = String::new();
    let mut gauge = |name: &str, what: &str, value: u64| {
        let _ = writeln!(text, "# HELP {name} {what}\n# TYPE {name} gauge\n{name} {value}");
    };
    gauge("squall_nimbus_leading", "1 where this nimbus leads.", u64::from(*nimbus.role() == Role::Leading));
    gauge("squall_supervisors", "Supervisors that are there.", nimbus.live_nodes().count() as u64);
    gauge("squall_slots", "Slots of all supervisors.", total);
    gauge("squall_slots_used", "Slots that run or start a worker.", used);
    let ids: std::collections::BTreeSet<&str> =
        nimbus.reports().flat_map(|r| &r.workers).map(|w| w.topology.as_str()).collect();
    let stats: Vec<(&str, TopologyStats)> = ids.into_iter().map(|id| (id, driver.stats_of(id))).collect();
    type Pick = fn(&squall_engine::ComponentStats) -> u64;
    let counters: [(&str, &str, Pick); 4] = [
        ("squall_emitted_total", "Tuples emitted.", |c| c.emitted),
        ("squall_executed_total", "Tuples executed.", |c| c.executed),
        ("squall_acked_total", "Tuples acknowledged; of a spout, roots.", |c| c.acked),
        ("squall_failed_total", "Tuples failed; of a spout, roots.", |c| c.failed),
    ];
    for (name, what, pick) in counters {
        let _ = writeln!(text, "# HELP {name} {what}\n# TYPE {name} counter");
        for (id, stats) in &stats {
            for c in &stats.components {
                // Names of topologies and components hold nothing that would have to be quoted.
                let _ = writeln!(text, "{name}{{topology=\"{id}\",component=\"{}\"}} {}", c.name, pick(c));
            }
        }
    }
    let _ = writeln!(text, "# HELP squall_worker_restarts_total Times that workers were started again.");
    let _ = writeln!(text, "# TYPE squall_worker_restarts_total counter");
    for (id, stats) in &stats {
        let restarts: u64 = stats.workers.iter().map(|w| u64::from(w.restarts)).sum();
        let _ = writeln!(text, "squall_worker_restarts_total{{topology=\"{id}\"}} {restarts}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_equal_or_not() {
        assert!(equal(b"abc", b"abc") && !equal(b"abc", b"abd") && !equal(b"", b"abc") && !equal(b"abc", b"ab"));
    }

    #[test]
    fn uptimes_read_as_storms_do() {
        let shown = [5, 65, 3600, 90_061].map(uptime);
        assert_eq!(shown, ["5s", "1m 5s", "1h 0m 0s", "1d 1h 1m 1s"]);
    }

    #[test]
    fn numbers_of_a_query_are_numbers() {
        let number = |query| number(query, "wait_ms").map_err(|Problem(_, why)| why);
        assert_eq!(number("a=1&wait_ms=30"), Ok(Some(30)));
        assert_eq!(number("a=1"), Ok(None));
        assert!(number("wait_ms=-1").is_err_and(|why| why.contains("wait_ms")));
    }
}
