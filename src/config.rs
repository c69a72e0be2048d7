//! Every parameter: its name, type, default, range, unit and documentation, in one place.
//!
//! Contract: called at start-up and by tools, never from the pinned thread; may allocate. [`PARAMETERS`] is the one
//! table; [`Config`] is its typed form. A value comes from, in this order: the preset's default, a parameter file, the
//! command line. Any unknown name, mistyped or out-of-range value is an error that names parameter, value and range.

use std::collections::BTreeMap;
use std::fmt;

/// A parameter's value, as ROS 2 has them (rcl_interfaces/ParameterType).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A string.
    Text(String),
    /// An array of integers.
    Ints(Vec<i64>),
    /// An array of floating-point numbers.
    Floats(Vec<f64>),
    /// An array of strings.
    Texts(Vec<String>),
}

impl Value {
    /// The type's name as ROS 2's tools print it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Bool(_) => "bool",
            Value::Int(_) => "integer",
            Value::Float(_) => "double",
            Value::Text(_) => "string",
            Value::Ints(_) => "integer_array",
            Value::Floats(_) => "double_array",
            Value::Texts(_) => "string_array",
        }
    }

    /// This value as the type of `like`: an integer may stand for a double, and an empty array for any array.
    fn coerced(self, like: &Value) -> Result<Value, Value> {
        let empty = |value: &Value| match value {
            Value::Ints(v) => v.is_empty(),
            Value::Floats(v) => v.is_empty(),
            Value::Texts(v) => v.is_empty(),
            _ => false,
        };
        match (self, like) {
            (Value::Int(v), Value::Float(_)) => Ok(Value::Float(v as f64)),
            (Value::Ints(v), Value::Floats(_)) => {
                Ok(Value::Floats(v.into_iter().map(|v| v as f64).collect()))
            }
            (v, Value::Ints(_)) if empty(&v) => Ok(Value::Ints(vec![])),
            (v, Value::Floats(_)) if empty(&v) => Ok(Value::Floats(vec![])),
            (v, Value::Texts(_)) if empty(&v) => Ok(Value::Texts(vec![])),
            (v, like) if v.type_name() == like.type_name() => Ok(v),
            (v, _) => Err(v),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(v) => write!(f, "{v}"),
            Value::Int(v) => write!(f, "{v}"),
            Value::Float(v) => write!(f, "{v:?}"),
            Value::Text(v) => write!(f, "\"{v}\""),
            Value::Ints(v) => write!(f, "{v:?}"),
            Value::Floats(v) => write!(f, "{v:?}"),
            Value::Texts(v) => write!(f, "{v:?}"),
        }
    }
}

/// What a parameter's value may be, beyond its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// Anything of the type (numbers: anything finite).
    Any,
    /// Each number lies in `[low, high]`.
    Within(f64, f64),
    /// Each number lies in `(low, high]`.
    Above(f64, f64),
    /// One of these words.
    OneOf(&'static [&'static str]),
}

impl Range {
    fn admits(&self, value: &Value) -> bool {
        let number = |v: f64| match *self {
            Range::Within(low, high) => (low..=high).contains(&v),
            Range::Above(low, high) => v > low && v <= high,
            _ => v.is_finite(),
        };
        let text = |v: &String| match self {
            Range::OneOf(words) => words.contains(&v.as_str()),
            _ => true,
        };
        match value {
            Value::Bool(_) => true,
            Value::Int(v) => number(*v as f64),
            Value::Float(v) => number(*v),
            Value::Text(v) => text(v),
            Value::Ints(v) => v.iter().all(|v| number(*v as f64)),
            Value::Floats(v) => v.iter().all(|v| number(*v)),
            Value::Texts(v) => v.iter().all(text),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Range::Any => write!(f, "any"),
            Range::Within(low, high) => write!(f, "{low} to {high}"),
            Range::Above(low, high) => write!(f, "above {low}, to {high}"),
            Range::OneOf(words) => write!(f, "{}", words.join(" | ")),
        }
    }
}

