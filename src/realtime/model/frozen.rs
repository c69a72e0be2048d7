//! How far a network is to be trusted when nothing corrects it any more: when learning is switched off.
//!
//! Contract: called by the pinned thread; some hundred flops, no allocation. What was least-squares-learnt counts in full. A
//! network counts by two factors, both between 0 and 1:
//!
//! - *its gain* g, joint by joint: a snapshot of the network is taken every hundred batches and judged on the hundred that
//!   follow, of which it has seen none. With s what the snapshot says and r what least squares left over, g = Σ r s / Σ s², the factor
//!   with which the snapshots would have helped most; older windows count half of the next.
//! - *the motion's familiarity* c: 1 where every position, velocity and acceleration lies within five standard deviations of
//!   what was learnt from, 0 beyond seven. (A diagonal measure: it does not see combinations.)

use crate::config::Config;
use crate::learn::{Checkpoint, Refusal, Values};
use crate::sample::{MAX_JOINTS, Motion};

/// Batches between two snapshots.
const WINDOW: u32 = 100;

/// What a window keeps of its weight when the next one is judged.
const KEPT: f64 = 0.5;

/// Squared distances, in deviations, up to which a motion is as familiar as any, and from which on it is strange.
const FAMILIAR: f64 = 25.0;
const STRANGE: f64 = 50.0;

/// The least deviation, in scaled inputs: standing still long makes no motion strange.
const LEAST_DEVIATION: f64 = 0.02;

/// Samples before which every motion is strange.
const LEAST_SAMPLES: f64 = 100.0;

/// A scaled input beyond this is no motion's.
const MOST: f64 = 1e4;

/// Sums beyond this come of no torque.
const PLAUSIBLE: f64 = 1e15;

/// One joint's snapshots: Σ r s and Σ s², of the present window and of those before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Proof {
    window: [f64; 2],
    proved: [f64; 2],
    batches: u32,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Frozen {
    joints: usize,
    scales: [f64; 3],
    proofs: [Proof; MAX_JOINTS],
    count: f64,
    mean: [[f64; MAX_JOINTS]; 3],
    /// Sums of squared deviations from the mean (Welford).
    deviations: [[f64; MAX_JOINTS]; 3],
}

impl Frozen {
    pub(super) fn new(config: &Config, joints: usize) -> Self {
        let mut frozen = Frozen {
            joints,
            scales: [config.scale_position, config.scale_velocity, config.scale_acceleration],
            proofs: [Proof::default(); MAX_JOINTS],
            count: 0.0,
            mean: [[0.0; MAX_JOINTS]; 3],
            deviations: [[0.0; MAX_JOINTS]; 3],
        };
        frozen.new_task();
        frozen
    }

    /// Snapshots of all networks are being taken: the windows begin anew, staggered, so that later ones are taken by turns.
    pub(super) fn new_task(&mut self) {
        for (joint, proof) in self.proofs.iter_mut().enumerate() {
            proof.window = [0.0; 2];
            proof.batches = joint as u32 * WINDOW / MAX_JOINTS as u32;
        }
    }

    /// Judges a joint's snapshot by one batch: what it says, and what was left over, of each sample. True if the next
    /// snapshot is due.
    pub(super) fn judge(&mut self, joint: usize, said: &[f64], left: impl Iterator<Item = f64>) -> bool {
        let proof = &mut self.proofs[joint];
        let mut sums = [0.0; 2];
        for (said, left) in said.iter().zip(left) {
            sums[0] += said * left;
            sums[1] += said * said;
        }
        if sums.iter().all(|sum| sum.abs() < PLAUSIBLE) {
            proof.window[0] += sums[0];
            proof.window[1] += sums[1];
        }
        proof.batches += 1;
        if proof.batches < WINDOW {
            return false;
        }
        for (proved, window) in proof.proved.iter_mut().zip(proof.window) {
            *proved = KEPT * *proved + window;
        }
        (proof.window, proof.batches) = ([0.0; 2], 0);
        true
    }

