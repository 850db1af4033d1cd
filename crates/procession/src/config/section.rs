//! A section of the config as the readers of the single keys see it: keys are taken by
//! name and type; what does not fit is reported and counts as absent, and the reading
//! goes on. Unknown keys are reported when the section is opened.
//!
//! What a value means and which default it has is not known here.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use procession_core::quantity::{parse_duration, parse_size};
use toml::de::{DeTable, DeValue};

use super::diagnostic::Span;
use super::keys::{ALL, Keys, TASK};
use super::nearest::nearest;
use super::report::Report;

/// A table of the config whose keys are known in advance.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) report: &'a Report,
    /// Where the section is named, for complaints about what is not in it.
    pub(super) span: Span,
    /// How messages call it: `[task.report]`.
    pub(super) name: String,
    keys: &'static Keys,
    table: &'a DeTable<'a>,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Item<'a> {
    pub(super) report: &'a Report,
    /// How messages call it: `timeout`, `env.MODEL`.
    pub(super) name: String,
    pub(super) span: Span,
    value: &'a DeValue<'a>,
}

/// How messages call an element that should be a string.
pub(super) const ELEMENT: &str = "a list of strings";

/// A string of the config and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Text<'a> {
    pub(super) report: &'a Report,
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) text: &'a str,
}

/// An entry of a table whose keys are the user's own.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) key: Text<'a>,
    pub(super) value: Item<'a>,
}

