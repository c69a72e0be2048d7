//! rcl_interfaces: parameters, as other nodes list, get, describe and set them.
//!
//! Contract: types only, as in [`crate::msg`]; [`crate::ros::parameter_server`] gives them their meaning.

use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

use super::services::services;
use super::{Time, messages};

messages! {
    Parameter = "rcl_interfaces/msg/Parameter",
    ParameterValue = "rcl_interfaces/msg/ParameterValue",
    ParameterDescriptor = "rcl_interfaces/msg/ParameterDescriptor",
    FloatingPointRange = "rcl_interfaces/msg/FloatingPointRange",
    IntegerRange = "rcl_interfaces/msg/IntegerRange",
    ListParametersResult = "rcl_interfaces/msg/ListParametersResult",
    SetParametersResult = "rcl_interfaces/msg/SetParametersResult",
    ParameterEvent = "rcl_interfaces/msg/ParameterEvent",
}

services! {
    ListParameters = "rcl_interfaces/srv/ListParameters", ListParametersRequest => ListParametersResponse;
    GetParameters = "rcl_interfaces/srv/GetParameters", Names => GetParametersResponse;
    GetParameterTypes = "rcl_interfaces/srv/GetParameterTypes", Names => GetParameterTypesResponse;
    DescribeParameters = "rcl_interfaces/srv/DescribeParameters", Names => DescribeParametersResponse;
    SetParameters = "rcl_interfaces/srv/SetParameters", SetParametersRequest => SetParametersResponse;
    SetParametersAtomically = "rcl_interfaces/srv/SetParametersAtomically",
        SetParametersRequest => SetParametersAtomicallyResponse;
}

/// rcl_interfaces/ParameterType.
pub mod parameter_type {
    /// There is no value.
    pub const NOT_SET: u8 = 0;
    /// A truth value.
    pub const BOOL: u8 = 1;
    /// An integer.
    pub const INTEGER: u8 = 2;
    /// A floating-point number.
    pub const DOUBLE: u8 = 3;
    /// A string.
    pub const STRING: u8 = 4;
    /// Bytes.
    pub const BYTE_ARRAY: u8 = 5;
    /// Truth values.
    pub const BOOL_ARRAY: u8 = 6;
    /// Integers.
    pub const INTEGER_ARRAY: u8 = 7;
    /// Floating-point numbers.
    pub const DOUBLE_ARRAY: u8 = 8;
    /// Strings.
    pub const STRING_ARRAY: u8 = 9;
}

/// rcl_interfaces/ParameterValue: of the fields only the one that `kind` names counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ParameterValue {
    /// One of [`parameter_type`].
    #[serde(rename = "type")]
    pub kind: u8,
    /// A truth value.
    pub bool_value: bool,
    /// An integer.
    pub integer_value: i64,
    /// A floating-point number.
    pub double_value: f64,
    /// A string.
    pub string_value: String,
    /// Bytes.
    pub byte_array_value: Vec<u8>,
    /// Truth values.
    pub bool_array_value: Vec<bool>,
    /// Integers.
    pub integer_array_value: Vec<i64>,
    /// Floating-point numbers.
    pub double_array_value: Vec<f64>,
    /// Strings.
    pub string_array_value: Vec<String>,
}

/// rcl_interfaces/Parameter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: ParameterValue,
}

/// rcl_interfaces/FloatingPointRange, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FloatingPointRange {
    /// The least value.
    pub from_value: f64,
    /// The greatest value.
    pub to_value: f64,
    /// The distance between values; 0: any value between the ends.
    pub step: f64,
}

/// rcl_interfaces/IntegerRange, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntegerRange {
    /// The least value.
    pub from_value: i64,
    /// The greatest value.
    pub to_value: i64,
    /// The distance between values; 0: any value between the ends.
    pub step: u64,
}

/// rcl_interfaces/ParameterDescriptor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ParameterDescriptor {
    /// The parameter's name.
    pub name: String,
    /// One of [`parameter_type`].
    #[serde(rename = "type")]
    pub kind: u8,
    /// What it does.
    pub description: String,
    /// What the ranges cannot say.
    pub additional_constraints: String,
    /// Whether it cannot be set.
    pub read_only: bool,
    /// Whether its type may change.
    pub dynamic_typing: bool,
    /// The range of a double.
    pub floating_point_range: ArrayVec<FloatingPointRange, 1>,
    /// The range of an integer.
    pub integer_range: ArrayVec<IntegerRange, 1>,
}

/// rcl_interfaces/ListParametersResult.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListParametersResult {
    /// The parameters' names.
    pub names: Vec<String>,
    /// What stands before the last dot of these names.
    pub prefixes: Vec<String>,
}

/// rcl_interfaces/SetParametersResult.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetParametersResult {
    /// Whether it was set.
    pub successful: bool,
    /// Why not.
    pub reason: String,
}

