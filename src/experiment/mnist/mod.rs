//! Three binary tasks of handwritten digits in sequence (section IV-C, Fig. 3): how fast does a convolutional network learn
//! them, and does a memory that has learnt on one task help on the next?
//!
//! Contract: batch mode, one gradient of all training images of a task for each iteration; on every task the network starts
//! anew, with the same weights and the same dropout for every learner of a seed. The learners are [`MetaGd`]; candle computes
//! losses and gradients, within a run on one thread, so that runs do not compete and every number of threads gives the same
//! bits.
//!
//! | file | holds |
//! |---|---|
//! | [`idx`] | MNIST's files |
//! | [`network`] | the network, its loss and gradient |
//! | [`lstm`] | L2LBGDBGD, the optimiser that is learnt beforehand |

use std::path::PathBuf;

use anyhow::{Context, anyhow, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::ThreadPoolBuilder;
use serde::{Deserialize, Serialize};

use self::lstm::Training;
use self::network::Task;
use super::report::{Axis, Cell, Claim, Curve, Figure, Holds, Panel, Report, Table, mean_and_deviation};
use super::sweep::{self, Experiment};
use crate::learn::{Base, Memory, MemoryOptimizer, MemorySettings, MetaGd, Signal, Spacing};

pub mod idx;
pub mod lstm;
pub mod network;

/// The digits of each task.
const DIGITS: [[u8; 2]; 3] = [[0, 1], [2, 3], [4, 5]];
/// Base rates, half a decade apart.
const RATES: [f64; 9] = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1];
/// The one of the curves.
const CURVE_RATE: f64 = 1e-3;
const SEEDS: u64 = 3;
/// The memories: how many local models, over which gradients, and how fast they learn: under Adam, whose steps are of the
/// rate's own size whatever the gradient, a hundred times slower.
const MODELS: usize = 20;
const CLIP: f64 = 2.0;
const MEMORY_RATE: f64 = 1e-2;
const ADAM_MEMORY_RATE: f64 = 1e-4;
/// The loss (cross-entropy on the training images, half of the hidden units dropped) at which a task counts as learnt.
const LEARNT: f64 = 0.1;

/// The learners that have a base rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Learner {
    /// Gradient descent at a constant rate.
    #[serde(rename = "gd")]
    Gd,
    /// Gradient descent at rates of a memory that learns by gradient descent.
    #[serde(rename = "metagd")]
    MetaGd,
    /// Gradient descent at rates of a memory that learns by Adam.
    #[serde(rename = "metagd-memadam")]
    MemAdam,
    /// Adam at a constant rate.
    #[serde(rename = "adam")]
    Adam,
    /// Adam at rates of a memory that learns by gradient descent.
    #[serde(rename = "adam+memory")]
    AdamMemory,
}

impl Learner {
    const ALL: [Learner; 5] =
        [Learner::Gd, Learner::MetaGd, Learner::MemAdam, Learner::Adam, Learner::AdamMemory];

    fn has_memory(self) -> bool {
        !matches!(self, Learner::Gd | Learner::Adam)
    }

    fn name(self) -> &'static str {
        match self {
            Learner::Gd => "GD",
            Learner::MetaGd => "MetaGD",
            Learner::MemAdam => "MetaGDMemAdam",
            Learner::Adam => "Adam",
            Learner::AdamMemory => "Adam with memory",
        }
    }

    /// The optimiser of parameters in these groups, at this base rate, with one memory for each group.
    fn optimiser(self, rate: f64, groups: &[usize]) -> MetaGd<f32> {
        let (base, memory) = match self {
            Learner::Gd => (Base::Gd, None),
            Learner::MetaGd => (Base::Gd, Some(MemoryOptimizer::Gd)),
            Learner::MemAdam => (Base::Gd, Some(MemoryOptimizer::Adam)),
            Learner::Adam => (Base::Adam, None),
            Learner::AdamMemory => (Base::Adam, Some(MemoryOptimizer::Gd)),
        };
        let memory = memory.map(|optimizer| {
            let settings = MemorySettings {
                models: MODELS,
                spacing: Spacing::Linear,
                width: 0.5,
                clip: CLIP,
                rate: if base == Base::Adam { ADAM_MEMORY_RATE } else { MEMORY_RATE },
                signal: Signal::Sign,
                optimizer,
                window: None,
            };
            Memory::new(&settings.windowed(), rate)
        });
        MetaGd::new(base, rate, CLIP, groups.iter().map(|&size| (size, memory.clone())).collect())
    }
}

