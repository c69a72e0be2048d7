//! The program as tests run it: on a ROS domain of its own, on loopback.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_metagd");
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A child that does not outlive its test.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn start(domain: u16, args: &[&str]) -> Process {
        Process::start_with(domain, args, &[])
    }

    pub(crate) fn start_with(domain: u16, args: &[&str], environment: &[(&str, &str)]) -> Process {
        let child = Command::new(PROGRAM)
            .args(args)
            .env("ROS_DOMAIN_ID", domain.to_string())
            .env("ROS_LOCALHOST_ONLY", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        Process(child)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).expect("it lives");
    }

    /// Waits for the end, which must come.
    pub(crate) fn end(mut self) -> Output {
        let began = Instant::now();
        while self.0.try_wait().expect("it is ours").is_none() {
            if began.elapsed() > PATIENCE {
                let _ = self.0.kill();
                panic!("the process hangs");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let stdout = self.0.stdout.take().map_or(Ok(String::new()), std::io::read_to_string).expect("UTF-8");
        let stderr = self.0.stderr.take().map_or(Ok(String::new()), std::io::read_to_string).expect("UTF-8");
        let status: ExitStatus = self.0.wait().expect("it has ended");
        Output { status, stdout: stdout.into_bytes(), stderr: stderr.into_bytes() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn urdf() -> String {
    format!("{}/urdf/kuka_lwr.urdf", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn assignment(name: &str, path: &Path) -> String {
    format!("{name}:={}", path.display())
}
