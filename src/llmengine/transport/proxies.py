"""The proxies of the environment, such as ``https_proxy`` and ``no_proxy``."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


class EnvironmentProxies:
    """The proxies of the environment when this object was made; ``exist`` says if there are any."""

    def __init__(self) -> None:
        self._proxies = getproxies()
        self.exist = bool(self._proxies)

    def proxy_for(self, url: str) -> str | None:
        """The proxy for requests to a URL; None if they are sent directly."""
        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme)
        return None if proxy is None or proxy_bypass(parts.hostname or "") else proxy
