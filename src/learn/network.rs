//! A multilayer perceptron with ReLU units and one linear output.
//!
//! Contract: what makes something new, [`Network::params`] and [`Network::set_params`] allocate; the rest runs in the pinned
//! thread and does not.
//!
//! To the outside, all parameters are one list, layer after layer, each layer's weights (`[inputs][outputs]`, row-major)
//! before its biases. Inside they lie in blocks of sixteen ([`kernel`]): a hidden layer's weights are rows of whole blocks,
//! the output's are one row. And the units of a hidden layer may stand in another order than outside: successive samples
//! are much alike, so most units that are silent for one batch stay silent for the next; those that are not are kept in
//! the first blocks ([`Network::gather_live`]), so that the others' gradients, which are zero, cost nothing.

use std::ops::{Deref, DerefMut, Range};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::Real;
use super::kernel::{self, Extent, InstructionSet, LANES, Lanes, Live, Width, blocks_for};

/// How many units of a layer may change places in one step: what is left for the next one is computed, though it is zero.
const MOST_SWAPS: usize = 8;

/// The weights and biases, and the shape that they have.
#[derive(Clone, Debug)]
pub struct Network<T: Real> {
    set: InstructionSet,
    /// Units per layer: inputs, hidden layers, 1.
    sizes: Vec<usize>,
    layers: Vec<Layer>,
    /// Two of each layer: weights, bias.
    matrices: Vec<Matrix>,
    params: Blocks<T>,
    /// Of each hidden layer, by place, the unit that stands there.
    order: Vec<Vec<usize>>,
}

/// Where one layer's tensors lie in [`Network::params`].
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

/// Where one tensor lies in memory: `[rows][width]` from block `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Matrix {
    pub(super) start: usize,
    pub(super) rows: usize,
    pub(super) width: Width,
    /// How many of its numbers are parameters; the others stay zero.
    pub(super) coordinates: usize,
}

impl Matrix {
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.start + self.rows * self.width.blocks
    }
}

/// Blocks that begin with a cache line, so that none lies across two.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    values: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Real> Blocks<T> {
    const LINE: usize = 64;

    /// So many blocks of zeros.
    pub(super) fn zeros(len: usize) -> Self {
        let spare = Self::LINE / size_of::<T>();
        // Written, so that every page of it is there from the start: a fresh zero may be a page that the first use fetches.
        let mut values = Vec::new();
        values.resize_with(len * LANES + spare, || std::hint::black_box(T::zero()));
        let start = values.as_ptr().align_offset(Self::LINE);
        Blocks { start: if start < spare { start } else { 0 }, values, len }
    }
}

impl<T> Deref for Blocks<T> {
    type Target = [Lanes<T>];

    #[inline]
    fn deref(&self) -> &[Lanes<T>] {
        &self.values[self.start..].as_chunks().0[..self.len]
    }
}

impl<T> DerefMut for Blocks<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Lanes<T>] {
        &mut self.values[self.start..].as_chunks_mut().0[..self.len]
    }
}

impl<T: Real> Clone for Blocks<T> {
    fn clone(&self) -> Self {
        let mut clone = Blocks::zeros(self.len);
        clone.copy_from_slice(self);
        clone
    }
}

/// A gradient, laid out as the parameters are, and what of it is at hand; the rest is zero and not written down.
#[derive(Clone, Debug)]
pub(super) struct Gradient<T: Real> {
    pub(super) values: Blocks<T>,
    /// By matrix.
    pub(super) live: Vec<Live>,
    /// By matrix.
    pub(super) extent: Vec<Extent<T>>,
    /// Whether all that it was made of is finite, and neither the outputs' nor the biases' gradients were beyond [`Real::HUGE`].
    pub(super) finite: bool,
    /// Whether all of it is to be written down.
    pub(super) dense: bool,
    /// What it is clipped to.
    pub(super) clip: T,
    /// In what it is written down.
    pub(super) unit: T,
}

impl<T: Real> Gradient<T> {
    /// Zero, in the shape of these matrices.
    pub(super) fn new(matrices: &[Matrix], dense: bool, clip: T, unit: T) -> Self {
        let len = matrices.iter().map(|matrix| matrix.range().end).max().unwrap_or(0);
        let live = matrices.iter().map(|m| Live::all(m.rows, m.width.blocks)).collect();
        let extent = vec![Extent::default(); matrices.len()];
        Gradient { values: Blocks::zeros(len), live, extent, finite: true, dense, clip, unit }
    }

