//! The fast way from base to follower: the same values, the same guard, and a batch that ends where it is told to.

use std::sync::Arc;
use std::time::Duration;

use datamigration::rows::{Key, Row, Value};
use datamigration::store::{CommitError, Load, Reader, Result, StoreError, TablePair, TxOptions, Way};

use crate::helpers::{BOTH, Db, V1, V2, V3, database, key, mapping, pair, row, small};
use crate::support::Kind;
use crate::values;

/// Carries everything in batches of so many rows.
async fn carry(from: &Db, to: &Db, pair: &TablePair, way: Way, limit: u32) -> Result<()> {
    let load = Arc::new(Load::new(&pair.source, &pair.target));
    let mut reader = Reader::new(&from.db, load.clone(), Duration::from_secs(10));
    let mut after: Option<Key> = None;
    loop {
        let batch = reader.read(after.as_ref(), None, limit, 1 << 20).await?;
        let mut tx = to.db.begin(TxOptions::default()).await?;
        if let Err(refused) = tx.load(&load, &batch, way).await {
            tx.rollback().await;
            return Err(refused);
        }
        tx.commit().await.map_err(CommitError::into_inner)?;
        if batch.ended() {
            return Ok(());
        }
        after = batch.last().cloned();
    }
}

#[tokio::test]
async fn every_value_is_carried_exactly_in_the_fast_way_too() {
    for way in [Way::Fresh, Way::Guarded] {
        let source = values::table(Kind::MariaDb).await;
        source.execute(values::INSERT_MARIADB).await;
        // Both read as a pair across engines reads them: inside one engine JSON keeps its own spelling.
        let across = values::table(Kind::Postgres).await;
        let first = pair(&source, &across, &mapping("v", "v")).await;
        let original = source.all(&first.source).await;
        let mut came_from = source;
        for kind in [Kind::MariaDb, Kind::Postgres, Kind::Postgres, Kind::MariaDb] {
            let to = values::table(kind).await;
            let pair = pair(&came_from, &to, &mapping("v", "v")).await;
            carry(&came_from, &to, &pair, way, 2).await.unwrap();
            let rows = came_from.all(&pair.source).await;
            assert_eq!(to.all(&pair.target).await, rows, "into {kind:?}, {way:?}");
            came_from = to;
        }
        let last = pair(&came_from, &across, &mapping("v", "v")).await;
        assert_eq!(came_from.all(&last.source).await, original);
    }
}

#[tokio::test]
async fn floats_and_texts_with_marks_of_the_format_arrive_bit_by_bit() {
    let source = database(Kind::MariaDb).await;
    source
        .execute("CREATE TABLE t (id BIGINT PRIMARY KEY, f FLOAT NOT NULL, d DOUBLE NOT NULL, s LONGTEXT NOT NULL, b LONGBLOB NOT NULL, v DATETIME(6) NOT NULL)")
        .await;
    let side = source.side("t", "v").await;
    let texts = ["\t", "\\N", "\\.", "a\nb\r\\", "", "\u{1}\u{7f}é😀 "];
    let floats = [1e-45, 3.402_823_5e38, -0.1, 16_777_217.0, 123_456_790.0, 0.0];
    let doubles = [5e-324, f64::MAX, -0.1, 1e16 + 2.0, 1.0 / 3.0, f64::MIN_POSITIVE];
    let rows: Vec<Row> = (0..6)
        .map(|n| Row {
            values: vec![
                Value::Int(n as i64),
                Value::Float(f64::from(floats[n] as f32)),
                Value::Float(doubles[n]),
                Value::text(texts[n]),
                Value::Bytes(texts[n].bytes().chain([0, 255, b'\\']).collect()),
                Value::text(V1),
            ],
        })
        .collect();
    source.commit(async |tx| tx.put(&side, &rows).await.unwrap()).await;
    let original = source.all(&side).await;
    assert_eq!(original, rows);
    let target = database(Kind::Postgres).await;
    target
        .execute("CREATE TABLE t (id bigint PRIMARY KEY, f real NOT NULL, d double precision NOT NULL, s text NOT NULL, b bytea NOT NULL, v timestamp(6) NOT NULL)")
        .await;
    let there = pair(&source, &target, &mapping("t", "v")).await;
    carry(&source, &target, &there, Way::Fresh, 4).await.unwrap();
    assert_eq!(target.all(&there.target).await, original);
}

