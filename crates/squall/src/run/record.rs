//! The record of a run (`--record`): one JSON object per line, as things happen, for programs that check a run (`tools/squall-check`) or disturb it
//! (`tools/chaos`).
//!
//! Times are nanoseconds of `CLOCK_MONOTONIC`. A line is written whole, at once; what cannot be written is left out, and said once: a run does not
//! depend on being recorded.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::json;
use squall_engine::ComponentStats;

use super::system;

/// See the module. The default records nothing.
#[derive(Debug, Default)]
pub(crate) struct Record {
    file: Option<File>,
}

impl Record {
    /// Writes to a new file.
    pub(crate) fn create(path: &Path) -> std::io::Result<Record> {
        Ok(Record { file: Some(File::create(path)?) })
    }

    fn write(&mut self, mut line: serde_json::Value) {
        let Some(file) = &mut self.file else { return };
        line["t_ns"] = system::now_ns().into();
        if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
            super::job::complain(&format!("the record cannot be written any more: {error}; free some space"));
            self.file = None;
        }
    }

    /// A process was started as this worker. `sockets`: inodes of its ends of the links to other workers.
    pub(crate) fn started(&mut self, worker: u32, epoch: u32, pid: u32, sockets: &[u64]) {
        self.write(json!({"event": "started", "worker": worker, "epoch": epoch, "pid": pid, "sockets": sockets}));
    }

    /// A worker is prepared and begins.
    pub(crate) fn up(&mut self, worker: u32, epoch: u32) {
        self.write(json!({"event": "up", "worker": worker, "epoch": epoch}));
    }

    /// A worker is dead. `spout_lost`: roots of its spouts that were pending.
    pub(crate) fn lost(&mut self, worker: u32, epoch: u32, why: &str, spout_lost: u64) {
        self.write(json!({"event": "lost", "worker": worker, "epoch": epoch, "why": why, "spout_lost": spout_lost}));
    }

    /// The link between two workers was made anew.
    pub(crate) fn relinked(&mut self, workers: (u32, u32), sockets: [&[u64]; 2]) {
        self.write(json!({"event": "relinked", "workers": [workers.0, workers.1], "sockets": sockets}));
    }

    /// The end: counts of all workers in all their lives, by component, and what of them does not add up.
    pub(crate) fn over(&mut self, failure: Option<String>, components: &[ComponentStats], uneven: &[String]) {
        self.write(json!({"event": "over", "failure": failure, "components": components, "uneven": uneven}));
    }
}
