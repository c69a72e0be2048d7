//! The learner of one joint: scaling, network, MetaGD, integrator.
//!
//! Contract: built at start-up; predictions and steps run in the pinned thread and do not allocate. The prediction is
//!
//! ```text
//! torque = [rigid body, if `learner.residual`] + network(q/a, qd/b, qdd/c of all joints) · scale + integrator
//! ```
//!
//! and the network learns `(measured - rigid body) / scale`, without regard to the integrator, which takes up what the
//! network leaves over: once per batch, `y += gain · (mean(measured - rigid body - network) - y)`, by default with the
//! network as it is after its update.

use super::arm::{Torques, Which};
use super::kernel::{InstructionSet, LANES};
use super::network::Gradient;
use super::{Batch, LearnError, Memory, MetaGd, Network, Reload, Workspace};
use crate::config::Config;
use crate::sample::Motion;

/// The most parameters that one joint's network may have: rows filled up to whole blocks: 64 MB of weights, far beyond any deadline.
const MAX_PARAMETERS: usize = 1 << 24;

/// What one step of one joint did, judged by the batch before learning from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepReport {
    /// Mean squared error of the whole prediction, integrator included, Nm².
    pub loss_before: f64,
    /// Mean squared error of the rigid body alone, Nm².
    pub rigid_body_mse: f64,
    /// Mean learning rate over the parameters that moved, 0 if none did.
    pub mean_rate: f64,
    /// Share of the network's hidden units that were on for at least one sample.
    pub live_units: f64,
    /// False if the batch, the loss or the gradient was not finite, or larger than
    /// [`Real::HUGE`](super::Real::HUGE): the step was refused and nothing has changed.
    pub finite: bool,
}

/// What may change about a learner while it learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// `learner.rate`: the constant rate. Memories, where there are any, start at it and go on from what they learnt.
    pub base: f64,
    /// `memory.rate`: the memories' own.
    pub memory: f64,
    /// `integrator.gain`, per 10 ms.
    pub integrator: f64,
}

impl Rates {
    /// Those that `config` names.
    pub fn from_config(config: &Config) -> Self {
        Rates { base: config.rate, memory: config.memory_rate, integrator: config.integrator_gain }
    }
}

/// Units of the network's inputs and output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scaling {
    pub(super) position: f64,
    pub(super) velocity: f64,
    pub(super) acceleration: f64,
    pub(super) torque: f64,
}

impl Scaling {
    pub(super) fn from_config(config: &Config) -> Self {
        Scaling {
            position: config.scale_position,
            velocity: config.scale_velocity,
            acceleration: config.scale_acceleration,
            torque: config.scale_torque,
        }
    }

    /// Position, velocity, acceleration, torque.
    pub(super) fn to_array(self) -> [f64; 4] {
        [self.position, self.velocity, self.acceleration, self.torque]
    }

    /// The network's input for one motion: positions, velocities, accelerations of all joints, a third of `input` each.
    pub(super) fn input(&self, motion: &Motion, input: &mut [f32]) {
        let parts =
            [(&motion.q, self.position), (&motion.qd, self.velocity), (&motion.qdd, self.acceleration)];
        let joints = (input.len() / 3).max(1);
        for (input, (values, scale)) in input.chunks_exact_mut(joints).zip(parts) {
            let per_scale = 1.0 / scale;
            for (input, value) in input.iter_mut().zip(values) {
                *input = (value * per_scale) as f32;
            }
        }
    }
}

/// A network and the integrator beside it, as they were when they were good.
#[derive(Clone, Debug)]
struct Saved {
    network: Network<f32>,
    integrator: f64,
}

/// The learner of one joint. See the module's documentation for what it predicts.
#[derive(Clone, Debug)]
pub struct JointLearner {
    joint: usize,
    pub(super) network: Network<f32>,
    pub(super) optimiser: MetaGd<f32>,
    pub(super) integrator: f64,
    saved: Saved,
    targets: Vec<f32>,
    scaling: Scaling,
    residual: bool,
    gain: f64,
    after_update: bool,
}

impl JointLearner {
    /// The learner of joint number `joint` of `joints`.
    ///
    /// # Errors
    /// [`LearnError::TooLarge`] if the hidden layers make too large a network.
    pub fn new(config: &Config, joint: usize, joints: usize) -> Result<Self, LearnError> {
        JointLearner::sharing(config, joint, joints, &mut None)
    }

