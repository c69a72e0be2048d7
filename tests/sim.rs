//! The simulated arm against physics, and its sessions against what they promise.

use metagd::dynamics::Arm;
use metagd::sample::{Motion, PerJoint};
use metagd::sim::{
    ACCELERATION_LIMIT, Controller, LWR_URDF, Mode, Mounting, PERIOD_NS, Payload, Script, Session, SimArm,
    SimError, SimOptions, Task, Tick, Trajectory, Trial,
};
use nalgebra::Vector3;
use proptest::prelude::*;

const FLOOR: [f64; 3] = [0.0, 0.0, -9.81];
const MOUNTINGS: [Mounting; 3] = [Mounting::Floor, Mounting::Wall, Mounting::Sideways];
const TASKS: [Task; 3] = [Task::Lift, Task::RectangleHorizontal, Task::RectangleVertical];

/// An arm that is no LWR, and whose URDF names hardly any limit.
const TWO_JOINTS: &str = r#"<robot name="two">
  <link name="base"/>
  <link name="upper"><inertial><origin xyz="0.2 0 0"/><mass value="2"/>
    <inertia ixx="0.01" iyy="0.03" izz="0.03" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="fore"><inertial><origin xyz="0.2 0 0"/><mass value="1"/>
    <inertia ixx="0.005" iyy="0.015" izz="0.015" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="shoulder" type="continuous"><parent link="base"/><child link="upper"/><axis xyz="0 1 0"/></joint>
  <joint name="elbow" type="revolute"><origin xyz="0.4 0 0"/><parent link="upper"/><child link="fore"/>
    <axis xyz="0 1 0"/><limit lower="-2" upper="2.5" effort="40" velocity="3"/></joint>
</robot>"#;

fn lwr() -> Arm {
    Arm::from_urdf_str(LWR_URDF, &[], FLOOR).unwrap()
}

/// The LWR without joint limits, so that it may swing freely.
fn unlimited_lwr() -> Arm {
    Arm::from_urdf_str(&LWR_URDF.replace("type=\"revolute\"", "type=\"continuous\""), &[], FLOOR).unwrap()
}

fn joints(values: &[f64]) -> PerJoint {
    let mut all = PerJoint::default();
    all[..values.len()].copy_from_slice(values);
    all
}

const BENT: [f64; 7] = [0.3, -0.8, 0.4, 1.3, -0.2, 0.5, 0.1];
const SPIN: [f64; 7] = [0.8, -0.6, 1.0, 0.7, -1.2, 0.9, 1.5];

#[test]
fn energy_is_conserved_without_friction_and_input() {
    for (payload, mounting) in [(Payload::None, Mounting::Floor), (Payload::Heavy, Mounting::Sideways)] {
        let options = SimOptions { payload, mounting, mismatch: 1.0, ..SimOptions::ideal() };
        let mut sim = SimArm::new(&unlimited_lwr(), &options);
        sim.place(&joints(&BENT));
        sim.push(&joints(&SPIN));
        let before = sim.energy();
        let mut lowest_potential = f64::INFINITY;
        for _ in 0..1000 {
            sim.step(&PerJoint::default(), 1e-3).unwrap();
            lowest_potential = lowest_potential.min(sim.arm().energy(sim.q(), &PerJoint::default()));
        }
        let exchanged = before - lowest_potential;
        assert!(exchanged > 30.0, "the arm hardly moved: {exchanged} J");
        let drift = (sim.energy() - before).abs();
        assert!(drift < 1e-7 * exchanged, "drift {drift} J of {exchanged} J, {payload}");
    }
}

#[test]
fn friction_only_ever_takes_energy_away() {
    let options = SimOptions { ripple: 0.0, noise: 0.0, ..SimOptions::default() };
    let mut sim = SimArm::new(&unlimited_lwr(), &options);
    sim.place(&joints(&BENT));
    sim.push(&joints(&SPIN));
    let start = sim.energy();
    let mut energy = start;
    for tick in 0..3000 {
        sim.step(&PerJoint::default(), 1e-3).unwrap();
        let now = sim.energy();
        assert!(now < energy + 1e-6, "tick {tick}: {energy} to {now} J");
        energy = now;
    }
    assert!(energy < start - 5.0);
}

