//! The ROS 2 messages that we speak, as serde types in the order of their fields on the wire (CDR).
//!
//! Contract: called from the I/O thread, from bags and from the simulator; never from the pinned thread. A type that is
//! received at 1 kHz comes twice: [`JointStateView`] decodes into fixed arrays without touching the heap and fails (a
//! counted drop) on more than [`MAX_NAMES`] joints or longer names; [`JointState`] is its growing twin for writing.

//!
//! What travels is a [`Message`], or a [`Service`]'s request or response; each says by which name ROS knows it.

use std::fmt;

use arrayvec::{ArrayString, ArrayVec};
use serde::de::{DeserializeSeed, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub mod diagnostics;
pub mod lifecycle;
pub mod log;
pub mod parameters;
pub mod services;

pub use diagnostics::{DiagnosticArray, DiagnosticStatus, KeyValue};
pub use log::Log;

/// A type that stands for a ROS message. Several may stand for the same one: a view to read it by, a twin to write it.
pub trait Message {
    /// Its name, as `sensor_msgs/msg/JointState`.
    const TYPE: &'static str;
}

/// A ROS service: what is asked, and what is answered.
pub trait Service {
    /// Its name, as `std_srvs/srv/Trigger`.
    const TYPE: &'static str;
    /// What is asked.
    type Request;
    /// What is answered.
    type Response;
}

/// Names messages by their package and type, which for a view is the name of what it views.
macro_rules! messages {
    ($($type:ty = $name:literal),* $(,)?) => {
        $( impl $crate::msg::Message for $type { const TYPE: &'static str = $name; } )*
    };
}
pub(crate) use messages;

messages! {
    JointState = "sensor_msgs/msg/JointState",
    JointStateView = "sensor_msgs/msg/JointState",
    JointTrajectory = "trajectory_msgs/msg/JointTrajectory",
    JointTrajectoryPointView = "trajectory_msgs/msg/JointTrajectoryPoint",
    Float64MultiArray = "std_msgs/msg/Float64MultiArray",
    Text = "std_msgs/msg/String",
    Clock = "rosgraph_msgs/msg/Clock",
}

/// The most joints that a received message may name: an arm's, and those of what stands beside it.
pub const MAX_NAMES: usize = 64;

/// A joint's name as received.
pub type Name = ArrayString<64>;

/// builtin_interfaces/Time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time {
    /// Seconds.
    pub sec: i32,
    /// Nanoseconds within the second.
    pub nanosec: u32,
}

impl Time {
    /// As nanoseconds.
    pub fn to_ns(self) -> i64 {
        i64::from(self.sec) * 1_000_000_000 + i64::from(self.nanosec)
    }

    /// From nanoseconds; what does not fit saturates.
    pub fn from_ns(ns: i64) -> Self {
        let sec = ns.div_euclid(1_000_000_000);
        let sec = sec.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        Time { sec, nanosec: ns.rem_euclid(1_000_000_000) as u32 }
    }
}

/// builtin_interfaces/Duration.
pub type Duration = Time;

/// std_msgs/Header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// When the content was measured.
    pub stamp: Time,
    /// The frame it is expressed in.
    pub frame_id: String,
}

/// sensor_msgs/JointState, for writing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JointState {
    /// Stamp and frame.
    pub header: Header,
    /// Joint names.
    pub name: Vec<String>,
    /// rad or m.
    pub position: Vec<f64>,
    /// rad/s or m/s.
    pub velocity: Vec<f64>,
    /// Nm or N.
    pub effort: Vec<f64>,
}

/// std_msgs/Header, decoded without the heap.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct HeaderView {
    /// When the content was measured.
    pub stamp: Time,
    /// The frame it is expressed in.
    pub frame_id: ArrayString<256>,
}

/// sensor_msgs/JointState, decoded without the heap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JointStateView {
    /// Stamp and frame.
    pub header: HeaderView,
    /// Joint names, in any order.
    pub name: ArrayVec<Name, MAX_NAMES>,
    /// rad or m.
    pub position: ArrayVec<f64, MAX_NAMES>,
    /// rad/s or m/s.
    pub velocity: ArrayVec<f64, MAX_NAMES>,
    /// Nm or N.
    pub effort: ArrayVec<f64, MAX_NAMES>,
}

