//! Comparison of two rows of a pair: full canonical values, less the columns the team said to ignore, within the
//! tolerance it gave for floats.

use super::{Row, Value};

/// How the rows of one pair are compared: one entry per mapped column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Rule {
    #[default]
    Exact,
    Ignore,
    /// Absolute difference that still counts as equal.
    Tolerance(f64),
}

impl Comparison {
    pub fn exact(columns: usize) -> Self {
        Comparison {
            rules: vec![Rule::Exact; columns],
        }
    }

    /// Positions of the columns in which the rows differ; empty when they are the same.
    pub fn differing(&self, base: &Row, follower: &Row) -> Vec<usize> {
        let columns = base.values.len().max(follower.values.len());
        (0..columns)
            .filter(|&i| match (base.values.get(i), follower.values.get(i)) {
                (Some(a), Some(b)) => !self.same(i, a, b),
                _ => true,
            })
            .collect()
    }

    pub fn equal(&self, base: &Row, follower: &Row) -> bool {
        base.values.len() == follower.values.len()
            && base
                .values
                .iter()
                .zip(&follower.values)
                .enumerate()
                .all(|(i, (a, b))| self.same(i, a, b))
    }

    fn same(&self, column: usize, a: &Value, b: &Value) -> bool {
        self.rules.get(column).copied().unwrap_or_default().accepts(a, b)
    }
}

impl Rule {
    /// Whether two cells count as the same.
    pub fn accepts(self, a: &Value, b: &Value) -> bool {
        match self {
            Rule::Exact => a == b,
            Rule::Ignore => true,
            Rule::Tolerance(most) => match (a, b) {
                (Value::Float(x), Value::Float(y)) => a == b || (x - y).abs() <= most,
                _ => a == b,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: Vec<Value>) -> Row {
        Row { values }
    }

    #[test]
    fn names_the_columns_that_differ() {
        let c = Comparison {
            rules: vec![Rule::Exact, Rule::Ignore, Rule::Tolerance(0.1)],
        };
        let a = row(vec!["a".into(), 1.into(), Value::Float(1.0)]);
        assert!(c.equal(&a, &row(vec!["a".into(), 2.into(), Value::Float(1.05)])));
        assert_eq!(
            c.differing(&a, &row(vec!["a ".into(), 2.into(), Value::Float(1.2)])),
            [0, 2]
        );
        assert_eq!(c.differing(&a, &row(vec!["a".into(), 2.into(), Value::Null])), [2]);
    }

    #[test]
    fn null_is_not_the_empty_text_and_a_missing_column_differs() {
        let c = Comparison::exact(1);
        assert!(!c.equal(&row(vec![Value::Null]), &row(vec!["".into()])));
        assert_eq!(c.differing(&row(vec![1.into()]), &row(vec![])), [0]);
    }

    #[test]
    fn a_tolerance_never_accepts_nan_for_a_number() {
        let c = Comparison {
            rules: vec![Rule::Tolerance(f64::MAX)],
        };
        assert!(!c.equal(&row(vec![Value::Float(f64::NAN)]), &row(vec![Value::Float(1.0)])));
    }
}
