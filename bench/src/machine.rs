//! What a figure must carry with it: machine, kernel, commit, load, command.

use serde::Serialize;

use crate::error::BenchError;

/// The machine of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Model name of the first core.
    pub(crate) cpu: String,
    /// Cores that this process may use.
    pub(crate) cores: Vec<usize>,
    pub(crate) kernel: String,
    /// Of the sources, with `-dirty` where they were changed; "unknown" outside of a repository.
    pub(crate) commit: String,
    pub(crate) command: String,
}

impl Machine {
    pub(crate) fn look() -> Machine {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let uname = rustix::system::uname();
        Machine {
            cpu: cpu_model(),
            cores: cores.into_iter().map(|c| c.id).collect(),
            kernel: uname.release().to_string_lossy().into_owned(),
            commit: commit(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
        }
    }

    pub(crate) fn describe(&self) -> String {
        let Machine { cpu, cores, kernel, commit, .. } = self;
        format!("{cpu}, {} cores, Linux {kernel}, commit {commit}, load {}", cores.len(), load())
    }

    /// The two cores of a row.
    pub(crate) fn pair(&self) -> Result<[usize; 2], BenchError> {
        match self.cores[..] {
            [a, b, ..] => Ok([a, b]),
            _ => Err(BenchError::Cores(self.cores.len())),
        }
    }
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown CPU".to_owned(), |(_, name)| name.to_owned())
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let dir = env!("CARGO_MANIFEST_DIR");
        let out = std::process::Command::new("git").arg("-C").arg(dir).args(args).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let described = git(&["describe", "--always", "--dirty", "--abbrev=12"]);
    described.filter(|c| !c.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// Runnable threads of the whole machine over the last minute (the first figure of `/proc/loadavg`).
pub(crate) fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|w| w.parse().ok()).unwrap_or(0.0)
}

/// Pins the calling thread. A refusal is told once per call: the figures then say little.
pub(crate) fn pin(core: usize) {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        eprintln!("squall-bench: could not pin a thread to core {core}; check taskset and cgroup cpusets");
    }
}
