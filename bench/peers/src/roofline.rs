//! What one core could do at best, and what the step needs.

use std::hint::black_box;
use std::time::Instant;

use crate::{BATCH, HIDDEN, JOINTS, stream::INPUTS};

/// Whether the compiler was told of fused multiply-add; without, [`peak`] would measure a function call.
pub const HAS_FMA: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// Forward: 2 per sample and weight. Backward: the same for the weights' gradients and, but for the first layer's, for
/// what goes on to the layer below.
pub fn network_flop() -> f64 {
    let weights = |sizes: &[usize]| sizes.windows(2).map(|pair| pair[0] * pair[1]).sum::<usize>();
    let sizes = [[INPUTS].as_slice(), &HIDDEN, &[1]].concat();
    (2 * BATCH * JOINTS * (2 * weights(&sizes) + weights(&sizes[1..]))) as f64
}

/// 92 per coordinate, with the three centres on either side of the nearest, each Gaussian by recurrence from its
/// neighbour: clip 2, clamped product 3, two positions among the centres 6, three exponentials 24 and two reciprocals 2;
/// learning 3 for the nearest centre's Gaussian, 1 + 6 x 3 for the sums; predicting 6 x 5 and a division; moving 2.
pub fn memory_flop() -> f64 {
    let sizes = [[INPUTS].as_slice(), &HIDDEN, &[1]].concat();
    let coordinates: usize = sizes.windows(2).map(|pair| (pair[0] + 1) * pair[1]).sum();
    (92 * JOINTS * coordinates) as f64
}

/// FLOP per second of one core in a loop of fused multiply-adds, the best of three numbers of independent chains: two
/// units with a latency of four cycles want 64 floats of 8 lanes or 128 of 16, and all must stay in registers.
pub fn peak() -> f64 {
    fused::<64>().max(fused::<96>()).max(fused::<128>())
}

fn fused<const CHAINS: usize>() -> f64 {
    const ROUNDS: usize = 100_000;
    let (factor, term) = (black_box(0.999f32), black_box(1e-3f32));
    let mut chains = black_box([1f32; CHAINS]);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for chain in &mut chains {
            *chain = chain.mul_add(factor, term);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    black_box(chains);
    (2 * CHAINS * ROUNDS) as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joints_step_takes_the_operations_counted_by_hand() {
        // 6,100 weights, 5,050 of them above the first layer; 6,251 parameters.
        assert_eq!(network_flop(), 7.0 * 20.0 * (2.0 * 6100.0 + 5050.0));
        assert_eq!(memory_flop(), 7.0 * 92.0 * 6251.0);
    }
}
