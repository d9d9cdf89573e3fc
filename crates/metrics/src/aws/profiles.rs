//! AWS's shared files: `~/.aws/config` and `~/.aws/credentials`.

use std::collections::BTreeMap;

/// What the two files say, by profile and key. Where both name a key, the credentials file counts.
#[derive(Default)]
pub(crate) struct Profiles {
    profiles: BTreeMap<String, Profile>,
    /// Where it was looked for, in words.
    pub(crate) looked_in: String,
}

/// The keys of one profile, in lower case.
pub(crate) type Profile = BTreeMap<String, String>;

/// The files of this environment: config first, credentials second. None without a home.
pub(crate) fn paths(variable: &dyn Fn(&str) -> Option<String>) -> [Option<String>; 2] {
    let home = variable("HOME");
    let path = |name: &str, usual: &str| {
        let usual = || home.as_ref().map(|home| format!("{home}/.aws/{usual}"));
        match (variable(name), &home) {
            (None, _) => usual(),
            (Some(path), Some(home)) => Some(match path.strip_prefix("~/") {
                Some(rest) => format!("{home}/{rest}"),
                None => path,
            }),
            (Some(path), None) => Some(path),
        }
    };
    [
        path("AWS_CONFIG_FILE", "config"),
        path("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
    ]
}

impl Profiles {
    /// Reads the texts of the two files.
    pub(crate) fn new(config: &str, credentials: &str, looked_in: String) -> Self {
        let mut profiles = BTreeMap::new();
        read(config, "profile ", &mut profiles);
        read(credentials, "", &mut profiles);
        Self {
            profiles,
            looked_in,
        }
    }

    /// One profile.
    pub(crate) fn get(&self, name: &str) -> Option<&Profile> {
        self.profiles.get(name)
    }
}

/// Puts a file's sections into profiles. Sections without the prefix are of other things, and indented lines belong to settings of single
/// services: both are passed over.
fn read(text: &str, prefix: &str, profiles: &mut BTreeMap<String, Profile>) {
    let mut section = None;
    for line in text.lines() {
        if line.starts_with(['#', ';', ' ', '\t']) {
            continue;
        }
        if let Some((title, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let name = match title.trim() {
                "default" => Some("default"),
                other => other.strip_prefix(prefix).map(str::trim),
            };
            section = name.map(str::to_owned);
            if let Some(section) = &section {
                profiles.entry(section.clone()).or_default();
            }
        } else if let (Some(section), Some((key, value))) = (&section, line.split_once('=')) {
            let comment = [" #", " ;", "\t#", "\t;"]
                .iter()
                .filter_map(|mark| value.find(mark))
                .min();
            let value = value.get(..comment.unwrap_or(value.len())).unwrap_or(value);
            let profile = profiles.entry(section.clone()).or_default();
            profile.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_make_one_profile() {
        let config = "# mine\n[default]\nregion = eu-west-1\naws_access_key_id=old\n\n[profile  shop]\nrole_arn = arn:aws:iam::1:role/r  # theirs\n\
            s3 =\n  region = nowhere\n[sso-session x]\nregion = x\n[shop]\nregion = ignored\n";
        let credentials = "[default]\nAWS_Access_Key_Id = AKIA1\naws_secret_access_key = a=b#c\n[ shop ]\r\nregion = eu-north-1\r\nnonsense\n";
        let profiles = Profiles::new(config, credentials, String::new());
        let value = |profile: &str, key: &str| profiles.get(profile)?.get(key).cloned();
        for (profile, key, expected) in [
            ("default", "region", Some("eu-west-1")),
            ("default", "aws_access_key_id", Some("AKIA1")),
            ("default", "aws_secret_access_key", Some("a=b#c")),
            ("shop", "role_arn", Some("arn:aws:iam::1:role/r")),
            ("shop", "region", Some("eu-north-1")),
            ("x", "region", None),
        ] {
            assert_eq!(value(profile, key).as_deref(), expected, "{profile} {key}");
        }
    }

    #[test]
    fn files_are_looked_for_where_variables_or_the_home_say() {
        let found = |variables: &[(&str, &str)]| {
            paths(&|name| {
                let known = variables.iter().find(|(known, _)| *known == name);
                known.map(|(_, value)| (*value).to_owned())
            })
        };
        let both = |config: &str, credentials: &str| {
            [Some(config.to_owned()), Some(credentials.to_owned())]
        };
        assert_eq!(found(&[]), [None, None]);
        assert_eq!(
            found(&[("HOME", "/home/u")]),
            both("/home/u/.aws/config", "/home/u/.aws/credentials")
        );
        assert_eq!(
            found(&[
                ("HOME", "/h"),
                ("AWS_CONFIG_FILE", "~/c"),
                ("AWS_SHARED_CREDENTIALS_FILE", "/k")
            ]),
            both("/h/c", "/k")
        );
    }
}
