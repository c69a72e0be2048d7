//! Sixteen numbers at once.
//!
//! [`Vector`] is the arithmetic that the loops are written in. [`Array`] does it in plain Rust, for every processor and for
//! double precision; `x86` does it in registers of AVX-512 and of AVX2. All agree but for the rounding of `mul_add`.

use super::InstructionSet;
use crate::learn::Real;

/// How many numbers a block holds: one register of AVX-512, two of AVX2, four of NEON in single precision.
pub(in crate::learn) const LANES: usize = 16;

/// A block.
#[allow(unreachable_pub)] // it stands in the bounds of a public trait
pub type Lanes<T> = [T; LANES];

/// How many blocks hold `units` numbers.
pub(in crate::learn) const fn blocks_for(units: usize) -> usize {
    units.div_ceil(LANES)
}

/// Sixteen numbers in registers; or the first eight of sixteen, where the others are not needed.
pub trait Vector<T: Real>: Copy {
    /// The first half of a block, if that costs less than all of it; else all of it.
    type Half: Vector<T>;
    /// What it is compiled for.
    const SET: InstructionSet;
    /// The bits of all its lanes.
    const ALL: u16;

    /// The lanes that a half has.
    fn low(self) -> Self::Half;

    fn splat(value: T) -> Self;
    /// [`Vector::splat`] for when the low half is wanted as well.
    #[inline(always)]
    fn splat_of_both(value: T) -> Self {
        Self::splat(value)
    }
    fn load(from: &Lanes<T>) -> Self;
    fn store(self, to: &mut Lanes<T>);
    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self · factor + sum`, rounded once where the processor can.
    fn mul_add(self, factor: Self, sum: Self) -> Self;
    /// `sum - self · factor`, likewise.
    fn mul_sub_from(self, factor: Self, sum: Self) -> Self;
    /// Of numbers that are not negative: not zero where either is not.
    fn or(self, other: Self) -> Self;
    /// The smaller; `self` if either is not a number.
    fn at_most(self, bound: Self) -> Self;
    /// The larger; `self` if either is not a number.
    fn at_least(self, bound: Self) -> Self;
    /// Bit `i`: lane `i` is greater than `bound`.
    fn above(self, bound: Self) -> u16;
    /// Bit `i`: lane `i`'s magnitude is `bound` at most.
    fn within(self, bound: Self) -> u16;
    /// Bit `i`: lane `i` is not 0.
    fn nonzero(self) -> u16;
    /// The lanes that have their bit in `mask`, and 0 in the others.
    fn only(self, mask: u16) -> Self;
    /// The magnitudes.
    #[inline(always)]
    fn magnitude(self) -> Self {
        self.at_least(self.mul(Self::splat(-T::one())))
    }
    /// Into `[-clip, clip]`, and 0 where its magnitude is not above `least` or it is not a number; and which lanes that leaves.
    #[inline(always)]
    fn clipped(self, clip: Self, least: Self) -> (Self, u16) {
        let above = self.magnitude().above(least);
        (self.at_most(clip).at_least(clip.mul(Self::splat(-T::one()))).only(above), above)
    }
    /// The sum of the lanes.
    fn sum(self) -> T;
    /// The largest of the lanes, if all are numbers.
    #[inline(always)]
    fn most(self) -> T {
        let mut lanes = [T::zero(); LANES];
        self.store(&mut lanes);
        lanes.iter().fold(lanes[0], |most, lane| if *lane > most { *lane } else { most })
    }
    /// `exp` of each, as [`Real::exp_of_negative`].
    fn exp_of_negative(self) -> Self;

    /// Lane by lane, in which of the first `count` rows, sixteen at most, that stand `step` apart, it is above zero: a bit each.
    #[inline(always)]
    fn above_zero_in(rows: &[Lanes<T>], step: usize, count: usize) -> [u32; LANES] {
        let mut rows_of = [0; LANES];
        for (i, row) in rows.iter().step_by(step).take(count).enumerate() {
            for (rows_of, value) in rows_of.iter_mut().zip(row) {
                *rows_of |= u32::from(*value > T::zero()) << i;
            }
        }
        rows_of
    }

    /// Makes columns of rows: lane `j` of `from[i]` goes to lane `i` of `to[j · step]`, of which there are `columns`, sixteen
    /// at most.
    #[inline(always)]
    fn transpose(from: &[Lanes<T>; LANES], to: &mut [Lanes<T>], step: usize, columns: usize) {
        for (i, from) in from.iter().enumerate() {
            for (from, to) in from.iter().zip(to.iter_mut().step_by(step).take(columns)) {
                to[i] = *from;
            }
        }
    }

    #[inline(always)]
    fn zero() -> Self {
        Self::splat(T::zero())
    }
}

/// Into `[-bound, bound]`; NaN stays NaN.
#[inline(always)]
pub(super) fn clamp<T: Real, V: Vector<T>>(a: V, bound: T) -> V {
    a.at_most(V::splat(bound)).at_least(V::splat(-bound))
}

/// Plain Rust. The compiler makes vector instructions of it where it can.
#[derive(Clone, Copy)]
pub struct Array<T, const FMA: bool>(Lanes<T>);

impl<T: Real, const FMA: bool> Array<T, FMA> {
    #[inline(always)]
    fn zip(mut self, other: Self, f: impl Fn(T, T) -> T) -> Self {
        for lane in 0..LANES {
            self.0[lane] = f(self.0[lane], other.0[lane]);
        }
        self
    }

    #[inline(always)]
    fn mask(self, f: impl Fn(T, T) -> bool, other: Self) -> u16 {
        let mut bits = 0;
        for lane in 0..LANES {
            bits |= u16::from(f(self.0[lane], other.0[lane])) << lane;
        }
        bits
    }
}

impl<T: Real, const FMA: bool> Vector<T> for Array<T, FMA> {
    type Half = Self;
    const SET: InstructionSet = InstructionSet::PLAIN;
    const ALL: u16 = u16::MAX;

    #[inline(always)]
    fn low(self) -> Self {
        self
    }

    #[inline(always)]
    fn splat(value: T) -> Self {
        Array([value; LANES])
    }

    #[inline(always)]
    fn load(from: &Lanes<T>) -> Self {
        Array(*from)
    }

    #[inline(always)]
    fn store(self, to: &mut Lanes<T>) {
        *to = self.0;
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        let mut out = sum;
        for lane in 0..LANES {
            let (a, b) = (self.0[lane], factor.0[lane]);
            out.0[lane] = if FMA { a.mul_add(b, out.0[lane]) } else { a * b + out.0[lane] };
        }
        out
    }

    #[inline(always)]
    fn mul_sub_from(self, factor: Self, sum: Self) -> Self {
        self.zip(Self::zero(), |a, _| -a).mul_add(factor, sum)
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        self.at_least(other)
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        self.zip(bound, |a, b| if b < a { b } else { a })
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        self.zip(bound, |a, b| if b > a { b } else { a })
    }

    #[inline(always)]
    fn above(self, bound: Self) -> u16 {
        self.mask(|a, b| a > b, bound)
    }

    #[inline(always)]
    fn within(self, bound: Self) -> u16 {
        self.mask(|a, b| a.abs() <= b, bound)
    }

    #[inline(always)]
    fn nonzero(self) -> u16 {
        self.mask(|a, b| a != b, Self::zero())
    }

    #[inline(always)]
    fn only(mut self, mask: u16) -> Self {
        for lane in 0..LANES {
            self.0[lane] = if mask >> lane & 1 == 1 { self.0[lane] } else { T::zero() };
        }
        self
    }

    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        Array(T::exp_of_negative(self.0))
    }

    #[inline(always)]
    fn sum(self) -> T {
        let mut a = self.0;
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                a[lane] += a[lane + half];
            }
        }
        a[0]
    }
}

/// How many words there are up to the last one with a bit: of blocks of units, those that anything may be in.
pub(in crate::learn) fn reached(words: &[u16]) -> usize {
    words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1)
}

/// Row after row of so many; unlike `chunks_exact`, without a division.
#[inline(always)]
pub(super) fn rows<T>(values: &[T], width: usize) -> Rows<'_, T> {
    Rows { values, width }
}

pub(super) struct Rows<'a, T> {
    values: &'a [T],
    width: usize,
}

impl<'a, T> Iterator for Rows<'a, T> {
    type Item = &'a [T];

    #[inline(always)]
    fn next(&mut self) -> Option<&'a [T]> {
        let (row, rest) = self.values.split_at_checked(self.width)?;
        self.values = rest;
        Some(row)
    }
}

/// The bits that are set, ascending, `LANES` to a word.
#[inline(always)]
pub(super) fn bits(words: &[u16]) -> Bits<'_> {
    bits_of_both(words, words)
}

/// The bits that are set in both.
#[inline(always)]
pub(super) fn bits_of_both<'a>(words: &'a [u16], others: &'a [u16]) -> Bits<'a> {
    Bits { words, others, next: 0, word: 0 }
}

pub(super) struct Bits<'a> {
    words: &'a [u16],
    others: &'a [u16],
    next: usize,
    word: u32,
}

impl Iterator for Bits<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.word == 0 {
            self.word = u32::from(self.words.get(self.next)? & self.others.get(self.next)?);
            self.next += 1;
        }
        let bit = self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        Some((self.next - 1) * LANES + bit)
    }
}
