//! ~/statistics: many figures at a high rate, for plots.
//!
//! Contract: called by housekeeping, a few times per second. [`Statistics::new`] allocates; [`Statistics::collect`] does
//! not, and fills the same message each time. Nothing here blocks.
//!
//! As ros2_control's introspection does, names and values go out apart: `~/statistics/names` once, kept for late
//! subscribers, and `~/statistics/values` again and again. Both are of std_msgs:
//!
//! - names, a String: one name per line, in the order of the values.
//! - values, a Float64MultiArray of one dimension. Its label is the version of the names that they belong to: the CRC-32
//!   of the String's data, as eight hexadecimal digits (Python: `f"{zlib.crc32(names.data.encode()):08x}"`).
//!
//! The last part of a name has the unit at its end. What is not known (yet) is NaN. Latencies are those of the newest
//! window that was taken ([`crate::realtime::LatencyLog::take_window`]), rates those since the last collection, counts totals
//! since the start.

use std::fmt;

use super::diagnostics::{Snapshot, since};
use crate::msg::{Float64MultiArray, MultiArrayDimension, MultiArrayLayout, Text};
use crate::realtime::{DropReason, Stage};
use crate::sample::{MAX_JOINTS, PerJoint, Torque};

/// Collects the figures; see the module's documentation.
#[derive(Clone, Debug)]
pub struct Statistics {
    subjects: Subjects,
    earlier: Earlier,
    names: Text,
    values: Float64MultiArray,
}

/// What the names are made of, as it stands in them.
#[derive(Clone, Debug)]
struct Subjects {
    joints: Vec<String>,
    topics: Vec<String>,
}

/// What rates are counted from.
#[derive(Clone, Debug)]
struct Earlier {
    at_ns: i64,
    received: Vec<u64>,
    samples: u64,
    published: u64,
}

impl Statistics {
    /// For an arm of these joints and a node with these subscriptions (their full names, in the order of
    /// [`Snapshot::inputs`]). The first rates are those since `at_ns` of the monotonic clock.
    pub fn new(joints: &[String], topics: &[String], at_ns: i64) -> Self {
        let topic = |topic: &String| printable(topic.trim_matches('/')).replace('/', ".");
        let subjects = Subjects {
            joints: joints.iter().take(MAX_JOINTS).map(|joint| printable(joint)).collect(),
            topics: topics.iter().map(topic).collect(),
        };
        let earlier = Earlier { at_ns, received: vec![0; topics.len()], samples: 0, published: 0 };
        let mut names = Vec::new();
        subjects.figures(&Snapshot::default(), &earlier, &mut |name, _| names.push(name.to_string()));
        let size = names.len() as u32;
        let names = Text { data: names.join("\n") };
        let dim = vec![MultiArrayDimension { label: version(&names), size, stride: size }];
        let values = Float64MultiArray {
            layout: MultiArrayLayout { dim, data_offset: 0 },
            data: vec![f64::NAN; size as usize],
        };
        Statistics { subjects, earlier, names, values }
    }

    /// The names, which never change.
    pub fn names(&self) -> &Text {
        &self.names
    }

    /// The values as of `now`.
    pub fn collect(&mut self, now: &Snapshot) -> &Float64MultiArray {
        self.values.data.clear();
        self.subjects.figures(now, &self.earlier, &mut |_, value| self.values.data.push(value));
        self.earlier.at_ns = now.at_ns;
        for (earlier, input) in self.earlier.received.iter_mut().zip(&now.inputs) {
            *earlier = input.received;
        }
        (self.earlier.samples, self.earlier.published) = (now.samples, now.published);
        &self.values
    }
}

/// What tells which names values belong to.
fn version(names: &Text) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(names.data.as_bytes());
    format!("{:08x}", crc.sum())
}

/// `name` on one line, different names still being different.
fn printable(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_control() || matches!(character, '\\' | '\u{2028}' | '\u{2029}') {
            text.extend(character.escape_unicode());
        } else {
            text.push(character);
        }
    }
    text
}

