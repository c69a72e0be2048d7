//! The mix of experts: of each joint, whoever has been right lately.
//!
//! Contract: called by the pinned thread; some hundred flops per joint and batch, some per joint and sample; no allocation.
//!
//! There are three families: the rigid body, least squares on it, and the network on top of whichever of these there is.
//! Each is an expert with an integrator y beside it, of gain a = 0.5 and a = 1 per 10 ms, which takes up what remained of a
//! batch *after* it was learnt from, `y += a (mean(measured - family) - y)`; and, but for the rigid body, which learns
//! nothing, as it is. Three more repeat the torques measured last: the very last one, and two means of the last few. Of each
//! expert the squared error on the newest batch *before* it was learnt from runs as `L = 0.9 L + 0.1 mse`; its weight is
//! proportional to `(min L / L)^4`.
//!
//! For a torque that is commanded, experts that hand the measured torque back as it was are left out: those three, and
//! integrators of gain 1.

use crate::config::Config;
use crate::learn::{Checkpoint, Refusal, Values};
use crate::sample::{MAX_JOINTS, PerJoint};

/// The integrators' gains per 10 ms.
pub(super) const GAINS: [f64; 2] = [0.5, 1.0];

const FAMILIES: usize = 3;
const BODY: usize = 0;
const BASE: usize = 1;
const NETWORK: usize = 2;
/// Each family alone and with either integrator.
const KINDS: usize = 1 + GAINS.len();
/// What a newest torque counts against those before it, for those experts that repeat them.
const SMOOTHINGS: [f64; 3] = [1.0, 0.5, 0.2];
const PERSISTENCE: usize = FAMILIES * KINDS;
const EXPERTS: usize = PERSISTENCE + SMOOTHINGS.len();

/// A squared error beyond this is no torque's, Nm²: the batch teaches nothing.
const MOST: f64 = 1e12;
/// What is added to running errors before they are compared, Nm²: below it, experts are alike.
const LEAST: f64 = 1e-12;

/// One joint's torques for one motion, Nm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Torques {
    /// The rigid body's.
    pub(super) body: f64,
    /// Least squares', or the rigid body's where there is none.
    pub(super) base: f64,
    /// What the network adds to that.
    pub(super) correction: f64,
}

/// The experts' weights, summed up: torque = body · rigid body + base · base + network · correction + persistence · newest
/// torques + offset.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Blend {
    body: f64,
    base: f64,
    network: f64,
    persistence: [f64; SMOOTHINGS.len()],
    offset: f64,
}

impl Blend {
    /// The rigid body alone.
    const RIGID_BODY: Blend =
        Blend { body: 1.0, base: 0.0, network: 0.0, persistence: [0.0; SMOOTHINGS.len()], offset: 0.0 };

    /// The torque measured last alone.
    const LAST: Blend =
        Blend { body: 0.0, base: 0.0, network: 0.0, persistence: [1.0, 0.0, 0.0], offset: 0.0 };

    fn torque(&self, of: &Torques) -> f64 {
        // A network that is no number is none.
        let correction = if of.correction.is_finite() { of.correction } else { 0.0 };
        self.body * of.body + self.base * of.base + self.network * correction + self.offset
    }

    /// The share of joint `joint` that repeats what was measured last; the base's, where nothing was.
    fn repeated(&self, joint: usize, newest: &Newest, of: &Torques) -> f64 {
        let torque = |which: usize| if newest.known { newest.torques[which][joint] } else { of.base };
        self.persistence.iter().enumerate().map(|(which, weight)| weight * torque(which)).sum()
    }
}

/// One joint's experts.
#[derive(Clone, Copy, Debug, PartialEq)]
struct JointMix {
    integrators: [[f64; GAINS.len()]; FAMILIES],
    losses: [f64; EXPERTS],
    scored: bool,
    predicted: Blend,
    commanded: Blend,
}

impl JointMix {
    const FRESH: JointMix = JointMix {
        integrators: [[0.0; GAINS.len()]; FAMILIES],
        losses: [0.0; EXPERTS],
        scored: false,
        predicted: Blend::LAST,
        commanded: Blend::RIGID_BODY,
    };

