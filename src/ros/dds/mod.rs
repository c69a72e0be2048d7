//! The middleware in Rust alone: ros2-client on RustDDS. Needs no ROS installation.
//!
//! Contract: as [`Connection`] says. RustDDS runs two threads of its own (network, discovery); ours
//! is the one that calls [`run`](Connection::run): it sleeps on a waker that the network thread wakes for each
//! sample, decodes and calls back. Nothing polls.
//!
//! The node is announced on `ros_discovery_info` with each endpoint, so `ros2 node list` and `ros2 topic list` see it.
//! ros2-client's spinner is not run: what it reads of others is not needed, and its `/clock` has the wrong type.
//!
//! What is known of RustDDS 0.15, measured or read in its source:
//! - A reliable publisher keeps what a subscriber has not acknowledged, whatever the depth, and when it may keep no more
//!   then nobody gets anything. A subscriber that was killed counts until its lease is over (10 s to 60 s), so
//!   the bound is set to outlast that at 1 kHz, and `publish` fails at once rather than wait.
//! - A late subscriber of a latched topic may get a few older messages before the last.
//! - Best-effort samples are read by the system clock, so a clock that is set back holds them up until it has caught up.
//!   Slewed clocks (chrony, PTP) do no harm.
//! - Interfaces are chosen by address. Where none of them has multicast (`lo` alone has none on Linux), participants of
//!   one host find each other by unicast to the ports of the domain's first twelve participants; foreign peers (Cyclone
//!   DDS, Fast DDS) then need 127.0.0.1 among their initial peers.
//! - It logs much that is no concern of a user's: `rustdds=error,ros2_client=error,cdr_encoding=error` is a good
//!   filter.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::{poll_fn, ready};
use std::net::Ipv4Addr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use futures::executor::LocalPool;
use futures::future::LocalBoxFuture;
use futures::stream::{FuturesUnordered, select_all};
use futures::task::LocalSpawnExt;
use futures::{FutureExt, StreamExt, select};
use ros2_client::dds as ros2;
use ros2_client::qos::{History, WhenFull};
use ros2_client::service::{RmwRequestId, Server};
use ros2_client::{Gid, MessageInfo, MessageTypeName, Name, NodeName, QosProfile, ServiceTypeName};
use rustdds::bytes::Bytes;
use rustdds::no_key::SerializerAdapter;
use rustdds::policy::ResourceLimits;
use rustdds::{
    CDRSerializerAdapter, DomainParticipant, DomainParticipantBuilder, DomainParticipantStatusEvent, GUID,
    QosPolicies, QosPolicyBuilder, RTPSEntity, StatusEvented, Topic, TopicKind,
};
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::domain::MAX_DOMAIN;
use super::{
    Arrival, Callback, Clock, Connection, Durability, Handler, Network, NodeOptions, Publish, Publisher, Qos,
    Reliability, Remapping, Reply, RosError, ServiceMapping, Stop, Subscription, cdr_payload, environment,
    failed, names, type_words,
};
use crate::msg::{Message, Service};

mod peers;

use peers::{Ear, Peers};

/// So many samples of one topic in a row, then it is the others' turn.
const SAMPLES_PER_TURN: u32 = 16;

/// So many first bytes the GUIDs of one process share. In Cyclone DDS's service mapping they are all that a request tells of
/// its client's GUID.
const PROCESS: usize = 8;

/// How long a match may take to reach the reader. RustDDS tells us first, and then the reader up to which number it has
/// missed everything: an answer sent in between would count as missed.
const SETTLED: Duration = Duration::from_millis(20);

/// How long an answer waits for its reader to be known.
const REACH_PATIENCE: Duration = Duration::from_secs(1);

/// So many requests of one service wait for their answers; more stay in the middleware, as deep as its queue is, until one
/// is answered.
const PENDING_REPLIES: usize = 16;

/// So many publishers of one topic have their sequences watched; beyond, the longest silent is forgotten.
const WATCHED_PUBLISHERS: usize = 32;

/// So many messages may wait for the acknowledgement of one subscriber before nobody gets any more: at 1 kHz, for
/// 131 s. See this module's documentation.
const MAX_UNACKNOWLEDGED: i32 = 1 << 17;

