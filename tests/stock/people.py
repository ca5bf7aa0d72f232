"""Who works on the hosts beside root: a member of the group docker who may also use sudo, and somebody else."""

from __future__ import annotations

from hosts.host import Host

MEMBER = "member"
OTHER = "other"
_MAKE = f"""\
id {MEMBER} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash --groups docker {MEMBER}
id {OTHER} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash {OTHER}
printf '%s ALL=(ALL:ALL) NOPASSWD: ALL\\n' {MEMBER} {OTHER} > /etc/sudoers.d/people
"""

# A plugin that leaves what it was given in /tmp/seen, where no byte is lost, and ends as SEEN_STATUS says.
_SPY = """\
#!/bin/sh
if [ "$1" = docker-cli-plugin-metadata ]; then
    echo '{"SchemaVersion": "0.1.0", "Vendor": "tests", "Version": "1", "ShortDescription": "%s"}'
    exit
fi
cat /proc/$$/cmdline > /tmp/seen/argv
cat /proc/$$/environ > /tmp/seen/environment
readlink /proc/$$/cwd > /tmp/seen/cwd
echo %s
exit ${SEEN_STATUS:-0}
"""


def add_people(host: Host) -> None:
    host.check(_MAKE)


def add_plugin(host: Host, path: str, says: str = "seen") -> None:
    """A plugin of the client at `path`, which says `says` and leaves what it was given."""
    host.check("mkdir -p /tmp/seen && chmod 1777 /tmp/seen")
    host.write(path, _SPY % (says, says), mode=0o755)