    /// The factor with which a joint's snapshots would have helped most.
    pub(super) fn gain(&self, joint: usize) -> f64 {
        let [cross, square] = self.proofs[joint].proved;
        if square > 0.0 { (cross / square).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Takes in one motion that is learnt from.
    pub(super) fn meet(&mut self, motion: &Motion) {
        let parts = [&motion.q, &motion.qd, &motion.qdd].into_iter().zip(self.scales);
        let plausible = |(part, scale): (&[f64; MAX_JOINTS], f64)| {
            part[..self.joints].iter().all(|value| (value / scale).abs() <= MOST)
        };
        if !parts.into_iter().all(plausible) {
            return;
        }
        self.count += 1.0;
        for (part, values) in [&motion.q, &motion.qd, &motion.qdd].into_iter().enumerate() {
            for (joint, value) in values.iter().enumerate().take(self.joints) {
                let value = value / self.scales[part];
                let mean = &mut self.mean[part][joint];
                let before = value - *mean;
                *mean += before / self.count;
                self.deviations[part][joint] += before * (value - *mean);
            }
        }
    }

    /// How much like the motions learnt from a motion is.
    pub(super) fn familiarity(&self, motion: &Motion) -> f64 {
        if self.count < LEAST_SAMPLES {
            return 0.0;
        }
        let mut farthest: f64 = 0.0;
        for (part, values) in [&motion.q, &motion.qd, &motion.qdd].into_iter().enumerate() {
            for (joint, value) in values.iter().enumerate().take(self.joints) {
                let variance = self.deviations[part][joint] / self.count;
                let off = value / self.scales[part] - self.mean[part][joint];
                farthest = farthest.max(off * off / variance.max(LEAST_DEVIATION * LEAST_DEVIATION));
            }
        }
        ((STRANGE - farthest) / (STRANGE - FAMILIAR)).clamp(0.0, 1.0)
    }

    pub(super) fn copy_from(&mut self, other: &Frozen) {
        self.clone_from(other);
    }

    pub(super) fn store(&self, checkpoint: &mut Checkpoint) {
        let n = self.joints;
        let proofs: Vec<f64> = self.proofs[..n].iter().flat_map(|proof| proof.proved).collect();
        checkpoint.insert("frozen.proofs", &[n, 2], Values::F64(&proofs));
        let rows = self.mean.iter().chain(&self.deviations);
        let motions: Vec<f64> = rows.flat_map(|row| &row[..n]).copied().collect();
        checkpoint.insert("frozen.motions", &[6, n], Values::F64(&motions));
        checkpoint.insert("frozen.count", &[1], Values::F64(&[self.count]));
    }

    /// Takes over what a checkpoint holds of it, if anything.
    pub(super) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), Refusal> {
        let n = self.joints;
        if checkpoint.shape("frozen.proofs").is_none() {
            return Ok(());
        }
        let proofs = checkpoint.f64s("frozen.proofs", &[n, 2])?;
        let motions = checkpoint.f64s("frozen.motions", &[6, n])?;
        let count = checkpoint.f64s("frozen.count", &[1])?;
        super::learnt::within("frozen.count", &count, 0.0, f64::MAX)?;
        super::learnt::within("frozen.motions", &motions[3 * n..], 0.0, f64::MAX)?;
        for (proof, proved) in self.proofs.iter_mut().zip(proofs.chunks_exact(2)) {
            proof.proved = [proved[0], proved[1]];
        }
        let rows = self.mean.iter_mut().chain(&mut self.deviations);
        for (row, values) in rows.zip(motions.chunks_exact(n)) {
            row[..n].copy_from_slice(values);
        }
        self.count = count[0];
        self.new_task();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_counts_as_far_as_it_was_right() {
        for (factor, expected) in [(1.0, 1.0), (2.0, 0.5), (-1.0, 0.0), (0.5, 1.0), (f64::NAN, 0.0)] {
            let mut frozen = Frozen::new(&Config::default(), 2);
            let said = [1.0 * factor, -2.0 * factor];
            let due = (0..WINDOW).filter(|_| frozen.judge(0, &said, [1.0, -2.0].into_iter())).count();
            assert_eq!(due, 1);
            assert!((frozen.gain(0) - expected).abs() < 1e-12, "{factor}: {}", frozen.gain(0));
            assert_eq!(frozen.gain(1), 0.0, "not judged yet");
        }
    }

    #[test]
    fn what_was_learnt_from_is_familiar_and_what_lies_far_outside_is_not() {
        let mut frozen = Frozen::new(&Config::default(), 2);
        let motion = |q: f64| Motion { q: [q; MAX_JOINTS], ..Motion::default() };
        assert_eq!(frozen.familiarity(&motion(0.0)), 0.0, "nothing is known yet");
        (0..1000).for_each(|k| frozen.meet(&motion((0.1 * f64::from(k)).sin())));
        frozen.meet(&motion(f64::NAN));
        assert_eq!(frozen.familiarity(&motion(0.9)), 1.0);
        assert_eq!(frozen.familiarity(&motion(6.0)), 0.0);
        let (near, far) = (frozen.familiarity(&motion(4.0)), frozen.familiarity(&motion(4.5)));
        assert!(1.0 > near && near > far && far > 0.0, "{near} {far}");
        let fast = Motion { qd: [5.0; MAX_JOINTS], ..motion(0.5) };
        assert_eq!(frozen.familiarity(&fast), 0.0);
    }
}
