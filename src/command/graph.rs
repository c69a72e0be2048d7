//! Who we are in the ROS graph, as every command that opens a connection takes it.
//!
//! Contract: called at start-up only. What `--ros-args` sections say beats the arguments outside them, and those beat the
//! environment.

use anyhow::Result;

use super::Usage;
use crate::ros::arguments::Rule;
use crate::ros::environment::Environment;
use crate::ros::{NodeOptions, names};

/// The node's place in the ROS graph.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct GraphArgs {
    /// The node's name in the ROS graph [default: the command's].
    #[arg(long = "node-name", value_name = "NAME")]
    name: Option<String>,
    /// The node's namespace [default: ROS_NAMESPACE, else /].
    #[arg(long, value_name = "NS")]
    namespace: Option<String>,
    /// Another name for a topic or service (FROM may be __node or __ns too), as `ros2 run ... --ros-args -r` takes it;
    /// may be repeated.
    #[arg(short = 'r', long = "remap", value_name = "FROM:=TO")]
    remap: Vec<String>,
    /// What the `--ros-args` sections give.
    #[arg(skip)]
    pub(super) ros: Vec<Rule>,
}

impl GraphArgs {
    /// What [`crate::ros::open`] takes; `name` is the node's unless the user gave another.
    ///
    /// # Errors
    /// [`Usage`]: a remapping, name or variable of the environment that is none.
    pub fn options(&self, name: &str) -> Result<NodeOptions> {
        let environment = Environment::read().map_err(|error| Usage(error.to_string()))?;
        let options = self.placed(name, &environment)?;
        for warning in &environment.warnings {
            tracing::warn!("{warning}");
        }
        Ok(options)
    }

    /// The fully qualified name, by which a parameter file speaks of the node.
    ///
    /// # Errors
    /// As [`GraphArgs::options`].
    pub fn full_name(&self, name: &str) -> Result<String> {
        let environment = Environment::read().map_err(|error| Usage(error.to_string()))?;
        Ok(names::node(&self.placed(name, &environment)?)?)
    }

    fn placed(&self, name: &str, environment: &Environment) -> Result<NodeOptions> {
        let rules = self.rules()?;
        let first = self.name.as_deref().unwrap_or(name);
        let meant = |of: &Option<String>, name: &str| of.as_deref().is_none_or(|of| of == name);
        let renamed = rules.iter().find_map(|rule| match rule {
            Rule::Node { of, to } if meant(of, first) => Some(to.as_str()),
            _ => None,
        });
        let name = renamed.unwrap_or(first);
        let moved = rules.iter().find_map(|rule| match rule {
            Rule::Namespace { of, to } if meant(of, name) => Some(to),
            _ => None,
        });
        let namespace = moved.or(self.namespace.as_ref()).or(environment.namespace.as_ref());
        let remappings = rules.iter().filter_map(|rule| match rule {
            Rule::Name(remapping) => Some(remapping.clone()),
            _ => None,
        });
        let options = NodeOptions {
            namespace: namespace.cloned().unwrap_or_else(|| "/".into()),
            domain_id: Some(environment.domain_id),
            remappings: remappings.collect(),
            network: environment.network,
            static_peers: environment.static_peers.clone(),
            service_mapping: environment.service_mapping,
            ..NodeOptions::new(name)
        };
        names::node(&options).map_err(|error| Usage(error.to_string()))?;
        Ok(options)
    }

    /// All rules: the first that applies counts, so those of the `--ros-args` sections stand first.
    fn rules(&self) -> Result<Vec<Rule>, Usage> {
        let mut rules = self.ros.clone();
        for text in &self.remap {
            let rule = Rule::parse(text, false).map_err(|reason| {
                Usage(format!(
                    "--remap `{text}`: {reason}; write it as from:=to, __node:=name or __ns:=/namespace"
                ))
            })?;
            rules.push(rule);
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ros::{Network, Remapping, ServiceMapping};

    fn environment() -> Environment {
        Environment {
            domain_id: 7,
            network: Network::Loopback,
            static_peers: vec![[127, 0, 0, 1].into()],
            namespace: Some("/plant".into()),
            service_mapping: ServiceMapping::CycloneDds,
            warnings: vec![],
        }
    }

    fn args(ros: &[&str]) -> GraphArgs {
        let ros = ros.iter().map(|text| Rule::parse(text, true).unwrap()).collect();
        GraphArgs { ros, ..GraphArgs::default() }
    }

    fn named(args: &GraphArgs) -> String {
        names::node(&args.placed("metagd", &environment()).unwrap()).unwrap()
    }

    #[test]
    fn ros_arguments_come_before_others_and_those_before_the_environment() {
        assert_eq!(named(&args(&[])), "/plant/metagd");
        let outside = GraphArgs { name: Some("a".into()), namespace: Some("/b".into()), ..args(&[]) };
        assert_eq!(named(&outside), "/b/a");
        let both = GraphArgs { ros: args(&["__node:=c", "__ns:=/d", "__node:=late"]).ros, ..outside };
        assert_eq!(named(&both), "/d/c");
        let options = args(&[]).placed("metagd", &environment()).unwrap();
        assert_eq!((options.domain_id, options.network), (Some(7), Network::Loopback));
        assert_eq!(options.service_mapping, ServiceMapping::CycloneDds);
        assert_eq!(options.static_peers, environment().static_peers);
    }

    #[test]
    fn rules_for_one_node_go_by_the_name_that_it_has_by_then() {
        assert_eq!(named(&args(&["other:__node:=a", "metagd:__node:=b"])), "/plant/b");
        assert_eq!(named(&args(&["metagd:__ns:=/never", "__node:=arm", "arm:__ns:=/cell"])), "/cell/arm");
    }

    #[test]
    fn remappings_say_where_they_come_from() {
        let both =
            GraphArgs { remap: vec!["x:=outside".into(), "y:=outside".into()], ..args(&["x:=inside"]) };
        let options = both.placed("metagd", &environment()).unwrap();
        assert_eq!(names::resolve("x", &options).unwrap(), "/plant/inside");
        assert_eq!(names::resolve("y", &options).unwrap(), "/plant/outside");
        let from_ros: Vec<_> = options.remappings.iter().map(|remapping| remapping.ros_args).collect();
        assert_eq!(from_ros, [true, false, false]);
        assert_eq!(options.remappings[1], Remapping::new("x", "outside"));
    }

    #[test]
    fn a_name_that_is_none_is_wrong_use() {
        for wrong in [
            GraphArgs { name: Some("a/b".into()), ..args(&[]) },
            GraphArgs { namespace: Some("a b".into()), ..args(&[]) },
            GraphArgs { remap: vec!["ab".into()], ..args(&[]) },
        ] {
            assert!(wrong.placed("metagd", &environment()).unwrap_err().is::<Usage>(), "{wrong:?}");
        }
    }
}
