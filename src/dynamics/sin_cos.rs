//! Sine and cosine of all joints' positions at once.
//!
//! Contract: free of allocation, locks and panics. Within one unit in the last place of the exact values for every
//! input; what is not finite gives NaN. The standard library's functions take one angle at a call, and took a fifth of the
//! inverse dynamics; without calls and branches the compiler takes several angles together.
//!
//! An angle is reduced by the multiple of π/2 next to it, π/2 being taken in three parts (W. Cody, W. Waite, *Software
//! Manual for the Elementary Functions*, 1980), and the rest goes into the minimax polynomials of fdlibm (Sun, 1993).
//! The reduction is exact enough below 2^19 rad; beyond, the standard library is asked.

use std::f64::consts::FRAC_2_PI;

/// The largest angle that is reduced here, rad.
const LARGEST: f64 = 524_288.0;

/// π/2 in three parts. The first two have 33 bits each, so that their products with a whole number below 2^19 are exact.
const HALF_PI: [f64; 3] = [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_795_950_6e-21];

/// What, added and taken away again, rounds to a whole number; the number then stands in the sum's last bits.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Sine's and cosine's coefficients, of x^3 and x^4 upwards.
const SIN: [f64; 6] = [
    -1.666_666_666_666_663_2e-1,
    8.333_333_333_322_49e-3,
    -1.984_126_982_985_795e-4,
    2.755_731_370_707_006_8e-6,
    -2.505_076_025_340_686_3e-8,
    1.589_690_995_211_55e-10,
];
const COS: [f64; 6] = [
    4.166_666_666_666_66e-2,
    -1.388_888_888_887_411e-3,
    2.480_158_728_947_673e-5,
    -2.755_731_435_139_066_3e-7,
    2.087_572_321_298_175e-9,
    -1.135_964_755_778_819_5e-11,
];

/// Writes the sines and cosines of `angles`, as far as all three slices go.
pub(super) fn sin_cos(angles: &[f64], sines: &mut [f64], cosines: &mut [f64]) {
    let mut near = true;
    for ((angle, sin), cos) in angles.iter().zip(&mut *sines).zip(&mut *cosines) {
        near &= angle.abs() < LARGEST;
        (*sin, *cos) = reduced(*angle);
    }
    if !near {
        for ((angle, sin), cos) in angles.iter().zip(sines).zip(cosines) {
            (*sin, *cos) = angle.sin_cos();
        }
    }
}

/// Sine and cosine of an angle below [`LARGEST`]; some number for any other.
#[inline(always)]
fn reduced(angle: f64) -> (f64, f64) {
    let shifted = angle * FRAC_2_PI + ROUND;
    let turns = shifted - ROUND;
    let quarter = shifted.to_bits();

    // The rest of the angle as x + y, |y| below half of x's last place.
    let first = angle - turns * HALF_PI[0];
    let second = turns * HALF_PI[1];
    let coarse = first - second;
    let back = coarse - first;
    let lost = (first - (coarse - back)) - (second + back);
    let fine = lost - turns * HALF_PI[2];
    let x = coarse + fine;
    let y = (coarse - x) + fine;

    let z = x * x;
    let w = z * z;
    let tail = (SIN[1] + z * SIN[2]) + w * ((SIN[3] + z * SIN[4]) + w * SIN[5]);
    let cube = z * x;
    let sin = x - ((z * (0.5 * y - cube * tail) - y) - cube * SIN[0]);
    let tail = z * ((COS[0] + z * COS[1]) + w * ((COS[2] + z * COS[3]) + w * (COS[4] + z * COS[5])));
    let half = 0.5 * z;
    let head = 1.0 - half;
    let cos = head + (((1.0 - head) - half) + (z * tail - x * y));

    // An odd quarter turn swaps the two; the second and third turn sine's sign, the first and second cosine's.
    let swap = (quarter & 1).wrapping_neg();
    let (sin, cos) = (sin.to_bits(), cos.to_bits());
    let change = (sin ^ cos) & swap;
    let sign = |quarter: u64| (quarter & 2) << 62;
    (
        f64::from_bits((sin ^ change) ^ sign(quarter)),
        f64::from_bits((cos ^ change) ^ sign(quarter.wrapping_add(1))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many numbers further `a` is than `b`.
    fn places(a: f64, b: f64) -> u64 {
        let order = |x: f64| {
            if x.is_sign_negative() { -((x.to_bits() & !(1 << 63)) as i64) } else { x.to_bits() as i64 }
        };
        order(a).abs_diff(order(b))
    }

    /// Each angle among near ones, and alone.
    fn assert_exact(angles: &[f64]) {
        let (mut sines, mut cosines) = (vec![9.0; angles.len()], vec![9.0; angles.len()]);
        sin_cos(angles, &mut sines, &mut cosines);
        for ((angle, sin), cos) in angles.iter().zip(sines).zip(cosines) {
            let (expected_sin, expected_cos) = angle.sin_cos();
            assert!(places(sin, expected_sin) <= 1, "sin {angle:e}: {sin:e}, {expected_sin:e}");
            assert!(places(cos, expected_cos) <= 1, "cos {angle:e}: {cos:e}, {expected_cos:e}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn joint_angles_are_exact(angles in prop::array::uniform7(-7.0..7.0_f64)) {
            assert_exact(&angles);
        }

        #[test]
        fn far_angles_are_exact(angles in prop::array::uniform7(-LARGEST..LARGEST)) {
            assert_exact(&angles);
        }

        #[test]
        fn any_finite_angle_is_exact(angle in any::<f64>().prop_filter("finite", |angle| angle.is_finite())) {
            assert_exact(&[angle, 1.0]);
        }

        #[test]
        fn next_to_quarter_turns_too(turns in -330_000..330_000_i64, places in -3..=3_i64) {
            let angle = turns as f64 * std::f64::consts::FRAC_PI_2;
            assert_exact(&[f64::from_bits((angle.to_bits() as i64 + places) as u64)]);
        }
    }

    #[test]
    fn edges_are_exact_and_what_is_not_finite_gives_nan() {
        assert_exact(&[
            0.0,
            f64::MIN_POSITIVE,
            5e-324,
            1e-9,
            std::f64::consts::FRAC_PI_4,
            LARGEST,
            1e22,
            f64::MAX,
        ]);
        for angle in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let (mut sines, mut cosines) = ([9.0; 2], [9.0; 2]);
            sin_cos(&[1.0, angle], &mut sines, &mut cosines);
            assert!(sines[1].is_nan() && cosines[1].is_nan());
            assert_eq!((sines[0], cosines[0]), 1.0_f64.sin_cos());
        }
    }
}
