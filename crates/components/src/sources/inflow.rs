//! From threads that read (standard input, sockets) to a spout task that is never blocked: a bounded queue of chunks of whole
//! lines, and the task's waker. A full queue blocks the thread that reads, and so whoever writes to it.

use std::io::{ErrorKind, Read};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use squall::{Context, Counter, Next, RowStreams, SpoutError, Waker};

use super::form::{Form, FormReader};
use crate::rows::OnError;

/// Chunks that wait, at most.
const CHUNKS: usize = 64;
/// Bytes asked of a source at a time. A chunk is at most this and the longest line.
const READ_BYTES: usize = 64 * 1024;
/// The longest line of a source that cannot be read again: a longer one is bad input.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;

/// What a thread hands over.
pub(crate) enum Chunk {
    /// Whole lines, each with its newline but perhaps the last.
    Lines(Vec<u8>),
    /// One text, newlines and all.
    Text(Vec<u8>),
    /// Input that is of no use, and why.
    Bad(Vec<u8>, String),
    /// The source is broken: ends the spout.
    Broken(String),
}

/// The thread's end. When the last one is dropped, the spout ends.
pub(crate) struct Feeder {
    chunks: Option<Sender<Chunk>>,
    waker: Waker,
}

impl Clone for Feeder {
    fn clone(&self) -> Feeder {
        Feeder { chunks: self.chunks.clone(), waker: self.waker.clone() }
    }
}

impl Feeder {
    /// Hands a chunk over; waits for room. `false`: the spout is gone.
    pub(crate) fn push(&self, chunk: Chunk) -> bool {
        let sent = self.chunks.as_ref().is_some_and(|chunks| chunks.send(chunk).is_ok());
        self.waker.wake();
        sent
    }

    /// Hands a chunk over if there is room.
    #[cfg(feature = "http")]
    ///
    /// # Errors
    /// The chunk, if there is none, or the spout is gone.
    pub(crate) fn try_push(&self, chunk: Chunk) -> Result<(), Chunk> {
        let sent = match &self.chunks {
            Some(chunks) => chunks.try_send(chunk).map_err(crossbeam_channel::TrySendError::into_inner),
            None => Err(chunk),
        };
        self.waker.wake();
        sent
    }

    /// Reads lines to the end of the input. `false`: the spout is gone.
    pub(crate) fn read_lines(&self, mut input: impl Read, line_bytes_max: usize) -> std::io::Result<bool> {
        let mut buffer = Vec::new();
        // Inside a line that is too long: nothing of it is kept.
        let mut long = false;
        loop {
            let start = buffer.len();
            buffer.resize(start + READ_BYTES, 0);
            let read = loop {
                match input.read(&mut buffer[start..]) {
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            buffer.truncate(start + read);
            if read == 0 {
                let last = std::mem::take(&mut buffer);
                return Ok(long || last.is_empty() || self.push(Chunk::Lines(last)));
            }
            let Some(end) = memchr::memrchr(b'\n', &buffer[start..]).map(|at| start + at + 1) else {
                if buffer.len() > line_bytes_max {
                    if !std::mem::replace(&mut long, true) && !self.push(too_long(&buffer, line_bytes_max)) {
                        return Ok(false);
                    }
                    buffer.clear();
                }
                continue;
            };
            let rest = buffer.split_off(end);
            let mut lines = std::mem::replace(&mut buffer, rest);
            if std::mem::replace(&mut long, false) {
                let tail = memchr::memchr(b'\n', &lines).expect("it ends with one") + 1;
                lines.drain(..tail);
            }
            if !lines.is_empty() && !self.push(Chunk::Lines(lines)) {
                return Ok(false);
            }
        }
    }
}

fn too_long(line: &[u8], most: usize) -> Chunk {
    Chunk::Bad(line[..line.len().min(256)].to_vec(), format!("the line is longer than {most} bytes"))
}

impl Drop for Feeder {
    fn drop(&mut self) {
        // First the queue's end, then the wake: the task finds it closed.
        self.chunks = None;
        self.waker.wake();
    }
}

/// The spout task's end.
pub(crate) struct Inflow {
    chunks: Receiver<Chunk>,
    form: FormReader,
    lines: Counter,
    current: Vec<u8>,
    /// Start of what was not emitted.
    at: usize,
    limit: Option<u64>,
    emitted: u64,
}

/// The two ends of a task's queue. After `limit` rows the spout ends.
pub(crate) fn inflow(ctx: &Context, form: &Arc<Form>, on_error: OnError, limit: Option<u64>) -> (Feeder, Inflow) {
    let (sender, chunks) = bounded(CHUNKS);
    let mut form = form.reader(on_error);
    form.prepare(ctx);
    let feeder = Feeder { chunks: Some(sender), waker: ctx.waker() };
    let lines = ctx.counter("lines");
    (feeder, Inflow { chunks, form, lines, current: Vec::new(), at: 0, limit, emitted: 0 })
}

impl Inflow {
    pub(crate) fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        if self.limit.is_some_and(|limit| self.emitted >= limit) {
            return Ok(Next::End);
        }
        if self.at == self.current.len() {
            match self.chunks.try_recv() {
                Ok(Chunk::Lines(lines)) => (self.current, self.at) = (lines, 0),
                Ok(Chunk::Text(text)) => return self.emit(&text, out),
                Ok(Chunk::Bad(text, cause)) => {
                    self.form.refuse(&text, &cause, out)?;
                    return Ok(Next::Emitted);
                }
                Ok(Chunk::Broken(cause)) => return Err(SpoutError::new(cause)),
                Err(TryRecvError::Empty) => return Ok(Next::Parked),
                Err(TryRecvError::Disconnected) => return Ok(Next::End),
            }
        }
        let current = std::mem::take(&mut self.current);
        let rest = &current[self.at..];
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        self.at = (self.at + end + 1).min(current.len());
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        let emitted = self.emit(line, out);
        self.current = current;
        emitted
    }

    fn emit(&mut self, text: &[u8], out: &mut RowStreams) -> Result<Next, SpoutError> {
        self.lines.inc();
        self.emitted += 1;
        self.form.emit_bytes(text, out)?;
        Ok(Next::Emitted)
    }
}
