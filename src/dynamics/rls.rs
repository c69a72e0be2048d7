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

use super::arm::{Arm, PARAMETERS_PER_LINK};
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

/// What the torques for one motion are linear in: each joint's torque is a known one and a sum of parameters, each by its
/// coefficient. Made by the least squares to which it belongs.
#[derive(Clone, Debug, Default)]
pub struct Basis {
    /// The torques without any parameter, Nm.
    pub(super) known: PerJoint,
    pub(super) coefficients: Vec<f64>,
    /// Whether the motion was.
    pub(super) finite: bool,
}

impl Basis {
    /// The torques without anything learnt: the nominal model's, Nm.
    pub fn known(&self) -> &PerJoint {
        &self.known
    }
}

/// The inverse of the information gathered so far, and the gains that follow from it.
///
/// Several measurements go in together, each given those before it, and P is read once and written once for all of them:
/// [`Covariance::multiply`], [`Covariance::take`] for each, [`Covariance::settle`].
#[derive(Clone, Debug)]
pub(super) struct Covariance {
    size: usize,
    /// Row-major, symmetric to the last bit.
    p: Vec<f64>,
    /// Of each measurement P h, and once it is taken P h / sqrt(h' P h + R), by whose square P shrinks.
    directions: Vec<f64>,
}

/// What a measurement does to the parameters: they move along `direction` by the error over `deviation`, of which the square
/// is h' P h + R.
pub(super) struct Gain<'a> {
    pub(super) direction: &'a [f64],
    pub(super) deviation: f64,
}

impl Covariance {
    /// Room for so many parameters, and so many measurements at a time.
    pub(super) fn new(size: usize, prior: f64, measurements: usize) -> Self {
        let mut p = vec![0.0; size * size];
        p.iter_mut().step_by(size + 1).for_each(|diagonal| *diagonal = prior);
        Covariance { size, p, directions: vec![0.0; measurements * size] }
    }

    /// P, row by row.
    pub(super) fn values(&self) -> &[f64] {
        &self.p
    }

    pub(super) fn values_mut(&mut self) -> &mut [f64] {
        &mut self.p
    }

    /// The measurements to come are along the rows of `h`.
    pub(super) fn multiply(&mut self, h: &[f64]) {
        self.directions.fill(0.0);
        // By rows, for P is symmetric: sums over lanes rather than along them vectorise, and most of h is zero.
        for (at, rows) in self.p.chunks(ROWS * self.size).enumerate() {
            let measurements = self.directions.chunks_exact_mut(self.size).zip(h.chunks_exact(self.size));
            for (ph, h) in measurements {
                let factors = &h[ROWS * at..][..rows.len() / self.size];
                if factors.iter().any(|factor| *factor != 0.0) {
                    add_rows(ph, rows, factors);
                }
            }
        }
    }

    /// Takes in measurement number `which`, along `h`, given those that were taken before. `None`, and it counts for nothing,
    /// if it is not finite or rounding has made the variance along it negative.
    pub(super) fn take(&mut self, which: usize, h: &[f64], variance: f64) -> Option<Gain<'_>> {
        let (taken, rest) = self.directions.split_at_mut(which * self.size);
        let direction = &mut rest[..self.size];
        for earlier in taken.chunks_exact(self.size) {
            add_rows(direction, earlier, &[-dot(earlier, h)]);
        }
        let along = dot(direction, h);
        let total = along + variance;
        if !(along >= 0.0 && total.is_finite()) {
            direction.fill(0.0);
            return None;
        }
        let deviation = total.sqrt();
        direction.iter_mut().for_each(|value| *value /= deviation);
        Some(Gain { direction, deviation })
    }

    /// Leaves measurement number `which` out.
    pub(super) fn leave(&mut self, which: usize) {
        self.directions[which * self.size..][..self.size].fill(0.0);
    }

    /// All measurements are taken or left out.
    pub(super) fn settle(&mut self) {
        for (i, row) in self.p.chunks_exact_mut(self.size).enumerate() {
            for rows in self.directions.chunks(ROWS * self.size) {
                // As u u', both halves of P get the same bits.
                let mut factors = [0.0; ROWS];
                let of_row = rows.chunks_exact(self.size).map(|direction| -direction[i]);
                factors.iter_mut().zip(of_row).for_each(|(to, from)| *to = from);
                add_rows(row, rows, &factors[..rows.len() / self.size]);
            }
        }
    }
}

/// How many rows are added at a time.
const ROWS: usize = 4;

