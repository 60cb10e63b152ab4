//! What supervisors say to each other over TCP: how their workers are, and sockets for those workers.
//!
//! Every connection begins with an authenticated hello, whoever it is for:
//! ```text
//!   callee   challenge (32 bytes)
//!   caller   length u32, hello (JSON), HMAC(key, "call", challenge, hello)
//!   callee   length u32, answer (JSON), HMAC(key, "answer", challenge, hello, answer)
//! ```
//! The key is the token of the cluster, which itself never travels here; the challenge is random, so what was heard is of no use again. Until
//! the code was checked at most [`HELLO_MAX`] bytes are read, and nothing of them is parsed; who is not through in [`HELLO_WAIT`] is dropped.
//!
//! Then the connection is one of two things. A *line* carries accounts ([`Account`]) one way, each replacing the one before it, with empty frames
//! between them as signs of life. A *link* is a socket between two reactors: nothing more is read from it here, and each end goes to its worker.
//!
//! Deliberately absent: encryption. Between hosts the network has to be trusted not to be listened to, or to be written to by others.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use squall_tuple::batch::header::VERSION as BATCH_VERSION;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::Event;
use super::hosts::Pair;
use super::mac::{MAC_BYTES, mac};
use crate::cluster::talk::PROTOCOL;
use crate::run::sockets::Ends;

/// Bytes of a hello or an answer, at most.
const HELLO_MAX: usize = 4 << 10;
/// How long a hello may take.
const HELLO_WAIT: Duration = Duration::from_secs(2);
/// Strangers that may be saying hello at once; more wait to be accepted.
const STRANGERS: usize = 256;
/// Bytes of an account, at most.
const ACCOUNT_MAX: u32 = 16 << 20;
/// Between two signs of life on a line, and how long none may come before it is given up.
const PING_EVERY: Duration = Duration::from_millis(500);
const SILENCE: Duration = Duration::from_secs(3);
/// Between two attempts to have a line: first, and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
const CHALLENGE_BYTES: usize = 32;

/// What a caller says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Of the words between supervisors and workers, and of what travels on a link.
    pub(super) protocol: u32,
    pub(super) batch: u8,
    /// The supervisor that calls.
    pub(super) node: String,
    pub(super) ask: Ask,
}

/// What a connection is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    Line,
    Link(LinkAsk),
}

/// A socket between two reactors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkAsk {
    pub(super) topology: String,
    /// Hash of the plan: tasks, schemas and everything else that both ends have to agree on.
    pub(super) plan: u64,
    /// The worker of the caller, and its life.
    pub(super) from: (u32, u32),
    /// The worker of the callee, and its life.
    pub(super) to: (u32, u32),
    /// How often these two were linked, with this time.
    pub(super) joins: u32,
    /// The reactors, the lower one first.
    pub(super) reactors: (u32, u32),
    /// Sockets of the same attempt: only all of them together are of use.
    pub(super) attempt: u64,
    pub(super) sockets: u32,
}

/// What a callee says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Yes,
    No(Refused),
}

/// Why a connection is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the token of this cluster is another one: give both supervisors the same --token-file")]
    Key,
    #[error(
        "it speaks version {protocol} of the protocol and {batch} of the batch format: bring both to one version of Squall"
    )]
    Version { protocol: u32, batch: u8 },
    #[error("it does not know of these workers, yet or any more")]
    Unknown,
    #[error(
        "its workers have another plan: let the topology function depend on its arguments only, not on time, chance or files that differ"
    )]
    Plan,
    #[error("the calling worker is of an old life: its next one is {0}")]
    Old(u32),
    #[error("the worker that is called is in another life: {0}")]
    Life(u32),
    #[error("these two were linked {0} times already")]
    Joins(u32),
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Refused(Refused),
    #[error("what answers there is no supervisor of this cluster")]
    Stranger,
}

/// How the workers of a node are, as far as one other node is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(super) node: String,
    pub(super) topologies: Vec<TopologyAccount>,
}

