//! The model that the pipeline serves: a seam for tests, and the real one behind it.
//!
//! Contract: a [`Model`] is called by one thread at a time (the pinned one, live). After construction and
//! [`Model::warm_up`] none of its calls may allocate, lock, log or block. If one of them panics, the runtime catches it,
//! sends zero torque and stops.
//!
//! | file | holds |
//! |---|---|
//! | `learnt` | everything learnt, in a checkpoint and out of it |
//! | `base` | what is learnt by least squares beneath the networks |
//! | `experts` | the mix of experts with their integrators |
//! | `payload` | noticing that the payload has changed |
//! | `replay` | samples that are remembered and learnt from again |
//! | `frozen` | how far a network is trusted when learning is switched off |

mod base;
mod experts;
mod frozen;
mod learnt;
mod payload;
mod replay;

pub use learnt::Learnt;

use base::LeastSquares;
use experts::Torques;

use super::gate::{Action, Gate};
use super::limits::{Limits, LimitsError};
use super::tuning::Tuning;
use crate::config::Config;
use crate::dynamics::{Arm, Basis};
use crate::learn::{ArmLearner, Batch, LearnError, Reload, Which};
use crate::sample::{MAX_JOINTS, Motion, Observation, PerJoint};

/// How a model is doing, for diagnostics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    /// Bit j: joint j's learner is let through by the gate.
    pub gates_open: u16,
    /// Bit j: joint j's errors below rest on at least one batch.
    pub scored: u16,
    /// Running mean squared error of the whole prediction, Nm²; of a mix, of what of it may be commanded.
    pub learner_mse: PerJoint,
    /// Running mean squared error of the rigid body alone, Nm².
    pub rigid_body_mse: PerJoint,
    /// How often the payload was noticed to have changed (`payload.detect`).
    pub payload_changes: u64,
}

/// The answer to a motion, Nm; what lies past the model's joints is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// The torque that is expected to be measured: what is scored.
    pub predicted: PerJoint,
    /// The torque that may be commanded for the motion. Nothing in it merely repeats the torque measured last, which a
    /// command would feed back with a gain of one at every sample. Integrators are in it, per batch and by their gain.
    pub commanded: PerJoint,
    /// The rigid body's part of it.
    pub rigid_body: PerJoint,
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

    /// The torques for `query`; what may be commanded, after the gate.
    fn predict(&mut self, query: &Motion) -> Prediction;

    /// The torque measured with the sample that was answered last, before anything else is learnt of it.
    fn hear(&mut self, _stamp_ns: i64, _effort: &PerJoint) {}

    /// Takes in what may be learnt from; true when that completes a batch. Until [`Model::end_batch`] it is not called
    /// again.
    fn observe(&mut self, observation: &Observation) -> bool;

    /// The batch is complete: what all joints share is done, before any joint's step or score.
    fn begin_batch(&mut self) {}

    /// One learning step of one joint on the complete batch.
    fn step(&mut self, joint: usize);

    /// In place of [`Model::step`] while learning is switched off: scores the joint on the batch, for the gate.
    fn score(&mut self, _joint: usize) {}

    /// The batch is done with, whether or not every joint got its step.
    fn end_batch(&mut self);

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

/// The real model: the rigid body (if there is a URDF), what was learnt, the gate, and the batch being gathered.
///
/// Without a URDF the rigid body's torque is zero. A learner that does not learn the residual (`learner.residual: false`)
/// predicts the whole torque by itself; the gate, if it is on, still falls back to the rigid body's.
///
/// What is predicted, part by part, each of which a parameter switches:
///
/// | learning | `mix.enabled` | torque |
/// |---|---|---|
/// | on | off | base + network + integrator, where base is least squares' (`rls.enabled`) or else the rigid body's |
/// | on | on | the mix of experts (`experts`); without those that hand the measured torque back, where it may be commanded |
/// | off | any | base + g c network (`frozen.gated`), or as with learning on, with everything as it stands |
///
/// A batch is taken in this order: what stood before it is scored on it; least squares learns it, and the payload's change is
/// looked for; then, joint by joint, the network learns it with as many samples from memory (`replay.enabled`), beside
/// least squares as it is now; and the integrators take up what then remains.
#[derive(Clone, Debug)]
pub struct InverseDynamics {
    arm: Option<Arm>,
    learnt: Learnt,
    gate: Gate,
    batch: Batch,
    scratch: Scratch,
    learning: bool,
    gap_ns: i64,
    last_stamp_ns: Option<i64>,
    last_heard_ns: Option<i64>,
}

