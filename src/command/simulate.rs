//! `metagd simulate`: the simulated arm, live over ROS 2 as a stand-in for a robot, or as fast as it goes into a bag.
//!
//! Contract: live, one thread paces the session by absolute deadlines, 1 ms apart, and publishes; the I/O thread leaves the
//! newest command in a slot of which only the pacing thread takes. It is a robot, not a real-time thread: it allocates when
//! it publishes, and what it is late by is counted.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Usage;
use super::graph::GraphArgs;
use super::signals::Interrupt;
use crate::bag::{BagWriter, Compression, Split, Storage};
use crate::dynamics::Arm;
use crate::msg::{Float64MultiArray, Header, JointState, JointTrajectory, JointTrajectoryPoint, Time};
use crate::report::{Table, number, short_names};
use crate::ros::{self, Connection, Publisher, Qos, Stop};
use crate::sample::{MAX_JOINTS, PerJoint};
use crate::sim::{
    LWR_URDF, Metrics, Mode, Mounting, PERIOD_NS, Payload, Script, Session, SimOptions, Task, Tick,
};

/// Where a bag's stamps begin, ns since 1970: always the same, so that the same seed writes the same messages.
const BAG_START_NS: i64 = 1_600_000_000 * 1_000_000_000;
const PERIOD: Duration = Duration::from_nanos(PERIOD_NS as u64);
/// A delay of the host (a virtual machine's stall) is caught up if it is shorter than this; else simulated time stood still.
const LONGEST_CATCH_UP: Duration = Duration::from_millis(20);
const DEFAULT_TRIALS: usize = 10;

