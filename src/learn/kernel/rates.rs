//! The memories' part of a step: what they learn from two successive gradients, and the rates that they give.
//!
//! Nearly all gradients lie near zero, far nearer than the centres are apart. There, activations and rates are
//! polynomials of the gradient (see [`Cell`](crate::learn::centres::Cell)): the sums of activations over all coordinates are
//! sums of powers times a small matrix, and the rate is a few multiplications with coefficients that one step shares. So
//! nothing is looked up and nothing scattered. Coordinates further out take the definition itself, one by one, over the
//! centres around them.

use super::lanes::{self, LANES, Lanes, Vector, bits, bits_of_both, clamp};
use super::{InstructionSet, Level, Live, Width};
use crate::learn::Real;
use crate::learn::centres::{Centres, FAR, NEAR};
use crate::learn::memory::{MAX_RATE, MIN_RATE};

dispatched! {
    /// The memory's training signal, summed: `change[k] += a_k(previous_d) · h_d` over all coordinates `d` of a matrix,
    /// where `h_d` is `gradient_d · previous_d` clamped to [-1, 1] or, if `sign`, its sign. Both gradients are clipped.
    ///
    /// `gradient` and `previous` are `[rows][width]`, of which what is at hand stands in `live` and `live_before`.
    fn accumulate = accumulate_body, (
        centres: &Centres<T>,
        sign: bool,
        width: Width,
        gradient: &[Lanes<T>],
        live: &Live,
        previous: &[Lanes<T>],
        live_before: &Live,
        change: &mut [Lanes<T>],
    )
}

dispatched! {
    /// `params -= rate(gradient) · gradient`, which is clipped; `moved` of its coordinates are not zero. Returns the sum of
    /// their rates.
    ///
    /// `rates` are the local rates; the others are `[rows][width]`.
    fn descend = descend_body, (
        centres: &Centres<T>,
        rates: &[Lanes<T>],
        width: Width,
        live: &Live,
        moved: u32,
        gradient: &[Lanes<T>],
        params: &mut [Lanes<T>],
    ) -> T
}

dispatched! {
    /// `params -= rate(feature) · direction`, both clipped. Coordinates without direction do not move. Returns the sum of the
    /// rates applied and how many coordinates moved.
    fn descend_along = descend_along_body, (
        centres: &Centres<T>,
        rates: &[Lanes<T>],
        width: Width,
        live: &Live,
        feature: &[Lanes<T>],
        direction: &[Lanes<T>],
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
    /// `descend_along` of the blocks that do not lie within the near cell.
    fn descend_beyond = descend_beyond_body, (
        centres: &Centres<T>,
        rates: &[Lanes<T>],
        blocks: usize,
        live: &Live,
        feature: &[Lanes<T>],
        direction: &[Lanes<T>],
        params: &mut [Lanes<T>],
    ) -> (T, u32)
}

dispatched! {
    /// Gradient descent of the local rates: `rates += by · change`, into the bounds of a rate; and `change` is zero again.
    fn follow = follow_body, (by: T, change: &mut [Lanes<T>], rates: &mut [Lanes<T>])
}

dispatched! {
    /// `descend_along` at one constant rate. Returns how many coordinates moved.
    fn descend_at = descend_at_body, (
        rate: T,
        blocks: usize,
        live: &Live,
        direction: &[Lanes<T>],
        params: &mut [Lanes<T>],
    ) -> u32
}

#[inline(always)]
fn accumulate_body<T: Real, V: Vector<T>, const SUMS: usize>(
    centres: &Centres<T>,
    sign: bool,
    width: Width,
    gradient: &[Lanes<T>],
    live: &Live,
    previous: &[Lanes<T>],
    live_before: &Live,
    change: &mut [Lanes<T>],
) {
    let both = live.blocks.min(live_before.blocks);
    let (whole, half) = width.split(both);
    let pairs = Pairs { centres, sign, blocks: width.blocks, gradient, live, previous, live_before };
    let mut sums = [T::zero(); NEAR];
    let mut beyond = pairs.near::<V>(0, whole, &mut sums);
    if half {
        beyond |= pairs.near::<V::Half>(whole, 1, &mut sums);
    }
    if T::POLYNOMIALS {
        add_moments::<T, V, NEAR>(&sums, &centres.near.activations, change);
    }
    if beyond {
        accumulate_beyond(V::SET, centres, sign, width.blocks, gradient, live, previous, live_before, change);
    }
}

struct Pairs<'a, T> {
    centres: &'a Centres<T>,
    sign: bool,
    blocks: usize,
    gradient: &'a [Lanes<T>],
    live: &'a Live,
    previous: &'a [Lanes<T>],
    live_before: &'a Live,
}

