//! Recursive least squares on random Fourier features: a kernel method of constant cost, which needs no model.
//!
//! Contract: as [`super::TemperedRls`]: construction allocates, nothing else does; what is not finite is left out.
//!
//! The features are those of A. Rahimi and B. Recht, "Random Features for Large-Scale Kernel Machines" (NIPS 2007):
//! sqrt(2 / D) cos(omega' x + b), omega normal with deviation 1 / length scale, b uniform; their inner products
//! approximate a Gaussian kernel. x is position / 1.5 rad, velocity / 0.5 rad/s and acceleration / 2 rad/s² of all joints.
//! All joints share the features, so that one covariance serves them all; each has its own weights. As in
//! [`super::TemperedRls`] learning is on batch means and the measurement's variance is taken much too large on purpose.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::arm::Arm;
use super::rls::{Basis, Covariance, Gain, PLAUSIBLE_ERROR, TEMPERED_VARIANCE, dot};
use super::sin_cos::sin_cos;
use crate::config::Config;
use crate::sample::{MAX_JOINTS, Motion, PerJoint};

/// How many features there are, D; a constant comes on top.
const FEATURES: usize = 200;

/// The Gaussian kernel's length scale in scaled inputs, for each square root of an input's number: the distance between
/// unrelated motions grows with it.
const LENGTH_SCALE: f64 = 1.0;

/// The prior variance of the function learnt, Nm².
const PRIOR_VARIANCE: f64 = 100.0;

/// The scales of position (rad), velocity (rad/s) and acceleration (rad/s²).
const INPUT_SCALES: [f64; 3] = [1.5, 0.5, 2.0];

/// Recursive least squares on random Fourier features, on the residual of an [`Arm`] or, without one, on the whole
/// torque.
#[derive(Clone, Debug)]
pub struct FourierRls {
    arm: Option<Arm>,
    joints: usize,
    /// Of each feature its frequencies, 3 for each joint, and its phase.
    frequencies: Vec<f64>,
    phases: Vec<f64>,
    covariance: Covariance,
    /// Of each feature (the last: a constant) one weight for each joint, Nm.
    weights: Vec<PerJoint>,
    /// Of the newest sample that [`FourierRls::observe`] took.
    basis: Basis,
    /// The features' sum over the batch, and the residuals'.
    features: Vec<f64>,
    residuals: PerJoint,
    samples: usize,
}

impl FourierRls {
    /// Starts from zero weights, with features drawn from `learner.seed`; allocates. `arm`, if there is one, has
    /// `joints` joints.
    pub fn new(config: &Config, arm: Option<Arm>, joints: usize) -> Self {
        let joints = joints.min(MAX_JOINTS);
        let inputs = 3 * joints;
        let mut random = ChaCha8Rng::seed_from_u64(config.seed as u64);
        let length_scale = LENGTH_SCALE * (inputs as f64).sqrt();
        let frequencies =
            (0..FEATURES * inputs).map(|_| random.sample::<f64, _>(StandardNormal) / length_scale).collect();
        let phases = (0..FEATURES).map(|_| random.random::<f64>() * std::f64::consts::TAU).collect();
        FourierRls {
            arm,
            joints,
            frequencies,
            phases,
            covariance: Covariance::new(FEATURES + 1, PRIOR_VARIANCE, 1),
            weights: vec![[0.0; MAX_JOINTS]; FEATURES + 1],
            basis: Basis { coefficients: vec![0.0; FEATURES + 1], ..Basis::default() },
            features: vec![0.0; FEATURES + 1],
            residuals: [0.0; MAX_JOINTS],
            samples: 0,
        }
    }

    /// The torques for `motion`, rigid body (if there is one) included, Nm.
    pub fn predict(&self, motion: &Motion) -> PerJoint {
        self.sum(self.rigid_body(motion), &self.features_of(motion))
    }

    /// The weighted features on top of the rigid body's torques.
    fn sum(&self, rigid_body: PerJoint, features: &[f64]) -> PerJoint {
        let mut torques = rigid_body;
        for (feature, weights) in features.iter().zip(&self.weights) {
            for (torque, weight) in torques[..self.joints].iter_mut().zip(weights) {
                *torque += feature * weight;
            }
        }
        torques
    }

