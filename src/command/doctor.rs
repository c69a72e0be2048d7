//! `metagd doctor`: what this computer grants a 1 kHz real-time thread, and what to change.
//!
//! Contract: reads /proc and /sys, tries what the node will ask for, changes nothing that outlives the command. Every
//! row is a judgement of its own; one that cannot be read is said so and never stops the others.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::learn::InstructionSet;
use crate::realtime::thread::{self, Grant};
use crate::report::{Table, number};

/// `metagd doctor`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print JSON to standard output instead of a table.
    #[arg(long)]
    json: bool,
    /// Exit with 1 if any row is FAIL.
    #[arg(long)]
    strict: bool,
    /// SCHED_FIFO priority to try and to measure at.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=99))]
    priority: u8,
    /// How long to measure the wake-up of a thread that sleeps 1 ms.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = super::seconds)]
    seconds: f64,
}

/// How a row is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, with longer tails than need be.
    Warn,
    /// Stands in the way of running at 1 kHz with a 10 ms deadline.
    Fail,
}

/// One row: what was looked at, what was found, how it is judged, what to change.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was looked at.
    pub what: &'static str,
    /// How it is judged.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to change; empty if nothing.
    pub advice: String,
}

impl Row {
    fn new(what: &'static str, level: Level, found: impl Into<String>, advice: &str) -> Row {
        let advice = if level == Level::Ok { String::new() } else { advice.to_string() };
        Row { what, level, found: found.into(), advice }
    }

    fn unknown(what: &'static str, why: &str) -> Row {
        Row::new(what, Level::Ok, format!("not shown by this kernel ({why})"), "")
    }
}

/// How late a thread woke that slept 1 ms again and again, µs.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct WakeUp {
    /// How often it slept.
    pub count: u64,
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// The worst.
    pub max_us: f64,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// One row for each thing looked at.
    pub rows: Vec<Row>,
    /// The measured wake-up.
    pub wake_up: WakeUp,
    /// The worst level of all rows.
    pub worst: Level,
}

/// Where /proc and /sys are; a test puts its own files there.
struct System {
    root: PathBuf,
}

