//! `secret-*`.

use super::grants::related;
use super::{Bench, Row, fails, fails_with, misused, prints, silent};

/// A leader that manages the secret `%ID%`.
fn managing() -> Bench {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    bench.secret("puppet/0", "ID", "secret-add --label top password=one");
    bench
}

#[test]
fn arguments_of_secret_add_are_parsed_as_in_juju() {
    managing().each(
        "puppet/0",
        "runner/jujuc/secret-add.go, core/secrets/createsecret.go, rotate.go",
        &[
            misused("secret-add: no content", "secret-add", "missing secret value or filename"),
            misused("S16: two characters", "secret-add ab=1", "key \"ab\" not valid"),
            misused("S16: a capital", "secret-add TLS=1", "key \"TLS\" not valid"),
            misused("S16: an underscore", "secret-add user_name=1", "key \"user_name\" not valid"),
            misused("S16: a digit first", "secret-add 1abc=1", "key \"1abc\" not valid"),
            misused("S16: two hyphens", "secret-add tls--ca=1", "key \"tls--ca\" not valid"),
            misused("S16: a hyphen last", "secret-add tls-=1", "key \"tls-\" not valid"),
            silent("S16: a hyphen inside", "secret-add tls-ca=1 >/dev/null"),
            misused("S17: empty", "secret-add abc=", "key value \"abc=\" not valid"),
            misused("only =", "secret-add abc===", "key value \"abc===\" not valid"),
            misused("no =", "secret-add abc", "key value \"abc\" not valid"),
            misused("no key", "secret-add =abc", "key value \"=abc\" not valid"),
            misused("owner", "secret-add --owner me abc=1", "secret owner \"me\" not valid"),
            misused(
                "rotate",
                "secret-add --rotate often abc=1",
                "rotate policy \"often\" not valid",
            ),
            misused(
                "expire",
                "secret-add --expire soon abc=1",
                "expire time or duration \"soon\" not valid",
            ),
            misused(
                "expire, not a date",
                "secret-add --expire 2026-13-01T00:00:00 abc=1",
                "expire time or duration \"2026-13-01T00:00:00\" not valid",
            ),
            misused(
                "expire, a date alone",
                "secret-add --expire 2026-12-01 abc=1",
                "expire time or duration \"2026-12-01\" not valid",
            ),
            misused(
                "expire, negative",
                "secret-add --expire=-1h abc=1",
                "negative expire duration \"-1h\" not valid",
            ),
            misused(
                "expire, at once",
                "secret-add --expire 0 abc=1",
                "negative expire duration \"0\" not valid",
            ),
            misused(
                "no file",
                "secret-add abc#file=/none",
                "reading content for secret key \"abc\": open /none: no such file or directory",
            ),
            misused(
                "no --file",
                "secret-add --file /none",
                "open /none: no such file or directory",
            ),
            misused(
                "the agent does not run in the charm's directory",
                "echo 1 >here; secret-add abc#file=here",
                "reading content for secret key \"abc\": open /here: no such file or directory",
            ),
            misused(
                "no --format",
                "secret-add --format=json abc=1",
                "option provided but not defined: --format",
            ),
        ],
    );
}

#[test]
fn arguments_of_secret_get_are_parsed_as_in_juju() {
    managing().each(
        "puppet/0",
        "runner/jujuc/secret-get.go, core/secrets/secret.go",
        &[
            misused("neither URI nor label", "secret-get", "require either a secret URI or label"),
            misused(
                "peek and refresh",
                "secret-get --label none --peek --refresh",
                "specify one of --peek or --refresh but not both",
            ),
            misused("a bad URI", "secret-get nonsense", "secret URI \"nonsense\" not valid"),
            misused(
                "the first argument is a URI",
                "secret-get --label top password",
                "secret URI \"password\" not valid",
            ),
            misused(
                "a path of another form",
                "secret-get secret://model/%ID%",
                "secret URI \"secret://model/%ID%\" not valid",
            ),
            misused("three arguments", "secret-get %ID% password b", "unrecognized args: [\"b\"]"),
            misused(
                "S21: no smart format",
                "secret-get --format=smart %ID%",
                "invalid value \"smart\" for option --format: unknown format \"smart\"",
            ),
            misused(
                "--update is gone",
                "secret-get --update %ID%",
                "option provided but not defined: --update",
            ),
            fails(
                "an unknown URI",
                "secret-get 0123456789abcdefghij",
                "secret \"0123456789abcdefghij\" not found",
            ),
            fails(
                "an unknown label",
                "secret-get --label none",
                "consumer label \"none\" not found",
            ),
            fails(
                "a key that is not there",
                "secret-get %ID% none",
                "secret key value \"none\" not found",
            ),
            fails(
                "the same in base64",
                "secret-get %ID% none#base64",
                "secret key value \"none\" not found",
            ),
        ],
    );
}

