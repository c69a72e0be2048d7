//! What an experiment comes to: tables, figures, and what of the paper's claims holds. Data only; `report` prints and draws it.
//!
//! Contract: plain values, the same for the same outcomes to the last bit.

use serde::{Serialize, Serializer};

/// Everything that an experiment says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What a reader of the figures should know: settings, what the paper leaves open, what was left out.
    pub notes: Vec<String>,
    /// In the order in which they are printed.
    pub tables: Vec<Table>,
    /// Each becomes a file of its own.
    pub figures: Vec<Figure>,
    /// The paper's claims beside what came out.
    pub claims: Vec<Claim>,
}

/// Rows under a heading.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// What is shown, with its unit.
    pub title: String,
    /// The columns' names.
    pub head: Vec<String>,
    /// One cell for each column.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new<H: ToString>(title: impl Into<String>, head: impl IntoIterator<Item = H>) -> Table {
        let head = head.into_iter().map(|name| name.to_string()).collect();
        Table { title: title.into(), head, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// Left-aligned.
    Text(String),
    /// Printed with three significant digits; not a number: a dash.
    Number(f64),
    /// Printed in full.
    Count(u64),
    /// A mean and how far single values are from it.
    Spread {
        /// The mean.
        mean: f64,
        /// Standard deviation.
        deviation: f64,
    },
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_string())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Cell {
        Cell::Number(value)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Cell {
        Cell::Count(count)
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Cell {
        Cell::Count(count as u64)
    }
}

impl Cell {
    /// Mean and standard deviation (of the sample) of `values`; of one value, that value.
    pub fn spread(values: &[f64]) -> Cell {
        let (mean, deviation) = mean_and_deviation(values);
        if values.len() < 2 { Cell::Number(mean) } else { Cell::Spread { mean, deviation } }
    }
}

/// Mean and standard deviation of a sample; NaN where there are not enough values.
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, if values.len() < 2 { f64::NAN } else { (squares / (count - 1.0)).sqrt() })
}

/// Whether a claim holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// As claimed.
    Yes,
    /// In part; `why` says in which.
    Partly,
    /// Not so.
    No,
}

impl Holds {
    /// Yes if it is so, else no.
    pub fn so(it_is: bool) -> Holds {
        if it_is { Holds::Yes } else { Holds::No }
    }

    /// Yes if all are so, no if none is.
    pub fn of(all: &[bool]) -> Holds {
        match all.iter().filter(|it_is| **it_is).count() {
            0 => Holds::No,
            count if count == all.len() => Holds::Yes,
            _ => Holds::Partly,
        }
    }
}

/// One claim beside what came out.
#[derive(Clone, Debug, Serialize)]
pub struct Claim {
    /// What is claimed, and where.
    pub claim: String,
    /// What we got.
    pub found: String,
    /// Whether it holds.
    pub holds: Holds,
    /// Why the two differ; empty if they do not.
    pub why: String,
}

/// A drawing of one or more panels, which share a legend. In JSON it is its file's name and caption; the curves are in the
/// runs' outcomes.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    /// Name of the file, without `.svg`.
    pub name: String,
    /// What it shows.
    pub caption: String,
    /// How many panels stand beside each other.
    pub columns: usize,
    /// Row by row.
    pub panels: Vec<Panel>,
}

impl Figure {
    /// Name of its file.
    pub fn file(&self) -> String {
        format!("{}.svg", self.name)
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named<'a> {
            file: String,
            caption: &'a str,
        }
        Named { file: self.file(), caption: &self.caption }.serialize(serializer)
    }
}

/// One pair of axes and what is drawn on it.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// Above the axes.
    pub title: String,
    /// Horizontal.
    pub x: Axis,
    /// Vertical.
    pub y: Axis,
    /// Behind the curves.
    pub field: Option<Field>,
    /// In the order in which they are drawn.
    pub curves: Vec<Curve>,
}

/// An axis.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    /// Logarithmic: what is not positive is not drawn.
    pub log: bool,
    /// From where to where; as far as the data go without it.
    pub range: Option<(f64, f64)>,
}

impl Axis {
    /// A linear axis as far as the data go.
    pub fn linear(label: impl Into<String>) -> Axis {
        Axis { label: label.into(), log: false, range: None }
    }

    /// A logarithmic axis as far as the data go.
    pub fn log(label: impl Into<String>) -> Axis {
        Axis { label: label.into(), log: true, range: None }
    }