impl<'de> Deserialize<'de> for JointStateView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut view = JointStateView::default();
        (&mut view).deserialize(deserializer)?;
        Ok(view)
    }
}

/// Decodes into a view that is there: to return one copies all its room, six kilobytes, several times. After an error it holds
/// a part of the message.
impl<'de> DeserializeSeed<'de> for &mut JointStateView {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let fields = &["header", "name", "position", "velocity", "effort"];
        deserializer.deserialize_struct("JointStateView", fields, self)
    }
}

impl<'de> Visitor<'de> for &mut JointStateView {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a sensor_msgs/JointState")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let missing = |field| A::Error::invalid_length(field, &"the five fields of a JointState");
        self.header = fields.next_element()?.ok_or_else(|| missing(0))?;
        fields.next_element_seed(Fill(&mut self.name))?.ok_or_else(|| missing(1))?;
        let arrays = [&mut self.position, &mut self.velocity, &mut self.effort];
        for (field, array) in (2..).zip(arrays) {
            fields.next_element_seed(Fill(array))?.ok_or_else(|| missing(field))?;
        }
        Ok(())
    }
}

/// Decodes a sequence into an array that is there, in place of what it holds; more than fits is an error.
struct Fill<'a, T, const N: usize>(&'a mut ArrayVec<T, N>);

impl<'de, T: Deserialize<'de>, const N: usize> DeserializeSeed<'de> for Fill<'_, T, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Fill<'_, T, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "no more than {N} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.clear();
        while let Some(item) = items.next_element()? {
            self.0.try_push(item).map_err(|_| A::Error::invalid_length(N + 1, &"no more than fit"))?;
        }
        Ok(())
    }
}

/// trajectory_msgs/JointTrajectoryPoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JointTrajectoryPoint {
    /// rad or m.
    pub positions: Vec<f64>,
    /// rad/s or m/s.
    pub velocities: Vec<f64>,
    /// rad/s² or m/s².
    pub accelerations: Vec<f64>,
    /// Nm or N.
    pub effort: Vec<f64>,
    /// Offset from the trajectory's stamp.
    pub time_from_start: Duration,
}

/// trajectory_msgs/JointTrajectory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JointTrajectory {
    /// Stamp and frame.
    pub header: Header,
    /// Joint names.
    pub joint_names: Vec<String>,
    /// The points, in time.
    pub points: Vec<JointTrajectoryPoint>,
}

/// trajectory_msgs/JointTrajectoryPoint, decoded without the heap.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct JointTrajectoryPointView {
    /// rad or m.
    pub positions: ArrayVec<f64, MAX_NAMES>,
    /// rad/s or m/s.
    pub velocities: ArrayVec<f64, MAX_NAMES>,
    /// rad/s² or m/s².
    pub accelerations: ArrayVec<f64, MAX_NAMES>,
    /// Nm or N.
    pub effort: ArrayVec<f64, MAX_NAMES>,
    /// Offset from the trajectory's stamp.
    pub time_from_start: Duration,
}

/// std_msgs/MultiArrayDimension.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MultiArrayDimension {
    /// What it is.
    pub label: String,
    /// Its length.
    pub size: u32,
    /// Its stride.
    pub stride: u32,
}

/// std_msgs/MultiArrayLayout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MultiArrayLayout {
    /// Outermost first.
    pub dim: Vec<MultiArrayDimension>,
    /// Padding before the data.
    pub data_offset: u32,
}

/// std_msgs/Float64MultiArray.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Float64MultiArray {
    /// The shape; empty is customary for a plain vector.
    pub layout: MultiArrayLayout,
    /// The numbers.
    pub data: Vec<f64>,
}

/// std_msgs/String.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The text.
    pub data: String,
}

/// rosgraph_msgs/Clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// What time it is.
    pub clock: Time,
}
