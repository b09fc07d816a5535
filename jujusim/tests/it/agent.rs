//! The unit agent's behaviour around hooks: priorities, time, restarts, faults.

use std::collections::BTreeSet;

use jujusim::{Exit, Options, Sim};

use crate::puppets::{model, model_of, options, run, script, since, tool};

/// The log of the last run.
fn log(sim: &Sim) -> Vec<String> {
    sim.model().hook_runs().last().expect("a run").log.clone()
}

/// The lines that the hook wrote to standard output: the order between the two streams varies.
fn printed(log: &[String]) -> Vec<&str> {
    log.iter().filter_map(|line| line.strip_prefix("DEBUG ")).collect()
}

fn runs(sim: &Sim) -> usize {
    sim.model().hook_runs().len()
}

/// Makes `update-status` run these shell lines, and runs the hook.
fn once(sim: &mut Sim, unit: &str, lines: &str) {
    script(sim, unit, "update-status", lines);
    run(sim, &format!("trigger {unit} update-status"));
}

fn refused(sim: &mut Sim, command: &str, why: &str) {
    let error = sim.run(command).expect_err(command).to_string();
    assert!(error.contains(why), "{command}: {error}");
}

#[test]
fn pending_events_run_in_jujus_order() {
    // uniter/resolver.go
    let mut sim = model(&[
        "deploy PUPPET -n 2",
        "deploy PUPPET far",
        "settle",
        "exec puppet/0 -- secret-add --label top password=one",
        "exec puppet/1 -- secret-get --label top",
        "settle",
    ]);
    let start = runs(&sim);
    let commands = [
        "trigger puppet/1 update-status",
        "databag puppet:peers puppet seen=1",
        "config puppet port=1",
        "trigger puppet/1 start",
        "secret-edit top password=two",
        "trigger puppet/1 work-pebble-ready",
        "leader puppet/1",
        "integrate puppet:db far:back",
    ];
    for command in commands {
        run(&mut sim, command);
    }
    for _ in 0..8 {
        run(&mut sim, "step --unit puppet/1");
    }
    assert_eq!(
        since(&sim, start),
        [
            "puppet/1 db-relation-created",
            "puppet/1 leader-elected",
            "puppet/1 work-pebble-ready",
            "puppet/1 secret-changed",
            "puppet/1 start",
            "puppet/1 config-changed",
            "puppet/1 peers-relation-changed",
            "puppet/1 update-status",
        ]
    );
}

#[test]
fn actions_and_commands_wait_for_leadership_but_not_for_configuration() {
    let mut sim =
        model(&["deploy PUPPET -n 2", "settle", "leader puppet/1", "config puppet port=1"]);
    let start = runs(&sim);
    run(&mut sim, "run puppet/1 greet");
    assert_eq!(since(&sim, start), ["puppet/1 leader-elected", "puppet/1 greet"]);
}

#[test]
fn a_failed_hook_is_retried_with_growing_delays() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    once(&mut sim, "puppet/0", "exit 1");
    run(&mut sim, "step --unit puppet/0");
    // A failed hook delays neither the other unit nor an action of its own unit.
    run(&mut sim, "trigger puppet/1 update-status");
    let start = runs(&sim);
    run(&mut sim, "step");
    run(&mut sim, "run puppet/0 greet");
    assert_eq!(since(&sim, start), ["puppet/1 update-status", "puppet/0 greet"]);
    // Retries come after 5, 10 and 20 seconds; the fourth comes 40 seconds later.
    let start = runs(&sim);
    script(
        &sim,
        "puppet/0",
        "update-status",
        "[ $(state-get tries) = xxx ] || { state-set tries=x; exit 1; }",
    );
    let error = sim.run("settle").expect_err("its state is never committed").to_string();
    assert!(error.contains("failed 5 times"), "{error}");
    assert_eq!(since(&sim, start).len(), 4);
}

#[test]
fn without_retries_a_unit_stays_in_error_until_resolved() {
    let mut sim =
        model(&["deploy PUPPET", "settle", "model-config automatically-retry-hooks=false"]);
    once(&mut sim, "puppet/0", "exit 1");
    assert!(run(&mut sim, "settle").contains("1 failed"));
    run(&mut sim, "config puppet port=1");
    assert!(run(&mut sim, "settle").starts_with("settled: 0 hooks"));
    assert!(run(&mut sim, "status").contains("hook failed: \"update-status\""));
    // Without a retry the hook counts as done.
    let start = runs(&sim);
    run(&mut sim, "resolve puppet/0 --no-retry");
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start), ["puppet/0 config-changed"]);
    run(&mut sim, "trigger puppet/0 update-status");
    run(&mut sim, "settle");
    script(&sim, "puppet/0", "update-status", "true");
    let start = runs(&sim);
    run(&mut sim, "resolve puppet/0");
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start), ["puppet/0 update-status"]);
    refused(&mut sim, "resolve puppet/0", "not in an error state");
}

#[test]
fn no_unit_leads_until_the_old_lease_expires() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    run(&mut sim, "leader --none puppet");
    assert_eq!(tool(&mut sim, "puppet/0", "is-leader").1, "False\n");
    assert_eq!(tool(&mut sim, "puppet/1", "is-leader").1, "False\n");
    assert!(run(&mut sim, "wait 59s").is_empty());
    assert!(sim.model().leader("puppet").is_none());
    let start = runs(&sim);
    run(&mut sim, "wait 1s");
    run(&mut sim, "settle");
    assert_eq!(sim.model().leader("puppet").expect("elected").to_string(), "puppet/0");
    assert_eq!(since(&sim, start), ["puppet/0 leader-elected", "puppet/1 leader-settings-changed"]);
}

