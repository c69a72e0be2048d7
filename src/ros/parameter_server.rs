//! The node's parameters as other nodes see them: the six parameter services and /parameter_events, as pure functions
//! over one running [`Config`].
//!
//! Contract: no I/O, no thread of its own; it belongs to the thread that owns the node, never the pinned one, and
//! allocates. A change is checked against [`config::PARAMETERS`], then offered to the node by the `apply` hook as the
//! whole candidate configuration, and only if that accepts does it become the current one. A refusal says in its
//! `reason` which parameter, which value and what is admitted.
//!
//! As rclcpp has it, but:
//! - an integer may be given for a double (`ros2 param set /metagd limits.rate 500`), as in parameter files; rclcpp
//!   refuses it as another type. A double for an integer is refused here too;
//! - values and types of unknown parameters are NOT_SET, one for each name, as the services' definitions say; rclcpp
//!   answers with no values at all;
//! - an event names what has another value than before, not what was set to the value it had;
//! - quality of service is no parameter (`qos_overrides`).

use crate::config::{self, Config, ConfigError, PARAMETERS, Range, Value};
use crate::msg::Time;
use crate::msg::parameters::{
    DescribeParametersResponse, FloatingPointRange, GetParameterTypesResponse, GetParametersResponse,
    IntegerRange, ListParametersRequest, ListParametersResponse, ListParametersResult, Names, Parameter,
    ParameterDescriptor, ParameterEvent, ParameterValue, SetParametersAtomicallyResponse,
    SetParametersRequest, SetParametersResponse, SetParametersResult, parameter_type,
};

/// What the node does with a configuration that it is to run on with: takes it, or says why not.
pub type Apply<'a> = &'a mut dyn FnMut(&Config) -> Result<(), String>;

/// The running configuration and its services.
#[derive(Clone, Debug)]
pub struct ParameterServer {
    node: String,
    config: Config,
}

impl ParameterServer {
    /// The parameters of the node of this fully qualified name.
    pub fn new(node: &str, config: Config) -> Self {
        ParameterServer { node: node.to_string(), config }
    }

    /// The current configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The event of the start: all parameters are new.
    pub fn started(&self, stamp: Time) -> ParameterEvent {
        let new_parameters = self.config.values().iter().map(|(name, value)| message(name, value)).collect();
        ParameterEvent { stamp, node: self.node.clone(), new_parameters, ..ParameterEvent::default() }
    }

    /// list_parameters: by name, those that are or lie below a prefix, no deeper than asked.
    pub fn list(&self, request: &ListParametersRequest) -> ListParametersResponse {
        let near = |below: &str| {
            request.depth == 0 || (below.bytes().filter(|b| *b == b'.').count() as u64) < request.depth
        };
        let under = |name: &str, prefix: &str| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.strip_prefix('.').is_some_and(near))
        };
        let listed = |name: &&str| match request.prefixes.as_slice() {
            [] => near(name),
            prefixes => prefixes.iter().any(|prefix| under(name, prefix)),
        };
        let mut names: Vec<_> = PARAMETERS.iter().map(|p| p.name).filter(listed).collect();
        names.sort_unstable();
        let mut prefixes: Vec<_> = names.iter().filter_map(|name| Some(name.rsplit_once('.')?.0)).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_string).collect();
        ListParametersResponse {
            result: ListParametersResult { names: owned(names), prefixes: owned(prefixes) },
        }
    }

    /// get_parameters: one value for each name.
    pub fn get(&self, request: &Names) -> GetParametersResponse {
        let value =
            |name: &String| self.config.get(name).map_or_else(ParameterValue::default, |v| (&v).into());
        GetParametersResponse { values: request.names.iter().map(value).collect() }
    }

    /// get_parameter_types: one type for each name.
    pub fn get_types(&self, request: &Names) -> GetParameterTypesResponse {
        let types = self.get(request).values.iter().map(|value| value.kind).collect();
        GetParameterTypesResponse { types }
    }

    /// describe_parameters: one descriptor for each name, or none at all if one of the names is unknown.
    pub fn describe(&self, request: &Names) -> DescribeParametersResponse {
        let descriptors = request.names.iter().map(|name| config::parameter(name).map(describe));
        DescribeParametersResponse { descriptors: descriptors.collect::<Result<_, _>>().unwrap_or_default() }
    }

    /// set_parameters: each by itself, in order; and one event for all that changed.
    pub fn set(
        &mut self,
        request: &SetParametersRequest,
        stamp: Time,
        apply: Apply,
    ) -> (SetParametersResponse, Option<ParameterEvent>) {
        let before = self.config.clone();
        let results = request
            .parameters
            .iter()
            .map(|parameter| result(&self.take(std::slice::from_ref(parameter), apply)))
            .collect();
        (SetParametersResponse { results }, self.changed_since(&before, stamp))
    }

    /// set_parameters_atomically: all or none.
    pub fn set_atomically(
        &mut self,
        request: &SetParametersRequest,
        stamp: Time,
        apply: Apply,
    ) -> (SetParametersAtomicallyResponse, Option<ParameterEvent>) {
        let before = self.config.clone();
        let result = result(&self.take(&request.parameters, apply));
        (SetParametersAtomicallyResponse { result }, self.changed_since(&before, stamp))
    }

    /// Takes all that is given, or nothing: the last one of a name counts.
    fn take(&mut self, given: &[Parameter], apply: Apply) -> Result<(), String> {
        if given.is_empty() {
            return Err("no parameter is given".to_string());
        }
        let mut candidate = self.config.clone();
        for parameter in given {
            set(&mut candidate, parameter)?;
        }
        apply(&candidate)?;
        self.config = candidate;
        Ok(())
    }

    fn changed_since(&self, before: &Config, stamp: Time) -> Option<ParameterEvent> {
        let changed_parameters: Vec<_> = self
            .config
            .values()
            .iter()
            .zip(before.values())
            .filter(|(now, before)| *now != before)
            .map(|((name, value), _)| message(name, value))
            .collect();
        (!changed_parameters.is_empty()).then(|| ParameterEvent {
            stamp,
            node: self.node.clone(),
            changed_parameters,
            ..ParameterEvent::default()
        })
    }
}

