//! The commands' side of nimbus's HTTP interface: blocking, one request at a time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use squall_blobs::{Begin, BlobError, BlobStore, Hash};

/// In a state folder: where the interface is.
pub(super) const ADDRESS_FILE: &str = "nimbus.json";
/// In a state folder: the token of requests.
pub(super) const TOKEN_FILE: &str = "token";

/// How long a request may take; a chunk of an artifact has to fit.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long another nimbus may take to lead, where several are known.
const CHANGE_WAIT: Duration = Duration::from_secs(10);
const CHANGE_LOOK: Duration = Duration::from_millis(200);
/// Nimbuses that may name another one as the leader, in a row.
const HOPS: usize = 8;
/// Bytes of a part of a blob: what a store takes at once.
const DOWNLOAD: u64 = 1 << 20;
/// Bytes of an answer, at most.
const ANSWER_MAX: u64 = 64 << 20;

/// Where the cluster of this machine keeps its state.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StateFlags {
    /// State folder of `squall dev` [default: $XDG_STATE_HOME/squall or ~/.local/state/squall] [env: SQUALL_STATE]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl StateFlags {
    /// The folder.
    ///
    /// # Errors
    /// None is given and there is no home.
    pub(super) fn folder(&self) -> Result<PathBuf, String> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = self.state.clone().or_else(|| set("SQUALL_STATE"));
        let folder = folder.or_else(|| Some(set("XDG_STATE_HOME")?.join("squall")));
        let folder = folder.or_else(|| Some(set("HOME")?.join(".local/state/squall")));
        let folder = folder.ok_or("there is no state folder: neither HOME nor --state is set")?;
        std::path::absolute(&folder).map_err(|error| format!("{}: {error}", folder.display()))
    }
}

/// Which nimbus a command speaks to.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NimbusFlags {
    #[command(flatten)]
    state: StateFlags,
    /// Address of nimbus's HTTP interface [default: as the state folder says]
    #[arg(long, value_name = "ADDRESS:PORT,…", value_delimiter = ',')]
    nimbus: Option<Vec<String>>,
    /// File with the token of the cluster [default: `token` in the state folder]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// There is no nimbus, or it does not lead.
    #[error("{0}")]
    Away(String),
    /// It says no, and nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// What was asked for is not there, or the node that has it does not answer.
    #[error("{0}")]
    Missing(String),
}

/// The nimbuses of a cluster, of which the one that leads answers.
pub(super) struct Client {
    agent: ureq::Agent,
    /// Addresses, the one that answered last first.
    known: RefCell<VecDeque<String>>,
    /// Another one may lead in a moment: it is tried for a while.
    several: bool,
    token: String,
}

type Answer = ureq::http::Response<ureq::Body>;

impl Client {
    /// The nimbus that the flags name.
    ///
    /// # Errors
    /// None is known.
    pub(super) fn new(flags: &NimbusFlags) -> Result<Client, ClientError> {
        let folder = flags.state.folder().map_err(ClientError::Refused)?;
        let addresses = match &flags.nimbus {
            Some(addresses) => addresses.clone(),
            None => vec![known(&folder, "address")?],
        };
        let path = flags.token_file.clone().unwrap_or_else(|| folder.join(TOKEN_FILE));
        let token = std::fs::read_to_string(&path)
            .map_err(|error| ClientError::Refused(format!("the token cannot be read: {}: {error}", path.display())))?;
        Ok(Client {
            several: addresses.len() > 1,
            known: RefCell::new(addresses.into()),
            ..Client::at("", token.trim())
        })
    }

