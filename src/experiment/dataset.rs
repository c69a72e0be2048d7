//! Data sets: sequences of phases, recorded on real arms or simulated, as the samples that a learner takes in.
//!
//! Contract: a data set is whole in memory and never changes, so that any number of learners on any threads share it. Its
//! samples are those that the node's intake would make of the same messages, in order over all phases; a *phase* is a
//! recording, a run within one, or a trial. The same options give the same samples, to the last bit.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::feed::Feed;
use super::recordings::Recordings;
use crate::bag::Row;
use crate::config::Config;
use crate::dynamics::Arm;
use crate::sample::Sample;
use crate::sim::{LWR_URDF, Mode, Mounting, Payload, Script, Session, SimOptions, Task};

/// Rows at the beginning of the LWR4+'s recordings in which it starts up.
const LWR_START_UP: usize = 500;

/// Phases of one arm, in the order in which they happened.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The name in tables and files.
    pub name: String,
    /// The rigid body, as it is believed to be; `None` if nobody knows it.
    pub arm: Option<Arm>,
    /// The joints' names.
    pub joints: Vec<String>,
    /// The samples of each phase.
    pub phases: Vec<Vec<Sample>>,
    /// Each phase's name.
    pub labels: Vec<String>,
    /// What a reader of the figures should know.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Recordings, whole, but for the first `skip` rows of each.
    ///
    /// # Errors
    /// What is wrong with a recording; one without a sample.
    pub fn from_recordings(
        name: &str,
        opened: Recordings,
        config: &Config,
        skip: usize,
    ) -> anyhow::Result<Dataset> {
        let Recordings { recordings, joints, arm, mut notes } = opened;
        let mut feed = Feed::new(config, &joints)?;
        let (mut phases, mut labels): (Vec<Vec<Sample>>, Vec<String>) = (vec![], vec![]);
        for (input, recording) in recordings.iter().enumerate() {
            let file = recording.source().file_name().unwrap_or_default().to_string_lossy();
            let stem = file.split('.').next().unwrap_or_default();
            let first = phases.len();
            let mut rows = recording.rows()?;
            for (index, row) in rows.by_ref().enumerate() {
                let row = row?;
                if index < skip {
                    continue;
                }
                if feed.begins_phase(input, &row) {
                    phases.push(vec![]);
                    labels.push(if row.run == 0 { stem.into() } else { format!("{stem} run {}", row.run) });
                }
                if let Some(sample) = feed.sample(&row, row.stamp_ns) {
                    phases.last_mut().expect("every row lies in a phase").push(sample);
                }
            }
            if rows.skipped().total() > 0 {
                notes.push(format!("{}: {} left out", recording.source().display(), rows.skipped()));
            }
            if phases[first..].iter().all(Vec::is_empty) {
                let path = recording.source().display();
                bail!("{path}: not one sample is left (skip: {skip} rows)");
            }
        }
        let dropped = feed.drops().total();
        if dropped > 0 {
            notes.push(format!("{dropped} samples dropped by the intake"));
        }
        Ok(Dataset { name: name.into(), arm, joints, phases, labels, notes })
    }

    /// How many samples there are.
    pub fn samples(&self) -> usize {
        self.phases.iter().map(Vec::len).sum()
    }
}

/// A recorded data set that lies in the folder of recordings, by its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recorded {
    /// Two recordings of a KUKA LWR4+ on one excitation trajectory, 200 Hz, with the LWR's rigid body.
    Lwr,
    /// Ten runs of a KUKA arm that picks and places, 100 Hz; its rigid body is not known.
    PickAndPlace,
}

impl Recorded {
    /// All there are.
    pub const ALL: [Recorded; 2] = [Recorded::Lwr, Recorded::PickAndPlace];

