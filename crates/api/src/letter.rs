//! What a stream of dead letters carries.

use squall_engine::CohortEnv;
use squall_tuple::ids::{StreamIx, TaskId};

use crate::{AlignedVec, Tuple, TupleRef};

/// A tuple that a bolt could not process, with the error: what [`BoltDecl::dead_letters`](crate::BoltDecl::dead_letters) emits.
#[derive(Tuple, Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The component that failed.
    pub component: String,
    /// Its task.
    pub task: u32,
    /// The stream the tuple came on, as `component.stream`.
    pub stream: String,
    /// The task that emitted it.
    pub source: u32,
    /// What the component did the last time: its panic's message, or its fatal error.
    pub error: String,
    /// How often.
    pub failures: u32,
    /// The tuple, archived: see [`DeadLetter::tuple`].
    pub archive: Vec<u8>,
}

impl DeadLetter {
    /// The tuple itself. `None`: it is not a `T` (or was changed on its way).
    pub fn tuple<T: Tuple>(&self) -> Option<T> {
        let mut aligned = AlignedVec::<8>::with_capacity(self.archive.len());
        aligned.extend_from_slice(&self.archive);
        TupleRef::<T>::from_bytes(&aligned).ok().map(|tuple| tuple.to_owned())
    }

    pub(crate) fn new(env: &CohortEnv, letter: &squall_engine::DeadLetter<'_>) -> DeadLetter {
        let frame = letter.batch.iter().next().expect("a letter begins with its tuple");
        let stream: StreamIx = letter.batch.stream();
        let task: TaskId = letter.task;
        DeadLetter {
            component: env.component_name().to_owned(),
            task,
            stream: env.plan.spec.stream_name(stream),
            source: frame.source(),
            error: letter.cause.to_owned(),
            failures: letter.failures,
            archive: frame.payload().to_vec(),
        }
    }
}
