//! The contract of a coordinator, one function for each sentence. Each gets a coordinator with nothing in it.

use std::time::Duration;

use squall_coordinator::{Blocking, Coordinator, Error, Event, MAX_DATA, MAX_OPS, Op, SessionOptions};

/// What is waited for comes at once where all is well; this only bounds a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn open(of: &dyn Coordinator) -> Blocking {
    Blocking::connect(of, &SessionOptions::default(), PATIENCE).expect("a session opens")
}

/// Waits until a change at or below a path is told.
pub(crate) fn hear(session: &mut Blocking, path: &str) {
    loop {
        match session.event(PATIENCE).unwrap_or_else(|_| panic!("nothing was told of {path}")) {
            Event::Changed { path: changed } if changed == path => return,
            Event::Resync => return,
            Event::Ended => panic!("the session ended while a change of {path} was waited for"),
            _ => {}
        }
    }
}

fn names(session: &mut Blocking, path: &str) -> Vec<String> {
    session.children(path).expect("children").into_iter().map(|(name, _)| name).collect()
}

pub(crate) fn a_commit_happens_as_a_whole_or_not_at_all(of: &dyn Coordinator) {
    let mut a = open(of);
    assert_eq!(a.commit(vec![Op::create("/x", "1"), Op::create("/x/y", "2")]), Ok(vec![0, 0]));
    let broken = vec![Op::set("/x", "3", None), Op::create("/z", ""), Op::check("/x/y", 7)];
    assert_eq!(a.commit(broken), Err(Error::BadVersion { path: "/x/y".into() }));
    assert_eq!(a.get("/x").unwrap().unwrap().data, b"1");
    assert_eq!(a.get("/z").unwrap(), None);
    // Operations see those before them.
    let chain = vec![Op::delete("/x/y", 0), Op::delete("/x", 0), Op::create("/x", "4"), Op::set("/x", "5", 0)];
    assert_eq!(a.commit(chain), Ok(vec![0, 0, 0, 1]));
    assert_eq!(a.get("/x").unwrap().unwrap().data, b"5");
}

pub(crate) fn each_refusal_names_the_node(of: &dyn Coordinator) {
    let mut a = open(of);
    let path = |path: &str| path.to_owned();
    a.commit(vec![Op::create("/a", ""), Op::create("/a/b", ""), Op::ephemeral("/e", "")]).unwrap();
    assert_eq!(a.commit(vec![Op::create("/a", "")]), Err(Error::Exists { path: path("/a") }));
    assert_eq!(a.commit(vec![Op::create("/n/o", "")]), Err(Error::NoNode { path: path("/n") }));
    assert_eq!(a.commit(vec![Op::set("/n", "", None)]), Err(Error::NoNode { path: path("/n") }));
    assert_eq!(a.commit(vec![Op::delete("/n", None)]), Err(Error::NoNode { path: path("/n") }));
    assert_eq!(a.commit(vec![Op::check("/n", 0)]), Err(Error::NoNode { path: path("/n") }));
    assert_eq!(a.commit(vec![Op::delete("/a", None)]), Err(Error::NotEmpty { path: path("/a") }));
    assert_eq!(a.commit(vec![Op::delete("/a/b", 1)]), Err(Error::BadVersion { path: path("/a/b") }));
    assert_eq!(a.commit(vec![Op::create("/e/f", "")]), Err(Error::EphemeralParent { path: path("/e/f") }));
    let invalid = |ops: Vec<Op>, a: &mut Blocking| assert!(matches!(a.commit(ops), Err(Error::Invalid(_))));
    invalid(vec![], &mut a);
    invalid(vec![Op::create("/a/../b", "")], &mut a);
    invalid(vec![Op::set("/", "", None)], &mut a);
    invalid(vec![Op::create("/big", vec![0; MAX_DATA + 1])], &mut a);
    invalid((0..=MAX_OPS).map(|n| Op::create(format!("/n{n}"), "")).collect(), &mut a);
    a.commit((0..MAX_OPS).map(|n| Op::create(format!("/n{n}"), "")).collect()).unwrap();
    a.commit(vec![Op::create("/big", vec![7; MAX_DATA])]).unwrap();
    assert_eq!(a.get("/big").unwrap().unwrap().data, vec![7; MAX_DATA]);
}

