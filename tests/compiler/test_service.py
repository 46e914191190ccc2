"""Compile workers: answers, errors, deaths, hangs, forks and the end of the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from taimatsu.compiler.codegen import emit
from taimatsu.compiler.service import CompileError, CompileService
from taimatsu.ir.target import Target

TRIPLE = Target.host().triple
ROOT = Path(__file__).resolve().parents[2]
posix_only = pytest.mark.skipif(os.name != "posix", reason="signals and fork")


def scale(factor: float, name: str = "f") -> str:
    return f"define float @{name}(float %x) {{\n%y = fmul float %x, {factor}\nret float %y\n}}\n"


def slow_module() -> str:
    """One long basic block, at which LLVM sits for seconds."""
    lines = ["define void @f(ptr %p) {"]
    for i in range(40_000):
        lines.append(f"%a{i} = getelementptr float, ptr %p, i64 {i * 7919 % 100_000}")
        lines.append(f"%x{i} = load float, ptr %a{i}")
        lines.append(f"%y{i} = fadd float %x{i}, %x{max(0, i - 900)}")
        lines.append(f"store float %y{i}, ptr %a{i}")
    return "\n".join([*lines, "ret void", "}"])


@pytest.fixture
def service():
    made = CompileService()
    yield made
    made.close()
    assert not made.processes()


def wait_until(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.005)


def test_frames_survive_the_pipe():
    readable, writable = os.pipe()
    fields = [b"", b"abc", bytes(range(256)) * 100]
    emit.write_frame(writable, fields)
    os.close(writable)
    assert emit.read_frame(readable) == fields
    with pytest.raises(emit.FrameError):
        emit.read_frame(readable)
    os.close(readable)


def test_the_main_process_needs_no_llvmlite():
    code = (
        "import sys; import taimatsu.compiler.service, taimatsu.compiler.cache;"
        "from taimatsu.compiler.toolchain import fingerprint; fingerprint();"
        "assert 'llvmlite' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_worker_imports_neither_the_package_nor_numpy():
    code = (
        f"import sys, runpy; g = runpy.run_path({str(emit.__file__)!r}); g['Emitter']();"
        "assert 'numpy' not in sys.modules; assert 'taimatsu' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_object_and_texts(service):
    code = service.submit(scale(2.0), TRIPLE).result(60)
    assert code[:4] == b"\x7fELF" or sys.platform != "linux"
    assert code == service.submit(scale(2.0), TRIPLE).result(60)
    assert b"f:" in service.submit(scale(2.0), TRIPLE, output="assembly").result(60)
    other = service.submit(scale(2.0), "aarch64-unknown-linux-gnu", output="assembly")
    assert b"fadd\ts0" in other.result(60)
    ptx = service.submit("define void @k() {\nret void\n}", "nvptx64", "sm_70", output="assembly")
    assert b".version" in ptx.result(60)


@pytest.mark.parametrize(
    ("ir", "triple", "message"),
    [
        ("define float @f( {", TRIPLE, "expected type"),
        ("define i32 @f() {\nret float 0.0\n}", TRIPLE, "value doesn't match"),
        ("define void @f() {\na:\nbr label %b\nb:\nbr label %a\n}", "klingon", "klingon"),
    ],
)
def test_what_llvm_refuses(service, ir, triple, message):
    job = service.submit(ir, triple)
    with pytest.raises(CompileError, match=message):
        job.result(60)
    workers = service.processes()
    assert service.submit(scale(3.0), TRIPLE).result(60)
    assert service.processes() == workers, "a refusal costs no worker"


def test_identical_requests_share_a_job(service):
    jobs = [service.submit(scale(4.0), TRIPLE) for _ in range(5)]
    assert len(set(map(id, jobs))) == 1
    assert jobs[0].result(60)
    assert service.submit(scale(4.0), TRIPLE) is not jobs[0]


def test_many_threads(service):
    results: dict[int, bytes] = {}

    def ask(i: int) -> None:
        results[i] = service.submit(scale(1.5 + i % 4), TRIPLE).result(60)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(service.processes()) <= 2
    assert len(set(results.values())) == 4
    assert all(results[i] == results[i % 4] for i in results)


def test_callbacks_before_and_after(service):
    told = threading.Event()
    job = service.submit(scale(5.0), TRIPLE)
    job.add_done_callback(lambda done: 1 / 0)  # printed, and no harm done
    job.add_done_callback(lambda done: told.set() if done.result(0) else None)
    assert told.wait(60)
    again = []
    job.add_done_callback(again.append)
    assert again == [job]


@posix_only
def test_the_background_has_its_own_nice_worker(service):
    job = service.submit(scale(6.0), TRIPLE, background=True)
    assert job.result(60)
    (pid,) = service.processes()
    assert os.getpriority(os.PRIO_PROCESS, pid) >= 10
    assert os.getsid(pid) != os.getsid(0)


def test_a_background_job_somebody_waits_for_comes_forward(service):
    blocker = service.submit(slow_module(), TRIPLE, background=True)
    queued = service.submit(scale(7.0), TRIPLE, background=True)
    wait_until(lambda: blocker not in service._background.waiting)
    assert service.submit(scale(7.0), TRIPLE) is queued
    assert queued.result(60)
    assert not blocker.done()


@posix_only
def test_a_killed_worker_fails_its_job_only(service):
    assert service.submit(scale(8.0), TRIPLE).result(60)
    (pid,) = service.processes()
    job = service.submit(slow_module(), TRIPLE)
    time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(CompileError, match="died of signal 9"):
        job.result(60)
    assert service.submit(scale(8.5), TRIPLE).result(60)
    assert pid not in service.processes()


@posix_only
def test_a_worker_killed_while_idle_is_no_ones_fault(service):
    assert service.submit(scale(8.0), TRIPLE).result(60)
    (pid,) = service.processes()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in state_of(pid))
    assert service.submit(scale(9.0), TRIPLE).result(60)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]


def test_an_abort_of_llvm_comes_with_its_log(service):
    # LLVM cannot select an intrinsic of another processor, and gives up the process.
    name = "llvm.aarch64.hint" if "x86" in TRIPLE else "llvm.x86.sse2.pause"
    argument = "i32" if "x86" in TRIPLE else ""
    value = "i32 1" if "x86" in TRIPLE else ""
    ir = f"declare void @{name}({argument})\n"
    ir += f"define void @f() {{\ncall void @{name}({value})\nret void\n}}"
    job = service.submit(ir, TRIPLE)
    with pytest.raises(CompileError, match=r"(?s)worker (died|left).*LLVM ERROR") as caught:
        job.result(60)
    assert "LLVM ERROR" in caught.value.log
    assert job.log == caught.value.log
    assert service.submit(scale(10.0), TRIPLE).result(60)


def test_a_worker_that_hangs_is_killed():
    service = CompileService(timeout=0.4)
    try:
        begin = time.monotonic()
        with pytest.raises(CompileError, match=r"not done after 0\.4 seconds"):
            service.submit(slow_module(), TRIPLE).result(60)
        assert time.monotonic() - begin < 10
    finally:
        service.close()


def test_idle_workers_leave():
    service = CompileService(idle=0.05)
    try:
        assert service.submit(scale(11.0), TRIPLE).result(60)
        wait_until(lambda: not service.processes())
        assert service.submit(scale(12.0), TRIPLE).result(60)
    finally:
        service.close()


def test_close_fails_what_is_under_way_and_may_be_followed_by_more(service):
    job = service.submit(slow_module(), TRIPLE)
    queued = [service.submit(scale(20.0 + i), TRIPLE) for i in range(4)]
    time.sleep(0.1)
    service.close()
    with pytest.raises(CompileError, match="was closed"):
        job.result(1)
    assert all(each.done() for each in queued)
    assert service.submit(scale(13.0), TRIPLE).result(60)


def test_waiting_may_time_out(service):
    job = service.submit(slow_module(), TRIPLE)
    with pytest.raises(TimeoutError):
        job.result(0.01)


def test_warm_starts_a_worker_ahead(service):
    service.warm()
    wait_until(lambda: len(service.processes()) == 1)
    service.warm()
    assert service.submit(scale(2.0), TRIPLE).result(60)
    assert len(service.processes()) == 1


def test_a_worker_that_cannot_start(service, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(CompileError, match="cannot start a compile worker"):
        service.submit(scale(14.0), TRIPLE).result(60)
    monkeypatch.undo()
    assert service.submit(scale(14.0), TRIPLE).result(60)


@posix_only
def test_a_forked_child_has_its_own_workers(service):
    assert service.submit(scale(15.0), TRIPLE).result(60)
    parents = service.processes()
    pending = service.submit(slow_module(), TRIPLE)
    behind = service.submit(scale(16.0), TRIPLE)
    child = os.fork()
    if child == 0:
        try:
            ok = not service.processes()
            ok = (
                ok
                and bool(behind.result(60))
                and bool(service.submit(scale(17.0), TRIPLE).result(60))
            )
            ok = ok and not set(parents) & set(service.processes())
            service.close()
            os._exit(0 if ok else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert behind.result(60)
    assert set(parents) <= set(service.processes())
    assert not pending.done() or pending.result(0)


SCRIPT = """
import os, sys, time
sys.path.insert(0, {root!r})
from taimatsu.compiler.service import service
service.submit({ir!r}, {triple!r}).result(60)
service.submit({slow!r}, {triple!r})
print(*service.processes(), flush=True)
{end}
"""


@posix_only
@pytest.mark.parametrize(
    "end", ["pass", "os._exit(0)", "raise SystemExit(0)", "os.kill(os.getpid(), 9)"]
)
def test_no_worker_outlives_the_program(end, tmp_path):
    script = tmp_path / "program.py"
    slow = scale(2.0, "g")
    script.write_text(
        SCRIPT.format(root=str(ROOT), ir=scale(2.0), slow=slow, triple=TRIPLE, end=end)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert not done.stderr
    pids = [int(word) for word in done.stdout.split()]
    assert pids
    wait_until(lambda: not any(is_worker(pid) for pid in pids))


def is_worker(pid: int) -> bool:
    try:
        return b"emit.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@posix_only
def test_ctrl_c_reaches_the_program_alone(tmp_path):
    script = tmp_path / "program.py"
    end = (
        "import signal\ntry:\n    os.killpg(0, signal.SIGINT)\n    time.sleep(1)\n"
        "except KeyboardInterrupt:\n    pass\n"
        f"assert service.submit({scale(3.0)!r}, {TRIPLE!r}).result(60)\nprint('went on')"
    )
    script.write_text(
        SCRIPT.format(root=str(ROOT), ir=scale(2.0), slow=scale(2.5), triple=TRIPLE, end=end)
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    assert done.stdout.endswith("went on\n"), done.stderr
