//! Rows put on one side without the library.

use datamigration::rows::{Row, Value};
use datamigration::store::{TablePair, TxOptions};

use crate::pair::{Pair, open};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::journal;

pub const PAIRS: [(Kind, Kind); 4] = [
    (MariaDb, Postgres),
    (MariaDb, MariaDb),
    (Postgres, Postgres),
    (Postgres, MariaDb),
];

pub async fn orders_pair(pair: &Pair) -> TablePair {
    journal::orders_pair(&pair.source, &pair.target).await
}

/// A row of the orders table as the pair maps it.
pub fn row(id: i64, note: &str, version: &str) -> Row {
    Row {
        values: vec![Value::Int(id), Value::text(note), Value::text(version)],
    }
}

/// Puts a row on one side without the library.
pub async fn put_on(pair: &Pair, side: datamigration::words::Side, rows: &[Row]) {
    let shape = orders_pair(pair).await;
    let database = match side {
        datamigration::words::Side::Source => open(&pair.source),
        datamigration::words::Side::Target => open(&pair.target),
    };
    let mut tx = database.begin(TxOptions::default()).await.unwrap();
    tx.put(shape.plain(side), rows).await.unwrap();
    tx.commit().await.unwrap();
}
