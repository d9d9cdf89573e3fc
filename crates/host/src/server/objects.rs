//! Stored objects: list, get, create, replace, patch, delete.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Body};
use super::route::{Aspect, Collection, Place};
use super::watching::watch;
use super::{Backend, Call, Desk, bad_request, media_type, own};
use crate::store::{Deleted, Key, Object, Selector, api_version, scale_of};
use crate::wire::{Deletion, Part, Patch, Reason, Status, StatusDetails};

/// Answers for all objects of a kind.
pub(super) async fn collection<B: Backend>(
    desk: &Arc<Desk<B>>,
    call: &Call,
    place: &Collection,
) -> Result<Response<Body>, Status> {
    match call.method {
        Method::GET | Method::HEAD => {
            let selector = Selector::parse(
                call.parameter("labelSelector"),
                call.parameter("fieldSelector"),
            )
            .map_err(bad_request)?;
            if call.flag("watch") && call.method == Method::GET {
                watch(desk, call, place, selector)
            } else {
                list(desk, place, &selector)
            }
        }
        Method::POST => create(desk, call, place).await,
        _ => Err(not_allowed(call)),
    }
}

fn list<B: Backend>(
    desk: &Desk<B>,
    place: &Collection,
    selector: &Selector,
) -> Result<Response<Body>, Status> {
    let list = desk
        .store
        .list(place.kind, place.namespace.as_deref(), selector);
    let version = api_version(place.kind.group(), &place.version);
    let head = json!({
        "apiVersion": version,
        "kind": format!("{}List", place.kind),
        "metadata": {"resourceVersion": list.revision.to_string()},
    });
    // Objects are written one by one: a large list is not copied before.
    let mut bytes = head.to_string().into_bytes();
    bytes.pop();
    bytes.extend_from_slice(b",\"items\":[");
    for (index, object) in list.items.iter().enumerate() {
        if index > 0 {
            bytes.push(b',');
        }
        write_object(&mut bytes, object, &version)?;
    }
    bytes.extend_from_slice(b"]}");
    Ok(answer::ready_json(bytes))
}

/// Writes an object in the version that was asked for: the versions of a kind differ in nothing else.
pub(super) fn write_object(
    bytes: &mut Vec<u8>,
    object: &Object,
    version: &str,
) -> Result<(), Status> {
    serde_json::to_writer(bytes, &in_version(object, version))
        .map_err(|error| Status::failure(Reason::InternalError, error.to_string()))
}

fn in_version<'a>(object: &'a Object, version: &str) -> std::borrow::Cow<'a, Value> {
    if object.at("/apiVersion").and_then(Value::as_str) == Some(version) {
        return std::borrow::Cow::Borrowed(object.value());
    }
    let mut value = object.value().clone();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("apiVersion".to_owned(), json!(version));
    }
    std::borrow::Cow::Owned(value)
}

async fn create<B: Backend>(
    desk: &Desk<B>,
    call: &Call,
    place: &Collection,
) -> Result<Response<Body>, Status> {
    let object = json_body(call)?;
    let (kind, namespace) = (place.kind, place.namespace.clone().unwrap_or_default());
    if namespace.is_empty() && kind.scope() == crate::store::Scope::Namespaced {
        return Err(bad_request(format!(
            "create a {kind} in a namespace: POST …/namespaces/NAME/{}",
            kind.plural()
        )));
    }
    let (object, warnings) = desk
        .store
        .transact(call.act.clone(), move |t| {
            Ok((t.create(kind, &namespace, object)?, t.take_warnings()))
        })
        .await?;
    written(
        StatusCode::CREATED,
        &object,
        &place.version,
        Aspect::Whole,
        &warnings,
    )
}

