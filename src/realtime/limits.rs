//! The limits: the last thing that happens to a torque before it may be commanded.
//!
//! Contract: called by the pinned thread for every sample; a few flops per joint, no allocation, no clock of its own.
//! [`Limits::apply`] is a pure function of its state, the stamps and the wanted torques, so that a replay repeats it bit
//! for bit; only [`Limits::decay`] follows the wall clock, and only the live loop calls it.
//!
//! Whatever comes in (NaN and infinities included), what goes out is finite, at most [`Limits::magnitude`] in size, and
//! differs from what went out before by at most `limits.rate` times the time step.
//!
//! **The time step** of a sample is the time between its stamp and the one before, but at most twice the usual spacing of
//! the stamps, and at most `limits.timeout`: one wild stamp at 1 kHz buys 2 ms of rate, not 20. The usual spacing is a
//! moving average over about eight samples, to which a longer spacing counts double the average at most. Arrival times
//! are left out of it on purpose: with them a torque would depend on the scheduling, and no replay could repeat it. So a
//! backlog that is served at once moves the torque as far as its stamps say, which is the time it really covers.
//!
//! **After a gap** (stamps further apart than `limits.timeout`, a decay, enabled again) the torque does not fall: it goes
//! over `limits.ramp` from the one that stands, *held*, to the wanted one, `held + (wanted - held) * gain`. At the start,
//! and after a decay to the end, held is zero, and that is the ramp from zero.

use crate::config::Config;
use crate::sample::{MAX_JOINTS, PerJoint};

/// What the spacing of the stamps is taken for at first, s.
const NOMINAL_SPACING_S: f64 = 1e-3;

/// Share of a new spacing in the moving average.
const SPACING_SHARE: f64 = 1.0 / 8.0;

/// The time step is at most this many times the usual spacing.
const STEP_BOUND: f64 = 2.0;

/// The most of `limits.decay` that one call of [`Limits::decay`] counts.
const DECAY_BOUND: f64 = 0.2;

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

/// What may change about the limits while they work: the parameters `limits.*`, but for the efforts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitSettings {
    /// `limits.torque`, a fraction of the effort limit.
    pub torque: f64,
    /// `limits.rate`, Nm/s.
    pub rate: f64,
    /// `limits.timeout`, s.
    pub timeout_s: f64,
    /// `limits.decay`, s.
    pub decay_s: f64,
    /// `limits.ramp`, s.
    pub ramp_s: f64,
}

impl LimitSettings {
    /// Those that `config` names.
    pub fn from_config(config: &Config) -> Self {
        LimitSettings {
            torque: config.limit_torque,
            rate: config.limit_rate,
            timeout_s: config.limit_timeout * 1e-3,
            decay_s: config.limit_decay,
            ramp_s: config.limit_ramp,
        }
    }
}

