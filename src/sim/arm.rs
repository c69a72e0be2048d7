//! The arm as it truly is: not quite the nominal one, with friction, torque ripple, joint stops and noisy sensors.
//!
//! Contract: one owner, one thread; [`SimArm::step`] does not allocate and fails only by [`SimError::Diverged`].

use std::fmt;

use nalgebra::Vector3;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::dynamics::Arm;
use crate::sample::{MAX_JOINTS, Motion, PerJoint};

use super::{Friction, SimError};

/// Masses differ from the nominal ones by up to this fraction.
const MASS_MISMATCH: f64 = 0.12;
/// Centres of mass differ by up to this in each direction, m.
const COM_MISMATCH: f64 = 0.012;
/// Motor turns per joint turn, which is the torque ripple's number of waves per turn.
const GEAR_RATIO: f64 = 160.0;
/// How often friction swells and ebbs along one turn of an uneven joint.
const UNEVEN_WAVES: f64 = 3.0;
/// Amplitude of the torque ripple, as a fraction of the effort limit.
const RIPPLE: f64 = 0.002;
/// Sensor noise, standard deviation: rad, rad/s, Nm, and Nm per Nm of effort limit.
const POSITION_NOISE: f64 = 2e-5;
const VELOCITY_NOISE: f64 = 1e-3;
const EFFORT_NOISE: f64 = 0.05;
const EFFORT_NOISE_SHARE: f64 = 0.0002;
/// A joint stop's stiffness per Nm of effort limit, 1/rad, and its damping per unit of stiffness, s.
const STOP_STIFFNESS: f64 = 50.0;
const STOP_DAMPING: f64 = 0.02;
/// A faster joint than this is a diverged simulation, rad/s.
const PLAUSIBLE_VELOCITY: f64 = 200.0;
/// Effort limit where a URDF names none, Nm.
const DEFAULT_EFFORT: f64 = 100.0;
/// Standard gravity as the node's default has it, m/s².
const GRAVITY: f64 = 9.81;

/// How the arm's base stands, as gravity in the base's frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mounting {
    /// Upright: gravity along -z.
    #[default]
    Floor,
    /// Axis 1 horizontal, the arm hanging out from a wall with the base's x pointing down: gravity along +x.
    Wall,
    /// Axis 1 horizontal, the base's y pointing up: gravity along -y. Joint 1 swings the arm up and down and carries the
    /// whole of it, as on a humanoid's shoulder.
    Sideways,
}

impl Mounting {
    /// Gravity in the base's frame, m/s²: what the node's parameter `gravity` must say.
    pub fn gravity(self) -> [f64; 3] {
        match self {
            Mounting::Floor => [0.0, 0.0, -GRAVITY],
            Mounting::Wall => [GRAVITY, 0.0, 0.0],
            Mounting::Sideways => [0.0, -GRAVITY, 0.0],
        }
    }
}

/// What the flange carries: a point mass that the nominal model does not know of.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// Nothing.
    #[default]
    None,
    /// 1 kg, 6 cm in front of the flange.
    Light,
    /// 3 kg, 9 cm in front of the flange and off its axis.
    Heavy,
}

impl Payload {
    /// From the lightest to the heaviest.
    pub const ALL: [Payload; 3] = [Payload::None, Payload::Light, Payload::Heavy];

    /// kg.
    pub fn mass(self) -> f64 {
        match self {
            Payload::None => 0.0,
            Payload::Light => 1.0,
            Payload::Heavy => 3.0,
        }
    }

    /// Centre of mass in the flange's frame, m.
    pub fn com(self) -> [f64; 3] {
        match self {
            Payload::None => [0.0, 0.0, 0.0],
            Payload::Light => [0.02, 0.01, 0.06],
            Payload::Heavy => [0.03, -0.02, 0.09],
        }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Payload::None => "none",
            Payload::Light => "light",
            Payload::Heavy => "heavy",
        })
    }
}