/// One row of [`PARAMETERS`].
pub struct Parameter {
    /// The name as it stands in a parameter file, dots between levels.
    pub name: &'static str,
    /// The default of the `robot` preset, which is everybody's default.
    pub default: fn() -> Value,
    /// The default of the `paper` preset, where it is another.
    pub paper: Option<fn() -> Value>,
    /// What is admitted.
    pub range: Range,
    /// The unit, empty for pure numbers.
    pub unit: &'static str,
    /// Whether it may change while the node runs; if not, it holds what it was at the start.
    pub live: bool,
    /// What it does, one or two sentences.
    pub doc: &'static str,
}

impl Parameter {
    /// The default under `preset`.
    pub fn default_under(&self, preset: &str) -> Value {
        match self.paper {
            Some(paper) if preset == "paper" => paper(),
            _ => (self.default)(),
        }
    }
}

/// Why a set of parameters was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// No parameter has this name.
    #[error("unknown parameter `{name}`{}", hint.as_ref().map(|h| format!("; did you mean `{h}`?")).unwrap_or_default())]
    Unknown {
        /// The name as given.
        name: String,
        /// The nearest known name.
        hint: Option<String>,
    },
    /// The value has another type.
    #[error("parameter `{name}` is a {expected}, but {value} is a {given}")]
    Type {
        /// The parameter.
        name: String,
        /// The type it has.
        expected: &'static str,
        /// The value as given.
        value: String,
        /// The type as given.
        given: &'static str,
    },
    /// The value lies outside the range.
    #[error("parameter `{name}` = {value} is out of range ({range}{}{unit})", if unit.is_empty() { "" } else { " " })]
    OutOfRange {
        /// The parameter.
        name: String,
        /// The value as given.
        value: String,
        /// The range it has.
        range: String,
        /// Its unit.
        unit: &'static str,
    },
}

/// Between the typed field and the [`Value`].
trait Field: Sized {
    fn to_value(self) -> Value;
    fn from_value(value: &Value) -> Self;
}

macro_rules! field {
    ($type:ty, $variant:ident, $into:expr, $from:expr) => {
        impl Field for $type {
            fn to_value(self) -> Value {
                #[allow(clippy::redundant_closure_call)]
                Value::$variant(($into)(self))
            }
            fn from_value(value: &Value) -> Self {
                match value {
                    #[allow(clippy::redundant_closure_call)]
                    Value::$variant(v) => ($from)(v),
                    other => unreachable!("checked before: {other}"),
                }
            }
        }
    };
}
field!(bool, Bool, |v| v, |v: &bool| *v);
field!(i64, Int, |v| v, |v: &i64| *v);
field!(usize, Int, |v| v as i64, |v: &i64| *v as usize);
field!(f64, Float, |v| v, |v: &f64| *v);
field!(String, Text, |v| v, |v: &String| v.clone());
field!(Vec<i64>, Ints, |v| v, |v: &Vec<i64>| v.clone());
field!(Vec<usize>, Ints, |v: Vec<usize>| v.into_iter().map(|v| v as i64).collect(), |v: &Vec<i64>| v
    .iter()
    .map(|v| *v as usize)
    .collect());
field!(Vec<f64>, Floats, |v| v, |v: &Vec<f64>| v.clone());
field!(Vec<String>, Texts, |v| v, |v: &Vec<String>| v.clone());

/// One row: field, type and default (the `paper` preset's, if it is another); then the name, `live` if it may change
/// while the node runs, the range, the unit and the documentation.
macro_rules! parameters {
    ($( $field:ident: $type:ty = $default:expr $(, paper $paper:expr)?; $name:literal $($live:ident)?, $range:expr, $unit:literal, $doc:literal; )*) => {
        /// All parameters, typed. [`PARAMETERS`] documents each.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $( #[doc = $doc] pub $field: $type, )*
        }

        /// Every parameter there is, in the order in which they are printed.
        pub static PARAMETERS: &[Parameter] = &[
            $( Parameter {
                name: $name,
                default: || <$type as Field>::to_value($default),
                paper: parameters!(@paper $type $(, $paper)?),
                range: $range,
                unit: $unit,
                live: parameters!(@live $($live)?),
                doc: $doc,
            }, )*
        ];

        impl Config {
            fn from_complete(values: &BTreeMap<&'static str, Value>) -> Self {
                Config { $( $field: <$type as Field>::from_value(&values[$name]), )* }
            }

            /// Every parameter's name and present value, in the table's order.
            pub fn values(&self) -> Vec<(&'static str, Value)> {
                vec![ $( ($name, self.$field.clone().to_value()), )* ]
            }

            /// A parameter's present value; `None` if there is no such parameter.
            pub fn get(&self, name: &str) -> Option<Value> {
                match name {
                    $( $name => Some(self.$field.clone().to_value()), )*
                    _ => None,
                }
            }

            /// Gives a parameter another value, whether or not it is live. No other parameter changes with it: a
            /// `preset` set here brings no defaults, those come with [`Config::new`].
            ///
            /// # Errors
            /// [`ConfigError`]; then nothing has changed.
            pub fn set(&mut self, name: &str, value: Value) -> Result<(), ConfigError> {
                let value = check(name, value)?;
                match name {
                    $( $name => self.$field = <$type as Field>::from_value(&value), )*
                    _ => return Err(unknown(name)),
                }
                Ok(())
            }
        }
    };
    (@live) => { false };
    (@live live) => { true };
    (@paper $type:ty) => { None };
    (@paper $type:ty, $paper:expr) => { Some(|| <$type as Field>::to_value($paper)) };
}

