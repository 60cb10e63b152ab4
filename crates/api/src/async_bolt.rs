//! Bolts whose work is waiting: a call of theirs is a future that runs on threads of its own, so that no reactor waits for it
//! (D8), nor for what blocks in it.
//!
//! The bolt itself runs on a side thread: it begins a call for each input, waits while as many run as may, and emits what came
//! of them, in the order of the inputs or as they end. The futures run on two threads of a tokio runtime, which all async bolts
//! of a worker share.
//!
//! Invariants: each input is acknowledged when its call's outputs were emitted, anchored to it; it fails if the call fails or
//! panics, or if the bolt is restarted meanwhile. No more than `concurrency` inputs are under way.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use squall_engine::Outbox;
use squall_topology::Placement;
use tokio::runtime::{Builder, Runtime};

use crate::{Anchor, Bolt, BoltDecl, BoltError, Context, Finish, Input, Inputs, Outputs, Topology, Waker};

/// Threads on which the futures of a worker's async bolts run.
const THREADS: usize = 2;

/// A step that waits for something: a request to another system, a query, a call that blocks.
///
/// ```
/// # extern crate squall_api as squall;
/// use std::time::Duration;
/// use squall::prelude::*;
/// use squall::{AsyncBolt, AsyncOptions};
///
/// #[derive(Tuple)]
/// struct Id { id: u64 }
/// #[derive(Tuple)]
/// struct Name { name: String }
///
/// struct LookUp;
/// impl AsyncBolt for LookUp {
///     type In = Id;
///     type Out = Stream<Name>;
///     type Answer = String;
///     fn call(&mut self, input: Id) -> impl Future<Output = Result<String, BoltError>> + Send + 'static {
///         async move { Ok(format!("name of {}", input.id)) } // Ask a server here.
///     }
///     fn answered(&mut self, name: String, out: &mut Stream<Name>) -> Result<(), BoltError> {
///         out.emit(Name { name });
///         Ok(())
///     }
/// }
/// # fn declare(topology: &Topology, ids: StreamHandle<Id>) {
/// let options = AsyncOptions { concurrency: 200, ..AsyncOptions::default() };
/// topology.async_bolt("look-up", options, || LookUp).on(ids.shuffle());
/// # }
/// ```
pub trait AsyncBolt: 'static {
    /// What it consumes.
    type In: Inputs + Send;
    /// What it emits.
    type Out: Outputs;
    /// What a call comes to.
    type Answer: Send + 'static;

    /// Once, before the first tuple.
    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        let _ = ctx;
        Ok(())
    }

    /// Begins a call. The future runs elsewhere: it takes with it what it needs (clients are usually cheap to clone). Where it
    /// fails with [`BoltError::Fail`], or panics, its tuple does; with [`BoltError::Fatal`] the executor ends.
    fn call(&mut self, input: Self::In) -> impl Future<Output = Result<Self::Answer, BoltError>> + Send + 'static;

    /// A call has ended well: emits, anchored to its tuple, which is acknowledged then.
    fn answered(&mut self, answer: Self::Answer, out: &mut Self::Out) -> Result<(), BoltError>;

    /// All inputs have ended, and all calls.
    fn finish(&mut self, out: &mut Self::Out) -> Result<Finish, BoltError> {
        let _ = out;
        Ok(Finish::Done)
    }

    /// The last call.
    fn cleanup(&mut self) {}
}

/// How calls of an [`AsyncBolt`] are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsyncOptions {
    /// Inputs under way in each task, at most; at least 1. Default 64.
    pub concurrency: usize,
    /// Answers are emitted in the order of their inputs: a slow call holds those behind it. Default: as they come.
    pub ordered: bool,
}

impl Default for AsyncOptions {
    fn default() -> Self {
        AsyncOptions { concurrency: 64, ordered: false }
    }
}

impl Topology {
    /// Declares an async bolt; `factory` makes one instance per task. Its executors run on side threads: leave them there.
    ///
    /// # Panics
    /// If `concurrency` is 0.
    pub fn async_bolt<B: AsyncBolt>(
        &self,
        name: &str,
        options: AsyncOptions,
        factory: impl Fn() -> B + Send + Sync + 'static,
    ) -> BoltDecl<Calls<B>> {
        assert!(options.concurrency > 0, "`concurrency` is 0; the least is 1");
        self.bolt(name, move || Calls {
            bolt: factory(),
            options,
            kit: None,
            under_way: VecDeque::new(),
            first: 0,
            open: 0,
        })
    }
}

/// The worker's runtime. Dropping it does not wait for calls that never end.
struct Async(Option<Runtime>);

impl Async {
    fn start() -> Async {
        let runtime =
            Builder::new_multi_thread().worker_threads(THREADS).thread_name("squall-async").enable_all().build();
        Async(runtime.ok())
    }
}