impl<T: Real> Pairs<'_, T> {
    /// Adds up the signal's powers over `count` blocks from block `first` of every row, but for those that do not lie within
    /// the near cell; and whether there are such.
    #[inline(always)]
    fn near<V: Vector<T>>(&self, first: usize, count: usize, sums: &mut [T; NEAR]) -> bool {
        let near = &self.centres.near;
        // The product of any gradient with one in the near cell is at most so large.
        let clamps = self.centres.clip > near.per_radius;
        let (one, scale) = (V::splat(T::one()), V::splat(near.per_radius));
        let mut moments = [V::zero(); NEAR];
        let mut beyond = false;
        for row in bits_of_both(&self.live.rows, &self.live_before.rows) {
            let span = row * self.blocks + first..row * self.blocks + first + count;
            for (gradient, previous) in self.gradient[span.clone()].iter().zip(&self.previous[span]) {
                let before = V::load(previous);
                let x = before.mul(scale);
                if x.within(one) != V::ALL {
                    beyond = true;
                    continue;
                }
                let mut h = V::load(gradient).mul(before);
                if self.sign {
                    h = sign_of(h);
                } else if clamps {
                    h = clamp(h, T::one());
                }
                add_powers(&mut moments, h, x);
            }
        }
        for (sum, moment) in sums.iter_mut().zip(&moments) {
            *sum += moment.sum();
        }
        beyond
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
        let mut sums = [T::zero(); FAR];
        for (sum, moment) in sums.iter_mut().zip(&moments) {
            *sum = moment.sum();
        }
        add_moments::<T, V, FAR>(&sums, &centres.far.activations, change);
    }
}

#[inline(always)]
fn sign_of<T: Real, V: Vector<T>>(product: V) -> V {
    let minus = V::splat(-T::one());
    V::splat(T::one()).only(product.above(V::zero())).add(minus.only(V::zero().above(product)))
}

/// `sums[p] += h x^p`, where no `x` is above 1. The square of a small `x` is rounded to zero: it adds nothing but subnormal
/// numbers. So are, in the higher powers, the squares of those that are not quite so small.
#[inline(always)]
fn add_powers<T: Real, V: Vector<T>, const P: usize>(sums: &mut [V; P], h: V, x: V) {
    // What is less than 2^-26 is lost beside it.
    let quarter = V::splat(T::of(0.25));
    let square = x.mul_add(x, quarter).add(V::splat(T::of(-0.25)));
    let higher = if P > 6 { square.only(square.above(V::splat(T::of(4e-3)))) } else { square };
    let mut even = h;
    for (p, sums) in sums.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        if p > 0 {
            even = even.mul(if p < 3 { square } else { higher });
        }
        sums[0] = sums[0].add(even);
        sums[1] = even.mul_add(x, sums[1]);
    }
}

/// `change[k] += sum over p of activations[p][k] · moments[p]`.
#[inline(always)]
fn add_moments<T: Real, V: Vector<T>, const P: usize>(
    moments: &[T; P],
    activations: &[Vec<Lanes<T>>],
    change: &mut [Lanes<T>],
) {
    for (block, change) in change.iter_mut().enumerate() {
        let mut sum = V::load(change);
        for (&moment, activations) in moments.iter().zip(activations) {
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
    width: Width,
    live: &Live,
    moved: u32,
    gradient: &[Lanes<T>],
    params: &mut [Lanes<T>],
) -> T {
    let polynomial = coefficients::<T, V>(&centres.near.rates, rates);
    let slope = Slope { centres, polynomial: &polynomial, blocks: width.blocks, live, gradient };
    let (whole, half) = width.split(live.blocks);
    // Rounding takes no rate below the least, unless the polynomial may come as low as that.
    let mut low = polynomial[0] - T::of(MIN_RATE);
    for coefficient in &polynomial[1..NEAR] {
        low -= coefficient.abs();
    }
    let (mut sum, mut lanes, mut beyond) = if low > T::zero() {
        slope.near::<V, false>(0, whole, params)
    } else {
        slope.near::<V, true>(0, whole, params)
    };
    if half {
        let more = slope.near::<V::Half, true>(whole, 1, params);
        sum += more.0;
        lanes += more.1;
        beyond |= more.2;
    }
    let mut far = (T::zero(), 0);
    if beyond {
        far = descend_beyond(V::SET, centres, rates, width.blocks, live, gradient, gradient, params);
    }
    // Those that do not move have been counted at the rate that there is at zero.
    let still = lanes.saturating_sub(moved.saturating_sub(far.1));
    sum - T::of(f64::from(still)) * polynomial[0].max(T::of(MIN_RATE)) + far.0
}

struct Slope<'a, T> {
    centres: &'a Centres<T>,
    polynomial: &'a Lanes<T>,
    blocks: usize,
    live: &'a Live,
    gradient: &'a [Lanes<T>],
}

impl<T: Real> Slope<'_, T> {
    /// Moves `count` blocks from block `first` of every row, but for those that do not lie within the near cell. Returns the sum
    /// of all rates, of how many lanes, and whether blocks were left out. `BOUNDED`: rates may need to be raised to the
    /// least.
    #[inline(always)]
    fn near<V: Vector<T>, const BOUNDED: bool>(
        &self,
        first: usize,
        count: usize,
        params: &mut [Lanes<T>],
    ) -> (T, u32, bool) {
        let (one, scale) = (V::splat(T::one()), V::splat(self.centres.near.per_radius));
        let least = V::splat(T::of(MIN_RATE));
        let polynomial = Polynomial::<V, NEAR>::new(self.polynomial);
        let (mut sum, mut blocks, mut beyond) = (V::zero(), 0, false);
        for row in bits(&self.live.rows) {
            let span = row * self.blocks + first..row * self.blocks + first + count;
            for (params, gradient) in params[span.clone()].iter_mut().zip(&self.gradient[span]) {
                let g = V::load(gradient);
                let x = g.mul(scale);
                if x.within(one) != V::ALL {
                    beyond = true;
                    continue;
                }
                let mut eta = polynomial.at(x);
                if BOUNDED {
                    eta = eta.at_least(least);
                }
                eta.mul_sub_from(g, V::load(params)).store(params);
                sum = sum.add(eta);
                blocks += 1;
            }
        }
        (sum.sum(), blocks * V::ALL.count_ones(), beyond)
    }
}

