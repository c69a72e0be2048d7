//! Everything that a model has learnt: what a snapshot holds and a checkpoint keeps.
//!
//! Contract: construction, [`Learnt::save`] and [`Learnt::load`] allocate; what the pinned thread calls does not. A load either
//! takes over everything asked for or changes nothing.
//!
//! Beside the learner's own tensors ([`crate::learn::checkpoint`]) a checkpoint holds, of n joints, where the part is switched on:
//!
//! | tensor | type, shape | what |
//! |---|---|---|
//! | `rls.w`, `rls.p` | F64 `[13 n]`, `[13 n, 13 n]` | scaled corrections to the nominal arm and friction; their covariance |
//! | `rff.w`, `rff.p` | F64 `[201 · 16]`, `[201, 201]` | in their place without a rigid body: weights of the random features, and their covariance |
//! | `payload.means`, `payload.counts` | F64 `[2]`, U64 `[3]` | the detector: short and long mean; batches, since the last change, changes |
//! | `replay.samples`, `replay.state` | F32 `[.., 4 n]`, U64 `[2]` | samples that are replayed: q, qd, qdd, torque; where the next one goes, the generator |
//! | `mix.integrators`, `mix.losses`, `mix.scored` | F64 `[n, 3, 2]`, `[n, 12]`, U64 `[n]` | the experts |
//! | `frozen.proofs`, `frozen.motions`, `frozen.count` | F64 `[n, 2]`, `[6, n]`, `[1]` | the networks' gains; mean and squared deviations of the motions learnt from, and their number |
//!
//! They belong to the networks (`checkpoint.reload: network`). A part that a checkpoint lacks starts afresh; networks that were
//! learnt beside least squares are refused where there is none, or one of the other kind, or on features of another
//! `learner.seed`.

use std::path::Path;

use super::base::LeastSquares;
use super::experts::Mix;
use super::frozen::Frozen;
use super::payload::PayloadDetector;
use super::replay::Replay;
use crate::config::Config;
use crate::dynamics::Arm;
use crate::learn::{ArmLearner, Checkpoint, CheckpointError, LearnError, Rates, Refusal, Reload};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Learnt {
    pub(super) learner: ArmLearner,
    pub(super) rls: Option<LeastSquares>,
    pub(super) payload: Option<PayloadDetector>,
    pub(super) replay: Option<Replay>,
    pub(super) mix: Option<Box<Mix>>,
    pub(super) frozen: Option<Box<Frozen>>,
    /// Whether networks learn at all.
    pub(super) networks: bool,
    /// Whether they learn what the base leaves over.
    pub(super) residual: bool,
}

impl Learnt {
    /// Nothing learnt yet.
    pub(super) fn new(config: &Config, arm: Option<&Arm>, joints: &[String]) -> Result<Self, LearnError> {
        let rls = config.rls.then(|| LeastSquares::new(config, arm, joints.len()));
        let detects = config.payload_detect && rls.as_ref().is_some_and(|rls| rls.nominal().is_some());
        let mut learnt = Learnt {
            learner: ArmLearner::new(config, joints)?,
            payload: detects.then(|| PayloadDetector::new(config)),
            replay: config.replay.then(|| Replay::new(config, joints.len())),
            mix: config.mix.then(|| Box::new(Mix::new(config, arm.is_some(), rls.is_some()))),
            rls,
            frozen: config.frozen_gated.then(|| Box::new(Frozen::new(config, joints.len()))),
            networks: !config.mix || config.mix_networks,
            residual: config.residual,
        };
        learnt.set_rates(&Rates::from_config(config));
        Ok(learnt)
    }

    /// Nothing learnt yet, of the same arm.
    ///
    /// # Errors
    /// [`LearnError`].
    pub fn fresh(&self, config: &Config, joints: &[String]) -> Result<Self, LearnError> {
        let arm = self.rls.as_ref().and_then(LeastSquares::nominal);
        let mut fresh = Learnt::new(config, arm, joints)?;
        // The arm is there even where least squares is not.
        fresh.mix = self.mix.as_ref().map(|mix| Box::new(mix.fresh()));
        Ok(fresh)
    }

    /// The networks' learners.
    pub fn learner(&self) -> &ArmLearner {
        &self.learner
    }

    /// How often the payload was noticed to have changed.
    pub fn payload_changes(&self) -> u64 {
        self.payload.as_ref().map_or(0, PayloadDetector::changes)
    }

