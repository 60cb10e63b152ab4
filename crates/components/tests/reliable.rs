//! Sources that emit until they are acknowledged, and go on where they were: what fails comes again, what was acknowledged does
//! not, whatever ended the run before (D4).

extern crate squall_api as squall;

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;
use squall::testing::Outcome;
use squall::{Bolt, BoltError, Input, Row, Topology};
use squall_components::registry::Place;
use squall_components::{DeadLine, GiveUp, Line, Lines, LinesOptions, TcpLines};
use squall_engine::{MemCluster, VirtualClock};
use squall_topology::Machine;
use support::{collect, collected, counter, declare, run, show};

/// What a bolt took, in order.
type Taken = Arc<Mutex<Vec<String>>>;
/// What becomes of a row, and how often it came before.
type Rule = fn(&str, u32) -> Verdict;

enum Verdict {
    Ack,
    Fail,
    /// Neither, for ever: as in a process that is about to die.
    Hold,
}

/// Ends rows by a rule.
struct Judge {
    taken: Taken,
    times: BTreeMap<String, u32>,
    rule: Rule,
    held: Vec<squall::Anchor>,
}

impl Judge {
    fn judge<I: squall::Inputs>(&mut self, row: String, input: Input<'_, I>) -> Result<(), BoltError> {
        self.taken.lock().unwrap().push(row.clone());
        let times = self.times.entry(row.clone()).or_default();
        *times += 1;
        match (self.rule)(&row, *times - 1) {
            Verdict::Ack => {}
            Verdict::Fail => return Err(BoltError::fail("not yet")),
            Verdict::Hold => self.held.push(input.keep().1),
        }
        Ok(())
    }
}

struct JudgeRows(Judge);

impl Bolt for JudgeRows {
    type In = Row;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Row>, _: &mut ()) -> Result<(), BoltError> {
        let first = input.view().to_owned().0.remove(0);
        self.0.judge(show(&first).trim_matches('"').to_owned(), input)
    }
}

struct JudgeLines(Judge);

impl Bolt for JudgeLines {
    type In = Line;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Line>, _: &mut ()) -> Result<(), BoltError> {
        self.0.judge(input.text.as_str().to_owned(), input)
    }
}

fn judge(taken: &Taken, rule: Rule) -> Judge {
    Judge { taken: taken.clone(), times: BTreeMap::new(), rule, held: Vec::new() }
}

