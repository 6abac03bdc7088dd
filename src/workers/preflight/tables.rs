//! Checks of one table on both sides: it is there, its rows can be told apart and their copies compared, nothing but the
//! application and the migration writes it, and what the target already holds is ours.

use crate::api::database::ExistingRows;
use crate::api::migration::Table;
use crate::control;
use crate::rows::Value;
use crate::store::{ColumnSchema, Engine, Ident, PairProblem, TablePair, TableSchema, TableSide, TxOptions};
use crate::words::Side;
use crate::workers::context::{Shard, TaskContext};
use crate::workers::error::WorkError;
use crate::workers::legs::Leg;
use crate::workers::preflight::create;
use crate::workers::preflight::findings::Findings;
use crate::workers::preflight::mapping;
use crate::workers::preflight::shards;
use crate::workers::references::referencing;
use crate::workers::work::mapping as said;

/// All checks of one table; answers with the target's in each of its shards, if it is there. `base`: the side that is right
/// now, or will be first.
pub async fn check(
    context: &TaskContext,
    table: &Table,
    base: Side,
    found: &mut Findings,
) -> Result<Vec<Option<TableSchema>>, WorkError> {
    let mut from = Vec::with_capacity(context.source.len());
    for (at, shard) in context.source.iter().enumerate() {
        from.push(one_side(context, Side::Source, (at, shard), table, found).await?);
    }
    let mut to = Vec::with_capacity(context.target.len());
    for (at, shard) in context.target.iter().enumerate() {
        if let (true, Some(source)) = (context.migration.copy.create_tables, context.source.first()) {
            create::missing(context, (source, shard), table, at, found).await?;
        }
        to.push(one_side(context, Side::Target, (at, shard), table, found).await?);
    }
    shards::alike(Side::Source, context, &from, found);
    shards::alike(Side::Target, context, &to, found);
    // Every shard of a side with the first of the other: what fits those fits all.
    let first = (0..from.len()).map(|source| Leg { source, target: 0 });
    let second = (1..to.len()).map(|target| Leg { source: 0, target });
    for (nth, leg) in first.chain(second).enumerate() {
        let (Some(Some(from)), Some(Some(to))) = (from.get(leg.source), to.get(leg.target)) else {
            continue;
        };
        let mut here = Findings::default();
        one_leg(context, table, leg, (from, to), base, &mut here).await?;
        if nth == 0 {
            found.all_of(here);
        } else {
            found.failures_of(here);
        }
    }
    for (at, schema) in to.iter().enumerate() {
        if schema.is_some() {
            rows(context, &context.target[at], &table.name_on(Side::Target, at), found).await?;
        }
    }
    if context
        .migration
        .archive
        .as_ref()
        .is_some_and(|archive| archive.delete_source)
    {
        for (at, schema) in from.iter().enumerate() {
            if let Some(schema) = schema {
                archive(context, at, schema, found).await?;
            }
        }
    }
    Ok(to)
}

async fn one_leg(
    context: &TaskContext,
    table: &Table,
    leg: Leg,
    (from, to): (&TableSchema, &TableSchema),
    base: Side,
    found: &mut Findings,
) -> Result<(), WorkError> {
    let both = (context.shard(Side::Source, leg)?, context.shard(Side::Target, leg)?);
    if let Some(pair) = columns(table, leg, from, to, found) {
        mapping::check(context, both, table, &pair, found).await?;
        shards::check(context, table, leg, &pair, base, found).await?;
    }
    Ok(())
}

/// The table as it is on one side, once that it is there, ours, writable, and written by nobody else.
async fn one_side(
    context: &TaskContext,
    side: Side,
    (at, shard): (usize, &Shard),
    table: &Table,
    found: &mut Findings,
) -> Result<Option<TableSchema>, WorkError> {
    let label = shard.database.label().to_owned();
    let own_name = table.name_on(side, at);
    let table_name = own_name.as_str();
    let name = format!("Table {table_name} {label}");
    let mut tx = shard.database.begin(TxOptions::read_only()).await?;
    let schema = tx.table(table_name).await?;
    let owner = control::table_owner(&mut tx, table_name).await?;
    tx.rollback().await;
    if let Some((owner, uid)) = owner.filter(|(owner, _)| *owner != context.migration.id()) {
        let text = format!(
            "table {table_name} of {label} belongs to DataMigration {owner} (uid {uid}): a table has one migration; delete that one \
             first, or take the table out of this one"
        );
        found.failed(name, "TableClaimed", text);
        return Ok(None);
    }
    let Some(schema) = schema else {
        let field = if side == Side::Source { "name" } else { "target" };
        let text = format!(
            "table {table_name} is not in {label}: expected a table (not a view) of that name; create it, or correct \
             spec.tables[].{field}"
        );
        found.failed(name, "TableMissing", text);
        return Ok(None);
    };
    if let Some(engine) = schema
        .storage_engine
        .as_deref()
        .filter(|engine| !engine.eq_ignore_ascii_case("InnoDB"))
    {
        let text = format!(
            "table {table_name} of {label} has storage engine {engine}, which knows no transactions; expected InnoDB: ALTER TABLE \
             {} ENGINE=InnoDB",
            quoted(&schema, table_name)
        );
        found.failed(name, "StorageEngineUnsuitable", text);
        return Ok(None);
    }
    found.passed(name, format!("table {table_name} is in {label}"));
    privileges(shard, &schema, found).await?;
    if side == Side::Source {
        ownership(shard, table_name, found).await?;
    }
    other_writers(&label, &schema, found);
    Ok(Some(schema))
}

