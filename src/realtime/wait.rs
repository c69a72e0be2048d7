//! How the pinned thread waits for the next sample: parameters `wait` and `wait_spin`.
//!
//! Contract: owned by the pinned thread, which tells it of every arrival and asks it before every wait. Pure arithmetic: no
//! clock of its own, no allocation, no system call.
//!
//! | `wait` | until the next sample | costs | a sample waits for |
//! |---|---|---|---|
//! | `park` | sleeps | nothing | the kernel's waking an idle CPU |
//! | `spin` | polls, as long as samples come or a torque decays; sleeps on a dead input | the whole CPU | nothing |
//! | `hybrid` | sleeps, but polls from `wait_spin` before the sample is due until `wait_spin` after | up to 2 `wait_spin` per sample | nothing, if it is on time |
//!
//! **When the next sample is due** is estimated from the arrivals: the period is their running median, which lost samples and
//! bursts hardly move; the phase follows each arrival by a quarter of what it was off.

use std::time::Duration;

use crate::config::Config;

/// Arrivals that are further apart are a pause, not a period, ns.
const PAUSE_NS: i64 = 100_000_000;

/// The share of itself by which one arrival moves the period: one 1024th.
const PERIOD_SHIFT: u32 = 10;

/// What to do while there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Sleep for so long at most.
    Park(Duration),
    /// Poll for so long at most.
    Spin(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Park,
    Spin,
    /// Poll so many ns before and after a sample is due.
    Hybrid(i64),
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Wait {
    mode: Mode,
    last_ns: Option<i64>,
    period_ns: Option<i64>,
    due_ns: i64,
}

impl Wait {
    /// As `wait` and `wait_spin` say.
    pub fn new(config: &Config) -> Wait {
        let window_ns = (config.wait_spin * 1e3) as i64;
        let mode = match config.wait.as_str() {
            "spin" => Mode::Spin,
            "hybrid" if window_ns > 0 => Mode::Hybrid(window_ns),
            _ => Mode::Park,
        };
        Wait { mode, last_ns: None, period_ns: None, due_ns: i64::MIN }
    }

    /// A sample arrived at `at_ns`. To be told of each, in order.
    pub fn arrived(&mut self, at_ns: i64) {
        let gap_ns = self.last_ns.replace(at_ns).map_or(i64::MAX, |last_ns| at_ns.saturating_sub(last_ns));
        if (1..=PAUSE_NS).contains(&gap_ns) {
            let period_ns = self.period_ns.get_or_insert(gap_ns);
            let step_ns = (*period_ns >> PERIOD_SHIFT) + 1;
            *period_ns += if gap_ns > *period_ns { step_ns } else { -step_ns };
            *period_ns = (*period_ns).max(1);
        }
        let Some(period_ns) = self.period_ns else { return };
        let off_ns = at_ns.saturating_sub(self.due_ns);
        let phase_ns = if off_ns.saturating_abs() > period_ns / 2 { at_ns } else { self.due_ns + off_ns / 4 };
        self.due_ns = phase_ns.saturating_add(period_ns);
    }

    /// How to spend the time from `now_ns` on, of which there is `pause`. `alive`: samples keep coming, or a torque decays.
    pub fn rest(&self, now_ns: i64, pause: Duration, alive: bool) -> Rest {
        let until = |ns: i64| pause.min(Duration::from_nanos(ns.saturating_sub(now_ns).max(0) as u64));
        match self.mode {
            Mode::Spin if alive => Rest::Spin(pause),
            Mode::Hybrid(window_ns) => {
                let (from_ns, to_ns) =
                    (self.due_ns.saturating_sub(window_ns), self.due_ns.saturating_add(window_ns));
                match now_ns {
                    _ if now_ns < from_ns => Rest::Park(until(from_ns)),
                    _ if now_ns < to_ns => Rest::Spin(until(to_ns)),
                    _ => Rest::Park(pause),
                }
            }
            _ => Rest::Park(pause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: i64 = 1_000;
    const MS: i64 = 1_000_000;
    const LONG: Duration = Duration::from_millis(100);

    fn wait(mode: &str, spin_us: f64) -> Wait {
        Wait::new(&Config { wait: mode.into(), wait_spin: spin_us, ..Config::default() })
    }

    /// Tells of arrivals at these times.
    fn told(arrivals: impl IntoIterator<Item = i64>) -> Wait {
        let mut wait = wait("hybrid", 100.0);
        arrivals.into_iter().for_each(|at_ns| wait.arrived(at_ns));
        wait
    }

    /// When it begins to poll and when it ends, asked from `now_ns` on.
    fn window(wait: &Wait, now_ns: i64) -> (i64, i64) {
        let Rest::Park(sleep) = wait.rest(now_ns, LONG, true) else { panic!("it polls at once") };
        let from_ns = now_ns + sleep.as_nanos() as i64;
        let Rest::Spin(poll) = wait.rest(from_ns, LONG, true) else { panic!("it sleeps on") };
        (from_ns, from_ns + poll.as_nanos() as i64)
    }

    fn assert_about(window: (i64, i64), due_ns: i64, within_ns: i64) {
        let (from_ns, to_ns) = (due_ns - 100 * US, due_ns + 100 * US);
        assert!(
            (window.0 - from_ns).abs() <= within_ns && (window.1 - to_ns).abs() <= within_ns,
            "{window:?}, due {due_ns}"
        );
    }

    #[test]
    fn parking_always_sleeps_and_so_does_a_hybrid_without_time_to_spin() {
        for mut wait in [wait("park", 100.0), wait("hybrid", 0.0)] {
            (0..100).for_each(|k| wait.arrived(k * MS));
            for now_ns in [99 * MS, 100 * MS - US, 100 * MS, 500 * MS] {
                assert_eq!(wait.rest(now_ns, LONG, true), Rest::Park(LONG));
            }
        }
    }

    #[test]
    fn spinning_polls_until_the_input_is_dead() {
        let wait = wait("spin", 0.0);
        assert_eq!(wait.rest(0, LONG, true), Rest::Spin(LONG));
        assert_eq!(wait.rest(0, LONG, false), Rest::Park(LONG));
    }

    #[test]
    fn a_hybrid_polls_around_the_time_at_which_the_next_sample_is_due() {
        let wait = told((0..50).map(|k| k * MS));
        assert_about(window(&wait, 49 * MS + 10 * US), 50 * MS, 30 * US);
        assert_eq!(wait.rest(52 * MS, LONG, true), Rest::Park(LONG), "it did not come: asleep until it does");
        let short = Duration::from_micros(3);
        assert_eq!(
            wait.rest(49 * MS + 10 * US, short, true),
            Rest::Park(short),
            "never longer than the pause"
        );
        assert_eq!(wait.rest(50 * MS, short, true), Rest::Spin(short));
    }

    #[test]
    fn before_there_is_a_period_a_hybrid_sleeps() {
        for wait in [told([]), told([5 * MS]), told([5 * MS, 2000 * MS])] {
            assert_eq!(wait.rest(2001 * MS, LONG, true), Rest::Park(LONG));
        }
    }

    #[test]
    fn jitter_losses_and_bursts_hardly_move_what_is_expected() {
        let jitter = |k: i64| (k * 7919 % 61 - 30) * US;
        let wait = told((0..2000).map(|k| k * MS + jitter(k)));
        assert_about(window(&wait, 1999 * MS + 100 * US), 2000 * MS, 40 * US);
        let wait = told((0..2000).filter(|k| k % 10 != 3).map(|k| k * MS));
        assert_about(window(&wait, 1999 * MS + 100 * US), 2000 * MS, 20 * US);
        // Every hundred samples, five stand still and come at once.
        let wait = told((0..2050).map(|k| if k % 100 < 5 { k - k % 100 + 5 } else { k } * MS));
        assert_about(window(&wait, 2049 * MS + 100 * US), 2050 * MS, 20 * US);
    }

    #[test]
    fn another_rate_is_followed_and_a_wild_clock_is_survived() {
        let slower = (0..1000).map(|k| 1000 * MS + 2 * k * MS);
        let wait = told((0..1000).map(|k| k * MS).chain(slower));
        assert_about(window(&wait, 2998 * MS + 100 * US), 3000 * MS, 20 * US);
        let mut wild = told((0..10).map(|k| k * MS).chain([i64::MAX, i64::MIN, 0, i64::MAX, -1]));
        for now_ns in [i64::MIN, -1, 0, i64::MAX] {
            wild.arrived(now_ns);
            assert!(matches!(wild.rest(now_ns, LONG, true), Rest::Park(_) | Rest::Spin(_)));
        }
    }
}
