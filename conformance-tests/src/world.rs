//! The fixture of most tests: a certificate authority, servers that trust it, editors, users and a shared document.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    authority::Authority, client::Client, editors::Editors, external, link::Link, server::Server, synapse::Synapse,
};

/// See the module.
pub struct World {
    /// Servers in the order of their start.
    pub servers: Vec<Server>,
    /// The authority that signs their certificates.
    pub authority: Authority,
    /// Stock editors.
    pub editors: Arc<Editors>,
    /// Links in the order of the servers that were started behind one. That of Synapse is the last.
    pub links: Vec<Link>,
    folder: TempDir,
}

impl World {
    /// Starts `servers` servers.
    ///
    /// # Errors
    /// If one does not start.
    pub async fn new(servers: usize) -> Result<Self> {
        Self::with_config(servers, "").await
    }

    /// Starts `servers` servers with lines appended to their configuration.
    ///
    /// # Errors
    /// If one does not start.
    pub async fn with_config(servers: usize, extra: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(folder.path())?;
        let editors = Editors::start(&authority).await?;
        let mut world = Self {
            servers: Vec::new(),
            authority,
            editors,
            links: Vec::new(),
            folder,
        };
        for _ in 0..servers {
            world.add_server(extra).await?;
        }
        Ok(world)
    }

    /// Starts another server and returns its number.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn add_server(&mut self, extra: &str) -> Result<usize> {
        let number = self.servers.len();
        if let Some(urls) = external::urls() {
            let url = urls
                .get(number)
                .with_context(|| format!("WEFT_SERVERS lists only {} servers.", urls.len()))?;
            self.servers.push(Server::external(url, self.authority.http()?).await?);
            return Ok(number);
        }
        let label = format!("server-{number}");
        let server = Server::start(&self.authority, self.folder.path(), &label, extra).await?;
        self.servers.push(server);
        Ok(number)
    }

    /// Starts `servers` servers, each behind a link.
    ///
    /// # Errors
    /// If one does not start.
    pub async fn with_links(servers: usize, extra: &str) -> Result<Self> {
        let mut world = Self::with_config(0, extra).await?;
        for number in 0..servers {
            let link = Link::new().await?;
            let label = format!("server-{number}");
            let server = Server::start_behind(&world.authority, world.folder.path(), &label, extra, &link).await?;
            world.servers.push(server);
            world.links.push(link);
        }
        Ok(world)
    }

    /// Cuts all links: no server can send anything to another.
    pub fn cut(&self) {
        self.links.iter().for_each(Link::cut);
    }

    /// Restores all links.
    pub fn heal(&self) {
        self.links.iter().for_each(Link::heal);
    }

    /// Creates the data directory of the next server, readable for all users of the machine, as it may be before the
    /// first start.
    ///
    /// # Errors
    /// If it can't be created.
    pub fn prepare_open_data(&self) -> Result<()> {
        let data = self.folder.path().join(format!("server-{}/data", self.servers.len()));
        fs::create_dir_all(&data)?;
        Ok(fs::set_permissions(&data, fs::Permissions::from_mode(0o755))?)
    }

    /// An unused user name: `name` itself on servers that the test started, with a random suffix on external servers.
    #[must_use]
    pub fn fresh_name(&self, name: &str) -> String {
        if external::urls().is_some() {
            format!("{name}-{:x}", rand::random::<u32>())
        } else {
            name.to_owned()
        }
    }

    /// Starts a stock Synapse in addition to the servers.
    ///
    /// # Errors
    /// If it can't be installed or does not start.
    pub async fn synapse(&self) -> Result<Synapse> {
        Synapse::start(&self.authority, self.folder.path()).await
    }

    /// The same, behind a link, which is cut together with the others.
    ///
    /// # Errors
    /// If it can't be installed or does not start.
    pub async fn synapse_behind_link(&mut self) -> Result<Synapse> {
        let link = Link::new().await?;
        let synapse = Synapse::start_behind(&self.authority, self.folder.path(), &link).await?;
        self.links.push(link);
        Ok(synapse)
    }

    /// Registers a user on the server with this number.
    ///
    /// # Errors
    /// If there is no such server, or it refuses the registration.
    pub async fn user(&self, server: usize, name: &str) -> Result<Client> {
        let server = self
            .servers
            .get(server)
            .ok_or_else(|| anyhow::anyhow!("no server {server}"))?;
        Client::register(&self.authority.http()?, &server.url, &self.fresh_name(name)).await
    }

    /// Registers alice on the first server and bob on the second. Alice creates a document, of which bob is an editor.
    ///
    /// # Errors
    /// If a server refuses a request.
    pub async fn shared_document(&self) -> Result<(Client, Client, String)> {
        let (alice, bob) = (self.user(0, "alice").await?, self.user(1, "bob").await?);
        let room = alice.create_document("Shared plans").await?;
        alice.give_role(&room, &bob.user, "editor").await?;
        bob.accept_invitation(&room).await?;
        Ok((alice, bob, room))
    }
}
