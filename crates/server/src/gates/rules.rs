//! What a gate answers and how it changes. Arithmetic on a [`Record`] and a time, nothing else.
//!
//! Start at [`check`]. Two rules hold whatever happens: only [`open`] and [`refund`] open a gate, and the same change that grants a check
//! takes its use away.

use jiff::{SignedDuration, Timestamp};

use super::record::{Action, Call, Entry, LastCheck, Mode, Record, Scope, Who};

/// How long a repeated call gets the answer that it got.
const REPEATED: SignedDuration = SignedDuration::from_mins(10);
/// How many calls are remembered at most.
const CALLS: usize = 50;
/// Checks that change nothing are remembered this often at most.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(1);
/// Moments are kept as exactly as this.
const MOMENT: SignedDuration = SignedDuration::from_millis(1);

/// A check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The revision that it is about; empty when that is not known.
    pub(super) revision: String,
    /// The id of the call, the same for all its attempts; empty when it has none.
    pub(super) call: String,
    /// Only wants to know: nothing is spent or remembered.
    pub(super) dry: bool,
}

/// What a check is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Granted,
    /// The gate is closed.
    Refused,
    /// The gate was open until its time was over, which this check found out.
    Expired,
}

/// What must become of a changed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Write {
    /// It did not change.
    No,
    /// It is good to know; the answer holds also when it cannot be kept.
    May,
    /// The answer holds only when it is kept.
    Must,
}

/// An answered check.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checked {
    /// The answer.
    pub(super) verdict: Verdict,
    /// What is to be told of it.
    pub(super) entry: Option<Entry>,
    /// What must become of the record.
    pub(super) write: Write,
}

/// Answers a check; `elsewhere` is the last one at the Canary's other gates, `waits` says whether a refusal makes somebody wait.
pub(super) fn check(
    record: &mut Record,
    asked: &Asked,
    elsewhere: Option<&LastCheck>,
    waits: bool,
    who: &Who,
    now: Timestamp,
) -> Checked {
    let answer = |verdict, entry, write| Checked {
        verdict,
        entry,
        write,
    };
    let is_repeated =
        |call: &Call| call.id == asked.call && now.duration_since(call.time) < REPEATED;
    if !asked.call.is_empty() && record.calls.iter().any(is_repeated) {
        return answer(Verdict::Granted, None, Write::No);
    }
    if record.is_past(now) {
        if asked.dry {
            return answer(Verdict::Expired, None, Write::No);
        }
        let entry = expire(record, now);
        remember(record, asked, elsewhere, false, waits, now);
        return answer(Verdict::Expired, entry, Write::May);
    }
    let fits = record.scope == Scope::Any
        || (!asked.revision.is_empty() && asked.revision == record.checksum);
    if !record.is_open(now) || !fits {
        let write = if asked.dry {
            Write::No
        } else {
            remember(record, asked, elsewhere, false, waits, now)
        };
        return answer(Verdict::Refused, None, write);
    }
    if asked.dry {
        return answer(Verdict::Granted, None, Write::No);
    }
    let mut write = remember(record, asked, elsewhere, true, waits, now);
    let spends = record.uses_left.is_some();
    if let Some(left) = record.uses_left.as_mut() {
        *left = left.saturating_sub(1);
        record.open = *left > 0;
        record.version += 1;
        write = Write::Must;
        if !asked.call.is_empty() {
            record
                .calls
                .retain(|call| call.id != asked.call && now.duration_since(call.time) < REPEATED);
            record.calls.push(Call {
                id: asked.call.clone(),
                time: now,
                refundable: true,
            });
            let beyond = record.calls.len().saturating_sub(CALLS);
            record.calls.drain(..beyond);
        }
    }
    let mut entry = entry(record, Action::Grant, who, "", now);
    entry.checksum.clone_from(&asked.revision);
    // A gate that stays open may grant a check every few seconds: the first says it.
    let is_first = record
        .history
        .last()
        .is_none_or(|last| last.action != Action::Grant);
    if spends || is_first {
        record.note(entry.clone());
        write = write.max(Write::May);
    }
    answer(Verdict::Granted, Some(entry), write)
}

