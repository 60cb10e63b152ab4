//! The commands that change and watch what runs in a cluster, with real daemons and workers.
#![cfg(feature = "cluster")]

#[path = "support/cluster.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use support::*;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn generations(value: &Value) -> Vec<u64> {
    let workers = value["worker_list"].as_array().expect("a list");
    workers.iter().map(|w| w["generation"].as_u64().expect("a number")).collect()
}

fn executors(value: &Value, component: &str) -> u64 {
    let components = value["components"].as_array().expect("a list");
    let of = components.iter().find(|c| c["name"] == component).expect("a component");
    of["executors"].as_u64().expect("a number")
}

/// A command that goes on, whose lines come as it writes them.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(cluster: &Cluster, line: &str) -> Following {
        let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
        command.args(line.split_whitespace()).env("SQUALL_STATE", cluster.state()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let (tell, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Following { child, lines }
    }

    /// Reads until a line says this.
    fn until(&self, what: &str) -> String {
        let mut heard = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(what) => return line,
                Ok(line) => heard.push(line),
                Err(error) => panic!("{error}: it never says {what:?} but {heard:#?}"),
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_rebalance_changes_workers_and_executors_and_one_that_is_wrong_changes_nothing() {
    let cluster = Cluster::start();
    cluster.done(&format!("submit {} -- --workers 2", adder().display()));
    let before = cluster.until("adder", "it adds", |value| executed(value, "sum") > 0 && all_run(value));
    let refused = |line: &str, code: i32, why: &str| {
        let ended = cluster.squall(line);
        assert_eq!(ended.code, Some(code), "squall {line}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(why), "squall {line}: {}", ended.stderr);
    };
    refused("rebalance adder -e sum=3", 1, "sum cannot have 3 executors: its 2 tasks were fixed");
    refused("rebalance adder -e sum=0", 1, "1 to 2 are possible");
    refused("rebalance adder -e sun=1", 1, "it has no component sun: it has numbers, sum");
    refused("rebalance adder -e sum=1 -e sum=2", 1, "two numbers of executors");
    refused("rebalance adder -n 0", 1, "at least one worker");
    refused("rebalance adder -n 5", 1, "4 executors, and each worker needs one");
    refused("rebalance nothing -n 1", 1, "there is no topology nothing");
    refused("rebalance adder -e sum", 2, "COMPONENT=EXECUTORS");
    let same = cluster.describe("adder");
    assert_eq!(
        (&same["status"], pids(&same), generations(&same)),
        (&"ACTIVE".into(), pids(&before), generations(&before))
    );

    let said = cluster.done("rebalance adder -w 5 -n 1 -e sum=1 -o json");
    assert_eq!(json(&said)["workers"], 1, "{said}");
    let after = cluster.until("adder", "it adds", |value| executed(value, "sum") > 1000);
    assert_eq!((pids(&after).len(), executors(&after, "sum"), executors(&after, "numbers")), (1, 1, 2));
    assert!(generations(&after)[0] > generations(&before).into_iter().max().expect("it had workers"));

    // As Storm's UI has it done.
    let (address, token) = (address(&cluster), fs::read_to_string(cluster.state().join("token")).expect("a token"));
    let id = after["id"].as_str().expect("an id");
    let path = format!("/api/v1/topology/{id}/rebalance/1");
    let body = r#"{"rebalanceOptions": {"numWorkers": 2, "executors": {"sum": 2}}}"#;
    let (status, answer) = http_with(&address, "POST", &path, Some(&token), body);
    let wanted = format!(r#"{{"status":"success","topologyId":"{id}","topologyOperation":"rebalance"}}"#);
    assert_eq!((status, json(&answer)), (200, json(&wanted)));
    let two = |value: &Value| value["workers"] == 2 && all_run(value) && executors(value, "sum") == 2;
    let again = cluster.until("adder", "it has two workers again", two);
    let counted = executed(&again, "sum");
    cluster.until("adder", "it adds", |value| executed(value, "sum") > counted + 1000);
    let bad = r#"{"rebalanceOptions": {"numWorkers": "many"}}"#;
    assert_eq!(http_with(&address, "POST", &path, Some(&token), bad).0, 400);
    assert_eq!(
        http_with(&address, "POST", &path, Some(&token), r#"{"rebalanceOptions": {"executors": {"sum": 9}}}"#).0,
        409
    );
}

#[test]
fn a_rebalance_beyond_the_slots_is_refused_and_changes_nothing() {
    let cluster = Cluster::start_with("--slots 2");
    cluster.done(&format!("submit {} --name other", adder().display()));
    cluster.done(&format!("submit {}", adder().display()));
    let before = cluster.until("adder", "it adds", |value| executed(value, "sum") > 0 && all_run(value));
    let plain = cluster.squall("rebalance adder -w 1 -n 3 -o yaml");
    let after = cluster.describe("adder");
    match plain.code {
        // Fewer workers than asked for are a way to run it too; but then it says how many.
        Some(0) => assert!(plain.stdout.contains("workers: 1"), "{}", plain.stdout),
        code => {
            assert_eq!((code, &after["status"], pids(&after)), (Some(1), &"ACTIVE".into(), pids(&before)));
            assert!(plain.stderr.contains("no free slot"), "{}", plain.stderr);
        }
    }
}

#[test]
fn a_restart_gives_every_worker_another_process_where_it_was() {
    let cluster = Cluster::start();
    cluster.done(&format!("submit {} -- --workers 2", adder().display()));
    let before = cluster.until("adder", "it adds", |value| executed(value, "sum") > 0 && all_run(value));
    let said = cluster.done("restart adder -w 5");
    assert!(said.contains("is restarted: 2 workers run"), "{said}");
    let after = cluster.until("adder", "it adds", |value| all_run(value) && executed(value, "sum") > 0);
    assert!(pids(&after).iter().all(|pid| !pids(&before).contains(pid)), "{after:#}");
    let slots = |value: &Value| -> Vec<Value> {
        value["worker_list"].as_array().expect("a list").iter().map(|w| w["slot"].clone()).collect()
    };
    assert_eq!(slots(&after), slots(&before));
}

#[test]
fn logs_are_shown_by_worker_and_followed_into_their_next_lives() {
    let cluster = Cluster::start();
    cluster.done(&format!("submit {} -- --workers 2 --trouble log", adder().display()));
    cluster.until("adder", "it adds", |value| executed(value, "sum") > 0 && all_run(value));
    let following = Following::start(&cluster, "logs adder -f");
    let line = following.until("a number worth telling");
    assert!(line.starts_with("worker "), "{line}");
    let all = cluster.done("logs adder");
    assert!(all.contains("worker 0 | ") && all.contains("worker 1 | "), "{all}");
    let one = cluster.done("logs adder --worker 1 --lines 1");
    assert!(one.lines().count() == 1 && one.starts_with("worker 1 | "), "{one}");
    let none = cluster.squall("logs adder --worker 7");
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("has no worker 7: there are 0, 1"), "{}", none.stderr);
    assert_eq!(cluster.squall("logs nothing").code, Some(1));
    // All that was written before the restart was heard, so this is of the next lives.
    while following.lines.try_recv().is_ok() {}
    cluster.done("restart adder -w 1");
    following.until("a number worth telling");
    // Names and slots are checked: nothing outside of the folder of logs is read.
    let (address, token) = (address(&cluster), fs::read_to_string(cluster.state().join("token")).expect("a token"));
    for (path, status) in [("a-1/dev/0", 404), ("..%2Fx/dev/0", 400), ("a-1/dev/x", 400), ("a-1/nowhere/0", 502)] {
        assert_eq!(http(&address, "GET", &format!("/api/v2/logs/{path}"), Some(&token)).0, status, "{path}");
    }
}

#[test]
fn what_goes_wrong_is_an_error_with_its_cause_and_an_event() {
    let cluster = Cluster::start();
    cluster.done(&format!("submit {} -- --workers 1", adder().display()));
    let before = cluster.until("adder", "it adds", |value| executed(value, "sum") > 0 && all_run(value));
    assert!(cluster.done("errors adder").contains("nothing went wrong"));
    let following = Following::start(&cluster, "events -f");
    let id = before["id"].as_str().expect("an id").to_owned();
    following.until(&format!("{id} is submitted"));
    following.until(&format!("{id}: the worker in dev:0 runs, life 1.0"));
    let victim = Pid::from_raw(pids(&before)[0]).expect("a pid");
    kill_process(victim, Signal::KILL).expect("it runs");
    following.until(&format!("{id}: the worker in dev:0 starts, life 1.1"));
    following.until(&format!("{id}: the worker in dev:0 runs, life 1.1"));
    let errors = json(&cluster.done("errors adder -o json"));
    let error = &errors["errors"][0];
    assert_eq!((&error["node"], &error["slot"], &error["times"]), (&"dev".into(), &0.into(), &1.into()), "{errors:#}");
    let what = error["what"].as_str().expect("a cause");
    assert!(what.contains("signal 9") || what.contains("SIGKILL"), "{what}");
    let table = cluster.done("errors adder");
    assert!(table.contains(what) && table.contains("dev:0"), "{table}");
    cluster.done("deactivate adder");
    following.until(&format!("{id} is INACTIVE"));
    cluster.done("kill adder -w 5");
    following.until(&format!("{id} is KILLED"));
    following.until(&format!("{id} is removed"));
    // Without -f: what was, oldest first, an object a line.
    let lines: Vec<Value> = cluster.done("events -o json").lines().map(json).collect();
    let seqs: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().expect("a number")).collect();
    assert!(seqs.len() > 5 && seqs.is_sorted() && seqs[0] == 1, "{seqs:?}");
    assert_eq!(cluster.squall("errors adder").code, Some(1), "it is gone");
}

#[test]
fn a_dry_run_shows_where_a_topology_would_be_placed_and_submits_nothing() {
    let cluster = Cluster::start_with("--slots 3");
    let submit = format!("submit {}", adder().display());
    let shown = cluster.done(&format!("{submit} --dry-run -- --workers 2"));
    assert!(
        shown.contains("dev:0") && shown.contains("dev:1") && shown.contains("nothing that runs would move"),
        "{shown}"
    );
    let value = json(&cluster.done(&format!("{submit} --dry-run -o json -- --workers 2")));
    let workers = value["placement"]["workers"].as_array().expect("a list");
    let count = |name: &str| workers.iter().map(|w| w["components"][name].as_u64().unwrap_or(0)).sum::<u64>();
    assert_eq!((workers.len(), count("numbers"), count("sum")), (2, 2, 2), "{value:#}");
    assert_eq!(cluster.done("list"), "no topology runs\n");
    // It runs where it was said that it would.
    cluster.done(&format!("{submit} -- --workers 2"));
    let runs = cluster.describe("adder");
    let slots = |list: &Value| -> Vec<u64> {
        list.as_array().expect("a list").iter().map(|w| w["slot"].as_u64().expect("a slot")).collect()
    };
    assert_eq!(slots(&runs["worker_list"]), slots(&value["placement"]["workers"]));
    let again = cluster.squall(&format!("{submit} --dry-run"));
    assert_eq!(again.code, Some(1), "{}", again.stdout);
    assert!(again.stderr.contains("adder is there already"), "{}", again.stderr);
    cluster.done(&format!("{submit} --name more"));
    let full = cluster.squall(&format!("{submit} --name third --dry-run"));
    assert_eq!(full.code, Some(1), "{}", full.stdout);
    assert!(full.stderr.contains("third cannot be placed: no free slot"), "{}", full.stderr);
}

#[test]
fn answers_come_as_yaml_and_shells_can_complete_commands() {
    let cluster = Cluster::start();
    cluster.done(&format!("submit {}", adder().display()));
    let list = cluster.done("list -o yaml");
    assert!(list.starts_with("topologies:\n- executors: 4\n") && list.contains("\n  name: \"adder\"\n"), "{list}");
    let nodes = cluster.done("node list -o yaml");
    assert!(nodes.contains("- address: ") && nodes.contains("  status: \"READY\"\n"), "{nodes}");
    for shell in ["bash", "zsh", "fish"] {
        let script = cluster.done(&format!("completions {shell}"));
        assert!(script.contains("rebalance") && script.contains("uncordon"), "{shell}: {script}");
    }
    assert_eq!(cluster.squall("completions csh").code, Some(2));
}

#[test]
fn a_drained_node_s_workers_move_and_a_cordoned_one_gets_nothing_new() {
    let daemons = Daemons::start();
    let folder = daemons.folder.path();
    // A second node, with a folder of its own.
    let other = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(other.path().join("state")).expect("it is made");
    let sessions = json(&fs::read_to_string(folder.join("state/nimbus.json")).expect("it is there"));
    let sessions = sessions["sessions"].as_str().expect("an address");
    let token = folder.join("state/token");
    let line = format!("supervisor --conf-dir none --id two --nimbus {sessions} --token-file {}", token.display());
    let mut second = Second(daemon(other.path(), &line, "state in"), other);
    let done = |line: &str| {
        let ended = daemons.squall(line);
        assert_eq!(ended.code, Some(0), "squall {line}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    };
    let status = |node: &str| {
        let list = json(&done("node list -o json"));
        let node = list["nodes"].as_array().expect("a list").iter().find(|n| n["id"] == node).cloned();
        node.map(|n| n["status"].as_str().expect("a text").to_owned())
    };
    wait_for("both nodes are there", || status("one").is_some() && status("two").is_some());
    assert_eq!(done("node cordon two"), "two\n");
    assert_eq!(status("two").as_deref(), Some("CORDONED"));
    done(&format!("submit {}", adder().display()));
    let runs = |value: &Value| all_run(value) && executed(value, "sum") > 0;
    let first = daemons.until("adder", "it adds", runs);
    assert_eq!(first["worker_list"][0]["node"], "one");
    assert!(daemons.squall("logs adder").code == Some(0), "over the link of its supervisor");
    // Nowhere to go: it says so, and goes on when there is room again.
    let stuck = daemons.squall("node drain one -w 2");
    assert_eq!(stuck.code, Some(4), "{}{}", stuck.stdout, stuck.stderr);
    assert!(stuck.stderr.contains("adder is not placed whole: no free slot"), "{}", stuck.stderr);
    assert_eq!(status("one").as_deref(), Some("DRAINED"));
    done("node uncordon two");
    let moved = daemons.until("adder", "it runs on the other node", runs);
    assert_eq!(moved["worker_list"][0]["node"], "two");
    done("node uncordon one");
    assert_eq!((status("one").as_deref(), status("two").as_deref()), (Some("READY"), Some("READY")));
    let moved_back = daemons.squall("node drain two");
    assert_eq!(moved_back.code, Some(0), "{}{}", moved_back.stdout, moved_back.stderr);
    let back = daemons.until("adder", "it runs where it began", runs);
    assert_eq!(back["worker_list"][0]["node"], "one");
    let unknown = daemons.squall("node drain three");
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("there is no node three: there are one, two"), "{}", unknown.stderr);
    done("kill adder -w 5");
    second.end();
}

/// A supervisor with a folder of its own.
struct Second(Child, tempfile::TempDir);

impl Second {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        for worker in noted_workers(&self.1.path().join("state")) {
            let _ = kill_process(worker, Signal::KILL);
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.end();
    }
}

fn wait_for(what: &str, is: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !is() {
        assert!(since.elapsed() < PATIENCE, "it never came to this: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
