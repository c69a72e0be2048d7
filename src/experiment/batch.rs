//! Full-batch learning of an arm's inverse dynamics (section IV-D1, Fig. 4): the simulated LWR goes around a horizontal, then a
//! vertical rectangle; networks learn what a strongly perturbed rigid-body model leaves of the torques.
//!
//! Contract: everything follows from a run's seed: the arm, its motions and noise, the networks' weights, what is dropped.
//! One network per joint and task, with a memory for each of its tensors; on the second task the network is new, and only the memory
//! may be carried over.

use std::sync::OnceLock;

use anyhow::Context;
use nalgebra::{DMatrix, Vector3};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use super::report::{Axis, Cell, Claim, Curve, Figure, Holds, Panel, Report, Table, mean_and_deviation};
use super::sweep::{self, Experiment};
use crate::config::Config;
use crate::dynamics::{Acceleration, Arm};
use crate::learn::{Base, Memory, MemoryOptimizer, MemorySettings, MetaGd, Network, Signal, Spacing};
use crate::sim::{LWR_URDF, Mode, Mounting, Payload, Script, Session, SimOptions, Task};

mod network;
use network::{BatchNetwork, Dropout};

const JOINTS: usize = 7;
const HIDDEN: [usize; 3] = [50, 50, 50];
/// How wrong the rigid-body model is: what it has of the masses and inertias that the arm's data sheet names, and by how much
/// centres of mass are off, m.
const MASS_SHARE: [f64; 2] = [0.3, 0.9];
const COM_OFF: f64 = 0.05;
const TASKS: [Task; 2] = [Task::RectangleHorizontal, Task::RectangleVertical];
/// Rounds that are learned from; one more is kept to see what was learned.
const ROUNDS: usize = 2;
/// A sample is taken every so many milliseconds.
const EVERY: usize = 4;
/// Losses are noted every so many iterations.
const NOTED: usize = 5;
/// Iterations whose losses the tables show, and the last.
const SHOWN: [usize; 4] = [0, 10, 50, 100];

/// The learners, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Learner {
    /// Gradient descent at a constant rate.
    Gd,
    /// The paper's.
    MetaGd,
    /// Its memory learns by Adam.
    MemAdam,
    /// Adam at a constant rate; not in the paper's figure.
    Adam,
}

impl Learner {
    const ALL: [Learner; 4] = [Learner::Gd, Learner::MetaGd, Learner::MemAdam, Learner::Adam];

    fn name(self) -> &'static str {
        match self {
            Learner::Gd => "GD",
            Learner::MetaGd => "MetaGD",
            Learner::MemAdam => "MetaGDMemAdam",
            Learner::Adam => "Adam",
        }
    }

    fn has_memory(self) -> bool {
        matches!(self, Learner::MetaGd | Learner::MemAdam)
    }

    fn optimiser(self, network: &Network<f32>, rate: f64, memory_rate: f64) -> MetaGd<f32> {
        const CLIP: f64 = 2.0;
        let memory = |optimizer, memory_rate| {
            let settings = MemorySettings {
                models: 20,
                spacing: Spacing::Linear,
                width: 0.5,
                clip: CLIP,
                rate: memory_rate,
                signal: Signal::Product,
                optimizer,
                window: None,
            };
            Memory::new(&settings.windowed(), rate)
        };
        let memory = match self {
            Learner::Gd | Learner::Adam => None,
            Learner::MetaGd => Some(memory(MemoryOptimizer::Gd, memory_rate)),
            Learner::MemAdam => Some(memory(MemoryOptimizer::Adam, 1e-3)),
        };
        let base = if self == Learner::Adam { Base::Adam } else { Base::Gd };
        let tensors = network.layers().iter().flat_map(|layer| [layer.weights.len(), layer.bias.len()]);
        MetaGd::new(base, rate, CLIP, tensors.map(|size| (size, memory.clone())).collect())
    }
}

