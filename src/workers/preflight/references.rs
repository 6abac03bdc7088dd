//! Foreign keys of all tables together: in which order the target can be filled, and which references no order can meet.

use crate::store::{Engine, ForeignKey, Ident, TableSchema};
use crate::workers::order::{Unmet, order};
use crate::workers::preflight::findings::Findings;

/// Checks the target's tables as they are.
pub fn check(label: &str, tables: &[TableSchema], found: &mut Findings) {
    let (ordered, unmet) = order(tables);
    let name = format!("References {label}");
    for unmet in &unmet {
        match unmet {
            Unmet::Outside(table, key) => {
                let text = format!(
                    "foreign key {} of {} in {label} refers to table {}, which does not move: rows could arrive before the rows they \
                     refer to; add {} to spec.tables, or {} and add it again once the application keeps both tables there",
                    key.name,
                    table.name,
                    key.referenced_table,
                    key.referenced_table,
                    without(table, key)
                );
                found.failed(name.clone(), "ReferenceOutside", text);
            }
            Unmet::Cycle(table, key) if key.referenced_table.trim_matches('"') == table.name => {
                let text = format!(
                    "foreign key {} of {} in {label} refers to its own table: rows are copied in the order of their key, which is not \
                     the order in which they refer to each other; {} and add it again once the target is the base (TargetFirst)",
                    key.name,
                    table.name,
                    without(table, key)
                );
                found.failed(name.clone(), "ReferenceCycle", text);
            }
            Unmet::Cycle(table, key) => {
                let text = format!(
                    "foreign key {} of {} in {label} refers to {}, and references lead back from there: no order of copying meets all of \
                     them; {} for one table of the circle, and add it again once the target is the base (TargetFirst)",
                    key.name,
                    table.name,
                    key.referenced_table,
                    without(table, key)
                );
                found.failed(name.clone(), "ReferenceCycle", text);
            }
        }
    }
    if unmet.is_empty() && tables.iter().any(|table| !table.foreign_keys.is_empty()) {
        found.passed(name, format!("tables are copied in this order: {}", ordered.join(", ")));
    }
}

fn without(table: &TableSchema, key: &ForeignKey) -> String {
    let quoted = |name: &str| Ident::new(name).map_or_else(|_| name.to_owned(), |name| name.quoted(table.engine));
    let what = match table.engine {
        Engine::MySql => "FOREIGN KEY",
        Engine::Postgres | Engine::Sqlite => "CONSTRAINT",
    };
    format!("ALTER TABLE {} DROP {what} {}", quoted(&table.name), quoted(&key.name))
}