/// Sets one parameter of a running node's configuration.
fn set(candidate: &mut Config, given: &Parameter) -> Result<(), String> {
    let name = &given.name;
    let row = config::parameter(name).map_err(|error| error.to_string())?;
    if !row.live {
        return Err(format!("parameter `{name}` is read-only: it can be set at start only"));
    }
    if given.value.kind == parameter_type::NOT_SET {
        return Err(format!("parameter `{name}` cannot be deleted"));
    }
    let value = Value::try_from(&given.value).map_err(|Foreign { value, given }| {
        let expected = (row.default)().type_name();
        ConfigError::Type { name: name.clone(), expected, value, given }.to_string()
    })?;
    candidate.set(name, value).map_err(|error| error.to_string())
}

fn result(outcome: &Result<(), String>) -> SetParametersResult {
    SetParametersResult {
        successful: outcome.is_ok(),
        reason: outcome.as_ref().err().cloned().unwrap_or_default(),
    }
}

fn message(name: &str, value: &Value) -> Parameter {
    Parameter { name: name.to_string(), value: value.into() }
}

/// Ranges of rcl_interfaces hold for a single number and include both ends; everything else is said in words.
fn describe(row: &config::Parameter) -> ParameterDescriptor {
    let value = (row.default)();
    let unit = if row.unit.is_empty() { String::new() } else { format!(" Unit: {}.", row.unit) };
    let mut descriptor = ParameterDescriptor {
        name: row.name.to_string(),
        kind: ParameterValue::from(&value).kind,
        description: format!("{}{unit}", row.doc),
        read_only: !row.live,
        ..ParameterDescriptor::default()
    };
    descriptor.additional_constraints = match (row.range, &value) {
        (Range::Within(..), Value::Int(_) | Value::Float(_)) | (Range::Any, _) => String::new(),
        (Range::Above(low, _), Value::Int(_) | Value::Float(_)) => format!("above {low}"),
        (Range::OneOf(_), _) => format!("one of {}", row.range),
        (range, _) => format!("each {range}"),
    };
    if let Range::Within(low, high) | Range::Above(low, high) = row.range {
        match value {
            Value::Float(_) => {
                let range = FloatingPointRange { from_value: low, to_value: high, step: 0.0 };
                descriptor.floating_point_range.push(range);
            }
            Value::Int(_) => {
                let range = IntegerRange { from_value: low as i64, to_value: high as i64, step: 0 };
                descriptor.integer_range.push(range);
            }
            _ => {}
        }
    }
    descriptor
}

