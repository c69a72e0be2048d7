//! The command line: one file per subcommand, each with its arguments and one `run`.
//!
//! Contract: called once by `main`. Figures go to standard output, everything else (logs, progress, errors) to standard
//! error. Exit codes: 0 done, 1 failed, 2 wrongly used.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::ros::arguments::{LogOptions, RosArguments};
use crate::ros::rosout::Rosout;

pub mod demo;
pub mod doctor;
pub mod experiment;
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
#[command(name = "metagd", version, max_term_width = 100, after_help = ROS_ARGS_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[arg(skip)]
    ros: RosArguments,
}

const ROS_ARGS_HELP: &str = "Every command takes ROS 2's own arguments between --ros-args and -- (or the end): -r, -p, \
                             --params-file, --log-level and the like.";

impl Cli {
    /// Parses a command line, the program's name first: `--ros-args` sections by themselves, the rest by clap, which
    /// prints help and errors and ends the program itself.
    ///
    /// # Errors
    /// The exit code, if the ROS arguments are wrong; why is on standard error by then.
    pub fn from_command_line(line: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
        let (ros, rest) = RosArguments::split(line).map_err(|error| {
            complain(&error);
            ExitCode::from(2)
        })?;
        let mut cli = Cli::try_parse_from(rest).unwrap_or_else(|error| error.exit());
        let (graph, parameters) = cli.command.ros_side();
        if let Some(graph) = graph {
            graph.ros = ros.rules.clone();
        }
        if let Some(parameters) = parameters {
            parameters.ros = ros.parameters.clone();
        }
        cli.ros = ros;
        Ok(cli)
    }

    /// What is logged, and where to.
    pub fn log(&self) -> &LogOptions {
        &self.ros.log
    }

    /// The same in `tracing`'s directives.
    pub fn log_directives(&mut self) -> String {
        let name = self.command.default_name();
        let (graph, _) = self.command.ros_side();
        // Names that are wrong are refused by the command itself.
        let node = graph.and_then(|graph| graph.full_name(name).ok());
        self.ros.log.directives(&[name.to_string(), node.unwrap_or_default()])
    }

    /// Says what was asked for in `--ros-args` and changes nothing.
    fn tell_what_has_no_effect(&mut self) {
        let (graph, parameters) = self.command.ros_side();
        let (no_graph, no_parameters) = (graph.is_none(), parameters.is_none());
        if no_graph && !self.ros.rules.is_empty() {
            tracing::warn!("this command opens no node: the remappings in --ros-args have no effect");
        }
        if no_parameters && !self.ros.parameters.is_empty() {
            tracing::warn!("this command has no parameters: those in --ros-args have no effect");
        }
        if !self.ros.without_effect.is_empty() {
            tracing::warn!("without effect here: {}", self.ros.without_effect.join(", "));
        }
    }
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
    /// Carries out one of the paper's experiments: tables, figures, and what of the claims holds.
    Experiment(experiment::Args),
    /// Prints the percentiles of latency logs; several files are merged.
    Latency(latency::Args),
    /// Says what this computer grants a real-time thread, and what to change.
    Doctor(doctor::Args),
    /// Prints every parameter: name, type, default, range, unit, meaning.
    Params(params::Args),
}

impl Command {
    /// Where the command takes remappings and parameters.
    fn ros_side(&mut self) -> (Option<&mut graph::GraphArgs>, Option<&mut parameters::ParameterArgs>) {
        match self {
            Command::Node(args) => (Some(&mut args.graph), Some(&mut args.parameters)),
            Command::Simulate(args) => (Some(&mut args.graph), None),
            Command::Play(args) => (Some(&mut args.graph), None),
            Command::Replay(args) => (None, Some(&mut args.parameters)),
            Command::Demo(_)
            | Command::Experiment(_)
            | Command::Latency(_)
            | Command::Doctor(_)
            | Command::Params(_) => (None, None),
        }
    }

    /// The node's name, where nobody gives it another.
    fn default_name(&self) -> &'static str {
        match self {
            Command::Simulate(_) => simulate::NODE,
            Command::Play(_) => play::NODE,
            _ => node::NODE,
        }
    }
}

/// The command line was used wrongly: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Runs the parsed command line and reports failure on standard error. What `rosout` takes in goes to /rosout, where the
/// command is a node.
pub fn run(mut cli: Cli, rosout: Option<Rosout>) -> ExitCode {
    cli.tell_what_has_no_effect();
    let done = match cli.command {
        Command::Demo(args) => demo::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Node(args) => node::run(&args, rosout).map(|()| ExitCode::SUCCESS),
        Command::Simulate(args) => simulate::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Play(args) => play::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Params(args) => params::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Replay(args) => replay::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Experiment(args) => experiment::run(&args).map(|()| ExitCode::SUCCESS),
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
        complain(&crate::report::described(&error));
        ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
    })
}

/// Not `eprintln!`, which panics when nobody reads standard error any more.
fn complain(error: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "error: {error}");
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

/// A count that not every middleware can tell.
fn count(known: Option<u64>) -> String {
    known.map_or_else(|| "an unknown number".to_string(), |count| count.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Cli, OsString};

    fn directives(line: &[&str]) -> String {
        let mut cli = Cli::from_command_line(line.iter().map(OsString::from)).unwrap();
        cli.log_directives()
    }

    #[test]
    fn a_logger_with_the_nodes_name_is_the_program() {
        let line = ["metagd", "play", "bag", "--ros-args", "--log-level"];
        let with = |more: &[&str]| directives(&[&line[..], more].concat());
        assert!(with(&["metagd_player:=debug"]).ends_with(",metagd=debug"));
        assert!(with(&["a:=debug", "-r", "__node:=a"]).ends_with(",metagd=debug"));
        assert!(with(&["cell.a:=debug", "-r", "__node:=a", "-r", "__ns:=/cell"]).ends_with(",metagd=debug"));
        assert!(with(&["a:=debug"]).ends_with(",a=debug"));
        assert!(directives(&["metagd", "params"]).starts_with("info,rustdds=error"));
    }
}
