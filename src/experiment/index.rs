//! What a memory may be indexed by: the paper's own future work ("more than the gradient").
//!
//! Contract: a memory here is written for clearness and not for speed; it runs in experiments alone. Indexed by the gradient
//! and nothing else it is the product's ([`MetaGd`](crate::learn::MetaGd)), which a test holds it to.
//!
//! A memory's local models stand on a grid: along the gradient as in the paper and, across, along one more quantity that
//! is known when the rate is looked up. Activations are products of the two Gaussians, `v_km` is the rate at gradient `c_k` and
//! quantity `d_m`, and eq. (10) to (13) go over both. Each index is tried where a memory is to be of use: a network that
//! goes on from task to task, and a fresh network for every task, with the memory carried over and without it.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::dataset::{Recorded, Simulated};
use super::report::{Cell, Claim, Holds, Report, Table};
use super::sweep::Experiment;
use super::{Dataset, Learner, Scores, evaluate};
use crate::config::Config;
use crate::dynamics::Arm;
use crate::learn::{MAX_RATE, MIN_RATE, Network, Workspace};
use crate::sample::{MAX_JOINTS, PerJoint, Sample};

/// Local models along the second quantity, their width in distances between them, and how far from the nearest centre an
/// activation still counts along the gradient.
const ACROSS: usize = 5;
const WIDTH: f32 = 0.5;
const REACH: usize = 3;
/// Weight of what is newest in running means.
const NEWEST: f32 = 0.1;

/// What a memory is indexed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Index {
    /// Nothing: gradient descent at the base rate.
    None,
    /// The gradient, as in the paper.
    Gradient,
    /// And how successive gradients of the coordinate have agreed, a running mean of signs.
    Agreement,
    /// And how large the coordinate's gradients have been, a running mean of magnitudes.
    Magnitude,
    /// And the parameter's own magnitude.
    Weight,
    /// And the number of steps since the task began.
    Age,
    /// And the loss of the batch.
    Loss,
}

impl Index {
    /// All there are, the paper's second.
    pub const ALL: [Index; 7] = [
        Index::None,
        Index::Gradient,
        Index::Agreement,
        Index::Magnitude,
        Index::Weight,
        Index::Age,
        Index::Loss,
    ];

    /// From where to where the second quantity's centres go; `None` without one.
    fn span(self) -> Option<(f32, f32)> {
        match self {
            Index::None | Index::Gradient => None,
            Index::Agreement => Some((-1.0, 1.0)),
            Index::Magnitude => Some((-5.0, 0.0)),
            Index::Weight => Some((-3.0, 0.0)),
            Index::Age => Some((0.0, 3.0)),
            Index::Loss => Some((-4.0, 2.0)),
        }
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Index::None => "none (GD)",
            Index::Gradient => "gradient (MetaGD)",
            Index::Agreement => "+ agreement",
            Index::Magnitude => "+ magnitude",
            Index::Weight => "+ weight",
            Index::Age => "+ age",
            Index::Loss => "+ loss",
        })
    }
}

/// The local models of one tensor, on a grid.
#[derive(Clone, Debug)]
struct GridMemory {
    /// Along the gradient, from `-clip` to `clip`.
    models: usize,
    clip: f32,
    width: f32,
    /// Along the second quantity.
    span: Option<(f32, f32)>,
    /// `v_km`, `[models][across]`, and what eq. (10) has summed up.
    rates: Vec<f32>,
    change: Vec<f32>,
}

/// What a lookup rests on: from model `first` on along the gradient, and all across.
struct Activations {
    first: usize,
    along: [f32; 2 * REACH + 1],
    across: [f32; ACROSS],
}

fn gaussian(distance: f32, width: f32) -> f32 {
    (-distance * distance / (2.0 * width * width)).exp()
}

impl GridMemory {
    fn new(config: &Config, index: Index) -> GridMemory {
        let models = config.memory_models;
        let size = models * if index.span().is_some() { ACROSS } else { 1 };
        GridMemory {
            models,
            clip: config.memory_clip as f32,
            width: config.memory_width as f32,
            span: index.span(),
            rates: vec![config.rate as f32; size],
            change: vec![0.0; size],
        }
    }

