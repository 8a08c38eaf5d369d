//! How the C library hands memory out, set once at the start of the process, by how long that is going to live.

/// glibc gives each thread that allocates an arena of its own, up to eight for a processor, and keeps what was once used in each: a
/// third of the memory after a journey. One for a processor loses no speed.
pub fn for_long() {
    let processors = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    set(&[(Setting::ArenaMax, i32::try_from(processors).unwrap_or(i32::MAX))]);
}

/// A command that is over in a moment asks the kernel for memory in large pieces and gives none back: asking again, and having the same
/// pages made anew, was a tenth of its time.
pub fn for_a_moment() {
    set(&[(Setting::TopPad, 4 << 20), (Setting::TrimThreshold, 1 << 30)]);
}

#[derive(Clone, Copy)]
enum Setting {
    ArenaMax,
    TopPad,
    TrimThreshold,
}

fn set(options: &[(Setting, i32)]) {
    #[cfg(target_env = "gnu")]
    for (option, value) in options {
        let option = match option {
            Setting::ArenaMax => nix::libc::M_ARENA_MAX,
            Setting::TopPad => nix::libc::M_TOP_PAD,
            Setting::TrimThreshold => nix::libc::M_TRIM_THRESHOLD,
        };
        // SAFETY: it sets a number, before there is a second thread.
        unsafe { nix::libc::mallopt(option, *value) };
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = options;
}
