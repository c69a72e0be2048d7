//! The limits: the last thing that happens to a torque before it may be commanded.
//!
//! Contract: called by the pinned thread for every sample; a few flops per joint, no allocation, no clock of its own.
//! [`Limits::apply`] is a pure function of its state, the stamps and the wanted torques, so that a replay repeats it bit
//! for bit; only [`Limits::decay`] follows the wall clock, and only the live loop calls it.
//!
//! Whatever comes in (NaN and infinities included), what goes out is finite, at most [`Limits::magnitude`] in size, and
//! differs from what went out before by at most `limits.rate` times the time between the stamps.

use crate::config::Config;
use crate::sample::{MAX_JOINTS, PerJoint};

/// Why limits could not be set up.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LimitsError {
    /// `limits.effort` does not fit the arm.
    #[error(
        "`limits.effort` has {given} entries, but the arm has {joints} joints; give one per joint, or none"
    )]
    EffortCount {
        /// How many were given.
        given: usize,
        /// How many joints there are.
        joints: usize,
    },
    /// More joints than [`MAX_JOINTS`], or none.
    #[error("an arm of {joints} joints cannot be served; 1 to {MAX_JOINTS} can")]
    JointCount {
        /// How many joints there are.
        joints: usize,
    },
}

/// Finite, magnitude, rate, decay and ramp, with the state that they need.
#[derive(Clone, Debug)]
pub struct Limits {
    joints: usize,
    magnitude: PerJoint,
    rate: f64,
    timeout_s: f64,
    decay_s: f64,
    ramp_s: f64,
    enabled: bool,
    last: PerJoint,
    last_stamp_ns: Option<i64>,
    /// Time since the ramp began, s.
    ramped_s: f64,
    /// Where the present decay began, and how long it has lasted, s.
    decay_from: PerJoint,
    decayed_s: Option<f64>,
    non_finite: u64,
    clipped: u64,
}

impl Limits {
    /// The limits of an arm of `joints` joints.
    ///
    /// A joint's magnitude is `limits.torque` times its entry of `limits.effort`, or else of `urdf_effort` (the URDF's
    /// effort limits in joint order, Nm; empty without a URDF). Where neither gives one (or the URDF says 0, which means
    /// unknown there) the magnitude is unlimited: see [`Limits::is_bounded`].
    ///
    /// # Errors
    /// [`LimitsError`].
    pub fn new(config: &Config, joints: usize, urdf_effort: &[f64]) -> Result<Self, LimitsError> {
        if !(1..=MAX_JOINTS).contains(&joints) {
            return Err(LimitsError::JointCount { joints });
        }
        let given = config.limit_effort.len();
        if given != 0 && given != joints {
            return Err(LimitsError::EffortCount { given, joints });
        }
        let mut magnitude = [f64::INFINITY; MAX_JOINTS];
        for (joint, magnitude) in magnitude.iter_mut().enumerate().take(joints) {
            let effort = config.limit_effort.get(joint).copied();
            let effort = effort.or_else(|| urdf_effort.get(joint).copied().filter(|&effort| effort > 0.0));
            if let Some(effort) = effort.filter(|effort| effort.is_finite()) {
                *magnitude = config.limit_torque * effort;
            }
        }
        Ok(Limits {
            joints,
            magnitude,
            rate: config.limit_rate,
            timeout_s: config.limit_timeout * 1e-3,
            decay_s: config.limit_decay,
            ramp_s: config.limit_ramp,
            enabled: true,
            last: [0.0; MAX_JOINTS],
            last_stamp_ns: None,
            ramped_s: 0.0,
            decay_from: [0.0; MAX_JOINTS],
            decayed_s: None,
            non_finite: 0,
            clipped: 0,
        })
    }

    /// Whether every joint's magnitude is limited. A node that commands torques should refuse to run, or at least say so,
    /// when it is not.
    pub fn is_bounded(&self) -> bool {
        self.magnitude[..self.joints].iter().all(|m| m.is_finite())
    }

    /// The largest torque that each joint is given, Nm; infinite where nothing limits it.
    pub fn magnitude(&self) -> &PerJoint {
        &self.magnitude
    }

    /// What went out last, Nm.
    pub fn last(&self) -> &PerJoint {
        &self.last
    }

    /// How many wanted torques were not finite (counted per joint).
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// How many wanted torques exceeded their magnitude (counted per joint).
    pub fn clipped(&self) -> u64 {
        self.clipped
    }

    /// Disabled, the torque goes to zero as fast as the rate allows and stays there; enabled again, it ramps in.
    pub fn set_enabled(&mut self, enabled: bool) {
        if enabled && !self.enabled {
            self.ramped_s = 0.0;
        }
        self.enabled = enabled;
    }