/// What is known of each sample of the batch, and of a joint's.
#[derive(Clone, Debug)]
struct Scratch {
    /// Where there is least squares, what its torques are linear in.
    bases: Vec<Basis>,
    /// The base's torques before the batch is learnt from, and after.
    before: Vec<PerJoint>,
    after: Vec<PerJoint>,
    familiarity: Vec<f64>,
    measured: Vec<f64>,
    torques: Vec<Torques>,
    /// What a network adds as it stands, and when it has learnt from the batch.
    corrections: Vec<f64>,
    corrected: Vec<f64>,
    shares: [f64; 2],
}

impl Scratch {
    fn new(rows: usize, rls: Option<&LeastSquares>) -> Self {
        Scratch {
            bases: rls.map_or(vec![], |rls| (0..rows).map(|_| rls.basis()).collect()),
            before: vec![[0.0; MAX_JOINTS]; rows],
            after: vec![[0.0; MAX_JOINTS]; rows],
            familiarity: vec![1.0; rows],
            measured: vec![0.0; rows],
            torques: vec![Torques::default(); rows],
            corrections: vec![0.0; rows],
            corrected: vec![0.0; rows],
            shares: experts::shares(None),
        }
    }
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
        let learnt = Learnt::new(config, arm.as_ref(), joints)?;
        Ok(InverseDynamics {
            scratch: Scratch::new(config.batch.max(1), learnt.rls.as_ref()),
            learnt,
            arm,
            gate: Gate::new(config),
            batch: Batch::new(config, joints.len()),
            learning: config.learning,
            gap_ns: (config.gap * 1e6) as i64,
            last_stamp_ns: None,
            last_heard_ns: None,
        })
    }

    /// The limits that belong to this arm.
    ///
    /// # Errors
    /// [`LimitsError`].
    pub fn limits(&self, config: &Config) -> Result<Limits, LimitsError> {
        let effort = |arm: &Arm| (0..arm.len()).map(|joint| arm.limits(joint).effort).collect::<Vec<_>>();
        let effort = self.arm.as_ref().map(effort).unwrap_or_default();
        Limits::new(config, self.learnt.learner.joints(), &effort)
    }

    /// The rigid body, if there is one.
    pub fn arm(&self) -> Option<&Arm> {
        self.arm.as_ref()
    }

    /// Everything learnt.
    pub fn learnt(&self) -> &Learnt {
        &self.learnt
    }

    /// Everything learnt, to load a checkpoint into it before the start.
    pub fn learnt_mut(&mut self) -> &mut Learnt {
        &mut self.learnt
    }

    /// The networks' learners.
    pub fn learner(&self) -> &ArmLearner {
        &self.learnt.learner
    }

    /// The gate.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    fn rigid_body(&self, motion: &Motion) -> PerJoint {
        self.arm.as_ref().map_or([0.0; MAX_JOINTS], |arm| arm.inverse_dynamics(motion))
    }

    /// The torque beside which the networks learn.
    fn base(&self, motion: &Motion) -> PerJoint {
        self.learnt.rls.as_ref().map_or_else(|| self.rigid_body(motion), |rls| rls.predict(motion))
    }

    /// The base's torques for new sample number `row` of the batch, of which the rigid body's are known.
    fn base_of(&self, row: usize, rigid_body: &PerJoint) -> PerJoint {
        let rls = self.learnt.rls.as_ref().zip(self.scratch.bases.get(row));
        rls.map_or(*rigid_body, |(rls, basis)| rls.torques(basis))
    }

    fn judge(&mut self, joint: usize, learner_mse: f64, rigid_body_mse: f64) {
        let action = self.gate.update(joint, learner_mse, rigid_body_mse);
        // With `frozen.gated` snapshots are taken by the clock.
        let by_gate = self.learnt.frozen.is_none();
        match action {
            Action::Keep => {}
            Action::Snapshot if by_gate => self.learnt.learner.snapshot(joint),
            Action::Snapshot => {}
            Action::Restore => self.learnt.learner.restore(joint),
        }
    }

    /// Fills in what is known of a joint's samples: measured torques and families', with base and network before or after the
    /// batch was learnt from.
    fn look_at(&mut self, joint: usize, is_learnt: bool) {
        let Scratch { before, after, measured, torques, corrections, corrected, .. } = &mut self.scratch;
        let (base, corrections) = if is_learnt { (after, corrected) } else { (before, corrections) };
        for (row, (observation, rigid_body)) in self.batch.rows().enumerate() {
            measured[row] = observation.effort[joint];
            torques[row] =
                Torques { body: rigid_body[joint], base: base[row][joint], correction: corrections[row] };
        }
    }

    /// The mean squared error of the rigid body, and of base, `share` of the network (row by row) and integrator, over
    /// what [`InverseDynamics::look_at`] has filled in.
    fn errors(&self, integrator: f64, share: impl Fn(usize) -> f64) -> (f64, f64) {
        let residual = self.learnt.residual;
        let (mut rigid, mut own) = (0.0, 0.0);
        let rows = self.batch.len();
        for row in 0..rows {
            let (measured, of) = (self.scratch.measured[row], &self.scratch.torques[row]);
            let base = if residual { of.base } else { 0.0 };
            rigid += (measured - of.body).powi(2);
            own += (measured - base - share(row) * of.correction - integrator).powi(2);
        }
        (rigid / rows.max(1) as f64, own / rows.max(1) as f64)
    }

    /// Judges a joint's snapshot by the batch, before that is learnt from.
    fn prove(&mut self, joint: usize) {
        let Some(frozen) = &mut self.learnt.frozen else { return };
        let Scratch { before, corrections, .. } = &mut self.scratch;
        let said = &mut corrections[..self.batch.len()];
        self.learnt.learner.corrections_on(joint, Which::Saved, &self.batch, said);
        let residual = self.learnt.residual;
        let base = |base: &PerJoint| if residual { base[joint] } else { 0.0 };
        let left = self.batch.rows().zip(before).map(|((seen, _), before)| seen.effort[joint] - base(before));
        if frozen.judge(joint, said, left) {
            self.learnt.learner.snapshot(joint);
        }
    }

    /// A step of a joint with everything that is plain left out: its network and integrator alone, beside the rigid body.
    fn plain_step(&mut self, joint: usize) {
        let report = self.learnt.learner.step(joint, &self.batch);
        let loss = if report.finite { report.loss_before } else { f64::NAN };
        self.judge(joint, loss, report.rigid_body_mse);
    }
}

