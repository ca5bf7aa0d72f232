"""Running other programs: the only module that does. A command that fails is shown once, as a line that can be pasted into a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


# Seconds that a program has when we are interrupted.
_TIME_TO_END = 10


class Completed(NamedTuple):
    """What a finished program left: exit status (negative: the signal that killed it) and, if captured, its output."""

    status: int
    stdout: str
    stderr: str


class ProgramError(UserError):
    """A program that could not be started or that failed: the command, its status and the last it said."""


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    capture: bool = False,
    stdin: str | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Completed:
    """Run `argv` (no shell) to its end. With `capture` its output is returned, else it goes where ours goes.

    Raises ProgramError if it cannot be started, or ends with another status than 0 and `check` is set. If we are interrupted, so is the
    program, and it has the time to clean up.
    """
    import shlex  # both are slow to import, and what starts a pod spawns nothing
    import subprocess

    command = shlex.join(argv)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.PIPE if capture else None,
            text=True,
            errors="replace",
            cwd=cwd,
            env=env,
        )
    except OSError as error:
        raise ProgramError(f"cannot run {argv[0]}: {error.strerror}", hint=f"the command was: {command}") from None
    try:
        stdout, stderr = process.communicate(stdin)
    except BaseException:
        # Not subprocess.run: that kills at once, and `rkt fetch` would leave what it has unpacked so far.
        process.terminate()
        try:
            process.wait(_TIME_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    if check and process.returncode != 0:
        said = (stderr or stdout or "").strip()
        raise ProgramError(
            f"{argv[0]} failed with status {process.returncode}" + (f": {said[-2000:]}" if said else ""), hint=f"the command was: {command}"
        )
    return Completed(status=process.returncode, stdout=stdout or "", stderr=stderr or "")


def run_entrypoint(argv: Sequence[str], *, directory: str, env: Mapping[str, str], discard_output: bool = False) -> int:
    """Run a stage1's program to its end in `directory`, with nothing to read; its status (negative: the signal that killed it).

    By fork and exec, without the module subprocess, which costs more to import than the program takes. What cannot be executed has the
    status 127, after a line on standard error.
    """
    import os

    child = os.fork()
    if child == 0:
        try:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            if discard_output:
                os.dup2(null, 1)
            os.chdir(directory)
            os.execve(argv[0], list(argv), dict(env))
        except OSError as error:
            os.write(2, f"cannot run {argv[0]}: {error.strerror}\n".encode(errors="replace"))
        finally:
            os._exit(127)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
