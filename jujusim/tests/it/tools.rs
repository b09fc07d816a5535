//! The hook tools, row by row.

use crate::puppets::{model, model_of, options, run, script, tool};
use jujusim::Options;

/// A call, and what it answers: exit code, standard output, standard error.
type Row = (&'static str, i32, &'static str, &'static str);

fn check(sim: &mut jujusim::Sim, unit: &str, rows: &[Row]) {
    for (line, code, stdout, stderr) in rows {
        let found = tool(sim, unit, line);
        assert_eq!(found, (*code, (*stdout).to_owned(), (*stderr).to_owned()), "{line}");
    }
}

#[test]
fn flags_are_read_as_juju_reads_them() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    check(
        &mut sim,
        "puppet/0",
        &[
            // Juju: wrong usage exits with 2, a failure while running with 1, text on standard error.
            ("is-leader --foo", 2, "", "ERROR option provided but not defined: --foo\n"),
            ("is-leader -x", 2, "", "ERROR option provided but not defined: -x\n"),
            ("is-leader a b", 2, "", "ERROR unrecognized args: [\"a\" \"b\"]\n"),
            (
                "is-leader --format=xml",
                2,
                "",
                "ERROR invalid value \"xml\" for option --format: unknown format \"xml\"\n",
            ),
            // Flags may stand between and after arguments.
            ("config-get port --format json", 0, "6432\n", ""),
            // Tools that print nothing take --format, and complain.
            (
                "relation-set -r 0 --format=json",
                0,
                "",
                "--format flag deprecated for command \"relation-set\"",
            ),
            ("juju-reboot", 1, "", "ERROR jujusim does not model \"juju-reboot\"\n"),
        ],
    );
}

#[test]
fn relations_are_listed_sorted_as_text() {
    let mut sim = model(&["deploy PUPPET -n 11", "settle"]);
    check(
        &mut sim,
        "puppet/0",
        &[
            ("relation-ids peers", 0, "peers:0\n", ""),
            ("relation-ids peers --format=json", 0, "[\"peers:0\"]\n", ""),
            ("relation-ids nothing --format=json", 0, "[]\n", ""),
            ("relation-ids", 2, "", "ERROR no endpoint name specified\n"),
            ("relation-list", 2, "", "ERROR no relation id specified\n"),
            ("relation-list -r peers:0 --app --format=json", 0, "\"puppet\"\n", ""),
            // Text before the last colon is thrown away.
            (
                "relation-list -r ignored:0 --format=json",
                0,
                "[\"puppet/1\",\"puppet/10\",\"puppet/2\",\"puppet/3\",\"puppet/4\",\"puppet/5\",\"puppet/6\",\"puppet/7\",\"puppet/8\",\"puppet/9\"]\n",
                "",
            ),
            (
                "relation-list -r one",
                2,
                "",
                "ERROR invalid value \"one\" for option -r: invalid relation id\n",
            ),
            (
                "relation-list --relation 99",
                2,
                "",
                "ERROR invalid value \"99\" for option --relation: relation not found\n",
            ),
        ],
    );
}

#[test]
fn relation_get_names_whose_bag_it_reads() {
    let mut sim =
        model(&["deploy PUPPET -n 2", "deploy PUPPET far", "integrate puppet:db far:back", "settle"]);
    run(&mut sim, "databag puppet:db far mark=<1>");
    run(&mut sim, "databag puppet:db puppet own=2");
    check(
        &mut sim,
        "puppet/0",
        &[
            ("relation-get -r 2 --app mark far", 0, "<1>\n", ""),
            ("relation-get -r 2 --app --format=json mark far", 0, "\"\\u003c1\\u003e\"\n", ""),
            ("relation-get -r 2 --app --format=json none far", 0, "null\n", ""),
            ("relation-get -r 2 --app none far", 0, "", ""),
            ("relation-get -r 2 --app --format=json - far/0", 0, "{\"mark\":\"\\u003c1\\u003e\"}\n", ""),
            ("relation-get -r 2 - far", 2, "", "ERROR expected unit name, got application name \"far\"\n"),
            ("relation-get -r 2 - F", 2, "", "ERROR invalid unit name \"F\"\n"),
            ("relation-get -r 2", 2, "", "ERROR no unit or application specified\n"),
            ("relation-get", 2, "", "ERROR no relation id specified\n"),
            ("relation-get -r 2 --app own puppet", 0, "2\n", ""),
            (
                "relation-get -r 2 - far/9",
                1,
                "",
                "ERROR cannot read settings for unit \"far/9\" in relation \"far:back puppet:db\": unit \"far/9\": settings not found\n",
            ),
        ],
    );
    // Up to 3.6 a follower may not read its own application's bag, except among peers.
    check(
        &mut sim,
        "puppet/1",
        &[
            ("relation-get -r 2 --app own puppet", 1, "", "ERROR permission denied\n"),
            ("relation-get -r 0 --app - puppet", 0, "{}\n", ""),
            ("relation-set -r 2 --app a=1", 1, "", "ERROR cannot write relation settings\n"),
        ],
    );
}

