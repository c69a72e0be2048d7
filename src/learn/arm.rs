//! The arm's learners, one per joint, and the batch that they share.
//!
//! Contract: constructors allocate; everything else runs in the pinned thread and does not. A joint number beyond the
//! arm's is no panic: it predicts NaN, and a step of it changes nothing and reports `finite: false`.

use super::joint::Scaling;
use super::{JointLearner, StepReport};
use crate::config::Config;
use crate::sample::{MAX_JOINTS, Motion, PerJoint};

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
pub(super) struct Row {
    pub(super) motion: Motion,
    pub(super) effort: PerJoint,
    pub(super) rigid_body: PerJoint,
}

/// The samples of one learning step, shared by all joints of the arm.
#[derive(Clone, Debug)]
pub struct Batch {
    joints: usize,
    rows: Vec<Row>,
    capacity: usize,
}

impl Batch {
    /// Room for `capacity` samples of an arm with `joints` joints.
    pub fn new(joints: usize, capacity: usize) -> Self {
        Batch { joints: joints.min(MAX_JOINTS), rows: Vec::with_capacity(capacity), capacity }
    }

    /// Appends one sample: motion, measured torque and the rigid body's torque for that motion (zero without one), Nm.
    /// Returns false, and leaves the sample out, if the batch is full.
    pub fn push(&mut self, motion: &Motion, effort: &PerJoint, rigid_body: &PerJoint) -> bool {
        if self.is_full() {
            return false;
        }
        self.rows.push(Row { motion: *motion, effort: *effort, rigid_body: *rigid_body });
        true
    }

    /// Takes all samples out.
    pub fn clear(&mut self) {
        self.rows.clear();
    }

    /// How many samples it holds.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether it can take no more.
    pub fn is_full(&self) -> bool {
        self.rows.len() >= self.capacity
    }

    /// Mean over the samples of the measured torque, Nm (zero if empty).
    pub fn mean_effort(&self) -> PerJoint {
        self.mean(|row| &row.effort)
    }

    /// Mean over the samples of the rigid body's torque, Nm (zero if empty).
    pub fn mean_rigid_body(&self) -> PerJoint {
        self.mean(|row| &row.rigid_body)
    }

    /// The samples, oldest first: motion, measured torque, the rigid body's torque.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&Motion, &PerJoint, &PerJoint)> {
        self.rows.iter().map(|row| (&row.motion, &row.effort, &row.rigid_body))
    }

    /// The newest `count` rows, or as many as there are.
    pub(super) fn newest(&self, count: usize) -> &[Row] {
        &self.rows[self.rows.len().saturating_sub(count)..]
    }

    fn mean(&self, of: impl Fn(&Row) -> &PerJoint) -> PerJoint {
        let mut mean = PerJoint::default();
        for row in &self.rows {
            for (mean, value) in mean[..self.joints].iter_mut().zip(of(row)) {
                *mean += value / self.rows.len() as f64;
            }
        }
        mean
    }
}

/// One [`JointLearner`] per joint.
#[derive(Clone, Debug)]
pub struct ArmLearner {
    joints: Vec<JointLearner>,
    scaling: Scaling,
    input: Vec<f32>,
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
        Ok(ArmLearner {
            joints: (0..count)
                .map(|joint| JointLearner::new(config, joint, count))
                .collect::<Result<_, _>>()?,
            scaling: Scaling::from_config(config),
            input: vec![0.0; 3 * count],
        })
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
        self.scaling.input(motion, &mut self.input);
        for ((learner, out), &rigid_body) in self.joints.iter_mut().zip(out).zip(rigid_body) {
            *out = learner.predict(&self.input, rigid_body);
        }
    }

    /// [`predict`](ArmLearner::predict) for one joint; `rigid_body` is that joint's.
    pub fn predict_joint(&mut self, joint: usize, motion: &Motion, rigid_body: f64) -> f64 {
        self.scaling.input(motion, &mut self.input);
        self.joints.get_mut(joint).map_or(f64::NAN, |learner| learner.predict(&self.input, rigid_body))
    }

    /// One step of one joint on `batch`.
    pub fn step(&mut self, joint: usize, batch: &Batch) -> StepReport {
        self.joints.get_mut(joint).map_or(StepReport::default(), |learner| learner.step(batch))
    }

    /// A new task (the paper's phase): keeps networks, integrators and what the memories learnt; forgets the last
    /// gradients and all moments.
    pub fn new_task(&mut self) {
        self.joints.iter_mut().for_each(JointLearner::new_task);
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