/// A source by its name in the registry, judged; its state, if any, is in this folder.
fn rows(component: &str, config: serde_json::Value, state: Option<&Path>, taken: &Taken, rule: Rule) -> Topology {
    let topology = Topology::new("reliable");
    let declared = declare(&topology, "source", component, config, &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let taken = taken.clone();
    let handle = declared.stream("default").unwrap().handle.clone();
    topology.bolt("judge", move || JudgeRows(judge(&taken, rule))).on(handle.global());
    topology.configure(|c| c.state = state.map(|s| s.display().to_string()));
    topology
}

/// The same, with a bolt that collects the source's dead letters.
fn rows_and_letters(component: &str, config: serde_json::Value, taken: &Taken, rule: Rule) -> Topology {
    let topology = Topology::new("letters");
    let declared = declare(&topology, "source", component, config, &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let (taken, handle) = (taken.clone(), declared.stream("default").unwrap().handle.clone());
    topology.bolt("judge", move || JudgeRows(judge(&taken, rule))).on(handle.global());
    collect(&topology, &declared, "dead_letters");
    topology
}

/// Runs until nothing happens any more, and dies.
fn run_and_die(topology: Topology) {
    let built = topology.build().unwrap();
    let plan = Arc::new(built.plan(&Machine::default()).unwrap());
    let mut cluster = MemCluster::new(plan, built.registry, VirtualClock::at(1_000_000_000), 64);
    cluster.start().unwrap();
    // Less than the message timeout: what is held stays pending.
    assert!(!cluster.run(21_000_000_000).unwrap(), "something is held");
}

fn take(taken: &Taken) -> Vec<String> {
    std::mem::take(&mut *taken.lock().unwrap())
}

fn roots(outcome: &Outcome) -> (u64, u64, u64) {
    let source = &outcome.components["source"];
    (source.roots, source.acked, source.failed)
}

/// Three rows of ten fail twice each.
fn some_fail(row: &str, times: u32) -> Verdict {
    let bad = row.ends_with('3') || row.ends_with('5') || row.ends_with('7');
    if bad && times < 2 { Verdict::Fail } else { Verdict::Ack }
}

fn acks(_: &str, _: u32) -> Verdict {
    Verdict::Ack
}

/// Row 60 is never ended, so nothing from it on is done.
fn holds_60(row: &str, _: u32) -> Verdict {
    if row.ends_with("60") { Verdict::Hold } else { Verdict::Ack }
}

/// A file of lines `0` to `99`, as text and as a gzip file.
fn files(folder: &Path) {
    let text: String = (0..100).map(|n| format!("{n}\n")).collect();
    fs::write(folder.join("a.txt"), &text).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    fs::write(folder.join("b.gz"), gzip.finish().unwrap()).unwrap();
}

/// Appends rows `0` to `99` to a log.
fn log(folder: &Path) {
    let topology = Topology::new("write");
    let source = declare(&topology, "source", "generator", json!({ "count": 100 }), &[]).unwrap();
    let mut sink = declare(
        &topology,
        "log",
        "log-append",
        json!({ "folder": folder, "segment_size": "4 KiB" }),
        &["n", "key", "value"],
    )
    .unwrap();
    sink.subscribe(source.stream("default").unwrap().handle.global());
    run(topology).unwrap();
}

/// Each source of rows whose first field is a number, with its configuration over a folder of its own.
fn sources(folder: &Path) -> Vec<(&'static str, serde_json::Value, usize)> {
    files(folder);
    let journal = folder.join("journal");
    log(&journal);
    vec![
        ("lines", json!({ "paths": folder.join("a.txt") }), 100),
        ("lines", json!({ "paths": folder.join("b.gz") }), 100),
        ("generator", json!({ "count": 100, "distribution": "uniform" }), 100),
        ("log-read", json!({ "folder": journal, "fields": ["n", "key", "value"] }), 100),
    ]
}

#[test]
fn what_fails_comes_again_until_it_is_acknowledged_and_the_rest_comes_once() {
    let folder = tempfile::tempdir().unwrap();
    for (name, config, count) in sources(folder.path()) {
        let taken = Taken::default();
        let outcome = run(rows(name, config, None, &taken, some_fail)).unwrap();
        let taken = take(&taken);
        let each: BTreeSet<&String> = taken.iter().collect();
        assert_eq!((each.len(), taken.len()), (count, count + 60), "{name}: thirty came three times");
        assert_eq!(roots(&outcome), (count as u64 + 60, count as u64, 60), "{name}");
        assert_eq!(counter(&outcome, "source", "replayed"), 60, "{name}");
        assert_eq!(counter(&outcome, "source", "given_up"), 0, "{name}");
        // Where nothing fails, the order is that of the source.
        let first: Vec<&String> = taken.iter().filter(|r| matches!(some_fail(r, 0), Verdict::Ack)).collect();
        assert!(first.is_sorted_by_key(|r| r.parse::<u32>().unwrap()), "{name}");
    }
}

#[test]
fn after_a_death_a_source_goes_on_behind_what_was_acknowledged_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (at, (name, config, count)) in sources(folder.path()).into_iter().enumerate() {
        let state = folder.path().join(format!("state-{at}"));
        let taken = Taken::default();
        run_and_die(rows(name, config.clone(), Some(&state), &taken, holds_60));
        let before: BTreeSet<String> = take(&taken).into_iter().collect();
        assert_eq!(before.len(), count, "{name}: everything was emitted");
        let outcome = run(rows(name, config.clone(), Some(&state), &taken, acks)).unwrap();
        let again = take(&taken);
        let wanted: Vec<String> = (60..count).map(|n| n.to_string()).collect();
        assert_eq!(again, wanted, "{name}: from the one that was not done, in order");
        assert_eq!(roots(&outcome), (40, 40, 0), "{name}");
        // All of it is done: another run has nothing to do.
        run(rows(name, config, Some(&state), &taken, acks)).unwrap();
        assert_eq!(take(&taken), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn without_state_a_run_begins_at_the_beginning() {
    let folder = tempfile::tempdir().unwrap();
    for (name, config, count) in sources(folder.path()) {
        let taken = Taken::default();
        run_and_die(rows(name, config.clone(), None, &taken, holds_60));
        take(&taken);
        run(rows(name, config, None, &taken, acks)).unwrap();
        assert_eq!(take(&taken).len(), count, "{name}");
    }
}

#[test]
fn what_was_appended_to_a_file_since_is_read_and_another_file_in_its_place_from_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let (path, state) = (folder.path().join("a.txt"), folder.path().join("state"));
    fs::write(&path, "one\ntwo\n").unwrap();
    let taken = Taken::default();
    let read = || {
        run(rows("lines", json!({ "paths": path }), Some(&state), &taken, acks)).unwrap();
        take(&taken)
    };
    assert_eq!(read(), ["one", "two"]);
    writeln!(fs::File::options().append(true).open(&path).unwrap(), "three").unwrap();
    assert_eq!(read(), ["three"]);
    // Beside it first: so it is another file for certain.
    fs::write(folder.path().join("new"), "one\nfour\nfive\nsix\n").unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    assert_eq!(read(), ["one", "four", "five", "six"]);
    fs::File::options().write(true).open(&path).unwrap().set_len(4).unwrap();
    assert_eq!(read(), ["one"], "shorter than what was read: begun anew");
}

#[test]
fn tasks_that_share_a_file_in_ranges_each_go_on_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let (path, state) = (folder.path().join("a.txt"), folder.path().join("state"));
    let text: String = (0..4000).map(|n| format!("line {n}\n")).collect();
    fs::write(&path, &text).unwrap();
    let topology = |rule: Rule, taken: &Taken| {
        let topology = Topology::new("shared");
        let options = LinesOptions { range_bytes: 4096, ..LinesOptions::over([path.clone()]) };
        let lines = topology.spout("source", move || Lines::new(options.clone())).tasks(3);
        let taken = taken.clone();
        topology.bolt("judge", move || JudgeLines(judge(&taken, rule))).on(lines.global());
        topology.configure(|c| c.state = Some(state.display().to_string()));
        topology
    };
    let taken = Taken::default();
    let hundreds: Rule = |row, _| if row.ends_with("777") { Verdict::Hold } else { Verdict::Ack };
    run_and_die(topology(hundreds, &taken));
    assert_eq!(take(&taken).into_iter().collect::<BTreeSet<_>>().len(), 4000);
    run(topology(acks, &taken)).unwrap();
    let again = take(&taken);
    for held in ["line 777", "line 1777", "line 2777", "line 3777"] {
        assert!(again.iter().any(|l| l == held), "{held} is lost");
    }
    assert!(again.len() < 3500, "what was done is not read again: {}", again.len());
    assert_eq!(again.iter().collect::<BTreeSet<_>>().len(), again.len(), "each once");
    run(topology(acks, &taken)).unwrap();
    assert_eq!(take(&taken), Vec::<String>::new());
}

#[test]
fn a_row_that_always_fails_is_given_up_after_ten_times_and_the_source_ends() {
    let taken = Taken::default();
    let rule: Rule = |row, _| if row == "3" { Verdict::Fail } else { Verdict::Ack };
    let outcome = run(rows("generator", json!({ "count": 6 }), None, &taken, rule)).unwrap();
    assert_eq!(take(&taken).iter().filter(|r| *r == "3").count(), 10);
    assert_eq!((counter(&outcome, "source", "given_up"), counter(&outcome, "source", "replayed")), (1, 9));
    assert_eq!(roots(&outcome), (15, 5, 10));
    // 0, 10, 20 … 1280 ms.
    assert!(outcome.took.as_millis() >= 2550, "{:?}", outcome.took);
}

/// Rows 3 and 7 never work.
fn three_and_seven_fail(row: &str, _: u32) -> Verdict {
    if matches!(row, "3" | "7") { Verdict::Fail } else { Verdict::Ack }
}

#[test]
fn what_always_fails_goes_to_dead_letters_with_its_cause_where_the_source_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for (name, mut config, count) in sources(folder.path()) {
        let state = folder.path().join("state-letters");
        let options = config.as_object_mut().unwrap();
        options.insert("give_up_after".into(), json!(3));
        options.insert("on_give_up".into(), json!("dead_letters"));
        let taken = Taken::default();
        let topology = rows_and_letters(name, config.clone(), &taken, three_and_seven_fail);
        topology.configure(|c| c.state = Some(state.display().to_string()));
        let outcome = run(topology).unwrap();
        let taken = take(&taken);
        assert_eq!(taken.iter().filter(|row| *row == "3").count(), 3, "{name}");
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), count, "{name}");
        let letters = collected(&outcome);
        let error = "\"failed by judge, the last of 3 failures\"]";
        let number = |row: &str| row.trim_start_matches(['[', '"']).chars().next();
        assert_eq!(
            letters.iter().map(|row| number(row)).collect::<BTreeSet<_>>(),
            [Some('3'), Some('7')].into(),
            "{name}"
        );
        assert!(letters.len() == 2 && letters.iter().all(|row| row.ends_with(error)), "{name}: {letters:?}");
        let counted = ["given_up", "dead_letters"].map(|counter_name| counter(&outcome, "source", counter_name));
        assert_eq!(counted, [0, 2], "{name}");
        // The last failure of each is followed by its letter, which is a root of its own.
        assert_eq!(roots(&outcome), (count as u64 + 6, count as u64, 6), "{name}");
        // They are done with: another run does not read them again.
        let taken = Taken::default();
        let topology = rows_and_letters(name, config, &taken, acks);
        topology.configure(|c| c.state = Some(state.display().to_string()));
        run(topology).unwrap();
        assert_eq!(take(&taken), Vec::<String>::new(), "{name}");
        fs::remove_dir_all(&state).unwrap();
    }
}

