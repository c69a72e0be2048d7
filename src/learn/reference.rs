//! The paper's step by its definitions, in double precision and in the plainest loops: what the kernels are held to.

use std::ops::Range;

use proptest::prelude::*;

use super::Memory;
use super::centres::log_spaced;
use super::kernel::InstructionSet;
use super::memory::{MAX_RATE, MIN_RATE, MemoryOptimizer, MemorySettings, Signal, Spacing};
use super::network::{Gradient, Network, Workspace};
use super::optimiser::{Base, MetaGd};
use crate::config::Config;

/// One memory: every Gaussian at every coordinate.
struct Definition {
    settings: MemorySettings,
    centres: Vec<(f64, f64)>,
    v: Vec<f64>,
    previous: Vec<f64>,
}

impl Definition {
    fn new(settings: &MemorySettings, rate: f64, size: usize) -> Self {
        let centres: Vec<_> = match settings.spacing {
            Spacing::Linear => {
                let spacing = 2.0 * settings.clip / (settings.models - 1) as f64;
                (0..settings.models)
                    .map(|k| (-settings.clip + k as f64 * spacing, settings.width * spacing))
                    .collect()
            }
            Spacing::Log => {
                let (centres, sigmas) = log_spaced(settings.models, settings.clip, settings.width);
                centres.into_iter().zip(sigmas).collect()
            }
        };
        let v = vec![rate; centres.len()];
        Definition { settings: *settings, v, centres, previous: vec![0.0; size] }
    }

    fn activations(&self, g: f64) -> Vec<f64> {
        let gaussian = |&(c, s): &(f64, f64)| (-(g - c) * (g - c) / (2.0 * s * s)).exp();
        self.centres.iter().map(gaussian).collect()
    }

    fn step(&mut self, params: &mut [f64], gradient: &[f64]) {
        self.step_along(params, gradient, gradient);
    }

    fn step_along(&mut self, params: &mut [f64], feature: &[f64], direction: &[f64]) {
        let clip = self.settings.clip;
        let clipped: Vec<f64> = feature.iter().map(|g| g.clamp(-clip, clip)).collect();
        let mut u = vec![0.0; self.v.len()];
        for (g, before) in clipped.iter().zip(&self.previous) {
            let product = g * before;
            let h = match self.settings.signal {
                Signal::Product => product.clamp(-1.0, 1.0),
                Signal::Sign if product == 0.0 => 0.0,
                Signal::Sign => product.signum(),
            };
            for (u, a) in u.iter_mut().zip(self.activations(*before)) {
                *u += a * h / clipped.len() as f64;
            }
        }
        for (v, u) in self.v.iter_mut().zip(u) {
            *v = (*v + self.settings.rate * u).clamp(MIN_RATE, MAX_RATE);
        }
        for ((param, g), direction) in params.iter_mut().zip(&clipped).zip(direction) {
            let a = self.activations(*g);
            let weighted: f64 = a.iter().zip(&self.v).map(|(a, v)| a * v).sum();
            *param -= weighted / a.iter().sum::<f64>() * direction.clamp(-clip, clip);
        }
        self.previous = clipped;
    }
}

/// Adam's first and second moments.
#[derive(Clone, Default)]
struct Moments(Vec<f64>, Vec<f64>);

impl Moments {
    /// What a memory looks up, and where to go.
    fn follow(&mut self, gradient: &[f64]) -> (Vec<f64>, Vec<f64>) {
        self.0.resize(gradient.len(), 0.0);
        self.1.resize(gradient.len(), 0.0);
        for ((m, s), g) in self.0.iter_mut().zip(&mut self.1).zip(gradient) {
            (*m, *s) = (0.9 * *m + 0.1 * g, 0.999 * *s + 0.001 * g * g);
        }
        let direction = self.0.iter().zip(&self.1).map(|(m, s)| m / (s.sqrt() + 1e-8)).collect();
        (self.0.clone(), direction)
    }
}