impl System {
    /// A file's text without surrounding blanks; `None` if it cannot be read.
    fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_string())
    }

    /// The sub-folders or files of `folder` whose name is `prefix` and a number, in the order of that number.
    fn numbered(&self, folder: &str, prefix: &str) -> Vec<String> {
        let mut found: Vec<(u32, String)> = std::fs::read_dir(self.root.join(folder))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let number = name.strip_prefix(prefix)?.parse().ok()?;
                Some((number, format!("{folder}/{name}")))
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, path)| path).collect()
    }

    fn rows(&self) -> Vec<Row> {
        vec![
            self.kernel(),
            self.throttling(),
            self.isolated(),
            self.tickless(),
            self.governor(),
            self.threads_per_core(),
            self.turbo(),
            self.idle_states(),
            self.clock_source(),
            self.virtual_machine(),
            self.receive_buffers(),
        ]
    }

    fn kernel(&self) -> Row {
        let release = self.read("proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
        let version = self.read("proc/sys/kernel/version").unwrap_or_default();
        let preempt_rt =
            self.read("sys/kernel/realtime").as_deref() == Some("1") || version.contains("PREEMPT_RT");
        let model = if preempt_rt {
            "PREEMPT_RT"
        } else if version.contains("PREEMPT") {
            "preemptible, not PREEMPT_RT"
        } else {
            "not preemptible"
        };
        Row::new(
            "kernel",
            if preempt_rt { Level::Ok } else { Level::Warn },
            format!("{release}, {model}"),
            "boot a PREEMPT_RT kernel (Debian: apt install linux-image-rt-amd64; Ubuntu: pro enable realtime-kernel)",
        )
    }

    fn limit(&self, name: &str) -> Option<String> {
        let limits = self.read("proc/self/limits")?;
        let line = limits.lines().find(|line| line.starts_with(name))?;
        line[name.len()..].split_whitespace().next().map(str::to_string)
    }

    fn throttling(&self) -> Row {
        let what = "real-time throttling";
        let number = |path| self.read(path).and_then(|text| text.parse::<i64>().ok());
        let (Some(runtime), Some(period)) =
            (number("proc/sys/kernel/sched_rt_runtime_us"), number("proc/sys/kernel/sched_rt_period_us"))
        else {
            return Row::unknown(what, "sched_rt_runtime_us");
        };
        if runtime < 0 {
            return Row::new(what, Level::Ok, "off (sched_rt_runtime_us = -1)", "");
        }
        let level = match runtime * 100 / period.max(1) {
            90.. => Level::Ok,
            20..90 => Level::Warn,
            _ => Level::Fail,
        };
        Row::new(
            what,
            level,
            format!(
                "{runtime} of {period} µs for real-time threads (metagd needs under 10 %; spinning needs all)"
            ),
            "sysctl -w kernel.sched_rt_runtime_us=950000",
        )
    }

    fn isolated(&self) -> Row {
        let online = self.read("sys/devices/system/cpu/online").unwrap_or_else(|| "?".into());
        match self.read("sys/devices/system/cpu/isolated") {
            Some(list) if !list.is_empty() => {
                Row::new("isolated CPUs", Level::Ok, format!("{list} (online {online})"), "")
            }
            _ => Row::new(
                "isolated CPUs",
                Level::Warn,
                format!("none (online {online})"),
                "give the pinned thread a core of its own: isolcpus=N nohz_full=N rcu_nocbs=N on the kernel's \
                 command line, and cpu_affinity: [N]; without one, `wait: spin` starves what else runs there",
            ),
        }
    }

    fn tickless(&self) -> Row {
        match self.read("sys/devices/system/cpu/nohz_full") {
            Some(list) if !list.is_empty() && list != "(null)" => {
                Row::new("tick-free CPUs (nohz_full)", Level::Ok, list, "")
            }
            _ => Row::new(
                "tick-free CPUs (nohz_full)",
                Level::Warn,
                "none",
                "nohz_full=N rcu_nocbs=N on the kernel's command line, for the isolated core",
            ),
        }
    }

    fn governor(&self) -> Row {
        let what = "frequency governor";
        let mut governors: Vec<String> = self
            .numbered("sys/devices/system/cpu", "cpu")
            .iter()
            .filter_map(|cpu| self.read(&format!("{cpu}/cpufreq/scaling_governor")))
            .collect();
        governors.sort();
        governors.dedup();
        if governors.is_empty() {
            return Row::unknown(what, "no cpufreq");
        }
        let level = if governors == ["performance"] { Level::Ok } else { Level::Warn };
        Row::new(what, level, governors.join(", "), "cpupower frequency-set -g performance")
    }

    fn threads_per_core(&self) -> Row {
        let what = "simultaneous multithreading";
        match self.read("sys/devices/system/cpu/smt/active").as_deref() {
            Some("1") => Row::new(
                what,
                Level::Warn,
                "on: two threads share a core's units and caches",
                "leave the sibling of the pinned core idle, or echo off > /sys/devices/system/cpu/smt/control",
            ),
            Some(_) => Row::new(what, Level::Ok, "off", ""),
            None => Row::unknown(what, "no smt/active"),
        }
    }

    fn turbo(&self) -> Row {
        let what = "turbo";
        let on = match (
            self.read("sys/devices/system/cpu/intel_pstate/no_turbo").as_deref(),
            self.read("sys/devices/system/cpu/cpufreq/boost").as_deref(),
        ) {
            (Some("0"), _) | (_, Some("1")) => true,
            (Some(_), _) | (_, Some(_)) => false,
            _ => return Row::unknown(what, "no intel_pstate, no boost"),
        };
        let found = if on {
            "on: faster, but step times vary with the other cores' load"
        } else {
            "off: step times steady"
        };
        Row::new(what, Level::Ok, found, "")
    }

    fn idle_states(&self) -> Row {
        let what = "idle states";
        let deepest = self
            .numbered("sys/devices/system/cpu/cpu0/cpuidle", "state")
            .into_iter()
            .filter(|state| self.read(&format!("{state}/disable")).as_deref() != Some("1"))
            .filter_map(|state| {
                let latency: u64 = self.read(&format!("{state}/latency"))?.parse().ok()?;
                Some((latency, self.read(&format!("{state}/name"))?))
            })
            .max();
        let Some((latency, name)) = deepest else {
            return Row::unknown(what, "no cpuidle");
        };
        Row::new(
            what,
            if latency > 50 { Level::Warn } else { Level::Ok },
            format!("deepest {name}, {latency} µs to leave"),
            "keep cores awake while the robot moves: hold /dev/cpu_dma_latency open at 0 (tuned-adm profile \
             latency-performance), or processor.max_cstate=1 on the kernel's command line",
        )
    }

    fn clock_source(&self) -> Row {
        let what = "clock source";
        let path = "sys/devices/system/clocksource/clocksource0";
        let Some(current) = self.read(&format!("{path}/current_clocksource")) else {
            return Row::unknown(what, "no clocksource");
        };
        let fast = matches!(
            current.as_str(),
            "tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page"
        );
        Row::new(
            what,
            if fast { Level::Ok } else { Level::Warn },
            current,
            "reading this clock takes a system call or microseconds; see dmesg for why the TSC was found unstable, or \
             boot with tsc=reliable",
        )
    }

    fn virtual_machine(&self) -> Row {
        let what = "virtual machine";
        let hypervisor = self.read("proc/cpuinfo").is_some_and(|text| {
            text.lines().any(|line| {
                line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "hypervisor")
            })
        });
        if hypervisor {
            Row::new(
                what,
                Level::Warn,
                "yes: the host may take the core away at any time, for milliseconds",
                "fine for learning from bags; drive a robot from a real computer",
            )
        } else {
            Row::new(what, Level::Ok, "no sign of one", "")
        }
    }

    fn receive_buffers(&self) -> Row {
        let what = "UDP receive buffers";
        let Some(bytes) = self.read("proc/sys/net/core/rmem_max").and_then(|text| text.parse::<u64>().ok())
        else {
            return Row::unknown(what, "rmem_max");
        };
        Row::new(
            what,
            if bytes >= 1 << 20 { Level::Ok } else { Level::Warn },
            format!("net.core.rmem_max = {bytes} bytes"),
            "DDS may lose bursts: sysctl -w net.core.rmem_max=16777216",
        )
    }
}

