//! Colour, by plain ANSI sequences.
//!
//! Knows what a style looks like and which a state has; whether the stream is a terminal
//! that wants colour is `screen`'s to know.

use procession_core::state::JobState;

/// How a word looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Dim,
    Bold,
    Good,
    Bad,
    Active,
}

impl Style {
    /// `text` in this style, if `on`.
    pub(super) fn paint(self, text: &str, on: bool) -> String {
        let code = match self {
            Style::Plain => return text.to_owned(),
            Style::Dim => 2,
            Style::Bold => 1,
            Style::Good => 32,
            Style::Bad => 31,
            Style::Active => 36,
        };
        if on && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The style of a state's word.
    pub(super) fn of(state: JobState) -> Style {
        match state {
            JobState::Scheduled | JobState::Queued => Style::Dim,
            JobState::Running | JobState::Waiting => Style::Active,
            JobState::Succeeded => Style::Good,
            JobState::Cancelled => Style::Plain,
            JobState::Failed | JobState::TimedOut | JobState::Lost => Style::Bad,
        }
    }
}