pub(crate) fn a_version_counts_changes_and_fences_the_one_who_missed_one(of: &dyn Coordinator) {
    let (mut old, mut new) = (open(of), open(of));
    old.commit(vec![Op::create("/epoch", "1"), Op::create("/work", "")]).unwrap();
    assert_eq!(new.commit(vec![Op::set("/epoch", "2", 0)]), Ok(vec![1]));
    let fenced = old.commit(vec![Op::check("/epoch", 0), Op::set("/work", "old", None)]);
    assert_eq!(fenced, Err(Error::BadVersion { path: "/epoch".into() }));
    assert_eq!(new.commit(vec![Op::check("/epoch", 1), Op::set("/work", "new", None)]), Ok(vec![1, 1]));
    // The other session may see an older state, but not after it was told by a failed write; a write of its own shows.
    assert_eq!(old.commit(vec![Op::set("/work", "again", 1)]), Ok(vec![2]));
    let node = old.get("/work").unwrap().unwrap();
    assert_eq!((node.data, node.stat.version), (b"again".to_vec(), 2));
}

pub(crate) fn a_node_made_again_is_another_node(of: &dyn Coordinator) {
    let mut a = open(of);
    a.commit(vec![Op::create("/a", "")]).unwrap();
    let first = a.get("/a").unwrap().unwrap().stat;
    a.commit(vec![Op::delete("/a", 0)]).unwrap();
    a.commit(vec![Op::create("/a", "")]).unwrap();
    let second = a.get("/a").unwrap().unwrap().stat;
    assert_eq!((first.version, second.version), (0, 0));
    assert!(second.created > first.created);
}

pub(crate) fn children_come_with_their_data_in_order(of: &dyn Coordinator) {
    let mut a = open(of);
    assert_eq!(a.children("/none").unwrap(), []);
    a.commit(vec![Op::create("/t", "")]).unwrap();
    // More than are read at once.
    for block in 0..10 {
        let ops = (0..30).map(|n| Op::create(format!("/t/n{:03}", block * 30 + n), format!("{n}"))).collect();
        a.commit(ops).unwrap();
    }
    a.commit(vec![Op::create("/t/n007/below", ""), Op::create("/tt", "")]).unwrap();
    let children = a.children("/t").unwrap();
    assert_eq!(children.len(), 300);
    assert!(children.is_sorted_by_key(|(name, _)| name.clone()));
    assert_eq!((children[7].0.as_str(), children[7].1.data.as_slice()), ("n007", b"7".as_slice()));
    assert_eq!(names(&mut a, "/t/n007"), ["below"]);
    assert!(names(&mut a, "/").contains(&"tt".to_owned()));
}

pub(crate) fn an_ephemeral_node_goes_with_its_session(of: &dyn Coordinator) {
    let (mut a, mut b) = (open(of), open(of));
    a.commit(vec![Op::create("/live", "")]).unwrap();
    b.watch("/live").unwrap();
    a.commit(vec![Op::ephemeral("/live/a", "hello"), Op::create("/live/stays", "")]).unwrap();
    hear(&mut b, "/live/stays");
    let (own, other) = (a.get("/live/a").unwrap().unwrap().stat, b.get("/live/a").unwrap().unwrap().stat);
    assert!(own.ephemeral && own.own && other.ephemeral && !other.own);
    drop(a);
    while b.get("/live/a").unwrap().is_some() {
        hear(&mut b, "/live/a");
    }
    assert_eq!(names(&mut b, "/live"), ["stays"]);
}

