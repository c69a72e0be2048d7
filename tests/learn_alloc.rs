//! After construction the learner touches the heap no more, whichever learner it is.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use metagd::config::{Config, LEARNERS};
use metagd::learn::{ArmLearner, Batch};
use metagd::sample::{Motion, Observation, PerJoint};

/// Counts this thread's calls, so that the test harness's own threads do not matter.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a constant-initialised thread-local
// without a destructor, which does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, and we pass it on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above; `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; `pointer` came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls() -> u64 {
    CALLS.with(Cell::get)
}

#[test]
fn the_counter_counts() {
    let before = calls();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(calls() - before, 2);
}

#[test]
fn nothing_allocates_after_construction() {
    let joints: Vec<String> = (1..=7).map(|j| format!("joint_{j}")).collect();
    for learner in LEARNERS {
        for (groups, centres) in [("tensor", "linear"), ("layer", "log")] {
            let config = Config {
                learner: learner.to_string(),
                memory_groups: groups.into(),
                memory_centres: centres.into(),
                hidden: vec![50, 40],
                ..Config::default()
            };
            let mut arm = ArmLearner::new(&config, &joints).unwrap();
            let mut other = ArmLearner::new(&config, &joints).unwrap();
            let mut batch = Batch::new(&config, 7);
            let mut out = PerJoint::default();

            let before = calls();
            for step in 0..4 {
                batch.clear();
                let mut sample = 0.0;
                while !batch.is_full() {
                    sample += 0.01;
                    let motion = Motion { q: [sample; 16], qd: [-sample; 16], qdd: [step as f64; 16] };
                    arm.predict(&motion, &[1.0; 16], &mut out);
                    // One batch in four is not finite.
                    let effort = if step == 2 { f64::NAN } else { sample.sin() };
                    batch.push(&Observation { stamp_ns: 0, motion, effort: [effort; 16] }, &[1.0; 16]);
                }
                for joint in 0..7 {
                    assert_eq!(arm.step(joint, &batch).finite, step != 2);
                    arm.snapshot(joint);
                    arm.restore(joint);
                }
                other.copy_from(&arm);
                other.new_task();
            }
            assert_eq!(calls() - before, 0, "{learner}, {groups}, {centres}");
        }
    }
}
