//! Writers of one key within this process go one after the other, before they take a connection: the databases would
//! make them wait anyway, each with a connection in hand, and in the queue before writers of other processes.

use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Mutex, MutexGuard};

use crate::rows::Key;

const STRIPES: usize = 1024;

#[derive(Debug)]
pub(super) struct Gate {
    stripes: Vec<Mutex<()>>,
    hash: RandomState,
}

impl Gate {
    pub fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            hash: RandomState::new(),
        }
    }

    /// Waits for its turn on every key; stripes are taken in order, so nobody waits in a circle.
    pub async fn enter(&self, parts: &[(usize, Vec<Key>)]) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<usize> = parts
            .iter()
            .flat_map(|(table, keys)| keys.iter().map(move |key| (table, key)))
            .map(|key| self.hash.hash_one(key) as usize % STRIPES)
            .collect();
        stripes.sort_unstable();
        stripes.dedup();
        let mut turns = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            turns.push(self.stripes[stripe].lock().await);
        }
        turns
    }
}
