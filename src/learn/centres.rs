//! Where the local models of a memory sit, and how strongly each answers to a gradient.
//!
//! Contract: built at start-up, which allocates; the kernels read it from the pinned thread.

use std::ops::Range;

use super::Real;
use super::kernel::{LANES, Lanes, blocks_for};
use super::memory::{MemorySettings, Spacing};

/// The narrowest Gaussians, in spacings: midway between narrower ones, activations would leave f32's range.
const LEAST_WIDTH: f64 = 0.1;

/// How many coefficients the polynomials nearest to zero have.
pub(super) const FEW: usize = 4;

/// How many they have near zero.
pub(super) const NEAR: usize = 6;

/// How many they have on the wider cell.
pub(super) const FAR: usize = 12;

/// Gaussians `a_k(g) = exp(-(g - c_k)² / (2 sigma_k²))` over the range of a clipped gradient.
#[derive(Clone, Debug)]
pub(super) struct Centres<T> {
    len: usize,
    /// Gradients lie in `[-clip, clip]`.
    pub(super) clip: T,
    /// `c_k`, ascending; behind the last one, what no gradient reaches.
    pub(super) centre: Vec<Lanes<T>>,
    /// `-1 / (2 sigma_k²)`.
    pub(super) per_spread: Vec<Lanes<T>>,
    /// How to find the centres that matter; without it all are evaluated.
    grid: Option<Grid<T>>,
    /// The kernels' unit of gradients: how far the near cell reaches or, where there is none, 1.
    pub(super) unit: T,
    /// Where [`FEW`] coefficients are enough.
    pub(super) few: Cell<T>,
    /// Where [`NEAR`] are.
    pub(super) near: Cell<T>,
    /// Where [`FAR`] are.
    pub(super) far: Cell<T>,
}

/// Evenly spaced centres, of which those `reach` away from the nearest one still matter.
#[derive(Clone, Debug)]
struct Grid<T> {
    per_spacing: T,
    reach: usize,
}

/// An interval around zero on which everything is a polynomial of `x`, which is the gradient in units times `scale`.
///
/// That of `a_k(g)` is the same for good. The rate `sum a_k v_k / sum a_k` is linear in the local rates `v`: its
/// coefficients are sums over `k` of `v_k` times those of `a_k / sum a`.
///
/// They interpolate at Chebyshev's nodes. The interval is the widest, out of a geometric series, on which no function is off
/// by more than [`Fit::TOLERANCE`], nor by more than a thousandth of its own largest value.
#[derive(Clone, Debug)]
pub(super) struct Cell<T> {
    /// Up to which magnitude of a gradient in units; where there is no such interval, 0.
    pub(super) reach: T,
    pub(super) scale: T,
    /// Coefficients of the activations: `[blocks of centres][power]`.
    pub(super) activations: Vec<Lanes<T>>,
    /// Coefficients of the normalised activations: `[centre][power]`.
    pub(super) rates: Vec<Lanes<T>>,
}

impl<T: Real> Centres<T> {
    pub(super) fn new(settings: &MemorySettings) -> Self {
        let clip = settings.clip;
        let width = settings.width.max(LEAST_WIDTH);
        let (centre, sigma) = match settings.spacing {
            Spacing::Linear => {
                let models = settings.models.max(2);
                let spacing = 2.0 * clip / (models - 1) as f64;
                let centre = (0..models).map(|k| -clip + k as f64 * spacing).collect();
                (centre, vec![width * spacing; models])
            }
            Spacing::Log => log_spaced(settings.models, clip, width),
        };
        let len = centre.len();
        let grid = match (settings.spacing, settings.window) {
            (Spacing::Linear, Some(reach)) => {
                Some(Grid { per_spacing: T::of((len - 1) as f64 / (2.0 * clip)), reach })
            }
            _ => None,
        };
        let per_spread = sigma.iter().map(|sigma| -1.0 / (2.0 * sigma * sigma));
        let gaussians = Gaussians { centre: &centre, sigma: &sigma };
        let widest = |order| if T::POLYNOMIALS { Fit::widest(&gaussians, clip, order) } else { None };
        let (few, near, far) = (widest(FEW), widest(NEAR), widest(FAR));
        let unit = near.as_ref().map_or(1.0, |near| near.radius);
        // The far cell's high powers stay in range only if its variable is at most 1.
        let far_radius = far.as_ref().map_or(1.0, |far| far.radius);
        Centres {
            len,
            clip: T::of(clip),
            unit: T::of(unit),
            few: Cell::new(few, FEW, len, unit, 1.0),
            near: Cell::new(near, NEAR, len, unit, 1.0),
            far: Cell::new(far, FAR, len, unit, unit / far_radius),
            per_spread: in_blocks(per_spread, -1.0),
            centre: in_blocks(centre.iter().copied(), BEYOND),
            grid,
        }
    }

