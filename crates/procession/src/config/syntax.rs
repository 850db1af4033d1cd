//! What is wrong with the config as TOML, before anything is known of its keys.
//!
//! After a mistake the parser guesses on and complains about its own guesses, so only its
//! first complaint is taken; the next independent mistake is looked for behind it, from
//! the next line on that begins like a key or a section.

use toml::de::DeTable;

use super::diagnostic::Span;

/// Nobody corrects more of them at once.
const MOST: usize = 20;

/// The mistakes in `text`, each with its place.
pub(super) fn mistakes(text: &str) -> Vec<(Span, String)> {
    let mut found = Vec::new();
    let mut from = 0;
    while found.len() < MOST {
        let Some(error) = DeTable::parse_recoverable(&text[from..]).1.into_iter().next() else { break };
        let span = error.span().unwrap_or(0..0);
        let (start, end) = (from + span.start, (from + span.end).min(text.len()));
        found.push((start..end, error.message().to_owned()));
        match next_statement(text, start) {
            Some(next) => from = next,
            None => break,
        }
    }
    found
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
