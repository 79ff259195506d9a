//! A recording on disk: bounded, and never left half written.

use super::Packet;
use crate::recorder::journal::Shared;
use crate::recorder::record::Header;
use crate::recorder::recording::MAGIC;
use crate::recorder::ring::Cursor;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// A file may grow to this many times the ring before another is begun.
const RINGS: u64 = 4;
/// What recordings of all versions begin with.
const NAME: &[u8] = b"LMKDREC";
/// How many names are tried for a file that is not whole yet.
const NAMES: u32 = 16;

/// A file that is written after each kill. A new one begins with all that the ring holds, so that
/// each stands for itself; the one before it keeps its name with `.1` after it.
pub(super) struct RecordFile {
    path: PathBuf,
    limit: u64,
    open: Option<Open>,
    kills: u32,
    broken: bool,
}

struct Open {
    file: File,
    size: u64,
    cursor: Cursor,
}

impl RecordFile {
    pub(super) fn new(path: PathBuf, ring: u64) -> Self {
        let limit = ring.saturating_mul(RINGS);
        Self { path, limit, open: None, kills: 0, broken: false }
    }

    /// At the start: makes the file, or says at once that it cannot be made. One that is there is
    /// of an earlier run, and stays until there is something newer to tell.
    pub(super) fn check(&mut self, packet: &mut Packet, shared: &Shared, header: &Header) {
        let there = std::fs::metadata(&self.path).is_ok_and(|file| file.len() > 0);
        let result = if there {
            let open = |()| OpenOptions::new().append(true).open(&self.path).map(drop);
            self.may_be_replaced().and_then(open)
        } else {
            self.begin(packet, shared, header)
        };
        self.note(result);
    }

    /// Writes what is new, if a kill is among it or `all` of it is wanted.
    pub(super) fn follow(
        &mut self,
        packet: &mut Packet,
        shared: &Shared,
        header: &Header,
        all: bool,
    ) {
        let kills = shared.kills();
        if !all && kills == self.kills {
            return;
        }
        self.kills = kills;
        let result = self.write(packet, shared, header);
        let worked = result.is_ok();
        self.note(result);
        if all && worked {
            log::info!("the recording {} is up to date", self.path.display());
        }
    }

    /// Writes all that the ring holds, once.
    pub(super) fn write_once(&mut self, packet: &mut Packet, shared: &Shared, header: &Header) {
        match self.begin(packet, shared, header) {
            Ok(()) => log::info!("a recording was written to {}", self.path.display()),
            Err(error) => self.note(Err(error)),
        }
    }

    fn write(&mut self, packet: &mut Packet, shared: &Shared, header: &Header) -> io::Result<()> {
        // Who moved or removed it wants the next.
        let named = self.has_its_name();
        match &mut self.open {
            Some(open) if named && open.size < self.limit => open.append(packet, shared),
            _ => self.begin(packet, shared, header),
        }
    }

    /// Begins a file with all that the ring holds. It has its name only when it is whole.
    fn begin(&mut self, packet: &mut Packet, shared: &Shared, header: &Header) -> io::Result<()> {
        self.may_be_replaced()?;
        let (new, file) = self.fresh()?;
        let result = self.make(&new, file, packet, shared, header);
        if result.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        result
    }

