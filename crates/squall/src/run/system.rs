//! What this process reads from the kernel about itself and its machine.

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds: the same clock in all processes of this machine.
pub(crate) fn now_ns() -> u64 {
    read_clock(ClockId::Monotonic)
}

/// User and system time of all threads of this process so far, in nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    read_clock(ClockId::ProcessCPUTime)
}

fn read_clock(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Largest resident size of this process so far; 0 where /proc is not mounted.
pub(crate) fn rss_max_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_high_water(&status).unwrap_or(0)
}

fn parse_high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// CPUs this process may run on (`taskset`, cpusets), ascending. Ask before any thread is pinned: a pinned thread
/// sees its own CPU only.
pub(crate) fn usable_cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        assert_eq!(parse_high_water("Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t 1 kB\n"), Some(1234 * 1024));
        assert_eq!(parse_high_water("Name:\tx\n"), None);
        assert!(rss_max_bytes() > 0);
    }

    #[test]
    fn clocks_go_forward_and_cores_are_found() {
        let (now, cpu) = (now_ns(), cpu_ns());
        assert!(now_ns() >= now && cpu_ns() >= cpu && now > 0);
        assert!(!usable_cores().is_empty());
    }
}
