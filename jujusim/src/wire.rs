//! A hook tool's call as `hook-tool.rs` sends it over the unit agent's socket, and the answer.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::tools::{Answer, Request};

/// The program that every hook tool is a link to.
pub(crate) const HOOK_TOOL: &str = env!("JUJUSIM_HOOK_TOOL");

/// In place of the exit code: the tool sends its call again, with standard input.
const WANTS_STDIN: u8 = 255;

/// Reads a call: the number of arguments, the context, the working directory, the arguments, and
/// after `<` standard input. The inner error is for the caller.
pub(crate) fn receive(mut stream: &UnixStream) -> io::Result<Result<Request, String>> {
    let mut count = [0; 4];
    stream.read_exact(&mut count)?;
    let mut call = Vec::new();
    stream.read_to_end(&mut call)?;
    let count = usize::try_from(u32::from_le_bytes(count)).map_err(io::Error::other)? + 2;
    let mut parts = call.splitn(count + 1, |byte| *byte == 0);
    let texts: Vec<&[u8]> = parts.by_ref().take(count).collect();
    let ([context, dir, name, args @ ..], Some(rest)) = (&*texts, parts.next()) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    Ok(request(context, dir, name, args, rest))
}

fn request(
    context: &[u8],
    dir: &[u8],
    name: &[u8],
    args: &[&[u8]],
    rest: &[u8],
) -> Result<Request, String> {
    let lossy = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let arg = |arg: &&[u8]| {
        String::from_utf8(arg.to_vec())
            .map_err(|_| format!("jujusim does not model the argument {}: not UTF-8", lossy(arg)))
    };
    let stdin = rest.strip_prefix(b"<").map(|stdin| {
        String::from_utf8(stdin.to_vec())
            .map_err(|_| "jujusim does not model standard input that is not UTF-8")
    });
    let name = lossy(name);
    Ok(Request {
        context: lossy(context),
        dir: lossy(dir),
        command: Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        args: args.iter().map(arg).collect::<Result<_, _>>()?,
        stdin: stdin.transpose()?,
    })
}

/// Sends the exit code, the length of standard output, standard output, and standard error.
pub(crate) fn answer(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    let code =
        if answer.wants_stdin { WANTS_STDIN } else { u8::try_from(answer.code).unwrap_or(1) };
    let length = u32::try_from(answer.stdout.len()).map_err(io::Error::other)?;
    let head = [&[code], &length.to_le_bytes()[..]].concat();
    stream.write_all(&[&head, answer.stdout.as_bytes(), answer.stderr.as_bytes()].concat())
}
