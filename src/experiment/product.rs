//! The product itself as a contestant: the very pipeline that the pinned thread runs, without a deadline.
//!
//! Contract: as [`Learner`]; deterministic. What is scored is the torque after the gate and before the limits, so the torque
//! that would be commanded, which nothing learns from, is left out.

use super::Learner;
use crate::config::Config;
use crate::realtime::{FakeClock, InverseDynamics, Limits, Model, Pipeline};
use crate::sample::{PerJoint, Sample};

/// [`Pipeline`] around [`InverseDynamics`], every step taken.
pub struct Product {
    pipeline: Pipeline<InverseDynamics, FakeClock>,
}

impl Product {
    /// A pipeline around `model`.
    pub fn new(config: &Config, model: InverseDynamics, limits: Limits) -> Product {
        Product { pipeline: Pipeline::deterministic(config, model, limits) }
    }

    /// The model, as the last sample left it.
    pub fn model(&self) -> &InverseDynamics {
        self.pipeline.model()
    }
}

impl Learner for Product {
    fn predict(&mut self, sample: &Sample) -> PerJoint {
        self.pipeline.predict(sample).predicted
    }

    fn learn(&mut self, sample: &Sample) {
        self.pipeline.learn(sample);
    }

    fn new_task(&mut self) {
        self.pipeline.model_mut().new_task();
    }
}
