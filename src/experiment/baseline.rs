//! The trivial and the strong peers beside which every learner is shown (see [`NAMES`]).
//!
//! Contract: the same samples and batches as the product's learner; each predicts, then learns. Before the first batch
//! the ones that hold a value predict 0 Nm (or the rigid body's torque).
