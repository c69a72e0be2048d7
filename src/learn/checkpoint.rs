//! What was learnt, in a file that Python reads as well: safetensors.
//!
//! Contract: called from housekeeping and at start-up, never from the pinned thread: everything here allocates, and
//! [`save`] and [`load`] wait for the disk. A save is atomic: whoever opens the path sees the old file or the new one,
//! whole. A load either takes over everything asked for or changes nothing; no file, however damaged or hostile, makes it
//! panic or take more memory than [`MAX_BYTES`].
//!
//! | tensor | type, shape | what |
//! |---|---|---|
//! | `joint.J.layer.L.weight` | F32 `[inputs, outputs]` | weights of layer L of joint J's network |
//! | `joint.J.layer.L.bias` | F32 `[outputs]` | its biases |
//! | `joint.J.memory.G` | F32 `[K]` | local learning rates of parameter group G, by ascending centre |
//! | `integrators` | F64 `[joints]` | Nm |
//! | `scales` | F64 `[4]` | of positions, velocities, accelerations, torques: rad, rad/s, rad/s², Nm |
//!
//! Others may add tensors of their own ([`Checkpoint::insert`]); a reader that does not know them leaves them alone.
//!
//! The metadata entry `metagd` holds [`Metadata`] as JSON. The last gradients and the optimizers' moments are not saved:
//! between tasks the paper resets them, and a start from a file is a new task. The same learner gives the same bytes.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, View};
use safetensors::{SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};

use super::joint::Scaling;
use super::{ArmLearner, JointLearner, MAX_RATE, MIN_RATE};
use crate::config::Config;

/// The version of the format that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The largest checkpoint that is written or read: 256 MiB, some six thousand times the default's size per joint.
pub const MAX_BYTES: u64 = 256 << 20;

/// The largest header that is read.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// The metadata's key.
const KEY: &str = "metagd";

/// What to take from a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Networks, integrators and memories: the paper's phase with everything carried on.
    All,
    /// The memories only: fresh networks that learn at the learnt rates.
    Memory,
    /// Networks and integrators only: the memories start afresh.
    Network,
    /// Nothing. The file is still read, and refused if it is no checkpoint of this arm.
    None,
}

impl Reload {
    /// The value of the parameter `checkpoint.reload`; `None` if there is no such word.
    pub fn parse(word: &str) -> Option<Reload> {
        match word {
            "all" => Some(Reload::All),
            "memory" => Some(Reload::Memory),
            "network" => Some(Reload::Network),
            "none" => Some(Reload::None),
            _ => None,
        }
    }

    /// Whether the networks come with it, and whatever else was learnt about the arm.
    pub fn networks(self) -> bool {
        matches!(self, Reload::All | Reload::Network)
    }

    pub(super) fn memories(self) -> bool {
        matches!(self, Reload::All | Reload::Memory)
    }
}

/// Why a checkpoint could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file could not be read.
    #[error("cannot read checkpoint {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written; what stood there before stands there still.
    #[error("cannot write checkpoint {path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The contents do not fit; nothing has changed.
    #[error("checkpoint {path}: {reason}", path = path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        reason: Refusal,
    },
}

