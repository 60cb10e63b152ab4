//! From threads that read (standard input, sockets) to a spout task that is never blocked: a bounded queue of chunks of whole
//! lines, and the task's waker. A full queue blocks the thread that reads, and so whoever writes to it.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use squall::{Context, Counter, Failure, MessageId, Next, Replay, RowStreams, SpoutError, Waker};

use super::form::{Form, FormReader};
use super::senders::{Acks, Ahead};
use crate::giving_up::GiveUp;
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
    /// The same, of a sender that is told which of them are done.
    Sent(Vec<u8>, Arc<Acks>),
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
    acks: Option<Arc<Acks>>,
}

impl Clone for Feeder {
    fn clone(&self) -> Feeder {
        Feeder { chunks: self.chunks.clone(), waker: self.waker.clone(), acks: self.acks.clone() }
    }
}

impl Feeder {
    /// For the lines of a sender that is to be told which are done.
    pub(crate) fn with_acks(mut self, acks: Arc<Acks>) -> Feeder {
        self.acks = Some(acks);
        self
    }

    fn lines(&self, lines: Vec<u8>) -> Chunk {
        match &self.acks {
            Some(acks) => Chunk::Sent(lines, acks.clone()),
            None => Chunk::Lines(lines),
        }
    }

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
                return Ok(long || last.is_empty() || self.push(self.lines(last)));
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
            if !lines.is_empty() && !self.push(self.lines(lines)) {
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

/// A line by its sender and its number there.
type SentLine = (Arc<Acks>, u64);

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
    /// The sender of the current lines, if it is to be told.
    sender: Option<Arc<Acks>>,
    /// Lines of such senders that are pending, each with its number there.
    replay: Option<Replay<Box<[u8]>, SentLine>>,
    /// By connection: what is done ahead of others.
    ahead: HashMap<*const Acks, (Arc<Acks>, Ahead)>,
}

/// The two ends of a task's queue. After `limit` rows the spout ends.
pub(crate) fn inflow(ctx: &Context, form: &Arc<Form>, on_error: OnError, limit: Option<u64>) -> (Feeder, Inflow) {
    let (sender, chunks) = bounded(CHUNKS);
    let mut form = form.reader(on_error);
    form.prepare(ctx);
    let feeder = Feeder { chunks: Some(sender), waker: ctx.waker(), acks: None };
    let lines = ctx.counter("lines");
    let inflow = Inflow {
        chunks,
        form,
        lines,
        current: Vec::new(),
        at: 0,
        limit,
        emitted: 0,
        sender: None,
        replay: None,
        ahead: HashMap::new(),
    };
    (feeder, inflow)
}

impl Inflow {
    pub(crate) fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        let exhausted = self.limit.is_some_and(|limit| self.emitted >= limit);
        if let Some(replay) = &mut self.replay {
            if let Some((id, line)) = replay.take_due() {
                self.form.emit_bytes_as(Some(id), line, out)?;
                return Ok(Next::Emitted);
            }
            if let Some((id, line, error)) = replay.take_letter() {
                self.form.letter(id, line, error, out);
                return Ok(Next::Emitted);
            }
            if exhausted || !replay.has_room() {
                return Ok(replay.rest(exhausted));
            }
        }
        if exhausted {
            return Ok(Next::End);
        }
        if self.at == self.current.len() {
            match self.chunks.try_recv() {
                Ok(Chunk::Lines(lines)) => (self.current, self.at, self.sender) = (lines, 0, None),
                Ok(Chunk::Sent(lines, sender)) => (self.current, self.at, self.sender) = (lines, 0, Some(sender)),
                Ok(Chunk::Text(text)) => return self.emit(&text, out),
                Ok(Chunk::Bad(text, cause)) => {
                    self.form.refuse(&text, &cause, out)?;
                    return Ok(Next::Emitted);
                }
                Ok(Chunk::Broken(cause)) => return Err(SpoutError::new(cause)),
                Err(TryRecvError::Empty) => {
                    return Ok(self.replay.as_ref().map_or(Next::Parked, |replay| replay.rest(false)));
                }
                Err(TryRecvError::Disconnected) => {
                    return Ok(self.replay.as_ref().map_or(Next::End, |replay| replay.rest(true)));
                }
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
        let (Some(sender), Some(replay)) = (&self.sender, &mut self.replay) else {
            self.form.emit_bytes(text, out)?;
            return Ok(Next::Emitted);
        };
        let id = replay.push(text.into(), text.len(), (sender.clone(), sender.take()));
        if !self.form.emit_bytes_as(Some(id), text, out)? {
            self.ack(id);
        }
        Ok(Next::Emitted)
    }

    /// Lines of senders get ids, and are emitted again until they are acknowledged.
    pub(crate) fn track(&mut self, ctx: &Context, give_up: GiveUp) -> Result<(), SpoutError> {
        self.replay = Some(give_up.replay(ctx)?);
        Ok(())
    }

    pub(crate) fn ack(&mut self, id: MessageId) {
        let Some(replay) = &mut self.replay else { return };
        let (sender, line) = replay.place(id).clone();
        let ahead = self.ahead.entry(Arc::as_ptr(&sender)).or_insert_with(|| (sender.clone(), Ahead::default()));
        sender.count(line, &mut ahead.1);
        replay.ack(id);
        while replay.next_place().is_some() {}
        // Who has gone, and has nothing pending, is not told any more: this map, the line's and the current ones hold it.
        if Arc::strong_count(&sender) <= 2 {
            self.ahead.remove(&Arc::as_ptr(&sender));
        }
    }

    pub(crate) fn fail(&mut self, id: MessageId, why: &Failure<'_>) {
        let Some(replay) = &mut self.replay else { return };
        let place = replay.place(id).clone();
        // What is given up is done with: the run says that it failed.
        if replay.fail(id, why).is_some() {
            let (sender, line) = place;
            let ahead = self.ahead.entry(Arc::as_ptr(&sender)).or_insert_with(|| (sender.clone(), Ahead::default()));
            sender.count(line, &mut ahead.1);
            while replay.next_place().is_some() {}
        }
    }
}
