# SPDX-License-Identifier: Apache-2.0
"""What an operator can set, as typed values that are right once they exist. Pure."""

from dataclasses import dataclass, field
from enum import Enum, IntFlag

from cloud_toa.errors import ToaError
from cloud_toa.option import Kinds, check_kind
from cloud_toa.origins import EVERYWHERE, Origins
from cloud_toa.trust import Trust


class Where(IntFlag):
    """The packets of a connection that get the option (values as in edge_maps.h)."""

    SYN = 1
    ACK = 2
    DATA = 4

    @classmethod
    def parse(cls, text: str) -> "Where":
        """Read a comma-separated list of ``syn``, ``ack`` and ``data``.

        Raises:
            ToaError: an unknown word, or none.
        """
        where = cls(0)
        for word in filter(None, (word.strip() for word in text.split(","))):
            try:
                where |= cls[word.upper()]
            except KeyError:
                raise ToaError(
                    f"{word!r} is no place for the option: write some of syn,ack,data"
                ) from None
        if not where:
            raise ToaError("no place for the option is given: write some of syn,ack,data")
        return where

    def __str__(self) -> str:
        return ",".join(str(place.name).lower() for place in Where if place in self)


class NoPort(Enum):
    """What is sent of a client that was named without a port (in edge_maps.h's order)."""

    CONNECTION = "connection"
    """The usual layout, with the connection's own source port."""
    CLIENT_IP = "client-ip"
    """The layout without a port, of kind 28."""
    SKIP = "skip"
    """Nothing."""

    @classmethod
    def parse(cls, text: str) -> "NoPort":
        """Read one of the words.

        Raises:
            ToaError: it is none of them.
        """
        try:
            return cls(text)
        except ValueError:
            words = ", ".join(each.value for each in cls)
            raise ToaError(f"no-port {text!r} is unknown: write one of {words}") from None


@dataclass(frozen=True)
class EdgeSettings:
    """How a sender writes the option, and for which connections.

    ``origins`` are the destinations that get it; ``control`` lets the control socket's
    process name clients by local port; ``tell`` has connections told of in which the option
    was not written where it should be; ``refuse_elsewhere`` has connect() fail for sockets that
    are bound to a client and go to another destination, as they can't have their own bind();
    ``only_named`` leaves transparent sockets alone, so that clients are named by ``control`` and
    ``setsockopt`` alone.

    Raises:
        KindError: a kind that TOA can't use.
    """

    option_type_v4: int = 254
    option_type_v6: int = 254
    where: Where = Where.SYN | Where.ACK | Where.DATA
    origins: Origins = EVERYWHERE
    control: bool = False
    tell: bool = False
    no_port: NoPort = NoPort.CONNECTION
    refuse_elsewhere: bool = False
    only_named: bool = False

    def __post_init__(self) -> None:
        check_kind(self.option_type_v4)
        check_kind(self.option_type_v6)


@dataclass(frozen=True)
class OriginSettings:
    """Whom a receiver believes, and which kinds it reads.

    ``save_syn`` asks the kernel to keep the SYN of connections to listeners that
    start from now on, for senders that write the option nowhere else. ``chain``: where the
    client that is named is itself believed, the next option names whom it serves.

    Raises:
        ToaError: a chain where everyone is trusted, so that any client would count as an edge.
    """

    trust: Trust
    kinds: Kinds = field(default_factory=Kinds)
    save_syn: bool = False
    chain: bool = False

    def __post_init__(self) -> None:
        if self.chain and self.trust.everyone:
            raise ToaError(
                "--chain needs the edges by address: with --trust any, what a client wrote behind "
                "a load balancer's option would be believed"
            )
