//! Writes the log: appends lines to the file that has its name, and gives it another name
//! when it is over. A line that cannot be written is counted; the count is the first thing
//! written when writing works again.
//!
//! Another process may append to the same file (a server that is being replaced) or move it
//! away (a log rotator), so what the name means is looked up before each write. Each writer
//! holds a shared lock on its file: whoever compresses one waits until it is nobody's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::disk::{Disk, Identity, standing_of};
use super::line;
use super::rotation::{Archived, Facts, Family, Form, first_line, fitting, is_over};
use crate::config::Logging;

/// Between two tries to rotate a file that cannot be.
const AGAIN: Duration = Duration::from_secs(60);

/// Whoever moves files away faster than they are opened is not followed any further.
const CHASES: usize = 3;

/// The end of the log that touches the disk.
#[derive(Debug)]
pub(super) struct Writer<D> {
    disk: D,
    folder: PathBuf,
    file: Option<Open>,
    /// Lines nobody will read.
    lost: u64,
    /// The file ends within a line.
    torn: bool,
    not_before: Option<Timestamp>,
}

#[derive(Debug)]
struct Open {
    file: File,
    identity: Identity,
    since: Option<Timestamp>,
}

/// What became of lines.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// New names of files that are over.
    pub(super) rotated: Vec<String>,
    /// Why a file that is over keeps its name.
    pub(super) unrotated: Option<io::Error>,
    /// Why lines were lost, where the ones before were not.
    pub(super) failed: Option<io::Error>,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(disk: D, folder: &Path) -> Self {
        Self { disk, folder: folder.into(), file: None, lost: 0, torn: false, not_before: None }
    }

    /// Lets go of the file and opens what has its name now, so that it is there at once.
    pub(super) fn reopen(&mut self, now: Timestamp) {
        self.file = None;
        // Where that fails, the next line tells.
        let _ = self.current(now);
    }

    /// Whether there is a loss to tell of.
    pub(super) fn owes(&self) -> bool {
        self.lost > 0
    }

    /// Writes `lines`, after `lost` others that never came here. `rules` rotate; without
    /// them the file is somebody else's to rotate.
    pub(super) fn write(&mut self, lines: &[u8], lost: u64, rules: Option<&Logging>, now: Timestamp) -> Done {
        let mut done = Done::default();
        let well = self.lost == 0;
        self.lost += lost;
        if self.lost > 0 {
            let debt = line::of_loss(self.lost, now);
            match self.write_all(debt.as_bytes(), rules, now, &mut done) {
                Ok(()) => self.lost = 0,
                Err(Failed { error, .. }) => {
                    self.lost += count(lines);
                    done.failed = well.then_some(error);
                    return done;
                }
            }
        }
        if let Err(Failed { error, lines }) = self.write_all(lines, rules, now, &mut done) {
            self.lost += lines;
            done.failed = Some(error);
        }
        done
    }

    fn write_all(
        &mut self,
        lines: &[u8],
        rules: Option<&Logging>,
        now: Timestamp,
        done: &mut Done,
    ) -> Result<(), Failed> {
        let mut rest = lines;
        // A write may be cut short by the kernel: within a line nothing else may happen.
        let mut within = false;
        while !rest.is_empty() {
            match self.write_some(rest, within, rules, now, done) {
                Ok(written) => {
                    within = if written > 0 { rest[written - 1] != b'\n' } else { within };
                    rest = &rest[written..];
                }
                Err(error) => {
                    self.torn |= within;
                    return Err(Failed { error, lines: count(rest) });
                }
            }
        }
        Ok(())
    }

    fn write_some(
        &mut self,
        rest: &[u8],
        within: bool,
        rules: Option<&Logging>,
        now: Timestamp,
        done: &mut Done,
    ) -> io::Result<usize> {
        if within {
            let open = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
            return some(self.disk.write(&open.file, &rest[..first_line(rest)]));
        }
        let facts = self.current(now)?;
        self.close_a_torn_line()?;
        let rules = rules.filter(|_| self.not_before.is_none_or(|at| now >= at));
        if rules.is_some_and(|rules| is_over(facts, first_line(rest), now, rules)) {
            match self.rotate(now) {
                Ok(name) => done.rotated.push(name),
                Err(error) => {
                    self.not_before = Some(now + AGAIN);
                    done.unrotated = Some(error);
                }
            }
            return Ok(0);
        }
        let open = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let length = rules.map_or(rest.len(), |rules| fitting(rest, facts.size, rules));
        let written = some(self.disk.write(&open.file, &rest[..length]))?;
        open.since = open.since.or(Some(now));
        Ok(written)
    }

    fn close_a_torn_line(&mut self) -> io::Result<()> {
        if self.torn
            && let Some(open) = &self.file
        {
            some(self.disk.write(&open.file, b"\n"))?;
            self.torn = false;
        }
        Ok(())
    }

    /// The file that has the name, opened.
    fn current(&mut self, now: Timestamp) -> io::Result<Facts> {
        let path = self.path();
        let mut chases = 0;
        loop {
            if let Some(open) = &self.file
                && let Ok((identity, size)) = self.disk.standing(&path)
                && (identity == open.identity || chases == CHASES)
            {
                return Ok(Facts { size, since: open.since });
            }
            self.file = None;
            if chases == CHASES {
                return Err(io::Error::other("the log is moved away again and again"));
            }
            chases += 1;
            let file = self.disk.open(&path)?;
            // Where locks are not to be had nobody compresses at the wrong moment but an upgrade.
            let _ = file.try_lock_shared();
            let (identity, size) = standing_of(&file)?;
            let since = (size > 0).then(|| beginning(&file).unwrap_or(now));
            self.torn = size > 0 && !ends_with_a_line(&file, size);
            self.file = Some(Open { file, identity, since });
        }
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<String> {
        let names = self.disk.names(&self.folder)?;
        let name = Archived::new(Family::Log, now, &names).name(Form::Plain);
        self.disk.rename(&self.path(), &self.folder.join(&name))?;
        self.file = None;
        Ok(name)
    }

    fn path(&self) -> PathBuf {
        self.folder.join(Family::Log.file())
    }
}

/// Some lines could not be written.
struct Failed {
    error: io::Error,
    lines: u64,
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// A write of nothing would be tried for ever.
fn some(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        written => written,
    }
}

/// When the first line was written: a file's age must outlive the server that began it.
fn beginning(file: &File) -> Option<Timestamp> {
    let mut head = [0; 64];
    let read = file.read_at(&mut head, 0).ok()?;
    line::time_of(&head[..read])
}

/// Not so where a writer was killed, or the disk was full, in the middle of one.
fn ends_with_a_line(file: &File, size: u64) -> bool {
    let mut last = [0];
    matches!(file.read_at(&mut last, size - 1), Ok(1)) && last == *b"\n"
}
