//! L2LBGDBGD: the optimiser that is itself learnt (Andrychowicz et al., "Learning to learn by gradient descent by gradient
//! descent", 2016), with which the paper compares itself.
//!
//! Contract: every coordinate has its own state in one small two-layer LSTM whose weights all coordinates share; it sees the
//! coordinate's gradient and says how far to move. [`train`] learns the weights on whole optimisations of the user's; candle
//! differentiates. The same seeds give the same bits, as long as the caller keeps candle to one thread.

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp2, DType, Device, Layout, Shape, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::learn::{Base, MetaGd};

/// Units in each of the two layers.
const UNITS: usize = 20;
/// Input, forget, candidate and output gate.
const GATES: usize = 4 * UNITS;
const CANDIDATE: usize = 2;
/// What a gradient becomes: its magnitude's logarithm and its sign.
const FEATURES: usize = 2;
/// `p` of the preprocessing: magnitudes from e^-p on are told by their logarithm.
const LOG_RANGE: f32 = 10.0;
/// What the LSTM answers is scaled by this.
const OUTPUT_SCALE: f64 = 0.1;
/// Coordinates that are moved together: few enough that their gates stay in the cache.
const CHUNK: usize = 1024;

/// Rows and columns of the weights: the first layer's, the second's, the output's. Each has a row for the bias.
const SHAPES: [(usize, usize); 3] =
    [(FEATURES + 1 + UNITS, GATES), (UNITS + 1 + UNITS, GATES), (UNITS + 1, 1)];
/// Which row that is.
const BIAS: [usize; 3] = [FEATURES, UNITS, UNITS];

/// The learnt optimiser's weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    weights: Vec<f32>,
}

impl Optimizer {
    /// Untrained, it stands still: Glorot-uniform weights, biases at zero but for the forget gates', at one, and an output of
    /// zero, so that training has nothing to undo before it begins.
    pub fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut symmetric = || f64::from(random.next_u32() >> 8) / f64::from(1 << 23) - 1.0;
        let mut weights = vec![];
        for ((rows, columns), bias) in SHAPES.into_iter().zip(BIAS) {
            let bound = (6.0 / (rows - 1 + columns) as f64).sqrt();
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                let forget = columns == GATES && (UNITS..2 * UNITS).contains(&column);
                weights.push(if row == bias {
                    f32::from(u8::from(forget))
                } else if columns == 1 {
                    0.0
                } else {
                    (bound * symmetric()) as f32
                });
            }
        }
        Optimizer { weights }
    }

    /// Begins to optimise so many coordinates.
    ///
    /// # Errors
    /// candle's.
    pub fn start(&self, coordinates: usize) -> Result<Descent> {
        let sizes = (0..coordinates).step_by(CHUNK).map(|from| CHUNK.min(coordinates - from));
        let chunks = sizes.map(State::new).collect::<candle_core::Result<_>>()?;
        Ok(Descent { lstm: self.lstm()?, chunks })
    }

    fn lstm(&self) -> candle_core::Result<Lstm> {
        let mut rest = self.weights.as_slice();
        let [first, second, output] = SHAPES.map(|(rows, columns)| {
            let (own, others) = rest.split_at(rows * columns);
            rest = others;
            Tensor::from_slice(own, (rows, columns), &Device::Cpu)
        });
        Ok(Lstm { weights: [first?, second?, output?] })
    }
}

/// An optimisation under way: the states of all coordinates.
pub struct Descent {
    lstm: Lstm,
    chunks: Vec<State>,
}

impl Descent {
    /// Moves `params`, knowing their gradient.
    ///
    /// # Errors
    /// candle's.
    pub fn step(&mut self, params: &mut [f32], gradient: &[f32]) -> Result<()> {
        let chunks = params.chunks_mut(CHUNK).zip(gradient.chunks(CHUNK));
        for ((params, gradient), state) in chunks.zip(&mut self.chunks) {
            let change = self.lstm.change(state, gradient.iter().copied())?.to_vec1::<f32>()?;
            params.iter_mut().zip(change).for_each(|(p, change)| *p += change);
        }
        Ok(())
    }
}

