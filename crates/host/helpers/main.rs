//! The processes that tests start: the shim, and small services whose behaviour is ordered by arguments.

mod count;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crossfade_host::supervisor::{
    Material, MaterialError, Materials, PodIdentity, PodRequest, Settings, Supervisor,
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments
        .next()
        .and_then(|word| word.into_string().ok())
        .as_deref()
    {
        Some("shim") => crossfade_host::supervisor::shim::run(arguments),
        Some("serve") => serve(
            &arguments
                .filter_map(|word| word.into_string().ok())
                .collect::<Vec<_>>(),
        ),
        Some("flood") => flood(
            arguments
                .next()
                .and_then(|n| n.to_str()?.parse().ok())
                .unwrap_or_default(),
        ),
        Some("count") => arguments
            .next()
            .map_or(ExitCode::from(2), |folder| count::run(Path::new(&folder))),
        Some("host") => host(
            &arguments
                .filter_map(|word| word.into_string().ok())
                .collect::<Vec<_>>(),
        ),
        _ => ExitCode::from(2),
    }
}

struct Nothing;

impl Materials for Nothing {
    fn config_map(&self, _: &str, _: &str) -> Result<Option<Material>, MaterialError> {
        Ok(None)
    }
    fn secret(&self, _: &str, _: &str) -> Result<Option<Material>, MaterialError> {
        Ok(None)
    }
}

/// `host FOLDER UID TEMPLATE`: a control plane that sees to it that one pod is there, for ever.
fn host(arguments: &[String]) -> ExitCode {
    let [folder, uid, template] = arguments else {
        return ExitCode::from(2);
    };
    let run = async {
        let settings = Settings::usual().ok()?;
        let supervisor = Supervisor::open(Path::new(folder), settings, Arc::new(Nothing))
            .await
            .ok()?;
        let identity = PodIdentity {
            name: uid.clone(),
            uid: uid.clone(),
            ..PodIdentity::default()
        };
        supervisor
            .ensure_pod(PodRequest::new(
                identity,
                serde_json::from_str(template).ok()?,
            ))
            .ok()?;
        std::future::pending::<Option<()>>().await
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.ok().and_then(|runtime| runtime.block_on(run));
    ExitCode::FAILURE
}

/// `serve PORT [FOLDER]`: HTTP on that port. `/healthz` is 200 unless the folder holds a file `sick` (503) or
/// `hung` (no answer at all); `/env/NAME` tells a variable, `/pid` the pid, `/moved` goes to `/healthz`,
/// `/away` to another host, `/header` tells the header `x-test`.
fn serve(arguments: &[String]) -> ExitCode {
    let port = arguments
        .first()
        .and_then(|port| port.parse().ok())
        .unwrap_or_default();
    let folder = arguments
        .get(1)
        .cloned()
        .unwrap_or_else(|| "/nonexistent".to_owned());
    let listener = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "cannot listen on {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let _ = writeln!(std::io::stdout(), "listening on {port}");
    for stream in listener.incoming().flatten() {
        let folder = folder.clone();
        std::thread::spawn(move || answer(stream, Path::new(&folder)));
    }
    ExitCode::SUCCESS
}

fn answer(mut stream: TcpStream, folder: &Path) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let request = lines.next()?.ok()?;
    let path = request.split(' ').nth(1)?.to_owned();
    let mut header = String::new();
    for line in lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("x-test:") {
            value.trim().clone_into(&mut header);
        }
    }
    let (status, extra, body) = match path.as_str() {
        "/healthz" if folder.join("hung").exists() => {
            std::thread::sleep(std::time::Duration::from_mins(1));
            return None;
        }
        "/healthz" if folder.join("sick").exists() => {
            ("503 Service Unavailable", String::new(), "sick".to_owned())
        }
        "/healthz" => ("200 OK", String::new(), "well".to_owned()),
        "/moved" => (
            "302 Found",
            "location: /healthz\r\n".to_owned(),
            String::new(),
        ),
        "/away" => (
            "302 Found",
            "location: http://203.0.113.1:1/\r\n".to_owned(),
            String::new(),
        ),
        "/header" if header == "yes" => ("200 OK", String::new(), header),
        "/pid" => ("200 OK", String::new(), std::process::id().to_string()),
        other => match other
            .strip_prefix("/env/")
            .and_then(|name| std::env::var(name).ok())
        {
            Some(value) => ("200 OK", String::new(), value),
            None => ("404 Not Found", String::new(), String::new()),
        },
    };
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\n{extra}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).ok()
}

/// `flood BYTES`: that many bytes of numbered lines as fast as they are taken.
fn flood(bytes: u64) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let mut written = 0;
    let mut number = 0_u64;
    while written < bytes {
        let line = format!("{number:012} {}\n", "x".repeat(86));
        written += line.len() as u64;
        number += 1;
        if out.write_all(line.as_bytes()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    let _ = writeln!(out, "end of flood");
    ExitCode::SUCCESS
}