impl<'a> Section<'a> {
    /// Opens `table`, which stands at `span`, and reports keys it should not have.
    pub(super) fn open(
        report: &'a Report,
        keys: &'static Keys,
        name: String,
        span: Span,
        table: &'a DeTable<'a>,
    ) -> Self {
        let section = Self { report, span, name, keys, table };
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !keys.known.contains(&name) {
                section.refuse(name, &key.span());
            }
        }
        section
    }

    fn refuse(&self, key: &str, span: &Span) {
        let later = |keys: &Keys| keys.later.contains(&key);
        if later(self.keys) {
            let message = format!("this version does not have `{key}` yet");
            return self.report.error(span, message, "remove it: nothing here would obey it");
        }
        let message = format!("unknown key `{key}` in {}", self.name);
        let elsewhere: Vec<&str> = ALL
            .iter()
            .filter(|keys| keys.known.contains(&key) && !std::ptr::eq(**keys, self.keys))
            .map(|keys| keys.section)
            .collect();
        let dotted = std::ptr::eq(self.keys, &TASK)
            && self.table.get(key).is_some_and(|value| value.get_ref().is_table());
        let help = if key == "insecure" {
            "it is a flag of the command line: `procession serve --insecure`".into()
        } else if let Some(meant) = nearest(key, self.keys.known) {
            format!("did you mean `{meant}`?")
        } else if !elsewhere.is_empty() {
            format!("`{key}` belongs in {}", elsewhere.join(" or "))
        } else if dotted {
            let task = self.name.trim_start_matches("[task.").trim_end_matches(']');
            format!("a task's name with a dot needs quotes: [task.\"{task}.{key}\"]")
        } else if self.keys.known.len() <= 6 {
            format!("its keys: {}", self.keys.known.join(", "))
        } else {
            "docs/config.md lists the keys there are".into()
        };
        self.report.error(span, message, help);
    }

    /// The value of `key`, of whatever type.
    pub(super) fn item(&self, key: &'static str) -> Option<Item<'a>> {
        debug_assert!(self.keys.known.contains(&key), "`{key}` is missing from the table of keys");
        let value = self.table.get(key)?;
        Some(Item { report: self.report, name: key.into(), span: value.span(), value: value.get_ref() })
    }

    /// Where `key` has its value, else where the section is named.
    pub(super) fn span_of(&self, key: &'static str) -> Span {
        self.item(key).map_or(self.span.clone(), |item| item.span)
    }

    /// Whether `key` is there, well-formed or not.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.item(key).is_some()
    }

    pub(super) fn text(&self, key: &'static str) -> Option<Text<'a>> {
        self.item(key)?.text("a string")
    }

    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        self.item(key)?.flag()
    }

    pub(super) fn count(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.item(key)?.count(range)
    }

    pub(super) fn size(&self, key: &'static str) -> Option<u64> {
        self.item(key)?.size()
    }

    pub(super) fn duration(&self, key: &'static str) -> Option<Duration> {
        self.item(key)?.duration()
    }

    /// A duration, or `"none"`: the inner `None`. Zero is refused, it would mean "at once".
    pub(super) fn bound(&self, key: &'static str) -> Option<Option<Duration>> {
        let item = self.item(key)?;
        if item.is_none() {
            return Some(None);
        }
        let duration = item.duration()?;
        if duration.is_zero() {
            let message = format!("`{key}` is zero");
            self.report.error(
                &item.span,
                message,
                "write \"none\" for no bound, or a duration such as \"10s\"",
            );
            return None;
        }
        Some(Some(duration))
    }

    /// One of the words of `choices`.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.text(key)?.choice(choices)
    }

    /// The strings of a list; `[]` is empty.
    pub(super) fn texts(&self, key: &'static str, example: &str) -> Option<Vec<Text<'a>>> {
        self.item(key)?.texts(example)
    }

    /// The entries of a table with keys of the user's own.
    pub(super) fn entries(&self, key: &'static str, example: &str) -> Option<Vec<Entry<'a>>> {
        self.item(key)?.entries(&format!("write {key} = {example}"))
    }
}

impl<'a> Item<'a> {
    /// Reports that the value is of another type than it should be.
    fn mistyped(&self, expected: &str, help: impl Into<String>) {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.report.error(&self.span, format!("`{}` must be {expected}, not {found}", self.name), help);
    }

    /// The text as it stands in the file, quotes and all, if it is on one line.
    fn written(&self) -> &'a str {
        let text = self.report.source.text.get(self.span.clone()).unwrap_or_default();
        text.lines().next().unwrap_or_default()
    }

    /// The string, where it is one.
    pub(super) fn as_str(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// As it was read.
    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value
    }

    /// Whether it is the word for "no bound".
    pub(super) fn is_none(&self) -> bool {
        self.value.as_str() == Some("none")
    }

    /// A string; `expected` is how the message calls it.
    pub(super) fn text(&self, expected: &str) -> Option<Text<'a>> {
        let Some(text) = self.value.as_str() else {
            let help = match self.value {
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
                    format!("put it in quotes: \"{}\"", self.written())
                }
                _ if expected == ELEMENT => "write one string for each element".into(),
                _ => format!("write {} = \"…\"", self.name),
            };
            self.mistyped(expected, help);
            return None;
        };
        if text.contains('\0') {
            let message = format!("`{}` holds a NUL character", self.name);
            self.report.error(&self.span, message, "no argument, variable or path can hold one; remove it");
            return None;
        }
        Some(Text { report: self.report, name: self.name.clone(), span: self.span.clone(), text })
    }

    pub(super) fn flag(&self) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.mistyped("true or false", format!("write {} = true, without quotes", self.name));
        }
        flag
    }

    pub(super) fn count(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let (least, most) = (range.start(), range.end());
        let allowed =
            if *most == u64::MAX { format!("{least} or more") } else { format!("{least} to {most}") };
        let Some(integer) = self.value.as_integer() else {
            let quoted =
                self.as_str().and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
            let example = quoted.unwrap_or(*least.max(&10));
            self.mistyped("a whole number", format!("write {} = {example}, without quotes", self.name));
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let found = number.filter(|number| range.contains(number));
        if found.is_none() {
            let message = format!("`{}` cannot be {}", self.name, self.written());
            self.report.error(&self.span, message, format!("allowed is {allowed}"));
        }
        found
    }

    pub(super) fn size(&self) -> Option<u64> {
        let text = self.quantity("a size", "1MiB", "B")?;
        self.parsed(parse_size(text))
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        let text = self.quantity("a duration", "10s", "s")?;
        self.parsed(parse_duration(text))
    }

    fn quantity(&self, expected: &str, example: &str, unit: &str) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            let plain = self.value.as_integer().map(|integer| integer.as_str());
            let plain = plain.filter(|digits| digits.bytes().all(|c| c.is_ascii_digit()));
            let example = plain.map_or_else(|| example.into(), |digits| format!("{digits}{unit}"));
            self.mistyped(expected, format!("write it with its unit: {} = \"{example}\"", self.name));
        }
        text
    }

    fn parsed<T>(&self, parsed: Result<T, procession_core::quantity::BadQuantity>) -> Option<T> {
        let say = |bad: procession_core::quantity::BadQuantity| {
            let said = bad.to_string();
            let (message, help) = said.split_once(": ").unwrap_or((&said, "see docs/config.md"));
            self.report.error(&self.span, format!("`{}` is {message}", self.name), help);
        };
        parsed.map_err(say).ok()
    }

    /// A file mode: octal digits in quotes, or an octal number.
    pub(super) fn mode(&self) -> Option<u32> {
        let help = "write the octal digits: \"0660\"";
        let digits = match self.value {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(integer) if integer.radix() == 8 => integer.as_str(),
            _ => {
                self.mistyped("a file mode", help);
                return None;
            }
        };
        let plain = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
        let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| plain && *mode <= 0o777);
        if mode.is_none() {
            self.report.error(&self.span, format!("`{}` is not a file mode", self.name), help);
        }
        mode
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        self.value.as_array().is_some()
    }

    pub(super) fn items(&self, example: &str) -> Option<Vec<Item<'a>>> {
        let Some(array) = self.value.as_array() else {
            self.mistyped("a list", format!("write {} = {example}", self.name));
            return None;
        };
        let item = |value: &'a toml::Spanned<DeValue<'a>>| Item {
            report: self.report,
            name: self.name.clone(),
            span: value.span(),
            value: value.get_ref(),
        };
        Some(array.iter().map(item).collect())
    }

    /// The strings of a list; those that are none are reported and left out.
    pub(super) fn texts(&self, example: &str) -> Option<Vec<Text<'a>>> {
        let items = self.items(example)?;
        Some(items.iter().filter_map(|item| item.text(ELEMENT)).collect())
    }

    /// The strings of a list, or the only one.
    pub(super) fn one_or_many(&self, example: &str) -> Option<Vec<Text<'a>>> {
        match self.value {
            DeValue::String(_) => Some(self.text("a string").into_iter().collect()),
            _ => self.texts(example),
        }
    }

    /// The entries of a table whose keys are the user's own, in the order of the keys.
    pub(super) fn entries(&self, help: &str) -> Option<Vec<Entry<'a>>> {
        let table = self.table(help)?;
        let entry = |(key, value): (&'a toml::Spanned<_>, &'a toml::Spanned<DeValue<'a>>)| {
            let text: &'a std::borrow::Cow<'a, str> = key.get_ref();
            let name = format!("{}.{text}", self.name);
            Entry {
                key: Text { report: self.report, name: name.clone(), span: key.span(), text },
                value: Item { report: self.report, name, span: value.span(), value: value.get_ref() },
            }
        };
        Some(table.iter().map(entry).collect())
    }

    /// A table with known keys; `at` is where it is named.
    pub(super) fn section(
        &self,
        keys: &'static Keys,
        name: &str,
        at: Span,
        help: &str,
    ) -> Option<Section<'a>> {
        let table = self.table(help)?;
        Some(Section::open(self.report, keys, name.into(), at, table))
    }

    fn table(&self, help: &str) -> Option<&'a DeTable<'a>> {
        let table = self.value.as_table();
        if table.is_none() {
            self.mistyped("a table", help);
        }
        table
    }
}

