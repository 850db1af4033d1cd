//! Whether a command would let a client's text become code: a part of a script behind
//! `-c` or `-e`, the script's file, an option of the interpreter, or the program behind
//! `env`. A function of the templates alone, tested as a table.
//!
//! It knows the interpreters and wrappers people put in front of things, not every program
//! that can run another; a task's author stays responsible for those.

use procession_core::placeholder::{Placeholder, Source, Template};

use super::environment::loads_code;
use super::slot::is_clients;

/// What a client could decide, with the element of `argv` through which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exposed {
    /// The program that runs in the end.
    Program(usize),
    /// A variable set on the command line that makes programs load other code.
    Variable { element: usize, name: String },
    /// A part of a script given as text.
    Script { element: usize, interpreter: String },
    /// The file, or standard input by name, that is the script.
    File { element: usize, interpreter: String },
    /// An option of the interpreter.
    Option { element: usize, interpreter: String },
    /// There is no script: the interpreter reads one from standard input.
    Stdin { element: usize, interpreter: String },
}

impl Exposed {
    /// The element of `argv` to point at.
    pub(super) fn element(&self) -> usize {
        match self {
            Exposed::Program(element)
            | Exposed::Variable { element, .. }
            | Exposed::Script { element, .. }
            | Exposed::File { element, .. }
            | Exposed::Option { element, .. }
            | Exposed::Stdin { element, .. } => *element,
        }
    }
}

/// How one kind of interpreter reads its options.
struct Family {
    names: &'static [&'static str],
    /// Letters whose argument is a script or names one.
    code: &'static str,
    code_long: &'static [&'static str],
    /// Letters that take an argument, in the same element or the next.
    argument: &'static str,
    argument_long: &'static [&'static str],
    /// Letters that end a cluster: the rest of it is theirs.
    rest: &'static str,
    /// Letters with which it runs nothing.
    idle: &'static str,
    style: Style,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// The script is the first operand, wherever the `c` stood.
    Shell,
    /// The script follows its letter at once, in the same element or the next.
    Attached,
    /// The same, and it ends the options.
    AttachedLast,
    /// The script is always the next element.
    Next,
}

const FAMILIES: [Family; 7] = [
    Family {
        names: &["sh", "bash", "dash", "zsh", "ash", "ksh", "mksh"],
        code: "c",
        code_long: &[],
        argument: "oO",
        argument_long: &["--rcfile", "--init-file"],
        rest: "",
        idle: "",
        style: Style::Shell,
    },
    Family {
        names: &["python", "pypy"],
        code: "cm",
        code_long: &[],
        argument: "WX",
        argument_long: &["--check-hash-based-pycs"],
        rest: "",
        idle: "Vh?",
        style: Style::AttachedLast,
    },
    Family {
        names: &["perl"],
        code: "eE",
        code_long: &[],
        argument: "I",
        argument_long: &[],
        rest: "MmiFxCDdV",
        idle: "vhV",
        style: Style::Attached,
    },
    Family {
        names: &["ruby"],
        code: "e",
        code_long: &[],
        argument: "ICrE",
        argument_long: &["--encoding", "--external-encoding", "--internal-encoding"],
        rest: "FKTWix",
        idle: "vh",
        style: Style::Attached,
    },
    Family {
        names: &["node", "nodejs", "bun"],
        code: "ep",
        code_long: &["--eval", "--print"],
        argument: "rC",
        argument_long: &[
            "--require",
            "--import",
            "--loader",
            "--experimental-loader",
            "--conditions",
            "--input-type",
            "--preload",
            "--title",
        ],
        rest: "",
        idle: "vh",
        style: Style::Next,
    },
    Family {
        names: &["php"],
        code: "rBRE",
        code_long: &["--run", "--process-begin", "--process-code", "--process-end"],
        argument: "cdfFStz",
        argument_long: &["--define", "--file", "--docroot", "--server"],
        rest: "",
        idle: "vhim",
        style: Style::Attached,
    },
    Family {
        names: &["lua", "luajit"],
        code: "e",
        code_long: &[],
        argument: "lj",
        argument_long: &[],
        rest: "",
        idle: "v",
        style: Style::Attached,
    },
];

