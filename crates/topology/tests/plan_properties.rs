//! What holds for the plan of any valid topology on any machine.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use squall_topology::{
    ComponentKind, ComponentSpec, Grouping, LinkKind, Machine, MemoryUse, Placement, Plan, Seat, ShmUse,
    SubscriptionSpec, TopologyConfig, TopologyError, TopologySpec, memory,
};

fn plan_of((spec, machine): (TopologySpec, Machine)) -> Plan {
    spec.validate().expect("the generator makes valid topologies only");
    Plan::new(spec, &machine).expect("a valid topology has a plan")
}

/// Plans are made by the strategy, so a failure prints the spec in them.
fn plan() -> impl Strategy<Value = Plan> {
    common::topology().prop_map(plan_of)
}

proptest! {
    #![proptest_config(common::cases(400))]

    #[test]
    fn every_task_is_in_exactly_one_executor_and_tasks_of_a_component_are_contiguous(plan in plan()) {
        let mut next = 0;
        for (at, executor) in plan.executors.iter().enumerate() {
            prop_assert_eq!(executor.tasks.start, next, "executors cover the tasks in order, without gaps");
            prop_assert!(!executor.tasks.is_empty());
            next = executor.tasks.end;
            for task in executor.tasks.clone() {
                let placed = plan.tasks[task as usize];
                prop_assert_eq!(placed.executor, at as u32);
                prop_assert_eq!(placed.component, executor.component);
                prop_assert_eq!(placed.reactor, executor.reactor);
                prop_assert!(plan.tasks_of(executor.component).contains(&task));
                prop_assert_eq!(plan.component_of(task), executor.component);
            }
        }
        prop_assert_eq!(next as usize, plan.tasks.len());
        prop_assert_eq!(plan.first_task.len(), plan.spec.components.len() + 1);
        for (at, component) in plan.spec.components.iter().enumerate() {
            prop_assert_eq!(plan.tasks_of(at as u32).len(), component.tasks as usize);
        }
    }

    #[test]
    fn executors_of_a_component_differ_by_at_most_one_task(plan in plan()) {
        for (at, component) in plan.spec.components.iter().enumerate() {
            let sizes: Vec<usize> =
                plan.executors.iter().filter(|e| e.component == at as u32).map(|e| e.tasks.len()).collect();
            prop_assert_eq!(sizes.len(), component.executors as usize);
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
        }
    }

    #[test]
    fn every_executor_is_on_exactly_one_reactor_and_every_reactor_in_exactly_one_worker(plan in plan()) {
        let mut on: BTreeMap<u32, u32> = BTreeMap::new();
        for (at, reactor) in plan.reactors.iter().enumerate() {
            prop_assert!(!reactor.executors.is_empty());
            prop_assert!(reactor.executors.is_sorted());
            for &executor in &reactor.executors {
                prop_assert_eq!(on.insert(executor, at as u32), None);
                prop_assert_eq!(plan.executors[executor as usize].reactor, at as u32);
            }
        }
        prop_assert_eq!(on.len(), plan.executors.len());
        let in_workers: Vec<u32> = plan.workers.iter().flat_map(|w| w.reactors.clone()).collect();
        prop_assert_eq!(in_workers, (0..plan.reactors.len() as u32).collect::<Vec<_>>());
        for (at, worker) in plan.workers.iter().enumerate() {
            prop_assert!(!worker.reactors.is_empty(), "worker {} has nothing to run", at);
            prop_assert!(worker.reactors.iter().all(|&r| plan.reactors[r as usize].worker == at as u32));
            let sides = worker.reactors.iter().map(|&r| plan.reactors[r as usize].side);
            prop_assert!(sides.is_sorted(), "normal reactors come first");
        }
    }

    #[test]
    fn side_executors_are_alone_on_unpinned_side_reactors_and_no_other_executor_is(plan in plan()) {
        for reactor in &plan.reactors {
            let side_executors = reactor.executors.iter().filter(|&&e| {
                plan.spec.components[plan.executors[e as usize].component as usize].placement == Placement::SideThread
            }).count();
            if reactor.side {
                prop_assert_eq!((reactor.executors.len(), side_executors), (1, 1));
                prop_assert_eq!(reactor.core, None);
            } else {
                prop_assert_eq!(side_executors, 0);
            }
        }
    }

    #[test]
    fn no_core_is_shared_while_cores_suffice_and_use_differs_by_one_otherwise((spec, machine) in common::topology()) {
        let plan = plan_of((spec, machine.clone()));
        let normal: Vec<_> = plan.reactors.iter().filter(|r| !r.side).collect();
        let mut used: BTreeMap<usize, usize> = BTreeMap::new();
        for reactor in &normal {
            prop_assert_eq!(reactor.core.is_some(), !machine.cores.is_empty());
            if let Some(core) = reactor.core {
                prop_assert!(machine.cores.contains(&core));
                *used.entry(core).or_default() += 1;
            }
        }
        if !machine.cores.is_empty() {
            prop_assert_eq!(used.len(), normal.len().min(machine.cores.len()));
            prop_assert!(used.values().all(|&n| n <= normal.len().div_ceil(machine.cores.len())), "{:?}", used);
        }
    }

    #[test]
    fn workers_share_each_kind_of_executor_evenly_and_reactors_share_their_workers((spec, machine) in common::topology()) {
        let plan = plan_of((spec, machine.clone()));
        let wanted = plan.spec.config.reactors.unwrap_or((machine.cores.len() as u32 / plan.spec.config.workers).max(1));
        let spread = |counts: &[usize]| counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0);
        let of_worker = |worker: u32, side: bool| -> Vec<usize> {
            let of = |r: &&squall_topology::ReactorPlan| r.worker == worker && r.side == side;
            plan.reactors.iter().filter(of).map(|r| r.executors.len()).collect()
        };
        let workers = 0..plan.workers.len() as u32;
        let normal: Vec<usize> = workers.clone().map(|w| of_worker(w, false).iter().sum()).collect();
        let side: Vec<usize> = workers.clone().map(|w| of_worker(w, true).len()).collect();
        prop_assert!(spread(&normal) <= 1, "{:?}", normal);
        prop_assert!(spread(&side) <= 1, "{:?}", side);
        for worker in workers {
            let loads = of_worker(worker, false);
            prop_assert_eq!(loads.len(), normal[worker as usize].min(wanted as usize));
            prop_assert!(spread(&loads) <= 1, "{:?}", loads);
        }
        for component in 0..plan.spec.components.len() as u32 {
            let mut by_worker = vec![0; plan.workers.len()];
            for executor in plan.executors.iter().filter(|e| e.component == component) {
                by_worker[plan.reactors[executor.reactor as usize].worker as usize] += 1;
            }
            prop_assert!(spread(&by_worker) <= 1, "each worker gets a share of each component: {:?}", by_worker);
        }
    }

    #[test]
    fn links_are_exactly_the_reactor_pairs_of_subscriptions_and_of_spouts_with_what_they_reach(plan in plan()) {
        let mut expected = BTreeSet::new();
        if plan.spec.config.acking() {
            // By rounds: what a spout's tuples reach after one hop, two, and so on.
            for spout in (0..).zip(&plan.spec.components).filter(|(_, c)| c.kind == ComponentKind::Spout).map(|(at, _)| at) {
                let mut reached = BTreeSet::from([spout]);
                for _ in &plan.spec.components {
                    let from = |s: &&SubscriptionSpec| reached.contains(&plan.spec.streams[s.stream as usize].component);
                    let next: Vec<u32> = plan.spec.subscriptions.iter().filter(from).map(|s| s.to).collect();
                    reached.extend(next);
                }
                for component in reached.into_iter().filter(|c| plan.spec.components[*c as usize].kind == ComponentKind::Bolt) {
                    for (a, b) in plan.reactors_of(spout).iter().flat_map(|a| plan.reactors_of(component).iter().map(|b| (*a, *b))) {
                        expected.extend([(a, b), (b, a)]);
                    }
                }
            }
        }
        for subscription in &plan.spec.subscriptions {
            for source in plan.source_tasks(subscription.stream) {
                for target in plan.tasks_of(subscription.to) {
                    let (a, b) = (plan.tasks[source as usize].reactor, plan.tasks[target as usize].reactor);
                    expected.extend([(a, b), (b, a)]);
                }
            }
        }
        let links: Vec<(u32, u32)> = plan.links.iter().map(|l| (l.from, l.to)).collect();
        prop_assert_eq!(&links, &expected.iter().copied().collect::<Vec<_>>());
        for (at, link) in plan.links.iter().enumerate() {
            prop_assert_eq!(plan.link_between(link.from, link.to), Some(at as u32));
            prop_assert!(plan.links_from(link.from).contains(&(at as u32)));
            let worker = |r: u32| plan.reactors[r as usize].worker;
            let kind = match (link.from == link.to, worker(link.from) == worker(link.to)) {
                (true, _) => LinkKind::Local,
                (false, true) => LinkKind::Ring,
                (false, false) if plan.spec.config.shm == ShmUse::Off => LinkKind::Socket,
                (false, false) => LinkKind::Shm,
            };
            prop_assert_eq!(link.kind, kind);
        }
        for from in 0..plan.reactors.len() as u32 {
            for to in 0..plan.reactors.len() as u32 {
                prop_assert_eq!(plan.link_between(from, to).is_some(), expected.contains(&(from, to)));
            }
        }
    }

    #[test]
    fn inboxes_and_cohorts_partition_the_tasks(plan in plan()) {
        let mut in_cohorts = BTreeSet::new();
        let rank = |c: u32| plan.topological_order().iter().position(|&x| x == c).unwrap();
        for reactor in 0..plan.reactors.len() as u32 {
            let cohorts = plan.cohorts_of(reactor);
            prop_assert!(cohorts.is_sorted_by(|a, b| rank(a.component) < rank(b.component)));
            let executors: BTreeSet<u32> = cohorts.iter().flat_map(|c| c.executors.clone()).collect();
            prop_assert_eq!(executors.into_iter().collect::<Vec<_>>(), plan.reactors[reactor as usize].executors.clone());
            for cohort in cohorts {
                prop_assert!(cohort.tasks.is_sorted());
                for &task in &cohort.tasks {
                    prop_assert!(in_cohorts.insert(task));
                    prop_assert_eq!(plan.tasks[task as usize].reactor, reactor);
                    prop_assert_eq!(plan.component_of(task), cohort.component);
                }
                let spout = plan.spec.components[cohort.component as usize].kind == ComponentKind::Spout;
                match plan.inbox_at(cohort.component, reactor) {
                    None => prop_assert!(spout),
                    Some(inbox) => {
                        prop_assert!(!spout);
                        let inbox_plan = &plan.inboxes[inbox as usize];
                        prop_assert_eq!((inbox_plan.component, inbox_plan.reactor), (cohort.component, reactor));
                        prop_assert_eq!(&inbox_plan.tasks, &cohort.tasks);
                        prop_assert!(plan.inboxes_of_reactor(reactor).contains(&inbox));
                    }
                }
            }
        }
        prop_assert_eq!(in_cohorts.len(), plan.tasks.len());
        let by_reactor: usize = (0..plan.reactors.len() as u32).map(|r| plan.inboxes_of_reactor(r).len()).sum();
        prop_assert_eq!(by_reactor, plan.inboxes.len());
        for task in 0..plan.tasks.len() as u32 {
            let inbox = plan.inbox_of_task(task);
            prop_assert_eq!(inbox.is_some_and(|at| plan.inboxes[at as usize].tasks.contains(&task)), inbox.is_some());
        }
        for component in 0..plan.spec.components.len() as u32 {
            let reactors: BTreeSet<u32> = plan.tasks_of(component).map(|t| plan.tasks[t as usize].reactor).collect();
            prop_assert_eq!(plan.reactors_of(component), &reactors.into_iter().collect::<Vec<_>>()[..]);
            for reactor in 0..plan.reactors.len() as u32 {
                let hosts = plan.reactors_of(component).contains(&reactor);
                let bolt = plan.spec.components[component as usize].kind == ComponentKind::Bolt;
                prop_assert_eq!(plan.inbox_at(component, reactor).is_some(), hosts && bolt);
            }
        }
    }

    #[test]
    fn task_sets_cover_each_all_subscription_exactly_once(plan in plan()) {
        let mut sets = 0;
        for (at, subscription) in plan.spec.subscriptions.iter().enumerate() {
            let at = at as u32;
            let mut reached: Vec<u32> = Vec::new();
            for reactor in 0..plan.reactors.len() as u32 {
                if let Some(set) = plan.task_set(at, reactor) {
                    sets += 1;
                    let set = &plan.task_sets[set as usize];
                    prop_assert_eq!((set.subscription, set.reactor), (at, reactor));
                    prop_assert!(set.tasks.iter().all(|&t| plan.tasks[t as usize].reactor == reactor));
                    reached.extend(&set.tasks);
                }
            }
            reached.sort_unstable();
            let expected: Vec<u32> = match subscription.grouping {
                Grouping::All => plan.tasks_of(subscription.to).collect(),
                _ => Vec::new(),
            };
            prop_assert_eq!(reached, expected);
        }
        prop_assert_eq!(sets, plan.task_sets.len());
    }

    #[test]
    fn lookups_agree_with_the_spec(plan in plan()) {
        for stream in 0..plan.spec.streams.len() as u32 {
            let component = plan.spec.streams[stream as usize].component;
            prop_assert!(plan.streams_of(component).contains(&stream));
            prop_assert_eq!(plan.source_tasks(stream), plan.tasks_of(component));
        }
        prop_assert_eq!((0..plan.spec.components.len()).map(|c| plan.streams_of(c as u32).len()).sum::<usize>(), plan.spec.streams.len());
        let rank = |c: u32| plan.topological_order().iter().position(|&x| x == c).unwrap();
        for (at, subscription) in plan.spec.subscriptions.iter().enumerate() {
            let at = at as u32;
            prop_assert!(plan.subscribers_of(subscription.stream).contains(&at));
            prop_assert!(plan.inputs_of(subscription.to).contains(&at));
            let from = plan.spec.streams[subscription.stream as usize].component;
            prop_assert!(subscription.feedback || rank(from) < rank(subscription.to));
            for sender in 0..plan.reactors.len() as u32 {
                let targets = plan.targets(at, sender);
                prop_assert_eq!(targets.iter().map(|t| t.task).collect::<Vec<_>>(), plan.tasks_of(subscription.to).collect::<Vec<_>>());
                let worker = plan.reactors[sender as usize].worker;
                let [in_worker, here]: [Vec<bool>; 2] = [
                    targets.iter().map(|t| plan.worker_of(t.task) == worker).collect(),
                    targets.iter().map(|t| plan.tasks[t.task as usize].reactor == sender).collect(),
                ];
                let local: Vec<bool> = targets.iter().map(|t| t.local).collect();
                let nearest = subscription.grouping == Grouping::LocalOrShuffle && local == here;
                prop_assert!(local == in_worker || nearest);
            }
        }
        prop_assert_eq!(plan.topological_order().len(), plan.spec.components.len());
    }

    #[test]
    fn the_memory_plan_adds_up(plan in plan()) {
        let config = &plan.spec.config;
        let mut all = MemoryUse::default();
        for worker in &plan.memory.workers {
            all.open_batches += worker.open_batches;
            all.rings += worker.rings;
            all.shm += worker.shm;
            all.sockets += worker.sockets;
            all.inboxes += worker.inboxes;
            all.bursts += worker.bursts;
            all.ledgers += worker.ledgers;
        }
        prop_assert_eq!(all, plan.memory.all);
        let parts = [all.open_batches, all.rings, all.shm, all.sockets, all.inboxes, all.bursts, all.ledgers];
        prop_assert_eq!(plan.memory.total, parts.iter().sum::<u64>());
        prop_assert_eq!(plan.memory.workers.len(), plan.workers.len());

        // The same sums from the other side: by pairs of tasks.
        let mut open = BTreeSet::new();
        let mut credits = BTreeSet::new();
        for subscription in &plan.spec.subscriptions {
            for source in plan.source_tasks(subscription.stream) {
                for target in plan.tasks_of(subscription.to) {
                    let (from, to) = (plan.tasks[source as usize].reactor, plan.tasks[target as usize].reactor);
                    open.insert((subscription.stream, from, to));
                    credits.insert((from, plan.inbox_of_task(target).unwrap()));
                }
            }
        }
        let batch = |&(_, from, to): &(u32, u32, u32)| match plan.links[plan.link_between(from, to).unwrap() as usize].kind {
            LinkKind::Socket => u64::from(config.socket_batch_bytes),
            LinkKind::Local | LinkKind::Ring | LinkKind::Shm => u64::from(config.batch_bytes),
        };
        prop_assert_eq!(all.open_batches, open.iter().map(batch).sum::<u64>());
        prop_assert_eq!(all.inboxes, credits.len() as u64 * config.credit_bytes);
        let count = |kind| plan.links.iter().filter(|l| l.kind == kind).count() as u64;
        prop_assert_eq!(all.rings, count(LinkKind::Ring) * config.ring_bytes);
        prop_assert_eq!(all.shm, count(LinkKind::Shm) * memory::shm_link_bytes(config));
        let batch = config.socket_batch_bytes;
        let sending = count(LinkKind::Socket) * memory::socket_send_batches(batch) * u64::from(batch);
        // One socket carries the links of both directions.
        let sockets = plan.links.iter().filter(|l| l.kind == LinkKind::Socket).map(|l| (l.from.min(l.to), l.from.max(l.to)));
        let ends = 2 * sockets.collect::<BTreeSet<_>>().len() as u64;
        prop_assert_eq!(all.sockets, sending + ends * memory::socket_window_bytes(batch));
        let bursts: u64 = plan.spec.components.iter().map(|c| u64::from(c.executors) * c.burst_bytes).sum();
        prop_assert_eq!(all.bursts, bursts);
        let spouts = plan.spec.components.iter().filter(|c| c.kind == ComponentKind::Spout);
        let roots: u64 = spouts.map(|c| u64::from(c.tasks) * u64::from(config.max_pending())).sum();
        prop_assert_eq!(all.ledgers, if config.acking() { roots * 64 } else { 0 });
    }

    #[test]
    fn a_plan_is_deterministic_and_its_canonical_text_survives_json((spec, machine) in common::topology()) {
        let plan = plan_of((spec.clone(), machine.clone()));
        prop_assert_eq!(&plan, &plan_of((spec.clone(), machine.clone())));
        let through_json: TopologySpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        let again = plan_of((through_json, machine));
        prop_assert_eq!(plan.canonical(), again.canonical());
        prop_assert_eq!(plan.hash(), again.hash());
    }

    #[test]
    fn canonical_text_and_hash_do_not_depend_on_core_ids((spec, machine) in common::topology()) {
        let plan = plan_of((spec.clone(), machine.clone()));
        let other = Machine { cores: machine.cores.iter().rev().map(|core| core + 100).collect() };
        let moved = plan_of((spec, other));
        prop_assert_eq!(plan.canonical(), moved.canonical());
        prop_assert_eq!(plan.hash(), moved.hash());
        prop_assert_eq!(Plan::first_difference(&plan.canonical(), &moved.canonical()), None);
    }

    #[test]
    fn any_change_that_travels_changes_the_hash_and_is_named((spec, machine) in common::topology(), which in 0..6usize) {
        let plan = plan_of((spec.clone(), machine.clone()));
        let mut changed = spec;
        let first = format!("spec.components[0] ({})", changed.components[0].name);
        let path = match which {
            0 => { changed.name.push('x'); "spec.name".into() }
            1 => { changed.components[0].tasks += 1; format!("{first}.tasks: ours is") }
            2 => { changed.config.key_groups += 1; "spec.config.key_groups: ours is 1024".into() }
            3 => { changed.streams[0].schema.id ^= 1; "spec.streams[0]".into() }
            4 => { changed.components[0].config.insert("k".into(), 1.into()); format!("{first}.config.k") }
            _ => { changed.components[0].burst_bytes += 1; format!("{first}.burst_bytes") }
        };
        let schema = changed.streams[0].schema.clone();
        changed.streams.iter_mut().for_each(|stream| stream.schema = schema.clone());
        let changed = plan_of((changed, machine));
        prop_assert_ne!(plan.hash(), changed.hash());
        let difference = Plan::first_difference(&plan.canonical(), &changed.canonical()).unwrap();
        prop_assert!(difference.starts_with(&path), "{}", difference);
    }
}

