//! What a configured node holds: the pinned thread with its model, its publisher, its probe.
//!
//! Contract: made, asked and ended by the node's own thread, which may block here (thread set-up, half a second of
//! measuring the machine's stalls, a decay). The publisher is a thread of its own: it sends the newest torque, and while
//! publishing is off it sends what leads to zero and then nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use crossbeam::queue::ArrayQueue;

use super::fault::PanicAfter;
use crate::config::Config;
use crate::dynamics::Arm;
use crate::learn::ArmLearner;
use crate::learn::checkpoint::{self, Reload};
use crate::msg::{Float64MultiArray, Header, JointState, Time};
use crate::realtime::{
    Command, CommandSender, Drops, Intake, InverseDynamics, LatencyLog, MonotonicClock, Pipeline, Probe,
    Runtime, SampleSender, Status, Stopped, TelemetryReceiver, TorqueReceiver, Tuning, probe,
};
use crate::ros::Publisher;
use crate::sample::Torque;

/// The model as the node runs it.
pub(super) type NodeModel = PanicAfter<InverseDynamics>;

/// How long the machine's stalls are measured on the pinned thread's CPU before the run.
const PROBE_BEFORE: Duration = Duration::from_millis(500);

/// How long the pinned thread may take to answer between two samples.
const ANSWER: Duration = Duration::from_secs(2);

/// How long a torque may take to reach zero beyond `limits.ramp` or `limits.decay`.
const TO_ZERO: Duration = Duration::from_secs(2);

/// How often the same trouble is said again.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The way of a sample from the I/O thread to the pinned one, while the node is active.
pub(super) struct Line {
    pub(super) intake: Intake,
    pub(super) sender: SampleSender<NodeModel>,
}

/// See the module's documentation.
pub(super) struct Engine {
    pub(super) joints: Vec<String>,
    pub(super) runtime: Runtime<NodeModel>,
    pub(super) telemetry: TelemetryReceiver<NodeModel>,
    pub(super) probe: Option<Probe>,
    pub(super) output: Arc<Output>,
    commands: CommandSender<NodeModel>,
    publisher: JoinHandle<Outlets>,
    spare: Option<Box<ArmLearner>>,
}

impl Engine {
    /// Builds the model (from the checkpoint, where one is named), starts the pinned thread and its publisher. No torque
    /// goes out yet. What could not be started leaves the outlets where they are.
    pub(super) fn start(
        config: &Config,
        arm: Option<Arm>,
        inject_panic: u64,
        outlets: &mut Option<Outlets>,
        log: &mut LatencyLog,
    ) -> Result<Engine> {
        let joints = arm.as_ref().map_or_else(|| config.joints.clone(), |arm| arm.joint_names().to_vec());
        if joints.is_empty() {
            bail!("which arm? name its URDF (parameter `urdf` or `robot_description`) or its `joints`");
        }
        let mut model = InverseDynamics::new(config, arm, &joints)?;
        let mut limits = model.limits(config)?;
        if !limits.is_bounded() {
            bail!(
                "no effort limit is known for every joint: give a URDF that has them, or `limits.effort` [Nm]"
            );
        }
        // Looked at now: a wrong line must not be found out when the first message comes.
        Intake::new(config, &joints)?;
        limits.set_enabled(false);
        if !config.load.is_empty() {
            checkpoint::load(config.load.as_ref(), model.learner_mut(), config, &joints, reload(config))?;
            tracing::info!("loaded {} ({})", config.load, config.reload);
        }
        let spare = Box::new(model.learner().clone());
        let pipeline =
            Pipeline::new(config, PanicAfter::new(model, inject_panic), limits, MonotonicClock::new());
        let runtime = Runtime::start(config, pipeline)?;
        tracing::info!("real time: {}", runtime.grants());
        log.set_grants(runtime.grants());
        let cpus = runtime.grants().cpus.clone();
        if let (true, Some(&cpu)) = (config.probe, cpus.last()) {
            for tick in probe::before(cpu, config.thread_priority as i32, PROBE_BEFORE) {
                log.record_probe_before(&tick);
            }
        }
        let output = Arc::new(Output::default());
        let publisher = publish(&joints, runtime.torques(), outlets, &output)?;
        Ok(Engine {
            telemetry: runtime.telemetry(),
            commands: runtime.commands(),
            probe: Probe::start(config, &cpus),
            publisher,
            spare: Some(spare),
            output,
            runtime,
            joints,
        })
    }

