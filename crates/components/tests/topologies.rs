//! The stock components inside topologies, on the test harness: one thread, virtual time.

extern crate squall_api as squall;

use std::cell::RefCell;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use squall::prelude::*;
use squall::testing::{BoltHarness, Outcome, run};
use squall::{Results, TopologyConfig};
use squall_components::{Line, LineRef, Lines, LinesOptions, Null, Print};

/// Keeps the texts and sends them to the test at the end.
#[derive(Default)]
struct Collect {
    texts: Vec<String>,
    results: Option<Results>,
}

impl Bolt for Collect {
    type In = Line;
    type Out = ();

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.results = Some(ctx.results());
        Ok(())
    }

    fn execute(&mut self, line: Input<'_, Line>, _: &mut ()) -> Result<(), BoltError> {
        self.texts.push(line.text.as_str().to_owned());
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        let results = self.results.as_ref().expect("prepared");
        let row = std::mem::take(&mut self.texts).join("\n").into_bytes();
        results.try_push("lines", row).map_err(|_| BoltError::fatal("one row finds no room"))?;
        Ok(Finish::Done)
    }
}

/// Reads `options` with so many tasks; the texts, sorted.
fn collect(
    options: &LinesOptions,
    tasks: u32,
    configure: impl FnOnce(&mut TopologyConfig),
) -> Result<(Vec<String>, Outcome), Box<dyn std::error::Error>> {
    let topology = Topology::new("collect");
    topology.configure(configure);
    let options = options.clone();
    let lines = topology.spout("lines", move || Lines::new(options.clone())).tasks(tasks).streams();
    topology.bolt("collect", Collect::default).on(lines.shuffle());
    let outcome = run(topology)?;
    let mut texts: Vec<String> = Vec::new();
    for (_, row) in outcome.results.iter().filter(|(_, row)| !row.is_empty()) {
        texts.extend(std::str::from_utf8(row)?.split('\n').map(str::to_owned));
    }
    texts.sort();
    Ok((texts, outcome))
}

fn folder_of(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(root.path().join(name), bytes).unwrap();
    }
    root
}

fn options(path: &Path) -> LinesOptions {
    LinesOptions { range_bytes: 4096, ..LinesOptions::over([path.to_owned()]) }
}

fn counter(outcome: &Outcome, name: &str) -> u64 {
    outcome.counters[&("lines".to_owned(), name.to_owned())]
}

#[test]
fn all_tasks_together_emit_every_line_of_a_folder_once_and_count_what_they_read() {
    let big: Vec<String> = (0..400).map(|n| format!("{n:04} {}", "x".repeat(40))).collect();
    let text = format!("{}\n", big.join("\n"));
    let root = folder_of(&[
        ("big", text.as_bytes()),
        ("binary", b"a\0b"),
        ("empty", b""),
        ("latin1", b"gr\xfcn\nrot"),
        ("small", b"one\ntwo\r\n"),
    ]);
    let mut expected = big.clone();
    expected.extend(["gr\u{fffd}n", "one", "rot", "two\r"].map(str::to_owned));
    expected.sort();
    for tasks in 1..5 {
        let (texts, outcome) = collect(&options(root.path()), tasks, |_| {}).unwrap();
        assert_eq!(texts, expected, "{tasks} tasks");
        assert_eq!(counter(&outcome, "lines"), 404);
        assert_eq!(counter(&outcome, "bytes"), text.len() as u64 + 8 + 9);
        assert_eq!(counter(&outcome, "files"), 4);
        assert_eq!(counter(&outcome, "skipped_binary"), 1);
        assert_eq!(counter(&outcome, "invalid_utf8"), 1);
        assert_eq!(outcome.components["lines"].emitted, 404);
    }
}

#[test]
fn the_topologys_tuple_limit_bounds_the_pieces_of_a_line() {
    let words: Vec<String> = (0..1000).map(|n| format!("word{n}")).collect();
    let root = folder_of(&[("long", words.join(" ").as_bytes())]);
    let (texts, outcome) = collect(&options(root.path()), 1, |config| config.max_tuple_bytes = 4096).unwrap();
    assert!(texts.len() > 1);
    assert!(texts.iter().all(|text| text.len() < 4096));
    let mut found: Vec<&str> = texts.iter().flat_map(|text| text.split_whitespace()).collect();
    found.sort_unstable();
    let mut expected: Vec<&str> = words.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(counter(&outcome, "lines"), 1);
}