/// What the learner's loops run on.
fn learning_kernel() -> Row {
    let set = InstructionSet::best();
    match std::env::var("METAGD_KERNEL") {
        Ok(wanted) if wanted != set.word() => {
            let words: Vec<_> = InstructionSet::available().into_iter().map(InstructionSet::word).collect();
            let advice = format!("METAGD_KERNEL may be {} here", words.join(", "));
            Row::new("learning kernel", Level::Warn, format!("{set:?}; not METAGD_KERNEL={wanted}"), &advice)
        }
        _ => Row::new("learning kernel", Level::Ok, format!("{set:?}"), ""),
    }
}

/// Whether a datagram sent to DDS's discovery group leaves and returns by loopback.
fn loopback_multicast() -> Row {
    let what = "loopback multicast (DDS)";
    let group = Ipv4Addr::new(239, 255, 0, 1);
    let exchange = || -> std::io::Result<()> {
        let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        receiver.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
        receiver.set_read_timeout(Some(Duration::from_millis(500)))?;
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        sender.set_multicast_ttl_v4(1)?;
        sender.send_to(b"metagd doctor", (group, receiver.local_addr()?.port()))?;
        let mut buffer = [0; 32];
        receiver.recv_from(&mut buffer).map(|_| ())
    };
    match exchange() {
        Ok(()) => Row::new(what, Level::Ok, format!("{group} goes round on lo"), ""),
        Err(error) => Row::new(
            what,
            Level::Warn,
            format!("{group} does not go round on lo: {error}"),
            "nodes on this computer may not find each other without another network: ip link set lo multicast on; \
             ip route add 239.255.0.0/16 dev lo",
        ),
    }
}

/// Whether a thread of ours may run under SCHED_FIFO, and how late it then wakes.
fn priority_and_wake_up(system: &System, priority: u8, seconds: f64) -> (Row, WakeUp) {
    let measured = std::thread::scope(|scope| {
        let probe = scope.spawn(|| {
            let granted = thread::set_fifo(i32::from(priority));
            (granted, measure_wake_up(seconds))
        });
        probe.join()
    });
    let (granted, wake_up) = measured
        .unwrap_or_else(|_| (Err(std::io::Error::other("the probe thread panicked")), WakeUp::default()));
    let limit = system.limit("Max realtime priority").unwrap_or_else(|| "unknown".into());
    let row = match granted {
        _ if priority == 0 => Row::new("priority", Level::Ok, "SCHED_OTHER, as asked for", ""),
        Ok(()) => Row::new(
            "priority",
            Level::Ok,
            format!("SCHED_FIFO {priority} granted (RLIMIT_RTPRIO {limit})"),
            "",
        ),
        Err(error) => Row::new(
            "priority",
            Level::Fail,
            format!("SCHED_FIFO {priority} not granted: {error} (RLIMIT_RTPRIO {limit})"),
            "add `@realtime - rtprio 98` to /etc/security/limits.d/realtime.conf and log in again as a member of that \
             group; or give the binary CAP_SYS_NICE; or docker's --cap-add=sys_nice --ulimit rtprio=98",
        ),
    };
    (row, wake_up)
}

