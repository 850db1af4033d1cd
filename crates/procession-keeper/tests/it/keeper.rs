//! A keeper under test, and the server that the test plays.

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use procession_core::frame::{Decoder, Hello, Message, Started, ToKeeper, ToServer, VERSION};
use procession_core::id::{AttemptKey, Fence, JobId};
use procession_core::launch::{Launch, OutputMode, OutputPlan, Stdin};
use procession_core::record::{Containment, ExitRecord};
use procession_keeper::control;
use tempfile::TempDir;

/// No test waits longer than this for anything.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) const LEVELS: [Containment; 2] = [Containment::Cgroup, Containment::Monitor];

/// Polls until `condition` gives something; a test that waits in vain fails here.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < BOUND, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A keeper process and the place of its files.
pub(crate) struct Keeper {
    child: Child,
    folder: Option<TempDir>,
    rendezvous: UnixListener,
    label: String,
    level: Containment,
}

/// The server's end: what the test says and hears.
pub(crate) struct Server {
    control: UnixStream,
    decoder: Decoder<ToServer>,
    heard: VecDeque<ToServer>,
    pub(crate) hello: Hello,
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) held: Vec<OwnedFd>,
    /// Descriptors that came after the greeting, in their order.
    pub(crate) arrived: Vec<OwnedFd>,
    link: UnixStream,
    pub(crate) pid: u32,
}

/// A server process that waits for its test.
pub(crate) struct Link {
    control: UnixStream,
    link: UnixStream,
    pid: u32,
}

impl Link {
    /// Ends the server process as `kill -9` does.
    pub(crate) fn kill(self) {
        let pid = rustix::process::Pid::from_raw(self.pid.cast_signed()).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("started by our keeper");
    }
}

impl Keeper {
    pub(crate) fn start(level: Containment) -> (Keeper, Server) {
        Self::start_by(level, |_| {})
    }

