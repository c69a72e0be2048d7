//! Recursive least squares with the arm's own regressor: the classical way to learn a rigid body's parameters online.
//!
//! Contract: construction allocates; everything else is called from the pinned thread, allocates nothing, blocks on
//! nothing, and leaves out what is not finite. Predicting costs as much as the arm's inverse dynamics; an update is
//! quadratic in the number of parameters.
//!
//! The parameters are corrections w to the nominal model's: ten inertial ones for each link, shared by all joints, and
//! for each joint viscous friction, Coulomb friction and an offset. What is learnt is what the nominal model leaves
//! over, averaged over a batch: with h the batch's mean of the scaled row of joint j and e = mean(tau - tau_nominal) - h
//! w, for each joint in turn
//!
//! k = P h / (h' P h + R), w += k e, P -= k (P h)'.
//!
//! The measurement's variance R = 10 Nm² is much larger than any sensor's: successive residuals are far from
//! independent, and a smaller one makes the parameters overconfident ("tempered"). Nothing is forgotten; whoever knows
//! that the payload has changed says so ([`TemperedRls::loosen_last_link`]).

use super::arm::{Arm, PARAMETERS_PER_LINK, Regressor};
use crate::sample::{MAX_JOINTS, Motion, PerJoint};

/// The variance that one batch mean is taken to have, Nm²: large on purpose.
pub const TEMPERED_VARIANCE: f64 = 10.0;

/// The prior standard deviations of a link's ten corrections: kg, kg m, kg m².
const SCALES: [f64; PARAMETERS_PER_LINK] = [0.3, 0.06, 0.06, 0.06, 0.015, 0.015, 0.015, 0.015, 0.015, 0.015];

/// What a payload may change of the last link, as standard deviations: kg, kg m, kg m².
const PAYLOAD: [f64; PARAMETERS_PER_LINK] = [2.0, 0.4, 0.4, 0.4, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05];

/// An error beyond this is no measurement, Nm; one such number would spoil the parameters for good.
pub(super) const PLAUSIBLE_ERROR: f64 = 1e6;

/// A sample's residual beyond this is no measurement, Nm: ten times what the joint can do, if that is known.
fn most_residual(effort_limit: f64) -> f64 {
    if effort_limit > 0.0 { (10.0 * effort_limit).min(PLAUSIBLE_ERROR) } else { PLAUSIBLE_ERROR }
}

/// Friction parameters of one joint: viscous (Nm s/rad), Coulomb (Nm) and offset (Nm), all of prior deviation 1.
const FRICTION: usize = 3;

/// The speed at which Coulomb friction is almost fully there, rad/s.
const COULOMB_SPEED: f64 = 0.02;

/// The inverse of the information gathered so far, and the gains that follow from it.
#[derive(Clone, Debug)]
pub(super) struct Covariance {
    size: usize,
    /// Row-major, symmetric to the last bit.
    p: Vec<f64>,
    /// P h of the newest measurement.
    ph: Vec<f64>,
}

impl Covariance {
    pub(super) fn new(size: usize, prior: f64) -> Self {
        let mut p = vec![0.0; size * size];
        p.iter_mut().step_by(size + 1).for_each(|diagonal| *diagonal = prior);
        Covariance { size, p, ph: vec![0.0; size] }
    }

    /// P, row by row.
    pub(super) fn values(&self) -> &[f64] {
        &self.p
    }

    pub(super) fn values_mut(&mut self) -> &mut [f64] {
        &mut self.p
    }

    /// Takes in one measurement along `h`. Returns P h and h' P h + R, of which the quotient is the gain; `None`, and
    /// nothing is changed, if the measurement is not finite or rounding has made the variance along it negative.
    pub(super) fn update(&mut self, h: &[f64], variance: f64) -> Option<(&[f64], f64)> {
        // By rows, for P is symmetric: sums over lanes rather than along them vectorise, and most of h is zero.
        self.ph.fill(0.0);
        for (h, row) in h.iter().zip(self.p.chunks_exact(self.size)).filter(|(h, _)| **h != 0.0) {
            for (ph, p) in self.ph.iter_mut().zip(row) {
                *ph += h * p;
            }
        }
        let along: f64 = self.ph.iter().zip(h).map(|(ph, h)| ph * h).sum();
        let total = along + variance;
        if !(along >= 0.0 && total.is_finite()) {
            return None;
        }
        // As u u' with u = P h / sqrt(total), both halves of P get the same bits.
        let scale = total.sqrt().recip();
        for (i, row) in self.p.chunks_exact_mut(self.size).enumerate() {
            let ui = self.ph[i] * scale;
            for (p, ph) in row.iter_mut().zip(&self.ph) {
                *p -= ui * (ph * scale);
            }
        }
        Some((&self.ph, total))
    }
}

