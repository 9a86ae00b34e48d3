//! Weft servers for a run: the built `weft` on this machine, with data in a temporary folder. Must not outlive the run.
//!
//! Each has an address without TLS for clients, in addition to the one with TLS for federation, because the peers in
//! the comparison have none: the cost of TLS is the same for all.

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::target::Target;
use weft_conformance_tests::{
    authority::Authority,
    client::Client,
    server::{Server, free_port},
};

/// See the module.
pub struct Local {
    /// Issues their certificates.
    pub authority: Authority,
    /// The servers, in the order of their start.
    pub servers: Vec<Server>,
    ports: Vec<u16>,
    folder: TempDir,
}

impl Local {
    /// Starts `servers` servers.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(servers: usize) -> Result<Self> {
        Self::start_with(servers, "").await
    }

    /// The same with lines appended to the configuration of each.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start_with(servers: usize, lines: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(folder.path())?;
        let mut local = Self {
            authority,
            servers: Vec::new(),
            ports: Vec::new(),
            folder,
        };
        for number in 0..servers {
            let port = free_port()?;
            let extra =
                format!("[[listen]]\naddress = \"127.0.0.1:{port}\"\nserve = [\"client\", \"documents\"]\n{lines}");
            let label = format!("server-{number}");
            let server = Server::start(&local.authority, local.folder.path(), &label, &extra).await?;
            local.servers.push(server);
            local.ports.push(port);
        }
        Ok(local)
    }

    /// A server by its number.
    ///
    /// # Errors
    /// When there is no such server.
    pub fn server(&self, number: usize) -> Result<&Server> {
        self.servers.get(number).context("no such server")
    }

    /// The folder of a server's data.
    #[must_use]
    pub fn data(&self, number: usize) -> std::path::PathBuf {
        self.folder.path().join(format!("server-{number}/data"))
    }

    /// A folder for files of other processes of the run.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The address without TLS.
    ///
    /// # Errors
    /// When there is no such server.
    pub fn url(&self, number: usize) -> Result<String> {
        let port = self.ports.get(number).context("no such server")?;
        Ok(format!("http://127.0.0.1:{port}"))
    }

    /// Registers a user, who connects without TLS.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn user(&self, number: usize, name: &str) -> Result<Client> {
        Client::register(&self.authority.http()?, &self.url(number)?, name).await
    }

    /// A server with a new user, as a target.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn target(&self, number: usize, name: &str, named: bool) -> Result<Target> {
        let client = self.user(number, name).await?;
        Ok(Target::weft(client, None, self.server(number)?.pid(), named))
    }
}
