//! A producer that is stopped and killed between any two of its instructions leaves whole records, nothing torn, and no memory.
//!
//! The producer is a real process that pushes into a shared segment. It is traced: after each single instruction it stands still, and what the
//! consumer sees then is what it would see if the process had died there. A first run looks after every instruction; others kill the process for
//! good after ever more of them. Where tracing is forbidden this says so and passes: the unit tests stop a producer at every store.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Child, Command, ExitCode};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use squall_ring::{PushError, ShmLink, ShmSizes, Trust};

const SIZES: ShmSizes = ShmSizes { ring_bytes: 1024, creator_inboxes: 1, opener_inboxes: 1 };
/// Lengths of the records that the child pushes; together several times around the ring, with skips.
const LENGTHS: [usize; 12] = [0, 448, 1, 64, 300, 65, 448, 200, 63, 320, 8, 448];
/// What the child adds to its credit with each record: a change in every byte.
const CREDIT: u64 = 0x0101_0101_0101_0101;
/// Processes that are killed, at different instructions.
const KILLS: u64 = 48;
/// Exit code of a child that may not be traced.
const UNTRACED: u8 = 77;
const FD_VARIABLE: &str = "SQUALL_RING_KILLER_FD";

fn main() -> ExitCode {
    if let Ok(fd) = std::env::var(FD_VARIABLE) {
        return child(fd.parse().expect("the parent writes a number"));
    }
    let at_rest = holdings();
    let Some(whole) = observe(u64::MAX) else {
        println!("tracing is forbidden here: no process was killed; the unit tests stop a producer at every store");
        return ExitCode::SUCCESS;
    };
    assert_eq!(whole.records, LENGTHS.len(), "an undisturbed child pushes everything");
    assert!(whole.steps > 1000, "{} instructions are too few to be the pushes", whole.steps);
    assert_eq!(holdings(), at_rest, "(descriptors, mappings of segments) after the child's end");
    let mut seen = Vec::new();
    for kill in 0..KILLS {
        // Another residue each time.
        let steps = kill * whole.steps / KILLS + kill % 7;
        let run = observe(steps).expect("the first child could be traced");
        assert_eq!(run.steps, steps);
        seen.push(run.records);
        assert_eq!(holdings(), at_rest, "(descriptors, mappings of segments) after a kill at instruction {steps}");
    }
    assert!(seen.is_sorted() && seen[0] == 0 && *seen.last().expect("48") > LENGTHS.len() / 2, "{seen:?}");
    println!("{} instructions looked after, {KILLS} processes killed between them: no torn record", whole.steps);
    ExitCode::SUCCESS
}

/// Pushes all records and stops being traced by ending.
fn child(fd: RawFd) -> ExitCode {
    // SAFETY: `from_raw_fd` demands an open descriptor that nobody else owns: the parent left this one open for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut link = ShmLink::open(fd, SIZES, Trust::Peer).expect("the segment is sound");
    let records: Vec<Vec<u8>> = (0..LENGTHS.len()).map(record).collect();
    if ptrace::traceme().is_err() {
        return ExitCode::from(UNTRACED);
    }
    raise(Signal::SIGSTOP).expect("a process may stop itself");
    for (tag, record) in records.iter().enumerate() {
        while link.producer.try_push(tag as u32, record) == Err(PushError::Full) {}
        link.source.add(0, CREDIT);
    }
    ExitCode::SUCCESS
}

fn record(tag: usize) -> Vec<u8> {
    (0..LENGTHS[tag]).map(|at| (at * 31 + tag * 7 + 1) as u8).collect()
}

struct Seen {
    /// Instructions that the child made.
    steps: u64,
    /// Whole records that came.
    records: usize,
}

/// Lets a child make `limit` instructions, looking after each, and kills it then. `None` if it cannot be traced.
#[expect(clippy::zombie_processes, reason = "`waitpid` waits for the child: it sees stops too")]
fn observe(limit: u64) -> Option<Seen> {
    let (mut link, fd) = ShmLink::create(SIZES, Trust::Peer).expect("shared memory can be had");
    let mut process = spawn(&fd);
    drop(fd);
    let pid = Pid::from_raw(process.id() as i32);
    match waitpid(pid, None).expect("our child") {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
        WaitStatus::Exited(_, code) if code == i32::from(UNTRACED) => return None,
        other => panic!("the child did not get ready: {other:?}"),
    }
    let mut seen = Seen { steps: 0, records: 0 };
    let mut alive = true;
    while alive && seen.steps < limit {
        if ptrace::step(pid, None).is_err() {
            assert_eq!(seen.steps, 0, "a child that was stepped once can be stepped on");
            process.kill().expect("it is alive");
            process.wait().expect("our child");
            return None;
        }
        match waitpid(pid, None).expect("our child") {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => seen.steps += 1,
            WaitStatus::Exited(_, 0) => alive = false,
            other => panic!("after {} instructions: {other:?}", seen.steps),
        }
        look(&mut link, &mut seen);
    }
    if alive {
        process.kill().expect("it is alive");
        assert!(matches!(waitpid(pid, None), Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _))));
        // All that it had published was taken after its last instruction; nothing comes after its death.
        let before = seen.records;
        look(&mut link, &mut seen);
        assert_eq!(seen.records, before, "a record came after the death of its producer");
    }
    Some(seen)
}

fn spawn(fd: &OwnedFd) -> Child {
    let inherited = rustix::io::fcntl_dupfd_cloexec(fd, 3).expect("there are descriptors");
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).expect("our descriptor");
    let program = std::env::current_exe().expect("this program has a path");
    let child = Command::new(program).env(FD_VARIABLE, inherited.as_raw_fd().to_string()).spawn();
    child.expect("this program can be started again")
}

/// Takes what is published, and checks each byte of it.
fn look(link: &mut ShmLink, seen: &mut Seen) {
    while let Some((tag, bytes)) = link.consumer.peek().expect("no corruption, wherever the producer stands") {
        assert_eq!(tag as usize, seen.records, "after {} instructions", seen.steps);
        assert!(bytes == record(seen.records), "record {tag} is torn after {} instructions", seen.steps);
        link.consumer.release();
        seen.records += 1;
    }
    let credit = link.credit.consumed(0);
    let due = [seen.records.saturating_sub(1), seen.records].map(|records| CREDIT.wrapping_mul(records as u64));
    assert!(due.contains(&credit), "credit {credit:#x} is torn after {} instructions", seen.steps);
}

/// Open descriptors, and mappings of segments, of this process.
fn holdings() -> (usize, usize) {
    let maps = fs::read_to_string("/proc/self/maps").expect("Linux has it");
    let fds = fs::read_dir("/proc/self/fd").expect("Linux has it").count();
    (fds, maps.lines().filter(|line| line.contains("squall-link")).count())
}
