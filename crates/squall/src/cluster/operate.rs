//! The commands that change and watch what runs in a cluster: `rebalance`, `restart`, `logs`, `errors`, `events`, `node`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, ClientError, NimbusFlags};
use super::output::{Output, rows, table, text, utc};
use super::verbs::{Done, EXIT_LATE, LOOK, RUN_WAIT, path_part, show};
use crate::run::job::complain;

/// Between two looks at what grows slowly.
const FOLLOW: Duration = Duration::from_millis(200);
/// Between two looks for workers that came after their logs were begun to be followed.
const LOOK_FOR_WORKERS: Duration = Duration::from_secs(1);

/// Options of `rebalance`, as Storm's command has them.
#[derive(Debug, Args)]
pub(crate) struct RebalanceCommand {
    /// Name of the topology
    name: String,
    /// Seconds that pending work may take at most; 0: none is waited for [default: `nimbus.kill-wait`, 30 s]
    #[arg(short, long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    wait: Option<u64>,
    /// Workers it has from then on [default: as many as before]
    #[arg(short = 'n', long, value_name = "WORKERS")]
    num_workers: Option<u32>,
    /// Executors that a component has from then on, as many as it has tasks at most; may be repeated
    #[arg(short = 'e', long, value_name = "COMP=N", value_parser = component)]
    executor: Vec<(String, u32)>,
    /// Return when it is accepted
    #[arg(long)]
    no_wait: bool,
    /// Format of what is said of it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    nimbus: NimbusFlags,
}

/// Options of `restart`.
#[derive(Debug, Args)]
pub(crate) struct RestartCommand {
    /// Name of the topology
    name: String,
    /// Seconds that pending work may take at most; 0: none is waited for [default: `nimbus.kill-wait`, 30 s]
    #[arg(short, long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    wait: Option<u64>,
    /// Return when it is accepted
    #[arg(long)]
    no_wait: bool,
    /// Format of what is said of it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    nimbus: NimbusFlags,
}

/// Options of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsCommand {
    /// Name or id of the topology
    name: String,
    /// Go on with what they write, until Ctrl-C or the end of the topology
    #[arg(short, long)]
    follow: bool,
    /// Only this worker, as `describe` numbers them
    #[arg(long, value_name = "N")]
    worker: Option<u32>,
    /// Lines of each worker to begin with, of the last 64 KiB at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    lines: usize,
    #[command(flatten)]
    nimbus: NimbusFlags,
}

/// Options of `errors`.
#[derive(Debug, Args)]
pub(crate) struct ErrorsCommand {
    /// Name or id of the topology
    name: String,
    /// Format of the list
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    nimbus: NimbusFlags,
}

/// Options of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsCommand {
    /// Go on with what happens, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Format of the events; json: an object a line
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    nimbus: NimbusFlags,
}

/// Options of `node`.
#[derive(Debug, Args)]
pub(crate) struct NodeCommand {
    #[command(subcommand)]
    what: NodeVerb,
}

#[derive(Debug, Subcommand)]
enum NodeVerb {
    /// List the nodes
    List(NodeList),
    /// Move away what a node runs, and give it nothing new
    Drain(NodeDrain),
    /// Give a node nothing new; what it runs stays
    Cordon(NodeUseCommand),
    /// Use a node again
    Uncordon(NodeUseCommand),
}

#[derive(Debug, Args)]
struct NodeList {
    /// Format of the list
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    nimbus: NimbusFlags,
}

#[derive(Debug, Args)]
struct NodeDrain {
    /// Id of the node
    node: String,
    /// Seconds to wait at most until it runs nothing
    #[arg(short, long, value_name = "SECS", default_value_t = 30)]
    wait: u64,
    /// Return when it is accepted
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    nimbus: NimbusFlags,
}

#[derive(Debug, Args)]
struct NodeUseCommand {
    /// Id of the node
    node: String,
    #[command(flatten)]
    nimbus: NimbusFlags,
}

/// `COMP=N` of the command line.
fn component(text: &str) -> Result<(String, u32), String> {
    let wrong = || format!("`{text}` is no COMPONENT=EXECUTORS");
    let (name, executors) = text.split_once('=').ok_or_else(wrong)?;
    Ok((name.to_owned(), executors.parse().map_err(|_| wrong())?))
}

pub(super) fn rebalance(command: &RebalanceCommand) -> Done {
    let mut executors = BTreeMap::new();
    for (name, number) in &command.executor {
        if executors.insert(name, number).is_some_and(|before| before != number) {
            return Err(ClientError::Refused(format!("{name} is given two numbers of executors")));
        }
    }
    let body = json!({ "workers": command.num_workers, "executors": executors });
    let change = Change { verb: "rebalance", done: "rebalanced", body: body.to_string() };
    let client = Client::new(&command.nimbus)?;
    anew(&client, &command.name, &change, command.wait, command.no_wait, command.output)
}

