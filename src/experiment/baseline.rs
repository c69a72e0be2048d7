//! The trivial and the strong peers beside which every learner is shown.
//!
//! Contract: the same samples and batches as the product's learner; each predicts, then learns. Before its first batch
//! a baseline that holds a value predicts 0 Nm, or the rigid body's torque. What was learnt is kept between recordings; a
//! batch that is not full is dropped.

use super::Learner;
use crate::config::Config;
use crate::dynamics::{Arm, FourierRls, TemperedRls};
use crate::sample::{MAX_JOINTS, Observation, PerJoint, Sample};

/// The baselines' names, in the order in which they are shown.
pub const NAMES: &[&str] =
    &["persistence", "persistence-1", "rigid-body", "rigid-body+i", "rls", "rls+i", "rff"];

/// Whether the baseline of this name cannot do without a rigid body.
pub fn needs_rigid_body(name: &str) -> bool {
    matches!(name, "rigid-body" | "rigid-body+i" | "rls" | "rls+i")
}

/// The baseline called `name`, fresh; `None` if there is none of that name, or if it lacks its rigid body.
///
/// - `persistence`: the mean torque of the previous batch; `persistence-1`: the previous sample's torque.
/// - `rigid-body`: the URDF's inverse dynamics; `rigid-body+i`: plus the mean residual of the previous batch (a = 1).
/// - `rls`: tempered recursive least squares on the rigid body's regressor and friction; `rls+i`: plus the mean of what it
///   leaves of the previous batch, having learnt from it; `rff`: on random Fourier features of the state.
pub fn new(name: &str, config: &Config, arm: Option<&Arm>, joints: usize) -> Option<Box<dyn Learner>> {
    let batch = config.batch;
    Some(match (name, arm) {
        ("persistence", _) => Box::new(Persistence { mean: BatchMean::new(batch), held: [0.0; MAX_JOINTS] }),
        ("persistence-1", _) => Box::new(Persistence { mean: BatchMean::new(1), held: [0.0; MAX_JOINTS] }),
        ("rigid-body", Some(arm)) => Box::new(RigidBody(arm.clone())),
        ("rigid-body+i", Some(arm)) => Box::new(RigidBodyIntegrated {
            arm: arm.clone(),
            mean: BatchMean::new(batch),
            held: [0.0; MAX_JOINTS],
        }),
        ("rls", Some(arm)) => {
            Box::new(Rls { rls: TemperedRls::new(arm.clone()), batch: Counter::new(batch) })
        }
        ("rls+i", Some(arm)) => Box::new(RlsIntegrated {
            rls: TemperedRls::new(arm.clone()),
            batch: Vec::with_capacity(batch),
            size: batch,
            held: [0.0; MAX_JOINTS],
        }),
        ("rff", arm) => Box::new(Fourier {
            rls: FourierRls::new(config, arm.cloned(), joints),
            batch: Counter::new(batch),
        }),
        _ => return None,
    })
}

/// Running mean over a batch, per joint.
struct BatchMean {
    batch: Counter,
    sum: PerJoint,
}

impl BatchMean {
    fn new(size: usize) -> BatchMean {
        BatchMean { batch: Counter::new(size), sum: [0.0; MAX_JOINTS] }
    }

    /// Drops what was gathered of a batch.
    fn clear(&mut self) {
        self.batch.count = 0;
        self.sum = [0.0; MAX_JOINTS];
    }

    /// Takes one value per joint; the batch's mean when it is full.
    fn push(&mut self, values: &PerJoint) -> Option<PerJoint> {
        for (sum, value) in self.sum.iter_mut().zip(values) {
            *sum += value;
        }
        if !self.batch.fills() {
            return None;
        }
        let mean = self.sum.map(|sum| sum / self.batch.size as f64);
        self.clear();
        Some(mean)
    }
}

/// Counts to a batch's size, again and again.
struct Counter {
    size: usize,
    count: usize,
}

impl Counter {
    fn new(size: usize) -> Counter {
        Counter { size: size.max(1), count: 0 }
    }

