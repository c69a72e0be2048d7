//! `metagd experiment`: the paper's experiments, each by one command.
//!
//! Contract: the report goes to standard output; figures, the report as JSON and the runs' outcomes into one folder. A sweep that is
//! started again in its folder goes on where it broke off.

use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use super::Usage;
use crate::experiment::batch::Batch;
use crate::experiment::beyond::Beyond;
use crate::experiment::dataset::Recorded;
use crate::experiment::index::Indexed;
#[cfg(feature = "experiments")]
use crate::experiment::mnist::{self, Mnist};
use crate::experiment::online::Online;
use crate::experiment::real::{Given, Real};
use crate::experiment::report::Report;
use crate::experiment::rosenbrock::Rosenbrock;
use crate::experiment::sweep::{self, Experiment, Header, Options, Shard};
use crate::report;

/// `metagd experiment`
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    which: Which,
    #[command(flatten)]
    sweep: SweepArgs,
}

/// The experiments.
#[derive(clap::Subcommand, Debug)]
enum Which {
    /// Torques learnt online while a simulated arm lifts objects (section IV-D2, Fig. 5, Table I).
    Online(OnlineArgs),
    /// The same learners in one pass over recordings of real arms, beside every baseline.
    Real(RealArgs),
    /// GD and MetaGD on a test function of two variables (section IV-B, Fig. 2).
    Rosenbrock,
    /// Full-batch learning of what a wrong rigid-body model leaves, on two tasks in turn (section IV-D1, Fig. 4).
    Batch {
        /// Share of the hidden units that are dropped in training.
        #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = dropout)]
        dropout: f64,
        /// Learning rate of MetaGD's memories.
        #[arg(long, value_name = "RATE", default_value_t = 0.01, value_parser = memory_rate)]
        memory_rate: f64,
    },
    /// A convolutional network on three tasks of handwritten digits (section IV-C, Fig. 3).
    #[cfg(feature = "experiments")]
    Mnist(mnist::Options),
    /// A convolutional network on three tasks of handwritten digits (section IV-C, Fig. 3). Not in this build: it needs the
    /// feature `experiments`.
    #[cfg(not(feature = "experiments"))]
    Mnist(Absent),
    /// Beyond the paper: the mix of experts against every baseline, online and frozen, and in closed loop.
    Beyond {
        /// Folder of recordings. Default: what METAGD_DATA names, else ../shared/data.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// What a memory may be indexed by besides the gradient, and whether a carried one helps a fresh network (future work of
    /// the paper).
    Index {
        /// Folder of the recordings. Default: METAGD_DATA, else ../shared/data.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

/// The simulated arm that lifts.
#[derive(clap::Args, Debug)]
struct OnlineArgs {
    /// How often each object is lifted [default: 10; with --quick 2].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=1000))]
    trials: Option<u16>,
    /// Seed of the arm's true parameters, its noise and the trials.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
}

/// Where the recordings are.
#[derive(clap::Args, Debug)]
struct RealArgs {
    /// Further recordings, taken as one sequence: rosbag2 folders, .mcap, .db3, .csv, .csv.gz
    /// (columns `[run,]t,q1..,qd1..,[qdd1..,]tau1..`).
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Folder of the known recordings (kuka_lwr4plus, kuka_pickplace) [default: METAGD_DATA, else ../shared/data].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// URDF of the further recordings' arm; without it, it is learnt without a rigid body.
    #[arg(long, value_name = "FILE", requires = "files")]
    urdf: Option<PathBuf>,
    /// The further recordings' joints by name, from the base outwards.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', requires = "files")]
    joints: Vec<String>,
    /// Topic of sensor_msgs/JointState in the further bags, where it is not clear.
    #[arg(long, value_name = "TOPIC", requires = "files")]
    topic: Option<String>,
    /// Rows to leave out at the beginning of every further recording.
    #[arg(long, value_name = "ROWS", default_value_t = 0)]
    skip: usize,
}

impl RealArgs {
    fn experiment(&self, quick: bool) -> anyhow::Result<Real> {
        let given = Given {
            paths: self.files.clone(),
            urdf: self.urdf.as_ref().map(|urdf| urdf.to_string_lossy().into_owned()).unwrap_or_default(),
            joints: self.joints.clone(),
            skip: self.skip,
            topic: self.topic.clone(),
        };
        Real::new(&Recorded::folder(self.data.as_deref()), given, quick)
    }
}

/// Any options of an experiment that was left out.
#[cfg(not(feature = "experiments"))]
#[derive(clap::Args, Debug)]
struct Absent {
    #[allow(dead_code)] // whatever they are
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// How the runs are carried out.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Runs")]
struct SweepArgs {
    /// The small size, for a first look and for tests.
    #[arg(long, global = true)]
    quick: bool,
    /// Folder for figures, report.json and runs.jsonl. Default: runs/NAME, with --quick runs/NAME-quick.
    #[arg(long, global = true, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Carry out only every Nth run from the Ith on (from 0), and report nothing.
    #[arg(long, global = true, value_name = "I/N", conflicts_with = "merge")]
    shard: Option<Shard>,
    /// Carry out nothing: report on the outcomes of all shards.
    #[arg(long, global = true, value_name = "DIR", num_args = 1..)]
    merge: Vec<PathBuf>,
    /// How many threads to use. Default: one per core.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Print JSON to standard output instead of tables.
    #[arg(long, global = true)]
    json: bool,
}

fn dropout(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=0.9).contains(&share) => Ok(share),
        _ => Err("must be a number from 0 to 0.9".into()),
    }
}

fn memory_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 10.0 => Ok(rate),
        _ => Err("must be a number above 0, to 10".into()),
    }
}

