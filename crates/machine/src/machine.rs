//! The machine of a run, read and never changed.

use std::fs;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

/// The machine of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Model name of the first core.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: Vec<usize>,
    /// Release of the kernel.
    pub kernel: String,
    /// Of the sources, with `-dirty` where they were changed; "unknown" outside of a repository.
    pub commit: String,
    /// The command line.
    pub command: String,
    /// Frequency governor of the first usable core; `None` where the kernel shows none (most virtual machines).
    pub governor: Option<String>,
    /// What the kernel's clocks read: `tsc`, `kvm-clock` ….
    pub clock_source: Option<String>,
    /// Whether the CPU says that it is virtual.
    pub virtual_machine: bool,
    /// Cores that the scheduler leaves alone (`isolcpus`), as the kernel lists them; empty: none.
    pub isolated: String,
    /// Locked memory that this process may have, in bytes; `None`: no limit.
    pub memlock_bytes: Option<u64>,
    /// Open files that this process may have; `None`: no limit.
    pub nofile: Option<u64>,
    /// CPU time per time that the control group grants, in cores; `None`: no limit.
    pub quota_cores: Option<f64>,
}

impl Machine {
    /// Looks. `source_dir` is where the caller's sources lay when it was built (`env!("CARGO_MANIFEST_DIR")`).
    pub fn look(source_dir: &str) -> Machine {
        let cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|c| c.id).collect();
        let first = cores.first().copied().unwrap_or(0);
        let uname = rustix::system::uname();
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Machine {
            cpu: cpu_model(&info),
            kernel: uname.release().to_string_lossy().into_owned(),
            commit: commit(source_dir),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            governor: read(&format!("/sys/devices/system/cpu/cpu{first}/cpufreq/scaling_governor")),
            clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            virtual_machine: has_flag(&info, "hypervisor"),
            isolated: read("/sys/devices/system/cpu/isolated").unwrap_or_default(),
            memlock_bytes: getrlimit(Resource::Memlock).current,
            nofile: getrlimit(Resource::Nofile).current,
            quota_cores: read("/sys/fs/cgroup/cpu.max").and_then(|text| quota(&text)),
            cores,
        }
    }

    /// In one line, for people.
    pub fn describe(&self) -> String {
        let Machine { cpu, cores, kernel, commit, .. } = self;
        format!("{cpu}, {} cores, Linux {kernel}, commit {commit}, load {}", cores.len(), load())
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn cpu_model(info: &str) -> String {
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown CPU".to_owned(), |(_, name)| name.to_owned())
}

fn has_flag(info: &str, flag: &str) -> bool {
    let flags = info.lines().find_map(|l| l.strip_prefix("flags")?.split_once(": "));
    flags.is_some_and(|(_, flags)| flags.split_whitespace().any(|f| f == flag))
}

/// `max 100000` has no limit, `150000 100000` one of 1.5 cores.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.trim().parse::<f64>().ok()?)
}

fn commit(source_dir: &str) -> String {
    let git = |args: &[&str]| {
        let out = std::process::Command::new("git").arg("-C").arg(source_dir).args(args).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let described = git(&["describe", "--always", "--dirty", "--abbrev=12"]);
    described.filter(|c| !c.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// Runnable threads of the whole machine over the last minute (the first figure of `/proc/loadavg`).
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|w| w.parse().ok()).unwrap_or(0.0)
}

/// Pins the calling thread. A refusal is told once per call: the figures then say little.
pub fn pin(core: usize) {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        eprintln!("could not pin a thread to core {core}; check taskset and cgroup cpusets");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_read_in_cores() {
        assert_eq!((quota("max 100000"), quota("150000 100000\n")), (None, Some(1.5)));
    }

    #[test]
    fn model_and_flags_are_found_in_the_kernels_text() {
        let info = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu hypervisor tsc\n";
        assert_eq!(cpu_model(info), "Some CPU");
        assert!(has_flag(info, "hypervisor") && !has_flag(info, "hyper"));
        assert_eq!(cpu_model(""), "unknown CPU");
    }
}