const UNACKNOWLEDGED: QosPolicies = QosPolicyBuilder::new()
    .resource_limits(ResourceLimits {
        max_samples: MAX_UNACKNOWLEDGED,
        max_instances: 1,
        max_samples_per_instance: MAX_UNACKNOWLEDGED,
    })
    .build();

/// A node by way of DDS. See [`super::open`].
pub struct DdsConnection {
    options: NodeOptions,
    node_name: String,
    clock: Clock,
    mappings: &'static [ros2_client::ServiceMapping],
    tasks: Vec<Task>,
    endpoints: Vec<(GUID, String)>,
    node: ros2::Node,
    context: Arc<ros2::Context>,
    /// The last to go, so that the peers hear that we leave.
    peers: Option<Peers>,
}

/// Makes the task that receives one topic or answers one service, once on the thread where it stays.
type Task = Box<dyn FnOnce(Stop, Rc<Reach>) -> LocalBoxFuture<'static, ()> + Send>;

impl DdsConnection {
    /// Joins the domain and announces the node.
    ///
    /// # Errors
    /// As [`super::open`].
    pub fn open(options: &NodeOptions, clock: Clock) -> Result<Self, RosError> {
        let node_name = names::node(options)?;
        let namespace = names::namespace(&options.namespace)?;
        options.remappings.iter().try_for_each(Remapping::check)?;
        let domain = match options.domain_id {
            Some(domain) if domain > MAX_DOMAIN => return Err(RosError::Domain(domain)),
            Some(domain) => domain,
            None => environment::domain_id()?,
        };
        let failed = |reason: String| RosError::Middleware {
            what: format!("join DDS domain {domain} as {node_name}"),
            reason,
        };

        let mut participant = DomainParticipantBuilder::new(domain);
        if options.network == Network::Loopback {
            participant = participant.with_only_networks([Ipv4Addr::LOCALHOST]);
        }
        let no_peers = |e: std::io::Error| RosError::Middleware {
            what: format!("announce ourselves to {:?}, the static peers", options.static_peers),
            reason: format!(
                "{e} (one of the first discovery ports of domain {domain} must be free for that)"
            ),
        };
        let ear =
            (!options.static_peers.is_empty()).then(|| Ear::open(domain)).transpose().map_err(no_peers)?;
        let participant = participant.build().map_err(|e| failed(e.to_string()))?;
        let mut prefix = [0; 12];
        prefix.copy_from_slice(&participant.guid().to_bytes()[..12]);
        let peers = ear.map(|ear| Peers::start(ear, domain, prefix, &options.static_peers));
        let peers = peers.transpose().map_err(no_peers)?;
        let context =
            ros2::Context::from_domain_participant(participant).map_err(|e| failed(e.to_string()))?;
        let name = NodeName::new(&namespace, &options.name).map_err(|e| failed(e.to_string()))?;
        let node = context
            .new_node(
                name,
                ros2_client::NodeOptions::new().enable_rosout(false).start_parameter_services(false),
            )
            .map_err(|e| failed(e.to_string()))?;
        Ok(DdsConnection {
            options: options.clone(),
            node_name,
            clock,
            mappings: mappings(options.service_mapping),
            tasks: Vec::new(),
            endpoints: Vec::new(),
            node,
            context: Arc::new(context),
            peers,
        })
    }

    fn topic(&self, name: &str, type_name: &str, qos: &QosPolicies) -> Result<Topic, RosError> {
        self.context
            .domain_participant()
            .create_topic(dds_topic(name), dds_type(type_name)?, qos, TopicKind::NoKey)
            .map_err(|e| failed("create topic", name, e))
    }

    fn publisher(&mut self, topic: &str, type_name: &str, qos: Qos) -> Result<DdsPublisher, RosError> {
        let name = names::resolve(topic, &self.options)?;
        let qos = match qos.reliability {
            Reliability::BestEffort => policies(qos),
            Reliability::Reliable => policies(qos).modify_by(&UNACKNOWLEDGED),
        };
        let topic = self.topic(&name, type_name, &qos)?;
        let writer = self.node.create_publisher(&topic, None).map_err(|e| failed("publish on", &name, e))?;
        self.endpoints.push((writer.guid(), name.clone()));
        Ok(DdsPublisher {
            dds_topic: dds_topic(&name),
            dds_type: dds_type(type_name)?,
            topic: name,
            qos,
            writer,
            context: Arc::downgrade(&self.context),
        })
    }
}