#[inline(always)]
fn descend_along_body<T: Real, V: Vector<T>, const SUMS: usize>(
    centres: &Centres<T>,
    rates: &[Lanes<T>],
    width: Width,
    live: &Live,
    feature: &[Lanes<T>],
    direction: &[Lanes<T>],
    params: &mut [Lanes<T>],
) -> (T, u32) {
    let (one, scale) = (V::splat(T::one()), V::splat(centres.near.per_radius));
    let least = V::splat(T::of(MIN_RATE));
    let polynomial = Polynomial::<V, NEAR>::new(&coefficients::<T, V>(&centres.near.rates, rates));
    let mut moves = Moves::<V>::new();
    for row in bits(&live.rows) {
        for at in row * width.blocks..row * width.blocks + live.blocks {
            let x = V::load(&feature[at]).mul(scale);
            if x.within(one) == V::ALL {
                moves.make(polynomial.at(x).at_least(least), V::load(&direction[at]), &mut params[at]);
            }
        }
    }
    let (sum, count) = moves.totals();
    let more = descend_beyond(V::SET, centres, rates, width.blocks, live, feature, direction, params);
    (sum + more.0, count + more.1)
}

#[inline(always)]
fn descend_beyond_body<T: Real, V: Vector<T>, const SUMS: usize>(
    centres: &Centres<T>,
    rates: &[Lanes<T>],
    blocks: usize,
    live: &Live,
    feature: &[Lanes<T>],
    direction: &[Lanes<T>],
    params: &mut [Lanes<T>],
) -> (T, u32) {
    let (one, near) = (V::splat(T::one()), V::splat(centres.near.per_radius));
    let scale = V::splat(centres.far.per_radius);
    let least = V::splat(T::of(MIN_RATE));
    let polynomial = Polynomial::<V, FAR>::new(&coefficients::<T, V>(&centres.far.rates, rates));
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
            moves.make(eta.at_least(least), V::load(&direction[at]), &mut params[at]);
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

/// The coefficients of the rate as a polynomial of `x`, for these local rates.
#[inline(always)]
fn coefficients<T: Real, V: Vector<T>>(cell: &[Lanes<T>], rates: &[Lanes<T>]) -> Lanes<T> {
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
    stored(a.add(b).add(c.add(d)))
}

struct Polynomial<V, const P: usize>([V; P]);

impl<V, const P: usize> Polynomial<V, P> {
    #[inline(always)]
    fn new<T: Real>(coefficients: &Lanes<T>) -> Self
    where
        V: Vector<T>,
    {
        let mut all = [V::zero(); P];
        for (all, &coefficient) in all.iter_mut().zip(coefficients) {
            *all = V::splat(coefficient);
        }
        Polynomial(all)
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
) -> u32 {
    let mut moves = Moves::<V>::new();
    for row in bits(&live.rows) {
        let span = row * blocks..row * blocks + live.blocks;
        for (params, direction) in params[span.clone()].iter_mut().zip(&direction[span]) {
            moves.make(V::splat(rate), V::load(direction), params);
        }
    }
    moves.totals().1
}