impl From<&Value> for ParameterValue {
    fn from(value: &Value) -> Self {
        let empty = ParameterValue::default();
        match value.clone() {
            Value::Bool(v) => ParameterValue { kind: parameter_type::BOOL, bool_value: v, ..empty },
            Value::Int(v) => ParameterValue { kind: parameter_type::INTEGER, integer_value: v, ..empty },
            Value::Float(v) => ParameterValue { kind: parameter_type::DOUBLE, double_value: v, ..empty },
            Value::Text(v) => ParameterValue { kind: parameter_type::STRING, string_value: v, ..empty },
            Value::Ints(v) => {
                ParameterValue { kind: parameter_type::INTEGER_ARRAY, integer_array_value: v, ..empty }
            }
            Value::Floats(v) => {
                ParameterValue { kind: parameter_type::DOUBLE_ARRAY, double_array_value: v, ..empty }
            }
            Value::Texts(v) => {
                ParameterValue { kind: parameter_type::STRING_ARRAY, string_array_value: v, ..empty }
            }
        }
    }
}

/// A value of a type that none of our parameters has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} is a {given}")]
pub struct Foreign {
    /// The value.
    pub value: String,
    /// Its type.
    pub given: &'static str,
}

impl TryFrom<&ParameterValue> for Value {
    type Error = Foreign;