/// Why a checkpoint's contents were refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Too large to be one.
    #[error("is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Not a whole safetensors file.
    #[error("is damaged or truncated: {0}")]
    Damaged(String),
    /// A safetensors file of somebody else's.
    #[error("was not written by metagd: its metadata has no entry `{KEY}`")]
    Foreign,
    /// Another format version.
    #[error("has format version {found}, this build reads {FORMAT_VERSION}: use the release that wrote it")]
    Version {
        /// The file's version.
        found: u64,
    },
    /// Other joints, or another order of them.
    #[error("was learnt for the joints {found:?}, but this arm has {wanted:?}: names and order must agree")]
    Joints {
        /// The file's joints.
        found: Vec<String>,
        /// This arm's joints.
        wanted: Vec<String>,
    },
    /// A parameter that gives the numbers their meaning has another value.
    #[error(
        "was learnt with {parameter} = {found}, but this configuration has {wanted}: set it to {found}, or choose another checkpoint.reload"
    )]
    Differs {
        /// The parameter.
        parameter: &'static str,
        /// The file's value.
        found: String,
        /// This configuration's value.
        wanted: String,
    },
    /// The least squares beneath the networks are of another kind.
    #[error(
        "holds least squares {}: {}, or choose checkpoint.reload: memory",
        if *.rigid { "of a rigid body, but this arm has none" } else { "without a rigid body, but this arm has one" },
        if *.rigid { "give its URDF" } else { "leave the URDF out" }
    )]
    LeastSquares {
        /// Whether the file's are a rigid body's.
        rigid: bool,
    },
    /// Memories are there on one side only.
    #[error(
        "{} memories for learning rates, but learner.name = {learner} {}: choose another learner, or checkpoint.reload: network",
        if *.found { "has" } else { "has no" }, if *.found { "has none" } else { "needs them" }
    )]
    Memories {
        /// Whether the file has memories.
        found: bool,
        /// The learner configured.
        learner: String,
    },
    /// A tensor is absent.
    #[error("has no tensor `{name}`")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor has another type or shape.
    #[error("tensor `{name}` is {found}, not {wanted}")]
    Shape {
        /// Its name.
        name: String,
        /// Type and shape in the file.
        found: String,
        /// Type and shape that this learner has.
        wanted: String,
    },
    /// A tensor holds a number that no learner can hold.
    #[error("tensor `{name}` holds {value}, which {why}")]
    Value {
        /// Its name.
        name: String,
        /// The number.
        value: f64,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// How and for what a checkpoint was learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The joints, in order.
    pub joints: Vec<String>,
    /// `preset`, for the reader's information.
    pub preset: String,
    /// `learner.name`, for the reader's information.
    pub learner: String,
    /// `learner.seed`, for the reader's information.
    pub seed: i64,
    /// `learner.hidden`.
    pub hidden: Vec<usize>,
    /// `learner.residual`.
    pub residual: bool,
    /// The memories' shape, if there are any.
    pub memory: Option<MemoryMetadata>,
}

/// What the local rates of a memory refer to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryMetadata {
    /// `memory.models`.
    pub models: usize,
    /// `memory.centres`.
    pub centres: String,
    /// `memory.width`.
    pub width: f64,
    /// `memory.clip`.
    pub clip: f64,
    /// `memory.groups`.
    pub groups: String,
}

impl Metadata {
    fn new(learner: &ArmLearner, config: &Config, joints: &[String]) -> Self {
        let has_memory = learner.learners().iter().any(|l| memories(l).next().is_some());
        Metadata {
            format_version: FORMAT_VERSION,
            joints: joints.to_vec(),
            preset: config.preset.clone(),
            learner: config.learner.clone(),
            seed: config.seed,
            hidden: config.hidden.clone(),
            residual: config.residual,
            memory: has_memory.then(|| MemoryMetadata {
                models: config.memory_models,
                centres: config.memory_centres.clone(),
                width: config.memory_width,
                clip: config.memory_clip,
                groups: config.memory_groups.clone(),
            }),
        }
    }
}

