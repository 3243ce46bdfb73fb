"""What a client of v2 sees: bare objects, and errors as problem details (RFC 9457). The same handlers as in v1."""

import orjson
from aiohttp import web

from domain.refusals import STATUS, Code, Refusal
from domain.sentences import LANGUAGES, explain, message
from web.presenters import V1, Presenter, Reply, base_headers, refusal_headers
from web.refused import refused

V1_PREFIX, V2_PREFIX = "/api/v1/", "/api/v2/"
PROBLEMS = "/problems/"
PROBLEM_JSON = "application/problem+json"


class V2:
    """An object as it is; a list as `{"data": […], "next_cursor": …}`; `type`, `title`, `status`, … of a problem."""

    def __init__(self, *, https: bool) -> None:
        self._headers = base_headers(https=https)

    def reply(self, reply: Reply) -> web.Response:
        """The response for what a handler answered; without a body for 204 and 304."""
        headers = self._headers.copy()
        if reply.version is not None:
            headers["ETag"] = f'"{reply.version}"'
        if reply.headers is not None:
            headers.update(reply.headers)
            if "Location" in headers:
                headers["Location"] = self.address(headers["Location"])
        if reply.status in (204, 304):
            del headers["Content-Type"]
            return web.Response(status=reply.status, headers=headers)
        if reply.download is not None:
            body = reply.download
        elif reply.items is None:
            body = reply.document
        else:
            body = b'{"data":[%b],"next_cursor":%b%b}' % (
                b",".join(reply.items),
                orjson.dumps(reply.cursor),
                b"" if reply.meta is None else b"," + orjson.dumps(reply.meta)[1:-1],
            )
        return web.Response(body=body, status=reply.status, headers=headers)

    def refusal(
        self, refusal: Refusal, language: str, headers: dict[str, str] | None = None, *, request_id: str
    ) -> web.Response:
        """The problem; its `instance` is the request's id."""
        shown = refusal_headers(self._headers, language, headers)
        shown["Content-Type"] = PROBLEM_JSON
        body = orjson.dumps({**self.error(refusal, language), "instance": request_id})
        return web.Response(body=body, status=refusal.status, headers=shown)

    def error(self, refusal: Refusal, language: str) -> dict[str, object]:
        """The problem without its instance. `errors` is left out where no field is wrong."""
        shown: dict[str, object] = {
            "type": PROBLEMS + refusal.code.value,
            # The same for every problem of a type, whatever the language; `detail` is for the person who asked.
            "title": message(refusal.code, "en"),
            "status": refusal.status,
            "detail": message(refusal.code, language),
            "code": refusal.code.value,
        }
        if refusal.details:
            shown["errors"] = [
                {"field": detail.field, "code": detail.problem.value, "detail": explain(detail, language)}
                for detail in refusal.details
            ]
        return shown

    def address(self, path: str) -> str:
        """Below /api/v2 what v1 has below /api/v1."""
        return V2_PREFIX + path.removeprefix(V1_PREFIX) if path.startswith(V1_PREFIX) else path


class Presenters:
    """A presenter for each version of the API."""

    def __init__(self, *, https: bool) -> None:
        self.v1: Presenter = V1(https=https)
        self.v2: Presenter = V2(https=https)

    def of(self, path: str) -> Presenter:
        """The one for an address, whether anything is there or not; v1's outside of the API."""
        return self.v2 if path.startswith(V2_PREFIX) or path == "/api/v2" else self.v1


async def read(request: web.Request) -> web.Response:
    """`GET /problems/{code}`: what the `type` of a problem leads to."""
    try:
        code = Code(request.match_info["code"])
    except ValueError:
        raise refused(Code.NOT_FOUND) from None
    about = {"code": code.value, "status": STATUS[code], "title": {name: message(code, name) for name in LANGUAGES}}
    return web.Response(body=orjson.dumps(about), content_type="application/json")
