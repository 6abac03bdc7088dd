//! Placeholders: portable SQL says `?`; PostgreSQL wants `$n`. Literals, quoted names and comments are left alone.

use crate::rows::Value;

/// `?` outside literals, quoted names and comments becomes `$1`, `$2`, …; a NULL is written out as `NULL`, because a
/// bound NULL would need a type. `??` stands for a literal `?` (PostgreSQL has operators spelled so).
/// The binds that are left are returned in order.
pub(crate) fn to_postgres<'v>(sql: &str, binds: &'v [Value]) -> Result<(String, Vec<&'v Value>), String> {
    let mut out = String::with_capacity(sql.len() + 8);
    let mut left = Vec::new();
    let mut next = 0;
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '\'' | '"' => quoted(rest, c),
            '$' => dollar_quoted(rest).unwrap_or(1),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |i| i + 2),
            '?' if rest.starts_with("??") => {
                out.push('?');
                rest = &rest[2..];
                continue;
            }
            '?' => {
                let value = binds.get(next).ok_or_else(|| count(sql, binds))?;
                next += 1;
                if value.is_null() {
                    out.push_str("NULL");
                } else {
                    left.push(value);
                    out.push('$');
                    out.push_str(&left.len().to_string());
                }
                rest = &rest[1..];
                continue;
            }
            _ => c.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    if next == binds.len() {
        Ok((out, left))
    } else {
        Err(count(sql, binds))
    }
}

fn count(sql: &str, binds: &[Value]) -> String {
    format!(
        "the statement `{sql}` has another number of placeholders than the {} values given",
        binds.len()
    )
}

/// Length of the quoted text at the start, its quotes included; a doubled quote belongs to it.
fn quoted(rest: &str, quote: char) -> usize {
    let mut end = 1;
    loop {
        match rest[end..].find(quote) {
            None => return rest.len(),
            Some(i) if rest[end + i + 1..].starts_with(quote) => end += i + 2,
            Some(i) => return end + i + 1,
        }
    }
}

/// Length of a `$tag$ … $tag$` text at the start, if there is one.
fn dollar_quoted(rest: &str) -> Option<usize> {
    let close = rest[1..].find('$')? + 2;
    let tag = &rest[..close];
    let inner = &tag[1..tag.len() - 1];
    let name =
        inner.chars().all(|c| c.is_alphanumeric() || c == '_') && !inner.starts_with(|c: char| c.is_ascii_digit());
    if !name {
        return None;
    }
    rest[close..].find(tag).map(|i| close + i + tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(sql: &str, binds: &[Value]) -> String {
        to_postgres(sql, binds).unwrap().0
    }

    #[test]
    fn placeholders_are_numbered_outside_literals() {
        let one = [Value::Int(1), Value::Int(2)];
        assert_eq!(rewritten("a = ? AND b = ?", &one), "a = $1 AND b = $2");
        assert_eq!(
            rewritten("a = '?''?' AND \"b?\" = ? -- ?\n AND c = ? /* ? */", &one),
            "a = '?''?' AND \"b?\" = $1 -- ?\n AND c = $2 /* ? */"
        );
        assert_eq!(
            rewritten("a ?? 'k' AND b = $x$ ? $x$ AND é = ? + ?", &one),
            "a ? 'k' AND b = $x$ ? $x$ AND é = $1 + $2"
        );
    }

    #[test]
    fn null_is_written_out() {
        let binds = [Value::Null, Value::Int(7)];
        let (sql, left) = to_postgres("VALUES (?, ?)", &binds).unwrap();
        assert_eq!(sql, "VALUES (NULL, $1)");
        assert_eq!(left, [&Value::Int(7)]);
    }

    #[test]
    fn a_wrong_number_of_values_is_refused() {
        assert!(to_postgres("a = ?", &[]).is_err());
        assert!(to_postgres("a = 1", &[Value::Int(1)]).is_err());
    }

    #[test]
    fn an_unfinished_literal_ends_with_the_text() {
        assert_eq!(rewritten("a = '?", &[]), "a = '?");
        assert_eq!(rewritten("a = $b$ ?", &[Value::Int(1)]), "a = $b$ $1");
    }
}
