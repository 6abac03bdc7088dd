//! Reading alone: the copier's reads and nothing else, so that what guard, checkpoint and throttle cost can be told from
//! the whole: copy − reading − raw inserts.

use crate::ours::{Ours, connect};
use datamigration::rows::Key;
use datamigration::store::{Database, Load, Reader, TableMapping, TablePair, TableSide, TxOptions};
use datamigration::words::Direction;
use futures::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// As the copier has it.
const RANGE: u32 = 20_000;
const BATCH_ROWS: u32 = 8_192;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
const MOST: Duration = Duration::from_mins(1);

/// Where the next range begins; `None`: there is none.
type Next = Arc<Mutex<Option<Option<Key>>>>;

/// Reads the whole table over so many connections; the rows read.
pub async fn alone(ours: &Ours, lanes: usize) -> Result<u64, String> {
    let (source, target) = (
        connect(&ours.source, "source", 4).await?,
        connect(&ours.target, "target", 4).await?,
    );
    let schema = async |database: &Database| {
        let found = database.table(&ours.table).await.map_err(|error| error.to_string())?;
        found.ok_or_else(|| format!("no table {}", ours.table))
    };
    let mapping = TableMapping {
        source: ours.table.clone(),
        target: ours.table.clone(),
        key: ours.key.clone(),
        version: "updated_at".to_owned(),
        ..TableMapping::default()
    };
    let pair = TablePair::new(schema(&source).await?, schema(&target).await?, &mapping)
        .map_err(|problems| format!("{problems:?}"))?;
    let (base, follower) = (pair.base(Direction::Forward), pair.follower(Direction::Forward));
    let load = Arc::new(Load::new(base, follower));
    let next: Next = Arc::new(Mutex::new(Some(None)));
    let running = (0..lanes).map(|_| {
        let (source, side, next, load) = (source.clone(), base.clone(), next.clone(), load.clone());
        tokio::spawn(async move { lane(source, &side, &next, load).await })
    });
    let mut rows = 0;
    for ended in join_all(running).await {
        rows += ended.map_err(|error| error.to_string())??;
    }
    Ok(rows)
}

async fn lane(source: Database, side: &TableSide, next: &Next, load: Arc<Load>) -> Result<u64, String> {
    let mut reader = Reader::new(&source, load, MOST);
    let mut rows = 0;
    while let Some((lower, upper)) = range(&source, side, next).await? {
        let mut after = lower;
        loop {
            let batch = reader
                .read(after.as_ref(), upper.as_ref(), BATCH_ROWS, BATCH_BYTES)
                .await
                .map_err(|error| error.to_string())?;
            rows += u64::from(batch.rows());
            if batch.ended() {
                break;
            }
            after = batch.last().cloned();
        }
    }
    Ok(rows)
}

/// The next range's ends.
async fn range(source: &Database, side: &TableSide, next: &Next) -> Result<Option<(Option<Key>, Option<Key>)>, String> {
    let mut next = next.lock().await;
    let Some(lower) = next.take() else { return Ok(None) };
    let found = async {
        let mut tx = source.begin(TxOptions::read_only()).await?;
        let upper = tx.chunk_end(side, lower.as_ref(), RANGE).await?;
        tx.rollback().await;
        Ok::<_, datamigration::store::StoreError>(upper)
    };
    let upper = found.await.map_err(|error| error.to_string())?;
    *next = upper.clone().map(Some);
    Ok(upper.map(|upper| (lower, Some(upper))))
}
