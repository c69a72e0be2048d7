//! The LWR's URDF and the classical learners against two recordings of a real KUKA LWR 4+.

#![allow(clippy::print_stderr)] // figures, and what was skipped

use std::cell::RefCell;
use std::io::Read;
use std::path::{Path, PathBuf};

use metagd::config::Config;
use metagd::dynamics::{Acceleration, Arm, FourierRls, TemperedRls};
use metagd::sample::{Motion, Observation, PerJoint};
use nalgebra::{DMatrix, DVector};

const JOINTS: usize = 7;
const FLOOR: [f64; 3] = [0.0, 0.0, -9.81];

fn lwr() -> Arm {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/urdf/kuka_lwr.urdf");
    Arm::from_urdf(Path::new(path), &[], FLOOR).unwrap()
}

/// Recording 1 or 2, rows 500 to -50 (start-up and end are left out); `None`, said plainly, where the data is absent.
fn recording(number: u32) -> Option<Vec<Observation>> {
    let root = std::env::var_os("METAGD_DATA")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    let path = root.join(format!("kuka_lwr4plus/kuka_lwr4plus_meas{number}.csv.gz"));
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("SKIPPED: no recording at {}; METAGD_DATA names the folder that holds it", path.display());
        return None;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let mut rows: Vec<Observation> = csv::Reader::from_reader(text.as_bytes())
        .records()
        .map(|record| {
            let row: Vec<f64> = record.unwrap().iter().map(|field| field.parse().unwrap()).collect();
            let block = |k: usize| -> PerJoint {
                std::array::from_fn(|j| if j < JOINTS { row[1 + k * JOINTS + j] } else { 0.0 })
            };
            let motion = Motion { q: block(0), qd: block(1), qdd: block(2) };
            Observation { stamp_ns: (row[0] * 1e9).round() as i64, motion, effort: block(3) }
        })
        .collect();
    rows.truncate(rows.len() - 50);
    Some(rows.split_off(500))
}

fn rms(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), v| (sum + v * v, count + 1));
    (sum / f64::from(count)).sqrt()
}

/// Each joint's RMS difference of measured and predicted torque, Nm.
fn errors(rows: &[Observation], mut predict: impl FnMut(&Motion) -> PerJoint) -> [f64; JOINTS] {
    let predicted: Vec<PerJoint> = rows.iter().map(|row| predict(&row.motion)).collect();
    std::array::from_fn(|j| rms(rows.iter().zip(&predicted).map(|(row, p)| row.effort[j] - p[j])))
}

fn both() -> Option<[Vec<Observation>; 2]> {
    Some([recording(1)?, recording(2)?])
}

/// The RMS over all joints.
fn overall(errors: [f64; JOINTS]) -> f64 {
    rms(errors.into_iter())
}

fn assert_near(what: &str, ours: [f64; JOINTS], published: [f64; JOINTS], tolerances: [f64; JOINTS]) {
    for j in 0..JOINTS {
        let difference = (ours[j] - published[j]).abs();
        assert!(difference <= tolerances[j], "{what}, J{}: {ours:.3?} is not {published:?}", j + 1);
    }
}

#[test]
fn the_rigid_body_explains_the_recordings_as_published() {
    let Some([mut rows, second]) = both() else { return };
    rows.extend(second);
    let arm = lwr();
    let alone = errors(&rows, |motion| arm.inverse_dynamics(motion));
    eprintln!("rigid body alone, Nm: {alone:.3?}");
    // Joint 1 is 0.07 off what was published. So is, on these rows, what no model enters: the measured torque's
    // deviation (J1 0.96 against 1.08, J2 26.4 against 24.4 Nm): the table's rows cannot have been quite these.
    let mut tolerances = [0.05; JOINTS];
    tolerances[0] = 0.075;
    assert_near("rigid body", alone, [1.26, 0.74, 0.63, 0.74, 1.28, 0.67, 0.26], tolerances);

    let fitted = [0.31, 0.34, 0.22, 0.28, 0.26, 0.20, 0.23];
    let [coulomb, viscous, offset] = [
        [0.78, 0.0, 0.54, 0.40, 1.02, 0.26, 0.09],
        [0.19, 0.0, 0.05, 0.38, 0.0, 0.0, 0.03],
        [0.86, 0.66, -0.07, -0.35, -0.64, 0.58, -0.07],
    ];
    let with_friction = errors(&rows, |motion| {
        let mut torques = arm.inverse_dynamics(motion);
        for j in 0..JOINTS {
            let qd = motion.qd[j];
            torques[j] += coulomb[j] * qd.signum() + viscous[j] * qd + offset[j];
        }
        torques
    });
    eprintln!("with the published friction, Nm: {with_friction:.3?}");
    assert_near("published friction", with_friction, fitted, [0.05; JOINTS]);

    let refitted = std::array::from_fn(|j| friction_fit(&arm, &rows, j));
    eprintln!("with friction fitted here, Nm: {refitted:.3?}");
    assert_near("fitted friction", refitted, fitted, [0.05; JOINTS]);
}

