//! What a configured node holds: the pinned thread with its model, its publisher, its probe.
//!
//! Contract: made, asked and ended by the node's own thread, which may block here (thread set-up, half a second of
//! measuring the machine's stalls, a decay). The publisher is a thread of its own: it sends the newest torque, and while
//! publishing is off it sends what leads to zero and then nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use crossbeam::queue::ArrayQueue;

use super::fault::PanicAfter;
use crate::config::Config;
use crate::dynamics::Arm;
use crate::learn::{InstructionSet, Reload};
use crate::msg::{Float64MultiArray, Header, JointState, Time};
use crate::realtime::{
    Command, CommandSender, Drops, Intake, InverseDynamics, LatencyLog, Learnt, MonotonicClock, Pipeline,
    Probe, Runtime, SampleSender, Status, Stopped, TelemetryReceiver, TorqueReceiver, Tuning, probe,
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
    publisher: JoinHandle<(Outlets, Result<()>)>,
    /// The longest that a torque may take to zero at `limits.rate` alone.
    at_rate: Duration,
    spare: Option<Box<Learnt>>,
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
            model.learnt_mut().load(config.load.as_ref(), config, &joints, reload(config))?;
            tracing::info!("loaded {} ({})", config.load, config.reload);
        }
        let spare = Box::new(model.learnt().clone());
        let most = limits.magnitude().iter().filter(|most| most.is_finite()).fold(0.0, |a: f64, b| a.max(*b));
        let at_rate = Duration::from_secs_f64((most / config.limit_rate).min(3600.0));
        let pipeline =
            Pipeline::new(config, PanicAfter::new(model, inject_panic), limits, MonotonicClock::new());
        let runtime = Runtime::start(config, pipeline)?;
        tracing::info!("learning kernel: {:?}", InstructionSet::best());
        tracing::info!("real time: {}", runtime.grants());
        for note in &runtime.grants().spinning {
            tracing::warn!("{note}");
        }
        log.set_grants(runtime.grants());
        let cpus = runtime.grants().cpus.clone();
        if let (true, Some(&cpu)) = (config.probe, cpus.last()) {
            for tick in probe::before(cpu, config.thread_priority as i32, PROBE_BEFORE) {
                log.record_probe_before(&tick);
            }
        }
        if outlets.as_ref().is_some_and(|outlets| !outlets.serve(config)) {
            bail!("the topics for torques were lost with a publisher that panicked; start the node anew");
        }
        let output = Arc::new(Output::default());
        let publisher = publish(&joints, runtime.torques(), outlets, &output)?;
        Ok(Engine {
            telemetry: runtime.telemetry(),
            commands: runtime.commands(),
            probe: Probe::start(config, &cpus),
            publisher,
            at_rate,
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

    /// Whether the pinned thread and its publisher run; an error names the one that does not.
    pub(super) fn check(&self) -> Result<()> {
        if self.runtime.status() != Status::Running {
            bail!("the pinned thread has ended");
        }
        if self.publisher.is_finished() {
            bail!("the publisher has ended");
        }
        Ok(())
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

    /// Calls `meanwhile` until the torque is zero, or until it says to wait no longer; an error if it does not get there.
    pub(super) fn wait_for_zero(&self, config: &Config, mut meanwhile: impl FnMut() -> bool) -> Result<()> {
        let ways = config.limit_ramp + config.limit_decay + config.limit_timeout * 1e-3;
        let until = Instant::now() + Duration::from_secs_f64(ways) + self.at_rate + TO_ZERO;
        while !self.runtime.is_at_zero() {
            self.check()?;
            if Instant::now() > until {
                bail!("the torque has not reached zero");
            }
            std::thread::sleep(Duration::from_millis(5));
            if !meanwhile() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What is learnt so far, as the pinned thread copies it between two samples.
    pub(super) fn learnt(&mut self) -> Result<&Learnt> {
        let spare = self.spare()?;
        self.exchange(Command::Snapshot(spare))?;
        self.spare.as_deref().ok_or_else(|| anyhow::anyhow!("no copy of the learner has come"))
    }

    /// Goes on from a checkpoint.
    pub(super) fn load(&mut self, config: &Config) -> Result<()> {
        let what = reload(config);
        let mut spare = self.spare()?;
        let loaded = spare.load(config.load.as_ref(), config, &self.joints, what);
        if let Err(error) = loaded {
            self.spare = Some(spare);
            return Err(error.into());
        }
        self.exchange(Command::Take(spare, what))
    }

    /// Goes on with fresh networks; the memories for learning rates stay.
    pub(super) fn reset(&mut self, config: &Config) -> Result<()> {
        let fresh = Box::new(self.spare()?.fresh(config, &self.joints)?);
        self.exchange(Command::Take(fresh, Reload::Network))
    }

    /// Lets the torque decay, ends the threads, and gives back what is needed to start again.
    pub(super) fn stop(self) -> (Outlets, Result<Stopped<NodeModel>>) {
        let stopped = self.runtime.stop();
        drop(self.probe);
        match self.publisher.join() {
            Ok((outlets, published)) => {
                (outlets, stopped.map_err(Into::into).and_then(|s| published.map(|()| s)))
            }
            Err(_) => (Outlets::default(), Err(anyhow::anyhow!("the publisher thread panicked"))),
        }
    }

    /// Queues a command, waiting for room: a learning step may be under way.
    fn send(&self, mut command: Command<NodeModel>) -> Result<()> {
        let until = Instant::now() + ANSWER;
        while let Err(refused) = self.commands.send(command) {
            self.check()?;
            if Instant::now() > until {
                bail!("the pinned thread takes no commands");
            }
            command = refused;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn spare(&mut self) -> Result<Box<Learnt>> {
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
            self.check()?;
            if Instant::now() > until {
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

impl Outlets {
    /// Whether every topic that is named has its publisher.
    fn serve(&self, config: &Config) -> bool {
        (config.topic_feedforward.is_empty() || self.feedforward.publisher.is_some())
            && (config.topic_commands.is_empty() || self.commands.publisher.is_some())
    }
}

/// Starts the publisher thread; it ends when the pinned thread has. A zero that the middleware did not take is sent again
/// until it does: after it there may come nothing else.
fn publish(
    joints: &[String],
    torques: TorqueReceiver<NodeModel>,
    outlets: &mut Option<Outlets>,
    output: &Arc<Output>,
) -> Result<JoinHandle<(Outlets, Result<()>)>> {
    let taken = outlets.take().unwrap_or_default();
    let mut sender = Sender::new(joints, taken, output.clone());
    let (give, given) = mpsc::channel::<Sender>();
    let spawned = std::thread::Builder::new().name("publisher".into()).spawn(move || {
        let Ok(mut sender) = given.recv() else { return (Outlets::default(), Ok(())) };
        let served = catch_unwind(AssertUnwindSafe(|| {
            loop {
                match torques.newest(AGAIN) {
                    Some(torque) => sender.send(&torque),
                    None if torques.status() != Status::Running => return sender.settle(),
                    None => sender.again(),
                }
            }
        }));
        let published = served.map_err(|_| {
            // The panic was one torque's; a zero may still get through, and nothing else will.
            let _ = catch_unwind(AssertUnwindSafe(|| sender.send(&Torque::default())));
            anyhow::anyhow!("the publisher panicked, and zero torque was sent")
        });
        (sender.outlets, published)
    });
    match spawned {
        Ok(thread) => {
            let _ = give.send(sender);
            Ok(thread)
        }
        Err(error) => {
            *outlets = Some(std::mem::take(&mut sender.outlets));
            Err(error.into())
        }
    }
}

/// How often a zero that was not taken is offered again.
const AGAIN: Duration = Duration::from_millis(100);

/// The publisher thread's messages, made once.
struct Sender {
    outlets: Outlets,
    output: Arc<Output>,
    state: JointState,
    floats: Float64MultiArray,
    at_zero: bool,
    untaken: bool,
}

impl Sender {
    fn new(joints: &[String], outlets: Outlets, output: Arc<Output>) -> Self {
        let zeros = vec![0.0; joints.len()];
        Sender {
            outlets,
            output,
            state: JointState { name: joints.to_vec(), effort: zeros.clone(), ..JointState::default() },
            floats: Float64MultiArray { data: zeros, ..Float64MultiArray::default() },
            at_zero: true,
            untaken: false,
        }
    }

    fn send(&mut self, torque: &Torque) {
        let efforts = &torque.feedforward[..self.floats.data.len()];
        self.output.newest.0.force_push(*torque);
        let silent = self.at_zero && !self.untaken && !self.output.published.load(Ordering::Relaxed);
        self.at_zero = efforts.iter().all(|&tau| tau == 0.0);
        if silent && self.at_zero {
            return;
        }
        self.floats.data.copy_from_slice(efforts);
        self.state.effort.copy_from_slice(efforts);
        self.state.header = Header { stamp: Time::from_ns(torque.stamp_ns), ..Header::default() };
        self.offer();
    }

    fn offer(&mut self) {
        let commanded = self.outlets.commands.offer(&self.floats, &self.output);
        let told = self.outlets.feedforward.offer(&self.state, &self.output);
        self.untaken = !(commanded && told);
        if !self.untaken {
            self.output.sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn again(&mut self) {
        if self.untaken && self.at_zero {
            self.offer();
        }
    }

    /// At the end: the last zero gets some more chances.
    fn settle(&mut self) {
        for _ in 0..5 {
            self.again();
            if !self.untaken {
                return;
            }
            std::thread::sleep(AGAIN);
        }
    }
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

    /// Whether it was taken, or there is nobody to offer it to.
    fn offer(&mut self, message: &M, output: &Output) -> bool {
        let Some(Err(error)) = self.publisher.as_mut().map(|publisher| publisher.publish(message)) else {
            return true;
        };
        self.refused += 1;
        output.refused.fetch_add(1, Ordering::Relaxed);
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::warn!("{error} ({} torques were not published so far)", self.refused);
        }
        false
    }
}
