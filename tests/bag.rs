//! Bags and CSV as files: round trips, what is tolerated, and what each error says.

#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::fs;
use std::path::{Path, PathBuf};

use metagd::bag::{
    BagError, BagReader, BagWriter, Compression, Filter, Recording, RecordingOptions, Row, SkipReason, Split,
    Storage, Topic,
};
use metagd::msg::{Float64MultiArray, Header, JointState, Time};
use proptest::prelude::*;

const JOINT_STATE: &str = "sensor_msgs/msg/JointState";
const MS: i64 = 1_000_000;

const FORMS: [(Storage, Compression); 7] = [
    (Storage::Mcap, Compression::None),
    (Storage::Mcap, Compression::ZstdChunk),
    (Storage::Mcap, Compression::ZstdFile),
    (Storage::Mcap, Compression::ZstdMessage),
    (Storage::Sqlite3, Compression::None),
    (Storage::Sqlite3, Compression::ZstdFile),
    (Storage::Sqlite3, Compression::ZstdMessage),
];

fn joint_state(stamp_ns: i64, value: f64) -> JointState {
    JointState {
        header: Header { stamp: Time::from_ns(stamp_ns), frame_id: String::new() },
        name: vec!["a".into(), "b".into()],
        position: vec![value, value + 0.5],
        velocity: vec![-value, 1.0],
        effort: vec![10.0 * value, 2.0],
    }
}

/// Writes joint states, each logged 3 ms after its stamp.
fn write(path: &Path, storage: Storage, compression: Compression, split: Split, states: &[JointState]) {
    let mut writer = BagWriter::create(path, storage, compression, split).unwrap();
    writer.add_topic("/joint_states", JOINT_STATE).unwrap();
    for state in states {
        writer.write("/joint_states", state.header.stamp.to_ns() + 3 * MS, state).unwrap();
    }
    writer.finish().unwrap();
}

fn states(count: i64) -> Vec<JointState> {
    (0..count).map(|index| joint_state(1_000_000_000 + index * MS, index as f64)).collect()
}

fn plain(path: &Path, states: &[JointState]) {
    write(path, Storage::Mcap, Compression::None, Split::default(), states);
}

fn open(path: &Path) -> Result<Recording, BagError> {
    Recording::open(path, &RecordingOptions::default())
}

fn rows(recording: &Recording) -> Vec<Row> {
    recording.rows().unwrap().map(|row| row.unwrap()).collect()
}

fn only_file(bag: &Path) -> PathBuf {
    let files = fs::read_dir(bag).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| !file.ends_with("metadata.yaml")).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn error(path: &Path, options: &RecordingOptions) -> String {
    let error = match Recording::open(path, options) {
        Err(error) => error,
        Ok(recording) => recording.rows().unwrap().find_map(|row| row.err()).expect("an error"),
    };
    let text = error.to_string();
    let name = path.file_name().unwrap().to_string_lossy();
    assert!(text.contains(&*name), "the error names the file: {text}");
    text
}

fn rejected(path: &Path, words: &[&str]) {
    let text = error(path, &RecordingOptions::default());
    for word in words {
        assert!(text.contains(word), "`{word}` in: {text}");
    }
}

#[test]
fn every_form_comes_back_in_every_way_of_opening_it() {
    let folder = tempfile::tempdir().unwrap();
    for (storage, compression) in FORMS {
        let path = folder.path().join(format!("{storage}-{compression:?}"));
        write(&path, storage, compression, Split::default(), &states(2500));
        let check = |path: &Path| {
            let recording = open(path).unwrap();
            assert_eq!(recording.joints(), ["a", "b"]);
            assert_eq!(recording.duration_ns(), Some(2499 * MS));
            assert_eq!(recording.len_hint(), Some(2500));
            assert!(recording.notes().is_empty());
            for _ in 0..2 {
                let rows = rows(&recording);
                assert_eq!(rows.len(), 2500);
                for (index, row) in rows.iter().enumerate() {
                    let value = index as f64;
                    assert_eq!(row.stamp_ns, 1_000_000_000 + index as i64 * MS);
                    assert_eq!((row.q[0], row.q[1], row.q[2]), (value, value + 0.5, 0.0));
                    assert_eq!((row.qd[0], row.effort[0], row.effort[1]), (-value, 10.0 * value, 2.0));
                    assert_eq!((row.qdd, row.run), (None, 0));
                }
            }
        };
        check(&path);
        check(&path.join("metadata.yaml"));
        check(&only_file(&path));
        fs::rename(only_file(&path), path.join("no_extension")).unwrap();
        fs::remove_file(path.join("metadata.yaml")).unwrap();
        check(&path);
    }
}

