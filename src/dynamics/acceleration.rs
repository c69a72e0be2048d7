//! Accelerations from stamped positions and velocities.
//!
//! Contract: the intake calls [`Acceleration::push`] for every sample on its own thread; after construction nothing
//! allocates, blocks or panics, and a push costs the same whatever the samples are (a window of eleven and seven
//! joints: under two microseconds).
//!
//! Each joint's window of samples is fitted, by least squares, with one polynomial whose derivative is of the
//! configured order: positions with the polynomial, velocities with its derivative. This is the filter of A. Savitzky
//! and M. Golay (Analytical Chemistry 1964) for two kinds of measurement and for any stamps. Time is centred and scaled
//! so that the window spans [-1, 1], which keeps the normal equations well conditioned.
//!
//! An error of 1e-4 rad in a position weighs as much as one of 1e-3 rad/s in a velocity. Encoders are finer than that,
//! but a stamp that is 0.1 ms off shifts the position of a joint at 1 rad/s by as much, and hardly its velocity. So
//! velocities determine the fit at 1 kHz, and positions have their say in windows of a tenth of a second and longer.
//!
//! All joints share the stamps, so the weights of the samples are computed once per push, not once per joint.

use crate::config::Config;
use crate::sample::{MAX_JOINTS, Motion, Observation, PerJoint, all_finite};

/// The most coefficients a fit can have: velocities of order four are positions of order five.
const MAX_COEFFICIENTS: usize = 6;

/// How many times as many rad/s a velocity is off as a position is off rad, 1/s.
const NOISE_RATIO: f64 = 10.0;

type Coefficients = [f64; MAX_COEFFICIENTS];

/// Estimates accelerations over a sliding window of samples.
#[derive(Clone, Debug)]
pub struct Acceleration {
    joints: usize,
    order: usize,
    gap_ns: i64,
    /// A ring of `acceleration.window` samples; their accelerations are not used.
    window: Vec<Observation>,
    /// How many samples were taken since the start or the last reset.
    taken: usize,
    newest: PerJoint,
    middle: PerJoint,
}

impl Acceleration {
    /// An empty window of `acceleration.window` samples (an even number is rounded up) for `joints` joints; allocates.
    ///
    /// `acceleration.order` is the order of the polynomial in velocity, at most the window's length less one;
    /// `intake.gap` is the longest time between two samples of one window.
    pub fn new(config: &Config, joints: usize) -> Self {
        let length = config.acceleration_window.max(3) | 1;
        Acceleration {
            joints: joints.min(MAX_JOINTS),
            order: config.acceleration_order.clamp(1, MAX_COEFFICIENTS - 2),
            gap_ns: (config.gap * 1e6) as i64,
            window: vec![Observation::default(); length],
            taken: 0,
            newest: [0.0; MAX_JOINTS],
            middle: [0.0; MAX_JOINTS],
        }
    }

    /// Forgets all samples.
    pub fn reset(&mut self) {
        self.taken = 0;
    }

    /// How far [`Acceleration::centred`] lags behind the newest sample, in samples: half the window.
    pub fn lag(&self) -> usize {
        self.window.len() / 2
    }

    /// Takes the next sample: stamp (ns), positions, velocities, and the torques that [`Acceleration::centred`] gives
    /// back with them.
    ///
    /// Returns whether it was taken: a sample that is not newer than the last, or not finite, is left out. After a
    /// stamp more than `intake.gap` behind the last one the window starts anew.
    pub fn push(&mut self, stamp_ns: i64, q: &PerJoint, qd: &PerJoint, tau: &PerJoint) -> bool {
        let n = self.joints;
        if ![q, qd, tau].iter().all(|values| all_finite(&values[..n])) {
            return false;
        }
        if self.taken > 0 {
            let passed = stamp_ns.saturating_sub(self.at(0).stamp_ns);
            if passed <= 0 {
                return false;
            }
            if passed > self.gap_ns {
                self.reset();
            }
        }
        let slot = self.taken % self.window.len();
        let motion = Motion { q: *q, qd: *qd, qdd: [0.0; MAX_JOINTS] };
        self.window[slot] = Observation { stamp_ns, motion, effort: *tau };
        // Wraps among the full counts, so that it never overflows.
        self.taken += 1;
        if self.taken == 2 * self.window.len() {
            self.taken = self.window.len();
        }
        if self.len() >= 2 {
            self.fit();
        }
        true
    }

