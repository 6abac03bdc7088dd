//! The canonical spelling of JSON text: no insignificant spaces, object keys sorted, the last of two equal keys, one
//! spelling per number and string. Numbers stay digits: a 64-bit float would lose some.

use std::collections::BTreeMap;

const MAX_DEPTH: usize = 200;

pub fn canonical(text: &str) -> Result<String, String> {
    let mut parser = Parser { rest: text, depth: 0 };
    let mut out = String::with_capacity(text.len());
    parser.value(&mut out)?;
    parser.space();
    if parser.rest.is_empty() {
        Ok(out)
    } else {
        Err(parser.unexpected())
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn unexpected(&self) -> String {
        match self.rest.chars().next() {
            Some(c) => format!("the text is not JSON: `{c}` was not expected"),
            None => "the text is not JSON: it ends too early".to_owned(),
        }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, out: &mut String) -> Result<(), String> {
        self.space();
        for word in ["null", "true", "false"] {
            if self.eat(word) {
                out.push_str(word);
                return Ok(());
            }
        }
        match self.rest.chars().next() {
            Some('"') => {
                let s = self.string()?;
                quote(&s, out);
                Ok(())
            }
            Some('{') => self.nested(out, Self::object),
            Some('[') => self.nested(out, Self::array),
            Some('-' | '0'..='9') => self.number(out),
            _ => Err(self.unexpected()),
        }
    }

    fn nested(&mut self, out: &mut String, f: fn(&mut Self, &mut String) -> Result<(), String>) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("the JSON text is nested more than {MAX_DEPTH} deep"));
        }
        f(self, out)?;
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self, out: &mut String) -> Result<(), String> {
        self.eat("{");
        let mut members = BTreeMap::new();
        if !self.eat("}") {
            loop {
                self.space();
                let name = self.string()?;
                if !self.eat(":") {
                    return Err(self.unexpected());
                }
                let mut member = String::new();
                self.value(&mut member)?;
                members.insert(name, member);
                if self.eat("}") {
                    break;
                }
                if !self.eat(",") {
                    return Err(self.unexpected());
                }
            }
        }
        out.push('{');
        for (i, (name, member)) in members.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            quote(name, out);
            out.push(':');
            out.push_str(member);
        }
        out.push('}');
        Ok(())
    }

    fn array(&mut self, out: &mut String) -> Result<(), String> {
        self.eat("[");
        out.push('[');
        if !self.eat("]") {
            loop {
                self.value(out)?;
                if self.eat("]") {
                    break;
                }
                if !self.eat(",") {
                    return Err(self.unexpected());
                }
                out.push(',');
            }
        }
        out.push(']');
        Ok(())
    }

    fn string(&mut self) -> Result<String, String> {
        let mut end = None;
        let mut escaped = false;
        for (i, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    end = Some(i + 1);
                    break;
                }
                _ => {}
            }
        }
        let Some((literal, rest)) = end.and_then(|e| self.rest.split_at_checked(e)) else {
            return Err(self.unexpected());
        };
        let s = serde_json::from_str(literal).map_err(|e| format!("the text is not JSON: {e}"))?;
        self.rest = rest;
        Ok(s)
    }

    fn number(&mut self, out: &mut String) -> Result<(), String> {
        let end = self
            .rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(self.rest.len());
        let (literal, rest) = self.rest.split_at(end);
        // serde_json knows the grammar; the digits are taken from the text itself.
        serde_json::from_str::<serde_json::Value>(literal)
            .map(|_| ())
            .or_else(|e| {
                if e.to_string().contains("out of range") {
                    Ok(())
                } else {
                    Err(e)
                }
            })
            .map_err(|_| format!("the text is not JSON: `{literal}` is no number"))?;
        out.push_str(&plain(literal)?);
        self.rest = rest;
        Ok(())
    }
}

fn quote(s: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(s).to_string());
}

/// A JSON number without exponent and without needless zeros; one fractional digit stays where a fraction was written,
/// because `1.0` and `1` are different kinds of number to some readers.
fn plain(literal: &str) -> Result<String, String> {
    let (mantissa, exponent) = match literal.split_once(['e', 'E']) {
        Some((m, e)) => (
            m,
            e.parse::<i32>()
                .map_err(|_| format!("`{literal}` has too large an exponent"))?,
        ),
        None => (literal, 0),
    };
    if exponent.abs() > 10_000 {
        return Err(format!("`{literal}` has too large an exponent"));
    }
    let negative = mantissa.starts_with('-');
    let (whole, fraction) = mantissa
        .trim_start_matches('-')
        .split_once('.')
        .unwrap_or((mantissa.trim_start_matches('-'), ""));
    let digits = format!("{whole}{fraction}");
    let point = i64::from(exponent) + whole.len() as i64;
    let (whole, fraction) = if point <= 0 {
        (
            "0".to_owned(),
            format!("{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
        )
    } else if point as usize >= digits.len() {
        (
            format!("{digits}{}", "0".repeat(point as usize - digits.len())),
            String::new(),
        )
    } else {
        (digits[..point as usize].to_owned(), digits[point as usize..].to_owned())
    };
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let kept = fraction.trim_end_matches('0');
    let zero = whole == "0" && kept.is_empty();
    let mut out = String::new();
    if negative && !zero {
        out.push('-');
    }
    out.push_str(whole);
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(if kept.is_empty() { "0" } else { kept });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_agree_on_the_canonical_spelling() {
        for (text, expected) in [
            (r#" { "b" : 1 , "a" : [ true , null ] } "#, r#"{"a":[true,null],"b":1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#""\u00e9\/\n""#, "\"é/\\n\""),
            ("1.50", "1.5"),
            ("1.00", "1.0"),
            ("-0", "0"),
            ("1e2", "100"),
            ("1.5e1", "15"),
            ("12e-1", "1.2"),
            (
                "123456789012345678901234567890.000000000000000000001",
                "123456789012345678901234567890.000000000000000000001",
            ),
            ("[]", "[]"),
            ("{}", "{}"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in ["", "{", "[1,]", "{\"a\"}", "01", "1 2", "nul", "\"", "1e99999"] {
            assert!(canonical(bad).is_err(), "{bad}");
        }
        assert!(canonical(&"[".repeat(100_000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn canonical_text_stays_as_it_is(keys in proptest::collection::btree_map(".*", proptest::num::i64::ANY, 0..6)) {
            let text = serde_json::to_string_pretty(&keys).unwrap();
            let once = canonical(&text).unwrap();
            proptest::prop_assert_eq!(canonical(&once).unwrap(), once);
        }
    }
}
