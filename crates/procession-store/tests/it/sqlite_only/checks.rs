//! Every CHECK of the schema refuses a row it is there to refuse.

use std::collections::BTreeSet;

use procession_core::job::NewJob;
use procession_store::{SqliteStore, Store};
use rusqlite::{Connection, ErrorCode};

use crate::fixture::*;

/// Changes no row may survive, one table after the other.
const ILLEGAL: &[&str] = &[
    "UPDATE meta SET one = 2",
    "UPDATE meta SET fence = -1",
    "UPDATE meta SET probes = -1",
    "UPDATE task SET name = ''",
    "UPDATE task SET paused = 2",
    "UPDATE task SET queued = -1",
    "UPDATE task SET scheduled = -1",
    "UPDATE task SET unfinished = -1",
    "UPDATE task SET finished = -1, failed = -1",
    "UPDATE task SET failed = finished + 1",
    "INSERT INTO lane (task, value, max_running) VALUES (1, 'x', -1)",
    "INSERT INTO lane (task, value, paused) VALUES (1, 'x', 7)",
    "UPDATE job SET id = x'00'",
    "UPDATE job SET priority = 101",
    "UPDATE job SET max_attempts = 0",
    "UPDATE job SET parent = x'00', root = zeroblob(16), depth = 1",
    "UPDATE job SET parent = zeroblob(16), root = x'00', depth = 1",
    "UPDATE job SET parent = zeroblob(16), root = zeroblob(16), depth = 1, child_index = -1",
    "UPDATE job SET depth = -1",
    "UPDATE job SET retry_of = x'00'",
    "UPDATE job SET payload_len = -1, payload = NULL",
    "UPDATE job SET parent = zeroblob(16), depth = 1",
    "UPDATE job SET depth = 1",
    "UPDATE job SET child_index = 1",
    "UPDATE job SET principal = 'me', idempotency_key = NULL",
    "UPDATE job SET payload_len = payload_len + 1 WHERE payload IS NOT NULL",
    "INSERT INTO label (name, value, job) VALUES ('a', 'b', x'00')",
    "INSERT INTO idempotency VALUES (1, 'p', 'k', x'00', zeroblob(16))",
    "INSERT INTO idempotency VALUES (1, 'p', 'k', zeroblob(32), x'00')",
    "UPDATE live SET state = 'resting' WHERE state = 'queued'",
    "UPDATE live SET state = 'succeeded' WHERE state = 'queued'",
    "UPDATE live SET priority = -101",
    "UPDATE live SET attempt = -1 WHERE state = 'queued'",
    "UPDATE live SET deferred = -1",
    "UPDATE live SET retrying = 2 WHERE state = 'scheduled'",
    "UPDATE live SET holds_slot = 2 WHERE state = 'running'",
    "UPDATE live SET fence = 0 WHERE state = 'running'",
    "UPDATE live SET claim_id = x'00' WHERE state = 'running'",
    "UPDATE live SET boot_id = x'00' WHERE state = 'running'",
    "UPDATE live SET containment = 'hope' WHERE state = 'running'",
    "UPDATE live SET cancel_at = 1, cancel_by = 'nobody' WHERE state = 'running'",
    "UPDATE live SET fence = 1 WHERE state = 'queued'",
    "UPDATE live SET state = 'running' WHERE state = 'queued'",
    "UPDATE live SET holds_slot = 1 WHERE state = 'queued'",
    "UPDATE live SET started_at = 1 WHERE state = 'queued'",
    "UPDATE live SET retrying = 1 WHERE state = 'queued'",
    "UPDATE live SET cancel_at = 1 WHERE state = 'running'",
    "UPDATE live SET cancel_at = 1, cancel_by = 'client' WHERE state = 'queued'",
    "UPDATE attempt SET attempt = 0",
    "UPDATE attempt SET fence = 0",
    "UPDATE attempt SET claim_id = x'00'",
    "UPDATE attempt SET kind = 'slept'",
    "UPDATE attempt SET run_ms = -1",
    "UPDATE attempt SET user_us = -1",
    "UPDATE attempt SET system_us = -1",
    "UPDATE attempt SET max_rss_bytes = -1",
    "UPDATE attempt SET containment = 'hope'",
    "UPDATE attempt SET leaked = -1",
    "UPDATE attempt SET output_limit = -1",
    "UPDATE attempt SET stdout_total = -1, stdout_written = -1",
    "UPDATE attempt SET stdout_written = stdout_total + 1",
    "UPDATE attempt SET stdout_place = 'nowhere'",
    "UPDATE attempt SET stderr_total = -1, stderr_written = -1",
    "UPDATE attempt SET stderr_written = stderr_total + 1",
    "UPDATE attempt SET stderr_place = 'nowhere'",
    "UPDATE attempt SET user_us = NULL",
    "UPDATE done SET attempt = -1",
    "UPDATE done SET progress = 1.5, progress_message = ''",
    "UPDATE done SET result_json = 2, result_len = 1",
    "UPDATE done SET result_json = 1, result_len = -1",
    "UPDATE done SET kind = 'lost' WHERE state = 'succeeded'",
    "UPDATE done SET state = 'failed', kind = 'timed_out'",
    "UPDATE done SET state = 'queued'",
    "UPDATE done SET attempt = 0 WHERE state = 'succeeded'",
    "UPDATE done SET progress = 0.5",
    "UPDATE done SET result_json = 1",
    "UPDATE done SET result_json = 1, result_len = 3, result = x'00'",
    "INSERT INTO node VALUES ('n', x'00', 1, 0, 0, 'alive', 'v')",
    "INSERT INTO node VALUES ('n', zeroblob(16), 0, 0, 0, 'alive', 'v')",
    "INSERT INTO node VALUES ('n', zeroblob(16), 1, -1, 0, 'alive', 'v')",
    "INSERT INTO node VALUES ('n', zeroblob(16), 1, 0, -1, 'alive', 'v')",
    "INSERT INTO node VALUES ('n', zeroblob(16), 1, 0, 0, 'asleep', 'v')",
    "INSERT INTO schedule (name, paused) VALUES ('s', 2)",
    "INSERT INTO schedule (name, last_job) VALUES ('s', x'00')",
    "INSERT INTO delivery (job, ordinal, kind, target, state, tries, created_at, due_at) SELECT id, 0, 'then', '', 'pending', -1, 0, 0 FROM job",
    "INSERT INTO delivery (job, ordinal, kind, target, state, created_at, due_at) SELECT id, -1, 'then', '', 'pending', 0, 0 FROM job",
    "INSERT INTO delivery (job, ordinal, kind, target, state, created_at, due_at) SELECT id, 0, 'mail', '', 'pending', 0, 0 FROM job",
    "INSERT INTO delivery (job, ordinal, kind, target, state, created_at, due_at) SELECT id, 0, 'then', '', 'lost', 0, 0 FROM job",
    "INSERT INTO delivery (job, ordinal, kind, target, state, created_at, due_at, fixed) SELECT id, 0, 'then', '', 'pending', 0, 0, 2 FROM job",
    "INSERT INTO delivery (job, ordinal, kind, target, state, created_at, due_at, followed_by) SELECT id, 0, 'then', '', 'pending', 0, 0, x'00' FROM job",
    "INSERT INTO family (job, stops, joins, join_decides) VALUES (x'00', 0, 0, 0)",
    "INSERT INTO family (job, max_running, stops, joins, join_decides) VALUES (zeroblob(16), 0, 0, 0, 0)",
    "INSERT INTO family (job, stops, joins, join_decides) VALUES (zeroblob(16), 2, 0, 0)",
    "INSERT INTO family (job, stops, joins, join_decides) VALUES (zeroblob(16), 0, 2, 0)",
    "INSERT INTO family (job, stops, joins, join_decides) VALUES (zeroblob(16), 0, 0, 2)",
    "INSERT INTO family (job, stops, joins, join_decides, timeout_ms) VALUES (zeroblob(16), 0, 0, 0, -1)",
    "UPDATE live SET parent = x'00'",
    "UPDATE live SET follows = 2",
    "UPDATE live SET is_parent = 2",
    "UPDATE live SET begun_at = 1",
    "UPDATE live SET deadline = 1",
    "UPDATE live SET late = 2",
    "UPDATE live SET joins = 2",
    "UPDATE live SET gathers = 2",
    "UPDATE done SET parent = x'00'",
];

