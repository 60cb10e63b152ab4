//! Who leads: joining, claiming, stepping down.
//!
//! `/epoch` is a number that each claim sets, in one commit with the ephemeral `/leader`. Its version is the fence: it changes with
//! every change of leader, so what an old leader still writes fails.

use squall_coordinator::{Call, Error, Op, Reply};

use super::requests::Refusal;
use super::work::Work;
use super::{Nimbus, Output, Role, View, Waiting};
use crate::record::{
    ASSIGNMENTS, CORDONS, EPOCH, LEADER, LeaderInfo, NAMES, SUPERVISORS, TOPOLOGIES, from_json, to_json,
};

impl Nimbus {
    /// Begins anew with the session there is.
    pub(super) fn join(&mut self) {
        self.step_down(Role::Joining);
        self.call(Waiting::Prepared, Call::Watch("/".into()));
        let folders = [NAMES, TOPOLOGIES, ASSIGNMENTS, SUPERVISORS, CORDONS].map(|f| Op::create(f, ""));
        for op in folders.into_iter().chain([Op::create(EPOCH, "0")]) {
            self.call(Waiting::Prepared, Call::Commit(vec![op]));
        }
        self.look();
    }

    /// Reads who leads.
    pub(super) fn look(&mut self) {
        self.call(Waiting::Epoch, Call::Get(EPOCH.into()));
        self.call(Waiting::Leader, Call::Get(LEADER.into()));
    }

    /// Gives up what only a leader has. Those who wait are told; whether their commit happened they have to look up.
    pub(super) fn step_down(&mut self, to: Role) {
        if matches!(self.role, Role::Leading) {
            self.note("leads no more");
        }
        self.role = to;
        self.waiting.clear();
        self.view = View::default();
        self.waits.clear();
        self.reports.clear();
        self.unplaced.clear();
        (self.dirty, self.retry_at) = (false, None);
        let flight = self.in_flight.take().and_then(|flight| flight.client);
        let queued = std::mem::take(&mut self.queue).into_iter().filter_map(|work| match work {
            Work::Request { client, .. } => Some((client, Refusal::NotLeader { leader: None })),
            _ => None,
        });
        let broken = || Refusal::Unknown("nimbus lost the coordinator before it heard whether this was stored".into());
        let told = flight.map(|(client, _)| (client, broken())).into_iter().chain(queued);
        self.outputs.extend(told.map(|(client, refusal)| Output::Answer { client, result: Err(refusal) }));
    }

    pub(super) fn epoch_read(&mut self, result: Result<Reply, Error>) {
        let Ok(Reply::Node(Some(node))) = result else { return };
        let number = std::str::from_utf8(&node.data).ok().and_then(|text| text.parse().ok());
        let Some(number) = number else {
            return self.note(format!("{EPOCH} holds no number: repair it by hand; nobody can lead until then"));
        };
        let read = Some((number, node.stat.version));
        if matches!(self.role, Role::Leading | Role::Loading) && self.epoch != read {
            return self.join();
        }
        self.epoch = read;
    }

    pub(super) fn leader_read(&mut self, result: Result<Reply, Error>) {
        let Ok(Reply::Node(node)) = result else { return };
        let leader = node.as_ref().map(|node| (from_json::<LeaderInfo>(&node.data), node.stat));
        match leader {
            // Our claim came through, in this session.
            Some((Ok(_), stat)) if stat.own => {
                if !matches!(self.role, Role::Leading | Role::Loading) {
                    self.load();
                }
            }
            // Ours too, of a session that is over but not yet gone.
            Some((Ok(info), stat)) if info.instance == self.options.me.instance => {
                self.claim(vec![Op::delete(LEADER, stat.version)]);
            }
            Some((Ok(info), _)) => {
                if matches!(self.role, Role::Leading | Role::Loading) {
                    self.step_down(Role::Joining);
                }
                self.role = Role::Following(info);
            }
            Some((Err(error), _)) => self.note(format!("{LEADER} cannot be read: {error}; waiting for it to go")),
            None => self.claim(Vec::new()),
        }
    }

    /// Tries to lead. `first` takes away what stands there.
    fn claim(&mut self, first: Vec<Op>) {
        let Some((epoch, version)) = self.epoch else { return };
        self.step_down(Role::Joining);
        let mut ops = vec![Op::set(EPOCH, (epoch + 1).to_string(), version)];
        ops.extend(first);
        ops.push(Op::ephemeral(LEADER, to_json(&self.options.me)));
        self.call(Waiting::Claimed, Call::Commit(ops));
    }

    pub(super) fn claimed(&mut self, result: Result<Reply, Error>) {
        // Reading may have shown it before the answer came.
        if matches!(self.role, Role::Leading | Role::Loading) {
            return;
        }
        match result {
            Ok(Reply::Committed(versions)) => {
                let (epoch, _) = self.epoch.expect("it was read before it was claimed");
                self.epoch = Some((epoch + 1, versions[0]));
                self.load();
            }
            // Another one was faster; or nobody knows. Reading tells. After `Ended` or a lost connection an event follows.
            Err(Error::Ended) => {}
            _ => self.look(),
        }
    }
}
