//! The pinned thread allocates nothing and takes no page fault after start-up.
//!
//! This binary installs the counting allocator, and holds one test only, so that locking its memory disturbs no other.

#![allow(clippy::print_stderr)] // what is skipped is said

use std::path::Path;
use std::time::Duration;

use metagd::config::Config;
use metagd::dynamics::Arm;
use metagd::learn::Reload;
use metagd::realtime::thread::Allocations;
use metagd::realtime::{
    Clock, Command, CountingAllocator, Intake, InverseDynamics, Model, MonotonicClock, Pipeline, Runtime,
    Tuning,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn some_thousand_samples_through_the_real_model_allocate_nothing_however_it_waits() {
    assert!(CountingAllocator::is_installed());
    let plain = Config { rls: false, replay: false, mix: false, frozen_gated: false, ..Config::default() };
    for wait in ["park", "spin", "hybrid"] {
        some_thousand_samples(wait, &plain);
    }
    let all = Config { rls: true, replay: true, mix: true, frozen_gated: true, replay_capacity: 50, ..plain };
    some_thousand_samples("park", &all);
    some_thousand_samples("park", &Config { mix: false, ..all.clone() });
    // Least squares on random features.
    pass("park", &all, None);
}

fn some_thousand_samples(wait: &str, config: &Config) {
    let urdf = Path::new(env!("CARGO_MANIFEST_DIR")).join("urdf/kuka_lwr.urdf");
    pass(wait, config, Some(Arm::from_urdf(&urdf, &[], [0.0, 0.0, -9.81]).unwrap()));
}

fn pass(wait: &str, config: &Config, arm: Option<Arm>) {
    let config = Config {
        wait: wait.into(),
        thread_priority: 0,
        hidden: vec![20, 20],
        deadline: 10_000.0,
        ..config.clone()
    };
    let joints: Vec<String> = (1..=7).map(|joint| format!("joint_{joint}")).collect();
    let joints = arm.as_ref().map_or(joints, |arm| arm.joint_names().to_vec());
    let mut intake = Intake::new(&config, &joints).unwrap();
    let model = InverseDynamics::new(&config, arm, &joints).unwrap();
    let mut state = Some(Box::new(model.learnt().clone()));
    let limits = model.limits(&config).unwrap();
    let clock = MonotonicClock::new();
    let runtime = Runtime::start(&config, Pipeline::new(&config, model, limits, clock)).unwrap();
    let (sender, torques, commands) = (runtime.sender(), runtime.torques(), runtime.commands());
    let mut returned = 0;
    for k in 0..4000i64 {
        let value = [(0.002 * k as f64).sin(); 7];
        let sample = intake.row(k * 1_000_000, clock.now_ns(), &value, &value, None, &value).unwrap();
        sender.send(sample).unwrap();
        assert!(torques.recv(Duration::from_secs(20)).is_some());
        // Everything that may be asked while it runs, one after the other.
        let what = [Reload::All, Reload::Network, Reload::Memory][k as usize / 200 % 3];
        let command = match k % 200 {
            50 => state.take().map(Command::Snapshot),
            150 => state.take().map(|state| Command::Take(state, what)),
            10 => Some(Command::NewTask),
            20 => Some(Command::Tune(Tuning::from_config(&Config { limit_torque: 0.5, ..config.clone() }))),
            30 => Some(Command::SetEnabled(k % 400 == 30)),
            160 | 190 => {
                let config = Config { learning: k % 200 == 190, ..config.clone() };
                Some(Command::Tune(Tuning::from_config(&config)))
            }
            _ => None,
        };
        if let Some(command) = command {
            assert!(commands.send(command).is_ok());
        }
        if let Some(back) = commands.take_back() {
            state = Some(back);
            returned += 1;
        }
    }
    assert!(returned > 30, "{returned} states came back");
    let memory_locked = !runtime.grants().memory.is_refused();
    let stopped = runtime.stop().unwrap();
    assert_eq!((stopped.counters.samples, stopped.counters.batches), (4000, 399));
    assert_ne!(stopped.model.health().learner_mse[0], 0.0, "the steps were real");
    assert_eq!(stopped.counts.allocations, Some(Allocations { allocated: 0, freed: 0 }), "{wait}");
    match stopped.counts.page_faults {
        Some(faults) if memory_locked => assert_eq!((faults.minor, faults.major), (0, 0), "{wait}"),
        faults => eprintln!("SKIPPED: page faults ({faults:?}): memory is not locked here"),
    }
}
