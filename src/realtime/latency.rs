//! Latency on record: every stage's histogram, the deadline's misses and what explains them, as `.hlog` and JSON.
//!
//! Contract: owned by housekeeping, which feeds it [`Telemetry`] and the probe's [`Tick`]s and may allocate and write files
//! here; the pinned thread never comes near. Histograms have three significant digits, nanoseconds as unit and fixed bounds
//! (1 ns to 60 s; what lies beyond is recorded at the bound), and take memory as far as values reach.
//!
//! **Three spans.** The whole run; the present interval of the `.hlog`; and the *window* since [`LatencyLog::take_window`] was
//! last called, for whoever shows the figures now and then. A window's histograms have two significant digits: all of them
//! together take at most 0.2 MB, where those of the interval take 1 MB and those of the run, which count further, 2 MB.
//!
//! **Files.** `latency.hlog` is an HdrHistogram interval log, one line per stage and interval, tagged with the stage's name,
//! that HdrHistogram's own tools read; misses and drops stand in it as comments. `latency.json` is a [`Summary`].
//!
//! **Misses and stalls.** A miss is *explained* if, without the time that the machine took away between the arrival of
//! the batch's last sample and the end of its steps, everything (what was left out included) would have fitted the
//! deadline. Time that the machine took away is what the probe overslept, what a waiting thread was woken late, and what a
//! step's wall clock exceeds its CPU time by: the pinned thread neither blocks nor faults in a step, so if it did not
//! run, something else did. (A guest's CPU time may include what the host stole; then only the probe and late wakings
//! witness it.) What is not explained is ours, and should be zero.
//!
//! **Coordinated omission.** Latencies count from arrival, so a stalled thread does not omit what queues meanwhile; but what
//! was never sent or was lost on the wire is omitted. `corrected` adds HdrHistogram's correction for the mean interval
//! between samples.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};
use hdrhistogram::{Counter, Histogram};
use serde::{Deserialize, Serialize};

use super::intake::{DropReason, Drops};
use super::pipeline::BatchReport;
use super::probe::Tick;
use super::runtime::{RunCounts, SampleTiming, Telemetry};
use super::thread::{Grants, resident_bytes};
use crate::config::Config;

/// The largest latency that is told apart, ns.
const HIGHEST: u64 = 60_000_000_000;

/// As far as a histogram reaches from the start, ns.
const USUAL: u64 = 1_000_000;

/// Significant digits of what is written down.
const DIGITS: u8 = 3;

/// Significant digits of a window.
const WINDOW_DIGITS: u8 = 2;

/// Stalls shorter than this are not written down, ns.
const STALL: i64 = 100_000;

/// How long after a miss its stalls may still be reported, ns.
const SETTLED_AFTER: i64 = 2_000_000_000;

/// Samples that are further apart are not of one stream, ns.
const PAUSE: i64 = 1_000_000_000;

/// Stalls that are remembered.
const STALLS: usize = 65_536;

/// What precedes our own figures in an `.hlog`, in a comment.
const COMMENT: &str = "#[metagd: ";

macro_rules! stages {
    ($( $(#[doc = $doc:literal])* $variant:ident = $name:literal; )*) => {
        /// What is timed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Stage {
            $( $(#[doc = $doc])* $variant, )*
        }

        impl Stage {
            /// Every stage, in the order of a sample's way.
            pub const ALL: &[Stage] = &[ $( Stage::$variant, )* ];

            /// Its name in JSON, and its tag in an `.hlog`.
            pub fn name(self) -> &'static str {
                match self { $( Stage::$variant => $name, )* }
            }
        }
    };
}

stages! {
    /// From a message's stamp to its arrival, by the wall clock.
    Transport = "transport";
    /// From a sample's push to the waiting pinned thread's taking it.
    WakeUp = "wake_up";
    /// Prediction, gate and limits.
    Predict = "predict";
    /// From a sample's arrival until its torque was handed over.
    ArrivalToTorque = "arrival_to_torque";
    /// All joints' steps, by the clock on the wall.
    StepWall = "step_wall";
    /// All joints' steps, by the thread's CPU time.
    StepCpu = "step_cpu";
    /// From the arrival of a batch's last sample until its last joint's step was done.
    BatchToDone = "batch_to_done";
    /// By how much the probe woke late, beside the run.
    Probe = "probe";
    /// By how much a probe on the pinned thread's own CPU woke late, before the run.
    ProbeBefore = "probe_before";
}

/// Why an interval log could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LatencyError {
    /// The file system's answer.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No interval log, or one without any interval.
    #[error("{path}: not an HdrHistogram interval log ({why}); give a `latency.hlog` from a run's folder", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The log breaks off, or a line of it is damaged.
    #[error("{path}, line {line}: {why}; the file is truncated or damaged", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// Percentiles of one stage, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many were recorded.
    pub count: u64,
    /// The median.
    pub p50_us: f64,
    /// 90 % are at or below this.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// 99.99 %.
    pub p9999_us: f64,
    /// The largest.
    pub max_us: f64,
}

impl Percentiles {
    /// Of a histogram of nanoseconds.
    pub fn of<C: Counter>(histogram: &Histogram<C>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 * 1e-3;
        Percentiles {
            count: histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: histogram.max() as f64 * 1e-3,
        }
    }
}

/// One stage of a [`Summary`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSummary {
    /// As recorded.
    #[serde(flatten)]
    pub raw: Percentiles,
    /// Corrected for coordinated omission by the mean interval between samples (`arrival_to_torque` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<Percentiles>,
}

