//! What cannot be migrated is found before any row moves, and all of it at once.

use crate::rows::LogicalType as T;
use crate::store::{ColumnMapping, ColumnSchema, Engine, TableMapping, TablePair, TableSchema, UniqueKey};

fn column(name: &str, logical: T) -> ColumnSchema {
    ColumnSchema {
        name: name.into(),
        native: format!("{logical}"),
        logical,
        nullable: false,
        default: None,
        generated: false,
        auto_increment: false,
        identity_always: false,
        sequence: None,
        on_update_now: false,
        collation: None,
    }
}

fn int(bits: u8) -> T {
    T::Int { bits, unsigned: false }
}

fn stamp(digits: u8) -> T {
    T::Timestamp { utc: true, digits }
}

fn table(engine: Engine, columns: Vec<ColumnSchema>, key: &[&str]) -> TableSchema {
    let key: Vec<String> = key.iter().map(|&k| k.into()).collect();
    let unique = UniqueKey {
        name: "pk".into(),
        columns: key.clone(),
        primary: true,
        identifies: true,
    };
    TableSchema {
        name: "orders".into(),
        engine,
        columns,
        unique_keys: if key.is_empty() { vec![] } else { vec![unique] },
        primary_key: key,
        foreign_keys: vec![],
        triggers: vec![],
        estimated_rows: 0,
        storage_engine: None,
        indexed_first: vec![],
    }
}

fn plain(engine: Engine) -> TableSchema {
    table(
        engine,
        vec![column("id", int(64)), column("n", int(32)), column("v", stamp(6))],
        &["id"],
    )
}

fn mapping() -> TableMapping {
    TableMapping {
        source: "orders".into(),
        target: "orders".into(),
        version: "v".into(),
        ..TableMapping::default()
    }
}

fn reasons(source: TableSchema, target: TableSchema, mapping: &TableMapping) -> Vec<(&'static str, String)> {
    match TablePair::new(source, target, mapping) {
        Ok(_) => vec![],
        Err(problems) => problems.into_iter().map(|p| (p.reason, p.message)).collect(),
    }
}

#[test]
fn columns_keep_one_order_on_both_sides_and_follow_their_new_names() {
    let mut target = table(
        Engine::Postgres,
        vec![column("v", stamp(6)), column("number", int(64)), column("id", int(64))],
        &["id"],
    );
    target.columns.push(ColumnSchema {
        nullable: true,
        ..column("more", T::Json)
    });
    let mut source = plain(Engine::MySql);
    source.columns.push(column("legacy", T::Other("geometry".into())));
    let mapping = TableMapping {
        columns: vec![
            ColumnMapping::Rename {
                source: "n".into(),
                target: "number".into(),
            },
            ColumnMapping::Drop {
                source: "legacy".into(),
            },
        ],
        ..mapping()
    };
    let pair = TablePair::new(source, target, &mapping).unwrap();
    let names = |side: &crate::store::TableSide| {
        side.columns
            .iter()
            .map(|c| c.name.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&pair.source), ["id", "n", "v"]);
    assert_eq!(names(&pair.target), ["id", "number", "v"]);
    assert_eq!((pair.source.key.as_slice(), pair.source.version), ([0].as_slice(), 2));
    assert!(pair.notes.iter().any(|n| n.contains("wider")), "{:?}", pair.notes);
    assert!(
        pair.one_way
            .iter()
            .any(|n| n.contains("orders.legacy is not carried back")),
        "{:?}",
        pair.one_way
    );
}

#[test]
fn every_problem_is_told_at_once_with_its_remedy() {
    let source = table(
        Engine::MySql,
        vec![
            column("id", int(64)),
            column("n", T::Other("geometry".into())),
            column("gone", int(32)),
            column("v", T::Date),
        ],
        &[],
    );
    let mut target = plain(Engine::Postgres);
    target.columns.push(column("needed", int(32)));
    let found = reasons(source, target, &mapping());
    let kinds: Vec<&str> = found.iter().map(|(r, _)| *r).collect();
    assert_eq!(
        kinds,
        [
            "ColumnMissing",
            "ColumnsIncompatible",
            "ColumnsIncompatible",
            "ColumnMissing",
            "KeyMissing",
            "VersionUnsuitable"
        ]
    );
    for (reason, message) in found {
        assert!(message.contains("orders"), "{reason}: {message}");
        assert!(message.contains(';'), "{reason} names no remedy: {message}");
    }
}

#[test]
fn a_key_must_identify_rows_on_both_sides() {
    let no_key = table(Engine::Postgres, plain(Engine::Postgres).columns, &[]);
    let found = reasons(plain(Engine::MySql), no_key, &mapping());
    assert!(
        matches!(&found[..], [("KeyMissing", m)] if m.contains("create one")),
        "{found:?}"
    );

    let float = || {
        table(
            Engine::MySql,
            vec![column("id", T::Float64), column("v", stamp(6))],
            &["id"],
        )
    };
    assert_eq!(reasons(float(), float(), &mapping())[0].0, "KeyUnsuitable");
}

