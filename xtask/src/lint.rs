//! `cargo xtask lint`: everything a machine can say about the code without running it.

use crate::generate;
use crate::run::{self, Outcome, cargo};
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
