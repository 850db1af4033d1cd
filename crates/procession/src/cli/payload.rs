//! `--data JSON|@file|-` as the body of a request, never whole in memory.
//!
//! Nothing is checked here: the task's schema is the server's, and its complaints name the
//! place in the body.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::client::{Call, Upload};

const CHUNK: usize = 64 << 10;

/// `call` with the body that `data` names. Files and stdin are sent as they are read, so
/// that their size does not matter here; the server judges what they contain.
pub(super) async fn attach(call: Call, data: &str, content_type: &str) -> anyhow::Result<Call> {
    let call = call.written(CONTENT_TYPE, content_type)?;
    match data.strip_prefix('@') {
        Some(path) => attach_file(call, path.as_ref()).await,
        None if data == "-" => {
            let stdin = io::stdin().as_fd().try_clone_to_owned().context("cannot read stdin")?;
            Ok(call.body(streamed(File::from_std(stdin.into()))))
        }
        None => {
            let text = Bytes::copy_from_slice(data.as_bytes());
            Ok(call.body(Full::new(text).map_err(|never| match never {}).boxed_unsync()))
        }
    }
}

async fn attach_file(call: Call, path: &Path) -> anyhow::Result<Call> {
    let reading = || format!("cannot read {}", path.display());
    let file = File::open(path).await.with_context(reading)?;
    let metadata = file.metadata().await.with_context(reading)?;
    anyhow::ensure!(!metadata.is_dir(), "{} is a folder", path.display());
    if !metadata.is_file() {
        return Ok(call.body(streamed(file)));
    }
    // A file that grows meanwhile is sent as long as it was.
    let call = call.header(CONTENT_LENGTH, metadata.len().into());
    Ok(call.body(streamed(file.take(metadata.len()))))
}

fn streamed(from: impl AsyncRead + Send + Unpin + 'static) -> Upload {
    let frames = stream::unfold(from, |mut from| async {
        let mut chunk = vec![0; CHUNK];
        match from.read(&mut chunk).await {
            Ok(0) => None,
            Ok(length) => {
                chunk.truncate(length);
                Some((Ok(Frame::data(Bytes::from(chunk))), from))
            }
            Err(error) => Some((Err::<_, io::Error>(error), from)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}
