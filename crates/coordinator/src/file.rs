//! Nodes in a redb file: one transaction for each commit, on the disk before the commit is answered.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableTable, StorageError, TableDefinition};

use crate::{Durable, Error, NodeRecord, Server, Store};

/// Path to version (4 bytes), number of the creating commit (8 bytes), both little-endian, and the data.
const NODES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("nodes");
/// `format` and `commits`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Format of the two tables.
const FORMAT: u64 = 1;
/// The whole state is small and in memory as well, so the file's cache need not be large.
const CACHE_BYTES: usize = 4 << 20;

pub(crate) struct File {
    database: Database,
    path: PathBuf,
}

impl File {
    /// Opens or creates the file, checks every checksum in it, and reads all of it.
    pub(crate) fn open(path: &Path) -> Result<(File, Server), Error> {
        let shown = path.display();
        let damaged = |what: &dyn std::fmt::Display| {
            Error::Refused(format!(
                "{shown} is damaged or no file of Squall's ({what}). Restore it from a copy; or move it away to begin with \
                 nothing, which forgets all topologies"
            ))
        };
        // redb panics on some kinds of damage. Nothing of it is used afterwards.
        let open = || -> Result<(File, Server), Error> {
            let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create(path).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => Error::Refused(format!(
                    "{shown} is in use by another process: one nimbus at a time works on it; stop that one, use another \
                     folder, or use ZooKeeper"
                )),
                // redb says `InvalidData` of a file that is none of its own.
                DatabaseError::Storage(StorageError::Io(error)) if error.kind() != ErrorKind::InvalidData => {
                    Error::Refused(format!("cannot open {shown}: {error}"))
                }
                other => damaged(&other),
            })?;
            let mut file = File { database, path: path.to_owned() };
            file.database.check_integrity().map_err(|error| damaged(&error))?;
            let server = file.load().map_err(|error| damaged(&error))?;
            Ok((file, server))
        };
        catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| Err(damaged(&"a page makes no sense")))
    }

    fn load(&self) -> Result<Server, String> {
        let begin = self.database.begin_write().map_err(show)?;
        let (mut nodes, commits);
        {
            let mut meta = begin.open_table(META).map_err(show)?;
            let format = meta.get("format").map_err(show)?.map(|value| value.value());
            match format {
                None => drop(meta.insert("format", FORMAT).map_err(show)?),
                Some(FORMAT) => {}
                Some(other) => return Err(format!("its format is {other}, this program knows {FORMAT}")),
            }
            commits = meta.get("commits").map_err(show)?.map_or(0, |value| value.value());
            let table = begin.open_table(NODES).map_err(show)?;
            nodes = BTreeMap::new();
            for entry in table.iter().map_err(show)? {
                let (path, value) = entry.map_err(show)?;
                let node = decode(value.value()).ok_or_else(|| format!("node {} is damaged", path.value()))?;
                nodes.insert(path.value().to_owned(), node);
            }
        }
        begin.commit().map_err(show)?;
        Ok(Server::new(nodes, commits))
    }

    fn write(&self, commit: &Durable<'_>) -> Result<(), String> {
        let write = self.database.begin_write().map_err(show)?;
        {
            let mut table = write.open_table(NODES).map_err(show)?;
            for (path, node) in commit.nodes {
                match node {
                    Some(node) => drop(table.insert(path.as_str(), encode(node).as_slice()).map_err(show)?),
                    None => drop(table.remove(path.as_str()).map_err(show)?),
                }
            }
            write.open_table(META).map_err(show)?.insert("commits", commit.commits).map_err(show)?;
        }
        write.commit().map_err(show)
    }
}

impl Store for File {
    fn store(&mut self, commit: &Durable<'_>) -> Result<(), String> {
        self.write(commit).map_err(|error| {
            format!(
                "{}: {error}; nothing was changed. Is the disk full? After an error of the disk, restart",
                self.path.display()
            )
        })
    }
}

fn show(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn encode(node: &NodeRecord) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + node.data.len());
    bytes.extend(node.version.to_le_bytes());
    bytes.extend(node.created.to_le_bytes());
    bytes.extend(&node.data);
    bytes
}

fn decode(bytes: &[u8]) -> Option<NodeRecord> {
    let (version, rest) = bytes.split_first_chunk::<4>()?;
    let (created, data) = rest.split_first_chunk::<8>()?;
    let (version, created) = (u32::from_le_bytes(*version), u64::from_le_bytes(*created));
    Some(NodeRecord { data: data.to_vec(), version, created, owner: None })
}
