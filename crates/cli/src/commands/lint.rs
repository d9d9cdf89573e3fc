//! `crossfade lint`: check manifests before anybody applies them.

use std::path::PathBuf;

use clap::Args;
use crossfade_host::client::Wanted;
use crossfade_host::store::Kind;
use serde_json::{Value, json};

use crate::context::Context;
use crate::documents::{self, Document};
use crate::error::{CliError, Result};
use crate::lint::{self, Finding, RULES, Severity, Surroundings};
use crate::output::{Format, document, pretty};
use crate::terminal;

/// Check manifests before anybody applies them
///
/// Finds unknown fields, values that would be refused, references that do not fit, metrics and conditions that cannot work, and what can
/// hardly be meant, each with file, line and rule. Nothing is sent anywhere; objects that a Rollout names are looked up in the same manifests,
/// and with --live on the host too. Ends with exit code 1 when there is an error. `-o github` and `-o sarif` are for pipelines.
#[derive(Args, Clone, Debug)]
pub(crate) struct Lint {
    /// Manifests: files, folders, or - for standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same as FILE, as kubectl has it
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Look up what Rollouts refer to on the host; what is neither there nor in the manifests is an error
    #[arg(long)]
    live: bool,
}

impl Lint {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let paths: Vec<_> = self.filename.iter().chain(&self.files).cloned().collect();
        if paths.is_empty() {
            return Err(CliError::arguments());
        }
        let documents = documents::read(&paths)?;
        if !context.is_full() {
            return as_plugin(&documents);
        }
        let mut fetched = Vec::new();
        if self.live {
            let client = context.client()?;
            for kind in [
                Kind::Service,
                Kind::AnalysisTemplate,
                Kind::ClusterAnalysisTemplate,
                Kind::Ingress,
                Kind::VirtualService,
            ] {
                let listed = client
                    .list(kind, Some(context.namespace()), &Wanted::default())
                    .await?
                    .items;
                fetched.extend(listed.into_iter().map(|object| with_kind(object, kind)));
            }
        }
        let around = fetched
            .iter()
            .chain(documents.iter().map(|document| &document.source.object));
        let around = Surroundings::of(around, self.live);
        let findings: Vec<_> = documents
            .iter()
            .flat_map(|document| lint::all(document, &around))
            .collect();
        print(context, &findings)?;
        let errors = findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .count();
        if errors == 0 {
            return Ok(());
        }
        let plural = if errors == 1 { "error" } else { "errors" };
        Err(CliError::failure(format!(
            "{errors} {plural} in the manifests"
        )))
    }
}

/// Items of a list may leave out what the list says.
fn with_kind(mut object: Value, kind: Kind) -> Value {
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.name());
    object
}

/// Rollouts only, with the Services and router objects of the same file, in the reference's words.
fn as_plugin(documents: &[Document]) -> Result<()> {
    let mut first = None;
    for document in documents {
        if document.source.kind() != "Rollout" {
            continue;
        }
        // What cannot be read at all ends the run.
        if let Some(finding) = lint::shape(document).into_iter().next() {
            return Err(CliError::failure(finding.message).field(finding.path));
        }
        let of_file = documents.iter().filter(|other| other.file == document.file);
        let looked_at = of_file.filter(|other| !other.source.kind().ends_with("AnalysisTemplate"));
        let around = Surroundings::of(looked_at.map(|other| &other.source.object), false);
        for finding in lint::rollout(document, &around) {
            terminal::line(&finding.message)?;
            first.get_or_insert(finding);
        }
    }
    match first {
        None => Ok(()),
        Some(finding) => Err(
            CliError::failure(format!("{}: {}", finding.path, finding.message)).field(finding.path),
        ),
    }
}

fn print(context: &Context, findings: &[Finding]) -> Result<()> {
    let output = &context.global.output;
    let text = match output {
        Format::Table | Format::Wide => findings.iter().map(line).collect(),
        Format::Github => findings.iter().map(annotation).collect(),
        Format::Sarif => pretty(&sarif(findings))?,
        Format::Json | Format::Yaml | Format::Name | Format::JsonPath(_) => {
            let document = document("LintFindings", &json!({"items": findings}))?;
            let names: Vec<_> = findings
                .iter()
                .map(|finding| finding.object.clone())
                .collect();
            return output.print(&document, &names);
        }
    };
    terminal::print(&text)
}

fn line(finding: &Finding) -> String {
    let Finding {
        file,
        line,
        column,
        severity,
        rule,
        path,
        message,
        ..
    } = finding;
    // The message of an unknown field names it.
    let path = if message.contains(path.as_str()) {
        String::new()
    } else {
        format!("{path}: ")
    };
    format!(
        "{file}:{line}:{column}: {}: {path}{message} [{rule}]\n",
        severity.word()
    )
}

/// A line that GitHub shows beside the change.
fn annotation(finding: &Finding) -> String {
    let escape = |text: &str| {
        text.replace('%', "%25")
            .replace('\r', "%0D")
            .replace('\n', "%0A")
    };
    let property = |text: &str| escape(text).replace(':', "%3A").replace(',', "%2C");
    let Finding {
        file,
        line,
        column,
        severity,
        rule,
        path,
        message,
        ..
    } = finding;
    format!(
        "::{} file={},line={line},col={column},title={rule}::{}\n",
        severity.word(),
        property(file),
        escape(&format!("{path}: {message}"))
    )
}

/// The findings in the Static Analysis Results Interchange Format, version 2.1.0.
fn sarif(findings: &[Finding]) -> Value {
    let rules: Vec<_> = RULES
        .iter()
        .map(|(id, text)| json!({"id": id, "shortDescription": {"text": text}}))
        .collect();
    let results: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "ruleId": finding.rule,
                "level": finding.severity.word(),
                "message": {"text": format!("{}: {}: {}", finding.object, finding.path, finding.message)},
                "locations": [{"physicalLocation": {
                    "artifactLocation": {"uri": finding.file},
                    "region": {"startLine": finding.line, "startColumn": finding.column},
                }}],
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "crossfade lint", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "results": results,
        }],
    })
}
