//! The paper's learners on real arms, in one pass over recordings, beside every baseline.
//!
//! Contract: recordings are read once, before the first run; what is not there is told and left out. Every learner sees the same
//! samples, is scored before it learns from them, and goes through [`Passes`]: the *first pass* over all phases (recordings,
//! or runs within one), the *second pass* over the same with what was learnt (reload), and *frozen* on each phase before it
//! learns from it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::dataset::Recorded;
use super::recordings::Recordings;
use super::report::{Axis, Cell, Claim, Curve, Figure, Holds, Panel, Report, Table, mean_and_deviation};
use super::sweep::Experiment;
use super::{Dataset, Entrant, JointScore, Passes, Scores, baseline};
use crate::config::Config;
use crate::report::{number, short_names};

/// Learners with networks, each under both presets.
const NETWORKS: [&str; 5] = ["gd", "adam", "metagd", "metagd-memadam", "adam+memory"];
/// Lower base rates than the preset's own.
const LOWER_RATES: [f64; 2] = [1e-3, 1e-4];
/// Initial weights that are tried.
const SEEDS: i64 = 3;
/// How many samples of each phase the small size takes.
const QUICK_SAMPLES: usize = 600;

/// Recordings that the user names.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The files and folders, one sequence.
    pub paths: Vec<PathBuf>,
    /// Their arm's URDF; empty: it is learnt without a rigid body.
    pub urdf: String,
    /// Their joints by name; empty: those of the URDF or of the recordings.
    pub joints: Vec<String>,
    /// Rows to leave out at the beginning of each.
    pub skip: usize,
    /// The bags' topic, where it is not clear.
    pub topic: Option<String>,
}

/// The experiment and its recordings.
pub struct Real {
    sets: Vec<Dataset>,
    skipped: Vec<String>,
    given: Given,
    quick: bool,
}

/// One learner over one data set.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The data set's name.
    pub set: String,
    /// How many samples it has: other data are another run.
    pub samples: usize,
    /// Who learns.
    pub entrant: Entrant,
}

impl Real {
    /// The known recordings in `folder` and those that the user names.
    ///
    /// # Errors
    /// What is wrong with a recording or a URDF.
    pub fn new(folder: &Path, given: Given, quick: bool) -> anyhow::Result<Real> {
        let (mut sets, mut skipped) = (vec![], vec![]);
        for recorded in Recorded::ALL {
            match recorded.open(folder)? {
                Ok(set) => sets.push(set),
                Err(missing) => skipped.push(missing),
            }
        }
        if !given.paths.is_empty() {
            let config =
                Config { urdf: given.urdf.clone(), joints: given.joints.clone(), ..Config::default() };
            let opened = Recordings::open(&given.paths, &config, given.topic.as_deref(), false)?;
            sets.push(Dataset::from_recordings("given", opened, &config, given.skip)?);
        }
        if quick {
            sets.iter_mut().flat_map(|set| &mut set.phases).for_each(|phase| phase.truncate(QUICK_SAMPLES));
        }
        Ok(Real { sets, skipped, given, quick })
    }

    fn set(&self, name: &str) -> anyhow::Result<&Dataset> {
        let set = self.sets.iter().find(|set| set.name == name);
        set.ok_or_else(|| anyhow::anyhow!("no data set {name}"))
    }

    /// Who is compared on a data set, without rate and seed, in the order of the tables.
    fn entrants(&self, set: &Dataset) -> Vec<Entrant> {
        let fits = |name: &&str| set.arm.is_some() || !baseline::needs_rigid_body(name);
        let networks = NETWORKS.iter().filter(|name| !self.quick || ["gd", "metagd"].contains(name));
        let presets = |name: &&'static str| ["paper", "robot"].map(|preset| Entrant::network(name, preset));
        let baselines = baseline::NAMES.iter().copied().filter(fits).map(Entrant::baseline);
        baselines.chain(networks.flat_map(presets)).collect()
    }
}

impl Experiment for Real {
    type Run = Run;
    type Outcome = Passes;

