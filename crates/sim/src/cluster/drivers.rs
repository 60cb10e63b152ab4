//! What a driver does with the outputs of nimbus and supervisor, on simulated processes and disks.

use std::time::Duration;

use squall_control::record::Spouts;
use squall_control::{NimbusOutput, Report as NodeReport, SupervisorOutput};

use super::host::WorkerProcess;
use super::world::{End, What, World};

impl World {
    pub(super) fn drive_nimbus(&mut self, at: usize) {
        let Some(nimbus) = &mut self.nimbuses[at].nimbus else { return };
        let outputs: Vec<NimbusOutput> = nimbus.outputs().collect();
        for output in outputs {
            if self.crashes() {
                return self.crash_nimbus(at);
            }
            match output {
                NimbusOutput::Call { ticket, call } => self.send_call(End::Nimbus(at), ticket, call),
                // The beat opens sessions.
                NimbusOutput::Connect | NimbusOutput::Removed { .. } => {}
                NimbusOutput::Answer { client, result } => {
                    let delay = self.delay();
                    if !self.lost() && self.open(End::Nimbus(at), End::Client) {
                        self.later(delay, What::Answered { client: client.0, result });
                    }
                }
                NimbusOutput::Note(line) => {
                    self.report.leaders += u64::from(line.starts_with("leads with"));
                    self.note(format!("nimbus {at}: {line}"));
                }
            }
        }
    }

    pub(super) fn drive_supervisor(&mut self, at: usize) {
        loop {
            let Some(supervisor) = &mut self.hosts[at].supervisor else { return };
            let outputs: Vec<SupervisorOutput> = supervisor.outputs().collect();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                if self.crashes() {
                    return self.crash_supervisor(at);
                }
                self.do_for_supervisor(at, output);
            }
        }
    }

    pub(super) fn do_for_supervisor(&mut self, at: usize, output: SupervisorOutput) {
        let start = self.hosts[at].start;
        match output {
            SupervisorOutput::Call { ticket, call } => self.send_call(End::Host(at), ticket, call),
            SupervisorOutput::Connect | SupervisorOutput::Announce { .. } | SupervisorOutput::Neighbours(_) => {}
            SupervisorOutput::Fetch(blobs) => {
                for hash in blobs {
                    let there = !(self.faulty && self.dice.percent(20));
                    let after = Duration::from_millis(self.dice.between_u64(1, 500));
                    self.later(after, What::Blob { host: at, start, hash, there });
                }
            }
            SupervisorOutput::Persist { slot, file } => self.hosts[at].persist(slot, file),
            SupervisorOutput::Start(order) => {
                self.report.starts += 1;
                let line = format!(
                    "{}: starts {} {:?} in slot {}",
                    self.hosts[at].id, order.topology.id, order.epoch, order.slot
                );
                self.note(line);
                if !self.started.insert((order.topology.id.clone(), order.epoch.wire())) {
                    self.fail(format!("{} {:?} is started twice", order.topology.id, order.epoch));
                }
                if let Some(pid) = self.hosts[at].in_slot(order.slot) {
                    self.fail(format!("slot {} of node{at} has process {pid} already", order.slot));
                }
                let own = |w: &&squall_control::record::WorkerAssignment| {
                    (w.node.as_str(), w.slot) == (self.hosts[at].id.as_str(), order.slot)
                };
                let executors =
                    order.assignment.workers.iter().find(own).map(|w| w.executors.clone()).unwrap_or_default();
                let process = self.hosts[at].spawn(WorkerProcess {
                    slot: order.slot,
                    topology: order.topology.id.clone(),
                    epoch: order.epoch,
                    executors,
                    spouts: order.topology.status.spouts(),
                    peers: Some(order.assignment.clone()),
                });
                let told = Duration::from_millis(self.dice.between_u64(0, 20));
                self.later(told, What::Spawned { host: at, start, slot: order.slot, epoch: order.epoch, process });
                let runs = Duration::from_millis(self.dice.between_u64(20, 300));
                self.later(runs, What::Runs { host: at, pid: process.pid });
            }
            SupervisorOutput::Spouts { slot, spouts } => {
                if let Some(pid) = self.hosts[at].in_slot(slot) {
                    self.hosts[at].processes.get_mut(&pid).expect("it is there").spouts = spouts;
                    // Most have nothing pending soon; some never.
                    if spouts != Spouts::Run && self.dice.percent(80) {
                        let after = Duration::from_millis(self.dice.between_u64(0, 3_000));
                        self.later(after, What::Drained { host: at, pid });
                    }
                }
            }
            SupervisorOutput::Peers { slot, assignment } => {
                if let Some(pid) = self.hosts[at].in_slot(slot) {
                    self.hosts[at].processes.get_mut(&pid).expect("it is there").peers = Some(assignment);
                }
            }
            SupervisorOutput::Stop { slot, process } => {
                // Some do not listen, and are killed.
                if self.dice.percent(80) {
                    let after = Duration::from_millis(self.dice.between_u64(1, 500));
                    self.later(after, What::Dies { host: at, slot, pid: process.pid });
                }
            }
            SupervisorOutput::Kill { slot, process } => {
                let after = Duration::from_millis(self.dice.between_u64(0, 10));
                self.later(after, What::Dies { host: at, slot, pid: process.pid });
            }
            SupervisorOutput::Report(report) => self.send_report(at, report),
            SupervisorOutput::Fail(why) => self.fail(format!("node{at} gives up: {why}")),
            SupervisorOutput::Note(line) => self.note(format!("node{at}: {line}")),
        }
    }

    pub(super) fn send_report(&mut self, from: usize, report: NodeReport) {
        for to in 0..self.nimbuses.len() {
            if !self.lost() {
                let delay = self.delay();
                self.later(delay, What::Report { to, from, report: report.clone() });
            }
        }
    }
}
