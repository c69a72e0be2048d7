//! The command line: parse, call one function.

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Counts per thread, so that every run can prove that its pinned thread allocates nothing.
#[global_allocator]
static ALLOCATOR: metagd::realtime::CountingAllocator = metagd::realtime::CountingAllocator;

/// The middleware's own log lines are about its inner workings, up to a peer's every leave.
const LOG: &str = "info,rustdds=error,ros2_client=error,cdr_encoding=error,r2r=off";

fn main() -> std::process::ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG));
    // With internal errors logged, a reader of standard error that has gone would be a panic in whoever logs next.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .init();
    metagd::command::run(metagd::command::Cli::parse())
}
