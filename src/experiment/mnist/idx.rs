//! MNIST's own files: idx, gzipped or not.
//!
//! Contract: reads as many bytes as the header announces and no more, and takes memory only as they come; an announcement
//! beyond [`MAX_BYTES`] is refused unread. Whatever the file holds, the answer is data or an [`IdxError`].

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

/// The most that one file may hold: twenty times MNIST.
pub const MAX_BYTES: u64 = 1 << 30;
/// The greatest height or width of an image.
pub const MAX_SIDE: u32 = 256;

/// What the first four bytes must be: unsigned bytes in three or in one dimension.
const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// A file that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum IdxError {
    /// Cannot be opened, read or unpacked.
    #[error("{}, byte {offset}: {source}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// How many bytes (unpacked) came before.
        offset: u64,
        /// Why.
        source: std::io::Error,
    },
    /// Does not hold what idx prescribes.
    #[error("{}, byte {offset}: expected {expected}, found {found}", file.display())]
    Format {
        /// Which file.
        file: PathBuf,
        /// Where in the unpacked file.
        offset: u64,
        /// What should stand there.
        expected: String,
        /// What does.
        found: String,
    },
    /// Neither the file nor its gzipped form is there.
    #[error("{} holds neither {name} nor {name}.gz", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
        /// The file's name.
        name: String,
    },
}

/// Grey images of one size, one byte a pixel, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// All images, one after another.
    pub pixels: Vec<u8>,
}

impl Images {
    /// The images, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.pixels.chunks_exact(self.height * self.width)
    }
}

/// The images with their labels in `NAME-images-idx3-ubyte` and `NAME-labels-idx1-ubyte` (or `.gz`) of a directory.
///
/// # Errors
/// If a file is missing or is not as its header says, or if there are more of one than of the other.
pub fn read_pair(dir: &Path, name: &str) -> Result<(Images, Vec<u8>), IdxError> {
    let images = read_images(&find(dir, &format!("{name}-images-idx3-ubyte"))?)?;
    let file = find(dir, &format!("{name}-labels-idx1-ubyte"))?;
    let labels = read_labels(&file)?;
    let count = images.iter().count();
    if labels.len() != count {
        let (expected, found) = (format!("one label for each of {count} images"), labels.len().to_string());
        return Err(IdxError::Format { file, offset: 4, expected, found });
    }
    Ok((images, labels))
}

/// Reads a file of images.
///
/// # Errors
/// See [`IdxError`].
pub fn read_images(file: &Path) -> Result<Images, IdxError> {
    let mut reader = Reader::open(file)?;
    reader.magic(IMAGES, "idx3 of unsigned bytes")?;
    let count = reader.word()?;
    let height = reader.side("height")?;
    let width = reader.side("width")?;
    let pixels = reader.rest(u64::from(count) * u64::from(height) * u64::from(width))?;
    Ok(Images { height: height as usize, width: width as usize, pixels })
}

/// Reads a file of labels.
///
/// # Errors
/// See [`IdxError`].
pub fn read_labels(file: &Path) -> Result<Vec<u8>, IdxError> {
    let mut reader = Reader::open(file)?;
    reader.magic(LABELS, "idx1 of unsigned bytes")?;
    let count = reader.word()?;
    reader.rest(u64::from(count))
}

fn find(dir: &Path, name: &str) -> Result<PathBuf, IdxError> {
    [dir.join(name), dir.join(format!("{name}.gz"))]
        .into_iter()
        .find(|file| file.is_file())
        .ok_or_else(|| IdxError::Missing { dir: dir.to_path_buf(), name: name.to_string() })
}

/// A file, unpacked as it is read, and how far.
struct Reader<'a> {
    file: &'a Path,
    bytes: Box<dyn Read>,
    offset: u64,
}