#[test]
fn relation_set_trims_arguments_and_keeps_file_text() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    check(
        &mut sim,
        "puppet/0",
        &[
            ("relation-set -r 0 'a= x '", 0, "", ""),
            ("relation-get -r 0 --format=json a puppet/0", 0, "\"x\"\n", ""),
            ("relation-set -r 0 a=1 a=2", 2, "", "ERROR key \"a\" specified more than once\n"),
            ("relation-set -r 0 haha", 2, "", "ERROR expected \"key=value\", got \"haha\"\n"),
            // Numbers and booleans are stored as the text they had; arguments win over the file.
            (
                "sh -c 'echo \"{b: 1.50, c: true, d: \\\" x \\\", a: file}\" | relation-set -r 0 --file - a=args'",
                0,
                "",
                "",
            ),
            ("relation-get -r 0 b puppet/0", 0, "1.50\n", ""),
            ("relation-get -r 0 c puppet/0", 0, "true\n", ""),
            ("relation-get -r 0 --format=json d puppet/0", 0, "\" x \"\n", ""),
            ("relation-get -r 0 a puppet/0", 0, "args\n", ""),
            // null and nothing delete.
            ("sh -c 'echo \"{b: null, d: }\" | relation-set -r 0 --file - c='", 0, "", ""),
            ("relation-get -r 0 --format=json b puppet/0", 0, "null\n", ""),
            ("relation-get -r 0 --format=json c puppet/0", 0, "null\n", ""),
            (
                "sh -c 'echo \"{e: [1]}\" | relation-set -r 0 --file -'",
                1,
                "",
                "ERROR yaml: unmarshal errors:\n  line 1: cannot unmarshal !!seq into string\n",
            ),
        ],
    );
}

#[test]
fn config_leadership_and_status_print_in_juju_s_shapes() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    check(
        &mut sim,
        "puppet/0",
        &[
            ("is-leader", 0, "True\n", ""),
            ("is-leader --format=json", 0, "true\n", ""),
            ("config-get --format=json", 0, "{\"expose\":true,\"port\":6432}\n", ""),
            ("config-get --all --format=json", 0, "{\"expose\":true,\"label\":null,\"port\":6432}\n", ""),
            ("config-get label", 0, "", ""),
            ("config-get label --format=json", 0, "null\n", ""),
            ("config-get --all port", 2, "", "ERROR cannot use argument --all together with key \"port\"\n"),
            ("status-set", 2, "", "ERROR invalid args, require <status> [message]\n"),
            (
                "status-set bad",
                2,
                "",
                "ERROR invalid status \"bad\", expected one of [maintenance blocked waiting active]\n",
            ),
            ("status-set active -- -x", 0, "", ""),
            ("status-get", 0, "active\n", ""),
            (
                "status-get --include-data --format=json",
                0,
                "{\"message\":\"-x\",\"status\":\"active\",\"status-data\":{}}\n",
                "",
            ),
            // The status is read once a hook: what is set meanwhile does not show.
            ("sh -c 'status-get; status-set blocked; status-get'", 0, "active\nactive\n", ""),
            ("application-version-set", 2, "", "ERROR no version specified\n"),
            ("juju-log", 2, "", "ERROR no message specified\n"),
        ],
    );
    check(
        &mut sim,
        "puppet/1",
        &[
            ("is-leader", 0, "False\n", ""),
            ("status-set --application active", 1, "", "ERROR this unit is not the leader\n"),
            (
                "status-get --application",
                1,
                "",
                "ERROR finding application status: this unit is not the leader\n",
            ),
        ],
    );
}

