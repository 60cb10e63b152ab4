//! The plan as aligned tables.

use std::ops::Range;

use squall_tuple::ids::{ComponentIx, StreamIx};

use super::{bytes, counted, grouping};
use crate::memory::MemoryUse;
use crate::plan::{LinkKind, Plan};
use crate::spec::{ComponentKind, ComponentSpec, Placement, SchemaSpec};

/// Workers up to which the memory table has a column for each.
const WORKER_COLUMNS_MAX: usize = 4;

/// The plan for people: components, streams and groupings, placement, links and buffer memory. Ends with a line break.
pub fn text(plan: &Plan) -> String {
    let sections = [
        ("Components", components(plan).render()),
        ("Streams", streams(plan).render()),
        ("Placement", placement(plan).render()),
        ("Links", links(plan).render()),
        ("Buffer memory, at most", format!("{}{}", memory(plan).render(), memory_notes(plan))),
    ];
    let mut text = headline(plan);
    for (title, body) in sections {
        text.push_str(&format!("\n{title}\n{body}"));
    }
    text
}

fn headline(plan: &Plan) -> String {
    let of_kind = |kind| plan.spec.components.iter().filter(|c| c.kind == kind).count();
    let side = plan.reactors.iter().filter(|r| r.side).count();
    let threads = match (plan.reactors.len() - side, side) {
        (normal, 0) => counted(normal, "reactor"),
        (0, side) => counted(side, "side thread"),
        (normal, side) => format!("{} and {}", counted(normal, "reactor"), counted(side, "side thread")),
    };
    let text = format!(
        "Topology {}: {}, {}; {} in {} on {} with {}\nPlan hash {:016x}\n",
        plan.spec.name,
        counted(of_kind(ComponentKind::Spout), "spout"),
        counted(of_kind(ComponentKind::Bolt), "bolt"),
        counted(plan.tasks.len(), "task"),
        counted(plan.executors.len(), "executor"),
        counted(plan.workers.len(), "worker"),
        threads,
        plan.hash(),
    );
    text + &spouts(plan)
}

