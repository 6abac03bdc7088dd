//! Local runs from and to a SQLite file: the binary as a person runs it, against real servers on the other side, and a
//! comparison of what each database itself prints.

use crate::place::Engine::{self, MariaDb, Postgres, Sqlite};
use crate::place::Place;
use crate::support::eventually;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const PAIRS: [(Engine, Engine); 5] = [
    (MariaDb, Sqlite),
    (Postgres, Sqlite),
    (Sqlite, MariaDb),
    (Sqlite, Postgres),
    (Sqlite, Sqlite),
];

/// `orders`, with a column for each family of types; the key of two columns.
fn orders(engine: Engine) -> &'static str {
    match engine {
        MariaDb => {
            "CREATE TABLE orders (id BIGINT NOT NULL, part VARCHAR(20) COLLATE utf8mb4_bin NOT NULL, ok TINYINT(1) NULL, \
                 amount DECIMAL(12,2) NULL, large DECIMAL(40,20) NULL, ratio DOUBLE NULL, note LONGTEXT NULL, photo LONGBLOB NULL, \
                 day DATE NULL, clock TIME(6) NULL, ref CHAR(36) COLLATE utf8mb4_general_ci NULL, extra JSON NULL, \
                 updated_at DATETIME(6) NOT NULL, PRIMARY KEY (id, part))"
        }
        Postgres => {
            "CREATE TABLE orders (id BIGINT NOT NULL, part VARCHAR(20) COLLATE \"C\" NOT NULL, ok BOOLEAN NULL, \
                 amount NUMERIC(12,2) NULL, large NUMERIC(40,20) NULL, ratio DOUBLE PRECISION NULL, note TEXT NULL, photo BYTEA NULL, \
                 day DATE NULL, clock TIME(6) NULL, ref UUID NULL, extra JSONB NULL, updated_at TIMESTAMP(6) NOT NULL, \
                 PRIMARY KEY (id, part))"
        }
        Sqlite => {
            "CREATE TABLE orders (id BIGINT NOT NULL, part VARCHAR(20) NOT NULL, ok BOOLEAN NULL, \
                 amount DECIMAL(12,2) NULL, large DECIMAL_TEXT(40,20) NULL, ratio DOUBLE NULL, note TEXT NULL, photo BLOB NULL, \
                 day DATE NULL, clock TIME(6) NULL, ref UUID NULL, extra JSON_TEXT NULL, updated_at DATETIME(6) NOT NULL, \
                 PRIMARY KEY (id, part))"
        }
    }
}

/// `INSERT … VALUES` of these rows, whose literals every engine takes.
fn insert(engine: Engine, ids: std::ops::Range<u32>) -> String {
    let rows: Vec<String> = ids
        .map(|id| {
            let blob = match engine {
                Postgres => format!("'\\x{id:08x}00ff'"),
                MariaDb | Sqlite => format!("X'{id:08x}00ff'"),
            };
            let ok = match engine {
                Postgres => (id % 2 == 0).to_string(),
                MariaDb | Sqlite => i32::from(id % 2 == 0).to_string(),
            };
            // SQLite would read a number as a float before the column could keep it as a text.
            let large = format!("'{}.{:020}'", u64::from(id) * 999_999_999_999, id);
            let null = |every: u32, value: String| if id % every == 0 { "NULL".to_owned() } else { value };
            format!(
                "({}, 'p{}', {}, {}.{:02}, {}, {}, {}, {}, '{:04}-{:02}-{:02}', '{:02}:{:02}:{:02}.{:06}', \
                     '{id:08x}-0000-4000-8000-000000000000', {}, '2024-01-01 00:00:{:02}.{:06}')",
                i64::from(id) - 500,
                id % 3,
                null(7, ok),
                id / 7,
                id % 100,
                null(5, large),
                null(4, format!("{id}.125")),
                null(3, format!("'note é😀 {id} ''quoted'' \\n'").replace("\\n", "\n")),
                null(6, blob),
                1900 + id % 200,
                1 + id % 12,
                1 + id % 28,
                id % 24,
                id % 60,
                id % 60,
                id % 1_000_000,
                null(8, format!("'{{\"b\": [1, {id}], \"a\": null}}'")),
                id % 60,
                id % 1_000_000,
            )
        })
        .collect();
    format!("INSERT INTO orders VALUES {}", rows.join(", "))
}

