//! Where an archive goes: a directory on a mounted volume, or an object store whose credentials are mounted files.

use std::path::Path as FilePath;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::api::migration::Destination as Wanted;
use crate::workers::error::WorkError;

/// An object store and the place in it under which a manifest's `destination` lies.
#[derive(Clone)]
pub struct Destination {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// For messages and reports; it never holds credentials.
    url: String,
}

impl Destination {
    /// Credentials and options are the files of `secrets`: each name is an option of the object store.
    pub fn open(wanted: &Wanted, secrets: &FilePath) -> Result<Self, WorkError> {
        match wanted {
            Wanted::Volume { path, claim } => volume(path, claim),
            Wanted::ObjectStore { url, secret } => bucket(url, secret.as_deref(), secrets),
        }
    }

    /// The place of something below the destination; every part is encoded by itself.
    pub fn path(&self, parts: &[&str]) -> Path {
        parts.iter().fold(self.prefix.clone(), |path, part| path.join(*part))
    }

    /// As a person would look for it.
    pub fn url(&self, path: &Path) -> String {
        match path.as_ref().strip_prefix(self.prefix.as_ref()) {
            Some(rest) => format!("{}/{}", self.url, rest.trim_start_matches('/')),
            None => format!("{}/{path}", self.url),
        }
    }

    /// Writes an object as a whole.
    pub async fn put(&self, path: &Path, bytes: Bytes) -> Result<(), WorkError> {
        match self.store.put(path, PutPayload::from_bytes(bytes)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed("written", path, &error)),
        }
    }

    /// Reads an object as a whole; `None`: there is none.
    pub async fn get(&self, path: &Path) -> Result<Option<Bytes>, WorkError> {
        let found = match self.store.get(path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed("read", path, &error)),
        };
        match found.bytes().await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(self.failed("read", path, &error)),
        }
    }

    /// Removes every object below a place.
    pub async fn clear(&self, path: &Path) -> Result<(), WorkError> {
        let listed: Result<Vec<_>, _> = self.store.list(Some(path)).try_collect().await;
        let objects = match listed {
            Ok(objects) => objects,
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(self.failed("listed", path, &error)),
        };
        for object in objects {
            match self.store.delete(&object.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed("replaced", &object.location, &error)),
            }
        }
        Ok(())
    }

    fn failed(&self, done: &str, path: &Path, error: &object_store::Error) -> WorkError {
        let message = format!("{} could not be {done}: {}", self.url(path), sentence(error));
        match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                WorkError::permanent(
                    "ArchiveDestinationRefused",
                    format!("{message}; correct spec.archive.destination or the credentials in its Secret"),
                )
            }
            _ => WorkError::Waiting {
                reason: "ArchiveDestinationUnavailable",
                message: format!("{message}; it is tried again"),
            },
        }
    }
}

fn volume(path: &str, claim: &str) -> Result<Destination, WorkError> {
    let unusable = |found: String| WorkError::Waiting {
        reason: "ArchiveDestinationUnavailable",
        message: format!(
            "the archive's directory {path} (PersistentVolumeClaim {claim}) cannot be used: {found}; check that the claim is \
             bound and that the worker may write there"
        ),
    };
    let store = LocalFileSystem::new_with_prefix(path).map_err(|error| unusable(error.to_string()))?;
    // What is about to be deleted from the source has to outlive a crash of this node.
    let store: Arc<dyn ObjectStore> = Arc::new(store.with_fsync(true));
    Ok(Destination {
        store,
        prefix: Path::default(),
        url: format!("file://{path}"),
    })
}