    /// The bytes of what stands beside the networks: least squares' covariance and the samples for replay.
    pub fn bytes_beside(&self) -> usize {
        let rls = self.rls.as_ref().map_or(0, |rls| size_of_val(rls.parameters().1));
        rls + self.replay.as_ref().map_or(0, Replay::bytes)
    }

    /// Whether there is a network per joint beside the rigid body, and nothing else.
    pub(super) fn is_plain(&self) -> bool {
        self.rls.is_none() && self.replay.is_none() && self.mix.is_none() && self.frozen.is_none()
    }

    /// What a joint's own integrator adds, Nm.
    pub(super) fn integrator(&self, joint: usize) -> f64 {
        self.learner.joint(joint).map_or(0.0, |learner| learner.integrator())
    }

    /// Other rates from the next step on. In a mix the integrators are experts of their own.
    pub(super) fn set_rates(&mut self, rates: &Rates) {
        let integrator = if self.mix.is_some() { 0.0 } else { rates.integrator };
        self.learner.set_rates(&Rates { integrator, ..*rates });
    }

    /// A task begins (the paper's phase).
    pub(super) fn new_task(&mut self) {
        self.learner.new_task();
        if let Some(mix) = &mut self.mix {
            mix.forget_newest();
        }
        if let Some(frozen) = &mut self.frozen {
            frozen.new_task();
            (0..self.learner.joints()).for_each(|joint| self.learner.snapshot(joint));
        }
    }

    /// Takes over `other`'s state, of the same shape, without allocating.
    pub(super) fn copy_from(&mut self, other: &Learnt) {
        self.learner.copy_from(&other.learner);
        self.copy_parts(other);
    }

    /// Everything but the networks' learners.
    fn copy_parts(&mut self, other: &Learnt) {
        if let (Some(own), Some(other)) = (&mut self.rls, &other.rls) {
            own.copy_from(other);
        }
        if let (Some(own), Some(other)) = (&mut self.replay, &other.replay) {
            own.copy_from(other);
        }
        if let (Some(own), Some(other)) = (&mut self.mix, &other.mix) {
            own.copy_from(other);
        }
        if let (Some(own), Some(other)) = (&mut self.payload, &other.payload) {
            *own = *other;
        }
        if let (Some(own), Some(other)) = (&mut self.frozen, &other.frozen) {
            own.copy_from(other);
        }
    }

    /// Takes over the part of `other` that `what` names, as a new task begins with it. Does not allocate.
    pub(super) fn take(&mut self, other: &Learnt, what: Reload) {
        self.learner.take(&other.learner, what);
        if what.networks() {
            self.copy_parts(other);
        }
        if what != Reload::None {
            self.new_task();
        }
    }

    /// Everything learnt, as built from `config` for `joints`.
    fn checkpoint(&self, config: &Config, joints: &[String]) -> Checkpoint {
        let mut checkpoint = Checkpoint::of(&self.learner, config, joints);
        if let Some(rls) = &self.rls {
            rls.store(&mut checkpoint);
        }
        if let Some(payload) = &self.payload {
            payload.store(&mut checkpoint);
        }
        if let Some(replay) = &self.replay {
            replay.store(&mut checkpoint);
        }
        if let Some(mix) = &self.mix {
            mix.store(&mut checkpoint, joints.len());
        }
        if let Some(frozen) = &self.frozen {
            frozen.store(&mut checkpoint);
        }
        checkpoint
    }

    /// Saves it: into a temporary file in the same folder, which is synced and then takes the path's place.
    ///
    /// # Errors
    /// [`CheckpointError`]; the path then holds what it held before.
    pub fn save(&self, path: &Path, config: &Config, joints: &[String]) -> Result<(), CheckpointError> {
        self.checkpoint(config, joints).write(path)
    }

    /// Loads what `reload` says, and starts a new task; it was built from `config` for `joints`.
    ///
    /// # Errors
    /// [`CheckpointError`], naming the file and what is wrong with it; nothing has changed then.
    pub fn load(
        &mut self,
        path: &Path,
        config: &Config,
        joints: &[String],
        reload: Reload,
    ) -> Result<(), CheckpointError> {
        let restored = self.restored(&Checkpoint::read(path)?, config, joints, reload);
        *self = restored.map_err(|reason| CheckpointError::Refused { path: path.to_path_buf(), reason })?;
        Ok(())
    }

