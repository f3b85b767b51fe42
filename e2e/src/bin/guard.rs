//! `e2e-guard [--grace SECONDS] [--remove DIR] LOGFILE -- CMD ARGS…`: runs CMD, and makes sure that CMD does not outlive the harness.
//!
//! The harness holds the other end of our stdin. A `t` on stdin asks for SIGTERM to CMD, a `k` for SIGKILL. The end of stdin also comes
//! when the harness is killed. Then the guard sends SIGTERM, after the grace period SIGKILL, and then removes DIR.
//! If the guard itself is killed, the kernel kills CMD (through setpriv, where it is installed).
//! The first line on stdout is the pid of CMD. The exit code is that of CMD, or 128 plus its signal.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

struct Args {
    grace: Duration,
    remove: Option<PathBuf>,
    log: PathBuf,
    command: Vec<OsString>,
}

#[derive(Clone, Copy)]
enum Message {
    Signal(Signal),
    HarnessGone,
    Ended,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(err) => {
            eprintln!("e2e-guard: {err:#}");
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<u8> {
    let args = parse(env::args_os().skip(1))?;
    // The kernel's parent death signal is bound to the thread that spawned the child. This is the main thread, which lives as long as
    // the guard.
    let mut child = spawn(&args)?;
    let pid = Pid::from_child(&child);
    // The harness may already be gone. Then the end of stdin reports that too.
    let _ = writeln!(io::stdout(), "{}", child.id()).and_then(|()| io::stdout().flush());

    let (sender, messages) = mpsc::channel();
    let ended = sender.clone();
    thread::spawn(move || listen(&sender));
    thread::spawn(move || {
        // Waits without reaping. The pid stays valid until `wait` below, so a signal cannot hit another process.
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {}
        let _ = ended.send(Message::Ended);
    });

    let orphaned = supervise(pid, &messages, args.grace)?;
    let status = child.wait().context("reap the child")?;
    if let (true, Some(dir)) = (orphaned, &args.remove) {
        remove(dir);
    }
    Ok(exit_code(status))
}

/// Returns when the child has ended. True if it ended because the harness was gone.
fn supervise(pid: Pid, messages: &Receiver<Message>, grace: Duration) -> Result<bool> {
    let mut kill_at: Option<Instant> = None;
    loop {
        let message = match kill_at {
            None => messages.recv().context("both threads are gone")?,
            Some(at) => match messages.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    kill(pid, Signal::KILL);
                    messages.recv().context("the listener is gone")?
                }
                Err(RecvTimeoutError::Disconnected) => bail!("both threads are gone"),
            },
        };
        match message {
            Message::Ended => return Ok(kill_at.is_some()),
            Message::Signal(signal) => kill(pid, signal),
            Message::HarnessGone => {
                kill(pid, Signal::TERM);
                kill_at = Some(Instant::now() + grace);
            }
        }
    }
}

/// Sends a signal. If the child has ended in the meantime, the error is ignored.
fn kill(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}

fn listen(sender: &Sender<Message>) {
    let mut byte = [0];
    loop {
        let message = match io::stdin().read(&mut byte) {
            Ok(1) if byte[0] == b't' => Message::Signal(Signal::TERM),
            Ok(1) if byte[0] == b'k' => Message::Signal(Signal::KILL),
            Ok(1) => continue,
            Ok(_) | Err(_) => Message::HarnessGone,
        };
        if sender.send(message).is_err() || matches!(message, Message::HarnessGone) {
            return;
        }
    }
}

fn spawn(args: &Args) -> Result<Child> {
    let log =
        File::options().create(true).append(true).open(&args.log).with_context(|| format!("open {}", args.log.display()))?;
    let mut words = Vec::new();
    if let Some(setpriv) = find_in_path("setpriv") {
        words.extend([setpriv.into_os_string(), "--pdeathsig".into(), "KILL".into(), "--".into()]);
    }
    words.extend(args.command.iter().cloned());
    Command::new(&words[0])
        .args(&words[1..])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("duplicate the log")?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", args.command[0].display()))
}

fn find_in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Other processes of the same control plane may still write their last lines there, so this retries.
#[expect(clippy::disallowed_methods, reason = "this is how a condition is awaited")]
fn remove(dir: &Path) {
    let until = Instant::now() + Duration::from_secs(5);
    while fs::remove_dir_all(dir).is_err() && dir.exists() && Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(125)
}

fn parse(words: impl Iterator<Item = OsString>) -> Result<Args> {
    let mut words = words;
    let mut args = Args { grace: Duration::from_secs(1), remove: None, log: PathBuf::new(), command: Vec::new() };
    loop {
        let word = words.next().context("LOGFILE is missing")?;
        match word.to_str() {
            Some("--grace") => {
                let seconds = words.next().context("--grace needs a value")?;
                let seconds = seconds.to_str().context("--grace is not a number")?;
                args.grace = Duration::from_secs(seconds.parse().context("--grace is not a number")?);
            }
            Some("--remove") => args.remove = Some(words.next().context("--remove needs a value")?.into()),
            _ => {
                args.log = word.into();
                break;
            }
        }
    }
    if words.next().as_deref() != Some("--".as_ref()) {
        bail!("expected -- after LOGFILE");
    }
    args.command = words.collect();
    if args.command.is_empty() {
        bail!("expected a command after --");
    }
    Ok(args)
}
