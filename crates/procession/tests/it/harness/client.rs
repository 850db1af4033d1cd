//! A client of one server, with or without its token. Each request has a connection of its own.

use std::io;

use super::address::Address;
use super::connection::Connection;
use super::request::Request;
use super::response::Response;

/// Who asks, and whom.
#[derive(Clone, Debug)]
pub struct Client {
    pub address: Address,
    pub token: Option<String>,
}

impl Client {
    /// Sends and takes the whole answer.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        self.try_send(request).expect("an answer")
    }

    /// Sends and takes the whole answer, if there is one.
    pub fn try_send(&self, request: &Request) -> io::Result<Response> {
        self.open(request)?.answer(request.is_head())
    }

    /// `GET` this target.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.send(&Request::get(target))
    }

    /// `POST` to this target, without a body.
    #[track_caller]
    pub fn post(&self, target: &str) -> Response {
        self.send(&Request::post(target))
    }

    /// Sends; the answer is read from the connection.
    pub fn open(&self, request: &Request) -> io::Result<Connection> {
        let mut connection = Connection::try_open(&self.address)?;
        // Who refuses early may close before it has read all.
        match connection.write(&self.bytes(request)) {
            Err(error) if !is_cut_off(&error) => Err(error),
            _ => Ok(connection),
        }
    }

    /// What the request is on the wire.
    pub fn bytes(&self, request: &Request) -> Vec<u8> {
        let mut defaults = vec![("Host", self.address.host()), ("Connection", "close".into())];
        defaults.extend(self.token.as_ref().map(|token| ("Authorization", format!("Bearer {token}"))));
        request.to_bytes(&defaults)
    }
}

fn is_cut_off(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
