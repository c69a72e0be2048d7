//! Several learners over the same stream of samples, slice by slice.
//!
//! Contract: called by one thread; the contestants, who know nothing of each other, take each slice on the threads of the
//! rayon pool in which that thread runs, or one after another. Every contestant sees every sample of a slice before the next
//! slice is read, so that memory stays bounded however long the recordings are, and no contestant sees a sample that another
//! does not. What comes out does not depend on the threads.

use std::time::Duration;

use rayon::prelude::*;

use super::product::Product;
use super::{JointScore, Learner, Scores, evaluate};
use crate::realtime::thread::thread_cpu_ns;
use crate::sample::{PerJoint, Sample};

/// Samples that are held at a time: few enough to stay in a core's cache, enough to be worth waking the others for.
const SLICE: usize = 256;

/// Who answers the samples.
pub enum Contender {
    /// The product's pipeline.
    Product(Box<Product>),
    /// A baseline, or torques that were predicted elsewhere.
    Other(Box<dyn Learner>),
}

impl Contender {
    fn learner(&mut self) -> &mut dyn Learner {
        match self {
            Contender::Product(product) => product.as_mut(),
            Contender::Other(other) => other.as_mut(),
        }
    }
}

/// One row of the table, while it is being made.
pub struct Contestant {
    /// The name in the table.
    pub name: String,
    /// Who answers.
    pub contender: Contender,
    total: Scores,
    input: Scores,
    pass: Duration,
    predictions: Vec<PerJoint>,
}

/// What one input came to.
#[derive(Clone, Debug)]
pub struct InputScores {
    /// Samples scored.
    pub count: u64,
    /// Recorded time, s.
    pub duration_s: f64,
    /// Each contestant's scores, in their order.
    pub scores: Vec<Vec<JointScore>>,
}

/// Sees every sample, the stamp that it has in its recording, and every contestant's prediction.
pub type Sink<'a> = Box<dyn FnMut(&Sample, i64, &[&PerJoint]) -> std::io::Result<()> + 'a>;

/// The contestants, and the slice that is being filled.
pub struct Comparison<'a> {
    contestants: Vec<Contestant>,
    joints: usize,
    in_parallel: bool,
    slice: Vec<Sample>,
    sink: Option<Sink<'a>>,
    offset_ns: i64,
    phases: usize,
    phase_span_ns: Option<(i64, i64)>,
    input_ns: i64,
    total_ns: i64,
    own_cpu: Duration,
}

impl<'a> Comparison<'a> {
    /// A comparison of named contenders for an arm of `joints` joints, side by side (`in_parallel`) or in turn.
    pub fn new(
        contenders: Vec<(String, Contender)>,
        joints: usize,
        in_parallel: bool,
        sink: Option<Sink<'a>>,
    ) -> Self {
        let contestants = contenders
            .into_iter()
            .map(|(name, contender)| Contestant {
                name,
                contender,
                total: Scores::new(joints),
                input: Scores::new(joints),
                pass: Duration::ZERO,
                predictions: Vec::with_capacity(if sink.is_some() { SLICE } else { 0 }),
            })
            .collect();
        Comparison {
            contestants,
            joints,
            in_parallel,
            slice: Vec::with_capacity(SLICE),
            sink,
            offset_ns: 0,
            phases: 0,
            phase_span_ns: None,
            input_ns: 0,
            total_ns: 0,
            own_cpu: Duration::ZERO,
        }
    }

    /// A phase begins: its stamps are `offset_ns` later than in its recording.
    ///
    /// # Errors
    /// The sink's.
    pub fn new_phase(&mut self, offset_ns: i64) -> std::io::Result<()> {
        self.end_phase()?;
        self.offset_ns = offset_ns;
        for contestant in &mut self.contestants {
            if self.phases > 0 {
                contestant.contender.learner().new_task();
            }
            contestant.total.new_phase();
            contestant.input.new_phase();
        }
        self.phases += 1;
        Ok(())
    }

    /// The next sample.
    ///
    /// # Errors
    /// The sink's.
    pub fn push(&mut self, sample: Sample) -> std::io::Result<()> {
        let (first, _) = self.phase_span_ns.unwrap_or((sample.stamp_ns, sample.stamp_ns));
        self.phase_span_ns = Some((first, sample.stamp_ns));
        self.slice.push(sample);
        if self.slice.len() < SLICE { Ok(()) } else { self.flush() }
    }

    /// The present input is done: its scores.
    ///
    /// # Errors
    /// The sink's.
    pub fn end_input(&mut self) -> std::io::Result<InputScores> {
        self.end_phase()?;
        let scores = InputScores {
            count: self.contestants.first().map_or(0, |contestant| contestant.input.count()),
            duration_s: std::mem::take(&mut self.input_ns) as f64 * 1e-9,
            scores: self.contestants.iter().map(|contestant| contestant.input.joints()).collect(),
        };
        for contestant in &mut self.contestants {
            contestant.input = Scores::new(self.joints);
        }
        Ok(scores)
    }