#[test]
fn the_torque_that_inverse_dynamics_asks_for_holds_and_accelerates_the_arm_as_asked() {
    let options = SimOptions { noise: 0.0, ..SimOptions::default() };
    let mut sim = SimArm::new(&lwr(), &options);
    sim.place(&joints(&BENT));
    let hold = sim.required_torque(&Motion { q: joints(&BENT), ..Motion::default() });
    for _ in 0..500 {
        sim.step(&hold, 1e-3).unwrap();
    }
    for (joint, start) in BENT.iter().enumerate() {
        assert!((sim.q()[joint] - start).abs() < 1e-6, "joint {joint} sank");
    }

    let mut ideal = SimArm::new(&lwr(), &SimOptions::ideal());
    let motion =
        Motion { q: joints(&BENT), qd: joints(&SPIN), qdd: joints(&[1.0, -2.0, 0.5, 3.0, -1.0, 2.0, 4.0]) };
    ideal.place(&motion.q);
    ideal.push(&motion.qd);
    let torque = lwr().inverse_dynamics(&motion);
    let dt = 1e-5;
    ideal.step(&torque, dt).unwrap();
    for joint in 0..7 {
        let acceleration = (ideal.qd()[joint] - motion.qd[joint]) / dt;
        assert!((acceleration - motion.qdd[joint]).abs() < 0.02, "joint {joint}: {acceleration}");
    }
}

#[test]
fn a_payload_adds_the_torque_of_its_weight() {
    for mounting in MOUNTINGS {
        let options = SimOptions { mounting, ..SimOptions::ideal() };
        let mut sim = SimArm::new(&lwr(), &options);
        let at_rest = Motion { q: joints(&BENT), ..Motion::default() };
        let empty = sim.required_torque(&at_rest);
        for payload in [Payload::Light, Payload::Heavy] {
            sim.set_payload(payload);
            let loaded = sim.required_torque(&at_rest);
            let potential = |q: &PerJoint| {
                let place = sim.arm().flange_pose(q) * nalgebra::Point3::from(payload.com());
                -payload.mass() * Vector3::from(mounting.gravity()).dot(&place.coords)
            };
            for joint in 0..7 {
                let (mut lower, mut upper) = (at_rest.q, at_rest.q);
                lower[joint] -= 1e-5;
                upper[joint] += 1e-5;
                let expected = (potential(&upper) - potential(&lower)) / 2e-5;
                let added = loaded[joint] - empty[joint];
                assert!((added - expected).abs() < 1e-5, "{payload} joint {joint}: {added} for {expected}");
            }
        }
        sim.set_payload(Payload::None);
        assert_eq!(sim.required_torque(&at_rest), empty);
    }
}

#[test]
fn the_true_arm_differs_from_the_nominal_one_within_bounds() {
    let nominal = lwr();
    let mut masses = vec![];
    nominal.clone().map_links(|_, link| masses.push((link.mass, link.com)));
    for seed in 0..20 {
        let sim = SimArm::new(&nominal, &SimOptions { seed, ..SimOptions::default() });
        let mut differs = false;
        sim.arm().clone().map_links(|i, link| {
            let (mass, com) = masses[i];
            assert!((link.mass / mass - 1.0).abs() <= 0.12);
            assert!((link.com - com).amax() <= 0.012);
            differs |= (link.mass / mass - 1.0).abs() > 0.03;
        });
        assert!(differs);
    }
}