    /// `adjust` changes how the keeper process itself is started.
    pub(crate) fn start_by(level: Containment, adjust: impl FnOnce(&mut Command)) -> (Keeper, Server) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let label = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self::start_in(TempDir::new().expect("a folder"), label, level, adjust)
    }

    /// A keeper that runs as another user, on files that are that user's, with at most
    /// `processes` to begin with.
    pub(crate) fn start_as(level: Containment, uid: u32, processes: Option<u64>) -> (Keeper, Server) {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        use std::os::unix::process::CommandExt;
        Self::start_by(level, |command| {
            let folder = PathBuf::from(command.get_args().next().expect("the folder"));
            std::os::unix::fs::chown(&folder, Some(uid), Some(uid)).expect("root");
            std::os::unix::fs::chown(folder.join("rendezvous"), Some(uid), Some(uid)).expect("root");
            command.uid(uid).gid(uid);
            let Some(current) = processes else { return };
            let limit = Rlimit { current: Some(current), maximum: getrlimit(Resource::Nproc).maximum };
            // SAFETY: one system call, allowed between fork and exec.
            unsafe { command.pre_exec(move || Ok(setrlimit(Resource::Nproc, limit)?)) };
        })
    }

    /// Lets other users reach the keeper's files.
    pub(crate) fn open_to_all(&self) {
        use std::os::unix::fs::PermissionsExt;
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(""), all).expect("ours");
    }

    fn start_in(
        folder: TempDir,
        label: String,
        level: Containment,
        adjust: impl FnOnce(&mut Command),
    ) -> (Keeper, Server) {
        let path = folder.path().join("rendezvous");
        let _ = std::fs::remove_file(&path);
        let rendezvous = UnixListener::bind(&path).expect("a socket");
        let mut command = Command::new(env!("CARGO_BIN_EXE_keeper-host"));
        let containment = if level == Containment::Cgroup { "best" } else { "monitor" };
        command.arg(folder.path()).args([&label, containment]).arg(&path).stdin(Stdio::null());
        adjust(&mut command);
        let child = command.spawn().expect("the host starts");
        let mut keeper = Keeper { child, folder: Some(folder), rendezvous, label, level };
        let server = keeper.next_server();
        // A keeper that may not make cgroups says so.
        assert!(server.hello.containment == level || server.hello.containment == Containment::Monitor);
        (keeper, server)
    }

    /// A keeper whose program is a copy of its own, which may be taken away.
    pub(crate) fn start_copied(level: Containment) -> (Keeper, Server) {
        Self::start_by(level, |command| {
            let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            let copy = Path::new(&args[0]).join("keeper-host");
            std::fs::copy(env!("CARGO_BIN_EXE_keeper-host"), &copy).expect("room for it");
            *command = Command::new(copy);
            command.args(args).stdin(Stdio::null());
        })
    }

    /// Another keeper on the same files, after this one has ended or was killed.
    pub(crate) fn successor(mut self) -> (Keeper, Server) {
        self.wait();
        let folder = self.folder.take().expect("taken once");
        Self::start_in(folder, self.label.clone(), self.level, |_| {})
    }

    /// The server that the keeper has started or is about to start, greeted and ready.
    pub(crate) fn next_server(&mut self) -> Server {
        let Link { control, link, pid } = self.next_link();
        Server::greet(control, link, pid)
    }

    /// A server that was greeted and has said nothing yet.
    pub(crate) fn next_standby(&mut self) -> Server {
        let Link { control, link, pid } = self.next_link();
        Server::meet(control, link, pid)
    }

    /// The same, before it has heard or said anything.
    pub(crate) fn next_link(&mut self) -> Link {
        self.rendezvous.set_nonblocking(true).expect("set");
        let rendezvous = &self.rendezvous;
        let link = wait_for("a server", || rendezvous.accept().ok()).0;
        link.set_nonblocking(false).expect("set");
        let mut pid = [0; 4];
        let mut fds = vec![];
        control::receive(&link, &mut pid, &mut fds).expect("the socket");
        let control = UnixStream::from(fds.remove(0));
        Link { control, link, pid: u32::from_le_bytes(pid) }
    }

    /// Whether its folder of cgroups is still there.
    pub(crate) fn has_cgroups(&self) -> bool {
        self.cgroups().is_some()
    }

    /// Its folder of cgroups.
    pub(crate) fn cgroups(&self) -> Option<PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
        let points = mounts
            .lines()
            .filter(|line| line.contains(" - cgroup2 "))
            .filter_map(|line| line.split(' ').nth(4));
        let folder = |point| Path::new(point).join(format!("procession-{}", self.label));
        points.map(folder).find(|folder| folder.exists())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().expect("not handed on").path().join(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the keeper itself has used so far.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("readable");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("our own child");
    }

    pub(crate) fn still_runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether this is the keeper's only child.
    pub(crate) fn has_no_child_beside(&self, pid: u32) -> bool {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        std::fs::read_to_string(path).is_ok_and(|children| children.trim() == pid.to_string())
    }

    /// How the keeper ended; it has been told to.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the keeper's end", || child.try_wait().expect("our own child"))
    }

    /// What runs `hostile` with these arguments.
    pub(crate) fn launch(&self, args: &[&str]) -> Launch {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let fence = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut argv = vec!["hostile".into()];
        argv.extend(args.iter().map(|arg| arg.to_string().into()));
        Launch {
            key: AttemptKey { job: JobId::new(fence, [7; 10]), fence: Fence(fence) },
            program: env!("CARGO_BIN_EXE_hostile").into(),
            argv,
            env: vec!["LANG=C".into()],
            directory: "/".into(),
            stdin: Stdin::Null,
            output: OutputPlan {
                mode: OutputMode::Separate,
                limit: 1024 * 1024,
                stdout: bytes(&self.path(&format!("out/{fence}/stdout"))),
                stderr: bytes(&self.path(&format!("out/{fence}/stderr"))),
            },
            timeout: Some(Duration::from_secs(30)),
            grace: Duration::from_secs(5),
            leave_children: false,
            credentials: None,
            rlimits: vec![],
            cookie: "cookie".into(),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // Asked three times it ends its trees too.
            for _ in 0..3 {
                self.signal(rustix::process::Signal::TERM);
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = self.child.wait();
            assert!(std::thread::panicking() || !self.has_cgroups(), "cgroups were left behind");
        }
    }
}

pub(crate) fn bytes(path: &Path) -> bytes::Bytes {
    path.to_str().expect("a plain path").to_owned().into()
}

impl Server {
    fn greet(control: UnixStream, link: UnixStream, pid: u32) -> Server {
        let mut server = Self::meet(control, link, pid);
        server.say(&ToKeeper::Ready { version: VERSION });
        server
    }

