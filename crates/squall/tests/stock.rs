//! The `squall` binary as its users have it: YAML topologies run, checked, drawn; components listed; first topologies made.
#![cfg(feature = "yaml")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use serde_json::Value;

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn ended(command: &mut Command) -> Ended {
    let out = command.stdin(Stdio::null()).env_remove("SQUALL_IO").output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    Ended { code: out.status.code(), stdout: text(out.stdout), stderr: text(out.stderr) }
}

fn squall(folder: &Path, line: &str) -> Ended {
    ended(Command::new(env!("CARGO_BIN_EXE_squall")).args(line.split_whitespace()).current_dir(folder))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

const READINGS: &str = "\
name: readings
config:
  workers: ${WORKERS:-1}
spouts:
  - id: readings
    className: generator
    config: { count: 1000, words: [kitchen, cellar] }
bolts:
  - id: count
    className: org.apache.storm.starter.bolt.WordCountBolt
    numTasks: 4
    config: { by: key, emit: end }
  - id: print
    className: print
streams:
  - { from: readings, to: count, grouping: { type: FIELDS, args: [key] } }
  - { from: count, to: print, grouping: { type: GLOBAL } }
";

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_yaml_topology_runs_over_workers_and_reports_like_a_rust_one() {
    let dir = folder();
    std::fs::write(dir.path().join("t.yaml"), READINGS).expect("written");
    let run = squall(dir.path(), "run t.yaml --define WORKERS=2 --report r.json --plain");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(sorted(&run.stdout), ["{\"key\":\"cellar\",\"count\":500}", "{\"key\":\"kitchen\",\"count\":500}"]);
    assert!(run.stderr.contains("readings: 6 tasks") && run.stderr.contains("in 2 workers"), "{}", run.stderr);
    let report = std::fs::read_to_string(dir.path().join("r.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["components"]["count"]["executed"], 1000, "{report}");
}

#[test]
fn a_wrong_topology_is_refused_alike_by_validate_run_plan_and_graph() {
    let dir = folder();
    std::fs::write(dir.path().join("t.yaml"), READINGS.replace("numTasks", "numTask")).expect("written");
    let validate = squall(dir.path(), "validate t.yaml");
    assert_eq!((validate.code, validate.stdout.as_str()), (Some(1), ""));
    assert!(validate.stderr.contains("--> t.yaml:11:5") && validate.stderr.contains("did you mean `numTasks`?"));
    for line in ["run t.yaml", "plan t.yaml", "graph t.yaml"] {
        let refused = squall(dir.path(), line);
        assert_eq!((refused.code, &refused.stderr), (Some(1), &validate.stderr), "{line}");
    }
}

#[test]
fn usage_errors_and_missing_files_say_what_to_do() {
    let dir = folder();
    for line in
        ["", "rnu t.yaml", "run", "run t.yaml --wait never", "validate", "new Not-A-Crate", "validate t.yaml -D x"]
    {
        let refused = squall(dir.path(), line);
        assert_eq!(refused.code, Some(2), "`{line}`: {}", refused.stderr);
    }
    let missing = squall(dir.path(), "run nowhere.yaml");
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.starts_with("error: nowhere.yaml cannot be read: "), "{}", missing.stderr);
}

#[test]
fn validate_says_what_is_right_and_what_only_a_plan_finds() {
    let dir = folder();
    std::fs::write(dir.path().join("t.yaml"), READINGS).expect("written");
    let right = squall(dir.path(), "validate t.yaml");
    let expected = "t.yaml: topology readings is right: 1 spout, 2 bolts, 2 streams between them, 6 tasks\n";
    assert_eq!((right.code, right.stdout.as_str()), (Some(0), expected), "{}", right.stderr);
    let greedy = squall(dir.path(), "validate t.yaml -D WORKERS=900");
    assert_eq!(greedy.code, Some(1));
    assert!(greedy.stderr.starts_with("error: t.yaml: ") && greedy.stderr.contains("900"), "{}", greedy.stderr);
}

fn started(folder: &Path, line: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
    command.args(line.split_whitespace()).current_dir(folder).env_remove("SQUALL_IO").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it starts")
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).expect("it runs");
}

/// Ends a child that is not done in a minute, so that who reads from it sees an end instead of waiting for ever. Dropped, it does not.
fn bounded(child: &Child) -> Sender<()> {
    let (done, is_done) = channel();
    let child = Pid::from_child(child);
    thread::spawn(move || {
        if is_done.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
            kill_process(child, Signal::KILL).expect("nobody has waited for it");
        }
    });
    done
}