    fn restored(
        &self,
        checkpoint: &Checkpoint,
        config: &Config,
        joints: &[String],
        reload: Reload,
    ) -> Result<Self, Refusal> {
        let mut restored = self.clone();
        checkpoint.restore(&mut restored.learner, config, joints, reload)?;
        if reload.networks() {
            restored.restore_parts(checkpoint, config, joints.len())?;
        }
        if reload != Reload::None {
            restored.new_task();
        }
        Ok(restored)
    }

    fn restore_parts(
        &mut self,
        checkpoint: &Checkpoint,
        config: &Config,
        joints: usize,
    ) -> Result<(), Refusal> {
        match &mut self.rls {
            Some(rls) => rls.restore(checkpoint, config)?,
            None if LeastSquares::is_in(checkpoint) => {
                let (found, wanted) = ("true".into(), "false".into());
                return Err(Refusal::Differs { parameter: "rls.enabled", found, wanted });
            }
            None => {}
        }
        if let Some(payload) = &mut self.payload {
            payload.restore(checkpoint)?;
        }
        if let Some(replay) = &mut self.replay {
            replay.restore(checkpoint)?;
        }
        if let Some(mix) = &mut self.mix {
            mix.restore(checkpoint, joints)?;
        }
        if let Some(frozen) = &mut self.frozen {
            frozen.restore(checkpoint)?;
        }
        Ok(())
    }
}

