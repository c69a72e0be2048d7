//! The commands together, as a user runs them: what one writes or publishes, the other takes.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{PROGRAM, Process, assignment, text, urdf};
use metagd::config::PARAMETERS;
use metagd::dynamics::Arm;
use metagd::msg::{Float64MultiArray, Header, JointState, Time};
use metagd::ros::dds::DdsConnection;
use metagd::ros::{self, Connection, Network, NodeOptions, Publisher, Qos, Stop};
use metagd::sample::{Motion, PerJoint};
use serde_json::Value;

const PERCENTILES: [&str; 6] = ["p50_us", "p90_us", "p99_us", "p999_us", "p9999_us", "max_us"];

/// One live graph at a time: two pinned threads on one CPU would take it from each other.
fn live() -> MutexGuard<'static, ()> {
    static LIVE: Mutex<()> = Mutex::new(());
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn metagd(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).env("ROS_LOCALHOST_ONLY", "1").output().unwrap()
}

/// Standard output as JSON, of a run that must succeed.
fn json(arguments: &[&str]) -> Value {
    parsed(arguments, &metagd(arguments))
}

fn parsed(arguments: &[&str], output: &Output) -> Value {
    let log = text(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {log}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {log}"))
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap_or_else(|| panic!("a list, not {value}"));
    list.iter().map(|value| value.as_f64().unwrap_or_else(|| panic!("a number, not {value}"))).collect()
}

fn file(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn count(latency: &Value, stage: &str) -> u64 {
    latency["stages"][stage]["count"].as_u64().unwrap_or_else(|| panic!("no {stage} in {latency}"))
}

fn names(arm: &Arm) -> Vec<Value> {
    arm.joint_names().iter().map(|name| Value::from(name.as_str())).collect()
}

fn lwr() -> Arm {
    Arm::from_urdf(Path::new(&urdf()), &[], [0.0, 0.0, -9.81]).unwrap()
}

/// One lift of the simulated arm as a bag; the number of its joint states, of which each has its reference.
fn simulate(bag: &str, storage: &str) -> u64 {
    let written = json(&["simulate", "--out", bag, "--storage", storage, "--trials", "1", "--json"]);
    let messages = written["bag"]["messages"].as_u64().unwrap();
    assert!(messages > 4000 && messages.is_multiple_of(2), "{written}");
    messages / 2
}

#[test]
fn the_demo_keeps_its_promise_and_leaves_a_run_folder() {
    let _alone = live();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let figures = json(&["demo", "--seconds", "16", "--json", "--out", run.to_str().unwrap()]);

    let error = &figures["tracking_rms_rad"];
    let (with, without) = (numbers(&error["with"]), numbers(&error["without"]));
    assert_eq!((with.len(), without.len(), numbers(&figures["torque_rms_nm"]).len()), (7, 7, 7), "{figures}");
    let sum = |errors: &[f64]| errors.iter().sum::<f64>();
    assert!(sum(&with) > 0.0 && sum(&with) < 0.5 * sum(&without), "with {with:?}, without {without:?} rad");
    assert_eq!(figures["feedforward"]["non_finite"], 0);

    let latency = &figures["latency"];
    for stage in [
        "transport",
        "wake_up",
        "predict",
        "arrival_to_torque",
        "step_wall",
        "step_cpu",
        "batch_to_done",
        "probe",
    ] {
        assert!(count(latency, stage) > 0, "{stage}: {latency}");
        let percentiles = PERCENTILES.map(|name| {
            let value = &latency["stages"][stage][name];
            value.as_f64().unwrap_or_else(|| panic!("{name} of {stage}: {latency}"))
        });
        assert!(percentiles.is_sorted(), "{stage}: {percentiles:?}");
    }
    for name in ["batches", "misses", "worst_consecutive"] {
        assert!(latency["deadline"][name].is_u64(), "{name}: {latency}");
    }
    assert!(!latency["drops"].as_object().unwrap().is_empty(), "{latency}");
    assert_eq!(latency["pinned_thread"]["allocations"], 0, "{latency}");
    assert_eq!(latency["pinned_thread"]["non_finite"], 0, "{latency}");

    assert_eq!(Path::new(figures["run"].as_str().unwrap()), run.canonicalize().unwrap());
    for name in ["latency.hlog", "checkpoint.safetensors", "params.yaml", "node.log", "simulator.log"] {
        assert!(run.join(name).metadata().is_ok_and(|file| file.len() > 0), "{name}");
    }
    assert_eq!(file(&run.join("demo.json")), figures);
    assert_eq!(file(&run.join("latency.json")), figures["latency"]);
}

#[test]
fn a_simulated_bag_is_replayed_alike_from_either_storage() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let mut scores = Vec::new();
    let mut checkpoints = Vec::new();
    for storage in ["mcap", "sqlite3"] {
        let bag = path(storage);
        let messages = simulate(&bag, storage);
        for pass in 0..2 {
            let save = path(&format!("{storage}-{pass}.safetensors"));
            let report = json(&["replay", &bag, "--urdf", &urdf(), "--save", &save, "--json"]);
            assert_eq!(report["inputs"], Value::from(vec![bag.clone()]));
            assert_eq!(report["joints"], Value::from(names(&lwr())));
            assert!(report["times_real_time"].as_f64().unwrap() > 0.0);
            assert_eq!((&report["count"], &report["drops"]), (&messages.into(), &serde_json::json!({})));
            let learners = report["learners"].as_object().unwrap();
            let there: Vec<&str> = learners.keys().map(String::as_str).collect();
            let promised = [
                "metagd",
                "persistence",
                "persistence-1",
                "rff",
                "rigid-body",
                "rigid-body+i",
                "rls",
                "rls+i",
            ];
            assert_eq!(there, promised);
            for (name, figures) in learners {
                for figure in ["first500ms_mse", "rms", "nmse"] {
                    let values = numbers(&figures[figure]);
                    assert_eq!(values.len(), 7, "{figure} of {name}");
                    assert!(values.iter().all(|value| *value >= 0.0), "{figure} of {name}: {values:?}");
                }
            }
            scores.push(report["learners"].clone());
            checkpoints.push(std::fs::read(save).unwrap());
        }
    }
    assert!(checkpoints[0].len() > 10_000);
    assert!(checkpoints.iter().all(|bytes| *bytes == checkpoints[0]), "the checkpoints differ");
    assert!(scores.iter().all(|score| *score == scores[0]), "the scores differ");

    let report = json(&["replay", &path("mcap"), "--compare", "rigid-body,persistence", "--json"]);
    assert_eq!(report["joints"], Value::from(names(&lwr())), "the bag's own");
    assert!(report["notes"].to_string().contains("no rigid body"), "{report}");
    let learners: BTreeSet<&String> = report["learners"].as_object().unwrap().keys().collect();
    assert_eq!(learners.into_iter().collect::<Vec<_>>(), ["metagd", "persistence"]);
}

#[test]
fn a_bag_that_is_none_or_cut_off_fails_by_name_unless_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let cut = |storage: &str, file: &str, name: &str| {
        let bag = path(storage);
        let messages = simulate(&bag, storage);
        let bytes = std::fs::read(Path::new(&bag).join(file)).unwrap();
        std::fs::write(path(name), &bytes[..bytes.len() * 6 / 10]).unwrap();
        messages
    };
    let messages = cut("mcap", "mcap_0.mcap", "cut.mcap");
    cut("sqlite3", "sqlite3_0.db3", "cut.db3");
    std::fs::create_dir(path("hollow")).unwrap();
    std::fs::write(path("blank.mcap"), "").unwrap();
    std::fs::copy(PROGRAM, path("program.mcap")).unwrap();

    for name in ["cut.mcap", "cut.db3", "hollow", "blank.mcap", "program.mcap"] {
        for command in [&["replay", "--json"][..], &["play"]] {
            if (command[0], name) == ("play", "cut.mcap") {
                continue; // It plays what is there and fails at the cut.
            }
            let output = metagd(&[command, &[&path(name)]].concat());
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command:?} {name}: {said}");
            assert!(said.contains(&path(name)), "{command:?} {name}: {said}");
            assert!(output.stdout.is_empty(), "{command:?} {name}: no figures of a failed run");
        }
    }

    let report = json(&["replay", &path("cut.mcap"), "--salvage", "--compare", "persistence", "--json"]);
    let left = report["count"].as_u64().unwrap();
    assert!(left > messages / 2 && left < messages * 7 / 10, "{left} of {messages}");
    assert!(report["notes"].to_string().contains("cut off"), "{report}");
}

