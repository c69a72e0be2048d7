//! Figures as SVG: curves with bands, contour lines and shades, on linear and logarithmic axes.
//!
//! Contract: the same figure gives the same text. Colours differ in lightness, and every style has its own dashes and marker, so
//! that a print in black and white can be read. What cannot be drawn (not finite, not positive on a logarithmic axis)
//! is left out.

use std::ops::Range;

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::experiment::report::{Axis, Curve, Field, Figure, Panel};

/// A panel's size, and the height of a line of the legend. Coordinates are whole numbers, so there are many of them.
const PANEL: (u32, u32) = (1100, 800);
const LEGEND_LINE: u32 = 50;
const FONT: f64 = 30.0;
/// A letter's width, about, in sizes of the font.
const LETTER: f64 = 0.55;
const SAMPLE: i32 = 110;
/// How many markers a curve has, about.
const MARKERS: usize = 12;

struct Style {
    colour: RGBColor,
    /// Lengths drawn and left out in turns; empty: a solid line.
    dashes: &'static [f64],
    marker: Marker,
}

#[derive(Clone, Copy)]
enum Marker {
    Disc,
    Square,
    Triangle,
    Cross,
    Ring,
    Plus,
    Diamond,
}

/// Colours after Okabe and Ito, which the colour-blind can tell apart.
const STYLES: [Style; 8] = [
    Style { colour: RGBColor(0, 0, 0), dashes: &[], marker: Marker::Disc },
    Style { colour: RGBColor(213, 94, 0), dashes: &[], marker: Marker::Square },
    Style { colour: RGBColor(0, 114, 178), dashes: &[24.0, 10.0], marker: Marker::Triangle },
    Style { colour: RGBColor(0, 158, 115), dashes: &[8.0, 8.0], marker: Marker::Cross },
    Style { colour: RGBColor(204, 121, 167), dashes: &[26.0, 8.0, 6.0, 8.0], marker: Marker::Ring },
    Style { colour: RGBColor(86, 180, 233), dashes: &[40.0, 12.0], marker: Marker::Plus },
    Style { colour: RGBColor(230, 159, 0), dashes: &[14.0, 6.0], marker: Marker::Diamond },
    Style { colour: RGBColor(120, 120, 120), dashes: &[4.0, 6.0], marker: Marker::Square },
];

fn style(number: usize) -> &'static Style {
    &STYLES[number % STYLES.len()]
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Scale, Scale>>;

/// The figure as a file's text.
///
/// # Errors
/// If it is too small to hold its labels, which the sizes here exclude.
pub fn svg(figure: &Figure) -> anyhow::Result<String> {
    let columns = figure.columns.clamp(1, figure.panels.len().max(1));
    let rows = figure.panels.len().div_ceil(columns);
    let width = PANEL.0 * columns as u32;
    let entries = entries(figure);
    let longest = entries.iter().map(|entry| entry.label.chars().count()).max().unwrap_or(0);
    let cell = (SAMPLE + 50) as u32 + (longest as f64 * FONT * LETTER) as u32;
    let per_line = (width / cell.max(1)).max(1) as usize;
    let legend = LEGEND_LINE * entries.len().div_ceil(per_line) as u32;
    let height = PANEL.1 * rows as u32;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (width, height + legend + 20)).into_drawing_area();
        let drawn = || -> Drawn {
            root.fill(&WHITE)?;
            let (above, below) = root.split_vertically(height);
            for (panel, area) in figure.panels.iter().zip(above.split_evenly((rows, columns))) {
                draw(panel, &area)?;
            }
            for (n, entry) in entries.iter().enumerate() {
                let at = (n % per_line * cell as usize + 40, n / per_line * LEGEND_LINE as usize + 25);
                explain(entry, &below, (at.0 as i32, at.1 as i32))?;
            }
            root.present()
        };
        drawn().map_err(|error| anyhow::anyhow!("cannot draw {}: {error}", figure.file()))?;
    }
    Ok(text)
}

/// The curves that the legend names, each once.
fn entries(figure: &Figure) -> Vec<&Curve> {
    let mut entries: Vec<&Curve> = Vec::new();
    for curve in figure.panels.iter().flat_map(|panel| &panel.curves) {
        if !curve.label.is_empty() && entries.iter().all(|entry| entry.label != curve.label) {
            entries.push(curve);
        }
    }
    entries
}

