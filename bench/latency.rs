//! What a sample waits for, on the live pipeline, under every `wait`: `cargo bench --bench latency -- --seconds 30`.
//!
//! The pinned thread as the node runs it (default parameters, built-in arm), fed at 1 kHz by another thread, its torques taken
//! by a third; an idle probe of the same priority beside it. The modes take turns, `--rounds` times (3). `-p NAME:=VALUE` sets a
//! parameter of all of them, `--json` prints JSON.
//!
//! `ours` is what a sample takes besides the wake-up: `predict`, and `hand_over` (intake, both rings, and the system call that
//! wakes the publisher). `wake_up` is the kernel's (or, polled, the cache's). `CPU` is the pinned thread's share of its CPU.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use metagd::config::Config;
use metagd::dynamics::Arm;
use metagd::realtime::{
    Clock, Intake, InverseDynamics, MonotonicClock, Pipeline, Probe, Runtime, Telemetry, probe,
};
use metagd::report::{Table, number};
use metagd::ros::params::{self, Source};
use metagd::sample::{Motion, PerJoint};
use serde_json::json;

const MODES: [&str; 3] = ["park", "hybrid", "spin"];
const STAGES: [&str; 10] = [
    "arrival_to_torque",
    "wake_up",
    "ours",
    "predict",
    "hand_over",
    "step_wall",
    "step_cpu",
    "batch_to_done",
    "probe",
    "probe_before",
];

/// One mode's latencies, ns, by stage, over all rounds.
#[derive(Default)]
struct Found {
    stages: BTreeMap<&'static str, Vec<i64>>,
    batches: u64,
    misses: u64,
    cpu: Duration,
    wall: Duration,
}

impl Found {
    fn add(&mut self, stage: &'static str, ns: i64) {
        self.stages.entry(stage).or_default().push(ns);
    }

    fn record(&mut self, told: &Telemetry) {
        match told {
            Telemetry::Sample(sample) => {
                self.add("arrival_to_torque", sample.arrival_to_torque_ns);
                self.add("predict", sample.predict_ns);
                // A sample that came during a step has waited for the step.
                if let Some(wake_up_ns) = sample.wake_up_ns {
                    self.add("wake_up", wake_up_ns);
                    let ours_ns = sample.arrival_to_torque_ns - wake_up_ns;
                    self.add("ours", ours_ns);
                    self.add("hand_over", ours_ns - sample.predict_ns);
                }
            }
            Telemetry::Batch(batch) => {
                self.batches += 1;
                self.misses += u64::from(batch.missed);
                self.add("step_wall", batch.done_ns - batch.started_ns);
                self.add("step_cpu", batch.cpu_ns);
                self.add("batch_to_done", batch.done_ns - batch.arrival_ns);
            }
        }
    }

    /// Count, p50, p99, p99.9 and maximum, µs.
    fn figures(&mut self, stage: &str) -> Option<(usize, [f64; 4])> {
        let values = self.stages.get_mut(stage)?;
        values.sort_unstable();
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize] as f64 * 1e-3;
        Some((values.len(), [0.5, 0.99, 0.999, 1.0].map(at)))
    }
}

fn main() {
    let given = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    let number_of = |name: &str, default: f64| match given(name) {
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is not a number")),
        None => default,
    };
    let (seconds, rounds) = (number_of("--seconds", 10.0), number_of("--rounds", 3.0) as usize);
    let arguments: Vec<String> = std::env::args().collect();
    let overrides = arguments.iter().zip(arguments.iter().skip(1)).filter(|(name, _)| *name == "-p");
    let sources: Vec<Source> = overrides.map(|(_, value)| Source::Override(value.clone())).collect();
    let mut found: [Found; MODES.len()] = std::array::from_fn(|_| Found::default());
    for _ in 0..rounds {
        for (mode, found) in MODES.iter().zip(&mut found) {
            let config = params::config(&sources, "/metagd").unwrap_or_else(|error| panic!("{error}"));
            run(&Config { wait: mode.to_string(), ..config }, seconds, found);
        }
    }
    if std::env::args().any(|arg| arg == "--json") {
        let of_mode = |found: &mut Found| {
            let figures = STAGES.iter().filter_map(|stage| {
                let (count, [p50, p99, p999, max]) = found.figures(stage)?;
                let figures =
                    json!({"count": count, "p50_us": p50, "p99_us": p99, "p999_us": p999, "max_us": max});
                Some((stage.to_string(), figures))
            });
            let stages: serde_json::Map<_, _> = figures.collect();
            let cpu = found.cpu.as_secs_f64() / found.wall.as_secs_f64();
            json!({"stages": stages, "batches": found.batches, "misses": found.misses, "cpu": cpu})
        };
        let modes = MODES.iter().zip(&mut found).map(|(mode, found)| (mode.to_string(), of_mode(found)));
        println!("{:#}", serde_json::Value::Object(modes.collect()));
        return;
    }
    let mut table = Table::new(2, &["stage [µs]", "wait", "count", "p50", "p99", "p99.9", "max"]);
    for stage in STAGES {
        for (mode, found) in MODES.iter().zip(&mut found) {
            if let Some((count, figures)) = found.figures(stage) {
                let cells = [stage.to_string(), mode.to_string(), count.to_string()];
                table.row(cells.into_iter().chain(figures.map(number)));
            }
        }
    }
    print!("{}", table.render());
    for (mode, found) in MODES.iter().zip(&found) {
        let cpu = 100.0 * found.cpu.as_secs_f64() / found.wall.as_secs_f64();
        println!("{mode}: {} batches, {} missed, CPU {cpu:.1} %", found.batches, found.misses);
    }
}

