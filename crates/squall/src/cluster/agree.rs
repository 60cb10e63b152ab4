//! Which coordinator the daemons of a cluster agree by, as their configuration says, and who leads as it says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use squall_control::config::Config;
use squall_control::record::{LEADER, LeaderInfo, from_json};
use squall_coordinator::{Blocking, Coordinator, SessionOptions};

use super::Log;

/// How long a call at the start, or a look for who leads, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the configuration names ZooKeeper as the coordinator.
pub(super) fn is_zookeeper(config: &Config) -> bool {
    config.text("coordinator.kind") == Some("zookeeper")
}

/// ZooKeeper, if the configuration names it as the coordinator. It is connected to once, so that a slip is told before anything is begun.
///
/// # Errors
/// It cannot be reached or refuses us: cause and remedy.
pub(super) fn zookeeper(config: &Config, log: &Log) -> Result<Option<Arc<dyn Coordinator>>, String> {
    if !is_zookeeper(config) {
        return Ok(None);
    }
    let coordinator = ensemble(config)?;
    let options = SessionOptions { timeout: config.duration("coordinator.session-timeout") };
    let session = Blocking::connect(coordinator.as_ref(), &options, PATIENCE).map_err(|error| error.to_string())?;
    if session.timeout() > options.timeout {
        log(&format!(
            "ZooKeeper grants sessions of {:?} at least, where {:?} are configured: lost nodes and nimbuses are noticed that much \
             later; lower minSessionTimeout, or tickTime, in its configuration",
            session.timeout(),
            options.timeout
        ));
    }
    Ok(Some(coordinator))
}

/// ZooKeeper as it is configured; it is not connected to yet.
///
/// # Errors
/// A key makes no sense, or this program has no ZooKeeper.
#[cfg(feature = "zookeeper")]
pub(super) fn ensemble(config: &Config) -> Result<Arc<dyn Coordinator>, String> {
    use squall_coordinator::zookeeper::{ZooKeeper, ZooKeeperOptions};
    let servers = config.list("zookeeper.servers").join(",");
    if servers.is_empty() {
        return Err("zookeeper.servers names none: write HOST:PORT, several with commas between".into());
    }
    let digest = match config.text("zookeeper.digest").map(|text| text.split_once(':')) {
        None => None,
        Some(Some((user, password))) if !user.is_empty() => Some((user.to_owned(), password.to_owned())),
        Some(_) => return Err("zookeeper.digest is no USER:PASSWORD".into()),
    };
    #[allow(unused_mut)]
    let mut options = ZooKeeperOptions {
        chroot: config.text("zookeeper.chroot").unwrap_or("/").to_owned(),
        create_chroot: config.flag("zookeeper.create-chroot"),
        digest,
        ..ZooKeeperOptions::new(servers)
    };
    if let Some(path) = config.text("zookeeper.tls-ca") {
        #[cfg(feature = "zookeeper-tls")]
        {
            let authorities = std::fs::read_to_string(path);
            let authorities = authorities.map_err(|error| format!("zookeeper.tls-ca: {path}: {error}"))?;
            options.tls = Some(squall_coordinator::zookeeper::Tls { authorities, identity: None });
        }
        #[cfg(not(feature = "zookeeper-tls"))]
        return Err(format!(
            "zookeeper.tls-ca is {path}, but this `squall` has no TLS to ZooKeeper: build it with --features zookeeper-tls"
        ));
    }
    match ZooKeeper::new(options) {
        Ok(ensemble) => Ok(Arc::new(ensemble)),
        Err(error) => Err(format!("zookeeper.chroot: {error}")),
    }
}

#[cfg(not(feature = "zookeeper"))]
pub(super) fn ensemble(_: &Config) -> Result<Arc<dyn Coordinator>, String> {
    Err("coordinator.kind is zookeeper, but this `squall` has none: build it with --features zookeeper".into())
}

/// Where the nimbus that leads takes links, as the coordinator says.
pub(super) struct Leader {
    coordinator: Arc<dyn Coordinator>,
    options: SessionOptions,
    /// Kept between two looks, which come in quick succession while nobody leads.
    session: Mutex<Option<Blocking>>,
}

impl Leader {
    pub(super) fn new(coordinator: Arc<dyn Coordinator>, options: SessionOptions) -> Leader {
        Leader { coordinator, options, session: Mutex::new(None) }
    }

    /// Looks.
    ///
    /// # Errors
    /// Nobody leads, or the coordinator does not say.
    pub(super) fn find(&self) -> Result<Vec<String>, String> {
        let mut kept = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let mut session = match kept.take() {
            Some(session) => session,
            None => Blocking::connect(self.coordinator.as_ref(), &self.options, PATIENCE).map_err(|e| e.to_string())?,
        };
        // A session that fails is dropped, and another one asked for with the next look.
        let node = session.get(LEADER).map_err(|error| error.to_string())?;
        *kept = Some(session);
        let leader: LeaderInfo = match node {
            Some(node) => from_json(&node.data).map_err(|error| format!("{LEADER} cannot be read: {error}"))?,
            None => return Err("no nimbus leads".into()),
        };
        let sessions = leader.sessions.ok_or_else(|| format!("nimbus {} takes no links", leader.id))?;
        Ok(vec![sessions])
    }
}
