//! The state folder and the machine under it: two hosts, a full disk, a reboot, an old or foreign folder.

use std::process::{Command, Stdio};

use crossfade_host::store::Kind;
use rustix::process::Signal;

use crate::load::Load;
use crate::rig::{Ended, LONGEST, Rig, is_alive, sample, shop, signal, step};

const CANARY: &str = r"
    canary:
      stableService: shop
      canaryService: shop-canary
      trafficRouting: {nginx: {stableIngress: shop}}
      steps: [{setWeight: 40}, {pause: {}}]";

/// Starts a host that must not start.
async fn refused(rig: &Rig, arguments: &[&str]) -> Ended {
    let mut command = rig.host_command();
    let output = command.args(arguments).stderr(Stdio::piped()).output();
    let output = tokio::time::timeout(LONGEST, output).await;
    Ended::of(&output.expect("it ends by itself").expect("it runs"))
}

#[tokio::test]
async fn a_second_host_on_a_state_folder_is_refused_and_the_first_goes_on() {
    let rig = Rig::started().await;
    rig.apply(&shop(&sample("v1"), CANARY, "")).await;
    rig.healthy("shop", "v1").await;
    let (before, proxy) = (rig.processes().await, rig.proxy().await);
    let pid = rig.client.info().await.expect("it answers").pid;
    let ended = refused(&rig, &[]).await;
    ended.failed(
        6,
        &[
            &format!("Error: another host (process {pid}) uses the state folder"),
            "stop it, or choose another folder",
        ],
    );
    assert_eq!(rig.client.info().await.expect("it answers").pid, pid);
    assert_eq!((rig.processes().await, rig.proxy().await), (before, proxy));
    rig.apply(&shop(&sample("v2"), CANARY, "")).await;
    rig.becomes("shop", "paused", |now| now["status"]["phase"] == "Paused")
        .await;
    rig.end().await;
}

#[tokio::test]
async fn folders_that_cannot_be_used_are_refused_with_the_reason() {
    let long = "x".repeat(100);
    // Folder, exit code, words.
    let table = [
        (
            "/proc/crossfade",
            vec!["the state folder /proc/crossfade cannot be used: "],
        ),
        (
            "/dev/null/state",
            vec!["/dev/null/state cannot be used: ", "Not a directory"],
        ),
        (
            long.as_str(),
            vec!["is too long", "hint: crossfade host --state FOLDER"],
        ),
    ];
    for (folder, words) in table {
        let here = tempfile::tempdir().expect("a folder");
        let state = here.path().join(folder);
        let rig = Rig::at(here, state);
        refused(&rig, &[]).await.failed(1, &words);
    }
    // Somebody else's folder is not taken over, and not changed.
    let rig = Rig::new();
    std::fs::create_dir(&rig.state).expect("a folder");
    std::fs::write(rig.state.join("letter"), "dear").expect("writes");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&rig.state, open).expect("its mode is set");
    refused(&rig, &[]).await.failed(1, &["holds other files"]);
    assert_eq!(rig.state.read_dir().expect("a folder").count(), 1);
}

#[tokio::test]
async fn a_store_of_another_version_or_a_damaged_one_is_refused_and_left_alone() {
    let mut rig = Rig::new();
    rig.start_with(&["--ephemeral"]).await;
    rig.stop_host().await;
    let file = rig.state.join("objects.db");
    let whole = std::fs::read(&file).expect("the store");
    // SQLite keeps the version of the form at 60; a newer one than any.
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(&file, &newer).expect("writes");
    let words = ["was written by a newer version", "run that version"];
    refused(&rig, &[]).await.failed(1, &words);
    assert!(std::fs::read(&file).expect("the store") == newer);
    std::fs::write(&file, "no database ".repeat(1000)).expect("writes");
    let words = ["is damaged", "restore it from a copy"];
    refused(&rig, &[]).await.failed(1, &words);
    // And one of an older form, here an empty one, is brought up to date.
    std::fs::write(&file, "").expect("writes");
    rig.start().await;
    rig.apply(&shop(&sample("v1"), CANARY, "")).await;
    rig.healthy("shop", "v1").await;
    rig.end().await;
}