    /// K, the number of local models.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The blocks of centres that matter at `g`.
    #[inline(always)]
    pub(super) fn around(&self, g: T) -> Range<usize> {
        let Some(grid) = &self.grid else { return 0..self.centre.len() };
        let steps = (g - self.centre[0][0]) * grid.per_spacing + T::of(0.5);
        // A float that is negative or not a number becomes 0.
        let nearest = steps.to_usize().unwrap_or(0).min(self.len - 1);
        nearest.saturating_sub(grid.reach) / LANES..(nearest + grid.reach).min(self.len - 1) / LANES + 1
    }
}

/// Where what fills up the last block sits: so far out that nothing is left of its activation.
const BEYOND: f64 = 1e18;

fn in_blocks<T: Real>(values: impl ExactSizeIterator<Item = f64>, rest: f64) -> Vec<Lanes<T>> {
    let mut blocks = vec![[T::of(rest); LANES]; blocks_for(values.len())];
    blocks.as_flattened_mut().iter_mut().zip(values).for_each(|(to, value)| *to = T::of(value));
    blocks
}

struct Gaussians<'a> {
    centre: &'a [f64],
    sigma: &'a [f64],
}

impl Gaussians<'_> {
    /// `a_k(g)` of all centres, and the same divided by their sum.
    fn at(&self, g: f64) -> (Vec<f64>, Vec<f64>) {
        let exponents = self.centre.iter().zip(self.sigma).map(|(c, s)| -(g - c) * (g - c) / (2.0 * s * s));
        let a: Vec<f64> = exponents.map(f64::exp).collect();
        let total: f64 = a.iter().sum();
        let share = a.iter().map(|a| a / total).collect();
        (a, share)
    }
}

/// Polynomials of `g / radius`.
struct Fit {
    radius: f64,
    /// `[centre][power]`.
    activations: Vec<Vec<f64>>,
    /// Likewise, of the normalised activations.
    rates: Vec<Vec<f64>>,
}

impl Fit {
    const TOLERANCE: f64 = 6e-8;

    /// On the widest interval on which so many coefficients are enough.
    fn widest(gaussians: &Gaussians<'_>, clip: f64, order: usize) -> Option<Fit> {
        let nearest = gaussians.sigma.iter().fold(clip, |least, sigma| least.min(*sigma));
        let mut radius = clip;
        while radius > 0.01 * nearest {
            if let Some((activations, rates)) = fit(gaussians, radius, order) {
                return Some(Fit { radius, activations, rates });
            }
            radius *= 0.8;
        }
        None
    }
}

impl<T: Real> Cell<T> {
    fn new(fit: Option<Fit>, order: usize, models: usize, unit: f64, scale: f64) -> Self {
        let none = vec![vec![0.0; order]; models];
        let (radius, mut activations, mut rates) = match fit {
            Some(fit) => (fit.radius, fit.activations, fit.rates),
            None => (0.0, none.clone(), none),
        };
        // From powers of g / radius to powers of x = scale · g / unit.
        let ratio = if radius > 0.0 { unit / (scale * radius) } else { 0.0 };
        for coefficients in activations.iter_mut().chain(&mut rates) {
            let mut power = 1.0;
            for coefficient in coefficients {
                *coefficient *= power;
                power *= ratio;
            }
        }
        Cell {
            reach: T::of(radius / unit),
            scale: T::of(scale),
            activations: activations
                .chunks(LANES)
                .flat_map(|block| (0..order).map(|p| in_blocks(block.iter().map(move |of| of[p]), 0.0)[0]))
                .collect(),
            rates: rates.iter().map(|of| in_blocks(of.iter().copied(), 0.0)[0]).collect(),
        }
    }
}

