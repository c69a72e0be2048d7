//! The paper's test function (section IV-B, Fig. 2): does a memory learn rates that help, and do they help again?
//!
//! Contract: double precision, all Gaussians evaluated, one memory for each of the two coordinates; nothing random. The reference
//! values, computed apart from this program, hold for the paper's start.

use serde::{Deserialize, Serialize};

use super::report::{Axis, Cell, Claim, Curve, Field, Figure, Holds, Panel, Report, Table};
use super::sweep::{self, Experiment};
use crate::learn::{Base, Memory, MemoryOptimizer, MemorySettings, MetaGd, Signal, Spacing};

/// Where the reference values begin.
const START: [f64; 2] = [1.5, -0.5];
const OTHER_STARTS: [[f64; 2]; 3] = [[-1.2, 1.0], [0.0, 2.0], [-0.5, -1.0]];
const RATE: f64 = 1e-3;
const CLIP: f64 = 10.0;
/// Steps of a run, and after how many of the first one the memory is carried over to the second.
const STEPS: usize = 100;
const CARRIED_AFTER: usize = 50;
/// When the landscape is taken, in steps of the first run; once more at the end of the second.
const MOMENTS: [usize; 2] = [10, CARRIED_AFTER];
/// Gradients at which it is.
const LANDSCAPE: usize = 401;
/// A loss that counts as the valley's floor.
const FLOOR: f64 = 1.0;

/// The learners, by name; all but the first have a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Learner {
    /// Gradient descent at a constant rate.
    Gd,
    /// The memory learns by gradient descent.
    MetaGd,
    /// The memory learns by Adam.
    MemAdam,
}

impl Learner {
    const ALL: [Learner; 3] = [Learner::Gd, Learner::MetaGd, Learner::MemAdam];

    fn name(self) -> &'static str {
        match self {
            Learner::Gd => "GD",
            Learner::MetaGd => "MetaGD",
            Learner::MemAdam => "MetaGDMemAdam",
        }
    }

    fn optimiser(self) -> MetaGd<f64> {
        let memory = |optimizer| {
            let settings = MemorySettings {
                models: 100,
                spacing: Spacing::Linear,
                width: 0.5,
                clip: CLIP,
                rate: 1e-3,
                signal: Signal::Product,
                optimizer,
                window: None,
            };
            Memory::new(&settings, RATE)
        };
        let group = || match self {
            Learner::Gd => (1, None),
            Learner::MetaGd => (1, Some(memory(MemoryOptimizer::Gd))),
            Learner::MemAdam => (1, Some(memory(MemoryOptimizer::Adam))),
        };
        MetaGd::new(Base::Gd, RATE, CLIP, vec![group(), group()])
    }
}

/// The experiment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rosenbrock {
    /// Only the paper's start.
    pub quick: bool,
}

/// A learner and where it starts; with a memory, twice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Run {
    start: [f64; 2],
    learner: Learner,
}

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    first: Trace,
    /// From the same start with the memory carried over.
    second: Option<Trace>,
    /// What the memories hold, each as rates by gradient: at the moments of the first run, and at the end of the second.
    landscapes: Vec<[Vec<f64>; 2]>,
}

/// One descent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Trace {
    path: Vec<[f64; 2]>,
    #[serde(deserialize_with = "sweep::numbers")]
    losses: Vec<f64>,
    /// Applied at every step.
    rates: Vec<[f64; 2]>,
}

impl Trace {
    /// The first step after which the loss is below `bound`.
    fn reaches(&self, bound: f64) -> Option<usize> {
        self.losses.iter().position(|loss| *loss < bound)
    }
}

fn loss([x, y]: [f64; 2]) -> f64 {
    let (a, b) = (1.0 - x, y - x * x);
    a * a + 100.0 * b * b
}

fn gradient([x, y]: [f64; 2]) -> [f64; 2] {
    let b = y - x * x;
    [-2.0 * (1.0 - x) - 400.0 * x * b, 200.0 * b]
}

fn rates_at(optimiser: &MetaGd<f64>, gradient: [f64; 2]) -> [f64; 2] {
    let mut rates = [RATE; 2];
    for ((rate, group), g) in rates.iter_mut().zip(optimiser.groups()).zip(gradient) {
        if let Some(memory) = group.memory() {
            *rate = memory.rate(g.clamp(-CLIP, CLIP));
        }
    }
    rates
}

