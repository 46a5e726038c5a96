"""Posting to an address that somebody else named.

Such an address is a way into the network of whoever runs everloop, so it is guarded when it is used: the name is
resolved once, every address it has must be public (unless the settings allow private ones), the connection goes to
the very address that was checked, and redirects are not followed.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from everloop.errors import Invalid

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 5.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def post(
    address: str, content: bytes, *, headers: Mapping[str, str], allow_private: bool
) -> tuple[int | None, str | None]:
    """Post JSON and return the status of the answer, if there was one, and what went wrong, if anything did.

    The body of the answer is not read: nothing of what is reached is told to whoever named the address.
    """
    import httpx  # noqa: PLC0415  (a tenth of a second, and whoever emits an event imports this module)

    status = None
    try:
        url = httpx.URL(address)
        checked = checked_address(url, allow_private=allow_private)
        with (
            httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST",
                url.copy_with(host=checked),
                content=content,
                headers={**headers, "Content-Type": "application/json", "Host": url.netloc.decode()},
                extensions={"sni_hostname": url.host},
            ) as answer,
        ):
            status = answer.status_code
            answer.raise_for_status()
    except (Invalid, httpx.HTTPError, httpx.InvalidURL) as error:
        return status, str(error)
    return status, None


def checked_address(url: httpx.URL, *, allow_private: bool) -> str:
    """The address to connect to for a webhook's URL.

    Raises
    ------
    Invalid
        Another scheme than http(s), an unknown name, or an address that is not public.
    """
    if url.scheme not in ("http", "https"):
        raise Invalid(f"the webhook's scheme is {url.scheme!r}; it is http or https.")
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Invalid(f"the webhook's host {url.host!r} is unknown: {error}.") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not allow_private and not _is_public(ipaddress.ip_address(address.split("%")[0])):
            raise Invalid(
                f"the webhook's host {url.host!r} has the address {address}, which is not public. "
                "Set webhook_allow_private = true if you trust that receiver."
            )
    return addresses[0]


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is a public address of one machine, also behind what carries IPv4 within IPv6."""
    if not address.is_global or address.is_multicast:
        return False
    if isinstance(address, IPv4Address):
        return True
    teredo = address.teredo or ()
    within = [address.ipv4_mapped, address.sixtofour, *teredo]
    if address in _NAT64:
        within.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return all(_is_public(one) for one in within if one is not None)
