//! One dense layer on a batch, forward and backward.
//!
//! Sums stay in registers: of a few samples (or rows) times a few blocks, for as long as they are summed over. Forward and
//! for the weights' gradient the lanes are units; for the gradient that goes further down they are samples, so that no
//! sum runs along a register.

use super::lanes::{self, LANES, Lanes, Vector, bits, blocks_for, reached};
use super::{Extent, InstructionSet, Level, Tile, Width};
use crate::learn::Real;

dispatched! {
    /// A hidden layer: `out[s] = relu(bias + x[s] · weights)`, summing over those inputs alone that have their bit in `rows`.
    ///
    /// `weights` is `[inputs][width]` with the bias as its last row, `x` `[samples][x_blocks]`, `out` `[samples][width]`.
    /// Of each block of units, those above zero for at least one sample get their bits in `live`.
    fn forward = forward_body, (
        weights: &[Lanes<T>],
        width: Width,
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
    /// Backward from the output, given `delta`, the loss's gradient by the outputs: `[blocks of samples]`.
    ///
    /// Writes the gradient by the output's weights, clipped to `[-clip, clip]`, and the loss's gradient by the sums of the layer
    /// below, whose outputs are `x`, as [`backward`] does; of both the blocks up to the last one with a unit that has its bit in `rows`.
    fn backward_output = backward_output_body, (
        weights: &[Lanes<T>],
        rows: &[u16],
        x: &[Lanes<T>],
        x_blocks: usize,
        delta: &[Lanes<T>],
        clip: T,
        gradient: &mut [Lanes<T>],
        by_unit: &mut [Lanes<T>],
        below: &mut [Lanes<T>],
    ) -> Extent<T>
}

dispatched! {
    /// The gradient by a hidden layer's weights and bias, which is the last row: `gradient[i] = sum over s of x[s][i] ·
    /// delta[s]`, in the rows that have their bit in `rows` and the first `live` blocks. It is clipped to `[-clip, clip]`.
    /// Returns what the weights' is like and the bias's, and whether the latter was nowhere beyond `huge` nor, as
    /// it then is if anything of `delta` is not finite, not a number.
    ///
    /// `x` is `[samples][x_blocks]`, `delta` `[samples][width]`, `gradient` `[inputs + 1][width]`.
    fn weights_gradient = weights_gradient_body, (
        x: &[Lanes<T>],
        x_blocks: usize,
        rows: &[u16],
        delta: &[Lanes<T>],
        width: Width,
        live: usize,
        clip: T,
        huge: T,
        gradient: &mut [Lanes<T>],
    ) -> ([Extent<T>; 2], bool)
}

dispatched! {
    /// Backward through a hidden layer: `below[s][i] = weights[i] · delta[s]` where `x[s][i]`, the output of the layer below,
    /// is above zero, else 0; for those inputs that have their bit in `rows`, summing over those outputs that have theirs
    /// in `columns`. Of the other inputs, those get 0 that do not lie behind the last block with one.
    ///
    /// `weights` is `[inputs][blocks]`, `delta` is `[blocks of samples][blocks · LANES]`, `x` and `below` are
    /// `[samples][x_blocks]`. `by_unit` is `below` once more as the next layer wants it for its `delta`: `[blocks of
    /// samples][x_blocks · LANES]`.
    fn backward = backward_body, (
        weights: &[Lanes<T>],
        blocks: usize,
        rows: &[u16],
        columns: &[u16],
        delta: &[Lanes<T>],
        x: &[Lanes<T>],
        x_blocks: usize,
        by_unit: &mut [Lanes<T>],
        below: &mut [Lanes<T>],
    )
}

#[inline(always)]
fn forward_body<T: Real, V: Vector<T>, const SUMS: usize>(
    weights: &[Lanes<T>],
    width: Width,
    rows: &[u16],
    x: &[Lanes<T>],
    x_blocks: usize,
    out: &mut [Lanes<T>],
    live: &mut [u16],
) {
    let samples = out.len() / width.blocks;
    let layer = Layer { weights, width, rows, x, x_blocks };
    live.fill(0);
    let mut s = 0;
    while s < samples {
        s += match samples - s {
            5.. if SUMS >= 5 => layer.samples::<V, SUMS, 5>(s, out, live),
            2.. if SUMS >= 2 => layer.samples::<V, SUMS, 2>(s, out, live),
            _ => layer.samples::<V, SUMS, 1>(s, out, live),
        };
    }
}

struct Layer<'a, T> {
    weights: &'a [Lanes<T>],
    width: Width,
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
        live: &mut [u16],
    ) -> usize {
        let mut b = 0;
        while b < self.width.blocks {
            b += match self.width.tile(b, self.width.blocks) {
                Tile::Whole(4..) | Tile::WithHalf(4..) if S * 4 <= SUMS => {
                    self.tile::<V, S, 4, false>(s, b, out, live)
                }
                Tile::WithHalf(3) if S * 4 <= SUMS => self.tile::<V, S, 3, true>(s, b, out, live),
                Tile::Whole(2..) | Tile::WithHalf(2..) if S * 2 <= SUMS => {
                    self.tile::<V, S, 2, false>(s, b, out, live)
                }
                Tile::WithHalf(1) if S * 2 <= SUMS => self.tile::<V, S, 1, true>(s, b, out, live),
                Tile::WithHalf(0) => self.tile::<V, S, 0, true>(s, b, out, live),
                Tile::Whole(_) | Tile::WithHalf(_) => self.tile::<V, S, 1, false>(s, b, out, live),
            };
        }
        S
    }

    /// `S` samples by `B` blocks and, if `HALF`, half a block.
    #[inline(always)]
    fn tile<V: Vector<T>, const S: usize, const B: usize, const HALF: bool>(
        &self,
        s: usize,
        b: usize,
        out: &mut [Lanes<T>],
        live: &mut [u16],
    ) -> usize {
        let (blocks, count) = (self.width.blocks, B + usize::from(HALF));
        let inputs = self.weights.len() / blocks - 1;
        let bias = &self.weights[inputs * blocks + b..][..count];
        // Filled one by one: `[bias; S]` would be copied by a call.
        let (mut sums, mut halves) = ([[V::zero(); B]; S], [V::zero().low(); S]);
        for (sums, half) in sums.iter_mut().zip(&mut halves) {
            for (sum, bias) in sums.iter_mut().zip(bias) {
                *sum = V::load(bias);
            }
            if HALF {
                *half = V::Half::load(&bias[B]);
            }
        }
        for (block, word) in self.rows.iter().enumerate() {
            let mut x = [&self.x[0]; S];
            for (i, x) in x.iter_mut().enumerate() {
                *x = &self.x[(s + i) * self.x_blocks + block];
            }
            let weights = &self.weights[block * LANES * blocks + b..];
            for lane in bits(&[*word]) {
                let weights = &weights[lane * blocks..][..count];
                for ((sums, half), x) in sums.iter_mut().zip(&mut halves).zip(x) {
                    let x = x[lane % LANES];
                    let x = if HALF { V::splat_of_both(x) } else { V::splat(x) };
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = x.mul_add(V::load(weights), *sum);
                    }
                    if HALF {
                        *half = x.low().mul_add(V::Half::load(&weights[B]), *half);
                    }
                }
            }
        }
        let (mut on, mut half_on) = ([V::zero(); B], V::Half::zero());
        for (i, (sums, half)) in sums.iter().zip(&halves).enumerate() {
            let out = &mut out[(s + i) * blocks + b..][..count];
            for ((sum, on), out) in sums.iter().zip(&mut on).zip(out.iter_mut()) {
                let above = V::zero().at_least(*sum);
                *on = on.or(above);
                above.store(out);
            }
            if HALF {
                let above = V::Half::zero().at_least(*half);
                half_on = half_on.or(above);
                above.store(&mut out[B]);
            }
        }
        let live = &mut live[b..][..count];
        for (on, live) in on.iter().zip(live.iter_mut()) {
            *live |= on.nonzero();
        }
        if HALF {
            live[B] |= half_on.nonzero();
        }
        count
    }
}

