//! The model that the pipeline serves: a seam for tests, and the real one behind it.
//!
//! Contract: a [`Model`] is called by one thread at a time (the pinned one, live). After construction and
//! [`Model::warm_up`] none of its calls may allocate, lock, log or block. If one of them panics, the runtime catches it,
//! sends zero torque and stops.

use super::gate::{Action, Gate};
use super::limits::{Limits, LimitsError};
use super::tuning::Tuning;
use crate::config::Config;
use crate::dynamics::Arm;
use crate::learn::{ArmLearner, Batch, LearnError, Reload};
use crate::sample::{MAX_JOINTS, Motion, Observation, PerJoint};

/// How a model is doing, for diagnostics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    /// Bit j: joint j's learner is let through by the gate.
    pub gates_open: u16,
    /// Bit j: joint j's errors below rest on at least one batch.
    pub scored: u16,
    /// Running mean squared error of the whole prediction, Nm².
    pub learner_mse: PerJoint,
    /// Running mean squared error of the rigid body alone, Nm².
    pub rigid_body_mse: PerJoint,
}

impl Health {
    /// Whether the gate lets joint `joint`'s learner through.
    pub fn is_open(&self, joint: usize) -> bool {
        self.gates_open >> joint & 1 == 1
    }

    /// The running root mean squared errors of the whole prediction and of the rigid body alone, Nm; NaN before the joint
    /// was scored.
    pub fn rms(&self, joint: usize) -> (f64, f64) {
        if self.scored >> joint & 1 == 1 {
            (self.learner_mse[joint].sqrt(), self.rigid_body_mse[joint].sqrt())
        } else {
            (f64::NAN, f64::NAN)
        }
    }
}

/// What predicts torques and learns, joint by joint.
pub trait Model: Send {
    /// What a snapshot of it holds: handed across threads in a box that was made beforehand.
    type State: Send;

    /// The number of joints, at most [`MAX_JOINTS`].
    fn joints(&self) -> usize;

    /// The torque for `query`, after the gate, and the rigid body's part of it, Nm. Writes the first
    /// [`Model::joints`] entries, and leaves the others at zero.
    fn predict(&mut self, query: &Motion, predicted: &mut PerJoint, rigid_body: &mut PerJoint);

    /// Takes in what may be learnt from; true when that completes a batch. Until [`Model::end_batch`] it is not called
    /// again.
    fn observe(&mut self, observation: &Observation) -> bool;

    /// One learning step of one joint on the complete batch.
    fn step(&mut self, joint: usize);

    /// In place of [`Model::step`] while learning is switched off: scores the joint on the batch, for the gate.
    fn score(&mut self, _joint: usize) {}

    /// The batch is done with, whether or not every joint got its step.
    fn end_batch(&mut self);

    /// Forgets what has been gathered of a batch: the observations to come do not continue those before.
    fn discard_batch(&mut self) {}

    /// A task begins (the paper's phase): what was learnt about learning is kept, what belongs to the last task is not.
    fn new_task(&mut self) {}

    /// Writes the learnt state into `state`, which has this model's shape.
    fn snapshot(&self, _state: &mut Self::State) {}

    /// Takes over the part of `state` that `what` names, as a new task begins with it.
    fn take(&mut self, _state: &Self::State, _what: Reload) {}

    /// Other rates and another gate. True if another torque may be predicted for the same motion from now on.
    fn tune(&mut self, _tuning: &Tuning) -> bool {
        false
    }

    /// How it is doing.
    fn health(&self) -> Health {
        Health::default()
    }

    /// Runs every path once and leaves the model as it was. Called before the first sample; may allocate.
    fn warm_up(&mut self) {}
}

const _: () = assert!(MAX_JOINTS <= 16, "Health's sets of joints have 16 bits");

/// Why the model could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The learners could not be built.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// The URDF's arm and the learner's joints differ.
    #[error("the URDF's joints are [{}], but [{}] are to be learnt; set `joints` to the URDF's, in its order", arm.join(", "), joints.join(", "))]
    OtherJoints {
        /// The arm's joints.
        arm: Vec<String>,
        /// The joints asked for.
        joints: Vec<String>,
    },
}

