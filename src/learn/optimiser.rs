//! Base learners, and MetaGD: a base learner whose rates come from memories.
//!
//! Contract: constructors allocate; steps run in the pinned thread and do not. A step with a gradient that is not finite
//! is refused and changes nothing. Nothing here knows networks: a [`Group`] moves any slice of parameters, so a
//! two-dimensional test function and a convolution's kernel are groups as well.

use std::ops::Range;

use super::memory::{adam, bias_correction};
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
    rate: T,
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
            rate: T::of(rate),
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
        let mut correction = T::one();
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
                correction = bias_correction(self.steps);
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
            None => kernel::descend_at(self.rate * correction, direction, params),
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
    /// and of equal length.
    pub fn step(&mut self, params: &mut [T], gradient: &[T]) -> Update {
        if !all_finite(gradient) {
            return Update::default();
        }
        let mut total = Update { finite: true, ..Update::default() };
        for (range, group) in &mut self.groups {
            let update = group.apply(&mut params[range.clone()], &gradient[range.clone()]);
            total.rate_sum += update.rate_sum;
            total.moved += update.moved;
        }
        total
    }

    /// Between tasks: keeps what the memories learnt; forgets the last gradient and all moments.
    pub fn new_task(&mut self) {
        self.groups_mut().for_each(Group::new_task);
    }

    /// Takes over `other`'s state; both must be of the same shape. Does not allocate.
    pub fn copy_from(&mut self, other: &MetaGd<T>) {
        for (group, other) in self.groups_mut().zip(other.groups()) {
            group.copy_from(other);
        }
    }
}
