//! Small rules by themselves: names of tasks, gates in a row.

use crate::api::conditions::Reason;
use crate::api::task::{MigrationTaskSpec, TaskKind, VerifyScope};
use crate::decide::gates::Gate;
use crate::decide::tasks;
use crate::words::Direction;

#[test]
fn names_say_what_the_work_is_and_fit_into_a_label() {
    let mut spec = MigrationTaskSpec {
        migration: "orders".to_owned(),
        kind: TaskKind::Verify,
        table: Some("orders".to_owned()),
        scope: Some(VerifyScope::Full),
        direction: Direction::Forward,
        epoch: 3,
        round: 1,
        generation: 4,
        control: None,
        due: None,
    };
    assert_eq!(tasks::name(&spec, ""), "orders-verify-full-orders-r1e3");
    spec.table = Some("Order_Lines".to_owned());
    let first = tasks::name(&spec, "");
    spec.table = Some("order_lines".to_owned());
    assert_ne!(first, tasks::name(&spec, ""), "names that only look alike stay apart");
    spec.table = Some("a".repeat(63));
    let long = tasks::name(&spec, "");
    assert!(
        long.len() <= 57
            && long
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
        "{long}"
    );
}

#[test]
fn gates_chain_and_the_first_closed_one_speaks() {
    let hold = || Gate::Hold(Reason::Copying, "a".to_owned());
    assert_eq!(Gate::Pass.and_then(hold), hold());
    assert_eq!(hold().and_then(|| panic!("not asked")), hold());
}
