//! Threads that work on one image together and wait for its next layer awake: a thread that sleeps between two layers is late
//! for each by as long as a small layer takes.

use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::mem::transmute;
use std::ptr::null;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rayon::prelude::*;

/// Looks at the state before a waiting thread lets others run.
const PATIENCE: usize = 4096;
/// Bits of a number of pieces.
const BITS: u32 = 20;
/// Pieces of one job, at most.
const MOST: u64 = (1 << BITS) - 1;

/// What the pieces of a job have in common.
type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// Pieces of one thread: where they end, and below that the next to be taken, or more once all were.
///
/// On a line of its own, since each thread takes its own pieces first.
#[repr(align(64))]
struct Share(AtomicU64);

impl Share {
    /// Takes a piece, unless all were taken.
    fn take(&self) -> Option<usize> {
        let left = |state: u64| (state & MOST < state >> BITS).then_some((state & MOST) as usize);
        left(self.0.load(Ordering::Relaxed))?;
        left(self.0.fetch_add(1, Ordering::Acquire))
    }

    /// Gives pieces `start` to `end` out.
    fn fill(&self, start: u64, end: u64) {
        self.0.store(end << BITS | start, Ordering::Release);
    }

    /// The first piece that was not taken; nothing can be taken any more.
    fn end(&self) -> u64 {
        let state = self.0.swap(0, Ordering::Relaxed);
        (state & MOST).min(state >> BITS)
    }
}

/// Threads that take pieces of the leader's jobs. Each begins with the same part of every job: what it wrote for one layer, it
/// finds in its own cache for the next.
struct Team {
    /// By thread; the leader's is the first.
    shares: Vec<Share>,
    /// The job; read by who took a piece, and written when no piece is out.
    job: UnsafeCell<*const Work<'static>>,
    /// Pieces of it that are done.
    done: AtomicUsize,
    panicked: AtomicBool,
    over: AtomicBool,
}

// SAFETY: the job is shared as `Team::job` says.
unsafe impl Sync for Team {}

thread_local! {
    /// The team that this thread leads, while none of its jobs runs.
    static LED: Cell<*const Team> = const { Cell::new(null()) };
}

/// Waits a moment, longer when asked often.
fn pause(asked: &mut usize) {
    *asked += 1;
    match *asked {
        ..PATIENCE => spin_loop(),
        // Another thread's work may be what is waited for.
        _ => std::thread::yield_now(),
    }
}

/// Counts a piece as done, also when it panics.
struct Piece<'t>(&'t Team);

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked.store(true, Ordering::Relaxed);
        }
        self.0.done.fetch_add(1, Ordering::Release);
    }
}

/// The end of a job: no piece is taken any more, and those that were are done.
struct Ending<'t>(&'t Team, u64);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let Self(team, pieces) = *self;
        // Everything was taken, unless a piece panicked here.
        let taken = |(i, share): (usize, &Share)| share.end().saturating_sub(team.start(i, pieces));
        let taken: u64 = team.shares.iter().enumerate().map(taken).sum();
        let mut asked = 0;
        while (team.done.load(Ordering::Acquire) as u64) < taken {
            pause(&mut asked);
        }
    }
}

impl Team {
    fn new(threads: usize) -> Self {
        let nothing: &Work<'static> = &|_| ();
        Self {
            shares: (0..threads).map(|_| Share(AtomicU64::new(0))).collect(),
            job: UnsafeCell::new(nothing),
            done: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// The first piece of a thread.
    fn start(&self, thread: usize, pieces: u64) -> u64 {
        thread as u64 * pieces / self.shares.len() as u64
    }

    /// Takes pieces until there is none, the thread's own first; true if there was one.
    fn take(&self, thread: usize) -> bool {
        let mut any = false;
        let (lower, own) = self.shares.split_at(thread);
        let (own, higher) = own.split_at(1);
        for share in own.iter().chain(lower.iter().rev()).chain(higher) {
            while let Some(i) = share.take() {
                let _piece = Piece(self);
                // SAFETY: this piece is of the job that is stored, whose leader waits until it is done.
                unsafe { (**self.job.get())(i) };
                any = true;
            }
        }
        any
    }

    /// Takes pieces of all jobs to come.
    fn help(&self, thread: usize) {
        let mut asked = 0;
        while !self.over.load(Ordering::Acquire) {
            if self.take(thread) {
                asked = 0;
            } else {
                pause(&mut asked);
            }
        }
    }

    /// Calls `work` with every index below `pieces`.
    fn run(&self, pieces: u64, work: &Work<'_>) {
        // SAFETY: nobody reads it after `Ending`, within which it lives.
        let work: *const Work<'static> = unsafe { transmute::<&Work<'_>, &Work<'static>>(work) };
        // SAFETY: no piece of the job before is out.
        unsafe { *self.job.get() = work };
        self.done.store(0, Ordering::Relaxed);
        // In this order, who finds a share below its own finds its own before.
        for (i, share) in self.shares.iter().enumerate().rev() {
            share.fill(self.start(i, pieces), self.start(i + 1, pieces));
        }
        let ending = Ending(self, pieces);
        self.take(0);
        drop(ending);
        assert!(
            !self.panicked.load(Ordering::Relaxed),
            "a part of a layer panicked"
        );
    }
}

/// Calls `f`, whose jobs ([`run`]) all threads of the current pool work on, awake until it ends.
pub fn together<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let team = Team::new(rayon::current_num_threads());
    rayon::scope(|scope| {
        struct End<'t>(&'t Team);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                LED.set(null());
                self.0.over.store(true, Ordering::Release);
            }
        }
        let _end = End(&team);
        for thread in 1..team.shares.len() {
            let team = &team;
            scope.spawn(move |_| team.help(thread));
        }
        LED.set(&team);
        f()
    })
}

