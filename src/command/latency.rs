//! `metagd latency`: the percentiles of one or more latency logs.
//!
//! Contract: reads HdrHistogram interval logs (`.hlog`, values in ns, one tag per stage); of several the histograms are
//! added up. Deadline and drops stand in our own logs as comments; other tools' logs have none.

use std::path::{Path, PathBuf};

use crate::realtime::Summary;
use crate::realtime::latency::{LatencyError, read_hlog};
use crate::report;

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

/// Reads logs and adds them up; a folder stands for the `latency.hlog` in it.
///
/// # Errors
/// [`LatencyError`], naming the file.
pub fn merge(files: &[PathBuf]) -> Result<Summary, LatencyError> {
    let log_of = |file: &Path| if file.is_dir() { file.join("latency.hlog") } else { file.to_path_buf() };
    let logs = files.iter().map(|file| read_hlog(&log_of(file))).collect::<Result<Vec<_>, _>>()?;
    Ok(Summary::merge(&logs))
}

/// Runs `metagd latency`.
///
/// # Errors
/// See [`merge`].
pub fn run(args: &Args) -> anyhow::Result<()> {
    let summary = merge(&args.files)?;
    if args.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&summary)?))
    } else {
        super::print(&report::latency::render(&summary))
    }
}
