//! Where a host listens, and how people write that.

use std::path::{Path, PathBuf};

use super::error::{Error, Result};

/// Where a host listens.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// The Unix socket in its state folder.
    Socket(PathBuf),
    /// A loopback port.
    Loopback {
        /// `host:port`.
        authority: String,
        /// Content of the file `token` in the state folder.
        token: String,
    },
}

impl Address {
    /// Reads `http://127.0.0.1:7000`, `unix:/path` or a plain path; a folder means the socket `control.sock` in it.
    ///
    /// # Errors
    /// When the text is a URL of another form.
    pub fn parse(text: &str, token: Option<&str>) -> Result<Self> {
        if let Some(rest) = text.strip_prefix("http://") {
            let authority = rest.trim_end_matches('/');
            let valid = authority
                .parse::<http::uri::Authority>()
                .is_ok_and(|a| a.port().is_some());
            if !valid {
                return Err(Error::Address {
                    text: text.to_owned(),
                });
            }
            return Ok(Self::Loopback {
                authority: authority.to_owned(),
                token: token.unwrap_or_default().trim().to_owned(),
            });
        }
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if path.is_empty() || path.contains("://") {
            return Err(Error::Address {
                text: text.to_owned(),
            });
        }
        let path = Path::new(path);
        Ok(Self::Socket(if path.is_dir() {
            path.join("control.sock")
        } else {
            path.to_owned()
        }))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Loopback { authority, .. } => write!(f, "http://{authority}"),
        }
    }
}

/// As [`Display`](std::fmt::Display): a token never shows.
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_never_shows_its_token() {
        let address = Address::parse("http://127.0.0.1:7000/", Some("s3cret\n")).unwrap();
        assert_eq!(
            format!("{address} {address:?}"),
            "http://127.0.0.1:7000 http://127.0.0.1:7000"
        );
        assert!(!format!("{:?}", super::super::Client::new(address)).contains("s3cret"));
    }

    #[test]
    fn addresses_of_other_forms_are_refused() {
        for text in ["", "https://host:1", "http://host", "ftp://x"] {
            assert!(
                matches!(Address::parse(text, None), Err(Error::Address { .. })),
                "{text}"
            );
        }
    }
}
