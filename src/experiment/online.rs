//! Online learning of inverse dynamics (section IV-D2 of the paper, Fig. 5, Table I): the arm lifts no, a light and a heavy
//! object, and every learner learns the torques as they come.
//!
//! Contract: the robot is simulated once, before the first run; all runs share its samples. A *task* is one lift with one
//! payload, a *trial* one repetition of all three: the same robot, another start and size of the motion, other noise, other
//! initial weights. "Fresh" (the paper: no reload) begins each task with new weights and new memories; "reload" begins with
//! what the same trial's task before it left, networks and memories; "memory" takes the memories alone into a fresh network.
//! "Frozen" is the next trial of the same task, predicted with what the fresh learner has learnt, and not learnt from.

use std::sync::OnceLock;

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};

use super::dataset::Simulated;
use super::product::Product;
use super::report::{Axis, Cell, Claim, Curve, Figure, Holds, Panel, Report, Table, mean_and_deviation};
use super::sweep::Experiment;
use super::{Dataset, Entrant, Learner, Scores, baseline, evaluate, evaluate_frozen};
use crate::learn::Reload;
use crate::realtime::thread::thread_cpu_ns;
use crate::report::number;
use crate::sample::Sample;

/// The paper's base rates.
const RATES: [f64; 3] = [1e-2, 1e-3, 1e-4];
/// The joint that the paper shows: mounted sideways, it carries the whole arm.
const SHOWN: usize = 0;
/// Width of a curve's bin, ns: one batch.
const BIN_NS: i64 = 10_000_000;
/// How much of every lift the curves show, s: no lift is shorter.
const CURVE_S: f64 = 3.0;
/// The tasks, by number.
const TASKS: [&str; 3] = ["no object", "light object", "heavy object"];
/// Table I of the paper, Nm²: no, light, heavy without reload; light, heavy with reload.
const PAPER: [(&str, [f64; 5]); 2] =
    [("gd", [256.0, 278.0, 283.0, 22.8, 2.37]), ("metagd", [125.0, 124.0, 106.0, 6.7, 0.39])];
/// What the paper grants a step of all joints, ms.
const PAPER_STEP_MS: f64 = 3.0;
/// The paper's learners, Adam as well, and the networks of the product's preset.
const NETWORKS: [(&str, &str); 7] = [
    ("gd", "paper"),
    ("metagd", "paper"),
    ("metagd-memadam", "paper"),
    ("adam", "paper"),
    ("adam+memory", "paper"),
    ("gd", "robot"),
    ("metagd", "robot"),
];

/// The experiment and its robot.
pub struct Online {
    simulated: Simulated,
    rates: Vec<f64>,
    networks: Vec<(&'static str, &'static str)>,
    data: OnceLock<Result<Dataset, String>>,
}

/// One learner through the three tasks of one trial.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Who learns.
    pub entrant: Entrant,
    /// The trial, from 0.
    pub trial: usize,
    /// The robot.
    pub simulated: Simulated,
}

/// One task as it was learnt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lift {
    /// Every joint's figures.
    pub scores: Scores,
    /// Mean squared torque error of joint 1 in every 10 ms, Nm²; `None` where it is not a number.
    pub course: Vec<Option<f32>>,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Each task from nothing.
    pub fresh: Vec<Lift>,
    /// The second and third task with what the one before left.
    pub reload: Vec<Lift>,
    /// The second and third task with the memories alone; empty for who has none.
    pub memory: Vec<Lift>,
    /// The next trial of each task, frozen.
    pub frozen: Vec<Scores>,
}

impl Online {
    /// `trials` trials (at least 2) of a robot of this seed; `quick` has fewer rates and learners.
    pub fn new(trials: usize, seed: u64, quick: bool) -> Online {
        Online {
            simulated: Simulated::lifting(trials.max(2), seed),
            rates: RATES[..if quick { 2 } else { RATES.len() }].to_vec(),
            networks: NETWORKS[..if quick { 2 } else { NETWORKS.len() }].to_vec(),
            data: OnceLock::new(),
        }
    }

