//! A script of trials, run tick by tick, and what it measures: how well the arm tracks, and how right its feed-forward was.
//!
//! Contract: one owner, one thread. [`Session::tick`] is called once per control cycle (1 ms of simulated time) and neither
//! allocates nor blocks nor knows the wall clock: a live robot calls it at 1 kHz, a test or a bag writer as fast as it goes.
//!
//! What is scored: every tick of a trial itself. Before each trial the arm moves to the trial's start (at the very first it
//! holds still for a while); that transition is not scored, and in it the feed-forward of one mode blends into that of the
//! next over 0.2 s. A payload changes at the trial's first SCORED tick, so that what it costs a learner to notice is scored.

use std::fmt;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::dynamics::Arm;
use crate::sample::{MAX_JOINTS, Motion, PerJoint};

use super::{Controller, Measurement, Payload, Received, SimArm, SimError, SimOptions, Task, Trajectory};

/// One control cycle: 1 ms.
pub const PERIOD_NS: i64 = 1_000_000;
const PERIOD: f64 = 1e-3;
/// Time over which the feed-forward of one mode gives way to another's, s.
const BLEND: f64 = 0.2;
/// Holding still before the first trial, s: a node ramps in meanwhile.
const SETTLE: f64 = 1.0;
/// Moving to a trial's start, s.
const TRANSITION: f64 = 0.5;
/// What a lift takes where there is time enough, s, and its variation.
const TRIAL: f64 = 3.5;
const TRIAL_VARIATION: f64 = 0.14;
/// The shortest lift of a demonstration, s.
const SHORTEST_TRIAL: f64 = 2.0;

/// Whose feed-forward the controller adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// None.
    Off,
    /// The robot's own: inverse dynamics of the nominal arm, without payload, for the reference.
    RigidBody,
    /// What the node sends.
    Node,
}

impl Mode {
    /// In the order in which tables show them.
    pub const ALL: [Mode; 3] = [Mode::Off, Mode::RigidBody, Mode::Node];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Off => "off",
            Mode::RigidBody => "rigid body",
            Mode::Node => "node",
        })
    }
}

/// One motion of the script.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The motion.
    pub task: Task,
    /// What the flange carries.
    pub payload: Payload,
    /// Whose feed-forward is added.
    pub mode: Mode,
    /// Its duration, s, unless the arm's limits want longer.
    pub seconds: f64,
    /// Varies its start and size.
    pub seed: u64,
}

/// Trials in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// The trials.
    pub trials: Vec<Trial>,
}

impl Script {
    /// `trials` times the same task, 3 to 4 s each.
    pub fn repeat(task: Task, payload: Payload, mode: Mode, trials: usize, seed: u64) -> Script {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let trial = |_| Trial {
            task,
            payload,
            mode,
            seconds: TRIAL * rng.random_range(1.0 - TRIAL_VARIATION..1.0 + TRIAL_VARIATION),
            seed: rng.random(),
        };
        Script { trials: (0..trials).map(trial).collect() }
    }

    /// Lifts with payload none, light, heavy; with each, the feed-forward of the node, none, and the rigid body's take
    /// turns, the node first, so that what it costs it to adapt to the payload counts against it.
    ///
    /// It fills `seconds` in all. Each payload has at least a lift with the node and one without, of at least 2 s, so a
    /// script is never shorter than 16 s; with 24 s and more, each has all three modes.
    pub fn demo(seconds: f64, seed: u64) -> Script {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let payloads = Payload::ALL.len();
        let each = (seconds - SETTLE + TRANSITION).max(0.0) / payloads as f64;
        let fitting = |trial: f64| each / (trial + TRANSITION) + 1e-9;
        let trials = (fitting(TRIAL).round() as usize).max((fitting(SHORTEST_TRIAL) as usize).min(3)).max(2);
        let mean = (each / trials as f64 - TRANSITION).max(SHORTEST_TRIAL);
        let spread = TRIAL_VARIATION.min(mean / SHORTEST_TRIAL - 1.0);
        let mut script = Script::default();
        for payload in Payload::ALL {
            let vary: Vec<f64> = (0..trials).map(|_| rng.random_range(-0.5..0.5)).collect();
            let bias = vary.iter().sum::<f64>() / trials as f64;
            for (i, vary) in vary.iter().enumerate() {
                script.trials.push(Trial {
                    task: Task::Lift,
                    payload,
                    mode: [Mode::Node, Mode::Off, Mode::RigidBody][i % 3],
                    seconds: mean * (1.0 + spread * (vary - bias)),
                    seed: rng.random(),
                });
            }
        }
        script
    }