/// A program that runs the program among its arguments.
struct Wrapper {
    name: &'static str,
    /// Letters that take an argument, in the same element or the next.
    argument: &'static str,
    argument_long: &'static [&'static str],
    /// How many operands stand before the program.
    operands: usize,
    /// `NAME=value` may stand before the program.
    assigns: bool,
}

const fn wrapper(name: &'static str, argument: &'static str, operands: usize) -> Wrapper {
    Wrapper { name, argument, argument_long: &[], operands, assigns: false }
}

const WRAPPERS: [Wrapper; 13] = [
    Wrapper { argument_long: &["--unset", "--chdir"], assigns: true, ..wrapper("env", "uC", 0) },
    Wrapper { argument_long: &["--user", "--group"], assigns: true, ..wrapper("sudo", "ugCDhpRrtTU", 0) },
    Wrapper { argument_long: &["--kill-after", "--signal"], ..wrapper("timeout", "ks", 1) },
    Wrapper { argument_long: &["--adjustment"], ..wrapper("nice", "n", 0) },
    Wrapper { argument_long: &["--input", "--output", "--error"], ..wrapper("stdbuf", "ioe", 0) },
    Wrapper { argument_long: &["--format", "--output"], ..wrapper("time", "fo", 0) },
    Wrapper { argument_long: &["--class", "--classdata"], ..wrapper("ionice", "cn", 0) },
    wrapper("doas", "uC", 0),
    wrapper("chrt", "TPD", 1),
    wrapper("taskset", "", 1),
    wrapper("nohup", "", 0),
    wrapper("setsid", "", 0),
    wrapper("busybox", "", 0),
];

/// An element of `argv` as far as the config decides it.
#[derive(Clone, Debug)]
struct Word {
    element: usize,
    /// The text before the first placeholder.
    literal: String,
    /// Whether a client's text is in it.
    client: bool,
    /// Whether the body's file is: nothing in a script, but a script where one's file stands.
    body: bool,
    /// Whether it is nothing but `literal`.
    fixed: bool,
}

/// Whether what fills `hole` comes from the client: a text, or the body as a file.
pub(super) fn is_outside(hole: &Placeholder) -> bool {
    is_clients(hole) || hole.from == Source::PayloadFile
}

/// The first thing in `argv` that a client could make run. `dashes`: a client's value may
/// begin with `-`, so it may be an option where options are read.
pub(super) fn exposed(argv: &[&Template], dashes: bool) -> Option<Exposed> {
    let words: Vec<Word> =
        argv.iter().enumerate().map(|(element, template)| Word::of(element, template)).collect();
    behind_wrappers(words, dashes)
}

/// How remedies call the kind of interpreter that `program` is.
pub(super) fn family(program: &str) -> Option<&'static str> {
    find_family(program).and_then(|family| family.names.first().copied())
}

impl Word {
    fn of(element: usize, template: &Template) -> Self {
        use procession_core::placeholder::Part;
        let literal = match template.parts().first() {
            Some(Part::Text(text)) => text.clone(),
            _ => String::new(),
        };
        let fixed = template.holes().next().is_none();
        let client = template.takes_client_text();
        let body = template.holes().any(|hole| hole.from == Source::PayloadFile);
        Self { element, literal, client, body, fixed }
    }

    /// Whether a client decides what stands there from its first letter on.
    fn is_anything(&self) -> bool {
        self.client && self.literal.is_empty()
    }

    fn ends_options(&self, style: Style) -> bool {
        self.fixed && (self.literal == "--" || (self.literal == "-" && style == Style::Shell))
    }

