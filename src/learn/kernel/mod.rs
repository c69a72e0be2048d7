//! The seam of the learner's inner loops: everything that costs time, and nothing else.
//!
//! Contract of every function, whatever implements it:
//! - called from the pinned thread: no allocation, no lock, no panic on slices of the lengths stated;
//! - matrices are flat, row-major and contiguous; a layer's weights are `[inputs][outputs]`, so that a row is what one
//!   input unit contributes and the row of a silent ReLU unit is skipped as a whole, forward and backward;
//! - batches are `[samples][units]`;
//! - the same input gives the same bits on the same machine.
//!
//! [`scalar`] is plain Rust over slices, which the compiler vectorises where the order of sums permits. Vector code will
//! stand beside it, behind these same functions; the `unsafe` that it needs lives here and nowhere else in `learn`.

mod scalar;

pub(super) use scalar::{accumulate, backward, descend, descend_at, forward};