    /// What an expert adds to its family.
    fn offset(&self, family: usize, kind: usize) -> f64 {
        if kind == 0 { 0.0 } else { self.integrators[family][kind - 1] }
    }
}

/// What the torques measured last foretell, each smoothed otherwise, and how well it did since the last batch.
#[derive(Clone, Copy, Debug)]
struct Newest {
    torques: [PerJoint; SMOOTHINGS.len()],
    known: bool,
    squares: [PerJoint; SMOOTHINGS.len()],
    foretold: f64,
}

impl Newest {
    const NONE: Newest = Newest {
        torques: [[0.0; MAX_JOINTS]; SMOOTHINGS.len()],
        known: false,
        squares: [[0.0; MAX_JOINTS]; SMOOTHINGS.len()],
        foretold: 0.0,
    };

    fn push(&mut self, measured: &PerJoint) {
        if measured.iter().any(|torque| torque.is_nan() || torque.abs() > MOST.sqrt()) {
            self.known = false;
            return;
        }
        self.foretold += if self.known { 1.0 } else { 0.0 };
        for ((torques, squares), smoothing) in self.torques.iter_mut().zip(&mut self.squares).zip(SMOOTHINGS)
        {
            for ((torque, square), measured) in torques.iter_mut().zip(squares).zip(measured) {
                let error = measured - *torque;
                if self.known {
                    *square += error * error;
                    *torque += smoothing * error;
                } else {
                    *torque = *measured;
                }
            }
        }
        self.known = true;
    }
}

/// Which experts take part: bit `3 family + kind`, and from [`PERSISTENCE`] on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Members {
    predicted: u16,
    commanded: u16,
}

/// All joints' experts.
#[derive(Clone, Debug)]
pub(super) struct Mix {
    power: f64,
    memory: f64,
    residual: bool,
    members: Members,
    joints: [JointMix; MAX_JOINTS],
    newest: Newest,
}

impl Mix {
    /// Experts of equal rights; until a joint's first batch the torque measured last is predicted, and the rigid body's commanded.
    pub(super) fn new(config: &Config, has_body: bool, has_rls: bool) -> Self {
        let with = |there: bool, family: usize, kinds: u16| if there { kinds << (family * KINDS) } else { 0 };
        let members = |body, others| {
            with(has_body, BODY, body)
                | with(has_rls, BASE, others)
                | with(config.mix_networks, NETWORK, others)
        };
        Mix {
            power: config.mix_power,
            memory: config.mix_memory,
            residual: config.residual,
            members: Members {
                predicted: members(0b110, 0b111) | 0b111 << PERSISTENCE,
                commanded: members(0b010, 0b011),
            },
            joints: [JointMix::FRESH; MAX_JOINTS],
            newest: Newest::NONE,
        }
    }

    /// The newest torque measured, Nm.
    pub(super) fn hear(&mut self, measured: &PerJoint) {
        self.newest.push(measured);
    }

    /// The torques to come do not continue those before.
    pub(super) fn forget_newest(&mut self) {
        self.newest.known = false;
    }

    /// The batch is done with.
    pub(super) fn end_batch(&mut self) {
        (self.newest.squares, self.newest.foretold) = (Newest::NONE.squares, 0.0);
    }

    /// The same experts with nothing learnt yet.
    pub(super) fn fresh(&self) -> Self {
        Mix { joints: [JointMix::FRESH; MAX_JOINTS], ..self.clone() }
    }

    /// Joint `joint`'s torques predicted and to be commanded.
    pub(super) fn torques(&self, joint: usize, of: &Torques) -> (f64, f64) {
        let own = &self.joints[joint];
        let repeated = own.predicted.repeated(joint, &self.newest, of);
        (own.predicted.torque(of) + repeated, own.commanded.torque(of))
    }