#[test]
fn arguments_of_other_secret_tools_are_parsed_as_in_juju() {
    managing().each(
        "puppet/0",
        "runner/jujuc/secret-set.go, secret-remove.go, secret-info-get.go, secret-grant.go, secret-revoke.go, secret-ids.go",
        &[
            misused("secret-set without a URI", "secret-set", "missing secret URI"),
            misused("secret-set by label", "secret-set --label top", "missing secret URI"),
            misused("secret-set of a key", "secret-set %ID% ab=1", "key \"ab\" not valid"),
            misused("secret-set of an owner", "secret-set --owner me %ID% abc=1", "secret owner \"me\" not valid"),
            silent("secret-set of nothing", "secret-set %ID%"),
            misused("secret-remove without a URI", "secret-remove", "missing secret URI"),
            misused("secret-remove of two", "secret-remove %ID% %ID%", "unrecognized args: [\"%ID%\"]"),
            misused("secret-remove of no number", "secret-remove %ID% --revision x", "invalid value \"x\" for option --revision: strconv.ParseInt: parsing \"x\": invalid syntax"),
            misused("secret-info-get of nothing", "secret-info-get", "require either a secret URI or label"),
            misused("secret-info-get of both", "secret-info-get %ID% --label top", "specify either a secret URI or label but not both"),
            fails("secret-info-get of an unknown URI", "secret-info-get 0123456789abcdefghij", "secret \"0123456789abcdefghij\" not found"),
            fails("secret-info-get of an unknown label", "secret-info-get --label none", "secret \"none\" not found"),
            misused("secret-grant without a URI", "secret-grant", "missing secret URI"),
            misused("secret-grant without a relation", "secret-grant %ID%", "no relation id specified"),
            misused("secret-grant in no relation", "secret-grant %ID% -r 9", "invalid value \"9\" for option -r: relation not found"),
            misused("secret-grant to no unit", "secret-grant %ID% -r 0 --unit puppet", "unit \"puppet\" not valid"),
            misused("secret-grant to another's unit", "secret-grant %ID% -r 0 --unit far/0", "cannot specify unit \"far/0\" in relation to application \"puppet\""),
            fails("secret-grant of an unknown secret", "secret-grant 0123456789abcdefghij -r 0", "secret \"0123456789abcdefghij\" not found"),
            misused("secret-revoke without a URI", "secret-revoke", "missing secret URI"),
            misused("secret-revoke from nobody", "secret-revoke %ID%", "missing relation or application or unit"),
            misused("secret-revoke from two", "secret-revoke %ID% --app far --unit far/0", "specify only one of application or unit"),
            misused("secret-revoke in a relation and from an application", "secret-revoke %ID% -r 0 --application far", "do not specify both relation and app"),
            misused("secret-ids with arguments", "secret-ids a", "unrecognized args: [\"a\"]"),
        ],
    );
}

#[test]
fn every_form_of_a_secret_uri_is_accepted() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    let uri = bench.output("puppet/0", "secret-add password=one");
    assert!(
        uri.starts_with(&bench.filled("secret://%UUID%/")) && uri.ends_with('\n'),
        "S11: {uri}"
    );
    let id = uri.trim().rsplit('/').next().expect("an id").to_owned();
    assert!(
        id.len() == 20 && id.chars().all(|c| c.is_ascii_digit() || ('a'..='v').contains(&c)),
        "{id}"
    );
    bench.knows("ID", &id);
    bench.each(
        "puppet/0",
        "core/secrets/secret.go",
        &[
            prints("S11: the id", "secret-get %ID%", "password: one\n"),
            prints("S11: secret:ID", "secret-get secret:%ID%", "password: one\n"),
            prints("S11: secret:/ID", "secret-get secret:/%ID%", "password: one\n"),
            prints("S11: secret://MODEL/ID", "secret-get secret://%UUID%/%ID%", "password: one\n"),
            prints("S11: MODEL/ID", "secret-get %UUID%/%ID%", "password: one\n"),
        ],
    );
    let ids: Vec<String> =
        (0..9).map(|_| bench.output("puppet/0", "secret-add password=one")).collect();
    assert!(ids.is_sorted(), "ids sort by age: {ids:?}");
}

