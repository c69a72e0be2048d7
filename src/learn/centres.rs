//! Where the local models of a memory sit, and how strongly each answers to a gradient.
//!
//! Contract: built at start-up; [`Centres::rate`] and [`Centres::accumulate`] run in the pinned thread, once for each
//! coordinate that moves, and neither allocate nor panic for any gradient within `[-clip, clip]`.

use super::Real;
use super::memory::{MemorySettings, Spacing};

/// The narrowest Gaussians, in spacings: midway between narrower ones, activations would leave f32's range.
const LEAST_WIDTH: f64 = 0.1;

/// Gaussians `a_k(g) = exp(-(g - c_k)² / (2 sigma_k²))` over the range of a clipped gradient.
#[derive(Clone, Debug)]
pub(super) struct Centres<T> {
    /// `c_k`, ascending.
    centre: Vec<T>,
    /// `2 sigma_k²`.
    spread: Vec<T>,
    /// How to evaluate evenly spaced centres near the gradient only; without it all are evaluated.
    grid: Option<Grid<T>>,
}

/// Evenly spaced centres, cut off `window` centres away from the nearest one.
///
/// With `u = (g - c_i) / spacing` to the nearest centre `i`, and `s` the width in spacings,
/// `a_(i+j) = exp(-u²/2s²) · exp(u/s²)^j · exp(-j²/2s²)`: two exponentials give all of them, and one is enough for the
/// rate, where the first factor cancels. From one to the next it is a multiplication by `exp(u/s²) · exp(-(2j-1)/2s²)`,
/// which unlike the powers stays in f32's range.
#[derive(Clone, Debug)]
struct Grid<T> {
    per_spacing: T,
    /// `1 / s²`.
    slope: T,
    /// `exp(-(2j-1)/2s²)` for `j` in `1..=window`.
    ratios: Vec<T>,
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
        let grid = match (settings.spacing, settings.window) {
            (Spacing::Linear, Some(window)) => Some(Grid {
                per_spacing: T::of((centre.len() - 1) as f64 / (2.0 * clip)),
                slope: T::of(1.0 / (width * width)),
                ratios: (1..=window.min(centre.len() - 1))
                    .map(|j| T::of((-0.5 * (2 * j - 1) as f64 / (width * width)).exp()))
                    .collect(),
            }),
            _ => None,
        };
        Centres {
            centre: centre.into_iter().map(T::of).collect(),
            spread: sigma.into_iter().map(|sigma| T::of(2.0 * sigma * sigma)).collect(),
            grid,
        }
    }

    /// K, the number of local models.
    pub(super) fn len(&self) -> usize {
        self.centre.len()
    }

    /// Eq. (11): the mean of the local rates `v`, weighted by their activations at `g`.
    #[inline]
    pub(super) fn rate(&self, g: T, v: &[T]) -> T {
        let mut weighted = T::zero();
        let mut total = T::zero();
        match &self.grid {
            None => {
                for ((&c, &spread), &v) in self.centre.iter().zip(&self.spread).zip(v) {
                    let a = gaussian(g - c, spread);
                    weighted += a * v;
                    total += a;
                }
            }
            Some(grid) => {
                let (i, u) = self.nearest(grid, g);
                let above = (u * grid.slope).exp();
                let below = above.recip();
                let (mut up, mut down) = (T::one(), T::one());
                weighted = v[i];
                total = T::one();
                for (j, &ratio) in (1..).zip(&grid.ratios) {
                    up *= above * ratio;
                    down *= below * ratio;
                    if let Some(&v) = v.get(i + j) {
                        weighted += up * v;
                        total += up;
                    }
                    if i >= j {
                        weighted += down * v[i - j];
                        total += down;
                    }
                }
            }
        }
        weighted / total
    }

    /// Adds `a_k(g) · h` to `sums[k]` for every local model.
    #[inline]
    pub(super) fn accumulate(&self, g: T, h: T, sums: &mut [T]) {
        match &self.grid {
            None => {
                for ((&c, &spread), sum) in self.centre.iter().zip(&self.spread).zip(sums) {
                    *sum += gaussian(g - c, spread) * h;
                }
            }
            Some(grid) => {
                let (i, u) = self.nearest(grid, g);
                let middle = (T::of(-0.5) * grid.slope * u * u).exp() * h;
                let above = (u * grid.slope).exp();
                let below = above.recip();
                let (mut up, mut down) = (middle, middle);
                sums[i] += middle;
                for (j, &ratio) in (1..).zip(&grid.ratios) {
                    up *= above * ratio;
                    down *= below * ratio;
                    if let Some(sum) = sums.get_mut(i + j) {
                        *sum += up;
                    }
                    if i >= j {
                        sums[i - j] += down;
                    }
                }
            }
        }
    }

    /// The centre nearest to `g`, and the distance from it in spacings.
    #[inline]
    fn nearest(&self, grid: &Grid<T>, g: T) -> (usize, T) {
        let last = self.centre.len() - 1;
        let steps = (g - self.centre[0]) * grid.per_spacing + T::of(0.5);
        // A float that is negative or not a number becomes 0.
        let i = steps.to_usize().unwrap_or(0).min(last);
        (i, (g - self.centre[i]) * grid.per_spacing)
    }
}

