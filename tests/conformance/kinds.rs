//! What a generated column can be: how each engine spells its type, what its values look like as literals of either
//! engine, and how the oracle asks each server to print them.

use proptest::prelude::*;

use crate::place::Engine;

/// One abstract value; its literal depends on the engine alone.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    Null,
    /// Digits, with a sign and a point perhaps.
    Number(String),
    /// In scientific notation, a literal of both engines.
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Bool(bool),
    /// Quoted as it is: dates, UUIDs, JSON, what an engine spells by itself.
    Quoted(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    TinyBool,
    Small,
    Int,
    Big,
    UnsignedBig,
    Decimal,
    LongDecimal,
    Float,
    Double,
    Char,
    Varchar,
    KeyText,
    LongText,
    Binary,
    Blob,
    Date,
    Time,
    WallClock,
    Instant,
    Json,
    Uuid,
    UuidText,
    UuidBytes,
    Mood,
    Address,
    /// Same engine only, from here on.
    Set,
    Year,
    Bits,
    Shape,
    Interval,
    Array,
    Range,
    Numeric,
    Hstore,
}

/// Kinds that all engines have.
pub const BOTH: &[Kind] = &[
    Kind::TinyBool,
    Kind::Small,
    Kind::Int,
    Kind::Big,
    Kind::UnsignedBig,
    Kind::Decimal,
    Kind::LongDecimal,
    Kind::Float,
    Kind::Double,
    Kind::Char,
    Kind::Varchar,
    Kind::LongText,
    Kind::Binary,
    Kind::Blob,
    Kind::Date,
    Kind::Time,
    Kind::WallClock,
    Kind::Instant,
    Kind::Json,
    Kind::Uuid,
    Kind::UuidText,
    Kind::UuidBytes,
    Kind::Mood,
    Kind::Address,
];
pub const MARIADB: &[Kind] = &[Kind::Set, Kind::Year, Kind::Bits, Kind::Shape];
pub const POSTGRES: &[Kind] = &[Kind::Interval, Kind::Array, Kind::Range, Kind::Numeric, Kind::Hstore];
/// Kinds that may identify rows.
pub const KEYS: &[Kind] = &[
    Kind::Int,
    Kind::Big,
    Kind::UnsignedBig,
    Kind::Decimal,
    Kind::KeyText,
    Kind::Binary,
    Kind::Date,
    Kind::WallClock,
    Kind::Uuid,
    Kind::UuidText,
];

impl Kind {
    /// Whether an engine has such columns, in a key perhaps: SQLite keeps numbers of many digits and times as texts, which
    /// do not identify a row there.
    pub fn fits(self, engine: Engine, key: bool) -> bool {
        engine != Engine::Sqlite || !key || !matches!(self, Kind::UnsignedBig | Kind::WallClock)
    }