/// What the LSTM remembers of some coordinates: of each layer its outputs and, beside them, its cells.
#[derive(Clone)]
struct State([Tensor; 2]);

impl State {
    fn new(coordinates: usize) -> candle_core::Result<Self> {
        let zeros = Tensor::zeros((coordinates, 2 * UNITS), DType::F32, &Device::Cpu)?;
        Ok(State([zeros.clone(), zeros]))
    }

    fn detach(&mut self) {
        self.0 = self.0.each_ref().map(Tensor::detach);
    }
}

/// The two layers and the output, as candle has them.
struct Lstm {
    weights: [Tensor; 3],
}

impl Lstm {
    /// How far coordinates with these gradients go.
    fn change(
        &self,
        state: &mut State,
        gradient: impl ExactSizeIterator<Item = f32>,
    ) -> candle_core::Result<Tensor> {
        let [first, second, output] = &self.weights;
        let count = gradient.len();
        let inputs =
            Tensor::from_vec(gradient.flat_map(features).collect(), (count, FEATURES + 1), &Device::Cpu)?;
        let one = inputs.narrow(1, FEATURES, 1)?;
        let outputs = |layer: &Tensor| layer.narrow(1, 0, UNITS);
        let [lower, upper] = &mut state.0;
        let gates = Tensor::cat(&[&inputs, &outputs(lower)?], 1)?.matmul(first)?;
        *lower = gates.apply_op2(lower, Cells)?;
        let gates = Tensor::cat(&[&outputs(lower)?, &one, &outputs(upper)?], 1)?.matmul(second)?;
        *upper = gates.apply_op2(upper, Cells)?;
        let answer = Tensor::cat(&[&outputs(upper)?, &one], 1)?.matmul(output)?;
        answer.squeeze(1)? * OUTPUT_SCALE
    }
}

/// Preprocesses a gradient, and adds the one that the biases need.
fn features(gradient: f32) -> [f32; FEATURES + 1] {
    let magnitude = gradient.abs();
    if magnitude >= (-LOG_RANGE).exp() {
        [magnitude.ln() / LOG_RANGE, gradient.signum(), 1.0]
    } else {
        [-1.0, LOG_RANGE.exp() * gradient, 1.0]
    }
}

/// The nonlinear part of a layer: gates `[coordinates][GATES]` and the state before give the state after. In one piece, for
/// its parts would go through memory a dozen times.
struct Cells;

#[allow(clippy::needless_range_loop)] // through half a dozen arrays at once
impl CustomOp2 for Cells {
    fn name(&self) -> &'static str {
        "LSTM cells"
    }

    fn cpu_fwd(
        &self,
        gates: &CpuStorage,
        gates_layout: &Layout,
        before: &CpuStorage,
        before_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let gates = contiguous(gates, gates_layout)?;
        let before = contiguous(before, before_layout)?;
        let mut after = vec![0f32; before.len()];
        let rows = gates.as_chunks::<GATES>().0.iter().zip(before.as_chunks::<{ 2 * UNITS }>().0);
        for ((gates, before), after) in rows.zip(after.as_chunks_mut::<{ 2 * UNITS }>().0) {
            let (outputs, cells) = after.split_at_mut(UNITS);
            let [input, forget, candidate, output] = opened(gates);
            for unit in 0..UNITS {
                cells[unit] = forget[unit] * before[UNITS + unit] + input[unit] * candidate[unit];
            }
            for unit in 0..UNITS {
                outputs[unit] = output[unit] * tanh(cells[unit]);
            }
        }
        Ok((CpuStorage::F32(after), before_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gates: &Tensor,
        before: &Tensor,
        after: &Tensor,
        slope: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let (mut gates_slope, mut before_slope) = (values(gates)?, values(before)?);
        let (after, slope) = (values(after)?, values(slope)?);
        let own = gates_slope.as_chunks_mut::<GATES>().0.iter_mut();
        let rows = own.zip(before_slope.as_chunks_mut::<{ 2 * UNITS }>().0);
        let given = after.as_chunks::<{ 2 * UNITS }>().0.iter().zip(slope.as_chunks::<{ 2 * UNITS }>().0);
        for ((gates, before), (after, slope)) in rows.zip(given) {
            let [inputs, forgets, candidates, outputs] = opened(gates);
            for unit in 0..UNITS {
                let (input, forget) = (inputs[unit], forgets[unit]);
                let (candidate, output) = (candidates[unit], outputs[unit]);
                let shown = tanh(after[UNITS + unit]);
                let cell = slope[UNITS + unit] + slope[unit] * output * (1.0 - shown * shown);
                gates[unit] = cell * candidate * input * (1.0 - input);
                gates[UNITS + unit] = cell * before[UNITS + unit] * forget * (1.0 - forget);
                gates[2 * UNITS + unit] = cell * input * (1.0 - candidate * candidate);
                gates[3 * UNITS + unit] = slope[unit] * shown * output * (1.0 - output);
                before[UNITS + unit] = cell * forget;
                before[unit] = 0.0;
            }
        }
        Ok((
            Some(Tensor::from_vec(gates_slope, gates.shape(), &Device::Cpu)?),
            Some(Tensor::from_vec(before_slope, before.shape(), &Device::Cpu)?),
        ))
    }
}

fn contiguous<'s>(storage: &'s CpuStorage, layout: &Layout) -> candle_core::Result<&'s [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => candle_core::bail!("the LSTM's cells want contiguous tensors"),
    }
}