impl Connection for DdsConnection {
    fn node_name(&self) -> &str {
        &self.node_name
    }

    fn domain_id(&self) -> u16 {
        self.context.domain_id()
    }

    fn subscribe<M>(&mut self, topic: &str, qos: Qos, callback: Callback<M>) -> Result<Subscription, RosError>
    where
        M: Message + DeserializeOwned + Clone + Default + Send + 'static,
    {
        let name = names::resolve(topic, &self.options)?;
        let topic = self.topic(&name, M::TYPE, &policies(qos))?;
        let reader = self
            .node
            .create_subscription::<bool>(&topic, None)
            .map_err(|e| failed("subscribe to", &name, e))?;
        self.endpoints.push((reader.guid(), name.clone()));
        let subscription = Subscription::new(&name, true);
        let (clock, counted) = (self.clock, subscription.clone());
        self.tasks
            .push(Box::new(move |stop, _| receive(reader, clock, callback, counted, stop).boxed_local()));
        Ok(subscription)
    }

    fn advertise<M: Message + Serialize>(&mut self, topic: &str, qos: Qos) -> Result<Publisher<M>, RosError> {
        Ok(Box::new(self.publisher(topic, M::TYPE, qos)?))
    }

    fn advertise_raw(&mut self, topic: &str, type_name: &str, qos: Qos) -> Result<Publisher<[u8]>, RosError> {
        Ok(Box::new(self.publisher(topic, type_name, qos)?))
    }

    fn serve<S>(&mut self, name: &str, handler: Handler<S>) -> Result<(), RosError>
    where
        S: Service + 'static,
        S::Request: Serialize + DeserializeOwned + Clone + Send + 'static,
        S::Response: Serialize + DeserializeOwned + Send + 'static,
    {
        let name = names::resolve_service(name, &self.options)?;
        let wire_name = Name::parse(&name).map_err(|e| failed("serve", &name, e))?;
        let [package, class] = type_words(S::TYPE, "srv")?;
        let qos = QosProfile::subscription_default()
            .reliability(ros2_client::qos::Reliability::Reliable { when_full: WhenFull::Fail })
            .history(History::KeepLast { depth: Qos::DEFAULT.depth });
        let service_type = ServiceTypeName::new(package, class);
        let mut servers = Vec::new();
        for &mapping in self.mappings {
            let server = self
                .node
                .create_server(mapping, &wire_name, &service_type, qos.clone(), qos.clone())
                .map_err(|e| failed("serve", &name, e))?;
            servers.push((mapping, server));
        }
        self.tasks.push(Box::new(move |stop, reach| {
            answer::<S>(servers, name, handler, stop, reach).boxed_local()
        }));
        Ok(())
    }

    fn run(self, stop: Stop) -> Result<(), RosError> {
        let DdsConnection { node_name, tasks, endpoints, node, context, peers, .. } = self;
        let mut pool = LocalPool::new();
        let spawner = pool.spawner();
        let reach = Reach::new(context.domain_participant());
        let graph = watch_graph(reach.clone(), endpoints).boxed_local();
        let tasks = tasks.into_iter().map(|task| task(stop.clone(), reach.clone())).chain([graph]);
        for task in tasks {
            spawner.spawn_local(task).map_err(|e| failed("run", &node_name, e))?;
        }
        pool.run_until(stop.requested());
        drop(pool);
        drop(reach);
        drop(node);
        drop(context);
        drop(peers);
        Ok(())
    }
}

