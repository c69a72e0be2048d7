//! How a learner fares on a data set: online in one pass, once more over what it knows, and frozen on what comes next.
//!
//! Contract: the one evaluation by which learners are compared, whoever they are; deterministic, on the calling thread.

use serde::{Deserialize, Serialize};

use super::product::Product;
use super::{Learner, Scores, baseline, evaluate, evaluate_frozen};
use crate::config::{Config, LEARNERS};
use crate::dynamics::Arm;
use crate::learn::LearnerName;
use crate::sample::Sample;

/// Who is compared, and under which parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entrant {
    /// The name of a learner or baseline.
    pub name: String,
    /// The preset of a learner; `None` for a baseline.
    pub preset: Option<String>,
    /// The base rate, where it is not the preset's.
    pub rate: Option<f64>,
    /// The seed of the networks' weights; for a baseline only that of its random features.
    pub seed: i64,
}

/// The same parameters with nothing beside the networks and their integrators but the rigid body: no least squares, no
/// replay, no mix of experts, no judgement of frozen networks.
pub fn networks_alone(config: Config) -> Config {
    Config { rls: false, replay: false, mix: false, frozen_gated: false, ..config }
}

impl Entrant {
    /// A network's learner by name, under a preset.
    pub fn network(name: &str, preset: &str) -> Entrant {
        Entrant { name: name.into(), preset: Some(preset.into()), rate: None, seed: 1 }
    }

    /// A baseline by name.
    pub fn baseline(name: &str) -> Entrant {
        Entrant { name: name.into(), preset: None, rate: None, seed: 1 }
    }

