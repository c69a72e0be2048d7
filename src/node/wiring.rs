//! The node's topics and services, and the way of what comes by them.
//!
//! Contract: wired once at the start. Callbacks run on the I/O thread: samples go straight to the pinned thread's ring,
//! while everything that is asked of the node is put in its queue, in order of arrival, and answered by the node's own
//! thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Node;
use super::body::Shared;
use super::engine::{Line, Outlet, Outlets};
use crate::config::Config;
use crate::msg::lifecycle::{ChangeState, GetAvailableStates, GetAvailableTransitions, GetState};
use crate::msg::parameters::{
    DescribeParameters, GetParameterTypes, GetParameters, ListParameters, SetParameters,
    SetParametersAtomically,
};
use crate::msg::services::{SetBool, Trigger};
use crate::msg::{Clock, JointStateView, JointTrajectory, JointTrajectoryPointView, Service, Text};
use crate::ros::time::{CLOCK_TOPIC, RosTime};
use crate::ros::{Arrival, Callback, Connection, Qos, Reply, RosError, Subscription};

/// What a callback asks of the node.
pub(super) type Ask = Box<dyn FnOnce(&mut Node) + Send>;

/// Wires the robot's topics: joint states, torques where they come apart, references; in this order.
pub(super) fn subscribe(
    connection: &mut impl Connection,
    config: &Config,
    shared: &Shared,
    time: &RosTime,
) -> Result<Vec<Subscription>, RosError> {
    let mut subscriptions = Vec::new();
    let topic = &config.topic_joint_states;
    let (to, at) = (shared.clone(), time.clone());
    subscriptions.push(connection.subscribe(
        topic,
        Qos::SENSOR_DATA,
        guarded(&shared.panicked, move |message: &JointStateView, arrival| {
            to.with_line(|Line { intake, sender }| {
                let wall_ns = at.at(arrival.wall_ns);
                if let Ok(sample) = intake.joint_state(message, arrival.monotonic_ns, wall_ns) {
                    // A full ring is counted by the sender; a stopped thread is housekeeping's to notice.
                    let _ = sender.send(sample);
                }
            });
        }),
    )?);
    if !config.topic_torque.is_empty() {
        let to = shared.clone();
        subscriptions.push(connection.subscribe(
            &config.topic_torque,
            Qos::SENSOR_DATA,
            guarded(&shared.panicked, move |message: &JointStateView, _| {
                let _ = to.with_line(|line| line.intake.torque_state(message));
            }),
        )?);
    }
    if !config.topic_reference.is_empty() {
        let (topic, to) = (&config.topic_reference, shared.clone());
        let subscription = if config.topic_reference_type.ends_with("Point") {
            let callback = guarded(&shared.panicked, move |point: &JointTrajectoryPointView, arrival| {
                let (q, qd, qdd) = (&point.positions, &point.velocities, &point.accelerations);
                let _ =
                    to.with_line(|line| line.intake.reference::<&str>(&[], q, qd, qdd, arrival.monotonic_ns));
            });
            connection.subscribe(topic, Qos::SENSOR_DATA, callback)?
        } else {
            let callback = guarded(&shared.panicked, move |trajectory: &JointTrajectory, arrival| {
                let (names, point) = (&trajectory.joint_names, trajectory.points.first());
                // Without a point it is refused for its missing positions, and counted.
                let (q, qd, qdd) = point.map_or((&[][..], &[][..], &[][..]), |point| {
                    (&point.positions[..], &point.velocities[..], &point.accelerations[..])
                });
                let _ = to.with_line(|line| line.intake.reference(names, q, qd, qdd, arrival.monotonic_ns));
            });
            connection.subscribe(topic, Qos::SENSOR_DATA, callback)?
        };
        subscriptions.push(subscription);
    }
    for subscription in &subscriptions {
        tracing::info!("subscribed to {}", subscription.topic());
    }
    Ok(subscriptions)
}

/// Wires what tells of the robot and of the time, but is no input of the learner.
pub(super) fn listen(
    connection: &mut impl Connection,
    config: &Config,
    shared: &Shared,
    time: &RosTime,
) -> Result<(), RosError> {
    let described = config.urdf.is_empty() && config.robot_description.is_empty();
    if described && !config.topic_robot_description.is_empty() {
        let to = shared.clone();
        let callback = guarded(&shared.panicked, move |text: &Text, _| {
            *to.description.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.data.clone());
        });
        connection.subscribe(&config.topic_robot_description, Qos::LATCHED, callback)?;
    }
    if config.use_sim_time {
        let time = time.clone();
        let callback = guarded(&shared.panicked, move |now: &Clock, _| time.set(now.clock));
        connection.subscribe(CLOCK_TOPIC, Qos::CLOCK, callback)?;
    }
    Ok(())
}

