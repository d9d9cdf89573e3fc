//! What a template asks for: commands, environment, volumes, secrets, and what one machine refuses.

use std::os::unix::fs::PermissionsExt;

use crossfade_host::supervisor::{ContainerState, PodPhase, PodSnapshot};
use serde_json::{Value, json};

use super::world::{Cupboard, World};

/// Why the first container of a pod waits.
fn lack(pod: &PodSnapshot) -> (String, String) {
    match pod
        .status
        .container_statuses
        .first()
        .map(|container| container.state.clone())
    {
        Some(ContainerState::Waiting { reason, message }) => (reason, message),
        other => panic!("not waiting: {other:?}"),
    }
}

#[tokio::test]
async fn a_container_that_has_only_an_image_says_what_to_add() {
    let world = World::new().await;
    world.start(
        "p",
        &json!({"containers": [{"name": "web", "image": "registry/web:v1"}]}),
    );
    let pod = world.until_word("p", "ErrImagePull").await;
    assert_eq!(pod.status.phase, PodPhase::Pending);
    assert_eq!(
        lack(&pod).1,
        "container `web` has only an image (registry/web:v1), and images are not pulled on one machine; add \
         spec.template.spec.containers[0].command, for example [\"./web\", \"--port\", \"$(PORT)\"], in the manifest \
         or an overlay"
    );
    world.start(
        "q",
        &json!({"containers": [{"name": "web", "image": "web", "args": ["--fast"]}]}),
    );
    assert!(
        lack(&world.until_word("q", "ErrImagePull").await)
            .1
            .contains("an image and args, but no command")
    );
    world.supervisor().delete_pod("p", None).expect("accepted");
    world.until_gone("p").await;
}

#[tokio::test]
async fn a_pod_waits_for_the_configmap_it_names_and_starts_when_it_comes() {
    let world = World::new().await;
    let script = format!(
        "echo $LEVEL > {}; exec sleep 1000",
        world.file("out").display()
    );
    world.start(
        "p",
        &json!({"containers": [{
            "name": "web",
            "command": ["/bin/sh", "-c", script],
            "envFrom": [{"configMapRef": {"name": "settings"}}],
        }]}),
    );
    let pod = world.until_word("p", "CreateContainerConfigError").await;
    assert_eq!(
        lack(&pod).1,
        "spec.template.spec.containers[0].envFrom[0]: ConfigMap prod/settings does not exist; apply it, or say \
         `optional: true` where it is named"
    );
    Cupboard::put(
        &world.cupboard.config_maps,
        "settings",
        &[("LEVEL", "debug")],
    );
    world.until_ready("p").await;
    super::world::eventually("the script writes", || {
        std::fs::read_to_string(world.file("out")).is_ok_and(|text| text == "debug\n")
    })
    .await;
}

#[tokio::test]
async fn all_faults_of_a_template_are_told_at_once_each_with_its_path() {
    let world = World::new().await;
    world.start(
        "p",
        &json!({
            "restartPolicy": "Sometimes",
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}],
            "containers": [{
                "name": "web",
                "command": ["x"],
                "ports": [{"containerPort": 0}],
                "env": [
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}},
                    {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "spec.nothing"}}},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
                ],
                "livenessProbe": {"grpc": {"port": 1}},
                "lifecycle": {"preStop": {"tcpSocket": {"port": 1}}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
        }),
    );
    let pod = world.until_word("p", "CreateContainerConfigError").await;
    let mut messages: Vec<&str> = pod
        .events
        .iter()
        .map(|event| event.message.as_str())
        .collect();
    messages.sort_unstable();
    let at = "spec.template.spec.containers[0]";
    assert_eq!(
        messages,
        [
            &format!(
                "{at}.env[0] (CPU): resourceFieldRef.resource: `limits.gpu` is not supported on one machine"
            ),
            &format!(
                "{at}.env[1] (F): fieldRef.fieldPath `spec.nothing` is not a field a pod can be told"
            ),
            &format!(
                "{at}.env[2] (S): Secret prod/db does not exist; apply it, or say `optional: true` where it is named"
            ),
            &format!(
                "{at}.lifecycle.preStop: tcpSocket does nothing as a lifecycle hook, in Kubernetes either; use exec, httpGet or sleep"
            ),
            &format!(
                "{at}.livenessProbe: grpc probes are not supported on one machine; use httpGet, tcpSocket or exec"
            ),
            &format!(
                "{at}.ports[0].containerPort: 0 is not a port number; use a value from 1 to 65535"
            ),
            "spec.template.spec.restartPolicy: `Sometimes` is none of Always, OnFailure, Never",
            "spec.template.spec.volumes[0] (data): persistentVolumeClaim is not supported on one machine; use hostPath or emptyDir, for example in an overlay",
        ]
    );
}

