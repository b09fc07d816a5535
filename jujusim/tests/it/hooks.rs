//! Which hooks run, in which order, and what happens to their effects.

use crate::puppets::{model, model_of, options, run, script, since, tool};
use jujusim::Exit;

#[test]
fn a_unit_is_deployed_in_juju_s_order() {
    let mut sim = model(&["deploy PUPPET -n 2"]);
    run(&mut sim, "settle");
    let first: Vec<String> =
        since(&sim, 0).into_iter().filter(|hook| hook.starts_with("puppet/0")).collect();
    assert_eq!(
        first,
        [
            "puppet/0 install",
            "puppet/0 peers-relation-created",
            "puppet/0 leader-elected",
            "puppet/0 config-changed",
            "puppet/0 start",
            "puppet/0 peers-relation-joined",
            "puppet/0 peers-relation-changed",
        ]
    );
    assert!(since(&sim, 0).contains(&"puppet/1 leader-settings-changed".to_owned()));
}

#[test]
fn in_install_no_relation_is_known() {
    let mut sim = model(&["deploy PUPPET"]);
    script(
        &sim,
        "puppet/0",
        "install",
        "relation-ids peers --format=json; relation-get -r 0 - puppet/0 || echo $?",
    );
    run(&mut sim, "step");
    let log = &sim.model().hook_runs()[0].log;
    assert!(log.contains(&"DEBUG []".to_owned()) && log.contains(&"DEBUG 2".to_owned()), "{log:?}");
}

#[test]
fn effects_are_kept_only_when_the_hook_succeeds() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let effects = "relation-set -r 0 --app a=1; relation-set -r 0 b=1; state-set c=1; open-port 1; \
                   secret-add --label top password=one; status-set blocked seen; exit ";
    script(&sim, "puppet/0", "start", &format!("{effects} 1"));
    run(&mut sim, "trigger puppet/0 start");
    run(&mut sim, "step");
    let model = sim.model();
    assert!(model.bag(0, "puppet").is_empty() && !model.bag(0, "puppet/0").contains_key("b"));
    assert!(model.secret("top").is_none());
    assert_eq!(
        model.unit_status("puppet/0").expect("a unit").message,
        "seen",
        "a status is set at once"
    );
    script(&sim, "puppet/0", "start", &format!("{effects} 0"));
    run(&mut sim, "settle");
    assert_eq!(sim.model().bag(0, "puppet")["a"], "1");
    assert_eq!(sim.model().bag(0, "puppet/0")["b"], "1");
    assert!(sim.model().secret("top").is_some());
    assert_eq!(tool(&mut sim, "puppet/0", "state-get c").1, "1\n");
}

#[test]
fn own_writes_are_seen_within_the_hook() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let lines = "relation-set -r 0 a=1; relation-get -r 0 a puppet/0; relation-set -r 0 a=; relation-get -r 0 --format=json a puppet/0";
    assert_eq!(tool(&mut sim, "puppet/0", &format!("sh -c '{lines}'")).1, "1\nnull\n");
}

#[test]
fn a_write_to_the_peer_application_bag_runs_a_hook_on_the_leader_too() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    let start = sim.model().hook_runs().len();
    run(&mut sim, "exec puppet/0 -- relation-set -r 0 --app a=1");
    run(&mut sim, "settle");
    let woken = since(&sim, start + 1);
    assert_eq!(woken, ["puppet/0 peers-relation-changed", "puppet/1 peers-relation-changed"]);
    // Writing the same value again is not a change.
    let start = sim.model().hook_runs().len();
    run(&mut sim, "exec puppet/0 -- relation-set -r 0 --app a=1");
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start + 1), [""; 0]);
}

#[test]
fn a_failed_hook_runs_again_before_any_other() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    script(
        &sim,
        "puppet/0",
        "config-changed",
        "root=$PWD/../../../../../..; [ -e $root/dev/shm/once ] || { touch $root/dev/shm/once; exit 3; }",
    );
    let start = sim.model().hook_runs().len();
    run(&mut sim, "trigger puppet/0 start");
    run(&mut sim, "config puppet port=1");
    script(&sim, "puppet/0", "start", "exit 0");
    let printed = run(&mut sim, "settle");
    assert!(printed.contains("puppet/0 config-changed: exit 3"), "{printed}");
    assert_eq!(
        since(&sim, start),
        ["puppet/0 start", "puppet/0 config-changed (exit 3)", "puppet/0 config-changed"]
    );
}

