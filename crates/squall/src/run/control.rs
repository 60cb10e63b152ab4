//! What the parent of a run and its workers say to each other, and how it is framed.
//!
//! A frame is a length (u32, little-endian, of what follows), a kind byte and a body. Messages are JSON; a result row is
//! `task u32, key length u16, key, bytes`, so rows are neither quoted nor copied into text. File descriptors travel
//! beside the first byte of the frame that names them.
//!
//! Limits: a frame is at most [`FRAME_BYTES_MAX`], a message carries at most [`FDS_MAX`] descriptors. A length from the
//! wire never sizes an allocation: buffers grow with the bytes that have come.
//!
//! Deliberately absent: sockets. [`FrameReader`] takes bytes; `channel` brings them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::stats::{Usage, WorkerStats};

/// Largest frame: a result row of the largest tuple, or the plan of a topology of thousands of tasks.
pub(crate) const FRAME_BYTES_MAX: usize = 32 << 20;
/// Most descriptors beside one frame; the kernel takes 253.
pub(crate) const FDS_MAX: usize = 64;
/// Result bytes that may be on their way from one worker: enough to keep the socket busy, small beside any buffer.
pub(crate) const RESULT_CREDIT_BYTES: u64 = 1 << 20;

const LEN_BYTES: usize = 4;
const KIND_MESSAGE: u8 = 0;
const KIND_RESULT: u8 = 1;
/// Kind, task and key length.
const RESULT_HEAD_BYTES: usize = 7;

/// From the parent to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// The first message. Beside it: the run's standard input, which the control socket took the place of, and the board.
    Hello(Box<Hello>),
    /// The second one, at once or, for a process that stands by, when a worker has died: which worker this is.
    Become {
        /// Index of the worker.
        worker: u32,
        /// By worker: how often it was started before.
        epochs: Vec<u32>,
        /// Number of [`ToWorker::Sockets`] entries that follow.
        sockets: u32,
    },
    /// The reactors that the sockets beside this message join, the lower one first.
    Sockets(Vec<(u32, u32)>),
    /// A worker is gone.
    Lost(u32),
    /// A worker that had done its part is gone, and will not come again.
    Left(u32),
    /// A worker is being started again, or the link to it made anew.
    Rejoin {
        /// Index of the worker.
        worker: u32,
        /// Its life.
        epoch: u32,
        /// How often this worker was told so of that one, with this time.
        joins: u32,
        /// The reactors that the sockets beside this message join, the lower one first.
        sockets: Vec<(u32, u32)>,
        /// More of them follow in another message.
        more: bool,
    },
    /// Every worker is prepared: spouts may run.
    Begin,
    /// Spouts end now; everything else ends as at a normal end.
    StopSpouts,
    /// Every worker has finished: components clean up, the worker reports and leaves.
    Exit,
    /// End at once.
    Abort,
    /// So many more result bytes may be sent.
    ResultCredit(u64),
}

/// What a worker must know and agree on before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The parent's process id, to notice its death between fork and the death signal's arming.
    pub parent: i32,
    /// CPUs the parent may use: plans of all processes are made for the same machine.
    pub cores: Vec<usize>,
    /// Hash of the canonical plan.
    pub plan_hash: u64,
    /// The canonical plan, to name the first difference.
    pub plan: String,
    /// Whether workers that die are replaced.
    pub heals: bool,
}

/// From a worker to the parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum FromWorker {
    /// The program is loaded: it can become any worker.
    Loaded,
    /// Threads are up and components prepared.
    Prepared,
    /// The link to another worker has ended.
    LinkLost {
        /// Index of the other one.
        worker: u32,
        /// The `joins` that it was linked with: tells the end of this link from that of an earlier one.
        joins: u32,
    },
    /// Counts so far.
    Stats(Box<WorkerStats>),
    /// A component's log line.
    Log {
        /// `error`, `warn`, `info` or `debug`.
        level: String,
        /// Name of the component.
        component: String,
        /// Task that wrote it.
        task: u32,
        /// The line.
        text: String,
    },
    /// Something the report must mention.
    Warning(String),
    /// The run cannot go on: cause and remedy.
    Failed(String),
    /// The worker was asked to terminate by a signal.
    Signalled,
    /// All components here have finished and all rows are out: exact counts of the processing.
    Finished(Box<WorkerStats>),
    /// The last message: counts after the cleanup, and what the worker used.
    Report(Box<WorkerStats>, Usage),
}

/// One row of results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultRow {
    /// What kind of row: chosen by the component that pushed it.
    pub key: String,
    /// The task that pushed it. Rows of one task come in its order.
    pub task: u32,
    /// The row. Shares the receive buffer: copy it to keep it for long.
    pub bytes: Bytes,
}