    fn data(&self) -> anyhow::Result<&Dataset> {
        let simulate = || self.simulated.run("lifting").map_err(|error| format!("the simulation: {error:#}"));
        self.data.get_or_init(simulate).as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// The samples of a task in a trial; after the last trial comes the first.
    fn samples<'a>(&self, data: &'a Dataset, task: usize, trial: usize) -> &'a [Sample] {
        &data.phases[self.simulated.phase(task, trial % self.simulated.trials)]
    }

    /// Every learner without rate and seed, in the order of the tables.
    fn entrants(&self) -> Vec<Entrant> {
        let networks = self.networks.iter().map(|(name, preset)| Entrant::network(name, preset));
        networks.chain(baseline::NAMES.iter().map(|name| Entrant::baseline(name))).collect()
    }
}

impl Experiment for Online {
    type Run = Run;
    type Outcome = Outcome;

    fn name(&self) -> &'static str {
        "online"
    }

    fn options(&self) -> Vec<String> {
        vec![format!("--trials {} --seed {}", self.simulated.trials, self.simulated.options.seed)]
    }

    fn runs(&self) -> Vec<Run> {
        let mut runs = vec![];
        for entrant in self.entrants() {
            let rates: Vec<Option<f64>> = match entrant.preset {
                Some(_) => self.rates.iter().copied().map(Some).collect(),
                None => vec![None],
            };
            for rate in rates {
                for trial in 0..self.simulated.trials {
                    let entrant = Entrant { rate, seed: 1 + trial as i64, ..entrant.clone() };
                    runs.push(Run { entrant, trial, simulated: self.simulated.clone() });
                }
            }
        }
        runs
    }

    fn run(&self, run: &Run) -> anyhow::Result<Outcome> {
        let data = self.data()?;
        let joints = data.joints.len();
        let samples = |task| self.samples(data, task, run.trial);
        let mut outcome = Outcome { fresh: vec![], reload: vec![], memory: vec![], frozen: vec![] };
        let mut first = None;
        for task in 0..TASKS.len() {
            let mut learner = run.entrant.enter(data.arm.as_ref(), &data.joints)?;
            outcome.fresh.push(lift(learner.as_mut(), joints, samples(task)));
            let mut scores = Scores::new(joints);
            let next = self.samples(data, task, run.trial + 1);
            evaluate_frozen(learner.as_mut(), next, &mut scores, |_, _| {});
            outcome.frozen.push(scores);
            first.get_or_insert(learner);
        }
        let mut learner = first.context("no task")?;
        for task in 1..TASKS.len() {
            learner.new_task();
            outcome.reload.push(lift(learner.as_mut(), joints, samples(task)));
        }
        if run.entrant.has_memory() {
            let fresh = || Product::fresh(&run.entrant.config(), data.arm.as_ref(), &data.joints);
            let mut learner = fresh()?;
            lift(&mut learner, joints, samples(0));
            for task in 1..TASKS.len() {
                let mut next = fresh()?;
                next.take(&learner, Reload::Memory);
                outcome.memory.push(lift(&mut next, joints, samples(task)));
                learner = next;
            }
        }
        Ok(outcome)
    }

    fn report(&self, outcomes: &[(Run, Outcome)]) -> anyhow::Result<Report> {
        let data = self.data()?;
        let found = Found { outcomes, trials: self.simulated.trials };
        let times = StepTimes::of(self.samples(data, 0, 0), data)?;
        Ok(Report {
            notes: self.notes(data),
            tables: vec![
                self.table_of_the_paper(&found),
                self.table_of_all(data, &found, "joint 1", &shown_early),
                self.table_of_rates(&found),
                self.table_of_all(data, &found, "mean over all joints", &all_early),
                self.table_of_movements(&found),
                self.table_of_joints(data, &found),
                times.table(),
            ],
            figures: vec![figure(&found)],
            claims: self.claims(&found, &times),
        })
    }
}