    /// How long it takes, s, unless the arm's limits want longer.
    pub fn seconds(&self) -> f64 {
        let trials: f64 = self.trials.iter().map(|trial| trial.seconds).sum();
        SETTLE + TRANSITION * self.trials.len().saturating_sub(1) as f64 + trials
    }
}

/// The robot at one instant, as it would publish it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tick {
    /// Simulated time since the start, ns.
    pub stamp_ns: i64,
    /// What the sensors say.
    pub measurement: Measurement,
    /// The motion that the controller tracks in the cycle that begins now: the one for which a feed-forward is wanted.
    pub reference: Motion,
    /// The feed-forward that was added in the cycle that has just ended, Nm.
    pub feedforward: PerJoint,
    /// Which trial it belongs to, from 0; a transition belongs to the trial that it leads to.
    pub trial: usize,
    /// Whether the cycle that has just ended was scored.
    pub scored: bool,
}

/// What became of the feed-forward that was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Finite feed-forwards received, in all modes.
    pub received: u64,
    /// Feed-forwards refused because a torque in them was not finite.
    pub non_finite: u64,
    /// Scored cycles with the node's feed-forward in which no new one had come in time.
    pub late: u64,
    /// Those of them in which the last one was older than 50 ms, so that it faded out.
    pub stale: u64,
}

/// How trials of one payload and mode went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// What the flange carried; none if the score is over all payloads.
    pub payload: Option<Payload>,
    /// Whose feed-forward was added.
    pub mode: Mode,
    /// Trials, the present one included.
    pub trials: usize,
    /// Scored cycles.
    pub cycles: u64,
    /// RMS of true minus reference position per joint, rad.
    pub tracking_rms_rad: Vec<f64>,
    /// RMS of the mode's feed-forward (as received; none is zero) minus the measured torque per joint, Nm. Cycles
    /// with the node's in which there was none, or only a stale one, are left out.
    pub torque_rms_nm: Vec<f64>,
}

/// What a session has measured so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metrics {
    /// The joints' names.
    pub joints: Vec<String>,
    /// One for each payload and mode that occurred, by payload, then mode.
    pub by_payload: Vec<Score>,
    /// Over all payloads, by mode.
    pub by_mode: Vec<Score>,
    /// The feed-forward received.
    pub feedforward: Counts,
}

impl Metrics {
    /// The score of one mode over all payloads.
    pub fn mode(&self, mode: Mode) -> Option<&Score> {
        self.by_mode.iter().find(|score| score.mode == mode)
    }
}

/// One trial's sums.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    cycles: u64,
    torque_cycles: u64,
    tracking: PerJoint,
    torque: PerJoint,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.cycles += other.cycles;
        self.torque_cycles += other.torque_cycles;
        for joint in 0..MAX_JOINTS {
            self.tracking[joint] += other.tracking[joint];
            self.torque[joint] += other.torque[joint];
        }
    }
}

/// A trial with its motions, in ticks from the start.
#[derive(Clone, Debug)]
struct Plan {
    trial: Trial,
    transition: Trajectory,
    motion: Trajectory,
    begin: i64,
    scored_from: i64,
    end: i64,
    sums: Sums,
}

/// The simulated robot running a script.
#[derive(Clone, Debug)]
pub struct Session {
    sim: SimArm,
    nominal: Arm,
    controller: Controller,
    received: Received,
    plans: Vec<Plan>,
    /// Index of the present plan, and the share that each mode's feed-forward has (by `Mode as usize`).
    present: usize,
    share: [f64; 3],
    ticks: i64,
    now: Tick,
    counts: Counts,
}

