//! The awkward values of every type, as literals of the engine that holds them, and what becomes of each.
// One line per type reads as the table that it is.
#![cfg_attr(rustfmt, rustfmt_skip)]

pub type Values = &'static [(&'static str, &'static [&'static str])];

pub const MARIADB: Values = &[
    ("tinyint(1)", &["7", "-128", "0"]),
    ("bit(1)", &["b'0'", "b'1'"]),
    ("tinyint", &["-128", "127"]),
    ("tinyint unsigned", &["255"]),
    ("smallint", &["-32768"]),
    ("smallint unsigned", &["65535"]),
    ("mediumint", &["-8388608"]),
    ("mediumint unsigned", &["16777215"]),
    ("int", &["-2147483648"]),
    ("int unsigned", &["4294967295"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("bigint unsigned", &["18446744073709551615"]),
    ("bit(8)", &["b'10000001'", "b'0'"]),
    ("bit(64)", &["X'FFFFFFFFFFFFFFFF'"]),
    ("year", &["'0000'", "1901", "2155"]),
    ("decimal(10,2)", &["-99999999.99", "0.10"]),
    ("decimal(10,2) unsigned", &["99999999.99"]),
    ("decimal(20,0)", &["18446744073709551615"]),
    (
        "decimal(65,30)",
        &["-99999999999999999999999999999999999.999999999999999999999999999999"],
    ),
    ("float", &["0.1", "1.17549435e-38", "3.4028235e38", "16777217"]),
    ("float(7,2)", &["1.1", "99999.99", "-0.01"]),
    (
        "double",
        &["0.1", "5e-324", "1.7976931348623157e308", "9007199254740993"],
    ),
    ("char(36)", &["'a'", "''", "' é😀  '"]),
    ("varchar(255)", &["'a  '", "''", "REPEAT('😀', 255)"]),
    ("tinytext", &["REPEAT('a', 255)", "REPEAT('é', 127)"]),
    ("text", &["REPEAT('a', 65535)", "REPEAT('😀', 16383)", "'a\\0b'"]),
    ("mediumtext", &["REPEAT('é', 100000)"]),
    ("longtext", &["'a\\\\b\\'c\\n\\r\\t'"]),
    ("binary(16)", &["X'00FF'", "X''"]),
    ("varbinary(255)", &["X'00FF'", "X''", "X'2020'"]),
    ("tinyblob", &["REPEAT(X'FF', 255)"]),
    ("blob", &["REPEAT(X'00', 65535)"]),
    ("mediumblob", &["X'5C27'"]),
    ("longblob", &["X'C328'"]),
    (
        "date",
        &[
            "'0000-00-00'",
            "'2024-00-15'",
            "'2024-02-00'",
            "'0001-01-01'",
            "'9999-12-31'",
        ],
    ),
    ("time", &["'-838:59:59'", "'838:59:59'", "'00:00:00'"]),
    ("time(6)", &["'-838:59:59.999999'", "'24:00:00.000001'"]),
    ("datetime", &["'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'"]),
    ("datetime(3)", &["'9999-12-31 23:59:59.999'"]),
    (
        "datetime(6)",
        &["'2024-00-00 12:00:00.000001'", "'9999-12-31 23:59:59.999999'"],
    ),
    ("timestamp", &["'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'"]),
    (
        "timestamp(6)",
        &["'1970-01-01 00:00:00.5'", "'2038-01-19 03:14:07.999999'"],
    ),
    (
        "json",
        &[
            "'{\"b\" : 1.50,  \"a\":[1e2, -0], \"a\": null }'",
            "'[]'",
            "'\"\\\\u0000\"'",
        ],
    ),
    ("uuid", &["'123E4567-e89b-12d3-a456-426614174000'"]),
    ("inet4", &["'10.1.2.3'"]),
    ("inet6", &["'FE80::1'", "'::ffff:1.2.3.4'", "'::1.2.3.4'"]),
    ("enum('a','b')", &["'b'"]),
    ("set('a','b')", &["''", "'b,a'"]),
    ("geometry", &["ST_GeomFromText('POINT(1 2)', 4326)"]),
    ("point", &["POINT(0.1, -2)"]),
    ("linestring", &["ST_GeomFromText('LINESTRING(0 0, 1 1)')"]),
    ("polygon", &["ST_GeomFromText('POLYGON((0 0, 1 0, 1 1, 0 0))')"]),
    ("multipoint", &["ST_GeomFromText('MULTIPOINT(0 0, 1 1)')"]),
    ("multilinestring", &["ST_GeomFromText('MULTILINESTRING((0 0, 1 1))')"]),
    (
        "multipolygon",
        &["ST_GeomFromText('MULTIPOLYGON(((0 0, 1 0, 1 1, 0 0)))')"],
    ),
    (
        "geometrycollection",
        &["ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2))')"],
    ),
];

pub const POSTGRES: Values = &[
    ("boolean", &["true", "false"]),
    ("smallint", &["-32768"]),
    ("integer", &["-2147483648"]),
    ("bigint", &["-9223372036854775808"]),
    (
        "numeric",
        &[
            "1.50",
            "'NaN'",
            "'-Infinity'",
            "-0.00",
            "12345678901234567890.123456789000",
            "1e100",
        ],
    ),
    ("numeric(10,2)", &["-99999999.99", "'NaN'"]),
    ("numeric(20,0)", &["18446744073709551615"]),
    (
        "numeric(65,30)",
        &["99999999999999999999999999999999999.999999999999999999999999999999"],
    ),
    ("numeric(5,-2)", &["12345"]),
    (
        "real",
        &["'-0'", "'NaN'", "1e-45", "3.4028235e38", "'-Infinity'", "0.1"],
    ),
    ("double precision", &["'-0'", "'NaN'", "5e-324", "0.1", "'Infinity'"]),
    ("character(36)", &["'a'", "'é😀'", "''"]),
    ("character varying(255)", &["'a  '", "''"]),
    ("character varying", &["E'a\\\\b''c\\n'"]),
    ("text", &["'é😀 '", "''", "repeat('a', 100000)"]),
    ("citext", &["'AbC'"]),
    ("name", &["repeat('é', 31)"]),
    ("bytea", &["'\\x00ff5c27'", "''"]),
    (
        "date",
        &[
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 BC'",
            "'5874897-12-31'",
            "'2024-02-29'",
        ],
    ),
    ("time(0) without time zone", &["'23:59:59'"]),
    ("time without time zone", &["'24:00:00'", "'00:00:00.000001'"]),
    ("time with time zone", &["'12:00:00.123456+05:30'", "'24:00:00-15:59'"]),
    ("timestamp(0) without time zone", &["'2024-02-29 23:59:59'"]),
    ("timestamp(3) without time zone", &["'2024-02-29 23:59:59.999'"]),
    (
        "timestamp without time zone",
        &[
            "'-infinity'",
            "'294276-12-31 23:59:59.999999'",
            "'0044-01-01 00:00:00.5 BC'",
        ],
    ),
    ("timestamp(0) with time zone", &["'infinity'"]),
    (
        "timestamp with time zone",
        &["'0044-03-15 00:00:00+00 BC'", "'10000-01-01 00:00:00.000001+02'"],
    ),
    (
        "interval",
        &[
            "'1 year 2 mons -3 days +04:05:06.789'",
            "'-1 mon'",
            "'178000000 years'",
            "'30 days'",
            "'720:00:00'",
        ],
    ),
    ("json", &["'{\"b\" : 1.50,  \"a\":[1e2, -0], \"a\": null }'"]),
    (
        "jsonb",
        &[
            "'{\"b\" : 1.50,  \"a\":[1e2, -0], \"a\": null }'",
            "'12345678901234567890123456789.10'",
            "'\"é\"'",
        ],
    ),
    ("uuid", &["'123E4567-e89b-12d3-a456-426614174000'"]),
    (
        "inet",
        &[
            "'10.1.2.3/8'",
            "'10.1.2.3'",
            "'::ffff:1.2.3.4'",
            "'fe80:0:0:1::1/64'",
            "'::1.2.3.4'",
        ],
    ),
    ("cidr", &["'10.0.0.0/8'", "'::/0'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("mood", &["'b'"]),
    ("pair", &["'(1,\"x,y\")'", "'(,)'"]),
    ("bit(8)", &["B'10000001'"]),
    ("bit varying(8)", &["B'101'", "B''"]),
    ("money", &["'-92233720368547758.08'", "'1234.5'"]),
    ("xml", &["'<a b=\"1\">é</a>'", "'text only'"]),
    ("hstore", &["'\"a\"=>\"1\", \"b\"=>NULL, \"c d\"=>\"\"'", "''"]),
    (
        "integer[]",
        &["'{1,NULL,-3}'", "'{}'", "'[0:1]={1,2}'", "'{{1,2},{3,4}}'"],
    ),
    ("text[]", &["ARRAY['a,b', '', 'NULL', NULL, 'q\"x\\y', '{}']"]),
    ("double precision[]", &["'{NaN,-0,0.1,5e-324}'"]),
    (
        "timestamp with time zone[]",
        &["'{infinity,\"2024-01-01 00:00:00.000001+02\"}'"],
    ),
    ("int4range", &["'[1,5)'", "'empty'", "'(,)'"]),
    ("tstzrange", &["'[\"2024-01-01 00:00:00+02\",infinity)'"]),
    ("nummultirange", &["'{[1.50,2.5),(3,)}'", "'{}'"]),
    ("point", &["'(0.1,-0)'", "'(NaN,Infinity)'"]),
    ("polygon", &["'((0,0),(1,0.1),(1,1))'"]),
    ("tsvector", &["$$'a':1A 'b':2,3 'it''s'$$"]),
    ("jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    ("pg_lsn", &["'16/B374D848'"]),
];

pub type Across = &'static [(&'static str, &'static str, &'static [(&'static str, &'static str)])];

/// MariaDB's type, PostgreSQL's type, MariaDB's literal and what PostgreSQL prints of it.
pub const ACROSS: Across = &[
    ("tinyint(1)", "boolean", &[("1", "true"), ("0", "false")]),
    ("tinyint(1)", "smallint", &[("-128", "-128"), ("7", "7")]),
    ("bit(1)", "boolean", &[("b'1'", "true")]),
    ("bit(8)", "smallint", &[("b'10000001'", "129")]),
    (
        "bit(64)",
        "numeric(20,0)",
        &[("X'FFFFFFFFFFFFFFFF'", "18446744073709551615")],
    ),
    ("tinyint unsigned", "smallint", &[("255", "255")]),
    ("mediumint", "integer", &[("-8388608", "-8388608")]),
    ("int unsigned", "bigint", &[("4294967295", "4294967295")]),
    ("bigint", "bigint", &[("-9223372036854775808", "-9223372036854775808")]),
    (
        "bigint unsigned",
        "numeric(20,0)",
        &[("18446744073709551615", "18446744073709551615"), ("0", "0")],
    ),
    (
        "bigint unsigned",
        "numeric",
        &[("18446744073709551615", "18446744073709551615")],
    ),
    ("year", "smallint", &[("2155", "2155"), ("'0000'", "0")]),
    ("decimal(10,2)", "numeric(10,2)", &[("-0.10", "-0.10")]),
    ("decimal(10,2)", "numeric", &[("12.50", "12.5")]),
    (
        "decimal(65,30)",
        "numeric(65,30)",
        &[(
            "-99999999999999999999999999999999999.999999999999999999999999999999",
            "-99999999999999999999999999999999999.999999999999999999999999999999",
        )],
    ),
    (
        "float",
        "real",
        &[
            ("0.1", "0.1"),
            ("3.4028235e38", "3.4028235e+38"),
            ("16777217", "1.6777216e+07"),
        ],
    ),
    ("float", "double precision", &[("0.1", "0.10000000149011612")]),
    ("double", "double precision", &[("0.1", "0.1"), ("5e-324", "5e-324")]),
    ("char(5)", "character(5)", &[("'a'", "a"), ("' é😀'", " é😀")]),
    ("varchar(10)", "character varying(10)", &[("'a  '", "a  "), ("''", "")]),
    ("text", "text", &[("'a\\\\b\\'c\\n'", "a\\b'c\n")]),
    ("varchar(10)", "citext", &[("'AbC'", "AbC")]),
    (
        "varbinary(10)",
        "bytea",
        &[("X'00FF5C27'", "\\x00ff5c27"), ("X''", "\\x")],
    ),
    ("binary(3)", "bytea", &[("X'01'", "\\x010000")]),
    (
        "date",
        "date",
        &[("'9999-12-31'", "9999-12-31"), ("'0001-01-01'", "0001-01-01")],
    ),
    (
        "time(6)",
        "time without time zone",
        &[("'24:00:00'", "24:00:00"), ("'00:00:00.000001'", "00:00:00.000001")],
    ),
    ("time", "time(0) without time zone", &[("'23:59:59'", "23:59:59")]),
    (
        "datetime(6)",
        "timestamp without time zone",
        &[("'9999-12-31 23:59:59.999999'", "9999-12-31 23:59:59.999999")],
    ),
    (
        "datetime(6)",
        "timestamp with time zone",
        &[("'1000-01-01 00:00:00'", "1000-01-01 00:00:00+00")],
    ),
    (
        "datetime(3)",
        "timestamp without time zone",
        &[("'2024-02-29 23:59:59.5'", "2024-02-29 23:59:59.5")],
    ),
    (
        "timestamp(6)",
        "timestamp with time zone",
        &[("'2038-01-19 03:14:07.999999'", "2038-01-19 03:14:07.999999+00")],
    ),
    (
        "timestamp(6)",
        "timestamp without time zone",
        &[("'1970-01-01 00:00:01'", "1970-01-01 00:00:01")],
    ),
    (
        "uuid",
        "uuid",
        &[(
            "'123E4567-e89b-12d3-a456-426614174000'",
            "123e4567-e89b-12d3-a456-426614174000",
        )],
    ),
    (
        "char(36)",
        "uuid",
        &[(
            "'123E4567-e89b-12d3-a456-426614174000'",
            "123e4567-e89b-12d3-a456-426614174000",
        )],
    ),
    (
        "binary(16)",
        "uuid",
        &[(
            "X'123e4567e89b12d3a456426614174000'",
            "123e4567-e89b-12d3-a456-426614174000",
        )],
    ),
    ("inet6", "inet", &[("'FE80::1'", "fe80::1/128")]),
    ("inet4", "inet", &[("'10.1.2.3'", "10.1.2.3/32")]),
    (
        "varchar(43)",
        "inet",
        &[
            ("'10.1.2.3/8'", "10.1.2.3/8"),
            ("'::ffff:1.2.3.4'", "::ffff:1.2.3.4/128"),
        ],
    ),
    ("varchar(43)", "cidr", &[("'10.0.0.0/8'", "10.0.0.0/8")]),
    ("char(17)", "macaddr", &[("'08:00:2b:01:02:03'", "08:00:2b:01:02:03")]),
    ("enum('a','b')", "mood", &[("'b'", "b")]),
    ("enum('a','B c')", "text", &[("'B c'", "B c")]),
    ("set('a','b')", "text", &[("'b,a'", "a,b"), ("''", "")]),
    (
        "json",
        "jsonb",
        &[(
            "'{\"a\":[12345678901234567890123,1.5],\"b\":null}'",
            "{\"a\": [12345678901234567890123, 1.5], \"b\": null}",
        )],
    ),
    ("json", "json", &[("'{\"a\":1.0}'", "{\"a\":1.0}")]),
    ("longtext", "jsonb", &[("'[1,2]'", "[1, 2]")]),
];

pub type Refused = &'static [(&'static str, &'static str, &'static [&'static str])];

pub const REFUSED_BY_MYSQL: Refused = &[
    ("date", "date", &["'infinity'", "'0044-03-15 BC'", "'12024-01-01'"]),
    (
        "timestamp without time zone",
        "datetime(6)",
        &["'-infinity'", "'0044-03-15 00:00:00 BC'", "'12024-01-01 00:00:00'"],
    ),
    (
        "timestamp with time zone",
        "timestamp(6)",
        &[
            "'1969-12-31 23:59:59'",
            "'1970-01-01 00:00:00'",
            "'2200-01-01 00:00:00'",
        ],
    ),
    (
        "numeric",
        "decimal(65,30)",
        &["'NaN'", "'Infinity'", "1e40", "0.0000000000000000000000000000001"],
    ),
    ("numeric(10,2)", "decimal(10,2) unsigned", &["-1"]),
    ("double precision", "double", &["'NaN'", "'-Infinity'", "'-0'"]),
    ("real", "float", &["'-0'"]),
    ("text", "enum('a','b')", &["'A'", "'2'", "'b '", "''"]),
    ("text", "set('a','b')", &["'b,a'", "'3'", "'A'"]),
    ("text", "char(5)", &["'a '", "'aaaaaa'"]),
    ("text", "varchar(5)", &["'a     '"]),
    ("text", "tinytext", &["repeat('é', 128)", "repeat('a', 255) || ' '"]),
    ("text", "varchar(20) CHARACTER SET latin1", &["'😀'"]),
    ("bytea", "binary(2)", &["'\\x00'", "'\\x000000'"]),
    ("bytea", "blob", &["decode(repeat('00', 65536), 'hex')"]),
    ("inet", "inet6", &["'10.1.2.3'", "'fe80::/64'"]),
    ("numeric(20,0)", "bigint unsigned", &["-1", "18446744073709551616"]),
];

pub const REFUSED_BY_POSTGRES: Refused = &[
    ("date", "date", &["'0000-00-00'", "'2024-00-15'"]),
    ("datetime", "timestamp without time zone", &["'0000-00-00 00:00:00'"]),
    ("time", "time without time zone", &["'-00:00:01'", "'24:00:01'"]),
    ("tinyint(1)", "boolean", &["7"]),
    ("text", "text", &["'a\\0b'"]),
    ("char(36)", "uuid", &["'no uuid'"]),
    ("varchar(20)", "mood", &["'A'", "''"]),
    ("varchar(100)", "name", &["REPEAT('a', 64)"]),
    ("longtext", "jsonb", &["'{'"]),
    ("json", "jsonb", &["'\"\\\\u0000\"'"]),
    ("varchar(43)", "inet", &["'nowhere'"]),
    ("enum('a','b')", "mood", &["0"]),
];

pub const REFUSED_INSIDE_MYSQL: Refused = &[
    ("varchar(10)", "char(10)", &["'a '"]),
    ("enum('a','b','c')", "enum('a','b')", &["'c'", "0"]),
    ("set('a','b')", "set('b','a')", &["'a,b'"]),
    ("varbinary(16)", "binary(16)", &["X'00'"]),
    ("longtext", "text", &["REPEAT('a', 65536)"]),
];

pub const REFUSED_INSIDE_POSTGRES: Refused = &[
    ("text", "character(5)", &["'a '"]),
    ("text", "name", &["repeat('a', 64)"]),
    ("text", "mood", &["'A'"]),
    ("numeric", "numeric(10,2)", &["1.255", "1e10"]),
];
