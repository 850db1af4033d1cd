//! The socket between keeper and server: bytes, and descriptors beside them.
//!
//! Used by both ends. Frames are `procession_core::frame`'s business; who may speak when is
//! the keeper's `server` module and the program's.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FileType;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Names the descriptor of the control socket in the server's environment.
pub const CONTROL_FD: &str = "PROCESSION_CONTROL_FD";

/// The most descriptors that travel in one message: what the kernel takes.
pub const MAX_DESCRIPTORS: usize = 253;

/// The most listeners: beside them a greeting carries what is to be held.
pub(crate) const MAX_LISTENERS: usize = 128;

/// Why a process has no control socket.
#[derive(Debug, thiserror::Error)]
pub enum NoControlSocket {
    /// This process was not started by a keeper.
    #[error("{CONTROL_FD} is not set: not started by a keeper")]
    NotSet,
    /// The variable does not name an open socket.
    #[error("{CONTROL_FD} does not name a socket")]
    NotASocket,
    /// It was taken before: there is only one.
    #[error("the control socket was taken already")]
    Taken,
}

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The server's end of the control socket, from the environment: blocking, close-on-exec.
/// Gives it once; call it before other code may have closed or opened descriptors. From then on
/// this process ignores what is meant for the keeper: who signals every process of this name
/// (`pkill -HUP`) asks for one reload.
pub fn take_control_socket() -> Result<UnixStream, NoControlSocket> {
    let number = std::env::var(CONTROL_FD).map_err(|_| NoControlSocket::NotSet)?;
    let number: i32 = number.parse().map_err(|_| NoControlSocket::NotASocket)?;
    if number < 3 {
        return Err(NoControlSocket::NotASocket);
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(NoControlSocket::Taken);
    }
    // SAFETY: not -1; only looked at, and only while this function runs.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let stat = rustix::fs::fstat(borrowed).map_err(|_| NoControlSocket::NotASocket)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(NoControlSocket::NotASocket);
    }
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)
        .map_err(|_| NoControlSocket::NotASocket)?;
    crate::sys::signals::ignore(&[libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2]);
    // SAFETY: open (fstat said so), handed to this process by the keeper for this purpose,
    // and taken once (`TAKEN`).
    let socket = unsafe { OwnedFd::from_raw_fd(borrowed.as_raw_fd()) };
    Ok(UnixStream::from(socket))
}

/// Sends some of `bytes`, all of `fds` with the first of them. How many bytes went is
/// returned: what is left is sent without descriptors.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> std::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// What came in one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes; 0: the other end is closed.
    pub bytes: usize,
    /// Descriptors that came with them are missing: this process may open no more. Which they
    /// were is not known.
    pub truncated: bool,
}

/// Receives bytes into `buffer` and descriptors, close-on-exec, onto `fds`. 0: the other
/// end is closed.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> std::io::Result<usize> {
    receive_all(socket, buffer, fds).map(|received| received.bytes)
}

/// The same, for who has to know whether all descriptors are there.
pub fn receive_all(
    socket: impl AsFd,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> std::io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(buffer)];
    let received = recvmsg(socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let truncated = received.flags.contains(ReturnFlags::CTRUNC);
    Ok(Received { bytes: received.bytes, truncated })
}