/// Whether memory may be locked: tried, and undone.
fn memory_lock(system: &System) -> Row {
    let limit = system.limit("Max locked memory").unwrap_or_else(|| "unknown".into());
    let grant = thread::lock_memory();
    thread::unlock_memory();
    match grant {
        Grant::Refused { why, remedy, .. } => Row::new(
            "memory lock",
            Level::Fail,
            format!("not granted: {why} (RLIMIT_MEMLOCK {limit})"),
            &remedy,
        ),
        granted => Row::new("memory lock", Level::Ok, format!("{granted} (RLIMIT_MEMLOCK {limit})"), ""),
    }
}

/// Looks at everything.
pub fn examine(priority: u8, seconds: f64) -> Findings {
    let system = System { root: PathBuf::from("/") };
    let mut rows = system.rows();
    let (row, wake_up) = priority_and_wake_up(&system, priority, seconds);
    rows.splice(1..1, [row, memory_lock(&system)]);
    rows.push(loopback_multicast());
    rows.push(learning_kernel());
    rows.push(wake_up_row(&wake_up));
    let worst = rows.iter().map(|row| row.level).max().unwrap_or(Level::Ok);
    Findings { rows, wake_up, worst }
}

/// Runs `metagd doctor`.
///
/// # Errors
/// Only if standard output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let findings = examine(args.priority, args.seconds);
    if args.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&findings)?))?;
    } else {
        super::print(&render(&findings))?;
    }
    let failed = args.strict && findings.worst == Level::Fail;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn render(findings: &Findings) -> String {
    let mut table = Table::new(3, &["what", "", "found, and what to change"]);
    for row in &findings.rows {
        let level = match row.level {
            Level::Ok => "OK",
            Level::Warn => "WARN",
            Level::Fail => "FAIL",
        };
        let text = if row.advice.is_empty() {
            row.found.clone()
        } else {
            format!("{}\n> {}", row.found, row.advice)
        };
        table.row([row.what, level, &text]);
    }
    let count = |level| findings.rows.iter().filter(|row| row.level == level).count();
    format!(
        "{}\n{} OK, {} WARN, {} FAIL\n",
        table.render(),
        count(Level::Ok),
        count(Level::Warn),
        count(Level::Fail)
    )
}

/// How late a thread wakes that sleeps 1 ms again and again, for `seconds`; the calling thread's own priority.
fn measure_wake_up(seconds: f64) -> WakeUp {
    let period = Duration::from_millis(1);
    let capacity = (seconds * 1000.0) as usize + 1;
    let mut late: Vec<f64> = Vec::with_capacity(capacity);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while late.len() < capacity {
        let start = Instant::now();
        if start >= end && !late.is_empty() {
            break;
        }
        std::thread::sleep(period);
        late.push((start.elapsed().saturating_sub(period)).as_nanos() as f64 / 1e3);
    }
    late.sort_by(f64::total_cmp);
    let percentile = |p: f64| {
        let rank = (p * late.len() as f64).ceil() as usize;
        late[rank.clamp(1, late.len()) - 1]
    };
    WakeUp {
        count: late.len() as u64,
        p50_us: percentile(0.5),
        p99_us: percentile(0.99),
        max_us: percentile(1.0),
    }
}

