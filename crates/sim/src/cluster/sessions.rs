//! Sessions with the coordinator: connections that break, messages that are lost or late, answers that nobody hears.

use squall_control::record::EPOCH;
use squall_coordinator::{Call, Error, Event, NoStore, Op, SessionId};

use super::world::{BEAT, End, What, World};

impl World {
    pub(super) fn beat(&mut self, end: End) {
        self.later(BEAT, What::Beat(end));
        let alive = match end {
            End::Nimbus(at) => self.nimbuses[at].nimbus.is_some(),
            End::Host(at) => self.hosts[at].supervisor.is_some(),
            _ => false,
        };
        if !alive {
            return;
        }
        let open = self.open(end, End::Server) && self.open(End::Server, end);
        let (now, timeout) = (self.now, self.options.session);
        let link = self.link(end);
        let (session, up, down_since) = (link.session, link.up, link.down_since);
        match (session, up, open) {
            (Some(session), true, true) => drop(self.server.heard(session, now)),
            (Some(_), true, false) => self.cut(end),
            (Some(session), false, true) => {
                if self.server.heard(session, now) {
                    self.link(end).up = true;
                    self.give(end, Event::Connected);
                    self.give(end, Event::Resync);
                } else {
                    self.link(end).session = None;
                    self.give(end, Event::Ended);
                }
            }
            (Some(_), false, false) if now > down_since + timeout * 7 / 5 => {
                self.link(end).session = None;
                self.give(end, Event::Ended);
            }
            (Some(_), false, false) => {}
            (None, _, true) => {
                let session = self.server.connect(timeout, now);
                self.by_session.insert(session, end);
                let link = self.link(end);
                (link.session, link.up, link.number) = (Some(session), true, link.number + 1);
                self.connected(end);
            }
            (None, _, false) => {}
        }
        self.tick(end);
    }

    /// The connection of a session breaks: nobody knows what became of its calls.
    pub(super) fn cut(&mut self, end: End) {
        let now = self.now;
        let open = self.link(end).cut(now);
        for ticket in open {
            self.give(end, Event::Done { ticket, result: Err(Error::Unknown) });
        }
        self.give(end, Event::Disconnected);
    }

    pub(super) fn server_gets(&mut self, from: End, number: u64, session: SessionId, ticket: u64, call: &Call) {
        // What was sent before the connection broke may arrive all the same.
        let stale = self.link(from).number != number;
        if !self.open(from, End::Server) || (stale && self.dice.percent(50)) {
            return self.broken(from, number);
        }
        let result = self.server.call(session, call, &mut NoStore);
        if let (Call::Commit(ops), Ok(_)) = (call, &result) {
            self.fenced(from, session, ops);
            self.slots_once();
        }
        self.tell();
        self.send(session, Event::Done { ticket, result });
    }

    /// A message was lost on the way, so the connection breaks.
    pub(super) fn broken(&mut self, end: End, number: u64) {
        if self.link(end).number == number && self.link(end).up {
            self.cut(end);
        }
    }

    /// Sends what the server has to tell.
    pub(super) fn tell(&mut self) {
        let events: Vec<(SessionId, Event)> = self.server.events().collect();
        for (session, event) in events {
            self.send(session, event);
        }
    }

    pub(super) fn send(&mut self, session: SessionId, event: Event) {
        let Some(&to) = self.by_session.get(&session) else { return };
        let delay = self.delay();
        let now = self.now;
        let link = self.link(to);
        // To an old session, or while the connection is away: nobody hears it.
        if link.session != Some(session) || !link.up {
            return;
        }
        link.to_client = link.to_client.max(now + delay);
        let (at, number) = (link.to_client, link.number);
        self.at(at, What::ToClient { to, number, event });
    }

    pub(super) fn client_gets(&mut self, to: End, number: u64, event: Event) {
        if self.link(to).number != number {
            return;
        }
        if !self.open(End::Server, to) {
            return self.broken(to, number);
        }
        match &event {
            Event::Done { ticket, .. } => drop(self.link(to).open.remove(ticket)),
            Event::Ended => {
                let link = self.link(to);
                (link.session, link.up, link.number) = (None, false, link.number + 1);
            }
            _ => {}
        }
        self.give(to, event);
    }

    pub(super) fn give(&mut self, to: End, event: Event) {
        let now = self.clock(to);
        match to {
            End::Nimbus(at) => {
                if let Some(nimbus) = &mut self.nimbuses[at].nimbus {
                    nimbus.event(event, now);
                }
                self.drive_nimbus(at);
            }
            End::Host(at) => self.supervisor(at, None, |s, now| s.event(event, now)),
            _ => {}
        }
    }

    pub(super) fn connected(&mut self, to: End) {
        let now = self.clock(to);
        match to {
            End::Nimbus(at) => {
                if let Some(nimbus) = &mut self.nimbuses[at].nimbus {
                    nimbus.connected(now);
                }
                self.drive_nimbus(at);
            }
            End::Host(at) => self.supervisor(at, None, |s, now| s.connected(now)),
            _ => {}
        }
    }

    pub(super) fn tick(&mut self, of: End) {
        let now = self.clock(of);
        match of {
            End::Nimbus(at) => {
                if let Some(nimbus) = &mut self.nimbuses[at].nimbus {
                    nimbus.tick(now);
                }
                self.drive_nimbus(at);
            }
            End::Host(at) => {
                self.supervisor(at, None, |s, now| s.tick(now));
                // A report now and then, whatever changed: one that was lost does not matter for long.
                if self.dice.percent(10)
                    && let Some(supervisor) = self.hosts[at].supervisor.as_ref().filter(|s| s.is_registered())
                {
                    let report = supervisor.report();
                    self.send_report(at, report);
                }
            }
            _ => {}
        }
    }

    pub(super) fn send_call(&mut self, from: End, ticket: u64, call: Call) {
        let delay = self.delay();
        let now = self.now;
        let link = self.link(from);
        let number = link.number;
        let Some(session) = link.session.filter(|_| link.up) else {
            // A real client keeps calls until it is connected again, or breaks them: here always the second.
            let event = Event::Done { ticket, result: Err(Error::Unknown) };
            return self.at(now + delay, What::ToClient { to: from, number, event });
        };
        link.open.insert(ticket);
        link.to_server = link.to_server.max(now + delay);
        let at = link.to_server;
        self.at(at, What::ToServer { from, number, session, ticket, call });
    }

    /// A commit that is fenced happens within the epoch of who commits; one that sets the epoch begins another.
    pub(super) fn fenced(&mut self, from: End, session: SessionId, ops: &[Op]) {
        if ops.iter().any(|op| matches!(op, Op::Set { path, .. } if path == EPOCH)) {
            self.epoch_of = Some(session);
        } else if matches!(from, End::Nimbus(_))
            && ops.iter().any(|op| matches!(op, Op::Set { .. } | Op::Delete { .. }))
            && self.epoch_of != Some(session)
        {
            self.fail(format!("{from:?} wrote in the epoch of another: {ops:?}"));
        }
    }
}