    fn is_option(&self, style: Style) -> bool {
        let plus = style == Style::Shell && self.literal.starts_with('+');
        (self.literal.starts_with('-') || plus) && (self.literal.len() > 1 || !self.fixed)
    }
}

fn stem(program: &str) -> &str {
    let name = program.rsplit('/').next().unwrap_or(program);
    // python3.12, perl5.36, ruby3.1, lua5.4
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
}

fn find_family(program: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.names.contains(&stem(program)))
}

fn behind_wrappers(mut words: Vec<Word>, dashes: bool) -> Option<Exposed> {
    let first = words.first()?.clone();
    if first.client || first.body {
        return Some(Exposed::Program(first.element));
    }
    if !first.fixed {
        return None;
    }
    if let Some(family) = find_family(&first.literal) {
        return in_interpreter(family, &words, dashes);
    }
    let wrapper = WRAPPERS.iter().find(|wrapper| wrapper.name == stem(&first.literal))?;
    words.remove(0);
    if wrapper.name == "env" {
        match split_strings(words) {
            Ok(split) => words = split,
            Err(element) => return Some(Exposed::Script { element, interpreter: "env".into() }),
        }
    }
    match program_of(wrapper, &words, dashes) {
        Ok(at) => behind_wrappers(words.split_off(at), dashes),
        Err(exposed) => Some(exposed),
    }
}

/// Where the program stands among the arguments of `wrapper`.
fn program_of(wrapper: &Wrapper, words: &[Word], dashes: bool) -> Result<usize, Exposed> {
    let mut operands = wrapper.operands;
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let text = &word.literal;
        if word.is_anything() && dashes {
            return Err(Exposed::Program(word.element));
        }
        if text.starts_with('-') {
            at += if wrapper.takes_next(text) { 2 } else { 1 };
        } else if let Some((name, _)) = text.split_once('=').filter(|_| wrapper.assigns) {
            if word.client && loads_code(name) {
                return Err(Exposed::Variable { element: word.element, name: name.into() });
            }
            at += 1;
        } else if operands > 0 {
            operands -= 1;
            at += 1;
        } else {
            break;
        }
    }
    Ok(at.min(words.len()))
}

impl Wrapper {
    /// Whether the argument of the option `text` is the next element.
    fn takes_next(&self, text: &str) -> bool {
        if text.starts_with("--") {
            return self.argument_long.contains(&text);
        }
        let letter = text.char_indices().skip(1).find(|(_, letter)| self.argument.contains(*letter));
        letter.is_some_and(|(at, letter)| at + letter.len_utf8() == text.len())
    }
}

/// `env -S "sh -c"` is `env sh -c`; a placeholder in such a string would be split too.
fn split_strings(words: Vec<Word>) -> Result<Vec<Word>, usize> {
    let mut out = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let cluster = word.literal.starts_with('-') && !word.literal.starts_with("--");
        let after = if cluster { word.literal.split_once('S').map(|(_, rest)| rest) } else { None };
        let long = word.literal.strip_prefix("--split-string");
        let Some(rest) = after.or(long) else {
            out.push(word);
            continue;
        };
        let split = if rest.is_empty() && word.fixed {
            match words.next() {
                Some(next) => next,
                None => break,
            }
        } else {
            Word { literal: rest.trim_start_matches('=').into(), ..word }
        };
        if split.client {
            return Err(split.element);
        }
        for part in split.literal.split_whitespace() {
            let literal = part.trim_matches(['"', '\'']).to_owned();
            out.push(Word { literal, ..split.clone() });
        }
        out.extend(words);
        break;
    }
    Ok(out)
}

/// What an option says of the elements behind it.
enum Means {
    Nothing,
    /// The next element is its argument.
    Argument,
    /// The next element is a script.
    CodeNext,
    /// The script was in the option itself.
    CodeHere,
    /// A shell's first operand will be a script; the next element may be an argument first.
    CodeLater {
        argument: bool,
    },
    /// Nothing will run.
    Idle,
}