#[test]
fn commands_saturate_and_joints_stop_at_their_limits() {
    let mut sim = SimArm::new(&lwr(), &SimOptions { noise: 0.0, ..SimOptions::default() });
    sim.place(&joints(&BENT));
    let push = joints(&[1000.0, 0.0, 0.0, 1000.0, 0.0, -1000.0, 0.0]);
    for _ in 0..3000 {
        sim.step(&push, 1e-3).unwrap();
        for joint in 0..7 {
            let limits = lwr().limits(joint);
            let q = sim.q()[joint];
            assert!(q < limits.upper + 0.15 && q > limits.lower - 0.15, "joint {joint} at {q}");
        }
    }
    assert_eq!(sim.measure().effort[0], lwr().limits(0).effort);
    assert!((sim.q()[0] - lwr().limits(0).upper).abs() < 0.05, "pressed against its stop");
}

#[test]
fn a_command_that_is_not_finite_ends_in_an_error_and_not_in_nan() {
    let mut sim = SimArm::new(&lwr(), &SimOptions::default());
    let error = sim.step(&joints(&[0.0, f64::NAN]), 1e-3).unwrap_err();
    assert!(matches!(error, SimError::Diverged { .. }), "{error}");
}

#[test]
fn noise_is_as_large_as_an_lwrs() {
    let mut sim = SimArm::new(&lwr(), &SimOptions::default());
    let clean = SimArm::new(&lwr(), &SimOptions { noise: 0.0, ..SimOptions::default() }).measure();
    let mut sums = [0.0_f64; 3];
    for _ in 0..5000 {
        let noisy = sim.measure();
        sums[0] += (noisy.q[2] - clean.q[2]).powi(2);
        sums[1] += (noisy.qd[2] - clean.qd[2]).powi(2);
        sums[2] += (noisy.effort[2] - clean.effort[2]).powi(2);
    }
    let [q, qd, effort] = sums.map(|sum| (sum / 5000.0).sqrt());
    assert!((1e-5..1e-4).contains(&q), "{q}");
    assert!((5e-4..5e-3).contains(&qd), "{qd}");
    assert!((0.05..0.1).contains(&effort), "{effort}");
}

#[test]
fn every_task_respects_the_arms_limits_and_is_smooth() {
    for mounting in MOUNTINGS {
        for task in TASKS {
            for (seed, seconds) in [(1, 3.5), (2, 2.0), (3, 0.1), (4, 3.0)] {
                let mut arm = lwr();
                arm.set_gravity(mounting.gravity());
                let trajectory = task.trajectory(&arm, seconds, seed).unwrap();
                let mut before: Option<Motion> = None;
                let dt = 1e-3;
                let steps = (trajectory.seconds() / dt) as usize + 1;
                for i in 0..=steps {
                    let motion = trajectory.at(i as f64 * dt);
                    assert!(motion.is_finite(7));
                    for joint in 0..7 {
                        let limits = arm.limits(joint);
                        assert!(
                            (limits.lower..=limits.upper).contains(&motion.q[joint]),
                            "{task} joint {joint}"
                        );
                        assert!(motion.qd[joint].abs() <= limits.velocity, "{task} joint {joint}");
                        assert!(motion.qdd[joint].abs() <= ACCELERATION_LIMIT, "{task} joint {joint}");
                        if let Some(before) = before {
                            let mean = (motion.qd[joint] + before.qd[joint]) / 2.0;
                            let moved = motion.q[joint] - before.q[joint];
                            assert!(
                                (moved / dt - mean).abs() < 1e-3,
                                "{task} {mounting:?} joint {joint} at {i}"
                            );
                        }
                    }
                    before = Some(motion);
                }
                let (start, end) = (trajectory.at(0.0), trajectory.at(f64::INFINITY));
                assert_eq!((start.qd, end.qd), (PerJoint::default(), PerJoint::default()));
                let gap =
                    arm.flange_pose(&start.q).translation.vector - arm.flange_pose(&end.q).translation.vector;
                assert!(gap.norm() < 1e-5, "{task}: the flange does not come back");
            }
        }
    }
}

#[test]
fn time_asked_for_is_kept_where_limits_allow_and_stretched_where_not() {
    let arm = lwr();
    assert!((Task::Lift.trajectory(&arm, 3.5, 1).unwrap().seconds() - 3.5).abs() < 1e-9);
    assert!(Task::Lift.trajectory(&arm, 0.01, 1).unwrap().seconds() > 0.3);
    let rest = Trajectory::through(&arm, &[joints(&BENT)], 2.0);
    assert_eq!(rest.seconds(), 2.0);
    assert_eq!(rest.at(1.0), Motion { q: joints(&BENT), ..Motion::default() });
}

