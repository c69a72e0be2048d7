//! One SQLite3 file of a bag, rosbag2's schemas 1 to 4.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, Row};

use super::discover::Unpacked;
use super::{BagError, Definition, FileSummary, RawMessage, Topic, uncompressed};

/// How much is read ahead: rows, or bytes of them.
const PAGE_ROWS: usize = 256;
const PAGE_BYTES: usize = 1 << 20;

fn open(file: &Unpacked) -> Result<Connection, BagError> {
    let path = file.path();
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        fs::metadata(PathBuf::from(name)).is_ok_and(|found| found.len() > 0)
    };
    // A recorder that crashed leaves its last messages in a journal beside the file, which only a connection that takes
    // locks reads; without one, `immutable` reads from folders that cannot be written to.
    let (name, flags) = if beside("-wal") || beside("-journal") {
        (path.to_string_lossy().into_owned(), OpenFlags::SQLITE_OPEN_READ_ONLY)
    } else {
        check_length(file)?;
        let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let slashes = if path.is_absolute() { "//" } else { "" };
        (format!("file:{slashes}{escaped}?immutable=1"), flags)
    };
    Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(BagError::sqlite(&file.shown))
}

/// Compares the file's size with the page count in its header (<https://sqlite.org/fileformat2.html>, 1.3).
fn check_length(file: &Unpacked) -> Result<(), BagError> {
    let mut header = [0; 100];
    let mut opened = File::open(file.path()).map_err(BagError::io(&file.shown))?;
    let size = opened.metadata().map_err(BagError::io(&file.shown))?.len();
    let truncated = || BagError::Truncated { path: file.shown.clone(), offset: size, messages: 0 };
    opened.read_exact(&mut header).map_err(|_| truncated())?;
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65536,
        page => u64::from(page),
    };
    let count = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    // The page count counts only if the last writer knew of it.
    let is_current = header[24..28] == header[92..96];
    if is_current && size < page * u64::from(count) { Err(truncated()) } else { Ok(()) }
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA table_info({table})"))?;
    let names = statement.query_map([], |row| row.get(1))?;
    names.collect()
}

/// Reads what there is to say about the file without reading its messages.
pub(super) fn summarize(file: &Unpacked) -> Result<FileSummary, BagError> {
    let connection = open(file)?;
    summary(&connection, &file.shown)
}

fn summary(connection: &Connection, shown: &Path) -> Result<FileSummary, BagError> {
    let failed = || BagError::sqlite(shown);
    let topic_columns = columns(connection, "topics").map_err(failed())?;
    let message_columns = columns(connection, "messages").map_err(failed())?;
    let have =
        |columns: &[String], wanted: &[&str]| wanted.iter().all(|name| columns.iter().any(|c| c == name));
    if !have(&topic_columns, &["id", "name", "type", "serialization_format"])
        || !have(&message_columns, &["id", "topic_id", "timestamp", "data"])
    {
        return Err(BagError::Foreign {
            path: shown.to_owned(),
            what: "an SQLite database without rosbag2's tables".to_owned(),
        });
    }

    let optional = |name: &str| if have(&topic_columns, &[name]) { name.to_owned() } else { "''".to_owned() };
    let query = format!(
        "SELECT id, name, type, serialization_format, {}, {} FROM topics ORDER BY id",
        optional("offered_qos_profiles"),
        optional("type_description_hash"),
    );
    let topic = |row: &Row| {
        let topic = Topic {
            name: row.get(1)?,
            type_name: row.get(2)?,
            serialization_format: row.get(3)?,
            offered_qos_profiles: row.get(4)?,
            type_description_hash: row.get(5)?,
            definition: None,
            message_count: None,
        };
        Ok((row.get(0)?, topic))
    };
    let mut channels = connection
        .prepare(&query)
        .and_then(|mut statement| statement.query_map([], topic)?.collect::<Result<Vec<(i64, Topic)>, _>>())
        .map_err(failed())?;

    if !columns(connection, "message_definitions").map_err(failed())?.is_empty() {
        let definition = |row: &Row| {
            let definition = Definition { encoding: row.get(1)?, text: row.get(2)? };
            Ok((row.get(0)?, definition))
        };
        let mut definitions = connection
            .prepare("SELECT topic_type, encoding, encoded_message_definition FROM message_definitions")
            .and_then(|mut statement| {
                statement.query_map([], definition)?.collect::<Result<HashMap<String, _>, _>>()
            })
            .map_err(failed())?;
        definitions.retain(|_, definition| !definition.text.is_empty());
        for (_, topic) in &mut channels {
            topic.definition = definitions.get(&topic.type_name).cloned();
        }
    }

    let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, Option<i64>>(0));
    let first = number("SELECT MIN(timestamp) FROM messages").map_err(failed())?;
    let last = number("SELECT MAX(timestamp) FROM messages").map_err(failed())?;
    if let [(_, topic)] = channels.as_mut_slice() {
        let count = number("SELECT COUNT(*) FROM messages").map_err(failed())?;
        topic.message_count = count.and_then(|count| u64::try_from(count).ok());
    }
    Ok(FileSummary { channels, range_ns: first.zip(last), truncated_at: None, note: None })
}

