"""The functions of ``dispatch``, as LLVM IR text; how they work together is said there.

``@slot.state(ptr)`` and the like give the address of a structure's field. ``SLOTS`` stands for a
number. In ``state`` the unclaimed chunks are the lower 32 bits, the sequence number the upper ones.
"""

from __future__ import annotations

CODE = """
define i64 @pool_bytes() nounwind {
  %end = getelementptr %pool, ptr null, i64 1
  %bytes = ptrtoint ptr %end to i64
  ret i64 %bytes
}

define void @pool_init(ptr %pool, i64 %spins, ptr %calls) nounwind {
  %spins.at = call ptr @pool.spins(ptr %pool)
  store i64 %spins, ptr %spins.at
  %calls.at = call ptr @pool.calls(ptr %pool)
  %copied = load [6 x ptr], ptr %calls
  store [6 x ptr] %copied, ptr %calls.at
  ret void
}

define internal ptr @slot_number(ptr %pool, i64 %number) alwaysinline {
  %slots = call ptr @pool.slots(ptr %pool)
  %slot = getelementptr %slot, ptr %slots, i64 %number
  ret ptr %slot
}

define void @spin(i64 %count) nounwind {
begin:
  br label %loop
loop:
  %i = phi i64 [ 0, %begin ], [ %next, %loop ]
  call void @pause()
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %end
end:
  ret void
}

; ---- claiming

define internal i1 @is_open(ptr %slot) alwaysinline {
  %state.at = call ptr @slot.state(ptr %slot)
  %state = load atomic i64, ptr %state.at seq_cst, align 8
  %left = and i64 %state, 4294967295
  %open = icmp ne i64 %left, 0
  ret i1 %open
}

; The next chunk of the open phase; -1 if all are claimed.
define internal i64 @claim(ptr %slot) nounwind {
begin:
  %state.at = call ptr @slot.state(ptr %slot)
  %first = load atomic i64, ptr %state.at monotonic, align 8
  br label %look
look:
  %state = phi i64 [ %first, %begin ], [ %seen, %take ]
  %left = and i64 %state, 4294967295
  %none = icmp eq i64 %left, 0
  br i1 %none, label %fail, label %take
take:
  %less = sub i64 %state, 1
  %pair = cmpxchg weak ptr %state.at, i64 %state, i64 %less acquire monotonic, align 8
  %seen = extractvalue { i64, i1 } %pair, 0
  %taken = extractvalue { i64, i1 } %pair, 1
  br i1 %taken, label %got, label %look
got:
  %chunks.at = call ptr @slot.chunks(ptr %slot)
  %chunks = load i64, ptr %chunks.at
  %chunk = sub i64 %chunks, %left
  ret i64 %chunk
fail:
  ret i64 -1
}

; Claims all that is left; how many chunks that was.
define internal i64 @claim_rest(ptr %slot) nounwind {
begin:
  %state.at = call ptr @slot.state(ptr %slot)
  %first = load atomic i64, ptr %state.at monotonic, align 8
  br label %take
take:
  %state = phi i64 [ %first, %begin ], [ %seen, %take ]
  %none = and i64 %state, -4294967296
  %pair = cmpxchg weak ptr %state.at, i64 %state, i64 %none acquire monotonic, align 8
  %seen = extractvalue { i64, i1 } %pair, 0
  %taken = extractvalue { i64, i1 } %pair, 1
  br i1 %taken, label %got, label %take
got:
  %left = and i64 %state, 4294967295
  ret i64 %left
}

; ---- waking

define internal void @bump(ptr %pool, ptr %word, i64 %threads) nounwind {
  %old = atomicrmw add ptr %word, i32 1 seq_cst, align 4
  call void @wake(ptr %pool, ptr %word, i64 %threads)
  ret void
}

; The one that waits for the launch.
define internal void @wake_waiter(ptr %pool, ptr %slot) nounwind {
  %waiting.at = call ptr @slot.waiting(ptr %slot)
  %waiting = load atomic i32, ptr %waiting.at seq_cst, align 4
  %sleeps = icmp ne i32 %waiting, 0
  br i1 %sleeps, label %wake_it, label %end
wake_it:
  %signal = call ptr @slot.signal(ptr %slot)
  call void @bump(ptr %pool, ptr %signal, i64 1)
  br label %end
end:
  ret void
}

define internal void @wake_workers(ptr %pool, i64 %threads) nounwind {
  %sleepers.at = call ptr @pool.sleepers(ptr %pool)
  %sleepers = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %any = icmp ne i32 %sleepers, 0
  br i1 %any, label %wake_some, label %end
wake_some:
  %epoch = call ptr @pool.epoch(ptr %pool)
  call void @bump(ptr %pool, ptr %epoch, i64 %threads)
  br label %end
end:
  ret void
}

; ---- phases

; Opens a phase; its first %kept chunks (0 or 1) are the caller's.
define internal void @open(ptr %pool, ptr %slot, i64 %phase, i64 %kept) nounwind {
  %phases.at = call ptr @slot.phases(ptr %slot)
  %phases = load ptr, ptr %phases.at
  %row = getelementptr [3 x i64], ptr %phases, i64 %phase
  %function = load ptr, ptr %row
  %row.chunks = getelementptr i64, ptr %row, i64 1
  %chunks = load i64, ptr %row.chunks
  %row.offset = getelementptr i64, ptr %row, i64 2
  %offset = load i64, ptr %row.offset
  %block.at = call ptr @slot.block(ptr %slot)
  %block = load ptr, ptr %block.at
  %arguments = getelementptr i8, ptr %block, i64 %offset

  %function.at = call ptr @slot.function(ptr %slot)
  store ptr %function, ptr %function.at
  %arguments.at = call ptr @slot.arguments(ptr %slot)
  store ptr %arguments, ptr %arguments.at
  %chunks.at = call ptr @slot.chunks(ptr %slot)
  store i64 %chunks, ptr %chunks.at
  %phase.at = call ptr @slot.phase(ptr %slot)
  store i64 %phase, ptr %phase.at
  %pending.at = call ptr @slot.pending(ptr %slot)
  store atomic i64 %chunks, ptr %pending.at monotonic, align 8

  %state.at = call ptr @slot.state(ptr %slot)
  %old = load atomic i64, ptr %state.at monotonic, align 8
  %next = add i64 %old, 4294967296
  %sequence = and i64 %next, -4294967296
  %left = sub i64 %chunks, %kept
  %state = or i64 %sequence, %left
  store atomic i64 %state, ptr %state.at seq_cst, align 8
  %shared = icmp ne i64 %left, 0
  br i1 %shared, label %wake_others, label %end
wake_others:
  call void @wake_workers(ptr %pool, i64 %left)
  call void @wake_waiter(ptr %pool, ptr %slot)
  br label %end
end:
  ret void
}

; After the last chunk of a phase: opens the next one, or ends the launch and returns false.
define internal i1 @advance(ptr %pool, ptr %slot) nounwind {
  %code.at = call ptr @slot.code(ptr %slot)
  %code = load i64, ptr %code.at
  %failed = icmp ne i64 %code, 0
  br i1 %failed, label %finish, label %look
look:
  %phase.at = call ptr @slot.phase(ptr %slot)
  %phase = load i64, ptr %phase.at
  %next = add i64 %phase, 1
  %count.at = call ptr @slot.count(ptr %slot)
  %count = load i64, ptr %count.at
  %more = icmp ult i64 %next, %count
  br i1 %more, label %go_on, label %finish
go_on:
  call void @open(ptr %pool, ptr %slot, i64 %next, i64 1)
  ret i1 true
finish:
  %finished.at = call ptr @slot.finished(ptr %slot)
  store atomic i32 1, ptr %finished.at seq_cst, align 4
  call void @wake_waiter(ptr %pool, ptr %slot)
  ret i1 false
}

; Keeps an error, and takes the unclaimed chunks away; how many these were.
define internal i64 @fail(ptr %slot, i64 %code, i64 %chunk) noinline nounwind {
begin:
  %lock = call ptr @slot.error_lock(ptr %slot)
  br label %acquire
acquire:
  %held = atomicrmw xchg ptr %lock, i32 1 acquire, align 4
  %busy = icmp ne i32 %held, 0
  br i1 %busy, label %hold, label %locked
hold:
  call void @pause()
  br label %acquire
locked:
  %code.at = call ptr @slot.code(ptr %slot)
  %chunk.at = call ptr @slot.error_chunk(ptr %slot)
  %other = load i64, ptr %code.at
  %first = icmp eq i64 %other, 0
  %other_chunk = load i64, ptr %chunk.at
  %earlier = icmp ult i64 %chunk, %other_chunk
  %keep = or i1 %first, %earlier
  br i1 %keep, label %note, label %unlock
note:
  store i64 %code, ptr %code.at
  store i64 %chunk, ptr %chunk.at
  br label %unlock
unlock:
  store atomic i32 0, ptr %lock release, align 4
  %rest = call i64 @claim_rest(ptr %slot)
  ret i64 %rest
}

; Carries out a claimed chunk, and then whatever of the launch there is to claim.
define internal void @work(ptr %pool, ptr %slot, i64 %claimed, i64 %worker) nounwind {
begin:
  %function.at = call ptr @slot.function(ptr %slot)
  %arguments.at = call ptr @slot.arguments(ptr %slot)
  %pending.at = call ptr @slot.pending(ptr %slot)
  br label %chunk_loop
chunk_loop:
  %chunk = phi i64 [ %claimed, %begin ], [ %another, %look ], [ 0, %last ]
  %function = load ptr, ptr %function.at
  %arguments = load ptr, ptr %arguments.at
  %code = call i64 %function(ptr %arguments, i64 %chunk, i64 %worker)
  %failed = icmp ne i64 %code, 0
  br i1 %failed, label %failure, label %account
failure:
  %rest = call i64 @fail(ptr %slot, i64 %code, i64 %chunk)
  br label %account
account:
  %skipped = phi i64 [ 0, %chunk_loop ], [ %rest, %failure ]
  %done = add i64 %skipped, 1
  %pending = atomicrmw sub ptr %pending.at, i64 %done acq_rel, align 8
  %was_last = icmp eq i64 %pending, %done
  br i1 %was_last, label %last, label %look
look:
  %another = call i64 @claim(ptr %slot)
  %nothing = icmp slt i64 %another, 0
  br i1 %nothing, label %end, label %chunk_loop
last:
  %opened = call i1 @advance(ptr %pool, ptr %slot)
  br i1 %opened, label %chunk_loop, label %end
end:
  ret void
}

; ---- workers

define internal i1 @any_open(ptr %pool) nounwind {
begin:
  %stopping.at = call ptr @pool.stopping(ptr %pool)
  %stopping = load atomic i32, ptr %stopping.at seq_cst, align 4
  %stops = icmp ne i32 %stopping, 0
  br i1 %stops, label %yes, label %look
look:
  %number = phi i64 [ 0, %begin ], [ %next, %closed ]
  %slot = call ptr @slot_number(ptr %pool, i64 %number)
  %open = call i1 @is_open(ptr %slot)
  br i1 %open, label %yes, label %closed
closed:
  %next = add i64 %number, 1
  %more = icmp ult i64 %next, SLOTS
  br i1 %more, label %look, label %no
yes:
  ret i1 true
no:
  ret i1 false
}

define internal void @work_on_all(ptr %pool, i64 %worker) nounwind {
begin:
  br label %look
look:
  %number = phi i64 [ 0, %begin ], [ %next, %onward ]
  %slot = call ptr @slot_number(ptr %pool, i64 %number)
  %chunk = call i64 @claim(ptr %slot)
  %nothing = icmp slt i64 %chunk, 0
  br i1 %nothing, label %onward, label %found
found:
  call void @work(ptr %pool, ptr %slot, i64 %chunk, i64 %worker)
  br label %onward
onward:
  %next = add i64 %number, 1
  %more = icmp ult i64 %next, SLOTS
  br i1 %more, label %look, label %end
end:
  ret void
}

define void @worker(ptr %pool, i64 %number) nounwind {
begin:
  %stopping.at = call ptr @pool.stopping(ptr %pool)
  %spins.at = call ptr @pool.spins(ptr %pool)
  %sleepers.at = call ptr @pool.sleepers(ptr %pool)
  %epoch.at = call ptr @pool.epoch(ptr %pool)
  %spins = load i64, ptr %spins.at
  br label %busy
busy:
  call void @work_on_all(ptr %pool, i64 %number)
  %stopping = load atomic i32, ptr %stopping.at seq_cst, align 4
  %stops = icmp ne i32 %stopping, 0
  br i1 %stops, label %end, label %spinning
spinning:
  %i = phi i64 [ 0, %busy ], [ %i.next, %spin_more ]
  %open = call i1 @any_open(ptr %pool)
  br i1 %open, label %busy, label %spin_more
spin_more:
  call void @pause()
  %i.next = add i64 %i, 1
  %patient = icmp ult i64 %i.next, %spins
  br i1 %patient, label %spinning, label %announce
announce:
  %epoch = load atomic i32, ptr %epoch.at seq_cst, align 4
  %before = atomicrmw add ptr %sleepers.at, i32 1 seq_cst, align 4
  %opened = call i1 @any_open(ptr %pool)
  br i1 %opened, label %awake, label %sleep
sleep:
  call void @wait(ptr %pool, ptr %epoch.at, i32 %epoch)
  br label %awake
awake:
  %after = atomicrmw sub ptr %sleepers.at, i32 1 seq_cst, align 4
  br label %busy
end:
  ret void
}

define void @stop(ptr %pool) nounwind {
  %stopping.at = call ptr @pool.stopping(ptr %pool)
  store atomic i32 1, ptr %stopping.at seq_cst, align 4
  %epoch = call ptr @pool.epoch(ptr %pool)
  call void @bump(ptr %pool, ptr %epoch, i64 2147483647)
  ret void
}

; ---- launches

define i64 @run_alone(ptr %phases, i64 %count, ptr %block, ptr %report) nounwind {
begin:
  %none = icmp eq i64 %count, 0
  br i1 %none, label %end, label %phase_loop
phase_loop:
  %phase = phi i64 [ 0, %begin ], [ %next_phase, %phase_done ]
  %row = getelementptr [3 x i64], ptr %phases, i64 %phase
  %function = load ptr, ptr %row
  %row.chunks = getelementptr i64, ptr %row, i64 1
  %chunks = load i64, ptr %row.chunks
  %row.offset = getelementptr i64, ptr %row, i64 2
  %offset = load i64, ptr %row.offset
  %arguments = getelementptr i8, ptr %block, i64 %offset
  br label %chunk_loop
chunk_loop:
  %chunk = phi i64 [ 0, %phase_loop ], [ %next_chunk, %fine ]
  %code = call i64 %function(ptr %arguments, i64 %chunk, i64 0)
  %failed = icmp ne i64 %code, 0
  br i1 %failed, label %failure, label %fine
fine:
  %next_chunk = add i64 %chunk, 1
  %more_chunks = icmp ult i64 %next_chunk, %chunks
  br i1 %more_chunks, label %chunk_loop, label %phase_done
phase_done:
  %next_phase = add i64 %phase, 1
  %more_phases = icmp ult i64 %next_phase, %count
  br i1 %more_phases, label %phase_loop, label %end
failure:
  call void @tell(ptr %report, i64 %code, i64 %phase, i64 %chunk)
  ret i64 %code
end:
  store i64 0, ptr %report
  ret i64 0
}

define internal void @tell(ptr %report, i64 %code, i64 %phase, i64 %chunk) nounwind {
  store i64 %code, ptr %report
  %phase.at = getelementptr i64, ptr %report, i64 1
  store i64 %phase, ptr %phase.at
  %chunk.at = getelementptr i64, ptr %report, i64 2
  store i64 %chunk, ptr %chunk.at
  ret void
}

; Takes a free slot; -1 if there is none.
define internal i64 @take_slot(ptr %pool) nounwind {
begin:
  br label %look
look:
  %number = phi i64 [ 0, %begin ], [ %next, %taken ]
  %slot = call ptr @slot_number(ptr %pool, i64 %number)
  %owned.at = call ptr @slot.owned(ptr %slot)
  %pair = cmpxchg ptr %owned.at, i32 0, i32 1 acquire monotonic, align 4
  %got = extractvalue { i32, i1 } %pair, 1
  br i1 %got, label %found, label %taken
taken:
  %next = add i64 %number, 1
  %more = icmp ult i64 %next, SLOTS
  br i1 %more, label %look, label %none
found:
  ret i64 %number
none:
  ret i64 -1
}

; Fills a slot and opens the first phase, whose first %kept chunks are the caller's.
define internal void @launch(ptr %pool, ptr %slot, ptr %phases, i64 %count, ptr %block,
                             i64 %kept) nounwind {
  %phases.at = call ptr @slot.phases(ptr %slot)
  store ptr %phases, ptr %phases.at
  %count.at = call ptr @slot.count(ptr %slot)
  store i64 %count, ptr %count.at
  %block.at = call ptr @slot.block(ptr %slot)
  store ptr %block, ptr %block.at
  %code.at = call ptr @slot.code(ptr %slot)
  store i64 0, ptr %code.at
  %finished.at = call ptr @slot.finished(ptr %slot)
  store atomic i32 0, ptr %finished.at monotonic, align 4
  call void @open(ptr %pool, ptr %slot, i64 0, i64 %kept)
  ret void
}

define i64 @run(ptr %pool, ptr %phases, i64 %count, ptr %block, ptr %report) nounwind {
  %number = call i64 @take_slot(ptr %pool)
  %none = icmp slt i64 %number, 0
  br i1 %none, label %alone, label %together
alone:
  %code.alone = call i64 @run_alone(ptr %phases, i64 %count, ptr %block, ptr %report)
  ret i64 %code.alone
together:
  %slot = call ptr @slot_number(ptr %pool, i64 %number)
  call void @launch(ptr %pool, ptr %slot, ptr %phases, i64 %count, ptr %block, i64 1)
  call void @work(ptr %pool, ptr %slot, i64 0, i64 0)
  %code = call i64 @join_slot(ptr %pool, i64 %number, ptr %report)
  ret i64 %code
}

define void @start(ptr %pool, ptr %phases, i64 %count, ptr %block, ptr %words) nounwind {
  %number = call i64 @take_slot(ptr %pool)
  %none = icmp slt i64 %number, 0
  br i1 %none, label %end, label %begin
begin:
  %number.at = getelementptr i64, ptr %words, i64 3
  store i64 %number, ptr %number.at
  %slot = call ptr @slot_number(ptr %pool, i64 %number)
  call void @launch(ptr %pool, ptr %slot, ptr %phases, i64 %count, ptr %block, i64 0)
  br label %end
end:
  ret void
}

define i64 @is_done(ptr %pool, i64 %number) nounwind {
  %slot = call ptr @slot_number(ptr %pool, i64 %number)
  %finished.at = call ptr @slot.finished(ptr %slot)
  %finished = load atomic i32, ptr %finished.at acquire, align 4
  %done = zext i32 %finished to i64
  ret i64 %done
}

define i64 @is_idle(ptr %pool) nounwind {
begin:
  br label %look
look:
  %number = phi i64 [ 0, %begin ], [ %next, %quiet ]
  %slot = call ptr @slot_number(ptr %pool, i64 %number)
  %owned.at = call ptr @slot.owned(ptr %slot)
  %owned = load atomic i32, ptr %owned.at seq_cst, align 4
  %taken = icmp ne i32 %owned, 0
  %done = call i64 @is_done(ptr %pool, i64 %number)
  %runs = icmp eq i64 %done, 0
  %busy = and i1 %taken, %runs
  br i1 %busy, label %no, label %quiet
quiet:
  %next = add i64 %number, 1
  %more = icmp ult i64 %next, SLOTS
  br i1 %more, label %look, label %yes
yes:
  ret i64 1
no:
  ret i64 0
}

; Whether the one that waits has something to do: a chunk, or to leave.
define internal i1 @is_due(ptr %slot) alwaysinline {
  %finished.at = call ptr @slot.finished(ptr %slot)
  %finished = load atomic i32, ptr %finished.at seq_cst, align 4
  %ended = icmp ne i32 %finished, 0
  %open = call i1 @is_open(ptr %slot)
  %due = or i1 %ended, %open
  ret i1 %due
}

define void @join(ptr %pool, ptr %words) nounwind {
begin:
  %number.at = getelementptr i64, ptr %words, i64 3
  %number = load i64, ptr %number.at
  %none = icmp slt i64 %number, 0
  br i1 %none, label %end, label %wait_for_it
wait_for_it:
  %code = call i64 @join_slot(ptr %pool, i64 %number, ptr %words)
  store i64 -1, ptr %number.at
  br label %end
end:
  ret void
}

define internal i64 @join_slot(ptr %pool, i64 %number, ptr %report) nounwind {
begin:
  %slot = call ptr @slot_number(ptr %pool, i64 %number)
  %finished.at = call ptr @slot.finished(ptr %slot)
  %signal.at = call ptr @slot.signal(ptr %slot)
  %waiting.at = call ptr @slot.waiting(ptr %slot)
  %spins.at = call ptr @pool.spins(ptr %pool)
  %spins = load i64, ptr %spins.at
  br label %look
look:
  %chunk = call i64 @claim(ptr %slot)
  %nothing = icmp slt i64 %chunk, 0
  br i1 %nothing, label %ended, label %help
help:
  call void @work(ptr %pool, ptr %slot, i64 %chunk, i64 0)
  br label %look
ended:
  %finished = load atomic i32, ptr %finished.at acquire, align 4
  %done = icmp ne i32 %finished, 0
  br i1 %done, label %leave, label %spinning
spinning:
  %i = phi i64 [ 0, %ended ], [ %i.next, %spin_more ]
  %due = call i1 @is_due(ptr %slot)
  br i1 %due, label %look, label %spin_more
spin_more:
  call void @pause()
  %i.next = add i64 %i, 1
  %patient = icmp ult i64 %i.next, %spins
  br i1 %patient, label %spinning, label %announce
announce:
  %signal = load atomic i32, ptr %signal.at seq_cst, align 4
  %before = atomicrmw xchg ptr %waiting.at, i32 1 seq_cst, align 4
  %due_now = call i1 @is_due(ptr %slot)
  br i1 %due_now, label %awake, label %sleep
sleep:
  call void @wait(ptr %pool, ptr %signal.at, i32 %signal)
  br label %awake
awake:
  store atomic i32 0, ptr %waiting.at seq_cst, align 4
  br label %look
leave:
  %code.at = call ptr @slot.code(ptr %slot)
  %code = load i64, ptr %code.at
  store i64 %code, ptr %report
  %failed = icmp ne i64 %code, 0
  br i1 %failed, label %failure, label %release
failure:
  %phase.at = call ptr @slot.phase(ptr %slot)
  %phase = load i64, ptr %phase.at
  %chunk.at = call ptr @slot.error_chunk(ptr %slot)
  %error_chunk = load i64, ptr %chunk.at
  call void @tell(ptr %report, i64 %code, i64 %phase, i64 %error_chunk)
  br label %release
release:
  %owned.at = call ptr @slot.owned(ptr %slot)
  store atomic i32 0, ptr %owned.at release, align 4
  ret i64 %code
}
"""
