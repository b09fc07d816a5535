//! The `juju` command, as the script of an integration test runs it against a served model.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::puppets::puppet;

/// Runs a shell script in its own served model; `PUPPET` is the puppet's directory.
fn script(lines: &str) -> Output {
    let text = format!("set -eu\n{}", lines.replace("PUPPET", &puppet()));
    let mut serve = Command::new(env!("CARGO_BIN_EXE_jujusim"));
    serve.args(["serve", "--", "sh", "-c", &text]).output().expect("the simulator runs")
}

/// The output of a script, which must succeed.
fn printed(lines: &str) -> String {
    let output = script(lines);
    assert!(
        output.status.success(),
        "{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// The JSON documents that a script prints, one per line.
fn documents(lines: &str) -> Vec<Value> {
    printed(lines).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Standard error and exit code of one command, in a model with a settled puppet.
fn refused(command: &str) -> (String, i32) {
    let settled = "juju deploy PUPPET 2>/dev/null; juju wait-for unit puppet/0 --query='agent-status==\"idle\"' 2>/dev/null";
    let found = printed(&format!("{settled}; {command} 2>&1 || echo \"exit $?\""));
    let (text, code) = found.rsplit_once("exit ").unwrap_or_else(|| panic!("{command}: {found}"));
    (text.to_owned(), code.trim().parse().expect("a code"))
}

const IDLE: &str = r#"juju wait-for model dev --query='forEach(units, unit => unit.agent-status == "idle")' --timeout=60s"#;

#[test]
fn a_script_takes_an_application_through_its_life() {
    let found = documents(&format!(
        r#"
        juju deploy PUPPET -n 2 --config port=7000 --trust --resource image=none --base ubuntu@24.04 --channel edge
        juju wait-for application puppet --query='status=="unknown" && forEach(units, unit => unit.agent-status=="idle")'
        juju status --format json
        juju scale-application puppet 3
        juju config puppet port=7001 label='two words'
        {IDLE}
        juju config puppet --format json
        juju run puppet/leader greet who=me --format json
        juju exec --unit puppet/0,puppet/2 --format json -- is-leader
        juju deploy PUPPET far
        juju integrate puppet:db far:back
        {IDLE}
        juju show-unit far/0 --endpoint back --format json
        juju status --format json --relations -m admin/dev
        juju remove-relation puppet:db far:back
        juju remove-unit puppet --num-units 2 --no-prompt
        juju remove-application far --no-prompt
        {IDLE}
        juju status --format json
        "#
    ));
    let [deployed, config, run, exec, shown, related, removed] = found.as_slice() else {
        panic!("{found:?}")
    };
    let units = |status: &Value| -> Vec<String> {
        let units = status["applications"]["puppet"]["units"].as_object();
        units.expect("units").keys().cloned().collect()
    };
    let unit = &deployed["applications"]["puppet"]["units"]["puppet/0"];
    assert_eq!(
        (unit["leader"].as_bool(), unit["provider-id"].as_str()),
        (Some(true), Some("puppet-0"))
    );
    assert_eq!(unit["workload-status"]["current"], "unknown");
    assert_eq!(unit["juju-status"]["current"], "idle");
    assert_eq!(units(deployed), ["puppet/0", "puppet/1"]);
    assert_eq!(config["settings"]["port"]["value"], 7001);
    assert_eq!(config["settings"]["port"]["source"], "user");
    assert_eq!(config["settings"]["label"]["value"], "two words");
    assert_eq!(config["settings"]["expose"]["source"], "default");
    assert_eq!(config["application-config"]["trust"]["value"], true);
    let task = &run["puppet/0"];
    assert_eq!(
        (task["status"].as_str(), task["unit"].as_str()),
        (Some("completed"), Some("puppet/0"))
    );
    assert_eq!(
        (task["results"]["return-code"].as_i64(), task["id"].as_str()),
        (Some(0), Some("1"))
    );
    assert_eq!(exec["puppet/0"]["results"]["stdout"], "True\n");
    assert_eq!(exec["puppet/2"]["results"]["stdout"], "False\n");
    let relation = &shown["far/0"]["relation-info"][0];
    assert_eq!(relation["related-endpoint"], "db");
    assert_eq!(relation["related-units"].as_object().expect("units").len(), 3);
    let relations = &related["applications"]["far"]["relations"]["back"][0];
    assert_eq!(relations["related-application"], "puppet");
    assert_eq!(units(removed), ["puppet/0"]);
    assert!(removed["applications"].get("far").is_none());
}

#[test]
fn processes_of_a_model_block_no_signals() {
    let blocked = printed(
        "
        juju deploy PUPPET 2>/dev/null
        grep SigBlk /proc/self/status
        juju exec --unit puppet/0 -- grep SigBlk /proc/self/status
        ",
    );
    assert_eq!(blocked, "SigBlk:\t0000000000000000\n".repeat(2));
}

#[test]
fn human_readable_output_looks_like_jujus() {
    let found = printed(&format!(
        r"
        juju deploy PUPPET 2>&1
        {IDLE} 2>&1
        juju status
        juju run puppet/0 greet 2>&1
        juju config puppet port
        juju config puppet | grep -A5 port:
        juju models; juju switch; juju switch dev 2>&1; juju whoami; juju version
        juju add-unit puppet --num-units 2; juju remove-unit puppet --num-units 1 2>&1
        "
    ));
    for part in [
        "Located local charm \"puppet\", revision 0\nDeploying \"puppet\" from local charm \"puppet\"",
        "model \"dev\" found\n",
        "App     Version  Status   Scale  Charm   Channel  Rev  Address  Exposed  Message\n",
        "Running operation 1 with 1 task\n  - task 1 on unit-puppet-0\n\nWaiting for task 1...\n",
        "\n6432\n",
        "port:\n    default: 6432\n    description: ''\n    source: default\n    type: int\n    value: 6432\n",
        "Controller: jujusim\n",
        "jujusim:admin/dev\njujusim:admin/dev (no change)\n",
        "User:        admin\n",
        "\n3.6.14-ubuntu-amd64\n",
        "scaling down to 2 units\n",
    ] {
        assert!(found.contains(part), "{part}:\n{found}");
    }
}

#[test]
fn a_status_shows_some_applications_only_and_repeats() {
    let dir = tempfile::tempdir().expect("a directory");
    let found = printed(&format!(
        "
        cd {}
        juju deploy PUPPET -n 2; juju deploy PUPPET far
        {IDLE}
        names() {{ grep -o 'puppet/[0-9]\\|far/[0-9]' | sort -u | xargs; }}
        for wanted in far puppet/1 'far puppet/0' nobody; do juju status $wanted | names; done
        juju status far puppet/1 --format json | names
        >seen
        juju status far --watch 10ms >seen & watch=$!
        while [ $(grep -c '^.*Model ' seen) -lt 3 ]; do sleep 0.01; done
        kill $watch
        names <seen
        juju show-application far puppet
        ",
        dir.path().display()
    ));
    let shown = "far:
  charm: local:puppet-0
  principal: true
  exposed: false
  remote: false
  life: alive
  endpoint-bindings:
    '': alpha
    back: alpha
    db: alpha
    peers: alpha
";
    let expected = format!(
        "far/0\npuppet/1\nfar/0 puppet/0\n\nfar/0 puppet/1\nfar/0\n{shown}{}",
        shown.replace("far:", "puppet:")
    );
    assert_eq!(found, expected);
}

#[test]
fn commands_reach_the_unit_s_machine_and_its_context() {
    let found = printed(&format!(
        r#"
        juju deploy PUPPET 2>/dev/null
        {IDLE} 2>/dev/null
        juju exec --unit puppet/leader 'echo $JUJU_UNIT_NAME; exit 3' || echo "exec $?"
        echo given | juju ssh puppet/0 'cat > etc/here; echo ${{JUJU_CONTEXT_ID-none}}'
        juju ssh --container charm puppet/leader cat etc/here
        juju ssh puppet/0 'exit 4' || echo "ssh $?"
        juju exec --application puppet -- status-set active 'at last'
        juju wait-for unit puppet/0 2>&1
        juju debug-log --include puppet/0 --limit 1
        "#
    ));
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(
        lines[..6],
        ["puppet/0", "exec 3", "none", "given", "ssh 4", "unit \"puppet/0\" found"]
    );
    assert!(
        lines[6].starts_with("unit-puppet-0: 00:00:") && lines[6].contains("juju-exec"),
        "{}",
        lines[6]
    );
}

#[test]
fn an_action_s_results_are_printed_and_its_failure_fails_the_command() {
    let lines = |format: &str| {
        format!(
            r#"
            juju deploy PUPPET 2>/dev/null
            {IDLE} 2>/dev/null
            juju ssh puppet/0 'echo action-set a.b=1 c=two > etc/greet'
            juju run puppet/0 greet {format} 2>/dev/null
            juju ssh puppet/0 'echo "action-set got=this; action-fail not-today" > etc/greet'
            juju run puppet/0 greet {format} || echo "exit $?"
            "#
        )
    };
    let plain = printed(&lines(""));
    assert_eq!(plain, "a:\n  b: '1'\nc: two\nAction id 2 failed: not-today\ngot: this\nexit 1\n");
    let json = printed(&lines("--format json --wait=1m"));
    let json: Vec<&str> = json.lines().collect();
    let good: Value = serde_json::from_str(json[0]).expect("JSON");
    let bad: Value = serde_json::from_str(json[1]).expect("JSON");
    assert_eq!(good["puppet/0"]["results"]["a"]["b"], "1");
    assert_eq!((bad["puppet/0"]["status"].as_str(), json[2]), (Some("failed"), "exit 1"));
    assert_eq!(bad["puppet/0"]["message"], "not-today");
    let output = script(&lines(""));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("ERROR the following task failed:\n - id \"2\" with return code 0\n"),
        "{said}"
    );
}

#[test]
fn a_packed_charm_is_unpacked_and_refreshed() {
    let dir = tempfile::tempdir().expect("a directory");
    let charm = dir.path().join("puppet.charm");
    let mut archive = zip::ZipWriter::new(fs::File::create(&charm).expect("a file"));
    for (name, mode) in [("metadata.yaml", 0o644), ("dispatch", 0o755)] {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(mode);
        archive.start_file(name, options).expect("an entry");
        archive
            .write_all(&fs::read(Path::new(&puppet()).join(name)).expect("a file"))
            .expect("an entry");
    }
    archive.finish().expect("an archive");
    let found = printed(&format!(
        r#"
        cd {}
        juju deploy ./puppet.charm 2>/dev/null
        {IDLE} 2>/dev/null
        juju ssh puppet/0 'test -x var/lib/juju/agents/unit-puppet-0/charm/dispatch && echo runs'
        juju refresh puppet --path puppet.charm 2>&1 || echo "exit $?"
        juju refresh puppet --path ./puppet.charm 2>&1
        {IDLE} 2>/dev/null
        juju debug-log --replay | grep -c '"upgrade-charm"'
        juju config puppet port || echo "exit $?"
        "#,
        dir.path().display()
    ));
    assert_eq!(
        found,
        "runs\nERROR path \"puppet.charm\" can not be a relative path\nexit 1\n\
         Added local charm \"puppet\" to the model\n1\nexit 1\n"
    );
}

#[test]
fn a_failed_hook_is_shown_waited_for_and_resolved() {
    let found = printed(&format!(
        r#"
        juju deploy PUPPET 2>/dev/null
        {IDLE} 2>/dev/null
        juju ssh puppet/0 'echo exit 1 > etc/config-changed'
        juju config puppet port=1
        juju wait-for unit puppet/0 --query='workload-status=="error"' 2>&1
        juju status | grep '^puppet/0'
        juju resolve puppet/0 --no-retry
        {IDLE} 2>/dev/null
        juju wait-for unit puppet/0 --query='workload-status!="error"' 2>/dev/null
        juju debug-log --level ERROR | cut -d' ' -f3-
        "#
    ));
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines[0], "unit \"puppet/0\" found");
    assert!(
        lines[1].contains("idle") && lines[1].ends_with("hook failed: \"config-changed\""),
        "{}",
        lines[1]
    );
    assert_eq!(
        lines[2],
        "ERROR juju.worker.uniter.operation hook \"config-changed\" failed: exit 1"
    );
}

#[test]
fn settings_come_from_files_and_go_back_to_their_defaults() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("settings.yaml"), "puppet:\n  port: 5\n  label: from a file\n")
        .expect("a file");
    fs::write(dir.path().join("text"), "by hand").expect("a file");
    let found = printed(&format!(
        r#"
        cd {}
        juju deploy PUPPET puppet --config settings.yaml
        juju config puppet label; juju config puppet port
        juju config puppet label=@text
        juju config puppet label
        juju config puppet --file settings.yaml
        juju config puppet label
        juju config puppet --reset port,label
        juju config puppet port; juju config puppet label
        juju trust puppet --scope=cluster
        juju config puppet --format json | grep -c 'bool","value":true'
        juju trust puppet --remove
        juju config puppet --format json | grep -c 'bool","value":true' || echo none
        "#,
        dir.path().display()
    ));
    assert_eq!(found, "from a file\n5\nby hand\nfrom a file\n6432\n\n1\n0\nnone\n");
}

