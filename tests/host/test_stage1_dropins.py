"""Drop-ins as this systemd reads them, against what `dropin.check` takes them for."""

from __future__ import annotations

import random
from pathlib import Path

from appc.errors import UserError
from hosts.host import Host
from stage1_skim.dropin import check

PIECES = (
    *("User=nobody", "Environment=A=x", "Environment=A=x\\", "Environment=A=x\\\\", "Environment=A=x\\ ", "ExecReload=/bin/echo \\"),
    *("# comment", "# comment \\", " ; comment", "[Service]", "[Unit]", "[Unit] \\", "", " ", "\\", "x\\\\\\", "\\\\", "\t"),
    *("\u00a0[Unit]", "\ufeff[Unit]", "#\u2028[Unit]", "\u2028", "\x0b", "\x1c[Unit]", "\r", "\x00", "\ufeffUser=nobody", "User =nobody"),
)
SEED, COUNT = 20, 600


def test_no_setting_of_the_manifests_is_hidden_from_us(bare_host: Host, tmp_path: Path) -> None:
    chosen = random.Random(SEED)
    texts = {f"dropin-{number}.service": "" for number in range(COUNT)}
    for name in texts:
        lines = ["[Service]", *(chosen.choice(PIECES) for _ in range(chosen.randint(1, 5))), *chosen.choice([[], ["User=nobody"]])]
        texts[name] = chosen.choice(["\n", "\n", "\n", "\n", "\r\n", "\u2028"]).join(lines) + "\n"
        (tmp_path / name).write_bytes(b"[Service]\nType=oneshot\nExecStart=/bin/true\n" + texts[name].encode())
    bare_host.push(tmp_path, "/run/systemd/system")
    try:
        shown = bare_host.check(["systemctl", "show", "-p", "Id", "-p", "User", *texts], timeout=120)
    finally:
        bare_host.run("rm /run/systemd/system/dropin-*; systemctl daemon-reload")
    set_there = {}
    for unit in shown.split("\n\n"):
        fields = dict(line.split("=", 1) for line in unit.splitlines())
        set_there[fields["Id"]] = fields.get("User", "") != ""
    accepted = 0
    for name, text in texts.items():
        try:
            check(text, name)
        except UserError:
            continue
        accepted += 1
        assert not set_there[name], repr(text)
    assert accepted > COUNT / 20
    assert sum(set_there.values()) > COUNT / 20
