//! What most tests begin with: an authority, servers that trust one another, editors, people, a shared document.

use std::sync::Arc;

use anyhow::Result;
use tempfile::TempDir;

use crate::{authority::Authority, client::Client, editors::Editors, server::Server, synapse::Synapse};

/// See the module.
pub struct World {
    /// Servers in the order in which they were started.
    pub servers: Vec<Server>,
    /// Signs their certificates.
    pub authority: Authority,
    /// Stock editors.
    pub editors: Arc<Editors>,
    folder: TempDir,
}

impl World {
    /// Starts so many servers.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn new(servers: usize) -> Result<Self> {
        Self::with_config(servers, "").await
    }

    /// Starts so many servers with lines appended to their configuration.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn with_config(servers: usize, extra: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(folder.path())?;
        let editors = Editors::start(&authority).await?;
        let mut world = Self {
            servers: Vec::new(),
            authority,
            editors,
            folder,
        };
        for _ in 0..servers {
            world.add_server(extra).await?;
        }
        Ok(world)
    }

    /// Starts one more server.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn add_server(&mut self, extra: &str) -> Result<usize> {
        let label = format!("server-{}", self.servers.len());
        let server = Server::start(&self.authority, self.folder.path(), &label, extra).await?;
        self.servers.push(server);
        Ok(self.servers.len() - 1)
    }

    /// Starts a stock Synapse beside the servers.
    ///
    /// # Errors
    /// When it can't be installed or does not start.
    pub async fn synapse(&self) -> Result<Synapse> {
        Synapse::start(&self.authority, self.folder.path()).await
    }

    /// Registers a user on the server with this number.
    ///
    /// # Errors
    /// When there is no such server, or it refuses.
    pub async fn user(&self, server: usize, name: &str) -> Result<Client> {
        let server = self
            .servers
            .get(server)
            .ok_or_else(|| anyhow::anyhow!("no server {server}"))?;
        Client::register(&self.authority.http()?, &server.url, name).await
    }

    /// alice on the first server, bob on the second, and a document of hers that he edits.
    ///
    /// # Errors
    /// When something is refused.
    pub async fn shared_document(&self) -> Result<(Client, Client, String)> {
        let (alice, bob) = (self.user(0, "alice").await?, self.user(1, "bob").await?);
        let room = alice.create_document("Shared plans").await?;
        alice.give_role(&room, &bob.user, "editor").await?;
        bob.accept_invitation(&room).await?;
        Ok((alice, bob, room))
    }
}