#[test]
fn letters_of_a_log_have_partition_and_offset_and_those_of_json_the_text_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    log(&journal);
    let give_up = |mut config: serde_json::Value| {
        config
            .as_object_mut()
            .unwrap()
            .extend(json!({ "give_up_after": 1, "on_give_up": "dead_letters" }).as_object().unwrap().clone());
        config
    };
    let taken = Taken::default();
    let config = give_up(json!({ "folder": journal, "fields": ["n", "key", "value"], "offsets": true }));
    let outcome = run(rows_and_letters("log-read", config, &taken, three_and_seven_fail)).unwrap();
    let letters = collected(&outcome);
    let ends = letters.iter().filter(|row| {
        row.ends_with(", 0, 3, \"failed by judge, the last of 1 failures\"]")
            || row.ends_with(", 0, 7, \"failed by judge, the last of 1 failures\"]")
    });
    assert_eq!((ends.count(), letters.len()), (2, 2), "{letters:?}");

    fs::write(folder.path().join("a.json"), "{\"a\": 3}\nno json\n{\"a\": 4}\n").unwrap();
    let config = json!({ "paths": folder.path().join("a.json"), "fields": ["a"], "on_error": "dead_letters" });
    let outcome = run(rows_and_letters("json-lines", give_up(config), &taken, three_and_seven_fail)).unwrap();
    let mut letters = collected(&outcome);
    letters.sort();
    // One stream for both: what could not be read, and what was given up.
    assert!(letters.len() == 2 && letters[0].starts_with("[\"no json\", "), "{letters:?}");
    assert_eq!(letters[1], r#"["{\"a\": 3}", "failed by judge, the last of 1 failures"]"#);
}

