//! A server on loopback that uses TLS with a certificate of a test authority, and responds as a test defines.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::Router;
use axum_server::{Handle, tls_rustls::RustlsConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ruma::{OwnedServerName, ServerName};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use weft_federation::{
    Client, ClientConfig, KeyRing, NoKeyCache, RemoteEvents, RemoteKeys, SystemClock, SystemNames, handshake::Handshake,
};

static AUTHORITY: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
});

/// The authority's certificate, PEM.
pub(crate) fn authority() -> Vec<u8> {
    AUTHORITY.pem().into_bytes()
}

/// A reserved port, so that a server has its name before it has its routes.
pub(crate) struct Reserved {
    listener: TcpListener,
    pub(crate) name: OwnedServerName,
}

pub(crate) fn reserve() -> Reserved {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let name = OwnedServerName::try_from(listener.local_addr().unwrap().to_string()).unwrap();
    Reserved { listener, name }
}

/// A listening server; it stops when this is dropped.
pub(crate) struct Peer {
    handle: Handle<SocketAddr>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

impl Reserved {
    /// Serves `router` with a certificate for these names.
    pub(crate) fn serve(self, names: &[&str], router: Router) -> Peer {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &AUTHORITY)
            .unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(self.listener, RustlsConfig::from_config(Arc::new(config))).unwrap();
        tokio::spawn(server.handle(handle.clone()).serve(router.into_make_service()));
        Peer { handle }
    }
}

/// The requesting side, as the server of that name.
pub(crate) struct Us {
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) client: Client,
    pub(crate) keys: RemoteKeys,
    pub(crate) events: RemoteEvents,
    pub(crate) handshake: Handshake,
}

pub(crate) fn us(name: &ServerName) -> Us {
    us_with(name, Duration::from_secs(10), vec!["127.0.0.0/8".parse().unwrap()])
}

pub(crate) fn us_with(name: &ServerName, timeout: Duration, allow_addresses: Vec<ipnet::IpNet>) -> Us {
    let ring = Arc::new(KeyRing::generate(name.to_owned()).unwrap());
    let config = ClientConfig {
        outgoing: weft_federation::OutgoingLimits::default(),
        extra_ca_certificates: vec![authority()],
        allow_addresses,
        timeout,
        names: Arc::new(SystemNames::new()),
        well_known_port: 443,
        trace: || None,
    };
    let client = Client::new(Arc::clone(&ring), config).unwrap();
    let keys = RemoteKeys::new(client.clone(), Arc::new(NoKeyCache), Vec::new(), Arc::new(SystemClock));
    let events = RemoteEvents::new(client.clone(), keys.clone());
    let handshake = Handshake::new(events.clone());
    Us {
        ring,
        client,
        keys,
        events,
        handshake,
    }
}
