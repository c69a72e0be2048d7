//! The robot's inner joint controller, and the feed-forward that it receives from outside.
//!
//! Contract: called once per control cycle by [`Session`](super::Session); pure arithmetic, no allocation after
//! construction, never an error: what is not finite is refused, what is old fades out.

use crate::dynamics::Arm;
use crate::sample::{Motion, PerJoint};

use super::arm::effort_limit;

/// Stiffness per Nm of effort limit, 1/rad: 880 Nm/rad in an LWR's shoulder, 190 Nm/rad in its wrist, amid what its joint
/// impedance mode offers (0 to 2000 Nm/rad).
const STIFFNESS: f64 = 5.0;
/// Damping ratio; the LWR's own default.
const DAMPING_RATIO: f64 = 0.7;
/// A received feed-forward older than this is no longer added, s.
const STALE: f64 = 0.05;
/// Time over which it fades out when it grows stale, and in when it comes back, s.
const FADE: f64 = 0.05;

/// Joint impedance: `K (q_ref - q) + D (qd_ref - qd) + feed-forward`, bounded by the effort limits.
///
/// `K = 5 / rad` times the joint's effort limit, `D = 2 * 0.7 * sqrt(K M_jj)` with the mass matrix in a typical posture. It
/// has no model of gravity: what the feed-forward does not bring, the position error must.
#[derive(Clone, Debug)]
pub struct Controller {
    joints: usize,
    stiffness: PerJoint,
    damping: PerJoint,
    effort: PerJoint,
}

impl Controller {
    /// Gains for `arm`, damped for the inertia it has in `posture` (rad).
    pub fn new(arm: &Arm, posture: &PerJoint) -> Controller {
        let mass = arm.mass_matrix(posture);
        let mut controller = Controller {
            joints: arm.len(),
            stiffness: PerJoint::default(),
            damping: PerJoint::default(),
            effort: PerJoint::default(),
        };
        for (joint, row) in mass[..arm.len()].iter().enumerate() {
            let effort = effort_limit(arm, joint);
            let stiffness = STIFFNESS * effort;
            controller.effort[joint] = effort;
            controller.stiffness[joint] = stiffness;
            controller.damping[joint] = 2.0 * DAMPING_RATIO * (stiffness * row[joint].max(0.0)).sqrt();
        }
        controller
    }

    /// Stiffness, Nm/rad.
    pub fn stiffness(&self) -> &PerJoint {
        &self.stiffness
    }

    /// Damping, Nm s/rad.
    pub fn damping(&self) -> &PerJoint {
        &self.damping
    }

    /// The commanded torque, Nm, for the measured `q` (rad) and `qd` (rad/s).
    pub fn torque(
        &self,
        reference: &Motion,
        q: &PerJoint,
        qd: &PerJoint,
        feedforward: &PerJoint,
    ) -> PerJoint {
        let mut torque = PerJoint::default();
        for j in 0..self.joints {
            let feedback =
                self.stiffness[j] * (reference.q[j] - q[j]) + self.damping[j] * (reference.qd[j] - qd[j]);
            torque[j] = (feedback + feedforward[j]).clamp(-self.effort[j], self.effort[j]);
        }
        torque
    }
}

/// The newest feed-forward received from outside and how much of it is to be trusted: all of it while it is fresh,
/// fading to nothing over 50 ms once it is older than 50 ms.
#[derive(Clone, Debug)]
pub struct Received {
    joints: usize,
    newest: PerJoint,
    age: f64,
    trust: f64,
}

impl Received {
    /// Nothing received yet, by an arm of so many joints.
    pub fn new(joints: usize) -> Received {
        Received { joints, newest: PerJoint::default(), age: f64::INFINITY, trust: 0.0 }
    }

    /// Takes in a feed-forward, Nm; `false`, and nothing is changed, if it is not finite.
    pub fn receive(&mut self, feedforward: &PerJoint) -> bool {
        let finite = feedforward[..self.joints].iter().all(|torque| torque.is_finite());
        if finite {
            self.newest = *feedforward;
            self.age = 0.0;
        }
        finite
    }

    /// The newest finite one, Nm, however old.
    pub fn newest(&self) -> &PerJoint {
        &self.newest
    }

    /// Whether the newest one is older than 50 ms, or there is none.
    pub fn is_stale(&self) -> bool {
        self.age > STALE
    }

    /// What may be added in the next cycle of `dt` seconds, Nm.
    pub fn next(&mut self, dt: f64) -> PerJoint {
        let step = dt / FADE;
        self.trust = (self.trust + if self.is_stale() { -step } else { step }).clamp(0.0, 1.0);
        self.age += dt;
        self.newest.map(|torque| torque * self.trust)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(torque: f64) -> PerJoint {
        let mut all = PerJoint::default();
        all[0] = torque;
        all
    }

    #[test]
    fn a_fresh_feedforward_fades_in_is_held_for_50_ms_and_fades_out() {
        let mut received = Received::new(1);
        assert_eq!(received.next(1e-3)[0], 0.0);
        assert!(received.receive(&one(10.0)));
        let course: Vec<f64> = (0..150).map(|_| received.next(1e-3)[0]).collect();
        assert!((course[0] - 0.2).abs() < 1e-12, "fades in over 50 ms: {}", course[0]);
        assert!((course[49] - 10.0).abs() < 1e-9);
        assert!(course[60] < 10.0 && course[60] > 0.0, "fades out: {}", course[60]);
        assert_eq!(course[110], 0.0);
        assert!(received.is_stale());
    }

    #[test]
    fn what_is_not_finite_is_refused_and_does_not_count_as_fresh() {
        let mut received = Received::new(1);
        for _ in 0..50 {
            assert!(received.receive(&one(4.0)));
            received.next(1e-3);
        }
        for _ in 0..120 {
            assert!(!received.receive(&one(f64::NAN)));
            assert!(!received.receive(&one(f64::INFINITY)));
            assert!((0.0..=4.0).contains(&received.next(1e-3)[0]));
        }
        assert_eq!(received.next(1e-3)[0], 0.0);
    }

    #[test]
    fn joints_that_the_arm_does_not_have_are_not_looked_at() {
        let mut received = Received::new(1);
        let mut torque = one(1.0);
        torque[5] = f64::NAN;
        assert!(received.receive(&torque));
    }
}
