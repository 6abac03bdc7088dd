//! What an order holds, derived from the id of the write that put it there. Whoever knows the id knows the row, so
//! the audit can tell whose content a row holds and whether all of it is that write's.

use serde::{Deserialize, Serialize};

/// The columns a write gives. `amount` is decimal text with two digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub write_id: String,
    pub user_id: i64,
    pub amount: String,
    pub note: String,
    pub status: String,
}

pub const STATUSES: [&str; 4] = ["new", "paid", "shipped", "cancelled"];

impl Content {
    /// The one content that belongs to this write.
    pub fn of(write_id: &str) -> Self {
        let hash = fnv(write_id.as_bytes());
        let words = [
            "gift",
            "naïve café",
            "büro",
            "日本",
            "o'clock",
            "100 %",
            "back\\slash",
            "🚲",
        ];
        Self {
            write_id: write_id.to_owned(),
            user_id: (hash % 50_000) as i64 + 1,
            amount: format!("{}.{:02}", hash >> 8 & 0xffff, (hash >> 24) % 100),
            note: format!("{} {hash:016x}", words[(hash >> 40) as usize % words.len()]),
            status: STATUSES[(hash >> 32) as usize % STATUSES.len()].to_owned(),
        }
    }

    /// The content of a row that was there before the load began.
    pub fn seeded(id: i64) -> Self {
        Self::of(&seed_id(id))
    }
}

/// The write id of a seeded row.
pub fn seed_id(id: i64) -> String {
    format!("seed-{id}")
}

/// FNV-1a with a final mix: the same on every machine and in every version.
fn fnv(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_id_gives_the_same_content_and_another_id_another() {
        assert_eq!(Content::of("a-1"), Content::of("a-1"));
        assert_ne!(Content::of("a-1").note, Content::of("a-2").note);
        assert_eq!(Content::seeded(7), Content::of("seed-7"));
    }
}