/// One line of the tables and figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Series {
    /// A learner, with a new memory on every task or with the one of the tasks before.
    Of(Learner, Kept),
    /// The optimiser that is learnt beforehand.
    Learnt,
}

/// Whether a memory was on the tasks before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kept {
    /// It begins with the task; so do learners that have none.
    New,
    /// It was.
    Carried,
}

impl Series {
    /// All of them, as they are printed and drawn.
    fn all() -> Vec<Series> {
        let kept = |learner: Learner| {
            if learner.has_memory() { &[Kept::New, Kept::Carried][..] } else { &[Kept::New] }
        };
        let learners = Learner::ALL.into_iter();
        let learners =
            learners.flat_map(|learner| kept(learner).iter().map(move |kept| Series::Of(learner, *kept)));
        learners.chain([Series::Learnt]).collect()
    }

    fn name(self) -> String {
        match self {
            Series::Learnt => "L2LBGDBGD".into(),
            Series::Of(learner, _) if !learner.has_memory() => learner.name().into(),
            Series::Of(learner, Kept::New) => format!("{}, new", learner.name()),
            Series::Of(learner, Kept::Carried) => format!("{}, carried", learner.name()),
        }
    }
}

/// What a user may choose.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Folder of the four files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
    /// t10k-labels-idx1-ubyte, each as it is or with .gz.
    #[arg(long, value_name = "DIR", default_value_os_t = default_data())]
    pub data: PathBuf,
    /// Training images of each task; there are about 12,000, which take 50 times as long as the default and 60 kB of memory each.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub images: u32,
    /// Iterations on each task.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub iterations: u32,
}

fn default_data() -> PathBuf {
    std::env::var_os("METAGD_DATA").map_or_else(|| "data".into(), PathBuf::from).join("mnist")
}

/// The experiment, with its images.
pub struct Mnist {
    options: Options,
    quick: bool,
    tasks: Vec<Images>,
}

/// One task's images.
struct Images {
    training: Task,
    test: Task,
}

impl Mnist {
    /// Reads the images. The small size takes a few of them, and goes over them a few times.
    ///
    /// # Errors
    /// If a file is missing or damaged, or if a digit is missing.
    pub fn new(options: Options, quick: bool) -> anyhow::Result<Mnist> {
        let options = if quick {
            Options { images: options.images.min(60), iterations: options.iterations.min(12), ..options }
        } else {
            options
        };
        let read =
            |name| idx::read_pair(&options.data, name).context("cannot read MNIST (--data names its folder)");
        let (training, test) = (read("train")?, read("t10k")?);
        let limit = options.images as usize;
        let tasks = DIGITS.map(|digits| {
            let of = |(images, labels): &(idx::Images, Vec<u8>)| Task::new(images, labels, digits, limit);
            let images = Images { training: of(&training)?, test: of(&test)? };
            ensure!(
                images.training.shape() == images.test.shape(),
                "{}: the test images are of another size than those for training",
                options.data.display()
            );
            Ok(images)
        });
        let tasks = tasks.into_iter().collect::<anyhow::Result<_>>()?;
        Ok(Mnist { options, quick, tasks })
    }

