//! The middleware that the sourced ROS 2 brings: rcl, and behind it any rmw, by way of r2r.
//!
//! Contract: as [`Connection`] says. The one thread that calls [`run`](Connection::run) waits in `rcl_wait`, which a
//! message's arrival wakes and which else returns every [`WAIT`] to see whether to stop; then it takes, decodes and
//! calls back. Each message that comes costs r2r a buffer. The rmw's own threads are its affair.
//!
//! What is known of r2r 0.9.7 and rcl, measured or read in their source:
//! - r2r keeps 10 messages of a subscription or requests of a service and drops more without a word. It takes at most one
//!   of each whenever it has waited, and we empty all of them after each wait, so there is never more than one: what
//!   buffers is the rmw's queue, as deep as the [`Qos`] says.
//! - r2r throws away who published a message and its number, and has no event for what the rmw lost. So
//!   [`Subscription::lost`] is `None`: what is lost on the wire, or overwritten in the rmw's full queue, nobody counts
//!   here. What is [malformed](Subscription::malformed) is counted as ever. (rmw_fastrtps and rmw_cyclonedds hand on
//!   serialized messages without a look at their content.)
//! - There is one context for the process, for its life; several nodes may be opened in it. It reads the whole command
//!   line: remappings and names behind `--ros-args` are applied by rcl, so rcl has the last word on the node's name.
//!   The domain and which networks to speak on are the environment's alone; where the [`NodeOptions`] want others,
//!   [`RclConnection::open`] fails rather than speak where it should not.
//! - rcl starts its own logging (a file below `~/.ros/log`) and announces a publisher of its own on `/rosout`, beside
//!   ours. It starts no parameter services, and neither rcl nor r2r catches signals.
//! - [`Publish::matched`] counts this node's own subscriptions too.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::executor::block_on;
use futures::{FutureExt, StreamExt};
use r2r::{Context, Node, PublisherUntyped, QosProfile};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    Arrival, Callback, Clock, Connection, Durability, Handler, Network, NodeOptions, Publish, Publisher, Qos,
    Reliability, Remapping, Reply, RosError, Stop, Subscription, cdr_payload, environment, names, type_words,
};
use crate::bag::cdr;
use crate::msg::{Message, Service};

mod services;

/// How long `rcl_wait` waits when nothing comes: how late a [`Stop`] may be seen.
const WAIT: Duration = Duration::from_millis(5);

/// A node by way of rcl. See [`super::open`].
pub struct RclConnection {
    options: NodeOptions,
    node_name: String,
    domain: u16,
    clock: Clock,
    tasks: Vec<Task>,
    node: Node,
    context: Context,
}

/// Hands on all that one subscription or service has received.
type Task = Box<dyn FnMut() + Send>;

impl RclConnection {
    /// Joins the environment's domain and announces the node.
    ///
    /// # Errors
    /// As [`super::open`], and where the options want a domain or network that is not the environment's.
    pub fn open(options: &NodeOptions, clock: Clock) -> Result<Self, RosError> {
        let wanted = names::node(options)?;
        let namespace = names::namespace(&options.namespace)?;
        options.remappings.iter().try_for_each(Remapping::check)?;
        let given = options.domain_id;
        let domain = environment::domain_id()?;
        let failed = |reason: &str| RosError::Middleware {
            what: format!("join DDS domain {} as {wanted}", given.unwrap_or(domain)),
            reason: reason.to_string(),
        };
        if given.is_some_and(|given| given != domain) {
            return Err(failed(&format!(
                "rcl takes the domain from ROS_DOMAIN_ID alone, which says {domain}"
            )));
        }
        if options.network == Network::Loopback && !is_local() {
            return Err(failed(
                "rcl keeps to loopback only where ROS_AUTOMATIC_DISCOVERY_RANGE is LOCALHOST or ROS_LOCALHOST_ONLY is 1",
            ));
        }

        let joined = guarded(|| {
            let context = Context::create()?;
            let node = Node::create(context.clone(), &options.name, &namespace)?;
            let [node_name, name, namespace] =
                [node.fully_qualified_name()?, node.name()?, node.namespace()?];
            // Those behind `--ros-args` are rcl's to apply.
            let remappings =
                options.remappings.iter().filter(|remapping| !remapping.ros_args).cloned().collect();
            Ok((NodeOptions { name, namespace, remappings, ..options.clone() }, node_name, node, context))
        });
        let (options, node_name, node, context) = joined.map_err(|reason| failed(&reason))?;
        Ok(RclConnection { options, node_name, domain, clock, tasks: Vec::new(), node, context })
    }

    fn publisher(&mut self, topic: &str, type_name: &str, qos: Qos) -> Result<RclPublisher, RosError> {
        let topic = names::resolve(topic, &self.options)?;
        type_words(type_name, "msg")?;
        let publisher = guarded(|| self.node.create_publisher_untyped(&topic, type_name, profile(qos)))
            .map_err(|reason| super::failed("publish on", &topic, reason))?;
        Ok(RclPublisher { topic, bytes: Vec::new(), publisher })
    }
}

impl Connection for RclConnection {
    fn node_name(&self) -> &str {
        &self.node_name
    }

    fn domain_id(&self) -> u16 {
        self.domain
    }

