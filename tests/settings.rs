//! `docs/settings.md` is the table of settings: `UPDATE_DOCS=1 cargo test --test settings` writes it.

use std::fmt::Write as _;

use pgbouncer_k8s::pgbouncer::Version;
use pgbouncer_k8s::pgbouncer::layers::{OURS, reserved};
use pgbouncer_k8s::pgbouncer::settings::{Change, Initial, Kind, Section, Setting, TABLE};

const HEAD: &str = "\
# The settings of PgBouncer

Written from the table in `src/pgbouncer/settings.rs`, and from what the charm sets and keeps to itself, by
`UPDATE_DOCS=1 cargo test --test settings`.

`pgbouncer-k8s check FILE --for 1.24` judges a file by these tables. *From* is the first version that knows
the name: an older one refuses to start with it, and on a reload applies half of the file. Nothing that
1.18 knows was taken away up to 1.25.

*A change* tells what takes a new value over:

- **reload**: a reload does, at once;
- **reconnect**: a reload does, but server connections that are open keep the old value until `RECONNECT`;
- **restart**: only a new process does; a reload ignores the line and says nothing.

Where the default is *none*, taking the line away and reloading keeps the value that it had; only a
restart forgets it. The same holds for the whole line of a user, for `*` in `[databases]` and for `user` of
a database.

*The charm's* is what the charm sets instead of the default. **kept** is what it decides alone, for the reasons below the
table; anything else the option `pgbouncer-parameters` may set, and to `ignore_startup_parameters` it adds.
";

const STRICTER: &str = "
## Where we are stricter than PgBouncer

PgBouncer reads numbers as C does and has no ranges. These it takes, for something else than they seem, and
we refuse them:

";

const REST: &str = "
A number out of its range it takes too: `listen_port = 70000` starts, with `pkt_buf = 1` every client hangs. In
connection strings it reads the digits at the beginning, so that `port=54x` is 54 and `pool_size=abc` is 0.
`unix_socket_mode = 777`, without a leading 0, is decimal to it: mode 01411.
Words of a list it takes in any case; we take them as they stand here.

Of the file we refuse, and PgBouncer takes:

- a key, database, user or peer given twice: the last one would win;
- `%include`, and with it a second `[pgbouncer]`, which would reset all settings before it;
- a byte after a closing quote that is no space: it would vanish;
- a NUL byte, where PgBouncer would stop reading;
- a fault in the line of `*`: it would show at the first login;
- a `server_reset_query` of `DISCARD ALL` and anything else: it would fail in silence, every time, and hand the
  session of one client to the next;
- `<empty>` as `server_check_query` before 1.25, and before 1.22 the combination of
  `server_reset_query_always`, transaction pooling and tracked prepared statements: both fail at run time.
";

fn change(setting: &Setting) -> &'static str {
    match setting.change {
        Change::Reload => "reload",
        Change::Reconnect => "reconnect",
        Change::Restart => "restart",
    }
}

fn code(text: &str) -> String {
    if text.is_empty() { "empty".into() } else { format!("`{text}`") }
}

fn default(setting: &Setting) -> String {
    match setting.initial {
        Initial::Null => "none".into(),
        Initial::Is(value) if value.len() > 40 => "below".into(),
        Initial::Is(value) => code(value),
        Initial::Since(minor, before, after) => format!("{}; before 1.{minor} {}", code(after), code(before)),
        Initial::Of(other) => format!("that of {other}"),
    }
}

fn takes(setting: &Setting) -> String {
    let kind = setting.kind.to_string();
    match setting.unit {
        "" => kind,
        unit => format!("{kind} ({unit})"),
    }
}

/// What the charm makes of it where nobody has chosen.
fn ours(setting: &Setting) -> String {
    if reserved(setting.name).is_some() {
        return "**kept**".into();
    }
    OURS.iter().find(|(name, _)| *name == setting.name).map(|(_, value)| code(value)).unwrap_or_default()
}

/// Why the charm keeps settings to itself, with their names.
fn kept() -> String {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for setting in TABLE.iter().filter(|setting| setting.section == Section::Pgbouncer) {
        let Some(reason) = reserved(setting.name) else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(code(setting.name)),
            None => reasons.push((reason, vec![code(setting.name)])),
        }
    }
    let lines = reasons.iter().map(|(reason, names)| format!("- {}: {reason}\n", names.join(", ")));
    format!("\nWhat the charm keeps to itself, and why:\n\n{}", lines.collect::<String>())
}

/// A table whose columns are aligned, as its header is.
fn table(rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            write!(text, "| {cell:width$} ").expect("a String grows");
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                write!(text, "| {} ", "-".repeat(*width)).expect("a String grows");
            }
            text.push_str("|\n");
        }
    }
    text
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn document() -> String {
    let mut text = String::from(HEAD);
    for section in [Section::Pgbouncer, Section::Databases, Section::Users, Section::Peers] {
        let mut rows = vec![row(["name", "takes", "default", "the charm's", "from", "a change", "remark"])];
        let settings = || TABLE.iter().filter(|setting| setting.section == section);
        rows.extend(settings().map(|setting| {
            let Version { major, minor, .. } = setting.since;
            let since = format!("{major}.{minor}");
            let [takes, default, ours] = [takes(setting), default(setting), ours(setting)];
            row([&code(setting.name), &takes, &default, &ours, &since, change(setting), setting.note])
        }));
        let is_of_the_process = section == Section::Pgbouncer;
        if !is_of_the_process {
            // The charm writes these sections alone.
            for row in &mut rows {
                row.remove(3);
            }
        }
        write!(text, "\n## [{section}]\n\n{}", table(&rows)).expect("a String grows");
        if is_of_the_process {
            text += &kept();
        }
        for setting in settings() {
            if let Initial::Is(value) = setting.initial
                && value.len() > 40
            {
                write!(text, "\nThe default of `{}`:\n\n```\n{value}\n```\n", setting.name)
                    .expect("a String grows");
            }
        }
    }
    text += STRICTER;
    let mut rows = vec![row(["we want", "given", "is to PgBouncer"])];
    let kinds =
        [("a whole number", Kind::Int { min: 0, max: 0 }), ("seconds", Kind::Time), ("0 or 1", Kind::Bool)];
    for (name, kind) in kinds {
        rows.extend(kind.misread().iter().map(|(given, is)| row([name, &code(given), &code(is)])));
    }
    text += &table(&rows);
    text + REST
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the document is in the tree")]
fn the_document_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
    let document = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &document).expect("docs/settings.md can be written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == document, "docs/settings.md is old: UPDATE_DOCS=1 cargo test --test settings");
}
