//! The memories' part of a step: what they learn from two successive gradients, and the rates that they give.
//!
//! Nearly all gradients lie near zero, far nearer than the centres are apart. There, activations and rates are
//! polynomials of the gradient (see [`Cell`]): the sums of activations over all coordinates are
//! sums of powers times a small matrix, and the rate is a few multiplications with coefficients that one step shares. So
//! nothing is looked up and nothing scattered. Coordinates further out take the definition itself, one by one, over the
//! centres around them.
//!
//! Gradients are given in [`Centres::unit`]; rates, products of gradients and parameters are what they are. `most` is what no
//! magnitude of a gradient is above: it decides how many powers are enough, and whether any block has to be looked at for
//! being too far out.

use super::lanes::{self, LANES, Lanes, Vector, bits, bits_of_both, clamp};
use super::{Extent, InstructionSet, Level, Live, Width};
use crate::learn::Real;
use crate::learn::centres::{Cell, Centres, FAR, FEW, NEAR};
use crate::learn::memory::{MAX_RATE, MIN_RATE, Memory};
use crate::learn::network::{Gradient, Matrix};
use crate::learn::optimiser::Group;

dispatched! {
    /// Eq. (10), (12), (13): every group's memory learns from the gradient `now` and the one `before`, both clipped.
    ///
    /// Its training signal is, summed over all coordinates `d` of the group, `a_k(before_d) · h_d`, where `h_d` is
    /// `now_d · before_d` clamped to [-1, 1] or, as the memory has it, its sign.
    fn learn = learn_body, (
        groups: &mut [Group<T>],
        matrices: &[Matrix],
        now: &Gradient<T>,
        before: &Gradient<T>,
    )
}

dispatched! {
    /// Eq. (11): `params -= rate(gradient) · gradient` in every group that has a memory; the gradient is clipped. Returns the
    /// sum of the rates of what is not zero, and how many coordinates that is.
    fn descend = descend_body, (
        groups: &[Group<T>],
        matrices: &[Matrix],
        gradient: &Gradient<T>,
        params: &mut [Lanes<T>],
    ) -> (f64, usize)
}

