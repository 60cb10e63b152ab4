//! Every example in YAML runs and gives what is written beside it; every file there is a whole topology.
//!
//! `SQUALL_GOLDEN=write cargo test -p squall --test examples` writes what is expected anew; read it before committing it.
#![cfg(feature = "yaml")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace")
}

fn squall(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
    command.args(args).current_dir(top()).env_clear().stdin(Stdio::null());
    command.output().expect("it starts")
}

/// All files of the folder and below it that end so.
fn files(folder: &Path, ends: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, ends, found);
        } else if path.extension().is_some_and(|e| ends.contains(&e.to_str().unwrap_or_default())) {
            found.push(path.strip_prefix(top()).expect("below the top").to_owned());
        }
    }
    found.sort();
}

fn topologies() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&top().join("examples"), &["yaml", "yml"], &mut found);
    found
}

/// The rows that a run printed, sorted: tasks end in any order.
fn rows(topology: &Path, more: &[&str]) -> String {
    let path = topology.to_str().expect("a plain name");
    let out = squall(&[&["run", path, "--quiet"], more].concat());
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{path}: {stderr}");
    let mut rows: Vec<&str> = stdout.lines().filter(|line| line.starts_with('{')).collect();
    rows.sort_unstable();
    rows.iter().map(|row| format!("{row}\n")).collect()
}

#[test]
fn every_yaml_file_is_a_topology_that_is_right_without_an_environment() {
    let found = topologies();
    assert!(found.len() >= 5, "{found:?}");
    for path in found {
        let out = squall(&["validate", path.to_str().expect("a plain name")]);
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        assert!(out.stderr.is_empty(), "no warnings: {}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn every_example_prints_what_is_written_beside_it() {
    let write = std::env::var_os("SQUALL_GOLDEN").is_some_and(|value| value == "write");
    for path in topologies() {
        let expected = top().join(path.with_file_name("expected.txt"));
        let printed = rows(&path, &[]);
        if write {
            std::fs::write(&expected, printed).expect("written");
        } else {
            let expected = std::fs::read_to_string(&expected).expect("what is expected is there");
            assert_eq!(printed, expected, "{}", path.display());
        }
    }
}

#[test]
fn word_count_is_the_same_over_several_workers() {
    let path = Path::new("examples/wordcount/topology.yaml");
    assert_eq!(rows(path, &["--workers", "3"]), rows(path, &[]));
}
