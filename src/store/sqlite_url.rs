//! The URL of a SQLite file: a path and nothing else. No file is made: one that is not there is a mistake.

use super::Engine;
use super::config::{UrlParts, percent_decode};

const SHAPE: &str = "expected sqlite:///DIRECTORY/FILE: three slashes and an absolute path, in which ?, # and % are written as \
                     %3F, %23 and %25";

/// Of a URL whose scheme is `sqlite`; the path stands as the database. Errors are sentences.
pub(super) fn parts(url: &url::Url) -> Result<UrlParts, String> {
    let found = if url.host_str().is_some_and(|host| !host.is_empty()) || !url.username().is_empty() {
        Some("names a host")
    } else if url.query().is_some() || url.fragment().is_some() {
        Some("has options behind the path, and none are taken")
    } else if !url.path().starts_with('/') || url.path().ends_with('/') {
        Some("names no file")
    } else {
        None
    };
    if let Some(found) = found {
        return Err(format!("the connection URL {found}; {SHAPE}"));
    }
    let path =
        percent_decode(url.path()).ok_or_else(|| format!("the connection URL has a broken % escape; {SHAPE}"))?;
    if path.contains('\0') {
        return Err(format!("the connection URL has a NUL character in its path; {SHAPE}"));
    }
    Ok(UrlParts {
        engine: Engine::Sqlite,
        host: String::new(),
        port: 0,
        user: String::new(),
        password: None,
        database: path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        parts(&url::Url::parse(text).unwrap()).map(|parts| parts.database)
    }

    #[test]
    fn a_file_is_named_by_its_path() {
        assert_eq!(of("sqlite:///var/lib/shop.db").as_deref(), Ok("/var/lib/shop.db"));
        assert_eq!(of("sqlite:///tmp/a%20b%3F.db").as_deref(), Ok("/tmp/a b?.db"));
        for (bad, why) in [
            ("sqlite://shop.db", "a host"),
            ("sqlite://shop/shop.db", "a host"),
            ("sqlite::memory:", "no file"),
            ("sqlite:///", "no file"),
            ("sqlite:///tmp/a.db?mode=ro", "options"),
            ("sqlite:///tmp/%zz", "escape"),
        ] {
            let error = of(bad).unwrap_err();
            assert!(error.contains(why) && error.contains("sqlite:///"), "{bad}: {error}");
        }
    }
}