impl ResultRow {
    /// What the row cost of the worker's credit: its whole frame.
    pub(crate) fn frame_bytes(&self) -> u64 {
        (LEN_BYTES + RESULT_HEAD_BYTES + self.key.len() + self.bytes.len()) as u64
    }
}

/// A frame as it came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame<M> {
    /// A message.
    Message(M),
    /// A result row.
    Result(ResultRow),
}

/// Bytes that are not a frame of ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {len} bytes exceeds the limit of {FRAME_BYTES_MAX}; send large results as several rows")]
    TooLong { len: usize },
    #[error("a frame without a kind")]
    Empty,
    #[error("a frame of unknown kind {0}; are parent and worker of one build?")]
    Kind(u8),
    #[error("a malformed message: {0}; are parent and worker of one build?")]
    Message(#[from] serde_json::Error),
    #[error("a result row cut at {0} bytes")]
    Row(usize),
    #[error("a result row whose key is not UTF-8")]
    Key,
    #[error("a result key of {0} bytes exceeds the limit of 65535; use a short name")]
    KeyTooLong(usize),
}

/// A message as a frame.
pub(crate) fn encode_message(message: &impl Serialize) -> Result<Bytes, FrameError> {
    let mut frame = vec![0; LEN_BYTES];
    frame.push(KIND_MESSAGE);
    serde_json::to_writer(&mut frame, message)?;
    finish(frame)
}

/// A result row as a frame.
pub(crate) fn encode_result(key: &str, task: u32, bytes: &[u8]) -> Result<Bytes, FrameError> {
    let key_len = u16::try_from(key.len()).map_err(|_| FrameError::KeyTooLong(key.len()))?;
    let mut frame = Vec::with_capacity(LEN_BYTES + RESULT_HEAD_BYTES + key.len() + bytes.len());
    frame.put_u32_le(0);
    frame.put_u8(KIND_RESULT);
    frame.put_u32_le(task);
    frame.put_u16_le(key_len);
    frame.put_slice(key.as_bytes());
    frame.put_slice(bytes);
    finish(frame)
}

fn finish(mut frame: Vec<u8>) -> Result<Bytes, FrameError> {
    let len = frame.len() - LEN_BYTES;
    if len > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { len });
    }
    frame[..LEN_BYTES].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(frame.into())
}

/// Cuts a byte stream into frames. Descriptors that came beside the bytes wait here for the message that names them.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    buffer: BytesMut,
    fds: VecDeque<OwnedFd>,
}

impl FrameReader {
    /// Takes bytes as they came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes a descriptor as it came.
    pub(crate) fn push_fd(&mut self, fd: OwnedFd) {
        self.fds.push_back(fd);
    }

    /// The next descriptor that came.
    pub(crate) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// The next whole frame, or `None` until more bytes come. After an error the stream is out of step: close it.
    pub(crate) fn next<M: DeserializeOwned>(&mut self) -> Result<Option<Frame<M>>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<LEN_BYTES>() else { return Ok(None) };
        let len = u32::from_le_bytes(*head) as usize;
        if len > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { len });
        }
        if self.buffer.len() < LEN_BYTES + len {
            return Ok(None);
        }
        self.buffer.advance(LEN_BYTES);
        let mut body = self.buffer.split_to(len).freeze();
        if body.is_empty() {
            return Err(FrameError::Empty);
        }
        match body.get_u8() {
            KIND_MESSAGE => Ok(Some(Frame::Message(serde_json::from_slice(&body)?))),
            KIND_RESULT => decode_result(body).map(|row| Some(Frame::Result(row))),
            kind => Err(FrameError::Kind(kind)),
        }
    }
}

