//! "Did you mean …": the known key nearest to a mistyped one.

/// What people write who come from other tools.
const SYNONYMS: [(&str, &str); 18] = [
    ("address", "listen"),
    ("args", "command"),
    ("backups", "keep"),
    ("bind", "listen"),
    ("cmd", "command"),
    ("concurrency", "max_running"),
    ("cwd", "directory"),
    ("environment", "env"),
    ("max_concurrent", "max_running"),
    ("max_files", "keep"),
    ("method", "route"),
    ("path", "route"),
    ("port", "listen"),
    ("program", "command"),
    ("url", "route"),
    ("workdir", "directory"),
    ("working_dir", "directory"),
    ("working_directory", "directory"),
];

/// The one of `known` that `word` is most likely meant to be.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase().replace('-', "_");
    let most = word.chars().count().max(3) / 3;
    let own = known.iter().map(|key| (*key, *key));
    let foreign = SYNONYMS
        .iter()
        .filter_map(|(theirs, ours)| known.iter().find(|key| *key == ours).map(|key| (*theirs, *key)));
    own.chain(foreign)
        .map(|(name, key)| (distance(&word, name), key))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// How many insertions, deletions, replacements and swaps of neighbours lead from one to
/// the other (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = above[j] + usize::from(a != b);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, expected) in
            [("", "", 0), ("", "abc", 3), ("timeout", "timeuot", 1), ("grace", "grease", 2), ("ab", "ba", 1)]
        {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn finds_what_was_meant() {
        let known = ["command", "max_running", "max_queued", "timeout", "route", "env"];
        for (word, expected) in [
            ("max_runing", Some("max_running")),
            ("max-running", Some("max_running")),
            ("Timeout", Some("timeout")),
            ("cmd", Some("command")),
            ("environment", Some("env")),
            ("enviroment", Some("env")),
            ("zzz", None),
            ("", None),
            ("zebra", None),
        ] {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
    }
}