/// The simulated arm (a KUKA LWR4+, or any URDF's): live over ROS 2 as a stand-in for a robot, or into a bag.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["live", "out"]))]
pub struct Args {
    /// Publish joint states and references at 1 kHz and add the feed-forward that the node sends.
    #[arg(long)]
    live: bool,
    /// Write joint states and references into this new bag instead, as fast as it goes.
    #[arg(long, value_name = "BAG")]
    out: Option<PathBuf>,
    /// The bag's storage.
    #[arg(long, value_enum, default_value_t = StorageArg::Mcap, conflicts_with = "live")]
    storage: StorageArg,
    /// The bag's compression.
    #[arg(long, value_enum, default_value_t = CompressionArg::None, conflicts_with = "live")]
    compression: CompressionArg,
    /// What to do: `trials` repeats one task with one payload; `demo` lifts with payload none, light, heavy, with the
    /// node's feed-forward, none, and the rigid body's in turn (live only).
    #[arg(long, value_enum, default_value_t = ScriptArg::Trials)]
    script: ScriptArg,
    /// The motion of the trials.
    #[arg(long, value_enum, default_value_t = Task::Lift)]
    task: Task,
    /// What the flange carries in the trials.
    #[arg(long, value_enum, default_value_t = Payload::None)]
    payload: Payload,
    /// Whose feed-forward the controller adds in the trials [default: node if live, else rigid-body].
    #[arg(long, value_enum, value_name = "WHOSE")]
    feedforward: Option<FeedforwardArg>,
    /// How many trials of 3 to 4 s [default: 10].
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u16).range(1..))]
    trials: Option<u16>,
    /// How long in all, s; trials that do not fit are left out. `demo` is fitted to it [default: 60] and takes 15.5 s at
    /// least.
    #[arg(long, value_name = "S", value_parser = super::seconds)]
    seconds: Option<f64>,
    /// How the arm's base stands: gravity in its frame is (0, 0, -9.81), (9.81, 0, 0) or (0, -9.81, 0).
    #[arg(long, value_enum, default_value_t = Mounting::Floor)]
    mounting: Mounting,
    /// Seed of the arm's true parameters, its noise and the trials.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// The nominal arm's URDF [default: the built-in KUKA LWR4+].
    #[arg(long, value_name = "FILE")]
    urdf: Option<PathBuf>,
    #[command(flatten)]
    pub(super) graph: GraphArgs,
    /// Full name of the node that predicts the feed-forward; its topics are NODE/reference and NODE/commands.
    #[arg(long, value_name = "NODE", default_value = "/metagd")]
    node: String,
    /// Topic of the joint states.
    #[arg(long, value_name = "TOPIC", default_value = "/joint_states")]
    joint_states: String,
    /// Topic of the reference motion [default: NODE/reference].
    #[arg(long, value_name = "TOPIC")]
    reference: Option<String>,
    /// Topic of the feed-forward commands [default: NODE/commands].
    #[arg(long, value_name = "TOPIC")]
    commands: Option<String>,
    /// How long to wait for the node to subscribe, s.
    #[arg(long, value_name = "S", default_value = "30", value_parser = super::seconds)]
    wait: f64,
    /// Print the metrics as JSON instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ScriptArg {
    Trials,
    Demo,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FeedforwardArg {
    Off,
    RigidBody,
    Node,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum StorageArg {
    Mcap,
    Sqlite3,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum CompressionArg {
    None,
    /// mcap's own, chunk by chunk.
    ZstdChunk,
    ZstdFile,
    ZstdMessage,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    metrics: Metrics,
    /// Simulated time, s.
    simulated_s: f64,
    /// Simulated time over the time it took.
    times_real_time: f64,
    /// Whether the script was cut short by a signal.
    interrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Live>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bag: Option<Bag>,
}

/// How the pacing went.
#[derive(Debug, Default, Serialize)]
struct Live {
    /// Cycles begun more than 1 ms late.
    overruns: u64,
    /// Time for which simulated time stood still because the host did, ms.
    stalled_ms: f64,
    /// Messages that the middleware did not take.
    unsent: u64,
    /// Commands refused because they had not one torque for each joint.
    wrong_length: u64,
    /// Commands lost or unreadable on the way; unknown where the middleware does not tell.
    lost: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Bag {
    path: PathBuf,
    messages: u64,
}

/// The node's name, where nobody gives it another.
pub(super) const NODE: &str = "lwr_simulator";

/// Runs `metagd simulate`.
///
/// # Errors
/// [`Usage`] for options that contradict one another; a URDF, bag or ROS graph that cannot be had; a node that does not
/// subscribe; a simulation that diverges.
pub fn run(args: &Args) -> Result<()> {
    let script = script(args)?;
    let arm = match &args.urdf {
        Some(path) => Arm::from_urdf(path, &[], args.mounting.gravity())?,
        None => Arm::from_urdf_str(LWR_URDF, &[], args.mounting.gravity()).context("the built-in URDF")?,
    };
    let options = SimOptions { seed: args.seed, mounting: args.mounting, ..SimOptions::default() };
    let mut session = Session::new(&arm, &options, &script)?;
    let interrupt = Interrupt::install()?;
    let report = match &args.out {
        Some(path) => record(args, path, &mut session, &interrupt)?,
        None => live(args, &mut session, &interrupt)?,
    };
    if args.json {
        super::print(&(serde_json::to_string_pretty(&report)? + "\n"))
    } else {
        super::print(&tables(&report))
    }
}

/// The trials that the options ask for.
fn script(args: &Args) -> Result<Script> {
    if matches!(args.script, ScriptArg::Demo) {
        if !args.live {
            bail!(Usage("--script demo lets the node and others take turns, so it needs --live".into()));
        }
        return Ok(Script::demo(args.seconds.unwrap_or(60.0), args.seed));
    }
    let mode = match args.feedforward {
        Some(FeedforwardArg::Off) => Mode::Off,
        Some(FeedforwardArg::RigidBody) => Mode::RigidBody,
        Some(FeedforwardArg::Node) if !args.live => {
            bail!(Usage("no node answers into a bag; use --feedforward off or rigid-body, or --live".into()))
        }
        None if !args.live => Mode::RigidBody,
        Some(FeedforwardArg::Node) | None => Mode::Node,
    };
    let trials = match (args.trials, args.seconds) {
        (Some(trials), _) => usize::from(trials),
        (None, Some(seconds)) => (seconds / 3.0) as usize + 1,
        (None, None) => DEFAULT_TRIALS,
    };
    let mut script = Script::repeat(args.task, args.payload, mode, trials, args.seed);
    while script.trials.len() > 1 && args.seconds.is_some_and(|seconds| script.seconds() > seconds) {
        script.trials.pop();
    }
    Ok(script)
}

/// The two messages of a tick, made once and filled again and again.
struct Messages {
    joints: usize,
    start_ns: i64,
    state: JointState,
    reference: JointTrajectory,
}

impl Messages {
    fn new(names: &[String], start_ns: i64) -> Messages {
        let joints = names.len();
        let zeros = vec![0.0; joints];
        Messages {
            joints,
            start_ns,
            state: JointState {
                header: Header::default(),
                name: names.to_vec(),
                position: zeros.clone(),
                velocity: zeros.clone(),
                effort: zeros.clone(),
            },
            reference: JointTrajectory {
                header: Header::default(),
                joint_names: names.to_vec(),
                points: vec![JointTrajectoryPoint {
                    positions: zeros.clone(),
                    velocities: zeros.clone(),
                    accelerations: zeros,
                    ..JointTrajectoryPoint::default()
                }],
            },
        }
    }

    /// Fills both; returns their stamp, ns since 1970.
    fn fill(&mut self, tick: &Tick) -> i64 {
        let n = self.joints;
        let stamp_ns = self.start_ns + tick.stamp_ns;
        let stamp = Time::from_ns(stamp_ns);
        self.state.header.stamp = stamp;
        self.state.position.copy_from_slice(&tick.measurement.q[..n]);
        self.state.velocity.copy_from_slice(&tick.measurement.qd[..n]);
        self.state.effort.copy_from_slice(&tick.measurement.effort[..n]);
        self.reference.header.stamp = stamp;
        let point = &mut self.reference.points[0];
        point.positions.copy_from_slice(&tick.reference.q[..n]);
        point.velocities.copy_from_slice(&tick.reference.qd[..n]);
        point.accelerations.copy_from_slice(&tick.reference.qdd[..n]);
        stamp_ns
    }
}

fn reference_topic(args: &Args) -> String {
    args.reference.clone().unwrap_or_else(|| format!("{}/reference", args.node.trim_end_matches('/')))
}

fn commands_topic(args: &Args) -> String {
    args.commands.clone().unwrap_or_else(|| format!("{}/commands", args.node.trim_end_matches('/')))
}

/// In simulated milliseconds, on standard error.
fn progress(session: &Session) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {percent} %, {eta} left").expect("a fixed template");
    ProgressBar::new(session.total_ticks()).with_style(style)
}

/// Shows the present trial; called every 100 ticks.
fn show(progress: &ProgressBar, session: &Session) {
    let (trial, number) = (session.trial(), session.now().trial + 1);
    progress.set_message(format!(
        "{number}/{} {}, payload {}, feed-forward {}",
        session.trials(),
        trial.task,
        trial.payload,
        trial.mode
    ));
    progress.set_position((session.now().stamp_ns / PERIOD_NS) as u64);
}

fn report(session: &Session, took: Duration, interrupted: bool) -> Report {
    let simulated_s = session.now().stamp_ns as f64 * 1e-9;
    Report {
        metrics: session.metrics(),
        simulated_s,
        times_real_time: simulated_s / took.as_secs_f64(),
        interrupted,
        live: None,
        bag: None,
    }
}

/// The script into a bag.
fn record(args: &Args, path: &Path, session: &mut Session, interrupt: &Interrupt) -> Result<Report> {
    let storage = match args.storage {
        StorageArg::Mcap => Storage::Mcap,
        StorageArg::Sqlite3 => Storage::Sqlite3,
    };
    let compression = match args.compression {
        CompressionArg::None => Compression::None,
        CompressionArg::ZstdChunk => Compression::ZstdChunk,
        CompressionArg::ZstdFile => Compression::ZstdFile,
        CompressionArg::ZstdMessage => Compression::ZstdMessage,
    };
    let reference = reference_topic(args);
    let mut writer = BagWriter::create(path, storage, compression, Split::default())?;
    writer.add_topic(&args.joint_states, "sensor_msgs/msg/JointState")?;
    writer.add_topic(&reference, "trajectory_msgs/msg/JointTrajectory")?;
    let mut messages = Messages::new(session.nominal().joint_names(), BAG_START_NS);
    let progress = progress(session);
    let began = Instant::now();
    loop {
        let stamp_ns = messages.fill(session.now());
        writer.write(&reference, stamp_ns, &messages.reference)?;
        writer.write(&args.joint_states, stamp_ns, &messages.state)?;
        if session.is_done() || interrupt.raised() {
            break;
        }
        session.tick(None)?;
        if session.now().stamp_ns % (100 * PERIOD_NS) == 0 {
            show(&progress, session);
        }
    }
    let written = writer.finish()?;
    progress.finish_and_clear();
    let bag = Bag { path: path.to_path_buf(), messages: written.messages };
    Ok(Report { bag: Some(bag), ..report(session, began.elapsed(), interrupt.raised()) })
}

/// The newest command, from the I/O thread to the pacing thread.
#[derive(Default)]
struct Inbox {
    newest: Mutex<Option<PerJoint>>,
    wrong_length: AtomicU64,
}

impl Inbox {
    fn put(&self, command: &Float64MultiArray, joints: usize) {
        if command.data.len() != joints {
            self.wrong_length.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut torque: PerJoint = [0.0; MAX_JOINTS];
        torque[..joints].copy_from_slice(&command.data);
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(torque);
    }

    fn take(&self) -> Option<PerJoint> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The script in real time, over ROS 2.
fn live(args: &Args, session: &mut Session, interrupt: &Interrupt) -> Result<Report> {
    // Arrivals are not looked at here: what counts is the cycle in which a command is there.
    let mut connection = ros::open(&args.graph.options(NODE)?, || 0)?;
    let joints = session.nominal().len();
    let inbox = Arc::new(Inbox::default());
    let put = Arc::clone(&inbox);
    let commands = connection.subscribe(
        &commands_topic(args),
        Qos::COMMAND,
        Box::new(move |command, _| put.put(command, joints)),
    )?;
    let mut states = connection.advertise(&args.joint_states, Qos::SENSOR_DATA)?;
    let mut references = connection.advertise(&reference_topic(args), Qos::SENSOR_DATA)?;
    let stop = Stop::new();
    let stopped = stop.clone();
    let io = std::thread::Builder::new().name("ros".into()).spawn(move || connection.run(stopped))?;

    let paced = wait(args, &*states, &*references, interrupt)
        .and_then(|()| pace(session, &mut states, &mut references, &inbox, interrupt));
    stop.request();
    let left = match io.join() {
        Ok(left) => left.context("the ROS connection failed"),
        Err(_) => bail!("the ROS connection's thread panicked"),
    };
    let (mut live, took) = paced?;
    left?;
    live.wrong_length = inbox.wrong_length.load(Ordering::Relaxed);
    live.lost = commands.lost().map(|lost| lost + commands.malformed());
    Ok(Report { live: Some(live), ..report(session, took, interrupt.raised()) })
}

/// Waits until the node has subscribed to the joint states, and gives it a little longer for the reference.
fn wait(
    args: &Args,
    states: &dyn ros::Publish<JointState>,
    references: &dyn ros::Publish<JointTrajectory>,
    interrupt: &Interrupt,
) -> Result<()> {
    let step = Duration::from_millis(100);
    let until = Instant::now() + Duration::from_secs_f64(args.wait);
    while states.wait_for_subscribers(1, step) == 0 {
        if interrupt.raised() {
            return Ok(());
        }
        if Instant::now() > until {
            bail!(
                "nobody subscribed to {} within {} s; is the node running, in the same ROS_DOMAIN_ID?",
                states.topic(),
                args.wait
            );
        }
    }
    if references.wait_for_subscribers(1, Duration::from_secs(2)) == 0 {
        eprintln!("nobody subscribes to {}: the node predicts for the measured state", references.topic());
    }
    Ok(())
}

/// Runs the session by the clock; returns how that went and how long it took.
fn pace(
    session: &mut Session,
    states: &mut Publisher<JointState>,
    references: &mut Publisher<JointTrajectory>,
    inbox: &Inbox,
    interrupt: &Interrupt,
) -> Result<(Live, Duration)> {
    let mut live = Live::default();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the system clock is before 1970")?;
    let mut messages = Messages::new(session.nominal().joint_names(), now.as_nanos() as i64);
    let progress = progress(session);
    let began = Instant::now();
    let mut deadline = began;
    while !session.is_done() && !interrupt.raised() {
        messages.fill(session.now());
        // The reference first, so that it is there when the state asks for a torque.
        live.unsent += u64::from(references.publish(&messages.reference).is_err());
        live.unsent += u64::from(states.publish(&messages.state).is_err());
        deadline += PERIOD;
        let late = Instant::now().saturating_duration_since(deadline);
        if late > LONGEST_CATCH_UP {
            live.stalled_ms += late.as_secs_f64() * 1e3;
            deadline += late;
        }
        live.overruns += u64::from(late > PERIOD);
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        session.tick(inbox.take().as_ref())?;
        if session.now().stamp_ns % (100 * PERIOD_NS) == 0 {
            show(&progress, session);
        }
    }
    progress.finish_and_clear();
    Ok((live, began.elapsed()))
}

/// The figures for people.
fn tables(report: &Report) -> String {
    let metrics = &report.metrics;
    let mut header = vec!["payload".to_string(), "feed-forward".to_string()];
    header.extend(short_names(&metrics.joints));
    let table = |of: &dyn Fn(&crate::sim::Score) -> Vec<f64>| {
        let mut table = Table::new(2, &header);
        for score in metrics.by_payload.iter().chain(&metrics.by_mode) {
            let payload = score.payload.map_or("all".to_string(), |payload| payload.to_string());
            let figures = of(score);
            table.row([payload, score.mode.to_string()].into_iter().chain(figures.into_iter().map(number)));
        }
        table.render()
    };
    let mut text = String::from("Tracking error, RMS, mrad\n");
    text += &table(&|score| score.tracking_rms_rad.iter().map(|rms| rms * 1e3).collect());
    text += "\nFeed-forward minus measured torque, RMS, Nm\n";
    text += &table(&|score| score.torque_rms_nm.clone());
    text +=
        &format!("\n{:.1} s simulated, {:.1} times real time", report.simulated_s, report.times_real_time);
    if let Some(bag) = &report.bag {
        text += &format!(", {} messages in {}", bag.messages, bag.path.display());
    }
    text += if report.interrupted { ", interrupted\n" } else { "\n" };
    if let Some(live) = &report.live {
        let counts = &metrics.feedforward;
        let lost = super::count(live.lost);
        text += &format!(
            "feed-forward: {} received, {} not finite, {} cycles late, {} of them stale; {lost} lost, {} of a wrong length\n",
            counts.received, counts.non_finite, counts.late, counts.stale, live.wrong_length
        );
        text += &format!(
            "pacing: {} overruns, {:.1} ms stalled, {} messages not sent\n",
            live.overruns, live.stalled_ms, live.unsent
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::bag::{Recording, RecordingOptions};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Ok(Line::try_parse_from(std::iter::once("simulate").chain(line.split(' ')))?.args)
    }

    #[test]
    fn the_robot_is_live_or_writes_a_bag() {
        for wrong in
            ["--task lift", "--live --out bag", "--live --storage sqlite3", "--live --trials 2 --seconds 9"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["--out bag --script demo", "--out bag --feedforward node"] {
            let error = script(&parse(wrong).unwrap()).unwrap_err();
            assert!(error.is::<Usage>(), "{wrong}: {error}");
        }
    }

    #[test]
    fn scripts_are_as_asked_for() {
        let script = |line: &str| script(&parse(line).unwrap()).unwrap();
        let trials = script("--live --task rectangle-vertical --payload heavy --trials 3").trials;
        assert_eq!(trials.len(), 3);
        let expected = (Task::RectangleVertical, Payload::Heavy, Mode::Node);
        assert!(trials.iter().all(|trial| (trial.task, trial.payload, trial.mode) == expected));
        assert_eq!(script("--out bag").trials[0].mode, Mode::RigidBody);
        assert_eq!(script("--out bag").trials.len(), DEFAULT_TRIALS);
        assert_eq!(script("--live --script demo --seconds 60"), Script::demo(60.0, 1));
        for (seconds, at_most) in [("2", 4.0 + 1.0), ("20", 20.0), ("300", 300.0)] {
            let took = script(&format!("--live --seconds {seconds}")).seconds();
            assert!(took <= at_most && took > at_most - 5.0, "{took} s of {seconds}");
        }
    }

    #[test]
    fn topics_follow_the_nodes_name_unless_named() {
        let args = parse("--live --node /arm/learner/").unwrap();
        assert_eq!(reference_topic(&args), "/arm/learner/reference");
        assert_eq!(commands_topic(&args), "/arm/learner/commands");
        let args = parse("--live --commands /effort/commands").unwrap();
        assert_eq!(commands_topic(&args), "/effort/commands");
    }

    #[test]
    fn commands_of_a_wrong_length_are_refused_and_the_newest_one_counts() {
        let inbox = Inbox::default();
        let command =
            |data: &[f64]| Float64MultiArray { data: data.to_vec(), ..Float64MultiArray::default() };
        inbox.put(&command(&[1.0, 2.0, 3.0]), 2);
        assert_eq!((inbox.take(), inbox.wrong_length.load(Ordering::Relaxed)), (None, 1));
        inbox.put(&command(&[1.0, 2.0]), 2);
        inbox.put(&command(&[3.0, 4.0]), 2);
        assert_eq!(inbox.take().map(|torque| (torque[0], torque[1], torque[2])), Some((3.0, 4.0, 0.0)));
        assert_eq!(inbox.take(), None);
    }

    #[test]
    fn a_written_bag_holds_the_session_that_its_seed_gives() {
        let folder = tempfile::tempdir().unwrap();
        for (name, options) in [("a", ""), ("b", " --storage sqlite3 --compression zstd-file")] {
            let path = folder.path().join(name);
            let args = parse(&format!("--out {} --trials 1 --seed 5{options}", path.display())).unwrap();
            let script = script(&args).unwrap();
            let arm = Arm::from_urdf_str(LWR_URDF, &[], args.mounting.gravity()).unwrap();
            let options = SimOptions { seed: 5, ..SimOptions::default() };
            let mut session = Session::new(&arm, &options, &script).unwrap();
            let mut again = session.clone();
            let report = record(&args, &path, &mut session, &Interrupt::default()).unwrap();
            assert_eq!(report.bag.unwrap().messages, 2 * (session.total_ticks() + 1));
            let recording = Recording::open(&path, &RecordingOptions::default()).unwrap();
            assert_eq!(recording.joints(), arm.joint_names());
            let mut ticks = 0;
            for row in recording.rows().unwrap() {
                let (row, tick) = (row.unwrap(), *again.now());
                assert_eq!(row.stamp_ns, BAG_START_NS + tick.stamp_ns);
                let measured = tick.measurement;
                assert_eq!((row.q, row.qd, row.effort), (measured.q, measured.qd, measured.effort));
                again.tick(None).unwrap();
                ticks += 1;
            }
            assert_eq!(ticks, session.total_ticks() + 1);
        }
    }
}
