//! The intake: a message in, one complete, finite [`Sample`] in joint order out, or a counted reason why not.
//!
//! Contract: called by the I/O thread (or a replay's reader) for every message, in order of arrival; allocates nothing after
//! construction, does not block, and panics on no input. Joints are mapped by *name*: their order may change from message to
//! message, and joints that are not the arm's are ignored.
//!
//! - **Stamps** must advance. A stamp that repeats is a `repeated_stamp`; one that runs backwards is a `backward_stamp`
//!   until ten in a row have run backwards and advanced among themselves: then the source's clock was reset
//!   (a bag that loops, a simulation that restarts, or one wild stamp from the future), the new time is taken for good and
//!   everything begins anew.
//! - **Against the wall clock** they are compared only where `intake.stale` asks for it: older is `stale`, further ahead
//!   than the same bound is `future`.
//! - **Velocities** are required (`missing_velocity`): differentiated positions would lag and ripple where the driver's own
//!   do not.
//! - **Efforts** may be missing: the sample is then answered but not learnt from. With `topics.torque`, efforts come from
//!   there: of the last few, the one whose stamp is nearest, if it is within 10 ms.
//! - **Gaps** longer than `intake.gap` begin the acceleration's window anew.
//! - **Accelerations**: of the sample, one-sided at its stamp; of the observation, centred, with the efforts of the same
//!   instant. A row that brings its own acceleration is taken at its word, and is its own observation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;

use crate::config::Config;
use crate::dynamics::Acceleration;
use crate::msg::{JointStateView, MAX_NAMES, Name};
use crate::sample::{MAX_JOINTS, Motion, Observation, PerJoint, Sample, all_finite};

/// Backward stamps in a row after which the source's clock is taken to have been reset.
const CLOCK_RESET_AFTER: u32 = 10;

/// Torques that are remembered from a topic of their own, to find the nearest in time.
const TORQUES: usize = 8;

/// Stamp and wall clock are of one clock if they are no further apart than this, ns.
const COMPARABLE_NS: i64 = 60_000_000_000;

/// How far apart a motion's and a torque's stamps may lie, ns.
const PAIRING_NS: i64 = 10_000_000;

macro_rules! drop_reasons {
    ($( $(#[doc = $doc:literal])* $variant:ident = $name:literal; )*) => {
        /// Why a message was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum DropReason {
            $( $(#[doc = $doc])* #[error($name)] $variant, )*
        }

        impl DropReason {
            /// Every reason.
            pub const ALL: &[DropReason] = &[ $( DropReason::$variant, )* ];

            /// Its name in JSON and logs.
            pub fn name(self) -> &'static str {
                match self { $( DropReason::$variant => $name, )* }
            }
        }
    };
}

drop_reasons! {
    /// It could not be decoded, or has more joints or longer names than fit (counted by the middleware's side).
    Malformed = "malformed";
    /// A joint of the arm is not in the message.
    MissingJoint = "missing_joint";
    /// A joint of the arm is in it twice.
    DuplicateName = "duplicate_name";
    /// An array is not as long as the names.
    WrongLength = "wrong_length";
    /// It has no velocities.
    MissingVelocity = "missing_velocity";
    /// NaN or infinite.
    NonFinite = "non_finite";
    /// The last stamp again.
    RepeatedStamp = "repeated_stamp";
    /// A stamp before the last one.
    BackwardStamp = "backward_stamp";
    /// Older than `intake.stale` by the wall clock.
    Stale = "stale";
    /// Ahead of the wall clock by more than `intake.stale`.
    Future = "future";
    /// The ring to the pinned thread was full.
    RingFull = "ring_full";
    /// A message of the torque topic that could not be used, for any of these reasons.
    Torque = "torque";
    /// A reference that could not be used, for any of these reasons.
    Reference = "reference";
}

/// How many messages were dropped, by reason, and how many never came. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct Drops {
    counts: Arc<[AtomicU64; DropReason::ALL.len()]>,
    missing: Arc<AtomicU64>,
}

impl Drops {
    /// One more.
    pub fn count(&self, reason: DropReason) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many for this reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    /// How many joint states are missing between those that came, by their stamps: whatever the middleware tells of
    /// losses, and wherever they were lost.
    pub fn missing(&self) -> u64 {
        self.missing.load(Ordering::Relaxed)
    }

    /// How many for any reason.
    pub fn total(&self) -> u64 {
        DropReason::ALL.iter().map(|&reason| self.get(reason)).sum()
    }
}

/// Why an intake could not be set up.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum IntakeError {
    /// None, or more than [`MAX_JOINTS`].
    #[error("an arm of {0} joints cannot be served; name 1 to {MAX_JOINTS} in `joints`")]
    JointCount(usize),
    /// A joint's name is given twice.
    #[error("`joints` names `{0}` twice")]
    Duplicate(String),
}

