//! Exit codes: a contract with scripts.
//!
//! Called as the kubectl plugin the command ends with [`DONE`] or [`FAILURE`] only, as its users expect; nobody to talk to is
//! [`UNREACHABLE`] there too.

/// Done, or the wanted state is reached.
pub(crate) const DONE: u8 = 0;
/// Any failure that has no code of its own.
pub(crate) const FAILURE: u8 = 1;
/// The command was written wrongly.
pub(crate) const USAGE: u8 = 2;
/// The release is degraded, was aborted, or failed.
pub(crate) const DEGRADED: u8 = 3;
/// The time was up.
pub(crate) const TIMED_OUT: u8 = 4;
/// There is no such object.
pub(crate) const NOT_FOUND: u8 = 5;
/// Refused: by validation, a policy, a gate, or because somebody else was first.
pub(crate) const REFUSED: u8 = 6;
/// The release waits for a person, and that was not the wanted state.
pub(crate) const WAITING: u8 = 7;
/// It worked for some of several objects and failed for others.
pub(crate) const PARTLY: u8 = 8;
/// The caller may not do this.
pub(crate) const NOT_PERMITTED: u8 = 9;
/// There is no server, or it does not answer.
pub(crate) const UNREACHABLE: u8 = 10;
/// Interrupted from the keyboard.
pub(crate) const INTERRUPTED: u8 = 130;

/// The codes with their meanings, for the reference page.
pub(crate) const MEANINGS: [(u8, &str); 12] = [
    (DONE, "done, or the wanted state is reached"),
    (FAILURE, "any other failure"),
    (USAGE, "the command was written wrongly"),
    (DEGRADED, "the release is degraded, was aborted, or failed"),
    (TIMED_OUT, "the time was up"),
    (NOT_FOUND, "there is no such object"),
    (
        REFUSED,
        "refused: by validation, a policy, a gate, or because somebody else was first",
    ),
    (
        WAITING,
        "the release waits for a person, and that was not the wanted state",
    ),
    (
        PARTLY,
        "it worked for some of several objects and failed for others",
    ),
    (NOT_PERMITTED, "the caller may not do this"),
    (UNREACHABLE, "there is no server, or it does not answer"),
    (INTERRUPTED, "interrupted from the keyboard"),
];

/// One word for a code, as JSON errors carry it.
pub(crate) fn word(code: u8) -> &'static str {
    match code {
        DONE => "Done",
        USAGE => "Usage",
        DEGRADED => "Degraded",
        TIMED_OUT => "TimedOut",
        NOT_FOUND => "NotFound",
        REFUSED => "Refused",
        WAITING => "WaitingForPerson",
        PARTLY => "PartlyFailed",
        NOT_PERMITTED => "NotPermitted",
        UNREACHABLE => "Unreachable",
        INTERRUPTED => "Interrupted",
        _ => "Failure",
    }
}
