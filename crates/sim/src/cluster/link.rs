//! A process's session with the coordinator: messages in order, connections that break, sessions that outlive them.

use std::collections::BTreeSet;
use std::time::Duration;

use squall_coordinator::SessionId;

/// The client's end of a session.
#[derive(Default)]
pub(super) struct Link {
    /// The session, while the client believes in it.
    pub(super) session: Option<SessionId>,
    /// The connection stands.
    pub(super) up: bool,
    /// Number of the connection: what was sent on an older one is not heard any more.
    pub(super) number: u64,
    /// Calls without an answer.
    pub(super) open: BTreeSet<u64>,
    /// Since when the connection is gone.
    pub(super) down_since: Duration,
    /// The last message to each side arrives no earlier than this: order is kept.
    pub(super) to_server: Duration,
    pub(super) to_client: Duration,
}

impl Link {
    /// The connection breaks. The calls that now nobody knows the fate of.
    pub(super) fn cut(&mut self, now: Duration) -> Vec<u64> {
        self.up = false;
        self.number += 1;
        self.down_since = now;
        std::mem::take(&mut self.open).into_iter().collect()
    }
}
