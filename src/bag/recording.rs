//! A joint-state recording, bag or CSV alike, as rows in joint order.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::csv_file::{CsvFile, CsvRows};
use super::discover::{self, Content};
use super::{BagError, BagReader, Filter, Messages, RawMessage, Topic, cdr};
use crate::msg::{Float64MultiArray, JointStateView};
use crate::sample::{MAX_JOINTS, PerJoint};

const JOINT_STATE: &str = "sensor_msgs/msg/JointState";
const FLOATS: &str = "std_msgs/msg/Float64MultiArray";

/// How many messages are looked at to settle joints and clock.
const LOOK_AHEAD: usize = 200;
/// How many joint states wait for their torques, and torques for their joint states.
const MAX_WAITING: usize = 4096;
/// The tolerance of pairing where no period can be measured, ns.
const DEFAULT_TOLERANCE_NS: i64 = 5_000_000;

/// What to read of a recording.
#[derive(Clone, Debug, Default)]
pub struct RecordingOptions {
    /// The topic of sensor_msgs/JointState; `None`: the only one, or the only one called `joint_states`.
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
    kind: Kind,
}

enum Kind {
    Csv(CsvFile),
    Bag(Box<BagRecording>),
}

impl Recording {
    /// Opens a recording and looks at its beginning: the topic, the joints and the clock are settled here.
    ///
    /// CSV joints are called `joint_1`.. unless the options name them; those of a bag are, unless the options name them,
    /// those of its first message. Rows are stamped by the messages' headers, or by the log time if the headers' stamps
    /// are all the same or mostly do not increase; [`Recording::notes`] says so then.
    pub fn open(path: &Path, options: &RecordingOptions) -> Result<Recording, BagError> {
        if path.is_file() {
            match discover::sniff(path)? {
                Content::Text if path.file_name().is_some_and(|name| name == "metadata.yaml") => {}
                Content::Text | Content::Gzip => return Self::open_csv(path, options),
                _ => {}
            }
        }
        let (bag, joints, notes) = BagRecording::open(path, options)?;
        Ok(Recording { source: path.to_owned(), joints, notes, kind: Kind::Bag(Box::new(bag)) })
    }

    fn open_csv(path: &Path, options: &RecordingOptions) -> Result<Recording, BagError> {
        let file = CsvFile::open(path)?;
        let joints = match options.joints.as_slice() {
            [] => (1..=file.joints()).map(|joint| format!("joint_{joint}")).collect(),
            names if names.len() == file.joints() => names.to_vec(),
            names => {
                let what = format!(
                    "it has {} joints, but {} are named: {}",
                    file.joints(),
                    names.len(),
                    names.join(", ")
                );
                return Err(BagError::Joints { path: path.to_owned(), what });
            }
        };
        let ignored = [("topic", &options.topic), ("torque topic", &options.torque_topic)];
        let notes = ignored
            .iter()
            .filter_map(|(what, name)| {
                Some(format!("{}: CSV has no topics; {what} {} is not used", path.display(), name.as_ref()?))
            })
            .collect();
        Ok(Recording { source: path.to_owned(), joints, notes, kind: Kind::Csv(file) })
    }

    /// The joints, in the order of the rows.
    pub fn joints(&self) -> &[String] {
        &self.joints
    }

    /// Whether the rows bring accelerations.
    pub fn has_acceleration(&self) -> bool {
        matches!(&self.kind, Kind::Csv(file) if file.has_acceleration())
    }

    /// What was opened.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// About how many rows there are, if the recording says so without being read.
    pub fn len_hint(&self) -> Option<u64> {
        match &self.kind {
            Kind::Csv(_) => None,
            Kind::Bag(bag) => bag.topic.message_count,
        }
    }

    /// From the bag's first to its last message, ns, if the recording says so without being read.
    pub fn duration_ns(&self) -> Option<i64> {
        match &self.kind {
            Kind::Csv(_) => None,
            Kind::Bag(bag) => bag.reader.time_range_ns().map(|(first, last)| last.saturating_sub(first)),
        }
    }