    /// A fresh line into the pinned thread.
    pub(super) fn line(&self, config: &Config, drops: &Drops) -> Result<Line> {
        let intake = Intake::new(config, &self.joints)?.with_drops(drops.clone());
        Ok(Line { intake, sender: self.runtime.sender() })
    }

    /// How the pinned thread and its publisher are.
    pub(super) fn is_running(&self) -> bool {
        self.runtime.status() == Status::Running && !self.publisher.is_finished()
    }

    /// Other settings, between two batches.
    pub(super) fn tune(&self, config: &Config) -> Result<()> {
        self.send(Command::Tune(Tuning::from_config(config)))
    }

    /// Whether torques may go out (over `limits.ramp`), and whether they are published.
    pub(super) fn let_out(&self, torques: bool, published: bool) -> Result<()> {
        self.output.published.store(published, Ordering::Relaxed);
        self.send(Command::SetEnabled(torques))
    }

    /// A new task begins (the paper's phase).
    pub(super) fn new_task(&self) -> Result<()> {
        self.send(Command::NewTask)
    }

    /// Calls `meanwhile` until the torque is zero; an error if it does not get there.
    pub(super) fn wait_for_zero(&self, config: &Config, mut meanwhile: impl FnMut()) -> Result<()> {
        let ramp =
            Duration::from_secs_f64(config.limit_ramp + config.limit_decay + config.limit_timeout * 1e-3);
        let until = Instant::now() + ramp + TO_ZERO;
        while self.is_running() && !self.runtime.is_at_zero() {
            if Instant::now() > until {
                bail!("the torque has not reached zero");
            }
            std::thread::sleep(Duration::from_millis(5));
            meanwhile();
        }
        if !self.is_running() {
            bail!("the pinned thread has ended");
        }
        Ok(())
    }

    /// What is learnt so far, as the pinned thread copies it between two samples.
    pub(super) fn learnt(&mut self) -> Result<&ArmLearner> {
        let spare = self.spare()?;
        self.exchange(Command::Snapshot(spare))?;
        self.spare.as_deref().ok_or_else(|| anyhow::anyhow!("no copy of the learner has come"))
    }

    /// Goes on from a checkpoint.
    pub(super) fn load(&mut self, config: &Config) -> Result<()> {
        let what = reload(config);
        let mut spare = self.spare()?;
        let loaded = checkpoint::load(config.load.as_ref(), &mut spare, config, &self.joints, what);
        if let Err(error) = loaded {
            self.spare = Some(spare);
            return Err(error.into());
        }
        self.exchange(Command::Take(spare, what))
    }

    /// Goes on with fresh networks; the memories for learning rates stay.
    pub(super) fn reset(&mut self, config: &Config) -> Result<()> {
        let fresh = Box::new(ArmLearner::new(config, &self.joints)?);
        self.spare()?;
        self.exchange(Command::Take(fresh, Reload::Network))
    }

    /// Lets the torque decay, ends the threads, and gives back what is needed to start again.
    pub(super) fn stop(self) -> (Outlets, Result<Stopped<NodeModel>>) {
        let stopped = self.runtime.stop();
        drop(self.probe);
        match self.publisher.join() {
            Ok(outlets) => (outlets, stopped.map_err(Into::into)),
            Err(_) => (Outlets::default(), Err(anyhow::anyhow!("the publisher thread panicked"))),
        }
    }

    fn send(&self, command: Command<NodeModel>) -> Result<()> {
        self.commands.send(command).map_err(|_| anyhow::anyhow!("the pinned thread takes no commands"))
    }

    fn spare(&mut self) -> Result<Box<ArmLearner>> {
        // A state that came back too late for who asked for it.
        self.spare = self.spare.take().or_else(|| self.commands.take_back());
        self.spare.take().ok_or_else(|| anyhow::anyhow!("the pinned thread still holds the last copy"))
    }

