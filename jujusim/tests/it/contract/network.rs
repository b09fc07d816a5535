//! `network-get`, `unit-get`, ports, `goal-state`.

use super::{Bench, fails, misused, prints, silent};

#[test]
fn a_unit_has_one_address() {
    let mut bench = Bench::new(&[
        "deploy PUPPET",
        "deploy PUPPET far",
        "integrate puppet:db far:back",
        "settle",
    ]);
    let address = bench.sim.model().unit_address("puppet/0").expect("a unit").to_string();
    bench.knows("ADDRESS", &address);
    bench.each(
        "puppet/0",
        "runner/jujuc/network-get.go, apiserver/facades/agent/uniter/networkinfocaas.go",
        &[
            prints(
                "json",
                "network-get peers --format=json",
                "{\"bind-addresses\":[{\"mac-address\":\"\",\"interface-name\":\"\",\"addresses\":[{\"hostname\":\"\",\"value\":\"%ADDRESS%\",\"cidr\":\"\"}]}],\"egress-subnets\":[\"%ADDRESS%/32\"],\"ingress-addresses\":[\"%ADDRESS%\"]}\n",
            ),
            prints(
                "yaml repeats older keys",
                "network-get peers",
                "bind-addresses:\n- mac-address: \"\"\n  interface-name: \"\"\n  addresses:\n  - hostname: \"\"\n    value: %ADDRESS%\n    cidr: \"\"\n    address: %ADDRESS%\n  macaddress: \"\"\n  interfacename: \"\"\negress-subnets:\n- %ADDRESS%/32\ningress-addresses:\n- %ADDRESS%\n",
            ),
            prints("one flag", "network-get db --bind-address", "%ADDRESS%\n"),
            prints("one flag, json", "network-get db --ingress-address --format=json", "\"%ADDRESS%\"\n"),
            prints("egress", "network-get db --egress-subnets", "%ADDRESS%/32\n"),
            prints("egress, json", "network-get db --egress-subnets --format=json", "[\"%ADDRESS%/32\"]\n"),
            prints(
                "several flags",
                "network-get db --egress-subnets --bind-address --ingress-address --format=json",
                "{\"bind-address\":\"%ADDRESS%\",\"egress-subnets\":[\"%ADDRESS%/32\"],\"ingress-address\":\"%ADDRESS%\"}\n",
            ),
            prints("--primary-address", "network-get db --primary-address", "%ADDRESS%\n"),
            fails(
                "--primary-address and another",
                "network-get db --primary-address --bind-address",
                "--primary-address must be the only flag specified",
            ),
            prints("with a relation", "network-get db -r 2 --bind-address", "%ADDRESS%\n"),
            misused("an unknown relation", "network-get db -r 9", "invalid value \"9\" for option -r: relation not found"),
            misused("nothing", "network-get", "no arguments specified"),
            misused("no binding", "network-get ''", "no binding name specified"),
            misused("two bindings", "network-get db back", "unrecognized args: [\"back\"]"),
            fails("unknown binding", "network-get none", "no network config found for binding \"none\""),
            prints("unit-get private-address", "unit-get private-address", "%ADDRESS%\n"),
            prints("unit-get public-address, json", "unit-get public-address --format=json", "\"%ADDRESS%\"\n"),
            misused("unit-get without a setting", "unit-get", "no setting specified"),
            misused("unit-get of another", "unit-get name", "unknown setting \"name\""),
        ],
    );
    bench.within(
        "puppet/0",
        "db-relation-changed",
        "databag puppet:db far a=1",
        "apiserver/facades/agent/uniter/networkinfocaas.go",
        &[
            prints("in a relation hook", "network-get db --bind-address", "%ADDRESS%\n"),
            prints("in another binding's hook", "network-get peers --bind-address", "%ADDRESS%\n"),
        ],
    );
}

