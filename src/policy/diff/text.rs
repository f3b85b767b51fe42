//! The flows that change as text for people, and as Markdown for pull requests.

use std::fmt;

use super::{
    ports::few_ports,
    report::{ChangedFlows, FlowChange, FlowChanges, FlowDiff},
    workloads::FlowEnds,
};
use crate::{
    api::text::shown,
    policy::{
        flow::few_of,
        table::{Table, counted},
    },
};

impl fmt::Display for FlowDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary())?;
        for (change, flows) in self.changes() {
            let mut table = Table::new(["FROM", "TO", "PORTS", "DECIDED BY"]);
            flows.rows.iter().for_each(|row| table.row(cells(row)));
            if !flows.rows.is_empty() {
                writeln!(f, "\n{}, between {}:", change.into_str(), pairs(flows))?;
            }
            table.fmt(f)?;
            if flows.more_rows > 0 {
                writeln!(f, "{}", more(flows))?;
            }
        }
        Ok(())
    }
}

/// The flows that change, as Markdown.
#[derive(Debug)]
pub struct MarkdownDiff<'a>(pub &'a FlowDiff);

impl fmt::Display for MarkdownDiff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "**NetworkPolicies:** {}", escaped(&self.0.summary()))?;
        for warning in &self.0.warnings {
            writeln!(f, "\n**Attention:** {}", escaped(&shown(warning)))?;
        }
        for (change, flows) in self.0.changes().into_iter().filter(|(_, flows)| !flows.rows.is_empty()) {
            writeln!(f, "\n**{}**, between {}:\n", change.into_str(), pairs(flows))?;
            writeln!(f, "| From | To | Ports | Decided by |\n|---|---|---|---|")?;
            for row in &flows.rows {
                writeln!(f, "| {} |", cells(row).map(|cell| escaped(&cell)).join(" | "))?;
            }
            if flows.more_rows > 0 {
                writeln!(f, "\n{}", more(flows))?;
            }
        }
        Ok(())
    }
}

impl FlowDiff {
    const fn changes(&self) -> [(FlowChange, &FlowChanges); 2] {
        [(FlowChange::Allowed, &self.newly_allowed), (FlowChange::Denied, &self.newly_denied)]
    }

    /// What was compared, and what came out, in a few sentences.
    fn summary(&self) -> String {
        let policies = [(self.added_policies, "added"), (self.removed_policies, "removed"), (self.changed_policies, "changed")];
        let policies: Vec<String> =
            policies.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        let policies = if policies.is_empty() { "none differs".into() } else { policies.join(", ") };
        let only = self.selector.as_ref().map(|selector| format!(" of workloads with {selector}")).unwrap_or_default();
        let result = match (self.newly_allowed.pairs, self.newly_denied.pairs) {
            (0, 0) if self.unseen_policies > 0 && self.selector.is_none() => {
                "no flow of these pods is decided differently".into()
            }
            (0, 0) if self.unseen_policies > 0 => format!("no judged flow{only} is decided differently"),
            (0, 0) => format!("no flow{only} is decided differently"),
            (_, 0) => format!("some flows{only} are newly allowed, and none is newly denied"),
            (0, _) => format!("some flows{only} are newly denied, and none is newly allowed"),
            (_, _) => format!("some flows{only} are newly allowed, and others are newly denied"),
        };
        let host = match self.pods_on_host_network {
            0 => String::new(),
            count => format!(". Left out, because they are on the host network: {}", counted(count, "pod", "pods")),
        };
        let unseen = match self.unseen_policies {
            0 => String::new(),
            count => format!(
                ". Not shown, because no judged pod is selected: changes of {}",
                counted(count as u64, "policy", "policies")
            ),
        };
        format!(
            "{result}. Policies: {policies}{unseen}. Judged: {} of {}, and addresses outside of the cluster{host}",
            counted(self.pods, "pod", "pods"),
            counted(self.workloads as u64, "workload", "workloads"),
        )
    }
}

fn pairs(flows: &FlowChanges) -> String {
    counted(flows.pairs, "pair of ends", "pairs of ends")
}

fn more(flows: &FlowChanges) -> String {
    format!("and {} more. --limit shows more rows", counted(flows.more_rows as u64, "row", "rows"))
}

fn cells(row: &ChangedFlows) -> [String; 4] {
    let over = row.only_over.map(|family| format!(", only over {family}")).unwrap_or_default();
    let decided: Vec<String> = row.decided.iter().map(|one| format!("{}: {}", one.direction, one.by)).collect();
    [ends(&row.from), ends(&row.to), format!("{}{over}", few_ports(&row.ports)), decided.join("; ")]
        .map(|cell| shown(&cell).into_owned())
}

fn ends(ends: &FlowEnds) -> String {
    few_of(&ends.names, ends.more)
}

/// The text, as Markdown shows it without a meaning of its own.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if matches!(c, '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '<' | '>' | '#' | '~' | '&') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_has_a_meaning_in_markdown() {
        assert_eq!(escaped("shop/* | <b>a_b</b> [x](y)"), "shop/\\* \\| \\<b\\>a\\_b\\</b\\> \\[x\\](y)");
    }

    #[test]
    fn the_number_of_names_that_are_left_out_counts_those_that_were_never_listed() {
        let names: Vec<String> = (0..50).map(|number| format!("w{number}")).collect();
        assert_eq!(ends(&FlowEnds { names: names.clone(), more: 10 }), "w0, w1, w2 and 57 more");
        assert_eq!(ends(&FlowEnds { names: names[..3].to_vec(), more: 0 }), "w0, w1, w2");
    }
}