/// Remembers the check, unless the last one was just the same.
fn remember(
    record: &mut Record,
    asked: &Asked,
    elsewhere: Option<&LastCheck>,
    granted: bool,
    waits: bool,
    now: Timestamp,
) -> Write {
    let is_old = record.last_check.as_ref().is_none_or(|last| {
        now.duration_since(last.time) >= REMEMBERED
            || last.granted != granted
            || (!asked.revision.is_empty()
                && (last.checksum != asked.revision
                    || elsewhere.is_some_and(|other| {
                        other.time > last.time && other.checksum != asked.revision
                    })))
    });
    let began_to_wait = waits && !granted && record.waiting_since.is_none();
    if began_to_wait {
        record.waiting_since = Some(now);
    }
    if granted {
        record.waiting_since = None;
    }
    if !is_old && !began_to_wait {
        return Write::No;
    }
    let known = record.last_check.take();
    let revision = match known {
        Some(known) if asked.revision.is_empty() => known.checksum,
        _ => asked.revision.clone(),
    };
    // Of checks within one millisecond it must stay known which was the last: it says which revision is meant by an order that names none.
    let earliest = elsewhere.and_then(|other| other.time.checked_add(MOMENT).ok());
    record.last_check = Some(LastCheck {
        time: earliest.map_or(now, |earliest| earliest.max(now)),
        granted,
        checksum: revision,
        call_id: asked.call.clone(),
    });
    Write::May
}

/// Closes a gate whose time is over; nothing happens to others.
pub(super) fn expire(record: &mut Record, now: Timestamp) -> Option<Entry> {
    if !record.is_past(now) {
        return None;
    }
    let limits = [record.expires_at, record.not_after];
    let when = limits.into_iter().flatten().min().unwrap_or(now);
    record.open = false;
    record.version += 1;
    let nobody = Who {
        auth: "none",
        ..Who::default()
    };
    let mut entry = entry(record, Action::Expire, &nobody, "", now);
    entry.reason = format!("it was open until {}", crossfade_api::time::text(when));
    record.note(entry.clone());
    Some(entry)
}

/// On what terms a gate is opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opening {
    /// Closes itself after so many granted checks.
    pub uses: Option<u32>,
    /// Closes itself at that age.
    pub ttl: Option<SignedDuration>,
    /// Grants nothing before.
    pub not_before: Option<Timestamp>,
    /// Grants nothing from then on.
    pub not_after: Option<Timestamp>,
    /// Which releases it is open for.
    pub scope: Scope,
    /// The revision for [`Scope::Revision`]; the one that was asked for last when absent.
    pub checksum: Option<String>,
    /// Why.
    pub reason: String,
    /// The version that is changed, and no other.
    pub expect_version: Option<u64>,
}

/// Why a gate was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Somebody else changed it in between.
    #[error("the gate has changed: it is at version {0}")]
    Version(u64),
    /// It was to be opened for the present revision, and nobody has asked about any.
    #[error("no revision seen yet")]
    NoRevision,
    /// A use was to be given back, and the gate was opened or closed since.
    #[error("the gate was changed since that check")]
    Changed,
    /// A use was to be given back for a call that nobody knows.
    #[error("unknown call id")]
    UnknownCall,
}

fn expects(record: &Record, version: Option<u64>) -> Result<(), Refused> {
    match version {
        Some(version) if version != record.version => Err(Refused::Version(record.version)),
        _ => Ok(()),
    }
}

/// Opens a gate on these terms, whatever they were before; `seen` is the revision that was asked about last. `None` when nothing changed.
///
/// # Errors
/// See [`Refused`]; nothing changed then.
pub(super) fn open(
    record: &mut Record,
    opening: &Opening,
    seen: &str,
    who: &Who,
    now: Timestamp,
) -> Result<Option<Entry>, Refused> {
    expects(record, opening.expect_version)?;
    let checksum = match (opening.scope, &opening.checksum) {
        (Scope::Any, _) => String::new(),
        (Scope::Revision, Some(checksum)) if !checksum.is_empty() => checksum.clone(),
        (Scope::Revision, _) if seen.is_empty() => return Err(Refused::NoRevision),
        (Scope::Revision, _) => seen.to_owned(),
    };
    let is_plain = *opening
        == Opening {
            expect_version: opening.expect_version,
            ..Opening::default()
        };
    let is_so_already = record.is_open(now)
        && record.mode == Mode::Sticky
        && record.scope == Scope::Any
        && [record.expires_at, record.not_before, record.not_after] == [None; 3];
    if is_plain && is_so_already {
        return Ok(None);
    }
    record.open = true;
    record.mode = if opening.uses.is_some() {
        Mode::Once
    } else {
        Mode::Sticky
    };
    record.uses_left = opening.uses;
    record.opened_at = Some(now);
    record.expires_at = opening.ttl.and_then(|ttl| now.checked_add(ttl).ok());
    record.not_before = opening.not_before;
    record.not_after = opening.not_after;
    record.scope = opening.scope;
    record.checksum = checksum;
    changed_by(record, who, &opening.reason);
    let entry = entry(record, Action::Open, who, &opening.reason, now);
    record.note(entry.clone());
    Ok(Some(entry))
}

