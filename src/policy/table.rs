//! A table like those of kubectl: each column is as wide as its widest cell, without trailing spaces.

use std::fmt;

use crate::api::text::shown;

const GAP: usize = 3;

/// A table. It prints nothing if it has no rows.
pub struct Table<const N: usize>(Vec<[String; N]>);

impl<const N: usize> Table<N> {
    /// A table with these column heads.
    pub fn new(heads: [&str; N]) -> Self {
        Self(vec![heads.map(Into::into)])
    }

    /// Adds a row. No name in it can end the line.
    pub fn row(&mut self, row: [String; N]) {
        self.0.push(row.map(|cell| shown(&cell).into_owned()));
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() < 2 {
            return Ok(());
        }
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max().unwrap_or_default() + GAP;
        let widths: Vec<usize> = (0..N).map(width).collect();
        writeln!(f)?;
        for row in &self.0 {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", cells.concat().trim_end())?;
        }
        Ok(())
    }
}
/// A number of things: `1 policy`, `2 policies`.
pub fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}
