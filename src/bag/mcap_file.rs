//! One MCAP file of a bag (<https://mcap.dev/spec>), read from its start, so that a file without an index can be read.
//!
//! The frames and chunks are walked here and not by the `mcap` crate's reader, because that one allocates what a length
//! claims and, in 0.26, overflows on a chunk whose last record is longer than the chunk. The records themselves are
//! parsed by the crate.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use mcap::records::{ChunkHeader, MessageHeader, Record, op};

use super::discover::Unpacked;
use super::{BagError, Definition, FileSummary, RawMessage, Topic, uncompressed};

/// The longest record or chunk that is believed.
const MAX_BYTES: u64 = 1 << 30;
const FRAME: u64 = 9;
/// Footer record and magic.
const FOOTER: u64 = FRAME + 20 + 8;

fn time_ns(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// Reads a file record by record.
struct Frames {
    shown: PathBuf,
    reader: BufReader<File>,
    size: u64,
    offset: u64,
    messages: u64,
    body: Vec<u8>,
}

impl Frames {
    fn open(file: &Unpacked) -> Result<Self, BagError> {
        let failed = || BagError::io(&file.shown);
        let opened = File::open(file.path()).map_err(failed())?;
        let size = opened.metadata().map_err(failed())?.len();
        let mut frames = Frames {
            shown: file.shown.clone(),
            reader: BufReader::with_capacity(1 << 16, opened),
            size,
            offset: 0,
            messages: 0,
            body: Vec::new(),
        };
        frames.seek(mcap::MAGIC.len() as u64)?;
        Ok(frames)
    }

    fn seek(&mut self, offset: u64) -> Result<(), BagError> {
        self.offset = offset;
        self.reader.seek(SeekFrom::Start(offset)).map(|_| ()).map_err(BagError::io(&self.shown))
    }

    fn ends_with_magic(&mut self) -> Result<bool, BagError> {
        let mut end = [0; mcap::MAGIC.len()];
        self.seek(self.size.saturating_sub(end.len() as u64))?;
        self.reader.read_exact(&mut end).map_err(BagError::io(&self.shown))?;
        Ok(end == *mcap::MAGIC)
    }

    fn damaged(&self, what: impl std::fmt::Display) -> BagError {
        BagError::damaged(&self.shown, format!("record at byte {}: {what}", self.offset))
    }

    fn truncated(&self) -> BagError {
        BagError::Truncated { path: self.shown.clone(), offset: self.offset, messages: self.messages }
    }

    /// Reads the next record into `body`, or only steps over it; gives its kind. `None`: the file ends here.
    fn next(&mut self, wanted: impl Fn(u8) -> bool) -> Result<Option<u8>, BagError> {
        let left = self.size.saturating_sub(self.offset);
        if left == 0 {
            return Ok(None);
        }
        if left < FRAME {
            return Err(self.truncated());
        }
        let mut frame = [0; FRAME as usize];
        self.reader.read_exact(&mut frame).map_err(BagError::io(&self.shown))?;
        let [opcode, length @ ..] = frame;
        let length = u64::from_le_bytes(length);
        if length > left - FRAME {
            return Err(self.truncated());
        }
        self.body.clear();
        if wanted(opcode) {
            if length > MAX_BYTES {
                return Err(self.damaged(format_args!("{length} bytes are more than any record has")));
            }
            let read = (&mut self.reader).take(length).read_to_end(&mut self.body);
            if read.map_err(BagError::io(&self.shown))? as u64 != length {
                return Err(self.truncated());
            }
        } else {
            // Less than the file's size, so it fits.
            self.reader.seek_relative(length as i64).map_err(BagError::io(&self.shown))?;
        }
        self.offset += FRAME + length;
        Ok(Some(opcode))
    }
}

/// The records within a chunk's content.
struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u8, &'a [u8]), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let split = || {
            let (&opcode, rest) = self.rest.split_first()?;
            let (&length, rest) = rest.split_first_chunk()?;
            let (body, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(length)).ok()?)?;
            Some((opcode, body, rest))
        };
        let Some((opcode, body, rest)) = split() else {
            self.rest = &[];
            return Some(Err("the chunk ends within a record"));
        };
        self.rest = rest;
        Some(Ok((opcode, body)))
    }
}