/// Closes a gate. `None` when it was closed.
///
/// # Errors
/// See [`Refused`]; nothing changed then.
pub(super) fn close(
    record: &mut Record,
    reason: &str,
    expect_version: Option<u64>,
    who: &Who,
    now: Timestamp,
) -> Result<(Option<Entry>, Write), Refused> {
    expects(record, expect_version)?;
    if !record.open {
        // Who closes a gate does not want a refund to open it.
        let mut write = Write::No;
        for call in record.calls.iter_mut().filter(|call| call.refundable) {
            call.refundable = false;
            write = Write::Must;
        }
        return Ok((None, write));
    }
    record.open = false;
    changed_by(record, who, reason);
    let entry = entry(record, Action::Close, who, reason, now);
    record.note(entry.clone());
    Ok((Some(entry), Write::Must))
}

/// Gives the use of a granted check back.
///
/// # Errors
/// See [`Refused`]; nothing changed then.
pub(super) fn refund(
    record: &mut Record,
    call: &str,
    who: &Who,
    now: Timestamp,
) -> Result<Entry, Refused> {
    let known = |known: &&Call| known.id == call && now.duration_since(known.time) < REPEATED;
    let found = record
        .calls
        .iter()
        .find(known)
        .ok_or(Refused::UnknownCall)?;
    if !found.refundable {
        return Err(Refused::Changed);
    }
    record.calls.retain(|known| known.id != call);
    record.uses_left = Some(record.uses_left.unwrap_or(0) + 1);
    record.open = true;
    record.version += 1;
    let mut entry = entry(record, Action::Refund, who, "", now);
    "what it was granted for did not happen".clone_into(&mut entry.reason);
    record.note(entry.clone());
    Ok(entry)
}

fn changed_by(record: &mut Record, who: &Who, reason: &str) {
    record.by.clone_from(&who.by);
    reason.clone_into(&mut record.reason);
    record.version += 1;
    for call in &mut record.calls {
        call.refundable = false;
    }
}

/// What is told of a change that has happened.
fn entry(record: &Record, action: Action, who: &Who, reason: &str, now: Timestamp) -> Entry {
    Entry {
        time: now,
        action,
        result: Entry::OK.to_owned(),
        by: who.by.clone(),
        auth: who.auth.to_owned(),
        source_ip: who.source_ip.clone(),
        reason: reason.to_owned(),
        checksum: record.checksum.clone(),
        uses_left: record.uses_left,
        version: record.version,
    }
}

/// What is told of a change that was refused.
pub(super) fn refusal(
    record: &Record,
    action: Action,
    why: &str,
    who: &Who,
    reason: &str,
    now: Timestamp,
) -> Entry {
    Entry {
        result: why.to_owned(),
        ..entry(record, action, who, reason, now)
    }
}

