//! Where the databases say a migration is, and what that lets a local run do. Without a journal a run works in epoch 0:
//! it writes a control row where it writes rows, and an operator that comes later raises the epoch and shuts it out.

use super::LocalError;
use crate::api::Migration;
use crate::api::database::ExistingRows;
use crate::control::{self, Archived, Control};
use crate::store::{Ident, TxOptions};
use crate::words::{Direction, Mode, SecondaryWrites, Side};
use crate::workers::{Leg, Shard, WorkError, legs};

/// Where the migration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The epoch that a worker has to be in.
    pub epoch: i64,
    /// Evidence of a copy belongs to a round; 0 is nobody's but a local run's.
    pub round: i64,
    /// Which side is right.
    pub direction: Direction,
    mode: Mode,
    acknowledged: bool,
}

/// Reads the control rows of every shard.
pub async fn read(migration: &Migration, source: &[Shard], target: &[Shard]) -> Result<Stand, LocalError> {
    let mut rows = Vec::new();
    for shard in source.iter().chain(target) {
        let mut tx = shard
            .database
            .begin(TxOptions::read_only())
            .await
            .map_err(WorkError::from)?;
        let row = control::journal(&mut tx, &migration.id())
            .await
            .map_err(WorkError::from)?;
        tx.rollback().await;
        rows.push(row);
    }
    stand(&rows)
}

fn stand(rows: &[Option<Control>]) -> Result<Stand, LocalError> {
    let known: Vec<&Control> = rows.iter().flatten().collect();
    let Some(highest) = known.iter().max_by_key(|row| row.epoch) else {
        return Ok(Stand {
            epoch: 0,
            round: 0,
            direction: Direction::Forward,
            mode: Mode::SrcOnly,
            acknowledged: true,
        });
    };
    let damaged = |error: crate::words::UnknownWord| {
        WorkError::permanent("ControlTableDamaged", format!("_datamigration_control: {error}"))
    };
    let mode: Mode = highest.mode.parse().map_err(damaged)?;
    Ok(Stand {
        epoch: highest.epoch,
        round: highest.round,
        direction: match mode.base() {
            Side::Source => Direction::Forward,
            Side::Target => Direction::Reverse,
        },
        mode,
        acknowledged: highest.epoch == 0
            || (known.len() == rows.len()
                && known
                    .iter()
                    .all(|row| row.epoch == highest.epoch && row.min_epoch >= row.epoch)),
    })
}

impl Stand {
    /// Whether the databases belong to no operator's migration.
    fn free(&self) -> bool {
        self.epoch == 0
    }

    /// Takes the other side for the right one, where that is nobody's business but the caller's.
    pub fn turn(&mut self, direction: Direction) -> Result<(), LocalError> {
        if !self.free() && direction != self.direction {
            return Err(refused(format!(
                "the databases are at epoch {} ({}), whose base is the {}; leave --direction out",
                self.epoch,
                self.mode,
                self.direction.base().as_str()
            )));
        }
        self.direction = direction;
        Ok(())
    }

    /// Whether rows may be copied from source to target now.
    pub fn may_copy(&self) -> Result<(), LocalError> {
        if self.free() {
            return Ok(());
        }
        self.settled()?;
        if self.mode == Mode::SrcFirst {
            return Ok(());
        }
        Err(refused(format!(
            "the databases are at epoch {} ({}): a copy belongs into SRC_FIRST, where the application keeps both sides in step; \
             set the DataMigration's spec.phase to SourceFirst",
            self.epoch, self.mode
        )))
    }

    /// Whether the follower may be made what the base is now.
    pub fn may_repair(&self) -> Result<(), LocalError> {
        if self.free() {
            return Ok(());
        }
        self.settled()?;
        if self.mode.writes_both() {
            return Ok(());
        }
        Err(refused(format!(
            "the databases are at epoch {} ({}), in which one side is left as it is; verify without --repair",
            self.epoch, self.mode
        )))
    }

    fn settled(&self) -> Result<(), LocalError> {
        if self.acknowledged {
            return Ok(());
        }
        Err(refused(format!(
            "epoch {} ({}) is not acknowledged by every instance of the application, or not on every database yet; try again \
             when the flip is through",
            self.epoch, self.mode
        )))
    }
}

fn refused(message: String) -> LocalError {
    LocalError::Work(WorkError::permanent("NotNow", message))
}

/// Where no operator's migration is: control tables, claims and an epoch 0 in the database that is written to; and
/// nothing of it where somebody's rows are in the way.
pub async fn prepare(
    stand: &Stand,
    migration: &Migration,
    tables: &[String],
    source: &[Shard],
    target: &[Shard],
) -> Result<(), LocalError> {
    if !stand.free() {
        return Ok(());
    }
    let follower = stand.direction.follower();
    let shards = match follower {
        Side::Source => source,
        Side::Target => target,
    };
    let places = &migration.side(follower).shards;
    for (at, shard) in shards.iter().enumerate() {
        // Shards in one database are prepared together.
        let url = places.get(at).map(|place| &place.url);
        if places.iter().take(at).any(|other| Some(&other.url) == url) {
            continue;
        }
        let together: Vec<usize> = (at..shards.len())
            .filter(|other| *other == at || places.get(*other).map(|place| &place.url) == url)
            .collect();
        let (mut names, mut parts) = (Vec::new(), Vec::new());
        for table in tables.iter().filter_map(|name| migration.table(name)) {
            names.extend(together.iter().map(|shard| table.name_on(follower, *shard)));
            let here = |leg: &Leg| together.contains(&leg.at(follower));
            parts.extend(
                legs(table, stand.direction)
                    .into_iter()
                    .filter(here)
                    .map(|leg| leg.name(table)),
            );
        }
        prepare_database(migration, shard, &names, &parts).await?;
    }
    Ok(())
}

