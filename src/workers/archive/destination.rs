//! Where an archive goes: a directory on a mounted volume, or an object store whose credentials are mounted files.

use std::path::Path as FilePath;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Certificate, ClientOptions, ObjectStore, ObjectStoreExt, PutPayload};

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
    let refused = |found: String| {
        WorkError::permanent(
            "ArchiveDestinationRefused",
            format!(
                "{url} cannot be used with the options of {named}: {found}; correct spec.archive.destination or the Secret"
            ),
        )
    };
    let mut given = Vec::new();
    let mut trusted = trusted_roots().map_err(|error| refused(sentence(&error)))?;
    if secret.is_some() {
        for (name, value) in options(secrets, &named)? {
            if name == "ca.crt" {
                let own = Certificate::from_pem_bundle(value.as_bytes()).map_err(|error| refused(sentence(&error)))?;
                if own.is_empty() {
                    return Err(refused("its ca.crt holds no certificate in PEM".to_owned()));
                }
                trusted = own.into_iter().fold(trusted, ClientOptions::with_root_certificate);
                continue;
            }
            let key = AmazonS3ConfigKey::from_str(&name.to_lowercase()).map_err(|_| {
                WorkError::permanent(
                    "ArchiveDestinationRefused",
                    format!("{named} has a key {name:?}, which is no option of an S3 object store; expected keys such as aws_access_key_id, aws_secret_access_key, aws_region, aws_endpoint, ca.crt"),
                )
            })?;
            given.push((key, value));
        }
    }
    // Roles that a cloud gives to a ServiceAccount arrive in the environment.
    let environment = std::env::vars().filter_map(|(name, value)| {
        let key = AmazonS3ConfigKey::from_str(&name.to_lowercase()).ok()?;
        name.starts_with("AWS_").then_some((key, value))
    });
    let builder = AmazonS3Builder::new().with_client_options(trusted).with_url(url);
    let builder = environment
        .chain(given)
        .fold(builder, |builder, (key, value)| builder.with_config(key, value));
    let store = builder.build().map_err(|error| refused(sentence(&error)))?;
    let parsed = url::Url::parse(url).map_err(|error| refused(error.to_string()))?;
    let prefix = Path::from_url_path(parsed.path()).map_err(|error| refused(error.to_string()))?;
    Ok(Destination {
        store: Arc::new(store),
        prefix,
        url: url.trim_end_matches('/').to_owned(),
    })
}

/// The public authorities: the image holds nothing but this binary, and no list of them.
fn trusted_roots() -> Result<ClientOptions, object_store::Error> {
    let mut options = ClientOptions::new().with_no_system_certificates(true);
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        options = options.with_root_certificate(Certificate::from_der(root)?);
    }
    Ok(options)
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
#[path = "destination_tests.rs"]
mod tests;
