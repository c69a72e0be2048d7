//! One dense layer on a batch, forward and backward.
//!
//! Sums stay in registers: of a few samples (or rows) times a few blocks, for as long as they are summed over. Forward and
//! for the weights' gradient the lanes are units; for the gradient that goes further down they are samples, so that no
//! sum runs along a register.

use super::lanes::{self, LANES, Lanes, Vector, bits, flush};
use super::{InstructionSet, Level};
use crate::learn::Real;

dispatched! {
    /// A hidden layer: `out[s] = relu(bias + x[s] · weights)`, summing over those inputs alone that have their bit in `rows`.
    ///
    /// `weights` is `[inputs][blocks]` with the bias as its last row, `x` `[samples][x_blocks]`, `out` `[samples][blocks]`.
    /// Of each block of units that has a word in `live`, the units above zero for at least one sample get their bits.
    fn forward = forward_body, (
        weights: &[Lanes<T>],
        blocks: usize,
        rows: &[u16],
        x: &[Lanes<T>],
        x_blocks: usize,
        out: &mut [Lanes<T>],
        live: &mut [u16],
    )
}

dispatched! {
    /// The output: `out[s] = bias + x[s] · weights`, where `weights` is one row, `[x_blocks]`.
    fn output = output_body, (weights: &[Lanes<T>], bias: T, x: &[Lanes<T>], out: &mut [T])
}

dispatched! {
    /// Backward from the output, given `delta`, the loss's gradient by the outputs.
    ///
    /// Writes the gradient by the output's weights and, unless it is empty, the loss's gradient by the sums of the layer
    /// below (`[samples][x_blocks]`), whose outputs are `x`; of both the first `blocks`. The
    /// gradients are clipped to `[-clip, clip]`. Returns whether all is finite.
    fn backward_output = backward_output_body, (
        weights: &[Lanes<T>],
        blocks: usize,
        x: &[Lanes<T>],
        x_blocks: usize,
        delta: &[T],
        clip: T,
        gradient: &mut [Lanes<T>],
        below: &mut [Lanes<T>],
    ) -> bool
}

dispatched! {
    /// The gradient by a hidden layer's weights and bias, which is the last row: `gradient[i] = sum over s of x[s][i] ·
    /// delta[s]`, in the rows that have their bit in `rows` and the first `live` blocks. The
    /// gradients are clipped to `[-clip, clip]`. Returns whether all is finite.
    ///
    /// `x` is `[samples][x_blocks]`, `delta` `[samples][blocks]`, `gradient` `[inputs + 1][blocks]`.
    fn weights_gradient = weights_gradient_body, (
        x: &[Lanes<T>],
        x_blocks: usize,
        rows: &[u16],
        delta: &[Lanes<T>],
        blocks: usize,
        live: usize,
        clip: T,
        gradient: &mut [Lanes<T>],
    ) -> bool
}

dispatched! {
    /// Backward through a hidden layer: `below[s][i] = weights[i] · delta[s]` where `x[s][i]`, the output of the layer below,
    /// is above zero, else 0; for those inputs that have their bit in `rows`, summing over those outputs that have theirs
    /// in `columns`. The other inputs get 0.
    ///
    /// `delta` is `[samples][blocks]`, `x` and `below` `[samples][x_blocks]`; `scratch` has room for `blocks · LANES` rows of
    /// as many blocks as hold the samples.
    fn backward = backward_body, (
        weights: &[Lanes<T>],
        blocks: usize,
        rows: &[u16],
        columns: &[u16],
        delta: &[Lanes<T>],
        x: &[Lanes<T>],
        x_blocks: usize,
        scratch: &mut [Lanes<T>],
        below: &mut [Lanes<T>],
    )
}

#[inline(always)]
fn forward_body<T: Real, V: Vector<T>, const SUMS: usize>(
    weights: &[Lanes<T>],
    blocks: usize,
    rows: &[u16],
    x: &[Lanes<T>],
    x_blocks: usize,
    out: &mut [Lanes<T>],
    live: &mut [u16],
) {
    let samples = out.len() / blocks;
    let layer = Layer { weights, blocks, rows, x, x_blocks };
    let mut s = 0;
    while s < samples {
        s += match samples - s {
            5.. if SUMS >= 5 => layer.samples::<V, SUMS, 5>(s, out),
            2.. if SUMS >= 2 => layer.samples::<V, SUMS, 2>(s, out),
            _ => layer.samples::<V, SUMS, 1>(s, out),
        };
    }
    for (block, live) in live.iter_mut().enumerate() {
        let mut most = V::zero();
        for out in out.iter().skip(block).step_by(blocks) {
            most = most.at_least(V::load(out));
        }
        *live = most.above(V::zero());
    }
}

