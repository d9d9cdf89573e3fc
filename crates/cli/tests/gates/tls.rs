//! The server behind TLS, and who a client's certificate says it is.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::rig::{PODINFO, Server, until};

fn data(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gates/data")).join(name)
}

/// Sends a request as this client, and gives the answer and the server's certificate.
fn ask(port: u16, client: Option<&str>, path: &str) -> (String, Vec<u8>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(data("ca.crt")).expect("a certificate");
    roots.add(authority).expect("an authority");
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocols")
        .with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let certificate =
                CertificateDer::from_pem_file(data(&format!("{name}.crt"))).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(data(&format!("{name}.key"))).expect("a key");
            builder
                .with_client_auth_cert(vec![certificate], key)
                .expect("they fit")
        }
    };
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let mut stream = StreamOwned::new(connection, stream);
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: gates\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{PODINFO}",
        PODINFO.len()
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    // A server that ends without a farewell has said everything.
    let _ = stream.read_to_end(&mut answer);
    let shown = stream
        .conn
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|one| one.to_vec());
    (
        String::from_utf8_lossy(&answer).into_owned(),
        shown.expect("a certificate"),
    )
}

#[tokio::test]
async fn a_clients_certificate_says_who_opens_a_gate_and_the_servers_is_read_anew_when_it_changes()
{
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    for ending in ["crt", "key"] {
        std::fs::copy(
            data(&format!("server.{ending}")),
            place(&format!("tls.{ending}")),
        )
        .expect("copied");
    }
    let server = Server::new(&[
        "--gate-auth=mutations",
        &format!("--tls-cert={}", place("tls.crt").display()),
        &format!("--tls-key={}", place("tls.key").display()),
        &format!("--tls-client-ca={}", data("ca.crt").display()),
    ])
    .await;
    let (answer, before) = ask(server.port, None, "/gate/open");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let (answer, _) = ask(server.port, Some("anna"), "/gate/open");
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let (answer, _) = ask(server.port, None, "/gate/check");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("Approved"),
        "{answer}"
    );
    server.says("podinfo.test gate opened").await;
    let audited = server.audited();
    let opened = audited
        .iter()
        .find(|line| line["action"] == "open" && line["result"] == "ok")
        .expect("audited");
    assert_eq!(
        (opened["by"].as_str(), opened["auth"].as_str()),
        (Some("anna"), Some("mtls"))
    );

    for ending in ["crt", "key"] {
        std::fs::copy(
            data(&format!("renewed.{ending}")),
            place(&format!("tls.{ending}")),
        )
        .expect("copied");
    }
    until("the new certificate is shown", async || {
        let (answer, shown) = ask(server.port, None, "/gate/check");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        shown != before
    })
    .await;
    // Plain HTTP is not understood here.
    assert!(server.try_ask("GET", "/healthz", &[], "").await.is_err());
}