impl Subjects {
    /// Every figure with its name, in their order: the one place where both are made.
    fn figures(&self, now: &Snapshot, earlier: &Earlier, put: &mut dyn FnMut(fmt::Arguments<'_>, f64)) {
        let elapsed_s = now.at_ns.saturating_sub(earlier.at_ns) as f64 * 1e-9;
        let rate = |now: u64, earlier: u64| {
            if elapsed_s > 0.0 { since(now, earlier) as f64 / elapsed_s } else { f64::NAN }
        };
        let known = |count: Option<u64>| count.map_or(f64::NAN, |count| count as f64);

        for (joint, name) in self.joints.iter().enumerate() {
            let of =
                |torques: fn(&Torque) -> &PerJoint| now.torque.as_ref().map(|torque| torques(torque)[joint]);
            let (learner, rigid_body) = now.health.rms(joint);
            for (figure, value) in [
                ("feedforward_nm", of(|torque| &torque.feedforward).unwrap_or(f64::NAN)),
                ("predicted_nm", of(|torque| &torque.predicted).unwrap_or(f64::NAN)),
                ("rigid_body_nm", of(|torque| &torque.rigid_body).unwrap_or(f64::NAN)),
                ("prediction_rms_nm", learner),
                ("rigid_body_rms_nm", rigid_body),
                ("gate_open", f64::from(u8::from(now.health.is_open(joint)))),
            ] {
                put(format_args!("metagd.joint.{name}.{figure}"), value);
            }
        }
        for (index, topic) in self.topics.iter().enumerate() {
            let (received, lost) =
                now.inputs.get(index).map_or((0, None), |input| (input.received, input.lost));
            put(format_args!("metagd.input.{topic}.rate_hz"), rate(received, earlier.received[index]));
            put(format_args!("metagd.input.{topic}.lost"), known(lost));
        }
        for &reason in DropReason::ALL {
            put(format_args!("metagd.dropped.{}", reason.name()), now.dropped(reason) as f64);
        }
        for &stage in Stage::ALL {
            let window = &now.latency[stage as usize].window;
            for (figure, us) in [
                ("p50_us", window.p50_us),
                ("p99_us", window.p99_us),
                ("p999_us", window.p999_us),
                ("max_us", window.max_us),
            ] {
                let us = if window.count > 0 { us } else { f64::NAN };
                put(format_args!("metagd.latency.{}.{figure}", stage.name()), us);
            }
        }
        let (counts, deadline) = (&now.counts, &now.deadline);
        for (figure, value) in [
            ("samples.count", now.samples as f64),
            ("samples.rate_hz", rate(now.samples, earlier.samples)),
            ("learning.enabled", f64::from(u8::from(now.learning))),
            ("learning.batches", deadline.batches as f64),
            ("learning.misses", deadline.misses as f64),
            ("learning.unexplained_misses", deadline.unexplained_misses as f64),
            ("learning.joint_steps_left_out", deadline.skipped_joint_steps as f64),
            ("learning.payload_changes", now.health.payload_changes as f64),
            ("output.enabled", f64::from(u8::from(now.enabled))),
            ("output.published", now.published as f64),
            ("output.rate_hz", rate(now.published, earlier.published)),
            ("output.refused", now.refused as f64),
            ("output.overwritten", counts.torques_overwritten as f64),
            ("output.non_finite", counts.non_finite as f64),
            ("output.clipped", counts.clipped as f64),
            ("realtime.telemetry_lost", counts.telemetry_lost as f64),
            ("realtime.allocations", known(counts.allocations.map(|heap| heap.allocated))),
            ("realtime.minor_page_faults", known(counts.page_faults.map(|faults| faults.minor))),
            ("realtime.major_page_faults", known(counts.page_faults.map(|faults| faults.major))),
            ("process.resident_bytes", known(now.resident_bytes)),
            ("missing_by_stamps", now.missing as f64),
        ] {
            put(format_args!("metagd.{figure}"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::realtime::Health;
    use crate::ros::diagnostics::Input;

    const S: i64 = 1_000_000_000;

    fn statistics() -> Statistics {
        let joints = ["a1".to_string(), "a2".to_string()];
        Statistics::new(&joints, &["/arm/joint_states".to_string()], 0)
    }

    fn collected(statistics: &mut Statistics, now: &Snapshot) -> BTreeMap<String, f64> {
        let values = statistics.collect(now).data.clone();
        statistics.names().data.lines().map(str::to_string).zip(values).collect()
    }

    fn snapshot() -> Snapshot {
        let mut health = Health { gates_open: 0b10, scored: 0b10, payload_changes: 5, ..Health::default() };
        (health.learner_mse[1], health.rigid_body_mse[1]) = (0.25, 4.0);
        let mut now = Snapshot {
            at_ns: S / 10,
            inputs: vec![Input {
                topic: "/arm/joint_states".into(),
                steady: true,
                received: 99,
                lost: Some(3),
            }],
            samples: 98,
            published: 97,
            health,
            torque: Some(Torque {
                feedforward: std::array::from_fn(|joint| 10.0 + joint as f64),
                predicted: std::array::from_fn(|joint| 20.0 + joint as f64),
                rigid_body: std::array::from_fn(|joint| 30.0 + joint as f64),
                ..Torque::default()
            }),
            resident_bytes: Some(123_456_789),
            ..Snapshot::default()
        };
        now.drops[DropReason::Future as usize] = 2;
        now.deadline.misses = 4;
        now.latency[Stage::ArrivalToTorque as usize].window.count = 1;
        now.latency[Stage::ArrivalToTorque as usize].window.p99_us = 85.0;
        now
    }

    #[test]
    fn every_value_stands_under_its_name() {
        let mut statistics = statistics();
        let values = collected(&mut statistics, &snapshot());
        for (name, expected) in [
            ("joint.a1.feedforward_nm", 10.0),
            ("joint.a2.feedforward_nm", 11.0),
            ("joint.a2.predicted_nm", 21.0),
            ("joint.a2.rigid_body_nm", 31.0),
            ("joint.a2.prediction_rms_nm", 0.5),
            ("joint.a2.rigid_body_rms_nm", 2.0),
            ("joint.a1.gate_open", 0.0),
            ("joint.a2.gate_open", 1.0),
            ("input.arm.joint_states.rate_hz", 990.0),
            ("input.arm.joint_states.lost", 3.0),
            ("samples.rate_hz", 980.0),
            ("output.rate_hz", 970.0),
            ("dropped.future", 2.0),
            ("learning.misses", 4.0),
            ("learning.payload_changes", 5.0),
            ("latency.arrival_to_torque.p99_us", 85.0),
            ("process.resident_bytes", 123_456_789.0),
        ] {
            let value = values[&format!("metagd.{name}")];
            assert!((value - expected).abs() < 1e-9, "{name}: {value}");
        }
        for unknown in ["joint.a1.prediction_rms_nm", "latency.probe.p99_us", "realtime.allocations"] {
            assert!(values[&format!("metagd.{unknown}")].is_nan(), "{unknown}");
        }
    }

    #[test]
    fn rates_are_those_since_the_last_collection() {
        let mut statistics = statistics();
        collected(&mut statistics, &snapshot());
        let mut later = snapshot();
        (later.at_ns, later.inputs[0].received) = (S / 5, 149);
        let rate = |values: &BTreeMap<String, f64>| values["metagd.input.arm.joint_states.rate_hz"];
        assert!((rate(&collected(&mut statistics, &later)) - 500.0).abs() < 1e-9);
        assert!(rate(&collected(&mut statistics, &later)).is_nan(), "no time has passed");
    }

    #[test]
    fn the_version_is_the_names_crc_32() {
        let check = Text { data: "123456789".into() };
        assert_eq!(version(&check), "cbf43926", "the check value in the catalogues of CRCs");
    }

    proptest! {
        #[test]
        fn names_and_values_belong_together(
            joints in proptest::collection::btree_set(any::<String>(), 0..=MAX_JOINTS + 2),
            topics in proptest::collection::btree_set("(/[a-z_][a-z_0-9]{0,4}){1,3}", 0..4),
            inputs in 0..6_usize,
            count: u64,
            at_ns: i64,
        ) {
            let (joints, topics) = (Vec::from_iter(joints), Vec::from_iter(topics));
            let mut statistics = Statistics::new(&joints, &topics, 0);
            let input = Input { received: count, ..Input::default() };
            let now = Snapshot { at_ns, samples: count, inputs: vec![input; inputs], ..snapshot() };
            for _ in 0..2 {
                let values = statistics.collect(&now).clone();
                let names: Vec<_> = statistics.names().data.lines().collect();
                let [dim] = &values.layout.dim[..] else { panic!("{:?}", values.layout) };
                prop_assert_eq!((dim.size, dim.stride), (names.len() as u32, names.len() as u32));
                prop_assert_eq!(values.data.len(), names.len());
                prop_assert_eq!(&dim.label, &version(statistics.names()));
                prop_assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
                for (joint, name) in joints.iter().take(MAX_JOINTS).enumerate() {
                    let name = format!("metagd.joint.{}.feedforward_nm", printable(name));
                    let index = names.iter().position(|&other| other == name);
                    prop_assert_eq!(index.map(|index| values.data[index]), Some(10.0 + joint as f64));
                }
            }
            let others = Statistics::new(&["another joint".into()], &topics, 0);
            prop_assert_ne!(version(others.names()), version(statistics.names()));
        }
    }
}