dispatched! {
    /// `params -= rate(feature) · direction`, both clipped, the direction not in units. Coordinates without direction do not
    /// move. Returns the sum of the rates applied and how many coordinates moved.
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
    /// What [`learn`] leaves out of a matrix: the blocks that do not lie within the near cell.
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
    /// `descend_along` of the blocks that do not lie within the near cell; the direction is in `unit`s.
    fn descend_beyond = descend_beyond_body, (
        centres: &Centres<T>,
        rates: &[Lanes<T>],
        blocks: usize,
        live: &Live,
        feature: &[Lanes<T>],
        direction: &[Lanes<T>],
        unit: T,
        params: &mut [Lanes<T>],
    ) -> (T, u32)
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
fn learn_body<T: Real, V: Vector<T>, const SUMS: usize>(
    groups: &mut [Group<T>],
    matrices: &[Matrix],
    now: &Gradient<T>,
    before: &Gradient<T>,
) {
    // All accumulate before any learns: what one group waits for, another one's work fills.
    for group in groups.iter_mut() {
        let range = group.matrices();
        let Some(memory) = group.memory_mut() else { continue };
        let (centres, sign, change) = memory.signal_mut();
        let signal = Signal::new(centres, sign);
        for at in range {
            let (width, values) = (matrices[at].width, matrices[at].range());
            let pairs = Pairs {
                signal: &signal,
                width,
                gradient: &now.values[values.clone()],
                live: &now.live[at],
                previous: &before.values[values],
                live_before: &before.live[at],
            };
            accumulate::<T, V>(centres, sign, &pairs, before.extent[at].most, change);
        }
    }
    for group in groups {
        let coordinates = matrices[group.matrices()].iter().map(|matrix| matrix.coordinates).sum();
        let Some(memory) = group.memory_mut() else { continue };
        if let Some((by, change, rates)) = memory.learn(coordinates) {
            follow::<T, V>(by, change, rates);
        }
    }
}

/// Adds to `change` what one matrix has to say.
#[inline(always)]
fn accumulate<T: Real, V: Vector<T>>(
    centres: &Centres<T>,
    sign: bool,
    pairs: &Pairs<'_, T>,
    most_before: T,
    change: &mut [Lanes<T>],
) {
    if most_before <= centres.few.reach {
        pairs.add::<V, FEW, false>(&centres.few, change);
    } else if most_before <= centres.near.reach {
        pairs.add::<V, NEAR, false>(&centres.near, change);
    } else if pairs.add::<V, NEAR, true>(&centres.near, change) {
        let &Pairs { width, gradient, live, previous, live_before, .. } = pairs;
        accumulate_beyond(V::SET, centres, sign, width.blocks, gradient, live, previous, live_before, change);
    }
}

/// How `h` comes of two gradients in units.
struct Signal<T> {
    sign: bool,
    /// What it is clamped to, if it may come as far.
    bound: Option<T>,
    /// Of a product in units the product itself.
    factor: T,
}

impl<T: Real> Signal<T> {
    #[inline(always)]
    fn new(centres: &Centres<T>, sign: bool) -> Self {
        let square = centres.unit * centres.unit;
        // The product of any gradient with one in the near cell is at most so large.
        let clamps = centres.clip * centres.unit * centres.near.reach > T::one();
        Signal {
            sign,
            bound: clamps.then(|| T::one() / square),
            factor: if sign { T::one() } else { square },
        }
    }

    /// Before it is multiplied by the factor.
    #[inline(always)]
    fn of<V: Vector<T>>(&self, gradient: V, before: V) -> V {
        let product = gradient.mul(before);
        match self.bound {
            _ if self.sign => sign_of(product),
            Some(bound) => clamp(product, bound),
            None => product,
        }
    }
}

struct Pairs<'a, T> {
    signal: &'a Signal<T>,
    width: Width,
    gradient: &'a [Lanes<T>],
    live: &'a Live,
    previous: &'a [Lanes<T>],
    live_before: &'a Live,
}

