//! What the node tells of itself: transitions, parameters, diagnostics, statistics, its log.
//!
//! Contract: owned by the node's own thread, which calls [`Announcements::tell`] every few milliseconds; it publishes what
//! is due. What cannot be told is not worth stopping for.
//!
//! | topic | when |
//! |---|---|
//! | `~/transition_event`, `/parameter_events` | at each change |
//! | `/diagnostics` | every `diagnostics.period` |
//! | `~/statistics/values` | ten times a second while configured |
//! | `~/statistics/names` | when configured, for late subscribers too |
//! | `/rosout` | as it is logged, throttled |

use std::time::{Duration, Instant};

use super::body::Body;
use crate::config::Config;
use crate::msg::lifecycle::TransitionEvent;
use crate::msg::parameters::ParameterEvent;
use crate::msg::{DiagnosticArray, Float64MultiArray, Log, Text};
use crate::realtime::{Clock, MonotonicClock};
use crate::ros::diagnostics::{Diagnostics, Thresholds};
use crate::ros::rosout::{self, Rosout};
use crate::ros::statistics::Statistics;
use crate::ros::time::RosTime;
use crate::ros::{Connection, Publisher, Qos, RosError};

/// How often statistics are told.
const STATISTICS: Duration = Duration::from_millis(100);

/// Lines of the log that are told at a time.
const LINES: usize = 64;

/// See the module's documentation.
pub(super) struct Announcements {
    transitions: Publisher<TransitionEvent>,
    parameters: Publisher<ParameterEvent>,
    diagnostics: Publisher<DiagnosticArray>,
    names: Publisher<Text>,
    values: Publisher<Float64MultiArray>,
    rosout: Option<(Rosout, Publisher<Log>)>,
    node: String,
    report: Diagnostics,
    report_due: Instant,
    statistics: Option<Statistics>,
    statistics_due: Instant,
}

impl Announcements {
    /// Advertises the topics; /rosout only if the log goes there.
    pub(super) fn new(
        connection: &mut impl Connection,
        config: &Config,
        rosout: Option<Rosout>,
    ) -> Result<Self, RosError> {
        let node = connection.node_name().to_string();
        let mut advertise_log = |rosout: Rosout| {
            rosout.set_logger(&node);
            Ok::<_, RosError>((rosout, connection.advertise("/rosout", Qos::ROSOUT)?))
        };
        let rosout = rosout.map(&mut advertise_log).transpose()?;
        Ok(Announcements {
            transitions: connection.advertise("~/transition_event", Qos::DEFAULT)?,
            parameters: connection.advertise("/parameter_events", Qos::PARAMETER_EVENTS)?,
            diagnostics: connection.advertise("/diagnostics", Qos::DEFAULT)?,
            names: connection.advertise("~/statistics/names", Qos::LATCHED)?,
            values: connection.advertise("~/statistics/values", Qos::DEFAULT)?,
            rosout,
            report: diagnostics(&node, &[], config),
            report_due: Instant::now() + Duration::from_secs_f64(config.diagnostics_period),
            statistics: None,
            statistics_due: Instant::now(),
            node,
        })
    }

    /// A transition's step.
    pub(super) fn transition(&mut self, mut event: TransitionEvent, time: &RosTime) {
        event.timestamp = time.now_ns().unsigned_abs();
        said(self.transitions.publish(&event));
    }

    /// Parameters, at the start.
    pub(super) fn parameters(&mut self, event: &ParameterEvent) {
        said(self.parameters.publish(event));
    }

    /// Parameters that have changed, if any have; thresholds among them count from the next report on.
    pub(super) fn changed(&mut self, event: Option<&ParameterEvent>, config: &Config) {
        if let Some(event) = event {
            self.report.set_thresholds(thresholds(config));
            self.parameters(event);
        }
    }

    /// An arm has come, and with it figures to tell; or it has gone.
    fn follow(&mut self, body: &mut Body, lifecycle: &str, time: &RosTime) {
        let Some(engine) = &body.engine else {
            self.statistics = None;
            return;
        };
        if self.statistics.is_some() {
            return;
        }
        let topics: Vec<_> = body.house.subscriptions.iter().map(|s| s.topic().to_string()).collect();
        self.report = diagnostics(&self.node, &engine.joints, &body.config);
        let mut statistics = Statistics::new(&engine.joints, &topics, MonotonicClock::new().now_ns());
        // Counts go on from what they are.
        let now = body.snapshot(lifecycle, time, false);
        self.report.begin_with(now);
        statistics.collect(now);
        said(self.names.publish(statistics.names()));
        self.statistics = Some(statistics);
    }

    /// Publishes everything, due or not.
    pub(super) fn tell_now(&mut self, body: &mut Body, lifecycle: &str, time: &RosTime) {
        self.report_due = Instant::now();
        self.tell(body, lifecycle, time);
    }

    /// Publishes what is due.
    pub(super) fn tell(&mut self, body: &mut Body, lifecycle: &str, time: &RosTime) {
        if let Some((rosout, log)) = &mut self.rosout {
            (0..LINES).map_while(|_| rosout.try_recv()).for_each(|line| said(log.publish(&line)));
        }
        self.follow(body, lifecycle, time);
        let now = Instant::now();
        let (report, figures) = (now >= self.report_due, now >= self.statistics_due);
        if !report && !figures {
            return;
        }
        let period = Duration::from_secs_f64(body.config.diagnostics_period);
        let snapshot = body.snapshot(lifecycle, time, report);
        if report {
            self.report_due = later(self.report_due, period, now);
            said(self.diagnostics.publish(&self.report.report(snapshot)));
        }
        if figures {
            self.statistics_due = later(self.statistics_due, STATISTICS, now);
            if let (Some(statistics), true) = (&mut self.statistics, snapshot.pinned.is_some()) {
                said(self.values.publish(statistics.collect(snapshot)));
            }
        }
    }
}

/// The next time after `due` in steps of `period`, or one from `now` where that has passed.
fn later(due: Instant, period: Duration, now: Instant) -> Instant {
    let next = due + period;
    if next > now { next } else { now + period }
}

fn diagnostics(node: &str, joints: &[String], config: &Config) -> Diagnostics {
    Diagnostics::new(node, node, joints, thresholds(config), MonotonicClock::new().now_ns())
}

fn thresholds(config: &Config) -> Thresholds {
    Thresholds {
        rate_warn: config.diagnostics_rate_warn,
        misses_warn: config.diagnostics_misses_warn,
        misses_error: config.diagnostics_misses_error,
        error_ratio: config.diagnostics_error_ratio,
        timeout_s: config.limit_timeout * 1e-3,
    }
}

/// Logged where /rosout does not hear it, lest a line that cannot be published makes the next one.
fn said(published: Result<(), RosError>) {
    if let Err(error) = published {
        tracing::debug!(target: rosout::QUIET, "not announced: {error}");
    }
}
