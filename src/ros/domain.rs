//! DDS domains: which there are, which is asked for, which is free.
//!
//! Contract: called at start-up only; [`free_domain`] opens and closes sockets.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use super::{RosError, wall_ns};

/// The highest DDS domain whose ports exist (RTPS 2.5, section 9.6.2.3).
pub const MAX_DOMAIN: u16 = 232;

pub(super) fn domain_id(given: Option<u16>, environment: Option<&str>) -> Result<u16, RosError> {
    let (origin, value) = match (given, environment) {
        (Some(given), _) => ("the node's domain", given.to_string()),
        (None, Some(text)) if !text.trim().is_empty() => ("ROS_DOMAIN_ID", text.to_string()),
        (None, _) => return Ok(0),
    };
    match value.trim().parse() {
        Ok(domain) if domain <= MAX_DOMAIN => Ok(domain),
        _ => Err(RosError::Domain { origin, value }),
    }
}

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
    fn the_domain_comes_from_the_options_then_the_environment_then_is_0() {
        assert_eq!(domain_id(Some(7), Some("9")).unwrap(), 7);
        assert_eq!(domain_id(None, Some("9")).unwrap(), 9);
        assert_eq!(domain_id(None, Some("")).unwrap(), 0);
        assert_eq!(domain_id(None, None).unwrap(), 0);
        for bad in ["233", "-1", "70000", "seven"] {
            let error = domain_id(None, Some(bad)).unwrap_err().to_string();
            assert!(error.contains("ROS_DOMAIN_ID") && error.contains(bad), "{error}");
        }
        assert!(domain_id(Some(233), None).is_err());
    }

    #[test]
    fn a_domain_in_use_is_not_free() {
        let domain = free_domain().unwrap();
        let _taken = UdpSocket::bind(("0.0.0.0", 7400 + 250 * domain)).unwrap();
        assert!(!is_free(domain));
    }
}