    fn across(&self) -> usize {
        if self.span.is_some() { ACROSS } else { 1 }
    }

    fn activations(&self, gradient: f32, quantity: f32) -> Activations {
        let place = (gradient + self.clip) / (2.0 * self.clip) * (self.models - 1) as f32;
        let first = (place.round() as usize).saturating_sub(REACH).min(self.models.saturating_sub(1));
        let mut along = [0.0; 2 * REACH + 1];
        for (k, a) in along.iter_mut().enumerate().take(self.models - first) {
            *a = gaussian(place - (first + k) as f32, self.width);
        }
        let mut across = [1.0; ACROSS];
        if let Some((from, to)) = self.span {
            let place = ((quantity - from) / (to - from)).clamp(0.0, 1.0) * (ACROSS - 1) as f32;
            for (m, a) in across.iter_mut().enumerate() {
                *a = gaussian(place - m as f32, WIDTH);
            }
        }
        Activations { first, along, across }
    }

    /// Eq. (10), one coordinate's share.
    fn accumulate(&mut self, gradient: f32, quantity: f32, signal: f32) {
        let (of, across) = (self.activations(gradient, quantity), self.across());
        let rows = self.change[of.first * across..].chunks_exact_mut(across);
        for (row, along) in rows.zip(of.along) {
            row.iter_mut().zip(of.across).for_each(|(change, a)| *change += along * a * signal);
        }
    }

    /// Eq. (12), (13).
    fn learn(&mut self, rate: f32, coordinates: usize) {
        for (v, change) in self.rates.iter_mut().zip(&mut self.change) {
            let moved = *v + rate * std::mem::take(change) / coordinates as f32;
            *v = moved.clamp(MIN_RATE as f32, MAX_RATE as f32);
        }
    }

    /// Eq. (11).
    fn rate(&self, gradient: f32, quantity: f32) -> f32 {
        let (of, across) = (self.activations(gradient, quantity), self.across());
        let (mut weighted, mut total) = (0.0, 0.0);
        let rows = self.rates[of.first * across..].chunks_exact(across);
        for (row, along) in rows.zip(of.along) {
            for (v, a) in row.iter().zip(of.across) {
                weighted += along * a * v;
                total += along * a;
            }
        }
        weighted / total
    }
}

/// What is known of one coordinate when its rate is looked up, from this step and those before.
#[derive(Clone, Copy, Debug, Default)]
struct Coordinate {
    gradient: f32,
    quantity: f32,
    agreement: f32,
    magnitude: f32,
}

/// MetaGD with memories on a grid.
#[derive(Clone, Debug)]
struct GridMetaGd {
    index: Index,
    clip: f32,
    rate: f32,
    memory_rate: f32,
    groups: Vec<(Range<usize>, GridMemory)>,
    coordinates: Vec<Coordinate>,
    steps: u32,
}

impl GridMetaGd {
    fn new(config: &Config, index: Index, network: &Network<f32>) -> GridMetaGd {
        let tensors = network.layers().iter().flat_map(|layer| [layer.weights.clone(), layer.bias.clone()]);
        let groups: Vec<_> = tensors.map(|tensor| (tensor, GridMemory::new(config, index))).collect();
        let size = groups.last().map_or(0, |(tensor, _)| tensor.end);
        GridMetaGd {
            index,
            clip: config.memory_clip as f32,
            rate: config.rate as f32,
            memory_rate: config.memory_rate as f32,
            groups,
            coordinates: vec![Coordinate::default(); size],
            steps: 0,
        }
    }

