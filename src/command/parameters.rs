//! The arguments by which every command takes parameters: a preset, a ROS parameter file, single values, shorthands.
//!
//! Contract: called at start-up only. Later beats earlier: preset, file, `-p`, shorthand.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Usage;
use crate::config::{self, Config, Value};
use crate::ros::params;

/// Where parameters come from.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct ParameterArgs {
    /// ROS 2 parameter file (YAML); the node's own, or `/**`.
    #[arg(long, value_name = "FILE")]
    pub params_file: Option<PathBuf>,
    /// One parameter, as `ros2 run ... --ros-args -p` takes it; may be repeated.
    #[arg(short = 'p', value_name = "NAME:=VALUE", value_parser = assignment)]
    pub parameter: Vec<(String, Value)>,
    /// Where the defaults come from: `robot` (residual on the rigid body, scaled, integrator, gate) or `paper` (raw
    /// torque).
    #[arg(long, value_name = "NAME", value_parser = ["robot", "paper"])]
    pub preset: Option<String>,
    /// The arm's URDF, for its rigid-body dynamics.
    #[arg(long, value_name = "FILE")]
    pub urdf: Option<String>,
    /// The arm's joints by name, from the base outwards.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub joints: Vec<String>,
}

impl ParameterArgs {
    /// All values given, by name.
    ///
    /// # Errors
    /// An unreadable or malformed parameter file.
    pub fn values(&self) -> anyhow::Result<BTreeMap<String, Value>> {
        let mut values = match &self.params_file {
            Some(path) => params::read_file(path, "/metagd")?,
            None => BTreeMap::new(),
        };
        values.extend(self.parameter.iter().cloned());
        let mut set = |name: &str, value: Value| values.insert(name.to_string(), value);
        if let Some(preset) = &self.preset {
            set("preset", Value::Text(preset.clone()));
        }
        if let Some(urdf) = &self.urdf {
            set("urdf", Value::Text(urdf.clone()));
        }
        if !self.joints.is_empty() {
            set("joints", Value::Texts(self.joints.clone()));
        }
        Ok(values)
    }

    /// The configuration that they make.
    ///
    /// # Errors
    /// As [`ParameterArgs::values`]; [`Usage`] for an unknown name, a wrong type or a value out of range.
    pub fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::new(&self.values()?).map_err(|error| Usage(error.to_string()))?)
    }
}

/// Parses `name:=value`, the value as YAML, and checks it against the parameter table.
fn assignment(text: &str) -> Result<(String, Value), String> {
    let (name, value) = params::parse_override(text).map_err(|error| error.to_string())?;
    let value = config::check(&name, value).map_err(|error| error.to_string())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_yaml() {
        let cases = [
            ("learner.rate:=0.5", Value::Float(0.5)),
            ("learner.rate:=1", Value::Float(1.0)),
            ("learner.name:=gd", Value::Text("gd".into())),
            ("gate.enabled:=false", Value::Bool(false)),
            ("learner.hidden:=[20, 20]", Value::Ints(vec![20, 20])),
            ("gravity:=[9.81, 0, 0]", Value::Floats(vec![9.81, 0.0, 0.0])),
            ("joints:=[a, b]", Value::Texts(vec!["a".into(), "b".into()])),
            ("joints:=[]", Value::Texts(vec![])),
            ("topics.torque:=''", Value::Text(String::new())),
            ("urdf:=/tmp/a b.urdf", Value::Text("/tmp/a b.urdf".into())),
        ];
        for (text, expected) in cases {
            let (name, value) = assignment(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((name.as_str(), value), (text.split_once(":=").unwrap().0, expected));
        }
    }

    #[test]
    fn what_is_wrong_with_an_assignment_is_said() {
        for (text, part) in [
            ("learner.rate", "name:=value"),
            ("learner.rate:=fast", "double"),
            ("learner.rat:=1", "learner.rate"),
            ("joints:=[a, [b]]", "joints"),
        ] {
            let error = assignment(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn shorthands_beat_single_values() {
        let args = ParameterArgs {
            parameter: vec![("preset".into(), Value::Text("robot".into()))],
            preset: Some("paper".into()),
            joints: vec!["a".into()],
            ..ParameterArgs::default()
        };
        let config = args.config().unwrap();
        assert_eq!((config.preset.as_str(), config.joints), ("paper", vec!["a".to_string()]));
    }
}
