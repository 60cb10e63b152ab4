//! Clients: what they ask for, and what they were promised.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_control::record::{Change, ComponentShape, Shape};
use squall_control::{Accepted, Refusal, Request, Submission};
use squall_scheduler::{NodeUse, Resources};

use super::host::{ARCH, ENGINE};
use super::world::{ASK_AGAIN, End, What, World};
use crate::dice::Dice;

/// A request under way: asked again at every nimbus until it is answered for good.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) attempts: u32,
}

/// What was asked and promised.
#[derive(Default)]
pub(super) struct Promises {
    /// Names whose submission was answered, with the id.
    pub(super) submitted: BTreeMap<String, String>,
    /// Names for which a kill was sent at all; it may have happened.
    pub(super) kill_asked: BTreeMap<String, bool>,
    /// Ids whose kill was answered.
    pub(super) killed: Vec<String>,
}

pub(super) fn name_of(at: u32) -> String {
    format!("t{at}")
}

/// The next request.
pub(super) fn draw(dice: &mut Dice, number: u32, hosts: usize) -> Request {
    let name = name_of(dice.below(number.max(1)));
    let wait = Some(Duration::from_millis(dice.between_u64(0, 10_000)));
    match dice.weighted(&[(40, 0), (15, 1), (10, 2), (10, 3), (15, 4), (10, 5)]) {
        0 => Request::Submit(Box::new(submission(dice, number))),
        1 => Request::Kill { name, wait },
        2 => Request::Activate(name),
        3 => Request::Deactivate(name),
        4 => Request::Rebalance { name, wait, change: change(dice) },
        _ => {
            let usage = dice.pick(&[NodeUse::Ready, NodeUse::Ready, NodeUse::KeepOnly]);
            Request::Use { node: format!("node{}", dice.below(hosts as u32)), usage }
        }
    }
}

fn submission(dice: &mut Dice, number: u32) -> Submission {
    let component = |at: u32, dice: &mut Dice| {
        let tasks = dice.between(1, 4);
        let need = Resources { cpu: 10, memory: 1 << 20 };
        ComponentShape { name: format!("c{at}"), tasks, executors: dice.between(1, tasks), need }
    };
    let count = dice.between(1, 3);
    let components: Vec<ComponentShape> = (0..count).map(|at| component(at, dice)).collect();
    Submission {
        name: name_of(number),
        submission: format!("submission-{number}"),
        shape: Shape { workers: dice.between(1, 3), components, talks: (1..count).map(|c| (c - 1, c)).collect() },
        blobs: vec![format!("blob{}", dice.below(3))],
        arguments: serde_json::Value::Null,
        arch: ARCH.into(),
        engine: ENGINE.into(),
        inactive: dice.percent(10),
        submitted_ms: 0,
    }
}

fn change(dice: &mut Dice) -> Change {
    let workers = dice.percent(50).then(|| dice.between(1, 4));
    Change { workers, executors: BTreeMap::from([("c0".into(), 1)]), restart: dice.percent(20) }
}

impl World {
    pub(super) fn next_request(&mut self) {
        if self.requests_left == 0 {
            return;
        }
        self.requests_left -= 1;
        let client = self.next_client;
        self.next_client += 1;
        let request = draw(&mut self.dice, client as u32, self.options.hosts);
        if let Request::Kill { name, .. } = &request {
            self.promises.kill_asked.insert(name.clone(), true);
        }
        self.asked.insert(client, Pending { request, attempts: 0 });
        self.ask(client);
        let mean = (self.options.faults.as_millis() as u64 / u64::from(self.options.requests)).max(2);
        let after = Duration::from_millis(self.dice.between_u64(1, mean));
        self.later(after, What::NextRequest);
    }

    pub(super) fn ask(&mut self, client: u64) {
        let Some(pending) = self.asked.get_mut(&client) else { return };
        pending.attempts += 1;
        let request = pending.request.clone();
        let nimbus = self.dice.below(self.nimbuses.len() as u32) as usize;
        if !self.lost() && self.open(End::Client, End::Nimbus(nimbus)) {
            let delay = self.delay();
            self.later(delay, What::Ask { client, nimbus, request });
        }
        self.later(ASK_AGAIN, What::Again { client });
    }

    pub(super) fn answered(&mut self, client: u64, result: Result<Accepted, Refusal>) {
        match result {
            Ok(Accepted::Done(id)) => {
                let Some(pending) = self.asked.remove(&client) else { return };
                self.note(format!("answered: {} for {:?}", id, kind(&pending.request)));
                match pending.request {
                    Request::Submit(submission) => drop(self.promises.submitted.insert(submission.name, id)),
                    Request::Kill { .. } => self.promises.killed.push(id),
                    _ => {}
                }
            }
            Ok(Accepted::Topologies(_)) | Err(Refusal::Wrong(_)) => drop(self.asked.remove(&client)),
            // Asked again in time.
            Err(Refusal::NotLeader { .. } | Refusal::Unavailable(_) | Refusal::Unknown(_)) => {}
        }
    }
}

fn kind(request: &Request) -> String {
    match request {
        Request::Submit(s) => format!("submit {}", s.name),
        other => format!("{other:?}"),
    }
}
