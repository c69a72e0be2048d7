//! Rigid-body dynamics of a serial arm, the acceleration it is asked for, and the two classical learners beside which
//! MetaGD is judged.
//!
//! Contract: [`Arm::from_urdf`] and the other constructors run at start-up, may allocate and read files, and fail with
//! an error. Everything else is called from the pinned thread: it allocates nothing, blocks on nothing and panics on
//! no input; what is not finite comes out not finite (or, in the learners and the estimator, is left out). Frames and
//! units are the URDF's: metre, radian, kilogram, newton; a prismatic joint has m, m/s, m/s² and N in the place of rad,
//! rad/s, rad/s² and Nm.
//!
//! - [`Arm`]: URDF to inverse and forward dynamics, mass matrix, energy, and the regressor that is linear in the
//!   inertial parameters.
//! - [`Acceleration`]: accelerations from stamped positions and velocities by a local polynomial fit.
//! - [`TemperedRls`], [`FourierRls`]: recursive least squares on the rigid body's residual, with the arm's own
//!   regressor and with random Fourier features.

mod acceleration;
mod arm;
mod fourier;
mod rls;
mod sin_cos;
mod urdf;

pub use acceleration::Acceleration;
pub use arm::{Arm, JointLimits, LinkInertia, PARAMETERS_PER_LINK, Regressor};
pub use fourier::FourierRls;
pub use rls::{Basis, TEMPERED_VARIANCE, TemperedRls};
pub use urdf::UrdfError;