/// One topic's task: takes each sample as it comes, stamps, counts and hands it on.
async fn receive<M>(
    reader: ros2::Subscription<bool>,
    clock: Clock,
    mut callback: Callback<M>,
    subscription: Subscription,
    stop: Stop,
) where
    M: DeserializeOwned + Clone + Default,
{
    let message = RefCell::new(M::default());
    let mut sequences = Sequences::default();
    let mut in_a_row = 0;
    let mut samples = pin!(reader.async_stream_seed(DecodeInto(&message)));
    let counters = &subscription.counters;
    while let Some(sample) = samples.next().await {
        let arrival = Arrival::now(clock);
        match sample {
            Ok((decoded, info)) => {
                counters.lost.fetch_add(sequences.gap_before(&info), Ordering::Relaxed);
                if decoded {
                    counters.received.fetch_add(1, Ordering::Relaxed);
                    callback(&message.borrow(), arrival);
                } else {
                    counters.malformed.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) => {
                counters.malformed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(topic = subscription.topic(), %error, "sample dropped");
            }
        }
        if stop.is_requested() {
            return;
        }
        in_a_row += 1;
        if in_a_row == SAMPLES_PER_TURN {
            in_a_row = 0;
            others_turn().await;
        }
    }
}

/// A service as one of the mappings has it.
type MappedServer<S> =
    (ros2_client::ServiceMapping, Server<Wire<<S as Service>::Request>, Wire<<S as Service>::Response>>);

/// One service's task: takes each request as it comes, hands it on, and sends the answers when they are there.
async fn answer<S>(
    servers: Vec<MappedServer<S>>,
    name: String,
    mut handler: Handler<S>,
    stop: Stop,
    reach: Rc<Reach>,
) where
    S: Service,
    S::Request: Serialize + DeserializeOwned + Clone + Send + 'static,
    S::Response: Serialize + DeserializeOwned + Send + 'static,
{
    let (name, reply_topic) = (name.as_str(), &format!("rr{name}Reply"));
    let both = servers.len() > 1;
    let mut requests = select_all(servers.iter().map(|(mapping, server)| {
        let mine = move |id: &RmwRequestId| !both || *mapping == mapping_of(id);
        let requests = server.receive_request_stream().map(move |request| (server, request));
        requests
            .filter(move |(_, request)| ready(request.as_ref().map_or(true, |(id, _)| mine(id))))
            .boxed_local()
    }));
    let mut pending = FuturesUnordered::new();
    while !stop.is_requested() {
        let request = if pending.len() < PENDING_REPLIES {
            select! {
                request = requests.select_next_some() => Some(request),
                () = pending.select_next_some() => None,
            }
        } else {
            pending.next().await;
            None
        };
        match request {
            Some((server, Ok((id, Wire(request))))) => {
                let (give, reply) = oneshot::channel();
                // A gone receiver means a connection that has stopped: nobody is left to answer to.
                handler(request, Reply::new(move |response| drop(give.send(response))));
                let reach = reach.clone();
                pending.push(async move {
                    let Ok(response) = reply.await else { return };
                    reach.client(&id, reply_topic).await;
                    if let Err(error) = server.async_send_response(id, Wire(response)).await {
                        tracing::warn!(service = name, ?error, "an answer was not sent");
                    }
                });
            }
            Some((_, Err(error))) => tracing::debug!(service = name, %error, "request dropped"),
            None => {}
        }
    }
}

/// Which readers our writers reach.
///
/// A client may know our service, and ask, before we know the reader on which it waits for the answer; an answer sent
/// then is lost to it.
struct Reach {
    participant: DomainParticipant,
    /// Since when.
    matched: RefCell<HashMap<GUID, Instant>>,
    /// To a thread that wakes who waits, a little later.
    later: Option<mpsc::Sender<Waker>>,
}

impl Reach {
    fn new(participant: DomainParticipant) -> Rc<Self> {
        let (later, due) = mpsc::channel::<Waker>();
        let timer = std::thread::Builder::new().name("ros-timer".into()).spawn(move || {
            while let Ok(waker) = due.recv() {
                std::thread::sleep(super::MATCH_INTERVAL);
                due.try_iter().chain([waker]).for_each(Waker::wake);
            }
        });
        Rc::new(Reach { participant, matched: RefCell::default(), later: timer.is_ok().then_some(later) })
    }

    fn matched(&self, reader: GUID) {
        self.matched.borrow_mut().insert(reader, Instant::now());
    }

    fn lost(&self, lost: impl Fn(&GUID) -> bool) {
        self.matched.borrow_mut().retain(|reader, _| !lost(reader));
    }

    /// Completes when the client's reader of this topic is matched, or [`REACH_PATIENCE`] is over.
    async fn client(&self, request: &RmwRequestId, topic: &str) {
        let guid = request.writer_gid.to_bytes16();
        let mut until = None;
        poll_fn(|context| {
            let now = Instant::now();
            let given_up = now >= *until.get_or_insert(now + REACH_PATIENCE);
            if given_up || self.is_matched(&guid[..PROCESS], topic) {
                return Poll::Ready(());
            }
            match &self.later {
                Some(later) if later.send(context.waker().clone()).is_ok() => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    fn is_matched(&self, prefix: &[u8], topic: &str) -> bool {
        let matched = self.matched.borrow();
        let settled = |(guid, since): (&GUID, &Instant)| {
            (guid.to_bytes().starts_with(prefix) && since.elapsed() >= SETTLED).then_some(*guid)
        };
        let candidates: Vec<GUID> = matched.iter().filter_map(settled).collect();
        !candidates.is_empty()
            && self.participant.discovered_readers().iter().any(|reader| {
                reader.subscription_topic_data.topic_name() == topic
                    && candidates.contains(&reader.reader_proxy.remote_reader_guid)
            })
    }
}

/// How the DDS of whoever asks maps services: GUIDs begin with the vendor (RTPS 2.5, sections 8.2.4.1 and 9.3.1.2).
fn mapping_of(request: &RmwRequestId) -> ros2_client::ServiceMapping {
    use ros2_client::ServiceMapping::{Cyclone, Enhanced};
    const CYCLONE: [u8; 2] = [1, 0x10];
    if request.writer_gid.to_bytes16()[..2] == CYCLONE { Cyclone } else { Enhanced }
}

/// Lets the other tasks of the thread run once.
async fn others_turn() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Says in the log why a peer that is there gets nothing.
async fn watch_graph(reach: Rc<Reach>, endpoints: Vec<(GUID, String)>) {
    let topic_of = |guid: GUID| {
        endpoints.iter().find(|(endpoint, _)| *endpoint == guid).map_or("?", |(_, topic)| topic.as_str())
    };
    let listener = reach.participant.status_listener();
    let mut events = listener.as_async_status_stream();
    while let Some(event) = events.next().await {
        match event {
            DomainParticipantStatusEvent::RemoteReaderMatched { local_writer, remote_reader } => {
                reach.matched(remote_reader);
                tracing::debug!(topic = topic_of(local_writer), "subscriber matched");
            }
            DomainParticipantStatusEvent::ReaderLost { guid, .. } => reach.lost(|reader| *reader == guid),
            DomainParticipantStatusEvent::ParticipantLost { id, .. } => {
                reach.lost(|reader| reader.prefix == id)
            }
            DomainParticipantStatusEvent::RemoteWriterMatched { local_reader, .. } => {
                tracing::debug!(topic = topic_of(local_reader), "publisher matched");
            }
            DomainParticipantStatusEvent::RemoteReaderQosIncompatible { local_writer, .. } => {
                tracing::warn!(
                    topic = topic_of(local_writer),
                    "a subscriber asks for a quality of service that this topic does not offer; it gets nothing"
                );
            }
            DomainParticipantStatusEvent::RemoteWriterQosIncompatible { local_reader, .. } => {
                tracing::warn!(
                    topic = topic_of(local_reader),
                    "a publisher offers less quality of service than is asked for here; nothing comes from it"
                );
            }
            _ => {}
        }
    }
}

/// Decodes in place and answers whether that succeeded, so that a malformed sample still shows its number.
#[derive(Clone, Copy)]
struct DecodeInto<'a, M>(&'a RefCell<M>);

impl<'de, M: DeserializeOwned> DeserializeSeed<'de> for DecodeInto<'_, M> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        let decoded = M::deserialize(deserializer);
        Ok(decoded.map(|message| *self.0.borrow_mut() = message).is_ok())
    }
}

/// The last sequence number of each publisher, the most recently heard last.
#[derive(Default)]
struct Sequences(VecDeque<(Gid, i64)>);

impl Sequences {
    /// How many numbers this publisher has skipped since its last sample.
    fn gap_before(&mut self, info: &MessageInfo) -> u64 {
        self.gap(info.publisher_gid(), info.sequence_number())
    }

    fn gap(&mut self, publisher: Gid, number: i64) -> u64 {
        let known = self.0.iter().rposition(|(gid, _)| *gid == publisher);
        let (gap, newest) = match known.and_then(|index| self.0.remove(index)) {
            Some((_, last)) => {
                (number.saturating_sub(last).saturating_sub(1).max(0) as u64, number.max(last))
            }
            None => (0, number),
        };
        if self.0.len() == WATCHED_PUBLISHERS {
            self.0.pop_front();
        }
        self.0.push_back((publisher, newest));
        gap
    }
}

/// A writer of ready-made CDR.
struct DdsPublisher {
    topic: String,
    dds_topic: String,
    dds_type: String,
    qos: QosPolicies,
    writer: ros2::Publisher<Cdr>,
    context: Weak<ros2::Context>,
}

impl DdsPublisher {
    fn send(&self, payload: Bytes) -> Result<(), RosError> {
        self.writer.publish(Cdr(payload)).map_err(|e| self.refused(e))
    }

    fn refused(&self, reason: impl ToString) -> RosError {
        RosError::Publish { topic: self.topic.clone(), reason: reason.to_string() }
    }

    fn count_matched(&self) -> usize {
        let Some(context) = self.context.upgrade() else { return 0 };
        let readers = context.domain_participant().discovered_readers();
        let matches = readers.iter().map(|reader| &reader.subscription_topic_data).filter(|reader| {
            *reader.topic_name() == self.dds_topic
                && *reader.type_name() == self.dds_type
                && self.qos.compliance_failure_wrt(&reader.qos()).is_none()
        });
        matches.count()
    }
}

impl<M: Serialize> Publish<M> for DdsPublisher {
    fn topic(&self) -> &str {
        &self.topic
    }

    fn publish(&mut self, message: &M) -> Result<(), RosError> {
        let payload = CDRSerializerAdapter::<M>::to_bytes(message).map_err(|e| self.refused(e))?;
        self.send(payload)
    }

    fn matched(&self) -> usize {
        self.count_matched()
    }
}

impl Publish<[u8]> for DdsPublisher {
    fn topic(&self) -> &str {
        &self.topic
    }

    fn publish(&mut self, message: &[u8]) -> Result<(), RosError> {
        let payload = cdr_payload(message).map_err(|reason| self.refused(reason))?;
        self.send(Bytes::copy_from_slice(payload))
    }

    fn matched(&self) -> usize {
        self.count_matched()
    }
}

/// A service's request or response, as ros2-client wants its type marked.
#[derive(Clone, Serialize, Deserialize)]
struct Wire<T>(T);

impl<T: Serialize + DeserializeOwned> ros2_client::Message for Wire<T> {}

/// A payload that is CDR already. As a tuple, which has no length on the wire: of words first, which are aligned since
/// the payload begins aligned, then of what bytes are left over.
struct Cdr(Bytes);

impl Serialize for Cdr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (words, bytes) = self.0.as_chunks::<8>();
        let mut tuple = serializer.serialize_tuple(words.len() + bytes.len())?;
        for word in words {
            tuple.serialize_element(&u64::from_le_bytes(*word))?;
        }
        for byte in bytes {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

/// ROS topics stand under `rt` in DDS.
fn dds_topic(full_name: &str) -> String {
    format!("rt{full_name}")
}

/// `package/msg/Type` as DDS knows it.
fn dds_type(type_name: &str) -> Result<String, RosError> {
    let [package, name] = type_words(type_name, "msg")?;
    Ok(MessageTypeName::new(package, name).dds_msg_type())
}

fn policies(qos: Qos) -> QosPolicies {
    let reliability = match qos.reliability {
        Reliability::BestEffort => ros2_client::qos::Reliability::BestEffort,
        Reliability::Reliable => ros2_client::qos::Reliability::Reliable { when_full: WhenFull::Fail },
    };
    let durability = match qos.durability {
        Durability::Volatile => ros2_client::qos::Durability::Volatile,
        Durability::TransientLocal => ros2_client::qos::Durability::TransientLocal,
    };
    QosProfile::subscription_default()
        .reliability(reliability)
        .durability(durability)
        .history(History::KeepLast { depth: qos.depth.max(1) })
        .into()
}

/// The mappings to serve by.
fn mappings(mapping: ServiceMapping) -> &'static [ros2_client::ServiceMapping] {
    use ros2_client::ServiceMapping::{Cyclone, Enhanced};
    match mapping {
        ServiceMapping::Both => &[Enhanced, Cyclone],
        ServiceMapping::FastDds => &[Enhanced],
        ServiceMapping::CycloneDds => &[Cyclone],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::{
        Float64MultiArray, Header, JointState, JointStateView, JointTrajectory, JointTrajectoryPointView,
        MAX_NAMES,
    };
    use proptest::prelude::*;
    use rustdds::RepresentationIdentifier;
    use rustdds::no_key::Decode;
    use rustdds::serialization::CdrDeserializeSeedDecoder;
    use std::marker::PhantomData;

    #[test]
    fn gaps_are_counted_for_each_publisher_apart() {
        let mut sequences = Sequences::default();
        let [a, b] = [Gid::from([1; 16]), Gid::from([2; 16])];
        let gaps = [(a, 5), (b, 100), (a, 6), (a, 9), (b, 101), (a, 8), (a, 10), (b, 104)]
            .map(|(publisher, number)| sequences.gap(publisher, number));
        assert_eq!(gaps, [0, 0, 0, 2, 0, 0, 0, 2]);
        assert_eq!(sequences.gap(a, i64::MAX), (i64::MAX - 11) as u64);
        assert_eq!(sequences.gap(a, i64::MIN), 0);
        for id in 0..=255 {
            sequences.gap(Gid::from([id; 16]), 1);
        }
        assert_eq!(sequences.0.len(), WATCHED_PUBLISHERS);
    }

    #[test]
    fn ready_made_cdr_passes_through_the_serializer_unchanged() {
        for length in [0, 1, 7, 8, 9, 16, 23, 1000] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let sent = CDRSerializerAdapter::<Cdr>::to_bytes(&Cdr(bytes.clone().into())).unwrap();
            assert_eq!(sent, bytes, "{length}");
        }
    }

    fn decodes<M: DeserializeOwned + Default>(bytes: &[u8]) -> bool {
        let message = RefCell::new(M::default());
        [RepresentationIdentifier::CDR_LE, RepresentationIdentifier::CDR_BE].into_iter().any(|encoding| {
            let seed = CdrDeserializeSeedDecoder::new(DecodeInto(&message), PhantomData::<()>);
            Decode::<bool>::decode_bytes(seed, bytes, encoding).unwrap_or(false)
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(
            words in prop::collection::vec(prop_oneof![0..4_u32, Just(1_000_000_000), any::<u32>()], 0..64)
        ) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            decodes::<JointStateView>(&bytes);
            decodes::<JointTrajectory>(&bytes);
            decodes::<JointTrajectoryPointView>(&bytes);
            decodes::<Float64MultiArray>(&bytes);
        }

        #[test]
        fn what_is_sent_is_what_is_decoded(
            names in prop::collection::vec("[a-z_0-9]{0,64}", 0..=MAX_NAMES),
            values in prop::collection::vec(any::<f64>(), 0..=MAX_NAMES),
            frame_id in "[a-z/]{0,256}",
        ) {
            let sent = JointState {
                header: Header { frame_id, ..Header::default() },
                name: names,
                position: values.clone(),
                effort: values,
                ..JointState::default()
            };
            let bytes = CDRSerializerAdapter::<JointState>::to_bytes(&sent).unwrap();
            prop_assert!(decodes::<JointStateView>(&bytes));
            let longer = JointState { position: vec![0.0; MAX_NAMES + 1], ..sent };
            let bytes = CDRSerializerAdapter::<JointState>::to_bytes(&longer).unwrap();
            prop_assert!(!decodes::<JointStateView>(&bytes));
        }
    }

    #[test]
    fn type_names_are_mangled_or_refused() {
        assert_eq!(dds_type(JointState::TYPE).unwrap(), "sensor_msgs::msg::dds_::JointState_");
        for bad in ["", "JointState", "sensor_msgs/JointState", "a/srv/B", "a/msg/", "a/msg/B/c", "a b/msg/C"]
        {
            assert!(dds_type(bad).is_err(), "{bad}");
        }
    }
}
