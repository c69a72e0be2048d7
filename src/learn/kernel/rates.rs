//! The memories' part of a step: what they learn from two successive gradients, and the rates that they give.
//!
//! Nearly all gradients lie near zero, far nearer than the centres are apart. There, activations and rates are
//! polynomials of the gradient (see [`Cell`](crate::learn::centres::Cell)): the sums of activations over all coordinates are
//! sums of powers times a small matrix, and the rate is a few multiplications with coefficients that one step shares. So
//! nothing is looked up and nothing scattered. Coordinates further out take the definition itself, one by one, over the
//! centres around them.

use super::lanes::{self, LANES, Lanes, Vector, bits, bits_of_both, clamp};
use super::{InstructionSet, Level, Live};
use crate::learn::Real;
use crate::learn::centres::{Centres, FAR, NEAR};
use crate::learn::memory::{MAX_RATE, MIN_RATE};

dispatched! {
    /// The memory's training signal, summed: `change[k] += a_k(previous_d) · h_d` over all coordinates `d` of a matrix,
    /// where `h_d` is `gradient_d · previous_d` clamped to [-1, 1] or, if `sign`, its sign. Both gradients are clipped.
    ///
    /// `gradient` and `previous` are `[rows][blocks]`, of which what is at hand stands in `live` and `live_before`.
    fn accumulate = accumulate_body, (
        centres: &Centres<T>,
        sign: bool,
        blocks: usize,
        gradient: &[Lanes<T>],
        live: &Live,
        previous: &[Lanes<T>],
        live_before: &Live,
        change: &mut [Lanes<T>],
    )
}

dispatched! {
    /// `params -= rate(feature) · direction`, both clipped; the direction is the feature if there is none of its own.
    /// Coordinates without direction do not move. Returns the sum of the rates applied and how many coordinates moved.
    ///
    /// `rates` are the local rates; the others are `[rows][blocks]`.
    fn descend = descend_body, (
        centres: &Centres<T>,
        rates: &[Lanes<T>],
        blocks: usize,
        live: &Live,
        feature: &[Lanes<T>],
        direction: Option<&[Lanes<T>]>,
        params: &mut [Lanes<T>],
    ) -> (T, u32)
}

dispatched! {
    /// What `accumulate` leaves out: the blocks that do not lie within the near cell.
    fn accumulate_beyond = accumulate_beyond_body, (
        centres: &Centres<T>,
        sign: bool,
        blocks: usize,
        gradient: &[Lanes<T>],
        live: &Live,
        previous: &[Lanes<T>],
        live_before: &Live,
        change: &mut [Lanes<T>],
    )
}

dispatched! {
    /// What `descend` leaves out: the blocks that do not lie within the near cell.
    fn descend_beyond = descend_beyond_body, (
        centres: &Centres<T>,
        rates: &[Lanes<T>],
        blocks: usize,
        live: &Live,
        feature: &[Lanes<T>],
        direction: Option<&[Lanes<T>]>,
        params: &mut [Lanes<T>],
    ) -> (T, u32)
}

dispatched! {
    /// Gradient descent of the local rates: `rates += by · change`, into the bounds of a rate; and `change` is zero again.
    fn follow = follow_body, (by: T, change: &mut [Lanes<T>], rates: &mut [Lanes<T>])
}

dispatched! {
    /// `descend` at one constant rate.
    fn descend_at = descend_at_body, (
        rate: T,
        blocks: usize,
        live: &Live,
        direction: &[Lanes<T>],
        params: &mut [Lanes<T>],
    ) -> (T, u32)
}

#[inline(always)]
fn accumulate_body<T: Real, V: Vector<T>, const SUMS: usize>(
    centres: &Centres<T>,
    sign: bool,
    blocks: usize,
    gradient: &[Lanes<T>],
    live: &Live,
    previous: &[Lanes<T>],
    live_before: &Live,
    change: &mut [Lanes<T>],
) {
    // The product of any gradient with one in the near cell is at most so large.
    let clamps = centres.clip > centres.near.per_radius;
    let (one, scale) = (V::splat(T::one()), V::splat(centres.near.per_radius));
    let mut moments = [V::zero(); NEAR];
    let mut beyond = false;
    let both = live.blocks.min(live_before.blocks);
    for row in bits_of_both(&live.rows, &live_before.rows) {
        let first = row * blocks;
        let (gradient, previous) = (&gradient[first..][..both], &previous[first..][..both]);
        for (gradient, previous) in gradient.iter().zip(previous) {
            let before = V::load(previous);
            let x = before.mul(scale);
            if x.within(one) != u16::MAX {
                beyond = true;
                continue;
            }
            let mut h = V::load(gradient).mul(before);
            if sign {
                h = sign_of(h);
            } else if clamps {
                h = clamp(h, T::one());
            }
            add_powers(&mut moments, h, x);
        }
    }
    if T::POLYNOMIALS {
        add_moments(&moments, &centres.near.activations, change);
    }
    if beyond {
        accumulate_beyond(V::SET, centres, sign, blocks, gradient, live, previous, live_before, change);
    }
}

