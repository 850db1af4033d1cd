//! A page that people read, run as it stands. A `toml` block is a config; the lines of the
//! `console` blocks that begin with `$` are typed into a shell beside it, and what is printed has to
//! be what stands below them. `…` stands for anything, any number of blanks for one.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::process::{Process, command};
use super::server::Server;
use super::wait::{BOUND, wait_for};

/// What stands between three backticks, and of what kind it is.
#[derive(Clone, Debug)]
pub struct Block {
    pub kind: String,
    pub text: String,
}

/// The blocks of a page, in order.
pub fn blocks(page: &str) -> Vec<Block> {
    let fences = page.split("\n```").collect::<Vec<_>>();
    // What stands before a fence, in it, between two, …
    let block = |fence: &&str| {
        let (kind, text) = fence.split_once('\n')?;
        Some(Block { kind: kind.to_owned(), text: format!("{text}\n") })
    };
    fences.iter().skip(1).step_by(2).filter_map(block).collect()
}

/// A shell in the folder of a server, as its user has it.
#[derive(Debug)]
pub struct Shell<'a> {
    server: &'a Server,
    stdin: ChildStdin,
    /// What each command printed.
    printed: Receiver<String>,
    _process: Process,
}

/// Ends what a command printed.
const END: char = '\u{1e}';

impl<'a> Shell<'a> {
    /// `procession` and the data directory are where the pages say they are.
    pub fn beside(server: &'a Server) -> Self {
        let programs = server.path().join("bin");
        fs::create_dir(&programs).expect("a folder");
        symlink(env!("CARGO_BIN_EXE_procession"), programs.join("procession")).expect("a link");
        symlink("data", server.path().join("procession-data")).expect("a link");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = command("/bin/sh");
        shell.current_dir(server.path()).env("PATH", format!("{}:/usr/bin:/bin:{path}", programs.display()));
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let (mut stdin, stdout) = (shell.stdin.take().expect("a pipe"), shell.stdout.take().expect("a pipe"));
        writeln!(stdin, "exec 2>&1").expect("it reads");
        let (told, printed) = channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            for byte in BufReader::new(stdout).bytes().map_while(Result::ok) {
                text.push(byte);
                if text.ends_with(END.to_string().as_bytes()) {
                    let text = String::from_utf8_lossy(&std::mem::take(&mut text)).into_owned();
                    // Nobody listens any more where a test has failed.
                    let _ = told.send(text.trim_end_matches(END).to_owned());
                }
            }
        });
        Self { server, stdin, printed, _process: Process(shell) }
    }

    /// Types all of a `console` block.
    #[track_caller]
    pub fn types(&mut self, block: &Block) {
        for typed in block.text.split("\n$ ").map(|typed| typed.trim_start_matches("$ ")) {
            let mut lines = typed.lines();
            let mut typed = lines.next().unwrap_or_default().to_owned();
            while typed.ends_with('\\') {
                typed = format!("{typed}\n{}", lines.next().expect("the line that follows a backslash"));
            }
            let expected: Vec<&str> = lines.collect();
            self.expect(&typed, &expected.join("\n"));
        }
    }

    /// A question is asked until the answer is this: what it asks about takes its time.
    #[track_caller]
    fn expect(&mut self, typed: &str, expected: &str) {
        if typed.contains("curl ") && command("curl").arg("--version").output().is_err() {
            println!("skipped: there is no curl for {typed}");
            return;
        }
        let began = Instant::now();
        let mut printed = String::new();
        if is_question(typed) {
            wait_for(&format!("{typed:?} prints\n{expected}"), BOUND, || {
                printed = self.run(typed);
                fits(expected, &printed) || began.elapsed() > BOUND / 2
            });
        } else {
            printed = self.run(typed);
        }
        assert!(
            fits(expected, &printed),
            "$ {typed}\n--- is to print\n{expected}\n--- and printed\n{printed}"
        );
    }

    #[track_caller]
    fn run(&mut self, typed: &str) -> String {
        let typed = typed.replace("127.0.0.1:8080", &self.server.address.host());
        writeln!(self.stdin, "{typed}\nprintf '\\036'").expect("it reads");
        self.printed.recv_timeout(BOUND).unwrap_or_else(|_| panic!("{typed:?} does not end"))
    }
}

fn is_question(typed: &str) -> bool {
    let asks = ["procession job ", "procession jobs", "procession tasks", "procession logs ", "curl "];
    let does = [" -d ", " --data", " -X "];
    asks.iter().any(|verb| typed.starts_with(verb)) && !does.iter().any(|word| typed.contains(word))
}

/// Whether a text is what is expected of it.
fn fits(expected: &str, text: &str) -> bool {
    let lines = |text: &str| {
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.trim().lines().map(line).collect::<Vec<_>>().join("\n")
    };
    let (expected, text) = (lines(expected), lines(text));
    let parts: Vec<&str> = expected.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return expected == text };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in middle {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

/// Serves each config of a page of this repository that has something typed beside it.
#[track_caller]
pub fn run(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page);
    let blocks = blocks(&fs::read_to_string(path).expect("a page"));
    let is = |kind: &'static str| move |block: &&Block| block.kind == kind;
    let configs = blocks.iter().enumerate().filter(|(_, block)| block.kind == "toml");
    let mut ran = 0;
    for (at, config) in configs {
        let beside = blocks[at + 1..].iter().take_while(|block| !is("toml")(block)).filter(is("console"));
        let typed: Vec<&Block> = beside.collect();
        if typed.is_empty() {
            continue;
        }
        let server = Server::start(&config.text);
        let mut shell = Shell::beside(&server);
        typed.iter().for_each(|block| shell.types(block));
        ran += 1;
    }
    assert!(ran > 0, "nothing of {page} was run");
}

#[test]
fn what_is_expected_is_found() {
    assert!(fits("a … c", "a b  c\n") && fits("", "\n") && fits("…", "x") && fits("a\n…\nb", "a\nx\ny\nb"));
    assert!(!fits("a … c", "a b") && !fits("", "x") && !fits("a…a", "ba"));
}
