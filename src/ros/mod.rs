//! ROS 2 on the wire: one small boundary, and behind it the middleware.
//!
//! Contract: [`open`] makes a [`Connection`]; subscribe, advertise and serve on it, then give it to its own thread with
//! [`Connection::run`], which blocks until [`Stop`] and calls the callbacks and services' handlers, all on that one
//! thread. They must return soon and must not block: while one runs, nothing else is received; a handler that needs time
//! hands its [`Reply`] to another thread. A [`Publisher`] is `Send` and belongs to the thread that publishes; `publish`
//! allocates, takes tens of microseconds and may take a lock, so it is never called by the pinned thread. Nothing here
//! may be called by the pinned thread.
//!
//! The rest of the program knows this module's types only. Behind them stands what the feature of the same name brings:
//! `dds` needs no ROS installation, `rcl` speaks by way of the sourced ROS 2 and any of its middlewares. With both,
//! [`open`] gives `rcl`'s.

use std::fmt;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::msg::{Message, Service};
use crate::realtime::wall_ns;

pub mod arguments;
#[cfg(feature = "dds")]
pub mod dds;
pub mod diagnostics;
pub mod domain;
pub mod environment;
pub mod lifecycle;
pub mod names;
pub mod parameter_server;
pub mod params;
#[cfg(feature = "rcl")]
pub mod rcl;
pub mod rosout;
pub mod statistics;
pub mod time;

#[cfg(not(any(feature = "dds", feature = "rcl")))]
compile_error!(
    "metagd needs one of the features `dds` (no ROS installation needed) and `rcl` (in a sourced ROS 2)"
);

use domain::MAX_DOMAIN;
pub use domain::free_domain;
pub use names::{NameError, Remapping, Scope};

#[cfg(all(feature = "dds", not(feature = "rcl")))]
use dds::DdsConnection as Opened;
#[cfg(feature = "rcl")]
use rcl::RclConnection as Opened;

/// How often [`Publish::wait_for_subscribers`] looks.
const MATCH_INTERVAL: Duration = Duration::from_millis(20);

/// How long a peer that we know may need to know us in turn.
const MATCH_GRACE: Duration = Duration::from_millis(100);

/// The clock that stamps arrivals: nanoseconds of `CLOCK_MONOTONIC`, the pipeline's own.
pub type Clock = fn() -> i64;

/// What happens on receipt: the message, borrowed for the call only, and when it was taken.
pub type Callback<M> = Box<dyn FnMut(&M, Arrival) + Send>;

/// What happens on a service's request: it is answered by the [`Reply`], now or later, from any thread.
pub type Handler<S> = Box<dyn FnMut(<S as Service>::Request, Reply<<S as Service>::Response>) + Send>;

/// The way back to whoever asked. Dropped unsent, the request stays unanswered.
pub struct Reply<R>(Box<dyn FnOnce(R) + Send>);

impl<R> Reply<R> {
    /// A reply that goes where `send` takes it.
    pub fn new(send: impl FnOnce(R) + Send + 'static) -> Self {
        Reply(Box::new(send))
    }

    /// Answers.
    pub fn send(self, response: R) {
        (self.0)(response);
    }
}

/// When a message was taken from the middleware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// By the [`Clock`] given to [`open`].
    pub monotonic_ns: i64,
    /// By the system's clock, since 1970; comparable with a header's stamp where the hosts' clocks agree.
    pub wall_ns: i64,
}

impl Arrival {
    fn now(clock: Clock) -> Self {
        Arrival { monotonic_ns: clock(), wall_ns: wall_ns() }
    }
}

/// Which networks to speak on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// All interfaces, loopback for peers on the same host.
    #[default]
    All,
    /// Loopback alone: nothing is sent to or announced on any other interface. Works where `lo` has no multicast.
    Loopback,
}

