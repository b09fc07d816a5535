//! Leadership, configuration, status, logs, state.

use super::{Bench, fails, fails_with, misused, prints, silent};
use crate::puppets::{model, run, script};

#[test]
fn is_leader_reports_leadership() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    bench.each(
        "puppet/0",
        "runner/jujuc/is-leader.go",
        &[
            prints("leader", "is-leader", "True\n"),
            prints("leader, json", "is-leader --format=json", "true\n"),
            prints("leader, yaml", "is-leader --format=yaml", "true\n"),
            misused("arguments", "is-leader a", "unrecognized args: [\"a\"]"),
        ],
    );
    bench.each(
        "puppet/1",
        "runner/jujuc/is-leader.go",
        &[
            prints("follower", "is-leader", "False\n"),
            prints("follower, json", "is-leader --format=json", "false\n"),
        ],
    );
}

#[test]
fn configuration_is_typed() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    bench.each(
        "puppet/0",
        "runner/jujuc/config-get.go",
        &[
            prints("no key: options with a value", "config-get", "expose: true\nport: 6432\n"),
            prints("no key, json", "config-get --format=json", "{\"expose\":true,\"port\":6432}\n"),
            prints(
                "--all",
                "config-get --all --format=json",
                "{\"expose\":true,\"label\":null,\"limit\":null,\"port\":6432,\"ratio\":null,\"token\":null}\n",
            ),
            prints("-a", "config-get -a | grep -c null", "4\n"),
            prints("a number", "config-get port", "6432\n"),
            prints("a number, json", "config-get port --format=json", "6432\n"),
            prints("a boolean", "config-get expose", "True\n"),
            prints("a boolean, json", "config-get expose --format=json", "true\n"),
            silent("no value", "config-get label"),
            prints("no value, json", "config-get label --format=json", "null\n"),
            silent("unknown", "config-get none"),
            prints("unknown, json", "config-get none --format=json", "null\n"),
            misused("--all and a key", "config-get --all port", "cannot use argument --all together with key \"port\""),
            misused("two keys", "config-get a b", "unrecognized args: [\"b\"]"),
        ],
    );
    bench.command(
        "config puppet limit=1000000 ratio=1.5 label='a: b' token=secret:0123456789abcdefghij",
    );
    bench.each(
        "puppet/0",
        "runner/jujuc/config-get.go, juju/cmd output.go",
        &[
            prints("a million", "config-get limit", "1e+06\n"),
            prints("a million, yaml", "config-get limit --format=yaml", "1e+06\n"),
            prints("a million, json", "config-get limit --format=json", "1000000\n"),
            prints("a float", "config-get ratio --format=json", "1.5\n"),
            prints("text", "config-get label", "a: b\n"),
            prints("text, yaml", "config-get label --format=yaml", "'a: b'\n"),
            prints("a secret's URI", "config-get token --format=json", "\"secret:0123456789abcdefghij\"\n"),
            prints(
                "all, yaml",
                "config-get --format=yaml",
                "expose: true\nlabel: 'a: b'\nlimit: 1e+06\nport: 6432\nratio: 1.5\ntoken: secret:0123456789abcdefghij\n",
            ),
        ],
    );
    bench.command("config puppet limit=2345678 ratio=3");
    bench.each(
        "puppet/0",
        "juju/cmd output.go",
        &[
            prints("more than a million", "config-get limit", "2.345678e+06\n"),
            prints("a whole float", "config-get ratio --format=json", "3\n"),
        ],
    );
}