#[test]
fn a_unit_added_to_an_empty_application_leads_at_once() {
    let mut sim = model(&["deploy PUPPET", "deploy PUPPET far", "settle", "remove-unit puppet"]);
    let start = runs(&sim);
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start), ["puppet/0 stop", "puppet/0 remove"]);
    run(&mut sim, "add-unit puppet");
    assert_eq!(sim.model().leader("puppet").expect("at once").to_string(), "puppet/0");
    run(&mut sim, "settle");
}

#[test]
fn juju_4_runs_leader_elected_each_time_and_no_leader_settings_changed() {
    let juju_4 = Options { juju: "4.0.15".to_owned(), ..options() };
    let mut sim = model_of(&["deploy PUPPET -n 2", "settle"], &juju_4);
    let hooks = since(&sim, 0);
    assert!(hooks.contains(&"puppet/1 start".to_owned()), "{hooks:?}");
    assert!(!hooks.iter().any(|hook| hook.contains("leader-settings-changed")), "{hooks:?}");
    for unit in ["puppet/1", "puppet/0"] {
        let start = runs(&sim);
        run(&mut sim, &format!("leader {unit}"));
        run(&mut sim, "settle");
        assert_eq!(since(&sim, start), [format!("{unit} leader-elected")]);
    }
}

#[test]
fn juju_4_runs_config_changed_twice_for_each_change() {
    for (juju, times) in [("3.6.14", 1), ("4.0.15", 2)] {
        let options = Options { juju: juju.to_owned(), ..options() };
        let mut sim = model_of(&["deploy PUPPET", "settle"], &options);
        let changed = |sim: &Sim, start| {
            since(sim, start).iter().filter(|hook| hook.ends_with(" config-changed")).count()
        };
        assert_eq!(changed(&sim, 0), 1, "{juju}: the first one");
        for (commands, expected) in [
            (&["config puppet port=1"][..], times),
            (&["config puppet port=1"], 0),
            (&["trigger puppet/0 config-changed"], 1),
            // A change between the two runs counts for itself.
            (&["config puppet port=2", "step", "config puppet port=3"], 1 + times),
        ] {
            let start = runs(&sim);
            for command in commands {
                run(&mut sim, command);
            }
            run(&mut sim, "settle");
            assert_eq!(changed(&sim, start), expected, "{juju}: {commands:?}");
        }
    }
}

#[test]
fn juju_4_retries_a_follower_s_commit_for_minutes_and_runs_nothing_else() {
    for (juju, stuck) in [("3.6.14", false), ("4.0.15", true)] {
        let options = Options { juju: juju.to_owned(), ..options() };
        let mut sim = model_of(&["deploy PUPPET -n 2", "settle"], &options);
        let uri = run(&mut sim, "exec puppet/0 -- secret-add --label top password=one");
        let lines =
            format!("secret-set {} password=two || exit 7\nrm $root/etc/update-status", uri.trim());
        once(&mut sim, "puppet/1", &lines);
        run(&mut sim, "trigger puppet/1 work-pebble-ready");
        run(&mut sim, "trigger puppet/1 work-pebble-ready");
        run(&mut sim, "step --unit puppet/1 3");
        let last = sim.model().hook_runs().last().expect("a run");
        assert!(
            matches!(&last.exit, Exit::Refused(why) if why.contains("is not leader")),
            "{juju}"
        );
        let start = runs(&sim);
        run(&mut sim, "wait 179s");
        let expected = if stuck { vec![] } else { vec!["puppet/1 update-status".to_owned()] };
        assert_eq!(since(&sim, start), expected, "{juju}");
        if stuck {
            let status = run(&mut sim, "status");
            assert!(status.contains("executing"), "{status}");
            refused(
                &mut sim,
                "exec puppet/1 -- true",
                "retries the commit of its last hook: wait 11s",
            );
        }
        run(&mut sim, "wait 17s");
        assert_eq!(since(&sim, start), ["puppet/1 update-status"], "{juju}: with its back-off");
        run(&mut sim, "exec puppet/1 -- true");
    }
}

#[test]
fn the_lease_of_a_lost_leader_expires() {
    let leader = |sim: &Sim| sim.model().leader("puppet").map(ToString::to_string);
    let first = Some("puppet/0".to_owned());
    // A short loss: the agent renews its lease in time.
    let mut sim = model(&["deploy PUPPET -n 2", "settle", "lose-agent puppet/0", "wait 59s"]);
    assert_eq!(leader(&sim), first);
    run(&mut sim, "release puppet/0");
    run(&mut sim, "wait 10m");
    assert_eq!(leader(&sim), first);
    run(&mut sim, "lose-agent puppet/0");
    let start = runs(&sim);
    run(&mut sim, "settle");
    assert_eq!(leader(&sim).as_deref(), Some("puppet/1"));
    assert_eq!(since(&sim, start), ["puppet/1 leader-elected"]);
    run(&mut sim, "release puppet/0");
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start + 1), ["puppet/0 leader-settings-changed"]);
    // Without another agent the lease stays free until one returns.
    run(&mut sim, "lose-agent puppet/0");
    run(&mut sim, "lose-agent puppet/1");
    run(&mut sim, "wait 10m");
    assert_eq!(leader(&sim), None);
    run(&mut sim, "release puppet/0");
    assert_eq!(leader(&sim), first);
    let start = runs(&sim);
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start), ["puppet/0 leader-elected", "puppet/0 update-status"]);
}

#[test]
fn a_hook_that_loses_its_lease_before_the_commit_fails_and_retries_as_follower() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    let lines = "if [ $(is-leader) = True ]; then relation-set -r 0 --app a=1; state-set led=1; fi";
    once(&mut sim, "puppet/0", lines);
    run(&mut sim, "at puppet/0 commit do leader puppet/1");
    run(&mut sim, "step --unit puppet/0");
    assert!(matches!(sim.model().hook_runs().last().expect("a run").exit, Exit::Refused(_)));
    run(&mut sim, "settle");
    assert!(sim.model().bag(0, "puppet").is_empty());
    assert_eq!(tool(&mut sim, "puppet/0", "state-get led").1, "");
}