/// Unpacks a chunk's content into `content`.
fn unpack_chunk(header: &ChunkHeader, data: &[u8], content: &mut Vec<u8>) -> Result<(), String> {
    content.clear();
    if header.uncompressed_size > MAX_BYTES {
        return Err(format!("{} bytes are more than any chunk has", header.uncompressed_size));
    }
    // One more, so that a chunk that holds too much is told from one that holds enough.
    let limit = header.uncompressed_size + 1;
    let mut read = |reader: io::Result<&mut dyn Read>| reader?.take(limit).read_to_end(content);
    let result = match header.compression.as_str() {
        "" => read(Ok(&mut { data })),
        "zstd" => match zstd::stream::read::Decoder::with_buffer(data) {
            Ok(mut decoder) => read(Ok(&mut decoder)),
            Err(error) => Err(error),
        },
        "lz4" => match lz4::Decoder::new(data) {
            Ok(mut decoder) => read(Ok(&mut decoder)),
            Err(error) => Err(error),
        },
        other => {
            return Err(format!("chunk compression `{other}` is not supported; supported: zstd, lz4, none"));
        }
    };
    result.map_err(|error| format!("{}: {error}", header.compression))?;
    if content.len() as u64 != header.uncompressed_size {
        return Err(format!("the chunk holds {} bytes, not {}", content.len(), header.uncompressed_size));
    }
    if header.uncompressed_crc != 0 {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        if crc.sum() != header.uncompressed_crc {
            return Err("the chunk's checksum does not match".to_owned());
        }
    }
    Ok(())
}

fn parse(opcode: u8, body: &[u8]) -> Result<Record<'_>, String> {
    mcap::parse_record(opcode, body)
        .map_err(|error| error.to_string().lines().next().unwrap_or("").to_owned())
}

fn message(body: &[u8]) -> Result<(MessageHeader, &[u8]), &'static str> {
    let Some((header, data)) = body.split_first_chunk::<22>() else {
        return Err("a message of less than 22 bytes");
    };
    let [a, b, c, d, e, f, times @ ..] = *header;
    let (log_time, publish_time) = times.split_at(8);
    let time = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let header = MessageHeader {
        channel_id: u16::from_le_bytes([a, b]),
        sequence: u32::from_le_bytes([c, d, e, f]),
        log_time: time(log_time),
        publish_time: time(publish_time),
    };
    Ok((header, data))
}

#[derive(Default)]
struct Contents {
    schemas: HashMap<u16, (String, Definition)>,
    channels: BTreeMap<u16, Topic>,
    counts: BTreeMap<u16, u64>,
    range_ns: Option<(i64, i64)>,
}

