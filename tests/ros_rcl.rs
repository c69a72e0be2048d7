//! The ROS boundary by way of rcl, on loopback in a free domain. rcl takes its domain from the environment, so every test
//! runs itself again in a process of its own; the other side is RustDDS where that is built in, else a second node.

#![allow(clippy::print_stderr)]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::join_all;
use metagd::msg::{
    Float64MultiArray, Header, JointState, JointStateView, JointTrajectory, JointTrajectoryPoint,
    JointTrajectoryPointView, Service, Time,
};
use metagd::ros::rcl::RclConnection;
use metagd::ros::{
    self, Connection, Network, NodeOptions, Publish, Qos, Remapping, Reply, RosError, Stop, Subscription,
};
use r2r::lifecycle_msgs::srv::GetState;
use r2r::rcl_interfaces::srv::GetParameterTypes;
use serde::{Deserialize, Serialize};

/// Long enough for a loaded machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

const OURS: &str = "METAGD_TEST_OWN_DOMAIN";

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn clock() -> i64 {
    START.elapsed().as_nanos() as i64
}

fn wall_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

/// This program again, to run one of its tests.
fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--include-ignored", "--nocapture"]).stdin(Stdio::null());
    command
}

/// True in the process that has a domain of its own; in the first, runs that process and is false.
fn alone() -> bool {
    alone_with(&[("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"), ("ROS_LOCALHOST_ONLY", "1")])
}

fn alone_with(environment: &[(&str, &str)]) -> bool {
    if std::env::var_os(OURS).is_some() {
        return true;
    }
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let status = again(std::thread::current().name().unwrap())
        .env_remove("ROS_AUTOMATIC_DISCOVERY_RANGE")
        .env_remove("ROS_LOCALHOST_ONLY")
        .env("ROS_DOMAIN_ID", ros::free_domain().unwrap().to_string())
        .envs(environment.iter().copied())
        .env(OURS, "1")
        .status()
        .unwrap();
    assert!(status.success(), "see above");
    false
}

fn node(name: &str) -> NodeOptions {
    NodeOptions { network: Network::Loopback, ..NodeOptions::new(name) }
}

fn open(options: &NodeOptions) -> RclConnection {
    RclConnection::open(options, clock).unwrap()
}

#[cfg(feature = "dds")]
fn peer(name: &str) -> impl Connection + use<> {
    ros::dds::DdsConnection::open(&node(name), clock).unwrap()
}

#[cfg(not(feature = "dds"))]
fn peer(name: &str) -> impl Connection + use<> {
    open(&node(name))
}

/// A connection on its own thread, stopped when dropped.
struct Running(Stop, Option<JoinHandle<Result<(), RosError>>>);

