//! The ends of topologies that have no other system behind them.

use std::io::{self, Write};
use std::marker::PhantomData;

use squall::{Bolt, BoltError, Context, Input, Placement, Tuple, TupleRef};

use super::Torn;

/// Takes tuples and does nothing: what was executed is counted, and its latency recorded, by the engine.
///
/// ```
/// # extern crate squall_api as squall;
/// # use squall::prelude::*;
/// # use squall_components::{Line, Lines, Null};
/// # let topology = Topology::new("show");
/// # let lines = topology.spout("lines", || Lines::over(["Cargo.toml"])).streams();
/// topology.bolt("null", Null::<Line>::default).on(lines.shuffle());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Null<T>(PhantomData<fn(T)>);

impl<T> Default for Null<T> {
    fn default() -> Null<T> {
        Null(PhantomData)
    }
}

impl<T: Tuple> Bolt for Null<T> {
    type In = T;
    type Out = ();

    #[inline]
    fn execute(&mut self, _: Input<'_, T>, _: &mut ()) -> Result<(), BoltError> {
        Ok(())
    }
}

type Format<T> = Box<dyn FnMut(TupleRef<'_, T>, &mut dyn Write) -> io::Result<()>>;

/// Writes tuples to standard output, each as its function says; output is flushed when a batch ends, so
/// an idle stream shows at once and a busy one costs one system call a batch.
///
/// It may block, so it runs on a side thread unless told otherwise. Lines of several tasks in one worker do
/// not mix, those of several workers may. A writer that fails (a full disk, a closed pipe) ends the run.
///
/// ```
/// # extern crate squall_api as squall;
/// # use squall::prelude::*;
/// # use squall_components::{Line, Lines, Print};
/// # let topology = Topology::new("show");
/// # let lines = topology.spout("lines", || Lines::over(["Cargo.toml"])).streams();
/// let print = || Print::with(|line: TupleRef<'_, Line>, out| writeln!(out, "{}", line.text));
/// topology.bolt("print", print).on(lines.global());
/// ```
pub struct Print<T: Tuple> {
    format: Format<T>,
    out: Box<dyn Write>,
    label: String,
    torn: Torn,
}

impl<T: Tuple> Print<T> {
    /// Prints each tuple by the function, which writes whole lines.
    pub fn with(format: impl FnMut(TupleRef<'_, T>, &mut dyn Write) -> io::Result<()> + 'static) -> Print<T> {
        Print {
            format: Box::new(format),
            out: Box::new(Shared::default()),
            label: String::new(),
            torn: Torn::default(),
        }
    }

    /// Prints each tuple as a line in its `Debug` form.
    pub fn debug() -> Print<T>
    where
        T: std::fmt::Debug,
    {
        Print::with(|tuple: TupleRef<'_, T>, out: &mut dyn Write| writeln!(out, "{:?}", tuple.to_owned()))
    }

    /// Writes there instead of standard output. It should buffer: it is flushed when a batch ends.
    pub fn to(self, out: impl Write + 'static) -> Print<T> {
        Print { out: Box::new(out), ..self }
    }
}

pub(super) fn cannot_write(label: &str, cause: io::Error) -> BoltError {
    BoltError::fatal(format!("{label} cannot write: {cause}; free the disk, or keep the reader of the pipe open"))
}

impl<T: Tuple> Bolt for Print<T> {
    type In = T;
    type Out = ();

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.label = format!("{} (task {})", ctx.component(), ctx.task());
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, T>, _: &mut ()) -> Result<(), BoltError> {
        let Print { format, out, label, torn } = self;
        torn.write(|| format(input.view(), &mut **out).map_err(|cause| cannot_write(label, cause)));
        Ok(())
    }

    fn batch_end(&mut self, _: &mut ()) -> Result<(), BoltError> {
        self.torn.end()?;
        self.out.flush().map_err(|cause| cannot_write(&self.label, cause))
    }

    fn placement() -> Placement {
        Placement::SideThread
    }
}

/// Standard output with a buffer of its own, which leaves whole: tasks of one worker do not mix inside
/// what they wrote for one batch.
#[derive(Default)]
pub(super) struct Shared {
    buffer: Vec<u8>,
}

/// A batch whose text is longer than this leaves in several parts.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What printed it has panicked within a batch: the lines of the tuples before were acknowledged.
impl Drop for Shared {
    fn drop(&mut self) {
        let whole = memchr::memrchr(b'\n', &self.buffer).map_or(0, |at| at + 1);
        self.buffer.truncate(whole);
        if whole > 0 {
            // Nobody is left to be told of an error.
            drop(self.flush());
        }
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() > BUFFER_BYTES_MAX && bytes.ends_with(b"\n") {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let written = out.write_all(&self.buffer);
        self.buffer.clear();
        written?;
        out.flush()
    }
}