impl Model for InverseDynamics {
    type State = Learnt;

    fn joints(&self) -> usize {
        self.learnt.learner.joints()
    }

    fn predict(&mut self, query: &Motion) -> Prediction {
        let (rigid_body, base) = match &self.learnt.rls {
            Some(rls) => rls.predict_both(query),
            None => {
                let rigid_body = self.rigid_body(query);
                (rigid_body, rigid_body)
            }
        };
        let mut torque = Prediction { rigid_body, ..Prediction::default() };
        let Learnt { learner, mix, frozen, networks, residual, .. } = &mut self.learnt;
        let frozen = frozen.as_ref().filter(|_| !self.learning);
        let mut corrections = [0.0; MAX_JOINTS];
        if frozen.is_some() || mix.is_some() {
            if *networks {
                learner.corrections(query, &mut corrections);
            }
        } else {
            learner.predict(query, &base, &mut torque.predicted);
            torque.commanded = torque.predicted;
        }
        let familiarity = frozen.map_or(1.0, |frozen| frozen.familiarity(query));
        for joint in 0..learner.joints() {
            let (predicted, commanded) = (&mut torque.predicted[joint], &mut torque.commanded[joint]);
            let mut is_mixed = false;
            if let Some(frozen) = frozen {
                let base = if *residual { base[joint] } else { 0.0 };
                *predicted = base + frozen.gain(joint) * familiarity * corrections[joint];
                *commanded = *predicted;
            } else if let Some(mix) = mix {
                let of =
                    Torques { body: rigid_body[joint], base: base[joint], correction: corrections[joint] };
                (*predicted, *commanded) = mix.torques(joint, &of);
                is_mixed = true;
            }
            if !self.gate.is_open(joint) {
                *commanded = rigid_body[joint];
                // What a mix predicts by the torque measured last is right before anything is scored.
                *predicted = if is_mixed { *predicted } else { rigid_body[joint] };
            }
        }
        torque
    }