/// Learns one lift, scoring it and drawing its course.
fn lift(learner: &mut dyn Learner, joints: usize, samples: &[Sample]) -> Lift {
    let mut scores = Scores::new(joints);
    let mut course = vec![];
    let mut bin: Option<(i64, f64, f64)> = None;
    let mean = |(_, sum, count): (i64, f64, f64)| Some((sum / count) as f32).filter(|mean| mean.is_finite());
    evaluate(learner, samples, &mut [&mut scores], |sample, predicted| {
        let squared = (predicted[SHOWN] - sample.effort[SHOWN]).powi(2);
        match &mut bin {
            Some((start, sum, count)) if sample.stamp_ns - *start < BIN_NS => {
                *sum += squared;
                *count += 1.0;
            }
            _ => course.extend(bin.replace((sample.stamp_ns, squared, 1.0)).map(mean)),
        }
    });
    course.extend(bin.map(mean));
    Lift { scores, course }
}

/// One situation in which learners are scored: its name, and where its scores are.
type Situation = (&'static str, fn(&Outcome) -> Option<&Scores>);

/// Those of the paper's Table I.
const OF_THE_PAPER: [Situation; 5] = [
    ("no", |it| it.fresh.first().map(|lift| &lift.scores)),
    ("light", |it| it.fresh.get(1).map(|lift| &lift.scores)),
    ("heavy", |it| it.fresh.get(2).map(|lift| &lift.scores)),
    ("rel. light", |it| it.reload.first().map(|lift| &lift.scores)),
    ("rel. heavy", |it| it.reload.get(1).map(|lift| &lift.scores)),
];
/// The memories alone carried on.
const MEMORY: [Situation; 2] = [
    ("mem. light", |it| it.memory.first().map(|lift| &lift.scores)),
    ("mem. heavy", |it| it.memory.get(1).map(|lift| &lift.scores)),
];
/// The next trial, frozen.
const FROZEN: [Situation; 3] = [
    ("frozen no", |it| it.frozen.first()),
    ("frozen light", |it| it.frozen.get(1)),
    ("frozen heavy", |it| it.frozen.get(2)),
];

/// Mean loss of joint 1 over the first 500 ms, Nm².
fn shown_early(scores: &Scores) -> f64 {
    scores.joints()[SHOWN].first500ms_mse
}

/// The same, the mean over all joints.
fn all_early(scores: &Scores) -> f64 {
    let joints = scores.joints();
    joints.iter().map(|joint| joint.first500ms_mse).sum::<f64>() / joints.len() as f64
}

/// RMS torque error over the whole movement and all joints, Nm.
fn whole(scores: &Scores) -> f64 {
    let joints = scores.joints();
    (joints.iter().map(|joint| joint.rms.powi(2)).sum::<f64>() / joints.len() as f64).sqrt()
}

/// The outcomes, to be asked by learner and situation.
struct Found<'a> {
    outcomes: &'a [(Run, Outcome)],
    trials: usize,
}

impl<'a> Found<'a> {
    fn of(&self, label: &str, rate: Option<f64>, trial: usize) -> impl Iterator<Item = &'a Outcome> {
        let is = move |run: &Run| {
            run.trial == trial && run.entrant.label() == label && (rate.is_none() || run.entrant.rate == rate)
        };
        self.outcomes.iter().filter(move |(run, _)| is(run)).map(|(_, outcome)| outcome)
    }

    /// Every trial's figure: its mean over the base rates, or that at `rate`. Empty where there is none.
    fn by_trial(
        &self,
        label: &str,
        rate: Option<f64>,
        (_, pick): Situation,
        figure: &dyn Fn(&Scores) -> f64,
    ) -> Vec<f64> {
        let trial = |trial| {
            let all: Vec<f64> = self.of(label, rate, trial).filter_map(pick).map(figure).collect();
            (!all.is_empty()).then(|| mean_and_deviation(&all).0)
        };
        (0..self.trials).filter_map(trial).collect()
    }

    /// The mean over trials and base rates.
    fn mean(&self, label: &str, situation: Situation, figure: &dyn Fn(&Scores) -> f64) -> f64 {
        mean_and_deviation(&self.by_trial(label, None, situation, figure)).0
    }
}

/// The row of a table: the name, then a cell for every situation.
fn row(name: &str, situations: &[Situation], cell: impl Fn(Situation) -> Cell) -> Vec<Cell> {
    std::iter::once(name.into()).chain(situations.iter().map(|situation| cell(*situation))).collect()
}