/// Coefficients by powers of `g / radius` of every activation and of every normalised activation, if `order` of them are
/// enough.
#[allow(clippy::type_complexity)]
fn fit(gaussians: &Gaussians<'_>, radius: f64, order: usize) -> Option<(Vec<Vec<f64>>, Vec<Vec<f64>>)> {
    const CHECKED: usize = 101;
    let node = |j: usize| ((j as f64 + 0.5) * std::f64::consts::PI / order as f64).cos();
    let (mut activations, mut rates) = (vec![], vec![]);
    for j in 0..order {
        let (a, share) = gaussians.at(radius * node(j));
        activations.push(a);
        rates.push(share);
    }
    let powers = |values: &[Vec<f64>]| -> Vec<Vec<f64>> {
        (0..gaussians.centre.len())
            .map(|k| interpolation(&values.iter().map(|at| at[k]).collect::<Vec<_>>()))
            .collect()
    };
    let (activations, rates) = (powers(&activations), powers(&rates));
    let mut error = vec![[0.0f64; 2]; gaussians.centre.len()];
    let mut most = vec![[0.0f64; 2]; gaussians.centre.len()];
    for i in 0..CHECKED {
        let x = 2.0 * i as f64 / (CHECKED - 1) as f64 - 1.0;
        let (a, share) = gaussians.at(radius * x);
        for k in 0..a.len() {
            for (which, (true_value, coefficients)) in
                [(a[k], &activations[k]), (share[k], &rates[k])].into_iter().enumerate()
            {
                let value = coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c);
                error[k][which] = error[k][which].max((value - true_value).abs());
                most[k][which] = most[k][which].max(true_value);
            }
        }
    }
    let good = error
        .as_flattened()
        .iter()
        .zip(most.as_flattened())
        .all(|(error, most)| *error <= Fit::TOLERANCE && (*error <= 1e-3 * most || *most < 1e-12));
    good.then_some((activations, rates))
}

/// The polynomial through `values` at Chebyshev's nodes on [-1, 1], by powers.
fn interpolation(values: &[f64]) -> Vec<f64> {
    let order = values.len();
    let mut powers = vec![0.0; order];
    // T_m by powers, from T_m = 2x T_(m-1) - T_(m-2).
    let (mut last, mut this) = (vec![0.0; order], vec![0.0; order]);
    this[0] = 1.0;
    for m in 0..order {
        let angle = |j: usize| m as f64 * (j as f64 + 0.5) * std::f64::consts::PI / order as f64;
        let sum: f64 = values.iter().enumerate().map(|(j, value)| value * angle(j).cos()).sum();
        let coefficient = sum * if m == 0 { 1.0 } else { 2.0 } / order as f64;
        powers.iter_mut().zip(&this).for_each(|(power, t)| *power += coefficient * t);
        let factor = if m == 0 { 1.0 } else { 2.0 };
        let mut next: Vec<f64> = last.iter().map(|t| -t).collect();
        next.iter_mut().skip(1).zip(&this).for_each(|(next, t)| *next += factor * t);
        (last, this) = (this, next);
    }
    powers
}

