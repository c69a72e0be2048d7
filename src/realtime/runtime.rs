//! The pinned thread around a [`Pipeline`], and the handles with which the other threads reach it.
//!
//! Contract of the pinned thread, after start-up: it allocates nothing, locks nothing, logs nothing. Its system calls are
//! the futex with which it sleeps, the futex that wakes a publisher which sleeps, and the thread's CPU time (twice per
//! batch). It serves by arrival, never by a timer of its own, except that a dead input's torque decays. How it waits for
//! the next arrival, parameter `wait` says ([`Wait`]): where it polls, nobody needs a futex to wake it.
//!
//! | ring | from, to | when full |
//! |---|---|---|
//! | samples (`ring`) | [`SampleSender`], pinned | the oldest are kept; the newest is dropped and counted (`ring_full`) |
//! | torques (`ring`) | pinned, [`TorqueReceiver`] | the newest wins: the oldest is overwritten and counted |
//! | telemetry | pinned, [`TelemetryReceiver`] | the newest is lost and counted |
//! | commands | [`CommandSender`], pinned | handed back to the sender |
//!
//! A torque that is disabled ramps to zero in the stamps' time; where these advance too slowly for that (a bag played slowly,
//! a hostile driver), it decays by the clock on the wall once `limits.ramp` and half a second are over.
//!
//! When no sample has come for `limits.timeout`, torques that decay to zero go out about every millisecond, with the last
//! sample's `seq` and stamp and no prediction; then the thread sleeps. A clean stop decays in the same way.
//!
//! A panic in the model (or anywhere else in the loop) is caught: zero torque goes out, the thread ends, every handle says
//! [`Status::Panicked`], and [`Runtime::stop`] returns message and place. Nothing hangs. The thread prints nothing of it,
//! for printing may block (a pipe that nobody reads) or take long (a backtrace) while the last torque is still commanded.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError, mpsc};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;

use super::clock::{Clock, MonotonicClock};
use super::limits::LimitSettings;
use super::model::Model;
use super::pipeline::{BatchReport, Counters, Pipeline};
use super::ring::Ring;
use super::thread::{
    Allocations, CountingAllocator, Grants, PageFaults, allocations, page_faults, prepare, tid,
};
use super::tuning::Tuning;
use super::wait::{Rest, Wait};
use crate::config::Config;
use crate::learn::Reload;
use crate::sample::{Sample, Torque};

/// Capacity of the telemetry ring: some seconds at 1 kHz.
const TELEMETRY: usize = 4096;

/// Capacity of the command ring.
const COMMANDS: usize = 16;

/// Cadence of a decay's torques.
const DECAY_EVERY: Duration = Duration::from_millis(1);

/// How long the thread sleeps at a time when there is nothing to do; whoever has something for it wakes it.
const IDLE: Duration = Duration::from_millis(100);

/// How long beyond `limits.ramp` a torque may take to zero by the stamps' time, once it is disabled, ns.
const OUT_MARGIN_NS: i64 = 500_000_000;

/// A stop that has not decayed to zero this long after `limits.decay` (the rate limit may be slower) jumps there, ns.
const STOP_MARGIN_NS: i64 = 1_000_000_000;

/// The pinned thread's stack, bytes.
const STACK: usize = 2 * 1024 * 1024;

/// Why the pinned thread could not be started, or how it ended.
#[derive(Debug, thiserror::Error)]
pub enum RealtimeError {
    /// `realtime: enforce`, and not everything was granted.
    #[error("real-time conditions were not granted, and `realtime: enforce` was asked for: {0}")]
    NotGranted(Box<Grants>),
    /// The thread could not be created.
    #[error("the pinned thread could not be created: {0}")]
    Spawn(#[source] std::io::Error),
    /// The thread panicked; zero torque was sent.
    #[error("the pinned thread panicked, and zero torque was sent: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
}

/// What one sample took, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleTiming {
    /// The sample's count.
    pub seq: u64,
    /// When it arrived, ns of the monotonic clock.
    pub arrival_ns: i64,
    /// From stamp to arrival by the wall clock, if known.
    pub transport_ns: Option<i64>,
    /// From the push into the ring to the thread taking it, if the thread was waiting for it (a sample that arrives
    /// during a step waits for the step's end; that is no wake-up).
    pub wake_up_ns: Option<i64>,
    /// Prediction, gate and limits.
    pub predict_ns: i64,
    /// From arrival until the torque was in its ring and the publisher woken.
    pub arrival_to_torque_ns: i64,
}

