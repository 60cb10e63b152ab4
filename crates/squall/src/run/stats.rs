//! Counts of the workers, and their sum.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use squall_metrics::Histogram;

pub(crate) use squall_engine::{ComponentStats, LinkCounters, LinkStats, PeerLinks, WorkerStats};

/// Values of components by component and name.
pub(crate) type ByComponent<T> = BTreeMap<String, BTreeMap<String, T>>;

/// What a process used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// User and system time of all threads while input was processed.
    pub cpu_ns: u64,
    /// Largest resident size.
    pub rss_max_bytes: u64,
}

/// Counts of all workers together, and what their difference warns of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Total {
    pub stats: WorkerStats,
    pub warnings: Vec<String>,
}

impl Total {
    /// The sum over workers.
    pub(crate) fn of<'a>(workers: impl IntoIterator<Item = &'a WorkerStats>) -> Total {
        let mut total = Total::default();
        let mut ios: Vec<&str> = Vec::new();
        let mut by_link = Vec::new();
        for worker in workers {
            merge(&mut total.stats, worker);
            by_link.extend(worker.by_link.iter().cloned());
            if !worker.io.is_empty() && !ios.contains(&worker.io.as_str()) {
                ios.push(&worker.io);
            }
        }
        total.stats.by_link = LinkStats::join(by_link);
        if ios.len() > 1 {
            total.warnings.push(format!("the workers use different I/O drivers: {}", ios.join(", ")));
            // The slower one sets the pace of every link that it is an end of.
            ios.retain(|io| *io != "io_uring");
        }
        total.stats.io = ios.first().copied().unwrap_or_default().to_owned();
        if total.stats.events_dropped > 0 {
            let dropped = total.stats.events_dropped;
            total.warnings.push(format!("{dropped} log lines or warnings came too fast and were dropped; log less"));
        }
        total
    }

    /// Tuples executed by all components.
    pub(crate) fn executed(&self) -> u64 {
        self.stats.components.iter().map(|c| c.executed).sum()
    }

    /// A user counter, if the component has one of that name.
    pub(crate) fn counter(&self, component: &str, name: &str) -> Option<u64> {
        self.stats.counters.get(component)?.get(name).copied()
    }

    /// Counts of one component.
    pub(crate) fn component(&self, name: &str) -> Option<&ComponentStats> {
        self.stats.components.iter().find(|c| c.name == name)
    }
}

fn merge(ours: &mut WorkerStats, theirs: &WorkerStats) {
    for component in &theirs.components {
        match ours.components.iter_mut().find(|c| c.name == component.name) {
            Some(our) => merge_component(our, component),
            None => ours.components.push(component.clone()),
        }
    }
    ours.latency.merge(&theirs.latency);
    ours.first_tuple_ns = [ours.first_tuple_ns, theirs.first_tuple_ns].into_iter().flatten().min();
    ours.back_pressure.extend(theirs.back_pressure.iter().cloned());
    ours.back_pressure.sort();
    ours.back_pressure.dedup();
    merge_named(&mut ours.counters, &theirs.counters, |our, their| *our += their);
    merge_named(&mut ours.gauges, &theirs.gauges, |our, their| *our += their);
    merge_named(&mut ours.histograms, &theirs.histograms, Histogram::merge);
    if ours.wait.is_empty() {
        ours.wait.clone_from(&theirs.wait);
    }
    ours.links.add(&theirs.links);
    ours.peer_links.add(&theirs.peer_links);
    ours.events_dropped += theirs.events_dropped;
}

fn merge_component(ours: &mut ComponentStats, theirs: &ComponentStats) {
    ours.emitted += theirs.emitted;
    ours.executed += theirs.executed;
    ours.acked += theirs.acked;
    ours.failed += theirs.failed;
    ours.moved_bytes += theirs.moved_bytes;
    ours.roots += theirs.roots;
    ours.late_acks += theirs.late_acks;
    ours.lost += theirs.lost;
    ours.dead_letters += theirs.dead_letters;
    ours.restarts += theirs.restarts;
    ours.down_ns_max = ours.down_ns_max.max(theirs.down_ns_max);
    ours.long_calls += theirs.long_calls;
    ours.long_call_ns_max = ours.long_call_ns_max.max(theirs.long_call_ns_max);
    for (reason, count) in &theirs.dropped {
        *ours.dropped.entry(reason.clone()).or_default() += count;
    }
    for (reason, count) in &theirs.roots_failed {
        *ours.roots_failed.entry(reason.clone()).or_default() += count;
    }
}

fn merge_named<T: Clone>(ours: &mut ByComponent<T>, theirs: &ByComponent<T>, add: impl Fn(&mut T, &T)) {
    for (component, values) in theirs {
        let ours = ours.entry(component.clone()).or_default();
        for (name, value) in values {
            match ours.get_mut(name) {
                Some(our) => add(our, value),
                None => drop(ours.insert(name.clone(), value.clone())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(io: &str, executed: u64, first: Option<u64>) -> WorkerStats {
        let count = ComponentStats { name: "count".into(), executed, failed: 1, ..Default::default() };
        let mut latency = Histogram::new();
        latency.record(executed);
        WorkerStats {
            components: vec![count],
            latency,
            first_tuple_ns: first,
            back_pressure: vec![("lines".into(), "count".into())],
            counters: [("lines".to_owned(), [("bytes".to_owned(), executed)].into())].into(),
            io: io.into(),
            wait: "hybrid".into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_sum_over_workers_adds_counts_and_takes_the_earliest_first_tuple() {
        let total = Total::of(&[worker("io_uring", 3, Some(9)), worker("io_uring", 4, Some(7)), worker("", 0, None)]);
        assert_eq!((total.executed(), total.stats.first_tuple_ns), (7, Some(7)));
        assert_eq!(total.component("count").map(|c| c.failed), Some(3));
        assert_eq!(total.counter("lines", "bytes"), Some(7));
        assert_eq!(total.counter("lines", "words"), None);
        assert_eq!((total.stats.latency.count(), total.stats.back_pressure.len()), (3, 1));
        assert_eq!((total.stats.io.as_str(), total.stats.wait.as_str()), ("io_uring", "hybrid"));
        assert!(total.warnings.is_empty());
    }

    #[test]
    fn the_two_ends_of_a_link_become_one_row() {
        let end = |from, to, batches, copies_receive| {
            let traffic = squall_engine::LinkTraffic { batches, copies_receive, ..Default::default() };
            LinkStats { from, to, kind: "socket".into(), traffic }
        };
        let mut sender = worker("epoll", 1, None);
        sender.by_link = vec![end(0, 1, 5, 0)];
        let mut receiver = worker("epoll", 1, None);
        receiver.by_link = vec![end(0, 1, 0, 9), end(1, 0, 2, 0)];
        let total = Total::of(&[sender, receiver]);
        assert_eq!(total.stats.by_link, [end(0, 1, 5, 9), end(1, 0, 2, 0)]);
    }

    #[test]
    fn workers_on_different_drivers_report_the_slower_one_and_a_warning() {
        let total = Total::of(&[worker("io_uring", 1, None), worker("epoll", 1, None)]);
        assert_eq!(total.stats.io, "epoll");
        assert_eq!(total.warnings, ["the workers use different I/O drivers: io_uring, epoll"]);
    }
}