    /// What a reader of the results should know, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Starts reading; each call starts over.
    ///
    /// The iterator skips and counts what is incomplete; it ends after the first error. A recording without a single
    /// usable row ends with [`BagError::NoUsableRow`].
    pub fn rows(&self) -> Result<Rows, BagError> {
        let (name, rows) = match &self.kind {
            Kind::Csv(file) => ("CSV", RowSource::Csv(Box::new(file.rows()?))),
            Kind::Bag(bag) => (bag.topic.name.as_str(), RowSource::Bag(Box::new(bag.rows(&self.joints)?))),
        };
        Ok(Rows {
            path: self.source.clone(),
            topic: name.to_owned(),
            rows,
            skipped: Skipped::default(),
            given: 0,
            done: false,
        })
    }
}

enum RowSource {
    Csv(Box<CsvRows>),
    Bag(Box<BagRows>),
}

/// The rows of a recording.
pub struct Rows {
    path: PathBuf,
    topic: String,
    rows: RowSource,
    skipped: Skipped,
    given: u64,
    done: bool,
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
        if self.done {
            return None;
        }
        let next = match &mut self.rows {
            RowSource::Csv(rows) => rows.next(&mut self.skipped),
            RowSource::Bag(rows) => rows.next(&mut self.skipped),
        };
        match next {
            Ok(Some(row)) => {
                self.given += 1;
                Some(Ok(row))
            }
            Ok(None) => {
                self.done = true;
                (self.given == 0).then(|| {
                    let (path, topic) = (self.path.clone(), self.topic.clone());
                    Err(BagError::NoUsableRow { path, topic, skipped: self.skipped })
                })
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}

/// Where a row's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowClock {
    Header,
    Log,
}

/// What brings the measured torques.
#[derive(Clone, Debug)]
enum TorqueFrom {
    /// The joint states themselves.
    JointStates,
    /// A topic of joint states, paired by stamp.
    Stamped(String),
    /// A topic of plain numbers, paired by log time.
    Unstamped(String),
}

struct BagRecording {
    reader: BagReader,
    topic: Arc<Topic>,
    torque: TorqueFrom,
    clock: RowClock,
    /// Half a period of the joint states, ns: how far a torque may be from its joint state.
    tolerance_ns: i64,
    salvage: bool,
}

/// `pkg/Type` is how ROS 1 and older tools write `pkg/msg/Type`.
fn is_type(found: &str, wanted: &str) -> bool {
    found == wanted || found == wanted.replace("/msg/", "/")
}

fn find_topic(reader: &BagReader, name: Option<&str>) -> Result<Arc<Topic>, BagError> {
    let is_joint_state = |topic: &Topic| is_type(&topic.type_name, JOINT_STATE);
    let path = || reader.path().to_owned();
    if let Some(name) = name {
        let topic = reader.topics().iter().find(|topic| topic.name == name);
        let topic = topic.ok_or_else(|| reader.no_such_topic(name))?;
        return if is_joint_state(topic) {
            Ok(Arc::clone(topic))
        } else {
            let (topic, found) = (topic.name.clone(), topic.type_name.clone());
            Err(BagError::WrongType { path: path(), topic, found, wanted: JOINT_STATE })
        };
    }
    // A bag of a whole robot has the node's own feed-forward beside the states, and more.
    let customary = |topic: &Topic| topic.name.rsplit('/').next() == Some("joint_states");
    let of_type = || reader.topics().iter().filter(|topic| is_joint_state(topic));
    let any_customary = of_type().any(|topic| customary(topic));
    let mut candidates = of_type().filter(|topic| !any_customary || customary(topic));
    match (candidates.next(), candidates.next()) {
        (Some(topic), None) => Ok(Arc::clone(topic)),
        (None, _) => {
            Err(BagError::NoTopicOfType { path: path(), wanted: JOINT_STATE, there: reader.listed(|_| true) })
        }
        _ => Err(BagError::AmbiguousTopic {
            path: path(),
            wanted: JOINT_STATE,
            candidates: reader.listed(is_joint_state),
        }),
    }
}

fn find_torque(reader: &BagReader, name: Option<&str>) -> Result<TorqueFrom, BagError> {
    let Some(name) = name else { return Ok(TorqueFrom::JointStates) };
    let topic = reader.topics().iter().find(|topic| topic.name == name);
    match topic.ok_or_else(|| reader.no_such_topic(name))? {
        topic if is_type(&topic.type_name, JOINT_STATE) => Ok(TorqueFrom::Stamped(name.to_owned())),
        topic if is_type(&topic.type_name, FLOATS) => Ok(TorqueFrom::Unstamped(name.to_owned())),
        topic => Err(BagError::WrongType {
            path: reader.path().to_owned(),
            topic: name.to_owned(),
            found: topic.type_name.clone(),
            wanted: "sensor_msgs/msg/JointState or std_msgs/msg/Float64MultiArray",
        }),
    }
}

impl BagRecording {
    fn open(path: &Path, options: &RecordingOptions) -> Result<(Self, Vec<String>, Vec<String>), BagError> {
        let reader = BagReader::open(path)?;
        let topic = find_topic(&reader, options.topic.as_deref())?;
        let torque = find_torque(&reader, options.torque_topic.as_deref())?;
        let mut notes = reader.notes().to_vec();

        let filter =
            Filter { topics: vec![topic.name.clone()], start_offset_ns: 0, salvage: options.salvage };
        let (mut skipped, mut found) = (Skipped::default(), 0);
        let mut names: Vec<Vec<String>> = Vec::new();
        let (mut stamps, mut log_times) = (Vec::new(), Vec::new());
        for message in reader.messages(&filter)?.take(LOOK_AHEAD) {
            let message = match message {
                Ok(message) => message,
                // The rows will come to it, after those that are before it.
                Err(_) if found > 0 => break,
                Err(error) => return Err(error),
            };
            found += 1;
            let Ok(state) = cdr::decode::<JointStateView>(&message.data) else {
                skipped.add(SkipReason::Undecodable);
                continue;
            };
            stamps.push(state.header.stamp.to_ns());
            log_times.push(message.log_time_ns);
            let of_message: Vec<_> = state.name.iter().map(|name| name.as_str().to_owned()).collect();
            if !names.contains(&of_message) {
                names.push(of_message);
            }
        }
        if found == 0 {
            return Err(BagError::NoMessages { path: path.to_owned(), topic: topic.name.clone() });
        }
        let Some(first) = names.iter().find(|names| !names.is_empty()) else {
            return Err(BagError::NoUsableRow { path: path.to_owned(), topic: topic.name.clone(), skipped });
        };
        let joints = if options.joints.is_empty() { first.clone() } else { options.joints.clone() };
        let wrong = |what| Err(BagError::Joints { path: path.to_owned(), what });
        let absent: Vec<_> =
            joints.iter().filter(|joint| !names.iter().any(|names| names.contains(joint))).cloned().collect();
        if !absent.is_empty() {
            let what = format!(
                "topic {} has no joint {}; it names {}",
                topic.name,
                absent.join(", "),
                first.join(", ")
            );
            return wrong(what);
        }
        if joints.len() > MAX_JOINTS {
            return wrong(format!(
                "topic {} names {} joints, but at most {MAX_JOINTS} can be handled; choose with `joints` among {}",
                topic.name,
                joints.len(),
                joints.join(", ")
            ));
        }
        if let Some(twice) = joints.iter().enumerate().find(|(index, joint)| joints[..*index].contains(joint))
        {
            return wrong(format!("topic {}: joint {} is named twice", topic.name, twice.1));
        }

        let clock = match clock_trouble(&stamps) {
            None => RowClock::Header,
            Some(trouble) => {
                notes.push(format!(
                    "{}: topic {}: the header stamps {trouble}, so rows are timed by when they were recorded",
                    path.display(),
                    topic.name
                ));
                RowClock::Log
            }
        };
        let times = if clock == RowClock::Header { &stamps } else { &log_times };
        let tolerance_ns = median_step(times).map_or(DEFAULT_TOLERANCE_NS, |step| step / 2 + 1);
        let bag = BagRecording { reader, topic, torque, clock, tolerance_ns, salvage: options.salvage };
        Ok((bag, joints, notes))
    }