/// The experiment.
pub struct Batch {
    quick: bool,
    dropout: f64,
    memory_rate: f64,
    /// By seed, made when first asked for.
    arms: Vec<OnceLock<Result<[Data; 2], String>>>,
}

/// What one task gave: inputs `[q, qd, qdd]` in columns, and by joint the torque that the model leaves, Nm.
struct Data {
    inputs: DMatrix<f32>,
    residuals: Vec<Vec<f32>>,
    /// Samples in front of these are learned from.
    unseen_from: usize,
}

impl Data {
    fn part(&self, unseen: bool, joint: usize) -> (DMatrix<f32>, &[f32]) {
        let (from, to) = if unseen { (self.unseen_from, self.inputs.ncols()) } else { (0, self.unseen_from) };
        (self.inputs.columns(from, to - from).into_owned(), &self.residuals[joint][from..to])
    }
}

/// One learner on one joint of one arm, at one base rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    seed: u64,
    learner: Learner,
    rate: f64,
    joint: usize,
    dropout: f64,
    memory_rate: f64,
}

/// What happened on both tasks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The first task, then the second without the memory.
    fresh: [Descent; 2],
    /// The second with the memory.
    carried: Option<Descent>,
}

/// Mean squared errors of one network, Nm².
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Descent {
    /// Over the batch, nothing dropped, every [`NOTED`] iterations from 0 on.
    #[serde(deserialize_with = "sweep::numbers")]
    losses: Vec<f64>,
    /// In the end, on a round that it did not learn from.
    #[serde(deserialize_with = "sweep::number")]
    unseen: f64,
    /// Of the rigid-body model alone: over the batch, on the unseen round.
    model: [f64; 2],
}

impl Batch {
    /// The experiment with this share of units dropped (0 to 0.9), and MetaGD's memories learning at `memory_rate`.
    pub fn new(quick: bool, dropout: f64, memory_rate: f64) -> Batch {
        let seeds = if quick { 1 } else { 5 };
        Batch { quick, dropout, memory_rate, arms: (0..seeds).map(|_| OnceLock::new()).collect() }
    }

    fn iterations(&self) -> usize {
        if self.quick { 50 } else { 300 }
    }

    fn rates(&self) -> &'static [f64] {
        if self.quick { &[1e-2] } else { &[1e-2, 1e-3] }
    }

    fn descend(&self, run: &Run, task: usize, data: &Data, optimiser: &mut MetaGd<f32>) -> Descent {
        let start = new_network(run, task);
        let (inputs, targets) = data.part(false, run.joint);
        let mut network = BatchNetwork::new(&start, targets.len());
        let mut random = ChaCha8Rng::seed_from_u64(run.seed);
        random.set_stream((2 * run.joint + task) as u64);
        let mut dropout = Dropout::new(run.dropout, random);
        let mut losses = vec![network.loss(&inputs, targets)];
        for iteration in 1..=self.iterations() {
            network.learn_from(&inputs, targets, &mut dropout);
            optimiser.step(&mut network.params, &network.gradient);
            if iteration % NOTED == 0 {
                losses.push(network.loss(&inputs, targets));
            }
        }
        let (inputs, unseen) = data.part(true, run.joint);
        let mut last = BatchNetwork::new(&start, unseen.len());
        last.params = network.params;
        let model = [targets, unseen].map(|residual| {
            residual.iter().map(|r| f64::from(*r).powi(2)).sum::<f64>() / residual.len() as f64
        });
        Descent { losses, unseen: last.loss(&inputs, unseen), model }
    }
}

fn new_network(run: &Run, task: usize) -> Network<f32> {
    Network::new(3 * JOINTS, &HIDDEN, run.seed, (2 * run.joint + task) as u64)
}

