//! Peers that are Python scripts: one process each, spoken to line by line (see protocol.py), tensors by files.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::contestant::Contestant;
use crate::state::{State, parse};
use crate::stream::Stream;

/// A running script. Dropped, it ends: its input is closed.
struct Script {
    name: String,
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Script {
    /// Sends one line and gives back the answer.
    fn ask(&mut self, line: &str) -> Result<String> {
        if let Some(to) = &mut self.to {
            writeln!(to, "{line}").with_context(|| format!("{} does not listen", self.name))?;
        }
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            bail!("{} has ended: {}", self.name, self.child.wait()?);
        }
        Ok(line.trim_end().to_string())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.to = None;
        _ = self.child.wait();
    }
}

/// One of the forms in which a script takes the step.
pub struct Peer {
    name: String,
    form: String,
    script: Rc<RefCell<Script>>,
    folder: PathBuf,
}

/// The interpreter: `METAGD_PYTHON`, or that of the environment which `just peers` makes, or python3.
pub fn interpreter() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers-venv/bin/python");
    match std::env::var_os("METAGD_PYTHON") {
        Some(path) => path.into(),
        None if own.is_file() => own,
        None => "python3".into(),
    }
}

/// Starts a script, which reads its start from `folder`/start.safetensors; `Err` says what it lacks.
pub fn start(script: &str, folder: &Path) -> Result<Vec<Peer>> {
    let mut child = Command::new(interpreter())
        .arg("-u")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
        .arg(folder.join("start.safetensors"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", interpreter().display()))?;
    let to = child.stdin.take();
    let from = BufReader::new(child.stdout.take().context("no pipe")?);
    let mut script = Script { name: script.to_string(), child, to, from };
    let answer = script.answer()?;
    let Some(described) = answer.strip_prefix("ready ") else { bail!("{answer}") };
    let (version, forms) = described.split_once(": ").unwrap_or((described, ""));
    let script = Rc::new(RefCell::new(script));
    let peer = |form: &str| Peer {
        name: format!("{version}, {form}"),
        form: form.to_string(),
        script: Rc::clone(&script),
        folder: folder.to_path_buf(),
    };
    Ok(forms.split(", ").map(peer).collect())
}

impl Peer {
    fn ask(&self, line: &str) -> Result<String> {
        self.script.borrow_mut().ask(line)
    }
}

impl Contestant for Peer {
    fn name(&self) -> &str {
        &self.name
    }

    fn load(&mut self, stream: &Stream) -> Result<()> {
        let path = self.folder.join("stream.safetensors");
        stream.save(&path)?;
        self.ask(&format!("load {}", path.display())).map(drop)
    }

    fn run(&mut self, steps: usize) -> Result<Duration> {
        let answer = self.ask(&format!("run {steps} {}", self.form))?;
        let ns = answer.parse().with_context(|| format!("{} said `{answer}`", self.name))?;
        Ok(Duration::from_nanos(ns))
    }

    fn state(&mut self) -> Result<State> {
        let path = self.folder.join("result.safetensors");
        self.ask(&format!("save {}", path.display()))?;
        parse(&std::fs::read(path)?)
    }
}
