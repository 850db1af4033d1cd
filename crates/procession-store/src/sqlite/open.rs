//! From a path to connections that may be used. A file that is there is looked at before
//! anything may write to it, and one that is not wholly ours is refused and left as it is;
//! a new one is made beside its place and moved there whole, so a crash leaves no half one.
//!
//! That only one program opens a store is not checked here: the program holds a lock.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::place::{check_place, check_writable, is_read_only};
use super::schema::{self, APPLICATION_ID, VERSION};
use super::{statement, watch};
use crate::error::StoreError;

/// Databases up to this size are checked as a whole at every start; larger ones would
/// delay it by seconds.
const CHECKED_WHOLE: u64 = 32 << 20;

/// How long one connection waits for another's lock.
pub(super) const BUSY: Duration = Duration::from_secs(5);

const WRITES: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// The connection that writes, to a store that is made if there is none.
pub(super) fn writable(path: &Path) -> Result<Connection, StoreError> {
    schema::check_library(rusqlite::version_number())?;
    check_place(path)?;
    match fs::metadata(path) {
        Ok(_) => {
            look(path)?;
            check_writable(path)?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(refused(path, &error, "check its permissions")),
    }
    let mut conn = Connection::open_with_flags(path, WRITES)?;
    prepare(&conn)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    // The writer copies the log itself, so that it sees when that fails.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "journal_size_limit", 64 << 20)?;
    conn.pragma_update(None, "cache_size", -65_536)?;
    schema::migrate(&mut conn)?;
    Ok(conn)
}

/// A connection that reads a store nobody prepared: after the look that [`writable`] takes
/// at it; `None` where there is none.
pub(super) fn as_it_is(path: &Path) -> Result<Option<Connection>, StoreError> {
    schema::check_library(rusqlite::version_number())?;
    match fs::metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(path, &error, "check its permissions")),
    }
    // Who writes to it may copy its log between two of our glances, and it seems cut off.
    look(path).or_else(|_| look(path))?;
    readable(path).map(Some)
}

/// A connection that reads a store which [`writable`] opened.
pub(super) fn readable(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = if is_read_only(path) && size(&watch::log(path)) == 0 {
        // Nobody can write here, and SQLite cannot make the file its readers share.
        Connection::open_with_flags(immutable(path), flags | OpenFlags::SQLITE_OPEN_URI)?
    } else {
        Connection::open_with_flags(path, flags)?
    };
    prepare(&conn)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

pub(super) fn prepare(conn: &Connection) -> Result<(), StoreError> {
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(statement::CACHE);
    // Without it SQLite plans many statements anew for every value bound to them.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}

/// The name of a database that does not change while it is read.
fn immutable(path: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let escaped = path.as_os_str().as_bytes().iter().map(|byte| match plain(byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02x}"),
    });
    format!("file:{}?immutable=1", escaped.collect::<String>())
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// Makes an empty store under another name, complete on the disk, then gives it its own.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let log = watch::log(path);
    if fs::metadata(&log).is_ok_and(|found| found.len() > 0) {
        let hint = format!(
            "{} is there and may hold jobs; restore the two together, \
             or use a folder made by `procession backup` as data_dir",
            log.display()
        );
        return Err(refused(path, &"the database is missing", &hint));
    }
    let made = beside(path, ".new");
    match fs::remove_file(&made) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(unwritable(path)(error)),
        _ => {}
    }
    let conn = empty(&made).map_err(|error| match error {
        StoreError::Database(what) => refused(path, &what, WRITABLE_FOLDER),
        error => error,
    })?;
    // While it has no name: a change of the mode under its own would be journalled beside it, and
    // who is killed then leaves a store that nobody can look at without writing to it.
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.close().map_err(|(_, error)| error)?;
    put_in_place(&made, path)
}

/// Makes an empty store at `path`, where nothing is yet, and gives the connection that made it.
pub(super) fn empty(path: &Path) -> Result<Connection, StoreError> {
    make_private(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut conn = Connection::open_with_flags(path, flags)?;
    prepare(&conn)?;
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    schema::migrate(&mut conn)?;
    Ok(conn)
}

/// An empty file that only its owner can read, for SQLite to fill.
pub(super) fn make_private(path: &Path) -> Result<(), StoreError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map(drop).map_err(unwritable(path))
}