/// A node that is to be stopped, on a domain of its own.
struct Node {
    process: Process,
    domain: u16,
}

impl Node {
    fn start(run: &Path, more: &[&str]) -> Node {
        let domain = ros::free_domain().unwrap();
        let (urdf, run) = (urdf(), assignment("run_dir", run));
        let process =
            Process::start(domain, &[&["node", "--json", "--urdf", &urdf, "-p", &run], more].concat());
        Node { process, domain }
    }

    /// Its figures, after a clean stop.
    fn stop(self) -> Value {
        self.process.signal(rustix::process::Signal::TERM);
        let output = self.process.end();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        parsed(&["node"], &output)
    }
}

#[test]
fn a_played_bag_reaches_a_live_node_and_the_logs_of_two_runs_add_up() {
    let _alone = live();
    let folder = tempfile::tempdir().unwrap();
    let bag = folder.path().join("bag").to_str().unwrap().to_string();
    let states = simulate(&bag, "mcap");
    let mut runs = Vec::new();
    // Best effort may lose what the machine does not get round to, four times as fast rather more of it.
    for (rate, least) in [("1", 0.95), ("4", 0.8)] {
        let run = folder.path().join(format!("rate{rate}"));
        let node = Node::start(&run, &[]);
        let arguments = ["play", &bag, "--rate", rate, "--wait", "30", "--json"];
        let played = parsed(&arguments, &Process::start(node.domain, &arguments).end());
        assert_eq!(played["published"], 2 * states, "{played}");
        assert_eq!(played["refused"], 0, "{played}");

        let latency = node.stop();
        let received = count(&latency, "arrival_to_torque");
        assert!(received <= states && received as f64 >= least * states as f64, "{received} of {states}");
        assert!(latency["deadline"]["batches"].as_u64().unwrap() > 0, "{latency}");
        let others = |(reason, count): (&String, &Value)| reason == "ring_full" || *count == 0;
        assert!(latency["drops"].as_object().unwrap().iter().all(others), "{latency}");
        runs.push((run.join("latency.hlog"), latency));
    }

    let [(first_log, first), (second_log, second)] = &runs[..] else { unreachable!() };
    let merged = json(&["latency", "--json", first_log.to_str().unwrap(), second_log.to_str().unwrap()]);
    for (stage, figures) in merged["stages"].as_object().unwrap() {
        assert_eq!(figures["count"], count(first, stage) + count(second, stage), "{stage}");
    }
    let of = |name: &str| [&merged, first, second].map(|run| run["deadline"][name].as_u64().unwrap());
    for name in ["batches", "misses"] {
        let [sum, first, second] = of(name);
        assert_eq!(sum, first + second, "{name}");
    }
    let [worst, first_worst, second_worst] = of("worst_consecutive");
    assert_eq!(worst, first_worst.max(second_worst));
    for (reason, count) in merged["drops"].as_object().unwrap() {
        let [first, second] = [first, second].map(|run| run["drops"][reason].as_u64().unwrap());
        assert_eq!(*count, first + second, "{reason}");
    }
}