    /// From where to where.
    pub fn within(self, from: f64, to: f64) -> Axis {
        Axis { range: Some((from, to)), ..self }
    }
}

/// A line through points, with a band around it if there is one.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// Its name in the legend; curves of the same name should have the same style. Empty: not in the legend.
    pub label: String,
    /// Colour, dashes and marker, which tell it apart in black and white too: 0, 1, 2, ...
    pub style: usize,
    /// x and y; points that are not finite interrupt the line.
    pub points: Vec<[f64; 2]>,
    /// Lower and upper end of the band at every point; empty: none.
    pub band: Vec<[f64; 2]>,
    /// Points alone, without a line.
    pub scattered: bool,
}

impl Curve {
    /// A line of `y` over 0, 1, 2, ...
    pub fn over_steps(label: impl Into<String>, style: usize, y: &[f64]) -> Curve {
        let points = y.iter().enumerate().map(|(n, y)| [n as f64, *y]).collect();
        Curve { label: label.into(), style, points, ..Curve::default() }
    }

    /// The mean of several lines over the same `x`, with a band from the least to the greatest.
    pub fn mean_of(label: impl Into<String>, style: usize, x: &[f64], lines: &[&[f64]]) -> Curve {
        let mut curve = Curve { label: label.into(), style, ..Curve::default() };
        for (n, x) in x.iter().enumerate() {
            let at: Vec<f64> = lines.iter().filter_map(|line| line.get(n).copied()).collect();
            curve.points.push([*x, at.iter().sum::<f64>() / at.len() as f64]);
            let (low, high) =
                at.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), y| (l.min(*y), h.max(*y)));
            curve.band.push([low, high]);
        }
        if lines.len() < 2 {
            curve.band.clear();
        }
        curve
    }
}

/// A function of two variables on a regular grid, drawn in shades (light is low) or as contour lines, or both.
#[derive(Clone, Debug, Default)]
pub struct Field {
    /// From where to where the grid's columns go, both included.
    pub x: (f64, f64),
    /// From where to where the grid's rows go, both included.
    pub y: (f64, f64),
    /// `[row][column]`, the first row at the least y.
    pub values: Vec<Vec<f64>>,
    /// Whether it is shaded.
    pub shaded: bool,
    /// Values whose contour lines are drawn.
    pub levels: Vec<f64>,
}

impl Field {
    /// `f` on a grid of `size` columns and rows.
    pub fn of(x: (f64, f64), y: (f64, f64), size: (usize, usize), f: impl Fn(f64, f64) -> f64) -> Field {
        let at = |(from, to): (f64, f64), n: usize, count: usize| {
            from + (to - from) * n as f64 / count.saturating_sub(1).max(1) as f64
        };
        let row = |r| (0..size.0).map(|c| f(at(x, c, size.0), at(y, r, size.1))).collect();
        Field { x, y, values: (0..size.1).map(row).collect(), shaded: false, levels: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_of_several_parts_holds_partly() {
        assert_eq!(Holds::of(&[true, true]), Holds::Yes);
        assert_eq!(Holds::of(&[true, false]), Holds::Partly);
        assert_eq!(Holds::of(&[false, false]), Holds::No);
    }

    #[test]
    fn the_mean_of_lines_has_a_band_around_it_if_there_are_several() {
        let curve = Curve::mean_of("a", 0, &[0.0, 1.0], &[&[1.0, 2.0], &[3.0, 6.0]]);
        assert_eq!(curve.points, [[0.0, 2.0], [1.0, 4.0]]);
        assert_eq!(curve.band, [[1.0, 3.0], [2.0, 6.0]]);
        assert_eq!(Curve::mean_of("a", 0, &[0.0], &[&[1.0]]).band, Vec::<[f64; 2]>::new());
    }

    #[test]
    fn a_grid_reaches_both_ends() {
        let field = Field::of((0.0, 2.0), (1.0, 5.0), (3, 2), |x, y| 10.0 * x + y);
        assert_eq!(field.values, [[1.0, 11.0, 21.0], [5.0, 15.0, 25.0]]);
    }

    #[test]
    fn one_value_has_no_spread() {
        assert_eq!(Cell::spread(&[2.0]), Cell::Number(2.0));
        assert_eq!(Cell::spread(&[1.0, 3.0]), Cell::Spread { mean: 2.0, deviation: 2.0f64.sqrt() });
    }
}