#[test]
fn content_is_read_from_arguments_and_files() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    bench.each(
        "puppet/0",
        "core/secrets/createsecret.go",
        &[
            prints("everything after the first =", "secret-get $(secret-add 'key=a=b c ') --format=json", "{\"key\":\"a=b c \"}\n"),
            prints("= at the end stays", "secret-get $(secret-add key=YQ==) key", "YQ==\n"),
            prints("#base64", "secret-get $(secret-add key#base64=aMOp) --format=json", "{\"key\":\"hé\"}\n"),
            prints("#base64 with padding", "secret-get $(secret-add key#base64=YQ==) key", "a\n"),
            prints("#file", "printf 'a\\n' >f; secret-get $(secret-add key#file=$PWD/f) --format=json", "{\"key\":\"a\\n\"}\n"),
            prints("--file, JSON", "echo '{\"key\": \"\\ud83d\\ude00\", \"other\": \"1\"}' >f; secret-get $(secret-add --file $PWD/f) --format=json", "{\"key\":\"😀\",\"other\":\"1\"}\n"),
            prints("--file, YAML", "printf 'key: 1.50\\nother: x\\n' >f; secret-get $(secret-add --file $PWD/f) --format=json", "{\"key\":\"1.50\",\"other\":\"x\"}\n"),
            prints("--file, #base64", "echo 'key#base64: YQ==' >f; secret-get $(secret-add --file $PWD/f) --format=json", "{\"key\":\"a\"}\n"),
            prints("--file wins", "echo 'key: file' >f; secret-get $(secret-add --file $PWD/f key=args other=1) --format=json", "{\"key\":\"file\",\"other\":\"1\"}\n"),
            misused("a bad key in a file", "echo 'KEY: file' >f; secret-add --file $PWD/f", "key \"KEY\" not valid"),
            misused("a list in a file", "echo '[1]' >f; secret-add --file $PWD/f", "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!seq into map[string]string"),
            fails("nothing in a file", "echo '{}' >f; secret-add --file $PWD/f", "empty secret value not valid"),
            prints("all, yaml", "secret-get $(secret-add username=1 password='a: b')", "password: 'a: b'\nusername: \"1\"\n"),
            prints("all, json", "secret-get $(secret-add username=1 password='a: b') --format=json", "{\"password\":\"a: b\",\"username\":\"1\"}\n"),
            prints("a key, yaml", "secret-get $(secret-add key=1) key", "\"1\"\n"),
            prints("a key, json", "secret-get $(secret-add key=1) key --format=json", "\"1\"\n"),
            prints("a key of lines", "secret-get $(secret-add 'key=a\nb') key", "|-\n  a\n  b\n"),
            prints("S22: KEY#base64", "secret-get $(secret-add key=hé) key#base64", "aMOp\n"),
            silent("a label given with the URI of a new secret", "secret-get $(secret-add key=1) --label new >/dev/null"),
        ],
    );
    assert!(bench.sim.model().secret("new").is_some(), "the pending secret took the label");
}

#[test]
fn the_size_of_a_secret_is_limited() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    bench.each(
        "puppet/0",
        "core/secrets/createsecret.go, PR 20287, PR 20314",
        &[
            silent("a million of base64", "printf %0750000d 1 >f; secret-add key#file=$PWD/f >/dev/null"),
            misused(
                "one more",
                "printf %0750001d 1 >f; secret-add key#file=$PWD/f",
                "base64 encoded secret content for key \"key\" too large: 1000004 bytes",
            ),
            misused(
                "two that are a million together",
                "printf %0400000d 1 >f; secret-add one#file=$PWD/f two#file=$PWD/f",
                "base64 encoded secret content too large: 1066672 bytes",
            ),
            Row {
                name: "a file of more",
                line: "printf %01000001d 1 >f; cd /; secret-add key#file=$OLDPWD/f 2>&1 | grep -c 'secret content in file \".*/f\" too large: 1000001 bytes'",
                code: 0,
                stdout: "1\n",
                stderr: super::Stderr::Is(""),
            },
        ],
    );
}

