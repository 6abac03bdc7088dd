//! The mode of the dual write: which side is base, how strict the second write is, and from which epoch on.
//! Read from a mounted ConfigMap as one: the `..data` link is resolved once, every key is read behind it, and the
//! reading is discarded when the link has moved meanwhile. A mode mixed from two flips would be a mode nobody chose.

use std::path::{Path, PathBuf};

use crate::words::{Mode, ModeKeys, ReadFrom, SecondaryWrites, Side};

/// What the mounted files say, all keys of one flip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stance {
    pub mode: Mode,
    pub read_from: ReadFrom,
    /// Share of the reads that goes to the target while `read_from` is the source.
    pub read_target_percent: u8,
    pub secondary: SecondaryWrites,
    pub epoch: i64,
}

impl Stance {
    /// The side that is kept in step, when there is one.
    pub fn follower(&self) -> Option<Side> {
        self.mode.writes_both().then(|| self.mode.base().other())
    }

    /// The side that answers a read, for a die thrown in `0..100`. Modes with one database leave no choice.
    pub fn read_side(&self, die: u8) -> Side {
        match self.mode {
            Mode::SrcOnly | Mode::SrcReadOnly => Side::Source,
            Mode::DstOnly => Side::Target,
            Mode::SrcFirst | Mode::DstFirst => {
                if self.read_from == ReadFrom::Target || die < self.read_target_percent {
                    Side::Target
                } else {
                    Side::Source
                }
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ModeError {
    #[error(
        "the mode directory {directory} cannot be read at {path}: {source}; mount the ConfigMap there as a directory, without subPath"
    )]
    Unreadable {
        directory: PathBuf,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "the mode directory {directory} has no link `..data`; mount the ConfigMap there as a directory, without subPath"
    )]
    NotMounted { directory: PathBuf },
    #[error("the mode directory {directory} moved {attempts} times while it was being read; it is read again shortly")]
    Moving { directory: PathBuf, attempts: u32 },
    #[error("{directory}: key `{key}` is missing; expected {expected}; set it in the ConfigMap")]
    Missing {
        directory: PathBuf,
        key: String,
        expected: &'static str,
    },
    #[error("{directory}: key `{key}` is {found:?}; expected {expected}; correct it in the ConfigMap")]
    Invalid {
        directory: PathBuf,
        key: String,
        found: String,
        expected: &'static str,
    },
}

const MODES: &str = "SRC_ONLY, SRC_FIRST, DST_FIRST, DST_ONLY or SRC_READ_ONLY";

/// A mode directory as the kubelet lays it out, with the key names in use.
#[derive(Debug, Clone)]
pub struct ModeDirectory {
    path: PathBuf,
    keys: ModeKeys,
}

/// Which version of the files a mode came from; unchanged means that nothing needs to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision(PathBuf);

/// The kubelet moves the link at most once per sync; a reading that meets several moves is left to the next poll.
const ATTEMPTS: u32 = 5;

impl ModeDirectory {
    pub fn new(path: impl Into<PathBuf>, keys: ModeKeys) -> Self {
        Self {
            path: path.into(),
            keys,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `..data` points now.
    pub fn revision(&self) -> Result<Revision, ModeError> {
        let link = self.path.join("..data");
        match std::fs::read_link(&link) {
            Ok(target) => Ok(Revision(target)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.path.is_dir() => {
                Err(ModeError::NotMounted {
                    directory: self.path.clone(),
                })
            }
            Err(source) => Err(ModeError::Unreadable {
                directory: self.path.clone(),
                path: link,
                source,
            }),
        }
    }

    /// All keys of one revision.
    pub fn read(&self) -> Result<(Revision, Stance), ModeError> {
        self.read_observed(|_| ())
    }

    /// `read`, telling `between` after every file: tests move the link there.
    fn read_observed(&self, mut between: impl FnMut(&str)) -> Result<(Revision, Stance), ModeError> {
        for _ in 0..ATTEMPTS {
            let before = self.revision()?;
            let result = self.read_behind(&before, &mut between);
            // A file that vanished because the link moved is no fault of the files: look at the link first.
            if self.revision()? == before {
                return result.map(|mode| (before, mode));
            }
        }
        Err(ModeError::Moving {
            directory: self.path.clone(),
            attempts: ATTEMPTS,
        })
    }

    fn read_behind(&self, revision: &Revision, between: &mut impl FnMut(&str)) -> Result<Stance, ModeError> {
        // `join` keeps an absolute link target as it is; the kubelet's are relative.
        let directory = self.path.join(&revision.0);
        let mut text = |key: &str| -> Result<Option<String>, ModeError> {
            let path = directory.join(key);
            let result = match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some(text.trim().to_owned())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(ModeError::Unreadable {
                    directory: self.path.clone(),
                    path,
                    source,
                }),
            };
            between(key);
            result
        };
        let write_mode = text(&self.keys.write_mode)?;
        let read_from = text(&self.keys.read_from)?;
        let percent = text(&self.keys.read_target_percent)?;
        let secondary = text(&self.keys.secondary_writes)?;
        let epoch = text(&self.keys.epoch)?;

        let invalid = |key: &str, found: &str, expected| ModeError::Invalid {
            directory: self.path.clone(),
            key: key.to_owned(),
            found: found.to_owned(),
            expected,
        };
        let Some(write_mode) = write_mode else {
            return Err(ModeError::Missing {
                directory: self.path.clone(),
                key: self.keys.write_mode.clone(),
                expected: MODES,
            });
        };
        let mode = write_mode
            .parse::<Mode>()
            .map_err(|_| invalid(&self.keys.write_mode, &write_mode, MODES))?;
        let read_from = match read_from.as_deref() {
            None if mode.base() == Side::Target => ReadFrom::Target,
            None => ReadFrom::Source,
            Some(found) => found
                .parse()
                .map_err(|_| invalid(&self.keys.read_from, found, "SOURCE or TARGET"))?,
        };
        let read_target_percent = match percent.as_deref() {
            None => 0,
            Some(found) => found
                .parse::<u8>()
                .ok()
                .filter(|percent| *percent <= 100)
                .ok_or_else(|| invalid(&self.keys.read_target_percent, found, "a whole number from 0 to 100"))?,
        };
        let secondary = match secondary.as_deref() {
            None => SecondaryWrites::Lenient,
            Some(found) => found
                .parse()
                .map_err(|_| invalid(&self.keys.secondary_writes, found, "Lenient or Strict"))?,
        };
        let epoch = match epoch.as_deref() {
            None => 0,
            Some(found) => found
                .parse::<i64>()
                .ok()
                .filter(|epoch| *epoch >= 0)
                .ok_or_else(|| invalid(&self.keys.epoch, found, "a whole number, 0 or more"))?,
        };
        Ok(Stance {
            mode,
            read_from,
            read_target_percent,
            secondary,
            epoch,
        })
    }
}

/// Whether a reading may replace the mode in force. A lower epoch never does, and neither does another mode under the
/// same epoch: every flip has its own epoch, so such files were changed by something that is not the operator. Only
/// the share of reads may move within an epoch.
pub fn supersedes(new: &Stance, current: &Stance) -> bool {
    new.epoch > current.epoch
        || (new.epoch == current.epoch && new.mode == current.mode && new.secondary == current.secondary)
        || (new.epoch == 0 && current.epoch == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    struct Mount {
        directory: tempfile::TempDir,
        revision: u32,
    }

    impl Mount {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
                revision: 0,
            }
        }

        fn put(&mut self, files: &[(&str, &str)]) {
            self.revision += 1;
            let name = format!("..rev{}", self.revision);
            let directory = self.directory.path().join(&name);
            fs::create_dir(&directory).unwrap();
            for (key, value) in files {
                fs::write(directory.join(key), value).unwrap();
            }
            let temporary = self.directory.path().join("..tmp");
            symlink(&name, &temporary).unwrap();
            fs::rename(temporary, self.directory.path().join("..data")).unwrap();
        }

        fn flip(&mut self, mode: &str, secondary: &str, epoch: &str) {
            self.put(&[("write-mode", mode), ("secondary-writes", secondary), ("epoch", epoch)]);
        }

        fn reader(&self) -> ModeDirectory {
            ModeDirectory::new(self.directory.path(), ModeKeys::default())
        }
    }

    #[test]
    fn reads_all_keys() {
        let mut mount = Mount::new();
        mount.put(&[
            ("write-mode", "SRC_FIRST\n"),
            ("read-from", "SOURCE"),
            ("read-target-percent", "25"),
            ("secondary-writes", "Strict"),
            ("epoch", "7"),
        ]);
        let (_, mode) = mount.reader().read().unwrap();
        assert_eq!(
            mode,
            Stance {
                mode: Mode::SrcFirst,
                read_from: ReadFrom::Source,
                read_target_percent: 25,
                secondary: SecondaryWrites::Strict,
                epoch: 7
            }
        );
        assert_eq!(mode.read_side(24), Side::Target);
        assert_eq!(mode.read_side(25), Side::Source);
    }

    #[test]
    fn absent_keys_have_defaults_but_the_mode_has_none() {
        let mut mount = Mount::new();
        mount.put(&[("write-mode", "DST_FIRST")]);
        let (_, mode) = mount.reader().read().unwrap();
        assert_eq!(
            (mode.epoch, mode.secondary, mode.read_from),
            (0, SecondaryWrites::Lenient, ReadFrom::Target)
        );
        mount.put(&[("epoch", "3")]);
        assert!(matches!(mount.reader().read(), Err(ModeError::Missing { key, .. }) if key == "write-mode"));
    }

    #[test]
    fn wrong_values_name_key_and_remedy() {
        for (key, value) in [
            ("write-mode", "SOURCE_ONLY"),
            ("read-from", "source"),
            ("read-target-percent", "101"),
            ("secondary-writes", "strict"),
            ("epoch", "-1"),
        ] {
            let mut mount = Mount::new();
            let mut files = vec![("write-mode", "SRC_ONLY")];
            files.retain(|(name, _)| *name != key);
            files.push((key, value));
            mount.put(&files);
            let text = mount.reader().read().unwrap_err().to_string();
            assert!(
                text.contains(key) && text.contains(value) && text.contains("correct it"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_link_that_moves_during_the_reading_never_mixes_two_flips() {
        for at in [
            "write-mode",
            "read-from",
            "read-target-percent",
            "secondary-writes",
            "epoch",
        ] {
            let mut mount = Mount::new();
            mount.flip("SRC_FIRST", "Strict", "3");
            let reader = mount.reader();
            let mut moved = false;
            let (_, mode) = reader
                .read_observed(|key| {
                    if key == at && !moved {
                        moved = true;
                        mount.flip("DST_FIRST", "Lenient", "4");
                    }
                })
                .unwrap();
            assert_eq!(
                (mode.mode, mode.secondary, mode.epoch),
                (Mode::DstFirst, SecondaryWrites::Lenient, 4),
                "moved after {at}"
            );
        }
    }

    #[test]
    fn a_link_that_never_rests_is_no_mode() {
        let mut mount = Mount::new();
        mount.flip("SRC_FIRST", "Strict", "1");
        let reader = mount.reader();
        let mut epoch = 1;
        let result = reader.read_observed(|key| {
            if key == "epoch" {
                epoch += 1;
                mount.flip("SRC_FIRST", "Strict", &epoch.to_string());
            }
        });
        assert!(matches!(result, Err(ModeError::Moving { .. })));
    }

    #[test]
    fn a_directory_that_is_not_a_mount_is_said_to_be_none() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("write-mode"), "SRC_ONLY").unwrap();
        let reader = ModeDirectory::new(directory.path(), ModeKeys::default());
        assert!(matches!(reader.read(), Err(ModeError::NotMounted { .. })));
        let reader = ModeDirectory::new(directory.path().join("absent"), ModeKeys::default());
        assert!(matches!(reader.read(), Err(ModeError::Unreadable { .. })));
    }

    #[test]
    fn only_a_higher_epoch_or_another_share_of_reads_supersedes() {
        use Mode::{DstFirst, SrcFirst, SrcOnly};
        use SecondaryWrites::{Lenient, Strict};
        let stance = |mode, secondary, epoch| Stance {
            mode,
            secondary,
            epoch,
            read_from: ReadFrom::Source,
            read_target_percent: 0,
        };
        let current = stance(SrcFirst, Strict, 3);
        assert!(supersedes(&stance(DstFirst, Strict, 4), &current));
        assert!(!supersedes(&stance(DstFirst, Strict, 3), &current));
        assert!(!supersedes(&stance(SrcFirst, Lenient, 3), &current));
        assert!(!supersedes(&stance(SrcOnly, Lenient, 2), &current));
        assert!(supersedes(
            &Stance {
                read_target_percent: 10,
                ..current.clone()
            },
            &current
        ));
    }
}
