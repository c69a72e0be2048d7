//! The network of section IV-C, and the images of one task that it is trained on.
//!
//! Contract: parameters and gradients are flat lists, group after group as [`Shape::groups`] says, so that any learner may
//! move them; candle computes losses and gradients and keeps nothing. The same parameters, images and dropout give the
//! same bits on processors with the same instruction set, on any number of threads, as long as the caller keeps candle to
//! one thread.

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp1, D, Device, Layout, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::idx::Images;

const KERNEL: usize = 5;
const TAPS: usize = KERNEL * KERNEL;
const FILTERS: usize = 8;
const HIDDEN: usize = 128;
const CLASSES: usize = 2;
/// Images that go through the network together: few enough that what lies between the layers stays in the cache.
const CHUNK: usize = 125;

/// Sizes of the network for images of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    height: usize,
    width: usize,
}

impl Shape {
    /// For images of this size.
    ///
    /// # Errors
    /// If the pooled convolution would be empty.
    pub fn of(images: &Images) -> Result<Self> {
        let (height, width) = (images.height, images.width);
        let least = KERNEL + 1;
        ensure!(
            height >= least && width >= least,
            "images of {height}x{width} pixels: the network needs at least {least}x{least}"
        );
        Ok(Shape { height, width })
    }

    /// Rows and columns after convolution and pooling; a last odd row or column is left out.
    fn pooled(self) -> (usize, usize) {
        let pooled = |side: usize| (side - (KERNEL - 1)) / 2;
        (pooled(self.height), pooled(self.width))
    }

    fn features(self) -> usize {
        let (rows, columns) = self.pooled();
        rows * columns * FILTERS
    }

    /// Inputs, outputs of each layer that has weights.
    fn layers(self) -> [(usize, usize); 3] {
        [(TAPS, FILTERS), (self.features(), HIDDEN), (HIDDEN, CLASSES)]
    }

    /// How many parameters each tensor has, in their order: the convolution's weights and biases, the hidden layer's, the
    /// output's.
    pub fn groups(self) -> [usize; 6] {
        let [conv, hidden, output] = self.layers();
        [conv.0 * conv.1, conv.1, hidden.0 * hidden.1, hidden.1, output.0 * output.1, output.1]
    }

    /// All parameters.
    pub fn coordinates(self) -> usize {
        self.groups().iter().sum()
    }

    /// Glorot-uniform weights, biases at zero. The convolution's fans count its whole receptive field.
    pub fn fresh(self, seed: u64) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut params = Vec::with_capacity(self.coordinates());
        for (layer, (inputs, outputs)) in self.layers().into_iter().enumerate() {
            let fan_out = if layer == 0 { TAPS * outputs } else { outputs };
            let bound = (6.0 / (inputs + fan_out) as f64).sqrt();
            let mut symmetric = || f64::from(random.next_u32() >> 8) / f64::from(1 << 23) - 1.0;
            params.extend((0..inputs * outputs).map(|_| (bound * symmetric()) as f32));
            params.extend(std::iter::repeat_n(0.0, outputs));
        }
        params
    }
}

/// The images of two digits, as the network takes them in.
#[derive(Debug)]
pub struct Task {
    shape: Shape,
    chunks: Vec<Chunk>,
    count: usize,
}

#[derive(Debug)]
struct Chunk {
    /// What each output of the convolution sees, and a one for the bias: `[4 · images · cells][taps + 1]`. The outputs that are
    /// pooled into one cell lie a quarter of the rows apart.
    patches: Tensor,
    /// 1 at the right class: `[images][classes]`.
    targets: Tensor,
    images: usize,
}

impl Task {
    /// The first `limit` images of either digit, in their order.
    ///
    /// # Errors
    /// If one of the digits does not occur among them.
    pub fn new(images: &Images, labels: &[u8], digits: [u8; 2], limit: usize) -> Result<Self> {
        let shape = Shape::of(images)?;
        let chosen: Vec<(&[u8], usize)> = images
            .iter()
            .zip(labels)
            .filter_map(|(image, label)| Some((image, digits.iter().position(|digit| digit == label)?)))
            .take(limit)
            .collect();
        for (class, digit) in digits.iter().enumerate() {
            let occurs = chosen.iter().any(|(_, of)| *of == class);
            ensure!(
                occurs,
                "digit {digit} does not occur among the first {} images of {digits:?}",
                chosen.len()
            );
        }
        let chunks = chosen.chunks(CHUNK).map(|chunk| Chunk::new(shape, chunk)).collect::<Result<_>>()?;
        Ok(Task { shape, chunks, count: chosen.len() })
    }

