//! `ROS_STATIC_PEERS` between two hosts without multicast: network namespaces with a router between them. Needs root and
//! iproute2; skips without them.

#![allow(clippy::print_stderr)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use metagd::msg::Float64MultiArray;
use metagd::ros::{self, Connection, NodeOptions, Qos, Stop};

const ROLE: &str = "METAGD_TEST_ROLE";
const PEERS: &str = "METAGD_TEST_PEERS";
const PATIENCE: Duration = Duration::from_secs(25);
const TOPIC: &str = "/values";
const ADDRESSES: [&str; 2] = ["10.213.1.2", "10.213.2.2"];

/// Three namespaces in a row, a router between two hosts; gone when dropped.
struct Hosts([String; 3]);

impl Hosts {
    fn new() -> Result<Hosts, String> {
        let name = |part: &str| format!("mgd{}{part}", std::process::id());
        let hosts = Hosts([name("a"), name("r"), name("b")]);
        let [a, r, b] = &hosts.0;
        for namespace in &hosts.0 {
            ip(&["netns", "add", namespace])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        for (host, net) in [(a, 1), (b, 2)] {
            let (near, far) = (format!("v{net}h"), format!("v{net}r"));
            ip(&["-n", host, "link", "add", &near, "type", "veth", "peer", "name", &far, "netns", r])?;
            for (namespace, link, last) in [(host, &near, 2), (r, &far, 1)] {
                ip(&["-n", namespace, "addr", "add", &format!("10.213.{net}.{last}/24"), "dev", link])?;
                ip(&["-n", namespace, "link", "set", link, "up", "multicast", "off"])?;
            }
            ip(&["-n", host, "route", "add", "default", "via", &format!("10.213.{net}.1")])?;
        }
        run(Command::new("ip").args([
            "netns",
            "exec",
            r,
            "sh",
            "-c",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
        ]))?;
        Ok(hosts)
    }

    /// This very program, on one of the hosts.
    fn start(&self, host: usize, role: &str, peers: &str) -> Child {
        let namespace = &self.0[2 * host];
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "one_of_two", "--nocapture"]).env(ROLE, role).env(PEERS, peers);
        command.stdout(Stdio::null()).spawn().unwrap()
    }

    /// Whether a message comes from one host to the other.
    fn hear(&self, peers: [&str; 2]) -> bool {
        let mut speaker = self.start(0, "speak", peers[0]);
        let heard = self.start(1, "hear", peers[1]).wait().unwrap().success();
        let _ = speaker.kill();
        let _ = speaker.wait();
        heard
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for namespace in &self.0 {
            let _ = ip(&["netns", "del", namespace]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}

/// What the program does on a host of the other test; alone, nothing.
#[test]
fn one_of_two() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let peers = std::env::var(PEERS).unwrap();
    let static_peers = peers.split(';').filter_map(|peer| peer.parse().ok()).collect();
    let options = NodeOptions { domain_id: Some(9), static_peers, ..NodeOptions::new(&role) };
    let mut connection = ros::open(&options, || 0).unwrap();
    let stop = Stop::new();
    let began = Instant::now();
    if role == "speak" {
        let mut publisher = connection.advertise::<Float64MultiArray>(TOPIC, Qos::DEFAULT).unwrap();
        let running = std::thread::spawn(move || connection.run(stop));
        while began.elapsed() < 2 * PATIENCE && !running.is_finished() {
            let _ = publisher.publish(&Float64MultiArray { data: vec![1.0], ..Float64MultiArray::default() });
            std::thread::sleep(Duration::from_millis(100));
        }
        return;
    }
    let heard = stop.clone();
    let stop_hearing = stop.clone();
    let subscription = connection
        .subscribe(TOPIC, Qos::DEFAULT, Box::new(move |_: &Float64MultiArray, _| heard.request()))
        .unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(PATIENCE);
        stop_hearing.request();
    });
    connection.run(stop).unwrap();
    assert!(subscription.received() > 0, "nothing was heard");
}

#[test]
fn static_peers_meet_where_multicast_does_not_reach() {
    let hosts = match Hosts::new() {
        Ok(hosts) => hosts,
        Err(reason) => return eprintln!("SKIPPED: no network namespaces here: {reason}"),
    };
    assert!(!hosts.hear(["", ""]), "the hosts are joined without static peers, so this test shows nothing");
    assert!(hosts.hear([ADDRESSES[1], ADDRESSES[0]]), "both name each other");
    assert!(hosts.hear(["", ADDRESSES[0]]), "one names the other");
}
