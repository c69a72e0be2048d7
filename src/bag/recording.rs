//! A joint-state recording, bag or CSV alike, as rows in joint order.

use std::fmt;
use std::path::{Path, PathBuf};

use super::BagError;
use crate::sample::PerJoint;

/// What to read of a recording.
#[derive(Clone, Debug, Default)]
pub struct RecordingOptions {
    /// The topic of sensor_msgs/JointState; `None`: the only one.
    pub topic: Option<String>,
    /// The topic that brings the measured torques, where the joint states do not: sensor_msgs/JointState (its effort,
    /// paired by stamp and name) or std_msgs/Float64MultiArray (in the order of the joints, paired by log time).
    pub torque_topic: Option<String>,
    /// The joints, in the order wanted; empty: those of the recording, in its order.
    pub joints: Vec<String>,
    /// Where a bag is cut off, end there with a note instead of a [`BagError::Truncated`] error.
    pub salvage: bool,
}

/// One instant of a recording, in joint order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// When it was measured, ns of the recording's clock.
    pub stamp_ns: i64,
    /// Position, rad.
    pub q: PerJoint,
    /// Velocity, rad/s.
    pub qd: PerJoint,
    /// Acceleration, rad/s², where the recording brings it.
    pub qdd: Option<PerJoint>,
    /// Measured torque, Nm.
    pub effort: PerJoint,
    /// The CSV's `run` column: where it changes, time starts anew. Else 0.
    pub run: u32,
}

/// Why a message or row was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The bytes are not a message of the topic's type.
    Undecodable,
    /// A joint is not named in the message.
    MissingJoint,
    /// The message has no position for a joint.
    MissingPosition,
    /// The message has no velocity for a joint.
    MissingVelocity,
    /// The message has no effort for a joint.
    MissingEffort,
    /// A number is not finite.
    NonFinite,
    /// No message of the torque topic has a stamp near enough.
    NoTorque,
}

impl SkipReason {
    /// All reasons.
    pub const ALL: [SkipReason; 7] = [
        SkipReason::Undecodable,
        SkipReason::MissingJoint,
        SkipReason::MissingPosition,
        SkipReason::MissingVelocity,
        SkipReason::MissingEffort,
        SkipReason::NonFinite,
        SkipReason::NoTorque,
    ];

    /// The reason's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            SkipReason::Undecodable => "undecodable",
            SkipReason::MissingJoint => "missing_joint",
            SkipReason::MissingPosition => "missing_position",
            SkipReason::MissingVelocity => "missing_velocity",
            SkipReason::MissingEffort => "missing_effort",
            SkipReason::NonFinite => "non_finite",
            SkipReason::NoTorque => "no_torque",
        }
    }
}

/// How many messages or rows were left out, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    counts: [u64; SkipReason::ALL.len()],
}

impl Skipped {
    /// How many for this reason.
    pub fn count(&self, reason: SkipReason) -> u64 {
        self.counts[reason as usize]
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (SkipReason, u64)> + '_ {
        SkipReason::ALL.into_iter().map(|reason| (reason, self.count(reason))).filter(|&(_, n)| n > 0)
    }

    pub(super) fn add(&mut self, reason: SkipReason) {
        self.counts[reason as usize] += 1;
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total() == 0 {
            return f.write_str("nothing skipped");
        }
        for (index, (reason, count)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{count} {}", reason.name())?;
        }
        Ok(())
    }
}

/// A joint-state recording: a bag or a CSV file.
pub struct Recording {
    source: PathBuf,
    joints: Vec<String>,
    notes: Vec<String>,
}

impl Recording {
    /// Opens a recording and looks at its beginning: the topic, the joints and the clock are settled here.
    pub fn open(path: &Path, _options: &RecordingOptions) -> Result<Recording, BagError> {
        Ok(Recording { source: path.to_owned(), joints: vec![], notes: vec![] })
    }

    /// The joints, in the order of the rows.
    pub fn joints(&self) -> &[String] {
        &self.joints
    }

    /// Whether the rows bring accelerations.
    pub fn has_acceleration(&self) -> bool {
        false
    }

    /// What was opened.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// About how many rows there are, if the recording says so without being read.
    pub fn len_hint(&self) -> Option<u64> {
        None
    }

    /// From the first to the last message, ns, if the recording says so without being read.
    pub fn duration_ns(&self) -> Option<i64> {
        None
    }

    /// What a reader of the results should know, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Starts reading; each call starts over.
    pub fn rows(&self) -> Result<Rows, BagError> {
        Ok(Rows { skipped: Skipped::default() })
    }
}

/// The rows of a recording.
pub struct Rows {
    skipped: Skipped,
}

impl Rows {
    /// What was left out so far.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}

impl Iterator for Rows {
    type Item = Result<Row, BagError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