/// The gradient of the mean squared error, and the outputs, by the chain rule, sample by sample.
fn backpropagation(sizes: &[usize], params: &[f64], inputs: &[f64], targets: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut gradient = vec![0.0; params.len()];
    let mut outputs = vec![];
    for (input, target) in inputs.chunks(sizes[0]).zip(targets) {
        let mut activations = vec![input.to_vec()];
        let mut start = 0;
        let mut starts = vec![];
        for (l, pair) in sizes.windows(2).enumerate() {
            let below = &activations[l];
            let bias = start + pair[0] * pair[1];
            let sums = (0..pair[1]).map(|o| {
                params[bias + o]
                    + (0..pair[0]).map(|i| below[i] * params[start + i * pair[1] + o]).sum::<f64>()
            });
            let last = l + 2 == sizes.len();
            let above = sums.map(|sum| if last { sum } else { sum.max(0.0) }).collect();
            activations.push(above);
            starts.push(start);
            start = bias + pair[1];
        }
        let output = activations[sizes.len() - 1][0];
        outputs.push(output);
        let mut delta = vec![2.0 * (output - target) / targets.len() as f64];
        for (l, pair) in sizes.windows(2).enumerate().rev() {
            let (start, bias) = (starts[l], starts[l] + pair[0] * pair[1]);
            let mut below = vec![0.0; pair[0]];
            for o in 0..pair[1] {
                gradient[bias + o] += delta[o];
                for i in 0..pair[0] {
                    gradient[start + i * pair[1] + o] += activations[l][i] * delta[o];
                    if activations[l][i] > 0.0 {
                        below[i] += params[start + i * pair[1] + o] * delta[o];
                    }
                }
            }
            delta = below;
        }
    }
    (outputs, gradient)
}

fn any_memory() -> impl Strategy<Value = MemorySettings> {
    (
        prop_oneof![4 => Just(Spacing::Linear), 1 => Just(Spacing::Log)],
        prop_oneof![Just(Signal::Product), Just(Signal::Sign)],
        2usize..=200,
        prop_oneof![Just(0.5f64), 0.1f64..3.0],
        prop_oneof![Just(2.0f64), 0.05f64..20.0],
        0.0f64..0.5,
    )
        .prop_map(|(spacing, signal, models, width, clip, rate)| {
            let optimizer = MemoryOptimizer::Gd;
            let window = None;
            MemorySettings { models, spacing, width, clip, rate, signal, optimizer, window }.windowed()
        })
}

/// Zero, small, of the size of the clip, beyond it.
fn any_gradient() -> impl Strategy<Value = f32> {
    let sign = prop_oneof![Just(-1.0f32), Just(1.0)];
    let exponent = prop_oneof![3 => -20.0f32..-3.0, 2 => -3.0f32..1.0, 1 => 1.0f32..8.0];
    prop_oneof![1 => Just(0.0f32), 4 => (sign, exponent).prop_map(|(sign, e)| sign * e.exp2())]
}