fn bucket(url: &str, secret: Option<&str>, secrets: &FilePath) -> Result<Destination, WorkError> {
    let named = secret.map_or_else(
        || "the worker's environment".to_owned(),
        |name| format!("Secret {name}"),
    );
    // Roles that a cloud gives to a ServiceAccount arrive in the environment.
    let mut builder = AmazonS3Builder::from_env().with_url(url);
    if secret.is_some() {
        for (name, value) in options(secrets, &named)? {
            let key = AmazonS3ConfigKey::from_str(&name.to_lowercase()).map_err(|_| {
                WorkError::permanent(
                    "ArchiveDestinationRefused",
                    format!("{named} has a key {name:?}, which is no option of an S3 object store; expected keys such as aws_access_key_id, aws_secret_access_key, aws_region, aws_endpoint"),
                )
            })?;
            builder = builder.with_config(key, value);
        }
    }
    let refused = |found: String| {
        WorkError::permanent(
            "ArchiveDestinationRefused",
            format!(
                "{url} cannot be used with the options of {named}: {found}; correct spec.archive.destination or the Secret"
            ),
        )
    };
    let store = builder.build().map_err(|error| refused(sentence(&error)))?;
    let parsed = url::Url::parse(url).map_err(|error| refused(error.to_string()))?;
    let prefix = Path::from_url_path(parsed.path()).map_err(|error| refused(error.to_string()))?;
    Ok(Destination {
        store: Arc::new(store),
        prefix,
        url: url.trim_end_matches('/').to_owned(),
    })
}

/// The files of a mounted Secret; a missing mount is a Secret that is not there.
fn options(secrets: &FilePath, named: &str) -> Result<Vec<(String, String)>, WorkError> {
    let missing = |found: String| WorkError::Waiting {
        reason: "SecretMissing",
        message: format!(
            "{named} with the archive's credentials is not there: {found}; create it, and the worker goes on by itself"
        ),
    };
    let mut found = Vec::new();
    let folder = std::fs::read_dir(secrets).map_err(|error| missing(error.to_string()))?;
    for entry in folder.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Kubernetes keeps the versions of a mounted Secret in directories that begin with two dots.
        if name.starts_with('.') || !entry.path().is_file() {
            continue;
        }
        let value = std::fs::read_to_string(entry.path()).map_err(|error| missing(error.to_string()))?;
        found.push((name, value.trim_end_matches('\n').to_owned()));
    }
    if found.is_empty() {
        return Err(missing("no key was found".to_owned()));
    }
    Ok(found)
}

/// The error and its causes, on one line.
fn sentence(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(secret: Option<&str>) -> Wanted {
        Wanted::ObjectStore {
            url: "s3://archive/orders/2024".to_owned(),
            secret: secret.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn a_bucket_takes_its_options_from_mounted_files() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Destination::open(&s3(Some("archive")), folder.path());
        assert_eq!(open().err().unwrap().reason(), "SecretMissing");
        std::fs::write(folder.path().join("aws_access_key_id"), "id\n").unwrap();
        std::fs::write(folder.path().join("aws_secret_access_key"), "hunter2\n").unwrap();
        std::fs::write(folder.path().join("aws_region"), "eu-central-1").unwrap();
        let destination = open().unwrap();
        let path = destination.path(&["shop", "or/ders", "manifest.json"]);
        assert_eq!(
            destination.url(&path),
            "s3://archive/orders/2024/shop/or%2Fders/manifest.json"
        );

        std::fs::write(folder.path().join("colour"), "blue").unwrap();
        let error = open().err().unwrap();
        assert!(
            error.to_string().contains("Secret archive has a key \"colour\""),
            "{error}"
        );
        assert!(
            !error.to_string().contains("hunter2") && !error.is_transient(),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_directory_is_written_listed_and_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = |path: &FilePath| Wanted::Volume {
            path: path.display().to_string(),
            claim: "archive".to_owned(),
        };
        let nowhere = Destination::open(&wanted(&folder.path().join("nowhere")), folder.path())
            .err()
            .unwrap();
        assert!(
            nowhere.to_string().contains("PersistentVolumeClaim archive"),
            "{nowhere}"
        );

        let destination = Destination::open(&wanted(folder.path()), folder.path()).unwrap();
        let (one, other) = (destination.path(&["a", "part"]), destination.path(&["b", "part"]));
        for path in [&one, &other] {
            destination.put(path, Bytes::from_static(b"rows")).await.unwrap();
        }
        destination.clear(&destination.path(&["a"])).await.unwrap();
        destination.clear(&destination.path(&["never"])).await.unwrap();
        assert_eq!(destination.get(&one).await.unwrap(), None);
        assert_eq!(
            destination.get(&other).await.unwrap(),
            Some(Bytes::from_static(b"rows"))
        );
        assert!(
            destination.url(&other).ends_with("/b/part"),
            "{}",
            destination.url(&other)
        );
    }
}