#[test]
fn split_files_are_read_in_order_with_and_without_metadata() {
    let folder = tempfile::tempdir().unwrap();
    for (storage, compression) in [FORMS[1], FORMS[2], FORMS[5]] {
        let path = folder.path().join(format!("{storage}-{compression:?}"));
        let split = Split { bytes: None, duration_ns: Some(10 * MS) };
        write(&path, storage, compression, split, &states(125));
        assert!(fs::read_dir(&path).unwrap().count() == 14, "13 files and metadata.yaml");
        for _ in 0..2 {
            let rows = rows(&open(&path).unwrap());
            assert_eq!(rows.len(), 125);
            assert!(rows.iter().map(|row| row.stamp_ns).is_sorted());
            let _ = fs::remove_file(path.join("metadata.yaml"));
        }
    }
    let path = folder.path().join("by size");
    write(
        &path,
        Storage::Mcap,
        Compression::None,
        Split { bytes: Some(1000), duration_ns: None },
        &states(50),
    );
    assert!(fs::read_dir(&path).unwrap().count() > 5);
    assert_eq!(rows(&open(&path).unwrap()).len(), 50);
}

#[test]
fn overlapping_files_are_merged_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let (even, odd): (Vec<_>, Vec<_>) =
        states(40).into_iter().partition(|state| state.position[0] % 2.0 == 0.0);
    let path = folder.path().join("bag");
    fs::create_dir(&path).unwrap();
    for (number, states) in [(0, even), (1, odd)] {
        let part = folder.path().join("part");
        plain(&part, &states);
        fs::rename(only_file(&part), path.join(format!("bag_{number}.mcap"))).unwrap();
        fs::remove_dir_all(part).unwrap();
    }
    let rows = rows(&open(&path).unwrap());
    assert_eq!(
        rows.iter().map(|row| row.q[0]).collect::<Vec<_>>(),
        (0..40).map(f64::from).collect::<Vec<_>>()
    );
}

#[test]
fn a_reader_filters_by_topic_and_start() {
    let folder = tempfile::tempdir().unwrap();
    for (storage, compression) in FORMS {
        let path = folder.path().join(format!("{storage}-{compression:?}"));
        let mut writer =
            BagWriter::create(&path, storage, compression, Split { bytes: None, duration_ns: Some(40 * MS) })
                .unwrap();
        writer.add_topic("/joint_states", JOINT_STATE).unwrap();
        writer.add_topic("/commands", "std_msgs/msg/Float64MultiArray").unwrap();
        for index in 0..100 {
            let time = 5_000 + index * MS;
            writer.write("/joint_states", time, &joint_state(time, 0.0)).unwrap();
            let floats = Float64MultiArray { data: vec![index as f64], ..Default::default() };
            writer.write("/commands", time, &floats).unwrap();
        }
        writer.finish().unwrap();

        let reader = BagReader::open(&path).unwrap();
        assert_eq!(reader.storage(), storage);
        assert_eq!(reader.time_range_ns(), Some((5_000, 5_000 + 99 * MS)));
        let counts: Vec<_> = reader.topics().iter().map(|topic| topic.message_count).collect();
        assert_eq!(counts, [Some(100), Some(100)]);
        assert_eq!(reader.messages(&Filter::default()).unwrap().count(), 200);
        let filter =
            Filter { topics: vec!["/commands".into()], start_offset_ns: 30 * MS, ..Filter::default() };
        let messages: Vec<_> = reader.messages(&filter).unwrap().map(|message| message.unwrap()).collect();
        assert_eq!(messages.len(), 70);
        assert_eq!(messages[0].log_time_ns, 5_000 + 30 * MS);
        assert!(messages.iter().all(|message| message.topic.name == "/commands"));
        let floats: Float64MultiArray = metagd::bag::cdr::decode(&messages[69].data).unwrap();
        assert_eq!(floats.data, [99.0]);

        let filter = Filter { topics: vec!["/nothing".into()], ..Filter::default() };
        let text = reader.messages(&filter).err().unwrap().to_string();
        assert!(
            text.contains("/nothing") && text.contains("/commands (std_msgs/msg/Float64MultiArray)"),
            "{text}"
        );
    }
}

