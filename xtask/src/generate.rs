//! Files that come from code: the CRDs. Others may edit their sources, never the files.

use std::fs;
use std::path::PathBuf;

use crate::run::{Outcome, root};

/// Every generated file with what it should hold.
fn files() -> Vec<(PathBuf, String)> {
    let folder = root().join("deploy/crds");
    let crds = crossfade_api::crd::render_all().into_iter();
    crds.map(|(name, text)| (folder.join(name), text)).collect()
}

/// Writes all generated files.
pub(crate) fn write() -> Outcome {
    for (path, text) in files() {
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
        fs::write(&path, text).map_err(|why| format!("{}: {why}", path.display()))?;
    }
    Ok(())
}

/// Says which generated files are not what their sources say.
pub(crate) fn check() -> Outcome {
    let stale: Vec<String> = files()
        .into_iter()
        .filter(|(path, text)| fs::read_to_string(path).ok().as_ref() != Some(text))
        .map(|(path, _)| path.display().to_string())
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!(
        "not current: {}\nrun `cargo xtask lint --fix`",
        stale.join(", ")
    ))
}
