//! The ROS boundary over real DDS, on loopback in a free domain: between nodes of one process, between processes, and
//! with a peer that nobody here wrote.

#![allow(clippy::print_stderr)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use metagd::msg::{
    Float64MultiArray, Header, JointState, JointStateView, JointTrajectory, JointTrajectoryPoint,
    JointTrajectoryPointView, Time,
};
use metagd::ros::dds::DdsConnection;
use metagd::ros::{
    self, Connection, Network, NodeOptions, Publish, Qos, Remapping, RosError, Stop, Subscription,
};

/// Long enough for a loaded machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn clock() -> i64 {
    START.elapsed().as_nanos() as i64
}

/// One test at a time: without multicast on `lo`, only the first twelve participants of a domain find each other.
fn own_domain() -> (MutexGuard<'static, ()>, u16) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (turn, ros::free_domain().unwrap())
}

fn node(name: &str, domain: u16) -> NodeOptions {
    NodeOptions { domain_id: Some(domain), network: Network::Loopback, ..NodeOptions::new(name) }
}

fn open(options: &NodeOptions) -> DdsConnection {
    DdsConnection::open(options, clock).unwrap()
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
fn every_message_type_crosses_between_two_nodes_and_names_are_resolved() {
    let (_turn, domain) = own_domain();
    let mut robot = open(&node("robot", domain));
    let mut metagd = open(&NodeOptions {
        namespace: "cell".into(),
        remappings: vec![Remapping::new("joint_states", "/arm/state")],
        ..node("metagd", domain)
    });
    assert_eq!((metagd.node_name(), metagd.domain_id()), ("/cell/metagd", domain));

    let (state_in, states) = mpsc::channel();
    let (path_in, paths) = mpsc::channel();
    let (point_in, points) = mpsc::channel();
    let (floats_in, floats) = mpsc::channel();
    let subscription = metagd
        .subscribe(
            "joint_states",
            Qos::SENSOR_DATA,
            Box::new(move |m: &JointStateView, at| state_in.send((m.clone(), at)).unwrap_or(())),
        )
        .unwrap();
    assert_eq!(subscription.topic(), "/arm/state");
    metagd
        .subscribe(
            "~/path",
            Qos::DEFAULT,
            Box::new(move |m: &JointTrajectory, _| path_in.send(m.clone()).unwrap_or(())),
        )
        .unwrap();
    metagd
        .subscribe(
            "~/reference",
            Qos::DEFAULT,
            Box::new(move |m: &JointTrajectoryPointView, _| point_in.send(m.clone()).unwrap_or(())),
        )
        .unwrap();
    robot
        .subscribe(
            "/cell/metagd/commands",
            Qos::COMMAND,
            Box::new(move |m: &Float64MultiArray, _| floats_in.send(m.clone()).unwrap_or(())),
        )
        .unwrap();

    let mut state = robot.advertise("/arm/state", Qos::SENSOR_DATA).unwrap();
    let mut path = robot.advertise("/cell/metagd/path", Qos::DEFAULT).unwrap();
    let mut point = robot
        .advertise_raw("/cell/metagd/reference", "trajectory_msgs/msg/JointTrajectoryPoint", Qos::DEFAULT)
        .unwrap();
    let mut commands = metagd.advertise("~/commands", Qos::COMMAND).unwrap();
    let before = clock();
    let _running = [run(robot), run(metagd)];
    assert_eq!(state.wait_for_subscribers(1, PATIENCE), 1);

    let sent = joint_state(5, &["a1", "a2"], &[0.25, f64::NAN]);
    let (got, at) = until(&mut *state, &sent, &states);
    assert_eq!(got.header.stamp, sent.header.stamp);
    assert_eq!(got.name.iter().map(|n| n.as_str()).collect::<Vec<_>>(), ["a1", "a2"]);
    assert_eq!(got.position[0], 0.25);
    assert!(got.position[1].is_nan());
    assert!(before < at.monotonic_ns && at.monotonic_ns < clock());
    assert!((at.wall_ns - wall_ns()).abs() < PATIENCE.as_nanos() as i64);

    let reordered = joint_state(6, &["a2", "a1", "gripper"], &[1.0, 2.0, 3.0]);
    let mut got = until(&mut *state, &reordered, &states).0;
    while got.header.stamp != reordered.header.stamp {
        got = until(&mut *state, &reordered, &states).0;
    }
    assert_eq!(got.name.iter().map(|n| n.as_str()).collect::<Vec<_>>(), ["a2", "a1", "gripper"]);
    assert_eq!(got.position[..], [1.0, 2.0, 3.0]);

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
    assert!(point.publish(&[0, 0, 0, 0, 1]).unwrap_err().to_string().contains("/cell/metagd/reference"));
    assert!(point.publish(&[0, 1]).is_err());

    let command = Float64MultiArray { data: vec![1.0, -2.0], ..Default::default() };
    assert_eq!(until(&mut *commands, &command, &floats), command);
    assert_eq!(subscription.malformed(), 0);
}

fn wall_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

const RATE: Duration = Duration::from_millis(1);
const SENT: i64 = 2000;

/// Not a test of its own: what [`at_1_khz_from_another_process_every_loss_is_counted`] starts as its second process.
#[test]
#[ignore = "started by another test"]
fn second_process_publishes_at_1_khz() {
    let Ok(domain) = std::env::var("METAGD_TEST_DOMAIN") else { return };
    let mut robot = open(&node("robot", domain.parse().unwrap()));
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
fn at_1_khz_from_another_process_every_loss_is_counted() {
    let (_turn, domain) = own_domain();
    let mut metagd = open(&node("metagd", domain));
    static LAST: AtomicI64 = AtomicI64::new(-1);
    static GAPS: AtomicU64 = AtomicU64::new(0);
    let (delay_in, delays) = mpsc::channel();
    let subscription = metagd
        .subscribe(
            "joint_states",
            Qos::SENSOR_DATA,
            Box::new(move |message: &JointStateView, at| {
                let number = message.position[0] as i64;
                let last = LAST.swap(number, Ordering::SeqCst);
                if last >= 0 {
                    assert!(number > last, "{number} after {last}");
                    GAPS.fetch_add((number - last - 1) as u64, Ordering::SeqCst);
                }
                delay_in.send(at.wall_ns - message.header.stamp.to_ns()).unwrap_or(());
            }),
        )
        .unwrap();
    let running = run(metagd);
    let publisher = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "second_process_publishes_at_1_khz"])
        .env("METAGD_TEST_DOMAIN", domain.to_string())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(publisher.success());
    drop(running);

    let (received, lost) = (subscription.received(), subscription.lost());
    assert!(received > 0);
    assert_eq!((lost, subscription.malformed()), (Some(GAPS.load(Ordering::SeqCst)), 0));
    let mut delays: Vec<i64> = delays.try_iter().collect();
    delays.sort_unstable();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize] / 1000;
    eprintln!(
        "{received} of {SENT} received, {} lost in between; stamp to arrival p50 {} us, p99 {} us, max {} us",
        GAPS.load(Ordering::SeqCst),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

#[test]
fn a_late_subscriber_gets_what_is_latched() {
    let (_turn, domain) = own_domain();
    let mut robot = open(&node("robot", domain));
    let mut latched = robot.advertise("latched", Qos::LATCHED).unwrap();
    let mut plain = robot.advertise("plain", Qos::DEFAULT).unwrap();
    let _robot = run(robot);
    let message = |v| Float64MultiArray { data: vec![v], ..Default::default() };
    latched.publish(&message(1.0)).unwrap();
    latched.publish(&message(2.0)).unwrap();
    plain.publish(&message(3.0)).unwrap();
    assert_eq!(plain.matched(), 0);

    let mut late = open(&node("late", domain));
    let (in_, received) = mpsc::channel();
    for (topic, qos) in [("latched", Qos::LATCHED), ("plain", Qos::DEFAULT)] {
        let in_ = in_.clone();
        late.subscribe(
            topic,
            qos,
            Box::new(move |m: &Float64MultiArray, _| in_.send(m.data[0]).unwrap_or(())),
        )
        .unwrap();
    }
    let _late = run(late);
    while received.recv_timeout(PATIENCE).unwrap() != 2.0 {}
    assert_eq!(plain.wait_for_subscribers(1, PATIENCE), 1);
    assert_eq!(until(&mut *plain, &message(4.0), &received), 4.0);
}

#[test]
fn garbage_is_a_counted_drop_and_what_follows_is_received() {
    let (_turn, domain) = own_domain();
    let mut robot = open(&node("robot", domain));
    let mut metagd = open(&node("metagd", domain));
    let (in_, received) = mpsc::channel();
    let subscriptions: Vec<Subscription> = vec![
        {
            let in_ = in_.clone();
            let callback = Box::new(move |m: &metagd::msg::JointStateView, _| {
                in_.send(m.position.to_vec()).unwrap_or(());
            });
            metagd.subscribe("states", Qos::DEFAULT, callback).unwrap()
        },
        {
            let callback = Box::new(move |m: &Float64MultiArray, _| in_.send(m.data.clone()).unwrap_or(()));
            metagd.subscribe("floats", Qos::DEFAULT, callback).unwrap()
        },
    ];
    let qos = Qos { depth: 100, ..Qos::DEFAULT };
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
        [0, 1, 0, 0].into_iter().chain([0; 4]).chain([0; 4]).chain(many).chain([0; 100]).collect(),
        (0..500_u32).map(|i| if i < 4 { [0, 1, 0, 0][i as usize] } else { (i * 37 % 251) as u8 }).collect(),
        state(&"x".repeat(65), 1),
        state("x", 65),
        state("\u{fffd}", 70),
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
    assert_eq!(subscriptions[0].lost(), Some(0));
}

#[test]
fn a_stopped_node_leaves_and_its_publishers_do_no_harm() {
    let (_turn, domain) = own_domain();
    let mut robot = open(&node("robot", domain));
    let mut publisher = robot.advertise("floats", Qos::DEFAULT).unwrap();
    let mut metagd = open(&node("metagd", domain));
    metagd.subscribe("floats", Qos::DEFAULT, Box::new(|_: &Float64MultiArray, _| {})).unwrap();
    let metagd = run(metagd);
    let robot = run(robot);
    assert_eq!(publisher.wait_for_subscribers(1, PATIENCE), 1);
    drop(metagd);
    wait_until("the subscriber is gone", || publisher.matched() == 0);
    drop(robot);
    let _ = publisher.publish(&Float64MultiArray::default());
    assert_eq!(publisher.matched(), 0);
    wait_until("the domain is left", || !is_in_use(domain));
}

fn is_in_use(domain: u16) -> bool {
    std::net::UdpSocket::bind(("0.0.0.0", 7400 + 250 * domain)).is_err()
}

/// Not a test of its own: the subscriber that [`a_killed_subscriber_does_not_silence_the_others`] kills.
#[test]
#[ignore = "started by another test"]
fn second_process_subscribes() {
    let Ok(domain) = std::env::var("METAGD_TEST_DOMAIN") else { return };
    let mut doomed = open(&node("doomed", domain.parse().unwrap()));
    doomed.subscribe("commands", Qos::COMMAND, Box::new(|_: &Float64MultiArray, _| {})).unwrap();
    doomed.run(Stop::new()).unwrap();
}

#[test]
fn a_killed_subscriber_does_not_silence_the_others() {
    let (_turn, domain) = own_domain();
    let mut metagd = open(&node("metagd", domain));
    let mut commands = metagd.advertise("commands", Qos::COMMAND).unwrap();
    let mut robot = open(&node("robot", domain));
    static NEWEST: AtomicI64 = AtomicI64::new(-1);
    let callback = Box::new(|m: &Float64MultiArray, _| NEWEST.store(m.data[0] as i64, Ordering::SeqCst));
    robot.subscribe("commands", Qos::COMMAND, callback).unwrap();
    let _running = [run(metagd), run(robot)];
    let mut doomed = Killed(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "second_process_subscribes"])
            .env("METAGD_TEST_DOMAIN", domain.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    assert_eq!(commands.wait_for_subscribers(2, PATIENCE), 2);
    doomed.0.kill().unwrap();
    doomed.0.wait().unwrap();

    const COMMANDS: i64 = 20_000;
    for number in 0..COMMANDS {
        commands.publish(&Float64MultiArray { data: vec![number as f64; 7], ..Default::default() }).unwrap();
    }
    wait_until("the last command arrives", || NEWEST.load(Ordering::SeqCst) == COMMANDS - 1);
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_cannot_be_opened_says_why() {
    let message = |options: NodeOptions| match DdsConnection::open(&options, clock) {
        Ok(_) => panic!("{options:?} was opened"),
        Err(error) => error.to_string(),
    };
    assert!(message(NodeOptions::new("a b")).contains("`a b` is not a valid node name"));
    let domain = message(NodeOptions { domain_id: Some(233), ..NodeOptions::new("metagd") });
    assert!(domain.contains("233") && domain.contains("232"), "{domain}");
    let remappings = vec![Remapping::new("a//b", "c")];
    assert!(message(NodeOptions { remappings, ..NodeOptions::new("metagd") }).contains("a//b"));
}

/// The interpreter with the peer's package, or `None` after saying so.
fn python_with(package: &str) -> Option<String> {
    let python = std::env::var("METAGD_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python)
        .args(["-c", &format!("import {package}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let required = std::env::var("METAGD_REQUIRE_PEERS").is_ok_and(|v| v == "1");
    assert!(found || !required, "{python} cannot import {package}, and METAGD_REQUIRE_PEERS=1");
    if !found {
        eprintln!("SKIPPED: {python} cannot import {package}; METAGD_PYTHON names another interpreter");
    }
    found.then_some(python)
}

struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn cyclone_dds_hears_us_and_we_hear_it() {
    let Some(python) = python_with("cyclonedds") else { return };
    let (_turn, domain) = own_domain();
    let mut metagd = open(&NodeOptions { namespace: "/cell".into(), ..node("metagd", domain) });
    let (in_, echoes) = mpsc::channel();
    let callback = Box::new(move |m: &metagd::msg::JointStateView, _| in_.send(m.clone()).unwrap_or(()));
    let subscription = metagd.subscribe("/echo", Qos::SENSOR_DATA, callback).unwrap();
    let mut state = metagd.advertise("/joint_states", Qos::DEFAULT).unwrap();
    let _running = run(metagd);

    let loopback = "<CycloneDDS><Domain><General><Interfaces><NetworkInterface address='127.0.0.1'/></Interfaces>\
        <AllowMulticast>false</AllowMulticast></General><Discovery><ParticipantIndex>auto</ParticipantIndex>\
        <Peers><Peer address='127.0.0.1'/></Peers></Discovery></Domain></CycloneDDS>";
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/ros_peer.py");
    let mut peer = Peer(
        Command::new(python)
            .args([script, &domain.to_string()])
            .env("CYCLONEDDS_URI", loopback)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    assert_eq!(state.wait_for_subscribers(1, PATIENCE), 1);
    let sent = joint_state(123_000_000_456, &["a1", "a2", "a3"], &[1.0, 2.0, 3.0]);
    let echo = until(&mut *state, &sent, &echoes);
    assert_eq!(echo.header.stamp, sent.header.stamp);
    assert_eq!(echo.header.frame_id.as_str(), "base");
    assert_eq!(echo.name.iter().map(|n| n.as_str()).collect::<Vec<_>>(), ["a3", "a2", "a1"]);
    assert_eq!(echo.position[..], [6.0, 4.0, 2.0]);
    assert_eq!((&echo.velocity[..], &echo.effort[..]), (&[0.5; 3][..], &[-1.0; 3][..]));

    // In the ROS graph: one subscription; one publisher, besides those of /parameter_events and the graph.
    let graph = BufReader::new(peer.0.stdout.take().unwrap());
    let announced = graph.lines().map_while(Result::ok).find(|line| line.ends_with("1 3"));
    assert_eq!(announced.as_deref(), Some("/cell/metagd 1 3"));
    assert_eq!(subscription.malformed(), 0);
}
