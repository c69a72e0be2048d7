//! What the environment's ROS 2 variables say.
//!
//! Contract: read once at start-up, allocates, may ask the name service (for host names in `ROS_STATIC_PEERS`). None is
//! ignored: a value that is none is an error, and what cannot be had is an error or a warning.
//!
//! | variable | values |
//! |---|---|
//! | `ROS_DOMAIN_ID` | 0 to 232 |
//! | `ROS_AUTOMATIC_DISCOVERY_RANGE` | `SUBNET`, `LOCALHOST`, `SYSTEM_DEFAULT` (as `SUBNET`, without static peers); `OFF` is refused |
//! | `ROS_LOCALHOST_ONLY` | `1` is `LOCALHOST`, whatever the range says, without static peers; `0`; deprecated |
//! | `ROS_STATIC_PEERS` | IPv4 addresses or host names, between semicolons |
//! | `ROS_NAMESPACE` | the namespace where nothing else gives one |
//! | `RMW_IMPLEMENTATION` | `rmw_fastrtps_cpp`, `rmw_fastrtps_dynamic_cpp`, `rmw_cyclonedds_cpp`: whose peers may call our services; unset, both |

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

use super::domain::MAX_DOMAIN;
use super::{Network, ServiceMapping, names};

/// What the variables say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `ROS_DOMAIN_ID`.
    pub domain_id: u16,
    /// `ROS_AUTOMATIC_DISCOVERY_RANGE` and `ROS_LOCALHOST_ONLY`.
    pub network: Network,
    /// `ROS_STATIC_PEERS`.
    pub static_peers: Vec<Ipv4Addr>,
    /// `ROS_NAMESPACE`.
    pub namespace: Option<String>,
    /// `RMW_IMPLEMENTATION`.
    pub service_mapping: ServiceMapping,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A variable whose value is none, or cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} = `{value}`: {reason}")]
pub struct EnvironmentError {
    /// The variable.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// Why not, and what is allowed.
    pub reason: String,
}

fn refused(variable: &'static str, value: &str, reason: impl Into<String>) -> EnvironmentError {
    EnvironmentError { variable, value: value.into(), reason: reason.into() }
}

impl Environment {
    /// Reads this process's variables.
    ///
    /// # Errors
    /// [`EnvironmentError`].
    pub fn read() -> Result<Environment, EnvironmentError> {
        Environment::parse(|variable| Some(std::env::var_os(variable)?.to_string_lossy().into_owned()))
    }

    /// The same from any source; variables that are empty count as unset.
    fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Environment, EnvironmentError> {
        let get = |name: &str| variable(name).map(|v| v.trim().to_string()).filter(|v| !v.is_empty());
        let mut warnings = Vec::new();

        let domain_id = domain(get("ROS_DOMAIN_ID").as_deref())?;
        let range = get("ROS_AUTOMATIC_DISCOVERY_RANGE");
        let mut network = match range.as_deref() {
            None | Some("SUBNET" | "SYSTEM_DEFAULT") => Network::All,
            Some("LOCALHOST") => Network::Loopback,
            Some("OFF") => {
                let reason = "a node without discovery cannot be had here; allowed are SUBNET, LOCALHOST and \
                              SYSTEM_DEFAULT (LOCALHOST keeps to this computer)";
                return Err(refused("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF", reason));
            }
            Some(other) => {
                let reason = "allowed are SUBNET, LOCALHOST and SYSTEM_DEFAULT";
                return Err(refused("ROS_AUTOMATIC_DISCOVERY_RANGE", other, reason));
            }
        };
        let peers = get("ROS_STATIC_PEERS");
        let mut unused_because = (range.as_deref() == Some("SYSTEM_DEFAULT"))
            .then_some("ROS_AUTOMATIC_DISCOVERY_RANGE is SYSTEM_DEFAULT");
        match get("ROS_LOCALHOST_ONLY").as_deref() {
            None => {}
            Some("0") => warnings.push(
                "ROS_LOCALHOST_ONLY is deprecated; ROS_AUTOMATIC_DISCOVERY_RANGE and ROS_STATIC_PEERS are used".into(),
            ),
            Some("1") => {
                network = Network::Loopback;
                unused_because = Some("ROS_LOCALHOST_ONLY is 1");
                warnings.push(
                    "ROS_LOCALHOST_ONLY=1 is deprecated, though still heeded before \
                     ROS_AUTOMATIC_DISCOVERY_RANGE; use ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST"
                        .into(),
                );
            }
            Some(other) => return Err(refused("ROS_LOCALHOST_ONLY", other, "allowed are 0 and 1")),
        }
        let static_peers = match (&peers, unused_because) {
            (Some(value), Some(because)) => {
                warnings.push(format!("ROS_STATIC_PEERS = `{value}` is not used, since {because}"));
                Vec::new()
            }
            (Some(value), None) => static_peers(value, network)?,
            (None, _) => Vec::new(),
        };

        let namespace = get("ROS_NAMESPACE");
        if let Some(value) = &namespace {
            names::namespace(value).map_err(|error| refused("ROS_NAMESPACE", value, error.rule))?;
        }
        let service_mapping = match get("RMW_IMPLEMENTATION").as_deref() {
            Some("rmw_cyclonedds_cpp") => ServiceMapping::CycloneDds,
            Some("rmw_fastrtps_cpp" | "rmw_fastrtps_dynamic_cpp") => ServiceMapping::FastDds,
            None => ServiceMapping::Both,
            Some(other) => {
                warnings.push(format!(
                    "RMW_IMPLEMENTATION = `{other}` is not spoken here: topics and services are those of \
                     rmw_fastrtps_cpp and rmw_cyclonedds_cpp"
                ));
                ServiceMapping::Both
            }
        };
        Ok(Environment { domain_id, network, static_peers, namespace, service_mapping, warnings })
    }
}

