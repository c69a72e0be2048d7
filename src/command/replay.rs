//! `metagd replay`: recordings through the learner as the robot would run it, beside every baseline.
//!
//! Contract: deterministic without `--realtime`: the same input, seed, build and kind of processor give bit-identical torques, scores and
//! checkpoint, on however many threads. Recordings are read in slices, so memory does not grow with their length (with
//! `--realtime`, by the predicted torques only).
//!
//! **Cores.** One input after another, what was learnt is carried on, so each learner's pass is one core's work; learners that are
//! compared are passed over side by side. With `--each`, whole inputs are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::Serialize;

use super::Usage;
use super::parameters::ParameterArgs;
use crate::bag::Recording;
use crate::config::{Config, LEARNERS};
use crate::experiment::comparison::{Comparison, Contender, Contestant, Sink};
use crate::experiment::feed::Feed;
use crate::experiment::product::Product;
use crate::experiment::recordings::Recordings;
use crate::experiment::{JointScore, Scores, baseline};
use crate::learn::checkpoint::{self, Reload};
use crate::realtime::thread::thread_cpu_ns;
use crate::realtime::{DropReason, InverseDynamics, Limits, Summary};
use crate::report;

mod paced;

/// `metagd replay`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Recordings, taken one after another with what was learnt carried on (or --each by itself): rosbag2 folders, .mcap, .db3, .csv, .csv.gz
    /// (columns t,q1..,qd1..,[qdd1..,]tau1..).
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) parameters: ParameterArgs,
    /// Shown beside the configured learner: learners (gd, adam, metagd, metagd-memadam, adam+memory, ...) and baselines
    /// (persistence, persistence-1, rigid-body, rigid-body+i, rls, rff). Default: all baselines.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    compare: Vec<String>,
    /// Topic of sensor_msgs/JointState in the bags; needed only if a bag has several, or none called `joint_states`.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Of an .mcap file that is cut off (power loss, full disk), replay what is left instead of failing.
    #[arg(long)]
    salvage: bool,
    /// Rows to leave out at the beginning of every input.
    #[arg(long, value_name = "ROWS", default_value_t = 0)]
    skip: usize,
    /// Checkpoint to start the configured learner from; the others start fresh.
    #[arg(long, value_name = "FILE")]
    load: Option<String>,
    /// Where to save the configured learner's checkpoint in the end.
    #[arg(long, value_name = "FILE")]
    save: Option<String>,
    /// What to take from the checkpoint.
    #[arg(long, value_name = "WHAT", value_parser = ["all", "memory", "network", "none"])]
    reload: Option<String>,
    /// Take every input by itself, each from the same start (fresh, or --load), on all cores; the totals are over all of them.
    #[arg(long)]
    each: bool,
    /// How many threads to use. Default: one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Pace the recording by its own stamps through the pinned real-time thread, deadline included.
    #[arg(long)]
    realtime: bool,
    /// Folder for replay.json, predictions.csv (with --each: predictions-1.csv and so on), and with --realtime latency.hlog and
    /// latency.json.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON to standard output instead of tables.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints and replay.json holds.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The inputs as given.
    pub inputs: Vec<String>,
    /// The joints, in the order of every list of figures.
    pub joints: Vec<String>,
    /// Figures over all inputs, by learner.
    pub learners: BTreeMap<String, Figures>,
    /// Recorded time divided by the CPU time that the configured learner alone needs for it: reading, intake, prediction, scoring
    /// and learning. However many inputs are taken side by side, it is the figure of one core. With `--realtime`, divided by
    /// the time that passed.
    pub times_real_time: f64,
    /// The configured learner.
    pub learner: String,
    /// The preset.
    pub preset: String,
    /// The seed of the networks' weights.
    pub seed: i64,
    /// Samples scored.
    pub count: u64,
    /// Recorded time, s.
    pub duration_s: f64,
    /// Samples dropped by the intake, by reason.
    pub drops: BTreeMap<String, u64>,
    /// What a reader of the figures should know.
    pub notes: Vec<String>,
    /// With `--realtime`: latencies, deadline and drops of the pinned thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Summary>,
    /// Whether every input was taken by itself.
    pub each: bool,
    /// The same figures, input by input.
    pub per_input: Vec<PerInput>,
    /// The same as `learners`, in the table's order.
    #[serde(skip)]
    totals: Vec<(String, Vec<JointScore>)>,
}