    /// Makes it zero.
    pub(super) fn clear(&mut self) {
        self.values.as_flattened_mut().fill(T::zero());
        self.extent.fill(Extent::default());
    }

    /// Takes over `other`. Does not allocate.
    pub(super) fn copy_from(&mut self, other: &Gradient<T>) {
        self.values.copy_from_slice(&other.values);
        for (live, other) in self.live.iter_mut().zip(&other.live) {
            live.rows.copy_from_slice(&other.rows);
            live.blocks = other.blocks;
        }
        self.extent.copy_from_slice(&other.extent);
        self.finite = other.finite;
    }
}

/// What one batch leaves behind on its way through a [`Network`].
#[derive(Clone, Debug)]
pub struct Workspace<T: Real> {
    samples: usize,
    capacity: usize,
    /// Of the inputs and each hidden layer: `[samples][blocks]`.
    activations: Vec<Blocks<T>>,
    /// Of the inputs and each hidden layer, which units were above zero for at least one sample. Inputs: all.
    live: Vec<Vec<u16>>,
    outputs: Vec<T>,
    /// The loss's gradient by the outputs: `[blocks of samples]`.
    delta_output: Blocks<T>,
    /// By a hidden layer's sums: `[samples][blocks]`.
    delta: Blocks<T>,
    /// The same, `[blocks of samples][units]`, for two adjacent layers.
    by_unit: [Blocks<T>; 2],
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
        let (mut params, mut layers, mut matrices) = (Vec::new(), Vec::new(), Vec::new());
        let mut block = 0;
        for (l, pair) in sizes.windows(2).enumerate() {
            let (inputs, outputs) = (pair[0], pair[1]);
            let bound = (6.0 / (inputs + outputs) as f64).sqrt();
            let start = params.len();
            params.extend((0..inputs * outputs).map(|_| T::of(bound * symmetric())));
            let middle = params.len();
            params.resize(middle + outputs, T::zero());
            layers.push(Layer { inputs, outputs, weights: start..middle, bias: middle..params.len() });
            let is_output = l + 2 == sizes.len();
            let (rows, columns) = if is_output { (1, inputs) } else { (inputs, outputs) };
            for (rows, columns) in [(rows, columns), (1, outputs)] {
                let (width, coordinates) = (Width::of(columns), rows * columns);
                matrices.push(Matrix { start: block, rows, width, coordinates });
                block += rows * width.blocks;
            }
        }
        let mut network = Network {
            set: InstructionSet::best(),
            order: hidden.iter().map(|&units| (0..units).collect()).collect(),
            params: Blocks::zeros(block),
            sizes,
            layers,
            matrices,
        };
        network.set_params(&params);
        network
    }

    /// Computes with this instruction set instead of the best.
    pub fn set_instructions(&mut self, set: InstructionSet) {
        self.set = set;
    }

    /// Sets the output layer to zero: the network answers 0 until it has learnt, and learns no less well.
    pub fn silence_output(&mut self) {
        for matrix in self.matrices.iter().rev().take(2) {
            self.params[matrix.range()].as_flattened_mut().fill(T::zero());
        }
    }

    /// Units per layer: inputs, hidden layers, 1.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// All parameters, in the order that [`Network::layers`] describes.
    pub fn params(&self) -> Vec<T> {
        self.outside(&self.params)
    }

    /// Sets all parameters; those that `params` does not reach stay.
    pub fn set_params(&mut self, params: &[T]) {
        let mut values = std::mem::replace(&mut self.params, Blocks::zeros(0));
        self.for_each_place(|outside, inside| {
            if let Some(&param) = params.get(outside) {
                values.as_flattened_mut()[inside] = param;
            }
        });
        self.params = values;
    }

    /// The layers, from the input on.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The bytes that a learning step of so many joints touches, with a network of this shape each: parameters and last
    /// gradients, and one gradient for all.
    pub fn working_set(&self, joints: usize) -> usize {
        (2 * joints + 1) * size_of_val(&*self.params)
    }

    pub(super) fn matrices(&self) -> &[Matrix] {
        &self.matrices
    }

    pub(super) fn blocks_mut(&mut self) -> &mut [Lanes<T>] {
        &mut self.params
    }

    /// Numbers that lie as the parameters do, in the outside's order.
    pub(super) fn outside(&self, values: &[Lanes<T>]) -> Vec<T> {
        let mut out = vec![T::zero(); self.layers.last().map_or(0, |layer| layer.bias.end)];
        self.for_each_place(|outside, inside| out[outside] = values.as_flattened()[inside]);
        out
    }

    /// Names every parameter's place outside and inside.
    fn for_each_place(&self, mut f: impl FnMut(usize, usize)) {
        let unit = |layer: usize, place: usize| match layer.checked_sub(1) {
            Some(hidden) => self.order.get(hidden).map_or(place, |order| order[place]),
            None => place,
        };
        for (l, layer) in self.layers.iter().enumerate() {
            let (weights, bias) = (&self.matrices[2 * l], &self.matrices[2 * l + 1]);
            for output in 0..layer.outputs {
                for input in 0..layer.inputs {
                    // The output's weights are one row.
                    let (row, column) = if l + 1 == self.layers.len() { (0, input) } else { (input, output) };
                    f(
                        layer.weights.start + unit(l, input) * layer.outputs + unit(l + 1, output),
                        (weights.start + row * weights.width.blocks) * LANES + column,
                    );
                }
                f(layer.bias.start + unit(l + 1, output), bias.start * LANES + output);
            }
        }
    }

    /// The outputs for a batch of `inputs` (`[samples][inputs]`, at most as many samples as `workspace` holds; what lies
    /// beyond is left out). A batch's outputs and activations stay in `workspace` until the next call.
    pub fn forward<'w>(&self, inputs: &[T], workspace: &'w mut Workspace<T>) -> &'w [T] {
        let width = self.sizes[0];
        let samples = (inputs.len() / width).min(workspace.capacity);
        let padded = blocks_for(width) * LANES;
        let own = workspace.activations[0].as_flattened_mut().chunks_exact_mut(padded);
        for (own, input) in own.zip(inputs.chunks_exact(width)) {
            own[..width].copy_from_slice(input);
        }
        self.forward_again(samples, workspace)
    }

    /// [`Network::forward`] of the first `samples` inputs that are in `workspace` already.
    pub(super) fn forward_again<'w>(&self, samples: usize, workspace: &'w mut Workspace<T>) -> &'w [T] {
        let Workspace { activations, live, outputs, .. } = workspace;
        workspace.samples = samples;
        let hidden = self.layers.len() - 1;
        for l in 0..hidden {
            let (below, above) = activations.split_at_mut(l + 1);
            let (live_below, live_above) = live.split_at_mut(l + 1);
            let width = self.matrices[2 * l].width;
            let x_blocks = blocks_for(self.sizes[l]);
            kernel::forward(
                self.set,
                &self.params[self.layer_range(l)],
                width,
                &live_below[l],
                &below[l][..samples * x_blocks],
                x_blocks,
                &mut above[0][..samples * width.blocks],
                &mut live_above[0],
            );
        }
        let (weights, bias) = (self.matrices[2 * hidden], self.matrices[2 * hidden + 1]);
        kernel::output(
            self.set,
            &self.params[weights.range()],
            self.params[bias.start][0],
            &activations[hidden][..samples * weights.width.blocks],
            &mut outputs[..samples],
        );
        &workspace.outputs[..samples]
    }

    /// Weights and bias of layer `l`.
    fn layer_range(&self, l: usize) -> Range<usize> {
        self.matrices[2 * l].start..self.matrices[2 * l + 1].range().end
    }

    /// Brings the units that are live in `workspace` into the first blocks of their layers, and with them what `previous`
    /// says of them.
    pub(super) fn gather_live(&mut self, workspace: &mut Workspace<T>, previous: &mut Gradient<T>) {
        for hidden in 1..self.layers.len() {
            for _ in 0..MOST_SWAPS {
                let live = &workspace.live[hidden];
                let count: u32 = live.iter().map(|word| word.count_ones()).sum();
                let Some(last) = live.iter().rposition(|word| *word != 0) else { break };
                if last < blocks_for(count as usize) {
                    break;
                }
                let from = last * LANES + 15 - live[last].leading_zeros() as usize;
                let Some(word) = live.iter().position(|word| *word != u16::MAX) else { break };
                let to = word * LANES + live[word].trailing_ones() as usize;
                self.swap_units(hidden, to, from, workspace, previous);
            }
        }
    }

    /// Swaps two units of a hidden layer (1 is the first), `to` standing in an earlier block than `from`.
    fn swap_units(
        &mut self,
        hidden: usize,
        to: usize,
        from: usize,
        workspace: &mut Workspace<T>,
        previous: &mut Gradient<T>,
    ) {
        self.swap_places(hidden, to, from);
        let above = 2 * hidden;
        for at in self.columns_of(hidden) {
            let (matrix, live) = (&self.matrices[at], &previous.live[at]);
            // What a gradient does not have at hand is zero.
            let at_hand = from / LANES < live.blocks;
            let rows = previous.values[matrix.range()].as_flattened_mut();
            for row in rows.chunks_exact_mut(matrix.width.blocks * LANES) {
                let moved = if at_hand { row[from] } else { T::zero() };
                row[from] = std::mem::replace(&mut row[to], moved);
            }
        }
        if hidden + 1 < self.layers.len() {
            swap_rows(&mut previous.values, &self.matrices[above], to, from);
            swap_bits(&mut previous.live[above].rows, to, from);
        }
        let width = blocks_for(self.sizes[hidden]) * LANES;
        let activations = workspace.activations[hidden].as_flattened_mut().chunks_exact_mut(width);
        activations.take(workspace.samples).for_each(|sample| sample.swap(to, from));
        swap_bits(&mut workspace.live[hidden], to, from);
    }

    /// Puts every unit back into its place outside. Whoever holds a gradient must forget it.
    pub(super) fn sort_units(&mut self) {
        for hidden in 1..self.layers.len() {
            for place in 0..self.sizes[hidden] {
                while self.order[hidden - 1][place] != place {
                    let other = self.order[hidden - 1][place];
                    self.swap_places(hidden, place.min(other), place.max(other));
                }
            }
        }
    }

    /// Which matrices have a column for each unit of a hidden layer: its weights and biases and, above the last hidden
    /// layer, the output's weights, which are one row. Elsewhere the weights above have a row for each.
    fn columns_of(&self, hidden: usize) -> Range<usize> {
        2 * (hidden - 1)..2 * hidden + usize::from(hidden + 1 == self.layers.len())
    }

    /// Swaps the places of two units of a hidden layer (1 is the first); `first` is the lesser.
    fn swap_places(&mut self, hidden: usize, first: usize, second: usize) {
        for at in self.columns_of(hidden) {
            let matrix = &self.matrices[at];
            let rows = self.params[matrix.range()].as_flattened_mut();
            rows.chunks_exact_mut(matrix.width.blocks * LANES).for_each(|row| row.swap(first, second));
        }
        if hidden + 1 < self.layers.len() {
            swap_rows(&mut self.params, &self.matrices[2 * hidden], first, second);
        }
        self.order[hidden - 1].swap(first, second);
    }

    /// The gradient, clipped, of the batch's mean squared error `mean((output - target)²)` by all parameters, for the batch
    /// that went [`forward`](Network::forward) last. `targets` holds one number per sample.
    pub(super) fn backward(&self, targets: &[T], workspace: &mut Workspace<T>, gradient: &mut Gradient<T>) {
        let Workspace { activations, live, outputs, delta_output, delta, by_unit, .. } = workspace;
        let samples = workspace.samples;
        let Gradient { values, live: written, extent, finite, dense, clip, unit } = gradient;
        let (clip, huge) = (*clip / *unit, (T::HUGE / *unit).min(T::max_value()));
        let scale = T::of(2.0 / samples.max(1) as f64) / *unit;
        let (mut total, mut is_moderate) = (T::zero(), true);
        let each = delta_output.as_flattened_mut().iter_mut().zip(&outputs[..samples]).zip(targets);
        for ((delta, &output), &target) in each {
            *delta = scale * (output - target);
            total += *delta;
            is_moderate &= delta.abs() <= huge;
        }
        if *dense {
            values.as_flattened_mut().fill(T::zero());
        }
        let hidden = self.layers.len() - 1;
        let (weights, bias) = (self.matrices[2 * hidden], self.matrices[2 * hidden + 1]);
        let passes = total.abs() > T::TINY;
        values[bias.start][0] = if passes { total.max(-clip).min(clip) } else { T::zero() };
        extent[2 * hidden + 1] = Extent { moved: u32::from(passes), most: total.abs() };
        extent[2 * hidden] = kernel::backward_output(
            self.set,
            &self.params[weights.range()],
            &live[hidden],
            &activations[hidden][..samples * weights.width.blocks],
            weights.width.blocks,
            &delta_output[..blocks_for(samples)],
            clip,
            &mut values[weights.range()],
            &mut by_unit[0],
            delta,
        );
        if !*dense {
            written[2 * hidden].blocks = kernel::reached(&live[hidden]);
        }
        for l in (0..hidden).rev() {
            let width = self.matrices[2 * l].width;
            let x_blocks = blocks_for(self.sizes[l]);
            let x = &activations[l][..samples * x_blocks];
            let reached = kernel::reached(&live[l + 1]);
            let (extents, is_finite) = kernel::weights_gradient(
                self.set,
                x,
                x_blocks,
                &live[l],
                &delta[..samples * width.blocks],
                width,
                reached,
                clip,
                huge,
                &mut values[self.layer_range(l)],
            );
            [extent[2 * l], extent[2 * l + 1]] = extents;
            is_moderate &= is_finite;
            if !*dense {
                // A few words: a call of `memcpy` takes longer.
                for (written, live) in written[2 * l].rows.iter_mut().zip(&live[l]) {
                    *written = *live;
                }
                written[2 * l].blocks = reached;
                written[2 * l + 1].blocks = reached;
            }
            if l > 0 {
                let [above, below] = by_unit;
                kernel::backward(
                    self.set,
                    &self.params[self.matrices[2 * l].range()],
                    width.blocks,
                    &live[l],
                    &live[l + 1],
                    above,
                    x,
                    x_blocks,
                    below,
                    delta,
                );
                by_unit.swap(0, 1);
            }
        }
        *finite = is_moderate;
    }

    /// The gradient of the batch's mean squared error `mean((output - target)²)` by all parameters, in the order of
    /// [`Network::params`] and not clipped, for the batch that went [`forward`](Network::forward) last. Allocates: a joint's
    /// learner has a way of its own.
    pub fn gradient(&self, targets: &[T], workspace: &mut Workspace<T>) -> Vec<T> {
        let mut gradient = Gradient::new(&self.matrices, true, T::max_value(), T::one());
        self.backward(targets, workspace, &mut gradient);
        self.outside(&gradient.values)
    }

    /// Takes over `other`'s parameters; both must be of the same shape. Does not allocate.
    pub fn copy_from(&mut self, other: &Network<T>) {
        self.params.copy_from_slice(&other.params);
        self.order.clone_from(&other.order);
    }
}