pub(super) fn restart(command: &RestartCommand) -> Done {
    let change = Change { verb: "restart", done: "restarted", body: String::new() };
    let client = Client::new(&command.nimbus)?;
    anew(&client, &command.name, &change, command.wait, command.no_wait, command.output)
}

/// What has all workers started anew.
struct Change {
    verb: &'static str,
    done: &'static str,
    body: String,
}

/// Has all workers of a topology started anew, and waits until they run.
fn anew(client: &Client, name: &str, change: &Change, wait: Option<u64>, no_wait: bool, output: Output) -> Done {
    let path = format!("/api/v2/topologies/{}", path_part(name)?);
    let generations = |value: &Value| -> Vec<u64> {
        rows(value, "worker_list").filter_map(|worker| worker["generation"].as_u64()).collect()
    };
    let before = generations(&client.get(&path)?).into_iter().max().unwrap_or(0);
    let wait_ms = wait.map(|secs| format!("?wait_ms={}", secs * 1000)).unwrap_or_default();
    let verb = change.verb;
    let answer = client.post(&format!("{path}/{verb}{wait_ms}"), change.body.as_bytes())?;
    let id = text(&answer["id"]);
    if no_wait {
        return show(&format!("{id}\n"));
    }
    let until = Instant::now() + wait.map_or(RUN_WAIT, Duration::from_secs) + RUN_WAIT;
    loop {
        let now = client.get(&path)?;
        let (workers, running) = (now["workers"].as_u64().unwrap_or(0), now["workers_running"].as_u64().unwrap_or(0));
        // Counts may be older than the assignment: only workers of later generations count.
        let new = generations(&now).iter().all(|generation| *generation > before);
        if now["status"] != "REBALANCING" && workers > 0 && running >= workers && new {
            let said = |_: &Value| format!("{id} is {}: {workers} workers run\n", change.done);
            return show(&output.of(&json!({ "version": 1, "id": id, "workers": workers }), said));
        }
        if Instant::now() >= until {
            let trouble = rows(&now, "worker_list").find_map(|w| w["trouble"].as_str());
            let why = now["unplaced"].as_str().or(trouble).unwrap_or("`squall describe` shows its workers");
            complain(&format!("the {verb} of {id} was accepted, but its workers do not run yet: {why}"));
            return Ok(ExitCode::from(EXIT_LATE));
        }
        std::thread::sleep(LOOK);
    }
}

/// The log of one slot while it is shown.
struct Tail {
    label: String,
    path: String,
    /// What was read so far. `None`: nothing.
    offset: Option<u64>,
    /// Of a line whose end was not read yet.
    rest: Vec<u8>,
}

pub(super) fn logs(command: &LogsCommand) -> Done {
    let client = Client::new(&command.nimbus)?;
    let path = format!("/api/v2/topologies/{}", path_part(&command.name)?);
    let mut tails: BTreeMap<(String, u64), Tail> = BTreeMap::new();
    let mut value = client.get(&path)?;
    begin(command, &value, &mut tails);
    if let (true, Some(worker)) = (tails.is_empty(), command.worker) {
        let there: Vec<String> = rows(&value, "worker_list").map(|w| text(&w["worker"])).collect();
        let there = there.join(", ");
        return Err(ClientError::Refused(format!("{} has no worker {worker}: there are {there}", command.name)));
    }
    let mut missing = Vec::new();
    for tail in tails.values_mut() {
        missing.extend(tail.first(&client, command.lines)?);
    }
    // Of a node that is away nimbus knows no workers.
    let (workers, known) = (value["workers"].as_u64().unwrap_or(0), tails.len() as u64);
    if command.worker.is_none() && known < workers {
        missing.push(format!("{} of its {workers} workers run on no node that is there", workers - known));
    }
    if value["executors_assigned"].as_u64() < value["executors"].as_u64() {
        missing.push(format!("it is not placed whole: {}", text(&value["unplaced"])));
    }
    for why in &missing {
        complain(&format!("the logs of {} are not whole: {why}", command.name));
    }
    if !command.follow {
        return Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(crate::cli::EXIT_FAILED) });
    }
    let mut looked = Instant::now();
    loop {
        std::thread::sleep(FOLLOW);
        if looked.elapsed() >= LOOK_FOR_WORKERS {
            looked = Instant::now();
            match client.get(&path) {
                Ok(now) => value = now,
                // It is removed, and nothing more will be written.
                Err(ClientError::Missing(_)) => return Ok(ExitCode::SUCCESS),
                Err(error) => return Err(error),
            }
            begin(command, &value, &mut tails);
        }
        for tail in tails.values_mut() {
            tail.more(&client)?;
        }
    }
}

