//! Descriptors beside words: which bytes of the outbox they travel with.
//!
//! They go with the first byte of their frame, each frame's in a message of its own, so they
//! arrive in the order of the frames and never after them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use procession_core::frame::{Message, ToServer, image};

use crate::renew::{Given, Missing, Names};
use crate::world::Outbox;

/// Descriptors, and at which byte of what is not sent their frame begins.
#[derive(Debug)]
pub(crate) struct Attached {
    at: usize,
    fds: Vec<OwnedFd>,
}

/// What goes out in one message.
pub(crate) struct Part<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) fds: Vec<BorrowedFd<'a>>,
}

impl Outbox {
    /// Says it to a server, if there is one, with these descriptors.
    pub(crate) fn say_with(&mut self, message: &ToServer, fds: Vec<OwnedFd>) {
        if self.open {
            self.attached.push_back(Attached { at: self.bytes.len(), fds });
            message.encode(&mut self.bytes);
        }
    }

    /// What goes next, behind the first `sent` bytes.
    pub(crate) fn part(&self, sent: usize) -> Part<'_> {
        let mut ahead = self.attached.iter().skip_while(|attached| attached.at < sent).peekable();
        let beside = ahead.next_if(|attached| attached.at == sent);
        let end = ahead.peek().map_or(self.bytes.len(), |next| next.at);
        let fds = beside.map(|attached| attached.fds.iter().map(AsFd::as_fd).collect());
        Part { bytes: &self.bytes[sent..end], fds: fds.unwrap_or_default() }
    }

    /// The first `sent` bytes are gone, and what travelled with them.
    pub(crate) fn went(&mut self, sent: usize) {
        self.bytes.drain(..sent);
        while self.attached.front().is_some_and(|attached| attached.at < sent) {
            self.attached.pop_front();
        }
        for attached in &mut self.attached {
            attached.at -= sent;
        }
    }
}

pub(crate) type Queue = VecDeque<Attached>;

pub(crate) fn to_image<'a>(attached: &'a Queue, names: &mut Names<'a>) -> Vec<image::Attached> {
    let each = |attached: &'a Attached| image::Attached {
        at: attached.at as u64,
        fds: attached.fds.iter().map(|fd| names.of(fd.as_fd())).collect(),
    };
    attached.iter().map(each).collect()
}

pub(crate) fn from_image(attached: Vec<image::Attached>, given: &mut Given) -> Result<Queue, Missing> {
    let each = |attached: image::Attached| {
        let fds = attached.fds.into_iter().map(|fd| given.take(fd));
        let at = usize::try_from(attached.at).unwrap_or(usize::MAX);
        Ok(Attached { at, fds: fds.collect::<Result<_, _>>()? })
    };
    attached.into_iter().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_go_with_the_first_byte_of_their_frame_and_with_no_other() {
        let mut outbox = Outbox::default();
        outbox.reset(true);
        let null = || vec![crate::dev_null().expect("there")];
        outbox.say(&ToServer::Ping);
        outbox.say_with(&ToServer::Ping, null());
        outbox.say_with(&ToServer::Ping, null());
        outbox.say(&ToServer::Ping);
        let parts = |outbox: &Outbox, mut sent: usize| {
            let mut parts = vec![];
            while sent < outbox.bytes.len() {
                let part = outbox.part(sent);
                parts.push((part.bytes.len(), part.fds.len()));
                sent += part.bytes.len();
            }
            parts
        };
        assert_eq!(parts(&outbox, 0), [(5, 0), (5, 1), (10, 1)]);
        // Half a frame: its descriptors are gone with its first byte.
        outbox.went(7);
        assert_eq!(parts(&outbox, 0), [(3, 0), (10, 1)]);
        outbox.went(3);
        assert_eq!(parts(&outbox, 0), [(10, 1)]);
        outbox.went(10);
        assert!(outbox.attached.is_empty() && outbox.bytes.is_empty());
    }
}
