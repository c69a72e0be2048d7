//! `metagd demo`: the main job on one computer. The simulated arm and the node run as two processes that speak real DDS on
//! loopback, in a free domain; what they leave in the run folder is what a robot PC would have.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::signals::Interrupt;
use crate::report::{Table, number, short_names};

/// Simulated arm and node, as two processes on loopback: payload none, light, heavy, learning carried on.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Length of the motion in seconds; the lifts are fitted to it.
    #[arg(long, default_value_t = 60.0, value_parser = super::seconds)]
    seconds: f64,
    /// Seed of the arm's true parameters, its noise and the lifts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run folder [default: a new one below runs/].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Parameters of the node that differ from its defaults.
    #[arg(short = 'p', long = "param", value_name = "NAME:=VALUE")]
    param: Vec<String>,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
}

/// The built-in arm, written into the run folder so that the run can be repeated from it alone.
const URDF: &str = crate::sim::LWR_URDF;

/// What a process may take to come up, or to save and leave.
const GRACE: Duration = Duration::from_secs(20);

/// Runs `metagd demo`.
///
/// # Errors
/// If a process cannot be started, fails, or does not stop.
pub fn run(args: &Args) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let run = run_folder(args.out.as_deref())?;
    let domain = crate::ros::free_domain().context("no free ROS domain on loopback")?;
    let urdf = run.join("kuka_lwr.urdf");
    std::fs::write(&urdf, URDF)?;
    let params = run.join("params.yaml");
    std::fs::write(&params, parameters(&run, &urdf))?;
    eprintln!("domain {domain}, run folder {}", run.display());

    let program = std::env::current_exe().context("where is this program?")?;
    let process = |name: &str| -> Result<Command> {
        let mut command = Command::new(&program);
        command.env("ROS_DOMAIN_ID", domain.to_string()).env("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST");
        for other in ["ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS", "ROS_NAMESPACE"] {
            command.env_remove(other);
        }
        command.stdin(Stdio::null()).stderr(File::create(run.join(format!("{name}.log")))?);
        Ok(command)
    };
    let mut node = process("node")?;
    node.args(["node", "--params-file"]).arg(&params).stdout(Stdio::null());
    for assignment in &args.param {
        node.args(["-p", assignment]);
    }
    let mut simulator = process("simulator")?;
    simulator
        .args(["simulate", "--live", "--script", "demo", "--json"])
        .args(["--seconds", &args.seconds.to_string(), "--seed", &args.seed.to_string()])
        .arg("--urdf")
        .arg(&urdf)
        .stdout(File::create(run.join("simulation.json"))?);

    let mut node = Process::start("node", node)?;
    let mut simulator = Process::start("simulator", simulator)?;
    let simulated = simulator.watch(args.seconds, &mut node, &interrupt);
    let left = node.terminate();
    for result in [simulated, left] {
        result.with_context(|| format!("the logs are in {}", run.display()))?;
    }
    if interrupt.raised() {
        bail!("interrupted; what was recorded is in {}", run.display());
    }

    let figures = figures(&run)?;
    std::fs::write(run.join("demo.json"), serde_json::to_string_pretty(&figures)? + "\n")?;
    if args.json {
        super::print(&(serde_json::to_string_pretty(&figures)? + "\n"))
    } else {
        super::print(&tables(&figures)?)
    }
}

/// Makes the run folder: the one named, or a new one below `runs/`.
fn run_folder(named: Option<&Path>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_path_buf(),
        None => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
            PathBuf::from(format!("runs/demo-{}", now.as_secs()))
        }
    };
    std::fs::create_dir_all(&path)
        .with_context(|| format!("cannot make the run folder {}", path.display()))?;
    Ok(path.canonicalize()?)
}

/// The node's parameter file.
fn parameters(run: &Path, urdf: &Path) -> String {
    let text = |path: &Path| serde_json::to_string(&path.to_string_lossy()).expect("a string serialises");
    format!(
        "/metagd:\n  ros__parameters:\n    urdf: {}\n    run_dir: {}\n    checkpoint:\n      save: {}\n",
        text(urdf),
        text(run),
        text(&run.join("checkpoint.safetensors")),
    )
}