fn explain(curve: &Curve, area: &Area<'_>, (x, y): (i32, i32)) -> Drawn {
    let style = style(curve.style);
    if !curve.scattered {
        for dash in dashes(&[(x, y), (x + SAMPLE, y)], style.dashes) {
            area.draw(&PathElement::new(dash, style.colour.stroke_width(4)))?;
        }
    }
    mark(style, (x + SAMPLE / 2, y), area)?;
    let anchored = font(FONT).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(curve.label.clone(), (x + SAMPLE + 15, y), anchored))
}

fn font(size: f64) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}

/// An axis that plotters can draw on.
#[derive(Clone, Debug)]
struct Scale {
    log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    /// From the axis, or else from the data.
    fn new(axis: &Axis, data: impl Iterator<Item = f64>) -> Scale {
        // What is beyond would leave no room for the axis in double precision.
        let usable = data.filter(|value| value.abs() < 1e290 && (!axis.log || *value > 1e-290));
        let (least, greatest) =
            usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, g), value| (l.min(value), g.max(value)));
        let (from, to) = axis.range.unwrap_or((least, greatest));
        let mut scale = Scale { log: axis.log, from, to };
        if from.abs().max(to.abs()) > 1e300 || from.is_nan() || to.is_nan() || (axis.log && from <= 0.0) {
            (scale.from, scale.to) = if axis.log { (0.1, 1.0) } else { (0.0, 1.0) };
        } else if from >= to {
            (scale.from, scale.to) =
                if axis.log { (from / 2.0, from * 2.0) } else { (from - 0.5, from + 0.5) };
        } else if axis.range.is_none() {
            let (low, high) = (scale.at(from), scale.at(to));
            let room = 0.03 * (high - low);
            let back = |value: f64| if axis.log { value.exp() } else { value };
            (scale.from, scale.to) = (back(low - room), back(high + room));
        }
        scale
    }

    /// The value on the axis drawn, which is even.
    fn at(&self, value: f64) -> f64 {
        if self.log { value.ln() } else { value }
    }

    fn holds(&self, value: f64) -> bool {
        value.is_finite() && (!self.log || value > 0.0)
    }

    fn share(&self, value: f64) -> f64 {
        (self.at(value) - self.at(self.from)) / (self.at(self.to) - self.at(self.from))
    }

    /// Where the axis has numbers: at most `count`.
    fn ticks(&self, count: usize) -> Vec<f64> {
        let count = count.max(2) as f64;
        let within = |value: &f64| (-1e-9..=1.0 + 1e-9).contains(&self.share(*value));
        if self.log {
            let decades = self.to.log10() - self.from.log10();
            let (first, last) = (self.from.log10().floor() as i32, self.to.log10().ceil() as i32);
            let every = (decades / count).ceil().max(1.0) as i32;
            let steps: &[f64] = if decades < 1.0 {
                &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
            } else if decades < 3.0 {
                &[1.0, 2.0, 5.0]
            } else {
                &[1.0]
            };
            let exponents = (first..=last).filter(|exponent| exponent.rem_euclid(every) == 0);
            exponents
                .flat_map(|exponent| steps.iter().map(move |step| step * 10f64.powi(exponent)))
                .filter(within)
                .collect()
        } else {
            let rough = (self.to - self.from) / count;
            let decade = 10f64.powf(rough.log10().floor());
            let step = [1.0, 2.0, 5.0, 10.0].map(|s| s * decade);
            let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
            let (first, last) = ((self.from / step).floor() as i64, (self.to / step).ceil() as i64);
            (first..=last).map(|n| n as f64 * step).filter(within).collect()
        }
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        // Far outside is as good as just outside, and within what plotters can count.
        let share = self.share(*value).clamp(-2.0, 3.0);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        self.ticks(hint.max_num_points().min(8))
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        let magnitude = value.abs();
        if magnitude < 1e-12 * (self.to - self.from).abs() {
            "0".into()
        } else if (1e-3..1e5).contains(&magnitude) {
            // Without what the last digits of a sum leave.
            format!("{}", (value * 1e6).round() / 1e6)
        } else {
            format!("{value:.1e}").replace(".0e", "e")
        }
    }
}