#[test]
fn a_letter_that_is_not_acknowledged_when_the_source_dies_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let config = json!({ "count": 10, "give_up_after": 2, "on_give_up": "dead_letters" });
    let topology = |letters: &Taken, rule: Rule| {
        let topology = Topology::new("letters");
        let declared =
            declare(&topology, "source", "generator", config.clone(), &[]).unwrap_or_else(|e| panic!("{e:?}"));
        let stream = |name: &str| declared.stream(name).unwrap().handle.clone();
        let taken = Taken::default();
        topology.bolt("judge", move || JudgeRows(judge(&taken, three_and_seven_fail))).on(stream("default").global());
        let letters = letters.clone();
        topology.bolt("letters", move || JudgeRows(judge(&letters, rule))).on(stream("dead_letters").global());
        topology.configure(|c| c.state = Some(state.display().to_string()));
        topology
    };
    let letters = Taken::default();
    let hold: Rule = |_, _| Verdict::Hold;
    run_and_die(topology(&letters, hold));
    assert_eq!(take(&letters), ["3", "7"]);
    run(topology(&letters, acks)).unwrap();
    assert_eq!(take(&letters), ["3", "7"], "nothing is behind a letter that nobody has acknowledged");
    run(topology(&letters, acks)).unwrap();
    assert_eq!(take(&letters), Vec::<String>::new());
}

