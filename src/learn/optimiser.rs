//! Base learners, and MetaGD: a base learner whose rates come from memories.
//!
//! Contract: constructors allocate; steps run in the pinned thread and do not. A step with a gradient that is not finite
//! is refused and changes nothing. Nothing here knows networks: a [`Group`] moves any slice of parameters, so a
//! two-dimensional test function and a convolution's kernel are groups as well.

use std::ops::Range;

use super::memory::{adam, corrected_rate};
use super::real::all_finite;
use super::{Memory, MemoryOptimizer, MemorySettings, Real, kernel};
use crate::config::Config;

/// The learner that proposes a direction; a memory or a constant says how far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Gradient descent: the direction is the clipped gradient.
    Gd,
    /// Adam: the direction is `m / (sqrt(s) + eps)`, clipped; a memory sees `m`, clipped. The bias correction scales a
    /// constant rate only: with a memory there is none, as in the authors' code.
    Adam,
}

/// A learner by the name that the paper and [`config::LEARNERS`](crate::config::LEARNERS) give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnerName {
    /// The base learner.
    pub base: Base,
    /// How its memories learn, if it has any.
    pub memory: Option<MemoryOptimizer>,
}

impl LearnerName {
    /// `None` if no learner has this name.
    pub fn parse(name: &str) -> Option<LearnerName> {
        use MemoryOptimizer::{Adam, Gd, Momentum};
        let (base, memory) = match name {
            "gd" => (Base::Gd, None),
            "adam" => (Base::Adam, None),
            "metagd" => (Base::Gd, Some(Gd)),
            "metagd-momentum" => (Base::Gd, Some(Momentum)),
            "metagd-memadam" => (Base::Gd, Some(Adam)),
            "adam+memory" => (Base::Adam, Some(Gd)),
            "adam+memory-momentum" => (Base::Adam, Some(Momentum)),
            "adam+memory-memadam" => (Base::Adam, Some(Adam)),
            _ => return None,
        };
        Some(LearnerName { base, memory })
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Update {
    /// False if a gradient was not finite: the step was refused and nothing has changed.
    pub finite: bool,
    /// Sum of the rates applied to the coordinates that moved.
    pub rate_sum: f64,
    /// How many coordinates moved.
    pub moved: usize,
}

impl Update {
    /// Mean rate over the coordinates that moved, 0 if none did.
    pub fn mean_rate(&self) -> f64 {
        if self.moved == 0 { 0.0 } else { self.rate_sum / self.moved as f64 }
    }
}

/// One parameter group: a base learner's state over its coordinates, and perhaps one memory for all of them.
#[derive(Clone, Debug)]
pub struct Group<T> {
    base: Base,
    rate: f64,
    clip: T,
    memory: Option<Memory<T>>,
    /// What the memory looks up: the clipped gradient (or Adam's clipped `m`) of this step and the one before.
    feature: Vec<T>,
    previous: Vec<T>,
    /// Adam's state; empty under gradient descent.
    direction: Vec<T>,
    mean: Vec<T>,
    square: Vec<T>,
    steps: i32,
}

impl<T: Real> Group<T> {
    /// A group of `size` coordinates, learning at the constant `rate` or, with a `memory`, at what the memory says.
    /// `clip` bounds the gradient (under Adam the direction); a memory's own clip must be the same.
    pub fn new(base: Base, rate: f64, clip: f64, memory: Option<Memory<T>>, size: usize) -> Self {
        let zeros = vec![T::zero(); size];
        let adam = if base == Base::Adam { zeros.clone() } else { Vec::new() };
        Group {
            base,
            rate,
            clip: T::of(clip),
            memory,
            feature: zeros.clone(),
            previous: zeros,
            direction: adam.clone(),
            mean: adam.clone(),
            square: adam,
            steps: 0,
        }
    }

    /// The memory, if the group has one.
    pub fn memory(&self) -> Option<&Memory<T>> {
        self.memory.as_ref()
    }

    /// The memory, if the group has one.
    pub fn memory_mut(&mut self) -> Option<&mut Memory<T>> {
        self.memory.as_mut()
    }

    /// Other rates: `rate` is the constant one, which a memory's takes the place of; `memory` the memory's own.
    pub fn set_rates(&mut self, rate: f64, memory: f64) {
        self.rate = rate;
        if let Some(own) = &mut self.memory {
            own.set_learning_rate(memory);
        }
    }

    /// One step on `params` along `gradient`, both of the group's size. In the paper's order: clip; let the memory learn
    /// from this gradient and the one before; look up the rates; move.
    pub fn step(&mut self, params: &mut [T], gradient: &[T]) -> Update {
        if all_finite(gradient) { self.apply(params, gradient) } else { Update::default() }
    }

    /// [`Group::step`] on a gradient that is known to be finite.
    fn apply(&mut self, params: &mut [T], gradient: &[T]) -> Update {
        debug_assert!(params.len() == self.feature.len() && gradient.len() == self.feature.len());
        let clip = self.clip;
        let clipped = |value: T| value.max(-clip).min(clip);
        let mut rate = self.rate;
        match self.base {
            Base::Gd => {
                for (feature, &g) in self.feature.iter_mut().zip(gradient) {
                    *feature = clipped(g);
                }
            }
            Base::Adam => {
                // Far beyond any gradient of use, but its square is still finite.
                let bound = T::max_value().sqrt() * T::of(0.1);
                self.steps = self.steps.saturating_add(1);
                rate = corrected_rate(rate, self.steps);
                let moments = self.mean.iter_mut().zip(&mut self.square);
                let out = self.feature.iter_mut().zip(&mut self.direction);
                for (((feature, direction), (m, s)), &g) in out.zip(moments).zip(gradient) {
                    *direction = clipped(adam(m, s, g.max(-bound).min(bound)));
                    *feature = clipped(*m);
                }
            }
        }
        let direction = if self.base == Base::Adam { &self.direction } else { &self.feature };
        let (rate_sum, moved) = match &mut self.memory {
            Some(memory) => {
                memory.learn(&self.feature, &self.previous);
                memory.descend(&self.feature, direction, params)
            }
            None => kernel::descend_at(T::of(rate), direction, params),
        };
        std::mem::swap(&mut self.feature, &mut self.previous);
        Update { finite: true, rate_sum: rate_sum.wide(), moved }
    }

    /// Between tasks: keeps the memory's local rates; forgets the last gradient and all moments.
    pub fn new_task(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.new_task();
        }
        for state in
            [&mut self.feature, &mut self.previous, &mut self.direction, &mut self.mean, &mut self.square]
        {
            state.fill(T::zero());
        }
        self.steps = 0;
    }

    /// Takes over `other`'s state; both must be of the same shape. Does not allocate.
    pub fn copy_from(&mut self, other: &Group<T>) {
        if let (Some(memory), Some(other)) = (&mut self.memory, &other.memory) {
            memory.copy_from(other);
        }
        self.previous.clone_from(&other.previous);
        self.mean.clone_from(&other.mean);
        self.square.clone_from(&other.square);
        self.steps = other.steps;
    }
}

/// The optimiser of a whole model: its flat parameters cut into groups, one memory each.
#[derive(Clone, Debug)]
pub struct MetaGd<T> {
    groups: Vec<(Range<usize>, Group<T>)>,
}

impl<T: Real> MetaGd<T> {
    /// An optimiser whose groups cover the given ranges of the flat parameters.
    pub fn new(groups: Vec<(Range<usize>, Group<T>)>) -> Self {
        MetaGd { groups }
    }

