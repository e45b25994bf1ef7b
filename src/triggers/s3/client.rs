//! The SDK's client: made on first need, in the S3 thread, shared by the watches with equal settings.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};

use crate::triggers::aws::errors::Trouble;
use crate::triggers::aws::http::Http;
use crate::triggers::aws::session::{self, Limits, Session, is_foreign};
use crate::triggers::aws::{ClientSettings, Service};

/// From a request to the first byte of its answer, where the settings do not say.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// One page in all, as a multiple of the time until its first byte. A page of 1,000 keys is a few hundred kilobytes; a
/// link slower than that can't be used.
const PAGE_TIMEOUT_FACTOR: u32 = 3;

/// A client and what is needed to speak about it.
#[derive(Debug)]
pub(super) struct Connected {
    /// The SDK's client.
    pub(super) client: Client,
    /// Its connections.
    pub(super) http: Http,
    /// The endpoint in use, if it is not AWS's own.
    pub(super) endpoint: Option<String>,
    /// The region in use.
    pub(super) region: String,
}

/// The client of one group of settings.
#[derive(Debug)]
pub(super) struct SharedClient {
    settings: ClientSettings,
    connected: tokio::sync::Mutex<Option<Arc<Connected>>>,
}

thread_local! {
    /// The clients of this thread's watches. The S3 runtime has one thread, so this is its registry, and it ends with
    /// it; a client ends with the last watch that uses it.
    static CLIENTS: RefCell<HashMap<ClientSettings, Weak<SharedClient>>> = RefCell::default();
}

impl SharedClient {
    /// The client for these settings; to be called in the S3 thread.
    pub(super) fn for_settings(settings: &ClientSettings) -> Arc<SharedClient> {
        CLIENTS.with_borrow_mut(|clients| {
            if let Some(shared) = clients.get(settings).and_then(Weak::upgrade) {
                return shared;
            }
            clients.retain(|_, weak| weak.strong_count() > 0);
            let shared = Arc::new(SharedClient { settings: settings.clone(), connected: tokio::sync::Mutex::default() });
            clients.insert(settings.clone(), Arc::downgrade(&shared));
            shared
        })
    }

    /// The client, made now if there is none.
    pub(super) async fn connected(&self) -> Result<Arc<Connected>, Trouble> {
        let mut slot = self.connected.lock().await;
        if let Some(connected) = &*slot {
            return Ok(connected.clone());
        }
        // Boxed: the SDK's loader is a future of many kilobytes, needed once.
        let connected = Arc::new(Box::pin(connect(&self.settings)).await?);
        *slot = Some(connected.clone());
        Ok(connected)
    }

    /// Forgets a client that did not serve, so that the next poll reads variables and profile anew.
    pub(super) async fn forget(&self, stale: &Arc<Connected>) {
        let mut slot = self.connected.lock().await;
        if slot.as_ref().is_some_and(|connected| Arc::ptr_eq(connected, stale)) {
            *slot = None;
        }
    }
}

async fn connect(settings: &ClientSettings) -> Result<Connected, Trouble> {
    let read_timeout = settings.timeout.unwrap_or(READ_TIMEOUT);
    let limits = Limits { silence: read_timeout, whole: read_timeout.saturating_mul(PAGE_TIMEOUT_FACTOR) };
    let Session { loaded, http, endpoint, region, credentials } = session::open(settings, Service::S3, limits).await?;
    let config = aws_sdk_s3::config::Builder::from(&loaded)
        .region(region.clone())
        .force_path_style(settings.path_style.unwrap_or_else(|| endpoint.as_deref().is_some_and(is_foreign)))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    let config = match credentials {
        Some(credentials) => config.credentials_provider(credentials),
        None => config.allow_no_auth(),
    };
    Ok(Connected { client: Client::from_conf(config.build()), http, endpoint, region: region.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_with_equal_settings_share_a_client_for_as_long_as_one_lives() {
        let settings = ClientSettings { region: Some("eu-west-1".into()), ..ClientSettings::default() };
        let first = SharedClient::for_settings(&settings);
        let second = SharedClient::for_settings(&settings);
        assert!(Arc::ptr_eq(&first, &second));
        let other = SharedClient::for_settings(&ClientSettings { anonymous: true, ..settings.clone() });
        assert!(!Arc::ptr_eq(&first, &other));
        let weak = Arc::downgrade(&first);
        drop((first, second));
        assert!(weak.upgrade().is_none());
    }
}
