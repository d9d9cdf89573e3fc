//! What was acknowledged stays: through reopening, kill -9 at any moment, and a full disk.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crossfade_host::store::{OpenError, Selector};
use crossfade_host::wire::Reason;

use super::*;

#[tokio::test]
async fn a_reopened_store_holds_everything() {
    let f = Fixture::new();
    let web = f.create(Kind::Rollout, rollout("web")).await;
    f.create(
        Kind::ConfigMap,
        json!({"metadata": {"name": "c"}, "data": {"float": "1.0", "text": "ä\n\u{0}"}}),
    )
    .await;
    let status = f
        .merge(
            &web,
            Part::Status,
            json!({"status": {"share": 0.1, "large": 9_007_199_254_740_993_i64}}),
        )
        .await
        .unwrap();
    let all = |s: &Store| -> Vec<Arc<Object>> {
        Kind::ALL
            .into_iter()
            .flat_map(|k| s.list(k, None, &Selector::default()).items)
            .collect()
    };
    let before = all(&f.store);
    assert!(before.contains(&status));
    let f = f.reopened().await;
    assert_eq!(all(&f.store), before);
}

#[tokio::test]
async fn a_second_host_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let f = Fixture::new();
    let error = Store::open(f.folder.path(), options()).unwrap_err();
    assert!(
        matches!(error, OpenError::InUse { pid: Some(pid), .. } if pid == std::process::id()),
        "{error}"
    );
    f.create(Kind::ConfigMap, named("on")).await;
}

/// Starts a process that writes counters and says which writes were acknowledged.
fn writer(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_crossfade-test-helper"))
        .arg("count")
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn kill_9_at_any_moment_loses_no_acknowledged_write_and_leaves_no_half_object() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<String, i64> = BTreeMap::new();
    let mut state = 1_u32;
    for round in 0..100 {
        // A machine with much else to do needs more rounds, and longer ones, before writers have written enough.
        let longest = 120 * (1 + round / 25);
        if round >= 25 && acknowledged.values().sum::<i64>() > 50 {
            break;
        }
        let mut child = writer(folder.path());
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            for line in output.lines().map_while(Result::ok) {
                // A line cut by the kill has no number of its own end.
                if let Some((name, value)) =
                    line.strip_suffix(" ok").and_then(|l| l.split_once(' '))
                {
                    seen.push((name.to_owned(), value.parse().unwrap()));
                }
            }
            seen
        });
        // A walk through the moments of a write, opening included; the same in every run.
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let delay = (state >> 16) % longest;
        std::thread::sleep(Duration::from_millis(delay.into()));
        child.kill().unwrap();
        child.wait().unwrap();
        for (name, value) in reader.join().unwrap() {
            acknowledged.insert(name, value);
        }
        let store =
            Store::open(folder.path(), options()).unwrap_or_else(|e| panic!("round {round}: {e}"));
        let found = store.list(Kind::ConfigMap, Some("default"), &Selector::default());
        for object in &found.items {
            // Each write changes both fields: half an object would differ in them.
            assert_eq!(
                object.at("/data/one"),
                object.at("/data/two"),
                "round {round}: {object:?}"
            );
            assert!(
                object.revision() <= found.revision,
                "round {round}: {object:?}"
            );
        }
        for (name, value) in &acknowledged {
            let stored = store.get(Kind::ConfigMap, "default", name).unwrap();
            let stored: i64 = text(&stored, "/data/one").parse().unwrap();
            assert!(
                stored >= *value,
                "round {round}: {name} is {stored}, acknowledged was {value}"
            );
        }
        store.close().await;
    }
    assert!(
        acknowledged.values().sum::<i64>() > 50,
        "the writers hardly wrote: {acknowledged:?}"
    );
}

/// Fills the store until it is full, and checks that nothing is lost, and that it goes on when there is room again.
async fn fill(folder: &Path, options: Options, make_room: impl FnOnce()) {
    let store = Store::open(folder, options.clone()).unwrap();
    let mut stored = 0;
    let error = loop {
        let object =
            json!({"metadata": {"name": format!("c{stored}")}, "data": {"a": "x".repeat(50_000)}});
        match store
            .create(Act::by_person("anna"), Kind::ConfigMap, "default", object)
            .await
        {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "never full");
    };
    assert_eq!(error.reason(), Reason::InsufficientStorage, "{error}");
    assert!(
        error.to_string().contains("is full: nothing was changed"),
        "{error}"
    );
    let count = |s: &Store| {
        s.list(Kind::ConfigMap, None, &Selector::default())
            .items
            .len()
    };
    assert_eq!(count(&store), stored, "reads go on");
    assert!(
        store
            .get(Kind::ConfigMap, "default", &format!("c{stored}"))
            .is_err(),
        "what failed does not show"
    );
    make_room();
    store.close().await;
    let store = Store::open(
        folder,
        Options {
            largest_file: None,
            ..options
        },
    )
    .unwrap();
    assert_eq!(count(&store), stored);
    store
        .create(host(), Kind::ConfigMap, "default", named("more"))
        .await
        .unwrap();
    assert_eq!(
        store
            .audit_rows(crossfade_host::store::AuditFilter::default())
            .await
            .unwrap()
            .len(),
        stored
    );
    store.close().await;
}

#[tokio::test]
async fn a_full_store_refuses_writes_clearly_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fill(
        folder.path(),
        Options {
            largest_file: Some(1 << 20),
            ..options()
        },
        || {},
    )
    .await;
}

/// A real full disk; only root may mount one, elsewhere the test above must do.
#[tokio::test]
async fn a_full_disk_refuses_writes_clearly_and_the_same_store_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        Command::new("mount")
            .args(arguments)
            .arg(folder.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=2m,mode=700", "crossfade-test"]) {
        return;
    }
    let _unmount = Unmount(folder.path());
    let state = folder.path().join("state");
    let ballast = folder.path().join("ballast");
    std::fs::write(&ballast, vec![0; 200_000]).unwrap();
    fill(&state, options(), || {
        std::fs::remove_file(&ballast).unwrap();
    })
    .await;
    // The same handle, too, goes on by itself.
    let store = Store::open(&state, options()).unwrap();
    let write = |i: usize| {
        let object =
            json!({"metadata": {"name": format!("d{i}")}, "data": {"a": "y".repeat(20_000)}});
        store.create(host(), Kind::ConfigMap, "default", object)
    };
    let mut stored = 0;
    while write(stored).await.is_ok() {
        stored += 1;
    }
    assert!(mount(&["-o", "remount,size=8m"]));
    write(stored).await.unwrap();
    let list = store.list(Kind::ConfigMap, None, &Selector::parse("", "").unwrap());
    assert_eq!(
        list.items
            .iter()
            .filter(|o| o.name().starts_with('d'))
            .count(),
        stored + 1
    );
    store.close().await;
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_thousand_writers_at_once_share_the_syncs_of_the_disk() {
    let f = Fixture::new();
    let start = std::time::Instant::now();
    let writes: Vec<_> = (0..1000)
        .map(|i| {
            let store = f.store.clone();
            tokio::spawn(async move {
                store
                    .create(host(), Kind::ConfigMap, "default", named(&format!("c{i}")))
                    .await
            })
        })
        .collect();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    assert_eq!(
        f.store
            .list(Kind::ConfigMap, None, &Selector::default())
            .items
            .len(),
        1000
    );
    // One sync each would take minutes on a spinning disk.
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
}
