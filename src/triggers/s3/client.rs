//! The SDK's client: made on first need, in the S3 thread, shared by the watches with equal settings.
//!
//! Whatever the settings leave open comes from the AWS variables and profile, as every AWS tool reads them. Only the
//! instance metadata service is asked with more care than usual: on a network that swallows packets, a box without
//! credentials must learn so in seconds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig};

use super::ClientSettings;
use super::address::{check_endpoint, host_of};
use super::http::Http;
use super::trouble::Trouble;

/// To establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From a request to the first byte of its answer, where the settings do not say.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// One page in all, as a multiple of the time until its first byte. A page of 1,000 keys is a few hundred kilobytes; a
/// link slower than that can't be used.
const PAGE_TIMEOUT_FACTOR: u32 = 3;
/// Each step of asking the instance metadata service, which is one hop away where it exists.
const METADATA_STEP_TIMEOUT: Duration = Duration::from_secs(1);
/// All steps of one question to it.
const METADATA_TIMEOUT: Duration = Duration::from_secs(3);
/// The whole search for credentials, a web identity's exchange included.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(6);

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
    let http = Http::default();
    let provider_config = ProviderConfig::without_region().with_http_client(http.clone());
    let read_timeout = settings.timeout.unwrap_or(READ_TIMEOUT);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(read_timeout))
        .read_timeout(read_timeout)
        .operation_timeout(read_timeout.saturating_mul(PAGE_TIMEOUT_FACTOR))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .region(configured_region(settings))
        // A failed poll is tried again by the watch, which knows how urgent it is.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .no_credentials();
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let loaded = loader.load().await;
    let mut config = aws_sdk_s3::config::Builder::from(&loaded);

    let endpoint = settings.endpoint.clone().or_else(|| endpoint_from_surroundings(&loaded));
    if let Some(endpoint) = &endpoint {
        check_endpoint(endpoint).map_err(|e| Trouble::client(format!("{e}; it comes from AWS_ENDPOINT_URL or the profile")))?;
    }
    let metadata = metadata_client(&provider_config);
    let region = match loaded.region() {
        Some(region) => region.clone(),
        // Servers other than AWS do not care, but a signature needs a region.
        None if endpoint.as_deref().is_some_and(is_foreign) => Region::from_static("us-east-1"),
        None => region_of_instance(metadata.clone(), settings).await?,
    };
    config = config
        .region(region.clone())
        .force_path_style(settings.path_style.unwrap_or_else(|| endpoint.as_deref().is_some_and(is_foreign)));
    config = match (&settings.keypair, settings.anonymous) {
        (Some(pair), _) => config.credentials_provider(Credentials::new(&pair.id, &pair.secret, None, None, "given")),
        (None, true) => config.allow_no_auth(),
        (None, false) => config.credentials_provider(find_credentials(settings, &region, provider_config, metadata).await?),
    };
    Ok(Connected { client: Client::from_conf(config.build()), http, endpoint, region: region.to_string() })
}

/// The region that the settings, the variables or the profile name, without asking any network.
fn configured_region(settings: &ClientSettings) -> RegionProviderChain {
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &settings.profile {
        profile = profile.profile_name(name);
    }
    RegionProviderChain::first_try(settings.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build())
}

/// The endpoint that the variables or the profile name: the one for S3 before the one for all services, as the SDK
/// itself decides.
fn endpoint_from_surroundings(loaded: &aws_config::SdkConfig) -> Option<String> {
    let key = aws_types::service_config::ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    let for_s3 = loaded.service_config().and_then(|config| config.load_config(key));
    for_s3.or_else(|| loaded.endpoint_url().map(str::to_owned)).filter(|endpoint| !endpoint.is_empty())
}

/// True if an endpoint is not one of AWS, which alone expects `bucket.endpoint`.
fn is_foreign(endpoint: &str) -> bool {
    let host = host_of(endpoint).to_ascii_lowercase();
    !["amazonaws.com", "amazonaws.com.cn"].iter().any(|aws| host == *aws || host.ends_with(&format!(".{aws}")))
}

fn metadata_client(config: &ProviderConfig) -> imds::Client {
    imds::Client::builder()
        .configure(config)
        .max_attempts(1)
        .connect_timeout(METADATA_STEP_TIMEOUT)
        .read_timeout(METADATA_STEP_TIMEOUT)
        .operation_timeout(METADATA_TIMEOUT)
        .build()
}

async fn region_of_instance(metadata: imds::Client, settings: &ClientSettings) -> Result<Region, Trouble> {
    let provider = ImdsRegionProvider::builder().imds_client(metadata).build();
    let answer = tokio::time::timeout(METADATA_TIMEOUT, provider.region()).await.ok().flatten();
    answer.ok_or_else(|| Trouble::no_region(settings))
}

async fn find_credentials(
    settings: &ClientSettings,
    region: &Region,
    config: ProviderConfig,
    metadata: imds::Client,
) -> Result<DefaultCredentialsChain, Trouble> {
    let mut chain = DefaultCredentialsChain::builder().imds_client(metadata).region(region.clone()).configure(config);
    if let Some(profile) = &settings.profile {
        chain = chain.profile_name(profile);
    }
    let chain = chain.build().await;
    // Asked here once, where the answer can be explained; the SDK wraps it beyond recognition.
    match tokio::time::timeout(CREDENTIALS_TIMEOUT, chain.provide_credentials()).await {
        Ok(Ok(_)) => Ok(chain),
        Ok(Err(error)) => Err(Trouble::credentials(&error, settings)),
        Err(_) => Err(Trouble::no_credentials(settings)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_aws_are_not_foreign() {
        for host in [
            "https://s3.eu-west-1.amazonaws.com",
            "https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com",
            "https://s3.cn-north-1.amazonaws.com.cn",
        ] {
            assert!(!is_foreign(host), "{host}");
        }
        for host in ["http://127.0.0.1:9000", "https://amazonaws.com.example.org", "https://notamazonaws.com"] {
            assert!(is_foreign(host), "{host}");
        }
    }

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
