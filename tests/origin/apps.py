# SPDX-License-Identifier: Apache-2.0
"""Applications that answer with what they were told about their client, as JSON."""

import json
from wsgiref.types import StartResponse, WSGIEnvironment

from cloud_toa.origin import asgi, wsgi


def say(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    keys = ("REMOTE_ADDR", "REMOTE_PORT", wsgi.PEER)
    body = json.dumps([environ.get(key) for key in keys]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def tell(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    if scope["type"] == "lifespan":
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        text = json.dumps([scope["client"], scope.get(asgi.PEER)])
        await send({"type": "websocket.send", "text": text})
        await send({"type": "websocket.close"})
        return
    body = json.dumps([scope["client"], scope.get(asgi.PEER)]).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


for_wsgi = wsgi.ToaMiddleware(say)
for_asgi = asgi.ToaMiddleware(tell)