#[tokio::test]
async fn after_a_reboot_everything_comes_back_at_the_same_step() {
    let mut rig = Rig::started().await;
    rig.apply(&shop(&sample("v1"), CANARY, "")).await;
    rig.healthy("shop", "v1").await;
    let address = rig.address("shop").await;
    rig.apply(&shop(&sample("v2"), CANARY, "")).await;
    let at_40 = |now: &serde_json::Value| {
        now["status"]["phase"] == "Paused"
            && now["status"]["canary"]["weights"]["canary"]["weight"] == 40
    };
    rig.becomes("shop", "paused at 40", at_40).await;
    let names = |pods: Vec<crate::rig::Pod>| -> Vec<String> {
        pods.into_iter().map(|pod| pod.name).collect()
    };
    let before = (names(rig.pods("v1").await), names(rig.pods("v2").await));

    // The power goes: nobody has a chance to say anything.
    let processes = rig.processes().await;
    rig.kill_host().await;
    for pid in &processes {
        signal(*pid, Signal::KILL);
    }
    rig.until("all processes are gone", async || {
        (!processes.iter().any(|pid| is_alive(*pid))).then_some(())
    })
    .await;
    // A power cut may leave files half-written.
    for folder in rig
        .state
        .join("pods")
        .read_dir()
        .expect("pods")
        .flatten()
        .take(1)
    {
        std::fs::write(folder.path().join("state.json"), "{\"shim\":").expect("writes");
    }

    rig.start().await;
    let now = rig.rollout("shop").await;
    assert!(at_40(&now) && step(&now) == 1, "{:#}", now["status"]);
    rig.until("all pods are ready again", async || {
        let pods = [rig.pods("v1").await, rig.pods("v2").await].concat();
        pods.iter().all(|pod| pod.ready).then_some(())
    })
    .await;
    let after = (names(rig.pods("v1").await), names(rig.pods("v2").await));
    assert_eq!(before, after, "the same pods, and no more");
    assert_eq!(rig.address("shop").await, address, "at the same address");
    let now = rig.rollout("shop").await;
    assert!(at_40(&now) && step(&now) == 1, "{:#}", now["status"]);
    let load = Load::start(&address, true);
    let ended = rig.crossfade(&["promote", "shop"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    rig.healthy("shop", "v2").await;
    load.end_well();
    rig.end().await;
}

#[tokio::test]
async fn an_ephemeral_host_leaves_nothing_running_whoever_started_it() {
    let mut rig = Rig::started().await;
    rig.apply(&shop(&sample("v1"), CANARY, "")).await;
    rig.healthy("shop", "v1").await;
    let (processes, proxy) = (rig.processes().await, rig.proxy().await);
    assert!(proxy.is_some() && processes.len() == 5, "{processes:?}");
    rig.kill_host().await;
    rig.start_with(&["--ephemeral"]).await;
    assert_eq!(rig.proxy().await, proxy, "it was found, not started");
    assert_eq!(rig.stop_host().await, 0);
    let left: Vec<u32> = processes.into_iter().filter(|pid| is_alive(*pid)).collect();
    assert!(left.is_empty(), "{left:?} are left");
}

/// A small disk of its own; none where this user may not mount one.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(at: std::path::PathBuf) -> Option<Self> {
        std::fs::create_dir(&at).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs"])
            .arg(&at)
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|ended| ended.success())
            .then_some(Self(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: what a failed test left running may still use it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_loses_nothing_and_recovers() {
    let here = tempfile::tempdir().expect("a folder");
    let at = here.path().join("disk");
    let Some(disk) = Disk::mount(at.clone()) else {
        // The same by a limit of the store: `tests/store/durability.rs` of the host.
        return;
    };
    let mut rig = Rig::at(here, at.join("state"));
    rig.start().await;
    rig.apply(&shop(&sample("v1"), CANARY, "")).await;
    rig.healthy("shop", "v1").await;
    let load = Load::start(&rig.address("shop").await, true);

    // Somebody fills the disk, to the last byte.
    let filler = at.join("filler");
    let zeros = vec![0_u8; 4096];
    let mut file = std::fs::File::create(&filler).expect("a file");
    while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
    drop(file);
    let ended = rig
        .until("a write is refused", async || {
            let ended = rig.try_apply(&shop(&sample("v2"), CANARY, "")).await;
            (ended.code != 0).then_some(ended)
        })
        .await;
    ended.failed(
        1,
        &[
            "Error: the disk under ",
            " is full: nothing was changed",
            "free some space",
        ],
    );
    let json = rig.crossfade(&["pause", "shop", "-o", "json"]).await;
    assert_eq!(json.code, 1, "{json:?}");
    assert!(json.stderr.contains("InsufficientStorage"), "{json:?}");
    // What is there can be read.
    assert_eq!(rig.crossfade(&["get", "rollout", "shop"]).await.code, 0);
    rig.crossfade(&["explain", "shop"]).await;
    // A control plane that dies now comes back, and finds everything.
    rig.kill_host().await;
    rig.start().await;
    let stable = rig.pods("v1").await;
    assert!(stable.len() == 2 && stable.iter().all(|pod| pod.ready && pod.restarts == 0));

    std::fs::remove_file(&filler).expect("removes");
    rig.apply(&shop(&sample("v2"), CANARY, "")).await;
    rig.becomes("shop", "paused at 40", |now| {
        now["status"]["canary"]["weights"]["canary"]["weight"] == 40 && step(now) == 1
    })
    .await;
    assert_eq!(rig.crossfade(&["promote", "shop"]).await.code, 0);
    rig.healthy("shop", "v2").await;
    load.end_well();
    let audit = rig.crossfade(&["audit", "shop"]).await;
    assert!(audit.stdout.contains("promote"), "{audit:?}");
    assert_eq!(rig.list(Kind::Rollout).await.len(), 1);
    rig.end().await;
    drop(disk);
}
