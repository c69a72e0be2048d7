//! Recordings as CSV: columns `t` (s), `q1`.. (rad), `qd1`.. (rad/s), `qdd1`.. (rad/s², optional), `tau1`.. (Nm), and
//! optionally `run`, in any order; plain or gzip.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use csv::StringRecord;
use flate2::read::MultiGzDecoder;

use super::discover::{self, Content};
use super::recording::{Row, SkipReason, Skipped};
use super::{BagError, ZSTD_MAGIC};
use crate::sample::{MAX_JOINTS, PerJoint};

/// Where each quantity stands, by column number.
#[derive(Clone, Debug, Default)]
struct Columns {
    run: Option<usize>,
    t: usize,
    q: Vec<usize>,
    qd: Vec<usize>,
    /// Empty without accelerations.
    qdd: Vec<usize>,
    tau: Vec<usize>,
}

impl Columns {
    fn find(header: &StringRecord) -> Result<Self, String> {
        let names: Vec<&str> = header.iter().map(|name| name.trim_start_matches('\u{feff}').trim()).collect();
        if let Some((index, name)) =
            names.iter().enumerate().find(|(index, name)| !name.is_empty() && names[..*index].contains(name))
        {
            return Err(format!("header: column {name} comes twice (again as column {})", index + 1));
        }
        let position = |name: &str| names.iter().position(|found| *found == name);
        let count = |prefix: &str| {
            let number = |name: &&str| name.strip_prefix(prefix)?.parse::<usize>().ok();
            names.iter().filter_map(number).max().unwrap_or(0)
        };
        let joints = count("q").max(count("qd")).max(count("tau")).max(count("qdd"));
        if joints == 0 {
            return Err(format!(
                "header: no columns q1, qd1, tau1 (expected t,q1..qn,qd1..qn,[qdd1..qddn],tau1..taun); \
                 its first line begins with `{}`",
                names.join(",").chars().take(60).collect::<String>()
            ));
        }
        if joints > MAX_JOINTS {
            return Err(format!("header: {joints} joints, but at most {MAX_JOINTS} can be handled"));
        }
        let mut missing = Vec::new();
        let mut need = |name: String| {
            position(&name).unwrap_or_else(|| {
                missing.push(name);
                0
            })
        };
        let t = need("t".to_owned());
        let mut all =
            |prefix: &str| (1..=joints).map(|joint| need(format!("{prefix}{joint}"))).collect::<Vec<_>>();
        let (q, qd, tau) = (all("q"), all("qd"), all("tau"));
        let qdd = if count("qdd") > 0 { all("qdd") } else { Vec::new() };
        if !missing.is_empty() {
            return Err(format!("header: missing for {joints} joints: {}", missing.join(", ")));
        }
        Ok(Columns { run: position("run"), t, q, qd, qdd, tau })
    }
}

/// A CSV file whose header was understood.
pub(super) struct CsvFile {
    path: PathBuf,
    columns: Columns,
    joints: usize,
}

fn reader(path: &Path) -> Result<csv::Reader<Box<dyn Read + Send>>, BagError> {
    let file = || File::open(path).map(BufReader::new).map_err(BagError::io(path));
    let plain: Box<dyn Read + Send> = match discover::sniff(path)? {
        Content::Gzip => Box::new(MultiGzDecoder::new(file()?)),
        _ => Box::new(file()?),
    };
    // The content behind the packing is looked at before the header, so that an archive of something else is told.
    let mut start = Vec::with_capacity(512);
    let mut plain = plain;
    (&mut plain).take(512).read_to_end(&mut start).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            BagError::Truncated { path: path.to_owned(), offset: 0, messages: 0 }
        }
        _ => BagError::io(path)(error),
    })?;
    if start.is_empty() {
        return Err(BagError::EmptyFile { path: path.to_owned() });
    }
    if discover::content(&start) != Content::Text || start.starts_with(&ZSTD_MAGIC) {
        let what = format!("packed: {}", discover::content(&start).describe());
        return Err(BagError::Foreign { path: path.to_owned(), what });
    }
    let whole: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(plain));
    Ok(csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(whole))
}

impl CsvFile {
    pub(super) fn open(path: &Path) -> Result<Self, BagError> {
        let mut reader = reader(path)?;
        let header = reader.headers().map_err(|error| csv_failed(path, error, 0))?;
        let columns = Columns::find(header).map_err(|what| BagError::Csv { path: path.to_owned(), what })?;
        let file = CsvFile { path: path.to_owned(), joints: columns.q.len(), columns };
        let mut first = StringRecord::new();
        if !reader.read_record(&mut first).map_err(|error| csv_failed(path, error, 0))? {
            return Err(BagError::Csv { path: path.to_owned(), what: "a header, but no rows".to_owned() });
        }
        Ok(file)
    }