/// A child that does not outlive us.
struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    fn start(name: &'static str, mut command: Command) -> Result<Process> {
        let child = command.spawn().with_context(|| format!("cannot start the {name}"))?;
        Ok(Process { name, child })
    }

    /// Waits for the simulator to end by itself, and for as long as the node lives.
    fn watch(&mut self, seconds: f64, node: &mut Process, interrupt: &Interrupt) -> Result<()> {
        let progress = indicatif::ProgressBar::new((seconds * 10.0) as u64).with_style(
            indicatif::ProgressStyle::with_template("{bar:40} {elapsed} of about {msg}")
                .expect("a fixed template"),
        );
        progress.set_message(format!("{seconds:.0} s"));
        let started = Instant::now();
        let limit = Duration::from_secs_f64(seconds * 1.5) + 2 * GRACE;
        let ended = loop {
            progress.set_position((started.elapsed().as_secs_f64() * 10.0) as u64);
            if let Some(status) = self.child.try_wait()? {
                break self.judge(status);
            }
            if let Some(status) = node.child.try_wait()? {
                node.judge(status)?;
                bail!("the node ended before the simulator");
            }
            if interrupt.raised() {
                break self.terminate();
            }
            if started.elapsed() > limit {
                bail!("the simulator did not end within {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        progress.finish_and_clear();
        ended
    }

    /// Asks for a clean stop and waits for it.
    fn terminate(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            let pid = rustix::process::Pid::from_child(&self.child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return self.judge(status);
            }
            if asked.elapsed() > GRACE {
                bail!("the {} did not stop within {} s", self.name, GRACE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn judge(&self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        bail!("the {} failed ({status}); see {}.log", self.name, self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the two processes left in the run folder, as one: the JSON that the README promises.
fn figures(run: &Path) -> Result<Value> {
    let read = |name: &str| -> Result<Value> {
        let path = run.join(name);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not what was expected", path.display()))
    };
    let (simulation, latency) = (read("simulation.json")?, read("latency.json")?);
    let of_mode = |mode: &str, figure: &str| {
        let scores = simulation["by_mode"].as_array().into_iter().flatten();
        scores
            .filter(|score| score["mode"] == mode)
            .map(|score| score[figure].clone())
            .next()
            .unwrap_or(json!([]))
    };
    Ok(json!({
        "joints": simulation["joints"],
        "tracking_rms_rad": {
            "with": of_mode("node", "tracking_rms_rad"),
            "without": of_mode("off", "tracking_rms_rad"),
            "rigid_body": of_mode("rigid-body", "tracking_rms_rad"),
        },
        "torque_rms_nm": of_mode("node", "torque_rms_nm"),
        "torque_rms_rigid_body_nm": of_mode("rigid-body", "torque_rms_nm"),
        "by_payload": simulation["by_payload"],
        "feedforward": simulation["feedforward"],
        "simulator": simulation["live"],
        "latency": latency,
        "run": run,
    }))
}

/// The same for people.
fn tables(figures: &Value) -> Result<String> {
    let joints: Vec<String> = serde_json::from_value(figures["joints"].clone())?;
    let header: Vec<String> =
        ["payload", "feed-forward"].map(String::from).into_iter().chain(short_names(&joints)).collect();
    let scores: Vec<Value> = serde_json::from_value(figures["by_payload"].clone())?;
    let table = |figure: &str, factor: f64| {
        let mut table = Table::new(2, &header);
        for score in &scores {
            let name = |key: &str| score[key].as_str().unwrap_or("-").to_string();
            let values = score[figure].as_array().into_iter().flatten();
            let cells = values.map(|value| number(factor * value.as_f64().unwrap_or(f64::NAN)));
            table.row([name("payload"), name("mode")].into_iter().chain(cells));
        }
        table.render()
    };
    let mean = |mode: &str| {
        let values: Vec<f64> =
            serde_json::from_value(figures["tracking_rms_rad"][mode].clone()).unwrap_or_default();
        (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt() * 1e3
    };
    let (with, without, rigid_body) = (mean("with"), mean("without"), mean("rigid_body"));
    let summary: crate::realtime::Summary = serde_json::from_value(figures["latency"].clone())?;
    let mut text = format!("tracking error, RMS [mrad]\n{}", table("tracking_rms_rad", 1e3));
    text += &format!("\ntorque error of the feed-forward, RMS [Nm]\n{}", table("torque_rms_nm", 1.0));
    text += &format!("\nlatency of the node\n{}", crate::report::latency::render(&summary));
    let stalled_ms = figures["simulator"]["stalled_ms"].as_f64().unwrap_or(0.0);
    if stalled_ms > 0.0 {
        text += &format!(
            "the simulated robot stood still for {} ms in all, because its computer did: its stamps, and so `transport`, lag \
             by as much\n",
            number(stalled_ms)
        );
    }
    text += &format!(
        "\nall joints and payloads: {} mrad with the node's feed-forward, {} with the nominal rigid body's, {} without \
         any: {} times less\nrun folder: {}\n",
        number(with),
        number(rigid_body),
        number(without),
        number(without / with),
        figures["run"].as_str().unwrap_or_default(),
    );
    Ok(text)
}
