//! `metagd node`: the node itself. Joint states in, feed-forward torques out, learning in between.
//!
//! Contract: four threads. The I/O thread (middleware) runs the intake and pushes samples; the pinned thread predicts and
//! learns; the publisher thread sends the newest torque; this one keeps house: histograms, checkpoints, signals. Figures
//! go to standard output at the end, everything else to standard error.
//!
//! Every way to end, but a kill, is the same: the pinned thread lets the torque decay (or, if it panicked, sends zero), the
//! publisher sends what it left, and only then is the connection closed. So a panic in a callback is caught rather than
//! let loose on the middleware, and a log that cannot be written stops nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::fault::PanicAfter;
use super::parameters::ParameterArgs;
use super::signals::Interrupt;
use crate::config::Config;
use crate::dynamics::Arm;
use crate::learn::ArmLearner;
use crate::learn::checkpoint::{self, Reload};
use crate::msg::{Float64MultiArray, Header, JointState, JointTrajectory, JointTrajectoryPointView, Time};
use crate::realtime::{
    Command, CommandSender, DropReason, Intake, InverseDynamics, LatencyLog, MonotonicClock, Pipeline, Probe,
    Runtime, SampleSender, Status, Summary, TorqueReceiver, probe,
};
use crate::ros::{self, Arrival, Callback, Connection, Publisher, Qos, Stop, Subscription};
use crate::sample::Torque;

/// Runs the ROS 2 node: learns from joint states, publishes feed-forward torques.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub(super) parameters: ParameterArgs,
    #[command(flatten)]
    pub(super) graph: super::graph::GraphArgs,
    /// Stop cleanly after this many seconds.
    #[arg(long, value_name = "S", value_parser = super::seconds)]
    seconds: Option<f64>,
    /// At the end, print the latency figures as JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// For tests of the safety path: panic in the learner at this prediction.
    #[arg(long, hide = true, value_name = "N", default_value_t = u64::MAX)]
    inject_panic: u64,
}

/// The model as the node runs it.
type NodeModel = PanicAfter<InverseDynamics>;

/// How often telemetry is fetched.
const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// How long the machine's stalls are measured on the pinned thread's CPU before the run.
const PROBE_BEFORE: Duration = Duration::from_millis(500);

/// How often the same trouble, or the same state of affairs, is said again.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What the middleware gets to deliver the last torque, before its connection is closed.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The node's name, where nobody gives it another.
pub(super) const NODE: &str = "metagd";

