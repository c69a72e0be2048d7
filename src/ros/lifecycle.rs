//! The state machine of a managed node, with the states, transitions, ids, labels and order of ROS 2's own
//! (rcl_lifecycle), so that its tools and managers find what they expect.
//!
//! Contract: plain data and calls, no I/O, no thread of its own. It belongs to the thread that owns the node; never
//! the pinned one. A [`Lifecycle::change`] calls back into the node and comes back when the transition is done, so
//! between two calls the state is a primary one and nothing waits. What is not allowed from the present state is
//! refused, and nothing is called. It logs every transition and allocates for its messages.
//!
//! ```text
//! unconfigured --configure--> inactive --activate--> active
//! unconfigured <--cleanup---- inactive <-deactivate- active         each of them --shutdown--> finalized
//! ```
//!
//! On the way there is a transition state (`configuring`), in which the node is called. [`Outcome::Success`] leads on,
//! [`Outcome::Failure`] back, [`Outcome::Error`] to `errorprocessing`, in which [`Managed::on_error`] is called and leads
//! to `unconfigured`, or to `finalized` if it has no success. A shutdown leads to `finalized` on failure too.

use crate::msg::lifecycle as msg;
use crate::msg::lifecycle::Transition;

/// The states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// None; it is listed, but no node is in it.
    Unknown = 0,
    /// Nothing is set up. The first state.
    Unconfigured = 1,
    /// Set up, but no torque goes out.
    Inactive = 2,
    /// At work.
    Active = 3,
    /// At the end; no transition leaves it.
    Finalized = 4,
    /// In [`Managed::on_configure`].
    Configuring = 10,
    /// In [`Managed::on_cleanup`].
    CleaningUp = 11,
    /// In [`Managed::on_shutdown`].
    ShuttingDown = 12,
    /// In [`Managed::on_activate`].
    Activating = 13,
    /// In [`Managed::on_deactivate`].
    Deactivating = 14,
    /// In [`Managed::on_error`].
    ErrorProcessing = 15,
}

impl State {
    /// All, in the order in which rcl_lifecycle lists them.
    pub const ALL: [State; 11] = [
        State::Unknown,
        State::Unconfigured,
        State::Inactive,
        State::Active,
        State::Finalized,
        State::Configuring,
        State::CleaningUp,
        State::ShuttingDown,
        State::Activating,
        State::Deactivating,
        State::ErrorProcessing,
    ];

    /// The name that lifecycle_msgs/State carries.
    pub fn label(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Unconfigured => "unconfigured",
            State::Inactive => "inactive",
            State::Active => "active",
            State::Finalized => "finalized",
            State::Configuring => "configuring",
            State::CleaningUp => "cleaningup",
            State::ShuttingDown => "shuttingdown",
            State::Activating => "activating",
            State::Deactivating => "deactivating",
            State::ErrorProcessing => "errorprocessing",
        }
    }
}

impl From<State> for msg::State {
    fn from(state: State) -> Self {
        msg::State { id: state as u8, label: state.label().to_string() }
    }
}

/// How a callback ended, with a text for the log (it may be empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The wanted state is reached.
    Success(String),
    /// It is not, and everything is as it was before the transition.
    Failure(String),
    /// It is not, and something has to be tidied up first.
    Error(String),
}

impl Outcome {
    fn label(&self) -> &'static str {
        match self {
            Outcome::Success(_) => SUCCESS,
            Outcome::Failure(_) => FAILURE,
            Outcome::Error(_) => ERROR,
        }
    }
}

/// What a node does in its transitions. Called by [`Lifecycle`] on its caller's thread; may take its time and allocate.
pub trait Managed {
    /// From unconfigured to inactive: set everything up.
    fn on_configure(&mut self) -> Outcome;
    /// From inactive to active: start to work.
    fn on_activate(&mut self) -> Outcome;
    /// From active to inactive: stop to work.
    fn on_deactivate(&mut self) -> Outcome;
    /// From inactive to unconfigured: release what was set up.
    fn on_cleanup(&mut self) -> Outcome;
    /// To the end, from this primary state: stop what works and release what is set up.
    fn on_shutdown(&mut self, from: State) -> Outcome;
    /// After an error, whatever state it came from: with success the node is as before it was configured.
    fn on_error(&mut self) -> Outcome;
}

/// One transition.
struct Edge {
    id: u8,
    label: &'static str,
    start: State,
    goal: State,
}

