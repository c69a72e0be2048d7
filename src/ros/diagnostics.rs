//! /diagnostics: how the node is, as diagnostic_msgs/DiagnosticArray.
//!
//! Contract: called by housekeeping, once per period (a second by default); allocates, does not block, reads no clock and
//! touches no thread. Housekeeping keeps one [`Snapshot`] up to date and shows it to [`Diagnostics::report`], which compares
//! it with the one before. What is said depends on these alone.
//!
//! Five statuses, named `<node>: <subject>`. Each has the same keys in the same order in every report, with the unit in the
//! key and a plain number as value; `nan` where there is none yet. *In the period* means since the report before.
//!
//! | subject | WARN | ERROR | STALE |
//! |---|---|---|---|
//! | input | a steady topic below `rate_warn` of its usual rate (while active); anything dropped or lost in the period | | active, and no sample came in the period, or none for longer than `limits.timeout` |
//! | learning | more than `misses_warn` of the period's batches missed the deadline; while active and learning, a joint's error is above `error_ratio` times the rigid body's | more than `misses_error` of them; the lifecycle is in error processing | |
//! | latency | telemetry was lost in the period: the figures lack as much | | |
//! | real time | not everything asked for was granted; the pinned thread allocated, freed or waited for the disk in the period | the pinned thread panicked | |
//! | output | torques refused or overwritten in the period | predicted torques were not finite in the period | |
//!
//! A topic's *usual* rate is the median of its last 60 periods in which anything came: a rate that falls is warned of
//! until the lower one is the usual. It is known after three periods. Errors are root mean squares; below 1 mNm they are
//! nothing to warn of, whatever the rigid body's are.

use std::collections::VecDeque;
use std::fmt::Display;

use crate::msg::{DiagnosticArray, DiagnosticStatus, Header, KeyValue, Time};
use crate::realtime::latency::Deadline;
use crate::realtime::runtime::RunCounts;
use crate::realtime::{DropReason, Drops, Grants, Health, Stage, Status, Telemetry, Window};
use crate::sample::{MAX_JOINTS, Torque};

/// Periods of which the usual rate is the median.
const USUAL_OF: usize = 60;

/// Periods from which on a rate is called usual.
const USUAL_FROM: usize = 3;

/// A joint's error that is nothing to warn of, Nm.
const NEGLIGIBLE_NM: f64 = 1e-3;

/// From which figures on there is something to warn of; see the module's table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Share of a topic's usual rate (`diagnostics.rate_warn`).
    pub rate_warn: f64,
    /// Share of the period's batches (`diagnostics.misses_warn`).
    pub misses_warn: f64,
    /// Share of the period's batches (`diagnostics.misses_error`).
    pub misses_error: f64,
    /// A joint's error, in errors of the rigid body (`diagnostics.error_ratio`).
    pub error_ratio: f64,
    /// Age of the newest sample, s (`limits.timeout`, which is in ms).
    pub timeout_s: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            rate_warn: 0.9,
            misses_warn: 0.001,
            misses_error: 0.05,
            error_ratio: 1.5,
            timeout_s: 0.02,
        }
    }
}

/// One subscription, as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// The topic's full name.
    pub topic: String,
    /// Whether it should come all the time, as joint states do and references do not.
    pub steady: bool,
    /// Messages received.
    pub received: u64,
    /// Messages lost on the wire; `None` where the middleware does not tell.
    pub lost: Option<u64>,
}

/// What the node knows of itself at one instant. Counts are totals since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The instant by the node's ROS clock, ns.
    pub stamp_ns: i64,
    /// The instant by the pipeline's monotonic clock, ns.
    pub at_ns: i64,
    /// The lifecycle's state, as lifecycle_msgs names it: `unconfigured`, `inactive`, `active`, `errorprocessing`, ...
    pub lifecycle: String,
    /// Every subscription, always in the same order; the joint states first.
    pub inputs: Vec<Input>,
    /// Samples answered.
    pub samples: u64,
    /// When the newest of them arrived, ns of the monotonic clock.
    pub newest_ns: Option<i64>,
    /// Messages dropped, in the order of [`DropReason::ALL`]; without those of a full ring, which `counts` has.
    pub drops: [u64; DropReason::ALL.len()],
    /// Joint states that never came, by the stamps of those that did.
    pub missing: u64,
    /// Whether learning is switched on.
    pub learning: bool,
    /// How the deadline was kept.
    pub deadline: Deadline,
    /// How the model is doing.
    pub health: Health,
    /// Latencies in the newest window and over the run.
    pub latency: Window,
    /// How the pinned thread is; `None` while there is none.
    pub pinned: Option<Status>,
    /// What the pinned thread was granted.
    pub grants: Option<Grants>,
    /// What was counted around it.
    pub counts: RunCounts,
    /// Torques published.
    pub published: u64,
    /// Torques that the middleware did not take.
    pub refused: u64,
    /// Whether torques may go out.
    pub enabled: bool,
    /// The newest torque.
    pub torque: Option<Torque>,
    /// The process's resident memory, bytes.
    pub resident_bytes: Option<u64>,
}

