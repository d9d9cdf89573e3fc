//! A pod template read into a [`PodPlan`], every fault of it at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1 as k8s;
use serde_json::Value;

use super::super::folder::PodFolder;
use super::super::identity::PodRequest;
use super::super::materials::{Materials, Sensitive};
use super::super::status::{RestartPolicy, Role};
use super::environment::{Sources, mount_variable, variables};
use super::hooks::{self, Hook, PortBook, Probe};
use super::mounts::Mounts;
use super::volumes::{self, Source, Volume};
use super::{
    CONFIG_ERROR, ContainerPlan, Fault, IMAGE_ONLY, PodPlan, PortPlan, Protocol, Tuning, Variable,
};

/// What every container gets from the host.
#[derive(Clone, Debug)]
pub(in super::super) struct Surroundings {
    /// Variables of the host's own environment that containers inherit.
    pub(in super::super) inherited: BTreeMap<String, String>,
    /// Where a container starts that names no `workingDir`, and what a relative one is relative to.
    pub(in super::super) working_dir: PathBuf,
    pub(in super::super) ports_folder: PathBuf,
    pub(in super::super) names_file: PathBuf,
    pub(in super::super) tuning: Tuning,
}

/// Reads the template and lays out what it needs in the pod's folder.
///
/// # Errors
/// All faults of the template, or of what it refers to. Those that another apply may mend are tried again by
/// the caller.
pub(in super::super) fn build(
    request: &PodRequest,
    materials: &dyn Materials,
    folder: &PodFolder,
    surroundings: &Surroundings,
) -> Result<PodPlan, Vec<Fault>> {
    let template: k8s::PodTemplateSpec = serde_json::from_value(request.template.clone())
        .map_err(|error| vec![whole_pod(format!("spec.template cannot be read: {error}"))])?;
    let spec = template.spec.unwrap_or_default();
    let sources = Sources {
        identity: &request.identity,
        materials,
        spec: &spec,
    };
    let mut faults = Vec::new();
    let mut warnings = ignored(&request.template);

    let restart_policy = match spec.restart_policy.as_deref() {
        None | Some("" | "Always") => RestartPolicy::Always,
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Never") => RestartPolicy::Never,
        Some(other) => {
            faults.push(whole_pod(format!(
                "spec.template.spec.restartPolicy: `{other}` is none of Always, OnFailure, Never"
            )));
            RestartPolicy::Always
        }
    };
    if spec.containers.is_empty() {
        faults.push(whole_pod(
            "spec.template.spec.containers is empty; a pod needs at least one".to_owned(),
        ));
    }
    let volumes = volumes::lay_out(&spec, &sources, folder, &mut |problem| {
        faults.push(whole_pod(format!("spec.template.spec.{problem}")));
    });
    let written = written_containers(&spec);
    faults.extend(doubles(&written));
    // A mount of a volume that cannot be would only hide the reason.
    let lost: BTreeSet<&str> = spec
        .volumes
        .iter()
        .flatten()
        .map(|volume| volume.name.as_str())
        .filter(|name| !volumes.contains_key(*name))
        .collect();
    let ports: Vec<(String, Option<String>, u16)> = written
        .iter()
        .flat_map(|(_, _, container)| {
            container.ports.iter().flatten().filter_map(|port| {
                Some((
                    container.name.clone(),
                    port.name.clone(),
                    u16::try_from(port.container_port).ok()?,
                ))
            })
        })
        .collect();

    let mut containers = Vec::new();
    for (path, role, container) in written {
        let mut reading = Reading {
            path,
            container,
            lost: &lost,
            faults: &mut faults,
            warnings: &mut warnings,
        };
        if let Some(plan) = reading.plan(
            role,
            &request.environment,
            &sources,
            &volumes,
            &ports,
            surroundings,
        ) {
            containers.push(plan);
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(PodPlan {
        identity: request.identity.clone(),
        containers,
        restart_policy,
        grace_seconds: request.grace_seconds(),
        active_deadline_seconds: spec
            .active_deadline_seconds
            .and_then(|s| u32::try_from(s).ok()),
        warnings,
        tuning: surroundings.tuning.clone(),
        ports_folder: surroundings.ports_folder.clone(),
        host_aliases: host_aliases(&spec),
        names_file: surroundings.names_file.clone(),
    })
}

/// The names of `hostAliases`; the addresses are of another network.
fn host_aliases(spec: &k8s::PodSpec) -> Vec<String> {
    let aliases = spec.host_aliases.iter().flatten();
    aliases
        .flat_map(|alias| alias.hostnames.iter().flatten().cloned())
        .collect()
}

/// The containers in the order in which they start, with the path of each and how it takes part.
fn written_containers(spec: &k8s::PodSpec) -> Vec<(String, Role, &k8s::Container)> {
    let init = spec
        .init_containers
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, container)| {
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            let role = if sidecar { Role::Sidecar } else { Role::Init };
            (
                format!("spec.template.spec.initContainers[{index}]"),
                role,
                container,
            )
        });
    let main = spec.containers.iter().enumerate();
    init.chain(main.map(|(index, c)| {
        (
            format!("spec.template.spec.containers[{index}]"),
            Role::Main,
            c,
        )
    }))
    .collect()
}