/// The rigid-body model with this seed: `arm`, strongly perturbed.
fn perturbed(arm: &Arm, seed: u64) -> Arm {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(u64::MAX);
    let mut model = arm.clone();
    model.map_links(|_, link| {
        let share = random.random_range(MASS_SHARE[0]..MASS_SHARE[1]);
        let mut off = || random.random_range(-COM_OFF..COM_OFF);
        link.mass *= share;
        link.inertia *= share;
        link.com += Vector3::new(off(), off(), off());
    });
    model
}

/// Simulates both tasks of the arm with this seed. Its controller knows the arm as its data sheet has it; the model that is
/// learned on top of is worse.
fn simulate(seed: u64, rounds: usize) -> anyhow::Result<[Data; 2]> {
    let mounting = Mounting::Floor;
    let nominal = Arm::from_urdf_str(LWR_URDF, &[], mounting.gravity())?;
    let model = perturbed(&nominal, seed);
    let options = SimOptions { seed, mounting, ..SimOptions::default() };
    let task = |task: Task| -> anyhow::Result<Data> {
        let script = Script::repeat(task, Payload::None, Mode::RigidBody, rounds + 1, seed);
        let mut session = Session::new(&nominal, &options, &script)?;
        let mut fit = Acceleration::new(&Config::default(), JOINTS);
        let (mut inputs, mut residuals) = (Vec::new(), vec![Vec::new(); JOINTS]);
        let (mut unseen_from, mut ticks) = (0, 0);
        while !session.is_done() {
            let tick = session.tick(None)?;
            let measured = &tick.measurement;
            fit.push(tick.stamp_ns, &measured.q, &measured.qd, &measured.effort);
            ticks += 1;
            let Some(observation) = fit.centred().filter(|_| tick.scored && ticks % EVERY == 0) else {
                continue;
            };
            let motion = &observation.motion;
            for values in [&motion.q, &motion.qd, &motion.qdd] {
                inputs.extend(values[..JOINTS].iter().map(|value| *value as f32));
            }
            let torque = model.inverse_dynamics(motion);
            for (joint, residual) in residuals.iter_mut().enumerate() {
                residual.push((observation.effort[joint] - torque[joint]) as f32);
            }
            if tick.trial < rounds {
                unseen_from = residuals[0].len();
            }
        }
        Ok(Data { inputs: DMatrix::from_vec(3 * JOINTS, residuals[0].len(), inputs), residuals, unseen_from })
    };
    Ok([task(TASKS[0])?, task(TASKS[1])?])
}

impl Experiment for Batch {
    type Run = Run;
    type Outcome = Outcome;