    fn rates(&self) -> &'static [f64] {
        if self.quick { &[CURVE_RATE, 1e-2] } else { &RATES }
    }

    fn seeds(&self) -> u64 {
        if self.quick { 1 } else { SEEDS }
    }

    fn iterations(&self) -> usize {
        self.options.iterations as usize
    }

    fn training(&self, seed: u64) -> Training {
        Training {
            rounds: if self.quick { 2 } else { 16 },
            iterations: self.iterations(),
            unroll: 20,
            rate: 3e-3,
            teachers: 4096,
            seed,
        }
    }

    /// From the seed's weights on, the loss before the first step and after every one, and the error in the end.
    fn descend(
        &self,
        task: usize,
        kept: Kept,
        seed: u64,
        mut step: impl FnMut(&mut [f32], &[f32]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Trace> {
        let Images { training, test } = &self.tasks[task];
        let mut params = training.shape().fresh(start(seed, task, 0));
        let mut dropout = ChaCha8Rng::seed_from_u64(start(seed, task, 0));
        dropout.set_stream(1);
        let mut gradient = Vec::new();
        let mut losses = vec![training.loss(&params, &mut dropout, &mut gradient)?];
        for _ in 0..self.iterations() {
            step(&mut params, &gradient)?;
            losses.push(training.loss(&params, &mut dropout, &mut gradient)?);
        }
        Ok(Trace { task, kept, losses, error: test.error(&params)? })
    }

    /// All tasks with a new memory and, from the second on, with the one that went through those before.
    fn sequence(&self, learner: Learner, rate: f64, seed: u64) -> anyhow::Result<Vec<Trace>> {
        let fresh = || learner.optimiser(rate, &self.tasks[0].training.shape().groups());
        let one = |optimiser: &mut MetaGd<f32>, task, kept| {
            self.descend(task, kept, seed, |params, gradient| {
                optimiser.step(params, gradient);
                Ok(())
            })
        };
        let mut carried = fresh();
        let mut traces = vec![one(&mut carried, 0, Kept::New)?];
        for task in 1..self.tasks.len() {
            traces.push(one(&mut fresh(), task, Kept::New)?);
            if learner.has_memory() {
                carried.new_task();
                traces.push(one(&mut carried, task, Kept::Carried)?);
            }
        }
        Ok(traces)
    }

    /// Trains the learnt optimiser on one task, then lets it learn that task from weights that it has not seen.
    fn learn_to_learn(&self, task: usize, seed: u64) -> anyhow::Result<Outcome> {
        let images = &self.tasks[task].training;
        let problem = |round: usize| -> lstm::Problem<'_> {
            let seed = start(seed, task, 1 + round as u64);
            let mut dropout = ChaCha8Rng::seed_from_u64(seed);
            dropout.set_stream(1);
            let objective =
                move |params: &[f32], gradient: &mut Vec<f32>| images.loss(params, &mut dropout, gradient);
            (images.shape().fresh(seed), Box::new(objective))
        };
        let trained = lstm::train(&self.training(start(seed, task, 0)), problem)?;
        let mut descent = trained.optimizer.start(images.shape().coordinates())?;
        let trace = self.descend(task, Kept::New, seed, |params, gradient| descent.step(params, gradient))?;
        Ok(Outcome { traces: vec![trace], validations: trained.validations })
    }
}

/// What is carried out by itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Run {
    /// A learner goes through all tasks.
    Sequence {
        /// Which.
        learner: Learner,
        /// Its base rate.
        rate: f64,
        /// Of weights and dropout.
        seed: u64,
    },
    /// L2LBGDBGD is trained for one task.
    Learnt {
        /// Which, from 0.
        task: usize,
        /// Of everything.
        seed: u64,
    },
}

/// What came of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    traces: Vec<Trace>,
    /// L2LBGDBGD's mean loss over the validating optimisation, untrained and after every second round.
    #[serde(deserialize_with = "sweep::numbers")]
    validations: Vec<f64>,
}

/// One descent, before the first step and after every one.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Trace {
    task: usize,
    kept: Kept,
    /// Mean cross-entropy over the training images, with dropout.
    #[serde(deserialize_with = "sweep::numbers")]
    losses: Vec<f64>,
    /// Share of wrong answers on the test images in the end, without.
    error: f64,
}

impl Trace {
    /// After how many iterations the task is learnt.
    fn learnt(&self) -> Option<usize> {
        self.losses.iter().position(|&loss| loss <= LEARNT)
    }
}

