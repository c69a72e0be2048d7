//! The paper: networks that learn one joint's torque each, with learning rates that are themselves learnt.
//!
//! Contract: constructors, [`checkpoint`] and `Debug` allocate and run at start-up or in housekeeping. Everything the
//! pinned thread calls ([`ArmLearner::predict`], [`step`](ArmLearner::step), [`new_task`](ArmLearner::new_task),
//! [`snapshot`](ArmLearner::snapshot), [`restore`](ArmLearner::restore), [`take`](ArmLearner::take), [`set_rates`](ArmLearner::set_rates),
//! [`copy_from`](ArmLearner::copy_from),
//! [`Batch`]) works in memory taken at construction: no allocation, no lock, no clock, no file, no panic. A step whose
//! batch, loss or gradients are not finite is refused, reported, and learns nothing.
//!
//! The same inputs, seed and build give bit-identical weights on processors with the same instruction set
//! ([`InstructionSet::best`]); on others they differ by rounding.
//!
//! | file | holds |
//! |---|---|
//! | `real` | the scalar: f32 for robots, f64 for references |
//! | `kernel/` | the loops that cost time, and the one place for vector code |
//! | `network` | the multilayer perceptron, its loss and gradient |
//! | `centres` | the Gaussians over the gradient's range |
//! | `memory` | local models of the learning rate and how they learn |
//! | `optimiser` | base learners (gradient descent, Adam); MetaGD = a base learner + memories |
//! | `joint`, `arm` | one joint's learner; the arm's learners and their batch |
//! | [`checkpoint`] | safetensors in and out |
//!
//! Source: F. Meier, D. Kappler, S. Schaal, "Online Learning of a Memory for Learning Rates", ICRA 2018
//! (arXiv 1709.06709); "eq." below refers to it.

mod arm;
mod centres;
pub mod checkpoint;
mod joint;
mod kernel;
mod memory;
mod network;
mod optimiser;
mod real;
#[cfg(test)]
mod reference;

pub use arm::{ArmLearner, Batch, LearnError, Which};
pub use checkpoint::{Checkpoint, CheckpointError, Refusal, Reload, Values};
pub use joint::{JointLearner, Rates, StepReport};
pub use kernel::InstructionSet;
pub use memory::{MAX_RATE, MIN_RATE, Memory, MemoryOptimizer, MemorySettings, Signal, Spacing};
pub use network::{Layer, Network, Workspace};
pub use optimiser::{Base, Group, LearnerName, MetaGd, Update};
pub use real::Real;
