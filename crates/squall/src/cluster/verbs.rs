//! The commands that speak to a cluster, and those that run, show and end topologies. What changes and watches them is in `operate`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use squall_metrics::format;

use super::client::{Client, ClientError, NimbusFlags};
use super::operate::{self, ErrorsCommand, EventsCommand, LogsCommand, NodeCommand, RebalanceCommand, RestartCommand};
use super::output::{Output, rows, table, text};
use super::submit::{self, SubmitCommand, Submitted};
use crate::cli::EXIT_FAILED;
use crate::run::job::{complain, print};

/// No nimbus answers, or none leads.
pub(crate) const EXIT_AWAY: u8 = 3;
/// It was done, but not in the time that was waited: workers that do not run yet, roots that were left.
pub(crate) const EXIT_LATE: u8 = 4;

/// How long workers are waited for until they run.
pub(super) const RUN_WAIT: Duration = Duration::from_secs(30);
/// Beyond the wait of a kill: for its commit, and for workers to stop.
const KILL_GRACE: Duration = Duration::from_secs(15);
/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// The names of these commands.
pub(crate) const VERBS: [&str; 12] = [
    "submit",
    "list",
    "describe",
    "kill",
    "activate",
    "deactivate",
    "rebalance",
    "restart",
    "logs",
    "errors",
    "events",
    "node",
];

/// A command to a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Run a topology in the cluster
    Submit(SubmitCommand),
    /// List the topologies of the cluster
    List(ListCommand),
    /// Show a topology of the cluster: its components, workers and counts
    Describe(DescribeCommand),
    /// End a topology: its spouts stop, what is pending finishes or the wait ends, then it is removed
    Kill(KillCommand),
    /// Call the spouts of a topology again
    Activate(TurnCommand),
    /// Call the spouts of a topology no more; everything else goes on
    Deactivate(TurnCommand),
    /// Place a topology anew, with other numbers of workers and executors; it pauses meanwhile
    Rebalance(RebalanceCommand),
    /// Start all workers of a topology anew where they are; it pauses meanwhile
    Restart(RestartCommand),
    /// Show what the workers of a topology wrote
    Logs(LogsCommand),
    /// Show what went wrong with the workers of a topology
    Errors(ErrorsCommand),
    /// Show what happened in the cluster
    Events(EventsCommand),
    /// Show the nodes of the cluster, or say what one is to be used for
    Node(NodeCommand),
}

/// Options of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListCommand {
    /// Format of the list
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    nimbus: NimbusFlags,
}

/// Options of `describe`.
#[derive(Debug, Args)]
pub(crate) struct DescribeCommand {
    /// Name or id of the topology
    name: String,
    /// Format of the description
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    nimbus: NimbusFlags,
}

/// Options of `kill`.
#[derive(Debug, Args)]
pub(crate) struct KillCommand {
    /// Name of the topology
    name: String,
    /// Seconds that pending work may take at most; 0: none is waited for [default: `nimbus.kill-wait`, 30 s]
    #[arg(short, long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    wait: Option<u64>,
    /// Return when the kill is accepted
    #[arg(long)]
    no_wait: bool,
    /// Format of what is said of its end
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    nimbus: NimbusFlags,
}

/// Options of `activate` and `deactivate`.
#[derive(Debug, Args)]
pub(crate) struct TurnCommand {
    /// Name of the topology
    name: String,
    #[command(flatten)]
    nimbus: NimbusFlags,
}

/// The exit codes of these commands.
pub(crate) fn exit_codes() -> &'static str {
    "Exit codes of commands to a cluster:\n  0    done\n  1    refused, and nothing was changed; the reason is on standard error\n  \
     2    the command line was not understood\n  3    no nimbus answers, or none leads\n  4    accepted, but the wait ended first: \
     workers that do not run yet, roots that were left,\n       a topology that has no place any more"
}