#[test]
fn trials_vary_with_the_seed_and_only_with_it() {
    let arm = lwr();
    let at = |seed| Task::Lift.trajectory(&arm, 3.0, seed).unwrap().at(1.4);
    assert_eq!(at(5), at(5));
    assert_ne!(at(5), at(6));
}

#[test]
fn a_lift_raises_the_flange_in_every_mounting_and_loads_joint_1_when_mounted_sideways() {
    for mounting in MOUNTINGS {
        let mut arm = lwr();
        arm.set_gravity(mounting.gravity());
        for seed in 0..20 {
            let trajectory = Task::Lift.trajectory(&arm, 3.5, seed).unwrap();
            let height = |t: f64| {
                let place = arm.flange_pose(&trajectory.at(t).q).translation.vector;
                -Vector3::from(mounting.gravity()).dot(&place) / 9.81
            };
            let rise = height(1.75) - height(0.0);
            assert!(rise > 0.08, "{mounting:?} seed {seed}: {rise} m");
            if mounting == Mounting::Sideways {
                for i in 0..=35 {
                    let torque = arm.inverse_dynamics(&trajectory.at(f64::from(i) * 0.1))[0];
                    assert!((26.0..38.0).contains(&torque), "joint 1 carries {torque} Nm");
                }
            }
        }
    }
}

#[test]
fn rectangles_are_rectangles_in_their_plane() {
    for mounting in MOUNTINGS {
        let mut arm = lwr();
        arm.set_gravity(mounting.gravity());
        let up = -Vector3::from(mounting.gravity()) / 9.81;
        for task in [Task::RectangleHorizontal, Task::RectangleVertical] {
            let trajectory = task.trajectory(&arm, 8.0, 3).unwrap();
            let place = |t: f64| arm.flange_pose(&trajectory.at(t).q).translation.vector;
            let quarter = trajectory.seconds() / 4.0;
            let corners: Vec<_> = (0..4).map(|i| place(f64::from(i) * quarter)).collect();
            let (first, second) = (corners[1] - corners[0], corners[2] - corners[1]);
            assert!((0.19..0.29).contains(&first.norm()), "{}", first.norm());
            assert!((0.12..0.20).contains(&second.norm()), "{}", second.norm());
            assert!(first.dot(&second).abs() < 1e-5);
            assert!((corners[0] + second - corners[3]).norm() < 1e-5);
            assert!(first.dot(&up).abs() < 1e-5, "the long edges are level");
            let rise = second.dot(&up).abs() / second.norm();
            assert!((rise - if task == Task::RectangleVertical { 1.0 } else { 0.0 }).abs() < 1e-4);
            let normal = first.cross(&second).normalize();
            for i in 0..400 {
                let off = normal.dot(&(place(trajectory.seconds() * f64::from(i) / 400.0) - corners[0]));
                assert!(off.abs() < 2e-4, "{off} m out of the plane");
            }
        }
    }
}

fn trial(payload: Payload, mode: Mode) -> Trial {
    Trial { task: Task::Lift, payload, mode, seconds: 2.0, seed: 11 }
}

/// Runs a script; `answer` gives the feed-forward for each tick.
fn run(
    options: &SimOptions,
    trials: &[Trial],
    mut answer: impl FnMut(&Session) -> Option<PerJoint>,
) -> (Session, Vec<Tick>) {
    let mut session = Session::new(&lwr(), options, &Script { trials: trials.to_vec() }).unwrap();
    let mut ticks = vec![*session.now()];
    while !session.is_done() {
        let feedforward = answer(&session);
        ticks.push(session.tick(feedforward.as_ref()).unwrap());
    }
    (session, ticks)
}

fn perfect(session: &Session) -> Option<PerJoint> {
    Some(session.sim().required_torque(&session.now().reference))
}

