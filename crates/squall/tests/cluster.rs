//! A cluster on one machine, as its users have it: `squall dev` and the commands that speak to it, with real worker processes.
#![cfg(feature = "cluster")]

#[path = "support/cluster.rs"]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use support::*;

#[test]
fn a_submitted_word_count_counts_right_and_is_drained_when_it_is_killed() {
    let cluster = Cluster::start();
    let folder = cluster.folder.path();
    fs::write(folder.join("words.yaml"), WORD_COUNT).expect("it is written");
    let lines: String = (0..1000).map(|n| format!("all word{} all\n", n % 7)).collect();
    fs::write(folder.join("input.txt"), lines).expect("it is written");
    let id = cluster.done("submit words.yaml").trim().to_owned();
    let list: Value = serde_json::from_str(&cluster.done("list -o json")).expect("it is JSON");
    let row = &list["topologies"][0];
    assert_eq!((&row["name"], &row["id"], &row["workers"]), (&"words".into(), &id.as_str().into(), &2.into()));
    cluster.until("words", "all words are counted", |value| executed(value, "count") == 3000);
    let said = cluster.done("kill words -w 30");
    assert!(said.contains("it was drained, 0 roots were left"), "{said}");
    let files = fs::read_dir(folder.join("out")).expect("it was written").map(|file| file.expect("it is there").path());
    let counts: String = files.map(|file| fs::read_to_string(file).expect("it is text")).collect();
    let count = |word: &str| {
        let rows = counts.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let of: Vec<u64> =
            rows.filter(|row| row["word"] == word).map(|row| row["count"].as_u64().expect("a number")).collect();
        assert_eq!(of.len(), 1, "{word}: {counts}");
        of[0]
    };
    assert_eq!((count("all"), count("word0"), count("word6")), (2000, 143, 142));
    assert_eq!(counts.lines().count(), 8, "{counts}");
    assert_eq!(cluster.done("list"), "no topology runs\n");
}

#[test]
fn a_killed_worker_is_replaced_by_its_next_life_and_its_peers_go_on_with_it() {
    let cluster = Cluster::start();
    cluster.done(&format!("submit {} -- --workers 2", adder().display()));
    let before = cluster.until("adder", "it adds", |value| executed(value, "sum") > 0 && all_run(value));
    let old = pids(&before);
    for round in 1..=3 {
        let at = cluster.describe("adder");
        let victim = pids(&at)[0];
        kill_process(Pid::from_raw(victim).expect("a pid"), Signal::KILL).expect("it runs");
        let replaced = |value: &Value| all_run(value) && pids(value)[0] != victim;
        let after = cluster.until("adder", "another process is worker 0", replaced);
        let life = |value: &Value, worker: usize| value["worker_list"][worker]["restart"].as_u64().expect("a number");
        assert_eq!((life(&after, 0), life(&after, 1)), (round, 0), "round {round}");
        assert_eq!(pids(&after)[1], old[1], "its peer lives on");
        let counted = executed(&after, "sum");
        cluster.until("adder", "it adds again, with what it had added before", |v| executed(v, "sum") > counted + 1000);
    }
}

