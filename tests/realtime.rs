//! The pinned thread from outside: it computes what a deterministic replay computes, decays, obeys, and never hangs.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use metagd::config::Config;
use metagd::dynamics::Arm;
use metagd::learn::ArmLearner;
use metagd::realtime::{
    Clock, Command, Intake, InverseDynamics, Learnt, Limits, Model, MonotonicClock, Pipeline, Prediction,
    RealtimeError, Runtime, Status, Telemetry, Tuning,
};
use metagd::sample::{MAX_JOINTS, Motion, Observation, Sample, Torque};

const MS: i64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// No privileges are asked for: the tests pass in any container.
fn config() -> Config {
    Config {
        thread_priority: 0,
        lock_memory: false,
        ring: 4096,
        hidden: vec![20, 20],
        deadline: 10_000.0,
        limit_timeout: 10_000.0,
        limit_decay: 0.01,
        limit_ramp: 0.5,
        ..Config::default()
    }
}

fn lwr() -> Arm {
    let urdf = Path::new(env!("CARGO_MANIFEST_DIR")).join("urdf/kuka_lwr.urdf");
    Arm::from_urdf(&urdf, &[], [0.0, 0.0, -9.81]).unwrap()
}

fn model(config: &Config) -> InverseDynamics {
    let arm = lwr();
    let joints = arm.joint_names().to_vec();
    InverseDynamics::new(config, Some(arm), &joints).unwrap()
}

fn start(config: &Config) -> Runtime<InverseDynamics> {
    let model = model(config);
    let limits = model.limits(config).unwrap();
    Runtime::start(config, Pipeline::new(config, model, limits, MonotonicClock::new())).unwrap()
}

fn start_with<M: Model>(config: &Config, model: M) -> Result<Runtime<M>, RealtimeError> {
    let limits = Limits::new(config, model.joints(), &[]).unwrap();
    Runtime::start(config, Pipeline::new(config, model, limits, MonotonicClock::new()))
}

/// A motion at 1 kHz with the torques of an arm that carries a kilogram more than the model knows, through the intake.
fn samples(config: &Config, count: usize) -> Vec<Sample> {
    let arm = lwr();
    let true_arm = arm.clone().with_payload(1.0, [0.0, 0.0, 0.1]);
    let mut intake = Intake::new(config, arm.joint_names()).unwrap();
    (0..count)
        .map(|k| {
            let t = k as f64 * 1e-3;
            let wave = |joint: usize, phase: f64| {
                if joint < arm.len() { (1.5 * t + joint as f64 + phase).sin() * 0.4 } else { 0.0 }
            };
            let quarter = std::f64::consts::FRAC_PI_2;
            let motion = Motion {
                q: std::array::from_fn(|j| wave(j, 0.0)),
                qd: std::array::from_fn(|j| 1.5 * wave(j, quarter)),
                qdd: std::array::from_fn(|j| -2.25 * wave(j, 0.0)),
            };
            let effort = true_arm.inverse_dynamics(&motion);
            intake.row(k as i64 * MS, 0, &motion.q, &motion.qd, None, &effort).unwrap()
        })
        .collect()
}

/// The same sample, arriving now.
fn now(sample: &Sample) -> Sample {
    Sample { arrival_ns: MonotonicClock::new().now_ns(), ..*sample }
}

fn predict(learner: &ArmLearner, motion: &Motion) -> [u64; MAX_JOINTS] {
    let mut torque = [0.0; MAX_JOINTS];
    learner.clone().predict(motion, &[0.0; MAX_JOINTS], &mut torque);
    torque.map(f64::to_bits)
}

fn bits(torque: &Torque) -> [[u64; MAX_JOINTS]; 3] {
    [torque.feedforward, torque.predicted, torque.rigid_body].map(|part| part.map(f64::to_bits))
}

#[test]
fn the_pinned_thread_computes_bit_for_bit_what_a_deterministic_replay_computes() {
    let config = config();
    let samples = samples(&config, 2500);

    let fresh = model(&config);
    let limits = fresh.limits(&config).unwrap();
    let mut replay = Pipeline::deterministic(&config, fresh, limits);
    let expected: Vec<Torque> = samples.iter().map(|sample| replay.serve(sample).0).collect();
    assert!(replay.model().health().gates_open != 0, "something was learnt and let through");

    let runtime = start(&config);
    let (sender, torques) = (runtime.sender(), runtime.torques());
    for (sample, expected) in samples.iter().zip(&expected) {
        sender.send(now(sample)).unwrap();
        let torque = torques.recv(PATIENCE).expect("every sample is answered");
        assert_eq!(torque.seq, expected.seq);
        assert_eq!(bits(&torque), bits(expected), "sample {}", torque.seq);
    }
    let stopped = runtime.stop().unwrap();
    assert_eq!(stopped.counters.steps_skipped, 0, "with a deadline of ten seconds nothing is left out");
    assert_eq!(stopped.counters.batches, replay.counters().batches);
    for sample in samples.iter().step_by(100) {
        let (live, replayed) = (stopped.model.learner(), replay.model().learner());
        assert_eq!(predict(live, &sample.motion), predict(replayed, &sample.motion));
    }
}

