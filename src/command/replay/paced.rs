//! `--realtime`: the recording, paced by its own stamps, through the pinned thread.
//!
//! Contract: blocks for as long as the recording lasts. Three threads of ours stand around the pinned one, as in the node:
//! the caller paces and sends, one receives torques, one keeps house (telemetry, probe, histograms).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::{Args, Recordings, model, progress, save};
use crate::config::Config;
use crate::experiment::Learner;
use crate::experiment::feed::Feed;
use crate::realtime::latency::LatencyError;
use crate::realtime::runtime::SendError;
use crate::realtime::{
    Clock, Command, InverseDynamics, LatencyLog, MonotonicClock, Pipeline, Probe, Runtime, SampleSender,
    Summary, TorqueReceiver, probe,
};
use crate::sample::{MAX_JOINTS, PerJoint, Sample};

/// Time between two phases: long enough for the pinned thread to be done with the first.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the pinned thread's CPU is probed before the run.
const PROBE_BEFORE: Duration = Duration::from_secs(1);

/// How often housekeeping looks.
const HOUSEKEEPING: Duration = Duration::from_millis(10);

/// What the paced run came to.
pub(super) struct Paced {
    /// The torques that were predicted.
    pub(super) predictions: Recorded,
    /// Latencies, deadline, drops.
    pub(super) summary: Summary,
    /// What a reader of the figures should know.
    pub(super) notes: Vec<String>,
    /// Samples that found the ring full.
    pub(super) ring_full: u64,
    /// How long it took.
    pub(super) elapsed: Duration,
}

/// Torques that were predicted in the paced run, by the sample's count.
pub(super) struct Recorded {
    torques: Vec<Option<PerJoint>>,
    held: PerJoint,
}

impl Recorded {
    /// Takes in what the pinned thread sent: the first torque of a sample is its answer; later ones only decay.
    fn take(&mut self, seq: u64, predicted: &PerJoint) {
        let Ok(at) = usize::try_from(seq) else { return };
        if at >= self.torques.len() {
            self.torques.resize(at + 1, None);
            self.torques[at] = Some(*predicted);
        }
    }
}

impl Learner for Recorded {
    /// A sample that got no answer leaves the torque at the last one, as it does on the robot.
    fn predict(&mut self, sample: &Sample) -> PerJoint {
        let at = usize::try_from(sample.seq).unwrap_or(usize::MAX);
        if let Some(Some(torque)) = self.torques.get(at) {
            self.held = *torque;
        }
        self.held
    }

    fn learn(&mut self, _: &Sample) {}
}

/// Paces all inputs through a [`Runtime`], and saves the configured checkpoint.
pub(super) fn run(args: &Args, config: &Config, setup: &Recordings) -> anyhow::Result<Paced> {
    let (model, limits) = model(config, setup, true)?;
    let mut log = LatencyLog::new(config, args.out.as_deref())?;
    let mut feed = Feed::new(config, &setup.joints)?;
    let runtime = Runtime::start(config, Pipeline::new(config, model, limits, MonotonicClock::new()))?;
    let grants = runtime.grants().clone();
    let refusals = grants.refusals().map(|refusal| refusal.to_string());
    let notes: Vec<String> = refusals.chain(grants.spinning.iter().cloned()).collect();
    for note in &notes {
        tracing::warn!("{note}");
    }
    log.set_grants(&grants);
    if let (true, Some(cpu)) = (config.probe, grants.cpus.first()) {
        for tick in probe::before(*cpu, config.thread_priority as i32, PROBE_BEFORE) {
            log.record_probe_before(&tick);
        }
    }
    let beside = Probe::start(config, &grants.cpus);
    let (telemetry, torques, drops) = (runtime.telemetry(), runtime.torques(), feed.drops());
    let done = AtomicBool::new(false);
    let started = Instant::now();
    let (stopped, predictions, log) = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&torques, &done));
        let keeper = scope.spawn(|| {
            loop {
                let last = done.load(Ordering::Acquire);
                while let Some(report) = telemetry.try_recv() {
                    log.record(&report);
                }
                while let Some(tick) = beside.as_ref().and_then(Probe::try_recv) {
                    log.record_probe(&tick);
                }
                log.tick(&drops)?;
                if last {
                    return Ok::<_, LatencyError>(log);
                }
                thread::sleep(HOUSEKEEPING);
            }
        });
        // However this ends, the two threads must, or the scope waits for them for ever.
        let over = Over(&done);
        let paced = pace(args, setup, &mut feed, &runtime);
        let stopped = runtime.stop();
        drop(over);
        let predictions = receiver.join();
        let log = keeper.join();
        paced?;
        let (Ok(predictions), Ok(log)) = (predictions, log) else {
            bail!("a thread beside the pinned one panicked");
        };
        anyhow::Ok((stopped?, predictions, log?))
    })?;
    let elapsed = started.elapsed();
    save(config, setup, &stopped.model)?;
    let ring_full = stopped.counts.ring_full;
    let summary = log.finish(&feed.drops(), &stopped.counts)?;
    Ok(Paced { predictions, summary, notes, ring_full, elapsed })
}