/// Calls `work` with every index below `pieces`, on the threads of this thread's team, or of the current pool where it leads none.
pub fn run(pieces: usize, work: impl Fn(usize) + Sync) {
    let led = LED.get();
    if led.is_null() || pieces as u64 > MOST / 2 {
        return (0..pieces).into_par_iter().for_each(&work);
    }
    // Work within a piece is no job of the team's.
    LED.set(null());
    struct Back(*const Team);
    impl Drop for Back {
        fn drop(&mut self) {
            LED.set(self.0);
        }
    }
    let _back = Back(led);
    // SAFETY: `together` takes it away before the team ends.
    unsafe { &*led }.run(pieces as u64, &work);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn pool(threads: usize) -> rayon::ThreadPool {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
        builder.build().unwrap()
    }

    /// Every piece once, whatever the sizes, and each job sees what the one before it left.
    #[test]
    fn every_piece_is_done_once_before_the_next_job_begins() {
        for threads in 1..5 {
            let counts: Vec<AtomicUsize> = (0..40).map(|_| AtomicUsize::new(0)).collect();
            pool(threads).install(|| {
                together(|| {
                    for job in 0..20_000 {
                        let pieces = job % (counts.len() + 1);
                        let before: Vec<usize> =
                            counts.iter().map(|c| c.load(Ordering::Relaxed)).collect();
                        run(pieces, |i| {
                            assert_eq!(counts[i].fetch_add(1, Ordering::Relaxed), before[i]);
                        });
                        for (i, count) in counts.iter().enumerate() {
                            let want = before[i] + usize::from(i < pieces);
                            assert_eq!(count.load(Ordering::Relaxed), want, "job {job}, piece {i}");
                        }
                    }
                });
            });
        }
    }

    /// What a thread wrote in one job is in its own cache for the next. Now and then another comes first.
    #[test]
    fn a_thread_begins_with_the_same_pieces_of_most_jobs() {
        let (threads, all) = (3, std::sync::Barrier::new(3));
        let jobs = 400;
        let by = std::sync::Mutex::new(vec![Vec::new(); threads]);
        pool(threads).install(|| {
            together(|| {
                for _ in 0..jobs {
                    run(threads, |i| {
                        all.wait();
                        let own = rayon::current_thread_index();
                        by.lock().unwrap()[i].push(own);
                    });
                }
            });
        });
        for by in by.into_inner().unwrap() {
            let most = (0..threads).map(|t| by.iter().filter(|&&b| b == Some(t)).count());
            let most = most.max().unwrap();
            assert!(most > jobs * 2 / 3, "{most} of {jobs}: {by:?}");
        }
    }

    #[test]
    fn work_within_a_piece_and_without_a_team_is_done_too() {
        let count = AtomicUsize::new(0);
        let add = |_: usize| {
            run(5, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        };
        pool(3).install(|| together(|| run(7, add)));
        assert_eq!(count.swap(0, Ordering::Relaxed), 35);
        pool(3).install(|| run(7, add));
        assert_eq!(count.into_inner(), 35);
    }

    /// Whoever takes the piece that panics, the caller hears of it, and nobody is left waiting.
    #[test]
    fn a_piece_that_panics_ends_the_pass() {
        for _ in 0..200 {
            let done = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool(2).install(|| {
                    together(|| {
                        run(50, |i| {
                            done.fetch_add(1, Ordering::Relaxed);
                            assert_ne!(i, 20, "expected in this test");
                        });
                    });
                });
            }));
            assert!(result.is_err());
            assert!(done.into_inner() >= 1);
        }
    }
}
