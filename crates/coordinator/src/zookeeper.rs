//! The coordinator as a ZooKeeper ensemble (3.6 and later, for its recursive watches), by the `zookeeper-client` crate.
//!
//! Each session has a thread with an async runtime of its own; the client adds one thread to the process. Calls are carried
//! out one after the other. A watch is ZooKeeper's persistent recursive one. Such watches miss what changes while a connection is away
//! (ZOOKEEPER-4698), and the client does not set them again when the server was restarted; so after every reconnection they are set
//! again here, and then [`Event::Resync`] is told.
//!
//! With a digest every node is made for its user only. Without one anybody who reaches the ensemble can read and write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use zookeeper_client as zk;
use zookeeper_client::{
    Acls, AddWatchMode, Client, CreateMode, EventType, MultiReadResult, MultiWriteError, MultiWriteResult,
    SessionState, StateWatcher,
};

use crate::path::{check_ops, check_path, parent};
use crate::{
    Call, Coordinator, Error, Event, MAX_CALLS, Node, Op, Reply, Session, SessionOptions, Sink, Stat, Version,
};

/// Nodes read in one request when children are asked for.
const READ_AT_ONCE: usize = 64;
/// How long the end of a session waits for the server to hear of it.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// Between attempts to connect at the start.
const RETRY: Duration = Duration::from_millis(100);

/// Where the ensemble is, and who we are there.
#[derive(Clone, Debug)]
pub struct ZooKeeperOptions {
    /// `host:port`, several with commas between.
    pub servers: String,
    /// The node below which everything of this cluster lies. Default `/squall`.
    pub chroot: String,
    /// Makes the chroot where it is missing. Default true; false protects from a slip in the address or the path.
    pub create_chroot: bool,
    /// User and password of ZooKeeper's digest scheme.
    pub digest: Option<(String, String)>,
    /// TLS to the servers.
    #[cfg(feature = "zookeeper-tls")]
    pub tls: Option<Tls>,
    /// How long to try for a first connection. Default 10 s.
    pub connect_within: Duration,
    /// Leaves sessions behind when they are dropped, as a process does that is killed. For tests.
    pub leave_behind: bool,
}

/// Certificates for TLS, as PEM text.
#[cfg(feature = "zookeeper-tls")]
#[derive(Clone)]
pub struct Tls {
    /// Authorities that may have signed the servers' certificates.
    pub authorities: String,
    /// Our own certificate and its key, where the servers ask for one.
    pub identity: Option<(String, String)>,
}

#[cfg(feature = "zookeeper-tls")]
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

impl ZooKeeperOptions {
    /// With these servers, the rest at its defaults.
    pub fn new(servers: impl Into<String>) -> Self {
        ZooKeeperOptions {
            servers: servers.into(),
            chroot: "/squall".into(),
            create_chroot: true,
            digest: None,
            #[cfg(feature = "zookeeper-tls")]
            tls: None,
            connect_within: Duration::from_secs(10),
            leave_behind: false,
        }
    }
}

/// A ZooKeeper ensemble.
#[derive(Clone, Debug)]
pub struct ZooKeeper {
    options: ZooKeeperOptions,
}

impl ZooKeeper {
    /// Does not connect yet.
    ///
    /// # Errors
    /// A chroot that is no path.
    pub fn new(options: ZooKeeperOptions) -> Result<ZooKeeper, Error> {
        check_path(&options.chroot)?;
        Ok(ZooKeeper { options })
    }
}

