//! The node itself: joint states in, feed-forward torques out, learning in between; managed, as ROS 2 calls it.
//!
//! Contract: [`run`] is called by the main thread and returns when the node has ended. Four threads: the I/O thread
//! (middleware) runs the intake and pushes samples; the pinned thread predicts and learns; the publisher sends the newest
//! torque; the node's own (this one) keeps house and does what is asked of the node, one request after the other.
//!
//! Every way to end, but a kill, is the same: the pinned thread lets the torque decay (or, if it panicked, sends zero), the
//! publisher sends what it left, and only then is the connection closed. So a panic in a callback is caught rather than
//! let loose on the middleware, and a log that cannot be written stops nothing.
//!
//! | file | holds |
//! |---|---|
//! | `body` | what each lifecycle transition does |
//! | `engine` | what a configured node holds: pinned thread, publisher, probe |
//! | `wiring` | topics and services |
//! | `services` | the answers |
//! | `announcements` | what it tells of itself |
//! | `housekeeping` | latencies, drops, health |
//! | `fault` | the panic that a test can inject |

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use self::announcements::Announcements;
use self::body::{Body, Shared};
use self::housekeeping::Housekeeping;
use self::wiring::Ask;
use crate::config::Config;
use crate::msg::lifecycle::Transition;
use crate::realtime::{Clock, Drops, LatencyLog, MonotonicClock, Summary};
use crate::report::described;
use crate::ros::lifecycle::{Lifecycle, State};
use crate::ros::parameter_server::ParameterServer;
use crate::ros::rosout::Rosout;
use crate::ros::time::RosTime;
use crate::ros::{self, Connection, NodeOptions, Stop};

mod announcements;
mod body;
mod engine;
mod fault;
mod housekeeping;
mod services;
mod wiring;

/// How often telemetry is fetched, and signals are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(20);

/// So many requests may wait for the node's thread; more are left unanswered.
const ASKS: usize = 256;

/// What the middleware gets to deliver the last torque, before its connection is closed.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What [`run`] needs to know.
pub struct Options {
    /// The parameters.
    pub config: Config,
    /// The node's place in the ROS graph.
    pub graph: NodeOptions,
    /// Stop cleanly after this time.
    pub time: Option<Duration>,
    /// For tests of the safety path: panic in the learner at this prediction.
    pub inject_panic: u64,
    /// What is logged, if it shall go to /rosout.
    pub rosout: Option<Rosout>,
}

/// The node, as requests find it.
struct Node {
    body: Body,
    lifecycle: Lifecycle,
    parameters: ParameterServer,
    time: RosTime,
    announcements: Announcements,
}

/// Runs the node until `interrupted` says so, or its time is over, or it fails; returns its latencies.
///
/// # Errors
/// A middleware that does not start; with `autostart`, whatever keeps the node from becoming active and whatever goes
/// wrong afterwards (without, the node is then unconfigured, and waits for its manager); a checkpoint or log that cannot
/// be written at the end.
pub fn run(options: Options, interrupted: impl Fn() -> bool + Clone + 'static) -> Result<Summary> {
    let Options { config, graph, time: lifetime, inject_panic, rosout } = options;
    let run_dir = (!config.run_dir.is_empty()).then(|| Path::new(&config.run_dir));
    let log = LatencyLog::new(&config, run_dir)?;
    let mut connection = ros::open(&graph, || MonotonicClock::new().now_ns())?;
    let time = RosTime::new(config.use_sim_time);
    let shared = Shared::default();
    let announcements = Announcements::new(&mut connection, &config, rosout)?;
    let outlets = wiring::outlets(&mut connection, &config)?;
    let (asks, asked) = mpsc::sync_channel(ASKS);
    wiring::serve(&mut connection, &asks)?;
    drop(asks);
    wiring::listen(&mut connection, &config, &shared, &time)?;
    let name = connection.node_name().to_string();
    let house = Housekeeping::new(log, Drops::default());
    let mut node = Node {
        parameters: ParameterServer::new(&name, config.clone()),
        body: Body::new(
            config.clone(),
            shared.clone(),
            house,
            outlets,
            inject_panic,
            Box::new(interrupted.clone()),
        ),
        lifecycle: Lifecycle::new(),
        time: time.clone(),
        announcements,
    };
    if config.autostart && !node.body.awaits_description() {
        // Before anything is subscribed to: what a player sends to its first subscriber shall not be lost.
        node.reach(Transition::CONFIGURE, State::Inactive)?;
    }
    node.body.house.subscriptions = wiring::subscribe(&mut connection, &config, &shared, &time)?;
    let stop = Stop::new();
    let listening = listen(connection, &stop)?;
    tracing::info!("{name} is there");
    node.announce_parameters();
    let until = lifetime.map(|time| Instant::now() + time);
    let ended = || interrupted() || until.is_some_and(|until| Instant::now() >= until);
    let lived = catch_unwind(AssertUnwindSafe(|| node.live(&asked, || ended() || listening.is_finished())));
    let lived = lived.unwrap_or_else(|_| bail!("the node's own thread panicked"));

    tracing::info!("stopping");
    if node.lifecycle.state() != State::Finalized {
        node.change(&Transition::by_label("shutdown"));
    }
    let shut_down = node.body.trouble.take().map_or(Ok(()), Err);
    node.tell_now(node.lifecycle.state());
    let Node { body: Body { house, counts, outlets, .. }, announcements, .. } = node;
    std::thread::sleep(LAST_WORDS);
    drop((outlets, announcements));
    stop.request();
    let listened = listening.join().unwrap_or_else(|_| bail!("the I/O thread panicked"));
    let summary = house.log.finish(&house.drops, &counts);
    lived?;
    listened?;
    shut_down?;
    Ok(summary?)
}