    fn name(&self) -> &'static str {
        "real"
    }

    fn options(&self) -> Vec<String> {
        let Given { paths, urdf, joints, skip, topic } = &self.given;
        let mut options: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        options.extend((!urdf.is_empty()).then(|| format!("--urdf {urdf}")));
        options.extend((!joints.is_empty()).then(|| format!("--joints {}", joints.join(","))));
        options.extend((*skip > 0).then(|| format!("--skip {skip}")));
        options.extend(topic.iter().map(|topic| format!("--topic {topic}")));
        options
    }

    fn runs(&self) -> Vec<Run> {
        let mut runs = vec![];
        for set in &self.sets {
            let mut enter =
                |entrant| runs.push(Run { set: set.name.clone(), samples: set.samples(), entrant });
            for entrant in self.entrants(set) {
                if entrant.preset.is_none() {
                    enter(entrant);
                    continue;
                }
                for seed in 1..=if self.quick { 1 } else { SEEDS } {
                    enter(Entrant { seed, ..entrant.clone() });
                    for rate in LOWER_RATES.iter().filter(|_| !self.quick) {
                        enter(Entrant { rate: Some(*rate), seed, ..entrant.clone() });
                    }
                }
            }
        }
        runs
    }

    fn run(&self, run: &Run) -> anyhow::Result<Passes> {
        let set = self.set(&run.set)?;
        let mut learner = run.entrant.enter(set.arm.as_ref(), &set.joints)?;
        Ok(Passes::over(learner.as_mut(), set.joints.len(), &set.phases))
    }

    fn report(&self, outcomes: &[(Run, Passes)]) -> anyhow::Result<Report> {
        let mut report = Report { notes: self.skipped.clone(), ..Report::default() };
        for set in &self.sets {
            let found = Found { set, outcomes, entrants: self.entrants(set) };
            report.notes.push(found.note());
            report.notes.extend(set.notes.iter().map(|note| format!("{}: {note}", set.name)));
            report.tables.push(found.summary("RMS torque error, all joints [Nm]", &rms));
            report.tables.push(found.summary("nMSE, mean over joints", &nmse));
            for pass in PASSES {
                report.tables.push(found.by_joint(pass, "nMSE", |score| score.nmse));
                report.tables.push(found.by_joint(pass, "RMS torque error [Nm]", |score| score.rms));
            }
            if !self.quick {
                report.tables.push(found.by_rate());
            }
            report.tables.extend(found.by_phase());
            report.figures.extend(found.figure());
            report.claims.extend(found.claims());
        }
        if !self.sets.is_empty() {
            report.notes.push(
                "\"raw\": the paper's learner, the whole torque from scratch (preset paper). \"robot\": \
                 the networks of the node's preset, scaled, with an integrator and a gate, on the rigid \
                 body's residual where there is a rigid body (the whole preset: beyond). Rates are the presets' own (0.01, 0.03) where no other is \
                 named; figures are means over the seeds of the weights. First pass: every sample is \
                 predicted, then learnt from. Second pass: all phases once more, with what was learnt \
                 (reload). Frozen: every phase but the first, as predicted before it is learnt from. \
                 Frozen, persistence is a constant, and rigid-body+i the rigid body with a constant."
                    .into(),
            );
        }
        Ok(report)
    }
}

/// A pass: its name, and where its scores are, by phase.
type Pass = (&'static str, fn(&Passes) -> &[Scores]);

const PASSES: [Pass; 3] = [
    ("first pass", |passes| &passes.first),
    ("second pass", |passes| &passes.second),
    ("frozen", |passes| &passes.frozen),
];

/// Root of the mean over the joints of the squared RMS, Nm.
fn rms(scores: &Scores) -> f64 {
    let joints = scores.joints();
    (joints.iter().map(|joint| joint.rms.powi(2)).sum::<f64>() / joints.len() as f64).sqrt()
}

/// Mean over the joints of the nMSE.
fn nmse(scores: &Scores) -> f64 {
    let joints = scores.joints();
    joints.iter().map(|joint| joint.nmse).sum::<f64>() / joints.len() as f64
}

/// What came of one data set.
struct Found<'a> {
    set: &'a Dataset,
    outcomes: &'a [(Run, Passes)],
    entrants: Vec<Entrant>,
}

