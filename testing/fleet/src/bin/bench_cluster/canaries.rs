//! `bench canaries`: many Canaries that all progress at once, and then rest: what that costs, and whether each is looked at in time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use crossfade_test_cluster::{Actor, Request};
use crossfade_test_fleet::{
    Board, Bound, History, Options, Outcome, Program, Prometheus, Report, Requests, Seen, Usage,
};
use serde_json::{Value, json};

use crate::{Ground, mebibytes, quantile, report, say};

const CANARY: (&str, &str, &str) = ("flagger.app", "v1beta1", "Canary");
const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");
/// Kinds that nobody writes during the bench but the controller, with their resources.
const OWN: [((&str, &str, &str), &str); 3] = [
    (CANARY, "canaries"),
    (("", "v1", "Service"), "services"),
    (("networking.k8s.io", "v1", "Ingress"), "ingresses"),
];
/// Time between two looks at a Canary.
const INTERVAL: Duration = Duration::from_secs(10);
/// Questions closer together belong to one look.
const APART: Duration = Duration::from_secs(4);
/// Steps before the first Canary that may come to its end while the last one begins.
const SPARE: u32 = 12;
/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_mins(5);
/// They rest when nothing was asked of the API server for so long: Events are told at a pace that leaves it to others.
const QUIET: Duration = Duration::from_secs(25);

#[derive(Args)]
pub(crate) struct Arguments {
    /// How many Canaries
    #[arg(long, default_value_t = 500)]
    count: usize,
    /// For how many looks at each it is measured what they cost
    #[arg(long, default_value_t = 6)]
    looks: u32,
}

pub(crate) async fn run(program: &Path, arguments: &Arguments) -> Outcome<Report> {
    say("starting a control plane");
    let ground = Ground::new(program).await?;
    let outcome = measure(&ground, arguments).await;
    if outcome.is_err() {
        let words = ground.fleet.last_words(Actor::Crossfade);
        eprintln!("the controller said last:\n{words}");
    }
    outcome
}

/// What a time has cost.
struct Cost {
    seconds: f64,
    own: f64,
    api_server: f64,
    requests: Requests,
}

/// A stretch of time in which costs are counted.
struct Stretch {
    began: Instant,
    own: Usage,
    api_server: Usage,
    requests: usize,
}

impl Stretch {
    fn begin(ground: &Ground, controller: &Program) -> Outcome<Self> {
        Ok(Self {
            requests: ground.fleet.all_requests(Actor::Crossfade)?.0.len(),
            own: controller.usage()?,
            api_server: Usage::of(ground.api_server()?)?,
            began: Instant::now(),
        })
    }

    fn end(self, ground: &Ground, controller: &Program) -> Outcome<Cost> {
        let seconds = self.began.elapsed().as_secs_f64();
        let (own, api_server) = (controller.usage()?, Usage::of(ground.api_server()?)?);
        let requests = ground.fleet.all_requests(Actor::Crossfade)?;
        Ok(Cost {
            seconds,
            own: own.cpu - self.own.cpu,
            api_server: api_server.cpu - self.api_server.cpu,
            requests: requests.after(self.requests),
        })
    }
}