impl Drop for Async {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The bolt that makes the calls of an [`AsyncBolt`].
pub struct Calls<B: AsyncBolt> {
    bolt: B,
    options: AsyncOptions,
    kit: Option<Kit<B::Answer>>,
    /// From number `first` on, in the order of their inputs.
    under_way: VecDeque<Call<B::Answer>>,
    first: u64,
    /// Calls that have not ended, and answers that wait for those before them.
    open: usize,
}

struct Kit<A> {
    outbox: std::rc::Rc<Outbox>,
    runtime: Arc<Async>,
    waker: Waker,
    ended: (Sender<Ended<A>>, Receiver<Ended<A>>),
}

/// The number of a call, and what came of it.
type Ended<A> = (u64, Result<A, BoltError>);

struct Call<A> {
    /// `None`: it is over.
    anchor: Option<Anchor>,
    origin_ns: u64,
    /// It has ended, and waits for those before it.
    ended: Option<Result<A, BoltError>>,
}

/// Tells the end of a call, however it comes.
struct Teller<A> {
    number: u64,
    ended: Sender<Ended<A>>,
    waker: Waker,
    told: bool,
}

impl<A> Teller<A> {
    fn tell(&mut self, result: Result<A, BoltError>) {
        self.told = true;
        // If the other end is gone, so is the bolt that would listen.
        let _ = self.ended.send((self.number, result));
        self.waker.wake();
    }
}

impl<A> Drop for Teller<A> {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Err(BoltError::fail("the call panicked; its message and place are on stderr")));
        }
    }
}

impl<B: AsyncBolt> Calls<B> {
    fn kit(&self) -> &Kit<B::Answer> {
        self.kit.as_ref().expect("prepared")
    }

    /// Takes in the end of a call; emits what can be.
    fn take_end(&mut self, (number, result): Ended<B::Answer>, out: &mut B::Out) -> Result<(), BoltError> {
        // Of an instance before this one there is nothing: its channel is gone.
        let at = (number - self.first) as usize;
        if !self.options.ordered {
            return self.emit(at, result, out);
        }
        self.under_way[at].ended = Some(result);
        while let Some(result) = self.under_way.front_mut().and_then(|call| call.ended.take()) {
            self.emit(0, result, out)?;
        }
        Ok(())
    }

    fn emit(&mut self, at: usize, result: Result<B::Answer, BoltError>, out: &mut B::Out) -> Result<(), BoltError> {
        self.open -= 1;
        let call = &mut self.under_way[at];
        let (anchor, origin_ns) = (call.anchor.take().expect("it ends once"), call.origin_ns);
        while self.under_way.pop_front_if(|call| call.anchor.is_none()).is_some() {
            self.first += 1;
        }
        let outbox = self.kit().outbox.clone();
        let kept = outbox.begin_kept(anchor, origin_ns);
        match result.and_then(|answer| self.bolt.answered(answer, out)) {
            Ok(()) => kept.ack(),
            Err(BoltError::Fail(cause)) => kept.fail(&cause),
            Err(BoltError::Fatal(cause)) => {
                kept.fail(&cause);
                return Err(BoltError::Fatal(cause));
            }
        }
        Ok(())
    }

    fn take_ends(&mut self, out: &mut B::Out) -> Result<(), BoltError> {
        while let Ok(ended) = self.kit().ended.1.try_recv() {
            self.take_end(ended, out)?;
        }
        Ok(())
    }
}

impl<B: AsyncBolt> Bolt for Calls<B> {
    type In = B::In;
    type Out = B::Out;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        let runtime = ctx.resource("async bolts", Async::start);
        if runtime.0.is_none() {
            return Err(BoltError::fatal("no threads for async bolts; raise the limit of processes (ulimit -u)"));
        }
        let (outbox, waker) = (ctx.env.outbox.clone(), ctx.waker());
        // As many as there are calls.
        self.kit = Some(Kit { outbox, runtime, waker, ended: unbounded() });
        self.bolt.prepare(ctx)
    }

    fn execute(&mut self, input: Input<'_, B::In>, out: &mut B::Out) -> Result<(), BoltError> {
        let origin_ns = input.origin().as_nanos();
        let (owned, anchor) = input.keep();
        self.take_ends(out)?;
        while self.open >= self.options.concurrency {
            let ended = self.kit().ended.1.recv().expect("this end holds a sender");
            self.take_end(ended, out)?;
        }
        let number = self.first + self.under_way.len() as u64;
        self.under_way.push_back(Call { anchor: Some(anchor), origin_ns, ended: None });
        self.open += 1;
        let future = self.bolt.call(owned);
        let kit = self.kit();
        let mut teller = Teller { number, ended: kit.ended.0.clone(), waker: kit.waker.clone(), told: false };
        let runtime = kit.runtime.0.as_ref().expect("looked at in `prepare`");
        drop(runtime.spawn(async move {
            let result = future.await;
            teller.tell(result);
        }));
        Ok(())
    }

    fn woken(&mut self, out: &mut B::Out) -> Result<(), BoltError> {
        self.take_ends(out)
    }

    fn finish(&mut self, out: &mut B::Out) -> Result<Finish, BoltError> {
        self.take_ends(out)?;
        if self.open > 0 { Ok(Finish::More) } else { self.bolt.finish(out) }
    }

    fn cleanup(&mut self) {
        self.bolt.cleanup();
    }

    fn placement() -> Placement {
        Placement::SideThread
    }
}