    fn hear(&mut self, stamp_ns: i64, effort: &PerJoint) {
        let Some(mix) = self.learnt.mix.as_mut().filter(|_| self.learning) else { return };
        let continues = |last: i64| stamp_ns > last && stamp_ns.saturating_sub(last) <= self.gap_ns;
        if !self.last_heard_ns.is_some_and(continues) {
            mix.forget_newest();
        }
        self.last_heard_ns = Some(stamp_ns);
        mix.hear(effort);
    }

    fn observe(&mut self, observation: &Observation) -> bool {
        let stamp_ns = &observation.stamp_ns;
        let continues = self
            .last_stamp_ns
            .is_none_or(|last| *stamp_ns > last && stamp_ns.saturating_sub(last) <= self.gap_ns);
        if !continues {
            self.end_batch();
        }
        self.last_stamp_ns = Some(*stamp_ns);
        let basis = self.scratch.bases.get_mut(self.batch.len());
        let rigid_body = match self.learnt.rls.as_mut().zip(basis) {
            Some((rls, basis)) => {
                rls.observe(&observation.motion, &observation.effort, basis);
                *basis.known()
            }
            None => self.rigid_body(&observation.motion),
        };
        self.batch.push(observation, &rigid_body);
        self.batch.is_full()
    }

    fn begin_batch(&mut self) {
        if self.learnt.is_plain() {
            return;
        }
        let rows = self.batch.len();
        for (row, (observation, rigid_body)) in self.batch.rows().enumerate() {
            self.scratch.before[row] = self.base_of(row, rigid_body);
            if let Some(frozen) = self.learnt.frozen.as_ref().filter(|_| !self.learning) {
                self.scratch.familiarity[row] = frozen.familiarity(&observation.motion);
            }
        }
        if !self.learning {
            return;
        }
        self.scratch.shares = experts::shares(self.batch.seconds());
        if let Some(rls) = &mut self.learnt.rls {
            let surprise = rls.update();
            if let (Some(surprise), Some(payload)) = (surprise, &mut self.learnt.payload)
                && payload.notices(surprise)
            {
                rls.loosen_last_link();
            }
        }
        for row in 0..rows {
            let Some((observation, rigid_body)) = self.batch.rows().nth(row) else { break };
            let after = self.base_of(row, rigid_body);
            if let Some(frozen) = &mut self.learnt.frozen {
                frozen.meet(&observation.motion);
            }
            self.scratch.after[row] = after;
            self.batch.set_base(row, &after);
        }
        if let Some(mut replay) = self.learnt.replay.take() {
            for _ in 0..replay.draws() {
                let (motion, effort) = replay.draw();
                let base = self.base(&motion);
                self.batch.replay(&motion, &effort, &base);
            }
            replay.keep(&self.batch);
            self.learnt.replay = Some(replay);
        }
    }

