//! What a supervisor and the nimbus that leads tell each other: reports and counts one way, questions about logs the other.
//!
//! A connection of its own beside the supervisor's session with the coordinator, whoever that is, so both may come and go without the other. The
//! supervisor connects, to whichever nimbus leads: one that does not names the one that does, and one that leads no more ends its links. What was
//! told last is told again on each connection, so nothing is queued while there is none.
//!
//! A JSON object a line, as in [`remote`](super::remote); a beat where there is nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_control::{Report, Role};
use tokio::sync::oneshot;

use super::remote::{Find, OPEN_WAIT, Sessions, Up, read, session_timeout, write};
use super::{Log, NimbusLink, NodeStats};

/// Between two attempts to find the nimbus that leads.
const RETRY: Duration = Duration::from_millis(250);
/// Bytes of a log in one answer, at most.
const PART_MAX: u64 = 64 << 10;
/// How long a node may take to answer.
const ASK_WAIT: Duration = Duration::from_secs(5);

/// How a supervisor begins.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub token: String,
    pub timeout_ms: u64,
    /// Id of the supervisor.
    pub node: String,
}

/// From a supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum FromNode {
    Report(Report),
    Stats(Box<NodeStats>),
    Part { ask: u64, part: Result<Part, String> },
    Beat,
}

/// From nimbus.
#[derive(Debug, Serialize, Deserialize)]
enum ToNode {
    /// It leads. Where its HTTP interface is.
    Opened {
        timeout_ms: u64,
        api: String,
    },
    /// It does not lead. Where the one that does takes links, if it knows one.
    Elsewhere(Option<String>),
    Refused(String),
    Ask {
        ask: u64,
        of: LogAsk,
    },
    Beat,
}

/// A part of the log of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogAsk {
    /// Id of the topology.
    pub topology: String,
    pub slot: u16,
    /// From this byte on. `None`: the end of it.
    pub offset: Option<u64>,
    /// Bytes, at most.
    pub length: u64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Of the first byte here.
    pub offset: u64,
    /// Of the whole log.
    pub size: u64,
    pub bytes: Vec<u8>,
}

/// Where the log of a worker is, in the folder of logs.
fn log_path(logs: &Path, topology: &str, slot: u16) -> PathBuf {
    logs.join(topology).join(format!("worker-{slot}.log"))
}

/// Reads a part of a log.
fn read_part(logs: &Path, ask: &LogAsk) -> Result<Part, String> {
    if !squall_control::record::valid_name(&ask.topology) {
        return Err(format!("{:?} is no id of a topology", ask.topology));
    }
    let path = log_path(logs, &ask.topology, ask.slot);
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("slot {} has no log of {}", ask.slot, ask.topology),
        _ => format!("{}: {error}", path.display()),
    };
    let mut file = File::open(&path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let length = ask.length.min(PART_MAX);
    let offset = ask.offset.unwrap_or(size.saturating_sub(length)).min(size);
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Part { offset, size, bytes })
}

/// The nodes that can be asked for logs.
#[derive(Clone, Default)]
pub(crate) struct Nodes(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    next: u64,
    /// The newest way last: a second supervisor of the same name comes and goes, and the first one is there still.
    nodes: BTreeMap<String, Vec<Reach>>,
    waiting: BTreeMap<u64, Waiting>,
}

/// Who waits for an answer, which comes by the link of that number or, when that ends, never.
struct Waiting(u64, oneshot::Sender<Result<Part, String>>);

/// How a node is reached.
enum Reach {
    /// It is in this process: its logs are below this folder.
    Here(PathBuf),
    /// By the link of that number.
    Link(u64, Sender<ToNode>),
}

/// Why there is no part of a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoLog {
    /// The node does not answer.
    Away(String),
    /// It has no such log.
    Missing(String),
}

impl Nodes {
    /// A node of this process.
    pub(crate) fn here(&self, node: &str, logs: PathBuf) {
        self.lock().nodes.insert(node.to_owned(), vec![Reach::Here(logs)]);
    }

