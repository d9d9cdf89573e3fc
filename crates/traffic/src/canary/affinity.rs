//! The cookies of session affinity as routers write and read them.

use crossfade_api::Canary;
use crossfade_api::flagger::SessionAffinity;
use crossfade_api::split::Cookies;

/// Seconds for which a cookie holds that says nothing.
const A_DAY: i32 = 86_400;

/// The cookies that a router hands out and heeds; absent ones are not wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sticky {
    /// Those of users that have seen the new version.
    pub(super) canary: Option<Cookie>,
    /// Those of users of the primary.
    pub(super) primary: Option<Cookie>,
    /// Those of the release before, to be taken back.
    pub(super) previous: Option<Cookie>,
}

/// One cookie: what is sent, and what requests that bring it look like.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cookie {
    /// Value of the header `Set-Cookie`.
    pub(super) set: String,
    /// Regular expression for the header `Cookie`.
    pub(super) pattern: String,
}

/// The session affinity that a router heeds: an A/B test says itself who sees the new version.
pub(super) fn of(canary: &Canary) -> Option<&SessionAffinity> {
    let analysis = canary.spec.analysis()?;
    let affinity = analysis.session_affinity.as_ref()?;
    analysis.matches.is_empty().then_some(affinity)
}

impl Sticky {
    /// The cookies for a share of the new version.
    ///
    /// # Errors
    /// The interval is no duration: the primary's cookie holds for that long.
    pub(super) fn new(
        canary: &Canary,
        cookies: &Cookies,
        share: i32,
        with_primary: bool,
    ) -> Result<Self, String> {
        let Some(affinity) = of(canary) else {
            return Ok(Self::default());
        };
        let named = |cookie: &str, name: &str| {
            let (own, value) = cookie.split_once('=')?;
            (own == name && !name.is_empty()).then(|| (own.to_owned(), value.to_owned()))
        };
        if share <= 0 {
            let previous = cookies
                .previous
                .split_once('=')
                .map(|(name, value)| Cookie {
                    set: taken_back(affinity, &cookies.previous),
                    pattern: pattern(name, value),
                });
            return Ok(Self {
                previous,
                ..Self::default()
            });
        }
        let make = |(name, value): (String, String), max_age: i64| Cookie {
            set: handed_out(affinity, &format!("{name}={value}"), max_age),
            pattern: pattern(&name, &value),
        };
        let max_age = match affinity.max_age {
            0 => A_DAY,
            seconds => seconds,
        };
        let own = named(&cookies.canary, &affinity.cookie_name);
        let of_primary = named(&cookies.primary, &affinity.primary_cookie_name);
        let primary = match of_primary.filter(|_| with_primary) {
            None => None,
            Some(cookie) => {
                let interval = canary
                    .spec
                    .analysis()
                    .map_or("", |analysis| &analysis.interval);
                let interval = crossfade_api::duration::parse(interval)
                    .map_err(|why| format!("failed to parse canary interval: {why}"))?;
                Some(make(cookie, interval.as_secs()))
            }
        };
        Ok(Self {
            canary: own.map(|cookie| make(cookie, i64::from(max_age))),
            primary,
            previous: None,
        })
    }
}

fn handed_out(affinity: &SessionAffinity, cookie: &str, max_age: i64) -> String {
    let mut text = format!("{cookie}; Max-Age={max_age}");
    let mut say = |is_set: bool, what: String| {
        if is_set {
            text.push_str("; ");
            text.push_str(&what);
        }
    };
    let (domain, path, same_site) = (&affinity.domain, &affinity.path, &affinity.same_site);
    say(!domain.is_empty(), format!("Domain={domain}"));
    say(affinity.http_only, "HttpOnly".to_owned());
    say(affinity.partitioned, "Partitioned".to_owned());
    say(!path.is_empty(), format!("Path={path}"));
    say(!same_site.is_empty(), format!("SameSite={same_site}"));
    say(affinity.secure, "Secure".to_owned());
    text
}

/// A browser forgets a cookie only where domain and path are those that it was set with.
fn taken_back(affinity: &SessionAffinity, cookie: &str) -> String {
    let place = SessionAffinity {
        domain: affinity.domain.clone(),
        path: affinity.path.clone(),
        ..SessionAffinity::default()
    };
    handed_out(&place, cookie, -1)
}

fn pattern(name: &str, value: &str) -> String {
    format!(".*{}.*{}.*", escaped(name), escaped(value))
}

/// The text with a backslash before what means something in a regular expression, and before nothing else.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// The cookie of a `Set-Cookie` header: what stands before its attributes.
pub(super) fn cookie_of(header: &str) -> String {
    let cookie = header.split(';').next().unwrap_or_default();
    cookie.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_stand_in_their_order() {
        let affinity = SessionAffinity {
            cookie_name: "c".to_owned(),
            domain: "example.org".to_owned(),
            http_only: true,
            partitioned: true,
            path: "/app".to_owned(),
            same_site: "Strict".to_owned(),
            secure: true,
            ..SessionAffinity::default()
        };
        assert_eq!(
            handed_out(&affinity, "c=x", 600),
            "c=x; Max-Age=600; Domain=example.org; HttpOnly; Partitioned; Path=/app; SameSite=Strict; Secure"
        );
        assert_eq!(
            taken_back(&affinity, "c=x"),
            "c=x; Max-Age=-1; Domain=example.org; Path=/app"
        );
    }

    #[test]
    fn only_what_means_something_is_escaped() {
        for (name, pattern_of_it) in [
            ("flagger-cookie", ".*flagger-cookie.*v.*"),
            ("a.b_c", r".*a\.b_c.*v.*"),
            ("x$[1]", r".*x\$\[1\].*v.*"),
        ] {
            assert_eq!(pattern(name, "v"), pattern_of_it);
        }
    }
}