#[test]
fn workers_live_on_without_their_supervisor_and_the_next_one_takes_them_over() {
    let mut cluster = Cluster::start();
    cluster.done(&format!("submit {} -- --workers 2", adder().display()));
    let before = cluster.until("adder", "it adds", |value| executed(value, "sum") > 0 && all_run(value));
    cluster.crash_and_start();
    let after = cluster.until("adder", "its workers are back", |value| {
        all_run(value) && executed(value, "sum") > executed(&before, "sum")
    });
    assert_eq!(pids(&after), pids(&before), "the same processes");
    // They are led as before: a death is seen, the survivor is linked to the next life, and both end when it is killed.
    let victim = pids(&after)[1];
    kill_process(Pid::from_raw(victim).expect("a pid"), Signal::KILL).expect("it runs");
    let healed = cluster.until("adder", "worker 1 is replaced", |value| all_run(value) && pids(value)[1] != victim);
    assert_eq!(pids(&healed)[0], pids(&before)[0]);
    let counted = executed(&healed, "sum");
    cluster.until("adder", "it adds again", |value| executed(value, "sum") > counted + 1000);
    let said = cluster.done("kill adder -w 30");
    assert!(said.contains("it was drained"), "{said}");
    let since = Instant::now();
    while !noted_workers(&cluster.state()).is_empty() {
        assert!(since.elapsed() < PATIENCE, "its workers are still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_worker_that_died_while_nobody_led_it_is_started_by_the_next_supervisor() {
    let mut cluster = Cluster::start();
    cluster.done(&format!("submit {} -- --workers 1", adder().display()));
    let before = cluster.until("adder", "it adds", |value| executed(value, "sum") > 0 && all_run(value));
    cluster.dev.kill().expect("it runs");
    cluster.dev.wait().expect("it ends");
    kill_process(Pid::from_raw(pids(&before)[0]).expect("a pid"), Signal::KILL).expect("it runs");
    cluster.dev = dev(cluster.folder.path(), "");
    let after = cluster.until("adder", "it runs again", |value| all_run(value) && executed(value, "sum") > 0);
    assert_ne!(pids(&after), pids(&before));
    assert_eq!(after["worker_list"][0]["restart"], 1, "a life of its own");
}

#[test]
fn a_worker_whose_peer_died_while_nobody_led_them_waits_for_its_next_life() {
    let mut cluster = Cluster::start();
    cluster.done(&format!("submit {} -- --workers 2", adder().display()));
    let before = cluster.until("adder", "it adds", |value| executed(value, "sum") > 0 && all_run(value));
    cluster.dev.kill().expect("it runs");
    cluster.dev.wait().expect("it ends");
    kill_process(Pid::from_raw(pids(&before)[0]).expect("a pid"), Signal::KILL).expect("it runs");
    // Longer than the word of a parent is waited for in a run, which would end the peer.
    std::thread::sleep(Duration::from_millis(2500));
    cluster.dev = dev(cluster.folder.path(), "");
    let after = cluster.until("adder", "both run", |value| all_run(value) && pids(value)[0] != pids(&before)[0]);
    assert_eq!(pids(&after)[1], pids(&before)[1], "its peer has waited");
    let counted = executed(&after, "sum");
    cluster.until("adder", "it adds again", |value| executed(value, "sum") > counted + 1000);
}

#[test]
fn a_worker_that_hangs_and_does_not_come_back_to_the_next_supervisor_is_replaced() {
    let mut cluster = Cluster::start();
    cluster.done(&format!("submit {} -- --workers 2", adder().display()));
    let before = cluster.until("adder", "it adds", |value| executed(value, "sum") > 0 && all_run(value));
    cluster.dev.kill().expect("it runs");
    cluster.dev.wait().expect("it ends");
    kill_process(Pid::from_raw(pids(&before)[0]).expect("a pid"), Signal::STOP).expect("it runs");
    cluster.dev = dev(cluster.folder.path(), "");
    let replaced = |value: &Value| all_run(value) && pids(value)[0] != pids(&before)[0];
    let after = cluster.until("adder", "another process is worker 0", replaced);
    assert_eq!(pids(&after)[1], pids(&before)[1], "its peer lives on");
    let counted = executed(&after, "sum");
    cluster.until("adder", "it adds again", |value| executed(value, "sum") > counted + 1000);
}

#[test]
fn spouts_rest_while_a_topology_is_inactive() {
    let cluster = Cluster::start();
    cluster.done(&format!("submit {} --inactive --name quiet -- --workers 2", adder().display()));
    let quiet = cluster.until("quiet", "its workers are there", |value| value["workers_running"] == 2);
    assert_eq!((&quiet["status"], executed(&quiet, "sum")), (&"INACTIVE".into(), 0));
    cluster.done("activate quiet");
    cluster.until("quiet", "it adds", |value| executed(value, "sum") > 0);
    cluster.done("deactivate quiet");
    // What was under way arrives; then two looks in a row, each newer than an account of the counts, see the same.
    let emitted = |value: &Value| value["components"][0]["emitted"].as_u64().expect("a number");
    let since = Instant::now();
    loop {
        let before = emitted(&cluster.describe("quiet"));
        std::thread::sleep(Duration::from_millis(1200));
        let after = cluster.describe("quiet");
        if emitted(&after) == before && executed(&after, "sum") == before {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "its spouts go on: {after:#}");
    }
    let rested = executed(&cluster.describe("quiet"), "sum");
    cluster.done("activate quiet");
    cluster.until("quiet", "it adds again", |value| executed(value, "sum") > rested);
}

#[test]
fn a_submission_that_is_wrong_is_refused_with_the_reason_and_changes_nothing() {
    let cluster = Cluster::start_with("--slots 1");
    let folder = cluster.folder.path();
    fs::write(folder.join("text"), "not a program").expect("it is written");
    fs::write(folder.join("script"), "#!/bin/sh\nexit 0\n").expect("it is written");
    fs::set_permissions(folder.join("script"), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let bad = WORD_COUNT.replace("className: split", "className: spilt");
    fs::write(folder.join("unknown.yaml"), bad).expect("it is written");
    fs::write(folder.join("words.yaml"), WORD_COUNT).expect("it is written");
    fs::write(folder.join("input.txt"), "a b\n").expect("it is written");
    let adder = adder().display();
    let refused = |line: &str, code: i32, why: &str| {
        let ended = cluster.squall(line);
        assert_eq!(ended.code, Some(code), "squall {line}: {}", ended.stderr);
        assert!(ended.stderr.contains(why), "squall {line}: {}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "squall {line}: {}", ended.stderr);
    };
    refused("submit nowhere", 1, "nowhere: No such file");
    refused("submit text", 1, "neither executable nor a .yaml");
    refused("submit script", 1, "no ELF file");
    refused("submit unknown.yaml", 1, "did you mean");
    refused("submit /proc/self/exe", 1, "does not describe a topology");
    refused(&format!("submit {adder} --name a/b"), 1, "is no name of a topology");
    refused(&format!("submit {adder} -- --bogus"), 1, "unexpected argument");
    refused(&format!("submit {adder} -- --sample nothing"), 1, "has no component `nothing`");
    refused("kill nothing", 1, "there is no topology nothing: none runs");
    refused("describe nothing", 1, "there is no topology nothing");
    refused("activate nothing", 1, "there is no topology nothing");
    assert_eq!(cluster.done("list"), "no topology runs\n");
    cluster.done(&format!("submit {adder} --name one"));
    refused(&format!("submit {adder} --name one"), 1, "a topology one is there already (ACTIVE)");
    refused(&format!("submit {adder} --name two"), 1, "two cannot be placed: no free slot");
    refused("submit", 2, "required arguments");
    let list: Value = serde_json::from_str(&cluster.done("list -o json")).expect("it is JSON");
    assert_eq!(list["topologies"].as_array().map(Vec::len), Some(1), "{list:#}");
}

#[test]
fn a_submission_that_is_killed_in_its_upload_leaves_nothing_and_can_be_repeated() {
    let cluster = Cluster::start();
    let (through, hangs) = hanging(&address(&cluster));
    let mut submit = Command::new(env!("CARGO_BIN_EXE_squall"));
    submit.args(["submit", "--nimbus", &through]).arg(adder()).env("SQUALL_STATE", cluster.state());
    let mut submit = submit.stdin(Stdio::null()).spawn().expect("it starts");
    hangs.recv_timeout(PATIENCE).expect("it uploads");
    submit.kill().expect("it is in its upload");
    submit.wait().expect("it ends");
    assert_eq!(cluster.done("list"), "no topology runs\n");
    cluster.done(&format!("submit {}", adder().display()));
    cluster.until("adder", "it adds", |value| executed(value, "sum") > 0);
}

/// A way to nimbus that says so and hangs once two chunks of an upload went through it.
fn hanging(nimbus: &str) -> (String, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let (nimbus, (tell, hangs)) = (nimbus.to_owned(), channel());
    let chunks = Arc::new(AtomicU32::new(0));
    let pass = move |mut near: TcpStream, mut far: TcpStream, tell: Sender<()>, chunks: Arc<AtomicU32>| {
        let (mut back, mut answers) = (near.try_clone().expect("it is open"), far.try_clone().expect("it is open"));
        std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = near.read(&mut buffer) {
            // A request is at the beginning of what is read: the answer to the one before was waited for.
            if buffer.starts_with(b"PUT /api/v2/uploads/") && chunks.fetch_add(1, Ordering::Relaxed) == 2 {
                let _ = tell.send(());
                // Open for as long as the other end is.
                while let Ok(1..) = near.read(&mut buffer) {}
                break;
            }
            far.write_all(&buffer[..read]).expect("it is open");
        }
        let _ = far.shutdown(Shutdown::Both);
    };
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.expect("it comes"), TcpStream::connect(&nimbus).expect("it listens"));
            let (tell, chunks) = (tell.clone(), chunks.clone());
            std::thread::spawn(move || pass(near, far, tell, chunks));
        }
    });
    (address, hangs)
}