impl Found<'_> {
    /// A figure of the scores that `pick` takes, at every seed.
    fn by_seed(
        &self,
        label: &str,
        rate: Option<f64>,
        pick: &dyn Fn(&Passes) -> Option<Scores>,
        figure: &dyn Fn(&Scores) -> f64,
    ) -> Vec<f64> {
        let is =
            |run: &Run| run.set == self.set.name && run.entrant.label() == label && run.entrant.rate == rate;
        let outcomes = self.outcomes.iter().filter(|(run, _)| is(run));
        outcomes.filter_map(|(_, passes)| pick(passes)).map(|scores| figure(&scores)).collect()
    }

    /// The same over all phases of a pass.
    fn over(
        &self,
        label: &str,
        rate: Option<f64>,
        (_, of): Pass,
        figure: &dyn Fn(&Scores) -> f64,
    ) -> Vec<f64> {
        let joints = self.set.joints.len();
        let pick = |passes: &Passes| {
            let pooled = Passes::pooled(of(passes), joints);
            (pooled.count() > 0).then_some(pooled)
        };
        self.by_seed(label, rate, &pick, figure)
    }

    fn mean(&self, label: &str, pass: Pass, figure: &dyn Fn(&Scores) -> f64) -> f64 {
        mean_and_deviation(&self.over(label, None, pass, figure)).0
    }

    fn labels(&self) -> Vec<String> {
        self.entrants.iter().map(Entrant::label).collect()
    }

    fn note(&self) -> String {
        let set = self.set;
        let body = if set.arm.is_some() { "with" } else { "without" };
        format!(
            "{}: {} samples, {} joints, {body} a rigid body. Phases: {}.",
            set.name,
            set.samples(),
            set.joints.len(),
            set.labels.join(", ")
        )
    }

    fn title(&self, what: &str) -> String {
        format!("{}: {what}", self.set.name)
    }

    /// A figure in all passes, with the spread over seeds.
    fn summary(&self, name: &str, figure: &dyn Fn(&Scores) -> f64) -> Table {
        let title = self.title(&format!("{name}, ± over seeds"));
        let mut table = Table::new(title, std::iter::once("learner").chain(PASSES.map(|(name, _)| name)));
        for label in self.labels() {
            let cells = PASSES.map(|pass| Cell::spread(&self.over(&label, None, pass, figure)));
            table.row(std::iter::once(label.as_str().into()).chain(cells));
        }
        table
    }

    fn by_joint(&self, pass: Pass, name: &str, figure: fn(&JointScore) -> f64) -> Table {
        let joints = short_names(&self.set.joints);
        let title = self.title(&format!("{name} by joint, {}", pass.0));
        let mut table =
            Table::new(title, std::iter::once("learner").chain(joints.iter().map(String::as_str)));
        for label in self.labels() {
            let cell =
                |joint: usize| Cell::from(self.mean(&label, pass, &|scores| figure(&scores.joints()[joint])));
            table.row(std::iter::once(label.as_str().into()).chain((0..joints.len()).map(cell)));
        }
        table
    }

    /// How much the base rate matters.
    fn by_rate(&self) -> Table {
        let title = self.title("RMS torque error, all joints [Nm], by base rate, mean over seeds");
        let rates = || std::iter::once(None).chain(LOWER_RATES.iter().copied().map(Some));
        let mut head = vec!["learner".to_string()];
        for pass in ["1st", "2nd", "frozen"] {
            head.push(pass.into());
            head.extend(LOWER_RATES.map(|rate| format!("{rate:e}")));
        }
        let mut table = Table::new(title, head);
        for entrant in self.entrants.iter().filter(|entrant| entrant.preset.is_some()) {
            let label = entrant.label();
            let mean = |pass, rate| Cell::from(mean_and_deviation(&self.over(&label, rate, pass, &rms)).0);
            let cells: Vec<Cell> =
                PASSES.iter().flat_map(|pass| rates().map(|rate| mean(*pass, rate))).collect();
            table.row(std::iter::once(label.as_str().into()).chain(cells));
        }
        table
    }

    /// RMS in phase number `phase` of the first pass.
    fn in_phase(&self, label: &str, phase: usize) -> Vec<f64> {
        self.by_seed(label, None, &|passes| passes.first.get(phase).cloned(), &rms)
    }

    /// The first pass, phase by phase, where there are several.
    fn by_phase(&self) -> Option<Table> {
        let phases = self.set.phases.len();
        if phases < 2 {
            return None;
        }
        let title = self.title("RMS torque error, all joints [Nm], first pass, phase by phase");
        let names: Vec<String> = (1..=phases).map(|phase| phase.to_string()).collect();
        let mut table = Table::new(title, std::iter::once("learner").chain(names.iter().map(String::as_str)));
        for label in self.labels() {
            let cell = |phase| Cell::from(mean_and_deviation(&self.in_phase(&label, phase)).0);
            table.row(std::iter::once(label.as_str().into()).chain((0..phases).map(cell)));
        }
        Some(table)
    }

    /// The life-long course of the first pass, where there are phases enough to draw it.
    fn figure(&self) -> Option<Figure> {
        let phases = self.set.phases.len();
        if phases < 3 {
            return None;
        }
        let shown = ["persistence", "rff", "gd, raw", "metagd, raw", "gd, robot", "metagd, robot"];
        let curve = |(style, label): (usize, &&str)| {
            let seeds: Vec<Vec<f64>> = (0..phases).map(|phase| self.in_phase(label, phase)).collect();
            let count = seeds.first().map_or(0, Vec::len);
            let lines: Vec<Vec<f64>> =
                (0..count).map(|seed| seeds.iter().map(|phase| phase[seed]).collect()).collect();
            let lines: Vec<&[f64]> = lines.iter().map(Vec::as_slice).collect();
            let numbers: Vec<f64> = (1..=phases).map(|phase| phase as f64).collect();
            Curve::mean_of(*label, style, &numbers, &lines)
        };
        let panel = Panel {
            title: self.set.name.clone(),
            x: Axis::linear("run"),
            y: Axis::log("RMS torque error, all joints [Nm]"),
            field: None,
            curves: shown.iter().enumerate().map(curve).collect(),
        };
        Some(Figure {
            name: format!("real-{}", self.set.name),
            caption: self.title("error of each run while all are learnt one after another; band over seeds"),
            columns: 1,
            panels: vec![panel],
        })
    }

    /// The claim that in each pair (two learners' RMS by seed) the second is the smaller one, at every seed; `why` is said
    /// where it is not.
    fn compared(&self, claim: &str, pairs: &[[Vec<f64>; 2]], why: &str) -> Claim {
        let (mut smaller, mut told) = (vec![], vec![]);
        for [one, other] in pairs {
            // A baseline has no seeds: it stands beside each of the other's.
            smaller.extend(one.iter().cycle().zip(other).map(|(one, other)| other < one));
            let mean = |all: &[f64]| number(mean_and_deviation(all).0);
            told.push(format!("{} against {}", mean(one), mean(other)));
        }
        let holds = Holds::of(&smaller);
        Claim {
            claim: self.title(claim),
            found: told.join(", "),
            holds,
            why: if holds == Holds::Yes { String::new() } else { why.into() },
        }
    }

    /// The RMS in a pass, by seed: the mean over the base rates.
    fn over_rates(&self, label: &str, pass: Pass) -> Vec<f64> {
        let rates = std::iter::once(None).chain(LOWER_RATES.map(Some));
        let all: Vec<Vec<f64>> = rates.map(|rate| self.over(label, rate, pass, &rms)).collect();
        let seeds = all.iter().map(Vec::len).min().unwrap_or(0);
        (0..seeds)
            .map(|seed| mean_and_deviation(&all.iter().map(|rate| rate[seed]).collect::<Vec<_>>()).0)
            .collect()
    }

    /// The name of the one among these with the least RMS in a pass, in hindsight.
    fn best(&self, pass: Pass, among: impl Fn(&Entrant) -> bool) -> String {
        let all = self.entrants.iter().filter(|entrant| among(entrant)).map(Entrant::label);
        let scored = all.map(|label| (self.mean(&label, pass, &rms), label));
        scored.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, label)| label).unwrap_or_default()
    }

    fn claims(&self) -> Vec<Claim> {
        let [first, second, frozen] = PASSES;
        let baselines = |entrant: &Entrant| entrant.preset.is_none() && entrant.name != "persistence-1";
        let baseline = self.best(first, baselines);
        let network = self.best(first, |entrant| entrant.preset.is_some());
        let own = |label: &str, pass| self.over(label, None, pass, &rms);
        let learners = [("gd, raw", "metagd, raw"), ("gd, robot", "metagd, robot")];
        let mut claims = vec![self.compared(
            "MetaGD is better than GD in one pass, each at its preset's base rate (RMS at every seed; \
             raw, robot).",
            &learners.map(|(gd, metagd)| [own(gd, first), own(metagd, first)]),
            "Where the base rate already suits the data, a memory has nothing to gain; see the table by \
             base rate.",
        )];
        let over_rates =
            learners.map(|(gd, metagd)| [self.over_rates(gd, first), self.over_rates(metagd, first)]);
        if over_rates.iter().flatten().all(|seeds| !seeds.is_empty()) {
            claims.push(self.compared(
                "MetaGD is better than GD in the mean over three base rates, as Table I has it (RMS at \
                 every seed; raw, robot).",
                &over_rates,
                "With an integrator beside it, the network has little to learn, at whatever rate.",
            ));
        }
        claims.push(self.compared(
            "With reload MetaGD is better: the second pass against the first (RMS at every seed; raw, robot).",
            &learners.map(|(_, metagd)| [own(metagd, first), own(metagd, second)]),
            "In one pass the network follows the torque as it goes rather than learning it as a function \
             of the state, so that what it brings into the second pass belongs to the end of the first.",
        ));
        claims.push(self.compared(
            &format!(
                "(Asked, not in the paper) The best network in one pass, {network}, is better than the \
                 best baseline that sees no newer torque, {baseline}, both in hindsight (RMS at every \
                 seed)."
            ),
            &[[own(&baseline, first), own(&network, first)]],
            "What the network learns from one batch is wrong in the next by more than the torque moves in \
             between.",
        ));
        if self.set.phases.len() > 1 {
            let safest = self.best(frozen, baselines);
            claims.push(self.compared(
                &format!(
                    "(Asked) Frozen, MetaGD is better than the best baseline, {safest} (RMS at every \
                          seed; raw, robot)."
                ),
                &learners.map(|(_, metagd)| [own(&safest, frozen), own(metagd, frozen)]),
                "Learnt in one pass of samples that are much alike one after another, a network keeps \
                 what it was shown last.",
            ));
        }
        claims
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{MAX_JOINTS, Sample};

    /// One phase of one joint.
    fn set() -> Dataset {
        Dataset {
            name: "set".into(),
            arm: None,
            joints: vec!["a".into()],
            phases: vec![vec![Sample::default()]],
            labels: vec!["one".into()],
            notes: vec![],
        }
    }

    fn outcome(name: &str, seed: i64, rate: Option<f64>, error: f64) -> (Run, Passes) {
        let mut scores = Scores::new(1);
        scores.add(0, &[error; MAX_JOINTS], &[0.0; MAX_JOINTS]);
        let entrant = Entrant { seed, rate, ..Entrant::network(name, "paper") };
        let run = Run { set: "set".into(), samples: 1, entrant };
        (run, Passes { first: vec![scores], second: vec![], frozen: vec![] })
    }

    #[test]
    fn a_claim_holds_only_if_it_does_at_every_seed() {
        let rates = [None, Some(LOWER_RATES[0]), Some(LOWER_RATES[1])];
        let mut outcomes = vec![];
        for (index, rate) in rates.into_iter().enumerate() {
            let error = [1.0, 2.0, 6.0][index];
            outcomes.push(outcome("gd", 1, rate, error));
            outcomes.push(outcome("gd", 2, rate, error + 1.0));
            outcomes.push(outcome("metagd", 1, rate, 2.0));
            outcomes.push(outcome("metagd", 2, rate, 1.0));
        }
        let set = set();
        let found = Found { set: &set, outcomes: &outcomes, entrants: vec![] };
        let own = |label| found.over(label, None, PASSES[0], &rms);
        assert_eq!(own("gd, raw"), [1.0, 2.0]);
        let claim = found.compared("claim", &[[own("gd, raw"), own("metagd, raw")]], "because");
        assert_eq!((claim.holds, claim.why.as_str()), (Holds::Partly, "because"));
        assert_eq!((claim.claim.as_str(), claim.found.as_str()), ("set: claim", "1.50 against 1.50"));
        assert_eq!(found.over_rates("gd, raw", PASSES[0]), [3.0, 4.0]);
        let claim = found.compared("", &[[vec![3.0], own("metagd, raw")]], "because");
        assert_eq!((claim.holds, claim.why.as_str()), (Holds::Yes, ""));
        assert!(found.over("metagd, raw", None, PASSES[2], &rms).is_empty(), "no frozen phase");
    }
}
