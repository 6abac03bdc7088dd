//! The bound: the same rows from memory into the target, with nothing between them and the database.

use futures::future::join_all;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Rows in one INSERT.
const WIDE: usize = 1_000;
/// Bytes that one COPY message carries.
const MESSAGE: usize = 256 * 1024;

/// Multi-row inserts with explicit keys, each its own transaction. The clock starts when all is in memory.
pub async fn insert(url: &str, table: &str, parts: &[PathBuf], lanes: usize) -> Duration {
    let options: MySqlConnectOptions = url.parse().expect("a URL");
    let options = options.ssl_mode(MySqlSslMode::Disabled);
    let mut loads = Vec::new();
    for files in split(parts, lanes) {
        let statements: Vec<String> = files.iter().flat_map(|file| statements(table, file)).collect();
        loads.push((options.connect().await.expect("a connection"), statements));
    }
    let began = Instant::now();
    let running = loads.into_iter().map(|(mut connection, statements)| {
        tokio::spawn(async move {
            for statement in statements {
                sqlx::raw_sql(AssertSqlSafe(statement))
                    .execute(&mut connection)
                    .await
                    .expect("an INSERT");
            }
            connection.close().await.expect("a close");
        })
    });
    join_all(running)
        .await
        .into_iter()
        .for_each(|ended| ended.expect("a lane"));
    began.elapsed()
}

/// COPY, one statement per connection.
pub async fn copy_in(url: &str, table: &str, parts: &[PathBuf], lanes: usize) -> Duration {
    let options: PgConnectOptions = url.parse().expect("a URL");
    let options = options.ssl_mode(PgSslMode::Disable);
    let mut loads = Vec::new();
    for files in split(parts, lanes) {
        let bytes: Vec<u8> = files
            .iter()
            .flat_map(|file| std::fs::read(file).expect("the rows"))
            .collect();
        loads.push((options.connect().await.expect("a connection"), bytes));
    }
    let began = Instant::now();
    let running = loads.into_iter().map(|(mut connection, bytes)| {
        let statement = format!("COPY {table} FROM STDIN");
        tokio::spawn(async move {
            let mut copy = connection.copy_in_raw(&statement).await.expect("COPY");
            for message in bytes.chunks(MESSAGE) {
                copy.send(message).await.expect("COPY takes rows");
            }
            copy.finish().await.expect("COPY ends");
            connection.close().await.expect("a close");
        })
    });
    join_all(running)
        .await
        .into_iter()
        .for_each(|ended| ended.expect("a lane"));
    began.elapsed()
}

/// Neighbouring files to each lane.
fn split(parts: &[PathBuf], lanes: usize) -> impl Iterator<Item = &[PathBuf]> {
    parts.chunks(parts.len().div_ceil(lanes.max(1)))
}

fn statements(table: &str, file: &PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("the rows");
    let lines: Vec<&str> = text.lines().collect();
    lines
        .chunks(WIDE)
        .map(|lines| {
            let mut sql = format!("INSERT INTO {table} VALUES ");
            for (at, line) in lines.iter().enumerate() {
                sql.push_str(if at == 0 { "(" } else { ",(" });
                for (at, field) in line.split('\t').enumerate() {
                    if at > 0 {
                        sql.push(',');
                    }
                    literal(field, &mut sql);
                }
                sql.push(')');
            }
            sql
        })
        .collect()
}

fn literal(field: &str, sql: &mut String) {
    if field == "\\N" {
        sql.push_str("NULL");
    } else if field.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        sql.push_str(field);
    } else {
        sql.push('\'');
        sql.push_str(&field.replace('\'', "''"));
        sql.push('\'');
    }
}
