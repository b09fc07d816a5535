//! `relation-*`.

use super::{Bench, Row, fails, fails_with, misused, prints, silent};

/// Relations 0 and 1 are the peer relations of `puppet` and of `far`; relation 2 connects the two.
fn related() -> Bench {
    Bench::new(&[
        "deploy PUPPET -n 2",
        "deploy PUPPET far",
        "integrate puppet:db far:back",
        "settle",
    ])
}

#[test]
fn the_relation_is_named_by_its_number() {
    related().each(
        "puppet/0",
        "runner/jujuc/relation-list.go, relation ids",
        &[
            prints("a number", "relation-list -r 2 --format=json", "[\"far/0\"]\n"),
            prints(
                "an endpoint and a number",
                "relation-list -r db:2 --format=json",
                "[\"far/0\"]\n",
            ),
            prints(
                "R22: the endpoint is not looked at",
                "relation-list -r ignored:2 --format=json",
                "[\"far/0\"]\n",
            ),
            prints("up to the last colon", "relation-list -r a:b:2 --format=json", "[\"far/0\"]\n"),
            misused(
                "no default outside of a relation hook",
                "relation-list",
                "no relation id specified",
            ),
            misused(
                "not a number",
                "relation-list -r one",
                "invalid value \"one\" for option -r: invalid relation id",
            ),
            misused(
                "unknown",
                "relation-list -r 99",
                "invalid value \"99\" for option -r: relation not found",
            ),
            misused(
                "unknown, long spelling",
                "relation-list --relation db:99",
                "invalid value \"db:99\" for option --relation: relation not found",
            ),
            misused(
                "not one of this unit's",
                "relation-list -r 1",
                "invalid value \"1\" for option -r: relation not found",
            ),
            misused(
                "relation-set without a relation",
                "relation-set a=1",
                "no relation id specified",
            ),
            misused("relation-get without a relation", "relation-get", "no relation id specified"),
            misused(
                "relation-model-get without a relation",
                "relation-model-get",
                "no relation id specified",
            ),
        ],
    );
}

#[test]
fn relations_and_units_are_listed_sorted_as_text() {
    let mut bench = Bench::new(&["deploy PUPPET -n 11", "settle"]);
    bench.each(
        "puppet/0",
        "runner/jujuc/relation-ids.go, relation-list.go",
        &[
            prints("relation-ids", "relation-ids peers", "peers:0\n"),
            prints("relation-ids, json", "relation-ids peers --format=json", "[\"peers:0\"]\n"),
            misused("relation-ids without a name", "relation-ids", "no endpoint name specified"),
            silent("relation-ids of an unknown endpoint", "relation-ids nothing"),
            prints("relation-ids of an unknown endpoint, json", "relation-ids nothing --format=json", "[]\n"),
            misused("relation-ids of two", "relation-ids a b", "unrecognized args: [\"b\"]"),
            prints(
                "relation-list: as text, without the unit itself",
                "relation-list -r 0 --format=json",
                "[\"puppet/1\",\"puppet/10\",\"puppet/2\",\"puppet/3\",\"puppet/4\",\"puppet/5\",\"puppet/6\",\"puppet/7\",\"puppet/8\",\"puppet/9\"]\n",
            ),
            prints("relation-list, lines", "relation-list -r 0 | head -2", "puppet/1\npuppet/10\n"),
            prints("relation-list --app, peers", "relation-list -r 0 --app --format=json", "\"puppet\"\n"),
            misused("relation-list with arguments", "relation-list -r 0 a", "unrecognized args: [\"a\"]"),
        ],
    );
}

#[test]
fn ids_sort_as_text() {
    // Ten applications have a peer relation each: the eleventh and twelfth relations have two
    // digits.
    let mut bench = Bench::new(&["deploy PUPPET"]);
    for number in 1..=8 {
        bench.command(&format!("deploy PUPPET p{number}"));
    }
    for number in 1..=3 {
        bench.command(&format!("integrate puppet:db p{number}:back"));
    }
    bench.command("settle");
    bench.each(
        "puppet/0",
        "runner/jujuc/relation-ids.go",
        &[
            prints(
                "R19: db:10 before db:9",
                "relation-ids db --format=json",
                "[\"db:10\",\"db:11\",\"db:9\"]\n",
            ),
            prints("relation-list --app", "relation-list -r 10 --app", "p2\n"),
        ],
    );
}