    /// Counts one more; whether that fills the batch.
    fn fills(&mut self) -> bool {
        self.count = (self.count + 1) % self.size;
        self.count == 0
    }
}

/// Predicts the mean torque of the previous batch.
struct Persistence {
    mean: BatchMean,
    held: PerJoint,
}

impl Learner for Persistence {
    fn predict(&mut self, _: &Sample) -> PerJoint {
        self.held
    }

    fn learn(&mut self, sample: &Sample) {
        if let Some(mean) = self.mean.push(&sample.effort) {
            self.held = mean;
        }
    }

    fn new_task(&mut self) {
        self.mean.clear();
    }
}

/// Predicts the rigid body's torque and learns nothing.
struct RigidBody(Arm);

impl Learner for RigidBody {
    fn predict(&mut self, sample: &Sample) -> PerJoint {
        self.0.inverse_dynamics(sample.query())
    }

    fn learn(&mut self, _: &Sample) {}
}

/// Predicts the rigid body's torque plus what it lacked, on average, over the previous batch.
struct RigidBodyIntegrated {
    arm: Arm,
    mean: BatchMean,
    held: PerJoint,
}

impl Learner for RigidBodyIntegrated {
    fn predict(&mut self, sample: &Sample) -> PerJoint {
        sum(&self.arm.inverse_dynamics(sample.query()), &self.held)
    }

    fn learn(&mut self, sample: &Sample) {
        let Some(observation) = &sample.observation else { return };
        let rigid_body = self.arm.inverse_dynamics(&observation.motion);
        if let Some(mean) = self.mean.push(&difference(&observation.effort, &rigid_body)) {
            self.held = mean;
        }
    }

    fn new_task(&mut self) {
        self.mean.clear();
    }
}

/// Tempered recursive least squares on the rigid body's regressor and friction.
struct Rls {
    rls: TemperedRls,
    batch: Counter,
}

impl Learner for Rls {
    fn predict(&mut self, sample: &Sample) -> PerJoint {
        self.rls.predict(sample.query())
    }

    fn learn(&mut self, sample: &Sample) {
        let Some(observation) = &sample.observation else { return };
        self.rls.observe(&observation.motion, &observation.effort);
        if self.batch.fills() {
            self.rls.update();
        }
    }

    fn new_task(&mut self) {
        self.batch.count = 0;
        self.rls.clear();
    }
}

/// [`Rls`], plus what it lacks, on average over the previous batch, having learnt from that.
struct RlsIntegrated {
    rls: TemperedRls,
    batch: Vec<Observation>,
    size: usize,
    held: PerJoint,
}

impl Learner for RlsIntegrated {
    fn predict(&mut self, sample: &Sample) -> PerJoint {
        sum(&self.rls.predict(sample.query()), &self.held)
    }

    fn learn(&mut self, sample: &Sample) {
        let Some(observation) = &sample.observation else { return };
        self.rls.observe(&observation.motion, &observation.effort);
        self.batch.push(*observation);
        if self.batch.len() < self.size {
            return;
        }
        self.rls.update();
        let mut left = BatchMean::new(self.size);
        for observation in self.batch.drain(..) {
            let known = self.rls.predict(&observation.motion);
            self.held = left.push(&difference(&observation.effort, &known)).unwrap_or(self.held);
        }
    }

    fn new_task(&mut self) {
        self.batch.clear();
        self.rls.clear();
    }
}

/// Recursive least squares on random Fourier features of the motion.
struct Fourier {
    rls: FourierRls,
    batch: Counter,
}

impl Learner for Fourier {
    fn predict(&mut self, sample: &Sample) -> PerJoint {
        self.rls.predict(sample.query())
    }

    fn learn(&mut self, sample: &Sample) {
        let Some(observation) = &sample.observation else { return };
        self.rls.observe(&observation.motion, &observation.effort);
        if self.batch.fills() {
            self.rls.update();
        }
    }

    fn new_task(&mut self) {
        self.batch.count = 0;
        self.rls.clear();
    }
}

fn sum(a: &PerJoint, b: &PerJoint) -> PerJoint {
    std::array::from_fn(|joint| a[joint] + b[joint])
}

