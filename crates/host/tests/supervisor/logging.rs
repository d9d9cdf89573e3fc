//! What containers write, and who may read it when.

use std::time::Duration;

use crossfade_host::supervisor::{LogError, LogLine, LogOptions, Output, Tuning};
use futures_util::{Stream, StreamExt};
use serde_json::json;

use super::world::{HELPER, PATIENCE, World, restarts, script, with};

/// The next lines, as many as there are or `count`.
async fn lines(
    stream: &mut (impl Stream<Item = std::io::Result<LogLine>> + Unpin),
    count: usize,
) -> Vec<String> {
    let mut out = Vec::new();
    while out.len() < count {
        match tokio::time::timeout(PATIENCE, stream.next())
            .await
            .expect("comes in time")
        {
            Some(line) => out.push(line.expect("readable").text),
            None => break,
        }
    }
    out
}

async fn all(world: &World, uid: &str, options: LogOptions) -> Vec<String> {
    let stream = world
        .supervisor()
        .logs(uid, None, options)
        .await
        .expect("has a log");
    lines(&mut Box::pin(stream), usize::MAX).await
}

#[tokio::test]
async fn both_outputs_are_kept_with_their_times() {
    let world = World::new().await;
    world.start(
        "p",
        &with(
            script("echo out; echo err >&2; printf unfinished"),
            json!({"restartPolicy": "Never"}),
            json!({}),
        ),
    );
    world.until_word("p", "Completed").await;
    let stream = world
        .supervisor()
        .logs("p", Some("web"), LogOptions::default())
        .await
        .expect("has a log");
    let mut got: Vec<LogLine> = Box::pin(stream)
        .map(|line| line.expect("readable"))
        .collect()
        .await;
    let now = jiff::Timestamp::now();
    assert!(
        got.iter()
            .all(|line| line.complete && now.duration_since(line.time).as_secs() < 30)
    );
    got.sort_by(|a, b| a.text.cmp(&b.text));
    let got: Vec<(Output, &str)> = got
        .iter()
        .map(|line| (line.output, line.text.as_str()))
        .collect();
    assert_eq!(
        got,
        [
            (Output::Stderr, "err"),
            (Output::Stdout, "out"),
            (Output::Stdout, "unfinished")
        ]
    );
}

#[tokio::test]
async fn tail_and_since_leave_out_what_is_older() {
    let world = World::new().await;
    world.start(
        "p",
        &with(
            script("for i in 1 2 3 4 5; do echo $i; done"),
            json!({"restartPolicy": "Never"}),
            json!({}),
        ),
    );
    world.until_word("p", "Completed").await;
    let tail = |tail| LogOptions {
        tail: Some(tail),
        ..LogOptions::default()
    };
    assert_eq!(all(&world, "p", tail(2)).await, ["4", "5"]);
    assert_eq!(all(&world, "p", tail(0)).await, Vec::<String>::new());
    assert_eq!(all(&world, "p", tail(99)).await.len(), 5);
    let since = |since| LogOptions {
        since: Some(since),
        ..LogOptions::default()
    };
    assert_eq!(
        all(&world, "p", since(jiff::Timestamp::now())).await,
        Vec::<String>::new()
    );
    assert_eq!(
        all(&world, "p", since(jiff::Timestamp::UNIX_EPOCH))
            .await
            .len(),
        5
    );
}