    fn try_from(message: &ParameterValue) -> Result<Self, Foreign> {
        let foreign = |value, given| Err(Foreign { value, given });
        Ok(match message.kind {
            parameter_type::BOOL => Value::Bool(message.bool_value),
            parameter_type::INTEGER => Value::Int(message.integer_value),
            parameter_type::DOUBLE => Value::Float(message.double_value),
            parameter_type::STRING => Value::Text(message.string_value.clone()),
            parameter_type::INTEGER_ARRAY => Value::Ints(message.integer_array_value.clone()),
            parameter_type::DOUBLE_ARRAY => Value::Floats(message.double_array_value.clone()),
            parameter_type::STRING_ARRAY => Value::Texts(message.string_array_value.clone()),
            parameter_type::BYTE_ARRAY => {
                return foreign(format!("{:?}", message.byte_array_value), "byte_array");
            }
            parameter_type::BOOL_ARRAY => {
                return foreign(format!("{:?}", message.bool_array_value), "bool_array");
            }
            parameter_type::NOT_SET => return foreign("nothing".to_string(), "not_set"),
            other => return foreign(format!("a value of type {other}"), "type that ROS does not have"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time { sec: 7, nanosec: 8 };

    fn server() -> ParameterServer {
        ParameterServer::new("/metagd", Config::default())
    }

    fn names(names: &[&str]) -> Names {
        Names { names: names.iter().map(|n| n.to_string()).collect() }
    }

    fn request(pairs: &[(&str, Value)]) -> SetParametersRequest {
        SetParametersRequest { parameters: pairs.iter().map(|(name, value)| message(name, value)).collect() }
    }

    fn accept(_: &Config) -> Result<(), String> {
        Ok(())
    }

    /// The reason why this one value is refused, by a node that would accept it.
    fn refusal(name: &str, value: ParameterValue) -> String {
        let mut server = server();
        let given = SetParametersRequest { parameters: vec![Parameter { name: name.into(), value }] };
        let mut unasked = |_: &Config| panic!("the node is not asked about what is refused anyway");
        let (each, event) = server.set(&given, NOW, &mut unasked);
        assert!(event.is_none() && server.config() == &Config::default());
        let (all, event) = server.set_atomically(&given, NOW, &mut unasked);
        assert!(event.is_none() && !all.result.successful && each.results == [all.result.clone()]);
        all.result.reason
    }

    fn list(prefixes: &[&str], depth: u64) -> ListParametersResult {
        let prefixes = prefixes.iter().map(|p| p.to_string()).collect();
        server().list(&ListParametersRequest { prefixes, depth }).result
    }

    #[test]
    fn the_whole_list_is_sorted_and_names_its_branches() {
        let all = list(&[], 0);
        assert_eq!(all.names.len(), PARAMETERS.len());
        assert!(all.names.is_sorted());
        assert!(all.prefixes.contains(&"learner.scale".to_string()));
        assert!(!all.prefixes.contains(&"preset".to_string()));
    }

    #[test]
    fn a_list_goes_as_deep_as_asked() {
        assert!(list(&[], 1).names.iter().all(|name| !name.contains('.')));
        assert!(list(&[], 1).prefixes.is_empty());
        let scales = ["acceleration", "position", "torque", "velocity"].map(|s| format!("learner.scale.{s}"));
        assert_eq!(list(&["learner.scale"], 0).names, scales);
        assert_eq!(list(&["learner.scale"], 1).prefixes, ["learner.scale"]);
        let learner = list(&["learner"], 1).names;
        assert!(learner.contains(&"learner.rate".into()) && !learner.contains(&scales[0]));
        assert_eq!(list(&["learner"], 2).names, list(&["learner"], 0).names);
    }

    #[test]
    fn a_prefix_is_a_branch_or_a_whole_name() {
        assert_eq!(list(&["preset", "gate.ratio", "preset"], 0).names, ["gate.ratio", "preset"]);
        for none in ["", "learn", "learner.", ".", "preset.x", "é"] {
            assert_eq!(list(&[none], 0), ListParametersResult::default(), "{none}");
        }
    }

    #[test]
    fn values_and_types_are_the_configurations_and_not_set_where_unknown() {
        let asked = names(&["limits.torque", "nothing", "preset", "learner.hidden", "learning", "gravity"]);
        let types = server().get_types(&asked).types;
        assert_eq!(types, [3, 0, 4, 7, 1, 8]);
        let values = server().get(&asked).values;
        assert_eq!(values.iter().map(|v| v.kind).collect::<Vec<_>>(), types);
        assert_eq!((values[0].double_value, values[2].string_value.as_str()), (0.8, "robot"));
        assert_eq!(values[3].integer_array_value, [50, 50, 50]);
    }

    #[test]
    fn descriptions_say_all_that_the_table_says() {
        let described = |name| server().describe(&names(&[name])).descriptors.remove(0);
        let rate = described("limits.rate");
        assert_eq!(
            rate.floating_point_range[0],
            FloatingPointRange { to_value: 1.0e9, ..Default::default() }
        );
        assert_eq!((rate.read_only, rate.additional_constraints.as_str()), (false, "above 0"));
        assert!(rate.description.starts_with("How fast") && rate.description.ends_with("Unit: Nm/s."));
        let batch = described("learner.batch");
        assert_eq!(batch.integer_range[0], IntegerRange { from_value: 1, to_value: 1000, step: 0 });
        assert!(batch.read_only && batch.additional_constraints.is_empty());
        assert_eq!(described("preset").additional_constraints, "one of robot | paper");
        let gravity = described("gravity");
        assert_eq!(gravity.additional_constraints, "each -30 to 30");
        assert!(gravity.floating_point_range.is_empty() && gravity.kind == parameter_type::DOUBLE_ARRAY);
        for p in PARAMETERS {
            let descriptor = described(p.name);
            assert_eq!((descriptor.name.as_str(), descriptor.read_only), (p.name, !p.live));
            assert!(!descriptor.dynamic_typing && descriptor.description.starts_with(p.doc));
        }
    }

    #[test]
    fn one_unknown_name_leaves_all_undescribed() {
        assert!(server().describe(&names(&["preset", "nothing"])).descriptors.is_empty());
    }

    #[test]
    fn each_is_set_by_itself_and_one_event_tells_what_changed() {
        let mut server = server();
        let given = request(&[
            ("limits.rate", Value::Int(500)),
            ("limits.torque", Value::Float(2.0)),
            ("gate.ratio", Value::Float(1.5)),
            ("learning", Value::Bool(false)),
        ]);
        let mut seen = vec![];
        let (response, event) = server.set(&given, NOW, &mut |candidate| {
            seen.push((candidate.limit_rate, candidate.learning));
            Ok(())
        });
        let successful: Vec<_> = response.results.iter().map(|r| r.successful).collect();
        assert_eq!(successful, [true, false, true, true]);
        assert!(response.results[1].reason.contains("`limits.torque` = 2.0 is out of range (0 to 1)"));
        assert_eq!(seen, [(500.0, true), (500.0, true), (500.0, false)]);
        assert_eq!((server.config().limit_rate, server.config().learning), (500.0, false));
        let event = event.unwrap();
        assert_eq!((event.stamp, event.node.as_str()), (NOW, "/metagd"));
        let changed = request(&[("learning", Value::Bool(false)), ("limits.rate", Value::Float(500.0))]);
        assert_eq!(event.changed_parameters, changed.parameters);
        assert!(event.new_parameters.is_empty() && event.deleted_parameters.is_empty());
    }

    #[test]
    fn together_all_are_set_or_none() {
        let mut server = server();
        let good = ("limits.rate", Value::Float(500.0));
        let given = request(&[good.clone(), ("preset", Value::Text("paper".into()))]);
        let (response, event) = server.set_atomically(&given, NOW, &mut accept);
        assert_eq!(response.result.reason, "parameter `preset` is read-only: it can be set at start only");
        assert!(event.is_none() && server.config() == &Config::default());
        let given = request(&[good, ("learner.rate", Value::Float(0.1))]);
        let mut calls = 0;
        let (response, event) = server.set_atomically(&given, NOW, &mut |candidate| {
            calls += 1;
            assert_eq!((candidate.limit_rate, candidate.rate), (500.0, 0.1));
            Ok(())
        });
        assert!(response.result.successful && calls == 1);
        assert_eq!(event.unwrap().changed_parameters.len(), 2);
        assert!(!server.set_atomically(&request(&[]), NOW, &mut accept).0.result.successful);
    }

    #[test]
    fn the_node_may_refuse_in_its_own_words() {
        let mut server = server();
        let given = request(&[("checkpoint.load", Value::Text("gone.safetensors".into()))]);
        let mut refuse = |_: &Config| Err("gone.safetensors: no such file".to_string());
        let (response, event) = server.set(&given, NOW, &mut refuse);
        assert_eq!(response.results[0].reason, "gone.safetensors: no such file");
        assert!(event.is_none() && server.config() == &Config::default());
    }

    #[test]
    fn a_value_that_stands_already_is_no_event() {
        let given = request(&[("limits.rate", Value::Float(2000.0))]);
        let (response, event) = server().set(&given, NOW, &mut accept);
        assert!(response.results[0].successful && event.is_none());
    }

    #[test]
    fn refusals_name_parameter_value_and_what_is_admitted() {
        for p in PARAMETERS.iter().filter(|p| !p.live) {
            let expected = format!("parameter `{}` is read-only: it can be set at start only", p.name);
            assert_eq!(refusal(p.name, (&(p.default)()).into()), expected);
        }
        assert!(config::parameter("use_sim_time").is_ok_and(|p| !p.live));
        assert_eq!(
            refusal("limits.torqe", (&Value::Float(0.5)).into()),
            "unknown parameter `limits.torqe`; did you mean `limits.torque`?"
        );
        assert_eq!(
            refusal("learning", (&Value::Float(1.0)).into()),
            "parameter `learning` is a bool, but 1.0 is a double"
        );
        let bools = ParameterValue {
            kind: parameter_type::BOOL_ARRAY,
            bool_array_value: vec![true],
            ..Default::default()
        };
        assert_eq!(refusal("learning", bools), "parameter `learning` is a bool, but [true] is a bool_array");
        assert_eq!(refusal("learning", ParameterValue::default()), "parameter `learning` cannot be deleted");
        let strange = ParameterValue { kind: 77, ..Default::default() };
        assert!(refusal("learning", strange).contains("77"));
        let nan = refusal("limits.rate", (&Value::Float(f64::NAN)).into());
        assert_eq!(nan, "parameter `limits.rate` = NaN is out of range (above 0, to 1000000000 Nm/s)");
    }

    #[test]
    fn at_the_start_all_are_new() {
        let event = server().started(NOW);
        assert_eq!(event.new_parameters.len(), PARAMETERS.len());
        assert!(event.changed_parameters.is_empty());
        assert_eq!((event.node.as_str(), event.stamp), ("/metagd", NOW));
    }

    #[test]
    fn every_parameter_comes_back_from_its_message() {
        for (name, value) in Config::default().values() {
            assert_eq!(Value::try_from(&ParameterValue::from(&value)), Ok(value), "{name}");
        }
    }

    fn any_value() -> impl Strategy<Value = ParameterValue> {
        (0_u8..11, any::<bool>(), -2_i64..3000, any::<f64>(), "[a-z]{0,6}").prop_map(|(kind, b, i, d, s)| {
            ParameterValue {
                kind,
                bool_value: b,
                integer_value: i,
                double_value: d,
                string_value: s.clone(),
                byte_array_value: vec![1],
                bool_array_value: vec![b],
                integer_array_value: vec![i],
                double_array_value: vec![d],
                string_array_value: vec![s],
            }
        })
    }

    proptest! {
        #[test]
        fn whatever_is_set_the_configuration_stays_one_that_a_start_admits(
            given in prop::collection::vec((0..PARAMETERS.len(), any_value()), 1..20),
            together in any::<bool>(),
        ) {
            let parameters =
                given.into_iter().map(|(i, value)| Parameter { name: PARAMETERS[i].name.into(), value }).collect();
            let given = SetParametersRequest { parameters };
            let mut server = server();
            let event = if together {
                server.set_atomically(&given, NOW, &mut accept).1
            } else {
                server.set(&given, NOW, &mut accept).1
            };
            let values = server.config().values().into_iter().map(|(n, v)| (n.to_string(), v)).collect();
            prop_assert_eq!(&Config::new(&values).unwrap(), server.config());
            let changed = event.map(|event| event.changed_parameters).unwrap_or_default();
            prop_assert_eq!(changed.is_empty(), server.config() == &Config::default());
            for parameter in changed {
                prop_assert!(config::parameter(&parameter.name).unwrap().live, "{}", parameter.name);
            }
        }
    }
}
