//! The program as a process, against targets whose every fault is known: a target is a few threads of this test that speak the load
//! components' format. Figures are not asserted, counts are; a busy machine may make any run invalid (5), which is not what these ask.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use squall_load::record::{self, Stamps, Way, push_return};
use squall_load::{Address, LinkError, LinkOptions, Role, Server, Tag, Tx};
use squall_tuplegen::measure::clock::Monotonic;
use squall_tuplegen::measure::drive::{Course, Link, Pace, Polled, drive};
use squall_tuplegen::measure::latency::recorder;
use squall_tuplegen::model::arrival::{Arrival, Length, Schedule};
use squall_tuplegen::model::body::{FieldSpecs, Fields};
use squall_tuplegen::report::schema::validate;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: passes everything on to `System`; counting touches a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Gives everything back at once, from memory of its own.
struct Mirror {
    back: Vec<u8>,
    ended: bool,
}

impl Link for Mirror {
    fn try_send(&mut self, chunk: &[u8]) -> Result<bool, LinkError> {
        let mut at = 0;
        while at < chunk.len() {
            let (r, len) = record::parse(&chunk[at..]).unwrap();
            let way = Way { part: 0, parts: 1, flags: 0, ingest_ns: r.sent_ns, egress_ns: r.sent_ns };
            push_return(
                &mut self.back,
                way,
                Stamps { seq: r.seq, due_ns: r.due_ns, sent_ns: r.sent_ns },
                Some((r.body, r.check)),
            );
            at += len;
        }
        Ok(true)
    }

    fn end(&mut self) -> Result<bool, LinkError> {
        self.ended = true;
        Ok(true)
    }

    fn poll(&mut self, each: &mut dyn FnMut(&record::Return<'_>)) -> Result<Polled, LinkError> {
        if self.back.is_empty() {
            return Ok(if self.ended { Polled::Ended } else { Polled::Nothing });
        }
        let mut at = 0;
        while at < self.back.len() {
            let (r, len) = record::parse_return(&self.back[at..]).unwrap();
            each(&r);
            at += len;
        }
        self.back.clear();
        Ok(Polled::Some)
    }
}

/// Calls of the allocator by a load of so many tuples, sent and returned.
fn calls(tuples: u64) -> u64 {
    let length = Length { end_ns: u64::MAX, count: tuples };
    let mut pace = Pace::Open(Schedule::new(&Arrival::Poisson, 1e9, length, 1, None).unwrap());
    let specs =
        FieldSpecs::parse("id:u64=seq,word:str=zipf(10k,1.1),x:f64=normal(5,1)", &|_| Err(String::new())).unwrap();
    let mut body = Fields::new(specs, "64..96".parse().unwrap(), 1);
    let second = 1_000_000_000;
    let course = Course {
        warmup_ns: 0,
        end_ns: u64::MAX,
        count: tuples,
        drain_ns: second,
        interval_ns: second / 50,
        hop_mask: 7,
    };
    let mut mirror = Mirror { back: Vec::with_capacity(1 << 20), ended: false };
    let (recorder, intervals) = recorder();
    let absorbing = std::thread::spawn(move || while intervals.next(|_| {}) {});
    let before = CALLS.get();
    let stop = AtomicBool::new(false);
    let outcome = drive(&mut pace, &mut body, &course, &mut Monotonic { spin: true }, &mut mirror, recorder, &stop);
    let made = CALLS.get() - before;
    absorbing.join().unwrap();
    assert_eq!((outcome.counts.complete, outcome.due), (tuples, tuples));
    made
}

#[test]
fn a_tuple_sent_and_returned_allocates_nothing() {
    // A block of bits for each 65,536 tuples, and the list of blocks.
    let (short, long) = (calls(65_536), calls(4 * 65_536));
    assert!(long - short < 12, "{short} calls of the allocator for 65,536 tuples, {long} for four times as many");
}

fn tuplegen(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuplegen"));
    command.args(args).stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    tuplegen(args).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(out: &Output) -> Value {
    let value: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out.stderr)));
    assert_eq!(validate(&value), Vec::<String>::new());
    value
}

fn code(out: &Output) -> i32 {
    out.status.code().unwrap_or_else(|| panic!("killed: {}", text(&out.stderr)))
}

/// What a target does to tuples, by their numbers.
#[derive(Clone, Copy, Default)]
struct Faults {
    drop: u64,
    double: u64,
    damage: u64,
    /// Holds it back behind the next one.
    swap: u64,
    /// Hangs up after so many.
    die: u64,
}