/// The topics for torques.
pub(super) fn outlets(connection: &mut impl Connection, config: &Config) -> Result<Outlets, RosError> {
    let mut outlets = Outlets::default();
    if !config.topic_feedforward.is_empty() {
        outlets.feedforward = Outlet::new(connection.advertise(&config.topic_feedforward, Qos::COMMAND)?);
    }
    if !config.topic_commands.is_empty() {
        outlets.commands = Outlet::new(connection.advertise(&config.topic_commands, Qos::COMMAND)?);
    }
    Ok(outlets)
}

/// Wires the services.
pub(super) fn serve(connection: &mut impl Connection, asks: &SyncSender<Ask>) -> Result<(), RosError> {
    let mut desk = Desk { connection, asks };
    desk.serve::<ListParameters>("~/list_parameters", Node::list_parameters)?;
    desk.serve::<GetParameters>("~/get_parameters", Node::get_parameters)?;
    desk.serve::<GetParameterTypes>("~/get_parameter_types", Node::get_parameter_types)?;
    desk.serve::<DescribeParameters>("~/describe_parameters", Node::describe_parameters)?;
    desk.serve::<SetParameters>("~/set_parameters", Node::set_parameters)?;
    desk.serve::<SetParametersAtomically>("~/set_parameters_atomically", Node::set_parameters_atomically)?;
    desk.serve::<ChangeState>("~/change_state", Node::change_state)?;
    desk.serve::<GetState>("~/get_state", Node::get_state)?;
    desk.serve::<GetAvailableStates>("~/get_available_states", Node::get_available_states)?;
    desk.serve::<GetAvailableTransitions>("~/get_available_transitions", Node::get_available_transitions)?;
    desk.serve::<GetAvailableTransitions>("~/get_transition_graph", Node::get_transition_graph)?;
    desk.serve::<Trigger>("~/save", Node::save)?;
    desk.serve::<Trigger>("~/load", Node::load)?;
    desk.serve::<Trigger>("~/reset", Node::reset)?;
    desk.serve::<Trigger>("~/new_task", Node::new_task)?;
    desk.serve::<SetBool>("~/set_learning", Node::set_learning)?;
    desk.serve::<SetBool>("~/enable", Node::enable)
}

/// Where requests are left for the node.
struct Desk<'a, C> {
    connection: &'a mut C,
    asks: &'a SyncSender<Ask>,
}

impl<C: Connection> Desk<'_, C> {
    fn serve<S>(
        &mut self,
        name: &str,
        answer: fn(&mut Node, S::Request) -> S::Response,
    ) -> Result<(), RosError>
    where
        S: Service + 'static,
        S::Request: Serialize + DeserializeOwned + Clone + Send + 'static,
        S::Response: Serialize + DeserializeOwned + Send + 'static,
    {
        let asks = self.asks.clone();
        let leave = move |request, reply: Reply<S::Response>| {
            let ask: Ask = Box::new(move |node: &mut Node| reply.send(answer(node, request)));
            // Nobody at the other end: the node is leaving, and with it the service.
            if let Err(TrySendError::Full(_)) = asks.try_send(ask) {
                tracing::warn!("too many requests wait already; one is left unanswered");
            }
        };
        self.connection.serve::<S>(name, Box::new(leave))
    }
}

/// A callback that is called no more once it has panicked, which is then said in `panicked`.
fn guarded<M: 'static>(
    panicked: &Arc<AtomicBool>,
    mut callback: impl FnMut(&M, Arrival) + Send + 'static,
) -> Callback<M> {
    let panicked = panicked.clone();
    Box::new(move |message, arrival| {
        if panicked.load(Ordering::Relaxed) {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| callback(message, arrival))).is_err() {
            panicked.store(true, Ordering::Relaxed);
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_callback_that_panicked_is_called_no_more() {
        let panicked = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(Mutex::new(0));
        let counted = calls.clone();
        let mut callback = guarded(&panicked, move |&fatal: &bool, _| {
            *counted.lock().unwrap() += 1;
            assert!(!fatal, "as the test wants it");
        });
        for fatal in [false, true, false] {
            callback(&fatal, Arrival::default());
        }
        assert!(panicked.load(Ordering::Relaxed));
        assert!(*calls.lock().unwrap_or_else(PoisonError::into_inner) == 2);
    }
}