/// What becomes of the spouts' tuples when their own worker dies (D4).
fn spouts(plan: &Plan) -> String {
    let config = &plan.spec.config;
    let is = |reliable: bool| {
        let spouts = plan.spec.components.iter().filter(|c| c.kind == ComponentKind::Spout);
        let names = spouts.filter(|c| (c.reliable && config.acking()) == reliable).map(|c| c.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let from = match &config.state {
        Some(folder) => format!("from its last acknowledged place, in {folder}"),
        None => "from its beginning, for there is no --state".to_owned(),
    };
    let mut text = String::new();
    if !is(true).is_empty() {
        text.push_str(&format!("Reliable when its worker dies, {from}: {}\n", is(true)));
    }
    if !is(false).is_empty() {
        text.push_str(&format!("At most once when its worker dies: {}\n", is(false)));
    }
    text
}

fn components(plan: &Plan) -> Table {
    let mut table = Table::new(&["COMPONENT", "KIND", ">TASKS", "IDS", ">EXECUTORS", "RUN ON", "TICK", "CALLS UP TO"]);
    for (at, component) in plan.spec.components.iter().enumerate() {
        table.row([
            component.name.clone(),
            match component.kind {
                ComponentKind::Spout => "spout".into(),
                ComponentKind::Bolt => "bolt".into(),
            },
            component.tasks.to_string(),
            ids(&plan.tasks_of(at as ComponentIx)),
            component.executors.to_string(),
            match component.placement {
                Placement::Reactor => "reactors".into(),
                Placement::SideThread => "side threads".into(),
            },
            component.tick_ms.map_or("–".into(), |ms| format!("{ms} ms")),
            call_limit(component),
        ]);
    }
    table
}

/// How long a call may take before it costs its worker its life. Side threads are there to be held.
fn call_limit(component: &ComponentSpec) -> String {
    match component.execute_timeout_ms {
        _ if component.placement == Placement::SideThread => "–".into(),
        0 => "any time".into(),
        ms if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

fn streams(plan: &Plan) -> Table {
    let mut table = Table::new(&["STREAM", "TUPLE", "READ BY", "GROUPING"]);
    for (at, stream) in plan.spec.streams.iter().enumerate() {
        let at = at as StreamIx;
        let mut first = [plan.spec.stream_name(at), schema(&stream.schema)];
        if stream.direct {
            first[1].push_str(", direct");
        }
        let readers = plan.subscribers_of(at);
        if readers.is_empty() {
            let [name, tuple] = first.clone();
            table.row([name, tuple, "nobody".into(), "–".into()]);
        }
        for &reader in readers {
            let subscription = &plan.spec.subscriptions[reader as usize];
            let to = plan.spec.components[subscription.to as usize].name.clone();
            // Repeated cells stay empty, so that the eye finds where the next stream begins.
            let [name, tuple] = std::mem::take(&mut first);
            table.row([name, tuple, to, grouping(subscription, &stream.schema)]);
        }
    }
    table
}

fn schema(schema: &SchemaSpec) -> String {
    let fields: Vec<String> = schema.fields.iter().map(|(name, ty)| format!("{name}: {ty}")).collect();
    format!("{}({})", schema.name, fields.join(", "))
}

fn placement(plan: &Plan) -> Table {
    let mut table = Table::new(&[">WORKER", ">REACTOR", "CORE", ">EXECUTOR", "COMPONENT", "TASKS"]);
    for (worker, worker_plan) in plan.workers.iter().enumerate() {
        let mut worker = worker.to_string();
        for &reactor in &worker_plan.reactors {
            let reactor_plan = &plan.reactors[reactor as usize];
            let core = match (reactor_plan.core, reactor_plan.side) {
                (_, true) => "any (side thread)".into(),
                (Some(core), false) => core.to_string(),
                (None, false) => "any".into(),
            };
            let mut first = [std::mem::take(&mut worker), reactor.to_string(), core];
            for &executor in &reactor_plan.executors {
                let executor_plan = &plan.executors[executor as usize];
                let [worker, reactor, core] = std::mem::take(&mut first);
                table.row([
                    worker,
                    reactor,
                    core,
                    executor.to_string(),
                    plan.spec.components[executor_plan.component as usize].name.clone(),
                    ids(&executor_plan.tasks),
                ]);
            }
        }
    }
    table
}

/// `7` or `4–7`.
fn ids(range: &Range<u32>) -> String {
    match range.len() {
        1 => range.start.to_string(),
        _ => format!("{}–{}", range.start, range.end - 1),
    }
}

fn links(plan: &Plan) -> Table {
    let mut table = Table::new(&["KIND", ">LINKS", "CARRIES BATCHES"]);
    let kinds = [
        (LinkKind::Local, "local", "within one reactor"),
        (LinkKind::Ring, "ring", "between two reactors of one worker, one way"),
        (LinkKind::Shm, "shm", "between two workers of one host that share memory, one way"),
        (LinkKind::Socket, "socket", "between two workers, one way"),
    ];
    for (kind, name, carries) in kinds {
        let count = plan.links.iter().filter(|link| link.kind == kind).count();
        table.row([name.to_string(), count.to_string(), carries.into()]);
    }
    table
}

fn memory(plan: &Plan) -> Table {
    let MemoryColumns { names, columns } = memory_columns(plan);
    let mut header = vec!["USE".to_string()];
    header.extend(names.iter().map(|name| format!(">{name}")));
    header.push("HOLDS".into());
    let mut table = Table::new(&header);
    type Part = (&'static str, fn(&MemoryUse) -> u64, &'static str);
    let parts: [Part; 8] = [
        ("open batches", |m| m.open_batches, "tuples of one stream for one reactor, until sent"),
        ("rings", |m| m.rings, "batches on their way between reactors of a worker"),
        ("shm", |m| m.shm, "batches on their way between workers that share memory"),
        ("sockets", |m| m.sockets, "batches being sent to or received from other workers"),
        ("inboxes", |m| m.inboxes, "tuples that wait for their bolt: the credit of every link"),
        ("bursts", |m| m.bursts, "what one call emits beyond the room there was"),
        ("ledgers", |m| m.ledgers, "pending roots of the spouts"),
        ("total", MemoryUse::total, ""),
    ];
    for (name, part, holds) in parts {
        let mut row = vec![name.to_string()];
        row.extend(columns.iter().map(|column| bytes(part(column))));
        row.push(holds.into());
        table.row(row);
    }
    table
}

struct MemoryColumns {
    names: Vec<String>,
    columns: Vec<MemoryUse>,
}

/// Each worker and the sum; of many workers only the largest. A single worker is the sum.
fn memory_columns(plan: &Plan) -> MemoryColumns {
    let workers = &plan.memory.workers;
    let (mut names, mut columns) = (Vec::new(), Vec::new());
    if workers.len() > WORKER_COLUMNS_MAX {
        let (at, largest) = workers
            .iter()
            .enumerate()
            .rev()
            .max_by_key(|(_, worker)| worker.total())
            .expect("there is more than one worker");
        names.push(format!("WORKER {at} (LARGEST)"));
        columns.push(*largest);
    } else if workers.len() > 1 {
        for (at, worker) in workers.iter().enumerate() {
            names.push(format!("WORKER {at}"));
            columns.push(*worker);
        }
    }
    names.push("ALL".into());
    columns.push(plan.memory.all);
    MemoryColumns { names, columns }
}

fn memory_notes(plan: &Plan) -> String {
    let config = &plan.spec.config;
    format!(
        "  Sizes: batch {} ({} over a socket), credit {} per link and inbox, ring {}; {} key groups.\n  \
         A tuple larger than a batch travels alone, one at a time per link, and takes at most {} more.\n",
        bytes(config.batch_bytes.into()),
        bytes(config.socket_batch_bytes.into()),
        bytes(config.credit_bytes),
        bytes(config.ring_bytes),
        config.key_groups,
        bytes(config.max_tuple_bytes.into()),
    )
}

/// Columns as wide as their widest cell. A header that begins with `>` has its column set flush right.
struct Table {
    header: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(header: &[impl AsRef<str>]) -> Table {
        let header: Vec<&str> = header.iter().map(AsRef::as_ref).collect();
        Table {
            right: header.iter().map(|name| name.starts_with('>')).collect(),
            header: header.iter().map(|name| name.trim_start_matches('>').to_string()).collect(),
            rows: Vec::new(),
        }
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        assert_eq!(cells.len(), self.header.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    /// Indented by two, no blanks at line ends.
    fn render(&self) -> String {
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| lines().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let mut text = String::new();
        for cells in lines() {
            let mut line = String::new();
            for ((cell, &width), &right) in cells.iter().zip(&widths).zip(&self.right) {
                let cell = if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
                line.push_str("  ");
                line.push_str(&cell);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
