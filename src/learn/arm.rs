//! The arm's learners, one per joint, and the batch that they share.
//!
//! Contract: constructors allocate; everything else runs in the pinned thread and does not. A joint number beyond the
//! arm's is no panic: it predicts NaN, and a step of it changes nothing and reports `finite: false`.

use std::ops::Range;

use super::joint::Scaling;
use super::kernel::{Lanes, blocks_for};
use super::network::{Blocks, Gradient};
use super::real::all_moderate;
use super::{InstructionSet, JointLearner, Rates, Reload, StepReport, Workspace};
use crate::config::Config;
use crate::sample::{MAX_JOINTS, Motion, Observation, PerJoint};

/// Why a learner could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// There are no joints, or more than the fixed arrays hold.
    #[error("an arm has 1 to {MAX_JOINTS} joints, not {given}: set `joints` to those that move")]
    Joints {
        /// How many were given.
        given: usize,
    },
    /// A hidden layer has no units.
    #[error("learner.hidden = {hidden:?} has a layer without units: every size must be at least 1")]
    EmptyLayer {
        /// The hidden layers.
        hidden: Vec<usize>,
    },
    /// The network would be too large.
    #[error(
        "learner.hidden = {hidden:?} makes a network of more than {most} parameters: choose smaller layers"
    )]
    TooLarge {
        /// The hidden layers.
        hidden: Vec<usize>,
        /// The most parameters that one joint's network may have.
        most: usize,
    },
}

/// One sample to learn from.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    observation: Observation,
    rigid_body: PerJoint,
}

/// One joint's torques of one sample, Nm.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Torques {
    pub(super) effort: f64,
    pub(super) rigid_body: f64,
    /// Beside which the network learns: the rigid body's, unless told otherwise.
    pub(super) base: f64,
}

/// Some rows of a batch, as one joint sees them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) torques: &'a [Torques],
    /// How many of them are new; the others stand behind them.
    pub(super) fresh: usize,
    moderate: bool,
    /// Of each row so many inputs, filled up to whole blocks.
    inputs: &'a [Lanes<f32>],
    width: usize,
}

impl Part<'_> {
    /// Makes its rows the inputs of the next pass of a network of `width` inputs; false if they are not finite, or
    /// beyond [`Real::HUGE`](super::Real::HUGE), or not as many.
    pub(super) fn enter(&self, width: usize, workspace: &mut Workspace<f32>) -> bool {
        if self.width != width {
            return false;
        }
        workspace.set_inputs(self.inputs);
        self.moderate
    }
}

/// The samples of one learning step, shared by all joints of the arm: new ones, and perhaps replayed ones behind them.
///
/// Scores, means and integrators are those of the new samples alone; the gradient is over all.
#[derive(Clone, Debug)]
pub struct Batch {
    joints: usize,
    scaling: Scaling,
    rows: Vec<Row>,
    /// Joint by joint, room for as many rows as there may be.
    torques: Vec<Torques>,
    /// Of each row the networks' inputs, which are the same for all joints.
    inputs: Blocks<f32>,
    /// Whether these are numbers, and not so large that sums of what comes of them overflow: ReLU would take a NaN for a
    /// silent unit and answer with a number.
    moderate: Vec<bool>,
    /// How many rows are new; the others stand behind them.
    fresh: usize,
    capacity: usize,
    replayed: usize,
}

impl Batch {
    /// Room for `learner.batch` samples of an arm with `joints` joints and, with `replay.enabled`, for as many replayed ones. It
    /// scales what goes in as `config` says, so the learner's has to say the same.
    pub fn new(config: &Config, joints: usize) -> Self {
        let joints = joints.min(MAX_JOINTS);
        let capacity = config.batch.max(1);
        let replayed = if config.replay { capacity } else { 0 };
        let rows = capacity + replayed;
        Batch {
            joints,
            scaling: Scaling::from_config(config),
            rows: Vec::with_capacity(rows),
            torques: vec![Torques::default(); joints * rows],
            inputs: Blocks::zeros(rows * blocks_for(3 * joints)),
            moderate: vec![true; rows],
            fresh: 0,
            capacity,
            replayed,
        }
    }

    /// Appends one sample: what was observed, and the rigid body's torque for its motion (zero without one), Nm.
    /// Returns false, and leaves the sample out, if the batch is full.
    pub fn push(&mut self, observation: &Observation, rigid_body: &PerJoint) -> bool {
        if self.is_full() {
            return false;
        }
        // What was replayed belongs to the samples before.
        self.rows.truncate(self.fresh);
        self.add(observation, rigid_body);
        self.fresh += 1;
        true
    }

    /// Another torque beside which new sample number `sample` is learnt, Nm.
    pub fn set_base(&mut self, sample: usize, base: &PerJoint) {
        if sample < self.fresh {
            let room = self.room();
            for (torques, base) in self.torques.chunks_exact_mut(room).zip(base) {
                torques[sample].base = *base;
            }
        }
    }