#[test]
fn a_dead_input_decays_to_zero() {
    let config = Config { limit_timeout: 20.0, limit_ramp: 0.0, ..config() };
    let runtime = start(&config);
    let (sender, torques) = (runtime.sender(), runtime.torques());
    for sample in samples(&config, 100) {
        sender.send(now(&sample)).unwrap();
    }
    let mut before = None;
    loop {
        let torque = torques.recv(PATIENCE).expect("it decays to zero");
        if torque.seq == 99 && torque.feedforward == [0.0; MAX_JOINTS] {
            assert_eq!(torque.predicted, [0.0; MAX_JOINTS], "no prediction goes with it");
            break;
        }
        before = Some(torque);
    }
    assert_ne!(before.unwrap().feedforward, [0.0; MAX_JOINTS]);
    assert_eq!(torques.recv(Duration::from_millis(20)), None, "then there is silence");
    runtime.stop().unwrap();
}

#[test]
fn however_it_waits_it_serves_obeys_decays_and_stops() {
    for wait in ["park", "spin", "hybrid"] {
        let config = Config {
            wait: wait.into(),
            wait_spin: 200.0,
            limit_timeout: 30.0,
            limit_ramp: 0.0,
            limit_rate: 1e9,
            ..config()
        };
        let runtime = start(&config);
        let (sender, torques, commands) = (runtime.sender(), runtime.torques(), runtime.commands());
        let samples = samples(&config, 300);
        let rest = |k: usize| std::thread::sleep(Duration::from_millis(u64::from(k.is_multiple_of(3))));
        for (k, sample) in samples.iter().enumerate() {
            if k == 150 {
                assert!(commands.send(Command::SetEnabled(false)).is_ok());
            }
            if k == 200 {
                assert!(commands.send(Command::SetEnabled(true)).is_ok());
            }
            sender.send(now(sample)).unwrap();
            // A torque that decayed while this thread was away is no answer.
            let answer = std::iter::repeat_with(|| torques.recv(PATIENCE).expect(wait))
                .find(|torque| torque.seq == sample.seq)
                .unwrap();
            // The first torque starts from zero.
            let zero = k == 0 || (150..200).contains(&k);
            assert_eq!(answer.feedforward[1] == 0.0, zero, "{wait}, sample {k}");
            rest(k);
        }
        while !runtime.is_at_zero() {
            std::thread::yield_now();
        }
        let state = Box::new(model(&config).learnt().clone());
        assert!(commands.send(Command::Snapshot(state)).is_ok(), "{wait}: asked while nothing comes");
        while commands.take_back().is_none() {
            std::thread::yield_now();
        }
        let stopped = runtime.stop().unwrap();
        assert_eq!(stopped.counters.samples, 300, "{wait}");
        let runtime = start(&config);
        runtime.sender().send(now(&samples[0])).unwrap();
        assert_eq!(runtime.stop().unwrap().counters.samples, 1, "{wait}: stopped while it waits for more");
    }
}

#[test]
fn a_clean_stop_serves_what_waits_and_its_last_word_is_zero() {
    let config = Config { limit_ramp: 0.0, ..config() };
    let runtime = start(&config);
    let (sender, torques) = (runtime.sender(), runtime.torques());
    for sample in samples(&config, 100) {
        sender.send(now(&sample)).unwrap();
    }
    assert_eq!(runtime.stop().unwrap().counters.samples, 100);
    let last = torques.newest(PATIENCE).unwrap();
    assert_eq!((last.seq, last.feedforward), (99, [0.0; MAX_JOINTS]));
    assert_eq!(torques.status(), Status::Stopped);
    assert!(sender.send(Sample::default()).is_err());
}