    fn name(&self) -> &'static str {
        "batch"
    }

    fn options(&self) -> Vec<String> {
        vec![format!("--dropout {} --memory-rate {}", self.dropout, self.memory_rate)]
    }

    fn runs(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        for seed in 1..=self.arms.len() as u64 {
            for &rate in self.rates() {
                for learner in Learner::ALL {
                    let Batch { dropout, memory_rate, .. } = *self;
                    let run = |joint| Run { seed, learner, rate, joint, dropout, memory_rate };
                    runs.extend((0..JOINTS).map(run));
                }
            }
        }
        runs
    }

    fn run(&self, run: &Run) -> anyhow::Result<Outcome> {
        let arm = self.arms.get(run.seed as usize - 1).context("no such seed")?;
        let rounds = if self.quick { 1 } else { ROUNDS };
        let made = arm.get_or_init(|| simulate(run.seed, rounds).map_err(|error| format!("{error:#}")));
        let [first, second] = made.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut optimiser = run.learner.optimiser(&new_network(run, 0), run.rate, run.memory_rate);
        let mut new = optimiser.clone();
        let fresh = [self.descend(run, 0, first, &mut optimiser), self.descend(run, 1, second, &mut new)];
        let carried = run.learner.has_memory().then(|| {
            optimiser.new_task();
            self.descend(run, 1, second, &mut optimiser)
        });
        Ok(Outcome { fresh, carried })
    }

    fn report(&self, outcomes: &[(Run, Outcome)]) -> anyhow::Result<Report> {
        let results = Results { batch: self, outcomes };
        let mut tables = Vec::new();
        for &rate in self.rates() {
            tables.push(results.shares(rate));
        }
        for task in 0..2 {
            tables.push(results.per_joint(self.rates()[0], task));
        }
        Ok(Report {
            notes: vec![
                format!(
                    "networks of {HIDDEN:?} rectified units (the paper's sizes, dropout and rates are not legible in our \
                     copy), {:.0} % of hidden units dropped in training and none for the losses shown; inputs [q, qd, \
                     qdd] and torques [Nm] as they are; K = 20, clip 2, memory rate {} (MemAdam 1e-3)",
                    100.0 * self.dropout,
                    self.memory_rate
                ),
                format!(
                    "{} of each rectangle in a batch, a sample every {EVERY} ms, one more round unseen; the model has {:.0} to \
                     {:.0} % of each link's mass and inertia, its centres of mass are off by up to {:.0} mm, and it knows \
                     neither friction nor ripple",
                    if self.quick { "one round".to_string() } else { format!("{ROUNDS} rounds") },
                    100.0 * MASS_SHARE[0],
                    100.0 * MASS_SHARE[1],
                    1e3 * COM_OFF
                ),
                "on the second task every network is new; `carried` begins it with the memories of the first"
                    .into(),
            ],
            tables,
            figures: self.rates().iter().map(|rate| results.figure(*rate)).collect(),
            claims: results.claims(),
        })
    }
}

/// One line of tables and figures: a learner on a task, with the memory carried or not.
#[derive(Clone, Copy, PartialEq)]
struct Case {
    learner: Learner,
    task: usize,
    carried: bool,
}

impl Case {
    fn all(task: usize) -> Vec<Case> {
        let cases = Learner::ALL.into_iter().flat_map(|learner| {
            let carried = task == 1 && learner.has_memory();
            [false, true].into_iter().filter(move |c| !c || carried).map(move |carried| Case {
                learner,
                task,
                carried,
            })
        });
        cases.collect()
    }

    fn name(self) -> String {
        let how = if self.carried { ", memory carried" } else { "" };
        format!("{}{how}", self.learner.name())
    }

    fn style(self) -> usize {
        2 * self.learner as usize + usize::from(self.carried)
    }

    fn of(self, outcome: &Outcome) -> Option<&Descent> {
        if self.carried { outcome.carried.as_ref() } else { Some(&outcome.fresh[self.task]) }
    }
}

struct Results<'a> {
    batch: &'a Batch,
    outcomes: &'a [(Run, Outcome)],
}

