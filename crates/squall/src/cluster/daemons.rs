//! The daemons: `squall dev` (nimbus and a supervisor in one process), `squall nimbus` and `squall supervisor`.
//!
//! All of them are made of the same two parts. Everything that outlives them lies in a state folder: what was submitted, artifacts, which workers
//! live. `dev` that is ended by a signal ends its workers, and a supervisor does not: under a service manager it is started again and takes them over.
//! Killed, neither does.

use std::io::Write as _;
use std::net::{Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use squall_blobs::{BlobStore, Limits, best_disk};
use squall_control::config::{Config, Origin, usual_sources};
use squall_control::record::{LeaderInfo, NodeInfo};
use squall_control::{Liveness, NimbusOptions, Role, files};
use squall_coordinator::{Coordinator, Embedded, SessionOptions};
use squall_scheduler::{Even, Isolation, Resources, Scheduler};
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::agree::{self, Leader};
use super::api::{self, Api};
use super::client::{ADDRESS_FILE, StateFlags, TOKEN_FILE, known};
use super::link::{Link, Nodes};
use super::node::{Event, HostsOptions, Node, NodeOptions};
use super::remote::{Find, Remote, Sessions};
use super::standby::{self, Standbys};
use super::talk::{arch, engine_version};
use super::{BlobSource, Log, NimbusLink, nimbus};
use crate::cli::EXIT_FAILED;
use crate::run::parent::EXIT_INTERRUPTED;
use crate::run::{job, system};

/// How long workers of `dev` go on when it is gone: it is for trying things out, and must not leave processes for ever.
const ORPHAN_MS: u64 = 60_000;
/// How long nimbus may take to lead, and the supervisor of `dev` to register.
const READY_WAIT: Duration = Duration::from_secs(20);

/// What all daemons take.
#[derive(Debug, Args)]
struct DaemonFlags {
    #[command(flatten)]
    state: StateFlags,
    /// Folder with squall.yaml and conf.d
    #[arg(long, value_name = "DIR", default_value = "/etc/squall")]
    conf_dir: PathBuf,
    /// Set a key of the configuration, above files and environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Options of `dev`.
#[derive(Debug, Args)]
pub(crate) struct DevCommand {
    #[command(flatten)]
    daemon: DaemonFlags,
    /// Address of the HTTP interface [default: `api.bind` where it is configured, otherwise a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDRESS:PORT")]
    bind: Option<SocketAddr>,
    /// Workers that may run [default: `supervisor.slots`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
}

/// Options of `nimbus`.
#[derive(Debug, Args)]
pub(crate) struct NimbusCommand {
    #[command(flatten)]
    daemon: DaemonFlags,
    /// Address of the HTTP interface [default: `api.bind`]
    #[arg(long, value_name = "ADDRESS:PORT")]
    bind: Option<SocketAddr>,
    /// Address where supervisors reach it [default: `nimbus.bind`]
    #[arg(long, value_name = "ADDRESS:PORT")]
    sessions: Option<SocketAddr>,
    /// Host that others are told, where those of --bind and --sessions are not it [default: `nimbus.advertise`]
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// Serve whoever asks, without a token [default: `api.insecure`]
    #[arg(long)]
    insecure: bool,
}

/// Options of `supervisor`.
#[derive(Debug, Args)]
pub(crate) struct SupervisorCommand {
    #[command(flatten)]
    daemon: DaemonFlags,
    /// Where nimbuses take sessions, several with commas between [default: as nimbus's state folder says, if that is this one]
    #[arg(long, value_name = "ADDRESS:PORT,…", value_delimiter = ',')]
    nimbus: Option<Vec<String>>,
    /// File with the token of the cluster [default: `token` in the state folder]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Address where supervisors of other nodes reach it [default: `supervisor.bind`]
    #[arg(long, value_name = "ADDRESS:PORT")]
    bind: Option<SocketAddr>,
    /// Address that other nodes are told, where it is not that of --bind [default: `supervisor.advertise`]
    #[arg(long, value_name = "ADDRESS:PORT")]
    advertise: Option<String>,
    /// Work without a token, for whoever asks [default: `api.insecure`]
    #[arg(long)]
    insecure: bool,
    /// Name of the node, unique in the cluster [default: `supervisor.id`, or the host's name]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Workers that may run [default: `supervisor.slots`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
}

/// Runs nimbus and a supervisor until a signal ends them, and their workers.
pub(crate) fn dev(command: &DevCommand) -> ExitCode {
    run(async {
        let base = Base::open(&command.daemon)?;
        // The lock comes first: whoever has it may touch the rest.
        let folder = base.supervisor_folder()?;
        let bind = bind(&base.config, command.bind, "api.bind", true)?;
        let insecure = base.insecure(false);
        let at = At { api: bind, sessions: None, advertise: None };
        let part = NimbusPart::open(&base, at, "dev", insecure).await?;
        let slots = command.slots.unwrap_or(base.config.integer("supervisor.slots") as u16);
        let id = base.config.text("supervisor.id").unwrap_or("dev").to_owned();
        let blobs = BlobSource::local(part.blobs.clone(), base.supervisor().join("artifacts"));
        let link = Box::new(part.handle.clone());
        part.nodes.here(&id, base.logs());
        let (node, tell) = base.node(
            folder,
            NodePart { id, slots, orphan_ms: Some(ORPHAN_MS), blobs, address: host(), hosts: None },
            part.coordinator.clone(),
            link,
        )?;
        let mut signals = signals()?;
        let mut node = Box::pin(node.run());
        tokio::select! {
            ended = &mut node => return ended.map(|()| ExitCode::SUCCESS),
            ready = ready(&part.handle, 1) => ready?,
        }
        announce(&base.state, part.api, None)?;
        let shown = base.state.display();
        (base.log)(&format!("nimbus and a supervisor with {slots} slots; http://{}; state in {shown}", part.api));
        (base.log)("submit with `squall submit FILE`; Ctrl-C ends this and its workers");
        tokio::select! {
            ended = &mut node => return ended.map(|()| ExitCode::SUCCESS),
            () = signals.next() => {}
        }
        let (done, ended) = oneshot::channel();
        let _ = tell.send(Event::End(done));
        tokio::select! {
            _ = &mut node => {}
            _ = ended => {}
            // Asked twice: what is left is taken over by the next one, or ends by itself.
            () = signals.next() => {}
        }
        let _ = std::fs::remove_file(base.state.join(ADDRESS_FILE));
        Ok(ExitCode::from(EXIT_INTERRUPTED as u8))
    })
}

/// Runs a nimbus until a signal ends it; workers and supervisors go on without it.
pub(crate) fn nimbus(command: &NimbusCommand) -> ExitCode {
    run(async {
        let base = Base::open(&command.daemon)?;
        let api = bind(&base.config, command.bind, "api.bind", false)?;
        let sessions = bind(&base.config, command.sessions, "nimbus.bind", false)?;
        let id = base.config.text("nimbus.id").map_or_else(host, str::to_owned);
        let insecure = base.insecure(command.insecure);
        let advertise = command.advertise.clone().or_else(|| base.config.text("nimbus.advertise").map(str::to_owned));
        let at = At { api, sessions: Some(sessions), advertise };
        let part = NimbusPart::open(&base, at, &id, insecure).await?;
        let mut signals = signals()?;
        ready(&part.handle, 0).await?;
        announce(&base.state, part.api, part.sessions)?;
        let sessions = part.sessions.map(|address| address.to_string()).unwrap_or_default();
        let shown = base.state.display();
        (base.log)(&format!("nimbus {id}: http://{}; supervisors at {sessions}; state in {shown}", part.api));
        signals.next().await;
        let _ = std::fs::remove_file(base.state.join(ADDRESS_FILE));
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs a supervisor until a signal ends it; its workers go on, and the next one takes them over.
pub(crate) fn supervisor(command: &SupervisorCommand) -> ExitCode {
    run(async {
        let base = Base::open(&command.daemon)?;
        let folder = base.supervisor_folder()?;
        let ensemble = base.ensemble(&folder)?;
        let find = base.find(command.nimbus.clone(), ensemble.clone());
        let insecure = base.insecure(command.insecure);
        let token = if insecure { String::new() } else { base.cluster_token(command.token_file.as_deref())? };
        let (listener, address) = base.hosts(command)?;
        let id = command.id.clone().or_else(|| base.config.text("supervisor.id").map(str::to_owned));
        let id = id.unwrap_or_else(host);
        if !squall_control::record::valid_name(&id) {
            return Err(format!(
                "{id:?} is no name of a node: letters, digits, `_`, `.` and `-`; give it one with --id"
            ));
        }
        let slots = command.slots.unwrap_or(base.config.integer("supervisor.slots") as u16);
        let store = store(&base.supervisor().join("blobs"))?;
        let (timeout, logs) = (base.session().timeout, base.logs());
        let link = Link::keep(id.clone(), find.clone(), token.clone(), timeout, logs, base.log.clone());
        let link = link.map_err(|error| format!("no thread: {error}; raise `ulimit -u`"))?;
        let blobs = BlobSource::remote(store, base.supervisor().join("artifacts"), link.clone());
        let hosts = Some(HostsOptions { listener, key: token.clone().into_bytes() });
        let coordinator = ensemble.unwrap_or_else(|| Arc::new(Remote::new(find, token)));
        let part = NodePart { id: id.clone(), slots, orphan_ms: None, blobs, address: address.clone(), hosts };
        let (node, _tell) = base.node(folder, part, coordinator, Box::new(link))?;
        let mut signals = signals()?;
        let shown = base.state.display();
        (base.log)(&format!("supervisor {id} with {slots} slots, for others at {address}; state in {shown}"));
        tokio::select! {
            ended = node.run() => ended.map(|()| ExitCode::SUCCESS),
            () = signals.next() => Ok(ExitCode::SUCCESS),
        }
    })
}

/// Runs a daemon to its exit code.
fn run(daemon: impl Future<Output = Result<ExitCode, String>>) -> ExitCode {
    let ended = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let ended = runtime.block_on(daemon);
            // A task that waits for a disk must not keep the process.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(format!("no runtime: {error}; raise `ulimit -n`")),
    };
    ended.unwrap_or_else(|why| {
        job::complain(&why);
        ExitCode::from(EXIT_FAILED)
    })
}

/// The name of this host.
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".into() } else { name }
}

/// What every daemon has.
struct Base {
    config: Config,
    state: PathBuf,
    log: Log,
}

/// What makes a node.
struct NodePart {
    id: String,
    slots: u16,
    orphan_ms: Option<u64>,
    blobs: BlobSource,
    address: String,
    hosts: Option<HostsOptions>,
}

impl Base {
    fn open(flags: &DaemonFlags) -> Result<Base, String> {
        let mut sources = usual_sources(&flags.conf_dir);
        for set in &flags.set {
            let (key, value) = set.split_once('=').ok_or_else(|| format!("--set {set}: write KEY=VALUE"))?;
            sources.flags.push((key.trim().into(), value.trim().into(), format!("--set {set}")));
        }
        let config = Config::load(&sources)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nerror: "))?;
        let state = flags.state.folder()?;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&state);
        made.map_err(|error| format!("{}: {error}", state.display()))?;
        let log: Log = Arc::new(|text: &str| drop(writeln!(std::io::stderr().lock(), "{text}")));
        Ok(Base { config, state, log })
    }

    fn supervisor(&self) -> PathBuf {
        self.state.join("supervisor")
    }

    /// ZooKeeper for a supervisor, if it is configured. One that has workers does not wait for it: while it cannot be reached they are led without
    /// it, which the log tells.
    fn ensemble(&self, folder: &files::Folder) -> Result<Option<Arc<dyn Coordinator>>, String> {
        let found = folder.found().map_err(|error| error.to_string())?;
        let lives = found.iter().any(|found| matches!(found.liveness, Liveness::Alive(_)));
        if lives && agree::is_zookeeper(&self.config) {
            return agree::ensemble(&self.config).map(Some);
        }
        agree::zookeeper(&self.config, &self.log)
    }

    /// How a supervisor finds nimbus: as it was told, as configured, as the coordinator says, or as the state folder says.
    fn find(&self, given: Option<Vec<String>>, ensemble: Option<Arc<dyn Coordinator>>) -> Find {
        let configured = (*self.config.origin("nimbus.servers") != Origin::Default)
            .then(|| self.config.list("nimbus.servers").into_iter().map(str::to_owned).collect());
        let state = self.state.clone();
        match (given.or(configured), ensemble) {
            (Some(addresses), _) => Arc::new(move || Ok(addresses.clone())),
            (None, Some(ensemble)) => {
                let leader = Leader::new(ensemble, self.session());
                Arc::new(move || leader.find())
            }
            (None, None) => Arc::new(move || {
                known(&state, "sessions").map(|address| vec![address]).map_err(|error| error.to_string())
            }),
        }
    }

    /// Where the logs of workers are.
    fn logs(&self) -> PathBuf {
        self.supervisor().join("logs")
    }

    fn supervisor_folder(&self) -> Result<files::Folder, String> {
        files::Folder::open(&self.supervisor()).map_err(|error| error.to_string())
    }

    /// Whether no token is asked for: said by the flag or the key, and then said aloud.
    fn insecure(&self, flag: bool) -> bool {
        let insecure = flag || self.config.flag("api.insecure");
        if insecure {
            (self.log)("insecure: whoever reaches this daemon can use it, and run programs on this machine");
        }
        insecure
    }

    /// The token of the cluster as this host has it.
    fn cluster_token(&self, file: Option<&Path>) -> Result<String, String> {
        if let (None, Some(token)) = (file, self.config.text("api.token")) {
            return Ok(token.to_owned());
        }
        let file = file.or(self.config.text("api.token-file").map(Path::new));
        let path = file.map_or_else(|| self.state.join(TOKEN_FILE), Path::to_owned);
        let read = std::fs::read_to_string(&path).map_err(|error| {
            let shown = path.display();
            format!("the token of the cluster cannot be read: {shown}: {error}; copy it from nimbus's state folder, or name one with --token-file")
        })?;
        match read.trim() {
            "" => Err(format!("{} holds no token: copy it from nimbus's state folder", path.display())),
            token => Ok(token.to_owned()),
        }
    }

    /// Listens for the supervisors of other nodes, and says where they are told to find this one.
    fn hosts(&self, command: &SupervisorCommand) -> Result<(StdListener, String), String> {
        let bind = bind(&self.config, command.bind, "supervisor.bind", false)?;
        let listener = StdListener::bind(bind).map_err(|error| {
            format!("{bind} cannot be had: {error}; choose another address with --bind, or port 0 for a free one")
        })?;
        let bound = listener.local_addr().map_err(|error| error.to_string())?;
        if agree::is_zookeeper(&self.config) {
            self.warn_of_loopback(bound, "--bind or supervisor.bind");
        }
        let told = command.advertise.clone().or_else(|| self.config.text("supervisor.advertise").map(str::to_owned));
        let address = match told {
            Some(told) if told.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => told,
            Some(told) => return Err(format!("{told:?} is no ADDRESS:PORT that other nodes could be told")),
            None if bound.ip().is_unspecified() => {
                return Err(format!(
                    "{bound} is no address that other nodes could be told: name this host's with --advertise ADDRESS:PORT"
                ));
            }
            None => bound.to_string(),
        };
        Ok((listener, address))
    }

    /// A cluster by ZooKeeper is one of several hosts, most likely: says that they cannot reach what is bound to the loopback.
    fn warn_of_loopback(&self, bound: SocketAddr, flags: &str) {
        if bound.ip().is_loopback() {
            (self.log)(&format!(
                "{bound} is reached from this machine only: for a cluster of several hosts give an address of this one by {flags}"
            ));
        }
    }

    fn session(&self) -> SessionOptions {
        SessionOptions { timeout: self.config.duration("coordinator.session-timeout") }
    }

    fn node(
        &self,
        folder: files::Folder,
        part: NodePart,
        coordinator: Arc<dyn Coordinator>,
        link: Box<dyn NimbusLink>,
    ) -> Result<(Node, UnboundedSender<Event>), String> {
        let mut cores = system::usable_cores();
        match self.config.integer("supervisor.cores") as usize {
            0 => {}
            limit => cores.truncate(limit),
        }
        let memory = match self.config.bytes("supervisor.memory") {
            0 => Resources::UNLIMITED.memory,
            bytes => bytes,
        };
        let info = NodeInfo {
            id: part.id,
            identity: folder.identity().to_owned(),
            address: part.address,
            slots: part.slots,
            capacity: Resources { cpu: 100 * cores.len() as u64, memory },
            arch: arch(),
            engine: engine_version(),
        };
        let options = NodeOptions {
            info,
            folder,
            cores,
            stop_grace: self.config.duration("supervisor.stop-grace"),
            session: self.session(),
            orphan_ms: part.orphan_ms,
            blobs: part.blobs,
            hosts: part.hosts,
            path: self.supervisor(),
        };
        Node::open(options, coordinator, link, self.log.clone())
    }
}

/// Where a nimbus is to be.
struct At {
    api: SocketAddr,
    /// `None`: no other process has sessions or links with it.
    sessions: Option<SocketAddr>,
    /// The host that others are told.
    advertise: Option<String>,
}

/// A nimbus with its interfaces, at work.
struct NimbusPart {
    handle: nimbus::Handle,
    coordinator: Arc<dyn Coordinator>,
    blobs: Arc<BlobStore>,
    nodes: Nodes,
    api: SocketAddr,
    sessions: Option<SocketAddr>,
}

impl NimbusPart {
    async fn open(base: &Base, at: At, id: &str, insecure: bool) -> Result<NimbusPart, String> {
        if at.sessions.is_none() && agree::is_zookeeper(&base.config) {
            return Err(
                "`squall dev` agrees with nobody but itself: for a cluster by ZooKeeper start `squall nimbus` and \
                        `squall supervisor`, or leave coordinator.kind at embedded"
                    .into(),
            );
        }
        let ensemble = agree::zookeeper(&base.config, &base.log)?;
        let many = ensemble.is_some();
        let coordinator = match ensemble {
            Some(ensemble) => ensemble,
            None => {
                let path = base.state.join(base.config.text("coordinator.path").unwrap_or("coordinator.redb"));
                let own: Arc<dyn Coordinator> = Arc::new(Embedded::open(&path).map_err(|error| error.to_string())?);
                own
            }
        };
        let blobs = store(&base.state.join("blobs"))?;
        let token = match (base.config.text("api.token"), base.config.text("api.token-file")) {
            (Some(token), _) => token.to_owned(),
            (None, Some(path)) => token(Path::new(path))?,
            (None, None) => token(&base.state.join(TOKEN_FILE))?,
        };
        let token = Some(token).filter(|_| !insecure);
        let taken = |address: SocketAddr, flag: &str, error: std::io::Error| {
            format!("{address} cannot be had: {error}; choose another port with {flag}, or 0 for a free one")
        };
        let listener = TcpListener::bind(at.api).await.map_err(|error| taken(at.api, "--bind", error))?;
        let api = listener.local_addr().map_err(|error| error.to_string())?;
        let instance = super::client::random_hex().map_err(|error| format!("no random number: {error}"))?;
        let sessions = match at.sessions {
            Some(sessions) => {
                let bound = StdListener::bind(sessions).and_then(|l| Ok((l.local_addr()?, l)));
                Some(bound.map_err(|error| taken(sessions, "--sessions", error))?)
            }
            None => None,
        };
        let bound = sessions.as_ref().map(|(bound, _)| *bound);
        if many {
            base.warn_of_loopback(api, "--bind or api.bind");
            if let Some(bound) = bound {
                base.warn_of_loopback(bound, "--sessions or nimbus.bind");
            }
        }
        let told = |bound: SocketAddr| told(bound, at.advertise.as_deref(), many);
        let me = LeaderInfo {
            id: id.to_owned(),
            instance: instance.clone(),
            address: told(api)?,
            sessions: bound.map(told).transpose()?,
        };
        let address = me.address.clone();
        let options = NimbusOptions {
            grace: base.config.duration("nimbus.grace"),
            wait: base.config.duration("nimbus.kill-wait"),
            ..NimbusOptions::new(me)
        };
        let (driver, handle) = nimbus::Driver::new(
            options,
            scheduler(&base.config)?,
            coordinator.clone(),
            base.session(),
            base.log.clone(),
        );
        let nodes = Nodes::default();
        if let Some((_, listener)) = sessions {
            let (coordinator, nimbus) = (Some(coordinator.clone()).filter(|_| !many), handle.clone());
            let (nodes, token) = (nodes.clone(), token.clone());
            let served = Sessions { coordinator, nimbus, nodes, token, api: address }.serve(listener);
            served.map_err(|error| format!("no thread: {error}; raise `ulimit -u`"))?;
        }
        for address in [Some(api), bound].into_iter().flatten().filter(|address| !address.ip().is_loopback()) {
            (base.log)(&format!(
                "{address} is served beyond this machine, with nothing encrypted: the network has to be trusted"
            ));
        }
        tokio::spawn(driver.run());
        if many {
            let (nimbus, store, log) = (handle.clone(), blobs.clone(), base.log.clone());
            // Where no token is asked for, an empty one is as good as any.
            let token = token.clone().unwrap_or_default();
            tokio::spawn(standby::keep_up(nimbus, store, token, instance, log));
        }
        let (nimbus, standbys) = (handle.clone(), Standbys::default());
        let served = Api { nimbus, blobs: blobs.clone(), nodes: nodes.clone(), standbys, token };
        tokio::spawn(api::serve(listener, Arc::new(served)));
        Ok(NimbusPart { handle, coordinator, blobs, nodes, api, sessions: bound })
    }
}

fn store(path: &Path) -> Result<Arc<BlobStore>, String> {
    BlobStore::open(path, Limits::default(), best_disk().0).map(Arc::new).map_err(|error| error.to_string())
}

/// Where to listen: the flag, or the key; `free`: any port of this machine where neither is set.
fn bind(config: &Config, flag: Option<SocketAddr>, key: &str, free: bool) -> Result<SocketAddr, String> {
    match (flag, config.origin(key)) {
        (Some(bind), _) => Ok(bind),
        (None, Origin::Default) if free => Ok(SocketAddr::from(([127, 0, 0, 1], 0))),
        (None, origin) => {
            let text = config.text(key).unwrap_or_default();
            text.parse().map_err(|_| format!("{origin}: {key}: {text:?} is no ADDRESS:PORT"))
        }
    }
}

/// What others are told of where a nimbus is: the host that is advertised, or what is bound. All addresses of a host are told as they are where there
/// is one nimbus, since who has found it knows its host; `many`: others read of it what they cannot know.
fn told(bound: SocketAddr, advertise: Option<&str>, many: bool) -> Result<String, String> {
    match advertise {
        Some(host) if host.parse::<Ipv6Addr>().is_ok() => Ok(format!("[{host}]:{}", bound.port())),
        Some(host) if host.is_empty() || host.contains([':', '/', ' ', ',']) => Err(format!(
            "{host:?} is no host that others could be told: a name or an address, without a port, since those of --bind and --sessions are told"
        )),
        Some(host) => Ok(format!("{host}:{}", bound.port())),
        None if many && bound.ip().is_unspecified() => {
            Err(format!("{bound} is no address that others could be told: name this host's with --advertise HOST"))
        }
        None => Ok(bound.to_string()),
    }
}

/// The token of requests, made once and readable by its owner only.
fn token(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 32 => return Ok(text.trim().to_owned()),
        Ok(_) => return Err(format!("{} holds no token: remove it, and another is made", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let token = super::client::random_hex().map_err(failed)?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create_new(true).write(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(token.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(token)
}

fn scheduler(config: &Config) -> Result<Box<dyn Scheduler>, String> {
    if config.text("nimbus.scheduler") != Some("isolation") {
        return Ok(Box::new(Even::default()));
    }
    let mut machines = std::collections::BTreeMap::new();
    for item in config.list("nimbus.isolated") {
        let pair = item.split_once('=').and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
        let (name, count): (String, usize) =
            pair.ok_or_else(|| format!("nimbus.isolated: {item:?} is no NAME=COUNT"))?;
        machines.insert(name, count);
    }
    Ok(Box::new(Isolation { machines, even: Even::default() }))
}

/// Waits until nimbus leads, or knows who does, and so many supervisors are there: who is told of this cluster can use it.
async fn ready(nimbus: &nimbus::Handle, supervisors: usize) -> Result<(), String> {
    let until = Instant::now() + READY_WAIT;
    loop {
        let is = move |driver: &nimbus::Driver| match driver.nimbus().role() {
            Role::Leading => driver.nimbus().live_nodes().count() >= supervisors,
            Role::Following(_) => supervisors == 0,
            Role::Away | Role::Joining | Role::Loading => false,
        };
        if nimbus.look(is).await == Some(true) {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(format!("the cluster was not ready within {} s; its log above says why", READY_WAIT.as_secs()));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Says where everything is, for commands and supervisors on this machine.
fn announce(state: &Path, api: SocketAddr, sessions: Option<SocketAddr>) -> Result<(), String> {
    let path = state.join(ADDRESS_FILE);
    let sessions = sessions.map(|address| address.to_string());
    let text = json!({ "address": api.to_string(), "sessions": sessions, "pid": std::process::id() }).to_string();
    let beside = path.with_extension("new");
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, &path));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

/// SIGINT and SIGTERM.
struct Signals(tokio::net::UnixStream);

fn signals() -> Result<Signals, String> {
    let caught = || -> std::io::Result<Signals> {
        let (ours, handler) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGINT, handler.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGTERM, handler)?;
        ours.set_nonblocking(true)?;
        Ok(Signals(tokio::net::UnixStream::from_std(ours)?))
    };
    caught().map_err(|error| format!("signals cannot be caught: {error}"))
}

impl Signals {
    /// The next one.
    async fn next(&mut self) {
        loop {
            let mut bytes = [0; 16];
            if self.0.readable().await.is_err() || matches!(self.0.try_read(&mut bytes), Ok(n) if n > 0) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_an_address_that_they_can_use() {
        let (all, one): (SocketAddr, SocketAddr) = ("0.0.0.0:80".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        assert_eq!(told(one, None, true).as_deref(), Ok("10.0.0.1:80"));
        assert_eq!(told(one, Some("node1"), true).as_deref(), Ok("node1:80"));
        assert_eq!(told(all, Some("fd00::1"), true).as_deref(), Ok("[fd00::1]:80"));
        assert_eq!(told(all, None, false).as_deref(), Ok("0.0.0.0:80"), "who comes knows the host");
        assert!(told(all, None, true).is_err_and(|why| why.contains("--advertise HOST")));
        for wrong in ["node1:80", "http://node1", "", "a,b"] {
            assert!(told(one, Some(wrong), false).is_err_and(|why| why.contains("is no host")), "{wrong}");
        }
    }
}