    fn subscribe<M>(
        &mut self,
        topic: &str,
        qos: Qos,
        mut callback: Callback<M>,
    ) -> Result<Subscription, RosError>
    where
        M: Message + DeserializeOwned + Clone + Default + Send + 'static,
    {
        let name = names::resolve(topic, &self.options)?;
        let mut samples = guarded(|| self.node.subscribe_raw(&name, M::TYPE, profile(qos)))
            .map_err(|reason| super::failed("subscribe to", &name, reason))?;
        let subscription = Subscription::new(&name, false);
        let (clock, counted) = (self.clock, subscription.clone());
        self.tasks.push(Box::new(move || {
            while let Some(bytes) = samples.next().now_or_never().flatten() {
                let arrival = Arrival::now(clock);
                match cdr::decode::<M>(&bytes) {
                    Ok(message) => {
                        counted.counters.received.fetch_add(1, Ordering::Relaxed);
                        callback(&message, arrival);
                    }
                    Err(error) => {
                        counted.counters.malformed.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(topic = counted.topic(), %error, "sample dropped");
                    }
                }
            }
        }));
        Ok(subscription)
    }

    fn advertise<M: Message + Serialize>(&mut self, topic: &str, qos: Qos) -> Result<Publisher<M>, RosError> {
        Ok(Box::new(self.publisher(topic, M::TYPE, qos)?))
    }

    fn advertise_raw(&mut self, topic: &str, type_name: &str, qos: Qos) -> Result<Publisher<[u8]>, RosError> {
        Ok(Box::new(self.publisher(topic, type_name, qos)?))
    }

    fn serve<S>(&mut self, name: &str, mut handler: Handler<S>) -> Result<(), RosError>
    where
        S: Service + 'static,
        S::Request: Serialize + DeserializeOwned + Clone + Send + 'static,
        S::Response: Serialize + DeserializeOwned + Send + 'static,
    {
        let name = names::resolve_service(name, &self.options)?;
        type_words(S::TYPE, "srv")?;
        let service = name.clone();
        let on_request =
            move |request: &[u8], answer: services::Answer| match cdr::decode::<S::Request>(request) {
                Ok(request) => {
                    let service = service.clone();
                    let reply = move |response| respond(&service, &response, answer);
                    handler(request, Reply::new(reply));
                }
                Err(error) => tracing::debug!(%service, %error, "request dropped"),
            };
        let task = guarded(|| services::serve(&mut self.node, S::TYPE, &name, Box::new(on_request)))
            .map_err(|reason| super::failed("serve", &name, reason))?;
        self.tasks.push(task);
        Ok(())
    }

    fn run(mut self, stop: Stop) -> Result<(), RosError> {
        let failed = |reason: &str| super::failed("receive as", &self.node_name, reason);
        if self.tasks.is_empty() {
            // There is nothing that `rcl_wait` could wait for, and it would not wait.
            block_on(stop.requested());
        }
        while !stop.is_requested() {
            guarded(|| {
                self.node.spin_once(WAIT);
                Ok(())
            })
            .map_err(|reason| failed(&reason))?;
            if !self.context.is_valid() {
                return Err(failed("rcl was shut down"));
            }
            for task in &mut self.tasks {
                if stop.is_requested() {
                    break;
                }
                task();
            }
        }
        Ok(())
    }
}

fn respond<R: Serialize>(service: &str, response: &R, answer: services::Answer) {
    let bytes = cdr::encode(response).map_err(|error| error.to_string());
    let sent = bytes.and_then(|bytes| answer(&bytes).map_err(|error| error.to_string()));
    if let Err(error) = sent {
        tracing::warn!(service, error, "an answer was not sent");
    }
}

/// A publisher of ready-made CDR.
struct RclPublisher {
    topic: String,
    bytes: Vec<u8>,
    publisher: PublisherUntyped,
}

impl RclPublisher {
    fn refused(&self, reason: impl ToString) -> RosError {
        RosError::Publish { topic: self.topic.clone(), reason: reason.to_string() }
    }

    fn count_matched(&self) -> usize {
        self.publisher.get_inter_process_subscription_count().unwrap_or(0)
    }
}

impl<M: Serialize> Publish<M> for RclPublisher {
    fn topic(&self) -> &str {
        &self.topic
    }

    fn publish(&mut self, message: &M) -> Result<(), RosError> {
        cdr::encode_into(message, &mut self.bytes).map_err(|error| self.refused(error))?;
        self.publisher.publish_raw(&self.bytes).map_err(|error| self.refused(error))
    }

    fn matched(&self) -> usize {
        self.count_matched()
    }
}

impl Publish<[u8]> for RclPublisher {
    fn topic(&self) -> &str {
        &self.topic
    }

    fn publish(&mut self, message: &[u8]) -> Result<(), RosError> {
        cdr_payload(message).map_err(|reason| self.refused(reason))?;
        self.publisher.publish_raw(message).map_err(|error| self.refused(error))
    }

    fn matched(&self) -> usize {
        self.count_matched()
    }
}

fn profile(qos: Qos) -> QosProfile {
    let profile = QosProfile::default().keep_last(qos.depth.max(1));
    let profile = match qos.reliability {
        Reliability::BestEffort => profile.best_effort(),
        Reliability::Reliable => profile.reliable(),
    };
    match qos.durability {
        Durability::Volatile => profile.volatile(),
        Durability::TransientLocal => profile.transient_local(),
    }
}

/// Whether the environment tells the rmw to keep to this host.
fn is_local() -> bool {
    let says = |variable: &str, value: &str| std::env::var(variable).is_ok_and(|given| given == value);
    says("ROS_LOCALHOST_ONLY", "1") || says("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
}

/// What r2r does, or why not: it panics where rcl does not start.
fn guarded<T>(work: impl FnOnce() -> r2r::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => Err(panic_text(&*panic)),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref().copied()).unwrap_or("r2r panicked").to_string()
}