    /// Room for a basis; allocates.
    pub fn basis(&self) -> Basis {
        self.basis.clone()
    }

    /// What the torques for `motion` are linear in: the features, which all joints share.
    pub fn expand(&self, motion: &Motion, basis: &mut Basis) {
        basis.known = self.rigid_body(motion);
        basis.finite = motion.is_finite(self.joints);
        basis.coefficients.copy_from_slice(&self.features_of(motion));
    }

    /// [`FourierRls::predict`] for the motion of which this is the basis.
    pub fn torques(&self, basis: &Basis) -> PerJoint {
        self.sum(basis.known, &basis.coefficients)
    }

    /// Adds one sample to the batch: a motion and the torques measured with it, Nm. A sample that is not finite is left
    /// out.
    pub fn observe(&mut self, motion: &Motion, effort: &PerJoint) {
        let mut basis = std::mem::take(&mut self.basis);
        self.expand(motion, &mut basis);
        self.add(&basis, effort);
        self.basis = basis;
    }

    /// [`FourierRls::observe`] for the motion of which this is the basis.
    pub fn add(&mut self, basis: &Basis, effort: &PerJoint) {
        let residual: PerJoint = std::array::from_fn(|j| effort[j] - basis.known[j]);
        if !basis.finite || !residual[..self.joints].iter().all(|r| r.is_finite()) {
            return;
        }
        self.features.iter_mut().zip(&basis.coefficients).for_each(|(sum, feature)| *sum += feature);
        for (sum, residual) in self.residuals[..self.joints].iter_mut().zip(residual) {
            *sum += residual;
        }
        self.samples += 1;
    }

    /// Learns from the mean over the samples observed since the last update, and starts the next batch; does nothing
    /// without samples.
    pub fn update(&mut self) {
        if self.samples == 0 {
            return;
        }
        let mean = (self.samples as f64).recip();
        self.features.iter_mut().for_each(|sum| *sum *= mean);
        let mut errors = self.residuals.map(|sum| sum * mean);
        for (feature, weights) in self.features.iter().zip(&self.weights) {
            for (error, weight) in errors.iter_mut().zip(weights) {
                *error -= feature * weight;
            }
        }
        if errors.iter().all(|error| error.abs() <= PLAUSIBLE_ERROR) {
            self.covariance.multiply(&self.features);
            if let Some(Gain { direction, deviation }) =
                self.covariance.take(0, &self.features, TEMPERED_VARIANCE)
            {
                for (weights, along) in self.weights.iter_mut().zip(direction) {
                    let gain = along / deviation;
                    weights.iter_mut().zip(&errors).for_each(|(weight, error)| *weight += gain * error);
                }
                self.covariance.settle();
            }
        }
        self.clear();
    }

    /// Drops the samples observed since the last update.
    pub fn clear(&mut self) {
        self.features.fill(0.0);
        self.residuals = [0.0; MAX_JOINTS];
        self.samples = 0;
    }

    /// The weights (of each feature one for each joint that there may be), and the features' covariance, row by row.
    pub fn parameters(&self) -> (&[f64], &[f64]) {
        (self.weights.as_flattened(), self.covariance.values())
    }

    /// Takes over weights and covariance, as [`FourierRls::parameters`] gives them, and drops the samples observed since the
    /// last update; false, and nothing has changed, if their number is another. Does not allocate.
    pub fn set_parameters(&mut self, weights: &[f64], p: &[f64]) -> bool {
        let (own_weights, own_p) = (self.weights.as_flattened_mut(), self.covariance.values_mut());
        if (weights.len(), p.len()) != (own_weights.len(), own_p.len()) {
            return false;
        }
        own_weights.copy_from_slice(weights);
        own_p.copy_from_slice(p);
        self.clear();
        true
    }

    fn rigid_body(&self, motion: &Motion) -> PerJoint {
        self.arm.as_ref().map_or([0.0; MAX_JOINTS], |arm| arm.inverse_dynamics(motion))
    }

