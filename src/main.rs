//! The command line: parse, call one function.

use clap::Parser;
use metagd::realtime::CountingAllocator;

/// Counts per thread, so that every run can show that the pinned thread allocates nothing.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> std::process::ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    metagd::command::run(metagd::command::Cli::parse())
}
