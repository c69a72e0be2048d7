//! What a path holds: told by content, not by extension.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempPath;

use super::BagError;
use super::metadata::{self, Metadata};

/// The kind of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Mcap,
    Sqlite,
    Zstd,
    Gzip,
    Text,
    Ros1,
    Unknown,
}

impl Content {
    /// How an error calls it.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Content::Mcap => "an MCAP file",
            Content::Sqlite => "an SQLite database",
            Content::Zstd => "a zstd archive of something else",
            Content::Gzip => "a gzip archive",
            Content::Text => "a text file",
            Content::Ros1 => "a ROS 1 bag; convert it with PyPI's rosbags-convert",
            Content::Unknown => "unknown content",
        }
    }
}

/// Looks at a file's first bytes.
pub(super) fn sniff(path: &Path) -> Result<Content, BagError> {
    let mut start = Vec::with_capacity(512);
    File::open(path).and_then(|file| file.take(512).read_to_end(&mut start)).map_err(BagError::io(path))?;
    if start.is_empty() {
        return Err(BagError::EmptyFile { path: path.to_owned() });
    }
    Ok(content(&start))
}

/// What a file is that starts like this.
pub(super) fn content(start: &[u8]) -> Content {
    let magics: [(&[u8], Content); 5] = [
        (mcap::MAGIC, Content::Mcap),
        (b"SQLite format 3\0", Content::Sqlite),
        (&super::ZSTD_MAGIC, Content::Zstd),
        (&[0x1f, 0x8b], Content::Gzip),
        (b"#ROSBAG V", Content::Ros1),
    ];
    match magics.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, content)) => *content,
        None if start.iter().all(|&byte| byte >= b' ' || matches!(byte, b'\t' | b'\r' | b'\n')) => {
            Content::Text
        }
        None => Content::Unknown,
    }
}

/// A bag's file as it can be read: the file itself, or what was unpacked of it.
#[derive(Clone, Debug)]
pub(super) struct Unpacked {
    /// What messages call it.
    pub(super) shown: PathBuf,
    pub(super) content: Content,
    temporary: Option<Arc<TempPath>>,
}

impl Unpacked {
    /// Where to read.
    pub(super) fn path(&self) -> &Path {
        self.temporary.as_ref().map_or(&self.shown, |path| path)
    }
}

/// Unpacks a zstd file into a temporary one, which lives as long as the answer; leaves others where they are.
pub(super) fn unpack(path: &Path) -> Result<Unpacked, BagError> {
    let found = sniff(path)?;
    if found != Content::Zstd {
        return Ok(Unpacked { shown: path.to_owned(), content: found, temporary: None });
    }
    let packed = File::open(path).map_err(BagError::io(path))?;
    let size = packed.metadata().map_err(BagError::io(path))?.len();
    let mut unpacked = tempfile::Builder::new()
        .prefix("metagd-bag-")
        .tempfile()
        .map_err(BagError::io(&std::env::temp_dir()))?;
    zstd::stream::read::Decoder::new(packed)
        .and_then(|mut decoder| io::copy(&mut decoder, &mut unpacked))
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                BagError::Truncated { path: path.to_owned(), offset: size, messages: 0 }
            }
            io::ErrorKind::StorageFull => BagError::Io { path: std::env::temp_dir(), source: error },
            _ => BagError::damaged(path, format!("zstd: {error}")),
        })?;
    let temporary = unpacked.into_temp_path();
    let content = match sniff(&temporary) {
        Err(BagError::EmptyFile { .. }) => Err(BagError::EmptyFile { path: path.to_owned() }),
        other => other,
    }?;
    Ok(Unpacked { shown: path.to_owned(), content, temporary: Some(Arc::new(temporary)) })
}

/// The files of a bag, in order.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) files: Vec<PathBuf>,
    pub(super) metadata: Option<Metadata>,
    pub(super) notes: Vec<String>,
}

