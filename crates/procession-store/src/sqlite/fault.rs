//! What SQLite says when something is wrong, as the contract says it.
//!
//! The line that matters runs between [`StoreError::Full`], after which the store goes on,
//! and [`StoreError::Disk`], after which nothing may be acknowledged any more.

use rusqlite::{Error, ErrorCode, ffi};

use crate::error::StoreError;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match &error {
            Error::SqliteFailure(code, _) => of_code(*code, error.to_string()),
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..) => StoreError::Corrupt(error.to_string()),
            _ => StoreError::Database(error.to_string()),
        }
    }
}

fn of_code(code: ffi::Error, text: String) -> StoreError {
    match (code.code, code.extended_code) {
        // The shared index of the log could not grow: a full disk says it this way.
        (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE) => StoreError::Full,
        (_, ffi::SQLITE_IOERR_NOMEM) => StoreError::Database(text),
        (ErrorCode::SystemIoFailure, extended) => {
            StoreError::Disk(format!("{text} (SQLite code {extended})"))
        }
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => StoreError::Corrupt(text),
        _ => StoreError::Database(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let of = |extended| StoreError::from(Error::SqliteFailure(ffi::Error::new(extended), None));
        assert_eq!(of(ffi::SQLITE_FULL), StoreError::Full);
        assert_eq!(of(ffi::SQLITE_IOERR_SHMSIZE), StoreError::Full);
        for broken in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_READ] {
            assert!(matches!(of(broken), StoreError::Disk(_)), "{broken}");
        }
        assert!(matches!(of(ffi::SQLITE_CORRUPT), StoreError::Corrupt(_)));
        assert!(matches!(of(ffi::SQLITE_NOTADB), StoreError::Corrupt(_)));
        assert!(matches!(of(ffi::SQLITE_BUSY), StoreError::Database(_)));
    }
}
