//! `metagd latency`: the percentiles of one or more latency logs.
//!
//! Contract: reads HdrHistogram interval logs (`.hlog`, values in ns, one tag per stage) and the `.json` of the same name
//! beside each, if there is one, for the deadline and the drops. Of several files the histograms are added up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde::{Deserialize, Serialize};

use crate::report::{Table, number};

/// `metagd latency`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Latency logs (.hlog), or run folders that hold a latency.hlog.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON to standard output instead of a table.
    #[arg(long)]
    json: bool,
}

/// One stage's percentiles, as the command prints them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many values.
    pub count: u64,
    /// Median, µs.
    pub p50_us: f64,
    /// 90th percentile, µs.
    pub p90_us: f64,
    /// 99th percentile, µs.
    pub p99_us: f64,
    /// 99.9th percentile, µs.
    pub p999_us: f64,
    /// 99.99th percentile, µs.
    pub p9999_us: f64,
    /// The largest, µs.
    pub max_us: f64,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Percentiles {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Percentiles {
            count: histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: us(histogram.max()),
        }
    }
}

/// How the deadline was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// Batches that were complete.
    pub batches: u64,
    /// Batches after which at least one joint's step was left out or ended late.
    pub misses: u64,
    /// The longest row of batches that missed.
    pub worst_consecutive: u64,
}

/// What `--json` prints: `{"stages": {NAME: {...}}, "deadline": {...} or null, "drops": {REASON: n}}`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latency {
    /// Percentiles by stage.
    pub stages: BTreeMap<String, Percentiles>,
    /// Sums over the summaries beside the logs; `None` where no log has one.
    pub deadline: Option<Deadline>,
    /// Samples dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// What is taken from the summary beside a log.
#[derive(Deserialize)]
struct Beside {
    deadline: Option<Deadline>,
    #[serde(default)]
    drops: BTreeMap<String, u64>,
}

/// Reads and merges logs; a folder stands for the `latency.hlog` in it.
///
/// # Errors
/// A file that cannot be read or is no interval log, or holds a histogram that cannot be decoded; names the file.
pub fn read(files: &[PathBuf]) -> anyhow::Result<Latency> {
    let mut histograms: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
    let mut latency = Latency::default();
    for file in files {
        let path = if file.is_dir() { file.join("latency.hlog") } else { file.clone() };
        merge_log(&path, &mut histograms)?;
        let beside = path.with_extension("json");
        let Ok(text) = std::fs::read_to_string(&beside) else { continue };
        let beside: Beside = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a latency summary", beside.display()))?;
        if let Some(more) = beside.deadline {
            let sum = latency.deadline.get_or_insert_default();
            sum.batches += more.batches;
            sum.misses += more.misses;
            sum.worst_consecutive = sum.worst_consecutive.max(more.worst_consecutive);
        }
        for (reason, count) in beside.drops {
            *latency.drops.entry(reason).or_default() += count;
        }
    }
    latency.stages =
        histograms.iter().map(|(stage, histogram)| (stage.clone(), Percentiles::of(histogram))).collect();
    Ok(latency)
}

/// Adds one log's histograms to those of the same tag.
fn merge_log(path: &Path, into: &mut BTreeMap<String, Histogram<u64>>) -> anyhow::Result<()> {
    let name = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    // A run that was killed may have left half a line.
    let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if complete < bytes.len() {
        tracing::warn!("{name}: the last line is incomplete and left out");
    }
    let mut deserializer = Deserializer::new();
    let mut intervals = 0;
    for entry in IntervalLogIterator::new(&bytes[..complete]) {
        let LogEntry::Interval(interval) =
            entry.map_err(|_| anyhow::anyhow!("{name} is not an HdrHistogram interval log"))?
        else {
            continue;
        };
        intervals += 1;
        let stage = interval.tag().map_or("untagged", |tag| tag.as_str());
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(interval.encoded_histogram())
            .ok()
            .and_then(|bytes| deserializer.deserialize::<u64, _>(&mut &bytes[..]).ok())
            .with_context(|| format!("{name}: interval {intervals} (`{stage}`) cannot be decoded"))?;
        match into.get_mut(stage) {
            Some(sum) => {
                sum.auto(true);
                sum.add(&decoded).with_context(|| format!("{name}: interval {intervals} (`{stage}`)"))?;
            }
            None => {
                into.insert(stage.to_string(), decoded);
            }
        }
    }
    if intervals == 0 {
        bail!("{name} holds no intervals: the run wrote none, or it is no latency log");
    }
    Ok(())
}

