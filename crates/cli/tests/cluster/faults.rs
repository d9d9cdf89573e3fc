//! The controller as a process that is killed and frozen, with the API server's log as the witness.

use std::path::PathBuf;
use std::time::Duration;

use crossfade_test_cluster::kubelet::Pace;
use crossfade_test_cluster::{Actor, Cluster, Request};
use crossfade_test_fleet::{Answers, Fleet, Kind, Outcome, Shape, leads, survive};

/// The shortest Lease.
const LEASE: Duration = Duration::from_secs(2);

/// A fleet binds Crossfade's users in the whole cluster, which would hide missing rights from tests that share it: it has its own.
async fn fleet(cluster: Cluster, answers: &Answers) -> Outcome<Fleet> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_crossfade"));
    Fleet::new(cluster, Pace::default(), program, answers.address()).await
}

#[tokio::test]
async fn releases_come_to_their_end_though_the_controller_is_killed_twenty_times() -> Outcome<()> {
    let answers = Answers::start().await?;
    let (cluster, _plane) = Cluster::own().await?;
    let fleet = fleet(cluster, &answers).await?;
    let survived = survive(&fleet, 2, 20).await?;
    assert_eq!(survived.kills, 20);
    assert!(survived.updates >= 1);
    Ok(())
}

/// A change of something that exists, Events and Leases apart.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "filters are asked in this form"
)]
fn changes(request: &&Request) -> bool {
    ["update", "patch", "delete"].contains(&request.verb.as_str())
        && !["events", "leases"].contains(&request.resource.as_str())
}

/// The change says on which version of which object it was decided.
fn says_version(request: &Request) -> bool {
    let body = &request.body;
    let of_patch = |pointer: &str| {
        let operations = body.as_array().into_iter().flatten();
        operations.into_iter().any(|one| one["path"] == pointer)
    };
    let said = |pointer: &str| {
        body.pointer(pointer)
            .is_some_and(serde_json::Value::is_string)
    };
    match request.verb.as_str() {
        "delete" => said("/preconditions/uid") && said("/preconditions/resourceVersion"),
        _ if body.is_array() => of_patch("/metadata/resourceVersion") && of_patch("/metadata/uid"),
        _ => said("/metadata/uid") && said("/metadata/resourceVersion"),
    }
}

#[tokio::test]
async fn a_leader_that_stood_still_past_its_lease_changes_nothing_any_more() -> Outcome<()> {
    let answers = Answers::start().await?;
    let (cluster, _plane) = Cluster::own().await?;
    let fleet = fleet(cluster, &answers).await?;
    let leases = fleet.history(("coordination.k8s.io", "v1", "Lease"));
    let shape = Shape {
        prefix: "shop",
        rollouts: 3,
        kind: Kind::Routed,
        replicas: 2,
    };
    fleet.create_all(shape).await?;
    let names = shape.names();
    let mut old = fleet.start(Actor::Crossfade, LEASE)?;
    leads(&leases, 0, &old).await?;
    let new = fleet.start(Actor::CrossfadeOther, LEASE)?;
    fleet.until_released(&names, 1).await?;

    // In the middle of a release, when the weight has just been given.
    fleet.update_all(&names, 2).await?;
    let patience = Duration::from_mins(2);
    let weighed = |seen: &crossfade_test_fleet::Seen| seen.status["currentStepIndex"] == 1;
    fleet
        .board()
        .until_all(&names[..1], "a weight", patience, weighed)
        .await?;
    old.freeze()?;
    leads(&leases, 0, &new).await?;
    fleet.until_released(&names, 2).await?;
    fleet.update_all(&names, 3).await?;
    old.thaw()?;
    tokio::time::timeout(patience, old.ended()).await??;
    fleet.until_released(&names, 3).await?;
    new.stop().await?;

    let of_old = fleet.requests(Actor::Crossfade)?;
    let of_new = fleet.requests(Actor::CrossfadeOther)?;
    for request in of_old.0.iter().chain(&of_new.0).filter(changes) {
        assert!(says_version(request), "{request:#?}");
    }
    let accepted = |request: &&Request| request.code < 300;
    let mut written_by_new = 0;
    for late in of_new.0.iter().filter(changes).filter(accepted) {
        written_by_new += 1;
        let fought = of_old
            .0
            .iter()
            .filter(changes)
            .filter(accepted)
            .find(|other| {
                let same = |one: &Request| {
                    (
                        one.resource.split('/').next().map(str::to_owned),
                        one.name.clone(),
                    )
                };
                same(other) == same(late) && other.at > late.at
            });
        assert!(fought.is_none(), "{fought:#?} came after {late:#?}");
    }
    assert!(
        written_by_new > 0,
        "the new leader has released two versions"
    );
    Ok(())
}