impl Snapshot {
    /// Takes in what the pinned thread told: samples, the newest one's arrival, the model's health.
    pub fn record(&mut self, telemetry: &Telemetry) {
        match telemetry {
            Telemetry::Sample(timing) => {
                self.samples += 1;
                self.newest_ns = Some(timing.arrival_ns);
            }
            Telemetry::Batch(report) => self.health = report.health,
        }
    }

    /// Takes the drops as they stand.
    pub fn set_drops(&mut self, drops: &Drops) {
        self.drops = std::array::from_fn(|reason| drops.get(DropReason::ALL[reason]));
        self.missing = drops.missing();
    }

    /// Whether the lifecycle's state is `active`.
    pub fn is_active(&self) -> bool {
        self.lifecycle == "active"
    }

    /// Messages dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        let in_ring = if reason == DropReason::RingFull { self.counts.ring_full } else { 0 };
        self.drops[reason as usize] + in_ring
    }
}

/// Makes the reports of one node; see the module's documentation.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    node: String,
    hardware_id: String,
    joints: Vec<String>,
    thresholds: Thresholds,
    before: Snapshot,
    usual: Vec<UsualRate>,
}

impl Diagnostics {
    /// For the node of this fully qualified name, with the arm's name (or whatever tells it from another) as hardware. The
    /// first period begins at `at_ns` of the monotonic clock.
    pub fn new(
        node: &str,
        hardware_id: &str,
        joints: &[String],
        thresholds: Thresholds,
        at_ns: i64,
    ) -> Diagnostics {
        Diagnostics {
            node: node.trim_start_matches('/').to_string(),
            hardware_id: hardware_id.to_string(),
            joints: joints.iter().take(MAX_JOINTS).cloned().collect(),
            thresholds,
            before: Snapshot { at_ns, ..Snapshot::default() },
            usual: Vec::new(),
        }
    }

    /// The first period begins with `now`: what was counted before is no news.
    pub fn begin_with(&mut self, now: &Snapshot) {
        self.before.clone_from(now);
    }

    /// Other thresholds from the next report on.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// The report on the period that ends with `now`; the next one begins there.
    pub fn report(&mut self, now: &Snapshot) -> DiagnosticArray {
        self.usual.resize_with(now.inputs.len(), UsualRate::default);
        let usual: Vec<_> = self.usual.iter().map(UsualRate::median).collect();
        let period = Period { now, before: &self.before, usual: &usual, thresholds: &self.thresholds };
        let status = vec![
            self.status("input", period.input()),
            self.status("learning", period.learning(&self.joints)),
            self.status("latency", period.latency()),
            self.status("real time", period.real_time()),
            self.status("output", period.output()),
        ];
        if now.is_active() {
            let rates = (0..now.inputs.len()).map(|input| period.rate(input));
            self.usual.iter_mut().zip(rates).for_each(|(usual, rate)| usual.add(rate));
        }
        self.before.clone_from(now);
        let header = Header { stamp: Time::from_ns(now.stamp_ns), frame_id: String::new() };
        DiagnosticArray { header, status }
    }

    fn status(&self, subject: &str, card: Card) -> DiagnosticStatus {
        DiagnosticStatus {
            level: card.level,
            name: format!("{}: {subject}", self.node),
            message: if card.complaints.is_empty() { card.summary } else { card.complaints.join("; ") },
            hardware_id: self.hardware_id.clone(),
            values: card.values,
        }
    }
}

/// What is usual for one topic.
#[derive(Clone, Debug, Default)]
struct UsualRate {
    recent: VecDeque<f64>,
}

impl UsualRate {
    fn add(&mut self, rate: f64) {
        if rate > 0.0 {
            self.recent.truncate(USUAL_OF - 1);
            self.recent.push_front(rate);
        }
    }

    fn median(&self) -> Option<f64> {
        let mut rates: Vec<f64> = self.recent.iter().copied().collect();
        rates.sort_unstable_by(f64::total_cmp);
        (rates.len() >= USUAL_FROM).then(|| rates[rates.len() / 2])
    }
}