/// A robot's driver gone mad, and the ear that hears what the node would have it do.
struct Robot {
    arm: Arm,
    states: Publisher<JointState>,
    stamp_ns: i64,
    commands: Arc<Mutex<Vec<Vec<f64>>>>,
    stop: Stop,
    listening: std::thread::JoinHandle<Result<(), ros::RosError>>,
}

impl Robot {
    fn join(domain: u16) -> Robot {
        let options =
            NodeOptions { domain_id: Some(domain), network: Network::Loopback, ..NodeOptions::new("robot") };
        let mut connection = DdsConnection::open(&options, || 0).unwrap();
        let commands = Arc::new(Mutex::new(Vec::new()));
        let heard = commands.clone();
        let hear = Box::new(move |command: &Float64MultiArray, _| {
            heard.lock().unwrap().push(command.data.clone());
        });
        connection.subscribe("/metagd/commands", Qos::DEFAULT, hear).unwrap();
        let states = connection.advertise("/joint_states", Qos::SENSOR_DATA).unwrap();
        let stop = Stop::new();
        let stopping = stop.clone();
        let listening = std::thread::spawn(move || connection.run(stopping));
        assert_eq!(states.wait_for_subscribers(1, Duration::from_secs(30)), 1, "the node is not there");
        Robot { arm: lwr(), states, stamp_ns: 1_700_000_000_000_000_000, commands, stop, listening }
    }

    /// The next state of an arm that swings a little, as a good driver tells it.
    fn state(&mut self) -> JointState {
        self.stamp_ns += 1_000_000;
        let t = (self.stamp_ns % 1_000_000_000_000) as f64 * 1e-9;
        let bent = [0.3, 0.6, 0.1, -1.2, 0.2, 0.7, 0.4];
        let mut motion = Motion::default();
        for (joint, &bent) in bent.iter().enumerate() {
            let (sin, cos) = (2.0 * t + joint as f64).sin_cos();
            motion.q[joint] = bent + 0.1 * sin;
            motion.qd[joint] = 0.2 * cos;
            motion.qdd[joint] = -0.4 * sin;
        }
        let effort = self.arm.inverse_dynamics(&motion);
        let of = |values: &PerJoint| values[..7].to_vec();
        JointState {
            header: Header { stamp: Time::from_ns(self.stamp_ns), frame_id: "base".into() },
            name: self.arm.joint_names().to_vec(),
            position: of(&motion.q),
            velocity: of(&motion.qd),
            effort: of(&effort),
        }
    }