/// One learner's figures, one number per joint; `null` where there is none.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Mean squared torque error within the first 500 ms of every recording (or run within it), Nm².
    pub first500ms_mse: Vec<f64>,
    /// Root mean square torque error, Nm.
    pub rms: Vec<f64>,
    /// Mean squared error divided by the variance of the measured torque.
    pub nmse: Vec<f64>,
}

/// Figures over one input.
#[derive(Debug, Serialize)]
pub struct PerInput {
    /// The input as given.
    pub input: String,
    /// Samples scored.
    pub count: u64,
    /// Recorded time, s.
    pub duration_s: f64,
    /// Figures by learner.
    pub learners: BTreeMap<String, Figures>,
    /// The same as `learners`, in the table's order.
    #[serde(skip)]
    scores: Vec<(String, Vec<JointScore>)>,
}

impl Figures {
    fn of(scores: &[JointScore]) -> Figures {
        let collect = |figure: fn(&JointScore) -> f64| scores.iter().map(figure).collect();
        Figures {
            first500ms_mse: collect(|score| score.first500ms_mse),
            rms: collect(|score| score.rms),
            nmse: collect(|score| score.nmse),
        }
    }

    fn by_learner(scores: &[(String, Vec<JointScore>)]) -> BTreeMap<String, Figures> {
        scores.iter().map(|(name, scores)| (name.clone(), Figures::of(scores))).collect()
    }
}