/// Runs `metagd experiment`.
///
/// # Errors
/// [`Usage`] for options that do not go together; else what is wrong with a run, an input or the folder.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let sweep = &args.sweep;
    match &args.which {
        Which::Online(args) => {
            let trials = args.trials.unwrap_or(if sweep.quick { 2 } else { 10 });
            conduct(&Online::new(usize::from(trials), args.seed, sweep.quick), sweep)
        }
        Which::Real(args) => conduct(&args.experiment(sweep.quick)?, sweep),
        Which::Rosenbrock => conduct(&Rosenbrock { quick: sweep.quick }, sweep),
        Which::Batch { dropout, memory_rate } => {
            conduct(&Batch::new(sweep.quick, *dropout, *memory_rate), sweep)
        }
        #[cfg(feature = "experiments")]
        Which::Mnist(options) => conduct(&Mnist::new(options.clone(), sweep.quick)?, sweep),
        #[cfg(not(feature = "experiments"))]
        Which::Mnist(_) => Err(Usage(
            "this build has no `metagd experiment mnist`: it needs the feature `experiments` \
             (cargo build --release --features experiments)"
                .into(),
        )
        .into()),
        Which::Beyond { data } => {
            conduct(&Beyond { quick: sweep.quick, data: Recorded::folder(data.as_deref()) }, sweep)
        }
        Which::Index { data } => conduct(&Indexed { quick: sweep.quick, data: data.clone() }, sweep),
    }
}

/// What `--json` prints and report.json holds.
#[derive(Serialize)]
struct Json<'a> {
    header: &'a Header,
    #[serde(flatten)]
    report: &'a Report,
}

/// Carries out `experiment`; prints the report and draws the figures, unless it is a shard.
fn conduct<E: Experiment>(experiment: &E, args: &SweepArgs) -> anyhow::Result<()> {
    if args.shard.is_some() && args.json {
        return Err(Usage("--shard reports nothing, so --json does not go with it".into()).into());
    }
    let name = experiment.name();
    let default =
        || PathBuf::from("runs").join(if args.quick { format!("{name}-quick") } else { name.into() });
    let dir = args.out.clone().unwrap_or_else(default);
    let options = Options {
        dir: dir.clone(),
        quick: args.quick,
        shard: args.shard,
        merge: args.merge.clone(),
        jobs: args.jobs.map(usize::from),
    };
    let Some((header, report)) = sweep::carry_out(experiment, &options)? else {
        return Ok(());
    };
    let write = |file: &str, text: &str| {
        let path = dir.join(file);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    for figure in &report.figures {
        write(&figure.file(), &report::plot::svg(figure)?)?;
    }
    let json = serde_json::to_string_pretty(&Json { header: &header, report: &report })? + "\n";
    write("report.json", &json)?;
    if args.json {
        return super::print(&json);
    }
    let text = report::findings::render(&header, &report);
    super::print(&format!("{text}folder: {}\n", dir.display()))
}