impl Edge {
    fn describe(&self) -> msg::TransitionDescription {
        msg::TransitionDescription {
            transition: Transition { id: self.id, label: self.label.to_string() },
            start_state: self.start.into(),
            goal_state: self.goal.into(),
        }
    }
}

const SUCCESS: &str = "transition_success";
const FAILURE: &str = "transition_failure";
const ERROR: &str = "transition_error";

const fn edge(id: u8, label: &'static str, start: State, goal: State) -> Edge {
    Edge { id, label, start, goal }
}

/// All transitions, in the order in which rcl_lifecycle lists them.
static GRAPH: [Edge; 25] = [
    edge(Transition::CONFIGURE, "configure", State::Unconfigured, State::Configuring),
    edge(10, SUCCESS, State::Configuring, State::Inactive),
    edge(11, FAILURE, State::Configuring, State::Unconfigured),
    edge(12, ERROR, State::Configuring, State::ErrorProcessing),
    edge(Transition::CLEANUP, "cleanup", State::Inactive, State::CleaningUp),
    edge(20, SUCCESS, State::CleaningUp, State::Unconfigured),
    edge(21, FAILURE, State::CleaningUp, State::Inactive),
    edge(22, ERROR, State::CleaningUp, State::ErrorProcessing),
    edge(Transition::ACTIVATE, "activate", State::Inactive, State::Activating),
    edge(30, SUCCESS, State::Activating, State::Active),
    edge(31, FAILURE, State::Activating, State::Inactive),
    edge(32, ERROR, State::Activating, State::ErrorProcessing),
    edge(Transition::DEACTIVATE, "deactivate", State::Active, State::Deactivating),
    edge(40, SUCCESS, State::Deactivating, State::Inactive),
    edge(41, FAILURE, State::Deactivating, State::Active),
    edge(42, ERROR, State::Deactivating, State::ErrorProcessing),
    edge(Transition::UNCONFIGURED_SHUTDOWN, "shutdown", State::Unconfigured, State::ShuttingDown),
    edge(Transition::INACTIVE_SHUTDOWN, "shutdown", State::Inactive, State::ShuttingDown),
    edge(Transition::ACTIVE_SHUTDOWN, "shutdown", State::Active, State::ShuttingDown),
    edge(50, SUCCESS, State::ShuttingDown, State::Finalized),
    edge(51, FAILURE, State::ShuttingDown, State::Finalized),
    edge(52, ERROR, State::ShuttingDown, State::ErrorProcessing),
    edge(60, SUCCESS, State::ErrorProcessing, State::Unconfigured),
    edge(61, FAILURE, State::ErrorProcessing, State::Finalized),
    edge(62, ERROR, State::ErrorProcessing, State::Finalized),
];

/// Where a node stands, and the only way to another state.
#[derive(Debug)]
pub struct Lifecycle {
    state: State,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Lifecycle { state: State::Unconfigured }
    }
}

impl Lifecycle {
    /// An unconfigured node.
    pub fn new() -> Self {
        Lifecycle::default()
    }

    /// The present state.
    pub fn state(&self) -> State {
        self.state
    }

    /// All states.
    pub fn available_states(&self) -> Vec<msg::State> {
        State::ALL.map(Into::into).into()
    }

    /// The transitions from the present state.
    pub fn available_transitions(&self) -> Vec<msg::TransitionDescription> {
        self.edges().map(Edge::describe).collect()
    }

    /// All transitions.
    pub fn transition_graph(&self) -> Vec<msg::TransitionDescription> {
        GRAPH.iter().map(Edge::describe).collect()
    }

    /// Makes the transition that is asked for: by label if the request has one, else by id, and only among those from
    /// the present state. Every step goes to `event`, with timestamp 0: the caller knows the time. True if the
    /// transition was made and the callback had success.
    pub fn change(
        &mut self,
        request: &Transition,
        node: &mut impl Managed,
        event: &mut dyn FnMut(msg::TransitionEvent),
    ) -> bool {
        let asked = |edge: &&Edge| match request.label.as_str() {
            "" => edge.id == request.id,
            label => edge.label == label,
        };
        let Some(edge) = self.edges().find(asked) else {
            tracing::warn!(
                "no transition {} (id {}) from {}; there are {}",
                if request.label.is_empty() { "of this id" } else { &request.label },
                request.id,
                self.state.label(),
                self.edges()
                    .map(|edge| format!("{} ({})", edge.label, edge.id))
                    .collect::<Vec<_>>()
                    .join(", "),
            );
            return false;
        };
        let from = self.state;
        self.step(edge, event);
        let outcome = self.call(from, node);
        self.complete(&outcome, node, event);
        matches!(outcome, Outcome::Success(_))
    }