#[inline(always)]
fn accumulate_beyond_body<T: Real, V: Vector<T>, const SUMS: usize>(
    centres: &Centres<T>,
    sign: bool,
    blocks: usize,
    gradient: &[Lanes<T>],
    live: &Live,
    previous: &[Lanes<T>],
    live_before: &Live,
    change: &mut [Lanes<T>],
) {
    let (one, near) = (V::splat(T::one()), V::splat(centres.near.per_radius));
    let scale = V::splat(centres.far.per_radius);
    let mut moments = [V::zero(); FAR];
    let both = live.blocks.min(live_before.blocks);
    for row in bits_of_both(&live.rows, &live_before.rows) {
        for at in row * blocks..row * blocks + both {
            let before = V::load(&previous[at]);
            if before.mul(near).within(one) == u16::MAX {
                continue;
            }
            let product = V::load(&gradient[at]).mul(before);
            let h = if sign { sign_of(product) } else { clamp(product, T::one()) };
            let x = before.mul(scale);
            let inside = x.within(one);
            add_powers(&mut moments, h.only(inside), x.only(inside));
            let outside = h.nonzero() & !inside;
            if outside != 0 {
                let (before, h): (Lanes<T>, Lanes<T>) = (stored(before), stored(h));
                for lane in bits(&[outside]) {
                    add_exactly::<T, V>(centres, before[lane], h[lane], change);
                }
            }
        }
    }
    if T::POLYNOMIALS {
        add_moments(&moments, &centres.far.activations, change);
    }
}

#[inline(always)]
fn sign_of<T: Real, V: Vector<T>>(product: V) -> V {
    let minus = V::splat(-T::one());
    V::splat(T::one()).only(product.above(V::zero())).add(minus.only(V::zero().above(product)))
}

/// `sums[p] += h x^p`. The square of a small `x` counts as zero: it adds nothing but subnormal numbers. So do the higher
/// powers of those that are not quite so small.
#[inline(always)]
fn add_powers<T: Real, V: Vector<T>, const P: usize>(sums: &mut [V; P], h: V, x: V) {
    let square = x.mul(x);
    let square = square.only(square.above(V::splat(T::of(1.5e-8))));
    let higher = if P > 6 { square.only(square.above(V::splat(T::of(4e-3)))) } else { square };
    let (mut even, mut odd) = (h, h.mul(x));
    for (p, sums) in sums.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        if p > 0 {
            let square = if p < 3 { square } else { higher };
            (even, odd) = (even.mul(square), odd.mul(square));
        }
        sums[0] = sums[0].add(even);
        sums[1] = sums[1].add(odd);
    }
}

/// `change[k] += sum over p of activations[p][k] · moments[p]`.
#[inline(always)]
fn add_moments<T: Real, V: Vector<T>, const P: usize>(
    moments: &[V; P],
    activations: &[Vec<Lanes<T>>],
    change: &mut [Lanes<T>],
) {
    // No `map`: it would not be compiled for the instruction set.
    let mut sums = [T::zero(); P];
    for (sum, moment) in sums.iter_mut().zip(moments) {
        *sum = moment.sum();
    }
    for (block, change) in change.iter_mut().enumerate() {
        let mut sum = V::load(change);
        for (&moment, activations) in sums.iter().zip(activations) {
            sum = V::splat(moment).mul_add(V::load(&activations[block]), sum);
        }
        sum.store(change);
    }
}

/// `change[k] += a_k(g) · h`, by the definition.
#[inline(always)]
fn add_exactly<T: Real, V: Vector<T>>(centres: &Centres<T>, g: T, h: T, change: &mut [Lanes<T>]) {
    for block in centres.around(g) {
        let a: V = activations(centres, block, g);
        a.mul_add(V::splat(h), V::load(&change[block])).store(&mut change[block]);
    }
}

#[inline(always)]
fn stored<T: Real, V: Vector<T>>(lanes: V) -> Lanes<T> {
    let mut out = [T::zero(); LANES];
    lanes.store(&mut out);
    out
}

