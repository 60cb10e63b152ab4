//! A cluster that agrees by ZooKeeper, with real servers: several nimbuses, of which one leads. `make test-zookeeper`.
#![cfg(feature = "zookeeper")]

#[path = "../../coordinator/tests/support/server.rs"]
mod server;
#[path = "support/cluster.rs"]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use server::Server;
use support::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A host: a state folder with the token of the cluster, and the daemons on it.
struct Host {
    folder: TempDir,
    daemon: Option<Child>,
    line: String,
    ready: &'static str,
}

impl Host {
    fn start(line: String, ready: &'static str) -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("state")).expect("it is made");
        fs::write(folder.path().join("state/token"), TOKEN).expect("it is written");
        let mut host = Host { folder, daemon: None, line, ready };
        host.begin();
        host
    }

    fn nimbus(keys: &str, id: &str) -> Host {
        let line =
            format!("nimbus --conf-dir none --bind 127.0.0.1:0 --sessions 127.0.0.1:0 --set nimbus.id={id} {keys}");
        Host::start(line, "supervisors at")
    }

    fn supervisor(keys: &str, id: &str) -> Host {
        Host::start(format!("supervisor --conf-dir none --id {id} {keys}"), "state in")
    }

    fn begin(&mut self) {
        self.daemon = Some(daemon(self.folder.path(), &self.line, self.ready));
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Where a nimbus said that it serves HTTP.
    fn address(&self) -> String {
        self.said("address")
    }

    /// Where it said that it takes links.
    fn sessions(&self) -> String {
        self.said("sessions")
    }

    fn said(&self, key: &str) -> String {
        let text = fs::read_to_string(self.state().join("nimbus.json")).expect("it was written");
        let value: Value = serde_json::from_str(&text).expect("it is JSON");
        value[key].as_str().expect("an address").to_owned()
    }

    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        for worker in noted_workers(&self.state()) {
            let _ = kill_process(worker, Signal::KILL);
        }
    }
}

/// Commands as a client of several nimbuses has them.
struct Client {
    folder: TempDir,
    nimbuses: String,
}

