//! The SDK's client: created on first use, on the S3 thread, and shared by watches with equal settings.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};

use crate::triggers::aws::errors::PollError;
use crate::triggers::aws::http::Http;
use crate::triggers::aws::session::{self, Limits, Session, is_foreign};
use crate::triggers::aws::{ClientSettings, Service};
use crate::triggers::defaults::SERVER_TIMEOUT;

/// For a whole page, as a multiple of the time to its first byte. A page of 1,000 keys is a few hundred kilobytes; a slower
/// link is not usable.
const PAGE_TIMEOUT_FACTOR: u32 = 3;

/// A client, with what messages about it need.
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

/// The client for one set of settings.
#[derive(Debug)]
pub(super) struct SharedClient {
    settings: ClientSettings,
    connected: tokio::sync::Mutex<Option<Arc<Connected>>>,
}

thread_local! {
    /// The clients of this thread's watches. The S3 runtime has one thread, so this is its registry; a client is dropped with
    /// the last watch that uses it.
    static CLIENTS: RefCell<HashMap<ClientSettings, Weak<SharedClient>>> = RefCell::default();
}

impl SharedClient {
    /// The client for these settings; to be called on the S3 thread.
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

    /// The client, created if there is none.
    pub(super) async fn connected(&self) -> Result<Arc<Connected>, PollError> {
        let mut slot = self.connected.lock().await;
        if let Some(connected) = &*slot {
            return Ok(connected.clone());
        }
        // Boxed: the SDK's loader is a future of many kilobytes, used once.
        let connected = Arc::new(Box::pin(connect(&self.settings)).await?);
        *slot = Some(connected.clone());
        Ok(connected)
    }

    /// Discards a client that failed, so that the next poll reads environment and profile again.
    pub(super) async fn discard(&self, stale: &Arc<Connected>) {
        let mut slot = self.connected.lock().await;
        if slot.as_ref().is_some_and(|connected| Arc::ptr_eq(connected, stale)) {
            *slot = None;
        }
    }
}

async fn connect(settings: &ClientSettings) -> Result<Connected, PollError> {
    let read_timeout = settings.timeout.unwrap_or(SERVER_TIMEOUT);
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
    fn watches_with_equal_settings_share_a_client_until_the_last_is_dropped() {
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