#[test]
fn the_hook_gives_the_defaults() {
    let mut bench = related();
    bench.command("databag puppet:db far mark=app");
    bench.command("settle");
    bench.within(
        "puppet/0",
        "db-relation-changed",
        "databag puppet:db far/0 mark=unit",
        "runner/jujuc/relation-get.go, relation-ids.go",
        &[
            prints("relation-ids: the hook's endpoint", "relation-ids", "db:2\n"),
            prints("relation-list: the hook's relation", "relation-list", "far/0\n"),
            prints("no member: the hook's remote unit", "relation-get mark", "unit\n"),
            prints("--app and no member: its application", "relation-get --app mark", "app\n"),
            prints("another member", "relation-get mark puppet/0 --format=json", "null\n"),
            silent("relation-set: the hook's relation", "relation-set own=1"),
            prints("own writes are seen", "relation-get own puppet/0", "1\n"),
            fails_with(
                "no member of another relation by default",
                "relation-get -r 0 mark",
                "settings not found",
            ),
            prints(
                "relation-model-get: the hook's relation",
                "relation-model-get --format=json",
                "{\"uuid\":\"%UUID%\"}\n",
            ),
        ],
    );
    assert_eq!(bench.sim.model().bag(2, "puppet/0")["own"], "1");
    bench.within(
        "puppet/0",
        "db-relation-changed",
        "databag puppet:db far mark=new",
        "runner/jujuc/relation-get.go, runner/context/context.go",
        &[
            prints(
                "R1: the remote unit is there, and empty",
                "echo \"<${JUJU_REMOTE_UNIT-unset}>\"",
                "<>\n",
            ),
            prints("no remote unit: the remote application", "relation-get mark", "new\n"),
        ],
    );
}

#[test]
fn members_are_the_joined_units() {
    let mut bench = Bench::new(&[
        "deploy PUPPET",
        "deploy PUPPET far",
        "settle",
        "integrate puppet:db far:back",
    ]);
    bench.command("step --unit puppet/0");
    bench.command("step --unit far/0");
    bench.each(
        "puppet/0",
        "uniter/relation/statetracker.go",
        &[
            prints(
                "R11: a unit whose -joined has not run is missing",
                "relation-list -r 2 --format=json",
                "[]\n",
            ),
            prints("R10: peers of one unit", "relation-list -r 0 --format=json", "[]\n"),
        ],
    );
    bench.command("settle");
    let row =
        prints("R11: and is there afterwards", "relation-list -r 2 --format=json", "[\"far/0\"]\n");
    bench.each("puppet/0", "uniter/relation/statetracker.go", &[row]);
}

