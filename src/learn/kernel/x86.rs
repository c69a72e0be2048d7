//! [`Vector`] in registers of x86-64.
//!
//! Nothing calls these types by name: `dispatched!` alone hands them to the loops, as `Real::Avx512` and `Real::Avx2`, inside of
//! functions that have the instruction set enabled and that are called where it was found. That is what every `unsafe` below
//! rests on, and what whoever changes this folder has to keep. The methods are inlined into those functions.

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

/// Two registers of AVX2.
#[derive(Clone, Copy)]
pub struct Ymm(__m256, __m256);

impl Vector<f32> for Zmm {
    const SET: InstructionSet = InstructionSet(Level::Avx512);

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: AVX-512 is there (see the module).
        Zmm(unsafe { _mm512_set1_ps(value) })
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
    fn transpose(
        from: &[Lanes<f32>],
        from_step: usize,
        rows: usize,
        to: &mut [Lanes<f32>],
        to_step: usize,
        columns: usize,
    ) {
        // Longer registers would make it no faster.
        Ymm::transpose(from, from_step, rows, to, to_step, columns);
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
    fn sum(self) -> f32 {
        // SAFETY: AVX-512 (with DQ) is there.
        let (low, high) = unsafe { (_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0)) };
        Ymm(low, high).sum()
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

impl Ymm {
    #[inline(always)]
    fn each(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
        Ymm(f(self.0, other.0), f(self.1, other.1))
    }

    /// One bit of each lane that compares.
    #[inline(always)]
    fn mask(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> u16 {
        // SAFETY: AVX2 is there (see the module).
        let bits = |lanes| unsafe { _mm256_movemask_ps(lanes) } as u16;
        bits(f(self.0, other.0)) | bits(f(self.1, other.1)) << 8
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

impl Vector<f32> for Ymm {
    const SET: InstructionSet = InstructionSet(Level::Avx2);

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: AVX2 is there (see the module).
        let lanes = unsafe { _mm256_set1_ps(value) };
        Ymm(lanes, lanes)
    }

    #[inline(always)]
    fn load(from: &Lanes<f32>) -> Self {
        // SAFETY: AVX2 is there; twice eight numbers can be read, and need no alignment.
        unsafe { Ymm(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from[8..].as_ptr())) }
    }

    #[inline(always)]
    fn store(self, to: &mut Lanes<f32>) {
        // SAFETY: AVX2 is there; twice eight numbers can be written, and need no alignment.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), self.0);
            _mm256_storeu_ps(to[8..].as_mut_ptr(), self.1);
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: AVX2 is there.
        self.each(other, |a, b| unsafe { _mm256_add_ps(a, b) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: AVX2 is there.
        self.each(other, |a, b| unsafe { _mm256_mul_ps(a, b) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: AVX2 is there.
        self.each(other, |a, b| unsafe { _mm256_div_ps(a, b) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: FMA is there.
        unsafe { Ymm(_mm256_fmadd_ps(self.0, factor.0, sum.0), _mm256_fmadd_ps(self.1, factor.1, sum.1)) }
    }

    #[inline(always)]
    fn mul_sub_from(self, factor: Self, sum: Self) -> Self {
        // SAFETY: FMA is there.
        unsafe { Ymm(_mm256_fnmadd_ps(self.0, factor.0, sum.0), _mm256_fnmadd_ps(self.1, factor.1, sum.1)) }
    }

    #[inline(always)]
    fn transpose(
        from: &[Lanes<f32>],
        from_step: usize,
        rows: usize,
        to: &mut [Lanes<f32>],
        to_step: usize,
        columns: usize,
    ) {
        for half in (0..rows.min(LANES)).step_by(8) {
            for part in [0, 8] {
                let row = |i: usize| {
                    let row = (half + i).min(rows - 1) * from_step;
                    // SAFETY: AVX is there (see the module); eight numbers can be read.
                    unsafe { _mm256_loadu_ps(from[row][part..][..8].as_ptr()) }
                };
                let eight = eight_columns(row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7));
                for (j, column) in eight.into_iter().enumerate().take(columns.saturating_sub(part)) {
                    let to = &mut to[(part + j) * to_step][half..][..8];
                    // SAFETY: AVX is there; eight numbers can be written.
                    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), column) }
                }
            }
        }
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        // SAFETY: AVX2 is there. The instruction answers with its second operand if either is not a number.
        self.each(bound, |a, b| unsafe { _mm256_min_ps(b, a) })
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        // SAFETY: as in `at_most`.
        self.each(bound, |a, b| unsafe { _mm256_max_ps(b, a) })
    }

    #[inline(always)]
    fn above(self, bound: Self) -> u16 {
        // SAFETY: AVX2 is there.
        self.mask(bound, |a, b| unsafe { _mm256_cmp_ps::<_CMP_GT_OQ>(a, b) })
    }

    #[inline(always)]
    fn within(self, bound: Self) -> u16 {
        // SAFETY: AVX2 is there.
        self.mask(bound, |a, b| unsafe {
            let magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
            _mm256_cmp_ps::<_CMP_LE_OQ>(magnitude, b)
        })
    }

    #[inline(always)]
    fn nonzero(self) -> u16 {
        // SAFETY: AVX2 is there.
        self.mask(self, |a, _| unsafe { _mm256_cmp_ps::<_CMP_NEQ_UQ>(a, _mm256_setzero_ps()) })
    }

    #[inline(always)]
    fn only(self, mask: u16) -> Self {
        let half = |lanes, mask: u16| {
            // SAFETY: AVX2 is there.
            unsafe {
                let bit = _mm256_set_epi32(128, 64, 32, 16, 8, 4, 2, 1);
                let set = _mm256_and_si256(_mm256_set1_epi32(i32::from(mask)), bit);
                _mm256_and_ps(lanes, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, bit)))
            }
        };
        Ymm(half(self.0, mask), half(self.1, mask >> 8))
    }

    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        let x = self.at_least(Ymm::splat(exp::LEAST));
        let powers = x.mul(Ymm::splat(std::f32::consts::LOG2_E));
        // SAFETY: AVX2 is there.
        let n = powers.each(powers, |lanes, _| unsafe { _mm256_round_ps::<NEAREST>(lanes) });
        exp_of_rest(x, n).each(n, |p, n| {
            // SAFETY: AVX2 is there.
            unsafe {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
            }
        })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: AVX2 is there.
        unsafe {
            let eight = _mm256_add_ps(self.0, self.1);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
}
