//! Where the local models of a memory sit, and how strongly each answers to a gradient.
//!
//! Contract: built at start-up; [`Centres::rate`] and [`Centres::accumulate`] run in the pinned thread, once for each
//! coordinate that moves, and neither allocate nor panic for any gradient within `[-clip, clip]`.

use super::Real;
use super::memory::{MemorySettings, Spacing};

/// Gaussians `a_k(g) = exp(-(g - c_k)² / (2 sigma_k²))` over the range of a clipped gradient.
#[derive(Clone, Debug)]
pub(super) struct Centres<T> {
    /// `c_k`, ascending.
    centre: Vec<T>,
    /// `-1 / (2 sigma_k²)`.
    exponent: Vec<T>,
    /// How to evaluate evenly spaced centres near the gradient only; without it all are evaluated.
    grid: Option<Grid<T>>,
}

/// Evenly spaced centres, cut off `window` centres away from the nearest one.
///
/// With `u = (g - c_i) / spacing` to the nearest centre `i`, and `s` the width in spacings,
/// `a_(i+j) = exp(-u²/2s²) · exp(u/s²)^j · exp(-j²/2s²)`: two exponentials give all of them, and one is enough for the
/// rate, where the first factor cancels.
#[derive(Clone, Debug)]
struct Grid<T> {
    per_spacing: T,
    /// `1 / s²`.
    slope: T,
    /// `exp(-j²/2s²)` for `j` in `1..=window`.
    tails: Vec<T>,
}

impl<T: Real> Centres<T> {
    pub(super) fn new(settings: &MemorySettings) -> Self {
        let MemorySettings { clip, width, .. } = *settings;
        let (centre, sigma) = match settings.spacing {
            Spacing::Linear => {
                let models = settings.models.max(2);
                let spacing = 2.0 * clip / (models - 1) as f64;
                let centre: Vec<f64> =
                    (0..models).map(|k| -clip + 2.0 * clip * k as f64 / (models - 1) as f64).collect();
                (centre, vec![width * spacing; models])
            }
            Spacing::Log => log_spaced(settings.models, clip, width),
        };
        let grid = match (settings.spacing, settings.window) {
            (Spacing::Linear, Some(window)) => Some(Grid {
                per_spacing: T::of((centre.len() - 1) as f64 / (2.0 * clip)),
                slope: T::of(1.0 / (width * width)),
                tails: (1..=window.min(centre.len() - 1))
                    .map(|j| T::of((-0.5 * (j as f64 / width).powi(2)).exp()))
                    .collect(),
            }),
            _ => None,
        };
        Centres {
            centre: centre.into_iter().map(T::of).collect(),
            exponent: sigma.into_iter().map(|sigma| T::of(-0.5 / (sigma * sigma))).collect(),
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
                for ((&c, &e), &v) in self.centre.iter().zip(&self.exponent).zip(v) {
                    let a = (e * (g - c) * (g - c)).exp();
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
                for (j, &tail) in (1..).zip(&grid.tails) {
                    up *= above;
                    down *= below;
                    if let Some(&v) = v.get(i + j) {
                        weighted += tail * up * v;
                        total += tail * up;
                    }
                    if i >= j {
                        weighted += tail * down * v[i - j];
                        total += tail * down;
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
                for ((&c, &e), sum) in self.centre.iter().zip(&self.exponent).zip(sums) {
                    *sum += (e * (g - c) * (g - c)).exp() * h;
                }
            }
            Some(grid) => {
                let (i, u) = self.nearest(grid, g);
                let middle = (T::of(-0.5) * grid.slope * u * u).exp() * h;
                let above = (u * grid.slope).exp();
                let below = above.recip();
                let (mut up, mut down) = (middle, middle);
                sums[i] += middle;
                for (j, &tail) in (1..).zip(&grid.tails) {
                    up *= above;
                    down *= below;
                    if let Some(sum) = sums.get_mut(i + j) {
                        *sum += tail * up;
                    }
                    if i >= j {
                        sums[i - j] += tail * down;
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