#[test]
fn a_bag_is_copied_with_types_that_we_do_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let topic = Topic {
        definition: Some(metagd::bag::Definition { encoding: "ros2msg".into(), text: "uint8 x\n".into() }),
        offered_qos_profiles: "- history: 1\n  depth: 10".into(),
        type_description_hash: "RIHS01_00".into(),
        ..Topic::new("/x", "mine/msg/X")
    };
    for from in [Storage::Mcap, Storage::Sqlite3] {
        for to in [Storage::Mcap, Storage::Sqlite3] {
            let first = folder.path().join(format!("{from}"));
            let second = folder.path().join(format!("{from}-{to}"));
            if !first.exists() {
                let mut writer =
                    BagWriter::create(&first, from, Compression::None, Split::default()).unwrap();
                writer.add(&topic).unwrap();
                writer.write_raw("/x", 5, 5, &[0, 1, 0, 0, 42]).unwrap();
                writer.finish().unwrap();
            }
            let reader = BagReader::open(&first).unwrap();
            let mut writer = BagWriter::create(&second, to, Compression::None, Split::default()).unwrap();
            for topic in reader.topics() {
                writer.add(topic).unwrap();
            }
            for message in reader.messages(&Filter::default()).unwrap() {
                let message = message.unwrap();
                let (log, publish) = (message.log_time_ns, message.publish_time_ns);
                writer.write_raw(&message.topic.name, log, publish, &message.data).unwrap();
            }
            writer.finish().unwrap();
            let copy = BagReader::open(&second).unwrap();
            assert_eq!(*copy.topics()[0], Topic { message_count: Some(1), ..topic.clone() });
            let message = copy.messages(&Filter::default()).unwrap().next().unwrap().unwrap();
            assert_eq!((message.log_time_ns, message.data.as_slice()), (5, &[0, 1, 0, 0, 42][..]));
        }
    }
}

#[test]
fn a_writer_refuses_what_would_spoil_the_bag() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bag");
    let mut writer = BagWriter::create(&path, Storage::Mcap, Compression::None, Split::default()).unwrap();
    assert!(matches!(
        BagWriter::create(&path, Storage::Mcap, Compression::None, Split::default()),
        Err(BagError::Exists { .. })
    ));
    writer.add_topic("/joint_states", JOINT_STATE).unwrap();
    let state = joint_state(0, 0.0);
    assert!(writer.write("/other", 0, &state).unwrap_err().to_string().contains("/other"));
    assert!(writer.write("/joint_states", -1, &state).is_err());
    writer.write("/joint_states", 0, &state).unwrap();
    drop(writer);
    assert_eq!(rows(&open(&path).unwrap()).len(), 1, "a dropped writer completes its bag");
    let chunks = folder.path().join("chunks");
    let refused = BagWriter::create(&chunks, Storage::Sqlite3, Compression::ZstdChunk, Split::default());
    assert!(refused.is_err() && !chunks.exists());
}

#[test]
fn of_several_topics_the_one_called_joint_states_is_the_robots() {
    let folder = tempfile::tempdir().unwrap();
    let bag = |name: &str, topics: &[&str]| {
        let path = folder.path().join(name);
        let mut writer =
            BagWriter::create(&path, Storage::Mcap, Compression::None, Split::default()).unwrap();
        for (value, topic) in topics.iter().enumerate() {
            writer.add_topic(topic, JOINT_STATE).unwrap();
            let state = joint_state(1_000_000_000, value as f64);
            writer.write(topic, state.header.stamp.to_ns(), &state).unwrap();
        }
        writer.finish().unwrap();
        path
    };
    let robot = open(&bag("robot", &["/metagd/feedforward", "/arm/joint_states"])).unwrap();
    assert_eq!(rows(&robot)[0].q[0], 1.0);
    for (name, topics) in
        [("two", ["/left/joint_states", "/right/joint_states"]), ("none", ["/states", "/efforts"])]
    {
        let text = error(&bag(name, &topics), &RecordingOptions::default());
        assert!(text.contains("choose one by name") && topics.iter().all(|t| text.contains(t)), "{text}");
    }
}

#[test]
fn joints_are_mapped_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bag");
    let mut states = states(3);
    let turned = &mut states[1];
    turned.name.reverse();
    for values in [&mut turned.position, &mut turned.velocity, &mut turned.effort] {
        values.reverse();
    }
    plain(&path, &states);
    let wanted: Vec<_> = rows(&open(&path).unwrap()).iter().map(|row| (row.q[0], row.q[1])).collect();
    assert_eq!(wanted, [(0.0, 0.5), (1.0, 1.5), (2.0, 2.5)]);
    let options = RecordingOptions { joints: vec!["b".into()], ..Default::default() };
    let only_b = Recording::open(&path, &options).unwrap();
    assert_eq!(
        rows(&only_b).iter().map(|row| (row.q[0], row.q[1])).collect::<Vec<_>>(),
        [(0.5, 0.0), (1.5, 0.0), (2.5, 0.0)]
    );
    let options = RecordingOptions { joints: vec!["b".into(), "c".into()], ..Default::default() };
    let text = error(&path, &options);
    assert!(text.contains("/joint_states has no joint c; it names a, b"), "{text}");
}

