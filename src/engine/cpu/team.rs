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

/// Threads that take pieces of the leader's jobs.
struct Team {
    /// Pieces of the job, and below them how many were taken, or more once all were.
    state: AtomicU64,
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
        let taken = team.state.swap(0, Ordering::Relaxed) & MOST;
        let (mut asked, taken) = (0, taken.min(pieces) as usize);
        while team.done.load(Ordering::Acquire) < taken {
            pause(&mut asked);
        }
    }
}

impl Team {
    fn new() -> Self {
        let nothing: &Work<'static> = &|_| ();
        Self {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(nothing),
            done: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Takes pieces until there is none; true if there was one.
    fn take(&self) -> bool {
        let mut any = false;
        loop {
            let all_taken = |state: u64| state & MOST >= state >> BITS;
            if all_taken(self.state.load(Ordering::Relaxed)) {
                return any;
            }
            let state = self.state.fetch_add(1, Ordering::Acquire);
            if all_taken(state) {
                return any;
            }
            let _piece = Piece(self);
            // SAFETY: this piece is of the job that is stored, whose leader waits until it is done.
            unsafe { (**self.job.get())((state & MOST) as usize) };
            any = true;
        }
    }

    /// Takes pieces of all jobs to come.
    fn help(&self) {
        let mut asked = 0;
        while !self.over.load(Ordering::Acquire) {
            if self.take() {
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
        self.state.store(pieces << BITS, Ordering::Release);
        let ending = Ending(self, pieces);
        self.take();
        drop(ending);
        assert!(
            !self.panicked.load(Ordering::Relaxed),
            "a part of a layer panicked"
        );
    }
}

/// Calls `f`, whose jobs ([`run`]) all threads of the current pool work on, awake until it ends.
pub fn together<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let team = Team::new();
    rayon::scope(|scope| {
        struct End<'t>(&'t Team);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                LED.set(null());
                self.0.over.store(true, Ordering::Release);
            }
        }
        let _end = End(&team);
        for _ in 1..rayon::current_num_threads() {
            scope.spawn(|_| team.help());
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
