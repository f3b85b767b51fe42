//! Reads the memory and the CPU time of a process from /proc on Linux.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The current resident memory, in bytes.
pub fn resident(pid: u32) -> Result<u64> {
    field(&status(pid)?, "VmRSS")
}

/// The part of the resident memory that no file backs: heap and stacks. In bytes.
pub fn anonymous(pid: u32) -> Result<u64> {
    field(&status(pid)?, "RssAnon")
}

/// The peak of the resident memory since the start, or since [`forget_peak`]. In bytes.
pub fn peak(pid: u32) -> Result<u64> {
    field(&status(pid)?, "VmHWM")
}

/// Resets the peak. From now on it starts again from the current value.
pub fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("reset the peak of a process")
}

/// The CPU time of the threads so far, to the nanosecond. /proc/PID/stat has it in steps of 10 ms, which is more than an idle minute costs.
pub fn cpu(pid: u32) -> Result<Duration> {
    let mut all = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("only Linux tells the CPU time of a process")? {
        // A thread may end meanwhile.
        if let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) {
            all += on_cpu(&text)?;
        }
    }
    Ok(all)
}

fn status(pid: u32) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/status")).context("only Linux tells the memory of a process")
}

fn field(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).context("no such line")?;
    let kilobytes: u64 = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kilobytes * 1024)
}

/// The first field of schedstat: the nanoseconds on a CPU.
fn on_cpu(schedstat: &str) -> Result<Duration> {
    let first = schedstat.split_whitespace().next().context("an empty schedstat")?;
    Ok(Duration::from_nanos(first.parse()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_time_are_read_from_their_fields() {
        assert_eq!(field("Name:\tx\nVmHWM:\t  200 kB\nVmRSS:\t  100 kB\n", "VmRSS").unwrap(), 102_400);
        assert!(field("Name:\tx\n", "VmRSS").is_err());
        assert_eq!(on_cpu("1030972 2131102 13\n").unwrap(), Duration::from_nanos(1_030_972));
        assert!(resident(std::process::id()).unwrap() > 0);
        let before = cpu(std::process::id()).unwrap();
        let busy = (0..10_000_000_u64).fold(0, |sum: u64, number| std::hint::black_box(sum ^ number));
        assert!(cpu(std::process::id()).unwrap() > before, "{busy}");
    }
}