#[tokio::test]
async fn what_makes_no_sense_on_one_machine_is_one_warning() {
    let world = World::new().await;
    world.start(
        "p",
        &json!({
            "affinity": {},
            "tolerations": [],
            "readinessGates": [{"conditionType": "x"}],
            "containers": [{
                "name": "web",
                "image": "web",
                "imagePullPolicy": "Always",
                "command": ["/bin/sleep", "1000"],
                "resources": {"limits": {"cpu": "1"}},
            }],
        }),
    );
    let pod = world.until_ready("p").await;
    assert_eq!(
        pod.warnings,
        [
            "spec.template.spec: has no effect on one machine: affinity, readinessGates, tolerations, \
             containers[0].resources"
        ]
    );
}

#[tokio::test]
async fn volumes_are_folders_and_every_mention_of_a_mount_path_leads_there() {
    let world = World::new().await;
    Cupboard::put(
        &world.cupboard.config_maps,
        "settings",
        &[("app.yaml", "colour: blue"), ("other", "x")],
    );
    Cupboard::put(&world.cupboard.secrets, "db", &[("password", "s3cret")]);
    let host = world.file("host");
    std::fs::create_dir(&host).expect("folder");
    let out = world.file("out").display().to_string();
    world.start(
        "p",
        &json!({
            "restartPolicy": "Never",
            "volumes": [
                {"name": "settings", "configMap": {"name": "settings", "items": [{"key": "app.yaml", "path": "conf/app.yaml"}]}},
                {"name": "db", "secret": {"secretName": "db", "defaultMode": 0o444}},
                {"name": "scratch", "emptyDir": {}},
                {"name": "host", "hostPath": {"path": host}},
                {"name": "me", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"name": "all", "projected": {"sources": [{"secret": {"name": "db"}}, {"configMap": {"name": "settings"}}]}},
            ],
            "containers": [{
                "name": "web",
                "command": ["/bin/sh", "-c"],
                "args": [format!(
                    "cat /etc/web/conf/app.yaml $SECRET_FILE /me/labels /all/other > {out}; echo >> {out}; \
                     mkdir sub; echo kept > /scratch/inner/file; cat sub/file >> {out}; echo there > /host/file; \
                     pwd >> {out}"
                )],
                "env": [{"name": "SECRET_FILE", "value": "/etc/db/password"}],
                "workingDir": "/scratch",
                "volumeMounts": [
                    {"name": "settings", "mountPath": "/etc/web"},
                    {"name": "db", "mountPath": "/etc/db"},
                    {"name": "scratch", "mountPath": "/scratch"},
                    {"name": "host", "mountPath": "/host"},
                    {"name": "me", "mountPath": "/me"},
                    {"name": "all", "mountPath": "/all"},
                    {"name": "scratch", "mountPath": "/scratch/inner", "subPath": "sub"},
                ],
            }],
        }),
    );
    world.until_word("p", "Completed").await;
    let scratch = world.pod_folder("p").join("volumes/scratch");
    assert_eq!(
        std::fs::read_to_string(&out).expect("written"),
        format!(
            "colour: bluesecretapp=\"web\"x\nkept\n{}\n",
            scratch.display()
        )
        .replace("secret", "s3cret")
    );
    assert_eq!(
        std::fs::read_to_string(host.join("file")).expect("written"),
        "there\n"
    );
    world.supervisor().delete_pod("p", None).expect("accepted");
    world.until_gone("p").await;
    assert!(
        host.join("file").exists(),
        "a path of the machine outlives the pod"
    );
}

