//! Files and directories of the workload container.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    client::Pebble,
    envelope::Envelope,
    error::{PathError, PathErrorKind, PebbleError},
    http::{ApiRequest, Response},
    multipart::{self, Part},
};

/// A file to write as a whole: readers see the old file or this one. Owner and mode are always
/// given, because a replaced file keeps neither.
#[derive(Clone, Copy)]
pub struct File<'a> {
    /// Its absolute path, in a directory that exists.
    pub path: &'a Path,
    /// Its content. It may be a secret, so `Debug` shows its length only.
    pub content: &'a [u8],
    /// Its mode, the nine lowest bits.
    pub mode: u16,
    /// The name of its owner, known in the container.
    pub user: &'a str,
    /// The name of its group, known in the container.
    pub group: &'a str,
}

/// A directory to make, with its parents. A directory that exists stays as it is; parents that are
/// made get the same owner and mode.
#[derive(Clone, Copy, Debug)]
pub struct Directory<'a> {
    /// Its absolute path.
    pub path: &'a Path,
    /// Its mode, the nine lowest bits.
    pub mode: u16,
    /// The name of its owner, known in the container.
    pub user: &'a str,
    /// The name of its group, known in the container.
    pub group: &'a str,
}

/// The result for one path of a request.
#[derive(Deserialize)]
struct Entry {
    path: PathBuf,
    error: Option<EntryError>,
}

#[derive(Deserialize)]
struct EntryError {
    message: String,
    kind: PathErrorKind,
}

impl fmt::Debug for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .field("content", &format_args!("‹{} bytes›", self.content.len()))
            .field("mode", &format_args!("{:03o}", self.mode))
            .field("user", &self.user)
            .field("group", &self.group)
            .finish()
    }
}

impl Pebble {
    /// Reads these files in one request; the results are in the order of the paths.
    pub fn read(&self, paths: &[&Path]) -> Result<Vec<Result<Vec<u8>, PathError>>, PebbleError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let mut target = "/v1/files?action=read".to_owned();
        for path in paths {
            target.push_str("&path=");
            target.extend(utf8_percent_encode(text(path)?, NON_ALPHANUMERIC));
        }
        contents(&self.call(ApiRequest::get(&target, "multipart/form-data"))?)
    }

    /// Writes these files in one request, in their order, each as a whole. If one fails, any other
    /// may have been written.
    pub fn write(&self, files: &[File]) -> Result<(), PebbleError> {
        if files.is_empty() {
            return Ok(());
        }
        let entry = |file: &File| {
            let mode = permissions(file.mode);
            let (path, user, group) = (text(file.path)?, file.user, file.group);
            Ok(json!({"path": path, "permissions": mode, "user": user, "group": group}))
        };
        let entries = files.iter().map(entry).collect::<Result<Vec<_>, PathError>>()?;
        let request = json!({"action": "write", "files": entries});
        let contents: Vec<_> = files.iter().map(|file| (file.path, file.content)).collect();
        let (content_type, body) = multipart::write(&request, &contents);
        let answer = self.call(ApiRequest::post("/v1/files", content_type, body))?;
        all_done(Envelope::of(&answer)?.result()?)
    }

    /// Makes these directories, and their parents, where they are missing.
    pub fn make_dirs(&self, dirs: &[Directory]) -> Result<(), PebbleError> {
        let entry = |dir: &Directory| {
            let mode = permissions(dir.mode);
            let (path, user, group) = (text(dir.path)?, dir.user, dir.group);
            Ok(json!({
                "path": path, "make-parents": true, "permissions": mode, "user": user,
                "group": group
            }))
        };
        let entries = dirs.iter().map(entry).collect::<Result<Vec<_>, PathError>>()?;
        self.paths("make-dirs", "dirs", &entries)
    }

    /// Removes what lies at these paths, directories with their content. A missing path is no
    /// error.
    pub fn remove(&self, paths: &[&Path]) -> Result<(), PebbleError> {
        let entry = |path: &&Path| Ok(json!({"path": text(path)?, "recursive": true}));
        let entries = paths.iter().map(entry).collect::<Result<Vec<_>, PathError>>()?;
        self.paths("remove", "paths", &entries)
    }

    fn paths(&self, action: &str, key: &str, entries: &[Value]) -> Result<(), PebbleError> {
        if entries.is_empty() {
            return Ok(());
        }
        all_done(self.post("/v1/files", &json!({"action": action, key: entries}))?.result()?)
    }
}

