//! A queue of jobs that survives a power cut: the jobs are one log, and how far they are done is another.
//!
//! ```sh
//! cargo run -p durable-log --example queue -- /tmp/queue push "boil water" "make tea"
//! cargo run -p durable-log --example queue -- /tmp/queue work
//! ```
//!
//! `push` returns when the jobs are durable. A job whose end was not recorded before a crash is done again: at
//! least once, in order.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};

use durable_log::host::Host;
use durable_log::{Log, Offset, Options};

struct Queue {
    jobs: Log,
    /// Each record is the offset of the first job that is not done.
    done: Log,
}

impl Queue {
    fn open(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let open = |name: &str| Log::open(&Host::real(), &dir.join(name), Options::default());
        let ((jobs, found), (done, _)) = (open("jobs")?, open("done")?);
        if let Some(torn) = found.torn {
            println!("{} bytes of an unfinished push were cut off", torn.bytes);
        }
        Ok(Self { jobs, done })
    }

    /// All of the jobs or none: they are one append.
    fn push(&self, jobs: &[String]) -> Result<(), Box<dyn Error>> {
        let records: Vec<_> = jobs.iter().map(String::as_bytes).collect();
        self.jobs.append(&records)?.wait_synced()?;
        Ok(())
    }

    fn first_to_do(&self) -> Result<Offset, Box<dyn Error>> {
        let done = self.done.positions();
        let Some(last) =
            done.appended.get().checked_sub(1).filter(|last| *last >= done.start.get())
        else {
            return Ok(Offset::ZERO);
        };
        let record = self.done.read(Offset::new(last))?;
        Ok(Offset::new(u64::from_le_bytes((*record).try_into()?)))
    }

    fn work(&self, mut work: impl FnMut(&[u8])) -> Result<(), Box<dyn Error>> {
        let mut jobs = self.jobs.iter(self.first_to_do()?)?;
        while let Some(job) = jobs.next()? {
            work(job.bytes);
            let next = job.offset + 1;
            self.done.append(&[&next.get().to_le_bytes()])?.wait_synced()?;
        }
        // Only whole segments go, and only of what is done; the last word on that stays.
        self.jobs.trim(self.first_to_do()?)?;
        let said = self.done.positions().durable.get();
        self.done.trim(Offset::new(said.saturating_sub(1)))?;
        Ok(())
    }

    fn close(self) -> Result<(), Box<dyn Error>> {
        self.jobs.close()?;
        self.done.close()?;
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [dir, command, jobs @ ..] = arguments.as_slice() else {
        return Err("queue DIR push JOB... | queue DIR work".into());
    };
    let queue = Queue::open(&PathBuf::from(dir))?;
    match command.as_str() {
        "push" => queue.push(jobs)?,
        "work" => queue.work(|job| println!("doing: {}", String::from_utf8_lossy(job)))?,
        other => return Err(format!("{other} is neither push nor work").into()),
    }
    queue.close()
}