/// What `ROS_DOMAIN_ID` says alone, else 0.
///
/// # Errors
/// [`EnvironmentError`].
pub fn domain_id() -> Result<u16, EnvironmentError> {
    let value = std::env::var_os("ROS_DOMAIN_ID").map(|value| value.to_string_lossy().trim().to_string());
    domain(value.as_deref().filter(|value| !value.is_empty()))
}

fn domain(value: Option<&str>) -> Result<u16, EnvironmentError> {
    let Some(value) = value else { return Ok(0) };
    value.parse().ok().filter(|domain| *domain <= MAX_DOMAIN).ok_or_else(|| {
        refused("ROS_DOMAIN_ID", value, format!("a DDS domain is a whole number from 0 to {MAX_DOMAIN}"))
    })
}

/// The peers' addresses. On loopback alone no other host can answer.
fn static_peers(value: &str, network: Network) -> Result<Vec<Ipv4Addr>, EnvironmentError> {
    let variable = "ROS_STATIC_PEERS";
    let mut addresses = Vec::new();
    for peer in value.split(';').map(str::trim).filter(|peer| !peer.is_empty()) {
        let found = (peer, 0).to_socket_addrs().map_err(|error| {
            let reason =
                format!("`{peer}` has no address ({error}); allowed are IPv4 addresses and host names");
            refused(variable, value, reason)
        })?;
        let address = found.filter_map(|address| match address {
            SocketAddr::V4(address) => Some(*address.ip()),
            SocketAddr::V6(_) => None,
        });
        let Some(address) = address.into_iter().next() else {
            return Err(refused(
                variable,
                value,
                format!("`{peer}` has no IPv4 address, and only those are spoken"),
            ));
        };
        if network == Network::Loopback && !address.is_loopback() {
            let reason = format!(
                "`{peer}` is another host, which cannot be spoken to in ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST; use SUBNET"
            );
            return Err(refused(variable, value, reason));
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Environment, String> {
        let get = |name: &str| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.to_string())
        };
        Environment::parse(get).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_set_is_domain_0_on_all_networks_without_a_word() {
        let expected = Environment {
            domain_id: 0,
            network: Network::All,
            static_peers: vec![],
            namespace: None,
            service_mapping: ServiceMapping::Both,
            warnings: vec![],
        };
        assert_eq!(parse(&[]).unwrap(), expected);
        assert_eq!(parse(&[("ROS_DOMAIN_ID", ""), ("ROS_STATIC_PEERS", " ")]).unwrap(), expected);
    }

    #[test]
    fn every_variable_is_heard() {
        let heard = parse(&[
            ("ROS_DOMAIN_ID", "232"),
            ("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET"),
            ("ROS_STATIC_PEERS", "10.0.0.2; 10.0.0.3;;10.0.0.2"),
            ("ROS_NAMESPACE", "cell"),
            ("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp"),
        ])
        .unwrap();
        assert_eq!((heard.domain_id, heard.network), (232, Network::All));
        assert_eq!(heard.static_peers, [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)]);
        assert_eq!(heard.namespace.as_deref(), Some("cell"));
        assert_eq!((heard.service_mapping, heard.warnings.len()), (ServiceMapping::CycloneDds, 0));
        let local =
            parse(&[("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"), ("ROS_STATIC_PEERS", "127.0.0.1")]);
        assert_eq!(local.unwrap().network, Network::Loopback);
    }

    #[test]
    fn localhost_only_comes_before_the_range_and_says_that_it_is_old() {
        let peers = ("ROS_STATIC_PEERS", "10.0.0.2");
        let one = parse(&[("ROS_LOCALHOST_ONLY", "1"), ("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET"), peers]);
        let one = one.unwrap();
        assert_eq!((one.network, one.static_peers.len()), (Network::Loopback, 0));
        assert!(one.warnings[0].contains("deprecated") && one.warnings[1].contains("10.0.0.2"), "{one:?}");
        let zero = parse(&[("ROS_LOCALHOST_ONLY", "0"), ("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")]);
        let zero = zero.unwrap();
        assert_eq!((zero.network, zero.warnings.len()), (Network::Loopback, 1));
    }

    #[test]
    fn what_is_not_used_is_said() {
        let unused =
            parse(&[("ROS_AUTOMATIC_DISCOVERY_RANGE", "SYSTEM_DEFAULT"), ("ROS_STATIC_PEERS", "x;y")]);
        assert!(unused.unwrap().warnings[0].contains("`x;y` is not used"));
        let zenoh = parse(&[("RMW_IMPLEMENTATION", "rmw_zenoh_cpp")]).unwrap();
        assert_eq!(zenoh.service_mapping, ServiceMapping::Both);
        assert!(zenoh.warnings[0].contains("rmw_zenoh_cpp"), "{zenoh:?}");
    }

    #[test]
    fn a_bad_value_names_variable_value_and_what_is_allowed() {
        for (variables, parts) in [
            (&[("ROS_DOMAIN_ID", "233")][..], ["ROS_DOMAIN_ID", "`233`", "0 to 232"]),
            (&[("ROS_DOMAIN_ID", "seven")], ["ROS_DOMAIN_ID", "`seven`", "0 to 232"]),
            (&[("ROS_LOCALHOST_ONLY", "true")], ["ROS_LOCALHOST_ONLY", "`true`", "0 and 1"]),
            (
                &[("ROS_AUTOMATIC_DISCOVERY_RANGE", "subnet")],
                ["ROS_AUTOMATIC_DISCOVERY_RANGE", "`subnet`", "SUBNET"],
            ),
            (&[("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")], ["_RANGE", "`OFF`", "cannot be had"]),
            (&[("ROS_STATIC_PEERS", "10.0.0.2;::1")], ["ROS_STATIC_PEERS", "`::1`", "IPv4"]),
            (&[("ROS_STATIC_PEERS", "no such host")], ["ROS_STATIC_PEERS", "`no such host`", "host names"]),
            (&[("ROS_NAMESPACE", "/a//b")], ["ROS_NAMESPACE", "`/a//b`", "slashes"]),
            (
                &[("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"), ("ROS_STATIC_PEERS", "10.0.0.2")],
                ["ROS_STATIC_PEERS", "`10.0.0.2`", "LOCALHOST"],
            ),
        ] {
            let error = parse(variables).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{error} lacks {part}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_values_are_read_or_refused(domain in ".{0,6}", range in ".{0,9}", namespace in ".{0,9}", rmw in ".{0,9}") {
            let _ = parse(&[
                ("ROS_DOMAIN_ID", &domain),
                ("ROS_AUTOMATIC_DISCOVERY_RANGE", &range),
                ("ROS_NAMESPACE", &namespace),
                ("RMW_IMPLEMENTATION", &rmw),
            ]);
        }

        #[test]
        fn domains_come_back(domain in 0..=MAX_DOMAIN) {
            prop_assert_eq!(parse(&[("ROS_DOMAIN_ID", &domain.to_string())]).unwrap().domain_id, domain);
        }
    }
}