#[inline]
fn gaussian<T: Real>(distance: T, spread: T) -> T {
    (-(distance * distance) / spread).exp()
}

/// The authors' log-spaced option: 0 and `models / 2` centres on either side of it, geometrically from 1e-6 to `clip`.
/// Each is as wide as `width` times the distance to its neighbour towards 0, the one at 0 as its neighbours.
fn log_spaced(models: usize, clip: f64, width: f64) -> (Vec<f64>, Vec<f64>) {
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
    use crate::learn::{MemoryOptimizer, Signal};
    use proptest::prelude::*;

    fn settings(models: usize, spacing: Spacing, width: f64, window: Option<usize>) -> MemorySettings {
        let (rate, signal, optimizer) = (0.1, Signal::Product, MemoryOptimizer::Gd);
        MemorySettings { models, spacing, width, clip: 2.0, rate, signal, optimizer, window }
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
                    assert!((centres.rate(g, &v) - 0.25).abs() < 1e-15);
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
                    let v: Vec<f32> = (0..centres.len()).map(|k| 0.01 + 0.01 * k as f32).collect();
                    let mut sums = vec![0.0; v.len()];
                    for g in (0..=4000).map(|i| -2.0 + 1e-3 * i as f32) {
                        let rate = centres.rate(g, &v);
                        let range = v[0] * 0.99999..=v[v.len() - 1] * 1.00001;
                        assert!(range.contains(&rate), "{rate} at {g}, width {width}");
                        centres.accumulate(g, 1.0, &mut sums);
                    }
                    assert!(sums.iter().all(|sum| sum.is_finite()), "{sums:?}");
                }
            }
        }
    }

    proptest! {
        /// The window's cut is the only difference to the sum over all centres.
        #[test]
        fn the_windowed_form_agrees_with_all_gaussians(
            g in -2.0f64..=2.0,
            h in -1.0f64..=1.0,
            width in prop_oneof![0.1f64..3.0, 0.1f64..0.15],
            v in prop::collection::vec(1e-9f64..1.0, 20),
        ) {
            let windowed = settings(20, Spacing::Linear, width, None);
            let wide = MemorySettings { optimizer: MemoryOptimizer::Adam, ..windowed }.windowed();
            let full = Centres::<f64>::new(&windowed);
            let cut = Centres::<f64>::new(&wide);
            let (expected, rate) = (full.rate(g, &v), cut.rate(g, &v));
            prop_assert!((rate - expected).abs() < 1e-12 + 1e-9 * expected, "{} {}", rate, expected);
            let (mut all, mut near) = (vec![0.0; 20], vec![0.0; 20]);
            full.accumulate(g, h, &mut all);
            cut.accumulate(g, h, &mut near);
            for (a, b) in all.iter().zip(&near) {
                prop_assert!((a - b).abs() < 1e-12, "{} {}", a, b);
            }
        }
    }
}