    fn step(&mut self, joint: usize) {
        if self.learnt.is_plain() {
            return self.plain_step(joint);
        }
        if self.learnt.networks {
            self.prove(joint);
        }
        let rows = self.batch.len();
        let integrator = self.learnt.integrator(joint);
        let mut finite = true;
        if self.learnt.networks {
            let (before, after) =
                (&mut self.scratch.corrections[..rows], &mut self.scratch.corrected[..rows]);
            finite = self.learnt.learner.step_seen(joint, &self.batch, before, after).finite;
        }
        // What is scored is what stood before the step.
        self.look_at(joint, false);
        let (rigid_body_mse, own_mse) = self.errors(integrator, |_| 1.0);
        let mut mse = own_mse;
        if let Some(mix) = &mut self.learnt.mix {
            mse = mix.score(joint, &self.scratch.measured[..rows], &self.scratch.torques[..rows]);
        }
        if !finite {
            mse = f64::NAN;
        }
        if self.learnt.mix.is_some() {
            self.look_at(joint, true);
        }
        if let Some(mix) = &mut self.learnt.mix {
            let Scratch { measured, torques, shares, .. } = &self.scratch;
            mix.integrate(joint, &measured[..rows], &torques[..rows], shares);
        }
        self.judge(joint, mse, rigid_body_mse);
    }

    fn score(&mut self, joint: usize) {
        if self.learnt.is_plain() {
            let (mut learner, mut rigid) = (0.0, 0.0);
            for (observation, rigid_body) in self.batch.rows() {
                let effort = observation.effort[joint];
                let predicted =
                    self.learnt.learner.predict_joint(joint, &observation.motion, rigid_body[joint]);
                learner += (effort - predicted).powi(2);
                rigid += (effort - rigid_body[joint]).powi(2);
            }
            let rows = self.batch.len().max(1) as f64;
            // A frozen network that went astray is not put back: it is what the user froze.
            if self.gate.update(joint, learner / rows, rigid / rows) == Action::Snapshot {
                self.learnt.learner.snapshot(joint);
            }
            return;
        }
        if self.learnt.networks {
            let corrections = &mut self.scratch.corrections[..self.batch.len()];
            self.learnt.learner.corrections_on(joint, Which::Present, &self.batch, corrections);
        }
        self.look_at(joint, false);
        let gain = self.learnt.frozen.as_ref().map(|frozen| frozen.gain(joint));
        let share = |row: usize| gain.map_or(1.0, |gain| gain * self.scratch.familiarity[row]);
        // A frozen torque has no integrator.
        let integrator = if gain.is_some() { 0.0 } else { self.learnt.integrator(joint) };
        let (rigid_body_mse, mut mse) = self.errors(integrator, share);
        if gain.is_none()
            && let Some(mix) = &self.learnt.mix
        {
            let rows = self.batch.len();
            mse = mix.error(joint, &self.scratch.measured[..rows], &self.scratch.torques[..rows]);
        }
        let action = self.gate.update(joint, mse, rigid_body_mse);
        if action == Action::Snapshot && self.learnt.frozen.is_none() {
            self.learnt.learner.snapshot(joint);
        }
    }

    fn end_batch(&mut self) {
        self.batch.clear();
        if let Some(rls) = &mut self.learnt.rls {
            rls.clear();
        }
        if let Some(mix) = &mut self.learnt.mix {
            mix.end_batch();
        }
    }

    fn new_task(&mut self) {
        self.learnt.new_task();
    }

    fn snapshot(&self, state: &mut Learnt) {
        state.copy_from(&self.learnt);
    }

    fn take(&mut self, state: &Learnt, what: Reload) {
        self.learnt.take(state, what);
        // Other networks have made no errors yet.
        if what.networks() {
            self.gate.reset();
        }
    }

    fn tune(&mut self, tuning: &Tuning) -> bool {
        let was_gated = self.gate.is_enabled();
        let was_learning = std::mem::replace(&mut self.learning, tuning.learning);
        self.learnt.set_rates(&tuning.rates);
        self.gate.set(&tuning.gate);
        if let Some(mix) = self.learnt.mix.as_mut().filter(|_| !tuning.learning) {
            // It hears no torque from now on.
            mix.forget_newest();
        }
        was_gated && !tuning.gate.enabled || self.learnt.frozen.is_some() && was_learning != tuning.learning
    }

