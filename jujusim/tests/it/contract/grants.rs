//! `secret-grant`, `secret-revoke`, and consumers' labels.

use super::{Bench, fails, prints, silent};

/// `puppet` with a follower, related at `db` (2) to `near` and at `db` (4) to `far`; `near` and
/// `far` are not related.
pub(super) fn related() -> Bench {
    Bench::new(&[
        "deploy PUPPET -n 2",
        "deploy PUPPET near",
        "integrate puppet:db near:back",
        "deploy PUPPET far -n 2",
        "integrate puppet:db far:back",
        "settle",
    ])
}

#[expect(clippy::too_many_lines, reason = "a table of expectations")]
#[test]
fn a_secret_is_granted_in_a_relation() {
    let mut bench = related();
    bench.secret("puppet/0", "ID", "secret-add --label top password=one");
    let reads = |name| prints(name, "secret-get %ID% --label mine", "password: one\n");
    let denied = |name| fails(name, "secret-get %ID% --label mine", "permission denied");
    bench.each(
        "near/0",
        "no grant",
        &[
            denied("before"),
            fails("by label", "secret-get --label top", "consumer label \"top\" not found"),
        ],
    );
    bench.each(
        "puppet/0",
        "runner/jujuc/secret-grant.go",
        &[silent("grant", "secret-grant %ID% -r 2"), silent("again", "secret-grant %ID% -r db:2")],
    );
    bench.each(
        "near/0",
        "state/secrets.go",
        &[
            reads("the whole application"),
            prints("by its own label", "secret-get --label mine", "password: one\n"),
        ],
    );
    bench.each("far/0", "state/secrets.go", &[denied("no other application")]);
    bench.each(
        "puppet/0",
        "runner/jujuc/secret-info-get.go",
        &[prints(
            "access",
            "secret-info-get %ID% --format=json",
            "{\"%ID%\":{\"revision\":1,\"label\":\"top\",\"owner\":\"application\",\"rotation\":\"never\",\"access\":[{\"target\":\"application-near\",\"scope\":\"relation-near.back#puppet.db\",\"role\":\"view\"}]}}\n",
        )],
    );
    bench.each(
        "near/0",
        "runner/jujuc/secret-info-get.go, secret-ids.go",
        &[
            fails(
                "a consumer sees no metadata",
                "secret-info-get %ID%",
                "secret \"%ID%\" not found",
            ),
            prints("nor the id", "secret-ids --format=json", "null\n"),
        ],
    );
    let why = bench.refusal("near/0", "secret-set %ID% password=two");
    assert_eq!(why, "updating secrets: permission denied", "a consumer changes nothing");
    bench.each("puppet/0", "runner/jujuc/secret-grant.go", &[
        silent("a unit", "secret-grant %ID% -r 4 --unit far/1"),
        fails("the application of a unit that has one", "secret-grant %ID% -r 4", "any unit level grants need to be revoked before granting access to the corresponding application"),
        silent("a unit of an application that has one", "secret-grant %ID% -r 2 --unit near/0"),
    ]);
    bench.each("far/1", "state/secrets.go", &[reads("that unit")]);
    bench.each("far/0", "state/secrets.go", &[denied("not its sibling")]);
    bench.each(
        "puppet/0",
        "runner/jujuc/secret-revoke.go",
        &[
            silent("from a unit", "secret-revoke %ID% --unit far/1"),
            silent("what was never granted", "secret-revoke %ID% --app puppet"),
            silent("in a relation", "secret-revoke %ID% -r 2"),
        ],
    );
    bench.each("far/1", "state/secrets.go", &[denied("revoked, unit")]);
    bench.each(
        "near/0",
        "state/secrets.go",
        &[fails("S19: revoked, application", "secret-get --label mine", "permission denied")],
    );
    bench.each(
        "puppet/0",
        "runner/context/context.go",
        &[silent(
            "grant and revoke in one hook",
            "secret-grant %ID% -r 2; secret-revoke %ID% --application near",
        )],
    );
    bench.each(
        "near/0",
        "runner/context/context.go",
        &[fails("are nothing", "secret-get --label mine", "permission denied")],
    );
    bench.each("puppet/0", "runner/context/context.go", &[silent(
        "a secret added in this hook",
        "uri=$(secret-add --label late password=one); secret-grant $uri -r 2; relation-set -r 2 --app uri=$uri",
    )]);
    bench.each(
        "near/0",
        "runner/context/context.go",
        &[prints(
            "is read from where its URI stands",
            "secret-get $(relation-get -r 2 --app uri puppet)",
            "password: one\n",
        )],
    );
    bench.each(
        "puppet/0",
        "runner/context/context.go",
        &[silent("among peers", "secret-grant %ID% -r 0")],
    );
}

