//! A network trained on full batches with dropout, which the learner's own network has not: it is made for ten samples at a
//! time on a robot. Starts with the same weights as that one.
//!
//! Contract: the gradient of the mean squared error over all samples, in single precision; the same seed drops the same units.

use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::learn::{Layer, Network};

/// Rectified linear units and one linear output.
pub(super) struct BatchNetwork {
    layers: Vec<Layer>,
    /// Layer by layer weights `[inputs][outputs]` and biases.
    pub(super) params: Vec<f32>,
    pub(super) gradient: Vec<f32>,
    /// Every layer's output, a column for each sample, and the loss's gradient by what is in front of the nonlinearity.
    outputs: Vec<DMatrix<f32>>,
    deltas: Vec<DMatrix<f32>>,
    bytes: Vec<u8>,
}

/// Drops hidden units, each for each sample by itself.
pub(super) struct Dropout {
    /// Of 256.
    dropped: u8,
    random: ChaCha8Rng,
}

impl Dropout {
    /// Drops `share` of the units, to a 256th; what is kept is scaled so that sums stay on average what they are.
    pub(super) fn new(share: f64, random: ChaCha8Rng) -> Dropout {
        Dropout { dropped: (share * 256.0).round() as u8, random }
    }

    fn scale(&self) -> f32 {
        256.0 / (256.0 - f32::from(self.dropped))
    }
}

impl BatchNetwork {
    /// With the weights of `start`, for batches of so many samples.
    pub(super) fn new(start: &Network<f32>, samples: usize) -> BatchNetwork {
        let params = start.params();
        let matrices = || start.layers().iter().map(|layer| DMatrix::zeros(layer.outputs, samples)).collect();
        let widest = start.layers().iter().map(|layer| layer.outputs).max().unwrap_or(0);
        BatchNetwork {
            layers: start.layers().to_vec(),
            gradient: vec![0.0; params.len()],
            params,
            outputs: matrices(),
            deltas: matrices(),
            bytes: vec![0; widest * samples],
        }
    }

    fn forward(&mut self, inputs: &DMatrix<f32>, mut dropout: Option<&mut Dropout>) {
        let hidden = self.layers.len() - 1;
        for (l, layer) in self.layers.iter().enumerate() {
            let (below, rest) = self.outputs.split_at_mut(l);
            let (x, out) = (below.last().unwrap_or(inputs), &mut rest[0]);
            let weights =
                DMatrixView::from_slice(&self.params[layer.weights.clone()], layer.outputs, layer.inputs);
            let bias = &self.params[layer.bias.clone()];
            out.gemm(1.0, &weights, x, 0.0);
            for sample in out.as_mut_slice().chunks_exact_mut(layer.outputs) {
                sample.iter_mut().zip(bias).for_each(|(z, b)| *z += b);
            }
            if l == hidden {
                return;
            }
            out.apply(|z| *z = z.max(0.0));
            if let Some(dropout) = &mut dropout {
                let scale = dropout.scale();
                let bytes = &mut self.bytes[..out.len()];
                dropout.random.fill_bytes(bytes);
                for (z, byte) in out.as_mut_slice().iter_mut().zip(bytes) {
                    *z *= if *byte < dropout.dropped { 0.0 } else { scale };
                }
            }
        }
    }

    /// The mean squared error with all units.
    pub(super) fn loss(&mut self, inputs: &DMatrix<f32>, targets: &[f32]) -> f64 {
        self.forward(inputs, None);
        let outputs = self.outputs.last().map_or(&[][..], |last| last.as_slice());
        let squares = outputs.iter().zip(targets).map(|(y, target)| f64::from(y - target).powi(2));
        squares.sum::<f64>() / targets.len() as f64
    }