#[test]
fn with_a_perfect_feedforward_the_controller_tracks_to_nearly_nothing() {
    let ideal = SimOptions::ideal();
    let (session, _) = run(&ideal, &[trial(Payload::None, Mode::RigidBody)], |_| None);
    for rms in &session.metrics().by_mode[0].tracking_rms_rad {
        assert!(*rms < 2e-5, "the nominal arm by its own model: {rms} rad");
    }
    let script = [trial(Payload::Heavy, Mode::Node), trial(Payload::Heavy, Mode::Off)];
    let (session, _) = run(&SimOptions::default(), &script, perfect);
    let metrics = session.metrics();
    let (with, without) = (metrics.mode(Mode::Node).unwrap(), metrics.mode(Mode::Off).unwrap());
    for joint in 0..7 {
        let with = with.tracking_rms_rad[joint];
        assert!(with < 1e-3 && with < without.tracking_rms_rad[joint], "joint {joint}: {with} rad");
        assert!(metrics.mode(Mode::Node).unwrap().torque_rms_nm[joint] < 0.25);
    }
}

#[test]
fn the_same_seed_gives_bit_identical_ticks_and_another_does_not() {
    let script = [trial(Payload::None, Mode::Node), trial(Payload::Heavy, Mode::RigidBody)];
    let course = |seed| run(&SimOptions { seed, ..SimOptions::default() }, &script, perfect).1;
    let bits = |ticks: &[Tick]| -> Vec<u64> {
        ticks
            .iter()
            .flat_map(|tick| [tick.measurement.q, tick.measurement.qd, tick.measurement.effort])
            .flatten()
            .map(f64::to_bits)
            .collect()
    };
    let first = course(1);
    assert_eq!(bits(&first), bits(&course(1)));
    assert_ne!(bits(&first), bits(&course(2)));
    assert!(first.windows(2).all(|pair| pair[1].stamp_ns - pair[0].stamp_ns == PERIOD_NS));
}

#[test]
fn scores_are_what_their_definitions_say() {
    let trials = [trial(Payload::None, Mode::Off), trial(Payload::Light, Mode::RigidBody)];
    let options = SimOptions { noise: 0.0, ..SimOptions::default() };
    let (session, ticks) = run(&options, &trials, |_| None);
    let metrics = session.metrics();
    assert_eq!(metrics.by_payload.len(), 2);
    let off = metrics.mode(Mode::Off).unwrap();
    assert_eq!((off.trials, off.cycles), (1, 2000));
    // The trial's ticks: after 1 s of holding still, before 0.5 s of transition.
    let scored = &ticks[1001..=3000];
    assert!(scored.iter().all(|tick| tick.scored) && !ticks[1000].scored && !ticks[3001].scored);
    for joint in 0..7 {
        let mean = |f: &dyn Fn(&Tick) -> f64| scored.iter().map(f).sum::<f64>() / 2000.0;
        let effort = mean(&|tick| tick.measurement.effort[joint].powi(2)).sqrt();
        assert!(
            (off.torque_rms_nm[joint] - effort).abs() < 1e-9,
            "no feed-forward: all of the torque is error"
        );
        let tracking = mean(&|tick| (tick.measurement.q[joint] - tick.reference.q[joint]).powi(2)).sqrt();
        assert!((off.tracking_rms_rad[joint] - tracking).abs() < 1e-12);
    }
    assert_eq!(ticks.len() as u64, session.total_ticks() + 1);
}

#[test]
fn feedforward_is_counted_and_a_silent_node_fades_out() {
    let trials = [trial(Payload::None, Mode::Node)];
    let mut sent = 0;
    let (session, ticks) = run(&SimOptions::default(), &trials, |session| {
        let ticks = session.now().stamp_ns / PERIOD_NS;
        match ticks {
            0..1500 => {
                sent += 1;
                perfect(session)
            }
            1500..1510 => Some([f64::NAN; 16]),
            _ => None,
        }
    });
    let counts = session.metrics().feedforward;
    assert_eq!((counts.received, counts.non_finite), (sent, 10));
    assert_eq!(counts.late, 1500, "scored ticks 1500 to 2999");
    assert!((1440..1460).contains(&counts.stale), "{}", counts.stale);
    assert!(ticks[1540].feedforward[1].abs() > 5.0, "held while fresh");
    assert_eq!(ticks[1700].feedforward, PerJoint::default());
    assert!(ticks.iter().all(|tick| tick.feedforward.iter().all(|torque| torque.is_finite())));
}