/// How the simulated arm differs from the nominal one, and how it stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimOptions {
    /// Seed of everything random: inertias, friction, ripple phases, noise.
    pub seed: u64,
    /// How the base stands.
    pub mounting: Mounting,
    /// What the flange carries at first.
    pub payload: Payload,
    /// How far masses and centres of mass are off: 1 is up to 12 % and 12 mm, 0 is not at all.
    pub mismatch: f64,
    /// Friction, 1 in proportion to the effort limits (Coulomb some 0.5 % of them, see [`Friction`]), 0 none.
    pub friction: f64,
    /// By which share, 0 to 1, friction swells and ebbs with the joint's position: what no regressor of rigid body and
    /// friction holds. 0 is the same friction everywhere.
    pub uneven: f64,
    /// Torque ripple, 1 is an amplitude of 0.2 % of the effort limit, 0 none.
    pub ripple: f64,
    /// Sensor noise, 1 like an LWR's (2e-5 rad, 1e-3 rad/s, 0.06 to 0.09 Nm), 0 none.
    pub noise: f64,
    /// Integration step, s.
    pub step: f64,
}

impl Default for SimOptions {
    fn default() -> Self {
        SimOptions {
            seed: 1,
            mounting: Mounting::Floor,
            payload: Payload::None,
            mismatch: 1.0,
            friction: 1.0,
            uneven: 0.0,
            ripple: 1.0,
            noise: 1.0,
            step: 0.25e-3,
        }
    }
}

impl SimOptions {
    /// The nominal arm itself, without friction, ripple or noise.
    pub fn ideal() -> SimOptions {
        SimOptions { mismatch: 0.0, friction: 0.0, ripple: 0.0, noise: 0.0, ..SimOptions::default() }
    }
}

/// What the arm's sensors say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measurement {
    /// Position, rad.
    pub q: PerJoint,
    /// Velocity, rad/s.
    pub qd: PerJoint,
    /// The torque that drove the joint in the last control cycle (command with feed-forward), Nm.
    pub effort: PerJoint,
}

/// The simulated arm.
///
/// Each integration step goes in two: the classical Runge-Kutta method of fourth order for rigid body, drive, ripple and
/// stops' springs, then friction and the stops' damping as a linearly implicit step, which only ever takes energy away.
#[derive(Clone, Debug)]
pub struct SimArm {
    arm: Arm,
    friction: Friction,
    uneven: f64,
    ripple_amplitude: PerJoint,
    ripple_phase: PerJoint,
    effort_limit: PerJoint,
    noise: f64,
    step: f64,
    rng: ChaCha8Rng,
    q: PerJoint,
    qd: PerJoint,
    effort: PerJoint,
    seconds: f64,
}

/// The joint's effort limit, Nm; 100 where the URDF names none.
pub(crate) fn effort_limit(arm: &Arm, joint: usize) -> f64 {
    let limit = arm.limits(joint).effort;
    if limit.is_finite() && limit > 0.0 { limit } else { DEFAULT_EFFORT }
}

impl SimArm {
    /// A true arm for the `nominal` one, at rest at q = 0. `nominal`'s own gravity and payload do not count: the options'
    /// mounting and payload do.
    pub fn new(nominal: &Arm, options: &SimOptions) -> SimArm {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let mut arm = nominal.clone();
        arm.set_gravity(options.mounting.gravity());
        arm.map_links(|_, link| {
            let scale = 1.0 + options.mismatch * rng.random_range(-MASS_MISMATCH..MASS_MISMATCH);
            let mut shift = || options.mismatch * rng.random_range(-COM_MISMATCH..COM_MISMATCH);
            link.mass *= scale;
            link.inertia *= scale;
            link.com += Vector3::new(shift(), shift(), shift());
        });
        let mut effort = PerJoint::default();
        let mut ripple_amplitude = PerJoint::default();
        let mut ripple_phase = PerJoint::default();
        for joint in 0..arm.len() {
            effort[joint] = effort_limit(&arm, joint);
            ripple_amplitude[joint] = options.ripple * RIPPLE * effort[joint];
            ripple_phase[joint] = rng.random_range(0.0..std::f64::consts::TAU);
        }
        let scaled = effort.map(|effort| effort * options.friction);
        let friction = Friction::typical(&scaled[..arm.len()], &mut rng);
        let mut sim = SimArm {
            arm,
            friction,
            uneven: options.uneven.clamp(0.0, 1.0),
            ripple_amplitude,
            ripple_phase,
            effort_limit: effort,
            noise: options.noise,
            step: options.step,
            rng,
            q: PerJoint::default(),
            qd: PerJoint::default(),
            effort: PerJoint::default(),
            seconds: 0.0,
        };
        sim.set_payload(options.payload);
        sim.place(&PerJoint::default());
        sim
    }