struct Layer<'a, T> {
    weights: &'a [Lanes<T>],
    blocks: usize,
    rows: &'a [u16],
    x: &'a [Lanes<T>],
    x_blocks: usize,
}

impl<T: Real> Layer<'_, T> {
    /// `S` samples from `s` on; returns how many these are.
    #[inline(always)]
    fn samples<V: Vector<T>, const SUMS: usize, const S: usize>(
        &self,
        s: usize,
        out: &mut [Lanes<T>],
    ) -> usize {
        let mut b = 0;
        while b < self.blocks {
            b += match self.blocks - b {
                4.. if S * 4 <= SUMS => self.tile::<V, S, 4>(s, b, out),
                2.. if S * 2 <= SUMS => self.tile::<V, S, 2>(s, b, out),
                _ => self.tile::<V, S, 1>(s, b, out),
            };
        }
        S
    }

    /// `S` samples by `B` blocks.
    #[inline(always)]
    fn tile<V: Vector<T>, const S: usize, const B: usize>(
        &self,
        s: usize,
        b: usize,
        out: &mut [Lanes<T>],
    ) -> usize {
        let inputs = self.weights.len() / self.blocks - 1;
        let mut bias = [V::zero(); B];
        for (sum, bias) in bias.iter_mut().zip(&self.weights[inputs * self.blocks + b..]) {
            *sum = V::load(bias);
        }
        let mut sums = [bias; S];
        for (block, word) in self.rows.iter().enumerate() {
            let mut x = [&self.x[0]; S];
            for (i, x) in x.iter_mut().enumerate() {
                *x = &self.x[(s + i) * self.x_blocks + block];
            }
            let weights = &self.weights[block * LANES * self.blocks + b..];
            for lane in bits(&[*word]) {
                let weights = &weights[lane * self.blocks..][..B];
                for (sums, x) in sums.iter_mut().zip(x) {
                    let x = V::splat(x[lane % LANES]);
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = x.mul_add(V::load(weights), *sum);
                    }
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                V::zero().at_least(sum).store(&mut out[(s + i) * self.blocks + b + j]);
            }
        }
        B
    }
}

#[inline(always)]
fn output_body<T: Real, V: Vector<T>, const SUMS: usize>(
    weights: &[Lanes<T>],
    bias: T,
    x: &[Lanes<T>],
    out: &mut [T],
) {
    for (out, x) in out.iter_mut().zip(x.chunks_exact(weights.len())) {
        let mut total = V::zero();
        for (x, weights) in x.iter().zip(weights) {
            total = V::load(x).mul_add(V::load(weights), total);
        }
        *out = bias + total.sum();
    }
}

#[inline(always)]
fn backward_output_body<T: Real, V: Vector<T>, const SUMS: usize>(
    weights: &[Lanes<T>],
    blocks: usize,
    x: &[Lanes<T>],
    x_blocks: usize,
    delta: &[T],
    clip: T,
    gradient: &mut [Lanes<T>],
    below: &mut [Lanes<T>],
) -> bool {
    let mut check = Check::<V>::new(clip);
    for block in 0..blocks {
        let mut total = V::zero();
        let w = V::load(&weights[block]);
        for (s, &delta) in delta.iter().enumerate() {
            let at = s * x_blocks + block;
            let (x, delta) = (V::load(&x[at]), V::splat(delta));
            total = x.mul_add(delta, total);
            if let Some(below) = below.get_mut(at) {
                w.mul(delta).only(x.above(V::zero())).store(below);
            }
        }
        check.passed(total).store(&mut gradient[block]);
    }
    check.is_finite()
}

