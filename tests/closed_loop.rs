//! The loop closed: the simulated arm adds the torque that the pipeline answers its measurements with, tick by tick, and
//! the pipeline learns from the effort that comes of it. No thread, no clock, no middleware: the same figures every time.

use metagd::config::Config;
use metagd::dynamics::Arm;
use metagd::realtime::{Intake, InverseDynamics, Pipeline};
use metagd::sim::{LWR_URDF, Metrics, Mode, Score, Script, Session, SimOptions, Task};

/// What a run varies.
struct Loop {
    task: Task,
    seed: u64,
    seconds: f64,
    /// Whether the node is told the motion that is wanted.
    with_reference: bool,
}

impl Loop {
    /// Payload none, light, heavy; with each, the feed-forward of the node, none, and the rigid body's take turns.
    fn run(&self, config: &Config) -> Metrics {
        let arm = Arm::from_urdf_str(LWR_URDF, &[], [0.0, 0.0, -9.81]).unwrap();
        let (joints, n) = (arm.joint_names().to_vec(), arm.len());
        let mut script = Script::demo(self.seconds, self.seed);
        script.trials.iter_mut().for_each(|trial| trial.task = self.task);
        let options = SimOptions { seed: self.seed, ..SimOptions::default() };
        let mut session = Session::new(&arm, &options, &script).unwrap();
        let model = InverseDynamics::new(config, Some(arm), &joints).unwrap();
        let limits = model.limits(config).unwrap();
        let mut pipeline = Pipeline::deterministic(config, model, limits);
        let mut intake = Intake::new(config, &joints).unwrap();
        while !session.is_done() {
            let now = session.now();
            let (at, wanted, measured) = (now.stamp_ns, now.reference, now.measurement);
            if self.with_reference {
                let (q, qd, qdd) = (&wanted.q[..n], &wanted.qd[..n], &wanted.qdd[..n]);
                intake.reference(&joints, q, qd, qdd, at).unwrap();
            }
            let sample = intake.row(at, at, &measured.q, &measured.qd, None, &measured.effort).unwrap();
            let (torque, _) = pipeline.serve(&sample);
            session.tick(Some(&torque.feedforward)).expect("bounded");
        }
        session.metrics()
    }
}

fn score<'a>(scores: &'a [Score], mode: Mode, like: &Score) -> &'a Score {
    scores.iter().find(|score| score.mode == mode && score.payload == like.payload).unwrap()
}

fn overall(score: &Score) -> f64 {
    score.tracking_rms_rad.iter().map(|rms| rms * rms).sum::<f64>()
}

/// With every payload: no joint tracks worse than `ratio` times what it does without feed-forward; and over all joints and
/// payloads the node's is better than the nominal rigid body's.
fn assert_helps_every_joint(metrics: &Metrics, ratio: f64) {
    for node in metrics.by_payload.iter().filter(|score| score.mode == Mode::Node) {
        let off = score(&metrics.by_payload, Mode::Off, node);
        let rms = node.tracking_rms_rad.iter().zip(&off.tracking_rms_rad);
        for ((node_rms, off_rms), name) in rms.zip(&metrics.joints) {
            let payload = node.payload;
            assert!(*node_rms <= ratio * off_rms, "{name}, {payload:?}: {node_rms} rad, {off_rms} without");
        }
    }
    let node = metrics.mode(Mode::Node).unwrap();
    let rigid_body = score(&metrics.by_mode, Mode::RigidBody, node);
    assert!(overall(node) < overall(rigid_body), "{node:?}, {rigid_body:?}");
}

#[test]
fn over_a_minute_of_lifts_the_node_helps_every_joint() {
    let lifts = Loop { task: Task::Lift, seed: 1, seconds: 60.0, with_reference: true };
    let metrics = lifts.run(&Config::default());
    assert_helps_every_joint(&metrics, 0.7);
    let node = metrics.mode(Mode::Node).unwrap();
    let rigid_body = score(&metrics.by_mode, Mode::RigidBody, node);
    assert!(overall(node) < 0.01 * overall(rigid_body), "a tenth of the rigid body's RMS");
}

#[test]
fn it_helps_every_joint_around_rectangles_too() {
    for (task, seed) in [(Task::RectangleHorizontal, 2), (Task::RectangleVertical, 3)] {
        let rectangles = Loop { task, seed, seconds: 24.0, with_reference: true };
        assert_helps_every_joint(&rectangles.run(&Config::default()), 1.0);
    }
}

/// The measured acceleration must not come back as torque: with it the arm shakes, wrist and axis 1 by ten times what they do without.
#[test]
fn without_a_reference_it_neither_shakes_nor_harms_any_joint() {
    for (task, seed) in [(Task::Lift, 1), (Task::RectangleVertical, 2)] {
        let blind = Loop { task, seed, seconds: 24.0, with_reference: false };
        assert_helps_every_joint(&blind.run(&Config::default()), 1.2);
    }
}

/// Networks that begin with a random output are off by as much as a whole payload in the wrist; the gate must see that.
#[test]
fn the_gate_keeps_the_nonsense_of_fresh_networks_from_the_wrist() {
    let config = Config { zero_output: false, ..Config::default() };
    let lifts = Loop { task: Task::Lift, seed: 3, seconds: 24.0, with_reference: true };
    assert_helps_every_joint(&lifts.run(&config), 1.5);
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let lifts = Loop { task: Task::Lift, seed: 4, seconds: 16.0, with_reference: true };
    assert_eq!(lifts.run(&Config::default()), lifts.run(&Config::default()));
}