#[inline(always)]
fn output_body<T: Real, V: Vector<T>, const SUMS: usize>(
    weights: &[Lanes<T>],
    bias: T,
    x: &[Lanes<T>],
    out: &mut [T],
) {
    for (out, x) in out.iter_mut().zip(lanes::rows(x, weights.len())) {
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
    rows: &[u16],
    x: &[Lanes<T>],
    x_blocks: usize,
    delta: &[Lanes<T>],
    clip: T,
    gradient: &mut [Lanes<T>],
    by_unit: &mut [Lanes<T>],
    below: &mut [Lanes<T>],
) -> Extent<T> {
    let samples = x.len() / x_blocks;
    let mut out = Clipped::<T, V>::new(clip);
    for (block, gradient) in gradient.iter_mut().enumerate().take(reached(rows)) {
        let (mut total, mut at) = (V::zero(), block);
        for delta in &delta.as_flattened()[..samples] {
            total = V::load(&x[at]).mul_add(V::splat(*delta), total);
            at += x_blocks;
        }
        out.put(total, gradient);
    }
    for (layer, (delta, by_unit)) in delta.iter().zip(by_unit.chunks_exact_mut(x_blocks * LANES)).enumerate()
    {
        let on = On { x, x_blocks, samples, layer };
        let delta = V::load(delta);
        for (block, by_unit) in by_unit.as_chunks_mut().0.iter_mut().enumerate().take(reached(rows)) {
            for ((row, &weight), samples) in
                by_unit.iter_mut().zip(&weights[block]).zip(on.samples_of::<V>(block))
            {
                V::splat(weight).mul(delta).only(samples as u16).store(row);
            }
            on.turn::<V>(block, by_unit, below);
        }
    }
    out.extent()
}

/// A block of samples of a layer's outputs, number `layer`.
struct On<'a, T> {
    x: &'a [Lanes<T>],
    x_blocks: usize,
    samples: usize,
    layer: usize,
}