impl Session {
    /// A robot as `options` say (their payload apart: the script's counts), at rest at the first trial's start. `nominal` is
    /// the arm that the robot believes to be; its gravity becomes the mounting's and its payload none.
    ///
    /// # Errors
    /// [`SimError::EmptyScript`]; [`SimError::Unreachable`].
    pub fn new(nominal: &Arm, options: &SimOptions, script: &Script) -> Result<Session, SimError> {
        let first = script.trials.first().ok_or(SimError::EmptyScript)?;
        let mut nominal = nominal.clone().with_payload(0.0, [0.0; 3]);
        nominal.set_gravity(options.mounting.gravity());
        let plans = plan(&nominal, script)?;
        let reference = plans[0].transition.at(0.0);
        let mut sim = SimArm::new(&nominal, &SimOptions { payload: first.payload, ..*options });
        sim.place(&reference.q);
        let measurement = sim.measure();
        let mut share = [0.0; 3];
        share[first.mode as usize] = 1.0;
        Ok(Session {
            controller: Controller::new(&nominal, &reference.q),
            received: Received::new(nominal.len()),
            now: Tick {
                stamp_ns: 0,
                measurement,
                reference,
                feedforward: PerJoint::default(),
                trial: 0,
                scored: false,
            },
            sim,
            nominal,
            plans,
            present: 0,
            share,
            ticks: 0,
            counts: Counts::default(),
        })
    }

    /// The nominal arm, with the mounting's gravity.
    pub fn nominal(&self) -> &Arm {
        &self.nominal
    }

    /// The true arm.
    pub fn sim(&self) -> &SimArm {
        &self.sim
    }

    /// The present trial.
    pub fn trial(&self) -> &Trial {
        &self.plans[self.present].trial
    }

    /// How many trials there are.
    pub fn trials(&self) -> usize {
        self.plans.len()
    }

    /// How long the whole script takes, in ticks of 1 ms.
    pub fn total_ticks(&self) -> u64 {
        self.plans.last().map_or(0, |plan| plan.end as u64)
    }

    /// The present instant.
    pub fn now(&self) -> &Tick {
        &self.now
    }

    /// Whether the script is over; further ticks hold the arm at its end, unscored.
    pub fn is_done(&self) -> bool {
        self.plans.last().is_none_or(|plan| self.ticks >= plan.end)
    }

    /// Goes on by one cycle of 1 ms, with the feed-forward that came in answer to [`Session::now`] or, if none came since the
    /// last tick, `None` (the last one is then held while it is fresh).
    ///
    /// # Errors
    /// [`SimError::Diverged`].
    pub fn tick(&mut self, feedforward: Option<&PerJoint>) -> Result<Tick, SimError> {
        let fresh = feedforward.is_some_and(|torque| self.received.receive(torque));
        self.counts.received += u64::from(fresh);
        self.counts.non_finite += u64::from(feedforward.is_some() && !fresh);

        let plan = &self.plans[self.present];
        let mode = plan.trial.mode;
        let scored = (plan.scored_from..plan.end).contains(&self.ticks);
        if self.ticks == plan.scored_from {
            self.sim.set_payload(plan.trial.payload);
        }
        let step = PERIOD / BLEND;
        for (i, share) in self.share.iter_mut().enumerate() {
            *share = (*share + if i == mode as usize { step } else { -step }).clamp(0.0, 1.0);
        }

        let present = self.present;
        let reference = self.now.reference;
        let rigid_body = self.nominal.inverse_dynamics(&reference);
        let stale = self.received.is_stale();
        let node = self.received.next(PERIOD);
        let added = std::array::from_fn(|joint| {
            self.share[Mode::RigidBody as usize] * rigid_body[joint]
                + self.share[Mode::Node as usize] * node[joint]
        });
        let Measurement { q, qd, .. } = self.now.measurement;
        let command = self.controller.torque(&reference, &q, &qd, &added);
        self.sim.step(&command, PERIOD)?;

        self.ticks += 1;
        if self.ticks >= self.plans[self.present].end && self.present + 1 < self.plans.len() {
            self.present += 1;
        }
        self.now = Tick {
            stamp_ns: self.ticks * PERIOD_NS,
            measurement: self.sim.measure(),
            reference: self.reference(self.ticks),
            feedforward: added,
            trial: self.present,
            scored,
        };
        if scored {
            let predicted = match mode {
                Mode::Off => Some(PerJoint::default()),
                Mode::RigidBody => Some(rigid_body),
                Mode::Node => (!stale).then_some(*self.received.newest()),
            };
            if mode == Mode::Node {
                self.counts.late += u64::from(!fresh);
                self.counts.stale += u64::from(stale);
            }
            self.score(present, predicted);
        }
        Ok(self.now)
    }