    /// Computes `gradient`, with units dropped.
    pub(super) fn learn_from(&mut self, inputs: &DMatrix<f32>, targets: &[f32], dropout: &mut Dropout) {
        let scale = dropout.scale();
        self.forward(inputs, Some(dropout));
        let hidden = self.layers.len() - 1;
        let outputs = self.outputs[hidden].as_slice().iter().zip(targets);
        let per_sample = 2.0 / targets.len() as f32;
        let last = self.deltas[hidden].as_mut_slice().iter_mut().zip(outputs);
        last.for_each(|(delta, (y, target))| *delta = per_sample * (y - target));
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let x = if l == 0 { inputs } else { &self.outputs[l - 1] };
            let (below, rest) = self.deltas.split_at_mut(l);
            let delta = &rest[0];
            let gradient = &mut self.gradient[layer.weights.clone()];
            DMatrixViewMut::from_slice(gradient, layer.outputs, layer.inputs).gemm(
                1.0,
                delta,
                &x.transpose(),
                0.0,
            );
            let bias = &mut self.gradient[layer.bias.clone()];
            bias.fill(0.0);
            for sample in delta.as_slice().chunks_exact(layer.outputs) {
                bias.iter_mut().zip(sample).for_each(|(sum, delta)| *sum += delta);
            }
            if let Some(below) = below.last_mut() {
                let weights = &self.params[layer.weights.clone()];
                let weights = DMatrixView::from_slice(weights, layer.outputs, layer.inputs);
                // A transposed view would spare the copy, but nalgebra 0.35's product of small matrices writes beyond
                // its result if a factor's rows are not next to each other.
                below.gemm(1.0, &weights.transpose(), delta, 0.0);
                // What was dropped is zero, as what the nonlinearity cut off.
                below.zip_apply(x, |delta, x| *delta *= if x > 0.0 { scale } else { 0.0 });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::learn::Workspace;

    const SAMPLES: usize = 40;

    fn problem() -> (Network<f32>, DMatrix<f32>, Vec<f32>) {
        let start = Network::new(3, &[7, 5], 4, 0);
        let inputs = DMatrix::from_fn(3, SAMPLES, |i, s| (0.7 * s as f32 + i as f32).sin());
        let targets = (0..SAMPLES).map(|s| (0.3 * s as f32).cos()).collect();
        (start, inputs, targets)
    }

    fn dropout(share: f64) -> Dropout {
        Dropout::new(share, ChaCha8Rng::seed_from_u64(3))
    }

    #[test]
    fn its_outputs_are_those_of_the_learners_network() {
        let (start, inputs, targets) = problem();
        let mut network = BatchNetwork::new(&start, SAMPLES);
        let loss = network.loss(&inputs, &targets);
        let mut workspace = Workspace::new(&start, SAMPLES);
        let outputs = start.forward(inputs.as_slice(), &mut workspace).to_vec();
        let mut expected = 0.0;
        for ((y, expected_y), target) in network.outputs[2].iter().zip(&outputs).zip(&targets) {
            assert!((y - expected_y).abs() < 1e-5, "{y} {expected_y}");
            expected += f64::from(expected_y - target).powi(2) / SAMPLES as f64;
        }
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
    }

    #[test]
    fn its_gradient_is_that_of_the_loss_under_the_same_dropout() {
        let (start, inputs, targets) = problem();
        let mut network = BatchNetwork::new(&start, SAMPLES);
        for share in [0.0, 0.3] {
            network.learn_from(&inputs, &targets, &mut dropout(share));
            let gradient = network.gradient.clone();
            let start = network.params.clone();
            for at in (0..start.len()).step_by(3) {
                let mut loss_at = |step: f32| {
                    network.params[at] = start[at] + step;
                    network.forward(&inputs, Some(&mut dropout(share)));
                    network.params[at] = start[at];
                    let outputs = network.outputs[2].iter().zip(&targets);
                    outputs.map(|(y, target)| f64::from(y - target).powi(2)).sum::<f64>() / SAMPLES as f64
                };
                // So small that no unit's sum passes zero on the way.
                let slope = (loss_at(1e-4) - loss_at(-1e-4)) / 2e-4;
                assert!(
                    (slope - f64::from(gradient[at])).abs() < 5e-3,
                    "{share}, {at}: {slope} {}",
                    gradient[at]
                );
            }
        }
    }

    #[test]
    fn units_are_dropped_in_their_share_and_the_rest_makes_up_for_it() {
        let (start, inputs, _) = problem();
        let mut network = BatchNetwork::new(&start, SAMPLES);
        network.forward(&inputs, None);
        let all = network.outputs[0].clone();
        let (mut dropped, mut live, mut sum) = (0, 0, 0.0);
        let mut dropout = dropout(0.25);
        for _ in 0..200 {
            network.forward(&inputs, Some(&mut dropout));
            for (with, without) in network.outputs[0].iter().zip(&all) {
                live += usize::from(*without > 0.0);
                dropped += usize::from(*without > 0.0 && *with == 0.0);
                sum += with;
            }
        }
        let share = dropped as f64 / live as f64;
        assert!((share - 0.25).abs() < 0.01, "{share}");
        assert!((sum / 200.0 / all.sum() - 1.0).abs() < 0.01, "{sum}");
    }
}
