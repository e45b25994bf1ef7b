//! The parts of a client for any AWS service: region, credentials, timeouts and connections.
//!
//! What the settings leave open comes from the AWS environment variables and profile, as in every AWS tool. Only the instance
//! metadata service gets shorter timeouts than usual: on a network that drops packets, a machine without credentials must
//! report that within seconds.

use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;

use super::errors::PollError;
use super::http::Http;
use super::{ClientSettings, Service, check_endpoint, host_of};

/// For establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For each step of a request to the instance metadata service, which is one hop away where it exists.
const METADATA_STEP_TIMEOUT: Duration = Duration::from_secs(1);
/// For all steps of one request to it.
const METADATA_TIMEOUT: Duration = Duration::from_secs(3);
/// For the whole credentials chain, the exchange of a web identity included.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(6);

/// The timeouts of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::triggers) struct Limits {
    /// To the first byte of its answer.
    pub(in crate::triggers) silence: Duration,
    /// In all.
    pub(in crate::triggers) whole: Duration,
}

/// See the module.
#[derive(Debug)]
pub(in crate::triggers) struct Session {
    /// The base of a service's configuration, without credentials.
    pub(in crate::triggers) loaded: SdkConfig,
    /// The connections.
    pub(in crate::triggers) http: Http,
    /// The endpoint in use, if it is not AWS's own.
    pub(in crate::triggers) endpoint: Option<String>,
    /// The region in use.
    pub(in crate::triggers) region: Region,
    /// Absent: requests are not signed.
    pub(in crate::triggers) credentials: Option<SharedCredentialsProvider>,
}

/// Loads all of it.
pub(in crate::triggers) async fn open(settings: &ClientSettings, service: Service, limits: Limits) -> Result<Session, PollError> {
    let http = Http::default();
    let provider_config = ProviderConfig::without_region().with_http_client(http.clone());
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(limits.silence))
        .read_timeout(limits.silence)
        .operation_timeout(limits.whole)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .region(configured_region(settings))
        // The watch retries, with its own back-off.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .no_credentials();
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let loaded = loader.load().await;

    let endpoint = settings.endpoint.clone().or_else(|| endpoint_from_environment(&loaded));
    if let Some(endpoint) = &endpoint {
        check_endpoint(endpoint).map_err(|e| PollError::client(format!("{e}; it comes from AWS_ENDPOINT_URL or the profile")))?;
    }
    let metadata = metadata_client(&provider_config);
    let region = match loaded.region() {
        Some(region) => region.clone(),
        // Other servers ignore the region, but a signature needs one.
        None if endpoint.as_deref().is_some_and(is_foreign) => Region::from_static("us-east-1"),
        None => region_of_instance(metadata.clone(), settings).await?,
    };
    let credentials = match (&settings.keypair, settings.anonymous) {
        (Some(pair), _) => Some(SharedCredentialsProvider::new(Credentials::new(&pair.id, &pair.secret, None, None, "given"))),
        (None, true) => None,
        (None, false) => {
            let chain = find_credentials(settings, service, &region, provider_config, metadata).await?;
            Some(SharedCredentialsProvider::new(chain))
        }
    };
    Ok(Session { loaded, http, endpoint, region, credentials })
}

/// The region from the settings, the environment or the profile, without a request.
fn configured_region(settings: &ClientSettings) -> RegionProviderChain {
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &settings.profile {
        profile = profile.profile_name(name);
    }
    RegionProviderChain::first_try(settings.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build())
}

/// The endpoint from the environment or the profile: the one for S3 before the one for all services, as in the SDK.
fn endpoint_from_environment(loaded: &aws_config::SdkConfig) -> Option<String> {
    let key = aws_types::service_config::ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    let for_s3 = loaded.service_config().and_then(|config| config.load_config(key));
    for_s3.or_else(|| loaded.endpoint_url().map(str::to_owned)).filter(|endpoint| !endpoint.is_empty())
}

/// True if an endpoint is not of AWS; only AWS requires `bucket.endpoint`.
pub(in crate::triggers) fn is_foreign(endpoint: &str) -> bool {
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

async fn region_of_instance(metadata: imds::Client, settings: &ClientSettings) -> Result<Region, PollError> {
    let provider = ImdsRegionProvider::builder().imds_client(metadata).build();
    let answer = tokio::time::timeout(METADATA_TIMEOUT, provider.region()).await.ok().flatten();
    answer.ok_or_else(|| PollError::no_region(settings))
}

async fn find_credentials(
    settings: &ClientSettings,
    service: Service,
    region: &Region,
    config: ProviderConfig,
    metadata: imds::Client,
) -> Result<DefaultCredentialsChain, PollError> {
    let mut chain = DefaultCredentialsChain::builder().imds_client(metadata).region(region.clone()).configure(config);
    if let Some(profile) = &settings.profile {
        chain = chain.profile_name(profile);
    }
    let chain = chain.build().await;
    // Called once here, where an error can be explained: the SDK wraps it beyond recognition.
    match tokio::time::timeout(CREDENTIALS_TIMEOUT, chain.provide_credentials()).await {
        Ok(Ok(_)) => Ok(chain),
        Ok(Err(error)) => Err(PollError::credentials(&error, settings, service)),
        Err(_) => Err(PollError::no_credentials(settings, service)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_outside_of_aws_are_foreign() {
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
}
