//! The node as its lifecycle moves it: what each transition does.
//!
//! | transition | does |
//! |---|---|
//! | configure | reads URDF and checkpoint, locks memory, starts the pinned thread; no sample reaches it yet |
//! | activate | lets samples in and the torque ramp in (`limits.ramp`) |
//! | deactivate | lets the torque ramp out to zero, then keeps samples out |
//! | cleanup | ends the pinned thread, saves the checkpoint, unlocks and frees memory |
//! | shutdown | from wherever it is: the torque decays (`limits.decay`), then as cleanup |
//! | error | what is left of the threads ends, the torque is zero; nothing is saved |
//!
//! Contract: owned by the node's own thread; transitions block it, as long as `limits.ramp`, `limits.decay` and
//! `robot_description_timeout` say and a little more, but never the I/O or the pinned thread.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::engine::{Engine, Line, Outlets};
use super::housekeeping::Housekeeping;
use crate::config::Config;
use crate::dynamics::Arm;
use crate::realtime::runtime::RunCounts;
use crate::realtime::thread::{resident_bytes, unlock_memory};
use crate::realtime::{Clock, MonotonicClock};
use crate::report::described;
use crate::ros::diagnostics::{Input, Snapshot};
use crate::ros::lifecycle::{Managed, Outcome, State};
use crate::ros::time::RosTime;

/// What the callbacks on the I/O thread share with the node.
#[derive(Clone, Default)]
pub(super) struct Shared {
    /// Where samples go while the node is active. Only transitions contend for the lock.
    pub(super) line: Arc<Mutex<Option<Line>>>,
    /// The robot's description that came last by its topic.
    pub(super) description: Arc<Mutex<Option<String>>>,
    /// A callback has panicked.
    pub(super) panicked: Arc<AtomicBool>,
}

