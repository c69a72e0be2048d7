//! The probe: what the machine itself does to a thread that does nothing.
//!
//! Contract: started and read by housekeeping; its own thread sleeps a millisecond at a time at the pinned thread's priority
//! and writes down by how much it woke late. Before a run it stands on the pinned thread's CPU ([`before`]); during
//! the run beside it, on another one ([`Probe::start`]): on the same it would mistake our own steps for stalls. It is
//! there because on a virtual machine the host takes CPUs away for milliseconds, which no thread can help.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use super::clock::{Clock, MonotonicClock};
use super::thread::{allowed_cpus, set_affinity, set_fifo};
use crate::config::Config;

/// How long it sleeps at a time.
pub const PERIOD: Duration = Duration::from_millis(1);

/// Capacity of the ring to housekeeping: some seconds.
const RING: usize = 8192;

/// One waking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// When it woke, ns of the monotonic clock.
    pub woke_ns: i64,
    /// By how much that was too late, ns.
    pub late_ns: i64,
}

/// A running probe. Dropping it ends its thread.
pub struct Probe {
    ring: Arc<ArrayQueue<Tick>>,
    stop: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
    cpu: usize,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Starts a probe at the pinned thread's priority on a CPU that the pinned thread does not use (`pinned`:
    /// [`super::thread::Grants::cpus`]). `None` if the configuration switches it off or there is no other CPU.
    pub fn start(config: &Config, pinned: &[usize]) -> Option<Probe> {
        let cpu = allowed_cpus().into_iter().find(|cpu| !pinned.contains(cpu)).filter(|_| config.probe)?;
        let ring = Arc::new(ArrayQueue::new(RING));
        let stop = Arc::new(AtomicBool::new(false));
        let lost = Arc::new(AtomicU64::new(0));
        let priority = config.thread_priority as i32;
        let thread = thread::Builder::new().name("metagd-probe".into()).spawn({
            let (ring, stop, lost) = (ring.clone(), stop.clone(), lost.clone());
            move || {
                settle(cpu, priority);
                watch(|tick| {
                    if ring.push(tick).is_err() {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                    !stop.load(Ordering::Relaxed)
                });
            }
        });
        Some(Probe { ring, stop, lost, cpu, thread: Some(thread.ok()?) })
    }

    /// The oldest waking not yet received, if there is one.
    pub fn try_recv(&self) -> Option<Tick> {
        self.ring.pop()
    }

    /// How many wakings nobody fetched in time.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The CPU on which it runs.
    pub fn cpu(&self) -> usize {
        self.cpu
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Probes one CPU for a while at this priority (or at whatever is granted), and returns every waking. Blocks that long.
pub fn before(cpu: usize, priority: i32, duration: Duration) -> Vec<Tick> {
    let wakings = (duration.as_nanos() / PERIOD.as_nanos()) as usize;
    let probing = thread::Builder::new().name("metagd-probe".into()).spawn(move || {
        let mut ticks = Vec::with_capacity(wakings + 1);
        let until_ns = MonotonicClock::new().now_ns() + duration.as_nanos() as i64;
        settle(cpu, priority);
        watch(|tick| {
            ticks.push(tick);
            tick.woke_ns < until_ns
        });
        ticks
    });
    probing.ok().and_then(|thread| thread.join().ok()).unwrap_or_default()
}

/// What is not granted is not: the pinned thread's own grants say so already.
fn settle(cpu: usize, priority: i32) {
    let _ = set_affinity(&[cpu]);
    let _ = set_fifo(priority);
}

fn watch(mut go_on: impl FnMut(Tick) -> bool) {
    let clock = MonotonicClock::new();
    let period_ns = PERIOD.as_nanos() as i64;
    loop {
        let due_ns = clock.now_ns() + period_ns;
        thread::sleep(PERIOD);
        let woke_ns = clock.now_ns();
        if !go_on(Tick { woke_ns, late_ns: (woke_ns - due_ns).max(0) }) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_on_a_cpu_that_the_pinned_thread_does_not_use() {
        let cpus = allowed_cpus();
        let config = Config { thread_priority: 0, ..Config::default() };
        assert!(Probe::start(&config, &cpus).is_none(), "there is no other");
        assert!(Probe::start(&Config { probe: false, ..config.clone() }, &[]).is_none());
        if let [first, .., last] = cpus[..] {
            let probe = Probe::start(&config, &[last]).unwrap();
            assert_eq!(probe.cpu(), first);
            let tick = loop {
                match probe.try_recv() {
                    Some(tick) => break tick,
                    None => thread::yield_now(),
                }
            };
            assert!(tick.late_ns >= 0 && tick.woke_ns > 0);
        }
    }

    #[test]
    fn a_probe_before_the_run_returns_what_it_saw() {
        let ticks = before(allowed_cpus()[0], 0, Duration::from_millis(5));
        assert!(!ticks.is_empty());
        assert!(ticks.iter().map(|tick| tick.woke_ns).is_sorted());
    }
}
