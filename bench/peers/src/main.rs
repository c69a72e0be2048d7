//! One MetaGD step of seven joints' networks, in metagd and elsewhere, from the same weights and data: checked equal, then
//! measured alternately. See README.md.

mod candle_peer;
mod contestant;
mod ours;
mod python;
mod roofline;
mod state;
mod stream;

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use contestant::Contestant;
use ours::{Ours, node, paper};
use state::{Apart, TOLERANCE};
use stream::Stream;

/// The arm, its networks and its batches: those of the node's defaults.
const JOINTS: usize = 7;
const BATCH: usize = 10;
const HIDDEN: [usize; 3] = [50, 50, 50];

/// After how many steps the contestants must agree.
const CHECKED_STEPS: usize = 20;
/// Steps that bring a contestant's code and data back into the caches before it is timed.
const WARM_UP: usize = 5;

/// Each of these keeps one library or other to one thread.
const ONE_THREAD: [(&str, &str); 7] = [
    ("RAYON_NUM_THREADS", "1"),
    ("CANDLE_NUM_THREADS", "1"),
    ("OMP_NUM_THREADS", "1"),
    ("OPENBLAS_NUM_THREADS", "1"),
    ("MKL_NUM_THREADS", "1"),
    ("NPROC", "1"),
    ("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"),
];

/// Time metagd's learning step against the same step in other frameworks.
#[derive(Parser)]
struct Args {
    /// How often each contestant is timed.
    #[arg(long, default_value_t = 25)]
    rounds: usize,
    /// How many steps each timing covers.
    #[arg(long, default_value_t = 100)]
    steps: usize,
    /// A few seconds: 3 rounds of 20 steps.
    #[arg(long, conflicts_with_all = ["rounds", "steps"])]
    quick: bool,
}

fn main() -> Result<()> {
    let mut args = Args::parse();
    if args.quick {
        (args.rounds, args.steps) = (3, 20);
    }
    one_thread()?;

    let folder = tempfile::tempdir()?;
    let start = ours::start(&paper())?;
    std::fs::write(folder.path().join("start.safetensors"), &start)?;
    let mut ours = Ours::new("metagd", &paper())?;
    let mut node = Ours::new("metagd in the node: residual, integrator (more than the step)", &node())?;
    let mut peers: Vec<Box<dyn Contestant>> =
        vec![Box::new(candle_peer::Candle::new(&start, &paper()).context("candle")?)];
    for script in ["jax_peer.py", "torch_peer.py"] {
        match python::start(script, folder.path()) {
            Ok(forms) => peers.extend(forms.into_iter().map(|peer| Box::new(peer) as Box<dyn Contestant>)),
            Err(error) => println!("SKIPPED: {script}: {error:#}\n"),
        }
    }
    println!(
        "Seven joints, {HIDDEN:?}, batches of {BATCH}, one thread; {} rounds of {} steps each.",
        args.rounds, args.steps
    );

    let length = args.steps.max(CHECKED_STEPS);
    let mut streams = vec![stream::smooth(length), stream::dense(length)];
    match stream::real(length) {
        Ok(stream) => streams.push(stream),
        Err(error) => println!("\nSKIPPED: the stream `real`: {error:#}"),
    }
    for stream in &streams {
        contest(&args, stream, &mut ours, &mut node, &mut peers)
            .with_context(|| format!("on the stream `{}`", stream.name))?;
    }
    Ok(())
}

/// Confines this process, and with it all peers, to the last CPU that it may use, and tells every library.
fn one_thread() -> Result<()> {
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rfind(|&cpu| allowed.is_set(cpu)).context("no CPU to run on")?;
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one)?;
    if ONE_THREAD.iter().all(|(name, value)| std::env::var(name).as_deref() == Ok(*value)) {
        return Ok(());
    }
    // A process may not change its own environment once it has threads; a new one begins with it.
    let error =
        Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).envs(ONE_THREAD).exec();
    bail!("cannot start anew on one thread: {error}")
}