/// A topology in an [`Account`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopologyAccount {
    pub(super) topology: String,
    pub(super) plan: u64,
    /// Those that have their places. Who is not here is dead, or was never there.
    pub(super) workers: Vec<WorkerAccount>,
}

/// A worker in an [`Account`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerAccount {
    pub(super) worker: u32,
    pub(super) life: u32,
    /// Its links that have ended, by worker of the node that is told: how often they had been made.
    pub(super) broken: Vec<(u32, u32)>,
}

/// Who this supervisor is.
#[derive(Clone)]
pub(super) struct Me {
    pub(super) node: String,
    pub(super) key: Arc<[u8]>,
}

impl Me {
    fn hello(&self, ask: Ask) -> Hello {
        Hello { protocol: PROTOCOL, batch: BATCH_VERSION, node: self.node.clone(), ask }
    }

    fn call_mac(&self, challenge: &[u8], hello: &[u8]) -> [u8; MAC_BYTES] {
        mac(&self.key, &[b"call", challenge, hello])
    }

    fn answer_mac(&self, challenge: &[u8], hello: &[u8], answer: &[u8]) -> [u8; MAC_BYTES] {
        mac(&self.key, &[b"answer", challenge, &(hello.len() as u32).to_le_bytes(), hello, answer])
    }
}

/// One message of a hello with its code: length, text, code.
fn sealed(text: &[u8], code: [u8; MAC_BYTES]) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes()[..], text, &code].concat()
}

async fn read_sealed(stream: &mut TcpStream) -> io::Result<(Vec<u8>, [u8; MAC_BYTES])> {
    let len = stream.read_u32_le().await? as usize;
    if len > HELLO_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a hello of that length is none of ours"));
    }
    let (mut text, mut code) = (vec![0; len], [0; MAC_BYTES]);
    stream.read_exact(&mut text).await?;
    stream.read_exact(&mut code).await?;
    Ok((text, code))
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::from_slice(text).ok()
}

/// Calls a supervisor.
async fn call(address: &str, me: &Me, ask: Ask) -> Result<TcpStream, CallError> {
    let late = |_| CallError::Io(io::ErrorKind::TimedOut.into());
    timeout(HELLO_WAIT, call_now(address, me, &me.hello(ask))).await.map_err(late)?
}

async fn call_now(address: &str, me: &Me, hello: &Hello) -> Result<TcpStream, CallError> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut challenge = [0; CHALLENGE_BYTES];
    stream.read_exact(&mut challenge).await?;
    let hello = serde_json::to_vec(hello).map_err(io::Error::other)?;
    stream.write_all(&sealed(&hello, me.call_mac(&challenge, &hello))).await?;
    let (answer, code) = read_sealed(&mut stream).await?;
    let ours = equal(&code, &me.answer_mac(&challenge, &hello, &answer));
    match parse::<Answer>(&answer) {
        Some(Answer::No(Refused::Key)) => Err(CallError::Refused(Refused::Key)),
        Some(Answer::Yes) if ours => Ok(stream),
        Some(Answer::No(why)) if ours => Err(CallError::Refused(why)),
        _ => Err(CallError::Stranger),
    }
}

fn equal(a: &[u8], b: &[u8]) -> bool {
    crate::cluster::api::equal(a, b)
}

/// Takes calls for as long as the driver listens.
///
/// # Errors
/// The socket cannot be used.
pub(super) fn serve(listener: TcpListener, me: Me, tell: UnboundedSender<Event>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(async move {
        let strangers = Arc::new(tokio::sync::Semaphore::new(STRANGERS));
        let mut next_line = 0;
        loop {
            let Ok(permit) = strangers.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, most likely.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (me, tell) = (me.clone(), tell.clone());
            next_line += 1;
            let number = next_line;
            tokio::spawn(async move {
                let greeted = timeout(HELLO_WAIT, greet(stream, &me, &tell)).await;
                drop(permit);
                // What goes wrong here is told to the caller, or is a stranger's.
                if let Ok(Ok(Some((node, stream)))) = greeted {
                    let _ = hear(number, &node, stream, &tell).await;
                }
            });
        }
    });
    Ok(())
}