#[expect(clippy::too_many_lines, reason = "a table of expectations")]
#[test]
fn metadata_is_shown_to_the_manager_of_the_secret() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    bench.secret("puppet/0", "ID", "secret-add --label top password=one");
    bench.secret(
        "puppet/0",
        "FULL",
        "secret-add --label full --description 'a: b' --rotate monthly --expire 2026-03-01T10:00:00+01:00 password=one",
    );
    bench.secret("puppet/1", "OWN", "secret-add --owner unit --expire 36h30m password=one");
    bench.each(
        "puppet/0",
        "runner/jujuc/secret-info-get.go",
        &[
            prints(
                "by URI, json",
                "secret-info-get secret:%ID% --format=json",
                "{\"%ID%\":{\"revision\":1,\"label\":\"top\",\"owner\":\"application\",\"rotation\":\"never\"}}\n",
            ),
            prints(
                "by label, yaml",
                "secret-info-get --label top",
                "%ID%:\n  revision: 1\n  label: top\n  owner: application\n  rotation: never\n",
            ),
            prints(
                "expiry and rotation, json",
                "secret-info-get --label full --format=json",
                "{\"%FULL%\":{\"revision\":1,\"label\":\"full\",\"owner\":\"application\",\"description\":\"a: b\",\"rotation\":\"monthly\",\"expiry\":\"2026-03-01T09:00:00Z\",\"rotates\":\"2026-02-01T00:00:00Z\"}}\n",
            ),
            prints(
                "expiry and rotation, yaml",
                "secret-info-get --label full | tail -4",
                "  description: 'a: b'\n  rotation: monthly\n  expiry: 2026-03-01T09:00:00Z\n  rotates: 2026-02-01T00:00:00Z\n",
            ),
            fails("another unit's", "secret-info-get %OWN%", "secret \"%OWN%\" not found"),
            prints("secret-ids", "secret-ids --format=json | tr , '\\n' | wc -l", "2\n"),
            prints("secret-ids, lines", "secret-ids | head -1", "%ID%\n"),
        ],
    );
    bench.each(
        "puppet/1",
        "runner/jujuc/secret-info-get.go, secret-ids.go",
        &[
            fails("S6: a follower, by URI", "secret-info-get %ID%", "secret \"%ID%\" not found"),
            fails("S6: a follower, by label", "secret-info-get --label top", "secret \"top\" not found"),
            prints("S6: though it reads", "secret-get --label top", "password: one\n"),
            prints(
                "its own, expiring some time from now",
                "secret-info-get %OWN% --format=json",
                "{\"%OWN%\":{\"revision\":1,\"label\":\"\",\"owner\":\"unit\",\"rotation\":\"never\",\"expiry\":\"2026-01-02T12:30:00Z\"}}\n",
            ),
            prints("secret-ids, a follower", "secret-ids --format=json", "[\"%OWN%\"]\n"),
        ],
    );
    bench.each(
        "puppet/0",
        "runner/jujuc/secret-add.go, secret-set.go",
        &[
            silent("a time without a zone", "secret-set %ID% --expire 2027-01-02T15:04:05"),
            prints(
                "is UTC",
                "secret-info-get %ID% --format=json | grep -o '\"expiry\":\"[^\"]*\"'",
                "\"expiry\":\"2027-01-02T15:04:05Z\"\n",
            ),
            silent("a duration with a fraction", "secret-set %ID% --expire 1.5h"),
            prints(
                "is from now",
                "secret-info-get %ID% --format=json | grep -o '\"expiry\":\"[^\"]*\"'",
                "\"expiry\":\"2026-01-01T01:30:00Z\"\n",
            ),
            silent("a policy", "secret-set %ID% --rotate daily"),
            silent("another policy", "secret-set %ID% --rotate yearly"),
            prints(
                "counts from the rotation that is due",
                "secret-info-get %ID% | grep rotat",
                "  rotation: yearly\n  rotates: 2026-01-02T00:00:00Z\n",
            ),
            silent("no policy", "secret-set %ID% --rotate never"),
            prints(
                "no rotation is due",
                "secret-info-get %ID% | grep rotat",
                "  rotation: never\n",
            ),
            prints(
                "metadata makes no revision",
                "secret-info-get %ID% | grep revision",
                "  revision: 1\n",
            ),
            silent(
                "empty metadata is none",
                "secret-set %ID% --label '' --description '' --expire '' --rotate ''",
            ),
            prints(
                "and changes nothing",
                "secret-info-get %ID% | grep -e label -e expiry",
                "  label: top\n  expiry: 2026-01-01T01:30:00Z\n",
            ),
        ],
    );
    let secret = bench.sim.model().secret("full").expect("the secret");
    assert_eq!(secret.rotate, jujusim::Rotate::Monthly);
    assert_eq!(
        secret.next_rotate.map(|time| time.to_string()),
        Some("2026-02-01T00:00:00Z".to_owned())
    );
}