#[test]
fn settle_gives_up_on_a_hook_that_always_fails() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    script(&sim, "puppet/0", "update-status", "echo broken >&2; exit 1");
    run(&mut sim, "trigger puppet/0 update-status");
    let error = sim.run("settle").expect_err("it never succeeds").to_string();
    assert!(
        error.contains("failed 5 times in a row") && error.contains("WARNING broken"),
        "{error}"
    );
    assert!(run(&mut sim, "status").contains("hook failed: \"update-status\""));
}

#[test]
fn relations_come_and_go_in_juju_s_order() {
    let mut sim = model(&["deploy PUPPET", "deploy PUPPET far -n 2", "settle"]);
    let start = sim.model().hook_runs().len();
    run(&mut sim, "databag puppet:peers puppet a=1");
    run(&mut sim, "integrate puppet:db far:back");
    run(&mut sim, "settle");
    let own = |sim: &jujusim::Sim, start| -> Vec<String> {
        since(sim, start)
            .into_iter()
            .filter_map(|hook| Some(hook.strip_prefix("puppet/0 ")?.to_owned()))
            .collect()
    };
    let hooks = own(&sim, start);
    assert_eq!(hooks[0], "db-relation-created");
    assert_eq!(hooks.iter().filter(|hook| *hook == "db-relation-joined").count(), 2);
    let joined = hooks.iter().position(|hook| hook == "db-relation-joined").expect("joined");
    assert_eq!(hooks[joined + 1], "db-relation-changed", "right after joined");
    let start = sim.model().hook_runs().len();
    script(
        &sim,
        "puppet/0",
        "db-relation-departed",
        "echo $JUJU_REMOTE_UNIT $JUJU_DEPARTING_UNIT; relation-list",
    );
    run(&mut sim, "remove-relation puppet:db far:back");
    run(&mut sim, "settle");
    assert_eq!(
        own(&sim, start),
        ["db-relation-departed", "db-relation-departed", "db-relation-broken"]
    );
    let departed = sim
        .model()
        .hook_runs()
        .iter()
        .find(|run| run.hook == "db-relation-departed" && run.unit == "puppet/0");
    assert_eq!(departed.expect("departed").log, ["DEBUG far/0 far/0", "DEBUG far/1"]);
    assert!(sim.model().relations_at("puppet:db").is_empty());
}

/// The agents of two applications do not wait for each other.
#[test]
fn a_relation_may_break_on_one_side_before_units_of_the_other_departed() {
    let commands = ["deploy PUPPET", "deploy PUPPET far", "integrate puppet:db far:back", "settle"];
    let end = |sim: &mut jujusim::Sim| {
        let start = sim.model().hook_runs().len();
        run(sim, "remove-relation puppet:db far:back");
        run(sim, "settle");
        since(sim, start)
    };
    for first in ["puppet", "far"] {
        let mut sim = model(&commands);
        run(&mut sim, &format!("first {first}"));
        let hooks = end(&mut sim);
        assert_eq!(hooks.len(), 4, "{hooks:?}");
        let own = |hook: &String| hook.starts_with(&format!("{first}/0 "));
        assert!(hooks[..2].iter().all(own) && hooks[1].ends_with("-relation-broken"), "{hooks:?}");
        run(&mut sim, "first none");
        run(&mut sim, "integrate puppet:db far:back");
        run(&mut sim, "settle");
        let hooks = end(&mut sim);
        assert!(hooks[1].ends_with("-relation-departed"), "by turns: {hooks:?}");
        assert!(sim.run("first nobody").is_err());
    }
    let early = |seed: u64| {
        let options = jujusim::Options { seed: Some(seed), ..crate::puppets::options() };
        let hooks = end(&mut crate::puppets::model_of(&commands, &options));
        hooks[1].ends_with("-relation-broken")
    };
    let found: std::collections::BTreeSet<bool> = (1..=8).map(early).collect();
    assert_eq!(found.len(), 2, "a seed chooses either order");
}

