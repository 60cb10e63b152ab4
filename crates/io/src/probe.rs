//! Whether io_uring works here, and if not, why and what to do: the text that a report header, a warning and `doctor` show.

use crate::IoOptions;
use crate::uring::{SetupError, UringDriver};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::fs;

/// What the probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Whether io_uring works, in the way the driver uses it.
    pub usable: bool,
    /// If not: why, and the remedy.
    pub cause: Option<String>,
}

/// Sets up a ring as the driver does, receives some bytes through it and takes it down again: some 0.2 ms. Asks the kernel, not its version.
pub fn probe() -> Probe {
    match UringDriver::<Vec<u8>>::new(&IoOptions::default()) {
        Ok(_) => Probe { usable: true, cause: None },
        Err(e) => Probe { usable: false, cause: Some(diagnose(&e, &Facts::read())) },
    }
}

/// What the process can learn about its confinement.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// `kernel.io_uring_disabled`; `None` if the kernel has no such setting.
    pub(crate) io_uring_disabled: Option<u8>,
    /// Whether a seccomp filter is on this thread.
    pub(crate) seccomp_filter: bool,
    /// Soft limit of locked memory in bytes; `None` if unlimited.
    pub(crate) memlock_bytes: Option<u64>,
}

impl Facts {
    pub(crate) fn read() -> Facts {
        let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        Facts {
            io_uring_disabled: sysctl.and_then(|text| text.trim().parse().ok()),
            seccomp_filter: status
                .lines()
                .any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2")),
            memlock_bytes: getrlimit(Resource::Memlock).current,
        }
    }
}

/// Cause and remedy of a failed set-up.
pub(crate) fn diagnose(e: &SetupError, facts: &Facts) -> String {
    let what = format!("{} failed with {}", e.step, e.source);
    let because = match e.source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => blocked(facts),
        Some(Errno::NOSYS) if facts.seccomp_filter => blocked(facts),
        Some(Errno::NOSYS) => "this kernel has no io_uring: Linux 6.1 or later, built with CONFIG_IO_URING, is needed".to_owned(),
        Some(Errno::NOMEM) => out_of_memlock(facts),
        Some(Errno::INVAL | Errno::OPNOTSUPP) => {
            "this kernel's io_uring is too old (single issuer, deferred task run and multishot receive are needed): use Linux 6.1 or later".to_owned()
        }
        Some(Errno::MFILE | Errno::NFILE) => "no file descriptor is left: raise the limit of open files (ulimit -n)".to_owned(),
        _ => "the cause is not known to this program: try `epoll`, and report this line".to_owned(),
    };
    format!("{what}: {because}")
}

fn blocked(facts: &Facts) -> String {
    match facts.io_uring_disabled {
        Some(2) => "the administrator has switched io_uring off for all processes: `sysctl -w kernel.io_uring_disabled=0` as root permits it".to_owned(),
        Some(1) => "io_uring is reserved for privileged processes and one group: `sysctl -w kernel.io_uring_disabled=0` as root permits it to \
                    all, or put this user into the group of `kernel.io_uring_group`"
            .to_owned(),
        _ if facts.seccomp_filter => "a seccomp filter forbids it, as the default profile of Docker, Podman and Kubernetes does: permit \
                                      io_uring_setup, io_uring_enter and io_uring_register in the profile, or run the container with \
                                      `--security-opt seccomp=unconfined`"
            .to_owned(),
        _ => "a security policy forbids it (neither kernel.io_uring_disabled nor a seccomp filter was found): ask the machine's administrator \
              for an exception (SELinux, AppArmor or the sandbox this runs in)"
            .to_owned(),
    }
}

fn out_of_memlock(facts: &Facts) -> String {
    let remedy = "allow at least 64 MiB: `ulimit -l 65536`, LimitMEMLOCK=64M in a systemd unit, `--ulimit memlock=67108864` for a container";
    match facts.memlock_bytes {
        Some(bytes) => {
            format!("the rings of this user need more locked memory than its limit of {} KiB: {remedy}", bytes / 1024)
        }
        None => format!(
            "the kernel has no memory left for it (locked memory is not limited for this user); if the limit was raised just now: {remedy}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn text(step: &'static str, errno: Errno, facts: Facts) -> String {
        let source = io::Error::from(errno);
        diagnose(&SetupError { step, source }, &facts)
    }

    #[test]
    fn each_cause_is_told_apart_and_comes_with_its_remedy() {
        let sysctl = |value| Facts { io_uring_disabled: Some(value), ..Facts::default() };
        let seccomp = Facts { io_uring_disabled: Some(0), seccomp_filter: true, ..Facts::default() };
        let memlock = Facts { memlock_bytes: Some(64 << 10), ..Facts::default() };
        let setup = "io_uring_setup";
        for (text, words) in [
            (text(setup, Errno::PERM, sysctl(2)), ["switched io_uring off", "sysctl -w kernel.io_uring_disabled=0"]),
            (text(setup, Errno::PERM, sysctl(1)), ["one group", "kernel.io_uring_group"]),
            (text(setup, Errno::PERM, seccomp.clone()), ["seccomp", "--security-opt"]),
            (text(setup, Errno::NOSYS, seccomp), ["seccomp", "io_uring_register"]),
            (text(setup, Errno::PERM, sysctl(0)), ["security policy", "administrator"]),
            (text(setup, Errno::NOSYS, sysctl(0)), ["no io_uring", "CONFIG_IO_URING"]),
            (text(setup, Errno::NOMEM, memlock), ["64 KiB", "ulimit -l 65536"]),
            (text(setup, Errno::NOMEM, Facts::default()), ["no memory left", "ulimit -l 65536"]),
            (text(setup, Errno::INVAL, sysctl(0)), ["too old", "Linux 6.1"]),
            (text(setup, Errno::MFILE, sysctl(0)), ["file descriptor", "ulimit -n"]),
            (text("io_uring_enter", Errno::IO, sysctl(0)), ["io_uring_enter", "epoll"]),
        ] {
            assert!(words.iter().all(|word| text.contains(word)), "{words:?} in: {text}");
        }
    }

    #[test]
    fn the_probe_gives_a_cause_exactly_if_io_uring_is_not_usable() {
        let probe = probe();
        assert_eq!(probe.usable, probe.cause.is_none(), "{probe:?}");
    }
}
