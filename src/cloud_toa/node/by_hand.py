# SPDX-License-Identifier: Apache-2.0
"""What ``-auto-setup`` would do, for an operator who would rather do it by hand.

Changes nothing; asks the kernel which datapath it has, and for the devices' MTUs.
"""

import shlex

from cloud_toa.config import NoPort
from cloud_toa.doctor import conntrack
from cloud_toa.doctor import table as trial
from cloud_toa.doctor.table import Way
from cloud_toa.nfqueue import rules, setup
from cloud_toa.node.choice import choose
from cloud_toa.node.settings import RunSettings


def instructions(settings: RunSettings) -> str:
    """A shell script with the rules, routes and sysctls; or the command that attaches eBPF."""
    chosen = choose(settings.datapath)
    head = f"#!/bin/sh\n# datapath: {chosen.datapath}, as {chosen.why}\nset -e\n"
    return head + (_bpf(settings) if chosen.datapath == "bpf" else _queue(settings))


def _bpf(settings: RunSettings) -> str:
    command = ["cloud-toa", "edge", "attach"]
    for name in settings.cgroups or ("/",):
        command += ["--cgroup", name]
    command += ["--option-type-v4", str(settings.option_type_v4)]
    command += ["--option-type-v6", str(settings.option_type_v6)]
    for origin in str(settings.origins).split():
        command += ["--origin", origin]
    if settings.no_port is not NoPort.CONNECTION:
        command += ["--no-port", settings.no_port.value]
    if settings.sock is not None:
        command += ["--control"]
    if settings.only_named:
        command += ["--only-named"]
    return shlex.join(command) + "\n# To undo: cloud-toa edge detach\n"


def _queue(settings: RunSettings) -> str:
    control = settings.sock is not None
    table = rules.table(
        settings.origins,
        control,
        setup.device_mtus(),
        str(settings.queues),
        others=True,
        only_named=settings.only_named,
    )
    lines = []
    for family in setup.families():
        lines += [f"ip {rules.policy_rule(family, 'add')}", f"ip {rules.route(family)}"]
    undo = [f"nft delete table {rules.TABLE}"]
    for family in setup.families():
        undo += [
            f"ip {rules.policy_rule(family, 'del')}",
            f"ip {rules.our_routes(family, 'flush')}",
        ]
    spare = [
        f"#   nft {line}\n"
        for line in rules.bystanders(settings.origins, others=False).splitlines()
        if not line.startswith("flush")
    ]
    if spare:
        about = (
            "# Only while this host has no other table that looks at connections, to spare theirs:"
        )
        spare.insert(0, f"{about}\n")
    lack = "# This kernel has no nft_queue: nft refuses the queue statement, use -auto-setup.\n"
    return "".join(
        [
            "" if trial.choose() is Way.NFT else lack,
            "# No sysctl must be set. A busy edge needs room in conntrack, see cloud-toa doctor:\n",
            f"#   {conntrack.enlarge()}\n",
            "# The numbers of mss_ maps are the devices' MTUs: change them together.\n",
            *(f"{line}\n" for line in lines),
            f"nft -f - <<'END'\n{table}END\n",
            *spare,
            "# To undo:\n",
            *(f"#   {line}\n" for line in undo),
        ]
    )
