//! Noticing that the payload has changed: errors far beyond what they usually are.
//!
//! Contract: called by the pinned thread once per batch; a few flops, no allocation.

use crate::config::Config;
use crate::learn::{Checkpoint, Refusal, Values};

/// Weight of the newest batch in the short mean, and in the long one once that is old enough.
const SHORT: f64 = 0.2;
const LONG: f64 = 0.003;

/// Looks at how surprising each batch was ([`crate::dynamics::TemperedRls::update`]).
///
/// The short mean follows within some batches, the long one within some hundreds (until it is as old, it is the plain mean). When the
/// short one exceeds `payload.detect_ratio` times the long one, and neither the start nor the last change lies within
/// `payload.detect_pause` batches, something else hangs on the arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PayloadDetector {
    ratio: f64,
    pause: u64,
    short: f64,
    long: f64,
    /// Batches since the start, and since the last change.
    batches: u64,
    since: u64,
    changes: u64,
}

impl PayloadDetector {
    pub(super) fn new(config: &Config) -> Self {
        PayloadDetector {
            ratio: config.payload_detect_ratio,
            pause: config.payload_detect_pause as u64,
            short: 0.0,
            long: 0.0,
            batches: 0,
            since: 0,
            changes: 0,
        }
    }

    /// Whether this batch shows a change. What is not finite shows nothing.
    pub(super) fn notices(&mut self, surprise: f64) -> bool {
        if !surprise.is_finite() {
            return false;
        }
        self.batches = self.batches.saturating_add(1);
        self.since = self.since.saturating_add(1);
        self.short += SHORT * (surprise - self.short);
        self.long += LONG.max(1.0 / self.batches as f64) * (surprise - self.long);
        let changed = self.since > self.pause && self.short > self.ratio * self.long;
        if changed {
            self.since = 0;
            self.changes += 1;
        }
        changed
    }

    /// How many changes it has noticed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn store(&self, checkpoint: &mut Checkpoint) {
        checkpoint.insert("payload.means", &[2], Values::F64(&[self.short, self.long]));
        let counts = [self.batches, self.since, self.changes];
        checkpoint.insert("payload.counts", &[3], Values::U64(&counts));
    }

    /// Takes over what a checkpoint holds of it, if anything.
    pub(super) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), Refusal> {
        if checkpoint.shape("payload.means").is_none() {
            return Ok(());
        }
        let means = checkpoint.f64s("payload.means", &[2])?;
        let counts = checkpoint.u64s("payload.counts", &[3])?;
        super::learnt::within("payload.means", &means, 0.0, f64::MAX)?;
        (self.short, self.long) = (means[0], means[1]);
        (self.batches, self.since, self.changes) = (counts[0], counts[1], counts[2].min(1 << 53));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_jump_is_noticed_once_and_noise_is_not() {
        let mut detector = PayloadDetector::new(&Config::default());
        // Ups and downs by a factor of twenty, as between standing and moving.
        let usual = |k: u32| if k % 10 < 5 { 0.01 } else { 0.2 };
        assert!((0..1000).all(|k| !detector.notices(usual(k))));
        let noticed: Vec<u32> = (0..100).filter(|_| detector.notices(8.0)).collect();
        assert_eq!(noticed.len(), 1);
        assert!(noticed[0] < 5, "{noticed:?}");
        assert_eq!(detector.changes(), 1);
    }

    #[test]
    fn nothing_is_noticed_right_after_the_start_or_of_what_is_not_finite() {
        let mut detector = PayloadDetector::new(&Config::default());
        assert!((0..10).all(|_| !detector.notices(1e-6)));
        assert!((0..30).all(|_| !detector.notices(5.0)));
        let before = detector;
        assert!(!detector.notices(f64::NAN) && !detector.notices(f64::INFINITY));
        assert_eq!(detector, before);
    }
}