/// How far the gates are open, all of a coordinate's: input, forget, candidate, output.
fn opened(gates: &[f32; GATES]) -> [[f32; UNITS]; 4] {
    let mut opened = [[0f32; UNITS]; 4];
    let (units, _) = gates.as_chunks::<UNITS>();
    for ((opened, gates), gate) in opened.iter_mut().zip(units).zip(0..) {
        if gate == CANDIDATE {
            opened.iter_mut().zip(gates).for_each(|(opened, &gate)| *opened = tanh(gate));
        } else {
            opened.iter_mut().zip(gates).for_each(|(opened, &gate)| *opened = sigmoid(gate));
        }
    }
    opened
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    2.0 * sigmoid(2.0 * x) - 1.0
}

/// 1 / (1 + e^-x) to some 1e-7, without a branch or a call, so that it vectorises.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    // 2^t with t = whole + part, part in [-1/2, 1/2]: adding 1.5 · 2^23 rounds to a whole number, which then stands in the
    // sum's lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let t = (-std::f32::consts::LOG2_E * x).clamp(-100.0, 100.0);
    let rounded = t + ROUND;
    let part = (t - (rounded - ROUND)) * std::f32::consts::LN_2;
    let series = 1.0
        + part * (1.0 + part * (1.0 / 2.0 + part * (1.0 / 6.0 + part * (1.0 / 24.0 + part * (1.0 / 120.0)))));
    let whole = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    1.0 / (1.0 + series * f32::from_bits(whole.wrapping_add(127) << 23))
}

/// What to train on, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Training {
    /// Optimisations that are learnt from; after every second one the optimiser is judged on another.
    pub rounds: usize,
    /// Iterations of each.
    pub iterations: usize,
    /// Iterations through which is differentiated at a time.
    pub unroll: usize,
    /// Adam's rate for the weights.
    pub rate: f64,
    /// So many coordinates, drawn anew in each round, teach; the others are moved along with them.
    pub teachers: usize,
    /// Of weights and draws.
    pub seed: u64,
}

/// The loss of parameters, and their gradient into the list.
pub type Objective<'a> = dyn FnMut(&[f32], &mut Vec<f32>) -> Result<f64> + 'a;

/// Something to optimise: where to start, and the objective.
pub type Problem<'a> = (Vec<f32>, Box<Objective<'a>>);

/// What training came to.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The weights that validated best.
    pub optimizer: Optimizer,
    /// Mean loss over the validating optimisation, untrained and after every second round.
    pub validations: Vec<f64>,
}

