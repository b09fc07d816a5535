//! `action-*`.

use super::{Bench, Row, fails, misused, prints, silent};
use crate::puppets::script;

#[test]
fn action_tools_fail_outside_of_actions() {
    Bench::new(&["deploy PUPPET", "settle"]).each(
        "puppet/0",
        "runner/jujuc/action-get.go, action-set.go, action-fail.go, action-log.go",
        &[
            fails("action-get", "action-get", "not running an action"),
            fails("action-set", "action-set a=1", "not running an action"),
            fails("action-fail", "action-fail", "not running an action"),
            fails("action-log", "action-log hello", "not running an action"),
            misused("action-log without a message", "action-log", "no message specified"),
            misused("action-get of two", "action-get a b", "unrecognized args: [\"b\"]"),
            misused("action-fail with two", "action-fail a b", "unrecognized args: [\"b\"]"),
            misused(
                "action-set without =",
                "action-set a",
                "argument \"a\" must be of the form key...=value",
            ),
        ],
    );
}

/// Runs the rows in an action with these parameters; returns the action's results.
fn action(parameters: &str, rows: &[Row]) -> String {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    let lines = bench.write_lines("puppet/0", rows);
    script(&bench.sim, "puppet/0", "greet", &format!("cd $JUJU_CHARM_DIR\n{lines}"));
    let printed = bench.command(&format!("run puppet/0 greet {parameters}"));
    let answers = bench.read_answers("puppet/0", rows.len());
    bench.compare("runner/jujuc/action-*.go", rows, &answers);
    printed
}

#[test]
fn parameters_are_read_by_path() {
    let printed = action(
        "deep='{a: {b: [1, 2], c: 1000000}}'",
        &[
            prints("a default of the schema", "action-get who", "world\n"),
            prints(
                "all, json",
                "action-get --format=json",
                "{\"deep\":{\"a\":{\"b\":[1,2],\"c\":1000000}},\"who\":\"world\"}\n",
            ),
            prints("a path", "action-get deep.a.b --format=json", "[1,2]\n"),
            prints("a map", "action-get deep", "a:\n  b:\n  - 1\n  - 2\n  c: 1e+06\n"),
            silent("missing", "action-get deep.none"),
            prints("missing, json", "action-get none.at.all --format=json", "null\n"),
            silent("below a text", "action-get who.is"),
            misused("no relation by default", "relation-get", "no relation id specified"),
            prints("no remote unit", "echo ${JUJU_REMOTE_UNIT-unset}", "unset\n"),
        ],
    );
    assert_eq!(printed, "return-code: 0\n");
}

#[test]
fn results_are_nested() {
    let printed = action(
        "",
        &[
            silent("set", "action-set said.to=you count=1 'text=a b=c' empty="),
            silent("a later one holds", "action-set count=2"),
            silent("a map for a text", "action-set text.is=map"),
            silent("a text for a map", "action-set said=nothing"),
            misused("reserved", "action-set stdout=1", "cannot set reserved action key \"stdout\""),
            misused(
                "reserved below",
                "action-set a.stderr-encoding=1",
                "cannot set reserved action key \"stderr-encoding\"",
            ),
            misused(
                "a bad key",
                "action-set a.B=1",
                "key \"B\" must start and end with lowercase alphanumeric, and contain only lowercase alphanumeric, hyphens and periods",
            ),
            misused(
                "an empty key",
                "action-set =1",
                "key \"\" must start and end with lowercase alphanumeric, and contain only lowercase alphanumeric, hyphens and periods",
            ),
            silent("a bad argument sets nothing", "action-set bad=1 B=2 2>/dev/null || true"),
        ],
    );
    assert_eq!(printed, "count: 2\nempty: \nsaid: nothing\ntext.is: map\nreturn-code: 0\n");
}

#[test]
fn juju_exec_is_an_action_on_juju_4() {
    let mut bench = Bench::of("4.0.15", &["deploy PUPPET", "settle"]);
    let lines = [
        ("echo $JUJU_ACTION_NAME $JUJU_ACTION_UUID $JUJU_ACTION_TAG", "juju-exec 1 action-1\n"),
        ("action-get --format=json timeout", "0\n"),
        ("action-get command | grep -c '^sh '", "1\n"),
        ("action-set a.b=1; action-log said", ""),
    ];
    for (line, expected) in lines {
        assert_eq!(bench.output("puppet/0", line), expected, "{line}");
    }
    let run = bench.sim.model().hook_runs().last().expect("a run");
    assert_eq!(run.results.get("a.b").map(String::as_str), Some("1"));
    let error =
        bench.sim.run("exec puppet/0 -- sh -c 'secret-add --label top key=1; action-fail no'");
    let error = error.expect_err("it fails").to_string();
    assert!(error.ends_with("action failed: no"), "{error}");
    assert!(bench.sim.model().secret("top").is_some(), "its effects are committed");
    let mut older = Bench::new(&["deploy PUPPET", "settle"]);
    let row = fails("3.6", "action-get", "not running an action");
    older.each("puppet/0", "runner/jujuc/action-get.go", &[row]);
}

#[test]
fn an_action_fails_by_action_fail_or_its_exit_code() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    let mut run = |lines: &str| {
        script(&bench.sim, "puppet/0", "greet", lines);
        let printed = bench.command("run puppet/0 greet");
        let kept = bench.output("puppet/0", "state-get kept; state-delete kept");
        (printed, kept)
    };
    assert_eq!(
        run("action-set a=1\nstate-set kept=1\necho hello\naction-fail 'no time'\nexit 0"),
        (
            "a: 1\nreturn-code: 0\nstdout: |\n  hello\naction failed: no time\n".to_owned(),
            "1\n".to_owned()
        ),
        "L16: what it wrote is kept"
    );
    assert_eq!(
        run("action-set a=1\nstate-set kept=1\nexit 3"),
        ("a: 1\nreturn-code: 3\naction failed: exit status 3\n".to_owned(), String::new()),
        "results are sent even so"
    );
    let (printed, _) = run("action-fail");
    assert!(
        printed.contains(
            "action failed: action failed without reason given, check action for errors\n"
        ),
        "{printed}"
    );
    let (printed, _) = run("secret-set 0123456789abcdefghij --label x");
    assert!(
        printed.contains("return-code: 1\n")
            && printed.contains("committing requested changes failed"),
        "{printed}"
    );
    script(&bench.sim, "puppet/0", "greet", "action-log half way");
    bench.command("run puppet/0 greet");
    assert_eq!(bench.sim.model().hook_runs().last().expect("a run").log, ["ACTION half way"]);
}
