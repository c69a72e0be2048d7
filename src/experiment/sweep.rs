//! Experiments of many independent runs: carried out side by side, taken up again where they broke off, shared by machines.
//!
//! Contract: the same experiment gives the same report to the last bit, on however many threads, in one go, in several, or in
//! shards that are merged. The folder of a sweep holds `runs.jsonl`: a line that says what made it, then a line for every run
//! that is done, written as it ends; a line that a crash cut off is done again. One process at a time works in a folder.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::report::Report;
use crate::learn::InstructionSet;

/// An experiment: independent runs, and what is made of their outcomes.
pub trait Experiment: Sync {
    /// Name on the command line and of its files.
    fn name(&self) -> &'static str;

    /// One independent run: setting and seed. Serialised, it is the key by which its outcome is found again.
    type Run: Serialize + Sync;

    /// Figures and curves of one run. A number that is not finite becomes `null`: fields that may hold one need
    /// [`number`] or [`numbers`].
    type Outcome: Serialize + DeserializeOwned + Send;

    /// Every run, in a fixed order (the order of shards, tables and of the files).
    fn runs(&self) -> Vec<Self::Run>;

    /// Carries out one run; called from several threads at once. Same run, same outcome, to the last bit.
    ///
    /// # Errors
    /// Why it cannot be carried out; the others are, all the same.
    fn run(&self, run: &Self::Run) -> anyhow::Result<Self::Outcome>;

    /// What all runs came to.
    ///
    /// # Errors
    /// Why nothing can be said.
    fn report(&self, outcomes: &[(Self::Run, Self::Outcome)]) -> anyhow::Result<Report>;

    /// The experiment's own options, as on the command line, for the results' header.
    fn options(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Reads a number that was written as `null` if it was not finite; use it as `#[serde(deserialize_with = "sweep::number")]`.
///
/// # Errors
/// Those of the format.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// [`number`], of a list.
///
/// # Errors
/// Those of the format.
pub fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let all: Vec<Option<f64>> = Vec::deserialize(deserializer)?;
    Ok(all.into_iter().map(|number| number.unwrap_or(f64::NAN)).collect())
}

/// Every `of`th run, from the one with this index on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let parsed =
            text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((index, of)) if index < of => Ok(Shard { index, of }),
            _ => Err("must be I/N: shard I of N, counted from 0 to N - 1".into()),
        }
    }
}

/// How a sweep is carried out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The sweep's folder.
    pub dir: PathBuf,
    /// The small size.
    pub quick: bool,
    /// Only this share of the runs, and no report.
    pub shard: Option<Shard>,
    /// Take the outcomes in these folders and carry out nothing.
    pub merge: Vec<PathBuf>,
    /// How many threads; `None`: one for each core.
    pub jobs: Option<usize>,
}

/// What made some outcomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The command that makes them again.
    pub command: String,
    /// Version of the program.
    pub version: String,
    /// The last commit that changed the sources, if known; `+` if they were changed since. Of the source folder as it is when the
    /// experiment runs: build before you run.
    pub commit: Option<String>,
    /// Whether it is the small size, which proves that the experiment works and nothing else.
    pub quick: bool,
    /// The machines, by processor, instruction set of the learner and operating system.
    pub machines: Vec<String>,
}

impl Header {
    /// For `experiment`, carried out here and now.
    fn of<E: Experiment>(experiment: &E, quick: bool) -> Header {
        let mut command = vec!["metagd experiment".to_string(), experiment.name().to_string()];
        command.extend(quick.then(|| "--quick".to_string()));
        command.extend(experiment.options());
        Header {
            command: command.join(" "),
            version: env!("CARGO_PKG_VERSION").to_string(),
            commit: commit(),
            quick,
            machines: vec![machine()],
        }
    }

    /// Takes in another one's machines if the rest is the same.
    fn join(&mut self, other: &Header, place: &Path) -> anyhow::Result<()> {
        let own = Header { machines: other.machines.clone(), ..self.clone() };
        if own != *other {
            let say = |header: &Header| {
                let commit = header.commit.as_deref().unwrap_or("unknown");
                format!("`{}` (version {}, commit {commit})", header.command, header.version)
            };
            bail!(
                "{} holds outcomes of {}, not of {}: choose another folder, or remove it",
                place.display(),
                say(other),
                say(self)
            );
        }
        for machine in &other.machines {
            if !self.machines.contains(machine) {
                self.machines.push(machine.clone());
            }
        }
        Ok(())
    }
}

