//! `squall doctor`: what decides the speed of a topology here, each with its remedy where there is one.
//!
//! Reading the machine and writing the answer are apart, so that the answer can be tested for any machine.

use std::fmt::Write as _;
use std::fs;

use rustix::process::{Resource, getrlimit};
use squall_metrics::format;
use squall_ring::{Pages, ShmLink, ShmSizes, Trust};

/// Locked memory that a worker with many reactors may want for its rings.
const MEMLOCK_WANTED_BYTES: u64 = 64 << 20;

const HUGE_PAGES: &str = "no huge pages are reserved: `sysctl vm.nr_hugepages=N`, N the links between workers (one of 2 MiB each by default)";

/// A link between workers as topologies have it unless they say otherwise.
const SHM_SIZES: ShmSizes = ShmSizes { ring_bytes: 512 << 10, creator_inboxes: 1, opener_inboxes: 1 };

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    pub kernel: String,
    /// Why io_uring cannot be used and what to do; `None` where it can.
    pub io_uring_hindered: Option<String>,
    /// Kind of pages behind memory shared between workers, or why there is none.
    pub shared_memory: Result<Pages, String>,
    /// CPUs this process may use, of how many online.
    pub cores: Vec<usize>,
    pub cores_online: Option<usize>,
    /// Limit of locked memory; `None` is no limit, or none for this user.
    pub memlock_bytes: Option<u64>,
    pub clock_source: Option<String>,
}

impl Machine {
    /// Asks the kernel.
    pub(crate) fn examine() -> Machine {
        let name = rustix::system::uname();
        let probe = squall_io::probe();
        let unknown = "io_uring cannot be used, for a reason the kernel does not give".to_owned();
        Machine {
            kernel: format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy()),
            io_uring_hindered: (!probe.usable).then(|| probe.cause.unwrap_or(unknown)),
            shared_memory: ShmLink::create(SHM_SIZES, Trust::Peer)
                .map(|(link, _)| link.pages())
                .map_err(|error| error.to_string()),
            cores: core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect(),
            cores_online: read("/sys/devices/system/cpu/online").and_then(|list| count_list(&list)),
            memlock_bytes: getrlimit(Resource::Memlock).current.filter(|_| !may_lock_all()),
            clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        }
    }
}

/// CAP_IPC_LOCK exempts from the limit.
fn may_lock_all() -> bool {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let status = read("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|caps| caps & CAP_IPC_LOCK != 0)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Number of CPUs in a kernel list such as `0-3,8`.
fn count_list(list: &str) -> Option<usize> {
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1),
        None => part.parse::<usize>().ok().map(|_| 1),
    };
    list.split(',').map(range).sum()
}

/// The answer: a line per finding, a line with the remedy below it where there is one.
pub(crate) fn render(machine: &Machine) -> String {
    let mut text = String::new();
    let mut say = |name: &str, state: &str, remedy: Option<&str>| {
        let _ = writeln!(text, "{name:<14}{state}");
        if let Some(remedy) = remedy {
            let _ = writeln!(text, "{:<14}-> {remedy}", "");
        }
    };
    say("kernel", &machine.kernel, None);
    match &machine.io_uring_hindered {
        None => say("io_uring", "usable", None),
        Some(cause) => say("io_uring", "not usable: links between workers use epoll", Some(cause)),
    }
    match &machine.shared_memory {
        Ok(Pages::Normal) => say("shared memory", "usable, normal pages", Some(HUGE_PAGES)),
        Ok(pages) => say("shared memory", &format!("usable, {pages}"), None),
        Err(cause) => say("shared memory", "not usable: links between workers use sockets", Some(cause)),
    }
    let (cores, remedy) = cores(machine);
    say("cores", &cores, remedy);
    let (memlock, remedy) = memlock(machine.memlock_bytes);
    say("locked memory", &memlock, remedy);
    let (clock, remedy) = clock(machine.clock_source.as_deref());
    say("clock", clock, remedy);
    text
}