impl Client {
    fn of(nimbuses: &[&Host]) -> Client {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("state")).expect("it is made");
        fs::write(folder.path().join("state/token"), TOKEN).expect("it is written");
        let addresses: Vec<String> = nimbuses.iter().map(|host| host.address()).collect();
        Client { folder, nimbuses: addresses.join(",") }
    }

    /// `line` with the addresses in place of `@`.
    fn squall(&self, line: &str) -> Ended {
        squall(self.folder.path(), &line.replace('@', &format!("--nimbus {}", self.nimbuses)))
    }

    fn done(&self, line: &str) -> String {
        let ended = self.squall(line);
        assert_eq!(ended.code, Some(0), "squall {line}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    fn until(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let ended = self.squall(&format!("describe {name} -o json @"));
            let value: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
            if ended.code == Some(0) && is(&value) {
                return value;
            }
            assert!(since.elapsed() < PATIENCE, "it never came to this: {what}; it is {value:#} {}", ended.stderr);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn keys(server: &Server, more: &str) -> String {
    format!(
        "--set coordinator.kind=zookeeper --set zookeeper.servers=127.0.0.1:{} --set zookeeper.chroot=/tests/cluster {more}",
        server.port
    )
}

fn runs(value: &Value) -> bool {
    all_run(value) && executed(value, "sum") > 0
}

fn more_than(before: &Value) -> impl Fn(&Value) -> bool {
    let before = executed(before, "sum");
    move |value: &Value| all_run(value) && executed(value, "sum") > before
}

fn submit(client: &Client, options: &str) {
    let since = Instant::now();
    // The supervisor may not be registered yet.
    loop {
        let ended = client.squall(&format!("submit {} @ {options}", adder().display()));
        if ended.code == Some(0) {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "it is never accepted: {}", ended.stderr);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Status and headers of an answer.
fn head(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers with text");
    answer
}

#[test]
fn a_standby_leads_when_the_leader_is_killed_and_the_topology_runs_on() {
    let server = Server::start();
    let keys = keys(&server, "");
    let mut first = Host::nimbus(&keys, "first");
    let second = Host::nimbus(&keys, "second");
    // Supervisor and client are told only of the one that stands by.
    let one = Host::supervisor(&format!("{keys} --nimbus {}", second.sessions()), "one");
    let elsewhere = format!("{{\"Elsewhere\":\"{}\"}}\n", first.sessions());
    assert_eq!(link(&second.sessions(), TOKEN), elsewhere);
    let wrong = link(&second.sessions(), &TOKEN.replace('0', "1"));
    assert!(wrong.contains("Refused"), "it does not even say who leads: {wrong}");
    let standby = Client::of(&[&second]);
    assert_eq!(
        http(&second.address(), "GET", "/healthz", None).1,
        format!("{{\"leader\":\"{}\",\"status\":\"following\"}}\n", first.address())
    );
    let answer = head(&second.address(), "/api/v2/events?after=3");
    let location = format!("location: http://{}/api/v2/events?after=3", first.address());
    assert!(answer.starts_with("HTTP/1.1 307") && answer.contains(&location), "{answer}");
    assert_eq!(http(&second.address(), "GET", "/api/v2/events", None).0, 401, "a standby asks for the token, too");
    submit(&standby, "-- --workers 2 --trouble log");
    let before = standby.until("adder", "it adds", runs);
    let both = Client::of(&[&first, &second]);
    let logs = both.done("logs adder @");
    assert!(logs.contains("a number worth telling"), "over the link of its supervisor: {logs}");

    first.kill();
    let after = both.until("adder", "the standby knows it", more_than(&before));
    assert_eq!(pids(&after), pids(&before), "the same processes");
    let generation = |value: &Value| value["worker_list"][0]["generation"].clone();
    assert_eq!(generation(&after), generation(&before), "nothing was moved");
    let listed = both.done("node list -o json @");
    assert!(listed.contains("\"slots_used\": 2"), "the link of its supervisor leads to the new leader: {listed}");

    // The artifact was copied to the standby before the submission was answered, so a node that never had it can have it.
    fs::remove_dir_all(first.state()).expect("it is there");
    let two = Host::supervisor(&keys, "two");
    let since = Instant::now();
    while !both.done("node list @").contains("two") {
        assert!(since.elapsed() < PATIENCE, "it is never there");
        std::thread::sleep(Duration::from_millis(50));
    }
    both.done("node drain one @");
    let moved = both.until("adder", "it runs on the other node", runs);
    assert_eq!(moved["worker_list"][0]["node"], "two");
    let killed = both.done("kill adder -w 10 @");
    assert!(killed.contains("is removed"), "{killed}");
    drop((one, two));
}

#[test]
fn a_restart_of_zookeeper_moves_nothing_and_everybody_comes_back() {
    let mut server = Server::start();
    // Longer than ZooKeeper is away, as nothing else keeps an ephemeral node.
    let keys = keys(&server, "--set coordinator.session-timeout=2s");
    let nimbus = Host::nimbus(&keys, "only");
    let mut one = Host::supervisor(&keys, "one");
    let client = Client::of(&[&nimbus]);
    submit(&client, "-- --workers 1");
    let before = client.until("adder", "it adds", runs);
    server.kill();
    // Longer than the session, so that every ephemeral node is gone when it is back.
    std::thread::sleep(Duration::from_secs(3));
    // A supervisor that starts meanwhile leads the workers that it finds.
    one.kill();
    one.begin();
    server.restart();
    let after = client.until("adder", "nimbus leads again and knows it", more_than(&before));
    assert_eq!(
        (pids(&after), &after["worker_list"][0]["generation"]),
        (pids(&before), &before["worker_list"][0]["generation"])
    );
    client.done("restart adder -w 1 @");
    client.done("kill adder -w 10 @");
}

#[test]
fn with_a_digest_only_who_has_it_belongs_to_the_cluster() {
    let server = Server::start();
    let (right, wrong) =
        (keys(&server, "--set zookeeper.digest=squall:secret"), keys(&server, "--set zookeeper.digest=squall:guess"));
    let nimbus = Host::nimbus(&right, "only");
    let one = Host::supervisor(&right, "one");
    let client = Client::of(&[&nimbus]);
    submit(&client, "");
    client.until("adder", "it adds", runs);
    refused(&format!("supervisor --conf-dir none --id two {wrong}"), "set the digest");
    refused(&format!("nimbus --conf-dir none --bind 127.0.0.1:0 --sessions 127.0.0.1:0 {wrong}"), "set the digest");
    client.done("kill adder -w 10 @");
    drop(one);
}

/// A daemon that ends at its start with this reason.
fn refused(line: &str, why: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("state")).expect("it is made");
    fs::write(Path::new(folder.path()).join("state/token"), TOKEN).expect("it is written");
    let ended = squall(folder.path(), line);
    assert_eq!(ended.code, Some(1), "squall {line}: {}", ended.stderr);
    assert!(ended.stderr.contains(why), "squall {line}: {}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "squall {line}: {}", ended.stderr);
}

#[test]
fn a_wrong_configuration_of_zookeeper_is_told_at_the_start() {
    let server = Server::start();
    let nimbus = "nimbus --conf-dir none --bind 127.0.0.1:0 --sessions 127.0.0.1:0 --set coordinator.kind=zookeeper";
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let supervisor = "supervisor --conf-dir none --id one --set coordinator.kind=zookeeper";
    std::thread::scope(|scope| {
        scope.spawn(|| refused(&format!("{nimbus} --set zookeeper.servers={free}"), "Is the address right"));
        scope.spawn(|| refused(&format!("{supervisor} --set zookeeper.servers={free}"), "Is the address right"));
    });
    let (there, keys) = (keys(&server, ""), keys(&server, "--set zookeeper.create-chroot=false"));
    refused(&format!("{nimbus} {keys}"), "is the chroot right?");
    refused(&format!("{supervisor} {keys}"), "is the chroot right?");
    refused(&format!("{nimbus} --set zookeeper.chroot=squall"), "zookeeper.chroot");
    refused(&format!("{nimbus} --set zookeeper.digest=secret"), "zookeeper.digest is no USER:PASSWORD");
    refused(&format!("{nimbus} --set zookeeper.servers=,"), "zookeeper.servers names none");
    let everywhere = format!("{} {there}", nimbus.replace("--bind 127.0.0.1:0", "--bind 0.0.0.0:0"));
    refused(&everywhere, "name this host's with --advertise HOST");
    refused(&format!("{everywhere} --advertise n1:80"), "is no host");
    refused("dev --conf-dir none --set coordinator.kind=zookeeper", "`squall dev` agrees with nobody but itself");
}