/// The last commit that changed what the program is made of, where its repository and git are at hand.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let sources = ["--", "src", "Cargo.toml", "Cargo.lock"];
        let mut command = Command::new("git");
        command.args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments).args(sources);
        let output = command.output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let commit = git(&["log", "-1", "--format=%h"])?.trim().to_string();
    let changed = !git(&["status", "--porcelain"])?.trim().is_empty();
    (!commit.is_empty()).then(|| if changed { format!("{commit}+") } else { commit })
}

fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let processor = processor.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{processor}, {cores} cores, {}, {}", InstructionSet::best().name(), std::env::consts::OS)
}

/// A run's key: equal for equal runs, however they were written down.
fn key(run: &impl Serialize) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&serde_json::to_string(run)?)?)
}

#[derive(Serialize, Deserialize)]
struct Line {
    run: Value,
    outcome: Value,
}

/// The name of a sweep's file.
pub const FILE: &str = "runs.jsonl";

/// Outcomes by the text of their key.
type Found = HashMap<String, Value>;

/// Reads a sweep's file: what made it, the outcomes, and how far its complete lines reach.
fn read(text: &str, path: &Path) -> anyhow::Result<(Option<Header>, Found, usize)> {
    let (mut header, mut found, mut good) = (None, Found::new(), 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if !line.ends_with('\n') {
            break;
        }
        let place = || format!("{}, line {}", path.display(), number + 1);
        if header.is_none() {
            header = Some(serde_json::from_str(line).with_context(place)?);
        } else {
            let Line { run, outcome } = serde_json::from_str(line).with_context(place)?;
            found.insert(run.to_string(), outcome);
        }
        good += line.len();
    }
    Ok((header, found, good))
}

