//! What can be wrong with a recording.

use std::io;
use std::path::{Path, PathBuf};

use super::recording::Skipped;

/// Why a recording cannot be read or written; every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum BagError {
    /// The operating system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file has no content.
    #[error("{}: the file is empty", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error(
        "{}: not a recording that metagd can read ({what}); expected a rosbag2 folder, .mcap, .db3 (each also \
         with .zstd), .csv or .csv.gz",
        path.display()
    )]
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// What it seems to be.
        what: String,
    },
    /// A folder without metadata.yaml holds files of several bags.
    #[error(
        "{}: holds several bags and no metadata.yaml ({}); name one of the files",
        path.display(),
        files.join(", ")
    )]
    SeveralBags {
        /// The folder.
        path: PathBuf,
        /// The bag files in it.
        files: Vec<String>,
    },
    /// The file ends too early.
    #[error(
        "{}: truncated at byte {offset}, after {messages} readable messages; copy or record it again (of an MCAP \
         file, salvaging reads what is left)",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where the last complete record ends, or the file's size.
        offset: u64,
        /// How many messages came before.
        messages: u64,
    },
    /// The file's content contradicts its format.
    #[error("{}: damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// SQLite refuses.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A compression, storage or serialization that is not supported.
    #[error("{}: {what} `{found}` is not supported; supported: {supported}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Of what kind.
        what: &'static str,
        /// What the bag has.
        found: String,
        /// What can be read.
        supported: &'static str,
    },
    /// The topic is not in the bag.
    #[error("{}: no topic {topic}; the bag has {}", path.display(), list(there))]
    NoSuchTopic {
        /// The bag.
        path: PathBuf,
        /// What was asked for.
        topic: String,
        /// `name (type)` of each topic that there is.
        there: Vec<String>,
    },
    /// The bag has no topic of the type that is needed.
    #[error("{}: no topic of type {wanted}; the bag has {}", path.display(), list(there))]
    NoTopicOfType {
        /// The bag.
        path: PathBuf,
        /// The type.
        wanted: &'static str,
        /// `name (type)` of each topic that there is.
        there: Vec<String>,
    },
    /// More than one topic would do.
    #[error("{}: several topics of type {wanted}: {}; choose one by name", path.display(), list(candidates))]
    AmbiguousTopic {
        /// The bag.
        path: PathBuf,
        /// The type.
        wanted: &'static str,
        /// The topics of this type.
        candidates: Vec<String>,
    },
    /// The topic is of another type.
    #[error("{}: topic {topic} is of type {found}, not {wanted}", path.display())]
    WrongType {
        /// The bag.
        path: PathBuf,
        /// The topic.
        topic: String,
        /// Its type.
        found: String,
        /// The type that is needed.
        wanted: &'static str,
    },
    /// No message of the topic was recorded.
    #[error("{}: topic {topic} has no messages", path.display())]
    NoMessages {
        /// The bag.
        path: PathBuf,
        /// The topic.
        topic: String,
    },
    /// Not one message or row of the recording is usable.
    #[error("{}: {topic}: not one usable row: {skipped}", path.display())]
    NoUsableRow {
        /// The recording.
        path: PathBuf,
        /// The topic, or `CSV`.
        topic: String,
        /// What was skipped, and why.
        skipped: Skipped,
    },
    /// The wanted joints are not those of the recording.
    #[error("{}: {what}", path.display())]
    Joints {
        /// The recording.
        path: PathBuf,
        /// What does not match.
        what: String,
    },
    /// A CSV file's header or a cell is wrong.
    #[error("{}: {what}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// Row, column and what is wrong there.
        what: String,
    },
    /// A bag is not written over what exists.
    #[error("{}: exists already; choose another name or remove it", path.display())]
    Exists {
        /// The bag's folder.
        path: PathBuf,
    },
    /// A message cannot be written.
    #[error("{}: topic {topic}: {what}", path.display())]
    Write {
        /// The bag.
        path: PathBuf,
        /// The topic.
        topic: String,
        /// Why not.
        what: String,
    },
}

impl BagError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| BagError::Io { path, source }
    }

    pub(super) fn sqlite(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| BagError::Sqlite { path, source }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        BagError::Damaged { path: path.to_owned(), what: what.into() }
    }
}

fn list(topics: &[String]) -> String {
    if topics.is_empty() { "no topics at all".to_owned() } else { topics.join(", ") }
}
