"""What Docker needs of a kernel, as tables: moby's contrib/check-config.sh, grouped by what breaks.

Two differences from it. Swarm's parts (xt_ipvs among them) are optional here: without a swarm nothing uses them. And the tables of
iptables are asked for in the flavour that this host's `iptables` speaks.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.doctor.finding import ERROR, NOTE, WARNING

Version = tuple[int, int]
EVER: Version = (999, 0)


class Need(NamedTuple):
    """A kernel option, and the module that it becomes where it may be one. `since` and `until` (exclusive) are versions of the kernel."""

    option: str
    module: str = ""
    since: Version = (0, 0)
    until: Version = EVER
    cgroup_v1: bool = False
    """Asked for only where Docker uses cgroup v1."""


class Feature(NamedTuple):
    """Needs that belong together. `status` is the finding's if one is missing, `without` what that means."""

    id: str
    title: str
    status: str
    without: str
    needs: tuple[Need, ...]
    iptables: str = ""
    """`nft` or `legacy`: only for a host whose iptables is of that kind."""


def _options(*names: str) -> tuple[Need, ...]:
    return tuple(Need(name) for name in names)


REQUIRED = (
    Feature(
        "namespaces",
        "namespaces",
        ERROR,
        "there are no containers",
        (*_options("NAMESPACES", "NET_NS", "PID_NS", "IPC_NS", "UTS_NS"), Need("DEVPTS_MULTIPLE_INSTANCES", until=(4, 8))),
    ),
    Feature(
        "cgroups",
        "control groups",
        ERROR,
        "containers do not start",
        (
            *_options("CGROUPS", "CGROUP_SCHED"),
            *(Need(name, cgroup_v1=True) for name in ("CGROUP_FREEZER", "CGROUP_DEVICE", "CPUSETS", "CGROUP_CPUACCT", "MEMCG")),
            Need("CGROUP_BPF", since=(4, 15)),
        ),
    ),
    Feature("keys", "keyrings and message queues", ERROR, "containers do not start", _options("KEYS", "POSIX_MQUEUE")),
    Feature(
        "overlay",
        "the overlay file system",
        ERROR,
        "the engine cannot be unpacked, and Docker falls back to a storage driver that copies",
        (Need("OVERLAY_FS", "overlay"),),
    ),
    Feature(
        "bridge",
        "bridges and links of containers",
        ERROR,
        "containers have no network",
        (Need("VETH", "veth"), Need("BRIDGE", "bridge"), Need("BRIDGE_NETFILTER", "br_netfilter")),
    ),
    Feature(
        "nat",
        "address translation",
        ERROR,
        "dockerd does not start",
        (
            Need("NF_NAT", "nf_nat"),
            Need("NF_CONNTRACK", "nf_conntrack"),
            Need("NETFILTER_XT_MATCH_ADDRTYPE", "xt_addrtype"),
            Need("NETFILTER_XT_MATCH_CONNTRACK", "xt_conntrack"),
            Need("NETFILTER_XT_MARK", "xt_mark"),
            Need("NF_NAT_IPV4", "nf_nat_ipv4", until=(5, 2)),
            Need("NF_NAT_NEEDED", until=(5, 3)),
        ),
    ),
    Feature(
        "iptables",
        "iptables (its tables, legacy)",
        ERROR,
        "dockerd does not start",
        (
            Need("IP_NF_FILTER", "iptable_filter"),
            Need("IP_NF_MANGLE", "iptable_mangle"),
            Need("IP_NF_RAW", "iptable_raw"),
            Need("IP_NF_NAT", "iptable_nat"),
            Need("IP_NF_TARGET_MASQUERADE", "ipt_MASQUERADE", until=(5, 2)),
            Need("NETFILTER_XT_TARGET_MASQUERADE", "xt_MASQUERADE", since=(5, 2)),
        ),
        iptables="legacy",
    ),
    Feature(
        "iptables",
        "iptables (over nf_tables)",
        ERROR,
        "dockerd does not start",
        (
            Need("NF_TABLES", "nf_tables"),
            Need("NFT_COMPAT", "nft_compat"),
            Need("NFT_NAT", "nft_chain_nat", since=(5, 1)),
            Need("IP_NF_TARGET_MASQUERADE", "ipt_MASQUERADE", until=(5, 2)),
            Need("NETFILTER_XT_TARGET_MASQUERADE", "xt_MASQUERADE", since=(5, 2)),
        ),
        iptables="nft",
    ),
    Feature(
        "ip6tables",
        "ip6tables (its tables, legacy)",
        WARNING,
        "IPv6 networks of containers are neither translated nor filtered",
        (
            Need("IP6_NF_FILTER", "ip6table_filter"),
            Need("IP6_NF_MANGLE", "ip6table_mangle"),
            Need("IP6_NF_RAW", "ip6table_raw"),
            Need("IP6_NF_NAT", "ip6table_nat"),
            Need("IP6_NF_TARGET_MASQUERADE", "ip6t_MASQUERADE", until=(5, 2)),
        ),
        iptables="legacy",
    ),
    Feature(
        "ip6tables",
        "ip6tables (over nf_tables)",
        WARNING,
        "IPv6 networks of containers are neither translated nor filtered",
        (Need("NF_TABLES_IPV6"), Need("NFT_COMPAT", "nft_compat")),
        iptables="nft",
    ),
)

