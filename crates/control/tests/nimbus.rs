//! Nimbus beside a coordinator that answers at once: what each request does, what is refused, what a new leader goes on with.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_control::record::{
    ASSIGNMENTS, Assignment, Change, ComponentShape, LeaderInfo, NAMES, NodeInfo, SUPERVISORS, Shape, Status,
    TOPOLOGIES, TopologyRecord, at, from_json, to_json,
};
use squall_control::{
    Accepted, ClientId, Epoch, Nimbus, NimbusOptions, NimbusOutput, Refusal, Report, Request, Role, Submission,
    WorkerReport, WorkerState,
};
use squall_coordinator::{Call, Event, NoStore, Op, Server, SessionId};
use squall_scheduler::{Even, NodeUse, Resources};

const LONG: Duration = Duration::from_secs(3600);

struct Rig {
    server: Server,
    now: Duration,
    nimbuses: Vec<(Nimbus, Option<SessionId>)>,
    nodes: SessionId,
    answers: BTreeMap<u64, Result<Accepted, Refusal>>,
    next_client: u64,
}

impl Rig {
    fn new(nodes: usize) -> Rig {
        let mut server = Server::default();
        let session = server.connect(LONG, Duration::ZERO);
        let mut rig = Rig {
            server,
            now: Duration::ZERO,
            nimbuses: Vec::new(),
            nodes: session,
            answers: BTreeMap::new(),
            next_client: 0,
        };
        rig.start();
        for node in 0..nodes {
            rig.register(node, "disk0");
        }
        rig
    }

    fn start(&mut self) {
        let name = format!("nimbus{}", self.nimbuses.len());
        let me =
            LeaderInfo { id: name.clone(), instance: name.clone(), address: format!("{name}:6627"), sessions: None };
        self.nimbuses.push((Nimbus::new(NimbusOptions::new(me), Box::new(Even::default())), None));
        self.settle();
    }

    fn register(&mut self, node: usize, identity: &str) {
        let id = format!("node{node}");
        let info = NodeInfo {
            id: id.clone(),
            identity: format!("{id}-{identity}"),
            address: format!("{id}:6699"),
            slots: 4,
            capacity: Resources { cpu: 400, memory: 1 << 30 },
            arch: "x86_64".into(),
            engine: "1".into(),
        };
        self.commit(vec![Op::ephemeral(at(SUPERVISORS, &id), to_json(&info))]);
    }

    fn commit(&mut self, ops: Vec<Op>) {
        self.server.call(self.nodes, &Call::Commit(ops), &mut NoStore).unwrap();
        self.settle();
    }

