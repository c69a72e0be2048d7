//! Writes rosbag2 bags.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use mcap::records::MessageHeader;
use rusqlite::Connection;
use serde::Serialize;

use super::metadata::{self, FileInformation};
use super::{BagError, Definition, Storage, Topic, cdr};

/// SQLite's transactions, in messages.
const BATCH: u64 = 1000;
const ZSTD_LEVEL: i32 = 3;

/// How a bag is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// MCAP's own chunks with zstd: needs no unpacking to be read. MCAP only.
    ZstdChunk,
    /// Each file as a whole (`compression_mode: file`).
    ZstdFile,
    /// Each message (`compression_mode: message`).
    ZstdMessage,
}

impl Compression {
    /// The `compression_mode` of metadata.yaml.
    fn mode(self) -> &'static str {
        match self {
            Compression::None | Compression::ZstdChunk => "",
            Compression::ZstdFile => "file",
            Compression::ZstdMessage => "message",
        }
    }
}

/// When a new file is begun; `None`: never for this reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Once a file holds this many bytes of messages.
    pub bytes: Option<u64>,
    /// Once a file spans this much log time, ns.
    pub duration_ns: Option<i64>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The files with messages, in order.
    pub files: Vec<PathBuf>,
    /// How many messages.
    pub messages: u64,
}

/// A bag being written: a folder `NAME` with `NAME_0.mcap` (or `.db3`), `NAME_1...` and metadata.yaml.
///
/// [`BagWriter::finish`] returns once everything is on the disk. A writer that is dropped completes its bag as well as
/// it can, but cannot tell whether it could. A file that was not completed (a crash) can still be read by [`super::BagReader`].
pub struct BagWriter {
    path: PathBuf,
    name: String,
    storage: Storage,
    compression: Compression,
    split: Split,
    /// With the counts of what was written.
    topics: Vec<Topic>,
    files: Vec<FileInformation>,
    current: Option<Current>,
    encoded: Vec<u8>,
    packer: zstd::bulk::Compressor<'static>,
}

/// The file being written.
struct Current {
    path: PathBuf,
    container: Container,
    bytes: u64,
    /// Per topic.
    counts: Vec<u64>,
    information: FileInformation,
}

enum Container {
    Mcap {
        writer: Box<mcap::Writer<BufWriter<File>>>,
        /// Per topic, the file's channel and the next sequence number.
        channels: Vec<(u16, u32)>,
    },
    Sqlite {
        connection: Connection,
        /// Messages in the open transaction.
        uncommitted: u64,
    },
}