/// Trains an optimiser: `problem(round)` is learnt from, `problem(rounds)` judges.
/// The loss that is differentiated is the objective's sum over the iterations; that a gradient depends on the weights
/// through the parameters before is left out, as its authors do.
///
/// # Errors
/// candle's and the objective's.
pub fn train<'a>(training: &Training, problem: impl Fn(usize) -> Problem<'a>) -> Result<Trained> {
    ensure!(training.unroll > 0, "differentiating through no iteration learns nothing");
    let mut optimizer = Optimizer::new(training.seed);
    let judge = |optimizer: &Optimizer| {
        let (mut params, mut objective) = problem(training.rounds);
        mean_loss(optimizer, &mut params, &mut objective, training.iterations)
    };
    let mut validations = vec![judge(&optimizer)?];
    let mut best = (validations[0], optimizer.clone());
    let mut adam = MetaGd::new(Base::Adam, training.rate, 10.0, vec![(optimizer.weights.len(), None)]);
    let mut random = ChaCha8Rng::seed_from_u64(training.seed);
    random.set_stream(1);
    for round in 0..training.rounds {
        let (mut params, mut objective) = problem(round);
        let teachers = draw(params.len(), training.teachers, &mut random);
        let mut lesson = Lesson::new(&optimizer, teachers, params.len())?;
        objective(&params, &mut lesson.gradient)?;
        for from in (0..training.iterations).step_by(training.unroll) {
            let some = training.unroll.min(training.iterations - from);
            let slope = lesson.unroll(&optimizer, &mut params, &mut objective, some)?;
            adam.step(&mut optimizer.weights, &slope);
        }
        if round % 2 == 1 {
            let loss = judge(&optimizer)?;
            validations.push(loss);
            // A loss that is not a number is no better.
            if loss < best.0 {
                best = (loss, optimizer.clone());
            }
        }
    }
    Ok(Trained { optimizer: best.1, validations })
}

fn mean_loss(
    optimizer: &Optimizer,
    params: &mut [f32],
    objective: &mut Objective,
    iterations: usize,
) -> Result<f64> {
    let mut descent = optimizer.start(params.len())?;
    let (mut gradient, mut sum) = (vec![], 0.0);
    for _ in 0..iterations {
        sum += objective(params, &mut gradient)?;
        descent.step(params, &gradient)?;
    }
    Ok(sum / iterations.max(1) as f64)
}

/// `wanted` of `0..count`, ascending; all of them if there are no more.
fn draw(count: usize, wanted: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut left = wanted.min(count);
    (0..count)
        .filter(|index| {
            let take = random.next_u64() % ((count - index) as u64) < left as u64;
            left -= usize::from(take);
            take
        })
        .collect()
}

/// An optimisation that is learnt from.
struct Lesson {
    /// Which coordinates teach.
    teachers: Vec<usize>,
    state: State,
    /// All coordinates, unless all of them teach.
    all: Descent,
    /// At the present parameters.
    gradient: Vec<f32>,
}

impl Lesson {
    fn new(optimizer: &Optimizer, teachers: Vec<usize>, coordinates: usize) -> Result<Self> {
        let state = State::new(teachers.len())?;
        let all = optimizer.start(if teachers.len() < coordinates { coordinates } else { 0 })?;
        Ok(Lesson { teachers, state, all, gradient: vec![] })
    }