/// A sweep's file, open to be carried on; nobody else writes to it meanwhile.
struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// Opens the file in `dir`, makes it if there is none, and cuts off what a crash left incomplete.
    fn open(dir: &Path, header: &mut Header) -> anyhow::Result<(Journal, Found)> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let path = dir.join(FILE);
        let cannot = || format!("cannot open {}", path.display());
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).with_context(cannot)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => bail!("another process is at work in {}", dir.display()),
            Err(TryLockError::Error(error)) => tracing::debug!("no lock on {}: {error}", path.display()),
            Ok(()) => {}
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(cannot)?;
        // A line cut off may end within a character.
        let (there, found, good) = read(&String::from_utf8_lossy(&bytes), &path)?;
        let journal = Journal { file: Mutex::new(file), path };
        match there {
            Some(there) => {
                header.join(&there, dir)?;
                journal.cut(good as u64)?;
            }
            None => {
                journal.cut(0)?;
                journal.append(header)?;
            }
        }
        Ok((journal, found))
    }

    fn cut(&self, length: u64) -> anyhow::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.set_len(length)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(())
    }

    fn append(&self, line: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(line)? + "\n";
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Carries out what is not done yet, or gathers shards, as `options` say. What comes of it, unless it is a shard.
///
/// # Errors
/// A run's own, the first in the order of runs, once all others are done; outcomes of another program or size in a folder;
/// runs that are missing in shards; what is wrong with a file.
pub fn carry_out<E: Experiment>(
    experiment: &E,
    options: &Options,
) -> anyhow::Result<Option<(Header, Report)>> {
    let mut header = Header::of(experiment, options.quick);
    let runs = experiment.runs();
    let keys: Vec<Value> = runs.iter().map(key).collect::<anyhow::Result<_>>()?;
    let mut found = if options.merge.is_empty() {
        let (journal, mut found) = Journal::open(&options.dir, &mut header)?;
        let wanted: Vec<usize> = (0..runs.len())
            .filter(|index| options.shard.is_none_or(|shard| index % shard.of == shard.index))
            .collect();
        let open: Vec<usize> =
            wanted.iter().copied().filter(|index| !found.contains_key(&keys[*index].to_string())).collect();
        let bar = progress(experiment.name(), wanted.len(), wanted.len() - open.len());
        let carry_out = |index: usize| {
            let done = experiment.run(&runs[index]).with_context(|| format!("run {}", keys[index]))?;
            // The report is made of what a file gives back, so that it is the same whether the run was done before.
            let outcome: Value = serde_json::from_str(&serde_json::to_string(&done)?)?;
            let line = Line { run: keys[index].clone(), outcome };
            journal.append(&line)?;
            bar.inc(1);
            Ok((keys[index].to_string(), line.outcome))
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.jobs.unwrap_or(0)).build();
        // All are heard before the first error is told, which then does not depend on who was faster.
        let done: Vec<anyhow::Result<_>> = pool
            .context("no threads")?
            .install(|| open.into_par_iter().with_max_len(1).map(carry_out).collect());
        bar.finish_and_clear();
        for done in done {
            let (key, outcome) = done?;
            found.insert(key, outcome);
        }
        found
    } else {
        header.machines.clear();
        merge(options, &mut header, &keys)?
    };
    if options.shard.is_some() {
        return Ok(None);
    }
    let missing: Vec<&Value> = keys.iter().filter(|key| !found.contains_key(&key.to_string())).collect();
    if let Some(first) = missing.first() {
        bail!(
            "{} of {} runs are missing, the first is {first}: is a shard left out?",
            missing.len(),
            runs.len()
        );
    }
    let outcomes = runs.into_iter().zip(&keys).map(|(run, key)| {
        let outcome = found.remove(&key.to_string()).unwrap_or_default();
        let outcome = serde_json::from_value(outcome).with_context(|| format!("the outcome of run {key}"))?;
        Ok((run, outcome))
    });
    let outcomes: Vec<_> = outcomes.collect::<anyhow::Result<_>>()?;
    Ok(Some((header, experiment.report(&outcomes)?)))
}

/// The outcomes in the folders to be merged; they are written to the sweep's own folder as well.
fn merge(options: &Options, header: &mut Header, keys: &[Value]) -> anyhow::Result<Found> {
    let mut found = Found::new();
    for dir in &options.merge {
        let path = dir.join(FILE);
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (there, theirs, _) = read(&String::from_utf8_lossy(&bytes), &path)?;
        let there = there.with_context(|| format!("{} is empty", path.display()))?;
        header.join(&there, dir)?;
        found.extend(theirs);
    }
    let mut whole = header.clone();
    let (journal, there) = Journal::open(&options.dir, &mut whole)?;
    for key in keys {
        let text = key.to_string();
        if let (Some(outcome), false) = (found.get(&text), there.contains_key(&text)) {
            journal.append(&Line { run: key.clone(), outcome: outcome.clone() })?;
        }
    }
    Ok(found)
}

/// A bar on standard error over the runs; nothing where standard error is no terminal.
fn progress(name: &'static str, runs: usize, done: usize) -> ProgressBar {
    let bar = ProgressBar::new(runs as u64).with_message(name).with_position(done as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} runs, {eta} left") {
        bar.set_style(style);
    }
    bar.reset_eta();
    bar
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::experiment::report::{Cell, Table};

    /// Squares numbers, and counts how often it is asked to.
    #[derive(Default)]
    struct Squares {
        count: usize,
        asked: AtomicUsize,
        refuses: Option<usize>,
    }

    impl Experiment for Squares {
        type Run = usize;
        type Outcome = (f64, Option<f64>);

        fn name(&self) -> &'static str {
            "squares"
        }

        fn runs(&self) -> Vec<usize> {
            (0..self.count).collect()
        }

        fn run(&self, run: &usize) -> anyhow::Result<Self::Outcome> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.refuses == Some(*run) {
                bail!("no");
            }
            Ok(((*run as f64).sqrt(), (*run > 0).then(|| (*run as f64).ln())))
        }

        fn report(&self, outcomes: &[(usize, Self::Outcome)]) -> anyhow::Result<Report> {
            let mut table = Table::new("squares", ["n", "root", "ln"]);
            for (run, (root, ln)) in outcomes {
                table.row([Cell::from(*run), Cell::from(format!("{root:?}")), ln.unwrap_or(f64::NAN).into()]);
            }
            Ok(Report { tables: vec![table], ..Report::default() })
        }
    }

    fn squares(count: usize) -> Squares {
        Squares { count, ..Squares::default() }
    }

    fn options(dir: &Path) -> Options {
        Options { dir: dir.to_path_buf(), ..Options::default() }
    }

    fn text(done: anyhow::Result<Option<(Header, Report)>>) -> String {
        let (header, report) = done.unwrap().unwrap();
        serde_json::to_string(&(header, report)).unwrap()
    }

    #[test]
    fn a_sweep_goes_on_where_it_broke_off() {
        let dir = tempfile::tempdir().unwrap();
        let whole = text(carry_out(&squares(9), &options(dir.path())));
        let path = dir.path().join(FILE);
        let full = std::fs::read_to_string(&path).unwrap();
        assert_eq!(full.lines().count(), 10);
        // The header, three runs, and part of a fourth.
        let third = full.match_indices('\n').nth(3).unwrap().0;
        for end in [third + 1, third + 2, third + 9] {
            std::fs::write(&path, &full[..end]).unwrap();
            let again = squares(9);
            assert_eq!(text(carry_out(&again, &options(dir.path()))), whole);
            assert_eq!(again.asked.into_inner(), 6, "cut at {end}");
        }
        let again = squares(9);
        assert_eq!(text(carry_out(&again, &options(dir.path()))), whole);
        assert_eq!(again.asked.into_inner(), 0);
        // Cut off within the first line, it starts anew.
        std::fs::write(&path, &full[..20]).unwrap();
        assert_eq!(text(carry_out(&squares(9), &options(dir.path()))), whole);
    }

    #[test]
    fn shards_merged_are_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        let whole = text(carry_out(&squares(10), &options(&place("whole"))));
        let mut shards = vec![];
        for index in 0..3 {
            let shard = place(&format!("shard{index}"));
            let experiment = squares(10);
            let options = Options { shard: Some(Shard { index, of: 3 }), ..options(&shard) };
            assert!(carry_out(&experiment, &options).unwrap().is_none());
            assert_eq!(experiment.asked.into_inner(), [4, 3, 3][index]);
            shards.push(shard);
        }
        let merging = |merge: &[PathBuf], name: &str| {
            let experiment = squares(10);
            let options = Options { merge: merge.to_vec(), ..options(&place(name)) };
            let done = carry_out(&experiment, &options);
            assert_eq!(experiment.asked.into_inner(), 0);
            done
        };
        assert_eq!(text(merging(&shards, "merged")), whole);
        assert_eq!(text(merging(&[place("merged")], "again")), whole);
        let error = merging(&shards[..2], "incomplete").unwrap_err().to_string();
        assert!(error.starts_with("3 of 10 runs are missing, the first is 2"), "{error}");
    }

    #[test]
    fn a_run_that_fails_is_named_and_the_others_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let failing = Squares { refuses: Some(2), ..squares(5) };
        let error = format!("{:#}", carry_out(&failing, &options(dir.path())).unwrap_err());
        assert_eq!(error, "run 2: no");
        let again = squares(5);
        text(carry_out(&again, &options(dir.path())));
        assert_eq!(again.asked.into_inner(), 1);
    }

    #[test]
    fn outcomes_of_another_program_are_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        text(carry_out(&squares(2), &options(dir.path())));
        let path = dir.path().join(FILE);
        let before = std::fs::read_to_string(&path).unwrap();
        let quick = Options { quick: true, ..options(dir.path()) };
        let error = carry_out(&squares(2), &quick).unwrap_err().to_string();
        assert!(error.contains("holds outcomes of `metagd experiment squares`"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        std::fs::write(&path, before.replacen("{\"run\"", "{\"ran\"", 1)).unwrap();
        let error = format!("{:#}", carry_out(&squares(2), &options(dir.path())).unwrap_err());
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn two_processes_do_not_work_in_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let mut header = Header::of(&squares(1), false);
        let _held = Journal::open(dir.path(), &mut header).unwrap();
        let error = carry_out(&squares(1), &options(dir.path())).unwrap_err().to_string();
        assert!(error.starts_with("another process is at work in"), "{error}");
    }

    #[test]
    fn shards_are_written_as_a_fraction_below_one() {
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, of: 3 }));
        for wrong in ["3/3", "1", "a/2", "1/b", "-1/2", "0/0", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_finite_comes_back_as_not_a_number() {
        #[derive(Serialize, Deserialize)]
        struct Outcome {
            #[serde(deserialize_with = "number")]
            one: f64,
            #[serde(deserialize_with = "numbers")]
            many: Vec<f64>,
        }
        let outcome = Outcome { one: f64::INFINITY, many: vec![1.0, f64::NAN] };
        let back: Outcome = serde_json::from_str(&serde_json::to_string(&outcome).unwrap()).unwrap();
        assert!(back.one.is_nan() && back.many[0] == 1.0 && back.many[1].is_nan());
    }
}
