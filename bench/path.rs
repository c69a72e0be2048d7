//! Time what lies on the way of a sample besides learning: `cargo bench --bench path`.
//!
//! In the order of that way: decode, intake, ring, prediction, and what housekeeping does with the telemetry. Seven joints, the
//! built-in arm, the default parameters.

use std::cell::Cell;
use std::hint::black_box;

use crossbeam::queue::ArrayQueue;
use divan::Bencher;
use metagd::bag::cdr;
use metagd::config::Config;
use metagd::dynamics::Arm;
use metagd::msg::{Header, JointState, JointStateView, Time};
use metagd::realtime::runtime::SampleTiming;
use metagd::realtime::{Intake, InverseDynamics, LatencyLog, Model, Telemetry};
use metagd::sample::{Motion, Sample};

fn main() {
    divan::main();
}

fn arm() -> Arm {
    Arm::from_urdf_str(metagd::sim::LWR_URDF, &[], [0.0, 0.0, -9.81]).expect("the built-in arm")
}

/// The message of the `k`-th millisecond.
fn message(k: i64) -> JointState {
    let wave = |phase: f64| (0..7).map(|j| (1.5e-3 * k as f64 + f64::from(j) + phase).sin() * 0.4).collect();
    JointState {
        header: Header { stamp: Time::from_ns(k * 1_000_000), frame_id: String::new() },
        name: arm().joint_names().to_vec(),
        position: wave(0.0),
        velocity: wave(1.57),
        effort: wave(0.3),
    }
}

fn view(k: i64) -> JointStateView {
    cdr::decode(&cdr::encode(&message(k)).expect("it encodes")).expect("it decodes")
}

#[divan::bench]
fn decode_joint_state(bencher: Bencher) {
    let bytes = cdr::encode(&message(1)).expect("it encodes");
    bencher.bench_local(|| cdr::decode::<JointStateView>(black_box(&bytes)));
}

/// Mapping of names, checks, stamp, and the acceleration's two fits.
#[divan::bench]
fn intake(bencher: Bencher) {
    let mut intake = Intake::new(&Config::default(), arm().joint_names()).expect("seven joints");
    let (mut view, k) = (view(0), Cell::new(0));
    bencher.bench_local(|| {
        k.set(k.get() + 1);
        view.header.stamp = Time::from_ns(k.get() * 1_000_000);
        intake.joint_state(&view, 0, 0)
    });
}

/// One sample through the ring to the pinned thread, by one thread.
#[divan::bench]
fn ring_push_and_pop(bencher: Bencher) {
    let ring = ArrayQueue::new(Config::default().ring);
    let sample = Sample { reference: Some(Motion::default()), ..Sample::default() };
    bencher.bench_local(|| {
        let pushed = ring.push(*black_box(&sample));
        black_box(ring.pop());
        pushed.is_ok()
    });
}

/// The whole preset: rigid body, least squares, seven networks, the mix, gate.
#[divan::bench]
fn predict(bencher: Bencher) {
    let arm = arm();
    let joints = arm.joint_names().to_vec();
    let mut model = InverseDynamics::new(&Config::default(), Some(arm), &joints).expect("seven joints");
    let motion = Motion { q: [0.4; 16], qd: [0.1; 16], qdd: [0.2; 16] };
    bencher.bench_local(|| model.predict(black_box(&motion)).predicted[0]);
}

/// One sample's four latencies, each into the histograms of the run, the interval and the window.
#[divan::bench]
fn record_latencies(bencher: Bencher) {
    let mut log = LatencyLog::new(&Config::default(), None).expect("no files");
    let k = Cell::new(0i64);
    bencher.bench_local(|| {
        k.set(k.get() + 1);
        let some = 1_000 + k.get() * 7_919 % 50_000;
        log.record(&Telemetry::Sample(SampleTiming {
            seq: k.get() as u64,
            arrival_ns: k.get() * 1_000_000,
            transport_ns: Some(100_000 + some),
            wake_up_ns: Some(some),
            predict_ns: some,
            arrival_to_torque_ns: 2 * some,
        }));
    });
}