    /// One step in the paper's order; of a gradient that is not finite, none.
    fn step(&mut self, params: &mut [f32], gradient: &[f32], loss: f32) {
        if !gradient.iter().all(|g| g.is_finite()) {
            return;
        }
        self.steps += 1;
        if self.index == Index::None {
            for (param, g) in params.iter_mut().zip(gradient) {
                *param -= self.rate * g.clamp(-self.clip, self.clip);
            }
            return;
        }
        for (tensor, memory) in &mut self.groups {
            for at in tensor.clone() {
                let g = gradient[at].clamp(-self.clip, self.clip);
                let of = &mut self.coordinates[at];
                let product = g * of.gradient;
                if product != 0.0 {
                    memory.accumulate(of.gradient, of.quantity, product.clamp(-1.0, 1.0));
                    of.agreement += NEWEST * (product.signum() - of.agreement);
                }
                of.magnitude += NEWEST * (g.abs() - of.magnitude);
                of.gradient = g;
                let log = |value: f32| value.max(1e-12).log10();
                of.quantity = match self.index {
                    Index::None | Index::Gradient => 0.0,
                    Index::Agreement => of.agreement,
                    Index::Magnitude => log(of.magnitude),
                    Index::Weight => log(params[at].abs()),
                    Index::Age => log(self.steps as f32),
                    Index::Loss => log(loss),
                };
            }
            memory.learn(self.memory_rate, tensor.len());
            for at in tensor.clone() {
                let Coordinate { gradient, quantity, .. } = self.coordinates[at];
                if gradient != 0.0 {
                    params[at] -= memory.rate(gradient, quantity) * gradient;
                }
            }
        }
    }

    fn new_task(&mut self) {
        self.coordinates.fill(Coordinate::default());
        self.steps = 0;
    }
}

/// What is kept from one task to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kept {
    /// Network and memories: the arm goes on.
    All,
    /// The memories; the network starts anew.
    Memory,
    /// Nothing.
    Nothing,
}

impl Kept {
    const ALL: [Kept; 3] = [Kept::All, Kept::Memory, Kept::Nothing];
}

/// One joint: its network and what moves it.
struct Joint {
    network: Network<f32>,
    params: Vec<f32>,
    optimiser: GridMetaGd,
    fresh: (Vec<f32>, GridMetaGd),
    targets: Vec<f32>,
}

/// Networks whose rates come from such memories, one for each joint: on the whole torque or on what the rigid body leaves of it, as the
/// parameters say; without integrator and gate, which would cover up what the memory does.
struct Arms {
    config: Config,
    arm: Option<Arm>,
    joints: Vec<Joint>,
    workspace: Workspace<f32>,
    inputs: Vec<f32>,
    batch: Vec<(Vec<f32>, PerJoint)>,
}

impl Arms {
    fn new(config: &Config, index: Index, arm: Option<&Arm>, joints: usize) -> anyhow::Result<Arms> {
        anyhow::ensure!(
            (1..=MAX_JOINTS).contains(&joints),
            "{joints} joints: 1 to {MAX_JOINTS} are possible"
        );
        let joint = |joint: usize| {
            let mut network = Network::new(3 * joints, &config.hidden, config.seed as u64, joint as u64);
            if config.zero_output {
                network.silence_output();
            }
            let (params, optimiser) = (network.params(), GridMetaGd::new(config, index, &network));
            let fresh = (params.clone(), optimiser.clone());
            Joint { network, params, optimiser, fresh, targets: Vec::new() }
        };
        let joints: Vec<Joint> = (0..joints).map(joint).collect();
        Ok(Arms {
            workspace: Workspace::new(&joints[0].network, config.batch),
            config: config.clone(),
            arm: arm.filter(|_| config.residual).cloned(),
            joints,
            inputs: Vec::new(),
            batch: Vec::new(),
        })
    }

    fn input(&self, motion: &crate::sample::Motion) -> Vec<f32> {
        let Config { scale_position, scale_velocity, scale_acceleration, .. } = self.config;
        let parts =
            [(&motion.q, scale_position), (&motion.qd, scale_velocity), (&motion.qdd, scale_acceleration)];
        let scaled = parts.iter().flat_map(|(values, scale)| {
            values[..self.joints.len()].iter().map(move |value| (value / scale) as f32)
        });
        scaled.collect()
    }

    fn base(&self, motion: &crate::sample::Motion) -> PerJoint {
        self.arm.as_ref().map_or([0.0; MAX_JOINTS], |arm| arm.inverse_dynamics(motion))
    }

    /// A task begins.
    fn begin(&mut self, kept: Kept) {
        self.batch.clear();
        for joint in &mut self.joints {
            if kept != Kept::All {
                joint.params.copy_from_slice(&joint.fresh.0);
                joint.network.set_params(&joint.params);
            }
            if kept == Kept::Nothing {
                joint.optimiser = joint.fresh.1.clone();
            }
            joint.optimiser.new_task();
        }
    }

