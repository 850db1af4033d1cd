//! Whether a command would let a client's text become code: a part of a script behind
//! `-c` or `-e`, the script's file, an option of the interpreter, or the program behind
//! `env`. A function of the templates alone, tested as a table.
//!
//! It knows the interpreters and wrappers people put in front of things, not every program
//! that can run another; a task's author stays responsible for those.

mod known;

use procession_core::placeholder::{Placeholder, Source, Template};

use self::known::{CARRIERS, Family, Style, WRAPPERS, Wrapper, find_family, stem};
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
    if CARRIERS.contains(&stem(&first.literal)) {
        let at = words.iter().position(|word| word.fixed && find_family(&word.literal).is_some())?;
        return behind_wrappers(words.split_off(at), dashes);
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

/// `env -S "sh -c"` is `env sh -c`; a placeholder in such a string would be split too.
fn split_strings(words: Vec<Word>) -> Result<Vec<Word>, usize> {
    let mut out = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        // In a cluster of letters, but not in the argument of `-u` or `-C`.
        let short = word.literal.find(['S', 'u', 'C']).map(|at| word.literal.split_at(at));
        let after = short
            .filter(|(before, _)| before.starts_with('-') && !before.starts_with("--"))
            .and_then(|(_, letters)| letters.strip_prefix('S'));
        let Some(rest) = after.or_else(|| word.literal.strip_prefix("--split-string")) else {
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