impl Node {
    /// Starts by itself, if it shall, and does what is asked until the end.
    fn live(&mut self, asked: &Receiver<Ask>, ended: impl Fn() -> bool) -> Result<()> {
        let autostart = self.body.config.autostart;
        let patience = Duration::from_secs_f64(self.body.config.robot_description_timeout);
        let mut starting = autostart.then(|| Instant::now() + patience);
        loop {
            if let Some(until) = starting
                && (!self.body.awaits_description() || Instant::now() >= until)
            {
                starting = None;
                // Unless a manager was faster.
                if let State::Unconfigured | State::Inactive = self.lifecycle.state() {
                    self.start()?;
                }
            }
            match asked.recv_timeout(HOUSEKEEPING) {
                Ok(ask) => ask(self),
                Err(RecvTimeoutError::Timeout) => {}
                // The connection has gone: what is left is said by its thread.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(HOUSEKEEPING),
            }
            if let Err(error) = self.body.keep() {
                self.raise_error(error);
                if let (true, Some(trouble)) = (autostart, self.body.trouble.take()) {
                    return Err(trouble);
                }
            }
            self.body.save_if_due();
            self.announcements.tell(&mut self.body, self.lifecycle.state().label(), &self.time);
            if ended() {
                return Ok(());
            }
        }
    }

    /// Goes on to active, from wherever it is before that.
    fn start(&mut self) -> Result<()> {
        if self.lifecycle.state() == State::Unconfigured {
            self.reach(Transition::CONFIGURE, State::Inactive)?;
        }
        self.reach(Transition::ACTIVATE, State::Active)
    }

    fn reach(&mut self, transition: u8, state: State) -> Result<()> {
        self.change(&Transition::by_id(transition));
        if self.lifecycle.state() == state {
            return Ok(());
        }
        Err(self
            .body
            .trouble
            .take()
            .unwrap_or_else(|| anyhow::anyhow!("the node cannot become {}", state.label())))
    }

    /// Goes through a transition, if it may from here, and says so to whoever listens.
    fn change(&mut self, transition: &Transition) -> bool {
        let Node { body, lifecycle, time, announcements, .. } = self;
        lifecycle.change(transition, body, &mut |event| announcements.transition(event, time))
    }

    /// Tells what there is to tell, whether or not it is due.
    fn tell_now(&mut self, state: State) {
        self.announcements.tell_now(&mut self.body, state.label(), &self.time);
    }

    /// Something went wrong outside of any transition.
    fn raise_error(&mut self, error: anyhow::Error) {
        // Before the engine ends, which takes what it tells of itself with it.
        self.tell_now(State::ErrorProcessing);
        let Node { body, lifecycle, time, announcements, .. } = self;
        let reason = described(&error);
        body.trouble = Some(error);
        lifecycle.raise_error(&reason, body, &mut |event| announcements.transition(event, time));
    }
}

/// Gives the connection its thread.
fn listen(connection: impl Connection + 'static, stop: &Stop) -> Result<JoinHandle<Result<()>>> {
    let stop = stop.clone();
    let run = move || Ok(connection.run(stop)?);
    Ok(std::thread::Builder::new().name("ros-io".into()).spawn(run)?)
}
