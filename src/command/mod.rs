//! The command line: one file per subcommand, each with its arguments and one `run`.
//!
//! Contract: called once by `main`. Figures go to standard output, everything else (logs, progress, errors) to standard
//! error. Exit codes: 0 done, 1 failed, 2 wrongly used.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write;
use std::process::ExitCode;

pub mod demo;
pub mod doctor;
pub mod graph;
pub mod latency;
pub mod node;
pub mod parameters;
pub mod params;
pub mod play;
pub mod replay;
pub mod signals;
pub mod simulate;

/// Online learning of a robot's inverse dynamics (MetaGD): feed-forward torques at 1 kHz.
#[derive(clap::Parser, Debug)]
#[command(name = "metagd", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The subcommands.
#[allow(clippy::large_enum_variant)] // there is one, parsed once
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Runs the main job on this computer: a simulated arm and the node, two processes on real DDS.
    Demo(demo::Args),
    /// Runs the ROS 2 node: learns from joint states, publishes feed-forward torques.
    Node(node::Args),
    /// Simulates the arm: live over ROS 2 as a stand-in for a robot, or into a bag.
    Simulate(Box<simulate::Args>),
    /// Publishes a bag over ROS 2 at its own rate.
    Play(play::Args),
    /// Runs recordings (bags, CSV) through the learner as the robot would, and scores the torques it predicts.
    Replay(replay::Args),
    /// Prints the percentiles of latency logs; several files are merged.
    Latency(latency::Args),
    /// Says what this computer grants a real-time thread, and what to change.
    Doctor(doctor::Args),
    /// Prints every parameter: name, type, default, range, unit, meaning.
    Params(params::Args),
}

/// The command line was used wrongly: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Runs the parsed command line and reports failure on standard error.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Demo(args) => demo::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Node(args) => node::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Simulate(args) => simulate::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Play(args) => play::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Params(args) => params::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Replay(args) => replay::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Latency(args) => latency::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::run(&args),
    };
    done.unwrap_or_else(|error| {
        // A reader that closed the pipe (`metagd replay ... | head`) has what it wanted.
        let broken_pipe = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe);
        if broken_pipe {
            return ExitCode::SUCCESS;
        }
        // Not `eprintln!`, which panics when nobody reads standard error any more.
        let _ = writeln!(std::io::stderr(), "error: {}", described(&error));
        ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
    })
}

/// The error and its causes in one line, without the causes that it names itself.
fn described(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Writes figures to standard output in one piece.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Parses a duration of up to an hour, in seconds.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 3600.0 => Ok(value),
        _ => Err("must be a number of seconds above 0, to 3600".into()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cause_is_said_once() {
        let cause = || std::io::Error::other("disk full");
        let told = anyhow::Error::new(cause()).context("cannot save: disk full");
        assert_eq!(super::described(&told), "cannot save: disk full");
        let untold = anyhow::Error::new(cause()).context("cannot save");
        assert_eq!(super::described(&untold), "cannot save: disk full");
    }
}
