//! metagd's own step, by its public interface.

use std::time::{Duration, Instant};

use anyhow::Result;
use metagd::config::Config;
use metagd::learn::{ArmLearner, Batch, Checkpoint};

use crate::JOINTS;
use crate::contestant::Contestant;
use crate::state::{State, parse};
use crate::stream::Stream;

/// What the node runs, on data that come in scaled units.
pub fn node() -> Config {
    Config {
        scale_position: 1.0,
        scale_velocity: 1.0,
        scale_acceleration: 1.0,
        scale_torque: 1.0,
        ..Config::default()
    }
}

/// The step that all contestants take: the paper's, at the node's rates.
pub fn paper() -> Config {
    Config { residual: false, zero_output: false, integrator_gain: 0.0, ..node() }
}

fn joints() -> Vec<String> {
    (1..=JOINTS).map(|joint| format!("joint_{joint}")).collect()
}

/// What an arm that is configured so starts from, as a checkpoint's bytes.
pub fn start(config: &Config) -> Result<Vec<u8>> {
    bytes(&ArmLearner::new(config, &joints())?, config)
}

fn bytes(arm: &ArmLearner, config: &Config) -> Result<Vec<u8>> {
    Ok(Checkpoint::of(arm, config, &joints()).to_bytes()?)
}

pub struct Ours {
    name: &'static str,
    config: Config,
    start: ArmLearner,
    arm: ArmLearner,
    batches: Vec<Batch>,
    live: f64,
}

impl Ours {
    pub fn new(name: &'static str, config: &Config) -> Result<Self> {
        let start = ArmLearner::new(config, &joints())?;
        Ok(Ours { name, config: config.clone(), arm: start.clone(), start, batches: vec![], live: f64::NAN })
    }

    /// The share of hidden units that answered to at least one sample of a batch, mean over the last run.
    pub fn live_units(&self) -> f64 {
        self.live
    }
}

impl Contestant for Ours {
    fn name(&self) -> &str {
        self.name
    }

    fn load(&mut self, stream: &Stream) -> Result<()> {
        self.batches.clear();
        for rows in stream.batches() {
            let mut batch = Batch::new(&self.config, JOINTS);
            for row in rows {
                batch.push(row, &Default::default());
            }
            self.batches.push(batch);
        }
        Ok(())
    }

    fn run(&mut self, steps: usize) -> Result<Duration> {
        self.arm.clone_from(&self.start);
        let mut live = 0.0;
        let start = Instant::now();
        for batch in &self.batches[..steps] {
            for joint in 0..JOINTS {
                live += self.arm.step(joint, batch).live_units;
            }
        }
        let elapsed = start.elapsed();
        self.live = live / (steps * JOINTS) as f64;
        Ok(elapsed)
    }

    fn state(&mut self) -> Result<State> {
        parse(&bytes(&self.arm, &self.config)?)
    }
}
