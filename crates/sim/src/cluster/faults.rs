//! What fails, and how it comes back.

use std::time::Duration;

use squall_control::record::LeaderInfo;
use squall_control::{Nimbus, NimbusOptions};
use squall_coordinator::SessionId;
use squall_scheduler::Even;

use super::link::Link;
use super::world::{End, What, World};

impl World {
    pub(super) fn count(&mut self, what: &'static str) {
        *self.report.faults.entry(what).or_default() += 1;
        self.note(format!("fault: {what}"));
    }

    pub(super) fn fault(&mut self) {
        let Some(every) = self.options.fault_every.filter(|_| self.faulty) else { return };
        let next = Duration::from_millis(self.dice.between_u64(1, 2 * every.as_millis() as u64));
        self.later(next, What::Fault);
        let nimbus = self.dice.below(self.nimbuses.len() as u32) as usize;
        let host = self.dice.below(self.hosts.len() as u32) as usize;
        let long = Duration::from_millis(self.dice.between_u64(10, 8_000));
        match self.dice.weighted(&[(15, 0), (15, 1), (20, 2), (8, 3), (20, 4), (6, 5), (2, 6), (6, 7)]) {
            0 => {
                self.count("nimbus killed");
                self.crash_nimbus(nimbus);
            }
            1 => {
                self.count("supervisor killed");
                self.crash_supervisor(host);
            }
            2 => {
                let pids: Vec<u32> = self.hosts[host].processes.keys().copied().collect();
                if !pids.is_empty() {
                    self.count("worker killed");
                    let pid = self.dice.pick(&pids);
                    let slot = self.hosts[host].processes[&pid].slot;
                    self.later(Duration::ZERO, What::Dies { host, slot, pid });
                }
            }
            3 => {
                self.count("host lost power");
                self.power_off(host, long);
            }
            4 => {
                self.count("link cut");
                let end = if self.dice.percent(50) { End::Nimbus(nimbus) } else { End::Host(host) };
                let other = match self.dice.below(3) {
                    0 | 1 => End::Server,
                    _ => End::Client,
                };
                self.cuts.insert((end, other));
                self.later(long, What::Join(end, other));
                // Often both ways, sometimes one only.
                if self.dice.percent(60) {
                    self.cuts.insert((other, end));
                    self.later(long, What::Join(other, end));
                }
            }
            5 if self.server_up => {
                let forgets = self.dice.percent(40);
                self.count(if forgets { "coordinator restarted" } else { "coordinator away" });
                self.server_up = false;
                self.later(long, What::ServerBack { forgets });
            }
            6 => {
                self.count("disk replaced");
                self.power_off(host, long);
                let number = self.now.as_millis() as u64;
                self.hosts[host].replace(number);
            }
            _ => {
                self.count("session ended");
                let sessions: Vec<SessionId> = self.by_session.keys().copied().collect();
                if let Some(session) = sessions.last().copied() {
                    self.server.end(session);
                }
            }
        }
    }

    pub(super) fn power_off(&mut self, at: usize, long: Duration) {
        let host = &mut self.hosts[at];
        host.on = false;
        host.processes.clear();
        host.supervisor = None;
        host.start += 1;
        host.link = Link { number: host.link.number + 1, ..Link::default() };
        self.later(long, What::PowerOn(at));
    }

    pub(super) fn crash_nimbus(&mut self, at: usize) {
        let process = &mut self.nimbuses[at];
        if process.nimbus.take().is_some() {
            process.link = Link { number: process.link.number + 1, ..Link::default() };
            let after = Duration::from_millis(self.dice.between_u64(10, 5_000));
            self.later(after, What::StartNimbus(at));
        }
    }

    pub(super) fn start_nimbus(&mut self, at: usize) {
        let process = &mut self.nimbuses[at];
        if process.nimbus.is_some() {
            return;
        }
        process.start += 1;
        let (id, instance) = (format!("nimbus{at}"), format!("nimbus{at}-{}", process.start));
        let me = LeaderInfo { id, instance, address: format!("nimbus{at}:6627"), sessions: None };
        let mut nimbus = Nimbus::new(NimbusOptions::new(me), Box::new(Even::default()));
        nimbus.tick(self.clock(End::Nimbus(at)));
        self.nimbuses[at].nimbus = Some(nimbus);
        self.drive_nimbus(at);
    }

    pub(super) fn crash_supervisor(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        if host.supervisor.take().is_some() {
            host.start += 1;
            host.link = Link { number: host.link.number + 1, ..Link::default() };
            let after = Duration::from_millis(self.dice.between_u64(10, 5_000));
            self.later(after, What::StartSupervisor(at));
        }
    }

    pub(super) fn server_back(&mut self, forgets: bool) {
        self.server_up = true;
        let sessions: Vec<SessionId> = self.by_session.keys().copied().collect();
        for session in sessions {
            if forgets {
                self.server.end(session);
            } else {
                // A new leader of an ensemble gives all sessions their whole timeout again.
                self.server.heard(session, self.now);
            }
        }
    }

    pub(super) fn stop_faults(&mut self) {
        self.faulty = false;
        self.cuts.clear();
        if !self.server_up {
            self.server_back(false);
        }
        for at in 0..self.hosts.len() {
            if !self.hosts[at].on {
                self.later(Duration::ZERO, What::PowerOn(at));
            }
        }
        self.note("faults stop".into());
    }
}
