//! A process under a guard. It can be signalled and waited for, and it ends when this process ends.

use std::fmt::Debug;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::paths;

/// How often a wait checks whether the process has ended.
const POLL: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub struct Guarded {
    name: String,
    guard: Child,
    stdin: Option<ChildStdin>,
    pid: u32,
    log: PathBuf,
}

/// What to run under a guard.
#[derive(Debug, Default)]
pub(crate) struct Program<'a> {
    pub name: &'a str,
    pub path: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub log: PathBuf,
    /// How long the process may take to shut down after the harness is gone.
    pub grace: Duration,
    /// The guard removes this directory after the harness and this process are gone.
    pub remove: Option<&'a Path>,
}

impl Guarded {
    pub(crate) fn spawn(program: Program<'_>) -> Result<Self> {
        let Program { name, path, args, env, log, grace, remove } = program;
        let stderr = File::options().create(true).append(true).open(&log).with_context(|| format!("open {}", log.display()))?;
        let mut command = Command::new(paths::sibling("e2e-guard")?);
        command.arg("--grace").arg(grace.as_secs().to_string());
        if let Some(dir) = remove {
            command.arg("--remove").arg(dir);
        }
        command.arg(&log).arg("--").arg(path).args(args).envs(env);
        // A process group of its own, so that Ctrl-C in a terminal ends only the harness. The end of the harness then ends the other
        // processes in order.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut guard = command.spawn().with_context(|| format!("start the guard of {name}"))?;

        let stdin = guard.stdin.take();
        let stdout = guard.stdout.take().context("the guard has no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("read from the guard")?;
        let Ok(pid) = line.trim().parse() else {
            let _ = guard.wait();
            bail!("{name} did not start:\n{}", paths::tail(&log, 20));
        };
        Ok(Self { name: name.to_owned(), guard, stdin, pid, log })
    }

    /// The pid of the process itself, not of its guard.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn guard_pid(&self) -> u32 {
        self.guard.id()
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The exit code if it has ended, or 128 plus the signal. None while it runs.
    pub fn exited(&mut self) -> Result<Option<i32>> {
        let status = self.guard.try_wait().with_context(|| format!("look at {}", self.name))?;
        Ok(status.map(|status| status.code().unwrap_or(-1)))
    }

    /// The same, but waits for the end until the timeout.
    #[expect(clippy::disallowed_methods, reason = "this is how a condition is awaited")]
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<i32>> {
        let until = Instant::now() + timeout;
        loop {
            let code = self.exited()?;
            if code.is_some() || Instant::now() >= until {
                return Ok(code);
            }
            thread::sleep(POLL);
        }
    }

    pub fn terminate(&mut self) {
        self.ask(b't');
    }

    /// Sends SIGTERM, and returns the exit code. If the process has not ended in time, it is killed, and an error is returned.
    pub fn stop(&mut self, timeout: Duration) -> Result<i32> {
        self.terminate();
        if let Some(code) = self.wait(timeout)? {
            return Ok(code);
        }
        self.kill()?;
        bail!("{} did not end within {timeout:?} of SIGTERM:\n{}", self.name, paths::tail(&self.log, 20))
    }

    /// Sends SIGKILL. Returns once the process is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.ask(b'k');
        match self.wait(Duration::from_secs(10))? {
            Some(_) => Ok(()),
            None => bail!("{} (pid {}) survived SIGKILL", self.name, self.pid),
        }
    }

    /// A guard that has ended reads no more requests. Then its child has ended too, so the error is ignored.
    fn ask(&mut self, what: u8) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(&[what]).and_then(|()| stdin.flush());
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Err(err) = self.kill() {
            eprintln!("{err:#}");
        }
    }
}

/// Whether a process with this pid runs. A zombie does not count.
pub fn alive(pid: u32) -> bool {
    if let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        return !matches!(state, Some('Z' | 'X'));
    }
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// Sends SIGKILL to a process that the caller has started.
pub fn kill(pid: u32) -> Result<()> {
    signal(pid, Signal::KILL)
}

/// Sends a signal to a process that the caller has started.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a pid")?;
    kill_process(pid, signal).context("send a signal")
}

/// A process that SIGSTOP has stopped. It continues when this value is dropped, also after a panic.
#[derive(Debug)]
pub struct Paused(u32);

/// Sends SIGSTOP to a process that the caller has started.
pub fn pause(pid: u32) -> Result<Paused> {
    signal(pid, Signal::STOP)?;
    Ok(Paused(pid))
}

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = signal(self.0, Signal::CONT);
    }
}