/// The properties above say nothing about what the generator never makes.
#[test]
fn the_random_topologies_hold_every_situation_many_times() {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut runner = TestRunner::new(common::cases(1));
    for _ in 0..400 {
        let plan = plan().new_tree(&mut runner).unwrap().current();
        let normal = plan.reactors.iter().filter(|r| !r.side).count();
        let cores: BTreeSet<usize> = plan.reactors.iter().filter_map(|r| r.core).collect();
        let config = &plan.spec.config;
        let situations = [
            ("feedback", plan.spec.subscriptions.iter().any(|s| s.feedback)),
            (
                "feedback to itself",
                plan.spec
                    .subscriptions
                    .iter()
                    .any(|s| s.feedback && plan.spec.streams[s.stream as usize].component == s.to),
            ),
            ("direct", plan.spec.streams.iter().any(|s| s.direct)),
            ("task sets on several reactors", plan.task_sets.len() > 1),
            ("several spouts", plan.spec.components.iter().filter(|c| c.kind == ComponentKind::Spout).count() > 1),
            ("side threads", plan.reactors.iter().any(|r| r.side)),
            ("no normal reactor", normal == 0),
            ("no cores", normal > 0 && cores.is_empty()),
            ("shared cores", !cores.is_empty() && cores.len() < normal),
            ("cores to spare", normal > 1 && cores.len() == normal),
            ("as many reactors as asked for", config.reactors.is_some_and(|n| normal as u32 == n * config.workers)),
            ("uneven tasks", plan.spec.components.iter().any(|c| c.tasks % c.executors != 0)),
            ("several cohorts on a reactor", (0..plan.reactors.len()).any(|r| plan.cohorts_of(r as u32).len() > 1)),
            ("a stream nobody reads", (0..plan.spec.streams.len()).any(|s| plan.subscribers_of(s as u32).is_empty())),
            ("local", plan.links.iter().any(|l| l.kind == LinkKind::Local)),
            ("ring", plan.links.iter().any(|l| l.kind == LinkKind::Ring)),
            ("shm", plan.links.iter().any(|l| l.kind == LinkKind::Shm)),
            ("socket", plan.links.iter().any(|l| l.kind == LinkKind::Socket)),
        ];
        for (situation, found) in situations {
            *seen.entry(situation).or_default() += u32::from(found);
        }
    }
    assert!(seen.values().all(|&times| times >= 10), "{seen:?}");
}