    /// Scores the experts on a batch that was not learnt from yet: the torques measured, and what the families say of each
    /// sample. Returns the mean squared errors of what may be commanded, Nm²: NaN if the batch is no torques'.
    pub(super) fn score(&mut self, joint: usize, measured: &[f64], torques: &[Torques]) -> f64 {
        let (memory, residual) = (self.memory, self.residual);
        let Newest { squares: foretold, foretold: count, .. } = &self.newest;
        let foretold = foretold.map(|squares| if *count > 0.0 { squares[joint] / count } else { MOST });
        let joint = &mut self.joints[joint];
        let per_sample = 1.0 / measured.len().max(1) as f64;
        let (mut squares, mut mixed, mut plain) = ([0.0; EXPERTS], 0.0, 0.0);
        for (measured, of) in measured.iter().zip(torques) {
            for (family, torque) in families(of, residual).into_iter().enumerate() {
                for kind in 0..KINDS {
                    squares[family * KINDS + kind] +=
                        (measured - torque - joint.offset(family, kind)).powi(2) * per_sample;
                }
            }
            mixed += (measured - joint.commanded.torque(of)).powi(2) * per_sample;
            plain += (measured - of.body).powi(2) * per_sample;
        }
        if plain.is_nan() || plain > MOST {
            return f64::NAN;
        }
        squares[PERSISTENCE..].copy_from_slice(&foretold);
        for (loss, square) in joint.losses.iter_mut().zip(squares) {
            // `min` of what is not a number is the other.
            let square = square.min(MOST);
            *loss = if joint.scored { memory * *loss + (1.0 - memory) * square } else { square };
        }
        joint.scored = true;
        mixed
    }

    /// The mean squared error of what may be commanded over some samples, Nm².
    pub(super) fn error(&self, joint: usize, measured: &[f64], torques: &[Torques]) -> f64 {
        let blend = &self.joints[joint].commanded;
        let squares =
            measured.iter().zip(torques).map(|(measured, of)| (measured - blend.torque(of)).powi(2));
        squares.sum::<f64>() / measured.len().max(1) as f64
    }

    /// Integrates what remains of a batch that was learnt from, each integrator by its share, and weighs the experts anew.
    pub(super) fn integrate(
        &mut self,
        joint: usize,
        measured: &[f64],
        torques: &[Torques],
        shares: &[f64; GAINS.len()],
    ) {
        let residual = self.residual;
        let own = &mut self.joints[joint];
        let per_sample = 1.0 / measured.len().max(1) as f64;
        let mut left = [0.0; FAMILIES];
        for (measured, of) in measured.iter().zip(torques) {
            for (left, torque) in left.iter_mut().zip(families(of, residual)) {
                *left += (measured - torque) * per_sample;
            }
        }
        let plausible = |torque: f64| torque.abs() <= MOST.sqrt();
        if !plausible(left[BODY]) {
            return;
        }
        for (integrators, left) in own.integrators.iter_mut().zip(left) {
            for (integrator, share) in integrators.iter_mut().zip(shares).filter(|_| plausible(left)) {
                *integrator += share * (left - *integrator);
            }
        }
        self.weigh(joint);
    }

    fn weigh(&mut self, joint: usize) {
        let members = self.members;
        let blends = [members.predicted, members.commanded].map(|members| self.blend(joint, members));
        [self.joints[joint].predicted, self.joints[joint].commanded] = blends;
    }

    fn blend(&self, joint: usize, members: u16) -> Blend {
        let of = &self.joints[joint];
        let is_member = |expert: usize| members >> expert & 1 == 1;
        let least =
            (0..EXPERTS).filter(|e| is_member(*e)).map(|e| of.losses[e]).fold(f64::INFINITY, f64::min);
        let weight = |expert: usize| {
            if !is_member(expert) || !of.scored {
                return 0.0;
            }
            raised((least + LEAST) / (of.losses[expert] + LEAST), self.power)
        };
        let weights: [f64; EXPERTS] = std::array::from_fn(weight);
        let sum: f64 = weights.iter().sum();
        if sum.is_nan() || sum <= 0.0 {
            return if is_member(PERSISTENCE) { Blend::LAST } else { Blend::RIGID_BODY };
        }
        let persistence = std::array::from_fn(|which| weights[PERSISTENCE + which] / sum);
        let mut blend = Blend { body: 0.0, base: 0.0, network: 0.0, persistence, offset: 0.0 };
        for family in 0..FAMILIES {
            for kind in 0..KINDS {
                let weight = weights[family * KINDS + kind] / sum;
                blend.offset += weight * of.offset(family, kind);
                match family {
                    BODY => blend.body += weight,
                    BASE => blend.base += weight,
                    _ => {
                        blend.base += if self.residual { weight } else { 0.0 };
                        blend.network += weight;
                    }
                }
            }
        }
        blend
    }