    /// How many images.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Sizes of its network.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The mean cross-entropy of `params` over all images, each with half of the hidden units dropped as `dropout` says, and
    /// its gradient, which replaces what stood in `gradient`.
    ///
    /// # Errors
    /// candle's.
    pub fn loss(&self, params: &[f32], dropout: &mut ChaCha8Rng, gradient: &mut Vec<f32>) -> Result<f64> {
        gradient.clear();
        gradient.resize(self.shape.coordinates(), 0.0);
        let network = Network::new(self.shape, params)?;
        let mut sum = 0.0;
        for chunk in &self.chunks {
            let keep = Tensor::from_vec(kept(chunk.images, dropout), (chunk.images, HIDDEN), &Device::Cpu)?;
            let scores = network.log_probabilities(chunk, Some(&keep))?;
            let loss = ((&scores * &chunk.targets)?.sum_all()? * (-1.0 / self.count as f64))?;
            sum += f64::from(loss.to_scalar::<f32>()?);
            let slopes = loss.backward()?;
            let mut rest = gradient.as_mut_slice();
            for var in &network.vars {
                let (own, others) = rest.split_at_mut(var.elem_count());
                if let Some(slope) = slopes.get(var) {
                    let slope = slope.flatten_all()?.to_vec1::<f32>()?;
                    own.iter_mut().zip(slope).for_each(|(own, slope)| *own += slope);
                }
                rest = others;
            }
        }
        Ok(sum)
    }

    /// The share of the images that `params` classify wrongly, nothing dropped.
    ///
    /// # Errors
    /// candle's.
    pub fn error(&self, params: &[f32]) -> Result<f64> {
        let network = Network::new(self.shape, params)?;
        let mut right = 0.0;
        for chunk in &self.chunks {
            let answers = network.log_probabilities(chunk, None)?.argmax(D::Minus1)?;
            let expected = chunk.targets.argmax(D::Minus1)?;
            let agree = answers.eq(&expected)?.to_vec1::<u8>()?;
            right += agree.into_iter().map(f64::from).sum::<f64>();
        }
        Ok(1.0 - right / self.count as f64)
    }
}

impl Chunk {
    fn new(shape: Shape, images: &[(&[u8], usize)]) -> Result<Self> {
        let (rows, columns) = shape.pooled();
        let height = 4 * images.len() * rows * columns;
        let mut patches = Vec::with_capacity(height * (TAPS + 1));
        for (down, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            for (image, _) in images {
                for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                    let corner = (2 * row + down) * shape.width + 2 * column + right;
                    for tap in 0..KERNEL {
                        let from = corner + tap * shape.width;
                        patches.extend(image[from..from + KERNEL].iter().map(|&p| f32::from(p) / 255.0));
                    }
                    patches.push(1.0);
                }
            }
        }
        let mut targets = vec![0f32; images.len() * CLASSES];
        for (row, (_, class)) in targets.chunks_exact_mut(CLASSES).zip(images) {
            row[*class] = 1.0;
        }
        Ok(Chunk {
            patches: Tensor::from_vec(patches, (height, TAPS + 1), &Device::Cpu)?,
            targets: Tensor::from_vec(targets, (images.len(), CLASSES), &Device::Cpu)?,
            images: images.len(),
        })
    }
}

/// 2 where a hidden unit is kept, 0 where it is dropped: one random bit each.
fn kept(images: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
    let mut keep = Vec::with_capacity(images * HIDDEN);
    for _ in 0..images * HIDDEN / 32 {
        let bits = random.next_u32();
        keep.extend((0..32).map(|bit| 2.0 * (bits >> bit & 1) as f32));
    }
    keep
}

/// One set of parameters, as candle differentiates with respect to them.
struct Network {
    shape: Shape,
    /// Kernel and biases of the convolution as one, then weights and biases of the others.
    vars: [Var; 5],
}

impl Network {
    fn new(shape: Shape, params: &[f32]) -> Result<Self> {
        let mut rest = params;
        let mut next = |rows: usize, columns: usize| -> candle_core::Result<Var> {
            let (own, others) = rest.split_at_checked(rows * columns).unwrap_or((rest, &[]));
            rest = others;
            Var::from_slice(own, (rows, columns), &Device::Cpu)
        };
        let [(taps, filters), (features, hidden), (_, classes)] = shape.layers();
        let vars = [
            next(taps + 1, filters)?,
            next(features, hidden)?,
            next(1, hidden)?,
            next(hidden, classes)?,
            next(1, classes)?,
        ];
        Ok(Network { shape, vars })
    }

