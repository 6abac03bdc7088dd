//! Fences: triggers that make a table refuse writes, loudly and with a message that names the migration. A fence is
//! passed only by a transaction that says the fence's token, which a worker does after it checked its epoch.

use sha2::{Digest as _, Sha256};

use super::classify::FENCE_MARK;
use super::ident::literal;
use super::{CommitError, Database, Engine, Ident, Result, StoreError, Tx, TxOptions};
use crate::rows::Value;
use crate::rows::digest::hexadecimal;

/// MySQL cuts a signal's message here.
const MOST_MESSAGE: usize = 128;

const EVENTS: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

/// Whose fence it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// "namespace/name", shown to whoever runs into the fence.
    pub migration: String,
    /// What a transaction must say to pass: bound to the migration's UID, so that another one's worker does not.
    pub token: String,
}

/// What stands before a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceState {
    Open,
    /// Some of the events are refused, or the fence is another migration's.
    Partial,
    /// Every write is refused by exactly this fence.
    Standing,
}

impl Fence {
    pub fn new(migration: &str, uid: &str) -> Fence {
        Fence {
            migration: migration.to_owned(),
            token: format!("{migration}#{uid}"),
        }
    }

    fn message(&self, table: &str) -> String {
        let full = format!(
            "{FENCE_MARK} {table} has been moved to its new database by DataMigration {}",
            self.migration
        );
        full.chars().take(MOST_MESSAGE).collect()
    }

    /// Distinguishes this fence's triggers from another migration's.
    fn digest(&self) -> String {
        let hash = Sha256::digest(self.token.as_bytes());
        hexadecimal(&hash[..4])
    }
}

/// (trigger name, statement) for each trigger of the fence.
fn triggers(engine: Engine, table: &Ident, fence: &Fence) -> Result<Vec<(String, String)>> {
    let quoted = table.quoted(engine);
    let message = literal(&fence.message(table.as_str()), engine);
    let token = literal(&fence.token, engine);
    match engine {
        Engine::MySql => EVENTS
            .iter()
            .map(|event| {
                let name = mysql_name(table, fence, event);
                let trigger = Ident::new(name.clone())?.quoted(engine);
                // FOR EACH ROW: a statement that touches no row is let through, and does nothing.
                let sql = format!(
                    "CREATE TRIGGER {trigger} BEFORE {event} ON {quoted} FOR EACH ROW \
                     IF COALESCE(@datamigration_fence_pass, '') <> {token} THEN \
                     SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = {message}; END IF"
                );
                Ok((name, sql))
            })
            .collect(),
        Engine::Postgres => {
            let name = postgres_name(fence);
            let trigger = Ident::new(name.clone())?.quoted(engine);
            let sql = format!(
                "CREATE TRIGGER {trigger} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {quoted} FOR EACH STATEMENT \
                 EXECUTE FUNCTION {trigger}({message}, {token}); \
                 ALTER TABLE {quoted} ENABLE ALWAYS TRIGGER {trigger}"
            );
            Ok(vec![(name, sql)])
        }
        Engine::Sqlite => Err(StoreError::Other {
            label: table.as_str().to_owned(),
            message: "SQLite is for runs from a shell, which fence nothing".to_owned(),
        }),
    }
}

/// MySQL's triggers share one namespace per database, hence the table's digest.
fn mysql_name(table: &Ident, fence: &Fence, event: &str) -> String {
    let table = hexadecimal(&Sha256::digest(table.as_str().as_bytes())[..6]);
    format!(
        "_datamigration_fence_{table}_{}_{}",
        fence.digest(),
        event.to_lowercase()
    )
}

fn postgres_name(fence: &Fence) -> String {
    format!("_datamigration_fence_{}", fence.digest())
}