#[inline(always)]
fn weights_gradient_body<T: Real, V: Vector<T>, const SUMS: usize>(
    x: &[Lanes<T>],
    x_blocks: usize,
    rows: &[u16],
    delta: &[Lanes<T>],
    blocks: usize,
    live: usize,
    clip: T,
    gradient: &mut [Lanes<T>],
) -> bool {
    let mut check = Check::<V>::new(clip);
    let outer = Outer { x: x.as_flattened(), x_width: x_blocks * LANES, delta, blocks, live };
    let mut group = Group::<5>::new();
    for row in bits(rows) {
        if let Some(rows) = group.with(row) {
            if SUMS >= 5 {
                outer.rows::<V, SUMS, 5>(rows, gradient, &mut check);
            } else {
                let [a, b, c, d, e] = rows;
                outer.rows::<V, SUMS, 2>([a, b], gradient, &mut check);
                outer.rows::<V, SUMS, 2>([c, d], gradient, &mut check);
                outer.rows::<V, SUMS, 1>([e], gradient, &mut check);
            }
        }
    }
    let (pairs, rest) = group.rest().as_chunks::<2>();
    for &rows in pairs {
        outer.rows::<V, SUMS, 2>(rows, gradient, &mut check);
    }
    for &row in rest {
        outer.rows::<V, SUMS, 1>([row], gradient, &mut check);
    }
    let bias = gradient.len() - blocks;
    for block in 0..live {
        let mut total = V::zero();
        for delta in delta.iter().skip(block).step_by(blocks) {
            total = total.add(V::load(delta));
        }
        check.passed(total).store(&mut gradient[bias + block]);
    }
    check.is_finite()
}

/// Gathers rows until there are `N`.
struct Group<const N: usize> {
    rows: [usize; N],
    len: usize,
}

impl<const N: usize> Group<N> {
    #[inline(always)]
    fn new() -> Self {
        Group { rows: [0; N], len: 0 }
    }

    #[inline(always)]
    fn with(&mut self, row: usize) -> Option<[usize; N]> {
        self.rows[self.len] = row;
        self.len += 1;
        (self.len == N).then(|| {
            self.len = 0;
            self.rows
        })
    }

    #[inline(always)]
    fn rest(&self) -> &[usize] {
        &self.rows[..self.len]
    }
}

struct Outer<'a, T> {
    x: &'a [T],
    x_width: usize,
    delta: &'a [Lanes<T>],
    blocks: usize,
    live: usize,
}

impl<T: Real> Outer<'_, T> {
    #[inline(always)]
    fn rows<V: Vector<T>, const SUMS: usize, const R: usize>(
        &self,
        rows: [usize; R],
        gradient: &mut [Lanes<T>],
        check: &mut Check<V>,
    ) {
        let mut b = 0;
        while b < self.live {
            b += match self.live - b {
                4.. if R * 4 <= SUMS => self.tile::<V, R, 4>(rows, b, gradient, check),
                2.. if R * 2 <= SUMS => self.tile::<V, R, 2>(rows, b, gradient, check),
                _ => self.tile::<V, R, 1>(rows, b, gradient, check),
            };
        }
    }

    #[inline(always)]
    fn tile<V: Vector<T>, const R: usize, const B: usize>(
        &self,
        rows: [usize; R],
        b: usize,
        gradient: &mut [Lanes<T>],
        check: &mut Check<V>,
    ) -> usize {
        let mut sums = [[V::zero(); B]; R];
        for (delta, x) in self.delta.chunks_exact(self.blocks).zip(self.x.chunks_exact(self.x_width)) {
            let delta = &delta[b..][..B];
            for (sums, row) in sums.iter_mut().zip(rows) {
                let x = V::splat(x[row]);
                for (sum, delta) in sums.iter_mut().zip(delta) {
                    *sum = x.mul_add(V::load(delta), *sum);
                }
            }
        }
        for (sums, row) in sums.into_iter().zip(rows) {
            for (sum, out) in sums.into_iter().zip(&mut gradient[row * self.blocks + b..][..B]) {
                check.passed(sum).store(out);
            }
        }
        B
    }
}

