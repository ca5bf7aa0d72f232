"""Run before the program: takes PyInstaller's variables out of the environment again.

The bootloader restarts itself with LD_LIBRARY_PATH pointing into the bundle and with marks of its own (`_PYI_…`). Left there, they
would reach every program we start and, through `rkt run --inherit-env`, every app of the pod. Libraries loaded later by this
process still come from the bundle: the dynamic loader reads the variable once, at the start.
"""

import gc
import os
import sys

for _name in [_name for _name in os.environ if _name.startswith("_PYI_")]:
    del os.environ[_name]
os.environ.pop("LD_LIBRARY_PATH", None)
if "LD_LIBRARY_PATH_ORIG" in os.environ:
    os.environ["LD_LIBRARY_PATH"] = os.environ.pop("LD_LIBRARY_PATH_ORIG")

# Who closed a standard stream has nothing to say, or to hear; what is opened later must not get its number.
for _name, _number, _mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
    if getattr(sys, _name) is None:
        os.dup2(os.open(os.devnull, os.O_RDWR), _number)
        os.set_inheritable(_number, True)
        setattr(sys, _name, open(_number, _mode, closefd=False))  # noqa: SIM115 - it stays open for the life of the program

# Importing makes many objects and no garbage; with the usual threshold of 700 the collector walks them again and again.
gc.set_threshold(20_000, 10, 10)