const TWO_FLOWS: &str = "\
name: two-flows
spouts:
  - { id: events, className: generator }
  - { id: numbers, className: generator, config: { count: 20000 } }
bolts:
  - { id: post, className: http-sink, config: { url: \"${URL}\", rows: 500, concurrency: 1, timeout: 1h } }
  - { id: file, className: json-file, config: { folder: out } }
streams:
  - { from: events, to: post }
  - { from: numbers, to: file }
";

/// The server answers the first post only when the other flow is at its end: so that one has not waited.
#[test]
fn a_slow_http_sink_slows_its_spout_and_nothing_else() {
    let dir = folder();
    fs::write(dir.path().join("t.yaml"), TWO_FLOWS).expect("written");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let (open, opened) = channel::<()>();
    let server = std::thread::spawn(move || {
        let mut rows = 0_usize;
        for (at, connection) in listener.incoming().enumerate() {
            let mut connection = BufReader::new(connection.expect("a connection"));
            let mut line = String::new();
            while connection.read_line(&mut line).is_ok_and(|n| n > 0) {
                if line == "stop\n" {
                    return rows;
                }
                // The end of a head; the body's length is in it.
                if line.ends_with("\r\n\r\n") {
                    let length = line.to_lowercase();
                    let length = length.split("content-length: ").nth(1).expect("a length");
                    let mut body = vec![0; length.lines().next().and_then(|n| n.parse().ok()).expect("a number")];
                    connection.read_exact(&mut body).expect("the body");
                    if at == 0 && rows == 0 {
                        opened.recv().expect("the other flow ends");
                    }
                    rows += body.iter().filter(|b| **b == b'\n').count();
                    connection.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("answered");
                    line.clear();
                }
            }
        }
        rows
    });
    let mut run = started(dir.path(), &format!("run t.yaml -q -D URL={url} --report r.json"));
    let done = dir.path().join("out/rows-0-0.jsonl");
    while !done.exists() {
        assert!(run.try_wait().expect("looked").is_none(), "it ended before the other flow did");
        std::thread::sleep(Duration::from_millis(10));
    }
    interrupt(&run);
    open.send(()).expect("the server waits");
    let end = run.wait().expect("it ends");
    std::net::TcpStream::connect(&url["http://".len()..url.len() - 1])
        .and_then(|mut stop| stop.write_all(b"stop\n"))
        .expect("the server listens");
    let posted = server.join().expect("the server ends");
    assert_eq!(end.code(), Some(130));
    assert_eq!(fs::read_to_string(&done).expect("it is there").lines().count(), 20_000);
    let report: Value =
        serde_json::from_str(&fs::read_to_string(dir.path().join("r.json")).expect("a report")).expect("JSON");
    let emitted = report["components"]["events"]["emitted"].as_u64().expect("a count");
    // What the buffers between the two hold and no more, of a source without an end.
    assert!((1..100_000).contains(&emitted), "{emitted}");
    assert_eq!(posted as u64, emitted, "the drain has posted all of it");
    let waits = report["back_pressure"].as_array().expect("a list");
    assert!(waits.iter().all(|wait| wait["waiting"] == "events"), "{waits:?}");
}

/// `ulimit -f` stands for the disk: beyond it a write fails, for every user.
#[test]
fn a_full_disk_ends_the_run_with_the_place_to_go_on_from() {
    let dir = folder();
    let topology = |sink: &str| {
        let (spout, streams) = ("generator, config: { count: 100000 }", "[{ from: n, to: s }]");
        format!(
            "name: full\nspouts: [{{ id: n, className: {spout} }}]\nbolts: [{{ id: s, {sink} }}]\nstreams: {streams}\n"
        )
    };
    let full = |sink: &str| {
        fs::write(dir.path().join("t.yaml"), topology(sink)).expect("written");
        let run = format!("ulimit -f 64; exec '{}' run t.yaml -q", env!("CARGO_BIN_EXE_squall"));
        let ended = ended(Command::new("sh").args(["-c", &run]).current_dir(dir.path()));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        ended.stderr
    };
    let number = |text: &str, before: &str| -> usize {
        // The executor is restarted, and what it had room for then is whole too: the last word counts.
        let rest = text.rsplit_once(before).unwrap_or_else(|| panic!("no `{before}` in {text}")).1;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
    };
    let said = full("className: json-file, config: { folder: out }");
    let whole = number(&said, "rows-0-0.jsonl.part: File too large (os error 27); its first ");
    let part = fs::read(dir.path().join("out/rows-0-0.jsonl.part")).expect("what was written stays");
    let rows = part[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let numbers: Vec<u64> =
        rows.map(|line| serde_json::from_slice::<Value>(line).expect("a row")["n"].as_u64().expect("n")).collect();
    assert!(numbers.len() > 100 && numbers.iter().copied().eq(0..numbers.len() as u64), "{}", numbers.len());

    let said = full("className: log-append, config: { folder: log, segment_size: 1 MiB }");
    let offset = number(&said, "the log is whole up to offset ");
    assert!(offset > 100, "{said}");
    // It is read to there, and goes on there once there is room.
    let read = "name: read\nspouts: [{ id: r, className: log-read, config: { folder: log, fields: [n, key, value] } }]\n\
                bolts: [{ id: p, className: print, config: { format: text } }]\nstreams: [{ from: r, to: p }]\n";
    fs::write(dir.path().join("r.yaml"), read).expect("written");
    let rows = |text: &str| text.lines().filter(|line| line.contains("\tkey-")).count();
    let before = squall(dir.path(), "run r.yaml -q");
    assert_eq!((before.code, rows(&before.stdout)), (Some(0), offset), "{}", before.stderr);
    assert_eq!(squall(dir.path(), "run t.yaml -q").code, Some(0));
    let after = squall(dir.path(), "run r.yaml -q");
    assert_eq!(rows(&after.stdout), offset + 100_000, "{}", after.stderr);
}

/// Whatever a write takes from a buffer that earlier rows have filled: none of them counts as done when it fails (D4). `ulimit -f`
/// stands for the disk.
#[test]
fn what_a_sink_could_not_write_is_not_acknowledged_and_comes_again_in_the_next_run() {
    let count = 5_000;
    // Of rows so long a batch fills the sink's buffer more than once; with limits of several sizes writes fail in the middle of one.
    let long = "x".repeat(200);
    for (sink, read, blocks) in [
        ("json-file, config: { folder: out }", "out", 58),
        ("json-file, config: { folder: out }", "out", 62),
        ("text-file, config: { folder: out, template: '{text}' }", "out", 74),
        ("log-append, config: { folder: out, segment_size: 1 MiB }", "", 62),
        ("print, config: { format: text }", "printed", 62),
    ] {
        let dir = folder();
        let lines: String = (0..count).map(|n| format!("row {n}.{long}\n")).collect();
        fs::write(dir.path().join("in.txt"), lines).expect("written");
        let topology = format!(
            "name: full\nspouts: [{{ id: l, className: lines, config: {{ paths: in.txt }} }}]\n\
             bolts: [{{ id: s, className: {sink} }}]\nstreams: [{{ from: l, to: s }}]\n"
        );
        fs::write(dir.path().join("t.yaml"), topology).expect("written");
        fs::create_dir(dir.path().join("printed")).expect("made");
        let run = |before: &str, to: &str| {
            let squall = env!("CARGO_BIN_EXE_squall");
            let run = format!("{before} exec '{squall}' run t.yaml -q --state st --restarts 0 > printed/{to}");
            ended(Command::new("sh").args(["-c", &run]).current_dir(dir.path()))
        };
        let full = run(&format!("ulimit -f {blocks};"), "first");
        assert_eq!(full.code, Some(1), "{sink}: {}", full.stderr);
        let rest = run("", "second");
        assert_eq!(rest.code, Some(0), "{sink}: {}", rest.stderr);
        let mut text = String::new();
        if read.is_empty() {
            let read = "name: read\nspouts: [{ id: r, className: log-read, config: { folder: out, fields: [text] } }]\n\
                        bolts: [{ id: p, className: print }]\nstreams: [{ from: r, to: p }]\n";
            fs::write(dir.path().join("r.yaml"), read).expect("written");
            text = squall(dir.path(), "run r.yaml -q").stdout;
        } else {
            for entry in fs::read_dir(dir.path().join(read)).expect("a folder") {
                text += &fs::read_to_string(entry.expect("an entry").path()).expect("text");
            }
        }
        let seen = |rest: &str| rest.split_once('.').and_then(|(number, _)| number.parse().ok());
        let seen: BTreeSet<u32> = text.split("row ").filter_map(seen).collect();
        let lost: Vec<u32> = (0..count).filter(|n| !seen.contains(n)).collect();
        assert!(lost.is_empty(), "{sink}: {} rows are lost, the first is {}", lost.len(), lost[0]);
    }
}

/// A line that a bolt can make nothing of: the spout gives it up, and the run fails; or it is where the topology says.
#[test]
fn lines_that_always_fail_go_where_the_topology_says_and_no_run_fails_for_them() {
    let dir = folder();
    fs::write(dir.path().join("in.jsonl"), "{\"a\":1}\nno json\n{\"a\":2}\n").expect("written");
    let topology = |more: &str, letters: &str| {
        let lines = format!("{{ id: l, className: lines, config: {{ paths: in.jsonl, give_up_after: 3{more} }} }}");
        let parse = "{ id: p, className: parse-json, config: { fields: [a] } }, { id: end, className: print }";
        let text = format!(
            "name: letters\nspouts: [{lines}]\nbolts:\n  [{parse}{}]\nstreams:\n  [{{ from: l, to: p }}, {{ from: p, to: end }}{}]\n",
            if letters.is_empty() { "" } else { ", { id: dead, className: json-file, config: { folder: out } }" },
            letters
        );
        fs::write(dir.path().join("t.yaml"), text).expect("written");
    };
    topology("", "");
    let failed = squall(dir.path(), "run t.yaml -q");
    assert_eq!((failed.code, sorted(&failed.stdout)), (Some(1), vec!["{\"a\":1}", "{\"a\":2}"]), "{}", failed.stderr);

    topology(", on_give_up: dead_letters", "");
    let unread = squall(dir.path(), "validate t.yaml");
    assert_eq!(unread.code, Some(1));
    assert!(
        unread.stderr.contains("nobody reads the stream `dead_letters` of `l`\n --> t.yaml:2:16"),
        "{}",
        unread.stderr
    );

    topology(
        ", on_give_up: dead_letters",
        ", { from: l, to: dead, grouping: { type: GLOBAL, streamId: dead_letters } }",
    );
    let run = squall(dir.path(), "run t.yaml -q --report r.json");
    assert_eq!((run.code, sorted(&run.stdout)), (Some(0), vec!["{\"a\":1}", "{\"a\":2}"]), "{}", run.stderr);
    let letters = fs::read_to_string(dir.path().join("out/rows-0-0.jsonl")).expect("letters");
    assert_eq!(letters, "{\"text\":\"no json\",\"error\":\"failed by p, the last of 3 failures\"}\n");
    let report: Value =
        serde_json::from_str(&fs::read_to_string(dir.path().join("r.json")).expect("a report")).expect("JSON");
    assert_eq!(report["counters"]["l"]["dead_letters"], 1, "{report}");
}

#[test]
fn a_tail_of_files_that_grow_are_rotated_and_truncated_loses_and_doubles_nothing() {
    let dir = folder();
    let tail = "name: tail\nspouts: [{ id: l, className: lines, parallelism: 2, config: { paths: logs, follow: true, look_every: 5ms } }]\n\
                bolts: [{ id: p, className: print, config: { format: text } }]\nstreams: [{ from: l, to: p }]\n";
    fs::write(dir.path().join("t.yaml"), tail).expect("written");
    let logs = dir.path().join("logs");
    fs::create_dir(&logs).expect("made");
    let mut run = started(dir.path(), "run t.yaml -q");
    let mut printed = BufReader::new(run.stdout.take().expect("it is piped"));
    let bound = bounded(&run);
    let (mut seen, mut written) = (BTreeMap::<String, u32>::new(), 0_u64);
    let mut read_to = |written: u64, seen: &mut BTreeMap<String, u32>| {
        while (seen.len() as u64) < written {
            let mut line = String::new();
            let read = printed.read_line(&mut line).expect("text");
            assert_ne!(read, 0, "it ended with {} of {written} lines", seen.len());
            *seen.entry(line.trim_end().to_owned()).or_default() += 1;
        }
    };
    for round in 0..30 {
        let file = logs.join(format!("log-{}", round % 3));
        let mut out = fs::File::options().append(true).create(true).open(&file).expect("opened");
        for _ in 0..20 {
            // Half a line, then the rest: it is read when it is whole.
            write!(out, "line ").and_then(|()| out.flush()).expect("written");
            writeln!(out, "{written}").expect("written");
            written += 1;
        }
        match round % 5 {
            // Rotated with the last lines perhaps unread: the file is read to its end under its new name.
            1 => fs::rename(&file, logs.join(format!("old-{round}"))).expect("renamed"),
            // What is truncated away unread is gone, so everything is read first.
            3 => {
                read_to(written, &mut seen);
                out.set_len(0).expect("truncated");
            }
            _ => {}
        }
    }
    read_to(written, &mut seen);
    interrupt(&run);
    let mut rest = String::new();
    printed.read_to_string(&mut rest).expect("it ends");
    drop(bound);
    assert_eq!(run.wait().expect("it ends").code(), Some(130));
    assert!(!rest.lines().any(|line| line.starts_with("line ")), "more came: {rest}");
    let expected: BTreeMap<String, u32> = (0..written).map(|n| (format!("line {n}"), 1)).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_graph_is_drawn_for_browsers_and_for_drawing_programs() {
    let dir = folder();
    std::fs::write(dir.path().join("t.yaml"), READINGS).expect("written");
    assert!(squall(dir.path(), "graph t.yaml").stdout.starts_with("digraph \"readings\" {"));
    assert!(squall(dir.path(), "graph t.yaml -o mermaid").stdout.starts_with("flowchart LR\n"));
    let svg = squall(dir.path(), "graph t.yaml -o svg").stdout;
    for part in ["<svg ", "</svg>\n", ">readings<", ">4 tasks<", ">fields(key)<", "marker-end"] {
        assert!(svg.contains(part), "no `{part}` in {svg}");
    }
    let elsewhere = svg.replace("http://www.w3.org/2000/svg", "");
    assert!(!elsewhere.contains("http"), "a picture that stands by itself");
}

#[test]
fn components_are_listed_as_a_table_a_page_and_one_shape_of_json() {
    let dir = folder();
    let table = squall(dir.path(), "components").stdout;
    assert!(table.contains("generator") && table.contains("sink"), "{table}");
    let page = squall(dir.path(), "components count").stdout;
    assert!(page.starts_with("count (bolt)\n") && page.contains("\nOptions\n  by: "), "{page}");
    for (line, most) in [("components -o json", usize::MAX), ("components count -o json", 1)] {
        let list: Value = serde_json::from_str(&squall(dir.path(), line).stdout).expect("JSON");
        let list = list.as_array().expect("an array at the top");
        assert!(!list.is_empty() && list.len() <= most);
        for entry in list {
            assert!(entry["name"].is_string() && entry["options"].is_array(), "{entry}");
            assert!(["spout", "bolt", "sink"].contains(&entry["kind"].as_str().expect("a kind")), "{entry}");
        }
    }
    let unknown = squall(dir.path(), "components cuont");
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("did you mean `count`?"), "{}", unknown.stderr);
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_component_of_another_build_is_not_listed_and_its_feature_is_named() {
    let dir = folder();
    assert!(!squall(dir.path(), "components").stdout.contains("parquet"));
    let says = "it is not built in: build Squall with `--features parquet`";
    let asked = squall(dir.path(), "components parquet-file");
    assert_eq!(asked.code, Some(1));
    assert!(asked.stderr.contains(says), "{}", asked.stderr);
    std::fs::write(dir.path().join("t.yaml"), READINGS.replace("className: print", "className: parquet-file"))
        .expect("written");
    let refused = squall(dir.path(), "validate t.yaml");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("t.yaml:14:16") && refused.stderr.contains(says), "{}", refused.stderr);
}

#[test]
fn the_schema_knows_every_component_and_its_options() {
    let dir = folder();
    let schema: Value = serde_json::from_str(&squall(dir.path(), "schema").stdout).expect("JSON");
    let components: Value = serde_json::from_str(&squall(dir.path(), "components -o json").stdout).expect("JSON");
    for component in components.as_array().expect("an array") {
        let config = &schema["$defs"][format!("config-{}", component["name"].as_str().expect("a name"))];
        for option in component["options"].as_array().expect("options") {
            let name = option["name"].as_str().expect("a name");
            assert!(config["properties"][name]["description"].is_string(), "{name} of {component}");
        }
    }
}

#[test]
fn a_new_yaml_topology_is_right_and_runs_at_once() {
    let dir = folder();
    let made = squall(dir.path(), "new first --yaml");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let first = dir.path().join("first");
    assert_eq!(squall(&first, "validate topology.yaml").code, Some(0));
    let run = squall(&first, "run topology.yaml -q");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.contains("kitchen\t500\n") && run.stdout.contains("cellar\t500\n"), "{}", run.stdout);
    let again = squall(dir.path(), "new first --yaml");
    assert_eq!(again.code, Some(1), "nothing is overwritten");
}

/// A crate outside of the workspace, against the API as it is published. It is built with the versions and settings of this
/// workspace, in its target folder, so that only the crate itself and `squall` without YAML are built anew.
#[test]
fn a_new_crate_builds_passes_its_test_and_runs() {
    let dir = folder();
    let made = squall(dir.path(), "new page-views");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let made = dir.path().join("page-views");
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace");
    std::fs::copy(top.join("Cargo.lock"), made.join("Cargo.lock")).expect("copied");
    let target = std::env::current_exe().expect("a test").ancestors().nth(3).expect("the target folder").to_owned();
    let cargo = |line: &str| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(line.split_whitespace()).current_dir(&made).env("CARGO_TARGET_DIR", &target);
        ended(cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1"))
    };
    let test = cargo("test --offline --quiet");
    assert_eq!(test.code, Some(0), "{}{}", test.stdout, test.stderr);
    assert!(test.stdout.contains("1 passed"), "{}", test.stdout);
    let run = cargo("run --offline --quiet -- run --quiet --workers 2");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for line in ["   4 the\n", "   2 fox\n", "   1 sleeps\n"] {
        assert!(run.stdout.contains(line), "no {line:?} in {}", run.stdout);
    }
}
