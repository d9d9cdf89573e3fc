//! `cargo xtask lint`: everything a machine can say about the code without running it.

use crate::generate;
use std::process::Command;

use crate::run::{self, Outcome, cargo, root};
use crate::setup;

/// Checks format, lints, documentation, licences and generated files; with `fix`, mends format and generated files first.
pub(crate) fn run(fix: bool) -> Outcome {
    setup::need(&[setup::COMPILER])?;
    if fix {
        run::run(cargo().args(["fmt", "--all"]))?;
        generate::write()?;
    }
    generate::check()?;
    run::run(cargo().args(["fmt", "--all", "--check"]))?;
    run::run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ]))?;
    run::run(
        cargo()
            .args([
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
                "--quiet",
            ])
            // Private items are documented too, so links to them lead somewhere.
            .env(
                "RUSTDOCFLAGS",
                "--deny warnings --allow rustdoc::private_intra_doc_links",
            ),
    )?;
    check_go()?;
    setup::need_cargo("deny")?;
    run::run(cargo().args([
        "deny",
        "--log-level",
        "error",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))
}

/// Format and lints of the programs in Go that tests use.
fn check_go() -> Outcome {
    for module in ["controlplane", "render"] {
        let folder = root().join("testing").join(module);
        let mut format = Command::new("gofmt");
        let unformatted = run::text_of(format.arg("-l").arg(&folder))?;
        if !unformatted.is_empty() {
            return Err(format!("run gofmt -w on:\n{unformatted}"));
        }
        run::run(
            Command::new("go")
                .args(["vet", "."])
                .current_dir(&folder)
                // As it is built: anything else would be compiled from nothing.
                .env("CGO_ENABLED", "0"),
        )?;
    }
    Ok(())
}
