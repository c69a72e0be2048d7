//! ROS 2 on the wire: one small boundary, and behind it the middleware.
//!
//! Contract: [`open`] makes a [`Connection`]; subscribe and publish on it, then give it to its own thread with
//! [`Connection::run`], which blocks until [`Stop`] and calls the subscriptions' callbacks, all on that one thread. A
//! callback must return soon and must not block: while it runs, nothing else is received. A [`Publisher`] is `Send` and
//! belongs to the thread that publishes; `publish` allocates, takes tens of microseconds and may take a lock, so it is
//! never called by the pinned thread. Nothing here may be called by the pinned thread.
//!
//! The rest of the program knows this module's types only: [`dds`] needs no ROS installation; another implementation
//! (rcl) has to offer the same [`Connection`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::msg::{Float64MultiArray, JointState, JointStateView, JointTrajectory, JointTrajectoryPointView};

pub mod dds;
pub mod diagnostics;
pub mod names;
pub mod params;
pub mod rosout;
pub mod statistics;

pub use names::{NameError, Remapping};

/// The clock that stamps arrivals: nanoseconds of `CLOCK_MONOTONIC`, the pipeline's own.
pub type Clock = fn() -> i64;

/// What happens on receipt: the message, borrowed for the call only, and when it was taken.
pub type Callback<M> = Box<dyn FnMut(&M, Arrival) + Send>;

/// When a message was taken from the middleware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// By the [`Clock`] given to [`open`].
    pub monotonic_ns: i64,
    /// By the system's clock, since 1970; comparable with a header's stamp where the hosts' clocks agree.
    pub wall_ns: i64,
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
    counters: Arc<Counters>,
}

impl Subscription {
    fn new(topic: &str) -> Self {
        Subscription { topic: topic.into(), counters: Arc::default() }
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
    /// message here.
    pub fn lost(&self) -> u64 {
        self.counters.lost.load(Ordering::Relaxed)
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
    fn wait_for_subscribers(&self, count: usize, timeout: Duration) -> usize;
}

/// One topic to publish on.
pub type Publisher<M> = Box<dyn Publish<M>>;

/// One node in the ROS graph, to be completed with topics and then run.
///
/// Topic names may be relative (`joint_states`), absolute (`/joint_states`) or private (`~/feedforward`); see
/// [`names::expand`]. Every method that takes one fails with [`RosError::Name`] where it is not a topic's name, and
/// with [`RosError::Middleware`] where the middleware refuses.
pub trait Connection: Send {
    /// The node's fully qualified name.
    fn node_name(&self) -> &str;

    /// The DDS domain in use.
    fn domain_id(&self) -> u16;

    /// sensor_msgs/JointState, decoded without the heap.
    fn subscribe_joint_state(
        &mut self,
        topic: &str,
        qos: Qos,
        callback: Callback<JointStateView>,
    ) -> Result<Subscription, RosError>;

    /// trajectory_msgs/JointTrajectory.
    fn subscribe_trajectory(
        &mut self,
        topic: &str,
        qos: Qos,
        callback: Callback<JointTrajectory>,
    ) -> Result<Subscription, RosError>;

    /// trajectory_msgs/JointTrajectoryPoint, decoded without the heap.
    fn subscribe_trajectory_point(
        &mut self,
        topic: &str,
        qos: Qos,
        callback: Callback<JointTrajectoryPointView>,
    ) -> Result<Subscription, RosError>;

    /// std_msgs/Float64MultiArray.
    fn subscribe_floats(
        &mut self,
        topic: &str,
        qos: Qos,
        callback: Callback<Float64MultiArray>,
    ) -> Result<Subscription, RosError>;

    /// sensor_msgs/JointState.
    fn publish_joint_state(&mut self, topic: &str, qos: Qos) -> Result<Publisher<JointState>, RosError>;

    /// std_msgs/Float64MultiArray.
    fn publish_floats(&mut self, topic: &str, qos: Qos) -> Result<Publisher<Float64MultiArray>, RosError>;

    /// trajectory_msgs/JointTrajectory.
    fn publish_trajectory(&mut self, topic: &str, qos: Qos) -> Result<Publisher<JointTrajectory>, RosError>;

    /// Any message type by its name (`sensor_msgs/msg/JointState`), as bytes: a bag's, that is little-endian CDR with
    /// its four bytes of encapsulation header.
    fn publish_raw(&mut self, topic: &str, type_name: &str, qos: Qos) -> Result<Publisher<[u8]>, RosError>;

    /// Receives and calls the callbacks until `stop`; then leaves the ROS graph. It blocks, so give it a thread of its
    /// own. Publishers may be used before, while and, without effect, after it runs.
    ///
    /// # Errors
    /// [`RosError::Middleware`] if the middleware gives up.
    fn run(self: Box<Self>, stop: Stop) -> Result<(), RosError>;
}

/// Opens a connection: a node in the graph of its domain.
///
/// # Errors
/// [`RosError`]: a name or domain that is none, or a middleware that does not start.
pub fn open(options: &NodeOptions, clock: Clock) -> Result<Box<dyn Connection>, RosError> {
    Ok(Box::new(dds::DdsConnection::open(options, clock)?))
}

/// Why the ROS side failed.
#[derive(Debug, thiserror::Error)]
pub enum RosError {
    /// A node's, namespace's or topic's name breaks the rules.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A message type's name is not `package/msg/Type`.
    #[error("`{0}` is not a message type; write it as package/msg/Type, e.g. sensor_msgs/msg/JointState")]
    TypeName(String),
    /// The domain is out of range or not a number.
    #[error(
        "{origin} = `{value}` is not a DDS domain; it must be a whole number from 0 to {}",
        dds::MAX_DOMAIN
    )]
    Domain {
        /// Who gave it: `ROS_DOMAIN_ID`, or the node's options.
        origin: &'static str,
        /// As given.
        value: String,
    },
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