#[tokio::test]
async fn a_follower_misses_nothing_across_rotations_and_ends_with_the_run() {
    let world = World::tuned(Tuning {
        log_file_bytes: 20_000,
        log_files: 50,
        ..Tuning::default()
    })
    .await;
    let go = world.file("go");
    let text = format!(
        "i=0; while [ $i -lt 2000 ]; do echo line $i of many that are written; i=$((i+1)); [ $i -eq 1000 ] && while [ ! -e {} ]; do sleep 0.01; done; done",
        go.display()
    );
    world.start(
        "p",
        &with(script(&text), json!({"restartPolicy": "Never"}), json!({})),
    );
    world
        .until("p", "running", |pod| pod.word() == "Running")
        .await;
    let stream = world
        .supervisor()
        .logs(
            "p",
            None,
            LogOptions {
                follow: true,
                ..LogOptions::default()
            },
        )
        .await;
    let mut stream = Box::pin(stream.expect("has a log"));
    let mut got = lines(&mut stream, 1000).await;
    // Nothing more comes now, and the stream waits instead of ending.
    assert!(
        tokio::time::timeout(Duration::from_millis(50), stream.next())
            .await
            .is_err()
    );
    std::fs::write(&go, "").expect("written");
    got.extend(lines(&mut stream, usize::MAX).await);
    let wanted: Vec<String> = (0..2000)
        .map(|i| format!("line {i} of many that are written"))
        .collect();
    assert_eq!(got, wanted);
    let files = std::fs::read_dir(world.pod_folder("p").join("logs/web"))
        .expect("folder")
        .count();
    assert!(files > 3, "{files} files: it was rotated");
}

#[tokio::test]
async fn a_flood_fills_neither_the_disk_nor_the_memory_of_the_shim() {
    let world = World::tuned(Tuning {
        log_file_bytes: 500_000,
        log_files: 3,
        ..Tuning::default()
    })
    .await;
    let text = format!("{HELPER} flood 60000000; exec sleep 1000");
    world.start("p", &script(&text));
    let pod = world.until_ready("p").await;
    let tail = LogOptions {
        tail: Some(1),
        follow: true,
        ..LogOptions::default()
    };
    let stream = world
        .supervisor()
        .logs("p", None, tail)
        .await
        .expect("has a log");
    let mut stream = Box::pin(stream);
    while lines(&mut stream, 1).await != ["end of flood"] {}
    let logs = world.pod_folder("p").join("logs/web");
    let bytes: u64 = std::fs::read_dir(logs)
        .expect("folder")
        .flatten()
        .map(|f| f.metadata().expect("there").len())
        .sum();
    assert!(bytes < 2_000_000, "{bytes} bytes kept");
    let status = std::fs::read_to_string(format!("/proc/{}/status", pod.shim_pid.expect("a shim")))
        .expect("runs");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    let kilobytes: u64 = peak
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    assert!(kilobytes < 40_000, "the shim took {kilobytes} kB");
}

#[tokio::test]
async fn the_log_of_the_previous_run_can_be_read() {
    let world = World::new().await;
    let text = format!(
        "if [ -e {0} ]; then echo second; exec sleep 1000; fi; touch {0}; echo first; exit 1",
        world.file("again").display()
    );
    world.start("p", &script(&text));
    world
        .until("p", "again", |pod| restarts(pod) == 1 && pod.is_ready())
        .await;
    let previous = LogOptions {
        previous: true,
        ..LogOptions::default()
    };
    assert_eq!(all(&world, "p", previous.clone()).await, ["first"]);
    let stream = world
        .supervisor()
        .logs(
            "p",
            None,
            LogOptions {
                follow: true,
                ..LogOptions::default()
            },
        )
        .await;
    assert_eq!(
        lines(&mut Box::pin(stream.expect("has a log")), 1).await,
        ["second"]
    );

    world.start("q", &script("exec sleep 1000"));
    world.until_ready("q").await;
    let refused = world
        .supervisor()
        .logs("q", None, previous)
        .await
        .err()
        .expect("no previous run");
    assert_eq!(
        refused.to_string(),
        "container web in pod q has no previous run"
    );
}

#[tokio::test]
async fn a_log_that_cannot_be_had_says_why() {
    let world = World::new().await;
    world.start(
        "p",
        &json!({"containers": [{"name": "web", "image": "web"}]}),
    );
    world.until_word("p", "ErrImagePull").await;
    let ask = |uid: &'static str, container| {
        world
            .supervisor()
            .logs(uid, container, LogOptions::default())
    };
    assert!(matches!(
        ask("nobody", None).await.err(),
        Some(LogError::NoSuchPod(_))
    ));
    let text = ask("p", Some("db"))
        .await
        .err()
        .expect("no such container")
        .to_string();
    assert_eq!(text, "container db is not in pod p; it has web");
    let text = ask("p", None).await.err().expect("not started").to_string();
    assert_eq!(text, "container web in pod p has not started: ErrImagePull");
}