/// Where the landscape is taken.
fn grid() -> impl Iterator<Item = f64> {
    (0..LANDSCAPE).map(|n| CLIP * (2.0 * n as f64 / (LANDSCAPE - 1) as f64 - 1.0))
}

fn landscape(optimiser: &MetaGd<f64>) -> [Vec<f64>; 2] {
    let (first, second) = grid().map(|g| rates_at(optimiser, [g; 2])).map(|[a, b]| (a, b)).unzip();
    [first, second]
}

/// Goes down from `start`; calls `after` with the number of steps done.
fn descend(
    optimiser: &mut MetaGd<f64>,
    start: [f64; 2],
    mut after: impl FnMut(usize, &MetaGd<f64>),
) -> Trace {
    let mut x = start;
    let mut trace = Trace { path: vec![x], losses: vec![loss(x)], rates: Vec::new() };
    for step in 1..=STEPS {
        let g = gradient(x);
        optimiser.step(&mut x, &g);
        // The rates that were applied: the memory learns before it is looked up.
        trace.rates.push(rates_at(optimiser, g));
        trace.path.push(x);
        trace.losses.push(loss(x));
        after(step, optimiser);
    }
    trace
}

impl Experiment for Rosenbrock {
    type Run = Run;
    type Outcome = Outcome;

    fn name(&self) -> &'static str {
        "rosenbrock"
    }

    fn runs(&self) -> Vec<Run> {
        let others = if self.quick { &[][..] } else { &OTHER_STARTS };
        let starts = std::iter::once(&START).chain(others);
        starts.flat_map(|&start| Learner::ALL.map(|learner| Run { start, learner })).collect()
    }

    fn run(&self, run: &Run) -> anyhow::Result<Outcome> {
        let mut optimiser = run.learner.optimiser();
        let mut carried = None;
        let mut landscapes = Vec::new();
        let first = descend(&mut optimiser, run.start, |step, optimiser| {
            if MOMENTS.contains(&step) {
                landscapes.push(landscape(optimiser));
            }
            if step == CARRIED_AFTER {
                carried = Some(optimiser.clone());
            }
        });
        let second = carried.filter(|_| run.learner != Learner::Gd).map(|mut optimiser| {
            optimiser.new_task();
            let second = descend(&mut optimiser, run.start, |_, _| {});
            landscapes.push(landscape(&optimiser));
            second
        });
        Ok(Outcome { first, second, landscapes })
    }

    fn report(&self, outcomes: &[(Run, Outcome)]) -> anyhow::Result<Report> {
        let paper: Vec<&(Run, Outcome)> = outcomes.iter().filter(|(run, _)| run.start == START).collect();
        let mut tables = vec![losses(&paper, START)];
        tables.push(first_rates(&paper));
        tables.push(reached(outcomes));
        Ok(Report {
            notes: vec![
                format!(
                    "{STEPS} steps at a base rate of {RATE}; 100 local models on [-{CLIP}, {CLIP}], memory rate 1e-3, a \
                     memory for each coordinate, double precision"
                ),
                format!(
                    "run 2 begins at the same start with the memory as it was after {CARRIED_AFTER} steps of run 1; the \
                     last gradient and the optimizer's moments are forgotten"
                ),
            ],
            tables,
            figures: vec![curves(&paper), paths(&paper), landscapes(&paper)],
            claims: claims(outcomes),
        })
    }
}

/// A trace with its name and style: run by run of one learner.
fn traces(outcomes: &[&(Run, Outcome)]) -> Vec<(String, usize, Trace)> {
    let mut all = Vec::new();
    for (run, outcome) in outcomes {
        let name = run.learner.name();
        let style = 2 * run.learner as usize;
        match &outcome.second {
            None => all.push((name.to_string(), style, outcome.first.clone())),
            Some(second) => {
                all.push((format!("{name}, run 1"), style - 1, outcome.first.clone()));
                all.push((format!("{name}, run 2"), style, second.clone()));
            }
        }
    }
    all
}