#[test]
fn relation_get_names_whose_bag_it_reads() {
    let mut bench = related();
    bench.command("databag puppet:db far mark=<1>");
    bench.command("databag puppet:db puppet own=2");
    bench.each(
        "puppet/0",
        "runner/jujuc/relation-get.go",
        &[
            prints("key present", "relation-get -r 2 --app mark far", "<1>\n"),
            prints("key present, json", "relation-get -r 2 --app --format=json mark far", "\"\\u003c1\\u003e\"\n"),
            silent("key missing", "relation-get -r 2 --app none far"),
            prints("key missing, json", "relation-get -r 2 --app --format=json none far", "null\n"),
            prints("all", "relation-get -r 2 --app - far", "mark: <1>\n"),
            prints("all, json", "relation-get -r 2 --app --format=json - far", "{\"mark\":\"\\u003c1\\u003e\"}\n"),
            prints("all of nothing", "relation-get -r 0 --app - puppet", "{}\n"),
            prints("all of nothing, json", "relation-get -r 0 --app --format=json - puppet", "{}\n"),
            prints("--app and a unit", "relation-get -r 2 --app mark far/0", "<1>\n"),
            prints("--app=False", "relation-get -r 2 --app=False --format=json mark far/0", "null\n"),
            misused(
                "an application without --app",
                "relation-get -r 2 - far",
                "expected unit name, got application name \"far\"",
            ),
            misused("neither", "relation-get -r 2 - F", "invalid unit name \"F\""),
            misused("no member and no hook relation", "relation-get -r 2", "no unit or application specified"),
            misused("the same with --app", "relation-get -r 2 --app -", "no unit or application specified"),
            misused("too many", "relation-get -r 2 - far/0 b", "unrecognized args: [\"b\"]"),
            prints("own unit", "relation-get -r 2 ingress-address puppet/0 | grep -c 127", "1\n"),
            prints("own application, leader", "relation-get -r 2 --app own puppet", "2\n"),
            prints("sibling among peers", "relation-get -r 0 ingress-address puppet/1 | grep -c 127", "1\n"),
            prints("sibling elsewhere", "relation-get -r 2 ingress-address puppet/1 | grep -c 127", "1\n"),
            fails_with(
                "a unit that is not there",
                "relation-get -r 2 - far/9",
                "cannot read settings for unit \"far/9\" in relation \"far:back puppet:db\": unit \"far/9\": settings not found\n",
            ),
            prints(
                "relation-model-get",
                "relation-model-get -r 2",
                "uuid: %UUID%\n",
            ),
        ],
    );
    bench.each(
        "puppet/1",
        "apiserver/facades/agent/uniter/uniter.go",
        &[
            fails(
                "R6: own application, follower",
                "relation-get -r 2 --app own puppet",
                "permission denied",
            ),
            prints(
                "own application among peers, follower",
                "relation-get -r 0 --app - puppet",
                "{}\n",
            ),
            prints("remote application, follower", "relation-get -r 2 --app mark far", "<1>\n"),
            fails(
                "R7: relation-set --app, follower",
                "relation-set -r 2 --app a=1",
                "cannot write relation settings",
            ),
            fails(
                "among peers as well",
                "relation-set -r 0 --app a=1",
                "cannot write relation settings",
            ),
        ],
    );
}

#[test]
fn a_hook_sees_its_own_writes_and_one_state_of_the_others() {
    let mut bench = related();
    bench.together(
        "puppet/0",
        "runner/context/relation.go, cache.go",
        &[
            silent("write", "relation-set -r 2 a=1 b=2; relation-set -r 2 --app c=3"),
            prints("own unit bag", "relation-get -r 2 a puppet/0", "1\n"),
            prints("own application bag", "relation-get -r 2 --app - puppet", "c: \"3\"\n"),
            silent("delete", "relation-set -r 2 a= none="),
            prints(
                "a deleted key is absent",
                "relation-get -r 2 --format=json a puppet/0",
                "null\n",
            ),
            prints("the others are kept", "relation-get -r 2 b puppet/0", "2\n"),
        ],
    );
    assert_eq!(bench.sim.model().bag(2, "puppet"), [("c".to_owned(), "3".to_owned())].into());
    bench.command("settle");
    // What a remote unit wrote is visible in a hook for that unit, not before.
    bench.each(
        "puppet/0",
        "runner/context/cache.go",
        &[silent("fetch", "relation-get -r 2 mark far/0")],
    );
    bench.command("databag puppet:db far/0 mark=1");
    bench.command("databag puppet:db far mark=2");
    bench.each(
        "puppet/0",
        "runner/context/cache.go `Prune`",
        &[
            prints(
                "R16: a remote unit's bag stays as fetched",
                "relation-get -r 2 --format=json mark far/0",
                "null\n",
            ),
            prints("a remote application's does not", "relation-get -r 2 --app mark far", "2\n"),
        ],
    );
    bench.command("settle");
    bench.each(
        "puppet/0",
        "runner/context/cache.go `Prune`",
        &[prints("after its -changed", "relation-get -r 2 mark far/0", "1\n")],
    );
}

#[test]
fn bags_have_juju_s_keys_from_the_start() {
    let mut bench = related();
    let address = bench.sim.model().unit_address("puppet/0").expect("a unit").to_string();
    bench.knows("ADDRESS", &address);
    bench.each(
        "puppet/0",
        "state/relationunit.go",
        &[
            prints(
                "R14: a unit bag is never empty",
                "relation-get -r 2 --format=json - puppet/0",
                "{\"egress-subnets\":\"%ADDRESS%/32\",\"ingress-address\":\"%ADDRESS%\",\"private-address\":\"%ADDRESS%\"}\n",
            ),
            prints("application bags begin empty", "relation-get -r 2 --app --format=json - puppet", "{}\n"),
        ],
    );
}