impl Faults {
    fn hits(every: u64, seq: u64) -> bool {
        every > 0 && seq % every == every - 1
    }
}

/// A target that gives everything back, but for its faults. It ends with its generator.
struct Target {
    ingest: String,
    egress: String,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Target {
    fn start(dir: &Path, kind: &str, faults: Faults) -> Target {
        let (ingest, egress) = match kind {
            "tcp" => (free_port(), free_port()),
            kind => (format!("{kind}:{}/in", dir.display()), format!("{kind}:{}/out", dir.display())),
        };
        let address = |text: &str| text.parse::<Address>().unwrap();
        let servers = (Server::bind(&address(&ingest)).unwrap(), Server::bind(&address(&egress)).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = Some(std::thread::spawn(move || serve(&servers.0, &servers.1, faults, &told)));
        Target { ingest, egress, thread, stop }
    }

    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        ["run", "--ingest", &self.ingest, "--egress", &self.egress, "-q"]
            .into_iter()
            .chain(more.iter().copied())
            .collect()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let served = thread.join();
            assert!(served.is_ok() || std::thread::panicking(), "the target failed; see its message above");
        }
    }
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp:{}", listener.local_addr().unwrap())
}

fn accept(server: &Server, role: Role, stop: &AtomicBool) -> Option<squall_load::Connected> {
    while !stop.load(Ordering::Relaxed) {
        if let Ok(Some(connected)) = server.accept(role, None, &LinkOptions::default(), Duration::from_millis(20)) {
            return Some(connected);
        }
    }
    None
}

fn send(tx: &mut Tx, tag: Tag, chunk: &[u8], stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        match tx.try_send(tag, chunk) {
            Ok(true) => {
                while matches!(tx.flush(), Ok(false)) && !stop.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                return true;
            }
            Ok(false) => std::thread::yield_now(),
            Err(_) => return false,
        }
    }
    false
}

fn serve(ingest: &Server, egress: &Server, faults: Faults, stop: &AtomicBool) {
    let Some(mut tx) = accept(egress, Role::Egress, stop).and_then(|c| c.tx) else { return };
    let Some(mut rx) = accept(ingest, Role::Ingest, stop).and_then(|c| c.rx) else { return };
    let mut held: Vec<u8> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut back = Vec::new();
        match rx.peek() {
            Ok(Some((Tag::Data, chunk))) => {
                let mut at = 0;
                while at < chunk.len() {
                    let (r, len) = record::parse(&chunk[at..]).unwrap();
                    at += len;
                    if faults.die > 0 && r.seq >= faults.die {
                        return;
                    }
                    if Faults::hits(faults.drop, r.seq) {
                        continue;
                    }
                    let way = Way { part: 0, parts: 1, flags: 0, ingest_ns: r.sent_ns, egress_ns: r.sent_ns };
                    let mut one = Vec::new();
                    let stamps = Stamps { seq: r.seq, due_ns: r.due_ns, sent_ns: r.sent_ns };
                    push_return(&mut one, way, stamps, Some((r.body, r.check)));
                    if Faults::hits(faults.damage, r.seq) {
                        *one.last_mut().unwrap() ^= 0x40;
                    }
                    if Faults::hits(faults.double, r.seq) {
                        one.extend_from_within(..);
                    }
                    if Faults::hits(faults.swap, r.seq) {
                        held = one;
                    } else {
                        back.extend_from_slice(&one);
                        back.append(&mut held);
                    }
                }
                rx.release();
            }
            Ok(Some((Tag::End, _))) => {
                send(&mut tx, Tag::Data, &held, stop);
                send(&mut tx, Tag::End, &[], stop);
                // The generator hangs up when it has read that.
                rx.release();
                while !rx.is_gone() && !stop.load(Ordering::Relaxed) {
                    let _ = rx.peek();
                    std::thread::sleep(Duration::from_millis(1));
                }
                return;
            }
            Ok(None) => std::thread::sleep(Duration::from_micros(200)),
            Err(_) => return,
        }
        if !back.is_empty() && !send(&mut tx, Tag::Data, &back, stop) {
            return;
        }
    }
}