    /// Appends one sample from memory, with the torque beside which it is learnt, Nm. Returns false, and leaves it out, if
    /// there is no room.
    pub fn replay(&mut self, motion: &Motion, effort: &PerJoint, base: &PerJoint) -> bool {
        if self.rows.len() - self.fresh >= self.replayed {
            return false;
        }
        self.add(&Observation { motion: *motion, effort: *effort, ..Observation::default() }, base);
        true
    }

    fn add(&mut self, observation: &Observation, base: &PerJoint) {
        let (room, row) = (self.room(), self.rows.len());
        let width = 3 * self.joints;
        let blocks = blocks_for(width);
        let inputs = &mut self.inputs[row * blocks..][..blocks];
        let inputs = &mut inputs.as_flattened_mut()[..width];
        self.scaling.input(&observation.motion, inputs);
        self.moderate[row] = all_moderate(inputs);
        let each = self.torques.chunks_exact_mut(room).zip(&observation.effort).zip(base);
        for ((torques, &effort), &base) in each {
            torques[row] = Torques { effort, rigid_body: base, base };
        }
        self.rows.push(Row { observation: *observation, rigid_body: *base });
    }

    /// How many rows it has room for.
    fn room(&self) -> usize {
        self.capacity + self.replayed
    }

    /// How much time the samples stand for, s: their number times the mean distance of their stamps. `None` for fewer
    /// than two samples, and for stamps that do not advance.
    pub fn seconds(&self) -> Option<f64> {
        let fresh = &self.rows[..self.fresh];
        let (first, last) = (fresh.first()?, fresh.last()?);
        let span_ns = last.observation.stamp_ns.checked_sub(first.observation.stamp_ns)?;
        let gaps = fresh.len() - 1;
        (gaps > 0 && span_ns > 0).then(|| span_ns as f64 * 1e-9 * (1.0 + 1.0 / gaps as f64))
    }

    /// Takes all samples out.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.fresh = 0;
    }

    /// How many new samples it holds.
    pub fn len(&self) -> usize {
        self.fresh
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.fresh == 0
    }

    /// Whether it can take no more of them.
    pub fn is_full(&self) -> bool {
        self.fresh >= self.capacity
    }

    /// Mean over the samples of the measured torque, Nm (zero if empty).
    pub fn mean_effort(&self) -> PerJoint {
        self.mean(|row| &row.observation.effort)
    }

    /// Mean over the samples of the rigid body's torque, Nm (zero if empty).
    pub fn mean_rigid_body(&self) -> PerJoint {
        self.mean(|row| &row.rigid_body)
    }

    /// The new samples, oldest first, each with the rigid body's torque.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&Observation, &PerJoint)> {
        self.rows[..self.fresh].iter().map(|row| (&row.observation, &row.rigid_body))
    }

    /// The last `count` rows, or as many as there are.
    pub(super) fn newest(&self, joint: usize, count: usize) -> Part<'_> {
        self.part(joint, self.rows.len().saturating_sub(count)..self.rows.len())
    }

    /// The first `count` new samples, or as many as there are.
    pub(super) fn first(&self, joint: usize, count: usize) -> Part<'_> {
        self.part(joint, 0..self.fresh.min(count))
    }

    fn part(&self, joint: usize, rows: Range<usize>) -> Part<'_> {
        let blocks = blocks_for(3 * self.joints);
        let first = joint * self.room();
        Part {
            torques: self.torques.get(first + rows.start..first + rows.end).unwrap_or_default(),
            fresh: self.fresh.saturating_sub(rows.start).min(rows.len()),
            moderate: self.moderate[rows.clone()].iter().all(|moderate| *moderate),
            inputs: &self.inputs[rows.start * blocks..rows.end * blocks],
            width: 3 * self.joints,
        }
    }

    fn mean(&self, of: impl Fn(&Row) -> &PerJoint) -> PerJoint {
        let mut mean = PerJoint::default();
        for row in &self.rows[..self.fresh] {
            for (mean, value) in mean[..self.joints].iter_mut().zip(of(row)) {
                *mean += value / self.fresh as f64;
            }
        }
        mean
    }
}

/// Which of a joint's networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that learns.
    Present,
    /// The one that was remembered last ([`ArmLearner::snapshot`]).
    Saved,
}

/// One [`JointLearner`] per joint.
#[derive(Clone, Debug)]
pub struct ArmLearner {
    joints: Vec<JointLearner>,
    scaling: Scaling,
    /// For steps, and for predictions, of one joint after the other: their networks have one shape.
    workspace: Workspace<f32>,
    gradient: Gradient<f32>,
    single: Workspace<f32>,
}

