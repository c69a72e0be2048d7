//! Which clients a service's answers reach already.
//!
//! A client asks as soon as it has discovered the service, and discovery may then still be about to tell us where that
//! client listens for the answer. An answer sent before that is lost, since nothing is repeated for who came late. So an
//! answer waits until it has somewhere to go, but no longer than [`PATIENCE`].
//!
//! Contract: it lives on the connection's thread, is told there what discovery finds, and does not block. An answer that
//! has to wait costs a thread that sleeps.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future;
use ros2_client::service::RmwRequestId;
use rustdds::{DomainParticipantStatusEvent, GUID};

/// How long an answer waits for a client that is not known to listen.
const PATIENCE: Duration = Duration::from_secs(1);

/// The clients' ends that hear answers. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Clients(Rc<RefCell<Ears>>);

#[derive(Default)]
struct Ears {
    /// Each one's topic, and how many writers of ours reach it.
    readers: HashMap<GUID, (String, usize)>,
    waiting: Vec<Waker>,
}

impl Clients {
    /// Takes note of what discovery has found.
    pub(super) fn note(&self, event: &DomainParticipantStatusEvent) {
        let Ears { readers, waiting } = &mut *self.0.borrow_mut();
        match event {
            // It comes again when something of the reader changes, the match does not.
            DomainParticipantStatusEvent::ReaderDetected { reader }
                if reader.topic_name.starts_with("rr/") =>
            {
                readers.entry(reader.guid).or_insert_with(|| (reader.topic_name.clone(), 0));
            }
            DomainParticipantStatusEvent::RemoteReaderMatched { remote_reader, .. } => {
                if let Some((_, writers)) = readers.get_mut(remote_reader) {
                    *writers += 1;
                    waiting.drain(..).for_each(Waker::wake);
                }
            }
            DomainParticipantStatusEvent::ReaderLost { guid, .. } => _ = readers.remove(guid),
            DomainParticipantStatusEvent::ParticipantLost { id, .. } => {
                readers.retain(|guid, _| guid.prefix != *id);
            }
            _ => {}
        }
    }

    /// Waits until whoever asked is reached on this topic by so many writers of ours (one for each service mapping), or
    /// [`PATIENCE`] is over.
    pub(super) async fn reached(&self, request: RmwRequestId, topic: &str, writers: usize) {
        let client = process(&request.writer_gid.to_bytes16());
        let is_reached = || {
            let readers = &self.0.borrow().readers;
            readers
                .iter()
                .any(|(guid, (on, by))| on == topic && *by >= writers && process(&guid.to_bytes()) == client)
        };
        if is_reached() {
            return;
        }
        let (over, patience) = oneshot::channel::<()>();
        let sleeper = std::thread::Builder::new().name("service-patience".into());
        // If there is no thread to be had, `over` is dropped here, and the answer goes out at once.
        let _ = sleeper.spawn(move || {
            std::thread::sleep(PATIENCE);
            drop(over);
        });
        let reached = poll_fn(|context| {
            if is_reached() {
                return Poll::Ready(());
            }
            self.0.borrow_mut().waiting.push(context.waker().clone());
            Poll::Pending
        });
        future::select(pin!(reached), patience).await;
    }
}

/// What the GUIDs of one process have in common, of all DDS that we know: in Cyclone DDS's service mapping a request tells
/// no more of its client.
fn process(guid: &[u8; 16]) -> [u8; 8] {
    std::array::from_fn(|index| guid[index])
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use ros2_client::Gid;
    use rustdds::dds::statusevents::{EndpointDescription, LostReason};

    const READER: [u8; 16] = [1, 0x10, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 1, 4];
    /// Of the same process.
    const CLIENT: [u8; 16] = [1, 0x10, 3, 4, 5, 6, 7, 8, 99, 99, 99, 99, 99, 99, 99, 99];
    const TOPIC: &str = "rr/metagd/saveReply";

    fn detected(guid: [u8; 16], topic: &str) -> DomainParticipantStatusEvent {
        DomainParticipantStatusEvent::ReaderDetected {
            reader: EndpointDescription {
                updated_time: Default::default(),
                guid: GUID::from_bytes(guid),
                topic_name: topic.into(),
                type_name: String::new(),
                qos: rustdds::QosPolicyBuilder::new().build(),
                user_data: Default::default(),
            },
        }
    }

    fn matched(guid: [u8; 16]) -> DomainParticipantStatusEvent {
        DomainParticipantStatusEvent::RemoteReaderMatched {
            local_writer: GUID::GUID_UNKNOWN,
            remote_reader: GUID::from_bytes(guid),
        }
    }

    /// Whether an answer to [`CLIENT`] goes out without waiting.
    fn is_reached(clients: &Clients, writers: usize) -> bool {
        let request = RmwRequestId { writer_gid: Gid::from(CLIENT), sequence_number: 1 };
        clients.reached(request, TOPIC, writers).now_or_never().is_some()
    }

    #[test]
    fn an_answer_waits_for_its_own_clients_match_by_every_writer() {
        let clients = Clients::default();
        assert!(!is_reached(&clients, 1));
        clients.note(&detected(READER, TOPIC));
        assert!(!is_reached(&clients, 1), "detected is not yet matched");
        clients.note(&matched(READER));
        assert!(is_reached(&clients, 1));
        assert!(!is_reached(&clients, 2));
        clients.note(&matched(READER));
        clients.note(&detected(READER, TOPIC));
        assert!(is_reached(&clients, 2), "told again of the same reader, it still is");
        let reason = LostReason::Disposed;
        clients.note(&DomainParticipantStatusEvent::ReaderLost { guid: GUID::from_bytes(READER), reason });
        assert!(!is_reached(&clients, 1));
    }

    #[test]
    fn neither_another_process_nor_another_topic_will_do() {
        let clients = Clients::default();
        let mut other = READER;
        other[7] += 1;
        let mut elsewhere = READER;
        elsewhere[15] += 1;
        for (guid, topic) in [(other, TOPIC), (elsewhere, "rr/metagd/loadReply")] {
            clients.note(&detected(guid, topic));
            clients.note(&matched(guid));
        }
        assert!(!is_reached(&clients, 1));
    }

    #[test]
    fn who_waits_is_woken_by_the_match_and_else_by_time() {
        let clients = Clients::default();
        let request = RmwRequestId { writer_gid: Gid::from(CLIENT), sequence_number: 1 };
        let began = std::time::Instant::now();
        futures::executor::block_on(clients.reached(request, TOPIC, 1));
        assert!(began.elapsed() >= PATIENCE);

        clients.note(&detected(READER, TOPIC));
        let mut pool = futures::executor::LocalPool::new();
        let finds = async { clients.note(&matched(READER)) };
        pool.run_until(future::join(clients.reached(request, TOPIC, 1), finds));
        assert!(began.elapsed() < 2 * PATIENCE, "it did not wait for the time to be over");
    }
}
