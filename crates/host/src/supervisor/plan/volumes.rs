//! Volumes as folders: ConfigMaps, Secrets, projections and the downward API as files, emptyDir, hostPath.
//!
//! Contents are written once, when the pod is started; a ConfigMap that changes later shows in the next pod.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1 as k8s;
use serde_json::Value;

use super::super::folder::{PodFolder, make_private_folder, write_whole};
use super::super::materials::Material;
use super::environment::{Kind, Sources};
use super::resources;

/// One volume of the pod, laid out.
pub(super) struct Volume {
    pub(super) folder: PathBuf,
    pub(super) source: Source,
}

/// Where a volume's content comes from, as far as mounting it cares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Files we wrote: the process must be told where they are.
    Written,
    /// An empty folder.
    Empty,
    /// A path of this machine.
    Host,
}

/// Lays out every volume of the pod. `problem` hears of each fault with its path below `spec`.
pub(super) fn lay_out(
    spec: &k8s::PodSpec,
    sources: &Sources<'_>,
    folder: &PodFolder,
    problem: &mut dyn FnMut(String),
) -> BTreeMap<String, Volume> {
    let mut out = BTreeMap::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        match lay_out_one(volume, sources, &folder.volume(&volume.name)) {
            Ok(laid) => {
                out.insert(volume.name.clone(), laid);
            }
            Err(error) => problem(format!("volumes[{index}] ({}): {error}", volume.name)),
        }
    }
    out
}

fn lay_out_one(
    volume: &k8s::Volume,
    sources: &Sources<'_>,
    folder: &Path,
) -> Result<Volume, String> {
    let written = |files: Vec<(PathBuf, u32, Vec<u8>)>| -> Result<Volume, String> {
        make_private_folder(folder).map_err(|error| cannot("make", folder, &error))?;
        for (path, mode, bytes) in files {
            let path = folder.join(path);
            let parent = path.parent().unwrap_or(folder);
            make_private_folder(parent).map_err(|error| cannot("make", parent, &error))?;
            write_whole(&path, mode, &bytes).map_err(|error| cannot("write", &path, &error))?;
        }
        Ok(Volume {
            folder: folder.to_owned(),
            source: Source::Written,
        })
    };
    if !usable(&volume.name) {
        return Err("not a name for a volume".to_owned());
    }
    if let Some(map) = &volume.config_map {
        let optional = map.optional.unwrap_or_default();
        let material = sources
            .look_up(Kind::ConfigMap, &map.name, optional)?
            .unwrap_or_default();
        written(pick(
            material,
            map.items.as_deref(),
            map.default_mode,
            optional,
        )?)
    } else if let Some(secret) = &volume.secret {
        let optional = secret.optional.unwrap_or_default();
        let name = secret
            .secret_name
            .as_deref()
            .ok_or("secret.secretName is missing")?;
        let material = sources
            .look_up(Kind::Secret, name, optional)?
            .unwrap_or_default();
        written(pick(
            material,
            secret.items.as_deref(),
            secret.default_mode.or(Some(0o600)),
            optional,
        )?)
    } else if let Some(projected) = &volume.projected {
        let mut files = Vec::new();
        for (index, part) in projected.sources.iter().flatten().enumerate() {
            files.extend(
                project(part, sources, projected.default_mode)
                    .map_err(|e| format!("sources[{index}]: {e}"))?,
            );
        }
        written(files)
    } else if let Some(downward) = &volume.downward_api {
        written(told(
            downward.items.as_deref(),
            sources,
            downward.default_mode,
        )?)
    } else if volume.empty_dir.is_some() {
        make_private_folder(folder).map_err(|error| cannot("make", folder, &error))?;
        Ok(Volume {
            folder: folder.to_owned(),
            source: Source::Empty,
        })
    } else if let Some(host) = &volume.host_path {
        on_host(host)?;
        Ok(Volume {
            folder: PathBuf::from(&host.path),
            source: Source::Host,
        })
    } else {
        let kind = serde_json::to_value(volume)
            .ok()
            .as_ref()
            .and_then(Value::as_object)
            .and_then(|fields| fields.keys().find(|key| *key != "name").cloned())
            .unwrap_or_else(|| "a volume without a source".to_owned());
        Err(format!(
            "{kind} is not supported on one machine; use hostPath or emptyDir, for example in an overlay"
        ))
    }
}