/// From messages to samples; see the module's documentation.
pub struct Intake {
    joints: Vec<String>,
    order: Order,
    torque_order: Order,
    acceleration: Acceleration,
    /// Samples in a row whose effort was known.
    efforts_known: usize,
    separate_torque: bool,
    torques: ArrayVec<(i64, PerJoint), TORQUES>,
    reference: Option<(i64, Motion)>,
    reference_timeout_ns: i64,
    stale_ns: i64,
    last_stamp_ns: Option<i64>,
    spacing: Spacing,
    /// Backward stamps in a row that advance among themselves, and the newest of them.
    backward: (u32, i64),
    seq: u64,
    drops: Drops,
}

impl Intake {
    /// An intake for these joints, in this order.
    ///
    /// # Errors
    /// [`IntakeError`].
    pub fn new(config: &Config, joints: &[String]) -> Result<Self, IntakeError> {
        if !(1..=MAX_JOINTS).contains(&joints.len()) {
            return Err(IntakeError::JointCount(joints.len()));
        }
        if let Some(twice) = joints.iter().enumerate().find(|(i, name)| joints[..*i].contains(name)) {
            return Err(IntakeError::Duplicate(twice.1.clone()));
        }
        Ok(Intake {
            joints: joints.to_vec(),
            order: Order::default(),
            torque_order: Order::default(),
            acceleration: Acceleration::new(config, joints.len()),
            efforts_known: 0,
            separate_torque: !config.topic_torque.is_empty(),
            torques: ArrayVec::new(),
            reference: None,
            reference_timeout_ns: (config.reference_timeout * 1e6) as i64,
            stale_ns: (config.stale * 1e6) as i64,
            last_stamp_ns: None,
            spacing: Spacing::default(),
            backward: (0, 0),
            seq: 0,
            drops: Drops::default(),
        })
    }

    /// The same, counting on in `drops`.
    pub fn with_drops(mut self, drops: Drops) -> Self {
        self.drops = drops;
        self
    }

    /// The counters, to be read from any thread.
    pub fn drops(&self) -> Drops {
        self.drops.clone()
    }

    /// The joints, in order.
    pub fn joints(&self) -> &[String] {
        &self.joints
    }

    /// Forgets stamps, window, torques and reference, as for the start of another recording. Counters go on.
    pub fn reset(&mut self) {
        self.start_anew();
        self.last_stamp_ns = None;
        self.reference = None;
    }

    fn start_anew(&mut self) {
        self.acceleration.reset();
        self.efforts_known = 0;
        self.torques.clear();
        self.backward = (0, 0);
    }

    /// A JointState message that arrived at `arrival_ns` of the pipeline's clock and `wall_ns` of the system's.
    ///
    /// # Errors
    /// The reason for which it was dropped; it is counted already.
    pub fn joint_state(
        &mut self,
        message: &JointStateView,
        arrival_ns: i64,
        wall_ns: i64,
    ) -> Result<Sample, DropReason> {
        let sample = self.accept_message(message, arrival_ns, wall_ns);
        self.counted(sample)
    }

    /// A recorded row in joint order (entries past the arm's joints are ignored), rad, rad/s, rad/s², Nm.
    ///
    /// # Errors
    /// The reason for which it was dropped; it is counted already.
    pub fn row(
        &mut self,
        stamp_ns: i64,
        arrival_ns: i64,
        q: &[f64],
        qd: &[f64],
        qdd: Option<&[f64]>,
        tau: &[f64],
    ) -> Result<Sample, DropReason> {
        let joints = self.joints.len();
        let sample = if [Some(q), Some(qd), qdd, Some(tau)].iter().flatten().any(|v| v.len() < joints) {
            Err(DropReason::WrongLength)
        } else {
            let take = |values: &[f64]| padded(joints, |joint| values[joint]);
            let tau = take(tau);
            self.accept(stamp_ns, arrival_ns, take(q), take(qd), qdd.map(take), Some(tau))
        };
        self.counted(sample)
    }