    /// [`JointLearner::new`], of whose memories the first one made is left in `fresh`, for the next joint's to share its
    /// centres.
    pub(super) fn sharing(
        config: &Config,
        joint: usize,
        joints: usize,
        fresh: &mut Option<Memory<f32>>,
    ) -> Result<Self, LearnError> {
        let width = 3 * joints;
        check_size(width, &config.hidden)?;
        let mut network = Network::new(width, &config.hidden, config.seed as u64, joint as u64);
        if config.zero_output {
            network.silence_output();
        }
        let rows = config.batch.max(1) * if config.replay { 2 } else { 1 };
        let optimiser = MetaGd::for_network(config, &network, fresh);
        Ok(JointLearner {
            joint,
            integrator: 0.0,
            saved: Saved { network: network.clone(), integrator: 0.0 },
            targets: vec![0.0; rows],
            scaling: Scaling::from_config(config),
            residual: config.residual,
            gain: config.integrator_gain,
            after_update: config.integrator_after_update,
            optimiser,
            network,
        })
    }

    /// Computes with this instruction set instead of the best.
    pub(super) fn set_instructions(&mut self, set: InstructionSet) {
        self.network.set_instructions(set);
        self.optimiser.set_instructions(set);
    }

    /// The network.
    pub fn network(&self) -> &Network<f32> {
        &self.network
    }

    /// The optimiser with its memories.
    pub fn optimiser(&self) -> &MetaGd<f32> {
        &self.optimiser
    }

    /// What the integrator adds at present, Nm.
    pub fn integrator(&self) -> f64 {
        self.integrator
    }

    /// How many samples one step learns from at most, replayed ones included.
    pub(super) fn rows(&self) -> usize {
        self.targets.len()
    }

    /// The torque for the scaled and finite input that is in `workspace`, Nm.
    pub(super) fn predict(&self, workspace: &mut Workspace<f32>, rigid_body: f64) -> f64 {
        self.base(rigid_body) + self.correction(workspace) + self.integrator
    }

    /// The network's part of it.
    pub(super) fn correction(&self, workspace: &mut Workspace<f32>) -> f64 {
        let output = self.network.forward_again(1, workspace).first().copied().unwrap_or(f32::NAN);
        f64::from(output) * self.scaling.torque
    }

    /// The part of `which` network for each of the batch's new samples, into `out`.
    pub(super) fn corrections_on(
        &self,
        which: Which,
        batch: &Batch,
        workspace: &mut Workspace<f32>,
        out: &mut [f64],
    ) {
        let network = match which {
            Which::Present => &self.network,
            Which::Saved => &self.saved.network,
        };
        let part = batch.first(self.joint, self.rows().min(out.len()));
        if part.enter(network.sizes()[0], workspace) {
            self.hand_out(network.forward_again(part.fresh, workspace), out);
        } else {
            out.fill(f64::NAN);
        }
    }

    /// What a network's outputs say, Nm; not numbers where there are none.
    fn hand_out(&self, outputs: &[f32], out: &mut [f64]) {
        out.fill(f64::NAN);
        for (out, &output) in out.iter_mut().zip(outputs) {
            *out = f64::from(output) * self.scaling.torque;
        }
    }

    /// What the network adds to.
    fn base(&self, rigid_body: f64) -> f64 {
        if self.residual { rigid_body } else { 0.0 }
    }

    /// One step of MetaGD and of the integrator on `batch`; of a batch longer than [`JointLearner::rows`], on its last rows.
    /// An empty batch changes nothing. What `workspace`, which has room for that many rows, and `gradient` held before does not
    /// matter. What the network says of the new samples goes into `said`, before the step and after it.
    pub(super) fn step(
        &mut self,
        batch: &Batch,
        workspace: &mut Workspace<f32>,
        gradient: &mut Gradient<f32>,
        mut said: Option<[&mut [f64]; 2]>,
    ) -> StepReport {
        for out in said.iter_mut().flatten() {
            out.fill(f64::NAN);
        }
        let part = batch.newest(self.joint, self.targets.len());
        let (torques, fresh, count) = (part.torques, part.fresh, part.torques.len());
        if fresh == 0 {
            return StepReport { finite: true, ..StepReport::default() };
        }
        let per_row = 1.0 / fresh as f64;
        let body_error = |of: &Torques| (of.effort - of.rigid_body).powi(2);
        let rigid_body_mse = torques.iter().take(fresh).map(body_error).sum::<f64>() * per_row;
        if !part.enter(self.network.sizes()[0], workspace) {
            return StepReport { loss_before: f64::NAN, rigid_body_mse, ..StepReport::default() };
        }
        let (scale, per_scale) = (self.scaling.torque, 1.0 / self.scaling.torque);
        let residual = self.residual;
        let left = |of: &Torques| of.effort - if residual { of.base } else { 0.0 };
        for (of, target) in torques.iter().zip(&mut self.targets) {
            *target = (left(of) * per_scale) as f32;
        }
        let targets = &self.targets[..count];

        let outputs = self.network.forward_again(count, workspace);
        for out in said.iter_mut().flatten() {
            // If the step is refused, nothing will have changed.
            self.hand_out(&outputs[..fresh], out);
        }
        let mut loss = 0.0;
        for (of, &output) in torques.iter().zip(outputs).take(fresh) {
            let error = left(of) - f64::from(output) * scale - self.integrator;
            loss += error * error;
        }
        loss *= per_row;
        let mean_left = |outputs: &[f32]| {
            let left = targets[..fresh].iter().zip(outputs).map(|(t, o)| f64::from(*t) - f64::from(*o));
            left.sum::<f64>() * scale * per_row
        };
        let left_before = mean_left(outputs);
        let refused = StepReport { loss_before: loss, rigid_body_mse, ..StepReport::default() };
        if ![loss, rigid_body_mse, left_before].iter().all(|value| value.is_finite()) {
            return refused;
        }

        let live_units = workspace.live_units(&self.network);
        if !self.optimiser.is_dense() {
            self.network.gather_live(workspace, self.optimiser.previous_mut());
        }
        self.network.backward(targets, workspace, gradient);
        let update = self.optimiser.step_blocks(self.network.blocks_mut(), gradient);
        if !update.finite {
            return refused;
        }

        let mut mean = left_before;
        if said.is_some() || (self.gain > 0.0 && self.after_update) {
            let outputs = self.network.forward_again(fresh, workspace);
            if let Some([_, after]) = said {
                self.hand_out(outputs, after);
            }
            if self.after_update {
                mean = mean_left(outputs);
            }
        }
        if self.gain > 0.0 && mean.is_finite() {
            self.integrator += self.share(batch.seconds()) * (mean - self.integrator);
        }
        StepReport {
            loss_before: loss,
            rigid_body_mse,
            mean_rate: update.mean_rate(),
            live_units,
            finite: true,
        }
    }