    /// Puts the arm at rest at `q` (rad), its drives carrying its weight.
    pub fn place(&mut self, q: &PerJoint) {
        self.q = *q;
        self.qd = PerJoint::default();
        self.effort = self.required_torque(&Motion { q: *q, ..Motion::default() });
    }

    /// Sets the arm's velocity (rad/s), as a push would.
    pub fn push(&mut self, qd: &PerJoint) {
        self.qd = *qd;
    }

    /// Changes what the flange carries, from now on; the state stays.
    pub fn set_payload(&mut self, payload: Payload) {
        self.arm.set_payload(payload.mass(), payload.com());
    }

    /// The rigid body as it truly is, with its payload.
    pub fn arm(&self) -> &Arm {
        &self.arm
    }

    /// True position, rad.
    pub fn q(&self) -> &PerJoint {
        &self.q
    }

    /// True velocity, rad/s.
    pub fn qd(&self) -> &PerJoint {
        &self.qd
    }

    /// Kinetic and potential energy, J (without what the joint stops store).
    pub fn energy(&self) -> f64 {
        self.arm.energy(&self.q, &self.qd)
    }

    /// The drive torque that makes this arm move as `motion` says, Nm: a perfect feed-forward.
    pub fn required_torque(&self, motion: &Motion) -> PerJoint {
        let mut torque = self.arm.inverse_dynamics(motion);
        for (joint, torque) in torque[..self.arm.len()].iter_mut().enumerate() {
            let (q, qd) = (motion.q[joint], motion.qd[joint]);
            *torque +=
                self.unevenness(joint, q) * self.friction.torque(joint, qd) - self.disturbance(joint, q);
        }
        torque
    }

    /// Reads the sensors.
    pub fn measure(&mut self) -> Measurement {
        let mut measured = Measurement { q: self.q, qd: self.qd, effort: self.effort };
        for joint in 0..self.arm.len() {
            let mut draw = || self.noise * self.rng.sample::<f64, _>(StandardNormal);
            measured.q[joint] += POSITION_NOISE * draw();
            measured.qd[joint] += VELOCITY_NOISE * draw();
            measured.effort[joint] += (EFFORT_NOISE + EFFORT_NOISE_SHARE * self.effort_limit[joint]) * draw();
        }
        measured
    }

    /// Moves on by `dt` seconds under a constant `command` (Nm), which saturates at the effort limits.
    ///
    /// # Errors
    /// [`SimError::Diverged`] if a joint's position or velocity is then not finite or faster than 200 rad/s.
    pub fn step(&mut self, command: &PerJoint, dt: f64) -> Result<(), SimError> {
        let limited = self.effort.iter_mut().zip(command).zip(&self.effort_limit);
        for ((effort, command), limit) in limited.take(self.arm.len()) {
            *effort = command.clamp(-limit, *limit);
        }
        let steps = (dt / self.step - 1e-9).ceil().max(1.0);
        let h = dt / steps;
        for _ in 0..steps as usize {
            self.move_rigidly(h);
            self.dissipate(h);
        }
        self.seconds += dt;
        for joint in 0..self.arm.len() {
            let (q, qd) = (self.q[joint], self.qd[joint]);
            if !q.is_finite() || !qd.is_finite() || qd.abs() > PLAUSIBLE_VELOCITY {
                let joint = self.arm.joint_names()[joint].clone();
                return Err(SimError::Diverged { seconds: self.seconds, joint, q, qd });
            }
        }
        Ok(())
    }

