//! `metagd node`: the node itself. Joint states in, feed-forward torques out, learning in between.
//!
//! Contract: [`run`] returns when [`crate::node`] has ended. Figures go to standard output then, everything else to
//! standard error.

use std::time::Duration;

use anyhow::Result;

use super::parameters::ParameterArgs;
use super::signals::Interrupt;
use crate::node::{self, Options};
use crate::realtime::Summary;
use crate::realtime::thread::share_heap;
use crate::ros::rosout::Rosout;

/// Runs the ROS 2 node: learns from joint states, publishes feed-forward torques.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub(super) parameters: ParameterArgs,
    #[command(flatten)]
    pub(super) graph: super::graph::GraphArgs,
    /// Stop cleanly after this many seconds.
    #[arg(long, value_name = "S", value_parser = super::seconds)]
    seconds: Option<f64>,
    /// At the end, print the latency figures as JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// For tests of the safety path: panic in the learner at this prediction.
    #[arg(long, hide = true, value_name = "N", default_value_t = u64::MAX)]
    inject_panic: u64,
}

/// The node's name, where nobody gives it another.
pub(super) const NODE: &str = "metagd";

/// Runs `metagd node`; what `rosout` takes in, the node publishes.
///
/// # Errors
/// Wrong parameters, an unreadable URDF or checkpoint, a middleware that does not start, real-time conditions that were
/// not granted (`realtime: enforce`), or a panic in the learner.
pub fn run(args: &Args, rosout: Option<Rosout>) -> Result<()> {
    share_heap();
    let interrupt = Interrupt::install()?;
    let options = Options {
        config: args.parameters.config(&args.graph.full_name(NODE)?)?,
        graph: args.graph.options(NODE)?,
        time: args.seconds.map(Duration::from_secs_f64),
        inject_panic: args.inject_panic,
        rosout,
    };
    report(&node::run(options, move || interrupt.raised())?, args.json)
}

fn report(summary: &Summary, json: bool) -> Result<()> {
    let text = if json {
        serde_json::to_string_pretty(summary)? + "\n"
    } else {
        crate::report::latency::render(summary)
    };
    super::print(&text)
}
