//! `squall dev`: nimbus and supervisor in one process, with the embedded coordinator; workers are processes of their own.
//!
//! Everything that outlives it lies in its state folder: what was submitted, artifacts, which workers live. Ended by a signal it ends its workers,
//! and topologies go on when it is started again; killed, its workers live on, and the next one takes them over.

use std::io::Write as _;
use std::net::SocketAddr;
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
use squall_control::{NimbusOptions, Role, files};
use squall_coordinator::{Coordinator, Embedded, SessionOptions};
use squall_scheduler::{Even, Isolation, Resources, Scheduler};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::api::{self, Api};
use super::client::{ADDRESS_FILE, StateFlags, TOKEN_FILE};
use super::node::{Event, Node, NodeOptions};
use super::talk::{arch, engine_version};
use super::{BlobSource, Log, nimbus};
use crate::cli::EXIT_FAILED;
use crate::run::parent::EXIT_INTERRUPTED;
use crate::run::{job, system};

/// How long workers go on when their supervisor is gone: `dev` is for trying things out, and must not leave processes for ever.
const ORPHAN_MS: u64 = 60_000;

/// How long nimbus may take to lead, and the supervisor to register.
const READY_WAIT: Duration = Duration::from_secs(20);

/// Options of `dev`.
#[derive(Debug, Args)]
pub(crate) struct DevCommand {
    #[command(flatten)]
    state: StateFlags,
    /// Address of the HTTP interface [default: `api.bind` where it is configured, otherwise a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDRESS:PORT")]
    bind: Option<SocketAddr>,
    /// Workers that may run [default: `supervisor.slots`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// Folder with squall.yaml and conf.d
    #[arg(long, value_name = "DIR", default_value = "/etc/squall")]
    conf_dir: PathBuf,
    /// Set a key of the configuration, above files and environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs until a signal ends it.
pub(crate) fn dev(command: &DevCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no runtime: {error}; raise `ulimit -n`")),
    };
    let ended = match prepare(command) {
        Ok(plan) => runtime.block_on(live(plan)),
        Err(why) => Err(why),
    };
    // A task that waits for a disk must not keep the process.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::from(EXIT_INTERRUPTED as u8),
        Err(why) => failed(&why),
    }
}

fn failed(why: &str) -> ExitCode {
    job::complain(&why);
    ExitCode::from(EXIT_FAILED)
}

/// What `dev` is made of.
struct Made {
    config: Config,
    state: PathBuf,
    bind: SocketAddr,
    slots: u16,
    coordinator: Arc<dyn Coordinator>,
    folder: files::Folder,
    blobs: Arc<BlobStore>,
    token: String,
}

fn prepare(command: &DevCommand) -> Result<Made, String> {
    let mut sources = usual_sources(&command.conf_dir);
    for set in &command.set {
        let (key, value) = set.split_once('=').ok_or_else(|| format!("--set {set}: write KEY=VALUE"))?;
        sources.flags.push((key.trim().into(), value.trim().into(), format!("--set {set}")));
    }
    let config = Config::load(&sources)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nerror: "))?;
    let bind = match (command.bind, config.origin("api.bind")) {
        (Some(bind), _) => bind,
        (None, Origin::Default) => SocketAddr::from(([127, 0, 0, 1], 0)),
        (None, origin) => {
            let text = config.text("api.bind").unwrap_or_default();
            text.parse().map_err(|_| format!("{origin}: api.bind: {text:?} is no ADDRESS:PORT"))?
        }
    };
    if !bind.ip().is_loopback() {
        return Err(format!("{bind} is no address of this machine alone: `dev` serves 127.0.0.1 or [::1] only"));
    }
    let state = command.state.folder()?;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&state);
    made.map_err(|error| format!("{}: {error}", state.display()))?;
    let supervisor = state.join("supervisor");
    // The lock comes first: whoever has it may touch the rest.
    let folder = files::Folder::open(&supervisor).map_err(|error| error.to_string())?;
    let path = state.join(config.text("coordinator.path").unwrap_or("coordinator.redb"));
    let coordinator = Embedded::open(&path).map_err(|error| error.to_string())?;
    let blobs = BlobStore::open(&state.join("blobs"), Limits::default(), best_disk().0);
    let blobs = Arc::new(blobs.map_err(|error| error.to_string())?);
    let token = token(&state.join(TOKEN_FILE))?;
    let slots = command.slots.unwrap_or(config.integer("supervisor.slots") as u16);
    Ok(Made { config, state, bind, slots, coordinator: Arc::new(coordinator), folder, blobs, token })
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
    let mut isolated = std::collections::BTreeMap::new();
    for item in config.list("nimbus.isolated") {
        let pair = item.split_once('=').and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
        let (name, count): (String, usize) =
            pair.ok_or_else(|| format!("nimbus.isolated: {item:?} is no NAME=COUNT"))?;
        isolated.insert(name, count);
    }
    Ok(Box::new(Isolation { machines: isolated, even: Even::default() }))
}

