//! A memory for learning rates: local models over the gradient, learnt from how successive gradients agree.
//!
//! Contract: [`Memory::new`] and `clone` allocate; everything else runs in the pinned thread and does not. Whatever the
//! gradients, the local rates stay in `[MIN_RATE, MAX_RATE]`.

use std::sync::Arc;

use super::Real;
use super::centres::Centres;
use super::kernel::{self, InstructionSet, Lanes, Live, Width};
use crate::config::Config;

/// The least learning rate that a local model may hold.
pub const MIN_RATE: f64 = 1e-9;
/// The greatest learning rate that a local model may hold.
pub const MAX_RATE: f64 = 1.0;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// How the local models are spaced over `[-clip, clip]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Evenly.
    Linear,
    /// One at 0, `models / 2` geometrically from 1e-6 to `clip` on either side: an even number of models makes one more.
    Log,
}

/// What tells a memory that its rate was too small or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The product of successive gradients, clamped to [-1, 1] (section III-D).
    Product,
    /// The sign of that product (eq. 7, 8).
    Sign,
}

/// How the local models follow their training signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryOptimizer {
    /// Gradient descent.
    Gd,
    /// Exponentially smoothed (0.9) gradient.
    Momentum,
    /// Adam (0.9, 0.999, 1e-8) with the bias correction in the rate, as the authors write it.
    Adam,
}

/// The shape of a memory and how it learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemorySettings {
    /// K, the number of local models (at least 2).
    pub models: usize,
    /// How they are spaced.
    pub spacing: Spacing,
    /// Width of each Gaussian, in distances between centres (the authors' `lm_scale`); below 0.1 it is taken as 0.1.
    pub width: f64,
    /// Gradients are clipped to `[-clip, clip]`, coordinate by coordinate.
    pub clip: f64,
    /// The memory's own learning rate (the authors' `mem_lr`).
    pub rate: f64,
    /// Its training signal.
    pub signal: Signal,
    /// How it learns from it.
    pub optimizer: MemoryOptimizer,
    /// Evaluate this many centres on either side of the nearest, rounded up to whole blocks; `None` evaluates all, which is
    /// the reference. Log-spaced centres are always all evaluated: the outer Gaussians reach across the inner ones.
    pub window: Option<usize>,
}

impl MemorySettings {
    /// The settings in `config`, with the window that [`MemorySettings::windowed`] chooses.
    pub fn from_config(config: &Config, optimizer: MemoryOptimizer) -> Self {
        let settings = MemorySettings {
            models: config.memory_models,
            spacing: if config.memory_centres == "log" { Spacing::Log } else { Spacing::Linear },
            width: config.memory_width,
            clip: config.memory_clip,
            rate: config.memory_rate,
            signal: if config.memory_signal == "sign" { Signal::Sign } else { Signal::Product },
            optimizer,
            window: None,
        };
        settings.windowed()
    }

    /// With the window outside of which activations do not matter: 6 widths (a relative error of the rate below f32's
    /// own), or 10 under Adam, which inflates the Gaussians' tails.
    pub fn windowed(self) -> Self {
        let widths = if self.optimizer == MemoryOptimizer::Adam { 10.0 } else { 6.0 };
        MemorySettings { window: Some((widths * self.width).ceil() as usize), ..self }
    }
}

/// The local models of one parameter group. Clones share their centres.
#[derive(Clone, Debug)]
pub struct Memory<T> {
    centres: Arc<Centres<T>>,
    settings: MemorySettings,
    /// `v_k`, the local learning rates; what fills up the last block means nothing.
    rates: Vec<Lanes<T>>,
    /// `u_k` of the step at hand, eq. (10).
    change: Vec<Lanes<T>>,
    /// First and second moments of `u_k`, for those optimizers that have them.
    mean: Vec<T>,
    square: Vec<T>,
    steps: i32,
}

impl<T: Real> Memory<T> {
    /// A memory whose local models all start at `rate`.
    pub fn new(settings: &MemorySettings, rate: f64) -> Self {
        let centres = Centres::new(settings);
        let models = centres.len();
        let zeros = vec![[T::zero(); kernel::LANES]; centres.centre.len()];
        let moments = |wanted| if wanted { vec![T::zero(); models] } else { Vec::new() };
        let mut memory = Memory {
            centres: Arc::new(centres),
            settings: *settings,
            rates: zeros.clone(),
            change: zeros,
            mean: moments(settings.optimizer != MemoryOptimizer::Gd),
            square: moments(settings.optimizer == MemoryOptimizer::Adam),
            steps: 0,
        };
        memory.rates.as_flattened_mut()[..models].fill(bounded(T::of(rate)));
        memory
    }

    /// `v_k`, the local learning rates, by ascending centre.
    pub fn rates(&self) -> &[T] {
        &self.rates.as_flattened()[..self.centres.len()]
    }

    /// Sets the local learning rates, as far as `rates` reaches; each is brought into `[MIN_RATE, MAX_RATE]`.
    pub fn set_rates(&mut self, rates: &[T]) {
        let models = self.centres.len();
        for (own, &given) in self.rates.as_flattened_mut()[..models].iter_mut().zip(rates) {
            *own = bounded(given);
        }
    }

    /// Another learning rate of the memory's own; what it learnt stays.
    pub fn set_learning_rate(&mut self, rate: f64) {
        self.settings.rate = rate;
    }

