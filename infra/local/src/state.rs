//! The folder that outlives a run: held by one stack at a time, emptied on demand, with the master key in it.
//!
//! What the emulator and the simulator keep below it is theirs.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The state folder, ours until this is dropped or the process ends, however it ends.
pub(crate) struct State {
    folder: PathBuf,
    _lock: File,
}

impl State {
    /// Takes the folder. Nothing in it is touched yet.
    ///
    /// # Errors
    /// Another stack holds it, or the disk refuses.
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        let lock = lock(&folder.with_extension("lock"), folder)?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// Empties the folder if `is_fresh`, and makes it if it is missing.
    ///
    /// # Errors
    /// The disk refuses.
    pub(crate) fn prepare(&self, is_fresh: bool) -> Result<()> {
        if is_fresh && self.folder.exists() {
            fs::remove_dir_all(&self.folder).with_context(|| format!("cannot empty {}", self.folder.display()))?;
        }
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))
    }

    /// A folder within, made if it is missing.
    ///
    /// # Errors
    /// The disk refuses.
    pub(crate) fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// A path within.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The key under which this stack's secrets are sealed, 32 bytes in base64: made once, readable for its owner alone.
    ///
    /// # Errors
    /// The disk refuses, or the file holds something else.
    pub(crate) fn master_key(&self) -> Result<String> {
        let path = self.file("master-key");
        match fs::read_to_string(&path) {
            Ok(key) if STANDARD.decode(key.trim()).is_ok_and(|it| it.len() == 32) => return Ok(key.trim().to_owned()),
            Ok(_) => bail!("{} is no key of 32 bytes in base64. Start with FRESH=1.", path.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
        let mut bytes = [0; 32];
        File::open("/dev/urandom").and_then(|mut it| it.read_exact(&mut bytes)).context("cannot read /dev/urandom")?;
        let key = STANDARD.encode(bytes);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut it| it.write_all(key.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(key)
    }
}

/// A lock that the system takes back when the process ends. The file beside the folder names the holder, for people.
fn lock(path: &Path, folder: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            bail!(
                "Another local stack (process {}) uses {}. Stop it, or give this one its own CARGO_TARGET_DIR.",
                holder.trim(),
                folder.display()
            );
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A folder that does not exist yet, in one that goes away with the guard.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("local-state-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).expect("the temporary folder is writable");
            Self(folder)
        }

        fn folder(&self) -> PathBuf {
            self.0.join("local")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("the folder is ours");
        }
    }

    #[test]
    fn one_stack_at_a_time_and_the_second_is_told_by_whom() {
        let place = Place::new("lock");
        let first = State::take(&place.folder()).expect("nobody has it");
        let told = State::take(&place.folder()).map(|_| ()).expect_err("it is taken").to_string();
        assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
        drop(first);
        State::take(&place.folder()).expect("it is free again");
    }

    #[test]
    fn the_master_key_stays_until_a_fresh_start_and_is_the_owners_alone() {
        let place = Place::new("key");
        let state = State::take(&place.folder()).expect("nobody has it");
        state.prepare(false).expect("the disk has room");
        let key = state.master_key().expect("the folder is writable");
        assert_eq!(STANDARD.decode(&key).expect("base64").len(), 32);
        assert_eq!(state.master_key().expect("it is there"), key);
        let mode = fs::metadata(state.file("master-key")).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        state.prepare(false).expect("the disk has room");
        assert_eq!(state.master_key().expect("it is still there"), key);
        state.prepare(true).expect("the folder is ours");
        assert_ne!(state.master_key().expect("the folder is writable"), key);
    }

    #[test]
    fn a_damaged_master_key_is_not_replaced() {
        let place = Place::new("damaged");
        let state = State::take(&place.folder()).expect("nobody has it");
        state.prepare(false).expect("the disk has room");
        fs::write(state.file("master-key"), "short").expect("the folder is writable");
        let told = state.master_key().expect_err("it is no key").to_string();
        assert!(told.contains("FRESH=1"), "{told}");
        assert_eq!(fs::read_to_string(state.file("master-key")).expect("it is there"), "short");
    }
}