#[inline(always)]
fn backward_body<T: Real, V: Vector<T>, const SUMS: usize>(
    weights: &[Lanes<T>],
    blocks: usize,
    rows: &[u16],
    columns: &[u16],
    delta: &[Lanes<T>],
    x: &[Lanes<T>],
    x_blocks: usize,
    scratch: &mut [Lanes<T>],
    below: &mut [Lanes<T>],
) {
    let samples = delta.len() / blocks;
    let depth = samples.div_ceil(LANES);
    for (block, _) in columns.iter().enumerate().filter(|(_, word)| **word != 0) {
        for layer in 0..depth {
            let (first, left) = (layer * LANES, samples - layer * LANES);
            let to = &mut scratch[block * LANES * depth + layer..];
            V::transpose(&delta[first * blocks + block..], blocks, left, to, depth, LANES);
        }
    }
    let through = Through { weights, blocks, columns, scratch, depth };
    let mut sums = [[T::zero(); LANES]; LANES];
    for (block, &word) in rows.iter().enumerate().filter(|(_, word)| **word != 0) {
        for layer in 0..depth {
            through.block::<V, SUMS>(block, word, layer, &mut sums);
            let left = (samples - layer * LANES).min(LANES);
            V::transpose(&sums, 1, LANES, &mut below[layer * LANES * x_blocks + block..], x_blocks, left);
        }
    }
    // Where nothing was put, the unit is off.
    for (below, x) in below.iter_mut().zip(x) {
        V::load(below).only(V::load(x).above(V::zero())).store(below);
    }
}

struct Through<'a, T> {
    weights: &'a [Lanes<T>],
    blocks: usize,
    columns: &'a [u16],
    /// `delta`, `[outputs][blocks of samples]`.
    scratch: &'a [Lanes<T>],
    depth: usize,
}

impl<T: Real> Through<'_, T> {
    /// Of a block of inputs those that have their bit in `word`, for one block of samples.
    #[inline(always)]
    fn block<V: Vector<T>, const SUMS: usize>(
        &self,
        block: usize,
        word: u16,
        layer: usize,
        sums: &mut [Lanes<T>; LANES],
    ) {
        let mut group = Group::<8>::new();
        for row in bits(&[word]) {
            if let Some(rows) = group.with(row) {
                if SUMS >= 8 {
                    self.rows::<V, 8>(block, rows, layer, sums);
                } else {
                    for &rows in rows.as_chunks::<4>().0 {
                        self.rows::<V, 4>(block, rows, layer, sums);
                    }
                }
            }
        }
        let (fours, rest) = group.rest().as_chunks::<4>();
        for &rows in fours {
            self.rows::<V, 4>(block, rows, layer, sums);
        }
        let (pairs, rest) = rest.as_chunks::<2>();
        for &rows in pairs {
            self.rows::<V, 2>(block, rows, layer, sums);
        }
        for &row in rest {
            self.rows::<V, 1>(block, [row], layer, sums);
        }
    }

    #[inline(always)]
    fn rows<V: Vector<T>, const R: usize>(
        &self,
        block: usize,
        rows: [usize; R],
        layer: usize,
        out: &mut [Lanes<T>; LANES],
    ) {
        let mut sums = [V::zero(); R];
        for (column, word) in self.columns.iter().enumerate() {
            let mut weights = [&self.weights[0]; R];
            for (weights, row) in weights.iter_mut().zip(rows) {
                *weights = &self.weights[(block * LANES + row) * self.blocks + column];
            }
            let delta = &self.scratch[column * LANES * self.depth..][..LANES * self.depth];
            for lane in bits(&[*word]) {
                let delta = V::load(&delta[lane * self.depth + layer]);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = V::splat(weights[lane % LANES]).mul_add(delta, *sum);
                }
            }
        }
        for (sum, row) in sums.into_iter().zip(rows) {
            sum.store(&mut out[row]);
        }
    }
}

/// What is written of a gradient, and whether all of it was finite: zero times it is then zero.
struct Check<V> {
    clip: V,
    zero: V,
}

impl<V> Check<V> {
    #[inline(always)]
    fn new<T: Real>(clip: T) -> Self
    where
        V: Vector<T>,
    {
        Check { clip: V::splat(clip), zero: V::zero() }
    }

    /// Clipped; and what is tiny is zero (see [`Real::TINY`]).
    #[inline(always)]
    fn passed<T: Real>(&mut self, gradient: V) -> V
    where
        V: Vector<T>,
    {
        self.zero = gradient.mul_add(V::zero(), self.zero);
        let clipped = gradient.at_most(self.clip).at_least(V::zero().add(self.clip).mul(V::splat(-T::one())));
        flush(clipped, T::TINY)
    }

    #[inline(always)]
    fn is_finite<T: Real>(&self) -> bool
    where
        V: Vector<T>,
    {
        self.zero.nonzero() == 0
    }
}
