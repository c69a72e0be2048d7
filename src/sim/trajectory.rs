//! Reference motions in joint space: smooth paths, run through with minimum jerk.
//!
//! Contract: built before a trial (allocates), read at every control cycle (does not).

use crate::dynamics::Arm;
use crate::sample::{MAX_JOINTS, Motion, PerJoint};

/// The share of the arm's velocity limits that a reference may use.
const VELOCITY_SHARE: f64 = 0.8;
/// The most that a reference accelerates any joint, rad/s². Descriptions of the LWR name no limit; its makers' motions stay
/// within some 5 to 10.
pub const ACCELERATION_LIMIT: f64 = 8.0;
/// Velocity limit where a URDF names none, rad/s.
const DEFAULT_VELOCITY: f64 = 1.0;

/// A curve through joint space over `s` in `[0, 1]`: the natural cubic spline through equally spaced knots, so that the
/// second derivative is continuous.
#[derive(Clone, Debug)]
struct Path {
    knots: Vec<PerJoint>,
    /// Second derivatives at the knots, with respect to the knot index.
    curvature: Vec<PerJoint>,
}

impl Path {
    /// Through `knots`, of which there are at least two.
    fn new(knots: Vec<PerJoint>) -> Path {
        let n = knots.len();
        let mut curvature = vec![PerJoint::default(); n];
        for joint in 0..MAX_JOINTS {
            // Thomas' algorithm for m[i-1] + 4 m[i] + m[i+1] = 6 (q[i-1] - 2 q[i] + q[i+1]), m = 0 at both ends.
            let mut upper = vec![0.0; n];
            for i in 1..n - 1 {
                let pivot = 4.0 - upper[i - 1];
                let bend = knots[i - 1][joint] - 2.0 * knots[i][joint] + knots[i + 1][joint];
                upper[i] = 1.0 / pivot;
                curvature[i][joint] = (6.0 * bend - curvature[i - 1][joint]) / pivot;
            }
            for i in (1..n - 1).rev() {
                curvature[i][joint] -= upper[i] * curvature[i + 1][joint];
            }
        }
        Path { knots, curvature }
    }

    /// Position and its first and second derivatives by `s`.
    fn at(&self, s: f64) -> [PerJoint; 3] {
        let spans = (self.knots.len() - 1) as f64;
        let x = s.clamp(0.0, 1.0) * spans;
        let i = (x as usize).min(self.knots.len() - 2);
        let (b, a) = (x - i as f64, 1.0 - (x - i as f64));
        let [mut q, mut by_s, mut by_ss] = [PerJoint::default(); 3];
        for joint in 0..MAX_JOINTS {
            let (q0, q1) = (self.knots[i][joint], self.knots[i + 1][joint]);
            let (m0, m1) = (self.curvature[i][joint], self.curvature[i + 1][joint]);
            q[joint] = a * q0 + b * q1 + ((a * a * a - a) * m0 + (b * b * b - b) * m1) / 6.0;
            by_s[joint] = spans * (q1 - q0 + ((1.0 - 3.0 * a * a) * m0 + (3.0 * b * b - 1.0) * m1) / 6.0);
            by_ss[joint] = spans * spans * (a * m0 + b * m1);
        }
        [q, by_s, by_ss]
    }

    /// The motion after a share `tau` of `duration` seconds, from rest to rest with minimum jerk along the path
    /// (Flash, Hogan 1985): s = 10 tau^3 - 15 tau^4 + 6 tau^5.
    fn motion(&self, tau: f64, duration: f64) -> Motion {
        let t = tau.clamp(0.0, 1.0);
        let s = t * t * t * (10.0 + t * (6.0 * t - 15.0));
        let ds = 30.0 * t * t * (1.0 - t) * (1.0 - t) / duration;
        let dds = 60.0 * t * (1.0 - t) * (1.0 - 2.0 * t) / (duration * duration);
        let [q, by_s, by_ss] = self.at(s);
        let mut motion = Motion { q, ..Motion::default() };
        for joint in 0..MAX_JOINTS {
            motion.qd[joint] = by_s[joint] * ds;
            motion.qdd[joint] = by_ss[joint] * ds * ds + by_s[joint] * dds;
        }
        motion
    }

    /// The shortest duration within the arm's limits, s. Velocities go with 1 / T, accelerations with 1 / T².
    fn shortest(&self, arm: &Arm) -> f64 {
        const STEPS: usize = 256;
        let mut shortest = 0.0_f64;
        for i in 0..=STEPS {
            let motion = self.motion(i as f64 / STEPS as f64, 1.0);
            for joint in 0..arm.len() {
                let velocity = VELOCITY_SHARE * velocity_limit(arm, joint);
                shortest = shortest
                    .max(motion.qd[joint].abs() / velocity)
                    .max((motion.qdd[joint].abs() / ACCELERATION_LIMIT).sqrt());
            }
        }
        // What lies between two of the steps may be a little higher.
        shortest * 1.005
    }
}

/// The joint's velocity limit, rad/s; 1 where the URDF names none.
pub(crate) fn velocity_limit(arm: &Arm, joint: usize) -> f64 {
    let limit = arm.limits(joint).velocity;
    if limit.is_finite() && limit > 0.0 { limit } else { DEFAULT_VELOCITY }
}

/// A reference motion: paths run through one after the other, at rest between them; it starts and ends at rest.
#[derive(Clone, Debug)]
pub struct Trajectory {
    /// Each with its duration, s.
    paths: Vec<(Path, f64)>,
}

impl Trajectory {
    /// Along straight lines in joint space through `points` (rad), in `seconds` in all, or longer if the arm's velocity
    /// limits or [`ACCELERATION_LIMIT`] want it. One point is a rest of `seconds`.
    pub fn through(arm: &Arm, points: &[PerJoint], seconds: f64) -> Trajectory {
        let knots: Vec<_> = match points {
            [point] => vec![vec![*point, *point]],
            points => points.windows(2).map(<[PerJoint]>::to_vec).collect(),
        };
        Trajectory::along(arm, knots, seconds)
    }

    /// Along the smooth curves through each list of knots (rad; at least two), coming to rest after each list; `seconds`
    /// are shared in equal parts, and made longer where the limits want it.
    pub(crate) fn along(arm: &Arm, curves: Vec<Vec<PerJoint>>, seconds: f64) -> Trajectory {
        let share = seconds / curves.len().max(1) as f64;
        let paths = curves.into_iter().map(|knots| {
            let path = Path::new(knots);
            let duration = share.max(path.shortest(arm)).max(1e-3);
            (path, duration)
        });
        Trajectory { paths: paths.collect() }
    }

    /// Its duration, s.
    pub fn seconds(&self) -> f64 {
        self.paths.iter().map(|(_, duration)| duration).sum()
    }

    /// The motion at `t` seconds: at rest at the start before it begins, and at the end when it is over.
    pub fn at(&self, t: f64) -> Motion {
        let mut begin = 0.0;
        let mut newest = Motion::default();
        for (path, duration) in &self.paths {
            newest = path.motion((t - begin) / duration, *duration);
            begin += duration;
            if t < begin {
                break;
            }
        }
        newest
    }
}