#[test]
fn a_deleted_pod_is_replaced_and_loses_the_lease() {
    let found = printed(&format!(
        r"
        juju deploy PUPPET -n 2 2>/dev/null
        {IDLE} 2>/dev/null
        juju exec --unit puppet/0,puppet/1 -- touch old >/dev/null
        kubectl delete pod puppet-0 --namespace dev
        kubectl delete pod puppet-7 --namespace dev --ignore-not-found
        juju exec --unit puppet/leader 'echo $JUJU_UNIT_NAME; ls old'
        juju exec --unit puppet/0 -- test -e old || echo new
        kubectl delete pod puppet-0 --namespace dev
        juju exec --unit puppet/1 -- is-leader
        "
    ));
    let expected = "pod \"puppet-0\" deleted\npuppet/1\nold\nnew\npod \"puppet-0\" deleted\nTrue\n";
    assert_eq!(found, expected);
}

#[test]
fn invalid_and_unmodelled_commands_are_refused_as_in_juju() {
    for (command, text, code) in [
        ("juju nonsense now", "ERROR jujusim's juju does not know \"nonsense now\"\n", 2),
        ("juju deploy", "required arguments were not provided", 2),
        ("juju status --format oneline", "invalid value 'oneline'", 2),
        ("juju wait-for unit puppet/0 --timeout soon", "invalid duration \"soon\"", 2),
        ("juju status -m other", "ERROR model jujusim:admin/other not found\n", 1),
        ("juju switch other", "ERROR model jujusim:admin/other not found\n", 1),
        ("juju status --watch soon", "invalid duration \"soon\"", 2),
        ("juju status --nope", "ERROR option provided but not defined: --nope\n", 2),
        ("juju config puppet -x", "ERROR option provided but not defined: -x\n", 2),
        ("juju show-application nobody", "ERROR application nobody not found\n", 1),
        ("{ juju status nobody; false; }", "Nothing matched specified filter.\n", 1),
        (
            "juju deploy mysql-k8s",
            "ERROR jujusim does not model the Charmhub charm \"mysql-k8s\"",
            1,
        ),
        ("juju deploy ./nowhere", "it has neither metadata.yaml nor charmcraft.yaml\n", 1),
        ("juju deploy ./nowhere.charm", "No such file or directory", 1),
        (
            "juju ssh --container pgbouncer puppet/0 ls",
            "ERROR jujusim does not model the container",
            1,
        ),
        ("juju config nobody", "ERROR application nobody not found\n", 1),
        ("juju config puppet colour", "ERROR key \"colour\" not found in \"puppet\"", 1),
        ("juju config puppet --reset colour", "ERROR unknown option \"colour\"\n", 1),
        ("juju config puppet port label", "ERROR cannot specify multiple keys to get\n", 1),
        (
            "juju config puppet port --reset label",
            "ERROR cannot use --reset flag and get value simultaneously\n",
            1,
        ),
        (
            "juju config puppet port label=x",
            "ERROR cannot get value and set key=value pairs simultaneously\n",
            1,
        ),
        (
            "juju config puppet port=1 --reset label,port",
            "ERROR cannot set and reset key \"port\" simultaneously\n",
            1,
        ),
        (
            "juju config puppet --reset label,port=1",
            "ERROR --reset accepts a comma delimited set of keys \"a,b,c\", received: \"port=1\"\n",
            1,
        ),
        ("juju config puppet port=x", "ERROR option \"port\" expected int, got \"x\"\n", 1),
        (
            "juju run puppet/0 nothing",
            "ERROR action \"nothing\" not defined on unit \"puppet/0\"\n",
            1,
        ),
        ("juju run greet now", "ERROR no unit specified\n", 1),
        ("juju run puppet/0 puppet/0", "ERROR no action specified\n", 1),
        ("juju run puppet/7 greet", "ERROR unit puppet/7 not found\n", 1),
        ("juju run nobody/leader greet", "ERROR application nobody not found\n", 1),
        ("juju exec ls", "ERROR You must specify a target", 1),
        ("juju remove-unit puppet/0", "k8s models do not support removing named units", 1),
        ("juju remove-unit puppet", "ERROR specify the number of units", 1),
        ("juju trust puppet", "requires --scope=cluster", 1),
        ("juju resolve puppet/0", "ERROR ", 1),
        ("juju refresh puppet", "ERROR jujusim does not model refresh from Charmhub", 1),
        ("juju relate puppet nobody", "ERROR application nobody not found\n", 1),
        (
            "juju wait-for unit puppet/0 --query='len(x)==1'",
            "ERROR jujusim does not model len in a query",
            1,
        ),
        (
            "juju wait-for unit puppet/7 --timeout 10ms",
            "ERROR timed out waiting for \"puppet/7\"",
            1,
        ),
        ("juju show-unit puppet", "ERROR invalid unit name \"puppet\"\n", 1),
        ("kubectl get pods", "unrecognized subcommand 'get'", 2),
        ("kubectl delete pod puppet-7 -n dev", "ERROR pods \"puppet-7\" not found\n", 1),
        ("kubectl delete pod puppet-0 -n other", "ERROR model jujusim:admin/other not found\n", 1),
    ] {
        let (said, exit) = refused(command);
        assert!(said.contains(text) && exit == code, "{command}: exit {exit}\n{said}");
    }
}