fn run(connection: impl Connection + 'static) -> Running {
    let stop = Stop::new();
    let theirs = stop.clone();
    Running(stop, Some(std::thread::spawn(move || connection.run(theirs))))
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.request();
        if let Some(thread) = self.1.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

fn joint_state(number: i64, names: &[&str], position: &[f64]) -> JointState {
    JointState {
        header: Header { stamp: Time::from_ns(number), frame_id: "base".into() },
        name: names.iter().map(|name| name.to_string()).collect(),
        position: position.to_vec(),
        velocity: vec![0.5; names.len()],
        effort: vec![-1.0; names.len()],
    }
}

fn floats(data: &[f64]) -> Float64MultiArray {
    Float64MultiArray { data: data.to_vec(), ..Default::default() }
}

/// Publishes again and again until `received` yields, since best effort may lose.
fn until<M, T>(publisher: &mut dyn Publish<M>, message: &M, received: &Receiver<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        publisher.publish(message).unwrap();
        match received.recv_timeout(Duration::from_millis(50)) {
            Ok(value) => return value,
            Err(_) if Instant::now() < deadline => {}
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_message_type_crosses_and_names_are_resolved() {
    if !alone() {
        return;
    }
    let mut robot = peer("robot");
    let mut metagd = open(&NodeOptions {
        namespace: "cell".into(),
        remappings: vec![Remapping { from: "joint_states".into(), to: "/arm/state".into() }],
        ..node("metagd")
    });
    let domain: u16 = std::env::var("ROS_DOMAIN_ID").unwrap().parse().unwrap();
    assert_eq!((metagd.node_name(), metagd.domain_id()), ("/cell/metagd", domain));

    let (state_in, states) = mpsc::channel();
    let (path_in, paths) = mpsc::channel();
    let (point_in, points) = mpsc::channel();
    let (floats_in, commands_seen) = mpsc::channel();
    let on_state = Box::new(move |m: &JointStateView, at| state_in.send((m.clone(), at)).unwrap_or(()));
    let subscription = metagd.subscribe("joint_states", Qos::SENSOR_DATA, on_state).unwrap();
    assert_eq!(subscription.topic(), "/arm/state");
    let on_path = Box::new(move |m: &JointTrajectory, _| path_in.send(m.clone()).unwrap_or(()));
    metagd.subscribe("~/path", Qos::DEFAULT, on_path).unwrap();
    let on_point = Box::new(move |m: &JointTrajectoryPointView, _| point_in.send(m.clone()).unwrap_or(()));
    metagd.subscribe("~/reference", Qos::DEFAULT, on_point).unwrap();
    let on_floats = Box::new(move |m: &Float64MultiArray, _| floats_in.send(m.clone()).unwrap_or(()));
    robot.subscribe("/cell/metagd/commands", Qos::COMMAND, on_floats).unwrap();

    let mut state = robot.advertise("/arm/state", Qos::SENSOR_DATA).unwrap();
    let mut path = robot.advertise("/cell/metagd/path", Qos::DEFAULT).unwrap();
    let mut point = robot
        .advertise_raw("/cell/metagd/reference", "trajectory_msgs/msg/JointTrajectoryPoint", Qos::DEFAULT)
        .unwrap();
    let mut commands = metagd.advertise("~/commands", Qos::COMMAND).unwrap();
    let mut raw = metagd.advertise_raw("~/raw", "std_msgs/msg/Float64MultiArray", Qos::DEFAULT).unwrap();
    assert_eq!(raw.topic(), "/cell/metagd/raw");
    let before = clock();
    let _running = [run(robot), run(metagd)];
    assert_eq!(state.wait_for_subscribers(1, PATIENCE), 1);

    let sent = joint_state(5, &["a1", "a2"], &[0.25, f64::NAN]);
    let (got, at) = until(&mut *state, &sent, &states);
    assert_eq!(got.header.stamp, sent.header.stamp);
    assert_eq!(got.header.frame_id.as_str(), "base");
    assert_eq!(got.name.iter().map(|n| n.as_str()).collect::<Vec<_>>(), ["a1", "a2"]);
    assert_eq!(got.position[0], 0.25);
    assert!(got.position[1].is_nan());
    assert_eq!((&got.velocity[..], &got.effort[..]), (&[0.5; 2][..], &[-1.0; 2][..]));
    assert!(before < at.monotonic_ns && at.monotonic_ns < clock());
    assert!((at.wall_ns - wall_ns()).abs() < PATIENCE.as_nanos() as i64);

    let trajectory = JointTrajectory {
        joint_names: vec!["a1".into()],
        points: vec![
            JointTrajectoryPoint { accelerations: vec![3.0], ..Default::default() },
            JointTrajectoryPoint { positions: vec![1.0], ..Default::default() },
        ],
        ..Default::default()
    };
    assert_eq!(until(&mut *path, &trajectory, &paths), trajectory);

    let mut bytes = vec![0, 1, 0, 0];
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(1.5_f64.to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend([7, 0, 0, 0, 9, 0, 0, 0]);
    point.wait_for_subscribers(1, PATIENCE);
    point.publish(&bytes).unwrap();
    let got = points.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&got.positions[..], got.time_from_start), (&[1.5][..], Time { sec: 7, nanosec: 9 }));
    assert!(raw.publish(&[0, 0, 0, 0, 1]).unwrap_err().to_string().contains("/cell/metagd/raw"));
    assert!(raw.publish(&[0, 1]).is_err());

    let command = floats(&[1.0, -2.0]);
    assert_eq!(until(&mut *commands, &command, &commands_seen), command);
    assert_eq!((subscription.malformed(), subscription.lost()), (0, None));
}

const RATE: Duration = Duration::from_millis(1);
const SENT: i64 = 2000;

/// Not a test of its own: the second process of [`at_1_khz_from_another_process_what_is_missing_is_told`].
#[test]
#[ignore = "started by another test"]
fn second_process_publishes_at_1_khz() {
    if std::env::var_os(OURS).is_none() {
        return;
    }
    let mut robot = open(&node("robot"));
    let mut state = robot.advertise("joint_states", Qos::SENSOR_DATA).unwrap();
    let running = run(robot);
    assert_eq!(state.wait_for_subscribers(1, PATIENCE), 1);
    let names = ["a1", "a2", "a3", "a4", "a5", "a6", "a7"];
    let mut message = joint_state(0, &names, &[0.0; 7]);
    let start = Instant::now();
    for number in 0..SENT {
        message.position[0] = number as f64;
        std::thread::sleep((RATE * number as u32).saturating_sub(start.elapsed()));
        message.header.stamp = Time::from_ns(wall_ns());
        state.publish(&message).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    drop(running);
}

#[test]
fn at_1_khz_from_another_process_what_comes_is_in_order_and_counted() {
    if !alone() {
        return;
    }
    let mut metagd = open(&node("metagd"));
    static LAST: AtomicI64 = AtomicI64::new(-1);
    static GAPS: AtomicU64 = AtomicU64::new(0);
    let (delay_in, delays) = mpsc::channel();
    let callback = Box::new(move |message: &JointStateView, at: ros::Arrival| {
        let number = message.position[0] as i64;
        let last = LAST.swap(number, Ordering::SeqCst);
        assert!(number > last, "{number} after {last}");
        GAPS.fetch_add((number - last - 1) as u64, Ordering::SeqCst);
        delay_in.send(at.wall_ns - message.header.stamp.to_ns()).unwrap_or(());
    });
    let subscription = metagd.subscribe("joint_states", Qos::SENSOR_DATA, callback).unwrap();
    let running = run(metagd);
    let status = again("second_process_publishes_at_1_khz").stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    drop(running);

    let received = subscription.received();
    let missing = GAPS.load(Ordering::SeqCst) + (SENT - 1 - LAST.load(Ordering::SeqCst)) as u64;
    assert_eq!(received + missing, SENT as u64);
    assert!(received > SENT as u64 / 2, "{received}");
    assert_eq!((subscription.lost(), subscription.malformed()), (None, 0));
    let mut delays: Vec<i64> = delays.try_iter().collect();
    delays.sort_unstable();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize] / 1000;
    eprintln!(
        "{received} of {SENT} received; stamp to arrival p50 {} us, p99 {} us, max {} us",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

#[test]
fn what_comes_while_a_callback_is_late_waits_in_the_rmw() {
    if !alone() {
        return;
    }
    const BURST: usize = 60;
    let mut metagd = open(&node("metagd"));
    let mut robot = peer("robot");
    let qos = Qos { depth: 64, ..Qos::DEFAULT };
    let (in_, received) = mpsc::channel();
    let callback = Box::new(move |m: &Float64MultiArray, _| {
        if m.data[0] == 0.0 {
            std::thread::sleep(Duration::from_millis(500));
        }
        in_.send(m.data[0]).unwrap_or(());
    });
    metagd.subscribe("floats", qos, callback).unwrap();
    let mut publisher = robot.advertise("floats", qos).unwrap();
    let _running = [run(robot), run(metagd)];
    assert_eq!(publisher.wait_for_subscribers(1, PATIENCE), 1);
    for number in 0..BURST {
        publisher.publish(&floats(&[number as f64])).unwrap();
    }
    let got: Vec<f64> =
        (0..BURST).map_while(|_| received.recv_timeout(Duration::from_secs(3)).ok()).collect();
    assert_eq!(got, (0..BURST).map(|number| number as f64).collect::<Vec<_>>());
}

#[test]
fn a_late_subscriber_gets_what_is_latched() {
    if !alone() {
        return;
    }
    let mut metagd = open(&node("metagd"));
    let mut latched = metagd.advertise("latched", Qos::LATCHED).unwrap();
    let mut plain = metagd.advertise("plain", Qos::DEFAULT).unwrap();
    let _metagd = run(metagd);
    latched.publish(&floats(&[1.0])).unwrap();
    latched.publish(&floats(&[2.0])).unwrap();
    plain.publish(&floats(&[3.0])).unwrap();
    assert_eq!(plain.matched(), 0);

    let mut late = open(&node("late"));
    let (in_, received) = mpsc::channel();
    for (topic, qos) in [("latched", Qos::LATCHED), ("plain", Qos::DEFAULT)] {
        let in_ = in_.clone();
        let callback = Box::new(move |m: &Float64MultiArray, _| in_.send(m.data[0]).unwrap_or(()));
        late.subscribe(topic, qos, callback).unwrap();
    }
    let _late = run(late);
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), 2.0);
    assert_eq!(plain.wait_for_subscribers(1, PATIENCE), 1);
    assert_eq!(until(&mut *plain, &floats(&[4.0]), &received), 4.0);
}

#[test]
fn garbage_is_a_counted_drop_and_what_follows_is_received() {
    if !alone() {
        return;
    }
    let mut robot = peer("robot");
    let mut metagd = open(&node("metagd"));
    let (in_, received) = mpsc::channel();
    let others = in_.clone();
    let on_state = Box::new(move |m: &JointStateView, _| in_.send(m.position.to_vec()).unwrap_or(()));
    let on_floats = Box::new(move |m: &Float64MultiArray, _| others.send(m.data.clone()).unwrap_or(()));
    let qos = Qos { depth: 100, ..Qos::DEFAULT };
    let subscriptions: [Subscription; 2] = [
        metagd.subscribe("states", qos, on_state).unwrap(),
        metagd.subscribe("floats", qos, on_floats).unwrap(),
    ];
    let mut publishers = [
        robot.advertise_raw("states", "sensor_msgs/msg/JointState", qos).unwrap(),
        robot.advertise_raw("floats", "std_msgs/msg/Float64MultiArray", qos).unwrap(),
    ];
    let _running = [run(robot), run(metagd)];

    let many = 1_000_000_000_u32.to_le_bytes();
    let state = |name: &str, joints: u32| {
        let mut bytes = vec![0, 1, 0, 0];
        bytes.extend([0; 8]);
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(joints.to_le_bytes());
        for _ in 0..joints {
            bytes.extend((name.len() as u32 + 1).to_le_bytes());
            bytes.extend(name.bytes().chain([0]));
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    };
    let hostile: Vec<Vec<u8>> = vec![
        vec![0, 1, 0, 0],
        vec![0, 1, 0, 0, 255, 255, 255, 255],
        [0, 1, 0, 0].into_iter().chain(many).chain(many).chain(many).collect(),
        [0, 1, 0, 0].into_iter().chain([0; 8]).chain(many).chain([65; 40]).collect(),
        [0, 1, 0, 0].into_iter().chain([0; 16]).chain(many).chain(many).collect(),
        (0..500_u32).map(|i| if i < 4 { [0, 1, 0, 0][i as usize] } else { (i * 37 % 251) as u8 }).collect(),
        state(&"x".repeat(65), 1),
        state("x", 65),
    ];
    for (publisher, subscription) in publishers.iter_mut().zip(&subscriptions) {
        assert_eq!(publisher.wait_for_subscribers(1, PATIENCE), 1);
        for bytes in &hostile {
            publisher.publish(bytes).unwrap();
        }
        wait_until("every hostile message is counted", || {
            subscription.malformed() + subscription.received() == hostile.len() as u64
        });
    }
    assert_eq!(subscriptions[0].malformed(), hostile.len() as u64);
    assert_eq!(received.try_iter().count() as u64, subscriptions[1].received());

    let mut good = state("a1", 1);
    good.resize(good.len().next_multiple_of(4), 0);
    good.extend([0; 12]);
    publishers[0].publish(&good).unwrap();
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), Vec::<f64>::new());
}

#[test]
fn a_stopped_node_leaves_at_once_and_its_publishers_say_so() {
    if !alone() {
        return;
    }
    let mut robot = peer("robot");
    let publisher = robot.advertise::<Float64MultiArray>("floats", Qos::DEFAULT).unwrap();
    let mut metagd = open(&node("metagd"));
    metagd.subscribe("floats", Qos::DEFAULT, Box::new(|_: &Float64MultiArray, _| {})).unwrap();
    let mut ours = metagd.advertise("ours", Qos::DEFAULT).unwrap();
    let _robot = run(robot);
    let metagd = run(metagd);
    assert_eq!(publisher.wait_for_subscribers(1, PATIENCE), 1);
    ours.publish(&Float64MultiArray::default()).unwrap();
    let stopping = Instant::now();
    drop(metagd);
    let took = stopping.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    eprintln!("stopped in {took:?}");
    wait_until("the subscriber is gone", || publisher.matched() == 0);
    let error = ours.publish(&Float64MultiArray::default()).unwrap_err().to_string();
    assert!(error.contains("/ours"), "{error}");
    assert_eq!(ours.matched(), 0);
}

#[test]
fn a_node_that_only_publishes_sleeps_and_stops() {
    if !alone() {
        return;
    }
    let mut metagd = open(&node("metagd"));
    metagd.advertise::<Float64MultiArray>("floats", Qos::DEFAULT).unwrap();
    let running = run(metagd);
    let before = cpu_ticks();
    std::thread::sleep(Duration::from_secs(1));
    let used = cpu_ticks() - before;
    drop(running);
    assert!(used < 50, "{used} hundredths of a second of CPU time in one second");
}

#[test]
fn a_node_that_waits_hardly_uses_the_cpu() {
    if !alone() {
        return;
    }
    let mut metagd = open(&node("metagd"));
    for topic in ["a", "b", "c", "d"] {
        metagd.subscribe(topic, Qos::DEFAULT, Box::new(|_: &Float64MultiArray, _| {})).unwrap();
    }
    let _running = run(metagd);
    std::thread::sleep(Duration::from_secs(1));
    let before = cpu_ticks();
    std::thread::sleep(Duration::from_secs(3));
    let used = cpu_ticks() - before;
    eprintln!("{:.1} % of a core when idle", used as f64 / 3.0);
    assert!(used < 60, "{used} hundredths of a second of CPU time in three seconds");
}

/// This process's CPU time in hundredths of a second (proc_pid_stat(5)).
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap();
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// lifecycle_msgs/GetState.
struct State;

#[derive(Clone, Serialize, Deserialize)]
struct Nothing {
    structure_needs_at_least_one_member: u8,
}

#[derive(Serialize, Deserialize)]
struct Is {
    id: u8,
    label: String,
}

impl Service for State {
    const TYPE: &'static str = "lifecycle_msgs/srv/GetState";
    type Request = Nothing;
    type Response = Is;
}

/// rcl_interfaces/GetParameterTypes.
struct Types;

#[derive(Clone, Serialize, Deserialize)]
struct Names {
    names: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Lengths {
    types: Vec<u8>,
}

impl Service for Types {
    const TYPE: &'static str = "rcl_interfaces/srv/GetParameterTypes";
    type Request = Names;
    type Response = Lengths;
}

#[test]
fn services_answer_later_from_another_thread_and_out_of_order() {
    if !alone() {
        return;
    }
    let mut metagd = open(&node("metagd"));
    let (ask_in, asked) = mpsc::channel::<(Names, Reply<Lengths>)>();
    let on_types = Box::new(move |request, reply| ask_in.send((request, reply)).unwrap_or(()));
    metagd.serve::<Types>("~/get_parameter_types", on_types).unwrap();
    let on_state = Box::new(|_, reply: Reply<Is>| reply.send(Is { id: 3, label: "active".into() }));
    metagd.serve::<State>("~/get_state", on_state).unwrap();
    let _metagd = run(metagd);
    std::thread::spawn(move || {
        let mut waiting: Vec<_> = asked.iter().take(3).collect();
        waiting.reverse();
        for (request, reply) in waiting {
            reply.send(Lengths { types: request.names.iter().map(|name| name.len() as u8).collect() });
        }
    });

    let mut caller = r2r::Node::create(r2r::Context::create().unwrap(), "caller", "").unwrap();
    let services = r2r::QosProfile::services_default();
    let types =
        caller.create_client::<GetParameterTypes::Service>("/metagd/get_parameter_types", services.clone());
    let state = caller.create_client::<GetState::Service>("/metagd/get_state", services);
    let (types, state) = (types.unwrap(), state.unwrap());
    let mut available = Box::pin(join_all([
        Box::pin(r2r::Node::is_available(&types).unwrap()) as std::pin::Pin<Box<dyn Future<Output = _>>>,
        Box::pin(r2r::Node::is_available(&state).unwrap()),
    ]));
    spin_for(&mut caller, &mut available);

    let is = state.request(&GetState::Request::default()).unwrap();
    let is = spin_for(&mut caller, &mut Box::pin(is)).unwrap();
    assert_eq!((is.current_state.id, is.current_state.label.as_str()), (3, "active"));

    let names = [vec!["a", "bcd"], vec!["ef"], vec![]];
    let answers = names.iter().map(|names| {
        let names = names.iter().map(|name| name.to_string()).collect();
        types.request(&GetParameterTypes::Request { names }).unwrap()
    });
    let answers = spin_for(&mut caller, &mut Box::pin(join_all(answers)));
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().types).collect();
    assert_eq!(answers, [vec![1, 3], vec![2], vec![]]);
}

/// Spins the node until the future is done.
fn spin_for<T>(node: &mut r2r::Node, future: &mut (impl Future<Output = T> + Unpin)) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "nobody answers");
        node.spin_once(Duration::from_millis(10));
        if let Some(done) = (&mut *future).now_or_never() {
            return done;
        }
    }
}

