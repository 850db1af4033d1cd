//! A small disk, for filling it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::process::command;

/// A file system of its own at a folder, until dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one; `None`, said on stderr, where that is not allowed.
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("made");
        let options = format!("size={size},mode=0700");
        let mounted = command("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!("skipped: no file system can be mounted here");
        None
    }

    /// Takes all space but `spare` bytes, by a file that [`SmallDisk::empty`] removes.
    pub fn fill(&self, spare: u64) {
        let mut file = File::create(self.filler()).expect("made");
        let block = [1; 4096];
        // Ends at the first block there is no room for.
        while file.write_all(&block).is_ok() {}
        let length = file.metadata().expect("readable").len();
        file.set_len(length.saturating_sub(spare)).expect("shortened");
    }

    /// Gives the space back.
    pub fn empty(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also while a server that is about to end still has files there.
        let _ = command("umount").arg("-l").arg(&self.0).status();
    }
}
