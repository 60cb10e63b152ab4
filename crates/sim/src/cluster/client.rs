//! Clients: what they ask for, and what they were promised.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_control::record::{Change, ComponentShape, Shape};
use squall_control::{Request, Submission};
use squall_scheduler::{NodeUse, Resources};

use super::host::{ARCH, ENGINE};
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
