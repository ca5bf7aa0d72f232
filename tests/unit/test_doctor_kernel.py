"""`skim doctor`: kernels with modules, without, upgraded, hardened; old and new."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor_trees import by_id, config, probe
from engine.doctor import kernel
from engine.doctor.finding import Check
from engine.doctor.kernel import Kernel, gather
from engine.doctor.kernel_needs import OPTIONAL, REQUIRED, Need

RELEASE = "6.1.0-18-amd64"
HERE = f"/lib/modules/{RELEASE}"
NEEDS = [need for feature in REQUIRED + OPTIONAL for need in feature.needs]
ALL = tuple(need.option for need in NEEDS)
AS_DISTRIBUTED = tuple(f"{need.option}={'m' if need.module else 'y'}" for need in NEEDS)
DEP = "".join(f"kernel/x/{need.module.replace('_', '-')}.ko.xz: kernel/y/other.ko.xz\n" for need in NEEDS if need.module)


def look(facts: Kernel, *, cgroup_v1: bool = False, iptables: str = "nft") -> dict[str, Check]:
    return by_id(kernel.checks(facts, cgroup_v1=cgroup_v1, iptables=iptables))


def test_a_kernel_without_modules_has_all_built_in(tmp_path: Path) -> None:
    found = look(gather(probe(tmp_path, {"/proc/config.gz": config(*ALL)}), RELEASE))
    assert {check.status for check in found.values()} == {"ok"}
    assert "takes no modules" in found["kernel.modules"].what


def test_a_distribution_s_kernel_has_modules_to_load(tmp_path: Path) -> None:
    files = {f"/boot/config-{RELEASE}": "\n".join(f"CONFIG_{option}" for option in AS_DISTRIBUTED), f"{HERE}/modules.dep": DEP}
    files |= {
        "/proc/modules": "overlay 163840 0 - Live 0x0\nbridge 311296 0 - Live 0x0\n",
        f"{HERE}/modules.builtin": "kernel/net/veth.ko\n",
    }
    facts = gather(probe(tmp_path, files), RELEASE)
    found = look(facts)
    assert {check.status for check in found.values()} == {"ok"}
    assert facts.source == f"/boot/config-{RELEASE}"
    assert found["kernel.overlay"].what.endswith("overlay loaded")
    assert found["kernel.bridge"].what.endswith("bridge loaded; br_netfilter can be loaded; the rest built in")


def test_a_kernel_package_upgraded_without_reboot_is_explained(tmp_path: Path) -> None:
    files = {"/proc/config.gz": config(*AS_DISTRIBUTED), "/proc/modules": "overlay 1 0 - Live 0x0\n", "/lib/modules/6.1.0-19-amd64/x": ""}
    found = look(gather(probe(tmp_path, files), RELEASE))
    assert found["kernel.modules"].status == "warning"
    assert "6.1.0-19-amd64" in found["kernel.modules"].what and "upgraded without a reboot" in found["kernel.modules"].what
    assert found["kernel.overlay"].status == "ok"
    assert found["kernel.bridge"].status == "error" and "neither loaded nor loadable: veth" in found["kernel.bridge"].what
    assert found["kernel.bridge"].do.startswith("reboot")


def test_no_modules_at_all_is_a_container_or_a_removed_package(tmp_path: Path) -> None:
    found = look(gather(probe(tmp_path, {"/proc/config.gz": config(*AS_DISTRIBUTED), "/proc/modules": ""}), RELEASE))
    assert found["kernel.modules"].status == "note" and "container" in found["kernel.modules"].do


def test_a_module_s_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    dep = "".join(line for line in DEP.splitlines(keepends=True) if "ip-vs" not in line and "br-netfilter" not in line)
    found = look(
        gather(probe(tmp_path, {"/proc/config.gz": config(*AS_DISTRIBUTED), "/proc/modules": "", f"{HERE}/modules.dep": dep}), RELEASE)
    )
    assert found["kernel.bridge"].status == "error" and "linux-modules-extra" in found["kernel.bridge"].do
    assert found["kernel.swarm"].status == "note" and "ip_vs" in found["kernel.swarm"].what
    assert found["kernel.swarm-networks"].status == "ok"


def test_a_module_that_a_hardening_guide_forbids_is_named_with_its_file(tmp_path: Path) -> None:
    files = {"/proc/config.gz": config(*AS_DISTRIBUTED), "/proc/modules": "", f"{HERE}/modules.dep": DEP}
    files |= {"/etc/modprobe.d/cis.conf": "# CIS\ninstall overlay /bin/false\nblacklist bridge\n"}
    found = look(gather(probe(tmp_path, files), RELEASE))
    assert found["kernel.overlay"].status == "error"
    assert "overlay is forbidden by /etc/modprobe.d/cis.conf" in found["kernel.overlay"].what
    assert "/etc/modprobe.d/cis.conf" in found["kernel.overlay"].do
    assert found["kernel.bridge"].status == "ok"


def test_a_kernel_that_loads_nothing_any_more(tmp_path: Path) -> None:
    files = {"/proc/config.gz": config(*AS_DISTRIBUTED), "/proc/modules": "", f"{HERE}/modules.dep": DEP}
    found = look(gather(probe(tmp_path, files | {"/proc/sys/kernel/modules_disabled": "1\n"}), RELEASE))
    assert found["kernel.modules"].status == "warning" and found["kernel.overlay"].status == "error"
    assert "/etc/modules-load.d" in found["kernel.overlay"].do


def test_missing_options_are_errors_where_required_and_notes_where_not(tmp_path: Path) -> None:
    gone = ("OVERLAY_FS", "KEYS", "VXLAN", "IP_VS_RR", "NF_TABLES_IPV6")
    found = look(gather(probe(tmp_path, {"/proc/config.gz": config(*(option for option in ALL if option not in gone))}), RELEASE))
    bad = {name: check.status for name, check in found.items() if check.status != "ok"}
    expected = {"kernel.overlay": "error", "kernel.keys": "error", "kernel.ip6tables": "warning"}
    assert bad == expected | {"kernel.swarm": "note", "kernel.swarm-networks": "note"}
    assert "CONFIG_VXLAN (vxlan)" in found["kernel.swarm-networks"].what


@pytest.mark.parametrize(
    ("release", "option", "required"),
    [
        ("5.1.0", "NF_NAT_IPV4", True),
        ("5.2.0", "NF_NAT_IPV4", False),
        ("5.2.0-rc1", "NF_NAT_NEEDED", True),
        ("5.3.0", "NF_NAT_NEEDED", False),
        ("4.14.300+", "CGROUP_BPF", False),
        ("4.15.0", "CGROUP_BPF", True),
        ("4.7.2", "DEVPTS_MULTIPLE_INSTANCES", True),
        ("4.8.0", "DEVPTS_MULTIPLE_INSTANCES", False),
    ],
)
def test_what_is_asked_for_depends_on_the_version(tmp_path: Path, release: str, option: str, required: bool) -> None:
    facts = gather(probe(tmp_path, {"/proc/config.gz": config(*(name for name in ALL if name != option))}), release)
    assert any(check.status == "error" for check in look(facts).values()) == required


def test_cgroup_v1_has_options_of_its_own(tmp_path: Path) -> None:
    facts = gather(probe(tmp_path, {"/proc/config.gz": config(*(name for name in ALL if name != "CGROUP_DEVICE"))}), RELEASE)
    assert look(facts, cgroup_v1=True)["kernel.cgroups"].status == "error"
    assert look(facts, cgroup_v1=False)["kernel.cgroups"].status == "ok"


def test_iptables_is_asked_for_as_the_host_s_program_speaks_it(tmp_path: Path) -> None:
    nft_only = (name for name in ALL if not name.startswith(("IP_NF_", "IP6_NF_")))
    facts = gather(probe(tmp_path, {"/proc/config.gz": config(*nft_only)}), RELEASE)
    assert look(facts, iptables="nft")["kernel.iptables"].status == "ok"
    assert look(facts, iptables="")["kernel.iptables"].status == "ok"
    assert look(facts, iptables="legacy")["kernel.iptables"].status == "error"


def test_a_kernel_that_says_nothing_of_itself(tmp_path: Path) -> None:
    files = {f"{HERE}/modules.dep": DEP, "/proc/modules": "", "/proc/filesystems": "nodev\tproc\nnodev\toverlay\n"}
    found = look(gather(probe(tmp_path, files), RELEASE))
    assert found["kernel.config"].status == "note" and found["kernel.namespaces"].status == "note"
    assert found["kernel.overlay"].what.endswith("built in")
    assert found["kernel.bridge"].status == "ok"


def test_the_room_for_keys(tmp_path: Path) -> None:
    files = {"/proc/config.gz": config(*ALL), "/proc/sys/kernel/keys/root_maxkeys": "200\n"}
    assert look(gather(probe(tmp_path, files), RELEASE))["kernel.keyring-size"].status == "note"


def test_what_is_compressed_otherwise_is_passed_over(tmp_path: Path) -> None:
    facts = gather(probe(tmp_path, {"/proc/config.gz": b"no gzip", f"{HERE}/config": "CONFIG_KEYS=y\n"}), RELEASE)
    assert facts.options == {"KEYS": "y"}


def test_no_option_is_asked_for_twice_in_one_feature() -> None:
    for feature in REQUIRED + OPTIONAL:
        assert len({need.option for need in feature.needs}) == len(feature.needs)
        assert all(isinstance(need, Need) for need in feature.needs)