fn losses(outcomes: &[&(Run, Outcome)], start: [f64; 2]) -> Table {
    const AT: [usize; 8] = [0, 1, 5, 10, 20, 30, 50, 100];
    let head = std::iter::once("learner".to_string()).chain(AT.iter().map(|n| n.to_string()));
    let mut table = Table::new(format!("loss after n steps from ({}, {})", start[0], start[1]), head);
    for (name, _, trace) in traces(outcomes) {
        let at = |n: &usize| trace.losses.get(*n).copied().unwrap_or(f64::NAN).into();
        table.row(std::iter::once(Cell::from(name)).chain(AT.iter().map(at)));
    }
    table
}

fn first_rates(outcomes: &[&(Run, Outcome)]) -> Table {
    const AT: [usize; 6] = [0, 1, 2, 3, 10, 20];
    let head = ["learner".to_string(), "coordinate".into()].into_iter();
    let head = head.chain(AT.iter().map(|n| format!("{n}")));
    let mut table = Table::new("learning rate applied at step n (from 0)", head);
    for (name, _, trace) in traces(outcomes) {
        for coordinate in 0..2 {
            let cells = [Cell::from(name.as_str()), format!("x{}", coordinate + 1).into()];
            let at = |n: &usize| trace.rates.get(*n).map_or(f64::NAN, |rates| rates[coordinate]).into();
            table.row(cells.into_iter().chain(AT.iter().map(at)));
        }
    }
    table
}

fn reached(outcomes: &[(Run, Outcome)]) -> Table {
    let title = format!(
        "steps until the loss is below {FLOOR}, by start (- : not within {STEPS}), and the last loss"
    );
    let mut table = Table::new(title, ["learner", "start", "steps", "last loss"]);
    for (run, outcome) in outcomes {
        for (name, _, trace) in traces(&[&(*run, outcome.clone())]) {
            let start = format!("({}, {})", run.start[0], run.start[1]);
            let steps = trace.reaches(FLOOR).map_or_else(|| Cell::Number(f64::NAN), Cell::from);
            let last = trace.losses.last().copied().unwrap_or(f64::NAN);
            table.row([name.into(), start.into(), steps, last.into()]);
        }
    }
    table
}

fn curves(outcomes: &[&(Run, Outcome)]) -> Figure {
    let traces = traces(outcomes);
    let curve = |value: &dyn Fn(&Trace) -> Vec<f64>| -> Vec<Curve> {
        traces.iter().map(|(name, style, trace)| Curve::over_steps(name, *style, &value(trace))).collect()
    };
    let rate = |d: usize| curve(&|trace: &Trace| trace.rates.iter().map(|rates| rates[d]).collect());
    let panel = |title: &str, steps: usize, y: Axis, curves| Panel {
        title: title.into(),
        x: Axis::linear("step").within(0.0, steps as f64),
        y,
        curves,
        ..Panel::default()
    };
    Figure {
        name: "rosenbrock-curves".into(),
        caption: "loss, and the learning rates applied in both coordinates, over the steps".into(),
        columns: 3,
        panels: vec![
            panel("Loss", STEPS, Axis::log("loss"), curve(&|trace| trace.losses.clone())),
            panel("Rate applied to x1", 40, Axis::linear("learning rate"), rate(0)),
            panel("Rate applied to x2", 40, Axis::linear("learning rate"), rate(1)),
        ],
    }
}

fn paths(outcomes: &[&(Run, Outcome)]) -> Figure {
    let (x, y) = ((-0.5, 1.75), (-0.75, 1.75));
    let mut field = Field::of(x, y, (136, 151), |x, y| (1e-3 + loss([x, y])).log10());
    field.shaded = true;
    field.levels = [-0.5, 0.0, 1.0, 2.0, 2.5].to_vec();
    let curves = traces(outcomes).into_iter().map(|(label, style, trace)| Curve {
        label,
        style,
        points: trace.path,
        ..Curve::default()
    });
    let optimum = Curve {
        label: "optimum".into(),
        style: 6,
        points: vec![[1.0, 1.0]],
        scattered: true,
        ..Curve::default()
    };
    Figure {
        name: "rosenbrock-paths".into(),
        caption: "the ways down; lines at losses of 0.3, 1, 10, 100, 316, darker where it is greater".into(),
        columns: 1,
        panels: vec![Panel {
            title: "Paths".into(),
            x: Axis::linear("x1").within(x.0, x.1),
            y: Axis::linear("x2").within(y.0, y.1),
            field: Some(field),
            curves: curves.chain([optimum]).collect(),
        }],
    }
}

