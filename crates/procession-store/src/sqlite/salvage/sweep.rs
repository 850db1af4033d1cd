//! Reading a damaged table: forwards to the damage, backwards to it, then what lies between
//! row by row. Each row goes into the new store at once, if its constraints take it.

use rusqlite::types::Value;
use rusqlite::{Connection, Error, ErrorCode, Row, ToSql, ffi, params_from_iter};

use super::Saved;
use crate::error::StoreError;
use crate::sqlite::statement;

/// After so many places in a row that cannot be read the table is taken to end.
const GIVE_UP: u64 = 10_000;

/// Bytes of the shortest row of any table here, with what its page needs for it.
const SHORTEST: i64 = 16;

/// From one store into another.
pub(super) struct Sweep<'a> {
    pub old: &'a Connection,
    pub new: &'a Connection,
}

/// A table that both stores have.
pub(super) struct Table {
    name: &'static str,
    columns: Vec<String>,
    insert: String,
}

/// A row on its way.
pub(super) struct Found<'a> {
    columns: &'a [String],
    values: Vec<Value>,
}

/// What was saved from the ends, and whether they met.
pub(super) struct Ends {
    pub saved: Saved,
    pub complete: bool,
    /// The row ids the unreadable part lies between; the upper one may not be known.
    gap: (i64, Option<i64>),
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Saved,
    /// It was saved before.
    There,
    /// What it names is not there.
    Dangling,
    Refused,
}

/// What a place in a table turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Row,
    Nothing,
    Unreadable,
}

/// Asked of a row that names what is not there: whether it is now.
pub(super) type Mend<'a> = &'a mut dyn FnMut(&Found<'_>) -> Result<bool, StoreError>;

impl Found<'_> {
    /// The number in a column.
    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        let at = self.columns.iter().position(|column| column == name)?;
        match self.values[at] {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }
}

impl Table {
    /// What of the table's columns both stores have: a newer schema has more.
    pub(super) fn of(sweep: &Sweep<'_>, name: &'static str) -> Result<Self, StoreError> {
        let columns = |conn: &Connection| {
            let sql = format!("SELECT name FROM pragma_table_info('{name}')");
            statement::all(conn, &sql, [], |row| Ok(row.get::<_, String>(0)?))
        };
        let old = columns(sweep.old)?;
        let mut columns = columns(sweep.new)?;
        columns.retain(|column| old.contains(column));
        if columns.is_empty() {
            let what =
                format!("the list of tables is damaged: `{name}` is not in it; {}", super::NOTHING_LEFT);
            return Err(StoreError::Refused(what));
        }
        let places: Vec<String> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
        let insert = format!("INSERT INTO {name} ({}) VALUES ({})", columns.join(", "), places.join(", "));
        Ok(Self { name, columns, insert })
    }