/// The authors' log-spaced option: 0 and `models / 2` centres on either side of it, geometrically from 1e-6 to `clip`.
/// Each is as wide as `width` times the distance to its neighbour towards 0, the one at 0 as its neighbours.
pub(super) fn log_spaced(models: usize, clip: f64, width: f64) -> (Vec<f64>, Vec<f64>) {
    const INNERMOST: f64 = 1e-6;
    let side = (models / 2).max(1);
    let positive: Vec<f64> = (0..side)
        .map(|k| match side {
            1 => clip,
            _ => INNERMOST * (clip / INNERMOST).powf(k as f64 / (side - 1) as f64),
        })
        .collect();
    let inward: Vec<f64> =
        (0..side).map(|k| width * (positive[k] - if k == 0 { 0.0 } else { positive[k - 1] })).collect();
    let centre = positive.iter().rev().map(|c| -c).chain([0.0]).chain(positive.iter().copied()).collect();
    let sigma = inward.iter().rev().copied().chain([inward[0]]).chain(inward.iter().copied()).collect();
    (centre, sigma)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::kernel;
    use crate::learn::{MemoryOptimizer, Signal};
    use proptest::prelude::*;

    fn settings(models: usize, spacing: Spacing, width: f64, window: Option<usize>) -> MemorySettings {
        let (rate, signal, optimizer) = (0.1, Signal::Product, MemoryOptimizer::Gd);
        MemorySettings { models, spacing, width, clip: 2.0, rate, signal, optimizer, window }
    }

    fn rate<T: Real>(centres: &Centres<T>, v: &[f64], g: T) -> T {
        kernel::rate(centres, &in_blocks(v.iter().copied(), 0.0), g)
    }

    #[test]
    fn log_spaced_centres_lie_around_zero_with_their_own_widths() {
        let (centre, sigma) = log_spaced(6, 1.0, 0.5);
        let expected = [-1.0, -1e-3, -1e-6, 0.0, 1e-6, 1e-3, 1.0];
        let widths = [0.999, 0.999e-3, 1e-6, 1e-6, 1e-6, 0.999e-3, 0.999];
        for k in 0..7 {
            assert!((centre[k] - expected[k]).abs() <= 1e-12, "{centre:?}");
            assert!((sigma[k] / (0.5 * widths[k]) - 1.0).abs() < 1e-9, "{sigma:?}");
        }
        assert_eq!(log_spaced(2, 3.0, 0.5), (vec![-3.0, 0.0, 3.0], vec![1.5, 1.5, 1.5]));
    }

    #[test]
    fn equal_rates_are_predicted_everywhere() {
        for spacing in [Spacing::Linear, Spacing::Log] {
            for window in [None, Some(3)] {
                let centres = Centres::<f64>::new(&settings(20, spacing, 0.5, window));
                let v = vec![0.25; centres.len()];
                for g in [-2.0, -1.9, -1e-7, 0.0, 0.3, 2.0] {
                    assert!((rate(&centres, &v, g) - 0.25).abs() < 1e-15);
                }
            }
        }
    }

    #[test]
    fn the_narrowest_gaussians_stay_in_the_range_of_f32() {
        for spacing in [Spacing::Linear, Spacing::Log] {
            for width in [0.01, 0.1, 0.102, 0.15, 0.2] {
                for window in [None, Some(5)] {
                    let centres = Centres::<f32>::new(&settings(20, spacing, width, window));
                    let v: Vec<f64> = (0..centres.len()).map(|k| 0.01 + 0.01 * k as f64).collect();
                    for g in (0..=4000).map(|i| -2.0 + 1e-3 * i as f32) {
                        let rate = f64::from(rate(&centres, &v, g));
                        let range = v[0] * 0.99999..=v[v.len() - 1] * 1.00001;
                        assert!(range.contains(&rate), "{rate} at {g}, width {width}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_cells_reach_as_far_as_their_polynomials_are_exact() {
        // In spacings: with the default's width the near cell reaches an eighth, the far one a half.
        let spacing = 4.0 / 19.0;
        let centres = Centres::<f32>::new(&settings(20, Spacing::Linear, 0.5, None));
        let radius_of = |of: &Centres<f32>, cell: &Cell<f32>| f64::from(cell.reach * of.unit) / spacing;
        let radius = |cell: &Cell<f32>| radius_of(&centres, cell);
        assert!((0.02..0.1).contains(&radius(&centres.few)), "{}", radius(&centres.few));
        assert!((0.1..0.25).contains(&radius(&centres.near)), "{}", radius(&centres.near));
        assert!((0.4..0.7).contains(&radius(&centres.far)), "{}", radius(&centres.far));
        // Wider Gaussians are smoother; log-spaced ones are too narrow around zero for any.
        let wide = Centres::<f32>::new(&settings(20, Spacing::Linear, 1.0, None));
        assert!(radius_of(&wide, &wide.far) > radius(&centres.far));
        let double = Centres::<f64>::new(&settings(20, Spacing::Linear, 0.5, None));
        assert_eq!((double.near.reach, double.unit), (0.0, 1.0));
    }

    #[test]
    fn interpolation_finds_a_polynomial_again() {
        let values: Vec<f64> = (0..5)
            .map(|j| ((j as f64 + 0.5) * std::f64::consts::PI / 5.0).cos())
            .map(|x| 3.0 - x + 0.5 * x.powi(3) - 2.0 * x.powi(4))
            .collect();
        for (found, expected) in interpolation(&values).iter().zip([3.0, -1.0, 0.0, 0.5, -2.0]) {
            assert!((found - expected).abs() < 1e-13, "{found} {expected}");
        }
    }

    proptest! {
        /// The window leaves out nothing that matters.
        #[test]
        fn the_windowed_form_agrees_with_all_gaussians(
            g in -2.0f64..=2.0,
            width in prop_oneof![0.1f64..3.0, 0.1f64..0.15],
            v in prop::collection::vec(1e-9f64..1.0, 120),
        ) {
            let all = settings(120, Spacing::Linear, width, None);
            let wide = MemorySettings { optimizer: MemoryOptimizer::Adam, ..all }.windowed();
            let expected = rate(&Centres::<f64>::new(&all), &v, g);
            let found = rate(&Centres::<f64>::new(&wide), &v, g);
            prop_assert!((found - expected).abs() < 1e-12 + 1e-9 * expected, "{} {}", found, expected);
        }
    }
}