#[test]
fn a_status_is_set_at_once() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    bench.each(
        "puppet/0",
        "runner/jujuc/status-set.go, status-get.go",
        &[
            misused("no args", "status-set", "invalid args, require <status> [message]"),
            misused(
                "bad status",
                "status-set bad",
                "invalid status \"bad\", expected one of [maintenance blocked waiting active]",
            ),
            misused("three args", "status-set active a b", "unrecognized args: [\"b\"]"),
            silent("a message that begins with a dash", "status-set active -- -x"),
            prints("status-get", "status-get", "active\n"),
            prints("status-get, json", "status-get --format=json", "{\"status\":\"active\"}\n"),
            prints("status-get, yaml", "status-get --format=yaml", "status: active\n"),
            prints(
                "--include-data, json",
                "status-get --include-data --format=json",
                "{\"message\":\"-x\",\"status\":\"active\",\"status-data\":{}}\n",
            ),
            prints("--include-data", "status-get --include-data", "message: -x\nstatus: active\nstatus-data: {}\n"),
            silent("--application=False is the unit", "status-set --application=False waiting for"),
            prints(
                "--application=false is the unit",
                "status-get --include-data --format=json --application=false",
                "{\"message\":\"for\",\"status\":\"waiting\",\"status-data\":{}}\n",
            ),
            silent("every spelling of no", "for no in 0 f F FALSE false False; do status-set --application=$no active || exit; done"),
            silent("every spelling of yes", "for yes in 1 t T TRUE true True; do status-set --application=$yes blocked b || exit; done"),
            misused(
                "no boolean",
                "status-set --application=no active",
                "invalid value \"no\" for option --application: strconv.ParseBool: parsing \"no\": invalid syntax",
            ),
            prints("--application is another status", "status-get", "active\n"),
            misused("arguments", "status-get a", "unrecognized args: [\"a\"]"),
        ],
    );
    bench.each(
        "puppet/1",
        "runner/jujuc/status-set.go, status-get.go",
        &[
            fails(
                "--application, follower",
                "status-set --application active",
                "this unit is not the leader",
            ),
            silent("--application=False, follower", "status-set --application=False active"),
            fails(
                "status-get --application, follower",
                "status-get --application",
                "finding application status: this unit is not the leader",
            ),
        ],
    );
}

#[test]
fn an_application_s_status_comes_with_its_units() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    bench.output("puppet/0", "status-set active up");
    bench.output("puppet/1", "status-set waiting soon");
    bench.each(
        "puppet/0",
        "runner/jujuc/status-get.go, core/status",
        &[
            prints("--application: the word", "status-get --application", "waiting\n"),
            prints(
                "--application, json",
                "status-get --application --format=json",
                "{\"application-status\":{\"status\":\"waiting\",\"units\":{\"puppet/0\":{\"status\":\"active\"},\"puppet/1\":{\"status\":\"waiting\"}}}}\n",
            ),
            prints(
                "--application --include-data, json: the gravest of the units'",
                "status-get --application --include-data --format=json",
                "{\"application-status\":{\"message\":\"soon\",\"status\":\"waiting\",\"status-data\":{},\"units\":{\"puppet/0\":{\"message\":\"up\",\"status\":\"active\",\"status-data\":{}},\"puppet/1\":{\"message\":\"soon\",\"status\":\"waiting\",\"status-data\":{}}}}}\n",
            ),
            prints(
                "what the leader set holds",
                "status-set --application active all; status-get --application --include-data | head -3",
                "application-status:\n  message: all\n  status: active\n",
            ),
        ],
    );
}

#[test]
fn the_status_is_read_once_a_hook() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    bench.together(
        "puppet/0",
        "runner/context/context.go",
        &[
            prints("before", "status-get", "unknown\n"),
            silent("set", "status-set blocked"),
            prints("the old one", "status-get", "unknown\n"),
        ],
    );
    bench.each(
        "puppet/0",
        "runner/context/context.go",
        &[prints("in the next hook", "status-get", "blocked\n")],
    );
    let mut fresh = Bench::new(&["deploy PUPPET -n 2", "settle", "add-unit puppet"]);
    fresh.within(
        "puppet/2",
        "install",
        "settle",
        "uniter/operation callbacks",
        &[prints(
            "before any set",
            "status-get --include-data --format=json",
            "{\"message\":\"installing charm software\",\"status\":\"maintenance\",\"status-data\":{}}\n",
        )],
    );
}

#[test]
fn the_version_is_set_by_any_unit() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    bench.each(
        "puppet/1",
        "runner/jujuc/application-version-set.go",
        &[
            misused("none", "application-version-set", "no version specified"),
            misused("two", "application-version-set 1 2", "unrecognized args: [\"2\"]"),
            silent("one", "application-version-set -- 1.2.3"),
        ],
    );
    assert!(bench.command("status").contains("1.2.3"));
}

