//! The dynamics and the least squares on them allocate nothing after construction. This binary installs the counting
//! allocator.

use std::hint::black_box;

use metagd::dynamics::{Arm, Regressor, TemperedRls};
use metagd::realtime::CountingAllocator;
use metagd::realtime::thread::{Allocations, allocations};
use metagd::sample::{MAX_JOINTS, Motion};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn dynamics_and_least_squares_allocate_nothing() {
    assert!(CountingAllocator::is_installed());
    let urdf = concat!(env!("CARGO_MANIFEST_DIR"), "/urdf/kuka_lwr.urdf");
    let arm = Arm::from_urdf(urdf.as_ref(), &[], [0.0, 0.0, -9.81]).unwrap();
    let mut y = Regressor::new(arm.len());
    let mut rls = TemperedRls::new(arm.clone());
    let before = allocations();
    // The angles grow beyond those that are reduced by own means, and the last are not finite.
    for value in [0.3, -2.0, 1e5, 1e9, f64::NAN] {
        let motion = Motion { q: [value; MAX_JOINTS], qd: [0.5; MAX_JOINTS], qdd: [-1.0; MAX_JOINTS] };
        let torques = black_box(arm.inverse_dynamics(&motion));
        black_box(arm.forward_dynamics(&motion.q, &motion.qd, &torques));
        black_box(arm.energy(&motion.q, &motion.qd));
        black_box(arm.flange_pose(&motion.q));
        arm.regressor(&motion, &mut y);
        rls.observe(&motion, &[3.0; MAX_JOINTS]);
        rls.update();
        black_box(rls.predict(&motion));
    }
    assert_eq!(allocations().since(before), Allocations::default());
}
