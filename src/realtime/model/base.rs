//! What is learnt by least squares, beneath the networks: on the rigid body's regressor, or without one on random features.
//!
//! Contract: construction allocates; everything else is called by the pinned thread and does not.

use crate::config::Config;
use crate::dynamics::{Arm, Basis, FourierRls, TemperedRls};
use crate::learn::{Checkpoint, Refusal, Values};
use crate::sample::{MAX_JOINTS, Motion, PerJoint};

/// A number of parameters beyond this is none that could have been learnt.
const MOST: f64 = 1e9;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) enum LeastSquares {
    /// Corrections to the rigid body, and friction.
    Rigid(Box<TemperedRls>),
    /// The whole torque, where no rigid body is known.
    Fourier(Box<FourierRls>),
}

impl LeastSquares {
    pub(super) fn new(config: &Config, arm: Option<&Arm>, joints: usize) -> Self {
        match arm {
            Some(arm) => {
                let rls = TemperedRls::with_variance(arm.clone(), config.rls_variance);
                LeastSquares::Rigid(Box::new(rls))
            }
            None => LeastSquares::Fourier(Box::new(FourierRls::new(config, None, joints))),
        }
    }

    /// The arm from which it started, if there is one.
    pub(super) fn nominal(&self) -> Option<&Arm> {
        match self {
            LeastSquares::Rigid(rls) => Some(rls.nominal()),
            LeastSquares::Fourier(_) => None,
        }
    }

    pub(super) fn predict(&self, motion: &Motion) -> PerJoint {
        match self {
            LeastSquares::Rigid(rls) => rls.predict(motion),
            LeastSquares::Fourier(rls) => rls.predict(motion),
        }
    }

    /// The rigid body's torques for a motion, zero where none is known, and [`LeastSquares::predict`].
    pub(super) fn predict_both(&self, motion: &Motion) -> (PerJoint, PerJoint) {
        match self {
            LeastSquares::Rigid(rls) => rls.predict_both(motion),
            LeastSquares::Fourier(rls) => ([0.0; MAX_JOINTS], rls.predict(motion)),
        }
    }

    /// Room for what the torques for one motion are linear in; allocates.
    pub(super) fn basis(&self) -> Basis {
        match self {
            LeastSquares::Rigid(rls) => rls.basis(),
            LeastSquares::Fourier(rls) => rls.basis(),
        }
    }

    /// Takes in a sample, of which the motion's basis is filled in.
    pub(super) fn observe(&mut self, motion: &Motion, effort: &PerJoint, basis: &mut Basis) {
        match self {
            LeastSquares::Rigid(rls) => {
                rls.expand(motion, basis);
                rls.add(basis, effort);
            }
            LeastSquares::Fourier(rls) => {
                rls.expand(motion, basis);
                rls.add(basis, effort);
            }
        }
    }

    /// [`LeastSquares::predict`] for the motion of which this is the basis.
    pub(super) fn torques(&self, basis: &Basis) -> PerJoint {
        match self {
            LeastSquares::Rigid(rls) => rls.torques(basis),
            LeastSquares::Fourier(rls) => rls.torques(basis),
        }
    }

    /// Learns from what was observed since; how surprising that was, where a payload would surprise.
    pub(super) fn update(&mut self) -> Option<f64> {
        match self {
            LeastSquares::Rigid(rls) => rls.update(),
            LeastSquares::Fourier(rls) => {
                rls.update();
                None
            }
        }
    }

    /// The payload may have changed.
    pub(super) fn loosen_last_link(&mut self) {
        if let LeastSquares::Rigid(rls) = self {
            rls.loosen_last_link();
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            LeastSquares::Rigid(rls) => rls.clear(),
            LeastSquares::Fourier(rls) => rls.clear(),
        }
    }

    /// What it learnt, and its covariance, row by row.
    pub(super) fn parameters(&self) -> (&[f64], &[f64]) {
        match self {
            LeastSquares::Rigid(rls) => rls.parameters(),
            LeastSquares::Fourier(rls) => rls.parameters(),
        }
    }

    fn set_parameters(&mut self, w: &[f64], p: &[f64]) -> bool {
        match self {
            LeastSquares::Rigid(rls) => rls.set_parameters(w, p),
            LeastSquares::Fourier(rls) => rls.set_parameters(w, p),
        }
    }

    /// Takes over what another one of the same kind has learnt.
    pub(super) fn copy_from(&mut self, other: &LeastSquares) {
        let (w, p) = other.parameters();
        self.set_parameters(w, p);
    }

    /// The tensors' prefix.
    fn prefix(&self) -> &'static str {
        match self {
            LeastSquares::Rigid(_) => "rls",
            LeastSquares::Fourier(_) => "rff",
        }
    }

    pub(super) fn store(&self, checkpoint: &mut Checkpoint) {
        let (prefix, (w, p)) = (self.prefix(), self.parameters());
        let size = p.len().isqrt();
        checkpoint.insert(&format!("{prefix}.w"), &[w.len()], Values::F64(w));
        checkpoint.insert(&format!("{prefix}.p"), &[size, size], Values::F64(p));
    }

    /// Takes over what a checkpoint holds of it, if anything; it was built from `config`.
    pub(super) fn restore(&mut self, checkpoint: &Checkpoint, config: &Config) -> Result<(), Refusal> {
        let prefix = self.prefix();
        let is_rigid = matches!(self, LeastSquares::Rigid(_));
        if checkpoint.shape(if is_rigid { "rff.w" } else { "rls.w" }).is_some() {
            return Err(Refusal::LeastSquares { rigid: !is_rigid });
        }
        let (name_w, name_p) = (format!("{prefix}.w"), format!("{prefix}.p"));
        if checkpoint.shape(&name_w).is_none() {
            // What was learnt beside the rigid body was learnt beside least squares that knew nothing yet.
            return Ok(());
        }
        let (found, wanted) = (checkpoint.metadata().seed, config.seed);
        if !is_rigid && found != wanted {
            // The weights are of the features that this seed draws.
            let (found, wanted) = (found.to_string(), wanted.to_string());
            return Err(Refusal::Differs { parameter: "learner.seed", found, wanted });
        }
        let (w, p) = self.parameters();
        let (count, size) = (w.len(), p.len().isqrt());
        let w = checkpoint.f64s(&name_w, &[count])?;
        let p = checkpoint.f64s(&name_p, &[size, size])?;
        super::learnt::within(&name_w, &w, -MOST, MOST)?;
        for row in 0..size {
            super::learnt::within(&name_p, &p[row * size + row..][..1], 0.0, MOST)?;
            for column in 0..row {
                let (value, mirrored) = (p[row * size + column], p[column * size + row]);
                if value.to_bits() != mirrored.to_bits() {
                    return Err(Refusal::Value { name: name_p, value, why: "makes it not symmetric" });
                }
            }
        }
        self.set_parameters(&w, &p);
        Ok(())
    }

    /// Whether a checkpoint holds least squares of either kind.
    pub(super) fn is_in(checkpoint: &Checkpoint) -> bool {
        ["rls.w", "rff.w"].iter().any(|name| checkpoint.shape(name).is_some())
    }
}
