//! The learning step and the prediction of all joints: `cargo bench --bench step`.
//!
//! By size, number of local models, batch, joints and instruction set (divan's columns: the fastest is the machine's speed,
//! the median what to expect beside others). A smooth motion at 1 kHz, as a robot makes it, so that a good part of the units
//! is silent for a whole batch; `dense` draws every sample by itself, so that hardly any is.
//!
//! Before that, one pass over recordings (`../shared/data`, or the folder that METAGD_DATA names): the CPU time of every
//! single step, the worst one included.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use divan::Bencher;
use divan::counter::ItemsCount;
use metagd::bag::{Recording, RecordingOptions};
use metagd::config::Config;
use metagd::learn::{ArmLearner, Batch, InstructionSet};
use metagd::realtime::{Clock, MonotonicClock};
use metagd::sample::{MAX_JOINTS, Motion, Observation, PerJoint};

fn main() {
    recordings();
    divan::main();
}

fn names(joints: usize) -> Vec<String> {
    (1..=joints).map(|j| format!("joint_{j}")).collect()
}

fn motion(t: f64) -> Motion {
    let mut motion = Motion::default();
    for j in 0..MAX_JOINTS {
        let (w, phase) = (0.8 + 0.15 * j as f64, 0.9 * j as f64);
        motion.q[j] = (w * t + phase).sin();
        motion.qd[j] = w * (w * t + phase).cos();
        motion.qdd[j] = -w * w * (w * t + phase).sin();
    }
    motion
}

/// A learner in full swing, and batches to go on with.
struct Stream {
    arm: ArmLearner,
    batches: Vec<Batch>,
    next: usize,
}

impl Stream {
    const BATCHES: usize = 256;

    fn new(config: &Config, joints: usize, seconds_per_sample: f64) -> Stream {
        let mut arm = ArmLearner::new(config, &names(joints)).expect("a fair configuration");
        let mut t = 0.0;
        let batches = (0..Self::BATCHES).map(|_| {
            let mut batch = Batch::new(config, joints);
            while !batch.is_full() {
                t += seconds_per_sample;
                let motion = motion(t);
                let mut effort = PerJoint::default();
                for (effort, (q, qd)) in effort.iter_mut().zip(motion.q.iter().zip(&motion.qd)) {
                    *effort = 3.0 * q.sin() + (qd / 0.1).tanh();
                }
                batch.push(&Observation { stamp_ns: 0, motion, effort }, &PerJoint::default());
            }
            batch
        });
        let batches: Vec<Batch> = batches.collect();
        for batch in &batches {
            for joint in 0..joints {
                arm.step(joint, batch);
            }
        }
        Stream { arm, batches, next: 0 }
    }

    fn step(&mut self) -> f64 {
        let batch = &self.batches[self.next % Self::BATCHES];
        self.next += 1;
        (0..self.arm.joints()).map(|joint| self.arm.step(joint, batch).live_units).sum()
    }
}

const SMOOTH: f64 = 1e-3;
const INDEPENDENT: f64 = 1.7;

fn bench(bencher: Bencher, config: &Config, joints: usize, seconds_per_sample: f64) {
    let mut stream = Stream::new(config, joints, seconds_per_sample);
    bencher.counter(ItemsCount::new(config.batch)).bench_local(|| stream.step());
}

#[divan::bench(args = InstructionSet::available(), sample_count = 500, sample_size = 4)]
fn smooth(bencher: Bencher, set: InstructionSet) {
    let mut stream = Stream::new(&Config::default(), 7, SMOOTH);
    stream.arm.set_instructions(set);
    bencher.bench_local(|| stream.step());
}

#[divan::bench(args = InstructionSet::available(), sample_count = 500, sample_size = 4)]
fn dense(bencher: Bencher, set: InstructionSet) {
    let mut stream = Stream::new(&Config::default(), 7, INDEPENDENT);
    stream.arm.set_instructions(set);
    bencher.bench_local(|| stream.step());
}

/// Without the integrator, which looks at the network once more after its update: the paper's step.
#[divan::bench(args = [("smooth", SMOOTH), ("dense", INDEPENDENT)], sample_count = 500, sample_size = 4)]
fn the_papers(bencher: Bencher, (_, every): (&str, f64)) {
    bench(bencher, &Config { integrator_gain: 0.0, ..Config::default() }, 7, every);
}

#[divan::bench(args = ["gd", "adam", "metagd", "metagd-momentum", "metagd-memadam", "adam+memory"], sample_count = 200, sample_size = 2)]
fn learner(bencher: Bencher, name: &str) {
    bench(bencher, &Config { learner: name.into(), ..Config::default() }, 7, SMOOTH);
}

