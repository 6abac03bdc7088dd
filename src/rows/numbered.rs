//! Names with the number of a shard in them: `orders_{shard}`, `orders_{shard:02}`. So several shards of a table can live
//! in one database.

const OPEN: &str = "{shard";

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{template}` is no name with a shard's number: expected {{shard}} or {{shard:02}} (2 digits) once, {problem}")]
pub struct TemplateError {
    pub template: String,
    pub problem: &'static str,
}

/// Whether the name has a place for a shard's number.
pub fn is_template(name: &str) -> bool {
    name.contains('{') || name.contains('}')
}

/// The name of the shard with this number, from 0. A name without a place for it stays as it is.
pub fn numbered(template: &str, shard: usize) -> Result<String, TemplateError> {
    let fail = |problem| TemplateError {
        template: template.to_owned(),
        problem,
    };
    if !is_template(template) {
        return Ok(template.to_owned());
    }
    let (head, rest) = template.split_once(OPEN).ok_or_else(|| fail("found other braces"))?;
    let (form, tail) = rest.split_once('}').ok_or_else(|| fail("found no closing brace"))?;
    if is_template(head) || is_template(tail) {
        return Err(fail("found more braces"));
    }
    let number = match form.strip_prefix(":0") {
        None if form.is_empty() => shard.to_string(),
        Some(digits) if digits.len() == 1 && digits.bytes().all(|digit| (b'1'..=b'9').contains(&digit)) => {
            let width = usize::from(digits.as_bytes()[0] - b'0');
            format!("{shard:0width$}")
        }
        _ => return Err(fail("found another form of number")),
    };
    Ok(format!("{head}{number}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_takes_its_place() {
        for (template, shard, expected) in [
            ("orders", 3, "orders"),
            ("orders_{shard}", 3, "orders_3"),
            ("orders_{shard:02}", 3, "orders_03"),
            ("orders_{shard:02}", 123, "orders_123"),
            ("{shard:04}_orders", 12, "0012_orders"),
        ] {
            assert_eq!(numbered(template, shard), Ok(expected.to_owned()));
        }
        for wrong in [
            "a{",
            "a}",
            "a{shard",
            "a{shard}{shard}",
            "a{shard:2}",
            "a{shard:00}",
            "a{x}",
            "a{shard:0é}",
        ] {
            assert!(numbered(wrong, 0).is_err(), "{wrong}");
        }
    }
}