    pub(super) fn copy_from(&mut self, other: &Mix) {
        self.joints = other.joints;
        (0..MAX_JOINTS).for_each(|joint| self.weigh(joint));
    }

    pub(super) fn store(&self, checkpoint: &mut Checkpoint, joints: usize) {
        let own = &self.joints[..joints];
        let integrators: Vec<f64> = own.iter().flat_map(|j| j.integrators.as_flattened()).copied().collect();
        let losses: Vec<f64> = own.iter().flat_map(|j| j.losses).collect();
        let scored: Vec<u64> = own.iter().map(|j| u64::from(j.scored)).collect();
        checkpoint.insert("mix.integrators", &[joints, FAMILIES, GAINS.len()], Values::F64(&integrators));
        checkpoint.insert("mix.losses", &[joints, EXPERTS], Values::F64(&losses));
        checkpoint.insert("mix.scored", &[joints], Values::U64(&scored));
    }

    /// Takes over what a checkpoint holds of it, if anything.
    pub(super) fn restore(&mut self, checkpoint: &Checkpoint, joints: usize) -> Result<(), Refusal> {
        if checkpoint.shape("mix.losses").is_none() {
            return Ok(());
        }
        let integrators = checkpoint.f64s("mix.integrators", &[joints, FAMILIES, GAINS.len()])?;
        let losses = checkpoint.f64s("mix.losses", &[joints, EXPERTS])?;
        let scored = checkpoint.u64s("mix.scored", &[joints])?;
        super::learnt::within("mix.losses", &losses, 0.0, MOST)?;
        super::learnt::within("mix.integrators", &integrators, -MOST, MOST)?;
        for joint in 0..joints {
            let own = &mut self.joints[joint];
            let integrators = &integrators[joint * FAMILIES * GAINS.len()..][..FAMILIES * GAINS.len()];
            own.integrators.as_flattened_mut().copy_from_slice(integrators);
            own.losses.copy_from_slice(&losses[joint * EXPERTS..][..EXPERTS]);
            own.scored = scored[joint] != 0;
            self.weigh(joint);
        }
        Ok(())
    }
}

/// `base^power`, by multiplication where the power is a small whole number, as it is by default.
fn raised(base: f64, power: f64) -> f64 {
    if power.fract() == 0.0 && power <= 16.0 { base.powi(power as i32) } else { base.powf(power) }
}

fn families(of: &Torques, residual: bool) -> [f64; FAMILIES] {
    [of.body, of.base, if residual { of.base + of.correction } else { of.correction }]
}