#[test]
fn a_topology_whose_wait_is_over_goes_with_what_is_left_of_it() {
    let cluster = Cluster::start();
    // Half a second a number: nothing of what the inboxes hold is done in a second.
    cluster.done(&format!("submit {} -- --workers 1 --slow-us 500000", adder().display()));
    cluster.until("adder", "it adds", |value| executed(value, "sum") > 0);
    let ended = cluster.squall("kill adder -w 1 -o json");
    assert_eq!(ended.code, Some(4), "{}{}", ended.stdout, ended.stderr);
    let said: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    assert_eq!(said["drained"], false, "{said:#}");
    assert_eq!(cluster.done("list"), "no topology runs\n");
}

#[test]
fn a_program_that_cannot_start_is_told_with_its_cause() {
    let cluster = Cluster::start();
    let folder = cluster.folder.path();
    fs::write(folder.join("words.yaml"), WORD_COUNT).expect("it is written");
    fs::write(folder.join("input.txt"), "a b\n").expect("it is written");
    // It is there when it is submitted, and not when its workers start.
    cluster.done("submit words.yaml --inactive --no-wait");
    fs::remove_file(folder.join("input.txt")).expect("it is there");
    let first = cluster.describe("words");
    // Whether the first life had read it or not: the next one does not find it.
    for worker in first["worker_list"].as_array().expect("a list") {
        if let Some(pid) = worker["pid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let troubled = |value: &Value| {
        let workers = value["worker_list"].as_array().expect("a list");
        workers.iter().any(|w| w["trouble"].as_str().is_some_and(|why| why.contains("input.txt")))
    };
    cluster.until("words", "the cause is told", troubled);
}

#[test]
fn without_a_nimbus_commands_say_how_to_start_one() {
    let folder = tempfile::tempdir().expect("a folder");
    for line in ["list", "kill x", "describe x", &format!("submit {}", adder().display())] {
        let ended = squall(folder.path(), line);
        assert_eq!(ended.code, Some(3), "squall {line}: {}", ended.stderr);
        assert!(ended.stderr.contains("squall dev"), "squall {line}: {}", ended.stderr);
    }
    let ended = squall(folder.path(), &format!("submit {} --dry-run -o json", adder().display()));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let body: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    assert_eq!(body["submission"]["shape"]["components"][0]["name"], "numbers");
    assert!(body["placement"].is_null());
    let shown = squall(folder.path(), &format!("submit {} --dry-run", adder().display())).stdout;
    assert!(shown.contains("is not known: no nimbus runs"), "{shown}");
}

#[test]
fn two_daemons_cannot_share_a_state_folder_or_a_port() {
    let cluster = Cluster::start();
    let again = cluster.squall("dev --conf-dir none");
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("in use by another supervisor"), "{}", again.stderr);
    let other = tempfile::tempdir().expect("a folder");
    let taken = address(&cluster);
    let again = squall(other.path(), &format!("dev --conf-dir none --bind {taken}"));
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains(&taken) && again.stderr.contains("another port"), "{}", again.stderr);
    let nowhere = squall(other.path(), "dev --conf-dir none --bind 203.0.113.1:0");
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.stderr.contains("203.0.113.1:0 cannot be had"), "{}", nowhere.stderr);
}

