//! `multipart/form-data`, as Pebble sends and takes files (RFC 7578).

use serde_json::Value;

use super::files::File;

/// One part of an answer.
#[derive(PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) content: &'a [u8],
}

/// Pebble refuses a shorter boundary.
const BOUNDARY: usize = 32;

/// The content type and the body of a request to write files.
pub(super) fn write(request: &Value, files: &[File]) -> (String, Vec<u8>) {
    let boundary = boundary(files);
    let mut body =
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"request\"\r\n\r\n{request}\r\n")
            .into_bytes();
    for file in files {
        let name = file.path.to_string_lossy().replace('\\', r"\\").replace('"', "\\\"");
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\n\r\n"
        );
        body.extend(head.into_bytes());
        body.extend(file.content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").into_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

/// One that is in no file, which chance alone could not promise.
fn boundary(files: &[File]) -> String {
    let mut boundary = "-".repeat(BOUNDARY);
    let mut number = 0_u64;
    while files.iter().any(|file| find(file.content, boundary.as_bytes()).is_some()) {
        boundary = format!("{number:->BOUNDARY$}");
        number += 1;
    }
    boundary
}

/// The parts of an answer; `None` if it is not well formed or not whole.
pub(super) fn parse<'a>(content_type: &str, body: &'a [u8]) -> Option<Vec<Part<'a>>> {
    let (media_type, boundary) = content_type.split_once("; boundary=")?;
    if media_type != "multipart/form-data" {
        return None;
    }
    let delimiter = format!("\r\n--{}", boundary.trim_matches('"')).into_bytes();
    let mut rest = body.strip_prefix(&delimiter[2..])?;
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        let (head, behind) = split(rest.strip_prefix(b"\r\n")?, b"\r\n\r\n")?;
        let (content, behind) = split(behind, &delimiter)?;
        parts.push(Part::new(std::str::from_utf8(head).ok()?, content)?);
        rest = behind;
    }
    Some(parts)
}

impl<'a> Part<'a> {
    fn new(head: &str, content: &'a [u8]) -> Option<Self> {
        let disposition = head.lines().find_map(|line| line.strip_prefix("Content-Disposition: "))?;
        let name = parameter(disposition, "name")?;
        Some(Self { name, filename: parameter(disposition, "filename"), content })
    }
}

/// A quoted parameter of a header; a backslash takes the next character as it is.
fn parameter(header: &str, name: &str) -> Option<String> {
    let (_, quoted) = header.split_once(&format!("; {name}=\""))?;
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some(value),
            '\\' => value.push(characters.next()?),
            other => value.push(other),
        }
    }
}

fn split<'a>(bytes: &'a [u8], delimiter: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = find(bytes, delimiter)?;
    Some((&bytes[..at], &bytes[at + delimiter.len()..]))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