    /// Carries messages until there are none.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for at in 0..self.nimbuses.len() {
                let outputs: Vec<NimbusOutput> = self.nimbuses[at].0.outputs().collect();
                for output in outputs {
                    quiet = false;
                    self.carry_out(at, output);
                }
            }
            let events: Vec<(SessionId, Event)> = self.server.events().collect();
            for (session, event) in events {
                quiet = false;
                if let Some((nimbus, of)) = self.nimbuses.iter_mut().find(|(_, of)| *of == Some(session)) {
                    if event == Event::Ended {
                        *of = None;
                    }
                    nimbus.event(event, self.now);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn carry_out(&mut self, at: usize, output: NimbusOutput) {
        let now = self.now;
        match output {
            NimbusOutput::Connect => {
                self.nimbuses[at].1 = Some(self.server.connect(LONG, now));
                self.nimbuses[at].0.connected(now);
            }
            NimbusOutput::Call { ticket, call } => {
                let session = self.nimbuses[at].1.expect("it has a session");
                let result = self.server.call(session, &call, &mut NoStore);
                self.nimbuses[at].0.event(Event::Done { ticket, result }, now);
            }
            NimbusOutput::Answer { client, result } => drop(self.answers.insert(client.0, result)),
            NimbusOutput::Note(_) | NimbusOutput::Removed { .. } => {}
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for (nimbus, _) in &mut self.nimbuses {
            nimbus.tick(self.now);
        }
        self.settle();
    }

    fn ask(&mut self, at: usize, request: Request) -> Result<Accepted, Refusal> {
        let client = self.next_client;
        self.next_client += 1;
        self.nimbuses[at].0.request(ClientId(client), request, self.now);
        self.settle();
        self.answers.remove(&client).expect("it is answered")
    }

    fn done(&mut self, request: Request) -> String {
        match self.ask(0, request) {
            Ok(Accepted::Done(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    fn refused(&mut self, request: Request) -> String {
        let before: Vec<_> = self.server.children(TOPOLOGIES).map(|(path, n)| (path.clone(), n.version)).collect();
        match self.ask(0, request) {
            Err(Refusal::Wrong(why)) => {
                let after: Vec<_> =
                    self.server.children(TOPOLOGIES).map(|(path, n)| (path.clone(), n.version)).collect();
                assert_eq!(before, after, "nothing has changed");
                why
            }
            other => panic!("{other:?}"),
        }
    }

    fn record(&self, id: &str) -> Option<TopologyRecord> {
        self.server.node(&at(TOPOLOGIES, id)).map(|n| from_json(&n.data).unwrap())
    }

    fn assignment(&self, id: &str) -> Assignment {
        from_json(&self.server.node(&at(ASSIGNMENTS, id)).expect("it is assigned").data).unwrap()
    }

    /// All workers of a topology say that they are drained.
    fn drain(&mut self, id: &str) {
        for worker in self.assignment(id).workers {
            let epoch = Epoch::first(worker.generation);
            let state = WorkerState::Drained { left: 0 };
            let report = WorkerReport { slot: worker.slot, topology: id.into(), epoch, state, restarts: 0 };
            self.nimbuses[0].0.report(Report { node: worker.node, workers: vec![report] }, self.now);
        }
        self.settle();
    }
}

fn submission(name: &str) -> Submission {
    let component = |name: &str, executors| ComponentShape {
        name: name.into(),
        tasks: 4,
        executors,
        need: Resources { cpu: 10, memory: 1 << 20 },
    };
    let shape =
        Shape { workers: 2, components: vec![component("spout", 2), component("bolt", 2)], talks: vec![(0, 1)] };
    Submission {
        name: name.into(),
        submission: format!("of-{name}"),
        shape,
        blobs: vec!["b".repeat(64)],
        arguments: serde_json::json!({"argv": ["--rate", "1000"]}),
        arch: "x86_64".into(),
        engine: "1".into(),
        inactive: false,
        submitted_ms: 0,
    }
}

fn submit(name: &str) -> Request {
    Request::Submit(Box::new(submission(name)))
}

fn kill(name: &str, secs: u64) -> Request {
    Request::Kill { name: name.into(), wait: Some(Duration::from_secs(secs)) }
}

fn rebalance(name: &str, change: Change) -> Request {
    Request::Rebalance { name: name.into(), wait: Some(Duration::from_secs(10)), change }
}

#[test]
fn a_submission_is_committed_assigned_and_taken_once() {
    let mut rig = Rig::new(2);
    let id = rig.done(submit("words"));
    assert_eq!(rig.record(&id).unwrap().status, Status::Active);
    let assignment = rig.assignment(&id);
    assert_eq!(assignment.workers.len(), 2);
    assert_eq!(assignment.workers.iter().map(|w| w.node.as_str()).collect::<Vec<_>>(), ["node0", "node1"]);
    assert_eq!(assignment.workers.iter().map(|w| w.generation).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(rig.done(submit("words")), id, "the same submission again is answered as the first");
    let mut other = submission("words");
    other.submission = "another".into();
    let why = rig.refused(Request::Submit(Box::new(other)));
    assert!(why.contains("words is there already (ACTIVE)"), "{why}");
}

#[test]
fn wrong_requests_change_nothing_and_say_what_to_do() {
    let mut none = Rig::new(0);
    assert!(none.refused(submit("a")).contains("start one with `squall supervisor`"));
    let mut rig = Rig::new(1);
    let mut with = |change: fn(&mut Submission)| {
        let mut s = submission("a");
        change(&mut s);
        rig.refused(Request::Submit(Box::new(s)))
    };
    for name in ["", "-a", "a b", "../a", "ä"] {
        let mut s = submission("a");
        s.name = name.into();
        let mut rig = Rig::new(1);
        assert!(rig.refused(Request::Submit(Box::new(s))).contains("is no name"), "{name}");
    }
    assert!(with(|s| s.arch = "aarch64".into()).contains("built for aarch64 with engine 1, but node node0 is x86_64"));
    assert!(with(|s| s.engine = "2".into()).contains("bring all nodes to one version"));
    assert!(with(|s| s.shape.components[0].executors = 5).contains("5 executors for 4 tasks"));
    assert!(with(|s| s.shape.components[0].need.cpu = 1000).contains("10.00 cores"));
    let id = rig.done(submit("a"));
    assert!(rig.refused(kill("b", 0)).contains("there are a"));
    let beyond = Change { executors: BTreeMap::from([("bolt".into(), 5)]), ..Change::default() };
    assert!(rig.refused(rebalance("a", beyond)).contains("1 to 4 are possible"));
    let unknown = Change { executors: BTreeMap::from([("bot".into(), 1)]), ..Change::default() };
    assert!(rig.refused(rebalance("a", unknown)).contains("it has bolt, spout"));
    assert!(
        rig.refused(rebalance("a", Change { workers: Some(0), ..Change::default() })).contains("at least one worker")
    );
    let workers = |n| rebalance("a", Change { workers: Some(n), ..Change::default() });
    assert!(rig.refused(workers(5)).contains("4 executors, and each worker needs one"));
    assert_eq!(rig.record(&id).unwrap().status, Status::Active, "nothing of it was begun");
    assert!(rig.refused(Request::Use { node: "x".into(), usage: NodeUse::Empty }).contains("there are node0"));
}

#[test]
fn a_kill_ends_when_all_is_drained_or_its_wait_is_over() {
    let mut rig = Rig::new(2);
    let (quick, slow) = (rig.done(submit("quick")), rig.done(submit("slow")));
    rig.done(kill("quick", 30));
    rig.done(kill("slow", 30));
    assert_eq!(rig.record(&quick).unwrap().status, Status::Killed { wait_ms: 30_000 });
    assert!(rig.refused(rebalance("quick", Change::default())).contains("is being killed"));
    rig.drain(&quick);
    assert!(rig.record(&quick).is_none() && rig.server.node(&at(ASSIGNMENTS, &quick)).is_none());
    rig.done(submit("quick"));
    rig.pass(Duration::from_millis(29_999));
    assert!(rig.record(&slow).is_some());
    rig.pass(Duration::from_millis(1));
    assert!(rig.record(&slow).is_none());
}

#[test]
fn a_rebalance_waits_then_places_anew_with_new_generations_and_goes_on_as_before() {
    let mut rig = Rig::new(2);
    let id = rig.done(submit("a"));
    rig.done(Request::Deactivate("a".into()));
    let change = Change { workers: Some(1), executors: BTreeMap::from([("bolt".into(), 4)]), restart: false };
    rig.done(rebalance("a", change));
    assert_eq!(rig.assignment(&id).generation, 2, "nothing moves before it is drained");
    assert!(rig.refused(rebalance("a", Change::default())).contains("wait until that is done"));
    // What is asked for meanwhile counts afterwards.
    rig.done(Request::Activate("a".into()));
    rig.drain(&id);
    let assignment = rig.assignment(&id);
    assert_eq!((assignment.workers.len(), assignment.workers[0].executors.len()), (1, 6));
    assert!(assignment.workers[0].generation > 2);
    assert_eq!(rig.record(&id).unwrap().status, Status::Active);
}

#[test]
fn a_rebalance_that_has_no_room_is_refused_and_the_topology_goes_on() {
    let mut rig = Rig::new(1);
    let id = rig.done(submit("a"));
    let before = rig.assignment(&id);
    rig.done(Request::Use { node: "node0".into(), usage: NodeUse::KeepOnly });
    let why = rig.refused(rebalance("a", Change { workers: Some(1), ..Change::default() }));
    assert!(why.contains("a cannot be placed so: no free slot"), "{why}");
    assert_eq!((rig.assignment(&id), rig.record(&id).unwrap().status), (before, Status::Active));
    // Where it is there is room: to start it anew there takes none.
    rig.done(rebalance("a", Change { restart: true, ..Change::default() }));
}

#[test]
fn a_preview_shows_where_a_submission_would_go_and_changes_nothing() {
    let mut rig = Rig::new(2);
    rig.done(submit("a"));
    let preview = rig.nimbuses[0].0.preview(&submission("b")).unwrap();
    assert_eq!(rig.server.children(TOPOLOGIES).count(), 1);
    assert_eq!(preview.moved, Vec::<String>::new());
    let id = rig.done(submit("b"));
    assert_eq!(rig.assignment(&id).placement(), preview.placement, "where it goes when it is submitted");
    assert!(rig.nimbuses[0].0.preview(&submission("a")).unwrap_err().to_string().contains("a is there already"));
    let mut large = submission("c");
    large.shape.components[0].need.cpu = 1000;
    assert!(rig.nimbuses[0].0.preview(&large).unwrap_err().to_string().contains("c cannot be placed"));
    rig.start();
    assert!(matches!(rig.nimbuses[1].0.preview(&submission("c")), Err(Refusal::NotLeader { leader: Some(_) })));
}

#[test]
fn a_restart_gives_every_worker_another_generation_in_its_place() {
    let mut rig = Rig::new(2);
    let id = rig.done(submit("a"));
    let before = rig.assignment(&id);
    rig.done(rebalance("a", Change { restart: true, ..Change::default() }));
    rig.pass(Duration::from_secs(10));
    let after = rig.assignment(&id);
    assert_eq!(before.placement(), after.placement());
    assert_eq!(after.workers.iter().map(|w| w.generation).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_lost_node_s_workers_move_and_only_they() {
    let mut rig = Rig::new(3);
    rig.pass(Duration::from_secs(5));
    let id = rig.done(submit("a"));
    let before = rig.assignment(&id);
    let lost = before.workers[1].node.clone();
    rig.commit(vec![Op::delete(at(SUPERVISORS, &lost), None)]);
    let after = rig.assignment(&id);
    assert!(after.workers.iter().all(|w| w.node != lost));
    assert!(after.workers.contains(&before.workers[0]), "the other one stays as it is");
    assert!(after.workers.iter().any(|w| w.generation == 3));
}

#[test]
fn where_a_worker_has_to_run_more_than_before_all_workers_of_its_topology_begin_anew() {
    let mut rig = Rig::new(2);
    rig.pass(Duration::from_secs(5));
    let three = |name: &str| {
        let mut submission = submission(name);
        submission.shape.workers = 3;
        Request::Submit(Box::new(submission))
    };
    let ids: Vec<String> = ["a", "b"].map(|name| rig.done(three(name))).to_vec();
    let before: Vec<Assignment> = ids.iter().map(|id| rig.assignment(id)).collect();
    // Three workers are without a place then, and one slot is free.
    rig.commit(vec![Op::delete(at(SUPERVISORS, "node0"), None)]);
    let mut unchanged = 0;
    for (id, before) in ids.iter().zip(&before) {
        let after = rig.assignment(id);
        assert_eq!(after.workers.len(), 2, "{after:?}");
        for worker in &after.workers {
            assert_eq!((worker.node.as_str(), worker.threads), ("node1", 1));
            assert!(worker.generation > before.generation, "{worker:?} was {before:?}");
            let same = |w: &&squall_control::record::WorkerAssignment| {
                (&w.node, w.slot, &w.executors) == (&worker.node, worker.slot, &worker.executors)
            };
            unchanged += usize::from(before.workers.iter().any(|w| same(&w)));
        }
    }
    assert!(unchanged > 0, "one of them runs what it ran before, beside others that do not");
}

#[test]
fn a_node_that_lost_its_disk_gets_new_generations() {
    let mut rig = Rig::new(1);
    rig.pass(Duration::from_secs(5));
    let id = rig.done(submit("a"));
    rig.commit(vec![Op::delete(at(SUPERVISORS, "node0"), None)]);
    assert_eq!(rig.assignment(&id).generation, 2, "there is nowhere to go, so it stays assigned");
    rig.register(0, "disk1");
    let after = rig.assignment(&id);
    assert!(after.workers.iter().all(|w| w.identity == "node0-disk1" && w.generation > 2));
}

#[test]
fn a_worker_that_used_up_its_restarts_gets_another_generation() {
    let mut rig = Rig::new(1);
    let id = rig.done(submit("a"));
    let worker = rig.assignment(&id).workers[0].clone();
    let epoch = Epoch { generation: worker.generation, restart: Epoch::MAX_RESTART };
    let spent =
        WorkerReport { slot: worker.slot, topology: id.clone(), epoch, state: WorkerState::Spent, restarts: 1023 };
    rig.nimbuses[0].0.report(Report { node: worker.node, workers: vec![spent] }, rig.now);
    rig.settle();
    let workers = rig.assignment(&id).workers;
    assert_eq!(workers.iter().filter(|w| w.generation == 3).count(), 1);
    assert_eq!(workers.len(), 2);
}

#[test]
fn a_standby_names_the_leader_and_goes_on_with_what_that_one_began() {
    let mut rig = Rig::new(2);
    rig.start();
    let (killed, kept) = (rig.done(submit("killed")), rig.done(submit("kept")));
    rig.done(kill("killed", 10));
    match rig.ask(1, Request::List) {
        Err(Refusal::NotLeader { leader: Some(leader) }) => assert_eq!(leader.address, "nimbus0:6627"),
        other => panic!("{other:?}"),
    }
    let before = rig.assignment(&kept);
    let session = rig.nimbuses[0].1.take().unwrap();
    rig.nimbuses.remove(0);
    rig.server.end(session);
    rig.settle();
    assert_eq!(*rig.nimbuses[0].0.role(), Role::Leading);
    assert_eq!(rig.assignment(&kept), before, "a change of leader moves nothing");
    rig.pass(Duration::from_secs(10));
    assert!(rig.record(&killed).is_none(), "the kill is finished by the new one");
    match rig.ask(0, Request::List) {
        Ok(Accepted::Topologies(list)) => {
            assert_eq!(list.len(), 1);
            assert_eq!((list[0].assigned, list[0].workers), ((4, 4), 2));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_leader_that_was_deposed_writes_nothing() {
    let mut rig = Rig::new(2);
    rig.done(submit("a"));
    // Another leader sets the epoch; this one has not heard of it when the request comes.
    rig.server.call(rig.nodes, &Call::Commit(vec![Op::set("/epoch", "99", None)]), &mut NoStore).unwrap();
    let missed: Vec<(SessionId, Event)> = rig.server.events().collect();
    assert!(!missed.is_empty());
    let answer = rig.ask(0, submit("b"));
    assert!(matches!(answer, Err(Refusal::Unknown(_) | Refusal::NotLeader { .. })), "{answer:?}");
    assert!(rig.server.children(TOPOLOGIES).count() == 1, "it was fenced");
}

#[test]
fn a_drained_node_is_emptied_and_stays_so_over_a_change_of_leader() {
    let mut rig = Rig::new(2);
    let id = rig.done(submit("a"));
    rig.done(Request::Use { node: "node0".into(), usage: NodeUse::Empty });
    assert!(rig.assignment(&id).workers.iter().all(|w| w.node == "node1"));
    rig.start();
    let session = rig.nimbuses[0].1.take().unwrap();
    rig.nimbuses.remove(0);
    rig.server.end(session);
    rig.settle();
    let id = rig.done(submit("b"));
    assert!(rig.assignment(&id).workers.iter().all(|w| w.node == "node1"));
}

#[test]
fn state_of_a_topology_is_small_and_a_thousand_of_them_do_not_hold_up_one_more() {
    let mut rig = Rig::new(0);
    for node in 0..700 {
        rig.register(node, "disk0");
    }
    let mut first = submission("t0");
    for component in &mut first.shape.components {
        (component.tasks, component.executors) = (5, 5);
    }
    let id = rig.done(Request::Submit(Box::new(first)));
    let record = rig.record(&id).unwrap();
    // The others were there before, as a new leader finds them.
    for n in 1..1000 {
        let (id, name) = (format!("t{n}-1-1"), format!("t{n}"));
        let record = TopologyRecord { id: id.clone(), name: name.clone(), ..record.clone() };
        let ops = vec![Op::create(at(NAMES, &name), id.clone()), Op::create(at(TOPOLOGIES, &id), to_json(&record))];
        rig.server.call(rig.nodes, &Call::Commit(ops), &mut NoStore).unwrap();
    }
    let session = rig.nimbuses[0].1.take().unwrap();
    rig.server.end(session);
    rig.nimbuses.clear();
    rig.start();
    assert_eq!(rig.server.children(ASSIGNMENTS).count(), 1000);
    let start = std::time::Instant::now();
    let id = rig.done(submit("more"));
    let submitted = start.elapsed();
    rig.done(kill("t500", 0));
    rig.pass(Duration::from_millis(1));
    let of = |folder: &str| {
        rig.server.children(folder).map(|(_, n)| n.data.len()).sum::<usize>() / rig.server.children(folder).count()
    };
    println!(
        "with 1000 topologies of 10 executors: one more submission {submitted:?}, with a kill {:?}; a topology takes {} and its \
         assignment {} bytes",
        start.elapsed(),
        of(TOPOLOGIES),
        of(ASSIGNMENTS)
    );
    assert_eq!(rig.assignment(&id).workers.len(), 2);
    assert!(of(TOPOLOGIES) + of(ASSIGNMENTS) < 2048);
}
