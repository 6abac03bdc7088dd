//! What the follower gets: versions are stamped, the row images are read under lock, deletes are recorded, and each row
//! goes to the follower's shard where it lies.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::Fault;
use super::follower::Image;
use super::intent::{Intent, Pairs, Second};
use super::mode::Stance;
use super::queue::Owed;
use super::write::{Core, Part, lies_here};
use crate::control;
use crate::rows::{Key, Row, Value};
use crate::store::{Lock, TablePair, TableSide, Tx};
use crate::words::Direction;

/// What one database of the follower gets.
pub(super) struct Share {
    /// The first of the follower's shards that lie there.
    pub database: usize,
    pub second: Second,
    /// By table (parents before children), then shard; an error where the follower's tables are not known.
    pub images: Result<BTreeMap<(usize, usize), Image>, String>,
    /// The same keys, for the queue.
    pub owed: Vec<Owed>,
}

#[derive(Default)]
pub(super) struct Shares {
    /// In the order of the shards: writers that lock rows in several take them in one order.
    pub of_databases: Vec<Share>,
    /// With the follower as base this write would be refused, because it is not known to be in one shard.
    pub spread: bool,
}

/// As what a part's table is read on the base: with all mapped columns, or with key and version while the follower's
/// table is not known.
enum Reading {
    Wide(Arc<TablePair>, Direction),
    Narrow(Arc<TableSide>),
}

impl Reading {
    fn new(lead: &Pairs, (index, direction): (usize, Direction), part: &Part) -> Self {
        match lead {
            Ok(pairs) => Self::Wide(pairs[index].clone(), direction),
            Err(_) => Self::Narrow(part.narrow.clone()),
        }
    }

    fn side(&self) -> &TableSide {
        match self {
            Self::Wide(pair, direction) => pair.base(*direction),
            Self::Narrow(narrow) => narrow,
        }
    }
}

/// A part's rows as they are on the base now.
struct Found {
    puts: Vec<Row>,
    deleted: Vec<Key>,
}

/// The rest of step 1 and the base's half of step 2. Without a follower in this mode only the stamps are set.
pub(super) async fn shares(
    core: &Arc<Core>,
    stance: &Stance,
    shard: usize,
    parts: &mut [Part],
    intent: Option<&mut Intent>,
    tx: &mut Tx,
) -> Result<Shares, Fault> {
    let direction = Direction::from_base(stance.mode.base());
    let Some(intent) = intent else {
        for part in parts.iter().filter(|part| !part.keys.is_empty()) {
            stamp(part, &part.narrow, tx).await?;
        }
        return Ok(Shares::default());
    };
    // Rows under generated keys may lie in shards that nobody has thought of yet.
    let mut shards = Vec::new();
    for part in parts.iter() {
        for key in &part.keys {
            shards.push(intent.place(core, part, key)?);
        }
    }
    intent.look_at(core, shards).await;
    // The pair knows how many digits of a version both sides keep.
    let lead = intent.any();
    let reading = |index: usize, part: &Part| Reading::new(&lead, (index, direction), part);
    for (index, part) in parts.iter().enumerate() {
        if !part.keys.is_empty() {
            stamp(part, reading(index, part).side(), tx).await?;
        }
    }
    let mut changes: BTreeMap<usize, BTreeMap<usize, Found>> = BTreeMap::new();
    for (index, part) in parts.iter_mut().enumerate() {
        let reading = reading(index, part);
        let side = reading.side();
        let found = read(part, side, tx).await?;
        for row in found.puts {
            let key = side.key_of(&row);
            lies_here(&core.sides, (stance.mode.base(), shard), part, &key)?;
            at(&mut changes, intent.place(core, part, &key)?, index).puts.push(row);
        }
        for key in found.deleted {
            at(&mut changes, intent.place(core, part, &key)?, index)
                .deleted
                .push(key);
        }
    }
    // Only where a key is stated in another spelling than the row's is this a shard that was not looked at above.
    intent.look_at(core, changes.keys().copied().collect()).await;
    let spread = intent.homeless || changes.len() > 1;
    let mut shares: BTreeMap<usize, Share> = BTreeMap::new();
    for (shard, tables) in changes {
        let database = core.sides.first_in_database(intent.follower, shard);
        let shapes = intent.shapes(shard);
        let share = shares.entry(database).or_insert_with(|| Share {
            database,
            second: intent.second(database),
            images: Ok(BTreeMap::new()),
            owed: Vec::new(),
        });
        for (index, found) in tables {
            let part = &parts[index];
            share.owed.push(owed(part, reading(index, part).side(), &found));
            let Ok(images) = &mut share.images else { continue };
            match image(core, &shapes, &lead, (index, direction), found) {
                Ok(image) => drop(images.insert((index, shard), image)),
                Err(why) => share.images = Err(why),
            }
        }
    }
    Ok(Shares {
        of_databases: shares.into_values().collect(),
        spread,
    })
}

