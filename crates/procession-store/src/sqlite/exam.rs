//! A look at a whole store: whether its pages hold together, whether every row keeps the
//! contract, which files its rows speak of. Reads only, and may be done while a server writes.
//! Judges nothing that lies outside the database; `procession doctor` and `procession backup`
//! do, with what they are told here.

use std::path::Path;

use procession_core::id::{JobId, TaskName};
use procession_core::job::Artifact;
use rusqlite::Connection;

use super::record::{self, Extent};
use super::{column, delivery, ledger, open, statement};
use crate::error::StoreError;

/// Lines of one kind that are told in full; the rest is counted.
const TOLD: usize = 20;

const DANGLING: &str = "SELECT \"table\", count(*) FROM pragma_foreign_key_check GROUP BY 1 ORDER BY 1";
const JOBS: &str = "SELECT id FROM job";
const KNOWN: &str = "SELECT 1 FROM job WHERE id = ?1";
const UNFINISHED: &str = "SELECT 1 FROM live WHERE job = ?1";
const STRAY_KEYS: &str = "
    SELECT count(*) FROM idempotency WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.id = idempotency.job)";
const STRAY_LABELS: &str = "
    SELECT count(*) FROM label WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.id = label.job)";
const BODIES: &str = "
    SELECT job.id AS id, payload_len, EXISTS (SELECT 1 FROM done WHERE done.job = job.id) AS over
    FROM job WHERE payload IS NULL";
const OUTPUTS: &str = "
    SELECT job AS id, attempt, stdout_place = 'file' AND stdout_written > 0,
        stderr_place = 'file' AND stderr_written > 0,
        EXISTS (SELECT 1 FROM done WHERE done.job = attempt.job) AS over
    FROM attempt WHERE stdout_place = 'file' OR stderr_place = 'file'";
const RESULTS: &str = "
    SELECT job AS id, attempt, result_len FROM done WHERE result IS NULL AND result_json IS NOT NULL";
const ARTIFACTS: &str = "SELECT job AS id, attempt, artifacts FROM done WHERE artifacts IS NOT NULL";

/// Something in the database that should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Pages that do not hold together, as SQLite says it.
    Damaged(String),
    /// Rows of `table` that name rows which are not there.
    Dangling {
        /// Whose rows.
        table: String,
        /// How many.
        rows: u64,
    },
    /// A job whose rows contradict each other or the contract.
    Row {
        /// Whose.
        job: JobId,
        /// What is wrong.
        what: String,
    },
    /// More of the same kind as the one before, not told one by one.
    More {
        /// How many.
        count: u64,
    },
    /// A queue whose length is not that of its rows.
    Depth {
        /// Whose.
        task: TaskName,
        /// Queued, scheduled and unfinished, as the task's row has it.
        said: (i64, i64, i64),
        /// The same, counted.
        counted: (i64, i64, i64),
    },
}

/// A file that a row says is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Whose.
    pub job: JobId,
    /// Whether the job is over.
    pub over: bool,
    /// Which.
    pub what: FileKind,
}

/// What a job's file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Its body.
    Payload {
        /// Its size.
        len: u64,
    },
    /// What an attempt wrote.
    Output {
        /// Which attempt.
        attempt: u32,
        /// Whether its standard output is a file.
        stdout: bool,
        /// Whether its standard error is one.
        stderr: bool,
    },
    /// Its result.
    Result {
        /// Of which attempt.
        attempt: u32,
        /// Its size.
        len: u64,
    },
    /// What it left in its artifacts folder.
    Artifacts {
        /// Of which attempt.
        attempt: u32,
        /// Names and sizes.
        list: Vec<Artifact>,
    },
}

/// One moment of a store, to be looked at.
pub struct Exam {
    conn: Connection,
}