#[test]
fn a_pinned_revision_is_read_until_refresh() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    bench.secret("puppet/0", "ID", "secret-add --label top password=one");
    for unit in ["puppet/0", "puppet/1"] {
        bench.each(
            unit,
            "PR 16598",
            &[prints("the first read pins", "secret-get --label top", "password: one\n")],
        );
    }
    bench.each(
        "puppet/0",
        "runner/jujuc/secret-set.go",
        &[silent("a new revision", "secret-set %ID% password=two")],
    );
    for unit in ["puppet/1", "puppet/0"] {
        bench.each(
            unit,
            "state/secrets.go, apiserver/facades/agent/secretsmanager `getConsumedRevision`",
            &[
                prints(
                    "S4, S5: plain, owners too",
                    "secret-get --label top --format=json",
                    "{\"password\":\"one\"}\n",
                ),
                prints("--peek", "secret-get --label top --peek", "password: two\n"),
                prints("S9: --peek does not move the pin", "secret-get %ID%", "password: one\n"),
                prints("--refresh", "secret-get --label top --refresh", "password: two\n"),
                prints("moves it", "secret-get --label top", "password: two\n"),
            ],
        );
    }
    bench.each(
        "puppet/0",
        "state/secrets.go `UpdateSecret`",
        &[
            silent("equal content", "secret-set %ID% password=two"),
            prints("makes no revision", "secret-info-get %ID% | grep revision", "  revision: 2\n"),
            silent("the whole content is replaced", "secret-set %ID% other=1"),
            prints("not merged by key", "secret-get %ID% --refresh", "other: \"1\"\n"),
            silent("the owner is not changed", "secret-set %ID% --owner unit other=2"),
            prints("by --owner", "secret-info-get %ID% | grep owner", "  owner: application\n"),
        ],
    );
    // A first read with --peek also creates a consumer with a pin.
    bench.secret("puppet/0", "NEW", "secret-add --label new password=one");
    bench.each(
        "puppet/1",
        "`getConsumedRevision`",
        &[prints("a first --peek", "secret-get --label new --peek", "password: one\n")],
    );
    bench.output("puppet/0", "secret-set %NEW% password=two");
    bench.each(
        "puppet/1",
        "`getConsumedRevision`",
        &[
            prints("pins", "secret-get --label new", "password: one\n"),
            silent("of a failed hook", "secret-get --label new --refresh >/dev/null"),
        ],
    );
    bench.output("puppet/0", "secret-set %NEW% password=three");
    assert_eq!(bench.call("puppet/1", "secret-get --label new --refresh; exit 1").0, 1);
    bench.each(
        "puppet/1",
        "S20",
        &[prints(
            "S20: the pin stays moved though the hook failed",
            "secret-get --label new",
            "password: three\n",
        )],
    );
    bench.output("puppet/0", "secret-set %NEW% password=four");
    bench.output("puppet/0", "secret-remove %NEW% --revision 3");
    bench.each(
        "puppet/1",
        "state/secrets.go",
        &[
            fails(
                "a pinned revision that was removed",
                "secret-get --label new",
                "secret revision \"%NEW%/3\" not found",
            ),
            prints(
                "--refresh finds the next",
                "secret-get --label new --refresh",
                "password: four\n",
            ),
        ],
    );
}

#[test]
fn a_hook_sees_the_secrets_that_it_added() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    bench.together(
        "puppet/0",
        "runner/context/context.go `getPendingSecretValue`, `SecretMetadata`",
        &[
            silent("add", "secret-add --label top password=one >uri"),
            prints("by URI", "secret-get $(cat uri)", "password: one\n"),
            prints("by label", "secret-get --label top --format=json", "{\"password\":\"one\"}\n"),
            prints(
                "its metadata",
                "secret-info-get --label top | grep -e revision -e label",
                "  revision: 1\n  label: top\n",
            ),
            prints("its id", "secret-ids | wc -l", "1\n"),
            fails(
                "S1: the same label again",
                "secret-add --label top password=two",
                "secret with label \"top\" already exists",
            ),
            silent("set", "secret-set $(cat uri) password=two --description d"),
            prints("what was set is read", "secret-get --label top", "password: two\n"),
            prints(
                "still the first revision",
                "secret-info-get --label top | grep -e revision -e description",
                "  revision: 1\n  description: d\n",
            ),
            prints(
                "a new label with the URI",
                "secret-get $(cat uri) --label new",
                "password: two\n",
            ),
            fails(
                "the old one is gone",
                "secret-get --label top",
                "consumer label \"top\" not found",
            ),
            prints("the new one finds it", "secret-get --label new", "password: two\n"),
        ],
    );
    let secret = bench.sim.model().secret("new").expect("committed");
    assert_eq!(
        (secret.latest, secret.consumers.len()),
        (1, 0),
        "reading a pending secret makes no record"
    );
    bench.together(
        "puppet/0",
        "runner/context/secrets.go `remove`",
        &[
            silent("add", "secret-add --label gone password=one >uri"),
            silent("remove", "secret-remove $(cat uri)"),
            fails(
                "gone from the hook",
                "secret-info-get --label gone",
                "secret \"gone\" not found",
            ),
        ],
    );
    assert!(
        bench.sim.model().secret("gone").is_none(),
        "adding and removing in one hook is nothing"
    );
}

