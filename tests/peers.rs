//! The node, as it is started by a user, among peers that nobody here wrote: Cyclone DDS, driven through
//! tests/python/dds_peer.py, with the names and messages that ROS 2 has on the wire.

#![allow(clippy::print_stderr)]

#[allow(dead_code)] // the tests of the node use the rest
mod common;

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{PATIENCE, Process, text, urdf};
use metagd::ros;
use serde_json::{Value, json};

const JOINTS: [&str; 7] = [
    "lwr_a1_joint",
    "lwr_a2_joint",
    "lwr_e1_joint",
    "lwr_a3_joint",
    "lwr_a4_joint",
    "lwr_a5_joint",
    "lwr_a6_joint",
];

const JOINT_STATE: &str = "sensor_msgs/msg/JointState";

/// `lo` has no multicast, so that peers find each other by unicast only.
const LOOPBACK: &str = "<CycloneDDS><Domain><General><Interfaces><NetworkInterface address='127.0.0.1'/></Interfaces>\
    <AllowMulticast>false</AllowMulticast></General><Discovery><ParticipantIndex>auto</ParticipantIndex>\
    <Peers><Peer address='127.0.0.1'/></Peers></Discovery></Domain></CycloneDDS>";

/// One test at a time, each in a domain of its own.
fn own_domain() -> (MutexGuard<'static, ()>, u16) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (turn, ros::free_domain().unwrap())
}

/// The interpreter with Cyclone DDS, or `None` after saying so.
fn python() -> Option<String> {
    let python = std::env::var("METAGD_PYTHON").unwrap_or_else(|_| "python3".into());
    let import = Command::new(&python).args(["-c", "import cyclonedds"]).stderr(Stdio::null()).status();
    let found = import.is_ok_and(|status| status.success());
    let required = std::env::var("METAGD_REQUIRE_PEERS").is_ok_and(|v| v == "1");
    assert!(found || !required, "{python} cannot import cyclonedds, and METAGD_REQUIRE_PEERS=1");
    if !found {
        eprintln!("SKIPPED: {python} cannot import cyclonedds; METAGD_PYTHON names another interpreter");
    }
    found.then_some(python)
}

