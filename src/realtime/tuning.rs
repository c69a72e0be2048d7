//! What may change while the node runs, without a lock or an allocation on the pinned thread.
//!
//! Contract: made from a checked [`Config`] by whoever changed it, and sent by value as
//! [`Command::Tune`](super::Command::Tune). The pinned thread obeys between two samples, and so between two batches' steps: the
//! limits, and a gate that is switched off, change with the next sample; rates, learning and the rest of the gate with the
//! next batch's step. No batch is learnt with half of a change.

use super::gate::GateSettings;
use super::limits::LimitSettings;
use crate::config::Config;
use crate::learn::Rates;

/// All that may change; see the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// `learning`.
    pub learning: bool,
    /// `learner.rate`, `memory.rate`, `integrator.gain`.
    pub rates: Rates,
    /// `gate.*`.
    pub gate: GateSettings,
    /// `limits.*`.
    pub limits: LimitSettings,
}

impl Tuning {
    /// What `config` says.
    pub fn from_config(config: &Config) -> Self {
        Tuning {
            learning: config.learning,
            rates: Rates::from_config(config),
            gate: GateSettings::from_config(config),
            limits: LimitSettings::from_config(config),
        }
    }
}