/// What the pinned thread tells of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // it travels by value through a ring of fixed slots
pub enum Telemetry {
    /// One per sample.
    Sample(SampleTiming),
    /// One per full batch.
    Batch(BatchReport),
}

/// How the pinned thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It serves samples.
    Running = 0,
    /// It was stopped.
    Stopped = 1,
    /// It panicked, and sent zero torque.
    Panicked = 2,
}

/// What may be asked of the pinned thread between two samples.
pub enum Command<M: Model> {
    /// Other settings.
    Tune(Tuning),
    /// Let torques out, or go to zero over `limits.ramp` and stay there.
    SetEnabled(bool),
    /// A new task begins: [`Model::new_task`].
    NewTask,
    /// Take over this part of that state ([`Model::take`]), and hand it back through [`CommandSender::take_back`].
    Take(Box<M::State>, Reload),
    /// Fill this and hand it back through [`CommandSender::take_back`].
    Snapshot(Box<M::State>),
}

struct Queued {
    sample: Sample,
    pushed_ns: i64,
}

struct Shared<M: Model> {
    samples: Ring<Queued>,
    torques: ArrayQueue<Torque>,
    telemetry: ArrayQueue<Telemetry>,
    commands: Ring<Command<M>>,
    /// Held by who pushes a command: several may want to.
    commanding: Mutex<()>,
    states: ArrayQueue<Box<M::State>>,
    state_outstanding: AtomicBool,
    pinned: OnceLock<Thread>,
    publisher: OnceLock<Thread>,
    stop: AtomicBool,
    status: AtomicU8,
    tid: AtomicI32,
    ring_full: AtomicU64,
    torques_overwritten: AtomicU64,
    telemetry_lost: AtomicU64,
    allocated: AtomicU64,
    freed: AtomicU64,
    non_finite: AtomicU64,
    clipped: AtomicU64,
    at_zero: AtomicBool,
}