/// The messages of the file in the order of their log times.
pub(super) struct SqliteSource {
    file: Unpacked,
    connection: Connection,
    query: String,
    by_time: bool,
    wanted: HashMap<i64, Arc<Topic>>,
    page: VecDeque<RawMessage>,
    last: (i64, i64),
    done: bool,
}

impl SqliteSource {
    pub(super) fn open(
        file: &Unpacked,
        wanted: HashMap<i64, Arc<Topic>>,
        from_ns: i64,
    ) -> Result<Self, BagError> {
        let connection = open(file)?;
        let indexed: Option<i64> = connection
            .query_row(
                "SELECT 1 FROM pragma_index_list('messages') AS i, pragma_index_info(i.name) AS c \
                 WHERE c.seqno = 0 AND c.name = 'timestamp' LIMIT 1",
                [],
                |row| row.get(0),
            )
            .or_else(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Ok(None),
                error => Err(error),
            })
            .map_err(BagError::sqlite(&file.shown))?;
        let ids: Vec<_> = wanted.keys().map(i64::to_string).collect();
        // Without rosbag2's index each page would cost a sort of the whole file; then the order of recording must do.
        let by_time = indexed.is_some();
        let (after, order) = if by_time {
            ("(timestamp, id) > (?1, ?2)", "timestamp, id")
        } else {
            ("id > ?2 AND timestamp >= ?1", "id")
        };
        let query = format!(
            "SELECT id, topic_id, timestamp, data FROM messages WHERE {after} AND topic_id IN ({}) \
             ORDER BY {order} LIMIT {PAGE_ROWS}",
            ids.join(",")
        );
        let last = match from_ns.checked_sub(1) {
            Some(before) if by_time => (before, i64::MAX),
            _ => (from_ns, i64::MIN),
        };
        Ok(SqliteSource {
            file: file.clone(),
            connection,
            query,
            by_time,
            wanted,
            page: VecDeque::new(),
            last,
            done: false,
        })
    }

    pub(super) fn next(&mut self) -> Result<Option<RawMessage>, BagError> {
        if self.page.is_empty() && !self.done {
            self.read_page()?;
        }
        Ok(self.page.pop_front())
    }

    fn read_page(&mut self) -> Result<(), BagError> {
        let path = &self.file.shown;
        let mut statement = self.connection.prepare(&self.query).map_err(BagError::sqlite(path))?;
        let mut rows = statement.query([self.last.0, self.last.1]).map_err(BagError::sqlite(path))?;
        let mut bytes = 0;
        while bytes < PAGE_BYTES {
            let Some(row) = rows.next().map_err(BagError::sqlite(path))? else {
                self.done = self.page.len() < PAGE_ROWS;
                break;
            };
            let cells = || {
                let data = row.get_ref(3)?.as_blob()?;
                rusqlite::Result::Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?, data))
            };
            let (id, topic_id, timestamp, data) = cells().map_err(BagError::sqlite(path))?;
            if self.by_time {
                self.last.0 = timestamp;
            }
            self.last.1 = id;
            let Some(topic) = self.wanted.get(&topic_id) else { continue };
            bytes += data.len();
            let data = uncompressed(data).map_err(|error| {
                BagError::damaged(path, format!("topic {}, message {id}: {error}", topic.name))
            })?;
            self.page.push_back(RawMessage {
                topic: Arc::clone(topic),
                log_time_ns: timestamp,
                publish_time_ns: timestamp,
                data,
            });
        }
        Ok(())
    }
}
