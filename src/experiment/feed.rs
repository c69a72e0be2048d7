//! From the rows of one or more recordings to samples, as the node's intake would make them.
//!
//! Contract: called by one thread, row by row, in order. A *phase* is a recording, or a run within one (the CSV's `run`
//! column). Recordings' clocks need not agree and may start anew, so every phase is moved behind the one before it, with a
//! gap in between that makes the intake begin its estimates and the batch anew.

use crate::bag::Row;
use crate::config::Config;
use crate::realtime::intake::IntakeError;
use crate::realtime::{Drops, Intake};
use crate::sample::Sample;

/// Rows in, samples out.
pub struct Feed {
    intake: Intake,
    joints: usize,
    gap_ns: i64,
    phase: Option<(usize, u32)>,
    offset_ns: i64,
    end_ns: i64,
}

impl Feed {
    /// An intake of its own, at the beginning of the first phase.
    ///
    /// # Errors
    /// The intake's.
    pub fn new(config: &Config, joints: &[String]) -> Result<Feed, IntakeError> {
        let gap_ns = ((config.gap * 2e6) as i64).max(1_000_000_000);
        Ok(Feed {
            intake: Intake::new(config, joints)?,
            joints: joints.len(),
            gap_ns,
            phase: None,
            offset_ns: 0,
            end_ns: 0,
        })
    }

    /// Whether the row begins a phase. To be asked once for every row, before [`Feed::sample`].
    pub fn begins_phase(&mut self, input: usize, row: &Row) -> bool {
        if self.phase == Some((input, row.run)) {
            return false;
        }
        self.phase = Some((input, row.run));
        self.offset_ns = self.end_ns.saturating_add(self.gap_ns).saturating_sub(row.stamp_ns);
        true
    }

    /// What is added to the present phase's stamps, ns.
    pub fn offset_ns(&self) -> i64 {
        self.offset_ns
    }

    /// The row as a sample that arrived at `arrival_ns`; `None` if the intake dropped (and counted) it.
    pub fn sample(&mut self, row: &Row, arrival_ns: i64) -> Option<Sample> {
        let stamp_ns = row.stamp_ns.saturating_add(self.offset_ns);
        let n = self.joints;
        let qdd = row.qdd.as_ref().map(|qdd| &qdd[..n]);
        let sample =
            self.intake.row(stamp_ns, arrival_ns, &row.q[..n], &row.qd[..n], qdd, &row.effort[..n]).ok()?;
        self.end_ns = self.end_ns.max(stamp_ns);
        Some(sample)
    }

    /// What the intake dropped, by reason.
    pub fn drops(&self) -> Drops {
        self.intake.drops()
    }
}
