//! [`Vector`] in registers of x86-64.
//!
//! Nothing calls these types by name: `dispatched!` alone hands them to the loops, as `Real::Avx512` and `Real::Avx2`, inside of
//! functions that have the instruction set enabled and that are called where it was found. That is what every `unsafe` below
//! rests on, and what whoever changes this folder has to keep. The methods are inlined into those functions.

use std::arch::asm;
use std::arch::x86_64::*;

use super::lanes::{LANES, Lanes, Vector};
use super::{InstructionSet, Level};
use crate::learn::real::exp;

/// To the nearest integer, without an exception.
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// `exp` of what `n` times ln 2 leaves of `x`.
#[inline(always)]
fn exp_of_rest<V: Vector<f32>>(x: V, n: V) -> V {
    let r = n.mul_sub_from(V::splat(exp::LN_2_HIGH), x);
    let r = n.mul_sub_from(V::splat(exp::LN_2_LOW), r);
    let mut p = V::splat(exp::TAYLOR[0]);
    for &coefficient in &exp::TAYLOR[1..] {
        p = p.mul_add(r, V::splat(coefficient));
    }
    p
}

/// One register of AVX-512.
#[derive(Clone, Copy)]
pub struct Zmm(__m512);

/// One register of AVX2: half a block.
#[derive(Clone, Copy)]
pub struct Eight(__m256);

/// What it is given. Of a splat the compiler would make one of eight for the low half, and from that one of sixteen, which is
/// work for the multipliers' ports; it cannot look through this one.
#[inline]
#[target_feature(enable = "avx512f")]
fn opaque(mut lanes: __m512) -> __m512 {
    // SAFETY: nothing is done.
    unsafe { asm!("/* {0} */", inout(zmm_reg) lanes, options(pure, nomem, nostack, preserves_flags)) };
    lanes
}

/// Two registers of AVX2.
#[derive(Clone, Copy)]
pub struct Ymm(Eight, Eight);

impl Vector<f32> for Zmm {
    type Half = Eight;
    const SET: InstructionSet = InstructionSet(Level::Avx512);
    const ALL: u16 = u16::MAX;

