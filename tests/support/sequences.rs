//! MariaDB's tables `seq_1_to_100`, which tests fill tables from, in words that MySQL has.

use std::fmt::Write;

/// The statement with every sequence table spelled as a recursive query of one column, `seq`.
pub fn without_sequence_tables(sql: &str) -> String {
    let mut spelled = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find("seq_") {
        let (before, from) = rest.split_at(at);
        spelled.push_str(before);
        let Some((first, last, after)) = bounds(from) else {
            spelled.push_str("seq_");
            rest = &from["seq_".len()..];
            continue;
        };
        // Writing to a String does not fail.
        let _ = write!(
            spelled,
            "(WITH RECURSIVE numbers (seq) AS (SELECT CAST({first} AS UNSIGNED) UNION ALL SELECT seq + 1 FROM numbers WHERE seq < {last}) \
             SELECT seq FROM numbers)"
        );
        let next: String = after
            .trim_start()
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        let named = !next.is_empty() && next == next.to_lowercase();
        spelled.push_str(if named { "" } else { " AS numbers" });
        rest = after;
    }
    spelled.push_str(rest);
    spelled
}

/// First and last number of the sequence that the text begins with, and what follows it.
fn bounds(text: &str) -> Option<(&str, &str, &str)> {
    let (first, rest) = number(text.strip_prefix("seq_")?)?;
    let (last, rest) = number(rest.strip_prefix("_to_")?)?;
    Some((first, last, rest))
}

fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}
