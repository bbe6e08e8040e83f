"""The scheme, host and port under which a client knows this service: what every link that we send begins with.

A configured origin wins. Else it is what the request came to; and what a proxy says of that (`X-Forwarded-Proto`,
`X-Forwarded-Host`) counts only where the proxy is trusted, since anybody can send such headers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.requests import HTTPConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    public_origin: str | None = None
    """Without a slash at its end."""
    trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()

    def of(self, request: HTTPConnection) -> str:
        """Such as `https://monitoring.example.org`."""
        if self.public_origin is not None:
            return self.public_origin
        scheme, host = request.url.scheme, request.headers.get("host", request.url.netloc)
        if self._is_trusted(request):
            scheme = _first(request.headers.get("x-forwarded-proto")) or scheme
            host = _first(request.headers.get("x-forwarded-host")) or host
        return f"{scheme}://{host}"

    def _is_trusted(self, request: HTTPConnection) -> bool:
        if request.client is None or not self.trusted_proxies:
            return False
        try:
            address = ip_address(request.client.host)
        except ValueError:
            return False
        return any(address in network for network in self.trusted_proxies)


def _first(header: str | None) -> str:
    """Of a list that every proxy on the way has added to, what the client met."""
    return (header or "").partition(",")[0].strip()