    /// A message of the torque topic (`topics.torque`): only names, efforts and stamp count.
    ///
    /// # Errors
    /// What is wrong with it; counted as [`DropReason::Torque`].
    pub fn torque_state(&mut self, message: &JointStateView) -> Result<(), DropReason> {
        let joints = self.joints.len();
        let torque = self.torque_order.of(&message.name, &self.joints).and_then(|at| {
            if message.effort.len() != message.name.len() {
                return Err(DropReason::WrongLength);
            }
            let torque = padded(joints, |joint| message.effort[usize::from(at[joint])]);
            if all_finite(&torque) { Ok(torque) } else { Err(DropReason::NonFinite) }
        });
        let torque = torque.inspect_err(|_| self.drops.count(DropReason::Torque))?;
        if self.torques.is_full() {
            self.torques.remove(0);
        }
        self.torques.push((message.header.stamp.to_ns(), torque));
        Ok(())
    }

    /// A reference: the motion for which the feed-forward is wanted while it is fresh, that is, for samples that arrive
    /// within `reference.timeout` of it. Without `names` the values are in joint order. Empty velocities or accelerations
    /// are zero.
    ///
    /// # Errors
    /// What is wrong with it; counted as [`DropReason::Reference`]. The reference before it stays.
    pub fn reference<N: AsRef<str>>(
        &mut self,
        names: &[N],
        q: &[f64],
        qd: &[f64],
        qdd: &[f64],
        arrival_ns: i64,
    ) -> Result<(), DropReason> {
        let motion = self.reference_motion(names, q, qd, qdd);
        let motion = motion.inspect_err(|_| self.drops.count(DropReason::Reference))?;
        self.reference = Some((arrival_ns, motion));
        Ok(())
    }

    fn reference_motion<N: AsRef<str>>(
        &self,
        names: &[N],
        q: &[f64],
        qd: &[f64],
        qdd: &[f64],
    ) -> Result<Motion, DropReason> {
        let joints = self.joints.len();
        let at: [u8; MAX_JOINTS] = if names.is_empty() {
            std::array::from_fn(|joint| joint as u8)
        } else {
            positions_of(&self.joints, names.iter().map(AsRef::as_ref))?
        };
        let given = if names.is_empty() { joints } else { names.len() };
        let take = |values: &[f64], optional: bool| {
            if optional && values.is_empty() {
                Ok([0.0; MAX_JOINTS])
            } else if values.len() == given {
                Ok(padded(joints, |joint| values[usize::from(at[joint])]))
            } else {
                Err(DropReason::WrongLength)
            }
        };
        let motion = Motion { q: take(q, false)?, qd: take(qd, true)?, qdd: take(qdd, true)? };
        if motion.is_finite(joints) { Ok(motion) } else { Err(DropReason::NonFinite) }
    }

    fn counted(&self, sample: Result<Sample, DropReason>) -> Result<Sample, DropReason> {
        sample.inspect_err(|&reason| self.drops.count(reason))
    }

    fn accept_message(
        &mut self,
        message: &JointStateView,
        arrival_ns: i64,
        wall_ns: i64,
    ) -> Result<Sample, DropReason> {
        let (joints, names) = (self.joints.len(), message.name.len());
        let at = *self.order.of(&message.name, &self.joints)?;
        let take = |values: &[f64]| padded(joints, |joint| values[usize::from(at[joint])]);
        if message.velocity.is_empty() {
            return Err(DropReason::MissingVelocity);
        }
        let has_effort = !self.separate_torque && !message.effort.is_empty();
        if message.position.len() != names
            || message.velocity.len() != names
            || (has_effort && message.effort.len() != names)
        {
            return Err(DropReason::WrongLength);
        }
        let stamp_ns = message.header.stamp.to_ns();
        let age_ns = wall_ns.saturating_sub(stamp_ns);
        if self.stale_ns > 0 {
            if age_ns > self.stale_ns {
                return Err(DropReason::Stale);
            }
            if age_ns < -self.stale_ns {
                return Err(DropReason::Future);
            }
        }
        let effort = if self.separate_torque {
            self.nearest_torque(stamp_ns)
        } else {
            // A broadcaster sends NaN for an interface that the hardware lacks.
            let missing = |effort: &PerJoint| effort[..joints].iter().all(|tau| tau.is_nan());
            has_effort.then(|| take(&message.effort)).filter(|effort| !missing(effort))
        };
        let sample = self.accept(
            stamp_ns,
            arrival_ns,
            take(&message.position),
            take(&message.velocity),
            None,
            effort,
        )?;
        let transport_ns = (0..=COMPARABLE_NS).contains(&age_ns).then_some(age_ns);
        Ok(Sample { transport_ns, ..sample })
    }