impl Coordinator for ZooKeeper {
    fn connect(&self, options: &SessionOptions, sink: Sink) -> Result<Box<dyn Session>, Error> {
        let (calls, queue) = unbounded_channel();
        let (started, start) = std::sync::mpsc::channel();
        let shared = Arc::new(Shared { sink, waiting: AtomicUsize::new(0), ended: AtomicBool::new(false) });
        let thread = {
            let (of, timeout, shared) = (self.options.clone(), options.timeout, Arc::clone(&shared));
            let run = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(started.send(Err(Error::Refused(format!("cannot start: {error}"))))),
                };
                runtime.block_on(async move {
                    match open(&of, timeout).await {
                        Ok(client) => {
                            // Nobody to hear it: then the queue is closed too, and the session ends at once.
                            let _ = started.send(Ok(client.session_timeout()));
                            serve(client, &of, shared, queue).await;
                        }
                        Err(error) => drop(started.send(Err(error))),
                    }
                });
            };
            let builder = std::thread::Builder::new().name("squall-zookeeper".into());
            builder.spawn(run).map_err(|error| Error::Refused(format!("cannot start a thread: {error}")))?
        };
        let timeout = start.recv().unwrap_or_else(|_| Err(Error::Refused("the ZooKeeper client panicked".into())))?;
        Ok(Box::new(ZooKeeperSession { calls: Some(calls), shared, timeout, thread: Some(thread) }))
    }
}

/// What the session's handle and its thread share.
struct Shared {
    sink: Sink,
    /// Calls not answered yet.
    waiting: AtomicUsize,
    ended: AtomicBool,
}

impl Shared {
    fn answer(&self, ticket: u64, result: Result<Reply, Error>) {
        // Relaxed: a count of its own that orders nothing else.
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.tell(Event::Done { ticket, result });
    }

    /// Tells it unless the session has ended.
    fn tell(&self, event: Event) {
        // Relaxed: only the session's thread tells anything, so it reads what it wrote itself.
        if event == Event::Ended {
            if !self.ended.swap(true, Ordering::Relaxed) {
                (self.sink)(event);
            }
        } else if !self.ended.load(Ordering::Relaxed) {
            (self.sink)(event);
        }
    }
}

