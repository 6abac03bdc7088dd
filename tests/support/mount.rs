//! A directory laid out like a mounted ConfigMap: keys behind a `..data` link that is moved in one step.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Mount {
    directory: tempfile::TempDir,
    revision: AtomicU32,
}

impl Mount {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            revision: AtomicU32::new(0),
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What the kubelet does when the ConfigMap has changed.
    pub fn flip(&self, mode: &str, secondary: &str, epoch: i64) {
        let read_from = if mode.starts_with("DST") { "TARGET" } else { "SOURCE" };
        self.put(&[
            ("write-mode", mode),
            ("secondary-writes", secondary),
            ("read-from", read_from),
            ("epoch", &epoch.to_string()),
        ]);
    }

    pub fn put(&self, files: &[(&str, &str)]) {
        let name = PathBuf::from(format!("..{}", self.revision.fetch_add(1, Ordering::Relaxed)));
        let directory = self.path().join(&name);
        std::fs::create_dir(&directory).expect("a directory");
        for (key, value) in files {
            std::fs::write(directory.join(key), value).expect("a file");
        }
        let temporary = self.path().join("..tmp");
        symlink(&name, &temporary).expect("a link");
        std::fs::rename(temporary, self.path().join("..data")).expect("the link moved");
    }
}
