//! The asker's side of the control socket: one question, one answer, each under a bound.
//!
//! Blocking, for the command line. What may be asked is `procession_core::frame::admin`; what
//! the keeper does with it `admin`'s business.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use procession_core::frame::admin::{Answer, Ask, Attach};
use procession_core::frame::{BadFrame, Decoder, Message};
use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// The socket's name in the keeper's folder.
pub(crate) const NAME: &str = "control";

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens at the socket, or there is none.
    #[error("no keeper answers")]
    Nobody,
    /// So many others wait to be let in that it was not connected to.
    #[error("too many others wait for the keeper")]
    Crowded,
    /// Not in time. It may have heard the question, or hear it yet.
    #[error("the keeper did not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// It hung up: it ended, or does not know the question.
    #[error("the keeper closed the connection without an answer; it may be of another version")]
    HungUp,
    /// The answer is not understood.
    #[error("the keeper's answer is not understood: {0}")]
    Strange(#[from] BadFrame),
    /// The socket cannot be reached or used.
    #[error("the keeper's control socket: {0}")]
    Socket(#[from] io::Error),
}

/// Asks the keeper whose files are in `state_dir`; waits for its answer for `patience`.
pub fn ask(state_dir: &Path, question: &Ask, patience: Duration) -> Result<Answer, AskError> {
    Conversation::open(state_dir, patience)?.ask(question, &[], patience)
}

/// A connection on which more may come than the first answer.
#[derive(Debug)]
pub struct Conversation {
    stream: UnixStream,
    decoder: Decoder<Answer>,
}

impl Conversation {
    /// Asks a keeper that is alone to serve again, on `listeners` in the order of the names
    /// in `attach`; what it and its servers say goes to `output` from then on, stdout first.
    /// Answered once the new server is ready.
    pub fn attach(
        state_dir: &Path,
        attach: Attach,
        listeners: &[OwnedFd],
        output: [BorrowedFd<'_>; 2],
        patience: Duration,
    ) -> Result<(Self, Answer), AskError> {
        let mut conversation = Self::open(state_dir, patience)?;
        let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).chain(output).collect();
        let answer = conversation.ask(&Ask::Attach(attach), &fds, patience)?;
        Ok((conversation, answer))
    }

    fn open(state_dir: &Path, patience: Duration) -> Result<Self, AskError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match rustix::fs::open(state_dir, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Err(AskError::Nobody),
            result => result.map_err(io::Error::from)?,
        };
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(io::Error::from)?;
        // A connect waits where too many others do.
        set_socket_timeout(&socket, Timeout::Send, Some(patience)).map_err(io::Error::from)?;
        match connect(&socket, &address(&folder)?) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => Err(AskError::Nobody),
            Err(rustix::io::Errno::AGAIN) => Err(AskError::Crowded),
            Err(errno) => Err(AskError::Socket(errno.into())),
            Ok(()) => Ok(Self { stream: socket.into(), decoder: Decoder::default() }),
        }
    }

    fn ask(
        &mut self,
        question: &Ask,
        fds: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<Answer, AskError> {
        let mut frame = vec![];
        question.encode(&mut frame);
        let mut sent = 0;
        while sent < frame.len() {
            let beside = if sent == 0 { fds } else { &[] };
            match crate::control::send(&self.stream, &frame[sent..], beside) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(AskError::Late(patience));
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(AskError::HungUp),
                Err(error) => return Err(error.into()),
            }
        }
        self.next(patience)
    }

    /// What the keeper says next.
    pub fn next(&mut self, patience: Duration) -> Result<Answer, AskError> {
        let until = Instant::now() + patience;
        loop {
            if let Some(answer) = self.decoder.next()? {
                return Ok(answer);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AskError::Late(patience));
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(AskError::HungUp),
                Ok(length) => self.decoder.feed(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(AskError::HungUp),
                Err(error) if is_to_be_tried_again(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_to_be_tried_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// The socket in `folder`, however long the folder's own path is: the kernel takes 107 bytes.
pub(crate) fn address(folder: &OwnedFd) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()))?)
}
