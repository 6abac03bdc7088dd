//! Leading by a Lease: one operator at a time. A holder that cannot renew stops before anybody else may begin, by
//! clocks of its own only.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease as KubeLease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Name of the Lease.
const NAME: &str = "datamigration-operator";
/// A Lease that was not renewed for this long is free.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for this long stops: well before anybody else may take over.
const GIVE_UP: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(3);

/// What keeps a Lease from being asked for.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("cannot take Lease {namespace}/{NAME}: {source}; check the operator's Role")]
    Take { namespace: String, source: kube::Error },
    #[error("Lease {namespace}/{NAME} was lost")]
    Lost { namespace: String },
}

/// Our claim on the Lease.
#[derive(Clone)]
pub struct Lease {
    api: Api<KubeLease>,
    namespace: String,
    identity: String,
}

/// Asking again would not help.
fn forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403))
}

/// Somebody else's Lease as we saw it: it is free when it has not changed for its duration, by our own clock.
struct Sighting {
    version: Option<String>,
    since: Instant,
}

impl Lease {
    pub fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            identity: identity.to_owned(),
        }
    }

    /// Waits until the Lease is ours.
    pub async fn acquire(&self) -> Result<(), LeaseError> {
        let mut sighting: Option<Sighting> = None;
        loop {
            match self.attempt(&mut sighting).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(source @ kube::Error::Api(_)) if forbidden(&source) => {
                    return Err(LeaseError::Take {
                        namespace: self.namespace.clone(),
                        source,
                    });
                }
                Err(error) => tracing::warn!(%error, "Lease cannot be read"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// One try to take it.
    async fn attempt(&self, sighting: &mut Option<Sighting>) -> Result<bool, kube::Error> {
        let Some(found) = self.api.get_opt(NAME).await? else {
            let lease = KubeLease {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(0)),
            };
            self.api.create(&PostParams::default(), &lease).await?;
            return Ok(true);
        };
        let spec = found.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let version = found.metadata.resource_version.clone();
        let unchanged = sighting.as_ref().filter(|seen| seen.version == version);
        let expired = unchanged.is_some_and(|seen| seen.since.elapsed() >= DURATION);
        if unchanged.is_none() {
            *sighting = Some(Sighting {
                version,
                since: Instant::now(),
            });
        }
        if !(holder.is_empty() || holder == self.identity || expired) {
            return Ok(false);
        }
        let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(holder != self.identity);
        // The version that was read goes along: of two that see it free, one gets it.
        let lease = KubeLease {
            spec: Some(self.spec(transitions)),
            ..found
        };
        self.api.replace(NAME, &PostParams::default(), &lease).await?;
        Ok(true)
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Renews until told to end; an error means that the Lease is not ours any more.
    pub async fn keep(&self, end: CancellationToken) -> Result<(), LeaseError> {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                () = tokio::time::sleep(RENEW) => {}
            }
            match tokio::time::timeout(RENEW, self.renew()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => {
                    return Err(LeaseError::Lost {
                        namespace: self.namespace.clone(),
                    });
                }
                Ok(Err(error)) => tracing::warn!(%error, "Lease not renewed"),
                Err(_) => tracing::warn!("Lease not renewed in time"),
            }
            if renewed.elapsed() > GIVE_UP {
                return Err(LeaseError::Lost {
                    namespace: self.namespace.clone(),
                });
            }
        }
    }

    /// Whether it is still ours.
    async fn renew(&self) -> Result<bool, kube::Error> {
        let mut lease = self.api.get(NAME).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            return Ok(false);
        }
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.api.replace(NAME, &PostParams::default(), &lease).await?;
        Ok(true)
    }

    /// Frees it, so that the next operator need not wait.
    pub async fn release(&self) {
        let freed = async {
            let mut lease = self.api.get(NAME).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(self.identity.as_str()) {
                spec.holder_identity = Some(String::new());
                self.api.replace(NAME, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        };
        if let Err(error) = freed.await {
            tracing::warn!(%error, "Lease not freed; it runs out by itself");
        }
    }
}
