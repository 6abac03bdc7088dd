//! Writes a copy of `src/decide` and of the outcome matrix in which every mutation of `src/mutations.rs` can be switched
//! on at run time: one compilation serves all mutants, and production carries none of it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "src/mutations.rs"]
#[allow(dead_code)]
mod mutations;

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../../src");
    let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_default());
    println!("cargo::rerun-if-changed={}", root.join("decide").display());
    println!(
        "cargo::rerun-if-changed={}",
        root.join("dualwrite/outcome.rs").display()
    );
    println!("cargo::rerun-if-changed=src/mutations.rs");
    for mutation in mutations::SOURCES {
        assert!(
            root.join(mutation.file).is_file(),
            "mutation {}: there is no {}",
            mutation.name,
            mutation.file
        );
    }
    let decide = module(&root, Path::new("decide/mod.rs"));
    let outcome = module(&root, Path::new("dualwrite/outcome.rs"));
    for (name, text) in [("decide.rs", decide), ("outcome.rs", outcome)] {
        if let Err(error) = fs::write(out.join(name), text) {
            panic!("writing {name}: {error}");
        }
    }
}

/// One file with its mutations, and the files of its modules inside of it.
fn module(root: &Path, file: &Path) -> String {
    let path = root.join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()));
    let text = mutated(&text.replace("\r\n", "\n"), &file.to_string_lossy());
    let folder = if file.ends_with("mod.rs") {
        file.parent().unwrap_or(file).to_path_buf()
    } else {
        file.with_extension("")
    };
    let (mut out, mut tests_only) = (String::new(), false);
    for line in text.lines() {
        if line.starts_with("//!") {
            continue;
        }
        if line.trim() == "#[cfg(test)]" {
            tests_only = true;
            continue;
        }
        let declared = line
            .trim_start_matches("pub ")
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(';'));
        let Some(name) = declared else {
            if tests_only {
                out.push_str("#[cfg(any())]\n");
            }
            tests_only = false;
            out.push_str(line);
            out.push('\n');
            continue;
        };
        if std::mem::take(&mut tests_only) {
            continue;
        }
        let head = line.trim_end_matches(';');
        if name == "decision" {
            // The same types, so that the world can act on what a mutant decides.
            let _ = writeln!(out, "{head} {{ pub use datamigration::decide::decision::*; }}");
            continue;
        }
        let flat = folder.join(format!("{name}.rs"));
        let file = if root.join(&flat).is_file() {
            flat
        } else {
            folder.join(name).join("mod.rs")
        };
        let _ = writeln!(out, "{head} {{\n{}}}", module(root, &file));
    }
    out
}

/// Each mutation is a choice between what stands there and what stands in its place. What stands there stands there once.
fn mutated(text: &str, file: &str) -> String {
    let mut places: Vec<(usize, &mutations::Source)> = mutations::SOURCES
        .iter()
        .filter(|mutation| mutation.file == file)
        .map(|mutation| {
            let whole = format!("{}{}", mutation.before, mutation.from);
            let found: Vec<usize> = text
                .match_indices(&whole)
                .map(|(at, _)| at + mutation.before.len())
                .collect();
            assert!(
                found.len() == 1,
                "mutation {}: {whole:?} stands {} times in {file}, and has to stand there once",
                mutation.name,
                found.len()
            );
            (found[0], mutation)
        })
        .collect();
    places.sort_by_key(|(at, _)| *at);
    let (mut out, mut done) = (String::new(), 0);
    for (at, mutation) in places {
        assert!(at >= done, "mutation {}: overlaps another one in {file}", mutation.name);
        out.push_str(&text[done..at]);
        let _ = write!(
            out,
            "(if crate::mutations::on({:?}) {{ {} }} else {{ {} }})",
            mutation.name, mutation.to, mutation.from
        );
        done = at + mutation.from.len();
    }
    out.push_str(&text[done..]);
    out
}