#[test]
fn log_lines_have_a_level() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    let misuse = misused("no message", "juju-log", "no message specified");
    bench.each("puppet/0", "runner/jujuc/juju-log.go", &[misuse]);
    let rows: [(&str, &[&str]); 8] = [
        ("juju-log a  b 'c d'", &["INFO a b c d"]),
        ("juju-log --debug hello", &["DEBUG hello"]),
        ("juju-log -l WARNING hello", &["WARNING hello"]),
        ("juju-log --log-level error -- -x", &["ERROR -x"]),
        ("juju-log --log-level=Trace hello", &["TRACE hello"]),
        ("juju-log -l warn hello", &["WARNING hello"]),
        (
            "juju-log -l LOUD hello",
            &["WARNING Specified log level of \"LOUD\" is not valid", "INFO hello"],
        ),
        ("juju-log '  '", &["INFO   "]),
    ];
    for (line, log) in rows {
        assert_eq!(bench.output("puppet/0", line), "", "{line}");
        assert_eq!(bench.sim.model().hook_runs().last().expect("a run").log, log, "{line}");
    }
    script(&bench.sim, "puppet/0", "peers-relation-changed", "juju-log hello");
    bench.output("puppet/1", "relation-set -r 0 a=1");
    bench.command("settle");
    let runs = bench.sim.model().hook_runs();
    let log = &runs.iter().rfind(|run| run.unit == "puppet/0").expect("a run").log;
    assert_eq!(*log, ["INFO peers:0: hello"], "in a relation hook the line names the relation");
}

#[test]
fn a_process_left_by_a_hook_does_not_delay_it() {
    let mut sim = model(&["deploy PUPPET"]);
    let talker =
        "(while [ -e $root/etc/talks ]; do echo tick; sleep 0.02; done; echo $? > $root/etc/end) &";
    script(&sim, "puppet/0", "install", talker);
    let talks = sim.model().unit_root("puppet/0").expect("a unit").join("etc/talks");
    std::fs::write(&talks, "").expect("a file");
    run(&mut sim, "settle");
    let install = &sim.model().hook_runs()[0];
    assert_eq!((install.hook.as_str(), &install.exit), ("install", &jujusim::Exit::Success));
    assert!(install.log.contains(&"DEBUG tick".to_owned()), "{:?}", install.log);
    assert!(!talks.with_file_name("end").exists());
    std::fs::remove_file(talks).expect("it is there");
}

#[test]
fn each_unit_has_its_own_state() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    bench.each(
        "puppet/0",
        "runner/jujuc/state-get.go, state-set.go, state-delete.go, core/quota",
        &[
            prints("nothing stored, json", "state-get --format=json", "null\n"),
            prints("nothing stored", "state-get", "{}\n"),
            silent("k= stores the empty text", "state-set a=1 b="),
            prints("all, json", "state-get --format=json", "{\"a\":\"1\",\"b\":\"\"}\n"),
            prints("all", "state-get -", "a: \"1\"\nb: \"\"\n"),
            prints("a key", "state-get a", "1\n"),
            silent("missing key", "state-get none"),
            prints("missing key, json", "state-get none --format=json", "\"\"\n"),
            fails("missing key, --strict", "state-get --strict none", "\"none\" not found"),
            prints(
                "a file; arguments win",
                "printf 'c: 1.50\\nd: x' | state-set --file - d=y; state-get c; state-get d",
                "1.50\ny\n",
            ),
            misused(
                "the same key twice",
                "state-set a=1 a=2",
                "key \"a\" specified more than once",
            ),
            misused("no =", "state-set a", "expected \"key=value\", got \"a\""),
            fails(
                "a list",
                "echo '{a: []}' | state-set --file -",
                "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!seq into string",
            ),
            silent("state-delete", "state-delete a"),
            silent("state-delete of what is not there", "state-delete none"),
            prints("deleted", "state-get a --format=json", "\"\"\n"),
            silent(
                "a key of 256 bytes",
                "state-set $(printf '%0256d' 1)=x; state-delete $(printf '%0256d' 1)",
            ),
            fails(
                "a key of 257 bytes",
                "state-set $(printf '%0257d' 1)=x",
                "max allowed key length (256) exceeded",
            ),
            silent("a value of 64 KiB", "state-set v=$(printf '%065536d' 1); state-delete v"),
            fails(
                "a value of more",
                "state-set v=$(printf '%065537d' 1)",
                "max allowed value length (65536) exceeded",
            ),
            fails_with(
                "no such file",
                "state-set --file none",
                "charm/none: no such file or directory\n",
            ),
        ],
    );
    bench.each(
        "puppet/1",
        "runner/jujuc/state-get.go",
        &[prints("another unit's", "state-get --format=json", "null\n")],
    );
    bench.together(
        "puppet/0",
        "runner/context/context.go",
        &[
            silent("write", "state-set e=1"),
            prints("own writes are seen", "state-get e", "1\n"),
            silent("delete", "state-delete e"),
            silent("and missed", "state-get e"),
        ],
    );
    let why = bench
        .refusal("puppet/0", "for n in $(seq 33); do state-set v$n=$(printf '%065500d' 1); done");
    assert!(why.contains("2097152"), "the whole of it is counted at the commit: {why}");
    bench.each(
        "puppet/0",
        "controller/config.go",
        &[silent("and nothing is kept", "state-get v1")],
    );
}