/// Begins with the logs of workers that are new.
fn begin(command: &LogsCommand, value: &Value, tails: &mut BTreeMap<(String, u64), Tail>) {
    let wanted = |w: &&Value| command.worker.is_none_or(|worker| w["worker"].as_u64() == Some(worker.into()));
    for worker in rows(value, "worker_list").filter(wanted) {
        let (node, slot) = (text(&worker["node"]), worker["slot"].as_u64().unwrap_or(0));
        let path = format!("/api/v2/logs/{}/{node}/{slot}", text(&value["id"]));
        let label = match worker["worker"].as_u64() {
            Some(worker) => format!("worker {worker}"),
            None => format!("{node}:{slot}"),
        };
        // A worker that had no number has one once it runs.
        let tail =
            tails.entry((node, slot)).or_insert(Tail { label: String::new(), path, offset: None, rest: Vec::new() });
        tail.label = label;
    }
}

impl Tail {
    /// Shows the last lines. The inner value: why there are none.
    fn first(&mut self, client: &Client, lines: usize) -> Result<Option<String>, ClientError> {
        let (bytes, offset, _) = match client.log(&self.path) {
            Ok(part) => part,
            Err(ClientError::Missing(why)) => return Ok(Some(why)),
            Err(error) => return Err(error),
        };
        self.offset = Some(offset + bytes.len() as u64);
        // Of the first line only the end may be there.
        let from = if offset == 0 { 0 } else { bytes.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1) };
        let whole = bytes[from..].iter().rposition(|b| *b == b'\n').map_or(from, |at| from + at + 1);
        self.rest = bytes[whole..].to_vec();
        let all: Vec<&[u8]> = bytes[from..whole].split_inclusive(|b| *b == b'\n').collect();
        let last = all[all.len().saturating_sub(lines)..].concat();
        self.print(&last)?;
        Ok(None)
    }

    /// Shows what was written since.
    fn more(&mut self, client: &Client) -> Result<(), ClientError> {
        loop {
            let from = self.offset.unwrap_or(0);
            let (bytes, offset, size) = match client.log(&format!("{}?offset={from}", self.path)) {
                Ok(part) => part,
                // Not written yet, or its node is away for a while.
                Err(ClientError::Missing(_) | ClientError::Away(_)) => return Ok(()),
                Err(error) => return Err(error),
            };
            // Another one is written in its place.
            if offset < from {
                (self.offset, self.rest) = (Some(0), Vec::new());
                continue;
            }
            self.offset = Some(offset + bytes.len() as u64);
            self.rest.extend(&bytes);
            let whole = self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let lines: Vec<u8> = self.rest.drain(..whole).collect();
            self.print(&lines)?;
            if bytes.is_empty() || offset + bytes.len() as u64 >= size {
                return Ok(());
            }
        }
    }

    fn print(&self, lines: &[u8]) -> Result<(), ClientError> {
        let lines = String::from_utf8_lossy(lines);
        let out: String = lines.lines().map(|line| format!("{} | {line}\n", self.label)).collect();
        if out.is_empty() { Ok(()) } else { show(&out).map(drop) }
    }
}

pub(super) fn errors(command: &ErrorsCommand) -> Done {
    let path = format!("/api/v2/topologies/{}/errors", path_part(&command.name)?);
    let value = Client::new(&command.nimbus)?.get(&path)?;
    show(&command.output.of(&value, troubles))
}

fn troubles(value: &Value) -> String {
    let mut out = String::new();
    if let Some(why) = value["unplaced"].as_str() {
        out += &format!("not placed whole: {why}\n");
    }
    let row = |e: &Value| {
        let worker = format!("{} ({}:{})", text(&e["worker"]), text(&e["node"]), text(&e["slot"]));
        let life = format!("{}.{}", text(&e["generation"]), text(&e["restart"]));
        let last = utc(e["last_ms"].as_u64().unwrap_or(0));
        vec![last, worker, life, text(&e["times"]), text(&e["what"])]
    };
    let errors: Vec<Vec<String>> = rows(value, "errors").map(row).collect();
    if !errors.is_empty() {
        out += &table(&["LAST", "WORKER", "LIFE", "TIMES", "ERROR"], &errors);
    }
    let component = |c: &Value| ["name", "failed", "restarts"].map(|key| text(&c[key])).to_vec();
    let components: Vec<Vec<String>> = rows(value, "components").map(component).collect();
    if !components.is_empty() {
        out += &table(&["COMPONENT", "FAILED", "RESTARTS"], &components);
    }
    if out.is_empty() { "nothing went wrong that this nimbus knows of\n".into() } else { out }
}