fn head<'a>(first: &'a str, situations: &[Situation]) -> Vec<&'a str> {
    std::iter::once(first).chain(situations.iter().map(|(name, _)| *name)).collect()
}

impl Online {
    fn notes(&self, data: &Dataset) -> Vec<String> {
        let rates: Vec<String> = self.rates.iter().map(|rate| format!("{rate:?}")).collect();
        let torque: f64 = data.phases.iter().flatten().map(|sample| sample.effort[SHOWN].abs()).sum::<f64>()
            / data.samples() as f64;
        vec![
            format!(
                "Simulated KUKA LWR4+ at 1 kHz, axis 1 horizontal: joint 1 carries {} Nm on average. {} \
                 trials of 3 to 4 s with no, 1 kg and 3 kg at the flange; base rates {}.",
                number(torque),
                self.simulated.trials,
                rates.join(", ")
            ),
            "\"raw\": the paper's learner, the whole torque from scratch (preset paper: [50, 50, 50], K = \
             20, clip 2, memory rate 0.01; the paper does not give these; the gradients of GD are \
             clipped too). \"robot\": the networks of the node's preset, on the rigid body's residual \
             with an integrator, at the same base rates (the whole preset: beyond). Every prediction is scored before it is learnt from; \
             persistence is the mean torque of the 10 ms before, persistence-1 the torque 1 ms before."
                .into(),
            "rel.: reload, mem.: the memories alone carried into a fresh network, fr.: frozen on the next \
             trial; l, h: light, heavy. Frozen, persistence is a constant, and rigid-body+i the rigid \
             body with a constant."
                .into(),
        ]
    }

    fn table_of_the_paper(&self, found: &Found) -> Table {
        let mut table = Table::new(
            format!(
                "Table I: mean loss over the first 500 ms [Nm²], joint 1, mean over base rates, ± over {} \
                 trials",
                self.simulated.trials
            ),
            head("", &OF_THE_PAPER),
        );
        for (name, paper) in PAPER {
            let cells = paper.iter().map(|loss| Cell::from(*loss));
            table.row(std::iter::once(format!("{name}, paper").into()).chain(cells));
        }
        for (name, _) in PAPER {
            let label = format!("{name}, raw");
            table.row(row(&format!("{name}, here"), &OF_THE_PAPER, |it| {
                Cell::spread(&found.by_trial(&label, None, it, &shown_early))
            }));
        }
        let [(_, gd), (_, metagd)] = PAPER;
        let ratios = gd.iter().zip(metagd).map(|(gd, metagd)| Cell::from(gd / metagd));
        table.row(std::iter::once("gd / metagd, paper".into()).chain(ratios));
        table.row(row("gd / metagd, here", &OF_THE_PAPER, |it| {
            (found.mean("gd, raw", it, &shown_early) / found.mean("metagd, raw", it, &shown_early)).into()
        }));
        table
    }

    fn table_of_all(
        &self,
        data: &Dataset,
        found: &Found,
        of: &str,
        figure: &dyn Fn(&Scores) -> f64,
    ) -> Table {
        let situations = [&OF_THE_PAPER[..], &MEMORY].concat();
        let title = format!("Mean loss over the first 500 ms [Nm²], {of}, mean over trials and base rates");
        let mut table = Table::new(title, head("learner", &situations));
        for entrant in self.entrants() {
            let label = entrant.label();
            table.row(row(&label, &situations, |it| found.mean(&label, it, figure).into()));
        }
        let nothing: Vec<f64> = (0..TASKS.len()).map(|task| self.silent(data, task, figure)).collect();
        let tasks = [0, 1, 2, 1, 2].map(|task| Cell::from(nothing[task]));
        table.row(
            std::iter::once("nothing (0 Nm)".into()).chain(tasks).chain([f64::NAN.into(), f64::NAN.into()]),
        );
        table
    }