pub(crate) fn a_watch_tells_of_every_kind_of_change_below_it_and_of_nothing_else(of: &dyn Coordinator) {
    let (mut a, mut b) = (open(of), open(of));
    b.watch("/w").unwrap();
    a.commit(vec![Op::create("/other", ""), Op::create("/wider", "")]).unwrap();
    a.commit(vec![Op::create("/w", "")]).unwrap();
    hear(&mut b, "/w");
    assert!(b.get("/w").unwrap().is_some(), "what was told can be read");
    a.commit(vec![Op::create("/w/x", ""), Op::create("/w/x/y", "1")]).unwrap();
    hear(&mut b, "/w/x/y");
    a.commit(vec![Op::set("/w/x/y", "2", None)]).unwrap();
    hear(&mut b, "/w/x/y");
    assert_eq!(b.get("/w/x/y").unwrap().unwrap().data, b"2");
    a.commit(vec![Op::delete("/w/x/y", None)]).unwrap();
    hear(&mut b, "/w/x/y");
    assert_eq!(b.get("/w/x/y").unwrap(), None);
    // A watch lasts. Only then is it sure that nothing else was told: this is the last event.
    a.commit(vec![Op::create("/w/end", "")]).unwrap();
    loop {
        match b.event(PATIENCE).expect("the end is told") {
            Event::Changed { path } if path == "/w/end" => break,
            Event::Changed { path } => assert!(path.starts_with("/w/"), "{path} is not watched"),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn of_many_who_want_to_lead_one_does(of: &dyn Coordinator) {
    let mut first = open(of);
    first.commit(vec![Op::create("/epoch", "0")]).unwrap();
    let mut sessions: Vec<Blocking> = (0..4).map(|_| open(of)).collect();
    let claim = || vec![Op::ephemeral("/leader", ""), Op::set("/epoch", "", None)];
    let won: Vec<usize> = (0..4).filter(|&n| sessions[n].commit(claim()).is_ok()).collect();
    assert_eq!(won, [0]);
    drop(sessions.remove(0));
    first.watch("/leader").unwrap();
    while first.get("/leader").unwrap().is_some() {
        hear(&mut first, "/leader");
    }
    assert_eq!(sessions[2].commit(claim()), Ok(vec![0, 2]));
}

pub(crate) fn calls_are_carried_out_in_order(of: &dyn Coordinator) {
    let (sender, events) = std::sync::mpsc::channel();
    let session = of.connect(&SessionOptions::default(), Box::new(move |e| drop(sender.send(e)))).unwrap();
    let count = 200u64;
    session.call(0, squall_coordinator::Call::Commit(vec![Op::create("/n", "")]));
    for ticket in 1..=count {
        let op = Op::set("/n", ticket.to_string(), (ticket - 1) as u32);
        session.call(ticket, squall_coordinator::Call::Commit(vec![op]));
    }
    for expected in 0..=count {
        loop {
            match events.recv_timeout(PATIENCE).expect("each call is answered") {
                Event::Done { ticket, result } => {
                    assert_eq!(ticket, expected);
                    assert!(result.is_ok(), "{result:?}");
                    break;
                }
                Event::Ended => panic!("the session ended"),
                _ => {}
            }
        }
    }
}

/// All of it, each on a coordinator of its own.
pub(crate) fn all(mut fresh: impl FnMut() -> Box<dyn Coordinator>) {
    let parts: [(&str, fn(&dyn Coordinator)); 9] = [
        ("whole commits", a_commit_happens_as_a_whole_or_not_at_all),
        ("refusals", each_refusal_names_the_node),
        ("versions", a_version_counts_changes_and_fences_the_one_who_missed_one),
        ("made again", a_node_made_again_is_another_node),
        ("children", children_come_with_their_data_in_order),
        ("ephemeral", an_ephemeral_node_goes_with_its_session),
        ("watches", a_watch_tells_of_every_kind_of_change_below_it_and_of_nothing_else),
        ("leaders", of_many_who_want_to_lead_one_does),
        ("order", calls_are_carried_out_in_order),
    ];
    for (name, part) in parts {
        eprintln!("contract: {name}");
        part(&*fresh());
    }
}
