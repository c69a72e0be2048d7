//! Recordings that belong to one arm, opened together.
//!
//! Contract: joints are those of the parameters, else the URDF's, else the first recording's; every recording has them, in
//! this order. A URDF whose joints are not the recordings', where nobody named them, is left out with a note.

use std::path::PathBuf;

use crate::bag::{BagError, Recording, RecordingOptions};
use crate::config::Config;
use crate::dynamics::Arm;

/// The recordings, the arm and its joints, as far as they fit together.
pub struct Recordings {
    /// In the order of their paths.
    pub recordings: Vec<Recording>,
    /// The joints of every row.
    pub joints: Vec<String>,
    /// The rigid body, if a URDF was given and fits.
    pub arm: Option<Arm>,
    /// What a reader of the figures should know.
    pub notes: Vec<String>,
}

impl Recordings {
    /// Opens the recordings at `paths`; `topic` and `salvage` are those of [`RecordingOptions`].
    ///
    /// # Errors
    /// What is wrong with the URDF or a recording.
    pub fn open(
        paths: &[PathBuf],
        config: &Config,
        topic: Option<&str>,
        salvage: bool,
    ) -> anyhow::Result<Recordings> {
        let torque_topic = Some(config.topic_torque.clone()).filter(|topic| !topic.is_empty());
        let open_all = |joints: &[String]| -> Result<Vec<Recording>, BagError> {
            let mut options = RecordingOptions {
                topic: topic.map(str::to_owned),
                torque_topic: torque_topic.clone(),
                joints: joints.to_vec(),
                salvage,
            };
            let mut recordings: Vec<Recording> = Vec::with_capacity(paths.len());
            for path in paths {
                let recording = Recording::open(path, &options)?;
                if options.joints.is_empty() {
                    options.joints = recording.joints().to_vec();
                }
                recordings.push(recording);
            }
            Ok(recordings)
        };
        let mut notes = vec![];
        let mut arm = Arm::from_config(config)?;
        let wanted = match &arm {
            Some(arm) => arm.joint_names().to_vec(),
            None => config.joints.clone(),
        };
        let recordings = match open_all(&wanted) {
            Err(BagError::Joints { path, what }) if arm.is_some() && config.joints.is_empty() => {
                let urdf =
                    if config.urdf.is_empty() { "the robot description" } else { config.urdf.as_str() };
                notes.push(format!(
                    "no rigid body: {}'s joints are not those of {urdf} ({what})",
                    path.display()
                ));
                arm = None;
                open_all(&[])?
            }
            opened => opened?,
        };
        let joints = match (&arm, recordings.first()) {
            (Some(arm), _) => arm.joint_names().to_vec(),
            (None, first) => first.map_or_else(Vec::new, |first| first.joints().to_vec()),
        };
        if config.urdf.is_empty() && config.robot_description.is_empty() {
            notes.push("no rigid body: no URDF was given (--urdf)".into());
        }
        if let Some(arm) = &arm {
            notes.extend(arm.notes().iter().cloned());
        }
        for recording in &recordings {
            notes.extend(recording.notes().iter().cloned());
        }
        Ok(Recordings { recordings, joints, arm, notes })
    }
}
