//! What a disturbed run writes down, and what that proves.
//!
//! A folder holds the [`Record`] of one run: `run.jsonl`, which the runner writes (`--record`), and three files of shared words, which the topology's
//! own spout and sink write with one atomic store or addition each, so that they are whole however a process ends:
//!
//! - `roots`: a word per input: how often it was emitted, acked and failed, as its spout knows;
//! - `sink`: a word per input: for each of its eight words how often the sink executed it;
//! - `notes`: single numbers, see [`Note`].
//!
//! [`check()`] proves from these: every emission ended at most once, and as acked unless its spout died or it was emitted again; every input reached the
//! sink whole; what the runner counted agrees; and what has to be in order was.
//!
//! Limits: 65,535 emissions of an input, 255 executions of a word.
#![forbid(unsafe_code)]

mod check;
mod faults;
mod load;
mod summary;
mod topology;

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

pub use check::{Checked, check};
pub use faults::{Disturbed, Done, Kind, Plan, disturb};
pub use load::{LoadPlan, Loaded, load, spin};
use squall_ring::Words;
pub use summary::{Percentiles, summary};
pub use topology::run_main;

/// Set for a program that is to be the run that is disturbed ([`run_main`]): [`disturb`] starts its own program again.
pub const AS_CHAOS: &str = "SQUALL_AS_CHAOS";

/// Words of each input.
pub const WORDS_PER_INPUT: u64 = 8;

/// Numbers in the file `notes`, by their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Note {
    /// Inputs below this one have been emitted at least once.
    Emitted,
    /// All inputs below this one have been acked: where a spout begins again.
    AckedBelow,
    /// When the first input was due, on `CLOCK_MONOTONIC`.
    BeganNs,
    /// Not zero: no new inputs, please.
    Stop,
    /// When the last fault was done.
    FaultNs,
    /// When the first root that was emitted again after it was acked; 0: not yet.
    ReplayAckedNs,
    /// The worker on which the splitting bolt is to panic, plus one; 0: nowhere.
    Panic,
    /// Tuples that came out of order.
    Disorder,
    /// Acks and fails for what was not pending.
    Strange,
    /// When the first root that was emitted after the fault was acked; 0: not yet.
    FreshAckedNs,
    /// When the splitting bolt panicked, and when its next instance had executed a tuple; 0: not yet.
    BrokeNs,
    /// See `BrokeNs`.
    BackNs,
}

const NOTES: usize = 16;

/// See the module.
#[derive(Clone)]
pub struct Record {
    /// The folder.
    pub dir: PathBuf,
    /// Inputs that there is room for.
    pub inputs: u64,
    roots: Words,
    sink: Words,
    notes: Words,
}

fn words(dir: &Path, name: &str, count: usize) -> io::Result<Words> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(name))?;
    Words::file(&file, count)
}

/// What became of an input at its spout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Root {
    /// Emissions.
    pub emitted: u64,
    /// Of those: acked.
    pub acked: u64,
    /// Of those: failed.
    pub failed: u64,
}

impl Record {
    /// The record of a run of at most so many inputs, made where it is not there yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(dir: &Path, inputs: u64) -> io::Result<Record> {
        Ok(Record {
            dir: dir.to_owned(),
            inputs,
            roots: words(dir, "roots", inputs as usize)?,
            sink: words(dir, "sink", inputs as usize)?,
            notes: words(dir, "notes", NOTES)?,
        })
    }

    /// The record that lies in a folder.
    ///
    /// # Errors
    /// The kernel's.
    pub fn existing(dir: &Path) -> io::Result<Record> {
        let bytes = std::fs::metadata(dir.join("roots"))?.len();
        Record::open(dir, bytes / 8)
    }

    /// The runner's part.
    pub fn run_log(&self) -> PathBuf {
        self.dir.join("run.jsonl")
    }

    /// A number.
    pub fn note(&self, note: Note) -> u64 {
        self.notes.load(note as usize)
    }

    /// Sets a number.
    pub fn set(&self, note: Note, value: u64) {
        self.notes.store(note as usize, value);
    }

    /// Sets a number that others may set too; what it was.
    pub fn swap(&self, note: Note, value: u64) -> u64 {
        self.notes.swap(note as usize, value)
    }

    /// Adds one to a number.
    pub fn count(&self, note: Note) {
        self.notes.add(note as usize, 1);
    }

    /// What became of an input at its spout.
    pub fn root(&self, input: u64) -> Root {
        let word = self.roots.load(input as usize);
        Root { emitted: word & 0xFFFF, acked: word >> 16 & 0xFFFF, failed: word >> 32 & 0xFFFF }
    }

    /// It is about to be emitted.
    pub fn emitted(&self, input: u64) {
        self.roots.add(input as usize, 1);
    }

    /// It was acked.
    pub fn acked(&self, input: u64) {
        self.roots.add(input as usize, 1 << 16);
    }

    /// It failed.
    pub fn failed(&self, input: u64) {
        self.roots.add(input as usize, 1 << 32);
    }

    /// The sink has executed a word of an input.
    pub fn executed(&self, input: u64, word: u64) {
        self.sink.add(input as usize, 1 << (8 * word));
    }

    /// Roots that are not known as acked, in order: what a spout that died now would emit again.
    pub fn in_flight(&self) -> u64 {
        let acked_below = self.note(Note::AckedBelow);
        self.note(Note::Emitted).saturating_sub(acked_below)
    }

    /// Executions of an input beyond the first.
    pub fn duplicates(&self, input: u64) -> u64 {
        u64::from(self.executions(input).iter().max().copied().unwrap_or(0)).saturating_sub(1)
    }

    /// How often each word of an input was executed by the sink.
    pub fn executions(&self, input: u64) -> [u8; WORDS_PER_INPUT as usize] {
        self.sink.load(input as usize).to_le_bytes()
    }
}