#[test]
fn a_lease_lost_within_a_hook_is_not_regained_in_it() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    once(&mut sim, "puppet/0", "is-leader; is-leader; is-leader; relation-set -r 0 --app a=1");
    run(&mut sim, "at puppet/0 is-leader 2 do leader puppet/1");
    run(&mut sim, "at puppet/0 is-leader 3 do leader puppet/0");
    run(&mut sim, "step --unit puppet/0");
    let log = log(&sim);
    assert_eq!(printed(&log), ["True", "False", "False"]);
    assert!(log.contains(&"WARNING ERROR cannot write relation settings".to_owned()), "{log:?}");
}

#[test]
fn a_hook_of_another_unit_runs_within_a_hook_and_is_not_seen_by_it() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    let read = "relation-get -r 0 a puppet/1 --format=json";
    script(&sim, "puppet/1", "update-status", "relation-set -r 0 a=1");
    run(&mut sim, "trigger puppet/1 update-status");
    once(&mut sim, "puppet/0", &format!("{read}; is-leader >/dev/null; {read}"));
    run(&mut sim, "at puppet/0 is-leader do step --unit puppet/1");
    let start = runs(&sim);
    run(&mut sim, "step --unit puppet/0");
    assert_eq!(since(&sim, start), ["puppet/1 update-status", "puppet/0 update-status"]);
    assert_eq!(printed(&log(&sim)), ["null", "null"], "a bag is a snapshot within a hook");
    run(&mut sim, "settle");
    assert_eq!(tool(&mut sim, "puppet/0", read).1, "\"1\"\n");
}

#[test]
fn a_command_runs_between_two_system_calls_of_a_hook() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let etc = sim.model().unit_root("puppet/0").expect("a unit").join("etc");
    for name in ["first", "second"] {
        std::fs::write(etc.join(name), "").expect("a file under the unit's root");
    }
    once(&mut sim, "puppet/0", "exec rm $root/etc/first $root/etc/second");
    run(&mut sim, "at puppet/0 syscall unlinkat 1 do files puppet/0");
    run(&mut sim, "settle");
    let seen = log(&sim).join("\n");
    assert!(seen.contains("/etc/second") && !seen.contains("/etc/first"), "{seen}");
    assert!(!etc.join("second").exists(), "it went on");
}

#[test]
fn a_unit_runs_one_hook_at_a_time() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    once(&mut sim, "puppet/0", "is-leader");
    run(&mut sim, "at puppet/0 is-leader do exec puppet/0 -- true");
    refused(&mut sim, "settle", "a hook of puppet/0 is running");
    once(&mut sim, "puppet/0", "is-leader");
    run(&mut sim, "at puppet/0 is-leader do replace-pod puppet/0");
    refused(&mut sim, "settle", "a hook of puppet/0 is running");
    once(&mut sim, "puppet/0", "is-leader");
    run(&mut sim, "at puppet/0 is-leader do remove-unit puppet --force");
    refused(&mut sim, "settle", "a hook of puppet/0 is running");
    run(&mut sim, "settle");
}

#[test]
fn a_tool_hangs_for_a_time_or_forever() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    once(&mut sim, "puppet/0", "is-leader; timeout 0.2 status-get || echo $?; config-get port");
    run(&mut sim, "hang puppet/0 is-leader --for 1");
    run(&mut sim, "hang puppet/0 status-get");
    run(&mut sim, "settle");
    assert_eq!(log(&sim), ["DEBUG True", "DEBUG 124", "DEBUG 6432"]);
}

#[test]
fn a_tool_returns_an_injected_answer() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    once(&mut sim, "puppet/0", "is-leader; is-leader || echo $?; is-leader");
    run(&mut sim, r"answer puppet/0 is-leader --stdout 'Maybe\nnot\n'");
    run(&mut sim, "answer puppet/0 is-leader 2 --code 4");
    run(&mut sim, "settle");
    assert_eq!(log(&sim), ["DEBUG Maybe", "DEBUG not", "DEBUG 4", "DEBUG True"]);
}

#[test]
fn full_and_read_only_disks_are_simulated() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let file = sim.model().unit_root("puppet/0").expect("a unit").join("etc/written");
    let path = file.display();
    once(
        &mut sim,
        "puppet/0",
        "exec dd if=/dev/zero of=$root/etc/written bs=4 count=3 status=none",
    );
    run(&mut sim, &format!("fail puppet/0 syscall write 2 --errno ENOSPC --onwards --path {path}"));
    run(&mut sim, "step");
    assert!(
        log(&sim).iter().any(|line| line.contains("No space left on device")),
        "{:?}",
        log(&sim)
    );
    assert_eq!(std::fs::read(&file).expect("the file").len(), 4);
    run(&mut sim, &format!("fail puppet/0 syscall openat --errno EROFS --path {path}"));
    run(&mut sim, "step");
    assert!(log(&sim).iter().any(|line| line.contains("Read-only file system")), "{:?}", log(&sim));
    run(&mut sim, "settle");
    assert_eq!(std::fs::read(&file).expect("the file").len(), 12);
}

#[test]
fn a_hook_is_delivered_twice() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    let start = runs(&sim);
    run(&mut sim, "twice puppet/0");
    once(&mut sim, "puppet/0", "state-set a=$(state-get a)x");
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start), ["puppet/0 update-status", "puppet/0 update-status"]);
    assert_eq!(tool(&mut sim, "puppet/0", "state-get a").1, "xx\n");
    // Every hook, also of a new unit.
    run(&mut sim, "every-hook twice");
    let start = runs(&sim);
    run(&mut sim, "add-unit puppet");
    run(&mut sim, "settle");
    let hooks = since(&sim, start);
    let new: Vec<&String> = hooks.iter().filter(|hook| hook.starts_with("puppet/2")).collect();
    assert!(new.chunks(2).all(|pair| pair.len() == 2 && pair[0] == pair[1]), "{new:?}");
    run(&mut sim, "every-hook once");
    let start = runs(&sim);
    run(&mut sim, "trigger puppet/2 update-status");
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start).len(), 1);
}