/// How the deadline was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// Full batches.
    pub batches: u64,
    /// Batches that were not done, or not wholly, by the deadline.
    pub misses: u64,
    /// The longest run of misses.
    pub worst_consecutive: u64,
    /// Misses that no stall of the machine explains.
    #[serde(default)]
    pub unexplained_misses: u64,
    /// Joint steps left out.
    #[serde(default)]
    pub skipped_joint_steps: u64,
}

/// What the pinned thread did besides, since it was ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedThread {
    /// Allocations; absent where they were not counted.
    pub allocations: Option<u64>,
    /// Frees; absent where they were not counted.
    pub frees: Option<u64>,
    /// Page faults without the disk; absent if the kernel does not tell.
    pub minor_faults: Option<u64>,
    /// Page faults with it.
    pub major_faults: Option<u64>,
    /// Torques overwritten before anyone received them.
    pub torques_overwritten: u64,
    /// Telemetry lost because nobody fetched it: the histograms lack as many entries.
    pub telemetry_lost: u64,
    /// Predicted torques that were not finite, per joint and sample (none of them went out).
    pub non_finite: u64,
}

/// One stage's latencies in a window, beside those of the run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageWindow {
    /// Since the window before was taken; within 1 %.
    pub window: Percentiles,
    /// Since the run began; within 0.1 %.
    pub run: Percentiles,
}

/// Every stage's, in the order of [`Stage::ALL`]: index it by `stage as usize`.
pub type Window = [StageWindow; Stage::ALL.len()];

/// A run's latencies: the JSON form that the README promises.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// By [`Stage::name`]; stages of which nothing was recorded are left out.
    pub stages: BTreeMap<String, StageSummary>,
    /// How the deadline was kept.
    pub deadline: Deadline,
    /// By [`DropReason::name`], zeros included.
    pub drops: BTreeMap<String, u64>,
    /// What else the pinned thread did; absent where only `.hlog` files were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_thread: Option<PinnedThread>,
    /// The process's resident memory as it last was while the run went on, bytes; absent where only `.hlog` files were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// What was not granted, in words; empty if everything was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_granted: Vec<String>,
}

/// Time that the machine took away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stall {
    from_ns: i64,
    to_ns: i64,
}

/// A miss that waits for the stalls that may explain it.
#[derive(Clone, Copy, Debug)]
struct Miss {
    arrival_ns: i64,
    done_ns: i64,
    left_out_ns: i64,
}

/// The log of one run; see the module's documentation.
pub struct LatencyLog {
    total: Vec<Histogram<u64>>,
    interval: Vec<Histogram<u32>>,
    window: Vec<Histogram<u32>>,
    hlog: Option<(PathBuf, BufWriter<File>)>,
    json: Option<PathBuf>,
    every: Duration,
    began: (SystemTime, Instant),
    interval_began: Duration,
    deadline_ns: i64,
    deadline: Deadline,
    consecutive: u64,
    stalls: Vec<Stall>,
    misses: Vec<Miss>,
    arrivals: Option<(i64, i64, u64)>,
    grants: Option<Grants>,
    resident_bytes: Option<u64>,
}

impl LatencyLog {
    /// A log whose files go to `folder` (which is made), or nowhere.
    ///
    /// # Errors
    /// [`LatencyError::Io`].
    pub fn new(config: &Config, folder: Option<&Path>) -> Result<Self, LatencyError> {
        let began = (SystemTime::now(), Instant::now());
        let hlog = folder.map(|folder| begin_hlog(folder, began.0)).transpose()?;
        Ok(LatencyLog {
            total: empty(DIGITS),
            interval: empty(DIGITS),
            window: empty(WINDOW_DIGITS),
            hlog,
            json: folder.map(|folder| folder.join("latency.json")),
            every: Duration::from_secs_f64(config.hlog_interval),
            began,
            interval_began: Duration::ZERO,
            deadline_ns: (config.deadline * 1e6) as i64,
            deadline: Deadline::default(),
            consecutive: 0,
            stalls: Vec::new(),
            misses: Vec::new(),
            arrivals: None,
            grants: None,
            resident_bytes: None,
        })
    }

