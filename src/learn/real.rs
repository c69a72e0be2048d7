//! The scalar type of networks and memories.

use num_traits::{Float, NumAssign};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `f32`, in which robots learn, or `f64`, in which the reference values hold. Sealed.
pub trait Real:
    Float + NumAssign + Default + std::fmt::Debug + Send + Sync + 'static + sealed::Sealed
{
    /// The nearest value to `value`.
    fn of(value: f64) -> Self;
    /// As an `f64`, exactly.
    fn wide(self) -> f64;
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn wide(self) -> f64 {
        self
    }
}

/// Whether all of `values` are finite (written so that it vectorises: no early exit).
pub(super) fn all_finite<T: Real>(values: &[T]) -> bool {
    values.iter().fold(true, |all, value| all & value.is_finite())
}