/// The hello of a caller. A link goes to the driver, a line comes back.
async fn greet(
    mut stream: TcpStream,
    me: &Me,
    tell: &UnboundedSender<Event>,
) -> io::Result<Option<(String, TcpStream)>> {
    stream.set_nodelay(true)?;
    let challenge = crate::cluster::client::random_hex()?;
    let challenge = challenge.as_bytes();
    debug_assert_eq!(challenge.len(), CHALLENGE_BYTES);
    stream.write_all(challenge).await?;
    let (text, code) = read_sealed(&mut stream).await?;
    let genuine = equal(&code, &me.call_mac(challenge, &text));
    let hello = if genuine { parse::<Hello>(&text) } else { None };
    let ours = |hello: &Hello| (hello.protocol, hello.batch) == (PROTOCOL, BATCH_VERSION);
    let answer = match &hello {
        None if genuine => Answer::No(Refused::Version { protocol: PROTOCOL, batch: BATCH_VERSION }),
        None => Answer::No(Refused::Key),
        Some(hello) if !ours(hello) => Answer::No(Refused::Version { protocol: PROTOCOL, batch: BATCH_VERSION }),
        Some(Hello { ask: Ask::Line, .. }) => Answer::Yes,
        Some(Hello { ask: Ask::Link(ask), node, .. }) => {
            let (reply, verdict) = oneshot::channel();
            let _ = tell.send(Event::Knock { node: node.clone(), ask: ask.clone(), reply });
            verdict.await.unwrap_or(Answer::No(Refused::Unknown))
        }
    };
    let said = serde_json::to_vec(&answer).map_err(io::Error::other)?;
    stream.write_all(&sealed(&said, me.answer_mac(challenge, &text, &said))).await?;
    match hello {
        Some(Hello { ask: Ask::Line, node, .. }) if answer == Answer::Yes => Ok(Some((node, stream))),
        Some(Hello { ask: Ask::Link(ask), node, .. }) if answer == Answer::Yes => {
            let _ = tell.send(Event::Linked { node, ask, fd: released(stream)? });
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// A socket as the engine takes it.
fn released(stream: TcpStream) -> io::Result<OwnedFd> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream.into())
}

/// Hears accounts until the line ends, makes no sense, or falls silent.
async fn hear(line: u64, node: &str, mut stream: TcpStream, tell: &UnboundedSender<Event>) -> io::Result<()> {
    loop {
        let len = timeout(SILENCE, stream.read_u32_le()).await??;
        if len == 0 {
            continue;
        }
        if len > ACCOUNT_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // It grows with what has come, whatever was announced.
        let mut text = Vec::new();
        timeout(SILENCE, (&mut stream).take(u64::from(len)).read_to_end(&mut text)).await??;
        let account: Account = parse(&text).filter(|_| text.len() == len as usize).ok_or(io::ErrorKind::InvalidData)?;
        if account.node != node || tell.send(Event::Account { line, account }).is_err() {
            return Ok(());
        }
    }
}

/// What the task of a line is told: where the other one is, and the account that it is to have.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Telling {
    pub(super) address: String,
    pub(super) account: Arc<Account>,
}

/// Keeps a line to a node for as long as the other end of the channel is there.
pub(super) fn keep_line(me: Me, mut telling: watch::Receiver<Telling>, tell: UnboundedSender<Event>) {
    tokio::spawn(async move {
        let mut pause = PAUSES[0];
        loop {
            let address = telling.borrow_and_update().address.clone();
            let cause = match call(&address, &me, Ask::Line).await {
                Ok(stream) => {
                    pause = PAUSES[0];
                    match speak(stream, &mut telling, &address).await {
                        Some(cause) => cause.to_string(),
                        None if telling.has_changed().is_err() => return,
                        None => continue,
                    }
                }
                Err(cause) => cause.to_string(),
            };
            if tell.send(Event::LineFailed { address, cause }).is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = telling.changed() => if changed.is_err() { return },
            }
            pause = (pause * 2).min(PAUSES[1]);
        }
    });
}

