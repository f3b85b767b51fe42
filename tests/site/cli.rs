//! `docs/cli-reference.md`: what `--help` says of every command. `tests/help.rs` runs every example.

use std::{fmt::Write, process::Command};

use super::golden;

const HEAD: &str = "# CLI reference

<!-- Generated from the commands by `make generate`; do not edit. -->

What `policy-baseline COMMAND --help` says of every command: its options with their defaults, its exit codes, and examples. [Commands](cli.md) is the
overview: what each command is for, the permissions that it needs, and the plugin of kubectl.
";

fn help(command: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_policy-baseline")).args(command).arg("--help").env_clear().output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names in the list of commands of a help text.
fn subcommands(help: &str) -> Vec<String> {
    let list = help.split_once("Commands:\n").map_or("", |(_, list)| list);
    let lines =
        list.lines().take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    lines.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

fn write_command(page: &mut String, command: &[String]) {
    let help = help(command);
    let name = [&["policy-baseline".to_owned()][..], command].concat().join(" ");
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()).unwrap();
    for next in subcommands(&help) {
        write_command(page, &[command, &[next]].concat());
    }
}

#[test]
fn the_cli_reference_is_what_the_commands_say() {
    let mut page = HEAD.to_owned();
    write_command(&mut page, &[]);
    assert!(page.matches("\n## `").count() > 12, "the commands were not found");
    golden("docs/cli-reference.md", &page);
}
