//! What nimbus shows over HTTP: the JSON of each page, and the metrics.
//!
//! Pages of `/api/v1` have Storm's keys and types; those of `/api/v2` are ours, with exact counts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use squall_control::record::Shape;
use squall_control::{Preview, Role, Summary};
use squall_scheduler::NodeUse;

use super::TopologyStats;
use super::nimbus::{Driver, wall_ms};
use super::talk::engine_version;

/// Events in one answer, at most.
const EVENTS_AT_ONCE: usize = 1000;

fn running(stats: &TopologyStats) -> usize {
    use squall_control::WorkerState::{Drained, Running};
    stats.workers.iter().filter(|w| matches!(w.state, Running | Drained { .. }) && w.pid.is_some()).count()
}

/// A topology in the list.
pub(super) fn v2_row(driver: &Driver, summary: &Summary) -> Value {
    let Summary { record, assigned, workers, unplaced } = summary;
    let stats = driver.stats_of(&record.id);
    json!({
        "id": record.id,
        "name": record.name,
        "status": record.status.word(),
        "submitted_ms": record.submitted_ms,
        "workers": workers,
        "workers_running": running(&stats),
        "executors": assigned.1,
        "executors_assigned": assigned.0,
        "tasks": record.shape.components.iter().map(|c| u64::from(c.tasks)).sum::<u64>(),
        "pending": stats.pending,
        "unplaced": unplaced.as_ref().map(ToString::to_string),
    })
}