fn refusal(options: &NodeOptions) -> String {
    match RclConnection::open(options, clock) {
        Ok(_) => panic!("{options:?} was opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_cannot_be_opened_says_why() {
    if !alone_with(&[("ROS_DOMAIN_ID", "7")]) {
        return;
    }
    assert!(refusal(&NodeOptions::new("a b")).contains("`a b` is not a valid node name"));
    let domain = refusal(&NodeOptions { domain_id: Some(233), ..NodeOptions::new("metagd") });
    assert!(domain.contains("233") && domain.contains("232"), "{domain}");
    let domain = refusal(&NodeOptions { domain_id: Some(8), ..NodeOptions::new("metagd") });
    assert!(domain.contains("domain 8") && domain.contains("ROS_DOMAIN_ID alone, which says 7"), "{domain}");
    let network = refusal(&node("metagd"));
    assert!(network.contains("LOCALHOST"), "{network}");
    let remappings = vec![Remapping { from: "a//b".into(), to: "c".into() }];
    assert!(refusal(&NodeOptions { remappings, ..NodeOptions::new("metagd") }).contains("a//b"));
}

#[test]
fn an_rcl_that_does_not_start_is_an_error() {
    if !alone_with(&[("ROS_LOCALHOST_ONLY", "1"), ("RMW_IMPLEMENTATION", "rmw_of_nobody_cpp")]) {
        return;
    }
    let error = refusal(&node("metagd"));
    assert!(error.contains("as /metagd") && error.contains("rmw_of_nobody_cpp"), "{error}");
}

#[test]
fn a_type_that_ros_does_not_know_is_refused() {
    if !alone() {
        return;
    }
    struct Unknown;
    impl Service for Unknown {
        const TYPE: &'static str = "nobody_msgs/srv/Nothing";
        type Request = Nothing;
        type Response = Nothing;
    }
    let mut metagd = open(&node("metagd"));
    let error = metagd.advertise_raw("x", "nobody_msgs/msg/Nothing", Qos::DEFAULT).err().unwrap().to_string();
    assert!(error.contains("/x") && error.contains("nobody_msgs/msg/Nothing"), "{error}");
    assert!(matches!(metagd.advertise_raw("x", "JointState", Qos::DEFAULT), Err(RosError::TypeName(_))));
    let error = metagd.serve::<Unknown>("y", Box::new(|_, _| {})).unwrap_err().to_string();
    assert!(error.contains("/y") && error.contains("nobody_msgs/srv/Nothing"), "{error}");
}