/// `first` is the lesser.
fn swap_rows<T>(values: &mut [Lanes<T>], matrix: &Matrix, first: usize, second: usize) {
    let (before, from) = values[matrix.range()].split_at_mut(second * matrix.width.blocks);
    before[first * matrix.width.blocks..][..matrix.width.blocks]
        .swap_with_slice(&mut from[..matrix.width.blocks]);
}

fn swap_bits(words: &mut [u16], a: usize, b: usize) {
    let bit = |words: &[u16], at: usize| words[at / LANES] >> (at % LANES) & 1;
    if bit(words, a) != bit(words, b) {
        words[a / LANES] ^= 1 << (a % LANES);
        words[b / LANES] ^= 1 << (b % LANES);
    }
}

impl<T: Real> Workspace<T> {
    /// Room for batches of up to `samples` through `network`.
    pub fn new(network: &Network<T>, samples: usize) -> Self {
        let below = &network.sizes[..network.layers.len()];
        let widest = below.iter().copied().max().map_or(1, blocks_for);
        Workspace {
            samples: 0,
            capacity: samples,
            activations: below.iter().map(|&units| Blocks::zeros(samples * blocks_for(units))).collect(),
            live: below.iter().map(|&units| Live::all(units, 1).rows).collect(),
            outputs: vec![T::zero(); samples],
            delta_output: Blocks::zeros(blocks_for(samples)),
            delta: Blocks::zeros(samples * widest),
            by_unit: [(); 2].map(|()| Blocks::zeros(widest * LANES * blocks_for(samples))),
        }
    }