#[test]
fn leader_settings_are_read_by_all() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    bench.each(
        "puppet/0",
        "runner/jujuc/leader-get.go, leader-set.go",
        &[
            prints("nothing set", "leader-get", "{}\n"),
            silent("set", "leader-set a=1 b=2"),
            prints("a key", "leader-get a", "1\n"),
            prints("all", "leader-get -", "a: \"1\"\nb: \"2\"\n"),
            silent("empty deletes", "leader-set b="),
            prints("missing, json", "leader-get b --format=json", "null\n"),
            misused("no key", "leader-get a=1", "invalid key \"a=1\""),
            misused(
                "the same key twice",
                "leader-set a=1 a=2",
                "key \"a\" specified more than once",
            ),
            prints("at once, whatever the hook returns", "leader-set a=2; leader-get a", "2\n"),
        ],
    );
    bench.each(
        "puppet/1",
        "runner/jujuc/leader-get.go, leader-set.go",
        &[
            prints("a follower reads", "leader-get a", "2\n"),
            fails(
                "a follower does not write",
                "leader-set a=3",
                "cannot write leadership settings: cannot write settings: not the leader",
            ),
        ],
    );
    let (code, _, _) = bench.call("puppet/0", "leader-set a=4; exit 1");
    assert_eq!(code, 1);
    bench.each(
        "puppet/1",
        "runner/jujuc/leader-set.go",
        &[prints("a failed hook's stays", "leader-get a", "4\n")],
    );
}

#[test]
fn a_former_leader_is_refused_at_once_or_at_the_commit() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    bench.secret("puppet/0", "ID", "secret-add --label top password=one");
    bench.command("at puppet/0 juju-log do leader puppet/1");
    bench.within(
        "puppet/0",
        "update-status",
        "trigger puppet/0 update-status",
        "runner/context/context.go",
        &[
            silent("the lease moves", "juju-log now"),
            prints("L3: is-leader", "is-leader", "False\n"),
            fails(
                "relation-set --app",
                "relation-set -r 0 --app a=1",
                "cannot write relation settings",
            ),
            fails(
                "status-set --application",
                "status-set --application active",
                "this unit is not the leader",
            ),
            fails("secret-add", "secret-add password=one", "this unit is not the leader"),
            fails(
                "secret-set of a secret it knew",
                "secret-set %ID% password=two",
                "this unit is not the leader",
            ),
            fails("secret-remove", "secret-remove %ID%", "this unit is not the leader"),
            fails("secret-grant", "secret-grant %ID% -r 0", "this unit is not the leader"),
            fails(
                "secret-revoke",
                "secret-revoke %ID% --app puppet",
                "this unit is not the leader",
            ),
            prints(
                "its metadata is what it was",
                "secret-info-get --label top | grep -c 'revision: 1'",
                "1\n",
            ),
        ],
    );
    // Leadership is lost after the last tool: the commit fails. Secrets, which are checked one by
    // one, fail first (uniter.go).
    bench.command("leader puppet/0");
    bench.command("settle");
    for (lines, why) in [
        ("relation-set -r 0 --app a=1", "cannot write relation settings: not the leader"),
        (
            "secret-set %ID% password=two",
            "updating secrets: \"puppet/0\" is not leader of \"puppet\"",
        ),
    ] {
        bench.command("at puppet/0 commit do leader puppet/1");
        let lines = bench.filled(lines);
        crate::puppets::script(
            &bench.sim,
            "puppet/0",
            "update-status",
            &format!("{lines}; rm $root/etc/update-status"),
        );
        bench.command("trigger puppet/0 update-status");
        bench.command("step --unit puppet/0");
        let run = bench.sim.model().hook_runs().last().expect("a run");
        assert_eq!(run.exit, jujusim::Exit::Refused(why.to_owned()), "L2: {lines}");
        bench.command("leader puppet/0");
        bench.command("settle");
    }
}
