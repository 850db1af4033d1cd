//! The rules that good will does not keep: layers, sizes, names, leftovers. Reads the
//! workspace's own sources as text; what it knows of Rust is indentation, which rustfmt
//! guarantees.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file; of one that holds tests.
const FILE: (usize, usize) = (500, 800);

/// Lines of a function.
const FUNCTION: usize = 80;

struct Source {
    /// From the workspace's root.
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("tests.rs")
    }

    /// The lines of code, with their numbers, up to the file's own tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate().map(|(n, line)| (n + 1, line));
        numbered
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// Every Rust file of the workspace.
fn sources() -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.join("crates"), root.join("bench")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("text");
                let path = path.strip_prefix(&root).expect("below").to_string_lossy().into_owned();
                found.push(Source { path, text });
            }
        }
    }
    assert!(found.len() > 100, "the sources were not found");
    found
}

/// Fails with all complaints at once.
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn files_are_short() {
    let long = |source: &Source| {
        let lines = source.text.lines().count();
        let most = if source.is_test() { FILE.1 } else { FILE.0 };
        (lines > most).then(|| format!("{}: {lines} lines, at most {most}", source.path))
    };
    none(sources().iter().filter_map(long).collect());
}

/// Name, first line and length of each function: from its `fn` to the brace that closes it
/// at the same indentation.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(name) = words.iter().position(|w| *w == "fn").and_then(|n| words.get(n + 1)) else {
            continue;
        };
        let begins = ["fn ", "pub ", "pub(", "async ", "const ", "unsafe ", "extern "];
        if !begins.iter().any(|word| line.trim_start().starts_with(word)) {
            continue;
        }
        let closes = |l: &&str| l.trim_end() == "}" && indentation(l) == indentation(line);
        if let Some(length) = lines[at..].iter().position(closes) {
            let name = name.split(['(', '<']).next().unwrap_or(name);
            found.push((name.to_owned(), at + 1, length + 1));
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for source in sources() {
        for (name, line, length) in functions(&source.text) {
            // A signature without a body runs into its neighbour's brace: it has none to close.
            let body =
                source.text.lines().skip(line - 1).take(12).take_while(|l| !l.trim_end().ends_with(';'));
            if length > FUNCTION && body.clone().any(|l| l.trim_end().ends_with("{")) {
                long.push(format!(
                    "{}:{line}: fn {name} has {length} lines, at most {FUNCTION}",
                    source.path
                ));
            }
        }
    }
    none(long);
}

/// Who may not say what, and why.
const FORBIDDEN: [(&str, &[&str], &str); 12] = [
    (
        "crates/procession-core/src/",
        &["std::fs", "std::net", "std::process", "std::thread", "SystemTime", "Timestamp::now", "tokio"],
        "core is pure",
    ),
    (
        "crates/procession-core/src/",
        &["procession_store", "procession_keeper", "unsafe "],
        "core is the lowest layer",
    ),
    (
        "crates/procession-store/src/",
        &["procession_keeper", "unsafe "],
        "store and keeper do not know each other",
    ),
    (
        "crates/procession-keeper/src/",
        &["procession_store", "tokio", "serde_json", "rusqlite"],
        "the keeper has no runtime, no JSON, no database",
    ),
    (
        "crates/procession/src/",
        &["rusqlite", "unsafe ", "SELECT "],
        "SQL is the store's, unsafe code the keeper's",
    ),
    (
        "crates/procession/src/http/",
        &["crate::cli", "crate::keeper", "crate::maintenance", "procession_keeper"],
        "http asks door, store, running table and scheduler only",
    ),
    (
        "crates/procession/src/scheduler/",
        &["crate::http", "crate::cli"],
        "the scheduler does not know who asks",
    ),
    (
        "crates/procession/src/maintenance/",
        &["crate::http", "crate::cli"],
        "background services do not know who asks",
    ),
    (
        "crates/procession/src/keeper/",
        &["crate::http", "crate::cli", "crate::scheduler"],
        "the link carries frames and knows nothing of them",
    ),
    (
        "crates/procession/src/config/",
        &["crate::http", "crate::cli", "crate::scheduler", "tokio"],
        "the config is read, then only data",
    ),
    (
        "crates/procession/src/cli/",
        &["crate::scheduler", "crate::http", "procession_store"],
        "the command line speaks HTTP",
    ),
    (
        "crates/procession/src/submit.rs",
        &["crate::http", "crate::cli", "axum"],
        "one door for all who submit",
    ),
];

