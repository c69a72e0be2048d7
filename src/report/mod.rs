//! What a person reads: plain-text tables, figures, and the format of numbers.
//!
//! Contract: called by commands once their figures are complete, never from the pinned thread; allocates freely.
//! Everything is returned as text; only the commands print it.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, TableStyle};

pub mod findings;
pub mod latency;
pub mod plot;
pub mod scores;

/// The width, in columns of a terminal, in which every table must stay readable.
pub const WIDTH: usize = 100;

/// A plain-text table: aligned columns, one rule under the header.
pub struct Table {
    inner: comfy_table::Table,
    left: usize,
}

impl Table {
    /// A table whose first `left` columns are texts (aligned left) and whose others are numbers (aligned right).
    pub fn new<H: AsRef<str>>(left: usize, header: &[H]) -> Table {
        let mut inner = comfy_table::Table::new();
        inner.load_style(TableStyle::new().header_separator(LineStyle::none().fill('-').junction('-')));
        inner.set_header(header.iter().map(|cell| cell.as_ref().to_string()));
        Table { inner, left }
    }

    /// Adds a row; a line feed in a cell starts a new line within it.
    pub fn row<C: ToString>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.inner.add_row(cells.into_iter().map(|cell| cell.to_string()));
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// The table as lines without trailing blanks. Texts are wrapped at [`WIDTH`], numbers never are.
    pub fn render(mut self) -> String {
        let last = self.inner.column_iter().count().saturating_sub(1);
        for (index, column) in self.inner.column_iter_mut().enumerate() {
            let right = u16::from(index != last); // plus the one blank that comfy-table puts between columns
            column.set_padding((0, right));
            column.set_cell_alignment(if index < self.left {
                CellAlignment::Left
            } else {
                CellAlignment::Right
            });
        }
        if self.left > last {
            self.inner.set_content_arrangement(ContentArrangement::Dynamic);
            self.inner.set_width(WIDTH as u16);
        }
        let mut text = String::new();
        for line in self.inner.to_string().lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Three significant digits, without an exponent between 0.001 and 100,000; `-` for what is not a number.
///
/// ```
/// assert_eq!(metagd::report::number(0.012345), "0.0123");
/// assert_eq!(metagd::report::number(1234.5), "1234");
/// assert_eq!(metagd::report::number(1.5e-6), "1.50e-6");
/// assert_eq!(metagd::report::number(f64::NAN), "-");
/// ```
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        "-".into()
    } else if value.is_infinite() {
        if value > 0.0 { "inf".into() } else { "-inf".into() }
    } else if magnitude == 0.0 {
        "0".into()
    } else if !(0.001..99_999.5).contains(&magnitude) {
        format!("{value:.2e}")
    } else {
        let digits = 2 - magnitude.log10().floor() as i32;
        format!("{value:.*}", digits.max(0) as usize)
    }
}

/// Names without what all of them begin and end with: `lwr_a1_joint, lwr_e1_joint` become `a1, e1`.
///
/// Cuts only beside an underscore, a slash, a dot or a dash, and never leaves a name empty; one name alone is kept whole.
pub fn short_names(names: &[String]) -> Vec<String> {
    let Some((first, others)) = names.split_first().filter(|(_, others)| !others.is_empty()) else {
        return names.to_vec();
    };
    let separator = |byte: u8| matches!(byte, b'_' | b'/' | b'.' | b'-');
    let common = |pairs: &dyn Fn(&str, usize) -> Option<u8>| {
        let mut cut = 0;
        for n in 0..first.len() {
            let Some(byte) = pairs(first, n) else { break };
            if others.iter().any(|other| pairs(other, n) != Some(byte)) {
                break;
            }
            if separator(byte) {
                cut = n + 1;
            }
        }
        cut
    };
    let front = common(&|name, n| name.as_bytes().get(n).copied());
    let back = common(&|name, n| name.len().checked_sub(n + 1).map(|at| name.as_bytes()[at]));
    let shortened: Vec<_> = names
        .iter()
        .map(|name| name.get(front..name.len().saturating_sub(back)).unwrap_or_default().to_string())
        .collect();
    if shortened.iter().any(String::is_empty) { names.to_vec() } else { shortened }
}

/// The error and its causes in one line, without the causes that it names itself.
pub fn described(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_cause_is_said_once() {
        let cause = || std::io::Error::other("disk full");
        let told = anyhow::Error::new(cause()).context("cannot save: disk full");
        assert_eq!(super::described(&told), "cannot save: disk full");
        let untold = anyhow::Error::new(cause()).context("cannot save");
        assert_eq!(super::described(&untold), "cannot save: disk full");
    }

    #[test]
    fn numbers_keep_three_significant_digits() {
        let cases = [
            (0.0, "0"),
            (1.0, "1.00"),
            (-0.5, "-0.500"),
            (24.44, "24.4"),
            (99_999.0, "99999"),
            (123_456.0, "1.23e5"),
            (0.0009, "9.00e-4"),
            (f64::INFINITY, "inf"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn common_beginnings_and_ends_of_names_are_left_out() {
        assert_eq!(short_names(&names(&["lwr_a1_joint", "lwr_e1_joint"])), ["a1", "e1"]);
        assert_eq!(short_names(&names(&["joint_a1", "joint_a2"])), ["a1", "a2"]);
        assert_eq!(short_names(&names(&["q1", "q2"])), ["q1", "q2"]);
        assert_eq!(short_names(&names(&["arm_joint"])), ["arm_joint"]);
        assert_eq!(short_names(&names(&["a_joint", "a_b_joint"])), ["a_joint", "a_b_joint"]);
    }

    #[test]
    fn texts_stand_left_numbers_right_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(1, &["learner", "J1", "J2"]);
        table.row(["gd", "1.00", "-"]);
        table.row(["rigid-body", "0.5", "12345"]);
        let text = table.render();
        assert_eq!(
            text,
            "learner       J1     J2\n-----------------------\ngd          1.00      -\nrigid-body   0.5  12345\n"
        );
    }

    #[test]
    fn long_texts_wrap_within_the_width() {
        let mut table = Table::new(2, &["what", "found"]);
        table.row(["clock".to_string(), "word ".repeat(60)]);
        assert!(table.render().lines().all(|line| line.chars().count() <= WIDTH));
    }
}