/// One stream: check, measure, print.
fn contest(
    args: &Args,
    stream: &Stream,
    ours: &mut Ours,
    node: &mut Ours,
    peers: &mut [Box<dyn Contestant>],
) -> Result<()> {
    ours.load(stream)?;
    node.load(stream)?;
    ours.run(0)?;
    let start = ours.state()?;
    ours.run(CHECKED_STEPS)?;
    let expected = ours.state()?;
    let mut apart = Vec::new();
    for peer in peers.iter_mut() {
        peer.load(stream)?;
        peer.run(CHECKED_STEPS)?;
        let state = peer.state()?;
        let checked = Apart::of(&state, &expected, &start).and_then(Apart::check);
        apart.push(checked.with_context(|| peer.name().to_string())?);
    }

    let mut times = vec![Vec::new(); 2 + peers.len()];
    let mut peak = 0f64;
    for _ in 0..args.rounds {
        peak = peak.max(roofline::peak());
        let all = [ours as &mut dyn Contestant, node].into_iter();
        let all = all.chain(peers.iter_mut().map(|peer| &mut **peer as &mut dyn Contestant));
        for (contestant, times) in all.zip(&mut times) {
            contestant.run(WARM_UP.min(args.steps))?;
            times.push(contestant.run(args.steps)?);
        }
    }
    let times: Vec<_> = times.into_iter().map(|times| Times::of(times, args.steps)).collect();

    println!("\nStream `{}`: {}; live units {:.0} %.\n", stream.name, stream.what, 100.0 * ours.live_units());
    let names = [ours.name(), node.name()].into_iter().chain(peers.iter().map(|peer| peer.name()));
    let apart = [None, None].into_iter().chain(apart.into_iter().map(Some));
    println!("{}", table(names, &times, apart));
    roof(&times[0], peak);
    Ok(())
}

/// Of one contestant, µs per step.
struct Times {
    min: f64,
    median: f64,
}

impl Times {
    fn of(mut times: Vec<Duration>, steps: usize) -> Times {
        times.sort_unstable();
        let us =
            |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6 / steps as f64);
        Times { min: us(times.first()), median: us(times.get(times.len() / 2)) }
    }
}

/// The first row is the one that the others are compared with.
fn table<'a>(
    names: impl Iterator<Item = &'a str>,
    times: &[Times],
    apart: impl Iterator<Item = Option<Apart>>,
) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([
        "step of seven joints",
        "min, µs",
        "median, µs",
        "ours/theirs, min",
        "ours/theirs, median",
        "weights apart",
        "memories apart",
    ]);
    for ((name, time), apart) in names.zip(times).zip(apart) {
        let (weights, memories) = apart.map_or_else(Default::default, |apart| {
            (format!("{:.0e}", apart.weights), format!("{:.0e}", apart.memories))
        });
        table.add_row([
            name.to_string(),
            format!("{:.1}", time.min),
            format!("{:.1}", time.median),
            format!("{:.4}", times[0].min / time.min),
            format!("{:.4}", times[0].median / time.median),
            weights,
            memories,
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn roof(ours: &Times, peak: f64) {
    let (network, memory) = (roofline::network_flop(), roofline::memory_flop());
    println!(
        "\nApart: after {CHECKED_STEPS} steps, as a share of the way gone; {TOLERANCE:.0e} is allowed. \
         The step by formula, nothing skipped: {:.2} MFLOP forward and backward + {:.2} memory.",
        network * 1e-6,
        memory * 1e-6
    );
    if !roofline::HAS_FMA {
        println!(
            "SKIPPED: the roofline: built without fused multiply-add; build from bench/peers, as `just peers` does"
        );
        return;
    }
    let least = (network + memory) / peak * 1e6;
    println!(
        "Peak of this core in the same run: {:.0} GFLOP/s, {least:.1} µs for the step; share of the roofline \
         (FLOP / peak / our time): {:.0} % of the minimum, {:.0} % of the median.",
        peak * 1e-9,
        100.0 * least / ours.min,
        100.0 * least / ours.median
    );
}