    /// Sends, a millisecond after what was sent before.
    fn send(&mut self, state: &JointState) {
        std::thread::sleep(Duration::from_millis(1));
        self.states.publish(state).unwrap();
    }

    fn send_good(&mut self, count: usize) {
        for _ in 0..count {
            let state = self.state();
            self.send(&state);
        }
    }

    fn last_command(&self) -> Vec<f64> {
        self.commands.lock().unwrap().last().cloned().unwrap_or_default()
    }

    /// Every command that it heard.
    fn leave(self) -> Vec<Vec<f64>> {
        self.stop.request();
        self.listening.join().unwrap().unwrap();
        std::mem::take(&mut self.commands.lock().unwrap())
    }
}

/// Another order, with a joint that is not the arm's between them.
fn permuted(state: &mut JointState) {
    state.name.push("gripper".into());
    for values in [&mut state.position, &mut state.velocity, &mut state.effort] {
        values.push(0.02);
    }
    state.name.rotate_left(3);
    for values in [&mut state.position, &mut state.velocity, &mut state.effort] {
        values.rotate_left(3);
    }
}

fn without_a_joint(state: &mut JointState) {
    state.name.remove(4);
    for values in [&mut state.position, &mut state.velocity, &mut state.effort] {
        values.remove(4);
    }
}

fn wider_than_fits(state: &mut JointState) {
    state.name.extend((0..100).map(|joint| format!("finger_{joint}")));
    for values in [&mut state.position, &mut state.velocity, &mut state.effort] {
        values.resize(107, 0.0);
    }
}

fn delayed(state: &mut JointState, ns: i64) {
    state.header.stamp = Time::from_ns(state.header.stamp.to_ns() - ns);
}