#[test]
fn a_snapshot_is_the_state_between_two_samples_and_comes_back_in_its_own_box() {
    let config = config();
    let state = Box::new(model(&config).learnt().clone());
    let place: *const Learnt = &*state;
    let runtime = start(&config);
    let (sender, torques, commands) = (runtime.sender(), runtime.torques(), runtime.commands());
    let samples = samples(&config, 500);
    for sample in &samples {
        sender.send(now(sample)).unwrap();
        torques.recv(PATIENCE).unwrap();
    }
    assert!(commands.send(Command::Snapshot(state)).is_ok());
    let filled = loop {
        match commands.take_back() {
            Some(state) => break state,
            None => std::thread::yield_now(),
        }
    };
    assert!(std::ptr::eq(&*filled, place));
    let stopped = runtime.stop().unwrap();
    let motion = samples[0].motion;
    assert_eq!(predict(filled.learner(), &motion), predict(stopped.model.learner(), &motion));
}

#[test]
fn one_snapshot_at_a_time_and_none_from_a_thread_that_has_ended() {
    let config = config();
    let state = || Box::new(model(&config).learnt().clone());
    let (first, second, third) = (state(), state(), state());
    let runtime = start(&config);
    let commands = runtime.commands();
    assert!(commands.send(Command::Snapshot(first)).is_ok());
    assert!(commands.send(Command::Snapshot(second)).is_err(), "until the first is taken");
    runtime.stop().unwrap();
    assert!(commands.take_back().is_some());
    assert!(commands.send(Command::Snapshot(third)).is_err());
}

#[test]
fn disabled_it_sends_zero_and_frozen_it_does_not_learn() {
    let config = Config { limit_ramp: 0.0, ..config() };
    let before = model(&config).learner().clone();
    let runtime = start(&config);
    let (sender, torques, commands) = (runtime.sender(), runtime.torques(), runtime.commands());
    assert!(commands.send(Command::SetEnabled(false)).is_ok());
    let frozen = Tuning { learning: false, ..Tuning::from_config(&config) };
    assert!(commands.send(Command::Tune(frozen)).is_ok());
    let samples = samples(&config, 300);
    for sample in &samples {
        sender.send(now(sample)).unwrap();
        let torque = torques.recv(PATIENCE).unwrap();
        assert_eq!(torque.feedforward, [0.0; MAX_JOINTS]);
        assert_ne!(torque.rigid_body, [0.0; MAX_JOINTS]);
    }
    let telemetry = runtime.telemetry();
    let stopped = runtime.stop().unwrap();
    let motion = &samples[9].motion;
    assert_eq!(predict(&before, motion), predict(stopped.model.learner(), motion));
    let (mut seen, mut batches) = (0, 0);
    while let Some(telemetry) = telemetry.try_recv() {
        match telemetry {
            Telemetry::Sample(timing) => {
                assert!(timing.arrival_to_torque_ns >= timing.predict_ns && timing.predict_ns > 0);
                seen += 1;
            }
            Telemetry::Batch(report) => {
                assert_eq!((report.done, report.skipped), (7, 0));
                batches += 1;
            }
        }
    }
    assert_eq!((seen, batches), (300, 29));
}

