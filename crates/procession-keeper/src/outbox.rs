//! Frames on their way to a server, and descriptors beside them.
//!
//! Descriptors go with the first byte of their frame, each frame's in a message of its own,
//! so they arrive in the order of the frames and never after them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use procession_core::frame::{Message, ToServer, image};

use crate::renew::{Given, Missing, Names};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Words {
    bytes: Vec<u8>,
    attached: VecDeque<Attached>,
}

/// Descriptors, and at which byte their frame begins.
#[derive(Debug)]
struct Attached {
    at: usize,
    fds: Vec<OwnedFd>,
}

/// What goes out in one message.
pub(crate) struct Part<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) fds: Vec<BorrowedFd<'a>>,
}

impl Words {
    pub(crate) fn say(&mut self, message: &ToServer) {
        message.encode(&mut self.bytes);
    }

    pub(crate) fn say_with(&mut self, message: &ToServer, fds: Vec<OwnedFd>) {
        self.attached.push_back(Attached { at: self.bytes.len(), fds });
        self.say(message);
    }

    /// Takes all that `later` has, behind what there is.
    pub(crate) fn append(&mut self, later: &mut Words) {
        let before = self.bytes.len();
        self.bytes.append(&mut later.bytes);
        let moved = later.attached.drain(..).map(|Attached { at, fds }| Attached { at: before + at, fds });
        self.attached.extend(moved);
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
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

    /// These, one behind the other, as the next program of the keeper gets them.
    pub(crate) fn to_image<'a>(
        parts: [Option<&'a Words>; 2],
        names: &mut Names<'a>,
    ) -> (Vec<u8>, Vec<image::Attached>) {
        let (mut bytes, mut attached) = (vec![], vec![]);
        for part in parts.into_iter().flatten() {
            for Attached { at, fds } in &part.attached {
                let fds = fds.iter().map(|fd| names.of(fd.as_fd())).collect();
                attached.push(image::Attached { at: (bytes.len() + at) as u64, fds });
            }
            bytes.extend_from_slice(&part.bytes);
        }
        (bytes, attached)
    }

    pub(crate) fn from_image(
        bytes: &[u8],
        attached: Vec<image::Attached>,
        given: &mut Given,
    ) -> Result<Self, Missing> {
        let each = |attached: image::Attached| {
            let fds = attached.fds.into_iter().map(|fd| given.take(fd));
            // Behind the end they go with nothing, as they must.
            let at = usize::try_from(attached.at).unwrap_or(usize::MAX).min(bytes.len());
            Ok(Attached { at, fds: fds.collect::<Result<_, _>>()? })
        };
        let attached = attached.into_iter().map(each).collect::<Result<_, _>>()?;
        Ok(Self { bytes: bytes.to_vec(), attached })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_go_with_the_first_byte_of_their_frame_and_with_no_other() {
        let null = || vec![crate::dev_null().expect("there")];
        let (mut words, mut news) = (Words::default(), Words::default());
        words.say(&ToServer::Ping);
        words.say_with(&ToServer::Ping, null());
        news.say_with(&ToServer::Ping, null());
        news.say(&ToServer::Ping);
        words.append(&mut news);
        assert!(news.is_empty() && news.attached.is_empty());
        let parts = |words: &Words| {
            let (mut parts, mut sent) = (vec![], 0);
            while sent < words.len() {
                let part = words.part(sent);
                parts.push((part.bytes.len(), part.fds.len()));
                sent += part.bytes.len();
            }
            parts
        };
        assert_eq!(parts(&words), [(5, 0), (5, 1), (10, 1)]);
        // Half a frame: its descriptors are gone with its first byte.
        words.went(7);
        assert_eq!(parts(&words), [(3, 0), (10, 1)]);
        words.went(3);
        assert_eq!(parts(&words), [(10, 1)]);
        words.went(10);
        assert!(words.attached.is_empty() && words.is_empty());
    }
}
