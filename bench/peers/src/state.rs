//! What a contestant has learnt, by the names that metagd's checkpoints give the tensors, and how far two of them are
//! apart.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use candle_core::safetensors::load_buffer;
use candle_core::{DType, Device};

use crate::JOINTS;

/// How far a peer may be from ours, as a share of how far ours has moved. One step in float32 (6e-8) is good to 1e-6: its
/// sums run over up to 2,500 terms, and a Gaussian multiplies its exponent's rounding by up to 16. Each step takes up the
/// differences of those before, so that after twenty 1e-5 is measured; ten times that is allowed.
pub const TOLERANCE: f64 = 1e-4;

/// Weights, biases and memories of all joints: `joint.J.layer.L.weight`, `joint.J.layer.L.bias`, `joint.J.memory.G`.
pub type State = BTreeMap<String, Vec<f32>>;

/// The tensors of a safetensors file, those that belong to a joint.
pub fn parse(bytes: &[u8]) -> Result<State> {
    let mut state = State::new();
    for (name, tensor) in load_buffer(bytes, &Device::Cpu)? {
        if name.starts_with("joint.") {
            let tensor = tensor.to_dtype(DType::F32)?.flatten_all()?;
            state.insert(name, tensor.to_vec1()?);
        }
    }
    Ok(state)
}

/// How far two states are apart, the worst joint each, as a share of how far ours has moved from the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Apart {
    /// Weights and biases.
    pub weights: f64,
    /// The memories' local rates.
    pub memories: f64,
}

impl Apart {
    /// Of `theirs` from `ours`, both after the same steps from `start`.
    pub fn of(theirs: &State, ours: &State, start: &State) -> Result<Apart> {
        let worst = |part: &str| {
            (0..JOINTS).try_fold(0.0, |worst: f64, joint| -> Result<f64> {
                let prefix = format!("joint.{joint}.{part}.");
                let off = distance(theirs, ours, &prefix)? / distance(ours, start, &prefix)?;
                ensure!(off.is_finite(), "`{prefix}*` has not moved, or is not finite");
                Ok(worst.max(off))
            })
        };
        Ok(Apart { weights: worst("layer")?, memories: worst("memory")? })
    }

    /// An error, if either is beyond [`TOLERANCE`].
    pub fn check(self) -> Result<Apart> {
        if self.weights.max(self.memories) > TOLERANCE {
            bail!(
                "it is not the same step: its weights are {:.1e} and its memories {:.1e} of the way apart from ours, \
                 {TOLERANCE:.0e} is allowed",
                self.weights,
                self.memories
            );
        }
        Ok(self)
    }
}

/// The Euclidean distance over all tensors whose names begin with `prefix`.
fn distance(a: &State, b: &State, prefix: &str) -> Result<f64> {
    let mut sum = 0.0;
    for (name, b) in b.range(prefix.to_string()..).take_while(|(name, _)| name.starts_with(prefix)) {
        let a = a.get(name).with_context(|| format!("there is no tensor `{name}`"))?;
        ensure!(a.len() == b.len(), "`{name}` has {} numbers, not {}", a.len(), b.len());
        sum += a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    }
    Ok(sum.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestant::Contestant;
    use crate::ours::{Ours, paper};
    use crate::stream::{Stream, dense, smooth};
    use metagd::config::Config;

    fn after(config: &Config, stream: &Stream, steps: usize) -> State {
        let mut ours = Ours::new("ours", config).unwrap();
        ours.load(stream).unwrap();
        ours.run(steps).unwrap();
        ours.state().unwrap()
    }

    #[test]
    fn another_step_is_told_from_the_same_one() {
        for stream in [smooth(20), dense(20)] {
            let (start, ours) = (after(&paper(), &stream, 0), after(&paper(), &stream, 20));
            let apart = |config: Config| Apart::of(&after(&config, &stream, 20), &ours, &start).unwrap();
            assert!(apart(paper()).check().is_ok());
            let others = [
                Config { memory_signal: "sign".into(), ..paper() },
                Config { memory_width: 0.52, ..paper() },
                Config { memory_rate: 0.102, ..paper() },
                Config { memory_clip: 2.05, ..paper() },
                Config { rate: 0.0301, ..paper() },
            ];
            for other in others {
                let message = format!("{other:?}");
                assert!(apart(other).check().is_err(), "{message}");
            }
        }
    }

    #[test]
    fn what_is_missing_or_stands_still_is_no_agreement() {
        let stream = smooth(5);
        let (start, ours) = (after(&paper(), &stream, 0), after(&paper(), &stream, 5));
        let mut theirs = ours.clone();
        theirs.remove("joint.3.memory.1");
        let error = Apart::of(&theirs, &ours, &start).unwrap_err().to_string();
        assert!(error.contains("joint.3.memory.1"), "{error}");
        assert!(Apart::of(&ours, &ours, &ours).is_err());
    }
}