    /// The accelerations at the newest sample, rad/s², from it and those before it.
    ///
    /// While the window fills, the fit is to the samples that there are, of an order lowered to their number less one:
    /// from two samples on, and noisy at first. `None` before that.
    pub fn one_sided(&self) -> Option<PerJoint> {
        (self.len() >= 2).then_some(self.newest)
    }

    /// The window's middle sample as it was pushed, with the accelerations at its stamp, which samples before and after
    /// it determine; `None` until the window is full.
    pub fn centred(&self) -> Option<Observation> {
        (self.len() == self.window.len()).then(|| {
            let mut observation = *self.at(self.lag());
            observation.motion.qdd = self.middle;
            observation
        })
    }

    fn len(&self) -> usize {
        self.taken.min(self.window.len())
    }

    /// The sample of `age` pushes ago.
    fn at(&self, age: usize) -> &Observation {
        let length = self.window.len();
        let mut slot = self.taken + length - 1 - age;
        // Twice at most, which takes less time than a division.
        while slot >= length {
            slot -= length;
        }
        &self.window[slot]
    }

    fn fit(&mut self) {
        let (len, n) = (self.len(), self.joints);
        let newest = *self.at(0);
        let half = 0.5 * (newest.stamp_ns - self.at(len - 1).stamp_ns) as f64;
        let seconds = half * 1e-9;
        let scaled = |stamp_ns: i64| 1.0 - (newest.stamp_ns - stamp_ns) as f64 / half;

        let weight = (NOISE_RATIO * seconds).powi(2);
        let coefficients = self.order.min(len - 1) + 2;
        let mut normal = Normal::default();
        for age in 0..len {
            normal.add(scaled(self.at(age).stamp_ns), weight, coefficients);
        }
        let factor = normal.factor(coefficients);
        let at_newest = factor.solve(&second_derivatives(1.0));
        let at_middle = factor.solve(&second_derivatives(scaled(self.at(self.lag().min(len - 1)).stamp_ns)));

        let (mut a, mut b) = ([0.0; MAX_JOINTS], [0.0; MAX_JOINTS]);
        for age in 0..len {
            let sample = self.at(age);
            let s = scaled(sample.stamp_ns);
            let (powers, slopes) = (powers(s), derivatives(s));
            let weights =
                [&at_newest, &at_middle].map(|x| (weight * dot(x, &powers), dot(x, &slopes) * seconds));
            // Slices as long as each other: the loop over them vectorises.
            let (q, qd, origin) = (&sample.motion.q[..n], &sample.motion.qd[..n], &newest.motion.q[..n]);
            let (a, b) = (&mut a[..n], &mut b[..n]);
            for j in 0..n {
                // From the newest position: the weights of a constant add up to nothing but rounding.
                let (q, qd) = (q[j] - origin[j], qd[j]);
                a[j] += weights[0].0 * q + weights[0].1 * qd;
                b[j] += weights[1].0 * q + weights[1].1 * qd;
            }
        }
        let per_second_squared = 1.0 / (seconds * seconds);
        self.newest = a.map(|a| a * per_second_squared);
        self.middle = b.map(|b| b * per_second_squared);
    }
}

/// 1, s, s², ...
fn powers(s: f64) -> Coefficients {
    let mut powers = [1.0; MAX_COEFFICIENTS];
    for k in 1..MAX_COEFFICIENTS {
        powers[k] = powers[k - 1] * s;
    }
    powers
}

/// The first derivatives of 1, s, s², ...
fn derivatives(s: f64) -> Coefficients {
    let powers = powers(s);
    std::array::from_fn(|k| if k < 1 { 0.0 } else { k as f64 * powers[k - 1] })
}

/// The second derivatives of 1, s, s², ...
fn second_derivatives(s: f64) -> Coefficients {
    let powers = powers(s);
    std::array::from_fn(|k| if k < 2 { 0.0 } else { (k * (k - 1)) as f64 * powers[k - 2] })
}

fn dot(a: &Coefficients, b: &Coefficients) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The normal equations' matrix.
#[derive(Default)]
struct Normal([Coefficients; MAX_COEFFICIENTS]);