    fn rows(&self, joints: &[String]) -> Result<BagRows, BagError> {
        let mut topics = vec![self.topic.name.clone()];
        if let TorqueFrom::Stamped(name) | TorqueFrom::Unstamped(name) = &self.torque {
            topics.push(name.clone());
        }
        let filter = Filter { topics, start_offset_ns: 0, salvage: self.salvage };
        Ok(BagRows {
            messages: self.reader.messages(&filter)?,
            topic: self.topic.name.clone(),
            torque: self.torque.clone(),
            clock: self.clock,
            joints: joints.to_vec(),
            state_order: JointOrder::default(),
            torque_order: JointOrder::default(),
            pairing: Pairing {
                tolerance_ns: self.tolerance_ns,
                rows: VecDeque::new(),
                torques: VecDeque::new(),
            },
            state: JointStateView::default(),
            ended: false,
        })
    }
}

/// What is wrong with the stamps as a clock; `None`: nothing.
fn clock_trouble(stamps: &[i64]) -> Option<&'static str> {
    if stamps.len() < 2 {
        return (stamps == [0]).then_some("are zero");
    }
    let steps = stamps.windows(2).filter(|pair| pair[1] > pair[0]).count();
    if stamps.iter().all(|&stamp| stamp == 0) {
        Some("are all zero")
    } else if steps == 0 {
        Some("do not increase")
    } else if steps * 2 < stamps.len() - 1 {
        Some("mostly do not increase")
    } else {
        None
    }
}