    fn log_probabilities(&self, chunk: &Chunk, keep: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let [kernel, hidden, hidden_bias, output, output_bias] = &self.vars;
        let features = kernel.apply_op1(PooledConvolution { patches: chunk.patches.clone() })?;
        let features = features.reshape((chunk.images, self.shape.features()))?;
        let units = features.matmul(hidden)?.broadcast_add(hidden_bias)?.relu()?;
        let units = match keep {
            Some(keep) => (units * keep)?,
            None => units,
        };
        let scores = units.matmul(output)?.broadcast_add(output_bias)?;
        // The log-sum-exp does not depend on what is taken off, so neither does the gradient.
        let scores = scores.broadcast_sub(&scores.detach().max_keepdim(D::Minus1)?)?;
        scores.broadcast_sub(&scores.exp()?.sum_keepdim(D::Minus1)?.log()?)
    }
}

/// Convolution, 2x2 max pooling and ReLU of a kernel `[taps + 1][filters]`, as a `[cells][filters]`. In one piece, for candle's own
/// three would take most of the time: above all backward, where it also computes the slope of the images.
struct PooledConvolution {
    patches: Tensor,
}

impl PooledConvolution {
    fn sums(&self, kernel: &Tensor) -> candle_core::Result<Vec<f32>> {
        self.patches.matmul(kernel)?.flatten_all()?.to_vec1()
    }
}

