//! Job ids as people write them: whole, or by their end.
//!
//! UUIDv7 begin alike when they are made at about the same time, so tables show the last
//! eight digits, and any verb takes a unique end of at least four.

use anyhow::{bail, ensure};
use jiff::Timestamp;
use procession_core::api::{Job, JobPage};
use procession_core::id::JobId;

use super::client::{Call, Client};
use super::query::Query;
use super::when;

const FEWEST: usize = 4;

/// The last eight digits.
pub(super) fn short(id: JobId) -> String {
    let id = id.to_string();
    id[id.len() - 8..].to_owned()
}

/// The id that `text` is or that ends in it; the server knows which there are.
pub(super) async fn resolve(client: &Client, text: &str) -> anyhow::Result<JobId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let suffix = suffix(text)?;
    let path = Query::of("/v1/jobs").with("id_suffix", &suffix).with("limit", "3").end();
    let page: JobPage = client.ask(Call::get(path)).await?.json()?;
    choose(text, &suffix, page, Timestamp::now())
}

fn suffix(text: &str) -> anyhow::Result<String> {
    let suffix = text.to_ascii_lowercase();
    let digits = suffix.bytes().filter(u8::is_ascii_hexdigit).count();
    let hex = suffix.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    ensure!(
        hex && suffix.len() <= 36,
        "`{text}` is no job id: ids are hexadecimal, as `procession jobs` shows them"
    );
    ensure!(digits >= FEWEST, "`{text}` is too short: give at least {FEWEST} digits of the id's end");
    Ok(suffix)
}

/// Without the hyphens, which people leave out.
fn digits(id: &str) -> String {
    id.replace('-', "")
}

fn choose(text: &str, suffix: &str, page: JobPage, now: Timestamp) -> anyhow::Result<JobId> {
    // A server that does not know the parameter lists any jobs.
    let fits = |job: &&Job| digits(&job.id.to_string()).ends_with(&digits(suffix));
    let found: Vec<&Job> = page.items.iter().filter(fits).collect();
    match found.as_slice() {
        [] => bail!("no job's id ends in `{text}`"),
        [job] => Ok(job.id),
        several => {
            let line = |job: &&Job| {
                format!("\n  {}  {} {}, {}", job.id, job.task, job.state, when::ago(job.submitted_at, now))
            };
            let lines: String = several.iter().map(line).collect();
            bail!("`{text}` is the end of several ids; give more digits:{lines}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::job;

    fn page(ids: &[JobId]) -> JobPage {
        let items = ids.iter().map(|&id| Job { id, ..job::queued() }).collect();
        JobPage { items, next_cursor: None }
    }

    fn id(end: u8) -> JobId {
        JobId::new(1_700_000_000_000, [7, 7, 7, 7, 7, 7, 7, 7, 0xab, end])
    }

    #[test]
    fn the_end_of_an_id_must_be_long_enough_and_hexadecimal() {
        assert_eq!(suffix("AB12").expect("four digits"), "ab12");
        assert_eq!(suffix("7-ab12").expect("with a hyphen"), "7-ab12");
        for bad in ["", "abc", "ab-1", "xyz12", "../etc", &"a".repeat(37)] {
            assert!(suffix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_match_is_taken_and_several_are_named() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(choose("ab01", "ab01", page(&[id(1)]), now).expect("one"), id(1));
        assert_eq!(choose("ab01", "ab01", page(&[id(1), id(2)]), now).expect("one of two fits"), id(1));
        let error = choose("0", "0", page(&[id(0), id(0x10)]), now).expect_err("two").to_string();
        assert!(error.contains(&id(0).to_string()) && error.contains(&id(0x10).to_string()), "{error}");
        assert!(choose("ffff", "ffff", page(&[id(1)]), now).is_err());
    }

    #[test]
    fn short_ids_are_the_last_eight_digits() {
        assert_eq!(short(id(1)), "0707ab01");
    }
}