#[tokio::test]
async fn the_guard_holds_and_a_row_that_is_there_is_met() {
    for source in BOTH {
        for target in BOTH {
            let (from, side) = small(source, false).await;
            let (to, _) = small(target, false).await;
            let pair = pair(&from, &to, &mapping("t", "v")).await;
            let given: Vec<Row> = (1..=600).map(|id| row(id, "base", V2)).collect();
            from.commit(async |tx| tx.put(&side, &given).await.unwrap()).await;
            let held = [row(3, "newer", V3), row(4, "equal", V2), row(5, "older", V1)];
            to.commit(async |tx| tx.put(&pair.target, &held).await.unwrap()).await;

            let fresh = carry(&from, &to, &pair, Way::Fresh, 250).await;
            if target == Kind::Postgres {
                assert!(matches!(fresh, Err(StoreError::Duplicate { .. })), "{fresh:?}");
                assert_eq!(to.all(&pair.target).await, held, "nothing of a refused batch stays");
            }
            carry(&from, &to, &pair, Way::Guarded, 250).await.unwrap();
            // And once more, over the same connection: what the stage held is gone.
            carry(&from, &to, &pair, Way::Guarded, 250).await.unwrap();
            let mut expected = given;
            expected[2] = held[0].clone();
            expected[3] = held[1].clone();
            assert_eq!(to.all(&pair.target).await, expected, "{source:?} to {target:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_ends_at_its_bytes_its_rows_or_its_range() {
    for kind in BOTH {
        for target in BOTH {
            let (from, side) = small(kind, false).await;
            let (to, _) = small(target, false).await;
            let pair = pair(&from, &to, &mapping("t", "v")).await;
            let given: Vec<Row> = (1..=1_000)
                .map(|id| row(id, "forty characters of a note, more or less", V1))
                .collect();
            from.commit(async |tx| tx.put(&side, &given).await.unwrap()).await;
            let load = Arc::new(Load::new(&pair.source, &pair.target));
            let mut reader = Reader::new(&from.db, load, Duration::from_secs(10));
            let whole = reader.read(None, None, 2_000, usize::MAX).await.unwrap();
            assert_eq!(
                (whole.rows(), whole.last(), whole.ended()),
                (1_000, Some(&key(1_000)), true)
            );
            let by_rows = reader.read(Some(&key(10)), None, 100, usize::MAX).await.unwrap();
            assert_eq!(
                (by_rows.rows(), by_rows.last(), by_rows.ended()),
                (100, Some(&key(110)), false)
            );
            let by_bytes = reader.read(Some(&key(10)), None, 2_000, 10_000).await.unwrap();
            assert!(
                by_bytes.bytes() < 11_000 && !by_bytes.ended(),
                "{} bytes",
                by_bytes.bytes()
            );
            assert_eq!(by_bytes.last(), Some(&key(10 + i64::from(by_bytes.rows()))));
            // The connection that was left half-way is not used again.
            let by_range = reader
                .read(Some(&key(10)), Some(&key(20)), 100, usize::MAX)
                .await
                .unwrap();
            assert_eq!(
                (by_range.rows(), by_range.last(), by_range.ended()),
                (10, Some(&key(20)), true)
            );
            let nothing = reader.read(Some(&key(1_000)), None, 100, usize::MAX).await.unwrap();
            assert_eq!((nothing.rows(), nothing.last(), nothing.ended()), (0, None, true));
        }
    }
}
