//! What differs between releases.

use super::{Bench, fails, misused, prints, silent};

#[test]
fn each_release_has_its_tools() {
    let here = "command -v %TOOL% >/dev/null && echo yes || echo no";
    let cases: [(&str, &[&str], &[&str]); 5] = [
        (
            "2.9.52",
            &["leader-get", "pod-spec-set", "add-metric"],
            &["secret-get", "secret-ids", "relation-model-get"],
        ),
        (
            "3.6.1",
            &["secret-get", "leader-set", "add-metric", "k8s-raw-get"],
            &["relation-model-get"],
        ),
        ("3.6.9", &["relation-model-get", "add-metric"], &[]),
        (
            "3.6.14",
            &["relation-model-get", "payload-register", "leader-get", "credential-get"],
            &["add-metric"],
        ),
        (
            "4.0.15",
            &[
                "relation-model-get",
                "secret-add",
                "state-get",
                "storage-get",
                "juju-reboot",
                "unit-get",
            ],
            &[
                "leader-get",
                "leader-set",
                "payload-register",
                "pod-spec-get",
                "k8s-spec-set",
                "add-metric",
            ],
        ),
    ];
    for (juju, there, missing) in cases {
        let mut bench = Bench::of(juju, &["deploy PUPPET", "settle"]);
        let tools = there
            .iter()
            .map(|tool| (tool, "yes\n"))
            .chain(missing.iter().map(|tool| (tool, "no\n")));
        for (tool, expected) in tools {
            assert_eq!(
                bench.output("puppet/0", &here.replace("%TOOL%", tool)),
                expected,
                "{juju} {tool}"
            );
        }
        assert_eq!(bench.output("puppet/0", "echo $JUJU_VERSION"), format!("{juju}\n"));
    }
    let mut bench = Bench::of("2.9.52", &["deploy PUPPET", "settle"]);
    let line = "ln -s $(command -v is-leader) ./secret-get; ./secret-get";
    let row = fails("an unknown tool", line, "bad request: unknown command \"secret-get\"");
    bench.each("puppet/0", "runner/jujuc/server.go", &[row]);
}

#[test]
fn juju_2_9_lists_a_broken_relation() {
    let mut bench = Bench::of(
        "2.9.52",
        &["deploy PUPPET", "deploy PUPPET far", "integrate puppet:db far:back", "settle"],
    );
    let row = prints("R4: relation-ids", "relation-ids db", "db:2\n");
    bench.within(
        "puppet/0",
        "db-relation-broken",
        "remove-relation puppet:db far:back",
        "before 3.4.4, 3.5.2, 3.6.0",
        &[row],
    );
}

#[test]
fn before_3_6_9_the_size_limit_of_a_secret_is_lower() {
    let rows = [
        silent("S15: 8 KiB of base64", "secret-add key=$(printf %06144d 1) >/dev/null"),
        misused(
            "S15: one more",
            "secret-add key=$(printf %06145d 1)",
            "base64 encoded secret content for key \"key\" too large: 8196 bytes",
        ),
        misused(
            "64 KiB in all",
            "set --; for n in 1 2 3 4 5 6 7 8 9; do set -- $@ key$n=$(printf %06144d 1); done; secret-add $@",
            "base64 encoded secret content too large: 73728 bytes",
        ),
    ];
    let mut bench = Bench::of("3.6.8", &["deploy PUPPET", "settle"]);
    bench.each("puppet/0", "PR 16943", &rows);
    let mut bench = Bench::of("3.6.9", &["deploy PUPPET", "settle"]);
    bench.each(
        "puppet/0",
        "PR 20287",
        &[silent("S15: 3.6.9", "secret-add key=$(printf %06145d 1) >/dev/null")],
    );
}

#[test]
fn before_3_6_11_one_revision_is_removed_in_a_hook() {
    let mut bench = Bench::of("3.6.9", &["deploy PUPPET", "settle"]);
    bench.secret("puppet/0", "ID", "secret-add --label top password=1");
    for number in 2..=4 {
        bench.output("puppet/0", &format!("secret-set %ID% password={number}"));
    }
    bench.output("puppet/0", "secret-remove %ID% --revision 1; secret-remove %ID% --revision 2");
    let kept: Vec<u32> =
        bench.sim.model().secret("top").expect("the secret").revisions.keys().copied().collect();
    assert_eq!(kept, [1, 3, 4], "S13: the last one only");
    let why = bench.refusal("puppet/0", "secret-remove %ID% --revision 2");
    assert_eq!(why, bench.filled("removing secrets: secret revision \"%ID%/2\" not found"));
    let why = bench.refusal("puppet/0", "secret-remove 0123456789abcdefghij");
    assert_eq!(why, "removing secrets: secret \"0123456789abcdefghij\" not found");
}