/// Tempered recursive least squares on the residual of an [`Arm`].
#[derive(Clone, Debug)]
pub struct TemperedRls {
    nominal: Arm,
    nominal_parameters: Vec<f64>,
    /// The nominal arm with the corrections learnt so far.
    corrected: Arm,
    /// Scaled corrections: ten for each link, then three for each joint.
    w: Vec<f64>,
    covariance: Covariance,
    variance: f64,
    regressor: Regressor,
    /// Of each joint the sum over the batch of its scaled row, then of its residual.
    rows: Vec<f64>,
    residuals: PerJoint,
    samples: usize,
    h: Vec<f64>,
}

impl TemperedRls {
    /// Starts from the nominal model, with [`TEMPERED_VARIANCE`]; allocates.
    pub fn new(nominal: Arm) -> Self {
        TemperedRls::with_variance(nominal, TEMPERED_VARIANCE)
    }

    /// Starts from the nominal model, taking a batch's mean to have this variance, Nm²; allocates.
    pub fn with_variance(nominal: Arm, variance: f64) -> Self {
        let n = nominal.len();
        let size = n * (PARAMETERS_PER_LINK + FRICTION);
        TemperedRls {
            nominal_parameters: nominal.inertial_parameters(),
            corrected: nominal.clone(),
            w: vec![0.0; size],
            covariance: Covariance::new(size, 1.0),
            variance,
            regressor: Regressor::new(n),
            rows: vec![0.0; n * (n * PARAMETERS_PER_LINK + FRICTION)],
            residuals: [0.0; MAX_JOINTS],
            samples: 0,
            h: vec![0.0; size],
            nominal,
        }
    }

    /// The torques for `motion`, rigid body included, Nm.
    pub fn predict(&self, motion: &Motion) -> PerJoint {
        let mut torques = self.corrected.inverse_dynamics(motion);
        let inertial = self.nominal.len() * PARAMETERS_PER_LINK;
        for (j, w) in self.w[inertial..].chunks_exact(FRICTION).enumerate() {
            let row = friction_row(motion.qd[j]);
            torques[j] += row.iter().zip(w).map(|(h, w)| h * w).sum::<f64>();
        }
        torques
    }

    /// Adds one sample to the batch: a motion and the torques measured with it, Nm. A sample that is not finite, or off the
    /// nominal torque by more than ten times a joint's effort limit, is left out.
    pub fn observe(&mut self, motion: &Motion, effort: &PerJoint) {
        let n = self.nominal.len();
        let rigid_body = self.nominal.inverse_dynamics(motion);
        let residual: PerJoint = std::array::from_fn(|j| effort[j] - rigid_body[j]);
        // A reading that no motor gives, or an acceleration that none could, would be believed for good.
        let plausible =
            |(j, residual): (usize, &f64)| residual.abs() <= most_residual(self.nominal.limits(j).effort);
        if !motion.is_finite(n) || !residual[..n].iter().enumerate().all(plausible) {
            return;
        }
        self.nominal.regressor(motion, &mut self.regressor);
        let width = n * PARAMETERS_PER_LINK + FRICTION;
        for (j, row) in self.rows.chunks_exact_mut(width).enumerate() {
            let inertial =
                self.regressor.row(j).iter().zip(SCALES.iter().cycle()).map(|(y, scale)| y * scale);
            let friction = friction_row(motion.qd[j]);
            for (sum, value) in row.iter_mut().zip(inertial.chain(friction)) {
                *sum += value;
            }
            self.residuals[j] += residual[j];
        }
        self.samples += 1;
    }