impl Shared {
    /// Does something with the line, if the node is active.
    pub(super) fn with_line<R>(&self, f: impl FnOnce(&mut Line) -> R) -> Option<R> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(f)
    }

    fn set_line(&self, line: Option<Line>) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }

    /// The description, if one has come.
    pub(super) fn description(&self) -> Option<String> {
        self.description.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// See the module's documentation.
pub(super) struct Body {
    pub(super) config: Config,
    pub(super) shared: Shared,
    pub(super) house: Housekeeping,
    pub(super) engine: Option<Engine>,
    pub(super) active: bool,
    /// What was counted around the last pinned thread that ended.
    pub(super) counts: RunCounts,
    /// Why the last transition failed, or what went wrong in between.
    pub(super) trouble: Option<anyhow::Error>,
    pub(super) outlets: Option<Outlets>,
    inject_panic: u64,
    /// When a checkpoint was written last.
    saved: Instant,
    /// Whether the process shall end.
    interrupted: Box<dyn Fn() -> bool>,
}

impl Body {
    pub(super) fn new(
        config: Config,
        shared: Shared,
        house: Housekeeping,
        outlets: Outlets,
        inject_panic: u64,
        interrupted: Box<dyn Fn() -> bool>,
    ) -> Self {
        Body {
            config,
            shared,
            house,
            engine: None,
            active: false,
            counts: RunCounts::default(),
            trouble: None,
            outlets: Some(outlets),
            inject_panic,
            saved: Instant::now(),
            interrupted,
        }
    }

    /// Fetches what the threads have told, and says what went wrong in one of them.
    pub(super) fn keep(&mut self) -> Result<()> {
        self.house.keep(self.engine.as_ref());
        if self.shared.panicked.load(Ordering::Relaxed) {
            bail!("the intake panicked, and the torque was taken to zero");
        }
        self.engine.as_ref().map_or(Ok(()), Engine::check)
    }

    /// Takes over a changed configuration, which may differ in live parameters only.
    pub(super) fn apply(&mut self, config: &Config) -> Result<()> {
        if config.save != self.config.save {
            check_writable(config)?;
        }
        if let Some(engine) = &self.engine {
            engine.tune(config)?;
            if self.active {
                engine.let_out(config.enabled && config.publish, config.publish)?;
            }
        }
        self.config = config.clone();
        Ok(())
    }

    /// Whether a robot description is needed that may still come.
    pub(super) fn awaits_description(&self) -> bool {
        let Config { urdf, robot_description, topic_robot_description, .. } = &self.config;
        let expected = urdf.is_empty() && robot_description.is_empty() && !topic_robot_description.is_empty();
        expected && self.shared.description().is_none()
    }

    /// What is known of the node now; with `window`, with the latencies since the last time that they were taken.
    pub(super) fn snapshot(&mut self, lifecycle: &str, time: &RosTime, window: bool) -> &Snapshot {
        let Body { config, house, engine, active, counts, .. } = self;
        let now = &mut house.snapshot;
        now.stamp_ns = time.now_ns();
        now.at_ns = MonotonicClock::new().now_ns();
        now.lifecycle.clear();
        now.lifecycle.push_str(lifecycle);
        let steady = 1 + usize::from(!config.topic_torque.is_empty());
        now.inputs.resize_with(house.subscriptions.len(), Input::default);
        for (index, (input, subscription)) in now.inputs.iter_mut().zip(&house.subscriptions).enumerate() {
            if input.topic.is_empty() {
                *input =
                    Input { topic: subscription.topic().into(), steady: index < steady, ..Input::default() };
            }
            (input.received, input.lost) = (subscription.received(), subscription.lost());
        }
        now.set_drops(&house.drops);
        now.learning = config.learning;
        now.enabled = *active && config.enabled && config.publish;
        now.deadline = house.log.deadline();
        if window {
            now.latency = house.log.take_window();
            now.resident_bytes = resident_bytes();
        }
        now.pinned = engine.as_ref().map(|engine| engine.runtime.status());
        now.counts = *counts;
        if let Some(engine) = engine {
            now.counts = engine.runtime.counts();
            now.published = engine.output.sent.load(Ordering::Relaxed);
            now.refused = engine.output.refused.load(Ordering::Relaxed);
            now.torque = engine.output.newest.take().or(now.torque);
        }
        now
    }

    /// The engine, or why there is none.
    pub(super) fn engine(&mut self) -> Result<&mut Engine> {
        self.engine.as_mut().context("the node is not configured")
    }

    /// Writes what is learnt so far to `checkpoint.save`, if `checkpoint.interval` has passed since the last time.
    pub(super) fn save_if_due(&mut self) {
        let every = Duration::from_secs_f64(self.config.save_interval);
        let wanted = self.active && !self.config.save.is_empty() && !every.is_zero();
        if wanted && self.saved.elapsed() >= every {
            match self.save() {
                Ok(done) => tracing::info!("{done}"),
                Err(error) => tracing::error!("the checkpoint was not saved: {}", described(&error)),
            }
        }
    }

    /// Writes what is learnt so far to `checkpoint.save`.
    pub(super) fn save(&mut self) -> Result<String> {
        let config = self.config.clone();
        if config.save.is_empty() {
            bail!("checkpoint.save names no file");
        }
        let engine = self.engine()?;
        let joints = engine.joints.clone();
        let saved =
            engine.learnt().and_then(|learnt| Ok(learnt.save(Path::new(&config.save), &config, &joints)?));
        // Whether or not it was: a disk that is full is not asked again at once.
        self.saved = Instant::now();
        saved?;
        Ok(format!("saved {}", config.save))
    }

    /// The arm by `urdf`, by `robot_description`, or by the topic, in this order.
    fn arm(&self) -> Result<Option<Arm>> {
        let given = !self.config.urdf.is_empty() || !self.config.robot_description.is_empty();
        let described = (!given).then(|| self.shared.description()).flatten();
        let config = match described {
            Some(robot_description) => Config { robot_description, ..self.config.clone() },
            None => self.config.clone(),
        };
        let arm = Arm::from_config(&config)?;
        if arm.is_none() && !self.config.topic_robot_description.is_empty() {
            tracing::warn!(
                "no robot description: neither `urdf` nor `robot_description` is given, and nothing came on {}; \
                 going on without a rigid body",
                self.config.topic_robot_description
            );
        }
        Ok(arm)
    }

    fn configure(&mut self) -> Result<()> {
        check_writable(&self.config)?;
        // Who starts by itself has waited already, answering requests meanwhile.
        let patience = if self.config.autostart { 0.0 } else { self.config.robot_description_timeout };
        let until = Instant::now() + Duration::from_secs_f64(patience);
        while self.awaits_description() && Instant::now() < until && !(self.interrupted)() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let arm = self.arm()?;
        let (log, outlets) = (&mut self.house.log, &mut self.outlets);
        let started = Engine::start(&self.config, arm, self.inject_panic, outlets, log);
        let engine = started.inspect_err(|_| unlock_memory())?;
        self.house.snapshot.grants = Some(engine.runtime.grants().clone());
        let joints = engine.joints.join(", ");
        tracing::info!(
            "configured: {} learner, {} preset, joints {joints}",
            self.config.learner,
            self.config.preset
        );
        self.engine = Some(engine);
        Ok(())
    }

    fn activate(&mut self) -> Result<()> {
        let (config, drops) = (&self.config, &self.house.drops);
        let engine = self.engine.as_ref().context("the node is not configured")?;
        let line = engine.line(config, drops)?;
        engine.let_out(config.enabled && config.publish, config.publish)?;
        self.shared.set_line(Some(line));
        self.active = true;
        self.saved = Instant::now();
        tracing::info!("active: {} joints", engine.joints.len());
        Ok(())
    }

    fn deactivate(&mut self) -> Result<()> {
        let engine = self.engine.as_ref().context("the node is not configured")?;
        let (house, interrupted) = (&mut self.house, &self.interrupted);
        engine.let_out(false, false)?;
        engine.wait_for_zero(&self.config, || {
            house.keep(Some(engine));
            // Whoever interrupts wants the shorter way of a shutdown, which follows.
            !interrupted()
        })?;
        self.shared.set_line(None);
        self.active = false;
        Ok(())
    }

    /// Ends the threads; saves what was learnt, if they were well.
    fn end(&mut self, save: bool) -> Result<()> {
        self.shared.set_line(None);
        self.active = false;
        let Some(engine) = self.engine.take() else { return Ok(()) };
        self.house.keep(Some(&engine));
        self.counts = engine.runtime.counts();
        let joints = engine.joints.clone();
        let telemetry = engine.runtime.telemetry();
        let (outlets, stopped) = engine.stop();
        self.outlets = Some(outlets);
        self.house.fetch(&telemetry);
        let known = &mut self.house.snapshot;
        (known.health, known.torque, known.newest_ns) = Default::default();
        unlock_memory();
        let stopped = stopped?;
        self.counts = stopped.counts;
        if save && !self.config.save.is_empty() {
            let path = Path::new(&self.config.save);
            stopped.model.inner().learnt().save(path, &self.config, &joints)?;
            tracing::info!("saved {}", path.display());
        }
        Ok(())
    }

    fn outcome(&mut self, done: Result<()>, failed: fn(String) -> Outcome) -> Outcome {
        match done {
            Ok(()) => Outcome::Success(String::new()),
            Err(error) => {
                let text = described(&error);
                self.trouble = Some(error);
                failed(text)
            }
        }
    }
}

impl Managed for Body {
    fn on_configure(&mut self) -> Outcome {
        let done = self.configure();
        self.outcome(done, Outcome::Failure)
    }

    fn on_activate(&mut self) -> Outcome {
        let done = self.activate();
        self.outcome(done, Outcome::Error)
    }

    fn on_deactivate(&mut self) -> Outcome {
        let done = self.deactivate();
        self.outcome(done, Outcome::Error)
    }

    fn on_cleanup(&mut self) -> Outcome {
        // While it can still be kept: what cannot be saved here may be saved elsewhere.
        if !self.config.save.is_empty()
            && let Err(error) = self.save()
        {
            return self.outcome(Err(error), Outcome::Failure);
        }
        let done = self.end(false);
        self.outcome(done, Outcome::Error)
    }

    fn on_shutdown(&mut self, _from: State) -> Outcome {
        let done = self.end(true);
        self.outcome(done, Outcome::Failure)
    }

    fn on_error(&mut self) -> Outcome {
        // What a thread says of its end tells more than that it has ended.
        if let Err(error) = self.end(false) {
            self.trouble = Some(error);
        }
        self.shared.panicked.store(false, Ordering::Relaxed);
        Outcome::Success("the torque is zero".into())
    }
}

/// Finds out before the start, and not a minute later, that checkpoints cannot be saved where they should.
fn check_writable(config: &Config) -> Result<()> {
    if config.save.is_empty() {
        return Ok(());
    }
    let folder = Path::new(&config.save).parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("checkpoint.save: nothing can be written to {}", folder.display()))?;
    Ok(())
}
