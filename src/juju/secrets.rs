//! Secrets: reads, writes, grants and removals.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;

use serde::Deserialize;

use super::info::SecretInfo;
use super::tool::{ToolError, absent_is_none, query, to_yaml};
use super::{Juju, Owner, keys};
use crate::event::{RelationId, secret_id};
use crate::facts::Texts;
use crate::secret::Secret;

impl Juju {
    /// The newest content of the secret with one of our labels; `None` if the secret does not exist
    /// or this unit may not read it yet.
    pub fn secret_by_label(
        &mut self,
        label: &str,
    ) -> Result<Option<BTreeMap<String, Secret>>, ToolError> {
        self.secret(label, &["--label", label])
    }

    /// The newest content of our application's secret that has no label yet.
    pub fn secret_by_uri(
        &mut self,
        uri: &str,
    ) -> Result<Option<BTreeMap<String, Secret>>, ToolError> {
        self.secret(uri, &[uri])
    }

    /// The newest content of another application's secret. The first read binds `label` to the
    /// secret for this unit, which a dry run must not do.
    pub fn foreign_secret(
        &mut self,
        uri: &str,
        label: &str,
    ) -> Result<Option<BTreeMap<String, Secret>>, ToolError> {
        if !self.journal.is_dry_run() {
            return self.secret(label, &[uri, "--label", label]);
        }
        let content = self.secret(label, &["--label", label])?;
        if content.is_none() {
            self.journal.leave_unread(label);
        }
        Ok(content)
    }

    fn secret(
        &mut self,
        name: &str,
        args: &[&str],
    ) -> Result<Option<BTreeMap<String, Secret>>, ToolError> {
        if let Some(content) = self.secrets.get(name) {
            return Ok(content.clone());
        }
        // Without --refresh, Juju returns the revision that this unit read first, also to the
        // owner, and keeps that revision alive.
        let newest = if self.journal.is_dry_run() { "--peek" } else { "--refresh" };
        let content = absent_is_none(query("secret-get", &[args, &[newest]].concat()))?;
        self.secrets.insert(name.to_owned(), content.clone());
        Ok(content)
    }

    /// The metadata of the secret with an owner's label; only the owner may read it.
    pub fn secret_info(&mut self, label: &str) -> Result<Option<SecretInfo>, ToolError> {
        self.info(label, &["--label", label])
    }

    /// The metadata of one of our secrets.
    pub fn secret_info_by_id(&mut self, id: &str) -> Result<Option<SecretInfo>, ToolError> {
        self.info(id, &[id])
    }

    fn info(&mut self, name: &str, args: &[&str]) -> Result<Option<SecretInfo>, ToolError> {
        #[derive(Deserialize)]
        struct Info {
            revision: u64,
        }
        if let Some(info) = self.infos.get(name) {
            return Ok(info.clone());
        }
        let infos: Option<BTreeMap<String, Info>> = absent_is_none(query("secret-info-get", args))?;
        let info = infos
            .unwrap_or_default()
            .into_iter()
            .next()
            .map(|(id, info)| SecretInfo { id, revision: Some(info.revision) });
        self.infos.insert(name.to_owned(), info.clone());
        Ok(info)
    }

    /// Sets the content of our secret with `label` and returns its URI. Uses the
    /// secret with that label, else relabels the secret `adopt`, else adds a secret. An equal
    /// content writes nothing.
    ///
    /// The label is looked up first because Juju commits a secret with the hook but does not undo
    /// it if a later part of the commit fails.
    pub fn set_secret(
        &mut self,
        label: &str,
        owner: &Owner,
        content: &BTreeMap<String, Secret>,
        adopt: Option<&str>,
    ) -> Result<String, ToolError> {
        let labelled = self.secret_info(label)?.map(|info| info.id);
        let relabel = labelled.is_none();
        let mut revision = None;
        let uri = if let Some(id) = labelled.or_else(|| adopt.map(|uri| secret_id(uri).to_owned()))
        {
            let uri = format!("secret:{id}");
            if relabel || self.secret_by_label(label)?.as_ref() != Some(content) {
                self.write_secret("secret-set", &[&uri, "--label", label], content)?;
            }
            uri
        } else {
            revision = Some(1);
            let owner = if *owner == Owner::Unit { "unit" } else { "application" };
            self.write_secret("secret-add", &["--label", label, "--owner", owner], content)?
        };
        self.secrets.insert(label.to_owned(), Some(content.clone()));
        self.infos.insert(
            label.to_owned(),
            Some(SecretInfo { id: secret_id(&uri).to_owned(), revision }),
        );
        Ok(uri)
    }

    /// Grants the application on the other side of a relation read access to our secret.
    pub fn grant(&mut self, uri: &str, relation: RelationId) -> Result<(), ToolError> {
        self.change("secret-grant", &[uri, "-r", &relation.to_string()])
    }

    /// Removes one revision of our secret.
    pub fn remove_revision(&mut self, id: &str, revision: u64) -> Result<(), ToolError> {
        self.change("secret-remove", &[id, "--revision", &revision.to_string()])
    }

    /// Removes our secret with all its revisions.
    pub fn remove_secret(&mut self, label: &str, id: &str) -> Result<(), ToolError> {
        self.change("secret-remove", &[id])?;
        self.secrets.insert(label.to_owned(), None);
        self.infos.insert(label.to_owned(), None);
        Ok(())
    }

    /// Runs a tool that takes a secret's content, and returns its output: the URI of a new secret.
    ///
    /// The agent, not the tool, opens the file that `--file` names. The content is in an anonymous
    /// file of this process, reached through `/proc`: it is never on a disk, and ends with this
    /// process.
    fn write_secret(
        &mut self,
        tool: &'static str,
        args: &[&str],
        content: &BTreeMap<String, Secret>,
    ) -> Result<String, ToolError> {
        let start = |source: std::io::Error| ToolError::Start { tool, source };
        let fd = nix::sys::memfd::memfd_create(c"secret", nix::sys::memfd::MFdFlags::empty())
            .map_err(|errno| start(errno.into()))?;
        let mut file = std::fs::File::from(fd);
        let texts: Texts =
            content.iter().map(|(key, value)| (key.clone(), value.reveal().to_owned())).collect();
        file.write_all(to_yaml(&texts).as_bytes()).map_err(start)?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let args = [args, &["--file", &path]].concat();
        let stdout = self.call(tool, &args, &keys(&texts), None)?;
        if self.journal.is_dry_run() {
            return Ok("secret:new".to_owned());
        }
        Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
    }
}
