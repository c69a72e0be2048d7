//! `metagd node`: the node itself. Joint states in, feed-forward torques out, learning in between.
//!
//! Contract: four threads. The I/O thread (middleware) runs the intake and pushes samples; the pinned thread predicts and
//! learns; the publisher thread publishes the newest torque; this one keeps house: histograms, checkpoints, signals.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Usage;
use super::parameters::ParameterArgs;
use super::signals::Interrupt;
use crate::config::Config;
use crate::dynamics::Arm;
use crate::learn::{ArmLearner, checkpoint};
use crate::msg::{Float64MultiArray, Header, JointState, Time};
use crate::realtime::{
    Clock, Command, Intake, InverseDynamics, LatencyLog, Model, MonotonicClock, Pipeline, Probe, Runtime,
    Status, TorqueReceiver,
};
use crate::ros::{self, Connection, NodeOptions, Publisher, Qos, Stop, Subscription};
use crate::sample::{Motion, Torque};

/// The ROS 2 node: learns from joint states, publishes feed-forward torques.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    parameters: ParameterArgs,
    /// The node's name.
    #[arg(long, value_name = "NAME", default_value = "metagd")]
    name: String,
    /// The node's namespace.
    #[arg(long, value_name = "NS", default_value = "/")]
    namespace: String,
    /// Stop cleanly after this many seconds.
    #[arg(long, value_name = "S", value_parser = super::seconds)]
    seconds: Option<f64>,
    /// At the end, print the latency figures as JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// For tests of the safety path: panic in the learner after this many predictions.
    #[arg(long, hide = true, value_name = "N")]
    inject_panic: Option<u64>,
}
