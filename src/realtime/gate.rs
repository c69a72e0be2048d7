//! The gate: the rigid body alone, while a joint's learner does worse than it.
//!
//! Contract: called by the pinned thread once per joint and batch; a few flops, no allocation.
//!
//! Per joint, the mean squared errors of the newest batch *before* it was learnt from run as `L = 0.9 L + 0.1 mse`, for
//! the learner's whole prediction and for the rigid body alone (zero torque, where there is no URDF: the gate then asks
//! whether the learner is better than no feed-forward at all). The gate shuts when
//! `L > ratio * L_rigid + offset`; beyond `restore * L_rigid + offset` the last good network is put back. A joint's gate
//! is shut until its first batch was scored. The offset is in Nm² for all joints alike and zero by default: the rigid
//! body's own error is the measure of what is much for a joint. With `gate.enabled: false` it is always open and nothing is ever restored.

use crate::config::Config;
use crate::sample::{MAX_JOINTS, PerJoint};

/// Weight of the newest batch in the running errors.
const NEWEST: f64 = 0.1;

/// Batches without a further restore after one: a rollback at every batch would never learn a changed payload.
const COOL_DOWN: u32 = 50;

/// A good network is kept at most this often, in batches.
const SNAPSHOT_EVERY: u32 = 10;

/// What may change about the gates while they work: the parameters `gate.*`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateSettings {
    /// `gate.enabled`.
    pub enabled: bool,
    /// `gate.ratio`.
    pub ratio: f64,
    /// `gate.offset`, Nm².
    pub offset: f64,
    /// `gate.restore`.
    pub restore: f64,
}

impl GateSettings {
    /// Those that `config` names.
    pub fn from_config(config: &Config) -> Self {
        GateSettings {
            enabled: config.gate,
            ratio: config.gate_ratio,
            offset: config.gate_offset,
            restore: config.gate_restore,
        }
    }
}

/// What a joint's newest score asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// This network is good: keep a copy.
    Snapshot,
    /// This network went astray: put the kept copy back.
    Restore,
}

/// One joint's running errors.
#[derive(Clone, Copy, Debug, Default)]
struct JointGate {
    learner: f64,
    rigid_body: f64,
    scored: bool,
    open: bool,
    has_snapshot: bool,
    since_snapshot: u32,
    cool_down: u32,
}

/// The arm's gates, one per joint.
#[derive(Clone, Debug)]
pub struct Gate {
    settings: GateSettings,
    joints: [JointGate; MAX_JOINTS],
}

impl Gate {
    /// Gates that are all shut, unless the configuration switches them off.
    pub fn new(config: &Config) -> Self {
        let settings = GateSettings::from_config(config);
        let mut gate = Gate { settings, joints: [JointGate::default(); MAX_JOINTS] };
        gate.reset();
        gate
    }

    /// As at the start: nothing scored, no network kept.
    pub fn reset(&mut self) {
        let open = !self.settings.enabled;
        for (joint, gate) in self.joints.iter_mut().enumerate() {
            // Staggered, so that one batch copies at most a few networks.
            let since_snapshot = joint as u32 % SNAPSHOT_EVERY;
            *gate = JointGate { open, since_snapshot, ..JointGate::default() };
        }
    }

    /// Whether it is switched on.
    pub fn is_enabled(&self) -> bool {
        self.settings.enabled
    }

    /// Other settings from the next score on. Switched off, the gates open at once; switched on, they stay as they are
    /// until their next score.
    pub fn set(&mut self, settings: &GateSettings) {
        self.settings = *settings;
        if !settings.enabled {
            self.joints.iter_mut().for_each(|gate| gate.open = true);
        }
    }

    /// Whether the learner's prediction goes out.
    pub fn is_open(&self, joint: usize) -> bool {
        self.joints[joint].open
    }

    /// Whether the joint's running errors rest on any batch (since the last good network was put back, if it was).
    pub fn is_scored(&self, joint: usize) -> bool {
        self.joints[joint].scored
    }

    /// The running squared error of the learner, Nm².
    pub fn learner_error(&self) -> PerJoint {
        std::array::from_fn(|joint| self.joints[joint].learner)
    }

    /// The running squared error of the rigid body alone, Nm².
    pub fn rigid_body_error(&self) -> PerJoint {
        std::array::from_fn(|joint| self.joints[joint].rigid_body)
    }

