//! The reference implementation: readable, portable, and fast enough.

use crate::learn::centres::Centres;
use crate::learn::{Real, Signal};

/// `to += scale · from`.
#[inline]
fn add_scaled<T: Real>(to: &mut [T], scale: T, from: &[T]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to += scale * from;
    }
}

/// The inner product, in eight partial sums so that it vectorises.
#[inline]
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::zero(); 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest = a_rest.iter().zip(b_rest).fold(T::zero(), |sum, (&a, &b)| sum + a * b);
    sums.iter().fold(rest, |sum, &lane| sum + lane)
}

/// One dense layer on a batch: `out[s] = bias + input[s] · weights`, then ReLU if `relu`.
///
/// `weights` is `[inputs][outputs]`, `input` `[samples][inputs]`, `out` `[samples][outputs]`; `outputs` is the length
/// of `bias`.
pub(in crate::learn) fn forward<T: Real>(weights: &[T], bias: &[T], input: &[T], out: &mut [T], relu: bool) {
    let outputs = bias.len();
    let inputs = weights.len() / outputs;
    for (input, out) in input.chunks_exact(inputs).zip(out.chunks_exact_mut(outputs)) {
        out.copy_from_slice(bias);
        for (&x, row) in input.iter().zip(weights.chunks_exact(outputs)) {
            if x != T::zero() {
                add_scaled(out, x, row);
            }
        }
        if relu {
            for value in out {
                *value = if *value > T::zero() { *value } else { T::zero() };
            }
        }
    }
}

/// The gradient of one dense layer on a batch, given `delta`, the loss's gradient by the layer's sums
/// (`[samples][outputs]`).
///
/// Writes the gradients by weights and bias. With `delta_input` (`[samples][inputs]`), writes the loss's gradient by the
/// sums of the layer below, whose ReLU outputs are `input`.
pub(in crate::learn) fn backward<T: Real>(
    weights: &[T],
    input: &[T],
    delta: &[T],
    weights_gradient: &mut [T],
    bias_gradient: &mut [T],
    delta_input: Option<&mut [T]>,
) {
    let outputs = bias_gradient.len();
    let inputs = weights.len() / outputs;
    weights_gradient.fill(T::zero());
    bias_gradient.fill(T::zero());
    for (input, delta) in input.chunks_exact(inputs).zip(delta.chunks_exact(outputs)) {
        add_scaled(bias_gradient, T::one(), delta);
        for (&x, row) in input.iter().zip(weights_gradient.chunks_exact_mut(outputs)) {
            if x != T::zero() {
                add_scaled(row, x, delta);
            }
        }
    }
    let Some(delta_input) = delta_input else { return };
    let samples = input.chunks_exact(inputs).zip(delta.chunks_exact(outputs));
    for ((input, delta), below) in samples.zip(delta_input.chunks_exact_mut(inputs)) {
        for ((&x, row), below) in input.iter().zip(weights.chunks_exact(outputs)).zip(below) {
            *below = if x > T::zero() { dot(row, delta) } else { T::zero() };
        }
    }
}

/// The memory's training signal, summed: `sums[k] += a_k(previous_d) · h_d` over all coordinates `d`, where `h_d` comes
/// from `gradient_d · previous_d`. Both are clipped and of equal length; a coordinate where either is 0 adds nothing.
pub(in crate::learn) fn accumulate<T: Real>(
    centres: &Centres<T>,
    signal: Signal,
    gradient: &[T],
    previous: &[T],
    sums: &mut [T],
) {
    let one = T::one();
    for (&g, &before) in gradient.iter().zip(previous) {
        let product = g * before;
        if product == T::zero() {
            continue;
        }
        let h = match signal {
            Signal::Product => product.max(-one).min(one),
            Signal::Sign => product.signum(),
        };
        centres.accumulate(before, h, sums);
    }
}

/// `params -= rate(feature) · direction`, where the rate is looked up in the local rates. Coordinates without direction
/// are skipped. Returns the sum of the rates applied and how many were.
pub(in crate::learn) fn descend<T: Real>(
    centres: &Centres<T>,
    rates: &[T],
    feature: &[T],
    direction: &[T],
    params: &mut [T],
) -> (T, usize) {
    let (mut sum, mut moved) = (T::zero(), 0);
    for ((&feature, &direction), param) in feature.iter().zip(direction).zip(params) {
        if direction == T::zero() {
            continue;
        }
        let rate = centres.rate(feature, rates);
        *param -= rate * direction;
        sum += rate;
        moved += 1;
    }
    (sum, moved)
}

/// [`descend`] at one constant rate.
pub(in crate::learn) fn descend_at<T: Real>(rate: T, direction: &[T], params: &mut [T]) -> (T, usize) {
    let mut moved = 0;
    for (&direction, param) in direction.iter().zip(params) {
        *param -= rate * direction;
        moved += usize::from(direction != T::zero());
    }
    (rate * T::of(moved as f64), moved)
}
