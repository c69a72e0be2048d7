//! What takes part in the contest.

use std::time::Duration;

use anyhow::Result;

use crate::state::State;
use crate::stream::Stream;

/// One implementation of the step of seven joints.
pub trait Contestant {
    /// As the table names it.
    fn name(&self) -> &str;

    /// Takes over the stream that the next runs learn from.
    fn load(&mut self, stream: &Stream) -> Result<()>;

    /// Goes back to the start weights, then learns from the stream's first `steps` batches. Only the learning is timed,
    /// by the contestant itself.
    fn run(&mut self, steps: usize) -> Result<Duration>;

    /// What it has learnt in the last run.
    fn state(&mut self) -> Result<State>;
}