struct ZooKeeperSession {
    /// `None` once the session is being dropped.
    calls: Option<UnboundedSender<(u64, Call)>>,
    shared: Arc<Shared>,
    timeout: Duration,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Session for ZooKeeperSession {
    fn call(&self, ticket: u64, call: Call) {
        // Relaxed: as in `answer`. The queue's own synchronisation orders the calls.
        let waiting = self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        // Refusals go through the queue too, so that only the session's thread tells events.
        let call = if waiting >= MAX_CALLS { Call::Commit(Vec::new()) } else { call };
        let calls = self.calls.as_ref().expect("a session that is dropped gets no calls");
        // The thread is gone when the session has ended: then there is no answer.
        let _ = calls.send((ticket, call));
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl Drop for ZooKeeperSession {
    fn drop(&mut self) {
        self.calls = None;
        // A sink that drops its own session would wait for itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // It ends within `CLOSE_WAIT`. If it panicked that was printed, and there is nothing left to end.
            let _ = thread.join();
        }
    }
}

/// Connects, and looks at the chroot.
async fn open(options: &ZooKeeperOptions, timeout: Duration) -> Result<Client, Error> {
    let until = Instant::now() + options.connect_within;
    let client = loop {
        let mut connector = Client::connector().with_session_timeout(timeout).with_fail_eagerly();
        if let Some((user, password)) = &options.digest {
            connector = connector.with_auth("digest", format!("{user}:{password}").as_bytes());
        }
        if options.leave_behind {
            connector = connector.with_detached();
        }
        #[cfg(feature = "zookeeper-tls")]
        if let Some(tls) = &options.tls {
            connector = connector.with_tls(tls_options(tls)?);
        }
        #[cfg(feature = "zookeeper-tls")]
        let attempt = match options.tls {
            Some(_) => connector.secure_connect(&options.servers).await,
            None => connector.connect(&options.servers).await,
        };
        #[cfg(not(feature = "zookeeper-tls"))]
        let attempt = connector.connect(&options.servers).await;
        match attempt {
            Ok(client) => break client,
            Err(error @ (zk::Error::BadArguments(_) | zk::Error::AuthFailed)) => {
                return Err(Error::Refused(format!("ZooKeeper at {}: {error}", options.servers)));
            }
            Err(error) if Instant::now() >= until => {
                return Err(Error::Refused(format!(
                    "no ZooKeeper at {} within {:?}: {error}. Is the address right, is it running, does a firewall stand between?",
                    options.servers, options.connect_within
                )));
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    };
    let shown = format!("{}{}", options.servers, options.chroot);
    let refused = |error: zk::Error| {
        Error::Refused(match error {
            zk::Error::NoAuth => {
                format!("ZooKeeper at {shown}: not permitted; set the digest of the user that made it")
            }
            error => format!("ZooKeeper at {shown}: {error}"),
        })
    };
    if options.chroot == "/" {
        return Ok(client);
    }
    if client.check_stat(&options.chroot).await.map_err(refused)?.is_none() {
        if !options.create_chroot {
            return Err(Error::Refused(format!(
                "there is no node {} in ZooKeeper at {}: is the chroot right? Create it, or allow its creation",
                options.chroot, options.servers
            )));
        }
        // Only the last node is for us alone: those above it may be shared.
        let above = CreateMode::Persistent.with_acls(Acls::anyone_all());
        let above_path = parent(&options.chroot);
        if above_path != "/" {
            client.mkdir(above_path, &above).await.map_err(refused)?;
        }
        let made = client.create(&options.chroot, b"", &CreateMode::Persistent.with_acls(acls(options))).await;
        match made {
            // Another one of us was faster.
            Ok(_) | Err(zk::Error::NodeExists) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    client.get_data(&options.chroot).await.map_err(refused)?;
    Ok(client.chroot(options.chroot.as_str()).expect("the path was checked"))
}

#[cfg(feature = "zookeeper-tls")]
fn tls_options(tls: &Tls) -> Result<zk::TlsOptions, Error> {
    let bad = |error: zk::Error| Error::Refused(format!("certificates for ZooKeeper: {error}"));
    let options = zk::TlsOptions::new().with_pem_ca(&tls.authorities).map_err(bad)?;
    match &tls.identity {
        Some((certificate, key)) => options.with_pem_identity(certificate, key).map_err(bad),
        None => Ok(options),
    }
}

fn acls(options: &ZooKeeperOptions) -> Acls<'static> {
    if options.digest.is_some() { Acls::creator_all() } else { Acls::anyone_all() }
}

/// Carries calls out until the session is dropped or has ended.
async fn serve(
    client: Client,
    options: &ZooKeeperOptions,
    shared: Arc<Shared>,
    mut queue: UnboundedReceiver<(u64, Call)>,
) {
    let mut states = client.state_watcher();
    let watches = Arc::new(Watches { shared: Arc::clone(&shared), set: Mutex::default() });
    let watching = tokio::spawn(watch_state(client.state_watcher(), client.clone(), Arc::clone(&watches)));
    loop {
        let next = tokio::select! {
            next = queue.recv() => next,
            _ = ended(&mut states) => break,
        };
        let Some((ticket, call)) = next else { break };
        let result = tokio::select! {
            result = carry_out(&client, options, &watches, call) => result,
            _ = ended(&mut states) => break,
        };
        shared.answer(ticket, result);
    }
    if client.state().is_terminated() {
        // Told by the other task, which sees it at the same time.
        let _ = watching.await;
        return;
    }
    // Dropped: the server is told, and for a moment we see to it that it hears. Nobody listens any more.
    shared.tell(Event::Ended);
    watching.abort();
    // Its copy of the client is dropped before ours.
    let _ = watching.await;
    drop(client);
    if !options.leave_behind {
        let _ = tokio::time::timeout(CLOSE_WAIT, ended(&mut states)).await;
    }
}

async fn ended(states: &mut StateWatcher) {
    while !states.peek_state().is_terminated() {
        states.changed().await;
    }
}

/// The watches of a session, by path, each with the task that tells of it.
struct Watches {
    shared: Arc<Shared>,
    /// `None`: could not be set again yet.
    set: Mutex<BTreeMap<String, Option<JoinHandle<()>>>>,
}

impl Watches {
    /// Sets a watch, in place of one that may be there.
    async fn set(&self, client: &Client, path: &str) -> Result<(), zk::Error> {
        let mut set = self.set.lock().await;
        if let Some(old) = set.insert(path.to_owned(), None).flatten() {
            old.abort();
            // Dropping a watcher takes the watch away at the server: that request has to come before the next.
            let _ = old.await;
        }
        let mut watcher = client.watch(path, AddWatchMode::PersistentRecursive).await?;
        let shared = Arc::clone(&self.shared);
        let tell = tokio::spawn(async move {
            loop {
                let event = watcher.changed().await;
                match event.event_type {
                    EventType::Session if event.session_state.is_terminated() => return,
                    EventType::Session => {}
                    _ => shared.tell(Event::Changed { path: event.path }),
                }
            }
        });
        set.insert(path.to_owned(), Some(tell));
        Ok(())
    }

    /// Sets all of them again. What fails with a connection that is lost again is done after the next.
    async fn set_again(&self, client: &Client) {
        let paths: Vec<String> = self.set.lock().await.keys().cloned().collect();
        for path in paths {
            if self.set(client, &path).await.is_err() {
                return;
            }
        }
    }
}

/// Tells of the connection.
async fn watch_state(mut states: StateWatcher, client: Client, watches: Arc<Watches>) {
    let shared = &watches.shared;
    loop {
        let state = match states.peek_state() {
            ended if ended.is_terminated() => ended,
            _ => states.changed().await,
        };
        match state {
            SessionState::Disconnected => shared.tell(Event::Disconnected),
            SessionState::SyncConnected => {
                watches.set_again(&client).await;
                shared.tell(Event::Connected);
                shared.tell(Event::Resync);
            }
            // Nobody asked for a connection that only reads.
            SessionState::ConnectedReadOnly => {}
            SessionState::AuthFailed | SessionState::Expired | SessionState::Closed => {
                shared.tell(Event::Ended);
                return;
            }
        }
    }
}

async fn carry_out(client: &Client, options: &ZooKeeperOptions, watches: &Watches, call: Call) -> Result<Reply, Error> {
    match call {
        // Relaxed: as in `answer`.
        Call::Commit(ops) if ops.is_empty() && watches.shared.waiting.load(Ordering::Relaxed) > MAX_CALLS => {
            Err(Error::Busy)
        }
        Call::Commit(ops) => commit(client, options, &ops).await.map(Reply::Committed),
        Call::Get(path) => {
            check_path(&path)?;
            match client.get_data(&path).await {
                Ok((data, stat)) => Ok(Reply::Node(Some(node(client, data, &stat)))),
                Err(zk::Error::NoNode) => Ok(Reply::Node(None)),
                Err(error) => Err(failed(error, &path)),
            }
        }
        Call::Children(path) => {
            check_path(&path)?;
            children(client, &path).await.map(Reply::Children)
        }
        Call::Watch(path) => {
            check_path(&path)?;
            watches.set(client, &path).await.map_err(|error| failed(error, &path))?;
            Ok(Reply::Watching)
        }
    }
}

async fn commit(client: &Client, options: &ZooKeeperOptions, ops: &[Op]) -> Result<Vec<Version>, Error> {
    check_ops(ops)?;
    let mut writer = client.new_multi_writer();
    for op in ops {
        let added = match op {
            Op::Create { path, data, ephemeral } => {
                let mode = if *ephemeral { CreateMode::Ephemeral } else { CreateMode::Persistent };
                writer.add_create(path, data, &mode.with_acls(acls(options)))
            }
            Op::Set { path, data, version } => writer.add_set_data(path, data, version.map(signed)),
            Op::Delete { path, version } => writer.add_delete(path, version.map(signed)),
            Op::Check { path, version } => writer.add_check_version(path, signed(*version)),
        };
        added.map_err(|error| failed(error, op.path()))?;
    }
    match writer.commit().await {
        Ok(results) => Ok(results.iter().zip(ops).map(|(result, op)| version_of(result, op)).collect()),
        Err(MultiWriteError::OperationFailed { index, source }) => {
            let op = ops.get(index).ok_or_else(|| Error::Refused(format!("ZooKeeper: {source}")))?;
            // What a creation misses is the parent.
            let creating = matches!(op, Op::Create { .. }) && source == zk::Error::NoNode;
            Err(failed(source, if creating { parent(op.path()) } else { op.path() }))
        }
        Err(MultiWriteError::RequestFailed { source }) => Err(failed(source, ops[0].path())),
    }
}

fn version_of(result: &MultiWriteResult, op: &Op) -> Version {
    match (result, op) {
        (MultiWriteResult::SetData { stat }, _) => unsigned(stat.version),
        (_, Op::Check { version, .. }) => *version,
        _ => 0,
    }
}

async fn children(client: &Client, path: &str) -> Result<Vec<(String, Node)>, Error> {
    let mut names = match client.list_children(path).await {
        Ok(names) => names,
        Err(zk::Error::NoNode) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error, path)),
    };
    names.sort_unstable();
    let mut found = Vec::with_capacity(names.len());
    for some in names.chunks(READ_AT_ONCE) {
        let mut reader = client.new_multi_reader();
        for name in some {
            let child = if path == "/" { format!("/{name}") } else { format!("{path}/{name}") };
            reader.add_get_data(&child).map_err(|error| failed(error, &child))?;
        }
        let results = reader.commit().await.map_err(|error| failed(error, path))?;
        for (name, result) in some.iter().zip(results) {
            match result {
                MultiReadResult::Data { data, stat } => found.push((name.clone(), node(client, data, &stat))),
                // Gone since the names were read.
                MultiReadResult::Error { err: zk::Error::NoNode } => {}
                MultiReadResult::Error { err } => return Err(failed(err, path)),
                other => return Err(Error::Refused(format!("ZooKeeper answered a read with {other:?}"))),
            }
        }
    }
    Ok(found)
}

fn node(client: &Client, data: Vec<u8>, stat: &zk::Stat) -> Node {
    let stat = Stat {
        version: unsigned(stat.version),
        created: stat.czxid.cast_unsigned(),
        ephemeral: stat.ephemeral_owner != 0,
        own: stat.ephemeral_owner != 0 && stat.ephemeral_owner == client.session_id().0,
    };
    Node { data, stat }
}

/// ZooKeeper's versions wrap around after 2^32 changes; the bits stay the same.
fn signed(version: Version) -> i32 {
    version.cast_signed()
}

fn unsigned(version: i32) -> Version {
    version.cast_unsigned()
}

fn failed(error: zk::Error, path: &str) -> Error {
    let path = path.to_owned();
    match error {
        zk::Error::NoNode => Error::NoNode { path },
        zk::Error::NodeExists => Error::Exists { path },
        zk::Error::BadVersion => Error::BadVersion { path },
        zk::Error::NotEmpty => Error::NotEmpty { path },
        zk::Error::NoChildrenForEphemerals => Error::EphemeralParent { path },
        zk::Error::SessionExpired | zk::Error::ClientClosed => Error::Ended,
        zk::Error::ConnectionLoss | zk::Error::Timeout | zk::Error::SessionMoved => Error::Unknown,
        zk::Error::NoAuth | zk::Error::AuthFailed => Error::Refused(format!(
            "ZooKeeper does not permit this on {path}: it was made by another user; set the digest of that one"
        )),
        zk::Error::BadArguments(what) => Error::Invalid(format!("{path}: {what}")),
        other => Error::Refused(format!("ZooKeeper: {other}")),
    }
}
