//! rcl_interfaces/Log: one line of /rosout.

use serde::{Deserialize, Serialize};

use super::{Time, messages};

messages! {
    Log = "rcl_interfaces/msg/Log",
}

/// rcl_interfaces/Log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// When it was said.
    pub stamp: Time,
    /// How serious it is: one of the constants below.
    pub level: u8,
    /// The logger's name: namespace and node, joined by dots.
    pub name: String,
    /// What was said.
    pub msg: String,
    /// The source file.
    pub file: String,
    /// The function, or what holds it.
    pub function: String,
    /// The line in the file.
    pub line: u32,
}

impl Log {
    /// For whoever looks for a fault.
    pub const DEBUG: u8 = 10;
    /// All is as it should be.
    pub const INFO: u8 = 20;
    /// It may lead to trouble.
    pub const WARN: u8 = 30;
    /// Something failed.
    pub const ERROR: u8 = 40;
    /// The node is about to end.
    pub const FATAL: u8 = 50;
}

#[cfg(test)]
mod tests {
    use byteorder::LittleEndian;

    use super::*;

    #[test]
    fn its_bytes_are_those_that_ros_writes() {
        let log = Log {
            stamp: Time { sec: 1, nanosec: 2 },
            level: Log::WARN,
            name: "arm.metagd".into(),
            msg: "slow".into(),
            file: "a.rs".into(),
            function: "f".into(),
            line: 7,
        };
        let bytes = cdr_encoding::to_vec::<_, LittleEndian>(&log).unwrap();
        // As rclpy's serialize_message writes it, without the encapsulation header.
        let expected = b"\x01\0\0\0\x02\0\0\0\x1e\0\0\0\x0b\0\0\0arm.metagd\0\0\x05\0\0\0slow\0\0\0\0\
            \x05\0\0\0a.rs\0\0\0\0\x02\0\0\0f\0\0\0\x07\0\0\0";
        assert_eq!(bytes, expected);
        let (read, _) = cdr_encoding::from_bytes::<Log, LittleEndian>(&bytes).unwrap();
        assert_eq!(read, log);
    }
}