#[test]
fn state_is_the_unit_s_own() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let long = format!("state-set k={}", "x".repeat(65537));
    check(
        &mut sim,
        "puppet/0",
        &[
            ("state-get --format=json", 0, "null\n", ""),
            ("state-get", 0, "{}\n", ""),
            ("state-set a=1 b=", 0, "", ""),
            ("state-get --format=json", 0, "{\"a\":\"1\",\"b\":\"\"}\n", ""),
            // A missing key is empty, not null.
            ("state-get none --format=json", 0, "\"\"\n", ""),
            ("state-get --strict none", 1, "", "ERROR \"none\" not found\n"),
            ("state-delete a", 0, "", ""),
            ("state-get --format=json", 0, "{\"b\":\"\"}\n", ""),
        ],
    );
    assert_eq!(
        tool(&mut sim, "puppet/0", &long),
        (1, String::new(), "ERROR max allowed value length (65536) exceeded\n".into())
    );
}

#[test]
fn ports_addresses_and_network() {
    let mut sim = model_of(&["deploy PUPPET", "settle"], &Options { stable: true, ..options() });
    let address = sim.model().unit_address("puppet/0").expect("a unit").to_string();
    check(
        &mut sim,
        "puppet/0",
        &[
            ("open-port 6432", 0, "", ""),
            ("opened-ports --format=json", 0, "[\"6432/tcp\"]\n", ""),
            (
                "open-port 1-2/tcp",
                1,
                "",
                "ERROR port ranges are not supported for k8s applications, please specify a single port\n",
            ),
            ("open-port", 2, "", "ERROR no port or range specified\n"),
            ("close-port 6432/tcp", 0, "", ""),
            ("opened-ports --format=json", 0, "[]\n", ""),
            ("unit-get", 2, "", "ERROR no setting specified\n"),
            ("network-get", 2, "", "ERROR no arguments specified\n"),
            ("network-get nothing", 1, "", "ERROR no network config found for binding \"nothing\"\n"),
        ],
    );
    let (_, bind, _) = tool(&mut sim, "puppet/0", "network-get peers --bind-address");
    assert_eq!(bind.trim(), address);
}

#[test]
fn secrets_are_refused_with_juju_s_words() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    check(
        &mut sim,
        "puppet/0",
        &[
            ("secret-add", 2, "", "ERROR missing secret value or filename\n"),
            ("secret-add ab=1", 2, "", "ERROR key \"ab\" not valid\n"),
            ("secret-add abc=", 2, "", "ERROR key value \"abc=\" not valid\n"),
            ("secret-add --owner me abc=1", 2, "", "ERROR secret owner \"me\" not valid\n"),
            ("secret-get", 2, "", "ERROR require either a secret URI or label\n"),
            ("secret-get --label none", 1, "", "ERROR consumer label \"none\" not found\n"),
            ("secret-get nonsense", 2, "", "ERROR secret URI \"nonsense\" not valid\n"),
            ("secret-get 0123456789abcdefghij", 1, "", "ERROR secret \"0123456789abcdefghij\" not found\n"),
            (
                "secret-get --label none --peek --refresh",
                2,
                "",
                "ERROR specify one of --peek or --refresh but not both\n",
            ),
            ("secret-info-get", 2, "", "ERROR require either a secret URI or label\n"),
            ("secret-set", 2, "", "ERROR missing secret URI\n"),
            ("secret-remove", 2, "", "ERROR missing secret URI\n"),
            ("secret-grant", 2, "", "ERROR missing secret URI\n"),
            ("secret-ids --format=json", 0, "null\n", ""),
        ],
    );
    check(&mut sim, "puppet/1", &[("secret-add abc=1", 1, "", "ERROR this unit is not the leader\n")]);
}