    /// What the system granted the run, for the summary.
    pub fn set_grants(&mut self, grants: &Grants) {
        self.grants = Some(grants.clone());
    }

    /// Takes in what the pinned thread told.
    pub fn record(&mut self, telemetry: &Telemetry) {
        match telemetry {
            Telemetry::Sample(timing) => self.record_sample(timing),
            Telemetry::Batch(report) => self.record_batch(report),
        }
    }

    fn record_sample(&mut self, timing: &SampleTiming) {
        if let Some(ns) = timing.transport_ns {
            self.add(Stage::Transport, ns);
        }
        if let Some(ns) = timing.wake_up_ns {
            self.add(Stage::WakeUp, ns);
            let taken_ns = timing.arrival_ns + timing.arrival_to_torque_ns - timing.predict_ns;
            self.stalled(taken_ns - ns, taken_ns);
        }
        self.add(Stage::Predict, timing.predict_ns);
        self.add(Stage::ArrivalToTorque, timing.arrival_to_torque_ns);
        let at = timing.arrival_ns;
        // What was never meant to come, while the node was not active, is no omission.
        let pause = |last: i64| Some(at - last).filter(|apart| *apart > PAUSE).unwrap_or(0);
        let arrivals = self.arrivals.map(|(first, last, n)| (first + pause(last), at, n + 1));
        self.arrivals = Some(arrivals.unwrap_or((at, at, 1)));
    }

    fn record_batch(&mut self, report: &BatchReport) {
        if report.done > 0 {
            let wall_ns = report.done_ns - report.started_ns;
            self.add(Stage::StepWall, wall_ns);
            self.add(Stage::StepCpu, report.cpu_ns);
            self.add(Stage::BatchToDone, report.done_ns - report.arrival_ns);
            self.stalled(report.started_ns, report.started_ns + (wall_ns - report.cpu_ns));
        }
        let deadline = &mut self.deadline;
        deadline.batches += 1;
        deadline.skipped_joint_steps += u64::from(report.skipped);
        if report.missed {
            self.missed(report);
        } else {
            self.consecutive = 0;
        }
        // With no probe to do it, misses would pile up until the end.
        self.settle(report.done_ns.saturating_sub(SETTLED_AFTER));
    }

    fn missed(&mut self, report: &BatchReport) {
        let deadline = &mut self.deadline;
        self.consecutive += 1;
        deadline.misses += 1;
        deadline.worst_consecutive = deadline.worst_consecutive.max(self.consecutive);
        let &BatchReport { arrival_ns, done_ns, left_out_ns, .. } = report;
        self.misses.push(Miss { arrival_ns, done_ns, left_out_ns });
    }

    /// Takes in a waking of the probe that runs beside the pinned thread.
    pub fn record_probe(&mut self, tick: &Tick) {
        self.add(Stage::Probe, tick.late_ns);
        self.stalled(tick.woke_ns - tick.late_ns, tick.woke_ns);
        self.settle(tick.woke_ns - SETTLED_AFTER);
    }

    /// Takes in a waking of the probe that ran on the pinned thread's CPU before the run.
    pub fn record_probe_before(&mut self, tick: &Tick) {
        self.add(Stage::ProbeBefore, tick.late_ns);
    }

    fn add(&mut self, stage: Stage, ns: i64) {
        let value = ns.clamp(1, HIGHEST as i64) as u64;
        record(&mut self.total[stage as usize], value);
        record(&mut self.interval[stage as usize], value);
        record(&mut self.window[stage as usize], value);
    }

    fn stalled(&mut self, from_ns: i64, to_ns: i64) {
        if to_ns.saturating_sub(from_ns) < STALL {
            return;
        }
        if self.stalls.len() >= STALLS {
            self.stalls.drain(..STALLS / 2);
        }
        self.stalls.push(Stall { from_ns, to_ns });
    }

    /// Decides on the misses that ended before `until_ns`, and forgets them.
    fn settle(&mut self, until_ns: i64) {
        let (stalls, deadline_ns) = (&self.stalls, self.deadline_ns);
        let unexplained = &mut self.deadline.unexplained_misses;
        self.misses.retain(|miss| {
            let pending = miss.done_ns > until_ns;
            if !pending && !is_explained(miss, stalls, deadline_ns) {
                *unexplained += 1;
            }
            pending
        });
    }