#[test]
fn what_calls_take_on_a_real_juju_is_reported() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let lines = "is-leader; config-get; relation-ids peers; relation-get -r 0 - puppet/0; \
                 status-set active; goal-state; secret-get x || true";
    script(&sim, "puppet/0", "update-status", lines);
    run(&mut sim, "trigger puppet/0 update-status");
    run(&mut sim, "settle");
    let millis = 20 + 28 + 20 + 38 + 85 + 200 + 355;
    let last = sim.model().hook_runs().last().expect("a run");
    assert_eq!(last.juju_time(), std::time::Duration::from_millis(millis));
    let table = run(&mut sim, "hooks puppet/0 --last 1 --juju-time");
    assert!(table.contains(&format!("exit 0  Juju {millis} ms  config-get 1,")), "{table}");
}

#[test]
fn a_unit_that_is_removed_leaves_before_it_stops() {
    let mut sim = model(&[
        "deploy PUPPET -n 2",
        "deploy PUPPET far",
        "integrate puppet:db far:back",
        "settle",
    ]);
    script(&sim, "puppet/1", "db-relation-departed", "echo $JUJU_DEPARTING_UNIT");
    let start = sim.model().hook_runs().len();
    run(&mut sim, "remove-unit puppet");
    run(&mut sim, "settle");
    let leaver: Vec<String> =
        since(&sim, start).into_iter().filter(|hook| hook.starts_with("puppet/1")).collect();
    assert_eq!(
        leaver,
        [
            "puppet/1 db-relation-departed",
            "puppet/1 db-relation-broken",
            "puppet/1 peers-relation-departed",
            "puppet/1 stop",
            "puppet/1 remove",
        ]
    );
    let departed = sim
        .model()
        .hook_runs()
        .iter()
        .find(|run| run.unit == "puppet/1" && run.hook == "db-relation-departed");
    assert_eq!(departed.expect("departed").log, ["DEBUG puppet/1"]);
    assert!(since(&sim, start).contains(&"puppet/0 peers-relation-departed".to_owned()));
    assert!(sim.model().unit_root("puppet/1").is_err());
}

#[test]
fn a_moved_lease_runs_leader_elected_on_the_new_leader() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    let start = sim.model().hook_runs().len();
    run(&mut sim, "leader puppet/1");
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start), ["puppet/0 leader-settings-changed", "puppet/1 leader-elected"]);
    assert_eq!(tool(&mut sim, "puppet/0", "is-leader").1, "False\n");
}

#[test]
fn a_new_pod_has_only_the_state_in_the_controller() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    tool(&mut sim, "puppet/1", "state-set kept=1");
    let root = sim.model().unit_root("puppet/1").expect("a unit").to_owned();
    let old = sim.model().unit_address("puppet/1").expect("a unit").to_string();
    std::fs::write(root.join("etc/lost"), "").expect("a file");
    let start = sim.model().hook_runs().len();
    run(&mut sim, "replace-pod puppet/1");
    run(&mut sim, "settle");
    assert_eq!(
        since(&sim, start),
        [
            "puppet/1 stop",
            "puppet/1 upgrade-charm",
            "puppet/1 config-changed",
            "puppet/0 peers-relation-changed",
            "puppet/1 start",
            "puppet/1 leader-settings-changed",
        ]
    );
    assert!(!root.join("etc/lost").exists());
    assert_eq!(tool(&mut sim, "puppet/1", "state-get kept").1, "1\n");
    // The unit has a new address, and its databags contain it after config-changed.
    let address = sim.model().unit_address("puppet/1").expect("a unit").to_string();
    assert_ne!(address, old);
    assert_eq!(sim.model().bag(0, "puppet/1")["ingress-address"], address);
}

#[test]
fn a_pod_lost_within_a_hook_resumes_it_without_upgrade_charm() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    script(&sim, "puppet/0", "update-status", "is-leader");
    run(&mut sim, "trigger puppet/0 update-status");
    let start = sim.model().hook_runs().len();
    run(&mut sim, "replace-pod puppet/0 --mid-hook");
    run(&mut sim, "settle");
    assert_eq!(
        since(&sim, start),
        [
            "puppet/0 update-status (killed)",
            "puppet/0 update-status",
            "puppet/0 start",
            "puppet/0 config-changed"
        ]
    );
}