    /// Where recordings are looked for: `given`, else what METAGD_DATA names, else `../shared/data`.
    pub fn folder(given: Option<&Path>) -> PathBuf {
        given.map(Path::to_path_buf).unwrap_or_else(|| {
            std::env::var_os("METAGD_DATA").map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from)
        })
    }

    /// Its files in the folder.
    pub fn files(self, folder: &Path) -> Vec<PathBuf> {
        let names: &[&str] = match self {
            Recorded::Lwr => {
                &["kuka_lwr4plus/kuka_lwr4plus_meas1.csv.gz", "kuka_lwr4plus/kuka_lwr4plus_meas2.csv.gz"]
            }
            Recorded::PickAndPlace => &["kuka_pickplace/kuka_pickplace_10runs.csv.gz"],
        };
        names.iter().map(|name| folder.join(name)).collect()
    }

    /// Its samples; or, if it is not in the folder, the sentence that says so.
    ///
    /// # Errors
    /// What is wrong with a recording that is there.
    pub fn open(self, folder: &Path) -> anyhow::Result<Result<Dataset, String>> {
        let files = self.files(folder);
        if let Some(missing) = files.iter().find(|file| !file.is_file()) {
            return Ok(Err(format!(
                "skipped: no recording at {}; --data or METAGD_DATA names the folder that holds it",
                missing.display()
            )));
        }
        let (name, urdf, skip) = match self {
            Recorded::Lwr => ("lwr4+", LWR_URDF, LWR_START_UP),
            Recorded::PickAndPlace => ("pick-and-place", "", 0),
        };
        let config = Config { robot_description: urdf.into(), ..Config::default() };
        let opened = Recordings::open(&files, &config, None, false)?;
        Dataset::from_recordings(name, opened, &config, skip).map(Ok)
    }
}

/// A sequence of trials on the simulated LWR: as many with each payload, one payload after the other, under one robot whose
/// true parameters follow from the seed. The robot's own feed-forward, the nominal rigid body's without payload, drives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Simulated {
    /// The motion.
    pub task: Task,
    /// The payloads, in their order; each with a block of `trials` phases.
    pub payloads: Vec<Payload>,
    /// Trials, 3 to 4 s each, with each payload; each begins elsewhere and has another size.
    pub trials: usize,
    /// The robot: seed, mounting, friction, ripple, noise. Its payload is not used.
    pub options: SimOptions,
}

impl Simulated {
    /// The paper's lifting tasks: no, light and heavy object, with axis 1 horizontal, so that joint 1 carries the arm.
    pub fn lifting(trials: usize, seed: u64) -> Simulated {
        Simulated {
            task: Task::Lift,
            payloads: Payload::ALL.to_vec(),
            trials,
            options: SimOptions { seed, mounting: Mounting::Sideways, ..SimOptions::default() },
        }
    }

    /// The same robot with friction that no regressor holds: three times as much, uneven along the joint, and four times the
    /// torque ripple.
    pub fn rough(mut self) -> Simulated {
        self.options = SimOptions { friction: 3.0, uneven: 0.5, ripple: 4.0, ..self.options };
        self
    }

    /// The number of the phase in which `trial` is done with payload number `block`.
    pub fn phase(&self, block: usize, trial: usize) -> usize {
        block * self.trials + trial
    }