fn draw(panel: &Panel, area: &Area<'_>) -> Drawn {
    let on = |axis: usize| {
        let curves = panel.curves.iter();
        let points = curves.flat_map(move |curve| curve.points.iter().map(move |point| point[axis]));
        let bands = panel.curves.iter().flat_map(|curve| curve.band.iter().flatten().copied());
        let field = panel.field.iter().flat_map(move |field| {
            let (from, to) = if axis == 0 { field.x } else { field.y };
            [from, to]
        });
        points.chain(bands.filter(move |_| axis == 1)).chain(field)
    };
    let (x, y) = (Scale::new(&panel.x, on(0)), Scale::new(&panel.y, on(1)));
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, font(FONT * 1.15))
        .margin(24)
        .margin_right(36)
        .x_label_area_size(85)
        .y_label_area_size(130)
        .build_cartesian_2d(x.clone(), y.clone())?;
    if let Some(field) = &panel.field {
        shade(field, &mut chart)?;
    }
    chart
        .configure_mesh()
        .x_desc(&panel.x.label)
        .y_desc(&panel.y.label)
        .label_style(font(FONT * 0.9))
        .axis_desc_style(font(FONT))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .draw()?;
    if let Some(field) = &panel.field {
        contours(field, &mut chart)?;
    }
    for curve in &panel.curves {
        band(curve, &x, &y, &mut chart)?;
    }
    for curve in &panel.curves {
        line(curve, &x, &y, &mut chart)?;
    }
    Ok(())
}

/// The plotting area in its own pixels, where it begins, and its size.
fn pixels<'b>(chart: &Chart<'_, 'b>) -> (Area<'b>, (i32, i32), (i32, i32)) {
    let area = chart.plotting_area();
    let (width, height) = area.dim_in_pixel();
    (area.strip_coord_spec(), area.get_base_pixel(), (width as i32, height as i32))
}

/// Runs of points that can be drawn.
fn pieces<'a>(points: &'a [[f64; 2]], x: &Scale, y: &Scale) -> Vec<&'a [[f64; 2]]> {
    points.split(|point| !x.holds(point[0]) || !y.holds(point[1])).filter(|piece| !piece.is_empty()).collect()
}

fn band(curve: &Curve, x: &Scale, y: &Scale, chart: &mut Chart<'_, '_>) -> Drawn {
    let floor = |value: f64| if y.log && value <= 0.0 { y.from } else { value };
    let at: Vec<_> =
        curve.points.iter().zip(&curve.band).map(|(point, band)| (point[0], band.map(floor))).collect();
    let usable = |(at, band): &(f64, [f64; 2])| !x.holds(*at) || band.iter().any(|end| !y.holds(*end));
    for piece in at.split(usable).filter(|piece| piece.len() > 1) {
        let upper = piece.iter().map(|(x, band)| (*x, band[1]));
        let outline: Vec<_> = piece.iter().map(|(x, band)| (*x, band[0])).chain(upper.rev()).collect();
        chart.draw_series([Polygon::new(outline, style(curve.style).colour.mix(0.16).filled())])?;
    }
    Ok(())
}

fn line(curve: &Curve, x: &Scale, y: &Scale, chart: &mut Chart<'_, '_>) -> Drawn {
    let style = style(curve.style);
    let (area, (left, top), size) = pixels(chart);
    let pixel = |point: &[f64; 2]| {
        let (px, py) = chart.plotting_area().map_coordinate(&(point[0], point[1]));
        (px - left, py - top)
    };
    let seen = |&(px, py): &(i32, i32)| (0..=size.0).contains(&px) && (0..=size.1).contains(&py);
    for piece in pieces(&curve.points, x, y) {
        let mut path: Vec<(i32, i32)> = piece.iter().map(pixel).collect();
        path.dedup();
        if curve.scattered {
            for at in path.into_iter().filter(seen) {
                mark(style, at, &area)?;
            }
            continue;
        }
        for part in clipped(&path, size) {
            for dash in dashes(&part, style.dashes) {
                area.draw(&PathElement::new(dash, style.colour.stroke_width(4)))?;
            }
        }
        // At other places than its neighbours' markers.
        let every = path.len().div_ceil(MARKERS).max(1);
        let first = (curve.style * every / STYLES.len()).min(path.len() - 1);
        for at in path.iter().skip(first).step_by(every).filter(|at| seen(at)) {
            mark(style, *at, &area)?;
        }
    }
    Ok(())
}