/// Finds the files of the bag at `path`: a folder, its metadata.yaml, or a single file.
pub(super) fn find(path: &Path) -> Result<Found, BagError> {
    if fs::metadata(path).map_err(BagError::io(path))?.is_dir() {
        return find_in_folder(path);
    }
    match path.parent() {
        Some(folder) if path.file_name().is_some_and(|name| name == "metadata.yaml") => {
            find_in_folder(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
        }
        _ => Ok(Found { files: vec![path.to_owned()], metadata: None, notes: vec![] }),
    }
}

fn find_in_folder(folder: &Path) -> Result<Found, BagError> {
    let path = folder.join("metadata.yaml");
    let mut notes = Vec::new();
    match fs::read_to_string(&path) {
        Ok(text) => match Metadata::parse(&text) {
            Ok(metadata) => {
                if metadata.version > metadata::NEWEST {
                    notes.push(format!(
                        "{}: version {} is newer than {}, the newest known",
                        path.display(),
                        metadata.version,
                        metadata::NEWEST
                    ));
                }
                let files = listed_files(folder, &path, &metadata)?;
                return Ok(Found { files, metadata: Some(metadata), notes });
            }
            Err(error) => {
                notes.push(format!("{}: unreadable ({error}), so the folder was searched", path.display()));
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(BagError::Io { path, source: error }),
    }
    Ok(Found { files: search(folder)?, metadata: None, notes })
}

fn listed_files(folder: &Path, path: &Path, metadata: &Metadata) -> Result<Vec<PathBuf>, BagError> {
    let unsupported = |what, found: &str, supported| {
        Err(BagError::Unsupported { path: path.to_owned(), what, found: found.to_owned(), supported })
    };
    if !matches!(metadata.storage_identifier.as_str(), "mcap" | "sqlite3") {
        return unsupported("storage", &metadata.storage_identifier, "mcap, sqlite3");
    }
    if let Some(format) = metadata.compression_format.as_deref()
        && !matches!(format, "" | "zstd")
    {
        return unsupported("compression", format, "zstd");
    }
    // Before version 4, and after a folder was renamed, the paths begin with a folder that is not there.
    let files: Vec<_> = metadata
        .relative_file_paths
        .iter()
        .map(|name| match Path::new(name).file_name() {
            Some(name) => folder.join(name),
            None => folder.join(name),
        })
        .collect();
    if files.is_empty() {
        return Err(BagError::damaged(path, "it lists no files"));
    }
    for file in &files {
        fs::metadata(file).map_err(BagError::io(file))?;
    }
    Ok(files)
}

fn search(folder: &Path) -> Result<Vec<PathBuf>, BagError> {
    let mut files = Vec::new();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(BagError::io(folder))? {
        let path = entry.map_err(BagError::io(folder))?.path();
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
        let beside = ["-wal", "-shm", "-journal", ".yaml", ".tmp"].iter().any(|end| name.ends_with(end));
        if beside || !path.is_file() {
            continue;
        }
        match sniff(&path) {
            Ok(Content::Mcap | Content::Sqlite | Content::Zstd) => files.push(path),
            Ok(_) => names.push(name),
            Err(BagError::EmptyFile { .. }) if ends_like_a_bag(&name) => {
                return Err(BagError::EmptyFile { path });
            }
            Err(BagError::EmptyFile { .. }) => names.push(name),
            Err(error) => return Err(error),
        }
    }
    if files.is_empty() {
        names.sort();
        names.truncate(5);
        let what = match names.as_slice() {
            [] => "an empty folder".to_owned(),
            names => format!("a folder with no bag file, but {}", names.join(", ")),
        };
        return Err(BagError::Foreign { path: folder.to_owned(), what });
    }
    // A recorder that was stopped while it compressed a file leaves both.
    let whole: Vec<_> = files.iter().filter(|file| !is_zstd(file)).cloned().collect();
    files.retain(|file| !is_zstd(file) || !whole.contains(&file.with_extension("")));
    files.sort_by(|a, b| in_sequence(a, b));

    if files.iter().any(|file| prefix(file) != prefix(&files[0])) {
        let files =
            files.iter().filter_map(|file| file.file_name()).map(|name| name.to_string_lossy().into());
        return Err(BagError::SeveralBags { path: folder.to_owned(), files: files.collect() });
    }
    Ok(files)
}

fn ends_like_a_bag(name: &str) -> bool {
    [".mcap", ".db3", ".mcap.zstd", ".db3.zstd"].iter().any(|end| name.ends_with(end))
}

fn is_zstd(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zstd")
}

/// `bag_10.mcap.zstd` is the file 10 of `bag`.
fn prefix_and_number(path: &Path) -> (String, u64) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    match stem.rsplit_once('_').map(|(prefix, number)| (prefix, number.parse())) {
        Some((prefix, Ok(number))) => (prefix.to_owned(), number),
        _ => (stem.to_owned(), 0),
    }
}

fn prefix(path: &Path) -> String {
    prefix_and_number(path).0
}

fn in_sequence(a: &Path, b: &Path) -> Ordering {
    prefix_and_number(a).cmp(&prefix_and_number(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_files_are_ordered_by_number() {
        let mut files = ["b_10.db3", "b_2.db3", "b_0.db3", "b_1.db3.zstd"].map(PathBuf::from);
        files.sort_by(|a, b| in_sequence(a, b));
        assert_eq!(files, ["b_0.db3", "b_1.db3.zstd", "b_2.db3", "b_10.db3"].map(PathBuf::from));
    }

    #[test]
    fn content_is_told_by_its_first_bytes() {
        assert_eq!(content(b"t,q1\n0,1"), Content::Text);
        assert_eq!(content(b"#ROSBAG V2.0\n"), Content::Ros1);
        assert_eq!(content(&[0, 1, 2]), Content::Unknown);
        assert_eq!(content("größe".as_bytes()), Content::Text);
    }
}
