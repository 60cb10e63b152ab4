//! The canonical text of a plan, its hash, and the first difference between two.
//!
//! Workers compute the plan themselves; equal hashes prove that they agree on every index a batch may carry. Core ids are
//! left out: which CPUs are usable may differ by the state of the machine and changes nothing that travels.

use serde::Serialize;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::plan::Plan;
use crate::spec::{ComponentSpec, TopologySpec};

/// Version of the canonical text. Raise it when the text or the meaning of an index changes.
const FORMAT: u32 = 4;

/// Sections in the order of cause and effect: a spec that differs is why all that follows differs.
const SECTIONS: [&str; 5] = ["format", "spec", "workers", "links", "task_sets"];

#[derive(Serialize)]
struct Canonical<'a> {
    format: u32,
    spec: TopologySpec,
    workers: Vec<Worker<'a>>,
    links: Vec<String>,
    task_sets: Vec<String>,
}

#[derive(Serialize)]
struct Worker<'a> {
    reactors: Vec<Reactor<'a>>,
}

#[derive(Serialize)]
struct Reactor<'a> {
    side: bool,
    executors: Vec<Executor<'a>>,
}

#[derive(Serialize)]
struct Executor<'a> {
    name: &'a str,
    first_task: u32,
    tasks: u32,
}

impl Plan {
    /// The plan as pretty JSON with a stable order: the spec and the placement, without core ids.
    pub fn canonical(&self) -> String {
        let mut spec = self.spec.clone();
        for ComponentSpec { config, .. } in &mut spec.components {
            // Does nothing unless some crate of the author's build asks serde_json to preserve the order of keys.
            config.values_mut().for_each(Value::sort_all_objects);
        }
        let canonical = Canonical {
            format: FORMAT,
            spec,
            workers: self.workers.iter().map(|worker| self.canonical_worker(&worker.reactors)).collect(),
            links: self.links.iter().map(|l| format!("{} to {} {:?}", l.from, l.to, l.kind)).collect(),
            task_sets: self
                .task_sets
                .iter()
                .map(|s| format!("subscription {} reactor {} tasks {:?}", s.subscription, s.reactor, s.tasks))
                .collect(),
        };
        serde_json::to_string_pretty(&canonical)
            .expect("a plan has string keys only, and writing to memory cannot fail")
    }

    fn canonical_worker(&self, reactors: &[u32]) -> Worker<'_> {
        let executor = |&ix: &u32| {
            let executor = &self.executors[ix as usize];
            Executor {
                name: &self.spec.components[executor.component as usize].name,
                first_task: executor.tasks.start,
                tasks: executor.tasks.len() as u32,
            }
        };
        let reactor = |&ix: &u32| {
            let reactor = &self.reactors[ix as usize];
            Reactor { side: reactor.side, executors: reactor.executors.iter().map(executor).collect() }
        };
        Worker { reactors: reactors.iter().map(reactor).collect() }
    }

    /// XXH3-64 of [`Plan::canonical`]. Plans with equal hashes agree on every index that travels.
    pub fn hash(&self) -> u64 {
        xxh3_64(self.canonical().as_bytes())
    }

    /// The first difference between two canonical texts, for people: `spec.components[2] (count).tasks: ours is 4, theirs
    /// is 8`. `None` if they are equal. Any text will do; without JSON in both, the first line that differs is named.
    pub fn first_difference(ours: &str, theirs: &str) -> Option<String> {
        if ours == theirs {
            return None;
        }
        match (serde_json::from_str::<Value>(ours), serde_json::from_str::<Value>(theirs)) {
            (Ok(a), Ok(b)) => value_difference("", &a, &b).or_else(|| line_difference(ours, theirs)),
            _ => line_difference(ours, theirs),
        }
    }
}

fn value_difference(path: &str, ours: &Value, theirs: &Value) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).collect();
            let rank = |key: &String| match path {
                "" => SECTIONS.iter().position(|section| section == key).unwrap_or(SECTIONS.len()),
                _ => 0,
            };
            keys.sort_by_key(|key| (rank(key), *key));
            keys.into_iter().find_map(|key| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                entry_difference(&path, a.get(key), b.get(key))
            })
        }
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len())).find_map(|at| {
            let (a, b) = (a.get(at), b.get(at));
            entry_difference(&format!("{path}[{at}]{}", name_of(a.or(b))), a, b)
        }),
        _ if ours == theirs => None,
        _ => Some(format!("{path}: ours is {}, theirs is {}", short(ours), short(theirs))),
    }
}

fn entry_difference(path: &str, ours: Option<&Value>, theirs: Option<&Value>) -> Option<String> {
    match (ours, theirs) {
        (Some(a), Some(b)) => value_difference(path, a, b),
        (Some(a), None) => Some(format!("{path}: ours is {}, theirs has none", short(a))),
        (None, Some(b)) => Some(format!("{path}: ours has none, theirs is {}", short(b))),
        (None, None) => None,
    }
}

/// An index says little to people; where the entry has a name, it is shown too.
fn name_of(entry: Option<&Value>) -> String {
    match entry.and_then(|entry| entry.get("name")).and_then(Value::as_str) {
        Some(name) => format!(" ({name})"),
        None => String::new(),
    }
}

fn short(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn line_difference(ours: &str, theirs: &str) -> Option<String> {
    let (mut a, mut b) = (ours.lines(), theirs.lines());
    for line in 1.. {
        match (a.next(), b.next()) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b => {}
            (a, b) => {
                let show = |side: Option<&str>| side.map_or("the end".into(), |text| format!("`{}`", text.trim()));
                return Some(format!("line {line}: ours is {}, theirs is {}", show(a), show(b)));
            }
        }
    }
    Some("line endings".into())
}