    /// The figure of who predicts 0 Nm, mean over trials.
    fn silent(&self, data: &Dataset, task: usize, figure: &dyn Fn(&Scores) -> f64) -> f64 {
        let trial = |trial| {
            let mut scores = Scores::new(data.joints.len());
            for sample in self.samples(data, task, trial) {
                scores.add(sample.stamp_ns, &[0.0; crate::sample::MAX_JOINTS], &sample.effort);
            }
            figure(&scores)
        };
        mean_and_deviation(&(0..self.simulated.trials).map(trial).collect::<Vec<_>>()).0
    }

    fn table_of_rates(&self, found: &Found) -> Table {
        let situations = [&OF_THE_PAPER[..], &MEMORY].concat();
        let title = "Mean loss over the first 500 ms [Nm²], joint 1, by base rate";
        let mut table = Table::new(title, [&["learner", "rate"], &head("", &situations)[1..]].concat());
        for entrant in self.entrants().iter().filter(|entrant| entrant.preset.is_some()) {
            let label = entrant.label();
            for rate in &self.rates {
                let cells = situations.iter().map(|it| {
                    Cell::from(mean_and_deviation(&found.by_trial(&label, Some(*rate), *it, &shown_early)).0)
                });
                table.row([label.as_str().into(), Cell::from(format!("{rate:?}"))].into_iter().chain(cells));
            }
        }
        table
    }

    fn table_of_movements(&self, found: &Found) -> Table {
        let situations = [&OF_THE_PAPER[..], &MEMORY, &FROZEN].concat();
        let short =
            ["no", "light", "heavy", "rel. l", "rel. h", "mem. l", "mem. h", "fr. no", "fr. l", "fr. h"];
        let title =
            "RMS torque error over the whole movement, all joints [Nm], mean over trials and base rates";
        let mut table = Table::new(title, [&["learner"], &short[..]].concat());
        for entrant in self.entrants() {
            let label = entrant.label();
            table.row(row(&label, &situations, |it| found.mean(&label, it, &whole).into()));
        }
        table
    }

    fn table_of_joints(&self, data: &Dataset, found: &Found) -> Table {
        let title = "RMS torque error over the whole movement [Nm] by joint, reload, heavy object";
        let joints = crate::report::short_names(&data.joints);
        let names = std::iter::once("learner").chain(joints.iter().map(String::as_str));
        let mut table = Table::new(title, names);
        for entrant in self.entrants() {
            let label = entrant.label();
            let cell = |joint: usize| {
                Cell::from(found.mean(&label, OF_THE_PAPER[4], &|scores| scores.joints()[joint].rms))
            };
            table.row(std::iter::once(label.as_str().into()).chain((0..joints.len()).map(cell)));
        }
        table
    }