impl CustomOp1 for PooledConvolution {
    fn name(&self) -> &'static str {
        "pooled convolution"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, candle_core::Shape)> {
        let kernel = &storage.as_slice::<f32>()?[layout.start_offset()..][..(TAPS + 1) * FILTERS];
        let sums = self.sums(&Tensor::from_slice(kernel, (TAPS + 1, FILTERS), &Device::Cpu)?)?;
        let quarter = sums.len() / 4;
        let mut pooled = vec![0f32; quarter];
        for sums in sums.chunks_exact(quarter) {
            pooled.iter_mut().zip(sums).for_each(|(pooled, &sum)| *pooled = pooled.max(sum));
        }
        Ok((CpuStorage::F32(pooled), (quarter / FILTERS, FILTERS).into()))
    }

    /// Of several equal sums in a cell, the first has been the greatest.
    fn bwd(&self, kernel: &Tensor, pooled: &Tensor, slope: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let mut sums = self.sums(kernel)?;
        let pooled = pooled.flatten_all()?.to_vec1::<f32>()?;
        let mut slope = slope.flatten_all()?.to_vec1::<f32>()?;
        for (slope, &pooled) in slope.iter_mut().zip(&pooled) {
            *slope = if pooled > 0.0 { *slope } else { 0.0 };
        }
        for sums in sums.chunks_exact_mut(pooled.len()) {
            for ((sum, slope), &pooled) in sums.iter_mut().zip(&mut slope).zip(&pooled) {
                let chosen = *sum == pooled;
                *sum = if chosen { *slope } else { 0.0 };
                *slope = if chosen { 0.0 } else { *slope };
            }
        }
        let sums = Tensor::from_vec(sums, (self.patches.dim(0)?, FILTERS), &Device::Cpu)?;
        Ok(Some(self.patches.t()?.matmul(&sums)?))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Bars, upright for the first digit and lying for the second, each at a place and grey of its own.
    pub(in crate::experiment::mnist) fn bars(
        side: usize,
        count: usize,
        digits: [u8; 2],
    ) -> (Images, Vec<u8>) {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut images = Images { height: side, width: side, pixels: vec![] };
        let mut labels = vec![];
        for index in 0..count {
            let class = index % 2;
            let place = 1 + random.next_u32() as usize % (side - 2);
            let grey = 128 + (random.next_u32() % 128) as u8;
            let on = |row: usize, column: usize| [column, row][class] == place;
            let pixels = (0..side * side).map(|at| if on(at / side, at % side) { grey } else { 0 });
            images.pixels.extend(pixels);
            labels.push(digits[class]);
        }
        (images, labels)
    }

    fn task() -> Task {
        let (images, labels) = bars(9, 2 * CHUNK + 10, [3, 5]);
        Task::new(&images, &labels, [3, 5], usize::MAX).unwrap()
    }

    #[test]
    fn mnist_has_about_150_000_coordinates_in_six_groups() {
        let shape = Shape { height: 28, width: 28 };
        assert_eq!(shape.groups(), [200, 8, 147_456, 128, 256, 2]);
        let params = shape.fresh(1);
        assert_eq!(params.len(), 148_050);
        assert!(params[200..208].iter().all(|&bias| bias == 0.0));
        let bound = (6.0f32 / (1152.0 + 128.0)).sqrt();
        let hidden = &params[208..208 + 147_456];
        assert!(hidden.iter().all(|w| w.abs() <= bound) && hidden.iter().any(|w| w.abs() > 0.99 * bound));
        assert_ne!(params, shape.fresh(2));
    }

    #[test]
    fn the_convolution_is_the_convolution() {
        let (images, labels) = bars(8, 2, [0, 1]);
        let task = Task::new(&images, &labels, [0, 1], 2).unwrap();
        let kernel: Vec<f32> =
            (0..(TAPS + 1) * FILTERS).map(|i| ((i * 37 % 23) as f32 - 11.0) / 20.0).collect();
        let tensor = Tensor::from_slice(&kernel, (TAPS + 1, FILTERS), &Device::Cpu).unwrap();
        let pooled = tensor.apply_op1(PooledConvolution { patches: task.chunks[0].patches.clone() }).unwrap();
        let pooled = pooled.to_vec2::<f32>().unwrap();
        assert_eq!(pooled.len(), 2 * 4);
        for (image, pixels) in images.iter().enumerate() {
            for (cell, filter) in (0..4).flat_map(|cell| (0..FILTERS).map(move |filter| (cell, filter))) {
                let mut greatest = 0f64;
                for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let (row, column) = (cell / 2 * 2 + row, cell % 2 * 2 + column);
                    let mut sum = f64::from(kernel[TAPS * FILTERS + filter]);
                    for tap in 0..TAPS {
                        let pixel = pixels[(row + tap / KERNEL) * 8 + column + tap % KERNEL];
                        sum += f64::from(kernel[tap * FILTERS + filter]) * f64::from(pixel) / 255.0;
                    }
                    greatest = greatest.max(sum);
                }
                let found = f64::from(pooled[image * 4 + cell][filter]);
                assert!((found - greatest).abs() < 1e-5, "{found} {greatest}");
            }
        }
    }

    #[test]
    fn the_gradient_is_the_losses_slope() {
        let task = task();
        let params = task.shape().fresh(3);
        let loss = |params: &[f32]| {
            let mut gradient = vec![];
            let loss = task.loss(params, &mut ChaCha8Rng::seed_from_u64(5), &mut gradient).unwrap();
            (loss, gradient)
        };
        let (at, gradient) = loss(&params);
        assert!((at - 2f64.ln()).abs() < 0.5, "{at}");
        let mut start = 0;
        for size in task.shape().groups() {
            // Along the gradient within the group, where the slope is its length.
            let group = start..start + size;
            let length = gradient[group.clone()].iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let moved = |by: f64| {
                let mut params = params.clone();
                for i in group.clone() {
                    params[i] += (by * f64::from(gradient[i]) / length) as f32;
                }
                loss(&params).0
            };
            let slope = (moved(3e-3) - moved(-3e-3)) / 6e-3;
            assert!((slope / length - 1.0).abs() < 0.02, "{group:?}: {slope} is not {length}");
            start += size;
        }
        assert_eq!(start, params.len());
    }

    #[test]
    fn descent_learns_bars() {
        let task = task();
        let mut params = task.shape().fresh(3);
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut gradient = vec![];
        let before = task.error(&params).unwrap();
        for _ in 0..40 {
            task.loss(&params, &mut random, &mut gradient).unwrap();
            params.iter_mut().zip(&gradient).for_each(|(p, g)| *p -= 0.3 * g);
        }
        let after = task.error(&params).unwrap();
        assert!(before > 0.2 && after < 0.05, "{before} {after}");
    }

    #[test]
    fn what_cannot_be_a_task_is_refused() {
        let (images, labels) = bars(9, 4, [3, 5]);
        let refused = |digits, limit| Task::new(&images, &labels, digits, limit).unwrap_err().to_string();
        assert!(refused([3, 7], 10).contains("digit 7 does not occur among the first 2"));
        assert!(refused([3, 5], 1).contains("digit 5"));
        let small = Images { height: 5, width: 9, pixels: vec![0; 45] };
        assert!(Task::new(&small, &[3], [3, 5], 1).unwrap_err().to_string().contains("5x9"));
    }
}
