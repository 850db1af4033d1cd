//! What the command line asks for.

use std::path::PathBuf;

use crate::bench::Size;
use crate::case::{CASES, Case};

/// Repetitions where none are asked for.
const REPETITIONS: usize = 3;

/// One invocation.
pub(crate) struct Wish {
    pub(crate) cases: Vec<&'static Case>,
    pub(crate) repetitions: usize,
    pub(crate) size: Size,
    /// Before each case.
    pub(crate) wait_for_quiet: bool,
    pub(crate) json: Option<PathBuf>,
}

/// Reads the words after the program's name; the error is for people.
pub(crate) fn read(words: &[String]) -> Result<Wish, String> {
    let mut wish = Wish {
        cases: Vec::new(),
        repetitions: REPETITIONS,
        size: Size::Full,
        wait_for_quiet: false,
        json: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| usage(&format!("{word} needs a value")));
        match word.as_str() {
            "--reps" => {
                let number = value()?.parse().ok().filter(|number| (1..=100).contains(number));
                wish.repetitions = number.ok_or_else(|| usage("--reps takes a number from 1 to 100"))?;
            }
            "--json" => wish.json = Some(value()?.into()),
            "--quiet" => wish.wait_for_quiet = true,
            "--smoke" => (wish.size, wish.repetitions) = (Size::Smoke, 1),
            name => {
                let case = CASES.iter().find(|case| case.name == name);
                wish.cases.push(case.ok_or_else(|| usage(&format!("there is no case `{name}`")))?);
            }
        }
    }
    if wish.cases.is_empty() {
        wish.cases = CASES.iter().collect();
    }
    Ok(wish)
}

fn usage(complaint: &str) -> String {
    let mut text = format!(
        "{complaint}\nbench/run [CASE...] [--reps N] [--json FILE] [--quiet] [--smoke]\n\
         --quiet waits, up to two minutes before each case, until others leave the machine alone\n\
         --smoke sees in half a minute that every case works\ncases:\n"
    );
    for case in &CASES {
        text += &format!("  {:<9} {:<4} {}\n", case.name, case.target, case.about);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn no_case_is_all_cases() {
        let wish = read(&[]).expect("a wish");
        assert_eq!((wish.cases.len(), wish.repetitions), (CASES.len(), REPETITIONS));
    }

    #[test]
    fn cases_options_and_mistakes() {
        let wish = read(&words("jobs cpu --reps 5 --json out.json")).expect("a wish");
        assert_eq!((wish.cases.len(), wish.repetitions), (2, 5));
        for wrong in ["nonsense", "--reps", "--reps 0", "--reps x"] {
            assert!(read(&words(wrong)).is_err_and(|text| text.contains("bench/run")), "{wrong}");
        }
    }
}
