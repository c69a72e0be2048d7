//! An experiment's report: header, tables, claims, and where its figures are.

use super::{Table, WIDTH, number};
use crate::experiment::report::{Cell, Claim, Holds, Report};
use crate::experiment::sweep::Header;

impl Cell {
    fn print(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Number(value) => number(*value),
            Cell::Count(count) => count.to_string(),
            Cell::Spread { mean, deviation } => format!("{} ±{}", number(*mean), number(*deviation)),
        }
    }
}

/// Everything that `report` says, as text.
pub fn render(header: &Header, report: &Report) -> String {
    let commit = header.commit.as_deref().unwrap_or("unknown");
    let mut text = format!("{}\nversion {}, commit {commit}\n", header.command, header.version);
    for machine in &header.machines {
        text += &format!("{machine}\n");
    }
    if header.quick {
        text += "the small size: it proves that the experiment works, and nothing else\n";
    }
    for note in &report.notes {
        text += &wrapped("note: ", note);
    }
    for table in &report.tables {
        let texts = |column: &usize| {
            let cells = table.rows.iter().filter_map(|row| row.get(*column));
            cells.into_iter().any(|cell| matches!(cell, Cell::Text(_)))
        };
        let left = (0..table.head.len()).take_while(texts).count();
        let mut printed = Table::new(left, &table.head);
        for row in &table.rows {
            printed.row(row.iter().map(Cell::print));
        }
        text += &format!("\n{}\n{}", table.title, printed.render());
    }
    for (number, claim) in report.claims.iter().enumerate() {
        text += &format!("\n{}", said(number + 1, claim));
    }
    if !report.figures.is_empty() {
        text.push('\n');
    }
    for figure in &report.figures {
        text += &wrapped(&format!("{}: ", figure.file()), &figure.caption);
    }
    text
}

fn said(number: usize, claim: &Claim) -> String {
    let verdict = match claim.holds {
        Holds::Yes => "holds",
        Holds::Partly => "holds in part",
        Holds::No => "does NOT hold",
    };
    let mut text = wrapped(&format!("claim {number}, {verdict}: "), &claim.claim);
    text += &wrapped("    found: ", &claim.found);
    if !claim.why.is_empty() {
        text += &wrapped("    why: ", &claim.why);
    }
    text
}

/// `lead` and `text` in lines of at most [`WIDTH`], indented from the second one on.
fn wrapped(lead: &str, text: &str) -> String {
    let mut lines = vec![lead.trim_end().to_string()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= WIDTH);
        match last {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(format!("    {word}")),
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::report;

    #[test]
    fn tables_claims_and_figures_are_said_within_the_width() {
        let header = Header {
            command: "metagd experiment x --quick".into(),
            version: "1".into(),
            commit: None,
            quick: true,
            machines: vec!["A".into(), "B".into()],
        };
        let mut table = report::Table::new("loss", ["learner", "after 10", "after 20"]);
        table.row([Cell::from("gd"), 1.5.into(), Cell::Spread { mean: 2.0, deviation: 0.25 }]);
        let claim = Claim {
            claim: "word ".repeat(40),
            found: "less".into(),
            holds: Holds::No,
            why: "because".into(),
        };
        let figure = report::Figure { name: "fig".into(), caption: "it".into(), ..Default::default() };
        let report = Report {
            notes: vec!["n".into()],
            tables: vec![table],
            figures: vec![figure],
            claims: vec![claim],
        };
        let text = render(&header, &report);
        assert!(
            text.starts_with("metagd experiment x --quick\nversion 1, commit unknown\nA\nB\nthe small"),
            "{text}"
        );
        let rows = "\nloss\nlearner  after 10     after 20\n------------------------------\n\
                    gd           1.50  2.00 ±0.250\n";
        assert!(text.contains(rows), "{text}");
        assert!(text.contains("\nclaim 1, does NOT hold: word"), "{text}");
        assert!(text.contains("\n    found: less\n    why: because\n\nfig.svg: it\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }
}