#[test]
fn the_http_interface_is_for_who_has_the_token_and_names_are_checked() {
    let cluster = Cluster::start();
    let address = address(&cluster);
    let path = cluster.state().join("token");
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let token = fs::read_to_string(path).expect("it is text");
    let wrong = "0".repeat(token.len());
    for path in ["/api/v1/cluster/summary", "/api/v2/topologies", "/metrics", "/nothing"] {
        assert_eq!(http(&address, "GET", path, None).0, 401, "{path}");
        assert_eq!(http(&address, "GET", path, Some(&wrong)).0, 401, "{path}");
    }
    assert_eq!(http(&address, "POST", "/api/v2/topologies/x/kill", None).0, 401);
    assert_eq!(http(&address, "GET", "/healthz", None), (200, "{\"status\":\"leading\"}\n".into()));

    cluster.done(&format!("submit {} -- --workers 2", adder().display()));
    cluster.until("adder", "it adds", |value| executed(value, "sum") > 0);
    let get = |path: &str| {
        let (status, body) = http(&address, "GET", path, Some(&token));
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str::<Value>(&body).expect("it is JSON")
    };
    let summary = get("/api/v1/cluster/summary");
    assert_eq!(
        (&summary["supervisors"], &summary["slotsTotal"], &summary["slotsUsed"]),
        (&1.into(), &4.into(), &2.into())
    );
    let supervisors = get("/api/v1/supervisor/summary");
    let supervisor = &supervisors["supervisors"][0];
    assert_eq!((&supervisor["id"], &supervisor["slotsUsed"]), (&"dev".into(), &2.into()));
    let topologies = get("/api/v1/topology/summary");
    let row = &topologies["topologies"][0];
    assert_eq!((&row["name"], &row["status"], &row["workersTotal"]), (&"adder".into(), &"ACTIVE".into(), &2.into()));
    assert_eq!(get("/api/v1/nimbus/summary")["nimbuses"][0]["status"], "Leader");
    assert_eq!(get("/api/v2/cluster")["nodes"][0]["slots_used"], 2);
    let (status, metrics) = http(&address, "GET", "/metrics", Some(&token));
    assert_eq!(status, 200);
    let executed = metrics.lines().find(|line| line.starts_with("squall_executed_total") && line.contains("\"sum\""));
    assert!(executed.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    for (method, path, status) in [
        ("GET", "/api/v2/topologies/..%2Fx", 400),
        ("GET", "/api/v2/topologies/nothing", 404),
        ("GET", "/api/v2/nothing", 404),
        ("POST", "/api/v2/topologies/adder/kill?wait_ms=x", 400),
        ("POST", "/api/v2/blobs/abc?size=1", 400),
        ("PUT", "/api/v2/uploads/77?offset=0", 404),
        ("DELETE", "/api/v2/topologies/adder", 405),
    ] {
        let (got, body) = http(&address, method, path, Some(&token));
        assert_eq!(got, status, "{method} {path}: {body}");
        assert!(body.contains("\"error\""), "{method} {path}: {body}");
    }
}

#[test]
fn supervisor_and_nimbus_die_and_come_back_and_the_topology_goes_on_all_the_while() {
    let mut daemons = Daemons::start();
    let since = Instant::now();
    let submit = format!("submit {} -- --workers 2", adder().display());
    // The supervisor may not be registered yet.
    while daemons.squall(&submit).code != Some(0) {
        assert!(since.elapsed() < PATIENCE, "it is never accepted");
    }
    let runs = |value: &Value| all_run(value) && executed(value, "sum") > 0;
    let before = daemons.until("adder", "it adds", runs);
    assert_eq!(before["worker_list"][0]["node"], "one");

    daemons.supervisor.kill().expect("it runs");
    daemons.supervisor.wait().expect("it ends");
    daemons.supervisor = daemon(daemons.folder.path(), SUPERVISOR, "state in");
    let more = |than: &Value| {
        let than = executed(than, "sum");
        move |value: &Value| all_run(value) && executed(value, "sum") > than
    };
    let taken = daemons.until("adder", "it goes on under the next supervisor", more(&before));
    assert_eq!(pids(&taken), pids(&before), "the same processes");

    daemons.nimbus.kill().expect("it runs");
    daemons.nimbus.wait().expect("it ends");
    assert_eq!(daemons.squall("list").code, Some(3), "nobody answers");
    // A worker dies while there is no nimbus: the supervisor alone starts it again.
    let victim = pids(&taken)[0];
    kill_process(Pid::from_raw(victim).expect("a pid"), Signal::KILL).expect("it runs");
    let state = daemons.folder.path().join("state");
    let since = Instant::now();
    loop {
        let there: Vec<i32> = noted_workers(&state).iter().map(|pid| pid.as_raw_nonzero().get()).collect();
        if there.len() == 2 && !there.contains(&victim) {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "it is not started again: {there:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    daemons.nimbus = daemon(daemons.folder.path(), NIMBUS, "supervisors at");
    let found = daemons.until("adder", "the next nimbus knows it", more(&taken));
    assert_eq!(pids(&found)[1], pids(&before)[1], "its peer has lived all the while");
    assert_eq!(found["worker_list"][0]["generation"], before["worker_list"][0]["generation"], "nothing was moved");
    let killed = daemons.squall("kill adder -w 30");
    assert_eq!(killed.code, Some(0), "{}{}", killed.stdout, killed.stderr);
}

#[test]
fn without_a_supervisor_or_with_a_wrong_token_nothing_is_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut nimbus = daemon(folder.path(), NIMBUS, "supervisors at");
    let ended = squall(folder.path(), &format!("submit {}", adder().display()));
    let list = squall(folder.path(), "list").stdout;
    fs::write(folder.path().join("wrong"), "0".repeat(32)).expect("it is written");
    let stranger = squall(folder.path(), "list --token-file wrong");
    let _ = nimbus.kill();
    let _ = nimbus.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("no supervisor is there"), "{}", ended.stderr);
    assert_eq!(list, "no topology runs\n");
    assert_eq!(stranger.code, Some(1), "{}", stranger.stderr);
    assert!(stranger.stderr.contains("token"), "{}", stranger.stderr);
}
