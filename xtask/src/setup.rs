//! What a fresh machine lacks, installed where we may, otherwise named exactly.

use std::process::Command;

use crate::run::{Outcome, cargo, on_path, run_quietly};

/// A program that a command needs, and the Debian package that brings it.
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
}

/// A C compiler and linker, for SQLite and the allocator.
pub(crate) const COMPILER: Program = Program {
    name: "cc",
    package: "build-essential",
};
/// The metric server that our own PromQL is compared with.
pub(crate) const PROMETHEUS: Program = Program {
    name: "prometheus",
    package: "prometheus",
};
/// A proxy to measure ours against.
pub(crate) const HAPROXY: Program = Program {
    name: "haproxy",
    package: "haproxy",
};
/// Another proxy to measure ours against.
pub(crate) const NGINX: Program = Program {
    name: "nginx",
    package: "nginx-light",
};
/// The load generator for measurements.
pub(crate) const WRK: Program = Program {
    name: "wrk",
    package: "wrk",
};

/// The load generator that keeps to a rate.
pub(crate) const H2LOAD: Program = Program {
    name: "h2load",
    package: "nghttp2-client",
};

/// Makes sure that these programs are there: installs their packages when root on Debian, otherwise says what to install.
pub(crate) fn need(programs: &[Program]) -> Outcome {
    let missing: Vec<&str> = programs
        .iter()
        .filter(|program| !on_path(program.name))
        .map(|program| program.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("please install: apt-get install {}", missing.join(" "));
    if !on_path("apt-get") || !is_root() {
        return Err(by_hand);
    }
    eprintln!("installing {} ...", missing.join(", "));
    let apt = || {
        let mut command = Command::new("apt-get");
        // Packages must not start their services here: a second web server on port 80 helps nobody.
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1");
        command
    };
    run_quietly(apt().args(["update", "-q"])).map_err(|why| format!("{why}\n{by_hand}"))?;
    run_quietly(
        apt()
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(&missing),
    )
    .map_err(|why| format!("{why}\n{by_hand}"))
}

/// Makes sure that a cargo subcommand is there.
pub(crate) fn need_cargo(subcommand: &str) -> Outcome {
    let mut probe = cargo();
    probe.args([subcommand, "--version"]);
    if run_quietly(&mut probe).is_ok() {
        return Ok(());
    }
    eprintln!("installing cargo-{subcommand} ...");
    run_quietly(cargo().args([
        "install",
        "--locked",
        "--quiet",
        &format!("cargo-{subcommand}"),
    ]))
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n")
}