    fn step(&mut self) {
        self.inputs.clear();
        self.batch.iter().for_each(|(input, _)| self.inputs.extend(input));
        for (j, joint) in self.joints.iter_mut().enumerate() {
            joint.targets.clear();
            joint.targets.extend(self.batch.iter().map(|(_, target)| target[j] as f32));
            let outputs = joint.network.forward(&self.inputs, &mut self.workspace);
            let squares = outputs.iter().zip(&joint.targets).map(|(o, t)| (o - t) * (o - t));
            let loss = squares.sum::<f32>() / joint.targets.len() as f32;
            let gradient = joint.network.gradient(&joint.targets, &mut self.workspace);
            joint.optimiser.step(&mut joint.params, &gradient, loss);
            joint.network.set_params(&joint.params);
        }
        self.batch.clear();
    }
}

impl Learner for Arms {
    fn predict(&mut self, sample: &Sample) -> PerJoint {
        let (input, mut torque) = (self.input(sample.query()), self.base(sample.query()));
        for (joint, torque) in self.joints.iter().zip(&mut torque) {
            let output = joint.network.forward(&input, &mut self.workspace);
            *torque += f64::from(output[0]) * self.config.scale_torque;
        }
        torque
    }

    fn learn(&mut self, sample: &Sample) {
        let Some(observation) = &sample.observation else { return };
        let base = self.base(&observation.motion);
        let target = std::array::from_fn(|j| (observation.effort[j] - base[j]) / self.config.scale_torque);
        self.batch.push((self.input(&observation.motion), target));
        if self.batch.len() == self.config.batch {
            self.step();
        }
    }

    fn new_task(&mut self) {
        self.begin(Kept::All);
    }
}

/// What the learners are tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Set {
    /// The simulated lifting tasks.
    Lifting,
    /// The same with rough friction.
    Rough,
    /// Recorded.
    Lwr,
    /// Recorded.
    PickAndPlace,
}

impl Set {
    const ALL: [Set; 4] = [Set::Lifting, Set::Rough, Set::Lwr, Set::PickAndPlace];

    fn name(self) -> &'static str {
        match self {
            Set::Lifting => "simulated lifting",
            Set::Rough => "simulated lifting, rough friction",
            Set::Lwr => "LWR4+ (real)",
            Set::PickAndPlace => "pick and place (real)",
        }
    }

    fn recorded(self) -> Option<Recorded> {
        match self {
            Set::Lifting | Set::Rough => None,
            Set::Lwr => Some(Recorded::Lwr),
            Set::PickAndPlace => Some(Recorded::PickAndPlace),
        }
    }
}

/// The experiment.
#[derive(Clone, Debug, Default)]
pub struct Indexed {
    /// One simulated set of two trials, small networks.
    pub quick: bool,
    /// Where the recordings are.
    pub data: Option<PathBuf>,
}

/// One index on one set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    set: Set,
    preset: &'static str,
    index: Index,
    /// Of the networks' weights and of the simulated robot.
    seed: u32,
}

/// Scores over all phases but the first, which is the same for all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    all: Scores,
    memory: Scores,
    nothing: Scores,
}

impl Outcome {
    fn kept(&self, kept: Kept) -> &Scores {
        match kept {
            Kept::All => &self.all,
            Kept::Memory => &self.memory,
            Kept::Nothing => &self.nothing,
        }
    }
}

/// Over the joints, the root mean square of the errors, Nm, and the mean loss of the first 500 ms, Nm².
fn figures(scores: &Scores) -> [f64; 2] {
    let joints = scores.joints();
    let count = joints.len() as f64;
    let squares: f64 = joints.iter().map(|joint| joint.rms * joint.rms).sum();
    let early: f64 = joints.iter().map(|joint| joint.first500ms_mse).sum();
    [(squares / count).sqrt(), early / count]
}

impl Indexed {
    const PRESETS: [&str; 2] = ["paper", "robot"];

    fn folder(&self) -> PathBuf {
        Recorded::folder(self.data.as_deref())
    }