/// Says the account, and each one that follows, until the other node is elsewhere or nobody has anything to say. An error ends it too.
async fn speak(stream: TcpStream, telling: &mut watch::Receiver<Telling>, address: &str) -> Option<io::Error> {
    // A node that was cut off is noticed by what it does not take; links have other means, since they may wait long for good reason.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, SILENCE.as_millis() as u32);
    let (mut back, mut stream) = stream.into_split();
    loop {
        let account = {
            let now = telling.borrow_and_update();
            if now.address != address {
                return None;
            }
            now.account.clone()
        };
        let text = serde_json::to_vec(&*account).expect("plain data");
        let frame = [&(text.len() as u32).to_le_bytes()[..], &text].concat();
        if let Err(error) = stream.write_all(&frame).await {
            return Some(error);
        }
        loop {
            tokio::select! {
                changed = telling.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                    break;
                }
                // Nothing is ever said there: it ends with the other supervisor.
                end = back.read_u8() => return Some(end.err().unwrap_or_else(|| io::ErrorKind::InvalidData.into())),
                () = tokio::time::sleep(PING_EVERY) => {
                    if let Err(error) = stream.write_all(&[0; 4]).await {
                        return Some(error);
                    }
                }
            }
        }
    }
}

/// Makes all sockets of an attempt, and says what became of it.
pub(super) fn make(me: Me, address: String, pair: Pair, asks: Vec<LinkAsk>, tell: UnboundedSender<Event>) {
    tokio::spawn(async move {
        let Some(first) = asks.first().cloned() else { return };
        let made = make_all(&me, &address, asks).await;
        let _ = tell.send(Event::Made { pair, ask: first, made });
    });
}