    /// Learns from the mean over the samples observed since the last update, and starts the next batch; does nothing
    /// without samples. Returns how surprising they were: the mean over the joints of e² / (h' P h + R).
    pub fn update(&mut self) -> Option<f64> {
        if self.samples == 0 {
            return None;
        }
        let (mut surprise, mut joints) = (0.0, 0);
        let n = self.nominal.len();
        let inertial = n * PARAMETERS_PER_LINK;
        let mean = (self.samples as f64).recip();
        for (j, row) in self.rows.chunks_exact(inertial + FRICTION).enumerate() {
            self.h.fill(0.0);
            for (h, sum) in self.h.iter_mut().zip(&row[..inertial]) {
                *h = sum * mean;
            }
            let own = inertial + j * FRICTION;
            for (h, sum) in self.h[own..own + FRICTION].iter_mut().zip(&row[inertial..]) {
                *h = sum * mean;
            }
            let known: f64 = self.h.iter().zip(&self.w).map(|(h, w)| h * w).sum();
            let error = self.residuals[j] * mean - known;
            if error.is_nan() || error.abs() > PLAUSIBLE_ERROR {
                continue;
            }
            if let Some((ph, total)) = self.covariance.update(&self.h, self.variance) {
                self.w.iter_mut().zip(ph).for_each(|(w, ph)| *w += ph / total * error);
                surprise += error * error / total;
                joints += 1;
            }
        }
        self.correct();
        self.clear();
        (joints > 0).then(|| surprise / f64::from(joints))
    }

    /// Makes the corrections the arm's.
    fn correct(&mut self) {
        let scales = SCALES.iter().cycle();
        let parameters = self.nominal_parameters.iter().zip(&self.w).zip(scales);
        self.corrected.set_inertial_parameters(parameters.map(|((nominal, w), scale)| nominal + w * scale));
    }

    /// What the last link carries may have changed: its parameters are as uncertain again as a payload of some kilograms
    /// makes them, and so learnt quickly.
    pub fn loosen_last_link(&mut self) {
        let n = self.nominal.len();
        let (size, first) = (self.covariance.size, n.saturating_sub(1) * PARAMETERS_PER_LINK);
        for (parameter, (payload, scale)) in PAYLOAD.iter().zip(SCALES).enumerate() {
            let at = first + parameter;
            if let Some(p) = self.covariance.p.get_mut(at * size + at) {
                *p += (payload / scale).powi(2);
            }
        }
    }

    /// The arm from which it started.
    pub fn nominal(&self) -> &Arm {
        &self.nominal
    }

    /// The scaled corrections (ten for each link, then viscous friction, Coulomb friction and offset of each joint), and their
    /// covariance, row by row.
    pub fn parameters(&self) -> (&[f64], &[f64]) {
        (&self.w, &self.covariance.p)
    }

    /// Takes over corrections and covariance, as [`TemperedRls::parameters`] gives them, and drops the samples observed since
    /// the last update; false, and nothing has changed, if their number is another. Does not allocate.
    pub fn set_parameters(&mut self, w: &[f64], p: &[f64]) -> bool {
        if (w.len(), p.len()) != (self.w.len(), self.covariance.p.len()) {
            return false;
        }
        self.w.copy_from_slice(w);
        self.covariance.p.copy_from_slice(p);
        self.correct();
        self.clear();
        true
    }

    /// Drops the samples observed since the last update.
    pub fn clear(&mut self) {
        self.rows.fill(0.0);
        self.residuals = [0.0; MAX_JOINTS];
        self.samples = 0;
    }
}