/// `names`: of the tables in this database. `parts`: under which the progress of their copies is kept there.
async fn prepare_database(
    migration: &Migration,
    shard: &Shard,
    names: &[String],
    parts: &[String],
) -> Result<(), WorkError> {
    let id = migration.id();
    for table in names {
        existing_rows(migration, shard, table).await?;
    }
    shard.database.prepare_to_write().await?;
    let mut tx = shard.database.begin(TxOptions::default()).await?;
    control::create(&mut tx).await?;
    tx.commit().await?;
    let mut tx = shard.database.begin(TxOptions::default()).await?;
    let here: Vec<&str> = names.iter().map(String::as_str).collect();
    control::claim_tables(&mut tx, &id, &migration.uid, &here).await?;
    let row = Control {
        migration: id.clone(),
        uid: migration.uid.clone(),
        epoch: 0,
        min_epoch: 0,
        mode: Mode::SrcOnly.as_str().to_owned(),
        secondary: SecondaryWrites::Lenient.as_str().to_owned(),
        round: 0,
        base_since: 0,
        acked_at: None,
        fenced: false,
        archived: Archived::No,
        intent: None,
    };
    control::raise(&mut tx, &row).await?;
    for table in parts {
        if control::forget_finished_copy(&mut tx, &id, table).await? {
            tracing::info!(table, "an interrupted copy goes on");
        }
    }
    tx.commit().await?;
    Ok(())
}

/// Rows that no run of this migration has written might be somebody's.
async fn existing_rows(migration: &Migration, shard: &Shard, table: &str) -> Result<(), WorkError> {
    if migration.target.existing_rows == ExistingRows::Adopt {
        return Ok(());
    }
    let database = &shard.database;
    let mut tx = database.begin(TxOptions::read_only()).await?;
    if tx.table(table).await?.is_none() {
        tx.rollback().await;
        return Err(WorkError::permanent(
            "TableMissing",
            format!(
                "table {table} is not in {}; create it, or correct spec.tables in the manifest",
                database.label()
            ),
        ));
    }
    let quoted = Ident::new(table)?.quoted(database.engine());
    let holds = !tx
        .query(&format!("SELECT 1 FROM {quoted} LIMIT 1"), &[])
        .await?
        .is_empty();
    let ours = control::table_owner(&mut tx, table)
        .await?
        .is_some_and(|(owner, _)| owner == migration.id());
    tx.rollback().await;
    if holds && !ours {
        return Err(WorkError::permanent(
            "TargetNotEmpty",
            format!(
                "{table} of {} already holds rows, and no run of {} has written them; expected an empty table: empty it, or set \
                 spec.target.existingRows: Adopt, which keeps, repairs or deletes them as the other side says",
                database.label(),
                migration.id()
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: i64, min_epoch: i64, mode: Mode) -> Control {
        Control {
            migration: "shop/orders".to_owned(),
            uid: "u-1".to_owned(),
            epoch,
            min_epoch,
            mode: mode.as_str().to_owned(),
            secondary: "Lenient".to_owned(),
            round: 2,
            base_since: 1,
            acked_at: None,
            fenced: false,
            archived: Archived::No,
            intent: None,
        }
    }

    #[test]
    fn without_a_journal_or_at_epoch_0_everything_is_free() {
        for rows in [vec![None, None], vec![None, Some(row(0, 0, Mode::SrcOnly))]] {
            let mut stand = stand(&rows).unwrap();
            assert!(stand.may_copy().is_ok() && stand.may_repair().is_ok());
            assert_eq!((stand.epoch, stand.direction), (0, Direction::Forward));
            stand.turn(Direction::Reverse).unwrap();
        }
    }

    #[test]
    fn a_migration_of_an_operator_is_obeyed() {
        let first = stand(&[Some(row(1, 1, Mode::SrcFirst)), Some(row(1, 1, Mode::SrcFirst))]).unwrap();
        assert!(first.may_copy().is_ok() && first.may_repair().is_ok());
        assert_eq!((first.epoch, first.round), (1, 2));

        let mut turned = stand(&[Some(row(3, 3, Mode::DstFirst)), Some(row(3, 3, Mode::DstFirst))]).unwrap();
        assert_eq!(turned.direction, Direction::Reverse);
        assert!(turned.may_copy().is_err() && turned.may_repair().is_ok());
        assert!(turned.turn(Direction::Forward).is_err());

        for back in [Mode::SrcOnly, Mode::DstOnly] {
            let stand = stand(&[Some(row(4, 4, back)), Some(row(4, 4, back))]).unwrap();
            assert!(stand.may_copy().is_err() && stand.may_repair().is_err());
        }
    }

    #[test]
    fn a_flip_under_way_is_waited_for() {
        for rows in [
            [Some(row(2, 1, Mode::SrcFirst)), Some(row(2, 2, Mode::SrcFirst))],
            [Some(row(2, 2, Mode::SrcFirst)), Some(row(1, 1, Mode::SrcFirst))],
            [Some(row(2, 2, Mode::SrcFirst)), None],
        ] {
            let stand = stand(&rows).unwrap();
            assert!(stand.may_copy().is_err() && stand.may_repair().is_err(), "{rows:?}");
        }
    }
}