impl<M: Model> Shared<M> {
    fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) {
            0 => Status::Running,
            1 => Status::Stopped,
            _ => Status::Panicked,
        }
    }

    fn wake_pinned(&self) {
        if let Some(thread) = self.pinned.get() {
            thread.unpark();
        }
    }

    fn hand_over(&self, torque: Torque) {
        self.at_zero.store(torque.feedforward.iter().all(|&tau| tau == 0.0), Ordering::Relaxed);
        if self.torques.force_push(torque).is_some() {
            self.torques_overwritten.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(thread) = self.publisher.get() {
            thread.unpark();
        }
    }

    /// The pinned thread's last word to the others.
    fn end(&self, status: Status) {
        self.status.store(status as u8, Ordering::Release);
        if let Some(thread) = self.publisher.get() {
            thread.unpark();
        }
    }

    fn tell(&self, telemetry: Telemetry) {
        if self.telemetry.push(telemetry).is_err() {
            self.telemetry_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Why a sample was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The ring is full: the sample was dropped and counted.
    #[error("the ring to the pinned thread is full")]
    Full,
    /// The pinned thread has stopped or is stopping.
    #[error("the pinned thread has stopped")]
    Stopped,
}

/// The I/O thread's end: pushes samples and wakes the pinned thread. Does not allocate or block. One thread at a time sends.
pub struct SampleSender<M: Model> {
    shared: Arc<Shared<M>>,
    clock: MonotonicClock,
}

impl<M: Model> SampleSender<M> {
    /// Pushes a sample and wakes the pinned thread.
    ///
    /// # Errors
    /// [`SendError`]; the sample is gone.
    pub fn send(&self, sample: Sample) -> Result<(), SendError> {
        if self.shared.stop.load(Ordering::Acquire) || self.shared.status() != Status::Running {
            return Err(SendError::Stopped);
        }
        let queued = Queued { sample, pushed_ns: self.clock.now_ns() };
        let pushed = self.shared.samples.push(queued);
        self.shared.wake_pinned();
        pushed.map_err(|_| {
            self.shared.ring_full.fetch_add(1, Ordering::Relaxed);
            SendError::Full
        })
    }

    /// How many samples wait in the ring.
    pub fn backlog(&self) -> usize {
        self.shared.samples.len()
    }
}

/// The publisher's end. It is woken for the thread that calls it first; another thread would poll once a millisecond.
pub struct TorqueReceiver<M: Model> {
    shared: Arc<Shared<M>>,
}

impl<M: Model> TorqueReceiver<M> {
    /// The oldest torque not yet received, waiting for it as long as `timeout`; `None` when there is none, at once if the
    /// pinned thread has ended.
    pub fn recv(&self, timeout: Duration) -> Option<Torque> {
        if let Some(torque) = self.shared.torques.pop() {
            return Some(torque);
        }
        let me = self.shared.publisher.get_or_init(thread::current).id() == thread::current().id();
        let until = Instant::now() + timeout;
        loop {
            let ended = self.shared.status() != Status::Running;
            if let Some(torque) = self.shared.torques.pop() {
                return Some(torque);
            }
            let left = until.saturating_duration_since(Instant::now());
            if ended || left.is_zero() {
                return None;
            }
            thread::park_timeout(if me { left } else { left.min(Duration::from_millis(1)) });
        }
    }

    /// As [`TorqueReceiver::recv`], but the newest, passing over the others: what a publisher of depth 1 wants.
    pub fn newest(&self, timeout: Duration) -> Option<Torque> {
        let mut newest = self.recv(timeout)?;
        while let Some(torque) = self.shared.torques.pop() {
            newest = torque;
        }
        Some(newest)
    }

    /// How the pinned thread is.
    pub fn status(&self) -> Status {
        self.shared.status()
    }
}

/// Housekeeping's end.
pub struct TelemetryReceiver<M: Model> {
    shared: Arc<Shared<M>>,
}

impl<M: Model> TelemetryReceiver<M> {
    /// The oldest report not yet received, if there is one.
    pub fn try_recv(&self) -> Option<Telemetry> {
        self.shared.telemetry.pop()
    }

    /// How the pinned thread is.
    pub fn status(&self) -> Status {
        self.shared.status()
    }
}

/// Asks things of the pinned thread, from any thread but that one; may wait for another that asks.
pub struct CommandSender<M: Model> {
    shared: Arc<Shared<M>>,
}

impl<M: Model> Clone for CommandSender<M> {
    fn clone(&self) -> Self {
        CommandSender { shared: self.shared.clone() }
    }
}

impl<M: Model> CommandSender<M> {
    /// Queues a command; it is obeyed before the next sample.
    ///
    /// # Errors
    /// Hands the command back when the queue is full, the thread has ended, or another state is under way.
    pub fn send(&self, command: Command<M>) -> Result<(), Command<M>> {
        if self.shared.status() != Status::Running {
            return Err(command);
        }
        let with_state = matches!(command, Command::Snapshot(_) | Command::Take(..));
        if with_state && self.shared.state_outstanding.swap(true, Ordering::AcqRel) {
            return Err(command);
        }
        let one_at_a_time = self.shared.commanding.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = self.shared.commands.push(command);
        drop(one_at_a_time);
        if queued.is_err() && with_state {
            self.shared.state_outstanding.store(false, Ordering::Release);
        }
        self.shared.wake_pinned();
        queued
    }

    /// The state of a [`Command::Snapshot`], once it is filled, or of a [`Command::Take`], once it is taken over.
    pub fn take_back(&self) -> Option<Box<M::State>> {
        let state = self.shared.states.pop()?;
        self.shared.state_outstanding.store(false, Ordering::Release);
        Some(state)
    }
}

/// What was counted around the pinned thread since it is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunCounts {
    /// Samples dropped because the ring was full.
    pub ring_full: u64,
    /// Torques overwritten before anyone received them.
    pub torques_overwritten: u64,
    /// Telemetry lost because nobody fetched it.
    pub telemetry_lost: u64,
    /// Predicted torques that were not finite, per joint and sample.
    pub non_finite: u64,
    /// Predicted torques that the limits cut, per joint and sample.
    pub clipped: u64,
    /// The pinned thread's allocations and frees; `None` unless [`CountingAllocator`] is installed.
    pub allocations: Option<Allocations>,
    /// The pinned thread's page faults; `None` if the kernel does not tell.
    pub page_faults: Option<PageFaults>,
}

/// What [`Runtime::stop`] gives back.
pub struct Stopped<M> {
    /// The model, as the last sample left it.
    pub model: M,
    /// What the pipeline counted.
    pub counters: Counters,
    /// What was counted around it.
    pub counts: RunCounts,
}

/// What the pinned thread leaves behind: its pipeline, or a panic's message; and its page faults.
type Ended<M> = (Result<Pipeline<M, MonotonicClock>, String>, Option<PageFaults>);

/// A running pinned thread. Dropping it stops the thread as [`Runtime::stop`] does.
pub struct Runtime<M: Model + 'static> {
    shared: Arc<Shared<M>>,
    thread: Option<JoinHandle<Ended<M>>>,
    grants: Grants,
    faults_at_start: Option<PageFaults>,
}