impl Contents {
    fn take(&mut self, opcode: u8, body: &[u8]) -> Result<(), String> {
        match opcode {
            op::MESSAGE => {
                let (header, _) = message(body)?;
                let time = time_ns(header.log_time);
                let (first, last) = self.range_ns.unwrap_or((time, time));
                self.range_ns = Some((first.min(time), last.max(time)));
                *self.counts.entry(header.channel_id).or_default() += 1;
            }
            op::SCHEMA => {
                if let Record::Schema { header, data } = parse(opcode, body)? {
                    let text = String::from_utf8_lossy(&data).into_owned();
                    let definition = Definition { encoding: header.encoding, text };
                    self.schemas.insert(header.id, (header.name, definition));
                }
            }
            op::CHANNEL => {
                if let Record::Channel(mut channel) = parse(opcode, body)? {
                    let schema = self.schemas.get(&channel.schema_id);
                    let topic = Topic {
                        name: channel.topic,
                        type_name: schema.map_or_else(String::new, |schema| schema.0.clone()),
                        serialization_format: channel.message_encoding,
                        offered_qos_profiles: channel
                            .metadata
                            .remove("offered_qos_profiles")
                            .unwrap_or_default(),
                        type_description_hash: channel.metadata.remove("topic_type_hash").unwrap_or_default(),
                        definition: schema.map(|s| s.1.clone()).filter(|d| !d.text.is_empty()),
                        message_count: None,
                    };
                    self.channels.insert(channel.id, topic);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn into_summary(mut self, note: Option<String>) -> FileSummary {
        for (id, topic) in &mut self.channels {
            topic.message_count = Some(self.counts.get(id).copied().unwrap_or(0));
        }
        let channels = self.channels.into_iter().map(|(id, topic)| (i64::from(id), topic)).collect();
        FileSummary { channels, range_ns: self.range_ns, note }
    }
}

/// Reads what there is to say about the file: from its summary section, or else from the whole file.
pub(super) fn summarize(file: &Unpacked) -> Result<FileSummary, BagError> {
    let mut frames = Frames::open(file)?;
    if let Some(contents) = read_summary(&mut frames) {
        return Ok(contents.into_summary(None));
    }
    scan(frames)
}

/// What the summary section says; `None` if there is none, or not all that we need.
fn read_summary(frames: &mut Frames) -> Option<Contents> {
    frames.seek(frames.size.checked_sub(FOOTER)?).ok()?;
    if frames.next(|_| true).ok()?? != op::FOOTER {
        return None;
    }
    let Ok(Record::Footer(footer)) = parse(op::FOOTER, &frames.body) else { return None };
    if footer.summary_start < mcap::MAGIC.len() as u64 {
        return None;
    }
    frames.seek(footer.summary_start).ok()?;
    let mut contents = Contents::default();
    let mut statistics = None;
    loop {
        match frames.next(|opcode| opcode != op::CHUNK_INDEX).ok()?? {
            op::FOOTER => break,
            op::STATISTICS => {
                if let Ok(Record::Statistics(found)) = parse(op::STATISTICS, &frames.body) {
                    statistics = Some(found);
                }
            }
            opcode @ (op::SCHEMA | op::CHANNEL) => contents.take(opcode, &frames.body).ok()?,
            _ => {}
        }
    }
    let statistics = statistics?;
    let known = |id| contents.channels.contains_key(id);
    if contents.channels.len() as u64 != u64::from(statistics.channel_count)
        || !statistics.channel_message_counts.keys().all(known)
    {
        return None;
    }
    if statistics.message_count > 0 {
        contents.range_ns =
            Some((time_ns(statistics.message_start_time), time_ns(statistics.message_end_time)));
    }
    contents.counts = statistics.channel_message_counts;
    Some(contents)
}

fn scan(mut frames: Frames) -> Result<FileSummary, BagError> {
    frames.seek(mcap::MAGIC.len() as u64)?;
    let mut contents = Contents::default();
    let mut chunk = Vec::new();
    let ended = loop {
        let wanted = |opcode| matches!(opcode, op::SCHEMA | op::CHANNEL | op::MESSAGE | op::CHUNK);
        let opcode = match frames.next(wanted) {
            Ok(Some(op::DATA_END | op::FOOTER)) if frames.ends_with_magic()? => break None,
            Ok(Some(op::DATA_END | op::FOOTER)) => {
                break Some("it is cut off behind the last message".to_owned());
            }
            Ok(Some(opcode)) => opcode,
            Ok(None) => {
                break Some("it was not closed by its recorder, but ends with a complete record".to_owned());
            }
            Err(BagError::Truncated { offset, .. }) => {
                let messages: u64 = contents.counts.values().sum();
                if messages == 0 {
                    return Err(BagError::Truncated { path: frames.shown, offset, messages: 0 });
                }
                break Some(format!("it is cut off at byte {offset}, after {messages} messages"));
            }
            Err(error) => return Err(error),
        };
        match opcode {
            op::CHUNK => {
                let Record::Chunk { header, data } =
                    parse(opcode, &frames.body).map_err(|error| frames.damaged(error))?
                else {
                    continue;
                };
                unpack_chunk(&header, &data, &mut chunk).map_err(|error| frames.damaged(error))?;
                for record in (Records { rest: &chunk }) {
                    let (opcode, body) = record.map_err(|error| frames.damaged(error))?;
                    contents.take(opcode, body).map_err(|error| frames.damaged(error))?;
                }
            }
            opcode => contents.take(opcode, &frames.body).map_err(|error| frames.damaged(error))?,
        }
    };
    let note = ended.map(|how| format!("{}: no index: {how}", frames.shown.display()));
    Ok(contents.into_summary(note))
}

/// A message within the unpacked chunk.
struct Slot {
    log_time: u64,
    publish_time: u64,
    channel: u16,
    start: usize,
    end: usize,
}

/// The messages of the file: those of one chunk in the order of their log times, the chunks in the order of the file.
pub(super) struct McapSource {
    frames: Frames,
    /// Keeps a temporary file alive.
    _file: Unpacked,
    wanted: HashMap<i64, Arc<Topic>>,
    from_ns: i64,
    salvage: bool,
    chunk: Vec<u8>,
    slots: std::vec::IntoIter<Slot>,
    done: bool,
}

impl McapSource {
    pub(super) fn open(
        file: &Unpacked,
        wanted: HashMap<i64, Arc<Topic>>,
        from_ns: i64,
        salvage: bool,
    ) -> Result<Self, BagError> {
        Ok(McapSource {
            frames: Frames::open(file)?,
            _file: file.clone(),
            wanted,
            from_ns,
            salvage,
            chunk: Vec::new(),
            slots: Vec::new().into_iter(),
            done: false,
        })
    }

    pub(super) fn next(&mut self) -> Result<Option<RawMessage>, BagError> {
        loop {
            if let Some(slot) = self.slots.next() {
                let data = &self.chunk[slot.start..slot.end];
                if let Some(message) = self.message(slot.channel, slot.log_time, slot.publish_time, data)? {
                    return Ok(Some(message));
                }
                continue;
            }
            if self.done {
                return Ok(None);
            }
            match self.frames.next(|opcode| matches!(opcode, op::MESSAGE | op::CHUNK)) {
                Ok(Some(op::MESSAGE)) => {
                    let (header, data) =
                        message(&self.frames.body).map_err(|error| self.frames.damaged(error))?;
                    let found =
                        self.message(header.channel_id, header.log_time, header.publish_time, data)?;
                    self.frames.messages += 1;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Ok(Some(op::CHUNK)) => self.read_chunk().map_err(|error| self.frames.damaged(error))?,
                Ok(None | Some(op::DATA_END | op::FOOTER)) => self.done = true,
                Ok(Some(_)) => {}
                Err(BagError::Truncated { .. }) if self.salvage => self.done = true,
                Err(error) => return Err(error),
            }
        }
    }

    fn read_chunk(&mut self) -> Result<(), String> {
        let Record::Chunk { header, data } = parse(op::CHUNK, &self.frames.body)? else { return Ok(()) };
        if time_ns(header.message_end_time) < self.from_ns {
            return Ok(());
        }
        unpack_chunk(&header, &data, &mut self.chunk)?;
        let mut slots = Vec::new();
        let mut end = 0;
        for record in (Records { rest: &self.chunk }) {
            let (opcode, body) = record?;
            end += FRAME as usize + body.len();
            if opcode == op::MESSAGE {
                let (header, data) = message(body)?;
                slots.push(Slot {
                    log_time: header.log_time,
                    publish_time: header.publish_time,
                    channel: header.channel_id,
                    start: end - data.len(),
                    end,
                });
            }
        }
        self.frames.messages += slots.len() as u64;
        slots.sort_by_key(|slot| slot.log_time);
        self.slots = slots.into_iter();
        Ok(())
    }

    fn message(
        &self,
        channel: u16,
        log_time: u64,
        publish_time: u64,
        data: &[u8],
    ) -> Result<Option<RawMessage>, BagError> {
        let log_time_ns = time_ns(log_time);
        let Some(topic) = self.wanted.get(&i64::from(channel)).filter(|_| log_time_ns >= self.from_ns) else {
            return Ok(None);
        };
        let data = uncompressed(data)
            .map_err(|error| self.frames.damaged(format_args!("topic {}: {error}", topic.name)))?;
        Ok(Some(RawMessage {
            topic: Arc::clone(topic),
            log_time_ns,
            publish_time_ns: time_ns(publish_time),
            data,
        }))
    }
}
