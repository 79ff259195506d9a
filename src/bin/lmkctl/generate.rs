//! `lmkctl completions` and `lmkctl man`: what the command line says of itself.

use anyhow::Context;
use clap::value_parser;
use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use std::io;
use std::io::Write;
use std::path::PathBuf;

/// The end of the help of `completions`.
const COMPLETIONS: &str = "\
Exit status: 0 printed; 1 it could not be written; 2 the command line is not understood.

Examples:
  lmkctl completions bash > /etc/bash_completion.d/lmkctl";

/// The end of the help of `man`.
const MAN: &str = "\
Exit status: 0 printed or written; 1 it could not be written; 2 the command line is not understood.

Examples:
  lmkctl man | man -l -
  lmkctl man --output /usr/local/share/man/man1";

/// The command line of `completions`.
pub fn completions_command() -> Command {
    Command::new("completions")
        .about("Print the completions for a shell")
        .after_help(COMPLETIONS)
        .arg(
            Arg::new("shell")
                .required(true)
                .value_name("SHELL")
                .value_parser(value_parser!(Shell))
                .help("The shell that they are for"),
        )
}

/// Prints the script for one shell.
pub fn completions(arguments: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<u8> {
    // clap_complete panics when it cannot write; memory can be written to.
    let mut script = Vec::new();
    if let Some(shell) = arguments.get_one::<Shell>("shell") {
        clap_complete::generate(*shell, &mut crate::command(), "lmkctl", &mut script);
    }
    out.write_all(&script)?;
    Ok(0)
}

/// The command line of `man`.
pub fn man_command() -> Command {
    Command::new("man")
        .about("Print the manual page, or write those of all subcommands")
        .after_help(MAN)
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("DIRECTORY")
                .value_parser(value_parser!(PathBuf))
                .help("Write lmkctl.1, lmkctl-wait.1 and so on into this directory"),
        )
}

/// Prints the page of lmkctl, or writes those of all its subcommands.
pub fn man(arguments: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<u8> {
    let whole = crate::command();
    let Some(directory) = arguments.get_one::<PathBuf>("output") else {
        page(whole, out)?;
        return Ok(0);
    };
    let mut pages: Vec<Command> = whole.get_subcommands().map(as_program).collect();
    pages.push(whole);
    for command in pages {
        let path = directory.join(format!("{}.1", title(&command)));
        let mut text = Vec::new();
        page(command, &mut text)?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(0)
}

/// A subcommand as a page of its own names it.
fn as_program(command: &Command) -> Command {
    let name = command.get_name();
    let (bin, page) = (format!("lmkctl {name}"), format!("lmkctl-{name}"));
    command.clone().bin_name(bin).display_name(page)
}

fn title(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

/// One page. What follows the options in the help becomes sections of its own, as manuals have them.
fn page(command: Command, out: &mut dyn Write) -> io::Result<()> {
    let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command);
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if has_subcommands {
        man.render_subcommands_section(&mut text)?;
    }
    out.write_all(&text)?;
    for paragraph in more.split("\n\n") {
        let (title, body) = match paragraph.split_once(':') {
            Some((title @ ("Exit status" | "Example" | "Examples" | "Keys"), body)) => {
                (title, body.strip_prefix('\n').unwrap_or(body.trim_start()))
            }
            _ => ("Notes", paragraph),
        };
        writeln!(out, ".SH {}", title.to_uppercase())?;
        let literal = body.lines().any(|line| line.starts_with("  "));
        if literal {
            writeln!(out, ".nf")?;
        }
        for line in body.lines() {
            let line = line.replace('\\', "\\e").replace('-', "\\-");
            // A dot or a quote at its start would be a request.
            writeln!(out, "\\&{line}")?;
        }
        if literal {
            writeln!(out, ".fi")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_exit_status_and_examples_where_manuals_have_them() {
        let all = crate::command();
        for (command, _) in crate::SUBCOMMANDS {
            let command = command();
            let name = command.get_name();
            let command = all.find_subcommand(name).unwrap();
            let mut text = Vec::new();
            page(as_program(command), &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            for section in [".SH NAME", ".SH OPTIONS", ".SH EXIT STATUS", ".SH EXAMPLES"] {
                assert!(text.contains(section), "{name}: no {section} in\n{text}");
            }
            assert!(
                text.contains(&format!("lmkctl\\-{name}")) || text.contains("lmkctl"),
                "{name}"
            );
        }
    }
}