impl<T: Real> Pairs<'_, T> {
    /// Adds to `change` what all blocks have to say or, if `CHECKED`, those within `cell`. Whether any were left out.
    #[inline(always)]
    fn add<V: Vector<T>, const P: usize, const CHECKED: bool>(
        &self,
        cell: &Cell<T>,
        change: &mut [Lanes<T>],
    ) -> bool {
        let (whole, half) = self.width.split(self.live.blocks.min(self.live_before.blocks));
        let mut sums = [T::zero(); P];
        let mut beyond = self.sum::<V, P, CHECKED>(cell, 0, whole, &mut sums);
        if half {
            beyond |= self.sum::<V::Half, P, CHECKED>(cell, whole, 1, &mut sums);
        }
        add_moments::<T, V, P>(&sums, self.signal.factor, &cell.activations, change);
        beyond
    }

    /// Adds up the signal's powers over `count` blocks from block `first` of every row.
    #[inline(always)]
    fn sum<V: Vector<T>, const P: usize, const CHECKED: bool>(
        &self,
        cell: &Cell<T>,
        first: usize,
        count: usize,
        sums: &mut [T; P],
    ) -> bool {
        let reach = V::splat(cell.reach);
        let mut moments = [V::zero(); P];
        let mut beyond = false;
        for row in bits_of_both(&self.live.rows, &self.live_before.rows) {
            let start = row * self.width.blocks + first;
            let both = self.gradient[start..][..count].iter().zip(&self.previous[start..][..count]);
            for (gradient, previous) in both {
                let before = V::load(previous);
                if CHECKED && before.within(reach) != V::ALL {
                    beyond = true;
                    continue;
                }
                add_powers(&mut moments, self.signal.of(V::load(gradient), before), before);
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
    let near = V::splat(centres.near.reach);
    let (far, scale) = (V::splat(centres.far.reach), V::splat(centres.far.scale));
    // Any gradient may be here.
    let signal =
        Signal { bound: Some(T::one() / (centres.unit * centres.unit)), ..Signal::new(centres, sign) };
    let mut moments = [V::zero(); FAR];
    let both = live.blocks.min(live_before.blocks);
    for row in bits_of_both(&live.rows, &live_before.rows) {
        for at in row * blocks..row * blocks + both {
            let before = V::load(&previous[at]);
            if before.within(near) == V::ALL {
                continue;
            }
            let h = signal.of(V::load(&gradient[at]), before);
            let inside = before.within(far);
            add_powers(&mut moments, h.only(inside), before.only(inside).mul(scale));
            let outside = h.nonzero() & !inside;
            if outside != 0 {
                let (before, h): (Lanes<T>, Lanes<T>) = (stored(before), stored(h));
                for lane in bits(&[outside]) {
                    add_exactly::<T, V>(
                        centres,
                        before[lane] * centres.unit,
                        h[lane] * signal.factor,
                        change,
                    );
                }
            }
        }
    }
    let mut sums = [T::zero(); FAR];
    for (sum, moment) in sums.iter_mut().zip(&moments) {
        *sum = moment.sum();
    }
    add_moments::<T, V, FAR>(&sums, signal.factor, &centres.far.activations, change);
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

/// `change[k] += factor · sum over p of activations[p][k] · moments[p]`.
#[inline(always)]
fn add_moments<T: Real, V: Vector<T>, const P: usize>(
    moments: &[T; P],
    factor: T,
    activations: &[Lanes<T>],
    change: &mut [Lanes<T>],
) {
    for (change, activations) in change.iter_mut().zip(activations.as_chunks::<P>().0) {
        let mut sum = V::load(change);
        for (&moment, activations) in moments.iter().zip(activations) {
            sum = V::splat(moment * factor).mul_add(V::load(activations), sum);
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
    groups: &[Group<T>],
    matrices: &[Matrix],
    gradient: &Gradient<T>,
    params: &mut [Lanes<T>],
) -> (f64, usize) {
    let (mut sum, mut moved) = (0.0, 0);
    for group in groups {
        let Some((centres, rates)) = group.memory().map(Memory::lookup) else { continue };
        for at in group.matrices() {
            let (width, values) = (matrices[at].width, matrices[at].range());
            let (live, extent) = (&gradient.live[at], gradient.extent[at]);
            let slope = Slope { width, live, gradient: &gradient.values[values.clone()], unit: centres.unit };
            sum += slope.descend::<V>(centres, rates, extent, &mut params[values]).wide();
            moved += extent.moved as usize;
        }
    }
    (sum, moved)
}

/// Whether rounding can take no rate below the least, for gradients of at most one unit.
#[inline(always)]
fn stays_above_least<T: Real>(polynomial: &[T]) -> bool {
    let mut all = T::zero();
    for coefficient in polynomial {
        all += coefficient.abs();
    }
    polynomial[0] + polynomial[0] - all > T::of(MIN_RATE) + T::of(1e-6) * all
}

struct Slope<'a, T> {
    width: Width,
    live: &'a Live,
    gradient: &'a [Lanes<T>],
    unit: T,
}

impl<T: Real> Slope<'_, T> {
    /// Moves one matrix. Returns the sum of the rates of what is not zero.
    #[inline(always)]
    fn descend<V: Vector<T>>(
        &self,
        centres: &Centres<T>,
        rates: &[Lanes<T>],
        extent: Extent<T>,
        params: &mut [Lanes<T>],
    ) -> T {
        if extent.most <= centres.few.reach {
            let polynomial = coefficients::<T, V>(&centres.few.rates, rates);
            if stays_above_least(&polynomial[..FEW]) {
                return self.all::<V, FEW>(&polynomial, extent.moved, params);
            }
        }
        let polynomial = coefficients::<T, V>(&centres.near.rates, rates);
        if extent.most <= centres.near.reach && stays_above_least(&polynomial[..NEAR]) {
            return self.all::<V, NEAR>(&polynomial, extent.moved, params);
        }
        let (sum, lanes, beyond) = self.within::<V>(&polynomial, centres.near.reach, params);
        let mut far = (T::zero(), 0);
        if beyond {
            let &Slope { width, live, gradient, unit } = self;
            far =
                descend_beyond(V::SET, centres, rates, width.blocks, live, gradient, gradient, unit, params);
        }
        let moved = extent.moved.saturating_sub(far.1);
        self.moving(sum, lanes, moved, polynomial[0].max(T::of(MIN_RATE))) + far.0
    }

    /// Moves all blocks. Returns the sum of the rates of the `moved` that are not zero.
    #[inline(always)]
    fn all<V: Vector<T>, const P: usize>(
        &self,
        polynomial: &Lanes<T>,
        moved: u32,
        params: &mut [Lanes<T>],
    ) -> T {
        let (whole, half) = self.width.split(self.live.blocks);
        let (mut sum, mut lanes) = self.move_along::<V, P>(polynomial, 0, whole, params);
        if half {
            let more = self.move_along::<V::Half, P>(polynomial, whole, 1, params);
            sum += more.0;
            lanes += more.1;
        }
        self.moving(sum, lanes, moved, polynomial[0])
    }

    /// Of the sum over so many lanes, in units, the part of those that moved: the others have the rate that there is at zero.
    #[inline(always)]
    fn moving(&self, sum: T, lanes: u32, moved: u32, at_zero: T) -> T {
        (sum / self.unit - T::of(f64::from(lanes.saturating_sub(moved))) * at_zero).max(T::zero())
    }

    /// Moves `count` blocks from block `first` of every row. Returns the sum of all rates, in units, and of how many lanes.
    #[inline(always)]
    fn move_along<V: Vector<T>, const P: usize>(
        &self,
        polynomial: &Lanes<T>,
        first: usize,
        count: usize,
        params: &mut [Lanes<T>],
    ) -> (T, u32) {
        let polynomial = Polynomial::<V, P>::new(polynomial, self.unit);
        let (mut sum, mut blocks) = (V::zero(), 0);
        for row in bits(&self.live.rows) {
            let start = row * self.width.blocks + first;
            for (params, gradient) in
                params[start..][..count].iter_mut().zip(&self.gradient[start..][..count])
            {
                let x = V::load(gradient);
                let eta = polynomial.at(x);
                eta.mul_sub_from(x, V::load(params)).store(params);
                sum = sum.add(eta);
            }
            blocks += count as u32;
        }
        (sum.sum(), blocks * V::ALL.count_ones())
    }

    /// Moves the blocks that lie within `reach`. Returns the sum of all their rates, in units, of how many lanes, and whether
    /// blocks were left out.
    #[inline(always)]
    fn within<V: Vector<T>>(
        &self,
        polynomial: &Lanes<T>,
        reach: T,
        params: &mut [Lanes<T>],
    ) -> (T, u32, bool) {
        let (reach, least) = (V::splat(reach), V::splat(T::of(MIN_RATE) * self.unit));
        let polynomial = Polynomial::<V, NEAR>::new(polynomial, self.unit);
        let (mut sum, mut blocks, mut beyond) = (V::zero(), 0, false);
        for row in bits(&self.live.rows) {
            let start = row * self.width.blocks;
            let gradient = &self.gradient[start..][..self.live.blocks];
            for (params, gradient) in params[start..][..self.live.blocks].iter_mut().zip(gradient) {
                let x = V::load(gradient);
                if x.within(reach) != V::ALL {
                    beyond = true;
                    continue;
                }
                let eta = polynomial.at(x).at_least(least);
                eta.mul_sub_from(x, V::load(params)).store(params);
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
    let (one, reach) = (T::one(), V::splat(centres.near.reach));
    let polynomial = Polynomial::<V, NEAR>::new(&coefficients::<T, V>(&centres.near.rates, rates), one);
    let (mut moves, mut beyond) = (Moves::<T, V>::new(one), false);
    for row in bits(&live.rows) {
        for at in row * width.blocks..row * width.blocks + live.blocks {
            let x = V::load(&feature[at]);
            if x.within(reach) == V::ALL {
                moves.make_learnt(polynomial.at(x), V::load(&direction[at]), &mut params[at]);
            } else {
                beyond = true;
            }
        }
    }
    let (mut sum, mut count) = moves.totals();
    if beyond {
        let more =
            descend_beyond(V::SET, centres, rates, width.blocks, live, feature, direction, one, params);
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
    direction: &[Lanes<T>],
    unit: T,
    params: &mut [Lanes<T>],
) -> (T, u32) {
    let near = V::splat(centres.near.reach);
    let (far, scale) = (V::splat(centres.far.reach), V::splat(centres.far.scale));
    let polynomial = Polynomial::<V, FAR>::new(&coefficients::<T, V>(&centres.far.rates, rates), unit);
    let mut moves = Moves::<T, V>::new(unit);
    for row in bits(&live.rows) {
        for at in row * blocks..row * blocks + live.blocks {
            let x = V::load(&feature[at]);
            if x.within(near) == V::ALL {
                continue;
            }
            let inside = x.within(far);
            let mut eta = polynomial.at(x.only(inside).mul(scale));
            let outside = !inside & V::ALL;
            // A coordinate by itself costs about as much as four centres for all sixteen.
            if outside.count_ones() as usize * 4 > centres.len() {
                let exact = exact_rates(centres, rates, x.mul(V::splat(centres.unit)));
                eta = eta.only(inside).add(exact.mul(V::splat(unit)).only(outside));
            } else if outside != 0 {
                let (x, mut lanes): (Lanes<T>, Lanes<T>) = (stored(x), stored(eta));
                for lane in bits(&[outside]) {
                    lanes[lane] = exact_rate::<T, V>(centres, rates, x[lane] * centres.unit) * unit;
                }
                eta = V::load(&lanes);
            }
            moves.make_learnt(eta, V::load(&direction[at]), &mut params[at]);
        }
    }
    moves.totals()
}

/// Moves parameters, and keeps account of it.
struct Moves<T, V> {
    /// Of the direction; rates are multiplied by it.
    unit: T,
    sum: V,
    count: u32,
}

impl<T: Real, V: Vector<T>> Moves<T, V> {
    #[inline(always)]
    fn new(unit: T) -> Self {
        Moves { unit, sum: V::zero(), count: 0 }
    }

    #[inline(always)]
    fn make(&mut self, eta: V, direction: V, params: &mut Lanes<T>) {
        eta.mul_sub_from(direction, V::load(params)).store(params);
        let moved = direction.nonzero();
        self.sum = self.sum.add(eta.only(moved));
        self.count += moved.count_ones();
    }

    /// [`Moves::make`] at rates that rounding may have taken below what every local rate is at least.
    #[inline(always)]
    fn make_learnt(&mut self, eta: V, direction: V, params: &mut Lanes<T>) {
        self.make(eta.at_least(V::splat(T::of(MIN_RATE) * self.unit)), direction, params);
    }

    /// Of the rates applied, and of the coordinates that moved.
    #[inline(always)]
    fn totals(self) -> (T, u32) {
        (self.sum.sum() / self.unit, self.count)
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
    /// Of the rates times `unit`.
    #[inline(always)]
    fn new<T: Real>(coefficients: &Lanes<T>, unit: T) -> Self
    where
        V: Vector<T>,
    {
        let mut all = [V::zero(); P];
        for (all, &coefficient) in all.iter_mut().zip(coefficients) {
            *all = V::splat(coefficient * unit);
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

/// Gradient descent of the local rates: `rates += by · change`, into the bounds of a rate; and `change` is zero again.
#[inline(always)]
fn follow<T: Real, V: Vector<T>>(by: T, change: &mut [Lanes<T>], rates: &mut [Lanes<T>]) {
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
    let mut moves = Moves::<T, V>::new(T::one());
    for row in bits(&live.rows) {
        let span = row * blocks..row * blocks + live.blocks;
        for (params, direction) in params[span.clone()].iter_mut().zip(&direction[span]) {
            moves.make(V::splat(rate), V::load(direction), params);
        }
    }
    moves.totals().1
}