/// What of a path lies within (0, 0) and `size`.
fn clipped(path: &[(i32, i32)], size: (i32, i32)) -> Vec<Vec<(i32, i32)>> {
    let mut parts: Vec<Vec<(i32, i32)>> = Vec::new();
    for ends in path.windows(2) {
        let (a, b) =
            ((f64::from(ends[0].0), f64::from(ends[0].1)), (f64::from(ends[1].0), f64::from(ends[1].1)));
        let (mut from, mut to) = (0.0f64, 1.0f64);
        for (start, end, limit) in [(a.0, b.0, size.0), (a.1, b.1, size.1)] {
            let way = end - start;
            if way == 0.0 {
                if !(0.0..=f64::from(limit)).contains(&start) {
                    to = -1.0;
                }
                continue;
            }
            let (near, far) = ((0.0 - start) / way, (f64::from(limit) - start) / way);
            from = from.max(near.min(far));
            to = to.min(near.max(far));
        }
        if from > to {
            continue;
        }
        let at = |t: f64| ((a.0 + t * (b.0 - a.0)).round() as i32, (a.1 + t * (b.1 - a.1)).round() as i32);
        let (start, end) = (at(from), at(to));
        match parts.last_mut() {
            Some(part) if part.last() == Some(&start) => part.push(end),
            _ => parts.push(vec![start, end]),
        }
    }
    parts
}

/// A path cut into `pattern`'s lengths, of which every second is left out.
fn dashes(path: &[(i32, i32)], pattern: &[f64]) -> Vec<Vec<(i32, i32)>> {
    if pattern.is_empty() {
        return vec![path.to_vec()];
    }
    let (mut done, mut dash) = (Vec::new(), path.first().map(|start| vec![*start]).unwrap_or_default());
    let (mut at, mut left) = (0, pattern[0]);
    for ends in path.windows(2) {
        let (a, b) =
            ((f64::from(ends[0].0), f64::from(ends[0].1)), (f64::from(ends[1].0), f64::from(ends[1].1)));
        let length = (b.0 - a.0).hypot(b.1 - a.1);
        let mut gone = 0.0;
        while length - gone > left {
            gone += left;
            let point = (
                (a.0 + gone / length * (b.0 - a.0)).round() as i32,
                (a.1 + gone / length * (b.1 - a.1)).round() as i32,
            );
            if at % 2 == 0 {
                dash.push(point);
                done.push(std::mem::take(&mut dash));
            } else {
                dash = vec![point];
            }
            at = (at + 1) % pattern.len();
            left = pattern[at].max(1.0);
        }
        left -= length - gone;
        if at % 2 == 0 {
            dash.push(ends[1]);
        }
    }
    done.extend((dash.len() > 1).then_some(dash));
    done
}

fn mark(style: &Style, (x, y): (i32, i32), area: &Area<'_>) -> Drawn {
    const R: i32 = 8;
    let (filled, stroke) = (style.colour.filled(), style.colour.stroke_width(4));
    let path = |points: &[(i32, i32)]| {
        let points: Vec<_> = points.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        area.draw(&PathElement::new(points, stroke))
    };
    let polygon = |points: &[(i32, i32)]| {
        let points: Vec<_> = points.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        area.draw(&Polygon::new(points, filled))
    };
    match style.marker {
        Marker::Disc => area.draw(&Circle::new((x, y), R, filled)),
        Marker::Ring => {
            area.draw(&Circle::new((x, y), R, WHITE.filled()))?;
            area.draw(&Circle::new((x, y), R, stroke))
        }
        Marker::Square => polygon(&[(-R, -R), (R, -R), (R, R), (-R, R)]),
        Marker::Triangle => polygon(&[(0, -R - 2), (R + 2, R), (-R - 2, R)]),
        Marker::Diamond => polygon(&[(0, -R - 3), (R + 3, 0), (0, R + 3), (-R - 3, 0)]),
        Marker::Cross => {
            path(&[(-R, -R), (R, R)])?;
            path(&[(-R, R), (R, -R)])
        }
        Marker::Plus => {
            path(&[(-R - 2, 0), (R + 2, 0)])?;
            path(&[(0, -R - 2), (0, R + 2)])
        }
    }
}