/// What was counted since `before`; a count that fell was begun anew in between.
pub(super) fn since(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// One status in the making.
#[derive(Default)]
struct Card {
    level: u8,
    summary: String,
    complaints: Vec<String>,
    values: Vec<KeyValue>,
}

impl Card {
    fn complain(&mut self, level: u8, complaint: String) {
        self.level = self.level.max(level);
        self.complaints.push(complaint);
    }

    fn text(&mut self, key: impl Into<String>, value: impl Display) {
        self.values.push(KeyValue { key: key.into(), value: value.to_string() });
    }

    fn number(&mut self, key: impl Into<String>, value: f64, decimals: usize) {
        if value.is_finite() {
            self.text(key, format_args!("{value:.decimals$}"));
        } else {
            self.text(key, if value.is_nan() { "nan" } else { "inf" });
        }
    }

    /// Two rows, in all and in the period; returns how many in the period.
    fn count(&mut self, key: &str, now: u64, before: u64) -> u64 {
        let new = since(now, before);
        self.text(key, now);
        self.text(format!("{key} in period"), new);
        new
    }

    /// [`Card::count`] of what may not have been counted.
    fn count_if_known(&mut self, key: &str, now: Option<u64>, before: Option<u64>) -> u64 {
        if let Some(now) = now {
            return self.count(key, now, before.unwrap_or_default());
        }
        self.text(key, "nan");
        self.text(format!("{key} in period"), "nan");
        0
    }
}

/// What the statuses are made of.
struct Period<'a> {
    now: &'a Snapshot,
    before: &'a Snapshot,
    usual: &'a [Option<f64>],
    thresholds: &'a Thresholds,
}