/// Answers for one object or a part of it.
pub(super) async fn object<B: Backend>(
    desk: &Arc<Desk<B>>,
    call: &Call,
    place: &Place,
) -> Result<Response<Body>, Status> {
    let key = Key::new(place.kind, &place.namespace, &place.name);
    let part = match place.aspect {
        Aspect::Whole => Part::Object,
        Aspect::Status => Part::Status,
        Aspect::Scale => Part::Scale,
        Aspect::Log if call.method == Method::GET => {
            return own::log(desk, call, &place.namespace, &place.name).await;
        }
        Aspect::Log => return Err(not_allowed(call)),
    };
    match call.method {
        Method::GET | Method::HEAD => {
            let object = desk.store.get(place.kind, &place.namespace, &place.name)?;
            written(StatusCode::OK, &object, &place.version, place.aspect, &[])
        }
        Method::PUT => {
            let object = json_body(call)?;
            let (object, warnings) = desk
                .store
                .transact(call.act.clone(), move |t| {
                    Ok((t.update(&key, object, part)?, t.take_warnings()))
                })
                .await?;
            written(
                StatusCode::OK,
                &object,
                &place.version,
                place.aspect,
                &warnings,
            )
        }
        Method::PATCH => {
            let form = patch_form(call)?;
            let patch = json_body(call)?;
            let (object, warnings) = desk
                .store
                .transact(call.act.clone(), move |t| {
                    Ok((t.patch(&key, part, form, &patch)?, t.take_warnings()))
                })
                .await?;
            written(
                StatusCode::OK,
                &object,
                &place.version,
                place.aspect,
                &warnings,
            )
        }
        Method::DELETE if part == Part::Object => delete(desk, call, place, key).await,
        _ => Err(not_allowed(call)),
    }
}

async fn delete<B: Backend>(
    desk: &Desk<B>,
    call: &Call,
    place: &Place,
    key: Key,
) -> Result<Response<Body>, Status> {
    let mut request: Deletion = if call.body.is_empty() {
        Deletion::default()
    } else {
        serde_json::from_slice(&call.body)
            .map_err(|error| bad_request(format!("the DeleteOptions cannot be read: {error}")))?
    };
    if let Some(seconds) = call.number("gracePeriodSeconds")? {
        request.grace_period_seconds = Some(seconds);
    }
    if !call.parameter("propagationPolicy").is_empty() {
        request.propagation_policy = Some(call.parameter("propagationPolicy").to_owned());
    }
    match desk.store.delete(call.act.clone(), key, request).await? {
        Deleted::Waits(object) => {
            written(StatusCode::OK, &object, &place.version, Aspect::Whole, &[])
        }
        Deleted::Gone(object) => {
            let done = Status::success(StatusDetails {
                name: object.name().to_owned(),
                group: place.kind.group().to_owned(),
                kind: place.kind.plural().to_owned(),
                uid: object.uid().to_owned(),
                causes: Vec::new(),
            });
            answer::json(StatusCode::OK, &done)
        }
    }
}

fn written(
    code: StatusCode,
    object: &Object,
    version: &str,
    aspect: Aspect,
    warnings: &[String],
) -> Result<Response<Body>, Status> {
    let mut response = match aspect {
        Aspect::Scale => answer::json(code, &scale_of(object)?)?,
        Aspect::Whole | Aspect::Status | Aspect::Log => answer::json(
            code,
            &in_version(object, &api_version(object.kind().group(), version)),
        )?,
    };
    answer::warn(&mut response, warnings);
    Ok(response)
}

/// The body as JSON.
pub(super) fn json_body(call: &Call) -> Result<Value, Status> {
    let media = media_type(&call.headers);
    if !(media.is_empty()
        || media == "application/json"
        || media.ends_with("+json")
        || media == "text/json")
    {
        return Err(Status::failure(
            Reason::UnsupportedMediaType,
            format!("the body is {media:?}; send JSON"),
        ));
    }
    serde_json::from_slice(&call.body)
        .map_err(|error| bad_request(format!("the body is not valid JSON: {error}")))
}

fn patch_form(call: &Call) -> Result<Patch, Status> {
    match media_type(&call.headers).as_str() {
        "application/merge-patch+json" => Ok(Patch::Merge),
        "application/json-patch+json" => Ok(Patch::Json),
        other => Err(Status::failure(
            Reason::UnsupportedMediaType,
            format!(
                "patches of the type {other:?} are not supported; use application/merge-patch+json or application/json-patch+json"
            ),
        )),
    }
}

/// The path is there, the method is not.
pub(super) fn not_allowed(call: &Call) -> Status {
    Status::failure(
        Reason::MethodNotAllowed,
        format!("{} is not supported at {}", call.method, call.uri.path()),
    )
}