#[test]
fn the_canonical_text_is_pinned() {
    let plan = Plan::new(common::word_count(), &common::machine(4)).unwrap();
    assert_eq!(plan.canonical(), include_str!("word_count.canonical.json").trim_end());
    assert_eq!(format!("{:016x}", plan.hash()), "d468f99efb77052f");
}

#[test]
fn nested_settings_have_one_canonical_order() {
    let mut spec = common::word_count();
    spec.components[0].config.insert("z".into(), serde_json::json!({"b": [{"d": 1, "c": 2}], "a": null}));
    let text = Plan::new(spec, &common::machine(4)).unwrap().canonical();
    let at = |key: &str| text.find(key).unwrap_or_else(|| panic!("{key} in {text}"));
    assert!(at("\"a\"") < at("\"b\"") && at("\"c\"") < at("\"d\""));
}

#[test]
fn the_first_difference_names_the_cause_before_its_effects() {
    let canonical = |spec| Plan::new(spec, &common::machine(4)).unwrap().canonical();
    let ours = canonical(common::word_count());
    let difference = |spec| Plan::first_difference(&ours, &canonical(spec)).unwrap();

    let mut spec = common::word_count();
    spec.components[2].tasks = 8;
    assert_eq!(difference(spec), "spec.components[2] (count).tasks: ours is 4, theirs is 8");

    let mut spec = common::word_count();
    spec.subscriptions[0].grouping = Grouping::All;
    assert_eq!(difference(spec), "spec.subscriptions[0].grouping: ours is \"shuffle\", theirs is \"all\"");

    let mut spec = common::word_count();
    spec.components[1].config.insert("path".into(), "/tmp/x".into());
    assert_eq!(difference(spec), "spec.components[1] (split).config.path: ours has none, theirs is \"/tmp/x\"");

    // Same spec, other machine: the number of reactors follows the number of cores.
    let theirs = Plan::new(common::word_count(), &common::machine(2)).unwrap().canonical();
    let text = Plan::first_difference(&ours, &theirs).unwrap();
    assert!(text.starts_with("workers[0].reactors[0].executors[1]"), "{text}");
}

