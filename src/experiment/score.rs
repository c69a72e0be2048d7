//! Keeping score of torque predictions, per joint.
//!
//! Contract: one [`Scores`] per learner, fed by one thread; [`Scores::add`] allocates nothing.

use serde::{Deserialize, Serialize};

use crate::sample::{MAX_JOINTS, PerJoint};

/// How long the paper's "mean loss over the first 500 ms" lasts, ns.
pub const FIRST_NS: i64 = 500_000_000;

/// Sums of one joint, from which its figures follow.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    squared_error: f64,
    early_squared_error: f64,
    mean: f64,
    /// Sum of squared deviations from the mean (Welford).
    deviations: f64,
}

/// One joint's figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JointScore {
    /// Mean squared torque error within the first 500 ms of every phase, Nm².
    pub first500ms_mse: f64,
    /// Root mean square torque error, Nm.
    pub rms: f64,
    /// Mean squared torque error divided by the variance of the measured torque; NaN where that does not vary.
    pub nmse: f64,
}

/// Running scores of one learner over one or more phases (a phase is one recording, or one run within it).
///
/// They can be stored, and merged with others afterwards; what is read back begins a phase.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Scores {
    joints: usize,
    count: u64,
    early_count: u64,
    phase_start_ns: Option<i64>,
    sums: [Sums; MAX_JOINTS],
}

impl Scores {
    /// Nothing scored yet.
    pub fn new(joints: usize) -> Scores {
        let joints = joints.min(MAX_JOINTS);
        Scores { joints, count: 0, early_count: 0, phase_start_ns: None, sums: [Sums::default(); MAX_JOINTS] }
    }

    /// The next sample begins a phase: its first 500 ms count anew.
    pub fn new_phase(&mut self) {
        self.phase_start_ns = None;
    }

    /// Scores one prediction, Nm, against the torque measured at `stamp_ns`.
    pub fn add(&mut self, stamp_ns: i64, predicted: &PerJoint, measured: &PerJoint) {
        let start = *self.phase_start_ns.get_or_insert(stamp_ns);
        let early = stamp_ns.saturating_sub(start) < FIRST_NS;
        self.count += 1;
        self.early_count += u64::from(early);
        let count = self.count as f64;
        for ((sums, predicted), measured) in self.sums[..self.joints].iter_mut().zip(predicted).zip(measured)
        {
            let squared = (predicted - measured).powi(2);
            sums.squared_error += squared;
            if early {
                sums.early_squared_error += squared;
            }
            let deviation = measured - sums.mean;
            sums.mean += deviation / count;
            sums.deviations += deviation * (measured - sums.mean);
        }
    }

    /// Takes in what another learner of the same name scored, as if both had been one: phases are whole on either side.
    pub fn merge(&mut self, other: &Scores) {
        let (here, there) = (self.count as f64, other.count as f64);
        self.count += other.count;
        self.early_count += other.early_count;
        if other.count == 0 {
            return;
        }
        for (sums, more) in self.sums[..self.joints].iter_mut().zip(&other.sums) {
            sums.squared_error += more.squared_error;
            sums.early_squared_error += more.early_squared_error;
            let apart = more.mean - sums.mean;
            sums.mean += apart * there / (here + there);
            sums.deviations += more.deviations + apart * apart * here * there / (here + there);
        }
    }

    /// How many predictions were scored.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Each joint's figures; NaN where nothing was scored.
    pub fn joints(&self) -> Vec<JointScore> {
        let count = self.count as f64;
        self.sums[..self.joints]
            .iter()
            .map(|sums| {
                let mse = sums.squared_error / count;
                let variance = sums.deviations / count;
                JointScore {
                    first500ms_mse: sums.early_squared_error / self.early_count as f64,
                    rms: mse.sqrt(),
                    nmse: if variance > 0.0 { mse / variance } else { f64::NAN },
                }
            })
            .collect()
    }
}

/// [`Scores`] in a file, with what an arm has of joints and a place for what is not a number.
#[derive(Serialize, Deserialize)]
struct Stored {
    count: u64,
    early_count: u64,
    /// By joint: squared error, that of the first 500 ms, mean torque, squared deviations from it.
    sums: Vec<[Option<f64>; 4]>,
}