    /// Reads a row whose first column is the key it was found by.
    fn read(&self, row: &Row<'_>) -> Result<Found<'_>, Error> {
        let values = (1..=self.columns.len()).map(|at| row.get(at)).collect::<Result<_, _>>()?;
        Ok(Found { columns: &self.columns, values })
    }

    fn put(&self, new: &Connection, row: &Found<'_>) -> Result<Put, StoreError> {
        let mut insert = new.prepare_cached(&self.insert)?;
        match insert.execute(params_from_iter(&row.values)) {
            Ok(_) => Ok(Put::Saved),
            Err(Error::SqliteFailure(code, _)) if code.code == ErrorCode::TypeMismatch => Ok(Put::Refused),
            Err(Error::SqliteFailure(code, _)) if code.code == ErrorCode::ConstraintViolation => {
                Ok(match code.extended_code {
                    ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => Put::There,
                    ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Put::Dangling,
                    _ => Put::Refused,
                })
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Sweep<'_> {
    /// Saves all of a table that can be read. `order`: its rowid, or the columns of its key.
    pub(super) fn all(&self, name: &'static str, order: &str, mend: Mend<'_>) -> Result<Saved, StoreError> {
        let mut ends = self.mended_ends(name, order, mend)?;
        if !ends.complete && order == "rowid" {
            self.between(&mut ends, mend)?;
        }
        Ok(ends.saved)
    }

    /// Saves a table from both its ends.
    pub(super) fn ends(&self, name: &'static str, order: &str) -> Result<Ends, StoreError> {
        self.mended_ends(name, order, &mut |_| Ok(false))
    }

    fn mended_ends(&self, name: &'static str, order: &str, mend: Mend<'_>) -> Result<Ends, StoreError> {
        let table = Table::of(self, name)?;
        let saved = Saved { table: name, ..Saved::default() };
        let mut ends = Ends { saved, complete: true, gap: (0, None) };
        let columns = table.columns.join(", ");
        let (key, hint) = match order {
            "rowid" => ("rowid", " NOT INDEXED"),
            _ => ("0", ""),
        };
        let forwards = format!("SELECT {key}, {columns} FROM {name}{hint} ORDER BY {order}");
        let (last, whole) = self.walk(&table, &forwards, &mut ends.saved, mend)?;
        if whole {
            return Ok(ends);
        }
        ends.complete = false;
        ends.gap.0 = last.unwrap_or(0);
        let backwards = format!("{} DESC", forwards.replace(", value", " DESC, value"));
        ends.gap.1 = self.walk(&table, &backwards, &mut ends.saved, mend)?.0;
        Ok(ends)
    }

    /// Saves rows in the order of `sql` until one cannot be read (`false`), or was saved
    /// before, or there are no more. The key of the last one it read.
    fn walk(
        &self,
        table: &Table,
        sql: &str,
        saved: &mut Saved,
        mend: Mend<'_>,
    ) -> Result<(Option<i64>, bool), StoreError> {
        let mut last = None;
        let Ok(mut statement) = self.old.prepare(sql) else { return Ok((last, false)) };
        let Ok(mut rows) = statement.query([]) else { return Ok((last, false)) };
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok((last, true)),
                Err(_) => return Ok((last, false)),
            };
            last = row.get(0).ok().or(last);
            if self.save(table, row, saved, mend)? == Put::There {
                return Ok((last, true));
            }
        }
    }

    fn save(
        &self,
        table: &Table,
        row: &Row<'_>,
        saved: &mut Saved,
        mend: Mend<'_>,
    ) -> Result<Put, StoreError> {
        let Ok(found) = table.read(row) else {
            // Text that is no text.
            saved.refused += 1;
            return Ok(Put::Refused);
        };
        let mut put = table.put(self.new, &found)?;
        if put == Put::Dangling && mend(&found)? {
            put = table.put(self.new, &found)?;
        }
        match put {
            Put::Saved => saved.rows += 1,
            Put::There => {}
            Put::Dangling | Put::Refused => saved.refused += 1,
        }
        Ok(put)
    }

    /// The row with this key, if there is one and it can be read.
    pub(super) fn one(
        &self,
        table: &Table,
        key: &str,
        value: impl ToSql,
        saved: &mut Saved,
        mend: Mend<'_>,
    ) -> Result<Seen, StoreError> {
        let columns = table.columns.join(", ");
        let sql = format!("SELECT 0, {columns} FROM {} WHERE {key} = ?1", table.name);
        let Ok(mut statement) = self.old.prepare_cached(&sql) else { return Ok(Seen::Unreadable) };
        let Ok(mut rows) = statement.query([value]) else { return Ok(Seen::Unreadable) };
        match rows.next() {
            Ok(Some(row)) => {
                self.save(table, row, saved, mend)?;
                Ok(Seen::Row)
            }
            Ok(None) => Ok(Seen::Nothing),
            Err(_) => Ok(Seen::Unreadable),
        }
    }

    /// What lies between the ends, by the number of each row: damage in one page does not
    /// hide the rows of the next. Where the numbers lie further apart than the file has room
    /// for rows, one of them may be damage itself: then only what is near them is looked at.
    fn between(&self, ends: &mut Ends, mend: Mend<'_>) -> Result<(), StoreError> {
        let table = Table::of(self, ends.saved.table)?;
        let (first, end) = (ends.gap.0.saturating_add(1), ends.gap.1);
        let room = self.most_rows()?;
        let saved = &mut ends.saved;
        match end {
            Some(end) if (0..=room).contains(&end.saturating_sub(first)) => {
                let unreadable = self.look(&table, first..end, u64::MAX, saved, mend)?;
                saved.unreadable += unreadable;
            }
            Some(end) => {
                let behind = if first < end { end } else { i64::MAX };
                self.look(&table, first..behind, GIVE_UP, saved, mend)?;
                self.look(&table, (i64::MIN..end).rev(), GIVE_UP, saved, mend)?;
                saved.open_end = true;
            }
            None => {
                self.look(&table, first..i64::MAX, GIVE_UP, saved, mend)?;
                saved.open_end = true;
            }
        }
        Ok(())
    }

    /// Looks for rows of these numbers until so many in a row are not there. What could not be
    /// read between those that are there counts as unreadable; behind the last: is returned.
    fn look(
        &self,
        table: &Table,
        rowids: impl Iterator<Item = i64>,
        patience: u64,
        saved: &mut Saved,
        mend: Mend<'_>,
    ) -> Result<u64, StoreError> {
        // Since the last row that was there.
        let (mut unreadable, mut quiet) = (0, 0);
        for rowid in rowids {
            match self.one(table, "rowid", rowid, saved, mend)? {
                Seen::Row => {
                    saved.unreadable += unreadable;
                    (unreadable, quiet) = (0, 0);
                }
                Seen::Nothing => quiet += 1,
                Seen::Unreadable => (unreadable, quiet) = (unreadable + 1, quiet + 1),
            }
            if quiet > patience {
                break;
            }
        }
        Ok(unreadable)
    }

    /// More rows than the old file has room for.
    fn most_rows(&self) -> Result<i64, StoreError> {
        let pages: i64 = self.old.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let size: i64 = self.old.pragma_query_value(None, "page_size", |row| row.get(0))?;
        Ok(pages.saturating_mul(size) / SHORTEST)
    }
}
