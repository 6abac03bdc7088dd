//! `Ident`: the one type through which a name reaches SQL text.

use super::{Engine, StoreError};

/// A table or column name, checked once and quoted for the engine whenever it is written into SQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ident(String);

impl Ident {
    pub fn new(name: impl Into<String>) -> Result<Ident, StoreError> {
        let name = name.into();
        let problem = if name.is_empty() {
            "it is empty"
        } else if name.contains('\0') {
            "it contains a NUL character"
        } else if name.len() > 63 {
            // PostgreSQL cuts longer names in silence: two names could become one.
            "it is longer than 63 bytes"
        } else {
            return Ok(Ident(name));
        };
        Err(StoreError::Data {
            label: "name".to_owned(),
            message: format!(
                "`{}` cannot be the name of a table or column: {problem}",
                name.escape_debug()
            ),
        })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn quoted(&self, engine: Engine) -> String {
        match engine {
            // SQLite takes an unknown name in double quotes for a text.
            Engine::MySql | Engine::Sqlite => format!("`{}`", self.0.replace('`', "``")),
            Engine::Postgres => format!("\"{}\"", self.0.replace('"', "\"\"")),
        }
    }
}

/// A text literal, for the few statements that take no bound values (DDL).
pub(crate) fn literal(text: &str, engine: Engine) -> String {
    let text = text.replace('\0', "").replace('\'', "''");
    match engine {
        Engine::MySql => format!("'{}'", text.replace('\\', "\\\\")),
        Engine::Postgres | Engine::Sqlite => format!("'{text}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_cannot_be_left() {
        let evil = Ident::new("a`; DROP TABLE b; --\"").unwrap();
        assert_eq!(evil.quoted(Engine::MySql), "`a``; DROP TABLE b; --\"`");
        assert_eq!(evil.quoted(Engine::Postgres), "\"a`; DROP TABLE b; --\"\"\"");
        assert_eq!(literal("o'clock\\", Engine::MySql), "'o''clock\\\\'");
        assert_eq!(literal("o'clock\\", Engine::Postgres), "'o''clock\\'");
    }

    #[test]
    fn names_that_a_server_would_change_are_refused() {
        assert!(Ident::new("").is_err());
        assert!(Ident::new("a\0b").is_err());
        assert!(Ident::new("x".repeat(64)).is_err());
    }
}