    fn sqlite(self) -> &'static str {
        match self {
            Kind::TinyBool => "BOOLEAN",
            Kind::Small => "SMALLINT",
            Kind::Int => "INT",
            Kind::Big => "BIGINT",
            Kind::UnsignedBig => "DECIMAL_TEXT(20,0)",
            Kind::Decimal => "DECIMAL(12,3)",
            Kind::LongDecimal => "DECIMAL_TEXT(65,30)",
            Kind::Float | Kind::Double => "DOUBLE",
            Kind::Char => "CHAR(12)",
            Kind::Varchar => "VARCHAR(40) COLLATE NOCASE",
            Kind::KeyText => "VARCHAR(40)",
            Kind::Binary => "VARBINARY(30)",
            Kind::Blob => "BLOB",
            Kind::Date => "DATE",
            Kind::Time => "TIME(6)",
            Kind::WallClock => "DATETIME(6)",
            Kind::Instant => "TIMESTAMP(6)",
            Kind::Json => "JSON_TEXT",
            Kind::Uuid => "UUID",
            Kind::UuidText => "CHAR(36)",
            Kind::UuidBytes => "BINARY(16)",
            _ => "TEXT",
        }
    }

    pub fn native(self, engine: Engine) -> &'static str {
        use Engine::{MariaDb, Postgres, Sqlite};
        match (self, engine) {
            (_, Sqlite) => self.sqlite(),
            (Kind::TinyBool, MariaDb) => "TINYINT(1)",
            (Kind::TinyBool, Postgres) => "boolean",
            (Kind::Small, _) => "SMALLINT",
            (Kind::Int, _) => "INT",
            (Kind::Big, _) => "BIGINT",
            (Kind::UnsignedBig, MariaDb) => "BIGINT UNSIGNED",
            (Kind::UnsignedBig, Postgres) => "numeric(20,0)",
            (Kind::Decimal, _) => "DECIMAL(12,3)",
            (Kind::LongDecimal, _) => "DECIMAL(65,30)",
            (Kind::Float, MariaDb) => "FLOAT",
            (Kind::Float, Postgres) => "real",
            (Kind::Double, MariaDb) => "DOUBLE",
            (Kind::Double, Postgres) => "double precision",
            (Kind::Char, _) => "CHAR(12)",
            (Kind::Varchar, MariaDb) => "VARCHAR(40) COLLATE utf8mb4_general_ci",
            (Kind::Varchar, Postgres) => "varchar(40)",
            (Kind::KeyText, MariaDb) => "VARCHAR(40) COLLATE utf8mb4_bin",
            (Kind::KeyText, Postgres) => "varchar(40) COLLATE \"C\"",
            (Kind::LongText, MariaDb) => "LONGTEXT",
            (Kind::LongText, Postgres) => "text",
            (Kind::Binary, MariaDb) => "VARBINARY(30)",
            (Kind::Blob, MariaDb) => "LONGBLOB",
            (Kind::Binary | Kind::Blob, Postgres) => "bytea",
            (Kind::Date, _) => "DATE",
            (Kind::Time, _) => "TIME(6)",
            (Kind::WallClock, MariaDb) => "DATETIME(6)",
            (Kind::WallClock, Postgres) => "timestamp(6)",
            (Kind::Instant, MariaDb) => "TIMESTAMP(6)",
            (Kind::Instant, Postgres) => "timestamptz(6)",
            (Kind::Json, MariaDb) => "JSON",
            (Kind::Json, Postgres) => "jsonb",
            (Kind::Uuid, _) | (Kind::UuidText | Kind::UuidBytes, Postgres) => "uuid",
            (Kind::UuidText, MariaDb) => "CHAR(36) COLLATE utf8mb4_general_ci",
            (Kind::UuidBytes, MariaDb) => "BINARY(16)",
            (Kind::Mood, MariaDb) => "ENUM('sad','so so','glad')",
            (Kind::Mood, Postgres) => "mood",
            (Kind::Address, MariaDb) => "VARCHAR(43)",
            (Kind::Address, Postgres) => "inet",
            (Kind::Set, _) => "SET('x','y','z')",
            (Kind::Year, _) => "YEAR",
            (Kind::Bits, _) => "BIT(11)",
            (Kind::Shape, _) => "POINT",
            (Kind::Interval, _) => "interval",
            (Kind::Array, _) => "text[]",
            (Kind::Range, _) => "numrange",
            (Kind::Numeric, _) => "numeric",
            (Kind::Hstore, _) => "hstore",
        }
    }

    /// Values that both engines hold exactly.
    pub fn values(self) -> BoxedStrategy<Datum> {
        let number = |r: std::ops::RangeInclusive<i128>, edges: &'static [i128]| {
            prop_oneof![3 => r, 1 => proptest::sample::select(edges)]
                .prop_map(|n| Datum::Number(n.to_string()))
                .boxed()
        };
        let quoted = |s: BoxedStrategy<String>| s.prop_map(Datum::Quoted).boxed();
        match self {
            Kind::TinyBool => any::<bool>().prop_map(Datum::Bool).boxed(),
            Kind::Small => number(-32_768..=32_767, &[-32_768, 32_767, 0]),
            Kind::Int => number(-2_147_483_648..=2_147_483_647, &[-2_147_483_648, 2_147_483_647, 0, -1]),
            Kind::Big => number(
                -9_223_372_036_854_775_808..=9_223_372_036_854_775_807,
                &[
                    -9_223_372_036_854_775_808,
                    9_223_372_036_854_775_807,
                    0,
                    9_007_199_254_740_993,
                ],
            ),
            Kind::UnsignedBig => number(
                0..=18_446_744_073_709_551_615,
                &[18_446_744_073_709_551_615, 9_223_372_036_854_775_808, 0],
            ),
            Kind::Decimal => "-?[0-9]{1,9}(\\.[0-9]{1,3})?".prop_map(Datum::Number).boxed(),
            Kind::LongDecimal => "-?[0-9]{1,35}\\.[0-9]{1,30}".prop_map(Datum::Number).boxed(),
            Kind::Float => any::<f32>()
                .prop_filter("finite, no negative zero", |x| {
                    x.is_finite() && (*x != 0.0 || x.is_sign_positive()) && (*x == 0.0 || x.is_normal())
                })
                .prop_map(|x| Datum::Float(f64::from(x)))
                .boxed(),
            Kind::Double => any::<f64>()
                .prop_filter("finite, no negative zero", |x| {
                    x.is_finite() && (*x != 0.0 || x.is_sign_positive())
                })
                .prop_map(Datum::Float)
                .boxed(),
            Kind::Char => "([ -~é😀]{0,11}[!-~é😀])?".prop_map(Datum::Text).boxed(),
            Kind::Varchar => "[ -~éß😀\\\\'\"\n\t]{0,40}".prop_map(Datum::Text).boxed(),
            Kind::KeyText => "[ -~é😀]{0,39}[!-~é😀]".prop_map(Datum::Text).boxed(),
            Kind::LongText => prop_oneof![
                4 => "[^\u{0}]{0,60}",
                1 => "[a-c\n]{500,3000}",
            ]
            .prop_map(Datum::Text)
            .boxed(),
            Kind::Binary => proptest::collection::vec(any::<u8>(), 0..30)
                .prop_map(Datum::Bytes)
                .boxed(),
            Kind::Blob => proptest::collection::vec(any::<u8>(), 0..300)
                .prop_map(Datum::Bytes)
                .boxed(),
            Kind::Date => quoted(
                (1u16..=9999, 1u8..=12, 1u8..=28)
                    .prop_map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}"))
                    .boxed(),
            ),
            Kind::Time => quoted(clock().prop_map(|(s, f)| format!("{s}{f}")).boxed()),
            Kind::WallClock => quoted(
                (1000u16..=9999, 1u8..=12, 1u8..=28, clock())
                    .prop_map(|(y, m, d, (s, f))| format!("{y:04}-{m:02}-{d:02} {s}{f}"))
                    .boxed(),
            ),
            Kind::Instant => quoted(
                (1971u16..=2037, 1u8..=12, 1u8..=28, clock())
                    .prop_map(|(y, m, d, (s, f))| format!("{y:04}-{m:02}-{d:02} {s}{f}"))
                    .boxed(),
            ),
            Kind::Json => json().prop_map(|j| Datum::Text(j.to_string())).boxed(),
            // Of version 4: MariaDB's type refuses what has none that it knows.
            Kind::Uuid | Kind::UuidText | Kind::UuidBytes => any::<u128>()
                .prop_map(|n| (n & !(0xf << 76) & !(0xf << 60)) | (0x4 << 76) | (0x8 << 60))
                .prop_map(|n| Datum::Quoted(format!("{n:032x}")))
                .boxed(),
            Kind::Mood => quoted(
                proptest::sample::select(&["sad", "so so", "glad"][..])
                    .prop_map(str::to_owned)
                    .boxed(),
            ),
            Kind::Address => quoted(
                prop_oneof![
                    any::<[u8; 4]>().prop_map(|a| std::net::Ipv4Addr::from(a).to_string()),
                    (any::<[u8; 4]>(), 0u8..32).prop_map(|(a, p)| format!("{}/{p}", std::net::Ipv4Addr::from(a))),
                    any::<u128>().prop_map(|a| std::net::Ipv6Addr::from(a).to_string()),
                ]
                .boxed(),
            ),
            Kind::Set => quoted(
                proptest::sample::subsequence(vec!["x", "y", "z"], 0..=3)
                    .prop_map(|s| s.join(","))
                    .boxed(),
            ),
            Kind::Year => quoted(
                prop_oneof![Just(0u16), 1901u16..=2155]
                    .prop_map(|y| format!("{y:04}"))
                    .boxed(),
            ),
            Kind::Bits => number(0..=2047, &[0, 2047]),
            Kind::Shape => (any::<f64>(), any::<f64>())
                .prop_filter("finite", |(x, y)| x.is_finite() && y.is_finite())
                .prop_map(|(x, y)| {
                    let mut bytes = vec![0, 0, 0, 0, 1, 1, 0, 0, 0];
                    bytes.extend(x.to_le_bytes());
                    bytes.extend(y.to_le_bytes());
                    Datum::Bytes(bytes)
                })
                .boxed(),
            Kind::Interval => quoted(
                (-999i32..999, -9999i32..9999, -100_000_000i64..100_000_000)
                    .prop_map(|(m, d, u)| format!("{m} months {d} days {u} microseconds"))
                    .boxed(),
            ),
            Kind::Array => proptest::collection::vec(proptest::option::of("[ -~é]{0,8}"), 0..4)
                .prop_map(|items| Datum::Text(array(&items)))
                .boxed(),
            Kind::Range => quoted(
                (
                    -1000i32..1000,
                    0u32..1000,
                    proptest::sample::select(&["[%)", "(%]", "[%]"][..]),
                )
                    .prop_map(|(from, n, ends)| {
                        let to = i64::from(from) + i64::from(n) + 1;
                        ends.replace('%', &format!("{from}.50,{to}.0"))
                    })
                    .boxed(),
            ),
            Kind::Numeric => "-?[0-9]{1,40}(\\.[0-9]{1,40})?".prop_map(Datum::Number).boxed(),
            Kind::Hstore => proptest::collection::btree_map("[a-z]{1,4}", proptest::option::of("[a-z =>]{0,5}"), 0..4)
                .prop_map(|m| {
                    let pairs: Vec<String> = m
                        .into_iter()
                        .map(|(k, v)| v.map_or_else(|| format!("{k}=>NULL"), |v| format!("{k}=>\"{v}\"")))
                        .collect();
                    Datum::Text(pairs.join(", "))
                })
                .boxed(),
        }
    }

    /// The value as a literal in a statement of this engine.
    pub fn literal(self, engine: Engine, datum: &Datum) -> String {
        match (datum, engine, self) {
            (Datum::Null, ..) => "NULL".to_owned(),
            // SQLite would read a number of many digits as a float before the column could keep it as a text.
            (Datum::Number(n), Engine::Sqlite, _) => format!("'{n}'"),
            (Datum::Number(n), ..) => n.clone(),
            (Datum::Float(x), Engine::MariaDb | Engine::Sqlite, _) => format!("{x:e}"),
            (Datum::Float(x), Engine::Postgres, _) => format!("'{x:e}'"),
            (Datum::Bool(b), Engine::MariaDb | Engine::Sqlite, _) => u8::from(*b).to_string(),
            (Datum::Bool(b), Engine::Postgres, _) => b.to_string(),
            (Datum::Bytes(b), Engine::MariaDb | Engine::Sqlite, _) => format!("X'{}'", hex(b)),
            (Datum::Bytes(b), Engine::Postgres, _) => format!("'\\x{}'", hex(b)),
            // Through hexadecimal digits: no escaping of this suite's own.
            (Datum::Text(s), Engine::MariaDb, _) => format!("CONVERT(X'{}' USING utf8mb4)", hex(s.as_bytes())),
            (Datum::Text(s), Engine::Sqlite, _) => format!("CAST(X'{}' AS TEXT)", hex(s.as_bytes())),
            (Datum::Text(s), Engine::Postgres, _) => {
                format!(
                    "convert_from('\\x{}', 'UTF8')::{}",
                    hex(s.as_bytes()),
                    self.native(engine)
                )
            }
            (Datum::Quoted(s), Engine::MariaDb | Engine::Sqlite, Kind::UuidBytes) => format!("X'{s}'"),
            (Datum::Quoted(s), _, Kind::Uuid | Kind::UuidText | Kind::UuidBytes) if s.len() == 32 => {
                format!("'{}-{}-{}-{}-{}'", &s[..8], &s[8..12], &s[12..16], &s[16..20], &s[20..])
            }
            (Datum::Quoted(s), ..) => format!("'{s}'"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn clock() -> BoxedStrategy<(String, String)> {
    let fraction = prop_oneof![Just(String::new()), (0u32..1_000_000).prop_map(|f| format!(".{f:06}"))];
    (0u8..24, 0u8..60, 0u8..60, fraction)
        .prop_map(|(h, m, s, f)| (format!("{h:02}:{m:02}:{s:02}"), f))
        .boxed()
}

fn array(items: &[Option<String>]) -> String {
    let items: Vec<String> = items
        .iter()
        .map(|item| match item {
            None => "NULL".to_owned(),
            Some(s) => format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\"")),
        })
        .collect();
    format!("{{{}}}", items.join(","))
}

fn json() -> BoxedStrategy<serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        (-1_000_000i32..1_000_000).prop_map(|n| serde_json::Value::from(f64::from(n) / 64.0)),
        "[ -~é😀\n]{0,8}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::btree_map("[a-zé]{0,4}", inner, 0..4)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
    .boxed()
}