    /// The name in tables, the same for all rates and seeds.
    pub fn label(&self) -> String {
        match self.preset.as_deref() {
            Some("paper") => format!("{}, raw", self.name),
            Some(preset) => format!("{}, {preset}", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether it is a network's learner with memories for its rates.
    pub fn has_memory(&self) -> bool {
        LearnerName::parse(&self.name).is_some_and(|name| name.memory.is_some())
    }

    /// Its parameters: its preset's, of which the networks are to be seen and not what else the preset has.
    pub fn config(&self) -> Config {
        let config = networks_alone(self.preset.as_deref().map_or_else(Config::default, Config::preset));
        let rate = self.rate.unwrap_or(config.rate);
        Config { learner: self.name.clone(), rate, seed: self.seed, ..config }
    }

    /// Itself, fresh.
    ///
    /// # Errors
    /// Those of [`learner`].
    pub fn enter(&self, arm: Option<&Arm>, joints: &[String]) -> anyhow::Result<Box<dyn Learner>> {
        learner(&self.name, &self.config(), arm, joints)
    }
}

/// The learner (of the parameters `config`, but for its name) or baseline called `name`, fresh.
///
/// # Errors
/// No learner has this name, or it lacks its rigid body; the learner's own.
pub fn learner(
    name: &str,
    config: &Config,
    arm: Option<&Arm>,
    joints: &[String],
) -> anyhow::Result<Box<dyn Learner>> {
    if let Some(baseline) = baseline::new(name, config, arm, joints.len()) {
        return Ok(baseline);
    }
    if !LEARNERS.contains(&name) {
        let known = [LEARNERS, baseline::NAMES].concat().join(", ");
        let lack = if baseline::needs_rigid_body(name) { " without a rigid body" } else { "" };
        anyhow::bail!("no learner `{name}`{lack}; there are {known}");
    }
    let config = Config { learner: name.into(), ..config.clone() };
    Ok(Box::new(Product::fresh(&config, arm, joints)?))
}

/// What a learner made of the phases of a data set; all by phase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Passes {
    /// Predicted, then learnt, sample by sample, what was learnt carried on from phase to phase.
    pub first: Vec<Scores>,
    /// All phases once more, with what was learnt in the first pass.
    pub second: Vec<Scores>,
    /// Entry i is phase i + 1, not learnt from, as predicted in the first pass after phase i.
    pub frozen: Vec<Scores>,
}

impl Passes {
    /// Passes `learner` over the phases of an arm with `joints` joints.
    pub fn over(learner: &mut dyn Learner, joints: usize, phases: &[Vec<Sample>]) -> Passes {
        let mut passes = Passes { first: vec![], second: vec![], frozen: vec![] };
        for (index, phase) in phases.iter().enumerate() {
            if index > 0 {
                learner.new_task();
            }
            passes.first.push(online(learner, joints, phase));
            if let Some(next) = phases.get(index + 1) {
                let mut scores = Scores::new(joints);
                evaluate_frozen(learner, next, &mut scores, |_, _| {});
                passes.frozen.push(scores);
            }
        }
        for phase in phases {
            learner.new_task();
            passes.second.push(online(learner, joints, phase));
        }
        passes
    }

    /// The scores over several phases, as of one.
    pub fn pooled(phases: &[Scores], joints: usize) -> Scores {
        let mut pooled = Scores::new(joints);
        phases.iter().for_each(|phase| pooled.merge(phase));
        pooled
    }
}

fn online(learner: &mut dyn Learner, joints: usize, phase: &[Sample]) -> Scores {
    let mut scores = Scores::new(joints);
    evaluate(learner, phase, &mut [&mut scores], |_, _| {});
    scores
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{MAX_JOINTS, PerJoint};

    /// Predicts the torque of the last sample that it learnt from.
    struct Last {
        held: f64,
        tasks: usize,
    }

    impl Learner for Last {
        fn predict(&mut self, _: &Sample) -> PerJoint {
            [self.held; MAX_JOINTS]
        }
        fn learn(&mut self, sample: &Sample) {
            self.held = sample.effort[0];
        }
        fn new_task(&mut self) {
            self.tasks += 1;
        }
    }

    #[test]
    fn learnt_torques_go_on_into_the_next_phase_the_second_pass_and_the_frozen_test() {
        let phase = |torque: f64| -> Vec<Sample> {
            let sample = |seq| Sample { seq, effort: [torque; MAX_JOINTS], ..Sample::default() };
            (0..4).map(sample).collect()
        };
        let mut learner = Last { held: 0.0, tasks: 0 };
        let passes = Passes::over(&mut learner, 1, &[phase(2.0), phase(5.0)]);
        let rms = |scores: &[Scores]| -> Vec<f64> { scores.iter().map(|it| it.joints()[0].rms).collect() };
        // Of four samples the first is wrong: by 2 from nothing, by 3 from phase to phase.
        assert_eq!(rms(&passes.first), [1.0, 1.5]);
        assert_eq!(rms(&passes.frozen), [3.0], "every sample is wrong by the same");
        assert_eq!(rms(&passes.second), [1.5, 1.5]);
        assert_eq!(learner.tasks, 3);
        assert_eq!(Passes::pooled(&passes.first, 1).count(), 8);
    }

    #[test]
    fn an_entrants_rate_and_seed_are_its_own_and_the_rest_its_presets() {
        let raw = Entrant { rate: Some(1e-3), seed: 4, ..Entrant::network("gd", "paper") };
        let config = raw.config();
        assert_eq!((config.rate, config.seed, config.residual), (1e-3, 4, false));
        assert_eq!((raw.label().as_str(), config.learner.as_str()), ("gd, raw", "gd"));
        let robot = Entrant::network("metagd", "robot");
        assert_eq!((robot.config().rate, robot.label().as_str()), (0.03, "metagd, robot"));
        assert!(!robot.config().mix && !robot.config().rls && robot.config().residual, "the networks alone");
        assert_eq!(Entrant::baseline("rls").label(), "rls");
    }

    #[test]
    fn learners_and_baselines_go_by_name() {
        let (config, joints) = (Config::default(), ["a".to_string()]);
        for name in ["metagd", "gd", "persistence", "rff"] {
            assert!(learner(name, &config, None, &joints).is_ok(), "{name}");
        }
        let message = |name| learner(name, &config, None, &joints).err().unwrap().to_string();
        assert!(message("rls").contains("without a rigid body"));
        assert!(message("nobody").contains("there are gd, adam"));
    }
}