#[test]
fn a_difference_is_named_even_where_a_text_is_not_json() {
    assert_eq!(Plan::first_difference("a\nb", "a\nc").unwrap(), "line 2: ours is `b`, theirs is `c`");
    assert_eq!(Plan::first_difference("a", "a\nc").unwrap(), "line 2: ours is the end, theirs is `c`");
    assert_eq!(Plan::first_difference("a\n", "a").unwrap(), "line endings");
    assert_eq!(
        Plan::first_difference("{\"a\":1}", "{ \"a\": 1}").unwrap(),
        "line 1: ours is `{\"a\":1}`, theirs is `{ \"a\": 1}`"
    );
    assert_eq!(Plan::first_difference("x", "x"), None);
}

#[test]
fn executors_are_dealt_to_workers_in_turn_from_component_to_component_and_side_threads_from_the_last() {
    let plan = Plan::new(common::word_count(), &common::machine(4)).unwrap();
    let place: Vec<(u32, Option<usize>)> = plan
        .executors
        .iter()
        .map(|e| &plan.reactors[e.reactor as usize])
        .map(|reactor| (reactor.worker, reactor.core))
        .collect();
    // lines; split ×2; count ×2; report.
    assert_eq!(place, [(1, None), (0, Some(0)), (1, Some(2)), (0, Some(1)), (1, Some(3)), (0, Some(0))]);
}

