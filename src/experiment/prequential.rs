//! Prequential evaluation: each sample is first predicted, then learnt from (Dawid 1984; Gama et al. 2013).
//!
//! Contract: [`evaluate`] and [`evaluate_frozen`] walk one slice of samples for one learner; a long recording is walked slice by slice, so
//! that memory stays bounded and every learner sees exactly the same samples. They allocate nothing themselves.

use super::Scores;
use crate::sample::{PerJoint, Sample};

/// What is compared: the product's path and every baseline. Each may run on a thread of its own.
pub trait Learner: Send {
    /// The torque predicted for the sample's state, Nm. The sample's measured torque must not be used.
    fn predict(&mut self, sample: &Sample) -> PerJoint;

    /// Learns from the sample, after it was predicted.
    fn learn(&mut self, sample: &Sample);

    /// A new recording, or a new run within one, begins; what was learnt is carried on.
    fn new_task(&mut self) {}
}

/// Predicts, scores and learns each of `samples` in turn; `each` sees every sample with its prediction.
pub fn evaluate(
    learner: &mut dyn Learner,
    samples: &[Sample],
    scores: &mut [&mut Scores],
    mut each: impl FnMut(&Sample, &PerJoint),
) {
    for sample in samples {
        let predicted = learner.predict(sample);
        for scores in scores.iter_mut() {
            scores.add(sample.stamp_ns, &predicted, &sample.effort);
        }
        each(sample, &predicted);
        learner.learn(sample);
    }
}

/// Predicts and scores each of `samples` in turn with what was learnt before, and learns nothing; `each` as in [`evaluate`].
pub fn evaluate_frozen(
    learner: &mut dyn Learner,
    samples: &[Sample],
    scores: &mut Scores,
    mut each: impl FnMut(&Sample, &PerJoint),
) {
    for sample in samples {
        let predicted = learner.predict(sample);
        scores.add(sample.stamp_ns, &predicted, &sample.effort);
        each(sample, &predicted);
    }
}
