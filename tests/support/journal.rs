//! The operator's part of a flip, done by hand on the control rows, and how the tests' orders lie on both sides.

use std::path::PathBuf;

use datamigration::control::{self, Archived, Control};
use datamigration::store::{ConnectConfig, Database, TableMapping, TablePair, TlsMode, TxOptions};

use super::TestDatabase;

pub const MIGRATION: &str = "shop/orders";
pub const UID: &str = "uid-1";

pub fn config(url: &str, ca: PathBuf, label: &str) -> ConnectConfig {
    ConnectConfig {
        url: url.into(),
        tls: TlsMode::VerifyFull,
        ca: Some(ca),
        max_connections: 24,
        label: label.to_owned(),
        application: "test".to_owned(),
    }
}

pub fn open(side: &TestDatabase) -> Database {
    Database::lazy(&config(&side.url, side.ca.clone(), side.kind.word())).unwrap()
}

/// The epoch in both databases; older instances may still write.
pub async fn raise(sides: [&TestDatabase; 2], mode: &str, secondary: &str, epoch: i64) {
    for side in sides {
        let mut tx = open(side).begin(TxOptions::default()).await.unwrap();
        let wanted = Control {
            migration: MIGRATION.into(),
            uid: UID.into(),
            epoch,
            min_epoch: 0,
            mode: mode.into(),
            secondary: secondary.into(),
            round: 1,
            base_since: 1,
            acked_at: None,
            fenced: false,
            archived: Archived::No,
            intent: None,
        };
        control::raise(&mut tx, &wanted).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// `min_epoch` in one database: no instance of an older epoch writes there any more.
pub async fn close_epoch_on(side: &TestDatabase, epoch: i64) {
    let mut tx = open(side).begin(TxOptions::default()).await.unwrap();
    let now = tx.clock().await.unwrap();
    control::acknowledge_epoch(&mut tx, MIGRATION, epoch, &now)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// How a row of the orders lies on both sides.
pub async fn orders_pair(source: &TestDatabase, target: &TestDatabase) -> TablePair {
    let mapping = TableMapping {
        source: "orders".into(),
        target: "orders".into(),
        key: vec!["id".into()],
        version: "updated_at".into(),
        ..TableMapping::default()
    };
    let source = open(source).table("orders").await.unwrap().unwrap();
    let target = open(target).table("orders").await.unwrap().unwrap();
    TablePair::new(source, target, &mapping).unwrap()
}