/// Runs `metagd node`.
///
/// # Errors
/// Wrong parameters, an unreadable URDF or checkpoint, a middleware that does not start, real-time conditions that were
/// not granted (`realtime: enforce`), or a panic in the learner.
pub fn run(args: &Args) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let config = args.parameters.config(&args.graph.full_name(NODE)?)?;
    let graph = args.graph.options(NODE)?;
    check_writable(&config)?;
    let arm = Arm::from_config(&config)?;
    let joints = match &arm {
        Some(arm) => arm.joint_names().to_vec(),
        None => config.joints.clone(),
    };
    if joints.is_empty() {
        bail!("which arm? name its URDF (parameter `urdf`) or its `joints`");
    }
    let mut model = InverseDynamics::new(&config, arm, &joints)?;
    let limits = model.limits(&config)?;
    if !limits.is_bounded() {
        bail!("no effort limit is known for every joint: give a URDF that has them, or `limits.effort` [Nm]");
    }
    if !config.load.is_empty() {
        let reload = Reload::parse(&config.reload).expect("checked with the parameters");
        checkpoint::load(Path::new(&config.load), model.learner_mut(), &config, &joints, reload)?;
        tracing::info!("loaded {} ({})", config.load, config.reload);
    }
    let spare = Box::new(model.learner().clone());

    let run_dir = (!config.run_dir.is_empty()).then(|| PathBuf::from(&config.run_dir));
    let mut log = LatencyLog::new(&config, run_dir.as_deref())?;
    let pipeline =
        Pipeline::new(&config, PanicAfter::new(model, args.inject_panic), limits, MonotonicClock::new());
    let runtime = Runtime::start(&config, pipeline)?;
    tracing::info!("real time: {}", runtime.grants());
    log.set_grants(runtime.grants());
    let cpus = runtime.grants().cpus.clone();
    if let (true, Some(&cpu)) = (config.probe, cpus.last()) {
        for tick in probe::before(cpu, config.thread_priority as i32, PROBE_BEFORE) {
            log.record_probe_before(&tick);
        }
    }
    let probe = Probe::start(&config, &cpus);

    let mut connection = ros::open(&graph, || {
        use crate::realtime::Clock;
        MonotonicClock::new().now_ns()
    })?;
    let intake = Intake::new(&config, &joints)?;
    let drops = intake.drops();
    let panicked = Arc::new(AtomicBool::new(false));
    let subscriptions = subscribe(&mut connection, &config, intake, runtime.sender(), &panicked)?;
    let publishing = publish(&mut connection, &config, &joints, runtime.torques())?;
    let stop = Stop::new();
    let listening = listen(connection, &stop)?;
    tracing::info!("ready: {} joints, {} learner, preset {}", joints.len(), config.learner, config.preset);

    let telemetry = runtime.telemetry();
    let mut keeper = Keeper::new(&config, &joints, runtime.commands(), spare);
    let until = args.seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
    let mut malformed = 0;
    let mut said = Instant::now();
    let mut unlogged = false;
    let mut housekeep = |log: &mut LatencyLog| {
        while let Some(report) = telemetry.try_recv() {
            log.record(&report);
        }
        while let Some(tick) = probe.as_ref().and_then(Probe::try_recv) {
            log.record_probe(&tick);
        }
        let seen: u64 = subscriptions.iter().map(Subscription::malformed).sum();
        (malformed..seen).for_each(|_| drops.count(DropReason::Malformed));
        malformed = seen;
        if let Err(error) = log.tick(&drops)
            && !unlogged
        {
            unlogged = true;
            tracing::error!("{error}; the node goes on, its latency log will be incomplete");
        }
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            let received: u64 = subscriptions.iter().map(Subscription::received).sum();
            let lost: u64 = subscriptions.iter().map(Subscription::lost).sum();
            tracing::info!("{received} messages, {lost} lost on the wire, {} dropped", drops.total());
        }
    };
    let ended = || listening.is_finished() || publishing.is_finished() || panicked.load(Ordering::Relaxed);
    while runtime.status() == Status::Running && !ended() {
        housekeep(&mut log);
        keeper.keep();
        if until.is_some_and(|until| Instant::now() >= until) || interrupt.sleep(HOUSEKEEPING) {
            break;
        }
    }

    tracing::info!("stopping");
    let counts = runtime.counts();
    let stopped = runtime.stop();
    let published = join(publishing, "publisher");
    std::thread::sleep(LAST_WORDS);
    stop.request();
    let listened = join(listening, "I/O");
    housekeep(&mut log);
    let (counts, saved) = match &stopped {
        Ok(stopped) => (stopped.counts, keeper.save(stopped.model.inner().learner())),
        Err(_) => (counts, Ok(())),
    };
    let reported =
        log.finish(&drops, &counts).map_err(Into::into).and_then(|summary| report(&summary, args.json));
    stopped?;
    if panicked.load(Ordering::Relaxed) {
        bail!("the intake panicked, and the torque was taken to zero");
    }
    listened?;
    published?;
    saved?;
    reported
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

/// A callback that is called no more once it has panicked, which is then said in `panicked`.
fn guarded<M: 'static>(
    panicked: &Arc<AtomicBool>,
    mut callback: impl FnMut(&M, Arrival) + Send + 'static,
) -> Callback<M> {
    let panicked = panicked.clone();
    Box::new(move |message, arrival| {
        if panicked.load(Ordering::Relaxed) {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| callback(message, arrival))).is_err() {
            panicked.store(true, Ordering::Relaxed);
        }
    })
}

