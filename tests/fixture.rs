//! The fixture itself: fresh databases, TLS, a killed server that returns with its data.

mod support;

use std::time::Duration;

use support::{Kind, eventually, servers};

#[tokio::test]
async fn a_killed_server_returns_with_its_rows_and_databases_do_not_meet() {
    let servers = servers().await;
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let one = servers.database(kind).await;
        let other = servers.database(kind).await;
        one.execute("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
            .await;
        other.execute("CREATE TABLE t (id INT PRIMARY KEY)").await;

        servers.kill(kind).await;
        assert!(
            one.try_execute("SELECT 1").await.is_err(),
            "a killed {kind:?} must not answer"
        );
        servers.start_again(kind).await;
        eventually(Duration::from_secs(30), "the server answers", || async {
            one.try_execute("SELECT 1").await.is_ok()
        })
        .await;

        assert_eq!(one.number("SELECT COUNT(*) FROM t").await, 2);
        assert_eq!(other.number("SELECT COUNT(*) FROM t").await, 0);
    }
}