impl Period<'_> {
    /// Of a count that was `before` and is `now`, Hz; NaN if no time has passed.
    fn per_second(&self, now: u64, before: u64) -> f64 {
        let elapsed_s = self.now.at_ns.saturating_sub(self.before.at_ns) as f64 * 1e-9;
        if elapsed_s > 0.0 { since(now, before) as f64 / elapsed_s } else { f64::NAN }
    }

    fn input_before(&self, input: usize) -> (u64, Option<u64>) {
        self.before.inputs.get(input).map_or((0, None), |before| (before.received, before.lost))
    }

    fn rate(&self, input: usize) -> f64 {
        self.per_second(self.now.inputs[input].received, self.input_before(input).0)
    }

    fn input(&self) -> Card {
        let Period { now, before, .. } = self;
        let mut card = Card::default();
        let age_ms = now.newest_ns.map(|newest_ns| now.at_ns.saturating_sub(newest_ns) as f64 * 1e-6);
        let stale = now.is_active()
            && age_ms.is_none_or(|age_ms| {
                now.samples == before.samples || age_ms > self.thresholds.timeout_s * 1e3
            });
        if stale {
            let text =
                age_ms.map_or("no sample yet".into(), |age_ms| format!("no sample for {age_ms:.0} ms"));
            card.complain(DiagnosticStatus::STALE, text);
        }
        let mut lost = 0;
        for (index, input) in now.inputs.iter().enumerate() {
            let (topic, rate, usual) = (&input.topic, self.rate(index), self.usual[index]);
            card.number(format!("rate {topic} [Hz]"), rate, 1);
            card.number(format!("usual rate {topic} [Hz]"), usual.unwrap_or(f64::NAN), 1);
            lost += card.count_if_known(
                &format!("lost on the wire {topic}"),
                input.lost,
                self.input_before(index).1,
            );
            if stale || !now.is_active() || !input.steady {
                continue;
            }
            if rate == 0.0 {
                card.complain(DiagnosticStatus::WARN, format!("nothing on {topic}"));
            } else if let Some(usual) = usual.filter(|usual| rate < self.thresholds.rate_warn * usual) {
                let text = format!("{rate:.0} Hz instead of {usual:.0} Hz on {topic}");
                card.complain(DiagnosticStatus::WARN, text);
            }
        }
        if lost > 0 {
            card.complain(DiagnosticStatus::WARN, format!("{lost} lost on the wire"));
        }
        card.number("sample rate [Hz]", self.per_second(now.samples, before.samples), 1);
        card.text("samples", now.samples);
        card.number("age of newest sample [ms]", age_ms.unwrap_or(f64::NAN), 1);
        let missing = card.count("missing by stamps", now.missing, before.missing);
        // What the middleware saw lost has been complained of.
        if missing > 0 && lost == 0 {
            card.complain(DiagnosticStatus::WARN, format!("{missing} missing by their stamps"));
        }
        let total =
            |snapshot: &Snapshot| DropReason::ALL.iter().map(|&reason| snapshot.dropped(reason)).sum();
        let dropped = card.count("dropped", total(now), total(before));
        let mut reasons = Vec::new();
        for &reason in DropReason::ALL {
            let name = reason.name();
            let new = card.count(&format!("dropped {name}"), now.dropped(reason), before.dropped(reason));
            if new > 0 {
                reasons.push(format!("{new} {name}"));
            }
        }
        if dropped > 0 {
            let text = format!("{dropped} dropped ({})", reasons.join(", "));
            card.complain(DiagnosticStatus::WARN, text);
        }
        card.summary = match now.inputs.is_empty() {
            true => "nothing is subscribed to".into(),
            false if !now.is_active() => "not active".into(),
            false => format!("{:.0} Hz, nothing dropped", self.rate(0)),
        };
        card
    }

    fn learning(&self, joints: &[String]) -> Card {
        let Period { now, before, thresholds, .. } = self;
        let mut card = Card::default();
        card.text("lifecycle", &now.lifecycle);
        card.text("learning [0/1]", u8::from(now.learning));
        if now.lifecycle.starts_with("error") {
            card.complain(DiagnosticStatus::ERROR, "error processing".into());
        }
        let (deadline, earlier) = (&now.deadline, &before.deadline);
        let batches = card.count("batches", deadline.batches, earlier.batches);
        let misses = card.count("missed", deadline.misses, earlier.misses);
        let share = misses as f64 / batches.max(1) as f64;
        card.number("missed in period [%]", 100.0 * share, 2);
        card.count("missed unexplained", deadline.unexplained_misses, earlier.unexplained_misses);
        card.text("missed in a row at worst", deadline.worst_consecutive);
        card.count("joint steps left out", deadline.skipped_joint_steps, earlier.skipped_joint_steps);
        card.text("payload changes noticed", now.health.payload_changes);
        let level = if share > thresholds.misses_error {
            DiagnosticStatus::ERROR
        } else if share > thresholds.misses_warn {
            DiagnosticStatus::WARN
        } else {
            DiagnosticStatus::OK
        };
        let missed = format!(
            "{misses} of {batches} batches missed ({} of {} in all)",
            deadline.misses, deadline.batches
        );
        if level > DiagnosticStatus::OK {
            card.complain(level, missed.clone());
        }
        for (joint, name) in joints.iter().enumerate() {
            let (learner, rigid_body) = now.health.rms(joint);
            card.text(format!("gate open {name} [0/1]"), u8::from(now.health.is_open(joint)));
            card.number(format!("error {name} [Nm]"), learner, 4);
            card.number(format!("error of rigid body {name} [Nm]"), rigid_body, 4);
            let tolerated = (thresholds.error_ratio * rigid_body).max(NEGLIGIBLE_NM);
            if now.is_active() && now.learning && learner > tolerated {
                let text = format!("{name} errs by {learner:.3} Nm, the rigid body by {rigid_body:.3} Nm");
                card.complain(DiagnosticStatus::WARN, text);
            }
        }
        card.summary = match (now.learning, batches) {
            _ if !now.is_active() => "not active".into(),
            (false, _) => "not learning".into(),
            (true, 0) => "no batch in this period".into(),
            (true, _) if misses == 0 => format!("{batches} batches, none missed"),
            (true, _) => missed,
        };
        card
    }

    fn latency(&self) -> Card {
        let Period { now, before, .. } = self;
        let mut card = Card::default();
        for &stage in Stage::ALL {
            let name = stage.name();
            let figures = &now.latency[stage as usize];
            for (percentiles, span) in [(&figures.window, " in period"), (&figures.run, "")] {
                let known = |us: f64| if percentiles.count > 0 { us } else { f64::NAN };
                for (key, us) in [
                    ("p50", percentiles.p50_us),
                    ("p99", percentiles.p99_us),
                    ("p99.9", percentiles.p999_us),
                    ("max", percentiles.max_us),
                ] {
                    card.number(format!("{name} {key}{span} [us]"), known(us), 1);
                }
            }
        }
        let lost = card.count("telemetry lost", now.counts.telemetry_lost, before.counts.telemetry_lost);
        if lost > 0 {
            card.complain(DiagnosticStatus::WARN, format!("{lost} timings lost"));
        }
        let window = &now.latency[Stage::ArrivalToTorque as usize].window;
        card.summary = match window.count {
            0 => "nothing timed in this period".into(),
            _ => format!(
                "arrival to torque: p50 {:.0} us, p99.9 {:.0} us, max {:.0} us",
                window.p50_us, window.p999_us, window.max_us
            ),
        };
        card
    }

    fn real_time(&self) -> Card {
        let Period { now, before, .. } = self;
        let mut card = Card::default();
        let thread = now.pinned.map_or("none", |status| match status {
            Status::Running => "running",
            Status::Stopped => "stopped",
            Status::Panicked => "panicked",
        });
        card.text("pinned thread", thread);
        if now.pinned == Some(Status::Panicked) {
            card.complain(DiagnosticStatus::ERROR, "the pinned thread panicked; zero torque was sent".into());
        }
        let grants = now.grants.as_ref();
        let asked = [
            ("scheduling", grants.map(|grants| &grants.priority)),
            ("affinity", grants.map(|grants| &grants.affinity)),
            ("memory lock", grants.map(|grants| &grants.memory)),
        ];
        for (what, grant) in asked {
            card.text(what, grant.map(ToString::to_string).unwrap_or_default());
        }
        let cpus = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        card.text("CPUs", grants.map(|grants| cpus(&grants.cpus)).unwrap_or_default());
        card.text("isolated CPUs", grants.map(|grants| cpus(&grants.isolated)).unwrap_or_default());
        let refused = asked.iter().filter(|(_, grant)| grant.is_some_and(|grant| grant.is_refused()));
        let refused: Vec<_> = refused.map(|(what, _)| *what).collect();
        card.text("not granted", refused.len());
        if !refused.is_empty() {
            card.complain(DiagnosticStatus::WARN, format!("not granted: {}", refused.join(", ")));
        }
        let mut count = |key: &str, of: fn(&RunCounts) -> Option<u64>| {
            card.count_if_known(key, of(&now.counts), of(&before.counts))
        };
        let allocated = count("allocations", |counts| Some(counts.allocations?.allocated));
        let freed = count("frees", |counts| Some(counts.allocations?.freed));
        count("minor page faults", |counts| Some(counts.page_faults?.minor));
        let major = count("major page faults", |counts| Some(counts.page_faults?.major));
        if allocated + freed > 0 {
            let text = format!("the pinned thread allocated {allocated} and freed {freed} times");
            card.complain(DiagnosticStatus::WARN, text);
        }
        if major > 0 {
            let text = format!("the pinned thread waited {major} times for the disk (page faults)");
            card.complain(DiagnosticStatus::WARN, text);
        }
        let resident = now.resident_bytes.map_or(f64::NAN, |bytes| bytes as f64 / f64::from(1 << 20));
        card.number("resident memory [MiB]", resident, 1);
        card.summary = match (now.pinned, grants) {
            (Some(Status::Running), Some(_)) => "everything asked for was granted".into(),
            _ => format!("pinned thread: {thread}"),
        };
        card
    }

    fn output(&self) -> Card {
        let Period { now, before, .. } = self;
        let mut card = Card::default();
        let rate = self.per_second(now.published, before.published);
        card.text("active [0/1]", u8::from(now.is_active()));
        card.text("enabled [0/1]", u8::from(now.enabled));
        card.number("rate [Hz]", rate, 1);
        card.count("published", now.published, before.published);
        let refused = card.count("refused", now.refused, before.refused);
        let (counts, earlier) = (&now.counts, &before.counts);
        let overwritten = card.count("overwritten", counts.torques_overwritten, earlier.torques_overwritten);
        let non_finite = card.count("not finite", counts.non_finite, earlier.non_finite);
        let clipped = card.count("clipped", counts.clipped, earlier.clipped);
        if non_finite > 0 {
            card.complain(DiagnosticStatus::ERROR, format!("{non_finite} torques were not finite"));
        }
        if refused > 0 {
            card.complain(DiagnosticStatus::WARN, format!("{refused} torques refused by the middleware"));
        }
        if overwritten > 0 {
            let text = format!("{overwritten} torques overwritten before they were published");
            card.complain(DiagnosticStatus::WARN, text);
        }
        card.summary = match (now.is_active(), now.enabled) {
            (false, _) => "not active".into(),
            (true, false) => "disabled: zero torque".into(),
            (true, true) if clipped > 0 => format!("{rate:.0} Hz, {clipped} torques clipped"),
            (true, true) => format!("{rate:.0} Hz"),
        };
        card
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realtime::latency::{Percentiles, StageWindow};
    use crate::realtime::runtime::SampleTiming;
    use crate::realtime::thread::{Allocations, Grant, PageFaults};

    const S: i64 = 1_000_000_000;

    fn granted() -> Grants {
        Grants {
            affinity: Grant::Granted("CPU 3".into()),
            priority: Grant::Granted("SCHED_FIFO 80".into()),
            memory: Grant::Granted("all memory locked".into()),
            cpus: vec![3],
            isolated: vec![2, 3],
            spinning: vec![],
        }
    }

    /// A node that does well, after `second` seconds.
    fn well(second: u64) -> Snapshot {
        let mut health = Health { gates_open: 0b01, scored: 0b11, ..Health::default() };
        health.learner_mse[..2].copy_from_slice(&[0.04, 1.0]);
        health.rigid_body_mse[..2].copy_from_slice(&[1.0, 1.0]);
        let percentiles =
            Percentiles { count: 1000, p50_us: 40.0, p999_us: 90.0, max_us: 120.0, ..Percentiles::default() };
        let mut latency = Window::default();
        latency[Stage::ArrivalToTorque as usize] = StageWindow { window: percentiles, run: percentiles };
        let input =
            |topic: &str, steady, received| Input { topic: topic.into(), steady, received, lost: Some(0) };
        Snapshot {
            stamp_ns: 1_700_000_000 * S + second as i64 * S,
            at_ns: second as i64 * S,
            lifecycle: "active".into(),
            inputs: vec![
                input("/joint_states", true, 1000 * second),
                input("/reference", false, 100 * second),
            ],
            samples: 1000 * second,
            newest_ns: Some(second as i64 * S - 1_000_000),
            learning: true,
            deadline: Deadline { batches: 100 * second, ..Deadline::default() },
            health,
            latency,
            pinned: Some(Status::Running),
            grants: Some(granted()),
            counts: RunCounts {
                allocations: Some(Allocations::default()),
                page_faults: Some(PageFaults { minor: 2, major: 0 }),
                ..RunCounts::default()
            },
            published: 1000 * second,
            enabled: true,
            resident_bytes: Some(64 << 20),
            ..Snapshot::default()
        }
    }

    fn diagnostics() -> Diagnostics {
        Diagnostics::new("/arm/metagd", "lwr", &["a1".into(), "a2".into()], Thresholds::default(), 0)
    }

    /// The status of `subject` on the fifth second, which `change` makes what it is, after four good ones.
    fn fifth(subject: &str, change: impl FnOnce(&mut Snapshot)) -> DiagnosticStatus {
        let mut diagnostics = diagnostics();
        (1..5).for_each(|second| _ = diagnostics.report(&well(second)));
        let mut now = well(5);
        change(&mut now);
        find(&diagnostics.report(&now), subject)
    }

    fn find(array: &DiagnosticArray, subject: &str) -> DiagnosticStatus {
        array.status.iter().find(|status| status.name.ends_with(&format!(": {subject}"))).unwrap().clone()
    }

    fn value(status: &DiagnosticStatus, key: &str) -> String {
        let found: Vec<_> = status.values.iter().filter(|row| row.key == key).collect();
        assert_eq!(found.len(), 1, "{key} in {:?}", status.values);
        found[0].value.clone()
    }

    #[track_caller]
    fn says(status: &DiagnosticStatus, level: u8, message: &str) {
        assert_eq!((status.level, &*status.message), (level, message));
    }

    use DiagnosticStatus as Is;

    #[test]
    fn a_node_that_does_well_says_so() {
        let mut diagnostics = diagnostics();
        (1..5).for_each(|second| _ = diagnostics.report(&well(second)));
        let array = diagnostics.report(&well(5));
        assert_eq!(array.header.stamp, Time { sec: 1_700_000_005, nanosec: 0 });
        let said: Vec<_> = array.status.iter().map(|status| (&*status.name, &*status.message)).collect();
        assert_eq!(
            said,
            [
                ("arm/metagd: input", "1000 Hz, nothing dropped"),
                ("arm/metagd: learning", "100 batches, none missed"),
                ("arm/metagd: latency", "arrival to torque: p50 40 us, p99.9 90 us, max 120 us"),
                ("arm/metagd: real time", "everything asked for was granted"),
                ("arm/metagd: output", "1000 Hz"),
            ]
        );
        assert!(array.status.iter().all(|status| status.level == Is::OK && status.hardware_id == "lwr"));
        let [input, learning, latency, real_time, output] = &array.status[..] else { unreachable!() };
        assert_eq!(value(input, "rate /reference [Hz]"), "100.0");
        assert_eq!(value(input, "usual rate /joint_states [Hz]"), "1000.0");
        assert_eq!(value(input, "age of newest sample [ms]"), "1.0");
        assert_eq!(value(learning, "gate open a2 [0/1]"), "0");
        assert_eq!(value(learning, "error a1 [Nm]"), "0.2000");
        assert_eq!(value(latency, "arrival_to_torque p99.9 in period [us]"), "90.0");
        assert_eq!(value(latency, "probe max [us]"), "nan");
        assert_eq!(value(real_time, "scheduling"), "SCHED_FIFO 80");
        assert_eq!(value(real_time, "CPUs"), "3");
        assert_eq!(value(real_time, "resident memory [MiB]"), "64.0");
        assert_eq!(value(output, "published in period"), "1000");
    }

    #[test]
    fn keys_and_their_order_are_those_of_the_first_report_whatever_happens() {
        let mut diagnostics = diagnostics();
        let keys = |array: &DiagnosticArray| -> Vec<Vec<String>> {
            array
                .status
                .iter()
                .map(|status| status.values.iter().map(|row| row.key.clone()).collect())
                .collect()
        };
        let inputs = well(0).inputs;
        let first = keys(&diagnostics.report(&Snapshot { inputs, ..Snapshot::default() }));
        let mut bad = well(1);
        bad.drops[DropReason::Stale as usize] = 3;
        bad.inputs[0].lost = Some(1);
        bad.health.learner_mse[0] = f64::INFINITY;
        bad.counts = RunCounts { non_finite: 7, ring_full: 2, ..RunCounts::default() };
        bad.pinned = Some(Status::Panicked);
        for snapshot in [well(1), bad, well(2)] {
            assert_eq!(keys(&diagnostics.report(&snapshot)), first);
        }
        for keys in first {
            let mut once = keys.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), keys.len(), "{keys:?}");
        }
    }

    #[test]
    fn an_active_node_without_samples_is_stale() {
        says(&find(&diagnostics().report(&well(0)), "input"), Is::STALE, "no sample for 1 ms");
        let never = fifth("input", |now| (now.samples, now.newest_ns) = (4000, None));
        says(&never, Is::STALE, "no sample yet");
        let none = fifth("input", |now| (now.samples, now.newest_ns) = (4000, Some(4 * S)));
        says(&none, Is::STALE, "no sample for 1000 ms");
        let late = fifth("input", |now| now.newest_ns = Some(5 * S - 21_000_000));
        says(&late, Is::STALE, "no sample for 21 ms");
        let in_time = fifth("input", |now| now.newest_ns = Some(5 * S - 19_000_000));
        assert_eq!(in_time.level, Is::OK);
        let inactive = fifth("input", |now| {
            (now.samples, now.newest_ns, now.lifecycle) = (4000, None, "inactive".into());
        });
        says(&inactive, Is::OK, "not active");
    }

    #[test]
    fn a_steady_topics_rate_is_held_against_the_usual_one() {
        says(&fifth("input", |now| now.inputs[0].received = 4910), Is::OK, "910 Hz, nothing dropped");
        let slow = fifth("input", |now| now.inputs[0].received = 4800);
        says(&slow, Is::WARN, "800 Hz instead of 1000 Hz on /joint_states");
        let silent = fifth("input", |now| now.inputs[0].received = 4000);
        says(&silent, Is::WARN, "nothing on /joint_states");
        let pausing = fifth("input", |now| now.inputs[1].received = 400);
        assert_eq!(pausing.level, Is::OK, "references come and go");
    }

    #[test]
    fn a_lasting_rate_becomes_the_usual_one_and_silence_never_does() {
        let mut usual = UsualRate::default();
        [1000.0, 990.0].into_iter().for_each(|rate| usual.add(rate));
        assert_eq!(usual.median(), None, "too early to say");
        (0..100).for_each(|_| usual.add(1000.0));
        (0..100).for_each(|_| usual.add(0.0));
        usual.add(f64::NAN);
        (0..29).for_each(|_| usual.add(500.0));
        assert_eq!(usual.median(), Some(1000.0));
        (0..3).for_each(|_| usual.add(500.0));
        assert_eq!(usual.median(), Some(500.0));
        assert_eq!(usual.recent.len(), USUAL_OF);
    }

    #[test]
    fn what_was_dropped_or_lost_in_the_period_is_warned_of_once() {
        let mut diagnostics = diagnostics();
        let mut now = well(1);
        now.drops[DropReason::Stale as usize] = 3;
        now.drops[DropReason::Torque as usize] = 1;
        now.counts.ring_full = 2;
        now.inputs[1].lost = Some(5);
        let input = find(&diagnostics.report(&now), "input");
        says(&input, Is::WARN, "5 lost on the wire; 6 dropped (3 stale, 2 ring_full, 1 torque)");
        assert_eq!(value(&input, "dropped ring_full in period"), "2");
        let mut later = well(2);
        (later.drops, later.counts.ring_full, later.inputs[1].lost) = (now.drops, 2, Some(5));
        let input = find(&diagnostics.report(&later), "input");
        says(&input, Is::OK, "1000 Hz, nothing dropped");
        assert_eq!((value(&input, "dropped"), value(&input, "dropped in period")), ("6".into(), "0".into()));
        assert_eq!(value(&input, "lost on the wire /reference"), "5");
    }

    #[test]
    fn misses_count_by_their_share_of_the_period() {
        let missed = |misses| fifth("learning", |now| now.deadline.misses = misses);
        says(&missed(0), Is::OK, "100 batches, none missed");
        says(&missed(1), Is::WARN, "1 of 100 batches missed (1 of 500 in all)");
        says(&missed(5), Is::WARN, "5 of 100 batches missed (5 of 500 in all)");
        says(&missed(6), Is::ERROR, "6 of 100 batches missed (6 of 500 in all)");
        let few = fifth("learning", |now| (now.deadline.batches, now.deadline.misses) = (10_400, 10));
        says(&few, Is::OK, "10 of 10000 batches missed (10 of 10400 in all)");
    }

    #[test]
    fn a_learner_worse_than_the_rigid_body_is_warned_of_while_it_learns() {
        let err = |now: &mut Snapshot| now.health.learner_mse[1] = 2.26;
        says(&fifth("learning", err), Is::WARN, "a2 errs by 1.503 Nm, the rigid body by 1.000 Nm");
        let a_little = fifth("learning", |now| now.health.learner_mse[1] = 2.24);
        assert_eq!(a_little.level, Is::OK);
        let frozen = fifth("learning", |now| (now.learning, now.health.learner_mse[1]) = (false, 9.0));
        says(&frozen, Is::OK, "not learning");
        let unscored = fifth("learning", |now| (now.health.scored, now.health.learner_mse[1]) = (0b01, 9.0));
        assert_eq!((unscored.level, value(&unscored, "error a2 [Nm]")), (Is::OK, "nan".into()));
        let tiny = fifth("learning", |now| {
            (now.health.learner_mse[1], now.health.rigid_body_mse[1]) = (0.9e-6, 0.0);
        });
        assert_eq!(tiny.level, Is::OK);
    }

    #[test]
    fn what_stops_the_node_is_an_error() {
        let lifecycle = fifth("learning", |now| now.lifecycle = "errorprocessing".into());
        says(&lifecycle, Is::ERROR, "error processing");
        let panicked = fifth("real time", |now| now.pinned = Some(Status::Panicked));
        says(&panicked, Is::ERROR, "the pinned thread panicked; zero torque was sent");
        let non_finite = fifth("output", |now| now.counts.non_finite = 2);
        says(&non_finite, Is::ERROR, "2 torques were not finite");
    }

    #[test]
    fn what_the_kernel_refused_and_what_the_pinned_thread_must_not_do_is_warned_of() {
        let refused = fifth("real time", |now| {
            let (asked, why, remedy) = ("SCHED_FIFO 80".into(), "EPERM".into(), "be root".into());
            now.grants.as_mut().unwrap().priority = Grant::Refused { asked, why, remedy };
        });
        says(&refused, Is::WARN, "not granted: scheduling");
        assert!(value(&refused, "scheduling").contains("be root"));
        let busy = fifth("real time", |now| {
            now.counts.allocations = Some(Allocations { allocated: 2, freed: 1 });
            now.counts.page_faults = Some(PageFaults { minor: 900, major: 3 });
        });
        assert_eq!(busy.level, Is::WARN);
        assert!(
            busy.message.contains("allocated 2 and freed 1") && busy.message.contains("3 times for the disk")
        );
        let minor = fifth("real time", |now| now.counts.page_faults.as_mut().unwrap().minor = 900);
        assert_eq!(minor.level, Is::OK);
        let unknown = fifth("real time", |now| now.counts.page_faults = None);
        assert_eq!((unknown.level, value(&unknown, "major page faults")), (Is::OK, "nan".into()));
        let none = fifth("real time", |now| (now.pinned, now.grants) = (None, None));
        says(&none, Is::OK, "pinned thread: none");
    }

    #[test]
    fn what_did_not_go_out_is_told() {
        let lost = fifth("output", |now| (now.refused, now.counts.torques_overwritten) = (3, 4));
        let text = "3 torques refused by the middleware; 4 torques overwritten before they were published";
        says(&lost, Is::WARN, text);
        says(&fifth("output", |now| now.enabled = false), Is::OK, "disabled: zero torque");
        says(&fifth("output", |now| now.counts.clipped = 9), Is::OK, "1000 Hz, 9 torques clipped");
        says(&fifth("latency", |now| now.counts.telemetry_lost = 8), Is::WARN, "8 timings lost");
    }

    #[test]
    fn counts_that_began_anew_and_a_clock_that_stands_do_no_harm() {
        let status = fifth("output", |now| now.published = 30);
        assert_eq!(value(&status, "published in period"), "30");
        let status = fifth("output", |now| now.at_ns = 4 * S);
        assert_eq!(value(&status, "rate [Hz]"), "nan");
        let status = fifth("input", |now| (now.at_ns, now.newest_ns) = (i64::MIN, Some(i64::MAX)));
        assert_eq!(value(&status, "rate /joint_states [Hz]"), "nan");
    }

    #[test]
    fn a_snapshot_takes_in_telemetry_and_drops() {
        let mut snapshot = Snapshot::default();
        snapshot.record(&Telemetry::Sample(SampleTiming { arrival_ns: 7, ..SampleTiming::default() }));
        let health = Health { gates_open: 1, ..Health::default() };
        snapshot.record(&Telemetry::Batch(crate::realtime::BatchReport { health, ..Default::default() }));
        assert_eq!((snapshot.samples, snapshot.newest_ns, snapshot.health), (1, Some(7), health));
        let drops = Drops::default();
        drops.count(DropReason::Future);
        snapshot.set_drops(&drops);
        snapshot.counts.ring_full = 2;
        assert_eq!(snapshot.dropped(DropReason::Future), 1);
        assert_eq!(snapshot.dropped(DropReason::RingFull), 2);
        assert_eq!(snapshot.dropped(DropReason::Stale), 0);
    }
}
