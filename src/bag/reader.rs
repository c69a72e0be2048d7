//! Any messages of a bag, in time order over its files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::discover::{self, Content, Unpacked};
use super::mcap_file::{self, McapSource};
use super::sqlite_file::{self, SqliteSource};
use super::{BagError, RawMessage, Storage, Topic};

/// Which messages to read.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Names of the topics to read; empty: all.
    pub topics: Vec<String>,
    /// Leave out what was logged earlier than this after the bag's start, ns.
    pub start_offset_ns: i64,
    /// Where a file is cut off, end there (the reader's notes say so) instead of with a [`BagError::Truncated`] error.
    pub salvage: bool,
}

struct BagFile {
    file: Unpacked,
    storage: Storage,
    /// The file's own numbers of the bag's topics.
    channels: Vec<(i64, Arc<Topic>)>,
    range_ns: Option<(i64, i64)>,
    truncated_at: Option<u64>,
}

/// A bag opened for reading.
///
/// Files that are compressed as a whole are unpacked into the system's folder for temporary files, and removed with the
/// reader and its iterators.
pub struct BagReader {
    path: PathBuf,
    files: Vec<BagFile>,
    topics: Vec<Arc<Topic>>,
    notes: Vec<String>,
}

impl BagReader {
    /// Opens a bag: a folder (with or without metadata.yaml), its metadata.yaml, or one of its files.
    ///
    /// What a file is, and which topics it has, is read from the file and not from its name or metadata.yaml.
    pub fn open(path: &Path) -> Result<BagReader, BagError> {
        let found = discover::find(path)?;
        let mut notes = found.notes;
        let mut topics: Vec<Topic> = Vec::new();
        let mut files = Vec::new();
        for name in &found.files {
            let file = discover::unpack(name)?;
            let (storage, summary) = match file.content {
                Content::Mcap => (Storage::Mcap, mcap_file::summarize(&file)?),
                Content::Sqlite => (Storage::Sqlite3, sqlite_file::summarize(&file)?),
                other => {
                    let what = other.describe().to_owned();
                    return Err(BagError::Foreign { path: name.clone(), what });
                }
            };
            notes.extend(summary.note);
            let mut channels = Vec::new();
            for (id, topic) in summary.channels {
                let same = |known: &Topic| known.name == topic.name && known.type_name == topic.type_name;
                let index = match topics.iter().position(same) {
                    Some(index) => {
                        let known = &mut topics[index];
                        known.message_count =
                            known.message_count.zip(topic.message_count).map(|(a, b)| a + b);
                        known.definition = known.definition.take().or(topic.definition);
                        index
                    }
                    None => {
                        topics.push(topic);
                        topics.len() - 1
                    }
                };
                channels.push((id, index));
            }
            files.push((file, storage, channels, summary.range_ns, summary.truncated_at));
        }
        if let Some(metadata) = &found.metadata {
            for topic in topics.iter_mut().filter(|topic| topic.message_count.is_none()) {
                topic.message_count = metadata.message_count(&topic.name);
            }
        }
        let mut topics: Vec<_> = topics.into_iter().map(Arc::new).collect();
        let files: Vec<_> = files
            .into_iter()
            .map(|(file, storage, channels, range_ns, truncated_at)| {
                let channels = channels.into_iter().map(|(id, index)| (id, Arc::clone(&topics[index])));
                BagFile { file, storage, channels: channels.collect(), range_ns, truncated_at }
            })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        let cut = files.iter().find_map(|file| Some((file, file.truncated_at?)));
        if let Some((file, offset)) = cut
            && files.iter().all(|file| file.range_ns.is_none())
        {
            return Err(BagError::Truncated { path: file.file.shown.clone(), offset, messages: 0 });
        }
        Ok(BagReader { path: path.to_owned(), files, topics, notes })
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container of the bag's files.
    pub fn storage(&self) -> Storage {
        self.files.first().map_or(Storage::Mcap, |file| file.storage)
    }

    /// The bag's topics, by name.
    pub fn topics(&self) -> &[Arc<Topic>] {
        &self.topics
    }

    /// What a reader should know about the state of the bag, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// First and last log time, ns since the epoch; `None` if the bag has no messages.
    pub fn time_range_ns(&self) -> Option<(i64, i64)> {
        self.files.iter().filter_map(|file| file.range_ns).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Starts reading; each call starts over.
    ///
    /// # Errors
    /// [`BagError::NoSuchTopic`] for a name in the filter that the bag does not have, and [`BagError::Unsupported`] if a
    /// wanted topic is not serialized as CDR.
    pub fn messages(&self, filter: &Filter) -> Result<Messages, BagError> {
        for name in &filter.topics {
            if !self.topics.iter().any(|topic| topic.name == *name) {
                return Err(self.no_such_topic(name));
            }
        }
        let is_wanted = |topic: &Topic| filter.topics.is_empty() || filter.topics.contains(&topic.name);
        for topic in &self.topics {
            if is_wanted(topic) && topic.serialization_format != "cdr" {
                return Err(BagError::Unsupported {
                    path: self.path.clone(),
                    what: "serialization",
                    found: format!("{}` of topic `{}", topic.serialization_format, topic.name),
                    supported: "cdr",
                });
            }
        }
        let from_ns = match self.time_range_ns() {
            Some((start, _)) if filter.start_offset_ns > 0 => start.saturating_add(filter.start_offset_ns),
            _ => i64::MIN,
        };
        let mut waiting = Vec::new();
        for file in &self.files {
            let wanted: HashMap<_, _> =
                file.channels.iter().filter(|(_, topic)| is_wanted(topic)).cloned().collect();
            let is_cut = file.truncated_at.is_some() && !filter.salvage;
            // A file that is cut off is read, if only to come to the error at its end.
            let first_ns = match file.range_ns {
                Some((first_ns, last_ns)) if is_cut || (!wanted.is_empty() && last_ns >= from_ns) => first_ns,
                None if is_cut => i64::MAX,
                _ => continue,
            };
            let (storage, salvage, file) = (file.storage, filter.salvage, file.file.clone());
            waiting.push(Waiting { first_ns, storage, file, wanted, from_ns, salvage });
        }
        waiting.sort_by_key(|waiting| std::cmp::Reverse(waiting.first_ns));
        Ok(Messages { waiting, open: Vec::new(), error: None, failed: false })
    }

    /// The topics as an error lists them.
    pub(super) fn listed(&self, wanted: impl Fn(&Topic) -> bool) -> Vec<String> {
        let listed = |topic: &Arc<Topic>| format!("{} ({})", topic.name, topic.type_name);
        self.topics.iter().filter(|topic| wanted(topic)).map(listed).collect()
    }

    pub(super) fn no_such_topic(&self, name: &str) -> BagError {
        BagError::NoSuchTopic {
            path: self.path.clone(),
            topic: name.to_owned(),
            there: self.listed(|_| true),
        }
    }
}

/// A file whose turn has not come.
struct Waiting {
    first_ns: i64,
    storage: Storage,
    file: Unpacked,
    wanted: HashMap<i64, Arc<Topic>>,
    from_ns: i64,
    salvage: bool,
}

enum Source {
    Mcap(Box<McapSource>),
    Sqlite(Box<SqliteSource>),
}

impl Source {
    fn open(waiting: Waiting) -> Result<Self, BagError> {
        let Waiting { storage, file, wanted, from_ns, salvage, .. } = waiting;
        Ok(match storage {
            Storage::Mcap => Source::Mcap(Box::new(McapSource::open(&file, wanted, from_ns, salvage)?)),
            Storage::Sqlite3 => Source::Sqlite(Box::new(SqliteSource::open(&file, wanted, from_ns)?)),
        })
    }

    fn next(&mut self) -> Result<Option<RawMessage>, BagError> {
        match self {
            Source::Mcap(source) => source.next(),
            Source::Sqlite(source) => source.next(),
        }
    }
}

/// The messages of a bag, merged by log time over its files; a file is opened when its time has come.
///
/// Within a file the order is that of log times (SQLite), or of the file with each chunk sorted (MCAP): a recorder that
/// wrote chunks with overlapping times is followed as it wrote. After an error nothing more comes.
pub struct Messages {
    /// The latest first.
    waiting: Vec<Waiting>,
    /// Each with its next message.
    open: Vec<(RawMessage, Source)>,
    /// What comes after the message that was read before it.
    error: Option<BagError>,
    failed: bool,
}

impl Messages {
    fn open_due(&mut self) -> Result<(), BagError> {
        loop {
            let earliest = self.open.iter().map(|(message, _)| message.log_time_ns).min();
            let due = |waiting: &mut Waiting| earliest.is_none_or(|earliest| waiting.first_ns <= earliest);
            let Some(waiting) = self.waiting.pop_if(due) else { return Ok(()) };
            let mut source = Source::open(waiting)?;
            if let Some(message) = source.next()? {
                self.open.push((message, source));
            }
        }
    }

    fn take_next(&mut self) -> Result<Option<RawMessage>, BagError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.open_due()?;
        let earliest = self.open.iter().enumerate().min_by_key(|(_, (message, _))| message.log_time_ns);
        let Some((index, _)) = earliest else { return Ok(None) };
        let (head, source) = &mut self.open[index];
        match source.next() {
            Ok(Some(next)) => Ok(Some(std::mem::replace(head, next))),
            Ok(None) => Ok(Some(self.open.remove(index).0)),
            Err(error) => {
                self.error = Some(error);
                Ok(Some(self.open.remove(index).0))
            }
        }
    }
}

impl Iterator for Messages {
    type Item = Result<RawMessage, BagError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.take_next().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}