/// The table that a person reads.
pub fn render(latency: &Latency) -> String {
    let mut table =
        Table::new(1, &["stage [µs]", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max"]);
    for (stage, p) in &latency.stages {
        let cells = [p.p50_us, p.p90_us, p.p99_us, p.p999_us, p.p9999_us, p.max_us].map(number);
        table.row([stage.clone(), p.count.to_string()].into_iter().chain(cells));
    }
    let mut text = table.render();
    match latency.deadline {
        Some(d) => text.push_str(&format!(
            "\ndeadline: {} batches, {} missed, at most {} in a row\n",
            d.batches, d.misses, d.worst_consecutive
        )),
        None => text.push_str("\ndeadline: no summary (.json) beside the log\n"),
    }
    let drops: Vec<String> = latency
        .drops
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if latency.deadline.is_some() {
        let list = if drops.is_empty() { "none".to_string() } else { drops.join(", ") };
        text.push_str(&format!("drops: {list}\n"));
    }
    text
}

/// Runs `metagd latency`.
///
/// # Errors
/// See [`read`].
pub fn run(args: &Args) -> anyhow::Result<()> {
    let latency = read(&args.files)?;
    if args.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&latency)?))
    } else {
        super::print(&render(&latency))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use hdrhistogram::serialization::V2DeflateSerializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

    use super::*;

    /// A log with one interval per stage and list of values, ns.
    fn log(stages: &[(&str, &[u64])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut writer = IntervalLogWriterBuilder::new()
            .with_start_time(SystemTime::UNIX_EPOCH)
            .begin_log_with(&mut bytes, &mut serializer)
            .unwrap();
        for (stage, values) in stages {
            let mut histogram = Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 3).unwrap();
            for value in *values {
                histogram.record(*value).unwrap();
            }
            let second = Duration::from_secs(1);
            writer.write_histogram(&histogram, second, second, Tag::new(stage)).unwrap();
        }
        bytes
    }

    #[test]
    fn several_logs_are_added_up_stage_by_stage() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.hlog"), dir.path().join("b.hlog"));
        std::fs::write(&a, log(&[("predict", &[1_000, 2_000]), ("predict", &[3_000])])).unwrap();
        std::fs::write(&b, log(&[("predict", &[9_000]), ("step", &[20_000])])).unwrap();
        std::fs::write(
            dir.path().join("a.json"),
            r#"{"deadline": {"batches": 7, "misses": 2, "worst_consecutive": 2}, "drops": {"duplicate": 1}, "more": 1}"#,
        )
        .unwrap();
        std::fs::write(
            dir.path().join("b.json"),
            r#"{"deadline": {"batches": 3, "misses": 1, "worst_consecutive": 1}, "drops": {"duplicate": 2}}"#,
        )
        .unwrap();
        let latency = read(&[a, b]).unwrap();
        let predict = latency.stages["predict"];
        assert_eq!(predict.count, 4);
        assert!((predict.p50_us - 2.0).abs() < 0.01, "{predict:?}");
        assert!((predict.max_us - 9.0).abs() < 0.02, "{predict:?}");
        assert_eq!(latency.stages["step"].count, 1);
        assert_eq!(latency.deadline, Some(Deadline { batches: 10, misses: 3, worst_consecutive: 2 }));
        assert_eq!(latency.drops["duplicate"], 3);
        let text = render(&latency);
        assert!(text.contains("10 batches, 3 missed, at most 2 in a row"), "{text}");
    }

    #[test]
    fn a_log_without_a_summary_says_so_and_a_half_written_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = log(&[("step", &[5_000])]);
        bytes.extend_from_slice(b"Tag=step,2.0,1.0,5.0,HISTF");
        std::fs::write(dir.path().join("latency.hlog"), bytes).unwrap();
        let latency = read(&[dir.path().to_path_buf()]).unwrap();
        assert_eq!((latency.stages["step"].count, latency.deadline), (1, None));
        assert!(render(&latency).contains("no summary"));
    }

    #[test]
    fn what_is_no_log_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("noise.hlog", &b"\x00\x01nonsense\n"[..]), ("empty.hlog", b"")] {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let error = format!("{:#}", read(&[path]).unwrap_err());
            assert!(error.contains(name), "{error}");
        }
        let error = format!("{:#}", read(&[dir.path().join("absent.hlog")]).unwrap_err());
        assert!(error.contains("absent.hlog"), "{error}");
    }
}