/// Every cell as a text of one spelling, by the database's own functions.
fn oracle(engine: Engine) -> &'static str {
    match engine {
        MariaDb => {
            "SELECT CONCAT_WS('|', id, part, IFNULL(ok, '~'), amount, IFNULL(large, '~'), IFNULL(ratio, '~'), \
                 IFNULL(LOWER(HEX(note)), '~'), IFNULL(LOWER(HEX(photo)), '~'), day, clock, ref, IFNULL(REPLACE(extra, ' ', ''), '~'), \
                 DATE_FORMAT(updated_at, '%Y-%m-%d %H:%i:%s.%f')) FROM orders ORDER BY id, part"
        }
        Postgres => {
            "SELECT concat_ws('|', id, part, COALESCE(ok::int::text, '~'), amount, COALESCE(large::text, '~'), \
                 COALESCE(ratio::text, '~'), COALESCE(encode(convert_to(note, 'UTF8'), 'hex'), '~'), COALESCE(encode(photo, 'hex'), '~'), \
                 day, to_char(clock, 'HH24:MI:SS.US'), ref, COALESCE(replace(extra::text, ' ', ''), '~'), \
                 to_char(updated_at, 'YYYY-MM-DD HH24:MI:SS.US')) FROM orders ORDER BY id, part"
        }
        // With the declared number of digits, which SQLite has no idea of.
        Sqlite => {
            "SELECT id || '|' || part || '|' || COALESCE(ok, '~') || '|' || printf('%.2f', amount) || '|' || COALESCE(large, '~') || '|' || \
                 COALESCE(ratio, '~') || '|' || iif(note IS NULL, '~', lower(hex(note))) || '|' || iif(photo IS NULL, '~', lower(hex(photo))) || '|' || day || '|' || \
                 substr(clock, 1, 15) || '|' || ref || '|' || COALESCE(replace(extra, ' ', ''), '~') || '|' || updated_at \
                 FROM orders ORDER BY id, part"
        }
    }
}
async fn fill(place: &Place, rows: u32) {
    let mut from = 1;
    while from <= rows {
        let to = (from + 500).min(rows + 1);
        place.execute(&insert(place.engine(), from..to)).await;
        from = to;
    }
}