fn median_step(times: &[i64]) -> Option<i64> {
    let mut steps: Vec<_> =
        times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).filter(|&step| step > 0).collect();
    steps.sort_unstable();
    steps.get(steps.len() / 2).copied()
}

/// Where the joints stand in a message, kept as long as the messages keep their order.
#[derive(Default)]
struct JointOrder {
    names: Vec<String>,
    indices: Option<Vec<usize>>,
}

impl JointOrder {
    /// The index of each of `joints` in the message; `None` if one is missing.
    fn of(&mut self, state: &JointStateView, joints: &[String]) -> Option<&[usize]> {
        let same = self.names.len() == state.name.len()
            && self.names.iter().zip(&state.name).all(|(known, name)| known == name.as_str());
        if !same || self.indices.is_none() {
            self.names = state.name.iter().map(|name| name.as_str().to_owned()).collect();
            self.indices = joints
                .iter()
                .map(|joint| state.name.iter().position(|name| name.as_str() == joint))
                .collect();
        }
        self.indices.as_deref()
    }
}

/// The values of the joints in joint order.
fn pick(values: &[f64], indices: &[usize], missing: SkipReason) -> Result<PerJoint, SkipReason> {
    let mut picked = [0.0; MAX_JOINTS];
    for (picked, &index) in picked.iter_mut().zip(indices) {
        let value = *values.get(index).ok_or(missing)?;
        if !value.is_finite() {
            return Err(SkipReason::NonFinite);
        }
        *picked = value;
    }
    Ok(picked)
}

/// Joint states that wait for the torque nearest to them.
struct Pairing {
    tolerance_ns: i64,
    /// With the time they are paired by.
    rows: VecDeque<(i64, Row)>,
    torques: VecDeque<(i64, PerJoint)>,
}

impl Pairing {
    fn add_row(&mut self, time_ns: i64, row: Row) {
        self.rows.push_back((time_ns, row));
    }

    fn add_torque(&mut self, time_ns: i64, torque: PerJoint) {
        if self.torques.len() == MAX_WAITING {
            self.torques.pop_front();
        }
        self.torques.push_back((time_ns, torque));
    }

    /// The next row whose torque is decided, because one at least as new was seen or because no more will come.
    fn take(&mut self, ended: bool) -> Option<Result<Row, SkipReason>> {
        let time = self.rows.front()?.0;
        let newest = self.torques.back().map(|torque| torque.0);
        if !ended && newest.is_none_or(|newest| newest < time) && self.rows.len() < MAX_WAITING {
            return None;
        }
        let mut row = self.rows.pop_front()?.1;
        let distance = |torque: &(i64, PerJoint)| torque.0.saturating_sub(time).unsigned_abs();
        let nearest = self.torques.iter().min_by_key(|torque| distance(torque));
        let found = match nearest {
            Some(torque) if distance(torque) <= self.tolerance_ns.unsigned_abs() => {
                row.effort = torque.1;
                Ok(row)
            }
            _ => Err(SkipReason::NoTorque),
        };
        let too_old = time.saturating_sub(self.tolerance_ns);
        while self.torques.front().is_some_and(|torque| torque.0 < too_old) {
            self.torques.pop_front();
        }
        Some(found)
    }
}

