//! SIGINT, SIGTERM and SIGHUP as a flag that loops can poll and threads can wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A second signal this soon is the first one again: Ctrl-C reaches a whole process group, and whoever started us
/// (`ros2 launch`, `metagd demo`) then sends its own. It must not cut short the way to zero torque.
const REPEATED: Duration = Duration::from_secs(3);

/// Raised once the user (or `ros2 launch`) wants the process to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches SIGINT, SIGTERM and SIGHUP from now on. A signal that comes three seconds or more
    /// after the first ends the process at once, with exit code 130.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn install() -> Result<Interrupt> {
        let flag = Interrupt::default();
        let raised = flag.clone();
        let (ready, installed) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime.map_err(|error| drop(ready.send(Err(error)))) else { return };
            runtime.block_on(async move {
                use tokio::signal::unix::{SignalKind, signal};
                // A hang-up (a lost ssh session) is one of them, unless whoever started us had it ignored (nohup).
                let hangup = if hangup_is_ignored() { SignalKind::terminate() } else { SignalKind::hangup() };
                let handlers = [SignalKind::interrupt(), SignalKind::terminate(), hangup].map(signal);
                let [mut int, mut term, mut hup] = match handlers {
                    [Ok(int), Ok(term), Ok(hup)] => [int, term, hup],
                    [Err(error), ..] | [_, Err(error), _] | [.., Err(error)] => {
                        return drop(ready.send(Err(error)));
                    }
                };
                let _ = ready.send(Ok(()));
                let mut first: Option<Instant> = None;
                loop {
                    tokio::select! { _ = int.recv() => {}, _ = term.recv() => {}, _ = hup.recv() => {} }
                    raised.0.store(true, Ordering::Relaxed);
                    if first.get_or_insert_with(Instant::now).elapsed() >= REPEATED {
                        std::process::exit(130);
                    }
                }
            });
        })?;
        installed.recv().context("the signal thread ended")?.context("cannot catch SIGINT and SIGTERM")?;
        Ok(flag)
    }

    /// Whether a signal has come.
    pub fn raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps for `time`, or until raised (looked at every 20 ms); true if raised.
    pub fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while !self.raised() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
        true
    }
}

/// Whether this process was started with SIGHUP ignored (signal 1: the lowest bit of the mask, proc_pid_status(5)).
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