/// Every row in one spelling: a number has no zeros behind its point, JSON no order.
async fn rows(place: &Place) -> Vec<String> {
    let rows = place.texts(oracle(place.engine())).await.into_iter().flatten();
    rows.map(|row| {
        let cells: Vec<String> = row
            .split('|')
            .enumerate()
            .map(|(n, cell)| match n {
                4 if cell.contains('.') => cell.trim_end_matches('0').trim_end_matches('.').to_owned(),
                11 if cell != "~" => cell.parse::<Value>().unwrap().to_string(),
                _ => cell.to_owned(),
            })
            .collect();
        cells.join("|")
    })
    .collect()
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

struct Run {
    folder: tempfile::TempDir,
    source: Place,
    target: Place,
}

impl Run {
    async fn new(source: Engine, target: Engine) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            source: Place::new(source, orders(source)).await,
            target: Place::new(target, orders(target)).await,
        }
    }

    /// The binary on a manifest for these databases. `changes` replace fields of its spec.
    fn command(&self, changes: &Value, arguments: &[&str]) -> Command {
        let side = |place: &Place, name: &str| json!({"engine": place.engine().word(), "shards": [{"name": "main", "urlSecretRef": {"name": name}}]});
        let mut spec = json!({
            "strategy": "DualWrite",
            "phase": "SourceFirst",
            "source": side(&self.source, "source"),
            "target": side(&self.target, "target"),
            "tables": [{"name": "orders", "version": "updated_at"}],
            "application": {
                "configMapRef": {"name": "orders-database-mode"},
                "acknowledge": {"selector": {"matchLabels": {"app": "shop"}}},
            },
            "verify": {"lag": "1s"},
        });
        for (name, value) in changes.as_object().unwrap() {
            spec[name] = value.clone();
        }
        let manifest = json!({
            "apiVersion": "datamigration.dev/v1alpha1", "kind": "DataMigration",
            "metadata": {"name": "orders", "namespace": "shop"}, "spec": spec,
        });
        let write = |name: &str, text: &str| {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_datamigration"));
        command
            .arg(arguments[0])
            .arg("-f")
            .arg(write("manifest.yaml", &manifest.to_string()))
            .arg("--source-url-file")
            .arg(write("source", &self.source.url()))
            .arg("--target-url-file")
            .arg(write("target", &self.target.url()));
        for (option, place) in [("--source-ca", &self.source), ("--target-ca", &self.target)] {
            if let Place::Server(database) = place {
                command.arg(option).arg(&database.ca);
            }
        }
        command.args(&arguments[1..]).stdin(Stdio::null());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(&json!({}), arguments).await
    }

    async fn run_with(&self, changes: &Value, arguments: &[&str]) -> Ran {
        let output = self.command(changes, arguments).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

#[tokio::test]
async fn a_table_is_copied_compared_and_repaired_in_every_direction() {
    for (source, target) in PAIRS {
        let run = Run::new(source, target).await;
        fill(&run.source, 700).await;
        let ran = run.run(&["copy"]).await;
        assert_eq!(ran.code, 0, "{source:?} to {target:?}: {} {}", ran.out, ran.err);
        let expected = rows(&run.source).await;
        assert_eq!(expected.len(), 700);
        assert_eq!(rows(&run.target).await, expected, "{source:?} to {target:?}");
        let ran = run.run(&["verify"]).await;
        assert_eq!(ran.code, 0, "{source:?} to {target:?}: {} {}", ran.out, ran.err);
        assert!(ran.out.starts_with("orders: equal (1400 rows"), "{}", ran.out);

        let surplus = insert(target, 9_001..9_003);
        run.target
            .execute(&format!(
                "DELETE FROM orders WHERE id = 7; UPDATE orders SET note = 'x ' WHERE id = 10; UPDATE orders SET large = '1.5' \
                 WHERE id = 12; UPDATE orders SET photo = NULL WHERE id = 13; UPDATE orders SET ratio = 0.1 WHERE id = 14; {surplus}"
            ))
            .await;
        let ran = run.run(&["verify", "--json"]).await;
        assert_eq!(ran.code, 1, "{source:?} to {target:?}: {} {}", ran.out, ran.err);
        let found: Value = serde_json::from_str(&ran.out).unwrap();
        let counts = ["targetMissing", "neq", "baseMissing"].map(|kind| found[0][kind].as_u64().unwrap());
        assert_eq!(counts, [1, 4, 2], "{source:?} to {target:?}");
        let ran = run.run(&["verify", "--repair"]).await;
        assert_eq!(ran.code, 0, "{source:?} to {target:?}: {} {}", ran.out, ran.err);
        assert_eq!(rows(&run.target).await, expected, "{source:?} to {target:?}");
    }
}

/// What a column of SQLite holds although it was declared for something else never becomes something else over there.
#[tokio::test]
async fn what_does_not_belong_into_its_column_is_set_aside() {
    for target in [MariaDb, Postgres, Sqlite] {
        let run = Run::new(Sqlite, target).await;
        fill(&run.source, 60).await;
        run.source
            .execute(
                "UPDATE orders SET amount = 'free' WHERE id = -499; UPDATE orders SET day = 20240101 WHERE id = -498; \
                 UPDATE orders SET ok = 2 WHERE id = -495; UPDATE orders SET note = X'00' WHERE id = -493; \
                 UPDATE orders SET amount = 0.125 WHERE id = -490",
            )
            .await;
        let ran = run.run(&["copy", "--json"]).await;
        assert_eq!(ran.code, 1, "{target:?}: {} {}", ran.out, ran.err);
        let result: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(result[0]["reason"], json!("RowsRejected"), "{target:?}");
        assert_eq!(
            (&result[0]["rows"], &result[0]["rejects"]),
            (&json!(60), &json!(5)),
            "{target:?}"
        );
        assert_eq!(run.target.number("SELECT COUNT(*) FROM orders").await, 55, "{target:?}");
        let aside = "SELECT COUNT(*) FROM _datamigration_rejects";
        assert_eq!(run.target.number(aside).await, 5, "{target:?}");
        // Corrected, they are carried.
        run.source
            .execute(
                "UPDATE orders SET amount = 1, day = '2024-01-01', ok = 1, note = 'text' WHERE id IN (-499, -498, -495, -493, -490)",
            )
            .await;
        let ran = run.run(&["copy"]).await;
        assert_eq!(ran.code, 0, "{target:?}: {} {}", ran.out, ran.err);
        assert_eq!(rows(&run.target).await, rows(&run.source).await, "{target:?}");
    }
}

/// A run that is killed goes on where its last committed batch ended.
#[tokio::test]
async fn a_copy_that_is_killed_goes_on() {
    for (source, target) in [(Sqlite, Postgres), (MariaDb, Sqlite), (Sqlite, Sqlite)] {
        let run = Run::new(source, target).await;
        fill(&run.source, 6_000).await;
        let slow = json!({"copy": {"rateLimit": {"rowsPerSecond": 1000}}});
        let mut copied = 0;
        for _ in 0..2 {
            let mut child = run
                .command(&slow, &["copy", "--quiet"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            eventually(Duration::from_mins(1), "some rows more", || async {
                run.target.number("SELECT COUNT(*) FROM orders").await > copied
            })
            .await;
            child.kill().await.unwrap();
            copied = run.target.number("SELECT COUNT(*) FROM orders").await;
            // The claims of the dead are over at once instead of in a while.
            run.target
                .execute("UPDATE _datamigration_chunks SET lease_until = '2000-01-01 00:00:00.000000'")
                .await;
        }
        assert!(copied < 6_000, "{source:?} to {target:?}: killed too late");
        let recorded = "SELECT CAST(SUM(copied_rows) AS SIGNED) FROM _datamigration_chunks";
        let recorded = match target {
            MariaDb => recorded.to_owned(),
            Postgres | Sqlite => recorded.replace("SIGNED", "BIGINT"),
        };
        assert_eq!(
            run.target.number(&recorded).await,
            copied,
            "progress and rows commit together"
        );
        let ran = run.run(&["copy"]).await;
        assert_eq!(ran.code, 0, "{source:?} to {target:?}: {} {}", ran.out, ran.err);
        assert_eq!(
            rows(&run.target).await,
            rows(&run.source).await,
            "{source:?} to {target:?}"
        );
    }
}

#[tokio::test]
async fn what_stands_in_the_way_is_named() {
    let run = Run::new(Sqlite, Sqlite).await;
    let refused = async |changes: Value, code: i32, word: &str| {
        let ran = run.run_with(&changes, &["verify"]).await;
        assert!(
            ran.code == code && ran.err.contains(word),
            "{word}: {} {}",
            ran.code,
            ran.err
        );
    };
    refused(
        json!({"copy": {"pauseWhen": {"threadsRunning": 5}}}),
        2,
        "spec.copy.pauseWhen.threadsRunning",
    )
    .await;
    refused(
        json!({"copy": {"pauseWhen": {"replicationLag": "5s"}}}),
        2,
        "spec.copy.pauseWhen.replicationLag",
    )
    .await;
    refused(json!({"copy": {"createTables": true}}), 2, "spec.copy.createTables").await;
    let side = |engine: &str| json!({"engine": engine, "shards": [{"name": "main", "urlSecretRef": {"name": "x"}}]});
    let mut encrypted = side("SQLite");
    encrypted["tls"] = json!({"mode": "Disabled"});
    refused(json!({"source": encrypted}), 2, "spec.source.tls").await;
    refused(json!({"source": side("MySQL")}), 2, "is of a SQLite database").await;

    // A file that is not there is named, and not made.
    let absent = run.folder.path().join("absent.db");
    for (url, words) in [
        (
            format!("sqlite://{}", absent.display()),
            "absent.db does not exist; make the file",
        ),
        (format!("sqlite://{}", run.folder.path().display()), "is a directory"),
        ("sqlite:relative.db".to_owned(), "expected sqlite:///DIRECTORY/FILE"),
    ] {
        let mut command = run.command(&json!({}), &["verify"]);
        std::fs::write(run.folder.path().join("target"), url).unwrap();
        let output = command.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2) && said.contains(words),
            "{:?} {said}",
            output.status
        );
    }
    assert!(!absent.exists());

    let same = Run {
        folder: tempfile::tempdir().unwrap(),
        source: run.source,
        target: run.target,
    };
    let Place::File(source) = &same.source else {
        unreachable!()
    };
    let mut command = same.command(&json!({}), &["copy"]);
    std::fs::write(same.folder.path().join("target"), source.url()).unwrap();
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("one SQLite file"));
    assert_eq!(tables(&source.path()).await, 1, "nothing was written");
}

async fn tables(path: &Path) -> i64 {
    use sqlx::ConnectOptions;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.unwrap();
    sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table'")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}
