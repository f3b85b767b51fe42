//! The output of the demo: steps, commands, tables.
//!
//! This module decides the layout, not the content. No line is longer than [`WIDTH`], except lines that the user is meant to copy.

use std::env;
use std::io::{self, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

/// The largest number of columns that are used, even if the terminal is wider.
const WIDTH: usize = 100;
/// On a narrower terminal, tables break anyway.
const NARROWEST: usize = 60;
const INDENT: &str = "   ";
const GAP: &str = "  ";
/// The end of a command's line if more lines follow.
const CONTINUED: &str = " \\";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Strong,
    Quiet,
    Good,
    Notice,
    Bad,
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, Tone::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Lines that belong together. An empty line separates two blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Title,
    Text,
    Progress,
    Command,
    Table,
    Copy,
    Feed,
    Close,
}

#[derive(Debug)]
pub struct Page {
    width: usize,
    colour: bool,
    steps: u32,
    last: Option<Block>,
    /// A line was begun and is not finished yet.
    open: bool,
}

impl Page {
    /// Writes to stdout. Uses colours only on a terminal, and not with `NO_COLOR`.
    pub fn stdout() -> Self {
        let stdout = io::stdout();
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let colour = wanted && stdout.is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        let columns = tcgetwinsize(&stdout).map_or(WIDTH, |size| usize::from(size.ws_col));
        // A terminal that does not know its size reports zero.
        let columns = if columns == 0 { WIDTH } else { columns };
        Self { width: columns.clamp(NARROWEST, WIDTH), colour, steps: 0, last: None, open: false }
    }

    pub fn title(&mut self, text: &str) -> io::Result<()> {
        self.block(Block::Title)?;
        self.line("", text, Tone::Strong)
    }

    /// Writes the title of the next step, and why the step matters.
    pub fn step(&mut self, title: &str, why: &str) -> io::Result<()> {
        self.steps += 1;
        self.title(&format!("{}  {title}", self.steps))?;
        self.text(why)
    }

    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.toned(text, Tone::Plain)
    }

    /// Writes text in a tone, for example the outcome of a step.
    pub fn toned(&mut self, text: &str, tone: Tone) -> io::Result<()> {
        // No empty line between a title and its text.
        if self.last == Some(Block::Title) {
            self.last = Some(Block::Text);
        }
        self.block(Block::Text)?;
        for line in wrap(text, self.width - INDENT.len()) {
            self.line(INDENT, &line, tone)?;
        }
        Ok(())
    }

    /// Writes a command that the user can copy exactly. No argument may contain a space.
    pub fn command(&mut self, command: &str) -> io::Result<()> {
        self.block(Block::Command)?;
        let lines = wrap(command, self.width - INDENT.len() - "    ".len() - CONTINUED.len());
        for (n, line) in lines.iter().enumerate() {
            let prompt = if n == 0 { "$ " } else { "    " };
            let end = if n + 1 < lines.len() { CONTINUED } else { "" };
            self.line(INDENT, &format!("{prompt}{line}{end}"), Tone::Quiet)?;
        }
        Ok(())
    }

    /// Writes a line for the user to copy: alone on its line and not wrapped.
    pub fn to_copy(&mut self, text: &str) -> io::Result<()> {
        self.block(Block::Copy)?;
        self.line("", text, Tone::Strong)
    }

    /// Writes the output of a program. Cuts lines that are too long.
    pub fn output(&mut self, text: &str) -> io::Result<()> {
        self.block(Block::Table)?;
        for line in text.lines() {
            let line: String = line.chars().take(self.width - INDENT.len()).collect();
            self.line(INDENT, line.trim_end(), Tone::Plain)?;
        }
        Ok(())
    }

    /// Writes one of many lines about events, as they happen.
    pub fn feed(&mut self, text: &str) -> io::Result<()> {
        self.block(Block::Feed)?;
        self.line(INDENT, text, Tone::Plain)
    }

    /// Writes the last line of the output.
    pub fn close(&mut self, text: &str) -> io::Result<()> {
        self.block(Block::Close)?;
        self.line(INDENT, text, Tone::Plain)
    }

    /// Begins a line about something that takes a while. [`Self::done`] ends the line.
    pub fn begin(&mut self, what: &str) -> io::Result<()> {
        self.block(Block::Progress)?;
        self.open = true;
        write(&format!("{INDENT}{what:<47}"))
    }

    pub fn done(&mut self, outcome: &str) -> io::Result<()> {
        self.open = false;
        let outcome = self.paint(outcome, Tone::Good);
        write(&format!("{outcome}\n"))
    }

    /// Ends a line that was begun and has no outcome.
    pub fn finish(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.open) { write("\n") } else { Ok(()) }
    }

    /// Writes a table. Wraps the last column.
    pub fn table<const N: usize>(&mut self, header: [&str; N], rows: &[[Cell; N]]) -> io::Result<()> {
        let header = header.map(|title| Cell::new(title, Tone::Quiet));
        let all = || std::iter::once(&header).chain(rows);
        let mut widths = [0; N];
        for row in all() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let left: usize = widths.iter().take(N.saturating_sub(1)).map(|width| width + GAP.len()).sum();
        let room = self.width.saturating_sub(INDENT.len() + left).max(10);
        // Two tables in a row are two blocks.
        self.last = self.last.filter(|last| *last != Block::Table).or(Some(Block::Text));
        self.block(Block::Table)?;
        for row in all() {
            let Some((last, cells)) = row.split_last() else { continue };
            let mut start = INDENT.to_owned();
            for (cell, width) in cells.iter().zip(widths) {
                let fill = width - cell.text.chars().count() + GAP.len();
                start.push_str(&self.paint(&cell.text, cell.tone));
                start.push_str(&" ".repeat(fill));
            }
            for part in wrap(&last.text, room) {
                self.line(&start, &part, last.tone)?;
                start = " ".repeat(INDENT.len() + left);
            }
        }
        Ok(())
    }

    fn block(&mut self, block: Block) -> io::Result<()> {
        self.finish()?;
        let last = self.last.replace(block);
        if last.is_some_and(|last| last != block || block == Block::Title) { write("\n") } else { Ok(()) }
    }

    fn line(&self, start: &str, text: &str, tone: Tone) -> io::Result<()> {
        if text.is_empty() {
            return write(&format!("{}\n", start.trim_end()));
        }
        write(&format!("{start}{}\n", self.paint(text, tone)))
    }

    fn paint(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Strong => "1",
            Tone::Quiet => "2",
            Tone::Good => "32",
            Tone::Notice => "33",
            Tone::Bad => "31",
        };
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Whether the error only means that the reader of the output is gone.
pub fn is_unread(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Wraps text into at least one line. A word that is wider than a line gets a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a-very-long-word b", 5), ["a-very-long-word", "b"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
