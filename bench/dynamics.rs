//! Time the rigid-body dynamics and the least squares on them: `cargo bench --bench dynamics`.
//!
//! Every call is given another of a thousand random states, so that neither caches nor branches know it already. The
//! comparison with Pinocchio is `just pinocchio`.

use std::hint::black_box;

use divan::Bencher;
use metagd::dynamics::{Arm, Regressor, TemperedRls};
use metagd::sample::{Motion, PerJoint};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const JOINTS: usize = 7;
const BATCH: usize = 10;

fn main() {
    divan::main();
}

fn lwr() -> Arm {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/urdf/kuka_lwr.urdf");
    Arm::from_urdf(path.as_ref(), &[], [0.0, 0.0, -9.81]).expect("the URDF of this repository")
}

/// Motions with torques, over and over.
fn states() -> impl Iterator<Item = (Motion, PerJoint)> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let states: Vec<(Motion, PerJoint)> = (0..1000)
        .map(|_| {
            let mut state = (Motion::default(), PerJoint::default());
            let (motion, effort) = &mut state;
            for values in [&mut motion.q, &mut motion.qd, &mut motion.qdd, effort] {
                values[..JOINTS].fill_with(|| random.random_range(-2.0..2.0));
            }
            state
        })
        .collect();
    states.into_iter().cycle()
}

/// Times `call` on one state after the other.
fn each<T>(bencher: Bencher, mut call: impl FnMut(&Motion, &PerJoint) -> T) {
    let mut states = states();
    bencher.bench_local(|| {
        let (motion, effort) = states.next().expect("endless");
        call(black_box(&motion), black_box(&effort))
    });
}

#[divan::bench]
fn inverse_dynamics(bencher: Bencher) {
    let arm = lwr();
    each(bencher, |motion, _| arm.inverse_dynamics(motion));
}

#[divan::bench]
fn mass_matrix(bencher: Bencher) {
    let arm = lwr();
    each(bencher, |motion, _| arm.mass_matrix(&motion.q));
}

#[divan::bench]
fn forward_dynamics(bencher: Bencher) {
    let arm = lwr();
    each(bencher, |motion, effort| arm.forward_dynamics(&motion.q, &motion.qd, effort));
}

#[divan::bench]
fn regressor(bencher: Bencher) {
    let arm = lwr();
    let mut y = Regressor::new(JOINTS);
    each(bencher, |motion, _| arm.regressor(motion, black_box(&mut y)));
}

/// A learner that has learnt from a hundred batches.
fn learnt(states: &mut impl Iterator<Item = (Motion, PerJoint)>) -> TemperedRls {
    let mut rls = TemperedRls::new(lwr());
    for _ in 0..100 {
        observe_batch(&mut rls, states);
        rls.update();
    }
    rls
}

fn observe_batch(rls: &mut TemperedRls, states: &mut impl Iterator<Item = (Motion, PerJoint)>) {
    for (motion, effort) in states.take(BATCH) {
        rls.observe(&motion, &effort);
    }
}

#[divan::bench]
fn rls_predict(bencher: Bencher) {
    let rls = learnt(&mut states());
    each(bencher, |motion, _| rls.predict(motion));
}

#[divan::bench]
fn rls_observe(bencher: Bencher) {
    let mut rls = learnt(&mut states());
    each(bencher, |motion, effort| rls.observe(motion, effort));
}

/// From a full batch of ten to the next prediction's parameters.
#[divan::bench]
fn rls_update(bencher: Bencher) {
    let mut states = states();
    let mut rls = learnt(&mut states);
    bencher
        .with_inputs(|| {
            observe_batch(&mut rls, &mut states);
            rls.clone()
        })
        .bench_local_refs(TemperedRls::update);
}

/// Ten observations and the update: what a batch costs in all.
#[divan::bench]
fn rls_batch(bencher: Bencher) {
    let mut states = states();
    let mut rls = learnt(&mut states);
    bencher.bench_local(|| {
        observe_batch(&mut rls, &mut states);
        rls.update();
    });
}
