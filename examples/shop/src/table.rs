//! The orders table seen from outside the service: its schema, the rows that are there before the load, and the rows
//! that the audit reads at the end.

use datamigration::rows::Value;
use datamigration::store::{CommitError, Database, Engine, StoreError, TxOptions};

use crate::audit::Rows;
use crate::content::Content;
use crate::orders::content;

/// Rows per INSERT, and INSERTs per transaction.
const ROWS: i64 = 500;
const BATCHES: i64 = 20;

/// Creates the table where there is none.
pub async fn create_schema(database: &Database) -> Result<(), StoreError> {
    let schema = match database.engine() {
        Engine::MySql => include_str!("../schema/mysql.sql"),
        Engine::Postgres => include_str!("../schema/postgres.sql"),
        Engine::Sqlite => {
            return Err(StoreError::Config {
                label: database.label().to_owned(),
                message: "the shop keeps its orders in MySQL or PostgreSQL".to_owned(),
            });
        }
    };
    for statement in schema
        .split_inclusive(';')
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
    {
        let mut tx = database.begin(TxOptions::default()).await?;
        tx.execute(statement, &[]).await?;
        tx.commit().await.map_err(CommitError::into_inner)?;
    }
    Ok(())
}

/// Inserts orders 1..=count, as fast as one connection goes.
pub async fn seed(database: &Database, count: i64) -> Result<(), StoreError> {
    let engine = database.engine();
    let time = match engine {
        Engine::MySql => "DATETIME(6)",
        _ => "TIMESTAMP(6)",
    };
    let mut next = 1;
    while next <= count {
        let mut tx = database.begin(TxOptions::default()).await?;
        for _ in 0..BATCHES {
            let ids: Vec<i64> = (next..=count).take(ROWS as usize).collect();
            if ids.is_empty() {
                break;
            }
            next += ids.len() as i64;
            let row = format!("(?, ?, CAST(? AS DECIMAL(12,2)), ?, ?, ?, CAST(? AS {time}), CAST(? AS {time}))");
            let sql = format!(
                "INSERT INTO orders (id, user_id, amount, note, status, write_id, created_at, updated_at) VALUES {}",
                vec![row; ids.len()].join(", ")
            );
            let binds: Vec<Value> = ids.into_iter().flat_map(seeded_row).collect();
            tx.execute(&sql, &binds).await?;
        }
        tx.commit().await.map_err(CommitError::into_inner)?;
    }
    if engine == Engine::Postgres {
        let mut tx = database.begin(TxOptions::default()).await?;
        tx.query(
            "SELECT setval(pg_get_serial_sequence('orders', 'id'), ?)",
            &[Value::Int(count.max(1))],
        )
        .await?;
        tx.commit().await.map_err(CommitError::into_inner)?;
    }
    Ok(())
}

fn seeded_row(id: i64) -> [Value; 8] {
    let content = Content::seeded(id);
    // Spread over the first days of a year, all before any load.
    let second = id % 86_400;
    let time = format!(
        "2024-01-{:02} {:02}:{:02}:{:02}.{:06}",
        1 + (id / 86_400) % 28,
        second / 3600,
        second / 60 % 60,
        second % 60,
        id % 1000 * 1000
    );
    [
        Value::Int(id),
        Value::Int(content.user_id),
        Value::text(content.amount),
        Value::text(content.note),
        Value::text(content.status),
        Value::text(content.write_id),
        Value::text(time.as_str()),
        Value::text(time),
    ]
}

/// Every order, by key.
pub async fn all(database: &Database) -> Result<Rows, StoreError> {
    const PAGE: usize = 5_000;
    let mut rows = Rows::new();
    let mut after = i64::MIN;
    let mut tx = database.begin(TxOptions::read_only()).await?;
    loop {
        let page = tx
            .query(
                &format!(
                    "SELECT user_id, amount, note, status, write_id, id FROM orders WHERE id > ? ORDER BY id LIMIT {PAGE}"
                ),
                &[Value::Int(after)],
            )
            .await?;
        for row in &page {
            let id = row.get(5).and_then(Value::as_i64).ok_or_else(|| StoreError::Data {
                label: database.label().to_owned(),
                message: "an order has an id that is not a number".to_owned(),
            })?;
            rows.insert(id, content(row));
            after = id;
        }
        if page.len() < PAGE {
            tx.rollback().await;
            return Ok(rows);
        }
    }
}
