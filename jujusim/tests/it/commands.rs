//! The table of commands: help, README, unknown commands; and commands that are typed by hand.

use std::fs;
use std::process::{Command, Output};

use crate::puppets::{model, run};

#[test]
fn the_readme_lists_all_commands() {
    let readme = include_str!("../../README.md");
    let start = readme.find("| command | what it does |").expect("a table of commands");
    let table = readme[start..].split("\n\n").next().expect("a table of commands");
    assert_eq!(format!("{table}\n"), jujusim::commands_table());
}

#[test]
fn help_lists_all_commands_and_describes_one() {
    let mut sim = model(&[]);
    let all = run(&mut sim, "help");
    for command in ["deploy", "settle", "show-unit", "expect-error", "help"] {
        assert!(
            all.lines().any(|line| line.split(' ').next() == Some(command)),
            "{command}:\n{all}"
        );
    }
    assert_eq!(
        run(&mut sim, "help leader"),
        "leader UNIT|--none APP\n  moves the lease; with `--none` no unit has it for a minute\n"
    );
    assert!(sim.run("help nonsense").is_err());
}

#[test]
fn an_unknown_command_is_refused_with_the_most_similar_one() {
    let mut sim = model(&[]);
    for (line, near) in [
        ("stauts", "unknown command \"stauts\": did you mean status?"),
        ("stat", "unknown command \"stat\": did you mean status?"),
        ("addunit puppet", "unknown command \"addunit\": did you mean add-unit?"),
        ("expct nothing", "unknown command \"expct\": did you mean expect?"),
        ("xyzzy", "unknown command \"xyzzy\": help lists all commands"),
    ] {
        assert_eq!(sim.run(line).expect_err(line).to_string(), near);
    }
}

#[test]
fn an_application_is_scaled_up_and_down() {
    let mut sim = model(&["deploy PUPPET", "scale-application puppet 3", "settle"]);
    assert_eq!(sim.model().units_of("puppet").len(), 3);
    run(&mut sim, "scale-application puppet 1");
    run(&mut sim, "settle");
    assert_eq!(sim.model().units_of("puppet"), ["puppet/0".parse().expect("a name")]);
    run(&mut sim, "scale-application puppet 1");
    assert!(
        sim.run("scale-application nobody 1").is_err()
            && sim.run("scale-application puppet x").is_err()
    );
}

#[test]
fn an_application_without_units_is_removed_at_once() {
    let mut sim = model(&[
        "deploy PUPPET",
        "settle",
        "scale-application puppet 0",
        "settle",
        "remove-application puppet",
    ]);
    assert!(sim.model().relations_at("puppet:peers").is_empty());
    run(&mut sim, &format!("deploy {}", crate::puppets::puppet()));
    run(&mut sim, "settle");
    assert_eq!(sim.model().units_of("puppet").len(), 1);
}

#[test]
fn settings_are_applied_all_or_none() {
    let mut sim = model(&["deploy PUPPET"]);
    let before = run(&mut sim, "config puppet");
    assert!(sim.run("config puppet port=7001 nonsense=1 --reset label").is_err());
    assert_eq!(run(&mut sim, "config puppet"), before);
    run(&mut sim, "config puppet port=7001 label=x limit=1");
    assert_ne!(run(&mut sim, "config puppet"), before);
    for (arguments, why) in [
        ("--reset nonsense", "unknown option \"nonsense\""),
        ("--reset port,nonsense", "unknown option \"nonsense\""),
        ("port=1 --reset label,port", "cannot set and reset key \"port\" simultaneously"),
        (
            "--reset port=1",
            "--reset accepts a comma delimited set of keys \"a,b,c\", received: \"port=1\"",
        ),
    ] {
        let error = sim.run(&format!("config puppet {arguments}")).expect_err(arguments);
        assert_eq!(error.to_string(), why);
    }
    run(&mut sim, "config puppet --reset port,label --reset limit");
    assert_eq!(run(&mut sim, "config puppet"), before);
}

/// Every command with names that no one expects, in each place.
#[test]
fn odd_names_are_refused_without_a_panic() {
    let long = "x".repeat(300);
    let odd = [
        "''",
        "' '",
        "'a b'",
        "/",
        "//",
        "a/",
        "/0",
        "a/0/1",
        "a/-1",
        "a/99999999999",
        "../..",
        "é",
        "é/0",
        "a:é",
        ":",
        "::",
        "a:b:c",
        "=",
        "=é",
        "@",
        "@hex:é",
        "k=@hex:é",
        "k=@",
        "-",
        "--",
        "-é",
        "'a\\0b'",
        "'\u{0}'",
        "'\u{1b}[2J'",
        "'\n'",
        &long,
    ];
    let mut sim =
        model(&["deploy PUPPET -n 2", "deploy PUPPET far", "integrate puppet:db far:back"]);
    let table = jujusim::commands_table();
    let commands: Vec<&str> =
        table.lines().filter_map(|row| row.strip_prefix("| `")?.split([' ', '`']).next()).collect();
    assert!(commands.len() > 50, "{commands:?}");
    for command in commands.iter().filter(|command| !RUNS.contains(*command)) {
        for name in odd {
            for arguments in
                ["%", "% %", "puppet %", "puppet/0 %", "puppet/0 % puppet", "puppet:db % a=1"]
            {
                let line = format!("{command} {}", arguments.replace('%', name));
                // Most are refused; a few have a meaning.
                let _ = sim.run(&line);
            }
        }
    }
    run(&mut sim, "status --relations");
    for name in [&long, &"x".repeat(40)] {
        let error =
            sim.run(&format!("deploy {} {name}", crate::puppets::puppet())).expect_err(name);
        assert!(error.to_string().contains("use one of at most"), "{error}");
    }
    run(&mut sim, "status");
}

