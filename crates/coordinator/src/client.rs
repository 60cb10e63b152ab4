//! A session for code that may wait: commands, tests.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::{Call, Coordinator, Error, Event, Node, Op, Reply, Session, SessionOptions, Version};

/// Nothing came in time, or the session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// A session whose calls block until they are answered. Not for reactors.
pub struct Blocking {
    session: Box<dyn Session>,
    events: Receiver<Event>,
    /// Events that came while an answer was waited for.
    stash: VecDeque<Event>,
    next_ticket: u64,
    patience: Duration,
    /// The session has ended: nothing is answered any more.
    ended: bool,
}

impl Blocking {
    /// Opens a session. A call that is not answered within `patience` fails with [`Error::Unknown`].
    ///
    /// # Errors
    /// As [`Coordinator::connect`].
    pub fn connect(of: &dyn Coordinator, options: &SessionOptions, patience: Duration) -> Result<Blocking, Error> {
        let (sender, events) = channel();
        // An event for a session that is being dropped has nobody to hear it.
        let session = of.connect(options, Box::new(move |event| drop(sender.send(event))))?;
        Ok(Blocking { session, events, stash: VecDeque::new(), next_ticket: 0, patience, ended: false })
    }

    /// The timeout that was granted.
    pub fn timeout(&self) -> Duration {
        self.session.timeout()
    }

    /// Calls and waits for the answer; events that come meanwhile are kept for [`Blocking::event`].
    ///
    /// # Errors
    /// The coordinator's, or [`Error::Unknown`] when patience ends.
    pub fn call(&mut self, call: Call) -> Result<Reply, Error> {
        if self.ended {
            return Err(Error::Ended);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.session.call(ticket, call);
        let until = Instant::now() + self.patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(Event::Done { ticket: done, result }) if done == ticket => return result,
                // The answer to a call that was given up.
                Ok(Event::Done { .. }) => {}
                Ok(event) => {
                    self.ended = event == Event::Ended;
                    self.stash.push_back(event);
                    if self.ended {
                        return Err(Error::Ended);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err(Error::Unknown),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Ended),
            }
        }
    }

    /// All of these or none.
    ///
    /// # Errors
    /// As [`Blocking::call`].
    pub fn commit(&mut self, ops: Vec<Op>) -> Result<Vec<Version>, Error> {
        match self.call(Call::Commit(ops))? {
            Reply::Committed(versions) => Ok(versions),
            other => unreachable!("a commit is answered by versions, not {other:?}"),
        }
    }

    /// One node.
    ///
    /// # Errors
    /// As [`Blocking::call`].
    pub fn get(&mut self, path: &str) -> Result<Option<Node>, Error> {
        match self.call(Call::Get(path.to_owned()))? {
            Reply::Node(node) => Ok(node),
            other => unreachable!("a get is answered by a node, not {other:?}"),
        }
    }

    /// Children with their data.
    ///
    /// # Errors
    /// As [`Blocking::call`].
    pub fn children(&mut self, path: &str) -> Result<Vec<(String, Node)>, Error> {
        match self.call(Call::Children(path.to_owned()))? {
            Reply::Children(children) => Ok(children),
            other => unreachable!("children are answered by children, not {other:?}"),
        }
    }

    /// Watches a node and all below it.
    ///
    /// # Errors
    /// As [`Blocking::call`].
    pub fn watch(&mut self, path: &str) -> Result<(), Error> {
        self.call(Call::Watch(path.to_owned())).map(|_| ())
    }

    /// The next event that is no answer.
    ///
    /// # Errors
    /// [`Gone`] when none came in this time.
    pub fn event(&mut self, within: Duration) -> Result<Event, Gone> {
        if let Some(event) = self.stash.pop_front() {
            return Ok(event);
        }
        let until = Instant::now() + within;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Done { .. }) => {}
                Ok(event) => {
                    self.ended |= event == Event::Ended;
                    return Ok(event);
                }
                Err(_) => return Err(Gone),
            }
        }
    }
}
