//! The `textgen` program as the Makefile and scripts use it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn textgen(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_textgen"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that fails early need not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn generated_text_is_counted_whole() {
    let file = std::env::temp_dir().join(format!("textgen-cli-{}.txt", std::process::id()));
    let path = file.to_str().unwrap();
    let made = textgen(&["generate", "--bytes", "100k", "--words", "500", "-o", path], "");
    assert!(made.status.success());
    let counted = textgen(&["count", "--json", "--top", "1", path], "");
    let report = file.with_extension("json");
    std::fs::write(&report, &counted.stdout).unwrap();
    let equal = textgen(&["count", "--compare", report.to_str().unwrap(), path], "");
    assert!(equal.status.success());
    std::fs::write(&report, stdout(&counted).replace("\"lines\": ", "\"lines\": 1")).unwrap();
    let differs = textgen(&["count", "--compare", report.to_str().unwrap(), path], "");
    assert!(!differs.status.success());
    assert!(String::from_utf8_lossy(&differs.stderr).contains("/lines: counted"));
    std::fs::remove_file(&report).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();

    let counted: serde_json::Value = serde_json::from_str(stdout(&counted)).unwrap();
    assert_eq!(counted["bytes"], 100_000);
    assert_eq!(counted["lines"], text.lines().count());
    assert_eq!(counted["words"]["total"], text.split_whitespace().count());
    assert_eq!(counted["words"]["distinct"], 500);
    assert_eq!(counted["words"]["top"].as_array().unwrap().len(), 1);
}

#[test]
fn standard_output_and_a_file_get_the_same_bytes() {
    let args = ["generate", "--bytes", "3000", "--seed", "1", "--zipf", "0.5"];
    let piped = textgen(&args, "");
    let options = squall_textgen::GeneratorOptions { bytes: 3000, seed: 1, zipf: 0.5, ..Default::default() };
    assert_eq!(stdout(&piped), squall_textgen::generate_text(&options).unwrap());
}

#[test]
fn crate_sources_lists_this_packages_dependencies_from_metadata_on_standard_input() {
    let metadata = r#"{ "packages": [{ "name": "x", "version": "1.0.0", "source": "registry+x",
        "manifest_path": "MANIFEST/Cargo.toml" }] }"#
        .replace("MANIFEST", env!("CARGO_MANIFEST_DIR"));
    let listed = textgen(&["crate-sources", "--metadata", "-", "--limit", "1M"], &metadata);
    let paths: Vec<&str> = stdout(&listed).lines().collect();
    assert!(paths.iter().any(|path| path.ends_with("/src/generate.rs")), "{paths:?}");
    assert!(paths.iter().all(|path| std::path::Path::new(path).is_file()));
}

#[test]
fn wrong_use_ends_with_a_message_and_a_failure() {
    for (args, word) in [
        (&["count", "/nowhere"][..], "cannot read /nowhere"),
        (&["generate", "--words", "0"], "choose 1 to"),
        (&["generate", "--bytes", "many"], "200M"),
        (&["generate", "-o", "/nowhere/x"], "cannot create /nowhere/x"),
        (&["crate-sources", "--metadata", "-"], "cargo metadata --format-version 1"),
    ] {
        let output = textgen(args, "");
        assert!(!output.status.success(), "{args:?}");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains(word), "{args:?}: {message}");
    }
}
