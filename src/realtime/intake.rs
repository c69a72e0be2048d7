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
use crate::msg::{JointStateView, MAX_NAMES, Name};
use crate::sample::{MAX_JOINTS, Motion, Observation, PerJoint, Sample};

/// Backward stamps in a row after which the source's clock is taken to have been reset.
const CLOCK_RESET_AFTER: u32 = 10;

/// Torques that are remembered from a topic of their own, to find the nearest in time.
const TORQUES: usize = 8;

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

/// How many messages were dropped, by reason. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct Drops {
    counts: Arc<[AtomicU64; DropReason::ALL.len()]>,
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

    /// How many for any reason.
    pub fn total(&self) -> u64 {
        DropReason::ALL.iter().map(|&reason| self.get(reason)).sum()
    }
}

/// From messages to samples; see the module's documentation.
pub struct Intake {
    joints: Vec<Name>,
    order: Order,
    drops: Drops,
}

/// Where the joints stand in a message of these names.
#[derive(Default)]
struct Order {
    names: ArrayVec<Name, MAX_NAMES>,
    at: [u8; MAX_JOINTS],
}
