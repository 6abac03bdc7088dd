//! The stance in force. A request takes it once and holds it to its end; requests in flight are counted per epoch,
//! because an epoch is acknowledged only when nothing begun under an older one is left.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::mode::{ModeDirectory, ModeError, Revision, Stance, supersedes};

#[derive(Debug)]
pub(super) struct Router {
    directory: ModeDirectory,
    state: Mutex<State>,
    stance: watch::Sender<Option<Arc<Stance>>>,
    /// Told whenever a request ends.
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    stance: Option<Arc<Stance>>,
    /// The files that were looked at last, taken or not.
    seen: Option<Revision>,
    problem: Option<String>,
    in_flight: BTreeMap<i64, usize>,
}

/// A stance, held by one request until it ends.
#[derive(Debug)]
pub(super) struct Held {
    stance: Arc<Stance>,
    router: Arc<Router>,
}

impl Deref for Held {
    type Target = Stance;
    fn deref(&self) -> &Stance {
        &self.stance
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.router.lock();
        if let Some(count) = state.in_flight.get_mut(&self.stance.epoch) {
            *count -= 1;
            if *count == 0 {
                state.in_flight.remove(&self.stance.epoch);
            }
        }
        drop(state);
        self.router.ended.notify_waiters();
    }
}

impl Router {
    pub fn new(directory: ModeDirectory) -> Arc<Self> {
        Arc::new(Self {
            directory,
            state: Mutex::default(),
            stance: watch::Sender::new(None),
            ended: Notify::new(),
        })
    }

    /// Takes the stance in force; counting happens under the same lock as changing it, so a request is either counted
    /// under the old epoch before the change or begun under the new one.
    pub fn take(self: &Arc<Self>) -> Result<Held, String> {
        let mut state = self.lock();
        let Some(stance) = state.stance.clone() else {
            return Err(state
                .problem
                .clone()
                .unwrap_or_else(|| "the mode files have not been read yet".to_owned()));
        };
        *state.in_flight.entry(stance.epoch).or_default() += 1;
        Ok(Held {
            stance,
            router: self.clone(),
        })
    }

    pub fn current(&self) -> Option<Arc<Stance>> {
        self.lock().stance.clone()
    }

    pub fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }

    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Stance>>> {
        self.stance.subscribe()
    }

    pub fn in_flight_below(&self, epoch: i64) -> usize {
        self.lock().in_flight.range(..epoch).map(|(_, count)| count).sum()
    }

    /// Waits until something ended, at most this long.
    pub async fn some_ended(&self, most: Duration) {
        let _ = tokio::time::timeout(most, self.ended.notified()).await;
    }

    /// Reads the files again if they have changed; whether another stance is in force now.
    pub fn refresh(&self) -> bool {
        let revision = self.directory.revision();
        if let Ok(revision) = &revision {
            let state = self.lock();
            if state.seen.as_ref() == Some(revision) && state.problem.is_none() {
                return false;
            }
        }
        let read = revision.and_then(|_| self.directory.read());
        self.adopt(read)
    }

    fn adopt(&self, read: Result<(Revision, Stance), ModeError>) -> bool {
        let mut state = self.lock();
        let problem = match read {
            Ok((revision, stance)) => {
                state.seen = Some(revision);
                match state.stance.as_deref() {
                    Some(current) if *current == stance => {
                        state.problem = None;
                        return false;
                    }
                    Some(current) if !supersedes(&stance, current) => format!(
                        "the mode files say {} {} epoch {}, which does not follow epoch {} ({} {}); the latter stays in force",
                        stance.mode, stance.secondary, stance.epoch, current.epoch, current.mode, current.secondary
                    ),
                    _ => {
                        tracing::info!(mode = %stance.mode, secondary = %stance.secondary, epoch = stance.epoch, "mode adopted");
                        let stance = Arc::new(stance);
                        state.stance = Some(stance.clone());
                        state.problem = None;
                        self.stance.send_replace(Some(stance));
                        return true;
                    }
                }
            }
            Err(error) => error.to_string(),
        };
        if state.problem.as_ref() != Some(&problem) {
            tracing::warn!(%problem, "the mode files were not taken");
            state.problem = Some(problem);
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counts and pointers, changed in single steps: true even after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ModeKeys;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn flip(mount: &Path, epoch: i64, mode: &str) {
        let name = format!("..{epoch}-{mode}");
        fs::create_dir(mount.join(&name)).unwrap();
        fs::write(mount.join(&name).join("write-mode"), mode).unwrap();
        fs::write(mount.join(&name).join("epoch"), epoch.to_string()).unwrap();
        let _ = fs::remove_file(mount.join("..data"));
        symlink(&name, mount.join("..data")).unwrap();
    }

    fn router(mount: &Path) -> Arc<Router> {
        Router::new(ModeDirectory::new(mount, ModeKeys::default()))
    }

    #[test]
    fn nothing_is_taken_before_the_files_are_readable() {
        let mount = tempfile::tempdir().unwrap();
        let router = router(mount.path());
        assert!(!router.refresh());
        assert!(router.take().unwrap_err().contains("..data"));
        flip(mount.path(), 1, "SRC_FIRST");
        assert!(router.refresh());
        assert_eq!(router.take().unwrap().epoch, 1);
    }

    #[test]
    fn a_lower_epoch_or_broken_files_leave_the_stance_in_force() {
        let mount = tempfile::tempdir().unwrap();
        let router = router(mount.path());
        flip(mount.path(), 3, "SRC_FIRST");
        assert!(router.refresh());
        flip(mount.path(), 2, "SRC_ONLY");
        assert!(!router.refresh());
        assert!(router.problem().unwrap().contains("epoch 2"));
        flip(mount.path(), 4, "NONSENSE");
        assert!(!router.refresh());
        fs::remove_file(mount.path().join("..data")).unwrap();
        assert!(!router.refresh());
        assert_eq!(router.current().unwrap().epoch, 3);
        flip(mount.path(), 5, "DST_FIRST");
        assert!(router.refresh());
        assert_eq!((router.current().unwrap().epoch, router.problem()), (5, None));
    }

    #[test]
    fn requests_keep_their_stance_and_are_counted_under_it() {
        let mount = tempfile::tempdir().unwrap();
        let router = router(mount.path());
        flip(mount.path(), 1, "SRC_FIRST");
        router.refresh();
        let (first, second) = (router.take().unwrap(), router.take().unwrap());
        flip(mount.path(), 2, "DST_FIRST");
        router.refresh();
        let third = router.take().unwrap();
        assert_eq!((first.epoch, third.epoch), (1, 2));
        assert_eq!(router.in_flight_below(2), 2);
        drop(first);
        assert_eq!(router.in_flight_below(2), 1);
        drop(second);
        assert_eq!((router.in_flight_below(2), router.in_flight_below(3)), (0, 1));
        drop(third);
        assert_eq!(router.in_flight_below(3), 0);
    }
}
