//! The decision and the row vocabulary stay pure: their sources are read, and nothing that waits, asks the clock or
//! the environment, or talks to anybody may stand in them.

use std::path::{Path, PathBuf};

const FORBIDDEN: [&str; 13] = [
    "async ",
    ".await",
    "tokio",
    "sqlx",
    "kube::",
    "std::env",
    "env!(",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "Zoned::now",
    "std::fs",
    "std::net",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn decide_and_rows_are_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root.join("decide"), &mut found);
    sources(&root.join("rows"), &mut found);
    assert!(found.len() > 10, "{found:?}");
    for path in found.iter().filter(|path| !path.ends_with("decide/purity.rs")) {
        let text = std::fs::read_to_string(path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let word = FORBIDDEN.iter().find(|word| code.contains(*word));
            assert!(
                word.is_none(),
                "{}:{}: {word:?} in {line:?}",
                path.display(),
                number + 1
            );
        }
    }
}