fn landscapes(outcomes: &[&(Run, Outcome)]) -> Figure {
    let [early, carried] = MOMENTS;
    let moments = [
        format!("run 1, after {early} steps"),
        format!("run 1, after {carried} steps (carried)"),
        "end of run 2".to_string(),
    ];
    let mut panels = Vec::new();
    for (run, outcome) in outcomes.iter().filter(|(run, _)| run.learner != Learner::Gd) {
        for coordinate in 0..2 {
            let curve = |(style, (label, at)): (usize, (&String, &[Vec<f64>; 2]))| Curve {
                label: label.clone(),
                style,
                points: grid().zip(&at[coordinate]).map(|(g, rate)| [g, *rate]).collect(),
                ..Curve::default()
            };
            panels.push(Panel {
                title: format!("{}, memory of x{}", run.learner.name(), coordinate + 1),
                x: Axis::linear("clipped gradient"),
                y: Axis::linear("learning rate"),
                curves: moments.iter().zip(&outcome.landscapes).enumerate().map(curve).collect(),
                ..Panel::default()
            });
        }
    }
    Figure {
        name: "rosenbrock-landscapes".into(),
        caption: "what the memories hold: the learning rate over the gradient, at three moments".into(),
        columns: 2,
        panels,
    }
}

/// Losses computed apart from this program, in double precision.
struct Reference {
    learner: Learner,
    /// Of the second run.
    again: bool,
    /// After so many steps.
    losses: &'static [(usize, f64)],
    /// How far ours may be off, relatively.
    allowed: f64,
}

const REFERENCE: [Reference; 5] = [
    Reference {
        learner: Learner::Gd,
        again: false,
        losses: &[
            (0, 7.5650000000e+02),
            (1, 7.3470430100e+02),
            (5, 6.5172812500e+02),
            (10, 5.5712000000e+02),
            (20, 3.9610000000e+02),
            (50, 1.0000000000e+02),
            (100, 1.4353316213e-01),
        ],
        allowed: 6e-11,
    },
    Reference {
        learner: Learner::MetaGd,
        again: false,
        losses: &[
            (1, 7.3470430100e+02),
            (5, 4.8891158246e+02),
            (10, 9.7914016455e+01),
            (20, 1.3815229461e-01),
            (50, 1.2530815625e-01),
        ],
        allowed: 6e-11,
    },
    Reference {
        learner: Learner::MetaGd,
        again: true,
        losses: &[
            (1, 5.2612866778e+02),
            (5, 2.4888699478e+01),
            (10, 1.6145142864e-01),
            (20, 1.4680394852e-01),
        ],
        allowed: 6e-11,
    },
    Reference {
        learner: Learner::MemAdam,
        again: false,
        losses: &[
            (1, 7.3470430100e+02),
            (5, 4.9979818673e+02),
            (10, 9.9221870549e+01),
            (20, 1.4061768793e-01),
        ],
        allowed: 6e-11,
    },
    Reference {
        learner: Learner::MemAdam,
        again: false,
        losses: &[(50, 1.1507334259e-01)],
        // The last digit of a sum grows to 1e-8 and more by step 50: Adam inflates the Gaussians' tails.
        allowed: 2e-7,
    },
];

fn claims(outcomes: &[(Run, Outcome)]) -> Vec<Claim> {
    let mut claims = Vec::new();
    for Reference { learner, again, losses: expected, allowed } in REFERENCE {
        let outcome = outcomes.iter().find(|(run, _)| run.start == START && run.learner == learner);
        let trace = outcome
            .and_then(|(_, outcome)| if again { outcome.second.as_ref() } else { Some(&outcome.first) });
        let off = |(n, value): &(usize, f64)| {
            let loss = trace.and_then(|trace| trace.losses.get(*n)).copied().unwrap_or(f64::NAN);
            (loss / value - 1.0).abs()
        };
        // Not a number is the worst of all.
        let worst = |worst: f64, off: f64| if off > worst || off.is_nan() { off } else { worst };
        let worst = expected.iter().map(off).fold(0.0, worst);
        let steps: Vec<String> = expected.iter().map(|(n, _)| n.to_string()).collect();
        claims.push(Claim {
            claim: format!(
                "{}, run {}: the losses after {} steps are the reference values",
                learner.name(),
                1 + usize::from(again),
                steps.join(", ")
            ),
            found: format!("off by at most {worst:.1e} of the value; up to {allowed:.0e} is rounding"),
            holds: Holds::so(worst <= allowed),
            why: String::new(),
        });
    }
    claims.extend(comparisons(outcomes));
    claims
}