#[test]
fn a_missing_input_ends_the_run_with_its_path_and_the_remedy() {
    let error = collect(&options(Path::new("/no/such/input")), 1, |_| {}).err().unwrap().to_string();
    assert!(error.contains("cannot find /no/such/input"), "{error}");
    assert!(error.contains("check the path"), "{error}");
}

#[test]
fn a_word_longer_than_the_tuple_limit_ends_the_run_with_the_remedy() {
    let root = folder_of(&[("word", &[b'x'; 5000])]);
    let result = collect(&options(root.path()), 1, |config| config.max_tuple_bytes = 4096);
    let error = result.err().unwrap().to_string();
    assert!(error.contains("max_tuple_bytes"), "{error}");
}

/// A writer whose bytes the test sees, and which can be told to fail.
#[derive(Clone, Default)]
struct Paper {
    written: Rc<RefCell<Vec<u8>>>,
    flushed: Rc<RefCell<usize>>,
    room: Option<usize>,
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.written.borrow_mut();
        if self.room.is_some_and(|room| written.len() + bytes.len() > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        *self.flushed.borrow_mut() = self.written.borrow().len();
        Ok(())
    }
}

thread_local! {
    /// Where the `Print` of the test on this thread writes: factories are `Send`, so they cannot hold it.
    static PAPER: RefCell<Paper> = RefCell::default();
}

fn paper() -> Paper {
    PAPER.with(|paper| paper.borrow().clone())
}

#[test]
fn print_writes_each_tuple_and_flushes_when_a_batch_ends() {
    let mut bolt = BoltHarness::new(|| {
        Print::with(|line: TupleRef<'_, Line>, out: &mut dyn Write| writeln!(out, "> {}", line.text)).to(paper())
    });
    bolt.send(Line { text: "one".into() });
    bolt.send(Line { text: "two".into() });
    assert_eq!(*paper().written.borrow(), b"> one\n> two\n");
    assert_eq!(*paper().flushed.borrow(), 12);
    assert_eq!(bolt.acked().len(), 2);
}

#[test]
fn print_can_show_any_tuple_in_its_debug_form() {
    let mut bolt = BoltHarness::new(|| Print::<Line>::debug().to(paper()));
    bolt.send(Line { text: "one".into() });
    assert_eq!(*paper().written.borrow(), b"Line { text: \"one\" }\n");
}

#[test]
fn print_ends_its_executor_when_the_output_is_full() {
    PAPER.with(|paper| paper.borrow_mut().room = Some(30));
    let mut bolt = BoltHarness::new(|| Print::<Line>::debug().to(paper()));
    bolt.send(Line { text: "one".into() });
    let fault = bolt.try_send(Line { text: "two".into() }).unwrap_err().to_string();
    assert!(fault.contains("cannot write") && fault.contains("free the disk"), "{fault}");
}

#[test]
fn null_takes_everything_and_acknowledges_it() {
    let mut bolt = BoltHarness::new(Null::<Line>::default);
    bolt.send(Line { text: "one".into() });
    bolt.send(Line { text: "two".into() });
    assert_eq!((bolt.acked().len(), bolt.failed().len()), (2, 0));
}

/// The twin is public: authors emit lines of their own without allocating.
struct Shout;

impl Bolt for Shout {
    type In = Line;
    type Out = Stream<Line>;

    fn execute(&mut self, line: Input<'_, Line>, out: &mut Stream<Line>) -> Result<(), BoltError> {
        out.emit(LineRef { text: &line.text.to_uppercase() });
        Ok(())
    }
}

#[test]
fn lines_can_be_emitted_by_other_components() {
    let mut bolt = BoltHarness::new(|| Shout);
    bolt.send(Line { text: "one".into() });
    assert_eq!(bolt.outputs::<Line>("default"), [Line { text: "ONE".into() }]);
}
