//! The lock that monitors hold while they have a tree to end: a keeper that begins waits for
//! those of one that was killed, so that no job of the old one runs beside its second try.
//!
//! Held by what a fork copies, so it lasts as long as the last monitor, whatever became of
//! the keeper. A monitor that only watches over what was left alone lets go of it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{Timespec, poll};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::file::{create_anew, open_regular};
use crate::sys::clock;

/// They end their trees as fast as these die; what does not die (a hung disk) holds nobody up
/// for longer.
const WITHIN: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// Takes the lock for the monitors of this keeper, among which those of another may be.
pub(crate) fn share(state_dir: &Path) -> Result<OwnedFd, Errno> {
    let path = state_dir.join("monitors");
    let file = match open_regular(&path, OFlags::RDWR) {
        Err(Errno::NOENT) => create_anew(&path, OFlags::RDWR)?,
        result => result?,
    };
    flock(&file, FlockOperation::NonBlockingLockShared)?;
    Ok(file)
}

/// The same once no other keeper's monitor is left, or they have had their time.
pub(crate) fn share_alone(state_dir: &Path) -> Result<OwnedFd, Errno> {
    let file = share(state_dir)?;
    let until = clock::now().after(WITHIN);
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if clock::now() >= until {
            crate::complain(format_args!("monitors of another keeper still end their trees"));
            break;
        }
        let _ = poll(&mut [], Some(&LOOK));
    }
    // A change that fails may have let go of the lock.
    flock(&file, FlockOperation::NonBlockingLockShared)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f03_a_new_keeper_waits_for_monitors_of_the_old_one() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let old = share_alone(folder.path()).expect("nobody has it");
        drop(share(folder.path()).expect("shared"));
        std::thread::scope(|scope| {
            let new = scope.spawn(|| share_alone(folder.path()));
            let began = clock::now();
            while clock::now() < began.after(Duration::from_millis(50)) {
                assert!(!new.is_finished(), "it did not wait");
                let _ = poll(&mut [], Some(&LOOK));
            }
            drop(old);
            new.join().expect("no panic").expect("theirs is gone");
        });
    }
}