#[test]
fn before_3_6_12_a_label_does_not_find_what_was_written_by_uri() {
    let expected = [("3.6.11", "one"), ("3.6.12", "two"), ("4.0.0", "one"), ("4.0.1", "two")];
    for (juju, content) in expected {
        let mut bench = Bench::of(juju, &["deploy PUPPET", "settle"]);
        bench.secret("puppet/0", "ID", "secret-add --label top password=one");
        let printed = bench
            .output("puppet/0", "secret-set %ID% password=two; secret-get --label top --refresh");
        assert_eq!(printed, format!("password: {content}\n"), "{juju} (PR 21228)");
        let printed = bench.output(
            "puppet/0",
            "secret-set %ID% --label top password=six; secret-get --label top --peek",
        );
        assert_eq!(printed, "password: six\n", "{juju}, when the update carries the label");
    }
}

#[test]
fn juju_4_differs_from_juju_3() {
    let mut bench = Bench::of(
        "4.0.15",
        &["deploy PUPPET -n 2", "deploy PUPPET far", "integrate puppet:db far:back", "settle"],
    );
    let address = bench.sim.model().unit_address("puppet/0").expect("a unit").to_string();
    bench.knows("ADDRESS", &address);
    bench.command("databag puppet:db puppet own=2");
    let uri = bench.output("puppet/0", "secret-add --label top password=one");
    let id = uri.trim().rsplit_once('/').expect("the long form").1;
    assert_eq!(uri, bench.filled(&format!("secret://%UUID%/{id}\n")));
    bench.knows("ID", id);
    bench.each(
        "puppet/0",
        "4.0 relnotes, core/secrets",
        &[
            prints(
                "R14: no private-address",
                "relation-get -r 2 --format=json - puppet/0",
                "{\"egress-subnets\":\"%ADDRESS%/32\",\"ingress-address\":\"%ADDRESS%\"}\n",
            ),
            fails(
                "an unknown label",
                "secret-get --label none",
                "secret URI for consumer label \"none\" not found",
            ),
            misused(
                "S17: no empty value",
                ": >f; secret-add key#file=$PWD/f",
                "empty value for secret key \"key\" not valid",
            ),
        ],
    );
    bench.each(
        "puppet/1",
        "4.0 uniter.go `readOneRemoteSettings`",
        &[
            prints(
                "R6: a follower reads its application's bag",
                "relation-get -r 2 --app own puppet",
                "2\n",
            ),
            fails(
                "but does not write it",
                "relation-set -r 2 --app own=3",
                "cannot write relation settings",
            ),
        ],
    );
    let why = bench.refusal("puppet/0", "secret-add --label top password=two");
    assert_eq!(why, "create secrets: secret with label \"top\" already exists");
    // Labels are unique only within one owner.
    bench.output("puppet/1", "secret-add --owner unit --label top password=two");
    bench.output("puppet/0", "secret-set %ID% --label new");
}

/// As seen on 4.0.15: section 12 of the hook contract.
#[test]
fn juju_4_answers_in_its_own_words() {
    let mut bench = Bench::of(
        "4.0.15",
        &["deploy PUPPET -n 2", "deploy PUPPET far", "integrate puppet:db far:back", "settle"],
    );
    let address = bench.sim.model().unit_address("puppet/0").expect("a unit").to_string();
    bench.knows("ADDRESS", &address);
    bench.secret("puppet/0", "ID", "secret-add --label top password=one");
    bench.each(
        "puppet/0",
        "seen on 4.0.15",
        &[
            fails(
                "1.3: another context",
                "JUJU_CONTEXT_ID=old is-leader",
                "bad request: wrong context ID; got \"old\"",
            ),
            fails(
                "U8: a unit outside of the relation",
                "relation-get -r 2 - puppet/7",
                "relation unit not found",
            ),
            fails(
                "U8: an unknown application",
                "relation-get -r 2 --app - nobody",
                "getting application \"nobody\" not found",
            ),
            fails(
                "3.11: an unknown URI",
                "secret-get 0123456789abcdefghij",
                "getting latest secret revision: secret not found",
            ),
            fails(
                "3.15: a long key",
                "state-set $(printf %0257d 1)=1",
                "max allowed key length (256): quota limit exceeded",
            ),
            fails(
                "3.15: a long value",
                "state-set a=$(printf %065537d 1)",
                "max allowed value length (65536): quota limit exceeded",
            ),
            fails("3.17: unit-get", "unit-get private-address", "private address not found"),
            prints(
                "10.14: network-get",
                "network-get --format=json db",
                "{\"bind-addresses\":[{\"mac-address\":\"\",\"interface-name\":\"placeholder for \\\"puppet/0\\\" cloud container\",\"addresses\":[{\"hostname\":\"%ADDRESS%\",\"value\":\"%ADDRESS%\",\"cidr\":\"0.0.0.0/0\"}]}],\"egress-subnets\":[\"%ADDRESS%/32\"],\"ingress-addresses\":[\"%ADDRESS%\"]}\n",
            ),
        ],
    );
    bench.each(
        "puppet/1",
        "seen on 4.0.15",
        &[
            fails("10.3: another label", "secret-get %ID% --label mine", "lease not held"),
            prints("10.3: its label", "secret-get %ID% --label top", "password: one\n"),
            prints("10.3: no label", "secret-get %ID%", "password: one\n"),
        ],
    );
    let new = "id=$(secret-add --label new key=1); id=${id##*/};";
    for (what, line, expected) in [
        ("add, set and get", "secret-set $id key=2; secret-get $id", "key: \"2\"\n"),
        ("add and secret-info-get", "secret-info-get $id | grep -c rotation || true", "0\n"),
        ("add and secret-ids", "secret-ids | grep -c $id", "1\n"),
        ("add and remove", "secret-remove $id", ""),
    ] {
        let line = format!("{new} {line}; secret-remove $id");
        assert_eq!(bench.output("puppet/0", &line), expected, "{what}");
    }
}