#[test]
fn a_hook_sees_its_changes_when_it_requests_the_newest_revision() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    bench.secret("puppet/0", "ID", "secret-add --label top password=one");
    bench.output("puppet/0", "secret-get --label top");
    bench.together(
        "puppet/0",
        "runner/context/context.go `GetSecret`, PR 21228",
        &[
            silent("set", "secret-set %ID% password=two"),
            prints("S4: plain is old", "secret-get %ID%", "password: one\n"),
            prints("plain by label is old", "secret-get --label top", "password: one\n"),
            prints("--peek by URI is new", "secret-get %ID% --peek", "password: two\n"),
            prints("--peek by label is new", "secret-get --label top --peek", "password: two\n"),
            silent(
                "several calls are one revision",
                "secret-set %ID% password=three; secret-set %ID% --description d",
            ),
            prints("--refresh by URI is new", "secret-get %ID% --refresh", "password: three\n"),
            prints("plain is old even so, until the commit", "secret-get %ID%", "password: one\n"),
            prints(
                "the metadata is new, the revision is not",
                "secret-info-get %ID% | grep -e revision -e desc",
                "  revision: 1\n  description: d\n",
            ),
        ],
    );
    let secret = bench.sim.model().secret("top").expect("the secret");
    assert_eq!(secret.latest, 2, "several calls are one revision");
    let pins: Vec<u32> = secret.consumers.values().map(|consumer| consumer.pin).collect();
    assert_eq!(pins, [2], "the owner tracks what it read with --refresh");
    bench.together(
        "puppet/0",
        "runner/context/secrets.go `remove`, `update`",
        &[
            silent(
                "set, then remove a revision",
                "secret-set %ID% password=four; secret-remove %ID% --revision 1",
            ),
            prints("the update is dropped", "secret-get %ID% --peek", "password: three\n"),
            fails("and the metadata", "secret-info-get %ID%", "secret \"%ID%\" not found"),
        ],
    );
    let secret = bench.sim.model().secret("top").expect("the secret");
    assert_eq!((secret.latest, secret.revisions.keys().copied().collect::<Vec<_>>()), (2, vec![2]));
    bench.output(
        "puppet/0",
        "secret-remove %ID%; secret-get %ID% >/dev/null; secret-set %ID% password=five",
    );
    assert_eq!(
        bench.sim.model().secret("top").expect("kept").latest,
        3,
        "a later secret-set takes the removal back"
    );
    let why = bench.refusal(
        "puppet/0",
        "secret-set %ID% password=six; secret-set 0123456789abcdefghij password=one",
    );
    assert_eq!(why, "updating secrets: secret \"0123456789abcdefghij\" not found");
}

#[test]
fn secrets_are_renamed() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    bench.secret("puppet/0", "ID", "secret-add --label top password=one");
    bench.secret("puppet/0", "OTHER", "secret-add --label other password=one");
    bench.together(
        "puppet/0",
        "runner/context/context.go `UpdateSecret`",
        &[
            silent("secret-set --label", "secret-set %ID% --label new"),
            prints("the new label finds it at once", "secret-get --label new", "password: one\n"),
            fails(
                "the old one does not",
                "secret-get --label top",
                "consumer label \"top\" not found",
            ),
            prints(
                "in its metadata",
                "secret-info-get --label new | grep -e label -e revision",
                "  revision: 1\n  label: new\n",
            ),
        ],
    );
    bench.each(
        "puppet/0",
        "state/secrets.go `UpdateSecret`",
        &[
            prints(
                "a rename makes no revision",
                "secret-info-get --label new | grep revision",
                "  revision: 1\n",
            ),
            silent("the old label is free, back again", "secret-set %ID% --label top"),
            silent("the same label is nothing", "secret-set %ID% --label top"),
        ],
    );
    let why = bench.refusal("puppet/0", "secret-set %ID% --label other");
    assert_eq!(why, "updating secrets: secret with label \"other\" already exists");
    let why = bench.refusal("puppet/0", "secret-add --label top password=two");
    assert_eq!(why, "creating secrets: secret with label \"top\" already exists", "S1");
    bench.each(
        "puppet/0",
        "apiserver/facades/agent/secretsmanager `getSecretContent`, PR 15537",
        &[
            fails(
                "secret-get with a taken label fails at once",
                "secret-get %ID% --label other",
                "secret with label \"other\" already exists",
            ),
            prints(
                "S10: secret-get by an owner renames",
                "secret-get %ID% --label third",
                "password: one\n",
            ),
        ],
    );
    assert_eq!(bench.call("puppet/0", "secret-get %ID% --label fourth; exit 1").0, 1);
    assert_eq!(bench.sim.model().secret("third").map(|secret| secret.latest), Some(1));
    let line = bench.filled("secret-get %ID% --label fourth; exit 1");
    bench.call("puppet/0", &line);
    assert!(bench.sim.model().secret("fourth").is_some(), "S20: at once, though the hook failed");
    // Labels of an application and of its units exclude each other, in both directions (PR 14932).
    bench.secret("puppet/1", "OWN", "secret-add --owner unit --label mine password=one");
    let why = bench.refusal("puppet/0", "secret-set %ID% --label mine");
    assert_eq!(why, "updating secrets: secret with label \"mine\" already exists");
    let why = bench.refusal("puppet/1", "secret-add --owner unit --label other password=one");
    assert_eq!(why, "creating secrets: secret with label \"other\" already exists");
    bench.output("puppet/0", "secret-add --owner unit --label mine password=one");
}

