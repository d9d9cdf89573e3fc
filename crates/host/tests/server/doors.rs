//! Who gets in.

use crossfade_host::client::{Error, Wanted};

use super::*;

#[tokio::test]
async fn the_loopback_port_asks_for_the_token() {
    let f = Fixture::new();
    f.loopback_client(&f.token)
        .list(Kind::Pod, None, &Wanted::default())
        .await
        .unwrap();
    for wrong in [
        "",
        "wrong",
        &f.token.trim()[1..],
        &format!("{}x", f.token.trim()),
    ] {
        let error = f
            .loopback_client(wrong)
            .list(Kind::Pod, None, &Wanted::default())
            .await
            .unwrap_err();
        let Error::Status(status) = error else {
            panic!("{error}")
        };
        assert_eq!(
            (status.code, status.reason),
            (401, Reason::Unauthorized),
            "{wrong:?}"
        );
        assert!(!status.message.contains(f.token.trim()));
    }
    assert!(
        f.loopback_client("").ready().await.unwrap(),
        "probes need none"
    );
}

#[tokio::test]
async fn no_host_at_the_address_is_told_apart_from_a_refusal() {
    let f = Fixture::new();
    f.stop.cancel();
    f.server.await.unwrap();
    for client in [
        f.client.clone(),
        Client::new(Address::parse(&format!("http://{}", f.loopback), None).unwrap()),
    ] {
        let error = client.info().await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert!(
            error.to_string().starts_with("no host answers at "),
            "{error}"
        );
    }
}

#[tokio::test]
async fn something_else_at_the_address_is_not_taken_for_a_host() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in [
            "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nno!",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
            "SSH-2.0\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let client = Client::new(Address::parse(&format!("http://{address}"), Some("t")).unwrap());
    let told = [
        "502 Bad Gateway: no!",
        "the server's answer is not understood (body)",
        &format!("the connection to the host at http://{address} broke"),
        &format!("the connection to the host at http://{address} broke"),
    ];
    for text in told {
        assert_eq!(client.info().await.unwrap_err().to_string(), text);
    }
}

#[tokio::test]
async fn a_thousand_calls_at_once_are_all_answered() {
    let f = Fixture::new();
    let calls: Vec<_> = (0..1000)
        .map(|i| {
            let client = f.client.clone();
            tokio::spawn(async move {
                client
                    .create(
                        Kind::ConfigMap,
                        "default",
                        &json!({"metadata": {"name": format!("c{i}")}}),
                    )
                    .await
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(
        f.client
            .list(Kind::ConfigMap, None, &Wanted::default())
            .await
            .unwrap()
            .items
            .len(),
        1000
    );
}
