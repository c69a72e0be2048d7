//! lifecycle_msgs: what a managed node is asked and what it says of itself.
//!
//! Contract: types only, as in [`crate::msg`]; [`crate::ros::lifecycle`] gives them their meaning.

use serde::{Deserialize, Serialize};

use super::messages;
use super::services::{Empty, services};

messages! {
    State = "lifecycle_msgs/msg/State",
    Transition = "lifecycle_msgs/msg/Transition",
    TransitionDescription = "lifecycle_msgs/msg/TransitionDescription",
    TransitionEvent = "lifecycle_msgs/msg/TransitionEvent",
}

services! {
    ChangeState = "lifecycle_msgs/srv/ChangeState", ChangeStateRequest => ChangeStateResponse;
    GetState = "lifecycle_msgs/srv/GetState", Empty => GetStateResponse;
    GetAvailableStates = "lifecycle_msgs/srv/GetAvailableStates", Empty => GetAvailableStatesResponse;
    GetAvailableTransitions = "lifecycle_msgs/srv/GetAvailableTransitions",
        Empty => GetAvailableTransitionsResponse;
}

/// lifecycle_msgs/State.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Which one.
    pub id: u8,
    /// Its name.
    pub label: String,
}

/// lifecycle_msgs/Transition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Which one.
    pub id: u8,
    /// Its name, which several may share. In a request a name, if there is one, counts instead of the id.
    pub label: String,
}

impl Transition {
    /// From unconfigured to inactive.
    pub const CONFIGURE: u8 = 1;
    /// From inactive to unconfigured.
    pub const CLEANUP: u8 = 2;
    /// From inactive to active.
    pub const ACTIVATE: u8 = 3;
    /// From active to inactive.
    pub const DEACTIVATE: u8 = 4;
    /// From unconfigured to finalized.
    pub const UNCONFIGURED_SHUTDOWN: u8 = 5;
    /// From inactive to finalized.
    pub const INACTIVE_SHUTDOWN: u8 = 6;
    /// From active to finalized.
    pub const ACTIVE_SHUTDOWN: u8 = 7;

    /// A request by id.
    pub fn by_id(id: u8) -> Self {
        Transition { id, label: String::new() }
    }

    /// A request by name, such as `shutdown`, which is one from every state.
    pub fn by_label(label: &str) -> Self {
        Transition { id: 0, label: label.to_string() }
    }
}

/// lifecycle_msgs/TransitionDescription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransitionDescription {
    /// The transition.
    pub transition: Transition,
    /// Where it starts.
    pub start_state: State,
    /// Where it leads.
    pub goal_state: State,
}

/// lifecycle_msgs/TransitionEvent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransitionEvent {
    /// When, in ns; 0: not said (rcl says it never).
    pub timestamp: u64,
    /// The transition (rcl leaves it empty).
    pub transition: Transition,
    /// The state that was left.
    pub start_state: State,
    /// The state that was entered.
    pub goal_state: State,
}

/// What [`ChangeState`] asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeStateRequest {
    /// The wanted transition.
    pub transition: Transition,
}

/// What [`ChangeState`] answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeStateResponse {
    /// Whether the transition was made.
    pub success: bool,
}

/// What [`GetState`] answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetStateResponse {
    /// The present state.
    pub current_state: State,
}

/// What [`GetAvailableStates`] answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetAvailableStatesResponse {
    /// All states.
    pub available_states: Vec<State>,
}

/// What [`GetAvailableTransitions`] answers: as `get_available_transitions` those from the present state, as
/// `get_transition_graph` all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetAvailableTransitionsResponse {
    /// The transitions.
    pub available_transitions: Vec<TransitionDescription>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bag::cdr::{decode, encode};

    #[test]
    fn an_event_is_the_bytes_that_ros_makes_of_it() {
        let state = |id, label: &str| State { id, label: label.into() };
        let event = TransitionEvent {
            timestamp: 7,
            transition: Transition { id: 1, label: "configure".into() },
            start_state: state(1, "unconfigured"),
            goal_state: state(10, "configuring"),
        };
        // Printed by rclpy.serialization.serialize_message (Jazzy, Cyclone DDS).
        let wire = [
            &[0, 1, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 10, 0, 0, 0][..],
            b"configure\0",
            &[1, 0, 13, 0, 0, 0],
            b"unconfigured\0",
            &[10, 0, 0, 12, 0, 0, 0],
            b"configuring\0",
        ]
        .concat();
        assert_eq!(encode(&event).unwrap(), wire);
        assert_eq!(decode::<TransitionEvent>(&wire).unwrap(), event);
    }

    #[test]
    fn services_come_back() {
        let request = ChangeStateRequest { transition: Transition::by_id(Transition::CONFIGURE) };
        assert_eq!(decode::<ChangeStateRequest>(&encode(&request).unwrap()).unwrap(), request);
        let response = GetAvailableTransitionsResponse {
            available_transitions: vec![TransitionDescription::default(); 2],
        };
        let wire = encode(&response).unwrap();
        assert_eq!(decode::<GetAvailableTransitionsResponse>(&wire).unwrap(), response);
    }
}
