//! Bringing a database's tables up to date.
//!
//! Migrations are numbered from 1 and only ever added; the text of a released one never changes, which
//! its checksum in the database proves. All that are missing are applied in one transaction.

use sha2::{Digest, Sha256};

use super::{Failure, session::Session, shelf::Lent};
use crate::store::StoreErrorKind;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT PRIMARY KEY, checksum TEXT NOT NULL)";

/// Applies what is missing.
pub(super) async fn migrate(session: &mut Lent) -> Result<(), Failure> {
    session.begin().await?;
    let applied = apply(session).await;
    match applied {
        Ok(()) => session.commit().await,
        Err(failure) => {
            session.rollback().await;
            Err(failure)
        }
    }
}

async fn apply(session: &mut Lent) -> Result<(), Failure> {
    let dialect = session.dialect();
    session.script(dialect.migration_lock).await?;
    session.script(TABLE).await?;
    let lines = session.rows("SELECT version, checksum FROM schema_versions ORDER BY version", Vec::new()).await?;
    let known = dialect.migrations.len();
    let mut applied = 0;
    for mut line in lines {
        let (version, checksum) = (line.int()?, line.text()?);
        let index = usize::try_from(version).unwrap_or(0);
        let Some(text) = index.checked_sub(1).and_then(|i| dialect.migrations.get(i)) else {
            let message = format!("the database has schema version {version}, this library knows up to {known}");
            return Err(Failure::new(StoreErrorKind::Newer, message));
        };
        if *checksum != *checksum_of(text) {
            let message = format!("migration {version} was applied with another text than this library's");
            return Err(Failure::corrupt(message));
        }
        applied = applied.max(index);
    }
    for (version, text) in (1..).zip(dialect.migrations).skip(applied) {
        session.script(text).await?;
        let row = vec![version.into(), checksum_of(text).as_str().into()];
        session.run("INSERT INTO schema_versions (version, checksum) VALUES ($1, $2)", row).await?;
    }
    if let Some(script) = dialect.on_start {
        session.script(script).await?;
    }
    Ok(())
}

fn checksum_of(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
