//! The format of this command: for recordings of other tools, and for flows that somebody writes by hand.

use serde::Deserialize;

use super::{RecordedEnd, RecordedFlow, RecordedLine, RecordedPod, time};
use crate::policy::flow::{AskedPort, FlowEnd, NumberOrName};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SimpleFlow {
    from: String,
    to: String,
    port: SimplePort,
    #[serde(default = "one")]
    count: u64,
    #[serde(default)]
    time: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SimplePort {
    Number(u64),
    Text(String),
}

const fn one() -> u64 {
    1
}

/// Reads a line of JSON.
pub fn read_json(line: &str) -> Result<RecordedLine, String> {
    let flow: SimpleFlow = serde_json::from_str(line).map_err(|error| super::broken(&error))?;
    let port = match flow.port {
        SimplePort::Number(number) => number.to_string(),
        SimplePort::Text(text) => text,
    };
    read([&flow.from, &flow.to, &port], flow.count, &flow.time)
}

fn read([from, to, port]: [&str; 3], count: u64, at: &str) -> Result<RecordedLine, String> {
    let end = |field: &str, text: &str| {
        let wrong = |why: &str| format!("{field} is {text:?}: {why}");
        match text.parse().map_err(|why: String| wrong(&why))? {
            FlowEnd::Pod { namespace, name } => Ok(RecordedEnd::Pod(RecordedPod { namespace, name, ..RecordedPod::default() })),
            FlowEnd::Address(address) => Ok(RecordedEnd::Address(address)),
            FlowEnd::Service { .. } => Err(wrong("write the pod that answers, or its address")),
        }
    };
    let asked: AskedPort = port.parse().map_err(|why: String| format!("port is {port:?}: {why}"))?;
    let NumberOrName::Number(number) = asked.port else { return Err(format!("port is {port:?}: write a number")) };
    Ok(RecordedLine::Flow(Box::new(RecordedFlow {
        from: end("from", from)?,
        to: end("to", to)?,
        protocol: asked.protocol,
        port: number,
        count: count.max(1),
        seen: time(at).map(|at| (at, at)),
    })))
}

/// The columns of a CSV file, by its first line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Columns {
    from: usize,
    to: usize,
    port: usize,
    count: Option<usize>,
    time: Option<usize>,
}

impl Columns {
    /// Reads the first line.
    pub fn read(line: &str) -> Result<Self, String> {
        let names: Vec<String> = line.split(',').map(|name| name.trim().to_lowercase()).collect();
        let column = |wanted: &str| names.iter().position(|name| name == wanted);
        let (Some(from), Some(to), Some(port)) = (column("from"), column("to"), column("port")) else {
            return Err("it is neither JSON nor a head of CSV. The head of CSV is from,to,port or from,to,port,count,time".into());
        };
        Ok(Self { from, to, port, count: column("count"), time: column("time") })
    }

    /// Reads a further line.
    pub fn flow(&self, line: &str) -> Result<RecordedLine, String> {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let cell = |column: usize| cells.get(column).copied().ok_or_else(|| format!("it has only {} columns", cells.len()));
        let count = match self.count.map(cell).transpose()? {
            None | Some("") => 1,
            Some(text) => text.parse().map_err(|_| format!("count is {text:?}: write a number"))?,
        };
        let at = self.time.map(cell).transpose()?.unwrap_or_default();
        read([cell(self.from)?, cell(self.to)?, cell(self.port)?], count, at)
    }
}
