//! The load generator: one thread, many kept connections. Closed loop (each connection sends
//! its next request when it has its answer) for rates, open loop (requests leave on time,
//! whatever happened to those before) for latencies.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::http::{Connection, Head, Request, head};
use crate::pace::{self, Pace};
use crate::sample::Sample;

/// Nothing at all is answered for so long: the run is given up.
const SILENCE: i32 = 20_000;

/// What a closed loop sends.
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) request: &'a Request,
    pub(crate) connections: usize,
    pub(crate) count: u64,
    /// The status every answer must have.
    pub(crate) expected: u16,
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Sends all requests; returns when all are answered, with the time that took.
pub(crate) fn closed_loop(load: &Load<'_>) -> io::Result<Duration> {
    let connections = load.connections.min(usize::try_from(load.count).unwrap_or(usize::MAX));
    let mut clients = (0..connections).map(|_| Client::open(load.address)).collect::<io::Result<Vec<_>>>()?;
    let epoll = epoll()?;
    for (index, client) in clients.iter().enumerate() {
        watch(&epoll, client, index)?;
    }
    let begin = Instant::now();
    let (mut sent, mut answered) = (0, 0);
    for client in &mut clients {
        client.stream.write_all(load.request.bytes())?;
        sent += 1;
    }
    while answered < load.count {
        for index in ready(&epoll)? {
            let client = &mut clients[index];
            let Some(status) = client.read()? else { continue };
            if status != load.expected {
                let body = String::from_utf8_lossy(&client.buffer).into_owned();
                return Err(io::Error::other(format!("answered {status}: {body}")));
            }
            client.buffer.clear();
            answered += 1;
            if sent < load.count {
                client.stream.write_all(load.request.bytes())?;
                sent += 1;
            }
        }
    }
    Ok(begin.elapsed())
}

impl Client {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Reads what is there; the status if the answer is whole.
    fn read(&mut self) -> io::Result<Option<u16>> {
        let mut chunk = [0u8; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let whole = |head: &Head| self.buffer.len() >= head.begins + head.length;
        Ok(head(&self.buffer).filter(whole).map(|head| head.status))
    }
}

fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the descriptor is new and ours.
    match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

fn watch(epoll: &OwnedFd, client: &Client, index: usize) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
    let (epoll, stream) = (epoll.as_raw_fd(), client.stream.as_raw_fd());
    // SAFETY: both descriptors are open, the event outlives the call.
    match unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, stream, &mut event) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Indices of the clients that have something to read.
fn ready(epoll: &OwnedFd) -> io::Result<Vec<usize>> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    // SAFETY: there is room for as many events as are asked for.
    let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), 64, SILENCE) };
    match usize::try_from(count) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing is answered any more")),
        Ok(count) => Ok(events[..count].iter().map(|event| event.u64 as usize).collect()),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(Vec::new()),
            error => Err(error),
        },
    }
}

/// Sends `count` requests, one each `every`, on as many connections as it takes; the times
/// from when each was due until its answer was there, in microseconds.
pub(crate) fn open_loop(
    address: SocketAddr,
    request: &Request,
    count: u32,
    every: Duration,
) -> io::Result<Sample> {
    const CONNECTIONS: u32 = 8;
    let pace = Pace::start(every);
    let line = |first: u32| -> io::Result<Vec<f64>> {
        pace::punctual();
        let mut connection = Connection::open(address)?;
        let mut times = Vec::new();
        for tick in (first..count).step_by(CONNECTIONS as usize) {
            let due = pace.wait(tick);
            connection.call(request)?.json(202)?;
            times.push(due.elapsed().as_secs_f64() * 1e6);
        }
        Ok(times)
    };
    let times = std::thread::scope(|scope| {
        let lines: Vec<_> = (0..CONNECTIONS).map(|first| scope.spawn(move || line(first))).collect();
        let ended = lines.into_iter().map(|line| line.join().expect("a line of requests does not panic"));
        ended.collect::<io::Result<Vec<Vec<f64>>>>()
    })?;
    Ok(Sample::new(times.concat()))
}