    /// The reference at a tick, which lies in the present plan or at its end.
    fn reference(&self, ticks: i64) -> Motion {
        let plan = &self.plans[self.present];
        if ticks < plan.scored_from {
            plan.transition.at((ticks - plan.begin) as f64 * PERIOD)
        } else {
            plan.motion.at((ticks - plan.scored_from) as f64 * PERIOD)
        }
    }

    /// Adds the cycle that has just ended to the sums of plan `index`.
    fn score(&mut self, index: usize, feedforward: Option<PerJoint>) {
        let sums = &mut self.plans[index].sums;
        sums.cycles += 1;
        sums.torque_cycles += u64::from(feedforward.is_some());
        for joint in 0..self.nominal.len() {
            sums.tracking[joint] += (self.sim.q()[joint] - self.now.reference.q[joint]).powi(2);
            if let Some(feedforward) = feedforward {
                sums.torque[joint] += (feedforward[joint] - self.now.measurement.effort[joint]).powi(2);
            }
        }
    }

    /// What has been measured so far.
    pub fn metrics(&self) -> Metrics {
        let over = |payload: Option<Payload>, mode: Mode| {
            let mut sums = Sums::default();
            let mut trials = 0;
            for plan in &self.plans {
                let counts = plan.trial.mode == mode && payload.is_none_or(|it| it == plan.trial.payload);
                if counts && plan.sums.cycles > 0 {
                    trials += 1;
                    sums.add(&plan.sums);
                }
            }
            let rms = |of: &PerJoint, cycles: u64| {
                of[..self.nominal.len()].iter().map(|sum| (sum / cycles.max(1) as f64).sqrt()).collect()
            };
            (trials > 0).then(|| Score {
                payload,
                mode,
                trials,
                cycles: sums.cycles,
                tracking_rms_rad: rms(&sums.tracking, sums.cycles),
                torque_rms_nm: rms(&sums.torque, sums.torque_cycles),
            })
        };
        Metrics {
            joints: self.nominal.joint_names().to_vec(),
            by_payload: Payload::ALL
                .iter()
                .flat_map(|payload| Mode::ALL.map(|mode| over(Some(*payload), mode)))
                .flatten()
                .collect(),
            by_mode: Mode::ALL.iter().filter_map(|mode| over(None, *mode)).collect(),
            feedforward: self.counts,
        }
    }
}

/// The script's motions, one after the other, each begun where the last one ended.
fn plan(arm: &Arm, script: &Script) -> Result<Vec<Plan>, SimError> {
    let ticks = |seconds: f64| (seconds / PERIOD).ceil() as i64;
    let mut plans: Vec<Plan> = Vec::with_capacity(script.trials.len());
    for trial in &script.trials {
        let motion = trial.task.trajectory(arm, trial.seconds, trial.seed)?;
        let start = motion.at(0.0).q;
        let (begin, transition) = match plans.last() {
            None => (0, Trajectory::through(arm, &[start], SETTLE)),
            Some(last) => {
                let from = last.motion.at(f64::INFINITY).q;
                (last.end, Trajectory::through(arm, &[from, start], TRANSITION))
            }
        };
        let scored_from = begin + ticks(transition.seconds());
        let end = scored_from + ticks(motion.seconds());
        plans.push(Plan {
            trial: *trial,
            transition,
            motion,
            begin,
            scored_from,
            end,
            sums: Sums::default(),
        });
    }
    Ok(plans)
}
