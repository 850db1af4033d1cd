//! A receiver of callbacks: takes what is sent, answers as it is told, and remembers all of it.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::wait::{BOUND, wait_for_some};

/// What it says to a request.
#[derive(Clone, Debug)]
pub enum Says {
    /// This status, with these lines of headers.
    Status(u16, &'static str),
    /// Nothing, for as long as the other side waits.
    Nothing,
    /// Nothing: it hangs up.
    HangsUp,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: Instant,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Default)]
struct State {
    script: VecDeque<Says>,
    /// Behind the script.
    always: Option<Says>,
    calls: Vec<Call>,
    open: Vec<TcpStream>,
    over: bool,
}

/// It. Ends with the test.
pub struct Receiver {
    pub address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Receiver {
    /// One that says 204 to everything, on a port of its own.
    pub fn start() -> Self {
        Self::at(([127, 0, 0, 1], 0).into())
    }

    /// The same, at an address that is free.
    pub fn at(address: SocketAddr) -> Self {
        Self::with(address, None)
    }

    /// The same, as `localhost` over TLS.
    pub fn with_tls() -> Self {
        Self::with(([127, 0, 0, 1], 0).into(), Some(Arc::new(tls())))
    }

    fn with(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).expect("the port is free");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let shared = state.clone();
        let thread = std::thread::spawn(move || serve(&listener, &shared, tls.as_ref()));
        Self { address, state, thread: Some(thread) }
    }

    /// An address where nobody listens, yet.
    pub fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
    }

    /// Says this next, in this order, then 204.
    pub fn says(self, script: &[Says]) -> Self {
        lock(&self.state).script.extend(script.iter().cloned());
        self
    }

    /// From now on says this, where nothing else is due.
    pub fn always(&self, says: Says) {
        let mut state = lock(&self.state);
        // Who was told nothing is told this.
        state.open.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        state.always = Some(says);
        self.state.1.notify_all();
    }

    /// Its URL.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All that came so far.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.state).calls.clone()
    }

    /// All that came, once it is so many.
    #[track_caller]
    pub fn heard(&self, many: usize) -> Vec<Call> {
        wait_for_some(&format!("{many} callbacks came"), BOUND, || {
            let calls = self.calls();
            (calls.len() >= many).then_some(calls)
        })
    }
}

impl Call {
    /// The value of a header, which has to be there.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        &found.unwrap_or_else(|| panic!("no {name}: {self:?}")).1
    }

    /// What it tells.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The job it tells of.
    #[track_caller]
    pub fn job(&self) -> String {
        self.json()["data"]["id"].as_str().expect("an id").to_owned()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.always(Says::HangsUp);
        lock(&self.state).over = true;
        // It waits for one more connection.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Shared = Arc<(Mutex<State>, Condvar)>;

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(listener: &TcpListener, state: &Shared, tls: Option<&Arc<ServerConfig>>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if lock(state).over {
            return;
        }
        let (state, tls) = (state.clone(), tls.cloned());
        // One that is slow holds up no other.
        std::thread::spawn(move || {
            let _ = match tls {
                None => stream.try_clone().and_then(|reader| answer(reader, stream, &state)),
                Some(config) => over_tls(stream, config, &state),
            };
        });
    }
}

fn over_tls(stream: TcpStream, config: Arc<ServerConfig>, state: &Shared) -> io::Result<()> {
    let raw = stream.try_clone()?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    let call = hear(&mut BufReader::new(&mut tls))?;
    say(&mut tls, raw, call, state)
}

fn answer(reader: TcpStream, mut stream: TcpStream, state: &Shared) -> io::Result<()> {
    let call = hear(&mut BufReader::new(reader))?;
    let raw = stream.try_clone()?;
    say(&mut stream, raw, call, state)
}

fn hear(reader: &mut impl BufRead) -> io::Result<Call> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).ok_or(io::ErrorKind::UnexpectedEof)?.to_owned();
    let mut call = Call { at: Instant::now(), path, headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        call.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = call.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    call.body = vec![0; length.and_then(|(_, length)| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut call.body)?;
    Ok(call)
}

fn say(stream: &mut impl Write, raw: TcpStream, call: Call, state: &Shared) -> io::Result<()> {
    let mut held = lock(state);
    held.calls.push(call);
    let says = held.script.pop_front().or_else(|| held.always.clone()).unwrap_or(Says::Status(204, ""));
    match says {
        Says::HangsUp => raw.shutdown(Shutdown::Both),
        Says::Nothing => {
            held.open.push(raw);
            let told = |state: &mut State| !matches!(state.always, Some(Says::HangsUp));
            drop(state.1.wait_timeout_while(held, Duration::from_secs(30), told));
            Ok(())
        }
        Says::Status(status, headers) => {
            drop(held);
            write!(
                stream,
                "HTTP/1.1 {status} Said\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"
            )?;
            stream.flush()
        }
    }
}

fn tls() -> ServerConfig {
    let file = |name: &str| {
        let path = format!("{}/tests/fixture/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).expect("the fixture")
    };
    let certificate = CertificateDer::from_pem_slice(&file("localhost.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&file("localhost.key")).expect("a key");
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate with its key")
}
