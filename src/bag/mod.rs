//! Recordings: rosbag2 in and out (MCAP and SQLite3, zstd, CDR), and CSV.
//!
//! Contract: called by the commands, the experiments and the simulator, from any one thread at a time; reads and writes
//! files, so it blocks and allocates, and must never be called from the pinned thread. Everything is streamed: memory
//! holds a chunk or a page of a bag, never the bag. Whatever the bytes are, the answer is a value or a [`BagError`] that
//! names the file (and the topic), never a panic, and a length that a file claims is never allocated before the bytes
//! are seen to be there.
//!
//! - [`Recording`] gives a joint-state recording, bag or CSV alike, as rows in joint order.
//! - [`BagReader`] gives any messages of a bag in time order over its files.
//! - [`BagWriter`] writes a bag that `ros2 bag` from Humble to Jazzy and PyPI's `rosbags` read.
//!
//! Formats: rosbag2's metadata.yaml versions 1 to 9, its SQLite schemas 1 to 4, and <https://mcap.dev/spec>.

pub mod cdr;
mod csv_file;
mod definitions;
mod discover;
mod error;
mod mcap_file;
mod metadata;
mod reader;
mod recording;
mod sqlite_file;
mod writer;

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

pub use error::BagError;
pub use reader::{BagReader, Filter, Messages};
pub use recording::{Recording, RecordingOptions, Row, Rows, SkipReason, Skipped};
pub use writer::{BagWriter, Compression, Split, Written};

/// The container that holds a bag's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// An `.mcap` file, the default since ROS 2 Iron.
    Mcap,
    /// A `.db3` file, the default until ROS 2 Humble.
    Sqlite3,
}

impl Storage {
    /// rosbag2's storage identifier.
    pub fn identifier(self) -> &'static str {
        match self {
            Storage::Mcap => "mcap",
            Storage::Sqlite3 => "sqlite3",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Storage::Mcap => "mcap",
            Storage::Sqlite3 => "db3",
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.identifier())
    }
}

/// The text that defines a message type, as bags carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// `ros2msg` or `ros2idl`.
    pub encoding: String,
    /// The definition, followed by those of the types that it uses.
    pub text: String,
}

/// One topic of a bag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// The topic's name.
    pub name: String,
    /// The message type, `package/msg/Name`.
    pub type_name: String,
    /// How its messages are serialized; only `cdr` can be read.
    pub serialization_format: String,
    /// What its publishers offered, in the YAML of the bag's version; empty if unknown.
    pub offered_qos_profiles: String,
    /// The type's hash (`RIHS01_...`); empty if unknown.
    pub type_description_hash: String,
    /// The type's definition, where the bag carries it.
    pub definition: Option<Definition>,
    /// How many messages the bag holds of it, where the bag says so.
    pub message_count: Option<u64>,
}

impl Topic {
    /// A topic of CDR messages, with definition and hash filled in for the types of [`crate::msg`].
    pub fn new(name: &str, type_name: &str) -> Self {
        let known = definitions::known(type_name);
        Topic {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            serialization_format: "cdr".to_owned(),
            type_description_hash: known.map_or_else(String::new, |known| known.hash.to_owned()),
            definition: known.map(definitions::Known::definition),
            ..Topic::default()
        }
    }
}

/// One message as it stands in a bag.
#[derive(Clone, Debug, PartialEq)]
pub struct RawMessage {
    /// The topic that it was published on.
    pub topic: Arc<Topic>,
    /// When the recorder received it, ns since the epoch.
    pub log_time_ns: i64,
    /// When it was published, ns since the epoch (the log time, where the bag does not say).
    pub publish_time_ns: i64,
    /// CDR with its four-byte encapsulation header: what goes over the wire.
    pub data: Vec<u8>,
}

/// What there is to say of one file of a bag.
struct FileSummary {
    /// The file's own numbers of its topics.
    channels: Vec<(i64, Topic)>,
    /// First and last log time, ns; `None` without messages.
    range_ns: Option<(i64, i64)>,
    /// Where the file is cut off within a record.
    truncated_at: Option<u64>,
    /// What is unusual about the file.
    note: Option<String>,
}

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The longest message that is believed once unpacked.
const MAX_MESSAGE_BYTES: usize = 1 << 28;

/// A message's CDR bytes, unpacked if the bag compresses each message. CDR begins with a zero and zstd does not, so
/// that the bytes tell, even where metadata.yaml is lost.
fn uncompressed(data: &[u8]) -> io::Result<Vec<u8>> {
    if !data.starts_with(&ZSTD_MAGIC) {
        return Ok(data.to_vec());
    }
    let size = zstd::bulk::Decompressor::upper_bound(data).unwrap_or(0).min(1 << 16);
    let mut unpacked = Vec::with_capacity(size);
    zstd::stream::read::Decoder::with_buffer(data)?
        .take(MAX_MESSAGE_BYTES as u64 + 1)
        .read_to_end(&mut unpacked)?;
    if unpacked.len() > MAX_MESSAGE_BYTES {
        return Err(io::Error::other(format!("it unpacks to more than {MAX_MESSAGE_BYTES} bytes")));
    }
    Ok(unpacked)
}