/// The names of the learners, as the paper names them.
pub const LEARNERS: &[&str] = &[
    "gd",
    "adam",
    "metagd",
    "metagd-momentum",
    "metagd-memadam",
    "adam+memory",
    "adam+memory-momentum",
    "adam+memory-memadam",
];

parameters! {
    preset: String = "robot".into();
        "preset", Range::OneOf(&["robot", "paper"]), "",
        "Where the defaults come from: `robot` predicts by a mix of experts, among them networks that learn what the rigid body and least squares leave over, scaled, behind the gate; `paper` learns the raw torque as the paper does.";

    autostart: bool = true;
        "autostart", Range::Any, "",
        "Configure and activate by itself at the start; off, a lifecycle manager does.";
    enabled: bool = true;
        "enabled" live, Range::Any, "",
        "Let torques out; off, they go to zero and stay there. ~/enable sets it.";
    publish: bool = true;
        "publish" live, Range::Any, "",
        "Publish the torques; off, they go to zero first and then nothing is published, while the node learns on.";
    use_sim_time: bool = false;
        "use_sim_time", Range::Any, "",
        "Take the time from /clock instead of the system's clock.";

    joints: Vec<String> = vec![];
        "joints", Range::Any, "",
        "The arm's moving joints, by name, from the base outwards; the order of ~/commands. Empty: those of the URDF.";
    urdf: String = String::new();
        "urdf", Range::Any, "",
        "The arm's URDF file. Empty: what robot_description or its topic gives; without any, there is no rigid body and the learner learns the whole torque.";
    robot_description: String = String::new();
        "robot_description", Range::Any, "",
        "The arm's URDF as text, as launch files give it. Used when `urdf` is empty.";
    robot_description_timeout: f64 = 5.0;
        "robot_description_timeout", Range::Within(0.0, 3600.0), "s",
        "How long to wait for topics.robot_description when configuring; without it there is then no rigid body.";
    gravity: Vec<f64> = vec![0.0, 0.0, -9.81];
        "gravity", Range::Within(-30.0, 30.0), "m/s²",
        "Gravity in the frame of the arm's base; [0, 0, -9.81] stands on the floor, [9.81, 0, 0] hangs from a wall.";
    payload_mass: f64 = 0.0;
        "payload.mass", Range::Within(0.0, 200.0), "kg",
        "A known payload's mass, fixed to the last link.";
    payload_com: Vec<f64> = vec![0.0, 0.0, 0.0];
        "payload.com", Range::Within(-5.0, 5.0), "m",
        "The payload's centre of mass in the last link's (the flange's) frame.";
    payload_detect: bool = true;
        "payload.detect", Range::Any, "",
        "Notice when the payload changes and let rls learn the last link's parameters anew; without rls.enabled or a URDF there is nothing to notice it by.";
    payload_detect_ratio: f64 = 8.0;
        "payload.detect_ratio", Range::Above(1.0, 1.0e6), "",
        "A payload has changed when rls's normalised squared errors, smoothed over some batches, exceed this times their long mean.";
    payload_detect_pause: usize = 50;
        "payload.detect_pause", Range::Within(0.0, 1.0e6), "batches",
        "After one change no other is looked for during so many batches.";

    rls: bool = true, paper false;
        "rls.enabled", Range::Any, "",
        "Learn the rigid body's inertial parameters and each joint's friction by tempered recursive least squares; the networks then learn what that leaves over. Without a URDF it learns the whole torque on random features of the motion.";
    rls_variance: f64 = 10.0;
        "rls.variance", Range::Above(0.0, 1.0e6), "Nm²",
        "The variance that the mean torque of a batch is taken to have: large on purpose, for successive errors are alike. Without a URDF it has no effect.";

    learner: String = "metagd".into();
        "learner.name", Range::OneOf(LEARNERS), "",
        "The learner of every joint: base learner (gd, adam) with or without a memory for learning rates.";
    hidden: Vec<usize> = vec![50, 50, 50];
        "learner.hidden", Range::Within(1.0, 4096.0), "units",
        "The sizes of the hidden layers of every joint's network.";
    seed: i64 = 1;
        "learner.seed", Range::Within(0.0, 9.0e15), "",
        "Seed of the networks' initial weights; the same seed gives the same weights on every machine.";
    zero_output: bool = true, paper false;
        "learner.zero_output", Range::Any, "",
        "Start every network's output layer at zero: nothing is added to the rigid body before something is learnt.";
    rate: f64 = 0.03, paper 0.01;
        "learner.rate" live, Range::Above(0.0, 1.0), "",
        "The base learning rate; with a memory, where each of its local models starts (what it has learnt since stays: changed while running, it counts for gd and adam).";
    batch: usize = 10;
        "learner.batch", Range::Within(1.0, 1000.0), "samples",
        "How many samples make one learning step.";
    memory_models: usize = 20;
        "memory.models", Range::Within(2.0, 1000.0), "",
        "K, the number of local models of one memory.";
    memory_centres: String = "linear".into();
        "memory.centres", Range::OneOf(&["linear", "log"]), "",
        "How the centres are spaced over [-clip, clip]; `log` puts one at 0 and the others at +-1e-6 to +-clip.";
    memory_width: f64 = 0.5;
        "memory.width", Range::Within(0.1, 10.0), "",
        "Width of a local model's Gaussian, as a fraction of the distance between centres (the authors' lm_scale).";
    memory_clip: f64 = 2.0;
        "memory.clip", Range::Above(0.0, 1.0e6), "",
        "Gradients are clipped to [-clip, clip], coordinate by coordinate.";
    memory_rate: f64 = 0.1, paper 0.01;
        "memory.rate" live, Range::Within(0.0, 10.0), "",
        "The memory's own learning rate (the authors' mem_lr); learners without a memory have no use for it.";
    memory_groups: String = "tensor".into();
        "memory.groups", Range::OneOf(&["tensor", "layer"]), "",
        "One memory per tensor (a layer's weights, a layer's biases) or one per layer.";
    memory_signal: String = "product".into();
        "memory.signal", Range::OneOf(&["product", "sign"]), "",
        "The memory's training signal: the clamped product of successive gradients, or its sign.";
    residual: bool = true, paper false;
        "learner.residual", Range::Any, "",
        "Learn what the rigid body leaves over, instead of the whole torque.";
    scale_position: f64 = 1.5, paper 1.0;
        "learner.scale.position", Range::Above(0.0, 1.0e6), "rad",
        "Positions are divided by this before they enter a network.";
    scale_velocity: f64 = 0.5, paper 1.0;
        "learner.scale.velocity", Range::Above(0.0, 1.0e6), "rad/s",
        "Velocities are divided by this before they enter a network.";
    scale_acceleration: f64 = 2.0, paper 1.0;
        "learner.scale.acceleration", Range::Above(0.0, 1.0e6), "rad/s²",
        "Accelerations are divided by this before they enter a network.";
    scale_torque: f64 = 5.0, paper 1.0;
        "learner.scale.torque", Range::Above(0.0, 1.0e6), "Nm",
        "A network's target is the torque (or residual) divided by this.";
    integrator_gain: f64 = 0.5, paper 0.0;
        "integrator.gain" live, Range::Within(0.0, 1.0), "",
        "The share of a batch's mean remaining error that the integrator takes up per 10 ms that the batch stands for; 0 switches it off.";
    integrator_after_update: bool = true;
        "integrator.after_update", Range::Any, "",
        "Integrate what remains after the network's update (a posteriori) rather than before it.";
    replay: bool = true, paper false;
        "replay.enabled", Range::Any, "",
        "Learn from as many remembered samples as new ones in every step, so that a network keeps what it learnt elsewhere.";
    replay_capacity: usize = 4000;
        "replay.capacity", Range::Within(1.0, 1.0e6), "samples",
        "How many samples are remembered; the oldest go first.";
    replay_keep: usize = 2;
        "replay.keep", Range::Within(1.0, 1000.0), "samples",
        "How many of each batch are kept.";
    mix: bool = true, paper false;
        "mix.enabled", Range::Any, "",
        "Predict by a mix of experts (rigid body, rls and networks, each with integrators, and the torques measured last), weighted joint by joint by their running errors; integrator.gain has no effect then.";
    mix_power: f64 = 4.0;
        "mix.power", Range::Within(0.0, 100.0), "",
        "An expert's weight is this power of the least running squared error over its own.";
    mix_memory: f64 = 0.9;
        "mix.memory", Range::Within(0.0, 0.9999), "",
        "What an expert's running squared error keeps of itself from batch to batch.";
    mix_networks: bool = true;
        "mix.networks", Range::Any, "",
        "Whether networks learn and are among the experts.";
    frozen_gated: bool = true, paper false;
        "frozen.gated", Range::Any, "",
        "With learning off, add a network only as far as its snapshots have proved right on later batches and only for motions like those it learnt from.";
    gate: bool = true, paper false;
        "gate.enabled" live, Range::Any, "",
        "Output the rigid body's torque alone while the learner does worse than the rigid body.";
    gate_ratio: f64 = 1.5;
        "gate.ratio" live, Range::Within(1.0, 1.0e6), "",
        "The gate shuts when the learner's running squared error exceeds this times the rigid body's plus gate.offset.";
    gate_offset: f64 = 0.0;
        "gate.offset" live, Range::Within(0.0, 1.0e6), "Nm²",
        "See gate.ratio. The same for all joints: what is small in a shoulder holds a wrist's gate open whatever its learner says.";
    gate_restore: f64 = 4.0;
        "gate.restore" live, Range::Within(1.0, 1.0e9), "",
        "A joint's last good network is restored when its running squared error exceeds this times the rigid body's plus gate.offset.";
    learning: bool = true;
        "learning" live, Range::Any, "",
        "Whether to learn at all; without, what was learnt stays frozen and only predicts.";

    load: String = String::new();
        "checkpoint.load" live, Range::Any, "",
        "Checkpoint to start from. Empty: start fresh.";
    reload: String = "all".into();
        "checkpoint.reload" live, Range::OneOf(&["all", "memory", "network", "none"]), "",
        "What to take from the checkpoint: what was learnt of the torque (`network`: networks, least squares, samples for replay, experts), the memories for learning rates, or both.";
    save: String = String::new();
        "checkpoint.save" live, Range::Any, "",
        "Where to save the checkpoint on a clean stop and at every interval. Empty: do not save.";
    save_interval: f64 = 60.0;
        "checkpoint.interval" live, Range::Within(0.0, 1.0e6), "s",
        "Time between two checkpoints while running; 0: only on a clean stop.";

    realtime: String = "warn".into();
        "realtime", Range::OneOf(&["enforce", "warn"]), "",
        "Whether to refuse to start (`enforce`) or to say so and run on (`warn`) when priority, memory lock or affinity are not granted.";
    thread_priority: i64 = 80;
        "thread_priority", Range::Within(0.0, 99.0), "",
        "SCHED_FIFO priority of the pinned thread; 0 leaves it in SCHED_OTHER.";
    cpu_affinity: Vec<i64> = vec![];
        "cpu_affinity", Range::Within(0.0, 1023.0), "",
        "CPUs of the pinned thread. Empty: an isolated CPU if the kernel has one, else the last one allowed.";
    lock_memory: bool = true;
        "lock_memory", Range::Any, "",
        "Lock the process's memory (mlockall), and fault in at the start what the pinned thread will use.";
    wait: String = "park".into();
        "wait", Range::OneOf(&["park", "spin", "hybrid"]), "",
        "How the pinned thread waits for the next sample: `park` sleeps; `spin` polls and never sleeps while samples come, for which it needs an isolated CPU; `hybrid` sleeps until shortly before the sample is due and then polls.";
    wait_spin: f64 = 100.0;
        "wait_spin", Range::Within(0.0, 10_000.0), "µs",
        "How long `wait: hybrid` polls before and after the time at which the next sample is due; more than the machine's usual lateness in waking a thread.";
    deadline: f64 = 10.0;
        "deadline", Range::Above(0.0, 10_000.0), "ms",
        "Time from the arrival of a batch's last sample to the end of the joints' steps; joint steps that do not fit are left out and counted.";
    ring: usize = 256;
        "ring", Range::Within(2.0, 65_536.0), "samples",
        "Capacity of the ring between the I/O thread and the pinned thread.";
    probe: bool = true;
        "probe", Range::Any, "",
        "Run a probe thread that measures the machine's own stalls beside the pinned thread.";

    stale: f64 = 0.0;
        "intake.stale", Range::Within(0.0, 1.0e6), "ms",
        "Drop messages whose stamp is older than this by the system clock; 0: stamps are not compared with the clock.";
    gap: f64 = 100.0;
        "intake.gap", Range::Above(0.0, 1.0e6), "ms",
        "A gap between stamps longer than this starts the acceleration estimate and the batch anew.";
    acceleration_window: usize = 11;
        "acceleration.window", Range::Within(3.0, 101.0), "samples",
        "Length of the local polynomial fit that estimates accelerations; odd. Learning lags by half of it.";
    acceleration_order: usize = 2;
        "acceleration.order", Range::Within(1.0, 4.0), "",
        "Order of that fit to the velocities and positions.";
    reference_timeout: f64 = 20.0;
        "reference.timeout", Range::Within(0.0, 1.0e6), "ms",
        "A reference older than this is not used; the torque is then predicted for the measured state, and commanded for it at zero acceleration.";

    limit_torque: f64 = 0.8;
        "limits.torque" live, Range::Within(0.0, 1.0), "",
        "The feed-forward's magnitude, as a fraction of the effort limit that the URDF gives each joint.";
    limit_effort: Vec<f64> = vec![];
        "limits.effort", Range::Above(0.0, 1.0e6), "Nm",
        "Each joint's effort limit, where there is no URDF or it should not count. Empty: the URDF's.";
    limit_rate: f64 = 2000.0;
        "limits.rate" live, Range::Above(0.0, 1.0e9), "Nm/s",
        "How fast the feed-forward may change.";
    limit_timeout: f64 = 20.0;
        "limits.timeout" live, Range::Above(0.0, 1.0e6), "ms",
        "When the newest sample is older than this, the feed-forward decays to zero.";
    limit_decay: f64 = 0.1;
        "limits.decay" live, Range::Above(0.0, 1.0e3), "s",
        "Time in which it decays from full to zero.";
    limit_ramp: f64 = 1.0;
        "limits.ramp" live, Range::Within(0.0, 1.0e3), "s",
        "Time over which the feed-forward goes from the torque that stands (zero at the start) to the wanted one: at the start, and after every gap or decay.";

    topic_robot_description: String = "robot_description".into();
        "topics.robot_description", Range::Any, "",
        "std_msgs/String, latched, with the arm's URDF as text; used when neither `urdf` nor `robot_description` is given. Empty: not subscribed.";
    topic_joint_states: String = "joint_states".into();
        "topics.joint_states", Range::Any, "",
        "sensor_msgs/JointState with positions, velocities and (unless topics.torque names another) efforts.";
    topic_torque: String = String::new();
        "topics.torque", Range::Any, "",
        "sensor_msgs/JointState whose efforts are the torques, for drivers that publish them apart. Empty: joint_states brings them.";
    topic_reference: String = "~/reference".into();
        "topics.reference", Range::Any, "",
        "The motion for which the feed-forward is wanted. Empty: none.";
    topic_reference_type: String = "trajectory_msgs/msg/JointTrajectory".into();
        "topics.reference_type", Range::OneOf(&["trajectory_msgs/msg/JointTrajectory", "trajectory_msgs/msg/JointTrajectoryPoint"]), "",
        "Its message type; a bare JointTrajectoryPoint has no names and is taken in the order of `joints`.";
    topic_feedforward: String = "~/feedforward".into();
        "topics.feedforward", Range::Any, "",
        "sensor_msgs/JointState with the input's stamp, the joints' names and the feed-forward as effort. Empty: not published.";
    topic_commands: String = "~/commands".into();
        "topics.commands", Range::Any, "",
        "std_msgs/Float64MultiArray with the feed-forward in the order of `joints`. Empty: not published.";

    diagnostics_period: f64 = 1.0;
        "diagnostics.period", Range::Within(0.1, 60.0), "s",
        "Time between two messages on /diagnostics.";
    diagnostics_rate_warn: f64 = 0.9;
        "diagnostics.rate_warn" live, Range::Within(0.0, 1.0), "",
        "The share of the usual message rate below which is a WARN.";
    diagnostics_misses_warn: f64 = 0.001;
        "diagnostics.misses_warn" live, Range::Within(0.0, 1.0), "",
        "The share of missed batches per period above which is a WARN.";
    diagnostics_misses_error: f64 = 0.05;
        "diagnostics.misses_error" live, Range::Within(0.0, 1.0), "",
        "The share of missed batches per period above which is an ERROR.";
    diagnostics_error_ratio: f64 = 1.5;
        "diagnostics.error_ratio" live, Range::Above(0.0, 1.0e6), "",
        "A joint's prediction error above this times the rigid body's is a WARN.";

    run_dir: String = String::new();
        "run_dir", Range::Any, "",
        "Folder for the run's histograms (latency.hlog), summary (latency.json) and log. Empty: none are written.";
    hlog_interval: f64 = 1.0;
        "hlog_interval", Range::Above(0.0, 3600.0), "s",
        "Length of one interval of the histogram log.";
}