impl Experiment for Mnist {
    type Run = Run;
    type Outcome = Outcome;

    fn name(&self) -> &'static str {
        "mnist"
    }

    /// The longest first.
    fn runs(&self) -> Vec<Run> {
        let seeds = 0..self.seeds();
        let tasks = 0..DIGITS.len();
        let learnt = tasks.map(|task| Run::Learnt { task, seed: 0 });
        let sequences = self.rates().iter().flat_map(|&rate| {
            let learners = Learner::ALL.into_iter();
            let seeds = seeds.clone();
            learners
                .flat_map(move |learner| seeds.clone().map(move |seed| Run::Sequence { learner, rate, seed }))
        });
        learnt.chain(sequences).collect()
    }

    fn run(&self, run: &Run) -> anyhow::Result<Outcome> {
        alone(|| match *run {
            Run::Sequence { learner, rate, seed } => {
                Ok(Outcome { traces: self.sequence(learner, rate, seed)?, validations: vec![] })
            }
            Run::Learnt { task, seed } => self.learn_to_learn(task, seed),
        })
    }

    fn report(&self, outcomes: &[(Run, Outcome)]) -> anyhow::Result<Report> {
        let found = Found { outcomes, rates: self.rates(), iterations: self.iterations() };
        let counts = |of: fn(&Images) -> &Task| -> String {
            let counts: Vec<String> =
                self.tasks.iter().map(|images| of(images).count().to_string()).collect();
            counts.join(", ")
        };
        let mut tables = vec![found.curves_table()];
        tables.extend((0..DIGITS.len()).map(|task| found.rates_table(task)));
        tables.push(found.validations());
        let training = self.training(0);
        Ok(Report {
            notes: vec![
                format!(
                    "tasks: digits 0/1, 2/3, 4/5; training images {}; test images {}; {} iterations, each with one gradient \
                     of all training images of the task",
                    counts(|images| &images.training),
                    counts(|images| &images.test),
                    self.iterations()
                ),
                format!(
                    "{} seeds of weights and dropout, the same for all learners; the network starts anew on every task. Learnt: \
                     the training loss, with dropout, is at most {LEARNT}",
                    self.seeds(),
                ),
                format!(
                    "memories: one for each tensor, {MODELS} local models on [-{CLIP}, {CLIP}], memory rate {MEMORY_RATE} (under Adam {ADAM_MEMORY_RATE}), which \
                     learn from the sign of the product of successive gradients (eq. 7, 8): here gradients are so small that \
                     the product itself would move nothing"
                ),
                format!(
                    "L2LBGDBGD: trained for every task by itself, {} rounds of {} iterations, {} of them differentiated through at a \
                     time; {} coordinates, drawn in every round, teach, and all are moved; Adam at {}; its training is not \
                     among the iterations counted",
                    training.rounds, training.iterations, training.unroll, training.teachers, training.rate
                ),
            ],
            tables,
            figures: vec![
                found.curves("mnist-curves", &[Learner::Gd, Learner::MetaGd, Learner::MemAdam]),
                found.curves("mnist-adam", &[Learner::Adam, Learner::AdamMemory]),
                found.rates("mnist-rates"),
            ],
            claims: found.claims(),
        })
    }

    fn options(&self) -> Vec<String> {
        let Options { data: _, images, iterations } = &self.options;
        vec![format!("--images {images}"), format!("--iterations {iterations}")]
    }
}

/// All outcomes, and how to find one's way in them.
struct Found<'a> {
    outcomes: &'a [(Run, Outcome)],
    rates: &'a [f64],
    iterations: usize,
}

