//! The node as a user runs it: the binary, on real DDS on loopback, with the simulated arm as its robot.

mod common;

use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use common::{PATIENCE, PROGRAM, Process, assignment, text, urdf};
use metagd::msg::{Clock, DiagnosticArray, Log, Text, Time};
use metagd::ros::dds::DdsConnection;
use metagd::ros::{self, Connection, Network, NodeOptions, Qos, Stop};

#[test]
fn it_learns_from_a_live_robot_stops_cleanly_on_both_signals_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("learnt.safetensors");
    for (run, signal) in [rustix::process::Signal::TERM, rustix::process::Signal::INT].into_iter().enumerate()
    {
        let domain = ros::free_domain().unwrap();
        let run_dir = folder.path().join(format!("run{run}"));
        let (save, load) =
            (assignment("checkpoint.save", &checkpoint), assignment("checkpoint.load", &checkpoint));
        let (urdf, run_dir_p) = (urdf(), assignment("run_dir", &run_dir));
        let mut args = vec!["node", "--json", "--urdf", &urdf, "-p", &save, "-p", &run_dir_p];
        if run > 0 {
            args.extend(["-p", &load]);
        }
        let node = Process::start(domain, &args);
        let simulator = Process::start(domain, &["simulate", "--live", "--seconds", "4", "--json"]);

        let simulated = simulator.end();
        assert!(simulated.status.success(), "{}", text(&simulated.stderr));
        let figures: serde_json::Value = serde_json::from_slice(&simulated.stdout).unwrap();
        let received = figures["feedforward"]["received"].as_u64().unwrap();
        assert!(received > 1000, "the robot received {received} feed-forward torques in some 4 s at 1 kHz");
        assert_eq!(figures["feedforward"]["non_finite"], 0);

        node.signal(signal);
        let left = node.end();
        let log = text(&left.stderr);
        assert_eq!(left.status.code(), Some(0), "{log}");
        assert_eq!(log.contains("loaded"), run > 0, "{log}");
        let printed: serde_json::Value = serde_json::from_slice(&left.stdout).unwrap();
        let written: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(run_dir.join("latency.json")).unwrap()).unwrap();
        assert_eq!(printed, written);
        assert!(printed["stages"]["arrival_to_torque"]["count"].as_u64().unwrap() > 1000, "{printed}");
        assert!(printed["deadline"]["batches"].as_u64().unwrap() > 100, "{printed}");
        assert_eq!(printed["pinned_thread"]["allocations"], 0, "{printed}");
        assert_eq!(printed["pinned_thread"]["non_finite"], 0, "{printed}");
        assert!(checkpoint.exists());

        let latency = Command::new(PROGRAM)
            .args(["latency", "--json"])
            .arg(run_dir.join("latency.hlog"))
            .output()
            .unwrap();
        let read: serde_json::Value = serde_json::from_slice(&latency.stdout).unwrap();
        assert_eq!(read["stages"]["predict"]["count"], printed["stages"]["predict"]["count"]);
        assert_eq!(read["deadline"]["batches"], printed["deadline"]["batches"]);
    }
}

/// Sees every command that the node publishes.
struct Witness {
    commands: Arc<Mutex<Vec<Vec<f64>>>>,
    stop: Stop,
    listening: std::thread::JoinHandle<Result<(), ros::RosError>>,
}

impl Witness {
    fn of(domain: u16) -> Witness {
        let options = NodeOptions {
            domain_id: Some(domain),
            network: Network::Loopback,
            ..NodeOptions::new("witness")
        };
        let mut connection = DdsConnection::open(&options, || 0).unwrap();
        let commands = Arc::new(Mutex::new(Vec::<Vec<f64>>::new()));
        let seen = commands.clone();
        let keep = Box::new(move |message: &metagd::msg::Float64MultiArray, _| {
            seen.lock().unwrap().push(message.data.clone())
        });
        connection.subscribe("/metagd/commands", Qos::DEFAULT, keep).unwrap();
        let stop = Stop::new();
        let stopping = stop.clone();
        Witness { commands, stop, listening: std::thread::spawn(move || connection.run(stopping)) }
    }