/// Shades from white (least) to grey (greatest), in sixteen steps.
fn shade(field: &Field, chart: &mut Chart<'_, '_>) -> Drawn {
    let usable = || field.values.iter().flatten().filter(|value| value.is_finite());
    let (least, greatest) =
        usable().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, g), v| (l.min(*v), g.max(*v)));
    let (rows, columns) = (field.values.len(), field.values.first().map_or(0, Vec::len));
    if !field.shaded || rows < 2 || columns < 2 || least >= greatest {
        return Ok(());
    }
    let step = |(from, to): (f64, f64), count: usize| (to - from) / (count - 1) as f64;
    let (dx, dy) = (step(field.x, columns), step(field.y, rows));
    let grey = |value: f64| {
        let share = (value - least) / (greatest - least);
        value.is_finite().then(|| 255 - 6 * (15.0 * share).round() as u8)
    };
    let (area, (left, top), (width, height)) = pixels(chart);
    let pixel = |x: f64, y: f64| {
        let (px, py) = chart.plotting_area().map_coordinate(&(x, y));
        ((px - left).clamp(0, width), (py - top).clamp(0, height))
    };
    for (r, row) in field.values.iter().enumerate() {
        let y = field.y.0 + (r as f64 - 0.5) * dy;
        let mut from = 0;
        for alike in row[..columns.min(row.len())].chunk_by(|a, b| grey(*a) == grey(*b)) {
            let to = from + alike.len();
            let [start, end] = [from, to].map(|c| field.x.0 + (c as f64 - 0.5) * dx);
            from = to;
            let Some(grey) = grey(alike[0]) else { continue };
            // A pixel more, so that no seam is left between neighbours.
            let ((x0, y0), (x1, y1)) = (pixel(start, y + dy), pixel(end, y));
            let corners = [(x0, y0), ((x1 + 1).min(width), (y1 + 1).min(height))];
            area.draw(&Rectangle::new(corners, RGBColor(grey, grey, grey).filled()))?;
        }
    }
    Ok(())
}

fn contours(field: &Field, chart: &mut Chart<'_, '_>) -> Drawn {
    for level in &field.levels {
        let segments = contour(field, *level).into_iter();
        let lines = segments.map(|[a, b]| PathElement::new(vec![a, b], BLACK.mix(0.45).stroke_width(2)));
        chart.draw_series(lines)?;
    }
    Ok(())
}