#[test]
fn known_faults_of_a_target_are_counted_exactly_over_every_kind_of_link() {
    const N: u64 = 20_000;
    for kind in ["unix", "tcp", "shm"] {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults { drop: 997, double: 501, damage: 1501, swap: 777, die: 0 };
        let target = Target::start(dir.path(), kind, faults);
        let out = output(&target.args(&[
            "-n",
            "20k",
            "-R",
            "100k",
            "--drain",
            "2s",
            "--fields",
            "id:u64=seq",
            "--size",
            "64",
            "--format",
            "json",
        ]));
        let run = json(&out);
        let counted = |name: &str| run["counts"][name].as_u64().unwrap();
        let hit = |every: u64, seq: &u64| Faults::hits(every, *seq);
        let back: Vec<u64> = (0..N).filter(|s| !hit(faults.drop, s)).collect();
        let damaged = |s: &u64| hit(faults.damage, s);
        assert_eq!(counted("sent"), N, "{kind}: {}", text(&out.stderr));
        assert_eq!(counted("lost"), N - back.len() as u64, "{kind}");
        let doubled = back.iter().filter(|s| hit(faults.double, s));
        assert_eq!(counted("duplicates"), doubled.clone().filter(|s| !damaged(s)).count() as u64, "{kind}");
        let corrupt: u64 = back.iter().filter(|s| damaged(s)).map(|s| 1 + u64::from(hit(faults.double, s))).sum();
        assert_eq!(counted("corrupt"), corrupt, "{kind}");
        // Held back behind the next that came back intact.
        let late = back.iter().filter(|s| hit(faults.swap, s) && !damaged(s));
        let overtaken = late.filter(|s| back.iter().any(|n| n > s && !damaged(n))).count() as u64;
        assert_eq!(counted("reordered"), overtaken, "{kind}");
        assert_eq!(
            counted("complete") + counted("lost") + back.iter().filter(|s| damaged(s)).count() as u64,
            N,
            "{kind}"
        );
        assert!([4, 5].contains(&code(&out)), "{kind}: {}", run["verdict"]);
    }
}

#[test]
fn a_target_that_dies_is_an_error_that_says_so_and_the_report_of_the_part_is_kept() {
    for kind in ["unix", "shm"] {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::start(dir.path(), kind, Faults { die: 2_000, ..Faults::default() });
        let kept = dir.path().join("kept");
        let began = Instant::now();
        let out = output(&target.args(&["-d", "60s", "-R", "10k", "-o", kept.to_str().unwrap(), "--format", "json"]));
        let run = json(&out);
        assert_eq!(code(&out), 1, "{kind}: {}", text(&out.stderr));
        assert!(began.elapsed() < Duration::from_secs(40), "it does not wait for the end of the load");
        let reason = run["verdict"]["reasons"][0].as_str().unwrap();
        assert!(reason.contains("the target is gone") && reason.contains("closed the link"), "{reason}");
        let saved: Value = serde_json::from_str(&std::fs::read_to_string(kept.join("run.json")).unwrap()).unwrap();
        assert!(saved["counts"]["complete"].as_u64().unwrap() > 0 && saved["due"] == 600_000, "{}", saved["counts"]);
        assert!(std::fs::read_to_string(kept.join("ERROR")).unwrap().contains("gone"));
    }
}

#[test]
fn an_interrupt_ends_the_load_and_keeps_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("kept");
    let args = ["run", "--builtin", "const-null", "-R", "2k", "-d", "100s", "--no-tui", "-o", kept.to_str().unwrap()];
    let mut child = tuplegen(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Its first line of progress shows that it measures.
    let mut first = String::new();
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut first).unwrap();
    assert!(first.contains("sent"), "{first}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(code(&out), 130);
    assert!(text(&out.stdout).contains("interrupted"), "{}", text(&out.stdout));
    let run: Value = serde_json::from_str(&std::fs::read_to_string(kept.join("run.json")).unwrap()).unwrap();
    assert_eq!(validate(&run), Vec::<String>::new());
    assert!(run["interrupted"] == true && run["counts"]["complete"].as_u64().unwrap() > 0);
    assert_eq!(run["counts"]["lost"], 0, "what is under way is waited for");
}

/// Runs a scenario and checks that every tuple came back and its oracle agreed.
fn scenario(name: &str, more: &[&str]) -> Value {
    let args = ["run", "--builtin", name, "-n", "3k", "-R", "30k", "-q", "--format", "json"];
    let out = output(&args.iter().chain(more).copied().collect::<Vec<_>>());
    let run = json(&out);
    assert!([0, 5].contains(&code(&out)), "{name}: {} {}", run["verdict"], text(&out.stderr));
    let counts = &run["counts"];
    assert_eq!(
        (&counts["sent"], &counts["complete"], &counts["lost"], &counts["corrupt"]),
        (&3000.into(), &3000.into(), &0.into(), &0.into()),
        "{name}"
    );
    run
}