    fn exchange(&mut self, command: Command<NodeModel>) -> Result<()> {
        if let Err(Command::Snapshot(spare) | Command::Take(spare, _)) = self.commands.send(command) {
            self.spare = Some(spare);
            bail!("the pinned thread takes no commands");
        }
        let until = Instant::now() + ANSWER;
        loop {
            self.spare = self.commands.take_back();
            if self.spare.is_some() {
                return Ok(());
            }
            if !self.is_running() || Instant::now() > until {
                bail!("the pinned thread has not answered");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn reload(config: &Config) -> Reload {
    Reload::parse(&config.reload).expect("checked with the parameters")
}

/// What the publisher thread tells and is told.
#[derive(Default)]
pub(super) struct Output {
    /// Whether torques are published, beyond those that lead to zero.
    published: AtomicBool,
    /// Torques sent.
    pub(super) sent: AtomicU64,
    /// Publications that the middleware did not take.
    pub(super) refused: AtomicU64,
    /// The newest torque.
    pub(super) newest: Newest,
}

/// The newest torque, for whoever looks now and then.
pub(super) struct Newest(ArrayQueue<Torque>);

impl Default for Newest {
    fn default() -> Self {
        Newest(ArrayQueue::new(1))
    }
}

impl Newest {
    /// The newest since the last look.
    pub(super) fn take(&self) -> Option<Torque> {
        self.0.pop()
    }
}

/// The topics for torques; they outlive an engine.
#[derive(Default)]
pub(super) struct Outlets {
    pub(super) feedforward: Outlet<JointState>,
    pub(super) commands: Outlet<Float64MultiArray>,
}

/// Starts the publisher thread; it ends when the pinned thread has.
fn publish(
    joints: &[String],
    torques: TorqueReceiver<NodeModel>,
    outlets: &mut Option<Outlets>,
    output: &Arc<Output>,
) -> Result<JoinHandle<Outlets>> {
    let mut outlets = outlets.take().unwrap_or_default();
    let output = output.clone();
    let mut state =
        JointState { name: joints.to_vec(), effort: vec![0.0; joints.len()], ..JointState::default() };
    let mut floats = Float64MultiArray { data: vec![0.0; joints.len()], ..Float64MultiArray::default() };
    let mut at_zero = true;
    let mut send = move |torque: &Torque, outlets: &mut Outlets| {
        let efforts = &torque.feedforward[..floats.data.len()];
        output.newest.0.force_push(*torque);
        let silent = at_zero && !output.published.load(Ordering::Relaxed);
        at_zero = efforts.iter().all(|&tau| tau == 0.0);
        if silent && at_zero {
            return;
        }
        floats.data.copy_from_slice(efforts);
        state.effort.copy_from_slice(efforts);
        state.header = Header { stamp: Time::from_ns(torque.stamp_ns), ..Header::default() };
        outlets.commands.offer(&floats, &output);
        outlets.feedforward.offer(&state, &output);
        output.sent.fetch_add(1, Ordering::Relaxed);
    };
    Ok(std::thread::Builder::new().name("publisher".into()).spawn(move || {
        loop {
            match torques.newest(Duration::from_millis(100)) {
                Some(torque) => send(&torque, &mut outlets),
                None if torques.status() != Status::Running => return outlets,
                None => {}
            }
        }
    })?)
}

/// A topic that the node publishes on, if it is named. What the middleware does not take now is not worth sending later,
/// but it is said.
pub(super) struct Outlet<M> {
    publisher: Option<Publisher<M>>,
    refused: u64,
    said: Option<Instant>,
}

impl<M> Default for Outlet<M> {
    fn default() -> Self {
        Outlet { publisher: None, refused: 0, said: None }
    }
}

impl<M> Outlet<M> {
    pub(super) fn new(publisher: Publisher<M>) -> Self {
        Outlet { publisher: Some(publisher), ..Outlet::default() }
    }

    fn offer(&mut self, message: &M, output: &Output) {
        let Some(Err(error)) = self.publisher.as_mut().map(|publisher| publisher.publish(message)) else {
            return;
        };
        self.refused += 1;
        output.refused.fetch_add(1, Ordering::Relaxed);
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::warn!("{error} ({} torques were not published so far)", self.refused);
        }
    }
}