impl<M: Model + 'static> Runtime<M> {
    /// Starts the pinned thread, and returns once it is warm and waits for samples.
    ///
    /// # Errors
    /// [`RealtimeError::NotGranted`] under `realtime: enforce`; under `warn`, look at [`Runtime::grants`].
    pub fn start(config: &Config, pipeline: Pipeline<M, MonotonicClock>) -> Result<Self, RealtimeError> {
        let shared = Arc::new(Shared {
            samples: Ring::new(config.ring),
            torques: touched(config.ring, &Torque::default()),
            telemetry: touched(TELEMETRY, &Telemetry::Batch(BatchReport::default())),
            commands: Ring::new(COMMANDS),
            commanding: Mutex::new(()),
            states: ArrayQueue::new(1),
            state_outstanding: AtomicBool::new(false),
            pinned: OnceLock::new(),
            publisher: OnceLock::new(),
            stop: AtomicBool::new(false),
            status: AtomicU8::new(Status::Running as u8),
            tid: AtomicI32::new(0),
            ring_full: AtomicU64::new(0),
            torques_overwritten: AtomicU64::new(0),
            telemetry_lost: AtomicU64::new(0),
            allocated: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            non_finite: AtomicU64::new(0),
            clipped: AtomicU64::new(0),
            at_zero: AtomicBool::new(true),
        });
        hook_panics();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("metagd-rt".into())
            .stack_size(STACK)
            .spawn({
                let (shared, config) = (shared.clone(), config.clone());
                move || pinned_thread(&config, pipeline, &shared, &ready)
            })
            .map_err(RealtimeError::Spawn)?;
        let Ok(grants) = is_ready.recv() else {
            return Err(RealtimeError::Panicked { message: panic_of(thread.join()) });
        };
        let mut runtime = Runtime { shared, thread: Some(thread), grants, faults_at_start: None };
        if config.realtime == "enforce" && !runtime.grants.complete() {
            let grants = runtime.grants.clone();
            drop(runtime);
            return Err(RealtimeError::NotGranted(Box::new(grants)));
        }
        runtime.faults_at_start = page_faults(runtime.shared.tid.load(Ordering::Acquire));
        Ok(runtime)
    }

    /// The I/O thread's end.
    pub fn sender(&self) -> SampleSender<M> {
        SampleSender { shared: self.shared.clone(), clock: MonotonicClock::new() }
    }

    /// The publisher's end; let one thread have it.
    pub fn torques(&self) -> TorqueReceiver<M> {
        TorqueReceiver { shared: self.shared.clone() }
    }

    /// Housekeeping's end; let one thread have it.
    pub fn telemetry(&self) -> TelemetryReceiver<M> {
        TelemetryReceiver { shared: self.shared.clone() }
    }

    /// A way to ask things of the pinned thread.
    pub fn commands(&self) -> CommandSender<M> {
        CommandSender { shared: self.shared.clone() }
    }

    /// What the system granted.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// How the thread is.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Whether the last torque handed over was zero for every joint, or there was none.
    pub fn is_at_zero(&self) -> bool {
        self.shared.at_zero.load(Ordering::Relaxed)
    }

    /// What was counted so far; reads the kernel's file on the thread, so call it from housekeeping.
    pub fn counts(&self) -> RunCounts {
        self.counts_with(page_faults(self.shared.tid.load(Ordering::Acquire)))
    }

    fn counts_with(&self, faults: Option<PageFaults>) -> RunCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RunCounts {
            ring_full: load(&self.shared.ring_full),
            torques_overwritten: load(&self.shared.torques_overwritten),
            telemetry_lost: load(&self.shared.telemetry_lost),
            non_finite: load(&self.shared.non_finite),
            clipped: load(&self.shared.clipped),
            allocations: CountingAllocator::is_installed().then(|| Allocations {
                allocated: load(&self.shared.allocated),
                freed: load(&self.shared.freed),
            }),
            page_faults: faults.zip(self.faults_at_start).map(|(now, start)| PageFaults {
                minor: now.minor - start.minor,
                major: now.major - start.major,
            }),
        }
    }

    /// Serves what is in the ring, lets the torque decay to zero (`limits.decay`, and a second more at most), ends the
    /// thread and gives the model back.
    ///
    /// # Errors
    /// [`RealtimeError::Panicked`] if the thread panicked, now or before.
    pub fn stop(mut self) -> Result<Stopped<M>, RealtimeError> {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake_pinned();
        let thread = self.thread.take().expect("only stop and drop take it");
        let (ended, faults) = match thread.join() {
            Ok(ended) => ended,
            Err(panic) => return Err(RealtimeError::Panicked { message: message_of(panic.as_ref()) }),
        };
        let pipeline = ended.map_err(|message| RealtimeError::Panicked { message })?;
        let counts = self.counts_with(faults);
        Ok(Stopped { counters: pipeline.counters(), model: pipeline.into_model(), counts })
    }
}