/// Does what a command asks for.
pub(crate) fn cluster(command: &ClusterCommand) -> ExitCode {
    let done = match command {
        ClusterCommand::Submit(command) => run_submit(command),
        ClusterCommand::List(command) => list(command),
        ClusterCommand::Describe(command) => describe(command),
        ClusterCommand::Kill(command) => kill(command),
        ClusterCommand::Activate(command) => turn(command, "activate"),
        ClusterCommand::Deactivate(command) => turn(command, "deactivate"),
        ClusterCommand::Rebalance(command) => operate::rebalance(command),
        ClusterCommand::Restart(command) => operate::restart(command),
        ClusterCommand::Logs(command) => operate::logs(command),
        ClusterCommand::Errors(command) => operate::errors(command),
        ClusterCommand::Events(command) => operate::events(command),
        ClusterCommand::Node(command) => operate::node(command),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::from(match error {
                ClientError::Away(_) => EXIT_AWAY,
                ClientError::Refused(_) | ClientError::Missing(_) => EXIT_FAILED,
            })
        }
    }
}

pub(super) type Done = Result<ExitCode, ClientError>;

pub(super) fn show(text: &str) -> Done {
    print(text).map_err(|error| ClientError::Refused(format!("standard output cannot be written: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

fn run_submit(command: &SubmitCommand) -> Done {
    if command.dry_run {
        return show(&submit::dry_run(command)?);
    }
    let Submitted { id, name, wait } = submit::submit(command)?;
    show(&format!("{id}\n"))?;
    if !wait {
        return Ok(ExitCode::SUCCESS);
    }
    let client = Client::new(&command.nimbus)?;
    let until = Instant::now() + RUN_WAIT;
    loop {
        let row = client.get(&format!("/api/v2/topologies/{name}"))?;
        let workers = row["workers"].as_u64().unwrap_or(0);
        if workers > 0 && row["workers_running"].as_u64().unwrap_or(0) >= workers {
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() >= until {
            let trouble = rows(&row, "worker_list").find_map(|w| w["trouble"].as_str());
            let why = trouble.or(row["unplaced"].as_str()).unwrap_or("`squall describe` shows its workers");
            complain(&format!(
                "{name} was accepted, but not all its workers run after {} s: {why}",
                RUN_WAIT.as_secs()
            ));
            return Ok(ExitCode::from(EXIT_LATE));
        }
        std::thread::sleep(LOOK);
    }
}

fn list(command: &ListCommand) -> Done {
    let value = Client::new(&command.nimbus)?.get("/api/v2/topologies")?;
    show(&command.output.of(&value, topologies))
}

fn topologies(value: &Value) -> String {
    let row = |t: &Value| {
        let workers = format!("{}/{}", text(&t["workers_running"]), text(&t["workers"]));
        vec![text(&t["name"]), text(&t["status"]), workers, text(&t["tasks"]), text(&t["pending"]), text(&t["id"])]
    };
    let rows: Vec<Vec<String>> = rows(value, "topologies").map(row).collect();
    if rows.is_empty() {
        return "no topology runs\n".into();
    }
    table(&["NAME", "STATUS", "WORKERS", "TASKS", "PENDING", "ID"], &rows)
}

fn describe(command: &DescribeCommand) -> Done {
    let value = Client::new(&command.nimbus)?.get(&format!("/api/v2/topologies/{}", path_part(&command.name)?))?;
    show(&command.output.of(&value, description))
}

fn description(value: &Value) -> String {
    let count = |v: &Value| format::count(v.as_u64().unwrap_or(0));
    let mut out = format!(
        "{} ({}): {}, {} of {} workers run\n",
        text(&value["name"]),
        text(&value["id"]),
        text(&value["status"]),
        text(&value["workers_running"]),
        text(&value["workers"])
    );
    if let Some(why) = value["unplaced"].as_str() {
        out += &format!("not placed whole: {why}\n");
    }
    let component = |c: &Value| {
        let counts = ["emitted", "executed", "acked", "failed", "pending"].map(|key| count(&c[key]));
        [vec![text(&c["name"]), text(&c["tasks"]), text(&c["executors"])], counts.to_vec()].concat()
    };
    let components: Vec<Vec<String>> = rows(value, "components").map(component).collect();
    let head = ["COMPONENT", "TASKS", "EXECUTORS", "EMITTED", "EXECUTED", "ACKED", "FAILED", "PENDING"];
    out += &format!("\n{}", table(&head, &components));
    let worker = |w: &Value| {
        let state = match &w["state"] {
            Value::String(state) => state.clone(),
            Value::Object(state) => state.keys().next().cloned().unwrap_or_default(),
            _ => String::new(),
        };
        let life = format!("{}.{}", text(&w["generation"]), text(&w["restart"]));
        let up = format!("{} s", w["uptime_ms"].as_u64().unwrap_or(0) / 1000);
        let place = format!("{}:{}", text(&w["node"]), text(&w["slot"]));
        vec![text(&w["worker"]), place, text(&w["pid"]), life, state, text(&w["restarts"]), up, text(&w["trouble"])]
    };
    let workers: Vec<Vec<String>> = rows(value, "worker_list").map(worker).collect();
    let head = ["WORKER", "SLOT", "PID", "LIFE", "STATE", "RESTARTS", "UP", "TROUBLE"];
    out += &format!("\n{}", table(&head, &workers));
    out
}

/// A name as part of a path: what could not be a name of a topology is not sent.
pub(super) fn path_part(name: &str) -> Result<&str, ClientError> {
    if squall_control::record::valid_name(name) {
        Ok(name)
    } else {
        Err(ClientError::Refused(format!("{name:?} is no name of a topology")))
    }
}

fn turn(command: &TurnCommand, verb: &str) -> Done {
    let name = path_part(&command.name)?;
    let answer = Client::new(&command.nimbus)?.post(&format!("/api/v2/topologies/{name}/{verb}"), &[])?;
    show(&format!("{}\n", text(&answer["id"])))
}

fn kill(command: &KillCommand) -> Done {
    let name = path_part(&command.name)?;
    let client = Client::new(&command.nimbus)?;
    let wait = command.wait.map(|secs| format!("?wait_ms={}", secs * 1000)).unwrap_or_default();
    let answer = client.post(&format!("/api/v2/topologies/{name}/kill{wait}"), &[])?;
    let id = text(&answer["id"]);
    if command.no_wait {
        return show(&format!("{id}\n"));
    }
    let until = Instant::now() + command.wait.map_or(RUN_WAIT, Duration::from_secs) + KILL_GRACE;
    loop {
        // In this order: the end is there before the topology is gone.
        let there = client.get(&format!("/api/v2/topologies/{id}"));
        match client.get(&format!("/api/v2/ended/{id}")) {
            Ok(ended) => return tell_end(command.output, &id, &ended),
            Err(ClientError::Missing(_)) if matches!(there, Err(ClientError::Missing(_))) => {
                complain(&format!(
                    "{id} is removed, but what was left of it is not known: another nimbus leads since it was killed"
                ));
                return Ok(ExitCode::from(EXIT_LATE));
            }
            Err(ClientError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= until {
            complain(&format!("{id} is being killed, but is there still; `squall list` shows it"));
            return Ok(ExitCode::from(EXIT_LATE));
        }
        std::thread::sleep(LOOK);
    }
}

fn tell_end(output: Output, id: &str, ended: &Value) -> Done {
    let (drained, left) = (ended["drained"] == true, ended["left"].as_u64().unwrap_or(0));
    let end = json!({ "version": 1, "id": id, "drained": drained, "left": left });
    let how = if drained { "it was drained" } else { "its wait ended before it was drained" };
    show(&output.of(&end, |_| format!("{id} is removed: {how}, {left} roots were left\n")))?;
    Ok(if drained { ExitCode::SUCCESS } else { ExitCode::from(EXIT_LATE) })
}