async fn measure(ground: &Ground, arguments: &Arguments) -> Outcome<Report> {
    let fleet = &ground.fleet;
    let prometheus = Prometheus::start().await?;
    let options = Options {
        // What it writes for a Lease is no request about Canaries.
        lease: None,
        ..fleet.options(Actor::Crossfade, Duration::ZERO)?
    };
    let histories = OWN.map(|(kind, resource)| (resource, fleet.history(kind)));
    let board = fleet.board_of(CANARY);
    let controller = Program::start(&options)?;
    let names: Vec<String> = (0..arguments.count)
        .map(|number| format!("shop-{number}"))
        .collect();

    say("creating Canaries");
    let began = Instant::now();
    let steps = arguments.looks + SPARE;
    let of_name = |name: &String| manifests(name, prometheus.address(), steps);
    fleet.create_lists(names.iter().map(of_name)).await?;
    until(&board, &names, "Initialized").await?;
    let initialised = began.elapsed();

    say("releasing a version of each");
    let began = Instant::now();
    let containers = json!([{"name": "main", "image": "shop:2"}]);
    let change = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    fleet.change_all(DEPLOYMENT, &names, &change).await?;
    let progresses =
        |seen: &Seen| seen.phase() == "Progressing" && seen.status["canaryWeight"] != 0;
    board
        .until_all(&names, "releases to begin", PATIENCE, progresses)
        .await?;
    let progressing = began.elapsed();

    say("looking at Canaries that progress");
    let stretch = Stretch::begin(ground, &controller)?;
    tokio::time::sleep(INTERVAL * arguments.looks).await;
    let busy = stretch.end(ground, &controller)?;
    let asked = prometheus.asked();
    let still = |name: &&String| board.get(name).is_some_and(|seen| progresses(&seen));
    let over = names.iter().filter(|name| !still(name)).count();
    if over > 0 {
        return Err(
            format!("{over} releases ended before the last had begun for long enough").into(),
        );
    }

    say("waiting for the releases to end");
    until(&board, &names, "Succeeded").await?;
    until_quiet(ground).await?;
    say("looking at Canaries that rest");
    let stretch = Stretch::begin(ground, &controller)?;
    tokio::time::sleep(INTERVAL * arguments.looks).await;
    let rest = stretch.end(ground, &controller)?;
    let usage = controller.usage()?;
    controller.stop().await?;

    let mut report = report("canaries");
    report.figure("canaries", arguments.count as f64, "");
    report.figure("initialised in", initialised.as_secs_f64(), "s");
    report.figure("all progressing after", progressing.as_secs_f64(), "s");
    let core = |cpu: f64, cost: &Cost| cpu / cost.seconds * 100.0;
    let name = "CPU while all progress, of a core";
    report.bounded(name, core(busy.own, &busy), "%", Bound(5.0));
    let of_server = core(busy.api_server, &busy);
    report.figure("  of the API server meanwhile", of_server, "%");
    lateness(&mut report, &asked, &busy);
    requests(&mut report, &busy);
    let all = fleet.all_requests(Actor::Crossfade)?;
    let unchanging = unchanging(&all, &histories, arguments.count);
    report.bounded("writes without a change", unchanging as f64, "", Bound(0.0));
    let (watches, others) = split(&rest.requests);
    let name = "requests while all rest";
    report.bounded(name, others.0.len() as f64, "", Bound(0.0));
    report.figure("  watches begun anew", watches as f64, "");
    report.more("requests at rest", json!(others.counts()));
    report.figure("CPU while all rest, of a core", core(rest.own, &rest), "%");
    report.figure("memory at its peak", mebibytes(usage.peak_rss), "MiB");
    report.figure("memory, settled", mebibytes(usage.rss), "MiB");
    report.more("requests", json!(all.counts()));
    Ok(report)
}

/// Waits until all are in a phase.
async fn until(board: &Board, names: &[String], phase: &str) -> Outcome<()> {
    let is = |seen: &Seen| seen.phase() == phase;
    board.until_all(names, phase, PATIENCE, is).await
}

/// Waits until nothing more is told of what has happened.
async fn until_quiet(ground: &Ground) -> Outcome<()> {
    let asked = || {
        let requests = ground.fleet.all_requests(Actor::Crossfade)?;
        Outcome::Ok(split(&requests).1.0.len())
    };
    let began = Instant::now();
    let mut before = asked()?;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = asked()?;
        if now == before {
            return Ok(());
        }
        if began.elapsed() > PATIENCE * 2 {
            return Err("requests did not end although all Canaries rest".into());
        }
        before = now;
    }
}

