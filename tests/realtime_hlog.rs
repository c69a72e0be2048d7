//! The interval log, read by an independent peer: PyPI's `hdrhistogram`.

#![allow(clippy::print_stderr)] // what is skipped is said

use std::process::Command;

use metagd::config::Config;
use metagd::realtime::latency::Percentiles;
use metagd::realtime::runtime::RunCounts;
use metagd::realtime::{Drops, LatencyLog, SampleTiming, Telemetry};

const READER: &str = r#"
import sys, json
from hdrh.log import HistogramLogReader
from hdrh.histogram import HdrHistogram
reader = HistogramLogReader(sys.argv[1], HdrHistogram(1, 60_000_000_000, 3))
stages = {}
while True:
    interval = reader.get_next_interval_histogram()
    if interval is None:
        break
    tag = interval.get_tag()
    stages.setdefault(tag, HdrHistogram(1, 60_000_000_000, 3)).add(interval)
print(json.dumps({tag: [h.get_total_count(), h.get_value_at_percentile(50), h.get_value_at_percentile(99),
                        h.get_max_value()] for tag, h in stages.items()}))
"#;

#[test]
fn the_peer_reads_the_same_percentiles_from_our_interval_log() {
    let python = std::env::var("METAGD_PYTHON").unwrap_or_else(|_| "python3".into());
    let importable = Command::new(&python).args(["-c", "import hdrh.log"]).output();
    if !importable.is_ok_and(|output| output.status.success()) {
        assert!(
            std::env::var_os("METAGD_REQUIRE_PEERS").is_none_or(|v| v != "1"),
            "no hdrhistogram in {python}"
        );
        eprintln!("SKIPPED: {python} cannot import hdrh (pip install hdrhistogram)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = Config { hlog_interval: 1e-9, ..Config::default() };
    let mut log = LatencyLog::new(&config, Some(folder.path())).unwrap();
    let drops = Drops::default();
    for seq in 0..3000u64 {
        log.record(&Telemetry::Sample(SampleTiming {
            seq,
            arrival_ns: seq as i64 * 1_000_000,
            transport_ns: Some(100_000 + 37 * seq as i64),
            wake_up_ns: Some(1 + seq as i64),
            predict_ns: 5_000,
            arrival_to_torque_ns: 40_000 + (seq * seq) as i64,
        }));
        if seq % 1000 == 0 {
            log.tick(&drops).unwrap();
        }
    }
    let summary = log.finish(&drops, &RunCounts::default()).unwrap();
    let output =
        Command::new(&python).args(["-c", READER]).arg(folder.path().join("latency.hlog")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: std::collections::BTreeMap<String, [u64; 4]> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read.len(), 4);
    for (tag, [count, p50, p99, max]) in read {
        let Percentiles { count: expected, p50_us, p99_us, max_us, .. } = summary.stages[&tag].raw;
        assert_eq!(count, expected, "{tag}");
        for (read, ours) in [(p50, p50_us), (p99, p99_us), (max, max_us)] {
            assert!((read as f64 * 1e-3 - ours).abs() <= 1e-9 + ours * 1e-3, "{tag}: {read} ns, {ours} us");
        }
    }
}