    fn health(&self) -> Health {
        let bits = |is: fn(&Gate, usize) -> bool| {
            (0..self.joints()).fold(0, |bits, joint| bits | u16::from(is(&self.gate, joint)) << joint)
        };
        Health {
            gates_open: bits(Gate::is_open),
            scored: bits(Gate::is_scored),
            learner_mse: self.gate.learner_error(),
            rigid_body_mse: self.gate.rigid_body_error(),
            payload_changes: self.learnt.payload_changes(),
        }
    }

    fn warm_up(&mut self) {
        let kept = self.clone();
        for learning in [false, true] {
            self.learning = learning;
            for lap in 0..3 {
                let motion = Motion { q: [0.1 * f64::from(lap); MAX_JOINTS], ..Motion::default() };
                self.predict(&motion);
                self.end_batch();
                self.last_stamp_ns = None;
                let mut stamp_ns = 0;
                while !self.observe(&Observation { stamp_ns, motion, effort: [1.0; MAX_JOINTS] }) {
                    self.hear(stamp_ns, &[1.0; MAX_JOINTS]);
                    stamp_ns += 1;
                }
                self.begin_batch();
                // As many as there will ever be.
                while self.batch.replay(&motion, &[1.0; MAX_JOINTS], &[0.0; MAX_JOINTS]) {}
                for joint in 0..self.joints() {
                    self.step(joint);
                    self.score(joint);
                    self.learnt.learner.snapshot(joint);
                    self.learnt.learner.restore(joint);
                }
                self.new_task();
            }
        }
        self.end_batch();
        self.learnt.copy_from(&kept.learnt);
        self.gate = kept.gate;
        self.last_stamp_ns = None;
        for (observation, _) in kept.batch.rows() {
            self.observe(observation);
        }
        self.learning = kept.learning;
        (self.last_stamp_ns, self.last_heard_ns) = (kept.last_stamp_ns, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joints(count: usize) -> Vec<String> {
        (0..count).map(|joint| format!("j{joint}")).collect()
    }

    fn model(change: impl FnOnce(&mut Config)) -> InverseDynamics {
        // A network beside the rigid body, and nothing else.
        let plain =
            Config { rls: false, replay: false, mix: false, frozen_gated: false, ..Config::default() };
        let mut config = Config { hidden: vec![8], ..plain };
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
        model.predict(&observation(5).motion).predicted
    }

    fn learn(model: &mut InverseDynamics, batches: std::ops::Range<i64>) {
        for k in batches.start * 10..batches.end * 10 {
            if model.observe(&observation(k)) {
                model.begin_batch();
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
        let mut frozen = self::model(|_| ());
        frozen.learnt_mut().copy_from(&model.learnt);
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
        warm_and_cold(|_| ());
        warm_and_cold(|config| {
            (config.rls, config.replay, config.mix, config.frozen_gated) = (true, true, true, true);
        });
    }

    fn warm_and_cold(change: fn(&mut Config)) {
        let (mut warm, mut cold) = (model(change), model(change));
        for model in [&mut warm, &mut cold] {
            learn(model, 0..3);
            (30..34).for_each(|k| assert!(!model.observe(&observation(k))));
        }
        warm.warm_up();
        assert_eq!(warm.batch.len(), 4);
        for model in [&mut warm, &mut cold] {
            (34..40).for_each(|k| assert_eq!(model.observe(&observation(k)), k == 39));
            model.begin_batch();
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
        let mut state = model.learnt.clone();
        learn(&mut model, 0..10);
        model.snapshot(&mut state);
        let motion = observation(5).motion;
        let zero = [0.0; MAX_JOINTS];
        let (mut a, mut b) = (zero, zero);
        state.learner.predict(&motion, &zero, &mut a);
        model.learnt.learner.predict(&motion, &zero, &mut b);
        assert_eq!(a, b);
    }

    #[test]
    fn a_model_that_takes_over_a_network_is_gated_until_that_is_scored() {
        let mut model = model(|_| ());
        learn(&mut model, 0..100);
        let fresh = self::model(|_| ()).learnt.clone();
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
