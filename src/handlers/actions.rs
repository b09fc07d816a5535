//! The actions. None is built yet; each says so instead of pretending.

/// What a person who runs the action is told.
pub fn refusal(action: &str) -> String {
    match action {
        "set-tls-private-key" => {
            "set-tls-private-key is not supported yet: this revision serves without TLS".into()
        }
        "pre-upgrade-check" | "resume-upgrade" => {
            format!("{action} is not supported yet: run juju refresh without it, all units follow one by one")
        }
        _ => format!("there is no action {action}"),
    }
}
