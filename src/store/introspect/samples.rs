//! One column of every type that a migration knows, as it stands in a CREATE TABLE, and what introspection makes of it.
//! docs/types.md is written from this table; a test holds it against the servers.

use crate::rows::{LogicalType as T, NativeForm, Network};
use crate::store::{ColumnSchema, Engine};

/// The types of an engine: how each is written, and what its column holds. PostgreSQL's need the extensions `citext`
/// and `hstore`, and `CREATE TYPE mood AS ENUM ('a', 'b')`, `CREATE TYPE pair AS (x int, y text)`.
pub fn samples(engine: Engine) -> Vec<ColumnSchema> {
    let list = match engine {
        Engine::MySql => mysql(),
        Engine::Postgres => postgres(),
        Engine::Sqlite => sqlite(),
    };
    list.into_iter()
        .map(|(native, logical)| ColumnSchema {
            name: "c".to_owned(),
            logical,
            native: native.to_owned(),
            nullable: true,
            default: None,
            generated: false,
            auto_increment: false,
            identity_always: false,
            sequence: None,
            on_update_now: false,
            collation: None,
        })
        .collect()
}

fn int(bits: u8, unsigned: bool) -> T {
    T::Int { bits, unsigned }
}

fn decimal(precision: u16, scale: u16) -> T {
    T::Decimal { precision, scale }
}

fn stamp(utc: bool, digits: u8) -> T {
    T::Timestamp { utc, digits }
}

fn long_text(bytes: u64) -> T {
    T::Text {
        max: None,
        bytes: Some(bytes),
        padded: false,
    }
}

fn padded(max: Option<u64>) -> T {
    T::Text {
        max,
        bytes: None,
        padded: true,
    }
}

fn own(name: &str, form: NativeForm) -> T {
    T::Native {
        name: name.to_owned(),
        form,
    }
}

fn ab() -> Vec<String> {
    vec!["a".to_owned(), "b".to_owned()]
}

fn mysql() -> Vec<(&'static str, T)> {
    let shape = |name: &'static str| (name, own(name, NativeForm::MySqlBytes));
    vec![
        ("tinyint(1)", T::Bool),
        ("bit(1)", T::Bool),
        ("tinyint", int(8, false)),
        ("tinyint unsigned", int(8, true)),
        ("smallint", int(16, false)),
        ("smallint unsigned", int(16, true)),
        ("mediumint", int(24, false)),
        ("mediumint unsigned", int(24, true)),
        ("int", int(32, false)),
        ("int unsigned", int(32, true)),
        ("bigint", int(64, false)),
        ("bigint unsigned", int(64, true)),
        ("bit(8)", int(8, true)),
        ("bit(64)", int(64, true)),
        ("year", T::Year),
        ("decimal(10,2)", decimal(10, 2)),
        ("decimal(10,2) unsigned", decimal(10, 2)),
        ("decimal(20,0)", decimal(20, 0)),
        ("decimal(65,30)", decimal(65, 30)),
        ("float", T::Float32),
        ("float(7,2)", own("float(7,2)", NativeForm::MySqlText)),
        ("double", T::Float64),
        ("char(36)", padded(Some(36))),
        ("varchar(255)", T::text(Some(255))),
        ("tinytext", long_text(255)),
        ("text", long_text(65_535)),
        ("mediumtext", long_text(16_777_215)),
        ("longtext", T::text(None)),
        (
            "binary(16)",
            T::Bytes {
                max: Some(16),
                padded: true,
            },
        ),
        ("varbinary(255)", T::bytes(Some(255))),
        ("tinyblob", T::bytes(Some(255))),
        ("blob", T::bytes(Some(65_535))),
        ("mediumblob", T::bytes(Some(16_777_215))),
        ("longblob", T::bytes(None)),
        ("date", T::Date),
        ("time", T::Time { digits: 0 }),
        ("time(6)", T::Time { digits: 6 }),
        ("datetime", stamp(false, 0)),
        ("datetime(3)", stamp(false, 3)),
        ("datetime(6)", stamp(false, 6)),
        ("timestamp", stamp(true, 0)),
        ("timestamp(6)", stamp(true, 6)),
        ("json", T::Json),
        ("uuid", T::Uuid),
        ("inet4", T::Network(Network::Ip4)),
        ("inet6", T::Network(Network::Ip6)),
        ("enum('a','b')", T::Enum { values: ab() }),
        ("set('a','b')", T::Set { values: ab() }),
        shape("geometry"),
        shape("point"),
        shape("linestring"),
        shape("polygon"),
        shape("multipoint"),
        shape("multilinestring"),
        shape("multipolygon"),
        shape("geometrycollection"),
    ]
}