fn doubles(written: &[(String, Role, &k8s::Container)]) -> Vec<Fault> {
    let mut seen = BTreeSet::new();
    written
        .iter()
        .filter(|(.., container)| !seen.insert(&container.name))
        .map(|(path, _, container)| {
            whole_pod(format!("{path}.name: `{}` is used twice", container.name))
        })
        .collect()
}

fn whole_pod(message: String) -> Fault {
    Fault {
        container: None,
        reason: CONFIG_ERROR,
        message,
    }
}

/// One container being read.
struct Reading<'a> {
    path: String,
    container: &'a k8s::Container,
    /// Volumes that are faults already.
    lost: &'a BTreeSet<&'a str>,
    faults: &'a mut Vec<Fault>,
    warnings: &'a mut Vec<String>,
}

impl Reading<'_> {
    fn fault(&mut self, reason: &'static str, message: String) {
        self.faults.push(Fault {
            container: Some(self.container.name.clone()),
            reason,
            message,
        });
    }

    fn wrong(&mut self, below: &str) {
        let message = format!("{}.{below}", self.path);
        self.fault(CONFIG_ERROR, message);
    }

    fn plan(
        &mut self,
        role: Role,
        surrounding: &BTreeMap<String, String>,
        sources: &Sources<'_>,
        volumes: &BTreeMap<String, Volume>,
        ports: &[(String, Option<String>, u16)],
        surroundings: &Surroundings,
    ) -> Option<ContainerPlan> {
        let container = self.container;
        if container.name.is_empty()
            || container.name.contains(['/', '\0'])
            || container.name.starts_with('.')
        {
            self.wrong("name: not a name for a container");
            return None;
        }
        let mounts = self.mounts(volumes);
        let (mut problems, mut notices) = (Vec::new(), Vec::new());
        let own = variables(
            container,
            sources,
            &mounts,
            &mut |p| problems.push(p),
            &mut |n| notices.push(n),
        );
        for problem in &problems {
            self.wrong(problem);
        }
        self.warnings.extend(
            notices
                .into_iter()
                .map(|notice| format!("{}.{notice}", self.path)),
        );
        let given = |name: String, value: &str| Variable {
            name,
            value: Sensitive::new(value),
            expand: false,
        };
        let environment: Vec<Variable> = [given("HOSTNAME".to_owned(), &sources.identity.name)]
            .into_iter()
            .chain(
                surrounding
                    .iter()
                    .map(|(name, value)| given(name.clone(), value)),
            )
            .chain(
                mounts
                    .targets()
                    .map(|(volume, path)| given(mount_variable(volume), &path.to_string_lossy())),
            )
            .chain(own)
            .collect();

        let command = self.command(&mounts);
        let working_dir = match container.working_dir.as_deref().unwrap_or_default() {
            "" => surroundings.working_dir.clone(),
            written => surroundings.working_dir.join(mounts.replace(written)),
        };
        let book = PortBook {
            own: &container.name,
            ports,
        };
        let startup = self.probe(
            "startupProbe",
            container.startup_probe.as_ref(),
            &book,
            &mounts,
        );
        let liveness = self.probe(
            "livenessProbe",
            container.liveness_probe.as_ref(),
            &book,
            &mounts,
        );
        let readiness = self.probe(
            "readinessProbe",
            container.readiness_probe.as_ref(),
            &book,
            &mounts,
        );
        for (name, probe) in [("startupProbe", &startup), ("livenessProbe", &liveness)] {
            if probe
                .as_ref()
                .is_some_and(|probe| probe.success_threshold != 1)
            {
                self.wrong(&format!("{name}.successThreshold: must be 1"));
            }
        }
        let lifecycle = container.lifecycle.as_ref();
        let post_start = self.hook(
            "lifecycle.postStart",
            lifecycle.and_then(|l| l.post_start.as_ref()),
            &book,
            &mounts,
        );
        let pre_stop = self.hook(
            "lifecycle.preStop",
            lifecycle.and_then(|l| l.pre_stop.as_ref()),
            &book,
            &mounts,
        );
        if role == Role::Init
            && (startup.is_some()
                || liveness.is_some()
                || readiness.is_some()
                || lifecycle.is_some())
        {
            self.wrong(
                "an init container that runs to its end has neither probes nor lifecycle hooks",
            );
        }
        let ports = self.ports();
        // Last, when everything that may mention a path has been read.
        let unmentioned: Vec<String> = mounts
            .unmentioned()
            .map(|mount| {
                format!(
                    "volumeMounts: volume `{}` cannot appear at {} on one machine, and neither command, args nor env \
                     mention that path; tell the program where it is, for example with $({}) in its args",
                    mount.volume,
                    mount.path,
                    mount_variable(&mount.volume)
                )
            })
            .collect();
        for problem in &unmentioned {
            self.wrong(problem);
        }
        Some(ContainerPlan {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            role,
            command: command?,
            inherited: surroundings.inherited.clone(),
            environment,
            working_dir,
            ports,
            startup,
            liveness,
            readiness,
            post_start,
            pre_stop,
        })
    }

    /// The words of the command, or a fault when there is nothing to run.
    fn command(&mut self, mounts: &Mounts) -> Option<Vec<String>> {
        let container = self.container;
        let command = container.command.as_deref().unwrap_or_default();
        let args = container.args.as_deref().unwrap_or_default();
        if command.is_empty() {
            let image = container.image.as_deref().unwrap_or_default();
            let has = if args.is_empty() {
                "only an image"
            } else {
                "an image and args, but no command"
            };
            let message = format!(
                "container `{}` has {has} ({image}), and images are not pulled on one machine; add {}.command, for \
                 example [\"./{}\", \"--port\", \"$(PORT)\"], in the manifest or an overlay",
                container.name, self.path, container.name
            );
            self.fault(IMAGE_ONLY, message);
            return None;
        }
        Some(
            command
                .iter()
                .chain(args)
                .map(|word| mounts.replace(word))
                .collect(),
        )
    }

    fn mounts(&mut self, volumes: &BTreeMap<String, Volume>) -> Mounts {
        let mut mounts = Mounts::default();
        for (index, mount) in self.container.volume_mounts.iter().flatten().enumerate() {
            let Some(volume) = volumes.get(&mount.name) else {
                if self.lost.contains(mount.name.as_str()) {
                    continue;
                }
                self.wrong(&format!(
                    "volumeMounts[{index}]: volume `{}` is not one of spec.volumes",
                    mount.name
                ));
                continue;
            };
            if mount.mount_path.trim_end_matches('/').is_empty()
                || !mount.mount_path.starts_with('/')
            {
                self.wrong(&format!(
                    "volumeMounts[{index}].mountPath: `{}` cannot be mounted",
                    mount.mount_path
                ));
                continue;
            }
            if mount.sub_path_expr.is_some() {
                self.wrong(&format!(
                    "volumeMounts[{index}].subPathExpr is not supported on one machine; use subPath"
                ));
                continue;
            }
            let target = match mount.sub_path.as_deref().unwrap_or_default() {
                "" => volume.folder.clone(),
                below
                    if Path::new(below).is_absolute()
                        || below.split('/').any(|part| part == "..") =>
                {
                    self.wrong(&format!(
                        "volumeMounts[{index}].subPath: `{below}` leaves the volume"
                    ));
                    continue;
                }
                below => volume.folder.join(below),
            };
            let path = Path::new(&mount.mount_path);
            let optional = match volume.source {
                Source::Written => false,
                // Scratch space: the machine's own folder of that name serves as well, though others share it.
                Source::Empty => path.is_dir(),
                Source::Host => target == path,
            };
            mounts.add(&mount.name, &mount.mount_path, target, optional);
        }
        mounts
    }

    fn probe(
        &mut self,
        name: &str,
        written: Option<&k8s::Probe>,
        book: &PortBook<'_>,
        mounts: &Mounts,
    ) -> Option<Probe> {
        hooks::probe(written?, book, mounts)
            .map_err(|problem| self.wrong(&format!("{name}: {problem}")))
            .ok()
    }

    fn hook(
        &mut self,
        name: &str,
        written: Option<&k8s::LifecycleHandler>,
        book: &PortBook<'_>,
        mounts: &Mounts,
    ) -> Option<Hook> {
        hooks::hook(written?, book, mounts)
            .map_err(|problem| self.wrong(&format!("{name}: {problem}")))
            .ok()
    }

    fn ports(&mut self) -> Vec<PortPlan> {
        let mut out = Vec::new();
        for (index, port) in self.container.ports.iter().flatten().enumerate() {
            let number = u16::try_from(port.container_port)
                .ok()
                .filter(|number| *number > 0);
            let protocol = match port.protocol.as_deref().unwrap_or_default() {
                "" | "TCP" => Some(Protocol::Tcp),
                "UDP" => Some(Protocol::Udp),
                _ => None,
            };
            match (number, protocol) {
                (Some(container_port), Some(protocol)) => {
                    out.push(PortPlan { name: port.name.clone(), container_port, protocol });
                }
                (None, _) => self.wrong(&format!(
                    "ports[{index}].containerPort: {} is not a port number; use a value from 1 to 65535",
                    port.container_port
                )),
                (_, None) => self.wrong(&format!(
                    "ports[{index}].protocol: `{}` is not supported on one machine; use TCP or UDP",
                    port.protocol.as_deref().unwrap_or_default()
                )),
            }
        }
        out
    }
}

