"""The code that shares a program's work between threads, as LLVM IR text.

A *program* is a table of phases, carried out one after the other; a phase is a function called once
for each of its chunks, in any order, by any thread. A row of the table is three 8-byte words:

    the function, the number of chunks (at least 1), the offset of its arguments in the block

and the function is ``i64 kernel(ptr arguments, i64 chunk, i64 worker)``: it returns 0, or a code
that says what went wrong; ``worker`` numbers the threads at work on one program (the one that
waits for it is 0), for scratch memory.

A launch lives in a *slot* of the pool. The one word ``state`` says what can be claimed: a sequence
number above, the number of unclaimed chunks of the open phase below; a claim takes one by
compare-and-swap. A claim pins the phase, which cannot end before the claimed chunk is done, so
everything else in the slot is read after claiming and needs no further guard. Whoever finishes the
last chunk of a phase opens the next one, and goes on with its chunk 0 itself. Slots are never
freed: a thread that comes late finds nothing to claim, or something of the next launch.

An error takes the unclaimed chunks away and ends the program after the phase. Chunks are claimed in
order, so the failing one with the lowest number has always run: it is the one reported.

Threads without work spin for a while and then sleep on a word of memory: workers on the pool's
``epoch``, the one that waits for a launch on its slot's ``signal``. They announce that first and
look again, and whoever opens a phase looks at the announcements after opening it, so that one of
the two sees the other.

The runtime (``runtime/threads.py``) allocates ``pool_bytes()`` of zeroed, 64-byte aligned memory
and knows nothing of its layout. Functions:

    i64  pool_bytes()
    void pool_init(ptr pool, i64 spins, ptr calls)      calls: see ``SLEEP``
    void worker(ptr pool, i64 number)                   returns after ``stop``
    void stop(ptr pool)
    i64  run_alone(ptr phases, i64 count, ptr block, ptr report)
    i64  run(ptr pool, ptr phases, i64 count, ptr block, ptr report)
    void start(ptr pool, ptr phases, i64 count, ptr block, ptr words)
    void join(ptr pool, ptr words)                      works until the launch is done
    i64  is_done(ptr pool, i64 slot)
    i64  is_idle(ptr pool)                              no launch is under way
    void spin(i64 count)                                to measure how long a spin takes

``run`` and ``run_alone`` return 0 or the code; ``report`` then gets three words: code, phase,
chunk. ``start`` and ``join`` leave all they have to say in ``words``, the report and then the slot
(-1 where there is none), so that nothing is lost when Ctrl-C strikes as they return: ``start`` sets
the slot if one is free, ``join`` sets it to -1 and can be called again.
"""

from __future__ import annotations

from taimatsu.compiler.codegen.dispatch_code import CODE

SLOTS = 8

# 64 bytes a line, so that threads at work on one word do not disturb the readers of another.
_SLOT_FIELDS = (
    ("state", "i64"),
    ("", "[7 x i64]"),
    ("pending", "i64"),  # chunks of the open phase that are not done
    ("", "[7 x i64]"),
    ("function", "ptr"),
    ("arguments", "ptr"),
    ("chunks", "i64"),
    ("phase", "i64"),
    ("phases", "ptr"),
    ("count", "i64"),
    ("block", "ptr"),
    ("", "i64"),
    ("owned", "i32"),
    ("finished", "i32"),
    ("signal", "i32"),
    ("waiting", "i32"),
    ("error_lock", "i32"),
    ("", "i32"),
    ("code", "i64"),
    ("error_chunk", "i64"),
    ("", "[3 x i64]"),
)
_POOL_FIELDS = (
    ("epoch", "i32"),
    ("sleepers", "i32"),
    ("", "[7 x i64]"),
    ("stopping", "i32"),
    ("", "i32"),
    ("spins", "i64"),
    ("calls", "[6 x ptr]"),
    ("slots", f"[{SLOTS} x %slot]"),
)


def dispatch_ir(triple: str) -> str:
    """The module for a target, by its triple."""
    system = "futex" if "linux" in triple else "pthread"
    architecture = "aarch64" if triple.startswith(("aarch64", "arm64")) else "x86_64"
    return module(system, architecture)