/// `words[0]` is an interpreter of `family`.
fn in_interpreter(family: &Family, words: &[Word], dashes: bool) -> Option<Exposed> {
    let first = words.first()?;
    let interpreter = first.literal.rsplit('/').next().unwrap_or_default().to_owned();
    let (mut has_code, mut later, mut idle, mut options) = (false, false, false, true);
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        if options && word.ends_options(family.style) {
            options = false;
            continue;
        }
        if options && word.is_anything() && dashes {
            return Some(Exposed::Option { element: word.element, interpreter });
        }
        if !options || !word.is_option(family.style) {
            return operand(word, has_code, later, interpreter);
        }
        let means = meaning(family, &word.literal);
        let code = matches!(means, Means::CodeHere | Means::CodeNext);
        if word.client {
            return Some(in_option(word, code, interpreter));
        }
        if matches!(means, Means::Argument | Means::CodeNext | Means::CodeLater { argument: true }) {
            let next = rest.next()?;
            if next.client {
                return Some(in_option(next, code, interpreter));
            }
        }
        has_code |= code;
        later |= matches!(means, Means::CodeLater { .. });
        idle |= matches!(means, Means::Idle);
        if has_code && family.style == Style::AttachedLast {
            return None;
        }
    }
    let silent = has_code || later || idle;
    (!silent).then_some(Exposed::Stdin { element: first.element, interpreter })
}

fn in_option(word: &Word, code: bool, interpreter: String) -> Exposed {
    let element = word.element;
    if code { Exposed::Script { element, interpreter } } else { Exposed::Option { element, interpreter } }
}

/// The first element that is no option: a shell's script after `-c`, else the script's
/// file, else, with a script given already, the script's own argument.
fn operand(word: &Word, has_code: bool, later: bool, interpreter: String) -> Option<Exposed> {
    const STDIN: [&str; 3] = ["-", "/dev/stdin", "/dev/fd/0"];
    let element = word.element;
    if has_code {
        None
    } else if word.client && later {
        Some(Exposed::Script { element, interpreter })
    } else if (word.client || word.body) && !later {
        Some(Exposed::File { element, interpreter })
    } else if !later && word.fixed && STDIN.contains(&word.literal.as_str()) {
        Some(Exposed::Stdin { element, interpreter })
    } else {
        None
    }
}

fn meaning(family: &Family, option: &str) -> Means {
    if option.starts_with("--") {
        let (name, value) = option.split_once('=').map_or((option, false), |(name, _)| (name, true));
        return match (family.code_long.contains(&name), family.argument_long.contains(&name), value) {
            (true, _, true) => Means::CodeHere,
            (true, _, false) => Means::CodeNext,
            (_, true, false) => Means::Argument,
            _ if name == "--version" || name == "--help" => Means::Idle,
            _ => Means::Nothing,
        };
    }
    let letters = option.trim_start_matches(['-', '+']);
    if family.style == Style::Shell {
        let argument = letters.contains(|letter| family.argument.contains(letter));
        return match (letters.contains('c'), argument) {
            (true, argument) => Means::CodeLater { argument },
            (false, true) => Means::Argument,
            (false, false) => Means::Nothing,
        };
    }
    let mut found = Means::Nothing;
    for (at, letter) in letters.char_indices() {
        let last = at + letter.len_utf8() == letters.len();
        if family.code.contains(letter) {
            return if last || family.style == Style::Next { Means::CodeNext } else { Means::CodeHere };
        } else if family.argument.contains(letter) {
            return if last { Means::Argument } else { Means::Nothing };
        } else if family.idle.contains(letter) {
            found = Means::Idle;
        } else if family.rest.contains(letter) {
            return Means::Nothing;
        }
    }
    found
}

#[cfg(test)]
mod tests;