/// Says that the run is over when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Collects torques until the run is done and none is left.
fn receive(torques: &TorqueReceiver<InverseDynamics>, done: &AtomicBool) -> Recorded {
    let mut recorded = Recorded { torques: vec![], held: [0.0; MAX_JOINTS] };
    loop {
        let last = done.load(Ordering::Acquire);
        match torques.recv(HOUSEKEEPING) {
            Some(torque) => recorded.take(torque.seq, &torque.predicted),
            None if last => return recorded,
            // An ended pinned thread answers at once: do not spin until `done`.
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Sends every sample when its stamp says so.
fn pace(
    args: &Args,
    setup: &Recordings,
    feed: &mut Feed,
    runtime: &Runtime<InverseDynamics>,
) -> anyhow::Result<()> {
    let clock = MonotonicClock::new();
    let sender = runtime.sender();
    let bar = progress(setup);
    let mut phase_start = (Instant::now(), 0);
    let mut phases = 0;
    for (input, recording) in setup.recordings.iter().enumerate() {
        bar.set_message(args.inputs[input].display().to_string());
        for (index, row) in recording.rows()?.enumerate() {
            let row = row?;
            bar.inc(1);
            if index < args.skip {
                continue;
            }
            if feed.begins_phase(input, &row) {
                drain(&sender);
                if phases > 0 && runtime.commands().send(Command::NewTask).is_err() {
                    bail!("the pinned thread takes no commands");
                }
                phases += 1;
                phase_start = (Instant::now() + PAUSE, row.stamp_ns);
            }
            let since_ns = u64::try_from(row.stamp_ns.saturating_sub(phase_start.1)).unwrap_or(0);
            let due = phase_start.0 + Duration::from_nanos(since_ns);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let Some(sample) = feed.sample(&row, clock.now_ns()) else { continue };
            match sender.send(sample) {
                // The sender has counted what the ring did not take.
                Ok(()) | Err(SendError::Full) => {}
                // What it died of comes out when it is stopped.
                Err(SendError::Stopped) => return Ok(()),
            }
        }
    }
    drain(&sender);
    bar.finish_and_clear();
    Ok(())
}

/// Waits until the pinned thread has taken all samples, for a second at most.
fn drain(sender: &SampleSender<InverseDynamics>) {
    let until = Instant::now() + Duration::from_secs(1);
    while sender.backlog() > 0 && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decaying_torque_is_no_answer_and_a_missing_answer_holds_the_last() {
        let mut recorded = Recorded { torques: vec![], held: [0.0; MAX_JOINTS] };
        recorded.take(0, &[1.0; MAX_JOINTS]);
        recorded.take(0, &[0.0; MAX_JOINTS]);
        recorded.take(2, &[3.0; MAX_JOINTS]);
        let mut at = |seq| recorded.predict(&Sample { seq, ..Sample::default() })[0];
        assert_eq!([at(0), at(1), at(2), at(3)], [1.0, 1.0, 3.0, 3.0]);
    }
}