/// The workers of a plan as seats on one host.
fn seats_of(plan: &Plan) -> Vec<Seat> {
    let seat = |worker: &squall_topology::WorkerPlan| {
        let reactors = || worker.reactors.iter().map(|r| &plan.reactors[*r as usize]);
        let normal = reactors().filter(|r| !r.side);
        Seat {
            executors: reactors().flat_map(|r| r.executors.iter().rev().copied()).collect(),
            reactors: normal.clone().count() as u32,
            cores: normal.filter_map(|r| r.core).collect(),
            host: 0,
        }
    };
    plan.workers.iter().map(seat).collect()
}

proptest! {
    #![proptest_config(common::cases(100))]

    #[test]
    fn who_is_seated_as_a_plan_would_seat_gets_that_plan(plan in plan()) {
        prop_assert_eq!(Plan::seated(plan.spec.clone(), &seats_of(&plan)).unwrap(), plan);
    }
}

#[test]
fn assigned_executors_run_where_they_were_assigned_and_hosts_share_no_memory() {
    let spec = common::word_count();
    let seat = |executors: &[u32], host| Seat { executors: executors.to_vec(), reactors: 2, cores: vec![7], host };
    // lines; split ×2; count ×2; report.
    let plan = Plan::seated(spec.clone(), &[seat(&[5, 3, 1], 0), seat(&[0], 0), seat(&[2, 4], 1)]).unwrap();
    let workers: Vec<u32> = plan.executors.iter().map(|e| plan.reactors[e.reactor as usize].worker).collect();
    assert_eq!((workers, plan.spec.config.workers), (vec![1, 0, 2, 0, 2, 0], 3));
    let kinds: BTreeSet<_> = plan
        .links
        .iter()
        .map(|link| (plan.reactors[link.from as usize].worker.max(plan.reactors[link.to as usize].worker), link.kind))
        .collect();
    assert!(kinds.contains(&(1, LinkKind::Shm)) && kinds.contains(&(2, LinkKind::Socket)), "{kinds:?}");
    assert!(!kinds.contains(&(2, LinkKind::Shm)), "{kinds:?}");
    let refused = |seats: &[Seat]| Plan::seated(spec.clone(), seats).unwrap_err()[0].to_string();
    assert!(refused(&[seat(&[0, 1, 2, 3, 4], 0)]).contains("executor 5 has no worker"));
    assert!(refused(&[seat(&[0, 1, 2, 3, 4, 5], 0), seat(&[5], 0)]).contains("executor 5 is assigned twice"));
    assert!(refused(&[seat(&[0, 1, 2, 3, 4, 5, 6], 0)]).contains("executor 6, but there are 6"));
    assert!(refused(&[seat(&[0, 1, 2, 3, 4, 5], 0), seat(&[], 0)]).contains("worker 1 has nothing to run"));
}