/// A checkpoint's contents, apart from any file.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    metadata: Metadata,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Clone, Debug, PartialEq)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The numbers of a tensor, row by row.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
    /// Counts.
    U64(&'a [u64]),
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
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

impl Tensor {
    fn f32(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    fn f64(values: &[f64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor { dtype: Dtype::F64, shape: vec![values.len()], bytes }
    }

    fn description(dtype: Dtype, shape: &[usize]) -> String {
        format!("{dtype} {shape:?}")
    }
}

impl Checkpoint {
    /// What `learner`, built from `config` for `joints`, has learnt.
    pub fn of(learner: &ArmLearner, config: &Config, joints: &[String]) -> Self {
        let scales = Scaling::from_config(config);
        let integrators: Vec<f64> = learner.learners().iter().map(JointLearner::integrator).collect();
        let mut tensors = BTreeMap::from([
            ("integrators".to_string(), Tensor::f64(&integrators)),
            ("scales".to_string(), Tensor::f64(&scales.to_array())),
        ]);
        for (j, learner) in learner.learners().iter().enumerate() {
            let network = learner.network();
            let params = network.params();
            for (l, layer) in network.layers().iter().enumerate() {
                let part = |range: &std::ops::Range<usize>, shape: &[usize]| {
                    Tensor::f32(shape, &params[range.clone()])
                };
                tensors.insert(weight_name(j, l), part(&layer.weights, &[layer.inputs, layer.outputs]));
                tensors.insert(bias_name(j, l), part(&layer.bias, &[layer.outputs]));
            }
            for (g, memory) in memories(learner).enumerate() {
                tensors.insert(memory_name(j, g), Tensor::f32(&[memory.rates().len()], memory.rates()));
            }
        }
        Checkpoint { metadata: Metadata::new(learner, config, joints), tensors }
    }

    /// Adds a tensor beside the learner's own.
    pub fn insert(&mut self, name: &str, shape: &[usize], values: Values) {
        let tensor = match values {
            Values::F32(values) => Tensor::f32(shape, values),
            Values::F64(values) => Tensor { shape: shape.to_vec(), ..Tensor::f64(values) },
            Values::U64(values) => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                Tensor { dtype: Dtype::U64, shape: shape.to_vec(), bytes }
            }
        };
        self.tensors.insert(name.to_string(), tensor);
    }

    /// The shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// The finite numbers of a tensor of this shape.
    ///
    /// # Errors
    /// [`Refusal`]: absent, another type or shape, or not finite.
    pub fn f32s(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Refusal> {
        let (values, _) = self.tensor(name, Dtype::F32, shape)?.as_chunks::<4>();
        finite(name, values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    /// As [`Checkpoint::f32s`].
    ///
    /// # Errors
    /// [`Refusal`]: absent, another type or shape, or not finite.
    pub fn f64s(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>, Refusal> {
        let (values, _) = self.tensor(name, Dtype::F64, shape)?.as_chunks::<8>();
        finite(name, values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
    }

    /// As [`Checkpoint::f32s`].
    ///
    /// # Errors
    /// [`Refusal`]: absent, or another type or shape.
    pub fn u64s(&self, name: &str, shape: &[usize]) -> Result<Vec<u64>, Refusal> {
        let (values, _) = self.tensor(name, Dtype::U64, shape)?.as_chunks::<8>();
        Ok(values.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    }

    /// How and for what it was learnt.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// As a safetensors file.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] if no build would read it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Refusal> {
        let json =
            serde_json::to_string(&self.metadata).map_err(|error| Refusal::Damaged(error.to_string()))?;
        // One entry only: the order of several would differ from run to run.
        let metadata = HashMap::from([(KEY.to_string(), json)]);
        let bytes = safetensors::serialize(&self.tensors, Some(metadata))
            .map_err(|error| Refusal::Damaged(error.to_string()))?;
        if bytes.len() as u64 > MAX_BYTES { Err(Refusal::TooLarge) } else { Ok(bytes) }
    }

    /// From a safetensors file's bytes.
    ///
    /// # Errors
    /// [`Refusal`]: not whole, not ours, or of another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        check_header(bytes)?;
        let damaged = |error: SafeTensorError| Refusal::Damaged(error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let json = header.metadata().as_ref().and_then(|m| m.get(KEY)).ok_or(Refusal::Foreign)?;
        let invalid = |error: serde_json::Error| Refusal::Damaged(format!("metadata `{KEY}`: {error}"));
        // The version first: another one may have other fields.
        let value: serde_json::Value = serde_json::from_str(json).map_err(invalid)?;
        match value.get("format_version").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(FORMAT_VERSION) => return Err(Refusal::Version { found }),
            _ => {}
        }
        let metadata = serde_json::from_value(value).map_err(invalid)?;
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(damaged)?
            .iter()
            .map(|(name, view)| {
                let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
                (name.to_string(), Tensor { dtype, shape, bytes })
            })
            .collect();
        Ok(Checkpoint { metadata, tensors })
    }

    /// Writes it into a temporary file in the path's folder, which is synced and then takes the path's place.
    ///
    /// # Errors
    /// [`CheckpointError`]; the path then holds what it held before. Numbers that are not finite are not saved.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let bytes = self
            .check_finite()
            .and_then(|()| self.to_bytes())
            .map_err(|reason| CheckpointError::Refused { path: path.to_path_buf(), reason })?;
        write_atomically(path, &bytes)
            .map_err(|source| CheckpointError::Write { path: path.to_path_buf(), source })
    }

    /// The checkpoint in a file.
    ///
    /// # Errors
    /// [`CheckpointError`], naming the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let unreadable = |source| CheckpointError::Read { path: path.to_path_buf(), source };
        let refused = |reason| CheckpointError::Refused { path: path.to_path_buf(), reason };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(refused(Refusal::TooLarge));
        }
        Checkpoint::parse(&bytes).map_err(refused)
    }

    fn check_finite(&self) -> Result<(), Refusal> {
        for (name, tensor) in &self.tensors {
            match tensor.dtype {
                Dtype::F32 => drop(self.f32s(name, &tensor.shape)?),
                Dtype::F64 => drop(self.f64s(name, &tensor.shape)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// Brings what `reload` says into `learner`, which was built from `config` for `joints`, and starts a new task.
    ///
    /// # Errors
    /// [`Refusal`]: what differs between checkpoint and learner. Nothing has changed then.
    pub fn restore(
        &self,
        learner: &mut ArmLearner,
        config: &Config,
        joints: &[String],
        reload: Reload,
    ) -> Result<(), Refusal> {
        self.check(learner, config, joints, reload)?;
        let mut restored = learner.clone();
        if reload.networks() {
            self.restore_networks(&mut restored)?;
        }
        if reload.memories() {
            self.restore_memories(&mut restored)?;
        }
        restored.new_task();
        *learner = restored;
        Ok(())
    }

    /// Whether the numbers mean the same here as where they were learnt.
    fn check(
        &self,
        learner: &ArmLearner,
        config: &Config,
        joints: &[String],
        reload: Reload,
    ) -> Result<(), Refusal> {
        let here = Metadata::new(learner, config, joints);
        if self.metadata.joints != here.joints {
            return Err(Refusal::Joints { found: self.metadata.joints.clone(), wanted: here.joints });
        }
        if reload.networks() {
            same("learner.hidden", &self.metadata.hidden, &here.hidden)?;
            same("learner.residual", &self.metadata.residual, &here.residual)?;
            let found = self.f64s("scales", &[4])?;
            let wanted = Scaling::from_config(config).to_array();
            for (parameter, (found, wanted)) in SCALES.iter().zip(found.iter().zip(&wanted)) {
                same(parameter, found, wanted)?;
            }
        }
        if reload.memories() {
            match (&self.metadata.memory, &here.memory) {
                (Some(found), Some(wanted)) => {
                    same("memory.models", &found.models, &wanted.models)?;
                    same("memory.centres", &found.centres, &wanted.centres)?;
                    near("memory.width", found.width, wanted.width)?;
                    near("memory.clip", found.clip, wanted.clip)?;
                    same("memory.groups", &found.groups, &wanted.groups)?;
                    // As many groups are needed, not layers as large.
                    same("number of layers", &self.metadata.hidden.len(), &here.hidden.len())?;
                }
                (None, None) if reload == Reload::All => {}
                (found, _) => {
                    let (found, learner) = (found.is_some(), config.learner.clone());
                    return Err(Refusal::Memories { found, learner });
                }
            }
        }
        Ok(())
    }

    fn restore_networks(&self, learner: &mut ArmLearner) -> Result<(), Refusal> {
        let integrators = self.f64s("integrators", &[learner.joints()])?;
        for (j, learner) in learner.learners_mut().iter_mut().enumerate() {
            let layers = learner.network.layers().to_vec();
            for (l, layer) in layers.into_iter().enumerate() {
                let weights = self.f32s(&weight_name(j, l), &[layer.inputs, layer.outputs])?;
                let bias = self.f32s(&bias_name(j, l), &[layer.outputs])?;
                let mut params = learner.network.params();
                params[layer.weights].copy_from_slice(&weights);
                params[layer.bias].copy_from_slice(&bias);
                learner.network.set_params(&params);
            }
            learner.integrator = integrators[j];
            learner.snapshot();
        }
        Ok(())
    }

    fn restore_memories(&self, learner: &mut ArmLearner) -> Result<(), Refusal> {
        for (j, learner) in learner.learners_mut().iter_mut().enumerate() {
            let memories = learner.optimiser.groups_mut().filter_map(|group| group.memory_mut());
            for (g, memory) in memories.enumerate() {
                let name = memory_name(j, g);
                let rates = self.f32s(&name, &[memory.rates().len()])?;
                let range = MIN_RATE as f32..=MAX_RATE as f32;
                if let Some(&rate) = rates.iter().find(|rate| !range.contains(rate)) {
                    let why = "is no learning rate between 1e-9 and 1";
                    return Err(Refusal::Value { name, value: f64::from(rate), why });
                }
                memory.set_rates(&rates);
            }
        }
        Ok(())
    }

    fn tensor(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&[u8], Refusal> {
        let name = name.to_string();
        let Some(tensor) = self.tensors.get(&name) else { return Err(Refusal::Missing { name }) };
        if tensor.dtype != dtype || tensor.shape != shape {
            let found = Tensor::description(tensor.dtype, &tensor.shape);
            return Err(Refusal::Shape { name, found, wanted: Tensor::description(dtype, shape) });
        }
        Ok(&tensor.bytes)
    }
}

/// The parameters that the tensor `scales` holds.
const SCALES: [&str; 4] = [
    "learner.scale.position",
    "learner.scale.velocity",
    "learner.scale.acceleration",
    "learner.scale.torque",
];

fn weight_name(joint: usize, layer: usize) -> String {
    format!("joint.{joint}.layer.{layer}.weight")
}

fn bias_name(joint: usize, layer: usize) -> String {
    format!("joint.{joint}.layer.{layer}.bias")
}

fn memory_name(joint: usize, group: usize) -> String {
    format!("joint.{joint}.memory.{group}")
}

fn memories(learner: &JointLearner) -> impl Iterator<Item = &super::Memory<f32>> {
    learner.optimiser().groups().filter_map(|group| group.memory())
}

fn same<T: PartialEq + Debug>(parameter: &'static str, found: &T, wanted: &T) -> Result<(), Refusal> {
    if found == wanted {
        return Ok(());
    }
    Err(Refusal::Differs { parameter, found: format!("{found:?}"), wanted: format!("{wanted:?}") })
}

/// [`same`] but for the last bits, which a number may lose on its way through JSON.
fn near(parameter: &'static str, found: f64, wanted: f64) -> Result<(), Refusal> {
    if (found - wanted).abs() <= 1e-12 * wanted.abs() { Ok(()) } else { same(parameter, &found, &wanted) }
}

fn finite<T: super::Real>(name: &str, values: Vec<T>) -> Result<Vec<T>, Refusal> {
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(values),
        Some(value) => {
            Err(Refusal::Value { name: name.to_string(), value: value.wide(), why: "is not finite" })
        }
    }
}

/// Refuses what would make the safetensors crate work without bound, or add offsets beyond an integer's range.
fn check_header(bytes: &[u8]) -> Result<(), Refusal> {
    #[derive(Deserialize)]
    struct Entry {
        data_offsets: Option<(u64, u64)>,
    }
    let damaged = |reason: &str| Refusal::Damaged(reason.to_string());
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| damaged("shorter than its header"))?;
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(damaged("its header claims to be too large"));
    }
    let header = rest.get(..length as usize).ok_or_else(|| damaged("shorter than its header"))?;
    let entries: HashMap<String, Entry> =
        serde_json::from_slice(header).map_err(|error| Refusal::Damaged(format!("header: {error}")))?;
    let room = (rest.len() - header.len()) as u64;
    if entries.values().filter_map(|entry| entry.data_offsets).any(|(_, end)| end > room) {
        return Err(damaged("a tensor lies beyond its end"));
    }
    Ok(())
}

/// Saves what `learner`, built from `config` for `joints`, has learnt: into a temporary file in the same folder, which is
/// synced and then takes the path's place.
///
/// # Errors
/// As [`Checkpoint::write`].
pub fn save(
    path: &Path,
    learner: &ArmLearner,
    config: &Config,
    joints: &[String],
) -> Result<(), CheckpointError> {
    Checkpoint::of(learner, config, joints).write(path)
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".checkpoint-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As an ordinary file; the process's umask still applies.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename itself is durable once the folder is.
    File::open(folder)?.sync_all()
}

/// Loads what `reload` says into `learner`, which was built from `config` for `joints`.
///
/// # Errors
/// [`CheckpointError`], naming the file and what is wrong with it; `learner` has not changed then.
pub fn load(
    path: &Path,
    learner: &mut ArmLearner,
    config: &Config,
    joints: &[String],
    reload: Reload,
) -> Result<(), CheckpointError> {
    let restored = Checkpoint::read(path)?.restore(learner, config, joints, reload);
    restored.map_err(|reason| CheckpointError::Refused { path: path.to_path_buf(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Batch;
    use crate::sample::{Motion, Observation};
    use proptest::prelude::*;

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|j| format!("joint_{j}")).collect()
    }

    fn config() -> Config {
        Config { hidden: vec![5, 4], memory_models: 6, ..Config::default() }
    }

    fn trained(config: &Config, joints: &[String]) -> ArmLearner {
        let mut learner = ArmLearner::new(config, joints).unwrap();
        for step in 0..20 {
            let mut batch = Batch::new(config, joints.len());
            while !batch.is_full() {
                let x = 0.1 * step as f64 + 0.01 * batch.len() as f64;
                let motion = Motion { q: [x.sin(); 16], qd: [x.cos(); 16], qdd: [-x.sin(); 16] };
                batch.push(&Observation { stamp_ns: 0, motion, effort: [3.0 * x.sin(); 16] }, &[0.5; 16]);
            }
            for joint in 0..joints.len() {
                assert!(learner.step(joint, &batch).finite);
            }
        }
        learner
    }

    fn bytes(learner: &ArmLearner, config: &Config, joints: &[String]) -> Vec<u8> {
        Checkpoint::of(learner, config, joints).to_bytes().unwrap()
    }

    fn restored(
        bytes: &[u8],
        config: &Config,
        joints: &[String],
        reload: Reload,
    ) -> Result<ArmLearner, Refusal> {
        let mut learner = ArmLearner::new(config, joints).unwrap();
        Checkpoint::parse(bytes)?.restore(&mut learner, config, joints, reload).map(|()| learner)
    }

    #[test]
    fn a_saved_learner_comes_back_bit_for_bit_and_goes_on_alike() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arm.safetensors");
        let (config, joints) = (config(), names(3));
        let mut learner = trained(&config, &joints);
        save(&path, &learner, &config, &joints).unwrap();
        let mut loaded = ArmLearner::new(&config, &joints).unwrap();
        load(&path, &mut loaded, &config, &joints, Reload::All).unwrap();
        assert_eq!(bytes(&loaded, &config, &joints), bytes(&learner, &config, &joints));
        assert_eq!(std::fs::read(&path).unwrap(), bytes(&learner, &config, &joints));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");

        let mut batch = Batch::new(&config, 3);
        batch.push(&Observation { effort: [1.0; 16], ..Observation::default() }, &[0.0; 16]);
        let motion = Motion { q: [0.2; 16], ..Motion::default() };
        batch.push(&Observation { stamp_ns: 0, motion, effort: [1.5; 16] }, &[0.0; 16]);
        learner.new_task();
        for _ in 0..3 {
            assert_eq!(learner.step(1, &batch), loaded.step(1, &batch));
        }
        assert_eq!(bytes(&loaded, &config, &joints), bytes(&learner, &config, &joints));
    }

    #[test]
    fn each_reload_takes_its_part_only() {
        let (config, joints) = (config(), names(2));
        let learner = trained(&config, &joints);
        let file = bytes(&learner, &config, &joints);
        let fresh = ArmLearner::new(&config, &joints).unwrap();
        for (reload, networks, rates) in [
            (Reload::All, true, true),
            (Reload::Memory, false, true),
            (Reload::Network, true, false),
            (Reload::None, false, false),
        ] {
            let got = restored(&file, &config, &joints, reload).unwrap();
            for j in 0..2 {
                let [got, old, new] = [&got, &learner, &fresh].map(|l| l.joint(j).unwrap());
                let from = if networks { old } else { new };
                assert_eq!(got.network().params(), from.network().params(), "{reload:?}");
                assert_eq!(got.integrator(), from.integrator(), "{reload:?}");
                let v = |l: &JointLearner| memories(l).map(|m| m.rates().to_vec()).collect::<Vec<_>>();
                assert_eq!(v(got), v(if rates { old } else { new }), "{reload:?}");
            }
        }
    }

    #[test]
    fn memories_go_to_a_network_of_other_sizes_but_networks_do_not() {
        let joints = names(2);
        let file = bytes(&trained(&config(), &joints), &config(), &joints);
        let wider = Config { hidden: vec![9, 7], ..config() };
        restored(&file, &wider, &joints, Reload::Memory).unwrap();
        let error = restored(&file, &wider, &joints, Reload::All).unwrap_err();
        assert_eq!(
            error.to_string(),
            "was learnt with learner.hidden = [5, 4], but this configuration has [9, 7]: \
             set it to [5, 4], or choose another checkpoint.reload"
        );
    }

    #[test]
    fn whatever_differs_is_named() {
        let (config, joints) = (config(), names(2));
        let file = bytes(&trained(&config, &joints), &config, &joints);
        let refusal = |config: &Config, joints: &[String], reload| {
            restored(&file, config, joints, reload).unwrap_err().to_string()
        };
        let reversed: Vec<_> = joints.iter().rev().cloned().collect();
        for reload in [Reload::All, Reload::Memory, Reload::Network, Reload::None] {
            let error = refusal(&config, &reversed, reload);
            assert!(
                error.contains(r#"["joint_1", "joint_2"]"#) && error.contains(r#"["joint_2", "joint_1"]"#)
            );
            assert!(refusal(&config, &names(3), reload).contains("joint_3"));
        }
        type Change = fn(&mut Config);
        let changed: [(&str, Change, Reload); 10] = [
            ("learner.residual", |c| c.residual = false, Reload::Network),
            ("learner.scale.position", |c| c.scale_position = 9.0, Reload::Network),
            ("learner.scale.torque", |c| c.scale_torque = 9.0, Reload::All),
            ("learner.hidden", |c| c.hidden = vec![5, 4, 3], Reload::Network),
            ("number of layers", |c| c.hidden = vec![5, 4, 3], Reload::Memory),
            ("memory.models", |c| c.memory_models = 7, Reload::All),
            ("memory.clip", |c| c.memory_clip = 3.0, Reload::Memory),
            ("memory.width", |c| c.memory_width = 0.6, Reload::Memory),
            ("memory.groups", |c| c.memory_groups = "layer".into(), Reload::Memory),
            ("needs them", |c| c.learner = "gd".into(), Reload::All),
        ];
        for (name, change, reload) in changed {
            let mut other = config.clone();
            change(&mut other);
            let error = refusal(&other, &joints, reload);
            if name == "needs them" {
                assert_eq!(
                    error,
                    "has memories for learning rates, but learner.name = gd has none: \
                     choose another learner, or checkpoint.reload: network"
                );
            } else {
                assert!(error.contains(name), "{name}: {error}");
            }
        }
    }

    #[test]
    fn another_version_another_program_and_no_file_are_told_apart() {
        let (config, joints) = (config(), names(1));
        let mut checkpoint = Checkpoint::of(&trained(&config, &joints), &config, &joints);
        checkpoint.metadata.format_version = 7;
        let error = Checkpoint::parse(&checkpoint.to_bytes().unwrap()).unwrap_err();
        assert_eq!(error, Refusal::Version { found: 7 });

        let tensor = Tensor::f64(&[1.0]);
        let foreign = safetensors::serialize([("x", &tensor)], None).unwrap();
        assert_eq!(Checkpoint::parse(&foreign).unwrap_err(), Refusal::Foreign);

        let mut learner = ArmLearner::new(&config, &joints).unwrap();
        let path = Path::new("/nonexistent/arm.safetensors");
        let error = load(path, &mut learner, &config, &joints, Reload::All).unwrap_err();
        assert!(matches!(error, CheckpointError::Read { .. }));
        assert!(error.to_string().contains("/nonexistent/arm.safetensors"), "{error}");
        let error = save(path, &learner, &config, &joints).unwrap_err();
        assert!(matches!(error, CheckpointError::Write { .. }));
    }

    #[test]
    fn numbers_that_no_learner_can_hold_are_refused_and_nothing_changes() {
        let (config, joints) = (config(), names(2));
        let good = Checkpoint::of(&trained(&config, &joints), &config, &joints);
        for (name, tensor) in [
            ("joint.1.layer.2.bias", Tensor::f32(&[1], &[f32::NAN])),
            ("joint.1.layer.0.bias", Tensor::f32(&[5], &[f32::INFINITY; 5])),
            ("joint.1.memory.5", Tensor::f32(&[6], &[2.0; 6])),
            ("joint.1.memory.5", Tensor::f32(&[6], &[0.0; 6])),
            ("joint.1.memory.5", Tensor::f32(&[7], &[0.5; 7])),
            ("integrators", Tensor::f64(&[0.0, f64::NAN])),
            ("integrators", Tensor::f32(&[2], &[0.0; 2])),
        ] {
            let mut bad = good.clone();
            bad.tensors.insert(name.to_string(), tensor);
            let bad = Checkpoint::parse(&bad.to_bytes().unwrap()).unwrap();
            let mut learner = ArmLearner::new(&config, &joints).unwrap();
            let before = format!("{learner:?}");
            let error = bad.restore(&mut learner, &config, &joints, Reload::All).unwrap_err();
            assert!(error.to_string().contains(name), "{name}: {error}");
            assert_eq!(format!("{learner:?}"), before);
        }
        let mut bad = good;
        bad.tensors.remove("joint.0.layer.1.weight");
        let mut learner = ArmLearner::new(&config, &joints).unwrap();
        let error = bad.restore(&mut learner, &config, &joints, Reload::All).unwrap_err();
        assert_eq!(error, Refusal::Missing { name: "joint.0.layer.1.weight".into() });
    }

    #[test]
    fn a_header_whose_offsets_overflow_is_refused() {
        let huge = 1u64 << 61;
        let tensors: Vec<String> = (0..9u64)
            .map(|i| {
                let (from, to) =
                    (u128::from(i * (huge - 1)), u128::from(i * (huge - 1)) + u128::from(huge - 1));
                let to = to.min(u128::from(u64::MAX));
                format!(r#""t{i}":{{"dtype":"U8","shape":[{}],"data_offsets":[{from},{to}]}}"#, to - from)
            })
            .collect();
        let header = format!("{{{}}}", tensors.join(","));
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        assert!(matches!(Checkpoint::parse(&file), Err(Refusal::Damaged(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_bytes_make_the_parser_panic(
            noise in prop::collection::vec(any::<u8>(), 0..400),
            cut in any::<prop::sample::Index>(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let _ = Checkpoint::parse(&noise);
            let (config, joints) = (Config { hidden: vec![3], ..config() }, names(1));
            let whole = bytes(&ArmLearner::new(&config, &joints).unwrap(), &config, &joints);
            let truncated = &whole[..cut.index(whole.len())];
            prop_assert!(matches!(Checkpoint::parse(truncated), Err(Refusal::Damaged(_))));
            let mut flipped = whole.clone();
            for (at, byte) in flips {
                let at = at.index(flipped.len());
                flipped[at] = byte;
            }
            if let Ok(learner) = restored(&flipped, &config, &joints, Reload::All) {
                let learner = learner.joint(0).unwrap();
                prop_assert!(learner.network().params().iter().all(|p| p.is_finite()));
            }
        }

        #[test]
        fn any_shape_comes_back_bit_for_bit(
            hidden in prop::collection::vec(1usize..7, 0..4),
            count in 1usize..4,
            learner in prop::sample::select(crate::config::LEARNERS),
            groups in prop::sample::select(vec!["tensor", "layer"]),
            centres in prop::sample::select(vec!["linear", "log"]),
            preset in prop::sample::select(vec!["robot", "paper"]),
            width in 0.1f64..1.0,
        ) {
            let config = Config {
                hidden,
                learner: learner.into(),
                memory_groups: groups.into(),
                memory_centres: centres.into(),
                memory_width: width,
                ..Config::preset(preset)
            };
            let joints = names(count);
            let file = bytes(&trained(&config, &joints), &config, &joints);
            let back = restored(&file, &config, &joints, Reload::All).unwrap();
            prop_assert_eq!(bytes(&back, &config, &joints), file);
        }
    }
}