/// Commands that run hooks or the machine's programs for whatever they are given.
const RUNS: [&str; 4] = ["settle", "step", "wait", "exec"];

#[test]
fn a_too_long_duration_is_refused() {
    let mut sim = model(&[]);
    let error = sim.run("wait 999999999h").expect_err("too long").to_string();
    assert_eq!(error, "invalid duration \"999999999h\"; write 90s, 5m or 30d");
}

#[test]
fn a_status_is_derived_from_the_units_until_the_charm_sets_one() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    let app = |sim: &mut jujusim::Sim| {
        let status = run(sim, "status --format json");
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let shown = &status["applications"]["puppet"]["application-status"];
        (shown["current"].as_str().unwrap_or_default().to_owned(), shown["message"].clone())
    };
    assert_eq!(app(&mut sim).0, "unknown");
    run(&mut sim, "exec puppet/0 -- status-set active");
    run(&mut sim, "exec puppet/1 -- status-set waiting later");
    assert_eq!(app(&mut sim), ("waiting".to_owned(), "later".into()));
    run(&mut sim, "exec puppet/0 -- status-set --application blocked enough");
    assert_eq!(app(&mut sim), ("blocked".to_owned(), "enough".into()));
}

#[test]
fn tables_look_like_jujus() {
    let mut sim = model(&["deploy PUPPET -n 2", "step --unit puppet/0"]);
    let status = run(&mut sim, "status --relations");
    let headers: Vec<&str> =
        status.split("\n\n").filter_map(|table| table.lines().next()).collect();
    assert_eq!(
        headers
            .iter()
            .map(|header| header.split_whitespace().collect::<Vec<_>>())
            .collect::<Vec<_>>(),
        [
            vec!["Model", "Controller", "Cloud/Region", "Version", "SLA", "Timestamp"],
            vec![
                "App", "Version", "Status", "Scale", "Charm", "Channel", "Rev", "Address",
                "Exposed", "Message"
            ],
            vec!["Unit", "Workload", "Agent", "Address", "Ports", "Message"],
            vec!["Integration", "provider", "Requirer", "Interface", "Type", "Message"],
        ]
    );
    for line in [
        "(peers-relation-created) installing charm software",
        "puppet/1   waiting      allocating",
        "puppet:peers          puppet:peers  puppet_peers  peer  joining",
    ] {
        assert!(status.contains(line), "{line}:\n{status}");
    }
}

#[test]
fn show_unit_shows_hidden_data_in_a_separate_part() {
    let mut sim = model(&[
        "deploy PUPPET -n 2",
        "deploy PUPPET far",
        "integrate puppet:db far:back",
        "settle",
    ]);
    run(&mut sim, "databag puppet:db puppet offered=1");
    run(&mut sim, "databag puppet:db far asked=1");
    run(&mut sim, "exec puppet/0 -- state-set kept=1");
    let shown = run(&mut sim, "show-unit puppet/0");
    let (juju, hidden) = shown.split_once("\nsimulator:\n").expect("a part of its own");
    assert!(
        juju.contains("asked: '1'") && !juju.contains("offered") && !juju.contains("kept"),
        "{juju}"
    );
    assert!(hidden.contains("offered: '1'") && hidden.contains("kept: '1'"), "{hidden}");
    let one: serde_json::Value =
        serde_json::from_str(&run(&mut sim, "show-unit puppet/0 --endpoint db --format json"))
            .expect("JSON");
    let relations = one["puppet/0"]["relation-info"].as_array().expect("relations");
    assert_eq!(relations.len(), 1);
    assert_eq!(relations[0]["related-endpoint"], "back");
    assert_eq!(relations[0]["application-data"]["asked"], "1");
    assert_eq!(relations[0]["related-units"]["far/0"]["in-scope"], true);
    assert_eq!(one["puppet/0"]["provider-id"], "puppet-0");
}

#[test]
fn a_script_is_checked_against_its_transcript_and_accepted() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("small.script");
    fs::write(&script, "status\n").expect("a script");
    let jujusim = |flag: &str| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jujusim"));
        command
            .env_remove("CARGO_PKG_NAME")
            .arg(flag)
            .arg(&script)
            .output()
            .expect("the simulator runs")
    };
    assert!(jujusim("--accept").status.success());
    assert!(jujusim("--check").status.success());
    let transcript = script.with_extension("transcript");
    let changed =
        fs::read_to_string(&transcript).expect("a transcript").replace("kubernetes", "elsewhere ");
    fs::write(&transcript, changed).expect("a transcript");
    let output = jujusim("--check");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for part in [
        "@@ line 3, > status @@",
        "-dev    jujusim     elsewhere",
        "+dev    jujusim     kubernetes",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(text.contains(&format!("jujusim --accept {}", script.display())), "{text}");
}
