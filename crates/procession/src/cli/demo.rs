//! `demo`: sets up the subway inspection in a folder, serves it, sends the request its users
//! send today, and shows what becomes of it. Ends what it started, at Ctrl-C or, with
//! `--no-wait`, when the job is over.

mod companion;
mod folder;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use procession_core::api::{Job, JobPage};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use self::companion::Companion;
use self::folder::Folder;
use super::client::{Call, Client};
use super::follow::{self, Shown};
use super::patience::Patience;
use super::query::Query;
use super::screen::{Format, Screen};
use super::{DemoArgs, Global, endpoint, payload, words};

/// The users' own route.
const ROUTE: &str = "/internal/v1/subway-images/full-report";

/// Where the demo is set up if nobody says where.
const FOLDER: &str = "procession-demo";

/// Installing Pillow may need a download.
const PREPARE: Duration = Duration::from_secs(180);

/// Sets up, runs, shows.
pub fn run(args: &DemoArgs, global: &Global) -> ExitCode {
    let screen = Screen::new(Format::Table);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.complain(&error.into());
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(story(args, global, &screen)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn story(args: &DemoArgs, global: &Global, screen: &Screen) -> anyhow::Result<()> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        told = tell(args, global, screen) => told,
        _ = interrupted.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
    }
}

async fn tell(args: &DemoArgs, global: &Global, screen: &Screen) -> anyhow::Result<()> {
    let folder = Folder::set_up(args.folder.as_deref().unwrap_or(Path::new(FOLDER)))?;
    screen.line(&format!("the example is in {}", shown(folder.path())))?;

    let mut prepare = Companion::start(Path::new("python3"), &["prepare.py"], folder.path())?;
    prepare.end_of_output(PREPARE, |line| screen.line(line).map_err(Into::into)).await?;
    let mut photos =
        Companion::start(Path::new("python3"), &["serve_photos.py", "--port", "0"], folder.path())?;
    let photos_at = photos.line_beginning("photos at ").await.context("the photographs cannot be served")?;
    let me = std::env::current_exe().context("this program cannot find itself")?;
    let mut server = Companion::start(&me, &["serve"], folder.path())?;
    let server_at = server.line_beginning("listening on ").await.context("the server did not start")?;

    let config = Some(folder.path().join("procession.toml"));
    let here = Global { config, url: None, token: None, output: global.output };
    let client = Client::new(endpoint::find(&here)?);
    let request = folder.request(&photos_at)?;
    screen
        .line(&format!("\n$ curl {server_at}{ROUTE} -H 'Content-Type: application/json' -d @request.json"))?;
    let answer = client.ask(post(&request).await?).await?;
    screen.bytes(&answer.0)?;
    screen.line("\n")?;

    let job = submitted(&client, &request).await?;
    let shown = Shown { stdout: true, stderr: true, raw: false };
    let mut patience = Patience::new();
    patience.answered();
    let job = follow::until_over(&client, screen, job.id, shown, patience).await?;
    show(&folder, screen, &job, &server_at)?;

    if !args.no_wait {
        screen.line("\nthe server goes on; Ctrl-C stops it")?;
        server.ended().await;
    }
    Ok(())
}

async fn post(request: &str) -> anyhow::Result<Call> {
    payload::attach(Call::post(ROUTE), request, "application/json").await
}

/// The job of that request, by the label the config makes of its id: the route's answer has
/// the old program's shape, which names no job.
async fn submitted(client: &Client, request: &str) -> anyhow::Result<Job> {
    let request: Value = serde_json::from_str(request)?;
    let id = request.get("requestId").and_then(Value::as_str).context("the request has no id")?;
    let path = Query::of("/v1/jobs").with("label.request", id).with("limit", "1").end();
    let page: JobPage = client.ask(Call::get(path)).await?.json()?;
    page.items.into_iter().next().context("the job is gone")
}

fn show(folder: &Folder, screen: &Screen, job: &Job, server: &str) -> anyhow::Result<()> {
    screen.line(&format!("\nthe job: {}", words::ending(job)))?;
    if let Some(result) = &job.result {
        screen.line(&format!(
            "its result: {}",
            serde_json::to_string(result.get("summary").unwrap_or(result))?
        ))?;
    }
    let data = folder.data();
    let report = data.artifacts(job.id, job.attempt).join("report.html");
    if report.exists() {
        screen.line(&format!("its report: {}", shown(&report)))?;
    }
    let token = shown(&data.token());
    let id = job.id;
    screen.line(&format!(
        "\ngo on with\n\
         \x20 T=\"Authorization: Bearer $(cat {token})\"\n\
         \x20 curl -H \"$T\" {server}/v1/jobs/{id}\n\
         \x20 curl -H \"$T\" {server}/v1/jobs/{id}/result\n\
         \x20 curl -H \"$T\" {server}/v1/jobs/{id}/artifacts/report.html -o report.html\n\
         \x20 curl -H \"$T\" {server}/v1/tasks"
    ))?;
    Ok(())
}

/// A path as one would type it here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