    /// Whether torques worth the name were commanded.
    fn saw_torques(&self) -> bool {
        self.commands.lock().unwrap().iter().any(|torque| torque.iter().any(|tau| tau.abs() > 1.0))
    }

    /// The last command.
    fn last(self) -> Option<Vec<f64>> {
        self.stop.request();
        self.listening.join().unwrap().unwrap();
        let commands = self.commands.lock().unwrap();
        commands.last().cloned()
    }
}

#[test]
fn a_panic_in_the_learner_ends_in_zero_torque_and_a_non_zero_exit() {
    let domain = ros::free_domain().unwrap();
    let witness = Witness::of(domain);
    let node = Process::start(
        domain,
        &["node", "--urdf", &urdf(), "--inject-panic", "2500", "-p", "limits.ramp:=0.1"],
    );
    let simulator = Process::start(domain, &["simulate", "--live", "--seconds", "6"]);
    let left = node.end();
    let log = text(&left.stderr);
    assert_eq!(left.status.code(), Some(1), "{log}");
    assert!(log.contains("a panic was injected (src/node/fault.rs:"), "{log}");
    assert!(!log.contains("' panicked at"), "printed by the pinned thread itself: {log}");
    drop(simulator);
    assert!(witness.saw_torques(), "it had commanded torques before");
    assert_eq!(witness.last(), Some(vec![0.0; 7]), "and the last is zero");
}

#[test]
fn neither_an_impatient_launcher_nor_a_log_that_cannot_be_written_keeps_it_from_zero_torque() {
    let domain = ros::free_domain().unwrap();
    let witness = Witness::of(domain);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("learnt.safetensors");
    std::os::unix::fs::symlink("/dev/full", folder.path().join("latency.hlog")).unwrap();
    let (save, run_dir) = (assignment("checkpoint.save", &checkpoint), assignment("run_dir", folder.path()));
    let (urdf, ramp) = (urdf(), "limits.ramp:=0.1");
    let mut node =
        Process::start(domain, &["node", "--urdf", &urdf, "-p", ramp, "-p", &save, "-p", &run_dir]);
    drop(node.0.stderr.take());
    drop(node.0.stdout.take());
    let simulator = Process::start(domain, &["simulate", "--live", "--seconds", "30"]);
    let began = Instant::now();
    while !witness.saw_torques() {
        assert!(node.0.try_wait().unwrap().is_none(), "it stopped by itself");
        assert!(began.elapsed() < PATIENCE, "no torque");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(1500)); // longer than an interval of the log

    node.signal(rustix::process::Signal::INT);
    std::thread::sleep(Duration::from_millis(5));
    node.signal(rustix::process::Signal::TERM);
    let left = node.end();
    drop(simulator);
    assert_eq!(left.status.code(), Some(1), "the log was not written: {}", left.status);
    assert!(checkpoint.exists());
    assert_eq!(witness.last(), Some(vec![0.0; 7]));
}

#[test]
fn what_is_wrong_with_the_parameters_is_said_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("params.yaml");
    for (content, parts) in [
        ("/metagd:\n  ros__parameters:\n    deadlin: 5.0\n", ["params.yaml:3", "`deadlin`", "`deadline`"]),
        ("/**:\n  ros__parameters:\n    limits:\n      torque: 1.5\n", ["limits.torque", "1.5", "0 to 1"]),
        (
            "/metagd:\n  ros__parameters:\n    urdf: /nowhere.urdf\n",
            ["/nowhere.urdf", "error", "No such file"],
        ),
        ("/metagd:\n  ros__parameters:\n    deadline: 5.0\n", ["urdf", "joints", "error"]),
    ] {
        std::fs::write(&file, content).unwrap();
        let output = Command::new(PROGRAM).args(["node", "--params-file"]).arg(&file).output().unwrap();
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{content}: {said}");
        for part in parts {
            assert!(said.contains(part), "{content}: expected {part} in: {said}");
        }
    }
}

#[test]
fn enforce_refuses_to_start_without_what_it_asks_for() {
    let output = Command::new(PROGRAM)
        .args(["node", "--urdf", &urdf(), "-p", "realtime:=enforce", "-p", "cpu_affinity:=[1023]"])
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("CPU 1023 was NOT granted") && said.contains("enforce"), "{said}");
}