#[test]
fn incomplete_messages_are_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bag");
    let mut states = states(8);
    states[1].name[0] = "x".into();
    states[2].position.clear();
    states[3].velocity.pop();
    states[4].effort.clear();
    states[5].effort[1] = f64::NAN;
    states[6].name = vec!["a".into(); 65];
    plain(&path, &states);
    let recording = open(&path).unwrap();
    let mut rows = recording.rows().unwrap();
    assert_eq!(rows.by_ref().map(|row| row.unwrap().q[0]).collect::<Vec<_>>(), [0.0, 7.0]);
    for reason in SkipReason::ALL {
        let expected = u64::from(reason != SkipReason::NoTorque);
        assert_eq!(rows.skipped().count(reason), expected, "{}", reason.name());
    }
    assert_eq!(rows.skipped().total(), 6);
}

#[test]
fn a_recording_without_efforts_is_an_error_that_counts_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bag");
    let mut states = states(5);
    states.iter_mut().for_each(|state| state.effort.clear());
    plain(&path, &states);
    rejected(&path, &["/joint_states", "5 missing_effort"]);
}

#[test]
fn stamps_that_do_not_run_are_replaced_by_the_log_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zero");
    let mut writer = BagWriter::create(&path, Storage::Sqlite3, Compression::None, Split::default()).unwrap();
    writer.add_topic("/joint_states", JOINT_STATE).unwrap();
    for index in 0..5 {
        writer.write("/joint_states", 100 + index, &joint_state(0, 0.0)).unwrap();
    }
    writer.finish().unwrap();
    let recording = open(&path).unwrap();
    let stamps: Vec<_> = rows(&recording).iter().map(|row| row.stamp_ns).collect();
    assert_eq!(stamps, [100, 101, 102, 103, 104]);
    assert!(recording.notes()[0].contains("all zero"), "{:?}", recording.notes());

    // One step backwards is for the intake to judge, and starting at zero is no fault.
    let path = folder.path().join("mostly");
    plain(&path, &[0, 1, 2, 1, 3, 4].map(|stamp| joint_state(stamp * MS, 0.0)));
    let recording = open(&path).unwrap();
    let mut stamps: Vec<_> = rows(&recording).iter().map(|row| row.stamp_ns / MS).collect();
    stamps.sort_unstable();
    assert_eq!(stamps, [0, 1, 1, 2, 3, 4]);
    assert!(recording.notes().is_empty());
}

#[test]
fn torques_of_their_own_topic_are_paired() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bag");
    let mut writer = BagWriter::create(&path, Storage::Mcap, Compression::None, Split::default()).unwrap();
    writer.add_topic("/joint_states", JOINT_STATE).unwrap();
    writer.add_topic("/torques", JOINT_STATE).unwrap();
    writer.add_topic("/floats", "std_msgs/msg/Float64MultiArray").unwrap();
    writer.add_topic("/other", "std_msgs/msg/String").unwrap();
    for index in 0..10 {
        let time = 1_000 * MS + index * MS;
        let mut state = joint_state(time, index as f64);
        state.effort.clear();
        // First the torque is logged before its joint state, later after the next one.
        let delay = if index < 5 { -MS / 2 } else { MS + MS / 2 };
        let torque = JointState {
            header: Header { stamp: Time::from_ns(time + 1000), frame_id: String::new() },
            name: vec!["b".into(), "a".into()],
            effort: vec![20.0, index as f64],
            ..Default::default()
        };
        writer.write("/joint_states", time, &state).unwrap();
        if index != 4 {
            writer.write("/torques", time + delay, &torque).unwrap();
            let floats = Float64MultiArray { data: vec![index as f64, 20.0], ..Default::default() };
            writer.write("/floats", time + 10, &floats).unwrap();
        }
    }
    writer.finish().unwrap();
    for torque_topic in ["/torques", "/floats"] {
        let options = RecordingOptions {
            topic: Some("/joint_states".into()),
            torque_topic: Some(torque_topic.into()),
            ..Default::default()
        };
        let recording = Recording::open(&path, &options).unwrap();
        let mut rows = recording.rows().unwrap();
        let found: Vec<_> = rows.by_ref().map(|row| row.unwrap()).map(|row| (row.q[0], row.effort)).collect();
        assert_eq!(found.len(), 9, "{torque_topic}");
        for (q, effort) in found {
            assert_eq!((effort[0], effort[1]), (q, 20.0), "{torque_topic}");
        }
        assert_eq!(rows.skipped().count(SkipReason::NoTorque), 1, "{torque_topic}");
    }
    let text = error(&path, &RecordingOptions::default());
    assert!(text.contains("/joint_states") && text.contains("missing_effort"), "{text}");
    let with = |torque: &str| RecordingOptions {
        topic: Some("/joint_states".into()),
        torque_topic: Some(torque.into()),
        ..Default::default()
    };
    assert!(error(&path, &with("/other")).contains("is of type std_msgs/msg/String"));
    assert!(error(&path, &with("/gone")).contains("no topic /gone"));
}