#[test]
fn a_version_has_the_precision_that_both_sides_keep() {
    let mut source = plain(Engine::MySql);
    source.columns[2].logical = stamp(0);
    let pair = TablePair::new(source.clone(), plain(Engine::Postgres), &mapping()).unwrap();
    assert_eq!((pair.source.version_digits, pair.target.version_digits), (0, 0));
    assert!(
        pair.notes.iter().any(|n| n.contains("same version")),
        "{:?}",
        pair.notes
    );
    source.columns[2].nullable = true;
    let mut target = plain(Engine::Postgres);
    target.columns[2].nullable = true;
    assert_eq!(
        reasons(source, target, &mapping())
            .iter()
            .map(|p| p.0)
            .collect::<Vec<_>>(),
        ["VersionUnsuitable"; 2]
    );
}

#[test]
fn a_column_that_one_side_computes_is_carried_by_nobody() {
    let mut source = plain(Engine::MySql);
    source.columns.push(ColumnSchema {
        generated: true,
        ..column("sum", int(64))
    });
    let mut target = plain(Engine::Postgres);
    target.columns.push(column("sum", int(64)));
    target.columns[3].nullable = true;
    let pair = TablePair::new(source, target, &mapping()).unwrap();
    assert_eq!(pair.source.columns.len(), 3);
    assert!(pair.notes.iter().any(|n| n.contains("computes")), "{:?}", pair.notes);
}

#[test]
fn a_tinyint_is_a_number_between_two_mysqls_and_a_boolean_towards_one() {
    let with = |engine| {
        let mut t = plain(engine);
        t.columns.push(column("flag", T::Bool));
        t
    };
    let same = TablePair::new(with(Engine::MySql), with(Engine::MySql), &mapping()).unwrap();
    assert_eq!(same.source.columns[3].carry, int(64));
    let other = TablePair::new(with(Engine::MySql), with(Engine::Postgres), &mapping()).unwrap();
    assert_eq!(other.source.columns[3].carry, T::Bool);
}

fn computed(source: Option<&str>, reverse: Option<&str>) -> TableMapping {
    TableMapping {
        columns: vec![ColumnMapping::Computed {
            source: source.map(str::to_owned),
            target: "cents".into(),
            expression: "n * 100".into(),
            reverse: reverse.map(str::to_owned),
        }],
        filter: Some("n > 0".into()),
        target_filter: Some("cents > 0".into()),
        ..mapping()
    }
}

fn cents(engine: Engine) -> TableSchema {
    table(
        engine,
        vec![column("id", int(64)), column("cents", int(64)), column("v", stamp(6))],
        &["id"],
    )
}

#[test]
fn an_expression_is_read_on_the_base_and_written_to_the_followers_own_column() {
    use crate::words::{Direction, Side};
    // With the source's column named, and found by the expression.
    for source in [Some("n"), None] {
        let mapping = computed(source, Some("cents / 100"));
        let pair = TablePair::new(plain(Engine::MySql), cents(Engine::Postgres), &mapping).unwrap();
        let last = |side: &crate::store::TableSide| {
            let column = &side.columns[2];
            (
                side.columns.len(),
                column.name.as_str().to_owned(),
                column.computed.clone(),
            )
        };
        let (up, back) = (Direction::Forward, Direction::Reverse);
        assert_eq!(last(pair.base(up)), (3, "cents".into(), Some("n * 100".into())));
        assert_eq!(last(pair.follower(up)), (3, "cents".into(), None));
        assert_eq!(last(pair.base(back)), (3, "n".into(), Some("cents / 100".into())));
        assert_eq!(last(pair.follower(back)), (3, "n".into(), None));
        assert_eq!(pair.plain(Side::Source).columns[2].logical, int(32));
        assert_eq!(pair.source.filter.as_deref(), Some("n > 0"));
        assert_eq!(pair.target.filter.as_deref(), Some("cents > 0"));
        assert!(pair.computes() && pair.one_way.is_empty(), "{:?}", pair.one_way);
    }
}

#[test]
fn an_expression_without_reverse_goes_one_way_unless_it_only_adds_a_column() {
    use crate::words::Direction;
    let pair = TablePair::new(
        plain(Engine::MySql),
        cents(Engine::Postgres),
        &computed(Some("n"), None),
    )
    .unwrap();
    assert_eq!(pair.base(Direction::Reverse).columns.len(), 2);
    assert!(
        pair.one_way.iter().any(|n| n.contains("has no `reverse`")),
        "{:?}",
        pair.one_way
    );
    assert!(
        pair.one_way.iter().any(|n| n.contains("orders.n is not carried back")),
        "{:?}",
        pair.one_way
    );

    let mut target = cents(Engine::Postgres);
    target.columns.push(column("n", int(32)));
    let pair = TablePair::new(plain(Engine::MySql), target, &computed(None, None)).unwrap();
    assert_eq!(pair.base(Direction::Forward).columns.len(), 4);
    assert_eq!(pair.base(Direction::Reverse).columns.len(), 3);
    assert!(pair.one_way.is_empty(), "{:?}", pair.one_way);
    assert!(
        pair.notes.iter().any(|n| n.contains("not carried back")),
        "{:?}",
        pair.notes
    );
}

#[test]
fn an_expression_for_a_column_that_is_not_there_is_told() {
    let found = reasons(
        plain(Engine::MySql),
        plain(Engine::Postgres),
        &computed(Some("n"), None),
    );
    assert!(
        matches!(&found[..], [("ColumnMissing", m)] if m.contains("`cents`")),
        "{found:?}"
    );
}