    /// How the deadline was kept so far. A miss counts as unexplained once nothing can explain it any more: 2 s later.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Every stage's latencies since this was last called, beside those of the run. The next window begins here, so let one
    /// reader have it; the `.hlog` has intervals of its own. Takes about a millisecond.
    pub fn take_window(&mut self) -> Window {
        std::array::from_fn(|stage| {
            let window = Percentiles::of(&self.window[stage]);
            self.window[stage].reset();
            StageWindow { window, run: Percentiles::of(&self.total[stage]) }
        })
    }

    /// Writes an interval if one is over. Call it every now and then.
    ///
    /// # Errors
    /// [`LatencyError::Io`].
    pub fn tick(&mut self, drops: &Drops) -> Result<(), LatencyError> {
        if self.began.1.elapsed() - self.interval_began >= self.every {
            self.resident_bytes = resident_bytes();
            self.write_interval(drops)?;
        }
        Ok(())
    }

    fn write_interval(&mut self, drops: &Drops) -> Result<(), LatencyError> {
        let now = self.began.1.elapsed();
        let (start, length) = (self.interval_began, now - self.interval_began);
        self.interval_began = now;
        if let Some((path, file)) = &mut self.hlog {
            let written = write_lines(file, &self.interval, self.began.0, start, length)
                .and_then(|()| write_comment(file, &self.deadline, &drop_counts(drops, 0)))
                .and_then(|()| file.flush());
            written.map_err(|source| LatencyError::Io { path: path.clone(), source })?;
        }
        for histogram in &mut self.interval {
            histogram.reset();
        }
        Ok(())
    }

    /// The run so far.
    pub fn summary(&mut self, drops: &Drops, counts: &RunCounts) -> Summary {
        self.settle(i64::MAX);
        let mut stages = BTreeMap::new();
        for (stage, histogram) in Stage::ALL.iter().zip(&self.total) {
            if histogram.is_empty() {
                continue;
            }
            let corrected = match (stage, self.arrivals) {
                (Stage::ArrivalToTorque, Some((first, last, n))) if n > 1 && last > first => {
                    Some(corrected(histogram, (last - first) as u64 / (n - 1)))
                }
                _ => None,
            };
            stages.insert(stage.name().into(), StageSummary { raw: Percentiles::of(histogram), corrected });
        }
        Summary {
            stages,
            deadline: self.deadline,
            drops: drop_counts(drops, counts.ring_full),
            pinned_thread: Some(PinnedThread {
                allocations: counts.allocations.map(|counted| counted.allocated),
                frees: counts.allocations.map(|counted| counted.freed),
                minor_faults: counts.page_faults.map(|faults| faults.minor),
                major_faults: counts.page_faults.map(|faults| faults.major),
                torques_overwritten: counts.torques_overwritten,
                telemetry_lost: counts.telemetry_lost,
                non_finite: counts.non_finite,
            }),
            resident_bytes: self.resident_bytes.or_else(resident_bytes),
            not_granted: self.grants.iter().flat_map(Grants::refusals).map(ToString::to_string).collect(),
        }
    }

    /// Writes the last interval and `latency.json`, and returns the summary.
    ///
    /// # Errors
    /// [`LatencyError::Io`].
    pub fn finish(mut self, drops: &Drops, counts: &RunCounts) -> Result<Summary, LatencyError> {
        let summary = self.summary(drops, counts);
        self.write_interval(drops)?;
        if let Some((path, file)) = &mut self.hlog {
            write_comment(file, &summary.deadline, &summary.drops)
                .and_then(|()| file.flush())
                .map_err(|source| LatencyError::Io { path: path.clone(), source })?;
        }
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&summary).map_err(io::Error::from);
            text.and_then(|text| fs::write(path, text + "\n"))
                .map_err(|source| LatencyError::Io { path: path.clone(), source })?;
        }
        Ok(summary)
    }
}

/// One histogram per stage.
fn empty<C: Counter>(digits: u8) -> Vec<Histogram<C>> {
    Stage::ALL.iter().map(|_| histogram(digits)).collect()
}

fn histogram<C: Counter>(digits: u8) -> Histogram<C> {
    let mut histogram = Histogram::new_with_bounds(1, USUAL, digits).expect("these bounds are valid");
    histogram.auto(true);
    histogram
}

/// Counts a value of at most [`HIGHEST`].
fn record<C: Counter>(histogram: &mut Histogram<C>, value: u64) {
    histogram.record(value).expect("it grows as far as the value");
}

fn corrected(histogram: &Histogram<u64>, interval_ns: u64) -> Percentiles {
    Percentiles::of(&histogram.clone_correct(interval_ns))
}

fn drop_counts(drops: &Drops, ring_full: u64) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<_, _> =
        DropReason::ALL.iter().map(|&reason| (reason.name().to_string(), drops.get(reason))).collect();
    *counts.entry(DropReason::RingFull.name().into()).or_default() += ring_full;
    counts
}