    /// An error that arose while the node was active, or inactive, outside of any transition. It counts as one of
    /// deactivating (cleaning up), but only [`Managed::on_error`] is called. False in every other state, in which
    /// nothing happens.
    pub fn raise_error(
        &mut self,
        reason: &str,
        node: &mut impl Managed,
        event: &mut dyn FnMut(msg::TransitionEvent),
    ) -> bool {
        let back = [Transition::DEACTIVATE, Transition::CLEANUP];
        let Some(edge) = self.edges().find(|edge| back.contains(&edge.id)) else { return false };
        self.step(edge, event);
        self.complete(&Outcome::Error(reason.to_string()), node, event);
        true
    }

    fn edges(&self) -> impl Iterator<Item = &'static Edge> + use<> {
        let state = self.state;
        GRAPH.iter().filter(move |edge| edge.start == state)
    }

    fn step(&mut self, edge: &'static Edge, event: &mut dyn FnMut(msg::TransitionEvent)) {
        self.state = edge.goal;
        let msg::TransitionDescription { transition, start_state, goal_state } = edge.describe();
        event(msg::TransitionEvent { timestamp: 0, transition, start_state, goal_state });
    }

    /// The callback of the present transition state.
    fn call(&self, from: State, node: &mut impl Managed) -> Outcome {
        match self.state {
            State::Configuring => node.on_configure(),
            State::CleaningUp => node.on_cleanup(),
            State::ShuttingDown => node.on_shutdown(from),
            State::Activating => node.on_activate(),
            State::Deactivating => node.on_deactivate(),
            State::ErrorProcessing => node.on_error(),
            State::Unknown | State::Unconfigured | State::Inactive | State::Active | State::Finalized => {
                Outcome::Success(String::new())
            }
        }
    }

    /// From a transition state to a primary one.
    fn complete(
        &mut self,
        outcome: &Outcome,
        node: &mut impl Managed,
        event: &mut dyn FnMut(msg::TransitionEvent),
    ) {
        let during = self.state;
        if let Some(edge) = self.edges().find(|edge| edge.label == outcome.label()) {
            self.step(edge, event);
        }
        let (during, now) = (during.label(), self.state.label());
        match outcome {
            Outcome::Success(text) if text.is_empty() => tracing::info!(state = now, "{during} succeeded"),
            Outcome::Success(text) => tracing::info!(state = now, "{during} succeeded: {text}"),
            Outcome::Failure(text) => tracing::warn!(state = now, "{during} failed: {text}"),
            Outcome::Error(text) => tracing::error!(state = now, "error while {during}: {text}"),
        }
        if self.state == State::ErrorProcessing {
            let handled = node.on_error();
            self.complete(&handled, node, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A node that ends every callback as told and remembers which were called.
    struct Told {
        outcome: Outcome,
        on_error: Outcome,
        called: Vec<&'static str>,
        shut_down_from: Option<State>,
    }

    impl Told {
        fn to(outcome: Outcome) -> Self {
            Told { outcome, on_error: success(), called: vec![], shut_down_from: None }
        }

        fn called(&mut self, callback: &'static str) -> Outcome {
            self.called.push(callback);
            self.outcome.clone()
        }
    }

    impl Managed for Told {
        fn on_configure(&mut self) -> Outcome {
            self.called("configuring")
        }
        fn on_activate(&mut self) -> Outcome {
            self.called("activating")
        }
        fn on_deactivate(&mut self) -> Outcome {
            self.called("deactivating")
        }
        fn on_cleanup(&mut self) -> Outcome {
            self.called("cleaningup")
        }
        fn on_shutdown(&mut self, from: State) -> Outcome {
            self.shut_down_from = Some(from);
            self.called("shuttingdown")
        }
        fn on_error(&mut self) -> Outcome {
            self.called.push("errorprocessing");
            self.on_error.clone()
        }
    }

    fn success() -> Outcome {
        Outcome::Success(String::new())
    }

    fn failure() -> Outcome {
        Outcome::Failure("not now".into())
    }

    fn error() -> Outcome {
        Outcome::Error("broken".into())
    }

    /// Asks for a transition and returns whether it succeeded, and the events as `start>goal`.
    fn ask(lifecycle: &mut Lifecycle, request: &Transition, node: &mut Told) -> (bool, Vec<String>) {
        let mut events = vec![];
        let done = lifecycle.change(request, node, &mut |event| {
            events.push(format!("{}>{}", event.start_state.label, event.goal_state.label));
        });
        (done, events)
    }

    /// A lifecycle in this primary state.
    fn at(state: State) -> Lifecycle {
        let mut lifecycle = Lifecycle::new();
        let way: &[u8] = match state {
            State::Inactive => &[Transition::CONFIGURE],
            State::Active => &[Transition::CONFIGURE, Transition::ACTIVATE],
            State::Finalized => &[Transition::UNCONFIGURED_SHUTDOWN],
            _ => &[],
        };
        for id in way {
            assert!(ask(&mut lifecycle, &Transition::by_id(*id), &mut Told::to(success())).0);
        }
        assert_eq!(lifecycle.state(), state);
        lifecycle
    }

    #[test]
    fn the_usual_way_through_all_states() {
        let (mut lifecycle, mut node) = (Lifecycle::new(), Told::to(success()));
        for (label, goal) in [
            ("configure", State::Inactive),
            ("activate", State::Active),
            ("deactivate", State::Inactive),
            ("cleanup", State::Unconfigured),
            ("configure", State::Inactive),
            ("activate", State::Active),
            ("shutdown", State::Finalized),
        ] {
            assert!(ask(&mut lifecycle, &Transition::by_label(label), &mut node).0, "{label}");
            assert_eq!(lifecycle.state(), goal);
        }
        assert_eq!(node.called[..4], ["configuring", "activating", "deactivating", "cleaningup"]);
        assert_eq!(node.shut_down_from, Some(State::Active));
    }

    #[test]
    fn a_failure_leads_back_and_an_error_through_its_processing() {
        let (mut lifecycle, mut node) = (at(State::Inactive), Told::to(failure()));
        let activate = Transition::by_id(Transition::ACTIVATE);
        let (done, events) = ask(&mut lifecycle, &activate, &mut node);
        assert_eq!((done, lifecycle.state()), (false, State::Inactive));
        assert_eq!(events, ["inactive>activating", "activating>inactive"]);

        for (handled, end) in
            [(success(), State::Unconfigured), (failure(), State::Finalized), (error(), State::Finalized)]
        {
            let mut lifecycle = at(State::Inactive);
            let mut node = Told { on_error: handled, ..Told::to(error()) };
            let (done, events) = ask(&mut lifecycle, &activate, &mut node);
            assert_eq!((done, lifecycle.state()), (false, end));
            let last = format!("errorprocessing>{}", end.label());
            assert_eq!(events, ["inactive>activating", "activating>errorprocessing", &last]);
            assert_eq!(node.called, ["activating", "errorprocessing"]);
        }
    }

    #[test]
    fn a_shutdown_ends_on_failure_too() {
        for state in [State::Unconfigured, State::Inactive, State::Active] {
            let (mut lifecycle, mut node) = (at(state), Told::to(failure()));
            assert!(!ask(&mut lifecycle, &Transition::by_label("shutdown"), &mut node).0);
            assert_eq!((lifecycle.state(), node.shut_down_from), (State::Finalized, Some(state)));
        }
    }

    #[test]
    fn what_is_not_allowed_calls_nothing() {
        for (state, requests) in [
            (State::Unconfigured, [Transition::by_label("activate"), Transition::by_id(6)]),
            (State::Inactive, [Transition::by_label("configure"), Transition::by_id(0)]),
            (State::Active, [Transition::by_label("Deactivate"), Transition::by_id(42)]),
            (State::Finalized, [Transition::by_label("shutdown"), Transition::by_id(1)]),
        ] {
            for request in requests {
                let (mut lifecycle, mut node) = (at(state), Told::to(success()));
                assert_eq!(ask(&mut lifecycle, &request, &mut node), (false, vec![]), "{request:?}");
                assert_eq!((lifecycle.state(), node.called.len()), (state, 0));
            }
        }
    }

    #[test]
    fn a_label_beats_the_id() {
        let (mut lifecycle, mut node) = (at(State::Inactive), Told::to(success()));
        let request = Transition { id: Transition::CLEANUP, label: "activate".into() };
        assert!(ask(&mut lifecycle, &request, &mut node).0);
        assert_eq!(lifecycle.state(), State::Active);
    }

    #[test]
    fn an_error_while_active_is_processed_without_deactivating() {
        for (state, during, handled, end) in [
            (State::Active, "deactivating", success(), State::Unconfigured),
            (State::Active, "deactivating", failure(), State::Finalized),
            (State::Inactive, "cleaningup", success(), State::Unconfigured),
        ] {
            let mut lifecycle = at(state);
            let mut node = Told { on_error: handled, ..Told::to(success()) };
            let mut goals = vec![];
            assert!(lifecycle.raise_error("lost", &mut node, &mut |e| goals.push(e.goal_state.label)));
            assert_eq!(goals, [during, "errorprocessing", end.label()]);
            assert_eq!((node.called.as_slice(), lifecycle.state()), (&["errorprocessing"][..], end));
        }
        for state in [State::Unconfigured, State::Finalized] {
            let mut node = Told::to(success());
            assert!(!at(state).raise_error("lost", &mut node, &mut |_| panic!("no step is made")));
            assert!(node.called.is_empty());
        }
    }

    #[test]
    fn lists_are_those_of_rcl() {
        let offered = |state| -> Vec<_> {
            let transitions = at(state).available_transitions().into_iter().map(|t| t.transition);
            transitions.map(|t| format!("{} [{}]", t.label, t.id)).collect()
        };
        assert_eq!(offered(State::Unconfigured), ["configure [1]", "shutdown [5]"]);
        assert_eq!(offered(State::Inactive), ["cleanup [2]", "activate [3]", "shutdown [6]"]);
        assert_eq!(offered(State::Active), ["deactivate [4]", "shutdown [7]"]);
        assert!(offered(State::Finalized).is_empty());

        let graph = Lifecycle::new().transition_graph();
        let ids: Vec<_> = graph.iter().map(|t| t.transition.id).collect();
        let expected =
            [1, 10, 11, 12, 2, 20, 21, 22, 3, 30, 31, 32, 4, 40, 41, 42, 5, 6, 7, 50, 51, 52, 60, 61, 62];
        assert_eq!(ids, expected);
        let states: Vec<_> = Lifecycle::new().available_states().into_iter().map(|s| s.id).collect();
        assert_eq!(states, [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15]);
    }

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![4 => Just(success()), 1 => Just(failure()), 1 => Just(error())]
    }

    fn any_request() -> impl Strategy<Value = Transition> {
        const LABELS: &[&str] =
            &["configure", "cleanup", "activate", "deactivate", "shutdown", "transition_success", "?"];
        prop_oneof![
            4 => (1_u8..5).prop_map(Transition::by_id),
            1 => any::<u8>().prop_map(Transition::by_id),
            1 => prop::sample::select(LABELS).prop_map(Transition::by_label),
        ]
    }

    proptest! {
        #[test]
        fn any_requests_and_outcomes_leave_a_legal_state(
            steps in prop::collection::vec(
                (any_request(), any_outcome(), any_outcome(), prop::bool::weighted(0.1)), 0..40),
        ) {
            let mut lifecycle = Lifecycle::new();
            for (request, outcome, on_error, raised) in steps {
                let before = lifecycle.state();
                let offered = lifecycle.available_transitions();
                let graph = lifecycle.transition_graph();
                let mut node = Told { on_error, ..Told::to(outcome) };
                let mut events: Vec<msg::TransitionEvent> = vec![];
                let done = if raised {
                    lifecycle.raise_error("lost", &mut node, &mut |event| events.push(event))
                } else {
                    lifecycle.change(&request, &mut node, &mut |event| events.push(event))
                };

                // The state is a primary one, reached from the last by transitions of the graph.
                let primary = [State::Unconfigured, State::Inactive, State::Active, State::Finalized];
                prop_assert!(primary.contains(&lifecycle.state()));
                let mut at: msg::State = before.into();
                for event in &events {
                    prop_assert_eq!(&event.start_state, &at);
                    prop_assert!(graph.iter().any(|edge| edge.transition == event.transition
                        && edge.start_state == event.start_state && edge.goal_state == event.goal_state));
                    at = event.goal_state.clone();
                }
                prop_assert_eq!(at, lifecycle.state().into());

                // What was called is what the transition states on the way call, once each.
                let mut on_the_way: Vec<_> = events.iter().map(|event| event.goal_state.label.as_str()).collect();
                on_the_way.pop();
                if raised && !on_the_way.is_empty() {
                    on_the_way.remove(0);
                }
                prop_assert_eq!(&node.called, &on_the_way);
                match events.first() {
                    Some(first) => prop_assert!(offered.iter().any(|edge| edge.transition == first.transition)),
                    None => prop_assert!(!done && lifecycle.state() == before),
                }
            }
        }
    }
}