/// Runs `metagd replay`.
///
/// # Errors
/// [`Usage`] for an unknown learner; else what is wrong with an input, the URDF, a parameter, a checkpoint or the output.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut config = args.parameters.config("/metagd")?;
    if let Some(load) = &args.load {
        config.load = load.clone();
    }
    if let Some(save) = &args.save {
        config.save = save.clone();
    }
    if let Some(reload) = &args.reload {
        config.reload = reload.clone();
    }
    let mut names = vec![config.learner.clone()];
    let compared: Vec<&str> = if args.compare.is_empty() {
        baseline::NAMES.to_vec()
    } else {
        args.compare.iter().map(String::as_str).collect()
    };
    for name in compared {
        if !LEARNERS.contains(&name) && !baseline::NAMES.contains(&name) {
            let known = [LEARNERS, baseline::NAMES].concat().join(", ");
            return Err(Usage(format!("--compare: unknown learner `{name}`; there are {known}")).into());
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
    }
    if args.each {
        let refused = [
            (args.realtime, "--realtime: one recording at a time can be paced"),
            (!config.save.is_empty(), "--save (checkpoint.save): there is no one learner to save"),
        ];
        if let Some((_, why)) = refused.iter().find(|(is_asked, _)| *is_asked) {
            return Err(Usage(format!("--each does not go with {why}")).into());
        }
    }
    let setup = Recordings::open(&args.inputs, &config, args.topic.as_deref(), args.salvage)?;
    if setup.arm.is_none() {
        names.retain(|name| !baseline::needs_rigid_body(name));
    }
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let threads = usize::from(args.jobs.unwrap_or(0));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("no threads")?;
    let report = pool.install(|| replay(args, &config, &names, &setup))?;
    let json = serde_json::to_string_pretty(&report)? + "\n";
    if let Some(dir) = &args.out {
        let path = dir.join("replay.json");
        std::fs::write(&path, &json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    super::print(&if args.json { json } else { render(&report) })
}

/// A fresh model with the configured checkpoint, if `load`.
fn model(config: &Config, setup: &Recordings, load: bool) -> anyhow::Result<(InverseDynamics, Limits)> {
    let mut model = InverseDynamics::new(config, setup.arm.clone(), &setup.joints)?;
    if load && !config.load.is_empty() {
        let reload = match config.reload.as_str() {
            "memory" => Reload::Memory,
            "network" => Reload::Network,
            "none" => Reload::None,
            _ => Reload::All,
        };
        checkpoint::load(Path::new(&config.load), model.learner_mut(), config, &setup.joints, reload)?;
    }
    let limits = model.limits(config)?;
    Ok((model, limits))
}

/// The contenders of these names; the configured learner starts from the configured checkpoint, the others fresh.
fn contenders(
    names: &[String],
    config: &Config,
    setup: &Recordings,
) -> anyhow::Result<Vec<(String, Contender)>> {
    names
        .iter()
        .map(|name| {
            let contender = match baseline::new(name, config, setup.arm.as_ref(), setup.joints.len()) {
                Some(baseline) => Contender::Other(baseline),
                None => {
                    let configured = *name == config.learner;
                    let config = Config { learner: name.clone(), ..config.clone() };
                    let (model, limits) = model(&config, setup, configured)?;
                    Contender::Product(Box::new(Product::new(&config, model, limits)))
                }
            };
            Ok((name.clone(), contender))
        })
        .collect()
}

/// A bar on standard error over the rows of all inputs; nothing where standard error is no terminal.
fn progress(setup: &Recordings) -> ProgressBar {
    let rows: Option<u64> = setup.recordings.iter().map(Recording::len_hint).sum();
    let (bar, template) = match rows {
        Some(rows) => (ProgressBar::new(rows), "{msg} {wide_bar} {pos}/{len} rows, {eta} left"),
        None => (ProgressBar::new_spinner(), "{msg} {spinner} {pos} rows"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// What the contenders made of some inputs, one after another.
struct Passed {
    per_input: Vec<PerInput>,
    totals: Vec<Scores>,
    contestants: Vec<Contestant>,
    duration_s: f64,
    /// CPU time for the first contender alone.
    pass: Duration,
    drops: BTreeMap<String, u64>,
}

/// The whole comparison.
fn replay(args: &Args, config: &Config, names: &[String], setup: &Recordings) -> anyhow::Result<Report> {
    let mut notes = setup.notes.clone();
    let mut drops: BTreeMap<String, u64> = BTreeMap::new();
    let mut latency = None;
    let mut paced_for = None;
    let bar = progress(setup);
    let inputs = 0..setup.recordings.len();
    let passes = if args.each {
        let alone = |input| {
            let contenders = contenders(names, config, setup)?;
            let sink = sink(args, setup, names, &format!("predictions-{}.csv", input + 1))?;
            pass(args, config, setup, input..input + 1, contenders, sink, &bar)
        };
        // All are heard before the first error is told, which then does not depend on who was faster.
        let passes: Vec<_> = inputs.into_par_iter().with_max_len(1).map(alone).collect();
        passes.into_iter().collect::<anyhow::Result<Vec<_>>>()?
    } else {
        let mut contenders = contenders(names, config, setup)?;
        if args.realtime {
            let paced = paced::run(args, config, setup)?;
            notes.extend(paced.notes);
            if paced.ring_full > 0 {
                drops.insert(DropReason::RingFull.name().to_string(), paced.ring_full);
            }
            latency = Some(paced.summary);
            paced_for = Some(paced.elapsed);
            contenders[0].1 = Contender::Other(Box::new(paced.predictions));
        }
        let sink = sink(args, setup, names, "predictions.csv")?;
        let passed = pass(args, config, setup, inputs, contenders, sink, &bar)?;
        if let Some(Contestant { contender: Contender::Product(product), .. }) = passed.contestants.first() {
            save(config, setup, product.model())?;
        }
        vec![passed]
    };
    bar.finish_and_clear();
    let mut per_input = vec![];
    let mut totals: Vec<Scores> = names.iter().map(|_| Scores::new(setup.joints.len())).collect();
    let (mut duration_s, mut needed) = (0.0, Duration::ZERO);
    for passed in passes {
        per_input.extend(passed.per_input);
        totals.iter_mut().zip(&passed.totals).for_each(|(total, scores)| total.merge(scores));
        duration_s += passed.duration_s;
        needed += passed.pass;
        for (reason, count) in passed.drops {
            *drops.entry(reason).or_default() += count;
        }
    }
    let scores = totals.iter().map(Scores::joints);
    let scores: Vec<_> = names.iter().cloned().zip(scores).collect();
    Ok(Report {
        inputs: args.inputs.iter().map(|input| input.display().to_string()).collect(),
        joints: setup.joints.clone(),
        learners: Figures::by_learner(&scores),
        times_real_time: duration_s / paced_for.unwrap_or(needed).as_secs_f64(),
        learner: config.learner.clone(),
        preset: config.preset.clone(),
        seed: config.seed,
        count: totals.first().map_or(0, Scores::count),
        duration_s,
        drops,
        notes,
        latency,
        each: args.each,
        per_input,
        totals: scores,
    })
}

/// Passes the contenders over these inputs, one after another, with what was learnt carried on.
fn pass(
    args: &Args,
    config: &Config,
    setup: &Recordings,
    inputs: Range<usize>,
    contenders: Vec<(String, Contender)>,
    sink: Option<Sink>,
    bar: &ProgressBar,
) -> anyhow::Result<Passed> {
    let names: Vec<String> = contenders.iter().map(|(name, _)| name.clone()).collect();
    let mut comparison = Comparison::new(contenders, setup.joints.len(), !args.each, sink);
    let mut feed = Feed::new(config, &setup.joints)?;
    let started_ns = thread_cpu_ns();
    let mut drops: BTreeMap<String, u64> = BTreeMap::new();
    let mut per_input = vec![];
    for input in inputs {
        let given = args.inputs[input].display().to_string();
        bar.set_message(given.clone());
        let mut rows = setup.recordings[input].rows()?;
        for (index, row) in rows.by_ref().enumerate() {
            let row = row?;
            bar.inc(1);
            if index < args.skip {
                continue;
            }
            if feed.begins_phase(input, &row) {
                comparison.new_phase(feed.offset_ns())?;
            }
            if let Some(sample) = feed.sample(&row, row.stamp_ns) {
                comparison.push(sample)?;
            }
        }
        for (reason, count) in rows.skipped().iter() {
            *drops.entry(reason.name().to_string()).or_default() += count;
        }
        let found = comparison.end_input()?;
        if found.count == 0 {
            bail!("{given}: not one sample is left to score (skip: {} rows)", args.skip);
        }
        let scores: Vec<_> = names.iter().cloned().zip(found.scores).collect();
        per_input.push(PerInput {
            input: given,
            count: found.count,
            duration_s: found.duration_s,
            learners: Figures::by_learner(&scores),
            scores,
        });
    }
    for reason in DropReason::ALL {
        let count = feed.drops().get(*reason);
        if count > 0 {
            *drops.entry(reason.name().to_string()).or_default() += count;
        }
    }
    let spent = Duration::from_nanos(u64::try_from(thread_cpu_ns() - started_ns).unwrap_or(0));
    let feeding = spent.saturating_sub(comparison.own_cpu());
    Ok(Passed {
        per_input,
        totals: comparison.totals(),
        duration_s: comparison.duration_s(),
        pass: feeding + comparison.pass(0),
        drops,
        contestants: comparison.into_contestants(),
    })
}

/// Saves the configured learner, if the configuration says where.
fn save(config: &Config, setup: &Recordings, model: &InverseDynamics) -> anyhow::Result<()> {
    if !config.save.is_empty() {
        checkpoint::save(Path::new(&config.save), model.learner(), config, &setup.joints)?;
        tracing::info!("saved {}", config.save);
    }
    Ok(())
}

/// Where `--out` is given, writes the predictions there: `t` in s of the recording's clock, `measured.JOINT` and `LEARNER.JOINT`
/// in Nm.
fn sink<'a>(
    args: &Args,
    setup: &Recordings,
    names: &[String],
    file: &str,
) -> anyhow::Result<Option<Sink<'a>>> {
    let Some(dir) = &args.out else { return Ok(None) };
    let (path, joints) = (dir.join(file), &setup.joints);
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    write!(out, "t")?;
    for column in std::iter::once("measured").chain(names.iter().map(String::as_str)) {
        for joint in joints {
            write!(out, ",{column}.{joint}")?;
        }
    }
    writeln!(out)?;
    let joints = joints.len();
    Ok(Some(Box::new(move |sample, stamp_ns, predicted| {
        write!(out, "{}.{:09}", stamp_ns.div_euclid(1_000_000_000), stamp_ns.rem_euclid(1_000_000_000))?;
        for torque in std::iter::once(&sample.effort).chain(predicted.iter().copied()) {
            for value in &torque[..joints] {
                write!(out, ",{value}")?;
            }
        }
        writeln!(out)
    })))
}

/// What a person reads.
fn render(report: &Report) -> String {
    let mut text = format!(
        "{} samples, {} s of {}; {} ({} preset), seed {}; {} times real time\n",
        report.count,
        report::number(report.duration_s),
        report.inputs.join(", "),
        report.learner,
        report.preset,
        report.seed,
        report::number(report.times_real_time),
    );
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    for (reason, count) in &report.drops {
        text.push_str(&format!("dropped: {count} {reason}\n"));
    }
    text.push('\n');
    if report.each && report.per_input.len() > 1 {
        for input in &report.per_input {
            text += &format!(
                "{}: {} samples, {} s\n\n",
                input.input,
                input.count,
                report::number(input.duration_s)
            );
            text += &report::scores::render(&report.joints, &input.scores);
        }
        text += &format!("all {} inputs, each by itself\n\n", report.per_input.len());
    }
    text.push_str(&report::scores::render(&report.joints, &report.totals));
    if let Some(latency) = &report.latency {
        text.push_str(&report::latency::render(latency));
    }
    text
}