    /// The torque that may go out for the one that is wanted, Nm, for a sample of this stamp.
    ///
    /// - The first sample gives zero: there is no time yet in which to leave it.
    /// - Stamps that do not advance hold the torque. A step longer than `limits.timeout` counts as one of that length, and
    ///   the ramp begins anew: the input was dead in between.
    /// - A joint whose wanted torque is not finite goes to zero from where it is, in `limits.decay` at the longest.
    pub fn apply(&mut self, stamp_ns: i64, wanted: &PerJoint) -> PerJoint {
        let elapsed_s = self.last_stamp_ns.map_or(0.0, |last| (stamp_ns.saturating_sub(last)) as f64 * 1e-9);
        self.last_stamp_ns = Some(stamp_ns);
        self.decayed_s = None;
        if elapsed_s > self.timeout_s {
            self.ramped_s = 0.0;
        }
        let dt = elapsed_s.clamp(0.0, self.timeout_s);
        self.ramped_s = (self.ramped_s + dt).min(self.ramp_s);
        let gain = match (self.enabled, self.ramp_s > 0.0) {
            (false, _) => 0.0,
            (true, false) => 1.0,
            (true, true) => self.ramped_s / self.ramp_s,
        };
        for (joint, &wanted) in wanted.iter().enumerate().take(self.joints) {
            let (limit, last) = (self.magnitude[joint], self.last[joint]);
            let target = if wanted.is_finite() {
                self.clipped += u64::from(wanted.abs() > limit);
                gain * wanted.clamp(-limit, limit)
            } else {
                self.non_finite += 1;
                let step = limit / self.decay_s * dt;
                if step.is_finite() { last - last.clamp(-step, step) } else { 0.0 }
            };
            self.last[joint] = self.towards(joint, target, dt);
        }
        self.last
    }

    /// The torque when no sample has come for longer than `limits.timeout`: linearly from what went out last to zero in
    /// `limits.decay`. `dt_s` is the time since the last call of either kind (what exceeds the timeout, at the first
    /// call of a silence). After it, the ramp begins anew.
    pub fn decay(&mut self, dt_s: f64) -> PerJoint {
        let dt = if dt_s.is_finite() { dt_s.max(0.0) } else { 0.0 };
        if self.decayed_s.is_none() {
            self.decay_from = self.last;
        }
        let decayed = self.decayed_s.unwrap_or(0.0) + dt;
        self.decayed_s = Some(decayed);
        self.ramped_s = 0.0;
        let left = (1.0 - decayed / self.decay_s).max(0.0);
        for joint in 0..self.joints {
            self.last[joint] = self.towards(joint, left * self.decay_from[joint], dt);
        }
        self.last
    }

    /// Whether nothing is left to decay.
    pub fn is_zero(&self) -> bool {
        self.last.iter().all(|&tau| tau == 0.0)
    }

    /// Forgets stamps, ramp and torque: zero goes out next. For the start of another recording; live, a jump to zero
    /// would break the rate limit.
    pub fn reset(&mut self) {
        self.last = [0.0; MAX_JOINTS];
        self.last_stamp_ns = None;
        self.ramped_s = 0.0;
        self.decayed_s = None;
    }

