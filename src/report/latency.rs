//! The table of latencies: one row per stage, then the deadline and the drops.

use super::{Table, number};
use crate::realtime::Summary;
use crate::realtime::latency::{Percentiles, Stage};

/// The table for `summary`, with what the pinned thread did besides, where the summary says so.
pub fn render(summary: &Summary) -> String {
    let mut table = Table::new(1, &["stage [µs]", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max"]);
    let mut row = |name: String, p: &Percentiles| {
        let cells = [p.p50_us, p.p90_us, p.p99_us, p.p999_us, p.p9999_us, p.max_us].map(number);
        table.row([name, p.count.to_string()].into_iter().chain(cells));
    };
    let known = Stage::ALL.iter().map(|stage| stage.name());
    let others =
        summary.stages.keys().map(String::as_str).filter(|name| known.clone().all(|known| known != *name));
    for name in known.clone().chain(others) {
        let Some(stage) = summary.stages.get(name) else { continue };
        row(name.to_string(), &stage.raw);
        if let Some(corrected) = &stage.corrected {
            row("  corrected for omission".into(), corrected);
        }
    }
    let mut text = table.render();
    let d = &summary.deadline;
    text.push_str(&format!(
        "\ndeadline: {} batches, {} missed (at most {} in a row; {} not explained by stalls of the machine), \
         {} joint steps left out\n",
        d.batches, d.misses, d.worst_consecutive, d.unexplained_misses, d.skipped_joint_steps
    ));
    let drops: Vec<String> = summary
        .drops
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    text.push_str(&format!("drops: {}\n", if drops.is_empty() { "none".into() } else { drops.join(", ") }));
    if let Some(pinned) = &summary.pinned_thread {
        let count = |n: Option<u64>| n.map_or("not counted".into(), |n| n.to_string());
        text.push_str(&format!(
            "pinned thread: allocations {}, frees {}, page faults {} minor {} major, non-finite torques {}, \
             telemetry lost {}\n",
            count(pinned.allocations),
            count(pinned.frees),
            count(pinned.minor_faults),
            count(pinned.major_faults),
            pinned.non_finite,
            pinned.telemetry_lost,
        ));
    }
    if let Some(bytes) = summary.resident_bytes {
        text.push_str(&format!("resident memory: {} MB\n", number(bytes as f64 * 1e-6)));
    }
    for refusal in &summary.not_granted {
        text.push_str(&format!("not granted: {refusal}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realtime::latency::StageSummary;
    use crate::report::WIDTH;

    #[test]
    fn stages_stand_in_the_order_of_a_samples_way_and_foreign_ones_last() {
        let p = Percentiles {
            count: 123_456_789,
            p50_us: 12_345.6,
            max_us: 60_000_000.0,
            ..Percentiles::default()
        };
        let mut summary = Summary::default();
        for name in ["aaa", "predict", Stage::ALL[0].name()] {
            summary.stages.insert(name.into(), StageSummary { raw: p, corrected: Some(p) });
        }
        summary.drops.insert("stale".into(), 3);
        summary.drops.insert("future".into(), 0);
        summary.resident_bytes = Some(38_500_000);
        let text = render(&summary);
        let at = |name: &str| text.find(&format!("\n{name} ")).unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(at(Stage::ALL[0].name()) < at("predict") && at("predict") < at("aaa"), "{text}");
        assert!(text.contains("drops: stale 3\n"), "{text}");
        assert!(text.contains("resident memory: 38.5 MB\n"), "{text}");
        assert!(text.lines().take(8).all(|line| line.chars().count() <= WIDTH), "{text}");
    }
}
