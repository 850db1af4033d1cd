//! Each `ui/NAME.toml` is printed complaint by complaint exactly as `ui/NAME.stderr` says.
//! To add a case, write the `.toml`, run with `PROCESSION_BLESS=1`, and read what came.

use std::fs;
use std::path::PathBuf;

use super::Scratch;

#[test]
fn complaints_are_printed_as_written_down() {
    let scratch = Scratch::new();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/ui");
    let bless = std::env::var_os("PROCESSION_BLESS").is_some();
    let mut cases: Vec<PathBuf> =
        fs::read_dir(&folder).expect("the cases").map(|entry| entry.expect("a case").path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    cases.sort();
    assert!(cases.len() > 10, "only {} cases in {}", cases.len(), folder.display());
    for case in cases {
        let config = fs::read_to_string(&case).expect("a config");
        let printed = scratch.complaints(&config) + "\n";
        let expected = case.with_extension("stderr");
        if bless {
            fs::write(&expected, &printed).expect("a place for what is expected");
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(printed, expected, "{}", case.display());
    }
}
