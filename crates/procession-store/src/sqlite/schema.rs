//! Which schema a database has, and how it becomes the one this version knows.
//!
//! A schema is a file that is never changed once released; the next one is another file.
//! `user_version` counts them, `application_id` says that the file is ours at all.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::StoreError;

/// "Proc" in ASCII, in the header of every database of this program.
pub(super) const APPLICATION_ID: i32 = 0x5072_6f63;

/// The schemas, first to last.
pub(super) const SCHEMAS: [&str; 4] = [
    include_str!("schema/0001_first.sql"),
    include_str!("schema/0002_families.sql"),
    include_str!("schema/0003_schedules.sql"),
    include_str!("schema/0004_deliveries.sql"),
];

/// The schema this version writes.
pub(super) const VERSION: i32 = SCHEMAS.len() as i32;

/// The first SQLite whose write-ahead log cannot lose a committed transaction.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Brings the database to [`VERSION`], one transaction for each step.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    loop {
        let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let next = usize::try_from(version).ok().and_then(|at| SCHEMAS.get(at));
        let Some(schema) = next else { return Ok(()) };
        transaction.execute_batch(schema)?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
    }
}

/// Refuses a library that may lose what it committed.
pub(super) fn check_library(number: i32) -> Result<(), StoreError> {
    if number >= OLDEST_SQLITE {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "this program was linked with SQLite {}.{}.{}, which can lose committed jobs; build it with 3.51.3 or newer",
        number / 1_000_000,
        number / 1_000 % 1_000,
        number % 1_000
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f44_a_library_that_loses_commits_is_refused() {
        assert_eq!(check_library(rusqlite::version_number()), Ok(()));
        assert_eq!(check_library(3_051_003), Ok(()));
        let refused = check_library(3_051_002).expect_err("older").to_string();
        assert!(refused.contains("3.51.2"), "{refused}");
    }

    #[test]
    fn every_schema_applies_to_the_one_before() {
        let mut conn = Connection::open_in_memory().expect("memory");
        migrate(&mut conn).expect("migrates");
        let version: i32 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).expect("set");
        assert_eq!(version, VERSION);
        migrate(&mut conn).expect("nothing left to do");
    }
}