/// Finite, magnitude, rate, decay and ramp, with the state that they need.
#[derive(Clone, Debug)]
pub struct Limits {
    joints: usize,
    settings: LimitSettings,
    effort: PerJoint,
    magnitude: PerJoint,
    enabled: bool,
    last: PerJoint,
    last_stamp_ns: Option<i64>,
    /// The usual time between two stamps, s.
    spacing_s: f64,
    /// From where the present ramp goes, and the time since it began, s.
    held: PerJoint,
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
        let mut efforts = [f64::INFINITY; MAX_JOINTS];
        for (joint, known) in efforts.iter_mut().enumerate().take(joints) {
            let effort = config.limit_effort.get(joint).copied();
            let effort = effort.or_else(|| urdf_effort.get(joint).copied().filter(|&effort| effort > 0.0));
            if let Some(effort) = effort.filter(|effort| effort.is_finite()) {
                *known = effort;
            }
        }
        let settings = LimitSettings::from_config(config);
        Ok(Limits {
            joints,
            settings,
            magnitude: magnitudes(&efforts, settings.torque),
            effort: efforts,
            enabled: true,
            last: [0.0; MAX_JOINTS],
            last_stamp_ns: None,
            spacing_s: NOMINAL_SPACING_S,
            held: [0.0; MAX_JOINTS],
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

    /// Disabled, the torque goes to zero over `limits.ramp` and stays there, whatever gaps there are meanwhile; enabled
    /// again, it goes from where it is by then to the wanted one in the same way.
    pub fn set_enabled(&mut self, enabled: bool) {
        if enabled != self.enabled {
            self.begin_ramp();
        }
        self.enabled = enabled;
    }

    /// Other settings from the next sample on. A ramp goes on from the share that it has reached, a decay from what is
    /// left. A torque beyond a magnitude that has become smaller goes there as fast as the rate allows; towards a larger
    /// one it ramps.
    pub fn set(&mut self, settings: &LimitSettings) {
        self.ramped_s = self.gain() * settings.ramp_s;
        self.decayed_s = None;
        if settings.torque > self.settings.torque {
            self.begin_ramp();
        }
        self.settings = *settings;
        self.magnitude = magnitudes(&self.effort, settings.torque);
    }

    /// The torque that may go out for the one that is wanted, Nm, for a sample of this stamp.
    ///
    /// - The first sample gives zero: there is no time yet in which to leave it.
    /// - Stamps that do not advance hold the torque.
    /// - Stamps further apart than `limits.timeout` begin a ramp from the torque that is held to the wanted one: the input
    ///   was dead in between.
    /// - A joint whose wanted torque is not finite goes to zero from where it is, in `limits.decay` at the longest.
    pub fn apply(&mut self, stamp_ns: i64, wanted: &PerJoint) -> PerJoint {
        let elapsed_s = self.last_stamp_ns.map_or(0.0, |last| (stamp_ns.saturating_sub(last)) as f64 * 1e-9);
        self.last_stamp_ns = Some(stamp_ns);
        self.decayed_s = None;
        let LimitSettings { timeout_s, decay_s, ramp_s, .. } = self.settings;
        if elapsed_s > timeout_s && self.enabled {
            self.begin_ramp();
        }
        let dt = elapsed_s.clamp(0.0, timeout_s.min(STEP_BOUND * self.spacing_s));
        if dt > 0.0 {
            self.spacing_s += SPACING_SHARE * (dt - self.spacing_s);
        }
        self.ramped_s = (self.ramped_s + dt).min(ramp_s);
        let gain = self.gain();
        for (joint, &wanted) in wanted.iter().enumerate().take(self.joints) {
            let (limit, last) = (self.magnitude[joint], self.last[joint]);
            let target = if wanted.is_finite() {
                self.clipped += u64::from(wanted.abs() > limit);
                let wanted = if self.enabled { wanted.clamp(-limit, limit) } else { 0.0 };
                blend(self.held[joint], wanted, gain)
            } else {
                self.non_finite += 1;
                let step = self.effort[joint] / decay_s * dt;
                if step.is_finite() { last - last.clamp(-step, step) } else { 0.0 }
            };
            self.last[joint] = self.towards(joint, target, dt);
        }
        self.last
    }

    /// The torque when no sample has come for longer than `limits.timeout`: linearly from what went out last to zero in
    /// `limits.decay`. `dt_s` is the time since the last call of either kind (what exceeds the timeout, at the first
    /// call of a silence). One call counts a fifth of `limits.decay` at most: a thread that was kept from running has
    /// held the torque meanwhile, and must not make up for it in one step. The next sample begins a ramp from what is left.
    pub fn decay(&mut self, dt_s: f64) -> PerJoint {
        let decay_s = self.settings.decay_s;
        let dt = if dt_s.is_finite() { dt_s.clamp(0.0, DECAY_BOUND * decay_s) } else { 0.0 };
        if self.decayed_s.is_none() {
            self.decay_from = self.last;
        }
        let decayed = self.decayed_s.unwrap_or(0.0) + dt;
        self.decayed_s = Some(decayed);
        let left = (1.0 - decayed / decay_s).max(0.0);
        for joint in 0..self.joints {
            self.last[joint] = self.towards(joint, left * self.decay_from[joint], dt);
        }
        self.begin_ramp();
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
        self.spacing_s = NOMINAL_SPACING_S;
        self.decayed_s = None;
        self.begin_ramp();
    }

    /// How far the present ramp has come, from 0 to 1.
    fn gain(&self) -> f64 {
        let ramp_s = self.settings.ramp_s;
        if ramp_s > 0.0 { (self.ramped_s / ramp_s).min(1.0) } else { 1.0 }
    }

    /// The torque goes over `limits.ramp` from where it is to the wanted one: what is wanted comes from elsewhere now.
    pub(super) fn begin_ramp(&mut self) {
        self.held = self.last;
        self.ramped_s = 0.0;
    }

    fn towards(&self, joint: usize, target: f64, dt: f64) -> f64 {
        let (last, step) = (self.last[joint], self.settings.rate * dt);
        if (target - last).abs() <= step { target } else { last + step.copysign(target - last) }
    }
}

/// What each joint is given at most: this fraction of its effort limit.
fn magnitudes(effort: &PerJoint, torque: f64) -> PerJoint {
    effort.map(|effort| if effort.is_finite() { torque * effort } else { f64::INFINITY })
}

/// `from + (to - from) * gain`, never outside of the two, whatever the rounding, and without overflow.
fn blend(from: f64, to: f64, gain: f64) -> f64 {
    (from * (1.0 - gain) + to * gain).clamp(from.min(to), from.max(to))
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

    /// 2 s of a constant wanted torque at 1 kHz; the stamp that follows, ms.
    fn settle(limits: &mut Limits, tau: f64) -> i64 {
        for ms in 0..2000 {
            limits.apply(ms * MS, &both(tau));
        }
        assert_eq!(*limits.last(), both(tau));
        2000
    }

    #[test]
    fn after_a_gap_it_goes_from_the_torque_that_is_held_to_the_wanted_one_over_the_ramp() {
        let mut limits = limits(|_| ());
        let next = settle(&mut limits, 30.0) + 50;
        let mut before = 30.0;
        for ms in 0..1100 {
            let tau = limits.apply((next + ms) * MS, &both(-10.0))[0];
            assert!(before - tau <= 0.0801, "no faster than the ramp: {before} to {tau}");
            let straight = 30.0 - 0.04 * ms as f64;
            assert!((tau - straight.max(-10.0)).abs() < 0.1, "{ms} ms: {tau}");
            before = tau;
        }
        assert_eq!(before, -10.0);
    }

    #[test]
    fn after_a_decay_it_goes_on_from_what_was_left() {
        let mut limits = limits(|_| ());
        let next = settle(&mut limits, 30.0);
        for _ in 0..10 {
            limits.decay(1e-3);
        }
        let left = limits.last()[0];
        assert!((left - 27.0).abs() < 1e-9, "{left}");
        let tau = limits.apply((next + 30) * MS, &both(30.0))[0];
        assert!((left..=left + 0.01).contains(&tau), "{tau}");
        for ms in 31..=531 {
            limits.apply((next + ms) * MS, &both(30.0));
        }
        assert!((limits.last()[0] - 28.5).abs() < 0.01, "half of the way back: {:?}", limits.last());
    }

    #[test]
    fn a_decay_that_comes_late_does_not_make_up_for_it_in_one_step() {
        let mut limits = limits(|_| ());
        settle(&mut limits, 30.0);
        assert!((limits.decay(0.5)[0] - 24.0).abs() < 1e-9, "a fifth");
        assert!((limits.decay(1e-3)[0] - 23.7).abs() < 1e-9, "then as usual");
    }

    #[test]
    fn one_wild_stamp_buys_twice_the_usual_spacing() {
        let mut limits = limits(|c| c.limit_ramp = 0.0);
        let next = settle(&mut limits, 30.0);
        let tau = limits.apply((next + 100_000) * MS, &both(-30.0));
        assert!((tau[0] - 26.0).abs() < 1e-6, "2 ms at 2000 Nm/s: {tau:?}");
    }

    #[test]
    fn a_slower_input_gets_its_own_spacing_after_a_few_samples() {
        let mut limits = limits(|c| c.limit_ramp = 0.0);
        for k in 0..30 {
            limits.apply(10 * k * MS, &both(0.0));
        }
        let tau = limits.apply(300 * MS, &both(80.0));
        assert!((tau[0] - 20.0).abs() < 1e-9, "10 ms at 2000 Nm/s: {tau:?}");
    }

    #[test]
    fn disabled_it_goes_to_zero_and_enabled_again_it_ramps() {
        let mut limits = limits(|_| ());
        for ms in 0..2000 {
            limits.apply(ms * MS, &both(10.0));
        }
        limits.set_enabled(false);
        limits.set_enabled(false);
        for ms in 2000..2500 {
            limits.apply(ms * MS, &both(10.0));
        }
        assert!((limits.last()[0] - 5.0).abs() < 1e-9, "half the ramp: {:?}", limits.last());
        for ms in 2500..3000 {
            limits.apply(ms * MS, &both(10.0));
        }
        assert!(limits.is_zero());
        assert_eq!(limits.apply(3000 * MS, &both(10.0)), both(0.0));
        limits.set_enabled(true);
        assert!((limits.apply(3001 * MS, &both(10.0))[0] - 0.01).abs() < 1e-9);
    }

    #[test]
    fn other_settings_count_from_the_next_sample() {
        let mut limits = limits(|c| c.limit_ramp = 0.0);
        for ms in 0..100 {
            limits.apply(ms * MS, &both(30.0));
        }
        assert_eq!(*limits.last(), both(30.0));
        let settings = LimitSettings { torque: 0.2, rate: 1000.0, ..limits.settings };
        limits.set(&settings);
        assert_eq!(limits.magnitude()[..2], [20.0, 10.0]);
        assert_eq!(limits.apply(100 * MS, &both(30.0)), both(29.0), "as fast as the new rate allows");
        for ms in 101..200 {
            limits.apply(ms * MS, &both(30.0));
        }
        assert_eq!(limits.last()[..2], [20.0, 10.0]);
    }

    #[test]
    fn effort_limits_that_do_not_fit_the_arm_are_an_error() {
        let config = Config { limit_effort: vec![1.0], ..Config::default() };
        let error = Limits::new(&config, 7, &[]).unwrap_err();
        assert_eq!(error, LimitsError::EffortCount { given: 1, joints: 7 });
        assert!(Limits::new(&Config::default(), 0, &[]).is_err());
        assert!(Limits::new(&Config::default(), 17, &[]).is_err());
    }

    #[test]
    fn another_ramp_or_decay_moves_no_torque() {
        let mut limits = limits(|_| ());
        let ramp = |ramp_s| LimitSettings { ramp_s, ..LimitSettings::from_config(&Config::default()) };
        for ms in 0..500 {
            limits.apply(ms * MS, &both(30.0));
        }
        for (k, ramp_s) in [10.0, 0.1, 1.0, 0.01].into_iter().enumerate() {
            let before = limits.last()[0];
            limits.set(&ramp(ramp_s));
            let after = limits.apply((500 + k as i64) * MS, &both(30.0))[0];
            assert!(after >= before && after - before <= 2.0, "{before} {after}");
        }
        for ms in 504..2000 {
            limits.apply(ms * MS, &both(30.0));
        }
        for (k, ramp_s) in [10.0, 0.0, 1.0].into_iter().enumerate() {
            limits.set(&ramp(ramp_s));
            assert_eq!(limits.apply((2000 + k as i64) * MS, &both(30.0)), both(30.0));
        }
        limits.decay(0.05);
        let left = limits.last()[0];
        limits.set(&LimitSettings { decay_s: 10.0, ..ramp(1.0) });
        assert!(limits.decay(1e-3)[0] <= left);
    }

    #[test]
    fn disabled_it_gets_to_zero_through_gaps_and_by_a_broken_model() {
        let mut limits = limits(|c| c.limit_torque = 0.5);
        for ms in 0..2000 {
            limits.apply(ms * MS, &both(20.0));
        }
        limits.set_enabled(false);
        for k in 1..=200 {
            limits.apply((2000 + 50 * k) * MS, &both(20.0));
        }
        assert!(limits.is_zero(), "{:?}", limits.last());
        limits.set_enabled(true);
        for ms in 0..2000 {
            limits.apply((20_000 + ms) * MS, &both(20.0));
        }
        limits.set(&LimitSettings { torque: 0.0, rate: 1.0, ..limits.settings });
        for ms in 0..40_000 {
            limits.apply((22_000 + ms) * MS, &both(f64::NAN));
        }
        assert!(limits.is_zero(), "{:?}", limits.last());
    }

    /// What a robot's input and the live loop may do to the limits.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// A sample, this much after the last stamp, ns.
        Sample(i64, f64, f64),
        /// This many samples of 1 ms.
        Burst(u8, f64, f64),
        /// A silence that decays for this long, s.
        Decay(f64),
        Enable(bool),
        /// Another ramp, s.
        Ramp(f64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let torque = || prop_oneof![4 => -100.0..100.0f64, 1 => prop::num::f64::ANY];
        let apart = prop_oneof![6 => Just(MS), 2 => -3 * MS..100 * MS, 1 => any::<i64>()];
        prop_oneof![
            8 => (apart, torque(), torque()).prop_map(|(ns, a, b)| Event::Sample(ns, a, b)),
            1 => (1..40u8, torque(), torque()).prop_map(|(n, a, b)| Event::Burst(n, a, b)),
            2 => prop_oneof![9 => 0.0..0.3f64, 1 => prop::num::f64::ANY].prop_map(Event::Decay),
            1 => any::<bool>().prop_map(Event::Enable),
            1 => (0.0..1.0f64).prop_map(Event::Ramp),
        ]
    }

    const RATE: f64 = 2000.0;

    fn within(tau: &PerJoint, before: &PerJoint, dt: f64, magnitude: [f64; 2]) -> Result<(), TestCaseError> {
        for joint in 0..MAX_JOINTS {
            prop_assert!(tau[joint].is_finite());
            prop_assert!(tau[joint].abs() <= magnitude.get(joint).copied().unwrap_or(0.0));
            // Half an ulp of the torque that the step is added to is lost to rounding.
            let rounding = 1e-15 * before[joint].abs().max(tau[joint].abs());
            prop_assert!((tau[joint] - before[joint]).abs() <= RATE * dt * (1.0 + 1e-9) + rounding);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn whatever_comes_in_what_goes_out_is_finite_within_magnitude_and_rate(
            events in prop::collection::vec(event(), 1..200),
            decay in 1e-4..1.0f64,
            ramp in prop_oneof![Just(0.0), 1e-3..1.0f64],
            bounded in any::<bool>(),
        ) {
            let mut limits = limits(|c| (c.limit_ramp, c.limit_decay) = (ramp, decay));
            if !bounded {
                limits.magnitude = [f64::INFINITY; MAX_JOINTS];
            }
            let magnitude = if bounded { [80.0, 40.0] } else { [f64::INFINITY; 2] };
            let (mut stamp, mut usual, mut before) = (0i64, 1e-3f64, [0.0; MAX_JOINTS]);
            limits.apply(stamp, &both(0.0));
            for event in events {
                let (count, ns, a, b) = match event {
                    Event::Sample(ns, a, b) => (1, ns, a, b),
                    Event::Burst(count, a, b) => (count, MS, a, b),
                    Event::Decay(dt) => {
                        let tau = limits.decay(dt);
                        let dt = if dt.is_finite() { dt.clamp(0.0, 0.2 * decay) } else { 0.0 };
                        within(&tau, &before, dt, magnitude)?;
                        for joint in 0..2 {
                            prop_assert!(tau[joint].abs() <= before[joint].abs(), "a decay goes to zero");
                        }
                        before = tau;
                        continue;
                    }
                    Event::Enable(enabled) => {
                        limits.set_enabled(enabled);
                        continue;
                    }
                    Event::Ramp(ramp_s) => {
                        let magnitude = limits.magnitude;
                        limits.set(&LimitSettings { ramp_s, ..limits.settings });
                        limits.magnitude = magnitude;
                        continue;
                    }
                };
                for _ in 0..count {
                    let next = stamp.saturating_add(ns);
                    let dt = (next.saturating_sub(stamp) as f64 * 1e-9).clamp(0.0, 0.02f64.min(2.0 * usual));
                    if dt > 0.0 {
                        usual += (dt - usual) / 8.0;
                    }
                    stamp = next;
                    let mut wanted = [f64::NAN; MAX_JOINTS];
                    (wanted[0], wanted[1]) = (a, b);
                    let tau = limits.apply(stamp, &wanted);
                    within(&tau, &before, dt, magnitude)?;
                    before = tau;
                }
            }
        }

        #[test]
        fn a_gap_with_a_constant_wanted_torque_loses_no_more_than_the_decay_took(
            tau in -39.0..39.0f64,
            decays in prop::collection::vec(0.0..5e-3f64, 0..20),
            backlog in any::<bool>(),
        ) {
            let mut limits = limits(|_| ());
            let next = settle(&mut limits, tau);
            let mut spent = 0.0;
            for dt in decays {
                // 30 ms of silence: the loop decays for the 10 ms that exceed the timeout.
                let dt = dt.min(0.01 - spent);
                spent += dt;
                limits.decay(dt);
            }
            let held = limits.last()[0].abs();
            prop_assert!(held >= 0.9 * tau.abs() - 1e-9);
            // Either the samples of the gap are lost, or they come all at once.
            let mut before = held;
            for ms in if backlog { 1..1200 } else { 30..1230 } {
                let out = limits.apply((next + ms) * MS, &both(tau))[0];
                prop_assert!(out * tau >= 0.0 && (before..=tau.abs()).contains(&out.abs()), "{before}, {out}");
                before = out.abs();
            }
            prop_assert_eq!(before, tau.abs(), "and it comes back");
        }

        #[test]
        fn one_wild_stamp_never_steps_more_than_twice_the_usual_spacing(
            ahead in any::<i64>(), spacing_us in 100..5000i64, tau in -80.0..80.0f64, wanted in prop::num::f64::ANY,
        ) {
            let mut limits = limits(|c| c.limit_ramp = 0.0);
            let mut stamp = 0;
            for _ in 0..300 {
                stamp += spacing_us * 1000;
                limits.apply(stamp, &both(tau));
            }
            let before = *limits.last();
            let tau = limits.apply(stamp.saturating_add(ahead), &both(wanted));
            let usual = spacing_us as f64 * 1e-6;
            prop_assert!((tau[0] - before[0]).abs() <= RATE * 2.0 * usual * (1.0 + 1e-6), "{:?} {:?}", before, tau);
        }
    }
}