/// Refuses numbers outside `[low, high]`.
pub(super) fn within(name: &str, values: &[f64], low: f64, high: f64) -> Result<(), Refusal> {
    match values.iter().find(|value| !(low..=high).contains(*value)) {
        None => Ok(()),
        Some(&value) => {
            Err(Refusal::Value { name: name.into(), value, why: "is nothing that could have been learnt" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Values;
    use crate::realtime::{InverseDynamics, Model};
    use crate::sample::{MAX_JOINTS, Motion, Observation, PerJoint};
    use crate::sim::LWR_URDF;

    fn config() -> Config {
        Config {
            hidden: vec![8],
            rls: true,
            replay: true,
            mix: true,
            frozen_gated: true,
            gate: false,
            replay_capacity: 60,
            ..Config::default()
        }
    }

    fn lwr() -> Arm {
        Arm::from_urdf_str(LWR_URDF, &[], [0.0, 0.0, -9.81]).unwrap()
    }

    fn model(config: &Config) -> InverseDynamics {
        let joints = lwr().joint_names().to_vec();
        InverseDynamics::new(config, Some(lwr()), &joints).unwrap()
    }

    fn motion(k: i64) -> Motion {
        let t = k as f64 * 1e-3;
        let wave = |phase: f64| {
            std::array::from_fn(|j| if j < 7 { 0.5 * (1.5 * t + j as f64 + phase).sin() } else { 0.0 })
        };
        Motion { q: wave(0.0), qd: wave(1.6).map(|v: f64| 1.5 * v), qdd: wave(3.1).map(|v: f64| 2.25 * v) }
    }

    /// Torques of an arm with a payload and friction.
    fn effort(motion: &Motion, payload: f64) -> PerJoint {
        let mut torque = lwr().with_payload(payload, [0.0, 0.0, 0.1]).inverse_dynamics(motion);
        for (torque, qd) in torque.iter_mut().zip(&motion.qd) {
            *torque += 0.5 * (qd / 0.02).tanh();
        }
        torque
    }

    /// Samples `range`, one per millisecond: the mean squared error over the joints before each was learnt.
    fn learn(model: &mut InverseDynamics, range: std::ops::Range<i64>, payload: f64) -> f64 {
        let count = (range.end - range.start) as f64;
        let mut squared = 0.0;
        for k in range {
            let motion = motion(k);
            let effort = effort(&motion, payload);
            let torque = model.predict(&motion);
            squared += (0..7).map(|j| (effort[j] - torque.predicted[j]).powi(2)).sum::<f64>() / 7.0 / count;
            model.hear(k * 1_000_000, &effort);
            if model.observe(&Observation { stamp_ns: k * 1_000_000, motion, effort }) {
                model.begin_batch();
                (0..7).for_each(|joint| model.step(joint));
                model.end_batch();
            }
        }
        squared
    }

    fn bits(model: &mut InverseDynamics) -> Vec<[u64; MAX_JOINTS]> {
        (0..50).map(|k| model.predict(&motion(37 * k)).predicted.map(f64::to_bits)).collect()
    }

    fn checkpoint(model: &InverseDynamics, config: &Config) -> Checkpoint {
        model.learnt().checkpoint(config, lwr().joint_names())
    }

    #[test]
    fn a_payload_is_noticed_learnt_and_kept() {
        let mut model = model(&config());
        learn(&mut model, 0..4000, 0.0);
        let without = learn(&mut model, 4000..5000, 0.0);
        let (rigid_body, at) = (lwr(), motion(4500));
        let off = rigid_body.inverse_dynamics(&at)[1] - effort(&at, 0.0)[1];
        assert!(without < 0.05 && off.abs() > 0.3, "{without} {off}");
        assert_eq!(model.learnt().payload_changes(), 0);
        learn(&mut model, 5000..7000, 2.0);
        assert_eq!(model.health().payload_changes, 1);
        assert!(learn(&mut model, 7000..8000, 2.0) < 0.05);
        let mut tuning = crate::realtime::Tuning::from_config(&config());
        tuning.learning = false;
        assert!(model.tune(&tuning), "another torque");
        let frozen = learn(&mut model, 8000..9000, 2.0);
        assert!(frozen < 1.0, "{frozen}");
    }

    #[test]
    fn a_chain_in_one_run_equals_a_chain_by_checkpoints_in_every_bit() {
        let config = config();
        let mut chain = model(&config);
        learn(&mut chain, 0..3000, 1.0);
        let saved = checkpoint(&chain, &config).to_bytes().unwrap();
        let mut tail = model(&config);
        let joints = lwr().joint_names().to_vec();
        let parsed = Checkpoint::parse(&saved).unwrap();
        let restored = tail.learnt().restored(&parsed, &config, &joints, Reload::All).unwrap();
        *tail.learnt_mut() = restored;
        chain.new_task();
        assert_eq!(bits(&mut chain), bits(&mut tail));
        for model in [&mut chain, &mut tail] {
            learn(model, 10_000..12_500, 1.0);
        }
        assert_eq!(bits(&mut chain), bits(&mut tail));
        assert!(checkpoint(&chain, &config).to_bytes() == checkpoint(&tail, &config).to_bytes());
    }

    #[test]
    fn a_part_that_is_missing_starts_afresh_and_least_squares_is_not_left_out_unsaid() {
        let all = config();
        let plain = Config { rls: false, replay: false, mix: false, frozen_gated: false, ..all.clone() };
        let joints = lwr().joint_names().to_vec();
        let mut old = model(&plain);
        learn(&mut old, 0..500, 1.0);
        let old = checkpoint(&old, &plain);
        assert!(old.shape("rls.w").is_none());
        let fresh = model(&all);
        let restored = fresh.learnt().restored(&old, &all, &joints, Reload::All).unwrap();
        assert_eq!(restored.rls.unwrap().parameters(), fresh.learnt().rls.as_ref().unwrap().parameters());
        let mut new = model(&all);
        learn(&mut new, 0..500, 1.0);
        let new = checkpoint(&new, &all);
        let plain_model = model(&plain);
        let refusal = plain_model.learnt().restored(&new, &plain, &joints, Reload::All).unwrap_err();
        assert!(refusal.to_string().contains("rls.enabled = true"), "{refusal}");
        plain_model.learnt().restored(&new, &plain, &joints, Reload::Memory).unwrap();
    }

    #[test]
    fn without_a_rigid_body_random_features_stand_in_and_are_kept() {
        let (config, joints) = (config(), vec!["one".to_string(), "two".to_string()]);
        let fresh = || InverseDynamics::new(&config, None, &joints).unwrap();
        let mut model = fresh();
        learn(&mut model, 0..4000, 0.0);
        let tuning =
            crate::realtime::Tuning { learning: false, ..crate::realtime::Tuning::from_config(&config) };
        model.tune(&tuning);
        let [at, other] = [motion(4100), motion(5100)];
        let frozen = model.predict(&at).predicted[1];
        assert!((frozen - effort(&at, 0.0)[1]).abs() < 4.0, "{frozen} of {}", effort(&at, 0.0)[1]);
        let saved = model.learnt().checkpoint(&config, &joints);
        let restored = fresh().learnt().restored(&saved, &config, &joints, Reload::All).unwrap();
        let mut again = fresh();
        *again.learnt_mut() = restored;
        again.tune(&tuning);
        assert_eq!(again.predict(&other), model.predict(&other));

        let refused = |config: &Config, arm: Option<Arm>, saved: &Checkpoint, joints: &[String]| {
            let fresh = InverseDynamics::new(config, arm, joints).unwrap();
            fresh.learnt().restored(saved, config, joints, Reload::Memory).unwrap();
            fresh.learnt().restored(saved, config, joints, Reload::Network).unwrap_err().to_string()
        };
        let reseeded = Config { seed: config.seed + 1, ..config.clone() };
        let why = refused(&reseeded, None, &saved, &joints);
        assert!(why.contains(&format!("learner.seed = {}, but", config.seed)), "{why}");
        let joints = lwr().joint_names().to_vec();
        let without = InverseDynamics::new(&config, None, &joints).unwrap();
        let without = without.learnt().checkpoint(&config, &joints);
        let why = refused(&config, Some(lwr()), &without, &joints);
        assert!(why.contains("without a rigid body, but this arm has one: leave the URDF out"), "{why}");
        let with = checkpoint(&self::model(&config), &config);
        let why = refused(&config, None, &with, &joints);
        assert!(why.contains("of a rigid body, but this arm has none: give its URDF"), "{why}");
    }

    #[test]
    fn numbers_that_nothing_can_have_learnt_are_refused() {
        let (config, joints) = (config(), lwr().joint_names().to_vec());
        let mut good = model(&config);
        learn(&mut good, 0..500, 1.0);
        let good = checkpoint(&good, &config);
        let fresh = model(&config);
        let mut asymmetric = good.f64s("rls.p", &[91, 91]).unwrap();
        asymmetric[5] += 1.0;
        let hundred = [1e300; 91];
        let bad: [(&str, &[usize], Values<'_>); 11] = [
            ("rls.p", &[91, 91], Values::F64(&asymmetric)),
            ("rls.p", &[91, 91], Values::F64(&vec![-1.0; 91 * 91])),
            ("rls.w", &[91], Values::F64(&hundred)),
            ("rls.w", &[90], Values::F64(&hundred[..90])),
            ("payload.means", &[2], Values::F64(&[-1.0, 0.0])),
            ("payload.counts", &[2], Values::U64(&[1, 2])),
            ("replay.samples", &[1, 28], Values::F32(&[f32::NAN; 28])),
            ("replay.state", &[1], Values::U64(&[u64::MAX])),
            ("mix.losses", &[7, 12], Values::F64(&[-1.0; 84])),
            ("frozen.motions", &[6, 7], Values::F64(&[-1.0; 42])),
            ("frozen.count", &[1], Values::F64(&[f64::INFINITY])),
        ];
        for (name, shape, values) in bad {
            let mut bad = good.clone();
            bad.insert(name, shape, values);
            let refusal = fresh.learnt().restored(&bad, &config, &joints, Reload::All).unwrap_err();
            assert!(refusal.to_string().contains(name), "{name}: {refusal}");
        }
        // A generator's state and places beyond the end are taken as they are or brought back into range.
        let mut odd = good.clone();
        odd.insert("replay.state", &[2], Values::U64(&[u64::MAX, u64::MAX]));
        let restored = fresh.learnt().restored(&odd, &config, &joints, Reload::All).unwrap();
        restored.replay.unwrap().draw();
    }

    #[test]
    fn samples_that_are_not_finite_change_nothing_for_good() {
        let config = config();
        let mut model = model(&config);
        learn(&mut model, 0..2000, 1.0);
        for bad in [f64::NAN, f64::INFINITY, 1e300, 1e30] {
            for k in 0..20 {
                let mut motion = motion(k);
                motion.qdd[3] = if k % 2 == 0 { bad } else { motion.qdd[3] };
                let observation = Observation { stamp_ns: k * 1_000_000, motion, effort: [bad; MAX_JOINTS] };
                model.hear(observation.stamp_ns, &observation.effort);
                if model.observe(&observation) {
                    model.begin_batch();
                    (0..7).for_each(|joint| model.step(joint));
                    model.end_batch();
                }
            }
        }
        let error = learn(&mut model, 2000..3000, 1.0);
        assert!(error < 0.1, "{error}");
    }
}