impl ArmLearner {
    /// Fresh learners for the joints named, as `config` describes them.
    ///
    /// # Errors
    /// [`LearnError`]: no joints or too many; networks too large.
    pub fn new(config: &Config, joints: &[String]) -> Result<Self, LearnError> {
        let count = joints.len();
        if !(1..=MAX_JOINTS).contains(&count) {
            return Err(LearnError::Joints { given: count });
        }
        let mut fresh = None;
        let joints = (0..count).map(|joint| JointLearner::sharing(config, joint, count, &mut fresh));
        let joints: Vec<JointLearner> = joints.collect::<Result<_, _>>()?;
        Ok(ArmLearner {
            workspace: Workspace::new(joints[0].network(), joints[0].rows()),
            gradient: joints[0].optimiser().gradient(),
            single: Workspace::new(joints[0].network(), 1),
            scaling: Scaling::from_config(config),
            joints,
        })
    }

    /// Computes with this instruction set instead of the best that the processor has.
    pub fn set_instructions(&mut self, set: InstructionSet) {
        self.joints.iter_mut().for_each(|learner| learner.set_instructions(set));
    }

    /// How many joints the arm has.
    pub fn joints(&self) -> usize {
        self.joints.len()
    }

    /// One joint's learner.
    pub fn joint(&self, joint: usize) -> Option<&JointLearner> {
        self.joints.get(joint)
    }

    pub(super) fn learners(&self) -> &[JointLearner] {
        &self.joints
    }

    pub(super) fn learners_mut(&mut self) -> &mut [JointLearner] {
        &mut self.joints
    }

    /// The torque that `motion` takes, Nm, into `out`: the rigid body's (if `learner.residual`) and what was learnt
    /// beside it. What lies past the arm's joints becomes zero. Not a number if `motion` is not finite.
    pub fn predict(&mut self, motion: &Motion, rigid_body: &PerJoint, out: &mut PerJoint) {
        *out = PerJoint::default();
        let finite = self.take_input(motion);
        for ((learner, out), &rigid_body) in self.joints.iter().zip(out).zip(rigid_body) {
            *out = if finite { learner.predict(&mut self.single, rigid_body) } else { f64::NAN };
        }
    }

    /// What each joint's network adds to the torque that `motion` takes, Nm, into `out`: neither what it adds to nor an
    /// integrator. What lies past the arm's joints becomes zero. Not a number if `motion` is not finite.
    pub fn corrections(&mut self, motion: &Motion, out: &mut PerJoint) {
        *out = PerJoint::default();
        let finite = self.take_input(motion);
        for (learner, out) in self.joints.iter().zip(out) {
            *out = if finite { learner.correction(&mut self.single) } else { f64::NAN };
        }
    }

    /// What `which` network of one joint adds for each new sample of `batch`, Nm, into `out`, which is as long as they are
    /// many. Not numbers if a motion is not finite.
    pub fn corrections_on(&mut self, joint: usize, which: Which, batch: &Batch, out: &mut [f64]) {
        match self.joints.get(joint) {
            Some(learner) => learner.corrections_on(which, batch, &mut self.workspace, out),
            None => out.fill(f64::NAN),
        }
    }

    /// Makes `motion` the input of the next prediction; false if it is not finite, or beyond
    /// [`Real::HUGE`](super::Real::HUGE): ReLU would take a NaN for a silent unit and answer with a number.
    fn take_input(&mut self, motion: &Motion) -> bool {
        let input = self.single.input_mut(0, 3 * self.joints.len());
        self.scaling.input(motion, input);
        all_moderate(input)
    }

    /// [`predict`](ArmLearner::predict) for one joint; `rigid_body` is that joint's.
    pub fn predict_joint(&mut self, joint: usize, motion: &Motion, rigid_body: f64) -> f64 {
        let finite = self.take_input(motion);
        let learner = self.joints.get(joint).filter(|_| finite);
        learner.map_or(f64::NAN, |learner| learner.predict(&mut self.single, rigid_body))
    }

    /// One step of one joint on `batch`.
    pub fn step(&mut self, joint: usize, batch: &Batch) -> StepReport {
        let (workspace, gradient) = (&mut self.workspace, &mut self.gradient);
        let learner = self.joints.get_mut(joint);
        learner.map_or(StepReport::default(), |learner| learner.step(batch, workspace, gradient, None))
    }

    /// [`ArmLearner::step`], and what the joint's network adds for each new sample of `batch` before the step and after it, Nm,
    /// each as long as they are many. Not numbers if a motion is not finite.
    pub fn step_seen(
        &mut self,
        joint: usize,
        batch: &Batch,
        before: &mut [f64],
        after: &mut [f64],
    ) -> StepReport {
        match self.joints.get_mut(joint) {
            Some(learner) => {
                learner.step(batch, &mut self.workspace, &mut self.gradient, Some([before, after]))
            }
            None => {
                before.fill(f64::NAN);
                after.fill(f64::NAN);
                StepReport::default()
            }
        }
    }

    /// A new task (the paper's phase): keeps networks, integrators and what the memories learnt; forgets the last
    /// gradients and all moments.
    pub fn new_task(&mut self) {
        self.joints.iter_mut().for_each(JointLearner::new_task);
    }

    /// Other rates from the next step on.
    pub fn set_rates(&mut self, rates: &Rates) {
        self.joints.iter_mut().for_each(|learner| learner.set_rates(rates));
    }

