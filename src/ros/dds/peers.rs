//! Static peers: hosts to which this participant announces itself where multicast does not reach them.
//!
//! RustDDS has no initial peers, but it sends each of its announcements (SPDP) to the discovery ports of this host's first
//! twelve participants too. One of those ports is taken here, and what the own participant says there is repeated, byte
//! for byte, to the discovery ports of the peers. It holds our addresses, so the peers answer us directly.
//!
//! Contract: one thread, asleep but for the moment of an announcement (every 10 s, and whenever a participant is found); it
//! ends with [`Peers`]. Announcements that cannot be sent are said once per peer and tried again with the next.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// So many participants of one peer are announced to, as rmw_fastrtps and rmw_cyclonedds do.
const PARTICIPANTS_PER_PEER: u16 = 32;

/// RustDDS announces to so many participants of its own host.
const PARTICIPANTS_HERE: u16 = 12;

/// The longest datagram there is.
const MAX_DATAGRAM: usize = 1 << 16;

/// The discovery port of a domain's participant (RTPS 2.5, section 9.6.2.3).
fn port(domain: u16, participant: u16) -> u16 {
    7410 + 250 * domain + 2 * participant
}

/// A port on which announcements are heard, taken before the participant exists, lest its first be missed.
pub(super) struct Ear(UdpSocket);

impl Ear {
    /// Takes the last port that is free, since participants take the first.
    ///
    /// # Errors
    /// If none is.
    pub(super) fn open(domain: u16) -> io::Result<Ear> {
        let mut last = io::ErrorKind::AddrInUse.into();
        for participant in (0..PARTICIPANTS_HERE).rev() {
            match UdpSocket::bind((Ipv4Addr::LOCALHOST, port(domain, participant))) {
                Ok(socket) => return Ok(Ear(socket)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The thread that repeats announcements. Dropped, it ends.
pub(super) struct Peers {
    ended: Arc<AtomicBool>,
    ear: SocketAddrV4,
    thread: Option<JoinHandle<()>>,
}

impl Peers {
    /// Starts repeating what the participant of this GUID prefix announces.
    ///
    /// # Errors
    /// If the machine gives no socket or thread.
    pub(super) fn start(ear: Ear, domain: u16, prefix: [u8; 12], peers: &[Ipv4Addr]) -> io::Result<Peers> {
        let interfaces = multicast_interfaces();
        if !interfaces.is_empty() && peers.iter().any(|peer| !peer.is_loopback()) {
            tracing::warn!(
                "static peers {peers:?}: {0} can multicast, which is then preferred for all but the announcements; if the \
                 network drops it, nothing arrives until `ip link set dev {0} multicast off`",
                interfaces.join(", ")
            );
        }
        let voice = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let std::net::SocketAddr::V4(address) = ear.0.local_addr()? else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let ended = Arc::new(AtomicBool::new(false));
        let (end, peers) = (ended.clone(), peers.to_vec());
        let thread = std::thread::Builder::new()
            .name("static-peers".into())
            .spawn(move || repeat(&ear.0, &voice, domain, prefix, &peers, &end))?;
        Ok(Peers { ended, ear: address, thread: Some(thread) })
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // An empty datagram ends the thread once it has repeated all that came before. Where none can be sent, it is left.
        let woken =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.send_to(&[], self.ear));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn repeat(
    ear: &UdpSocket,
    voice: &UdpSocket,
    domain: u16,
    prefix: [u8; 12],
    peers: &[Ipv4Addr],
    ended: &AtomicBool,
) {
    let mut silent = HashSet::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let datagram = match ear.recv(&mut buffer) {
            Ok(0) if ended.load(Ordering::SeqCst) => return,
            Ok(length) if is_from(&buffer[..length], prefix) => &buffer[..length],
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::error!("static peers are not announced to any more: {error}");
                return;
            }
        };
        for peer in peers {
            let ports = (0..PARTICIPANTS_PER_PEER).map(|participant| port(domain, participant));
            let sent =
                ports.map(|port| voice.send_to(datagram, (*peer, port))).collect::<io::Result<Vec<_>>>();
            match sent {
                Ok(_) => _ = silent.remove(peer),
                Err(error) if silent.insert(*peer) => tracing::warn!("static peer {peer}: {error}"),
                Err(_) => {}
            }
        }
    }
}

/// The interfaces that are up and have multicast, as far as the system tells.
fn multicast_interfaces() -> Vec<String> {
    let Ok(interfaces) = std::fs::read_dir("/sys/class/net") else { return Vec::new() };
    let named = interfaces.flatten().filter_map(|interface| {
        let flags = std::fs::read_to_string(interface.path().join("flags")).ok()?;
        can_multicast(&flags).then(|| interface.file_name().to_string_lossy().into_owned())
    });
    named.collect()
}

/// Whether these flags, as sysfs has them, hold `IFF_UP` and `IFF_MULTICAST`.
fn can_multicast(flags: &str) -> bool {
    const UP_AND_MULTICAST: u32 = 0x1 | 0x1000;
    let flags = flags.trim().strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
    flags.is_some_and(|flags| flags & UP_AND_MULTICAST == UP_AND_MULTICAST)
}

/// Whether an RTPS message is from the participant of this GUID prefix (RTPS 2.5, section 9.4.4).
fn is_from(datagram: &[u8], prefix: [u8; 12]) -> bool {
    datagram.starts_with(b"RTPS") && datagram.get(8..20) == Some(&prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: u16 = 131;

    #[test]
    fn interfaces_with_multicast_are_told_by_their_flags() {
        for (flags, can) in
            [("0x1003\n", true), ("0x9\n", false), ("0x1002", false), ("0x3", false), ("", false)]
        {
            assert_eq!(can_multicast(flags), can, "{flags}");
        }
    }

    #[test]
    fn own_announcements_alone_are_repeated_to_every_port_of_the_peer() {
        let peer = Ipv4Addr::new(127, 0, 0, 77);
        let first = UdpSocket::bind((peer, port(DOMAIN, 0))).unwrap();
        let last = UdpSocket::bind((peer, port(DOMAIN, PARTICIPANTS_PER_PEER - 1))).unwrap();
        let ear = Ear::open(DOMAIN).unwrap();
        let next = Ear::open(DOMAIN).unwrap();
        let address = ear.0.local_addr().unwrap();
        assert_ne!(address, next.0.local_addr().unwrap());

        let peers = Peers::start(ear, DOMAIN, *b"participant1", &[peer]).unwrap();
        let participant = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for message in
            [&b"RTPS"[..], b"RTPS\x02\x05\x01\x12participant2theirs", b"RTPS\x02\x05\x01\x12participant1ours"]
        {
            participant.send_to(message, address).unwrap();
        }
        for socket in [first, last] {
            socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[8..length], b"participant1ours");
        }
        drop(peers);
        UdpSocket::bind(address).expect("the thread has ended and its port is free");
    }
}
