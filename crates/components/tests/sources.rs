//! Spouts of rows in whole topologies: good path, bad input, end.

extern crate squall_api as squall;

mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::json;
use squall::Topology;
use squall_components::registry::Place;
use squall_components::{OnError, Stdin, TcpLines, Udp};
use support::{collect, collected, counter, run, spout};

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &str) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn the_generator_makes_so_many_rows_with_its_keys_however_many_tasks_share_them() {
    for tasks in [1u32, 3] {
        let topology = Topology::new("generate");
        let place = Place::new(&topology, "spout").executors(tasks);
        let generator = squall_components::Generator::new(100).words(["a", "b"]).values(5.0, 6.0);
        let declared = generator.declare(place).unwrap();
        collect(&topology, &declared, "default");
        let outcome = run(topology).unwrap();
        let mut numbers: Vec<i64> = Vec::new();
        for row in collected(&outcome) {
            let parts: Vec<&str> = row.trim_matches(['[', ']']).split(", ").collect();
            let (n, value): (i64, f64) = (parts[0].parse().unwrap(), parts[2].parse().unwrap());
            assert_eq!(parts[1], if n % 2 == 0 { "\"a\"" } else { "\"b\"" });
            assert!((5.0..6.0).contains(&value));
            numbers.push(n);
        }
        numbers.sort();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    }
}

#[test]
fn zipf_keys_are_as_frequent_as_their_rank_says() {
    let config = json!({ "count": 60_000, "keys": 3, "distribution": "zipf", "exponent": 1, "seed": 7 });
    let (rows, _) = spout("generator", config).unwrap();
    let mut counts: HashMap<String, f64> = HashMap::new();
    for row in rows {
        *counts.entry(row.split('"').nth(1).unwrap().to_owned()).or_default() += 1.0;
    }
    // 1 : 1/2 : 1/3, that is 6/11, 3/11 and 2/11 of all.
    for (key, share) in [("key-0", 6.0), ("key-1", 3.0), ("key-2", 2.0)] {
        let off = counts[key] / (60_000.0 * share / 11.0) - 1.0;
        assert!(off.abs() < 0.03, "{key} is off by {off}");
    }
}

#[test]
fn a_rate_is_kept_on_the_topologys_clock() {
    let (rows, outcome) = spout("generator", json!({ "count": 1001, "rate": 1000 })).unwrap();
    assert_eq!(rows.len(), 1001);
    assert_eq!(outcome.took.as_millis(), 1000);
}

#[test]
fn an_interval_emits_at_its_period_and_ends() {
    let (rows, outcome) = spout("interval", json!({ "every": "250ms", "count": 5 })).unwrap();
    assert_eq!(rows.len(), 5);
    assert!(rows[4].starts_with("[4, "));
    assert_eq!(outcome.took.as_millis(), 1000);
}

#[test]
fn lines_come_from_plain_gzip_and_zstandard_files_alike() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a.txt"), "plain 1\nplain 2\n").unwrap();
    let mut twice = gzip("gzip 1\ngzip 2\n");
    twice.extend(gzip("gzip 3"));
    fs::write(at("b.gz"), twice).unwrap();
    let mut frames = zstd("zstd 1\n");
    // A skippable frame, as pzstd writes it, then another frame.
    frames.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    frames.extend(zstd(&"zstd 2\n".repeat(50_000)));
    fs::write(at("c.zst"), frames).unwrap();
    for tasks in [1, 3] {
        let topology = Topology::new("lines");
        let lines = squall_components::RowLines::over([folder.path().to_owned()]);
        let declared = lines.declare(Place::new(&topology, "spout").executors(tasks)).unwrap();
        collect(&topology, &declared, "default");
        let outcome = run(topology).unwrap();
        let mut rows = collected(&outcome);
        rows.sort();
        assert_eq!(rows.len(), 2 + 3 + 1 + 50_000);
        rows.dedup();
        let all = ["gzip 1", "gzip 2", "gzip 3", "plain 1", "plain 2", "zstd 1", "zstd 2"];
        assert_eq!(rows, all.map(|line| format!("[\"{line}\"]")));
        assert_eq!(counter(&outcome, "spout", "lines"), 50_006);
    }
}

