//! The contract and the failures of ZooKeeper with real servers, started here from the classes of an installation: `make test-zookeeper`.

mod contract;
#[path = "support/server.rs"]
mod server;

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contract::{PATIENCE, hear, open};
use server::Server;
use squall_coordinator::zookeeper::{ZooKeeper, ZooKeeperOptions};
use squall_coordinator::{Blocking, Coordinator, Error, Event, Op, SessionOptions};

/// Options with a chroot that nobody has used, and the coordinator of them.
trait Ensemble {
    fn options(&self) -> ZooKeeperOptions;
    fn coordinator(&self) -> ZooKeeper;
}

impl Ensemble for Server {
    fn options(&self) -> ZooKeeperOptions {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let chroot = format!("/tests/c{}", COUNT.fetch_add(1, Ordering::Relaxed));
        ZooKeeperOptions { chroot, ..ZooKeeperOptions::new(format!("127.0.0.1:{}", self.port)) }
    }

    fn coordinator(&self) -> ZooKeeper {
        ZooKeeper::new(self.options()).unwrap()
    }
}

#[test]
fn zookeeper_keeps_the_contract() {
    let server = Server::start();
    contract::all(|| Box::new(server.coordinator()));
}

#[test]
fn with_a_digest_it_keeps_the_contract_and_others_are_refused() {
    let server = Server::start();
    let user = || Some(("squall".to_owned(), "secret".to_owned()));
    contract::all(|| Box::new(ZooKeeper::new(ZooKeeperOptions { digest: user(), ..server.options() }).unwrap()));
    let options = ZooKeeperOptions { digest: user(), ..server.options() };
    let mut own = open(&ZooKeeper::new(options.clone()).unwrap());
    own.commit(vec![Op::create("/a", "mine")]).unwrap();
    for digest in [None, Some(("squall".to_owned(), "guess".to_owned()))] {
        let other = ZooKeeper::new(ZooKeeperOptions { digest, ..options.clone() }).unwrap();
        match Blocking::connect(&other, &SessionOptions::default(), PATIENCE) {
            Err(Error::Refused(why)) => assert!(why.contains("set the digest"), "{why}"),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("another user came in"),
        }
    }
}

#[test]
fn a_wrong_address_and_a_missing_chroot_are_refused_with_what_to_do() {
    let server = Server::start();
    let refused = |options: ZooKeeperOptions| {
        let of = ZooKeeper::new(options).unwrap();
        match Blocking::connect(&of, &SessionOptions::default(), PATIENCE) {
            Err(Error::Refused(why)) => why,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it connected"),
        }
    };
    let why = refused(ZooKeeperOptions { create_chroot: false, ..server.options() });
    assert!(why.contains("is the chroot right?") && why.contains("/tests/c"), "{why}");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let soon = Duration::from_millis(300);
    let why = refused(ZooKeeperOptions { connect_within: soon, ..ZooKeeperOptions::new(free.to_string()) });
    assert!(why.contains("Is the address right"), "{why}");
    assert!(refused(ZooKeeperOptions::new("nonsense:port")).contains("ZooKeeper at nonsense:port"));
    assert!(matches!(
        ZooKeeper::new(ZooKeeperOptions { chroot: "x".into(), ..server.options() }),
        Err(Error::Invalid(_))
    ));
}

#[test]
fn the_timeout_that_was_granted_is_told() {
    let server = Server::start();
    let of = server.coordinator();
    let ask = |timeout| Blocking::connect(&of, &SessionOptions { timeout }, PATIENCE).unwrap().timeout();
    assert_eq!(ask(Duration::from_secs(2)), Duration::from_secs(2));
    assert_eq!(ask(Duration::from_millis(100)), Duration::from_secs(1), "not below minSessionTimeout");
}

#[test]
fn nodes_of_a_client_that_vanished_go_after_its_timeout() {
    let server = Server::start();
    let options = server.options();
    let mut watcher = open(&ZooKeeper::new(options.clone()).unwrap());
    let vanishing = ZooKeeper::new(ZooKeeperOptions { leave_behind: true, ..options }).unwrap();
    let mut session = open(&vanishing);
    session.commit(vec![Op::ephemeral("/e", "")]).unwrap();
    watcher.watch("/e").unwrap();
    drop(session);
    assert!(watcher.get("/e").unwrap().is_some(), "the session was left behind");
    while watcher.get("/e").unwrap().is_some() {
        hear(&mut watcher, "/e");
    }
}

/// Reads until something other than this event comes, and gives that.
fn next_but(session: &mut Blocking, skip: &Event) -> Event {
    loop {
        let event = session.event(PATIENCE).expect("something is told");
        if event != *skip {
            return event;
        }
    }
}

#[test]
fn a_restart_of_the_server_keeps_the_session_and_asks_for_a_new_look() {
    let mut server = Server::start();
    let of = server.coordinator();
    let long = SessionOptions { timeout: Duration::from_secs(10) };
    let mut session = Blocking::connect(&of, &long, PATIENCE).unwrap();
    session.commit(vec![Op::create("/a", "1"), Op::ephemeral("/e", "")]).unwrap();
    session.watch("/").unwrap();
    server.kill();
    assert_eq!(session.event(PATIENCE), Ok(Event::Disconnected));
    server.restart();
    assert_eq!(next_but(&mut session, &Event::Disconnected), Event::Connected);
    assert_eq!(session.event(PATIENCE), Ok(Event::Resync));
    assert_eq!(session.get("/a").unwrap().unwrap().data, b"1");
    assert!(session.get("/e").unwrap().unwrap().stat.own, "the session goes on");
    // The watch is there again.
    let mut other = open(&of);
    other.commit(vec![Op::set("/a", "2", None)]).unwrap();
    hear(&mut session, "/a");
}

#[test]
fn a_session_cut_off_for_longer_than_its_timeout_ends() {
    let mut server = Server::start();
    let of = server.coordinator();
    let mut session = open(&of);
    session.commit(vec![Op::create("/a", "")]).unwrap();
    server.kill();
    assert_eq!(session.event(PATIENCE), Ok(Event::Disconnected));
    assert_eq!(next_but(&mut session, &Event::Disconnected), Event::Ended);
    assert_eq!(session.get("/a"), Err(Error::Ended));
    drop(session);
    server.restart();
    assert!(open(&of as &dyn Coordinator).get("/a").unwrap().is_some());
}
