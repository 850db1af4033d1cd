//! The socket itself. Frames are put into one buffer and written together, so a batch of
//! launches is one system call; what comes in is handed on in order.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, anyhow, bail};
use procession_core::frame::{Decoder, Hello, Message, ToKeeper, ToServer};
use procession_keeper::fault;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::held::{Arrivals, HeldTable};

/// What the keeper gives a new server.
pub struct Greeting {
    /// Facts of keeper and machine.
    pub hello: Hello,
    /// The listening sockets, in the order of `hello.listeners`.
    pub listeners: Vec<OwnedFd>,
    /// What is to stay open as long as this process: the lock of the data directory.
    pub held: Vec<OwnedFd>,
    carrier: Carrier,
}

/// The socket after the greeting, with what came beyond it.
pub struct Carrier {
    socket: StdStream,
    decoder: Decoder<ToServer>,
    arrivals: Arrivals,
}

/// Reads the keeper's first frame; blocks until it is there.
pub fn greet(socket: StdStream) -> anyhow::Result<Greeting> {
    let mut carrier = Carrier { socket, decoder: Decoder::default(), arrivals: Arrivals::default() };
    // Not shown: frames hold what programs wrote.
    let no_greeting = || anyhow!("the keeper's first frame is no greeting");
    match carrier.hear().context("the keeper's greeting cannot be read")? {
        Some(ToServer::Hello(hello)) => {
            let named = hello.listeners.len() + hello.held as usize;
            let given = carrier.arrivals.take(named).filter(|_| carrier.arrivals.is_empty());
            let mut listeners = given.ok_or_else(no_greeting)?;
            let held = listeners.split_off(hello.listeners.len());
            Ok(Greeting { hello, listeners, held, carrier })
        }
        Some(_) => Err(no_greeting()),
        None => bail!("the keeper closed its socket before its greeting"),
    }
}

impl Carrier {
    fn hear(&mut self) -> anyhow::Result<Option<ToServer>> {
        let Self { socket, decoder, arrivals } = self;
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = decoder.next()? {
                return Ok(Some(frame));
            }
            let received = procession_keeper::control::receive_all(&*socket, &mut buffer, &mut arrivals.fds)?;
            if received.bytes == 0 {
                return Ok(None);
            }
            arrivals.arrived(received.truncated);
            decoder.feed(&buffer[..received.bytes]);
        }
    }
}

/// Frames to the keeper.
#[derive(Debug, Default)]
pub struct KeeperLink {
    outgoing: Mutex<Outgoing>,
    wake: Notify,
    /// How many frames are on the socket.
    written: watch::Sender<u64>,
    /// For the keeper's death.
    pub held: HeldTable,
    gone: AtomicBool,
}

#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    /// How many were ever put in.
    frames: u64,
}

impl KeeperLink {
    /// Puts a frame into the buffer; never waits. Frames arrive in the order of the calls.
    pub fn send(&self, frame: &ToKeeper) {
        let mut outgoing = self.lock();
        frame.encode(&mut outgoing.bytes);
        outgoing.frames += 1;
        drop(outgoing);
        self.wake.notify_one();
    }

    /// Returns once all that was sent before is on the socket.
    pub async fn written(&self) {
        let sent = self.lock().frames;
        // The sender is part of `self`, which outlives the wait.
        let _ = self.written.subscribe().wait_for(|written| *written >= sent).await;
    }

    /// The keeper is dead, or has hung up: nothing that is sent reaches anybody.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries frames both ways until the keeper is gone, or the server stops and all is
    /// said. `inbox` gets what comes in.
    pub async fn run(
        &self,
        carrier: Carrier,
        inbox: mpsc::UnboundedSender<ToServer>,
        stopping: &CancellationToken,
    ) -> io::Result<()> {
        let Carrier { socket, decoder, arrivals } = carrier;
        socket.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(socket)?.into_split();
        let mut reading = std::pin::pin!(self.read(reader, decoder, arrivals, inbox));
        let written = tokio::select! {
            end = &mut reading => return end,
            end = self.write(writer, stopping) => end,
        };
        match written {
            Ok(()) => Ok(()),
            // It hears nothing more; what it said before its death still counts.
            Err(_) => reading.await,
        }
    }

    /// Hands on what comes in, but for what is to be held. An end without an error is the
    /// keeper's.
    async fn read(
        &self,
        reader: OwnedReadHalf,
        mut decoder: Decoder<ToServer>,
        mut arrivals: Arrivals,
        inbox: mpsc::UnboundedSender<ToServer>,
    ) -> io::Result<()> {
        let mut buffer = vec![0u8; 256 * 1024];
        let socket = reader.as_ref();
        loop {
            while let Some(frame) = decoder.next().map_err(io::Error::other)? {
                if let Some(frame) = arrivals.sort(frame, &self.held)
                    && inbox.send(frame).is_err()
                {
                    return Ok(());
                }
            }
            reader.readable().await?;
            let receive =
                || procession_keeper::control::receive_all(socket.as_fd(), &mut buffer, &mut arrivals.fds);
            match socket.try_io(Interest::READABLE, receive) {
                Ok(received) if received.bytes == 0 => {
                    self.gone.store(true, Ordering::SeqCst);
                    return Ok(());
                }
                Ok(received) => {
                    arrivals.arrived(received.truncated);
                    decoder.feed(&buffer[..received.bytes]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.gone.store(true, Ordering::SeqCst);
                    return Err(error);
                }
            }
        }
    }

    async fn write(&self, mut writer: OwnedWriteHalf, stopping: &CancellationToken) -> io::Result<()> {
        loop {
            // Asked first: what was said before the end, the goodbye above all, is in `bytes`.
            let last = stopping.is_cancelled();
            let (bytes, frames) = {
                let mut outgoing = self.lock();
                (std::mem::take(&mut outgoing.bytes), outgoing.frames)
            };
            if !bytes.is_empty() {
                fault::point("link.before_write");
                writer.write_all(&bytes).await?;
                fault::point("link.after_write");
                self.written.send_replace(frames);
            } else if last {
                return Ok(());
            } else {
                stopping.run_until_cancelled(self.wake.notified()).await;
                // Whoever runs beside us may have more to say: let them, then write it all at once.
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Greeting {
    /// Says something before [`KeeperLink::run`] does; blocks.
    pub fn say(&mut self, frame: &ToKeeper) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.carrier.socket.write_all(&bytes)
    }

    /// The next frame; blocks. `None`: the keeper hung up.
    pub fn hear(&mut self) -> anyhow::Result<Option<ToServer>> {
        self.carrier.hear()
    }

    /// The listening sockets, what is to be held, and what [`KeeperLink::run`] takes.
    pub fn into_parts(self) -> (Vec<OwnedFd>, Vec<OwnedFd>, Carrier) {
        (self.listeners, self.held, self.carrier)
    }
}