    fn claims(&self, found: &Found, times: &StepTimes) -> Vec<Claim> {
        let at = |label: &str, rate: f64, it| {
            mean_and_deviation(&found.by_trial(label, Some(rate), it, &shown_early)).0
        };
        let against = |one: &str, other: &str, all: &[Situation], figure: &dyn Fn(&Scores) -> f64| -> Pairs {
            all.iter().map(|it| (found.mean(one, *it, figure), found.mean(other, *it, figure))).collect()
        };
        let [no, light, heavy, reload_light, reload_heavy] = OF_THE_PAPER;
        let early = |label: &str, it| found.mean(label, it, &shown_early);
        let both = |one: Situation, other: Situation| -> Pairs {
            ["gd, raw", "metagd, raw"].map(|label| (early(label, one), early(label, other))).into()
        };
        let with_memory = |label: &str| -> Pairs {
            let pair = |rate: f64| {
                [(light, MEMORY[0]), (heavy, MEMORY[1])]
                    .map(|(a, b)| (at(label, rate, a), at(label, rate, b)))
            };
            self.rates.iter().flat_map(|rate| pair(*rate)).collect()
        };
        let worst_to_best = |label: &str| {
            let rates = self.rates.iter().map(|rate| at(label, *rate, light));
            let (least, most) = rates.fold((f64::INFINITY, 0.0_f64), |(l, m), v| (l.min(v), m.max(v)));
            most / least
        };
        let fresh = against("gd, raw", "metagd, raw", &[no, light, heavy], &shown_early);
        let is_fast = times.is_below(PAPER_STEP_MS);
        let mut claims = vec![
            Claim {
                holds: Holds::of(&fresh.iter().map(|(gd, metagd)| 2.0 * metagd <= *gd).collect::<Vec<_>>()),
                why: "The scale is another: how much joint 1 carries in the first 500 ms is in the row \
                      \"nothing\"; the paper names neither its load nor its network, K, clip and memory \
                      rate."
                    .into(),
                ..compared(
                    "Table I, no reload: MetaGD's loss over the first 500 ms is half of GD's or less (no, \
                     light, heavy).",
                    "gd against metagd",
                    &fresh,
                    "",
                )
            },
            compared(
                "Table I: with reload both begin the next task far lower (light, heavy).",
                "gd, metagd, no reload against reload",
                &[both(light, reload_light), both(heavy, reload_heavy)].concat(),
                "",
            ),
            compared(
                "Table I, reload: MetaGD stays below GD (light, heavy).",
                "gd against metagd",
                &against("gd, raw", "metagd, raw", &[reload_light, reload_heavy], &shown_early),
                "",
            ),
            compared(
                "Table I, reload: the third task begins still lower than the second (gd, metagd).",
                "light against heavy",
                &both(reload_light, reload_heavy),
                "Here the third task is the greater change: it adds 2 kg to what the second had, the \
                 second 1 kg to nothing. Who has learnt little by then gains from the longer practice, \
                 who has learnt much pays for the change.",
            ),
            Claim {
                claim: "A learning step of all joints takes less than 3 ms.".into(),
                found: format!("{} here: see the measured times", if is_fast { "less" } else { "more" }),
                holds: Holds::so(is_fast),
                why: String::new(),
            },
            compared(
                "Meant by the mean over base rates: MetaGD depends less on the base rate than GD.",
                "worst over best rate, light object, no reload, gd against metagd",
                &[(worst_to_best("gd, raw"), worst_to_best("metagd, raw"))],
                "",
            ),
            compared(
                "(Asked, not in the paper) MetaGD is better than repeating the mean torque of the 10 ms \
                 before.",
                "persistence against metagd",
                &against("persistence", "metagd, raw", &OF_THE_PAPER, &shown_early),
                "The loss over the first 500 ms rewards whoever finds the offset first, and persistence \
                 finds it within one batch.",
            ),
            compared(
                "(Asked) A carried memory makes a fresh network learn faster (metagd; light, heavy at \
                 each base rate).",
                "without and with the memory",
                &with_memory("metagd, raw"),
                "With the memory carried, the base rate is forgotten: the loss is much the same at every \
                 one, which is a gain where the base rate was too low and a loss where it was right for \
                 the start.",
            ),
            compared(
                "(Asked) What MetaGD has learnt in one lift holds for the next: frozen, it is better than \
                 the nominal rigid body (RMS; no, light, heavy).",
                "rigid body against metagd",
                &against("rigid-body", "metagd, raw", &FROZEN, &whole),
                "In one pass the network follows the torque as it goes rather than learning it as a \
                 function of the state; only a payload that the rigid body does not know of is worse.",
            ),
        ];
        if self.networks.contains(&("adam", "paper")) {
            claims.extend([
                compared(
                    "(Asked) MetaGD is better than Adam at the same base rates.",
                    "adam against metagd",
                    &against("adam, raw", "metagd, raw", &OF_THE_PAPER, &shown_early),
                    "",
                ),
                compared(
                    "(Asked) The same of a memory on top of Adam (adam+memory; light, heavy at each base \
                     rate).",
                    "without and with the memory",
                    &with_memory("adam+memory, raw"),
                    "",
                ),
                compared(
                    "(Asked) On the rigid body's residual, MetaGD is better over the whole movement than \
                     the rigid body with an integrator (RMS).",
                    "rigid-body+i against metagd, robot",
                    &against("rigid-body+i", "metagd, robot", &OF_THE_PAPER, &whole),
                    "What is left beside an integrator of the same speed is little.",
                ),
            ]);
        }
        claims
    }
}

/// Figures of one learner beside another's.
type Pairs = Vec<(f64, f64)>;

