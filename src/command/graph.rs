//! Who we are in the ROS graph, as every command that opens a connection takes it.

use anyhow::Result;

use super::Usage;
use crate::ros::{Network, NodeOptions, Remapping};

/// The node's place in the ROS graph. The domain is `ROS_DOMAIN_ID`'s; `ROS_LOCALHOST_ONLY=1` keeps to loopback.
#[derive(clap::Args, Debug, Clone)]
pub struct GraphArgs {
    /// The node's name in the ROS graph [default: the command's].
    #[arg(long = "node-name", value_name = "NAME")]
    name: Option<String>,
    /// The node's namespace.
    #[arg(long, value_name = "NS", default_value = "/")]
    namespace: String,
    /// Another name for a topic, as `ros2 run ... --ros-args -r` takes it; may be repeated.
    #[arg(short = 'r', long = "remap", value_name = "FROM:=TO")]
    remap: Vec<String>,
}

impl GraphArgs {
    /// What [`crate::ros::open`] takes; `name` is the node's unless the user gave another.
    ///
    /// # Errors
    /// A remapping that is none.
    pub fn options(&self, name: &str) -> Result<NodeOptions> {
        let remapping = |text: &String| match text.split_once(":=") {
            Some((from, to)) => Ok(Remapping { from: from.into(), to: to.into() }),
            None => Err(Usage(format!("`{text}` is no remapping; write it as from:=to"))),
        };
        let remappings = self.remap.iter().map(remapping).collect::<Result<_, _>>()?;
        let local = std::env::var("ROS_LOCALHOST_ONLY").is_ok_and(|value| value == "1");
        Ok(NodeOptions {
            namespace: self.namespace.clone(),
            remappings,
            network: if local { Network::Loopback } else { Network::All },
            ..NodeOptions::new(self.name.as_deref().unwrap_or(name))
        })
    }

    /// The fully qualified name, by which a parameter file speaks of the node.
    pub fn full_name(&self, name: &str) -> String {
        let name = self.name.as_deref().unwrap_or(name);
        format!("/{}/{name}", self.namespace.trim_matches('/')).replace("//", "/")
    }
}