#[test]
fn a_grant_belongs_to_one_relation_and_ends_with_it() {
    let mut bench = Bench::new(&["deploy PUPPET", "deploy PUPPET third", "settle"]);
    bench.secret("puppet/0", "ID", "secret-add --label top password=one");
    bench.command("integrate puppet:back third:db");
    bench.command("integrate third:back puppet:db");
    bench.command("settle");
    let ids = [
        bench.sim.model().relations_at("puppet:back"),
        bench.sim.model().relations_at("third:back"),
    ];
    bench.knows("FIRST", &ids[0][0].to_string());
    bench.knows("SECOND", &ids[1][0].to_string());
    bench.output("puppet/0", "secret-grant %ID% -r %FIRST%");
    let why = bench.refusal("puppet/0", "secret-grant %ID% -r %SECOND%");
    assert_eq!(why, "granting secrets access: cannot change secret permission scope");
    bench.output("third/0", "secret-get %ID% --label mine");
    bench.within(
        "third/0",
        "db-relation-broken",
        "remove-relation puppet:back third:db",
        "state/relation.go `removeScopedSecretPermissionOps`",
        &[prints("in -broken the grant still holds", "secret-get %ID%", "password: one\n")],
    );
    bench.each(
        "third/0",
        "state/relation.go",
        &[fails("S18: then it is gone", "secret-get %ID%", "permission denied")],
    );
    bench.command("integrate puppet:back third:db");
    bench.command("settle");
    let new = bench.sim.model().relations_at("puppet:back")[0].to_string();
    bench.knows("NEW", &new);
    bench.output("puppet/0", "secret-grant %ID% -r %NEW%");
    bench.each(
        "third/0",
        "state/secrets.go",
        &[prints(
            "S18: the same URI and label again",
            "secret-get --label mine",
            "password: one\n",
        )],
    );
    // While a relation is being removed, no secret can be granted in it.
    crate::puppets::script(
        &bench.sim,
        "puppet/0",
        "back-relation-departed",
        &bench.filled("secret-add password=two >$root/dev/shm/uri\nsecret-grant $(cat $root/dev/shm/uri) -r %NEW%; rm $root/etc/back-relation-departed"),
    );
    bench.command("remove-relation puppet:back third:db");
    bench.command("settle");
    let refused = bench.sim.model().hook_runs().iter().rev().find_map(|run| match &run.exit {
        jujusim::Exit::Refused(why) => Some(why.clone()),
        _ => None,
    });
    assert_eq!(
        refused.as_deref(),
        Some(
            "granting secrets access: cannot grant access to secret in scope of \"puppet:back third:db\" which is not alive"
        )
    );
}

#[test]
fn consumers_have_their_own_labels() {
    let mut bench = related();
    for name in ["ONE", "TWO"] {
        bench.secret("puppet/0", name, "secret-add password=one");
        bench.output("puppet/0", &format!("secret-grant %{name}% -r 4"));
    }
    bench.output("far/0", "secret-add --label taken password=one");
    bench.each(
        "far/0",
        "state/secrets.go `uniqueSecretLabelBaseOps`, `SaveSecretConsumer`",
        &[
            prints("a label", "secret-get %ONE% --label one", "password: one\n"),
            fails(
                "S10: one label, one secret",
                "secret-get %TWO% --label one",
                "secret with label \"one\" already exists",
            ),
            fails(
                "an owner label of the application",
                "secret-get %TWO% --label taken",
                "secret with label \"taken\" already exists",
            ),
            prints("a new label", "secret-get %ONE% --label new", "password: one\n"),
            fails("replaces the old", "secret-get --label one", "consumer label \"one\" not found"),
            fails(
                "which stays taken",
                "secret-get %TWO% --label one",
                "secret with label \"one\" already exists",
            ),
            prints("but for this secret", "secret-get %ONE% --label one", "password: one\n"),
        ],
    );
    bench.each(
        "far/1",
        "state/secrets.go",
        &[prints("another unit may use it", "secret-get %TWO% --label one", "password: one\n")],
    );
    let why = bench.refusal("far/0", "secret-add --label one password=one");
    assert_eq!(
        why, "creating secrets: secret with label \"one\" already exists",
        "the application may not"
    );
    bench.output("puppet/0", "secret-set %ONE% --label one");
}