    fn towards(&self, joint: usize, target: f64, dt: f64) -> f64 {
        let (last, step) = (self.last[joint], self.rate * dt);
        if (target - last).abs() <= step { target } else { last + step.copysign(target - last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(change: impl FnOnce(&mut Config)) -> Limits {
        let mut config = Config { limit_effort: vec![100.0, 50.0], ..Config::default() };
        change(&mut config);
        Limits::new(&config, 2, &[]).unwrap()
    }

    fn both(tau: f64) -> PerJoint {
        let mut wanted = [0.0; MAX_JOINTS];
        wanted[..2].fill(tau);
        wanted
    }

    const MS: i64 = 1_000_000;

    #[test]
    fn it_ramps_from_zero_to_the_wanted_torque_over_the_ramp() {
        let mut limits = limits(|_| ());
        assert_eq!(limits.apply(0, &both(10.0)), both(0.0));
        for ms in 1..=500 {
            limits.apply(ms * MS, &both(10.0));
        }
        assert!((limits.last()[0] - 5.0).abs() < 1e-9, "{:?}", limits.last());
        for ms in 501..=1001 {
            limits.apply(ms * MS, &both(10.0));
        }
        assert_eq!(*limits.last(), both(10.0));
    }

    #[test]
    fn magnitude_is_a_fraction_of_the_effort_limit_and_what_exceeds_it_is_counted() {
        let mut limits = limits(|c| (c.limit_ramp, c.limit_rate) = (0.0, 1e9));
        limits.apply(0, &both(0.0));
        let tau = limits.apply(MS, &both(-1000.0));
        assert_eq!(tau[..2], [-80.0, -40.0]);
        assert_eq!(limits.clipped(), 2);
        assert!(limits.is_bounded());
    }

    #[test]
    fn the_rate_counts_in_time_between_stamps_and_stamps_that_stand_still_hold() {
        let mut limits = limits(|c| c.limit_ramp = 0.0);
        limits.apply(0, &both(0.0));
        assert_eq!(limits.apply(MS, &both(30.0)), both(2.0));
        assert_eq!(limits.apply(MS, &both(30.0)), both(2.0));
        assert_eq!(limits.apply(0, &both(30.0)), both(2.0));
        assert_eq!(limits.apply(2 * MS, &both(30.0)), both(6.0));
    }

    #[test]
    fn a_joint_whose_torque_is_not_finite_decays_while_the_other_goes_on() {
        let mut limits = limits(|c| c.limit_ramp = 0.0);
        for ms in 0..100 {
            limits.apply(ms * MS, &both(10.0));
        }
        let mut broken = both(10.0);
        broken[0] = f64::NAN;
        let first = limits.apply(100 * MS, &broken);
        assert!(first[0] < 10.0 && first[0] > 8.9 && first[1] == 10.0, "{first:?}");
        for ms in 101..=200 {
            limits.apply(ms * MS, &broken);
        }
        assert_eq!(limits.last()[..2], [0.0, 10.0]);
        assert_eq!(limits.non_finite(), 101);
    }

    #[test]
    fn it_decays_to_zero_in_the_decay_time_and_ramps_in_again_afterwards() {
        let mut limits = limits(|_| ());
        for ms in 0..2000 {
            limits.apply(ms * MS, &both(10.0));
        }
        for _ in 0..50 {
            limits.decay(1e-3);
        }
        assert!((limits.last()[0] - 5.0).abs() < 1e-9);
        for _ in 0..51 {
            limits.decay(1e-3);
        }
        assert!(limits.is_zero());
        let tau = limits.apply(2200 * MS, &both(10.0));
        assert!(tau[0] <= 0.3, "it begins to ramp: {}", tau[0]);
    }

    #[test]
    fn disabled_it_goes_to_zero_and_enabled_again_it_ramps() {
        let mut limits = limits(|_| ());
        for ms in 0..2000 {
            limits.apply(ms * MS, &both(10.0));
        }
        limits.set_enabled(false);
        for ms in 2000..2006 {
            limits.apply(ms * MS, &both(10.0));
        }
        assert!(limits.is_zero());
        limits.set_enabled(true);
        assert!((limits.apply(2006 * MS, &both(10.0))[0] - 0.01).abs() < 1e-9);
    }

    #[test]
    fn effort_limits_that_do_not_fit_the_arm_are_an_error() {
        let config = Config { limit_effort: vec![1.0], ..Config::default() };
        let error = Limits::new(&config, 7, &[]).unwrap_err();
        assert_eq!(error, LimitsError::EffortCount { given: 1, joints: 7 });
        assert!(Limits::new(&Config::default(), 0, &[]).is_err());
        assert!(Limits::new(&Config::default(), 17, &[]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_in_what_goes_out_is_finite_within_magnitude_and_rate(
            calls in prop::collection::vec(
                (any::<bool>(), any::<i64>(), -3i64..30, prop::num::f64::ANY, prop::num::f64::ANY, any::<bool>()),
                1..200,
            ),
            wild in any::<bool>(),
            decay in 1e-4..1.0f64,
        ) {
            let mut limits = limits(|c| (c.limit_ramp, c.limit_decay) = (0.01, decay));
            let (mut stamp, mut before) = (0i64, [0.0; MAX_JOINTS]);
            for (silent, jump, ms, a, b, enabled) in calls {
                let mut wanted = [f64::NAN; MAX_JOINTS];
                (wanted[0], wanted[1]) = (a, b);
                let next = if wild { jump } else { stamp.saturating_add(ms * MS) };
                limits.set_enabled(enabled);
                let (tau, dt) = if silent {
                    (limits.decay(ms as f64 * 1e-3), ms.max(0) as f64 * 1e-3)
                } else {
                    let dt = next.saturating_sub(stamp) as f64 * 1e-9;
                    stamp = next;
                    (limits.apply(next, &wanted), dt.max(0.0))
                };
                for joint in 0..MAX_JOINTS {
                    prop_assert!(tau[joint].is_finite());
                    prop_assert!(tau[joint].abs() <= [80.0, 40.0].get(joint).copied().unwrap_or(0.0));
                    prop_assert!((tau[joint] - before[joint]).abs() <= 2000.0 * dt * (1.0 + 1e-9) + 1e-12);
                }
                before = tau;
            }
        }
    }
}
