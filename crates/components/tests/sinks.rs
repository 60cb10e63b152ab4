//! Sinks: what they write, what they do when they cannot, and their end.

extern crate squall_api as squall;

#[macro_use]
mod support;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use squall::{Row, Value};
use squall_components::{PrintRows, TcpSink};
use support::{bolt, typed};

/// Names and contents of a folder's files, sorted.
fn files(folder: &Path) -> Vec<(String, String)> {
    let read = |e: fs::DirEntry| {
        (e.file_name().into_string().unwrap(), String::from_utf8_lossy(&fs::read(e.path()).unwrap()).into_owned())
    };
    let mut all: Vec<_> = fs::read_dir(folder).unwrap().map(|e| read(e.unwrap())).collect();
    all.sort();
    all
}

fn file(name: &str, text: &str) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

#[test]
fn a_file_appears_under_its_name_when_the_run_ends_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("made/by/the/sink");
    let (mut sink, fields) = bolt("json-file", json!({ "folder": out }), &["word", "n"]);
    assert!(fields.is_empty());
    sink.send(row!["a", 1i64]);
    sink.send(row!["b", 2.5]);
    let text = "{\"word\":\"a\",\"n\":1}\n{\"word\":\"b\",\"n\":2.5}\n";
    assert_eq!(files(&out), [file("rows-0-0.jsonl.part", text)], "what was acknowledged is the system's");
    sink.finish();
    assert_eq!(files(&out), [file("rows-0-0.jsonl", text)]);
    assert_eq!((sink.counter("rows"), sink.counter("files")), (2, 1));
    assert!(sink.balanced() && sink.failed().is_empty());
}

#[test]
fn files_rotate_by_size_and_numbers_go_on_from_those_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t-0-3.txt"), "earlier\n").unwrap();
    fs::write(folder.path().join("t-0-4.txt.part"), "left behind\n").unwrap();
    let config = json!({ "folder": folder.path(), "name": "t", "template": "{n}", "rotate_size": 6 });
    let (mut sink, _) = bolt("text-file", config, &["n"]);
    for n in 10..15i64 {
        sink.send(row![n]);
    }
    sink.finish();
    let expect = [
        file("t-0-3.txt", "earlier\n"),
        file("t-0-4.txt.part", "left behind\n"),
        file("t-0-5.txt", "10\n11\n"),
        file("t-0-6.txt", "12\n13\n"),
        file("t-0-7.txt", "14\n"),
    ];
    assert_eq!(files(folder.path()), expect);
}

#[test]
fn files_rotate_by_time_and_each_csv_file_has_its_line_of_names() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "folder": folder.path(), "rotate_every": "1m" });
    let (mut sink, _) = bolt("csv-file", config, &["a word", "n"]);
    sink.send(row!["x, y", 1i64]);
    sink.advance(Duration::from_secs(80));
    assert_eq!(files(folder.path()), [file("rows-0-0.csv", "a word,n\n\"x, y\",1\n")]);
    sink.send(row!["z", 2i64]);
    sink.finish();
    assert_eq!(files(folder.path())[1], file("rows-0-1.csv", "a word,n\nz,2\n"));
}

#[test]
fn a_folder_that_cannot_be_is_told_when_the_run_begins() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let topology = squall::Topology::new("harness");
    let config = json!({ "folder": folder.path().join("file/below") });
    support::declare(&topology, "bolt", "json-file", config, &["n"]).unwrap();
    let fault = squall::testing::BoltHarness::<support::Any>::declared(topology, |c| c).err().unwrap().to_string();
    assert!(fault.contains("cannot look for files in") && fault.contains("check that the folder exists"), "{fault}");
}

/// A writer that takes so many bytes, kept where the test sees them.
#[derive(Clone)]
struct Paper {
    written: Arc<Mutex<Vec<u8>>>,
    most: usize,
}

impl Paper {
    fn of(most: usize) -> Paper {
        Paper { written: Arc::default(), most }
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.written.lock().unwrap();
        if written.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::StorageFull.into());
        }
        written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn rows_are_printed_as_json_or_text_and_a_writer_that_fails_ends_the_run() {
    for (print, expect) in [
        (PrintRows::json(), "{\"word\":\"a b\",\"n\":1,\"more\":[2,null]}\n"),
        (PrintRows::text(), "a b\t1\t[2,null]\n"),
    ] {
        let paper = Paper::of(100);
        let make = paper.clone();
        let print = print.to(move || Box::new(make.clone()));
        let mut sink = typed(|p| print.declare(p), &["word", "n", "more"]);
        sink.send(Row(vec!["a b".into(), 1i64.into(), Value::List(vec![2i64.into(), Value::Null])]));
        sink.finish();
        assert_eq!(String::from_utf8_lossy(&paper.written.lock().unwrap()), expect);
        assert_eq!(sink.acked().len(), 1);
    }
    let full = Paper::of(3);
    let print = PrintRows::json().to(move || Box::new(full.clone()));
    let mut sink = typed(|p| print.declare(p), &["n"]);
    let fault = sink.try_send(row![1i64]).unwrap_err().to_string();
    assert!(fault.contains("cannot write") && fault.contains("free the disk"), "{fault}");
}

#[test]
fn the_log_and_nothing_take_rows() {
    for component in ["log", "null"] {
        let (mut sink, _) = bolt(component, json!({}), &["n"]);
        sink.send(row![1i64]);
        sink.finish();
        assert_eq!((sink.acked().len(), sink.failed().len()), (1, 0), "{component}");
    }
}

#[test]
fn rows_go_to_a_tcp_server_as_lines_and_are_acknowledged_when_they_have() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (mut sink, _) = bolt("tcp-sink", json!({ "address": address, "template": "{n}!" }), &["n"]);
    for n in 0..3i64 {
        sink.send(row![n]);
    }
    assert_eq!((sink.acked().len(), sink.counter("rows")), (3, 3));
    sink.finish();
    drop(sink);
    let (connection, _) = listener.accept().unwrap();
    let lines: Vec<String> = BufReader::new(connection).lines().map(Result::unwrap).collect();
    assert_eq!(lines, ["0!", "1!", "2!"]);
}

#[test]
fn a_server_that_is_not_there_is_tried_again_and_then_ends_the_run_with_its_row_not_acknowledged() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut sink = typed(|p| TcpSink::to(&address).attempts(3, Duration::from_millis(1)).declare(p), &["n"]);
    let fault = sink.try_send(row![1i64]).unwrap_err().to_string();
    assert!(fault.contains(&format!("cannot send to {address} in 3 attempts")), "{fault}");
    assert!(fault.contains("start the server"), "{fault}");
    assert_eq!(sink.counter("retries"), 2);
    assert!(sink.acked().is_empty());
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut sink = typed(|p| TcpSink::to(&address).attempts(5, Duration::from_millis(1)).declare(p), &["n"]);
    sink.send(row![0i64]);
    // Closed by the server, with what it did not read: the next writes find a reset connection.
    drop(listener.accept().unwrap());
    let mut n = 1i64;
    while sink.counter("retries") == 0 {
        sink.send(row![n]);
        n += 1;
    }
    let (connection, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(connection).lines();
    assert_eq!(lines.next().unwrap().unwrap(), format!("{{\"n\":{}}}", n - 1));
    assert_eq!(sink.acked().len() as i64, n);
}