    /// Each contestant's scores over all inputs that are done, in their order.
    pub fn totals(&self) -> Vec<Scores> {
        self.contestants.iter().map(|one| one.total.clone()).collect()
    }

    /// Recorded time of all inputs that are done, s: the phases' first to last stamps.
    pub fn duration_s(&self) -> f64 {
        self.total_ns as f64 * 1e-9
    }

    /// The CPU time that a contestant's predictions, their scoring and its learning took.
    pub fn pass(&self, contestant: usize) -> Duration {
        self.contestants[contestant].pass
    }

    /// The CPU time that the calling thread spent in here on slices.
    pub fn own_cpu(&self) -> Duration {
        self.own_cpu
    }

    /// The contestants, as the last sample left them.
    pub fn into_contestants(self) -> Vec<Contestant> {
        self.contestants
    }

    fn end_phase(&mut self) -> std::io::Result<()> {
        self.flush()?;
        if let Some((first, last)) = self.phase_span_ns.take() {
            self.input_ns += last - first;
            self.total_ns += last - first;
        }
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let started_ns = thread_cpu_ns();
        let (keep, slice) = (self.sink.is_some(), &self.slice);
        let take = |contestant: &mut Contestant| {
            let Contestant { contender, total, input, pass, predictions, .. } = contestant;
            predictions.clear();
            let started_ns = thread_cpu_ns();
            evaluate(contender.learner(), slice, &mut [total, input], |_, predicted| {
                if keep {
                    predictions.push(*predicted);
                }
            });
            *pass += cpu_since(started_ns);
        };
        if self.in_parallel {
            self.contestants.par_iter_mut().for_each(take);
        } else {
            self.contestants.iter_mut().for_each(take);
        }
        if let Some(sink) = &mut self.sink {
            for (row, sample) in self.slice.iter().enumerate() {
                let predictions: Vec<&PerJoint> =
                    self.contestants.iter().map(|contestant| &contestant.predictions[row]).collect();
                sink(sample, sample.stamp_ns - self.offset_ns, &predictions)?;
            }
        }
        self.slice.clear();
        self.own_cpu += cpu_since(started_ns);
        Ok(())
    }
}

fn cpu_since(started_ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(thread_cpu_ns() - started_ns).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::experiment::baseline;
    use crate::sample::MAX_JOINTS;

    fn sample(seq: u64, torque: f64) -> Sample {
        Sample { seq, stamp_ns: seq as i64 * 1_000_000, effort: [torque; MAX_JOINTS], ..Sample::default() }
    }

    /// `persistence-1` over `count` samples of torque 0, 1, 2, ..., and what the sink saw.
    fn run(count: u64) -> (Vec<JointScore>, Vec<(i64, f64)>) {
        let mut seen = vec![];
        let baseline = baseline::new("persistence-1", &Config::default(), None, 1).unwrap();
        let contenders = vec![("persistence-1".to_string(), Contender::Other(baseline))];
        let sink: Sink = Box::new(|_, stamp_ns, predicted| {
            seen.push((stamp_ns, predicted[0][0]));
            Ok(())
        });
        let mut comparison = Comparison::new(contenders, 1, true, Some(sink));
        comparison.new_phase(5).unwrap();
        for seq in 0..count {
            comparison.push(sample(seq, seq as f64)).unwrap();
        }
        let input = comparison.end_input().unwrap();
        assert_eq!(input.count, count);
        assert!((input.duration_s - (count as f64 - 1.0) * 1e-3).abs() < 1e-9);
        drop(comparison);
        (input.scores[0].clone(), seen)
    }

    #[test]
    fn slices_join_without_a_seam() {
        let count = SLICE as u64 * 2 + 10;
        let (scores, seen) = run(count);
        // The first prediction is 0 (right, by chance), every later one is 1 too small.
        let expected = ((count - 1) as f64 / count as f64).sqrt();
        assert!((scores[0].rms - expected).abs() < 1e-12);
        assert_eq!(seen.len() as u64, count);
        assert_eq!(seen[SLICE], (SLICE as i64 * 1_000_000 - 5, SLICE as f64 - 1.0));
    }

    #[test]
    fn an_input_without_samples_has_a_count_of_zero_and_no_figures() {
        let mut comparison = Comparison::new(vec![], 2, true, None);
        assert_eq!(comparison.end_input().unwrap().count, 0);
        let baseline = baseline::new("persistence", &Config::default(), None, 2).unwrap();
        let contenders = vec![("persistence".to_string(), Contender::Other(baseline))];
        let mut comparison = Comparison::new(contenders, 2, false, None);
        let input = comparison.end_input().unwrap();
        assert_eq!(input.count, 0);
        assert!(input.scores[0].iter().all(|score| score.rms.is_nan()));
    }
}
