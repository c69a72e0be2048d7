//! The command line: parse, call one function.

use std::process::ExitCode;

use metagd::command::Cli;
use metagd::realtime::wall_ns;
use metagd::ros::rosout::Rosout;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// Counts per thread, so that every run can prove that its pinned thread allocates nothing.
#[global_allocator]
static ALLOCATOR: metagd::realtime::CountingAllocator = metagd::realtime::CountingAllocator;

fn main() -> ExitCode {
    let mut cli = match Cli::from_command_line(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let rosout = start_log(&mut cli);
    metagd::command::run(cli, rosout)
}

/// The log goes through one layer for each place where it is wanted: standard error, and /rosout, which is returned.
/// `RUST_LOG` comes before `--log-level`.
fn start_log(cli: &mut Cli) -> Option<Rosout> {
    let wanted = std::env::var("RUST_LOG").ok().filter(|wanted| !wanted.is_empty());
    let (filter, refused) = match wanted.map(|wanted| EnvFilter::try_new(&wanted).map_err(|e| (wanted, e))) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(refused)) => (EnvFilter::new(cli.log_directives()), Some(refused)),
        None => (EnvFilter::new(cli.log_directives()), None),
    };
    let level = filter.max_level_hint().unwrap_or(LevelFilter::INFO);
    // With internal errors logged, a reader of standard error that has gone would be a panic in whoever logs next.
    let console = cli
        .log()
        .console
        .then(|| fmt::layer().with_writer(std::io::stderr).log_internal_errors(false).with_filter(filter));
    let rosout = cli.log().rosout.then(|| Rosout::new(wall_ns));
    let to_ros = rosout.as_ref().map(|rosout| rosout.layer(level));
    tracing_subscriber::registry().with(console).with(to_ros).init();
    if let Some((wanted, reason)) = refused {
        tracing::warn!("RUST_LOG = `{wanted}` is not used: {reason}");
    }
    rosout
}