#[test]
fn dead_letters_that_nobody_reads_end_the_run_when_it_begins() {
    let config = json!({ "count": 10, "on_give_up": "dead_letters" });
    let fault = run(rows("generator", config, None, &Taken::default(), acks)).err().expect("refused");
    assert!(fault.contains("nobody reads the dead letters of `source`: subscribe a bolt to its stream"), "{fault}");
}

/// Written in Rust, with typed streams.
#[test]
fn typed_lines_that_always_fail_go_to_their_stream_of_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    fs::write(&path, "1\n3\n5\n").unwrap();
    let topology = Topology::new("typed");
    let make = move || Lines::over([path.clone()]).give_up_after(4).dead_letters();
    let lines = topology.spout("source", make).streams();
    let (taken, dead) = (Taken::default(), Arc::new(Mutex::new(Vec::new())));
    let (seen, kept) = (taken.clone(), dead.clone());
    topology.bolt("judge", move || JudgeLines(judge(&seen, three_and_seven_fail))).on(lines.default.shuffle());
    topology.bolt("dead", move || KeepLetters(kept.clone())).on(lines.dead_letters.global());
    let outcome = run(topology).unwrap();
    assert_eq!(take(&taken).iter().filter(|line| *line == "3").count(), 4);
    let error = "failed by judge, the last of 4 failures".to_owned();
    assert_eq!(*dead.lock().unwrap(), [DeadLine { text: "3".into(), error }]);
    assert_eq!(roots(&outcome), (3 + 4, 3, 4));
}

struct KeepLetters(Arc<Mutex<Vec<DeadLine>>>);

impl Bolt for KeepLetters {
    type In = DeadLine;
    type Out = ();

    fn execute(&mut self, input: Input<'_, DeadLine>, _: &mut ()) -> Result<(), BoltError> {
        self.0.lock().unwrap().push(input.view().to_owned());
        Ok(())
    }
}