impl Found<'_> {
    /// A series' traces on one task, seed by seed. On the first task, a memory carried is a new one.
    fn traces(&self, series: Series, rate: f64, task: usize) -> Vec<&Trace> {
        let belongs = |run: &Run, trace: &Trace| match (series, run) {
            (Series::Of(own, kept), Run::Sequence { learner, rate: at, .. }) => {
                own == *learner && rate == *at && (trace.kept == kept || task == 0)
            }
            (Series::Learnt, Run::Learnt { .. }) => true,
            _ => false,
        };
        let all = self
            .outcomes
            .iter()
            .flat_map(|(run, outcome)| outcome.traces.iter().map(move |trace| (run, trace)));
        all.filter(|(run, trace)| trace.task == task && belongs(run, trace)).map(|(_, trace)| trace).collect()
    }

    /// Iterations until the task is learnt, seed by seed; one more than there were if it is not.
    fn steps(&self, series: Series, rate: f64, task: usize) -> Vec<f64> {
        let steps = |trace: &&Trace| trace.learnt().unwrap_or(self.iterations + 1) as f64;
        self.traces(series, rate, task).iter().map(steps).collect()
    }

    /// Whether the task is learnt by every seed.
    fn learnt(&self, series: Series, rate: f64, task: usize) -> bool {
        self.traces(series, rate, task).iter().all(|trace| trace.learnt().is_some())
    }

    fn curves_table(&self) -> Table {
        let title = format!(
            "base rate {CURVE_RATE}: iterations until learnt (- : not by every seed within {}); training loss, and test error in %, \
             after the last",
            self.iterations
        );
        let tasks = DIGITS.map(|[a, b]| format!("{a}/{b}"));
        let columns = ["learnt", "loss", "error"]
            .iter()
            .flat_map(|what| tasks.iter().map(move |task| format!("{what} {task}")));
        let mut table = Table::new(title, std::iter::once("learner".to_string()).chain(columns));
        for series in Series::all() {
            let mut cells = vec![Cell::from(series.name())];
            let tasks = 0..DIGITS.len();
            cells.extend(tasks.clone().map(|task| self.cell(series, CURVE_RATE, task)));
            let mean = |task: usize, value: fn(&Trace) -> f64| -> Cell {
                let traces = self.traces(series, CURVE_RATE, task);
                let values: Vec<f64> = traces.into_iter().map(value).collect();
                mean_and_deviation(&values).0.into()
            };
            cells.extend(
                tasks
                    .clone()
                    .map(|task| mean(task, |trace| trace.losses.last().copied().unwrap_or(f64::NAN))),
            );
            cells.extend(tasks.map(|task| mean(task, |trace| 100.0 * trace.error)));
            table.row(cells);
        }
        table
    }

    /// Mean iterations until learnt.
    fn cell(&self, series: Series, rate: f64, task: usize) -> Cell {
        match self.learnt(series, rate, task) {
            true => mean_and_deviation(&self.steps(series, rate, task)).0.into(),
            false => Cell::Number(f64::NAN),
        }
    }

    fn rates_table(&self, task: usize) -> Table {
        let [a, b] = DIGITS[task];
        let title = format!(
            "digits {a}/{b}: iterations until learnt, by base rate (- : not by every seed within {}), and how many of the \
             rates will do",
            self.iterations
        );
        let head = self.rates.iter().map(|rate| format!("{rate:e}"));
        let head = std::iter::once("learner".to_string()).chain(head).chain(["of".to_string()]);
        let mut table = Table::new(title, head);
        for series in Series::all() {
            if series == Series::Learnt {
                continue;
            }
            let mut cells = vec![Cell::from(series.name())];
            cells.extend(self.rates.iter().map(|&rate| self.cell(series, rate, task)));
            cells.push(format!("{}/{}", self.will_do(series, task), self.rates.len()).into());
            table.row(cells);
        }
        table
    }

    fn will_do(&self, series: Series, task: usize) -> usize {
        self.rates.iter().filter(|rate| self.learnt(series, **rate, task)).count()
    }

    fn validations(&self) -> Table {
        let title =
            "L2LBGDBGD: mean loss over an optimisation that it was not trained on, by rounds of training";
        let learnt = |(run, outcome): &'_ (Run, Outcome)| match *run {
            Run::Learnt { task, seed } => Some((task, seed, outcome.validations.clone())),
            Run::Sequence { .. } => None,
        };
        let all: Vec<_> = self.outcomes.iter().filter_map(learnt).collect();
        let count = all.iter().map(|(_, _, values)| values.len()).max().unwrap_or(0);
        let head =
            ["task".to_string(), "seed".into()].into_iter().chain((0..count).map(|n| (2 * n).to_string()));
        let mut table = Table::new(title, head);
        for (task, seed, values) in all {
            let [a, b] = DIGITS[task];
            let cells = [Cell::from(format!("{a}/{b}")), seed.to_string().into()].into_iter();
            table.row(cells.chain(values.into_iter().map(Cell::from)));
        }
        table
    }

    /// The training loss over the iterations, task by task.
    fn curves(&self, name: &str, learners: &[Learner]) -> Figure {
        let shown = |series: &Series| match series {
            Series::Of(learner, _) => learners.contains(learner),
            Series::Learnt => true,
        };
        let steps: Vec<f64> = (0..=self.iterations).map(|n| n as f64).collect();
        let panels = DIGITS.iter().enumerate().map(|(task, [a, b])| {
            let curves = Series::all().into_iter().filter(shown).enumerate().map(|(style, series)| {
                let traces = self.traces(series, CURVE_RATE, task);
                let lines: Vec<&[f64]> = traces.iter().map(|trace| trace.losses.as_slice()).collect();
                Curve::mean_of(series.name(), style, &steps, &lines)
            });
            Panel {
                title: format!("Digits {a}/{b}"),
                x: Axis::linear("iteration"),
                y: Axis::log("training loss"),
                curves: curves.collect(),
                ..Panel::default()
            }
        });
        Figure {
            name: name.into(),
            caption: format!(
                "cross-entropy on the training images, with dropout, at a base rate of {CURVE_RATE}: mean of the seeds, and from \
                 the least to the greatest"
            ),
            columns: 3,
            panels: panels.collect(),
        }
    }

    /// Iterations until learnt over the base rates, task by task.
    fn rates(&self, name: &str) -> Figure {
        let panels = DIGITS.iter().enumerate().map(|(task, [a, b])| {
            let series = Series::all().into_iter().filter(|series| *series != Series::Learnt);
            let curves = series.enumerate().map(|(style, series)| {
                let steps: Vec<Vec<f64>> =
                    self.rates.iter().map(|&rate| self.steps(series, rate, task)).collect();
                let seeds = steps.iter().map(Vec::len).min().unwrap_or(0);
                let lines: Vec<Vec<f64>> =
                    (0..seeds).map(|seed| steps.iter().map(|steps| steps[seed]).collect()).collect();
                let lines: Vec<&[f64]> = lines.iter().map(Vec::as_slice).collect();
                Curve::mean_of(series.name(), style, self.rates, &lines)
            });
            Panel {
                title: format!("Digits {a}/{b}"),
                x: Axis::log("base learning rate"),
                y: Axis::linear(format!("iterations until the training loss is {LEARNT}")),
                curves: curves.collect(),
                ..Panel::default()
            }
        });
        Figure {
            name: name.into(),
            caption: format!(
                "iterations until learnt, mean of the seeds and from the least to the greatest; {} stands for more than {}",
                self.iterations + 1,
                self.iterations
            ),
            columns: 3,
            panels: panels.collect(),
        }
    }

    /// Whether `one` needs less than `factor` times the iterations of `other`, task by task and seed by seed, and in words.
    fn fewer(&self, one: Series, other: Series, factor: f64, tasks: &[usize]) -> (Vec<bool>, String) {
        let (mut is_so, mut words) = (vec![], vec![]);
        for &task in tasks {
            let (own, others) = (self.steps(one, CURVE_RATE, task), self.steps(other, CURVE_RATE, task));
            // What is trained beforehand has one seed, with which all others are compared.
            let pairs = own.iter().zip(others.iter().cycle());
            is_so.extend(pairs.map(|(own, other)| *own < factor * other && *own <= self.iterations as f64));
            let told = |series| match self.cell(series, CURVE_RATE, task) {
                Cell::Number(steps) if steps.is_finite() => format!("{steps:.1}"),
                _ => format!("more than {}", self.iterations),
            };
            let [a, b] = DIGITS[task];
            words.push(format!("{a}/{b}: {} against {}", told(one), told(other)));
        }
        (is_so, words.join("; "))
    }

    fn claims(&self) -> Vec<Claim> {
        const GROW: &str = "the memory's rates grow by its own rate at each step at most, from the base rate on: where that is \
                            near the best one, or where growth goes on beyond it, nothing is won";
        const CARRY: &str = "what was learnt at the end of one task may be too large for the start of the next, where the loss \
                             then rises before it falls";
        const ADAM: &str = "Adam's steps are as large as its rate whatever the gradient, and its smoothed gradients agree nearly \
                            always: the memory goes on to raise rates that were large enough";
        const L2L: &str = "what was trained on the very task knows from the first step on how far to go; a memory learns it on \
                           the way";
        use Kept::{Carried, New};
        use Learner::{Adam, AdamMemory, Gd, MemAdam, MetaGd};
        let mut claims = vec![];
        let mut faster = |text: String, one, other, factor, tasks: &[usize], why: &str| {
            let (is_so, found) = self.fewer(one, other, factor, tasks);
            let holds = Holds::of(&is_so);
            let why = if holds == Holds::Yes { String::new() } else { why.to_string() };
            claims.push(Claim { claim: text, found, holds, why });
        };
        let title = "iterations until learnt";
        faster(
            format!("Fig. 3: MetaGD learns the first task faster than GD ({title})"),
            Series::Of(MetaGd, New),
            Series::Of(Gd, New),
            1.0,
            &[0],
            GROW,
        );
        faster(
            format!("Fig. 3: so does MetaGDMemAdam ({title})"),
            Series::Of(MemAdam, New),
            Series::Of(Gd, New),
            1.0,
            &[0],
            GROW,
        );
        for learner in [MetaGd, MemAdam, AdamMemory] {
            faster(
                format!(
                    "Fig. 3: on the tasks after the first, {} is faster with its memory carried ({title})",
                    learner.name()
                ),
                Series::Of(learner, Carried),
                Series::Of(learner, New),
                1.0,
                &[1, 2],
                CARRY,
            );
        }
        faster(
            format!("a memory helps Adam as well ({title})"),
            Series::Of(AdamMemory, New),
            Series::Of(Adam, New),
            1.0,
            &[0, 1, 2],
            ADAM,
        );
        for learner in [MetaGd, MemAdam] {
            faster(
                format!(
                    "Fig. 3: with its memory carried, {} is comparable with L2LBGDBGD, which is trained for each task beforehand \
                     ({title}: less than 1.2 times as many)",
                    learner.name()
                ),
                Series::Of(learner, Carried),
                Series::Learnt,
                1.2,
                &[1, 2],
                L2L,
            );
        }
        for learner in [MetaGd, MemAdam] {
            let mut is_so = vec![];
            let mut words = vec![];
            for (task, [a, b]) in DIGITS.iter().enumerate() {
                let (own, plain) =
                    (self.will_do(Series::Of(learner, New), task), self.will_do(Series::Of(Gd, New), task));
                is_so.push(own > plain);
                words.push(format!("{a}/{b}: {own} against {plain}"));
            }
            let holds = Holds::of(&is_so);
            claims.push(Claim {
                claim: format!(
                    "Fig. 3: {} depends less on the initial rate than GD (how many of {} rates will do)",
                    learner.name(),
                    self.rates.len()
                ),
                found: words.join("; "),
                holds,
                why: if holds == Holds::Yes { String::new() } else { GROW.into() },
            });
        }
        claims
    }
}

