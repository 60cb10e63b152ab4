//! A folder of wrong topologies: what a user reads for each is in a file beside it.
//!
//! `SQUALL_GOLDEN=write cargo test -p squall-yaml --test wrong` writes the texts anew; read them before committing them.

use std::path::{Path, PathBuf};

use squall_components::registry::Registry;
use squall_yaml::{Document, Variables};

const FOLDER: &str = "tests/wrong";

fn topologies() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(FOLDER).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    files
}

fn refusal(path: &Path) -> String {
    let mut vars = Variables::default();
    vars.define("GREETING", "hello");
    let document = Document::read(path, &vars).expect("readable");
    let topology = squall_api::Topology::new("");
    match document.declare(&Registry::standard(), &topology) {
        Err(refused) => refused.render(false),
        Ok(_) => panic!("{} is accepted", path.display()),
    }
}

#[test]
fn every_wrong_topology_is_refused_in_the_words_beside_it() {
    let files = topologies();
    assert!(files.len() >= 30, "only {} wrong topologies", files.len());
    let write = std::env::var_os("SQUALL_GOLDEN").is_some_and(|value| value == "write");
    let mut differing = Vec::new();
    for path in &files {
        let text = refusal(path);
        let golden = path.with_extension("txt");
        if write {
            std::fs::write(&golden, &text).expect("written");
        } else if std::fs::read_to_string(&golden).ok().as_deref() != Some(&text) {
            differing.push(format!("{} is refused with:\n{text}", path.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn each_fault_has_a_place_and_a_remedy_or_a_better_name() {
    for path in topologies() {
        let document = Document::read(&path, &Variables::default()).expect("readable");
        let topology = squall_api::Topology::new("");
        let refused = document.declare(&Registry::standard(), &topology).expect_err("wrong");
        for fault in refused.diagnostics.iter() {
            let remedy = fault.help.is_some() || fault.label.starts_with("did you mean");
            assert!(remedy, "{}: `{}` says no remedy", path.display(), fault.message);
            assert!(fault.span.range().end <= refused.sources.get(fault.span.file).text.len());
        }
    }
}
