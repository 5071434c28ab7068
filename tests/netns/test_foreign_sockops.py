# SPDX-License-Identifier: Apache-2.0
"""Another sockops program sets one callback flag alone, and so takes ours: as most of them do."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings
from cloud_toa.demo.lab import Lab
from cloud_toa.origins import Origins
from cloud_toa.packet import FIN, Packet
from tests.netns.conftest import receive
from tests.netns.foreign import SOCKOPS, attached
from tests.netns.raw_tcp import RawClient, Wire
from tests.netns.receiver import CLIENT as RAW_CLIENT
from tests.netns.receiver import TOA, TRUSTED, peer_of
from tests.netns.receivers import Bpf, Receiver
from tests.netns.sender import CLIENT, counters, marked
from tests.netns.traffic import SERVER, balancer, capture, listen, talk, wait_until

CONNECT, ESTABLISHED, ACCEPTED = (
    "BPF_SOCK_OPS_TCP_CONNECT_CB",
    "BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB",
    "BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB",
)
RETRANSMISSIONS, STATES = "BPF_SOCK_OPS_RETRANS_CB_FLAG", "BPF_SOCK_OPS_STATE_CB_FLAG"
PACKETS, PARSED = "BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG", "BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG"
PLACES = ["before", "after", "above"]


def alone(place: Path, callback: str, flag: str) -> AbstractContextManager[None]:
    """The usual idiom: this flag at that callback, whatever others have set."""
    body = f"if (ctx->op == {callback}) bpf_sock_ops_cb_flags_set(ctx, {flag});"
    return attached(place, SOCKOPS, body)


@pytest.fixture
def below(balancers: Path) -> Iterator[Path]:
    """A load balancer's cgroup inside another, whose programs run after its own."""
    place = balancers / "below"
    place.mkdir()
    yield place
    edge.detach()
    wait_until(lambda: not (place / "cgroup.procs").read_text())
    place.rmdir()


def conversation(lab: Lab, place: Path, servers: Path) -> tuple[list[Packet], object]:
    """One connection of a client that sends at once; what left for it, and who was seen."""
    with capture(lab) as cable:
        with listen(lab, servers, SERVER) as listener, balancer(lab, place, CLIENT) as sock:
            sock.connect(SERVER)
            conn, peer = listener.accept()
            with conn:
                talk(sock, conn)
        return cable.until(FIN), peer


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("callback", [CONNECT, ESTABLISHED])
@pytest.mark.parametrize("flag", [RETRANSMISSIONS, STATES])
def test_sender_sets_its_flag_again(
    lab: Lab, balancers: Path, below: Path, servers: Path, place: str, callback: str, flag: str
) -> None:
    """It can, but where the other program has the last word on the handshake's end."""
    # So that the SYN alone tells the client, too.
    receive(servers, save_syn=True)
    with ExitStack() as programs:
        if place == "before":
            programs.enter_context(alone(below, callback, flag))
        edge.attach([below], EdgeSettings())
        if place != "before":
            programs.enter_context(alone(balancers if place == "above" else below, callback, flag))
        packets, peer = conversation(lab, below, servers)
    assert peer == CLIENT
    carried = [packet for packet in packets if marked(packet)]
    lost = callback == ESTABLISHED and place != "before"
    assert len(carried) == (1 if lost else 3)
    # Nobody asks for us then, unless it is for changes of state: the last one tells it.
    noticed = 0 if callback == CONNECT and place == "before" else 1
    assert counters()["flag_cleared"] == (noticed if flag == STATES or not lost else 0)


@pytest.mark.parametrize("order", ["before", "after"])
def test_sender_leaves_to_others_what_they_had_before(
    lab: Lab, balancers: Path, servers: Path, order: str
) -> None:
    """What the other asked for before us, it keeps; what it asks for with us is not ours."""
    receive(servers)
    body = (
        f"if (ctx->op == {CONNECT}) "
        f"bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | {PACKETS});\n"
        "if (ctx->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB) bpf_reserve_hdr_opt(ctx, 4, 0);\n"
        "unsigned char option[4] = { 253, 4, 1, 2 };\n"
        "if (ctx->op == BPF_SOCK_OPS_WRITE_HDR_OPT_CB)\n"
        "bpf_store_hdr_opt(ctx, option, sizeof(option), 0);"
    )
    with ExitStack() as programs:
        if order == "before":
            programs.enter_context(attached(balancers, SOCKOPS, body))
        edge.attach([balancers], EdgeSettings())
        if order == "after":
            programs.enter_context(attached(balancers, SOCKOPS, body))
        packets, peer = conversation(lab, balancers, servers)
    assert peer == CLIENT
    assert [bool(marked(packet)) for packet in packets[:4]] == [True, True, True, False]
    theirs = [b"\xfd\x04\x01\x02" in bytes(packet.options) for packet in packets]
    assert all(theirs) == (order == "before"), theirs
    assert theirs[:3] == [True] * 3


def test_sender_writes_nothing_where_only_others_ask_for_packets(
    lab: Lab, balancers: Path, servers: Path
) -> None:
    receive(servers)
    edge.attach([balancers], EdgeSettings(origins=Origins.parse(["192.0.2.1"])))
    with alone(balancers, CONNECT, PACKETS):
        packets, peer = conversation(lab, balancers, servers)
    assert not any(map(marked, packets))
    assert peer != CLIENT


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("flag", [RETRANSMISSIONS, STATES])
def test_receiver_sets_its_flag_again(
    lab: Lab, wire: Wire, servers: Path, order: str, flag: str
) -> None:
    """The first data brings the client: it is lost only if nothing calls us before that."""
    with ExitStack() as programs:
        if order == "before":
            programs.enter_context(alone(servers, ACCEPTED, flag))
        receive(servers, trust=TRUSTED)
        if order == "after":
            programs.enter_context(alone(servers, ACCEPTED, flag))
        with listen(lab, servers, SERVER) as listener:
            client = RawClient(wire, TRUSTED, SERVER)
            client.open()
            with listener.accept()[0] as conn:
                client.data(b"x", TOA)
                assert conn.recv(1) == b"x"
                seen = peer_of(conn) == RAW_CLIENT
    assert seen == (order == "before" or flag == STATES)
    assert Bpf().counters()["flag_cleared"] == int(order == "after" and flag == STATES)


def test_receiver_leaves_to_others_what_they_had_before(
    lab: Lab, wire: Wire, servers: Path, receiving: Receiver
) -> None:
    """Packets that others have parsed are none of ours: no connection counts twice."""
    other = alone(servers, ACCEPTED, PARSED)
    with other:
        receive(servers, trust=TRUSTED)
        with listen(lab, servers, SERVER) as listener:
            for ack in (TOA, b""):
                client = RawClient(wire, TRUSTED, SERVER)
                client.open(ack=ack)
                with listener.accept()[0] as conn:
                    client.data(b"x", TOA)
                    assert conn.recv(1) == b"x"
                    assert peer_of(conn) == RAW_CLIENT
                    client.data(b"y", TOA)
                    assert conn.recv(1) == b"y"
    assert receiving.counted() == {"found": 2, "late": 1}