#[test]
fn what_is_no_recording_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    rejected(&folder.path().join("absent.mcap"), &["No such file"]);
    rejected(&file("empty.mcap", b""), &["empty"]);
    rejected(&file("old.bag", b"#ROSBAG V2.0\n"), &["ROS 1", "rosbags-convert"]);
    rejected(&file("noise.db3", &[7; 100]), &["not a recording", "unknown content"]);
    rejected(&file("noise.zstd", &zstd::encode_all(&[7; 100][..], 1).unwrap()), &["not a recording"]);
    rejected(&file("broken.zstd", &[0x28, 0xb5, 0x2f, 0xfd, 9, 9, 9, 9, 9, 9]), &["zstd"]);

    let other = folder.path().join("other.db3");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE x(y)").unwrap();
    rejected(&other, &["without rosbag2's tables"]);

    let empty = folder.path().join("empty_folder");
    fs::create_dir(&empty).unwrap();
    rejected(&empty, &["an empty folder"]);
    fs::write(empty.join("notes.txt"), "hello").unwrap();
    rejected(&empty, &["notes.txt"]);
    fs::write(empty.join("x_0.db3"), "").unwrap();
    let text = open(&empty).err().unwrap().to_string();
    assert!(text.contains("x_0.db3: the file is empty"), "{text}");

    for storage in [Storage::Mcap, Storage::Sqlite3] {
        let path = folder.path().join(format!("none-{storage}"));
        write(&path, storage, Compression::None, Split::default(), &[]);
        rejected(&path, &["/joint_states", "no messages"]);

        let path = folder.path().join(format!("strings-{storage}"));
        let mut writer = BagWriter::create(&path, storage, Compression::None, Split::default()).unwrap();
        writer.add_topic("/chatter", "std_msgs/msg/String").unwrap();
        writer.finish().unwrap();
        rejected(&path, &["no topic of type sensor_msgs/msg/JointState", "/chatter (std_msgs/msg/String)"]);
        let options = RecordingOptions { topic: Some("/chatter".into()), ..Default::default() };
        assert!(error(&path, &options).contains("is of type std_msgs/msg/String"));

        let path = folder.path().join(format!("json-{storage}"));
        let mut writer = BagWriter::create(&path, storage, Compression::None, Split::default()).unwrap();
        let topic = Topic { serialization_format: "json".into(), ..Topic::new("/j", JOINT_STATE) };
        writer.add(&topic).unwrap();
        writer.write_raw("/j", 0, 0, b"{}").unwrap();
        writer.finish().unwrap();
        rejected(&path, &["serialization", "json", "/j", "cdr"]);
    }

    let two = folder.path().join("two");
    fs::create_dir(&two).unwrap();
    for name in ["one", "another"] {
        let part = folder.path().join(name);
        plain(&part, &states(2));
        fs::copy(only_file(&part), two.join(format!("{name}_0.mcap"))).unwrap();
    }
    rejected(&two, &["several bags", "another_0.mcap, one_0.mcap"]);
}

#[test]
fn metadata_that_lies_is_told_or_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bag");
    plain(&path, &states(4));
    let metadata = path.join("metadata.yaml");
    let text = fs::read_to_string(&metadata).unwrap();

    fs::write(&metadata, "rosbag2_bagfile_inf").unwrap();
    let recording = open(&path).unwrap();
    assert_eq!(rows(&recording).len(), 4);
    assert!(recording.notes()[0].contains("metadata.yaml: unreadable"), "{:?}", recording.notes());

    fs::write(&metadata, text.replace("bag_0.mcap", "old_folder/bag_0.mcap")).unwrap();
    assert_eq!(rows(&open(&path).unwrap()).len(), 4);

    let told = |from: &str, to: &str, words: &[&str]| {
        assert!(text.contains(from));
        fs::write(&metadata, text.replace(from, to)).unwrap();
        let error = open(&path).err().unwrap().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    told("bag_0.mcap", "bag_7.mcap", &["bag_7.mcap", "No such file"]);
    told("storage_identifier: mcap", "storage_identifier: leveldb", &["storage `leveldb`", "mcap, sqlite3"]);
    told("compression_format: \"\"", "compression_format: lz5", &["compression `lz5`", "zstd"]);
}