    pub(super) fn joints(&self) -> usize {
        self.joints
    }

    pub(super) fn has_acceleration(&self) -> bool {
        !self.columns.qdd.is_empty()
    }

    pub(super) fn rows(&self) -> Result<CsvRows, BagError> {
        let mut reader = reader(&self.path)?;
        let header = reader.headers().map_err(|error| csv_failed(&self.path, error, 0))?.clone();
        Ok(CsvRows {
            path: self.path.clone(),
            reader,
            header,
            columns: self.columns.clone(),
            record: StringRecord::new(),
            read: 0,
        })
    }
}

/// The rows of a CSV file.
pub(super) struct CsvRows {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read + Send>>,
    header: StringRecord,
    columns: Columns,
    record: StringRecord,
    read: u64,
}

impl CsvRows {
    pub(super) fn next(&mut self, skipped: &mut Skipped) -> Result<Option<Row>, BagError> {
        loop {
            let more = self.reader.read_record(&mut self.record);
            if !more.map_err(|error| csv_failed(&self.path, error, self.read))? {
                return Ok(None);
            }
            self.read += 1;
            match self.row().map_err(|what| BagError::Csv { path: self.path.clone(), what })? {
                Some(row) => return Ok(Some(row)),
                None => skipped.add(SkipReason::NonFinite),
            }
        }
    }

    /// `None` if a number is not finite.
    fn row(&mut self) -> Result<Option<Row>, String> {
        let line = self.record.position().map_or(0, csv::Position::line);
        let bad = |column: usize, what: &str| {
            let cell = self.record.get(column).unwrap_or_default().trim();
            format!("line {line}, column {}: `{cell}` {what}", self.header.get(column).unwrap_or_default())
        };
        let number = |column: usize| {
            let cell = self.record.get(column).unwrap_or_default().trim();
            cell.parse::<f64>().map_err(|_| bad(column, "is not a number"))
        };
        let mut finite = true;
        let mut per_joint = |columns: &[usize]| {
            let mut values: PerJoint = [0.0; MAX_JOINTS];
            for (value, &column) in values.iter_mut().zip(columns) {
                *value = number(column)?;
                finite &= value.is_finite();
            }
            Ok::<_, String>(values)
        };
        let (q, qd, effort) =
            (per_joint(&self.columns.q)?, per_joint(&self.columns.qd)?, per_joint(&self.columns.tau)?);
        let qdd = match self.columns.qdd.as_slice() {
            [] => None,
            columns => Some(per_joint(columns)?),
        };
        let t = number(self.columns.t)?;
        if !t.is_finite() || !finite {
            return Ok(None);
        }
        let ns = (t * 1e9).round();
        // Beyond 2^63 ns, about 292 years.
        if ns.abs() >= 9.2e18 {
            return Err(bad(self.columns.t, "is too large for a time in seconds"));
        }
        let run = match self.columns.run {
            None => 0,
            Some(column) => match number(column)? {
                run if run >= 0.0 && run.fract() == 0.0 && run <= f64::from(u32::MAX) => run as u32,
                _ => return Err(bad(column, "is not the number of a run")),
            },
        };
        Ok(Some(Row { stamp_ns: ns as i64, q, qd, qdd, effort, run }))
    }
}

fn csv_failed(path: &Path, error: csv::Error, rows: u64) -> BagError {
    let line = error.position().map(csv::Position::line);
    let offset = error.position().map_or(0, csv::Position::byte);
    let path = path.to_owned();
    match error.into_kind() {
        csv::ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            BagError::Truncated { path, offset, messages: rows }
        }
        csv::ErrorKind::Io(error)
            if matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData) =>
        {
            BagError::damaged(&path, format!("gzip: {error}"))
        }
        csv::ErrorKind::Io(source) => BagError::Io { path, source },
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => BagError::Csv {
            what: format!("line {}: {len} cells, but the header has {expected_len}", line.unwrap_or(0)),
            path,
        },
        csv::ErrorKind::Utf8 { .. } => {
            BagError::Csv { path, what: format!("line {}: not UTF-8 text", line.unwrap_or(0)) }
        }
        other => BagError::Csv { path, what: format!("{other:?}") },
    }
}