impl<M: Model + 'static> Drop for Runtime<M> {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.stop.store(true, Ordering::Release);
            self.shared.wake_pinned();
            let _ = thread.join();
        }
    }
}

thread_local! {
    /// Whether this is a pinned thread in its loop.
    static IN_LOOP: Cell<bool> = const { Cell::new(false) };
    /// Where it panicked.
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps a pinned thread's panic from being printed by that thread, before its zero torque; other threads' panics go to
/// whatever hook there was.
fn hook_panics() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IN_LOOP.get() {
                return others(info);
            }
            let place = info.location().map(ToString::to_string);
            PANICKED_AT.with_borrow_mut(|at| *at = place);
        }));
    });
}

fn panic_of<T>(joined: thread::Result<T>) -> String {
    joined.err().map_or_else(|| "it ended before it was ready".into(), |panic| message_of(panic.as_ref()))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

/// The whole life of the pinned thread: set up, warm up, say so, loop, and whatever the end, leave zero torque behind.
fn pinned_thread<M: Model>(
    config: &Config,
    mut pipeline: Pipeline<M, MonotonicClock>,
    shared: &Shared<M>,
    ready: &mpsc::Sender<Grants>,
) -> Ended<M> {
    shared.tid.store(tid(), Ordering::Release);
    let _ = shared.pinned.set(thread::current());
    pipeline.warm_up();
    let grants = prepare(config);
    let limits = LimitSettings::from_config(config);
    // Before the start is told: the pipeline moves into pages that nothing has touched yet.
    let mut pinned = Pinned {
        shared,
        clock: MonotonicClock::new(),
        wait: Wait::new(config),
        timeout_ns: timeout_ns(&limits),
        stop_within_ns: stop_within_ns(&limits),
        ramp_ns: ramp_ns(&limits),
        zero_by_ns: None,
        baseline: allocations(),
        last: Torque::default(),
        decayed_until_ns: None,
        pipeline,
    };
    let refused = config.realtime == "enforce" && !grants.complete();
    thread::park_timeout(Duration::from_micros(100));
    let _ = ready.send(grants);
    if refused {
        shared.end(Status::Stopped);
        return (Ok(pinned.pipeline), None);
    }
    pinned.baseline = allocations();
    IN_LOOP.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| pinned.run()));
    IN_LOOP.set(false);
    match outcome {
        Ok(()) => {
            if !pinned.pipeline.limits().is_zero() {
                shared.hand_over(pinned.last);
            }
            // Before the pipeline moves to where nothing was touched yet.
            let faults = page_faults(tid());
            shared.end(Status::Stopped);
            (Ok(pinned.pipeline), faults)
        }
        Err(panic) => {
            // Zero first: whoever sees the status finds the torque in the ring.
            shared.hand_over(pinned.last);
            shared.end(Status::Panicked);
            let place = PANICKED_AT.take().unwrap_or_else(|| "an unknown place".into());
            (Err(format!("{} ({place})", message_of(panic.as_ref()))), page_faults(tid()))
        }
    }
}

