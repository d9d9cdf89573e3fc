//! House rules that no linter knows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
        .to_path_buf()
}

/// Every file that belongs to the project, as git sees it: tracked, or new and not ignored.
fn project_files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(output.status.success(), "git ls-files failed");
    String::from_utf8(output.stdout)
        .expect("file names are UTF-8")
        .lines()
        .map(|line| root().join(line))
        .filter(|path| path.is_file())
        .collect()
}

fn rust_sources() -> Vec<(PathBuf, String)> {
    project_files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("sources are readable");
            (path, text)
        })
        .collect()
}

/// A room may use those above it, never those below; the design says which.
#[test]
fn no_arrow_between_rooms_points_up() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("api", &[][..]),
        ("judge", &["api"]),
        ("engine", &["api", "judge"]),
        ("http", &[]),
        ("metrics", &["api", "http"]),
        ("traffic", &["api"]),
        ("notify", &["api", "http"]),
        (
            "kube",
            &[
                "api", "judge", "engine", "metrics", "traffic", "http", "notify",
            ],
        ),
        (
            "host",
            &[
                "api", "judge", "engine", "metrics", "traffic", "http", "notify",
            ],
        ),
        ("sim", &["api", "judge", "engine"]),
        (
            "server",
            &[
                "api", "judge", "engine", "metrics", "traffic", "notify", "kube", "host", "sim",
            ],
        ),
        (
            "cli",
            &[
                "api", "judge", "engine", "metrics", "traffic", "notify", "kube", "host", "sim",
                "server",
            ],
        ),
    ]);
    for folder in fs::read_dir(root().join("crates")).expect("there are crates") {
        let folder = folder.expect("readable").path();
        let room = folder
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned();
        let may_use = allowed
            .get(room.as_str())
            .unwrap_or_else(|| panic!("the room `{room}` is not in the design"));
        let manifest =
            fs::read_to_string(folder.join("Cargo.toml")).expect("every room has a manifest");
        let dependencies = manifest
            .split("[dev-dependencies]")
            .next()
            .unwrap_or_default();
        for line in dependencies.lines() {
            if let Some(used) = line
                .strip_prefix("crossfade-")
                .and_then(|rest| rest.split(['.', ' ', '=']).next())
            {
                assert!(
                    may_use.contains(&used),
                    "crates/{room} may not use crates/{used}"
                );
            }
        }
    }
}

/// Whoever checks the engine must not ask it.
#[test]
fn the_second_opinion_knows_neither_engine_nor_judge() {
    let source = root().join("crates/sim/src/opinion");
    let sources = rust_sources();
    let files: Vec<_> = sources
        .iter()
        .filter(|(path, _)| path.starts_with(&source))
        .collect();
    assert!(files.len() > 3, "the second opinion is not where it was");
    for (path, text) in files {
        for line in text.lines() {
            let code = line.split("//").next().unwrap_or_default();
            let ours = code.split("crate::").skip(1);
            let fit = ours.into_iter().all(|rest| rest.starts_with("scenario"));
            let engine = code.contains("crossfade_engine") || code.contains("crossfade_judge");
            assert!(fit && !engine, "{}: `{code}`", path.display());
        }
    }
}

/// Decisions are functions of what they are handed.
#[test]
fn the_engine_and_the_judge_know_no_clock_and_no_io() {
    let words = [
        "Timestamp::now",
        "Zoned::now",
        "SystemTime",
        "Instant::now",
        "std::fs",
        "std::net",
        "std::io",
        "std::process",
        "std::thread",
        "std::env",
        "tokio",
        "rand::",
        "async fn",
        "println!",
        "eprintln!",
        "HashMap",
        "HashSet",
    ];
    for room in ["engine", "judge"] {
        let source = root().join("crates").join(room).join("src");
        for (path, text) in rust_sources()
            .iter()
            .filter(|(path, _)| path.starts_with(&source))
        {
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for word in words {
                    assert!(
                        !code.contains(word),
                        "{}:{}: `{word}` has no place here",
                        path.display(),
                        number + 1
                    );
                }
            }
        }
    }
}

#[test]
fn every_source_file_says_what_it_is_about() {
    for (path, text) in rust_sources() {
        assert!(
            text.starts_with("//!") || text.contains("\n//!"),
            "{}: begin with a `//!` line",
            path.display()
        );
    }
}

#[test]
fn nothing_is_left_for_later() {
    let left_over = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
        concat!("dbg", "!("),
    ];
    for (path, text) in rust_sources() {
        for (number, line) in text.lines().enumerate() {
            for word in left_over {
                assert!(
                    !line.contains(word),
                    "{}:{}: `{word}`",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn no_file_names_a_package_registry_or_a_path_of_one_machine() {
    let words = [
        concat!("crates", ".io"),
        concat!("static.", "rust-lang.org"),
        concat!("registry.npm", "js.org"),
        concat!("proxy.", "golang.org"),
        concat!("/wo", "rk/"),
    ];
    for path in project_files() {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if ["Cargo.lock", "package-lock.json", "go.sum"].contains(&name) {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for word in words {
            assert!(!text.contains(word), "{}: names `{word}`", path.display());
        }
    }
}