#[test]
fn every_scenario_answers_and_verifies_itself() {
    for s in &squall_tuplegen::target::builtin::SCENARIOS {
        // A millisecond a tuple is for machines with time.
        let more: &[&str] = if s.name == "back-pressure" { &["--service", "10us"] } else { &[] };
        let run = scenario(s.name, more);
        let counted =
            ["wordcount", "file-wordcount", "simplified-wordcount", "throughput-vs-latency", "rekey", "yahoo"]
                .contains(&s.name);
        let notes = run["notes"].to_string();
        assert_eq!(notes.contains("compared with a plain pass over 3000 tuples"), counted, "{}: {notes}", s.name);
    }
    scenario("wordcount", &["--acks"]);
    scenario("const-id-null", &["--acks", "--size", "64..300"]);
}

#[test]
fn a_run_leaves_a_directory_from_which_everything_can_be_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let out = output(&["run", "--builtin", "wordcount", "-R", "5k", "-d", "1s", "-q", "-o", at, "--format", "csv"]);
    assert!([0, 5].contains(&code(&out)), "{}", text(&out.stderr));
    assert_eq!(text(&out.stdout).lines().count(), 2);
    for name in
        ["run.json", "latency.hlog", "intended.hgrm", "actual.hgrm", "late.hgrm", "timeseries.csv", "report.html"]
    {
        assert!(std::fs::metadata(dir.path().join(name)).unwrap().len() > 0, "{name}");
    }
    assert_eq!(code(&output(&["validate", &format!("{at}/run.json")])), 0);
    let page = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    for outside in ["http:", "https:", "src=", "href=", "@import", "url(", "<script"] {
        assert!(!page.contains(outside), "the page is not self-contained: {outside}");
    }
    assert!(page.contains("Latency by percentile") && page.contains("split → count"), "plots and hops");
    assert_eq!(text(&output(&["report", at, "--format", "html"]).stdout), page, "the page is made from run.json alone");
    assert!(text(&output(&["report", at]).stdout).contains("from the time at which tuples were due"));
    let same = output(&["compare", at, at]);
    assert!(code(&same) == 0 && text(&same.stdout).contains("too few trials"), "{}", text(&same.stdout));
}

#[test]
fn a_recorded_stream_is_played_back_to_the_last_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let load = [
        "--arrival",
        "poisson",
        "-R",
        "20k",
        "-n",
        "2k",
        "--fields",
        "id:u64=seq,word:str=zipf(100,1.1)",
        "--size",
        "64..200",
        "--seed",
        "7",
    ];
    let (a, b) = (path("a"), path("b"));
    assert_eq!(code(&output(&[&["record"], &load[..], &["-o", &a]].concat())), 0);
    assert_eq!(code(&output(&["record", "--replay", &a, "-o", &b])), 0);
    assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap());
    let out = output(&["run", "--builtin", "echo", "--replay", &a, "-q", "--format", "json"]);
    assert_eq!(json(&out)["counts"]["complete"], 2000);
    let shown = text(&output(&[&["preview"], &load[..]].concat()).stdout);
    assert!(shown.contains("poisson") && shown.contains("word") && shown.contains("distinct values"), "{shown}");
}

#[test]
fn every_other_json_fits_the_schema_and_usage_errors_exit_with_two() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    json(&output(&["jitter", "-d", "20ms", "--format", "json"]));
    let sweep = [
        "sweep",
        "--builtin",
        "const-null",
        "-d",
        "300ms",
        "--vary",
        "rate=1k,2k",
        "--trials",
        "3",
        "-o",
        at,
        "--format",
        "json",
    ];
    let swept = json(&output(&sweep));
    assert_eq!(swept["runs"].as_array().unwrap().len(), 6);
    let again = output(&[&sweep[..], &["--resume"]].concat());
    assert!(!text(&again.stderr).contains("of 6"), "nothing is run again: {}", text(&again.stderr));
    json(&output(&["compare", at, at, "--format", "json"]));
    let same = text(&output(&["compare", at, at]).stdout);
    assert!(same.contains("no detectable difference"), "{same}");
    let knee = output(&[
        "knee",
        "--builtin",
        "const-null",
        "--slo",
        "p50<10s",
        "--lo",
        "1k",
        "--hi",
        "2k",
        "-d",
        "300ms",
        "-q",
        "--format",
        "json",
    ]);
    json(&knee);
    for wrong in [
        &["run"][..],
        &["run", "--builtin", "nothing"],
        &["knee", "--builtin", "echo"],
        &["run", "--builtin", "echo", "-R", "x"],
        &["frobnicate"],
        &["sweep", "--builtin", "echo", "--vary", "colour=red", "-o", at],
    ] {
        let out = output(wrong);
        assert_eq!(code(&out), 2, "{wrong:?}: {}", text(&out.stderr));
    }
    let gone = output(&["run", "--ingest", "unix:/no/such", "--egress", "unix:/no/such"]);
    assert!(code(&gone) == 1 && text(&gone.stderr).contains("is the topology running"), "{}", text(&gone.stderr));
}