#[test]
fn bad_input_is_done_with_where_it_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (path, state) = (folder.path().join("a.json"), folder.path().join("state"));
    fs::write(&path, "{\"a\": 1}\nno json\n\n{\"a\": 2}\n").unwrap();
    let taken = Taken::default();
    let config = json!({ "paths": path, "fields": ["a"], "on_error": "skip" });
    let outcome = run(rows("json-lines", config.clone(), Some(&state), &taken, acks)).unwrap();
    assert_eq!((take(&taken), roots(&outcome)), (vec!["1".to_owned(), "2".to_owned()], (2, 2, 0)));
    run(rows("json-lines", config, Some(&state), &taken, acks)).unwrap();
    assert_eq!(take(&taken), Vec::<String>::new());
}

#[test]
fn with_acking_off_rows_come_once_whatever_becomes_of_them() {
    let taken = Taken::default();
    let topology = rows("generator", json!({ "count": 100 }), None, &taken, some_fail);
    topology.configure(|c| c.ackers = Some(0));
    let outcome = run(topology).unwrap();
    assert_eq!((take(&taken).len(), roots(&outcome)), (100, (0, 0, 0)));
    assert_eq!((outcome.components["judge"].failed, outcome.components["judge"].lost), (30, 30));
}

#[test]
fn a_sender_over_tcp_is_told_how_many_of_its_lines_are_done() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let topology = Topology::new("tcp");
    let declared = TcpLines::bound(listener).acks().limit(200).declare(Place::new(&topology, "source")).unwrap();
    let (taken, handle) = (Taken::default(), declared.stream("default").unwrap().handle.clone());
    let seen = taken.clone();
    topology.bolt("judge", move || JudgeRows(judge(&seen, some_fail))).on(handle.global());
    let send = |from: u32| {
        std::thread::spawn(move || {
            let mut connection = TcpStream::connect(address).unwrap();
            let text: String = (from..from + 100).map(|n| format!("{n}\n")).collect();
            connection.write_all(text.as_bytes()).unwrap();
            let told = BufReader::new(connection).lines().map(|l| l.unwrap().parse::<u64>().unwrap());
            told.collect::<Vec<u64>>()
        })
    };
    let senders = [send(0), send(1000)];
    let outcome = run(topology).unwrap();
    for sender in senders {
        let told = sender.join().unwrap();
        assert!(told.is_sorted() && told.last() == Some(&100), "{told:?}");
    }
    let taken = take(&taken);
    assert_eq!((taken.iter().collect::<BTreeSet<_>>().len(), taken.len()), (200, 320));
    assert_eq!(roots(&outcome), (320, 200, 120));
}

#[test]
fn a_line_over_tcp_that_always_fails_is_done_for_its_sender_when_its_letter_is() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let topology = Topology::new("tcp");
    let give_up = GiveUp::after(2).to_dead_letters();
    let source = TcpLines::bound(listener).acks().give_up(give_up).limit(10);
    let declared = source.declare(Place::new(&topology, "source")).unwrap();
    let (taken, handle) = (Taken::default(), declared.stream("default").unwrap().handle.clone());
    topology.bolt("judge", move || JudgeRows(judge(&taken, three_and_seven_fail))).on(handle.global());
    collect(&topology, &declared, "dead_letters");
    let sender = std::thread::spawn(move || {
        let mut connection = TcpStream::connect(address).unwrap();
        let text: String = (0..10).map(|n| format!("{n}\n")).collect();
        connection.write_all(text.as_bytes()).unwrap();
        BufReader::new(connection).lines().map(|l| l.unwrap().parse::<u64>().unwrap()).last()
    });
    let outcome = run(topology).unwrap();
    assert_eq!(sender.join().unwrap(), Some(10));
    let error = "\"failed by judge, the last of 2 failures\"";
    assert_eq!(collected(&outcome), [format!("[\"3\", {error}]"), format!("[\"7\", {error}]")]);
    assert_eq!((counter(&outcome, "source", "given_up"), roots(&outcome)), (0, (14, 10, 4)));
}
