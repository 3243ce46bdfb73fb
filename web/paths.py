"""What stands in the path of a request."""

from uuid import UUID

from aiohttp import web

from domain.refusals import Code
from web.refused import refused


def object_id(request: web.Request) -> UUID:
    """The id in the path; what is no id is the address of nothing. Raises Refused."""
    text = request.match_info["id"]
    try:
        found = UUID(text)
    except ValueError:
        raise refused(Code.NOT_FOUND) from None
    if str(found) != text.lower():  # UUID() also reads other spellings; one thing has one address
        raise refused(Code.NOT_FOUND)
    return found