impl<'a> Reader<'a> {
    /// Unpacks what begins as gzip does, whatever the file's name.
    fn open(file: &'a Path) -> Result<Self, IdxError> {
        let io = |source| IdxError::Io { file: file.to_path_buf(), offset: 0, source };
        let mut plain = BufReader::new(File::open(file).map_err(io)?);
        let packed = plain.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]);
        let bytes: Box<dyn Read> =
            if packed { Box::new(MultiGzDecoder::new(plain)) } else { Box::new(plain) };
        Ok(Reader { file, bytes, offset: 0 })
    }

    fn wrong(&self, offset: u64, expected: impl Into<String>, found: impl Into<String>) -> IdxError {
        let (expected, found) = (expected.into(), found.into());
        IdxError::Format { file: self.file.to_path_buf(), offset, expected, found }
    }

    /// Up to `limit` bytes.
    fn take(&mut self, limit: u64) -> Result<Vec<u8>, IdxError> {
        let mut bytes = Vec::new();
        let read = self.bytes.by_ref().take(limit).read_to_end(&mut bytes);
        self.offset += bytes.len() as u64;
        match read {
            Ok(_) => Ok(bytes),
            Err(source) => Err(IdxError::Io { file: self.file.to_path_buf(), offset: self.offset, source }),
        }
    }

    /// The next four bytes, the most significant first.
    fn word(&mut self) -> Result<u32, IdxError> {
        let offset = self.offset;
        let bytes = self.take(4)?;
        let word = <[u8; 4]>::try_from(bytes.as_slice())
            .map_err(|_| self.wrong(offset, "4 bytes of header", format!("{}", bytes.len())))?;
        Ok(u32::from_be_bytes(word))
    }

    fn magic(&mut self, expected: u32, meaning: &str) -> Result<(), IdxError> {
        let found = self.word()?;
        if found == expected {
            return Ok(());
        }
        Err(self.wrong(0, format!("{expected:#010x} ({meaning})"), format!("{found:#010x}")))
    }

    fn side(&mut self, name: &str) -> Result<u32, IdxError> {
        let offset = self.offset;
        let side = self.word()?;
        if (1..=MAX_SIDE).contains(&side) {
            return Ok(side);
        }
        Err(self.wrong(offset, format!("a {name} from 1 to {MAX_SIDE}"), side.to_string()))
    }

    /// All that is left, which must be `count` bytes.
    fn rest(&mut self, count: u64) -> Result<Vec<u8>, IdxError> {
        if count > MAX_BYTES {
            return Err(self.wrong(4, format!("at most {MAX_BYTES} bytes of data"), count.to_string()));
        }
        let start = self.offset;
        let bytes = self.take(count)?;
        if (bytes.len() as u64) < count {
            let found = format!("the end of the file after {}", bytes.len());
            return Err(self.wrong(self.offset, format!("{count} bytes from byte {start} on"), found));
        }
        if !self.take(1)?.is_empty() {
            return Err(self.wrong(start + count, "the end of the file", "more"));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn header(magic: u32, sizes: &[u32]) -> Vec<u8> {
        [magic].iter().chain(sizes).flat_map(|word| word.to_be_bytes()).collect()
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Images, IdxError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, bytes).unwrap();
        read_images(&file)
    }

    #[track_caller]
    fn refused(bytes: &[u8], parts: &[&str]) {
        let text = read(bytes).unwrap_err().to_string();
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
    }

    #[test]
    fn images_are_read_packed_or_not() {
        let bytes = [header(IMAGES, &[2, 1, 3]), vec![1, 2, 3, 4, 5, 6]].concat();
        for bytes in [packed(&bytes), bytes] {
            let images = read(&bytes).unwrap();
            assert_eq!((images.height, images.width), (1, 3));
            assert_eq!(images.iter().collect::<Vec<_>>(), [[1, 2, 3], [4, 5, 6]]);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        refused(&[], &["file", "byte 0", "4 bytes of header"]);
        refused(&header(LABELS, &[1]), &["byte 0", "0x00000803", "0x00000801"]);
        refused(&header(IMAGES, &[1, 0, 3]), &["byte 8", "height", "found 0"]);
        refused(&header(IMAGES, &[1, 3, 257]), &["byte 12", "width", "found 257"]);
        refused(&[header(IMAGES, &[2, 2, 2]), vec![0; 7]].concat(), &["byte 23", "8 bytes", "after 7"]);
        refused(&[header(IMAGES, &[1, 2, 2]), vec![0; 5]].concat(), &["byte 20", "the end of the file"]);
        let whole = packed(&[header(IMAGES, &[1, 2, 2]), vec![9; 4]].concat());
        refused(&whole[..whole.len() - 9], &["file", "byte"]);
    }

    /// Sizes whose product is enormous, or overflows, cost nothing.
    #[test]
    fn huge_announcements_are_refused_unread() {
        refused(&header(IMAGES, &[u32::MAX, 256, 256]), &["byte 4", "at most 1073741824"]);
        refused(&header(IMAGES, &[16_384, 256, 256]), &["expected 1073741824 bytes", "after 0"]);
    }

    #[test]
    fn labels_must_be_as_many_as_images() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: Vec<u8>| std::fs::write(dir.path().join(name), bytes).unwrap();
        let missing = read_pair(dir.path(), "t").unwrap_err().to_string();
        assert!(missing.contains("neither t-images-idx3-ubyte nor t-images-idx3-ubyte.gz"), "{missing}");
        write("t-images-idx3-ubyte.gz", packed(&[header(IMAGES, &[2, 1, 1]), vec![7, 8]].concat()));
        write("t-labels-idx1-ubyte", [header(LABELS, &[3]), vec![0, 1, 2]].concat());
        let error = read_pair(dir.path(), "t").unwrap_err().to_string();
        assert!(error.contains("each of 2 images, found 3"), "{error}");
        write("t-labels-idx1-ubyte", [header(LABELS, &[2]), vec![0, 1]].concat());
        assert_eq!(read_pair(dir.path(), "t").unwrap().1, [0, 1]);
    }

    proptest! {
        #[test]
        fn any_bytes_give_data_or_an_error(
            sizes in prop::array::uniform3(prop_oneof![0u32..6, any::<u32>()]),
            body in prop::collection::vec(any::<u8>(), 0..80),
            pack in any::<bool>(),
            cut in 0usize..100,
        ) {
            let mut bytes = [header(IMAGES, &sizes), body].concat();
            if pack {
                bytes = packed(&bytes);
            }
            bytes.truncate(cut);
            if let Ok(images) = read(&bytes) {
                let [count, height, width] = sizes.map(|size| size as usize);
                prop_assert_eq!((images.height, images.width), (height, width));
                prop_assert_eq!(images.pixels.len(), count * height * width);
            }
        }
    }
}
