//! Every statement prepares, and those that run often use an index.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{cancel, claim, delete, expire, finish, ledger, list, probe, query, record, release, schema};
use super::{started, submit, tasks};

/// All statements, by the file and name they have there.
const STATEMENTS: &[(&str, &str)] = &[
    ("cancel::LIVE", cancel::LIVE),
    ("cancel::OVER", cancel::OVER),
    ("cancel::MARK", cancel::MARK),
    ("cancel::DROP_LIVE", cancel::DROP_LIVE),
    ("cancel::INSERT_CANCELLED", cancel::INSERT_CANCELLED),
    ("claim::PROMOTE", claim::PROMOTE),
    ("claim::HELD", claim::HELD),
    ("claim::NEXT", claim::NEXT),
    ("claim::GIVE", claim::GIVE),
    ("claim::SPEC", claim::SPEC),
    ("claim::NEXT_SCHEDULED", claim::NEXT_SCHEDULED),
    ("delete::STANDING", delete::STANDING),
    ("delete::OLD", delete::OLD),
    ("delete::LABELS", delete::LABELS),
    ("delete::KEYS", delete::KEYS),
    ("delete::DELIVERIES", delete::DELIVERIES),
    ("delete::ATTEMPTS", delete::ATTEMPTS),
    ("delete::DONE", delete::DONE),
    ("delete::JOB", delete::JOB),
    ("expire::EXPIRED", expire::EXPIRED),
    ("finish::LEAVE", finish::LEAVE),
    ("finish::RECORDED", finish::RECORDED),
    ("finish::INSERT_ATTEMPT", finish::INSERT_ATTEMPT),
    ("finish::INSERT_DONE", finish::INSERT_DONE),
    ("ledger::TASKS", ledger::TASKS),
    ("ledger::INSERT_TASK", ledger::INSERT_TASK),
    ("ledger::UPDATE_TASK", ledger::UPDATE_TASK),
    ("ledger::FENCE", ledger::FENCE),
    ("ledger::UPDATE_FENCE", ledger::UPDATE_FENCE),
    ("ledger::RECOUNT", ledger::RECOUNT),
    ("list::BY_ID", list::BY_ID),
    ("list::BY_PARENT", list::BY_PARENT),
    ("list::BY_LANE", list::BY_LANE),
    ("list::BY_LABEL", list::BY_LABEL),
    ("list::LIVE_IN_STATE", list::LIVE_IN_STATE),
    ("list::DONE_IN_STATE", list::DONE_IN_STATE),
    ("list::TASK_IDS", list::TASK_IDS),
    ("probe::PROBE", probe::PROBE),
    ("query::PAYLOAD", query::PAYLOAD),
    ("query::CLAIMED", query::CLAIMED),
    ("query::NEXT_DUE", query::NEXT_DUE),
    ("query::PLACE", query::PLACE),
    ("query::AHEAD", query::AHEAD),
    ("query::ENDING", query::ENDING),
    ("query::TASK_ID", query::TASK_ID),
    ("record::RECORD", record::RECORD),
    ("record::ATTEMPTS", record::ATTEMPTS),
    ("release::LEASED", release::LEASED),
    ("release::RELEASE", release::RELEASE),
    ("started::START", started::START),
    ("started::RUNS", started::RUNS),
    ("submit::KEY", submit::KEY),
    ("submit::INSERT_KEY", submit::INSERT_KEY),
    ("submit::KNOWN", submit::KNOWN),
    ("submit::INSERT_JOB", submit::INSERT_JOB),
    ("submit::INSERT_LIVE", submit::INSERT_LIVE),
    ("submit::INSERT_LABEL", submit::INSERT_LABEL),
    ("tasks::COUNTS", tasks::COUNTS),
];

/// Walks that are meant: over the slots that are held, the few tasks, the one row of meta;
/// over all ids when a person abbreviates one; over the queue once at start.
const WALKS: [&str; 9] = [
    "SCAN live USING COVERING INDEX live_slots",
    "SCAN live USING INDEX live_slots",
    "SCAN task",
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
    for (name, sql) in STATEMENTS.iter().filter(|(name, _)| *name != "ledger::RECOUNT") {
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
        (claim::NEXT, "SEARCH live USING INDEX live_queued (task=?)"),
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
        (delete::OLD, "SEARCH done USING COVERING INDEX done_by_time (finished_at<?)"),
    ];
    for (sql, step) in expected {
        let plan = plan(&conn, sql);
        assert!(plan.iter().any(|line| line == step), "{sql}\n{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{sql}\n{plan:#?}");
    }
}
