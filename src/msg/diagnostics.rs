//! The messages of diagnostic_msgs, for writing (and for a test to read them back).

use serde::{Deserialize, Serialize};

use super::{Header, messages};

messages! {
    DiagnosticArray = "diagnostic_msgs/msg/DiagnosticArray",
    DiagnosticStatus = "diagnostic_msgs/msg/DiagnosticStatus",
    KeyValue = "diagnostic_msgs/msg/KeyValue",
}

/// diagnostic_msgs/KeyValue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// What the value is.
    pub key: String,
    /// The value, as text.
    pub value: String,
}

/// diagnostic_msgs/DiagnosticStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagnosticStatus {
    /// How it is: one of the constants below.
    pub level: u8,
    /// Whose status it is.
    pub name: String,
    /// How it is, in words.
    pub message: String,
    /// The hardware it is about.
    pub hardware_id: String,
    /// The figures behind it.
    pub values: Vec<KeyValue>,
}

impl DiagnosticStatus {
    /// All is well.
    pub const OK: u8 = 0;
    /// It works, but not as it should.
    pub const WARN: u8 = 1;
    /// It does not work.
    pub const ERROR: u8 = 2;
    /// Nothing was heard of it.
    pub const STALE: u8 = 3;
}

/// diagnostic_msgs/DiagnosticArray.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DiagnosticArray {
    /// When it was so.
    pub header: Header,
    /// The statuses.
    pub status: Vec<DiagnosticStatus>,
}

#[cfg(test)]
mod tests {
    use byteorder::LittleEndian;

    use super::*;
    use crate::msg::Time;

    #[test]
    fn its_bytes_are_those_that_ros_writes() {
        let array = DiagnosticArray {
            header: Header { stamp: Time { sec: 1, nanosec: 0 }, frame_id: String::new() },
            status: vec![DiagnosticStatus {
                level: DiagnosticStatus::ERROR,
                name: "metagd: input".into(),
                message: "no".into(),
                hardware_id: "lwr".into(),
                values: vec![KeyValue { key: "rate [Hz]".into(), value: "9.5".into() }],
            }],
        };
        let bytes = cdr_encoding::to_vec::<_, LittleEndian>(&array).unwrap();
        // As rclpy's serialize_message writes it, without the encapsulation header.
        let expected =
            b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x0e\0\0\0metagd: input\0\0\0\
            \x03\0\0\0no\0\0\x04\0\0\0lwr\0\x01\0\0\0\x0a\0\0\0rate [Hz]\0\0\0\x04\0\0\09.5\0";
        assert_eq!(bytes, expected);
        let (read, _) = cdr_encoding::from_bytes::<DiagnosticArray, LittleEndian>(&bytes).unwrap();
        assert_eq!(read, array);
    }
}
