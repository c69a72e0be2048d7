//! Collecting statistics allocates nothing once they are set up. This binary installs the counting allocator.

use metagd::realtime::CountingAllocator;
use metagd::realtime::thread::{Allocations, allocations};
use metagd::ros::diagnostics::{Input, Snapshot};
use metagd::ros::statistics::Statistics;
use metagd::sample::Torque;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn collecting_statistics_allocates_nothing() {
    assert!(CountingAllocator::is_installed());
    let joints: Vec<_> = (0..7).map(|joint| format!("lwr_a{joint}")).collect();
    let topic = "/joint_states".to_string();
    let mut statistics = Statistics::new(&joints, std::slice::from_ref(&topic), 0);
    let mut now = Snapshot {
        inputs: vec![Input { topic, steady: true, ..Input::default() }],
        torque: Some(Torque::default()),
        ..Snapshot::default()
    };
    let before = allocations();
    for tenth in 1..100 {
        now.at_ns = tenth * 100_000_000;
        now.inputs[0].received += 100;
        assert!(!statistics.collect(&now).data.is_empty());
    }
    assert_eq!(allocations().since(before), Allocations::default());
}