#[test]
fn a_follower_may_only_read() {
    let mut bench = related();
    bench.secret("puppet/0", "ID", "secret-add --label top password=one");
    bench.each(
        "puppet/1",
        "runner/context/context.go, LP 2064772",
        &[
            fails("secret-add", "secret-add password=one", "this unit is not the leader"),
            prints("S3: secret-get by label", "secret-get --label top", "password: one\n"),
            prints("secret-get by URI", "secret-get %ID%", "password: one\n"),
            prints("with the present label", "secret-get %ID% --label top", "password: one\n"),
            prints("with another label", "secret-get %ID% --label mine", "password: one\n"),
            fails(
                "which is ignored",
                "secret-get --label mine",
                "consumer label \"mine\" not found",
            ),
            prints("secret-ids", "secret-ids --format=json", "null\n"),
            fails("secret-grant", "secret-grant %ID% -r 2", "secret \"%ID%\" not found"),
        ],
    );
    // The leader may use the label that was ignored.
    bench.output("puppet/0", "secret-set %ID% --label mine; secret-set %ID% --label top");
    for (line, doing) in [
        ("secret-set %ID% password=two", "updating secrets"),
        ("secret-set %ID% --label new", "updating secrets"),
        ("secret-remove %ID%", "removing secrets"),
        ("secret-revoke %ID% --app near", "revoking secrets access"),
    ] {
        let why = bench.refusal("puppet/1", line);
        assert_eq!(why, format!("{doing}: \"puppet/1\" is not leader of \"puppet\""), "S7: {line}");
    }
    for line in ["secret-set %OWN% password=two", "secret-remove %OWN%"] {
        bench.secret("puppet/1", "OWN", "secret-add --owner unit password=one");
        let why = bench.refusal("puppet/0", line);
        assert!(why.ends_with("secrets: permission denied"), "another unit's secret: {why}");
    }
}

#[test]
fn revisions_are_removed_at_the_commit() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    bench.secret("puppet/0", "ID", "secret-add --label top password=1");
    for number in 2..=12 {
        bench.output("puppet/0", &format!("secret-set %ID% password={number}"));
    }
    let kept = |bench: &Bench| -> Vec<u32> {
        bench
            .sim
            .model()
            .secret("top")
            .map(|secret| secret.revisions.keys().copied().collect())
            .unwrap_or_default()
    };
    bench.output("puppet/0", "for n in 1 3 10; do secret-remove %ID% --revision $n; done");
    assert_eq!(
        kept(&bench),
        [2, 4, 5, 6, 7, 8, 9, 11, 12],
        "several in one hook (PR 20806), 1 is not 10 to 12"
    );
    bench.each(
        "puppet/0",
        "PR 20796",
        &[
            silent("what is gone already", "secret-remove %ID% --revision 1"),
            silent("an unknown revision", "secret-remove %ID% --revision 99"),
            silent("an unknown secret", "secret-remove 0123456789abcdefghij"),
        ],
    );
    bench.output("puppet/0", "secret-remove %ID% --revision 2; secret-remove %ID%");
    assert_eq!(kept(&bench), [0; 0], "without a revision all of them");
    bench.secret("puppet/0", "ID", "secret-add --label top password=1");
    bench.output("puppet/0", "secret-remove %ID% --revision 0");
    assert!(
        bench.sim.model().secret("top").is_none(),
        "revisions count from 1: 0 is none in particular"
    );
    bench.secret("puppet/0", "ID", "secret-add --label top password=1");
    bench.output("puppet/0", "secret-remove %ID% --revision 1");
    assert!(bench.sim.model().secret("top").is_none(), "the last revision takes the secret along");
    bench.secret("puppet/0", "ID", "secret-add --label top password=1");
    bench.each(
        "puppet/0",
        "buffered",
        &[prints(
            "until then it is read",
            "secret-remove %ID%; secret-get %ID%",
            "password: \"1\"\n",
        )],
    );
}

