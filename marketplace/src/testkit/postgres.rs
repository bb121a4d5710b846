//! A PostgreSQL server of one's own, for tests and benchmarks: in a temporary folder, on a free port
//! of the loopback interface, gone with the process that started it.

use std::{
    ffi::OsStr,
    fmt, fs, io,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// The server refuses to run as root; Debian's and everybody's number for nobody.
const NOBODY: u32 = 65534;
const DEBIAN: &str = "/usr/lib/postgresql";
/// A process that outlives us by a moment: when we end, however we end, its input ends.
const GUARD: &str = r#"cat >/dev/null; "$1" stop -D "$2/data" -m immediate -w >/dev/null 2>&1; rm -rf "$2""#;

/// A running server.
#[derive(Debug)]
pub struct PostgresServer {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    /// Whether we are root, so that everything has to be done as nobody.
    as_nobody: bool,
    databases: AtomicU32,
    guard: Option<Child>,
}

/// Why there is no server.
#[derive(Debug)]
pub struct NoServer(String);

impl fmt::Display for NoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; install PostgreSQL 13 or later (Debian: apt-get install postgresql)", self.0)
    }
}

impl std::error::Error for NoServer {}

impl From<io::Error> for NoServer {
    fn from(error: io::Error) -> Self {
        Self(format!("no PostgreSQL server can be started: {error}"))
    }
}

impl PostgresServer {
    /// Makes a cluster and starts it. Takes some seconds.
    ///
    /// # Errors
    /// [`NoServer`] when PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self, NoServer> {
        let programs = programs().ok_or_else(|| NoServer("initdb and pg_ctl were not found".into()))?;
        let folder = tempfile::Builder::new().prefix("postgres").tempdir()?.keep();
        let as_nobody = fs::metadata(&folder)?.uid() == 0;
        if as_nobody {
            chown(&folder, Some(NOBODY), Some(NOBODY))?;
        }
        let mut server = Self { programs, folder, port: 0, as_nobody, databases: AtomicU32::new(0), guard: None };
        server.guard = Some(server.guard()?);
        let data = server.data();
        server
            .run("initdb", ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])?;
        // Somebody else may take the port between our look and the server's.
        for _ in 0..5 {
            server.port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            if server.resume().is_ok() {
                return Ok(server);
            }
        }
        server.resume().map(|()| server)
    }

    /// The URL of a new, empty database.
    ///
    /// # Errors
    /// [`NoServer`] when the server is stopped.
    pub fn database(&self) -> Result<String, NoServer> {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let port = self.port.to_string();
        self.run("createdb", ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", &name])?;
        Ok(format!("postgres://postgres@127.0.0.1:{port}/{name}"))
    }

    /// Stops it as a crash would: every connection is cut, nothing is finished.
    ///
    /// # Errors
    /// [`NoServer`] when it does not stop.
    pub fn crash(&self) -> Result<(), NoServer> {
        self.run("pg_ctl", ["stop", "-D", &self.data(), "-m", "immediate", "-w"])
    }

    /// Starts it again after a [`PostgresServer::crash`].
    ///
    /// # Errors
    /// [`NoServer`] when it does not start.
    pub fn resume(&self) -> Result<(), NoServer> {
        let folder = self.folder.display();
        let log = format!("{folder}/log");
        let options = format!("-h 127.0.0.1 -p {} -k {folder} -c max_connections=200", self.port);
        self.run("pg_ctl", ["start", "-D", &self.data(), "-l", &log, "-o", &options, "-w"])
    }

    /// Copies a database to another server as an operator would, by dumping and restoring it; the URL of
    /// the copy.
    ///
    /// # Errors
    /// [`NoServer`] when either is stopped.
    pub fn copy(&self, url: &str, to: &Self) -> Result<String, NoServer> {
        let dump = format!("{}/dump", self.folder.display());
        self.run("pg_dump", ["--file", &dump, url])?;
        let copy = to.database()?;
        to.run("psql", ["-q", "-v", "ON_ERROR_STOP=1", "-f", &dump, &copy])?;
        Ok(copy)
    }

    /// Makes a standby of it, after a crash: it may be read and no longer be written.
    ///
    /// # Errors
    /// [`NoServer`] when it does not start as one.
    pub fn demote(&self) -> Result<(), NoServer> {
        self.crash()?;
        let signal = self.folder.join("data/standby.signal");
        fs::write(&signal, "")?;
        if self.as_nobody {
            chown(&signal, Some(NOBODY), Some(NOBODY))?;
        }
        self.resume()
    }

    fn data(&self) -> String {
        format!("{}/data", self.folder.display())
    }

    fn run<'a>(&self, program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Result<(), NoServer> {
        let mut command = self.command(self.programs.join(program));
        // The server inherits what it starts with and would keep a pipe open for ever.
        let log = fs::File::create(self.folder.join("start"))?;
        let ended = command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).status()?;
        if ended.success() {
            return Ok(());
        }
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        Err(NoServer(format!("{program} ended with {ended}: {}{}", read("start"), read("log"))))
    }

    fn guard(&self) -> io::Result<Child> {
        let (stop, folder) = (self.programs.join("pg_ctl"), &self.folder);
        let mut command = self.command("sh");
        command.args(["-c", GUARD, "guard"]).arg(stop).arg(folder).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder);
        if self.as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

/// The folder with the server's programs: the newest that Debian has, or the first on the path.
fn programs() -> Option<PathBuf> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let installed = fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut installed: Vec<PathBuf> = installed.filter(|path| version(path).is_some()).collect();
    installed.sort_by_key(|path| std::cmp::Reverse(version(path)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = installed.into_iter().map(|path| path.join("bin")).chain(std::env::split_paths(&path));
    folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("pg_ctl").exists())
}
