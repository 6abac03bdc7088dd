//! How a pair of columns of two tables is carried: the types' own verdict (`rows::judge`), and what only the engines and
//! the columns' places tell: tinyint(1), text that stays verbatim inside one engine, keys.

use super::introspect::decimal_text;
use super::{ColumnSchema, Engine};
use crate::rows::{Carriage, LogicalType, Verdict, judge};

const INT: LogicalType = LogicalType::Int {
    bits: 64,
    unsigned: false,
};

/// What preflight says of a pair of columns that are no key.
pub fn verdict(source: (&ColumnSchema, Engine), target: (&ColumnSchema, Engine)) -> Verdict {
    carriage(source, target, false).verdict
}

/// `in_key`: the column is part of the key by which rows are found on both sides.
pub(crate) fn carriage(
    (source, source_engine): (&ColumnSchema, Engine),
    (target, target_engine): (&ColumnSchema, Engine),
    in_key: bool,
) -> Carriage {
    let bools = source.logical == LogicalType::Bool && target.logical == LogicalType::Bool;
    let mut carriage = judge(&held(source, bools, source_engine), &held(target, bools, target_engine));
    let same_engine = source_engine == target_engine;
    if bools && same_engine && small_number(source, source_engine) && small_number(target, target_engine) {
        // The small integer that it is, -128 to 127 and not only 0 and 1.
        carriage.carry = INT;
    }
    // Inside one engine the text itself is carried: JSON as it was written, a number with its zeros. A key is compared
    // by value, so there one spelling stays.
    let spelled = matches!(
        source.logical,
        LogicalType::Json | LogicalType::Decimal { precision: 0, .. }
    );
    if spelled && same_engine && source.native == target.native && source.logical == target.logical && !in_key {
        carriage.carry = LogicalType::text(None);
    }
    if in_key {
        key(source, target, &mut carriage);
        let text =
            |column: &ColumnSchema, engine: Engine| engine == Engine::Sqlite && column.logical == LogicalType::Uuid;
        if text(source, source_engine) || text(target, target_engine) {
            spelled_uuid(&mut carriage);
        }
    }
    let short = |column: &ColumnSchema, engine: Engine| {
        engine == Engine::Sqlite
            && matches!(column.logical, LogicalType::Decimal { precision, .. } if precision == 0 || precision > 15)
            && !decimal_text(&column.native)
    };
    if short(target, target_engine) && carriage.verdict == Verdict::Exact && !same_engine {
        carriage.verdict = Verdict::Declared(
            "SQLite keeps 15 digits of a number in such a column: numbers of more are refused row by row".to_owned(),
        );
    }
    if without_sign(target) && !without_sign(source) && carriage.verdict == Verdict::Exact {
        carriage.verdict = Verdict::Declared("negative numbers are refused row by row".to_owned());
    }
    carriage
}

/// MySQL's tinyint(1) is a boolean only by habit: where it is not carried as one, it holds small integers.
pub(crate) fn held(column: &ColumnSchema, as_bool: bool, engine: Engine) -> LogicalType {
    if !as_bool && small_number(column, engine) {
        return LogicalType::Int {
            bits: 8,
            unsigned: false,
        };
    }
    column.logical.clone()
}

fn small_number(column: &ColumnSchema, engine: Engine) -> bool {
    engine == Engine::MySql && column.logical == LogicalType::Bool && !column.native.starts_with("bit")
}

fn without_sign(column: &ColumnSchema) -> bool {
    matches!(
        column.logical,
        LogicalType::Decimal { .. } | LogicalType::Float32 | LogicalType::Float64
    ) && column.native.contains("unsigned")
}

/// A key that is text on one side must be found there by the spelling that the other side gives it.
fn key(source: &ColumnSchema, target: &ColumnSchema, carriage: &mut Carriage) {
    let text = match (&source.logical, &target.logical) {
        (LogicalType::Text { .. }, LogicalType::Uuid) => source,
        (LogicalType::Uuid, LogicalType::Text { .. }) => target,
        (LogicalType::Text { .. }, LogicalType::Network(_)) | (LogicalType::Network(_), LogicalType::Text { .. }) => {
            carriage.verdict =
                Verdict::Refused("in a key, addresses need a type for addresses on both sides".to_owned());
            return;
        }
        _ => return,
    };
    if !text.collation.as_deref().is_some_and(ignores_case) {
        spelled_uuid(carriage);
    }
}

fn spelled_uuid(carriage: &mut Carriage) {
    if matches!(carriage.verdict, Verdict::Refused(_)) {
        return;
    }
    carriage.carry = LogicalType::text(None);
    carriage.verdict = Verdict::Declared(
        "the key's text is compared with its case: UUIDs in other than lower case with hyphens are refused row by row"
            .to_owned(),
    );
}

/// MySQL's collations say so in their names; SQLite has one that does.
pub(crate) fn ignores_case(collation: &str) -> bool {
    collation.contains("_ci") || collation.eq_ignore_ascii_case("NOCASE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(native: &str, logical: LogicalType) -> ColumnSchema {
        ColumnSchema {
            name: "c".into(),
            logical,
            native: native.into(),
            nullable: true,
            default: None,
            generated: false,
            auto_increment: false,
            identity_always: false,
            sequence: None,
            on_update_now: false,
            collation: None,
        }
    }

    #[test]
    fn a_tinyint_is_a_boolean_to_a_boolean_alone() {
        let tiny = column("tinyint(1)", LogicalType::Bool);
        let (boolean, small) = (
            column("boolean", LogicalType::Bool),
            column(
                "smallint",
                LogicalType::Int {
                    bits: 16,
                    unsigned: false,
                },
            ),
        );
        let (mysql, postgres) = (Engine::MySql, Engine::Postgres);
        assert_eq!(
            carriage((&tiny, mysql), (&boolean, postgres), false).carry,
            LogicalType::Bool
        );
        assert_eq!(carriage((&tiny, mysql), (&tiny, mysql), false).carry, INT);
        assert_eq!(carriage((&tiny, mysql), (&small, postgres), false).carry, INT);
        let bit = column("bit(1)", LogicalType::Bool);
        assert_eq!(carriage((&bit, mysql), (&bit, mysql), false).carry, LogicalType::Bool);
    }

    #[test]
    fn text_stays_as_it_is_written_inside_one_engine() {
        let json = column("jsonb", LogicalType::Json);
        let number = column("numeric", LogicalType::Decimal { precision: 0, scale: 0 });
        let (mysql, postgres) = (Engine::MySql, Engine::Postgres);
        for c in [&json, &number] {
            assert_eq!(
                carriage((c, postgres), (c, postgres), false).carry,
                LogicalType::text(None)
            );
        }
        assert_eq!(
            carriage((&number, postgres), (&number, postgres), true).carry,
            number.logical
        );
        let long = column("longtext", LogicalType::Json);
        assert_eq!(
            carriage((&long, mysql), (&json, postgres), false).carry,
            LogicalType::Json
        );
    }

    #[test]
    fn a_uuid_that_is_text_on_one_side_is_found_by_its_spelling() {
        let uuid = column("uuid", LogicalType::Uuid);
        let text = |collation: &str| ColumnSchema {
            collation: Some(collation.into()),
            ..column("char(36)", LogicalType::text(Some(36)))
        };
        let of = |collation: &str| carriage((&text(collation), Engine::MySql), (&uuid, Engine::Postgres), true).carry;
        assert_eq!(of("utf8mb4_general_ci"), LogicalType::Uuid);
        assert_eq!(of("utf8mb4_bin"), LogicalType::text(None));
    }
}
