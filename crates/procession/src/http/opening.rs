//! The first bytes of a connection, under a clock. Whether a client speaks HTTP/1 or 2 is
//! told by what it sends first, and hyper waits for that without bound; its own clock for a
//! request's head starts only then.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What an HTTP/2 client says first; HTTP/1 differs from it soon.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that is cut off if its first bytes do not come.
pub struct Opening<S> {
    stream: S,
    /// Gone once the client has said which protocol it speaks.
    clock: Option<Pin<Box<Sleep>>>,
    seen: usize,
}

impl<S> Opening<S> {
    /// Cuts `stream` off after `limit`.
    pub fn new(stream: S, limit: Duration) -> Self {
        Self { stream, clock: Some(Box::pin(sleep(limit))), seen: 0 }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let expected = &PREFACE[self.seen..PREFACE.len().min(self.seen + bytes.len())];
        self.seen += expected.len();
        if !bytes.starts_with(expected) || self.seen == PREFACE.len() {
            self.clock = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if let Some(clock) = &mut this.clock
            && clock.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if this.clock.is_some() {
            this.hear(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(parts: &[&[u8]]) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let _guard = runtime.enter();
        let mut opening = Opening::new((), Duration::from_secs(1));
        for part in parts {
            if opening.clock.is_some() {
                opening.hear(part);
            }
        }
        opening.clock.is_none()
    }

    #[test]
    fn the_clock_runs_until_the_protocol_is_known() {
        let silent = ["", "P", "PRI * HTTP/2.0\r\n", "PRI| * HTTP/2.0\r\n\r\nSM\r\n\r"];
        let spoken = [
            "GET",
            "PO",
            "P|OST",
            "PRIX",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "PRI| * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ];
        let parts = |text: &'static str| text.split('|').map(str::as_bytes).collect::<Vec<_>>();
        for text in silent {
            assert!(!decided(&parts(text)), "{text:?}");
        }
        for text in spoken {
            assert!(decided(&parts(text)), "{text:?}");
        }
    }
}
