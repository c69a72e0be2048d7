//! Experiments: recordings through learners, and what comes of it.
//!
//! Contract: called by commands and tests, never from the pinned thread; may allocate and block. Everything here is
//! deterministic: the same samples, seed and build give bit-identical torques and scores on the same kind of processor.

pub mod baseline;
pub mod batch;
pub mod comparison;
pub mod feed;
#[cfg(feature = "experiments")]
pub mod mnist;
pub mod prequential;
pub mod product;
pub mod report;
pub mod rosenbrock;
pub mod score;
pub mod sweep;

pub use prequential::{Learner, evaluate};
pub use score::{JointScore, Scores};
