//! What Android's userland is to the daemon, for a guest with a plain kernel: init, the property
//! service, logd, the BPF loader, and the tools that `adb shell` is asked for. One static program,
//! which acts by the name it is called by.
#![allow(missing_docs)]

mod action;
mod bpfloader;
mod command;
mod identity;
mod init;
mod launch;
mod log_record;
mod logcat;
mod logd;
mod properties;
mod property_tools;
mod rc;
mod remount;
mod service;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let called = arguments.next().unwrap_or_default();
    let name = Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    match run(name, &arguments) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, arguments: &[String]) -> Result<ExitCode> {
    match name {
        "init" => init::run().context("pocket: the boot fails")?,
        "launch" => launch::run(arguments)?,
        "logd" => logd::run()?,
        "logcat" => return logcat::run(arguments),
        "bpfloader" => bpfloader::run()?,
        "getprop" => property_tools::getprop(arguments)?,
        "setprop" => property_tools::setprop(arguments)?,
        "reboot" => property_tools::reboot(arguments)?,
        "remount" => remount::run(arguments)?,
        "start" => property_tools::control("start", arguments)?,
        "stop" => property_tools::control("stop", arguments)?,
        _ => bail!("no such tool"),
    }
    Ok(ExitCode::SUCCESS)
}
