//! The embedded coordinator: the contract, and what its file promises.

mod contract;

use contract::{PATIENCE, open};
use squall_coordinator::{Blocking, Coordinator, Durable, Embedded, Error, Event, Op, Server, SessionOptions, Store};

#[test]
fn in_memory_it_keeps_the_contract() {
    contract::all(|| Box::new(Embedded::in_memory()));
}

#[test]
fn in_a_file_it_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    contract::all(|| {
        count += 1;
        Box::new(Embedded::open(&folder.path().join(format!("{count}.redb"))).unwrap())
    });
}

#[test]
fn a_file_survives_a_restart_with_versions_and_without_ephemeral_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.redb");
    let created = {
        let of = Embedded::open(&path).unwrap();
        let mut session = open(&of);
        session.commit(vec![Op::create("/a", "1"), Op::create("/gone", ""), Op::ephemeral("/e", "")]).unwrap();
        session.commit(vec![Op::set("/a", "2", 0), Op::delete("/gone", None)]).unwrap();
        session.get("/a").unwrap().unwrap().stat.created
    };
    let of = Embedded::open(&path).unwrap();
    let mut session = open(&of);
    let node = session.get("/a").unwrap().unwrap();
    assert_eq!((node.data, node.stat.version, node.stat.created), (b"2".to_vec(), 1, created));
    assert_eq!(session.children("/").unwrap().len(), 1);
    session.commit(vec![Op::create("/later", "")]).unwrap();
    assert!(session.get("/later").unwrap().unwrap().stat.created > created, "commits go on being counted");
}

#[test]
fn a_file_in_use_and_a_damaged_one_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.redb");
    let first = Embedded::open(&path).unwrap();
    let Err(Error::Refused(why)) = Embedded::open(&path) else { panic!("two at once") };
    assert!(why.contains("in use by another process"), "{why}");
    drop(first);
    let junk = folder.path().join("junk.redb");
    std::fs::write(&junk, "no database".repeat(1000)).unwrap();
    let Err(Error::Refused(why)) = Embedded::open(&junk) else { panic!("junk was taken") };
    assert!(why.contains("damaged") && why.contains("junk.redb"), "{why}");
    assert_eq!(std::fs::read(&junk).unwrap(), "no database".repeat(1000).as_bytes());
    let Err(Error::Refused(why)) = Embedded::open(&folder.path().join("none/x")) else { panic!("no such folder") };
    assert!(why.contains("cannot open"), "{why}");
}

#[test]
fn a_file_cut_short_or_overwritten_is_refused_or_read_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.redb");
    {
        let mut session = open(&Embedded::open(&path).unwrap());
        for n in 0..20 {
            session.commit(vec![Op::create(format!("/n{n}"), vec![n; 5000])]).unwrap();
        }
    }
    let whole = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged.redb");
    for part in 0..16 {
        let at = whole.len() / 16 * part;
        let mut torn = whole.clone();
        let end = (at + 4096).min(torn.len());
        torn[at..end].fill(0xA5);
        for bytes in [&whole[..at.max(1)], &torn] {
            std::fs::write(&damaged, bytes).unwrap();
            match Embedded::open(&damaged) {
                Err(Error::Refused(why)) => assert!(why.contains("damaged.redb"), "{why}"),
                Err(other) => panic!("{other:?}"),
                Ok(of) => {
                    let nodes = open(&of).children("/").unwrap();
                    assert_eq!(nodes.len(), 20, "part {part}: nothing is forgotten");
                    assert!(
                        nodes
                            .iter()
                            .all(|(name, node)| name[1..].parse() == Ok(node.data[0]) && node.data.len() == 5000)
                    );
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_stored_did_not_happen() {
    struct Full;
    impl Store for Full {
        fn store(&mut self, commit: &Durable<'_>) -> Result<(), String> {
            if commit.nodes.contains_key("/full") { Err("no space left".into()) } else { Ok(()) }
        }
    }
    let of = Embedded::with(Server::default(), Box::new(Full));
    let mut session = open(&of);
    session.watch("/").unwrap();
    session.commit(vec![Op::create("/a", "")]).unwrap();
    contract::hear(&mut session, "/a");
    let failed = session.commit(vec![Op::create("/full", ""), Op::delete("/a", None)]);
    assert_eq!(failed, Err(Error::Store("no space left".into())));
    assert!(session.get("/a").unwrap().is_some() && session.get("/full").unwrap().is_none());
    // An ephemeral node needs no storing.
    session.commit(vec![Op::ephemeral("/e", "")]).unwrap();
    contract::hear(&mut session, "/e");
}

#[test]
fn a_session_that_is_ended_is_told_and_its_nodes_go() {
    let of = Embedded::in_memory();
    let (mut a, mut b) = (open(&of), open(&of));
    a.commit(vec![Op::ephemeral("/a", "")]).unwrap();
    b.watch("/").unwrap();
    of.end(of.sessions()[0]);
    assert_eq!(a.event(PATIENCE), Ok(Event::Ended));
    assert_eq!(b.event(PATIENCE), Ok(Event::Changed { path: "/a".into() }));
    assert_eq!(b.get("/a").unwrap(), None);
    drop(a);
    let _third = Blocking::connect(&of as &dyn Coordinator, &SessionOptions::default(), PATIENCE).unwrap();
}

#[test]
fn silence_ends_a_session_at_its_timeout_and_not_before() {
    use squall_coordinator::{Call, NoStore, Reply};
    use std::time::Duration;
    let at = Duration::from_millis;
    let mut server = Server::default();
    let (a, b) = (server.connect(at(1000), at(0)), server.connect(at(5000), at(0)));
    let create = Call::Commit(vec![Op::ephemeral("/a", "")]);
    assert_eq!(server.call(a, &create, &mut NoStore), Ok(Reply::Committed(vec![0])));
    assert_eq!(server.call(b, &Call::Watch("/a".into()), &mut NoStore), Ok(Reply::Watching));
    server.tick(at(1000));
    assert!(server.heard(a, at(900)));
    server.tick(at(1900));
    assert!(server.node("/a").is_some());
    server.tick(at(1901));
    assert!(server.node("/a").is_none() && !server.heard(a, at(1901)));
    let told: Vec<_> = server.events().collect();
    assert_eq!(told, [(a, Event::Ended), (b, Event::Changed { path: "/a".into() })]);
    assert_eq!(server.call(a, &create, &mut NoStore), Err(Error::Ended));
}
