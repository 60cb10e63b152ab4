//! Everything that can be wrong with a spec, found in one go.
//!
//! Later checks look at what earlier ones vouch for, so they run in stages: indices first; what the indices point at next;
//! the graph only if every index was right.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::TopologyError;
use crate::graph;
use crate::spec::{
    ComponentKind, ComponentSpec, Grouping, LEDGER_SLOT_BYTES, MAX_KEY_GROUPS, MAX_SPOUT_PENDING, MAX_TASKS,
    SchemaSpec, SubscriptionSpec, TopologyConfig, TopologySpec,
};

/// Rings must hold this many batches, so that a batch that does not fit before the ring's end still fits after it while
/// another is read.
const RING_BATCHES_MIN: u64 = 4;

impl TopologySpec {
    /// Checks the whole spec and reports every fault found, in the order of the spec.
    ///
    /// A spec that passes can be planned ([`crate::Plan::new`]) unless it needs too many reactors on a given machine.
    pub fn validate(&self) -> Result<(), Vec<TopologyError>> {
        let mut check = Check { spec: self, errors: Vec::new() };
        check.names();
        check.components();
        check.config();
        if check.indices() {
            check.streams();
            check.subscriptions();
            check.inputs();
            check.cycles();
        }
        if check.errors.is_empty() { Ok(()) } else { Err(check.errors) }
    }
}

struct Check<'a> {
    spec: &'a TopologySpec,
    errors: Vec<TopologyError>,
}

