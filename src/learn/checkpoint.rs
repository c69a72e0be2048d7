//! What was learnt, in a file.
use std::path::Path;

use crate::config::Config;

use super::ArmLearner;

/// What to take from a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Networks, integrators and memories.
    All,
    /// The memories only.
    Memory,
    /// Networks and integrators only.
    Network,
    /// Nothing: the file is only checked.
    None,
}

/// Why a checkpoint could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {}

/// A checkpoint's contents.
#[derive(Clone, Debug)]
pub struct Checkpoint;

/// Saves.
///
/// # Errors
/// [`CheckpointError`].
pub fn save(
    _path: &Path,
    _learner: &ArmLearner,
    _config: &Config,
    _joints: &[String],
) -> Result<(), CheckpointError> {
    Ok(())
}

/// Loads.
///
/// # Errors
/// [`CheckpointError`].
pub fn load(
    _path: &Path,
    _learner: &mut ArmLearner,
    _config: &Config,
    _joints: &[String],
    _reload: Reload,
) -> Result<(), CheckpointError> {
    Ok(())
}
