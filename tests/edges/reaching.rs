//! Preflight, the databases themselves: reached, logged into, told apart, and usable with the rights that the account has.

use crate::harness::World;
use crate::looking::{checks, found, lazy, preflight, things};
use crate::support::Kind::{MariaDb, Postgres};
use crate::support::TestDatabase;
use datamigration::workers::WorkError;

#[tokio::test]
async fn a_database_that_cannot_be_used_is_named() {
    for kind in [MariaDb, Postgres] {
        let world = World::orders(kind, if kind == MariaDb { Postgres } else { MariaDb }).await;
        let url = url::Url::parse(&world.source.url).unwrap();
        let with = |change: &dyn Fn(&mut url::Url)| {
            let mut url = url.clone();
            change(&mut url);
            url.to_string()
        };
        let password = with(&|url| url.set_password(Some("hunter2")).unwrap());
        let database = with(&|url| url.set_path("/nowhere"));
        for (url, reason) in [(password, "LoginRefused"), (database, "LoginRefused")] {
            let mut worker = preflight(&world);
            worker.context.source[0].database = lazy(&world.source, &url, true, "source/main");
            found(
                &worker,
                reason,
                "Connection source/main",
                &["source/main", "check user, password and database"],
            )
            .await;
            assert!(!format!("{:?}", checks(&worker)).contains("hunter2"));
            // The other side was looked at all the same.
            assert!(
                checks(&worker)
                    .iter()
                    .any(|check| check.ok && check.name == "Connection target/main")
            );
        }

        let mut worker = preflight(&world);
        worker.context.source[0].database = lazy(&world.source, &world.source.url, false, "source/main");
        found(&worker, "TLSFailed", "Connection source/main", &["certificate"]).await;

        let mut worker = preflight(&world);
        worker.context.source[0].database = worker.context.target[0].database.clone();
        found(
            &worker,
            "EngineMismatch",
            "Connection",
            &["spec.source.engine", "Secret source (key url)"],
        )
        .await;
    }
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_waited_for_and_then_named() {
    let world = World::orders(MariaDb, Postgres).await;
    // A port of our own that nobody listens on any more.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut url = url::Url::parse(&world.target.url).unwrap();
    url.set_port(Some(closed)).unwrap();
    let mut worker = preflight(&world);
    worker.context.target[0].database = lazy(&world.target, url.as_str(), true, "target/main");
    let began = std::time::Instant::now();
    let reports = worker.reports.clone();
    found(
        &worker,
        "Unreachable",
        "Preflight",
        &["target/main", "check host, port"],
    )
    .await;
    assert!(
        began.elapsed().as_secs() >= 10,
        "it may only be starting: {:?}",
        began.elapsed()
    );
    assert!(
        reports
            .0
            .lock()
            .unwrap()
            .iter()
            .any(|status| status.reason.as_deref() == Some("Unreachable"))
    );
}

#[tokio::test]
async fn one_database_on_both_sides_is_noticed_under_any_name() {
    for kind in [MariaDb, Postgres] {
        let world = World::orders(kind, kind).await;
        let mut worker = preflight(&world);
        // Another host name for the same server.
        let url = world.source.url.replace("127.0.0.1", "localhost");
        worker.context.target[0].database = lazy(&world.source, &url, true, "target/main");
        found(
            &worker,
            "SameDatabase",
            "Databases",
            &["one and the same database", "Secrets"],
        )
        .await;
        assert_eq!(things(&world.source).await, ["orders"]);
    }
}

/// A user who may do only what is said here, in this database.
async fn weak_user(database: &TestDatabase, grants: &str) -> String {
    let name = format!("weak{:08x}", rand::random::<u32>());
    let sql = match database.kind {
        MariaDb => format!(
            "CREATE USER '{name}'@'%' IDENTIFIED BY 'pw'; {}",
            grants.replace("USER", &format!("'{name}'@'%'"))
        ),
        Postgres => format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'pw'; {}",
            grants.replace("USER", &name)
        ),
    };
    database.execute_as_admin(&sql).await;
    let mut url = url::Url::parse(&database.url).unwrap();
    url.set_username(&name).unwrap();
    url.set_password(Some("pw")).unwrap();
    url.to_string()
}

#[tokio::test]
async fn a_privilege_that_is_missing_is_named() {
    let world = World::orders(MariaDb, Postgres).await;
    let all = |database: &TestDatabase, rights: &str| format!("GRANT {rights} ON {}.* TO USER", database.name);
    let url = weak_user(&world.source, &all(&world.source, "SELECT")).await;
    let mut worker = preflight(&world);
    worker.context.source[0].database = lazy(&world.source, &url, true, "source/main");
    found(
        &worker,
        "PrivilegeMissing",
        "Privileges source/main",
        &["CREATE", "GRANT"],
    )
    .await;

    // Everything but triggers: no fence.
    let rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES";
    let url = weak_user(&world.source, &all(&world.source, rights)).await;
    let mut worker = preflight(&world);
    worker.context.source[0].database = lazy(&world.source, &url, true, "source/main");
    found(&worker, "FenceImpossible", "Fence source/main", &["TRIGGER"]).await;

    // May do as it likes with its own tables, and only read the migration's.
    let grants = "GRANT CREATE, USAGE ON SCHEMA public TO USER; GRANT SELECT ON orders TO USER";
    let url = weak_user(&world.target, grants).await;
    let mut worker = preflight(&world);
    worker.context.target[0].database = lazy(&world.target, &url, true, "target/main");
    found(
        &worker,
        "PrivilegeMissing",
        "Privileges orders target/main",
        &["INSERT on orders"],
    )
    .await;

    // May write the source's table, but does not own it.
    let world = World::orders(Postgres, MariaDb).await;
    let grants = "GRANT CREATE, USAGE ON SCHEMA public TO USER; GRANT ALL ON orders TO USER; GRANT ALL ON SEQUENCE orders_id_seq TO USER";
    let url = weak_user(&world.source, grants).await;
    let mut worker = preflight(&world);
    worker.context.source[0].database = lazy(&world.source, &url, true, "source/main");
    let error = worker.run().await.unwrap_err();
    assert!(matches!(error, WorkError::Permanent { .. }), "{error:?}");
    let messages: Vec<String> = checks(&worker)
        .into_iter()
        .filter(|check| !check.ok)
        .map(|check| check.message)
        .collect();
    assert!(
        messages
            .iter()
            .any(|message| message.contains("belongs to role orders")),
        "{messages:#?}"
    );
}
