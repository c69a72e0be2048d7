//! DDS domains: which there are, which is free.
//!
//! Contract: called at start-up only; [`free_domain`] opens and closes sockets.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use super::RosError;
use crate::realtime::wall_ns;

/// The highest DDS domain whose ports exist (RTPS 2.5, section 9.6.2.3).
pub const MAX_DOMAIN: u16 = 232;

/// A domain, 1 to 101, in which nobody on this host listens for discovery. It is found, not reserved: open it soon.
///
/// # Errors
/// [`RosError::NoFreeDomain`].
pub fn free_domain() -> Result<u16, RosError> {
    const DOMAINS: u64 = 101;
    let since_1970 = wall_ns().unsigned_abs();
    let start = u64::from(std::process::id()).wrapping_mul(31).wrapping_add(since_1970 / 1000);
    (0..DOMAINS)
        .map(|offset| (1 + (start.wrapping_add(offset)) % DOMAINS) as u16)
        .find(|domain| is_free(*domain))
        .ok_or(RosError::NoFreeDomain)
}

/// Whether the ports for discovery of the domain, by multicast and of its first participant, can be had alone.
fn is_free(domain: u16) -> bool {
    let multicast = 7400 + 250 * domain;
    let bind = |port| UdpSocket::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    [multicast, multicast + 10, multicast + 11].map(bind).iter().all(Result::is_ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_in_use_is_not_free() {
        let domain = free_domain().unwrap();
        let _taken = UdpSocket::bind(("0.0.0.0", 7400 + 250 * domain)).unwrap();
        assert!(!is_free(domain));
    }
}
