//! Keys in the files that other tools for S3 keep: `~/.aws/credentials` and `~/.aws/config`.
//!
//! Of a profile, `aws_access_key_id`, `aws_secret_access_key`, `aws_session_token` and `region` are read. The profile is
//! the one that `AWS_PROFILE` names, or `default`; `AWS_SHARED_CREDENTIALS_FILE` and `AWS_CONFIG_FILE` say where else the
//! files are. Ways to come by keys that such a file can describe (roles, single sign-on, processes) are not followed; a
//! profile that was asked for by name and has nothing else is an error.
//!
//! Not here: what else there is to come by credentials, and in which order (`super::s3`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use host::{Host, OpenMode};

/// More than anybody writes by hand.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

/// What a profile says.
#[derive(Default)]
pub(super) struct Profile {
    pub(super) keys: Option<Keys>,
    pub(super) region: Option<String>,
}

/// Variables of the environment.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the profile that the environment names; an empty one where there is none. The error is a sentence.
pub(super) fn read(host: &Host, variables: Variables<'_>) -> Result<Profile, String> {
    let named = variables("AWS_PROFILE");
    let name = named.as_deref().unwrap_or("default");
    let home = variables("HOME").map(PathBuf::from);
    let path = |variable: &str, file: &str| {
        let below_home = || home.as_ref().map(|home| home.join(".aws").join(file));
        variables(variable).map(PathBuf::from).or_else(below_home)
    };
    let config = path("AWS_CONFIG_FILE", "config");
    let credentials = path("AWS_SHARED_CREDENTIALS_FILE", "credentials");
    let in_config = if name == "default" { name.to_owned() } else { format!("profile {name}") };
    let mut found = false;
    let mut said = BTreeMap::new();
    // The later one wins: keys are the credentials file's business.
    for (path, section) in [(&config, in_config.as_str()), (&credentials, name)] {
        let Some(path) = path else { continue };
        let text = read_file(host, path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        found |= settings(&text, section, &mut said);
    }
    let shown = |path: &Option<PathBuf>| {
        path.as_ref().map_or_else(|| "no file".to_owned(), |path| path.display().to_string())
    };
    let places = || format!("{} and {}", shown(&credentials), shown(&config));
    if named.is_some() && !found {
        return Err(format!("AWS_PROFILE names the profile {name}, which is not in {}", places()));
    }
    let mut take = |key: &str| said.remove(key).filter(|value| !value.is_empty());
    let (id, secret) = (take("aws_access_key_id"), take("aws_secret_access_key"));
    let (token, region) = (take("aws_session_token"), take("region"));
    let keys = id.zip(secret).map(|(id, secret)| Keys { id, secret, token });
    if named.is_some() && keys.is_none() {
        return Err(format!(
            "the profile {name} has no aws_access_key_id and aws_secret_access_key in {}; other ways to come by keys \
             are not followed",
            places()
        ));
    }
    Ok(Profile { keys, region })
}

/// The file's text; none if there is no file.
fn read_file(host: &Host, path: &Path) -> io::Result<String> {
    let file = match host.disk.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        file => file?,
    };
    let size = file.size()?;
    if size > FILE_BYTES_MAX {
        return Err(io::Error::other("it is too long"));
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Adds the settings of one section, and says whether there is such a section.
fn settings(text: &str, section: &str, said: &mut BTreeMap<String, String>) -> bool {
    let (mut found, mut is_in) = (false, false);
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(head) = trimmed.strip_prefix('[') {
            let name = head.split(']').next().unwrap_or_default();
            is_in = name.split_whitespace().eq(section.split_whitespace());
            found |= is_in;
            continue;
        }
        // What is indented belongs to the setting before it.
        let is_setting = !line.starts_with([' ', '\t']) && !trimmed.starts_with(['#', ';']);
        if let Some((key, value)) = line.split_once('=').filter(|_| is_in && is_setting) {
            let value = value.split(" #").next().unwrap_or_default();
            let value = value.split(" ;").next().unwrap_or_default().trim();
            said.insert(key.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    //! Goal: keys are found where other tools find them, and whatever a file holds is read without a panic.

    use host::sim::Machine;
    use proptest::prelude::*;

    use super::*;

    const CONFIG: &str = "\
        [default]\nregion = eu-central-1\noutput=json\n\
        [profile work]\nregion=us-west-2\ns3 =\n  aws_access_key_id = nested\n\
        [profile sso]\nsso_session = corp\n";
    const CREDENTIALS: &str = "\
        # comment\n[default]\naws_access_key_id = AKDEFAULT\naws_secret_access_key = a/b+c==\n\
        ; another\n[ work ]\nAWS_ACCESS_KEY_ID=AKWORK   # mine\naws_secret_access_key=s#1\naws_session_token = t\n";

    fn write(host: &Host, path: &str, text: &str) {
        let path = Path::new(path);
        host.disk.create_dir_all(path.parent().unwrap()).unwrap();
        host.disk
            .open(path, OpenMode::CreateNew)
            .unwrap()
            .write_all_at(text.as_bytes(), 0)
            .unwrap();
    }

    fn home() -> Host {
        let host = Machine::new(1).host();
        write(&host, "/home/me/.aws/config", CONFIG);
        write(&host, "/home/me/.aws/credentials", CREDENTIALS);
        write(&host, "/else/keys", "[default]\naws_access_key_id=X\naws_secret_access_key=Y\n");
        host
    }

    /// Id, secret, token, region, or the error.
    #[track_caller]
    fn check(variables: &[(&str, &str)], want: Result<[&str; 4], &str>) {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        match (read(&home(), &find), want) {
            (Ok(profile), Ok([id, secret, token, region])) => {
                let keys = profile.keys.map(|keys| (keys.id, keys.secret, keys.token));
                let (got_id, got_secret, got_token) = keys.unwrap_or_default();
                assert_eq!([got_id.as_str(), got_secret.as_str()], [id, secret]);
                assert_eq!(got_token.unwrap_or_default(), token);
                assert_eq!(profile.region.unwrap_or_default(), region);
            }
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (Ok(_), Err(part)) => panic!("no error: {part}"),
            (Err(why), Ok(_)) => panic!("{why}"),
        }
    }

    #[test]
    fn keys_are_where_other_tools_find_them() {
        let home = ("HOME", "/home/me");
        check(&[home], Ok(["AKDEFAULT", "a/b+c==", "", "eu-central-1"]));
        check(&[home, ("AWS_PROFILE", "work")], Ok(["AKWORK", "s#1", "t", "us-west-2"]));
        let keys = ("AWS_SHARED_CREDENTIALS_FILE", "/else/keys");
        check(&[home, keys], Ok(["X", "Y", "", "eu-central-1"]));
        check(&[keys], Ok(["X", "Y", "", ""]));
        check(&[], Ok(["", "", "", ""]));
        check(&[("HOME", "/home/nobody")], Ok(["", "", "", ""]));
    }

    #[test]
    fn a_profile_that_was_asked_for_and_cannot_be_used_is_told() {
        let home = ("HOME", "/home/me");
        check(&[home, ("AWS_PROFILE", "gone")], Err("names the profile gone, which is not in"));
        check(&[home, ("AWS_PROFILE", "sso")], Err("the profile sso has no aws_access_key_id"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(\\[default\\]|[a-z =#;\\[\\]\n\t]){0,60}") {
            settings(&text, "default", &mut BTreeMap::new());
        }
    }
}