fn cores(machine: &Machine) -> (String, Option<&'static str>) {
    let usable = machine.cores.len();
    let ids: Vec<_> = machine.cores.iter().map(usize::to_string).collect();
    let of = machine.cores_online.map_or_else(String::new, |online| format!(" of {online}"));
    let confined = machine.cores_online.is_some_and(|online| usable < online);
    let remedy = match usable {
        _ if confined => Some("taskset or a cpuset leaves this process fewer than there are"),
        1 => Some("all reactors share it: latencies are those of the scheduler"),
        _ => None,
    };
    (format!("{usable}{of} usable ({})", ids.join(", ")), remedy)
}

fn memlock(limit: Option<u64>) -> (String, Option<&'static str>) {
    match limit {
        None => ("no limit for this user".into(), None),
        Some(bytes) if bytes >= MEMLOCK_WANTED_BYTES => (format!("up to {}", format::bytes(bytes)), None),
        Some(bytes) => {
            let remedy =
                "rings count against it; for many reactors: `ulimit -l 65536`, or LimitMEMLOCK=64M in a systemd unit";
            (format!("up to {}", format::bytes(bytes)), Some(remedy))
        }
    }
}

fn clock(source: Option<&str>) -> (&str, Option<&'static str>) {
    match source {
        None => ("unknown", None),
        // Read in user space; all others cost a system call or a slow device for each reading.
        Some(source @ ("tsc" | "arch_sys_counter")) => (source, None),
        Some(source @ "kvm-clock") => (source, None),
        Some(source) => (source, Some("each clock reading is slow: boot with clocksource=tsc if the CPU's is stable")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Machine {
        Machine {
            kernel: "Linux 6.18.0".into(),
            io_uring_hindered: None,
            shared_memory: Ok(Pages::Reserved),
            cores: vec![0, 1],
            cores_online: Some(2),
            memlock_bytes: None,
            clock_source: Some("tsc".into()),
        }
    }

    #[test]
    fn a_fine_machine_has_no_remedies() {
        let want = "\
kernel        Linux 6.18.0
io_uring      usable
shared memory usable, reserved huge pages
cores         2 of 2 usable (0, 1)
locked memory no limit for this user
clock         tsc
";
        assert_eq!(render(&fine()), want);
    }

    #[test]
    fn every_hindrance_comes_with_its_remedy() {
        let machine = Machine {
            io_uring_hindered: Some("a seccomp filter forbids it: permit it".into()),
            shared_memory: Err("memfd_create is forbidden: permit it".into()),
            cores: vec![3],
            memlock_bytes: Some(64 << 10),
            clock_source: Some("hpet".into()),
            ..fine()
        };
        let want = "\
kernel        Linux 6.18.0
io_uring      not usable: links between workers use epoll
              -> a seccomp filter forbids it: permit it
shared memory not usable: links between workers use sockets
              -> memfd_create is forbidden: permit it
cores         1 of 2 usable (3)
              -> taskset or a cpuset leaves this process fewer than there are
locked memory up to 64.0 KiB
              -> rings count against it; for many reactors: `ulimit -l 65536`, or LimitMEMLOCK=64M in a systemd unit
clock         hpet
              -> each clock reading is slow: boot with clocksource=tsc if the CPU's is stable
";
        assert_eq!(render(&machine), want);
    }

    #[test]
    fn a_kernel_list_of_cpus_is_counted() {
        assert_eq!(count_list("0-3,8"), Some(5));
        assert_eq!(count_list("0"), Some(1));
        assert_eq!(count_list("3-1"), None);
        assert_eq!(count_list(""), None);
    }

    #[test]
    fn the_machine_at_hand_can_be_examined() {
        let machine = Machine::examine();
        assert!(machine.kernel.starts_with("Linux ") && !machine.cores.is_empty());
    }
}
