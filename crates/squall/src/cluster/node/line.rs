//! The connection of one worker: a task that carries frames, and the handle by which the driver speaks.

use std::os::fd::OwnedFd;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Event;
use crate::cluster::talk::{FromSeat, ToSeat};
use crate::run::channel::{Reader, Received, Writer, split};
use crate::run::control::{Frame, encode_message};

/// A frame, and the descriptors beside it.
type Parcel = (Bytes, Vec<OwnedFd>);

/// How the driver speaks to a worker. Dropped, the connection ends when all is said.
pub(super) struct Line {
    /// The process at the other end, as the kernel says.
    pub(super) pid: Option<u32>,
    out: UnboundedSender<Parcel>,
}

impl Line {
    /// Serves a connection that was accepted, under this number.
    pub(super) fn serve(id: u64, stream: std::os::unix::net::UnixStream, events: UnboundedSender<Event>) -> Line {
        let pid =
            rustix::net::sockopt::socket_peercred(&stream).ok().map(|cred| cred.pid.as_raw_nonzero().get() as u32);
        let (out, parcels) = unbounded_channel();
        tokio::spawn(async move {
            // However it ends, it has ended.
            let _ = carry(id, stream, parcels, &events).await;
            let _ = events.send(Event::LineClosed(id));
        });
        Line { pid, out }
    }

    /// Says something; a worker that is gone is noticed by its end, not here.
    pub(super) fn tell(&self, message: &ToSeat, fds: Vec<OwnedFd>) {
        let frame = encode_message(message).expect("a plan has far less than a frame's bytes");
        let _ = self.out.send((frame, fds));
    }
}

async fn carry(
    id: u64,
    stream: std::os::unix::net::UnixStream,
    mut parcels: UnboundedReceiver<Parcel>,
    events: &UnboundedSender<Event>,
) -> std::io::Result<()> {
    // One for readiness; bytes and descriptors go over the other.
    let ready = UnixStream::from_std(stream.try_clone()?)?;
    let (mut reader, mut writer) = split(stream.into());
    loop {
        tokio::select! {
            readable = ready.readable() => {
                readable?;
                match reader.receive(false)? {
                    Received::Some => {}
                    Received::Nothing => clear(&ready, Interest::READABLE),
                    Received::Closed => return Ok(()),
                }
                if !hear(id, &mut reader, events) {
                    return Ok(());
                }
            }
            parcel = parcels.recv() => match parcel {
                Some((frame, fds)) => {
                    writer.queue(frame, fds);
                    writer.flush_some()?;
                }
                None => return say_the_rest(&mut writer, &ready).await,
            },
            writable = ready.writable(), if writer.is_pending() => {
                writable?;
                writer.flush_some()?;
                if writer.is_pending() {
                    clear(&ready, Interest::WRITABLE);
                }
            }
        }
    }
}

async fn say_the_rest(writer: &mut Writer, ready: &UnixStream) -> std::io::Result<()> {
    while writer.is_pending() {
        ready.writable().await?;
        writer.flush_some()?;
        if writer.is_pending() {
            clear(ready, Interest::WRITABLE);
        }
    }
    Ok(())
}

/// The socket was not ready after all.
fn clear(ready: &UnixStream, interest: Interest) {
    let _ = ready.try_io(interest, || Err::<(), _>(std::io::ErrorKind::WouldBlock.into()));
}

/// Passes on what came. False: it makes no sense, and nothing that follows would.
fn hear(id: u64, reader: &mut Reader, events: &UnboundedSender<Event>) -> bool {
    loop {
        match reader.next::<FromSeat>() {
            Ok(Some(Frame::Message(message))) => {
                let fd = if matches!(message, FromSeat::Back(_)) { reader.take_fd() } else { None };
                let _ = events.send(Event::Said { line: id, message: Box::new(message), fd });
            }
            Ok(Some(Frame::Result(_))) | Err(_) => return false,
            Ok(None) => return true,
        }
    }
}
