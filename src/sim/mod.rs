//! The robot simulated: an arm with friction, noise and payload, its inner controller, and the motions that it makes.
//!
//! Contract: called from the command line, from experiments and from tests, on one ordinary thread, never from the pinned
//! one. Construction allocates; a step does not, and nothing here blocks, sleeps or reads a clock: [`Session`] is
//! advanced tick by tick, as fast as its caller likes, and the same seed and the same feed-forward give bit-identical
//! ticks. It stands in for a KUKA LWR4+ and works for any arm that [`Arm`](crate::dynamics::Arm) can describe.
//!
//! | file | holds |
//! |---|---|
//! | `arm` | [`SimArm`]: forward dynamics of a perturbed arm, friction, torque ripple, joint stops, sensors, payload |
//! | `friction` | [`Friction`]: viscous, Coulomb, Stribeck |
//! | `controller` | [`Controller`]: joint impedance plus feed-forward; [`Received`]: the newest feed-forward, while fresh |
//! | `trajectory` | [`Trajectory`]: smooth paths with minimum-jerk timing |
//! | `task` | [`Task`]: lift, rectangle horizontal, rectangle vertical |
//! | `session` | [`Script`], [`Session`], [`Metrics`]: trials with and without feed-forward, scored |

mod arm;
mod controller;
mod friction;
mod session;
mod task;
mod trajectory;

pub use arm::{Measurement, Mounting, Payload, SimArm, SimOptions};
pub use controller::{Controller, Received};
pub use friction::Friction;
pub use session::{Counts, Metrics, Mode, PERIOD_NS, Score, Script, Session, Tick, Trial};
pub use task::Task;
pub use trajectory::{ACCELERATION_LIMIT, Trajectory};

/// The URDF of the KUKA LWR4+ that comes with the program.
pub const LWR_URDF: &str = include_str!("../../urdf/kuka_lwr.urdf");

/// Why a simulation could not be set up or go on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SimError {
    /// A task's path leaves what the arm can reach.
    #[error(
        "{task} with seed {seed}: the arm comes no nearer than {distance:.4} m to a point of the path, or only beyond its \
         joints' limits; choose another task or seed"
    )]
    Unreachable {
        /// The task.
        task: Task,
        /// The trial's seed.
        seed: u64,
        /// From the flange to the point, m.
        distance: f64,
    },
    /// The state stopped being finite or plausible.
    #[error(
        "the simulation diverged at {seconds:.3} s: joint `{joint}` at {q} rad, {qd} rad/s; check the commanded torque and \
         the URDF's inertias"
    )]
    Diverged {
        /// Simulated time, s.
        seconds: f64,
        /// The first such joint.
        joint: String,
        /// Its position, rad.
        q: f64,
        /// Its velocity, rad/s.
        qd: f64,
    },
    /// There is nothing to do.
    #[error("the script has no trials; ask for at least one")]
    EmptyScript,
}