/// Writes, then reads a key of the own databag.
const fn stored(name: &'static str, line: &'static str, json: &'static str) -> Row {
    prints(name, line, json)
}

#[test]
fn relation_set_reads_arguments() {
    related().each(
        "puppet/0",
        "runner/jujuc/relation-set.go, juju/utils keyvalues",
        &[
            stored(
                "R12: trimmed",
                "relation-set -r 0 ' a = x '; relation-get -r 0 --format=json a puppet/0",
                "\"x\"\n",
            ),
            stored("inner blanks stay", "relation-set -r 0 'a=x  y'; relation-get -r 0 a puppet/0", "x  y\n"),
            stored(
                "inner newline stays",
                "relation-set -r 0 'a=x\ny'; relation-get -r 0 --format=json a puppet/0",
                "\"x\\ny\"\n",
            ),
            stored(
                "quotes, =, #, : are literal",
                "relation-set -r 0 'a=\"=#: \\'; relation-get -r 0 a puppet/0",
                "\"=#: \\\n",
            ),
            stored("raw UTF-8", "relation-set -r 0 a=é😀; relation-get -r 0 a puppet/0", "é😀\n"),
            stored(
                "R12: empty deletes",
                "relation-set -r 0 a=; relation-get -r 0 --format=json a puppet/0",
                "null\n",
            ),
            stored(
                "only blanks delete",
                "relation-set -r 0 a=1; relation-set -r 0 'a= '; relation-get -r 0 --format=json a puppet/0",
                "null\n",
            ),
            silent("deleting what is not there", "relation-set -r 0 none="),
            silent("nothing to write", "relation-set -r 0"),
            misused("the same key twice", "relation-set -r 0 a=1 a=2", "key \"a\" specified more than once"),
            misused("no =", "relation-set -r 0 haha", "expected \"key=value\", got \"haha\""),
            misused("no key", "relation-set -r 0 =1", "expected \"key=value\", got \"=1\""),
        ],
    );
}

#[test]
fn relation_set_reads_a_file_as_yaml() {
    related().each(
        "puppet/0",
        "runner/jujuc/relation-set.go, go-yaml v2",
        &[
            stored(
                "JSON from stdin",
                "echo '{\"a\": \"1\"}' | relation-set -r 0 --file -; relation-get -r 0 a puppet/0",
                "1\n",
            ),
            stored("a file, relative to the caller", "echo 'a: two' >f; relation-set -r 0 --file f; relation-get -r 0 a puppet/0", "two\n"),
            stored("arguments win", "echo 'a: file' | relation-set -r 0 --file - a=args; relation-get -r 0 a puppet/0", "args\n"),
            stored("R12: not trimmed", "echo '{\"a\": \" x \"}' | relation-set -r 0 --file -; relation-get -r 0 --format=json a puppet/0", "\" x \"\n"),
            stored("only blanks are kept", "echo '{\"a\": \" \"}' | relation-set -r 0 --file -; relation-get -r 0 --format=json a puppet/0", "\" \"\n"),
            stored("R13: a number keeps its text", "echo '{\"a\": 1.50}' | relation-set -r 0 --file -; relation-get -r 0 a puppet/0", "1.50\n"),
            stored("a large number keeps its text", "echo '{\"a\": 1000000}' | relation-set -r 0 --file -; relation-get -r 0 a puppet/0", "1000000\n"),
            stored("R13: a boolean keeps its text", "echo 'a: True' | relation-set -r 0 --file -; relation-get -r 0 a puppet/0", "True\n"),
            stored("R12: null deletes", "echo '{\"a\": null}' | relation-set -r 0 --file -; relation-get -r 0 --format=json a puppet/0", "null\n"),
            stored("nothing deletes", "relation-set -r 0 a=1; echo 'a:' | relation-set -r 0 --file -; relation-get -r 0 --format=json a puppet/0", "null\n"),
            stored("empty deletes", "relation-set -r 0 a=1; echo 'a: \"\"' | relation-set -r 0 --file -; relation-get -r 0 --format=json a puppet/0", "null\n"),
            stored("only the first document", "printf 'a: one\\n---\\na: two\\n' | relation-set -r 0 --file -; relation-get -r 0 a puppet/0", "one\n"),
            stored("the last --file only", "echo 'b: 1' >f; echo 'a: last' >g; relation-set -r 0 --file f --file g; relation-get -r 0 --format=json b puppet/0; relation-get -r 0 a puppet/0", "null\nlast\n"),
            stored("a later key wins", "echo '{a: 1, a: 2}' | relation-set -r 0 --file -; relation-get -r 0 a puppet/0", "2\n"),
            silent("an empty file", "relation-set -r 0 --file - </dev/null"),
            stored("\\u escapes of the first plane", "echo '{\"a\": \"\\u00e9\"}' >f; relation-set -r 0 --file f; relation-get -r 0 a puppet/0", "é\n"),
            stored("raw characters beyond", "echo '{\"a\": \"😀\"}' | relation-set -r 0 --file -; relation-get -r 0 a puppet/0", "😀\n"),
            stored("U+0085 is folded to a space", "printf '{\"a\": \"x\\302\\205y\"}' | relation-set -r 0 --file -; relation-get -r 0 a puppet/0", "x y\n"),
        ],
    );
}

