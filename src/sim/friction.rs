//! Joint friction: viscous, Coulomb and Stribeck, smooth through zero velocity.
//!
//! Contract: called within every integration step; pure arithmetic, no allocation.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::sample::{MAX_JOINTS, PerJoint};

/// Velocity over which Coulomb friction turns around, rad/s.
const TURN_VELOCITY: f64 = 0.02;
/// Velocity at which the Stribeck part has fallen to 1/e, rad/s.
const STRIBECK_VELOCITY: f64 = 0.1;

/// Friction of every joint, opposing its motion:
/// `f(v) = (coulomb + stribeck * exp(-(v / 0.1)^2)) * tanh(v / 0.02) + viscous * v`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Friction {
    /// Nm.
    pub coulomb: PerJoint,
    /// What breaking away takes beyond `coulomb`, Nm.
    pub stribeck: PerJoint,
    /// Nm s/rad.
    pub viscous: PerJoint,
}

impl Friction {
    /// Friction in proportion to each joint's effort limit: Coulomb 0.5 %, Stribeck 0.3 %, viscous 0.2 % per rad/s, each
    /// varied by up to 30 %. For an LWR that is the size of what was identified on recordings of a real one (Coulomb
    /// 0.1..1.0 Nm, viscous 0..0.4 Nm s/rad).
    pub(crate) fn typical(efforts: &[f64], rng: &mut ChaCha8Rng) -> Friction {
        let mut friction = Friction::default();
        for (joint, effort) in efforts.iter().enumerate().take(MAX_JOINTS) {
            let mut vary = |fraction: f64| effort * fraction * rng.random_range(0.7..1.3);
            friction.coulomb[joint] = vary(0.005);
            friction.stribeck[joint] = vary(0.003);
            friction.viscous[joint] = vary(0.002);
        }
        friction
    }

    /// The torque that friction takes from `joint` at velocity `qd` (rad/s), Nm; it has the sign of `qd`.
    pub fn torque(&self, joint: usize, qd: f64) -> f64 {
        self.secant(joint, qd) * qd
    }

    /// `torque / qd`, Nm s/rad: never negative and finite at rest. An integrator that takes friction as this much viscous
    /// damping, implicitly, can neither overshoot standstill nor create energy, however large the step.
    pub(crate) fn secant(&self, joint: usize, qd: f64) -> f64 {
        let x = qd / TURN_VELOCITY;
        let tanh_over_v = if x.abs() < 1e-6 { 1.0 / TURN_VELOCITY } else { x.tanh() / qd };
        let breakaway = self.stribeck[joint] * (-(qd / STRIBECK_VELOCITY).powi(2)).exp();
        (self.coulomb[joint] + breakaway) * tanh_over_v + self.viscous[joint]
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn lwr() -> Friction {
        Friction::typical(&[176.0, 38.0], &mut ChaCha8Rng::seed_from_u64(3))
    }

    #[test]
    fn friction_opposes_the_motion_and_vanishes_at_rest() {
        let friction = lwr();
        assert_eq!(friction.torque(0, 0.0), 0.0);
        for v in [1e-9, 1e-3, 0.05, 2.0] {
            assert!(friction.torque(0, v) > 0.0);
            assert_eq!(friction.torque(0, -v), -friction.torque(0, v));
        }
    }

    #[test]
    fn breaking_away_takes_more_than_slow_sliding_and_fast_sliding_pays_for_viscosity() {
        let friction = lwr();
        assert!(friction.torque(0, 0.05) > friction.torque(0, 0.3));
        let sliding = friction.coulomb[0] + 2.0 * friction.viscous[0];
        assert!((friction.torque(0, 2.0) - sliding).abs() < 1e-9);
    }

    #[test]
    fn joints_scale_with_their_effort_limits() {
        let friction = lwr();
        assert!((0.6..1.2).contains(&friction.coulomb[0]), "{}", friction.coulomb[0]);
        assert!((0.1..0.3).contains(&friction.coulomb[1]), "{}", friction.coulomb[1]);
        assert_eq!(friction.coulomb[2], 0.0);
    }
}
