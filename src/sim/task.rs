//! What the arm is made to do.
//!
//! Contract: called before a trial; allocates.

use std::fmt;

use nalgebra::{Matrix3, Vector3};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::dynamics::Arm;
use crate::sample::{MAX_JOINTS, Motion, PerJoint};

use super::{SimError, Trajectory};

/// Where a lift of the LWR begins: upper arm leaning forward, elbow bent, wrist level.
const LWR_POSTURE: [f64; 7] = [-0.25, -0.75, 0.10, 1.50, 0.15, -0.40, 0.0];
/// And by how much it moves each joint.
const LWR_LIFT: [f64; 7] = [0.50, 0.15, -0.15, -0.45, 0.25, -0.30, 0.40];
/// How far another arm lifts each of its joints: rad, and at most this share of the joint's range.
const LIFT: f64 = 0.4;
const LIFT_SHARE: f64 = 0.2;
/// And how far from the middle of its range each begins, likewise.
const BEND: f64 = 0.5;
const BEND_SHARE: f64 = 0.15;
/// A rectangle's edges, m.
const EDGES: [f64; 2] = [0.24, 0.16];
/// Points along an edge for which the inverse kinematics is solved.
const POINTS_PER_EDGE: usize = 9;
/// A trial's size differs by up to this share, its start by up to so many rad per joint.
const SIZE_VARIATION: f64 = 0.15;
const START_VARIATION: f64 = 0.05;

/// A motion that is done over and over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Up and back in joint space, with all joints, as the paper's arm lifts objects.
    #[default]
    Lift,
    /// Once around a rectangle of about 24 x 16 cm in a horizontal plane.
    RectangleHorizontal,
    /// Once around a rectangle of about 24 x 16 cm in a vertical plane.
    RectangleVertical,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Task::Lift => "lift",
            Task::RectangleHorizontal => "rectangle-horizontal",
            Task::RectangleVertical => "rectangle-vertical",
        })
    }
}

impl Task {
    /// The motion of one trial, the flange starting and ending at the same place at rest (after a rectangle the joints of
    /// a redundant arm do so only nearly). The seed varies its start and size. `seconds` is kept unless the arm's limits want longer.
    /// Horizontal and vertical are meant by `arm`'s gravity.
    ///
    /// # Errors
    /// [`SimError::Unreachable`].
    pub fn trajectory(self, arm: &Arm, seconds: f64, seed: u64) -> Result<Trajectory, SimError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut start = posture(arm);
        for (joint, q) in start[..arm.len()].iter_mut().enumerate() {
            let limits = arm.limits(joint);
            let varied = *q + rng.random_range(-START_VARIATION..START_VARIATION);
            if (limits.lower..=limits.upper).contains(&varied) {
                *q = varied;
            }
        }
        let size = rng.random_range(1.0 - SIZE_VARIATION..1.0 + SIZE_VARIATION);
        if self == Task::Lift {
            let way = lift(arm);
            let up = std::array::from_fn(|joint| start[joint] + size * way[joint]);
            return Ok(Trajectory::through(arm, &[start, up, start], seconds));
        }
        let curves = self.rectangle(arm, &start, size).map_err(|distance| SimError::Unreachable {
            task: self,
            seed,
            distance,
        })?;
        Ok(Trajectory::along(arm, curves, seconds))
    }

    /// The knots of the four edges, or the distance that the inverse kinematics could not close.
    fn rectangle(self, arm: &Arm, start: &PerJoint, size: f64) -> Result<Vec<Vec<PerJoint>>, f64> {
        let gravity = Vector3::from(arm.gravity());
        let up = (-gravity).try_normalize(1e-9).unwrap_or(Vector3::z());
        let origin = arm.flange_pose(start).translation.vector;
        let outwards = (origin - up * up.dot(&origin))
            .try_normalize(1e-3)
            .unwrap_or_else(|| up.cross(&Vector3::y()).try_normalize(1e-3).unwrap_or(Vector3::x()));
        let along = up.cross(&outwards) * (size * EDGES[0]);
        let across = size * EDGES[1] * if self == Task::RectangleVertical { up } else { -outwards };
        let corners = [origin, origin + along, origin + along + across, origin + across, origin];
        let mut q = *start;
        let mut curves = Vec::with_capacity(4);
        for edge in corners.windows(2) {
            let mut knots = vec![q];
            for i in 1..=POINTS_PER_EDGE {
                let point = edge[0] + (edge[1] - edge[0]) * (i as f64 / POINTS_PER_EDGE as f64);
                q = reach(arm, &q, &point)?;
                knots.push(q);
            }
            curves.push(knots);
        }
        Ok(curves)
    }
}