async fn make_all(me: &Me, address: &str, asks: Vec<LinkAsk>) -> Result<Ends, CallError> {
    let mut ends = Vec::with_capacity(asks.len());
    for ask in asks {
        let reactors = ask.reactors;
        let stream = call(address, me, Ask::Link(ask)).await?;
        ends.push((reactors, released(stream)?));
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn me(node: &str, key: &str) -> Me {
        Me { node: node.into(), key: key.as_bytes().into() }
    }

    /// A supervisor that listens: its address, and what its driver hears.
    fn callee() -> (String, UnboundedReceiver<Event>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (tell, events) = unbounded_channel();
        serve(listener, me("b", "key"), tell).expect("it listens");
        (address, events)
    }

    fn ask() -> LinkAsk {
        let (topology, from, to) = ("t-1".into(), (0, 1), (1, 2));
        LinkAsk { topology, plan: 7, from, to, joins: 1, reactors: (0, 1), attempt: 1, sockets: 1 }
    }

    #[tokio::test]
    async fn accounts_arrive_in_order_from_who_has_the_key() {
        let (address, mut events) = callee();
        let account = |n: u64| {
            let topologies = vec![TopologyAccount { topology: "t-1".into(), plan: n, workers: Vec::new() }];
            Arc::new(Account { node: "a".into(), topologies })
        };
        let (line, telling) = watch::channel(Telling { address: address.clone(), account: account(1) });
        let (tell, _own) = unbounded_channel();
        keep_line(me("a", "key"), telling, tell);
        for n in 1..=2 {
            let Some(Event::Account { line: 1, account: heard }) = events.recv().await else { panic!("account {n}") };
            assert_eq!(heard, *account(n));
            line.send_replace(Telling { address: address.clone(), account: account(n + 1) });
        }
    }

    #[tokio::test]
    async fn who_has_another_key_or_speaks_for_another_node_is_not_heard() {
        let (address, mut events) = callee();
        let refused = call(&address, &me("a", "kex"), Ask::Link(ask())).await;
        assert!(matches!(refused, Err(CallError::Refused(Refused::Key))), "{refused:?}");
        let mut stream = call(&address, &me("a", "key"), Ask::Line).await.expect("it is let in");
        let text = serde_json::to_vec(&Account { node: "c".into(), topologies: Vec::new() }).expect("plain data");
        stream.write_all(&sealed(&text, [0; MAC_BYTES])[..4 + text.len()]).await.expect("it is open");
        assert_eq!(stream.read(&mut [0; 1]).await.expect("it is closed in order"), 0);
        assert!(events.try_recv().is_err(), "nothing of it got anywhere");
    }

    #[tokio::test]
    async fn a_hello_that_was_overheard_opens_nothing() {
        let (address, mut events) = callee();
        let honest = me("a", "key");
        let hello = serde_json::to_vec(&honest.hello(Ask::Line)).expect("plain data");
        let overheard = sealed(&hello, honest.call_mac(&[b'0'; CHALLENGE_BYTES], &hello));
        let mut stream = TcpStream::connect(&address).await.expect("it listens");
        stream.read_exact(&mut [0; CHALLENGE_BYTES]).await.expect("a challenge");
        stream.write_all(&overheard).await.expect("it is open");
        let (answer, _) = read_sealed(&mut stream).await.expect("an answer");
        assert_eq!(parse(&answer), Some(Answer::No(Refused::Key)));
        assert!(events.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_length_sizes_nothing_and_nonsense_is_dropped() {
        let (address, _events) = callee();
        let mut stream = TcpStream::connect(&address).await.expect("it listens");
        stream.read_exact(&mut [0; CHALLENGE_BYTES]).await.expect("a challenge");
        stream.write_all(&u32::MAX.to_le_bytes()).await.expect("it is open");
        assert_eq!(stream.read(&mut [0; 1]).await.expect("it is closed in order"), 0);
    }

    #[tokio::test]
    async fn another_version_is_refused_by_name() {
        let (address, _events) = callee();
        for (protocol, batch) in [(PROTOCOL + 1, BATCH_VERSION), (PROTOCOL, BATCH_VERSION + 1)] {
            let hello = Hello { protocol, batch, node: "a".into(), ask: Ask::Line };
            let refused = call_now(&address, &me("a", "key"), &hello).await.expect_err("it is refused");
            assert!(refused.to_string().contains("bring both to one version of Squall"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_link_that_is_welcome_joins_both_ends_and_one_that_is_not_says_why() {
        let (address, mut events) = callee();
        let (tell, mut own) = unbounded_channel();
        for verdict in [Answer::No(Refused::Old(9)), Answer::Yes] {
            make(me("a", "key"), address.clone(), (1, 0, 1), vec![ask()], tell.clone());
            let Some(Event::Knock { node, ask: heard, reply }) = events.recv().await else { panic!("nobody knocks") };
            assert_eq!((node.as_str(), heard), ("a", ask()));
            reply.send(verdict.clone()).expect("it is waited for");
            let Some(Event::Made { pair: (1, 0, 1), made, .. }) = own.recv().await else {
                panic!("nothing came of it")
            };
            match (verdict, made) {
                (Answer::No(why), Err(CallError::Refused(said))) => assert_eq!(said, why),
                (Answer::Yes, Ok(mut ends)) => {
                    let Some(Event::Linked { fd, .. }) = events.recv().await else { panic!("there is no other end") };
                    let (reactors, near) = ends.pop().expect("one was asked for");
                    assert_eq!(reactors, (0, 1));
                    std::io::Write::write_all(&mut std::fs::File::from(near), b"x").expect("it is open");
                    let mut byte = [0];
                    std::io::Read::read_exact(&mut std::fs::File::from(fd), &mut byte).expect("it is open");
                    assert_eq!(&byte, b"x");
                }
                (verdict, made) => panic!("{verdict:?} became {made:?}"),
            }
        }
    }
}