/// The shares that the integrators take of a batch that stands for so many seconds; unknown time counts as 10 ms.
pub(super) fn shares(seconds: Option<f64>) -> [f64; GAINS.len()] {
    GAINS.map(|gain| seconds.map_or(gain, |seconds| 1.0 - (1.0 - gain).powf(seconds / 10e-3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of two samples: the body says 0, the base what `base` makes of the truth, the network the rest of it.
    fn learn(mix: &mut Mix, batches: u32, truth: impl Fn(u32) -> f64, base: impl Fn(f64) -> f64) -> f64 {
        let mut squared = 0.0;
        for k in 0..batches {
            let measured = [truth(2 * k), truth(2 * k + 1)];
            let torques = measured.map(|truth| Torques { body: 0.0, base: base(truth), correction: 0.0 });
            squared += (measured[0] - mix.torques(0, &torques[0]).0).powi(2) / f64::from(batches);
            measured.iter().for_each(|torque| mix.hear(&[*torque; MAX_JOINTS]));
            mix.score(0, &measured, &torques);
            mix.integrate(0, &measured, &torques, &shares(None));
            mix.end_batch();
        }
        squared
    }

    fn mix() -> Mix {
        Mix::new(&Config::default(), true, true)
    }

    #[test]
    fn whoever_is_right_gets_the_weight() {
        let wave = |k: u32| 3.0 * (0.9 * f64::from(k)).sin();
        let mut right = mix();
        let of = Torques { body: 2.0, base: 9.0, correction: 9.0 };
        assert_eq!(right.torques(0, &of), (9.0, 2.0), "nothing was measured yet");
        right.hear(&[5.0; MAX_JOINTS]);
        assert_eq!(right.torques(0, &of), (5.0, 2.0));
        learn(&mut right, 50, wave, |truth| truth);
        let (predicted, commanded) = right.torques(0, &Torques { body: 7.0, base: 1.0, correction: 0.0 });
        assert!((predicted - 1.0).abs() < 1e-6 && (commanded - 1.0).abs() < 1e-6, "{predicted} {commanded}");
        let mut wrong = mix();
        learn(&mut wrong, 50, wave, |truth| -20.0 * truth);
        let (predicted, _) = wrong.torques(0, &Torques { body: 7.0, base: 1000.0, correction: 0.0 });
        assert!((predicted - 7.0).abs() < 5.0, "{predicted}");
    }

    #[test]
    fn a_constant_error_is_integrated_and_the_measured_torque_is_predicted_but_not_commanded() {
        // Families are off by what jumps from batch to batch; only the last torque knows a slow wave.
        let mut mix = mix();
        let slow = |k: u32| 5.0 + (0.01 * f64::from(k)).sin();
        for batch in 0..200 {
            let measured = [slow(2 * batch), slow(2 * batch + 1)];
            let off = 50.0 * (2.3 * f64::from(batch)).sin();
            let torques = measured.map(|_| Torques { body: off, base: off, correction: 0.0 });
            measured.iter().for_each(|torque| mix.hear(&[*torque; MAX_JOINTS]));
            mix.score(0, &measured, &torques);
            mix.integrate(0, &measured, &torques, &shares(None));
            mix.end_batch();
        }
        let of = Torques { body: 30.0, base: 30.0, correction: 0.0 };
        let (predicted, commanded) = mix.torques(0, &of);
        assert!((predicted - slow(400)).abs() < 0.1, "{predicted}");
        assert!((commanded - predicted).abs() > 5.0, "{commanded}");
        mix.forget_newest();
        assert!((mix.torques(0, &of).0 - 30.0).abs() < 1.0, "none are known after a gap");
        mix.hear(&[7.0; MAX_JOINTS]);
        mix.hear(&[f64::NAN; MAX_JOINTS]);
        assert!((mix.torques(0, &of).0 - 30.0).abs() < 1.0);
        let mut offset = self::mix();
        assert!(learn(&mut offset, 200, |_| 4.0, |truth| truth - 1.0) < 0.2);
        let (_, commanded) = offset.torques(0, &Torques { body: 0.0, base: 3.0, correction: 0.0 });
        assert!((commanded - 4.0).abs() < 0.01, "{commanded}");
    }

    #[test]
    fn what_is_no_torque_teaches_nothing_and_a_broken_network_loses_its_say() {
        let mut mix = mix();
        learn(&mut mix, 20, |k| f64::from(k % 7), |truth| truth - 0.1);
        let before = mix.joints;
        mix.hear(&[1.0; MAX_JOINTS]);
        let of = Torques { body: 1.0, base: 1.0, correction: 0.0 };
        for bad in [f64::NAN, f64::INFINITY, 1e200] {
            let measured = [1.0, bad];
            assert!(mix.score(0, &measured, &[of; 2]).is_nan());
            mix.integrate(0, &measured, &[of; 2], &shares(None));
            assert_eq!(mix.joints, before);
        }
        let broken = Torques { correction: f64::NAN, ..of };
        mix.score(0, &[1.0; 2], &[broken; 2]);
        mix.integrate(0, &[1.0; 2], &[broken; 2], &shares(None));
        let (predicted, commanded) = mix.torques(0, &of);
        assert!((predicted - 1.0).abs() < 0.3 && (commanded - 1.0).abs() < 0.3, "{predicted} {commanded}");
    }

    #[test]
    fn integrators_forget_as_fast_at_any_rate() {
        assert_eq!(shares(None), [0.5, 1.0]);
        let [half, full] = shares(Some(20e-3));
        assert!((half - 0.75).abs() < 1e-12 && full == 1.0);
    }
}