def module(system: str, architecture: str) -> str:
    """The module that sleeps by ``system`` (a key of ``SLEEP``) on an ``architecture``."""
    sleep = SLEEP[system].replace("FUTEX", FUTEX_NUMBER[architecture])
    parts = [_layout("slot", _SLOT_FIELDS), _layout("pool", _POOL_FIELDS), PAUSE[architecture]]
    code = CODE.replace("SLOTS", str(SLOTS))
    return "\n".join([*parts, sleep, code])


def _layout(name: str, fields: tuple[tuple[str, str], ...]) -> str:
    """A structure, and for each named field a function from its address to the field's."""
    lines = [f"%{name} = type {{ {', '.join(kind for _, kind in fields)} }}"]
    for index, (field, _) in enumerate(fields):
        if field:
            lines += [
                f"define internal ptr @{name}.{field}(ptr %base) alwaysinline {{",
                f"  %at = getelementptr %{name}, ptr %base, i64 0, i32 {index}",
                "  ret ptr %at",
                "}",
            ]
    return "\n".join(lines)


PAUSE = {
    "x86_64": """
declare void @llvm.x86.sse2.pause()
define internal void @pause() alwaysinline {
  call void @llvm.x86.sse2.pause()
  ret void
}
""",
    "aarch64": """
declare void @llvm.aarch64.hint(i32)
define internal void @pause() alwaysinline {
  call void @llvm.aarch64.hint(i32 1)  ; yield
  ret void
}
""",
}

FUTEX_NUMBER = {"x86_64": "202", "aarch64": "98"}

# How a thread sleeps until a word no longer holds a value, and how it is woken.
SLEEP = {
    # calls: libc's syscall. 128 and 129 are FUTEX_WAIT and FUTEX_WAKE within one process.
    "futex": """
define internal void @wait(ptr %pool, ptr %word, i32 %value) nounwind {
  %calls = call ptr @pool.calls(ptr %pool)
  %syscall = load ptr, ptr %calls
  %wide = zext i32 %value to i64
  call i64 (i64, ...) %syscall(i64 FUTEX, ptr %word, i64 128, i64 %wide, ptr null, ptr null, i64 0)
  ret void
}
define internal void @wake(ptr %pool, ptr %word, i64 %threads) nounwind {
  %calls = call ptr @pool.calls(ptr %pool)
  %syscall = load ptr, ptr %calls
  call i64 (i64, ...) %syscall(i64 FUTEX, ptr %word, i64 129, i64 %threads, ptr null, ptr null,
                               i64 0)
  ret void
}
""",
    # calls: pthread's mutex_lock, mutex_unlock, cond_wait, cond_broadcast, a mutex, a condition.
    # The word changes before `wake` takes the mutex, under which it is looked at.
    "pthread": """
define internal ptr @call_number(ptr %pool, i64 %number) alwaysinline {
  %calls = call ptr @pool.calls(ptr %pool)
  %at = getelementptr ptr, ptr %calls, i64 %number
  %call = load ptr, ptr %at
  ret ptr %call
}
define internal void @wait(ptr %pool, ptr %word, i32 %value) nounwind {
begin:
  %lock = call ptr @call_number(ptr %pool, i64 0)
  %unlock = call ptr @call_number(ptr %pool, i64 1)
  %cond_wait = call ptr @call_number(ptr %pool, i64 2)
  %mutex = call ptr @call_number(ptr %pool, i64 4)
  %condition = call ptr @call_number(ptr %pool, i64 5)
  call i32 %lock(ptr %mutex)
  br label %look
look:
  %now = load atomic i32, ptr %word seq_cst, align 4
  %same = icmp eq i32 %now, %value
  br i1 %same, label %sleep, label %leave
sleep:
  call i32 %cond_wait(ptr %condition, ptr %mutex)
  br label %look
leave:
  call i32 %unlock(ptr %mutex)
  ret void
}
define internal void @wake(ptr %pool, ptr %word, i64 %threads) nounwind {
  %lock = call ptr @call_number(ptr %pool, i64 0)
  %unlock = call ptr @call_number(ptr %pool, i64 1)
  %broadcast = call ptr @call_number(ptr %pool, i64 3)
  %mutex = call ptr @call_number(ptr %pool, i64 4)
  %condition = call ptr @call_number(ptr %pool, i64 5)
  call i32 %lock(ptr %mutex)
  call i32 %broadcast(ptr %condition)
  call i32 %unlock(ptr %mutex)
  ret void
}
""",
}
