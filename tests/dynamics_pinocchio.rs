//! The rigid-body dynamics against Pinocchio (PyPI `pin`), an independent implementation, to 1e-9.

#![allow(clippy::print_stderr)] // figures, and what was skipped

use std::io::Write;
use std::process::{Command, Stdio};

use metagd::dynamics::{Arm, PARAMETERS_PER_LINK, Regressor};
use metagd::sample::{MAX_JOINTS, Motion, PerJoint};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::json;

const STATES: usize = 50;

#[derive(Deserialize)]
struct Answer {
    inverse: Vec<f64>,
    mass: Vec<Vec<f64>>,
    forward: Vec<f64>,
    regressor: Vec<Vec<f64>>,
    energy: f64,
    flange: Vec<f64>,
}

fn python() -> String {
    std::env::var("METAGD_PYTHON").unwrap_or_else(|_| "python3".into())
}

/// Whether Pinocchio can be asked; says so plainly if not, and fails where it is required.
fn pinocchio_is_there() -> bool {
    let there = Command::new(python())
        .args(["-c", "import pinocchio, numpy; pinocchio.buildModelFromXML"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        let required = std::env::var("METAGD_REQUIRE_PEERS").is_ok_and(|value| value == "1");
        assert!(!required, "`{}` cannot import pinocchio (pip install pin)", python());
        eprintln!(
            "SKIPPED: `{}` cannot import pinocchio (pip install pin; METAGD_PYTHON names it)",
            python()
        );
    }
    there
}

fn ask(question: &serde_json::Value) -> Vec<Answer> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/dynamics_pinocchio.py");
    let mut child =
        Command::new(python()).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the script failed, see above");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn assert_near(what: &str, ours: &[f64], theirs: &[f64]) {
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= 1e-9 * (1.0 + b.abs()), "{what}: {a} is not {b}\n{ours:?}\n{theirs:?}");
    }
}

/// Everything at random states, with gravity askew and a payload.
fn compare(urdf: &str, seed: u64) {
    let gravity = [3.0, -5.0, -8.0];
    let (mass, com) = (1.7, [0.05, -0.02, 0.1]);
    let arm = Arm::from_urdf_str(urdf, &[], gravity).unwrap().with_payload(mass, com);
    let n = arm.len();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut values =
        || -> PerJoint { std::array::from_fn(|j| if j < n { random.random_range(-3.0..3.0) } else { 0.0 }) };
    let states: Vec<(Motion, PerJoint)> = (0..STATES)
        .map(|_| (Motion { q: values(), qd: values(), qdd: values() }, values().map(|tau| 10.0 * tau)))
        .collect();
    let answers = ask(&json!({
        "urdf": urdf,
        "joints": arm.joint_names(),
        "flange": arm.flange_name(),
        "gravity": gravity,
        "payload": { "mass": mass, "com": com },
        "states": states.iter().map(|(motion, tau)| json!({
            "q": motion.q[..n], "qd": motion.qd[..n], "qdd": motion.qdd[..n], "tau": tau[..n],
        })).collect::<Vec<_>>(),
    }));
    assert_eq!(answers.len(), STATES);
    let mut y = Regressor::new(n);
    for ((motion, tau), theirs) in states.iter().zip(&answers) {
        assert_near("inverse dynamics", &arm.inverse_dynamics(motion)[..n], &theirs.inverse);
        assert_near(
            "forward dynamics",
            &arm.forward_dynamics(&motion.q, &motion.qd, tau)[..n],
            &theirs.forward,
        );
        assert_near("energy", &[arm.energy(&motion.q, &motion.qd)], &[theirs.energy]);
        let flange = arm.flange_pose(&motion.q).translation.vector;
        assert_near("flange", flange.as_slice(), &theirs.flange);
        arm.regressor(motion, &mut y);
        // Pinocchio's order of the inertia is xx, xy, yy, xz, yz, zz.
        let order = [0, 1, 2, 3, 4, 5, 7, 6, 8, 9];
        for ((row, mass), j) in theirs.regressor.iter().zip(&theirs.mass).zip(0..) {
            assert_near("mass matrix", &arm.mass_matrix(&motion.q)[j][..n], mass);
            let ours: Vec<f64> = y
                .row(j)
                .chunks_exact(PARAMETERS_PER_LINK)
                .flat_map(|link| order.map(|parameter| link[parameter]))
                .collect();
            assert_near("regressor", &ours, row);
        }
    }
}

/// A chain of six joints, one of them prismatic and one continuous, about random axes, with random origins, and with
/// links on fixed joints between and at the end.
fn random_chain(random: &mut impl Rng) -> String {
    fn numbers<const N: usize>(random: &mut impl Rng, size: f64) -> String {
        let values: [f64; N] = std::array::from_fn(|_| random.random_range(-size..size));
        values.map(|value| value.to_string()).join(" ")
    }
    let mut urdf = String::from(r#"<robot name="random"><link name="link0"/>"#);
    let kinds = [
        "revolute",
        "continuous",
        "fixed",
        "revolute",
        "prismatic",
        "revolute",
        "fixed",
        "revolute",
        "fixed",
    ];
    for (i, kind) in kinds.iter().enumerate() {
        let axis = nalgebra::Vector3::from_fn(|_, _| random.random_range(-1.0..1.0_f64)).normalize();
        let (a, b, c) = (
            random.random_range(0.01..0.05),
            random.random_range(0.01..0.05),
            random.random_range(0.01..0.05),
        );
        urdf += &format!(
            r#"<joint name="joint{i}" type="{kind}">
              <parent link="link{i}"/><child link="link{child}"/>
              <origin xyz="{xyz}" rpy="{rpy}"/><axis xyz="{} {} {}"/>
              <limit lower="-3" upper="3" velocity="2" effort="50"/>
            </joint>
            <link name="link{child}"><inertial>
              <origin xyz="{com}" rpy="{turned}"/><mass value="{mass}"/>
              <inertia ixx="{}" ixy="0" ixz="0" iyy="{}" iyz="0" izz="{}"/>
            </inertial></link>"#,
            axis.x,
            axis.y,
            axis.z,
            b + c,
            a + c,
            a + b,
            child = i + 1,
            xyz = numbers::<3>(random, 0.4),
            rpy = numbers::<3>(random, 3.0),
            com = numbers::<3>(random, 0.2),
            turned = numbers::<3>(random, 3.0),
            mass = random.random_range(0.5..5.0),
        );
    }
    urdf + "</robot>"
}

#[test]
fn the_lwr_agrees_with_pinocchio() {
    if pinocchio_is_there() {
        compare(include_str!("../urdf/kuka_lwr.urdf"), 1);
    }
}

#[test]
fn random_chains_agree_with_pinocchio() {
    if pinocchio_is_there() {
        for seed in 0..5 {
            let urdf = random_chain(&mut ChaCha8Rng::seed_from_u64(seed));
            let arm = Arm::from_urdf_str(&urdf, &[], [0.0; 3]).unwrap();
            assert_eq!(arm.len(), 6);
            assert!(arm.len() <= MAX_JOINTS && arm.notes().is_empty(), "{:?}", arm.notes());
            compare(&urdf, seed);
        }
    }
}
