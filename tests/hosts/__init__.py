"""Throw-away hosts with a real systemd, for tests, benchmarks and the demo: containers of systemd-nspawn and virtual machines of QEMU.

`image` builds and caches what they boot, `nspawn` and `vm` boot it, `host` is what both can do, `guardian` sees to it that nothing
outlives whoever started them, `sweep` clears away what a killed guardian left. `python -m hosts` does all of it from a command line.
"""
