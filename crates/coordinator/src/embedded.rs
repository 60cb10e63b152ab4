//! The coordinator within the process: in memory, or in one file besides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{Call, Coordinator, Error, Event, NoStore, Server, Session, SessionId, SessionOptions, Sink, Store};

/// A coordinator for one machine: nimbus and supervisor in one process (`squall dev`), and tests. Cloning gives another handle.
///
/// Sessions end when they are dropped and never by silence: a thread that is slow is not dead. Calls are carried out by
/// the calling thread, which a commit to a file holds up for one write to the disk.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    server: Server,
    store: Box<dyn Store + Send>,
    sinks: BTreeMap<SessionId, Sink>,
}

impl Embedded {
    /// Kept in memory only.
    pub fn in_memory() -> Embedded {
        Embedded::with(Server::default(), Box::new(NoStore))
    }

    /// Kept in a file, which is created if there is none. One process at a time.
    ///
    /// # Errors
    /// A file that is in use, damaged or of another kind, with what to do about it. Nothing is changed then.
    #[cfg(feature = "embedded")]
    pub fn open(path: &std::path::Path) -> Result<Embedded, Error> {
        let (file, server) = crate::file::File::open(path)?;
        Ok(Embedded::with(server, Box::new(file)))
    }

    /// With any server and store.
    pub fn with(server: Server, store: Box<dyn Store + Send>) -> Embedded {
        Embedded { inner: Arc::new(Mutex::new(Inner { server, store, sinks: BTreeMap::new() })) }
    }

    /// Ends a session from outside, as silence ends one elsewhere.
    pub fn end(&self, session: SessionId) {
        self.with_inner(|inner| inner.server.end(session));
    }

    /// Sessions that are open, in the order they were opened.
    pub fn sessions(&self) -> Vec<SessionId> {
        self.with_inner(|inner| inner.sinks.keys().copied().collect())
    }

    /// Does something under the lock and tells what came of it before the lock is let go: that keeps events in order.
    fn with_inner<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        // A panic under the lock can only come from a sink, after the server is done.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut inner);
        let Inner { server, sinks, .. } = &mut *inner;
        let events: Vec<(SessionId, Event)> = server.events().collect();
        for (session, event) in events {
            let ended = event == Event::Ended;
            if let Some(sink) = sinks.get(&session) {
                sink(event);
            }
            if ended {
                sinks.remove(&session);
            }
        }
        result
    }
}

impl Coordinator for Embedded {
    fn connect(&self, options: &SessionOptions, sink: Sink) -> Result<Box<dyn Session>, Error> {
        let id = self.with_inner(|inner| {
            let id = inner.server.connect(options.timeout, Duration::ZERO);
            inner.sinks.insert(id, sink);
            id
        });
        Ok(Box::new(EmbeddedSession { of: self.clone(), id, timeout: options.timeout }))
    }
}

struct EmbeddedSession {
    of: Embedded,
    id: SessionId,
    timeout: Duration,
}

impl Session for EmbeddedSession {
    fn call(&self, ticket: u64, call: Call) {
        self.of.with_inner(|inner| {
            let result = inner.server.call(self.id, &call, &mut *inner.store);
            // What the call changed is told first, as ZooKeeper does it: who hears `Done` has heard of the change.
            let events: Vec<(SessionId, Event)> = inner.server.events().collect();
            for (session, event) in events {
                if let Some(sink) = inner.sinks.get(&session) {
                    sink(event);
                }
            }
            if let Some(sink) = inner.sinks.get(&self.id) {
                sink(Event::Done { ticket, result });
            }
        });
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl Drop for EmbeddedSession {
    fn drop(&mut self) {
        self.of.with_inner(|inner| {
            inner.sinks.remove(&self.id);
            inner.server.end(self.id);
        });
    }
}