/// One round of one mode.
fn run(config: &Config, seconds: f64, found: &mut Found) {
    let arm = Arm::from_urdf_str(metagd::sim::LWR_URDF, &[], [0.0, 0.0, -9.81]).expect("the built-in arm");
    let loaded = arm.clone().with_payload(1.0, [0.0, 0.0, 0.1]);
    let joints = arm.joint_names().to_vec();
    let mut intake = Intake::new(config, &joints).expect("seven joints");
    let model = InverseDynamics::new(config, Some(arm), &joints).expect("seven joints");
    let limits = model.limits(config).expect("the arm has limits");
    let clock = MonotonicClock::new();
    let runtime = Runtime::start(config, Pipeline::new(config, model, limits, clock))
        .expect("the pinned thread starts");
    let cpus = runtime.grants().cpus.clone();
    for tick in probe::before(cpus[0], config.thread_priority as i32, Duration::from_millis(500)) {
        found.add("probe_before", tick.late_ns);
    }
    let beside = Probe::start(config, &cpus);
    let (sender, torques, telemetry) = (runtime.sender(), runtime.torques(), runtime.telemetry());
    let done = AtomicBool::new(false);
    let (cpu_before, started) = (pinned_cpu(), Instant::now());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                std::hint::black_box(torques.newest(Duration::from_millis(100)));
            }
        });
        for k in 0..(seconds * 1e3) as i64 {
            let due = started + Duration::from_millis(k as u64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let motion = motion(1e-3 * k as f64, joints.len());
            let effort = loaded.inverse_dynamics(&motion);
            let arrival_ns = clock.now_ns();
            let sample = intake.row(k * 1_000_000, arrival_ns, &motion.q, &motion.qd, None, &effort);
            let _ = sender.send(sample.expect("a complete row"));
            // The sender has time for it until the next is due.
            while let Some(told) = telemetry.try_recv() {
                found.record(&told);
            }
            while let Some(tick) = beside.as_ref().and_then(Probe::try_recv) {
                found.add("probe", tick.late_ns);
            }
        }
        done.store(true, Ordering::Release);
    });
    found.cpu += pinned_cpu().saturating_sub(cpu_before);
    found.wall += started.elapsed();
    runtime.stop().expect("it stops cleanly");
}

fn motion(t: f64, joints: usize) -> Motion {
    let wave = |joint: usize, phase: f64| {
        if joint < joints { (1.5 * t + joint as f64 + phase).sin() * 0.4 } else { 0.0 }
    };
    let of = |factor: f64, phase: f64| -> PerJoint { std::array::from_fn(|j| factor * wave(j, phase)) };
    Motion { q: of(1.0, 0.0), qd: of(1.5, std::f64::consts::FRAC_PI_2), qdd: of(-2.25, 0.0) }
}

/// The CPU time that the pinned thread has used; zero if the kernel does not tell.
fn pinned_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_pinned = tasks
        .map(|task| task.path())
        .find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "metagd-rt"));
    let stat = of_pinned.and_then(|task| std::fs::read_to_string(task.join("schedstat")).ok());
    let ns = stat.and_then(|stat| stat.split(' ').next()?.parse().ok());
    Duration::from_nanos(ns.unwrap_or(0))
}
