//! The program as a user runs it: real worker processes over the example's input.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn example(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs `wordcount run` with a report; the report is `None` if none was written.
fn wordcount(folder: &Path, args: &[&str]) -> (Output, Option<serde_json::Value>) {
    let report: PathBuf = folder.join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_wordcount"))
        .args(["run", "--report"])
        .arg(&report)
        .args(args)
        .env_remove("VERIFY")
        .output()
        .unwrap();
    let report = std::fs::read_to_string(report).ok().map(|text| serde_json::from_str(&text).unwrap());
    (output, report)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_example_gives_the_expected_words_and_is_verified() {
    let expected = std::fs::read_to_string(example("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
    for io in ["auto", "epoll"] {
        let folder = tempfile::tempdir().unwrap();
        let (output, report) = wordcount(folder.path(), &["--input", &example("input.txt"), "--top", "5", "--io", io]);
        assert!(output.status.success(), "{}", stderr(&output));
        let report = report.unwrap();
        for key in ["words", "lines", "bytes", "verified"] {
            assert_eq!(report[key], expected[key], "{key} over {io}");
        }
        assert!(stdout(&output).contains("8  a\n"), "{}", stdout(&output));
        assert!(stdout(&output).contains("times its speed"), "{}", stdout(&output));
    }
}

#[test]
fn a_list_a_folder_and_several_inputs_are_read_by_several_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let texts = folder.path().join("texts");
    std::fs::create_dir(&texts).unwrap();
    for file in 0..40 {
        std::fs::write(texts.join(format!("{file}.txt")), format!("file {file}\n")).unwrap();
    }
    std::fs::write(texts.join("no-text"), b"\0\0").unwrap();
    let list = folder.path().join("list");
    std::fs::write(&list, format!("{}\n{}\n", example("input.txt"), texts.display())).unwrap();
    let list = format!("@{}", list.display());
    let texts = texts.display().to_string();
    let (output, report) = wordcount(
        folder.path(),
        &["--input", &list, "--input", &texts, "--tasks", "3", "--workers", "3", "--top", "1"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let report = report.unwrap();
    assert_eq!((&report["lines"], &report["verified"]), (&89.into(), &true.into()));
    assert_eq!(report["words"]["top"], serde_json::json!([{ "word": "file", "count": 80 }]));
    assert!(stdout(&output).contains("2 files skipped"), "{}", stdout(&output));
}

#[test]
fn the_comparison_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (output, report) = wordcount(folder.path(), &["--input", &example("input.txt"), "--no-verify"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report = report.unwrap();
    assert_eq!((&report["verified"], &report["lines"]), (&serde_json::Value::Null, &9.into()));
    assert!(!stdout(&output).contains("plain loop"), "{}", stdout(&output));
}

#[test]
fn an_input_that_cannot_be_read_ends_the_run_with_its_name_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let list = folder.path().join("list");
    std::fs::write(&list, format!("{}\n{}\n", example("input.txt"), missing.display())).unwrap();
    for input in [missing.display().to_string(), format!("@{}", list.display())] {
        let (output, _) = wordcount(folder.path(), &["--input", &input]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(&missing.display().to_string()), "{}", stderr(&output));
        assert!(stderr(&output).contains("check the path"), "{}", stderr(&output));
    }
}

#[test]
fn a_run_without_an_input_says_how_to_name_one() {
    let folder = tempfile::tempdir().unwrap();
    let (output, _) = wordcount(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no input; name at least one file"), "{}", stderr(&output));
}
