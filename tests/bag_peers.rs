//! Bags against an independent peer: PyPI's `rosbags` reads what we write, and we read what it writes.

use std::path::Path;
use std::process::Command;

use metagd::bag::{BagReader, BagWriter, Compression, Filter, Recording, RecordingOptions, Split, Storage};
use metagd::msg::{
    Duration, Float64MultiArray, Header, JointState, JointTrajectory, JointTrajectoryPoint, Time,
};

/// Runs a script with the Python that has `rosbags`; `None`, said plainly, if there is none and none is required.
fn python(script: &str, arguments: &[&Path]) -> Option<String> {
    let python = std::env::var("METAGD_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_rosbags = Command::new(&python)
        .args(["-c", "import rosbags.rosbag2, rosbags.typesys"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_rosbags {
        let required = std::env::var("METAGD_REQUIRE_PEERS").is_ok_and(|value| value == "1");
        assert!(!required, "METAGD_REQUIRE_PEERS=1, but {python} cannot import rosbags");
        eprintln!(
            "SKIPPED: {python} cannot import rosbags (pip install rosbags; METAGD_PYTHON names the Python)"
        );
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    let output = Command::new(&python).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn reads_what_rosbags_writes() {
    let folder = tempfile::tempdir().unwrap();
    let Some(names) = python("bag_write.py", &[folder.path()]) else { return };
    let names: Vec<_> = names.lines().collect();
    assert_eq!(names.len(), 14);
    for name in names {
        let bag = folder.path().join(name);
        check_peers_bag(&bag, name);
        std::fs::remove_file(bag.join("metadata.yaml")).unwrap();
        check_peers_bag(&bag, &format!("{name} without metadata.yaml"));
        let file = std::fs::read_dir(&bag).unwrap().next().unwrap().unwrap().path();
        check_peers_bag(&file, &format!("{name}'s file"));
    }
}

fn check_peers_bag(path: &Path, name: &str) {
    let recording =
        Recording::open(path, &RecordingOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(recording.joints(), ["elbow", "shoulder", "wrist"], "{name}");
    assert!(recording.notes().is_empty(), "{name}: {:?}", recording.notes());
    let rows: Vec<_> = recording.rows().unwrap().map(|row| row.unwrap()).collect();
    assert_eq!(rows.len(), 60, "{name}");
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row.stamp_ns, 100_000_000_000 + index as i64 * 1_000_000, "{name}");
        for joint in 0..3 {
            let value = index as f64 * 0.25 + joint as f64;
            let expected = (value, value + 100.0, value + 200.0);
            assert_eq!((row.q[joint], row.qd[joint], row.effort[joint]), expected, "{name}, row {index}");
        }
    }
    let reader = BagReader::open(path).unwrap();
    let topics: Vec<_> = reader.topics().iter().map(|topic| (&*topic.name, &*topic.type_name)).collect();
    assert_eq!(
        topics,
        [("/chatter", "std_msgs/msg/String"), ("/joint_states", "sensor_msgs/msg/JointState")],
        "{name}"
    );
    let times: Vec<_> =
        reader.messages(&Filter::default()).unwrap().map(|message| message.unwrap().log_time_ns).collect();
    assert_eq!(times.len(), 120, "{name}");
    assert!(times.is_sorted(), "{name}");
}

fn state(index: u32) -> JointState {
    JointState {
        header: Header { stamp: Time { sec: 7, nanosec: index * 1000 }, frame_id: "base".into() },
        name: vec!["a".into(), "bb".into()],
        position: vec![f64::from(index), 0.5],
        velocity: vec![-1.0, f64::from(index) / 8.0],
        effort: vec![1e-300, -f64::from(index)],
    }
}

#[test]
fn rosbags_reads_what_we_write() {
    let folder = tempfile::tempdir().unwrap();
    let mut bags = Vec::new();
    let start = 1_700_000_000_000_000_000;
    let all = [
        (Storage::Mcap, Compression::None),
        (Storage::Mcap, Compression::ZstdChunk),
        (Storage::Mcap, Compression::ZstdFile),
        (Storage::Mcap, Compression::ZstdMessage),
        (Storage::Sqlite3, Compression::None),
        (Storage::Sqlite3, Compression::ZstdFile),
        (Storage::Sqlite3, Compression::ZstdMessage),
    ];
    for (storage, compression) in all {
        for split in [Split::default(), Split { duration_ns: Some(10_000_000), bytes: None }] {
            let name = format!("{storage}_{compression:?}_{}", split.duration_ns.is_some());
            let path = folder.path().join(name);
            let mut writer = BagWriter::create(&path, storage, compression, split).unwrap();
            writer.add_topic("/joint_states", "sensor_msgs/msg/JointState").unwrap();
            writer.add_topic("/commands", "std_msgs/msg/Float64MultiArray").unwrap();
            writer.add_topic("/point", "trajectory_msgs/msg/JointTrajectoryPoint").unwrap();
            writer.add_topic("/trajectory", "trajectory_msgs/msg/JointTrajectory").unwrap();
            for index in 0..30 {
                let time = start + i64::from(index) * 1_000_000;
                writer.write("/joint_states", time, &state(index)).unwrap();
                let floats = Float64MultiArray { data: vec![f64::from(index); 3], ..Default::default() };
                writer.write("/commands", time + 1, &floats).unwrap();
            }
            let point = JointTrajectoryPoint {
                positions: vec![1.5, 2.5],
                time_from_start: Duration { sec: 1, nanosec: 2 },
                ..Default::default()
            };
            let trajectory = JointTrajectory {
                joint_names: vec!["a".into()],
                points: vec![point.clone(), point.clone()],
                ..Default::default()
            };
            writer.write("/point", start + 30_000_000, &point).unwrap();
            writer.write("/trajectory", start + 31_000_000, &trajectory).unwrap();
            let written = writer.finish().unwrap();
            assert_eq!(written.messages, 62);
            assert_eq!(written.files.len(), if split.duration_ns.is_some() { 4 } else { 1 });
            bags.push((path, storage, compression));
        }
    }
    let paths: Vec<_> = bags.iter().map(|(path, ..)| path.as_path()).collect();
    let Some(found) = python("bag_read.py", &paths) else { return };
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    for (path, storage, compression) in &bags {
        let bag = &found[path.to_str().unwrap()];
        assert_eq!(bag["count"], 62, "{path:?}");
        assert_eq!(bag["start"], start, "{path:?}");
        assert_eq!(bag["duration"], 31_000_001, "{path:?}");
        let mode = match compression {
            Compression::ZstdFile => serde_json::json!(["zstd", "file"]),
            Compression::ZstdMessage => serde_json::json!(["zstd", "message"]),
            _ => serde_json::json!([null, ""]),
        };
        assert_eq!(bag["compression"], mode, "{path:?}");
        for (topic, count) in [("/joint_states", 30), ("/commands", 30), ("/point", 1), ("/trajectory", 1)] {
            let topic = &bag["topics"][topic];
            assert_eq!(topic["count"], count, "{path:?}");
            assert_eq!(topic["definition_matches"], true, "{path:?} {topic}");
            assert_eq!(topic["hash"], topic["hash_expected"], "{path:?} {storage}");
        }
        let messages = bag["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 62, "{path:?}");
        for index in 0..30 {
            let state = state(index);
            let time = start + i64::from(index) * 1_000_000;
            let stamp = state.header.stamp.to_ns();
            let content =
                serde_json::json!([stamp, state.name, state.position, state.velocity, state.effort]);
            let at = index as usize * 2;
            assert_eq!(messages[at], serde_json::json!(["/joint_states", time, content]), "{path:?}");
            let floats = vec![f64::from(index); 3];
            assert_eq!(messages[at + 1], serde_json::json!(["/commands", time + 1, floats]), "{path:?}");
        }
        assert_eq!(messages[60][2], serde_json::json!([1.5, 2.5]), "{path:?}");
        assert_eq!(messages[61][2], serde_json::json!([["a"], [[1.5, 2.5], [1.5, 2.5]]]), "{path:?}");
    }
}