impl BagWriter {
    /// Makes the folder `path`, which must not exist yet, and its first file.
    pub fn create(
        path: &Path,
        storage: Storage,
        compression: Compression,
        split: Split,
    ) -> Result<BagWriter, BagError> {
        if compression == Compression::ZstdChunk && storage != Storage::Mcap {
            return Err(BagError::Unsupported {
                path: path.to_owned(),
                what: "chunk compression in storage",
                found: storage.to_string(),
                supported: "mcap",
            });
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name else {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "this is not the name of a new folder");
            return Err(BagError::Io { path: path.to_owned(), source });
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(BagError::io(parent))?;
        }
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BagError::Exists { path: path.to_owned() });
            }
            other => other.map_err(BagError::io(path))?,
        }
        let mut writer = BagWriter {
            path: path.to_owned(),
            name,
            storage,
            compression,
            split,
            topics: Vec::new(),
            files: Vec::new(),
            current: None,
            encoded: Vec::new(),
            packer: zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(BagError::io(path))?,
        };
        writer.begin_file()?;
        Ok(writer)
    }

    /// The bag's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a topic of one of the types of [`crate::msg`] (or any other, then without its definition).
    pub fn add_topic(&mut self, name: &str, type_name: &str) -> Result<(), BagError> {
        self.add(&Topic::new(name, type_name))
    }

    /// Adds a topic as another bag has it, with its definition.
    ///
    /// Its quality of service is kept as it stands if it is written as numbers, which every version reads; the words of
    /// version 9 are left out. A topic that is there already is left as it is.
    pub fn add(&mut self, topic: &Topic) -> Result<(), BagError> {
        if self.topics.iter().any(|known| known.name == topic.name) {
            return Ok(());
        }
        let mut topic = Topic { message_count: Some(0), ..topic.clone() };
        if !is_numeric_qos(&topic.offered_qos_profiles) {
            topic.offered_qos_profiles.clear();
        }
        if let Some(current) = &mut self.current {
            current.add(&topic, self.topics.len())?;
        }
        self.topics.push(topic);
        Ok(())
    }

    /// Writes a message with `stamp_ns` (ns since the epoch, not negative) as its log and publish time.
    pub fn write<T: Serialize>(&mut self, topic: &str, stamp_ns: i64, message: &T) -> Result<(), BagError> {
        let mut encoded = std::mem::take(&mut self.encoded);
        let result = match cdr::encode_into(message, &mut encoded) {
            Ok(()) => self.write_raw(topic, stamp_ns, stamp_ns, &encoded),
            Err(error) => Err(self.refused(topic, error)),
        };
        self.encoded = encoded;
        result
    }

    /// Writes CDR bytes with their encapsulation header.
    pub fn write_raw(
        &mut self,
        topic: &str,
        log_time_ns: i64,
        publish_time_ns: i64,
        data: &[u8],
    ) -> Result<(), BagError> {
        let Some(index) = self.topics.iter().position(|known| known.name == topic) else {
            return Err(self.refused(topic, "the topic was not added to the bag"));
        };
        if log_time_ns < 0 || publish_time_ns < 0 {
            return Err(self.refused(topic, "bags hold no times before 1970"));
        }
        if self.current.as_ref().is_some_and(|current| current.is_full(self.split, log_time_ns)) {
            self.end_file()?;
        }
        if self.current.is_none() {
            self.begin_file()?;
        }
        let packed;
        let data = if self.compression == Compression::ZstdMessage {
            packed = self.packer.compress(data).map_err(BagError::io(&self.path))?;
            packed.as_slice()
        } else {
            data
        };
        if let Some(current) = &mut self.current {
            current.write(index, log_time_ns, publish_time_ns, data)?;
        }
        self.topics[index].message_count = self.topics[index].message_count.map(|count| count + 1);
        Ok(())
    }

    /// Completes the files and writes metadata.yaml; all of it is on the disk when this returns.
    pub fn finish(mut self) -> Result<Written, BagError> {
        self.complete()?;
        Ok(Written {
            files: self.files.iter().map(|file| self.path.join(&file.name)).collect(),
            messages: self.files.iter().map(|file| file.messages).sum(),
        })
    }

    fn refused(&self, topic: &str, what: impl ToString) -> BagError {
        BagError::Write { path: self.path.clone(), topic: topic.to_owned(), what: what.to_string() }
    }

    fn begin_file(&mut self) -> Result<(), BagError> {
        let name = format!("{}_{}.{}", self.name, self.files.len(), self.storage.extension());
        let mut current = Current::create(self.path.join(&name), self.storage, self.compression)?;
        current.information.name = match self.compression {
            Compression::ZstdFile => format!("{name}.zstd"),
            _ => name,
        };
        for (index, topic) in self.topics.iter().enumerate() {
            current.add(topic, index)?;
        }
        self.current = Some(current);
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), BagError> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let topics = self.topics.iter().zip(&current.counts);
        let topics: Vec<_> =
            topics.map(|(topic, &count)| Topic { message_count: Some(count), ..topic.clone() }).collect();
        let (path, information) = (current.path.clone(), current.information.clone());
        let rendered = metadata::render(
            self.storage,
            self.compression.mode(),
            &topics,
            std::slice::from_ref(&information),
        );
        current.close(&rendered)?;
        if self.compression == Compression::ZstdFile {
            pack(&path, &self.path.join(&information.name))?;
        }
        self.files.push(information);
        Ok(())
    }

    fn complete(&mut self) -> Result<(), BagError> {
        if self.current.is_none() && self.path.join("metadata.yaml").exists() {
            return Ok(());
        }
        self.end_file()?;
        let rendered = metadata::render(self.storage, self.compression.mode(), &self.topics, &self.files);
        let path = self.path.join("metadata.yaml");
        replace(&path, |file| file.write_all(metadata::document(&rendered).as_bytes()))
    }
}

impl Drop for BagWriter {
    fn drop(&mut self) {
        if let Err(error) = self.complete() {
            tracing::error!("the bag was not completed: {error}");
        }
    }
}