/// tests/python/dds_peer.py at work: see there what it can be asked.
struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(python: &str, domain: u16) -> Peer {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/dds_peer.py");
        let mut child = Command::new(python)
            .args([script, &domain.to_string()])
            .env("CYCLONEDDS_URI", LOOPBACK)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Peer { child, stdin, stdout }
    }

    fn ask(&mut self, command: Value) -> Value {
        writeln!(self.stdin.as_mut().unwrap(), "{command}").unwrap();
        let answer = self.stdout.next().unwrap_or_else(|| panic!("the peer died of {command}")).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    fn subscribe(&mut self, topic: &str, kind: &str, qos: &str) {
        self.ask(json!({ "do": "subscribe", "topic": topic, "type": kind, "qos": qos }));
    }

    /// What has come since the last time, the newest `newest` of it.
    fn take(&mut self, topic: &str, newest: usize) -> (u64, Vec<Value>) {
        let answer = self.ask(json!({ "do": "take", "topic": topic, "newest": newest }));
        (answer["count"].as_u64().unwrap(), answer["messages"].as_array().unwrap().clone())
    }

    /// The newest message for which the condition holds, which must come.
    fn wait_for(&mut self, topic: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, messages) = self.take(topic, 1000);
            if let Some(found) = messages.iter().rev().find(|message| wanted(message)) {
                return found.clone();
            }
            last = messages.last().cloned().unwrap_or(last);
            assert!(Instant::now() < deadline, "{topic}: never {what}; last {last}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Publishes joint states of the arm at rest at this rate, from now on.
    fn be_a_robot(&mut self, topic: &str, rate: f64, effort: [f64; 7]) {
        let message = json!({
            "name": JOINTS, "position": [0.1, 0.5, 0.0, 0.7, 0.0, 0.3, 0.0], "velocity": ZERO, "effort": effort,
        });
        self.ask(json!({ "do": "advertise", "topic": topic, "type": JOINT_STATE, "qos": "reliable" }));
        self.ask(json!({ "do": "publish", "topic": topic, "message": message, "rate": rate }));
    }

    fn call(&mut self, service: &str, kind: &str, request: Value) -> Value {
        let command = json!({ "do": "call", "service": service, "type": kind, "request": request });
        let answer = self.ask(command)["response"].clone();
        assert!(answer.is_object(), "{service} was asked {request} and did not answer");
        answer
    }

    /// Calls a service of rcl_interfaces on a node.
    fn parameters(&mut self, node: &str, service: &str, request: Value) -> Value {
        let snake = service.chars().fold(String::new(), |name, c| match c {
            c if c.is_uppercase() && !name.is_empty() => name + "_" + &c.to_lowercase().to_string(),
            c => name + &c.to_lowercase().to_string(),
        });
        self.call(&format!("{node}/{snake}"), &format!("rcl_interfaces/srv/{service}"), request)
    }

    /// Sets one parameter: whether it was set, and the reason if not.
    fn set(&mut self, node: &str, name: &str, value: Value) -> (bool, String) {
        let request = json!({ "parameters": [{ "name": name, "value": value }] });
        let result = self.parameters(node, "SetParameters", request)["results"][0].clone();
        (result["successful"].as_bool().unwrap(), result["reason"].as_str().unwrap().to_string())
    }

    fn get(&mut self, node: &str, name: &str) -> Value {
        self.parameters(node, "GetParameters", json!({ "names": [name] }))["values"][0].clone()
    }

    /// A service of std_srvs of the node `/metagd`: whether it was done, and what it says.
    fn done(&mut self, name: &str, request: Value) -> (bool, String) {
        let kind = if request == json!({}) { "Trigger" } else { "SetBool" };
        let answer = self.call(&format!("/metagd/{name}"), &format!("std_srvs/srv/{kind}"), request);
        (answer["success"].as_bool().unwrap(), answer["message"].as_str().unwrap().to_string())
    }

    fn state(&mut self, node: &str) -> String {
        let answer = self.call(&format!("{node}/get_state"), "lifecycle_msgs/srv/GetState", json!({}));
        answer["current_state"]["label"].as_str().unwrap().to_string()
    }

    fn wait_for_state(&mut self, node: &str, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state(node);
            if state == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{node} is {state}, not {wanted}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks for a transition by id (or by label, where the id is 0).
    fn change(&mut self, id: u8, label: &str) -> bool {
        let request = json!({ "transition": { "id": id, "label": label } });
        let answer = self.call("/metagd/change_state", "lifecycle_msgs/srv/ChangeState", request);
        answer["success"].as_bool().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Whose service mapping the node has: that of the peer.
const CYCLONE: (&str, &str) = ("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp");

/// `metagd node` with the arm's URDF.
fn node(domain: u16, more: &[&str]) -> Process {
    let urdf = urdf();
    Process::start_with(domain, &[&["node", "--json", "--urdf", &urdf], more].concat(), &[CYCLONE])
}

/// Ends it by SIGTERM: its figures.
fn stop(node: Process) -> Value {
    node.signal(rustix::process::Signal::TERM);
    let left = node.end();
    assert_eq!(left.status.code(), Some(0), "{}", text(&left.stderr));
    serde_json::from_slice(&left.stdout).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Whether every joint's torque is near the wanted one.
fn is_near(torques: &Value, wanted: &[f64]) -> bool {
    let torques = floats(torques);
    torques.len() == wanted.len() && torques.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 0.2 * b.abs())
}

const ZERO: [f64; 7] = [0.0; 7];
const EFFORT: [f64; 7] = [1.0, -2.0, 3.0, -4.0, 1.5, -1.0, 0.5];

#[test]
fn it_learns_a_foreign_robots_torques_and_tells_them() {
    let Some(python) = python() else { return };
    let (_turn, domain) = own_domain();
    let mut peer = Peer::start(&python, domain);
    peer.subscribe("/metagd/feedforward", JOINT_STATE, "command");
    peer.subscribe("/metagd/commands", "std_msgs/msg/Float64MultiArray", "command");
    let node = node(domain, &[]);
    peer.wait_for_state("/metagd", "active");
    peer.be_a_robot("/joint_states", 300.0, EFFORT);

    let told = peer.wait_for("/metagd/feedforward", "learnt", |m| is_near(&m["effort"], &EFFORT));
    assert_eq!(told["name"], json!(JOINTS));
    assert_eq!((&told["position"], &told["velocity"]), (&json!([]), &json!([])));
    let command = peer.wait_for("/metagd/commands", "learnt", |m| is_near(&m["data"], &EFFORT));
    assert_eq!(floats(&command["data"]).len(), 7);

    let sent = peer.ask(json!({ "do": "hush", "topic": "/joint_states" }))["sent"].as_u64().unwrap();
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(told["header"]["stamp"]["sec"].as_u64().unwrap().abs_diff(wall) <= PATIENCE.as_secs(), "{told}");
    peer.wait_for("/metagd/commands", "zero after the last state", |m| m["data"] == json!(ZERO));
    let figures = stop(node);
    let predicted = figures["stages"]["predict"]["count"].as_u64().unwrap();
    assert!(predicted <= sent && predicted * 2 > sent, "{predicted} of {sent}: {figures}");
    assert_eq!(figures["pinned_thread"]["allocations"], 0, "{figures}");
}

#[test]
fn its_parameters_are_listed_got_described_and_set() {
    let Some(python) = python() else { return };
    let (_turn, domain) = own_domain();
    let mut peer = Peer::start(&python, domain);
    peer.subscribe("/parameter_events", "rcl_interfaces/msg/ParameterEvent", "reliable");
    let node = node(domain, &["-p", "limits.rate:=1000.0"]);
    let name = "/metagd";

    let list = peer.parameters(name, "ListParameters", json!({ "prefixes": ["limits"] }))["result"].clone();
    let names: Vec<_> = list["names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    assert!(names.contains(&"limits.rate") && names.iter().all(|n| n.starts_with("limits.")), "{list}");
    assert_eq!(list["prefixes"], json!(["limits"]));
    let all = peer.parameters(name, "ListParameters", json!({}))["result"]["names"].clone();
    let answer = peer.parameters(name, "GetParameters", json!({ "names": all }));
    let values = answer["values"].as_array().unwrap();
    assert_eq!(values.len(), all.as_array().unwrap().len());
    assert!(values.iter().all(|value| value["type"] != 0), "{answer}");

    let got =
        peer.parameters(name, "GetParameters", json!({ "names": ["limits.rate", "preset", "no.such"] }));
    assert_eq!((&got["values"][0]["type"], &got["values"][0]["double_value"]), (&json!(3), &json!(1000.0)));
    assert_eq!((&got["values"][1]["type"], &got["values"][1]["string_value"]), (&json!(4), &json!("robot")));
    assert_eq!(got["values"][2]["type"], 0);
    let types =
        peer.parameters(name, "GetParameterTypes", json!({ "names": ["gravity", "learning", "ring"] }));
    assert_eq!(types["types"], json!([8, 1, 2]));

    let described =
        peer.parameters(name, "DescribeParameters", json!({ "names": ["limits.torque", "joints"] }));
    let [torque, joints] = [&described["descriptors"][0], &described["descriptors"][1]];
    assert_eq!((&torque["type"], &torque["read_only"]), (&json!(3), &json!(false)));
    assert_eq!(torque["floating_point_range"], json!([{ "from_value": 0.0, "to_value": 1.0, "step": 0.0 }]));
    assert!(!torque["description"].as_str().unwrap().is_empty());
    assert_eq!((&joints["type"], &joints["read_only"]), (&json!(9), &json!(true)));

    let double = |v: f64| json!({ "type": 3, "double_value": v });
    assert_eq!(peer.set(name, "limits.rate", double(500.0)), (true, String::new()));
    assert_eq!(peer.get(name, "limits.rate")["double_value"], 500.0);
    let event = peer.wait_for("/parameter_events", "told of the change", |m| {
        m["changed_parameters"][0]["name"] == "limits.rate"
    });
    assert_eq!(event["node"], "/metagd");
    assert_eq!(event["changed_parameters"].as_array().unwrap().len(), 1);
    assert_eq!(event["changed_parameters"][0]["value"]["double_value"], 500.0);

    for (parameter, value, part) in [
        ("limits.torque", double(1.5), "0 to 1"),
        ("limits.torque", double(-0.1), "0 to 1"),
        ("limits.torque", json!({ "type": 4, "string_value": "much" }), "much"),
        ("limits.torque", json!({ "type": 0 }), "cannot be deleted"),
        ("limits.torque", json!({ "type": 77 }), "77"),
        ("ring", json!({ "type": 2, "integer_value": 512 }), "read-only"),
        ("no.such", double(1.0), "no.such"),
        ("", double(1.0), "parameter"),
    ] {
        let (set, reason) = peer.set(name, parameter, value.clone());
        assert!(!set && reason.contains(part), "{parameter} = {value}: {reason}");
    }
    let both = |second: f64| {
        json!({ "parameters": [
            { "name": "limits.rate", "value": double(250.0) },
            { "name": "limits.torque", "value": double(second) },
        ] })
    };
    let refused = peer.parameters(name, "SetParametersAtomically", both(7.0))["result"].clone();
    assert_eq!(refused["successful"], false);
    assert!(refused["reason"].as_str().unwrap().contains("limits.torque"), "{refused}");
    assert_eq!(peer.get(name, "limits.rate")["double_value"], 500.0, "all or none");
    let each = peer.parameters(name, "SetParameters", both(7.0))["results"].clone();
    assert_eq!((&each[0]["successful"], &each[1]["successful"]), (&json!(true), &json!(false)));
    let taken = peer.parameters(name, "SetParametersAtomically", both(0.5))["result"].clone();
    assert_eq!(taken, json!({ "successful": true, "reason": "" }));
    let got = peer.parameters(name, "GetParameters", json!({ "names": ["limits.rate", "limits.torque"] }));
    let values = [0, 1].map(|i| got["values"][i]["double_value"].as_f64().unwrap());
    assert_eq!(values, [250.0, 0.5]);
    stop(node);
}

#[test]
fn its_lifecycle_is_managed_from_outside() {
    let Some(python) = python() else { return };
    let (_turn, domain) = own_domain();
    let mut peer = Peer::start(&python, domain);
    peer.subscribe("/metagd/transition_event", "lifecycle_msgs/msg/TransitionEvent", "reliable");
    peer.subscribe("/metagd/commands", "std_msgs/msg/Float64MultiArray", "command");
    let node = node(domain, &["-p", "autostart:=false", "-p", "limits.ramp:=0.1"]);
    assert_eq!(peer.state("/metagd"), "unconfigured");
    peer.be_a_robot("/joint_states", 300.0, EFFORT);
    assert!(!peer.change(3, ""), "it cannot be activated yet");
    assert!(!peer.change(0, "no such transition"));
    assert_eq!(peer.state("/metagd"), "unconfigured");

    assert!(peer.change(1, ""));
    assert_eq!(peer.state("/metagd"), "inactive");
    assert_eq!(peer.take("/metagd/commands", 1).0, 0, "no torque before it is active");
    assert!(peer.change(0, "activate"), "by its label");
    assert_eq!(peer.state("/metagd"), "active");
    peer.wait_for("/metagd/commands", "a torque", |m| floats(&m["data"]).iter().any(|tau| tau.abs() > 0.1));

    assert!(peer.change(4, ""));
    assert_eq!(peer.state("/metagd"), "inactive");
    let (_, last) = peer.take("/metagd/commands", 1);
    assert_eq!(last[0]["data"], json!(ZERO), "the last torque is zero");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(peer.take("/metagd/commands", 1).0, 0, "nothing comes after it");
    assert!(peer.change(2, ""));
    assert_eq!(peer.state("/metagd"), "unconfigured");

    let graph =
        peer.call("/metagd/get_transition_graph", "lifecycle_msgs/srv/GetAvailableTransitions", json!({}));
    assert_eq!(graph["available_transitions"].as_array().unwrap().len(), 25);
    let now = peer.call(
        "/metagd/get_available_transitions",
        "lifecycle_msgs/srv/GetAvailableTransitions",
        json!({}),
    );
    let available = now["available_transitions"].as_array().unwrap().iter();
    let labels: Vec<_> = available.map(|t| t["transition"]["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["configure", "shutdown"]);
    let states =
        peer.call("/metagd/get_available_states", "lifecycle_msgs/srv/GetAvailableStates", json!({}));
    assert_eq!(states["available_states"].as_array().unwrap().len(), 11);

    assert!(peer.change(1, ""), "and again");
    assert!(peer.change(6, ""), "shutdown from inactive");
    assert_eq!(peer.state("/metagd"), "finalized");
    assert!(!peer.change(1, ""), "nothing leads on from there");
    let (_, events) = peer.take("/metagd/transition_event", 1000);
    let path: Vec<_> = events.iter().map(|event| event["goal_state"]["label"].as_str().unwrap()).collect();
    let expected = [
        ["configuring", "inactive"],
        ["activating", "active"],
        ["deactivating", "inactive"],
        ["cleaningup", "unconfigured"],
        ["configuring", "inactive"],
        ["shuttingdown", "finalized"],
    ];
    assert_eq!(path, expected.concat());
    assert!(events.windows(2).all(|pair| pair[0]["goal_state"] == pair[1]["start_state"]), "{events:?}");
    stop(node);
}

#[test]
fn its_own_services_answer_and_say_why_not() {
    let Some(python) = python() else { return };
    let (_turn, domain) = own_domain();
    let mut peer = Peer::start(&python, domain);
    peer.subscribe("/metagd/commands", "std_msgs/msg/Float64MultiArray", "command");
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("learnt.safetensors");
    let save = common::assignment("checkpoint.save", &checkpoint);
    let load = common::assignment("checkpoint.load", &checkpoint);
    // What is loaded at the start must be there, and is then overwritten by a node that has learnt more.
    let first = node(domain, &["-p", &save]);
    peer.wait_for_state("/metagd", "active");
    stop(first);
    let before = std::fs::read(&checkpoint).unwrap();

    let node = node(domain, &["-p", &save, "-p", &load, "-p", "limits.ramp:=0.1"]);
    peer.wait_for_state("/metagd", "active");
    peer.be_a_robot("/joint_states", 300.0, EFFORT);
    peer.wait_for("/metagd/commands", "learnt", |m| is_near(&m["data"], &EFFORT));
    let (saved, message) = peer.done("save", json!({}));
    assert!(saved && message.contains(&checkpoint.display().to_string()), "{message}");
    assert!(std::fs::read(&checkpoint).unwrap() != before, "what was learnt is in it");
    for name in ["load", "reset", "new_task"] {
        let (done, message) = peer.done(name, json!({}));
        assert!(done && !message.is_empty(), "{name}: {message}");
    }

    assert_eq!(peer.done("set_learning", json!({ "data": false })), (true, String::new()));
    assert_eq!(peer.get("/metagd", "learning")["bool_value"], false);
    assert!(peer.done("set_learning", json!({ "data": true })).0);
    assert!(peer.done("enable", json!({ "data": false })).0);
    assert_eq!(peer.get("/metagd", "enabled")["bool_value"], false);
    peer.wait_for("/metagd/commands", "off", |m| m["data"] == json!(ZERO));
    assert!(peer.done("enable", json!({ "data": true })).0);
    peer.wait_for("/metagd/commands", "on", |m| floats(&m["data"]).iter().any(|tau| tau.abs() > 0.1));

    assert!(peer.change(4, "") && peer.change(2, ""));
    for name in ["save", "load", "reset", "new_task"] {
        let (done, message) = peer.done(name, json!({}));
        assert!(!done && message.contains("not configured"), "{name}: {message}");
    }
    stop(node);
}

#[test]
fn who_asks_as_soon_as_it_can_gets_its_answer() {
    let Some(python) = python() else { return };
    let (_turn, domain) = own_domain();
    // Of no middleware that is named, so that the node answers by every mapping.
    let urdf = urdf();
    let node =
        Process::start_with(domain, &["node", "--json", "--urdf", &urdf], &[("RMW_IMPLEMENTATION", "")]);
    Peer::start(&python, domain).wait_for_state("/metagd", "active");
    for _ in 0..10 {
        let mut peer = Peer::start(&python, domain);
        assert_eq!(peer.state("/metagd"), "active");
        for service in ["new_task", "reset"] {
            assert!(peer.done(service, json!({})).0);
        }
        for name in ["ListParameters", "GetParameters", "GetParameterTypes", "DescribeParameters"] {
            peer.parameters("/metagd", name, json!({}));
        }
    }
    let mut peer = Peer::start(&python, domain);
    let times = [(); 10].map(|()| {
        let asked = Instant::now();
        peer.state("/metagd");
        asked.elapsed()
    });
    // The best of them, as a busy machine can delay any: an answer held back would take a second each time.
    assert!(times.iter().min() < Some(&Duration::from_millis(500)), "{times:?}");
    stop(node);
}

#[test]
fn two_arms_in_two_namespaces_know_nothing_of_each_other() {
    let Some(python) = python() else { return };
    let (_turn, domain) = own_domain();
    let mut peer = Peer::start(&python, domain);
    let arms = ["/left", "/right"].map(|arm| node(domain, &["--namespace", arm]));
    let efforts = [EFFORT, EFFORT.map(|tau| -2.0 * tau)];
    for (arm, effort) in ["/left", "/right"].into_iter().zip(efforts) {
        peer.subscribe(&format!("{arm}/metagd/feedforward"), JOINT_STATE, "command");
        peer.wait_for_state(&format!("{arm}/metagd"), "active");
        peer.be_a_robot(&format!("{arm}/joint_states"), 150.0, effort);
    }
    for (arm, effort) in ["/left", "/right"].into_iter().zip(efforts) {
        let topic = format!("{arm}/metagd/feedforward");
        peer.wait_for(&topic, "its own arm's torque", |m| is_near(&m["effort"], &effort));
    }
    let rate = json!({ "type": 3, "double_value": 123.0 });
    assert!(peer.set("/left/metagd", "limits.rate", rate).0);
    assert_eq!(peer.get("/left/metagd", "limits.rate")["double_value"], 123.0);
    assert_eq!(peer.get("/right/metagd", "limits.rate")["double_value"], 2000.0);

    // One arm's robot falls silent: the other goes on.
    peer.ask(json!({ "do": "hush", "topic": "/left/joint_states" }));
    peer.wait_for("/left/metagd/feedforward", "zero", |m| m["effort"] == json!(ZERO));
    std::thread::sleep(Duration::from_millis(300));
    peer.take("/right/metagd/feedforward", 1);
    peer.wait_for("/right/metagd/feedforward", "still there", |m| is_near(&m["effort"], &efforts[1]));
    assert_eq!(peer.take("/left/metagd/feedforward", 1).0, 0);
    arms.into_iter().for_each(|arm| drop(stop(arm)));
}

#[test]
fn who_comes_late_hears_what_was_said_once() {
    let Some(python) = python() else { return };
    let (_turn, domain) = own_domain();
    let mut robot = Peer::start(&python, domain);
    // A robot_state_publisher says it once, and then a node comes.
    let description = json!({ "data": std::fs::read_to_string(urdf()).unwrap() });
    robot.ask(json!({
        "do": "advertise", "topic": "/robot_description", "type": "std_msgs/msg/String", "qos": "latched",
    }));
    robot.ask(json!({ "do": "publish", "topic": "/robot_description", "message": description }));
    let args = ["node", "--json", "-p", "robot_description_timeout:=60.0"];
    let node = Process::start_with(domain, &args, &[CYCLONE]);
    robot.wait_for_state("/metagd", "active");

    // Who comes after the node learns from its latched announcement which nodes there are.
    let mut late = Peer::start(&python, domain);
    late.subscribe("ros_discovery_info", "rmw_dds_common/msg/ParticipantEntitiesInfo", "latched");
    let told = late.wait_for("ros_discovery_info", "a node", |m| {
        m["node_entities_info_seq"][0]["node_name"] == "metagd"
    });
    let told = &told["node_entities_info_seq"][0];
    assert_eq!(told["node_namespace"], "/");
    // joint_states and reference at least, and what asks the services; torques, events and their answers.
    assert!(told["reader_gid_seq"].as_array().unwrap().len() > 2, "{told}");
    assert!(told["writer_gid_seq"].as_array().unwrap().len() > 4, "{told}");
    assert_eq!(late.state("/metagd"), "active");

    // And from its latched topics what it said before.
    late.subscribe("/rosout", "rcl_interfaces/msg/Log", "rosout");
    let line = late.wait_for("/rosout", "of the start", |m| m["msg"].as_str().unwrap().contains("active"));
    assert_eq!((&line["name"], &line["level"]), (&json!("metagd"), &json!(20)));
    late.subscribe("/metagd/statistics/names", "std_msgs/msg/String", "latched");
    late.subscribe("/metagd/statistics/values", "std_msgs/msg/Float64MultiArray", "reliable");
    let names = late.wait_for("/metagd/statistics/names", "told", |_| true);
    let names = names["data"].as_str().unwrap().lines().count();
    let values = late.wait_for("/metagd/statistics/values", "told", |_| true);
    assert_eq!(values["data"].as_array().unwrap().len(), names);
    late.subscribe("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", "reliable");
    let report = late.wait_for("/diagnostics", "told", |_| true);
    let status = report["status"].as_array().unwrap();
    assert!(status.iter().all(|s| s["level"].as_u64().unwrap() <= 3), "{report}");
    assert!(status[0]["name"].as_str().unwrap().contains("metagd"), "{report}");
    stop(node);
}

#[test]
fn killed_and_started_again_it_is_there_for_the_peers_that_stayed() {
    let Some(python) = python() else { return };
    let (_turn, domain) = own_domain();
    let mut peer = Peer::start(&python, domain);
    peer.subscribe("/metagd/feedforward", JOINT_STATE, "command");
    peer.be_a_robot("/joint_states", 200.0, EFFORT);
    for life in 0..3 {
        let node = node(domain, &["-p", "limits.ramp:=0.1"]);
        let effort = peer.wait_for("/metagd/feedforward", "heard again", |m| is_near(&m["effort"], &EFFORT));
        assert_eq!(effort["name"], json!(JOINTS), "life {life}");
        assert_eq!(peer.state("/metagd"), "active", "life {life}");
        let rate = json!({ "type": 3, "double_value": 100.0 + f64::from(life) });
        assert!(peer.set("/metagd", "limits.rate", rate).0, "life {life}");
        if life < 2 {
            node.signal(rustix::process::Signal::KILL);
            node.end();
            peer.take("/metagd/feedforward", 1);
        } else {
            stop(node);
        }
    }
}

/// A run of the simulated arm, with so many subscribers of each topic: the node's figures.
fn run_with_subscribers(python: &str, domain: u16, subscribers: usize) -> Value {
    const TOPICS: [(&str, &str); 2] =
        [("/metagd/feedforward", JOINT_STATE), ("/metagd/commands", "std_msgs/msg/Float64MultiArray")];
    let mut peer = Peer::start(python, domain);
    for (topic, kind) in TOPICS.iter().filter(|_| subscribers > 0) {
        peer.ask(json!({
            "do": "subscribe", "topic": topic, "type": kind, "qos": "command", "readers": subscribers,
        }));
    }
    let node = node(domain, &[]);
    peer.wait_for_state("/metagd", "active");
    let simulated = Process::start(domain, &["simulate", "--live", "--seconds", "6"]).end();
    assert!(simulated.status.success(), "{}", text(&simulated.stderr));
    for (topic, _) in TOPICS.iter().filter(|_| subscribers > 0) {
        let answer = peer.ask(json!({ "do": "newest", "topic": topic }));
        assert_eq!(answer["messages"].as_array().unwrap().len(), subscribers, "{topic} reaches all");
    }
    stop(node)
}

#[test]
fn a_storm_of_subscribers_does_not_reach_the_pinned_thread() {
    const STORM: usize = 20;
    let Some(python) = python() else { return };
    let (_turn, domain) = own_domain();
    let [calm, storm] = [0, STORM].map(|subscribers| run_with_subscribers(&python, domain, subscribers));
    for figures in [&calm, &storm] {
        let thread = &figures["pinned_thread"];
        assert_eq!((&thread["allocations"], &thread["frees"]), (&json!(0), &json!(0)), "{figures}");
        assert_eq!(thread["non_finite"], 0, "{figures}");
        assert!(figures["deadline"]["batches"].as_u64().unwrap() > 100, "{figures}");
    }
    let [calm, storm] =
        [&calm, &storm].map(|figures| figures["stages"]["step_cpu"]["p50_us"].as_f64().unwrap());
    eprintln!(
        "CPU time of a learning step, median: {calm} us without, {storm} us with {STORM} subscribers of each topic: \
         ratio {:.2}",
        storm / calm
    );
    // The caches are shared with whatever else runs; work done for subscribers would be a multiple of this.
    assert!(storm < 5.0 * calm, "{storm} us instead of {calm} us");
}
