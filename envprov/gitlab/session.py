"""The HTTP session below the library: no proxies, cookies or ~/.netrc, no redirects, no answer read before its time."""

from __future__ import annotations

from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter


class Refused(Exception):
    """
    An answer that the library would make an error of: without its headers, and read to an end that may not come.

    Attributes:
        response: Not read yet.

    """

    def __init__(self, response: requests.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class Session(requests.Session):
    """
    A session that knows nothing of its surroundings, and goes nowhere else than it was sent.

    Args:
        connections: That are kept.

    """

    def __init__(self, connections: int) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=connections, max_retries=0))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: the library would read a redirect's body to its end, and take the token along."""

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - the library's own
        """
        Send a request, and give its answer back before it is read.

        Raises:
            Refused: It is not one of 200 to 299.

        """
        response = super().request(*args, **kwargs | {"allow_redirects": False})
        if not HTTPStatus.OK <= response.status_code < HTTPStatus.MULTIPLE_CHOICES:
            raise Refused(response)
        return response
