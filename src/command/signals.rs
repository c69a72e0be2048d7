//! SIGINT and SIGTERM as a flag that loops can poll and threads can wait for.

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
    /// Catches SIGINT and SIGTERM from now on. A signal that comes three seconds or more
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
                let handlers = signal(SignalKind::interrupt())
                    .and_then(|int| signal(SignalKind::terminate()).map(|term| (int, term)));
                let (mut int, mut term) = match handlers {
                    Ok(handlers) => handlers,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                let _ = ready.send(Ok(()));
                let mut first: Option<Instant> = None;
                loop {
                    tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
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
