//! Who has a data directory: the lock that says so, taken by `serve`, and looked at by the
//! verbs that ask a keeper. Whom it names is only believed where the lock is really held, and
//! only signalled where it is the very process that wrote it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use procession_core::frame::admin::{Answer, Ask};
use procession_keeper::{AskError, Handle, Identity};

use crate::data::DataDir;

/// The lock may be held for an instant by somebody who only looks, or by one that has not
/// written its name yet.
const INSTANT: Duration = Duration::from_millis(300);

/// How long the server of a keeper that was killed holds the lock too: it finishes what ran.
pub(super) const HEIR: Duration = Duration::from_secs(20);

/// How long a keeper may take to execute its program anew.
const DEAF: Duration = Duration::from_secs(1);

/// Between two looks.
const STEP: Duration = Duration::from_millis(10);

/// The data directory is ours as long as this lives, here or in a copy of this process.
#[derive(Debug)]
pub(super) struct Lock(File);

/// What came of trying to take it.
pub(super) enum Taken {
    Ours(Lock),
    Theirs(Holder),
}

/// Who has it.
#[derive(Debug)]
pub(super) struct Holder {
    /// What stands in the lock file.
    text: String,
    /// Whether that is a living process.
    pub(super) process: Option<Handle>,
}

impl From<Lock> for OwnedFd {
    fn from(lock: Lock) -> Self {
        lock.0.into()
    }
}

impl Lock {
    /// Writes that this process has it.
    pub(super) fn sign(&mut self) -> io::Result<()> {
        let name = Identity::own()?.to_string();
        self.0.set_len(0)?;
        self.0.rewind()?;
        self.0.write_all(name.as_bytes())
    }
}

/// Takes the data directory, for good, or says who has it. Where that is only the server of a
/// keeper that is gone, it will not be for long: `waits` is told of it, once.
pub(super) fn take(data: &DataDir, waits: impl FnOnce(&Holder)) -> anyhow::Result<Taken> {
    let path = data.lock();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("{} cannot be opened", path.display()))?;
    let began = Instant::now();
    let mut waits = Some(waits);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Taken::Ours(Lock(file))),
            Err(TryLockError::Error(error)) => {
                return Err(error).context("the data directory cannot be locked");
            }
            Err(TryLockError::WouldBlock) => {}
        }
        let holder = Holder::read(&mut file)?;
        if holder.process.is_some() || began.elapsed() > HEIR {
            return Ok(Taken::Theirs(holder));
        }
        if began.elapsed() > INSTANT
            && let Some(waits) = waits.take()
        {
            waits(&holder);
        }
        pause();
    }
}

/// Who has it now; nobody where no keeper runs.
pub(super) fn find(data: &DataDir) -> anyhow::Result<Option<Holder>> {
    let path = data.lock();
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(error)
                .with_context(|| format!("{} belongs to the user the server runs as", path.display()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            bail!("{} is no folder; `data_dir` has to name one", data.root().display())
        }
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    match file.try_lock_shared() {
        // Given back at once, when the file is closed.
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(Holder::read(&mut file)?)),
        Err(TryLockError::Error(error)) => Err(error).context("the data directory's lock cannot be asked"),
    }
}

impl Holder {
    fn read(file: &mut File) -> io::Result<Self> {
        let mut text = String::new();
        file.rewind()?;
        file.take(4096).read_to_string(&mut text)?;
        let process = Identity::parse(&text).and_then(|identity| identity.open());
        Ok(Self { text, process })
    }

    /// Its process id, for people.
    pub(super) fn pid(&self) -> &str {
        self.text.lines().next().filter(|line| !line.is_empty()).unwrap_or("(unnamed)")
    }

    /// How long it has been there.
    pub(super) fn age(&self) -> Option<Duration> {
        self.process.as_ref()?;
        Identity::parse(&self.text).map(|identity| identity.age())
    }

    /// Asks it; a keeper that executes its program anew is deaf for a moment. What it then did not
    /// answer may have been heard: only a reload is not asked for twice.
    pub(super) fn ask(&self, data: &DataDir, question: &Ask, patience: Duration) -> Result<Answer, AskError> {
        let began = Instant::now();
        let once = matches!(question, Ask::Reload { .. });
        loop {
            let answer = procession_keeper::ask(&data.keeper(), question, patience);
            let passes = match answer {
                Err(AskError::Nobody) => true,
                Err(AskError::HungUp) => !once,
                _ => false,
            };
            let deaf = |process: &Handle| began.elapsed() < DEAF && !process.ends_within(STEP);
            if !(passes && self.process.as_ref().is_some_and(deaf)) {
                return answer;
            }
        }
    }

    /// Whether it lets go of `data` within `bound`.
    pub(super) fn ends_within(&self, data: &DataDir, bound: Duration) -> anyhow::Result<bool> {
        if let Some(process) = &self.process {
            return Ok(process.ends_within(bound));
        }
        let began = Instant::now();
        while find(data)?.is_some() {
            if began.elapsed() >= bound {
                return Ok(false);
            }
            pause();
        }
        Ok(true)
    }
}

/// Between two looks at a lock: nothing tells when it is given back.
fn pause() {
    #[expect(clippy::disallowed_methods, reason = "between two looks at a condition, with a bound")]
    std::thread::sleep(STEP);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p23_p24_a_name_in_the_lock_is_believed_only_where_it_is_held_and_the_same_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::create(folder.path()).expect("made");
        assert!(find(&data).expect("readable").is_none(), "there is none");
        let take = || take(&data, |_| ());
        let Taken::Ours(mut lock) = take().expect("free") else { panic!("nobody has it") };
        lock.sign().expect("written");
        let holder = find(&data).expect("readable").expect("we hold it");
        assert_eq!(holder.pid(), std::process::id().to_string());
        assert!(holder.process.is_some() && holder.age().is_some());
        // The same number, of a process that started at another time, or by an older version.
        let ours = std::fs::read_to_string(data.lock()).expect("readable");
        for other in
            [format!("{} 1", ours.trim_end()), ours.replace(' ', " 1"), format!("{}\n", holder.pid())]
        {
            let named =
                Identity::parse(&other).is_some_and(|identity| Some(identity) == Identity::parse(&ours));
            std::fs::write(data.lock(), &other).expect("written");
            let holder = find(&data).expect("readable").expect("we hold it");
            assert_eq!(holder.process.is_some(), named, "{other}");
        }
        std::fs::write(data.lock(), &ours).expect("written");
        assert!(matches!(take(), Ok(Taken::Theirs(_))), "at once");
        drop(lock);
        // Our own name, but nobody holds the lock.
        std::fs::write(data.lock(), ours).expect("written");
        assert!(find(&data).expect("readable").is_none());
        assert!(matches!(take(), Ok(Taken::Ours(_))));
    }
}
