//! ROS 2's own tools and our node: the scripts in tests/ros2, where a ROS 2 is sourced (`ROS_DISTRO`), with the middleware
//! that `RMW_IMPLEMENTATION` names. tests/ros2/table.sh runs them for all of them.

#![allow(clippy::print_stderr)]

use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Runs one script, which prints a line for every check.
fn run(script: &str) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if std::env::var_os("ROS_DISTRO").is_none() {
        eprintln!("SKIPPED: {script} needs a sourced ROS 2");
        return;
    }
    let output = Command::new("bash")
        .arg(format!("{}/tests/ros2/{script}", env!("CARGO_MANIFEST_DIR")))
        .env("METAGD_BIN", env!("CARGO_BIN_EXE_metagd"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let [checks, why] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    eprint!("{checks}");
    assert!(output.status.success() && checks.contains("PASS"), "{script}: {}\n{checks}{why}", output.status);
    assert!(!checks.lines().any(|line| line.starts_with("FAIL")), "{script}:\n{checks}");
}

#[test]
fn topics() {
    run("topic.sh");
}

#[test]
fn nodes() {
    run("node.sh");
}

#[test]
fn parameters() {
    run("param.sh");
}

#[test]
fn services() {
    run("service.sh");
}

#[test]
fn lifecycle() {
    run("lifecycle.sh");
}

#[test]
fn bags() {
    run("bag.sh");
}

#[test]
fn arguments() {
    run("arguments.sh");
}