impl<T: Real> On<'_, T> {
    #[inline(always)]
    fn count(&self) -> usize {
        (self.samples - self.layer * LANES).min(LANES)
    }

    #[inline(always)]
    fn first(&self, block: usize) -> usize {
        self.layer * LANES * self.x_blocks + block
    }

    /// Of each unit of a block, the samples for which it is on: a bit each.
    #[inline(always)]
    fn samples_of<V: Vector<T>>(&self, block: usize) -> [u32; LANES] {
        V::above_zero_in(&self.x[self.first(block)..], self.x_blocks, self.count())
    }

    /// Writes what stands in `by_unit` for a block of units into `below`, sample by sample.
    #[inline(always)]
    fn turn<V: Vector<T>>(&self, block: usize, by_unit: &[Lanes<T>; LANES], below: &mut [Lanes<T>]) {
        V::transpose(by_unit, &mut below[self.first(block)..], self.x_blocks, self.count());
    }
}

#[inline(always)]
fn weights_gradient_body<T: Real, V: Vector<T>, const SUMS: usize>(
    x: &[Lanes<T>],
    x_blocks: usize,
    rows: &[u16],
    delta: &[Lanes<T>],
    width: Width,
    live: usize,
    clip: T,
    huge: T,
    gradient: &mut [Lanes<T>],
) -> ([Extent<T>; 2], bool) {
    let outer = Outer { x: x.as_flattened(), x_width: x_blocks * LANES, delta, width, live };
    let mut out = Clipped::<T, V>::new(clip);
    let mut group = Group::<4>::new();
    for row in bits(rows) {
        if let Some(rows) = group.with(row) {
            if SUMS >= 4 {
                outer.rows::<V, SUMS, 4>(rows, gradient, &mut out);
            } else {
                for &rows in rows.as_chunks::<2>().0 {
                    outer.rows::<V, SUMS, 2>(rows, gradient, &mut out);
                }
            }
        }
    }
    let (pairs, rest) = group.rest().as_chunks::<2>();
    for &rows in pairs {
        outer.rows::<V, SUMS, 2>(rows, gradient, &mut out);
    }
    for &row in rest {
        outer.rows::<V, SUMS, 1>([row], gradient, &mut out);
    }
    let weights = out.extent();
    let mut out = Clipped::<T, V>::new(clip);
    let bias = gradient.len() - width.blocks;
    let mut moderate = V::ALL;
    for block in 0..live {
        let (mut total, mut at) = (V::zero(), block);
        while let Some(delta) = delta.get(at) {
            total = total.add(V::load(delta));
            at += width.blocks;
        }
        moderate &= total.within(V::splat(huge));
        out.put(total, &mut gradient[bias + block]);
    }
    ([weights, out.extent()], moderate == V::ALL)
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
    width: Width,
    live: usize,
}