#[test]
fn lz4_chunks_and_unindexed_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.mcap");
    for compression in [None, Some(mcap::Compression::Lz4), Some(mcap::Compression::Zstd)] {
        for chunks in [true, false] {
            let mut bytes = std::io::Cursor::new(Vec::new());
            let mut writer = mcap::WriteOptions::new()
                .profile("ros2")
                .compression(compression)
                .use_chunks(chunks)
                .chunk_size(Some(2000))
                .emit_summary_records(false)
                .emit_summary_offsets(false)
                .create(&mut bytes)
                .unwrap();
            let schema = writer.add_schema(JOINT_STATE, "ros2msg", b"").unwrap();
            let channel = writer.add_channel(schema, "/j", "cdr", &Default::default()).unwrap();
            for (index, state) in states(100).iter().enumerate() {
                let time = 10 + index as u64;
                let header = mcap::records::MessageHeader {
                    channel_id: channel,
                    sequence: 0,
                    log_time: time,
                    publish_time: time,
                };
                let data = metagd::bag::cdr::encode(state).unwrap();
                writer.write_to_known_channel(&header, &data).unwrap();
            }
            writer.finish().unwrap();
            drop(writer);
            fs::write(&path, bytes.into_inner()).unwrap();
            assert_eq!(rows(&open(&path).unwrap()).len(), 100, "{compression:?} {chunks}");
        }
    }
}

#[test]
fn a_file_that_is_cut_off_is_told_or_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut_0.mcap");
    for (storage, compression) in FORMS {
        let path = folder.path().join(format!("{storage}-{compression:?}"));
        write(&path, storage, compression, Split::default(), &states(400));
        let whole = fs::read(only_file(&path)).unwrap();
        let step = whole.len() / 29;
        for length in (0..whole.len()).step_by(step.max(1)) {
            fs::write(&cut, &whole[..length]).unwrap();
            let text = |error: BagError| {
                let text = error.to_string();
                assert!(text.contains("cut_0.mcap"), "{text}");
            };
            let options = RecordingOptions { salvage: true, ..Default::default() };
            let strict = open(&cut).map(|recording| recording.rows().unwrap().collect::<Result<Vec<_>, _>>());
            match strict {
                Ok(Ok(rows)) => {
                    let notes = open(&cut).unwrap().notes().len();
                    assert!(rows.len() == 400 && notes == 1, "{storage} {compression:?}: {length} bytes");
                }
                Ok(Err(error)) | Err(error) => text(error),
            }
            if let Ok(recording) = Recording::open(&cut, &options) {
                let rows = recording.rows().unwrap().collect::<Result<Vec<_>, _>>();
                match rows {
                    Ok(rows) => {
                        assert!(rows.iter().enumerate().all(|(index, row)| row.q[0] == index as f64));
                        assert!(recording.notes()[0].contains("no index"), "{:?}", recording.notes());
                    }
                    Err(error) => text(error),
                }
            }
        }
    }
}

#[test]
fn messages_before_a_cut_come_before_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.mcap");
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = mcap::WriteOptions::new().use_chunks(false).profile("ros2").create(&mut bytes).unwrap();
    let schema = writer.add_schema(JOINT_STATE, "ros2msg", b"").unwrap();
    let channel = writer.add_channel(schema, "/j", "cdr", &Default::default()).unwrap();
    let data = metagd::bag::cdr::encode(&joint_state(0, 1.0)).unwrap();
    for time in 0..20 {
        let header = mcap::records::MessageHeader {
            channel_id: channel,
            sequence: 0,
            log_time: time,
            publish_time: time,
        };
        writer.write_to_known_channel(&header, &data).unwrap();
    }
    writer.finish().unwrap();
    drop(writer);
    let bytes = bytes.into_inner();
    let record = 9 + 22 + data.len();
    let end = bytes.windows(data.len()).rposition(|window| window == data).unwrap() + data.len();
    fs::write(&path, &bytes[..end - record - 5]).unwrap();
    let reader = BagReader::open(&path).unwrap();
    assert!(reader.notes()[0].contains("after 18 messages"), "{:?}", reader.notes());
    let read: Vec<_> = reader.messages(&Filter::default()).unwrap().collect();
    assert_eq!(read.iter().filter(|message| message.is_ok()).count(), 18);
    let last = read.last().unwrap().as_ref().unwrap_err().to_string();
    assert!(last.contains("truncated") && last.contains("18 readable messages"), "{last}");
    let salvaged = reader.messages(&Filter { salvage: true, ..Filter::default() }).unwrap();
    assert_eq!(salvaged.filter(|message| message.is_ok()).count(), 18);

    // A cut between two records is only a missing end.
    fs::write(&path, &bytes[..end - record]).unwrap();
    let reader = BagReader::open(&path).unwrap();
    assert!(reader.notes()[0].contains("not closed"), "{:?}", reader.notes());
    assert_eq!(reader.messages(&Filter::default()).unwrap().filter(|m| m.is_ok()).count(), 19);
}

