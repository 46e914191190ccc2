"""Kernels that the tests of the runtime launch, as LLVM IR."""

from __future__ import annotations

from functools import cache

from taimatsu.compiler.codegen import dispatch
from taimatsu.compiler.service import CompileService
from taimatsu.ir.target import Target

IR = """
; block: x, partial sums, numbers per chunk, result
define i64 @sum_chunk(ptr %args, i64 %chunk, i64 %worker) {
begin:
  %x = load ptr, ptr %args
  %partial.at = getelementptr i64, ptr %args, i64 1
  %partial = load ptr, ptr %partial.at
  %size.at = getelementptr i64, ptr %args, i64 2
  %size = load i64, ptr %size.at
  %first = mul i64 %chunk, %size
  %end = add i64 %first, %size
  br label %loop
loop:
  %i = phi i64 [ %first, %begin ], [ %next, %loop ]
  %sum = phi float [ 0.0, %begin ], [ %more, %loop ]
  %at = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %at
  %more = fadd float %sum, %v
  %next = add i64 %i, 1
  %again = icmp ult i64 %next, %end
  br i1 %again, label %loop, label %done
done:
  %out = getelementptr float, ptr %partial, i64 %chunk
  store float %more, ptr %out
  ret i64 0
}

; block: result, partial sums, how many
define i64 @combine(ptr %args, i64 %chunk, i64 %worker) {
begin:
  %result = load ptr, ptr %args
  %partial.at = getelementptr i64, ptr %args, i64 1
  %partial = load ptr, ptr %partial.at
  %count.at = getelementptr i64, ptr %args, i64 2
  %count = load i64, ptr %count.at
  br label %loop
loop:
  %i = phi i64 [ 0, %begin ], [ %next, %loop ]
  %sum = phi float [ 0.0, %begin ], [ %more, %loop ]
  %at = getelementptr float, ptr %partial, i64 %i
  %v = load float, ptr %at
  %more = fadd float %sum, %v
  %next = add i64 %i, 1
  %again = icmp ult i64 %next, %count
  br i1 %again, label %loop, label %done
done:
  store float %more, ptr %result
  ret i64 0
}

; block: an array with one number a chunk, which must be `expected`; becomes one more
; words: the array, expected, chunks. Reads its right neighbour, which an earlier phase wrote.
define i64 @step(ptr %args, i64 %chunk, i64 %worker) {
  %array = load ptr, ptr %args
  %expected.at = getelementptr i64, ptr %args, i64 1
  %expected = load i64, ptr %expected.at
  %at = getelementptr i64, ptr %array, i64 %chunk
  %old = atomicrmw add ptr %at, i64 1 monotonic
  %right = icmp eq i64 %old, %expected
  %code = select i1 %right, i64 0, i64 7
  ret i64 %code
}

; block: what each worker has counted (not atomically), 8 words apart
define i64 @count(ptr %args, i64 %chunk, i64 %worker) {
  %slot = mul i64 %worker, 8
  %at = getelementptr i64, ptr %args, i64 %slot
  %old = load volatile i64, ptr %at
  %new = add i64 %old, 1
  store volatile i64 %new, ptr %at
  ret i64 0
}

; block: the chunk from which on to fail
define i64 @fail_from(ptr %args, i64 %chunk, i64 %worker) {
  %from = load i64, ptr %args
  %late = icmp uge i64 %chunk, %from
  %code = add i64 %chunk, 1000
  %result = select i1 %late, i64 %code, i64 0
  ret i64 %result
}

; block: how long to take, in rounds; then counts one in the second word
define i64 @dawdle(ptr %args, i64 %chunk, i64 %worker) {
begin:
  %rounds = load i64, ptr %args
  br label %loop
loop:
  %i = phi i64 [ 0, %begin ], [ %next, %loop ]
  call void asm sideeffect "", ""()
  %next = add i64 %i, 1
  %again = icmp ult i64 %next, %rounds
  br i1 %again, label %loop, label %done
done:
  %at = getelementptr i64, ptr %args, i64 1
  %old = atomicrmw add ptr %at, i64 1 monotonic
  ret i64 0
}
"""


@cache
def objects() -> dict[str, bytes]:
    """The kernels, and the dispatch code for both ways to sleep."""
    host = Target.host()
    architecture = "x86_64" if host.is_x86 else "aarch64"
    service = CompileService()
    texts = {
        "kernels": IR,
        "futex": dispatch.module("futex", architecture),
        "pthread": dispatch.module("pthread", architecture),
    }
    jobs = {name: service.submit(ir, host.triple) for name, ir in texts.items()}
    done = {name: job.result(60) for name, job in jobs.items()}
    service.close()
    return done
