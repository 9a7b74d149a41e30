"""Children are real small programs; what is asserted is what a caller relies on."""

import asyncio
import os
import signal
import stat
import sys
import textwrap
from pathlib import Path

import pytest

from labkit import host
from labkit.errors import ProcessError
from labkit.process import Child, Command, Ledger, keep_ledger


def python(code: str, **env: str) -> Command:
    return Command("sample", (sys.executable, "-I", "-S", "-c", textwrap.dedent(code)), env)


async def until(condition, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.01)


async def test_ready_once_the_probe_says_so(tmp_path: Path) -> None:
    flag = tmp_path / "up"
    child = await Child.spawn(python(f"open({str(flag)!r}, 'w'); import time; time.sleep(60)"))

    async def is_up() -> bool:
        return flag.exists()

    await child.wait_ready(is_up, timeout=10)
    assert host.is_same_process(child.pid, child.start_time)
    assert await child.stop(grace=5) == -signal.SIGTERM
    assert not host.is_same_process(child.pid, child.start_time)


async def test_an_early_exit_gives_the_code_and_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "sample.log"
    log.write_text("of an earlier run\n")
    child = await Child.spawn(python("import sys; print('no space left'); sys.exit(2)"), log=log)
    with pytest.raises(ProcessError) as caught:
        await child.wait_ready(never, timeout=30)
    assert "exited with 2" in str(caught.value)
    assert "no space left" in str(caught.value)
    assert "earlier run" not in str(caught.value)


async def test_not_ready_in_time_says_what_it_printed(tmp_path: Path) -> None:
    code = "import time; print('still loading', flush=True); time.sleep(60)"
    child = await Child.spawn(python(code), log=tmp_path / "log")
    await until(lambda: (tmp_path / "log").stat().st_size)
    with pytest.raises(ProcessError, match=r"(?s)not ready within.*still loading"):
        await child.wait_ready(never, timeout=0.1)
    await child.stop(grace=0)


async def never() -> bool:
    return False


async def test_a_probe_that_hangs_hides_neither_the_exit_nor_the_time_limit() -> None:
    async def hang() -> bool:
        await asyncio.Event().wait()
        return True

    child = await Child.spawn(python("raise SystemExit(3)"))
    with pytest.raises(ProcessError, match="exited with 3"):
        await child.wait_ready(hang, timeout=30)
    child = await Child.spawn(python("import time; time.sleep(60)"))
    with pytest.raises(ProcessError, match="not ready within"):
        await child.wait_ready(hang, timeout=0.1)
    await child.stop(grace=0)


async def test_stop_kills_what_ignores_it_and_is_safe_to_repeat(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = await Child.spawn(
        python("""
            import signal, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("deaf", flush=True)
            time.sleep(60)
        """),
        log=log,
    )
    await until(lambda: b"deaf" in log.read_bytes())
    assert await child.stop(grace=0.1) == -signal.SIGKILL
    assert await child.stop(grace=0.1) == -signal.SIGKILL


async def test_what_is_left_of_the_group_ends_with_its_leader(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = await Child.spawn(
        python(f"""
            import subprocess, sys
            below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            open({str(pid_file)!r}, "w").write(str(below.pid))
        """)
    )
    assert await child.wait() == 0
    below = int(pid_file.read_text())
    await until(lambda: host.process_start_time(below) is None)


async def test_output_comes_by_stream_and_before_wait_returns() -> None:
    seen: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    def collect(stream: str, chunk: bytes) -> None:
        seen[stream] += chunk

    code = "import sys; print('x' * 300_000); print('oops', file=sys.stderr)"
    child = await Child.spawn(python(code), on_output=collect)
    assert await child.wait() == 0
    assert len(seen["stdout"]) == 300_001
    assert seen["stderr"] == b"oops\n"


async def test_a_child_has_its_own_session_its_own_environment_and_a_private_log(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    code = "import os; print(os.getsid(0) == os.getpid(), sorted(os.environ), os.read(0, 1))"
    command = python(code, TOKEN="hunter2")
    assert "hunter2" not in repr(command)
    child = await Child.spawn(command, log=log)
    await child.wait()
    assert log.read_text().startswith("True ['")
    assert "TOKEN" in log.read_text()
    assert "HOME" not in log.read_text()
    assert log.read_text().endswith("b''\n")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


async def test_a_program_that_is_not_there_is_told_by_its_path() -> None:
    with pytest.raises(ProcessError, match="/nowhere/etcd: No such file"):
        await Child.spawn(Command("etcd", ("/nowhere/etcd",), {}), on_output=lambda *_: None)


async def test_the_ledger_tells_own_processes_from_others(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "pids")
    keep_ledger(ledger)
    try:
        child = await Child.spawn(python("import time; time.sleep(60)"))
        ledger.add(os.getpid(), 1.0, "a pid used again")
        (tmp_path / "pids").open("a").write("torn")
        assert ledger.living() == [(child.pid, child.start_time)]
        await child.stop(grace=0)
        assert ledger.living() == []
    finally:
        keep_ledger(None)


async def test_descendants_are_found_across_sessions(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = await Child.spawn(
        python(f"""
            import subprocess, sys, time
            below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                                     start_new_session=True)
            open({str(pid_file)!r}, "w").write(str(below.pid))
            time.sleep(60)
        """)
    )
    await until(lambda: pid_file.exists() and pid_file.read_text())
    below = int(pid_file.read_text())
    assert host.descendants(child.pid) == [below]
    assert host.pss_bytes(child.pid) > 100_000
    os.kill(below, signal.SIGKILL)
    await child.stop(grace=0)


@pytest.mark.skipif(not host.LINUX, reason="only Linux tells children of a parent's end")
async def test_a_child_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"""
        import asyncio, sys
        from pathlib import Path
        from labkit.process import Child, Command

        async def main():
            argv = (sys.executable, "-c", "import time; time.sleep(60)")
            child = await Child.spawn(Command("below", argv, {{}}))
            Path({str(pid_file)!r}).write_text(str(child.pid))
            await asyncio.sleep(60)

        asyncio.run(main())
    """
    starter = await Child.spawn(
        Command("starter", (sys.executable, "-c", textwrap.dedent(code)), {})
    )
    await until(lambda: pid_file.exists() and pid_file.read_text())
    below = int(pid_file.read_text())
    assert host.process_start_time(below) is not None
    os.kill(starter.pid, signal.SIGKILL)
    await until(lambda: host.process_start_time(below) is None)
    await starter.wait()


def test_mount_namespaces_are_probed_without_raising() -> None:
    assert host.can_mount_namespace() in (True, False)