    /// The samples. Deterministic, on one thread, some forty times as fast as the robot.
    ///
    /// # Errors
    /// No payloads or trials; a path out of reach; a simulation that diverged.
    pub fn run(&self, name: &str) -> anyhow::Result<Dataset> {
        let gravity = self.options.mounting.gravity();
        let nominal = Arm::from_urdf_str(LWR_URDF, &[], gravity).context("the built-in URDF")?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed);
        let (mut script, mut labels) = (Script::default(), vec![]);
        for payload in &self.payloads {
            let block = Script::repeat(self.task, *payload, Mode::RigidBody, self.trials, rng.random());
            labels.extend((1..=self.trials).map(|trial| format!("{payload} {trial}")));
            script.trials.extend(block.trials);
        }
        let mut session = Session::new(&nominal, &self.options, &script)?;
        let joints = nominal.joint_names().to_vec();
        let mut feed = Feed::new(&Config::default(), &joints)?;
        let mut phases = vec![vec![]; script.trials.len()];
        while !session.is_done() {
            let trial = session.now().trial;
            let tick = session.tick(None)?;
            if !tick.scored {
                continue;
            }
            let measured = tick.measurement;
            let row = Row {
                stamp_ns: tick.stamp_ns,
                q: measured.q,
                qd: measured.qd,
                qdd: None,
                effort: measured.effort,
                run: trial as u32,
            };
            feed.begins_phase(0, &row);
            phases[trial].extend(feed.sample(&row, row.stamp_ns));
        }
        Ok(Dataset {
            name: name.into(),
            arm: Some(session.nominal().clone()),
            joints,
            phases,
            labels,
            notes: vec![],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::PerJoint;

    fn short() -> Simulated {
        Simulated { payloads: vec![Payload::None, Payload::Heavy], ..Simulated::lifting(2, 7) }
    }

    /// Mean torque of joint 1, which carries the arm, over a phase.
    fn load(dataset: &Dataset, phase: usize) -> f64 {
        let samples = &dataset.phases[phase];
        samples.iter().map(|sample| sample.effort[0].abs()).sum::<f64>() / samples.len() as f64
    }

    #[test]
    fn trials_are_the_same_robots_and_differ_from_each_other_and_by_payload() {
        let simulated = short();
        let dataset = simulated.run("lift").unwrap();
        assert_eq!(dataset.labels, ["none 1", "none 2", "heavy 1", "heavy 2"]);
        assert_eq!(dataset.joints.len(), 7);
        for phase in &dataset.phases {
            assert!((3000..=4100).contains(&phase.len()), "{}", phase.len());
            assert!(phase.windows(2).all(|pair| pair[1].stamp_ns - pair[0].stamp_ns == 1_000_000));
            assert!(phase[..5].iter().all(|sample| sample.observation.is_none()), "the window begins anew");
            assert!(phase.last().unwrap().observation.is_some());
        }
        assert_ne!(dataset.phases[0][100].motion, dataset.phases[1][100].motion);
        let (none, heavy) = (load(&dataset, 0), load(&dataset, simulated.phase(1, 0)));
        assert!(none > 10.0 && heavy > none + 5.0, "{none} {heavy}");

        let again = simulated.run("lift").unwrap();
        assert_eq!(dataset.phases, again.phases, "to the last bit");
    }

    #[test]
    fn rough_friction_is_not_smooth_friction() {
        let [smooth, rough] = [short(), short().rough()].map(|it| it.run("lift").unwrap());
        let residual = |dataset: &Dataset| {
            let arm = dataset.arm.as_ref().unwrap();
            let square = |sample: &Sample| {
                let model: PerJoint = arm.inverse_dynamics(&sample.motion);
                (sample.effort[6] - model[6]).powi(2)
            };
            let samples = &dataset.phases[0];
            (samples.iter().map(square).sum::<f64>() / samples.len() as f64).sqrt()
        };
        assert!(residual(&rough) > 1.5 * residual(&smooth), "{} {}", residual(&rough), residual(&smooth));
    }

    #[test]
    fn recordings_become_phases_by_file_and_run_and_missing_ones_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("two.csv");
        let mut text = String::from("run,t,q1,qd1,tau1\n");
        for run in 1..=2 {
            for k in 0..40 {
                text += &format!("{run},{},{},0.1,{run}.5\n", 0.01 * f64::from(k), 0.001 * f64::from(k));
            }
        }
        std::fs::write(&path, text).unwrap();
        let config = Config::default();
        let open = |skip| {
            let opened = Recordings::open(&[path.clone(), path.clone()], &config, None, false).unwrap();
            Dataset::from_recordings("two", opened, &config, skip)
        };
        let dataset = open(10).unwrap();
        assert_eq!(dataset.labels, ["two run 1", "two run 2", "two run 1", "two run 2"]);
        assert_eq!(dataset.phases.iter().map(Vec::len).collect::<Vec<_>>(), [30, 40, 30, 40]);
        assert!(dataset.arm.is_none() && dataset.notes[0].contains("no rigid body"));
        let stamps: Vec<i64> = dataset.phases.iter().flatten().map(|sample| sample.stamp_ns).collect();
        assert!(stamps.windows(2).all(|pair| pair[1] > pair[0]));
        assert!(open(80).unwrap_err().to_string().contains("not one sample"));

        let skipped = Recorded::Lwr.open(folder.path()).unwrap().err().unwrap();
        assert!(skipped.contains("kuka_lwr4plus_meas1") && skipped.contains("METAGD_DATA"), "{skipped}");
    }
}