/// An empty queue of which every page was written to: its end may lie in one that no slot's stamp does.
fn touched<T: Clone>(capacity: usize, value: &T) -> ArrayQueue<T> {
    let queue = ArrayQueue::new(capacity);
    while queue.push(value.clone()).is_ok() {}
    while queue.pop().is_some() {}
    queue
}

fn timeout_ns(limits: &LimitSettings) -> i64 {
    (limits.timeout_s * 1e9) as i64
}

fn ramp_ns(limits: &LimitSettings) -> i64 {
    (limits.ramp_s * 1e9) as i64
}

fn stop_within_ns(limits: &LimitSettings) -> i64 {
    (limits.decay_s * 1e9) as i64 + STOP_MARGIN_NS
}

struct Pinned<'a, M: Model> {
    shared: &'a Shared<M>,
    pipeline: Pipeline<M, MonotonicClock>,
    clock: MonotonicClock,
    wait: Wait,
    timeout_ns: i64,
    stop_within_ns: i64,
    ramp_ns: i64,
    /// Disabled: by when the torque shall be zero, however slowly stamps advance.
    zero_by_ns: Option<i64>,
    baseline: Allocations,
    /// The last sample's seq, stamp and arrival, with zero torque: what goes out when nothing else can.
    last: Torque,
    /// Until when the present silence's decay has been accounted for, ns.
    decayed_until_ns: Option<i64>,
}