/// rcl_interfaces/ParameterEvent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ParameterEvent {
    /// When.
    pub stamp: Time,
    /// The node's fully qualified name.
    pub node: String,
    /// What there was not before.
    pub new_parameters: Vec<Parameter>,
    /// What has another value.
    pub changed_parameters: Vec<Parameter>,
    /// What there is no more.
    pub deleted_parameters: Vec<Parameter>,
}

/// What [`ListParameters`] asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListParametersRequest {
    /// Parameters and branches; empty: all.
    pub prefixes: Vec<String>,
    /// How many levels below them; 0: all.
    pub depth: u64,
}

/// What [`ListParameters`] answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListParametersResponse {
    /// The list.
    pub result: ListParametersResult,
}

/// What [`GetParameters`], [`GetParameterTypes`] and [`DescribeParameters`] ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Parameters' names.
    pub names: Vec<String>,
}

/// What [`GetParameters`] answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GetParametersResponse {
    /// One for each name.
    pub values: Vec<ParameterValue>,
}

/// What [`GetParameterTypes`] answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetParameterTypesResponse {
    /// One of [`parameter_type`] for each name.
    pub types: Vec<u8>,
}

/// What [`DescribeParameters`] answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DescribeParametersResponse {
    /// One for each name.
    pub descriptors: Vec<ParameterDescriptor>,
}

/// What [`SetParameters`] and [`SetParametersAtomically`] ask.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SetParametersRequest {
    /// The wanted values.
    pub parameters: Vec<Parameter>,
}

/// What [`SetParameters`] answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetParametersResponse {
    /// One for each parameter.
    pub results: Vec<SetParametersResult>,
}

/// What [`SetParametersAtomically`] answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetParametersAtomicallyResponse {
    /// One for all.
    pub result: SetParametersResult,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bag::cdr::{decode, encode};

    /// Bytes from hexadecimal digits. The test vectors are what rclpy.serialization.serialize_message prints (Jazzy,
    /// Cyclone DDS), with its padding to a multiple of four.
    fn hex(digits: &str) -> Vec<u8> {
        let digits: String = digits.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
    }

    fn same<T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug>(
        message: &T,
        wire: &[u8],
    ) {
        assert_eq!(&decode::<T>(wire).unwrap(), message);
        let ours = encode(message).unwrap();
        assert!(wire.starts_with(&ours) && wire.len() - ours.len() < 4, "{ours:02x?}");
    }

    #[test]
    fn an_event_is_the_bytes_that_ros_makes_of_it() {
        let value = ParameterValue {
            kind: parameter_type::DOUBLE,
            bool_value: true,
            integer_value: -2,
            double_value: 1.5,
            string_value: "ab".into(),
            byte_array_value: vec![1, 2, 3],
            bool_array_value: vec![true, false],
            integer_array_value: vec![7],
            double_array_value: vec![0.25],
            string_array_value: vec!["x".into(), "yz".into()],
        };
        let event = ParameterEvent {
            stamp: Time { sec: 1, nanosec: 2 },
            node: "/n".into(),
            changed_parameters: vec![Parameter { name: "a.b".into(), value }],
            ..ParameterEvent::default()
        };
        let wire = hex("00010000 01000000 02000000 03000000 2f6e0000 00000000 01000000 04000000 612e6200
             03010000 00000000 feffffffffffffff 000000000000f83f 03000000 61620000 03000000 01020300
             02000000 01000000 01000000 00000000 0700000000000000 01000000 00000000 000000000000d03f
             02000000 02000000 78000000 03000000 797a0000 00000000");
        same(&event, &wire);
    }

    #[test]
    fn a_descriptor_is_the_bytes_that_ros_makes_of_it() {
        let range = FloatingPointRange { from_value: 0.0, to_value: 1.0, step: 0.0 };
        let descriptor = ParameterDescriptor {
            name: "d".into(),
            kind: parameter_type::DOUBLE,
            description: "what".into(),
            additional_constraints: "c".into(),
            read_only: true,
            floating_point_range: [range].into(),
            ..ParameterDescriptor::default()
        };
        let wire = hex("00010000 02000000 64000300 05000000 77686174 00000000 02000000 63000100
             01000000 0000000000000000 000000000000f03f 0000000000000000 00000000");
        same(&descriptor, &wire);
    }

    #[test]
    fn a_second_range_is_refused() {
        let ranges = vec![IntegerRange::default(); 2];
        let wire = encode(&ranges).unwrap();
        assert!(decode::<ArrayVec<IntegerRange, 1>>(&wire).is_err());
        assert!(decode::<ArrayVec<IntegerRange, 1>>(&encode(&ranges[..1].to_vec()).unwrap()).is_ok());
    }

    #[test]
    fn services_come_back() {
        let request = ListParametersRequest { prefixes: vec!["p".into()], depth: 2 };
        same(&request, &hex("00010000 01000000 02000000 70000000 00000000 02000000 00000000"));
        let types = GetParameterTypesResponse { types: vec![3, 0] };
        same(&types, &encode(&types).unwrap());
        let results = SetParametersResponse {
            results: vec![SetParametersResult { successful: false, reason: "no".into() }],
        };
        same(&results, &encode(&results).unwrap());
    }
}
