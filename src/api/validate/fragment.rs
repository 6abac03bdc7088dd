//! Pieces of SQL that a manifest brings (`where`, `expression`, `reverse`): each has to be one expression that cannot
//! leave its place in the statement around it. What it means, the databases check in preflight.

use crate::api::database::EngineName;

/// Why the text cannot stand inside a statement; `None`: it can.
pub(super) fn unfit(text: &str, engine: EngineName) -> Option<String> {
    let mysql = engine == EngineName::MySQL;
    let sqlite = engine == EngineName::SQLite;
    let mut depth = 0_u32;
    let mut rest = text.chars().peekable();
    let mut empty = true;
    while let Some(c) = rest.next() {
        empty &= c.is_whitespace();
        match c {
            '\'' | '"' | '`' => loop {
                match rest.next() {
                    None => return Some(format!("the quote {c} is not closed")),
                    Some('\\') if mysql && c != '`' => {
                        rest.next();
                    }
                    Some(next) if next == c => break,
                    Some(_) => {}
                }
            },
            '(' => depth += 1,
            ')' => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return Some("a parenthesis is closed that was not opened".to_owned()),
            },
            ';' => return Some("it holds `;`: give one expression".to_owned()),
            '?' | '$' => {
                return Some(format!(
                    "it holds `{c}`, which stands for a parameter: write the value itself"
                ));
            }
            '-' if rest.peek() == Some(&'-') => return Some("it holds a comment (`--`)".to_owned()),
            '/' if rest.peek() == Some(&'*') => return Some("it holds a comment (`/*`)".to_owned()),
            ':' | '@' | '#' if sqlite => {
                return Some(format!(
                    "it holds `{c}`, which stands for a parameter: write the value itself"
                ));
            }
            '[' if sqlite => return Some("it holds `[`: write names in double quotes".to_owned()),
            '#' if mysql => return Some("it holds a comment (`#`)".to_owned()),
            '\0' => return Some("it holds a NUL character".to_owned()),
            _ => {}
        }
    }
    if empty {
        return Some("it is empty".to_owned());
    }
    (depth > 0).then(|| "a parenthesis is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use EngineName::{MySQL, PostgreSQL};

    #[test]
    fn an_expression_is_taken_and_what_could_leave_its_place_is_not() {
        for text in [
            "amount * 100",
            "created_at >= '2020-01-01'",
            "status <> ';--/*?' AND (a OR (b))",
            "\"odd;name\" = 1",
            "a - -1",
        ] {
            assert_eq!(unfit(text, PostgreSQL), None, "{text}");
            assert_eq!(unfit(text, MySQL), None, "{text}");
        }
        for text in [
            "",
            "  ",
            "1; DELETE FROM t",
            "1) OR (1=1",
            "(1",
            "a -- b",
            "a /* b",
            "a = ?",
            "a = $1",
            "'a",
            "1\0",
        ] {
            assert!(unfit(text, PostgreSQL).is_some(), "{text}");
            assert!(unfit(text, MySQL).is_some(), "{text}");
        }
        // The same text ends at another place in the two engines.
        assert_eq!(unfit(r"a = 'it\'s'", MySQL), None);
        assert!(unfit(r"a = 'it\'s'", PostgreSQL).is_some());
        assert!(unfit("a # b", MySQL).is_some());
        assert_eq!(unfit("a # b", PostgreSQL), None);
    }
}
