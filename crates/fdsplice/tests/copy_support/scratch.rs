//! A temporary directory, which is removed at the end of the test.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) struct Scratch {
    directory: PathBuf,
    next: Cell<u32>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::inside(&std::env::temp_dir())
    }

    pub(crate) fn inside(parent: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = parent.join(format!("fdsplice-{}-{number}", std::process::id()));
        fs::create_dir(&directory).expect("a directory");
        Self {
            directory,
            next: Cell::new(0),
        }
    }

    /// A path that does not exist yet.
    pub(crate) fn path(&self) -> PathBuf {
        self.next.set(self.next.get() + 1);
        self.directory.join(self.next.get().to_string())
    }

    /// An empty file without a name, open for reading and writing.
    pub(crate) fn file(&self) -> File {
        let path = self.path();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .expect("a file");
        fs::remove_file(path).expect("a name to remove");
        file
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Errors are ignored, so that a failing test does not panic twice.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