/// The function behind a fence, named like its triggers: each fence has its own, so that accounts which may not replace
/// each other's functions do not need to. Message and token are the trigger's arguments.
fn postgres_function(fence: &Fence) -> Result<(String, String)> {
    let name = Ident::new(postgres_name(fence))?.quoted(Engine::Postgres);
    let sql = format!(
        "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $fence$ BEGIN
           -- {FENCE_MARK} refuses every statement that does not say the token
           IF COALESCE(current_setting('datamigration.fence_pass', true), '') <> TG_ARGV[1] THEN
             RAISE EXCEPTION '%', TG_ARGV[0];
           END IF;
           RETURN NULL;
         END $fence$"
    );
    Ok((format!("{name}()"), sql))
}

impl Database {
    /// Puts the fence up; where it already stands, nothing happens. On MySQL each trigger commits by itself, so an
    /// interrupted call leaves a part, which the next call completes.
    pub async fn create_fence(&self, table: &str, fence: &Fence) -> Result<()> {
        let ident = Ident::new(table)?;
        let mut tx = self.begin(TxOptions::default()).await?;
        let Some(schema) = tx.table(table).await? else {
            return Err(StoreError::MissingTable {
                label: self.label().to_owned(),
                message: format!("table `{table}` cannot be fenced: it is not there"),
            });
        };
        if self.engine() == Engine::Postgres {
            // Two of these at once would collide on the catalogue row.
            tx.query("SELECT pg_advisory_xact_lock(?)", &[Value::Int(0x64_6d_66_65_6e_63_65)])
                .await?;
            let (function, create) = postgres_function(fence)?;
            let there = "SELECT 1 WHERE to_regprocedure(?) IS NOT NULL";
            if tx.query(there, &[Value::from(function)]).await?.is_empty() {
                tx.execute(&create, &[]).await?;
            }
        }
        for (name, sql) in triggers(self.engine(), &ident, fence)? {
            if !schema.triggers.iter().any(|t| t.name == name) {
                tx.execute(&sql, &[]).await?;
            }
        }
        tx.commit().await.map_err(CommitError::into_inner)
    }

    /// Takes the fence down; where none stands, nothing happens.
    pub async fn drop_fence(&self, table: &str, fence: &Fence) -> Result<()> {
        let ident = Ident::new(table)?;
        let engine = self.engine();
        let mut tx = self.begin(TxOptions::default()).await?;
        for (name, _) in triggers(engine, &ident, fence)? {
            let trigger = Ident::new(name)?.quoted(engine);
            let sql = match engine {
                Engine::MySql | Engine::Sqlite => format!("DROP TRIGGER IF EXISTS {trigger}"),
                Engine::Postgres => format!("DROP TRIGGER IF EXISTS {trigger} ON {}", ident.quoted(engine)),
            };
            tx.execute(&sql, &[]).await?;
        }
        tx.drop_fence_function(fence).await?;
        tx.commit().await.map_err(CommitError::into_inner)
    }

    pub async fn fence_state(&self, table: &str, fence: &Fence) -> Result<FenceState> {
        let ident = Ident::new(table)?;
        let Some(schema) = self.table(table).await? else {
            return Ok(FenceState::Open);
        };
        let standing: Vec<&str> = schema
            .triggers
            .iter()
            .filter(|t| t.fence)
            .map(|t| t.name.as_str())
            .collect();
        let wanted = triggers(self.engine(), &ident, fence)?;
        Ok(if wanted.iter().all(|(name, _)| standing.contains(&name.as_str())) {
            FenceState::Standing
        } else if standing.is_empty() {
            FenceState::Open
        } else {
            FenceState::Partial
        })
    }

    /// Tries it for real on a scratch table: fence it, be refused, pass, take all away again. Creating a trigger may
    /// need privileges that no catalogue shows (with binary logging MySQL wants more).
    pub async fn try_fence(&self) -> Result<()> {
        let name = format!("_datamigration_probe_{}", uuid::Uuid::new_v4().simple());
        let table = Ident::new(name.clone())?;
        let quoted = table.quoted(self.engine());
        let fence = Fence::new("preflight", &name);
        self.execute(&format!("CREATE TABLE {quoted} (id INT NOT NULL PRIMARY KEY)"), &[])
            .await?;
        let outcome = self.try_fence_on(&name, &quoted, &fence).await;
        let dropped = self.drop_probe(&quoted, &fence).await;
        outcome.and(dropped)
    }