    /// Hears HELLO and says nothing.
    fn meet(control: UnixStream, link: UnixStream, pid: u32) -> Server {
        let mut buffer = [0; 4096];
        let mut listeners = vec![];
        let mut decoder = Decoder::default();
        let hello = loop {
            let length = control::receive(&control, &mut buffer, &mut listeners).expect("a greeting");
            decoder.feed(&buffer[..length]);
            match decoder.next().expect("well formed") {
                Some(ToServer::Hello(hello)) => break hello,
                Some(other) => panic!("HELLO comes first, not {other:?}"),
                None => {}
            }
        };
        let held = listeners.split_off(hello.listeners.len());
        Server {
            control,
            decoder,
            heard: VecDeque::new(),
            hello,
            listeners,
            held,
            arrived: vec![],
            link,
            pid,
        }
    }

    pub(crate) fn say(&mut self, message: &ToKeeper) {
        self.say_all(std::slice::from_ref(message));
    }

    pub(crate) fn say_all(&mut self, messages: &[ToKeeper]) {
        let mut frames = vec![];
        messages.iter().for_each(|message| message.encode(&mut frames));
        self.control.write_all(&frames).expect("the keeper listens");
    }

    pub(crate) fn spawn(&mut self, launch: &Launch) {
        self.say(&ToKeeper::Spawn(Box::new(launch.clone())));
    }

    /// The next message that `wanted` picks; the others stay for later calls.
    pub(crate) fn hear<T>(&mut self, what: &str, mut wanted: impl FnMut(&ToServer) -> Option<T>) -> T {
        for (at, message) in self.heard.iter().enumerate() {
            if let Some(found) = wanted(message) {
                self.heard.remove(at);
                return found;
            }
        }
        let start = Instant::now();
        loop {
            let message = self.receive(what, start);
            if let Some(found) = wanted(&message) {
                return found;
            }
            self.heard.push_back(message);
        }
    }

    fn receive(&mut self, what: &str, start: Instant) -> ToServer {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(message) = self.decoder.next().expect("well formed") {
                return message;
            }
            let left = BOUND.saturating_sub(start.elapsed());
            assert!(!left.is_zero(), "waited in vain for {what}; heard {:?}", self.heard);
            self.control.set_read_timeout(Some(left)).expect("set");
            match control::receive(&self.control, &mut buffer, &mut self.arrived) {
                Ok(0) => panic!("the keeper hung up; waited for {what}"),
                Ok(length) => self.decoder.feed(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("waiting for {what}: {error}"),
            }
        }
    }

    pub(crate) fn started(&mut self, key: AttemptKey) -> Started {
        self.hear("STARTED", |message| match message {
            ToServer::Started(started) if started.key == key => Some(started.clone()),
            _ => None,
        })
    }

    pub(crate) fn exited(&mut self, key: AttemptKey) -> ExitRecord {
        self.hear("EXITED", |message| match message {
            ToServer::Exited(record) if record.key == key => Some(record.clone()),
            _ => None,
        })
    }

    /// Forgets what was said of starts and output, so that long tests stay quick.
    pub(crate) fn forget_starts(&mut self) {
        self.heard.retain(|message| !matches!(message, ToServer::Started(_) | ToServer::Output(_)));
    }

    /// Runs it and commits its record.
    pub(crate) fn run(&mut self, launch: &Launch) -> ExitRecord {
        self.spawn(launch);
        let record = self.exited(launch.key);
        self.say(&ToKeeper::Ack { key: launch.key });
        record
    }

    /// Bytes as they are: part of a frame.
    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        self.control.write_all(bytes).expect("the keeper listens");
    }

    /// What the keeper says it owns.
    pub(crate) fn list(&mut self) -> (Vec<Started>, Vec<ExitRecord>) {
        self.say(&ToKeeper::List);
        let (mut all_running, mut all_over) = (vec![], vec![]);
        loop {
            let last = self.hear("ATTEMPTS", |message| match message {
                ToServer::Attempts { running, over, more } => {
                    all_running.extend(running.clone());
                    all_over.extend(over.clone());
                    Some(!more)
                }
                _ => None,
            });
            if last {
                return (all_running, all_over);
            }
        }
    }

    /// Ends the server process as `kill -9` does.
    pub(crate) fn kill(self) {
        Link { control: self.control, link: self.link, pid: self.pid }.kill();
    }

    /// Closes the control socket; the process lives as long as what is returned.
    pub(crate) fn hang_up(self) -> UnixStream {
        self.link
    }

    /// Says goodbye and ends.
    pub(crate) fn goodbye(mut self, status: u8) {
        self.say(&ToKeeper::Goodbye { status });
        self.link.write_all(&[0]).expect("the stand-in listens");
    }
}