#[test]
fn changing_modes_does_not_jerk_the_arm_and_payload_changes_are_scored() {
    let trials = [
        trial(Payload::None, Mode::RigidBody),
        trial(Payload::Heavy, Mode::Off),
        trial(Payload::Heavy, Mode::Node),
    ];
    let (_, ticks) = run(&SimOptions::default(), &trials, perfect);
    for pair in ticks.windows(2).skip(300) {
        let payload_changes = pair[1].trial == 1 && pair[1].scored && !pair[0].scored;
        for joint in 0..7 {
            let jump = (pair[1].feedforward[joint] - pair[0].feedforward[joint]).abs();
            assert!(jump < 0.8 || payload_changes, "{jump} Nm at {} ns", pair[1].stamp_ns);
        }
    }
    let held_up = |tick: &Tick| tick.reference.q[1] - tick.measurement.q[1];
    let second = ticks.iter().position(|tick| tick.trial == 1 && tick.scored).unwrap();
    assert!(
        held_up(&ticks[second + 400]).abs() > held_up(&ticks[second - 1]).abs() + 0.005,
        "the arm sags when it picks up 3 kg, which is scored"
    );
}

#[test]
fn an_arm_that_is_no_lwr_is_simulated_too() {
    let arm = Arm::from_urdf_str(TWO_JOINTS, &[], FLOOR).unwrap();
    let script = Script::repeat(Task::Lift, Payload::Light, Mode::RigidBody, 2, 1);
    let mut session = Session::new(&arm, &SimOptions::default(), &script).unwrap();
    while !session.is_done() {
        session.tick(None).unwrap();
    }
    let metrics = session.metrics();
    assert_eq!(metrics.joints, ["shoulder", "elbow"]);
    assert!(metrics.by_mode[0].tracking_rms_rad.iter().all(|rms| *rms < 0.1));
    let error = Task::RectangleHorizontal.trajectory(&arm, 3.0, 1).unwrap_err();
    assert!(matches!(error, SimError::Unreachable { .. }), "it cannot leave its plane: {error}");
}

#[test]
fn an_empty_script_is_refused() {
    let error = Session::new(&lwr(), &SimOptions::default(), &Script::default()).unwrap_err();
    assert_eq!(error, SimError::EmptyScript);
}

#[test]
fn gains_follow_the_effort_limits() {
    let controller = Controller::new(&lwr(), &joints(&BENT));
    assert_eq!(controller.stiffness()[0], 5.0 * 176.0);
    assert_eq!(controller.stiffness()[6], 5.0 * 38.0);
    assert!(controller.damping()[..7].iter().all(|damping| *damping > 0.0));
}

proptest! {
    #[test]
    fn a_demonstration_fills_its_time_and_begins_each_payload_with_the_node(seconds in 0.0..400.0_f64, seed in 0_u64..1000) {
        let script = Script::demo(seconds, seed);
        prop_assert!((script.seconds() - seconds.max(15.5)).abs() < 1e-6, "{} s", script.seconds());
        prop_assert!(script.trials.iter().all(|trial| trial.seconds >= 2.0 - 1e-9 && trial.seconds < 5.0));
        for payload in Payload::ALL {
            let modes: Vec<_> =
                script.trials.iter().filter(|trial| trial.payload == payload).map(|trial| trial.mode).collect();
            prop_assert_eq!(&modes[..2], &[Mode::Node, Mode::Off]);
        }
        prop_assert!(script.trials.windows(2).all(|pair| pair[0].payload <= pair[1].payload));
    }
}