impl Normal {
    /// Of so many coefficients.
    fn add(&mut self, s: f64, position_weight: f64, coefficients: usize) {
        for (row, weight) in [(powers(s), position_weight), (derivatives(s), 1.0)] {
            for i in 0..coefficients.min(MAX_COEFFICIENTS) {
                for j in 0..=i {
                    self.0[i][j] += weight * row[i] * row[j];
                }
            }
        }
    }

    /// The Cholesky factor of the leading `coefficients` rows, or of as many as the samples determine: never fewer than
    /// three, which the two ends alone determine.
    fn factor(&self, coefficients: usize) -> Factor {
        let mut l = self.0;
        let mut size = 0;
        while size < coefficients {
            let i = size;
            for j in 0..=i {
                let rest = l[i][j] - (0..j).map(|k| l[i][k] * l[j][k]).sum::<f64>();
                l[i][j] = if i > j { rest / l[j][j] } else { rest };
            }
            if l[i][i] < 1e-9 * self.0[i][i] {
                break;
            }
            l[i][i] = l[i][i].sqrt();
            size += 1;
        }
        Factor { l, size }
    }
}

struct Factor {
    l: [Coefficients; MAX_COEFFICIENTS],
    size: usize,
}

impl Factor {
    /// The coefficients past the factor's size are zero.
    fn solve(&self, right: &Coefficients) -> Coefficients {
        let (l, n) = (&self.l, self.size);
        let mut x = [0.0; MAX_COEFFICIENTS];
        for i in 0..n {
            x[i] = (right[i] - (0..i).map(|k| l[i][k] * x[k]).sum::<f64>()) / l[i][i];
        }
        for i in (0..n).rev() {
            x[i] = (x[i] - (i + 1..n).map(|k| l[k][i] * x[k]).sum::<f64>()) / l[i][i];
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_distr::{Distribution, Normal};

    const MS: i64 = 1_000_000;

    fn estimator(window: usize, order: usize) -> Acceleration {
        let config = Config { acceleration_window: window, acceleration_order: order, ..Config::default() };
        Acceleration::new(&config, 2)
    }

    /// Position, velocity and acceleration of a polynomial with these coefficients.
    fn polynomial(coefficients: &[f64], t: f64) -> (f64, f64, f64) {
        let mut value = (0.0, 0.0, 0.0);
        for c in coefficients.iter().rev() {
            value = (value.0 * t + c, value.1 * t + value.0, value.2 * t + 2.0 * value.1);
        }
        value
    }

    fn push(a: &mut Acceleration, stamp_ns: i64, values: [(f64, f64, f64); 2]) -> bool {
        let mut q = [0.0; MAX_JOINTS];
        let mut qd = [0.0; MAX_JOINTS];
        for j in 0..2 {
            (q[j], qd[j], _) = values[j];
        }
        let mut tau = [0.0; MAX_JOINTS];
        tau[0] = stamp_ns as f64;
        a.push(stamp_ns, &q, &qd, &tau)
    }

    #[test]
    fn polynomials_of_the_order_are_exact_on_uneven_stamps_far_from_zero() {
        for (window, order) in [(3, 1), (11, 1), (11, 2), (11, 3), (21, 4), (101, 4)] {
            let mut a = estimator(window, order);
            let coefficients = [1.0, -0.5, 0.7, 3.0, -20.0, 40.0];
            let truth = |stamp: i64, sign: f64| {
                let (q, qd, qdd) = polynomial(&coefficients[..order + 2], stamp as f64 * 1e-9);
                (sign * q, sign * qd, sign * qdd)
            };
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
            let mut stamp = 0;
            let base = 1_700_000_000_000_000_000;
            let mut stamps = vec![];
            for _ in 0..window + 5 {
                stamp += random.random_range(MS / 2..2 * MS);
                stamps.push(stamp);
                assert!(push(&mut a, base + stamp, [truth(stamp, 1.0), truth(stamp, -1.0)]));
            }
            let middle = stamps[stamps.len() - 1 - window / 2];
            let newest = a.one_sided().unwrap();
            let centred = a.centred().unwrap();
            assert_eq!(centred.stamp_ns, base + middle);
            assert_eq!(centred.effort[0], centred.stamp_ns as f64);
            assert_eq!(centred.motion.q[1], truth(middle, -1.0).0);
            assert_eq!(centred.motion.qd[0], truth(middle, 1.0).1);
            for (estimate, stamp) in [(newest, stamp), (centred.motion.qdd, middle)] {
                for (estimate, sign) in estimate.into_iter().zip([1.0, -1.0]) {
                    let expected = truth(stamp, sign).2;
                    assert!((estimate - expected).abs() < 1e-7, "{window} {order}: {estimate} {expected}");
                }
            }
        }
    }

    #[test]
    fn noise_is_averaged_as_theory_says() {
        let mut a = estimator(11, 2);
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let (position, velocity) = (Normal::new(0.0, 1e-5).unwrap(), Normal::new(0.0, 1e-3).unwrap());
        let (mut newest, mut middle, mut count) = (0.0, 0.0, 0.0);
        for i in 0..20_000 {
            let noise = (position.sample(&mut random), velocity.sample(&mut random), 0.0);
            push(&mut a, i * MS, [noise, noise]);
            if let (Some(side), Some(centred)) = (a.one_sided(), a.centred()) {
                newest += side[0] * side[0];
                middle += centred.motion.qdd[0].powi(2);
                count += 1.0;
            }
        }
        // Of a slope fitted to n equidistant velocities: 12 / (n (n² - 1)) at the middle. At the end of a parabola:
        // about 16 times that.
        let slope = 1e-3 * (12.0_f64 / (11.0 * 120.0)).sqrt() / 1e-3;
        let (newest, middle) = (f64::sqrt(newest / count), f64::sqrt(middle / count));
        assert!((middle / slope - 1.0).abs() < 0.1, "{middle} {slope}");
        assert!((2.0..6.0).contains(&(newest / slope)), "{newest} {slope}");
    }

    #[test]
    fn the_start_falls_back_on_fewer_samples_and_a_gap_starts_anew() {
        let mut a = estimator(5, 2);
        let at = |ms: i64| {
            let t = ms as f64 * 1e-3;
            [(t * t, 2.0 * t, 2.0); 2]
        };
        assert!(a.one_sided().is_none());
        for ms in 0..5 {
            assert!(a.centred().is_none());
            push(&mut a, ms * MS, at(ms));
            assert_eq!(a.one_sided().is_some(), ms > 0);
            if let Some(estimate) = a.one_sided() {
                assert!((estimate[0] - 2.0).abs() < 1e-8, "{estimate:?}");
            }
        }
        assert!((a.centred().unwrap().motion.qdd[1] - 2.0).abs() < 1e-8);
        push(&mut a, 4 * MS + 100 * MS, at(104));
        assert!(a.centred().is_some(), "a gap as long as the limit is none");
        push(&mut a, 105 * MS + 100 * MS, at(205));
        assert!(a.one_sided().is_none() && a.centred().is_none());
    }

    #[test]
    fn repeated_backward_and_non_finite_samples_change_nothing() {
        let mut a = estimator(3, 1);
        for ms in 0..4 {
            push(&mut a, ms * MS, [(0.1 * ms as f64, 1.0, 0.0); 2]);
        }
        let before = (a.one_sided(), a.centred());
        assert!(!push(&mut a, 3 * MS, [(9.0, 9.0, 0.0); 2]));
        assert!(!push(&mut a, 2 * MS, [(9.0, 9.0, 0.0); 2]));
        assert!(!push(&mut a, i64::MIN, [(9.0, 9.0, 0.0); 2]));
        assert!(!push(&mut a, 4 * MS, [(f64::NAN, 9.0, 0.0); 2]));
        assert_eq!((a.one_sided(), a.centred()), before);
    }

    #[test]
    fn stamps_that_crowd_together_still_give_the_acceleration() {
        let mut a = estimator(5, 4);
        for stamp in [0, 1, 2, 3, 20 * MS] {
            let t = stamp as f64 * 1e-9;
            push(&mut a, stamp, [(t * t, 2.0 * t, 2.0); 2]);
        }
        let (newest, centred) = (a.one_sided().unwrap(), a.centred().unwrap());
        assert!((newest[0] - 2.0).abs() < 1e-6, "{newest:?}");
        assert!((centred.motion.qdd[0] - 2.0).abs() < 1e-6, "{centred:?}");
    }
}
