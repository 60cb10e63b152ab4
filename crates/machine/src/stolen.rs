//! What the host and the control group took away while something was measured.

use std::fs;

use serde::Serialize;

/// Differences over a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stolen {
    /// Time that virtual cores waited for the host, over all cores, in milliseconds (steps of 10).
    pub steal_ms: u64,
    /// Periods in which the control group ran out of its CPU quota.
    pub throttled_periods: u64,
    /// How long it stood still for that, in milliseconds.
    pub throttled_ms: u64,
}

/// The counters at the start of a run.
#[derive(Debug, Clone, Copy)]
pub struct StolenSince(Stolen);

impl StolenSince {
    /// Reads the counters.
    pub fn now() -> StolenSince {
        StolenSince(read())
    }

    /// What was taken since. Counters that cannot be read stay 0.
    pub fn so_far(&self) -> Stolen {
        let now = read();
        Stolen {
            steal_ms: now.steal_ms.saturating_sub(self.0.steal_ms),
            throttled_periods: now.throttled_periods.saturating_sub(self.0.throttled_periods),
            throttled_ms: now.throttled_ms.saturating_sub(self.0.throttled_ms),
        }
    }
}

fn read() -> Stolen {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let group = own_group().and_then(|path| fs::read_to_string(path).ok());
    let group = group.or_else(|| fs::read_to_string("/sys/fs/cgroup/cpu.stat").ok()).unwrap_or_default();
    parse(&stat, &group)
}

/// `cpu.stat` of this process's own control group.
fn own_group() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|l| l.strip_prefix("0::"))?;
    Some(format!("/sys/fs/cgroup{}/cpu.stat", path.trim_end_matches('/')))
}

fn parse(stat: &str, group: &str) -> Stolen {
    // "cpu  user nice system idle iowait irq softirq steal …", in ticks of 10 ms.
    let ticks = stat.lines().next().and_then(|l| l.split_whitespace().nth(8)).and_then(|w| w.parse::<u64>().ok());
    let value = |name: &str| {
        let line = group.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|v| v.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    Stolen {
        steal_ms: ticks.unwrap_or(0) * 10,
        throttled_periods: value("nr_throttled"),
        throttled_ms: value("throttled_usec") / 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_and_throttling_are_read_from_the_kernels_text() {
        let stat = "cpu  10 0 20 300 4 0 1 77 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        let group = "usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 12500\n";
        assert_eq!(parse(stat, group), Stolen { steal_ms: 770, throttled_periods: 3, throttled_ms: 12 });
        assert_eq!(parse("", ""), Stolen::default());
    }
}