/// The claim that in each pair the second figure is the smaller one; `why` is said where it is not.
fn compared(claim: &str, what: &str, pairs: &[(f64, f64)], why: &str) -> Claim {
    let holds = Holds::of(&pairs.iter().map(|(a, b)| b < a).collect::<Vec<_>>());
    let told: Vec<String> =
        pairs.iter().map(|(a, b)| format!("{} against {}", number(*a), number(*b))).collect();
    let told = told.join(", ");
    let why = if holds == Holds::Yes { "" } else { why };
    Claim { claim: claim.into(), found: format!("{what}: {told}"), holds, why: why.into() }
}

/// Loss over time in each task: the mean over trials of the mean over base rates, with the band of all trials.
fn figure(found: &Found) -> Figure {
    let bins = (CURVE_S * 1e9) as usize / BIN_NS as usize;
    let seconds: Vec<f64> = (0..bins).map(|bin| (bin as f64 + 0.5) * BIN_NS as f64 * 1e-9).collect();
    let curve = |name: &str, style, label: &str, pick: &dyn Fn(&Outcome) -> Option<&Lift>| {
        let trial = |trial| {
            let lifts: Vec<&Lift> = found.of(label, None, trial).filter_map(pick).collect();
            let at = |bin: usize| {
                let loss = |lift: &&Lift| lift.course.get(bin).copied().flatten().map_or(f64::NAN, f64::from);
                mean_and_deviation(&lifts.iter().map(loss).collect::<Vec<f64>>()).0
            };
            (0..bins).map(at).collect::<Vec<f64>>()
        };
        let lines: Vec<Vec<f64>> = (0..found.trials).map(trial).collect();
        let lines: Vec<&[f64]> = lines.iter().map(Vec::as_slice).collect();
        Curve::mean_of(name, style, &seconds, &lines)
    };
    let panel = |task: usize| {
        let mut curves = vec![
            curve("GD", 0, "gd, raw", &|it| it.fresh.get(task)),
            curve("MetaGD", 1, "metagd, raw", &|it| it.fresh.get(task)),
        ];
        if let Some(reload) = task.checked_sub(1) {
            curves.push(curve("GD, reload", 2, "gd, raw", &|it| it.reload.get(reload)));
            curves.push(curve("MetaGD, reload", 3, "metagd, raw", &|it| it.reload.get(reload)));
        }
        curves.push(curve("persistence", 4, "persistence", &|it| it.fresh.get(task)));
        Panel {
            title: TASKS[task].into(),
            x: Axis::linear("time [s]"),
            y: Axis::log("squared torque error, joint 1 [Nm²]"),
            field: None,
            curves,
        }
    };
    Figure {
        name: "online-convergence".into(),
        caption: "Fig. 5: loss over time while a lift is learnt, joint 1: mean over base rates and \
                  trials, band from the best to the worst trial"
            .into(),
        columns: 1,
        panels: (0..TASKS.len()).map(panel).collect(),
    }
}

/// The CPU time of learning steps of all joints, µs.
struct StepTimes(Vec<(String, Vec<f64>)>);

impl StepTimes {
    /// Learns one lift with each of the paper's learners and times every step of the whole arm.
    fn of(samples: &[Sample], data: &Dataset) -> anyhow::Result<StepTimes> {
        let mut times = vec![];
        for (name, _) in PAPER {
            let entrant = Entrant { rate: Some(1e-3), ..Entrant::network(name, "paper") };
            let batch = entrant.config().batch;
            let mut learner = entrant.enter(data.arm.as_ref(), &data.joints)?;
            let mut steps = vec![];
            for (count, sample) in samples.iter().filter(|sample| sample.observation.is_some()).enumerate() {
                let started_ns = thread_cpu_ns();
                learner.learn(sample);
                if (count + 1) % batch == 0 {
                    steps.push((thread_cpu_ns() - started_ns) as f64 * 1e-3);
                }
            }
            steps.sort_by(f64::total_cmp);
            times.push((entrant.label(), steps));
        }
        Ok(StepTimes(times))
    }

