//! F10: what can be saved of a damaged store is saved, into a new file, and loads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use procession_core::id::JobId;
use procession_core::job::NewJob;
use procession_core::outcome::{LostReason, Outcome};
use procession_core::schedule::ScheduleName;
use procession_core::state::JobState;
use procession_store::sqlite::{Exam, Salvage, salvage};
use procession_store::{KnownSchedule, ScheduleState, SqliteStore, Store, StoreError, Submitted};
use tempfile::TempDir;

use crate::fixture::*;

const PAGE: usize = 4_096;

/// A closed store of many jobs in all states, and what each job looks like in it.
async fn many() -> (TempDir, std::path::PathBuf, BTreeMap<JobId, JobState>) {
    let (folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    for n in 0..600 {
        let labels = labels(&[("n", &(n % 7).to_string())]);
        put(&store, NewJob { labels, idempotency: key(&n.to_string(), 1), ..job("a", n) }).await;
        put(&store, NewJob { priority: 1, ..job("b", n) }).await;
    }
    for claimed in take(&store, 300, "a", 700).await {
        store.finish(ok(claimed.lease, 700)).await.expect("recorded");
    }
    take(&store, 4, "b", 701).await;
    let name: ScheduleName = "nightly".parse().expect("a name");
    let nightly = KnownSchedule { name: name.clone(), rhythm: "x".into(), first: Some(at(800)) };
    store.put_schedules(vec![nightly]).await.expect("known");
    store.set_schedule(&name, ScheduleState::Paused).await.expect("paused");
    let states = states(&store).await;
    drop(store);
    (folder, path, states)
}

async fn states(store: &SqliteStore) -> BTreeMap<JobId, JobState> {
    store.list(everything()).await.expect("listed").into_iter().map(|job| (job.id, job.state)).collect()
}

/// Overwrites some pages.
fn damage(path: &Path, pages: &[usize]) {
    let mut bytes = fs::read(path).expect("read");
    for page in pages {
        bytes[page * PAGE..(page + 1) * PAGE].fill(0x5a);
    }
    fs::write(path, bytes).expect("written");
}

/// Saves it, which must not change it; the new store is whole.
fn saved(path: &Path) -> (Salvage, std::path::PathBuf) {
    let before = fs::read(path).expect("read");
    let to = path.with_file_name("saved.db");
    let _ = fs::remove_file(&to);
    let salvage = salvage(path, &to).expect("something is left");
    assert_eq!(fs::read(path).expect("read"), before, "the old file is as it was");
    assert_eq!(Exam::open(&to).expect("a store").faults(), [], "{salvage:?}");
    (salvage, to)
}

#[tokio::test]
async fn f10_of_a_whole_store_everything_is_saved() {
    let (_folder, path, states_before) = many().await;
    let (salvage, to) = saved(&path);
    assert_eq!((salvage.lost, salvage.dropped, salvage.ended_by_attempt), (0, 0, 0), "{salvage:?}");
    assert!(salvage.tables.iter().all(|table| table.refused == 0 && table.unreadable == 0), "{salvage:?}");
    let (old, new) = (SqliteStore::open(&path).expect("opens"), SqliteStore::open(&to).expect("opens"));
    assert_eq!(states(&new).await, states_before);
    assert_eq!(new.stats().await, old.stats().await);
    assert_eq!(new.schedules().await, old.schedules().await);
    // What is due stays due when the server names it again.
    let name: ScheduleName = "nightly".parse().expect("a name");
    let again = KnownSchedule { name, rhythm: "x".into(), first: Some(at(900)) };
    new.put_schedules(vec![again]).await.expect("known");
    assert_eq!(new.schedules().await, old.schedules().await);
    assert_eq!(new.claimed_by("n1").await, old.claimed_by("n1").await, "the keeper's records still fit");
    for id in states_before.keys() {
        assert_eq!(new.get(*id).await, old.get(*id).await);
        assert_eq!(new.attempts(*id).await, old.attempts(*id).await);
        assert_eq!(new.payload(*id).await, old.payload(*id).await);
    }
    let labelled = procession_store::Query { labels: labels(&[("n", "3")]), ..everything() };
    assert_eq!(page(&new, labelled.clone()).await, page(&old, labelled).await);
    let replay = NewJob { idempotency: key("7", 1), ..job("a", 900) };
    assert!(matches!(new.submit(replay).await, Ok(Submitted::Replay(_))));
    let fence = take(&new, 1, "b", 800).await[0].lease.fence;
    assert!(fence.0 > 1 << 32, "{fence:?}: of claims that were not found none is equalled");
}

#[tokio::test]
async fn f10_wherever_it_is_damaged_the_rest_is_saved() {
    let (_folder, path, before) = many().await;
    let whole = fs::read(&path).expect("read");
    let pages = whole.len() / PAGE;
    // What says where the tables are, and where the jobs are, cannot be done without.
    let vital = [pages_of(&path, "sqlite_schema", "%"), pages_of(&path, "job", "internal")].concat();
    let spared = |at: &usize| *at < pages && !vital.contains(at);
    let (mut tried, mut all) = (0, 0);
    for page in (1..pages).step_by(19) {
        fs::write(&path, &whole).expect("whole");
        damage(&path, &[page, page + 1].into_iter().filter(spared).collect::<Vec<_>>());
        let (salvage, to) = saved(&path);
        let new = SqliteStore::open(&to).expect("it opens");
        let now = states(&new).await;
        tried += 1;
        all += usize::from(now.len() == before.len());
        assert!(
            now.len() >= before.len() - 80,
            "page {page}: {} of {}: {salvage:?}",
            now.len(),
            before.len()
        );
        for (id, state) in now {
            // Never another end than the real one: the same, or said to be unknown.
            assert!(
                state == before[&id] || state == JobState::Lost,
                "{id} was {} and is {state}",
                before[&id]
            );
        }
        assert_eq!(new.probe().await, Ok(()));
    }
    assert!(tried > 5 && all > 0, "{tried} tried, {all} with all jobs");
}

#[tokio::test]
async fn f10_a_job_whose_standing_is_gone_is_lost_and_not_run_again() {
    let (_folder, path, before) = many().await;
    damage(&path, &pages_of(&path, "live", "%"));
    let (salvage, to) = saved(&path);
    let new = SqliteStore::open(&to).expect("it opens");
    let unfinished = before.values().filter(|state| !state.is_final()).count() as u64;
    assert_eq!(salvage.lost, unfinished, "{salvage:?}");
    let id = before.iter().find(|(_, state)| **state == JobState::Queued).expect("one waited").0;
    let job = new.get(*id).await.expect("loads").expect("kept");
    assert_eq!(job.outcome, Some(Outcome::Lost { reason: LostReason::StoreDamaged }));
    assert!(new.payload(*id).await.expect("read").is_some(), "a retry needs its body");
    assert_eq!(take(&new, 10, "a", 900).await, []);
}

#[tokio::test]
async fn f10_an_end_that_is_gone_is_taken_from_its_attempt() {
    let (_folder, path, before) = many().await;
    damage(&path, &pages_of(&path, "done", "%"));
    let (salvage, to) = saved(&path);
    assert_eq!((salvage.lost, salvage.ended_by_attempt), (0, 300), "{salvage:?}");
    let new = SqliteStore::open(&to).expect("it opens");
    assert_eq!(states(&new).await, before);
}

#[tokio::test]
async fn f10_row_numbers_that_lie_do_not_make_it_search_for_ever() {
    let (_folder, path, before) = many().await;
    let middle = before.len() as i64 / 2;
    let conn = rusqlite::Connection::open(&path).expect("opens");
    // So that what was moved stands in no other page.
    conn.pragma_update(None, "secure_delete", "ON").expect("set");
    // As a flipped bit would, of as many rows as a damaged page hides.
    let moved = "UPDATE job SET rowid = rowid + (1 << 60) WHERE rowid >= ?1";
    assert_eq!(conn.execute(moved, [middle]).expect("moved"), before.len() - middle as usize + 1);
    let mut around = conn
        .prepare("SELECT id FROM job WHERE rowid IN (?1 - 1, ?1 + (1 << 60)) ORDER BY rowid")
        .expect("prepared");
    let ids = around.query_map([middle], |row| row.get::<_, Vec<u8>>(0)).expect("rows");
    let ids: Vec<Vec<u8>> = ids.map(|id| id.expect("an id")).collect();
    drop(around);
    drop(conn);
    let bytes = fs::read(&path).expect("read");
    let has = |page: &usize| {
        let page = &bytes[page * PAGE..(page + 1) * PAGE];
        ids.iter().any(|id| page.windows(16).any(|window| window == id))
    };
    let leaves: Vec<usize> = pages_of(&path, "job", "leaf").into_iter().filter(has).collect();
    assert!((1..=2).contains(&leaves.len()), "{leaves:?}");
    damage(&path, &leaves);
    let (salvage, to) = saved(&path);
    let jobs = salvage.tables.iter().find(|saved| saved.table == "job").expect("saved");
    assert!(jobs.open_end, "{jobs:?}");
    let now = states(&SqliteStore::open(&to).expect("it opens")).await;
    assert!(now.len() >= before.len() - 80, "{} of {}: {salvage:?}", now.len(), before.len());
}

#[tokio::test]
async fn f10_a_log_with_jobs_is_saved_with_its_database() {
    let (folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    for n in 0..20 {
        put(&store, job("a", n)).await;
    }
    // As after a death: the log was never copied.
    let dead = folder.path().join("dead.db");
    for (from, to) in [(path.clone(), dead.clone()), (with(&path, "-wal"), with(&dead, "-wal"))] {
        fs::copy(from, to).expect("copied");
    }
    let (salvage, to) = saved(&dead);
    assert_eq!(salvage.rows()["job"], 20);
    assert_eq!(SqliteStore::open(&to).expect("opens").stats().await.expect("read")[&task("a")].queued, 20);
}

#[tokio::test]
async fn f10_what_cannot_be_saved_is_said_and_nothing_is_overwritten() {
    let (_folder, path, _) = many().await;
    let to = path.with_file_name("saved.db");
    fs::write(&to, "precious").expect("written");
    assert!(matches!(salvage(&path, &to), Err(StoreError::Refused(text)) if text.contains("already")));
    assert_eq!(fs::read_to_string(&to).expect("read"), "precious");
    fs::remove_file(&to).expect("removed");
    fs::write(&path, "dear diary, ".repeat(1_000)).expect("written");
    assert!(salvage(&path, &to).is_err());
    assert!(!to.exists());
}

fn with(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The pages a table takes, from 0, of one kind or any: found before they are damaged.
fn pages_of(path: &Path, table: &str, kind: &str) -> Vec<usize> {
    let conn = rusqlite::Connection::open(path).expect("opens");
    let mut found = conn
        .prepare("SELECT pageno - 1 FROM dbstat WHERE name = ?1 AND pagetype LIKE ?2 AND pageno > 1")
        .expect("this build of SQLite has dbstat");
    let pages = found.query_map([table, kind], |row| row.get::<_, i64>(0)).expect("pages");
    pages.map(|page| page.expect("a number") as usize).collect()
}