struct BagRows {
    messages: Messages,
    topic: String,
    torque: TorqueFrom,
    clock: RowClock,
    joints: Vec<String>,
    state_order: JointOrder,
    torque_order: JointOrder,
    pairing: Pairing,
    /// The joint state decoded last.
    state: JointStateView,
    ended: bool,
}

impl BagRows {
    fn next(&mut self, skipped: &mut Skipped) -> Result<Option<Row>, BagError> {
        loop {
            match self.pairing.take(self.ended) {
                Some(Ok(row)) => return Ok(Some(row)),
                Some(Err(reason)) => {
                    skipped.add(reason);
                    continue;
                }
                None if self.ended => return Ok(None),
                None => {}
            }
            let Some(message) = self.messages.next() else {
                self.ended = true;
                continue;
            };
            let message = message?;
            let taken = if message.topic.name == self.topic {
                match self.row(&message) {
                    Ok((_, row)) if matches!(self.torque, TorqueFrom::JointStates) => return Ok(Some(row)),
                    Ok((time_ns, row)) => {
                        self.pairing.add_row(time_ns, row);
                        Ok(())
                    }
                    Err(reason) => Err(reason),
                }
            } else {
                self.torque(&message).map(|(time_ns, torque)| self.pairing.add_torque(time_ns, torque))
            };
            if let Err(reason) = taken {
                skipped.add(reason);
            }
        }
    }

    /// The row of a joint state, and the time that it is paired by.
    fn row(&mut self, message: &RawMessage) -> Result<(i64, Row), SkipReason> {
        let state = &mut self.state;
        cdr::decode_into(&message.data, &mut *state).map_err(|_| SkipReason::Undecodable)?;
        let indices = self.state_order.of(state, &self.joints).ok_or(SkipReason::MissingJoint)?;
        let stamp_ns = match self.clock {
            RowClock::Header => state.header.stamp.to_ns(),
            RowClock::Log => message.log_time_ns,
        };
        let effort = match self.torque {
            TorqueFrom::JointStates => pick(&state.effort, indices, SkipReason::MissingEffort)?,
            _ => [0.0; MAX_JOINTS],
        };
        let row = Row {
            stamp_ns,
            q: pick(&state.position, indices, SkipReason::MissingPosition)?,
            qd: pick(&state.velocity, indices, SkipReason::MissingVelocity)?,
            qdd: None,
            effort,
            run: 0,
        };
        let time_ns = match self.torque {
            TorqueFrom::Unstamped(_) => message.log_time_ns,
            _ => stamp_ns,
        };
        Ok((time_ns, row))
    }

    fn torque(&mut self, message: &RawMessage) -> Result<(i64, PerJoint), SkipReason> {
        if matches!(self.torque, TorqueFrom::Unstamped(_)) {
            let floats: Float64MultiArray =
                cdr::decode(&message.data).map_err(|_| SkipReason::Undecodable)?;
            let indices: Vec<_> = (0..self.joints.len()).collect();
            return Ok((message.log_time_ns, pick(&floats.data, &indices, SkipReason::MissingEffort)?));
        }
        let state = &mut self.state;
        cdr::decode_into(&message.data, &mut *state).map_err(|_| SkipReason::Undecodable)?;
        let indices = self.torque_order.of(state, &self.joints).ok_or(SkipReason::MissingJoint)?;
        let time_ns = match self.clock {
            RowClock::Header => state.header.stamp.to_ns(),
            RowClock::Log => message.log_time_ns,
        };
        Ok((time_ns, pick(&state.effort, indices, SkipReason::MissingEffort)?))
    }
}
