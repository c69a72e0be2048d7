//! The command line and the environment as a user meets them: exit codes and messages.

use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_metagd");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the program with nothing of ROS in its environment but `environment`.
fn metagd(environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    for variable in [
        "ROS_DOMAIN_ID",
        "ROS_LOCALHOST_ONLY",
        "ROS_AUTOMATIC_DISCOVERY_RANGE",
        "ROS_STATIC_PEERS",
        "ROS_NAMESPACE",
        "RMW_IMPLEMENTATION",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command.envs(environment.iter().copied()).output().unwrap()
}

fn refused(environment: &[(&str, &str)], arguments: &[&str], parts: &[&str]) {
    let output = metagd(environment, arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{environment:?} {arguments:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{environment:?} {arguments:?}: {said} lacks {part}");
    }
    assert!(output.stdout.is_empty());
}

/// What the program says on standard error, where it does what it is asked.
fn told(environment: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = metagd(environment, arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    assert!(!output.stdout.is_empty());
    said
}

#[test]
fn wrong_ros_arguments_exit_with_2_and_are_named() {
    for (arguments, parts) in [
        (&["params", "--ros-args", "--speed", "9"][..], &["`--speed`", "no ROS argument"][..]),
        (&["node", "--ros-args", "-r"], &["`-r`", "from:=to"]),
        (&["node", "--ros-args", "-p"], &["`-p`", "name:=value"]),
        (&["node", "--ros-args", "-r", "a=b"], &["a=b", "from:=to"]),
        (&["node", "--ros-args", "--log-level", "loud"], &["--log-level", "loud", "debug, info"]),
        (&["node", "--ros-args", "-p", "deadlin:=5.0"], &["-p deadlin:=5.0", "deadline"]),
        (&["node", "--ros-args", "-p", "ring:=1"], &["-p ring:=1", "2 to 65536"]),
        (&["node", "--ros-args", "-p", "ring:=many"], &["-p ring:=many", "integer"]),
        (&["node", "--ros-args", "--params-file", "/nowhere/x.yaml"], &["/nowhere/x.yaml"]),
        (&["--ros-args", "-r", "__ns:=cell", "--", "node"], &["__ns:=cell", "slash"]),
        (&["node", "--node-name", "a/b"], &["a/b", "node name"]),
        (&["node", "--seconds", "0", "--ros-args"], &["--seconds"]),
    ] {
        refused(&[], arguments, parts);
    }
}

#[test]
fn a_wrong_parameter_is_found_in_the_section_of_the_node_as_it_is_renamed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("launch_params_x");
    std::fs::write(&file, "/cell/arm:\n  ros__parameters:\n    ring: 16\n    deadline: -1.0\n").unwrap();
    let file = file.to_str().unwrap();
    let line = ["node", "--ros-args", "-r", "__node:=arm", "-r", "__ns:=/cell", "--params-file", file];
    refused(&[], &line, &["launch_params_x:4", "deadline", "-1.0", "above 0, to 10000"]);
    // Under its own name nothing in the file is the node's, so it fails only for want of an arm.
    let output = metagd(&[], &["node", "--ros-args", "--params-file", file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("which arm?"));
    let namespace = [("ROS_NAMESPACE", "/cell")];
    refused(&namespace, &["node", "--node-name", "arm", "--params-file", file], &["launch_params_x:4"]);
}

#[test]
fn wrong_variables_exit_with_2_and_are_named() {
    for (variable, value, part) in [
        ("ROS_DOMAIN_ID", "233", "0 to 232"),
        ("ROS_LOCALHOST_ONLY", "yes", "0 and 1"),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF", "LOCALHOST"),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "HOUSE", "SUBNET"),
        ("ROS_STATIC_PEERS", "::1", "IPv4"),
        ("ROS_NAMESPACE", "a b", "letters"),
    ] {
        refused(&[(variable, value)], &["node"], &[variable, value, part]);
    }
}

#[test]
fn what_changes_nothing_is_said_once() {
    assert_eq!(told(&[], &["params"]), "");
    assert_eq!(told(&[], &["params", "--ros-args"]), "");
    let said = told(&[], &["params", "--ros-args", "--enclave", "/a", "-r", "x:=y", "-p", "a:=b"]);
    for part in ["--enclave /a", "remappings", "parameters"] {
        assert_eq!(said.matches(part).count(), 1, "{said}");
    }
    assert_eq!(said.matches("WARN").count(), 3, "{said}");
}

#[test]
fn the_log_is_as_loud_as_asked() {
    let noisy = ["params", "--ros-args", "--enclave", "/a"];
    let with = |environment: &[(&str, &str)], more: &[&str]| told(environment, &[&noisy[..], more].concat());
    assert!(with(&[], &["--log-level", "WARN"]).contains("--enclave"));
    assert_eq!(with(&[], &["--log-level", "error"]), "");
    assert_eq!(with(&[], &["--log-level", "metagd:=fatal"]), "");
    assert_eq!(with(&[], &["--disable-stdout-logs"]), "");
    assert!(with(&[("RUST_LOG", "warn")], &["--log-level", "error"]).contains("--enclave"));
    assert_eq!(with(&[("RUST_LOG", "error")], &["--log-level", "debug"]), "");
    assert!(with(&[("RUST_LOG", "metagd=shout")], &[]).contains("RUST_LOG"));
}

#[test]
fn nobody_listening_to_errors_is_no_panic() {
    use std::process::Stdio;
    for arguments in [&["params", "--ros-args", "--none"][..], &["params", "--ros-args", "-e", "x"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(PROGRAM);
        let output = command.args(arguments).stdout(Stdio::null()).stderr(writer).status().unwrap();
        assert!(matches!(output.code(), Some(0 | 2)), "{arguments:?}: {output}");
    }
}
