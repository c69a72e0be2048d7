//! rosbag2's metadata.yaml: what we need of any version, and the version that we write.
//!
//! Version 8 is written: the newest whose quality of service is a string, which Humble (which writes 5) needs, and
//! which Jazzy (which writes 9) and `rosbags` still read. Readers pass over the keys that are newer than they are.

use std::fmt::Write as _;

use serde::Deserialize;

use super::{Storage, Topic};

/// The version that we write.
pub(super) const VERSION: u32 = 8;

/// The newest version that we know.
pub(super) const NEWEST: u32 = 9;

#[derive(Deserialize)]
struct Document {
    rosbag2_bagfile_information: Metadata,
}

/// What we need to know of a bag; the rest is in its files, which are believed rather than this.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) version: u32,
    pub(super) storage_identifier: String,
    pub(super) relative_file_paths: Vec<String>,
    #[serde(default)]
    pub(super) compression_format: Option<String>,
    #[serde(default)]
    topics_with_message_count: Vec<TopicWithCount>,
}

#[derive(Debug, Deserialize)]
struct TopicWithCount {
    topic_metadata: TopicName,
    message_count: u64,
}

#[derive(Debug, Deserialize)]
struct TopicName {
    name: String,
}

impl Metadata {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str::<Document>(text)
            .map(|document| document.rosbag2_bagfile_information)
            .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
    }

    /// How many messages of the topic there are in all files together.
    pub(super) fn message_count(&self, topic: &str) -> Option<u64> {
        self.topics_with_message_count
            .iter()
            .filter(|entry| entry.topic_metadata.name == topic)
            .map(|entry| entry.message_count)
            .reduce(u64::saturating_add)
    }
}

/// What there is to say of one written file.
#[derive(Clone, Debug)]
pub(super) struct FileInformation {
    /// The name within the bag's folder.
    pub(super) name: String,
    /// First and last log time, ns; `None` without messages.
    pub(super) range_ns: Option<(i64, i64)>,
    pub(super) messages: u64,
}

/// Writes the content of `rosbag2_bagfile_information`; `topics` come with their counts.
pub(super) fn render(
    storage: Storage,
    compression_mode: &str,
    topics: &[Topic],
    files: &[FileInformation],
) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let times = |range: Option<(i64, i64)>, indent: &str| {
        let (start, duration) =
            range.map_or((i64::MAX, 0), |(first, last)| (first, last.saturating_sub(first)));
        format!(
            "{indent}starting_time:\n{indent}  nanoseconds_since_epoch: {start}\n\
             {indent}duration:\n{indent}  nanoseconds: {duration}\n"
        )
    };
    let range = files.iter().filter_map(|file| file.range_ns).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));

    let mut text = format!("version: {VERSION}\nstorage_identifier: {storage}\n");
    text += &times(range, "");
    let _ = writeln!(text, "message_count: {}", files.iter().map(|file| file.messages).sum::<u64>());
    text +=
        if topics.is_empty() { "topics_with_message_count: []\n" } else { "topics_with_message_count:\n" };
    for topic in topics {
        let _ = write!(
            text,
            "  - topic_metadata:\n      name: {}\n      type: {}\n      serialization_format: {}\n      \
             offered_qos_profiles: {}\n      type_description_hash: {}\n    message_count: {}\n",
            quoted(&topic.name),
            quoted(&topic.type_name),
            quoted(&topic.serialization_format),
            quoted(&topic.offered_qos_profiles),
            quoted(&topic.type_description_hash),
            topic.message_count.unwrap_or(0),
        );
    }
    let format = if compression_mode.is_empty() { "" } else { "zstd" };
    let _ = write!(text, "compression_format: \"{format}\"\ncompression_mode: \"{compression_mode}\"\n");
    text += "relative_file_paths:\n";
    for file in files {
        let _ = writeln!(text, "  - {}", quoted(&file.name));
    }
    text += "files:\n";
    for file in files {
        let _ = writeln!(text, "  - path: {}", quoted(&file.name));
        text += &times(file.range_ns, "    ");
        let _ = writeln!(text, "    message_count: {}", file.messages);
    }
    text += "custom_data: ~\nros_distro: \"\"\n";
    text
}

/// Makes metadata.yaml of what [`render`] wrote.
pub(super) fn document(information: &str) -> String {
    let mut text = String::from("rosbag2_bagfile_information:\n");
    for line in information.lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_it_writes() {
        let topics =
            [Topic { message_count: Some(7), ..Topic::new("/a \"b\"", "sensor_msgs/msg/JointState") }];
        let files = [
            FileInformation { name: "x_0.mcap".into(), range_ns: Some((5, 9)), messages: 3 },
            FileInformation { name: "x_1.mcap".into(), range_ns: Some((10, 30)), messages: 4 },
        ];
        let text = document(&render(Storage::Mcap, "file", &topics, &files));
        let metadata = Metadata::parse(&text).unwrap();
        assert_eq!(metadata.version, 8);
        assert_eq!(metadata.storage_identifier, "mcap");
        assert_eq!(metadata.relative_file_paths, ["x_0.mcap", "x_1.mcap"]);
        assert_eq!(metadata.compression_format.as_deref(), Some("zstd"));
        assert_eq!(metadata.message_count("/a \"b\""), Some(7));
        assert_eq!(metadata.message_count("/b"), None);
        assert!(text.contains("nanoseconds: 25\n"), "{text}");
    }

    #[test]
    fn reads_versions_4_to_9_and_passes_over_unknown_keys() {
        let qos_4 = "\"- history: 1\\n  depth: 10\"";
        let qos_9 = "[{history: keep_last, depth: 10, lifespan: {sec: 9223372036, nsec: 854775807}}]";
        for version in 4..=9 {
            let qos = if version < 9 { qos_4 } else { qos_9 };
            let text = format!(
                "rosbag2_bagfile_information:\n  version: {version}\n  storage_identifier: sqlite3\n  \
                 from_the_future: {{a: [1, 2]}}\n  duration: {{nanoseconds: 1}}\n  relative_file_paths: [a_0.db3]\n  \
                 topics_with_message_count:\n    - topic_metadata:\n        name: /j\n        type: x/msg/Y\n        \
                 serialization_format: cdr\n        offered_qos_profiles: {qos}\n      message_count: 3\n"
            );
            let metadata = Metadata::parse(&text).unwrap();
            assert_eq!(metadata.version, version);
            assert_eq!(metadata.message_count("/j"), Some(3));
        }
    }

    #[test]
    fn an_error_is_one_line() {
        for text in
            ["", "a: [", "rosbag2_bagfile_information: 3", "rosbag2_bagfile_information: {version: x}"]
        {
            let error = Metadata::parse(text).unwrap_err();
            assert!(!error.is_empty() && !error.contains('\n'), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(rosbag2_bagfile_information:)?[ -~\n]{0,200}") {
            let _ = Metadata::parse(&text);
        }
    }
}
