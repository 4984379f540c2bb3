"""Which addresses this machine may be made to connect to by somebody who names a URL: what leads to itself, to its
network, or to where its cloud hands out credentials is judged here. Names are looked up elsewhere."""

import ipaddress
from collections.abc import Callable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

JudgeAddress = Callable[[str], str]
"""Takes a numeric address; says what is wrong with connecting to it, or nothing."""

_METADATA = frozenset(map(ipaddress.ip_address, ("169.254.169.254", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")))
"""Where clouds hand out a machine's credentials: AWS, Azure and Google, Alibaba, Oracle, AWS over IPv6."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def judge_address(*, private: bool) -> JudgeAddress:
    """`private`: this machine and private networks are no problem."""
    return lambda address: address_problem(parse_address(address), private=private)


def parse_address(text: str) -> Address:
    """Raises ValueError. An IPv6 zone, `%eth0`, is left out."""
    return ipaddress.ip_address(text.partition("%")[0])


def address_problem(address: Address, *, private: bool) -> str:
    """What is wrong with connecting to this address; empty when it may be."""
    address = _embedded(address)
    if address in _METADATA or address.is_link_local:
        return f"{address}, where clouds keep a machine's credentials, or link-local"
    if address.is_multicast or address.is_unspecified or (address.is_reserved and not address.is_loopback):
        return f"{address}, which is multicast, unspecified or reserved"
    if not private and (not address.is_global or getattr(address, "is_site_local", False)):
        return f"{address}, of this machine or a private network; api.allow_private is off"
    return ""


def _embedded(address: Address) -> Address:
    """The IPv4 address in an IPv6 address that leads to one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    is_compatible = int(address) >> 32 == 0 and int(address) > 1  # IPv4-compatible, RFC 4291 2.5.5.1
    if address in _NAT64 or is_compatible:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour or (address.teredo[1] if address.teredo else address)