/// The RMS that an offset, Coulomb and viscous friction (neither below zero) leave of joint `j`'s residual.
fn friction_fit(arm: &Arm, rows: &[Observation], j: usize) -> f64 {
    let residual =
        DVector::from_fn(rows.len(), |i, _| rows[i].effort[j] - arm.inverse_dynamics(&rows[i].motion)[j]);
    let columns = |qd: f64| [1.0, qd.signum(), qd];
    // Of two parameters with a bound the best is among these four fits, each without those that are at their bound.
    [&[0][..], &[0, 1], &[0, 2], &[0, 1, 2]]
        .into_iter()
        .filter_map(|free| {
            let h = DMatrix::from_fn(rows.len(), free.len(), |i, k| columns(rows[i].motion.qd[j])[free[k]]);
            let fit = h.tr_mul(&h).cholesky()?.solve(&h.tr_mul(&residual));
            let feasible = fit.iter().skip(1).all(|friction| *friction >= 0.0);
            feasible.then(|| rms((&residual - h * fit).iter().copied()))
        })
        .fold(f64::INFINITY, f64::min)
}

/// A learner's torque for each row, predicted before it learnt from that row's batch of ten.
fn prequential(
    rows: &[Observation],
    mut predict_then_observe: impl FnMut(&Observation) -> PerJoint,
    mut update: impl FnMut(),
) -> [f64; JOINTS] {
    let mut sums = [0.0; JOINTS];
    let batches = rows.chunks_exact(10);
    let count = (batches.len() * 10) as f64;
    for batch in batches {
        for row in batch {
            let predicted = predict_then_observe(row);
            for j in 0..JOINTS {
                sums[j] += (row.effort[j] - predicted[j]).powi(2);
            }
        }
        update();
    }
    sums.map(|sum| (sum / count).sqrt())
}

#[test]
fn least_squares_learnt_on_one_recording_hold_on_the_next() {
    let Some([one, two]) = both() else { return };
    let arm = lwr();
    let rigid_body = overall(errors(&two, |motion| arm.inverse_dynamics(motion)));

    let tempered = RefCell::new(TemperedRls::new(arm.clone()));
    let run = |rows| {
        prequential(
            rows,
            |row| {
                let predicted = tempered.borrow().predict(&row.motion);
                tempered.borrow_mut().observe(&row.motion, &row.effort);
                predicted
            },
            || _ = tempered.borrow_mut().update(),
        )
    };
    let first = overall(run(&one));
    let frozen = overall(errors(&two, |motion| tempered.borrow().predict(motion)));
    let second = overall(run(&two));
    eprintln!("rigid body {rigid_body:.3}; tempered: {first:.3}, frozen {frozen:.3}, chained {second:.3} Nm");
    assert!((rigid_body - 0.864).abs() < 0.002, "{rigid_body}");
    // The prototype's figure is 0.222.
    assert!(frozen < 0.25, "{frozen}");
    assert!(second < frozen && first < 0.3);

    for (name, model) in [("residual", Some(arm.clone())), ("whole torque", None)] {
        let fourier = RefCell::new(FourierRls::new(&Config::default(), model, JOINTS));
        let run = |rows| {
            prequential(
                rows,
                |row| {
                    let predicted = fourier.borrow().predict(&row.motion);
                    fourier.borrow_mut().observe(&row.motion, &row.effort);
                    predicted
                },
                || {
                    fourier.borrow_mut().update();
                },
            )
        };
        let first = overall(run(&one));
        let frozen = overall(errors(&two, |motion| fourier.borrow().predict(motion)));
        let second = overall(run(&two));
        eprintln!("Fourier features, {name}: {first:.3}, frozen {frozen:.3}, chained {second:.3} Nm");
        assert!(frozen < 0.7 * rigid_body && second < frozen, "{name}: {frozen} {second}");
    }
}

#[test]
fn accelerations_come_out_of_jittering_stamps() {
    let Some(rows) = recording(1) else { return };
    let mut estimator = Acceleration::new(&Config::default(), JOINTS);
    let (mut centred_error, mut one_sided_error) = (vec![], vec![]);
    for (i, row) in rows.iter().enumerate() {
        estimator.push(row.stamp_ns, &row.motion.q, &row.motion.qd, &row.effort);
        if let (Some(one_sided), Some(centred)) = (estimator.one_sided(), estimator.centred()) {
            let middle = &rows[i - estimator.lag()];
            assert_eq!((middle.stamp_ns, middle.effort), (centred.stamp_ns, centred.effort));
            let difference = |a: PerJoint, b: PerJoint| (0..JOINTS).map(move |j| a[j] - b[j]);
            centred_error.extend(difference(centred.motion.qdd, middle.motion.qdd));
            one_sided_error.extend(difference(one_sided, row.motion.qdd));
        }
    }
    let size = rms(rows.iter().flat_map(|row| row.motion.qdd[..JOINTS].iter().copied()));
    let (centred, one_sided) = (rms(centred_error.into_iter()), rms(one_sided_error.into_iter()));
    eprintln!("accelerations of {size:.3} rad/s²: centred off by {centred:.4}, one-sided by {one_sided:.4}");
    assert!(centred < 0.03 * size && one_sided < 0.1 * size);
}