impl Results<'_> {
    fn descents(&self, case: Case, rate: f64) -> impl Iterator<Item = (&Run, &Descent)> {
        let wanted =
            self.outcomes.iter().filter(move |(run, _)| run.learner == case.learner && run.rate == rate);
        wanted.filter_map(move |(run, outcome)| Some((run, case.of(outcome)?)))
    }

    /// By seed the geometric mean over joints of what `share` says of each.
    fn by_seed(&self, case: Case, rate: f64, share: impl Fn(&Descent) -> f64) -> Vec<f64> {
        let mut sums = vec![(0.0, 0.0); self.batch.arms.len()];
        for (run, descent) in self.descents(case, rate) {
            let sum = &mut sums[run.seed as usize - 1];
            sum.0 += share(descent).ln();
            sum.1 += 1.0;
        }
        sums.into_iter().map(|(sum, count)| (sum / count).exp()).collect()
    }

    /// What of the model's squared error is left after so many iterations, by seed.
    fn share(&self, case: Case, rate: f64, iteration: usize) -> Vec<f64> {
        self.by_seed(case, rate, |descent| loss_at(descent, iteration) / descent.model[0])
    }

    fn shown(&self) -> Vec<usize> {
        let last = self.batch.iterations();
        SHOWN.into_iter().filter(|n| *n < last).chain([last]).collect()
    }

    fn shares(&self, rate: f64) -> Table {
        let shown = self.shown();
        let head = ["learner", "task"].map(String::from).into_iter();
        let head = head.chain(shown.iter().map(|n| format!("after {n}"))).chain(["unseen round".into()]);
        let title = format!(
            "what is left of the model's squared error after so many iterations, base rate {rate}: geometric mean over joints, and the \
             deviation over {} arms",
            self.batch.arms.len()
        );
        let mut table = Table::new(title, head);
        for case in (0..2).flat_map(Case::all) {
            let task = TASKS[case.task].to_string();
            let cells = shown.iter().map(|n| Cell::spread(&self.share(case, rate, *n)));
            let unseen = self.by_seed(case, rate, |descent| descent.unseen / descent.model[1]);
            let names = [Cell::from(case.name()), task.trim_start_matches("rectangle-").into()];
            table.row(names.into_iter().chain(cells).chain([Cell::spread(&unseen)]));
        }
        table
    }

    fn per_joint(&self, rate: f64, task: usize) -> Table {
        let head = ["learner".to_string(), "after".into()].into_iter();
        let head = head.chain((1..=JOINTS).map(|joint| format!("joint {joint}")));
        let title = format!("mean squared error on {} [Nm²], base rate {rate}, mean over arms", TASKS[task]);
        let mut table = Table::new(title, head);
        let mean = |case: Case, figure: &dyn Fn(&Descent) -> f64| -> Vec<Cell> {
            let of_joint = |joint: usize| {
                let own = self.descents(case, rate).filter(|(run, _)| run.joint == joint);
                let values: Vec<f64> = own.map(|(_, descent)| figure(descent)).collect();
                mean_and_deviation(&values).0.into()
            };
            (0..JOINTS).map(of_joint).collect()
        };
        let model = Case { learner: Learner::Gd, task, carried: false };
        let names = ["the model alone".into(), "".into()];
        table.row(names.into_iter().chain(mean(model, &|descent| descent.model[0])));
        for case in Case::all(task) {
            for n in self.shown().into_iter().skip(1) {
                let names = [Cell::from(case.name()), n.to_string().into()];
                table.row(names.into_iter().chain(mean(case, &|descent| loss_at(descent, n))));
            }
        }
        table
    }

    fn figure(&self, rate: f64) -> Figure {
        let panel = |task: usize| {
            let curves = Case::all(task).into_iter().map(|case| {
                let noted: Vec<usize> = (0..=self.batch.iterations()).step_by(NOTED).collect();
                let at: Vec<Vec<f64>> = noted.iter().map(|n| self.share(case, rate, *n)).collect();
                let lines: Vec<Vec<f64>> = (0..self.batch.arms.len())
                    .map(|seed| at.iter().map(|shares| shares[seed]).collect())
                    .collect();
                let lines: Vec<&[f64]> = lines.iter().map(Vec::as_slice).collect();
                let x: Vec<f64> = noted.iter().map(|n| *n as f64).collect();
                Curve::mean_of(case.name(), case.style(), &x, &lines)
            });
            Panel {
                title: format!("Task {}: {}", task + 1, TASKS[task]),
                x: Axis::linear("iteration"),
                y: Axis::log("squared error / the model's"),
                curves: curves.collect(),
                ..Panel::default()
            }
        };
        Figure {
            name: format!("batch-rate-{rate}"),
            caption: format!(
                "squared error over the batch, divided by the rigid-body model's, geometric mean over joints; bands from the least \
                 to the greatest of {} arms; base rate {rate}",
                self.batch.arms.len()
            ),
            columns: 2,
            panels: vec![panel(0), panel(1)],
        }
    }

    /// Whether `one` is below `other` on average at each rate and shown iteration, and in how many single networks in the end.
    fn compare(&self, text: &str, one: Case, other: Case, why: &str) -> Claim {
        let (mut found, mut is_so) = (Vec::new(), Vec::new());
        for &rate in self.batch.rates() {
            let mut shares = Vec::new();
            for n in self.shown().into_iter().skip(1) {
                let [a, b] = [one, other].map(|case| mean_and_deviation(&self.share(case, rate, n)).0);
                is_so.push(a < b);
                shares.push(format!("{a:.3} against {b:.3} after {n}"));
            }
            let pairs = self.descents(one, rate).zip(self.descents(other, rate));
            let lower = pairs.filter(|((_, a), (_, b))| a.losses.last() < b.losses.last()).count();
            let all = self.descents(one, rate).count();
            found.push(format!(
                "at rate {rate}: {}, lower in {lower} of {all} networks in the end",
                shares.join(", ")
            ));
        }
        let holds = Holds::of(&is_so);
        Claim {
            claim: text.into(),
            found: found.join("; "),
            holds,
            why: if holds == Holds::Yes { String::new() } else { why.into() },
        }
    }

    fn claims(&self) -> Vec<Claim> {
        let case = |learner, task, carried| Case { learner, task, carried };
        let meta = |task, carried| case(Learner::MetaGd, task, carried);
        let chance =
            "where a constant rate is near the greatest that does not diverge, there is nothing to be won";
        vec![
            self.compare(
                "Fig. 4: on the first task, MetaGD's loss falls faster than GD's",
                meta(0, false),
                case(Learner::Gd, 0, false),
                chance,
            ),
            self.compare(
                "Fig. 4: on the second task, MetaGD with the memory carried falls faster than with a new memory",
                meta(1, true),
                meta(1, false),
                "the memory brings rates for large gradients, which a new network has in the beginning; later gradients are small, \
                 and products of small ones teach a memory little",
            ),
            self.compare(
                "Fig. 4: on the second task, MetaGD with the memory carried falls faster than GD",
                meta(1, true),
                case(Learner::Gd, 1, false),
                chance,
            ),
            self.compare(
                "(not in the paper) MetaGD falls faster than Adam at the same base rate",
                meta(0, false),
                case(Learner::Adam, 0, false),
                "Adam scales every coordinate by its own history, which a memory shared by a tensor cannot",
            ),
        ]
    }
}