    /// Asks a node for a part of a log.
    ///
    /// # Errors
    /// See [`NoLog`].
    pub(crate) async fn log(&self, node: &str, of: LogAsk) -> Result<Part, NoLog> {
        let away = || NoLog::Away(format!("node {node} is not linked to this nimbus: its logs cannot be read"));
        let (ask, answer) = {
            let mut asked = self.lock();
            asked.next += 1;
            let ask = asked.next;
            let (reply, answer) = oneshot::channel();
            match asked.nodes.get(node).and_then(|ways| ways.last()).ok_or_else(away)? {
                Reach::Here(logs) => {
                    let logs = logs.clone();
                    tokio::task::spawn_blocking(move || drop(reply.send(read_part(&logs, &of))));
                }
                Reach::Link(link, tell) => {
                    tell.send(ToNode::Ask { ask, of }).map_err(|_| away())?;
                    let link = *link;
                    asked.waiting.insert(ask, Waiting(link, reply));
                }
            }
            (ask, answer)
        };
        let answer = tokio::time::timeout(ASK_WAIT, answer).await;
        self.lock().waiting.remove(&ask);
        match answer {
            Ok(Ok(part)) => part.map_err(NoLog::Missing),
            _ => Err(NoLog::Away(format!("node {node} does not answer"))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node is linked; the newest link counts.
    fn add(&self, node: &str, tell: Sender<ToNode>) -> Linked<'_> {
        let mut asked = self.lock();
        asked.next += 1;
        let link = asked.next;
        asked.nodes.entry(node.to_owned()).or_default().push(Reach::Link(link, tell));
        Linked { nodes: self, node: node.to_owned(), link }
    }
}

/// A link while it is there.
struct Linked<'n> {
    nodes: &'n Nodes,
    node: String,
    link: u64,
}

impl Drop for Linked<'_> {
    fn drop(&mut self) {
        let mut asked = self.nodes.lock();
        asked.waiting.retain(|_, Waiting(link, _)| *link != self.link);
        if let Some(ways) = asked.nodes.get_mut(&self.node) {
            ways.retain(|way| !matches!(way, Reach::Link(link, _) if *link == self.link));
            if ways.is_empty() {
                asked.nodes.remove(&self.node);
            }
        }
    }
}

/// Nimbus's end of a link, until it ends.
pub(super) fn serve(
    sessions: &Sessions,
    stream: &TcpStream,
    mut reader: BufReader<TcpStream>,
    hello: &Hello,
) -> Option<()> {
    let (tell, queue) = channel();
    let timeout = session_timeout(hello.timeout_ms);
    let writer = stream.try_clone().ok()?;
    std::thread::Builder::new().spawn(move || write(writer, &queue, || ToNode::Beat, timeout / 3)).ok()?;
    if sessions.token.as_ref().is_some_and(|own| !super::api::equal(hello.token.as_bytes(), own.as_bytes())) {
        let why = "the token is not that of this nimbus: look at --token-file";
        return tell.send(ToNode::Refused(why.into())).ok();
    }
    let standing = sessions.nimbus.standing();
    let elsewhere = || {
        let leader = match sessions.nimbus.standing().role {
            Role::Following(leader) => leader.sessions,
            _ => None,
        };
        ToNode::Elsewhere(leader)
    };
    if standing.role != Role::Leading {
        return tell.send(elsewhere()).ok();
    }
    let api = sessions.api.clone();
    tell.send(ToNode::Opened { timeout_ms: timeout.as_millis() as u64, api }).ok()?;
    stream.set_read_timeout(Some(timeout)).ok()?;
    let mut linked = None;
    loop {
        let message = read(&mut reader)?;
        // What it says must not reach a leader that knows nothing of what it said before.
        if sessions.nimbus.standing() != standing {
            return tell.send(elsewhere()).ok();
        }
        match message {
            FromNode::Report(report) => {
                // It is registered then: before, another supervisor may have its name, and is asked.
                linked.get_or_insert_with(|| sessions.nodes.add(&hello.node, tell.clone()));
                sessions.nimbus.report(report);
            }
            FromNode::Stats(stats) => sessions.nimbus.stats(*stats),
            FromNode::Part { ask, part } => {
                if let Some(Waiting(_, reply)) = sessions.nodes.lock().waiting.remove(&ask) {
                    let _ = reply.send(part);
                }
            }
            FromNode::Beat => {}
        }
    }
}

/// A supervisor's end, which is kept up for as long as the process is there.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shared>);

struct Shared {
    node: String,
    find: Find,
    token: String,
    timeout: Duration,
    logs: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    report: Option<Report>,
    stats: Option<NodeStats>,
    /// They were not told yet.
    report_is_new: bool,
    stats_are_new: bool,
    answers: VecDeque<FromNode>,
    /// The connection has ended.
    ended: bool,
    /// Who leads, as another nimbus said.
    hint: Option<String>,
    /// Of the nimbus that it was linked to last.
    api: Option<String>,
}

/// A nimbus that leads.
struct Opened {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    timeout: Duration,
    api: String,
}

