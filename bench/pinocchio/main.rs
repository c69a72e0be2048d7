//! The recursive Newton-Euler algorithm of this repository beside Pinocchio's: `just pinocchio`, which calls `run` in
//! this folder, which needs Python 3 with venv, g++ and PyPI.
//!
//! Both compute the torques of the LWR in the same random states, which are checked to agree. Pinocchio runs in a C++
//! program of its own (rnea.cpp), compiled for every x86-64 CPU, as we are, and for this very one; each is timed around
//! a pass over all states, pass by pass in turn, and starts when the other has finished. Its copy of the torques into
//! the results is in its time as it is in ours.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use metagd::dynamics::Arm;
use metagd::sample::{Motion, PerJoint};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const JOINTS: usize = 7;
const STATES: usize = 1_000;
const PASSES: usize = 2_000;
/// Passes that are not counted: the first ones fill the caches.
const WARM_UP: usize = 100;

/// A program that computes the torques of all states whenever it is told to.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(program: &Path, model: &Path, states: &[Motion]) -> anyhow::Result<Peer> {
        let mut child =
            Command::new(program).arg(model).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take().context("stdin")?, child.stdout.take().context("stdout")?);
        let mut peer = Peer { child, input, output: BufReader::new(output) };
        let mut numbers = format!("{}\n", states.len());
        for motion in states {
            for values in [&motion.q, &motion.qd, &motion.qdd] {
                values[..JOINTS].iter().for_each(|value| numbers += &format!("{value} "));
            }
        }
        writeln!(peer.input, "{numbers}")?;
        Ok(peer)
    }

    /// The nanoseconds of one pass over all states.
    fn pass(&mut self) -> anyhow::Result<f64> {
        writeln!(self.input)?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        line.trim().parse().with_context(|| format!("not nanoseconds: {line:?}"))
    }

    /// The torques of all states, joint by joint.
    fn torques(mut self) -> anyhow::Result<Vec<f64>> {
        drop(self.input);
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        ensure!(self.child.wait()?.success(), "a program failed, see above");
        text.split_whitespace().map(|value| value.parse().context("not a torque")).collect()
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, urdf, model, programs @ ..] = &arguments[..] else {
        anyhow::bail!("usage: pinocchio URDF MODEL PROGRAM...");
    };
    let arm = Arm::from_urdf(urdf.as_ref(), &[], [0.0, 0.0, -9.81])?;
    ensure!(arm.len() == JOINTS, "{urdf} has {} joints, not {JOINTS}", arm.len());

    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut states = vec![Motion::default(); STATES];
    for motion in &mut states {
        for values in [&mut motion.q, &mut motion.qd, &mut motion.qdd] {
            values[..JOINTS].fill_with(|| random.random_range(-2.0..2.0));
        }
    }
    let mut peers: Vec<Peer> = programs
        .iter()
        .map(|program| Peer::start(program.as_ref(), model.as_ref(), &states))
        .collect::<Result<_, _>>()?;

    let mut torques = vec![PerJoint::default(); STATES];
    let mut times = vec![Vec::with_capacity(PASSES); 1 + peers.len()];
    for pass in 0..WARM_UP + PASSES {
        let start = Instant::now();
        for (torques, motion) in torques.iter_mut().zip(&states) {
            *torques = arm.inverse_dynamics(black_box(motion));
        }
        black_box(&mut torques);
        let ours = start.elapsed().as_nanos() as f64;
        let theirs: Vec<f64> = peers.iter_mut().map(Peer::pass).collect::<Result<_, _>>()?;
        if pass >= WARM_UP {
            for (times, time) in times.iter_mut().zip(std::iter::once(ours).chain(theirs)) {
                times.push(time / STATES as f64);
            }
        }
    }

    let mut worst: f64 = 0.0;
    for peer in peers {
        let theirs = peer.torques()?;
        ensure!(theirs.len() == STATES * JOINTS, "{} torques came back", theirs.len());
        for (ours, theirs) in torques.iter().zip(theirs.chunks_exact(JOINTS)) {
            for (ours, theirs) in ours.iter().zip(theirs) {
                worst = worst.max((ours - theirs).abs());
            }
        }
    }
    ensure!(worst < 1e-9, "the torques differ by up to {worst:e} Nm");

    println!("{STATES} states, {PASSES} passes over them in turn; torques agree to {worst:.0e} Nm");
    println!("{:34} {:>10} {:>10} {:>16} {:>16}", "", "min", "median", "ours/its, min", "median");
    times.iter_mut().for_each(|times| times.sort_unstable_by(f64::total_cmp));
    let (min, median) = (times[0][0], times[0][PASSES / 2]);
    let names = std::iter::once("metagd").chain(
        programs
            .iter()
            .map(|program| Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or(program)),
    );
    for (name, times) in names.zip(&times) {
        let (its_min, its_median) = (times[0], times[PASSES / 2]);
        println!(
            "{name:34} {its_min:>7.0} ns {its_median:>7.0} ns {:>16.2} {:>16.2}",
            min / its_min,
            median / its_median
        );
    }
    Ok(())
}