impl Check<'_> {
    fn fault(&mut self, error: TopologyError) {
        self.errors.push(error);
    }

    fn names(&mut self) {
        self.name("topology", &self.spec.name);
        let mut seen = BTreeSet::new();
        for component in &self.spec.components {
            self.name("component", &component.name);
            if !seen.insert(&component.name) {
                self.fault(TopologyError::DuplicateComponent { name: component.name.clone() });
            }
        }
        for stream in &self.spec.streams {
            self.name("stream", &stream.name);
        }
    }

    fn name(&mut self, what: &'static str, name: &str) {
        if let Some(reason) = name_fault(name) {
            self.fault(TopologyError::BadName { what, name: name.escape_debug().to_string(), reason });
        }
    }

    fn components(&mut self) {
        if !self.spec.components.iter().any(|c| c.kind == ComponentKind::Spout) {
            self.fault(TopologyError::NoSpout);
        }
        for component in &self.spec.components {
            self.component(component);
        }
        let tasks = self.spec.components.iter().map(|c| u64::from(c.tasks)).sum();
        if tasks > u64::from(MAX_TASKS) {
            self.fault(TopologyError::TooManyTasks { tasks });
        }
    }

    fn component(&mut self, component: &ComponentSpec) {
        let ComponentSpec { name, tasks, executors, .. } = component;
        if *tasks == 0 {
            self.fault(TopologyError::NoTasks { component: name.clone() });
        }
        if *executors == 0 {
            self.fault(TopologyError::NoExecutors { component: name.clone() });
        }
        if *tasks > 0 && executors > tasks {
            self.fault(TopologyError::MoreExecutorsThanTasks {
                component: name.clone(),
                executors: *executors,
                tasks: *tasks,
            });
        }
        if let Some(tick_ms) = component.tick_ms {
            let why = "a tick needs a period, and one beyond a day is a schedule; leave it out for no ticks";
            self.range("tick_ms", Some(name), tick_ms, 1, 86_400_000, why);
        }
        if component.execute_timeout_ms != 0 {
            let why = "a call that does not return is noticed after a second; 0 lets it take as long as it likes";
            self.range("execute_timeout_ms", Some(name), component.execute_timeout_ms, 1_000, 86_400_000, why);
        }
        let batch = u64::from(self.spec.config.batch_bytes.max(self.spec.config.socket_batch_bytes));
        let relation = "one batch";
        let why = "what a call emits beyond its room is kept by the batch";
        self.at_least("burst_bytes", Some(name), component.burst_bytes, batch, relation, why);
        let why = "it is memory one executor may take in one call; emit less per call";
        self.range("burst_bytes", Some(name), component.burst_bytes, 0, 1 << 40, why);
    }

    fn config(&mut self) {
        let config = &self.spec.config;
        let TopologyConfig { batch_bytes, socket_batch_bytes, .. } = *config;
        let why = "each worker is a process of this topology";
        self.range("workers", None, config.workers.into(), 1, 1024, why);
        if let Some(reactors) = config.reactors {
            self.range(
                "reactors",
                None,
                reactors.into(),
                1,
                1024,
                "each reactor is a thread that wants a core of its own",
            );
        }
        let why = "tables by key group stay small, and each task of a fields grouping needs one";
        self.range("key_groups", None, config.key_groups.into(), 1, MAX_KEY_GROUPS.into(), why);
        let why = "smaller ones are mostly header, larger ones only add latency";
        self.range("batch_bytes", None, batch_bytes.into(), 128, 16 << 20, why);
        self.range("socket_batch_bytes", None, socket_batch_bytes.into(), 128, 16 << 20, why);
        let why = "positions within one batch are 32 bits, and one tuple must not take all memory";
        self.range("max_tuple_bytes", None, config.max_tuple_bytes.into(), 64, 1 << 30, why);

        let batch = u64::from(batch_bytes);
        let why = "with less, a link could not send even one full batch";
        self.at_least(
            "credit_bytes",
            None,
            config.credit_bytes,
            batch.max(socket_batch_bytes.into()),
            "one batch",
            why,
        );
        self.range("credit_bytes", None, config.credit_bytes, 0, 1 << 40, "it is memory that each link may fill");
        let why = "a batch needs room beside the one being read, also at the ring's end";
        let relation = "four times `batch_bytes`";
        self.at_least("ring_bytes", None, config.ring_bytes, RING_BATCHES_MIN * batch, relation, why);
        self.range("ring_bytes", None, config.ring_bytes, 0, 1 << 30, "a ring that large only hides a slow bolt");

        self.acking();

        let executors: u64 = self.spec.components.iter().map(|c| u64::from(c.executors)).sum();
        if u64::from(config.workers) > executors && executors > 0 {
            self.fault(TopologyError::MoreWorkersThanExecutors { workers: config.workers, executors });
        }
    }

    fn acking(&mut self) {
        let config = &self.spec.config;
        let (timeout, day) = (config.message_timeout_ms, 86_400_000);
        let why = "a root that is waited for longer than a day is lost; 30000 is usual";
        self.range("message_timeout_ms", None, timeout, 1, day, why);
        if let Some(age) = config.max_root_age_ms {
            let why = "a root that comes of age first never times out; leave it out for ten times as long";
            self.range("max_root_age_ms", None, age, timeout.min(day), 100 * day, why);
        }
        if let Some(pending) = config.max_spout_pending {
            let why = "a spout needs one, and each takes 64 bytes; leave it out for as many as `ledger_bytes` hold";
            self.range("max_spout_pending", None, pending.into(), 1, MAX_SPOUT_PENDING.into(), why);
        }
        let most = LEDGER_SLOT_BYTES * u64::from(MAX_SPOUT_PENDING);
        let why = "it is memory of each spout task, 64 bytes for each pending root";
        self.range("ledger_bytes", None, config.ledger_bytes, LEDGER_SLOT_BYTES, most, why);
        let (restarts, letters) = (config.executor_restarts.into(), config.dead_letter_after.into());
        let why = "an executor that fails that often will not come right; 20 is usual, 0 ends the worker at once";
        self.range("executor_restarts", None, restarts, 0, 1000, why);
        let why = "it counts how often a tuple may end an executor; 3 is usual";
        self.range("dead_letter_after", None, letters, 1, 1000, why);
    }

    fn range(
        &mut self,
        setting: &'static str,
        component: Option<&String>,
        value: u64,
        min: u64,
        max: u64,
        why: &'static str,
    ) {
        if !(min..=max).contains(&value) {
            let component = component.cloned();
            self.fault(TopologyError::OutOfRange { setting, component, value, min, max, why });
        }
    }

    fn at_least(
        &mut self,
        setting: &'static str,
        component: Option<&String>,
        value: u64,
        min: u64,
        relation: &'static str,
        why: &'static str,
    ) {
        if value < min {
            let component = component.cloned();
            self.fault(TopologyError::TooSmallForBatch { setting, component, value, min, relation, why });
        }
    }

    /// Whether every index points into its list.
    fn indices(&mut self) -> bool {
        let before = self.errors.len();
        let (components, streams) = (self.spec.components.len(), self.spec.streams.len());
        for stream in &self.spec.streams {
            if stream.component as usize >= components {
                let whose = format!("stream `{}`", stream.name.escape_debug());
                self.fault(TopologyError::UnknownComponent { whose, index: stream.component, count: components });
            }
        }
        for (at, subscription) in self.spec.subscriptions.iter().enumerate() {
            let whose = || format!("subscription {at}");
            if subscription.stream as usize >= streams {
                self.fault(TopologyError::UnknownStream { whose: whose(), index: subscription.stream, count: streams });
            }
            if subscription.to as usize >= components {
                self.fault(TopologyError::UnknownComponent {
                    whose: whose(),
                    index: subscription.to,
                    count: components,
                });
            }
        }
        self.errors.len() == before
    }

    fn streams(&mut self) {
        let mut names = BTreeSet::new();
        let mut schemas: BTreeMap<u64, u32> = BTreeMap::new();
        for (at, stream) in self.spec.streams.iter().enumerate() {
            let at = at as u32;
            if !names.insert((stream.component, &stream.name)) {
                self.fault(TopologyError::DuplicateStream {
                    component: self.spec.source_name(at).into(),
                    stream: stream.name.clone(),
                });
            }
            let mut fields = BTreeSet::new();
            for (field, _) in &stream.schema.fields {
                if !fields.insert(field) {
                    self.fault(TopologyError::DuplicateField {
                        stream: self.spec.stream_name(at),
                        field: field.clone(),
                    });
                }
            }
            let first = *schemas.entry(stream.schema.id).or_insert(at);
            if self.spec.streams[first as usize].schema != stream.schema {
                self.fault(TopologyError::SchemaClash {
                    a: self.spec.stream_name(first),
                    b: self.spec.stream_name(at),
                    id: stream.schema.id,
                });
            }
        }
    }

    fn subscriptions(&mut self) {
        let mut seen = BTreeSet::new();
        for subscription in &self.spec.subscriptions {
            let stream = &self.spec.streams[subscription.stream as usize];
            let to = &self.spec.components[subscription.to as usize];
            let stream_name = self.spec.stream_name(subscription.stream);
            if to.kind == ComponentKind::Spout {
                self.fault(TopologyError::SpoutWithInput { spout: to.name.clone(), stream: stream_name.clone() });
            }
            if !seen.insert((subscription.stream, subscription.to)) {
                let (to, stream) = (to.name.clone(), stream_name.clone());
                self.fault(TopologyError::DuplicateSubscription { to, stream });
            }
            let direct_grouping = subscription.grouping == Grouping::Direct;
            if stream.direct && !direct_grouping {
                self.fault(TopologyError::DirectStreamNeedsDirectGrouping {
                    stream: stream_name.clone(),
                    to: to.name.clone(),
                    grouping: subscription.grouping.word(),
                });
            }
            if direct_grouping && !stream.direct {
                let (stream, to) = (stream_name.clone(), to.name.clone());
                self.fault(TopologyError::DirectGroupingNeedsDirectStream { stream, to });
            }
            self.grouping(subscription, stream_name, to, &stream.schema);
        }
        self.ports();
    }

    fn grouping(&mut self, subscription: &SubscriptionSpec, stream: String, to: &ComponentSpec, schema: &SchemaSpec) {
        let grouping = subscription.grouping.word();
        let to_name = || to.name.clone();
        match &subscription.grouping {
            Grouping::Fields(fields) | Grouping::PartialKey(fields) => {
                if fields.is_empty() {
                    self.fault(TopologyError::NoKeyFields { grouping, stream: stream.clone(), to: to_name() });
                }
                let mut seen = BTreeSet::new();
                for &field in fields {
                    match schema.fields.get(field as usize) {
                        None => self.fault(TopologyError::UnknownField {
                            grouping,
                            stream: stream.clone(),
                            to: to_name(),
                            field,
                            fields: schema.fields.iter().map(|(name, _)| name.clone()).collect(),
                        }),
                        Some((name, _)) if !seen.insert(field) => self.fault(TopologyError::RepeatedField {
                            grouping,
                            stream: stream.clone(),
                            to: to_name(),
                            field: name.clone(),
                        }),
                        Some(_) => {}
                    }
                }
                let key_groups = self.spec.config.key_groups;
                if matches!(subscription.grouping, Grouping::Fields(_)) && to.tasks > key_groups {
                    self.fault(TopologyError::TooFewKeyGroups { to: to_name(), stream, tasks: to.tasks, key_groups });
                }
            }
            Grouping::Custom(name) if name.is_empty() => {
                self.fault(TopologyError::UnnamedCustomGrouping { stream, to: to_name() });
            }
            _ => {}
        }
    }

    /// Streams that share an input port must carry the same tuples: the port decides as what they are read.
    fn ports(&mut self) {
        let mut first: BTreeMap<(u32, u16), u32> = BTreeMap::new();
        for subscription in &self.spec.subscriptions {
            let a = *first.entry((subscription.to, subscription.port)).or_insert(subscription.stream);
            let (a_schema, b_schema) =
                (&self.spec.streams[a as usize].schema, &self.spec.streams[subscription.stream as usize].schema);
            let alike = a_schema.id == b_schema.id || (a_schema.dynamic && b_schema.dynamic);
            if !alike {
                self.fault(TopologyError::PortMismatch {
                    to: self.spec.components[subscription.to as usize].name.clone(),
                    port: subscription.port,
                    a: self.spec.stream_name(a),
                    a_type: a_schema.name.clone(),
                    b: self.spec.stream_name(subscription.stream),
                    b_type: b_schema.name.clone(),
                });
            }
        }
    }

    fn inputs(&mut self) {
        for (at, component) in self.spec.components.iter().enumerate() {
            if component.kind == ComponentKind::Spout {
                continue;
            }
            let mut inputs = self.spec.subscriptions.iter().filter(|s| s.to as usize == at).peekable();
            if inputs.peek().is_none() {
                self.fault(TopologyError::BoltWithoutInput { bolt: component.name.clone() });
            } else if inputs.all(|s| s.feedback) {
                self.fault(TopologyError::OnlyFeedbackInputs { bolt: component.name.clone() });
            }
        }
    }

    fn cycles(&mut self) {
        for subscription in self.spec.subscriptions.iter().filter(|s| s.feedback) {
            let from = self.spec.streams[subscription.stream as usize].component;
            if !graph::leads_to(self.spec, subscription.to, from) {
                self.fault(TopologyError::FeedbackWithoutCycle {
                    stream: self.spec.stream_name(subscription.stream),
                    to: self.spec.components[subscription.to as usize].name.clone(),
                });
            }
        }
        if let Err(cycle) = graph::topological_order(self.spec) {
            let name = |&c: &u32| self.spec.components[c as usize].name.as_str();
            let path: Vec<&str> = cycle.iter().chain(&cycle[..1]).map(name).collect();
            self.fault(TopologyError::Cycle { path: path.join(" → ") });
        }
    }
}

/// Storm refuses `/ . : \` in names; dots are harmless here, and what is left out would need quoting somewhere.
fn name_fault(name: &str) -> Option<&'static str> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > 128 {
        Some("is too long")
    } else if name.starts_with("__") {
        Some("is reserved for the system")
    } else if name.chars().all(|c| c == '.') {
        Some("would be a path")
    } else if !name.chars().all(allowed) {
        Some("has a character that is not allowed")
    } else {
        None
    }
}
