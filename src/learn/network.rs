//! A multilayer perceptron with ReLU units and one linear output.
//!
//! Contract: [`Network::new`] and [`Workspace::new`] allocate; the rest runs in the pinned thread and does not.
//!
//! All parameters lie in one buffer, layer after layer, each layer's weights (`[inputs][outputs]`, row-major) before its
//! biases: a tensor, a layer or the whole network is one contiguous range.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{Real, kernel};

/// The weights and biases, and the shape that they have.
#[derive(Clone, Debug)]
pub struct Network<T> {
    /// Units per layer: inputs, hidden layers, 1.
    sizes: Vec<usize>,
    layers: Vec<Layer>,
    params: Vec<T>,
}

/// Where one layer's tensors lie in the parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Units below.
    pub inputs: usize,
    /// Units of this layer.
    pub outputs: usize,
    /// Weights, `[inputs][outputs]`.
    pub weights: Range<usize>,
    /// Biases.
    pub bias: Range<usize>,
}

/// What one batch leaves behind on its way through a [`Network`]: activations forward, gradients backward.
#[derive(Clone, Debug)]
pub struct Workspace<T> {
    samples: usize,
    /// One buffer per layer, inputs and output included: `[samples][units]`.
    activations: Vec<Vec<T>>,
    /// The loss's gradient by a layer's sums, for two adjacent layers.
    delta: Vec<T>,
    delta_below: Vec<T>,
    gradient: Vec<T>,
}

impl<T: Real> Network<T> {
    /// A network of `inputs`, the given hidden layers and one output.
    ///
    /// Biases start at 0, weights uniformly in `±sqrt(6 / (inputs + outputs))` of their layer (Glorot and Bengio 2010).
    /// `seed` and `stream` (the joint) give the same weights on every machine; streams are independent of each other.
    pub fn new(inputs: usize, hidden: &[usize], seed: u64, stream: u64) -> Self {
        let sizes: Vec<usize> = [inputs].iter().chain(hidden).chain(&[1]).copied().collect();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        // 24 bits: each is an f32 exactly.
        let mut symmetric = || f64::from(random.next_u32() >> 8) / f64::from(1 << 23) - 1.0;
        let mut params = Vec::new();
        let mut layers = Vec::new();
        for pair in sizes.windows(2) {
            let (inputs, outputs) = (pair[0], pair[1]);
            let bound = (6.0 / (inputs + outputs) as f64).sqrt();
            let start = params.len();
            params.extend((0..inputs * outputs).map(|_| T::of(bound * symmetric())));
            let middle = params.len();
            params.resize(middle + outputs, T::zero());
            layers.push(Layer { inputs, outputs, weights: start..middle, bias: middle..params.len() });
        }
        Network { sizes, layers, params }
    }

    /// Sets the output layer to zero: the network answers 0 until it has learnt, and learns no less well.
    pub fn silence_output(&mut self) {
        if let Some(Layer { weights, bias, .. }) = self.layers.last() {
            self.params[weights.start..bias.end].fill(T::zero());
        }
    }

    /// Units per layer: inputs, hidden layers, 1.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// All parameters.
    pub fn params(&self) -> &[T] {
        &self.params
    }

    /// All parameters.
    pub fn params_mut(&mut self) -> &mut [T] {
        &mut self.params
    }