#[tokio::test]
async fn a_volume_that_the_program_cannot_find_is_an_error_that_says_so() {
    let world = World::new().await;
    Cupboard::put(
        &world.cupboard.config_maps,
        "settings",
        &[("app.yaml", "colour: blue")],
    );
    let spec = |args: &str, volume: Value, path: &str| {
        json!({
            "volumes": [{"name": "my-conf", "configMap": {"name": "settings"}}, {"name": "scratch", "emptyDir": {}}],
            "containers": [{
                "name": "web",
                "command": ["/bin/sh", "-c", args],
                "volumeMounts": [{"name": volume, "mountPath": path}],
            }],
        })
    };
    world.start("p", &spec("exec sleep 1000", json!("my-conf"), "/etc/web"));
    assert_eq!(
        lack(&world.until_word("p", "CreateContainerConfigError").await).1,
        "spec.template.spec.containers[0].volumeMounts: volume `my-conf` cannot appear at /etc/web on one machine, and \
         neither command, args nor env mention that path; tell the program where it is, for example with \
         $(MOUNT_MY_CONF) in its args"
    );
    // The advice works.
    world.start(
        "told",
        &spec(
            "cat $(MOUNT_MY_CONF)/app.yaml && exec sleep 1000",
            json!("my-conf"),
            "/etc/web",
        ),
    );
    world.until_ready("told").await;
    // Scratch space that is there anyway needs no telling.
    world.start("tmp", &spec("exec sleep 1000", json!("scratch"), "/tmp"));
    world.until_ready("tmp").await;
}

#[tokio::test]
async fn secrets_arrive_and_stay_with_the_user_that_runs_the_host() {
    let world = World::new().await;
    Cupboard::put(
        &world.cupboard.secrets,
        "db",
        &[("password", "s3cret"), ("user", "root")],
    );
    let out = world.file("out").display().to_string();
    world.start(
        "p",
        &json!({
            "volumes": [{"name": "db", "secret": {"secretName": "db"}}],
            "containers": [{
                "name": "web",
                "command": ["/bin/sh", "-c"],
                "args": [format!("echo $PASSWORD $DB_user $(PASSWORD) > {out}; cat /etc/db/password >> {out}; exec sleep 1000")],
                "envFrom": [{"prefix": "DB_", "secretRef": {"name": "db"}}],
                "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}],
                "volumeMounts": [{"name": "db", "mountPath": "/etc/db"}],
            }],
        }),
    );
    let pod = world.until_ready("p").await;
    super::world::eventually("the secrets arrive", || {
        std::fs::read_to_string(&out).is_ok_and(|text| text == "s3cret root s3cret\ns3cret")
    })
    .await;
    assert!(
        !format!("{pod:?}").contains("s3cret"),
        "not in what is shown"
    );
    assert!(
        !std::fs::read_to_string(world.pod_folder("p").join("state.json"))
            .expect("state")
            .contains("s3cret")
    );
    // Every folder is for this user alone, and so is every file.
    let mut folders = vec![world.state_folder().join("pods"), world.pod_folder("p")];
    while let Some(folder) = folders.pop() {
        let mode = folder.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is {mode:o}", folder.display());
        for entry in std::fs::read_dir(&folder).expect("readable").flatten() {
            let kind = entry.file_type().expect("a kind");
            let mode = entry.metadata().expect("there").permissions().mode();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file()
                && std::fs::read_to_string(entry.path()).is_ok_and(|t| t.contains("s3cret"))
            {
                assert_eq!(
                    mode & 0o777,
                    0o600,
                    "{} is {mode:o}",
                    entry.path().display()
                );
            }
        }
    }
    world.supervisor().delete_pod("p", None).expect("accepted");
    world.until_gone("p").await;
}