impl Link {
    /// A link from a node whose logs are below a folder. It has a thread of its own.
    ///
    /// # Errors
    /// There is no thread.
    pub(crate) fn keep(
        node: String,
        find: Find,
        token: String,
        timeout: Duration,
        logs: PathBuf,
        log: Log,
    ) -> std::io::Result<Link> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let link = Link(Arc::new(Shared { node, find, token, timeout, logs, state, changed }));
        let kept = link.clone();
        std::thread::Builder::new().name("link".into()).spawn(move || kept.stay(&log))?;
        Ok(link)
    }

    /// Where the HTTP interface of the nimbus is that it was linked to last, and the token for it.
    pub(crate) fn api(&self) -> Option<(String, String)> {
        Some((self.state().api.clone()?, self.0.token.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stay(&self, log: &Log) {
        let mut said = String::new();
        loop {
            match self.open() {
                Ok(opened) => {
                    said.clear();
                    self.talk(opened);
                }
                Err(why) => {
                    if why != said {
                        log(&format!("no nimbus is told of this node's workers: {why}; trying on"));
                        said = why;
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    /// Asks one nimbus after the other, the one that is said to lead first.
    fn open(&self) -> Result<Opened, String> {
        let hint = self.state().hint.take();
        let mut left: VecDeque<String> = hint.into_iter().collect();
        let mut why = "none is known".to_owned();
        match (self.0.find)() {
            Ok(found) => left.extend(found),
            Err(error) => why = error,
        }
        let mut tried: Vec<String> = Vec::new();
        while let Some(address) = left.pop_front() {
            if tried.contains(&address) {
                continue;
            }
            match self.open_at(&address) {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(Some(leader))) => left.push_front(leader),
                Ok(Err(None)) => why = format!("{address} does not lead, and does not know who does"),
                Err(error) => why = error,
            }
            tried.push(address);
        }
        Err(why)
    }

    /// Asks one nimbus. The inner error: who leads instead.
    fn open_at(&self, found: &str) -> Result<Result<Opened, Option<String>>, String> {
        let failed = |error: std::io::Error| format!("nimbus cannot be reached at {found}: {error}");
        let address = found.to_socket_addrs().map_err(failed)?.next();
        let address = address.ok_or_else(|| format!("{found} is no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, OPEN_WAIT).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(OPEN_WAIT)).map_err(failed)?;
        let (token, node) = (self.0.token.clone(), self.0.node.clone());
        let hello = Hello { token, timeout_ms: self.0.timeout.as_millis() as u64, node };
        stream.write_all(&line(&Up::Link(hello))).map_err(failed)?;
        let mut reader = BufReader::new(stream.try_clone().map_err(failed)?);
        match read(&mut reader) {
            Some(ToNode::Opened { timeout_ms, api }) => {
                let api = reached(api, address.ip());
                Ok(Ok(Opened { stream, reader, timeout: Duration::from_millis(timeout_ms), api }))
            }
            Some(ToNode::Elsewhere(leader)) => Ok(Err(leader)),
            Some(ToNode::Refused(why)) => Err(why),
            _ => Err(format!("what answers at {found} is no nimbus, or another version of it")),
        }
    }

    /// Tells what there is to tell until the connection ends.
    fn talk(&self, opened: Opened) {
        let Opened { mut stream, mut reader, timeout, api } = opened;
        {
            let mut state = self.state();
            state.api = Some(api);
            state.ended = false;
            state.answers.clear();
            state.report_is_new = state.report.is_some();
            state.stats_are_new = state.stats.is_some();
        }
        let hearing = stream.set_read_timeout(Some(timeout)).and_then(|()| {
            let link = self.clone();
            std::thread::Builder::new().name("from-nimbus".into()).spawn(move || link.hear(&mut reader))
        });
        if let Ok(hearing) = hearing {
            while let Some(messages) = self.next(timeout / 3) {
                if messages.iter().any(|message| stream.write_all(&line(message)).is_err()) {
                    break;
                }
            }
            let _ = stream.shutdown(Shutdown::Both);
            let _ = hearing.join();
        }
    }

    fn hear(&self, reader: &mut BufReader<TcpStream>) {
        while let Some(message) = read(reader) {
            match message {
                ToNode::Ask { ask, of } => {
                    let part = read_part(&self.0.logs, &of);
                    self.state().answers.push_back(FromNode::Part { ask, part });
                    self.0.changed.notify_all();
                }
                ToNode::Elsewhere(leader) => {
                    self.state().hint = leader;
                    break;
                }
                ToNode::Beat | ToNode::Opened { .. } | ToNode::Refused(_) => {}
            }
        }
        self.state().ended = true;
        self.0.changed.notify_all();
    }

    /// What is to be told now, a beat where nothing is. `None`: the connection has ended.
    fn next(&self, beat: Duration) -> Option<Vec<FromNode>> {
        let quiet = |state: &mut State| {
            !state.ended && !state.report_is_new && !state.stats_are_new && state.answers.is_empty()
        };
        let waited = self.0.changed.wait_timeout_while(self.state(), beat, quiet);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return None;
        }
        let mut messages = Vec::new();
        if std::mem::take(&mut state.report_is_new) {
            messages.extend(state.report.clone().map(FromNode::Report));
        }
        if std::mem::take(&mut state.stats_are_new) {
            messages.extend(state.stats.clone().map(|stats| FromNode::Stats(Box::new(stats))));
        }
        messages.extend(state.answers.drain(..));
        if messages.is_empty() {
            messages.push(FromNode::Beat);
        }
        Some(messages)
    }
}

impl NimbusLink for Link {
    fn report(&self, report: Report) {
        let mut state = self.state();
        (state.report, state.report_is_new) = (Some(report), true);
        drop(state);
        self.0.changed.notify_all();
    }

    fn stats(&self, stats: NodeStats) {
        let mut state = self.state();
        (state.stats, state.stats_are_new) = (Some(stats), true);
        drop(state);
        self.0.changed.notify_all();
    }
}

/// An address that a nimbus has told, whose links are at `host`: what is bound to all addresses of its host is there, too.
fn reached(told: String, host: IpAddr) -> String {
    match told.parse::<SocketAddr>() {
        Ok(bound) if bound.ip().is_unspecified() => SocketAddr::new(host, bound.port()).to_string(),
        _ => told,
    }
}

fn line<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("plain data");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_asked_by_its_newest_link_and_by_an_older_one_that_is_left() {
        let nodes = Nodes::default();
        let (tell, _queue) = channel();
        let newest = || match nodes.lock().nodes.get("a").and_then(|ways| ways.last()) {
            Some(Reach::Link(link, _)) => Some(*link),
            _ => None,
        };
        let first = nodes.add("a", tell.clone());
        let second = nodes.add("a", tell);
        assert_eq!(newest(), Some(second.link));
        drop(second);
        assert_eq!(newest(), Some(first.link));
        drop(first);
        assert_eq!(newest(), None);
    }

    #[test]
    fn who_waits_for_a_node_whose_link_ends_is_told_so_at_once() {
        let nodes = Nodes::default();
        let (tell, queue) = channel();
        let link = nodes.add("a", tell);
        let of = LogAsk { topology: "a-1".into(), slot: 0, offset: None, length: 1 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let asking = nodes.clone();
        let answer = runtime.block_on(async {
            let asked = tokio::spawn(async move { asking.log("a", of).await });
            while queue.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
            drop(link);
            assert!(nodes.lock().waiting.is_empty());
            asked.await.expect("it ends")
        });
        assert_eq!(answer, Err(NoLog::Away("node a does not answer".into())));
    }

    #[test]
    fn what_is_bound_to_all_addresses_is_reached_where_its_links_are() {
        let reached = |told: &str, host: &str| reached(told.into(), host.parse().expect("an address"));
        assert_eq!(reached("0.0.0.0:80", "10.0.0.1"), "10.0.0.1:80");
        assert_eq!(reached("[::]:80", "fd00::1"), "[fd00::1]:80");
        assert_eq!(reached("10.0.0.2:80", "10.0.0.1"), "10.0.0.2:80");
        assert_eq!(reached("node1:80", "10.0.0.1"), "node1:80");
    }

    #[test]
    fn a_part_of_a_log_is_what_was_asked_for_and_nothing_outside_of_the_folder_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = log_path(folder.path(), "a-1", 3);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
        std::fs::write(&path, "0123456789").expect("it is written");
        let ask = |topology: &str, slot, offset, length| {
            read_part(folder.path(), &LogAsk { topology: topology.into(), slot, offset, length })
        };
        let part = |offset, bytes: &[u8]| Ok(Part { offset, size: 10, bytes: bytes.to_vec() });
        assert_eq!(ask("a-1", 3, None, 4), part(6, b"6789"));
        assert_eq!(ask("a-1", 3, None, 400), part(0, b"0123456789"));
        assert_eq!(ask("a-1", 3, Some(2), 3), part(2, b"234"));
        assert_eq!(ask("a-1", 3, Some(99), 3), part(10, b""), "nothing is there yet");
        assert!(ask("a-1", 4, None, 4).is_err_and(|why| why.contains("slot 4 has no log of a-1")));
        assert!(ask("../a-1", 3, None, 4).is_err_and(|why| why.contains("no id")));
    }
}