#[test]
fn local_or_shuffle_stays_on_the_reactor_where_both_ends_are_spread_alike() {
    let plan = |from: (u32, Placement), to: u32| {
        let spec = TopologySpec {
            name: "near".into(),
            components: vec![
                ComponentSpec { tasks: from.0, executors: from.0, placement: from.1, ..ComponentSpec::spout("lines") },
                ComponentSpec { tasks: to, executors: to, ..ComponentSpec::bolt("split") },
            ],
            streams: vec![common::stream(0, "lines", false)],
            subscriptions: vec![common::subscription(0, 1, Grouping::LocalOrShuffle)],
            config: TopologyConfig { reactors: Some(2), ..TopologyConfig::default() },
        };
        Plan::new(spec, &common::machine(2)).unwrap()
    };
    let local = |plan: &Plan, sender: u32| -> Vec<bool> { plan.targets(0, sender).iter().map(|t| t.local).collect() };
    let alike = plan((2, Placement::Reactor), 2);
    assert_eq!([local(&alike, 0), local(&alike, 1)], [vec![true, false], vec![false, true]]);
    let twice = plan((2, Placement::Reactor), 4);
    assert_eq!(local(&twice, 0).iter().filter(|l| **l).count(), 2);
    // One sender, or senders elsewhere: the nearest targets alone would get all.
    assert_eq!(local(&plan((1, Placement::Reactor), 2), 0), [true, true]);
    assert_eq!(local(&plan((2, Placement::SideThread), 2), 2), [true, true]);
}

#[test]
fn one_core_carries_all_reactors_of_all_workers() {
    let plan = Plan::new(common::word_count(), &common::machine(1)).unwrap();
    let cores: Vec<Option<usize>> = plan.reactors.iter().map(|r| r.core).collect();
    assert_eq!(cores, [Some(0), Some(0), None]);
}

#[test]
fn a_topology_with_too_many_threads_is_refused() {
    let mut spec = common::word_count();
    spec.components[0].tasks = 5000;
    spec.components[0].executors = 5000;
    let errors = Plan::new(spec, &common::machine(4)).unwrap_err();
    assert_eq!(errors, [TopologyError::TooManyReactors { reactors: 5004, side: 5000 }]);
    assert_eq!(
        errors[0].to_string(),
        "the topology needs 5004 reactors (threads), 5000 of them side threads; the limit is 1024, so lower `reactors`, \
         `workers`, or the executors of side-thread components"
    );
}
