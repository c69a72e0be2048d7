//! How long one learning step of a seven-joint arm and one prediction take: `cargo bench --bench step`.
//!
//! The default learner ([50, 50, 50], K = 20, batch of ten) streams a smooth motion at 1 kHz, as the node would.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use metagd::config::Config;
use metagd::learn::{ArmLearner, Batch};
use metagd::sample::{MAX_JOINTS, Motion, Observation, PerJoint};

const JOINTS: usize = 7;
const STEPS: usize = 2_000;

fn motion(t: f64) -> Motion {
    let mut motion = Motion::default();
    for j in 0..JOINTS {
        let (w, phase) = (0.8 + 0.15 * j as f64, 0.9 * j as f64);
        motion.q[j] = (w * t + phase).sin();
        motion.qd[j] = w * (w * t + phase).cos();
        motion.qdd[j] = -w * w * (w * t + phase).sin();
    }
    motion
}

fn main() {
    let joints: Vec<String> = (1..=JOINTS).map(|j| format!("joint_{j}")).collect();
    println!(
        "{:24} {:>10} {:>10} {:>10} {:>10} {:>6}",
        "learner", "step min", "median", "p99", "predict", "live"
    );
    for learner in ["gd", "adam", "metagd", "metagd-momentum", "metagd-memadam", "adam+memory"] {
        let config = Config { learner: learner.to_string(), ..Config::default() };
        let mut arm = ArmLearner::new(&config, &joints).expect("seven joints");
        let mut batch = Batch::new(JOINTS, config.batch);
        let mut out = PerJoint::default();
        let (mut steps, mut predictions, mut live) = (vec![], vec![], 0.0);
        for step in 0..STEPS {
            batch.clear();
            while !batch.is_full() {
                let motion = motion(1e-3 * (step * config.batch + batch.len()) as f64);
                let mut effort = [0.0; MAX_JOINTS];
                for (effort, (q, qd)) in effort.iter_mut().zip(motion.q.iter().zip(&motion.qd)) {
                    *effort = 3.0 * q.sin() + (qd / 0.1).tanh();
                }
                let start = Instant::now();
                arm.predict(&motion, &[0.0; MAX_JOINTS], &mut out);
                predictions.push(start.elapsed().as_nanos());
                std::hint::black_box(&out);
                batch.push(&Observation { stamp_ns: 0, motion, effort }, &[0.0; MAX_JOINTS]);
            }
            let start = Instant::now();
            let reports: [_; JOINTS] = std::array::from_fn(|joint| arm.step(joint, &batch));
            steps.push(start.elapsed().as_nanos());
            live += reports.iter().map(|r| r.live_units).sum::<f64>() / (JOINTS * STEPS) as f64;
        }
        steps.sort_unstable();
        predictions.sort_unstable();
        let us = |ns: u128| ns as f64 / 1e3;
        println!(
            "{learner:24} {:>7.1} us {:>7.1} us {:>7.1} us {:>7.2} us {:>5.0}%",
            us(steps[0]),
            us(steps[STEPS / 2]),
            us(steps[STEPS * 99 / 100]),
            us(predictions[predictions.len() / 2]),
            100.0 * live
        );
    }
}
