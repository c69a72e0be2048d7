//! The definitions and hashes of the message types that we write, as bags carry them.

use super::Definition;

/// A type whose definition we know.
pub(super) struct Known {
    type_name: &'static str,
    /// REP 2016 hash, as `ros2 topic info --verbose` prints it.
    pub(super) hash: &'static str,
    fields: &'static str,
    uses: &'static [(&'static str, &'static str)],
}

const HEADER: (&str, &str) = ("std_msgs/Header", "builtin_interfaces/Time stamp\nstring frame_id\n");
const TIME: (&str, &str) = ("builtin_interfaces/Time", "int32 sec\nuint32 nanosec\n");
const DURATION: (&str, &str) = ("builtin_interfaces/Duration", "int32 sec\nuint32 nanosec\n");
const POINT: (&str, &str) = (
    "trajectory_msgs/JointTrajectoryPoint",
    "float64[] positions\nfloat64[] velocities\nfloat64[] accelerations\nfloat64[] effort\n\
     builtin_interfaces/Duration time_from_start\n",
);

const KNOWN: &[Known] = &[
    Known {
        type_name: "sensor_msgs/msg/JointState",
        hash: "RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e",
        fields: "std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort\n",
        uses: &[HEADER, TIME],
    },
    Known {
        type_name: "trajectory_msgs/msg/JointTrajectory",
        hash: "RIHS01_179b33eba59d676f6d967ac71fe35e7ca2f64b2f3928f4a018cec115e213796e",
        fields: "std_msgs/Header header\nstring[] joint_names\ntrajectory_msgs/JointTrajectoryPoint[] points\n",
        uses: &[HEADER, TIME, POINT, DURATION],
    },
    Known {
        type_name: "trajectory_msgs/msg/JointTrajectoryPoint",
        hash: "RIHS01_de8907036d8bd45aac6f30cc9044a3d4a329c42cbf719aff7d95a584cfa532d7",
        fields: POINT.1,
        uses: &[DURATION],
    },
    Known {
        type_name: "std_msgs/msg/Float64MultiArray",
        hash: "RIHS01_1025ddc6b9552d191f89ef1a8d2f60f3d373e28b283d8891ddcc974e8c55397f",
        fields: "std_msgs/MultiArrayLayout layout\nfloat64[] data\n",
        uses: &[
            ("std_msgs/MultiArrayLayout", "std_msgs/MultiArrayDimension[] dim\nuint32 data_offset\n"),
            ("std_msgs/MultiArrayDimension", "string label\nuint32 size\nuint32 stride\n"),
        ],
    },
];

/// The definition of `type_name`, if it is one of ours.
pub(super) fn known(type_name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.type_name == type_name)
}

impl Known {
    /// In the form of MCAP's `ros2msg` schemas: the fields, then those of each type used, behind a line of 80 `=`.
    pub(super) fn definition(&self) -> Definition {
        let mut text = self.fields.to_owned();
        for (name, fields) in self.uses {
            text.push_str(&"=".repeat(80));
            text.push_str("\nMSG: ");
            text.push_str(name);
            text.push('\n');
            text.push_str(fields);
        }
        Definition { encoding: "ros2msg".to_owned(), text }
    }
}
