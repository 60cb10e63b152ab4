//! A topology that runs in this process, on the ordinary engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use squall::Topology;
use squall_engine::{IoChoice, IoOptions, LogFilter, WaitStrategy, Worker, WorkerConfig, WorkerEvent};
use squall_topology::Machine;

use super::Finished;

/// How long a topology may take to end once its spouts have.
const END_MAX: Duration = Duration::from_secs(10);

/// One worker with everything in it.
pub(crate) struct Running {
    worker: Worker,
    failed: Option<String>,
    notes: Vec<String>,
    finished: bool,
}

impl Running {
    /// Starts a topology with a reactor on each of these cores; without cores, one that is not pinned.
    ///
    /// # Errors
    /// What is wrong with the topology, or what the engine cannot.
    pub(crate) fn start(t: Topology, cores: &[usize], wait: WaitStrategy) -> Result<Running, String> {
        t.configure(|c| c.reactors = Some(cores.len().max(1) as u32));
        let built = t.build().map_err(|e| e.to_string())?;
        let plan = built.plan(&Machine { cores: cores.to_vec() }).map_err(|e| e.to_string())?;
        let config = WorkerConfig {
            plan: Arc::new(plan),
            worker: 0,
            io: IoChoice::Auto,
            io_options: IoOptions::default(),
            wait: wait.into(),
            pin: !cores.is_empty(),
            log: LogFilter::all(),
        };
        let worker = Worker::start(config, built.registry.clone(), Vec::new()).map_err(|e| e.to_string())?;
        worker.begin();
        Ok(Running { worker, failed: None, notes: Vec::new(), finished: false })
    }

    fn hear(&mut self, wait: Duration) -> bool {
        match self.worker.next_event(wait) {
            Some(WorkerEvent::Failed(cause)) => self.failed = Some(format!("the topology failed: {cause}")),
            Some(WorkerEvent::Warning(text)) => self.notes.push(text),
            Some(WorkerEvent::Log { component, text, .. }) => self.notes.push(format!("{component}: {text}")),
            Some(WorkerEvent::Finished) => self.finished = true,
            Some(WorkerEvent::Result { .. } | WorkerEvent::LinkLost { .. }) => {}
            None => return false,
        }
        true
    }

    /// What has failed, if anything has.
    pub(crate) fn look(&mut self) -> Option<String> {
        while self.hear(Duration::ZERO) {}
        self.failed.clone()
    }

    /// Ends it: its spouts stop, what is under way is waited for, at most 10 s.
    pub(crate) fn end(mut self) -> Finished {
        self.worker.stop_spouts();
        let deadline = Instant::now() + END_MAX;
        while !self.finished && self.failed.is_none() && Instant::now() < deadline {
            self.hear(Duration::from_millis(50));
        }
        if !self.finished && self.failed.is_none() {
            let error = Some("the topology did not end within 10 s of its spout: a bolt hangs".to_owned());
            // Its threads are not waited for: one of them would never come. They end with this process.
            std::mem::forget(self.worker);
            let unknown = || "unknown".to_owned();
            return Finished { error, notes: self.notes, io: unknown(), wait: unknown(), ..Finished::default() };
        }
        let stats = self.worker.join();
        Finished { error: self.failed, notes: self.notes, io: stats.io, wait: stats.wait, ..Finished::default() }
    }
}
