//! `multipart/form-data`, in which Pebble sends and receives files (RFC 7578).

use std::path::Path;

use serde_json::Value;

/// One part of a response.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) content: &'a [u8],
}

/// The length of a boundary. Pebble refuses a shorter one.
const BOUNDARY: usize = 32;

/// The content type and the body of a request to write files, each a path and its content.
pub(super) fn write(request: &Value, files: &[(&Path, &[u8])]) -> (String, Vec<u8>) {
    let boundary = boundary(files);
    let mut body = format!(
        "--{boundary}\r\n\
         Content-Disposition: form-data; name=\"request\"\r\n\r\n\
         {request}\r\n"
    )
    .into_bytes();
    for (path, content) in files {
        let name = path.to_string_lossy().replace('\\', r"\\").replace('"', "\\\"");
        let head = format!(
            "--{boundary}\r\n\
             Content-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\n\r\n"
        );
        body.extend(head.into_bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").into_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

/// A boundary that occurs in no file. A random one could occur in one.
fn boundary(files: &[(&Path, &[u8])]) -> String {
    let absent = |boundary: &String| {
        files.iter().all(|(_, content)| find(content, boundary.as_bytes()).is_none())
    };
    let mut boundaries = (0_u64..).map(|number| format!("{number:0BOUNDARY$}"));
    boundaries.find(absent).expect("no files hold all of them")
}

/// The parts of a response. `None` if it is not well formed or not complete.
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
        let disposition =
            head.lines().find_map(|line| line.strip_prefix("Content-Disposition: "))?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ANSWER: &[u8] = b"--0123abcd\r\n\
        Content-Disposition: form-data; name=\"files\"; filename=\"/a/\\\"b\\\\\"\r\n\
        Content-Type: application/octet-stream\r\n\
        \r\n\
        \r\n--0123\r\n\r\n\r\n\
        --0123abcd\r\n\
        Content-Disposition: form-data; name=\"response\"\r\n\
        Content-Type: application/json\r\n\
        \r\n\
        {}\n\r\n\
        --0123abcd--\r\n";

    fn part<'a>(name: &str, filename: Option<&str>, content: &'a [u8]) -> Part<'a> {
        Part { name: name.to_owned(), filename: filename.map(str::to_owned), content }
    }

    fn file<'a>(path: &'a str, content: &'a [u8]) -> (&'a Path, &'a [u8]) {
        (Path::new(path), content)
    }

    #[test]
    fn the_parts_of_an_answer_are_parsed() {
        let parts = [
            part("files", Some(r#"/a/"b\"#), b"\r\n--0123\r\n\r\n"),
            part("response", None, b"{}\n"),
        ];
        for content_type in
            ["multipart/form-data; boundary=0123abcd", "multipart/form-data; boundary=\"0123abcd\""]
        {
            assert_eq!(parse(content_type, ANSWER).as_deref(), Some(&parts[..]));
        }
    }

    #[test]
    fn an_incomplete_answer_has_no_parts() {
        let content_type = "multipart/form-data; boundary=0123abcd";
        let whole = ANSWER.len() - "\r\n".len();
        for length in 0..whole {
            assert_eq!(parse(content_type, &ANSWER[..length]), None, "the first {length} bytes");
        }
        assert!(parse(content_type, &ANSWER[..whole]).is_some());
        for content_type in [
            "multipart/form-data",
            "application/json",
            "text/plain; boundary=0123abcd",
            "multipart/form-data; boundary=x",
        ] {
            assert_eq!(parse(content_type, ANSWER), None, "{content_type}");
        }
    }

    #[test]
    fn a_boundary_is_long_enough_and_in_no_file() {
        let (first, _) = write(&json!({}), &[]);
        let boundary = first.strip_prefix("multipart/form-data; boundary=").expect("it is named");
        assert!(boundary.len() >= 32, "{boundary}");
        let (other, body) = write(&json!({}), &[file("/a", boundary.as_bytes())]);
        assert_ne!(other, first);
        assert_eq!(
            parse(&other, &body).expect("it is well formed")[1].content,
            boundary.as_bytes()
        );
    }

    proptest! {
        #[test]
        fn a_written_request_is_read_back(
            files in prop::collection::vec(("/[a-zäé \"\\\\;=]{0,9}", "[-0-2\r\n]{0,80}|0{30,34}"), 0..4)
        ) {
            let files: Vec<_> =
                files.iter().map(|(path, content)| file(path, content.as_bytes())).collect();
            let (content_type, body) = write(&json!({"action": "write"}), &files);
            let mut expected = vec![part("request", None, br#"{"action":"write"}"#)];
            expected.extend(files.iter().map(|(path, content)| part("files", path.to_str(), content)));
            prop_assert_eq!(parse(&content_type, &body), Some(expected));
        }
    }
}