/// How a gradient is written, and what it was like so far.
struct Clipped<T: Real, V: Vector<T>> {
    clip: V,
    least: V,
    moved: u32,
    most: V,
    most_of_halves: V::Half,
}

impl<T: Real, V: Vector<T>> Clipped<T, V> {
    #[inline(always)]
    fn new(clip: T) -> Self {
        let (most, most_of_halves) = (V::zero(), V::Half::zero());
        Clipped { clip: V::splat(clip), least: V::splat(T::TINY), moved: 0, most, most_of_halves }
    }

    #[inline(always)]
    fn put(&mut self, gradient: V, out: &mut Lanes<T>) {
        self.most = self.most.at_least(gradient.magnitude());
        let (clipped, above) = gradient.clipped(self.clip, self.least);
        clipped.store(out);
        self.moved += above.count_ones();
    }

    #[inline(always)]
    fn put_half(&mut self, gradient: V::Half, out: &mut Lanes<T>) {
        self.most_of_halves = self.most_of_halves.at_least(gradient.magnitude());
        let (clipped, above) = gradient.clipped(self.clip.low(), self.least.low());
        clipped.store(out);
        self.moved += above.count_ones();
    }

    #[inline(always)]
    fn extent(&self) -> Extent<T> {
        Extent { moved: self.moved, most: self.most.most().max(self.most_of_halves.most()) }
    }
}

impl<T: Real> Outer<'_, T> {
    #[inline(always)]
    fn rows<V: Vector<T>, const SUMS: usize, const R: usize>(
        &self,
        rows: [usize; R],
        gradient: &mut [Lanes<T>],
        out: &mut Clipped<T, V>,
    ) {
        let mut b = 0;
        while b < self.live {
            b += match self.width.tile(b, self.live) {
                Tile::Whole(4..) | Tile::WithHalf(4..) if R * 4 <= SUMS => {
                    self.tile::<V, R, 4, false>(rows, b, gradient, out)
                }
                Tile::WithHalf(3) if R * 4 <= SUMS => self.tile::<V, R, 3, true>(rows, b, gradient, out),
                Tile::Whole(2..) | Tile::WithHalf(2..) if R * 2 <= SUMS => {
                    self.tile::<V, R, 2, false>(rows, b, gradient, out)
                }
                Tile::WithHalf(1) if R * 2 <= SUMS => self.tile::<V, R, 1, true>(rows, b, gradient, out),
                Tile::WithHalf(0) => self.tile::<V, R, 0, true>(rows, b, gradient, out),
                Tile::Whole(_) | Tile::WithHalf(_) => self.tile::<V, R, 1, false>(rows, b, gradient, out),
            };
        }
    }

    #[inline(always)]
    fn tile<V: Vector<T>, const R: usize, const B: usize, const HALF: bool>(
        &self,
        rows: [usize; R],
        b: usize,
        gradient: &mut [Lanes<T>],
        out: &mut Clipped<T, V>,
    ) -> usize {
        let (blocks, count) = (self.width.blocks, B + usize::from(HALF));
        let (mut sums, mut halves) = ([[V::zero(); B]; R], [V::zero().low(); R]);
        for (delta, x) in lanes::rows(self.delta, blocks).zip(lanes::rows(self.x, self.x_width)) {
            let delta = &delta[b..][..count];
            for ((sums, half), row) in sums.iter_mut().zip(&mut halves).zip(rows) {
                let x = if HALF { V::splat_of_both(x[row]) } else { V::splat(x[row]) };
                for (sum, delta) in sums.iter_mut().zip(delta) {
                    *sum = x.mul_add(V::load(delta), *sum);
                }
                if HALF {
                    *half = x.low().mul_add(V::Half::load(&delta[B]), *half);
                }
            }
        }
        for ((sums, half), row) in sums.iter().zip(&halves).zip(rows) {
            let gradient = &mut gradient[row * blocks + b..][..count];
            for (sum, gradient) in sums.iter().zip(gradient.iter_mut()) {
                out.put(*sum, gradient);
            }
            if HALF {
                out.put_half(*half, &mut gradient[B]);
            }
        }
        count
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
    by_unit: &mut [Lanes<T>],
    below: &mut [Lanes<T>],
) {
    let samples = x.len() / x_blocks;
    let layers = delta.chunks_exact(blocks * LANES).zip(by_unit.chunks_exact_mut(x_blocks * LANES));
    for (layer, (delta, by_unit)) in layers.enumerate().take(blocks_for(samples)) {
        Through { weights, blocks, columns, delta }.all_rows::<V, SUMS>(rows, by_unit);
        let on = On { x, x_blocks, samples, layer };
        for (block, by_unit) in by_unit.as_chunks_mut().0.iter_mut().enumerate().take(reached(rows)) {
            for (row, samples) in by_unit.iter_mut().zip(on.samples_of::<V>(block)) {
                V::load(row).only(samples as u16).store(row);
            }
            on.turn::<V>(block, by_unit, below);
        }
    }
}

