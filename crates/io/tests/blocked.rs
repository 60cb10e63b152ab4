//! Where io_uring is blocked, the choice `auto` carries on with epoll and says why and what to do; the choice `io_uring` is an error that says the
//! same.

#[path = "support/confine.rs"]
mod confine;

use confine::{ROLE, child, forbid, limit_locked_memory};
use squall_io::{Closed, EventSink, IoChoice, IoError, IoKind, IoOptions, StreamId, open, probe};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

/// What the children run; nothing in the parent.
#[test]
fn the_confined_child_reports() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    if let Some(bytes) = role.strip_prefix("memlock=")
        && !limit_locked_memory(bytes.parse().expect("a number of bytes"))
    {
        println!("\nskipped=1");
        return;
    }
    let probed = probe();
    let (driver, warning) = open::<Vec<u8>>(IoChoice::Auto, &IoOptions::default()).expect("auto always finds a driver");
    println!("\nusable={}", probed.usable);
    println!("cause={}", probed.cause.unwrap_or_default());
    println!("kind={}", driver.kind());
    println!("warning={}", warning.unwrap_or_default());
    match open::<Vec<u8>>(IoChoice::IoUring, &IoOptions::default()) {
        Ok(_) => println!("error="),
        Err(e @ IoError::IoUringUnusable { .. }) => println!("error={e}"),
        Err(e) => panic!("{e}"),
    }
    let (echo, notes) = echo(driver);
    println!("notes={}\necho={echo}", notes.join("; "));
}

/// What arrives through the driver while it sends, and what it does without.
fn echo(mut driver: Box<dyn squall_io::Driver<Vec<u8>>>) -> (String, Vec<String>) {
    struct Nothing;
    impl EventSink<Vec<u8>> for Nothing {
        fn on_readable(&mut self, _: StreamId) {}
        fn on_sent(&mut self, _: StreamId, _: Vec<u8>) {}
        fn on_closed(&mut self, _: StreamId, _: Closed) {}
    }
    let others: usize = std::env::var(OTHERS).map_or(0, |n| n.parse().expect("a number"));
    let _others: Vec<_> = (0..others)
        .map(|_| {
            let (ours, theirs) = UnixStream::pair().expect("a socket pair");
            (driver.add_stream(ours.into(), 4096).expect("a stream"), theirs)
        })
        .collect();
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    let (id, window) = driver.add_stream(ours.into(), 4096).expect("a stream");
    theirs.write_all(b"it works").expect("room");
    driver.send(id, b"out".to_vec());
    for _ in 0..100 {
        driver.wait(Some(Duration::from_millis(100)), &mut Nothing).expect("the driver works");
        if window.unread().len() == 8 && driver.queued(id) == 0 {
            break;
        }
    }
    (String::from_utf8_lossy(window.unread()).into_owned(), driver.notes().to_vec())
}

struct Report(String);

impl Report {
    fn of(mut command: Command) -> Report {
        let output = command.output().expect("the child runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        Report(text)
    }

    fn get(&self, key: &str) -> &str {
        let line = self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {key} in the child's report:\n{}", self.0))
    }

    /// It fell back, works, and says in all three places what `words` ask for.
    fn assert_blocked(&self, words: &[&str]) {
        assert_eq!((self.get("usable"), self.get("kind"), self.get("echo")), ("false", "epoll", "it works"));
        for text in [self.get("cause"), self.get("warning"), self.get("error")] {
            for word in words {
                assert!(text.contains(word), "`{word}` is missing in: {text}");
            }
        }
    }
}

/// Environment of the child: streams beside the one that is used.
const OTHERS: &str = "SQUALL_IO_TEST_OTHERS";
const TEST: &str = "the_confined_child_reports";

#[test]
fn an_unconfined_child_agrees_with_the_probe_here() {
    let report = Report::of(child(TEST, "free"));
    let usable = probe().usable;
    assert_eq!(report.get("usable"), usable.to_string());
    assert_eq!(report.get("kind"), if usable { IoKind::IoUring } else { IoKind::Epoll }.to_string());
    assert_eq!(report.get("warning").is_empty(), usable);
    assert_eq!(report.get("echo"), "it works");
}

#[test]
fn a_seccomp_filter_that_forbids_the_set_up_is_named_with_its_remedy() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let mut command = child(TEST, "seccomp");
        forbid(&mut command, libc::SYS_io_uring_setup, errno);
        Report::of(command).assert_blocked(&["io_uring_setup", "seccomp", "--security-opt seccomp=unconfined"]);
    }
}

#[test]
fn a_seccomp_filter_that_forbids_a_later_call_is_found_before_the_driver_is_used() {
    if !probe().usable {
        eprintln!("skipped: io_uring cannot be used here at all");
        return;
    }
    let mut command = child(TEST, "seccomp");
    forbid(&mut command, libc::SYS_io_uring_enter, libc::EPERM);
    Report::of(command).assert_blocked(&["io_uring_enter", "seccomp"]);
}

#[test]
fn where_nothing_can_be_registered_io_uring_works_without_and_says_so() {
    if !probe().usable {
        eprintln!("skipped: io_uring cannot be used here at all");
        return;
    }
    let mut command = child(TEST, "seccomp");
    forbid(&mut command, libc::SYS_io_uring_register, libc::EPERM);
    let report = Report::of(command);
    assert_eq!((report.get("kind"), report.get("echo")), ("io_uring", "it works"));
    for words in ["no incremental receive buffers", "registers no files"] {
        assert!(report.get("notes").contains(words), "{}", report.get("notes"));
    }
    assert_eq!(Report::of(child(TEST, "free")).get("notes"), "", "unconfined it has everything");
}

#[test]
fn too_little_locked_memory_is_named_with_its_remedy() {
    let report = Report::of(child(TEST, "memlock=0"));
    if !probe().usable || report.0.contains("skipped=1") {
        eprintln!("skipped: io_uring cannot be used here at all, or the limit cannot be set");
        return;
    }
    report.assert_blocked(&["locked memory", "0 KiB", "ulimit -l"]);
}

#[test]
fn a_few_reactors_fit_into_the_smallest_usual_limit_of_locked_memory() {
    // Two rings here, the probe's and the driver's: the kernel may count the first for a while after it was closed.
    let report = Report::of(child(TEST, "memlock=65536"));
    if !probe().usable || report.0.contains("skipped=1") {
        eprintln!("skipped: io_uring cannot be used here at all, or the limit cannot be set");
        return;
    }
    assert_eq!((report.get("kind"), report.get("echo")), ("io_uring", "it works"), "{}", report.get("warning"));
    assert_eq!(report.get("notes"), "", "one stream has all it wants");
}

#[test]
fn streams_that_exceed_the_locked_memory_receive_without_registered_buffers_and_the_driver_says_so() {
    let mut command = child(TEST, "memlock=65536");
    command.env(OTHERS, "40");
    let report = Report::of(command);
    if !probe().usable || report.0.contains("skipped=1") {
        eprintln!("skipped: io_uring cannot be used here at all, or the limit cannot be set");
        return;
    }
    assert_eq!((report.get("kind"), report.get("echo")), ("io_uring", "it works"), "{}", report.get("warning"));
    let notes = report.get("notes");
    assert!(notes.contains("registers no more receive buffers") && notes.contains("ulimit -l 65536"), "{notes}");
    assert_eq!(notes.matches("no more receive buffers").count(), 1, "said once: {notes}");
}