#[test]
fn a_compressed_file_that_is_cut_off_or_damaged_ends_the_run_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..5000).map(|i| format!("line {}\n", i * 7919 % 1000)).collect();
    for (name, bytes) in [("cut.gz", gzip(&text)), ("cut.zst", zstd(&text))] {
        let path = folder.path().join(name);
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = spout("lines", json!({ "paths": path })).err().unwrap();
        assert!(error.contains(&format!("cannot read {}", path.display())), "{error}");
    }
}

#[test]
fn json_lines_become_fields_and_bad_ones_are_dealt_with_as_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    fs::write(&path, "{\"a\":1,\"b\":\"x\"}\n\nnot json\n{\"b\":[true]}\r\n7\n").unwrap();
    let config = |on_error: &str| json!({ "paths": path, "fields": ["a", "b"], "on_error": on_error });
    let (rows, outcome) = spout("json-lines", config("skip")).unwrap();
    assert_eq!(rows, [r#"[1, "x"]"#, "[null, [true]]"]);
    assert_eq!(counter(&outcome, "spout", "bad_input"), 2);
    assert_eq!(counter(&outcome, "spout", "lines"), 5);
    let error = spout("json-lines", config("fail")).err().unwrap();
    assert!(error.contains("bad input `not json`") && error.contains("set `on_error`"), "{error}");

    let topology = Topology::new("dead");
    let declared = support::declare(&topology, "spout", "json-lines", config("dead_letters"), &[]).unwrap();
    collect(&topology, &declared, "dead_letters");
    let dead = collected(&run(topology).unwrap());
    assert_eq!(dead.len(), 2);
    assert!(
        dead[0].starts_with(r#"["not json", "no JSON: "#) && dead[1] == r#"["7", "JSON, but no object"]"#,
        "{dead:?}"
    );
}

#[test]
fn a_json_line_longer_than_the_limit_is_bad_input_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.jsonl");
    let long = format!("{{\"a\": \"{}\"}}\n", "word ".repeat(2000));
    fs::write(&path, format!("{{\"a\":1}}\n{long}{{\"a\":2}}\n")).unwrap();
    let config = json!({ "paths": path, "fields": "a", "on_error": "skip", "line_bytes_max": "1 KiB" });
    let (rows, outcome) = spout("json-lines", config).unwrap();
    assert_eq!(rows, ["[1]", "[2]"]);
    assert_eq!(counter(&outcome, "spout", "bad_input"), 1);
}

#[test]
fn csv_lines_become_columns_of_their_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("readings.csv");
    fs::write(&path, "sensor,celsius\nkitchen,21.5\n\"cellar, old\",\nroof,warm\n").unwrap();
    let config = json!({
        "paths": path, "columns": ["sensor", "celsius"], "types": { "celsius": "float" }, "on_error": "skip",
    });
    let (rows, outcome) = spout("csv-lines", config).unwrap();
    assert_eq!(rows, [r#"["kitchen", 21.5]"#, r#"["cellar, old", null]"#]);
    assert_eq!(counter(&outcome, "spout", "bad_input"), 2);
}

fn lines_of(
    declare: impl FnOnce(Place<'_>) -> support::Declaration,
) -> Result<(Vec<String>, squall::testing::Outcome), String> {
    let topology = Topology::new("fed");
    let declared = declare(Place::new(&topology, "spout")).unwrap();
    collect(&topology, &declared, "default");
    let outcome = run(topology)?;
    Ok((collected(&outcome), outcome))
}

#[test]
fn the_lines_of_a_reader_come_to_its_end_whatever_portions_it_gives() {
    /// Gives a few bytes at a time.
    struct Portions(Vec<u8>, usize);

    impl Read for Portions {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    let text = b"one\r\n\ntwo \xff\nthree".to_vec();
    for portion in [1, 2, 7, 100] {
        let stdin = Stdin::of(Portions(text.clone(), portion));
        let (rows, outcome) = lines_of(|place| stdin.declare(place)).unwrap();
        assert_eq!(rows, [r#"["one"]"#, r#"[""]"#, "[\"two \u{fffd}\"]", r#"["three"]"#]);
        assert_eq!(counter(&outcome, "spout", "lines"), 4);
    }
    let stdin = Stdin::of(&b"a\nb\nc\n"[..]).limit(2);
    assert_eq!(lines_of(|place| stdin.declare(place)).unwrap().0.len(), 2);
}

#[test]
fn a_line_that_is_too_long_is_bad_input_and_those_around_it_are_read() {
    let mut text = b"before\n".to_vec();
    text.extend(vec![b'x'; 3 << 20]);
    text.extend(b"\nafter\n");
    let stdin = Stdin::of(std::io::Cursor::new(text.clone())).on_error(OnError::Skip);
    let (rows, outcome) = lines_of(|place| stdin.declare(place)).unwrap();
    assert_eq!(rows, [r#"["before"]"#, r#"["after"]"#]);
    assert_eq!(counter(&outcome, "spout", "bad_input"), 1);
    let stdin = Stdin::of(std::io::Cursor::new(text));
    let error = lines_of(|place| stdin.declare(place)).err().unwrap();
    assert!(error.contains("the line is longer than 1048576 bytes"), "{error}");
}

#[test]
fn lines_arrive_over_several_connections_each_in_order() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..3)
        .map(|client| {
            std::thread::spawn(move || {
                let mut connection = TcpStream::connect(address).unwrap();
                for n in 0..100 {
                    connection.write_all(format!("{client} {n}\n").as_bytes()).unwrap();
                }
            })
        })
        .collect();
    let (rows, outcome) = lines_of(|place| TcpLines::bound(listener).limit(300).declare(place)).unwrap();
    clients.into_iter().for_each(|c| c.join().unwrap());
    assert_eq!((rows.len(), counter(&outcome, "spout", "lines")), (300, 300));
    for client in 0..3 {
        let of_one: Vec<&String> = rows.iter().filter(|row| row.starts_with(&format!("[\"{client} "))).collect();
        let expect: Vec<String> = (0..100).map(|n| format!("[\"{client} {n}\"]")).collect();
        assert!(of_one.iter().map(|r| r.as_str()).eq(expect.iter().map(String::as_str)), "{of_one:?}");
    }
    assert!(TcpStream::connect(address).is_err(), "nobody listens after the end");
}

#[test]
fn each_datagram_is_a_row_newlines_and_all() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    // They wait in the socket's buffer until the topology reads them.
    for text in ["{\"n\":1}", "two\nlines", "{\"n\":3}"] {
        client.send_to(text.as_bytes(), address).unwrap();
    }
    let form = squall_components::Form::Json(vec!["n".into()]);
    let udp = Udp::bound(socket).form(form).on_error(OnError::Skip).limit(3);
    let (rows, outcome) = lines_of(|place| udp.declare(place)).unwrap();
    assert_eq!(rows, ["[1]", "[3]"]);
    assert_eq!(counter(&outcome, "spout", "bad_input"), 1);
}

#[test]
fn an_address_that_is_taken_is_told_with_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = spout("tcp-lines", json!({ "listen": address })).err().unwrap();
    assert!(error.contains(&format!("cannot listen on {address}")) && error.contains("a free port"), "{error}");
    let topology = Topology::new("wrong");
    let errors = support::declare(&topology, "spout", "tcp-lines", json!({ "listen": "4000" }), &[]).err().unwrap();
    assert!(errors[0].to_string().contains("write HOST:PORT"), "{errors:?}");
}

#[test]
fn a_source_that_there_is_one_of_refuses_more_tasks() {
    let topology = Topology::new("two");
    let errors = Stdin::new().declare(Place::new(&topology, "in").executors(2)).err().unwrap();
    assert!(errors[0].to_string().contains("can have only one, because there is one standard input"), "{errors:?}");
}

#[test]
fn a_followed_file_gives_what_is_appended_while_the_topology_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    fs::write(&path, "0\n1\n").unwrap();
    let topology = Topology::new("follow");
    topology.configure(|c| c.executor_restarts = 0);
    let lines = squall_components::RowLines::over([path.clone()]);
    let lines = lines.follow(squall_components::Start::Beginning, Duration::from_millis(100));
    let declared = lines.declare(Place::new(&topology, "spout")).unwrap();
    // Each row that arrives has the next two appended, up to ten; then the bolt ends the run by an error of its own.
    let rows = declared.stream("default").unwrap().handle.clone();
    let appended = rows.global().map("append", move |row| {
        let n: i64 = row[0].as_str().unwrap().parse().unwrap();
        let mut file = fs::File::options().append(true).open(&path).unwrap();
        if n % 2 == 1 && n < 9 {
            // In two parts: a line that is not whole yet is not read.
            write!(file, "{}\n{}", n + 1, n + 2).unwrap();
            writeln!(file).unwrap();
        }
        assert!(n < 9, "the tenth line arrived");
        squall::Row(vec![squall::Value::I64(n)])
    });
    topology.bolt("null", squall_components::Null::<squall::Row>::default).on(appended.global());
    let error = run(topology).err().unwrap();
    assert!(error.contains("the tenth line arrived"), "{error}");
}

#[test]
fn a_log_is_replayed_from_any_offset_over_segments_and_runs() {
    use squall::Value;
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "folder": folder.path(), "segment_size": "4 KiB" });
    let text = |n: i64| format!("{n}{}", "x".repeat(n as usize % 40));
    let mut n = 0i64;
    for run in 0..3 {
        let (mut sink, _) = support::bolt("log-append", config.clone(), &["n", "list"]);
        for _ in 0..100 {
            sink.send(squall::Row(vec![Value::I64(n), Value::List(vec![text(n).into(), Value::Null])]));
            n += 1;
        }
        assert_eq!(sink.acked().len(), 100);
        sink.finish();
        drop(sink);
        // What a run that was killed may leave behind: a record that is not whole.
        let partition = folder.path().join("0");
        let mut segments: Vec<_> = fs::read_dir(&partition).unwrap().map(|e| e.unwrap().path()).collect();
        segments.sort();
        assert!(segments.len() > run, "it has rotated");
        let mut last = fs::File::options().append(true).open(segments.last().unwrap()).unwrap();
        last.write_all(&[9, 0, 0, 0, 1, 2, 3, 4, 5, 6][..4 + 3 * run]).unwrap();
    }
    for from in [0, 1, 99, 100, 250, 299, 300, 5000] {
        let config = json!({ "folder": folder.path(), "fields": ["n", "list"], "from": from, "offsets": true });
        let (rows, _) = spout("log-read", config).unwrap();
        let expect: Vec<String> = (from..300).map(|n| format!("[{n}, [{:?}, null], 0, {n}]", text(n))).collect();
        assert_eq!(rows, expect);
    }
    let error = spout("log-read", json!({ "folder": folder.path(), "fields": ["n"] })).err().unwrap();
    assert!(error.contains(r#"has rows with the fields ["n", "list"], not ["n"]; correct `fields`"#), "{error}");
}

#[test]
fn a_damaged_log_ends_the_run_at_the_place_and_a_torn_end_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, _) = support::bolt("log-append", json!({ "folder": folder.path(), "sync": true }), &["n"]);
    for n in 0..10i64 {
        sink.send(squall::Row(vec![n.into()]));
    }
    sink.finish();
    drop(sink);
    let path = folder.path().join("0/00000000000000000000.log");
    let whole = fs::read(&path).unwrap();
    let config = json!({ "folder": folder.path(), "fields": "n" });
    let read = || spout("log-read", config.clone()).map(|(rows, _)| rows.len());
    assert_eq!(read(), Ok(10));
    let mut counts = Vec::new();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        counts.push(read().unwrap());
    }
    assert!(counts.is_sorted() && counts[0] == 0 && counts[whole.len() - 1] == 9, "{counts:?}");
    for at in (16..whole.len()).step_by(3) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        // In padding and in a length that leads beyond the end it does not show; else the end comes there, or the error.
        match read() {
            Ok(count) => assert!(count <= 10),
            Err(error) => assert!(error.contains("is damaged at byte") || error.contains("no log of rows"), "{error}"),
        }
    }
    let mut damaged = whole.clone();
    damaged[(whole.len() / 2) & !7] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let error = read().unwrap_err();
    assert!(error.contains("is damaged at byte") && error.contains("checksum"), "{error}");
}