/// Adds rows, up to [`ROWS`] of them, to `to`, each by its factor.
fn add_rows(to: &mut [f64], rows: &[f64], factors: &[f64]) {
    fn add<const N: usize>(to: &mut [f64], rows: &[f64], factors: &[f64; N]) {
        let size = to.len();
        let rows: [&[f64]; N] = std::array::from_fn(|i| &rows[i * size..][..size]);
        for (k, to) in to.iter_mut().enumerate() {
            *to += (0..N).map(|i| factors[i] * rows[i][k]).sum::<f64>();
        }
    }
    match *factors {
        [a] => add(to, rows, &[a]),
        [a, b] => add(to, rows, &[a, b]),
        [a, b, c] => add(to, rows, &[a, b, c]),
        [a, b, c, d] => add(to, rows, &[a, b, c, d]),
        _ => {}
    }
}

/// The scalar product, summed up in lanes so that it vectorises.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
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
    /// Of the newest sample that [`TemperedRls::observe`] took.
    basis: Basis,
    /// Of each joint the sum over the batch of its coefficients, and of its residual.
    coefficients: Vec<f64>,
    residuals: PerJoint,
    samples: usize,
    /// Of each joint their mean, by parameter.
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
            covariance: Covariance::new(size, 1.0, n),
            variance,
            basis: Basis { known: [0.0; MAX_JOINTS], coefficients: vec![0.0; n * width(n)], finite: false },
            coefficients: vec![0.0; n * width(n)],
            residuals: [0.0; MAX_JOINTS],
            samples: 0,
            h: vec![0.0; n * size],
            nominal,
        }
    }

    /// The torques for `motion`, rigid body included, Nm.
    pub fn predict(&self, motion: &Motion) -> PerJoint {
        self.with_friction(motion, self.corrected.inverse_dynamics(motion))
    }

    /// The nominal model's torques for `motion`, and those of [`TemperedRls::predict`], Nm: not the price of both.
    pub fn predict_both(&self, motion: &Motion) -> (PerJoint, PerJoint) {
        let moving = self.nominal.moving(motion);
        let corrected = self.with_friction(motion, self.corrected.torques(&moving));
        (self.nominal.torques(&moving), corrected)
    }

    fn with_friction(&self, motion: &Motion, mut torques: PerJoint) -> PerJoint {
        let inertial = self.nominal.len() * PARAMETERS_PER_LINK;
        for (j, w) in self.w[inertial..].chunks_exact(FRICTION).enumerate() {
            let row = friction_row(motion.qd[j]);
            torques[j] += row.iter().zip(w).map(|(h, w)| h * w).sum::<f64>();
        }
        torques
    }

    /// Room for a basis; allocates.
    pub fn basis(&self) -> Basis {
        self.basis.clone()
    }

    /// What the torques for `motion` are linear in: for each joint ten scaled coefficients of each link, then friction's.
    pub fn expand(&self, motion: &Motion, basis: &mut Basis) {
        let n = self.nominal.len();
        let (width, inertial) = (width(n), n * PARAMETERS_PER_LINK);
        let moving = self.nominal.moving(motion);
        basis.known = self.nominal.torques(&moving);
        basis.finite = motion.is_finite(n);
        self.nominal.for_each_effort(&moving, |joint, link, efforts| {
            let at = joint * width + link * PARAMETERS_PER_LINK;
            let coefficients = &mut basis.coefficients[at..][..PARAMETERS_PER_LINK];
            for (to, (effort, scale)) in coefficients.iter_mut().zip(efforts.iter().zip(SCALES)) {
                *to = effort * scale;
            }
        });
        for (row, qd) in basis.coefficients.chunks_exact_mut(width).zip(&motion.qd) {
            row[inertial..].copy_from_slice(&friction_row(*qd));
        }
    }

    /// [`TemperedRls::predict`] for the motion of which this is the basis.
    pub fn torques(&self, basis: &Basis) -> PerJoint {
        let n = self.nominal.len();
        let (width, inertial) = (width(n), n * PARAMETERS_PER_LINK);
        let mut torques = basis.known;
        let friction = self.w[inertial..].chunks_exact(FRICTION);
        let rows = basis.coefficients.chunks_exact(width).zip(friction);
        for (j, (torque, (row, friction))) in torques.iter_mut().zip(rows).enumerate() {
            // A joint does not carry the links before it.
            let carried = j * PARAMETERS_PER_LINK..inertial;
            *torque += dot(&row[carried.clone()], &self.w[carried]) + dot(&row[inertial..], friction);
        }
        torques
    }

    /// Adds one sample to the batch: a motion and the torques measured with it, Nm. A sample that is not finite, or off the
    /// nominal torque by more than ten times a joint's effort limit, is left out.
    pub fn observe(&mut self, motion: &Motion, effort: &PerJoint) {
        let mut basis = std::mem::take(&mut self.basis);
        self.expand(motion, &mut basis);
        self.add(&basis, effort);
        self.basis = basis;
    }

    /// [`TemperedRls::observe`] for the motion of which this is the basis.
    pub fn add(&mut self, basis: &Basis, effort: &PerJoint) {
        let n = self.nominal.len();
        let residual: PerJoint = std::array::from_fn(|j| effort[j] - basis.known[j]);
        // A reading that no motor gives, or an acceleration that none could, would be believed for good.
        let plausible =
            |(j, residual): (usize, &f64)| residual.abs() <= most_residual(self.nominal.limits(j).effort);
        if !basis.finite || !residual[..n].iter().enumerate().all(plausible) {
            return;
        }
        self.coefficients.iter_mut().zip(&basis.coefficients).for_each(|(sum, value)| *sum += value);
        self.residuals.iter_mut().zip(&residual[..n]).for_each(|(sum, value)| *sum += value);
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
        let (size, inertial) = (self.w.len(), n * PARAMETERS_PER_LINK);
        let mean = (self.samples as f64).recip();
        let rows = self.h.chunks_exact_mut(size).zip(self.coefficients.chunks_exact(width(n)));
        for (j, (h, row)) in rows.enumerate() {
            let own = inertial + j * FRICTION;
            let places = h[..inertial].iter_mut().zip(&row[..inertial]);
            places.for_each(|(h, sum)| *h = sum * mean);
            h[own..].iter_mut().zip(&row[inertial..]).for_each(|(h, sum)| *h = sum * mean);
        }
        self.covariance.multiply(&self.h);
        for (j, h) in self.h.chunks_exact(size).enumerate() {
            let error = self.residuals[j] * mean - dot(h, &self.w);
            if error.is_nan() || error.abs() > PLAUSIBLE_ERROR {
                self.covariance.leave(j);
            } else if let Some(Gain { direction, deviation }) = self.covariance.take(j, h, self.variance) {
                let normed = error / deviation;
                self.w.iter_mut().zip(direction).for_each(|(w, along)| *w += along * normed);
                surprise += normed * normed;
                joints += 1;
            }
        }
        self.covariance.settle();
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
        self.coefficients.fill(0.0);
        self.residuals = [0.0; MAX_JOINTS];
        self.samples = 0;
    }
}