    /// The layers, from the input on.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The outputs for a batch of `inputs` (`[samples][inputs]`, at most as many samples as `workspace` holds; what lies
    /// beyond is left out). A batch's outputs and activations stay in `workspace` until the next call.
    pub fn forward<'w>(&self, inputs: &[T], workspace: &'w mut Workspace<T>) -> &'w [T] {
        let width = self.sizes[0];
        let samples = (inputs.len() / width).min(workspace.activations[0].len() / width);
        workspace.samples = samples;
        workspace.activations[0][..samples * width].copy_from_slice(&inputs[..samples * width]);
        for (l, layer) in self.layers.iter().enumerate() {
            let (below, above) = workspace.activations.split_at_mut(l + 1);
            kernel::forward(
                &self.params[layer.weights.clone()],
                &self.params[layer.bias.clone()],
                &below[l][..samples * layer.inputs],
                &mut above[0][..samples * layer.outputs],
                l + 1 < self.layers.len(),
            );
        }
        &workspace.activations[self.layers.len()][..samples]
    }

    /// The gradient of the batch's mean squared error `mean((output - target)²)` by all parameters, for the batch that
    /// went [`forward`](Network::forward) last. `targets` holds one number per sample.
    pub fn backward<'w>(&self, targets: &[T], workspace: &'w mut Workspace<T>) -> &'w [T] {
        let Workspace { samples, activations, delta, delta_below, gradient } = workspace;
        let samples = *samples;
        let scale = T::of(2.0 / samples.max(1) as f64);
        let outputs = &activations[self.layers.len()][..samples];
        delta.fill(T::zero());
        for ((delta, &output), &target) in delta.iter_mut().zip(outputs).zip(targets) {
            *delta = scale * (output - target);
        }
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let (weights, bias) =
                gradient[layer.weights.start..layer.bias.end].split_at_mut(layer.weights.len());
            kernel::backward(
                &self.params[layer.weights.clone()],
                &activations[l][..samples * layer.inputs],
                &delta[..samples * layer.outputs],
                weights,
                bias,
                (l > 0).then_some(&mut delta_below[..samples * layer.inputs]),
            );
            std::mem::swap(delta, delta_below);
        }
        gradient
    }

    /// Takes over `other`'s parameters; both must be of the same shape. Does not allocate.
    pub fn copy_from(&mut self, other: &Network<T>) {
        self.params.clone_from(&other.params);
    }
}

impl<T: Real> Workspace<T> {
    /// Room for batches of up to `samples` through `network`.
    pub fn new(network: &Network<T>, samples: usize) -> Self {
        let widest = network.sizes.iter().copied().max().unwrap_or(1);
        let zeros = |units: usize| vec![T::zero(); samples * units];
        Workspace {
            samples: 0,
            activations: network.sizes.iter().map(|&units| zeros(units)).collect(),
            delta: zeros(widest),
            delta_below: zeros(widest),
            gradient: vec![T::zero(); network.params.len()],
        }
    }