    /// Takes in the mean squared errors of one batch, Nm², and says what to do with the joint's network.
    ///
    /// A non-finite learner's error shuts the gate at once and asks for the good network, cool-down or not; a
    /// non-finite error of the rigid body (the data's fault, not the learner's) leaves everything as it is.
    pub fn update(&mut self, joint: usize, learner_mse: f64, rigid_body_mse: f64) -> Action {
        let GateSettings { enabled, ratio, offset, restore } = self.settings;
        let gate = &mut self.joints[joint];
        if !rigid_body_mse.is_finite() {
            return Action::Keep;
        }
        let broken = !learner_mse.is_finite();
        let running = |old: f64, new: f64| if gate.scored { old + NEWEST * (new - old) } else { new };
        gate.rigid_body = running(gate.rigid_body, rigid_body_mse);
        if broken {
            if !enabled {
                return Action::Keep;
            }
            return gate.start_anew();
        }
        gate.learner = running(gate.learner, learner_mse);
        gate.scored = true;
        if !enabled {
            return Action::Keep;
        }
        gate.open = gate.learner <= ratio * gate.rigid_body + offset;
        gate.cool_down = gate.cool_down.saturating_sub(1);
        gate.since_snapshot = gate.since_snapshot.saturating_add(1);
        if gate.learner > restore * gate.rigid_body + offset && gate.has_snapshot && gate.cool_down == 0 {
            return gate.start_anew();
        }
        if gate.open && gate.learner <= gate.rigid_body && gate.since_snapshot >= SNAPSHOT_EVERY {
            gate.since_snapshot = 0;
            gate.has_snapshot = true;
            return Action::Snapshot;
        }
        Action::Keep
    }
}

impl JointGate {
    /// Shut, with errors that count from the next batch on.
    fn start_anew(&mut self) -> Action {
        self.open = false;
        self.scored = false;
        self.learner = 0.0;
        self.cool_down = COOL_DOWN;
        if self.has_snapshot { Action::Restore } else { Action::Keep }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(&Config::default())
    }

    #[test]
    fn it_can_be_switched_off_and_on_and_forgets_when_told() {
        let mut gate = gate();
        let on = GateSettings::from_config(&Config::default());
        gate.set(&GateSettings { enabled: false, ..on });
        assert!(gate.is_open(0));
        gate.set(&on);
        assert!(gate.is_open(0), "until its next score");
        gate.update(0, 100.0, 1.0);
        assert!(!gate.is_open(0));
        gate.set(&GateSettings { ratio: 1000.0, restore: 1000.0, ..on });
        gate.update(0, 100.0, 1.0);
        assert!(gate.is_open(0));
        gate.reset();
        assert!(!gate.is_open(0) && gate.learner_error()[0] == 0.0);
    }

    #[test]
    fn it_is_shut_until_scored_opens_on_a_good_batch_and_shuts_on_bad_ones() {
        let mut gate = gate();
        assert!(!gate.is_open(0));
        gate.update(0, 0.1, 1.0);
        assert!(gate.is_open(0));
        assert!(!gate.is_open(1));
        for _ in 0..50 {
            gate.update(0, 3.0, 1.0);
        }
        assert!(!gate.is_open(0), "3 > 1.5 * 1");
        for _ in 0..50 {
            gate.update(0, 1.4, 1.0);
        }
        assert!(gate.is_open(0));
    }

    #[test]
    fn a_wrists_gate_shuts_as_readily_as_a_shoulders() {
        let mut gate = gate();
        for (joint, rigid_body_mse) in [40.0, 0.04].into_iter().enumerate() {
            gate.update(joint, rigid_body_mse, rigid_body_mse);
            assert!(gate.is_open(joint));
            (0..50).for_each(|_| _ = gate.update(joint, 2.0 * rigid_body_mse, rigid_body_mse));
            assert!(!gate.is_open(joint), "{rigid_body_mse} Nm²");
        }
    }

    #[test]
    fn the_running_error_forgets_a_tenth_per_batch() {
        let mut gate = gate();
        gate.update(0, 1.0, 2.0);
        gate.update(0, 2.0, 2.0);
        assert!((gate.learner_error()[0] - 1.1).abs() < 1e-15);
        assert_eq!(gate.rigid_body_error()[0], 2.0);
    }

    #[test]
    fn a_good_network_is_kept_and_put_back_once_when_it_goes_astray() {
        let mut gate = gate();
        let kept = (0..20).filter(|_| gate.update(0, 0.1, 1.0) == Action::Snapshot).count();
        assert!((1..=2).contains(&kept), "{kept}");
        let restored = (0..40).filter(|_| gate.update(0, 100.0, 1.0) == Action::Restore).count();
        assert_eq!(restored, 1, "one restore, then the cool-down");
        assert!(!gate.is_open(0));
    }

    #[test]
    fn without_a_good_network_there_is_nothing_to_restore() {
        let mut gate = gate();
        assert!((0..99).all(|_| gate.update(0, 100.0, 1.0) == Action::Keep));
    }

    #[test]
    fn non_finite_errors_shut_it_and_it_recovers() {
        let mut gate = gate();
        gate.update(0, 0.1, 1.0);
        gate.update(0, f64::NAN, 1.0);
        assert!(!gate.is_open(0));
        gate.update(0, 0.1, f64::INFINITY);
        assert!(!gate.is_open(0));
        gate.update(0, 0.1, 1.0);
        assert!(gate.is_open(0));
    }

    #[test]
    fn switched_off_it_is_always_open() {
        let mut gate = Gate::new(&Config::preset("paper"));
        assert!((0..99).all(|_| gate.update(3, f64::NAN, 1.0) == Action::Keep));
        gate.update(3, 1e9, 1.0);
        assert!(gate.is_open(3));
    }
}