#[test]
fn a_killed_hook_loses_its_effects_and_runs_again() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    script(
        &sim,
        "puppet/0",
        "update-status",
        "relation-set -r 0 a=1\nstatus-set active\nstatus-set active late",
    );
    run(&mut sim, "kill puppet/0 at status-set 2");
    run(&mut sim, "trigger puppet/0 update-status");
    run(&mut sim, "step");
    assert!(matches!(sim.model().hook_runs().last().expect("a run").exit, Exit::Killed(9)));
    assert!(!sim.model().bag(0, "puppet/0").contains_key("a"));
    assert_eq!(
        sim.model().unit_status("puppet/0").expect("a unit").message,
        "",
        "the second call had no effect"
    );
    run(&mut sim, "settle");
    assert_eq!(sim.model().bag(0, "puppet/0")["a"], "1");
}

#[test]
fn a_tool_fails_with_an_injected_error() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    script(&sim, "puppet/0", "update-status", "is-leader; is-leader || echo failed");
    run(&mut sim, "fail puppet/0 is-leader 2 --message 'leadership status unknown'");
    run(&mut sim, "trigger puppet/0 update-status");
    run(&mut sim, "settle");
    let log = &sim.model().hook_runs().last().expect("a run").log;
    assert!(log.contains(&"WARNING ERROR leadership status unknown".to_owned()), "{log:?}");
    assert!(log.contains(&"DEBUG failed".to_owned()), "{log:?}");
}

#[test]
fn a_torn_commit_keeps_the_secret_and_nothing_else() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    script(
        &sim,
        "puppet/0",
        "update-status",
        "secret-info-get --label top || secret-add --label top password=one\nrelation-set -r 0 --app a=1",
    );
    run(&mut sim, "fail-commit puppet/0 --torn");
    run(&mut sim, "trigger puppet/0 update-status");
    run(&mut sim, "step");
    assert!(matches!(sim.model().hook_runs().last().expect("a run").exit, Exit::Refused(_)));
    assert!(sim.model().secret("top").is_some() && sim.model().bag(0, "puppet").is_empty());
    run(&mut sim, "settle");
    assert_eq!(sim.model().bag(0, "puppet")["a"], "1");
}

#[test]
fn a_second_secret_of_the_same_label_fails_at_commit() {
    let mut sim =
        model(&["deploy PUPPET", "settle", "exec puppet/0 -- secret-add --label top password=one"]);
    let error = sim
        .run("exec puppet/0 -- secret-add --label top password=two")
        .expect_err("the label is taken");
    assert!(
        error.to_string().contains("creating secrets: secret with label \"top\" already exists"),
        "{error}"
    );
}

#[test]
fn a_new_revision_is_announced_to_all_readers_of_the_secret() {
    let mut sim = model(&[
        "deploy PUPPET -n 3",
        "settle",
        "exec puppet/0 -- secret-add --label top password=one",
    ]);
    let id = tool(&mut sim, "puppet/0", "secret-ids").1.trim().to_owned();
    tool(&mut sim, "puppet/0", "secret-get --label top");
    tool(&mut sim, "puppet/1", "secret-get --label top");
    script(
        &sim,
        "puppet/1",
        "secret-changed",
        "echo $JUJU_SECRET_LABEL; secret-get --label top --refresh",
    );
    script(&sim, "puppet/0", "secret-changed", "secret-get --label top --refresh");
    script(&sim, "puppet/0", "secret-remove", "echo $JUJU_SECRET_REVISION");
    let start = sim.model().hook_runs().len();
    tool(&mut sim, "puppet/0", &format!("secret-set {id} password=two"));
    run(&mut sim, "settle");
    // The writer gets the event, too. Then no unit tracks the old revision, and the leader gets the
    // event for that.
    assert_eq!(
        since(&sim, start + 1),
        ["puppet/0 secret-changed", "puppet/1 secret-changed", "puppet/0 secret-remove"]
    );
    assert_eq!(sim.model().hook_runs().last().expect("a run").log, ["DEBUG 1"]);
}

