//! The pipeline's logic: every sample is answered, every full batch is learnt within the deadline, or counted.
//!
//! Contract: one thread at a time owns a [`Pipeline`] (live: the pinned one) and calls, for each sample in turn,
//! [`Pipeline::on_sample`], hands the torque over, and then [`Pipeline::learn`]. Nothing here allocates, locks, logs or
//! blocks. A step is run whole before the next sample is served, so the torques depend on the samples and on which joint
//! steps were left out, never on timing otherwise: a deterministic replay equals a live run that left none out.
//!
//! **The deadline** counts from the arrival of a batch's last sample. Before each joint's step, if the time since that
//! arrival plus the time that this joint's step is expected to take exceeds the deadline, this and all remaining joints
//! are left out and counted, and the next batch starts with the joint that was left out first. The expected time of a
//! joint's step rises at once to a longer one measured and falls by an eighth of the difference to a shorter one; it is
//! taken as half the deadline at most, so that one stall of the machine cannot keep a joint from ever learning again.

use std::time::Duration;

use super::clock::{Clock, FakeClock};
use super::limits::Limits;
use super::model::{Health, Model, Prediction};
use super::tuning::Tuning;
use crate::config::Config;
use crate::learn::Reload;
use crate::sample::{MAX_JOINTS, Motion, PerJoint, Sample, Torque};

/// What is counted over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Samples answered.
    pub samples: u64,
    /// Full batches.
    pub batches: u64,
    /// Batches of which a joint's step was left out, or ended after the deadline.
    pub misses: u64,
    /// The longest run of misses.
    pub worst_consecutive: u64,
    /// Joint steps left out.
    pub steps_skipped: u64,
}

/// One batch, as it was learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchReport {
    /// Count of full batches, from 0.
    pub batch: u64,
    /// When the batch's last sample arrived, ns of the pipeline's clock.
    pub arrival_ns: i64,
    /// When the first joint's step began.
    pub started_ns: i64,
    /// When the last joint's step ended.
    pub done_ns: i64,
    /// The thread's CPU time in between, ns.
    pub cpu_ns: i64,
    /// Joint steps done.
    pub done: u16,
    /// Joint steps left out.
    pub skipped: u16,
    /// The time that the steps left out were expected to take, ns.
    pub left_out_ns: i64,
    /// Whether the deadline was missed.
    pub missed: bool,
    /// How the model is doing after it.
    pub health: Health,
}

/// Model, limits and deadline; see the module's documentation.
pub struct Pipeline<M: Model, C: Clock> {
    model: M,
    limits: Limits,
    clock: C,
    deadline_ns: Option<i64>,
    learning: bool,
    first_joint: usize,
    expected_ns: [i64; MAX_JOINTS],
    consecutive_misses: u64,
    counters: Counters,
}

impl<M: Model, C: Clock> Pipeline<M, C> {
    /// A pipeline that keeps `deadline` by `clock`, and learns if `learning` says so.
    pub fn new(config: &Config, model: M, limits: Limits, clock: C) -> Self {
        Pipeline {
            model,
            limits,
            clock,
            deadline_ns: Some((config.deadline * 1e6) as i64),
            learning: config.learning,
            first_joint: 0,
            expected_ns: [0; MAX_JOINTS],
            consecutive_misses: 0,
            counters: Counters::default(),
        }
    }

    /// Another deadline; `None` runs every step whatever it takes.
    pub fn set_deadline(&mut self, deadline: Option<Duration>) {
        self.deadline_ns = deadline.map(|deadline| deadline.as_nanos().min(i64::MAX as u128) as i64);
    }

    /// The answer to a sample: predict, gate, limits.
    ///
    /// With a fresh reference, what is predicted for it is what is commanded (but for what only repeats the torque measured:
    /// [`Prediction::commanded`]). Without one the prediction is for the
    /// measured motion, but the command is for that motion at zero acceleration (gravity, Coriolis and friction): a
    /// torque `M(q) q̈` out of the measured acceleration feeds that acceleration back with a gain near one, takes the
    /// arm's inertia away from under its controller, and makes it shake.
    pub fn on_sample(&mut self, sample: &Sample) -> Torque {
        let (mut torque, commanded) = self.answer(sample);
        let wanted = match &sample.reference {
            Some(_) => commanded,
            None => self.without_acceleration(&sample.motion),
        };
        torque.feedforward = self.limits.apply(sample.stamp_ns, &wanted);
        torque
    }