#[test]
fn invalid_input_of_relation_set_changes_nothing() {
    let mut bench = related();
    bench.each(
        "puppet/0",
        "runner/jujuc/relation-set.go",
        &[silent("before", "relation-set -r 0 keep=1")],
    );
    bench.each(
        "puppet/0",
        "runner/jujuc/relation-set.go, go-yaml v2 decode.go, scannerc.go, readerc.go",
        &[
            fails(
                "R13: a list",
                "echo '{keep: 2, e: [1]}' | relation-set -r 0 --file -",
                "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!seq into string",
            ),
            fails(
                "a map",
                "printf 'keep: 2\\ne: {a: 1}\\n' | relation-set -r 0 --file -",
                "yaml: unmarshal errors:\n  line 2: cannot unmarshal !!map into string",
            ),
            fails(
                "no map but a list",
                "echo '[keep]' | relation-set -r 0 --file -",
                "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!seq into map[string]string",
            ),
            fails(
                "no map but a word",
                "echo keep | relation-set -r 0 --file -",
                "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str `keep` into map[string]string",
            ),
            fails(
                "R20: a surrogate pair",
                "echo '{\"keep\": \"\\ud83d\\ude00\"}' >f; relation-set -r 0 --file f",
                "yaml: found invalid Unicode character escape code",
            ),
            fails(
                "raw DEL",
                "printf '{\"keep\": \"\\177\"}' | relation-set -r 0 --file -",
                "yaml: control characters are not allowed",
            ),
            fails(
                "raw C1",
                "printf '{\"keep\": \"\\302\\201\"}' | relation-set -r 0 --file -",
                "yaml: control characters are not allowed",
            ),
            fails(
                "raw U+FFFE",
                "printf '{\"keep\": \"\\357\\277\\276\"}' | relation-set -r 0 --file -",
                "yaml: control characters are not allowed",
            ),
            fails_with(
                "a tab for indentation",
                "printf 'keep:\\n\\ta: 1\\n' | relation-set -r 0 --file -",
                "ERROR yaml: line 2: found character that cannot start any token\n",
            ),
            fails_with(
                "a key of more than 1024 bytes",
                "printf '{%01100d: 1}' 0 | relation-set -r 0 --file -",
                "ERROR yaml: ",
            ),
            fails(
                "no UTF-8",
                "printf 'keep: \\377' >f; relation-set -r 0 --file f",
                "yaml: invalid leading UTF-8 octet",
            ),
            fails_with(
                "no such file",
                "relation-set -r 0 --file none",
                "charm/none: no such file or directory\n",
            ),
            prints("nothing was written", "relation-get -r 0 keep puppet/0", "1\n"),
            fails(
                "leadership is asked after the file was read",
                "echo '[a]' | relation-set -r 0 --app --file -",
                "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!seq into map[string]string",
            ),
        ],
    );
}