    /// Goes through some iterations. Returns the slope, with respect to the weights, of the sum of the losses after each of
    /// them, as far as the teachers have a part in it: a loss changes by its gradient times how far the weights have moved
    /// the parameters.
    fn unroll(
        &mut self,
        optimizer: &Optimizer,
        params: &mut [f32],
        objective: &mut Objective,
        iterations: usize,
    ) -> Result<Vec<f32>> {
        let plain = optimizer.lstm()?;
        let [first, second, output] = plain.weights.each_ref().map(Var::from_tensor);
        let vars = [first?, second?, output?];
        let lstm = Lstm { weights: vars.each_ref().map(|var| var.as_tensor().clone()) };
        self.all.lstm = plain;
        self.state.detach();
        let count = self.teachers.len();
        let mut moved = Tensor::zeros(count, DType::F32, &Device::Cpu)?;
        let mut sum = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        for _ in 0..iterations {
            let change = lstm.change(&mut self.state, self.teachers.iter().map(|&at| self.gradient[at]))?;
            let before: Vec<f32> = self.teachers.iter().map(|&at| params[at]).collect();
            self.all.step(params, &self.gradient)?;
            for ((&at, before), change) in self.teachers.iter().zip(before).zip(change.to_vec1::<f32>()?) {
                params[at] = before + change;
            }
            objective(params, &mut self.gradient)?;
            moved = (moved + change)?;
            let slope = self.teachers.iter().map(|&at| self.gradient[at]).collect();
            sum = (sum + (&moved * Tensor::from_vec(slope, count, &Device::Cpu)?)?.sum_all()?)?;
        }
        let slopes = sum.backward()?;
        let mut all = Vec::with_capacity(optimizer.weights.len());
        for var in &vars {
            match slopes.get(var) {
                Some(slope) => all.extend(slope.flatten_all()?.to_vec1::<f32>()?),
                None => all.resize(all.len() + var.elem_count(), 0.0),
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sum w (x - 1)²/2` over coordinates whose curvatures `w` differ, from a start of the seed's.
    fn quadratic(coordinates: usize, seed: u64) -> Problem<'static> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut uniform = || (random.next_u32() >> 8) as f32 / (1 << 24) as f32;
        let curvatures: Vec<f32> = (0..coordinates).map(|_| 0.5 + uniform()).collect();
        let start = (0..coordinates).map(|_| 4.0 * uniform() - 2.0).collect();
        let objective = move |params: &[f32], gradient: &mut Vec<f32>| {
            gradient.clear();
            gradient.extend(params.iter().zip(&curvatures).map(|(x, w)| w * (x - 1.0)));
            let loss = |(x, w): (&f32, &f32)| 0.5 * f64::from(*w) * f64::from(x - 1.0).powi(2);
            Ok(params.iter().zip(&curvatures).map(loss).sum())
        };
        (start, Box::new(objective))
    }

    /// One that moves.
    fn unsteady() -> Optimizer {
        let mut optimizer = Optimizer::new(4);
        let outputs = optimizer.weights.len() - SHAPES[2].0;
        for (at, weight) in optimizer.weights[outputs..].iter_mut().enumerate() {
            *weight = ((at * 7 % 11) as f32 - 5.0) / 10.0;
        }
        optimizer
    }

    #[test]
    fn sigmoid_is_the_sigmoid() {
        for step in -4000..=4000 {
            let x = step as f32 * 0.01;
            let expected = 1.0 / (1.0 + (-f64::from(x)).exp());
            let error = (f64::from(sigmoid(x)) - expected).abs();
            assert!(error < 3e-6, "{x}: {error:e}");
        }
        assert_eq!((sigmoid(f32::INFINITY), sigmoid(f32::NEG_INFINITY) < 1e-29), (1.0, true));
        assert!(sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn gradients_are_told_by_logarithm_and_sign_and_join_without_a_seam() {
        assert_eq!(features(1.0), [0.0, 1.0, 1.0]);
        assert_eq!(features(-(-5f32).exp())[1], -1.0);
        assert!((features(-(-5f32).exp())[0] + 0.5).abs() < 1e-6);
        assert_eq!(features(0.0), [-1.0, 0.0, 1.0]);
        let (below, above) = (features(0.9999 * (-10f32).exp()), features(1.0001 * (-10f32).exp()));
        assert!(below.iter().zip(above).all(|(below, above)| (below - above).abs() < 1e-3));
    }

    /// Replays an unroll with other weights along the gradients of the first: what the slope that leaves out the gradients'
    /// own dependence is the slope of.
    #[test]
    fn the_slope_is_that_of_the_losses() {
        let (coordinates, iterations) = (3, 6);
        let optimizer = unsteady();
        let (start, mut objective) = quadratic(coordinates, 1);
        // The gradients that the optimiser sees, at the parameters that it passes.
        let (mut params, mut descent) = (start.clone(), optimizer.start(coordinates).unwrap());
        let mut seen = vec![];
        for _ in 0..iterations {
            let mut gradient = vec![];
            objective(&params, &mut gradient).unwrap();
            descent.step(&mut params, &gradient).unwrap();
            seen.push(gradient);
        }
        let mut losses = |weights: Vec<f32>| {
            let (mut params, mut sum) = (start.clone(), 0.0);
            let mut descent = Optimizer { weights }.start(coordinates).unwrap();
            for gradient in &seen {
                descent.step(&mut params, gradient).unwrap();
                sum += objective(&params, &mut vec![]).unwrap();
            }
            sum
        };
        let (mut params, mut objective) = quadratic(coordinates, 1);
        let mut lesson = Lesson::new(&optimizer, vec![0, 1, 2], coordinates).unwrap();
        objective(&params, &mut lesson.gradient).unwrap();
        let slope = lesson.unroll(&optimizer, &mut params, &mut objective, iterations).unwrap();
        assert_eq!(slope.len(), optimizer.weights.len());
        // Layer by layer, gate by gate, along the slope, where it is its own length.
        let mut from = 0;
        for (rows, columns) in SHAPES {
            let width = if columns == GATES { UNITS } else { columns };
            for gate in 0..columns / width {
                let own: Vec<usize> = (0..rows * columns)
                    .filter(|at| at % columns / width == gate)
                    .map(|at| from + at)
                    .collect();
                let length = own.iter().map(|&at| f64::from(slope[at]).powi(2)).sum::<f64>().sqrt();
                let mut moved = |by: f64| {
                    let mut weights = optimizer.weights.clone();
                    for &at in &own {
                        weights[at] += (by * f64::from(slope[at]) / length) as f32;
                    }
                    losses(weights)
                };
                let by = if columns == GATES { 0.05 } else { 0.01 };
                let found = (moved(by) - moved(-by)) / (2.0 * by);
                assert!(
                    (found / length - 1.0).abs() < 0.02,
                    "{rows}x{columns}, gate {gate}: {found} {length}"
                );
            }
            from += rows * columns;
        }
    }

    #[test]
    fn coordinates_that_do_not_teach_move_all_the_same() {
        let optimizer = unsteady();
        let moved = |teachers: Vec<usize>| {
            let (mut params, mut objective) = quadratic(5, 1);
            let mut lesson = Lesson::new(&optimizer, teachers, 5).unwrap();
            objective(&params, &mut lesson.gradient).unwrap();
            lesson.unroll(&optimizer, &mut params, &mut objective, 4).unwrap();
            params
        };
        let (some, all) = (moved(vec![1, 4]), moved(vec![0, 1, 2, 3, 4]));
        assert!(some.iter().zip(&all).all(|(some, all)| (some - all).abs() < 1e-6), "{some:?} {all:?}");
        assert_ne!(all, quadratic(5, 1).0);
    }

    #[test]
    fn teachers_are_drawn_without_repetition() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let drawn = draw(1000, 100, &mut random);
        assert_eq!(drawn.len(), 100);
        assert!(drawn.is_sorted_by(|a, b| a < b) && drawn[0] < 100 && drawn[99] > 900);
        assert_eq!(draw(3, 10, &mut random), [0, 1, 2]);
    }

    #[test]
    fn training_beats_no_training_on_quadratics() {
        let training = Training { rounds: 16, iterations: 40, unroll: 20, rate: 0.01, teachers: 40, seed: 2 };
        let trained = train(&training, |round| quadratic(40, round as u64)).unwrap();
        assert_eq!(trained.validations.len(), 9);
        let unseen = |optimizer: &Optimizer| {
            let (mut params, mut objective) = quadratic(40, 999);
            mean_loss(optimizer, &mut params, &mut objective, 40).unwrap()
        };
        let (before, after) = (unseen(&Optimizer::new(training.seed)), unseen(&trained.optimizer));
        assert!(after < 0.5 * before, "{before} {after} {:?}", trained.validations);
        let again = train(&training, |round| quadratic(40, round as u64)).unwrap();
        assert_eq!(again.optimizer, trained.optimizer);
    }
}
