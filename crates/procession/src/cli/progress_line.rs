//! The line on a terminal's stderr that shows how far a followed job is.
//!
//! Draws nothing anywhere else: a log file with a hundred progress lines helps nobody.

use super::screen::Screen;

const CLEAR: &[u8] = b"\r\x1b[K";

/// At most one line, always the last on the screen, and gone before anything else is
/// written there.
#[derive(Debug)]
pub(super) struct ProgressLine {
    screen: Screen,
    text: Option<String>,
    at_line_start: bool,
}

impl ProgressLine {
    pub(super) fn new(screen: Screen) -> Self {
        ProgressLine { screen, text: None, at_line_start: true }
    }

    /// Shows `text` in place of what it showed.
    pub(super) fn show(&mut self, text: &str) {
        if self.screen.stderr_terminal {
            self.hide();
            self.text = Some(text.to_owned());
            self.draw();
        }
    }

    /// There is nothing to show any more.
    pub(super) fn clear(&mut self) {
        self.hide();
        self.text = None;
    }

    /// Makes room for output.
    pub(super) fn hide(&self) {
        if self.text.is_some() && self.at_line_start {
            self.screen.stderr(CLEAR);
        }
    }

    /// Comes back after `output` was written; not behind half a line.
    pub(super) fn after(&mut self, output: &[u8]) {
        if let Some(last) = output.last() {
            self.at_line_start = *last == b'\n';
        }
        self.draw();
    }

    fn draw(&self) {
        if let Some(text) = self.text.as_ref().filter(|_| self.at_line_start) {
            self.screen.stderr(text.as_bytes());
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.hide();
        if self.screen.terminal && self.screen.stderr_terminal && !self.at_line_start {
            self.screen.say("");
        }
    }
}
