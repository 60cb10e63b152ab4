//! What ends an executor, a link or a run, with the words a user needs.

use std::fmt;
use std::ops::{Deref, DerefMut};

use squall_tuple::ids::TaskId;

/// Why a component had to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The component returned a fatal error.
    Fatal,
    /// A spout says that its source cannot go on. Its executor is not restarted: only who runs the topology can help.
    Source,
    /// The component panicked.
    Panic,
    /// One call emitted more than the component's burst memory.
    Burst,
    /// A tuple is larger than the topology's limit.
    TupleTooLarge,
    /// `prepare` failed, so the component never ran.
    Prepare,
}

/// The end of one executor: which, why, and on which tuple. One word, so that what may end so costs nothing where it does
/// not: its fields are those of [`FaultDetails`].
#[derive(Debug, Clone)]
pub struct Fault(Box<FaultDetails>);

impl Deref for Fault {
    type Target = FaultDetails;

    fn deref(&self) -> &FaultDetails {
        &self.0
    }
}

impl DerefMut for Fault {
    fn deref_mut(&mut self) -> &mut FaultDetails {
        &mut self.0
    }
}

impl From<FaultDetails> for Fault {
    #[cold]
    fn from(details: FaultDetails) -> Self {
        Fault(Box::new(details))
    }
}

/// What a [`Fault`] says.
#[derive(Debug, Clone)]
pub struct FaultDetails {
    /// Name of the component.
    pub component: String,
    /// The task that was running.
    pub task: TaskId,
    /// What happened.
    pub kind: FaultKind,
    /// The cause in the component's own words.
    pub cause: String,
    /// Where in its input it happened: stream, source task and position in the batch.
    pub at: Option<String>,
    /// How often its executor had been restarted before, where that is why it is not again.
    pub restarts: u32,
}

impl Fault {
    /// What happened, for a line that names component and task.
    pub(crate) fn short(&self) -> String {
        let FaultDetails { cause, at, .. } = &**self;
        let at = at.as_ref().map_or_else(String::new, |at| format!(" (at {at})"));
        match self.kind {
            FaultKind::Fatal | FaultKind::Source => format!("ended with a fatal error: {cause}{at}"),
            FaultKind::Panic => format!("panicked: {cause}{at}"),
            FaultKind::Burst | FaultKind::TupleTooLarge => format!("{cause}{at}"),
            FaultKind::Prepare => format!("could not be prepared: {cause}{at}"),
        }
    }
}

impl Fault {
    /// What to do about it.
    pub(crate) fn remedy(&self) -> String {
        match self.kind {
            FaultKind::Fatal | FaultKind::Source | FaultKind::Prepare => "mend the cause and run again".to_owned(),
            FaultKind::Panic => format!(
                "this is a bug in {}: its message and place are on stderr, RUST_BACKTRACE=1 shows the way there",
                self.component
            ),
            FaultKind::Burst => {
                "emit less per call (from `finish`: return Finish::More), or raise the component's burst bytes"
                    .to_owned()
            }
            FaultKind::TupleTooLarge => "emit smaller tuples, or raise the topology's max_tuple_bytes".to_owned(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (task {}) {}", self.component, self.task, self.short())?;
        if self.restarts > 0 {
            write!(f, "; it had been restarted {} times in a row", self.restarts)?;
        }
        write!(f, "; {}", self.remedy())
    }
}

impl std::error::Error for Fault {}

/// Thrown by an emit that cannot be honoured and cannot return: caught where panics of components are caught, so
/// it ends the executor with its own message and without the panic hook's output.
pub(crate) struct EmitRefused {
    pub(crate) kind: FaultKind,
    pub(crate) cause: String,
}

impl EmitRefused {
    pub(crate) fn throw(kind: FaultKind, cause: String) -> ! {
        std::panic::resume_unwind(Box::new(EmitRefused { kind, cause }))
    }
}

/// A link that broke its protocol or lost its peer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The bytes are not a well-formed batch.
    #[error("link from reactor {from} closed: malformed batch: {cause}; both ends must run the same build")]
    Malformed {
        /// Sending reactor.
        from: u32,
        /// What is wrong with the batch.
        cause: String,
    },
    /// A batch is missing or came twice.
    #[error("link from reactor {from} closed: expected batch {expected}, got {got}; this is a bug in the link")]
    Sequence {
        /// Sending reactor.
        from: u32,
        /// Sequence number due.
        expected: u64,
        /// Sequence number read.
        got: u64,
    },
    /// A batch of a stream that nobody here subscribes to, or for a task that is not here.
    #[error(
        "link from reactor {from} closed: {what} is not placed on reactor {here}; the two ends run different plans"
    )]
    Misrouted {
        /// Sending reactor.
        from: u32,
        /// Receiving reactor.
        here: u32,
        /// The stream or task.
        what: String,
    },
    /// The peer is gone.
    #[error("link to reactor {peer} of worker {worker} broke: {cause}; that worker died or was killed")]
    PeerLost {
        /// Reactor at the other end.
        peer: u32,
        /// Its worker.
        worker: u32,
        /// What the kernel said.
        cause: String,
    },
    /// The I/O driver failed.
    #[error("I/O driver failed: {0}; run `squall doctor`, or use --io epoll")]
    Driver(#[from] std::io::Error),
}
