//! One topology on several nodes: supervisors with addresses and folders of their own on the loopback, with real worker processes.
//!
//! A node dies as a machine does, supervisor and workers together. Everything a test leaves behind is ended by its id.
#![cfg(feature = "cluster")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

#[path = "support/cluster.rs"]
mod support;
use support::{Ended, NIMBUS, PATIENCE, adder, all_run, daemon, executed, link, noted_workers, pids, squall};

/// A nimbus and supervisors, each with its folder and address.
struct Hosts {
    folder: TempDir,
    nimbus: Child,
    supervisors: BTreeMap<&'static str, Child>,
}

impl Hosts {
    fn start(nodes: &[&'static str]) -> Hosts {
        let folder = tempfile::tempdir().expect("a folder");
        let nimbus = daemon(folder.path(), NIMBUS, "supervisors at");
        let mut hosts = Hosts { folder, nimbus, supervisors: BTreeMap::new() };
        nodes.iter().for_each(|node| hosts.start_node(node));
        let since = Instant::now();
        while hosts.live() < nodes.len() {
            assert!(since.elapsed() < PATIENCE, "the supervisors never register");
            std::thread::sleep(Duration::from_millis(20));
        }
        hosts
    }

    /// The supervisors that nimbus knows.
    fn live(&self) -> usize {
        let ended = self.squall("list -o json");
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let address = self.known("address");
        let token = fs::read_to_string(self.folder.path().join("state/token")).expect("it is there");
        let body = get(&address, "/api/v2/cluster", &token);
        body["nodes"].as_array().map_or(0, Vec::len)
    }

    fn known(&self, key: &str) -> String {
        let text = fs::read_to_string(self.folder.path().join("state/nimbus.json")).expect("nimbus wrote it");
        let value: Value = serde_json::from_str(&text).expect("it is JSON");
        value[key].as_str().expect("an address").to_owned()
    }

    /// `a` is at 127.0.0.2, `b` at 127.0.0.3, and so on.
    fn line(&self, node: &str, state: &str) -> String {
        let host = 2 + node.as_bytes()[0] - b'a';
        format!(
            "supervisor --conf-dir none --id {node} --state {state} --nimbus {} --token-file state/token --bind 127.0.0.{host}:0 --slots 2",
            self.known("sessions")
        )
    }

    fn start_node(&mut self, node: &'static str) {
        let child = daemon(self.folder.path(), &self.line(node, node), "state in");
        self.supervisors.insert(node, child);
    }

    fn state(&self, node: &str) -> PathBuf {
        self.folder.path().join(node)
    }

    /// A signal for all processes of a node, its supervisor first.
    fn signal(&self, node: &str, signal: Signal) {
        kill_process(Pid::from_child(&self.supervisors[node]), signal).expect("it is ours");
        for worker in noted_workers(&self.state(node)) {
            let _ = kill_process(worker, signal);
        }
    }

    fn squall(&self, line: &str) -> Ended {
        squall(self.folder.path(), line)
    }

    fn done(&self, line: &str) -> String {
        let ended = self.squall(line);
        assert_eq!(ended.code, Some(0), "squall {line}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// Waits until a description is as it should be.
    fn until(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let value: Value =
                serde_json::from_str(&self.done(&format!("describe {name} -o json"))).expect("it is JSON");
            if is(&value) {
                return value;
            }
            assert!(since.elapsed() < PATIENCE, "it never came to this: {what}; it is {value:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until so much more was added up since now.
    fn adds(&self, more: u64) {
        let counted = executed(&self.until("adder", "it is there", |_| true), "sum");
        self.until("adder", "it adds", |value| executed(value, "sum") > counted + more);
    }

    /// Ends it in order, which takes the word of every spout to every bolt: no link is missing.
    fn drained(&self) {
        let said = self.done("kill adder -w 60");
        assert!(said.contains("it was drained"), "{said}");
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for (node, daemon) in &mut self.supervisors {
            let _ = daemon.kill();
            let _ = daemon.wait();
            for worker in noted_workers(&self.folder.path().join(node)) {
                let _ = kill_process(worker, Signal::KILL);
            }
        }
        let _ = self.nimbus.kill();
        let _ = self.nimbus.wait();
    }
}

fn get(address: &str, path: &str, token: &str) -> Value {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        token.trim()
    );
    stream.write_all(request.as_bytes()).expect("it takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
}

/// By worker of the plan: its node.
fn nodes(value: &Value) -> Vec<String> {
    let workers = value["worker_list"].as_array().expect("a list");
    workers.iter().map(|w| w["node"].as_str().expect("a name").to_owned()).collect()
}

fn lives(value: &Value) -> Vec<(u64, u64)> {
    let workers = value["worker_list"].as_array().expect("a list");
    workers.iter().map(|w| (w["generation"].as_u64().unwrap(), w["restart"].as_u64().unwrap())).collect()
}

fn spread(value: &Value, over: usize) -> bool {
    all_run(value) && nodes(value).into_iter().collect::<BTreeSet<_>>().len() == over
}

fn kill_one(value: &Value, worker: usize) {
    kill_process(Pid::from_raw(pids(value)[worker]).expect("a pid"), Signal::KILL).expect("it runs");
}

const WORDS: &str = "\
name: words
config:
  workers: 3
spouts:
  - id: lines
    className: lines
    config: { paths: \"${DIR}/input.txt\" }
bolts:
  - id: split
    className: split
    parallelism: 3
    config: { field: text }
  - id: count
    className: count
    parallelism: 3
    config: { by: word, emit: end }
  - id: out
    className: json-file
    config: { folder: \"${DIR}/out\" }
streams:
  - { from: lines, to: split, grouping: { type: SHUFFLE } }
  - { from: split, to: count, grouping: { type: FIELDS, args: [word] } }
  - { from: count, to: out, grouping: { type: GLOBAL } }
";

#[test]
fn a_word_count_over_three_nodes_counts_every_word_once_and_is_drained() {
    let hosts = Hosts::start(&["a", "b", "c"]);
    let folder = hosts.folder.path();
    fs::write(folder.join("words.yaml"), WORDS).expect("it is written");
    let lines: String = (0..5000).map(|n| format!("all word{} all\n", n % 7)).collect();
    fs::write(folder.join("input.txt"), lines).expect("it is written");
    hosts.done("submit words.yaml");
    let value = hosts.until("words", "all words are counted", |value| executed(value, "count") == 15_000);
    assert!(spread(&value, 3), "{value:#}");
    let lines = |value: &Value, key: &str| value["components"][0][key].as_u64();
    hosts.until("words", "each line is acknowledged", |value| lines(value, "acked") == Some(5000));
    let said = hosts.done("kill words -w 30");
    assert!(said.contains("it was drained, 0 roots were left"), "{said}");
    let files = fs::read_dir(folder.join("out")).expect("it was written").map(|file| file.expect("it is there").path());
    let counts: String = files.map(|file| fs::read_to_string(file).expect("it is text")).collect();
    let rows: Vec<Value> = counts.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let count = |word: &str| rows.iter().filter(|r| r["word"] == word).map(|r| r["count"].as_u64()).collect::<Vec<_>>();
    assert_eq!((rows.len(), count("all"), count("word0")), (8, vec![Some(10_000)], vec![Some(715)]), "{counts}");
}

#[test]
fn a_worker_that_is_killed_is_linked_anew_to_its_peers_on_other_nodes() {
    let hosts = Hosts::start(&["a", "b", "c"]);
    hosts.done(&format!("submit {} -- --workers 3", adder().display()));
    let mut before = hosts.until("adder", "it adds on three nodes", |v| spread(v, 3) && executed(v, "sum") > 0);
    // The first and the last: once its links are the others' to make, once its own.
    for victim in [0, 2, 1] {
        kill_one(&before, victim);
        let replaced = |value: &Value| all_run(value) && pids(value)[victim] != pids(&before)[victim];
        let after = hosts.until("adder", "it is replaced", replaced);
        assert_eq!(nodes(&after), nodes(&before), "each stays where it is");
        for worker in (0..3).filter(|worker| *worker != victim) {
            assert_eq!(pids(&after)[worker], pids(&before)[worker], "its peers live on");
        }
        assert_eq!(lives(&after)[victim], (lives(&before)[victim].0, 1));
        hosts.adds(1000);
        before = after;
    }
    hosts.drained();
}

#[test]
fn what_a_dead_node_ran_is_run_by_the_others_and_its_next_start_is_used_again() {
    let mut hosts = Hosts::start(&["a", "b", "c"]);
    hosts.done(&format!("submit {} -- --workers 3", adder().display()));
    let before = hosts.until("adder", "it adds on three nodes", |v| spread(v, 3) && executed(v, "sum") > 0);
    hosts.signal("b", Signal::KILL);
    hosts.supervisors.get_mut("b").expect("it was started").wait().expect("it ends");
    let lost = nodes(&before).iter().position(|node| node == "b").expect("it ran one");
    let healed = |value: &Value| all_run(value) && !nodes(value).contains(&"b".to_owned());
    let after = hosts.until("adder", "two nodes run all of it", healed);
    for worker in (0..3).filter(|worker| *worker != lost) {
        assert_eq!(pids(&after)[worker], pids(&before)[worker], "who was elsewhere lives on");
    }
    assert!(lives(&after)[lost].0 > lives(&before)[lost].0, "another generation");
    hosts.adds(1000);
    hosts.start_node("b");
    let back = hosts.until("adder", "the node is used again", |v| spread(v, 3));
    assert!(nodes(&back).contains(&"b".to_owned()));
    hosts.adds(1000);
    hosts.drained();
}

#[test]
fn a_node_that_was_cut_off_comes_back_and_its_old_workers_are_out() {
    let hosts = Hosts::start(&["a", "b"]);
    hosts.done(&format!("submit {} -- --workers 2", adder().display()));
    let before = hosts.until("adder", "it adds on two nodes", |v| spread(v, 2) && executed(v, "sum") > 0);
    let lost = nodes(&before).iter().position(|node| node == "b").expect("it ran one");
    // Stopped, it is as silent as behind a cut wire; its processes and sockets are all there.
    hosts.signal("b", Signal::STOP);
    let alone = |value: &Value| all_run(value) && nodes(value) == ["a", "a"];
    let after = hosts.until("adder", "one node runs all of it", alone);
    assert_eq!(pids(&after)[1 - lost], pids(&before)[1 - lost]);
    hosts.adds(1000);
    // It works again, as it did before: nobody has told it anything.
    hosts.signal("b", Signal::CONT);
    let old = pids(&before)[lost];
    let since = Instant::now();
    while noted_workers(&hosts.state("b")).iter().any(|pid| pid.as_raw_nonzero().get() == old) {
        assert!(since.elapsed() < PATIENCE, "the old worker is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    let later = hosts.until("adder", "it runs", all_run);
    assert_eq!(pids(&later)[1 - lost], pids(&before)[1 - lost], "the one that was not cut off never died");
    hosts.adds(1000);
    hosts.drained();
}

/// A tree that lost a tuple without a word would be pending for ten minutes.
const NUMBERS: &str = "\
name: numbers
config:
  workers: 3
  message_timeout_ms: 600000
spouts:
  - id: numbers
    className: generator
    config: { count: 60000, rate: 10000 }
bolts:
  - id: pass
    className: filter
    parallelism: 3
    config: { where: \"n >= 0\" }
  - id: out
    className: json-file
    config: { folder: \"${DIR}/out\" }
streams:
  - { from: numbers, to: pass, grouping: { type: SHUFFLE } }
  - { from: pass, to: out, grouping: { type: GLOBAL } }
";

#[test]
fn every_root_is_acknowledged_though_workers_and_then_a_node_die() {
    let mut hosts = Hosts::start(&["a", "b", "c"]);
    fs::write(hosts.folder.path().join("numbers.yaml"), NUMBERS).expect("it is written");
    hosts.done("submit numbers.yaml");
    hosts.until("numbers", "it passes on three nodes", |v| spread(v, 3) && executed(v, "out") > 0);
    for victim in 0..3 {
        let now = hosts.until("numbers", "it runs", all_run);
        kill_one(&now, victim);
        hosts.until("numbers", "it is replaced", |v| all_run(v) && pids(v)[victim] != pids(&now)[victim]);
    }
    hosts.signal("b", Signal::KILL);
    hosts.supervisors.get_mut("b").expect("it was started").wait().expect("it ends");
    hosts.until("numbers", "two nodes run all of it", |v| all_run(v) && !nodes(v).contains(&"b".to_owned()));
    // A spout without a state folder begins again in each of its lives, and then counts more.
    let done = |value: &Value| {
        let spout = &value["components"][0];
        spout["acked"].as_u64() >= Some(60_000) && spout["pending"] == 0
    };
    hosts.until("numbers", "every root is acknowledged", done);
    let said = hosts.done("kill numbers -w 30");
    assert!(said.contains("it was drained, 0 roots were left"), "{said}");
}

#[test]
fn a_supervisor_that_dies_leaves_links_alone_and_the_next_one_makes_new_ones() {
    let mut hosts = Hosts::start(&["a", "b"]);
    hosts.done(&format!("submit {} -- --workers 2", adder().display()));
    let before = hosts.until("adder", "it adds on two nodes", |v| spread(v, 2) && executed(v, "sum") > 0);
    for node in ["a", "b"] {
        let supervisor = hosts.supervisors.get_mut(node).expect("it was started");
        supervisor.kill().expect("it runs");
        supervisor.wait().expect("it ends");
        hosts.start_node(node);
    }
    let after = hosts.until("adder", "its workers are back", all_run);
    assert_eq!((pids(&after), lives(&after)), (pids(&before), lives(&before)), "the same processes");
    hosts.adds(1000);
    for victim in [0, 1] {
        let now = hosts.until("adder", "it runs", all_run);
        kill_one(&now, victim);
        hosts.until("adder", "it is replaced", |v| all_run(v) && pids(v)[victim] != pids(&now)[victim]);
        hosts.adds(1000);
    }
    hosts.drained();
}

#[test]
fn commands_reach_the_workers_of_all_nodes() {
    let hosts = Hosts::start(&["a", "b", "c"]);
    hosts.done(&format!("submit {} -- --workers 3 --trouble log", adder().display()));
    let before = hosts.until("adder", "it adds on three nodes", |v| spread(v, 3) && executed(v, "sum") > 0);
    // Each over the link of its supervisor; who adds up has something to tell.
    let logs: String = (0..3).map(|worker| hosts.done(&format!("logs adder --worker {worker}"))).collect();
    assert!(logs.contains("a number worth telling"), "{logs}");

    hosts.done("restart adder -w 10");
    let renewed = |v: &Value| spread(v, 3) && pids(v).iter().all(|pid| !pids(&before).contains(pid));
    let after = hosts.until("adder", "it is restarted", renewed);
    assert_eq!(nodes(&after), nodes(&before), "where it was");
    hosts.adds(1000);

    // Another plan, with fewer workers: those of the old one are not linked to them.
    hosts.done("rebalance adder -w 10 -n 2");
    let two = hosts.until("adder", "it has two workers", |v| spread(v, 2) && pids(v).len() == 2);
    hosts.adds(1000);

    let left = nodes(&two)[0].clone();
    hosts.done(&format!("node drain {left}"));
    let moved = hosts.until("adder", "it is elsewhere", |v| all_run(v) && !nodes(v).contains(&left));
    assert_eq!(
        (nodes(&moved)[1].clone(), pids(&moved)[1]),
        (nodes(&two)[1].clone(), pids(&two)[1]),
        "its peer lives on"
    );
    hosts.adds(1000);
    hosts.drained();
}

#[test]
fn logs_that_a_node_does_not_give_are_missed_aloud_and_the_others_are_shown() {
    let hosts = Hosts::start(&["a", "b"]);
    hosts.done(&format!("submit {} -- --workers 2 --trouble log", adder().display()));
    hosts.done(&format!("submit {} --name more -- --workers 2", adder().display()));
    let before = hosts.until("adder", "it adds on two nodes", |v| spread(v, 2) && executed(v, "sum") > 0);
    let shown = |logs: &str, worker: usize| logs.lines().any(|line| line.starts_with(&format!("worker {worker} | ")));
    let since = Instant::now();
    while !(0..2).all(|worker| shown(&hosts.done("logs adder"), worker)) {
        assert!(since.elapsed() < PATIENCE, "they never log");
    }
    // It hangs; its workers have no room elsewhere. Nimbus asks it in vain, or has taken it for lost already.
    hosts.signal("b", Signal::STOP);
    let some = hosts.squall("logs adder");
    hosts.signal("b", Signal::CONT);
    assert_eq!(some.code, Some(1), "{}{}", some.stdout, some.stderr);
    assert!(some.stderr.contains("the logs of adder are not whole: "), "{}", some.stderr);
    let here = usize::from(nodes(&before)[0] != "a");
    assert!(shown(&some.stdout, here), "{}", some.stdout);
}

#[test]
fn two_supervisors_of_one_name_are_told_apart_and_the_second_gives_up() {
    let hosts = Hosts::start(&["a"]);
    hosts.done(&format!("submit {} -- --workers 2", adder().display()));
    let before = hosts.until("adder", "it adds", |v| all_run(v) && executed(v, "sum") > 0);
    let second = std::thread::scope(|scope| {
        let second = scope.spawn(|| hosts.squall(&hosts.line("a", "other")));
        // All the while nimbus knows the workers of the first one only, and reads their logs.
        while !second.is_finished() {
            let now = hosts.until("adder", "it is there", |_| true);
            assert_eq!((all_run(&now), pids(&now)), (true, pids(&before)), "{now:#}");
            hosts.done("logs adder");
        }
        second.join().expect("it ends")
    });
    let events = hosts.done("events");
    assert!(!events.contains("has ended"), "{events}");
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    let why = "another supervisor is registered as a and stays so: give each its own `supervisor.id`";
    assert!(second.stderr.contains(why), "{}", second.stderr);
    assert_eq!(hosts.live(), 1, "the first one is there still");
}

#[test]
fn addresses_that_cannot_be_had_or_told_are_refused() {
    let hosts = Hosts::start(&[]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken.local_addr().expect("it is bound");
    let line = hosts.line("a", "a");
    let refused = |options: &str, why: &str| {
        let ended = hosts.squall(&format!("{} {options}", line.replace("--bind 127.0.0.2:0", "")));
        assert_eq!(ended.code, Some(1), "{options}: {}", ended.stderr);
        assert!(ended.stderr.contains(why), "{options}: {}", ended.stderr);
    };
    refused(&format!("--bind {taken}"), "choose another address with --bind");
    refused("--bind 0.0.0.0:0", "name this host's with --advertise");
    refused("--advertise here", "is no ADDRESS:PORT");
    let other = tempfile::tempdir().expect("a folder");
    let nimbus = NIMBUS.replace("--sessions 127.0.0.1:0", &format!("--sessions {taken}"));
    let ended = squall(other.path(), &nimbus);
    assert!(ended.code == Some(1) && ended.stderr.contains("another port with --sessions"), "{}", ended.stderr);
    refused("--set supervisor.bind=here", "is no ADDRESS:PORT");
    fs::write(hosts.folder.path().join("empty"), "\n").expect("it is written");
    let ended = hosts.squall(&line.replace("state/token", "empty"));
    assert!(ended.code == Some(1) && ended.stderr.contains("holds no token"), "{}", ended.stderr);
    let ended = hosts.squall(&line.replace("state/token", "nowhere"));
    assert!(ended.code == Some(1) && ended.stderr.contains("copy it from nimbus's state folder"), "{}", ended.stderr);
}

#[test]
fn a_token_is_asked_for_unless_insecure_is_spelled_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut nimbus = daemon(folder.path(), NIMBUS, "supervisors at");
    let text = fs::read_to_string(folder.path().join("state/nimbus.json")).expect("nimbus wrote it");
    let address = |text: &str| {
        let value: Value = serde_json::from_str(text).expect("it is JSON");
        value["address"].as_str().expect("an address").to_owned()
    };
    let refused = get(&address(&text), "/api/v2/cluster", "");
    assert!(refused["error"].as_str().is_some_and(|why| why.contains("a token is needed")), "{refused:#}");
    let sessions: Value = serde_json::from_str(&text).expect("it is JSON");
    let sessions = sessions["sessions"].as_str().expect("an address");
    let token = fs::read_to_string(folder.path().join("state/token")).expect("it is text");
    for wrong in ["", &"0".repeat(token.len())] {
        let answer = link(sessions, wrong);
        assert!(answer.contains("Refused") && answer.contains("--token-file"), "{answer}");
    }
    assert!(link(sessions, &token).contains("Opened"));
    let _ = nimbus.kill();
    let _ = nimbus.wait();
    let mut nimbus = daemon(folder.path(), &format!("{NIMBUS} --insecure"), "supervisors at");
    let text = fs::read_to_string(folder.path().join("state/nimbus.json")).expect("nimbus wrote it");
    let sessions: Value = serde_json::from_str(&text).expect("it is JSON");
    let line = format!(
        "supervisor --conf-dir none --id a --state a --nimbus {} --insecure",
        sessions["sessions"].as_str().expect("an address")
    );
    let mut supervisor = daemon(folder.path(), &line, "state in");
    let since = Instant::now();
    while get(&address(&text), "/api/v2/cluster", "")["nodes"].as_array().map(Vec::len) != Some(1) {
        assert!(since.elapsed() < PATIENCE, "it never registers");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Nor for the link by which it tells of its workers: by that it is asked for logs.
    let linked = || get(&address(&text), "/api/v2/logs/x-1/a/0", "")["error"].to_string().contains("has no log of x-1");
    while !linked() {
        assert!(since.elapsed() < PATIENCE, "it is never linked");
        std::thread::sleep(Duration::from_millis(20));
    }
    for daemon in [&mut supervisor, &mut nimbus] {
        let _ = daemon.kill();
        let _ = daemon.wait();
    }
}