/// Eq. (11): the mean of the local rates, weighted by their activations at `g`.
pub(in crate::learn) fn rate<T: Real>(centres: &Centres<T>, rates: &[Lanes<T>], g: T) -> T {
    exact_rate::<T, lanes::Array<T, false>>(centres, rates, g)
}

#[inline(always)]
fn exact_rate<T: Real, V: Vector<T>>(centres: &Centres<T>, rates: &[Lanes<T>], g: T) -> T {
    let (mut weighted, mut total) = (V::zero(), V::zero());
    for block in centres.around(g) {
        let a: V = activations(centres, block, g);
        weighted = a.mul_add(V::load(&rates[block]), weighted);
        total = total.add(a);
    }
    weighted.sum() / total.sum()
}

/// [`rate`] of sixteen gradients, centre by centre.
#[inline(always)]
fn exact_rates<T: Real, V: Vector<T>>(centres: &Centres<T>, rates: &[Lanes<T>], g: V) -> V {
    let (mut weighted, mut total) = (V::zero(), V::zero());
    let each = centres.centre.as_flattened().iter().zip(centres.per_spread.as_flattened());
    for ((&c, &per_spread), &v) in each.zip(rates.as_flattened()).take(centres.len()) {
        let distance = g.add(V::splat(-c));
        let a = distance.mul(distance).mul(V::splat(per_spread)).exp_of_negative();
        weighted = a.mul_add(V::splat(v), weighted);
        total = total.add(a);
    }
    weighted.div(total)
}

/// `a_k(g)` of sixteen centres.
#[inline(always)]
fn activations<T: Real, V: Vector<T>>(centres: &Centres<T>, block: usize, g: T) -> V {
    let distance = V::splat(-g).add(V::load(&centres.centre[block]));
    distance.mul(distance).mul(V::load(&centres.per_spread[block])).exp_of_negative()
}

#[inline(always)]
fn descend_body<T: Real, V: Vector<T>, const SUMS: usize>(
    centres: &Centres<T>,
    rates: &[Lanes<T>],
    blocks: usize,
    live: &Live,
    feature: &[Lanes<T>],
    direction: Option<&[Lanes<T>]>,
    params: &mut [Lanes<T>],
) -> (T, u32) {
    let (one, scale) = (V::splat(T::one()), V::splat(centres.near.per_radius));
    // Where rounding takes the polynomial below what every local rate is at least.
    let least = V::splat(T::of(MIN_RATE));
    let polynomial = Polynomial::<V, NEAR>::new(&centres.near.rates, rates);
    let mut moves = Moves::<V>::new();
    let mut beyond = false;
    for row in bits(&live.rows) {
        let span = row * blocks..row * blocks + live.blocks;
        let (params, feature) = (&mut params[span.clone()], &feature[span.clone()]);
        let direction = direction.map_or(feature, |direction| &direction[span]);
        for ((params, feature), direction) in params.iter_mut().zip(feature).zip(direction) {
            let x = V::load(feature).mul(scale);
            if x.within(one) != u16::MAX {
                beyond = true;
                continue;
            }
            moves.make(polynomial.at(x).at_least(least), V::load(direction), params);
        }
    }
    let (mut sum, mut count) = moves.totals();
    if beyond {
        let more = descend_beyond(V::SET, centres, rates, blocks, live, feature, direction, params);
        sum += more.0;
        count += more.1;
    }
    (sum, count)
}

#[inline(always)]
fn descend_beyond_body<T: Real, V: Vector<T>, const SUMS: usize>(
    centres: &Centres<T>,
    rates: &[Lanes<T>],
    blocks: usize,
    live: &Live,
    feature: &[Lanes<T>],
    direction: Option<&[Lanes<T>]>,
    params: &mut [Lanes<T>],
) -> (T, u32) {
    let (one, near) = (V::splat(T::one()), V::splat(centres.near.per_radius));
    let scale = V::splat(centres.far.per_radius);
    let least = V::splat(T::of(MIN_RATE));
    let polynomial = Polynomial::<V, FAR>::new(&centres.far.rates, rates);
    let mut moves = Moves::<V>::new();
    for row in bits(&live.rows) {
        for at in row * blocks..row * blocks + live.blocks {
            let g = V::load(&feature[at]);
            if g.mul(near).within(one) == u16::MAX {
                continue;
            }
            let x = g.mul(scale);
            let inside = x.within(one);
            let mut eta = polynomial.at(x.only(inside));
            let outside = !inside;
            // A coordinate by itself costs about as much as four centres for all sixteen.
            if outside.count_ones() as usize * 4 > centres.len() {
                eta = eta.only(inside).add(exact_rates(centres, rates, g).only(outside));
            } else if outside != 0 {
                let (g, mut lanes): (Lanes<T>, Lanes<T>) = (stored(g), stored(eta));
                for lane in bits(&[outside]) {
                    lanes[lane] = exact_rate::<T, V>(centres, rates, g[lane]);
                }
                eta = V::load(&lanes);
            }
            let d = direction.map_or(g, |direction| V::load(&direction[at]));
            moves.make(eta.at_least(least), d, &mut params[at]);
        }
    }
    moves.totals()
}

