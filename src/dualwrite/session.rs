//! What the application's part of a write (or read) gets: the transaction on the side that is right, and that side's
//! names, so that it writes its SQL once. It notes whether rows may have been changed: a row that appeared after the keys
//! were locked and was deleted by the application must not be taken for one that was never there.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::error::{ApplyError, Refusal};
use super::sides::Sides;
use crate::rows::{Key, Value};
use crate::store::{Ident, StoreError, Tx};
use crate::words::Side;

/// A transaction on the base (writes) or on the side that answers (reads). It dereferences to [`Tx`].
pub struct Session {
    tx: Tx,
    side: Side,
    shard: usize,
    sides: Arc<Sides>,
    created: Vec<(usize, Key)>,
    /// Whether anything may have been changed, as far as is known here.
    changed: bool,
}

/// What a session leaves when the application's part is over.
pub(super) struct Left {
    pub tx: Tx,
    pub created: Vec<(usize, Key)>,
    pub changed: bool,
}

impl Session {
    pub(super) fn new(tx: Tx, (side, shard): (Side, usize), sides: Arc<Sides>) -> Self {
        Self {
            tx,
            side,
            shard,
            sides,
            created: Vec::new(),
            changed: false,
        }
    }

    pub fn side(&self) -> Side {
        self.side
    }

    /// The shard of that side, from 0 in the order of its configuration.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// A table's name in this shard of this side, for SQL text; quoted.
    pub fn table(&self, name: &str) -> Result<String, ApplyError> {
        let index = self.sides.index(name).map_err(ApplyError::application)?;
        let name = self.sides.name(self.side, self.shard, index);
        Ok(Ident::new(name.map_err(ApplyError::application)?)?.quoted(self.tx.engine()))
    }

    /// Declares a row that this transaction inserted under a key it was not begun with.
    pub fn created(&mut self, table: &str, key: Key) -> Result<(), Refusal> {
        let index = self.sides.index(table)?;
        self.created.push((index, key));
        Ok(())
    }

    /// An INSERT of one row whose key the database hands out; the row is declared with it.
    pub async fn insert_generated(
        &mut self,
        table: &str,
        insert: &str,
        key_column: &str,
        binds: &[Value],
    ) -> Result<Value, ApplyError> {
        self.insert_generated_with(table, insert, key_column, &[], binds).await
    }

    /// As [`Self::insert_generated`], for a key of several columns: `others` are the values of those that the database does
    /// not hand out, by the source's names.
    pub async fn insert_generated_with(
        &mut self,
        table: &str,
        insert: &str,
        key_column: &str,
        others: &[(&str, Value)],
        binds: &[Value],
    ) -> Result<Value, ApplyError> {
        let index = self.sides.index(table).map_err(ApplyError::application)?;
        let definition = &self.sides.tables()[index];
        let handed_out = definition.source_column(self.side, key_column);
        // Refused before the INSERT: its row might lie in another shard than this one.
        if self.sides.placing(self.side, index).turns_on(handed_out) {
            return Err(ApplyError::application(Refusal::GeneratedShardColumn {
                table: table.to_owned(),
                column: key_column.to_owned(),
            }));
        }
        let alone = definition.key().len() == 1;
        let mut key = Vec::new();
        for column in definition.key() {
            key.push(match others.iter().find(|(name, _)| name == column) {
                Some((_, value)) => Some(value.clone()),
                None if alone || column == handed_out => None,
                None => {
                    let why = format!("the key of {table} has the column {column}, whose value is not given");
                    return Err(ApplyError::application(why));
                }
            });
        }
        let generated = self
            .tx
            .insert_returning_key(insert, &Ident::new(key_column)?, binds)
            .await?;
        let key = key.into_iter().map(|value| value.unwrap_or_else(|| generated.clone()));
        self.created.push((index, Key(key.collect())));
        Ok(generated)
    }

    /// [`Tx::execute`].
    pub async fn execute(&mut self, sql: &str, binds: &[Value]) -> Result<u64, StoreError> {
        let rows = self.tx.execute(sql, binds).await?;
        // A procedure, or a block, changes rows without telling their number.
        let tells = ["insert", "update", "delete", "select"];
        let verb = sql.trim_start().get(..6).unwrap_or_default();
        self.changed |= rows > 0 || !tells.iter().any(|word| verb.eq_ignore_ascii_case(word));
        Ok(rows)
    }

    /// [`Tx::query`].
    pub async fn query(&mut self, sql: &str, binds: &[Value]) -> Result<Vec<Vec<Value>>, StoreError> {
        // PostgreSQL's statements that change rows may return them, and WITH may hide them.
        self.changed |= !sql
            .trim_start()
            .get(..6)
            .is_some_and(|word| word.eq_ignore_ascii_case("select"));
        self.tx.query(sql, binds).await
    }

    pub(super) fn leave(self) -> Left {
        Left {
            tx: self.tx,
            created: self.created,
            changed: self.changed,
        }
    }
}

impl Deref for Session {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Tx {
        // What is said there is not seen here.
        self.changed = true;
        &mut self.tx
    }
}