/// Whether the batch would have kept the deadline without the stalls.
fn is_explained(miss: &Miss, stalls: &[Stall], deadline_ns: i64) -> bool {
    let mut within: Vec<(i64, i64)> = stalls
        .iter()
        .map(|stall| (stall.from_ns.max(miss.arrival_ns), stall.to_ns.min(miss.done_ns)))
        .filter(|(from, to)| from < to)
        .collect();
    within.sort_unstable();
    let (mut stalled_ns, mut counted_to) = (0, i64::MIN);
    for (from, to) in within {
        stalled_ns += (to - from.max(counted_to)).max(0);
        counted_to = counted_to.max(to);
    }
    miss.done_ns - miss.arrival_ns - stalled_ns + miss.left_out_ns <= deadline_ns
}

fn begin_hlog(folder: &Path, began: SystemTime) -> Result<(PathBuf, BufWriter<File>), LatencyError> {
    let path = folder.join("latency.hlog");
    let error = |source| LatencyError::Io { path: path.clone(), source };
    fs::create_dir_all(folder).map_err(error)?;
    let mut file = BufWriter::new(File::create(&path).map_err(error)?);
    let header = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Latencies in ns, one tag per stage]")
        .with_start_time(began)
        .begin_log_with(&mut file, &mut V2DeflateSerializer::new())
        .map(|_| ());
    header
        .and_then(|()| {
            writeln!(
                file,
                "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
            )
        })
        .map_err(error)?;
    Ok((path, file))
}

/// One line per stage that has anything in it.
fn write_lines(
    file: &mut BufWriter<File>,
    stages: &[Histogram<u32>],
    began: SystemTime,
    start: Duration,
    length: Duration,
) -> io::Result<()> {
    let since_epoch = began.duration_since(UNIX_EPOCH).unwrap_or_default() + start;
    let mut serializer = V2DeflateSerializer::new();
    // Without headers of its own: those stand at the beginning of the file.
    let mut writer = IntervalLogWriterBuilder::new().begin_log_with(file, &mut serializer)?;
    for (stage, histogram) in Stage::ALL.iter().zip(stages) {
        if !histogram.is_empty() {
            writer
                .write_histogram(histogram, since_epoch, length, Tag::new(stage.name()))
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
    }
    Ok(())
}

/// Our own figures, as they stand now.
#[derive(Default, Serialize, Deserialize)]
struct Figures {
    deadline: Deadline,
    drops: BTreeMap<String, u64>,
}

fn write_comment(
    file: &mut BufWriter<File>,
    deadline: &Deadline,
    drops: &BTreeMap<String, u64>,
) -> io::Result<()> {
    let figures = Figures { deadline: *deadline, drops: drops.clone() };
    writeln!(file, "{COMMENT}{}]", serde_json::to_string(&figures)?)
}

/// What an `.hlog` holds, summed over its intervals.
#[derive(Clone, Debug)]
pub struct Hlog {
    /// By tag; `default` for lines without one.
    pub stages: BTreeMap<String, Histogram<u64>>,
    /// The deadline's figures; zeros in logs that are not ours.
    pub deadline: Deadline,
    /// Drops by reason; empty in logs that are not ours.
    pub drops: BTreeMap<String, u64>,
    /// The intervals' total length, s, by tag.
    seconds: BTreeMap<String, f64>,
}

/// Reads an interval log: ours, or any that HdrHistogram's tools wrote with values in nanoseconds.
///
/// # Errors
/// [`LatencyError`], naming file and line.
pub fn read_hlog(path: &Path) -> Result<Hlog, LatencyError> {
    let bytes = fs::read(path).map_err(|source| LatencyError::Io { path: path.into(), source })?;
    let foreign = |why: &str| LatencyError::Foreign { path: path.into(), why: why.into() };
    let text = std::str::from_utf8(&bytes).map_err(|_| foreign("it is not text"))?;
    let mut hlog = Hlog {
        stages: BTreeMap::new(),
        deadline: Deadline::default(),
        drops: BTreeMap::new(),
        seconds: BTreeMap::new(),
    };
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let damaged = |why: String| LatencyError::Damaged { path: path.into(), line: index + 1, why };
        // Only once a line was an interval is the file known to be a log at all.
        let broken = |why: &str| {
            if hlog.stages.is_empty() { foreign(why) } else { damaged(why.to_string()) }
        };
        if let Some(figures) = line.strip_prefix(COMMENT) {
            let figures = figures.trim_end().strip_suffix(']').unwrap_or_default();
            let figures: Figures =
                serde_json::from_str(figures).map_err(|error| damaged(error.to_string()))?;
            (hlog.deadline, hlog.drops) = (figures.deadline, figures.drops);
            continue;
        }
        if line.trim().is_empty() || line.starts_with('#') || line.starts_with('"') {
            continue;
        }
        if !line.ends_with('\n') {
            return Err(broken("a line breaks off"));
        }
        let Some(Ok(LogEntry::Interval(interval))) = IntervalLogIterator::new(line.as_bytes()).next() else {
            return Err(broken("a line is no interval"));
        };
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(interval.encoded_histogram())
            .map_err(|error| broken(&error.to_string()))?;
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| broken(&error.to_string()))?;
        let tag = interval.tag().map_or("default", |tag| tag.as_str()).to_string();
        let sum = hlog.stages.entry(tag.clone()).or_insert_with(|| self::histogram(DIGITS));
        if histogram.max() > histogram.highest_equivalent(HIGHEST) {
            return Err(damaged(format!("a latency of {} ns, beyond {HIGHEST} ns", histogram.max())));
        }
        sum.add(&histogram).map_err(|error| damaged(error.to_string()))?;
        *hlog.seconds.entry(tag).or_default() += interval.duration().as_secs_f64();
    }
    if hlog.stages.is_empty() {
        return Err(foreign("it holds no interval"));
    }
    Ok(hlog)
}