#[test]
fn a_pinned_revision_is_read_until_refresh() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let (_, uri, _) = tool(&mut sim, "puppet/0", "secret-add --label top password=one");
    let id = uri.trim().rsplit('/').next().expect("an id").to_owned();
    assert_eq!(tool(&mut sim, "puppet/0", "secret-get --label top").1, "password: one\n");
    assert_eq!(tool(&mut sim, "puppet/0", &format!("secret-set {id} password=two")).0, 0);
    check(
        &mut sim,
        "puppet/0",
        &[
            ("secret-get --label top --format=json", 0, "{\"password\":\"one\"}\n", ""),
            ("secret-get --label top --peek", 0, "password: two\n", ""),
            ("secret-get --label top", 0, "password: one\n", ""),
            ("secret-get --label top --refresh", 0, "password: two\n", ""),
            ("secret-get --label top", 0, "password: two\n", ""),
        ],
    );
    let (_, info, _) = tool(&mut sim, "puppet/0", "secret-info-get --label top --format=json");
    assert_eq!(
        info,
        format!(
            "{{\"{id}\":{{\"label\":\"top\",\"owner\":\"application\",\"revision\":2,\"rotation\":\"never\"}}}}\n"
        )
    );
    // Equal content makes no new revision (3.6).
    tool(&mut sim, "puppet/0", &format!("secret-set {id} password=two"));
    assert_eq!(sim.model().secret("top").expect("the secret").latest, 2);
    // A rename is metadata only, and frees the old label.
    tool(&mut sim, "puppet/0", &format!("secret-set {id} --label new"));
    assert!(sim.model().secret("top").is_none() && sim.model().secret("new").expect("renamed").latest == 2);
}

#[test]
fn ids_of_secrets_sort_by_age() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let ids: Vec<String> = (0..20).map(|_| tool(&mut sim, "puppet/0", "secret-add password=one").1).collect();
    assert!(ids.is_sorted(), "{ids:?}");
}

#[test]
fn a_hook_sees_its_own_pending_secret() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let lines =
        "uri=$(secret-add --label top password=one); secret-get $uri; secret-get --label top --format=json";
    let (code, stdout, _) = tool(&mut sim, "puppet/0", &format!("sh -c '{lines}'"));
    assert_eq!((code, stdout.as_str()), (0, "password: one\n{\"password\":\"one\"}\n"));
}

#[test]
fn a_granted_secret_is_read_by_the_other_side_only() {
    let mut sim = model(&[
        "deploy PUPPET",
        "deploy PUPPET near",
        "deploy PUPPET far",
        "integrate puppet:db near:back",
        "settle",
    ]);
    let (_, uri, _) = tool(&mut sim, "puppet/0", "secret-add --label top password=one");
    let uri = uri.trim().to_owned();
    let read = format!("secret-get {uri} --label mine");
    assert_eq!(tool(&mut sim, "near/0", &read).2, "ERROR permission denied\n");
    assert_eq!(tool(&mut sim, "puppet/0", &format!("secret-grant {uri} -r 3")).0, 0);
    assert_eq!(tool(&mut sim, "near/0", &read).1, "password: one\n");
    assert_eq!(tool(&mut sim, "near/0", "secret-get --label mine").1, "password: one\n");
    assert_eq!(tool(&mut sim, "far/0", &read).2, "ERROR permission denied\n");
    // The grant dies with its relation.
    run(&mut sim, "remove-relation puppet:db near:back");
    run(&mut sim, "settle");
    assert_eq!(tool(&mut sim, "near/0", "secret-get --label mine").2, "ERROR permission denied\n");
}

#[test]
fn actions_get_and_set() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    check(&mut sim, "puppet/0", &[("action-get", 1, "", "ERROR not running an action\n")]);
    script(
        &sim,
        "puppet/0",
        "greet",
        "action-set said.to=$(action-get who)\necho hello\naction-fail 'no time'",
    );
    let printed = run(&mut sim, "run puppet/0 greet who=you");
    assert_eq!(printed, "said.to: you\nreturn-code: 0\nstdout: |\n  hello\naction failed: no time\n");
}

#[test]
fn juju_2_has_no_secrets() {
    let mut sim = model_of(&["deploy PUPPET", "settle"], &Options { juju: "2.9.52".to_owned(), ..options() });
    let (code, _, _) = tool(&mut sim, "puppet/0", "secret-ids");
    assert_eq!(code, 127, "the tool is not linked");
    assert_eq!(tool(&mut sim, "puppet/0", "sh -c 'echo $JUJU_VERSION'").1, "2.9.52\n");
}