impl<'a> Text<'a> {
    /// Reports an error about all of it.
    pub(super) fn error(&self, message: impl Into<String>, help: impl Into<String>) {
        self.report.error(&self.span, message, help);
    }

    /// One of the words of `choices`.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let found = choices.iter().find(|(word, _)| *word == self.text).map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            let help = match nearest(self.text, &words) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None if quoted.len() == 1 => format!("it can only be {}", quoted.join("")),
                None => format!("it is one of {}", quoted.join(", ")),
            };
            self.error(format!("`{}` cannot be \"{}\"", self.name, self.text.escape_debug()), help);
        }
        found
    }

    /// A path, relative to `folder`; never empty.
    pub(super) fn path(&self, folder: &Path) -> Option<std::path::PathBuf> {
        if self.text.is_empty() {
            self.error(
                format!("`{}` is empty", self.name),
                "name a file or folder, relative to the config's",
            );
            return None;
        }
        // Without the `.` of "./x", so that the same file always has the same name.
        Some(folder.join(self.text).components().collect())
    }

    /// Where `part`, from byte `at` of the text, stands in the file: exact unless the
    /// string is written with escapes, else all of it.
    pub(super) fn span_within(&self, at: usize, length: usize) -> Span {
        let written = self.report.source.text.get(self.span.clone()).unwrap_or_default();
        match written.find(self.text) {
            Some(quote) if !self.text.is_empty() => {
                let start = self.span.start + quote + at;
                start..start + length
            }
            _ => self.span.clone(),
        }
    }
}
