//! Privileges, found out by trying. A statement that touches no row needs the same privileges as one that does, and it
//! says so in the server's own words; a catalogue of grants would miss roles, wildcards and revokes.

use super::{Database, Engine, Ident, Result, StoreError, TableSchema, TxOptions};

/// A privilege that is not there: what it is for, and what the database said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingPrivilege {
    /// "SELECT on orders"
    pub what: String,
    pub error: StoreError,
}

impl Database {
    /// What a migration does to one of its tables: read, lock, insert, update, delete, and own its sequences.
    pub async fn probe_table(&self, schema: &TableSchema) -> Result<Vec<MissingPrivilege>> {
        let engine = self.engine();
        let table = Ident::new(schema.name.clone())?.quoted(engine);
        let mut names = Vec::new();
        for column in schema.columns.iter().filter(|c| !c.generated && !c.identity_always) {
            names.push(Ident::new(column.name.clone())?.quoted(engine));
        }
        let columns = names.join(", ");
        let Some(first) = names.first() else {
            return Ok(Vec::new());
        };
        let attempts = [
            ("SELECT", format!("SELECT {columns} FROM {table} WHERE 1 = 0")),
            (
                "INSERT",
                format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} WHERE 1 = 0"),
            ),
            ("UPDATE", format!("UPDATE {table} SET {first} = {first} WHERE 1 = 0")),
            ("DELETE", format!("DELETE FROM {table} WHERE 1 = 0")),
        ];
        let mut missing = Vec::new();
        for (privilege, sql) in attempts {
            self.attempt(format!("{privilege} on {}", schema.name), &sql, &mut missing)
                .await?;
        }
        for sequence in schema.columns.iter().filter_map(|c| c.sequence.as_deref()) {
            let sql = format!("ALTER SEQUENCE {sequence} NO CYCLE");
            self.attempt(format!("ownership of sequence {sequence}"), &sql, &mut missing)
                .await?;
        }
        Ok(missing)
    }

    /// What the control tables need: a table may be created, written, altered and dropped. MySQL: the session may set
    /// how it counts keys up.
    pub async fn probe_scratch(&self) -> Result<Vec<MissingPrivilege>> {
        let name = Ident::new(format!("_datamigration_probe_{}", uuid::Uuid::new_v4().simple()))?.quoted(self.engine());
        let mut missing = Vec::new();
        let create = format!("CREATE TABLE {name} (id INT NOT NULL PRIMARY KEY)");
        match self.execute(&create, &[]).await {
            Ok(_) => {}
            Err(error) if is_refusal(&error) => {
                return Ok(vec![MissingPrivilege {
                    what: "CREATE (tables)".to_owned(),
                    error,
                }]);
            }
            Err(error) => return Err(error),
        }
        for (what, sql) in [
            (
                "INSERT on its own tables",
                format!("INSERT INTO {name} (id) VALUES (1)"),
            ),
            ("UPDATE on its own tables", format!("UPDATE {name} SET id = 2")),
            ("DELETE on its own tables", format!("DELETE FROM {name}")),
        ] {
            self.attempt(what.to_owned(), &sql, &mut missing).await?;
        }
        if self.engine() == Engine::MySql {
            let sql = "SET SESSION auto_increment_increment = 1";
            self.attempt(
                "setting auto_increment_increment for a session".to_owned(),
                sql,
                &mut missing,
            )
            .await?;
        }
        match self.execute(&format!("DROP TABLE {name}"), &[]).await {
            Ok(_) => {}
            Err(error) if is_refusal(&error) => missing.push(MissingPrivilege {
                what: "DROP (tables)".to_owned(),
                error,
            }),
            Err(error) => return Err(error),
        }
        Ok(missing)
    }

    /// In a transaction that is rolled back. A fence on the table is no lack of privilege.
    async fn attempt(&self, what: String, sql: &str, missing: &mut Vec<MissingPrivilege>) -> Result<()> {
        let mut tx = self.begin(TxOptions::default()).await?;
        let outcome = tx.execute(sql, &[]).await;
        tx.rollback().await;
        match outcome {
            Ok(_) | Err(StoreError::Fenced { .. }) => Ok(()),
            Err(error) if is_refusal(&error) => {
                missing.push(MissingPrivilege { what, error });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn is_refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::Privilege { .. } | StoreError::Auth { .. })
}