/// Which rmw's peers may call our services: the two differ in how a request's number travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceMapping {
    /// Both, at the price of twice the endpoints.
    #[default]
    Both,
    /// As `rmw_fastrtps_cpp` does.
    FastDds,
    /// As `rmw_cyclonedds_cpp` does.
    CycloneDds,
}

/// Who we are in the ROS graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOptions {
    /// The node's name.
    pub name: String,
    /// Its namespace; `/` and the empty string mean none.
    pub namespace: String,
    /// The DDS domain, 0 to 232; `None`: what `ROS_DOMAIN_ID` says, else 0.
    pub domain_id: Option<u16>,
    /// Names to replace by others, in order; the first that matches a topic counts.
    pub remappings: Vec<Remapping>,
    /// Which networks to speak on.
    pub network: Network,
    /// Hosts to announce ourselves to where multicast does not reach them.
    pub static_peers: Vec<Ipv4Addr>,
    /// How services travel.
    pub service_mapping: ServiceMapping,
}

impl NodeOptions {
    /// A node without namespace or remappings, in the environment's domain, on all interfaces.
    pub fn new(name: &str) -> Self {
        NodeOptions {
            name: name.to_string(),
            namespace: "/".to_string(),
            domain_id: None,
            remappings: Vec::new(),
            network: Network::All,
            static_peers: Vec::new(),
            service_mapping: ServiceMapping::Both,
        }
    }
}

/// Whether lost messages are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reliability {
    /// Lost is lost. As a subscription it takes from any publisher; as a publisher it reaches best-effort ones only.
    BestEffort,
    /// Lost messages are sent again. As a subscription it takes from reliable publishers only.
    Reliable,
}

/// Whether a late subscriber gets what was published before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// No.
    Volatile,
    /// The last `depth` messages ("latched").
    TransientLocal,
}

/// A topic's quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qos {
    /// Whether lost messages are sent again.
    pub reliability: Reliability,
    /// Whether a late subscriber gets what was published before.
    pub durability: Durability,
    /// How many messages are kept: by a publisher for late subscribers, by a subscription until they are taken.
    pub depth: usize,
}

impl Qos {
    /// For state at a high rate: best effort, 64 deep (64 ms at 1 kHz, so that a late wake-up loses nothing).
    pub const SENSOR_DATA: Qos =
        Qos { reliability: Reliability::BestEffort, durability: Durability::Volatile, depth: 64 };
    /// For commands: reliable, and only the newest counts.
    pub const COMMAND: Qos =
        Qos { reliability: Reliability::Reliable, durability: Durability::Volatile, depth: 1 };
    /// ROS 2's default: reliable, volatile, 10 deep.
    pub const DEFAULT: Qos =
        Qos { reliability: Reliability::Reliable, durability: Durability::Volatile, depth: 10 };
    /// For `/clock`: only the newest counts.
    pub const CLOCK: Qos =
        Qos { reliability: Reliability::BestEffort, durability: Durability::Volatile, depth: 1 };
    /// For `/parameter_events`, as rcl has it: reliable, and a thousand deep.
    pub const PARAMETER_EVENTS: Qos =
        Qos { reliability: Reliability::Reliable, durability: Durability::Volatile, depth: 1000 };
    /// For `/rosout`, as rcl has it: late subscribers get the last thousand lines.
    pub const ROSOUT: Qos =
        Qos { reliability: Reliability::Reliable, durability: Durability::TransientLocal, depth: 1000 };
    /// For what is said once and holds: reliable, and late subscribers get the last message.
    pub const LATCHED: Qos =
        Qos { reliability: Reliability::Reliable, durability: Durability::TransientLocal, depth: 1 };
}

/// What a subscription counted; read it from any thread.
#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    malformed: AtomicU64,
    lost: AtomicU64,
}

/// A subscription's name and counters. Dropping it does not end the subscription: that lives as long as its
/// [`Connection`].
#[derive(Clone, Debug)]
pub struct Subscription {
    topic: Arc<str>,
    /// Whether the middleware tells us the publishers' numbers.
    numbered: bool,
    counters: Arc<Counters>,
}