    /// The share of hidden units that were on for at least one sample of the last batch (1 without hidden layers).
    pub fn live_units(&self, network: &Network<T>) -> f64 {
        let hidden = &network.sizes[1..network.layers.len()];
        let live: u32 = self.live[1..].iter().flatten().map(|word| word.count_ones()).sum();
        let all: usize = hidden.iter().sum();
        if all == 0 { 1.0 } else { f64::from(live) / all as f64 }
    }

    /// Takes over the inputs of as many samples as there are, each filled up to whole blocks.
    pub(super) fn set_inputs(&mut self, inputs: &[Lanes<T>]) {
        self.activations[0][..inputs.len()].copy_from_slice(inputs);
    }

    /// Where the scaled inputs of sample number `sample` go.
    pub(super) fn input_mut(&mut self, sample: usize, inputs: usize) -> &mut [T] {
        let width = blocks_for(inputs) * LANES;
        &mut self.activations[0].as_flattened_mut()[sample * width..][..inputs]
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
        let params = |seed, stream| Network::<f32>::new(21, &[50, 30], seed, stream).params();
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
        network.set_params(&[1.0, -1.0, 2.0, 0.0, 1.0, 0.0, 3.0, -4.0, 0.5]);
        let mut workspace = Workspace::new(&network, 3);
        let outputs = network.forward(&[1.0, 1.0, -2.0, 0.0, -0.5, -1.0], &mut workspace);
        assert_eq!(outputs, [12.5, -7.5, -1.5]);
        assert_eq!(workspace.live_units(&network), 1.0);
        network.forward(&[1.0, 1.0], &mut workspace);
        assert_eq!(workspace.live_units(&network), 0.5);
        // One sample, error 2: the loss's gradient by the output is 4.
        let gradient = gradient(&network, &[10.5], &mut workspace);
        assert_eq!(gradient, [12.0, 0.0, 12.0, 0.0, 12.0, 0.0, 16.0, 0.0, 4.0]);
    }