/// How many parameters a joint's torque is linear in.
fn width(joints: usize) -> usize {
    joints * PARAMETERS_PER_LINK + FRICTION
}

/// The regressor of viscous friction, Coulomb friction and offset.
fn friction_row(qd: f64) -> [f64; FRICTION] {
    [qd, (qd / COULOMB_SPEED).tanh(), 1.0]
}

#[cfg(test)]
mod tests {
    use super::super::arm::Regressor;
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
    fn a_motion_expanded_gives_the_torques_of_the_motion() {
        let (nominal, mut random) = (lwr(), ChaCha8Rng::seed_from_u64(6));
        let truth = nominal.clone().with_payload(0.5, [0.0, 0.0, 0.05]);
        let mut rls = TemperedRls::new(nominal.clone());
        let mut basis = rls.basis();
        for i in 0..200 {
            let motion = random_motion(&mut random);
            rls.expand(&motion, &mut basis);
            let (rigid_body, predicted) = rls.predict_both(&motion);
            let each = rls.torques(&basis).into_iter().zip(predicted).zip(rls.predict(&motion));
            for ((expanded, both), alone) in each {
                assert!(
                    (expanded - alone).abs() < 1e-8 && (both - alone).abs() < 1e-12,
                    "{expanded} {both} {alone}"
                );
            }
            for (both, alone) in rigid_body.iter().zip(nominal.inverse_dynamics(&motion)) {
                assert!((both - alone).abs() < 1e-12, "{both} {alone}");
            }
            rls.add(&basis, &true_torque(&truth, &motion));
            if i % 10 == 9 {
                rls.update();
            }
            if i == 100 {
                rls.loosen_last_link();
            }
        }
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
        let mut covariance = Covariance::new(5, 1.0, 1);
        let mut random = ChaCha8Rng::seed_from_u64(8);
        for i in 0..100_000 {
            let mut h = [1.0, 2.0, 3.0, 4.0, 5.0].map(|h: f64| h * 1e3);
            if i % 1000 == 0 {
                h = h.map(|h| h * random.random_range(0.9..1.1));
            }
            covariance.multiply(&h);
            covariance.take(0, &h, 1e-3);
            covariance.settle();
        }
        assert!(covariance.p[0] < 0.99, "it has not shrunk");
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
