//! The `squall` binary as its users have it: YAML topologies run, checked, drawn; components listed; first topologies made.
#![cfg(feature = "yaml")]

use std::path::Path;
use std::process::{Command, Stdio};

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
