//! Supervisors beside a coordinator that answers at once.

use std::time::Duration;

use squall_control::record::{NodeInfo, SUPERVISORS, at};
use squall_control::{Report, Supervisor, SupervisorOptions, SupervisorOutput};
use squall_coordinator::{Call, Event, NoStore, Op, Server, SessionId};
use squall_scheduler::Resources;

const LONG: Duration = Duration::from_secs(3600);

struct One {
    supervisor: Supervisor,
    session: Option<SessionId>,
    reports: Vec<Report>,
    failed: Option<String>,
}

impl One {
    fn new(id: &str, identity: &str) -> One {
        let info = NodeInfo {
            id: id.into(),
            identity: identity.into(),
            address: format!("{id}:6699"),
            slots: 2,
            capacity: Resources { cpu: 400, memory: 1 << 30 },
            arch: "x86_64".into(),
            engine: "1".into(),
        };
        let supervisor = Supervisor::new(SupervisorOptions::new(info), Vec::new(), Duration::ZERO);
        One { supervisor, session: None, reports: Vec::new(), failed: None }
    }

    fn carry_out(&mut self, server: &mut Server, now: Duration) -> bool {
        let outputs: Vec<SupervisorOutput> = self.supervisor.outputs().collect();
        let any = !outputs.is_empty();
        for output in outputs {
            match output {
                SupervisorOutput::Connect => {
                    self.session = Some(server.connect(LONG, now));
                    self.supervisor.connected(now);
                }
                SupervisorOutput::Call { ticket, call } => {
                    let result = server.call(self.session.expect("it has one"), &call, &mut NoStore);
                    self.supervisor.event(Event::Done { ticket, result }, now);
                }
                SupervisorOutput::Report(report) => self.reports.push(report),
                SupervisorOutput::Fail(why) => self.failed = Some(why),
                _ => {}
            }
        }
        any
    }
}

/// Carries messages until there are none.
fn settle(server: &mut Server, all: &mut [One], now: Duration) {
    loop {
        let mut quiet = true;
        for one in all.iter_mut() {
            quiet &= !one.carry_out(server, now);
        }
        let events: Vec<(SessionId, Event)> = server.events().collect();
        for (session, event) in events {
            quiet = false;
            if let Some(one) = all.iter_mut().find(|one| one.session == Some(session)) {
                one.supervisor.event(event, now);
            }
        }
        if quiet {
            return;
        }
    }
}

#[test]
fn a_supervisor_reports_nothing_while_another_one_has_its_name() {
    let mut server = Server::default();
    let own = server.connect(LONG, Duration::ZERO);
    server.call(own, &Call::Commit(vec![Op::create(SUPERVISORS, "")]), &mut NoStore).unwrap();
    let mut all = [One::new("a", "first"), One::new("a", "second")];
    settle(&mut server, &mut all[..1], Duration::ZERO);
    assert!(all[0].supervisor.is_registered() && all[0].reports.len() == 1, "it has its name, and says how it is");
    settle(&mut server, &mut all, Duration::ZERO);
    assert!(
        !all[1].supervisor.is_registered() && all[1].reports.is_empty(),
        "nimbus would take it for the first one's"
    );

    // The first one ends: its node goes, and the second one is who has the name now.
    let first = all[0].session.take().expect("it has one");
    server.end(first);
    settle(&mut server, &mut all[1..], Duration::from_millis(100));
    assert!(all[1].supervisor.is_registered());
    assert_eq!(all[1].reports, [Report { node: "a".into(), workers: Vec::new() }]);
    assert!(server.node(&at(SUPERVISORS, "a")).is_some());

    // Without its session it may be anybody's again. The next one is told how it is, though nothing of it has changed.
    all[1].supervisor.event(Event::Ended, Duration::from_millis(200));
    assert!(!all[1].supervisor.is_registered());
    let second = all[1].session.take().expect("it has one");
    server.end(second);
    settle(&mut server, &mut all[1..], Duration::from_millis(200));
    assert!(all[1].supervisor.is_registered() && all[1].reports.len() == 2);
    assert_eq!(all[1].failed, None);
}