#[test]
fn every_commit_is_torn_once() {
    let mut sim = model(&["deploy PUPPET", "settle", "every-hook torn"]);
    once(
        &mut sim,
        "puppet/0",
        "secret-add --label x$(secret-ids | wc -l)y password=one; state-set a=1",
    );
    let start = runs(&sim);
    run(&mut sim, "settle");
    let hooks = since(&sim, start);
    assert!(hooks[0].contains("commit refused") && hooks.len() == 2, "{hooks:?}");
    assert!(sim.model().secret("x0y").is_some() && sim.model().secret("x1y").is_some());
}

#[test]
fn events_of_a_relation_are_held_back() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle", "hold puppet/1 peers"]);
    run(&mut sim, "databag puppet:peers puppet a=1");
    let start = runs(&sim);
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start), ["puppet/0 peers-relation-changed"]);
    run(&mut sim, "release puppet/1");
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start)[1..], ["puppet/1 peers-relation-changed"]);
}

#[test]
fn a_seed_decides_the_order_and_repeats_it() {
    let order = |seed: u64| {
        let options = Options { seed: Some(seed), ..options() };
        let commands = [
            "deploy PUPPET -n 3",
            "deploy PUPPET far -n 2",
            "integrate puppet:db far:back",
            "settle",
        ];
        let sim = model_of(&commands, &options);
        since(&sim, 0)
    };
    let orders: Vec<Vec<String>> = (1..5).map(order).collect();
    assert_eq!(order(1), orders[0]);
    assert_eq!(orders.iter().collect::<BTreeSet<_>>().len(), 4, "four seeds, four orders");
    for hooks in &orders {
        for unit in ["puppet/0", "puppet/1", "puppet/2", "far/0", "far/1"] {
            let own: Vec<&str> = hooks
                .iter()
                .filter_map(|hook| hook.strip_prefix(unit)?.strip_prefix(' '))
                .collect();
            assert_eq!(own[0], "install");
            for endpoint in ["peers", "db", "back"] {
                let own: Vec<&&str> =
                    own.iter().filter(|hook| hook.starts_with(endpoint)).collect();
                let joined = own.iter().enumerate().filter(|(_, hook)| hook.ends_with("-joined"));
                for (at, hook) in joined {
                    assert_eq!(*own[at + 1], hook.replace("joined", "changed"), "{own:?}");
                }
            }
            let first = |hook: &str| own.iter().position(|own| *own == hook).expect(hook);
            assert!(first("peers-relation-created") < first("config-changed"), "{own:?}");
            assert!(first("config-changed") < first("start"), "{own:?}");
        }
    }
}

#[test]
fn a_restarted_agent_loses_its_state_in_memory() {
    let mut sim = model(&[
        "deploy PUPPET -n 2",
        "deploy PUPPET far",
        "integrate puppet:db far:back",
        "settle",
        "trigger puppet/1 work-pebble-ready",
        "exec puppet/0 -- secret-add --label top password=one",
        "exec puppet/1 -- secret-get --label top",
        "secret-edit top password=two",
        "settle",
    ]);
    let kept = sim.model().unit_root("puppet/1").expect("a unit").join("etc/kept");
    std::fs::write(&kept, "").expect("a file");
    let start = runs(&sim);
    run(&mut sim, "restart-agent puppet/1");
    run(&mut sim, "settle");
    assert_eq!(
        since(&sim, start),
        [
            "puppet/1 stop",
            "puppet/1 work-pebble-ready",
            "puppet/1 start",
            "puppet/1 leader-settings-changed"
        ]
    );
    assert!(kept.exists());
    // Changes during that time are never announced (uniter/secrets/secrets.go).
    run(&mut sim, "secret-edit top password=three");
    let start = runs(&sim);
    run(&mut sim, "restart-agent puppet/1 --killed");
    run(&mut sim, "settle");
    let hooks = since(&sim, start);
    assert!(hooks.contains(&"puppet/1 start".to_owned()), "{hooks:?}");
    assert!(
        !hooks.iter().any(|hook| hook == "puppet/1 secret-changed" || hook == "puppet/1 stop"),
        "{hooks:?}"
    );
    // After the restart the agent no longer knows which relations are peer relations, nor the
    // remote application (LP 1960934).
    script(&sim, "puppet/1", "db-relation-broken", "echo \"<$JUJU_REMOTE_APP>\"");
    run(&mut sim, "remove-unit puppet");
    let start = runs(&sim);
    run(&mut sim, "settle");
    assert!(since(&sim, start).contains(&"puppet/1 peers-relation-broken".to_owned()));
    let broken = sim.model().hook_runs().iter().find(|run| run.hook == "db-relation-broken");
    assert_eq!(broken.expect("broken").log, ["DEBUG <>"]);
}

#[test]
fn a_hook_whose_pod_dies_is_killed_failed_or_done() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    once(&mut sim, "puppet/0", "state-set a=$(state-get a)x");
    let start = runs(&sim);
    run(&mut sim, "replace-pod puppet/0 --mid-hook --hard");
    assert!(run(&mut sim, "status").contains("hook failed: \"update-status\""));
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
    once(&mut sim, "puppet/0", "state-set a=1");
    let start = runs(&sim);
    run(&mut sim, "replace-pod puppet/0 --after-hook");
    run(&mut sim, "settle");
    assert_eq!(
        since(&sim, start),
        ["puppet/0 update-status", "puppet/0 start", "puppet/0 config-changed"]
    );
    assert_eq!(tool(&mut sim, "puppet/0", "state-get a").1, "1\n");
}