#[test]
fn a_capture_is_played_back_and_verified() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/capture.yaml");
    for more in [&["-d", "1s", "--warmup", "100ms"][..], &["-n", "2k", "-R", "max"], &["-n", "1k", "--closed", "20"]] {
        let out = output(&[&["run", "--capture", file, "-q", "--format", "json", "--parallel", "0.5"], more].concat());
        let run = json(&out);
        assert!([0, 5].contains(&code(&out)), "{more:?}: {} {}", run["verdict"], text(&out.stderr));
        let counts = &run["counts"];
        assert!(counts["complete"].as_u64() > Some(500), "{more:?}: {counts}");
        assert_eq!((&counts["complete"], &counts["lost"]), (&counts["sent"], &0.into()), "{more:?}");
        assert_eq!((&run["job"]["target"], &run["job"]["acks"]), (&"genload orders".into(), &true.into()));
        let notes = run["notes"].to_string();
        assert!(notes.contains("what bolts were given compared with") && notes.contains("cpuLoad"), "{notes}");
    }
}

#[test]
fn options_come_from_a_job_file_and_a_run_leaves_one() {
    let dir = tempfile::tempdir().unwrap();
    let (job, out) = (dir.path().join("load.yaml"), dir.path().join("out"));
    std::fs::write(&job, "builtin: const-null\ncount: 500\nrate: 50k\nsize: 64\nseed: 9\n").unwrap();
    let (job, at) = (job.to_str().unwrap(), out.to_str().unwrap());
    let run = json(&output(&["run", "--job", job, "-n", "700", "-q", "--format", "json", "-o", at]));
    let of_job = &run["job"];
    assert_eq!((&of_job["seed"], &of_job["size"], &of_job["count"]), (&9.into(), &"64".into(), &700.into()));
    let left = out.join("job.yaml");
    let again = json(&output(&["run", "--job", left.to_str().unwrap(), "-q", "--format", "json"]));
    assert_eq!(again["job"], run["job"]);
    let printed = output(&["run", "--job", left.to_str().unwrap(), "--print-job"]);
    assert_eq!((code(&printed), text(&printed.stdout)), (0, std::fs::read_to_string(left).unwrap()));
    let wrong = output(&["run", "--job", "/no/such"]);
    assert!(code(&wrong) == 2 && text(&wrong.stderr).contains("/no/such"), "{}", text(&wrong.stderr));
}

