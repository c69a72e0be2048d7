//! The model that the pipeline serves: a seam for tests, and the real one behind it.
//!
//! Contract: a [`Model`] is called by one thread at a time (the pinned one, live). After construction and
//! [`Model::warm_up`] none of its calls may allocate, lock, log or block. If one of them panics, the runtime catches it,
//! sends zero torque and stops.

use crate::sample::{MAX_JOINTS, Motion, Observation, PerJoint};

/// How a model is doing, for diagnostics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    /// Bit j: joint j's learner is let through by the gate.
    pub gates_open: u16,
    /// Running mean squared error of the whole prediction, Nm².
    pub learner_mse: PerJoint,
    /// Running mean squared error of the rigid body alone, Nm².
    pub rigid_body_mse: PerJoint,
}

/// What predicts torques and learns, joint by joint.
pub trait Model: Send {
    /// What a snapshot of it holds: handed across threads in a box that was made beforehand.
    type State: Send;

    /// The number of joints, at most [`MAX_JOINTS`].
    fn joints(&self) -> usize;

    /// The torque for `query`, after the gate, and the rigid body's part of it, Nm. Writes the first
    /// [`Model::joints`] entries, and leaves the others at zero.
    fn predict(&mut self, query: &Motion, predicted: &mut PerJoint, rigid_body: &mut PerJoint);

    /// Takes in what may be learnt from; true when that completes a batch. Until [`Model::end_batch`] it is not called
    /// again.
    fn observe(&mut self, observation: &Observation) -> bool;

    /// One learning step of one joint on the complete batch.
    fn step(&mut self, joint: usize);

    /// In place of [`Model::step`] while learning is switched off: scores the joint on the batch, for the gate.
    fn score(&mut self, _joint: usize) {}

    /// The batch is done with, whether or not every joint got its step.
    fn end_batch(&mut self);

    /// Forgets what has been gathered of a batch: the observations to come do not continue those before.
    fn discard_batch(&mut self) {}

    /// A task begins (the paper's phase): what was learnt about learning is kept, what belongs to the last task is not.
    fn new_task(&mut self) {}

    /// Writes the learnt state into `state`, which has this model's shape.
    fn snapshot(&self, _state: &mut Self::State) {}

    /// How it is doing.
    fn health(&self) -> Health {
        Health::default()
    }

    /// Runs every path once and leaves the model as it was. Called before the first sample; may allocate.
    fn warm_up(&mut self) {}
}

const _: () = assert!(MAX_JOINTS <= 16, "Health::gates_open has 16 bits");