#[test]
fn a_new_revision_of_the_charm_replaces_the_pods() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    let new = tempfile::tempdir().expect("a directory");
    let copied = std::process::Command::new("cp")
        .args(["-a", &format!("{}/.", crate::puppets::puppet())])
        .arg(new.path())
        .status();
    assert!(copied.expect("cp").success());
    let metadata = std::fs::read_to_string(new.path().join("metadata.yaml")).expect("metadata");
    std::fs::write(
        new.path().join("metadata.yaml"),
        metadata.replace("peers:\n", "peers:\n  more: {interface: more}\n"),
    )
    .expect("metadata");
    let start = runs(&sim);
    run(&mut sim, &format!("refresh puppet --path {}", new.path().display()));
    assert_eq!(since(&sim, start), ["puppet/1 stop", "puppet/0 stop"]);
    run(&mut sim, "settle");
    let own: Vec<String> =
        since(&sim, start).into_iter().filter(|hook| hook.starts_with("puppet/0")).collect();
    assert_eq!(
        own[..5],
        [
            "puppet/0 stop",
            "puppet/0 more-relation-created",
            "puppet/0 upgrade-charm",
            "puppet/0 config-changed",
            "puppet/0 start"
        ]
    );
    std::fs::write(new.path().join("metadata.yaml"), "name: puppet\n").expect("metadata");
    refused(
        &mut sim,
        &format!("refresh puppet --path {}", new.path().display()),
        "would break relation",
    );
    std::fs::write(new.path().join("metadata.yaml"), "name: other\n").expect("metadata");
    refused(&mut sim, &format!("refresh puppet --path {}", new.path().display()), "cannot upgrade");
}

#[test]
fn a_suspended_relation_ends_and_resumes_with_the_same_id() {
    let mut sim =
        model(&["deploy PUPPET", "deploy PUPPET far", "integrate puppet:db far:back", "settle"]);
    let id = sim.model().relations_at("puppet:db");
    run(&mut sim, "exec far/0 -- relation-set -r 2 a=1");
    let own = |sim: &Sim, start| -> Vec<String> {
        since(sim, start).into_iter().filter(|hook| hook.starts_with("puppet/0")).collect()
    };
    run(&mut sim, "settle");
    let start = runs(&sim);
    run(&mut sim, "suspend-relation puppet far");
    run(&mut sim, "settle");
    assert_eq!(own(&sim, start), ["puppet/0 db-relation-departed", "puppet/0 db-relation-broken"]);
    let start = runs(&sim);
    run(&mut sim, "resume-relation puppet far");
    run(&mut sim, "settle");
    assert_eq!(
        own(&sim, start),
        [
            "puppet/0 db-relation-created",
            "puppet/0 db-relation-joined",
            "puppet/0 db-relation-changed"
        ]
    );
    assert_eq!(sim.model().relations_at("puppet:db"), id);
    assert_eq!(tool(&mut sim, "puppet/0", "relation-get -r 2 a far/0").1, "1\n");
}

#[test]
fn update_status_runs_at_intervals() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let start = runs(&sim);
    run(&mut sim, "wait 15m");
    assert_eq!(since(&sim, start), ["puppet/0 update-status"; 3]);
}

#[test]
fn a_command_has_no_hook_but_may_have_a_relation() {
    let mut sim =
        model(&["deploy PUPPET", "deploy PUPPET far", "integrate puppet:db far:back", "settle"]);
    let print = r#"sh -c 'echo "<$JUJU_DISPATCH_PATH> <$JUJU_HOOK_NAME> $JUJU_RELATION_ID $JUJU_REMOTE_APP"; relation-ids'"#;
    assert_eq!(
        run(&mut sim, &format!("exec puppet/0 --relation db:2 -- {print}")),
        "<> <> db:2 far\ndb:2\n"
    );
    assert!(tool(&mut sim, "puppet/0", print).2.contains("no endpoint name specified"));
    refused(&mut sim, "exec puppet/0 --relation 7 -- true", "relation \"7\" not found");
}

#[test]
fn tools_fail_for_a_process_that_outlives_its_hook() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let lines = "(sleep 0.5; is-leader || echo ended $?) >$root/etc/late 2>&1 &";
    once(&mut sim, "puppet/0", lines);
    run(&mut sim, "settle");
    let late = sim.model().unit_root("puppet/0").expect("a unit").join("etc/late");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let mut text = String::new();
    while !text.contains("ended") {
        assert!(std::time::Instant::now() < deadline, "{text}");
        text = std::fs::read_to_string(&late).unwrap_or_default();
    }
    assert_eq!(text, "ERROR connection is shut down\nended 1\n");
    // In a later hook the context id is rejected as another one.
    once(&mut sim, "puppet/0", "JUJU_CONTEXT_ID=puppet/0-old is-leader");
    run(&mut sim, "step");
    assert!(
        log(&sim)[0].contains("bad request: expected context id \"puppet/0-update-status-"),
        "{:?}",
        log(&sim)
    );
}

/// Variables that are always set (uniter/runner/context/context.go `HookVars`, env.go), whatever
/// the simulator's own environment.
const ALWAYS: &[&str] = &[
    "APT_LISTCHANGES_FRONTEND",
    "CHARM_DIR",
    "CLOUD_API_VERSION",
    "DEBIAN_FRONTEND",
    "JUJU_AGENT_SOCKET_ADDRESS",
    "JUJU_AGENT_SOCKET_NETWORK",
    "JUJU_API_ADDRESSES",
    "JUJU_AVAILABILITY_ZONE",
    "JUJU_CHARM_DIR",
    "JUJU_CHARM_FTP_PROXY",
    "JUJU_CHARM_HTTPS_PROXY",
    "JUJU_CHARM_HTTP_PROXY",
    "JUJU_CHARM_NO_PROXY",
    "JUJU_CONTEXT_ID",
    "JUJU_DISPATCH_PATH",
    "JUJU_HOOK_NAME",
    "JUJU_MACHINE_ID",
    "JUJU_MODEL_NAME",
    "JUJU_MODEL_UUID",
    "JUJU_PRINCIPAL_UNIT",
    "JUJU_SLA",
    "JUJU_UNIT_NAME",
    "JUJU_VERSION",
    "LANG",
    "PATH",
    "TERM",
];

