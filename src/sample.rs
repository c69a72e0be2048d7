//! The types that travel: from the intake to the pinned thread, and from there to the publisher.
//!
//! Contract: everything here is `Copy` or of fixed size, so that a value can be moved through a ring without touching
//! the heap. Units are SI: rad (m for prismatic joints), rad/s, rad/s², Nm (N); stamps are nanoseconds.

/// The most joints that an arm may have: the fixed capacity of every per-joint array.
pub const MAX_JOINTS: usize = 16;

/// One number per joint, in the order of the `joints` parameter; what lies past the arm's joint count is zero.
pub type PerJoint = [f64; MAX_JOINTS];

/// Positions, velocities and accelerations of all joints at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Motion {
    /// Position, rad.
    pub q: PerJoint,
    /// Velocity, rad/s.
    pub qd: PerJoint,
    /// Acceleration, rad/s².
    pub qdd: PerJoint,
}

impl Motion {
    /// Whether the first `joints` entries of position, velocity and acceleration are all finite.
    pub fn is_finite(&self, joints: usize) -> bool {
        [&self.q, &self.qd, &self.qdd].iter().all(|values| all_finite(&values[..joints]))
    }
}

/// Whether all of `values` are finite (written so that it vectorises: no early exit).
pub(crate) fn all_finite(values: &[f64]) -> bool {
    values.iter().fold(true, |all, value| all & value.is_finite())
}

/// A measured motion with the torque that was measured at the same instant: what there is to learn from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observation {
    /// When it was measured, in nanoseconds of the source's clock.
    pub stamp_ns: i64,
    /// The motion; its acceleration is centred on `stamp_ns`.
    pub motion: Motion,
    /// The measured torque, Nm.
    pub effort: PerJoint,
}

/// One accepted message, in joint order, complete and finite.
///
/// It carries two instants: `motion` is the newest, for which a torque is wanted now, and `observation` is a little
/// older, because a centred estimate of the acceleration needs samples on both sides of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Count of accepted samples, from 0.
    pub seq: u64,
    /// The message's stamp, in nanoseconds of the source's clock.
    pub stamp_ns: i64,
    /// When it arrived, in nanoseconds of the pipeline's monotonic clock.
    pub arrival_ns: i64,
    /// From stamp to arrival by the system's wall clock, ns; absent where the two cannot be compared (recordings).
    pub transport_ns: Option<i64>,
    /// The state as measured at `stamp_ns`, acceleration estimated one-sidedly (or as the message brought it).
    pub motion: Motion,
    /// The torque as measured at `stamp_ns`, Nm.
    pub effort: PerJoint,
    /// A fresh reference, for which the feed-forward is wanted instead of for `motion`.
    pub reference: Option<Motion>,
    /// What may be learnt from, if the acceleration's window is filled.
    pub observation: Option<Observation>,
}

impl Sample {
    /// The motion for which a torque is predicted: the fresh reference, or else the measured state.
    pub fn query(&self) -> &Motion {
        self.reference.as_ref().unwrap_or(&self.motion)
    }
}

/// The answer to one [`Sample`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Torque {
    /// The sample's count.
    pub seq: u64,
    /// The sample's stamp, in nanoseconds of the source's clock.
    pub stamp_ns: i64,
    /// When the sample arrived, in nanoseconds of the pipeline's monotonic clock.
    pub arrival_ns: i64,
    /// The feed-forward torque after gate and limits, Nm: the only one that may be commanded. Without a fresh reference
    /// it is for the measured motion at zero acceleration.
    pub feedforward: PerJoint,
    /// What the model predicted, before the limits, Nm: the one that is scored.
    pub predicted: PerJoint,
    /// The rigid body's part of it, Nm (zero without a URDF).
    pub rigid_body: PerJoint,
}