#[test]
fn wrong_uses_are_told_with_what_to_do_and_end_with_two() {
    for (line, remedy) in [
        ("run", "give --builtin"),
        ("run --builtin nothing", "tuplegen list"),
        ("run --builtin echo -R x", "write for example"),
        ("run --builtin echo -R 0", "more than 0"),
        ("run --builtin echo -R 1e300", "at most 1G"),
        ("run --builtin echo -d x", "write for example"),
        ("run --builtin echo -n 0", "more than 0"),
        ("run --builtin echo --warmup 1x", "write for example"),
        ("run --builtin echo --drain x", "write for example"),
        ("run --builtin echo --seed x", "--seed"),
        ("run --builtin echo --arrival x", "constant, poisson"),
        ("run --builtin echo --closed x", "--closed"),
        ("run --builtin echo --fields a", "name:type=distribution"),
        ("run --builtin echo --keys zipf:0:1", "at least one"),
        ("run --builtin echo --key a", "--keys"),
        ("run --builtin echo --size 0", "32 to 65536"),
        ("run --builtin echo --size 1T", "write for example"),
        ("run --builtin echo --slo p99<", "write for example"),
        ("run --builtin echo --allow x", "loss, dup or reorder"),
        ("run --builtin echo --noise-gate x", "write for example"),
        ("run --builtin echo --service x", "write for example"),
        ("run --builtin echo --stall 1s", "AFTER:LENGTH"),
        ("run --builtin echo --wait x", "spin, hybrid or park"),
        ("run --builtin echo --reactors 0", "at least one"),
        ("run --builtin echo --ring 1", "128KiB"),
        ("run --builtin echo --hop-sample 0", "power of two"),
        ("run --builtin echo --cpu 9999", "may use the cores"),
        ("run --builtin echo --format xml", "text, json, csv"),
        ("run --builtin echo --no-shm", "--local"),
        ("run --builtin wordcount --text /no/such", "/no/such"),
        ("run --builtin wordcount --text /dev/null", "--text"),
        ("run --builtin echo --replay /no/such", "/no/such"),
        ("run --builtin echo --replay /proc/self/exe", "tuplegen record"),
        ("run --ingest x --egress unix:/x", "tcp:HOST:PORT"),
        ("run --ingest unix:/x", "--egress"),
        ("run --capture /no/such", "/no/such"),
        ("run --capture /dev/null", "neither spouts nor bolts"),
        ("knee --builtin echo", "--slo"),
        ("knee --builtin echo --slo p99<1s --closed 4", "leave --closed"),
        ("sweep --builtin echo --vary colour=red -o /tmp/x", "cannot be varied"),
        ("compare --a x", "--b"),
        ("record --builtin echo --closed 4 -o /tmp/x", "no times to record"),
        ("preview --closed 4", "no schedule"),
        ("calibrate -R x", "write for example"),
        ("frobnicate", "--help"),
    ] {
        let out = output(&line.split_whitespace().collect::<Vec<_>>());
        let told = text(&out.stderr);
        assert_eq!(code(&out), 2, "{line}: {told}");
        assert!(told.contains(remedy) && !told.contains("panicked"), "{line}: {told}");
        assert!(out.stdout.is_empty(), "{line}: nothing is shown as a result");
    }
}

#[test]
fn what_cannot_be_read_reached_or_written_ends_with_one() {
    for (line, cause) in [
        ("run --local /no/such", "/no/such"),
        ("run --local /bin/false", "exit status: 1"),
        ("run --ingest unix:/no/such --egress unix:/no/such", "is the topology running"),
        ("run --builtin echo -n 10 -q -o /proc/no/such", "/proc/no/such"),
        ("run --builtin echo -n 10 -q -o /dev/null/x", "/dev/null/x"),
        ("record --builtin echo -n 10 -o /no/such/trace", "/no/such/trace"),
        ("report /no/such", "/no/such"),
        ("validate /no/such", "/no/such"),
        ("compare /no/such /no/such", "/no/such"),
    ] {
        let out = output(&line.split_whitespace().collect::<Vec<_>>());
        let told = text(&out.stderr);
        assert!(code(&out) == 1 && told.contains(cause) && !told.contains("panicked"), "{line}: {} {told}", code(&out));
    }
}

/// A disk without room: files of this process may have 512 bytes, and its signal for that is ignored.
#[test]
fn a_result_that_finds_no_room_on_disk_is_shown_all_the_same_and_the_run_fails() {
    let dir = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_tuplegen");
    let script = format!(
        "trap '' XFSZ; ulimit -f 1; exec {program} run --builtin const-null -n 2k -R 20k -q -o {}",
        dir.path().display()
    );
    let out = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
    let told = text(&out.stderr);
    assert!(
        code(&out) == 1 && told.contains("cannot write") && told.contains("File too large"),
        "{} {told}",
        code(&out)
    );
    let shown = text(&out.stdout);
    assert!(shown.contains("complete 2,000") && !shown.contains("saved in"), "{shown}");
}

#[test]
fn a_result_that_nobody_can_take_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = tuplegen(&["run", "--builtin", "const-null", "-n", "100", "-q"]).stdout(full).output().unwrap();
    assert!(code(&out) == 1 && text(&out.stderr).contains("cannot write the result"), "{}", text(&out.stderr));
}

/// A bolt that never comes back: the run ends by itself, with an error, and what was measured is kept.
#[test]
fn a_topology_that_hangs_is_an_error_and_not_a_run_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let args = [
        "run",
        "--builtin",
        "const-null",
        "-n",
        "50",
        "-R",
        "1k",
        "--service",
        "2h",
        "--drain",
        "100ms",
        "-q",
        "-o",
        at,
    ];
    let out = output(&args);
    assert_eq!(code(&out), 1, "{}", text(&out.stdout));
    assert!(std::fs::read_to_string(dir.path().join("ERROR")).unwrap().contains("a bolt hangs"));
}