async fn privileges(shard: &Shard, schema: &TableSchema, found: &mut Findings) -> Result<(), WorkError> {
    let label = shard.database.label();
    let name = format!("Privileges {} {label}", schema.name);
    let missing = shard.database.probe_table(schema).await?;
    if missing.is_empty() {
        found.passed(name, format!("{} of {label} can be read and written", schema.name));
        return Ok(());
    }
    for lack in missing {
        let text = format!(
            "the account of {label} lacks {}; both sides are read and written during a migration: grant it: {}",
            lack.what, lack.error
        );
        found.failed(name.clone(), "PrivilegeMissing", text);
    }
    Ok(())
}

/// PostgreSQL lets only an owner fence a table for good, or drop it.
async fn ownership(shard: &Shard, table: &str, found: &mut Findings) -> Result<(), WorkError> {
    if shard.database.engine() != Engine::Postgres {
        return Ok(());
    }
    let mut tx = shard.database.begin(TxOptions::read_only()).await?;
    let sql = "SELECT pg_get_userbyid(relowner)::text, current_user::text, pg_has_role(current_user, relowner, 'USAGE')
               FROM pg_class WHERE oid = to_regclass(quote_ident(?))";
    let rows = tx.query(sql, &[Value::from(table)]).await?;
    tx.rollback().await;
    if let Some([Value::Text(owner), Value::Text(user), Value::Int(0)]) = rows.first().map(Vec::as_slice) {
        let text = format!(
            "table {table} of {} belongs to role {owner}, and {user} is no member of it: the source could not be fenced at the end; GRANT \
             {} TO {}",
            shard.database.label(),
            literal_name(owner),
            literal_name(user)
        );
        found.failed(
            format!("Privileges {table} {}", shard.database.label()),
            "PrivilegeMissing",
            text,
        );
    }
    Ok(())
}

fn literal_name(role: &str) -> String {
    Ident::new(role).map_or_else(|_| role.to_owned(), |name| name.quoted(Engine::Postgres))
}

/// Writes that the application does not see are not carried over: cascades and row triggers.
fn other_writers(label: &str, schema: &TableSchema, found: &mut Findings) {
    let table = &schema.name;
    let quoted_table = quoted(schema, table);
    let name = format!("Writers {table} {label}");
    let mut clean = true;
    for key in schema.foreign_keys.iter().filter(|key| key.writes_by_itself()) {
        clean = false;
        let drop = match schema.engine {
            Engine::MySql => "DROP FOREIGN KEY",
            Engine::Postgres | Engine::Sqlite => "DROP CONSTRAINT",
        };
        let text = format!(
            "foreign key {} of {table} in {label} changes rows by itself (ON DELETE {}, ON UPDATE {}) when {} changes: such writes \
             are not carried to the other side; expected NO ACTION or RESTRICT, with the application deleting the rows itself: \
             ALTER TABLE {quoted_table} {drop} {}, then add it without the action",
            key.name,
            key.on_delete,
            key.on_update,
            key.referenced_table,
            quoted(schema, &key.name)
        );
        found.failed(name.clone(), "CascadeFound", text);
    }
    for trigger in schema
        .triggers
        .iter()
        .filter(|trigger| trigger.row_level && !trigger.fence)
    {
        clean = false;
        let drop = match schema.engine {
            Engine::MySql | Engine::Sqlite => format!("DROP TRIGGER {}", quoted(schema, &trigger.name)),
            Engine::Postgres => format!("DROP TRIGGER {} ON {quoted_table}", quoted(schema, &trigger.name)),
        };
        let text = format!(
            "trigger {} ({}) on {table} in {label} runs for every row: on the other side, and for copied rows, it would run again; \
             move what it does into the application, then {drop}",
            trigger.name, trigger.event
        );
        found.failed(name.clone(), "RowTriggerFound", text);
    }
    if clean {
        found.passed(name, format!("no cascade and no row trigger writes {table} in {label}"));
    }
}