    /// What the integrator takes up of the mean error that remains of a batch that stands for so many seconds: `gain` per
    /// 10 ms (the paper's batch of ten at 1 kHz), so that it forgets as fast at any rate. Unknown time counts as 10 ms.
    fn share(&self, seconds: Option<f64>) -> f64 {
        match seconds {
            Some(seconds) => 1.0 - (1.0 - self.gain).powf(seconds / 10e-3),
            None => self.gain,
        }
    }

    /// Other rates from the next step on.
    pub fn set_rates(&mut self, rates: &Rates) {
        self.optimiser.set_rates(rates.base, rates.memory);
        self.gain = rates.integrator;
    }

    /// Between tasks: keeps network, integrator and what the memories learnt; forgets the last gradient and all moments.
    ///
    /// Units go back into their places, so that a task which goes on from here and one that begins with a file of the same
    /// learner sum in the same order, and agree to the last bit.
    pub fn new_task(&mut self) {
        self.optimiser.new_task();
        self.network.sort_units();
    }

    /// Remembers network and integrator as good.
    pub fn snapshot(&mut self) {
        self.saved.network.copy_from(&self.network);
        self.saved.integrator = self.integrator;
    }

    /// Goes back to the network and integrator remembered last (at first: those at the start). The memories keep what
    /// they learnt; the last gradient and all moments belong to the abandoned weights and are forgotten.
    pub fn restore(&mut self) {
        self.network.copy_from(&self.saved.network);
        self.integrator = self.saved.integrator;
        self.new_task();
    }

    /// Takes over the part of `other` that `what` names, as a new task begins with it; both must be of the same shape. The
    /// network taken over is also the one that [`restore`](JointLearner::restore) goes back to. Does not allocate.
    pub fn take(&mut self, other: &JointLearner, what: Reload) {
        if what.networks() {
            self.network.copy_from(&other.network);
            self.integrator = other.integrator;
            self.snapshot();
        }
        if what.memories() {
            self.optimiser.copy_memories_from(&other.optimiser);
        }
        if what != Reload::None {
            self.new_task();
        }
    }

    /// Takes over `other`'s state; both must be of the same shape. Does not allocate.
    pub fn copy_from(&mut self, other: &JointLearner) {
        self.network.copy_from(&other.network);
        self.optimiser.copy_from(&other.optimiser);
        self.integrator = other.integrator;
        self.saved.network.copy_from(&other.saved.network);
        self.saved.integrator = other.saved.integrator;
    }
}

fn check_size(inputs: usize, hidden: &[usize]) -> Result<(), LearnError> {
    let too_large = || LearnError::TooLarge { hidden: hidden.to_vec(), most: MAX_PARAMETERS };
    let mut total = 0usize;
    let mut below = inputs;
    for &units in hidden.iter().chain(&[1]) {
        if units == 0 {
            return Err(LearnError::EmptyLayer { hidden: hidden.to_vec() });
        }
        // As they lie in memory, rows filled up to whole blocks.
        let padded = units.checked_next_multiple_of(LANES).ok_or_else(too_large)?;
        let layer = (below + 1).checked_mul(padded).ok_or_else(too_large)?;
        total = total.checked_add(layer).filter(|&total| total <= MAX_PARAMETERS).ok_or_else(too_large)?;
        below = units;
    }
    Ok(())
}
