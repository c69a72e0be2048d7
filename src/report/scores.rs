//! The table of torque scores: one block per figure, one row per learner, one column per joint.

use super::{Table, WIDTH, number, short_names};
use crate::experiment::JointScore;

/// One block's heading, and how its figure is read from a joint's score.
type Figure = (&'static str, fn(&JointScore) -> f64);

const FIGURES: [Figure; 3] = [
    ("mean squared torque error over the first 500 ms [Nm²]", |score| score.first500ms_mse),
    ("RMS torque error [Nm]", |score| score.rms),
    ("nMSE: mean squared error / variance of the measured torque", |score| score.nmse),
];

/// The table for `learners`, each a name with its joints' scores; arms too wide for [`WIDTH`] continue below.
pub fn render(joints: &[String], learners: &[(String, Vec<JointScore>)]) -> String {
    let short = short_names(joints);
    let name_width = learners.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(7);
    let cell = short.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(7) + 2;
    let per_block = (WIDTH.saturating_sub(name_width) / cell).max(1);
    let mut text = String::new();
    for (heading, figure) in FIGURES {
        text.push_str(heading);
        text.push('\n');
        for first in (0..joints.len()).step_by(per_block) {
            let block = first..(first + per_block).min(joints.len());
            let header: Vec<&str> =
                std::iter::once("learner").chain(short[block.clone()].iter().map(String::as_str)).collect();
            let mut table = Table::new(1, &header);
            for (name, scores) in learners {
                let cells = scores[block.clone()].iter().map(|score| number(figure(score)));
                table.row(std::iter::once(name.clone()).chain(cells));
            }
            text.push_str(&table.render());
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_joints_and_every_learner_fit_a_hundred_columns() {
        let joints: Vec<String> = ["a1", "a2", "e1", "a3", "a4", "a5", "a6"]
            .iter()
            .map(|joint| format!("lwr_{joint}_joint"))
            .collect();
        let score = JointScore { first500ms_mse: 1.234e-7, rms: 123.456, nmse: f64::NAN };
        let learners = vec![("adam+memory-momentum".to_string(), vec![score; 7])];
        let text = render(&joints, &learners);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("learner ")).count(), 3, "{text}");
        assert!(text.contains("1.23e-7"), "{text}");
    }

    #[test]
    fn a_wide_arm_continues_below_with_no_joint_lost() {
        let joints: Vec<String> = (1..=16).map(|n| format!("left_arm_joint_number_{n}x")).collect();
        let score = JointScore { first500ms_mse: 1.0, rms: 2.0, nmse: 3.0 };
        let text = render(&joints, &[("gd".to_string(), vec![score; 16])]);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        for n in 1..=16 {
            assert!(text.contains(&format!("{n}x")), "{n}: {text}");
        }
    }
}