fn difference(a: &PerJoint, b: &PerJoint) -> PerJoint {
    std::array::from_fn(|joint| a[joint] - b[joint])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Motion;

    /// A pendulum of 1 kg at 0.5 m that falls about y.
    const PENDULUM: &str = r#"<robot name="pendulum">
        <link name="base"/>
        <link name="arm"><inertial><origin xyz="0.5 0 0"/><mass value="1"/>
            <inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link>
        <joint name="hinge" type="continuous"><parent link="base"/><child link="arm"/><axis xyz="0 1 0"/></joint>
    </robot>"#;

    fn arm() -> Arm {
        Arm::from_urdf_str(PENDULUM, &[], [0.0, 0.0, -9.81]).unwrap()
    }

    /// A sample whose torque is the pendulum's plus `residual`.
    fn sample(seq: u64, residual: f64) -> Sample {
        let mut motion = Motion::default();
        motion.q[0] = 0.01 * seq as f64;
        let mut effort = arm().inverse_dynamics(&motion);
        effort[0] += residual;
        let stamp_ns = seq as i64 * 1_000_000;
        let observation = Some(Observation { stamp_ns, motion, effort });
        Sample { seq, stamp_ns, motion, effort, observation, ..Sample::default() }
    }

    /// The errors of a baseline over samples with these residuals, Nm, each predicted and then learnt.
    fn errors(name: &str, residuals: &[f64]) -> Vec<f64> {
        let mut learner = new(name, &Config::default(), Some(&arm()), 1).unwrap();
        let samples = residuals.iter().enumerate().map(|(seq, residual)| sample(seq as u64, *residual));
        samples
            .map(|sample| {
                let error = sample.effort[0] - learner.predict(&sample)[0];
                learner.learn(&sample);
                error
            })
            .collect()
    }

    #[test]
    fn the_rigid_body_leaves_the_residual_and_its_integrator_takes_it_after_a_batch() {
        let residuals: Vec<f64> = (0..30).map(|n| if n < 20 { 2.0 } else { 3.0 }).collect();
        for (error, residual) in errors("rigid-body", &residuals).iter().zip(&residuals) {
            assert!((error - residual).abs() < 1e-12);
        }
        let errors = errors("rigid-body+i", &residuals);
        for (n, error) in errors.iter().enumerate() {
            let expected = [2.0, 0.0, 1.0][n / 10];
            assert!((error - expected).abs() < 1e-12, "{n}: {error}");
        }
    }

    #[test]
    fn recursive_least_squares_learns_a_constant_residual() {
        for name in ["rls", "rls+i", "rff"] {
            let errors = errors(name, &[1.0; 3000]);
            let late = errors[2900..].iter().map(|error| error.abs()).fold(0.0, f64::max);
            assert!((errors[0] - 1.0).abs() < 1e-9 && late < 0.3, "{name}: {} {late}", errors[0]);
        }
    }

    #[test]
    fn every_name_has_a_baseline_and_no_other() {
        for name in NAMES {
            assert!(new(name, &Config::default(), Some(&arm()), 1).is_some(), "{name}");
            let without = new(name, &Config::default(), None, 1).is_none();
            assert_eq!(without, needs_rigid_body(name), "{name}");
        }
        assert!(new("metagd", &Config::default(), Some(&arm()), 1).is_none());
    }

    #[test]
    fn a_new_task_drops_the_half_batch_and_keeps_what_was_learnt() {
        let mut learner = new("persistence", &Config::default(), None, 1).unwrap();
        for seq in 0..15 {
            let torque = if seq < 10 { 1.0 } else { 100.0 };
            learner.learn(&Sample { effort: [torque; MAX_JOINTS], ..Sample::default() });
        }
        learner.new_task();
        for _ in 0..9 {
            learner.learn(&Sample { effort: [2.0; MAX_JOINTS], ..Sample::default() });
        }
        assert_eq!(learner.predict(&Sample::default())[0], 1.0);
        learner.learn(&Sample { effort: [2.0; MAX_JOINTS], ..Sample::default() });
        assert_eq!(learner.predict(&Sample::default())[0], 2.0);
    }
}
