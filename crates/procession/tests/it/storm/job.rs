//! What a job of the storm is, and what has to be found of it afterwards: `job.sh` prints,
//! this says what it must have printed.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// The program.
pub const PROGRAM: &str = include_str!("job.sh");

/// Ways to end by signal; those a shell dies of.
const SIGNALS: [(i32, &str); 12] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (10, "SIGUSR1"),
    (11, "SIGSEGV"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
];

/// Numbers that look random, and are the same for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// From 0, less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// Any of these.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// What it does beside printing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Prints and exits.
    Plain,
    /// Both outputs in one, in order.
    Merged,
    /// Output straight to a file.
    File,
    /// More output than is kept.
    Ring,
    /// A result and artifacts.
    Leaves,
    /// Pauses in between; may be cancelled.
    Slow,
    /// Ends by a signal of its own.
    Signal,
    /// Ends by its time limit.
    Timed,
    /// Ends by being cancelled.
    Endless,
}

const KINDS: [(Kind, &str); 9] = [
    (Kind::Plain, "plain"),
    (Kind::Merged, "merged"),
    (Kind::File, "file"),
    (Kind::Ring, "ring"),
    (Kind::Leaves, "leaves"),
    (Kind::Slow, "slow"),
    (Kind::Signal, "signal"),
    (Kind::Timed, "timed"),
    (Kind::Endless, "endless"),
];

/// What is kept of each stream of a [`Kind::Ring`].
pub const RING: usize = 64 * 1024;

const LIMIT_MS: u64 = 1_000;

/// A job of the storm.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub n: usize,
    pub kind: Kind,
    lines: usize,
    errors: usize,
    /// Or the signal's number.
    code: i32,
}

impl Job {
    /// The `n`-th of this storm.
    pub fn deal(n: usize, dice: &mut Dice) -> Self {
        use Kind::{Endless, File, Leaves, Merged, Plain, Ring, Signal, Slow, Timed};
        let often =
            [Plain, Plain, Plain, Merged, File, Ring, Leaves, Leaves, Slow, Slow, Signal, Timed, Endless];
        let kind = dice.pick(&often);
        // From nothing to some MiB; most print little.
        let most = dice.pick(&[1, 1, 20, 20, 300, 300, 3_000, 40_000]);
        let (lines, errors) = (dice.below(most) as usize, dice.below(most.min(3_000)) as usize);
        let few =
            |count: usize| if matches!(kind, Timed | Endless | Merged) { count.min(2_000) } else { count };
        let code = match kind {
            Signal => dice.pick(&SIGNALS).0,
            _ => dice.below(256) as i32,
        };
        let lines = if kind == Ring { lines + 500 } else { lines };
        Self { n, kind, lines: few(lines), errors: few(errors), code }
    }

    /// Its task's name.
    pub fn task(&self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, name)| name)
    }

    pub fn payload(&self) -> Value {
        json!({"n": self.n, "lines": self.lines, "errors": self.errors, "code": self.code})
    }

    /// How it ends unless it is cancelled.
    pub fn outcome(&self) -> Value {
        match self.kind {
            Kind::Signal => {
                let name = SIGNALS.iter().find(|(signal, _)| *signal == self.code).map(|(_, name)| name);
                json!({"kind": "signaled", "signal": self.code, "name": name, "core": false})
            }
            Kind::Timed => json!({"kind": "timed_out", "limit_ms": LIMIT_MS, "signal": 15}),
            _ => json!({"kind": "exited", "code": self.code}),
        }
    }

    /// All it writes to stdout.
    pub fn stdout(&self) -> Vec<u8> {
        let parts =
            |parts: &[usize]| parts.iter().map(|part| self.text(*part, self.lines)).collect::<String>();
        let text = match self.kind {
            Kind::Slow => parts(&[0, 1, 2]),
            Kind::Merged => {
                (0..4).map(|part| self.text(part, self.lines) + &self.text(part + 4, self.errors)).collect()
            }
            _ => parts(&[0]),
        };
        text.into_bytes()
    }

    /// All it writes to stderr.
    pub fn stderr(&self) -> Vec<u8> {
        let own = self.kind != Kind::Merged;
        if own { self.text(4, self.errors).into_bytes() } else { Vec::new() }
    }

    /// Its result and its artifacts, by their path below the job's.
    pub fn left(&self) -> Vec<(&'static str, Vec<u8>)> {
        if self.kind != Kind::Leaves {
            return Vec::new();
        }
        let result = format!("\"{}\"", "7".repeat(self.n % 5 * 30_000 + 1));
        let (lines, few) = (self.text(8, self.lines), self.text(9, 3));
        let all = [("result", result), ("artifacts/lines", lines), ("artifacts/sub/few", few)];
        all.map(|(path, text)| (path, text.into_bytes())).into()
    }

    fn text(&self, stream: usize, count: usize) -> String {
        let mut x = (self.n * 16 + stream + 1) as u64;
        let mut text = String::with_capacity(count * 88);
        for line in 1..=count {
            let _ = write!(text, "{} {stream} {line}", self.n);
            for _ in 0..6 {
                x = x * 16_807 % 2_147_483_647;
                let _ = write!(text, " {x:010}");
            }
            text.push('\n');
        }
        text
    }
}

/// A task for each kind.
pub fn config() -> String {
    let mut config = String::from("[limits]\nmax_running = 8\n");
    for (kind, name) in KINDS {
        let more = match kind {
            Kind::Merged => "output = \"merged\"\n".into(),
            Kind::File => "output = \"file\"\n".into(),
            Kind::Ring => format!("output_limit = \"{RING}B\"\n"),
            Kind::Leaves => "result_required = true\n".into(),
            Kind::Timed => format!("timeout = \"{LIMIT_MS}ms\"\n"),
            _ => String::new(),
        };
        let holes =
            ["n", "lines", "errors", "code"].map(|name| format!("\"{{{{payload.{name}}}}}\"")).join(", ");
        let _ = write!(
            config,
            "[task.{name}]\ncommand = [\"sh\", \"job.sh\", {holes}, \"{name}\"]\nmax_queued = 100000\n{more}"
        );
    }
    config
}
