//! `docs/config.md` knows every key the config knows, and no key the config does not; the
//! examples of the documentation are configs.

use std::fs;
use std::path::PathBuf;

use super::super::keys::ALL;
use super::super::reply_text::REPLY_FACTS;

fn page(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    fs::read_to_string(path).expect("a page of the documentation")
}

fn text() -> String {
    page("config.md")
}

#[test]
fn every_key_is_documented() {
    let text = text();
    for keys in ALL {
        for key in keys.known.iter().chain(keys.later) {
            assert!(
                text.contains(&format!("`{key}`")),
                "docs/config.md says nothing of `{key}` of {}",
                keys.section
            );
        }
    }
    for (fact, _) in REPLY_FACTS {
        assert!(text.contains(&format!("`{{{{{fact}}}}}`")), "docs/config.md says nothing of {fact}");
    }
}

#[test]
fn every_documented_key_is_known() {
    for line in text().lines() {
        let Some(key) = line.strip_prefix("| `").and_then(|rest| rest.split_once('`')).map(|(key, _)| key)
        else {
            continue;
        };
        let fact = key.trim_matches(['{', '}']);
        let known = ALL.iter().any(|keys| keys.known.contains(&key))
            || key.starts_with("{{") && REPLY_FACTS.iter().any(|(known, _)| *known == fact);
        assert!(known, "docs/config.md has `{key}`, which nothing reads");
    }
}

#[test]
fn its_examples_load() {
    for name in ["config.md", "schedules.md", "families.md", "queue.md", "callbacks.md"] {
        let text = page(name);
        let examples: Vec<&str> =
            text.split("```toml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect();
        assert!(!examples.is_empty(), "docs/{name} has no example");
        for example in examples {
            let scratch = super::Scratch::new();
            assert_eq!(scratch.complaints(example), "", "docs/{name}");
        }
    }
}