    /// By the definition of [`Network::layers`].
    fn gradient<T: Real>(network: &Network<T>, targets: &[T], workspace: &mut Workspace<T>) -> Vec<T> {
        let mut gradient = Gradient::new(network.matrices(), true, T::max_value(), T::one());
        network.backward(targets, workspace, &mut gradient);
        assert!(gradient.finite);
        network.outside(&gradient.values)
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
            let mut params = network.params();
            params.iter_mut().for_each(|param| *param += 0.05);
            network.set_params(&params);
            let mut workspace = Workspace::new(&network, 5);
            let at = loss(&network, &inputs, &targets, &mut workspace);
            let gradient = gradient(&network, &targets, &mut workspace);
            const STEP: f64 = 1e-6;
            for (i, &derivative) in gradient.iter().enumerate() {
                let mut side = |by: f64| {
                    params[i] += by;
                    network.set_params(&params);
                    params[i] -= by;
                    loss(&network, &inputs, &targets, &mut workspace)
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
            narrow.set_params(&wide.params().iter().map(|w| *w as f32).collect::<Vec<_>>());
            let narrow_inputs: Vec<f32> = inputs.iter().map(|x| *x as f32).collect();
            let (mut ww, mut nw) = (Workspace::new(&wide, 10), Workspace::new(&narrow, 10));
            let outputs = wide.forward(&inputs, &mut ww).to_vec();
            for (n, w) in narrow.forward(&narrow_inputs, &mut nw).iter().zip(&outputs) {
                prop_assert!((f64::from(*n) - w).abs() < 1e-5);
            }
            let expected = gradient(&wide, &[0.3; 10], &mut ww);
            let norm = expected.iter().map(|g| g * g).sum::<f64>().sqrt();
            let apart = gradient(&narrow, &[0.3; 10], &mut nw).iter().zip(expected)
                .map(|(n, w)| (f64::from(*n) - w).powi(2)).sum::<f64>().sqrt();
            // A unit within rounding of its kink may be on in one and off in the other.
            prop_assert!(apart < 1e-3 * (1.0 + norm), "{} of {}", apart, norm);
        }
    }
}
