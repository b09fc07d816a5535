//! Checks that `docs/settings.md` matches the table of settings;
//! `UPDATE_DOCS=1 cargo test --test settings` regenerates it.

use std::fmt::Write as _;

use pgbouncer_k8s::pgbouncer::Version;
use pgbouncer_k8s::pgbouncer::layers::{OURS, reserved};
use pgbouncer_k8s::pgbouncer::settings::{Change, Initial, Kind, Section, Setting, TABLE};

const HEAD: &str = "\
# The settings of PgBouncer

Generated from the table in `src/pgbouncer/settings.rs` and from the charm's own values by
`UPDATE_DOCS=1 cargo test --test settings`.

`pgbouncer-k8s check FILE --for 1.24` checks a file against these tables. *From* is the first
version that knows the setting. An older version refuses to start with it, and on a reload applies
only a part of the file. No setting of 1.18 was removed up to 1.25.

*A change* says what applies a new value:

- **reload**: a reload, at once;
- **reconnect**: a reload, but open server connections keep the old value until `RECONNECT`;
- **restart**: only a new process; a reload silently ignores the line.

If the default is *none*, a reload without the line keeps the previous value; only a restart resets
it. The same holds for the line of a user, for `*` in `[databases]`, and for `user` of a database.

*The charm's* is the value that the charm sets instead of the default. **kept** marks a setting that
only the charm sets, for the reasons below the table. The option `pgbouncer-parameters` sets any
other setting, and adds names to `ignore_startup_parameters`.
";

const STRICTER: &str = "
## Where we are stricter than PgBouncer

PgBouncer parses numbers as C does, without ranges. It misreads these values; the charm rejects
them:

";

const REST: &str = "
PgBouncer also accepts numbers out of range: it starts with `listen_port = 70000`, and with
`pkt_buf = 1` every client hangs. In connection strings it reads only the leading digits, so
`port=54x` means 54 and `pool_size=abc` means 0. It reads `unix_socket_mode = 777`, without a
leading 0, as decimal: mode 01411. PgBouncer accepts the words of a list in any case; the charm
accepts them only as written here.

PgBouncer accepts these files; the charm rejects them:

- a duplicate key, database, user or peer: PgBouncer uses the last one;
- `%include`, and so a second `[pgbouncer]`: it resets all settings before it;
- a character other than a space after a closing quote: PgBouncer drops it;
- a NUL byte: PgBouncer stops reading there;
- an invalid line of `*`: the error shows only at the first login;
- a `server_reset_query` with `DISCARD ALL` and another statement: it always fails silently, and
  the next client gets the session of the previous one;
- `<empty>` as `server_check_query` before 1.25, and before 1.22 `server_reset_query_always` with
  transaction pooling and tracked prepared statements: both fail at run time.
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
        Initial::Since(minor, before, after) => {
            format!("{}; before 1.{minor} {}", code(after), code(before))
        }
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

/// The value that the charm sets by default, as a cell of the table.
fn ours(setting: &Setting) -> String {
    if reserved(setting.name).is_some() {
        return "**kept**".into();
    }
    OURS.iter()
        .find(|(name, _)| *name == setting.name)
        .map(|(_, value)| code(value))
        .unwrap_or_default()
}

/// The list of settings that only the charm sets, with the reasons.
fn kept() -> String {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for setting in TABLE.iter().filter(|setting| setting.section == Section::Pgbouncer) {
        let Some(reason) = reserved(setting.name) else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(code(setting.name)),
            None => reasons.push((reason, vec![code(setting.name)])),
        }
    }
    let mut rows = vec![row(["reason", "settings"])];
    rows.extend(reasons.iter().map(|(reason, names)| row([reason, &names.join(", ")])));
    format!("\nOnly the charm sets these settings:\n\n{}", table(&rows))
}

/// Renders a Markdown table with aligned columns.
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
        let mut rows =
            vec![row(["name", "takes", "default", "the charm's", "from", "a change", "remark"])];
        let settings = || TABLE.iter().filter(|setting| setting.section == section);
        rows.extend(settings().map(|setting| {
            let Version { major, minor, .. } = setting.since;
            let since = format!("{major}.{minor}");
            let [takes, default, ours] = [takes(setting), default(setting), ours(setting)];
            row([
                &code(setting.name),
                &takes,
                &default,
                &ours,
                &since,
                change(setting),
                setting.note,
            ])
        }));
        let is_of_the_process = section == Section::Pgbouncer;
        if !is_of_the_process {
            // Only the charm writes these sections, so it has no value of its own to show.
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
    let mut rows = vec![row(["expected", "value", "PgBouncer reads"])];
    let kinds = [
        ("a whole number", Kind::Int { min: 0, max: 0 }),
        ("seconds", Kind::Time),
        ("0 or 1", Kind::Bool),
    ];
    for (name, kind) in kinds {
        rows.extend(kind.misread().iter().map(|(given, is)| row([name, &code(given), &code(is)])));
    }
    text += &table(&rows);
    text + REST
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the document is in the tree")]
fn the_document_matches_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
    let document = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &document).expect("docs/settings.md can be written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == document, "docs/settings.md is old: UPDATE_DOCS=1 cargo test --test settings");
}