impl From<Scores> for Stored {
    fn from(scores: Scores) -> Stored {
        let finite = |value: f64| value.is_finite().then_some(value);
        let row = |sums: &Sums| {
            [sums.squared_error, sums.early_squared_error, sums.mean, sums.deviations].map(finite)
        };
        Stored {
            count: scores.count,
            early_count: scores.early_count,
            sums: scores.sums[..scores.joints].iter().map(row).collect(),
        }
    }
}

impl From<Stored> for Scores {
    fn from(stored: Stored) -> Scores {
        let mut scores = Scores::new(stored.sums.len());
        (scores.count, scores.early_count) = (stored.count, stored.early_count);
        for (sums, row) in scores.sums.iter_mut().zip(&stored.sums) {
            let [squared_error, early_squared_error, mean, deviations] =
                row.map(|value| value.unwrap_or(f64::NAN));
            *sums = Sums { squared_error, early_squared_error, mean, deviations };
        }
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: f64) -> PerJoint {
        let mut values = [0.0; MAX_JOINTS];
        values[0] = value;
        values
    }

    #[test]
    fn figures_follow_their_definitions() {
        let mut scores = Scores::new(1);
        // Errors 1, 2, 3; measured 0, 2, 4 (variance 8/3); only the first lies within 500 ms.
        scores.add(1_000_000_000, &one(1.0), &one(0.0));
        scores.add(1_500_000_000, &one(4.0), &one(2.0));
        scores.add(2_500_000_000, &one(1.0), &one(4.0));
        let score = scores.joints()[0];
        assert_eq!(scores.count(), 3);
        assert!((score.first500ms_mse - 1.0).abs() < 1e-12);
        assert!((score.rms - (14.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((score.nmse - 14.0 / 8.0).abs() < 1e-12);
    }

    #[test]
    fn every_phase_has_its_own_first_half_second() {
        let mut scores = Scores::new(1);
        scores.add(0, &one(1.0), &one(0.0));
        scores.add(600_000_000, &one(9.0), &one(0.0));
        scores.new_phase();
        scores.add(50_000_000_000, &one(3.0), &one(0.0));
        assert_eq!(scores.joints()[0].first500ms_mse, 5.0);
    }

    #[test]
    fn merged_scores_are_those_of_one_run_through_both() {
        let measured = |k: i64| one((k as f64 * 0.7).sin() * 3.0 + k as f64 * 0.01);
        let (mut both, mut first, mut second) = (Scores::new(1), Scores::new(1), Scores::new(1));
        for (phase, part, rows) in [(0, &mut first, 0..700), (1, &mut second, 700..1000)] {
            if phase > 0 {
                both.new_phase();
            }
            for k in rows {
                both.add(k * 1_000_000, &one(1.0), &measured(k));
                part.add(k * 1_000_000, &one(1.0), &measured(k));
            }
        }
        let mut merged = Scores::new(1);
        for part in [&first, &Scores::new(1), &second] {
            merged.merge(part);
        }
        assert_eq!(merged.count(), 1000);
        let (merged, both) = (merged.joints()[0], both.joints()[0]);
        for (a, b) in
            [(merged.first500ms_mse, both.first500ms_mse), (merged.rms, both.rms), (merged.nmse, both.nmse)]
        {
            assert!((a - b).abs() < 1e-12 * b, "{a} {b}");
        }
    }

    #[test]
    fn a_torque_that_never_varies_has_no_nmse_and_a_nan_is_not_hidden() {
        let mut scores = Scores::new(1);
        scores.add(0, &one(1.0), &one(2.0));
        scores.add(1, &one(1.0), &one(2.0));
        assert!(scores.joints()[0].nmse.is_nan());
        scores.add(2, &one(f64::NAN), &one(3.0));
        assert!(scores.joints()[0].rms.is_nan());
    }

    #[test]
    fn what_is_stored_comes_back_also_where_it_is_no_number() {
        let mut scores = Scores::new(2);
        let mut predicted = one(1.0);
        predicted[1] = f64::NAN;
        scores.add(0, &predicted, &one(2.5));
        scores.add(600_000_000, &predicted, &one(0.5));
        let text = serde_json::to_string(&scores).unwrap();
        let mut back: Scores = serde_json::from_str(&text).unwrap();
        assert_eq!((back.count(), back.joints()[0]), (2, scores.joints()[0]));
        assert!(back.joints()[1].rms.is_nan());
        back.merge(&scores);
        assert_eq!(back.joints()[0], scores.joints()[0], "twice the same");
    }
}
