//! What is wrong with the config as TOML, before anything is known of its keys.
//!
//! After a mistake the parser guesses on and complains about its own guesses, so only its
//! first complaint is taken; the next independent mistake is looked for behind it, from
//! the next line on that begins like a key or a section.

use toml::de::DeTable;

use super::diagnostic::Span;

/// Nobody corrects more of them at once.
const MOST: usize = 20;

/// One of them.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) span: Span,
    pub(super) message: String,
    pub(super) help: String,
}

/// The mistakes in `text`.
pub(super) fn mistakes(text: &str) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut from = 0;
    while found.len() < MOST {
        let errors = DeTable::parse_recoverable(&text[from..]).1;
        let place = |error: &toml::de::Error| error.span().unwrap_or(0..0);
        // Mistakes within a value are found after those between values.
        let Some(error) = errors.iter().min_by_key(|error| place(error).start) else { break };
        let span = place(error);
        let (start, end) = (from + span.start, (from + span.end).min(text.len()));
        found.push(explain(text, start..end, error.message()));
        match next_statement(text, start) {
            Some(next) => from = next,
            None => break,
        }
    }
    found
}

/// The parser's message, or a clearer one for the two mistakes people make.
fn explain(text: &str, span: Span, message: &str) -> Mistake {
    if let Some(word) = bare_word(text, span.start) {
        let message = format!("not TOML: `{word}` stands without quotes");
        let help = format!("write \"{word}\"");
        return Mistake { span: span.start..span.start + word.len(), message, help };
    }
    let help = if message == "duplicate key" {
        "remove one of the two; keys of a section belong together"
    } else {
        "see https://toml.io for the syntax"
    };
    Mistake { span, message: format!("not TOML: {message}"), help: help.into() }
}

/// The word at `at`, if it stands alone behind a `=`: a string that lacks its quotes.
fn bare_word(text: &str, at: usize) -> Option<&str> {
    let (before, rest) = text.split_at_checked(at)?;
    let line = rest.lines().next().unwrap_or_default();
    let word = line.split('#').next().unwrap_or_default().trim_end();
    let plain = |c: char| c.is_alphanumeric() || "-_./:".contains(c);
    let alone = before.trim_end_matches([' ', '\t']).ends_with('=');
    (alone && !word.is_empty() && word.chars().all(plain)).then_some(word)
}

/// The first line behind the one at `at` that begins like a key or a section.
fn next_statement(text: &str, at: usize) -> Option<usize> {
    let mut line = at;
    loop {
        line += text.get(line..)?.find('\n')? + 1;
        let first = text[line..].trim_start_matches('[').chars().next();
        if first.is_some_and(|c| c.is_ascii_alphabetic()) {
            return Some(line);
        }
    }
}