/// Remembers a refused change, unless one was refused just before: who knocks all night shall not drive out what has happened.
pub(super) fn note_refusal(record: &mut Record, entry: &Entry, now: Timestamp) -> bool {
    let just_before = record
        .history
        .last()
        .is_some_and(|last| last.is_refusal() && now.duration_since(last.time) < REMEMBERED);
    if !just_before {
        record.note(entry.clone());
    }
    !just_before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Timestamp {
        "2026-01-05T10:00:00Z".parse().expect("it is a time")
    }

    fn anna() -> Who {
        Who {
            by: "anna".to_owned(),
            auth: "none",
            source_ip: "10.0.0.7".to_owned(),
        }
    }

    fn ask(record: &mut Record, call: &str, now: Timestamp) -> Verdict {
        let asked = Asked {
            call: call.to_owned(),
            ..Asked::default()
        };
        check(record, &asked, None, true, &anna(), now).verdict
    }

    #[test]
    fn gates_17_a_gate_closes_itself_at_the_end_of_its_time_and_not_before() {
        let mut record = Record::default();
        let opening = Opening {
            ttl: Some(SignedDuration::from_hours(1)),
            ..Opening::default()
        };
        open(&mut record, &opening, "", &anna(), start()).expect("it opens");
        let hour = start() + SignedDuration::from_hours(1);
        assert_eq!(
            ask(&mut record, "", hour - SignedDuration::from_millis(1)),
            Verdict::Granted
        );
        assert!(record.shown(hour - SignedDuration::from_millis(1)).open);
        assert!(!record.shown(hour).open);
        assert_eq!(ask(&mut record, "", hour), Verdict::Expired);
        assert_eq!(ask(&mut record, "", hour), Verdict::Refused);
        assert_eq!(
            ask(&mut record, "", start()),
            Verdict::Refused,
            "not even with an older clock"
        );
        let expired = record
            .history
            .iter()
            .filter(|entry| entry.action == Action::Expire);
        assert_eq!(expired.count(), 1);
    }

    #[test]
    fn a_call_is_remembered_for_ten_minutes() {
        let mut record = Record::default();
        let opening = Opening {
            uses: Some(2),
            ..Opening::default()
        };
        open(&mut record, &opening, "", &anna(), start()).expect("it opens");
        assert_eq!(ask(&mut record, "one", start()), Verdict::Granted);
        let later = start() + SignedDuration::from_secs(599);
        assert_eq!(ask(&mut record, "one", later), Verdict::Granted);
        assert_eq!(record.uses_left, Some(1));
        let later = start() + SignedDuration::from_mins(10);
        assert_eq!(
            refund(&mut record, "one", &anna(), later),
            Err(Refused::UnknownCall)
        );
        assert_eq!(ask(&mut record, "one", later), Verdict::Granted);
        assert_eq!((record.uses_left, record.open), (Some(0), false));
    }

    #[test]
    fn checks_that_change_nothing_are_kept_once_a_minute() {
        let mut record = Record::default();
        let mut kept = 0;
        for second in 0..120 {
            let now = start() + SignedDuration::from_secs(second);
            let checked = check(&mut record, &Asked::default(), None, true, &anna(), now);
            assert_eq!(checked.verdict, Verdict::Refused);
            kept += i32::from(checked.write > Write::No);
        }
        assert_eq!(kept, 2);
        assert_eq!(record.waiting_since, Some(start()));
    }

    #[test]
    fn whatever_happens_no_gate_opens_by_itself_and_no_use_is_spent_twice() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut record, mut now) = (Record::default(), start());
            let (mut paid, mut granted, mut calls) = (0_u32, 0_u32, 0);
            for step in 0..60 {
                now += SignedDuration::from_secs(random.i64(0..120));
                let was_open = record.open;
                let opens = match random.u32(0..10) {
                    0..=1 => {
                        let uses = random.u32(1..4);
                        // What was left of the opening before is gone.
                        paid = granted + uses;
                        let ttl = random
                            .bool()
                            .then(|| SignedDuration::from_secs(random.i64(1..300)));
                        let opening = Opening {
                            uses: Some(uses),
                            ttl,
                            ..Opening::default()
                        };
                        open(&mut record, &opening, "", &anna(), now).is_ok()
                    }
                    2 => {
                        close(&mut record, "", None, &anna(), now)
                            .expect("no version was asked for");
                        assert!(!record.open);
                        false
                    }
                    3 => {
                        let call = format!("call-{}", random.u32(0..=calls));
                        let given_back = refund(&mut record, &call, &anna(), now).is_ok();
                        granted -= u32::from(given_back);
                        given_back
                    }
                    4 => {
                        expire(&mut record, now);
                        false
                    }
                    _ => {
                        let left = record.uses_left.unwrap_or(0);
                        let call = format!("call-{calls}");
                        calls += 1;
                        let verdict = ask(&mut record, &call, now);
                        if verdict == Verdict::Granted {
                            granted += 1;
                            assert_eq!(record.uses_left, Some(left - 1), "seed {seed} step {step}");
                            assert_eq!(ask(&mut record, &call, now), Verdict::Granted);
                            assert_eq!(record.uses_left, Some(left - 1), "repeated, seed {seed}");
                        }
                        false
                    }
                };
                assert!(
                    !record.open || was_open || opens,
                    "seed {seed} step {step}: it opened by itself"
                );
                assert!(
                    granted <= paid,
                    "seed {seed} step {step}: {granted} of {paid}"
                );
                assert!(record.history.len() <= 20 && record.calls.len() <= CALLS);
                let kept = serde_json::to_string(&record).expect("it is kept");
                assert_eq!(
                    serde_json::from_str::<Record>(&kept).expect("it reads back"),
                    record
                );
            }
        }
    }
}