#[test]
fn the_server_exits_with_the_code_of_its_command_and_leaves_nothing() {
    let output = script("echo $JUJUSIM_SOCKET; dirname \"$(command -v juju)\"; exit 7");
    assert_eq!(output.status.code(), Some(7));
    let found = String::from_utf8(output.stdout).expect("text");
    let (socket, bin) = found.trim().split_once('\n').expect("two lines");
    assert_eq!(Path::new(socket).parent(), Path::new(bin).parent());
    assert!(!Path::new(bin).exists());
    assert_eq!(script("kill -9 $$").status.code(), Some(137));
}

#[test]
fn a_shell_can_use_what_the_server_prints_until_it_is_stopped() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("it's here");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_jujusim"));
    serve.args(["serve", "--juju", "2.9.52", "--socket"]).arg(&socket).stdout(Stdio::piped());
    let mut server = serve.stderr(Stdio::null()).spawn().expect("the simulator runs");
    let mut exports = String::new();
    BufReader::new(server.stdout.take().expect("its output"))
        .read_line(&mut exports)
        .expect("a line");
    let shell = |line: &str| {
        let output = Command::new("sh")
            .args(["-c", &format!("{exports}\n{line}")])
            .output()
            .expect("a shell");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    assert_eq!(shell("juju version"), "2.9.52-ubuntu-amd64\n");
    let mut tail = Command::new("sh");
    tail.args(["-c", &format!("{exports}\nexec juju debug-log --tail --include puppet")])
        .stdout(Stdio::piped());
    let mut tail = tail.spawn().expect("a shell");
    shell(&format!("juju deploy {}", puppet()));
    let mut log = BufReader::new(tail.stdout.take().expect("its output")).lines();
    assert!(log.any(|line| line.expect("a line").contains("ran \"start\" hook")));
    tail.kill().and_then(|()| tail.wait()).expect("it ends");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(server.id()).expect("a process"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal");
    assert!(server.wait().expect("it ends").success());
    assert!(!socket.exists());
    assert!(shell("command -v juju || echo gone").ends_with("gone\n"));
}

#[test]
fn without_a_model_juju_names_the_remedy() {
    use std::os::unix::process::CommandExt as _;
    let juju = |socket: Option<&str>| {
        let mut juju = Command::new(env!("CARGO_BIN_EXE_jujusim"));
        juju.arg0("juju")
            .arg("status")
            .env_remove("JUJUSIM_SOCKET")
            .envs(socket.map(|path| ("JUJUSIM_SOCKET", path)));
        let output = juju.output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = juju(None);
    assert!(code == Some(1) && said.contains("JUJUSIM_SOCKET is not set"), "{said}");
    let (code, said) = juju(Some("/nowhere"));
    assert!(code == Some(1) && said.starts_with("ERROR no model answers at /nowhere"), "{said}");
}

#[test]
fn charms_of_charmhub_are_actors() {
    let found = documents(&format!(
        r"
        juju deploy postgresql-k8s --channel 14/stable --trust
        juju deploy data-integrator shop --config database=shop
        juju integrate shop postgresql-k8s
        {IDLE}
        juju wait-for application shop
        juju status --format json
        "
    ));
    let shop = &found[0]["applications"]["shop"];
    assert_eq!(shop["application-status"]["message"], "has a database");
    assert_eq!(shop["charm-origin"], "charmhub");
    assert_eq!(found[0]["applications"]["postgresql-k8s"]["charm-name"], "postgresql-k8s");
}
