//! Just enough HTTP/1.1 to talk to the server under test: requests as bytes, answers with a
//! length. No chunks, no redirects, no TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// No single answer takes longer than this.
const PATIENCE: Duration = Duration::from_secs(70);

/// A request, ready to be sent as often as wanted.
#[derive(Clone, Debug)]
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// `headers` are whole lines without their ends.
    pub(crate) fn new(method: &str, path: &str, token: &str, headers: &[&str], body: &str) -> Self {
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n");
        for header in headers {
            text += &format!("{header}\r\n");
        }
        if !body.is_empty() {
            text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        text += body;
        Self(text.into_bytes())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Its body as JSON, if its status is `expected`.
    pub(crate) fn json(&self, expected: u16) -> io::Result<Value> {
        if self.status != expected {
            let body = String::from_utf8_lossy(&self.body);
            return Err(io::Error::other(format!("answered {} instead of {expected}: {body}", self.status)));
        }
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// The head of an answer: its status, where its body begins, and how long that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) begins: usize,
    pub(crate) length: usize,
}

/// Looks for a whole head; `None`: more must be read.
pub(crate) fn head(bytes: &[u8]) -> Option<Head> {
    let begins = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..begins]).ok()?;
    let mut lines = text.lines();
    let status = lines.next()?.split_whitespace().nth(1)?.parse().ok()?;
    let length = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Some(Head { status, begins, length: length.unwrap_or(0) })
}

/// A kept connection, one request at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request and reads its answer.
    pub(crate) fn call(&mut self, request: &Request) -> io::Result<Answer> {
        self.stream.write_all(request.bytes())?;
        self.buffer.clear();
        let mut chunk = [0u8; 16 * 1024];
        loop {
            if let Some(Head { status, begins, length }) = head(&self.buffer)
                && self.buffer.len() >= begins + length
            {
                return Ok(Answer { status, body: self.buffer[begins..begins + length].to_vec() });
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.buffer.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let whole = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";
        assert_eq!(head(whole), Some(Head { status: 202, begins: 50, length: 2 }));
        assert_eq!(head(&whole[..40]), None);
        assert_eq!(head(b"HTTP/1.1 204 No Content\r\n\r\n").map(|head| head.length), Some(0));
    }
}