/// Key, version and columns of both sides, as the copy will pair them.
fn columns(table: &Table, leg: Leg, from: &TableSchema, to: &TableSchema, found: &mut Findings) -> Option<TablePair> {
    let name = format!("Columns {}", table.name);
    match TablePair::new(from.clone(), to.clone(), &said(table, leg)) {
        Err(problems) => {
            for problem in problems {
                let text = with_statement(&problem, table, from, to);
                found.failed(name.clone(), problem.reason, text);
            }
            None
        }
        Ok(pair) => {
            for note in &pair.notes {
                found.warned(name.clone(), "Note", note.clone());
            }
            for side in [pair.plain(Side::Source), pair.plain(Side::Target)] {
                version(side, found);
            }
            if !table.sharding.any() {
                generated(&pair, found);
            }
            let text = format!(
                "{} columns of {} are carried to {}",
                pair.source.columns.len(),
                from.name,
                to.name
            );
            found.passed(name, text);
            Some(pair)
        }
    }
}

/// Keys that the source hands out have to come from somewhere when the target is the base.
fn generated(pair: &TablePair, found: &mut Findings) {
    let (source, target) = (pair.plain(Side::Source), pair.plain(Side::Target));
    if let (Some(key), None) = (source.generated_key(), target.generated_key()) {
        let text = format!(
            "{}.{} hands out its keys, and no key column of {} does: from TargetFirst on the application would have to give the keys \
             itself; make the target's column AUTO_INCREMENT (MySQL) or GENERATED BY DEFAULT AS IDENTITY (PostgreSQL)",
            source.table.as_str(),
            key.name,
            target.table.as_str()
        );
        found.warned(format!("Keys {}", target.table.as_str()), "KeyNotGenerated", text);
    }
}

/// What is worth knowing of a version column that will do.
fn version(side: &TableSide, found: &mut Findings) {
    let column = side.columns[side.version].name.as_str();
    let (table, name) = (side.table.as_str(), format!("Version {}", side.table.as_str()));
    let (quoted_table, quoted_column) = (quoted(&side.schema, table), quoted(&side.schema, column));
    if let Some(column) = side.schema.column(column).filter(|column| column.on_update_now) {
        let text = format!(
            "version column {table}.{} of the {} stamps itself (ON UPDATE CURRENT_TIMESTAMP): a write that does not set it gets each \
             database's own time, and verify finds the two sides different; let the application set it, and ALTER TABLE \
             {quoted_table} MODIFY {quoted_column} {} NOT NULL",
            column.name, side.side, column.native
        );
        found.warned(name.clone(), "SelfStamping", text);
    }
    if !side.schema.indexed_first.iter().any(|first| first == column) {
        let text = format!(
            "{table}.{column} of the {} has no index that begins with it: each incremental verify reads the whole table; if it is large: \
             CREATE INDEX {} ON {quoted_table} ({quoted_column})",
            side.side,
            quoted(&side.schema, &format!("{table}_{column}"))
        );
        found.warned(name, "VersionNotIndexed", text);
    }
}

/// A problem with the statement that would remove it, where one is known.
fn with_statement(problem: &PairProblem, table: &Table, from: &TableSchema, to: &TableSchema) -> String {
    let statement = match problem.reason {
        "KeyMissing" if table.key.is_none() && from.primary_key.is_empty() => Some(add_key(from)),
        "VersionMissing" => {
            let lacking: Vec<String> = [(Side::Source, from), (Side::Target, to)]
                .iter()
                .filter(|(_, schema)| schema.column(&table.version).is_none())
                .map(|(side, schema)| format!("on the {side}: {}", add_version(schema, &table.version)))
                .collect();
            (!lacking.is_empty()).then(|| lacking.join("; "))
        }
        _ => None,
    };
    match statement {
        None => problem.message.clone(),
        Some(statement) => format!("{}: {statement}", problem.message),
    }
}