    /// The scaled inputs, all positions before all velocities before all accelerations.
    fn inputs(&self, motion: &Motion) -> [f64; 3 * MAX_JOINTS] {
        let mut inputs = [0.0; 3 * MAX_JOINTS];
        let values = [&motion.q, &motion.qd, &motion.qdd];
        for ((part, values), scale) in
            inputs.chunks_exact_mut(self.joints.max(1)).zip(values).zip(INPUT_SCALES)
        {
            for (input, value) in part.iter_mut().zip(values) {
                *input = value / scale;
            }
        }
        inputs
    }

    /// The values of all features, of which the last is constant.
    fn features_of(&self, motion: &Motion) -> [f64; FEATURES + 1] {
        let width = 3 * self.joints;
        let inputs = &self.inputs(motion)[..width];
        let mut angles = [0.0; FEATURES];
        let rows = self.frequencies.chunks_exact(width.max(1)).zip(&self.phases);
        for (angle, (frequencies, phase)) in angles.iter_mut().zip(rows) {
            *angle = dot(frequencies, inputs) + phase;
        }
        let (mut sines, mut cosines) = ([0.0; FEATURES], [0.0; FEATURES]);
        sin_cos(&angles, &mut sines, &mut cosines);
        let mut features = [1.0; FEATURES + 1];
        let scale = (2.0 / FEATURES as f64).sqrt();
        features.iter_mut().zip(cosines).for_each(|(feature, cosine)| *feature = scale * cosine);
        features
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One joint on a slow sine, and the torque of a pendulum with friction.
    fn sample(t: f64) -> (Motion, PerJoint) {
        let mut motion = Motion::default();
        motion.q[0] = t.sin();
        motion.qd[0] = t.cos();
        motion.qdd[0] = -t.sin();
        let mut effort = [0.0; MAX_JOINTS];
        effort[0] = 5.0 * motion.q[0].sin() + 0.3 * motion.qd[0] + 0.5;
        (motion, effort)
    }

    fn mean_square(rls: &FourierRls, range: std::ops::Range<usize>) -> f64 {
        let count = range.len() as f64;
        range.map(|i| sample(i as f64 * 0.01)).map(|(m, e)| (e[0] - rls.predict(&m)[0]).powi(2)).sum::<f64>()
            / count
    }

    #[test]
    fn a_torque_without_a_model_is_learnt() {
        let mut rls = FourierRls::new(&Config::default(), None, 1);
        let before = mean_square(&rls, 0..628);
        for i in 0..6280 {
            let (motion, effort) = sample(i as f64 * 0.01);
            rls.observe(&motion, &effort);
            if i % 10 == 9 {
                rls.update();
            }
        }
        let after = mean_square(&rls, 0..628);
        assert!(after < before * 1e-2, "{before} -> {after}");
        let mut basis = rls.basis();
        for (motion, _) in (0..50).map(|i| sample(i as f64 * 0.13)) {
            rls.expand(&motion, &mut basis);
            assert!((rls.torques(&basis)[0] - rls.predict(&motion)[0]).abs() < 1e-9);
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_features_and_another_others() {
        let rls = |seed| FourierRls::new(&Config { seed, ..Config::default() }, None, 2);
        assert_eq!(rls(1).frequencies, rls(1).frequencies);
        assert_ne!(rls(1).frequencies, rls(2).frequencies);
    }

    #[test]
    fn what_is_not_finite_is_left_out() {
        let mut rls = FourierRls::new(&Config::default(), None, 1);
        let (motion, mut effort) = sample(0.3);
        rls.observe(&motion, &effort);
        rls.update();
        let before = rls.predict(&motion);
        effort[0] = f64::NAN;
        rls.observe(&motion, &effort);
        let mut wild = motion;
        wild.qd[0] = f64::INFINITY;
        rls.observe(&wild, &[1.0; MAX_JOINTS]);
        wild.qd[0] = 1e308;
        rls.observe(&wild, &[1e308; MAX_JOINTS]);
        rls.observe(&wild, &[1e308; MAX_JOINTS]);
        rls.update();
        assert_eq!(rls.predict(&motion), before);
    }
}