    /// Whether its samples can be had.
    fn is_there(&self, set: Set) -> bool {
        let files = set.recorded().map(|recorded| recorded.files(&self.folder()));
        files.is_none_or(|files| files.iter().all(|file| file.is_file()))
    }

    fn dataset(&self, run: &Run) -> anyhow::Result<Dataset> {
        let seed = u64::from(run.seed);
        if let Some(recorded) = run.set.recorded() {
            return recorded.open(&self.folder())?.map_err(anyhow::Error::msg);
        }
        let mut simulated = Simulated::lifting(if self.quick { 1 } else { 2 }, seed);
        if self.quick {
            simulated.payloads.truncate(2);
        }
        if run.set == Set::Rough {
            simulated = simulated.rough();
        }
        simulated.run(run.set.name())
    }
}

impl Experiment for Indexed {
    type Run = Run;
    type Outcome = Outcome;

    fn name(&self) -> &'static str {
        "index"
    }

    fn runs(&self) -> Vec<Run> {
        let mut runs = vec![];
        for set in Set::ALL {
            if self.quick && set != Set::Lifting || !self.is_there(set) {
                continue;
            }
            for preset in Self::PRESETS {
                for index in Index::ALL {
                    for seed in 1..=if self.quick { 1 } else { 3 } {
                        runs.push(Run { set, preset, index, seed });
                    }
                }
            }
        }
        runs
    }

    fn run(&self, run: &Run) -> anyhow::Result<Outcome> {
        let dataset = self.dataset(run)?;
        let joints = dataset.joints.len();
        let mut config = Config { seed: i64::from(run.seed), ..Config::preset(run.preset) };
        if self.quick {
            config.hidden = vec![10];
        }
        let over = |kept: Kept| -> anyhow::Result<Scores> {
            let mut learner = Arms::new(&config, run.index, dataset.arm.as_ref(), joints)?;
            let mut after_first = Scores::new(joints);
            for (number, phase) in dataset.phases.iter().enumerate() {
                if number > 0 {
                    learner.begin(kept);
                }
                let mut scores = Scores::new(joints);
                evaluate(&mut learner, phase, &mut [&mut scores], |_, _| {});
                if number > 0 {
                    after_first.merge(&scores);
                }
            }
            Ok(after_first)
        };
        Ok(Outcome { all: over(Kept::All)?, memory: over(Kept::Memory)?, nothing: over(Kept::Nothing)? })
    }

    fn report(&self, outcomes: &[(Run, Outcome)]) -> anyhow::Result<Report> {
        let mut report = Report::default();
        report.notes.push(format!(
            "Scored are all phases but the first, all joints together. Second index: {ACROSS} local models. No \
             integrator, no gate, no persistence: what the memory does is to be seen. The preset `paper` learns the whole torque \
             from raw inputs, `robot` what the rigid body leaves (where there is one) from scaled ones."
        ));
        for set in Set::ALL.into_iter().filter(|set| !self.is_there(*set)) {
            report.notes.push(format!(
                "{}: skipped, no recording in {}",
                set.name(),
                self.folder().display()
            ));
        }
        let mut groups: Vec<(Set, &str)> = vec![];
        for (run, _) in outcomes {
            if !groups.contains(&(run.set, run.preset)) {
                groups.push((run.set, run.preset));
            }
        }
        let (mut richer, mut carried) = (vec![], vec![]);
        for (set, preset) in groups {
            let of = |index: Index, kept: Kept, which: usize| -> Vec<f64> {
                let own =
                    |(run, _): &&(Run, Outcome)| (run.set, run.preset, run.index) == (set, preset, index);
                outcomes.iter().filter(own).map(|(_, it)| figures(it.kept(kept))[which]).collect()
            };
            let ratios = |above: &[f64], below: &[f64]| -> Vec<f64> {
                above.iter().zip(below).map(|(above, below)| above / below).collect()
            };
            for (which, title) in [(0, "torque error, RMS [Nm]"), (1, "mean loss of the first 500 ms [Nm²]")]
            {
                let head = ["index", "goes on", "of MetaGD", "memory kept", "nothing kept", "kept / nothing"];
                let mut table = Table::new(format!("{}, {preset}: {title}", set.name()), head);
                for index in Index::ALL {
                    let [all, memory, nothing] = Kept::ALL.map(|kept| of(index, kept, which));
                    table.row([
                        Cell::from(index.to_string()),
                        Cell::spread(&all),
                        Cell::spread(&ratios(&all, &of(Index::Gradient, Kept::All, which))),
                        Cell::spread(&memory),
                        Cell::spread(&nothing),
                        Cell::spread(&ratios(&memory, &nothing)),
                    ]);
                }
                report.tables.push(table);
            }
            let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
            let place = format!("{}, {preset}", set.name());
            let against = |index| ratios(&of(index, Kept::All, 0), &of(Index::Gradient, Kept::All, 0));
            richer.push((
                place.clone(),
                Index::ALL[2..].iter().map(|index| (*index, against(*index))).collect(),
            ));
            let gain = |index| mean(ratios(&of(index, Kept::Memory, 0), &of(index, Kept::Nothing, 0)));
            carried.push((place, gain(Index::Gradient)));
        }
        report.claims.push(richer_index(&richer));
        report.claims.push(carried_memory(&carried));
        Ok(report)
    }
}