#[test]
fn ports_are_opened_and_closed() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    bench.each(
        "puppet/0",
        "runner/jujuc/ports.go, opened-ports.go, core/network/portrange.go",
        &[
            silent("none", "opened-ports"),
            prints("none, json", "opened-ports --format=json", "[]\n"),
            silent("a number", "open-port 6432"),
            silent("again", "open-port 6432/TCP"),
            silent("of UDP", "open-port 53/udp"),
            silent("icmp", "open-port icmp"),
            silent("a smaller number", "open-port 80/tcp"),
            prints(
                "by protocol, then by number",
                "opened-ports --format=json",
                "[\"icmp\",\"80/tcp\",\"6432/tcp\",\"53/udp\"]\n",
            ),
            prints("lines", "opened-ports", "icmp\n80/tcp\n6432/tcp\n53/udp\n"),
            prints("--endpoints", "opened-ports --endpoints | head -2", "icmp (*)\n80/tcp (*)\n"),
            silent("close", "close-port 80; close-port icmp; close-port 53/udp"),
            silent("close what is closed", "close-port 81"),
            prints("closed", "opened-ports", "6432/tcp\n"),
            misused("no port", "open-port", "no port or range specified"),
            misused("no port to close", "close-port", "no port or range specified"),
            misused(
                "no number",
                "open-port web",
                "invalid port \"web\": strconv.Atoi: parsing \"web\": invalid syntax",
            ),
            misused(
                "no such protocol",
                "open-port 1/sctp",
                "invalid protocol \"sctp\", expected \"tcp\", \"udp\", or \"icmp\"",
            ),
            misused(
                "icmp has no port",
                "open-port 1/icmp",
                "protocol \"icmp\" doesn't support any ports; got \"1\"",
            ),
            misused(
                "too large",
                "open-port 70000",
                "port range bounds must be between 0 and 65535, got 70000-70000",
            ),
            misused("a range backwards", "open-port 2-1", "invalid port range 2-1/tcp"),
            misused("two ports", "open-port 1 2", "unrecognized args: [\"2\"]"),
            fails(
                "a range on Kubernetes",
                "open-port 1-2/tcp",
                "port ranges are not supported for k8s applications, please specify a single port",
            ),
        ],
    );
    bench.together(
        "puppet/0",
        "runner/jujuc/opened-ports.go, runner/context/context.go",
        &[
            silent("open", "open-port 1"),
            prints("this hook's are listed", "opened-ports", "1/tcp\n6432/tcp\n"),
            silent("close", "close-port 1"),
        ],
    );
    bench.each(
        "puppet/0",
        "runner/jujuc/ports.go, opened-ports.go",
        &[
            silent("for two endpoints", "open-port --endpoints 'peers, db' 99"),
            prints("are named", "opened-ports --endpoints", "99/tcp (db, peers)\n6432/tcp (*)\n"),
            prints("are one port", "opened-ports --format=json", "[\"99/tcp\",\"6432/tcp\"]\n"),
            silent("close for one", "close-port --endpoints db 99"),
            prints(
                "open for the other",
                "opened-ports --endpoints",
                "99/tcp (peers)\n6432/tcp (*)\n",
            ),
            silent("close for all", "close-port 99"),
            prints("closed", "opened-ports --endpoints", "6432/tcp (*)\n"),
        ],
    );
}

#[test]
fn goal_state_lists_the_planned_units() {
    let mut bench = Bench::new(&[
        "deploy PUPPET -n 3",
        "deploy PUPPET far",
        "integrate puppet:db far:back",
        "settle",
    ]);
    bench.output("puppet/1", "status-set active");
    bench.command("remove-unit puppet");
    bench.each(
        "puppet/0",
        "runner/jujuc/goal-state.go, apiserver/facades/agent/uniter/uniter.go `oneGoalState`",
        &[
            prints(
                "dying units are marked, peers left out",
                "goal-state --format=json",
                "{\"units\":{\"puppet/0\":{\"status\":\"unknown\",\"since\":\"2026-01-01 00:00:00Z\"},\"puppet/1\":{\"status\":\"active\",\"since\":\"2026-01-01 00:00:00Z\"},\"puppet/2\":{\"status\":\"dying\",\"since\":\"2026-01-01 00:00:00Z\"}},\"relations\":{\"db\":{\"far\":{\"status\":\"joined\",\"since\":\"2026-01-01 00:00:00Z\"},\"far/0\":{\"status\":\"unknown\",\"since\":\"2026-01-01 00:00:00Z\"}}}}\n",
            ),
            prints("yaml by default", "goal-state | head -3", "units:\n  puppet/0:\n    status: unknown\n"),
            misused(
                "no smart format",
                "goal-state --format=smart",
                "invalid value \"smart\" for option --format: unknown format \"smart\"",
            ),
            misused("arguments", "goal-state a", "unrecognized args: [\"a\"]"),
        ],
    );
    bench.command("settle");
    bench.command("remove-relation puppet:db far:back");
    bench.each(
        "puppet/0",
        "apiserver/facades/agent/uniter/uniter.go `oneGoalState`",
        &[
            prints(
                "dead units are left out",
                "goal-state --format=json | grep -c puppet/2; true",
                "0\n",
            ),
            prints(
                "a relation that goes is broken",
                "goal-state | grep -A1 'far:'",
                "    far:\n      status: broken\n",
            ),
        ],
    );
}
