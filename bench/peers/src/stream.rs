//! The data that all contestants learn from.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use metagd::bag::{Recording, RecordingOptions};
use metagd::config::Config;
use metagd::sample::{Motion, Observation, PerJoint};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, View};

use crate::{BATCH, JOINTS};

/// The network's inputs: positions, velocities and accelerations of all joints.
pub const INPUTS: usize = 3 * JOINTS;

/// Batches of observations, in the units that the networks see: all scales are 1.
pub struct Stream {
    pub name: &'static str,
    pub what: &'static str,
    observations: Vec<Observation>,
}

impl Stream {
    fn new(
        name: &'static str,
        what: &'static str,
        steps: usize,
        at: impl FnMut(usize) -> Observation,
    ) -> Self {
        Stream { name, what, observations: (0..steps * BATCH).map(at).collect() }
    }

    pub fn batches(&self) -> impl ExactSizeIterator<Item = &[Observation]> {
        self.observations.chunks_exact(BATCH)
    }

    /// The networks' inputs, `[steps][batch][inputs]`, shared by all joints.
    pub fn inputs(&self) -> Vec<f32> {
        let rows =
            self.observations.iter().flat_map(|Observation { motion: Motion { q, qd, qdd }, .. }| {
                [q, qd, qdd].into_iter().flat_map(|values| &values[..JOINTS])
            });
        rows.map(|&value| value as f32).collect()
    }

    /// The networks' targets, `[steps][joints][batch]`.
    pub fn targets(&self) -> Vec<f32> {
        let joints = |batch| (0..JOINTS).map(move |joint| (batch, joint));
        let column = |(batch, joint): (&[Observation], usize)| {
            batch.iter().map(|observation| observation.effort[joint] as f32).collect::<Vec<_>>()
        };
        self.batches().flat_map(joints).flat_map(column).collect()
    }

    /// As a safetensors file for the peers that are processes of their own.
    pub fn save(&self, path: &Path) -> Result<()> {
        let steps = self.batches().len();
        let tensors = [
            ("inputs", Tensor::new(vec![steps, BATCH, INPUTS], &self.inputs())),
            ("targets", Tensor::new(vec![steps, JOINTS, BATCH], &self.targets())),
        ];
        Ok(safetensors::serialize_to_file(tensors, None, path)?)
    }
}

struct Tensor {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    fn new(shape: Vec<usize>, values: &[f32]) -> Self {
        Tensor { shape, bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// What is measured where no arm is: a smooth function of positions, and friction.
fn effort(motion: &Motion) -> PerJoint {
    std::array::from_fn(|joint| 3.0 * motion.q[joint].sin() + (motion.qd[joint] / 0.1).tanh())
}

/// A smooth motion at 1 kHz: within a batch the samples hardly differ, so that many units are silent for all of it.
pub fn smooth(steps: usize) -> Stream {
    Stream::new("smooth", "a smooth motion at 1 kHz", steps, |at| {
        let t = 1e-3 * at as f64;
        let mut motion = Motion::default();
        for j in 0..JOINTS {
            let (w, phase) = (0.8 + 0.15 * j as f64, 0.9 * j as f64);
            motion.q[j] = (w * t + phase).sin();
            motion.qd[j] = w * (w * t + phase).cos();
            motion.qdd[j] = -w * w * (w * t + phase).sin();
        }
        Observation { stamp_ns: at as i64 * 1_000_000, effort: effort(&motion), motion }
    })
}

/// Independent inputs, uniform with a variance of 1: nearly every unit answers to one sample or other of a batch.
pub fn dense(steps: usize) -> Stream {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let bound = 3f64.sqrt();
    Stream::new("dense", "independent random inputs in every batch", steps, |at| {
        let mut motion = Motion::default();
        for values in [&mut motion.q, &mut motion.qd, &mut motion.qdd] {
            values[..JOINTS].fill_with(|| random.random_range(-bound..bound));
        }
        Observation { stamp_ns: at as i64 * 1_000_000, effort: effort(&motion), motion }
    })
}

/// A recording of a real LWR4+, from where it moves, scaled as the node does by default: on its raw torques, at the
/// node's rates, a difference of rounding grows a thousandfold in twenty steps, and nothing could be compared. An error
/// says where the recording was looked for.
pub fn real(steps: usize) -> Result<Stream> {
    const START_UP: usize = 500;
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let data =
        std::env::var_os("METAGD_DATA").map_or_else(|| project.with_file_name("shared/data"), PathBuf::from);
    let path = data.join("kuka_lwr4plus/kuka_lwr4plus_meas1.csv.gz");
    ensure!(path.is_file(), "no recording at {}; METAGD_DATA names the folder that holds it", path.display());
    let config = Config::default();
    let scaled = |values: PerJoint, scale: f64| values.map(|value| value / scale);
    let recording = Recording::open(&path, &RecordingOptions::default())?;
    let mut observations = Vec::new();
    for row in recording.rows()?.skip(START_UP).take(steps * BATCH) {
        let row = row?;
        let motion = Motion {
            q: scaled(row.q, config.scale_position),
            qd: scaled(row.qd, config.scale_velocity),
            qdd: scaled(row.qdd.unwrap_or_default(), config.scale_acceleration),
        };
        let effort = scaled(row.effort, config.scale_torque);
        observations.push(Observation { stamp_ns: row.stamp_ns, motion, effort });
    }
    ensure!(observations.len() == steps * BATCH, "{}: only {} rows", path.display(), observations.len());
    Ok(Stream { name: "real", what: "a recording of a real LWR4+ at 200 Hz", observations })
}