#[test]
fn secrets_are_committed_before_the_rest() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    // The state is too large: the transaction fails, the secret exists.
    let large = "for n in $(seq 33); do state-set v$n=$(printf '%065500d' 1); done";
    let why = bench.refusal(
        "puppet/0",
        &format!("secret-add --label top password=one; relation-set -r 0 a=1; {large}"),
    );
    assert!(why.contains("2097152"), "{why}");
    assert!(bench.sim.model().secret("top").is_some(), "S2");
    assert!(!bench.sim.model().bag(0, "puppet/0").contains_key("a"));
    // Creates come before updates, deletes last: changes before the failure stay.
    let why = bench.refusal(
        "puppet/0",
        "secret-add --label early password=one; secret-set 0123456789abcdefghij password=two; relation-set -r 0 a=1",
    );
    assert_eq!(why, "updating secrets: secret \"0123456789abcdefghij\" not found");
    assert!(
        bench.sim.model().secret("early").is_some()
            && !bench.sim.model().bag(0, "puppet/0").contains_key("a")
    );
    let row =
        fails_with("S1: the retry meets it again", "secret-info-get --label none", "not found");
    bench.each("puppet/0", "S1", &[row]);
}

#[test]
fn new_revisions_are_announced_to_readers() {
    let mut bench = Bench::new(&["deploy PUPPET -n 3", "settle"]);
    bench.secret("puppet/0", "ID", "secret-add --label top password=one");
    bench.output("puppet/0", "secret-get --label top");
    bench.output("puppet/1", "secret-get --label top");
    for unit in ["puppet/0", "puppet/1"] {
        let lines = "echo $JUJU_SECRET_LABEL; secret-get --label top --refresh >/dev/null";
        crate::puppets::script(&bench.sim, unit, "secret-changed", lines);
    }
    crate::puppets::script(&bench.sim, "puppet/0", "secret-remove", "echo $JUJU_SECRET_REVISION");
    bench.output("puppet/0", "secret-set %ID% password=two");
    let start = bench.sim.model().hook_runs().len();
    bench.command("settle");
    assert_eq!(
        crate::puppets::since(&bench.sim, start),
        ["puppet/0 secret-changed", "puppet/1 secret-changed", "puppet/0 secret-remove"],
        "S8, S12: the writer too, not who never read; then nobody tracks the old one"
    );
    let runs = bench.sim.model().hook_runs();
    assert_eq!(runs[start].log, ["DEBUG top"]);
    assert_eq!(runs.last().expect("a run").log, ["DEBUG 1"]);
}

#[test]
fn secrets_are_removed_with_their_owner() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    bench.secret("puppet/0", "APP", "secret-add --label app password=one");
    bench.secret("puppet/1", "OWN", "secret-add --owner unit --label own password=one");
    bench.output("puppet/1", "secret-get --label app; state-set a=1");
    bench.command("remove-unit puppet");
    bench.command("settle");
    let model = bench.sim.model();
    assert!(model.secret("own").is_none(), "a unit's with the unit");
    assert!(model.secret("app").expect("the application's stays").consumers.is_empty());
    bench.command("add-unit puppet");
    bench.command("settle");
    bench.each(
        "puppet/1",
        "state/secrets.go, state/unit.go",
        &[
            fails("a new unit of the same name", "secret-get %OWN%", "secret \"%OWN%\" not found"),
            prints("begins with an empty state", "state-get --format=json", "null\n"),
            prints("and pins anew", "secret-get --label app", "password: one\n"),
        ],
    );
}

#[test]
fn a_change_within_secret_changed_is_announced_again() {
    let mut bench = managing();
    bench.output("puppet/1", "secret-get %ID%");
    let lines = bench.filled("secret-get %ID% --refresh; juju-log read");
    crate::puppets::script(&bench.sim, "puppet/1", "secret-changed", &lines);
    bench.command("secret-edit top password=two");
    bench.command("at puppet/1 juju-log do secret-edit top password=three");
    let start = bench.sim.model().hook_runs().len();
    bench.command("settle");
    let mut ran = crate::puppets::since(&bench.sim, start);
    ran.retain(|hook| !hook.ends_with("secret-remove"));
    assert_eq!(ran, ["puppet/1 secret-changed"; 2]);
    assert_eq!(bench.output("puppet/1", "secret-get %ID%"), "password: three\n");
}
