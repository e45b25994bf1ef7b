//! HTTP for the SDK, without cost between polls.
//!
//! A connection pool of hyper wakes up periodically to look for idle connections. So a pool lives as long as a poll:
//! [`Http::close`] drops the pools with their connections. TLS is set up for the first `https` URL: with a plain-HTTP
//! endpoint, the system's root certificates are never loaded.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::config::{HttpClient, RuntimeComponents};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector};

/// The SDK's HTTP client; clones share their connections.
#[derive(Clone, Debug, Default)]
pub(in crate::triggers) struct Http {
    pools: Arc<Mutex<Vec<Pool>>>,
}

/// The connections of one kind.
struct Pool {
    kind: Kind,
    connector: SharedHttpConnector,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    tls: bool,
    connect_timeout: Option<Duration>,
    read_timeout: Option<Duration>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Http {
    /// Closes every idle connection.
    pub(in crate::triggers) fn close(&self) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn connector(&self, kind: Kind, settings: &HttpConnectorSettings) -> SharedHttpConnector {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.iter().find(|pool| pool.kind == kind) {
            return pool.connector.clone();
        }
        let builder = Connector::builder()
            .connector_settings(settings.clone())
            .pool_idle_timeout(None)
            .pool_max_idle_per_host(1)
            .proxy_config(ProxyConfig::from_env());
        let connector = if kind.tls {
            builder.tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build()
        } else {
            builder.build_http()
        };
        let connector = SharedHttpConnector::new(connector);
        pools.push(Pool { kind, connector: connector.clone() });
        connector
    }
}

impl HttpClient for Http {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(ByScheme { http: self.clone(), settings: settings.clone() })
    }
}

/// Chooses the pool by the URL of the request.
#[derive(Debug)]
struct ByScheme {
    http: Http,
    settings: HttpConnectorSettings,
}

impl HttpConnector for ByScheme {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let kind = Kind {
            tls: !request.uri().starts_with("http://"),
            connect_timeout: self.settings.connect_timeout(),
            read_timeout: self.settings.read_timeout(),
        };
        self.http.connector(kind, &self.settings).call(request)
    }
}
