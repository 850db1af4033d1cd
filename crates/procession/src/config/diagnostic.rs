//! What is wrong with a config, as people read it: the message, the place with the line
//! and a caret under the offending text, and the remedy. The form is rustc's.
//!
//! Nothing here knows what a config is; the walker makes diagnostics, `serve`, `check`
//! and `reload` print them. No colour: whoever prints to a terminal may add it.

use std::fmt;
use std::ops::Range;

/// Bytes of a file that a complaint is about.
pub(super) type Span = Range<usize>;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The config cannot be used.
    Error,
    /// It can, but it may not do what its author wants.
    Warning,
    /// It can, and it does; `check` says what its author may have forgotten.
    Advice,
}

/// One complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name, for the complaints people look up.
    pub code: Option<&'static str>,
    /// What is wrong, one line.
    pub message: String,
    /// Where; none when the file itself cannot be read.
    pub place: Option<Place>,
    /// The remedy.
    pub help: String,
}

/// A stretch of one line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The whole line.
    pub text: String,
    /// How many characters of it are meant; at least 1.
    pub length: usize,
}

/// All complaints about a config that cannot be used: at least one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub(super) Vec<Diagnostic>);

impl Diagnostics {
    /// How many of them are errors.
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    /// Each, in the order of the file.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, diagnostic) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.severity {
            Severity::Error => "error",
            Severity::Warning | Severity::Advice => "warning",
        })?;
        if let Some(code) = self.code {
            write!(f, "[{code}]")?;
        }
        write!(f, ": {}", self.message)?;
        let Some(place) = &self.place else {
            return write!(f, "\n  = help: {}", self.help);
        };
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        let window = place.window();
        write!(f, "\n{margin}--> {}:{}:{}", place.file, place.line, place.column)?;
        write!(f, "\n{margin} |\n{number} | {}\n{margin} | {}", window.text, window.carets)?;
        write!(f, "\n{margin} = help: {}", self.help)
    }
}

/// What is shown of a line.
struct Window {
    text: String,
    carets: String,
}

impl Place {
    /// A line of hundreds of characters is cut to what lies around the place.
    fn window(&self) -> Window {
        const BEFORE: usize = 60;
        const SHOWN: usize = 140;
        let start =
            if self.text.chars().count() <= SHOWN { 0 } else { (self.column - 1).saturating_sub(BEFORE) };
        let cut = |from: usize, to: usize| -> String {
            self.text.chars().skip(from).take(to.saturating_sub(from)).map(shown).collect()
        };
        let (column, end) = (self.column - 1, start + SHOWN);
        let ellipsis = |cut_off: bool| if cut_off { "…" } else { "" };
        let text = format!(
            "{}{}{}",
            ellipsis(start > 0),
            cut(start, end),
            ellipsis(self.text.chars().nth(end).is_some())
        );
        let indent = usize::from(start > 0) + columns(&cut(start, column));
        let marked = columns(&cut(column, (column + self.length).min(end)));
        Window {
            text: text.trim_end().replace('\t', "    "),
            carets: format!("{}{}", " ".repeat(indent), "^".repeat(marked.max(1))),
        }
    }
}

/// A terminal would act on control characters; a tab's width is our own.
fn shown(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// Columns on a terminal: tabs as printed above, the wide blocks of East Asian scripts
/// and emoji. Rough, but carets stand right under Chinese keys and values.
fn width(c: char) -> usize {
    match u32::from(c) {
        0x09 => 4,
        0x0300..=0x036f | 0x200b..=0x200f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x1f900..=0x1f9ff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// A file's name and text: turns spans into places.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// As the user named it.
    pub(super) name: String,
    /// All of it.
    pub(super) text: String,
}

impl Source {
    /// The place of `span`; of a span over several lines, what lies on the first.
    pub(super) fn place(&self, span: &Span) -> Place {
        let start = self.boundary(span.start);
        let end = self.boundary(span.end).max(start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let text = self.text[line_start..line_end].trim_end_matches('\r');
        let marked = &self.text[start..end.min(line_end)];
        Place {
            file: self.name.clone(),
            line: self.text[..start].matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            text: text.to_owned(),
            length: marked.chars().count().max(1),
        }
    }

    /// The place of a line and column, both from 1, the column in bytes: what serde_json tells.
    pub(super) fn place_at(&self, line: usize, column: usize) -> Place {
        let before: usize = self.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let at = before + column.saturating_sub(1);
        self.place(&(at..at + 1))
    }

    /// A parser's span may end inside a character or behind the text.
    fn boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}