/// The ratios of every seed, by index.
type Ratios = Vec<(Index, Vec<f64>)>;

/// Whether a second index makes the error smaller than the gradient alone, by more than 1 % and for every seed.
fn richer_index(ratios: &[(String, Ratios)]) -> Claim {
    let better = |of: &[f64]| !of.is_empty() && of.iter().all(|ratio| *ratio < 0.99);
    let (mut found, mut holds) = (vec![], vec![]);
    for (place, indices) in ratios {
        let good: Vec<String> = indices
            .iter()
            .filter(|(_, of)| better(of))
            .map(|(index, of)| format!("{index} x{:.3}", of.iter().sum::<f64>() / of.len() as f64))
            .collect();
        holds.push(!good.is_empty());
        found.push(format!("{place}: {}", if good.is_empty() { "none".into() } else { good.join(", ") }));
    }
    let everywhere: Vec<String> = Index::ALL[2..]
        .iter()
        .filter(|index| {
            ratios.iter().all(|(_, of)| of.iter().any(|(other, of)| other == *index && better(of)))
        })
        .map(Index::to_string)
        .collect();
    let everywhere = if everywhere.is_empty() { "none".into() } else { everywhere.join(", ") };
    Claim {
        claim: "A memory that is indexed by more than the gradient learns better rates (future work in the paper). Here: \
                the error of a network that goes on is more than 1 % smaller with every seed."
            .into(),
        found: format!("{}. On every set: {everywhere}", found.join("; ")),
        holds: Holds::of(&holds),
        why: String::new(),
    }
}