/// The seed of the weights and dropout of one descent.
fn start(seed: u64, task: usize, round: u64) -> u64 {
    seed * 1_000_000 + task as u64 * 1_000 + round
}

/// Works on one thread, whatever pool called: candle takes as many as the pool in which it is called has.
fn alone<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let _pool = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build()?;
            work()
        });
        thread.join().unwrap_or_else(|_| Err(anyhow!("the run panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    /// Three tasks of upright and lying bars.
    fn tiny() -> Mnist {
        let options = Options { data: PathBuf::new(), images: 40, iterations: 8 };
        let tasks = DIGITS.map(|digits| {
            let (images, labels) = network::tests::bars(9, 40, digits);
            let task = || Task::new(&images, &labels, digits, 40).unwrap();
            Images { training: task(), test: task() }
        });
        Mnist { options, quick: true, tasks: tasks.into() }
    }

    fn sequence(learner: Learner) -> Run {
        Run::Sequence { learner, rate: CURVE_RATE, seed: 1 }
    }

    #[test]
    fn a_run_gives_the_same_bits_beside_others_and_alone() {
        let experiment = tiny();
        let runs =
            [sequence(Learner::MetaGd), sequence(Learner::AdamMemory), Run::Learnt { task: 1, seed: 0 }];
        let outcome = |run: &Run| serde_json::to_string(&experiment.run(run).unwrap()).unwrap();
        let alone: Vec<String> = runs.iter().map(outcome).collect();
        let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let beside: Vec<String> = pool.install(|| runs.par_iter().map(outcome).collect());
        assert_eq!(alone, beside);
    }

    #[test]
    fn the_memory_is_carried_and_nothing_else() {
        let experiment = tiny();
        let outcome = experiment.run(&sequence(Learner::MetaGd)).unwrap();
        let order: Vec<_> = outcome.traces.iter().map(|trace| (trace.task, trace.kept)).collect();
        use Kept::{Carried, New};
        assert_eq!(order, [(0, New), (1, New), (1, Carried), (2, New), (2, Carried)]);
        for pair in [&outcome.traces[1..3], &outcome.traces[3..5]] {
            assert_eq!(pair[0].losses.len(), 9);
            assert_eq!(pair[0].losses[0], pair[1].losses[0], "the same weights and dropout");
            assert!(pair[1].losses[8] < pair[0].losses[8], "{pair:?}");
        }
        assert_eq!(experiment.run(&sequence(Learner::Gd)).unwrap().traces.len(), 3);
    }

    #[test]
    fn claims_follow_from_the_outcomes() {
        let experiment = tiny();
        // Learnt at once with the memory carried, late with a new one, and never without.
        let outcomes = |early: usize, late: usize| -> Vec<(Run, Outcome)> {
            let trace = |task, kept, step: usize| {
                let losses = (0..=8).map(|n| if n < step { 0.5 } else { LEARNT }).collect();
                Trace { task, kept, losses, error: 0.0 }
            };
            let of = |run: Run| {
                let traces = match run {
                    Run::Learnt { task, .. } => vec![trace(task, Kept::New, early)],
                    Run::Sequence { learner, .. } if !learner.has_memory() => {
                        (0..3).map(|task| trace(task, Kept::New, 9)).collect()
                    }
                    Run::Sequence { .. } => (0..3)
                        .flat_map(|task| [trace(task, Kept::New, late), trace(task, Kept::Carried, early)])
                        .filter(|trace| trace.task > 0 || trace.kept == Kept::New)
                        .collect(),
                };
                (run, Outcome { traces, validations: vec![] })
            };
            experiment.runs().into_iter().map(of).collect()
        };
        let holds = |early, late| -> Vec<Holds> {
            let report = experiment.report(&outcomes(early, late)).unwrap();
            assert!(report.claims.iter().all(|claim| (claim.holds == Holds::Yes) == claim.why.is_empty()));
            report.claims.iter().map(|claim| claim.holds).collect()
        };
        assert!(holds(2, 6).iter().all(|holds| *holds == Holds::Yes), "{:?}", holds(2, 6));
        use Holds::{No, Yes};
        // The carried memory is slower, as is what L2LBGDBGD does.
        assert_eq!(holds(6, 2), [Yes, Yes, No, No, No, Yes, Yes, Yes, Yes, Yes]);
        // Nobody learns anything.
        assert!(holds(9, 9).iter().all(|holds| *holds == No));
    }
}