    /// The learner that `config` names, over `ranges`. An unknown name, which [`Config`] does not let through, is taken
    /// as `metagd`.
    pub fn from_config(config: &Config, ranges: Vec<Range<usize>>) -> Self {
        let name = LearnerName::parse(&config.learner)
            .unwrap_or(LearnerName { base: Base::Gd, memory: Some(MemoryOptimizer::Gd) });
        let group = |size| {
            let memory = name
                .memory
                .map(|optimizer| Memory::new(&MemorySettings::from_config(config, optimizer), config.rate));
            Group::new(name.base, config.rate, config.memory_clip, memory, size)
        };
        MetaGd::new(ranges.into_iter().map(|range| (range.clone(), group(range.len()))).collect())
    }

    /// The groups, in the order of their ranges.
    pub fn groups(&self) -> impl Iterator<Item = &Group<T>> {
        self.groups.iter().map(|(_, group)| group)
    }

    /// The groups, in the order of their ranges.
    pub fn groups_mut(&mut self) -> impl Iterator<Item = &mut Group<T>> {
        self.groups.iter_mut().map(|(_, group)| group)
    }

    /// One step of every group; all of them or, if any gradient is not finite, none. `params` and `gradient` are flat
    /// and of equal length; a group that reaches beyond them is left out.
    pub fn step(&mut self, params: &mut [T], gradient: &[T]) -> Update {
        if !all_finite(gradient) {
            return Update::default();
        }
        let mut total = Update { finite: true, ..Update::default() };
        for (range, group) in &mut self.groups {
            let (Some(params), Some(gradient)) = (params.get_mut(range.clone()), gradient.get(range.clone()))
            else {
                continue;
            };
            let update = group.apply(params, gradient);
            total.rate_sum += update.rate_sum;
            total.moved += update.moved;
        }
        total
    }