#[test]
fn disabled_it_gets_to_zero_by_the_clock_where_the_stamps_hardly_advance() {
    let config = Config { limit_ramp: 0.02, limit_decay: 0.05, limit_rate: 1e9, ..config() };
    let runtime = start(&config);
    let (sender, torques, commands) = (runtime.sender(), runtime.torques(), runtime.commands());
    let mut torque = Torque::default();
    let samples = samples(&config, 100);
    for sample in &samples {
        sender.send(now(sample)).unwrap();
        torque = torques.recv(PATIENCE).unwrap();
    }
    assert!(torque.feedforward[1].abs() > 10.0, "{:?}", torque.feedforward);
    assert!(commands.send(Command::SetEnabled(false)).is_ok());
    let began = std::time::Instant::now();
    let mut before = torque.feedforward[1].abs();
    for ns in 1.. {
        let stamp_ns = samples[99].stamp_ns + ns;
        sender.send(Sample { stamp_ns, ..now(&samples[99]) }).unwrap();
        let size = torques.recv(PATIENCE).unwrap().feedforward[1].abs();
        assert!(size <= before && before - size < 15.0, "{before} {size}");
        before = size;
        if runtime.is_at_zero() {
            break;
        }
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(before, 0.0);
}

/// One joint; panics where the test says.
#[derive(Default)]
struct Fragile {
    in_predict: bool,
    in_step: bool,
    in_warm_up: bool,
    seen: u32,
}

impl Model for Fragile {
    type State = ();
    fn joints(&self) -> usize {
        1
    }
    fn predict(&mut self, _: &Motion) -> Prediction {
        self.seen += 1;
        assert!(!(self.in_predict && self.seen == 25), "the predictor broke");
        let mut torque = Prediction::default();
        (torque.predicted[0], torque.commanded[0]) = (5.0, 5.0);
        torque
    }
    fn observe(&mut self, _: &Observation) -> bool {
        self.seen.is_multiple_of(10)
    }
    fn step(&mut self, _: usize) {
        assert!(!(self.in_step && self.seen == 20), "the learner broke");
    }
    fn end_batch(&mut self) {}
    fn warm_up(&mut self) {
        assert!(!self.in_warm_up, "it never began");
    }
}

/// Sends until the thread is gone; the last torque and how the thread ended.
fn run_to_the_end(model: Fragile) -> (Torque, RealtimeError) {
    let config = Config { limit_ramp: 0.0, ..config() };
    let runtime = start_with(&config, model).unwrap();
    let (sender, torques) = (runtime.sender(), runtime.torques());
    let mut last = None;
    for k in 0..1000 {
        let sample = Sample {
            seq: k,
            stamp_ns: k as i64 * MS,
            // With a reference there is one prediction per sample, which is what `Fragile` counts.
            reference: Some(Motion::default()),
            observation: Some(Observation::default()),
            ..Sample::default()
        };
        let sent = sender.send(now(&sample));
        last = torques.recv(PATIENCE).or(last);
        if sent.is_err() {
            break;
        }
    }
    last = torques.newest(PATIENCE).or(last);
    assert_eq!(runtime.status(), Status::Panicked);
    (last.unwrap(), runtime.stop().map(|_| ()).unwrap_err())
}

#[test]
fn a_panic_in_the_model_ends_in_zero_torque_and_an_error_never_in_a_hang() {
    for (model, seq, message) in [
        (Fragile { in_predict: true, ..Fragile::default() }, 24, "the predictor broke"),
        (Fragile { in_step: true, ..Fragile::default() }, 19, "the learner broke"),
    ] {
        let (last, error) = run_to_the_end(model);
        assert_eq!((last.seq, last.feedforward), (seq, [0.0; MAX_JOINTS]));
        assert!(
            matches!(&error, RealtimeError::Panicked { message: said } if said.starts_with(&format!("{message} (tests/realtime.rs:"))),
            "{error}"
        );
    }
    let error = start_with(&config(), Fragile { in_warm_up: true, ..Fragile::default() }).err().unwrap();
    assert!(matches!(&error, RealtimeError::Panicked { message } if message == "it never began"), "{error}");
}

#[test]
fn enforced_it_refuses_to_start_without_what_it_asked_for_and_warned_it_runs_and_says_so() {
    let start = |realtime: &str| {
        let config = Config { realtime: realtime.into(), cpu_affinity: vec![1023], ..config() };
        start_with(&config, Fragile::default())
    };
    let error = start("enforce").err().unwrap();
    assert!(matches!(&error, RealtimeError::NotGranted(_)), "{error}");
    assert!(error.to_string().contains("CPU 1023"), "{error}");
    let runtime = start("warn").unwrap();
    assert_eq!(runtime.grants().refusals().count(), 1);
    runtime.stop().unwrap();
}

/// Waits in its first prediction until it is let go.
struct Waiting {
    go: mpsc::Receiver<()>,
    gone: bool,
}

impl Model for Waiting {
    type State = ();
    fn joints(&self) -> usize {
        1
    }
    fn predict(&mut self, _: &Motion) -> Prediction {
        if !std::mem::replace(&mut self.gone, true) {
            self.go.recv().unwrap();
        }
        Prediction::default()
    }
    fn observe(&mut self, _: &Observation) -> bool {
        false
    }
    fn step(&mut self, _: usize) {}
    fn end_batch(&mut self) {}
}

#[test]
fn a_full_ring_keeps_the_oldest_and_counts_the_newest() {
    let (let_go, go) = mpsc::channel();
    let runtime = start_with(&Config { ring: 4, ..config() }, Waiting { go, gone: false }).unwrap();
    let (sender, torques) = (runtime.sender(), runtime.torques());
    let sample = |seq: u64| Sample { seq, stamp_ns: seq as i64 * MS, ..Sample::default() };
    sender.send(sample(0)).unwrap();
    while sender.backlog() > 0 {
        std::thread::yield_now();
    }
    let sent: Vec<bool> = (1..=6).map(|seq| sender.send(sample(seq)).is_ok()).collect();
    assert_eq!(sent, [true, true, true, true, false, false]);
    assert_eq!(runtime.counts().ring_full, 2);
    let_go.send(()).unwrap();
    runtime.stop().unwrap();
    let answered: Vec<u64> = std::iter::from_fn(|| torques.recv(Duration::ZERO)).map(|t| t.seq).collect();
    assert_eq!(answered, [1, 2, 3, 4], "of five torques in a ring of four, the newest win");
}