#[test]
fn the_environment_of_a_hook_inherits_nothing() {
    let mut sim = model(&[
        "deploy PUPPET -n 2",
        "deploy PUPPET far",
        "integrate puppet:db far:back",
        "settle",
        "exec puppet/0 -- secret-add --label top password=one",
        "exec puppet/0 -- secret-get --label top",
    ]);
    let relation = ["JUJU_RELATION", "JUJU_RELATION_ID", "JUJU_REMOTE_APP", "JUJU_REMOTE_UNIT"];
    let departed = [&relation[..], &["JUJU_DEPARTING_UNIT"]].concat();
    let cases: [(&str, &str, &[&str]); 7] = [
        ("trigger puppet/0 update-status", "update-status", &[]),
        ("config puppet port=1", "config-changed", &[]),
        ("trigger puppet/0 work-pebble-ready", "work-pebble-ready", &["JUJU_WORKLOAD_NAME"]),
        (
            "secret-edit top password=two",
            "secret-changed",
            &["JUJU_SECRET_ID", "JUJU_SECRET_LABEL"],
        ),
        ("databag puppet:db far a=1", "db-relation-changed", &relation),
        ("databag puppet:peers puppet/1 a=1", "peers-relation-changed", &relation),
        ("remove-relation puppet far", "db-relation-departed", &departed),
    ];
    for (command, hook, own) in cases {
        script(&sim, "puppet/0", hook, "tr '\\0' '\\n' </proc/$$/environ");
        run(&mut sim, command);
        let start = runs(&sim);
        run(&mut sim, "settle");
        let found = sim.model().hook_runs()[start..]
            .iter()
            .find(|run| run.unit == "puppet/0" && run.hook == hook);
        let lines: Vec<&str> =
            found.expect(hook).log.iter().filter_map(|line| line.strip_prefix("DEBUG ")).collect();
        let names: BTreeSet<&str> =
            lines.iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        assert_eq!(names, ALWAYS.iter().chain(own).copied().collect(), "{hook}");
        let app_changed = hook == "db-relation-changed";
        assert!(!app_changed || lines.contains(&"JUJU_REMOTE_UNIT="), "set, but empty: {lines:?}");
    }
    let juju_4 = Options { juju: "4.0.15".to_owned(), ..options() };
    let mut newer = model_of(&["deploy PUPPET", "settle"], &juju_4);
    script(&newer, "puppet/0", "update-status", "tr '\\0' '\\n' </proc/$$/environ");
    for command in ["trigger puppet/0 update-status", "step"] {
        run(&mut newer, command);
    }
    let log = log(&newer);
    let names = printed(&log).into_iter().filter_map(|line| Some(line.split_once('=')?.0));
    let tracing = ["HTTP", "GRPC", "CA_CERT"].map(|what| format!("JUJU_CHARM_TRACE_CONFIG_{what}"));
    let always = ALWAYS.iter().filter(|name| **name != "JUJU_SLA").copied();
    let expected = always.chain(tracing.iter().map(String::as_str));
    assert_eq!(names.collect::<BTreeSet<_>>(), expected.collect());
    let print =
        "sh -c 'echo $JUJU_ACTION_NAME $JUJU_ACTION_TAG $JUJU_DISPATCH_PATH \"<$JUJU_HOOK_NAME>\"'";
    script(&sim, "puppet/0", "greet", print);
    let printed = run(&mut sim, "run puppet/0 greet");
    // Commands have numbers, too.
    assert!(printed.contains("greet action-3 actions/greet <>"), "{printed}");
}

#[test]
fn commands_that_juju_refuses_are_refused() {
    let mut sim = model(&["deploy PUPPET -n 2", "deploy PUPPET far", "settle"]);
    for (command, why) in [
        ("add-unit nobody", "application nobody not found"),
        ("deploy PUPPET puppet", "already exists"),
        ("deploy PUPPET ../puppet", "invalid application name"),
        ("integrate puppet:db puppet:back", "a relation of an application with itself"),
        ("fail puppet/0 syscall write --errno ENOSUCH", "invalid"),
        ("kill puppet/0 at syscall nosuchcall", "invalid"),
        ("at puppet/0 syscall nosuchcall do settle", "invalid"),
        ("deploy /nowhere", "neither metadata.yaml nor charmcraft.yaml"),
        ("remove-unit puppet -n 3", "cannot remove 3 units"),
        ("config puppet colour=red", "unknown option"),
        ("config puppet port=many", "expected int"),
        ("integrate puppet:db far:db", "no relations found"),
        ("integrate puppet far", "ambiguous relation"),
        ("integrate puppet:none far", "has no \"none\" relation"),
        ("remove-relation puppet far", "relation puppet far not found"),
        ("remove-relation puppet:peers puppet:peers", "not found"),
        ("leader puppet/7", "unit puppet/7 not found"),
        ("trigger puppet/0 peers-relation-changed", "only hooks without a relation or secret"),
        ("trigger puppet/0 install", "only hooks without a relation or secret"),
        ("trigger puppet/0 stop", "is not being removed"),
        ("trigger puppet/0 none-pebble-ready", "no such container"),
        ("trigger puppet/0 leader-settings-changed", "the unit is the leader"),
        ("trigger puppet/1 leader-elected", "is not the leader"),
        ("databag puppet:db far a=1", "no relation at puppet:db"),
        ("databag puppet:peers far/0 a=1", "is not part of"),
        ("databag puppet:peers puppet/5 a=1", "has not entered"),
        ("secret-edit none a=1", "secret \"none\" not found"),
        ("kill puppet/0 at relation-fetch", "is not a hook tool"),
        ("run puppet/0 none", "not defined"),
        ("resolve puppet/0", "not in an error state"),
        ("replace-pod puppet/0 --mid-hook", "has no hook to run"),
        ("replace-pod puppet/0 --hard", "replace-pod UNIT"),
        ("hold puppet/0 db", "no relation at puppet:db"),
        ("wait long", "invalid duration"),
        ("every-hook thrice", "twice, torn or once"),
        ("model-config development=true", "does not model"),
        ("fly", "unknown command"),
    ] {
        refused(&mut sim, &command.replace("PUPPET", &crate::puppets::puppet()), why);
    }
    run(&mut sim, "remove-application far");
    refused(&mut sim, "add-unit far", "is not alive");
    refused(&mut sim, "integrate puppet:db far:back", "is not alive");
    refused(&mut sim, "config far port=1", "is not alive");
    // The refused commands changed nothing.
    let start = runs(&sim);
    run(&mut sim, "settle");
    let hooks = since(&sim, start);
    assert!(
        hooks.iter().any(|hook| hook.starts_with("far/")),
        "the removal that was taken: {hooks:?}"
    );
    assert!(!hooks.iter().any(|hook| hook.starts_with("puppet")), "{hooks:?}");
}

