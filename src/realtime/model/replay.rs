//! The samples that are remembered and learnt from again.
//!
//! Contract: construction takes (and touches) all its memory, 16 bytes per joint and sample; everything else is called by the
//! pinned thread and allocates nothing. What is drawn depends on the seed and on what was kept alone.

use super::learnt::within;
use crate::config::Config;
use crate::learn::{Batch, Checkpoint, Refusal, Values};
use crate::sample::{Motion, PerJoint};

/// A number beyond this is no measurement, whatever its unit; it would be replayed for long.
const PLAUSIBLE: f64 = 1e6;

/// First in, first out, in single precision: of each sample position, velocity, acceleration and torque of all joints.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    joints: usize,
    capacity: usize,
    keep: usize,
    draws: usize,
    samples: Vec<f32>,
    len: usize,
    /// Where the next one goes.
    next: usize,
    random: u64,
}

impl Replay {
    pub(super) fn new(config: &Config, joints: usize) -> Self {
        let capacity = config.replay_capacity.max(1);
        Replay {
            joints,
            capacity,
            keep: config.replay_keep.min(config.batch.max(1)),
            draws: config.batch.max(1),
            // Not zero, so that the pages are there.
            samples: vec![f32::NAN; capacity * 4 * joints],
            len: 0,
            next: 0,
            random: config.seed as u64,
        }
    }

    /// How many samples a step takes from here.
    pub(super) fn draws(&self) -> usize {
        self.draws.min(self.len)
    }

    /// A sample at random; zeros if there is none.
    pub(super) fn draw(&mut self) -> (Motion, PerJoint) {
        let (mut motion, mut effort) = (Motion::default(), PerJoint::default());
        let at = ((u128::from(self.draw_bits()) * self.len as u128) >> 64) as usize;
        let parts = [&mut motion.q, &mut motion.qd, &mut motion.qdd, &mut effort];
        let width = 4 * self.joints;
        let sample = self.samples[at * width..][..width].chunks_exact(self.joints);
        for (part, values) in parts.into_iter().zip(sample).filter(|_| self.len > 0) {
            part.iter_mut().zip(values).for_each(|(to, from)| *to = f64::from(*from));
        }
        (motion, effort)
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn draw_bits(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// Keeps `replay.keep` of the batch's samples, evenly spaced; one that is no measurement is left out.
    pub(super) fn keep(&mut self, batch: &Batch) {
        let width = 4 * self.joints;
        for k in 0..self.keep {
            let Some((observation, _)) = batch.rows().nth((2 * k + 1) * batch.len() / (2 * self.keep)) else {
                continue;
            };
            let motion = &observation.motion;
            let sample = &mut self.samples[self.next * width..][..width];
            let parts = [&motion.q, &motion.qd, &motion.qdd, &observation.effort];
            let plausible =
                |part: &&PerJoint| part[..self.joints].iter().all(|value| value.abs() <= PLAUSIBLE);
            if !parts.iter().all(plausible) {
                continue;
            }
            for (to, from) in sample.chunks_exact_mut(self.joints).zip(parts) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = *from as f32);
            }
            self.next = (self.next + 1) % self.capacity;
            self.len = (self.len + 1).min(self.capacity);
        }
    }

    /// Takes over `other`'s samples; both are of the same shape.
    pub(super) fn copy_from(&mut self, other: &Replay) {
        let used = other.len * 4 * self.joints;
        self.samples[..used].copy_from_slice(&other.samples[..used]);
        (self.len, self.next, self.random) = (other.len, other.next, other.random);
    }

    /// The bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.samples.as_slice())
    }

    pub(super) fn store(&self, checkpoint: &mut Checkpoint) {
        let width = 4 * self.joints;
        checkpoint.insert(
            "replay.samples",
            &[self.len, width],
            Values::F32(&self.samples[..self.len * width]),
        );
        checkpoint.insert("replay.state", &[2], Values::U64(&[self.next as u64, self.random]));
    }

    /// Takes over what a checkpoint holds of it, if anything: as many as there is room for, the newest.
    pub(super) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), Refusal> {
        let Some(&[found, _]) = checkpoint.shape("replay.samples") else { return Ok(()) };
        let width = 4 * self.joints;
        let mut samples = checkpoint.f32s("replay.samples", &[found, width])?;
        let wide: Vec<f64> = samples.iter().map(|value| f64::from(*value)).collect();
        within("replay.samples", &wide, -PLAUSIBLE, PLAUSIBLE)?;
        let state = checkpoint.u64s("replay.state", &[2])?;
        let next = (state[0] as usize).min(found);
        self.random = state[1];
        if found == self.capacity || (found < self.capacity && next == found) {
            self.next = next % self.capacity;
        } else {
            // Of another capacity: oldest first.
            samples.rotate_left(next % found.max(1) * width);
            samples.drain(..found.saturating_sub(self.capacity) * width);
            self.next = found % self.capacity;
            if found >= self.capacity {
                self.next = 0;
            }
        }
        self.len = samples.len() / width;
        self.samples[..samples.len()].copy_from_slice(&samples);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{MAX_JOINTS, Observation};

    fn replay(capacity: usize) -> Replay {
        Replay::new(&Config { replay_capacity: capacity, ..Config::default() }, 2)
    }

    fn batch(effort: f64) -> Batch {
        let mut batch = Batch::new(&Config::default(), 2);
        for k in 0..10 {
            let motion = Motion { q: [k as f64; MAX_JOINTS], ..Motion::default() };
            batch
                .push(&Observation { stamp_ns: k, motion, effort: [effort; MAX_JOINTS] }, &[0.0; MAX_JOINTS]);
        }
        batch
    }

    fn drawn(replay: &mut Replay, count: usize) -> Vec<f64> {
        (0..count).map(|_| replay.draw().1[1]).collect()
    }

    #[test]
    fn two_of_each_batch_are_kept_and_the_oldest_go_first() {
        let mut replay = replay(6);
        assert_eq!(replay.draws(), 0);
        for effort in 0..5 {
            replay.keep(&batch(f64::from(effort)));
        }
        assert_eq!(replay.draws(), 6);
        let mut seen = drawn(&mut replay, 500);
        seen.sort_by(f64::total_cmp);
        seen.dedup();
        assert_eq!(seen, [2.0, 3.0, 4.0]);
        let (motion, effort) = replay.draw();
        assert!([2.0, 7.0].contains(&motion.q[0]) && motion.q[2] == 0.0 && effort[2] == 0.0);
    }

    #[test]
    fn what_is_no_measurement_is_not_kept() {
        let mut replay = replay(6);
        for effort in [f64::NAN, f64::INFINITY, 1e30] {
            replay.keep(&batch(effort));
        }
        assert_eq!(replay.draws(), 0);
        assert_eq!(replay.draw(), Default::default());
    }

    #[test]
    fn a_copy_draws_what_the_original_draws_and_each_is_drawn_about_as_often() {
        let mut original = replay(4000);
        for effort in 0..50 {
            original.keep(&batch(f64::from(effort)));
        }
        let mut copy = replay(4000);
        copy.copy_from(&original);
        let seen = drawn(&mut original, 5000);
        assert_eq!(seen, drawn(&mut copy, 5000));
        for effort in 0..50 {
            let count = seen.iter().filter(|seen| **seen == f64::from(effort)).count();
            assert!((50..200).contains(&count), "{effort}: {count} of 5000");
        }
    }
}
