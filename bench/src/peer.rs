//! The other process of a row: this program again, with the socket or the shared memory between the two as its stdin.
//! Inherited, so there is no path or port to name; as stdin, so that no descriptor has to be believed by number.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::BenchError;
use crate::scenario::Link;

/// How long the other process may take to end.
const END_MAX: Duration = Duration::from_secs(10);

/// Both ends of a connected stream socket.
pub(crate) fn socket_pair(link: Link) -> Result<(OwnedFd, OwnedFd), BenchError> {
    let made = match link {
        Link::Tcp => tcp_pair(),
        _ => UnixStream::pair().map(|(a, b)| (a.into(), b.into())),
    };
    made.map_err(BenchError::io("could not connect two sockets"))
}

fn tcp_pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let a = TcpStream::connect(listener.local_addr()?)?;
    let (b, from) = listener.accept()?;
    if from != a.local_addr()? {
        return Err(std::io::Error::other("somebody else connected to the benchmark's port; run it again"));
    }
    a.set_nodelay(true)?;
    b.set_nodelay(true)?;
    Ok((a.into(), b.into()))
}

/// Starts this program with a hidden command.
pub(crate) fn spawn(command: &str, job: &impl Serialize, stdin: OwnedFd, stdout: Stdio) -> Result<Child, BenchError> {
    let this = std::env::current_exe().map_err(BenchError::io("could not find this program"))?;
    let job = serde_json::to_string(job).map_err(|e| BenchError::Peer(e.to_string()))?;
    let spawned = Command::new(this).arg(command).arg(job).stdin(Stdio::from(stdin)).stdout(stdout).spawn();
    spawned.map_err(BenchError::io("could not start the other process"))
}

/// In the other process: what its stdin is, a socket or shared memory.
pub(crate) fn inherited() -> Result<OwnedFd, BenchError> {
    std::io::stdin().as_fd().try_clone_to_owned().map_err(BenchError::io("the inherited descriptor"))
}

/// In the other process: what its stdout is, where that is not for text.
pub(crate) fn inherited_stdout() -> Result<OwnedFd, BenchError> {
    std::io::stdout().as_fd().try_clone_to_owned().map_err(BenchError::io("the inherited descriptor"))
}

/// In the other process: stdout as the stream it is.
pub(crate) fn inherited_control() -> Result<UnixStream, BenchError> {
    inherited_stdout().map(UnixStream::from)
}

/// Waits for the end of the other process; one that does not end is killed.
pub(crate) fn wait(child: &mut Child) -> Result<(), BenchError> {
    let deadline = Instant::now() + END_MAX;
    loop {
        match child.try_wait().map_err(BenchError::io("waiting for the other process"))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(BenchError::Peer(format!("ended with {status}, see its message above"))),
            None if Instant::now() > deadline => {
                kill(child);
                return Err(BenchError::Stuck("the other process", END_MAX.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Ends the other process after a failure here.
pub(crate) fn kill(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}