/// Whether a carried memory makes fresh networks converge faster, by more than 1 %.
fn carried_memory(ratios: &[(String, f64)]) -> Claim {
    let found: Vec<String> = ratios.iter().map(|(place, ratio)| format!("{place}: x{ratio:.3}")).collect();
    Claim {
        claim: "What a memory learnt on earlier tasks makes a FRESH network converge faster on the next (section III). Here: \
                the error over a phase, indexed by the gradient, memory kept / nothing kept, is below 0.99."
            .into(),
        found: found.join("; "),
        holds: Holds::of(&ratios.iter().map(|(_, ratio)| *ratio < 0.99).collect::<Vec<_>>()),
        why: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::{Base, Memory, MemoryOptimizer, MemorySettings, MetaGd};

    fn config() -> Config {
        Config { hidden: vec![6], ..Config::preset("paper") }
    }

    /// A gradient that changes sign here and grows there.
    fn gradient(size: usize, step: usize) -> Vec<f32> {
        (0..size).map(|d| ((step * (d % 7 + 1)) as f32 * 0.13 + d as f32).sin() * 0.4).collect()
    }

    #[test]
    fn indexed_by_the_gradient_alone_it_is_the_products() {
        let config = config();
        let network = Network::<f32>::new(3, &config.hidden, 1, 0);
        let mut grid = GridMetaGd::new(&config, Index::Gradient, &network);
        let settings = MemorySettings::from_config(&config, MemoryOptimizer::Gd);
        let memory = || Some(Memory::new(&settings, config.rate));
        let groups = grid.groups.iter().map(|(tensor, _)| (tensor.len(), memory())).collect();
        let mut product = MetaGd::<f32>::new(Base::Gd, config.rate, config.memory_clip, groups);
        let (mut ours, mut theirs) = (network.params(), network.params());
        for step in 0..60 {
            let gradient = gradient(ours.len(), step);
            grid.step(&mut ours, &gradient, 1.0);
            product.step(&mut theirs, &gradient);
        }
        assert_ne!(ours, network.params());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!((ours - theirs).abs() < 1e-5, "{ours} {theirs}");
        }
    }

    #[test]
    fn a_second_index_tells_young_from_old() {
        let config = Config { rate: 0.1, memory_rate: 0.5, ..config() };
        let mut memory = GridMemory::new(&config, Index::Age);
        for _ in 0..50 {
            memory.accumulate(0.3, 0.0, 1.0);
            memory.accumulate(0.3, 3.0, -1.0);
            memory.learn(0.01, 1);
        }
        let [young, old] = [0.0, 3.0].map(|age| memory.rate(0.3, age));
        assert!(young > 0.3 && old < 0.02, "{young} {old}");
        assert!((memory.rate(-1.5, 0.0) - 0.1).abs() < 1e-4, "elsewhere nothing was learnt");
    }

    #[test]
    fn without_a_memory_it_is_gradient_descent_and_nan_changes_nothing() {
        let config = config();
        let network = Network::<f32>::new(3, &config.hidden, 1, 0);
        let mut plain = GridMetaGd::new(&config, Index::None, &network);
        let mut params = vec![1.0; network.params().len()];
        let size = params.len();
        plain.step(&mut params, &vec![5.0; size], 1.0);
        let expected = 1.0 - config.rate as f32 * config.memory_clip as f32;
        assert!(params.iter().all(|param| (param - expected).abs() < 1e-6));
        let before = params.clone();
        plain.step(&mut params, &vec![f32::NAN; size], 1.0);
        assert_eq!(params, before);
    }

    #[test]
    fn what_is_kept_is_kept_and_the_rest_is_as_new() {
        let mut arms = Arms::new(&config(), Index::Loss, None, 1).unwrap();
        let start = arms.joints[0].params.clone();
        let learn = |arms: &mut Arms| {
            for k in 0..40 {
                let mut sample = Sample { effort: [2.0; MAX_JOINTS], ..Sample::default() };
                sample.motion.q[0] = 0.01 * f64::from(k);
                let observation = crate::sample::Observation {
                    stamp_ns: i64::from(k),
                    motion: sample.motion,
                    effort: sample.effort,
                };
                sample.observation = Some(observation);
                arms.learn(&sample);
            }
        };
        learn(&mut arms);
        let rates = |arms: &Arms| arms.joints[0].optimiser.groups[1].1.rates.clone();
        let (learnt, learnt_rates) = (arms.joints[0].params.clone(), rates(&arms));
        assert_ne!(learnt, start);
        arms.begin(Kept::All);
        assert_eq!((&arms.joints[0].params, rates(&arms)), (&learnt, learnt_rates.clone()));
        arms.begin(Kept::Memory);
        assert_eq!((&arms.joints[0].params, rates(&arms)), (&start, learnt_rates.clone()));
        assert_eq!(arms.joints[0].network.params(), start);
        arms.begin(Kept::Nothing);
        assert_ne!(rates(&arms), learnt_rates);
        assert!(rates(&arms).iter().all(|v| (v - 0.01).abs() < 1e-9));
    }

    #[test]
    fn a_claim_wants_every_seed() {
        let claim = |of: Vec<f64>| richer_index(&[("here".into(), vec![(Index::Age, of)])]);
        assert_eq!(claim(vec![0.9, 0.95]).holds, Holds::Yes);
        assert_eq!(claim(vec![0.9, 0.995]).holds, Holds::No);
        let carried = carried_memory(&[("a".into(), 0.8), ("b".into(), 1.2)]);
        assert_eq!((carried.holds, carried.found.contains("b: x1.200")), (Holds::Partly, true));
    }
}