#[test]
fn a_misbehaving_robot_is_survived_counted_and_never_commanded_nonsense() {
    type Fault = (&'static str, fn(&mut JointState));
    /// Refused, by reason. A delayed state comes after a good one of the millisecond before.
    const FAULTS: [Fault; 13] = [
        ("non_finite", |state| state.position[2] = f64::NAN),
        ("non_finite", |state| state.velocity[0] = f64::INFINITY),
        ("non_finite", |state| state.effort[6] = f64::NAN),
        ("missing_joint", without_a_joint),
        ("missing_joint", |state| *state = JointState::default()),
        ("duplicate_name", |state| state.name[1] = state.name[0].clone()),
        ("wrong_length", |state| state.position.truncate(6)),
        ("wrong_length", |state| state.effort.push(0.0)),
        ("missing_velocity", |state| state.velocity.clear()),
        ("malformed", wider_than_fits),
        ("malformed", |state| state.name[0] = "a".repeat(1000)),
        ("repeated_stamp", |state| delayed(state, 1_000_000)),
        ("backward_stamp", |state| delayed(state, 6_000_000)),
    ];
    /// Taken, as a driver's word is: complete and finite.
    const ACCEPTED: [fn(&mut JointState); 4] = [
        permuted,
        |state| state.position[1] = 1e300,
        |state| state.velocity[3] = -1e300,
        |state| state.effort[0] = 1e300,
    ];
    const ROUNDS: usize = 30;
    const PERMUTED: usize = 500;

    let _alone = live();
    let folder = tempfile::tempdir().unwrap();
    let quick = ["-p", "limits.torque:=0.5", "-p", "limits.rate:=1000000.0", "-p", "limits.ramp:=0.1"];
    let node = Node::start(folder.path(), &quick);
    let mut robot = Robot::join(node.domain);

    robot.send_good(1000);
    for _ in 0..PERMUTED {
        let mut state = robot.state();
        permuted(&mut state);
        robot.send(&state);
    }
    let sane = robot.last_command();
    for _ in 0..ROUNDS {
        for (_, spoil) in FAULTS {
            robot.send_good(2);
            let mut state = robot.state();
            spoil(&mut state);
            robot.send(&state);
        }
        for spoil in ACCEPTED {
            robot.send_good(20);
            let mut state = robot.state();
            spoil(&mut state);
            robot.send(&state);
        }
    }
    robot.send_good(2000);
    let needed = robot.state().effort;
    let recovered = robot.last_command();

    let silent = Instant::now();
    while robot.last_command().iter().any(|torque| *torque != 0.0) {
        assert!(silent.elapsed() < Duration::from_secs(30), "it still commands {:?}", robot.last_command());
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    let latency = node.stop();
    let arm = robot.arm.clone();
    let commands = robot.leave();

    let drops = latency["drops"].as_object().unwrap();
    for (reason, count) in drops {
        let sent = ROUNDS * FAULTS.iter().filter(|fault| fault.0 == *reason).count();
        let count = count.as_u64().unwrap() as usize;
        // Best effort may lose a few on the wire, of the faults as of what comes before them.
        assert!(count <= sent && count >= sent - sent / 10, "{count} of {sent} {reason}: {latency}");
    }
    let good = 1000 + PERMUTED + ROUNDS * (FAULTS.len() * 2 + ACCEPTED.len() * 21) + 2000;
    let taken = count(&latency, "arrival_to_torque") as usize;
    assert!(taken <= good && taken >= good - good / 10, "{taken} of {good}: {latency}");

    assert!(commands.len() > good / 2, "{} commands", commands.len());
    for (at, command) in commands.iter().enumerate() {
        assert_eq!(command.len(), 7);
        for (joint, torque) in command.iter().enumerate() {
            let most = 0.5 * arm.limits(joint).effort;
            assert!(torque.abs() <= most, "command {at}, joint {joint}: {torque} Nm"); // NaN is not, either
        }
    }
    for (when, command) in [("before", &sane), ("after", &recovered)] {
        for (joint, (torque, needed)) in command.iter().zip(&needed).enumerate() {
            let tolerance = 1.0 + 0.25 * needed.abs();
            assert!((torque - needed).abs() < tolerance, "{when}, joint {joint}: {torque} not {needed} Nm");
        }
    }
    assert_eq!(commands.last(), Some(&vec![0.0; 7]));
}

#[test]
fn every_parameter_is_printed() {
    let table = text(&metagd(&["params"]).stdout);
    let rows = json(&["params", "--json"]);
    let listed: Vec<&str> =
        rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    let all: Vec<&str> = PARAMETERS.iter().map(|parameter| parameter.name).collect();
    assert_eq!(listed, all);
    for (parameter, row) in PARAMETERS.iter().zip(rows.as_array().unwrap()) {
        assert!(table.contains(&format!("| `{}` |", parameter.name)), "{}", parameter.name);
        for key in ["type", "default", "range", "unit", "description"] {
            assert!(!row[key].is_null(), "{key} of {}", parameter.name);
        }
    }
}

#[test]
fn wrong_use_exits_with_2_and_says_of_what() {
    let folder = tempfile::tempdir().unwrap();
    let bag = folder.path().join("bag").to_str().unwrap().to_string();
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["learn"], "learn"),
        (&["simulate"], "--live"),
        (&["simulate", "--live", "--out", &bag], "--out"),
        (&["simulate", "--out", &bag, "--script", "demo"], "--live"),
        (&["simulate", "--out", &bag, "--feedforward", "node"], "--live"),
        (&["simulate", "--out", &bag, "--payload", "anvil"], "anvil"),
        (&["demo", "--seconds", "0"], "--seconds"),
        (&["play", &bag, "--rate", "0"], "--rate"),
        (&["simulate", "--live", "--remap", "joint_states"], "from:=to"),
        (&["node", "-p", "deadlin:=5.0"], "deadline"),
        (&["node", "-p", "deadline"], "deadline"),
        (&["node", "--preset", "human"], "human"),
        (&["doctor", "--seconds", "0"], "--seconds"),
    ];
    for (arguments, part) in cases {
        let output = metagd(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    assert!(!Path::new(&bag).exists(), "nothing is begun that was asked for wrongly");
}

#[test]
fn a_bag_is_not_written_over_another_and_only_its_topics_are_played() {
    let folder = tempfile::tempdir().unwrap();
    let bag = folder.path().join("bag").to_str().unwrap().to_string();
    simulate(&bag, "mcap");
    for (arguments, part) in
        [(["simulate", "--out", &bag], "exists"), (["play", &bag, "--topic=/efforts"], "/joint_states")]
    {
        let output = metagd(&arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(&bag) && said.contains(part), "{arguments:?}: {said}");
    }
}

#[test]
fn a_cause_is_said_once() {
    for arguments in [&["replay", "/nowhere.mcap"][..], &["node", "--urdf", "/nowhere.urdf"]] {
        let said = text(&metagd(arguments).stderr);
        assert!(said.lines().last().is_some_and(|line| line.contains("No such file")), "{said}");
        assert!(said.lines().all(|line| line.matches("No such file").count() <= 1), "{said}");
    }
}
