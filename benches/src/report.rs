//! The report: one section per contest, replaced whole when that contest runs again.

use crate::bars::{Bar, Spread};
use crate::contest::{Bench, Results};
use crate::machine;
use crate::measure::Cost;
use std::fmt::Write as _;

const HEAD: &str = "# Benchmarks

Written by `make bench`; do not edit. Every section is one run: all contestants on the same generated rows and the same
two servers (MariaDB and PostgreSQL with their packages' defaults, but for a buffer pool that holds the data), in
alternating order. Source and target of one engine are two databases of one server. Everything talks over loopback, in
the clear. Wall time includes the start of the tool; CPU is that of the tool and both servers together, the steadier
figure on a shared machine. \"From memory\" is the raw bound: the same rows without a source and without guarantees.
Figures are medians, with the least and the most in parentheses. A ratio compares within each round. Figures below a bar
are listed as they are.
";

/// Writes a section, and prints it.
pub fn section(bench: &Bench, name: &str, title: &str, rows: u64, results: &Results, bars: &[Bar], notes: &[String]) {
    let text = text(bench, title, rows, results, bars, notes);
    println!("\n{text}");
    let path = &bench.settings.output;
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let after = replaced(&before, name, &text);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).expect("a folder for the report");
    }
    std::fs::write(path, after).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    eprintln!("bench: {}", path.display());
}

fn text(bench: &Bench, title: &str, rows: u64, results: &Results, bars: &[Bar], notes: &[String]) -> String {
    let mut text = format!("## {title}\n\n");
    let _ = writeln!(
        text,
        "{} rows, {} rounds, {}; {}.\n{}\n",
        grouped(rows),
        bench.settings.rounds,
        jiff::Zoned::now().date(),
        machine::describe(),
        company(results)
    );
    let _ = writeln!(text, "{}.\n", bench.versions);
    text.push_str("| | wall s | rows/s | CPU s | of it the tool | peak MiB |\n|---|---|---|---|---|---|\n");
    for (name, costs) in results {
        let counted: Vec<&Cost> = costs.iter().filter(|cost| cost.failure.is_none()).collect();
        let spread = |figure: fn(&Cost) -> f64| Spread::of(counted.iter().map(|cost| figure(cost)));
        let Some(wall) = spread(|cost| cost.wall.as_secs_f64()) else {
            let why = costs.iter().find_map(|cost| cost.failure.as_deref());
            let why: String = why.unwrap_or("left out").chars().take(200).collect();
            let _ = writeln!(text, "| {name} | – ({}) | | | | |", why.replace(['\n', '|'], " "));
            continue;
        };
        let show = |spread: Option<Spread>| spread.map_or_else(String::new, |spread| spread.text(2));
        let peak = counted.iter().filter_map(|cost| cost.peak).max();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} |",
            wall.text(2),
            grouped((rows as f64 / wall.median) as u64),
            show(spread(Cost::cpu)),
            show(spread(|cost| cost.client)),
            peak.map_or_else(String::new, |kib| kib.div_ceil(1024).to_string()),
        );
    }
    if !bars.is_empty() {
        text.push_str("\n| bar | wanted | measured | |\n|---|---|---|---|\n");
    }
    for bar in bars {
        let verdict = match bar.held {
            Some(true) => "held",
            Some(false) => "missed",
            None => "–",
        };
        let _ = writeln!(text, "| {} | {} | {} | {verdict} |", bar.says, bar.wanted, bar.measured);
    }
    for note in notes {
        let _ = write!(text, "\n- {note}");
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    text
}

/// Whether others used the machine meanwhile.
fn company(results: &Results) -> String {
    let all = || results.iter().flat_map(|(_, costs)| costs);
    let walls: f64 = all().map(|cost| cost.wall.as_secs_f64()).sum();
    let share = all().map(|cost| cost.others).sum::<f64>() / (walls * machine::cores()).max(0.001);
    if share > 0.1 {
        format!(
            "Loaded machine: others used {:.0} % of its cores meanwhile.",
            share * 100.0
        )
    } else {
        format!("Quiet machine: others used {:.0} % of its cores.", share * 100.0)
    }
}

fn replaced(before: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let section = format!("{begin}{text}{end}");
    let before = if before.is_empty() { HEAD } else { before };
    match (before.find(&begin), before.find(&end)) {
        (Some(from), Some(to)) if from < to => format!("{}{section}{}", &before[..from], &before[to + end.len()..]),
        _ => format!("{before}\n{section}"),
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_itself_and_leaves_the_others() {
        let one = replaced("", "one", "first\n");
        let both = replaced(&one, "two", "second\n");
        let again = replaced(&both, "one", "third\n");
        assert_eq!(again, both.replace("first", "third"));
        assert!(again.starts_with(HEAD) && again.contains("second"));
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1_000, 2_000_000].map(grouped),
            ["0", "999", "1,000", "2,000,000"]
        );
    }
}