/// The regressor of viscous friction, Coulomb friction and offset.
fn friction_row(qd: f64) -> [f64; FRICTION] {
    [qd, (qd / COULOMB_SPEED).tanh(), 1.0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn lwr() -> Arm {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/urdf/kuka_lwr.urdf");
        Arm::from_urdf(path.as_ref(), &[], [0.0, 0.0, -9.81]).unwrap()
    }

    fn random_motion(random: &mut impl Rng) -> Motion {
        let mut motion = Motion::default();
        for j in 0..7 {
            motion.q[j] = random.random_range(-2.0..2.0);
            motion.qd[j] = random.random_range(-1.0..1.0);
            motion.qdd[j] = random.random_range(-2.0..2.0);
        }
        motion
    }

    /// The nominal arm with 10 % more mass, a payload, and friction.
    fn true_torque(arm: &Arm, motion: &Motion) -> PerJoint {
        let mut torque = arm.inverse_dynamics(motion);
        for (j, torque) in torque.iter_mut().enumerate().take(7) {
            *torque += 0.3 * motion.qd[j] + 0.6 * (motion.qd[j] / 0.02).tanh() - 0.4;
        }
        torque
    }

    fn rms(rls: &TemperedRls, truth: &Arm, random: &mut impl Rng) -> f64 {
        let square = |_| {
            let motion = random_motion(random);
            let (predicted, measured) = (rls.predict(&motion), true_torque(truth, &motion));
            (0..7).map(|j| (predicted[j] - measured[j]).powi(2)).sum::<f64>()
        };
        ((0..200).map(square).sum::<f64>() / 1400.0).sqrt()
    }

    #[test]
    fn a_perturbed_arm_with_friction_is_identified() {
        let nominal = lwr();
        let mut truth = nominal.clone().with_payload(0.5, [0.0, 0.0, 0.05]);
        truth.map_links(|_, link| link.mass *= 1.1);
        let mut rls = TemperedRls::new(nominal);
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let before = rms(&rls, &truth, &mut random);
        for _ in 0..2000 {
            let motion = random_motion(&mut random);
            rls.observe(&motion, &true_torque(&truth, &motion));
            rls.update();
        }
        let after = rms(&rls, &truth, &mut random);
        assert!(after < 0.05 * before, "{before} -> {after}");
    }

    #[test]
    fn a_batch_is_learnt_by_its_means_in_the_closed_form_of_bayesian_least_squares() {
        let arm = lwr();
        let mut rls = TemperedRls::new(arm.clone());
        let mut random = ChaCha8Rng::seed_from_u64(6);
        let size = 91;
        let mut information = nalgebra::DMatrix::<f64>::identity(size, size);
        let mut right = nalgebra::DVector::<f64>::zeros(size);
        let mut y = Regressor::new(7);
        for _ in 0..30 {
            let mut rows = vec![nalgebra::DVector::<f64>::zeros(size); 7];
            let mut residuals = [0.0; 7];
            for _ in 0..10 {
                let motion = random_motion(&mut random);
                let effort: PerJoint = std::array::from_fn(|_| random.random_range(-9.0..9.0));
                let nominal = arm.inverse_dynamics(&motion);
                arm.regressor(&motion, &mut y);
                for j in 0..7 {
                    for (c, value) in y.row(j).iter().enumerate() {
                        let scale = [0.3, 0.06, 0.06, 0.06, 0.015, 0.015, 0.015, 0.015, 0.015, 0.015][c % 10];
                        rows[j][c] += value * scale / 10.0;
                    }
                    rows[j][70 + 3 * j] += motion.qd[j] / 10.0;
                    rows[j][71 + 3 * j] += (motion.qd[j] / 0.02).tanh() / 10.0;
                    rows[j][72 + 3 * j] += 0.1;
                    residuals[j] += (effort[j] - nominal[j]) / 10.0;
                }
                rls.observe(&motion, &effort);
            }
            rls.update();
            for (row, residual) in rows.iter().zip(residuals) {
                information += row * row.transpose() / 10.0;
                right += row * (residual / 10.0);
            }
        }
        let w = information.cholesky().unwrap().solve(&right);
        for (learnt, expected) in rls.w.iter().zip(w.iter()) {
            assert!((learnt - expected).abs() < 1e-8, "{learnt} {expected}");
        }
    }

    #[test]
    fn the_covariance_stays_symmetric_and_positive_through_a_hundred_thousand_alike_updates() {
        let mut covariance = Covariance::new(5, 1.0);
        let mut random = ChaCha8Rng::seed_from_u64(8);
        for i in 0..100_000 {
            let mut h = [1.0, 2.0, 3.0, 4.0, 5.0].map(|h: f64| h * 1e3);
            if i % 1000 == 0 {
                h = h.map(|h| h * random.random_range(0.9..1.1));
            }
            covariance.update(&h, 1e-3);
        }
        let p = nalgebra::DMatrix::from_row_slice(5, 5, &covariance.p);
        assert_eq!(p, p.transpose());
        assert!(p.symmetric_eigenvalues().min() > -1e-12);
    }

    #[test]
    fn what_is_not_finite_or_beyond_any_motor_is_left_out() {
        let mut rls = TemperedRls::new(lwr());
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let probe = random_motion(&mut random);
        rls.observe(&probe, &[3.0; MAX_JOINTS]);
        rls.update();
        let before = rls.predict(&probe);
        let mut wild = probe;
        wild.qdd[3] = f64::NAN;
        rls.observe(&wild, &[1.0; MAX_JOINTS]);
        rls.observe(&probe, &[f64::INFINITY; MAX_JOINTS]);
        // A glitch that no motor gives; and an acceleration that none could.
        rls.observe(&probe, &[1e5; MAX_JOINTS]);
        wild.qdd[3] = 1e6;
        rls.observe(&wild, &[1.0; MAX_JOINTS]);
        rls.update();
        assert_eq!(rls.predict(&probe), before);
        wild.qdd[3] = 1e300;
        rls.observe(&wild, &[1e300; MAX_JOINTS]);
        rls.update();
        assert!(rls.predict(&probe).iter().all(|torque| torque.is_finite()));
    }
}
