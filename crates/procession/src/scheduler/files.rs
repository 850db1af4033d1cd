//! What an attempt finds as files before it begins: its body, where that is one, and copies
//! of its task's secrets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use procession_core::job::{Claimed, StoredPayload};
use procession_core::launch::Stdin;
use procession_core::payload::Payload;
use procession_core::placeholder::Source;
use procession_core::task::{Body, Channel, Task};
use rustix::fs::OFlags;

use super::runner::bytes_of;
use super::scratch::Scratch;

/// The largest secret.
const MAX_SECRET: u64 = 1 << 20;

/// Where an attempt finds its body.
pub(super) struct BodyAt<'a> {
    payload: &'a StoredPayload,
    /// The file with the body, if the attempt gets one.
    pub(super) file: Option<PathBuf>,
    /// It has to be written first.
    write: bool,
}

/// Whether making an attempt ready reads or writes more than a few small things, so that it
/// should hold nobody up.
pub(super) fn is_slow(task: &Task, claimed: &Claimed) -> bool {
    task.fan_out.is_some()
        || !task.secrets.is_empty()
        || matches!(claimed.payload, StoredPayload::File { .. })
}

impl<'a> BodyAt<'a> {
    /// `large`: where a body too large for the store lies.
    pub(super) fn of(task: &Task, claimed: &'a Claimed, scratch: &Scratch, large: &Path) -> Self {
        let payload = &claimed.payload;
        let named =
            task.templates().flat_map(|t| t.holes()).any(|hole| matches!(hole.from, Source::PayloadFile));
        match payload {
            StoredPayload::File { .. } => Self { payload, file: Some(large.to_owned()), write: false },
            StoredPayload::Inline(_) if named || task.input.channel == Channel::File => {
                Self { payload, file: Some(scratch.payload()), write: true }
            }
            StoredPayload::Inline(_) => Self { payload, file: None, write: false },
        }
    }

    /// Its value, where a template or a variable needs it.
    pub(super) fn parsed(&self, task: &Task) -> Option<Payload> {
        if task.input.body == Body::Bytes {
            return None;
        }
        match self.payload {
            StoredPayload::Inline(bytes) => Some(Payload::stored(bytes.clone())),
            // A body this large was checked when it came; only templates need its value.
            StoredPayload::File { .. } => {
                let needed = task.templates().any(|template| template.takes_client_text());
                let file = self.file.as_ref().filter(|_| needed || task.input.channel == Channel::Env)?;
                fs::read(file).ok().map(|bytes| Payload::stored(bytes.into()))
            }
        }
    }

    /// Writes the file, where it is not there yet.
    pub(super) fn write(&self) -> io::Result<()> {
        match (self.payload, &self.file) {
            (StoredPayload::Inline(bytes), Some(path)) if self.write => write_private(path, bytes),
            _ => Ok(()),
        }
    }

    /// What the program reads.
    pub(super) fn stdin(&self, task: &Task) -> Stdin {
        match (task.input.channel, self.payload, &self.file) {
            (Channel::Stdin, StoredPayload::Inline(bytes), _) => Stdin::Bytes(bytes.clone()),
            (Channel::Stdin, StoredPayload::File { .. }, Some(path)) => Stdin::File(bytes_of(path)),
            _ => Stdin::Null,
        }
    }
}

/// Copies a task's secrets into the scratch folder, 0600.
pub(super) fn copy_secrets(task: &Task, scratch: &Scratch) -> io::Result<()> {
    if task.secrets.is_empty() {
        return Ok(());
    }
    fs::DirBuilder::new().mode(0o700).create(scratch.secrets())?;
    for (name, source) in &task.secrets {
        let secret = read_secret(source)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", source.display())))?;
        write_private(&scratch.secrets().join(name), &secret)?;
    }
    Ok(())
}

/// Only a regular file: a pipe would keep its reader waiting.
fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file: File = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > MAX_SECRET {
        return Err(io::Error::other("a secret is a regular file of at most 1 MiB"));
    }
    let mut secret = Vec::new();
    file.take(MAX_SECRET).read_to_end(&mut secret)?;
    Ok(secret)
}

pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}
