//! A server under test: started on a scratch folder and a port of the kernel's choice, asked
//! by HTTP, ended by its own process ids.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::bench::Bench;
use crate::http::{Connection, Request};
use crate::process;

/// From start to the first answer.
const START: Duration = Duration::from_secs(20);

/// From each request to end to the next, firmer one. What is on the disk goes anyway.
const STEPS: [Duration; 3] = [Duration::from_millis(500), Duration::from_millis(500), Duration::from_secs(5)];

/// Between two looks at something that will be there soon.
const LOOK: Duration = Duration::from_millis(5);

/// A running server. Dropping it ends it.
pub(crate) struct Server {
    folder: TempDir,
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    /// Process id of the server, below the keeper.
    pub(crate) server: u32,
}

/// Counts of a task since its store was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) running: u64,
    pub(crate) finished: u64,
    pub(crate) failed: u64,
}

impl Server {
    /// Starts one with these tasks (TOML) and so many slots; returns when it answers.
    pub(crate) fn start(bench: &Bench, max_running: usize, tasks: &str) -> io::Result<Self> {
        let folder = bench.folder()?;
        let config = folder.path().join("procession.toml");
        let head = "[server]\nlisten = [\"127.0.0.1:0\"]\ndata_dir = \"data\"\nstop_timeout = \"1s\"\n";
        fs::write(&config, format!("{head}[limits]\nmax_running = {max_running}\n{tasks}"))?;
        let mut command = Command::new(&bench.procession);
        command.arg("serve").arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(folder.path().join("stderr"))?);
        // SAFETY: one raw system call between fork and exec; should the bench be killed, the
        // keeper is asked to end.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let child = command.spawn()?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { folder, child, address: nowhere, token: String::new(), server: 0 };
        let deadline = Instant::now() + START;
        while !server.is_up()? {
            if Instant::now() > deadline || server.child.try_wait()?.is_some() {
                return Err(server.complaint("does not answer"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(server)
    }

    /// Process id of the keeper.
    pub(crate) fn keeper(&self) -> u32 {
        self.child.id()
    }

    /// Processor time of server and keeper so far.
    pub(crate) fn cpu(&self) -> io::Result<(Duration, Duration)> {
        Ok((process::cpu(self.server)?, process::cpu(self.keeper())?))
    }

    /// Proportional set size of server and keeper in bytes.
    pub(crate) fn memory(&self) -> io::Result<u64> {
        Ok(process::pss(self.server)? + process::pss(self.keeper())?)
    }

    /// A request that carries the token.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Request {
        Request::new(method, path, &self.token, headers, body)
    }

    /// The request that asks for a job of a task.
    pub(crate) fn submit(&self, task: &str) -> Request {
        self.request("POST", &format!("/v1/tasks/{task}/jobs"), &[], "{}")
    }

    /// One request on a connection of its own.
    pub(crate) fn call(&self, method: &str, path: &str, expected: u16) -> io::Result<Value> {
        Connection::open(self.address)?.call(&self.request(method, path, &[], ""))?.json(expected)
    }

    /// Runs one job and waits for its end; the finished job.
    pub(crate) fn run(&self, task: &str) -> io::Result<Value> {
        let path = format!("/v1/tasks/{task}/jobs");
        let request = self.request("POST", &path, &["Prefer: wait=60"], "{}");
        Connection::open(self.address)?.call(&request)?.json(200)
    }

    /// Asks until the task's counts are as wanted.
    pub(crate) fn wait_for(
        &self,
        task: &str,
        within: Duration,
        wanted: impl Fn(Counts) -> bool,
    ) -> io::Result<Counts> {
        let mut connection = Connection::open(self.address)?;
        let request = self.request("GET", &format!("/v1/tasks/{task}"), &[], "");
        let deadline = Instant::now() + within;
        loop {
            let task = connection.call(&request)?.json(200)?;
            let count = |name: &str| task[name].as_u64().unwrap_or_default();
            let counts =
                Counts { running: count("running"), finished: count("finished"), failed: count("failed") };
            if wanted(counts) {
                return Ok(counts);
            }
            if Instant::now() > deadline {
                return Err(self.complaint(&format!("is still at {counts:?}")));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether it answers; learns its address, token and process id.
    fn is_up(&mut self) -> io::Result<bool> {
        let data = self.folder.path().join("data");
        let read = |name: &str| fs::read_to_string(data.join(name)).unwrap_or_default().trim().to_owned();
        let listen = read("listen");
        let Some(address) = listen.lines().find_map(|line| line.parse().ok()) else {
            return Ok(false);
        };
        let Ok(server) = read("server.pid").parse() else { return Ok(false) };
        (self.address, self.server, self.token) = (address, server, read("token"));
        // The keeper's socket takes connections before the server answers on them.
        let Ok(mut connection) = Connection::open(address) else { return Ok(false) };
        Ok(connection
            .call(&self.request("GET", "/healthz", &[], ""))
            .is_ok_and(|answer| answer.status == 200))
    }

    fn complaint(&self, what: &str) -> io::Error {
        let said = fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        io::Error::other(format!("the server {what}; it said: {}", last.join(" | ")))
    }

    fn ended_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return true;
            }
            std::thread::sleep(LOOK);
        }
        false
    }
}

impl Drop for Server {
    /// Drain, end the jobs, kill the rest: the keeper does each when asked once more.
    fn drop(&mut self) {
        for step in STEPS {
            // SAFETY: our own child, which `ended_within` has not reaped.
            unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
            if self.ended_within(step) {
                return;
            }
        }
        eprintln!("bench: a server had to be killed");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
