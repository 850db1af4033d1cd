//! Every statement prepares and uses the index it should; a batch keeps its verbs apart.

use procession_core::id::JobId;
use procession_core::job::{NewJob, StoredPayload};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::writer::Sync;
use super::{SqliteStore, started, submit, tasks};
use super::{
    cancel, claim, delete, delivery, ending, expire, family, finish, lanes, ledger, list, probe, query,
    record, release, schedule, schema,
};
use crate::error::StoreError;
use crate::store::{Effects, Query, Store, Submitted};

mod nth;

/// All statements, by the file and name they have there.
const STATEMENTS: &[(&str, &str)] = &[
    ("cancel::OVER", cancel::OVER),
    ("claim::DUE", claim::DUE),
    ("claim::PROMOTE", claim::PROMOTE),
    ("claim::HELD", claim::HELD),
    ("claim::HELD_BY_LANE", claim::HELD_BY_LANE),
    ("claim::HELD_BY_FAMILY", claim::HELD_BY_FAMILY),
    ("claim::NEXT", claim::NEXT),
    ("claim::JOINS", claim::JOINS),
    ("claim::GIVE", claim::GIVE),
    ("claim::SPEC", claim::SPEC),
    ("claim::OUTCOMES", claim::OUTCOMES),
    ("claim::NEXT_SCHEDULED", claim::NEXT_SCHEDULED),
    ("delete::STANDING", delete::STANDING),
    ("delete::OLD", delete::OLD),
    ("delete::BELOW", delete::BELOW),
    ("delete::LABELS", delete::LABELS),
    ("delete::KEYS", delete::KEYS),
    ("delete::PENDING", delete::PENDING),
    ("delete::DELIVERIES", delete::DELIVERIES),
    ("delete::FAMILY", delete::FAMILY),
    ("delete::ATTEMPTS", delete::ATTEMPTS),
    ("delete::DONE", delete::DONE),
    ("delete::JOB", delete::JOB),
    ("delivery::FOLLOW_UPS", delivery::FOLLOW_UPS),
    ("delivery::IS_GONE", delivery::IS_GONE),
    ("delivery::INSERT_DELIVERY", delivery::INSERT_DELIVERY),
    ("delivery::NEXT_HOST", delivery::NEXT_HOST),
    ("delivery::DUE_OF_HOST", delivery::DUE_OF_HOST),
    ("delivery::NEXT_DUE", delivery::NEXT_DUE),
    ("delivery::TRIED", delivery::TRIED),
    ("delivery::GIVE_UP", delivery::GIVE_UP),
    ("delivery::FOLLOWED_BY", delivery::FOLLOWED_BY),
    ("delivery::INSERT_GONE", delivery::INSERT_GONE),
    ("delivery::FORGET_GONE", delivery::FORGET_GONE),
    ("delivery::OTHERS_GONE", delivery::OTHERS_GONE),
    ("delivery::BACK", delivery::BACK),
    ("delivery::STATE", delivery::STATE),
    ("delivery::REPEAT", delivery::REPEAT),
    ("delivery::ONE", delivery::ONE),
    ("delivery::OF_JOB", delivery::OF_JOB),
    ("delivery::NEWEST", delivery::NEWEST),
    ("delivery::NEWEST_IN_STATE", delivery::NEWEST_IN_STATE),
    ("ending::DROP_LIVE", ending::DROP_LIVE),
    ("ending::INSERT_DONE", ending::INSERT_DONE),
    ("expire::EXPIRED", expire::EXPIRED),
    ("expire::LATE", expire::LATE),
    ("family::RULES", family::RULES),
    ("family::BEGIN", family::BEGIN),
    ("family::GROUPS_BELOW", family::GROUPS_BELOW),
    ("family::STANDS", family::STANDS),
    ("family::BELOW", family::BELOW),
    ("family::ANY_BELOW", family::ANY_BELOW),
    ("family::MARK", family::MARK),
    ("family::FAILED", family::FAILED),
    ("family::JOIN", family::JOIN),
    ("family::GATHER", family::GATHER),
    ("family::TO_GATHER", family::TO_GATHER),
    ("family::LATE", family::LATE),
    ("family::ENDS", family::ENDS),
    ("family::COUNTS", family::COUNTS),
    ("family::BUSY", family::BUSY),
    ("finish::LEAVE", finish::LEAVE),
    ("finish::MAY_GO_ON", finish::MAY_GO_ON),
    ("finish::AGAIN", finish::AGAIN),
    ("finish::RECORDED", finish::RECORDED),
    ("finish::INSERT_ATTEMPT", finish::INSERT_ATTEMPT),
    ("lanes::GROUPS", lanes::GROUPS),
    ("ledger::TASKS", ledger::TASKS),
    ("ledger::INSERT_TASK", ledger::INSERT_TASK),
    ("ledger::UPDATE_TASK", ledger::UPDATE_TASK),
    ("ledger::FENCE", ledger::FENCE),
    ("ledger::UPDATE_FENCE", ledger::UPDATE_FENCE),
    ("ledger::RECOUNT", ledger::RECOUNT),
    ("ledger::PENDING", ledger::PENDING),
    ("ledger::NOT_COUNTED", ledger::NOT_COUNTED),
    ("list::BY_ID", list::BY_ID),
    ("list::BY_PARENT", list::BY_PARENT),
    ("list::BY_LANE", list::BY_LANE),
    ("list::BY_LABEL", list::BY_LABEL),
    ("list::LIVE_IN_STATE", list::LIVE_IN_STATE),
    ("list::DONE_IN_STATE", list::DONE_IN_STATE),
    ("list::CHILDREN", list::CHILDREN),
    ("list::TASK_IDS", list::TASK_IDS),
    ("probe::PROBE", probe::PROBE),
    ("query::PAYLOAD", query::PAYLOAD),
    ("query::CLAIMED", query::CLAIMED),
    ("query::NEXT_DUE", query::NEXT_DUE),
    ("query::PLACE", query::PLACE),
    ("query::AHEAD", query::AHEAD),
    ("query::JOINS_AHEAD", query::JOINS_AHEAD),
    ("query::ENDING", query::ENDING),
    ("query::TASK_ID", query::TASK_ID),
    ("record::RECORD", record::RECORD),
    ("record::ATTEMPTS", record::ATTEMPTS),
    ("release::LEASED", release::LEASED),
    ("release::RELEASE", release::RELEASE),
    ("schedule::SCHEDULES", schedule::SCHEDULES),
    ("schedule::PUT_SCHEDULE", schedule::PUT_SCHEDULE),
    ("schedule::FORGET_SCHEDULE", schedule::FORGET_SCHEDULE),
    ("schedule::STANDS", schedule::STANDS),
    ("schedule::MOVE_ON", schedule::MOVE_ON),
    ("schedule::RAN", schedule::RAN),
    ("schedule::PAUSE", schedule::PAUSE),
    ("schedule::RESUME", schedule::RESUME),
    ("started::START", started::START),
    ("started::RUNS", started::RUNS),
    ("submit::KEY", submit::KEY),
    ("submit::INSERT_KEY", submit::INSERT_KEY),
    ("submit::KNOWN", submit::KNOWN),
    ("submit::SAME", submit::SAME),
    ("submit::INSERT_JOB", submit::INSERT_JOB),
    ("submit::INSERT_LIVE", submit::INSERT_LIVE),
    ("submit::INSERT_FAMILY", submit::INSERT_FAMILY),
    ("submit::INSERT_LABEL", submit::INSERT_LABEL),
    ("submit::RUNNING", submit::RUNNING),
    ("tasks::COUNTS", tasks::COUNTS),
];