#[test]
fn large_values_go_through_a_file() {
    related().each(
        "puppet/0",
        "runner/jujuc/relation-set.go",
        &[stored(
            "no limit for a value",
            "printf 'a: %0300000d' 1 | relation-set -r 0 --file -; relation-get -r 0 a puppet/0 | wc -c",
            "300001\n",
        )],
    );
    let mut bench = related();
    // A databag holds up to 16 MiB: in 3.x by the database, in 4.0.12 and later by a rule (PR
    // 22664).
    let why = bench.refusal("puppet/0", "printf 'a: %017000000d' 1 | relation-set -r 0 --file -");
    assert!(why.contains("16777216"), "{why}");
    assert!(!bench.sim.model().bag(0, "puppet/0").contains_key("a"));
}

#[test]
fn in_install_no_relation_is_known() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle", "add-unit puppet"]);
    bench.within(
        "puppet/2",
        "install",
        "settle",
        "uniter/resolver.go",
        &[
            prints("relation-ids", "relation-ids peers --format=json", "[]\n"),
            misused(
                "R9: relation-get",
                "relation-get -r 0 - puppet/2",
                "invalid value \"0\" for option -r: relation not found",
            ),
            misused(
                "R9: relation-set",
                "relation-set -r 0 a=1",
                "invalid value \"0\" for option -r: relation not found",
            ),
            prints("is-leader works", "is-leader", "False\n"),
        ],
    );
}

#[test]
fn a_breaking_relation_is_still_readable() {
    let mut bench = related();
    bench.command("databag puppet:db far mark=app");
    bench.command("databag puppet:db far/0 mark=unit");
    bench.command("settle");
    bench.within(
        "puppet/0",
        "db-relation-broken",
        "remove-relation puppet:db far:back",
        "runner/context/contextfactory.go, runner/context/relation.go",
        &[
            prints("R4: relation-ids leaves it out", "relation-ids db --format=json", "[]\n"),
            prints("relation-list is empty", "relation-list --format=json", "[]\n"),
            prints("the remote application's bag", "relation-get -r 2 --app mark far", "app\n"),
            prints("a departed unit's, by name", "relation-get -r 2 mark far/0", "unit\n"),
            prints("no member: the remote application", "relation-get mark", "app\n"),
            prints("the own unit's", "relation-get ingress-address puppet/0 | grep -c 127", "1\n"),
            prints(
                "the own application's, leader",
                "relation-get --app --format=json - puppet",
                "{}\n",
            ),
            silent("writes are accepted", "relation-set late=1"),
        ],
    );
    assert!(bench.sim.model().relations_at("puppet:db").is_empty());
}

#[test]
fn only_a_changed_value_runs_hooks_of_other_units() {
    let mut bench = related();
    let wakes = |bench: &mut Bench, line: &str| {
        bench.output("puppet/0", line);
        let start = bench.sim.model().hook_runs().len();
        bench.command("settle");
        crate::puppets::since(&bench.sim, start)
    };
    let woken =
        wakes(&mut bench, "relation-set -r 2 a=1; relation-set -r 2 a=2; relation-set -r 2 b=3");
    assert_eq!(woken, ["far/0 back-relation-changed"], "R15: several writes are one change");
    assert_eq!(
        wakes(&mut bench, "relation-set -r 2 a=2 b=3; relation-get -r 2 - puppet/0 >/dev/null"),
        [""; 0],
        "R15"
    );
    assert_eq!(
        wakes(&mut bench, "relation-set -r 2 a=1; relation-set -r 2 a=2"),
        [""; 0],
        "only the last state matters"
    );
    let woken = wakes(&mut bench, "relation-set -r 0 --app a=1");
    assert_eq!(
        woken,
        ["puppet/0 peers-relation-changed", "puppet/1 peers-relation-changed"],
        "R8: the writer too"
    );
}

