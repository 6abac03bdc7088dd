//! The archive: how long the source is held, and where it goes.

use std::time::Duration;

use super::findings::Findings;
use crate::api::migration::{Archive, Destination};
use crate::api::tuning::ArchiveSpec;

pub(super) fn archive(found: &mut Findings, raw: &ArchiveSpec) -> Option<Archive> {
    let at = "spec.archive";
    let hold = found.duration(&format!("{at}.hold"), raw.hold.as_ref(), Duration::from_hours(168));
    let url = raw.destination.url.as_str();
    let destination = match (url.strip_prefix("file://"), &raw.destination.volume_claim_ref) {
        (Some(path), Some(claim)) if path.starts_with('/') && path.len() > 1 && !path.contains("..") => {
            Some(Destination::Volume {
                path: path.trim_end_matches('/').to_owned(),
                claim: claim.name.clone(),
            })
        }
        (Some(_), Some(_)) => {
            found.add(
                format!("{at}.destination.url"),
                format!("{url:?} is not of the form file:///absolute/path"),
            );
            None
        }
        (Some(_), None) => {
            found.add(
                format!("{at}.destination.volumeClaimRef"),
                "is missing; a file:// destination needs the PersistentVolumeClaim that is mounted there",
            );
            None
        }
        (None, Some(_)) => {
            found.add(
                format!("{at}.destination.volumeClaimRef"),
                "is for file:// destinations only; remove it",
            );
            None
        }
        (None, None) if url.starts_with("s3://") && url.len() > "s3://".len() => Some(Destination::ObjectStore {
            url: url.to_owned(),
            secret: raw.destination.secret_ref.as_ref().map(|secret| secret.name.clone()),
        }),
        (None, None) => {
            found.add(
                format!("{at}.destination.url"),
                format!("{url:?} is neither s3://bucket/prefix nor file:///path"),
            );
            None
        }
    };
    Some(Archive {
        hold,
        destination: destination?,
        delete_source: raw.delete_source.unwrap_or(false),
    })
}
