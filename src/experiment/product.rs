//! The product itself as a contestant: the very pipeline that the pinned thread runs, without a deadline.
//!
//! Contract: as [`Learner`]; deterministic. What is scored is the torque predicted, before the limits, so the torque
//! that would be commanded, which nothing learns from, is left out.

use super::Learner;
use crate::config::Config;
use crate::dynamics::Arm;
use crate::learn::Reload;
use crate::realtime::{FakeClock, InverseDynamics, Limits, Model, Pipeline, Tuning};
use crate::sample::{PerJoint, Sample};

/// [`Pipeline`] around [`InverseDynamics`], every step taken.
pub struct Product {
    pipeline: Pipeline<InverseDynamics, FakeClock>,
    tuning: Tuning,
}

impl Product {
    /// A pipeline around `model`.
    pub fn new(config: &Config, model: InverseDynamics, limits: Limits) -> Product {
        let tuning = Tuning::from_config(config);
        Product { pipeline: Pipeline::deterministic(config, model, limits), tuning }
    }

    /// A fresh one for these joints, which are `arm`'s if there is one.
    ///
    /// # Errors
    /// The model's and the limits'.
    pub fn fresh(config: &Config, arm: Option<&Arm>, joints: &[String]) -> anyhow::Result<Product> {
        let model = InverseDynamics::new(config, arm.cloned(), joints)?;
        let limits = model.limits(config)?;
        Ok(Product::new(config, model, limits))
    }

    /// Takes over the part of `other`'s learners that `what` names, as a new task begins with it; both are of the same
    /// configuration and joints.
    pub fn take(&mut self, other: &Product, what: Reload) {
        self.pipeline.take(other.model().learnt(), what);
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

    fn freeze(&mut self, frozen: bool) {
        self.pipeline.tune(&Tuning { learning: self.tuning.learning && !frozen, ..self.tuning });
    }
}