    /// Between tasks: keeps what the memories learnt; forgets the last gradient and all moments.
    pub fn new_task(&mut self) {
        self.groups_mut().for_each(Group::new_task);
    }

    /// [`Group::set_rates`] of every group.
    pub fn set_rates(&mut self, rate: f64, memory: f64) {
        self.groups_mut().for_each(|group| group.set_rates(rate, memory));
    }

    /// Takes over `other`'s memories; both must be of the same shape. Does not allocate.
    pub fn copy_memories_from(&mut self, other: &MetaGd<T>) {
        for (group, other) in self.groups_mut().zip(other.groups()) {
            if let (Some(memory), Some(other)) = (group.memory_mut(), other.memory()) {
                memory.copy_from(other);
            }
        }
    }

    /// Takes over `other`'s state; both must be of the same shape. Does not allocate.
    pub fn copy_from(&mut self, other: &MetaGd<T>) {
        for (group, other) in self.groups_mut().zip(other.groups()) {
            group.copy_from(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LEARNERS;
    use crate::learn::{MAX_RATE, MIN_RATE, Signal, Spacing};
    use proptest::prelude::*;

    const START: [f64; 2] = [1.5, -0.5];

    fn loss<T: Real>(x: &[T]) -> f64 {
        let (a, b) = (T::one() - x[0], x[1] - x[0] * x[0]);
        (a * a + T::of(100.0) * b * b).wide()
    }

    fn gradient<T: Real>(x: &[T]) -> [T; 2] {
        let b = x[1] - x[0] * x[0];
        [T::of(-2.0) * (T::one() - x[0]) - T::of(400.0) * x[0] * b, T::of(200.0) * b]
    }

    fn settings(optimizer: MemoryOptimizer, window: Option<usize>) -> MemorySettings {
        MemorySettings {
            models: 100,
            spacing: Spacing::Linear,
            width: 0.5,
            clip: 10.0,
            rate: 1e-3,
            signal: Signal::Product,
            optimizer,
            window,
        }
    }

    /// The two coordinates as groups of their own, as the authors' test function has them.
    fn rosenbrock<T: Real>(memory: Option<MemorySettings>) -> MetaGd<T> {
        let group = || Group::new(Base::Gd, 1e-3, 10.0, memory.map(|m| Memory::new(&m, 1e-3)), 1);
        MetaGd::new(vec![(0..1, group()), (1..2, group())])
    }

    struct Run<T> {
        x: [T; 2],
        losses: Vec<f64>,
    }

    fn run<T: Real>(optimiser: &mut MetaGd<T>, iterations: usize) -> Run<T> {
        let mut x = START.map(T::of);
        let mut losses = vec![loss(&x)];
        for _ in 0..iterations {
            let g = gradient(&x);
            optimiser.step(&mut x, &g);
            losses.push(loss(&x));
        }
        Run { x, losses }
    }

    #[track_caller]
    fn near(value: f64, expected: f64, relative: f64) {
        let error = ((value - expected) / expected).abs();
        assert!(error <= relative, "{value:e} is not {expected:e}: off by {error:e}");
    }

    /// Ten decimals are given.
    const PRINTED: f64 = 6e-11;

    #[track_caller]
    fn losses_are(run: &Run<f64>, expected: &[(usize, f64)]) {
        for &(n, expected) in expected {
            near(run.losses[n], expected, PRINTED);
        }
    }

    #[test]
    fn rosenbrock_gradient_descent() {
        let run = run(&mut rosenbrock(None), 100);
        losses_are(
            &run,
            &[
                (0, 7.5650000000e+02),
                (1, 7.3470430100e+02),
                (5, 6.5172812500e+02),
                (10, 5.5712000000e+02),
                (20, 3.9610000000e+02),
                (50, 1.0000000000e+02),
                (100, 1.4353316213e-01),
            ],
        );
    }

    #[test]
    fn rosenbrock_metagd_first_run() {
        let mut optimiser = rosenbrock::<f64>(Some(settings(MemoryOptimizer::Gd, None)));
        let first = run(&mut optimiser, 50);
        losses_are(
            &first,
            &[
                (0, 7.5650000000e+02),
                (1, 7.3470430100e+02),
                (5, 4.8891158246e+02),
                (10, 9.7914016455e+01),
                (20, 1.3815229461e-01),
                (50, 1.2530815625e-01),
            ],
        );
        near(first.x[0], 0.64637907643335, 1e-13);
        near(first.x[1], 0.41619222316228, 1e-13);
        let memories: Vec<_> = optimiser.groups().map(|g| g.memory().unwrap().rates()).collect();
        // One unit of the last of the twelve decimals given.
        near(memories[0].iter().sum(), 1.190919790519e-01, 1e-12);
        near(memories[1].iter().sum(), 1.216204545816e-01, 1e-12);
        near(memories[0][0], 3.2787297284e-03, PRINTED);
        near(memories[0][49], 1.4031746534e-03, PRINTED);
        near(memories[0][50], 9.9521252000e-04, PRINTED);

        let hundred = run::<f64>(&mut rosenbrock(Some(settings(MemoryOptimizer::Gd, None))), 100);
        assert!((0.08..0.10).contains(&hundred.losses[100]), "{}", hundred.losses[100]);
    }

    #[test]
    fn rosenbrock_metagd_second_run_starts_with_what_the_first_learnt() {
        let mut optimiser = rosenbrock::<f64>(Some(settings(MemoryOptimizer::Gd, None)));
        run(&mut optimiser, 50);
        optimiser.new_task();
        let second = run(&mut optimiser, 20);
        losses_are(
            &second,
            &[
                (0, 7.5650000000e+02),
                (1, 5.2612866778e+02),
                (5, 2.4888699478e+01),
                (10, 1.6145142864e-01),
                (20, 1.4680394852e-01),
            ],
        );
    }

    #[test]
    fn rosenbrock_memadam() {
        let run = run(&mut rosenbrock(Some(settings(MemoryOptimizer::Adam, None))), 50);
        losses_are(
            &run,
            &[
                (0, 7.5650000000e+02),
                (1, 7.3470430100e+02),
                (5, 4.9979818673e+02),
                (10, 9.9221870549e+01),
                (20, 1.4061768793e-01),
            ],
        );
        // At 50 the true value agrees with extended precision to 1e-8.
        near(run.losses[50], 1.1507334259e-01, 1e-8);
    }

    #[test]
    fn rosenbrock_rates_applied() {
        for (optimizer, expected) in [
            (MemoryOptimizer::Gd, [1e-3, 1.8966645848e-03, 2.7933291695e-03, 3.6899937543e-03]),
            (MemoryOptimizer::Adam, [1e-3, 1.7441361926e-03, 2.6025982305e-03, 3.5122972025e-03]),
        ] {
            // Each coordinate by itself, since both are to have the same rates.
            let mut groups: Vec<Group<f64>> = (0..2)
                .map(|_| {
                    let memory = Memory::new(&settings(optimizer, None), 1e-3);
                    Group::new(Base::Gd, 1e-3, 10.0, Some(memory), 1)
                })
                .collect();
            let mut x = START;
            for expected in expected {
                let g = gradient(&x);
                for d in 0..2 {
                    let update = groups[d].step(&mut x[d..=d], &g[d..=d]);
                    near(update.mean_rate(), expected, PRINTED);
                }
            }
        }
    }

    #[test]
    fn rosenbrock_in_f32_agrees_while_it_is_not_chaotic() {
        for (optimizer, until) in [(MemoryOptimizer::Gd, 60), (MemoryOptimizer::Adam, 30)] {
            let wide = run::<f64>(&mut rosenbrock(Some(settings(optimizer, None))), until);
            for settings in [settings(optimizer, None), settings(optimizer, None).windowed()] {
                let narrow = run::<f32>(&mut rosenbrock(Some(settings)), until);
                for d in 0..2 {
                    near(narrow.x[d].wide(), wide.x[d], 1e-5);
                }
                near(narrow.losses[until], wide.losses[until], 1e-5);
            }
        }
    }

    #[test]
    fn a_window_of_three_suits_metagd_and_memadam_needs_five() {
        let off = |optimizer, window, n: usize| {
            let full = run::<f64>(&mut rosenbrock(Some(settings(optimizer, None))), n);
            let cut = run::<f64>(&mut rosenbrock(Some(settings(optimizer, window))), n);
            (cut.losses[n] / full.losses[n] - 1.0).abs()
        };
        let three = off(MemoryOptimizer::Gd, Some(3), 30);
        assert!(three < 5e-12, "{three:e}");
        let adam_three = off(MemoryOptimizer::Adam, Some(3), 50);
        assert!((5e-4..5e-3).contains(&adam_three), "{adam_three:e}");
        let adam_five = off(MemoryOptimizer::Adam, Some(5), 50);
        assert!(adam_five < 1e-5, "{adam_five:e}");
        assert_eq!(settings(MemoryOptimizer::Gd, None).windowed().window, Some(3));
        assert_eq!(settings(MemoryOptimizer::Adam, None).windowed().window, Some(5));
    }

    #[test]
    fn every_learner_of_the_configuration_has_its_parts() {
        let mut seen = vec![];
        for name in LEARNERS {
            let parsed = LearnerName::parse(name).unwrap_or_else(|| panic!("{name}"));
            assert!(!seen.contains(&parsed), "{name} repeats another");
            seen.push(parsed);
        }
        assert_eq!(LearnerName::parse("sgd"), None);
    }

    #[test]
    fn adam_moves_by_the_rate_at_first_and_its_memory_sees_the_first_moment() {
        let mut x = [0.0f64];
        Group::new(Base::Adam, 0.01, 2.0, None, 1).step(&mut x, &[0.3]);
        // 0.1 g / (sqrt(0.001) g) exceeds the clip; the correction is sqrt(0.001) / 0.1.
        near(x[0], -0.01 * 2.0 * 0.001f64.sqrt() / 0.1, 1e-6);
        // With a clip beyond it, the first step is the rate in the gradient's direction.
        let mut x = [0.0f64];
        Group::new(Base::Adam, 0.01, 5.0, None, 1).step(&mut x, &[0.3]);
        near(x[0], -0.01, 1e-5);

        let settings = MemorySettings { clip: 2.0, models: 20, ..settings(MemoryOptimizer::Gd, None) };
        let mut group = Group::new(Base::Adam, 0.01, 2.0, Some(Memory::new(&settings, 0.01)), 1);
        let mut x = [0.0f64];
        group.step(&mut x, &[0.3]);
        // Not corrected.
        near(x[0], -0.01 * 2.0, 1e-6);
        let before = group.memory().unwrap().clone();
        group.step(&mut x, &[0.3]);
        // m was 0.03, is 0.057; the memory learnt at 0.03 from their product.
        let mut expected = before;
        expected.learn(&[0.1 * 0.3 * 0.9 + 0.1 * 0.3], &[0.1 * 0.3]);
        for (v, expected) in group.memory().unwrap().rates().iter().zip(expected.rates()) {
            near(*v, *expected, 1e-12);
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_no_group() {
        let mut optimiser = rosenbrock::<f64>(Some(settings(MemoryOptimizer::Gd, None)));
        let mut x = START;
        optimiser.step(&mut x, &gradient(&START));
        let before = (x, format!("{optimiser:?}"));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(optimiser.step(&mut x, &[1.0, bad]), Update::default());
            assert_eq!((x, format!("{optimiser:?}")), before);
        }
    }

    #[test]
    fn a_copy_goes_on_exactly_as_the_original() {
        for optimizer in [MemoryOptimizer::Gd, MemoryOptimizer::Momentum, MemoryOptimizer::Adam] {
            for base in [Base::Gd, Base::Adam] {
                let fresh = || {
                    let memory = Memory::new(&settings(optimizer, Some(5)), 1e-3);
                    Group::<f64>::new(base, 1e-3, 10.0, Some(memory), 2)
                };
                let (mut original, mut copy, mut x) = (fresh(), fresh(), START);
                for _ in 0..7 {
                    let g = gradient(&x);
                    original.step(&mut x, &g);
                }
                copy.copy_from(&original);
                let mut y = x;
                for _ in 0..7 {
                    let (g, h) = (gradient(&x), gradient(&y));
                    original.step(&mut x, &g);
                    copy.step(&mut y, &h);
                }
                assert_eq!(x, y);
                assert_eq!(original.memory().unwrap().rates(), copy.memory().unwrap().rates());
            }
        }
    }

    fn any_learner() -> impl Strategy<Value = (Base, MemorySettings)> {
        (
            prop_oneof![Just(Base::Gd), Just(Base::Adam)],
            prop_oneof![
                Just(MemoryOptimizer::Gd),
                Just(MemoryOptimizer::Momentum),
                Just(MemoryOptimizer::Adam)
            ],
            prop_oneof![Just(Spacing::Linear), Just(Spacing::Log)],
            prop_oneof![Just(Signal::Product), Just(Signal::Sign)],
            2usize..60,
            prop_oneof![0.1f64..10.0, 0.1f64..0.2],
            prop_oneof![1e-3f64..3.0, Just(1e6)],
            0.0f64..10.0,
        )
            .prop_map(|(base, optimizer, spacing, signal, models, width, clip, rate)| {
                let settings =
                    MemorySettings { models, spacing, width, clip, rate, signal, optimizer, window: None };
                (base, settings.windowed())
            })
    }

    fn any_gradient() -> impl Strategy<Value = f32> {
        prop_oneof![6 => -3.0f32..3.0, 2 => any::<f32>(), 1 => Just(f32::NAN), 1 => Just(f32::MAX),
            1 => Just(f32::INFINITY), 1 => Just(1e-40)]
    }

    proptest! {
        #[test]
        fn any_gradients_leave_rates_in_range_and_weights_finite(
            (base, settings) in any_learner(),
            gradients in prop::collection::vec(prop::array::uniform3(any_gradient()), 1..40),
        ) {
            let mut group =
                Group::<f32>::new(base, 0.1, settings.clip, Some(Memory::new(&settings, 0.1)), 3);
            let mut params = [0.5, -0.5, 0.0];
            for gradient in gradients {
                let update = group.step(&mut params, &gradient);
                prop_assert_eq!(update.finite, gradient.iter().all(|g| g.is_finite()));
                prop_assert!(params.iter().all(|p| p.is_finite()), "{:?}", params);
                for &v in group.memory().unwrap().rates() {
                    prop_assert!((MIN_RATE as f32..=MAX_RATE as f32).contains(&v), "{}", v);
                }
                prop_assert!(update.mean_rate() <= MAX_RATE * 1.0001, "{}", update.mean_rate());
            }
        }
    }
}