#[test]
fn what_is_learnt_is_saved_while_it_runs_and_survives_a_kill() {
    let domain = ros::free_domain().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("learnt.safetensors");
    let (save, urdf) = (assignment("checkpoint.save", &checkpoint), urdf());
    let mut node =
        Process::start(domain, &["node", "--urdf", &urdf, "-p", &save, "-p", "checkpoint.interval:=0.5"]);
    let simulator = Process::start(domain, &["simulate", "--live", "--seconds", "30"]);
    let mut seen = Vec::new();
    let began = Instant::now();
    while seen.len() < 2 {
        assert!(node.0.try_wait().unwrap().is_none(), "it stopped by itself");
        assert!(began.elapsed() < PATIENCE, "saved {} times", seen.len());
        std::thread::sleep(Duration::from_millis(50));
        let saved = std::fs::metadata(&checkpoint).and_then(|found| found.modified()).ok();
        if saved != seen.last().copied() {
            seen.extend(saved);
        }
    }
    node.0.kill().unwrap();
    drop(simulator);
    let load = assignment("checkpoint.load", &checkpoint);
    let again = Process::start(domain, &["node", "--urdf", &urdf, "-p", &load, "--seconds", "1"]).end();
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("loaded"));
}

/// Everything of one topic, as it comes.
fn hear<M>(connection: &mut impl Connection, topic: &str, qos: Qos) -> mpsc::Receiver<M>
where
    M: metagd::msg::Message + serde::de::DeserializeOwned + Clone + Default + Send + 'static,
{
    let (heard, hearing) = mpsc::channel();
    let keep = Box::new(move |message: &M, _| heard.send(message.clone()).unwrap_or(()));
    connection.subscribe(topic, qos, keep).unwrap();
    hearing
}

#[test]
fn it_waits_for_the_robots_description_and_lives_in_simulated_time() {
    let domain = ros::free_domain().unwrap();
    let options =
        NodeOptions { domain_id: Some(domain), network: Network::Loopback, ..NodeOptions::new("describer") };
    let mut connection = ros::open(&options, || 0).unwrap();
    let diagnostics = hear::<DiagnosticArray>(&mut connection, "/diagnostics", Qos::DEFAULT);
    let names = hear::<Text>(&mut connection, "/metagd/statistics/names", Qos::LATCHED);
    let log = hear::<Log>(&mut connection, "/rosout", Qos::ROSOUT);
    let mut description = connection.advertise::<Text>("/robot_description", Qos::LATCHED).unwrap();
    let mut clock = connection.advertise::<Clock>("/clock", Qos::CLOCK).unwrap();
    let stop = Stop::new();
    let stopping = stop.clone();
    let listening = std::thread::spawn(move || connection.run(stopping));

    let args = ["node", "--ros-args", "-p", "use_sim_time:=true", "-p", "robot_description_timeout:=60.0"];
    let node = Process::start(domain, &args);
    assert!(log.recv_timeout(PATIENCE).is_ok(), "it is there");
    assert!(names.recv_timeout(Duration::from_secs(1)).is_err(), "it has no arm to tell of");
    description.publish(&Text { data: std::fs::read_to_string(urdf()).unwrap() }).unwrap();
    let names = names.recv_timeout(PATIENCE).unwrap();
    assert!(names.data.contains("metagd.joint.lwr_a6_joint.feedforward_nm"), "{}", names.data);

    let now = Time { sec: 4321, nanosec: 5 };
    let began = Instant::now();
    loop {
        clock.publish(&Clock { clock: now }).unwrap();
        let report = diagnostics.recv_timeout(PATIENCE).unwrap();
        if report.header.stamp == now && report.status[1].values[0].value == "active" {
            assert_eq!(report.status[0].name, "metagd: input");
            assert_eq!(report.status[0].message, "no sample yet");
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{report:?}");
    }
    node.signal(rustix::process::Signal::INT);
    assert_eq!(node.end().status.code(), Some(0));
    stop.request();
    listening.join().unwrap().unwrap();
}