    /// One Runge-Kutta step without friction.
    fn move_rigidly(&mut self, h: f64) {
        let (q0, v0) = (self.q, self.qd);
        let a1 = self.acceleration(&q0, &v0);
        let (q2, v2) = (along(&q0, h / 2.0, &v0), along(&v0, h / 2.0, &a1));
        let a2 = self.acceleration(&q2, &v2);
        let (q3, v3) = (along(&q0, h / 2.0, &v2), along(&v0, h / 2.0, &a2));
        let a3 = self.acceleration(&q3, &v3);
        let (q4, v4) = (along(&q0, h, &v3), along(&v0, h, &a3));
        let a4 = self.acceleration(&q4, &v4);
        for j in 0..self.arm.len() {
            self.q[j] += h / 6.0 * (v0[j] + 2.0 * v2[j] + 2.0 * v3[j] + v4[j]);
            self.qd[j] += h / 6.0 * (a1[j] + 2.0 * a2[j] + 2.0 * a3[j] + a4[j]);
        }
    }

    fn acceleration(&self, q: &PerJoint, qd: &PerJoint) -> PerJoint {
        let mut torque = self.effort;
        for (joint, torque) in torque[..self.arm.len()].iter_mut().enumerate() {
            *torque += self.disturbance(joint, q[joint]);
        }
        self.arm.forward_dynamics(q, qd, &torque)
    }

    /// What acts on a joint beside its drive, by position alone: torque ripple, and a spring beyond its limits.
    fn disturbance(&self, joint: usize, q: f64) -> f64 {
        let ripple = self.ripple_amplitude[joint] * (GEAR_RATIO * q + self.ripple_phase[joint]).sin();
        ripple - STOP_STIFFNESS * self.effort_limit[joint] * self.beyond_stop(joint, q)
    }

    /// What friction is multiplied by at `q`; exactly 1 for an even joint.
    fn unevenness(&self, joint: usize, q: f64) -> f64 {
        1.0 + self.uneven * (UNEVEN_WAVES * q + self.ripple_phase[joint]).sin()
    }

    /// How far `q` lies beyond the joint's limits, rad, signed.
    fn beyond_stop(&self, joint: usize, q: f64) -> f64 {
        let limits = self.arm.limits(joint);
        if limits.lower < limits.upper { q - q.clamp(limits.lower, limits.upper) } else { 0.0 }
    }

    /// Friction and the stops' damping: solves (M + h S) qd' = M qd, S the secant damping at qd.
    fn dissipate(&mut self, h: f64) {
        let n = self.arm.len();
        let mut damping = PerJoint::default();
        for (joint, damping) in damping[..n].iter_mut().enumerate() {
            *damping = self.unevenness(joint, self.q[joint]) * self.friction.secant(joint, self.qd[joint]);
            if self.beyond_stop(joint, self.q[joint]) != 0.0 {
                *damping += STOP_DAMPING * STOP_STIFFNESS * self.effort_limit[joint];
            }
        }
        if damping[..n].iter().all(|damping| *damping == 0.0) {
            return;
        }
        let mut matrix = self.arm.mass_matrix(&self.q);
        let mut loss = PerJoint::default();
        for joint in 0..n {
            matrix[joint][joint] += h * damping[joint];
            loss[joint] = h * damping[joint] * self.qd[joint];
        }
        let change = solve(&matrix, &loss, n);
        for (qd, change) in self.qd.iter_mut().zip(&change) {
            *qd -= change;
        }
    }
}

/// `x + h * slope`.
fn along(x: &PerJoint, h: f64, slope: &PerJoint) -> PerJoint {
    std::array::from_fn(|joint| x[joint] + h * slope[joint])
}

/// Solves A x = b for the leading `n` rows of a symmetric positive definite A (Cholesky).
fn solve(a: &[[f64; MAX_JOINTS]; MAX_JOINTS], b: &PerJoint, n: usize) -> PerJoint {
    let mut l = [[0.0; MAX_JOINTS]; MAX_JOINTS];
    let mut x = *b;
    for i in 0..n {
        for j in 0..=i {
            let sum = a[i][j] - (0..j).map(|k| l[i][k] * l[j][k]).sum::<f64>();
            l[i][j] = if i == j { sum.sqrt() } else { sum / l[j][j] };
        }
        x[i] = (x[i] - (0..i).map(|k| l[i][k] * x[k]).sum::<f64>()) / l[i][i];
    }
    for i in (0..n).rev() {
        x[i] = (x[i] - (i + 1..n).map(|k| l[k][i] * x[k]).sum::<f64>()) / l[i][i];
    }
    x
}