    fn nearest_torque(&self, stamp_ns: i64) -> Option<PerJoint> {
        let apart = |&(at, torque): &(i64, PerJoint)| (at.saturating_sub(stamp_ns).saturating_abs(), torque);
        let nearest = self.torques.iter().map(apart).min_by_key(|(apart, _)| *apart);
        nearest.filter(|(apart, _)| *apart <= PAIRING_NS).map(|(_, torque)| torque)
    }

    /// In joint order already: values, then stamp, then the acceleration.
    fn accept(
        &mut self,
        stamp_ns: i64,
        arrival_ns: i64,
        q: PerJoint,
        qd: PerJoint,
        qdd: Option<PerJoint>,
        effort: Option<PerJoint>,
    ) -> Result<Sample, DropReason> {
        let values = [Some(&q), Some(&qd), qdd.as_ref(), effort.as_ref()];
        if !values.iter().flatten().all(|values| all_finite(*values)) {
            return Err(DropReason::NonFinite);
        }
        self.accept_stamp(stamp_ns)?;

        let known = effort.is_some();
        let effort = effort.unwrap_or_default();
        let (motion, observation) = match qdd {
            Some(qdd) => {
                let motion = Motion { q, qd, qdd };
                (motion, known.then_some(Observation { stamp_ns, motion, effort }))
            }
            None => {
                self.acceleration.push(stamp_ns, &q, &qd, &effort);
                self.efforts_known = if known { self.efforts_known + 1 } else { 0 };
                let qdd = self.acceleration.one_sided().filter(|qdd| all_finite(qdd)).unwrap_or_default();
                let centred = self.acceleration.centred().filter(|centred| {
                    self.efforts_known > self.acceleration.lag() && centred.motion.is_finite(MAX_JOINTS)
                });
                (Motion { q, qd, qdd }, centred)
            }
        };
        let fresh = |&(at, _): &(i64, Motion)| arrival_ns.saturating_sub(at) <= self.reference_timeout_ns;
        let reference = self.reference.filter(fresh).map(|(_, motion)| motion);
        let seq = self.seq;
        self.seq += 1;
        Ok(Sample { seq, stamp_ns, arrival_ns, transport_ns: None, motion, effort, reference, observation })
    }

    fn accept_stamp(&mut self, stamp_ns: i64) -> Result<(), DropReason> {
        let (run, newest) = self.backward;
        match self.last_stamp_ns {
            Some(last) if stamp_ns > last => {
                let missing = self.spacing.missing_before(stamp_ns - last);
                self.drops.missing.fetch_add(missing, Ordering::Relaxed);
                self.backward = (0, 0);
            }
            Some(last) if stamp_ns == last => return Err(DropReason::RepeatedStamp),
            Some(last) if stamp_ns < last => {
                if run > 0 && stamp_ns == newest {
                    return Err(DropReason::RepeatedStamp);
                }
                let run = if stamp_ns > newest { run + 1 } else { 1 };
                self.backward = (run, stamp_ns);
                if run < CLOCK_RESET_AFTER {
                    return Err(DropReason::BackwardStamp);
                }
                self.start_anew();
            }
            _ => self.backward = (0, 0),
        }
        self.last_stamp_ns = Some(stamp_ns);
        Ok(())
    }
}

/// The usual spacing of stamps, as a running median: a single gap, however long, moves it by a thousandth.
#[derive(Clone, Copy, Debug, Default)]
struct Spacing {
    usual_ns: f64,
    known: u32,
    /// Gaps in a row.
    gaps: u32,
}

impl Spacing {
    /// Spacings from which on the usual one is known.
    const KNOWN_FROM: u32 = 50;

    /// So many gaps in a row are another rate.
    const OTHER_RATE: u32 = 20;

    /// How many stamps are missing in this step from one to the next.
    fn missing_before(&mut self, step_ns: i64) -> u64 {
        let step_ns = step_ns as f64;
        if self.known == 0 || self.usual_ns > 2.0 * step_ns || self.gaps >= Self::OTHER_RATE {
            *self = Spacing { usual_ns: step_ns, known: 1, gaps: 0 };
            return 0;
        }
        let change = (0.5 / f64::from(self.known)).max(1e-3);
        self.usual_ns *= if step_ns > self.usual_ns { 1.0 + change } else { 1.0 - change };
        self.known = self.known.saturating_add(1);
        let steps = (step_ns / self.usual_ns).round();
        if self.known <= Self::KNOWN_FROM || steps < 2.0 {
            self.gaps = 0;
            return 0;
        }
        self.gaps += 1;
        (steps - 1.0) as u64
    }
}