    /// The nimbus at an address.
    pub(super) fn at(address: &str, token: &str) -> Client {
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0);
        let agent = config.timeout_global(Some(PATIENCE)).build().into();
        let known = RefCell::new(VecDeque::from([address.to_owned()]));
        Client { agent, known, several: false, token: token.to_owned() }
    }

    /// Asks one nimbus after the other, and where one names another as the leader, that one.
    fn ask(&self, send: impl Fn(&str) -> Result<Answer, ureq::Error>) -> Result<Answer, ClientError> {
        let until = Instant::now() + CHANGE_WAIT;
        loop {
            match self.ask_all(&send) {
                Err(ClientError::Away(_)) if self.several && Instant::now() < until => std::thread::sleep(CHANGE_LOOK),
                answer => return answer,
            }
        }
    }

    fn ask_all(&self, send: impl Fn(&str) -> Result<Answer, ureq::Error>) -> Result<Answer, ClientError> {
        let (mut left, mut tried) = (self.known.borrow().clone(), Vec::new());
        let mut why = ClientError::Away("no nimbus is known".into());
        while let Some(address) = left.pop_front() {
            if tried.contains(&address) {
                continue;
            }
            match send(&format!("http://{address}")) {
                Ok(answer) if answer.status() == 307 => {
                    let to = answer.headers().get("location").and_then(|to| to.to_str().ok());
                    let to = to.and_then(|to| to.strip_prefix("http://")?.split('/').next());
                    left.extend(to.filter(|_| tried.len() < HOPS).map(str::to_owned));
                    why = ClientError::Away(format!("{address} does not lead, and who does cannot be reached"));
                }
                Ok(answer) if answer.status() == 503 => why = refusal(answer, &address),
                Ok(answer) => {
                    let mut known = self.known.borrow_mut();
                    known.retain(|known| *known != address);
                    known.push_front(address);
                    return Ok(answer);
                }
                Err(error) => why = away(&address, &error),
            }
            tried.push(address);
        }
        Err(why)
    }

    /// The one that answered last.
    fn last(&self) -> String {
        self.known.borrow().front().cloned().unwrap_or_default()
    }

    /// Asks for what is at a path.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(super) fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.take(
            self.ask(|base| self.agent.get(format!("{base}{path}")).header("Authorization", self.bearer()).call()),
        )
    }

    /// Has something done.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(super) fn post(&self, path: &str, body: &[u8]) -> Result<Value, ClientError> {
        let send =
            |base: &str| self.agent.post(format!("{base}{path}")).header("Authorization", self.bearer()).send(body);
        self.take(self.ask(send))
    }

    /// Asks for a part of a log: its bytes, where they begin, and the size of the whole.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(super) fn log(&self, path: &str) -> Result<(Vec<u8>, u64, u64), ClientError> {
        let send = |base: &str| self.agent.get(format!("{base}{path}")).header("Authorization", self.bearer()).call();
        let mut answer = self.ask(send)?;
        if !answer.status().is_success() {
            return Err(refusal(answer, &self.last()));
        }
        let number = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0);
        let (offset, size) = (number("x-log-offset"), number("x-log-size"));
        let bytes = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_vec();
        Ok((bytes.map_err(|error| ClientError::Away(error.to_string()))?, offset, size))
    }

    /// Sends a part of something.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(super) fn put(&self, path: &str, body: &[u8]) -> Result<Value, ClientError> {
        let send =
            |base: &str| self.agent.put(format!("{base}{path}")).header("Authorization", self.bearer()).send(body);
        self.take(self.ask(send))
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn take(&self, answer: Result<Answer, ClientError>) -> Result<Value, ClientError> {
        let (mut answer, at) = (answer?, self.last());
        if !answer.status().is_success() {
            return Err(refusal(answer, &at));
        }
        let text = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string().map_err(|e| away(&at, &e))?;
        serde_json::from_str(&text).map_err(|_| ClientError::Away(format!("what answers at {at} is no nimbus")))
    }
}

fn away(address: &str, error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Away(format!("nimbus cannot be reached at http://{address}: {error}; is `squall dev` running?"))
}

/// Why an answer is not the one hoped for.
fn refusal(mut answer: Answer, address: &str) -> ClientError {
    let text = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string().unwrap_or_default();
    let Ok(value) = serde_json::from_str::<Value>(&text) else {
        return ClientError::Away(format!("what answers at {address} is no nimbus"));
    };
    let why = value["error"].as_str().unwrap_or("it gave no reason").to_owned();
    match answer.status().as_u16() {
        404 | 502 => ClientError::Missing(why),
        503 | 504 => ClientError::Away(why),
        _ => ClientError::Refused(why),
    }
}

/// An address that the nimbus of a state folder has announced.
///
/// # Errors
/// None has.
pub(super) fn known(folder: &Path, key: &str) -> Result<String, ClientError> {
    let path = folder.join(ADDRESS_FILE);
    let text = std::fs::read_to_string(&path).map_err(|_| {
        let shown = folder.display();
        ClientError::Away(format!(
            "no nimbus runs with its state in {shown}: start one with `squall dev`, or name one with --nimbus"
        ))
    })?;
    let value: Option<Value> = serde_json::from_str(&text).ok();
    let address = value.as_ref().and_then(|value| value[key].as_str());
    let none = || ClientError::Refused(format!("{} names no such address: is it of `squall dev`?", path.display()));
    address.map(str::to_owned).ok_or_else(none)
}

/// Has a blob of nimbus in a store.
///
/// # Errors
/// Nimbus or the disk say no.
pub(super) fn download(api: &str, token: &str, store: &BlobStore, hash: &str) -> Result<(), String> {
    let name: Hash = hash.parse().map_err(|error: BlobError| error.to_string())?;
    if store.has(name) {
        return Ok(());
    }
    let config = ureq::Agent::config_builder().http_status_as_error(true).timeout_global(Some(PATIENCE)).build();
    let agent = ureq::Agent::from(config);
    let part = |offset: u64| -> Result<(Vec<u8>, u64), String> {
        let url = format!("http://{api}/api/v2/blobs/{hash}?offset={offset}&length={DOWNLOAD}");
        let request = agent.get(url).header("Authorization", format!("Bearer {token}"));
        let mut answer = request.call().map_err(|error| error.to_string())?;
        let size = answer.headers().get("x-blob-size").and_then(|size| size.to_str().ok()?.parse().ok());
        let size = size.ok_or("the answer does not say how large the blob is")?;
        let bytes = answer.body_mut().with_config().limit(2 * DOWNLOAD).read_to_vec();
        Ok((bytes.map_err(|error| error.to_string())?, size))
    };
    let wrong = |error: BlobError| error.to_string();
    let (mut bytes, size) = part(0)?;
    let Begin::Send { upload, .. } = store.begin(name, size).map_err(wrong)? else { return Ok(()) };
    let mut has = 0;
    while has < size {
        if has > 0 {
            bytes = part(has)?.0;
        }
        if bytes.is_empty() {
            return Err("nimbus has less of the blob than it says".into());
        }
        has = store.chunk(upload, has, std::mem::take(&mut bytes)).map_err(wrong)?;
    }
    store.finish(upload).map(drop).map_err(wrong)
}

/// 128 random bits.
pub(super) fn random_hex() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
