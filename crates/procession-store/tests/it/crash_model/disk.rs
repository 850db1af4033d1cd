//! A store on a disk that forgets what was not synced when the power goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use procession_store::{MemoryStore, SqliteStore, Store};
use tempfile::TempDir;

/// Where the store's data is.
pub(super) enum Disk {
    /// In the model store: it never dies, and keeps all it was given.
    Memory(Arc<MemoryStore>),
    /// In files.
    Sqlite(Files),
}

/// A SQLite store and what of it is certainly on the disk.
pub(super) struct Files {
    store: Option<Arc<SqliteStore>>,
    folder: TempDir,
    /// How often it moved: each death leaves the files as they were at that moment.
    moves: usize,
    /// The files as of the last synced write, where unsynced ones came since.
    synced: Option<PathBuf>,
}

const NAMES: [&str; 2] = ["store.db", "store.db-wal"];

impl Disk {
    pub(super) fn memory() -> Self {
        Disk::Memory(Arc::new(MemoryStore::new()))
    }

    /// In memory where there is a file system for it: the syncs of a model are not what
    /// takes its time.
    pub(super) fn sqlite() -> Self {
        let shared = Path::new("/dev/shm");
        let folder = TempDir::new_in(shared).or_else(|_| TempDir::new()).expect("a folder");
        let mut files = Files { store: None, folder, moves: 0, synced: None };
        fs::create_dir(files.place()).expect("made");
        files.open();
        Disk::Sqlite(files)
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        match self {
            Disk::Memory(store) => store.clone(),
            Disk::Sqlite(files) => files.store.clone().expect("it is open"),
        }
    }

    /// A write that is not synced comes next.
    pub(super) fn before_unsynced(&mut self) {
        let Disk::Sqlite(files) = self else { return };
        if files.synced.is_none() {
            let image = files.folder.path().join(format!("synced-{}", files.moves));
            let _ = fs::remove_dir_all(&image);
            copy(&files.place(), &image);
            files.synced = Some(image);
        }
    }

    /// A write was synced, and with it all before it.
    pub(super) fn synced(&mut self) {
        if let Disk::Sqlite(files) = self {
            files.synced = None;
        }
    }

    /// The process that had it open is dead: it closed nothing.
    pub(super) fn process_died(&mut self) {
        if let Disk::Sqlite(files) = self {
            let from = files.place();
            files.go_on_from(&from);
        }
    }

    /// The power was gone.
    pub(super) fn power_cut(&mut self, unsynced_survives: bool) {
        let Disk::Sqlite(files) = self else { return };
        let from = match files.synced.take() {
            Some(image) if !unsynced_survives => image,
            _ => files.place(),
        };
        files.go_on_from(&from);
    }
}

impl Files {
    fn place(&self) -> PathBuf {
        self.folder.path().join(format!("place-{}", self.moves))
    }

    fn open(&mut self) {
        let store = SqliteStore::open(&self.place().join("store.db")).expect("it opens after any death");
        self.store = Some(Arc::new(store));
    }

    /// The files are taken before the store is closed, which would tidy them.
    fn go_on_from(&mut self, from: &Path) {
        let before = self.place();
        self.moves += 1;
        copy(from, &self.place());
        self.store = None;
        fs::remove_dir_all(before).expect("removed");
        self.open();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("made");
    for name in NAMES {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).expect("copied");
        }
    }
}