fn wake_up_row(wake_up: &WakeUp) -> Row {
    let level = if wake_up.p99_us >= 5_000.0 {
        Level::Fail
    } else if wake_up.p99_us >= 100.0 || wake_up.max_us >= 1_000.0 {
        Level::Warn
    } else {
        Level::Ok
    };
    Row::new(
        "wake-up after 1 ms",
        level,
        format!(
            "late by {} µs (median), {} µs (99 %), {} µs (worst of {})",
            number(wake_up.p50_us),
            number(wake_up.p99_us),
            number(wake_up.max_us),
            wake_up.count
        ),
        "see the rows above: kernel, isolated CPUs, idle states, virtual machine",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A computer made of files.
    fn system(files: &[(&str, &str)]) -> (tempfile::TempDir, System) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = dir.path().to_path_buf();
        (dir, System { root })
    }

    fn level(rows: &[Row], what: &str) -> Level {
        rows.iter().find(|row| row.what == what).unwrap_or_else(|| panic!("no row {what}")).level
    }

    #[test]
    fn a_tuned_robot_computer_is_ok_throughout() {
        let (_dir, system) = system(&[
            ("proc/sys/kernel/osrelease", "6.8.1-rt\n"),
            ("proc/sys/kernel/version", "#1 SMP PREEMPT_RT Mon\n"),
            ("sys/kernel/realtime", "1\n"),
            ("proc/sys/kernel/sched_rt_runtime_us", "-1\n"),
            ("proc/sys/kernel/sched_rt_period_us", "1000000\n"),
            ("sys/devices/system/cpu/online", "0-7\n"),
            ("sys/devices/system/cpu/isolated", "7\n"),
            ("sys/devices/system/cpu/nohz_full", "7\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/smt/active", "0\n"),
            ("sys/devices/system/cpu/intel_pstate/no_turbo", "1\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state0/name", "POLL\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state0/latency", "0\n"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
            ("proc/cpuinfo", "flags\t\t: fpu vme avx2\n"),
            ("proc/sys/net/core/rmem_max", "16777216\n"),
        ]);
        for row in system.rows() {
            assert_eq!(row.level, Level::Ok, "{row:?}");
            assert!(row.advice.is_empty(), "{row:?}");
        }
    }

    #[test]
    fn what_lengthens_tails_is_warned_of_with_advice() {
        let (_dir, system) = system(&[
            ("proc/sys/kernel/osrelease", "6.8.1\n"),
            ("proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC Mon\n"),
            ("proc/sys/kernel/sched_rt_runtime_us", "100000\n"),
            ("proc/sys/kernel/sched_rt_period_us", "1000000\n"),
            ("sys/devices/system/cpu/isolated", "\n"),
            ("sys/devices/system/cpu/nohz_full", "(null)\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
            ("sys/devices/system/cpu/cpu10/cpufreq/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/smt/active", "1\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state0/name", "C1\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state0/latency", "2\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state3/name", "C10\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state3/latency", "890\n"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n"),
            ("proc/cpuinfo", "flags\t\t: fpu hypervisor avx2\n"),
            ("proc/sys/net/core/rmem_max", "212992\n"),
        ]);
        let rows = system.rows();
        for row in &rows {
            let expected = match row.what {
                "real-time throttling" => Level::Fail,
                "turbo" => Level::Ok,
                _ => Level::Warn,
            };
            assert_eq!(row.level, expected, "{row:?}");
            assert_eq!(row.advice.is_empty(), expected == Level::Ok, "{row:?}");
        }
        let idle = rows.iter().find(|row| row.what == "idle states").unwrap();
        assert!(idle.found.contains("C10") && idle.found.contains("890"), "{idle:?}");
    }

    #[test]
    fn a_disabled_idle_state_does_not_count() {
        let (_dir, system) = system(&[
            ("sys/devices/system/cpu/cpu0/cpuidle/state0/name", "C1"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state0/latency", "2"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state1/name", "C6"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state1/latency", "133"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state1/disable", "1"),
        ]);
        assert_eq!(level(&[system.idle_states()], "idle states"), Level::Ok);
    }

    #[test]
    fn a_computer_that_shows_nothing_is_still_judged() {
        let (_dir, system) = system(&[]);
        assert_eq!(system.rows().len(), 11);
    }

    #[test]
    fn limits_are_read_from_the_kernels_table() {
        let (_dir, system) = system(&[(
            "proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max locked memory         8388608              8388608              bytes     \n\
             Max realtime priority     0                    0                    \n",
        )]);
        assert_eq!(system.limit("Max locked memory").as_deref(), Some("8388608"));
        assert_eq!(system.limit("Max realtime priority").as_deref(), Some("0"));
        assert_eq!(system.limit("Max nonsense"), None);
    }

    #[test]
    fn the_wake_up_is_judged_by_its_tail() {
        let of = |p99_us, max_us| wake_up_row(&WakeUp { count: 9, p50_us: 5.0, p99_us, max_us }).level;
        assert_eq!(of(20.0, 80.0), Level::Ok);
        assert_eq!(of(20.0, 4_000.0), Level::Warn);
        assert_eq!(of(9_000.0, 40_000.0), Level::Fail);
    }
}
