//! Waiting for what others do.

use std::time::Duration;

/// How long [`eventually`] looks: longer than anything in a test should take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks again and again until there is something, for a minute at most: what there is, or nothing.
pub async fn eventually<T, F>(mut look: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.ok()
}