/// Gives a database that is closed and complete its name, durably. Whoever looks for `path`
/// meanwhile sees what was there before, or all of it.
pub(super) fn put_in_place(made: &Path, path: &Path) -> Result<(), StoreError> {
    let sync = |place: &Path| File::open(place).and_then(|file| file.sync_all());
    sync(made).and_then(|()| fs::rename(made, path)).map_err(unwritable(path))?;
    sync(folder_of(path)).map_err(unwritable(path))
}

/// The folder a file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

const WRITABLE_FOLDER: &str = "check that its folder can be written";

fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> StoreError {
    move |error| match error.kind() {
        ErrorKind::StorageFull => StoreError::Full,
        _ => refused(path, &error, WRITABLE_FOLDER),
    }
}

/// Refuses a file that is no store of ours, or a damaged one, or a newer one.
pub(super) fn look(path: &Path) -> Result<(), StoreError> {
    let conn = identify(path)?;
    if size(path).saturating_add(size(&watch::log(path))) > CHECKED_WHOLE {
        return Ok(());
    }
    let verdict = conn
        .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
        .map_err(|error| damaged(path)(error.into()))?;
    if verdict == "ok" { Ok(()) } else { Err(damaged(path)(StoreError::Corrupt(verdict))) }
}

/// A connection that reads a file whose first page says that it is a store of ours, whole and
/// of a version this one knows. What its other pages hold is not looked at.
pub(super) fn identify(path: &Path) -> Result<Connection, StoreError> {
    let header = Header::read(path)?;
    if header.application_id != APPLICATION_ID {
        return Err(refused(path, &"a database of another program", "name another file"));
    }
    check_version(path, header.version)?;
    if header.size > header.found && size(&watch::log(path)) == 0 {
        let what = format!("cut off: {} of {} bytes are left", header.found, header.size);
        return Err(refused(path, &what, RESTORE));
    }
    let conn = readable(path).map_err(damaged(path))?;
    // The log may hold what the file does not say yet.
    let version: i32 = conn
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| damaged(path)(error.into()))?;
    check_version(path, version)?;
    Ok(conn)
}

fn damaged(path: &Path) -> impl Fn(StoreError) -> StoreError {
    move |error| refused(path, &format!("damaged ({error})"), RESTORE)
}

const RESTORE: &str = "`procession doctor` says more, `procession doctor --repair NEW-FILE` saves what is left, \
     or use a folder made by `procession backup` as data_dir; it was not changed";

fn check_version(path: &Path, version: i32) -> Result<(), StoreError> {
    match version {
        1..=VERSION => Ok(()),
        ..=0 => Err(refused(path, &"without a schema", RESTORE)),
        _ => {
            let what = format!("of a newer version (schema {version}, this one knows {VERSION})");
            Err(refused(
                path,
                &what,
                "start that version, or use a folder that `procession backup` made before it as data_dir",
            ))
        }
    }
}

pub(super) fn refused(path: &Path, what: &dyn std::fmt::Display, hint: &str) -> StoreError {
    StoreError::Refused(format!("the store {} cannot be used: {what}; {hint}", path.display()))
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What the first hundred bytes of a database say; read without SQLite, which would have
/// made files beside it.
struct Header {
    application_id: i32,
    version: i32,
    /// Bytes there should be.
    size: u64,
    /// Bytes there are.
    found: u64,
}

impl Header {
    fn read(path: &Path) -> Result<Self, StoreError> {
        let unreadable = |error: std::io::Error| refused(path, &error, "check its permissions");
        let mut file = File::open(path).map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        if !meta.is_file() {
            return Err(refused(path, &"not a file", "name another one"));
        }
        if meta.len() == 0 {
            return Err(refused(
                path,
                &"empty",
                "use a folder made by `procession backup` as data_dir, or remove the file to begin a new store",
            ));
        }
        let mut bytes = [0; 100];
        let whole = match file.read_exact(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(unreadable(error)),
            read => read.is_ok(),
        };
        if !whole || !bytes.starts_with(b"SQLite format 3\0") {
            return Err(refused(path, &"not a SQLite database, or its beginning is gone", RESTORE));
        }
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        // Two bytes hold at most 65535, so 1 stands for 65536.
        let page = match u16::from_be_bytes([bytes[16], bytes[17]]) {
            1 => 65_536,
            size => u64::from(size),
        };
        Ok(Self {
            application_id: word(68) as i32,
            version: word(60) as i32,
            size: page * u64::from(word(28)),
            found: meta.len(),
        })
    }
}