/// A Deployment of one pod behind an ingress, and a Canary of it that grows by 1 % at each look.
fn manifests(name: &str, prometheus: SocketAddr, steps: u32) -> Vec<Value> {
    let labels = json!({"app": name});
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "shop:1"}]},
            },
        },
    });
    let backend = json!({"service": {"name": name, "port": {"number": 80}}});
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {
            "ingressClassName": "nginx",
            "rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    });
    let reference =
        |group: &str, kind: &str| json!({"apiVersion": group, "kind": kind, "name": name});
    let weights: Vec<u32> = (1..=steps).collect();
    let canary = json!({
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": name},
        "spec": {
            "provider": "nginx",
            "metricsServer": format!("http://{prometheus}/{name}"),
            "targetRef": reference("apps/v1", "Deployment"),
            "ingressRef": reference("networking.k8s.io/v1", "Ingress"),
            "progressDeadlineSeconds": 600,
            "service": {"port": 80, "targetPort": 8080},
            "analysis": {
                "interval": format!("{}s", INTERVAL.as_secs()),
                "threshold": 5,
                "stepWeights": weights,
                "metrics": [
                    {"name": "request-success-rate", "interval": "1m", "thresholdRange": {"min": 99}},
                    {"name": "request-duration", "interval": "1m", "thresholdRange": {"max": 500}},
                ],
            },
        },
    });
    vec![deployment, ingress, canary]
}

/// How much more than the interval there was between a look and the one before it: each asks Prometheus first.
fn lateness(report: &mut Report, asked: &BTreeMap<String, Vec<Instant>>, busy: &Cost) {
    let mut late = Vec::new();
    let latest = asked.values().flatten().max().copied();
    let from = latest.and_then(|end| end.checked_sub(Duration::from_secs_f64(busy.seconds)));
    for times in asked.values() {
        let mut looks: Vec<Instant> = Vec::new();
        for time in times {
            let before = looks.last();
            if before.is_none_or(|before| time.duration_since(*before) > APART) {
                looks.push(*time);
            }
        }
        looks.retain(|look| from.is_none_or(|from| *look >= from));
        for pair in looks.windows(2) {
            if let [before, look] = pair {
                late.push(look.duration_since(*before).saturating_sub(INTERVAL));
            }
        }
    }
    late.sort_unstable();
    report.figure("looks, while all progress", late.len() as f64, "");
    report.figure("  late, p50", quantile(&late, 0.5), "ms");
    report.bounded("  late, p99", quantile(&late, 0.99), "ms", Bound(250.0));
}

fn requests(report: &mut Report, busy: &Cost) {
    let (watches, others) = split(&busy.requests);
    let a_second = |count: usize| count as f64 / busy.seconds;
    let writes = others.writes().0.len();
    report.figure("writes a second", a_second(writes), "");
    report.figure("Events a second", a_second(others.events().0.len()), "");
    let reads = others.0.len() - writes - others.events().0.len();
    report.figure("reads a second", a_second(reads), "");
    report.figure("  watches begun anew", watches as f64, "");
    report.more("requests while all progress", json!(others.counts()));
}

/// How many watches were begun, and all other requests.
fn split(requests: &Requests) -> (usize, Requests) {
    let is_watch = |one: &&Request| one.verb == "watch";
    let others = requests.0.iter().filter(|one| !is_watch(one));
    let watches = requests.0.iter().filter(is_watch).count();
    (watches, Requests(others.cloned().collect()))
}

/// Writes that were taken and changed nothing: of the kinds that only the controller writes, those that no new version came of; of the others, those that
/// say what the one before them has said.
fn unchanging(all: &Requests, histories: &[(&str, History)], count: usize) -> usize {
    let base = |one: &Request| {
        one.resource
            .split('/')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let writes = all.writes();
    let taken: Vec<&Request> = writes.0.iter().filter(|one| one.code < 300).collect();
    let mut unchanging = 0;
    for (resource, history) in histories {
        let writes = taken.iter().filter(|one| base(one) == *resource).count();
        let versions = history.versions();
        let stored = versions.iter().filter(|version| !version.gone).count();
        // The bench makes one Canary and one ingress of each.
        let made = if *resource == "services" { 0 } else { count };
        unchanging += (writes + made).saturating_sub(stored);
    }
    let mut last: BTreeMap<(String, String), Value> = BTreeMap::new();
    for one in taken {
        if histories.iter().any(|(resource, _)| base(one) == *resource) || one.verb != "patch" {
            continue;
        }
        let mut body = one.body.clone();
        if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let before = last.insert((one.resource.clone(), one.name.clone()), body.clone());
        unchanging += usize::from(before == Some(body));
    }
    unchanging
}