/// Walks that are meant: over the slots that are held, the few tasks and schedules, the one row
/// of meta; over all ids when a person abbreviates one; over the queue once at start.
const WALKS: [&str; 14] = [
    "SCAN below",
    "SCAN live USING COVERING INDEX live_gathers",
    "SCAN live USING COVERING INDEX live_begun",
    "SCAN live USING INDEX live_joins",
    "SCAN live USING COVERING INDEX live_slots",
    "SCAN live USING INDEX live_slots",
    "SCAN task",
    "SCAN schedule",
    "SCAN meta",
    "SCAN CONSTANT ROW",
    "SCAN job USING COVERING INDEX sqlite_autoindex_job_1",
    "SCAN pair VIRTUAL TABLE",
    "SCAN json_each VIRTUAL TABLE",
    "SCAN wanted VIRTUAL TABLE",
];

fn database() -> Connection {
    let mut conn = Connection::open_in_memory().expect("memory");
    // As the store's own connections: plans that hold for every value.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).expect("set");
    schema::migrate(&mut conn).expect("the schema");
    conn
}

fn plan(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a plan");
    let parameters = vec![rusqlite::types::Value::Null; statement.parameter_count()];
    let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get("detail"));
    rows.expect("rows").map(|row| row.expect("a line")).collect()
}