#[test]
fn a_hook_does_not_see_concurrent_changes_of_others() {
    let mut bench = related();
    bench.command("databag puppet:db far mark=old");
    bench.command("settle");
    bench.command("at puppet/0 is-leader do databag puppet:db far mark=new");
    bench.command("at puppet/0 is-leader 2 do databag puppet:db far/0 mark=new");
    bench.command("at puppet/0 is-leader 3 do config puppet port=1");
    bench.within(
        "puppet/0",
        "update-status",
        "trigger puppet/0 update-status",
        "runner/context/relation.go, context.go",
        &[
            prints(
                "read",
                "relation-get -r 2 --app mark far; relation-get -r 2 --format=json mark far/0",
                "old\nnull\n",
            ),
            prints("the configuration", "config-get port", "6432\n"),
            silent("others write", "for n in 1 2 3; do is-leader >/dev/null; done"),
            prints("R16: a remote application's bag", "relation-get -r 2 --app mark far", "old\n"),
            prints(
                "R16: a remote unit's bag",
                "relation-get -r 2 --format=json mark far/0",
                "null\n",
            ),
            prints("the configuration is one for the hook", "config-get port", "6432\n"),
        ],
    );
    bench.each(
        "puppet/0",
        "runner/context/relation.go, context.go",
        &[
            prints(
                "later it is seen",
                "relation-get -r 2 --app mark far; relation-get -r 2 mark far/0",
                "new\nnew\n",
            ),
            prints("and the configuration", "config-get port", "1\n"),
        ],
    );
}

#[test]
fn tools_fail_for_a_relation_unknown_to_the_controller() {
    for (juju, text) in [("3.6.14", "permission denied"), ("4.0.15", "relation not found")] {
        let commands =
            ["deploy PUPPET", "deploy PUPPET far", "integrate puppet:db far:back", "settle"];
        let mut bench = Bench::of(juju, &commands);
        bench.knows("TEXT", text);
        bench.within(
            "puppet/0",
            "db-relation-broken",
            "remove-relation --force puppet:db far:back",
            "runner/context/contextfactory.go, apiserver/facades/agent/uniter/uniter.go",
            &[
                prints("relation-list answers", "relation-list --format=json", "[]\n"),
                prints("relation-list --app answers", "relation-list --app", "far\n"),
                fails(
                    "R5: the remote application's bag",
                    "relation-get -r 2 --app - far",
                    "%TEXT%",
                ),
                fails("R5: a departed unit's", "relation-get -r 2 - far/0", "%TEXT%"),
                fails("R5: the own unit's", "relation-get -r 2 - puppet/0", "%TEXT%"),
                fails(
                    "R5: relation-set",
                    "relation-set a=1",
                    "cannot read relation settings: %TEXT%",
                ),
                fails(
                    "R5: relation-set --app",
                    "relation-set --app a=1",
                    "cannot read relation application settings: %TEXT%",
                ),
                fails("network-get", "network-get db -r 2", "relation 2 not found"),
                prints(
                    "goal-state leaves it out",
                    "goal-state --format=json | grep -c far; true",
                    "0\n",
                ),
            ],
        );
        assert!(bench.sim.model().relations_at("puppet:db").is_empty());
    }
}

#[test]
fn a_relation_removed_before_the_commit_fails_the_hook() {
    let mut bench = related();
    bench.command("at puppet/0 commit do remove-relation --force puppet:db far:back");
    crate::puppets::script(
        &bench.sim,
        "puppet/0",
        "update-status",
        "relation-set -r 2 a=1; rm $root/etc/update-status",
    );
    bench.command("trigger puppet/0 update-status");
    bench.command("step --unit puppet/0");
    let run = bench.sim.model().hook_runs().last().expect("a run");
    assert_eq!(run.exit, jujusim::Exit::Refused("permission denied".to_owned()));
}

#[test]
fn a_suspended_relation_is_left_like_a_broken_one() {
    let mut bench = related();
    let rows = [
        prints("relation-ids leaves it out", "relation-ids db --format=json", "[]\n"),
        prints(
            "its bags are there",
            "relation-get -r 2 ingress-address far/0 | grep -c 127",
            "1\n",
        ),
        prints("goal-state", "goal-state | grep -A1 'far:'", "    far:\n      status: suspended\n"),
    ];
    let source = "runner/context/relation.go";
    bench.within(
        "puppet/0",
        "db-relation-broken",
        "suspend-relation puppet:db far:back",
        source,
        &rows,
    );
}
