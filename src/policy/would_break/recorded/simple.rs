//! The format of this command: for recordings of other tools, and for flows that somebody writes by hand.

use serde::Deserialize;

use super::{RecordedAt, RecordedEnd, RecordedFlow, RecordedLine, RecordedPod, time};
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
            FlowEnd::Workload { .. } | FlowEnd::Labelled { .. } => {
                Err(wrong("write the pod that sends or answers, or its address"))
            }
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
        at: RecordedAt::Destination,
        is_written: true,
    })))
}

fn unquoted(cell: &str) -> &str {
    let cell = cell.trim();
    cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')).unwrap_or(cell)
}

/// What a first line is that is no head, and what to write instead.
fn no_head(line: &str) -> String {
    if line.starts_with('\u{1f}') {
        return "it is compressed. Unpack it: gzip -dc FILE | policy-baseline would-break --flows -".into();
    }
    if line.starts_with('[') {
        return "it is a JSON array. Write one object in each line: jq -c '.[]'".into();
    }
    let head = "it is neither JSON nor a head of CSV. The head of CSV is from,to,port or from,to,port,count,time";
    let hint = match line {
        line if line.contains(';') || line.contains('\t') => ". Separate the columns by commas",
        line if line.contains("->") => ". Of Hubble, record JSON: hubble observe -o jsonpb",
        _ => "",
    };
    format!("{head}{hint}")
}

/// The columns of a CSV file, by its first line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Columns {
    from: usize,
    to: usize,
    port: usize,
    count: Option<usize>,
    time: Option<usize>,
    /// How many there are.
    len: usize,
}

const KNOWN: [&str; 5] = ["from", "to", "port", "count", "time"];

impl Columns {
    /// Reads the first line.
    pub fn read(line: &str) -> Result<Self, String> {
        let names: Vec<String> = line.split(',').map(|name| unquoted(name).to_lowercase()).collect();
        let column = |wanted: &str| names.iter().position(|name| name == wanted);
        let (Some(from), Some(to), Some(port)) = (column("from"), column("to"), column("port")) else {
            return Err(no_head(line));
        };
        if let Some(unknown) = names.iter().find(|name| !name.is_empty() && !KNOWN.contains(&&***name)) {
            let what = if unknown.starts_with("proto") { "write the protocol in port, as in UDP/53" } else { "leave it out" };
            return Err(format!("the column {unknown:?} is not known: {what}"));
        }
        Ok(Self { from, to, port, count: column("count"), time: column("time"), len: names.len() })
    }

    /// Reads a further line.
    pub fn flow(&self, line: &str) -> Result<RecordedLine, String> {
        let cells: Vec<&str> = line.split(',').map(unquoted).collect();
        if cells.iter().skip(self.len).any(|cell| !cell.is_empty()) {
            return Err(format!("it has {} columns, and the head has {}", cells.len(), self.len));
        }
        let cell = |column: usize| cells.get(column).copied().ok_or_else(|| format!("it has only {} columns", cells.len()));
        let count = match self.count.map(cell).transpose()? {
            None | Some("") => 1,
            Some(text) => text.parse().map_err(|_| format!("count is {text:?}: write a number"))?,
        };
        let at = self.time.map(cell).transpose()?.unwrap_or_default();
        read([cell(self.from)?, cell(self.to)?, cell(self.port)?], count, at)
    }
}