impl Exam {
    /// Opens the store at `path` for reading.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where its first page does not say that it is a store of ours,
    /// whole and of a version this one knows.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(open::refused(path, &"there is none", "a server makes it at its first start"));
        }
        let exam = Self { conn: open::identify(path)? };
        exam.conn.execute_batch("BEGIN")?;
        Ok(exam)
    }

    /// From now on sees the store as it is now.
    pub fn look_again(&mut self) -> Result<(), StoreError> {
        Ok(self.conn.execute_batch("COMMIT; BEGIN")?)
    }

    /// Everything in the database that should not be. Takes as long as reading all of it.
    pub fn faults(&self) -> Vec<Fault> {
        let damaged = self.integrity();
        if !damaged.is_empty() {
            // What rows of damaged pages say is no news.
            return damaged;
        }
        let parts = [self.dangling(), self.rows(), self.depths()];
        let told = |part: Result<Vec<Fault>, StoreError>| {
            part.unwrap_or_else(|error| vec![Fault::Damaged(error.to_string())])
        };
        parts.into_iter().flat_map(told).collect()
    }

    /// Whether there is such a job.
    pub fn knows(&self, job: JobId) -> Result<bool, StoreError> {
        let known = statement::one(&self.conn, KNOWN, [job.as_bytes().as_slice()], |_| Ok(()))?;
        Ok(known.is_some())
    }

    /// Whether there is such a job and it is not over.
    pub fn is_unfinished(&self, job: JobId) -> Result<bool, StoreError> {
        let live = statement::one(&self.conn, UNFINISHED, [job.as_bytes().as_slice()], |_| Ok(()))?;
        Ok(live.is_some())
    }

    /// Tells `tell` of every file that a row says is there.
    pub fn files(&self, tell: &mut dyn FnMut(StoredFile)) -> Result<(), StoreError> {
        self.each(BODIES, tell, |row, job| {
            let what = FileKind::Payload { len: column::count(row.get("payload_len")?)? };
            Ok(StoredFile { job, over: row.get("over")?, what })
        })?;
        self.each(OUTPUTS, tell, |row, job| {
            let what =
                FileKind::Output { attempt: row.get("attempt")?, stdout: row.get(2)?, stderr: row.get(3)? };
            Ok(StoredFile { job, over: row.get("over")?, what })
        })?;
        self.each(RESULTS, tell, |row, job| {
            let len = column::count(row.get("result_len")?)?;
            Ok(StoredFile { job, over: true, what: FileKind::Result { attempt: row.get("attempt")?, len } })
        })?;
        self.each(ARTIFACTS, tell, |row, job| {
            let list = column::from_json(&row.get::<_, String>("artifacts")?)?;
            Ok(StoredFile {
                job,
                over: true,
                what: FileKind::Artifacts { attempt: row.get("attempt")?, list },
            })
        })
    }

    fn each(
        &self,
        sql: &str,
        tell: &mut dyn FnMut(StoredFile),
        read: impl Fn(&rusqlite::Row<'_>, JobId) -> Result<StoredFile, StoreError>,
    ) -> Result<(), StoreError> {
        let mut statement = self.conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            tell(read(row, column::id(row, "id")?)?);
        }
        Ok(())
    }

    fn integrity(&self) -> Vec<Fault> {
        let sql = format!("PRAGMA integrity_check({TOLD})");
        let lines = statement::all(&self.conn, &sql, [], |row| Ok(row.get::<_, String>(0)?));
        match lines {
            Ok(lines) => lines.into_iter().filter(|line| line != "ok").map(Fault::Damaged).collect(),
            Err(error) => vec![Fault::Damaged(error.to_string())],
        }
    }

    fn dangling(&self) -> Result<Vec<Fault>, StoreError> {
        let mut found = statement::all(&self.conn, DANGLING, [], |row| {
            Ok(Fault::Dangling { table: row.get(0)?, rows: column::count(row.get(1)?)? })
        })?;
        // These two name jobs without a foreign key (see the schema).
        for (table, sql) in [("idempotency", STRAY_KEYS), ("label", STRAY_LABELS)] {
            let rows = statement::one(&self.conn, sql, [], |row| column::count(row.get(0)?))?.unwrap_or(0);
            if rows > 0 {
                found.push(Fault::Dangling { table: table.into(), rows });
            }
        }
        Ok(found)
    }

    /// Loads every job and its attempts, as the server would.
    fn rows(&self) -> Result<Vec<Fault>, StoreError> {
        let (mut found, mut untold) = (Vec::new(), 0);
        let mut statement = self.conn.prepare(JOBS)?;
        let mut jobs = statement.query([])?;
        while let Some(row) = jobs.next()? {
            let job = column::id(row, "id")?;
            let loaded = record::job(&self.conn, job, Extent::Whole)
                .and_then(|_| record::attempts(&self.conn, job))
                .and_then(|_| delivery::of_job(&self.conn, job));
            match loaded {
                Ok(_) => {}
                Err(error) if found.len() < TOLD => found.push(Fault::Row { job, what: error.to_string() }),
                Err(_) => untold += 1,
            }
        }
        if untold > 0 {
            found.push(Fault::More { count: untold });
        }
        Ok(found)
    }

    fn depths(&self) -> Result<Vec<Fault>, StoreError> {
        let counted = ledger::count(&self.conn)?;
        let tasks = statement::all(&self.conn, ledger::TASKS, [], |row| {
            let name = column::task_name(&row.get::<_, String>("name")?)?;
            let said = (row.get("queued")?, row.get("scheduled")?, row.get("unfinished")?);
            Ok((row.get::<_, i64>("id")?, name, said))
        })?;
        let wrong = tasks.into_iter().filter_map(|(id, task, said)| {
            let counted = counted.get(&id).copied().unwrap_or_default();
            (said != counted).then_some(Fault::Depth { task, said, counted })
        });
        Ok(wrong.collect())
    }
}
