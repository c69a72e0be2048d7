//! Any messages of a bag, in time order over its files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{BagError, RawMessage, Topic};

/// Which messages to read.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Names of the topics to read; empty: all.
    pub topics: Vec<String>,
    /// Leave out what was logged earlier than this after the bag's start, ns.
    pub start_offset_ns: i64,
    /// Where a file is cut off, end there with a note instead of a [`BagError::Truncated`] error.
    pub salvage: bool,
}

/// A bag opened for reading.
pub struct BagReader {
    path: PathBuf,
}

impl BagReader {
    /// Opens a bag: a folder (with or without metadata.yaml), its metadata.yaml, or one of its files.
    pub fn open(path: &Path) -> Result<BagReader, BagError> {
        Ok(BagReader { path: path.to_owned() })
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bag's topics, by name.
    pub fn topics(&self) -> &[Arc<Topic>] {
        &[]
    }

    /// What a reader should know about the state of the bag, one sentence each.
    pub fn notes(&self) -> &[String] {
        &[]
    }

    /// First and last log time, ns since the epoch; `None` if the bag has no messages.
    pub fn time_range_ns(&self) -> Option<(i64, i64)> {
        None
    }

    /// Starts reading; each call starts over.
    pub fn messages(&self, _filter: &Filter) -> Result<Messages, BagError> {
        Ok(Messages {})
    }
}

/// The messages of a bag, merged by log time over its files.
pub struct Messages {}

impl Iterator for Messages {
    type Item = Result<RawMessage, BagError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