/// A topology with everything that is known of it.
pub(super) fn v2_topology(driver: &Driver, summary: &Summary) -> Value {
    let mut value = v2_row(driver, summary);
    let record = &summary.record;
    let mut stats = driver.stats_of(&record.id);
    stats.workers.sort_by(|a, b| (a.worker, &a.node, a.slot).cmp(&(b.worker, &b.node, b.slot)));
    let counts: BTreeMap<&str, _> = stats.components.iter().map(|c| (c.name.as_str(), c)).collect();
    let component = |c: &squall_control::record::ComponentShape| {
        let n = counts.get(c.name.as_str());
        json!({
            "name": c.name,
            "tasks": c.tasks,
            "executors": c.executors,
            "emitted": n.map_or(0, |n| n.emitted),
            "executed": n.map_or(0, |n| n.executed),
            "acked": n.map_or(0, |n| n.acked),
            "failed": n.map_or(0, |n| n.failed),
            "pending": n.map_or(0, |n| n.roots.saturating_sub(n.acked + n.failed)),
            "restarts": n.map_or(0, |n| n.restarts),
        })
    };
    let components: Vec<Value> = record.shape.components.iter().map(component).collect();
    let latency: BTreeMap<&str, Option<u64>> = stats.latency.percentiles().rows().into_iter().collect();
    let more = json!({
        "version": 1,
        "components": components,
        "worker_list": stats.workers,
        "latency_ns": latency,
        "artifact": record.blobs.first(),
        "arguments": record.arguments,
        "engine": record.engine,
    });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

pub(super) fn v2_cluster(driver: &Driver) -> Value {
    let nimbus = driver.nimbus();
    json!({
        "version": 1,
        "engine": engine_version(),
        "leading": *nimbus.role() == Role::Leading,
        "epoch": nimbus.epoch(),
        "uptime_ms": driver.uptime().as_millis() as u64,
        "nodes": nodes(driver),
    })
}

/// The nodes that are there, and those that are not but of which a person said something.
fn nodes(driver: &Driver) -> Vec<Value> {
    let nimbus = driver.nimbus();
    let word = |node: &str| match nimbus.usage(node) {
        NodeUse::Empty => "DRAINED",
        NodeUse::KeepOnly => "CORDONED",
        NodeUse::Ready if nimbus.blacklisted(node) => "BLACKLISTED",
        NodeUse::Ready => "READY",
    };
    let there = nimbus.live_nodes().map(|n| {
        let report = nimbus.reports().find(|report| report.node == n.id);
        json!({
            "id": n.id, "status": word(&n.id), "there": true, "address": n.address, "slots": n.slots,
            "slots_used": report.map_or(0, |report| report.workers.len()), "arch": n.arch, "engine": n.engine,
        })
    });
    let away = nimbus.cordons().filter(|(id, _)| !nimbus.live_nodes().any(|n| n.id == *id));
    let away = away.map(|(id, _)| {
        json!({
            "id": id, "status": word(id), "there": false, "address": null, "slots": 0, "slots_used": 0, "arch": null,
            "engine": null,
        })
    });
    there.chain(away).collect()
}

pub(super) fn v2_nodes(driver: &Driver) -> Value {
    json!({ "version": 1, "nodes": nodes(driver) })
}

/// What went wrong with a topology.
pub(super) fn v2_errors(driver: &Driver, summary: &Summary) -> Value {
    let id = &summary.record.id;
    let stats = driver.stats_of(id);
    let troubled = stats.components.iter().filter(|c| c.failed > 0 || c.restarts > 0);
    let component =
        |c: &squall_engine::ComponentStats| json!({ "name": c.name, "failed": c.failed, "restarts": c.restarts });
    json!({
        "version": 1,
        "id": id,
        "unplaced": summary.unplaced.as_ref().map(ToString::to_string),
        "errors": driver.history().troubles(id).collect::<Vec<_>>(),
        "components": troubled.map(component).collect::<Vec<_>>(),
    })
}

/// What happened after an event.
pub(super) fn v2_events(driver: &Driver, after: u64) -> Value {
    json!({
        "version": 1,
        // Numbers of events are those of one process: a follower that sees another one begins anew.
        "nimbus": driver.instance(),
        "events": driver.history().after(after).take(EVENTS_AT_ONCE).collect::<Vec<_>>(),
    })
}

/// Where a submission would be placed.
pub(super) fn v2_plan(shape: &Shape, preview: &Preview) -> Value {
    let executors = shape.executors();
    let worker = |(at, w): (usize, &squall_scheduler::WorkerPlace)| {
        let mut components: BTreeMap<&str, u32> = BTreeMap::new();
        for executor in &w.executors {
            let component = executors.get(*executor as usize).and_then(|e| shape.components.get(e.component as usize));
            *components.entry(component.map_or("?", |c| &c.name)).or_default() += 1;
        }
        json!({ "worker": at, "node": w.node, "slot": w.slot, "components": components })
    };
    // As workers are numbered where they run: by their first executors.
    let mut placement = preview.placement.clone();
    placement.sort_by_key(|w| w.executors.iter().min().copied());
    json!({
        "version": 1,
        "workers": placement.iter().enumerate().map(worker).collect::<Vec<_>>(),
        "moved": preview.moved,
    })
}

/// Seconds as Storm shows them.
fn uptime(seconds: u64) -> String {
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) => format!("{m}m {s}s"),
        (0, _, _) => format!("{h}h {m}m {s}s"),
        _ => format!("{d}d {h}h {m}m {s}s"),
    }
}

fn slots(driver: &Driver) -> (u64, u64) {
    let total = driver.nimbus().live_nodes().map(|n| u64::from(n.slots)).sum();
    (total, driver.nimbus().reports().map(|report| report.workers.len() as u64).sum())
}

/// Storm's version as its clients parse it.
const STORM_VERSION: &str = "2.8.0-squall";

pub(super) fn v1_cluster(driver: &Driver) -> Value {
    let (total, used) = slots(driver);
    json!({
        "stormVersion": STORM_VERSION,
        "supervisors": driver.nimbus().live_nodes().count(),
        "slotsTotal": total,
        "slotsUsed": used,
        "slotsFree": total.saturating_sub(used),
    })
}

pub(super) fn v1_nimbus(driver: &Driver) -> Value {
    let seconds = driver.uptime().as_secs();
    let leads = *driver.nimbus().role() == Role::Leading;
    json!({ "nimbuses": [{
        "status": if leads { "Leader" } else { "Not a Leader" },
        "nimbusUpTime": uptime(seconds),
        "nimbusUpTimeSeconds": seconds,
        "version": STORM_VERSION,
    }] })
}

/// The host of an address, which may have a port.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