#[tokio::test]
async fn every_check_refuses_its_row() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    let lease = running(&store, "a", 0).await;
    store.finish(ok(lease, 0)).await.expect("recorded");
    running(&store, "a", 0).await;
    put(&store, job("a", 0)).await;
    put(&store, NewJob { run_at: Some(at(99)), ..job("a", 0) }).await;
    drop(store);

    let conn = Connection::open(&path).expect("opens");
    let mut met = BTreeSet::new();
    for sql in ILLEGAL {
        match conn.execute(sql, []) {
            Err(rusqlite::Error::SqliteFailure(error, Some(text)))
                if error.code == ErrorCode::ConstraintViolation && text.starts_with("CHECK") =>
            {
                let words =
                    sql.split_whitespace().filter(|word| !["INSERT", "INTO", "UPDATE"].contains(word));
                met.insert((words.take(1).collect::<String>(), text));
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
    // As the database has them, after every schema.
    let tables = "SELECT group_concat(sql, char(10)) FROM sqlite_schema WHERE type = 'table'";
    let schema: String = conn.query_row(tables, [], |row| row.get(0)).expect("the tables");
    let checks = schema.lines().filter(|line| !line.trim_start().starts_with("--"));
    assert_eq!(met.len(), checks.map(|line| line.matches("CHECK (").count()).sum::<usize>(), "{met:#?}");
}

#[tokio::test]
async fn rows_need_the_rows_they_name() {
    let (_folder, path) = place();
    drop(SqliteStore::open(&path).expect("a new store"));
    let conn = Connection::open(&path).expect("opens");
    conn.execute_batch("PRAGMA foreign_keys = ON").expect("set");
    let orphan = conn.execute_batch(
        "INSERT INTO live (job, task, state, priority, run_at) VALUES (zeroblob(16), 1, 'queued', 0, 0)",
    );
    assert!(orphan.is_err_and(|error| error.to_string().contains("FOREIGN KEY")));
    let strict = conn.execute_batch("UPDATE meta SET fence = 'seven'");
    assert!(strict.is_err_and(|error| error.to_string().contains("cannot store TEXT")));
}