    /// A file that nobody had before, beside the one that it will be. In a directory where others
    /// write too, a name that is taken may be a trap.
    fn fresh(&self) -> io::Result<(PathBuf, File)> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
        for number in 0..NAMES {
            let new = with_suffix(&self.path, &format!(".{}.{number}.new", std::process::id()));
            match options.open(&new) {
                Ok(file) => return Ok((new, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }

    /// What has the name now would be moved, over what has the name with `.1`: earlier recordings
    /// may be, a device, a link or a stranger's file may not.
    fn may_be_replaced(&self) -> io::Result<()> {
        let older = with_suffix(&self.path, ".1");
        is_a_recording(&self.path).and_then(|()| is_a_recording(&older))
    }

    /// Whether the file that is written to still has its name.
    fn has_its_name(&self) -> bool {
        let named = std::fs::symlink_metadata(&self.path);
        let open = self.open.as_ref().map(|open| open.file.metadata());
        let id = |file: &std::fs::Metadata| (file.dev(), file.ino());
        matches!((&named, &open), (Ok(named), Some(Ok(open))) if id(named) == id(open))
    }

    fn make(
        &mut self,
        new: &Path,
        file: File,
        packet: &mut Packet,
        shared: &Shared,
        header: &Header,
    ) -> io::Result<()> {
        let mut open = Open { file, size: 0, cursor: Cursor::default() };
        packet.greet(header, "");
        open.file.write_all(packet.bytes())?;
        open.size = length(packet.bytes());
        open.append(packet, shared)?;
        match std::fs::rename(&self.path, with_suffix(&self.path, ".1")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::rename(new, &self.path)?;
        self.open = Some(open);
        Ok(())
    }

    /// Says once that it does not work, and once that it works again.
    fn note(&mut self, result: io::Result<()>) {
        let path = self.path.display();
        match &result {
            Err(error) if !self.broken => {
                log::error!("the recording {path} cannot be written: {error}");
            }
            Ok(()) if self.broken => log::info!("the recording {path} is written again"),
            _ => {}
        }
        self.broken = result.is_err();
    }
}

impl Open {
    /// Appends what is new. If that fails the file ends where it ended before.
    fn append(&mut self, packet: &mut Packet, shared: &Shared) -> io::Result<()> {
        let before = self.size;
        let mut cursor = self.cursor;
        while packet.fill(&shared.history, &mut cursor) {
            if let Err(error) = self.file.write_all(packet.bytes()) {
                self.size = before;
                // What stands behind would be read as damage.
                self.file.set_len(before)?;
                io::Seek::seek(&mut self.file, io::SeekFrom::Start(before))?;
                return Err(error);
            }
            self.size = self.size.saturating_add(length(packet.bytes()));
        }
        self.cursor = cursor;
        Ok(())
    }
}

/// Fails if there is something at this path that is neither empty nor a recording.
fn is_a_recording(path: &Path) -> io::Result<()> {
    let refused = |why| {
        let text = format!("{} is {why}; move it, or give another name", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(there) if !there.is_file() => return refused("no regular file"),
        Ok(there) if there.len() == 0 => return Ok(()),
        Ok(_) => {}
    }
    let mut first = [0; MAGIC.len()];
    // It could have become a link or a pipe since.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let is_ours = file.read_exact(&mut first).is_ok();
    // Of whatever version: it is only moved.
    match is_ours && first.starts_with(NAME) {
        true => Ok(()),
        false => refused("no recording"),
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MonoTime;
    use crate::recorder::scribe::tests::header;
    use crate::recorder::Change;
    use crate::recorder::Fate;
    use crate::recorder::Journal;
    use crate::recorder::Record;
    use crate::recorder::Recording;
    use crate::recorder::Removal;
    use crate::recorder::Step;
    use std::fs;

    struct Desk {
        dir: PathBuf,
        journal: Journal,
        packet: Packet,
    }

    impl Desk {
        fn new(name: &str) -> Self {
            let dir = format!("lmkd-file-{}-{name}", std::process::id());
            let dir = std::env::temp_dir().join(dir);
            fs::create_dir_all(&dir).unwrap();
            Self { dir, journal: Journal::new(0).unwrap(), packet: Packet::default() }
        }

        fn file(&self, name: &str) -> RecordFile {
            RecordFile::new(self.dir.join(name), self.journal.shared.history.size())
        }

        fn changes(&mut self, count: i32) {
            for pid in 0..count {
                let change = Change::Removed { pid, why: Removal::Asked };
                self.journal.write(MonoTime::ZERO, &change);
            }
            self.journal.end_turn();
        }

        fn death(&mut self, ticket: u32) {
            let fate = Fate { ticket, pid: 2, step: Step::Exited, moments: Default::default() };
            self.journal.write(MonoTime::ZERO, &fate);
            self.journal.end_turn();
        }

        fn follow(&mut self, file: &mut RecordFile, all: bool) {
            file.follow(&mut self.packet, &self.journal.shared, &header(), all);
        }

        fn read(&self, name: &str) -> Recording {
            let recording = Recording::open(&self.dir.join(name)).unwrap();
            assert_eq!(recording.tear, None);
            recording
        }
    }

    impl Drop for Desk {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    fn records(recording: &Recording) -> usize {
        recording.entries.iter().filter(|entry| entry.seq > 0).count()
    }

    #[test]
    fn a_device_or_a_strangers_file_is_not_moved_away() {
        let mut desk = Desk::new("strangers");
        let stranger = desk.dir.join("diary");
        fs::write(&stranger, "dear diary").unwrap();
        std::os::unix::fs::symlink("/dev/null", desk.dir.join("null")).unwrap();
        for name in ["diary", "null"] {
            let mut file = desk.file(name);
            file.check(&mut desk.packet, &desk.journal.shared, &header());
            assert!(file.broken, "{name}");
            desk.death(1);
            desk.follow(&mut file, true);
            file.write_once(&mut desk.packet, &desk.journal.shared, &header());
            assert!(!desk.dir.join(format!("{name}.1")).exists(), "{name}");
        }
        assert_eq!(fs::read(&stranger).unwrap(), b"dear diary");
        fs::remove_dir_all(&desk.dir).unwrap();
    }

    #[test]
    fn a_strangers_older_file_and_a_link_that_lies_in_wait_are_left_alone() {
        let mut desk = Desk::new("traps");
        let victim = desk.dir.join("victim");
        fs::write(&victim, "precious").unwrap();
        let trap = format!("a.{}.0.new", std::process::id());
        std::os::unix::fs::symlink(&victim, desk.dir.join(trap)).unwrap();
        let mut file = desk.file("a");
        desk.death(1);
        desk.follow(&mut file, false);
        assert_eq!(records(&desk.read("a")), 1);
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        fs::write(desk.dir.join("a.1"), "dear diary").unwrap();
        file.write_once(&mut desk.packet, &desk.journal.shared, &header());
        assert!(file.broken);
        assert_eq!(fs::read(desk.dir.join("a.1")).unwrap(), b"dear diary");
    }

    #[test]
    fn a_file_that_was_moved_away_is_followed_by_another() {
        let mut desk = Desk::new("moved");
        let mut file = desk.file("a");
        desk.death(1);
        desk.follow(&mut file, false);
        fs::rename(desk.dir.join("a"), desk.dir.join("kept")).unwrap();
        desk.death(2);
        desk.follow(&mut file, false);
        assert_eq!((records(&desk.read("kept")), records(&desk.read("a"))), (1, 2));
        fs::remove_file(desk.dir.join("a")).unwrap();
        desk.death(3);
        desk.follow(&mut file, false);
        assert_eq!(records(&desk.read("a")), 3);
    }

    #[test]
    fn a_file_is_written_when_somebody_was_killed_or_it_is_asked_for() {
        let mut desk = Desk::new("kills");
        let mut file = desk.file("a");
        file.check(&mut desk.packet, &desk.journal.shared, &header());
        assert_eq!(records(&desk.read("a")), 0);
        desk.changes(3);
        desk.follow(&mut file, false);
        assert_eq!(records(&desk.read("a")), 0);
        desk.death(1);
        desk.follow(&mut file, false);
        assert_eq!(records(&desk.read("a")), 4);
        desk.changes(1);
        desk.follow(&mut file, true);
        assert_eq!(records(&desk.read("a")), 5);
    }

    #[test]
    fn a_file_grows_to_its_limit_and_the_next_begins_with_the_whole_ring() {
        let mut desk = Desk::new("limit");
        let mut file = desk.file("a");
        let mut deaths = 0;
        while !desk.dir.join("a.1").exists() {
            desk.changes(50);
            deaths += 1;
            desk.death(deaths);
            desk.follow(&mut file, false);
            assert!(deaths < 1000, "it is never replaced");
        }
        let (old, new) = (desk.read("a.1"), desk.read("a"));
        let size = fs::metadata(desk.dir.join("a.1")).unwrap().len();
        assert!(size < file.limit + 2 * desk.journal.shared.history.size(), "{size}");
        assert!(!old.entries.iter().any(|entry| matches!(entry.record, Record::Lost(_))));
        // The new one repeats the end of the old one.
        let last = old.entries.last().unwrap().seq;
        assert!(new.entries[1].seq <= last && new.entries.last().unwrap().seq > last);
        assert_eq!(fs::read_dir(&desk.dir).unwrap().count(), 2);
    }

    #[test]
    fn the_file_of_an_earlier_run_stays_until_there_is_news() {
        let mut desk = Desk::new("earlier");
        fs::write(desk.dir.join("a"), b"LMKDREC\0, earlier").unwrap();
        let mut file = desk.file("a");
        file.check(&mut desk.packet, &desk.journal.shared, &header());
        assert_eq!(fs::read(desk.dir.join("a")).unwrap(), b"LMKDREC\0, earlier");
        desk.death(1);
        desk.follow(&mut file, false);
        assert_eq!(fs::read(desk.dir.join("a.1")).unwrap(), b"LMKDREC\0, earlier");
        assert_eq!(records(&desk.read("a")), 1);
    }

    #[test]
    fn what_could_not_be_written_is_written_when_it_can_be() {
        let mut desk = Desk::new("later");
        let mut file = desk.file("missing/a");
        desk.death(1);
        desk.follow(&mut file, false);
        assert!(file.broken);
        fs::create_dir(desk.dir.join("missing")).unwrap();
        desk.death(2);
        desk.follow(&mut file, false);
        assert!(!file.broken);
        assert_eq!(records(&desk.read("missing/a")), 2);
    }

    #[test]
    fn a_disk_that_fills_up_leaves_the_file_as_it_was() {
        let mut desk = Desk::new("full");
        let mut file = desk.file("a");
        desk.death(1);
        desk.follow(&mut file, false);
        // A file that may only be read refuses bytes, and its end cannot be moved either.
        let open = file.open.as_mut().unwrap();
        let (before, cursor) = (open.size, open.cursor);
        let writable = std::mem::replace(&mut open.file, File::open(desk.dir.join("a")).unwrap());
        desk.death(2);
        desk.follow(&mut file, false);
        assert!(file.broken);
        let open = file.open.as_mut().unwrap();
        assert_eq!((open.size, open.cursor), (before, cursor));
        assert_eq!(records(&desk.read("a")), 1);
        open.file = writable;
        desk.death(3);
        desk.follow(&mut file, false);
        assert_eq!(records(&desk.read("a")), 3);
    }
}