/// The paper's own claims, over all starts: who is at the valley's floor before whom.
fn comparisons(outcomes: &[(Run, Outcome)]) -> Vec<Claim> {
    let mut starts: Vec<[f64; 2]> = Vec::new();
    for (run, _) in outcomes {
        if !starts.contains(&run.start) {
            starts.push(run.start);
        }
    }
    let steps = |start: [f64; 2], learner: Learner, again: bool| {
        let (_, outcome) = outcomes.iter().find(|(run, _)| run.start == start && run.learner == learner)?;
        if again { outcome.second.as_ref()?.reaches(FLOOR) } else { outcome.first.reaches(FLOOR) }
    };
    let claim = |text: &str, (one, again): (Learner, bool), (other, other_again): (Learner, bool)| {
        let mut found = Vec::new();
        let mut is_so = Vec::new();
        for &start in &starts {
            let (a, b) = (steps(start, one, again), steps(start, other, other_again));
            let said = |steps: Option<usize>| steps.map_or(format!("more than {STEPS}"), |n| n.to_string());
            found.push(format!("{} against {} from ({}, {})", said(a), said(b), start[0], start[1]));
            is_so.push(a.unwrap_or(usize::MAX) < b.unwrap_or(usize::MAX));
        }
        let holds = Holds::of(&is_so);
        let why = match holds {
            Holds::Yes => "",
            _ => {
                "a start that lies on the valley's floor, or in a part of it that bends, leaves nothing to be won by larger \
                 rates: gradients flip there, and the memory learns to brake"
            }
        };
        Claim {
            claim: format!("{text} (steps until the loss is below {FLOOR})"),
            found: found.join("; "),
            holds,
            why: why.into(),
        }
    };
    use Learner::{Gd, MemAdam, MetaGd};
    vec![
        claim("Fig. 2: in its first run, MetaGD converges faster than GD", (MetaGd, false), (Gd, false)),
        claim(
            "Fig. 2: with the memory carried, its second run is faster than its first",
            (MetaGd, true),
            (MetaGd, false),
        ),
        claim("Fig. 2: MetaGDMemAdam converges faster than GD as well", (MemAdam, false), (Gd, false)),
        claim("and its second run is faster than its first", (MemAdam, true), (MemAdam, false)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes() -> Vec<(Run, Outcome)> {
        let experiment = Rosenbrock { quick: true };
        experiment.runs().into_iter().map(|run| (run, experiment.run(&run).unwrap())).collect()
    }

    #[test]
    fn every_claim_about_the_papers_start_holds() {
        for claim in claims(&outcomes()) {
            assert_eq!(claim.holds, Holds::Yes, "{claim:?}");
        }
    }

    #[test]
    fn the_rates_shown_are_those_that_were_applied() {
        for (run, outcome) in outcomes() {
            for trace in std::iter::once(&outcome.first).chain(&outcome.second) {
                for ((ends, rates), n) in trace.path.windows(2).zip(&trace.rates).zip(0..) {
                    let g = gradient(ends[0]);
                    for d in 0..2 {
                        let moved = ends[0][d] - rates[d] * g[d].clamp(-CLIP, CLIP);
                        assert!((moved - ends[1][d]).abs() < 1e-14, "{run:?}, step {n}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_wrong_loss_is_told() {
        let mut outcomes = outcomes();
        outcomes[1].1.first.losses[20] *= 1.0 + 1e-9;
        outcomes[2].1.first.losses[1] = f64::NAN;
        let holds: Vec<Holds> = claims(&outcomes).iter().take(5).map(|claim| claim.holds).collect();
        assert_eq!(holds, [Holds::Yes, Holds::No, Holds::Yes, Holds::No, Holds::Yes]);
    }
}
