//! The scalar type of networks and memories.

use num_traits::{Float, NumAssign};

use super::kernel::{self, Vector};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `f32`, in which robots learn, or `f64`, in which the reference values hold. Sealed.
pub trait Real:
    Float + NumAssign + Default + std::fmt::Debug + Send + Sync + 'static + sealed::Sealed
{
    /// What is smaller counts as zero where a gradient is computed: far below what could move a weight, and far enough
    /// above the least normal number that what the kernels make of it stays normal. Arithmetic on subnormal numbers can
    /// take a hundred times as long.
    const TINY: Self;

    /// What is larger counts as not finite where a gradient is computed: far beyond anything of use, and far enough from the
    /// largest number that sums of many products with it are finite.
    const HUGE: Self;

    /// Whether memories may be evaluated by polynomials near zero (see `centres`): to this type's precision, that is.
    const POLYNOMIALS: bool;

    /// Sixteen of them under AVX-512.
    #[cfg(target_arch = "x86_64")]
    type Avx512: Vector<Self>;

    /// Sixteen of them under AVX2.
    #[cfg(target_arch = "x86_64")]
    type Avx2: Vector<Self>;

    /// The nearest value to `value`.
    fn of(value: f64) -> Self;
    /// As an `f64`, exactly.
    fn wide(self) -> f64;

    /// `exp` of each, for arguments that are not positive, to about one unit in the last place; what is far below zero may
    /// give the least normal number instead of less.
    fn exp_of_negative(x: [Self; 16]) -> [Self; 16];
}

impl Real for f32 {
    const TINY: f32 = 1.0 / (1u64 << 40) as f32;
    const HUGE: f32 = 1e15;
    const POLYNOMIALS: bool = true;

    #[cfg(target_arch = "x86_64")]
    type Avx512 = kernel::Zmm;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = kernel::Ymm;

    fn of(value: f64) -> Self {
        value as f32
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn exp_of_negative(x: [f32; 16]) -> [f32; 16] {
        // 1.5 · 2^23: adding it rounds to an integer, which then stands in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        let mut out = [0.0; 16];
        for (out, x) in out.iter_mut().zip(x) {
            let x = if x > exp::LEAST { x } else { exp::LEAST };
            let rounded = x * std::f32::consts::LOG2_E + ROUND;
            let n = rounded - ROUND;
            let r = (x - n * exp::LN_2_HIGH) - n * exp::LN_2_LOW;
            let mut p = exp::TAYLOR[0];
            for coefficient in &exp::TAYLOR[1..] {
                p = p * r + coefficient;
            }
            let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
            *out = p * f32::from_bits(exponent << 23);
        }
        out
    }
}

/// `exp` in single precision: 2^n · p(r), where x = n ln 2 + r; p is the Taylor polynomial, of which eight terms leave 1e-8 on
/// |r| <= ln 2 / 2.
pub(super) mod exp {
    /// From here on it is the least normal number, about.
    pub(in crate::learn) const LEAST: f32 = -87.0;
    /// ln 2 in two parts: n times the first is exact.
    pub(in crate::learn) const LN_2_HIGH: f32 = 0.693_359_4;
    pub(in crate::learn) const LN_2_LOW: f32 = -2.121_944_4e-4;
    /// By descending power.
    pub(in crate::learn) const TAYLOR: [f32; 8] =
        [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
}

impl Real for f64 {
    const TINY: f64 = 1e-150;
    const HUGE: f64 = 1e120;
    const POLYNOMIALS: bool = false;

    #[cfg(target_arch = "x86_64")]
    type Avx512 = kernel::Array<f64, true>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = kernel::Array<f64, true>;

    fn of(value: f64) -> Self {
        value
    }

    fn wide(self) -> f64 {
        self
    }

    fn exp_of_negative(x: [f64; 16]) -> [f64; 16] {
        x.map(f64::exp)
    }
}

/// Whether all of `values` are finite (written so that it vectorises: no early exit).
pub(super) fn all_finite<T: Real>(values: &[T]) -> bool {
    values.iter().fold(true, |all, value| all & value.is_finite())
}

/// Whether none of `values` is beyond [`Real::HUGE`], and all are numbers.
pub(super) fn all_moderate<T: Real>(values: &[T]) -> bool {
    values.iter().fold(true, |all, value| all & (value.abs() <= T::HUGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectorised_exponential_is_exact_to_single_precision() {
        for start in (0..8_800_000).step_by(16) {
            let x: [f32; 16] = std::array::from_fn(|i| -1e-5 * (start + i) as f32);
            for (x, e) in x.iter().zip(f32::exp_of_negative(x)) {
                let expected = f64::from(*x).exp().max(1e-38);
                assert!(
                    (f64::from(e) / expected - 1.0).abs() < 2.5e-7 || *x < -87.0,
                    "{x}: {e:e} {expected:e}"
                );
            }
        }
        assert_eq!(f32::exp_of_negative([0.0; 16]), [1.0; 16]);
        assert!(f32::exp_of_negative([f32::NEG_INFINITY; 16])[0].is_normal());
        assert!(f32::exp_of_negative([-1e30; 16])[0] < 2e-38);
    }
}
