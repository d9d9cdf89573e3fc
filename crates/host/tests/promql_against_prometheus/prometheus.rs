//! A real Prometheus in a temporary folder, filled by remote write.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::samples::Series;

/// How long Prometheus may take to start.
const START: Duration = Duration::from_mins(1);

/// A running Prometheus; ends with the value.
pub(crate) struct Prometheus {
    process: Child,
    address: String,
    client: reqwest::Client,
    _folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Starts one. A port can be taken by another test between being chosen and being used, so a
    /// start that fails is tried again with another port.
    pub(crate) async fn start() -> Self {
        // Only one provider can be installed; that it is there already is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut output = String::new();
        for _ in 0..5 {
            match Self::try_start().await {
                Ok(prometheus) => return prometheus,
                Err(problem) => output = problem,
            }
        }
        panic!("Prometheus does not start:\n{output}");
    }

    async fn try_start() -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, "global: {evaluation_interval: 1m}\n").unwrap();
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let mut process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--web.enable-remote-write-receiver")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|problem| {
                panic!(
                    "this test compares with a real Prometheus, and `prometheus` cannot be started ({problem}): \
                     apt-get install prometheus (or `cargo xtask test`, which does it)"
                )
            });
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let started = tokio::task::spawn_blocking(move || {
            let mut seen = String::new();
            // Reading goes on until the process ends, so that it never blocks on a full pipe.
            let mut lines = lines.map_while(Result::ok);
            for line in lines.by_ref() {
                if line.contains("Server is ready to receive web requests") {
                    std::thread::spawn(move || lines.for_each(drop));
                    return Ok(());
                }
                seen.push_str(&line);
                seen.push('\n');
            }
            Err(seen)
        });
        let result = tokio::time::timeout(START, started).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let prometheus = Self {
            process,
            address,
            client,
            _folder: folder,
        };
        match result {
            Ok(read) => read.unwrap().map(|()| prometheus),
            Err(_) => Err(format!("not ready after {START:?}")),
        }
    }

    /// The answer to a GET request, which may be an error of the API.
    pub(crate) async fn get(&self, path_and_query: &str) -> Value {
        let url = format!("http://{}{path_and_query}", self.address);
        let body = self
            .client
            .get(&url)
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) async fn version(&self) -> String {
        let info = self.get("/api/v1/status/buildinfo").await;
        format!("Prometheus {}", info["data"]["version"].as_str().unwrap())
    }

    /// Writes all samples, the oldest first: a head block takes nothing that is much older than
    /// what it has.
    pub(crate) async fn write(&self, all: &[Series]) {
        let oldest = all
            .iter()
            .flat_map(|(_, samples)| samples)
            .map(|sample| sample.at)
            .min()
            .unwrap();
        let newest = all
            .iter()
            .flat_map(|(_, samples)| samples)
            .map(|sample| sample.at)
            .max()
            .unwrap();
        let part = 10 * 60 * 1000;
        for from in (oldest..=newest).step_by(usize::try_from(part).unwrap()) {
            let body = snappy(&write_request(all, from, from + part));
            let answer = self
                .client
                .post(format!("http://{}/api/v1/write", self.address))
                .header("Content-Type", "application/x-protobuf")
                .header("Content-Encoding", "snappy")
                .header("X-Prometheus-Remote-Write-Version", "0.1.0")
                .body(body)
                .send()
                .await
                .unwrap();
            let status = answer.status();
            assert!(
                status.is_success(),
                "{status}: {}",
                answer.text().await.unwrap()
            );
        }
    }
}

/// `prometheus.WriteRequest` in protobuf: the samples from `from` up to, not including, `until`.
fn write_request(all: &[Series], from: i64, until: i64) -> Vec<u8> {
    let mut request = Vec::new();
    for (labels, samples) in all {
        let mut series = Vec::new();
        for (name, value) in labels.iter() {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut series, 1, &label);
        }
        let mut any = false;
        for sample in samples
            .iter()
            .filter(|sample| (from..until).contains(&sample.at))
        {
            let mut encoded = vec![1 << 3 | 1];
            encoded.extend(sample.value.to_bits().to_le_bytes());
            encoded.push(2 << 3);
            varint(&mut encoded, sample.at.cast_unsigned());
            field(&mut series, 2, &encoded);
            any = true;
        }
        if any {
            field(&mut request, 1, &series);
        }
    }
    request
}

fn field(into: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    into.push(number << 3 | 2);
    varint(into, bytes.len() as u64);
    into.extend(bytes);
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// The block format of snappy, with everything as literals.
fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    varint(&mut block, bytes.len() as u64);
    for chunk in bytes.chunks(0x1_0000) {
        // Tag 61: a literal whose length, less one, follows in two bytes.
        block.push(61 << 2);
        block.extend(u16::try_from(chunk.len() - 1).unwrap().to_le_bytes());
        block.extend(chunk);
    }
    block
}
