//! The same run on poorer machines: io_uring forbidden, little lockable memory, one core, an ordinary user.
#![allow(missing_docs)]

mod common;

use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use common::{cpu, fixture, rss, run, wait, workers};

fn report(dir: &tempfile::TempDir) -> (String, impl Fn() -> serde_json::Value) {
    let path = dir.path().join("r.json");
    let text = path.to_str().unwrap().to_owned();
    (text, move || serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap())
}

#[test]
fn epoll_by_choice_and_by_environment_is_named_in_the_report() {
    for (flag, env) in [(Some("epoll"), None), (None, Some("epoll"))] {
        let dir = tempfile::tempdir().unwrap();
        let (path, json) = report(&dir);
        let mut c = fixture(&["--tuples", "5000", "--report", &path]);
        if let Some(io) = flag {
            c.args(["--io", io]);
        }
        if let Some(io) = env {
            c.env("SQUALL_IO", io);
        }
        run(&mut c).exits(0).says(&["epoll"]);
        assert_eq!(json()["io"], "epoll");
        assert_eq!(json()["components"]["sum"]["executed"], 10_000);
    }
}

#[test]
fn where_io_uring_is_forbidden_the_run_says_so_and_goes_on_with_epoll() {
    let dir = tempfile::tempdir().unwrap();
    let (path, json) = report(&dir);
    let mut c = fixture(&["--tuples", "5000", "--report", &path]);
    // SAFETY: `forbid` only makes two system calls on memory of its own, which is allowed between fork and exec.
    unsafe { c.pre_exec(forbid_io_uring) };
    run(&mut c).exits(0).says(&["io_uring", "epoll"]);
    assert_eq!(json()["io"], "epoll");
    assert_eq!(json()["components"]["sum"]["executed"], 10_000);
    let mut c = fixture(&["--tuples", "5000", "--io", "io_uring"]);
    // SAFETY: as above.
    unsafe { c.pre_exec(forbid_io_uring) };
    run(&mut c).exits(1).says(&["io_uring was asked for but cannot be used"]);
}

#[test]
fn where_memory_cannot_be_shared_the_run_says_so_and_goes_on_with_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let (path, json) = report(&dir);
    let mut c = fixture(&["--tuples", "5000", "--report", &path]);
    // SAFETY: as above.
    unsafe { c.pre_exec(|| forbid(libc::SYS_memfd_create)) };
    run(&mut c).exits(0).says(&["not through shared memory", "memfd_create", "permit it"]);
    assert_eq!(json()["worker_links"]["shm"], 0);
    assert_ne!(json()["worker_links"]["sockets"], 0);
    assert_eq!(json()["components"]["sum"]["executed"], 10_000);
}

fn forbid_io_uring() -> std::io::Result<()> {
    forbid(libc::SYS_io_uring_setup)
}

/// A container's seccomp filter in small: one system call gives EPERM, everything else passes.
fn forbid(call: libc::c_long) -> std::io::Result<()> {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: plain system calls; `program` and its filter live until they return.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

#[test]
fn one_core_and_64_kib_of_lockable_memory_are_enough() {
    let dir = tempfile::tempdir().unwrap();
    let (path, json) = report(&dir);
    let mut c = fixture(&["--tuples", "20000", "--report", &path]);
    // SAFETY: plain system calls on memory of its own, allowed between fork and exec.
    unsafe {
        c.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(0, &mut one);
            let ok = libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) == 0
                && libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one) == 0;
            if ok { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    run(&mut c).exits(0);
    assert_eq!(json()["components"]["sum"]["executed"], 40_000);
}

#[test]
fn a_slow_bolt_slows_the_spout_in_flat_memory_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (path, json) = report(&dir);
    // Emitting ahead of the bolt without bound would take gigabytes: 100 million tuples of 1 KiB.
    let args = ["--tuples", "100000000", "--bytes", "1000", "--sleep-us", "1000", "--plain", "--report", &path];
    let child = fixture(&args).spawn().unwrap();
    let pids = workers(child.id(), 2);
    let parent = child.id();
    let mut early = 0;
    let mut late = 0;
    let began = Instant::now();
    let seconds = std::env::var("SQUALL_SLOW_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(8);
    while began.elapsed() < Duration::from_secs(seconds) {
        let now = pids.iter().map(|p| rss(*p)).max().unwrap_or(0);
        if began.elapsed() < Duration::from_secs(4) {
            early = early.max(now);
        } else {
            late = late.max(now);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    common::kill(parent, rustix::process::Signal::INT);
    let end = wait(child);
    assert!(early > 0 && late <= early + (4 << 20), "memory grows: {early} then {late}\n{}", end.all());
    end.exits(130).says(&["waited for work"]);
    let json = json();
    let (emitted, executed) = (&json["components"]["numbers"]["emitted"], &json["components"]["work"]["executed"]);
    // What was drained was executed; what could not be drained in ten seconds is said to be left.
    if emitted != executed {
        end.says(&["left"]);
    }
    eprintln!("largest worker: {} MiB early, {} MiB late", early >> 20, late >> 20);
}

/// D9: a deployed topology with nothing to do costs next to nothing, in its workers and in the parent. A spout that asks to be
/// polled is asked a thousand times a second, and each time costs what a sleep costs the kernel.
#[test]
fn an_idle_topology_takes_at_most_a_fiftieth_of_a_core_per_process() {
    for (then, limit) in [("park", 0.02), ("poll", 0.1)] {
        let child = fixture(&["--tuples", "1000", "--then", then, "--plain"]).spawn().unwrap();
        let mut pids = workers(child.id(), 2);
        pids.push(child.id());
        std::thread::sleep(Duration::from_secs(1));
        let used = || pids.iter().map(|p| cpu(*p)).collect::<Vec<_>>();
        let (before, began) = (used(), Instant::now());
        std::thread::sleep(Duration::from_secs(4));
        let shares: Vec<f64> = used()
            .iter()
            .zip(&before)
            .map(|(after, before)| (*after - *before).as_secs_f64() / began.elapsed().as_secs_f64())
            .collect();
        common::kill(child.id(), rustix::process::Signal::INT);
        let end = wait(child);
        eprintln!("{then}: cores used by worker 0, worker 1, parent: {shares:.4?}");
        assert!(shares.iter().all(|s| *s <= limit), "{then}: {shares:?}\n{}", end.all());
        end.exits(130);
    }
}