    /// Takes over the part of `other` that `what` names, as a new task begins with it: networks with their integrators,
    /// or the memories, or both. Both must be built from the same configuration and joints. Does not allocate.
    pub fn take(&mut self, other: &ArmLearner, what: Reload) {
        for (learner, other) in self.joints.iter_mut().zip(&other.joints) {
            learner.take(other, what);
        }
    }

    /// Remembers a joint's network and integrator as good.
    pub fn snapshot(&mut self, joint: usize) {
        if let Some(learner) = self.joints.get_mut(joint) {
            learner.snapshot();
        }
    }

    /// Goes back to a joint's network and integrator remembered last (at first: those at the start).
    pub fn restore(&mut self, joint: usize) {
        if let Some(learner) = self.joints.get_mut(joint) {
            learner.restore();
        }
    }

    /// Takes over `other`'s state without allocating. Both must be built from the same configuration and joints.
    pub fn copy_from(&mut self, other: &ArmLearner) {
        for (learner, other) in self.joints.iter_mut().zip(&other.joints) {
            learner.copy_from(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LEARNERS;
    use proptest::prelude::*;

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|j| format!("joint_{j}")).collect()
    }

    fn motion(t: f64) -> Motion {
        let mut motion = Motion::default();
        for j in 0..MAX_JOINTS {
            let (phase, w) = (0.7 * j as f64, 1.0 + 0.1 * j as f64);
            motion.q[j] = (w * t + phase).sin();
            motion.qd[j] = w * (w * t + phase).cos();
            motion.qdd[j] = -w * w * (w * t + phase).sin();
        }
        motion
    }

    /// What the tests' rigid body says, and the torque measured: friction and an offset besides.
    fn torques(motion: &Motion) -> (PerJoint, PerJoint) {
        let (mut rigid_body, mut effort) = (PerJoint::default(), PerJoint::default());
        for j in 0..MAX_JOINTS {
            rigid_body[j] = 10.0 * motion.q[j].sin() + 2.0 * motion.qdd[j];
            effort[j] = rigid_body[j] + 1.5 * (motion.qd[j] / 0.1).tanh() + 2.0;
        }
        (rigid_body, effort)
    }

    /// Room for `capacity` new samples alone.
    fn room(joints: usize, capacity: usize) -> Batch {
        Batch::new(&Config { batch: capacity, replay: false, ..Config::default() }, joints)
    }

    fn batch(joints: usize, capacity: usize, at: usize) -> Batch {
        filled(room(joints, capacity), capacity, at)
    }

    /// One of full length; with as many replayed samples, if there is room for them.
    fn batch_of(config: &Config, joints: usize, at: usize) -> Batch {
        let mut batch = filled(Batch::new(config, joints), config.batch, at);
        while batch.replay(&motion(9.0), &[4.0; 16], &[1.0; 16]) {}
        batch
    }

    fn filled(mut batch: Batch, capacity: usize, at: usize) -> Batch {
        for i in 0..capacity {
            let motion = motion(0.005 * (at * capacity + i) as f64);
            let (rigid_body, effort) = torques(&motion);
            batch.push(&Observation { stamp_ns: 0, motion, effort }, &rigid_body);
        }
        batch
    }

    /// Mean squared error before learning, over batches `from..to`, of joint 0.
    fn stream(learner: &mut ArmLearner, config: &Config, from: usize, to: usize) -> (f64, f64) {
        let (mut own, mut rigid_body) = (0.0, 0.0);
        for at in from..to {
            let report = learner.step(0, &batch(learner.joints(), config.batch, at));
            assert!(report.finite);
            own += report.loss_before / (to - from) as f64;
            rigid_body += report.rigid_body_mse / (to - from) as f64;
        }
        (own, rigid_body)
    }

    #[test]
    fn a_batch_holds_its_capacity_and_no_more() {
        let mut batch = room(2, 2);
        let row = |batch: &mut Batch, effort: f64| {
            batch.push(&Observation { effort: [effort; 16], ..Observation::default() }, &[1.0; 16])
        };
        assert!(batch.is_empty() && !batch.is_full());
        assert!(row(&mut batch, 1.0) && row(&mut batch, 4.0));
        assert!(batch.is_full() && !row(&mut batch, 9.0));
        assert_eq!(batch.len(), 2);
        assert_eq!(batch.mean_effort()[..3], [2.5, 2.5, 0.0]);
        assert_eq!(batch.mean_rigid_body()[..3], [1.0, 1.0, 0.0]);
        batch.clear();
        assert!(batch.is_empty());
        assert_eq!(batch.mean_effort(), [0.0; 16]);
    }

    #[test]
    fn what_is_replayed_is_learnt_but_neither_scored_nor_integrated() {
        let config = Config { replay: true, integrator_after_update: false, ..Config::default() };
        let joints = names(2);
        let mut plain = ArmLearner::new(&config, &joints).unwrap();
        stream(&mut plain, &config, 0, 20);
        let (mut replaying, batch) = (plain.clone(), batch(2, 10, 20));
        let mut both = Batch::new(&config, 2);
        for (observation, rigid_body) in batch.rows() {
            assert!(both.push(observation, rigid_body));
        }
        assert!(both.is_full());
        let replayed = (0..12).filter(|_| both.replay(&motion(9.0), &[40.0; 16], &[1.0; 16])).count();
        assert_eq!((replayed, both.len(), both.rows().len()), (10, 10, 10));
        assert_eq!((both.mean_effort(), both.seconds()), (batch.mean_effort(), batch.seconds()));
        let (alone, with) = (plain.step(0, &batch), replaying.step(0, &both));
        assert_eq!((alone.loss_before, alone.rigid_body_mse), (with.loss_before, with.rigid_body_mse));
        let of = |arm: &ArmLearner| arm.joint(0).unwrap().integrator();
        assert_eq!(of(&plain), of(&replaying));
        let at = |arm: &mut ArmLearner| arm.predict_joint(0, &motion(9.0), 1.0);
        assert!(at(&mut replaying) > at(&mut plain), "nearer to 40 Nm");
    }

    #[test]
    fn what_a_sample_is_learnt_beside_may_be_another_torque_than_the_rigid_bodys() {
        let config = Config { integrator_gain: 0.0, ..Config::default() };
        let mut arm = ArmLearner::new(&config, &names(1)).unwrap();
        let mut batch = batch(1, 10, 0);
        let efforts: Vec<PerJoint> = batch.rows().map(|(observation, _)| observation.effort).collect();
        efforts.iter().enumerate().for_each(|(sample, effort)| batch.set_base(sample, effort));
        batch.set_base(10, &[0.0; 16]);
        let report = arm.step(0, &batch);
        assert_eq!(report.loss_before, 0.0, "nothing is left over");
        assert!(report.rigid_body_mse > 1.0);
        let mut corrections = [f64::NAN; 10];
        arm.corrections_on(0, Which::Present, &batch, &mut corrections);
        assert_eq!(corrections, [0.0; 10]);
    }

    #[test]
    fn a_step_that_is_seen_is_the_same_and_shows_the_network_before_and_after_it() {
        for (replay, gain) in [(false, 0.5), (true, 0.0)] {
            let config = Config { replay, integrator_gain: gain, hidden: vec![40, 20], ..Config::default() };
            let mut arm = ArmLearner::new(&config, &names(2)).unwrap();
            stream(&mut arm, &config, 0, 10);
            let mut batch = batch_of(&config, 2, 10);
            let looked_at = |arm: &mut ArmLearner, batch: &Batch| {
                let mut said = [f64::NAN; 10];
                arm.corrections_on(0, Which::Present, batch, &mut said);
                said
            };
            let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
            let mut plain = arm.clone();
            let expected = looked_at(&mut arm, &batch);
            let (mut before, mut after) = ([0.0; 10], [0.0; 10]);
            let report = arm.step_seen(0, &batch, &mut before, &mut after);
            assert_eq!(report, plain.step(0, &batch));
            let learnt = looked_at(&mut plain, &batch);
            assert_eq!(arm.joint(0).unwrap().network().params(), plain.joint(0).unwrap().network().params());
            assert_eq!(arm.joint(0).unwrap().integrator(), plain.joint(0).unwrap().integrator());
            assert!(near(&before, &expected), "{before:?} {expected:?}");
            assert!(near(&after, &learnt) && !near(&after, &before), "{after:?} {learnt:?}");

            batch.set_base(3, &[f64::NAN; 16]);
            assert!(!arm.step_seen(0, &batch, &mut before, &mut after).finite);
            assert!(near(&before, &learnt) && before == after, "refused: nothing has changed");
            arm.step_seen(2, &batch, &mut before, &mut after);
            assert!(before.iter().chain(&after).all(|said| said.is_nan()), "no such joint");
        }
    }

    #[test]
    fn every_learner_learns_in_both_presets() {
        for preset in ["robot", "paper"] {
            for learner in LEARNERS {
                // Adam's first moments agree from step to step by construction: their memories must learn slowly.
                let (rate, memory_rate) =
                    if learner.starts_with("adam") { (1e-3, 1e-4) } else { (1e-2, 1e-3) };
                let config = Config {
                    learner: learner.to_string(),
                    hidden: vec![20, 20],
                    rate,
                    memory_rate,
                    integrator_gain: 0.0,
                    ..Config::preset(preset)
                };
                let mut arm = ArmLearner::new(&config, &names(2)).unwrap();
                let untrained = frozen_error(&mut arm.clone(), 200, 300);
                stream(&mut arm, &config, 0, 200);
                let learnt = stream(&mut arm, &config, 200, 300).0;
                assert!(learnt < 0.7 * untrained, "{preset} {learner}: {learnt} of {untrained}");
            }
        }
    }

    /// Mean squared error without learning, over batches `from..to`, of joint 0.
    fn frozen_error(learner: &mut ArmLearner, from: usize, to: usize) -> f64 {
        let errors = (from..to).map(|at| {
            let batch = batch(learner.joints(), 10, at);
            let error =
                |(o, r): (&Observation, &PerJoint)| o.effort[0] - learner.predict_joint(0, &o.motion, r[0]);
            batch.rows().map(error).map(|error| error * error).sum::<f64>() / 10.0
        });
        errors.sum::<f64>() / (to - from) as f64
    }

    #[test]
    fn the_robot_preset_beats_the_rigid_body_and_reports_what_it_predicted() {
        let config = Config::default();
        let joints = names(3);
        let mut arm = ArmLearner::new(&config, &joints).unwrap();
        stream(&mut arm, &config, 0, 100);
        let (own, rigid_body) = stream(&mut arm, &config, 100, 200);
        assert!(own < 0.05 * rigid_body, "{own} of {rigid_body}");

        let batch = batch(3, config.batch, 200);
        let (mut expected, mut expected_rigid) = (0.0, 0.0);
        for (Observation { motion, effort, .. }, rigid_body) in batch.rows() {
            let mut out = [f64::NAN; MAX_JOINTS];
            arm.predict(motion, rigid_body, &mut out);
            assert_eq!(out[3..], [0.0; MAX_JOINTS - 3]);
            assert_eq!(arm.predict_joint(1, motion, rigid_body[1]), out[1]);
            expected += (effort[1] - out[1]).powi(2) / 10.0;
            expected_rigid += (effort[1] - rigid_body[1]).powi(2) / 10.0;
        }
        let report = arm.step(1, &batch);
        assert!((report.loss_before / expected - 1.0).abs() < 1e-6, "{report:?}, {expected}");
        assert!((report.rigid_body_mse / expected_rigid - 1.0).abs() < 1e-9);
        assert!(report.mean_rate > 0.0 && report.mean_rate <= 1.0);
        assert!(report.live_units > 0.1 && report.live_units <= 1.0);
    }

    #[test]
    fn the_integrator_forgets_as_fast_at_any_rate() {
        // A constant error of 1 Nm, nothing for the network to learn from (it stays at zero with a rate this small).
        let config = Config { rate: 1e-9, memory_rate: 0.0, ..Config::default() };
        let after = |period_ns: i64, batches: i64| {
            let mut arm = ArmLearner::new(&config, &names(1)).unwrap();
            let mut batch = room(1, 10);
            for at in 0..10 * batches {
                let observation =
                    Observation { stamp_ns: at * period_ns, effort: [1.0; 16], ..Observation::default() };
                batch.push(&observation, &[0.0; 16]);
                if batch.is_full() {
                    arm.step(0, &batch);
                    batch.clear();
                }
            }
            arm.joint(0).unwrap().integrator()
        };
        let expected = 1.0 - 0.5f64.powi(10);
        for (period_ns, batches) in [(1_000_000, 10), (5_000_000, 2), (500_000, 20)] {
            let integrator = after(period_ns, batches);
            assert!((integrator - expected).abs() < 1e-6, "{period_ns} ns: {integrator}, not {expected}");
        }
    }

    #[test]
    fn the_integrator_takes_up_what_remains_before_or_after_the_update() {
        for after_update in [false, true] {
            let config =
                Config { integrator_after_update: after_update, hidden: vec![40, 20], ..Config::default() };
            let mut arm = ArmLearner::new(&config, &names(1)).unwrap();
            let mut expected = 0.0;
            for at in 0..5 {
                let batch = batch(1, 10, at);
                let mut before = arm.clone();
                arm.step(0, &batch);
                let mut network = if after_update { arm.clone() } else { before.clone() };
                let integrator = network.joint(0).unwrap().integrator();
                let left = batch
                    .rows()
                    .map(|(Observation { motion, effort, .. }, rigid)| {
                        effort[0] - (network.predict_joint(0, motion, rigid[0]) - integrator)
                    })
                    .sum::<f64>()
                    / 10.0;
                expected += 0.5 * (left - expected);
                let now = arm.joint(0).unwrap().integrator();
                assert!((now - expected).abs() < 1e-5, "{now} {expected}");
                before.copy_from(&arm);
            }
            let off = Config { integrator_gain: 0.0, ..config };
            let mut arm = ArmLearner::new(&off, &names(1)).unwrap();
            arm.step(0, &batch(1, 10, 0));
            assert_eq!(arm.joint(0).unwrap().integrator(), 0.0);
        }
    }

    #[test]
    fn without_the_residual_the_rigid_body_does_not_count() {
        let config = Config { residual: false, ..Config::default() };
        let mut arm = ArmLearner::new(&config, &names(1)).unwrap();
        let at = motion(0.3);
        assert_eq!(arm.predict_joint(0, &at, 0.0), arm.predict_joint(0, &at, 99.0));
        let mut arm = ArmLearner::new(&Config::default(), &names(1)).unwrap();
        let (without, with) = (arm.predict_joint(0, &at, 0.0), arm.predict_joint(0, &at, 99.0));
        assert!((with - without - 99.0).abs() < 1e-9);
    }

    #[test]
    fn a_batch_that_is_not_finite_is_refused_and_changes_nothing() {
        let config = Config { hidden: vec![36], ..Config::default() };
        let mut arm = ArmLearner::new(&config, &names(2)).unwrap();
        stream(&mut arm, &config, 0, 3);
        let before = format!("{:?}", arm.joint(0).unwrap().optimiser());
        let params = arm.joint(0).unwrap().network().params();
        let integrator = arm.joint(0).unwrap().integrator();
        for bad in [f64::NAN, f64::INFINITY, 1e300] {
            let spoilt: [fn(&mut Motion, &mut PerJoint, &mut PerJoint, f64); 4] = [
                |motion, _, _, bad| motion.q[1] = bad,
                |motion, _, _, bad| motion.qdd[0] = bad,
                |_, effort, _, bad| effort[0] = bad,
                |_, _, rigid_body, bad| rigid_body[0] = bad,
            ];
            for spoil in spoilt {
                let mut batch = room(2, 10);
                for i in 0..10 {
                    let mut motion = motion(i as f64);
                    let (mut rigid_body, mut effort) = torques(&motion);
                    if i == 4 {
                        spoil(&mut motion, &mut effort, &mut rigid_body, bad);
                    }
                    batch.push(&Observation { stamp_ns: 0, motion, effort }, &rigid_body);
                }
                assert!(!arm.step(0, &batch).finite);
                assert_eq!(format!("{:?}", arm.joint(0).unwrap().optimiser()), before);
                assert_eq!(arm.joint(0).unwrap().network().params(), params);
                assert_eq!(arm.joint(0).unwrap().integrator(), integrator);
            }
            let spoilt = Motion { qd: [bad; 16], ..Motion::default() };
            assert!(arm.predict_joint(0, &spoilt, 0.0).is_nan());
        }
    }

    #[test]
    fn joints_beyond_the_arm_and_empty_batches_are_no_panic() {
        let config = Config { replay: false, ..Config::default() };
        let mut arm = ArmLearner::new(&config, &names(2)).unwrap();
        assert!(arm.predict_joint(2, &Motion::default(), 0.0).is_nan());
        assert!(!arm.step(99, &batch(2, 10, 0)).finite);
        assert!(!arm.step(1, &batch(1, 10, 0)).finite);
        assert!(!arm.step(0, &batch(1, 10, 0)).finite);
        arm.snapshot(99);
        arm.restore(99);
        let before = arm.joint(0).unwrap().network().params();
        assert_eq!(arm.step(0, &room(2, 10)), StepReport { finite: true, ..StepReport::default() });
        assert_eq!(arm.joint(0).unwrap().network().params(), before);
        // Longer than `learner.batch`: the newest rows count.
        let mut other = arm.clone();
        let long = batch(2, 30, 0);
        let mut newest = room(2, 10);
        long.rows().skip(20).for_each(|(observation, rigid)| _ = newest.push(observation, rigid));
        assert_eq!(arm.step(0, &long), other.step(0, &newest));
    }

    #[test]
    fn restore_goes_back_to_the_snapshot_and_a_copy_is_equal() {
        let config = Config { hidden: vec![40, 30], ..Config::default() };
        let mut arm = ArmLearner::new(&config, &names(2)).unwrap();
        let fresh = arm.joint(0).unwrap().network().params();
        stream(&mut arm, &config, 0, 5);
        let mut copy = ArmLearner::new(&config, &names(2)).unwrap();
        copy.copy_from(&arm);
        copy.restore(0);
        assert_eq!(copy.joint(0).unwrap().network().params(), fresh, "no snapshot: the start");
        arm.snapshot(0);
        let good = arm.clone();
        stream(&mut arm, &config, 5, 10);
        let learnt = arm.joint(0).unwrap().optimiser().groups().next().unwrap().memory().unwrap().clone();
        arm.restore(0);
        let (now, good) = (arm.joint(0).unwrap(), good.joint(0).unwrap());
        assert_eq!(now.network().params(), good.network().params());
        assert_eq!(now.integrator(), good.integrator());
        let kept = now.optimiser().groups().next().unwrap().memory().unwrap().rates();
        assert_eq!(kept, learnt.rates(), "the memory keeps what it learnt");

        copy.copy_from(&arm);
        for at in 10..13 {
            let batch = batch(2, 10, at);
            assert_eq!(arm.step(0, &batch), copy.step(0, &batch));
        }
        assert_eq!(arm.joint(0).unwrap().network().params(), copy.joint(0).unwrap().network().params());
    }

    #[test]
    fn what_is_taken_over_is_the_part_that_was_named() {
        let config = Config { hidden: vec![40, 30], ..Config::default() };
        let mut other = ArmLearner::new(&config, &names(2)).unwrap();
        stream(&mut other, &config, 0, 5);
        let rates = |arm: &ArmLearner| {
            let joint = arm.joint(0).unwrap();
            joint.optimiser().groups().map(|g| g.memory().unwrap().rates().to_vec()).collect::<Vec<_>>()
        };
        let params = |arm: &ArmLearner| arm.joint(0).unwrap().network().params();
        for what in [Reload::All, Reload::Network, Reload::Memory, Reload::None] {
            let mut arm = ArmLearner::new(&config, &names(2)).unwrap();
            stream(&mut arm, &config, 20, 23);
            let own = arm.clone();
            arm.take(&other, what);
            let network = if matches!(what, Reload::All | Reload::Network) { &other } else { &own };
            let memory = if matches!(what, Reload::All | Reload::Memory) { &other } else { &own };
            assert_eq!(params(&arm), params(network), "{what:?}");
            assert_eq!(rates(&arm), rates(memory), "{what:?}");
            assert_eq!(arm.joint(0).unwrap().integrator(), network.joint(0).unwrap().integrator());
        }
    }

    #[test]
    fn other_rates_count_from_the_next_step() {
        let config = Config { learner: "gd".into(), hidden: vec![40, 30], ..Config::default() };
        let rates = Rates { base: 0.01, memory: 0.0, integrator: 0.0 };
        let wanted = Config { rate: rates.base, integrator_gain: 0.0, ..config.clone() };
        let mut changed = ArmLearner::new(&config, &names(1)).unwrap();
        let mut born = ArmLearner::new(&wanted, &names(1)).unwrap();
        changed.set_rates(&rates);
        for at in 0..5 {
            assert_eq!(changed.step(0, &batch(1, 10, at)), born.step(0, &batch(1, 10, at)));
        }
        assert_eq!(changed.joint(0).unwrap().integrator(), 0.0);
        let memory = |memory_rate| {
            let mut arm =
                ArmLearner::new(&Config { hidden: vec![40, 30], ..Config::default() }, &names(1)).unwrap();
            arm.set_rates(&Rates { memory: memory_rate, ..Rates::from_config(&Config::default()) });
            stream(&mut arm, &Config::default(), 0, 5);
            arm.joint(0).unwrap().optimiser().groups().next().unwrap().memory().unwrap().rates().to_vec()
        };
        assert!(memory(0.0).iter().all(|&v| v == 0.03), "a memory at rate 0 learns nothing");
        assert_ne!(memory(0.1), memory(0.0));
    }

    #[test]
    fn impossible_shapes_are_refused_with_advice() {
        let error = |hidden: Vec<usize>, joints: usize| {
            ArmLearner::new(&Config { hidden, ..Config::default() }, &names(joints)).unwrap_err().to_string()
        };
        assert!(error(vec![5], 0).contains("1 to 16 joints, not 0"));
        assert!(error(vec![5], 17).contains("not 17"));
        assert!(error(vec![5, 0], 1).contains("without units"));
        assert!(error(vec![4096; 9], 1).contains("choose smaller layers"));
        assert!(error(vec![usize::MAX, usize::MAX], 1).contains("choose smaller layers"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn whatever_is_measured_the_weights_stay_finite(
            preset in prop::sample::select(vec!["robot", "paper"]),
            learner in prop::sample::select(LEARNERS),
            values in prop::collection::vec(
                prop_oneof![
                    8 => -5.0f64..5.0,
                    1 => any::<f64>(),
                    1 => -1e6f64..1e6,
                    1 => prop::sample::select(vec![f64::NAN, 1e14, 1e20, -1e30, 1e37, -3e38]),
                ],
                40,
            ),
            set in prop::sample::select(InstructionSet::available()),
        ) {
            let config = Config {
                hidden: vec![6, 5], batch: 2, learner: learner.into(), ..Config::preset(preset)
            };
            let mut arm = ArmLearner::new(&config, &names(1)).unwrap();
            arm.set_instructions(set);
            for pair in values.chunks_exact(8) {
                let mut batch = room(1, 2);
                for v in pair.chunks_exact(4) {
                    let mut motion = Motion::default();
                    (motion.q[0], motion.qd[0], motion.qdd[0]) = (v[0], v[1], v[2]);
                    batch.push(&Observation { stamp_ns: 0, motion, effort: [v[3]; 16] }, &[0.0; 16]);
                }
                arm.step(0, &batch);
                let joint = arm.joint(0).unwrap();
                prop_assert!(joint.network().params().iter().all(|p| p.is_finite()));
                for memory in joint.optimiser().groups().filter_map(|group| group.memory()) {
                    prop_assert!(memory.rates().iter().all(|rate| (0.99e-9..=1.0).contains(rate)));
                }
                prop_assert!(joint.integrator().is_finite());
                prop_assert!(arm.predict_joint(0, &motion_of_ones(), 0.0).is_finite());
            }
        }
    }

    fn motion_of_ones() -> Motion {
        Motion { q: [1.0; 16], qd: [1.0; 16], qdd: [1.0; 16] }
    }
}
