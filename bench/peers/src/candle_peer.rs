//! The step in candle: all seven joints in one stack of tensors, the gradient written out (no tape), dense memories whose
//! activations are kept for the next step instead of being computed again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use metagd::config::Config;
use metagd::learn::{MAX_RATE, MIN_RATE};

use crate::contestant::Contestant;
use crate::state::{State, parse};
use crate::stream::{INPUTS, Stream};
use crate::{BATCH, HIDDEN, JOINTS};

const LAYERS: usize = HIDDEN.len() + 1;

/// One tensor of all joints, with its memories.
#[derive(Clone)]
struct Group {
    /// `[joints][inputs or 1][outputs]`
    param: Tensor,
    /// Local rates, `[joints][1][K]`.
    rates: Tensor,
    /// The last gradient, `[joints][1][coordinates]`, and what the local models answered to it,
    /// `[joints][K][coordinates]`. None before the first step, which teaches the memories nothing.
    previous: Option<(Tensor, Tensor)>,
}

/// What is the same in all memories.
struct Memory {
    clip: f64,
    rate: f64,
    /// `1 / sqrt(2 sigma²)`, and the centres times that, `[K][1]`.
    scale: f64,
    centres: Tensor,
    /// `[joints][1][K]`
    ones: Tensor,
}

pub struct Candle {
    start: Vec<Group>,
    /// Weights and biases, from the input on.
    groups: Vec<Group>,
    memory: Memory,
    /// `[joints][batch][inputs]` and `[joints][batch][1]`.
    batches: Vec<(Tensor, Tensor)>,
}

impl Candle {
    pub fn new(start: &[u8], config: &Config) -> Result<Self> {
        let state = parse(start)?;
        let stacked = |part: &str, shape: (usize, usize, usize)| -> Result<Tensor> {
            let mut values = Vec::<f32>::new();
            for joint in 0..JOINTS {
                let name = format!("joint.{joint}.{part}");
                values.extend(state.get(&name).with_context(|| format!("there is no tensor `{name}`"))?);
            }
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
        };
        let sizes = [[INPUTS].as_slice(), &HIDDEN, &[1]].concat();
        let models = config.memory_models;
        let mut groups = Vec::new();
        for (layer, pair) in sizes.windows(2).enumerate() {
            for (part, rows) in [("weight", pair[0]), ("bias", 1)] {
                groups.push(Group {
                    param: stacked(&format!("layer.{layer}.{part}"), (JOINTS, rows, pair[1]))?,
                    rates: stacked(&format!("memory.{}", groups.len()), (JOINTS, 1, models))?,
                    previous: None,
                });
            }
        }
        let spacing = 2.0 * config.memory_clip / (models - 1) as f64;
        let scale = 1.0 / (2f64.sqrt() * config.memory_width * spacing);
        let centres = (0..models).map(|k| ((k as f64 * spacing - config.memory_clip) * scale) as f32);
        let memory = Memory {
            clip: config.memory_clip,
            rate: config.memory_rate,
            scale,
            centres: Tensor::from_iter(centres, &Device::Cpu)?.unsqueeze(1)?,
            ones: Tensor::ones((JOINTS, 1, models), candle_core::DType::F32, &Device::Cpu)?,
        };
        Ok(Candle { start: groups.clone(), groups, memory, batches: vec![] })
    }

    fn step(&mut self, batch: usize) -> candle_core::Result<()> {
        let (inputs, targets) = &self.batches[batch];
        let mut activations = vec![inputs.clone()];
        for (layer, group) in self.groups.chunks_exact(2).enumerate() {
            let sums = activations[layer].matmul(&group[0].param)?.broadcast_add(&group[1].param)?;
            activations.push(if layer + 1 < LAYERS { sums.relu()? } else { sums });
        }
        let mut delta = ((&activations[LAYERS] - targets)? * (2.0 / BATCH as f64))?;
        for layer in (0..LAYERS).rev() {
            let weights = activations[layer].t()?.matmul(&delta)?;
            let bias = delta.sum_keepdim(1)?;
            if layer > 0 {
                let below = delta.matmul(&self.groups[2 * layer].param.t()?)?;
                delta = (below * activations[layer].gt(0f32)?.to_dtype(candle_core::DType::F32)?)?;
            }
            self.groups[2 * layer].learn(&weights, &self.memory)?;
            self.groups[2 * layer + 1].learn(&bias, &self.memory)?;
        }
        Ok(())
    }
}

impl Group {
    fn learn(&mut self, gradient: &Tensor, memory: &Memory) -> candle_core::Result<()> {
        let gradient = gradient.clamp(-memory.clip, memory.clip)?;
        let flat = gradient.flatten_from(1)?.unsqueeze(1)?;
        if let Some((previous, activations)) = &self.previous {
            let agreement = (&flat * previous)?.clamp(-1.0, 1.0)?;
            let change = agreement.matmul(&activations.t()?)?;
            let by = memory.rate / flat.dim(2)? as f64;
            self.rates = (&self.rates + (change * by)?)?.clamp(MIN_RATE, MAX_RATE)?;
        }
        let distances = (&flat * memory.scale)?.broadcast_sub(&memory.centres)?;
        let activations = distances.sqr()?.neg()?.exp()?;
        let rates = (self.rates.matmul(&activations)? / memory.ones.matmul(&activations)?)?;
        let change = (rates * &flat)?.reshape(self.param.shape())?;
        self.param = (&self.param - change)?;
        self.previous = Some((flat, activations));
        Ok(())
    }
}

impl Contestant for Candle {
    fn name(&self) -> &str {
        "candle 0.11.1"
    }

    fn load(&mut self, stream: &Stream) -> Result<()> {
        let steps = stream.batches().len();
        let inputs = Tensor::from_vec(stream.inputs(), (steps, 1, BATCH, INPUTS), &Device::Cpu)?;
        let targets = Tensor::from_vec(stream.targets(), (steps, JOINTS, BATCH, 1), &Device::Cpu)?;
        let one = |step| -> candle_core::Result<_> {
            let inputs = inputs.get(step)?.broadcast_as((JOINTS, BATCH, INPUTS))?;
            Ok((inputs.contiguous()?, targets.get(step)?.copy()?))
        };
        self.batches = (0..steps).map(one).collect::<candle_core::Result<_>>()?;
        Ok(())
    }

    fn run(&mut self, steps: usize) -> Result<Duration> {
        self.groups.clone_from(&self.start);
        let start = Instant::now();
        for batch in 0..steps {
            self.step(batch)?;
        }
        Ok(start.elapsed())
    }

    fn state(&mut self) -> Result<State> {
        let mut state = State::new();
        for (index, group) in self.groups.iter().enumerate() {
            let (layer, part) = (index / 2, ["weight", "bias"][index % 2]);
            for joint in 0..JOINTS {
                let values = |tensor: &Tensor| tensor.get(joint)?.flatten_all()?.to_vec1();
                state.insert(format!("joint.{joint}.layer.{layer}.{part}"), values(&group.param)?);
                state.insert(format!("joint.{joint}.memory.{index}"), values(&group.rates)?);
            }
        }
        Ok(state)
    }
}
