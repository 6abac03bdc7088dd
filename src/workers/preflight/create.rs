//! Target tables that are missing, made from the source's where the manifest asks for it. A table that is there is left as
//! it is, so that a second preflight changes nothing.

use crate::api::migration::Table;
use crate::api::tuning::SecondaryIndexes;
use crate::store::{CommitError, Dialect, Engine, StoreError, TxOptions, creation};
use crate::words::Side;
use crate::workers::context::{Shard, TaskContext};
use crate::workers::error::WorkError;
use crate::workers::indexes::MARK;
use crate::workers::legs::Leg;
use crate::workers::preflight::databases::first_text;
use crate::workers::preflight::findings::Findings;
use crate::workers::work::mapping;

/// Makes the target's table if there is none.
pub async fn missing(
    context: &TaskContext,
    (source, target): (&Shard, &Shard),
    table: &Table,
    shard: usize,
    found: &mut Findings,
) -> Result<(), WorkError> {
    let (origin, wanted) = (table.name_on(Side::Source, 0), table.name_on(Side::Target, shard));
    if target.database.table(&wanted).await?.is_some() {
        return Ok(());
    }
    let mut tx = source.database.begin(TxOptions::read_only()).await?;
    let schema = tx.table(&origin).await?;
    let indexes = tx.indexes(&origin).await?;
    tx.rollback().await;
    // Said where the source's table is checked.
    let Some(mut schema) = schema else { return Ok(()) };
    if table.sharding.target.is_some() {
        // Several shards would hand out the same keys.
        for column in &mut schema.columns {
            column.auto_increment = false;
            column.identity_always = false;
            column.default = column.default.take().filter(|_| column.sequence.take().is_none());
        }
    }
    let label = target.database.label();
    let name = format!("Creation {wanted} {label}");
    let creation = match creation(
        &schema,
        &indexes,
        &mapping(
            table,
            Leg {
                source: 0,
                target: shard,
            },
        ),
        dialect(target).await?,
    ) {
        Ok(creation) => creation,
        Err(problems) => {
            let text = format!("table {wanted} cannot be created in {label}: {}", problems.join("; "));
            found.failed(name, "TableNotCreatable", text);
            return Ok(());
        }
    };
    let after = context.migration.copy.secondary_indexes == SecondaryIndexes::After && !creation.secondary.is_empty();
    let statements = creation.statements(after.then_some(MARK));
    let made = async {
        let mut tx = target.database.begin(TxOptions::default()).await?;
        for statement in &statements {
            tx.execute(statement, &[]).await?;
        }
        tx.commit().await.map_err(CommitError::into_inner)
    };
    match made.await {
        Ok(()) => {}
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => {
            let text = format!(
                "table {wanted} cannot be created in {label}: {error}; create it yourself, from: {}",
                statements.join("; ")
            );
            found.failed(name, "TableNotCreatable", text);
            return Ok(());
        }
    }
    for note in &creation.notes {
        found.warned(name.clone(), "NotCreated", note.clone());
    }
    let later = if after {
        "; its secondary indexes follow the copy"
    } else {
        ""
    };
    let text = format!("table {wanted} of {label} is created from the source's{later}");
    found.passed(name, text);
    Ok(())
}

/// What the target understands.
pub async fn dialect(target: &Shard) -> Result<Dialect, StoreError> {
    match target.database.engine() {
        Engine::Postgres => return Ok(Dialect::Postgres),
        Engine::Sqlite => return Ok(Dialect::Sqlite),
        Engine::MySql => {}
    }
    let version = first_text(&target.database, "SELECT CAST(version() AS CHAR(200))").await?;
    Ok(if version.contains("MariaDB") {
        Dialect::MariaDb
    } else {
        Dialect::MySql
    })
}