    /// The time that a share `q` of a learner's steps stays within.
    fn quantile(steps: &[f64], q: f64) -> f64 {
        let last = steps.len().saturating_sub(1);
        steps.get((q * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
    }

    fn is_below(&self, ms: f64) -> bool {
        self.0.iter().all(|(_, steps)| Self::quantile(steps, 0.99) < ms * 1e3)
    }

    fn table(&self) -> Table {
        let title = "CPU time of a learning step of all seven joints [µs] (the paper: below 3,000)";
        let head = ["learner", "median", "99 %", "longest", "steps"];
        let mut table = Table { measured: true, ..Table::new(title, head) };
        for (name, steps) in &self.0 {
            let [median, most, longest] = [0.5, 0.99, 1.0].map(|q| Cell::from(Self::quantile(steps, q)));
            table.row([name.as_str().into(), median, most, longest, steps.len().into()]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{MAX_JOINTS, PerJoint};

    /// Predicts 0 Nm.
    struct Silent;

    impl Learner for Silent {
        fn predict(&mut self, _: &Sample) -> PerJoint {
            [0.0; MAX_JOINTS]
        }
        fn learn(&mut self, _: &Sample) {}
    }

    #[test]
    fn a_course_has_a_mean_for_every_ten_milliseconds_and_the_rest() {
        let torque = |ms: i64| if ms < 10 { 1.0 } else { 2.0 };
        let sample = |ms: i64| Sample {
            stamp_ns: 5_000_000_000 + ms * 1_000_000,
            effort: [torque(ms); MAX_JOINTS],
            ..Sample::default()
        };
        let samples: Vec<Sample> = (0..25).map(sample).collect();
        let lift = lift(&mut Silent, 2, &samples);
        assert_eq!(lift.course, [Some(1.0), Some(4.0), Some(4.0)]);
        assert_eq!(lift.scores.count(), 25);
    }

    /// An outcome in which joint 1 is wrong by `error` in the first task.
    fn outcome(error: f64) -> Outcome {
        let mut scores = Scores::new(1);
        scores.add(0, &[error; MAX_JOINTS], &[0.0; MAX_JOINTS]);
        Outcome {
            fresh: vec![Lift { scores, course: vec![] }],
            reload: vec![],
            memory: vec![],
            frozen: vec![],
        }
    }

    #[test]
    fn a_trials_figure_is_the_mean_over_base_rates_and_the_spread_is_over_trials() {
        let run = |rate, trial| Run {
            entrant: Entrant { rate: Some(rate), ..Entrant::network("gd", "paper") },
            trial,
            simulated: Simulated::lifting(2, 1),
        };
        let outcomes = [
            (run(0.1, 0), outcome(1.0)),
            (run(0.2, 0), outcome(3.0)),
            (run(0.1, 1), outcome(2.0)),
            (run(0.2, 1), outcome(4.0)),
        ];
        let found = Found { outcomes: &outcomes, trials: 2 };
        let [no, light, ..] = OF_THE_PAPER;
        assert_eq!(found.by_trial("gd, raw", None, no, &shown_early), [5.0, 10.0]);
        assert_eq!(found.by_trial("gd, raw", Some(0.2), no, &shown_early), [9.0, 16.0]);
        assert_eq!(found.mean("gd, raw", no, &shown_early), 7.5);
        assert!(found.mean("gd, raw", light, &shown_early).is_nan(), "no such task");
        assert!(found.mean("gd, robot", no, &shown_early).is_nan(), "no such learner");
    }

    #[test]
    fn a_claim_holds_where_the_second_figure_is_smaller_and_why_is_said_where_it_is_not() {
        let partly = compared("claim", "a against b", &[(2.0, 1.0), (1.0, 1.0)], "because");
        assert_eq!((partly.holds, partly.why.as_str()), (Holds::Partly, "because"));
        assert_eq!(partly.found, "a against b: 2.00 against 1.00, 1.00 against 1.00");
        assert_eq!(compared("claim", "", &[(2.0, 1.0)], "because").why, "");
        assert_eq!(compared("claim", "", &[(2.0, f64::NAN)], "").holds, Holds::No);
    }
}
