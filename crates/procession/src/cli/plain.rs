//! Takes control sequences out of text that others wrote, before a terminal reads it.
//!
//! A job's output may move the cursor, rename the window or rewrite lines above; shown
//! to a person it must not. Bytes that go to a file or pipe never pass here.

/// Removes escape sequences and control characters from a stream, whatever its chunks.
/// Line feeds and tabs stay; a carriage return becomes the line feed it stands for, so
/// that nothing is overwritten.
#[derive(Debug, Default)]
pub(super) struct Filter {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// After a carriage return: the line feed is written, one that follows is the same.
    Returned,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte: one more ends it.
    Intermediate,
    /// In `ESC [ …`, until its final byte.
    Csi,
    /// In a string (OSC, DCS, …), until BEL or ST.
    Text,
    /// In such a string after ESC or 0xC2: the end, perhaps.
    TextEnd,
    /// After 0xC2: perhaps a C1 control in UTF-8.
    Lead,
}

impl Filter {
    /// What of `bytes` may be shown.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.state = step(self.state, byte, &mut shown);
        }
        shown
    }
}

fn step(state: State, byte: u8, shown: &mut Vec<u8>) -> State {
    match (state, byte) {
        (State::Text, 0x07) => State::Ground,
        (State::Text, 0x1b | 0xc2) => State::TextEnd,
        // No terminal saw the string begin, so a line is enough to end one that never ends.
        (State::Text | State::TextEnd, b'\n') => ground(byte, shown),
        // CAN and SUB end a sequence, whatever it was.
        (State::Text | State::TextEnd, 0x18 | 0x1a) => State::Ground,
        (State::Text, _) => State::Text,
        (State::TextEnd, b'\\' | 0x9c) => State::Ground,
        (State::TextEnd, _) => step(State::Text, byte, shown),
        (State::Csi, 0x40..=0x7e) | (State::Intermediate, 0x30..=0x7e) => State::Ground,
        (State::Csi, 0x20..=0x3f) => State::Csi,
        (State::Intermediate, 0x20..=0x2f) => State::Intermediate,
        (State::Escape, b'[') => State::Csi,
        (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::Text,
        (State::Escape, 0x20..=0x2f) => State::Intermediate,
        (State::Escape, 0x30..=0x7e) => State::Ground,
        (State::Lead, 0x9b) => State::Csi,
        (State::Lead, 0x90 | 0x98 | 0x9d..=0x9f) => State::Text,
        (State::Lead, 0x80..=0x9f) => State::Ground,
        (State::Lead, 0xa0..=0xbf) => {
            shown.extend([0xc2, byte]);
            State::Ground
        }
        (State::Returned, b'\n') => State::Ground,
        (_, byte) => ground(byte, shown),
    }
}

fn ground(byte: u8, shown: &mut Vec<u8>) -> State {
    match byte {
        0x1b => return State::Escape,
        0xc2 => return State::Lead,
        b'\r' => {
            shown.push(b'\n');
            return State::Returned;
        }
        b'\n' | b'\t' | 0x20..=0x7e | 0x80..=0xff => shown.push(byte),
        _ => {}
    }
    State::Ground
}

/// `text` as one line, without anything that controls a terminal.
pub(super) fn line(text: &str) -> String {
    let shown = Filter::default().pass(text.as_bytes());
    String::from_utf8_lossy(&shown).trim().replace(['\n', '\t'], " ")
}

/// `text` as lines, without anything that controls a terminal.
pub(super) fn lines(text: &str) -> String {
    String::from_utf8_lossy(&Filter::default().pass(text.as_bytes())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: [(&str, &str); 15] = [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP1$r\x1b[0m\x1b\\x", "x"),
        ("a\x1b(Bb", "ab"),
        ("\x1bcreset", "reset"),
        ("10%\r20%\r\n30%", "10%\n20%\n30%"),
        ("bell\x07 back\x08space\x7f", "bell backspace"),
        ("caf\u{e9} \u{2713} \u{4e2d}\u{a0}", "caf\u{e9} \u{2713} \u{4e2d}\u{a0}"),
        ("c1\u{9b}31mred", "c1red"),
        ("c1\u{9d}0;t\u{9c}x", "c1x"),
        ("nel\u{85}x", "nelx"),
        ("\x1b]endless\nnext line", "\nnext line"),
        ("cut \x1b[3\x1b[1mbold", "cut bold"),
    ];

    #[test]
    fn sequences_are_removed_and_text_stays() {
        for (given, shown) in CASES {
            assert_eq!(lines(given), shown, "{given:?}");
        }
    }

    #[test]
    fn the_cut_between_chunks_does_not_matter() {
        for (given, shown) in CASES {
            let mut filter = Filter::default();
            let bytes: Vec<u8> = given.bytes().flat_map(|byte| filter.pass(&[byte])).collect();
            assert_eq!(bytes, shown.as_bytes(), "{given:?}");
        }
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(line(" roof\nleft\x1b[2J "), "roof left");
    }
}