/// Where trials begin, before they vary: the LWR's posture for an arm of seven joints whose limits admit it, else each joint
/// bent a little from the middle of its range, so that the arm is not stretched out.
pub(crate) fn posture(arm: &Arm) -> PerJoint {
    let mut q = PerJoint::default();
    if is_lwr_like(arm) {
        q[..7].copy_from_slice(&LWR_POSTURE);
        return q;
    }
    for (joint, q) in q[..arm.len()].iter_mut().enumerate() {
        let limits = arm.limits(joint);
        let (middle, range) = ((limits.lower + limits.upper) / 2.0, limits.upper - limits.lower);
        *q = if range.is_finite() && range > 0.0 { middle + BEND.min(BEND_SHARE * range) } else { BEND };
    }
    q
}

fn is_lwr_like(arm: &Arm) -> bool {
    let admits = |(joint, q): (usize, &f64)| {
        let (limits, room) = (arm.limits(joint), 0.5);
        (limits.lower..=limits.upper).contains(&(q - room))
            && (limits.lower..=limits.upper).contains(&(q + room))
    };
    arm.len() == 7 && LWR_POSTURE.iter().enumerate().all(admits)
}

/// A lift's way from the posture, rad, in the direction in which the flange rises. An arm other than the LWR moves each
/// joint against its gravity torque.
fn lift(arm: &Arm) -> PerJoint {
    let start = posture(arm);
    let mut way = PerJoint::default();
    if is_lwr_like(arm) {
        way[..7].copy_from_slice(&LWR_LIFT);
    } else {
        let weight = arm.inverse_dynamics(&Motion { q: start, ..Motion::default() });
        for (joint, way) in way[..arm.len()].iter_mut().enumerate() {
            let limits = arm.limits(joint);
            let most = LIFT_SHARE * (limits.upper - limits.lower);
            *way = LIFT.min(if most > 0.0 { most } else { LIFT }).copysign(weight[joint]);
        }
    }
    let end = std::array::from_fn(|joint| start[joint] + way[joint]);
    let height = |q: &PerJoint| -Vector3::from(arm.gravity()).dot(&arm.flange_pose(q).translation.vector);
    if height(&end) < height(&start) { way.map(|way| -way) } else { way }
}

/// Positions near `q` that bring the flange to `point` (m), by damped least squares (Wampler 1986); the flange's orientation
/// is left free. The error is the distance that remained, or that at which a joint passed its limits.
fn reach(arm: &Arm, q: &PerJoint, point: &Vector3<f64>) -> Result<PerJoint, f64> {
    const DAMPING: f64 = 1e-6;
    const TOLERANCE: f64 = 1e-7;
    const DIFFERENCE: f64 = 1e-6;
    let flange = |q: &PerJoint| arm.flange_pose(q).translation.vector;
    let mut q = *q;
    let mut missing = point - flange(&q);
    for _ in 0..50 {
        if missing.norm() < TOLERANCE {
            break;
        }
        let mut jacobian = [Vector3::zeros(); MAX_JOINTS];
        for (joint, column) in jacobian[..arm.len()].iter_mut().enumerate() {
            let (mut lower, mut upper) = (q, q);
            lower[joint] -= DIFFERENCE;
            upper[joint] += DIFFERENCE;
            *column = (flange(&upper) - flange(&lower)) / (2.0 * DIFFERENCE);
        }
        let damped = jacobian
            .iter()
            .fold(Matrix3::identity() * DAMPING, |sum, column| sum + column * column.transpose());
        let Some(inverse) = damped.try_inverse() else { break };
        let pull = inverse * missing;
        for (joint, column) in jacobian[..arm.len()].iter().enumerate() {
            q[joint] += column.dot(&pull);
        }
        missing = point - flange(&q);
    }
    let within = (0..arm.len()).all(|joint| {
        let limits = arm.limits(joint);
        limits.lower >= limits.upper || (limits.lower..=limits.upper).contains(&q[joint])
    });
    if within && missing.norm() < 10.0 * TOLERANCE { Ok(q) } else { Err(missing.norm()) }
}
