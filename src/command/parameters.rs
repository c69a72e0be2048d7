//! The arguments by which every command takes parameters: a preset, ROS parameter files, single values, shorthands.
//!
//! Contract: called at start-up only. Later beats earlier: preset, files in their order, `-p`, shorthand, and last what
//! stands in `--ros-args` sections, in its order.

use std::path::PathBuf;

use super::Usage;
use crate::config::{Config, Value};
use crate::ros::params::{self, Source};

/// Where parameters come from.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct ParameterArgs {
    /// ROS 2 parameter file (YAML) with the node's own section or `/**`; may be repeated.
    #[arg(long = "params-file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// One parameter, as `ros2 run ... --ros-args -p` takes it; may be repeated.
    #[arg(short = 'p', long = "param", value_name = "NAME:=VALUE")]
    assignments: Vec<String>,
    /// Where the defaults come from: `robot` (a mix of experts: least squares, networks, integrators; gated) or `paper`
    /// (the raw torque by networks alone).
    #[arg(long, value_name = "NAME", value_parser = ["robot", "paper"])]
    preset: Option<String>,
    /// The arm's URDF, for its rigid-body dynamics.
    #[arg(long, value_name = "FILE")]
    urdf: Option<PathBuf>,
    /// The arm's joints by name, from the base outwards.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    joints: Vec<String>,
    /// What the `--ros-args` sections give.
    #[arg(skip)]
    pub(super) ros: Vec<Source>,
}

impl ParameterArgs {
    /// The configuration that they make for the node of this fully qualified name.
    ///
    /// # Errors
    /// [`Usage`]: a file that cannot be read; an unknown name, a wrong type or a value out of range, each with its place.
    pub fn config(&self, node: &str) -> anyhow::Result<Config> {
        let shorthands = [
            self.preset.clone().map(|preset| ("preset", Value::Text(preset))),
            self.urdf.as_ref().map(|urdf| ("urdf", Value::Text(urdf.to_string_lossy().into_owned()))),
            (!self.joints.is_empty()).then(|| ("joints", Value::Texts(self.joints.clone()))),
        ];
        let sources: Vec<_> = (self.files.iter().cloned().map(Source::File))
            .chain(self.assignments.iter().cloned().map(Source::Override))
            .chain(shorthands.into_iter().flatten().map(|(name, value)| Source::Value(name, value)))
            .chain(self.ros.iter().cloned())
            .collect();
        let config = params::config(&sources, node);
        Ok(config.map_err(|error| Usage(error.to_string()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorthands_beat_single_values_and_bring_their_defaults() {
        let args = ParameterArgs {
            assignments: vec!["preset:=robot".into(), "learner.rate:=0.5".into()],
            preset: Some("paper".into()),
            joints: vec!["a".into()],
            ..ParameterArgs::default()
        };
        let config = args.config("/metagd").unwrap();
        assert_eq!((config.preset.as_str(), config.joints), ("paper", vec!["a".to_string()]));
        assert_eq!((config.rate, config.memory_rate), (0.5, 0.01));
    }

    #[test]
    fn the_ros_arguments_beat_all_others() {
        let over = |text: &str| Source::Override(text.into());
        let args = ParameterArgs {
            assignments: vec!["ring:=32".into()],
            preset: Some("paper".into()),
            ros: vec![
                over("preset:=robot"),
                over("ring:=64"),
                over("metagd:ring:=128"),
                over("other:ring:=1"),
            ],
            ..ParameterArgs::default()
        };
        let config = args.config("/metagd").unwrap();
        assert_eq!((config.preset.as_str(), config.ring), ("robot", 128));
    }
}
