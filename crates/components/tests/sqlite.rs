//! Rows into SQLite.
#![cfg(feature = "sqlite")]

extern crate squall_api as squall;

#[macro_use]
mod support;

use rusqlite::Connection;
use serde_json::json;
use squall::{Row, Value};
use support::{bolt, shown};

fn all(path: &std::path::Path, sql: &str) -> Vec<String> {
    let database = Connection::open(path).unwrap();
    let mut query = database.prepare(sql).unwrap();
    query.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn rows_are_inserted_into_a_table_that_is_made_and_lists_are_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.db");
    let (mut sink, _) = bolt("sqlite", json!({ "file": path, "table": "my \"words\"" }), &["word", "n", "list"]);
    sink.send(Row(vec!["a".into(), 1i64.into(), Value::List(vec![true.into()])]));
    sink.send(Row(vec![Value::Null, 0.5.into(), Value::Bytes(vec![1, 2])]));
    assert_eq!((sink.acked().len(), sink.counter("rows")), (2, 2), "committed at the end of a batch");
    sink.finish();
    let quoted = "SELECT quote(word) || ' ' || quote(n) || ' ' || quote(list) FROM \"my \"\"words\"\"\"";
    assert_eq!(all(&path, quoted), ["'a' 1 '[true]'", "NULL 0.5 X'0102'"]);
}

#[test]
fn a_row_that_the_database_refuses_is_bad_input_and_the_others_go_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    Connection::open(&path).unwrap().execute("CREATE TABLE t (k PRIMARY KEY, v NOT NULL)", []).unwrap();
    let config = |conflict: &str| json!({ "file": path, "table": "t", "conflict": conflict, "create": false, "on_error": "dead_letters" });
    let (mut sink, _) = bolt("sqlite", config("bad"), &["k", "v"]);
    for v in ["first", "second"] {
        sink.send(row![1i64, v]);
    }
    sink.send(Row(vec![2i64.into(), Value::Null]));
    sink.finish();
    let dead = shown(sink.outputs("dead_letters"));
    assert_eq!(dead.len(), 2);
    assert!(dead[0].contains("UNIQUE constraint failed: t.k") && dead[1].contains("NOT NULL"), "{dead:?}");
    assert!(sink.balanced() && sink.failed().is_empty());
    drop(sink);
    let (mut sink, _) = bolt("sqlite", config("replace"), &["k", "v"]);
    sink.send(row![1i64, "third"]);
    sink.finish();
    assert_eq!(all(&path, "SELECT v FROM t"), ["third"]);
}

/// The constraint is looked at when the transaction is committed: rows that were inserted are none of the table's then.
#[test]
fn rows_whose_transaction_cannot_be_committed_are_not_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let tables = "CREATE TABLE keys (k PRIMARY KEY); \
                  CREATE TABLE t (k REFERENCES keys (k) DEFERRABLE INITIALLY DEFERRED); INSERT INTO keys VALUES (1)";
    Connection::open(&path).unwrap().execute_batch(tables).unwrap();
    let (mut sink, _) = bolt("sqlite", json!({ "file": path, "table": "t", "create": false }), &["k"]);
    sink.send(row![1i64]);
    let fault = sink.try_send(row![2i64]).unwrap_err().to_string();
    assert!(fault.contains("cannot commit to") && fault.contains("FOREIGN KEY"), "{fault}");
    assert_eq!((sink.acked().len(), sink.counter("rows")), (1, 1));
    drop(sink);
    assert_eq!(all(&path, "SELECT quote(k) FROM t"), ["1"]);
}

#[test]
fn a_table_that_is_not_there_is_told_when_the_run_begins() {
    let folder = tempfile::tempdir().unwrap();
    let topology = squall::Topology::new("harness");
    let config = json!({ "file": folder.path().join("t.db"), "table": "t", "create": false });
    support::declare(&topology, "bolt", "sqlite", config, &["n"]).unwrap();
    let fault = squall::testing::BoltHarness::<support::Any>::declared(topology, |c| c).err().unwrap().to_string();
    assert!(fault.contains("no such table: t") && fault.contains("check the path"), "{fault}");
}