#[test]
fn a_split_bag_whose_recorder_crashed_is_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bag");
    let split = Split { bytes: None, duration_ns: Some(10 * MS) };
    write(&path, Storage::Mcap, Compression::ZstdChunk, split, &states(25));
    fs::remove_file(path.join("metadata.yaml")).unwrap();
    let last = path.join("bag_2.mcap");
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..200]).unwrap();
    let recording = open(&path).unwrap();
    assert!(recording.notes()[0].contains("bag_2.mcap: no index: it is cut off"), "{:?}", recording.notes());
    let read: Vec<_> = recording.rows().unwrap().collect();
    assert_eq!(read.len(), 21);
    assert!(matches!(&read[20], Err(BagError::Truncated { path, .. }) if *path == last));
    let options = RecordingOptions { salvage: true, ..Default::default() };
    assert_eq!(rows(&Recording::open(&path, &options).unwrap()).len(), 20);
}

#[test]
fn what_a_crashed_recorder_left_in_the_journal_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bag");
    write(&path, Storage::Sqlite3, Compression::None, Split::default(), &states(10));
    let file = only_file(&path);
    let recorder = rusqlite::Connection::open(&file).unwrap();
    let mode = |name: &str| {
        recorder.query_row(&format!("PRAGMA journal_mode={name}"), [], |row| row.get::<_, String>(0)).unwrap()
    };
    assert_eq!(mode("wal"), "wal");
    recorder
        .execute_batch(
            "INSERT INTO messages(topic_id, timestamp, data) SELECT 1, 9000000000, data FROM messages",
        )
        .unwrap();
    let crashed = folder.path().join("crashed_0.db3");
    fs::copy(&file, &crashed).unwrap();
    fs::copy(path.join("bag_0.db3-wal"), folder.path().join("crashed_0.db3-wal")).unwrap();
    assert_eq!(rows(&open(&crashed).unwrap()).len(), 20);
}

#[test]
fn readers_and_writers_may_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<BagReader>();
    is_send::<BagWriter>();
    is_send::<Recording>();
    is_send::<metagd::bag::Messages>();
    is_send::<metagd::bag::Rows>();
}

fn csv(content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv");
    fs::write(&path, content).unwrap();
    (folder, path)
}

#[test]
fn csv_is_read_plain_and_packed() {
    let text = "run,t,q1,q2,qd1,qd2,qdd1,qdd2,tau2,tau1,comment\n\
                1,0.00,1,2,3,4,5,6,7,8,x\n1,0.01,1e-3,2,3,4,5,6,7,8,y\n2,0.0,nan,2,3,4,5,6,7,8,\n2,0.01, 9 ,2,3,4,5,6,7,8,\n";
    let (folder, path) = csv(text);
    let packed = folder.path().join("packed");
    let mut encoder = flate2::write::GzEncoder::new(fs::File::create(&packed).unwrap(), Default::default());
    std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    encoder.finish().unwrap();
    for path in [&path, &packed] {
        let recording = open(path).unwrap();
        assert_eq!(recording.joints(), ["joint_1", "joint_2"]);
        assert!(recording.has_acceleration());
        let mut rows = recording.rows().unwrap();
        let read: Vec<_> = rows.by_ref().map(|row| row.unwrap()).collect();
        let brief: Vec<_> = read.iter().map(|row| (row.run, row.stamp_ns, row.q[0])).collect();
        assert_eq!(brief, [(1, 0, 1.0), (1, 10 * MS, 0.001), (2, 10 * MS, 9.0)]);
        assert_eq!((read[0].effort[0], read[0].effort[1], read[0].qd[1]), (8.0, 7.0, 4.0));
        assert_eq!(read[0].qdd.map(|qdd| (qdd[0], qdd[1])), Some((5.0, 6.0)));
        assert_eq!(rows.skipped().count(SkipReason::NonFinite), 1);
    }
    let options = |joints: &[&str]| RecordingOptions {
        joints: joints.iter().map(|joint| (*joint).to_owned()).collect(),
        ..Default::default()
    };
    assert_eq!(Recording::open(&path, &options(&["x", "y"])).unwrap().joints(), ["x", "y"]);
    assert!(error(&path, &options(&["x"])).contains("it has 2 joints, but 1 are named"));

    let bytes = fs::read(&packed).unwrap();
    fs::write(&packed, &bytes[..bytes.len() - 12]).unwrap();
    rejected(&packed, &["truncated"]);
}

