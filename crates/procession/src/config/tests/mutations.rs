//! No text makes the loader panic, and every complaint about it can be shown: thousands of
//! damaged versions of the contract's example, the same ones each time.

use super::Scratch;
use super::contract::EXAMPLE;

/// A xorshift generator: the same numbers on every machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const SCRAPS: [&str; 32] = [
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "{{",
    "}}",
    "=",
    ".",
    ",",
    "\n",
    "\r",
    "\\",
    "\\u0000",
    "#",
    "\u{feff}",
    "报告",
    "\u{1f686}",
    "\0",
    "{{payload.",
    "-",
    "0",
    "99999999999999999999",
    "nan",
    "1979-05-27",
    "true",
    "[task.x]\n",
    "[task.full-report]\n",
];

fn damage(numbers: &mut Numbers, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(chars.len() + 1);
        let end = (at + numbers.below(12)).min(chars.len());
        match numbers.below(4) {
            0 => drop(chars.drain(at..end)),
            1 => drop(chars.splice(at..at, numbers.pick(&SCRAPS).chars())),
            2 => drop(chars.splice(at..end, numbers.pick(&SCRAPS).chars())),
            _ => {
                let copy: Vec<char> = chars[at..end].to_vec();
                let to = numbers.below(chars.len() + 1);
                drop(chars.splice(to..to, copy));
            }
        }
    }
    chars.into_iter().collect()
}

/// Another value in place of one key's own: stays TOML more often than damage does.
fn exchange(numbers: &mut Numbers, text: &str) -> String {
    const VALUES: [&str; 14] = [
        "1",
        "-1",
        "0.5",
        "true",
        "\"\"",
        "\"none\"",
        "\"{{payload.x}}\"",
        "[]",
        "{}",
        "[\"sh\", \"-c\", \"{{query.x}}\"]",
        "{ a = { b = 1 } }",
        "[[1]]",
        "\"bytes\"",
        "1979-05-27",
    ];
    let lines: Vec<&str> = text.lines().collect();
    let at = numbers.below(lines.len());
    let value = numbers.pick(&VALUES);
    let exchanged = |(n, line): (usize, &&str)| match line.split_once('=') {
        Some((key, _)) if n == at => format!("{key}= {value}"),
        _ => (*line).to_owned(),
    };
    lines.iter().enumerate().map(exchanged).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_text_makes_it_panic() {
    let scratch = Scratch::new();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut good, mut bad) = (0, 0);
    for round in 0..3000 {
        let mut text = EXAMPLE.to_owned();
        for _ in 0..=numbers.below(2) {
            text = if round % 2 == 0 { damage(&mut numbers, &text) } else { exchange(&mut numbers, &text) };
        }
        match scratch.parse(&text) {
            Ok(_) => good += 1,
            Err(complaints) => {
                bad += 1;
                let shown = complaints.to_string();
                assert!(complaints.errors() > 0 && shown.contains("help: "), "{shown}\n{text}");
            }
        }
    }
    assert!(good > 100 && bad > 1000, "{good} good, {bad} bad: the damage is too small or too great");
}

#[test]
fn no_depth_exhausts_the_stack() {
    let scratch = Scratch::new();
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let text = format!("x = {}1{}", open.repeat(100_000), close.repeat(100_000));
        assert!(scratch.parse(&text).is_err());
    }
    assert!(scratch.parse(&format!("{}b = 1", "a.".repeat(100_000))).is_err());
    assert!(scratch.parse(&format!("[{}b]", "a.".repeat(100_000))).is_err());
}
