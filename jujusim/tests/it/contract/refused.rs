//! What is not modelled is refused with a message.

use super::{Bench, fails, fails_with};

#[test]
fn unmodelled_tools_are_refused() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle"]);
    bench.each(
        "puppet/0",
        "README, Not modelled",
        &[
            fails("juju-reboot", "juju-reboot", "jujusim does not model \"juju-reboot\""),
            fails("credential-get", "credential-get", "jujusim does not model \"credential-get\""),
            fails("resource-get", "resource-get image", "jujusim does not model \"resource-get\""),
            fails("storage-add", "storage-add data", "jujusim does not model \"storage-add\""),
            fails("storage-get", "storage-get", "jujusim does not model \"storage-get\""),
            fails("storage-list", "storage-list", "jujusim does not model \"storage-list\""),
            fails(
                "payload-register",
                "payload-register a b c",
                "jujusim does not model \"payload-register\"",
            ),
            fails(
                "payload-unregister",
                "payload-unregister a b",
                "jujusim does not model \"payload-unregister\"",
            ),
            fails(
                "payload-status-set",
                "payload-status-set a b c",
                "jujusim does not model \"payload-status-set\"",
            ),
            fails("k8s-spec-set", "k8s-spec-set", "jujusim does not model \"k8s-spec-set\""),
            fails("k8s-spec-get", "k8s-spec-get", "jujusim does not model \"k8s-spec-get\""),
            fails("k8s-raw-set", "k8s-raw-set", "jujusim does not model \"k8s-raw-set\""),
            fails("k8s-raw-get", "k8s-raw-get", "jujusim does not model \"k8s-raw-get\""),
            fails("pod-spec-set", "pod-spec-set", "jujusim does not model \"pod-spec-set\""),
            fails("pod-spec-get", "pod-spec-get", "jujusim does not model \"pod-spec-get\""),
        ],
    );
    let mut old = Bench::of("3.6.9", &["deploy PUPPET", "settle"]);
    let row = fails("add-metric", "add-metric a=1", "jujusim does not model \"add-metric\"");
    old.each("puppet/0", "README, Not modelled", &[row]);
}

#[test]
fn unmodelled_values_and_flags_are_refused() {
    let mut bench = Bench::new(&["deploy PUPPET", "settle", "exec puppet/0 -- open-port 1"]);
    bench.each(
        "puppet/0",
        "README, Not modelled",
        &[
            fails(
                "base64 content that is not UTF-8",
                "secret-add key#base64=/w==",
                "jujusim does not model secret content that is not UTF-8",
            ),
            fails(
                "base64 content that is not base64",
                "secret-add key#base64=?",
                "jujusim does not model base64 content for key \"key\" that is not base64",
            ),
            fails(
                "a file that is not UTF-8",
                "printf '\\377' >f; secret-add key#file=$PWD/f",
                "jujusim does not model secret content that is not UTF-8",
            ),
            fails(
                "!!binary",
                "echo 'key: !!binary YQ==' >f; secret-add --file $PWD/f",
                "jujusim does not model !!binary in a secret's file",
            ),
            fails_with(
                "an argument that is not UTF-8",
                "is-leader $(printf '\\377')",
                "ERROR jujusim does not model the argument ",
            ),
            fails(
                "standard input that is not UTF-8",
                "printf '\\377' | relation-set -r 0 --file -",
                "jujusim does not model standard input that is not UTF-8",
            ),
            fails(
                "closing for one endpoint what is open for all",
                "close-port --endpoints db 1",
                "jujusim does not model closing a port for one endpoint that is open for all",
            ),
            fails(
                "a port for an endpoint of nobody's",
                "open-port --endpoints none 1",
                "jujusim does not model ports for the endpoint \"none\": it is none of the charm's",
            ),
        ],
    );
    let mut old = Bench::of("2.9.52", &["deploy PUPPET", "settle"]);
    let row = fails(
        "ports before 3.0.3",
        "open-port 1",
        "jujusim does not model ports on Kubernetes before Juju 3.0.3",
    );
    old.each("puppet/0", "README, Not modelled", &[row]);
}