#[test]
fn a_forced_removal_runs_no_hook_on_the_removed_units() {
    let mut sim = model(&["deploy PUPPET -n 2", "settle"]);
    let start = runs(&sim);
    run(&mut sim, "remove-unit puppet --force");
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start), ["puppet/0 peers-relation-departed"]);
    run(&mut sim, "remove-application puppet --force");
    assert!(sim.model().units_of("puppet").is_empty());
    refused(&mut sim, "add-unit puppet", "not found");
}

#[test]
fn secrets_rotate_and_expire_with_time() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let (_, uri, _) =
        tool(&mut sim, "puppet/0", "secret-add --label top --rotate hourly password=one");
    script(
        &sim,
        "puppet/0",
        "secret-rotate",
        "[ -e $root/etc/lazy ] || secret-set $JUJU_SECRET_ID password=$(date +%s%N)",
    );
    let rotations = |sim: &Sim, start| {
        since(sim, start).into_iter().filter(|hook| hook.ends_with("rotate")).count()
    };
    let start = runs(&sim);
    run(&mut sim, "wait 125m");
    assert_eq!(rotations(&sim, start), 2);
    // A leader that does nothing gets the event again after five minutes.
    std::fs::write(sim.model().unit_root("puppet/0").expect("a unit").join("etc/lazy"), "")
        .expect("a file");
    let start = runs(&sim);
    run(&mut sim, "wait 66m");
    assert_eq!(rotations(&sim, start), 3);
    tool(&mut sim, "puppet/0", &format!("secret-set {} --expire 10m password=last", uri.trim()));
    script(&sim, "puppet/0", "secret-expired", "echo $JUJU_SECRET_LABEL $JUJU_SECRET_REVISION");
    let start = runs(&sim);
    run(&mut sim, "wait 16m");
    let expired: Vec<_> = sim.model().hook_runs()[start..]
        .iter()
        .filter(|run| run.hook == "secret-expired")
        .collect();
    assert_eq!(expired.len(), 2);
    assert_eq!(expired[0].log, ["DEBUG top 4"]);
}

#[test]
fn hooks_see_a_clock_that_was_moved() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    for (command, moved) in
        [("settle", 0), ("clock +0s", 0), ("clock +30d", 2_592_000), ("wait 1h", 2_595_600)]
    {
        run(&mut sim, command);
        let seen: u64 = tool(&mut sim, "puppet/0", "date +%s").1.trim().parse().expect("a time");
        let real = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
        assert!((moved..moved + 10).contains(&(seen + 5 - real)), "{command}: {seen} at {real}");
    }
}

#[test]
fn a_secret_expires_at_the_time_that_hooks_see_unless_the_event_is_lost() {
    let mut sim = model(&["deploy PUPPET", "clock +0s", "settle"]);
    script(&sim, "puppet/0", "secret-expired", "date +%s");
    let at = "$(date --utc --date '+20 days' +%Y-%m-%dT%H:%M:%SZ)";
    let add = format!("sh -c \"secret-add --label top --expire {at} password=one\"");
    assert_eq!(tool(&mut sim, "puppet/0", &add).0, 0);
    let expired = |sim: &mut Sim, command: &str| {
        let start = runs(sim);
        run(sim, command);
        run(sim, "settle");
        since(sim, start).iter().filter(|hook| hook.ends_with("secret-expired")).count()
    };
    assert_eq!(expired(&mut sim, "clock +19d"), 0);
    assert_eq!(expired(&mut sim, "lose secret-expired"), 0);
    assert_eq!(expired(&mut sim, "clock +1d"), 0);
    assert_eq!(expired(&mut sim, "lose none"), 1);
    refused(&mut sim, "clock -1d", "invalid duration");
    refused(&mut sim, "lose leader-elected", "does not model");
}

#[test]
fn a_users_secret_is_readable_once_it_is_granted() {
    let mut sim = model(&["deploy PUPPET", "settle"]);
    let uri = run(&mut sim, "add-secret mine password=one").trim().to_owned();
    let read = format!("secret-get {uri}");
    assert_eq!(tool(&mut sim, "puppet/0", &read).2, "ERROR permission denied\n");
    run(&mut sim, "grant-secret mine puppet");
    assert_eq!(tool(&mut sim, "puppet/0", &read).1, "password: one\n");
    let start = runs(&sim);
    run(&mut sim, "update-secret mine password=two");
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start), ["puppet/0 secret-changed"]);
    assert_eq!(tool(&mut sim, "puppet/0", &format!("{read} --refresh")).1, "password: two\n");
    run(&mut sim, "revoke-secret mine puppet");
    assert_eq!(tool(&mut sim, "puppet/0", &read).2, "ERROR permission denied\n");
    refused(&mut sim, "add-secret mine password=one", "already exists");
    run(&mut sim, "remove-secret mine");
    refused(&mut sim, "grant-secret mine puppet", "not found");
}

