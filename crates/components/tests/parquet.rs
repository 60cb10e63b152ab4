//! Rows into Parquet files: what another reader of the format finds there.
#![cfg(feature = "parquet")]

extern crate squall_api as squall;

#[macro_use]
mod support;

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::json;
use squall::{Row, Value};
use support::{bolt, shown};

fn rows(path: &Path) -> (usize, Vec<String>) {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
    (reader.num_row_groups(), rows)
}

#[test]
fn columns_of_every_kind_and_nulls_are_read_back_from_groups_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    let columns = json!({ "n": "int", "x": "float", "ok": "bool", "word": "text", "raw": "bytes" });
    let config = json!({ "folder": folder.path(), "columns": columns, "group_rows": 2 });
    let (mut sink, _) = bolt("parquet-file", config, &["word", "n", "x", "ok", "raw", "left_out"]);
    sink.send(Row(vec!["a".into(), 1i64.into(), 0.5.into(), true.into(), Value::Bytes(vec![1]), "-".into()]));
    sink.send(Row(vec![Value::Null; 6]));
    sink.send(row!["ä", -7i64, 2i64, false, Value::Bytes(vec![]), 0i64]);
    let part = folder.path().join("rows-0-0.parquet.part");
    assert!(part.exists(), "not under its name before it is whole");
    sink.finish();
    let (groups, rows) = rows(&folder.path().join("rows-0-0.parquet"));
    assert_eq!((groups, rows.len(), sink.counter("rows"), sink.counter("files")), (2, 3, 3, 1));
    // JSON's keys are sorted, so the columns are; those of YAML are in its order.
    assert_eq!(rows[0], r#"{n: 1, ok: true, raw: [1], word: "a", x: 0.5}"#);
    assert_eq!(rows[1], "{n: null, ok: null, raw: null, word: null, x: null}");
    assert_eq!(rows[2], r#"{n: -7, ok: false, raw: [], word: "ä", x: 2.0}"#);
    assert!(!part.exists());
}

#[test]
fn a_value_of_another_kind_is_bad_input_and_the_row_is_left_out_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        json!({ "folder": folder.path(), "columns": { "word": "text", "n": "int" }, "on_error": "dead_letters" });
    let (mut sink, _) = bolt("parquet-file", config, &["word", "n"]);
    sink.send(row!["a", 1i64]);
    sink.send(row!["b", "two"]);
    sink.send(row![3i64, 3i64]);
    sink.finish();
    let dead = shown(sink.outputs("dead_letters"));
    assert!(dead[0].contains("`n` is a text, and its column holds integers"), "{dead:?}");
    assert!(dead[1].contains("`word` is an integer, and its column holds text"), "{dead:?}");
    assert_eq!(rows(&folder.path().join("rows-0-0.parquet")).1, [r#"{n: 1, word: "a"}"#]);
}

#[test]
fn files_are_done_at_their_size_and_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "folder": folder.path(), "columns": { "n": "int" }, "group_rows": 1, "rotate_size": 1 });
    for run in 0..2 {
        let (mut sink, _) = bolt("parquet-file", config.clone(), &["n"]);
        sink.send(row![run as i64]);
        sink.send(row![run as i64 + 10]);
        sink.finish();
    }
    for (number, n) in [(0, 0), (1, 10), (2, 1), (3, 11)] {
        let (_, rows) = rows(&folder.path().join(format!("rows-0-{number}.parquet")));
        assert_eq!(rows, [format!("{{n: {n}}}")]);
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_told_when_the_run_begins() {
    let topology = squall::Topology::new("harness");
    let config = json!({ "folder": "/proc/none", "columns": { "n": "int" } });
    support::declare(&topology, "bolt", "parquet-file", config, &["n"]).unwrap();
    let fault = squall::testing::BoltHarness::<support::Any>::declared(topology, |c| c).err().unwrap().to_string();
    assert!(fault.contains("cannot look for files in /proc/none"), "{fault}");
    let none = json!({ "folder": "/tmp", "columns": {} });
    let errors = support::declare(&squall::Topology::new("t"), "bolt", "parquet-file", none, &["n"]).err().unwrap();
    assert!(errors[0].to_string().contains("`columns` names none"), "{errors:?}");
}