struct Through<'a, T> {
    weights: &'a [Lanes<T>],
    blocks: usize,
    columns: &'a [u16],
    delta: &'a [Lanes<T>],
}

impl<T: Real> Through<'_, T> {
    /// Of the inputs those that have their bit in `rows`, for one block of samples.
    #[inline(always)]
    fn all_rows<V: Vector<T>, const SUMS: usize>(&self, rows: &[u16], sums: &mut [Lanes<T>]) {
        let mut group = Group::<8>::new();
        for row in bits(rows) {
            if let Some(rows) = group.with(row) {
                self.eight_rows::<V, SUMS>(rows, sums);
            }
        }
        // A few rows take as long as these by themselves: each sum would wait for itself.
        let rest = group.rest();
        if let Some(&last) = rest.last() {
            let mut rows = [last; 8];
            for (row, &rest) in rows.iter_mut().zip(rest) {
                *row = rest;
            }
            if rest.len() > 4 {
                self.eight_rows::<V, SUMS>(rows, sums);
            } else {
                let [a, b, c, d, ..] = rows;
                self.rows::<V, 4>([a, b, c, d], sums);
            }
        }
    }

    #[inline(always)]
    fn eight_rows<V: Vector<T>, const SUMS: usize>(&self, rows: [usize; 8], sums: &mut [Lanes<T>]) {
        if SUMS >= 8 {
            self.rows::<V, 8>(rows, sums);
        } else {
            for &rows in rows.as_chunks::<4>().0 {
                self.rows::<V, 4>(rows, sums);
            }
        }
    }

    #[inline(always)]
    fn rows<V: Vector<T>, const R: usize>(&self, rows: [usize; R], out: &mut [Lanes<T>]) {
        let mut sums = [V::zero(); R];
        for (column, word) in self.columns.iter().enumerate() {
            let mut weights = [&self.weights[0]; R];
            for (weights, row) in weights.iter_mut().zip(rows) {
                *weights = &self.weights[row * self.blocks + column];
            }
            let Some(delta) = self.delta.as_chunks::<LANES>().0.get(column) else { break };
            for lane in bits(&[*word]) {
                let delta = V::load(&delta[lane % LANES]);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = V::splat(weights[lane % LANES]).mul_add(delta, *sum);
                }
            }
        }
        for (sum, row) in sums.iter().zip(rows) {
            sum.store(&mut out[row]);
        }
    }
}