/// The largest magnitude.
fn most(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |most, value| most.max(value.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any number of models, any width, spacing, clip and gradients: the memory pass is its definition, to single precision.
    /// Beside one memory there is another, whose gradients come in another unit, and a group that has none.
    #[test]
    fn memories_agree_with_their_definition(
        settings in any_memory(),
        base in prop_oneof![3 => Just(Base::Gd), 1 => Just(Base::Adam)],
        size in 1usize..70,
        gradients in prop::collection::vec(prop::collection::vec(any_gradient(), 70), 6),
    ) {
        let other = MemorySettings { models: settings.models / 2 + 2, width: 1.3 * settings.width, ..settings };
        let parts = [0..size, 0..5, 60..63];
        for set in InstructionSet::available() {
            let memory = |settings| Some(Memory::<f32>::new(settings, 0.03));
            let groups = vec![(size, memory(&settings)), (5, memory(&other)), (3, None)];
            let mut optimiser = MetaGd::<f32>::new(base, 0.03, settings.clip, groups);
            optimiser.set_instructions(set);
            let rate = f64::from(0.03f32);
            let mut definitions = [Definition::new(&settings, rate, size), Definition::new(&other, rate, 5)];
            let mut moments: [Moments; 2] = Default::default();
            let (mut params, mut expected) = (vec![0.0f32; size + 8], vec![0.0f64; size + 8]);
            for gradient in &gradients {
                let gradient: Vec<f32> = parts.iter().flat_map(|part| &gradient[part.clone()]).copied().collect();
                let wide: Vec<f64> = gradient.iter().map(|g| f64::from(*g)).collect();
                let update = optimiser.step(&mut params, &gradient);
                prop_assert!(update.finite && (0.0..1.0001).contains(&update.mean_rate()), "{:?}: {:?}", set, update);
                let ranges = [0..size, size..size + 5];
                for ((definition, moments), range) in definitions.iter_mut().zip(&mut moments).zip(ranges) {
                    let (wide, expected) = (&wide[range.clone()], &mut expected[range.clone()]);
                    let (feature, direction) = moments.follow(wide);
                    match base {
                        Base::Gd => definition.step(expected, wide),
                        Base::Adam => definition.step_along(expected, &feature, &direction),
                    }
                    let settings = &definition.settings;
                    // Where rounding decides on which side of a narrow Gaussian's flank a gradient lies, it is magnified.
                    let flank = (0.5 / settings.width).max(1.0).powi(2);
                    let scale = settings.clip.max(if base == Base::Adam { 1.0 } else { 0.0 })
                        * most(definition.v.iter().copied())
                        + most(expected.iter().copied());
                    for (p, e) in params[range].iter().zip(expected) {
                        let off = (f64::from(*p) - *e).abs();
                        prop_assert!(off <= 1e-5 * flank * scale, "{:?}: {} not {}", set, p, e);
                    }
                }
                for (group, definition) in optimiser.groups().zip(&definitions) {
                    let settings = &definition.settings;
                    let flank = (0.5 / settings.width).max(1.0).powi(2);
                    // Adam's moments are rounded before they are looked up, in narrow Gaussians as well.
                    let allowed = if base == Base::Adam { 1e-5 } else { 1e-6 };
                    for (v, e) in group.memory().unwrap().rates().iter().zip(&definition.v) {
                        let off = (f64::from(*v) - e).abs();
                        prop_assert!(off <= allowed * flank * (e + settings.rate), "{:?}: {} not {}", set, v, e);
                    }
                }
                if base == Base::Gd {
                    for (p, (e, g)) in params[size + 5..].iter().zip(expected[size + 5..].iter_mut().zip(&wide[size + 5..])) {
                        *e -= rate * g.clamp(-settings.clip, settings.clip);
                        prop_assert!((f64::from(*p) - *e).abs() <= 1e-5 * settings.clip, "{:?}: {} not {}", set, p, e);
                    }
                }
            }
        }
    }

    /// Any shape and batch, units that fall silent and wake up: the networks' steps are those of the definition.
    #[test]
    fn networks_learn_by_the_definition(
        inputs in 1usize..40,
        hidden in prop::collection::vec(1usize..70, 0..4),
        samples in 1usize..40,
        groups in prop_oneof![Just("tensor"), Just("layer")],
        bias in -1.5f64..0.5,
        seed in any::<i64>(),
        models in 2usize..60,
    ) {
        for set in InstructionSet::available() {
            let config = Config {
                hidden: hidden.clone(),
                memory_groups: groups.into(),
                memory_models: models,
                learner: "metagd".into(),
                ..Config::default()
            };
            let mut network = Network::<f32>::new(inputs, &hidden, seed as u64, 0);
            let mut params = network.params();
            for layer in &network.layers()[..hidden.len()] {
                params[layer.bias.clone()].fill(bias as f32);
            }
            network.set_params(&params);
            network.set_instructions(set);
            let mut optimiser = MetaGd::for_network(&config, &network, &mut None);
            optimiser.set_instructions(set);
            // Another one learns with the same buffers, as the next joint does; and some of its steps are refused.
            let mut neighbour = Network::<f32>::new(inputs, &hidden, seed as u64, 1);
            let mut neighbours = optimiser.clone();
            let mut gradient = optimiser.gradient();
            let mut workspace = Workspace::new(&network, samples);

            let mut expected: Vec<f64> = params.iter().map(|p| f64::from(*p)).collect();
            let mut ranges: Vec<Range<usize>> = vec![];
            for layer in network.layers() {
                match groups {
                    "layer" => ranges.push(layer.weights.start..layer.bias.end),
                    _ => ranges.extend([layer.weights.clone(), layer.bias.clone()]),
                }
            }
            let settings = MemorySettings::from_config(&config, MemoryOptimizer::Gd);
            let mut memories: Vec<(Range<usize>, Definition)> = ranges
                .into_iter()
                .map(|range| (range.clone(), Definition::new(&settings, f64::from(config.rate as f32), range.len())))
                .collect();
            let sizes = network.sizes().to_vec();
            for step in 0..5 {
                // Every batch somewhere else, so that other units are live.
                let x: Vec<f32> = (0..samples * inputs)
                    .map(|i| ((i % inputs) as f32 * 1.7 + step as f32 * 2.0 + 0.01 * (i / inputs) as f32).sin())
                    .collect();
                let targets: Vec<f32> = (0..samples).map(|s| (s as f32 * 0.3 + step as f32).cos()).collect();
                let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
                let (outputs, slope) = backpropagation(&sizes, &expected, &wide(&x), &wide(&targets));
                for (range, memory) in &mut memories {
                    memory.step(&mut expected[range.clone()], &slope[range.clone()]);
                }
                for (o, e) in network.forward(&x, &mut workspace).iter().zip(&outputs) {
                    prop_assert!((f64::from(*o) - e).abs() < 2e-5 * (1.0 + e.abs()), "{:?} step {}: {} not {}", set, step, o, e);
                }
                network.gather_live(&mut workspace, optimiser.previous_mut());
                network.backward(&targets, &mut workspace, &mut gradient);
                optimiser.step_blocks(network.blocks_mut(), &mut gradient);
                let others: Vec<f32> = x.iter().map(|x| 30.0 * x).collect();
                for target in [1e3, f32::NAN, f32::INFINITY] {
                    neighbour.forward(&others, &mut workspace);
                    neighbour.gather_live(&mut workspace, neighbours.previous_mut());
                    neighbour.backward(&vec![target; samples], &mut workspace, &mut gradient);
                    let update = neighbours.step_blocks(neighbour.blocks_mut(), &mut gradient);
                    prop_assert_eq!(update.finite, target.is_finite());
                }
                let off = network.params().iter().zip(&expected).map(|(p, e)| (f64::from(*p) - e).powi(2)).sum::<f64>().sqrt();
                // A unit within rounding of its kink may be on in one and off in the other.
                prop_assert!(off < 2e-4, "{:?} step {}: weights off by {:e}", set, step, off);
            }
            for (group, (_, memory)) in optimiser.groups().zip(&memories) {
                for (v, e) in group.memory().unwrap().rates().iter().zip(&memory.v) {
                    prop_assert!((f64::from(*v) - e).abs() < 5e-5 * (e + config.memory_rate), "{:?}: {} not {}", set, v, e);
                }
            }
        }
    }
}

#[test]
fn units_change_places_and_nobody_sees_it() {
    let mut network = Network::<f32>::new(3, &[40, 40], 5, 0);
    let before = network.params();
    let mut workspace = Workspace::new(&network, 2);
    let outputs = network.forward(&[0.3, -0.2, 0.9, 0.3, -0.2, 0.8], &mut workspace).to_vec();
    let mut previous = Gradient::new(network.matrices(), false, 2.0, 1.0);
    network.gather_live(&mut workspace, &mut previous);
    assert_eq!(network.params(), before);
    let moved = format!("{network:?}");
    network.sort_units();
    assert_ne!(format!("{network:?}"), moved, "nothing had changed places");
    assert_eq!(network.params(), before);
    let again = network.forward(&[0.3, -0.2, 0.9, 0.3, -0.2, 0.8], &mut workspace);
    for (a, b) in again.iter().zip(&outputs) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
}

/// Sixteen units that are silent in the middle of a layer: nothing of them, nor of what a buffer held before, is in a gradient.
#[test]
fn a_block_of_silent_units_in_the_middle_has_no_gradient() {
    for (set, dense) in InstructionSet::available().into_iter().flat_map(|set| [(set, true), (set, false)]) {
        let mut network = Network::<f32>::new(3, &[48, 48], 5, 0);
        let mut params = network.params();
        for layer in &network.layers()[..2] {
            for (unit, bias) in params[layer.bias.clone()].iter_mut().enumerate() {
                *bias = if (16..32).contains(&unit) { -100.0 } else { 1.0 };
            }
        }
        network.set_params(&params);
        network.set_instructions(set);
        let mut workspace = Workspace::new(&network, 2);
        let (x, targets) = ([0.3f32, -0.2, 0.9, 0.3, -0.2, 0.8], [0.5f32, 0.4]);
        let mut gradient = Gradient::new(network.matrices(), dense, 2.0, 1.0);
        gradient.values.as_flattened_mut().fill(1e3);
        network.forward(&x, &mut workspace);
        network.backward(&[f32::NAN; 2], &mut workspace, &mut gradient);
        assert!(!gradient.finite);
        network.forward(&x, &mut workspace);
        network.backward(&targets, &mut workspace, &mut gradient);
        assert!(gradient.finite);
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let (_, slope) = backpropagation(network.sizes(), &wide(&params), &wide(&x), &wide(&targets));
        for (matrix, live) in network.matrices().iter().zip(&gradient.live) {
            for row in (0..matrix.rows).filter(|row| live.rows[row / 16] >> (row % 16) & 1 == 0) {
                gradient.values[matrix.range()][row * matrix.width.blocks..][..matrix.width.blocks]
                    .as_flattened_mut()
                    .fill(0.0);
            }
        }
        for (g, e) in network.outside(&gradient.values).iter().zip(slope) {
            let e = e.clamp(-2.0, 2.0);
            assert!((f64::from(*g) - e).abs() < 1e-5, "{set:?}, dense {dense}: {g} not {e}");
        }
    }
}