fn project(
    part: &k8s::VolumeProjection,
    sources: &Sources<'_>,
    mode: Option<i32>,
) -> Result<Vec<(PathBuf, u32, Vec<u8>)>, String> {
    if let Some(map) = &part.config_map {
        let optional = map.optional.unwrap_or_default();
        let material = sources
            .look_up(Kind::ConfigMap, &map.name, optional)?
            .unwrap_or_default();
        pick(material, map.items.as_deref(), mode, optional)
    } else if let Some(secret) = &part.secret {
        let optional = secret.optional.unwrap_or_default();
        let material = sources
            .look_up(Kind::Secret, &secret.name, optional)?
            .unwrap_or_default();
        pick(
            material,
            secret.items.as_deref(),
            mode.or(Some(0o600)),
            optional,
        )
    } else if let Some(downward) = &part.downward_api {
        told(downward.items.as_deref(), sources, mode)
    } else {
        Err("only configMap, secret and downwardAPI can be projected on one machine".to_owned())
    }
}

/// The keys that become files, under the paths and modes they are given.
fn pick(
    mut material: Material,
    items: Option<&[k8s::KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<Vec<(PathBuf, u32, Vec<u8>)>, String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return material
            .into_iter()
            .map(|(key, bytes)| Ok((relative(&key)?, mode(None, default_mode), bytes)))
            .collect();
    };
    let mut out = Vec::new();
    for item in items {
        match material.remove(&item.key) {
            Some(bytes) => out.push((relative(&item.path)?, mode(item.mode, default_mode), bytes)),
            None if optional => {}
            None => return Err(format!("key `{}` does not exist", item.key)),
        }
    }
    Ok(out)
}

fn told(
    items: Option<&[k8s::DownwardAPIVolumeFile]>,
    sources: &Sources<'_>,
    default_mode: Option<i32>,
) -> Result<Vec<(PathBuf, u32, Vec<u8>)>, String> {
    let mut out = Vec::new();
    for item in items.unwrap_or_default() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), None) => sources.field(&field.field_path)?,
            (None, Some(reference)) => resources::value(reference, None, sources.spec)?,
            _ => return Err("needs exactly one of fieldRef and resourceFieldRef".to_owned()),
        };
        out.push((
            relative(&item.path)?,
            mode(item.mode, default_mode),
            text.into_bytes(),
        ));
    }
    Ok(out)
}

/// The mode asked for, for the owner alone: everything of a pod belongs to the user that runs the host.
fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    let wanted = own.or(default).unwrap_or(0o644);
    (wanted as u32 & 0o700) | 0o400
}

fn relative(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if plain && path.file_name().is_some() {
        Ok(path)
    } else {
        Err(format!(
            "`{}` is not a path inside a volume",
            path.display()
        ))
    }
}

fn usable(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

/// Sees to it that a path of the machine is there as its type wants it.
fn on_host(host: &k8s::HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&host.path);
    if !path.is_absolute() {
        return Err(format!("hostPath.path `{}` is not absolute", host.path));
    }
    let lacks = |what: &str| Err(format!("hostPath {}: {what}", host.path));
    match host.type_.as_deref().unwrap_or_default() {
        "DirectoryOrCreate" => {
            std::fs::create_dir_all(path).map_err(|error| cannot("make", path, &error))
        }
        "Directory" if !path.is_dir() => lacks("there is no such folder on this machine"),
        "File" if !path.is_file() => lacks("there is no such file on this machine"),
        "FileOrCreate" => std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map(drop)
            .map_err(|error| cannot("make", path, &error)),
        "Socket" | "CharDevice" | "BlockDevice" | "" if !path.exists() => {
            lacks("there is no such path on this machine")
        }
        _ => Ok(()),
    }
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {verb} {}: {error}", path.display())
}