impl Subscription {
    fn new(topic: &str, numbered: bool) -> Self {
        Subscription { topic: topic.into(), numbered, counters: Arc::default() }
    }

    /// The topic's full name, after expansion and remapping.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Messages given to the callback.
    pub fn received(&self) -> u64 {
        self.counters.received.load(Ordering::Relaxed)
    }

    /// Messages that could not be decoded, or did not fit the fixed arrays, and were dropped.
    pub fn malformed(&self) -> u64 {
        self.counters.malformed.load(Ordering::Relaxed)
    }

    /// Messages that a publisher numbered and that never came: the gaps in each publisher's sequence since its first
    /// message here. `None` where the middleware does not tell the numbers, so that nobody can know.
    pub fn lost(&self) -> Option<u64> {
        self.numbered.then(|| self.counters.lost.load(Ordering::Relaxed))
    }
}

/// How an implementation publishes messages of one topic.
pub trait Publish<M: ?Sized>: Send {
    /// The topic's full name, after expansion and remapping.
    fn topic(&self) -> &str;

    /// Sends one message. Never waits for a subscriber.
    ///
    /// # Errors
    /// [`RosError::Publish`]: the message cannot be encoded, or the middleware does not take it now.
    fn publish(&mut self, message: &M) -> Result<(), RosError>;

    /// How many subscriptions of other participants are known that this topic's messages reach: same topic and type,
    /// compatible quality of service.
    fn matched(&self) -> usize;

    /// Waits until at least `count` subscriptions are matched, or `timeout` has passed; returns how many there are.
    fn wait_for_subscribers(&self, count: usize, timeout: Duration) -> usize {
        let deadline = Instant::now() + timeout;
        loop {
            let matched = self.matched();
            let left = deadline.saturating_duration_since(Instant::now());
            if matched >= count {
                std::thread::sleep(MATCH_GRACE.min(left));
                return matched;
            }
            if left.is_zero() {
                return matched;
            }
            std::thread::sleep(MATCH_INTERVAL.min(left));
        }
    }
}

/// One topic to publish on.
pub type Publisher<M> = Box<dyn Publish<M>>;

/// One node in the ROS graph, to be completed with topics and then run.
///
/// Topic names may be relative (`joint_states`), absolute (`/joint_states`) or private (`~/feedforward`); see
/// [`names::expand`]. Every method that takes one fails with [`RosError::Name`] where it is not a topic's name, and
/// with [`RosError::Middleware`] where the middleware refuses.
pub trait Connection: Send + Sized {
    /// The node's fully qualified name.
    fn node_name(&self) -> &str;

    /// The DDS domain in use.
    fn domain_id(&self) -> u16;

    /// Receives messages; a type that is a view is decoded without the heap.
    fn subscribe<M>(
        &mut self,
        topic: &str,
        qos: Qos,
        callback: Callback<M>,
    ) -> Result<Subscription, RosError>
    where
        M: Message + DeserializeOwned + Clone + Default + Send + 'static;

    /// Publishes messages.
    fn advertise<M: Message + Serialize>(&mut self, topic: &str, qos: Qos) -> Result<Publisher<M>, RosError>;

    /// Any message type by its name (`sensor_msgs/msg/JointState`), as bytes: a bag's, that is little-endian CDR with
    /// its four bytes of encapsulation header.
    fn advertise_raw(&mut self, topic: &str, type_name: &str, qos: Qos) -> Result<Publisher<[u8]>, RosError>;

    /// Answers a service's requests, each by the handler. Several may wait for their answer at a time.
    fn serve<S>(&mut self, name: &str, handler: Handler<S>) -> Result<(), RosError>
    where
        S: Service + 'static,
        S::Request: Serialize + DeserializeOwned + Clone + Send + 'static,
        S::Response: Serialize + DeserializeOwned + Send + 'static;

