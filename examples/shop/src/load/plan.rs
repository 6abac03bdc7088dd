//! What the next write is: a share on a few hot keys, deletes and re-inserts among them; the rest on new and random ones.

use rand::Rng;

use crate::record::Op;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub op: Op,
    pub key: Option<i64>,
}

/// Orders that a write may meet: those seeded and those created since.
#[derive(Debug)]
pub struct Known {
    seeded: i64,
    created: Vec<i64>,
}

impl Known {
    pub fn new(seeded: i64) -> Self {
        Self {
            seeded,
            created: Vec::new(),
        }
    }

    pub fn created(&mut self, key: i64) {
        self.created.push(key);
    }
}

#[derive(Debug, Clone)]
pub struct Plan {
    hot: Vec<i64>,
    hot_percent: u8,
}

impl Plan {
    /// The hot keys lie spread over the seeded orders, so that they fall into different chunks of the copy.
    pub fn new(hot_keys: i64, seeded: i64, hot_percent: u8) -> Self {
        let stride = (seeded / hot_keys.max(1)).max(1);
        Self {
            hot: (0..hot_keys).map(|n| 1 + n * stride).collect(),
            hot_percent,
        }
    }

    pub fn next(&self, known: &Known, random: &mut impl Rng) -> Step {
        let die = random.random_range(0..100_u8);
        if random.random_range(0..100) < self.hot_percent {
            let op = match die {
                0..45 => Op::Upsert,
                45..70 => Op::Update,
                _ => Op::Delete,
            };
            Step {
                op,
                key: Some(self.hot_key(random)),
            }
        } else {
            match die {
                0..40 => Step {
                    op: Op::Create,
                    key: None,
                },
                40..80 => Step {
                    op: Op::Update,
                    key: Some(Self::known_key(known, random)),
                },
                80..90 => Step {
                    op: Op::Upsert,
                    key: Some(Self::known_key(known, random)),
                },
                _ => Step {
                    op: Op::Delete,
                    key: Some(Self::known_key(known, random)),
                },
            }
        }
    }

    /// A key to read.
    pub fn any_key(&self, known: &Known, random: &mut impl Rng) -> i64 {
        if random.random_bool(0.3) {
            self.hot_key(random)
        } else {
            Self::known_key(known, random)
        }
    }

    fn hot_key(&self, random: &mut impl Rng) -> i64 {
        self.hot[random.random_range(0..self.hot.len())]
    }

    fn known_key(known: &Known, random: &mut impl Rng) -> i64 {
        // Half of them young: rows that changed lately are where copy and verify may go wrong.
        if !known.created.is_empty() && random.random_bool(0.5) {
            known.created[random.random_range(0..known.created.len())]
        } else {
            random.random_range(1..=known.seeded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_share_on_hot_keys_is_kept_with_deletes_and_reinserts() {
        let plan = Plan::new(50, 200_000, 30);
        let known = Known::new(200_000);
        let mut random = rand::rngs::StdRng::seed_from_u64(1);
        let steps: Vec<Step> = (0..10_000).map(|_| plan.next(&known, &mut random)).collect();
        let hot: Vec<&Step> = steps
            .iter()
            .filter(|step| step.key.is_some_and(|key| plan.hot.contains(&key)))
            .collect();
        assert!((2_800..3_200).contains(&hot.len()), "{}", hot.len());
        for op in [Op::Upsert, Op::Update, Op::Delete] {
            assert!(hot.iter().filter(|step| step.op == op).count() > 500, "{op:?}");
        }
        let mut keys: Vec<_> = hot.iter().filter_map(|step| step.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 50);
    }
}
