//! What the node answers to whoever asks: parameters, lifecycle, and what is its own.
//!
//! Contract: called by the node's own thread, one request after the other. `~/set_learning` and `~/enable` are short for
//! the parameters `learning` and `enabled`; `~/save`, `~/load`, `~/reset` and `~/new_task` need a configured node.

use anyhow::Result;

use super::Node;
use crate::config::Value;
use crate::msg::lifecycle::{
    ChangeStateRequest, ChangeStateResponse, GetAvailableStatesResponse, GetAvailableTransitionsResponse,
    GetStateResponse,
};
use crate::msg::parameters::{
    DescribeParametersResponse, GetParameterTypesResponse, GetParametersResponse, ListParametersRequest,
    ListParametersResponse, Names, Parameter, SetParametersAtomicallyResponse, SetParametersRequest,
    SetParametersResponse,
};
use crate::msg::services::{Done, Empty, SetBoolRequest};
use crate::report::described;

impl Node {
    pub(super) fn list_parameters(&mut self, request: ListParametersRequest) -> ListParametersResponse {
        self.parameters.list(&request)
    }

    pub(super) fn get_parameters(&mut self, request: Names) -> GetParametersResponse {
        self.parameters.get(&request)
    }

    pub(super) fn get_parameter_types(&mut self, request: Names) -> GetParameterTypesResponse {
        self.parameters.get_types(&request)
    }

    pub(super) fn describe_parameters(&mut self, request: Names) -> DescribeParametersResponse {
        self.parameters.describe(&request)
    }

    pub(super) fn set_parameters(&mut self, request: SetParametersRequest) -> SetParametersResponse {
        let Node { body, parameters, time, announcements, .. } = self;
        let mut apply = |config: &_| body.apply(config).map_err(|error| described(&error));
        let (response, event) = parameters.set(&request, time.now(), &mut apply);
        announcements.changed(event.as_ref(), parameters.config());
        response
    }

    pub(super) fn set_parameters_atomically(
        &mut self,
        request: SetParametersRequest,
    ) -> SetParametersAtomicallyResponse {
        let Node { body, parameters, time, announcements, .. } = self;
        let mut apply = |config: &_| body.apply(config).map_err(|error| described(&error));
        let (response, event) = parameters.set_atomically(&request, time.now(), &mut apply);
        announcements.changed(event.as_ref(), parameters.config());
        response
    }

    /// Tells who listens what all parameters are.
    pub(super) fn announce_parameters(&mut self) {
        let event = self.parameters.started(self.time.now());
        self.announcements.parameters(&event);
    }

    pub(super) fn change_state(&mut self, request: ChangeStateRequest) -> ChangeStateResponse {
        let success = self.change(&request.transition);
        // Said in the log by the lifecycle; the caller learns no more than that it failed.
        self.body.trouble = None;
        ChangeStateResponse { success }
    }

    pub(super) fn get_state(&mut self, _: Empty) -> GetStateResponse {
        GetStateResponse { current_state: self.lifecycle.state().into() }
    }

    pub(super) fn get_available_states(&mut self, _: Empty) -> GetAvailableStatesResponse {
        GetAvailableStatesResponse { available_states: self.lifecycle.available_states() }
    }

    pub(super) fn get_available_transitions(&mut self, _: Empty) -> GetAvailableTransitionsResponse {
        GetAvailableTransitionsResponse { available_transitions: self.lifecycle.available_transitions() }
    }

    pub(super) fn get_transition_graph(&mut self, _: Empty) -> GetAvailableTransitionsResponse {
        GetAvailableTransitionsResponse { available_transitions: self.lifecycle.transition_graph() }
    }

    pub(super) fn save(&mut self, _: Empty) -> Done {
        done(self.body.save())
    }

    pub(super) fn load(&mut self, _: Empty) -> Done {
        let config = self.body.config.clone();
        let loaded = |node: &mut Node| -> Result<String> {
            anyhow::ensure!(!config.load.is_empty(), "checkpoint.load names no file");
            node.body.engine()?.load(&config)?;
            Ok(format!("loaded {} ({})", config.load, config.reload))
        };
        done(loaded(self))
    }

    pub(super) fn reset(&mut self, _: Empty) -> Done {
        let config = self.body.config.clone();
        let reset = self.body.engine().and_then(|engine| engine.reset(&config));
        done(reset.map(|()| "the torque is learnt afresh; the memories for learning rates stay".into()))
    }

    pub(super) fn new_task(&mut self, _: Empty) -> Done {
        let begun = self.body.engine().and_then(|engine| engine.new_task());
        done(begun.map(|()| "a new task begins; the memories for learning rates stay".into()))
    }

    pub(super) fn set_learning(&mut self, request: SetBoolRequest) -> Done {
        self.set_parameter("learning", request.data)
    }

    pub(super) fn enable(&mut self, request: SetBoolRequest) -> Done {
        self.set_parameter("enabled", request.data)
    }

    fn set_parameter(&mut self, name: &str, value: bool) -> Done {
        let value = (&Value::Bool(value)).into();
        let parameters = vec![Parameter { name: name.into(), value }];
        let result = self.set_parameters_atomically(SetParametersRequest { parameters }).result;
        Done { success: result.successful, message: result.reason }
    }
}

/// What was done, or why not, as std_srvs tells it.
fn done(result: Result<String>) -> Done {
    match result {
        Ok(message) => {
            tracing::info!("{message}");
            Done { success: true, message }
        }
        Err(error) => {
            let message = described(&error);
            tracing::warn!("{message}");
            Done { success: false, message }
        }
    }
}
