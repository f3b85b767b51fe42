//! Reads the memory and the CPU time of a process from /proc on Linux.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The length of a clock tick in /proc. It is the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

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

/// The CPU time so far.
pub fn cpu(pid: u32) -> Result<Duration> {
    ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?).map(|ticks| TICK * ticks)
}

fn status(pid: u32) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/status")).context("only Linux tells the memory of a process")
}

fn field(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).context("no such line")?;
    let kilobytes: u64 = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kilobytes * 1024)
}

/// User and system time together, in ticks. The name of the process is in parentheses and may contain any characters.
fn ticks(stat: &str) -> Result<u32> {
    let (_, rest) = stat.rsplit_once(") ").context("not a line of /proc/PID/stat")?;
    let mut fields = rest.split(' ').skip(11);
    let mut next = || fields.next().context("too few fields")?.parse::<u32>().context("no number");
    Ok(next()? + next()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_time_are_read_from_their_fields() {
        assert_eq!(field("Name:\tx\nVmHWM:\t  200 kB\nVmRSS:\t  100 kB\n", "VmRSS").unwrap(), 102_400);
        assert!(field("Name:\tx\n", "VmRSS").is_err());
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 12 0 0 20 0 4 0 100 1000 200";
        assert_eq!(ticks(stat).unwrap(), 43);
        assert!(resident(std::process::id()).unwrap() > 0);
        assert!(cpu(std::process::id()).unwrap() < Duration::from_hours(1));
    }
}
