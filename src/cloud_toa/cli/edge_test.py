# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa edge test``: a connection through a running edge, and who was seen."""

import argparse
import json
from ipaddress import IPv6Address, ip_address

from cloud_toa.cli.report import Subparsers
from cloud_toa.errors import ToaError


def add(actions: Subparsers) -> None:
    """Add ``edge test``."""
    test = actions.add_parser(
        "test",
        help="connect through a service as a client would, and say whom the origin saw",
        description="Connect once to a service of a running 'edge run' from an address of your "
        "choice, in a network namespace that goes away again. Says which packets carried the "
        "option and, where the origin is 'cloud-toa origin echo', whom it saw. Until then, this "
        "host reaches the address there alone: so it must be nobody's. One of this host's, an "
        "origin's, or one that has a TCP connection with this host is refused.",
    )
    test.add_argument("service", metavar="SERVICE", help="its name")
    test.add_argument(
        "--client",
        metavar="IP",
        help="the client's address, which must be nobody's (default: 203.0.113.77 or "
        "2001:db8::7077, which are)",
    )
    test.add_argument("--json", action="store_true", help="print one JSON object")
    test.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # Here, as other commands shall not wait for what only this one needs.
    from cloud_toa.isolation import isolate  # noqa: PLC0415
    from cloud_toa.node import (  # noqa: PLC0415
        edge_file,
        quick_test,
        state,
        status,
    )
    from cloud_toa.option import Kinds  # noqa: PLC0415

    running = status.edge_run()
    if running is None:
        raise ToaError("no 'cloud-toa edge run' is at work here")
    edge = edge_file.in_force(state.settings())
    service = next((each for each in edge.service if each.name == arguments.service), None)
    if service is None:
        names = ", ".join(each.name for each in edge.service)
        raise ToaError(f"no service {arguments.service!r}: there is {names}")
    listen = service.addresses[0]
    try:
        client = ip_address(arguments.client or quick_test.default_client(listen))
    except ValueError:
        raise ToaError(f"--client {arguments.client!r} is not an IP address") from None
    if isinstance(client, IPv6Address) and client.ipv4_mapped is not None:
        client = client.ipv4_mapped
    quick_test.check_client(client, listen, edge.service)
    kinds = Kinds((edge.toa.option_type_v4,), (edge.toa.option_type_v6,), ())
    name = None
    if service.tls is not None:
        # Where there is *.example.com, www.example.com may be another service's.
        name = (*service.server_names, "localhost")[0].replace("*", "cloud-toa-test", 1)
    isolate()
    outcome = quick_test.visit(listen, client, kinds, name)
    shown = {
        "good": outcome.good,
        "client": str(outcome.client),
        "service": f"{outcome.service[0]} port {outcome.service[1]}",
        "origin": outcome.origin,
        "option_in": outcome.packets,
        "origin_saw": outcome.answer,
        "trouble": outcome.trouble,
        "missed_packets": outcome.missed,
    }
    if arguments.json:
        print(json.dumps(shown))
    else:
        print(f"{service.name}: {shown['client']} connected to {shown['service']}")
        if outcome.trouble:
            print(f"  failed: {outcome.trouble}")
        if outcome.packets:
            print(f"  option sent to {outcome.origin} in: {', '.join(outcome.packets)}")
        else:
            print("  option: in no packet that was seen (cloud-toa edge status counts why)")
        if outcome.missed:
            print(f"  {outcome.missed} packets passed too fast to be read: the host is busy")
        if outcome.answer is None:
            print("  origin: does not say whom it saw (cloud-toa origin echo would)")
        else:
            known = outcome.answer.get("client", "nobody: it has no receiver")
            peer = f"{outcome.answer['peer']} port {outcome.answer['port']}"
            print(f"  origin: accept() answered {peer}; TOA named {known or 'nobody'}")
    return 0 if outcome.good else 1