OPTIONAL = (
    Feature("user-namespaces", "user namespaces", NOTE, "userns-remap and rootless containers are not to be had", _options("USER_NS")),
    Feature("seccomp", "system call filters", NOTE, "containers run unconfined by seccomp", _options("SECCOMP", "SECCOMP_FILTER")),
    Feature(
        "limits",
        "limits on processes, CPU, disk and swap",
        NOTE,
        "`docker run` ignores one or the other of --pids-limit, --cpus, --device-read-bps, --memory-swap",
        (
            Need("CGROUP_PIDS"),
            Need("CGROUP_HUGETLB", cgroup_v1=True),
            *_options("BLK_CGROUP", "BLK_DEV_THROTTLING", "CFS_BANDWIDTH", "FAIR_GROUP_SCHED"),
            Need("MEMCG_SWAP", until=(6, 1)),
        ),
    ),
    Feature(
        "network-classes",
        "classes and priorities of network traffic",
        NOTE,
        "what sorts traffic by cgroup sees no containers",
        (Need("NET_CLS_CGROUP", "cls_cgroup"), Need("CGROUP_NET_PRIO", cgroup_v1=True)),
    ),
    Feature(
        "connections",
        "the list of tracked connections",
        NOTE,
        "UDP clients may go on talking to a container that is gone",
        (Need("NF_CT_NETLINK", "nf_conntrack_netlink"),),
    ),
    Feature("sctp", "published SCTP ports", NOTE, "`--publish …/sctp` fails", (Need("NETFILTER_XT_MATCH_SCTP", "xt_sctp"),)),
    Feature(
        "swarm",
        "services of a swarm",
        NOTE,
        "they are not balanced, and their published ports do not answer",
        (
            Need("IP_VS", "ip_vs"),
            Need("IP_VS_RR", "ip_vs_rr"),
            *_options("IP_VS_NFCT", "IP_VS_PROTO_TCP", "IP_VS_PROTO_UDP"),
            Need("NETFILTER_XT_MATCH_IPVS", "xt_ipvs"),
            Need("NETFILTER_XT_TARGET_REDIRECT", "xt_REDIRECT"),
        ),
    ),
    Feature(
        "swarm-networks",
        "overlay networks of a swarm",
        NOTE,
        "they carry no traffic",
        (Need("VXLAN", "vxlan"), Need("BRIDGE_VLAN_FILTERING")),
    ),
    Feature(
        "swarm-encryption",
        "encrypted overlay networks",
        NOTE,
        "they carry no traffic",
        (
            Need("XFRM"),
            Need("XFRM_USER", "xfrm_user"),
            Need("XFRM_ALGO", "xfrm_algo"),
            Need("INET_ESP", "esp4"),
            Need("CRYPTO_GCM", "gcm"),
            Need("CRYPTO_SEQIV", "seqiv"),
            Need("NETFILTER_XT_MATCH_BPF", "xt_bpf"),
            Need("INET_XFRM_MODE_TRANSPORT", "xfrm4_mode_transport", until=(5, 4)),
        ),
    ),
    Feature("ipvlan", "ipvlan networks", NOTE, "`docker network create --driver ipvlan` fails", (Need("IPVLAN", "ipvlan"),)),
    Feature(
        "macvlan",
        "macvlan networks",
        NOTE,
        "`docker network create --driver macvlan` fails, without a parent at least",
        (Need("MACVLAN", "macvlan"), Need("DUMMY", "dummy")),
    ),
    Feature(
        "nftables",
        "nftables",
        NOTE,
        'the engine\'s "firewall-backend": "nftables" (Docker 29) is not to be had',
        (
            Need("NF_TABLES", "nf_tables"),
            Need("NF_TABLES_INET"),
            Need("NFT_CT", "nft_ct"),
            Need("NFT_FIB", "nft_fib"),
            Need("NFT_MASQ", "nft_masq"),
            Need("NFT_NAT", "nft_nat"),
        ),
    ),
)