fn add_key(schema: &TableSchema) -> String {
    let table = quoted(schema, &schema.name);
    let fit = |column: &&ColumnSchema| column.name.eq_ignore_ascii_case("id") && !column.nullable;
    if let Some(column) = schema.columns.iter().find(fit) {
        return format!("ALTER TABLE {table} ADD PRIMARY KEY ({})", quoted(schema, &column.name));
    }
    let taken = schema
        .columns
        .iter()
        .any(|column| column.name.eq_ignore_ascii_case("id"));
    let name = quoted(schema, if taken { "row_id" } else { "id" });
    match schema.engine {
        Engine::MySql => format!("ALTER TABLE {table} ADD COLUMN {name} BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY"),
        Engine::Postgres => {
            format!("ALTER TABLE {table} ADD COLUMN {name} BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
        }
        Engine::Sqlite => format!("CREATE TABLE … ({name} INTEGER PRIMARY KEY, …), and move the rows of {table} there"),
    }
}

fn add_version(schema: &TableSchema, version: &str) -> String {
    let (table, version) = (quoted(schema, &schema.name), quoted(schema, version));
    match schema.engine {
        Engine::MySql => {
            format!("ALTER TABLE {table} ADD COLUMN {version} DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)")
        }
        Engine::Postgres => format!("ALTER TABLE {table} ADD COLUMN {version} TIMESTAMPTZ(6) NOT NULL DEFAULT now()"),
        Engine::Sqlite => {
            format!("ALTER TABLE {table} ADD COLUMN {version} DATETIME NOT NULL DEFAULT '1970-01-01 00:00:00.000000'")
        }
    }
}

/// Rows that are in the target before the migration claimed the table might be somebody's.
async fn rows(context: &TaskContext, target: &Shard, table: &str, found: &mut Findings) -> Result<(), WorkError> {
    let name = format!("Rows {table} {}", target.database.label());
    let quoted = Ident::new(table)?.quoted(target.database.engine());
    let mut tx = target.database.begin(TxOptions::read_only()).await?;
    let holds = !tx
        .query(&format!("SELECT 1 FROM {quoted} LIMIT 1"), &[])
        .await?
        .is_empty();
    let ours = control::table_owner(&mut tx, table)
        .await?
        .is_some_and(|(owner, _)| owner == context.migration.id());
    tx.rollback().await;
    let label = target.database.label();
    match (holds, ours, context.migration.target.existing_rows) {
        (false, ..) => found.passed(name, format!("{table} of {label} is empty")),
        (true, true, _) => found.passed(name, format!("the rows of {table} in {label} are this migration's")),
        (true, false, ExistingRows::Adopt) => {
            let text = format!(
                "{table} of {label} already holds rows; spec.target.existingRows is Adopt: what differs from the source is repaired, \
                 what the source lacks is deleted"
            );
            found.warned(name, "RowsAdopted", text);
        }
        (true, false, ExistingRows::Refuse) => {
            let text = format!(
                "{table} of {label} already holds rows, and no migration of that name has written them; expected an empty table: \
                 empty it, or set spec.target.existingRows: Adopt, which repairs or deletes them as the source says"
            );
            found.failed(name, "TargetNotEmpty", text);
        }
    }
    Ok(())
}

/// What `archive.deleteSource` will need, found out while there is still a way back.
async fn archive(
    context: &TaskContext,
    at: usize,
    schema: &TableSchema,
    found: &mut Findings,
) -> Result<(), WorkError> {
    let source = &context.source[at];
    let name = format!("Archive {} {}", schema.name, source.database.label());
    let mut tx = source.database.begin(TxOptions::read_only()).await?;
    let references = referencing(&mut tx, &schema.name).await?;
    tx.rollback().await;
    let moved = |table: &str| context.moves(Side::Source, at, table).is_some();
    let outside: Vec<_> = references.iter().filter(|reference| !moved(&reference.table)).collect();
    for reference in &outside {
        let text = format!(
            "table {}, which does not move, refers to {} (constraint {}, ON DELETE {}): archive.deleteSource could not delete the rows, \
             or would change that table's; add {} to spec.tables, drop the constraint, or set archive.deleteSource: false",
            reference.table, schema.name, reference.constraint, reference.on_delete, reference.table
        );
        found.failed(name.clone(), "ReferencedFromOutside", text);
    }
    if outside.is_empty() {
        found.passed(
            name,
            format!("no table outside the migration refers to {}", schema.name),
        );
    }
    Ok(())
}

/// A name as it may be pasted into a statement; one that no statement can hold is shown as it is.
fn quoted(schema: &TableSchema, name: &str) -> String {
    Ident::new(name).map_or_else(|_| name.to_owned(), |name| name.quoted(schema.engine))
}