fn padded(joints: usize, value: impl Fn(usize) -> f64) -> PerJoint {
    std::array::from_fn(|joint| if joint < joints { value(joint) } else { 0.0 })
}

/// Where the joints stood in the last message: looked up again only when its names differ.
#[derive(Default)]
struct Order {
    names: ArrayVec<Name, MAX_NAMES>,
    at: [u8; MAX_JOINTS],
}

impl Order {
    fn of(
        &mut self,
        names: &ArrayVec<Name, MAX_NAMES>,
        joints: &[String],
    ) -> Result<&[u8; MAX_JOINTS], DropReason> {
        if self.names.is_empty() || self.names != *names {
            self.names.clear();
            self.at = positions_of(joints, names.iter().map(Name::as_str))?;
            self.names.clone_from(names);
        }
        Ok(&self.at)
    }
}

/// The place of each joint among the names, which may be in any order and more than the joints.
fn positions_of<'a>(
    joints: &[String],
    names: impl Iterator<Item = &'a str>,
) -> Result<[u8; MAX_JOINTS], DropReason> {
    let mut at = [u8::MAX; MAX_JOINTS];
    for (place, name) in names.take(usize::from(u8::MAX)).enumerate() {
        if let Some(joint) = joints.iter().position(|joint| joint == name) {
            if at[joint] != u8::MAX {
                return Err(DropReason::DuplicateName);
            }
            at[joint] = place as u8;
        }
    }
    let complete = at[..joints.len()].iter().all(|&place| place != u8::MAX);
    if complete { Ok(at) } else { Err(DropReason::MissingJoint) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::{HeaderView, Time};
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn names() -> Vec<String> {
        ["a", "b", "c"].map(String::from).to_vec()
    }

    fn intake_with(change: impl FnOnce(&mut Config)) -> Intake {
        let mut config = Config::default();
        change(&mut config);
        Intake::new(&config, &names()).unwrap()
    }

    fn intake() -> Intake {
        intake_with(|_| ())
    }

    /// A message of these joints; joint x at position 1, 2, 3.., its velocity and effort ten and a hundred times that.
    fn message(stamp_ns: i64, order: &[&str]) -> JointStateView {
        let value = |name: &&str| f64::from(name.bytes().next().unwrap_or(b'a') - b'a' + 1);
        JointStateView {
            header: HeaderView { stamp: Time::from_ns(stamp_ns), ..HeaderView::default() },
            name: order.iter().map(|name| Name::from(name).unwrap()).collect(),
            position: order.iter().map(value).collect(),
            velocity: order.iter().map(|name| 10.0 * value(name)).collect(),
            effort: order.iter().map(|name| 100.0 * value(name)).collect(),
        }
    }

    fn send(intake: &mut Intake, message: &JointStateView) -> Result<Sample, DropReason> {
        intake.joint_state(message, 0, 0)
    }

    #[test]
    fn stamps_that_are_missing_are_counted_and_jitter_is_not() {
        const MS: i64 = 1_000_000;
        let mut spacing = Spacing::default();
        let jitter = |k: i64| (k * 7 % 5 - 2) * MS / 10;
        let mut missing = 0;
        for k in 0..1000 {
            missing += spacing.missing_before(MS + jitter(k));
        }
        assert_eq!(missing, 0);
        assert_eq!(spacing.missing_before(2 * MS), 1);
        assert_eq!(spacing.missing_before(MS), 0);
        assert!((99..=101).contains(&spacing.missing_before(101 * MS)));
        for _ in 0..5 {
            assert_eq!(spacing.missing_before(3 * MS), 2, "gaps in a row");
        }
        // Another rate is soon the usual one.
        spacing.missing_before(MS);
        let missing: u64 = (0..200).map(|_| spacing.missing_before(5 * MS)).sum();
        assert_eq!(missing, 4 * u64::from(Spacing::OTHER_RATE));
        assert_eq!(spacing.missing_before(MS), 0);
        (0..60).for_each(|_| _ = spacing.missing_before(MS));
        assert_eq!(spacing.missing_before(4 * MS), 3);
    }

    #[test]
    fn joints_are_mapped_by_name_whatever_their_order_and_company() {
        let mut intake = intake();
        for (ms, order) in
            [vec!["a", "b", "c"], vec!["c", "gripper", "a", "b"], vec!["b", "c", "a"]].iter().enumerate()
        {
            let sample = send(&mut intake, &message(ms as i64 * MS, order)).unwrap();
            assert_eq!(sample.motion.q[..4], [1.0, 2.0, 3.0, 0.0]);
            assert_eq!(sample.motion.qd[..4], [10.0, 20.0, 30.0, 0.0]);
            assert_eq!(sample.effort[..4], [100.0, 200.0, 300.0, 0.0]);
        }
    }

    #[test]
    fn each_fault_is_dropped_and_counted_under_its_name() {
        let mut intake = intake();
        let drops = intake.drops();
        let good = message(MS, &["a", "b", "c"]);
        send(&mut intake, &good).unwrap();
        let mut refused = |change: &dyn Fn(&mut JointStateView), reason: DropReason| {
            let mut message = JointStateView { header: HeaderView::default(), ..good.clone() };
            message.header.stamp = Time::from_ns(2 * MS);
            change(&mut message);
            let before = drops.get(reason);
            assert_eq!(send(&mut intake, &message), Err(reason));
            assert_eq!(drops.get(reason), before + 1);
        };
        refused(&|m| m.name[0] = Name::from("x").unwrap(), DropReason::MissingJoint);
        refused(&|m| m.name[0] = Name::from("b").unwrap(), DropReason::DuplicateName);
        refused(&|m| m.name.clear(), DropReason::MissingJoint);
        refused(&|m| m.position.truncate(2), DropReason::WrongLength);
        refused(&|m| m.velocity.truncate(2), DropReason::WrongLength);
        refused(&|m| m.effort.truncate(2), DropReason::WrongLength);
        refused(&|m| m.velocity.clear(), DropReason::MissingVelocity);
        refused(&|m| m.position[1] = f64::NAN, DropReason::NonFinite);
        refused(&|m| m.effort[2] = f64::INFINITY, DropReason::NonFinite);
        refused(&|m| m.header.stamp = Time::from_ns(MS), DropReason::RepeatedStamp);
        refused(&|m| m.header.stamp = Time::from_ns(0), DropReason::BackwardStamp);
        assert_eq!(drops.total(), 11);
        assert_eq!(send(&mut intake, &message(2 * MS, &["a", "b", "c"])).unwrap().seq, 1);
    }

    #[test]
    fn stamps_are_compared_with_the_wall_clock_only_where_asked_for() {
        let old = message(1_000 * MS, &["a", "b", "c"]);
        assert!(intake().joint_state(&old, 0, 9_000 * MS).is_ok());
        let mut strict = intake_with(|c| c.stale = 50.0);
        assert_eq!(strict.joint_state(&old, 0, 1_051 * MS), Err(DropReason::Stale));
        assert_eq!(strict.joint_state(&old, 0, 949 * MS), Err(DropReason::Future));
        let sample = strict.joint_state(&old, 0, 1_003 * MS).unwrap();
        assert_eq!(sample.transport_ns, Some(3 * MS));
    }

    #[test]
    fn a_clock_that_was_reset_is_believed_after_ten_stamps_and_a_stray_one_never() {
        let mut intake = intake();
        for ms in 1000..1020 {
            send(&mut intake, &message(ms * MS, &["a", "b", "c"])).unwrap();
        }
        for ms in 1020..1040 {
            assert_eq!(send(&mut intake, &message(5 * MS, &["a", "b", "c"])), Err(DropReason::BackwardStamp));
            send(&mut intake, &message(ms * MS, &["a", "b", "c"])).unwrap();
        }
        for ms in 0..9 {
            assert_eq!(
                send(&mut intake, &message(ms * MS, &["a", "b", "c"])),
                Err(DropReason::BackwardStamp)
            );
        }
        let sample = send(&mut intake, &message(9 * MS, &["a", "b", "c"])).unwrap();
        assert_eq!((sample.stamp_ns, sample.observation), (9 * MS, None), "the window begins anew");
        assert!(send(&mut intake, &message(10 * MS, &["a", "b", "c"])).is_ok());
    }

    #[test]
    fn backward_stamps_that_do_not_advance_among_themselves_are_no_new_time() {
        let mut intake = intake();
        send(&mut intake, &message(1000 * MS, &["a", "b", "c"])).unwrap();
        for ms in (0..100).rev() {
            assert_eq!(
                send(&mut intake, &message(ms * MS, &["a", "b", "c"])),
                Err(DropReason::BackwardStamp)
            );
        }
    }

    #[test]
    fn the_observation_is_the_windows_middle_with_its_own_torque() {
        let mut intake = intake();
        let mut last = None;
        for k in 0..11 {
            let mut message = message(k * MS, &["a", "b", "c"]);
            message.effort[0] = k as f64;
            message.velocity[0] = 2.0 * (k as f64) * 1e-3;
            message.position[0] = ((k as f64) * 1e-3).powi(2);
            last = Some(send(&mut intake, &message).unwrap());
            assert_eq!(last.unwrap().observation.is_some(), k == 10);
        }
        let observation = last.unwrap().observation.unwrap();
        assert_eq!((observation.stamp_ns, observation.effort[0]), (5 * MS, 5.0));
        assert!((observation.motion.qdd[0] - 2.0).abs() < 1e-6, "{}", observation.motion.qdd[0]);
        assert!((last.unwrap().motion.qdd[0] - 2.0).abs() < 1e-6);
    }

    #[test]
    fn without_efforts_a_sample_is_answered_but_not_learnt_from() {
        let mut intake = intake();
        for k in 0..40 {
            let mut message = message(k * MS, &["a", "b", "c"]);
            if k == 20 {
                message.effort.clear();
            }
            let sample = send(&mut intake, &message).unwrap();
            assert_eq!(sample.observation.is_some(), (10..20).contains(&k) || k > 25, "{k}");
        }
    }

    #[test]
    fn a_gap_begins_the_window_anew() {
        let mut intake = intake();
        for k in 0..20 {
            send(&mut intake, &message(k * MS, &["a", "b", "c"])).unwrap();
        }
        assert!(send(&mut intake, &message(200 * MS, &["a", "b", "c"])).unwrap().observation.is_none());
    }

    #[test]
    fn torques_of_their_own_topic_are_paired_with_the_nearest_motion() {
        let mut intake = intake_with(|c| c.topic_torque = "torque".into());
        let alone = send(&mut intake, &message(0, &["a", "b", "c"])).unwrap();
        assert_eq!(alone.effort, [0.0; MAX_JOINTS], "its own efforts do not count");
        for (ms, tau) in [(1, 1.0), (2, 2.0), (4, 4.0)] {
            let mut torque = message(ms * MS, &["c", "a", "b"]);
            torque.position.clear();
            torque.velocity.clear();
            torque.effort[1] = tau;
            intake.torque_state(&torque).unwrap();
        }
        assert_eq!(
            send(&mut intake, &message(2 * MS, &["a", "b", "c"])).unwrap().effort[..3],
            [2.0, 200.0, 300.0]
        );
        assert_eq!(send(&mut intake, &message(14 * MS, &["a", "b", "c"])).unwrap().effort[0], 4.0);
        assert_eq!(
            send(&mut intake, &message(15 * MS, &["a", "b", "c"])).unwrap().effort[0],
            0.0,
            "too far apart"
        );
        assert_eq!(intake.torque_state(&message(0, &["a"])), Err(DropReason::MissingJoint));
        assert_eq!(intake.drops().get(DropReason::Torque), 1);
    }

    #[test]
    fn a_reference_counts_while_it_is_fresh() {
        let mut intake = intake();
        intake.reference(&["c", "a", "b"], &[3.0, 1.0, 2.0], &[], &[0.3, 0.1, 0.2], 100 * MS).unwrap();
        let at = |intake: &mut Intake, ms: i64| {
            intake.joint_state(&message(ms * MS, &["a", "b", "c"]), ms * MS, 0).unwrap()
        };
        let reference = at(&mut intake, 120).reference.unwrap();
        assert_eq!((&reference.q[..3], &reference.qdd[..3]), (&[1.0, 2.0, 3.0][..], &[0.1, 0.2, 0.3][..]));
        assert_eq!(reference.qd, [0.0; MAX_JOINTS]);
        assert!(at(&mut intake, 121).reference.is_none());
        let in_order: &[&str] = &[];
        intake.reference(in_order, &[4.0, 5.0, 6.0], &[], &[], 122 * MS).unwrap();
        assert_eq!(at(&mut intake, 122).reference.unwrap().q[..3], [4.0, 5.0, 6.0]);
        assert_eq!(intake.reference(in_order, &[f64::NAN; 3], &[], &[], 0), Err(DropReason::NonFinite));
        assert_eq!(intake.reference(in_order, &[1.0], &[], &[], 0), Err(DropReason::WrongLength));
        assert_eq!(intake.reference(&["a", "b"], &[1.0, 2.0], &[], &[], 0), Err(DropReason::MissingJoint));
        assert_eq!(intake.drops().get(DropReason::Reference), 3);
        assert_eq!(at(&mut intake, 123).reference.unwrap().q[..3], [4.0, 5.0, 6.0], "the one before stays");
    }

    #[test]
    fn a_row_that_brings_its_acceleration_is_its_own_observation() {
        let mut intake = intake();
        let row = [1.0, 2.0, 3.0];
        let sample = intake.row(0, 0, &row, &row, Some(&row), &row).unwrap();
        let observation = sample.observation.unwrap();
        assert_eq!((observation.motion, observation.effort), (sample.motion, sample.effort));
        assert_eq!(sample.motion.qdd[..3], row);
        assert_eq!(intake.row(1, 0, &row, &row[..2], None, &row), Err(DropReason::WrongLength));
    }

    #[test]
    fn joints_that_cannot_be_served_are_an_error() {
        let new = |joints: &[String]| Intake::new(&Config::default(), joints).map(|_| ()).unwrap_err();
        assert_eq!(new(&[]), IntakeError::JointCount(0));
        assert_eq!(new(&["a".into(), "a".into()]), IntakeError::Duplicate("a".into()));
    }

    fn any_message() -> impl Strategy<Value = JointStateView> {
        let name = prop::sample::select(vec!["a", "b", "c", "gripper", ""]);
        let names = prop_oneof![
            3 => Just(vec!["a", "b", "c"]),
            1 => Just(vec!["c", "x", "b", "a"]),
            1 => prop::collection::vec(name, 0..6),
        ];
        let value = prop_oneof![8 => -10.0..10.0f64, 1 => prop::num::f64::ANY];
        let length = prop_oneof![6 => Just(None), 1 => (0usize..7).prop_map(Some)];
        let stamp = prop_oneof![6 => 0i64..200, 1 => any::<i64>().prop_map(|ns| ns / MS)];
        (names, prop::collection::vec(value, 21), [length.clone(), length.clone(), length], stamp).prop_map(
            |(names, values, lengths, ms)| {
                let mut message = message(ms.saturating_mul(MS), &names);
                let arrays = [&mut message.position, &mut message.velocity, &mut message.effort];
                for (k, (array, length)) in arrays.into_iter().zip(lengths).enumerate() {
                    let length = length.unwrap_or(names.len());
                    *array = values[7 * k..].iter().copied().take(length).collect();
                }
                message
            },
        )
    }

    proptest! {
        #[test]
        fn no_message_panics_and_what_is_accepted_is_finite_and_advances(
            messages in prop::collection::vec(any_message(), 1..100),
        ) {
            let mut intake = intake();
            let (mut last, mut backward, mut accepted) = (i64::MIN, 0, 0u64);
            for message in &messages {
                match send(&mut intake, message) {
                    Ok(sample) => {
                        prop_assert!(sample.motion.is_finite(MAX_JOINTS));
                        prop_assert!(sample.effort.iter().all(|tau| tau.is_finite()));
                        prop_assert!(sample.observation.is_none_or(|o| o.motion.is_finite(MAX_JOINTS)));
                        prop_assert!(sample.stamp_ns > last || backward >= 9, "{} after {last}", sample.stamp_ns);
                        prop_assert_eq!(sample.seq, accepted);
                        (last, backward, accepted) = (sample.stamp_ns, 0, accepted + 1);
                    }
                    Err(DropReason::BackwardStamp) => backward += 1,
                    Err(_) => {}
                }
            }
            prop_assert_eq!(accepted + intake.drops().total(), messages.len() as u64);
        }

        #[test]
        fn the_order_of_the_joints_does_not_matter(
            steps in prop::collection::vec(
                (1i64..20, Just(["a", "b", "c", "d", "e"]).prop_shuffle(), prop::array::uniform5(-1.0..1.0f64)), 1..40,
            ),
        ) {
            let (mut straight, mut shuffled) = (intake(), intake());
            let mut ms = 0;
            for (dt, order, values) in steps {
                ms += dt;
                let fill = |order: &[&str; 5]| {
                    let mut message = message(ms * MS, order);
                    for (place, name) in order.iter().enumerate() {
                        let value = values[usize::from(name.as_bytes()[0] - b'a')];
                        (message.position[place], message.velocity[place], message.effort[place]) =
                            (value, 2.0 * value, 3.0 * value);
                    }
                    message
                };
                let expected = send(&mut straight, &fill(&["a", "b", "c", "d", "e"]));
                prop_assert_eq!(send(&mut shuffled, &fill(&order)), expected);
            }
        }
    }
}
