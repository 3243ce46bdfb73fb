"""Every route of web/routes.py with its declaration, by `METHOD /path`."""

from web.documents import accounts, metrics, resources
from web.documents.declared import Endpoint

API: dict[str, Endpoint] = {**accounts.ENDPOINTS, **resources.ENDPOINTS, **metrics.ENDPOINTS}
"""Below /api/v1 and /api/v2."""

PLAIN: dict[str, Endpoint] = metrics.PLAIN
"""Outside of the API."""

PAGES = frozenset({"GET /", "GET /live", "GET /live/{file}", "GET /docs", "GET /docs/{file}"})
"""For people; no program asks for them."""