impl Summary {
    /// Several logs as one: counts are summed, `worst_consecutive` is the worst of any.
    pub fn merge(logs: &[Hlog]) -> Summary {
        let mut summary = Summary::default();
        let mut merged: BTreeMap<&str, (Histogram<u64>, f64)> = BTreeMap::new();
        for log in logs {
            for (tag, histogram) in &log.stages {
                let (sum, seconds) = merged.entry(tag).or_insert_with(|| (self::histogram(DIGITS), 0.0));
                // Cannot fail: it grows as far as the values.
                let _ = sum.add(histogram);
                *seconds += log.seconds.get(tag).copied().unwrap_or_default();
            }
            let deadline = &mut summary.deadline;
            deadline.batches += log.deadline.batches;
            deadline.misses += log.deadline.misses;
            deadline.worst_consecutive = deadline.worst_consecutive.max(log.deadline.worst_consecutive);
            deadline.unexplained_misses += log.deadline.unexplained_misses;
            deadline.skipped_joint_steps += log.deadline.skipped_joint_steps;
            for (reason, count) in &log.drops {
                *summary.drops.entry(reason.clone()).or_default() += count;
            }
        }
        for (tag, (histogram, seconds)) in merged {
            let interval_ns = (seconds * 1e9 / histogram.len().max(1) as f64) as u64;
            let correct = tag == Stage::ArrivalToTorque.name() && interval_ns > 0;
            let corrected = correct.then(|| corrected(&histogram, interval_ns));
            summary.stages.insert(tag.into(), StageSummary { raw: Percentiles::of(&histogram), corrected });
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realtime::thread::{Allocations, PageFaults};

    const US: i64 = 1_000;
    const MS: i64 = 1_000_000;

    fn log(folder: Option<&Path>) -> LatencyLog {
        LatencyLog::new(&Config::default(), folder).unwrap()
    }

    fn sample(seq: u64, latency_ns: i64) -> Telemetry {
        Telemetry::Sample(SampleTiming {
            seq,
            arrival_ns: seq as i64 * MS,
            transport_ns: Some(100 * US),
            wake_up_ns: Some(20 * US),
            predict_ns: 5 * US,
            arrival_to_torque_ns: latency_ns,
        })
    }

    /// A batch that ended `took_ms` after its arrival, of which the thread ran `cpu_ms`.
    fn batch(arrival_ms: i64, took_ms: i64, cpu_ms: i64, left_out_ms: i64) -> Telemetry {
        Telemetry::Batch(BatchReport {
            arrival_ns: arrival_ms * MS,
            started_ns: arrival_ms * MS,
            done_ns: (arrival_ms + took_ms) * MS,
            cpu_ns: cpu_ms * MS,
            done: 6,
            skipped: u16::from(left_out_ms > 0),
            left_out_ns: left_out_ms * MS,
            missed: took_ms > 10 || left_out_ms > 0,
            ..BatchReport::default()
        })
    }

    fn summary(log: &mut LatencyLog) -> Summary {
        log.summary(&Drops::default(), &RunCounts::default())
    }

    fn late(woke_ms: i64, late_ms: i64) -> Tick {
        Tick { woke_ns: woke_ms * MS, late_ns: late_ms * MS }
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut log = log(None);
        for seq in 0..1000 {
            log.record(&sample(seq, (seq as i64 + 1) * US));
        }
        let summary = summary(&mut log);
        let stage = summary.stages["arrival_to_torque"].raw;
        assert_eq!(stage.count, 1000);
        for (got, expected) in
            [(stage.p50_us, 500.0), (stage.p90_us, 900.0), (stage.p99_us, 990.0), (stage.max_us, 1000.0)]
        {
            assert!((got / expected - 1.0).abs() < 2e-3, "{got} {expected}");
        }
        assert!(!summary.stages.contains_key("step_wall"), "nothing was recorded there");
    }

    #[test]
    fn a_window_holds_what_came_since_the_last_one_and_leaves_the_interval_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log(Some(folder.path()));
        let within =
            |got: f64, expected: f64| assert!((got / expected - 1.0).abs() < 0.01, "{got} {expected}");
        let window = |log: &mut LatencyLog| log.take_window()[Stage::ArrivalToTorque as usize];
        for seq in 0..1000 {
            log.record(&sample(seq, (seq as i64 + 1) * US));
        }
        let first = window(&mut log);
        assert_eq!((first.window.count, first.run.count), (1000, 1000));
        within(first.window.p50_us, 500.0);
        within(first.window.p99_us, 990.0);
        within(first.window.p999_us, 999.0);
        within(first.window.max_us, 1000.0);
        for seq in 0..10 {
            log.record(&sample(seq, 7 * MS));
        }
        let second = window(&mut log);
        assert_eq!((second.window.count, second.run.count), (10, 1010));
        within(second.window.p50_us, 7000.0);
        within(second.run.p50_us, 505.0);
        assert_eq!(window(&mut log).window, Percentiles::default(), "nothing came");
        assert_eq!(log.take_window()[Stage::StepWall as usize], StageWindow::default());
        log.finish(&Drops::default(), &RunCounts::default()).unwrap();
        let hlog = read_hlog(&folder.path().join("latency.hlog")).unwrap();
        assert_eq!(hlog.stages["arrival_to_torque"].len(), 1010);
    }

    #[test]
    fn memory_grows_as_far_as_values_reach_and_no_further_than_some_megabytes() {
        let bytes = |longest_ns: u64, digits, count: usize| {
            let mut histogram = histogram::<u64>(digits);
            record(&mut histogram, longest_ns);
            assert_eq!(histogram.max(), histogram.highest_equivalent(longest_ns));
            Stage::ALL.len() * histogram.distinct_values() * count
        };
        let (run, window) = (size_of::<u64>(), size_of::<u32>());
        assert!(bytes(900_000, DIGITS, run) < 900 << 10);
        assert!(bytes(HIGHEST, DIGITS, run) < 2100 << 10);
        assert!(bytes(HIGHEST, WINDOW_DIGITS, window) < 160 << 10);
    }

    #[test]
    fn the_deadline_tells_of_unexplained_misses_while_the_run_goes_on() {
        let mut log = log(None);
        log.record(&batch(0, 12, 12, 0));
        assert_eq!((log.deadline().misses, log.deadline().unexplained_misses), (1, 0), "not decided yet");
        log.record(&batch(3000, 1, 1, 0));
        assert_eq!((log.deadline().batches, log.deadline().unexplained_misses), (2, 1));
    }

    #[test]
    fn the_correction_adds_what_a_stall_kept_from_being_sent() {
        let mut log = log(None);
        for seq in 0..1000 {
            log.record(&sample(seq, if seq == 500 { 100 * MS } else { 50 * US }));
        }
        let stage = summary(&mut log).stages["arrival_to_torque"];
        assert!(stage.raw.p99_us < 60.0);
        let corrected = stage.corrected.unwrap();
        assert_eq!(corrected.count, 1099);
        assert!(corrected.p99_us > 80_000.0, "{}", corrected.p99_us);
    }

    #[test]
    fn a_miss_is_explained_by_stalls_that_cost_it_the_deadline_and_only_by_those() {
        let misses = |telemetry: Telemetry, ticks: &[Tick]| {
            let mut log = log(None);
            log.record(&telemetry);
            ticks.iter().for_each(|tick| log.record_probe(tick));
            let deadline = summary(&mut log).deadline;
            (deadline.misses, deadline.unexplained_misses)
        };
        assert_eq!(misses(batch(100, 9, 9, 0), &[]), (0, 0));
        assert_eq!(misses(batch(100, 12, 12, 0), &[]), (1, 1), "ours");
        assert_eq!(misses(batch(100, 12, 2, 0), &[]), (1, 0), "the thread did not run");
        assert_eq!(misses(batch(100, 12, 12, 0), &[late(106, 5)]), (1, 0), "the probe was stalled, too");
        assert_eq!(misses(batch(100, 12, 12, 0), &[late(99, 5)]), (1, 1), "before it");
        assert_eq!(misses(batch(100, 12, 12, 0), &[late(106, 1)]), (1, 1), "too short");
        assert_eq!(misses(batch(100, 20, 20, 0), &[late(106, 6), late(106, 6)]), (1, 1), "counted once");
        assert_eq!(misses(batch(100, 9, 2, 4), &[]), (1, 0), "9 - 7 + 4 <= 10");
        assert_eq!(misses(batch(100, 9, 9, 4), &[]), (1, 1));
    }

    #[test]
    fn misses_are_settled_without_a_probe() {
        let mut log = log(None);
        for at_ms in (0..600_000).step_by(10) {
            log.record(&batch(at_ms, 12, 12, 0));
        }
        assert!(log.misses.len() <= 201, "{}", log.misses.len());
        assert_eq!(summary(&mut log).deadline.unexplained_misses, 60_000);
    }

    #[test]
    fn a_late_wake_up_explains_a_miss() {
        let mut log = log(None);
        log.record(&Telemetry::Sample(SampleTiming {
            arrival_ns: 100 * MS,
            wake_up_ns: Some(15 * MS),
            predict_ns: 5 * US,
            arrival_to_torque_ns: 15 * MS + 5 * US,
            ..SampleTiming::default()
        }));
        log.record(&batch(100, 16, 1, 1));
        assert_eq!(summary(&mut log).deadline.unexplained_misses, 0);
    }

    #[test]
    fn worst_consecutive_is_the_longest_run_of_misses() {
        let mut log = log(None);
        for took_ms in [12, 12, 1, 12, 12, 12, 1, 12] {
            log.record(&batch(0, took_ms, took_ms, 0));
        }
        let deadline = summary(&mut log).deadline;
        assert_eq!((deadline.batches, deadline.misses, deadline.worst_consecutive), (8, 6, 3));
    }

    #[test]
    fn what_a_run_writes_is_read_back_and_several_runs_are_summed() {
        let folder = tempfile::tempdir().unwrap();
        let drops = Drops::default();
        drops.count(DropReason::Stale);
        let mut log = log(Some(folder.path()));
        (0..100).for_each(|seq| log.record(&sample(seq, 50 * US)));
        log.write_interval(&drops).unwrap();
        (100..200).for_each(|seq| log.record(&sample(seq, 70 * US)));
        log.record(&batch(0, 12, 12, 0));
        let counts = RunCounts {
            ring_full: 2,
            allocations: Some(Allocations::default()),
            page_faults: Some(PageFaults::default()),
            ..RunCounts::default()
        };
        let written = log.finish(&drops, &counts).unwrap();

        let json = fs::read_to_string(folder.path().join("latency.json")).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), written);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["stages"]["arrival_to_torque"]["count"], 200);
        assert!(value["stages"]["arrival_to_torque"]["p9999_us"].is_number());
        assert_eq!(value["deadline"]["misses"], 1);
        assert_eq!((&value["drops"]["stale"], &value["drops"]["ring_full"]), (&1.into(), &2.into()));
        assert_eq!(value["pinned_thread"]["allocations"], 0);

        let read = read_hlog(&folder.path().join("latency.hlog")).unwrap();
        assert_eq!((read.deadline, &read.drops), (written.deadline, &written.drops));
        let once = Summary::merge(std::slice::from_ref(&read));
        for (name, stage) in &written.stages {
            assert_eq!(once.stages[name].raw, stage.raw, "{name}");
        }
        let twice = Summary::merge(&[read.clone(), read]);
        assert_eq!(twice.stages["arrival_to_torque"].raw.count, 400);
        assert_eq!((twice.deadline.misses, twice.deadline.worst_consecutive), (2, 1));
        assert_eq!(twice.drops["ring_full"], 4);
    }

    #[test]
    fn foreign_empty_and_truncated_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log(Some(folder.path()));
        log.record(&sample(0, 50 * US));
        log.finish(&Drops::default(), &RunCounts::default()).unwrap();
        let whole = fs::read(folder.path().join("latency.hlog")).unwrap();
        let read = |bytes: &[u8]| {
            let path = folder.path().join("x.hlog");
            fs::write(&path, bytes).unwrap();
            read_hlog(&path).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(read(&whole), Ok(()));
        for foreign in [&b""[..], b"hello, world\n", b"# a comment\n", b"\x00\xff\xfe", b"a,b,c\n1,2,3\n"] {
            let error = read(foreign).unwrap_err();
            assert!(error.contains("x.hlog: not an HdrHistogram interval log"), "{error}");
        }
        let text = String::from_utf8(whole.clone()).unwrap();
        let second = text.match_indices("Tag=").nth(1).unwrap().0;
        let error = read(&whole[..second + 40]).unwrap_err();
        assert!(error.contains("truncated or damaged") && error.contains("line"), "{error}");
        let missing = read_hlog(&folder.path().join("none.hlog")).unwrap_err();
        assert!(missing.to_string().contains("none.hlog"), "{missing}");
    }
}
