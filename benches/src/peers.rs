//! The tools beside us: each a few lines of shell, as their users run them. Addresses and passwords come in through the
//! environment; what has to be written down for a tool goes into a folder that only this user reads.

/// The environment of every script: `MY_PORT`, `PG_PORT`, `SOURCE`, `TARGET` (databases), `TABLE`, `KEYS`, `COLUMNS`,
/// `WORK` (an empty folder), `PARTS` (files with all rows), `THREADS`, `CHUNK` (rows), `PEERS`, MYSQL_PWD, PGPASSWORD.
pub const HEAD: &str = r#"
set -euo pipefail
export PGHOST=127.0.0.1 PGPORT=$PG_PORT PGUSER=admin PGSSLMODE=disable
MY=(--no-defaults --protocol=tcp --host=127.0.0.1 --port="$MY_PORT" --user=admin --skip-ssl)
FROM="host=127.0.0.1 port=$PG_PORT user=admin sslmode=disable dbname=$SOURCE"
INTO="host=127.0.0.1 port=$PG_PORT user=admin sslmode=disable dbname=$TARGET"
"#;

pub const MYDUMPER: &str = r#"
at=(--host=127.0.0.1 --port="$MY_PORT" --user=admin --threads="$THREADS" --verbose=1)
mydumper "${at[@]}" --database="$SOURCE" --tables-list="$TABLE" --rows="$CHUNK" --no-locks --outputdir="$WORK/dump"
myloader "${at[@]}" --database="$TARGET" --directory="$WORK/dump"
"#;

pub const MYSQLDUMP: &str = r#"
mariadb-dump "${MY[@]}" --single-transaction --quick "$SOURCE" "$TABLE" | mariadb "${MY[@]}" "$TARGET"
"#;

/// As many clients as threads, each with its share of the files.
pub const LOAD_DATA: &str = r#"
files=($PARTS)
share=$((${#files[@]} / THREADS))
pids=()
for ((lane = 0; lane < THREADS; lane++)); do
  for file in "${files[@]:lane*share:share}"; do
    printf "LOAD DATA LOCAL INFILE '%s' INTO TABLE %s CHARACTER SET utf8mb4;\n" "$file" "$TABLE"
  done | mariadb "${MY[@]}" --local-infile=1 "$TARGET" &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
"#;

/// In a session of its own: when it fails it signals its whole process group.
pub const PGCOPYDB: &str = r#"
setsid --wait pgcopydb clone --source "$FROM" --target "$INTO" --dir "$WORK/pgcopydb" --table-jobs "$THREADS" --index-jobs "$THREADS" \
  --no-owner --no-acl --skip-extensions $MORE
"#;

pub const PG_DUMP: &str = r#"
pg_dump --no-owner --no-acl --table="public.$TABLE" "$FROM" | psql -X -q -v ON_ERROR_STOP=1 -o /dev/null "$INTO"
"#;

pub const COPY_OUT_IN: &str = r#"
psql -X -q "$FROM" -c "COPY $TABLE TO STDOUT" | psql -X -q -v ON_ERROR_STOP=1 "$INTO" -c "COPY $TABLE FROM STDIN"
"#;

pub const PGLOADER: &str = r#"
cat >"$WORK/load" <<END
LOAD DATABASE
  FROM mysql://admin:$MYSQL_PWD@127.0.0.1:$MY_PORT/$SOURCE
  INTO postgresql://admin:$PGPASSWORD@127.0.0.1:$PG_PORT/$TARGET
  WITH $MORE
  INCLUDING ONLY TABLE NAMES MATCHING '$TABLE'
  ALTER SCHEMA '$SOURCE' RENAME TO 'public';
END
pgloader --root-dir "$WORK" "$WORK/load"
"#;

/// `$TOOL` is reladiff or data-diff: both read the same files and take the same flags. `$FROM_ENGINE`, `$INTO_ENGINE`.
pub const DIFF: &str = r#"
database() {
  local port=$MY_PORT
  if [[ $2 == postgresql ]]; then port=$PG_PORT; fi
  printf '[database.%s]\ndriver = "%s"\nhost = "127.0.0.1"\nport = %s\nuser = "admin"\npassword = "%s"\ndatabase = "%s"\n' \
    "$1" "$2" "$port" "$PGPASSWORD" "$3"
}
{
  database from "$FROM_ENGINE" "$SOURCE"
  database into "$INTO_ENGINE" "$TARGET"
  printf '[run.default]\n1.database = "from"\n1.table = "%s"\n2.database = "into"\n2.table = "%s"\n' "$TABLE" "$TABLE"
} >"$WORK/diff.toml"
flags=()
for key in $KEYS; do flags+=(-k "$key"); done
for column in $COLUMNS; do flags+=(-c "$column"); done
"$PEERS/$TOOL/bin/$TOOL" --conf "$WORK/diff.toml" "${flags[@]}" --threads "$THREADS"
"#;

/// Compares and prints the statements that would repair; 0 nothing to do, 2 something.
pub const TABLE_SYNC: &str = r#"
printf '[client]\npassword="%s"\n' "$MYSQL_PWD" >"$WORK/defaults"
at="h=127.0.0.1,P=$MY_PORT,u=admin,F=$WORK/defaults,t=$TABLE"
pt-table-sync --print --no-check-slave --no-check-triggers --no-check-master "$at,D=$SOURCE" "$at,D=$TARGET"
"#;

/// Generated rows into an existing table, for the sources.
pub const FILL_POSTGRES: &str = r#"
for file in $PARTS; do psql -X -q -v ON_ERROR_STOP=1 "$INTO" -c "\\copy $TABLE FROM '$file'"; done
psql -X -q "$INTO" -c "VACUUM ANALYZE $TABLE"
"#;

/// What the report names.
pub const VERSIONS: &str = r#"
mariadbd --version | sed 's/.*Ver \([^ ]*\).*/MariaDB \1/'
/usr/lib/postgresql/15/bin/postgres --version | sed 's/postgres (PostgreSQL)/PostgreSQL/; s/ (.*//'
for package in mydumper pgcopydb pgloader percona-toolkit; do dpkg-query -W -f '${Package} ${Version}\n' "$package"; done
for peer in reladiff data-diff; do "$PEERS/$peer/bin/pip" list --disable-pip-version-check 2>/dev/null | awk -v p="$peer" '$1 == p { print p, $2 }'; done
"#;