/// The real model: the rigid body (if there is a URDF), a learner per joint, the gate, and the batch being gathered.
///
/// Without a URDF the rigid body's torque is zero. A learner that does not learn the residual (`learner.residual: false`)
/// predicts the whole torque by itself; the gate, if it is on, still falls back to the rigid body's.
#[derive(Clone, Debug)]
pub struct InverseDynamics {
    arm: Option<Arm>,
    learner: ArmLearner,
    gate: Gate,
    batch: Batch,
    gap_ns: i64,
    last_stamp_ns: Option<i64>,
}

impl InverseDynamics {
    /// Fresh learners for `joints` on top of `arm`.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn new(config: &Config, arm: Option<Arm>, joints: &[String]) -> Result<Self, ModelError> {
        if let Some(arm) = arm.as_ref().filter(|arm| arm.joint_names() != joints) {
            return Err(ModelError::OtherJoints { arm: arm.joint_names().to_vec(), joints: joints.to_vec() });
        }
        Ok(InverseDynamics {
            arm,
            learner: ArmLearner::new(config, joints)?,
            gate: Gate::new(config),
            batch: Batch::new(joints.len(), config.batch),
            gap_ns: (config.gap * 1e6) as i64,
            last_stamp_ns: None,
        })
    }

    /// The limits that belong to this arm.
    ///
    /// # Errors
    /// [`LimitsError`].
    pub fn limits(&self, config: &Config) -> Result<Limits, LimitsError> {
        let effort = |arm: &Arm| (0..arm.len()).map(|joint| arm.limits(joint).effort).collect::<Vec<_>>();
        let effort = self.arm.as_ref().map(effort).unwrap_or_default();
        Limits::new(config, self.learner.joints(), &effort)
    }

    /// The rigid body, if there is one.
    pub fn arm(&self) -> Option<&Arm> {
        self.arm.as_ref()
    }

    /// The learners.
    pub fn learner(&self) -> &ArmLearner {
        &self.learner
    }

    /// The learners, to load a checkpoint into them before the start.
    pub fn learner_mut(&mut self) -> &mut ArmLearner {
        &mut self.learner
    }

    /// The gate.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    fn rigid_body(&self, motion: &Motion) -> PerJoint {
        self.arm.as_ref().map_or([0.0; MAX_JOINTS], |arm| arm.inverse_dynamics(motion))
    }

    fn judge(&mut self, joint: usize, learner_mse: f64, rigid_body_mse: f64) {
        match self.gate.update(joint, learner_mse, rigid_body_mse) {
            Action::Keep => {}
            Action::Snapshot => self.learner.snapshot(joint),
            Action::Restore => self.learner.restore(joint),
        }
    }
}

impl Model for InverseDynamics {
    type State = ArmLearner;

    fn joints(&self) -> usize {
        self.learner.joints()
    }

    fn predict(&mut self, query: &Motion, predicted: &mut PerJoint, rigid_body: &mut PerJoint) {
        *rigid_body = self.rigid_body(query);
        self.learner.predict(query, rigid_body, predicted);
        for joint in 0..self.learner.joints() {
            if !self.gate.is_open(joint) {
                predicted[joint] = rigid_body[joint];
            }
        }
    }

    fn observe(&mut self, observation: &Observation) -> bool {
        let stamp_ns = &observation.stamp_ns;
        let continues = self
            .last_stamp_ns
            .is_none_or(|last| *stamp_ns > last && stamp_ns.saturating_sub(last) <= self.gap_ns);
        if !continues {
            self.batch.clear();
        }
        self.last_stamp_ns = Some(*stamp_ns);
        self.batch.push(observation, &self.rigid_body(&observation.motion));
        self.batch.is_full()
    }

    fn step(&mut self, joint: usize) {
        let report = self.learner.step(joint, &self.batch);
        let loss = if report.finite { report.loss_before } else { f64::NAN };
        self.judge(joint, loss, report.rigid_body_mse);
    }

    fn score(&mut self, joint: usize) {
        let (mut learner, mut rigid) = (0.0, 0.0);
        for (observation, rigid_body) in self.batch.rows() {
            let effort = observation.effort[joint];
            let predicted = self.learner.predict_joint(joint, &observation.motion, rigid_body[joint]);
            learner += (effort - predicted).powi(2);
            rigid += (effort - rigid_body[joint]).powi(2);
        }
        let rows = self.batch.len().max(1) as f64;
        // A frozen network that went astray is not put back: it is what the user froze.
        if self.gate.update(joint, learner / rows, rigid / rows) == Action::Snapshot {
            self.learner.snapshot(joint);
        }
    }