fn at(changes: &mut BTreeMap<usize, BTreeMap<usize, Found>>, shard: usize, index: usize) -> &mut Found {
    let nothing = || Found {
        puts: Vec::new(),
        deleted: Vec::new(),
    };
    changes.entry(shard).or_default().entry(index).or_insert_with(nothing)
}

async fn stamp(part: &Part, side: &TableSide, tx: &mut Tx) -> Result<(), Fault> {
    let stored: Vec<(Key, Option<Value>)> = part
        .keys
        .iter()
        .map(|key| (key.clone(), part.was_there(key).cloned()))
        .collect();
    Ok(tx.stamp(side, &stored).await?)
}

/// The images, under lock; what was deleted is recorded.
async fn read(part: &mut Part, side: &TableSide, tx: &mut Tx) -> Result<Found, Fault> {
    let puts = if part.keys.is_empty() {
        Vec::new()
    } else {
        tx.read_keys(side, &part.keys, Lock::Update).await?
    };
    let there: Vec<Key> = puts.iter().map(|row| side.key_of(row)).collect();
    // Absence is carried only for what this transaction deleted itself: a key that was absent before is not
    // locked, and may be another's insert by now.
    // The rows before were read as their own side has them; the pair may spell their keys otherwise.
    let deleted: Vec<(Key, Option<String>)> = part
        .before
        .iter()
        .map(|(key, version)| (side.spelled(key), version.as_str().map(str::to_owned)))
        .filter(|(key, _)| !there.contains(key))
        .collect();
    part.absent = part
        .keys
        .iter()
        .filter(|key| !there.contains(&side.spelled(key)) && part.was_there(key).is_none())
        .cloned()
        .collect();
    if let Some(claim) = &part.claim
        && !deleted.is_empty()
    {
        control::record_deletes(tx, &claim.migration, &claim.uid, &part.name, &deleted).await?;
    }
    let deleted = deleted.into_iter().map(|(key, _)| key).collect();
    Ok(Found { puts, deleted })
}

fn owed(part: &Part, side: &TableSide, found: &Found) -> Owed {
    let put = found.puts.iter().map(|row| side.key_of(row));
    Owed {
        table: part.base_name.clone(),
        name: part.name.clone(),
        keys: put.chain(found.deleted.iter().cloned()).collect(),
        claim: part.claim.clone(),
    }
}

/// What one shard gets of one table. The rows were read for another shard's table, which has to be the same.
fn image(
    core: &Core,
    shapes: &Pairs,
    lead: &Pairs,
    (index, direction): (usize, Direction),
    found: Found,
) -> Result<Image, String> {
    let pair = shapes.as_ref().map_err(Clone::clone)?[index].clone();
    let (read, wanted) = (
        lead.as_ref().map_err(Clone::clone)?[index].base(direction),
        pair.base(direction),
    );
    if read.columns != wanted.columns || read.key != wanted.key || read.version_digits != wanted.version_digits {
        // Looked at again by the next write: perhaps the tables are just being changed.
        core.sides.forget_shapes();
        return Err(format!(
            "table {} does not have the same columns in all shards; make them alike",
            pair.plain(direction.follower()).table.as_str()
        ));
    }
    Ok(Image {
        pair,
        puts: found.puts,
        deletes: found.deleted,
    })
}