/// Wires the topics to the intake and the intake to the pinned thread.
fn subscribe(
    connection: &mut impl Connection,
    config: &Config,
    intake: Intake,
    sender: SampleSender<NodeModel>,
    panicked: &Arc<AtomicBool>,
) -> Result<Vec<Subscription>> {
    // All callbacks run on the I/O thread, so the lock is never contended.
    let intake = Arc::new(Mutex::new(intake));
    let with = |intake: &Arc<Mutex<Intake>>| intake.clone();
    let mut subscriptions = Vec::new();

    let states = with(&intake);
    subscriptions.push(connection.subscribe(
        &config.topic_joint_states,
        Qos::SENSOR_DATA,
        guarded(panicked, move |message, arrival| {
            let mut intake = states.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(sample) = intake.joint_state(message, arrival.monotonic_ns, arrival.wall_ns) {
                // A full ring is counted by the sender; a stopped thread is housekeeping's to notice.
                let _ = sender.send(sample);
            }
        }),
    )?);
    if !config.topic_torque.is_empty() {
        let torques = with(&intake);
        subscriptions.push(connection.subscribe(
            &config.topic_torque,
            Qos::SENSOR_DATA,
            guarded(panicked, move |message, _| {
                let _ = torques.lock().unwrap_or_else(PoisonError::into_inner).torque_state(message);
            }),
        )?);
    }
    if !config.topic_reference.is_empty() {
        let references = with(&intake);
        let subscription = if config.topic_reference_type.ends_with("Point") {
            connection.subscribe(
                &config.topic_reference,
                Qos::SENSOR_DATA,
                guarded(panicked, move |point: &JointTrajectoryPointView, arrival| {
                    let mut intake = references.lock().unwrap_or_else(PoisonError::into_inner);
                    let (q, qd, qdd) = (&point.positions, &point.velocities, &point.accelerations);
                    let _ = intake.reference::<&str>(&[], q, qd, qdd, arrival.monotonic_ns);
                }),
            )
        } else {
            connection.subscribe(
                &config.topic_reference,
                Qos::SENSOR_DATA,
                guarded(panicked, move |trajectory: &JointTrajectory, arrival| {
                    let mut intake = references.lock().unwrap_or_else(PoisonError::into_inner);
                    let (names, point) = (&trajectory.joint_names, trajectory.points.first());
                    // Without a point it is refused for its missing positions, and counted.
                    let (q, qd, qdd) = point.map_or((&[][..], &[][..], &[][..]), |point| {
                        (&point.positions[..], &point.velocities[..], &point.accelerations[..])
                    });
                    let _ = intake.reference(names, q, qd, qdd, arrival.monotonic_ns);
                }),
            )
        };
        subscriptions.push(subscription?);
    }
    for subscription in &subscriptions {
        tracing::info!("subscribed to {}", subscription.topic());
    }
    Ok(subscriptions)
}

/// Starts the publisher thread; it ends when the pinned thread has.
fn publish(
    connection: &mut impl Connection,
    config: &Config,
    joints: &[String],
    torques: TorqueReceiver<NodeModel>,
) -> Result<JoinHandle<Result<()>>> {
    let feedforward = match config.topic_feedforward.as_str() {
        "" => None,
        topic => Some(connection.advertise(topic, Qos::COMMAND)?),
    };
    let commands = match config.topic_commands.as_str() {
        "" => None,
        topic => Some(connection.advertise(topic, Qos::COMMAND)?),
    };
    let (mut feedforward, mut commands) = (Outlet::new(feedforward), Outlet::new(commands));
    let mut state =
        JointState { name: joints.to_vec(), effort: vec![0.0; joints.len()], ..JointState::default() };
    let mut floats = Float64MultiArray { data: vec![0.0; joints.len()], ..Float64MultiArray::default() };
    let mut send = move |torque: &Torque| {
        let efforts = &torque.feedforward[..floats.data.len()];
        floats.data.copy_from_slice(efforts);
        state.effort.copy_from_slice(efforts);
        state.header = Header { stamp: Time::from_ns(torque.stamp_ns), ..Header::default() };
        commands.offer(&floats);
        feedforward.offer(&state);
    };
    let thread = std::thread::Builder::new().name("publisher".into()).spawn(move || {
        loop {
            match torques.newest(Duration::from_millis(100)) {
                Some(torque) => send(&torque),
                None if torques.status() != Status::Running => return Ok(()),
                None => {}
            }
        }
    })?;
    Ok(thread)
}

