//! Secondary indexes of a table that the preflight has made, built when all rows are in place: once over sorted rows costs
//! less than a little with every row. Writers go on meanwhile. The table carries a mark for as long as they are owed.

use super::error::WorkError;
use super::preflight::dialect;
use super::work::{Work, mapping};
use crate::store::{Engine, Ident, StoreError, TxOptions, comment, creation};
use crate::words::Side;
use std::time::Duration;

/// On a table whose secondary indexes are still to be built.
pub const MARK: &str = "datamigration: secondary indexes follow the copy";

/// Longest wait for the moment at which a build begins or ends: writers wait behind it.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// Builds what is owed; a build that was interrupted is begun anew.
pub async fn build(work: &Work) -> Result<(), WorkError> {
    let context = &work.ctx;
    if !context.migration.copy.create_tables {
        return Ok(());
    }
    let (source, target) = (work.shard(Side::Source), work.shard(Side::Target));
    let (name, origin) = (work.table_on(Side::Target), work.table_on(Side::Source));
    let marked = context
        .retry(async || {
            let mut tx = work.begin_plain(&target.database).await?;
            let comment = tx.comment(&name).await?;
            tx.rollback().await;
            Ok(comment == MARK)
        })
        .await?;
    if !marked {
        return Ok(());
    }
    let owed = context
        .retry(async || {
            let mut tx = source.database.begin(TxOptions::read_only()).await?;
            let schema = tx.table(&origin).await?;
            let indexes = tx.indexes(&origin).await?;
            tx.rollback().await;
            let Some(schema) = schema else { return Ok(Vec::new()) };
            let creation = creation(
                &schema,
                &indexes,
                &mapping(work.table(), work.leg()),
                dialect(target).await?,
            );
            // What could be made before can be made now, unless the source has changed: then verify goes without.
            Ok(creation.map(|creation| creation.secondary).unwrap_or_default())
        })
        .await?;
    for index in &owed {
        let statement = index.statement(true);
        context
            .retry(async || {
                // A worker that the ladder has left behind builds nothing.
                work.begin_follower(TxOptions::default()).await?.rollback().await;
                let mut tx = work.begin_plain(&target.database).await?;
                let there = tx.indexes(&name).await?.into_iter().find(|one| one.name == index.name);
                tx.rollback().await;
                match there {
                    Some(there) if there.valid => return Ok(()),
                    Some(_) => {
                        let leftover = Ident::new(index.name.clone())?.quoted(Engine::Postgres);
                        let drop = format!("DROP INDEX CONCURRENTLY {leftover}");
                        target.database.execute_alone(&drop, LOCK_WAIT).await?;
                    }
                    None => {}
                }
                match target.database.execute_alone(&statement, LOCK_WAIT).await {
                    // Another worker was faster.
                    Err(StoreError::Other { message, .. })
                        if message.contains("(error 1061)") || message.contains("SQLSTATE 42P07") =>
                    {
                        Ok(())
                    }
                    built => Ok(built?),
                }
            })
            .await?;
        context.status.note(|status| {
            if !status.statements.contains(&statement) {
                status.statements.push(statement.clone());
            }
        });
        context.status.publish().await;
    }
    let unmark = comment(&Ident::new(name.clone())?, "", target.database.engine());
    context
        .retry(async || Ok(target.database.execute_alone(&unmark, LOCK_WAIT).await?))
        .await
}
