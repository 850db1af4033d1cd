//! TLS towards receivers: rustls with ring, and whom the system trusts (`SSL_CERT_FILE` and
//! `SSL_CERT_DIR`, as other programs take them, else the system's own store). The certificate
//! must be the URL's host's, whichever of its addresses is connected to.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::background::Background;

/// The one connector of a server, made when it is first needed.
#[derive(Default)]
pub(super) struct Tls(OnceCell<TlsConnector>);

impl Tls {
    /// Speaks TLS on `stream` with whoever proves to be `host`.
    pub(super) async fn wrap(
        &self,
        stream: TcpStream,
        host: &str,
        background: &Background,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let made = || async {
            let roots = background.blocking(system_roots).await?;
            connector(roots)
        };
        self.0.get_or_try_init(made).await?.connect(name, stream).await
    }

    /// Trusts `roots`.
    #[cfg(test)]
    pub(super) fn trusting(roots: RootCertStore) -> Self {
        Self(OnceCell::new_with(Some(connector(roots).expect("a connector"))))
    }
}

/// Read once: a store that is exchanged counts from the next reload on.
fn system_roots() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of whom the system trusts is not known");
    }
    let mut roots = RootCertStore::empty();
    // A store may hold what no certificate should be; the others count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(io::Error::other(
            "this system trusts nobody: install its certificates (ca-certificates), or name a file of them \
             with SSL_CERT_FILE",
        ));
    }
    Ok(roots)
}

fn connector(roots: RootCertStore) -> io::Result<TlsConnector> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
