//! One connection, byte by byte: for requests that are malformed, slow or cut off, and for
//! answers that come as they are made.

use std::io::{self, BufRead, BufReader, Read, Write};

use super::address::{Address, Stream};
use super::response::Response;

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<Stream>,
    rest: Rest,
}

/// How much of an answer's body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Length(u64),
    /// Bytes left of the chunk that is being read.
    Chunked(u64),
    UntilClose,
}

impl Connection {
    /// A new one.
    #[track_caller]
    pub fn open(address: &Address) -> Self {
        Self::try_open(address).expect("the server accepts")
    }

    /// A new one, or why not.
    pub fn try_open(address: &Address) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(address.connect()?), rest: Rest::Length(0) })
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// One whole answer.
    pub fn response(&mut self) -> io::Result<Response> {
        self.answer(false)
    }

    pub(super) fn answer(&mut self, to_head: bool) -> io::Result<Response> {
        let mut response = self.head()?;
        if to_head {
            self.rest = Rest::Length(0);
        }
        self.read_to_end(&mut response.body)?;
        Ok(response)
    }

    /// Status and headers; the body is then read from this connection.
    pub fn head(&mut self) -> io::Result<Response> {
        let status_line = self.head_line()?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {status_line:?}")))?;
        let mut response = Response { status, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = self.head_line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            response.headers.push((name.to_ascii_lowercase(), value.trim().into()));
        }
        let length = response.header("content-length").and_then(|length| length.parse().ok());
        self.rest = match (length, response.header("transfer-encoding")) {
            (Some(length), _) => Rest::Length(length),
            (None, Some("chunked")) => Rest::Chunked(0),
            _ if matches!(status, 100..=199 | 204 | 304) => Rest::Length(0),
            _ => Rest::UntilClose,
        };
        Ok(response)
    }

    fn head_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().into())
    }

    /// The next line of the body; `None` at its end.
    pub fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.read(&mut byte)? == 1 {
            if byte[0] == b'\n' {
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            line.push(byte[0]);
        }
        Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
    }

    /// Whether the server has closed it, having said no more.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.fill_buf(), Ok(bytes) if bytes.is_empty())
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let mut size = self.head_line()?;
        if size.is_empty() {
            // The line end behind the chunk before.
            size = self.head_line()?;
        }
        let size = u64::from_str_radix(&size, 16).map_err(io::Error::other)?;
        self.rest = if size == 0 { Rest::Length(0) } else { Rest::Chunked(size) };
        Ok(())
    }
}

/// The body of the answer whose head was read last.
impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest == Rest::Chunked(0) {
            self.next_chunk()?;
        }
        let most = match self.rest {
            Rest::Length(left) | Rest::Chunked(left) => left.min(buffer.len() as u64) as usize,
            Rest::UntilClose => buffer.len(),
        };
        if most == 0 {
            // A buffered reader would wait for bytes even where none are asked for.
            return Ok(0);
        }
        let read = self.stream.read(&mut buffer[..most])?;
        if read == 0 && self.rest != Rest::UntilClose {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &mut self.rest {
            Rest::Length(left) | Rest::Chunked(left) => *left -= read as u64,
            Rest::UntilClose => {}
        }
        Ok(read)
    }
}