fn decode_result(mut body: Bytes) -> Result<ResultRow, FrameError> {
    let cut = FrameError::Row(body.len());
    if body.len() < 6 {
        return Err(cut);
    }
    let task = body.get_u32_le();
    let key_len = usize::from(body.get_u16_le());
    if body.len() < key_len {
        return Err(cut);
    }
    let key = body.split_to(key_len);
    let key = std::str::from_utf8(&key).map_err(|_| FrameError::Key)?.to_owned();
    Ok(ResultRow { key, task, bytes: body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> ToWorker {
        ToWorker::Hello(Box::new(Hello {
            parent: 42,
            cores: vec![0, 1],
            plan_hash: u64::MAX,
            plan: "{ \"a\": \"ü\" }".into(),
            heals: true,
        }))
    }

    fn from_worker() -> Vec<FromWorker> {
        let mut stats = WorkerStats { io: "epoll".into(), ..Default::default() };
        stats.latency.record_n(1_000, 7);
        let log = FromWorker::Log { level: "warn".into(), component: "c".into(), task: 3, text: "x".into() };
        let usage = Usage { cpu_ns: 5, rss_max_bytes: 6 };
        vec![
            FromWorker::Loaded,
            FromWorker::Prepared,
            FromWorker::LinkLost { worker: 1, joins: 2 },
            log,
            FromWorker::Warning("w".into()),
            FromWorker::Failed("cause; remedy".into()),
            FromWorker::Signalled,
            FromWorker::Stats(Box::new(stats.clone())),
            FromWorker::Finished(Box::new(stats.clone())),
            FromWorker::Report(Box::new(stats), usage),
        ]
    }

    #[test]
    fn every_message_comes_back_whatever_the_chunks() {
        let to_worker = [
            hello(),
            ToWorker::Become { worker: 1, epochs: vec![0, 3], sockets: 2 },
            ToWorker::Lost(1),
            ToWorker::Left(0),
            ToWorker::Rejoin { worker: 1, epoch: 3, joins: 1, sockets: vec![(0, 1)], more: false },
            ToWorker::Sockets(vec![(0, 2), (1, 2)]),
            ToWorker::Begin,
            ToWorker::StopSpouts,
            ToWorker::Exit,
            ToWorker::Abort,
            ToWorker::ResultCredit(9),
        ];
        for message in &to_worker {
            let frame = encode_message(message).expect("it fits");
            for chunk in [1, 2, 3, 7, frame.len()] {
                let mut reader = FrameReader::default();
                let mut seen = Vec::new();
                for part in frame.chunks(chunk) {
                    reader.push(part);
                    seen.extend(reader.next::<ToWorker>().expect("it is well-formed"));
                }
                assert_eq!(seen, [Frame::Message(message.clone())]);
            }
        }
        let mut reader = FrameReader::default();
        from_worker().iter().for_each(|m| reader.push(&encode_message(m).expect("it fits")));
        for message in from_worker() {
            let next = reader.next::<FromWorker>().expect("it is well-formed");
            assert_eq!(next, Some(Frame::Message(message)));
        }
        assert!(matches!(reader.next::<FromWorker>(), Ok(None)));
    }

    #[test]
    fn a_result_row_comes_back_with_any_key_and_bytes() {
        for (key, bytes) in [("", &b""[..]), ("count", &[0, 255, 10, 13]), ("ключ", &[7; 70_000])] {
            let mut reader = FrameReader::default();
            reader.push(&encode_result(key, 9, bytes).expect("it fits"));
            let row = ResultRow { key: key.into(), task: 9, bytes: Bytes::copy_from_slice(bytes) };
            assert_eq!(row.frame_bytes(), encode_result(key, 9, bytes).expect("it fits").len() as u64);
            assert_eq!(reader.next::<FromWorker>().expect("it is well-formed"), Some(Frame::Result(row)));
        }
    }

    #[test]
    fn what_is_too_long_is_refused_by_the_sender() {
        let huge = vec![0; FRAME_BYTES_MAX];
        assert!(matches!(encode_result("k", 0, &huge), Err(FrameError::TooLong { .. })));
        let key = "k".repeat(65_536);
        assert!(matches!(encode_result(&key, 0, b""), Err(FrameError::KeyTooLong(65_536))));
    }

    fn read(bytes: &[u8]) -> Result<Option<Frame<FromWorker>>, FrameError> {
        let mut reader = FrameReader::default();
        reader.push(bytes);
        reader.next()
    }

    #[test]
    fn malformed_frames_are_named_and_a_length_allocates_nothing() {
        assert!(matches!(read(&[255, 255, 255, 255]), Err(FrameError::TooLong { len: 0xffff_ffff })));
        assert!(matches!(read(&[0, 0, 0, 0]), Err(FrameError::Empty)));
        assert!(matches!(read(&[1, 0, 0, 0, 9]), Err(FrameError::Kind(9))));
        assert!(matches!(read(&[3, 0, 0, 0, 0, b'{', b'}']), Err(FrameError::Message(_))));
        assert!(matches!(read(&[2, 0, 0, 0, 1, 0]), Err(FrameError::Row(1))));
        assert!(matches!(read(&[7, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]), Err(FrameError::Row(6))));
        assert!(matches!(read(&[8, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0xff]), Err(FrameError::Key)));
        // A long frame that has only begun holds no more memory than has come.
        let mut reader = FrameReader::default();
        reader.push(&(FRAME_BYTES_MAX as u32).to_le_bytes());
        assert!(matches!(reader.next::<FromWorker>(), Ok(None)));
        assert!(reader.buffer.capacity() < 4096, "{}", reader.buffer.capacity());
    }

    #[test]
    fn truncated_frames_wait_and_never_panic() {
        let frames = from_worker().iter().map(|m| encode_message(m).expect("it fits")).collect::<Vec<_>>();
        for frame in &frames {
            for len in 0..frame.len() {
                assert!(matches!(read(&frame[..len]), Ok(None)));
            }
        }
    }
}
