//! How tools reach the agent, parse flags and print.

use super::{Bench, Row, Stderr, fails, fails_with, misused, prints, silent};

#[test]
fn flags_are_parsed_as_in_juju() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    bench.each(
        "puppet/0",
        "juju/gnuflag flag.go, juju/cmd cmd.go",
        &[
            misused(
                "unknown long flag",
                "is-leader --foo",
                "option provided but not defined: --foo",
            ),
            misused("unknown short flag", "is-leader -x", "option provided but not defined: -x"),
            misused(
                "bad flag value",
                "relation-list -r one",
                "invalid value \"one\" for option -r: invalid relation id",
            ),
            misused("no flag value", "relation-list -r", "option needs an argument: -r"),
            misused("surplus args", "is-leader a b", "unrecognized args: [\"a\" \"b\"]"),
            prints("flags after arguments", "config-get port --format json", "6432\n"),
            prints("flags before arguments", "config-get --format=json port", "6432\n"),
            prints("value at once after a letter", "relation-list -r0 --format=json", "[]\n"),
            misused(
                "-- ends the flags",
                "is-leader -- --format=json",
                "unrecognized args: [\"--format=json\"]",
            ),
            misused(
                "unknown format",
                "is-leader --format=xml",
                "invalid value \"xml\" for option --format: unknown format \"xml\"",
            ),
            prints("last flag holds", "is-leader --format=json --format=smart", "True\n"),
            prints("help", "is-leader --help", "Usage: is-leader [options]\n"),
            prints("help with arguments", "config-get -h", "Usage: config-get [options] [<key>]\n"),
        ],
    );
}

#[test]
fn results_are_written_to_a_file_on_request() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    bench.each(
        "puppet/0",
        "juju/cmd output.go",
        &[
            prints(
                "-o FILE, relative to the caller",
                "cd ../; is-leader -o here; cat here",
                "True\n",
            ),
            prints(
                "--output FILE",
                "config-get --output=here --format=json port; cat here",
                "6432\n",
            ),
            prints(
                "an empty result makes an empty file",
                "config-get -o here label; wc -c <here",
                "0\n",
            ),
            fails_with(
                "-o into no directory",
                "is-leader -o no/where",
                "no/where: no such file or directory",
            ),
        ],
    );
}

#[test]
fn silent_tools_accept_format_and_warn() {
    let mut bench = Bench::new(&["deploy PUPPET -n 2", "settle"]);
    let complains =
        |name, line, stderr| Row { name, line, code: 0, stdout: "", stderr: Stderr::Is(stderr) };
    bench.each(
        "puppet/0",
        "runner/jujuc/relation-set.go, juju-log.go, ports.go",
        &[
            complains(
                "relation-set --format",
                "relation-set -r 0 --format=json",
                "--format flag deprecated for command \"relation-set\"",
            ),
            complains(
                "any format will do",
                "juju-log --format xml hello",
                "--format flag deprecated for command \"juju-log\"",
            ),
            complains(
                "O7: open-port --format exits 0 with text on stderr",
                "open-port --format yaml 1",
                "--format flag deprecated for command \"open-port\"",
            ),
            complains(
                "close-port --format",
                "close-port --format yaml 1",
                "--format flag deprecated for command \"close-port\"",
            ),
            misused(
                "no complaint before it runs",
                "relation-set -r 0 --format=json x",
                "expected \"key=value\", got \"x\"",
            ),
        ],
    );
    let row = fails_with(
        "the complaint comes before the error",
        "relation-set -r 0 --app --format=json a=1",
        "--format flag deprecated for command \"relation-set\"ERROR cannot write relation settings\n",
    );
    bench.each("puppet/1", "runner/jujuc/relation-set.go", &[row]);
}

#[test]
fn tools_fail_outside_of_their_hook() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    let id = bench.output("puppet/0", "echo $JUJU_CONTEXT_ID");
    bench.knows("OLD", &id);
    bench.each(
        "puppet/0",
        "cmd/jujud/main.go, runner/jujuc/server.go",
        &[
            fails("no context", "unset JUJU_CONTEXT_ID; is-leader", "JUJU_CONTEXT_ID not set"),
            fails(
                "no socket",
                "unset JUJU_AGENT_SOCKET_ADDRESS; is-leader",
                "JUJU_AGENT_SOCKET_ADDRESS not set",
            ),
            fails_with(
                "L18: the context of a hook that is over",
                "JUJU_CONTEXT_ID=%OLD% is-leader",
                "\", got \"%OLD%\"\n",
            ),
            fails_with(
                "stale context",
                "JUJU_CONTEXT_ID=old is-leader",
                "ERROR bad request: expected context id \"puppet/0-",
            ),
            fails(
                "unknown tool",
                "ln -s $(command -v is-leader) ./who-leads; ./who-leads",
                "bad request: unknown command \"who-leads\"",
            ),
        ],
    );
}

#[test]
fn output_has_the_peculiarities_of_juju() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    bench.each(
        "puppet/0",
        "juju/cmd output.go, runner/jujuc/state-get.go, secret-ids.go, relation-ids.go",
        &[
            silent("O1: smart, null", "config-get label"),
            silent("O1: smart, empty text", "state-set e=; state-get e"),
            silent("O1: smart, empty list", "relation-list -r 0"),
            prints("O3: True", "is-leader", "True\n"),
            prints(
                "O4: a missing key of the state is empty",
                "state-get none --format=json",
                "\"\"\n",
            ),
            prints(
                "O4: a missing key of a bag is null",
                "relation-get -r 0 --format=json none puppet/0",
                "null\n",
            ),
            prints("O4: a missing option is null", "config-get --format=json none", "null\n"),
            prints("O5: no secrets are null", "secret-ids --format=json", "null\n"),
            prints("O5: no relations are an empty list", "relation-ids db --format=json", "[]\n"),
            prints("O5: no units are an empty list", "relation-list -r 0 --format=json", "[]\n"),
            prints(
                "O6: JSON is Go's",
                "state-set 'a=<&>'; state-get a --format=json",
                "\"\\u003c\\u0026\\u003e\"\n",
            ),
            misused(
                "O8: a wrong call is 2",
                "status-set",
                "invalid args, require <status> [message]",
            ),
            fails("O8: a no of the world is 1", "state-get --strict none", "\"none\" not found"),
            silent("O10: a message with a dash needs --", "status-set active -- -x"),
            misused(
                "O10: without --",
                "status-set active -x",
                "option provided but not defined: -x",
            ),
        ],
    );
}