#[test]
fn a_relation_removed_by_force_is_known_to_the_agents_only() {
    let mut sim =
        model(&["deploy PUPPET", "deploy PUPPET far", "integrate puppet:db far:back", "settle"]);
    let lines =
        "relation-list --app; relation-get --app - far || echo $?; relation-set a=1 || echo $?";
    script(&sim, "puppet/0", "db-relation-departed", lines);
    run(&mut sim, "remove-relation puppet far --force");
    run(&mut sim, "step --unit puppet/0");
    assert_eq!(printed(&log(&sim)), ["far", "1", "1"], "{:?}", log(&sim));
    script(&sim, "puppet/0", "db-relation-departed", "true");
    run(&mut sim, "settle");
    assert!(sim.model().relations_at("puppet:db").is_empty());
}

#[test]
fn without_a_remote_unit_its_variable_is_set_and_empty() {
    let mut sim = model(&["deploy PUPPET", "deploy PUPPET far", "settle"]);
    let print = r#"[ "${JUJU_REMOTE_UNIT+set}" ] && echo "<$JUJU_REMOTE_UNIT>""#;
    for hook in ["created", "changed", "broken"] {
        script(&sim, "puppet/0", &format!("db-relation-{hook}"), print);
    }
    run(&mut sim, "integrate puppet:db far:back");
    run(&mut sim, "settle");
    run(&mut sim, "databag puppet:db far a=1");
    run(&mut sim, "settle");
    run(&mut sim, "remove-relation puppet far");
    run(&mut sim, "settle");
    let said = |hook: &str| -> Vec<Vec<String>> {
        let of = |run: &&jujusim::HookRun| run.unit == "puppet/0" && run.hook == hook;
        sim.model().hook_runs().iter().filter(of).map(|run| run.log.clone()).collect()
    };
    assert_eq!(said("db-relation-created"), [["DEBUG <>"]]);
    assert_eq!(
        said("db-relation-changed"),
        [["DEBUG <far/0>"], ["DEBUG <>"]],
        "a unit's bag, the application's"
    );
    assert_eq!(said("db-relation-broken"), [["DEBUG <>"]]);
}

#[test]
fn changes_of_an_application_are_announced_before_its_units() {
    let mut sim = model(&["deploy PUPPET", "deploy PUPPET far", "settle"]);
    script(&sim, "far/0", "back-relation-created", "relation-set --app a=1");
    run(&mut sim, "integrate puppet:db far:back");
    run(&mut sim, "step --unit far/0");
    let start = runs(&sim);
    for _ in 0..4 {
        run(&mut sim, "step --unit puppet/0");
    }
    assert_eq!(
        since(&sim, start),
        [
            "puppet/0 db-relation-created",
            "puppet/0 db-relation-changed",
            "puppet/0 db-relation-joined",
            "puppet/0 db-relation-changed",
        ]
    );
}

#[test]
fn a_single_unit_runs_only_peers_relation_created() {
    let sim = model(&["deploy PUPPET", "settle"]);
    let peers: Vec<String> =
        since(&sim, 0).into_iter().filter(|hook| hook.contains("peers")).collect();
    assert_eq!(peers, ["puppet/0 peers-relation-created"]);
}

#[test]
fn relations_may_break_without_a_leader() {
    let mut sim = model(&[
        "deploy PUPPET -n 2",
        "deploy PUPPET far",
        "integrate puppet:db far:back",
        "settle",
    ]);
    for unit in ["puppet/0", "puppet/1"] {
        script(&sim, unit, "db-relation-broken", "is-leader; relation-set --app a=1 || echo $?");
    }
    run(&mut sim, "leader --none puppet");
    run(&mut sim, "remove-application puppet");
    let start = runs(&sim);
    run(&mut sim, "settle");
    let broken =
        sim.model().hook_runs()[start..].iter().filter(|run| run.hook == "db-relation-broken");
    let logs: Vec<&Vec<String>> = broken.map(|run| &run.log).collect();
    assert_eq!(logs.len(), 2);
    for log in logs {
        assert_eq!(printed(log), ["False", "1"]);
        assert!(
            log.contains(&"WARNING ERROR cannot write relation settings".to_owned()),
            "{log:?}"
        );
    }
}

#[test]
fn a_pebble_ready_whose_hook_failed_is_announced_again() {
    let mut sim = model(&["deploy PUPPET", "settle", "trigger puppet/0 work-pebble-ready"]);
    script(&sim, "puppet/0", "work-pebble-ready", "exit 1");
    run(&mut sim, "step");
    script(&sim, "puppet/0", "work-pebble-ready", "true");
    let start = runs(&sim);
    run(&mut sim, "settle");
    assert_eq!(since(&sim, start), ["puppet/0 work-pebble-ready"]);
}

#[test]
fn a_relation_that_ends_before_its_created_hook_runs_no_hook() {
    let mut sim = model(&["deploy PUPPET", "deploy PUPPET far", "integrate puppet:db far:back"]);
    // The unit's first `-created` hook is for the other relation; the agent has entered both.
    run(&mut sim, "seed 3");
    run(&mut sim, "step --unit puppet/0 2");
    assert!(
        since(&sim, 0).contains(&"puppet/0 peers-relation-created".to_owned()),
        "{:?}",
        since(&sim, 0)
    );
    run(&mut sim, "remove-relation puppet far");
    run(&mut sim, "settle");
    assert!(sim.model().relations_at("puppet:db").is_empty());
    assert!(
        !since(&sim, 0).iter().any(|hook| hook.contains("db-relation")),
        "{:?}",
        since(&sim, 0)
    );
}