/// A topic that the node publishes on, if it is named. What the middleware does not take now is not worth sending later,
/// but it is said.
struct Outlet<M> {
    publisher: Option<Publisher<M>>,
    refused: u64,
    said: Option<Instant>,
}

impl<M> Outlet<M> {
    fn new(publisher: Option<Publisher<M>>) -> Self {
        Outlet { publisher, refused: 0, said: None }
    }

    fn offer(&mut self, message: &M) {
        let Some(Err(error)) = self.publisher.as_mut().map(|publisher| publisher.publish(message)) else {
            return;
        };
        self.refused += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::warn!("{error} ({} torques were not published so far)", self.refused);
        }
    }
}

/// Gives the connection its thread.
fn listen(connection: impl Connection + 'static, stop: &Stop) -> Result<JoinHandle<Result<()>>> {
    let stop = stop.clone();
    let run = move || Ok(connection.run(stop)?);
    Ok(std::thread::Builder::new().name("ros-io".into()).spawn(run)?)
}

fn join(thread: JoinHandle<Result<()>>, name: &str) -> Result<()> {
    thread.join().unwrap_or_else(|_| bail!("the {name} thread panicked"))
}

/// Checkpoints while running: the pinned thread copies its learner into a spare one, this thread writes it.
struct Keeper<'a> {
    config: &'a Config,
    joints: &'a [String],
    commands: CommandSender<NodeModel>,
    spare: Option<Box<ArmLearner>>,
    every: Option<Duration>,
    last: Instant,
}

impl<'a> Keeper<'a> {
    fn new(
        config: &'a Config,
        joints: &'a [String],
        commands: CommandSender<NodeModel>,
        spare: Box<ArmLearner>,
    ) -> Keeper<'a> {
        let wanted = !config.save.is_empty() && config.save_interval > 0.0;
        let every = wanted.then(|| Duration::from_secs_f64(config.save_interval));
        Keeper { config, joints, commands, spare: Some(spare), every, last: Instant::now() }
    }

    fn keep(&mut self) {
        if let Some(learner) = self.commands.take_snapshot() {
            if let Err(error) = self.save(&learner) {
                tracing::error!("the checkpoint was not saved: {error:#}");
            }
            self.spare = Some(learner);
        }
        if self.every.is_some_and(|every| self.last.elapsed() >= every) {
            self.last = Instant::now();
            let Some(spare) = self.spare.take() else { return };
            if let Err(Command::Snapshot(spare)) = self.commands.send(Command::Snapshot(spare)) {
                self.spare = Some(spare);
            }
        }
    }

    fn save(&self, learner: &ArmLearner) -> Result<()> {
        if self.config.save.is_empty() {
            return Ok(());
        }
        let path = Path::new(&self.config.save);
        checkpoint::save(path, learner, self.config, self.joints)?;
        tracing::info!("saved {}", path.display());
        Ok(())
    }
}

fn report(summary: &Summary, json: bool) -> Result<()> {
    let text = if json {
        serde_json::to_string_pretty(summary)? + "\n"
    } else {
        crate::report::latency::render(summary)
    };
    super::print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_that_panicked_is_called_no_more() {
        let panicked = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(Mutex::new(0));
        let counted = calls.clone();
        let mut callback = guarded(&panicked, move |&fatal: &bool, _| {
            *counted.lock().unwrap() += 1;
            assert!(!fatal, "as the test wants it");
        });
        for fatal in [false, true, false] {
            callback(&fatal, Arrival::default());
        }
        assert!(panicked.load(Ordering::Relaxed));
        assert!(*calls.lock().unwrap_or_else(PoisonError::into_inner) == 2);
    }
}