pub(super) fn v1_supervisors(driver: &Driver) -> Value {
    let nimbus = driver.nimbus();
    let node = |n: &squall_control::record::NodeInfo| {
        let used = nimbus.reports().find(|report| report.node == n.id).map_or(0, |report| report.workers.len());
        json!({
            "id": n.id, "host": host(&n.address), "slotsTotal": n.slots, "slotsUsed": used,
            "slotsFree": usize::from(n.slots).saturating_sub(used), "version": STORM_VERSION,
        })
    };
    json!({ "supervisors": nimbus.live_nodes().map(node).collect::<Vec<_>>() })
}

pub(super) fn v1_topologies(_: &Driver, list: &[Summary]) -> Value {
    let now_ms = wall_ms();
    let row = |s: &Summary| {
        let record = &s.record;
        let seconds = now_ms.saturating_sub(record.submitted_ms) / 1000;
        json!({
            "id": record.id, "encodedId": record.id, "name": record.name, "status": record.status.word(),
            "uptime": uptime(seconds), "uptimeSeconds": seconds,
            "tasksTotal": record.shape.components.iter().map(|c| u64::from(c.tasks)).sum::<u64>(),
            "workersTotal": s.workers, "executorsTotal": s.assigned.1,
            "schedulerInfo": s.unplaced.as_ref().map(ToString::to_string),
        })
    };
    json!({ "topologies": list.iter().map(row).collect::<Vec<_>>() })
}

pub(super) fn metrics(driver: &Driver) -> String {
    use std::fmt::Write as _;
    let nimbus = driver.nimbus();
    let (total, used) = slots(driver);
    let mut text = String::new();
    let mut gauge = |name: &str, what: &str, value: u64| {
        let _ = writeln!(text, "# HELP {name} {what}\n# TYPE {name} gauge\n{name} {value}");
    };
    gauge("squall_nimbus_leading", "1 where this nimbus leads.", u64::from(*nimbus.role() == Role::Leading));
    gauge("squall_supervisors", "Supervisors that are there.", nimbus.live_nodes().count() as u64);
    gauge("squall_slots", "Slots of all supervisors.", total);
    gauge("squall_slots_used", "Slots that run or start a worker.", used);
    let ids: BTreeSet<&str> = nimbus.reports().flat_map(|r| &r.workers).map(|w| w.topology.as_str()).collect();
    let stats: Vec<(&str, TopologyStats)> = ids.into_iter().map(|id| (id, driver.stats_of(id))).collect();
    type Pick = fn(&squall_engine::ComponentStats) -> u64;
    let counters: [(&str, &str, Pick); 4] = [
        ("squall_emitted_total", "Tuples emitted.", |c| c.emitted),
        ("squall_executed_total", "Tuples executed.", |c| c.executed),
        ("squall_acked_total", "Tuples acknowledged; of a spout, roots.", |c| c.acked),
        ("squall_failed_total", "Tuples failed; of a spout, roots.", |c| c.failed),
    ];
    for (name, what, pick) in counters {
        let _ = writeln!(text, "# HELP {name} {what}\n# TYPE {name} counter");
        for (id, stats) in &stats {
            for c in &stats.components {
                // Names of topologies and components hold nothing that would have to be quoted.
                let _ = writeln!(text, "{name}{{topology=\"{id}\",component=\"{}\"}} {}", c.name, pick(c));
            }
        }
    }
    let _ = writeln!(text, "# HELP squall_worker_restarts_total Times that workers were started again.");
    let _ = writeln!(text, "# TYPE squall_worker_restarts_total counter");
    for (id, stats) in &stats {
        let restarts: u64 = stats.workers.iter().map(|w| u64::from(w.restarts)).sum();
        let _ = writeln!(text, "squall_worker_restarts_total{{topology=\"{id}\"}} {restarts}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{host, uptime};

    #[test]
    fn storms_clients_are_told_hosts_without_ports() {
        let hosts = ["node1", "node1:6700", "10.0.0.1:6700", "[fd00::1]:6700"].map(host);
        assert_eq!(hosts, ["node1", "node1", "10.0.0.1", "fd00::1"]);
    }

    #[test]
    fn uptimes_read_as_storms_do() {
        let shown = [5, 65, 3600, 90_061].map(uptime);
        assert_eq!(shown, ["5s", "1m 5s", "1h 0m 0s", "1d 1h 1m 1s"]);
    }
}