    fn end_batch(&mut self) {
        self.batch.clear();
    }

    fn discard_batch(&mut self) {
        self.batch.clear();
        self.last_stamp_ns = None;
    }

    fn new_task(&mut self) {
        self.learner.new_task();
    }

    fn snapshot(&self, state: &mut ArmLearner) {
        state.copy_from(&self.learner);
    }

    fn take(&mut self, state: &ArmLearner, what: Reload) {
        self.learner.take(state, what);
        // Other networks have made no errors yet.
        if matches!(what, Reload::All | Reload::Network) {
            self.gate.reset();
        }
    }

    fn tune(&mut self, tuning: &Tuning) -> bool {
        let was_gated = self.gate.is_enabled();
        self.learner.set_rates(&tuning.rates);
        self.gate.set(&tuning.gate);
        was_gated && !tuning.gate.enabled
    }

    fn health(&self) -> Health {
        let bits = |is: fn(&Gate, usize) -> bool| {
            (0..self.learner.joints()).fold(0, |bits, joint| bits | u16::from(is(&self.gate, joint)) << joint)
        };
        Health {
            gates_open: bits(Gate::is_open),
            scored: bits(Gate::is_scored),
            learner_mse: self.gate.learner_error(),
            rigid_body_mse: self.gate.rigid_body_error(),
        }
    }