    /// The first half of that answer, without a torque that may be commanded: what is scored where nothing is commanded. Call
    /// it in place of [`Pipeline::on_sample`].
    pub fn predict(&mut self, sample: &Sample) -> Torque {
        self.answer(sample).0
    }

    /// The prediction for a sample, and what of it may be commanded.
    fn answer(&mut self, sample: &Sample) -> (Torque, PerJoint) {
        let Prediction { predicted, commanded, rigid_body } = self.model.predict(sample.query());
        self.counters.samples += 1;
        let torque = Torque {
            seq: sample.seq,
            stamp_ns: sample.stamp_ns,
            arrival_ns: sample.arrival_ns,
            feedforward: [0.0; MAX_JOINTS],
            predicted,
            rigid_body,
        };
        (torque, commanded)
    }

    fn without_acceleration(&mut self, measured: &Motion) -> PerJoint {
        let steady = Motion { qdd: [0.0; MAX_JOINTS], ..*measured };
        self.model.predict(&steady).commanded
    }

    /// Learns from the sample that was answered last. If it completes a batch, every joint takes its step, as far as the
    /// deadline allows.
    pub fn learn(&mut self, sample: &Sample) -> Option<BatchReport> {
        self.model.hear(sample.stamp_ns, &sample.effort);
        let observation = sample.observation.as_ref()?;
        self.model.observe(observation).then(|| self.step_all(sample.arrival_ns))
    }

    /// [`Pipeline::on_sample`], then [`Pipeline::learn`].
    pub fn serve(&mut self, sample: &Sample) -> (Torque, Option<BatchReport>) {
        (self.on_sample(sample), self.learn(sample))
    }

    fn step_all(&mut self, arrival_ns: i64) -> BatchReport {
        let joints = self.model.joints();
        let cpu_before = self.clock.thread_cpu_ns();
        let started_ns = self.clock.now_ns();
        self.model.begin_batch();
        let mut now_ns = self.clock.now_ns();
        let mut done = 0;
        while done < joints {
            let joint = (self.first_joint + done) % joints;
            if let Some(deadline_ns) = self.deadline_ns {
                let expected_ns = self.expected_ns[joint].min(deadline_ns / 2);
                if now_ns.saturating_sub(arrival_ns).saturating_add(expected_ns) > deadline_ns {
                    break;
                }
            }
            if self.learning {
                self.model.step(joint);
            } else {
                self.model.score(joint);
            }
            let ended_ns = self.clock.now_ns();
            let (expected, took) = (&mut self.expected_ns[joint], ended_ns - now_ns);
            *expected = if took > *expected { took } else { *expected - (*expected - took) / 8 };
            now_ns = ended_ns;
            done += 1;
        }
        self.model.end_batch();
        let left_out = (done..joints).map(|count| self.expected_ns[(self.first_joint + count) % joints]);
        let left_out_ns = left_out.fold(0, i64::saturating_add);
        self.first_joint = (self.first_joint + done) % joints;

        let skipped = joints - done;
        let late = self.deadline_ns.is_some_and(|deadline| now_ns.saturating_sub(arrival_ns) > deadline);
        let missed = skipped > 0 || late;
        let report = BatchReport {
            batch: self.counters.batches,
            arrival_ns,
            started_ns,
            done_ns: now_ns,
            cpu_ns: self.clock.thread_cpu_ns() - cpu_before,
            done: done as u16,
            skipped: skipped as u16,
            left_out_ns,
            missed,
            health: self.model.health(),
        };
        self.counters.batches += 1;
        self.counters.steps_skipped += skipped as u64;
        self.counters.misses += u64::from(missed);
        self.consecutive_misses = if missed { self.consecutive_misses + 1 } else { 0 };
        self.counters.worst_consecutive = self.counters.worst_consecutive.max(self.consecutive_misses);
        report
    }

    /// Other settings, between samples. With learning off, the frozen model is only scored for the gate. Where they
    /// change what is predicted, the torque ramps there.
    pub fn tune(&mut self, tuning: &Tuning) {
        self.learning = tuning.learning;
        self.limits.set(&tuning.limits);
        if self.model.tune(tuning) {
            self.limits.begin_ramp();
        }
    }

