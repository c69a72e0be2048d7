//! The real-time pipeline: samples in, torques out, and the proof that the deadline was kept.
//!
//! Three threads meet here, with lock-free rings between them:
//!
//! | thread | calls | may allocate or block |
//! |---|---|---|
//! | I/O (middleware, or a replay's pacer) | [`Intake`], [`SampleSender`] | no allocation after construction; a full ring drops the newest sample |
//! | pinned ([`Runtime`]) | [`Pipeline`] and through it the [`Model`], [`Limits`] | never: no allocation, no lock, no log, no system call but the ones that `runtime` lists |
//! | publisher and housekeeping | [`TorqueReceiver`], [`TelemetryReceiver`], [`LatencyLog`], [`Probe`] | yes |
//!
//! [`Pipeline`] is pure logic over a [`Clock`]: a deterministic replay drives the very code that the pinned thread runs.

pub mod clock;
pub mod gate;
pub mod intake;
pub mod latency;
pub mod limits;
pub mod model;
pub mod pipeline;
pub mod probe;
mod ring;
pub mod runtime;
pub mod thread;
pub mod tuning;
pub mod wait;

pub use clock::{Clock, FakeClock, MonotonicClock, wall_ns};
pub use gate::{Gate, GateSettings};
pub use intake::{DropReason, Drops, Intake, IntakeError};

pub use latency::{Hlog, LatencyError, LatencyLog, Stage, Summary, Window, read_hlog};
pub use limits::{LimitSettings, Limits, LimitsError};
pub use model::{Health, InverseDynamics, Learnt, Model, ModelError, Prediction};
pub use pipeline::{BatchReport, Counters, Pipeline};

pub use probe::Probe;
pub use runtime::{
    Command, CommandSender, RealtimeError, Runtime, SampleSender, SampleTiming, Status, Stopped, Telemetry,
    TelemetryReceiver, TorqueReceiver,
};
pub use thread::{CountingAllocator, Grants};
pub use tuning::Tuning;
pub use wait::Wait;