#[test]
fn the_transaction_includes_the_secrets() {
    // The release, and whether a new secret and a grant survive a failure of the rest.
    for (juju, created, updated) in [
        ("3.6.14", true, true),
        ("4.0.11", true, true),
        ("4.0.12", true, false),
        ("4.0.14", false, false),
    ] {
        let mut bench = Bench::of(juju, &["deploy PUPPET", "settle"]);
        bench.secret("puppet/0", "ID", "secret-add --label top password=one");
        let line = "secret-add --label new password=one; secret-set %ID% password=two; relation-set -r 0 a=1; \
                    for n in $(seq 33); do state-set v$n=$(printf '%065500d' 1); done";
        bench.refusal("puppet/0", line);
        let model = bench.sim.model();
        assert_eq!(model.secret("new").is_some(), created, "{juju}");
        assert_eq!(model.secret("top").expect("the secret").latest == 2, updated, "{juju}");
        assert!(!model.bag(0, "puppet/0").contains_key("a"), "{juju}");
    }
    // One failed step undoes the others.
    let mut bench = Bench::of("4.0.15", &["deploy PUPPET", "settle"]);
    let why = bench.refusal("puppet/0", "secret-add --label new password=one; secret-set 0123456789abcdefghij password=two; relation-set -r 0 a=1");
    assert_eq!(why, "update secrets: secret \"0123456789abcdefghij\" not found");
    assert!(
        bench.sim.model().secret("new").is_none()
            && !bench.sim.model().bag(0, "puppet/0").contains_key("a")
    );
}

#[test]
fn a_torn_commit_is_partial_where_the_release_allows_it() {
    for (juju, kept) in [("3.6.14", true), ("4.0.12", true), ("4.0.15", false)] {
        let mut bench =
            Bench::of(juju, &["deploy PUPPET", "settle", "fail-commit puppet/0 --torn"]);
        crate::puppets::script(
            &bench.sim,
            "puppet/0",
            "update-status",
            "secret-info-get --label top || secret-add --label top password=one\nrelation-set -r 0 a=1",
        );
        bench.command("trigger puppet/0 update-status");
        bench.command("step");
        assert_eq!(bench.sim.model().secret("top").is_some(), kept, "{juju}");
        assert!(!bench.sim.model().bag(0, "puppet/0").contains_key("a"), "{juju}");
    }
}

#[test]
fn a_grant_in_an_ended_relation_fails_or_is_ignored() {
    for (juju, why) in [
        (
            "3.6.14",
            Some(
                "granting secrets access: cannot grant access to secret in scope of \"far:back puppet:db\" which is not alive",
            ),
        ),
        (
            "4.0.11",
            Some(
                "granting secrets access: cannot grant access to secret in scope of \"far:back puppet:db\" which is not alive",
            ),
        ),
        ("4.0.12", None),
    ] {
        let commands =
            ["deploy PUPPET", "deploy PUPPET far", "integrate puppet:db far:back", "settle"];
        let mut bench = Bench::of(juju, &commands);
        bench.secret("puppet/0", "ID", "secret-add password=one");
        let line = bench.filled("secret-grant %ID% -r 2; rm $root/etc/update-status");
        crate::puppets::script(&bench.sim, "puppet/0", "update-status", &line);
        bench.command("at puppet/0 commit do remove-relation --force puppet:db far:back");
        bench.command("trigger puppet/0 update-status");
        bench.command("step --unit puppet/0");
        let expected =
            why.map_or(jujusim::Exit::Success, |why| jujusim::Exit::Refused(why.to_owned()));
        assert_eq!(bench.sim.model().hook_runs().last().expect("a run").exit, expected, "{juju}");
    }
}

#[test]
fn a_grant_cannot_change_its_relation() {
    for (juju, why) in [
        ("3.6.14", "granting secrets access: cannot change secret permission scope"),
        ("4.0.15", "granting secrets access: cannot change scope or subject type"),
    ] {
        let commands = [
            "deploy PUPPET",
            "deploy PUPPET far",
            "integrate puppet:db far:back",
            "integrate puppet:back far:db",
            "settle",
        ];
        let mut bench = Bench::of(juju, &commands);
        bench.secret("puppet/0", "ID", "secret-add password=one");
        bench.output("puppet/0", "secret-grant %ID% -r 2");
        assert_eq!(bench.refusal("puppet/0", "secret-grant %ID% -r 3"), why);
    }
}