    /// The share of hidden units that were on for at least one sample of the last batch (1 without hidden layers).
    pub fn live_units(&self) -> f64 {
        let hidden = 1..self.activations.len().saturating_sub(1);
        let room = self.activations[self.activations.len() - 1].len();
        let (mut live, mut all) = (0, 0);
        for activation in &self.activations[hidden] {
            let units = activation.len() / room.max(1);
            all += units;
            live += (0..units)
                .filter(|unit| (0..self.samples).any(|sample| activation[sample * units + unit] > T::zero()))
                .count();
        }
        if all == 0 { 1.0 } else { live as f64 / all as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn weights_are_glorot_uniform_and_depend_on_seed_and_stream_only() {
        let network = Network::<f32>::new(21, &[50, 30], 7, 3);
        assert_eq!(network.sizes(), [21, 50, 30, 1]);
        assert_eq!(network.params().len(), 21 * 50 + 50 + 50 * 30 + 30 + 30 + 1);
        for layer in network.layers() {
            let bound = (6.0 / (layer.inputs + layer.outputs) as f32).sqrt();
            let weights = &network.params()[layer.weights.clone()];
            let largest = weights.iter().fold(0.0f32, |m, w| m.max(w.abs()));
            assert!(largest <= bound && largest > 0.9 * bound, "{largest} of {bound}");
            let mean = weights.iter().sum::<f32>() / weights.len() as f32;
            assert!(mean.abs() < 2.0 * bound / (weights.len() as f32).sqrt(), "{mean}");
            assert!(network.params()[layer.bias.clone()].iter().all(|b| *b == 0.0));
        }
        let params = |seed, stream| Network::<f32>::new(21, &[50, 30], seed, stream).params().to_vec();
        assert_eq!(params(7, 3), network.params());
        assert_ne!(params(7, 4), network.params());
        assert_ne!(params(8, 3), network.params());
        // Pinned: a checkpoint's seed means these weights on every machine and in every later build.
        assert_eq!(Network::<f64>::new(2, &[2], 1, 0).params()[..4], PINNED);
    }

    const PINNED: [f64; 4] =
        [0.12095143426204474, -0.23886050039459078, 1.187015593759916, -1.027845924631066];

    #[test]
    fn a_small_network_by_hand() {
        let mut network = Network::<f64>::new(2, &[2], 1, 0);
        // Two hidden units: x + 2y + 1 and -x; out = 3 a - 4 b + 0.5.
        network.params_mut().copy_from_slice(&[1.0, -1.0, 2.0, 0.0, 1.0, 0.0, 3.0, -4.0, 0.5]);
        let mut workspace = Workspace::new(&network, 3);
        let outputs = network.forward(&[1.0, 1.0, -2.0, 0.0, -0.5, -1.0], &mut workspace);
        assert_eq!(outputs, [12.5, -7.5, -1.5]);
        assert_eq!(workspace.live_units(), 1.0);
        network.forward(&[1.0, 1.0], &mut workspace);
        assert_eq!(workspace.live_units(), 0.5);
        // One sample, error 2: the loss's gradient by the output is 4.
        let gradient = network.backward(&[10.5], &mut workspace);
        assert_eq!(gradient, [12.0, 0.0, 12.0, 0.0, 12.0, 0.0, 16.0, 0.0, 4.0]);
    }

    fn loss(network: &Network<f64>, inputs: &[f64], targets: &[f64], workspace: &mut Workspace<f64>) -> f64 {
        let outputs = network.forward(inputs, workspace);
        outputs.iter().zip(targets).map(|(o, t)| (o - t) * (o - t)).sum::<f64>() / targets.len() as f64
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn gradients_agree_with_finite_differences(
            seed in any::<u64>(),
            hidden in prop::collection::vec(1usize..12, 0..4),
            inputs in prop::collection::vec(-2.0f64..2.0, 4 * 5),
            targets in prop::collection::vec(-2.0f64..2.0, 5),
        ) {
            let mut network = Network::<f64>::new(4, &hidden, seed, 0);
            // Off zero, so that no unit sits on its kink.
            for param in network.params_mut() {
                *param += 0.05;
            }
            let mut workspace = Workspace::new(&network, 5);
            let at = loss(&network, &inputs, &targets, &mut workspace);
            let gradient = network.backward(&targets, &mut workspace).to_vec();
            const STEP: f64 = 1e-6;
            for (i, &derivative) in gradient.iter().enumerate() {
                let mut side = |by: f64| {
                    network.params_mut()[i] += by;
                    let loss = loss(&network, &inputs, &targets, &mut workspace);
                    network.params_mut()[i] -= by;
                    loss
                };
                let (above, below) = (side(STEP), side(-STEP));
                let difference = (above - below) / (2.0 * STEP);
                // A kink within the step shows as curvature; the derivative then lies between the one-sided ones.
                let kink = ((above - at) / STEP - (at - below) / STEP).abs();
                prop_assert!(
                    (derivative - difference).abs() <= 1e-6 * (1.0 + difference.abs()) + kink,
                    "parameter {}: {} against {}", i, derivative, difference
                );
            }
        }

        #[test]
        fn in_f32_outputs_and_gradients_agree_with_f64(
            seed in any::<u64>(),
            inputs in prop::collection::vec(-2.0f64..2.0, 6 * 10),
        ) {
            let wide = Network::<f64>::new(6, &[20, 20], seed, 1);
            let mut narrow = Network::<f32>::new(6, &[20, 20], seed, 1);
            for (n, w) in narrow.params_mut().iter_mut().zip(wide.params()) {
                *n = *w as f32;
            }
            let narrow_inputs: Vec<f32> = inputs.iter().map(|x| *x as f32).collect();
            let (mut ww, mut nw) = (Workspace::new(&wide, 10), Workspace::new(&narrow, 10));
            let outputs = wide.forward(&inputs, &mut ww).to_vec();
            for (n, w) in narrow.forward(&narrow_inputs, &mut nw).iter().zip(&outputs) {
                prop_assert!((f64::from(*n) - w).abs() < 1e-5);
            }
            let gradient = wide.backward(&[0.3; 10], &mut ww);
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            let apart = narrow.backward(&[0.3; 10], &mut nw).iter().zip(gradient)
                .map(|(n, w)| (f64::from(*n) - w).powi(2)).sum::<f64>().sqrt();
            // A unit within rounding of its kink may be on in one and off in the other.
            prop_assert!(apart < 1e-3 * (1.0 + norm), "{} of {}", apart, norm);
        }
    }
}
