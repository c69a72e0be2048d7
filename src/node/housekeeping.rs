//! What the node keeps about itself: latencies, drops, how the model is doing.
//!
//! Contract: owned by the node's own thread, which calls [`Housekeeping::keep`] every few milliseconds, but for the time that
//! writing a checkpoint or an end takes; timings that the pinned thread's ring has no room for then (four seconds' worth)
//! are counted as lost. It allocates and writes files.

use std::time::{Duration, Instant};

use super::engine::{Engine, NodeModel};
use crate::realtime::{DropReason, Drops, LatencyLog, Probe, TelemetryReceiver};
use crate::ros::Subscription;
use crate::ros::diagnostics::Snapshot;

/// How often the same state of affairs is said again.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// See the module's documentation.
pub(super) struct Housekeeping {
    pub(super) log: LatencyLog,
    pub(super) drops: Drops,
    pub(super) subscriptions: Vec<Subscription>,
    /// What is known of the node, as far as it has been told.
    pub(super) snapshot: Snapshot,
    malformed: u64,
    unlogged: bool,
    said: Instant,
}

impl Housekeeping {
    pub(super) fn new(log: LatencyLog, drops: Drops) -> Self {
        Housekeeping {
            log,
            drops,
            subscriptions: Vec::new(),
            snapshot: Snapshot::default(),
            malformed: 0,
            unlogged: false,
            said: Instant::now(),
        }
    }

    /// Fetches what has been told and counted since the last time.
    pub(super) fn keep(&mut self, engine: Option<&Engine>) {
        if let Some(engine) = engine {
            self.fetch(&engine.telemetry);
            while let Some(tick) = engine.probe.as_ref().and_then(Probe::try_recv) {
                self.log.record_probe(&tick);
            }
        }
        let seen: u64 = self.subscriptions.iter().map(Subscription::malformed).sum();
        (self.malformed..seen).for_each(|_| self.drops.count(DropReason::Malformed));
        self.malformed = seen;
        if let Err(error) = self.log.tick(&self.drops)
            && !self.unlogged
        {
            self.unlogged = true;
            tracing::error!("{error}; the node goes on, its latency log will be incomplete");
        }
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            let received: u64 = self.subscriptions.iter().map(Subscription::received).sum();
            let lost = self.subscriptions.iter().map(Subscription::lost).sum::<Option<u64>>();
            let lost = lost.map_or("an unknown number".into(), |lost| lost.to_string());
            tracing::info!("{received} messages, {lost} lost on the wire, {} dropped", self.drops.total());
        }
    }

    /// Takes in what the pinned thread has told.
    pub(super) fn fetch(&mut self, telemetry: &TelemetryReceiver<NodeModel>) {
        while let Some(told) = telemetry.try_recv() {
            self.snapshot.record(&told);
            self.log.record(&told);
        }
    }
}