/// Whether each policy of a quality of service is a number, as before version 9.
fn is_numeric_qos(profiles: &str) -> bool {
    let words = ["history:", "reliability:", "durability:", "liveliness:"];
    profiles.lines().all(|line| {
        let line = line.trim_start_matches(['-', ' ']);
        match words.iter().find_map(|word| line.strip_prefix(word)) {
            Some(value) => value.trim().parse::<u32>().is_ok(),
            None => true,
        }
    })
}

impl Current {
    fn create(path: PathBuf, storage: Storage, compression: Compression) -> Result<Self, BagError> {
        let container = match storage {
            Storage::Mcap => {
                let file = File::create_new(&path).map_err(BagError::io(&path))?;
                let chunks = (compression == Compression::ZstdChunk).then_some(mcap::Compression::Zstd);
                let writer = mcap::WriteOptions::new()
                    .profile("ros2")
                    .library(concat!("metagd ", env!("CARGO_PKG_VERSION")))
                    .compression(chunks)
                    .compression_threads(0)
                    .create(BufWriter::new(file))
                    .map_err(|error| mcap_failed(&path, error))?;
                Container::Mcap { writer: Box::new(writer), channels: Vec::new() }
            }
            Storage::Sqlite3 => {
                let connection = Connection::open(&path).map_err(BagError::sqlite(&path))?;
                connection.execute_batch(SCHEMA).map_err(BagError::sqlite(&path))?;
                Container::Sqlite { connection, uncommitted: 0 }
            }
        };
        let information = FileInformation { name: String::new(), range_ns: None, messages: 0 };
        Ok(Current { path, container, bytes: 0, counts: Vec::new(), information })
    }

    fn is_full(&self, split: Split, log_time_ns: i64) -> bool {
        let Some((first, _)) = self.information.range_ns else { return false };
        split.bytes.is_some_and(|limit| self.bytes >= limit)
            || split.duration_ns.is_some_and(|limit| log_time_ns.saturating_sub(first) >= limit)
    }

    fn add(&mut self, topic: &Topic, index: usize) -> Result<(), BagError> {
        self.counts.push(0);
        let definition = topic.definition.as_ref();
        match &mut self.container {
            Container::Mcap { writer, channels } => {
                let Definition { encoding, text } = definition.cloned().unwrap_or_default();
                let mut of_channel = BTreeMap::new();
                of_channel.insert("offered_qos_profiles".to_owned(), topic.offered_qos_profiles.clone());
                if !topic.type_description_hash.is_empty() {
                    of_channel.insert("topic_type_hash".to_owned(), topic.type_description_hash.clone());
                }
                let channel = writer
                    .add_schema(&topic.type_name, &encoding, text.as_bytes())
                    .and_then(|schema| {
                        writer.add_channel(schema, &topic.name, &topic.serialization_format, &of_channel)
                    })
                    .map_err(|error| mcap_failed(&self.path, error))?;
                channels.push((channel, 0));
            }
            Container::Sqlite { connection, .. } => {
                let add = || {
                    begin(connection)?;
                    connection.execute(
                        "INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?)",
                        (
                            index as i64 + 1,
                            &topic.name,
                            &topic.type_name,
                            &topic.serialization_format,
                            &topic.offered_qos_profiles,
                            &topic.type_description_hash,
                        ),
                    )?;
                    let Some(Definition { encoding, text }) = definition else { return Ok(0) };
                    connection.execute(
                        "INSERT INTO message_definitions(topic_type, encoding, encoded_message_definition, \
                         type_description_hash) SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS \
                         (SELECT 1 FROM message_definitions WHERE topic_type = ?1)",
                        (&topic.type_name, encoding, text, &topic.type_description_hash),
                    )
                };
                add().map_err(BagError::sqlite(&self.path))?;
            }
        }
        Ok(())
    }

