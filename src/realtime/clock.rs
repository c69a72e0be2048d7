//! Time: the pipeline's monotonic clock, a fake one for tests and deterministic replay, and the system's wall clock.
//!
//! Contract: any thread; no allocation, no blocking. The time is a vDSO call; the
//! thread's CPU time is a system call.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A source of nanoseconds that never runs backwards.
pub trait Clock {
    /// Nanoseconds since an origin of the clock's own.
    fn now_ns(&self) -> i64;

    /// The CPU time that the calling thread has used, ns; by default, all the time that has passed.
    fn thread_cpu_ns(&self) -> i64 {
        self.now_ns()
    }
}

/// CLOCK_MONOTONIC. All values of a process share one origin, so that threads can compare their readings.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    origin: Instant,
}

impl MonotonicClock {
    /// The process's clock.
    pub fn new() -> Self {
        static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        MonotonicClock { origin: *ORIGIN }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        MonotonicClock::new()
    }
}

impl Clock for MonotonicClock {
    fn now_ns(&self) -> i64 {
        self.origin.elapsed().as_nanos() as i64
    }

    fn thread_cpu_ns(&self) -> i64 {
        super::thread::thread_cpu_ns()
    }
}

/// A clock that stands still until it is told otherwise; clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct FakeClock {
    now_ns: Arc<AtomicI64>,
}

impl FakeClock {
    /// Starts at zero.
    pub fn new() -> Self {
        FakeClock::default()
    }

    /// Sets the time.
    pub fn set(&self, now_ns: i64) {
        self.now_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Lets `ns` nanoseconds pass.
    pub fn advance(&self, ns: i64) {
        self.now_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn now_ns(&self) -> i64 {
        self.now_ns.load(Ordering::Relaxed)
    }
}

/// The system's wall clock, nanoseconds since 1970: what a message's stamp is compared with.
pub fn wall_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_monotonic_clocks_share_their_origin_and_never_run_backwards() {
        let (a, b) = (MonotonicClock::new(), MonotonicClock::new());
        let readings = [a.now_ns(), b.now_ns(), a.now_ns()];
        assert!(readings.is_sorted(), "{readings:?}");
    }

    #[test]
    fn clones_of_a_fake_clock_show_the_same_time() {
        let clock = FakeClock::new();
        let other = clock.clone();
        clock.set(5);
        other.advance(2);
        assert_eq!(clock.now_ns(), 7);
    }
}