/// The results of a multipart response, for each path of the request. A file that Pebble could not
/// read to its end has a part and an error.
fn contents(answer: &Response) -> Result<Vec<Result<Vec<u8>, PathError>>, PebbleError> {
    let Some(mut parts) = multipart::parse(&answer.content_type, &answer.body) else {
        return match Envelope::of(answer) {
            Err(refusal @ PebbleError::Api { .. }) => Err(refusal),
            _ => Err(PebbleError::Protocol(
                "files that are not well-formed multipart/form-data".into(),
            )),
        };
    };
    let last = parts.pop().filter(|part| part.name == "response");
    let last =
        last.ok_or_else(|| PebbleError::Protocol("files without the result behind them".into()))?;
    let entries: Vec<Entry> = Envelope::parse(answer.status, last.content)?.result()?;
    let mut parts = parts.into_iter().peekable();
    let content = |entry: Entry| {
        let is_of_entry =
            |part: &Part| part.filename.as_deref().map(Path::new) == Some(&entry.path);
        let part = parts.next_if(is_of_entry);
        match (entry.checked(), part) {
            (Err(error), _) => Ok(Err(error)),
            (Ok(_), Some(part)) => Ok(Ok(part.content.to_vec())),
            (Ok(path), None) => {
                Err(PebbleError::Protocol(format!("no content for {}", path.display())))
            }
        }
    };
    entries.into_iter().map(content).collect()
}

/// Fails with the error of the first path that failed.
fn all_done(entries: Vec<Entry>) -> Result<(), PebbleError> {
    entries.into_iter().try_for_each(|entry| entry.checked().map(drop)).map_err(PebbleError::Path)
}

impl Entry {
    fn checked(self) -> Result<PathBuf, PathError> {
        match self.error {
            None => Ok(self.path),
            Some(EntryError { message, kind }) => Err(PathError { path: self.path, kind, message }),
        }
    }
}

/// A path as text, which is what Pebble takes.
fn text(path: &Path) -> Result<&str, PathError> {
    let message = || "is not UTF-8".to_owned();
    let error =
        || PathError { path: path.to_owned(), kind: PathErrorKind::Other, message: message() };
    path.to_str().ok_or_else(error)
}

/// A mode in three octal digits: Pebble refuses `0600`.
fn permissions(mode: u16) -> String {
    format!("{mode:03o}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with one file and this result.
    fn answer(content_type: &str, result: &str) -> Response {
        let body = format!(
            "--x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"/a\"\r\n\r\nabc\r\n\
             --x\r\nContent-Disposition: form-data; name=\"response\"\r\n\r\n\
             {{\"type\":\"sync\",\"result\":{result}}}\r\n--x--\r\n"
        );
        Response { status: 200, content_type: content_type.to_owned(), body: body.into() }
    }

    fn read(result: &str) -> Result<Vec<Result<Vec<u8>, PathError>>, PebbleError> {
        contents(&answer("multipart/form-data; boundary=x", result))
    }

    #[test]
    fn contents_are_matched_to_paths_by_name() {
        let missing = r#"{"path":"/b","error":{"message":"not there","kind":"not-found"}}"#;
        let read = read(&format!(r#"[{missing},{{"path":"/a"}},{missing}]"#)).expect("it is whole");
        let error = PathError {
            path: "/b".into(),
            kind: PathErrorKind::NotFound,
            message: "not there".to_owned(),
        };
        assert_eq!(read, [Err(error.clone()), Ok(b"abc".to_vec()), Err(error)]);
    }

    #[test]
    fn a_partly_read_file_is_an_error() {
        let read = read(r#"[{"path":"/a","error":{"message":"disk","kind":"a-new-kind"}}]"#);
        let read = read.expect("it is whole");
        assert_eq!(read[0].as_ref().map_err(|error| error.kind), Err(PathErrorKind::Other));
    }

    #[test]
    fn a_file_without_its_content_is_a_protocol_error() {
        let read = read(r#"[{"path":"/b"}]"#);
        assert!(matches!(read, Err(PebbleError::Protocol(_))), "{read:?}");
    }

    #[test]
    fn an_answer_without_multipart_is_a_protocol_error() {
        let read = contents(&answer("application/json", "[]"));
        assert!(matches!(read, Err(PebbleError::Protocol(_))), "{read:?}");
    }

    #[test]
    fn one_path_that_failed_is_an_error_of_the_request() {
        let entries = r#"[{"path":"/a"},{"path":"/b","error":{"message":"no","kind":"permission-denied"}},
            {"path":"/c","error":{"message":"no","kind":"not-found"}}]"#;
        let done = |entries| all_done(serde_json::from_str(entries).expect("entries"));
        let Err(PebbleError::Path(error)) = done(entries) else { panic!("it failed") };
        assert_eq!((error.path, error.kind), ("/b".into(), PathErrorKind::Other));
        assert!(done(r#"[{"path":"/a"}]"#).is_ok());
    }

    #[test]
    fn debug_output_contains_no_content() {
        let file =
            File { path: Path::new("/a"), content: b"secret", mode: 0o40, user: "u", group: "g" };
        let shown = format!("{file:?}");
        assert_eq!(
            shown,
            r#"File { path: "/a", content: ‹6 bytes›, mode: 040, user: "u", group: "g" }"#
        );
    }

    #[test]
    fn a_path_that_is_not_utf_8_is_refused() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let path = Path::new(OsStr::from_bytes(b"/\xff"));
        let refused = Pebble::new("/nonexistent".into()).remove(&[path]);
        assert!(matches!(refused, Err(PebbleError::Path(_))), "{refused:?}");
    }
}