    fn write(&mut self, topic: usize, log_ns: i64, publish_ns: i64, data: &[u8]) -> Result<(), BagError> {
        match &mut self.container {
            Container::Mcap { writer, channels } => {
                let (channel_id, sequence) = channels[topic];
                channels[topic].1 = sequence.wrapping_add(1);
                let header = MessageHeader {
                    channel_id,
                    sequence,
                    log_time: log_ns.unsigned_abs(),
                    publish_time: publish_ns.unsigned_abs(),
                };
                writer
                    .write_to_known_channel(&header, data)
                    .map_err(|error| mcap_failed(&self.path, error))?;
            }
            Container::Sqlite { connection, uncommitted } => {
                let mut insert = || {
                    begin(connection)?;
                    connection
                        .prepare("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)")?
                        .execute((topic as i64 + 1, log_ns, data))?;
                    *uncommitted += 1;
                    if *uncommitted == BATCH {
                        connection.execute_batch("COMMIT")?;
                        *uncommitted = 0;
                    }
                    Ok(())
                };
                insert().map_err(BagError::sqlite(&self.path))?;
            }
        }
        self.bytes += data.len() as u64;
        self.counts[topic] += 1;
        self.information.messages += 1;
        let (first, last) = self.information.range_ns.unwrap_or((log_ns, log_ns));
        self.information.range_ns = Some((first.min(log_ns), last.max(log_ns)));
        Ok(())
    }

    fn close(self, information: &str) -> Result<(), BagError> {
        match self.container {
            Container::Mcap { mut writer, .. } => {
                let mut of_bag = BTreeMap::new();
                of_bag.insert("serialized_metadata".to_owned(), information.to_owned());
                writer
                    .write_metadata(&mcap::records::Metadata { name: "rosbag2".to_owned(), metadata: of_bag })
                    .and_then(|()| writer.finish())
                    .map_err(|error| mcap_failed(&self.path, error))?;
                let file = writer.into_inner().into_inner().map_err(io::IntoInnerError::into_error);
                file.and_then(|file| file.sync_all()).map_err(BagError::io(&self.path))
            }
            Container::Sqlite { connection, .. } => {
                let complete = || {
                    begin(&connection)?;
                    connection.execute(
                        "INSERT INTO metadata(metadata_version, metadata) VALUES (?, ?)",
                        (metadata::VERSION, information),
                    )?;
                    connection.execute_batch("COMMIT")
                };
                complete().map_err(BagError::sqlite(&self.path))?;
                connection.close().map_err(|(_, error)| BagError::sqlite(&self.path)(error))
            }
        }
    }
}

/// Begins a transaction if none is open.
fn begin(connection: &Connection) -> rusqlite::Result<()> {
    if connection.is_autocommit() { connection.execute_batch("BEGIN") } else { Ok(()) }
}

/// rosbag2's schema 4.
const SCHEMA: &str = "
    BEGIN;
    CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);
    CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT NOT NULL);
    CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
        serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL, type_description_hash TEXT NOT NULL);
    CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL, encoding TEXT NOT NULL,
        encoded_message_definition TEXT NOT NULL, type_description_hash TEXT NOT NULL);
    CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,
        data BLOB NOT NULL);
    CREATE INDEX timestamp_idx ON messages (timestamp ASC);
    INSERT INTO schema(schema_version, ros_distro) VALUES (4, '');
    COMMIT;
";

fn mcap_failed(path: &Path, error: mcap::McapError) -> BagError {
    let source = match error {
        mcap::McapError::Io(source) => source,
        other => io::Error::other(other),
    };
    BagError::Io { path: path.to_owned(), source }
}

/// Compresses a file into another one and removes the first.
fn pack(from: &Path, to: &Path) -> Result<(), BagError> {
    let mut original = File::open(from).map_err(BagError::io(from))?;
    let size = original.metadata().map_err(BagError::io(from))?.len();
    replace(to, |file| {
        let mut encoder = zstd::stream::write::Encoder::new(file, ZSTD_LEVEL)?;
        // rosbag2 refuses what does not say its size.
        encoder.set_pledged_src_size(Some(size))?;
        encoder.include_contentsize(true)?;
        io::copy(&mut original, &mut encoder)?;
        encoder.finish().map(|_| ())
    })?;
    fs::remove_file(from).map_err(BagError::io(from))
}

/// Writes a file under another name, and gives it its own once it is on the disk.
fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), BagError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let run = || {
        let mut file = File::create(&temporary)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    run().map_err(BagError::io(path))
}

#[cfg(test)]
mod tests {
    use super::is_numeric_qos;

    #[test]
    fn only_numbers_are_read_by_every_version() {
        assert!(is_numeric_qos(""));
        assert!(is_numeric_qos(
            "- history: 1\n  depth: 10\n  reliability: 2\n  avoid_ros_namespace_conventions: false"
        ));
        assert!(!is_numeric_qos("- history: keep_last\n  depth: 10"));
    }
}