async fn live(made: Made) -> Result<(), String> {
    let Made { config, state, bind, slots, coordinator, folder, blobs, token } = made;
    let mut signals = signals().map_err(|error| format!("signals cannot be caught: {error}"))?;
    let listener = TcpListener::bind(bind).await.map_err(|error| {
        format!("the HTTP interface cannot be bound to {bind}: {error}; choose another port with --bind, or 0 for a free one")
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let log: Log = Arc::new(|text: &str| drop(writeln!(std::io::stderr().lock(), "{text}")));

    let session = SessionOptions { timeout: config.duration("coordinator.session-timeout") };
    let me = LeaderInfo {
        id: "dev".into(),
        instance: super::client::random_hex().map_err(|error| format!("no random number: {error}"))?,
        address: address.to_string(),
    };
    let options = NimbusOptions {
        grace: config.duration("nimbus.grace"),
        wait: config.duration("nimbus.kill-wait"),
        ..NimbusOptions::new(me)
    };
    let (driver, nimbus) =
        nimbus::Driver::new(options, scheduler(&config)?, coordinator.clone(), session.clone(), log.clone());

    let mut cores = system::usable_cores();
    match config.integer("supervisor.cores") as usize {
        0 => {}
        limit => cores.truncate(limit),
    }
    let memory = match config.bytes("supervisor.memory") {
        0 => Resources::UNLIMITED.memory,
        bytes => bytes,
    };
    let info = NodeInfo {
        id: config.text("supervisor.id").unwrap_or("dev").to_owned(),
        identity: folder.identity().to_owned(),
        address: "127.0.0.1".into(),
        slots,
        capacity: Resources { cpu: 100 * cores.len() as u64, memory },
        arch: arch(),
        engine: engine_version(),
    };
    let supervisor = state.join("supervisor");
    let node_options = NodeOptions {
        info,
        folder,
        cores,
        stop_grace: config.duration("supervisor.stop-grace"),
        session,
        orphan_ms: Some(ORPHAN_MS),
        blobs: BlobSource { store: blobs.clone(), artifacts: supervisor.join("artifacts") },
        path: supervisor,
    };
    let (node, tell_node) = Node::open(node_options, coordinator, Box::new(nimbus.clone()), log.clone())?;

    tokio::spawn(driver.run());
    tokio::spawn(api::serve(listener, Arc::new(Api { nimbus: nimbus.clone(), blobs, token })));
    let mut node = Box::pin(node.run());
    tokio::select! {
        ended = &mut node => return ended,
        ready = ready(&nimbus) => ready?,
    }
    announce(&state, address)?;
    log(&format!("nimbus and a supervisor with {slots} slots; http://{address}; state in {}", state.display()));
    log("submit with `squall submit FILE`; Ctrl-C ends this and its workers");
    tokio::select! {
        ended = &mut node => return ended,
        () = signals.next() => {}
    }
    let (done, ended) = oneshot::channel();
    let _ = tell_node.send(Event::End(done));
    tokio::select! {
        _ = &mut node => {}
        _ = ended => {}
        // Asked twice: the workers are killed with their supervisor's last breath, or taken over by the next one.
        () = signals.next() => {}
    }
    let _ = std::fs::remove_file(state.join(ADDRESS_FILE));
    Ok(())
}

/// Waits until nimbus leads and the supervisor is registered: who is told of this cluster can use it.
async fn ready(nimbus: &nimbus::Handle) -> Result<(), String> {
    let until = Instant::now() + READY_WAIT;
    loop {
        let is = |driver: &nimbus::Driver| {
            *driver.nimbus().role() == Role::Leading && driver.nimbus().live_nodes().next().is_some()
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

/// Says where the interface is, for commands on this machine.
fn announce(state: &Path, address: SocketAddr) -> Result<(), String> {
    let path = state.join(ADDRESS_FILE);
    let text = json!({ "address": address.to_string(), "pid": std::process::id() }).to_string();
    let beside = path.with_extension("new");
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, &path));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

/// SIGINT and SIGTERM.
struct Signals(tokio::net::UnixStream);

fn signals() -> std::io::Result<Signals> {
    let (ours, handler) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGINT, handler.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGTERM, handler)?;
    ours.set_nonblocking(true)?;
    Ok(Signals(tokio::net::UnixStream::from_std(ours)?))
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