/// Moves parameters, and keeps account of it.
struct Moves<V> {
    sum: V,
    count: u32,
}

impl<V> Moves<V> {
    #[inline(always)]
    fn new<T: Real>() -> Self
    where
        V: Vector<T>,
    {
        Moves { sum: V::zero(), count: 0 }
    }

    #[inline(always)]
    fn make<T: Real>(&mut self, eta: V, direction: V, params: &mut Lanes<T>)
    where
        V: Vector<T>,
    {
        eta.mul_sub_from(direction, V::load(params)).store(params);
        let moved = direction.nonzero();
        self.sum = self.sum.add(eta.only(moved));
        self.count += moved.count_ones();
    }

    /// Of the rates applied, and of the coordinates that moved.
    #[inline(always)]
    fn totals<T: Real>(self) -> (T, u32)
    where
        V: Vector<T>,
    {
        (self.sum.sum(), self.count)
    }
}

/// The rate as a polynomial of `x`, for these local rates.
struct Polynomial<V, const P: usize>([V; P]);

impl<V, const P: usize> Polynomial<V, P> {
    #[inline(always)]
    fn new<T: Real>(cell: &[Lanes<T>], rates: &[Lanes<T>]) -> Self
    where
        V: Vector<T>,
    {
        // Four sums, so that none waits for the one before.
        let [mut a, mut b, mut c, mut d] = [V::zero(); 4];
        let (fours, rest) = rates.as_flattened()[..cell.len()].as_chunks::<4>();
        let (cells, cells_rest) = cell.as_chunks::<4>();
        for (rates, cell) in fours.iter().zip(cells) {
            a = V::splat(rates[0]).mul_add(V::load(&cell[0]), a);
            b = V::splat(rates[1]).mul_add(V::load(&cell[1]), b);
            c = V::splat(rates[2]).mul_add(V::load(&cell[2]), c);
            d = V::splat(rates[3]).mul_add(V::load(&cell[3]), d);
        }
        for (&rate, cell) in rest.iter().zip(cells_rest) {
            a = V::splat(rate).mul_add(V::load(cell), a);
        }
        let powers: Lanes<T> = stored(a.add(b).add(c.add(d)));
        let mut coefficients = [V::zero(); P];
        for (coefficient, &power) in coefficients.iter_mut().zip(&powers) {
            *coefficient = V::splat(power);
        }
        Polynomial(coefficients)
    }

    /// By Horner's rule.
    #[inline(always)]
    fn at<T: Real>(&self, x: V) -> V
    where
        V: Vector<T>,
    {
        let mut out = self.0[P - 1];
        for coefficient in self.0[..P - 1].iter().rev() {
            out = out.mul_add(x, *coefficient);
        }
        out
    }
}

#[inline(always)]
fn follow_body<T: Real, V: Vector<T>, const SUMS: usize>(
    by: T,
    change: &mut [Lanes<T>],
    rates: &mut [Lanes<T>],
) {
    let (by, least, most) = (V::splat(by), V::splat(T::of(MIN_RATE)), V::splat(T::of(MAX_RATE)));
    for (rates, change) in rates.iter_mut().zip(change) {
        by.mul_add(V::load(change), V::load(rates)).at_least(least).at_most(most).store(rates);
        V::zero().store(change);
    }
}

#[inline(always)]
fn descend_at_body<T: Real, V: Vector<T>, const SUMS: usize>(
    rate: T,
    blocks: usize,
    live: &Live,
    direction: &[Lanes<T>],
    params: &mut [Lanes<T>],
) -> (T, u32) {
    let mut moves = Moves::<V>::new();
    for row in bits(&live.rows) {
        let span = row * blocks..row * blocks + live.blocks;
        for (params, direction) in params[span.clone()].iter_mut().zip(&direction[span]) {
            moves.make(V::splat(rate), V::load(direction), params);
        }
    }
    let (_, count) = moves.totals();
    (rate * T::of(f64::from(count)), count)
}