/// The segments along which a field has the value `level`: each cell's four triangles around its centre, in which the field is
/// taken as linear.
fn contour(field: &Field, level: f64) -> Vec<[(f64, f64); 2]> {
    let (rows, columns) = (field.values.len(), field.values.iter().map(Vec::len).min().unwrap_or(0));
    let place = |r: f64, c: f64| {
        let share = |n: f64, count: usize| n / (count - 1) as f64;
        (
            field.x.0 + (field.x.1 - field.x.0) * share(c, columns),
            field.y.0 + (field.y.1 - field.y.0) * share(r, rows),
        )
    };
    let mut segments = Vec::new();
    for r in 0..rows.saturating_sub(1) {
        for c in 0..columns.saturating_sub(1) {
            let corner = |dr: usize, dc: usize| {
                (place((r + dr) as f64, (c + dc) as f64), field.values[r + dr][c + dc])
            };
            let corners = [corner(0, 0), corner(0, 1), corner(1, 1), corner(1, 0)];
            let middle = corners.iter().map(|(_, value)| value).sum::<f64>() / 4.0;
            let centre = (place(r as f64 + 0.5, c as f64 + 0.5), middle);
            for side in 0..4 {
                let triangle = [corners[side], corners[(side + 1) % 4], centre];
                let mut ends = (0..3).filter_map(|n| {
                    let ((a, u), (b, v)) = (triangle[n], triangle[(n + 1) % 3]);
                    ((u < level) != (v < level)).then(|| {
                        let t = (level - u) / (v - u);
                        (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1))
                    })
                });
                if let (Some(start), Some(end)) = (ends.next(), ends.next()) {
                    segments.push([start, end]);
                }
            }
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(log: bool, from: f64, to: f64) -> Scale {
        Scale { log, from, to }
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(scale(false, 0.0, 50.0).ticks(5), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(scale(false, -0.3, 0.9).ticks(6), [-0.2, 0.0, 0.2, 0.4, 0.6000000000000001, 0.8]);
        assert_eq!(scale(true, 0.5, 2e4).ticks(8), [1.0, 10.0, 100.0, 1000.0, 10000.0]);
        assert_eq!(scale(true, 1e-8, 1e8).ticks(4), [1e-8, 1e-4, 1.0, 1e4, 1e8]);
        assert_eq!(scale(true, 0.9, 6.0).ticks(8), [0.9, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(scale(false, -0.3, 0.9).format_ext(&0.6000000000000001), "0.6");
        assert_eq!(scale(true, 1e-8, 1e8).format_ext(&1e-4), "1e-4");
    }

    #[test]
    fn an_axis_reaches_over_its_data_and_no_data_is_an_axis_all_the_same() {
        let auto =
            |log: bool, data: &[f64]| Scale::new(&Axis { log, ..Axis::default() }, data.iter().copied());
        let scale = auto(false, &[1.0, f64::NAN, 11.0, f64::INFINITY]);
        assert!((scale.from - 0.7).abs() < 1e-12 && (scale.to - 11.3).abs() < 1e-12, "{scale:?}");
        let scale = auto(true, &[-1.0, 0.0, 1.0, 100.0]);
        assert!(scale.from > 0.8 && scale.from < 1.0 && scale.to > 100.0, "{scale:?}");
        for (log, data) in [
            (true, vec![1e300, f64::MAX]),
            (false, vec![-1e289, 1e289]),
            (false, vec![]),
            (true, vec![-1.0]),
            (true, vec![3.0]),
            (false, vec![2.0, 2.0]),
        ] {
            let scale = auto(log, &data);
            assert!(scale.from < scale.to && scale.share(scale.from) == 0.0, "{scale:?}");
        }
    }

    #[test]
    fn a_circle_is_found_again_by_its_contour() {
        let field = Field::of((-2.0, 2.0), (-2.0, 2.0), (41, 41), |x, y| x * x + y * y);
        let segments = contour(&field, 1.0);
        let length: f64 = segments.iter().map(|[a, b]| (a.0 - b.0).hypot(a.1 - b.1)).sum();
        assert!((length - std::f64::consts::TAU).abs() < 0.02, "{length}");
        assert!(segments.iter().flatten().all(|(x, y)| (x.hypot(*y) - 1.0).abs() < 0.01));
        assert!(contour(&field, 9.0).is_empty());
    }

    #[test]
    fn dashes_keep_their_lengths_around_corners() {
        let path = [(0, 0), (10, 0), (10, 10)];
        assert_eq!(dashes(&path, &[]), [path.to_vec()]);
        let cut = dashes(&path, &[6.0, 2.0]);
        assert_eq!(cut, [vec![(0, 0), (6, 0)], vec![(8, 0), (10, 0), (10, 4)], vec![(10, 6), (10, 10)]]);
    }

    #[test]
    fn a_path_is_cut_at_the_edges() {
        let parts = clipped(&[(-10, 5), (5, 5), (5, 50), (8, 50), (8, 2)], (10, 10));
        assert_eq!(parts, [vec![(0, 5), (5, 5), (5, 10)], vec![(8, 10), (8, 2)]]);
    }

    #[test]
    fn a_figure_is_drawn_whatever_is_in_it() {
        let curve = |label: &str, style, y: &[f64]| Curve::over_steps(label, style, y);
        let mut banded = curve("with <band>", 1, &[1.0, 10.0, f64::NAN, 5.0, 1e300]);
        banded.band = banded.points.iter().map(|point| [point[1] - 2.0, point[1] + 2.0]).collect();
        let mut field = Field::of((0.0, 4.0), (1e-3, 1e3), (5, 5), |x, y| x * y);
        (field.shaded, field.levels) = (true, vec![1.0, 10.0]);
        let curves: Vec<Curve> = (2..10).map(|n| curve("many", n, &[0.0, -1.0, n as f64])).collect();
        let scattered = Curve { scattered: true, ..curve("dots", 3, &[1.0, 2.0, 3.0]) };
        let figure = Figure {
            name: "f".into(),
            caption: String::new(),
            columns: 2,
            panels: vec![
                Panel {
                    x: Axis::linear("x"),
                    y: Axis::log("y [Nm]"),
                    curves: vec![banded],
                    ..Panel::default()
                },
                Panel { field: Some(field), curves, ..Panel::default() },
                Panel { curves: vec![scattered], ..Panel::default() },
                Panel::default(),
            ],
        };
        let text = svg(&figure).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        for word in ["with &lt;band&gt;", "y [Nm]", "many", "dots"] {
            assert!(text.contains(word), "{word}");
        }
        assert_eq!(text.matches("many").count(), 1);
        assert!(!text.contains("NaN") && !text.contains("inf"));
        assert_eq!(svg(&figure).unwrap(), text);
        assert!(svg(&Figure::default()).is_ok());
    }
}