    fn warm_up(&mut self) {
        let kept = self.clone();
        let mut torque = [[0.0; MAX_JOINTS]; 2];
        for lap in 0..3 {
            let motion = Motion { q: [0.1 * f64::from(lap); MAX_JOINTS], ..Motion::default() };
            let [predicted, rigid_body] = &mut torque;
            self.predict(&motion, predicted, rigid_body);
            self.end_batch();
            self.last_stamp_ns = None;
            let mut stamp_ns = 0;
            while !self.observe(&Observation { stamp_ns, motion, effort: [1.0; MAX_JOINTS] }) {
                stamp_ns += 1;
            }
            for joint in 0..self.learner.joints() {
                self.step(joint);
                self.score(joint);
                self.learner.snapshot(joint);
                self.learner.restore(joint);
            }
            self.new_task();
        }
        self.learner.copy_from(&kept.learner);
        self.gate = kept.gate;
        self.batch.clear();
        for (observation, rigid_body) in kept.batch.rows() {
            self.batch.push(observation, rigid_body);
        }
        self.last_stamp_ns = kept.last_stamp_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joints(count: usize) -> Vec<String> {
        (0..count).map(|joint| format!("j{joint}")).collect()
    }

    fn model(change: impl FnOnce(&mut Config)) -> InverseDynamics {
        let mut config = Config { hidden: vec![8], ..Config::default() };
        change(&mut config);
        InverseDynamics::new(&config, None, &joints(2)).unwrap()
    }

    fn observation(k: i64) -> Observation {
        Observation {
            stamp_ns: k * 1_000_000,
            motion: Motion { q: [0.3 * (0.05 * k as f64).sin(); MAX_JOINTS], ..Motion::default() },
            effort: [3.0; MAX_JOINTS],
        }
    }

    fn predict(model: &mut InverseDynamics) -> PerJoint {
        let (mut predicted, mut rigid_body) = ([0.0; MAX_JOINTS], [0.0; MAX_JOINTS]);
        model.predict(&observation(5).motion, &mut predicted, &mut rigid_body);
        predicted
    }

    fn learn(model: &mut InverseDynamics, batches: std::ops::Range<i64>) {
        for k in batches.start * 10..batches.end * 10 {
            if model.observe(&observation(k)) {
                (0..2).for_each(|joint| model.step(joint));
                model.end_batch();
            }
        }
    }

    #[test]
    fn it_gives_the_rigid_body_until_the_learner_is_better_and_then_what_was_learnt() {
        let mut model = model(|_| ());
        assert_eq!(predict(&mut model), [0.0; MAX_JOINTS], "shut, and no URDF");
        assert!(model.health().rms(0).0.is_nan(), "not scored yet");
        learn(&mut model, 0..100);
        let predicted = predict(&mut model);
        assert!((predicted[0] - 3.0).abs() < 0.5 && (predicted[1] - 3.0).abs() < 0.5, "{predicted:?}");
        assert_eq!(predicted[2..], [0.0; MAX_JOINTS - 2]);
        assert_eq!(model.health().gates_open, 0b11);
        let (learner, rigid_body) = model.health().rms(1);
        assert!(learner < 0.5 && (rigid_body - 3.0).abs() < 1e-9, "{learner} {rigid_body}");
    }

    #[test]
    fn a_frozen_model_is_let_through_if_it_is_good() {
        let mut model = model(|_| ());
        learn(&mut model, 0..100);
        let learner = model.learner.clone();
        let mut frozen = self::model(|_| ());
        frozen.learner_mut().copy_from(&learner);
        (0..10).for_each(|k| assert_eq!(frozen.observe(&observation(k)), k == 9));
        (0..2).for_each(|joint| frozen.score(joint));
        frozen.end_batch();
        assert_eq!(frozen.health().gates_open, 0b11);
        assert_eq!(predict(&mut frozen), predict(&mut model));
    }

    #[test]
    fn a_gap_or_a_clock_that_was_reset_begins_the_batch_anew() {
        let mut model = model(|_| ());
        (0..9).for_each(|k| assert!(!model.observe(&observation(k))));
        assert!(!model.observe(&observation(1000)), "a gap");
        (0..9).for_each(|k| assert!(!model.observe(&observation(k)), "a reset"));
        assert!(model.observe(&observation(9)));
    }

    #[test]
    fn warming_up_leaves_it_as_it_was() {
        let (mut warm, mut cold) = (model(|_| ()), model(|_| ()));
        for model in [&mut warm, &mut cold] {
            learn(model, 0..3);
            (30..34).for_each(|k| assert!(!model.observe(&observation(k))));
        }
        warm.warm_up();
        assert_eq!(warm.batch.len(), 4);
        for model in [&mut warm, &mut cold] {
            (34..40).for_each(|k| assert_eq!(model.observe(&observation(k)), k == 39));
            (0..2).for_each(|joint| model.step(joint));
            model.end_batch();
            learn(model, 4..20);
        }
        assert_eq!(predict(&mut warm).map(f64::to_bits), predict(&mut cold).map(f64::to_bits));
        assert_eq!(warm.health(), cold.health());
    }

    #[test]
    fn a_snapshot_is_the_learnt_state() {
        let mut model = model(|_| ());
        let mut state = model.learner.clone();
        learn(&mut model, 0..10);
        model.snapshot(&mut state);
        let motion = observation(5).motion;
        let zero = [0.0; MAX_JOINTS];
        let (mut a, mut b) = (zero, zero);
        state.predict(&motion, &zero, &mut a);
        model.learner.predict(&motion, &zero, &mut b);
        assert_eq!(a, b);
    }

    #[test]
    fn a_model_that_takes_over_a_network_is_gated_until_that_is_scored() {
        let mut model = model(|_| ());
        learn(&mut model, 0..100);
        let fresh = self::model(|_| ()).learner.clone();
        let mut memory_only = self::model(|_| ());
        learn(&mut memory_only, 0..100);
        memory_only.take(&fresh, Reload::Memory);
        assert_eq!(memory_only.health().gates_open, 0b11, "the networks are the same");
        model.take(&fresh, Reload::Network);
        assert_eq!(model.health().gates_open, 0);
        assert_eq!(predict(&mut model), [0.0; MAX_JOINTS]);
        learn(&mut model, 100..200);
        assert_eq!(model.health().gates_open, 0b11);
    }

    #[test]
    fn the_urdfs_joints_must_be_the_learners() {
        let arm = Arm::from_urdf_str(
            r#"<robot name="r"><link name="base"/><link name="l"><inertial><mass value="1"/>
               <inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link>
               <joint name="j" type="revolute"><parent link="base"/><child link="l"/><axis xyz="0 1 0"/>
               <limit lower="-1" upper="1" velocity="1" effort="50"/></joint></robot>"#,
            &[],
            [0.0, 0.0, -9.81],
        )
        .unwrap();
        let config = Config::default();
        assert!(InverseDynamics::new(&config, Some(arm.clone()), &joints(1)).is_err());
        let model = InverseDynamics::new(&config, Some(arm), &["j".to_string()]).unwrap();
        assert_eq!(model.limits(&config).unwrap().magnitude()[0], 40.0);
    }
}