#[test]
fn every_tool_call_of_a_hook_is_recorded() {
    let measuring = jujusim::Options { measures: true, ..options() };
    let mut sim = model_of(&["deploy PUPPET", "settle"], &measuring);
    script(&sim, "puppet/0", "update-status", "juju-log -l WARNING hello there\nsleep 0.05");
    run(&mut sim, "trigger puppet/0 update-status");
    run(&mut sim, "settle");
    let run = sim.model().hook_runs().last().expect("a run");
    assert_eq!(run.calls[0].args, ["-l", "WARNING", "hello", "there"]);
    assert!(run.log.contains(&"WARNING hello there".to_owned()));
    assert!(run.processes.iter().any(|line| line == "sleep 0.05"), "{:?}", run.processes);
    assert!(run.max_rss > 0 && !run.wall.is_zero());
}

#[test]
fn a_hook_is_killed_instead_of_a_system_call() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let root = sim.model().unit_root("puppet/0").expect("a unit").to_owned();
    std::fs::write(root.join("etc/old"), "").expect("a file");
    script(&sim, "puppet/0", "update-status", "cd $root/etc; exec mv -T old new");
    run(&mut sim, "kill puppet/0 at syscall renameat2");
    run(&mut sim, "trigger puppet/0 update-status");
    run(&mut sim, "step");
    assert!(matches!(sim.model().hook_runs().last().expect("a run").exit, Exit::Killed(9)));
    assert!(root.join("etc/old").exists() && !root.join("etc/new").exists());
    run(&mut sim, "settle");
    assert!(root.join("etc/new").exists());
}

#[test]
fn a_removed_application_leaves_nothing_behind() {
    let mut sim = model(&[
        "deploy PUPPET",
        "deploy PUPPET far -n 2",
        "integrate puppet:db far:back",
        "settle",
    ]);
    tool(&mut sim, "far/0", "secret-add --label top password=one");
    let start = sim.model().hook_runs().len();
    run(&mut sim, "remove-application far");
    run(&mut sim, "settle");
    let far: Vec<String> =
        since(&sim, start).into_iter().filter(|hook| hook.starts_with("far/0")).collect();
    assert_eq!(
        far,
        [
            "far/0 back-relation-departed",
            "far/0 back-relation-broken",
            "far/0 peers-relation-departed",
            "far/0 stop",
            "far/0 remove",
        ]
    );
    assert!(since(&sim, start).contains(&"puppet/0 db-relation-broken".to_owned()));
    assert!(sim.model().secret("top").is_none() && sim.model().units_of("far").is_empty());
    assert!(
        sim.model().relations_at("puppet:db").is_empty()
            && sim.model().relations_at("far:peers").is_empty()
    );
}

#[test]
fn another_unit_leads_when_the_leader_is_gone() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle", "leader puppet/1", "settle"]);
    script(&sim, "puppet/1", "remove", "is-leader");
    run(&mut sim, "remove-unit puppet");
    let start = sim.model().hook_runs().len();
    run(&mut sim, "settle");
    let hooks = since(&sim, start);
    // The lease stays until the unit is gone.
    let removed = hooks.iter().position(|hook| hook == "puppet/1 remove").expect("removed");
    assert_eq!(hooks[removed + 1..], ["puppet/0 leader-elected"]);
    let last = sim.model().hook_runs().iter().rfind(|run| run.hook == "remove").expect("removed");
    assert_eq!(last.log, ["DEBUG True"]);
}

#[test]
fn a_script_stops_at_the_first_failed_command() {
    let script =
        format!("deploy {}\nsettle\nexpect no such text\nstatus", crate::puppets::puppet());
    let found = jujusim::run_script(&script, &crate::puppets::options()).expect("a transcript");
    assert!(found.failure.expect("a failure").contains("expectation failed"));
    assert!(found.text.contains("> settle") && !found.text.contains("> status"), "{}", found.text);
    let script = "add-unit nobody\nexpect-error not found";
    let found = jujusim::run_script(script, &crate::puppets::options()).expect("a transcript");
    assert_eq!(found.failure, None);
    assert_eq!(
        found.text,
        "> add-unit nobody\nERROR application nobody not found\n> expect-error not found\n"
    );
}

#[test]
fn the_text_of_an_error_does_not_satisfy_expect() {
    for script in [
        "add-unit nobody\nexpect nobody",
        "add-unit nobody\nexpect-not somebody",
        "status\nexpect-error App",
    ] {
        let found = jujusim::run_script(script, &crate::puppets::options()).expect("a transcript");
        assert!(found.failure.is_some(), "{script}: {}", found.text);
    }
}