    #[inline(always)]
    fn low(self) -> Eight {
        // SAFETY: AVX-512 is there (see the module).
        Eight(unsafe { _mm512_castps512_ps256(self.0) })
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: AVX-512 is there (see the module).
        Zmm(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn splat_of_both(value: f32) -> Self {
        // SAFETY: AVX-512 is there.
        Zmm(unsafe { opaque(Self::splat(value).0) })
    }

    #[inline(always)]
    fn load(from: &Lanes<f32>) -> Self {
        // SAFETY: AVX-512 is there; sixteen numbers can be read, and need no alignment.
        Zmm(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn store(self, to: &mut Lanes<f32>) {
        // SAFETY: AVX-512 is there; sixteen numbers can be written, and need no alignment.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: AVX-512 is there.
        Zmm(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: AVX-512 is there.
        Zmm(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: AVX-512 is there.
        Zmm(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: AVX-512 is there.
        Zmm(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
    }

    #[inline(always)]
    fn mul_sub_from(self, factor: Self, sum: Self) -> Self {
        // SAFETY: AVX-512 is there.
        Zmm(unsafe { _mm512_fnmadd_ps(self.0, factor.0, sum.0) })
    }

    #[inline(always)]
    fn transpose(from: &[Lanes<f32>; LANES], to: &mut [Lanes<f32>], step: usize, columns: usize) {
        // Longer registers would make it no faster.
        transpose(from, to, step, columns);
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: AVX-512 (with DQ) is there.
        Zmm(unsafe { _mm512_or_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        // SAFETY: AVX-512 is there. The instruction answers with its second operand if either is not a number.
        Zmm(unsafe { _mm512_min_ps(bound.0, self.0) })
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        // SAFETY: as in `at_most`.
        Zmm(unsafe { _mm512_max_ps(bound.0, self.0) })
    }

    #[inline(always)]
    fn above(self, bound: Self) -> u16 {
        // SAFETY: AVX-512 is there.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, bound.0) }
    }

    #[inline(always)]
    fn within(self, bound: Self) -> u16 {
        // SAFETY: AVX-512 is there.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(_mm512_abs_ps(self.0), bound.0) }
    }

    #[inline(always)]
    fn nonzero(self) -> u16 {
        // SAFETY: AVX-512 is there.
        unsafe { _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(self.0, _mm512_setzero_ps()) }
    }

    #[inline(always)]
    fn only(self, mask: u16) -> Self {
        // SAFETY: AVX-512 is there.
        Zmm(unsafe { _mm512_maskz_mov_ps(mask, self.0) })
    }

    #[inline(always)]
    fn above_zero_in(rows: &[Lanes<f32>], step: usize, count: usize) -> [u32; LANES] {
        let mut out = [0; LANES];
        // SAFETY: AVX-512 is there; sixteen words can be written, and need no alignment.
        unsafe {
            let mut rows_of = _mm512_setzero_si512();
            for i in 0..count {
                let above = Zmm::load(&rows[i * step]).above(Zmm::zero());
                rows_of = _mm512_mask_or_epi32(rows_of, above, rows_of, _mm512_set1_epi32(1 << i));
            }
            _mm512_storeu_si512(out.as_mut_ptr().cast(), rows_of);
        }
        out
    }

    #[inline(always)]
    fn magnitude(self) -> Self {
        // SAFETY: AVX-512 is there.
        Zmm(unsafe { _mm512_abs_ps(self.0) })
    }

    #[inline(always)]
    fn most(self) -> f32 {
        // SAFETY: AVX-512 (with DQ) is there.
        let high = Eight(unsafe { _mm512_extractf32x8_ps::<1>(self.0) });
        self.low().at_least(high).most()
    }

    #[inline(always)]
    fn clipped(self, clip: Self, least: Self) -> (Self, u16) {
        /// Of two magnitudes the lesser, with the first one's sign.
        const LESSER_MAGNITUDE: i32 = 0b0010;
        // SAFETY: AVX-512 (with DQ) is there.
        unsafe {
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(_mm512_abs_ps(self.0), least.0);
            (Zmm(_mm512_maskz_range_ps::<LESSER_MAGNITUDE>(above, self.0, clip.0)), above)
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: AVX-512 (with DQ) is there.
        let high = Eight(unsafe { _mm512_extractf32x8_ps::<1>(self.0) });
        self.low().add(high).sum()
    }

    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        let x = self.at_least(Zmm::splat(exp::LEAST));
        let powers = x.mul(Zmm::splat(std::f32::consts::LOG2_E));
        // SAFETY: AVX-512 is there.
        let n = Zmm(unsafe { _mm512_roundscale_ps::<NEAREST>(powers.0) });
        let p = exp_of_rest(x, n);
        // SAFETY: AVX-512 is there.
        Zmm(unsafe { _mm512_scalef_ps(p.0, n.0) })
    }
}

/// The columns of eight rows.
#[inline(always)]
fn eight_columns(
    a: __m256,
    b: __m256,
    c: __m256,
    d: __m256,
    e: __m256,
    f: __m256,
    g: __m256,
    h: __m256,
) -> [__m256; 8] {
    // SAFETY: AVX is there (see the module).
    unsafe {
        // Of each pair of rows, their numbers in turn; then of each four; then the halves put together.
        let (ab0, ab1) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd0, cd1) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        let (ef0, ef1) = (_mm256_unpacklo_ps(e, f), _mm256_unpackhi_ps(e, f));
        let (gh0, gh1) = (_mm256_unpacklo_ps(g, h), _mm256_unpackhi_ps(g, h));
        let low = [
            _mm256_shuffle_ps::<0x44>(ab0, cd0),
            _mm256_shuffle_ps::<0xee>(ab0, cd0),
            _mm256_shuffle_ps::<0x44>(ab1, cd1),
            _mm256_shuffle_ps::<0xee>(ab1, cd1),
        ];
        let high = [
            _mm256_shuffle_ps::<0x44>(ef0, gh0),
            _mm256_shuffle_ps::<0xee>(ef0, gh0),
            _mm256_shuffle_ps::<0x44>(ef1, gh1),
            _mm256_shuffle_ps::<0xee>(ef1, gh1),
        ];
        [
            _mm256_permute2f128_ps::<0x20>(low[0], high[0]),
            _mm256_permute2f128_ps::<0x20>(low[1], high[1]),
            _mm256_permute2f128_ps::<0x20>(low[2], high[2]),
            _mm256_permute2f128_ps::<0x20>(low[3], high[3]),
            _mm256_permute2f128_ps::<0x31>(low[0], high[0]),
            _mm256_permute2f128_ps::<0x31>(low[1], high[1]),
            _mm256_permute2f128_ps::<0x31>(low[2], high[2]),
            _mm256_permute2f128_ps::<0x31>(low[3], high[3]),
        ]
    }
}

/// The columns of four rows, in either half by itself.
#[inline(always)]
fn four_columns(a: __m256, b: __m256, c: __m256, d: __m256) -> [__m256; 4] {
    // SAFETY: AVX is there (see the module).
    unsafe {
        let (ab0, ab1) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd0, cd1) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        [
            _mm256_shuffle_ps::<0x44>(ab0, cd0),
            _mm256_shuffle_ps::<0xee>(ab0, cd0),
            _mm256_shuffle_ps::<0x44>(ab1, cd1),
            _mm256_shuffle_ps::<0xee>(ab1, cd1),
        ]
    }
}

/// [`Vector::transpose`], eight by eight or, where no more columns are left, four by four.
#[inline(always)]
fn transpose(from: &[Lanes<f32>; LANES], to: &mut [Lanes<f32>], step: usize, columns: usize) {
    if columns == 0 {
        return;
    }
    assert!(columns <= LANES && (columns - 1) * step < to.len());
    let to = to.as_mut_ptr().cast::<f32>();
    for (half, from) in from.as_chunks::<8>().0.iter().enumerate() {
        for left in (0..columns).step_by(8) {
            let breadth = columns - left;
            let column = |j: usize| to.wrapping_add((left + j) * step * LANES + half * 8);
            // SAFETY: AVX is there (see the module). `left` is 0 or 8: eight numbers of a row can be read from there. Eight
            // can be written to each of the first `breadth` columns, which begin in the middle or at the start of a block
            // that is within `to` by the assertion.
            unsafe {
                if breadth > 4 {
                    let row = |i: usize| _mm256_loadu_ps(from[i].as_ptr().wrapping_add(left));
                    let columns =
                        eight_columns(row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7));
                    if breadth >= 8 {
                        for (j, lanes) in columns.into_iter().enumerate() {
                            _mm256_storeu_ps(column(j), lanes);
                        }
                    } else {
                        for (j, lanes) in columns.into_iter().enumerate().take(breadth) {
                            _mm256_storeu_ps(column(j), lanes);
                        }
                    }
                } else {
                    let row = |i: usize| {
                        let part = |i: usize| _mm_loadu_ps(from[i].as_ptr().wrapping_add(left));
                        _mm256_set_m128(part(i + 4), part(i))
                    };
                    let columns = four_columns(row(0), row(1), row(2), row(3));
                    for (j, lanes) in columns.into_iter().enumerate().take(breadth) {
                        _mm256_storeu_ps(column(j), lanes);
                    }
                }
            }
        }
    }
}

impl Eight {
    /// One bit of each lane that compares.
    #[inline(always)]
    fn mask<const PREDICATE: i32>(self, other: Self) -> u16 {
        // SAFETY: AVX2 is there (see the module).
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<PREDICATE>(self.0, other.0)) as u16 }
    }
}

impl Vector<f32> for Eight {
    type Half = Eight;
    const SET: InstructionSet = InstructionSet(Level::Avx2);
    const ALL: u16 = 0xff;

    #[inline(always)]
    fn low(self) -> Eight {
        self
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: AVX2 is there (see the module).
        Eight(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    fn load(from: &Lanes<f32>) -> Self {
        // SAFETY: AVX2 is there; eight numbers can be read, and need no alignment.
        Eight(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn store(self, to: &mut Lanes<f32>) {
        // SAFETY: AVX2 is there; eight numbers can be written, and need no alignment.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: AVX2 is there.
        Eight(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: AVX2 is there.
        Eight(unsafe { _mm256_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: AVX2 is there.
        Eight(unsafe { _mm256_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: FMA is there.
        Eight(unsafe { _mm256_fmadd_ps(self.0, factor.0, sum.0) })
    }

    #[inline(always)]
    fn mul_sub_from(self, factor: Self, sum: Self) -> Self {
        // SAFETY: FMA is there.
        Eight(unsafe { _mm256_fnmadd_ps(self.0, factor.0, sum.0) })
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: AVX2 is there.
        Eight(unsafe { _mm256_or_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        // SAFETY: AVX2 is there. The instruction answers with its second operand if either is not a number.
        Eight(unsafe { _mm256_min_ps(bound.0, self.0) })
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        // SAFETY: as in `at_most`.
        Eight(unsafe { _mm256_max_ps(bound.0, self.0) })
    }

    #[inline(always)]
    fn above(self, bound: Self) -> u16 {
        self.mask::<_CMP_GT_OQ>(bound)
    }

    #[inline(always)]
    fn within(self, bound: Self) -> u16 {
        self.magnitude().mask::<_CMP_LE_OQ>(bound)
    }

    #[inline(always)]
    fn nonzero(self) -> u16 {
        self.mask::<_CMP_NEQ_UQ>(Eight::splat(0.0))
    }

    #[inline(always)]
    fn only(self, mask: u16) -> Self {
        // SAFETY: AVX2 is there.
        unsafe {
            let bit = _mm256_set_epi32(128, 64, 32, 16, 8, 4, 2, 1);
            let set = _mm256_and_si256(_mm256_set1_epi32(i32::from(mask)), bit);
            Eight(_mm256_and_ps(self.0, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, bit))))
        }
    }

    #[inline(always)]
    fn magnitude(self) -> Self {
        // SAFETY: AVX2 is there.
        Eight(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }

    #[inline(always)]
    fn most(self) -> f32 {
        // SAFETY: AVX2 is there.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn clipped(self, clip: Self, least: Self) -> (Self, u16) {
        // SAFETY: AVX2 is there.
        unsafe {
            let magnitude = self.magnitude();
            let above = _mm256_cmp_ps::<_CMP_GT_OQ>(magnitude.0, least.0);
            let sign = _mm256_and_ps(_mm256_set1_ps(-0.0), self.0);
            let clipped = _mm256_or_ps(magnitude.at_most(clip).0, sign);
            (Eight(_mm256_and_ps(clipped, above)), _mm256_movemask_ps(above) as u16)
        }
    }

    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        let x = self.at_least(Eight::splat(exp::LEAST));
        let powers = x.mul(Eight::splat(std::f32::consts::LOG2_E));
        // SAFETY: AVX2 is there.
        let n = Eight(unsafe { _mm256_round_ps::<NEAREST>(powers.0) });
        let p = exp_of_rest(x, n);
        // SAFETY: AVX2 is there.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.0), _mm256_set1_epi32(127));
            Eight(_mm256_mul_ps(p.0, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))))
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: AVX2 is there.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
}

impl Ymm {
    #[inline(always)]
    fn each(self, other: Self, f: impl Fn(Eight, Eight) -> Eight) -> Self {
        Ymm(f(self.0, other.0), f(self.1, other.1))
    }

    #[inline(always)]
    fn mask(self, other: Self, f: impl Fn(Eight, Eight) -> u16) -> u16 {
        f(self.0, other.0) | f(self.1, other.1) << 8
    }
}

impl Vector<f32> for Ymm {
    type Half = Eight;
    const SET: InstructionSet = InstructionSet(Level::Avx2);
    const ALL: u16 = u16::MAX;

    #[inline(always)]
    fn low(self) -> Eight {
        self.0
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Ymm(Eight::splat(value), Eight::splat(value))
    }

    #[inline(always)]
    fn load(from: &Lanes<f32>) -> Self {
        // SAFETY: AVX2 is there; of sixteen numbers the last eight can be read.
        Ymm(Eight::load(from), Eight(unsafe { _mm256_loadu_ps(from[8..].as_ptr()) }))
    }

    #[inline(always)]
    fn store(self, to: &mut Lanes<f32>) {
        self.0.store(to);
        // SAFETY: AVX2 is there; of sixteen numbers the last eight can be written.
        unsafe { _mm256_storeu_ps(to[8..].as_mut_ptr(), self.1.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.each(other, Eight::add)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.each(other, Eight::mul)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.each(other, Eight::div)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        Ymm(self.0.mul_add(factor.0, sum.0), self.1.mul_add(factor.1, sum.1))
    }

    #[inline(always)]
    fn mul_sub_from(self, factor: Self, sum: Self) -> Self {
        Ymm(self.0.mul_sub_from(factor.0, sum.0), self.1.mul_sub_from(factor.1, sum.1))
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        self.each(other, Eight::or)
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        self.each(bound, Eight::at_most)
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        self.each(bound, Eight::at_least)
    }

    #[inline(always)]
    fn above(self, bound: Self) -> u16 {
        self.mask(bound, Eight::above)
    }

    #[inline(always)]
    fn within(self, bound: Self) -> u16 {
        self.mask(bound, Eight::within)
    }

    #[inline(always)]
    fn nonzero(self) -> u16 {
        self.mask(self, |lanes, _| lanes.nonzero())
    }

    #[inline(always)]
    fn only(self, mask: u16) -> Self {
        Ymm(self.0.only(mask), self.1.only(mask >> 8))
    }

    #[inline(always)]
    fn above_zero_in(rows: &[Lanes<f32>], step: usize, count: usize) -> [u32; LANES] {
        let mut out = [0; LANES];
        // SAFETY: AVX2 is there; twice eight words can be written, and need no alignment.
        unsafe {
            let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            let zero = _mm256_setzero_ps();
            for i in 0..count {
                let (row, bit) = (Ymm::load(&rows[i * step]), _mm256_set1_epi32(1 << i));
                let above = |lanes| _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GT_OQ>(lanes, zero));
                low = _mm256_or_si256(low, _mm256_and_si256(above(row.0.0), bit));
                high = _mm256_or_si256(high, _mm256_and_si256(above(row.1.0), bit));
            }
            _mm256_storeu_si256(out.as_mut_ptr().cast(), low);
            _mm256_storeu_si256(out[8..].as_mut_ptr().cast(), high);
        }
        out
    }

    #[inline(always)]
    fn magnitude(self) -> Self {
        Ymm(self.0.magnitude(), self.1.magnitude())
    }

    #[inline(always)]
    fn most(self) -> f32 {
        self.0.at_least(self.1).most()
    }

    #[inline(always)]
    fn clipped(self, clip: Self, least: Self) -> (Self, u16) {
        let (low, high) = (self.0.clipped(clip.0, least.0), self.1.clipped(clip.1, least.1));
        (Ymm(low.0, high.0), low.1 | high.1 << 8)
    }

    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        Ymm(self.0.exp_of_negative(), self.1.exp_of_negative())
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        self.0.add(self.1).sum()
    }

    #[inline(always)]
    fn transpose(from: &[Lanes<f32>; LANES], to: &mut [Lanes<f32>], step: usize, columns: usize) {
        transpose(from, to, step, columns);
    }
}