#[test]
fn csv_errors_say_where() {
    let told = |content: &str, words: &[&str]| {
        let (_folder, path) = csv(content);
        rejected(&path, words);
    };
    told("", &["empty"]);
    told("t,q1,qd1,tau1\n", &["no rows"]);
    told("hello world\n1\n", &["no columns q1", "hello world"]);
    told("t,q1,q2,qd1,tau1,tau2\n0,0,0,0,0,0\n", &["missing for 2 joints: qd2"]);
    told("q1,qd1,tau1\n0,0,0\n", &["missing for 1 joints: t"]);
    told("t,q1,qd1,qdd2,tau1\n0,0,0,0,0\n", &["q2", "qdd1", "tau2"]);
    told("t,q1,q1,qd1,tau1\n0,0,0,0,0\n", &["q1 comes twice"]);
    told("t,q1,qd1,tau1\n0,0,0,0\n1,0,zero,0\n", &["line 3", "column qd1", "`zero` is not a number"]);
    told("t,q1,qd1,tau1\n0,0,0,0\n1,0\n", &["line 3", "2 cells", "4"]);
    told("t,q1,qd1,tau1,run\n0,0,0,0,-1\n", &["line 2", "column run", "`-1`"]);
    told("t,q1,qd1,tau1\n1e30,0,0,0\n", &["line 2", "column t", "too large"]);
    told("t,q17,qd1,tau1\n0,0,0,0\n", &["17 joints", "at most 16"]);
    told("t,q1,qd1,tau1\n0,nan,0,0\n", &["not one usable row", "1 non_finite"]);
}

fn data() -> Option<PathBuf> {
    let path = match std::env::var_os("METAGD_DATA") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    if !path.is_dir() {
        eprintln!("SKIPPED: no {}; METAGD_DATA names the folder of recordings", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn a_real_bag_without_metadata() {
    let Some(data) = data() else { return };
    let recording = open(&data.join("joint_states_bag")).unwrap();
    assert_eq!(recording.joints(), (1..=7).map(|joint| format!("fer_joint{joint}")).collect::<Vec<_>>());
    assert_eq!(recording.len_hint(), Some(727));
    assert!(recording.notes().is_empty(), "{:?}", recording.notes());
    let rows = rows(&recording);
    assert_eq!(rows.len(), 727);
    assert_eq!((rows[0].stamp_ns, rows[1].stamp_ns), (0, 33_382_177));
    assert_eq!(rows[0].q[0], f64::from_bits(0xc002_06d5_e0c1_151c));
    assert_eq!(rows[0].effort[0], -5.211_439_132_690_43);
    assert!(rows.iter().map(|row| row.stamp_ns).is_sorted());
}

#[test]
fn real_csv_recordings() {
    let Some(data) = data() else { return };
    for name in ["kuka_lwr4plus_meas1", "kuka_lwr4plus_meas2"] {
        let recording = open(&data.join("kuka_lwr4plus").join(format!("{name}.csv.gz"))).unwrap();
        assert!(recording.has_acceleration());
        let rows = rows(&recording);
        assert_eq!(rows.len(), 5027);
        assert!(rows.windows(2).all(|pair| pair[1].stamp_ns > pair[0].stamp_ns));
    }
    let recording = open(&data.join("kuka_pickplace/kuka_pickplace_10runs.csv.gz")).unwrap();
    assert!(!recording.has_acceleration() && recording.joints().len() == 7);
    let rows = rows(&recording);
    assert_eq!((rows.len(), rows[0].run, rows[20_067].run), (20_068, 1, 10));
}

/// Reads all there is; whether it works does not matter.
fn read_to_the_end(path: &Path) {
    for salvage in [false, true] {
        if let Ok(recording) = Recording::open(path, &RecordingOptions { salvage, ..Default::default() })
            && let Ok(rows) = recording.rows()
        {
            rows.take(1000).for_each(drop);
        }
        if let Ok(reader) = BagReader::open(path)
            && let Ok(messages) =
                reader.messages(&Filter { start_offset_ns: 2, salvage, ..Filter::default() })
        {
            messages.take(1000).for_each(drop);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn damaged_bags_never_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
        form in 0_usize..FORMS.len(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let bag = folder.path().join("bag");
        let (storage, compression) = FORMS[form];
        write(&bag, storage, compression, Split::default(), &states(12));
        let file = only_file(&bag);
        let mut bytes = fs::read(&file).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        fs::write(&file, &bytes).unwrap();
        read_to_the_end(&file);
    }

    #[test]
    fn no_records_panic(
        records in proptest::collection::vec(
            (0_u8..16, proptest::option::weighted(0.2, any::<u64>()), proptest::collection::vec(0_u8..6, 0..80)),
            0..12,
        ),
    ) {
        let mut bytes = mcap::MAGIC.to_vec();
        for (opcode, length, body) in records {
            bytes.push(opcode);
            bytes.extend(length.unwrap_or(body.len() as u64).to_le_bytes());
            bytes.extend(body);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &bytes).unwrap();
        read_to_the_end(file.path());
    }

    #[test]
    fn no_csv_panics(
        header in proptest::sample::select(vec!["t,q1,qd1,tau1\n", "run,t,q1,qd1,qdd1,tau1\n", ""]),
        body in "[0-9eEnaif.,\n\"\\-;+ xü]{0,120}",
    ) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("{header}{body}")).unwrap();
        read_to_the_end(file.path());
    }
}