impl Config {
    /// The defaults of `preset`, overridden by `given` (which may itself name the preset).
    ///
    /// # Errors
    /// The first unknown name, wrong type or out-of-range value.
    pub fn new(given: &BTreeMap<String, Value>) -> Result<Config, ConfigError> {
        for (name, value) in given {
            check(name, value.clone())?;
        }
        let preset = match given.get("preset") {
            Some(Value::Text(preset)) => preset.as_str(),
            _ => "robot",
        };
        let values = PARAMETERS
            .iter()
            .map(|p| {
                let value = match given.get(p.name) {
                    Some(value) => check(p.name, value.clone())?,
                    None => p.default_under(preset),
                };
                Ok((p.name, value))
            })
            .collect::<Result<BTreeMap<_, _>, _>>()?;
        Ok(Config::from_complete(&values))
    }

    /// The defaults of a preset (`robot` or `paper`).
    pub fn preset(preset: &str) -> Config {
        let given = BTreeMap::from([("preset".to_string(), Value::Text(preset.to_string()))]);
        Config::new(&given).expect("a preset's defaults are in range")
    }
}

impl Default for Config {
    fn default() -> Self {
        Config::preset("robot")
    }
}

/// The parameter of this name.
///
/// # Errors
/// [`ConfigError::Unknown`].
pub fn parameter(name: &str) -> Result<&'static Parameter, ConfigError> {
    PARAMETERS.iter().find(|p| p.name == name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> ConfigError {
    ConfigError::Unknown { name: name.to_string(), hint: nearest(name) }
}

/// The value in the parameter's own type, if name, type and range are right.
///
/// # Errors
/// [`ConfigError`].
pub fn check(name: &str, value: Value) -> Result<Value, ConfigError> {
    let parameter = parameter(name)?;
    let like = (parameter.default)();
    let value = value.coerced(&like).map_err(|value| ConfigError::Type {
        name: name.to_string(),
        expected: like.type_name(),
        given: value.type_name(),
        value: value.to_string(),
    })?;
    if parameter.range.admits(&value) {
        Ok(value)
    } else {
        Err(ConfigError::OutOfRange {
            name: name.to_string(),
            value: value.to_string(),
            range: parameter.range.to_string(),
            unit: parameter.unit,
        })
    }
}

/// The known name at the least edit distance, if it is near at all.
fn nearest(name: &str) -> Option<String> {
    PARAMETERS
        .iter()
        .map(|p| (edit_distance(name, p.name), p.name))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3)
        .map(|(_, known)| known.to_string())
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, Value)]) -> BTreeMap<String, Value> {
        pairs.iter().map(|(n, v)| (n.to_string(), v.clone())).collect()
    }

    #[test]
    fn every_default_is_in_its_own_range_and_every_name_is_unique() {
        let mut names: Vec<_> = PARAMETERS.iter().map(|p| p.name).collect();
        for p in PARAMETERS {
            for preset in ["robot", "paper"] {
                let value = p.default_under(preset);
                assert_eq!(check(p.name, value.clone()), Ok(value), "{}", p.name);
            }
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PARAMETERS.len());
    }

    #[test]
    fn no_name_is_both_a_leaf_and_a_branch() {
        for branch in PARAMETERS {
            let below = format!("{}.", branch.name);
            assert!(!PARAMETERS.iter().any(|p| p.name.starts_with(&below)), "{}", branch.name);
        }
    }

    #[test]
    fn what_is_set_is_got_and_nothing_else_changes() {
        let other = |p: &Parameter| match ((p.default)(), p.range) {
            (Value::Bool(v), _) => Value::Bool(!v),
            (Value::Text(v), Range::OneOf(words)) => {
                Value::Text(words.iter().find(|word| **word != v).unwrap().to_string())
            }
            (Value::Text(_), _) => Value::Text("other".into()),
            (Value::Texts(_), _) => Value::Texts(vec!["other".into()]),
            (Value::Int(_), Range::Within(_, high)) => Value::Int(high as i64),
            (Value::Float(v), Range::Within(low, high)) => Value::Float(if v == high { low } else { high }),
            (Value::Float(v), Range::Above(_, high)) => {
                Value::Float(if v == high { high / 2.0 } else { high })
            }
            (Value::Ints(_), _) => Value::Ints(vec![3]),
            (Value::Floats(_), _) => Value::Floats(vec![4.0]),
            (value, range) => panic!("{}: {value}, {range}", p.name),
        };
        for p in PARAMETERS {
            let (mut config, value) = (Config::default(), other(p));
            config.set(p.name, value.clone()).unwrap();
            let changed: Vec<_> =
                config.values().into_iter().zip(Config::default().values()).filter(|(a, b)| a != b).collect();
            assert_eq!(changed.len(), 1, "{}: {changed:?}", p.name);
            assert_eq!(changed[0].0, (p.name, value.clone()));
            assert_eq!(config.get(p.name), Some(value));
        }
        assert_eq!(Config::default().get("limits"), None);
    }

    #[test]
    fn a_refused_value_leaves_the_configuration_as_it_was() {
        let mut config = Config::default();
        for (name, value) in [
            ("limits.torque", Value::Float(1.5)),
            ("limits.torque", Value::Text("1".into())),
            ("limits", Value::Int(1)),
        ] {
            assert!(config.set(name, value).is_err());
        }
        assert_eq!(config, Config::default());
        config.set("limits.torque", Value::Int(1)).unwrap();
        assert_eq!(config.limit_torque, 1.0);
    }

    #[test]
    fn the_preset_sets_defaults_and_a_given_value_overrides_it() {
        let config = Config::new(&given(&[
            ("preset", Value::Text("paper".into())),
            ("learner.rate", Value::Float(0.5)),
        ]))
        .unwrap();
        assert!(!config.residual);
        assert_eq!(config.rate, 0.5);
        assert_eq!(config.memory_rate, 0.01);
        assert_eq!(Config::default().memory_rate, 0.1);
    }

    #[test]
    fn an_integer_may_stand_for_a_double_but_a_word_may_not() {
        assert_eq!(check("deadline", Value::Int(5)), Ok(Value::Float(5.0)));
        let error = check("deadline", Value::Text("5".into())).unwrap_err();
        assert_eq!(error.to_string(), "parameter `deadline` is a double, but \"5\" is a string");
    }

    #[test]
    fn refusals_name_the_parameter_the_value_and_the_range() {
        let error = check("limits.torque", Value::Float(1.5)).unwrap_err();
        assert_eq!(error.to_string(), "parameter `limits.torque` = 1.5 is out of range (0 to 1)");
        let error = check("deadline", Value::Float(f64::NAN)).unwrap_err();
        assert!(error.to_string().contains("NaN"), "{error}");
        let error = check("limits.torqe", Value::Float(0.5)).unwrap_err();
        assert_eq!(error.to_string(), "unknown parameter `limits.torqe`; did you mean `limits.torque`?");
    }
}