pub(super) fn events(command: &EventsCommand) -> Done {
    let client = Client::new(&command.nimbus)?;
    let (mut nimbus, mut after) = (Value::Null, 0);
    loop {
        let value = client.get(&format!("/api/v2/events?after={after}"))?;
        if value["nimbus"] != nimbus {
            // Another nimbus, or another life of it, counts its events anew.
            if !nimbus.is_null() && after > 0 {
                after = 0;
                nimbus = value["nimbus"].clone();
                continue;
            }
            nimbus = value["nimbus"].clone();
        }
        let last = rows(&value, "events").filter_map(|e| e["seq"].as_u64()).last();
        let line = |e: &Value| format!("{}  {}\n", utc(e["time_ms"].as_u64().unwrap_or(0)), text(&e["what"]));
        let out: String = rows(&value, "events").map(|event| command.output.one_of_many(event, line)).collect();
        if !out.is_empty() {
            show(&out)?;
        }
        match last {
            // There may be more.
            Some(last) => after = last,
            None if !command.follow => return Ok(ExitCode::SUCCESS),
            None => std::thread::sleep(FOLLOW),
        }
    }
}

pub(super) fn node(command: &NodeCommand) -> Done {
    match &command.what {
        NodeVerb::List(list) => {
            let value = Client::new(&list.nimbus)?.get("/api/v2/nodes")?;
            show(&list.output.of(&value, nodes))
        }
        NodeVerb::Drain(drain) => drain_node(drain),
        NodeVerb::Cordon(node) => use_node(&Client::new(&node.nimbus)?, &node.node, "cordon"),
        NodeVerb::Uncordon(node) => use_node(&Client::new(&node.nimbus)?, &node.node, "uncordon"),
    }
}

fn nodes(value: &Value) -> String {
    let row = |n: &Value| {
        let used = format!("{}/{}", text(&n["slots_used"]), text(&n["slots"]));
        let there = if n["there"] == true { "yes" } else { "no" };
        let cells = [text(&n["id"]), text(&n["status"]), there.into(), used, text(&n["address"]), text(&n["arch"])];
        [cells.to_vec(), vec![text(&n["engine"])]].concat()
    };
    let nodes: Vec<Vec<String>> = rows(value, "nodes").map(row).collect();
    if nodes.is_empty() {
        return "no node is there\n".into();
    }
    table(&["NODE", "STATUS", "THERE", "SLOTS", "ADDRESS", "ARCH", "ENGINE"], &nodes)
}

fn use_node(client: &Client, node: &str, verb: &str) -> Done {
    if !squall_control::record::valid_name(node) {
        return Err(ClientError::Refused(format!("{node:?} is no name of a node")));
    }
    let answer = client.post(&format!("/api/v2/nodes/{node}/{verb}"), &[])?;
    show(&format!("{}\n", text(&answer["id"])))
}

fn drain_node(command: &NodeDrain) -> Done {
    let client = Client::new(&command.nimbus)?;
    let node = &command.node;
    use_node(&client, node, "drain")?;
    if command.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let until = Instant::now() + Duration::from_secs(command.wait);
    loop {
        let nodes = client.get("/api/v2/nodes")?;
        let used = rows(&nodes, "nodes").find(|n| n["id"] == node.as_str()).and_then(|n| n["slots_used"].as_u64());
        if used.unwrap_or(0) == 0 {
            break;
        }
        if Instant::now() >= until {
            complain(&format!("{node} is drained, but still runs {} workers", used.unwrap_or(0)));
            return Ok(ExitCode::from(EXIT_LATE));
        }
        std::thread::sleep(LOOK);
    }
    let list = client.get("/api/v2/topologies")?;
    let mut code = ExitCode::SUCCESS;
    for topology in rows(&list, "topologies").filter(|t| !t["unplaced"].is_null()) {
        complain(&format!("{} is not placed whole: {}", text(&topology["name"]), text(&topology["unplaced"])));
        code = ExitCode::from(EXIT_LATE);
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_are_given_by_component() {
        assert_eq!(component("split=4"), Ok(("split".into(), 4)));
        for wrong in ["split", "split=", "split=-1", "split=x"] {
            assert!(component(wrong).is_err_and(|why| why.contains(wrong)), "{wrong}");
        }
    }
}