    /// Takes over a part of another model's state, between samples; the torque ramps to what that predicts.
    pub fn take(&mut self, state: &M::State, what: Reload) {
        self.model.take(state, what);
        if matches!(what, Reload::All | Reload::Network) {
            self.limits.begin_ramp();
        }
    }

    /// Runs every path of the model once, and leaves it as it was; may allocate.
    pub fn warm_up(&mut self) {
        self.model.warm_up();
        self.clock.thread_cpu_ns();
        self.clock.now_ns();
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model, between samples.
    pub fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The limits, between samples.
    pub fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The clock.
    pub fn clock(&self) -> &C {
        &self.clock
    }

    /// Takes it apart, when all samples are served.
    pub fn into_model(self) -> M {
        self.model
    }
}

impl<M: Model> Pipeline<M, FakeClock> {
    /// A pipeline without a deadline on a clock that stands still: the same samples give bit-identical torques.
    pub fn deterministic(config: &Config, model: M, limits: Limits) -> Self {
        let mut pipeline = Pipeline::new(config, model, limits, FakeClock::new());
        pipeline.set_deadline(None);
        pipeline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Observation;

    /// Seven joints whose steps take the time that the test says; it writes down who was stepped.
    struct Slow {
        clock: FakeClock,
        step_ns: i64,
        gathered: usize,
        stepped: Vec<usize>,
        scored: usize,
    }

    impl Model for Slow {
        type State = ();
        fn joints(&self) -> usize {
            7
        }
        fn predict(&mut self, query: &Motion) -> Prediction {
            let sum = |joint| if joint < 7 { query.q[joint] + query.qdd[joint] } else { 0.0 };
            let predicted = std::array::from_fn(sum);
            Prediction { predicted, commanded: predicted, ..Prediction::default() }
        }
        fn observe(&mut self, _: &Observation) -> bool {
            self.gathered += 1;
            self.gathered == 10
        }
        fn step(&mut self, joint: usize) {
            self.stepped.push(joint);
            self.clock.advance(self.step_ns);
        }
        fn score(&mut self, _: usize) {
            self.scored += 1;
        }
        fn end_batch(&mut self) {
            self.gathered = 0;
        }
    }

    const MS: i64 = 1_000_000;

    fn pipeline(step_ns: i64) -> (Pipeline<Slow, FakeClock>, FakeClock) {
        let config = Config { limit_ramp: 0.0, ..Config::default() };
        let clock = FakeClock::new();
        let model = Slow { clock: clock.clone(), step_ns, gathered: 0, stepped: vec![], scored: 0 };
        let limits = Limits::new(&config, 7, &[]).unwrap();
        (Pipeline::new(&config, model, limits, clock.clone()), clock)
    }

    /// Ten samples, the last of which arrives now.
    fn batch(pipeline: &mut Pipeline<Slow, FakeClock>) -> BatchReport {
        let mut last = None;
        for _ in 0..10 {
            let arrival_ns = pipeline.clock().now_ns();
            let sample =
                Sample { arrival_ns, observation: Some(Observation::default()), ..Sample::default() };
            assert!(last.is_none(), "a batch before its tenth sample");
            last = pipeline.serve(&sample).1;
        }
        last.expect("the tenth completes a batch")
    }

    #[test]
    fn a_step_that_fits_is_done_for_every_joint_in_order() {
        let (mut pipeline, _) = pipeline(MS);
        let report = batch(&mut pipeline);
        assert_eq!((report.done, report.skipped, report.missed), (7, 0, false));
        assert_eq!(report.done_ns - report.arrival_ns, 7 * MS);
        assert_eq!(pipeline.model().stepped, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(pipeline.counters().misses, 0);
    }

    #[test]
    fn what_does_not_fit_is_left_out_counted_and_first_in_the_next_batch() {
        let (mut pipeline, _) = pipeline(2 * MS);
        let report = batch(&mut pipeline);
        assert_eq!(
            (report.done, report.skipped, report.missed),
            (6, 1, true),
            "first batch: nothing expected yet"
        );
        pipeline.model_mut().stepped.clear();
        let report = batch(&mut pipeline);
        assert_eq!((report.done, report.skipped), (5, 2));
        assert_eq!(pipeline.model().stepped, [6, 0, 1, 2, 3]);
        assert!(report.done_ns - report.arrival_ns <= 10 * MS);
        pipeline.model_mut().stepped.clear();
        batch(&mut pipeline);
        assert_eq!(pipeline.model().stepped, [4, 5, 6, 0, 1]);
        let counters = pipeline.counters();
        assert_eq!((counters.batches, counters.misses, counters.worst_consecutive), (3, 3, 3));
        assert_eq!(counters.steps_skipped, 1 + 2 + 2);
    }

    #[test]
    fn every_joint_gets_its_turn_however_slow_the_steps_are() {
        let (mut pipeline, _) = pipeline(50 * MS);
        for _ in 0..14 {
            let report = batch(&mut pipeline);
            assert_eq!((report.done, report.missed), (1, true));
        }
        let mut stepped = pipeline.model().stepped.clone();
        stepped.sort_unstable();
        assert_eq!(stepped, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
    }

    #[test]
    fn one_stall_costs_one_batch() {
        let (mut pipeline, _) = pipeline(MS / 2);
        batch(&mut pipeline);
        pipeline.model_mut().step_ns = 25 * MS;
        let stalled = batch(&mut pipeline);
        assert_eq!((stalled.done, stalled.missed), (1, true));
        pipeline.model_mut().step_ns = MS / 2;
        for _ in 0..3 {
            assert!(!batch(&mut pipeline).missed);
        }
        assert_eq!(pipeline.counters().worst_consecutive, 1);
    }

    #[test]
    fn a_batch_that_was_served_too_late_is_left_out_whole() {
        let (mut pipeline, clock) = pipeline(MS);
        clock.set(100 * MS);
        let mut report = None;
        for _ in 0..10 {
            let sample = Sample {
                arrival_ns: 80 * MS,
                observation: Some(Observation::default()),
                ..Sample::default()
            };
            report = pipeline.serve(&sample).1;
        }
        let report = report.unwrap();
        assert_eq!((report.done, report.skipped, report.missed), (0, 7, true));
    }

    #[test]
    fn without_a_deadline_nothing_is_left_out() {
        let (mut pipeline, _) = pipeline(50 * MS);
        pipeline.set_deadline(None);
        let report = batch(&mut pipeline);
        assert_eq!((report.done, report.skipped, report.missed), (7, 0, false));
    }

    #[test]
    fn with_learning_off_batches_are_scored_and_not_learnt() {
        let (mut pipeline, _) = pipeline(MS);
        pipeline.tune(&Tuning { learning: false, ..Tuning::from_config(&Config::default()) });
        batch(&mut pipeline);
        assert_eq!((pipeline.model().stepped.len(), pipeline.model().scored), (0, 7));
    }

    #[test]
    fn the_fresh_reference_is_answered_instead_of_the_measured_state() {
        let (mut pipeline, _) = pipeline(MS);
        let (mut measured, mut wanted) = (Motion::default(), Motion::default());
        (measured.q[0], wanted.q[0]) = (1.0, 2.0);
        let sample = Sample { motion: measured, ..Sample::default() };
        assert_eq!(pipeline.on_sample(&sample).predicted[0], 1.0);
        let sample = Sample { reference: Some(wanted), ..sample };
        assert_eq!(pipeline.on_sample(&sample).predicted[0], 2.0);
    }

    #[test]
    fn a_measured_acceleration_is_predicted_for_but_never_fed_back() {
        let (mut pipeline, _) = pipeline(MS);
        let motion = Motion { q: [1.0; MAX_JOINTS], qdd: [0.5; MAX_JOINTS], ..Motion::default() };
        let alone = pipeline.predict(&Sample { motion, ..Sample::default() });
        assert_eq!((alone.predicted[0], alone.feedforward[0]), (1.5, 0.0), "nothing to command");
        let command = |pipeline: &mut Pipeline<Slow, FakeClock>, reference: Option<Motion>| {
            let mut torque = Torque::default();
            for ms in 0..20 {
                let stamp_ns = pipeline.clock().now_ns() + ms * MS;
                torque = pipeline.on_sample(&Sample { stamp_ns, motion, reference, ..Sample::default() });
            }
            pipeline.clock().advance(20 * MS);
            (torque.predicted[0], torque.feedforward[0])
        };
        assert_eq!(command(&mut pipeline, None), (1.5, 1.0), "measured");
        assert_eq!(command(&mut pipeline, Some(motion)), (1.5, 1.5), "wanted");
    }
}
