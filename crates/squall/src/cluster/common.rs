//! What the parts of a cluster hand each other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use squall_blobs::{BlobStore, Hash};
use squall_control::record::TopologyRecord;
use squall_control::{Report, WorkerState};
use squall_engine::ComponentStats;
use squall_metrics::Histogram;

use super::link::Link;

/// Where daemons say what they do.
pub(crate) type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// What an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A program made with Squall, which is its own worker.
    Program,
    /// A topology in YAML, run by the `squall` of the node.
    Yaml,
}

/// What a submitter hands its workers, in [`TopologyRecord::arguments`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arguments {
    pub kind: Kind,
    /// As after `run`, without the file.
    pub args: Vec<String>,
    /// Where it was submitted: workers run there if their node has such a folder.
    pub folder: String,
    /// Variables of the submitter's environment that the topology names.
    pub environment: BTreeMap<String, String>,
    /// Reactor threads of each worker, if the topology says so.
    pub reactors: Option<u32>,
}

impl Arguments {
    /// Those of a topology.
    ///
    /// # Errors
    /// Another version wrote them.
    pub(crate) fn of(record: &TopologyRecord) -> Result<Arguments, String> {
        serde_json::from_value(record.arguments.clone())
            .map_err(|error| format!("what {} was submitted with cannot be read: {error}; submit it again", record.id))
    }
}

/// Where a supervisor speaks to nimbus.
pub(crate) trait NimbusLink: Send {
    /// How its workers are.
    fn report(&self, report: Report);
    /// What they have counted.
    fn stats(&self, stats: NodeStats);
}

/// What a node has counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct NodeStats {
    pub node: String,
    /// By id.
    pub topologies: BTreeMap<String, TopologyStats>,
}

/// What a topology has counted, on one node or on all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct TopologyStats {
    pub components: Vec<ComponentStats>,
    /// Latencies at its sinks, of the present lives of its workers.
    pub latency: Histogram,
    /// Roots that are neither acknowledged nor failed.
    pub pending: u64,
    pub workers: Vec<WorkerRow>,
}

/// A worker as `describe` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WorkerRow {
    pub node: String,
    pub slot: u16,
    /// Which worker of the plan; not known while it has no process.
    pub worker: Option<u32>,
    pub pid: Option<u32>,
    pub generation: u32,
    pub restart: u32,
    pub state: WorkerState,
    /// How often it was started again here.
    pub restarts: u32,
    pub uptime_ms: u64,
    /// What went wrong last, unless it runs since.
    pub trouble: Option<String>,
}

impl TopologyStats {
    /// Adds what another node has counted.
    pub(crate) fn add(&mut self, other: &TopologyStats) {
        if self.components.is_empty() {
            self.components = other.components.clone();
        } else {
            for (sum, more) in self.components.iter_mut().zip(&other.components) {
                sum.emitted += more.emitted;
                sum.executed += more.executed;
                sum.acked += more.acked;
                sum.failed += more.failed;
                sum.roots += more.roots;
                sum.lost += more.lost;
                sum.restarts += more.restarts;
            }
        }
        self.latency.merge(&other.latency);
        self.pending += other.pending;
        self.workers.extend(other.workers.iter().cloned());
    }
}

/// Where a node has its blobs from, and where it keeps those that it runs.
pub(crate) struct BlobSource {
    store: Arc<BlobStore>,
    /// Folder of artifacts by hash, executable.
    artifacts: PathBuf,
    /// Who has what the store has not.
    nimbus: Option<Link>,
}

impl BlobSource {
    /// All there are lie in this store.
    pub(crate) fn local(store: Arc<BlobStore>, artifacts: PathBuf) -> BlobSource {
        BlobSource { store, artifacts, nimbus: None }
    }

    /// A nimbus in another process has them.
    pub(crate) fn remote(store: Arc<BlobStore>, artifacts: PathBuf, nimbus: Link) -> BlobSource {
        BlobSource { store, artifacts, nimbus: Some(nimbus) }
    }

    /// Where an artifact is once it was fetched.
    pub(crate) fn path(&self, hash: &str) -> PathBuf {
        self.artifacts.join(hash)
    }

    /// Has an artifact in its place.
    pub(crate) fn fetch(&self, hash: &str) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let (store, path, hash) = (self.store.clone(), self.path(hash), hash.to_owned());
        let nimbus = self.nimbus.clone();
        async move {
            let placed = tokio::task::spawn_blocking(move || {
                if let Some(nimbus) = nimbus {
                    let (api, token) = nimbus.api().ok_or("no nimbus that leads was found yet")?;
                    super::client::download(&api, &token, &store, &hash)?;
                }
                place(&store, &hash, &path)
            });
            placed.await.unwrap_or_else(|error| Err(error.to_string()))
        }
    }
}

/// Links a blob as an executable file: one name more for the same bytes, so that nobody ever holds it open for writing.
fn place(store: &BlobStore, hash: &str, path: &std::path::Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    if path.exists() {
        return Ok(());
    }
    let hash: Hash = hash.parse().map_err(|error: squall_blobs::BlobError| error.to_string())?;
    let blob = store.path(hash).map_err(|error| error.to_string())?;
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(path.parent().expect("artifacts lie in a folder")).map_err(failed)?;
    std::fs::set_permissions(&blob, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    std::fs::hard_link(&blob, path).map_err(failed)
}