/// The loss after so many iterations, a multiple of [`NOTED`].
fn loss_at(descent: &Descent, iteration: usize) -> f64 {
    descent.losses.get(iteration / NOTED).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_wrong_and_the_tasks_differ() {
        let [horizontal, vertical] = simulate(1, 1).unwrap();
        for data in [&horizontal, &vertical] {
            assert!(data.unseen_from > 500 && data.inputs.ncols() > data.unseen_from + 500);
            let (_, residual) = data.part(false, 1);
            let square = residual.iter().map(|r| r * r).sum::<f32>() / residual.len() as f32;
            assert!(square > 1.0, "{square}");
        }
        assert_ne!(horizontal.inputs.column(300), vertical.inputs.column(300));
    }

    #[test]
    fn a_run_is_the_same_every_time_and_learns() {
        let batch = Batch::new(true, 0.1, 1e-2);
        let run =
            Run { seed: 1, learner: Learner::MetaGd, rate: 1e-2, joint: 1, dropout: 0.1, memory_rate: 1e-2 };
        let outcome = batch.run(&run).unwrap();
        let again = Batch::new(true, 0.1, 1e-2).run(&run).unwrap();
        assert_eq!(serde_json::to_string(&outcome).unwrap(), serde_json::to_string(&again).unwrap());
        let [first, second] = &outcome.fresh;
        assert!(first.losses[10] < 0.5 * first.losses[0], "{:?}", first.losses);
        let carried = outcome.carried.unwrap();
        assert_eq!(carried.losses[0], second.losses[0]);
        assert_ne!(carried.losses[1], second.losses[1]);
    }
}