    /// Receives and calls the callbacks until `stop`; then leaves the ROS graph. It blocks, so give it a thread of its
    /// own. Publishers may be used before, while and, without effect, after it runs.
    ///
    /// # Errors
    /// [`RosError::Middleware`] if the middleware gives up.
    fn run(self, stop: Stop) -> Result<(), RosError>;
}

/// Opens a connection: a node in the graph of its domain.
///
/// # Errors
/// [`RosError`]: a name or domain that is none, or a middleware that does not start.
pub fn open(options: &NodeOptions, clock: Clock) -> Result<impl Connection + use<>, RosError> {
    Opened::open(options, clock)
}

/// What follows the encapsulation header of a message in little-endian plain CDR, or why it is none.
fn cdr_payload(message: &[u8]) -> Result<&[u8], String> {
    match message.split_at_checked(4) {
        None => Err("shorter than CDR's encapsulation header".to_string()),
        Some(([0, 1, ..], payload)) => Ok(payload),
        Some((header, _)) => Err(format!(
            "its encapsulation is {:#04x}{:02x}, and only little-endian plain CDR (0x0001) can be published",
            header[0], header[1]
        )),
    }
}

/// The package and the name in `package/kind/Name`.
fn type_words<'a>(type_name: &'a str, kind: &str) -> Result<[&'a str; 2], RosError> {
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match type_name.split('/').collect::<Vec<_>>()[..] {
        [package, given, name] if given == kind && is_word(package) && is_word(name) => Ok([package, name]),
        _ => Err(RosError::TypeName(type_name.to_string())),
    }
}

fn failed(what: &str, name: &str, reason: impl ToString) -> RosError {
    RosError::Middleware { what: format!("{what} {name}"), reason: reason.to_string() }
}

/// Why the ROS side failed.
#[derive(Debug, thiserror::Error)]
pub enum RosError {
    /// A node's, namespace's or topic's name breaks the rules.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A message type's name is not `package/msg/Type`.
    #[error("`{0}` is not a type's name; write it as package/msg/Type, e.g. sensor_msgs/msg/JointState")]
    TypeName(String),
    /// The options' domain is out of range.
    #[error("the node's domain = {0} is not a DDS domain; it must be from 0 to {MAX_DOMAIN}")]
    Domain(u16),
    /// A variable of the environment has no such value.
    #[error(transparent)]
    Environment(#[from] environment::EnvironmentError),
    /// No unused domain was found.
    #[error("every DDS domain from 1 to 101 is in use on this host; stop what speaks there")]
    NoFreeDomain,
    /// The middleware refused.
    #[error("cannot {what}: {reason}")]
    Middleware {
        /// What was attempted.
        what: String,
        /// Why not, in the middleware's words.
        reason: String,
    },
    /// A message was not sent.
    #[error("not published on {topic}: {reason}")]
    Publish {
        /// The topic.
        topic: String,
        /// Why not.
        reason: String,
    },
}

/// A request to stop that any thread may make and any number may wait for. Clones are the same request.
#[derive(Clone, Default)]
pub struct Stop(Arc<StopState>);

#[derive(Default)]
struct StopState {
    requested: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Stop {
    /// A request not yet made.
    pub fn new() -> Self {
        Stop::default()
    }

    /// Makes the request and wakes all who wait for it.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether the request was made.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Completes when the request is made.
    pub fn requested(&self) -> impl Future<Output = ()> + use<> {
        StopRequested(self.clone())
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.is_requested()).finish()
    }
}

struct StopRequested(Stop);

impl Future for StopRequested {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let state = &self.0.0;
        let mut waiting = state.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if state.requested.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_wakes_a_waiter_on_another_thread() {
        let stop = Stop::new();
        let waiting = stop.clone();
        let waiter = std::thread::spawn(move || futures::executor::block_on(waiting.requested()));
        assert!(!stop.is_requested());
        stop.request();
        waiter.join().unwrap();
        assert!(stop.is_requested());
    }
}
