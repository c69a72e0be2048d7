//! A fault that a test can put into the running node: a panic in the learner, on the pinned thread.

use crate::learn::Reload;
use crate::realtime::{Health, Model, Prediction, Tuning};
use crate::sample::{Motion, Observation, PerJoint};

/// A model that panics at its `n`-th prediction, and is the inner one until then.
pub(super) struct PanicAfter<M> {
    inner: M,
    left: u64,
}

impl<M> PanicAfter<M> {
    /// Panics at prediction number `at` (from 1); `u64::MAX` is never.
    pub(super) fn new(inner: M, at: u64) -> Self {
        PanicAfter { inner, left: at }
    }

    /// The model inside.
    pub(super) fn inner(&self) -> &M {
        &self.inner
    }
}

impl<M: Model> Model for PanicAfter<M> {
    type State = M::State;

    fn joints(&self) -> usize {
        self.inner.joints()
    }

    fn predict(&mut self, query: &Motion) -> Prediction {
        self.left = self.left.saturating_sub(1);
        assert!(self.left > 0, "a panic was injected");
        self.inner.predict(query)
    }

    fn hear(&mut self, stamp_ns: i64, effort: &PerJoint) {
        self.inner.hear(stamp_ns, effort);
    }

    fn observe(&mut self, observation: &Observation) -> bool {
        self.inner.observe(observation)
    }

    fn begin_batch(&mut self) {
        self.inner.begin_batch();
    }

    fn step(&mut self, joint: usize) {
        self.inner.step(joint);
    }

    fn score(&mut self, joint: usize) {
        self.inner.score(joint);
    }

    fn end_batch(&mut self) {
        self.inner.end_batch();
    }

    fn new_task(&mut self) {
        self.inner.new_task();
    }

    fn snapshot(&self, state: &mut Self::State) {
        self.inner.snapshot(state);
    }

    fn take(&mut self, state: &Self::State, what: Reload) {
        self.inner.take(state, what);
    }

    fn tune(&mut self, tuning: &Tuning) -> bool {
        self.inner.tune(tuning)
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn warm_up(&mut self) {
        self.inner.warm_up();
    }
}