#[test]
fn layers_hold() {
    let mut crossed = Vec::new();
    for source in sources() {
        for (room, words, why) in FORBIDDEN.iter().filter(|(room, ..)| source.path.starts_with(room)) {
            for (line, code) in source.code() {
                for word in words.iter().filter(|word| code.contains(**word)) {
                    crossed.push(format!("{}:{line}: `{word}` in {room}: {why}", source.path));
                }
            }
        }
    }
    none(crossed);
}

#[test]
fn concurrent_work_starts_in_one_file() {
    let spawning = ["tokio::spawn(", "task::spawn(", "task::spawn_blocking(", ".spawn_local("];
    let mut elsewhere = Vec::new();
    for source in sources().iter().filter(|s| s.path.starts_with("crates/procession/src/")) {
        if source.path.ends_with("/background.rs") {
            continue;
        }
        for (line, code) in source.code().filter(|(_, code)| spawning.iter().any(|call| code.contains(call)))
        {
            elsewhere.push(format!("{}:{line}: {}", source.path, code.trim()));
        }
    }
    none(elsewhere);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = |source: &Source| {
        (!source.text.starts_with("//!")).then(|| format!("{}: no module doc", source.path))
    };
    none(sources().iter().filter_map(silent).collect());
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let empty: BTreeSet<&str> =
        ["utils", "util", "helpers", "helper", "common", "manager", "imp", "misc"].into();
    let bad = |source: &Source| {
        let mut parts = source.path.trim_end_matches(".rs").split('/');
        parts.find(|part| empty.contains(part)).map(|part| format!("{}: `{part}`", source.path))
    };
    none(sources().iter().filter_map(bad).collect());
}

#[test]
fn nothing_is_left_for_later() {
    let marks =
        [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["to", "do!("], ["unimple", "mented!("], ["#[ig", "nore"]];
    let marks: Vec<String> = marks.iter().map(|parts| parts.concat()).collect();
    let mut left = Vec::new();
    for source in sources() {
        for (line, text) in source.text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| text.contains(mark.as_str())) {
                left.push(format!("{}:{}: {mark}", source.path, line + 1));
            }
        }
    }
    none(left);
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut silent = Vec::new();
    for source in sources().iter().filter(|s| s.path.starts_with("crates/procession-keeper/")) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let opens = line.contains("unsafe {") && !line.trim_start().starts_with("//");
            let above = lines[at.saturating_sub(8)..=at].iter().any(|l| l.contains("SAFETY:"));
            if opens && !above {
                silent.push(format!("{}:{}", source.path, at + 1));
            }
        }
    }
    none(silent);
}

/// The first column of a table in `docs/faults.md` is an id with its anchor, the last names its
/// tests.
#[test]
fn every_fault_named_in_the_docs_has_its_tests() {
    let docs = fs::read_to_string(root().join("docs/faults.md")).expect("docs/faults.md");
    let all: String = sources().into_iter().map(|source| source.text).collect();
    let mut missing = Vec::new();
    let mut rows = 0;
    for row in docs.lines().filter(|line| line.starts_with("| <a id=")) {
        rows += 1;
        let last = row.trim_end_matches('|').rsplit(" | ").next().unwrap_or_default();
        let tests: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            missing.push(format!("no test: {row}"));
        }
        missing.extend(
            tests
                .iter()
                .filter(|test| !all.contains(&format!("fn {test}(")))
                .map(|test| format!("`{test}` does not exist")),
        );
    }
    assert!(rows > 20, "the table was not found");
    none(missing);
}

/// What README promises is held by tests: each promise links rows of `docs/faults.md`, which
/// name them.
#[test]
fn every_promise_links_its_tests() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let docs = fs::read_to_string(root().join("docs/faults.md")).expect("docs/faults.md");
    let section = readme.split("## What it promises").nth(1).and_then(|rest| rest.split("\n## ").next());
    let promises: Vec<&str> = section.expect("a section").split("\n* **").skip(1).collect();
    assert!(promises.len() > 10, "the promises were not found");
    let mut broken = Vec::new();
    for promise in promises {
        let title = promise.split("**").next().unwrap_or_default();
        let links: Vec<&str> =
            promise.split("docs/faults.md#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        if links.is_empty() {
            broken.push(format!("no test: {title}"));
        }
        let missing = links.iter().filter(|id| !docs.contains(&format!("<a id=\"{id}\"></a>")));
        broken.extend(missing.map(|id| format!("{title}: no row {id}")));
    }
    none(broken);
}