#[test]
fn every_statement_prepares_and_is_listed() {
    let conn = database();
    for (name, sql) in STATEMENTS {
        conn.prepare(sql).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sqlite");
    for entry in std::fs::read_dir(folder).expect("the sources") {
        let path = entry.expect("an entry").path();
        let file = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = if path.is_file() { std::fs::read_to_string(&path).expect("text") } else { String::new() };
        let names =
            text.lines().filter_map(|line| line.strip_prefix("pub(super) const ")?.split_once(": &str"));
        for (name, _) in names {
            let known = STATEMENTS.iter().any(|(listed, _)| *listed == format!("{file}::{name}"));
            assert!(known, "{file}::{name} is not in this test");
        }
    }
    assert!(STATEMENTS.len() < super::statement::CACHE, "the cache of prepared statements is too small");
}

#[test]
fn no_statement_walks_a_table_that_grows() {
    let conn = database();
    // Once at start, or after a transaction that failed.
    let once = ["ledger::RECOUNT", "ledger::NOT_COUNTED", "lanes::GROUPS"];
    for (name, sql) in STATEMENTS.iter().filter(|(name, _)| !once.contains(name)) {
        for line in plan(&conn, sql) {
            let meant = WALKS.iter().any(|walk| line.starts_with(walk));
            assert!(!line.starts_with("SCAN") || meant, "{name}: {line}");
        }
    }
}

#[test]
fn what_is_claimed_and_listed_comes_from_its_index_in_order() {
    let conn = database();
    let expected = [
        (claim::NEXT, "SEARCH live USING INDEX live_queued (task=? AND lane=? AND parent=?)"),
        (claim::JOINS, "SCAN live USING INDEX live_joins"),
        (claim::GIVE, "SEARCH live USING PRIMARY KEY (job=?)"),
        (finish::LEAVE, "SEARCH live USING PRIMARY KEY (job=?)"),
        (list::BY_ID, "SEARCH job USING INDEX sqlite_autoindex_job_1 (id>? AND id<?)"),
        (list::BY_PARENT, "SEARCH job USING INDEX job_by_parent (parent=? AND id>? AND id<?)"),
        (list::BY_LANE, "SEARCH job USING INDEX job_by_lane (lane=? AND id>? AND id<?)"),
        (list::BY_LABEL, "SEARCH label USING PRIMARY KEY (name=? AND value=? AND job>? AND job<?)"),
        (
            list::LIVE_IN_STATE,
            "SEARCH live USING COVERING INDEX live_by_state (task=? AND state=? AND job>? AND job<?)",
        ),
        (
            list::DONE_IN_STATE,
            "SEARCH done USING COVERING INDEX done_by_state (task=? AND state=? AND job>? AND job<?)",
        ),
        (record::RECORD, "SEARCH job USING INDEX sqlite_autoindex_job_1 (id=?)"),
        (expire::EXPIRED, "SEARCH live USING INDEX live_expires (expires_at>? AND expires_at<?)"),
        (
            query::AHEAD,
            "SEARCH live USING COVERING INDEX live_queued (task=? AND lane=? AND parent=? AND priority>?)",
        ),
        (ledger::RECOUNT, "SCAN live USING COVERING INDEX live_by_state"),
        (delete::OLD, "SEARCH delivery USING INDEX sqlite_autoindex_delivery_1 (job=?)"),
        (delete::PENDING, "SEARCH delivery USING INDEX sqlite_autoindex_delivery_1 (job=?)"),
        (delivery::TRIED, "SEARCH delivery USING INDEX sqlite_autoindex_delivery_1 (job=? AND ordinal=?)"),
        (delivery::DUE_OF_HOST, "SEARCH delivery USING INDEX delivery_by_host (host=? AND due_at<?)"),
        (delivery::NEXT_HOST, "SEARCH delivery USING COVERING INDEX delivery_by_host (host>?)"),
        (delivery::NEXT_DUE, "SEARCH delivery USING COVERING INDEX delivery_due (due_at>?)"),
        (delivery::NEWEST, "SEARCH delivery USING INTEGER PRIMARY KEY (rowid<?)"),
        (delivery::NEWEST_IN_STATE, "SEARCH delivery USING INDEX delivery_by_state (state=? AND id<?)"),
        (delete::OLD, "SEARCH done USING INDEX done_by_time (finished_at<?)"),
    ];
    for (sql, step) in expected {
        let plan = plan(&conn, sql);
        assert!(plan.iter().any(|line| line == step), "{sql}\n{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{sql}\n{plan:#?}");
    }
}

fn job(id: u8) -> NewJob {
    NewJob {
        payload: StoredPayload::File { len: 0 },
        ..NewJob::for_testing(JobId::from_bytes([id; 16]), "a")
    }
}

#[tokio::test]
async fn a_verb_that_fails_hurts_nobody_else_of_its_batch() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let store = SqliteStore::open(&folder.path().join("store.db")).expect("a new store");
    // While it waits the others gather behind it and become one batch.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let slow = store.writer.write(Sync::Full, move |_| {
        // An error: it was told before.
        let _ = wait.recv();
        Ok(())
    });
    let fails = store.writer.write(Sync::Full, |tx| {
        submit::submit(tx, &job(2))?;
        tx.ledger.next_fence();
        Err::<(), _>(StoreError::Database("a verb's own".into()))
    });
    let breaks =
        store.writer.write(Sync::Full, |tx| submit::submit(tx, &NewJob { priority: 1_000, ..job(4) }));
    let (slow, first, fails, breaks, last, _) =
        tokio::join!(slow, store.submit(job(1)), fails, breaks, store.submit(job(3)), async { drop(go) });
    let taken = || Ok(Submitted::New(Effects::default()));
    assert_eq!((slow, first, last), (Ok(()), taken(), taken()));
    assert_eq!(fails, Err(StoreError::Database("a verb's own".into())));
    assert!(matches!(&breaks, Err(StoreError::Database(text)) if text.contains("CHECK")), "{breaks:?}");
    let jobs = store.list(Query { limit: 9, ..Query::default() }).await.expect("listed");
    assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [job(3).id, job(1).id]);
    let counts = store.stats().await.expect("read");
    assert_eq!(counts[&job(1).task].queued, 2);
}

#[tokio::test]
async fn only_what_must_be_durable_is_synced() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let store = SqliteStore::open(&folder.path().join("store.db")).expect("a new store");
    for (sync, level) in [(Sync::Full, 2), (Sync::Lazy, 1), (Sync::Lazy, 1), (Sync::Full, 2)] {
        let set = store.writer.write(sync, |tx| {
            Ok(tx.conn.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?)
        });
        assert_eq!(set.await, Ok(level));
    }
}

#[test]
fn f10_f40_a_new_store_has_its_mode_before_it_has_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    super::open::writable(&path).map(drop).expect("made");
    let made = folder.path().join("other.db");
    super::open::create(&made).expect("made");
    let header = std::fs::read(&made).expect("readable");
    assert_eq!(header[18..20], [2, 2], "write-ahead, and nothing is journalled beside it any more");
    let beside: Vec<_> = std::fs::read_dir(folder.path())
        .expect("readable")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .filter(|name| name.starts_with("other"))
        .collect();
    assert_eq!(beside, ["other.db"]);
}