/// One warning that lists what the template asks for and one machine does not give.
fn ignored(template: &Value) -> Vec<String> {
    let mut list = Vec::new();
    let spec = template.get("spec");
    note(spec, "", POD_FIELDS, &mut list);
    for kind in ["initContainers", "containers"] {
        let containers = spec
            .and_then(|spec| spec.get(kind))
            .and_then(Value::as_array);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            note(
                Some(container),
                &format!("{kind}[{index}]."),
                CONTAINER_FIELDS,
                &mut list,
            );
            let ports = container.get("ports").and_then(Value::as_array);
            for (port_index, port) in ports.into_iter().flatten().enumerate() {
                note(
                    Some(port),
                    &format!("{kind}[{index}].ports[{port_index}]."),
                    PORT_FIELDS,
                    &mut list,
                );
            }
        }
    }
    if list.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "spec.template.spec: has no effect on one machine: {}",
        list.join(", ")
    )]
}

fn note(object: Option<&Value>, prefix: &str, heeded: &[&str], list: &mut Vec<String>) {
    let fields = object.and_then(Value::as_object).into_iter().flatten();
    list.extend(
        fields
            .filter(|(name, value)| !heeded.contains(&name.as_str()) && !value.is_null())
            .map(|(name, _)| format!("{prefix}{name}")),
    );
}

/// What is done, and what makes no difference to anybody.
const POD_FIELDS: &[&str] = &[
    "activeDeadlineSeconds",
    "automountServiceAccountToken",
    "hostAliases",
    "containers",
    "dnsPolicy",
    "enableServiceLinks",
    "hostNetwork",
    "imagePullSecrets",
    "initContainers",
    "restartPolicy",
    "schedulerName",
    "serviceAccount",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "volumes",
];

const CONTAINER_FIELDS: &[&str] = &[
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "restartPolicy",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
    "workingDir",
];

const PORT_FIELDS: &[&str] = &["containerPort", "name", "protocol"];