impl<M: Model> Pinned<'_, M> {
    fn run(&mut self) {
        let mut waited = true;
        let mut stop_by_ns = None;
        loop {
            while let Some(command) = self.shared.commands.pop() {
                self.obey(command);
            }
            if let Some(Queued { sample, pushed_ns }) = self.shared.samples.pop() {
                self.wait.arrived(pushed_ns);
                self.serve(&sample, waited.then_some(pushed_ns));
                waited = false;
                continue;
            }
            let stopping = self.shared.stop.load(Ordering::Acquire);
            if stopping {
                let now_ns = self.clock.now_ns();
                if now_ns > *stop_by_ns.get_or_insert(now_ns + self.stop_within_ns) {
                    return;
                }
            }
            let pause = match self.silence(stopping) {
                None if stopping && self.shared.samples.is_empty() => return,
                None => IDLE,
                Some(pause) => pause,
            };
            self.rest(pause, stopping);
            waited = true;
        }
    }

    fn serve(&mut self, sample: &Sample, pushed_ns: Option<i64>) {
        let taken_ns = self.clock.now_ns();
        // Named before anything can panic: the zero torque that a panic leaves behind answers this sample.
        self.last = Torque {
            seq: sample.seq,
            stamp_ns: sample.stamp_ns,
            arrival_ns: sample.arrival_ns,
            ..Torque::default()
        };
        let decayed_until_ns = self.decayed_until_ns.take();
        let before =
            self.zero_by_ns.filter(|by_ns| taken_ns > *by_ns).map(|_| self.pipeline.limits().clone());
        let mut torque = self.pipeline.on_sample(sample);
        if let Some(before) = before.filter(|before| !before.is_zero()) {
            // The stamps have not let it get to zero; the clock on the wall does.
            *self.pipeline.limits_mut() = before;
            let dt_ns = taken_ns - decayed_until_ns.unwrap_or(taken_ns);
            torque.feedforward = self.pipeline.limits_mut().decay(dt_ns as f64 * 1e-9);
            self.decayed_until_ns = Some(taken_ns);
        }
        let predicted_ns = self.clock.now_ns();
        self.shared.hand_over(torque);
        let handed_over_ns = self.clock.now_ns();
        self.shared.tell(Telemetry::Sample(SampleTiming {
            seq: sample.seq,
            arrival_ns: sample.arrival_ns,
            transport_ns: sample.transport_ns,
            wake_up_ns: pushed_ns.map(|pushed_ns| taken_ns - pushed_ns),
            predict_ns: predicted_ns - taken_ns,
            arrival_to_torque_ns: handed_over_ns - sample.arrival_ns,
        }));
        if let Some(report) = self.pipeline.learn(sample) {
            self.shared.tell(Telemetry::Batch(report));
        }
        let Allocations { allocated, freed } = allocations().since(self.baseline);
        self.shared.allocated.store(allocated, Ordering::Relaxed);
        self.shared.freed.store(freed, Ordering::Relaxed);
        self.shared.non_finite.store(self.pipeline.limits().non_finite(), Ordering::Relaxed);
        self.shared.clipped.store(self.pipeline.limits().clipped(), Ordering::Relaxed);
    }

    fn obey(&mut self, command: Command<M>) {
        match command {
            Command::Tune(tuning) => {
                self.timeout_ns = timeout_ns(&tuning.limits);
                self.stop_within_ns = stop_within_ns(&tuning.limits);
                self.ramp_ns = ramp_ns(&tuning.limits);
                self.pipeline.tune(&tuning);
            }
            Command::SetEnabled(enabled) => {
                self.pipeline.limits_mut().set_enabled(enabled);
                let within_ns = self.ramp_ns.saturating_add(OUT_MARGIN_NS);
                let by_ns = self.clock.now_ns().saturating_add(within_ns);
                self.zero_by_ns = if enabled { None } else { self.zero_by_ns.or(Some(by_ns)) };
            }
            Command::NewTask => self.pipeline.model_mut().new_task(),
            Command::Snapshot(mut state) => {
                self.pipeline.model().snapshot(&mut state);
                self.hand_back(state);
            }
            Command::Take(state, what) => {
                self.pipeline.take(&state, what);
                self.hand_back(state);
            }
        }
    }

    /// One state is under way at most, and the ring has room for it: nothing is dropped (freed) here.
    fn hand_back(&self, state: Box<M::State>) {
        let _ = self.shared.states.push(state);
    }

    /// With no sample at hand: sends a decaying torque if the input is dead (or the thread is stopping), and says how long
    /// there is time to sleep; `None` if nothing is left to decay.
    fn silence(&mut self, stopping: bool) -> Option<Duration> {
        if self.pipeline.limits().is_zero() {
            return None;
        }
        let now_ns = self.clock.now_ns();
        let dead_since_ns = self.last.arrival_ns.saturating_add(self.timeout_ns);
        if !stopping && now_ns < dead_since_ns {
            return Some(Duration::from_nanos((dead_since_ns - now_ns) as u64));
        }
        let from_ns = self.decayed_until_ns.unwrap_or(if stopping { now_ns } else { dead_since_ns });
        self.decayed_until_ns = Some(now_ns);
        let feedforward = self.pipeline.limits_mut().decay((now_ns - from_ns) as f64 * 1e-9);
        self.shared.hand_over(Torque { feedforward, ..self.last });
        Some(DECAY_EVERY)
    }

    /// Spends `pause` at most, less if there is something to do.
    fn rest(&self, pause: Duration, stopping: bool) {
        let now_ns = self.clock.now_ns();
        let heard_of = now_ns < self.last.arrival_ns.saturating_add(self.timeout_ns);
        let rest = match stopping {
            // Only the decay's cadence counts.
            true => Rest::Park(pause),
            false => self.wait.rest(now_ns, pause, heard_of || !self.pipeline.limits().is_zero()),
        };
        match rest {
            // A token left by a wake-up makes this return at once.
            Rest::Park(pause) if stopping || !self.is_wanted() => thread::park_timeout(pause),
            Rest::Park(_) => {}
            Rest::Spin(pause) => {
                let until_ns = now_ns.saturating_add(pause.as_nanos() as i64);
                while !self.is_wanted() && self.clock.now_ns() < until_ns {
                    std::hint::spin_loop();
                }
            }
        }
    }

    fn is_wanted(&self) -> bool {
        !self.shared.samples.is_empty()
            || !self.shared.commands.is_empty()
            || self.shared.stop.load(Ordering::Acquire)
    }
}