    /// Eq. (11): the learning rate for gradient `g`, which must lie in `[-clip, clip]`.
    pub fn rate(&self, g: T) -> T {
        kernel::rate(&self.centres, &self.rates, g)
    }

    /// The unit in which gradients are given to it, a matrix at a time.
    pub(super) fn unit(&self) -> T {
        self.centres.unit
    }

    /// What its training signal is made with: the centres, whether it is a sign, and where it is summed up.
    #[inline(always)]
    pub(super) fn signal_mut(&mut self) -> (&Centres<T>, bool, &mut [Lanes<T>]) {
        (&self.centres, self.settings.signal == Signal::Sign, &mut self.change)
    }

    /// What rates are looked up in: the centres and the local rates.
    #[inline(always)]
    pub(super) fn lookup(&self) -> (&Centres<T>, &[Lanes<T>]) {
        (&self.centres, &self.rates)
    }

    /// Eq. (10), (12), (13): moves the local models by the mean, over so many coordinates, of what was summed up since the
    /// last time, as the optimizer says. Plain gradient descent is left to the caller: by how much of what to move which.
    #[inline(always)]
    #[allow(clippy::type_complexity)]
    pub(super) fn learn(&mut self, coordinates: usize) -> Option<(T, &mut [Lanes<T>], &mut [Lanes<T>])> {
        let share = T::one() / T::of(coordinates.max(1) as f64);
        if self.settings.optimizer == MemoryOptimizer::Gd {
            return Some((T::of(self.settings.rate) * share, &mut self.change, &mut self.rates));
        }
        self.learn_by_moments(share);
        None
    }

    #[inline(never)]
    fn learn_by_moments(&mut self, share: T) {
        let rates = &mut self.rates.as_flattened_mut()[..self.centres.len()];
        let change = self.change.as_flattened().iter().map(|&sum| sum * share);
        if self.settings.optimizer == MemoryOptimizer::Adam {
            self.steps = self.steps.saturating_add(1);
            let rate = T::of(corrected_rate(self.settings.rate, self.steps));
            let moments = self.mean.iter_mut().zip(&mut self.square);
            for ((v, u), (m, s)) in rates.iter_mut().zip(change).zip(moments) {
                *v = bounded(*v + rate * adam(m, s, u));
            }
        } else {
            let rate = T::of(self.settings.rate);
            for ((v, u), m) in rates.iter_mut().zip(change).zip(&mut self.mean) {
                *m = smoothed(BETA1, *m, u);
                *v = bounded(*v + rate * *m);
            }
        }
        self.change.as_flattened_mut().fill(T::zero());
    }

    /// Applies the learnt rates along another direction than the gradient: see [`kernel::descend_along`].
    pub(super) fn descend_along(
        &self,
        set: InstructionSet,
        width: Width,
        live: &Live,
        feature: &[Lanes<T>],
        direction: &[Lanes<T>],
        params: &mut [Lanes<T>],
    ) -> (T, u32) {
        kernel::descend_along(set, &self.centres, &self.rates, width, live, feature, direction, params)
    }

    /// Between tasks: keeps the local rates and forgets the optimizer's moments.
    pub fn new_task(&mut self) {
        self.mean.fill(T::zero());
        self.square.fill(T::zero());
        self.steps = 0;
    }

    /// Takes over `other`'s state; both must be of the same shape. Does not allocate.
    pub fn copy_from(&mut self, other: &Memory<T>) {
        self.rates.clone_from(&other.rates);
        self.mean.clone_from(&other.mean);
        self.square.clone_from(&other.square);
        self.steps = other.steps;
    }
}

/// Into `[MIN_RATE, MAX_RATE]`; what is not a number becomes the least rate.
fn bounded<T: Real>(rate: T) -> T {
    rate.max(T::of(MIN_RATE)).min(T::of(MAX_RATE))
}

/// The running mean of `old` and `new`, with what is too small for a normal number taken as zero: rounding keeps a moment
/// that fades from ever reaching it, and arithmetic on subnormal numbers makes the steps of silent units several times slower.
fn smoothed<T: Real>(beta: f64, old: T, new: T) -> T {
    let mean = T::of(beta) * old + T::of(1.0 - beta) * new;
    if mean.abs() < T::min_positive_value() { T::zero() } else { mean }
}

/// One coordinate of Adam's direction, `m / (sqrt(s) + eps)`, with its moments brought up to date.
pub(super) fn adam<T: Real>(m: &mut T, s: &mut T, gradient: T) -> T {
    *m = smoothed(BETA1, *m, gradient);
    *s = smoothed(BETA2, *s, gradient * gradient);
    *m / (s.sqrt() + T::of(EPSILON))
}

/// Adam's rate at its `steps`th step: `rate · sqrt(1 - beta2^t) / (1 - beta1^t)`.
pub(super) fn corrected_rate(rate: f64, steps: i32) -> f64 {
    let t = f64::from(steps);
    rate * (1.0 - BETA2.powf(t)).sqrt() / (1.0 - BETA1.powf(t))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_that_fade_reach_zero() {
        let (mut m, mut s) = (1e-3f32, 1e-30f32);
        for _ in 0..20_000 {
            adam(&mut m, &mut s, 0.0);
            assert!(!m.is_subnormal() && !s.is_subnormal(), "{m:e} {s:e}");
        }
        assert_eq!((m, s), (0.0, 0.0));
    }
}
