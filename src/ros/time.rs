//! ROS time: the system's clock, or the simulation's.
//!
//! Contract: clones share what time it is; reading it from any thread neither locks nor allocates. With `use_sim_time` it is
//! what `/clock` said last, and zero until it has said something, as in rclcpp. Timeouts that guard the robot never use
//! it: they go by the monotonic clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::msg::Time;
use crate::realtime::wall_ns;

/// Where `use_sim_time` finds the time.
pub const CLOCK_TOPIC: &str = "/clock";

/// What time it is; see the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct RosTime(Option<Arc<AtomicI64>>);

impl RosTime {
    /// The system's clock, or with `use_sim_time` the simulation's.
    pub fn new(use_sim_time: bool) -> Self {
        RosTime(use_sim_time.then(Arc::default))
    }

    /// Nanoseconds since 1970, or of the simulation.
    pub fn now_ns(&self) -> i64 {
        self.at(wall_ns())
    }

    /// As a message's stamp.
    pub fn now(&self) -> Time {
        Time::from_ns(self.now_ns())
    }

    /// What time it is by this clock when it is `wall_ns` by the system's.
    pub fn at(&self, wall_ns: i64) -> i64 {
        self.0.as_ref().map_or(wall_ns, |simulated| simulated.load(Ordering::Relaxed))
    }

    /// Takes in what `/clock` says; nothing happens by the system's clock.
    pub fn set(&self, time: Time) {
        if let Some(simulated) = &self.0 {
            simulated.store(time.to_ns(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_time_is_what_the_clock_said_last() {
        let time = RosTime::new(true);
        let shared = time.clone();
        assert_eq!((time.now_ns(), time.at(5)), (0, 0));
        shared.set(Time { sec: 12, nanosec: 3 });
        assert_eq!((time.now_ns(), time.at(5)), (12_000_000_003, 12_000_000_003));
    }

    #[test]
    fn the_systems_time_is_not_set() {
        let time = RosTime::new(false);
        time.set(Time { sec: 12, nanosec: 3 });
        assert!(time.now_ns() > 1_500_000_000_000_000_000 && time.at(5) == 5);
    }
}