    async fn drop_probe(&self, quoted: &str, fence: &Fence) -> Result<()> {
        let mut tx = self.begin(TxOptions::default()).await?;
        tx.execute(&format!("DROP TABLE {quoted}"), &[]).await?;
        tx.drop_fence_function(fence).await?;
        tx.commit().await.map_err(CommitError::into_inner)
    }

    async fn try_fence_on(&self, name: &str, quoted: &str, fence: &Fence) -> Result<()> {
        let insert = format!("INSERT INTO {quoted} (id) VALUES (?)");
        let unexpected = |message: &str| StoreError::Other {
            label: self.label().to_owned(),
            message: message.to_owned(),
        };
        self.create_fence(name, fence).await?;
        match self.execute(&insert, &[Value::Int(1)]).await {
            Err(StoreError::Fenced { .. }) => {}
            Err(other) => return Err(other),
            Ok(_) => {
                return Err(unexpected(
                    "a fence was created and did not refuse a write; are triggers switched off on this server?",
                ));
            }
        }
        let mut tx = self.begin(TxOptions::default()).await?;
        tx.pass_fence(fence).await?;
        tx.execute(&insert, &[Value::Int(1)]).await?;
        tx.rollback().await;
        if self.fence_state(name, fence).await? == FenceState::Standing {
            Ok(())
        } else {
            Err(unexpected(
                "a fence was created and cannot be seen afterwards; the account needs the privilege to see triggers (TRIGGER on the database)",
            ))
        }
    }
}

impl Tx {
    /// Removes the function behind a fence that stands before no table any more (PostgreSQL).
    pub async fn drop_fence_function(&mut self, fence: &Fence) -> Result<()> {
        if self.engine() == Engine::Postgres {
            let (function, _) = postgres_function(fence)?;
            let used = "SELECT 1 FROM pg_trigger WHERE tgfoid = to_regprocedure(?) LIMIT 1";
            if self.query(used, &[Value::from(function.as_str())]).await?.is_empty() {
                self.execute(&format!("DROP FUNCTION IF EXISTS {function}"), &[])
                    .await?;
            }
        }
        Ok(())
    }

    /// Lets this transaction, and only this one, write behind the fence. To be said after the worker's epoch was
    /// checked in the same transaction.
    pub async fn pass_fence(&mut self, fence: &Fence) -> Result<()> {
        let token = [Value::text(fence.token.as_str())];
        match self.engine() {
            // Forgotten when the next transaction of the session begins (`mysql::begin_sql`).
            Engine::MySql => self
                .execute("SET @datamigration_fence_pass = ?", &token)
                .await
                .map(|_| ()),
            Engine::Postgres => self
                .query("SELECT set_config('datamigration.fence_pass', ?, true)", &token)
                .await
                .map(|_| ()),
            // Nothing is fenced there.
            Engine::Sqlite => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_messages_fit_every_server() {
        let fence = Fence::new(&"n".repeat(120), "uid");
        let table = Ident::new("t".repeat(63)).unwrap();
        for engine in [Engine::MySql, Engine::Postgres] {
            for (name, _) in triggers(engine, &table, &fence).unwrap() {
                assert!(name.len() <= 63, "{name}");
            }
        }
        assert!(fence.message(table.as_str()).len() <= MOST_MESSAGE);
    }

    #[test]
    fn every_event_is_refused_with_a_named_message() {
        let fence = Fence::new("shop/orders", "u-1");
        let table = Ident::new("orders").unwrap();
        insta::assert_debug_snapshot!((
            triggers(Engine::MySql, &table, &fence).unwrap(),
            triggers(Engine::Postgres, &table, &fence).unwrap(),
        ));
    }
}