#[divan::bench(args = [&[50, 50, 50][..], &[100, 100, 100], &[200, 100, 50]], sample_count = 200, sample_size = 2)]
fn hidden(bencher: Bencher, hidden: &[usize]) {
    bench(bencher, &Config { hidden: hidden.to_vec(), ..Config::default() }, 7, SMOOTH);
}

#[divan::bench(args = [10, 20, 21, 50, 100, 200], sample_count = 200, sample_size = 2)]
fn models(bencher: Bencher, models: usize) {
    bench(bencher, &Config { memory_models: models, ..Config::default() }, 7, SMOOTH);
}

#[divan::bench(args = ["linear", "log"], sample_count = 100, sample_size = 1)]
fn centres(bencher: Bencher, centres: &str) {
    bench(bencher, &Config { memory_centres: centres.into(), ..Config::default() }, 7, SMOOTH);
}

#[divan::bench(args = [1, 5, 10, 16, 20, 50, 100], sample_count = 200, sample_size = 2)]
fn batch(bencher: Bencher, batch: usize) {
    bench(bencher, &Config { batch, ..Config::default() }, 7, SMOOTH);
}

#[divan::bench(args = [1, 2, 4, 7, 12, 16], sample_count = 200, sample_size = 2)]
fn joints(bencher: Bencher, joints: usize) {
    bench(bencher, &Config::default(), joints, SMOOTH);
}

/// Seven networks, one sample.
#[divan::bench(args = InstructionSet::available(), sample_count = 500, sample_size = 20)]
fn predict(bencher: Bencher, set: InstructionSet) {
    let mut stream = Stream::new(&Config::default(), 7, SMOOTH);
    stream.arm.set_instructions(set);
    let motions: Vec<Motion> = (0..1000).map(|i| motion(1e-3 * f64::from(i))).collect();
    let (mut out, mut next) = (PerJoint::default(), 0);
    bencher.bench_local(|| {
        next = (next + 1) % motions.len();
        stream.arm.predict(&motions[next], &PerJoint::default(), &mut out);
        out[0]
    });
}

/// One pass over each recording with the default learner, on raw torques (no rigid body: the hardest case).
fn recordings() {
    let data = std::env::var_os("METAGD_DATA").map_or(PathBuf::from("../shared/data"), PathBuf::from);
    let arm = ArmLearner::new(&Config::default(), &names(7)).expect("seven joints");
    let bytes = arm.joint(0).map_or(0, |joint| joint.network().working_set(7));
    println!("working set of seven joints (weights, last gradients, one gradient): {} kB\n", bytes / 1000);
    let files = ["kuka_lwr4plus/kuka_lwr4plus_meas1.csv.gz", "kuka_pickplace/kuka_pickplace_10runs.csv.gz"];
    println!(
        "{:32} {:>6} {:>10} {:>10} {:>10} {:>10} {:>10} {:>9} {:>6}",
        "one pass, 7 joints, CPU time", "steps", "min", "median", "p99", "p99.9", "worst", "/ median", "live"
    );
    for file in files {
        let path = data.join(file);
        if !path.exists() {
            println!("{file:32} SKIPPED: {} is not there", path.display());
            continue;
        }
        let recording = Recording::open(&path, &RecordingOptions::default()).expect("a recording");
        let joints = recording.joints().len();
        let config = Config::default();
        let mut arm = ArmLearner::new(&config, recording.joints()).expect("seven joints");
        let mut batch = Batch::new(&config, joints);
        let clock = MonotonicClock::new();
        let (mut times, mut live) = (vec![], 0.0);
        for row in recording.rows().expect("its rows") {
            let row = row.expect("a row");
            let motion = Motion { q: row.q, qd: row.qd, qdd: row.qdd.unwrap_or_default() };
            batch.push(
                &Observation { stamp_ns: row.stamp_ns, motion, effort: row.effort },
                &PerJoint::default(),
            );
            if batch.is_full() {
                let start = clock.thread_cpu_ns();
                live +=
                    (0..joints).map(|joint| arm.step(joint, &batch).live_units).sum::<f64>() / joints as f64;
                times.push(clock.thread_cpu_ns() - start);
                batch.clear();
            }
        }
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1e3;
        println!(
            "{:32} {:>6} {:>7.1} us {:>7.1} us {:>7.1} us {:>7.1} us {:>7.1} us {:>9.1} {:>5.0}%",
            path.file_name().unwrap_or_default().to_string_lossy(),
            times.len(),
            at(0.0),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            at(1.0) / at(0.5),
            100.0 * live / times.len() as f64
        );
    }
}