fn postgres() -> Vec<(&'static str, T)> {
    let text = |name: &'static str| (name, own(name, NativeForm::PostgresText));
    let other = |name: &'static str| (name, T::Other(name.to_owned()));
    vec![
        ("boolean", T::Bool),
        ("smallint", int(16, false)),
        ("integer", int(32, false)),
        ("bigint", int(64, false)),
        ("numeric", decimal(0, 0)),
        ("numeric(10,2)", decimal(10, 2)),
        ("numeric(20,0)", decimal(20, 0)),
        ("numeric(65,30)", decimal(65, 30)),
        text("numeric(5,-2)"),
        ("real", T::Float32),
        ("double precision", T::Float64),
        ("character(36)", padded(Some(36))),
        ("character varying(255)", T::text(Some(255))),
        ("character varying", T::text(None)),
        ("text", T::text(None)),
        ("citext", T::text(None)),
        ("name", long_text(63)),
        ("bytea", T::bytes(None)),
        ("date", T::Date),
        ("time(0) without time zone", T::Time { digits: 0 }),
        ("time without time zone", T::Time { digits: 6 }),
        text("time with time zone"),
        ("timestamp(0) without time zone", stamp(false, 0)),
        ("timestamp(3) without time zone", stamp(false, 3)),
        ("timestamp without time zone", stamp(false, 6)),
        ("timestamp(0) with time zone", stamp(true, 0)),
        ("timestamp with time zone", stamp(true, 6)),
        text("interval"),
        ("json", T::Json),
        ("jsonb", T::Json),
        ("uuid", T::Uuid),
        ("inet", T::Network(Network::Inet)),
        ("cidr", T::Network(Network::Cidr)),
        ("macaddr", T::Network(Network::Mac)),
        text("macaddr8"),
        ("mood", T::Enum { values: ab() }),
        text("pair"),
        text("bit(8)"),
        text("bit varying(8)"),
        text("money"),
        text("xml"),
        text("hstore"),
        text("integer[]"),
        text("text[]"),
        text("double precision[]"),
        text("timestamp with time zone[]"),
        text("int4range"),
        text("tstzrange"),
        text("nummultirange"),
        text("point"),
        text("polygon"),
        text("tsvector"),
        text("jsonpath"),
        text("pg_lsn"),
        other("\"char\""),
        other("oid"),
        other("regclass"),
    ]
}

fn sqlite() -> Vec<(&'static str, T)> {
    let other = |name: &'static str| (name, T::Other(name.to_owned()));
    vec![
        ("BOOLEAN", T::Bool),
        ("TINYINT", int(8, false)),
        ("SMALLINT", int(16, false)),
        ("MEDIUMINT", int(24, false)),
        ("INT", int(32, false)),
        ("INT UNSIGNED", int(32, true)),
        ("INTEGER", int(64, false)),
        ("BIGINT", int(64, false)),
        ("BIGINT UNSIGNED", int(63, true)),
        ("REAL", T::Float64),
        ("DOUBLE", T::Float64),
        ("NUMERIC", decimal(0, 0)),
        ("DECIMAL(10,2)", decimal(10, 2)),
        ("DECIMAL(20,0)", decimal(20, 0)),
        ("DECIMAL_TEXT(20,0)", decimal(20, 0)),
        ("DECIMAL_TEXT(65,30)", decimal(65, 30)),
        ("DECIMAL_TEXT", decimal(0, 0)),
        ("CHAR(36)", T::text(Some(36))),
        ("VARCHAR(255)", T::text(Some(255))),
        ("TEXT", T::text(None)),
        ("BINARY(16)", T::bytes(Some(16))),
        ("VARBINARY(255)", T::bytes(Some(255))),
        ("BLOB", T::bytes(None)),
        ("DATE", T::Date),
        ("TIME(0)", T::Time { digits: 0 }),
        ("TIME", T::Time { digits: 6 }),
        ("DATETIME(0)", stamp(false, 0)),
        ("DATETIME(3)", stamp(false, 3)),
        ("DATETIME", stamp(false, 6)),
        ("TIMESTAMP(0)", stamp(true, 0)),
        ("TIMESTAMP", stamp(true, 6)),
        ("JSON", T::Json),
        ("JSON_TEXT", T::Json),
        ("UUID", T::Uuid),
        other("STRING"),
        other("ANY"),
    ]
}
